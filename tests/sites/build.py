"""Lists made from text, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from sslintercept.sites.compile import compiled
from sslintercept.sites.listing import ListSettings
from sslintercept.sites.look import SiteList, Sites


def settings(
    folder: Path, text: str | bytes, format_: str = "auto", name: str = "bad", *, suffixes: bool = False
) -> ListSettings:
    """A list in a file of its own."""
    path = folder / f"{name}.txt"
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return ListSettings(name, path, format_, suffixes=suffixes)


def sites(folder: Path, *texts: str, format_: str = "auto", suffixes: bool = False) -> Sites:
    """Lists in the order of their texts, named C{bad}, C{bad2}, C{bad3}."""
    lists = []
    for number, text in enumerate(texts, 1):
        name = f"bad{number if number > 1 else ''}"
        lists.append(SiteList(name, compiled(settings(folder, text, format_, name, suffixes=suffixes))))
    return Sites(tuple(lists))


def listed(lists: Sites, *names: str) -> list[str]:
    """Those of the names that are listed."""
    return [name for name in names if lists.host(name) is not None]
