"""
The chunked transfer coding: verified as it passes, taken off, or put on (RFC 9112 7.1; ATS: ChunkedHandler).

ATS names the cases PASSTHRU_CHUNKED (L{ChunkVerifier}), DECHUNK (L{ChunkDecoder}) and CHUNK (L{encode}). One state
machine serves the first two. It jumps over chunk data, so its cost is per chunk line and not per byte, and it judges
a line that is not complete yet as far as it goes: a verified stream may be forwarded at once.

A chunk line must read the same to everybody: a bare CR or LF, white space after the size, more than 16 digits or a
control in an extension ends the body with an error. After an error the stream is lost; close what carried it.

1 us for a 64 KiB buffer inside one chunk, 1 us more for every chunk that begins in it. Of a trailer that is not
complete only what is new is judged: 8 KiB in single bytes take 18 ms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

from sslintercept.errors import InterceptError, MessageError

Bytes = bytes | memoryview

MAX_SIZE: Final = 2**62
"""Bytes of one chunk."""
MAX_EXTENSION: Final = 1024
"""Bytes of a chunk line after the size; up to 8 of them may be white space before the semicolon."""
MAX_TRAILERS: Final = 8 * 1024
"""Bytes of a trailer section, line ends included."""

NOT_IN_TRAILERS: Final = frozenset(
    (
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"expect",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Framing, routing, credentials, what says how to read the content, and hop-by-hop fields (RFC 9110 6.5.1)."""

LAST: Final = b"0\r\n\r\n"
"""The last chunk and an empty trailer section."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
_EXTENSION = rb"[\t ]{0,8};%b{0,%d}" % (_TEXT, MAX_EXTENSION - 9)

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(%b)?\r\n" % _EXTENSION)
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,16}(?:[\t ]{1,8}|(?:%b)?\r?)" % _EXTENSION)
_NEXT = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})\r\n")
"""from the data of one chunk to that of the next; what it does not match is for the slower states"""
_TRAILER_LINE = re.compile(rb"(?:(%b+):(%b*))?\r\n" % (_TOKEN, _TEXT))
_TRAILER_BEGUN = re.compile(rb"\r?|%b+(?::%b*\r?)?" % (_TOKEN, _TEXT))
_TRAILER = re.compile(rb"%b+: %b*" % (_TOKEN, _TEXT))


class _State(Enum):
    SIZE = "a chunk line"
    DATA = "chunk data"
    DATA_END = "the line end after chunk data"
    TRAILER = "a trailer"
    DONE = "the end"
    BROKEN = "a broken body"


class _Chunks:
    """
    The state machine: where the body is, and what of an unfinished line was seen.

    @ivar done: the body has ended; what follows belongs to the next message.
    @ivar trailers: the trailer fields, complete once C{done}.
    @ivar extension: what stood behind the size of the last chunk, without the first semicolon.

    @param error: what a broken body raises; it says whose doing the body is.
    """

    __slots__ = ("_error", "_left", "_line", "_room", "_stands_for", "_state", "done", "extension", "trailers")

    def __init__(self, error: type[MessageError] = MessageError) -> None:
        self._error = error
        self.done = False
        self.trailers: list[tuple[bytes, bytes]] = []
        self.extension = b""
        self._state = _State.SIZE
        self._left = 0
        """bytes of the current chunk still to come"""
        self._line = bytearray()
        """the beginning of a line whose end has not come"""
        self._stands_for = b""
        """a beginning that the same may follow as C{_line}, and that stays short in a trailer"""
        self._room = MAX_TRAILERS
        """bytes that the trailer section may still take"""

    def _scan(self, data: Bytes, pieces: list[Bytes] | None) -> int:
        """Go through *data*, collect slices of chunk data in *pieces* if wanted, and give the bytes of this body."""
        at, size, state = 0, len(data), self._state
        if state is _State.BROKEN:
            raise self._broken("goes on after an error")
        self._state = _State.BROKEN  # whatever raises below leaves it so
        while at < size and state is not _State.DONE:
            if state is _State.DATA:
                end = min(at + self._left, size)
                if pieces is not None:
                    pieces.append(data[at:end])
                self._left -= end - at
                at = end
                if not self._left:
                    match = _NEXT.match(data, at)
                    if match is None:
                        state = _State.DATA_END
                    else:
                        at = match.end()
                        self._left = int(match[1], 16)
                        if not self._left:
                            state = _State.TRAILER
            elif state is _State.SIZE:
                taken, match = self._match(data, at, _SIZE_LINE, _SIZE_BEGUN, state)
                at += taken
                if match is not None:
                    state = self._begin_chunk(match)
            elif state is _State.DATA_END:
                wanted = b"\r\n"[len(self._line) : len(self._line) + size - at]
                if data[at : at + len(wanted)] != wanted:
                    raise self._broken("has data beyond the size of its chunk")
                at += len(wanted)
                self._line += wanted
                if len(self._line) == 2:
                    self._line.clear()
                    state = _State.SIZE
            else:
                taken, match = self._match(data, at, _TRAILER_LINE, _TRAILER_BEGUN, state)
                at += taken
                self._room -= taken
                if self._room < 0:
                    raise self._broken(f"has trailers above {MAX_TRAILERS} bytes")
                if match is not None and self._end_trailer(match):
                    state, self.done = _State.DONE, True
        self._state = state
        return at

    def _match(
        self, data: Bytes, at: int, whole: re.Pattern[bytes], begun: re.Pattern[bytes], state: _State
    ) -> tuple[int, re.Match[bytes] | None]:
        """Match one line from C{data[at:]}, after what is held of it; without its end, hold it if it can go on."""
        held = len(self._line)
        if not held:
            match = whole.match(data, at)
            if match is not None:
                return match.end() - at, match
        part = bytes(data[at : at + MAX_TRAILERS + 1])
        end = part.find(b"\n") + 1
        if end:
            match = whole.fullmatch(bytes(self._line) + part[:end])
            if match is not None:
                self._line.clear()
                self._stands_for = b""
                return end, match
        elif held + len(part) <= MAX_TRAILERS and begun.fullmatch(line := self._stands_for + part):
            self._line += part
            self._stands_for = line if state is _State.SIZE else _shortest(line)
            return len(part), None
        raise self._broken(f"has no valid line where {state.value} must be")

    def _begin_chunk(self, match: re.Match[bytes]) -> _State:
        size = int(match[1], 16)
        if size > MAX_SIZE:
            raise self._broken("has a chunk above 2**62 bytes")
        self._left = size
        if not size and match[2]:
            self.extension = match[2].lstrip(b"\t ")[1:].strip(b"\t ")
        return _State.DATA if size else _State.TRAILER

    def _end_trailer(self, match: re.Match[bytes]) -> bool:
        """Keep one trailer; say whether the line was the empty one."""
        name, value = match.groups()
        if name is None:
            return True
        if name.lower() in NOT_IN_TRAILERS:
            raise self._broken("has a trailer that only a head may carry")
        self.trailers.append((name, value.strip(b" \t")))
        return False

    def _broken(self, what: str) -> MessageError:
        return self._error(f"it {what}", where="chunked body", remedy="close the connection")


def _shortest(begun: bytes) -> bytes:
    """Give the shortest beginning of a trailer that the same may follow as *begun*."""
    if b":" in begun:
        return b"a:\r" if begun.endswith(b"\r") else b"a:"
    return begun[:1]


class ChunkVerifier(_Chunks):
    """Watches a chunked body that passes as it is (ATS: PASSTHRU_CHUNKED)."""

    __slots__ = ()

    def feed(self, data: Bytes) -> int:
        """
        Give how many bytes at the front of *data* belong to this body; all of them until C{done}.

        @raise MessageError: the coding is broken; none of *data* may be forwarded.
        """
        return self._scan(data, None)


class ChunkDecoder(_Chunks):
    """Takes the coding off (ATS: DECHUNK)."""

    __slots__ = ()

    def feed(self, data: Bytes) -> tuple[list[Bytes], int]:
        """
        Give the content in *data*, as slices of it, and how many bytes belong to this body.

        Slices of a memoryview are memoryviews: they live no longer than the buffer.

        @raise MessageError: the coding is broken.
        """
        pieces: list[Bytes] = []
        return pieces, self._scan(data, pieces)


def encode(data: Bytes) -> list[Bytes]:
    """Make one chunk of *data* without copying it; none of nothing, since an empty chunk ends the body."""
    return [b"%x\r\n" % len(data), data, b"\r\n"] if data else []


def last(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """
    Make the last chunk with *trailers*; without any it is L{LAST}.

    @raise InterceptError: a trailer that a reader would refuse or misread; it was not made by an HTTP/1 peer.
    """
    lines = [b"0\r\n"]
    for name, value in trailers:
        line = b"%b: %b" % (name, value)
        if name.lower() in NOT_IN_TRAILERS or not _TRAILER.fullmatch(line):
            what = "a trailer that cannot be written"
            raise InterceptError(what, where="chunked body", remedy="report which plugin or version made it")
        lines.append(line + b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
