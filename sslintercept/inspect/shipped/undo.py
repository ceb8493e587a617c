"""
Text out of bytes as they come: escapes of JSON and forms undone, charsets decoded, and back again where something was.

Pieces may be cut anywhere. Each coding is a layer: it takes what the layer below gives, and remembers the last pieces,
so that a place in the text can be told as one in the bytes, which are overwritten there.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

KEPT: Final = 1024 * 1024
"""bytes of text whose places in what came are still known"""
STEP: Final = 4096
"""bytes that are remembered together: a place is looked for among them one by one"""
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""the longer ones first"""
_LEAST_WIDE: Final = 8
"""bytes from which text is taken for wide that has no mark"""

_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]{2}")
_CUT_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]?\Z")
_ESCAPE: Final = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([\"\\/bfnrt]))"
)
_CUT_ESCAPE: Final = re.compile(rb"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}))?")
"""one that may go on: cut off, or the first half of a pair"""
_HIGH: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_SHORT: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class Layer:
    """One coding; those that C{places} is asked of remember what came."""

    def __init__(self, traced: bool) -> None:
        self._held = b""
        self._kept: deque[tuple[int, int, int, bytes]] | None = deque() if traced else None
        """of the last pieces: where their text begins and ends, where they begin, and they"""
        self._text = self._raw = 0

    def feed(self, data: bytes, last: bool) -> bytes:
        """The text of all that is whole; of everything, if it is the last."""
        if self._kept is None or len(data) <= STEP:
            return self._feed(data, last)
        return b"".join(
            self._feed(data[at : at + STEP], last and at + STEP >= len(data)) for at in range(0, len(data), STEP)
        )

    def _feed(self, data: bytes, last: bool) -> bytes:
        data = self._held + data if self._held else data
        stop = len(data) if last else self.whole(data)
        raw, self._held = data[:stop], data[stop:]
        text = self.text(raw)
        self._keep(raw, text)
        return text

    def _keep(self, raw: bytes, text: bytes) -> None:
        kept = self._kept
        if kept is None or not raw:
            return
        kept.append((self._text, self._text + len(text), self._raw, raw))
        self._raw += len(raw)
        self._text += len(text)
        while kept[0][1] + KEPT < self._text:
            kept.popleft()

    def span(self, begin: int, end: int) -> tuple[int, int] | None:
        """From where to where something came that is in the text from C{begin} to C{end}; C{None}: nobody knows."""
        first = last = None
        for text, text_end, origin, raw in self._kept or ():
            if text <= begin < text_end and (place := self.place(raw, begin - text, False)) is not None:
                first = origin + place
            if text < end <= text_end and (place := self.place(raw, end - text, True)) is not None:
                last = origin + place
        return None if first is None or last is None else (first, last)

    def place(self, raw: bytes, size: int, up: bool) -> int | None:
        """How many bytes of C{raw} become C{size} of text; inside of an escape: with all of it if C{up}."""
        at = text = 0
        for begin, end, becomes in self.escapes(raw):
            if size <= text + begin - at:
                break
            text += begin - at + becomes
            at = end
            if size < text:
                return end if up else begin
        return at + size - text

    # of each coding

    def whole(self, data: bytes) -> int:
        """How many bytes can be undone without knowing what follows."""
        return len(data)

    def text(self, raw: bytes) -> bytes:
        """What they say."""
        return raw

    def escapes(self, raw: bytes) -> Iterator[tuple[int, int, int]]:
        """From where to where there are escapes, and how long what they stand for is; between them nothing changes."""
        return iter(())


class Form(Layer):
    """Percent-encoding and plus signs (WHATWG URL 5.1)."""

    def whole(self, data: bytes) -> int:
        cut = _CUT_PERCENT.search(data, max(len(data) - 2, 0))
        return len(data) if cut is None else cut.start()

    def text(self, raw: bytes) -> bytes:
        return unquote_to_bytes(raw.replace(b"+", b" "))

    def escapes(self, raw: bytes) -> Iterator[tuple[int, int, int]]:
        return ((*found.span(), 1) for found in _PERCENT.finditer(raw))


class Json(Layer):
    """Escapes of JSON (RFC 8259 7); what is no escape stays, half of a pair becomes a question mark."""

    def whole(self, data: bytes) -> int:
        at = data.rfind(b"\\", max(len(data) - 6, 0))
        if at < 0 or not _begins(data, at) or not _CUT_ESCAPE.fullmatch(data, at):
            return len(data)
        pair = at - 6
        return pair if pair >= 0 and _HIGH.fullmatch(data, pair, at) and _begins(data, pair) else at

    def text(self, raw: bytes) -> bytes:
        return _ESCAPE.sub(_unescaped, raw) if b"\\" in raw else raw

    def escapes(self, raw: bytes) -> Iterator[tuple[int, int, int]]:
        return ((*found.span(), len(_unescaped(found))) for found in _ESCAPE.finditer(raw))


class Charset(Layer):
    """
    Text of another charset becomes UTF-8; what cannot be decoded becomes U+FFFD.

    @param codec: Python's name of it.
    """

    def __init__(self, traced: bool, codec: str) -> None:
        super().__init__(traced)
        self._codec = codec
        self._decoder = codecs.getincrementaldecoder(codec)("replace")

    def _feed(self, data: bytes, last: bool) -> bytes:
        """The decoder itself holds what is not whole."""
        before = self._decoder.getstate()[0]
        text = self._decoder.decode(data, last).encode("utf-8", "replace")
        after = self._decoder.getstate()[0]
        data = before + data
        self._keep(data[: len(data) - len(after)], text)
        return text

    def place(self, raw: bytes, size: int, up: bool) -> int | None:
        """See L{Layer.place}: known where encoding it again gives the same bytes."""
        text = raw.decode(self._codec, "replace")
        if text.encode(self._codec, "replace") != raw:
            return None
        front = text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
        cut = up and len(front.encode("utf-8", "replace")) < size
        return len(text[: len(front) + cut].encode(self._codec, "replace"))


class Undo:
    """
    Layers on each other.

    @ivar layers: that of the bytes first; without any it is text as it comes.
    """

    def __init__(self, layers: Sequence[Layer] = ()) -> None:
        self.layers = tuple(layers)

    def feed(self, data: bytes, last: bool) -> bytes:
        """The text of the next bytes."""
        for layer in self.layers:
            data = layer.feed(data, last)
        return data

    def span(self, begin: int, end: int) -> tuple[int, int] | None:
        """From where to where what is in the text there has come; C{None}: nobody knows."""
        span: tuple[int, int] | None = (begin, end)
        for layer in reversed(self.layers):
            span = None if span is None else layer.span(*span)
        return span


NOTHING_DONE: Final = Undo()
"""text that is there as it is read"""


def wide(head: bytes) -> str:
    """The codec of text whose characters have two or four bytes, by its mark or its zeros; empty if it is none."""
    if head.startswith((b"\xff", b"\xfe", b"\0")):
        for mark, name in _MARKS:
            if head.startswith(mark):
                return name
    if 0 not in head:
        return ""
    head = head[: len(head) // 4 * 4]
    if len(head) < _LEAST_WIDE:
        return ""
    places = [head[at::4] for at in range(4)]
    shares = [one.count(0) / len(one) for one in places]
    mostly = "".join("0" if share > 0.6 else "x" if share < 0.2 else "?" for share in shares)
    return {"x000": "utf-32-le", "000x": "utf-32-be", "x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(mostly, "")


def _begins(data: bytes, at: int) -> bool:
    """Whether the backslash at C{at} is the first of its escape, and not one that is escaped."""
    first = at
    while first and data[first - 1] == 0x5C:
        first -= 1
    return (at - first) % 2 == 0


def _unescaped(found: re.Match[bytes]) -> bytes:
    high, low, single, short = found.groups()
    if short is not None:
        return _SHORT.get(short, short)
    if single is not None:
        return chr(int(single, 16)).encode("utf-8", "replace")
    return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)).encode()
