"""
What all that look for leaks see: a window of folded text, of which one part is to be decided now.

Everything that begins in that part is seen to its end and L{NEAR} bytes further, unless the stream ends, and what is in
front of it is still there. So what is found depends on the text alone, not on how it was cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from sslintercept.leak.detector import LONGEST, NEAR

BEHIND: Final = 256
"""bytes kept in front of what is to be decided, at least"""
AHEAD: Final = LONGEST + NEAR + 8
"""bytes seen behind it, at least"""
LONGEST_WORD: Final = 64
"""bytes of a word; what is longer is none"""

_JOINING: Final = rb"._@'+\-"
_WORD_BYTES: Final = rb"0-9a-z\x80-\xff" + _JOINING
_WORD = re.compile(rb"(?<![%b])[%b]{1,%d}(?![%b])" % (_WORD_BYTES, _WORD_BYTES, LONGEST_WORD, _WORD_BYTES))
_STRIPPED: Final = b"._@'+-"


Word = tuple[bytes, int, int]
"""
A word in lower case, where it begins and where it ends, in the folded text of the stream.

What joins words into addresses and names with hyphens is part of it. Not a named tuple: there are many.
"""


def words_of(low: bytes, begin: int = 0, limit: int | None = None, base: int = 0) -> Iterator[Word]:
    """Words of text in lower case that begin at *begin* and before *limit*."""
    limit = len(low) if limit is None else limit
    for found in _WORD.finditer(low, begin):
        start, end = found.span()
        if start >= limit:
            return
        text = found[0]
        if text[0] in _STRIPPED or text[-1] in _STRIPPED:
            start += len(text) - len(text.lstrip(_STRIPPED))
            text = text.strip(_STRIPPED)
            if not text:
                continue
            end = start + len(text)
        yield text, base + start, base + end


class View:
    """
    A window.

    @ivar text: what is seen; its first byte has the place *base* in the folded text of the stream.
    @ivar begin: from here,
    @ivar limit: and up to here it is to be decided; places in C{text}.
    """

    __slots__ = ("_low", "_words", "base", "begin", "limit", "text")

    def __init__(self, text: bytes, base: int, begin: int, limit: int) -> None:
        self.text, self.base, self.begin, self.limit = text, base, begin, limit
        self._low: bytes | None = None
        self._words: list[Word] | None = None

    @property
    def low(self) -> bytes:
        """The same in lower case, made when somebody asks."""
        if self._low is None:
            self._low = self.text.lower()
        return self._low

    def words(self) -> list[Word]:
        """Words that begin in what is to be decided."""
        if self._words is None:
            self._words = list(words_of(self.low, self.begin, self.limit, self.base))
        return self._words


class Hit(NamedTuple):
    """Something was found; places are in the folded text of the stream."""

    at: int
    """where that became certain"""
    name: str
    begin: int
    end: int
    evidence: str
    """masked"""
    score: int
    value: int
    """the same for the same secret, and no secret: a hash that this process has the key of"""


class Look(Protocol):
    """Looks at one stream, window after window."""

    def look(self, view: View) -> Iterable[Hit]:
        """What is found in what is to be decided."""


class Looking:
    """What makes a L{Look} for each stream; shared by all streams."""

    def start(self, least: int) -> Look:
        """Look at a new stream, for what is worth *least* or more."""
        raise NotImplementedError

    def whole(self, view: View, least: int) -> Iterable[Hit]:
        """The same of a stream that is one window."""
        return self.start(least).look(view)
