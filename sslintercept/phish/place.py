"""Where a URL leads, as a browser would read it (WHATWG URL 4.4)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from sslintercept.phish.domain import cleaned
from sslintercept.phish.observed import MOST_SHORT

MOST_URL: Final = 4096
"""characters of a URL; what follows is cut off"""
CONTROL: Final = "".join(map(chr, range(0x21)))
"""characters that are taken off both ends"""

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:")
_SLOPPY = re.compile(r"(https?):/{0,8}(?=[^/])", re.IGNORECASE)
_IGNORED = re.compile(r"[\t\r\n]")


class Place(NamedTuple):
    """A URL taken apart; C{host} is empty if it has none that can be."""

    scheme: str
    host: str
    port: int
    target: str
    login: bool


NOWHERE: Final = Place("", "", 0, "", False)


def place(url: str, base: str = "") -> Place:
    """Take a URL apart as a browser would: line breaks ignored, backslashes turned."""
    url = _IGNORED.sub("", url[:MOST_URL]).strip(CONTROL)
    if not url.lower().startswith(("data:", "javascript:", "mailto:")):
        url = url.replace("\\", "/")
    if (sloppy := _SLOPPY.match(url)) is not None and not base.startswith(f"{sloppy[1].lower()}:"):
        url = f"{sloppy[1]}://{url[sloppy.end() :]}"
    try:
        parts = urlsplit(urljoin(base, url) if base and _ABSOLUTE.match(url) is None else url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        return NOWHERE
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.scheme.lower(), cleaned(unquote(host)), port, target[:MOST_SHORT], "@" in parts.netloc)


def joined(base: str, url: str) -> str:
    """The URL that others start from; C{base} if it is none."""
    try:
        return urljoin(base, url[:MOST_URL]) if base else url[:MOST_URL]
    except ValueError:
        return base
