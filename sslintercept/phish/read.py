"""
Reads a mail or page for L{sslintercept.phish.judge}: the task of a worker, since what it reads is hostile.

Each thing that is seen is an item without content, whose C{meta} is an observation (L{sslintercept.phish.observed}).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from sslintercept.phish.mail import read_mail
from sslintercept.phish.observed import MOST_OBSERVED, End, Link, Observation, plain
from sslintercept.phish.page import read_page

TASK: Final = "sslintercept.phish.read:read"
"""its name for the pool"""
MOST_TOTAL: Final = 1024 * 1024
"""characters of all observations"""
MOST_SAME: Final = 20
"""links to the same host that are told, for each kind"""
BYTE_ORDER: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
"""what a page begins with that says its charset, whatever else does (WHATWG Encoding 6)"""


class Item(NamedTuple):
    """What a task gives."""

    meta: dict[str, Any]  # Any: JSON
    content: bytes = b""


def read(meta: Mapping[str, Any], content: bytes, limits: object = None) -> Iterator[Item]:  # noqa: ARG001 -- a pool's task
    """
    What there is to be seen, an observation an item; C{End} is the last.

    @param meta: C{kind}: C{mail} or C{page}; of a page C{url} and C{charset}, if they are known.
    @param limits: the pool's own; the bounds here are constants.
    """
    if meta.get("kind") == "mail":
        seen = read_mail(content)
    else:
        seen = _read_page(content, str(meta.get("url") or ""), str(meta.get("charset") or "utf-8"))
    left, links = MOST_TOTAL, dict[tuple[str, str], int]()
    for count, observation in enumerate(seen, 1):
        if isinstance(observation, Link):
            key = (observation.kind, observation.host)
            links[key] = links.get(key, 0) + 1
            if links[key] > MOST_SAME:
                continue
        made = plain(observation)
        left -= sum(len(value) for value in made.values() if isinstance(value, str))
        if count >= MOST_OBSERVED or left < 0:
            made = plain(End(("too much to tell",)))
        yield Item(made)
        if made["what"] == "end":
            return


def _read_page(content: bytes, url: str, charset: str) -> Iterator[Observation]:
    charset = next((codec for mark, codec in BYTE_ORDER if content.startswith(mark)), charset)
    try:
        text = content.decode(charset, "replace")
    except (LookupError, UnicodeError):
        text = content.decode("utf-8", "replace")
    yield from read_page(text, "page", url)
    yield End()
