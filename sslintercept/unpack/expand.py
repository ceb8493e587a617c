"""
Compressed streams, expanded up to a bound: deflate, zlib, gzip, bzip2, xz, lzma, zstd.

The libraries are asked for one slice at a time, so that a bomb costs the bound and no more; xz and zstd are told how
much memory their dictionary may take.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from sslintercept.unpack.budget import LIES, RATIO, RUBBISH, SIZE, TRUNCATED, Budget

if sys.version_info >= (3, 14):  # pragma: no cover - one of the two, by version
    from compression import zstd
else:  # pragma: no cover
    from backports import zstd

Bytes = bytes | memoryview

SLICE: Final = 256 * 1024
"""bytes that go into a library, or come out of it, at once"""
FIRST_SLICE: Final = 512
"""bytes that go in first: what does not belong to a stream is copied, and there may be millions of short ones"""
WINDOW_LOG: Final = 27
"""of zstd: 128 MiB, what its own tool takes unless told otherwise"""
LZMA_MEMORY: Final = 192 * 1024 * 1024
"""bytes that xz may take: C{xz -9} needs 65 MiB"""

_MAGIC: Final = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd"}
"""what a further stream behind the first begins with"""


class Expanded(NamedTuple):
    """
    What came out.

    @ivar used: bytes of the input that belong to it.
    @ivar whole: the streams ended by themselves.
    """

    content: bytes
    used: int
    whole: bool
    notes: list[str]


class Stream(Protocol):
    """A decompressor of C{bz2}, C{lzma} or C{zstd}."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Bytes, max_length: int) -> bytes: ...


class Zlib:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, bits: int) -> None:
        self._stream = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: Bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail or data, max_length)


_STREAMS: Final[dict[str, Callable[[], Stream]]] = {
    "deflate": lambda: Zlib(-15),
    "zlib": lambda: Zlib(15),
    "gzip": lambda: Zlib(31),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, LZMA_MEMORY),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, LZMA_MEMORY),
    "zstd": lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG}),
}
_FAULTS: Final = (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError)


def expand(kind: str, data: Bytes, budget: Budget, *, most: int | None = None) -> Expanded:
    """
    Expand one stream, and those of its kind that follow it at once.

    @param most: bytes; else what the budget has room for.
    """
    limits = budget.limits
    most = budget.room if most is None else most
    bound = min(most, max(limits.floor, limits.ratio * len(data)))
    pieces: list[bytes] = []
    size = at = 0
    while True:
        stream, slice_ = _STREAMS[kind](), FIRST_SLICE
        budget.tick()
        try:
            while not stream.eof:
                feed: Bytes = b""
                if stream.needs_input:
                    feed = data[at : at + slice_]
                    at += len(feed)
                    slice_ = min(2 * slice_, SLICE)
                    if not feed:
                        return Expanded(b"".join(pieces), at, False, [TRUNCATED])
                # One byte more than fits tells whether it would.
                piece = stream.decompress(feed, min(SLICE, bound - size + 1))
                size += len(piece)
                pieces.append(piece)
                if size > bound:
                    content = b"".join(pieces)[:bound]
                    return Expanded(content, at, False, [SIZE if bound == most else RATIO])
        except _FAULTS as error:
            return Expanded(b"".join(pieces), at, False, [SIZE if "emory" in str(error) else RUBBISH])
        at -= len(stream.unused_data)
        rest = bytes(data[at : at + FIRST_SLICE]) if kind in _MAGIC else b""
        if not _follows(kind, rest):
            return Expanded(b"".join(pieces), at, True, [LIES] if rest.strip(b"\0") else [])


def _follows(kind: str, rest: bytes) -> bool:
    """Whether another stream of the kind begins (of zstd: or a frame to be skipped, RFC 8878 3.1.2)."""
    return kind in _MAGIC and (rest.startswith(_MAGIC[kind]) or (kind == "zstd" and rest[1:4] == b"\x2a\x4d\x18"))
