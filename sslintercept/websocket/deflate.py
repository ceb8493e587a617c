"""
permessage-deflate: what client and server agreed on, and both codings of one direction (RFC 7692).

Between the two stands a reader who was no part of the agreement. It can open messages if the answer names this
extension alone, with parameters as the RFC has them; any other answer is L{OPAQUE} and its frames can only be passed.
Whoever wants to read sees to it before: L{readable} leaves in the request what leads to an answer it understands.

The last four bytes of a compressed message, C{00 00 ff ff}, are not sent (7.2.1). A direction with context takeover has
one window for all its messages: they must be decompressed all and in order, also those nobody wants to see.

A message may grow without bound, so it is given in pieces of 64 KiB, and one that grew to more than L{FLOOR} bytes must
not be more than L{RATIO} times as large as what came of it. Deflate reaches 1030; text that people write, 10.

Decompressing 64 KiB of text takes 340 us (190 MB/s), compressing it 910 us (72 MB/s; at zlib's usual level it would be
half of that for a tenth fewer bytes). A message of 32 bytes like the one before takes 1.6 and 2.0 us.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from sslintercept.facts import Side
from sslintercept.websocket.frame import BAD_DATA, TOO_BIG, Bytes, WebSocketError

PIECE: Final = 64 * 1024
"""Bytes of content given at once."""
FLOOR: Final = 1024 * 1024
"""Bytes of content that a message may have, however small it came."""
RATIO: Final = 200
"""Bytes of content that one byte may stand for, above the floor."""
LEVEL: Final = 1
"""How hard to compress what somebody else had compressed already."""

_TAIL: Final = b"\x00\x00\xff\xff"
_STEP: Final = 16 * 1024
"""bytes decompressed at once: what the engine did not take is copied, and there may be much that it did not take"""
_NAME: Final = b"permessage-deflate"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rb'[\t ]*;[\t ]*(%b)(?:[\t ]*=[\t ]*(%b|"%b"))?' % (_TOKEN, _TOKEN, _TOKEN)
_PARAMETERS = re.compile(_PARAMETER)
_EXTENSION = re.compile(rb"[\t ]*(?:(%b)((?:%b)*)[\t ]*)?(?:,|\Z)" % (_TOKEN, _PARAMETER))
"""one element of the field, which may be empty (RFC 6455 9.1, RFC 9110 5.6.1); a quoted value is a token, too"""
_BITS: Final = {b"%d" % bits: bits for bits in range(8, 16)}


class Opaque(Enum):
    """The type of L{OPAQUE}; an enumeration of one, so that type checkers can tell it apart."""

    OPAQUE = "an extension that we cannot read"


OPAQUE: Final = Opaque.OPAQUE


class Deflate(NamedTuple):
    """What the answer says, as RFC 7692 7.1 names it; window bits are 15 where it says nothing."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def takeover(self, side: Side) -> bool:
        """Whether messages from *side* may refer to earlier ones."""
        return not (self.client_no_context_takeover if side is Side.CLIENT else self.server_no_context_takeover)

    def bits(self, side: Side) -> int:
        """How far back messages from *side* may refer: 2 to that power bytes."""
        return self.client_max_window_bits if side is Side.CLIENT else self.server_max_window_bits

    def inflater(self, side: Side) -> Inflater:
        """What reads messages from *side*."""
        return Inflater(self.bits(side), side, takeover=self.takeover(side))

    def deflater(self, side: Side) -> Deflater | None:
        """What writes messages as if from *side*; None for windows of 256 bytes, for which zlib has no compressor."""
        bits = self.bits(side)
        return Deflater(bits, takeover=self.takeover(side)) if bits > 8 else None


class _Offer(NamedTuple):
    """The parameters of one offer or answer."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int | None
    client_max_window_bits: int | bool
    """false when absent, true without a value, which only an offer may have"""

    def allows(self, answer: _Offer) -> bool:
        """Whether a client that offered this takes the *answer* (RFC 7692 7.1.1 and 7.1.2)."""
        if self.server_no_context_takeover and not answer.server_no_context_takeover:
            return False
        if answer.client_max_window_bits and not self.client_max_window_bits:
            return False
        limit = self.server_max_window_bits
        return limit is None or (answer.server_max_window_bits or 16) <= limit


def negotiated(answer: Sequence[bytes], offered: Sequence[bytes] | None = None) -> Deflate | Opaque | None:
    """
    Read the values of Sec-WebSocket-Extensions in a response; None says that no extension is used.

    @param offered: the values in the request; with them, an answer that fits no offer is L{OPAQUE}. The client should
        close then, so what it does instead is not known.
    """
    extensions = _extensions(answer)
    if extensions == []:
        return None
    if extensions is None or len(extensions) != 1:
        return OPAQUE
    found = _parameters(*extensions[0])
    if found is None or found.client_max_window_bits is True:
        return OPAQUE
    if offered is not None:
        offers = [_parameters(*extension) for extension in _extensions(offered) or ()]
        if not any(offer is not None and offer.allows(found) for offer in offers):
            return OPAQUE
    return Deflate(
        found.server_no_context_takeover,
        found.client_no_context_takeover,
        found.server_max_window_bits or 15,
        found.client_max_window_bits or 15,
    )


def readable(offered: Sequence[bytes]) -> bytes | None:
    """Give the offers among these that we can read the answer of, as one value; None if there is none."""
    offers = [name + rest for name, rest in _extensions(offered) or () if _parameters(name, rest) is not None]
    return b", ".join(offers) or None


def _extensions(values: Sequence[bytes]) -> list[tuple[bytes, bytes]] | None:
    """Give name and parameters of every extension, as they are written; None if a value is malformed."""
    found: list[tuple[bytes, bytes]] = []
    for value in values:
        at = 0
        while at < len(value):
            match = _EXTENSION.match(value, at)
            if match is None:
                return None
            at = match.end()
            if match[1] is not None:
                found.append((match[1], match[2]))
    return found


def _parameters(name: bytes, written: bytes) -> _Offer | None:
    """Read the parameters of permessage-deflate; None for another extension and for what RFC 7692 7.1 refuses."""
    if name.lower() != _NAME:
        return None
    found: dict[bytes, int | bool] = {}
    for match in _PARAMETERS.finditer(written):
        key, value = match[1].lower(), match[2]
        if key in found:
            return None
        if key in (b"server_no_context_takeover", b"client_no_context_takeover"):
            if value is not None:
                return None
            found[key] = True
        elif key == b"client_max_window_bits" and value is None:
            found[key] = True
        elif key in (b"client_max_window_bits", b"server_max_window_bits"):
            bits = _BITS.get((value or b"").strip(b'"'))
            if bits is None:
                return None
            found[key] = bits
        else:
            return None
    return _Offer(
        b"server_no_context_takeover" in found,
        b"client_no_context_takeover" in found,
        found.get(b"server_max_window_bits"),
        found.get(b"client_max_window_bits", False),
    )


class Inflater:
    """
    Decompresses the messages of one direction; after an error it must not be used again.

    @param bits: of the window, 8 to 15. What refers further back is an error if that is no longer there.
    @param takeover: a message may refer to those before it.
    """

    __slots__ = ("_bits", "_came", "_engine", "_floor", "_given", "_ratio", "_side", "_takeover")

    def __init__(self, bits: int, side: Side, *, takeover: bool = True, floor: int = FLOOR, ratio: int = RATIO) -> None:
        self._bits, self._side, self._takeover = bits, side, takeover
        self._floor, self._ratio = floor, ratio
        self._engine: zlib._Decompress | None = None
        self._came = self._given = 0
        """bytes of the current message"""

    def feed(self, data: Bytes, deliver: Callable[[bytes], None]) -> None:
        """
        Give the content of a piece of a message, at most L{PIECE} bytes at once.

        @raise WebSocketError: 1007 if this is not compressed data, 1009 if it grows too much.
        """
        for at in range(0, len(data), _STEP):
            step = data[at : at + _STEP]
            self._came += len(step)
            self._inflate(step, deliver)

    def end(self, deliver: Callable[[bytes], None]) -> None:
        """
        Give what is left of the content: the message has ended. The next C{feed} begins another.

        A message without a byte is taken for an empty one; compressors make one byte of it (RFC 7692 7.2.3.6), but
        some senders strip that, too.

        @raise WebSocketError: see C{feed}.
        """
        if self._came:
            self._inflate(_TAIL, deliver)
        self._came = self._given = 0
        if not self._takeover:
            self._engine = None

    def _inflate(self, data: Bytes, deliver: Callable[[bytes], None]) -> None:
        while data:
            engine = self._engine
            if engine is None:
                engine = self._engine = zlib.decompressobj(-self._bits)
            try:
                content = engine.decompress(data, PIECE)
            except zlib.error as error:
                raise self._error(f"a compressed message that is none ({error})", BAD_DATA) from None
            data = engine.unconsumed_tail
            if engine.eof:  # a block marked as the last, though messages may follow (RFC 7692 7.2.3.4)
                data, self._engine = engine.unused_data, None
            if content:
                self._given += len(content)
                if self._given > self._floor and self._given > self._ratio * self._came:
                    raise self._error(f"a message that grows more than {self._ratio} times", TOO_BIG)
                deliver(content)

    def _error(self, what: str, code: int) -> WebSocketError:
        return WebSocketError(what, code=code, side=self._side)


class Deflater:
    """
    Compresses messages for one direction.

    A new one, or one after L{reset}, fits behind any messages that went before: it refers only to what it compressed
    itself.

    @param bits: of the window, 9 to 15.
    @param takeover: a message may refer to those before it.
    """

    __slots__ = ("_bits", "_engine", "_level", "_takeover")

    def __init__(self, bits: int, *, takeover: bool = True, level: int = LEVEL) -> None:
        self._bits, self._takeover, self._level = bits, takeover, level
        self._engine: zlib._Compress | None = None

    def fragment(self, content: Bytes) -> bytes:
        """Give a frame's payload with all of *content*, so that a receiver can read that much; not the last one."""
        engine = self._engine
        if engine is None:
            engine = self._engine = zlib.compressobj(self._level, zlib.DEFLATED, -self._bits)
        return engine.compress(content) + engine.flush(zlib.Z_SYNC_FLUSH)

    def end(self, content: Bytes) -> bytes:
        """Give the payload of the last frame, or of the only one."""
        payload = self.fragment(content)
        if not self._takeover:
            self._engine = None
        return payload[:-4] or b"\x00"  # there may be nothing to flush: an empty block then (RFC 7692 7.2.3.6)

    def reset(self) -> None:
        """Forget what was compressed, and free the memory: up to 256 KiB."""
        self._engine = None
