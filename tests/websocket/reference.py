"""WebSocket once more, as slow and plain as can be: byte by byte, from the words of the RFCs. What the tests trust."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import strategies as st

Event = tuple[object, ...]

KEY = b"\x37\xfa\x21\x3d"


class Fault(Exception):
    """The code to close with."""

    def __init__(self, code: int) -> None:
        self.code = code


def xor(data: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False, key: bytes | None = None) -> bytes:
    size, masked = len(payload), key is not None
    out = [fin << 7 | rsv1 << 6 | opcode]
    if size < 126:
        out += [masked << 7 | size]
    elif size < 65536:
        out += [masked << 7 | 126, *size.to_bytes(2, "big")]
    else:
        out += [masked << 7 | 127, *size.to_bytes(8, "big")]
    return bytes(out) + (payload if key is None else key + xor(payload, key))


def read(
    data: bytes, *, masked: bool, bits: int | None = None, takeover: bool = True
) -> tuple[list[Event], int | None]:
    """What a reader says of these bytes, and the code of the error that they lead to."""
    events: list[Event] = []
    try:
        _read(iter(data), events, masked, bits, takeover)
    except StopIteration:
        return events, None
    except Fault as fault:
        return events, fault.code
    return events, None


def _read(stream: Iterator[int], events: list[Event], masked: bool, bits: int | None, takeover: bool) -> None:
    opened = compressed = 0
    came, content = 0, b""
    engine = None
    while True:
        first, second = next(stream), next(stream)
        fin, rsv, opcode = first >> 7, first >> 4 & 7, first & 15
        if rsv & 3 or (rsv == 4 and (bits is None or opcode not in (1, 2))) or opcode not in (0, 1, 2, 8, 9, 10):
            raise Fault(1002)
        if (opcode > 2 and not fin) or (opcode == 0 and not opened) or (opcode in (1, 2) and opened):
            raise Fault(1002)
        if second >> 7 != masked:
            raise Fault(1002)
        length = second & 127
        if opcode > 2 and length > 125:
            raise Fault(1002)
        if length == 126:
            length = int.from_bytes([next(stream) for _ in range(2)], "big")
            if length < 126:
                raise Fault(1002)
        elif length == 127:
            length = int.from_bytes([next(stream) for _ in range(8)], "big")
            if not 65536 <= length < 2**63:
                raise Fault(1002)
        key = bytes(_take(stream, 4)) if masked else bytes(4)
        if opcode > 2:
            payload = xor(bytes(_take(stream, length)), key)
            if opcode == 8:
                events.append(_close(payload))
                return
            events.append(("control", opcode, payload))
            continue
        if opcode:
            opened, compressed, came, content = opcode, rsv, 0, b""
            events.append(("begin", opcode, bool(rsv)))
        for at in range(length + 4):
            if at < length:
                byte = next(stream) ^ key[at % 4]
                came += 1
            elif fin and compressed and came:
                byte = b"\x00\x00\xff\xff"[at - length]
            else:
                break
            piece = bytes([byte])
            if compressed:
                assert bits is not None
                engine = engine or zlib.decompressobj(-bits)
                try:
                    piece = engine.decompress(piece)
                except zlib.error:
                    raise Fault(1007) from None
                engine = None if engine.eof else engine
            content += piece
            if opened == 1:
                _check(content, whole=False)
            events.append(("content", piece))
        if fin:
            if opened == 1:
                _check(content, whole=True)
            events.append(("end",))
            opened = 0
            engine = engine if takeover else None


def _take(stream: Iterator[int], count: int) -> list[int]:
    taken = []
    for _ in range(count):
        taken.append(next(stream))
    return taken


def _check(text: bytes, *, whole: bool) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        if whole or error.reason != "unexpected end of data":
            raise Fault(1007) from None


def _close(payload: bytes) -> Event:
    if not payload:
        return "close", 1005, ""
    code = int.from_bytes(payload[:2], "big")
    known = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)
    if len(payload) == 1 or not (code in known or 3000 <= code <= 4999):
        raise Fault(1002)
    _check(payload[2:], whole=True)
    return "close", code, payload[2:].decode()


def joined(events: Sequence[Event]) -> list[Event]:
    """The same with neighbouring pieces of content as one."""
    out: list[Event] = []
    for event in events:
        if event[0] == "content" and out and out[-1][0] == "content":
            out[-1] = ("content", bytes(out[-1][1]) + bytes(event[1]))  # type: ignore[call-overload]  # both are bytes
        elif event != ("content", b""):
            out.append(event)
    return out


@dataclass
class Message:
    """One that a sender sends."""

    opcode: int
    content: bytes
    compressed: bool = False
    cuts: Sequence[int] = ()
    """where its payload is cut into frames"""
    pings: Sequence[bytes] = ()
    """between these"""


@dataclass
class Sender:
    """One side; C{bits} is None without permessage-deflate."""

    masked: bool
    bits: int | None = None
    takeover: bool = True
    keys: Iterator[bytes] = field(default_factory=lambda: iter(lambda: KEY, b""))
    level: int = 9

    def __post_init__(self) -> None:
        self._engine = self._new()

    def _new(self) -> zlib._Compress:
        return zlib.compressobj(self.level, zlib.DEFLATED, -(self.bits or 15))

    def frame(self, opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
        return frame(opcode, payload, fin=fin, rsv1=rsv1, key=next(self.keys) if self.masked else None)

    def message(self, message: Message) -> bytes:
        payload, compressed = message.content, message.compressed and self.bits is not None
        if compressed:
            if not self.takeover:
                self._engine = self._new()
            payload = (self._engine.compress(payload) + self._engine.flush(zlib.Z_SYNC_FLUSH))[:-4] or b"\x00"
        edges = [0, *sorted(min(cut, len(payload)) for cut in message.cuts), len(payload)]
        out, pings = b"", list(message.pings)
        for at, (begin, end) in enumerate(pairwise(edges)):
            opcode = 0 if at else message.opcode
            out += self.frame(opcode, payload[begin:end], fin=at == len(edges) - 2, rsv1=compressed and not at)
            if pings and at < len(edges) - 2:
                out += self.frame(9, pings.pop())
        return out


KEYS = st.binary(min_size=4, max_size=4)
TEXTS = st.text(max_size=30).map(str.encode)
REPETITIVE = st.lists(st.sampled_from(["abc", "über ", "0123456789" * 8, "\U0001f600"]), max_size=12).map(
    lambda words: "".join(words).encode()
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    opcode = draw(st.sampled_from([1, 2]))
    content = draw(st.one_of(REPETITIVE, TEXTS if opcode == 1 else st.binary(max_size=300)))
    cuts = draw(st.lists(st.integers(0, 80), max_size=3))
    return Message(opcode, content, draw(st.booleans()), cuts, draw(st.lists(st.binary(max_size=5), max_size=2)))


@st.composite
def senders(draw: st.DrawFn) -> Sender:
    key = draw(KEYS)
    keys = iter(lambda: key, b"")
    bits = draw(st.sampled_from([None, 9, 9, 15]))
    return Sender(draw(st.booleans()), bits, draw(st.booleans()), keys)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]
