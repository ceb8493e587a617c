"""
What kind of answer a client can use in place of what it asked for, and in which language.

Browsers say what they will do with an answer (Fetch Metadata, Sec-Fetch-Dest); of others Accept tells what they prefer
(RFC 9110 12.5.1). Without any word the answer is for people.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from sslintercept.facts import Fields

MAX_ACCEPT: Final = 1024
"""bytes of Accept and of Accept-Language that are read"""
MOST_RANGES: Final = 32
"""ranges of Accept-Language that are tried"""
DEFAULT_LANGUAGE: Final = "en"

DOCUMENTS: Final = frozenset(("document", "iframe", "frame", "fencedframe", "object", "embed"))
EMPTY: Final = {
    **dict.fromkeys(
        ("script", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet"), "text/javascript"
    ),
    "style": "text/css",
    "font": "font/woff2",
    "audio": "audio/mpeg",
    "video": "video/mp4",
    "track": "text/vtt",
    "manifest": "application/manifest+json",
    "xslt": "text/xml",
}
"""destinations (Fetch 2.2.5) that could make nothing of words, and what an answer without any is called there"""

_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_LANGUAGE = re.compile(r"[a-z]{1,8}(?:-[a-z0-9]{1,8})*")


class Form(Enum):
    """Kinds of answers."""

    HTML = "html"
    JSON = "json"
    IMAGE = "image"
    TEXT = "text"
    EMPTY = "empty"


class Wants(NamedTuple):
    """
    What a client can use.

    @ivar type: of an empty answer.
    @ivar languages: those it likes, in its order.
    @ivar navigates: a person may look at it: no script, image or style of a page asked for it.
    """

    form: Form = Form.HTML
    type: str = ""
    languages: Sequence[str] = ()
    navigates: bool = True


def wants(fields: Fields) -> Wants:
    """What a request's fields say of it."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        name = name.lower()
        if name in _READ:
            found[name] = found[name] + b", " + value if name in found else value
    destination = found.get(b"sec-fetch-dest", b"").decode("latin-1").lower()
    accepts = Accepts(found.get(b"accept", b""))
    called = destination in ("empty", "report", "json") or (
        not destination and found.get(b"x-requested-with", b"").lower() == b"xmlhttprequest"
    )
    languages = tuple(preferred(found.get(b"accept-language", b"")))
    navigates = not destination or destination in DOCUMENTS
    if destination in EMPTY:
        return Wants(Form.EMPTY, EMPTY[destination], languages, navigates)
    if destination == "image":
        form = Form.IMAGE
    elif destination in DOCUMENTS:
        form = Form.HTML
    elif called:
        form = Form.HTML if accepts.names("text/html") and not accepts.prefers_json() else Form.JSON
    else:
        form = accepts.form()
    return Wants(form, "", languages, navigates)


def is_navigation(fields: Fields) -> bool:
    """
    Whether a person goes there, as far as a request says.

    Browsers say that a document is to come of it (Sec-Fetch-Dest), and whether they only fetch ahead; of others Accept
    has to name HTML, and like it best.
    """
    found = {name.lower(): value for name, value in fields}
    if b"prefetch" in found.get(b"sec-purpose", found.get(b"purpose", b"")).lower():
        return False
    destination = found.get(b"sec-fetch-dest")
    if destination is not None:
        return destination.lower() == b"document"
    if b"x-requested-with" in found:
        return False
    accepts = Accepts(found.get(b"accept", b""))
    return accepts.names("text/html") and accepts.form() is Form.HTML


_READ: Final = frozenset((b"accept", b"accept-language", b"sec-fetch-dest", b"x-requested-with"))


class Accepts:
    """An Accept field, read once (RFC 9110 12.5.1)."""

    __slots__ = ("_ranges",)

    def __init__(self, accept: bytes) -> None:
        self._ranges = list(ranges(accept))

    def names(self, kind: str) -> bool:
        """Whether the very type stands there, and is not refused."""
        return any(name == kind and quality for name, quality in self._ranges)

    def quality(self, *kinds: str) -> float:
        """The best of C{kinds}; of each the most specific range counts."""
        return max(self._quality(kind) for kind in kinds)

    def _quality(self, kind: str) -> float:
        wider = (kind, kind.partition("/")[0] + "/*", "*/*")
        found = [(-wider.index(name), quality) for name, quality in self._ranges if name in wider]
        return max(found, default=(0, 0.0))[1]

    def prefers_json(self) -> bool:
        """Whether JSON, of whatever kind, is liked better than HTML."""
        named = {name for name, _ in self._ranges if name.endswith("+json")}
        return self.quality("application/json", "application/problem+json", *named) > self.quality("text/html")

    def form(self) -> Form:
        """What is liked best of what there is; HTML where nothing is said, or anything will do."""
        html = self.quality("text/html")
        if self.prefers_json():
            return Form.JSON
        if any(name.startswith("image/") and quality > html for name, quality in self._ranges):
            return Form.IMAGE
        return Form.TEXT if self._ranges and not html else Form.HTML


def ranges(field: bytes) -> Iterator[tuple[str, float]]:
    """The elements of a list with qualities, in lower case; a quality that is none counts as 0."""
    for element in field[:MAX_ACCEPT].decode("latin-1").lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = float(parameter[2:]) if _QUALITY.fullmatch(parameter[2:]) else 0.0
        if name:
            yield name, quality


def preferred(accept_language: bytes) -> Iterator[str]:
    """The ranges of an Accept-Language, the best first (RFC 9110 12.5.4); C{*} says nothing."""
    found = [(name, quality) for name, quality in ranges(accept_language) if quality and _LANGUAGE.fullmatch(name)]
    found.sort(key=lambda one: -one[1])
    yield from (name for name, _ in found[:MOST_RANGES])


def lookup(languages: Sequence[str], available: Collection[str]) -> str:
    """Which of the C{available} tags suits best (RFC 4647 3.4); L{DEFAULT_LANGUAGE} if none does."""
    for language in languages:
        parts = language.split("-")
        while parts:
            tag = "-".join(parts)
            if tag in available:
                return tag
            parts.pop()
            if parts and len(parts[-1]) == 1:
                parts.pop()
    return DEFAULT_LANGUAGE
