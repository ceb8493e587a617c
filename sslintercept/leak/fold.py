"""
One spelling for what is looked for: UTF-8 as it comes becomes folded text, whose every byte knows where it came from.

ASCII stays as it is. Everything else is normalised (NFKC, Unicode Standard Annex 15) and case-folded; dashes, quotes
and spaces of all kinds become those of ASCII, and what has no width disappears. So C{4111} in full-width digits, a card
number with no-break spaces and a word with a soft hyphen are found like the plain ones. Bytes that are no UTF-8 stay.

The result does not depend on how the bytes were cut.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from typing import Final

LONGEST_RUN: Final = 192
"""bytes outside ASCII that are folded together; a letter and its marks on both sides of a cut are not composed"""
MOST_HELD: Final = 1 + LONGEST_RUN + 4
"""bytes held back at the end of a chunk, because what follows may belong to them"""
MEMORY: Final = 16_384
"""runs whose folding is remembered, as words repeat"""

_RUN = re.compile(rb"[\x80-\xff]{1,%d}" % LONGEST_RUN)
_OTHER = re.compile(r"[^\x00-\x7f]+")
_PLAIN: Final = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u1680\u2028\u2029", " "),
        **dict.fromkeys("\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"),
    }
)

Places = tuple[tuple[int, int], ...]
"""Offsets in folded text, and those in the original that they stand for."""


def fold_text(text: str) -> str:
    """Fold whole text, in which ASCII keeps its case."""
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    return unicodedata.normalize("NFKC", _OTHER.sub(lambda found: found[0].casefold(), text))


@lru_cache(MEMORY)
def _fold_run(raw: bytes) -> tuple[bytes, Places]:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw, ()
    folded = fold_text(text).encode()
    if len(folded) == len(raw):
        return folded, ()
    letters = [""]
    for character in text:
        if unicodedata.combining(character):
            letters[-1] += character
        else:
            letters.append(character)
    alone = [fold_text(letter).encode() for letter in letters]
    if b"".join(alone) != folded:  # letters composed with each other, as Hangul's do
        return folded, ((len(folded), len(raw)),)
    places, at, origin = [], 0, 0
    for letter, becomes in zip(letters, alone, strict=True):
        at, origin = at + len(becomes), origin + len(letter.encode())
        places.append((at, origin))
    return folded, tuple(places)


def _character(data: bytes, at: int) -> int:
    """Where the character begins that has the byte at *at*, if it is one of UTF-8."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at


class Fold:
    """Folds a stream."""

    __slots__ = ("_at", "_held", "_origin", "_places")

    def __init__(self) -> None:
        self._held = b""
        self._at = self._origin = 0
        """how much is folded, and of how much"""
        self._places: list[tuple[int, int]] = [(0, 0)]
        """where the distance of the two changes"""

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Give the folded text of all but the last few bytes; of all of them if *final*."""
        data = self._held + data if self._held else data
        pieces: list[bytes] = []
        at = 0
        stop = len(data) if final else max(len(data) - 1, 0)
        run = None if data.isascii() else _RUN.search(data)
        while run is not None:
            begin, end = run.span()
            if end - begin == LONGEST_RUN and end < len(data):
                end = _character(data, end)
            begin = max(begin - 1, at)  # the letter in front, as a mark may follow that belongs to it
            if not final and end + 4 > len(data):
                stop = begin
                break
            folded, places = _fold_run(data[begin:end])
            pieces += data[at:begin], folded
            self._at += begin - at
            self._origin += begin - at
            for there, origin in places:
                self._place(self._at + there, self._origin + origin)
            self._at += len(folded)
            self._origin += end - begin
            at = end
            run = _RUN.search(data, at)
        pieces.append(data[at:stop])
        self._at += stop - at
        self._origin += stop - at
        self._held = data[stop:]
        return b"".join(pieces)

    def origin(self, at: int) -> int | None:
        """Where in the original the byte at *at* of the folded text was; C{None} if that is forgotten."""
        index = bisect_right(self._places, (at, 1 << 63)) - 1
        if index < 0:
            return None
        there, origin = self._places[index]
        found = origin + at - there
        return min(found, self._places[index + 1][1]) if index + 1 < len(self._places) else found

    def forget(self, before: int) -> None:
        """Nobody will ask for what is before *before*."""
        index = bisect_right(self._places, (before, 1 << 63)) - 1
        del self._places[: max(index, 0)]

    def _place(self, at: int, origin: int) -> None:
        there, was = self._places[-1]
        if at - there != origin - was:
            if there == at:
                self._places.pop()
            self._places.append((at, origin))
