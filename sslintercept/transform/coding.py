"""
Content codings: taken off in front of what looks at content, put on again behind it (RFC 9110 8.4).

L{Decoder} gives pieces of at most 32 KiB and makes the next one only when asked, so a small input that stands for
gigabytes costs no memory and can be left in the middle. What several codings in a row give counts together against
its two bounds. L{Encoder} flushes with every call: a receiver can read at once what was fed (server-sent events, long
polls).

What a stream holds. Decoding: gzip and deflate 45 KiB, zstd its window of at most 8 MiB (RFC 9659 3), br its window of
at most 16 MiB (RFC 7932 9.1), both as far as content has filled it; a server that uses its library's defaults makes it
2 to 5 MiB. Encoding at the levels below: gzip and deflate 225 KiB, zstd 405 KiB, br 835 KiB.

CPU on one core, Python 3.11, 4 MiB of Python sources in views of 16 KiB as a connection gives them, beside the bare
library; the least of 25 rounds. Decoded was what gzip 6, br 5 and zstd 3 made of them, each 4 to 6 times smaller:

=======  ======================  ========  ========  ======================  ========  ========
coding   decoding, us per chunk  bare      content   encoding, us per chunk  bare      content
=======  ======================  ========  ========  ======================  ========  ========
gzip     266                     256       277 MB/s  191                     191       86 MB/s
deflate  267                     257       275 MB/s  192                     193       85 MB/s
br       217                     222       430 MB/s  161                     158       102 MB/s
zstd     98                      97        821 MB/s  70                      69        235 MB/s
=======  ======================  ========  ========  ======================  ========  ========

A small chunk costs 1 us beside its library, a L{Decoder} 1 us and an L{Encoder} 1 to 4 us to make.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

import brotli  # type: ignore[import-untyped]  # it ships no types; the two protocols below say what we use

from sslintercept.errors import InterceptError
from sslintercept.facts import Side

if sys.version_info >= (3, 14):  # pragma: no cover - one of the two, by version
    from compression import zstd
else:  # pragma: no cover
    from backports import zstd

Bytes = bytes | memoryview

CODINGS: Final = ("zstd", "br", "gzip", "deflate")
"""What can be taken off and put on; the cheapest for us first."""
IDENTITY: Final = "identity"
"""The name of no coding (RFC 9110 12.5.3)."""
MAX_CODINGS: Final = 4
"""Codings in a row."""
PIECE: Final = 32 * 1024 - 16
"""
Bytes of the largest piece, and of input that a library is given at once: the first block that all three libraries make
for their output. With a larger piece they join two, which is slower; L{brotli} knows no smaller limit.
"""
MAX_RATIO: Final = 200
"""Decoded bytes for each encoded one. Pages and scripts have 3 to 20, gzip can reach 1032, the others much more."""
RATIO_FLOOR: Final = 1024 * 1024
"""Decoded bytes that need no judgement: a page of spaces is no attack."""
MEMBER_COST: Final = 2 * 1024
"""
Bytes that each further gzip member or zstd frame counts as, on top of its content, for the ratio. One that is empty
takes 20 or 9 bytes and 2 or 6 us, the time of 0.6 or 5 KiB; a small gzip stream can stand for millions of them.
"""
MAX_WINDOW_LOG: Final = 23
"""8 MiB, the largest zstd window that a decoder for HTTP has to accept (RFC 9659 3)."""
WINDOW_LOG: Final = 18
"""256 KiB, the window that we encode zstd and br with: a fifth of what br's default holds, output up to 14 % larger."""

_ZSTD_FRAME: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPED: Final = b"\x2a\x4d\x18"
"""behind one byte from 0x50 to 0x5f"""
_ZSTD_DECODING: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}


class CodingError(InterceptError):
    """Content that is not what its codings say: malformed, damaged, or cut off; its message cannot be saved."""

    kind = "coding"
    side = Side.UPSTREAM

    def __init__(
        self, what: str, *, where: str, remedy: str = "close the connection", side: Side = Side.UPSTREAM
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.side = side


class BombError(CodingError):
    """Content that stands for far more than it is."""

    kind = "bomb"


class UnknownCoding(CodingError):
    """
    A coding that we cannot take off or put on; a rule says what becomes of such content.

    @ivar coding: its name in lower case.
    """

    kind = "unknown_coding"

    def __init__(self, coding: str, side: Side = Side.UPSTREAM) -> None:
        what = f"{coding[:40]!r} is not one of {', '.join(CODINGS)}"
        super().__init__(what, where="content coding", remedy="let it pass unseen or block it by rule", side=side)
        self.coding = coding


# -- decoding ------------------------------------------------------------------------------------------------------


class _Malformed(Exception):
    """What the libraries do not say themselves."""


class _Excess(Exception):
    """A bound is passed."""


_FAULTS: Final = (_Malformed, zlib.error, zstd.ZstdError, brotli.error)


class _Budget:
    """What may still be decoded, for all codings of a stream together."""

    __slots__ = ("_bound", "_decoded", "_limit", "_members", "_ratio", "encoded")

    def __init__(self, ratio: float, limit: int | None) -> None:
        self._ratio, self._limit = ratio, limit
        self._decoded = self._members = self.encoded = 0
        self._bound: float = 0
        """decoded bytes below which nothing has to be judged"""

    def spend(self, size: int) -> None:
        """Count decoded bytes."""
        self._decoded += size
        if self._decoded > self._bound:
            self._judge()

    def begin(self) -> None:
        """Count a further member."""
        self._members += 1
        self._judge()

    def _judge(self) -> None:
        if self._limit is not None and self._decoded > self._limit:
            raise _Excess(f"gives more than {self._limit} bytes")
        bound = max(RATIO_FLOOR, self._ratio * self.encoded) - MEMBER_COST * self._members
        if self._decoded > bound:
            raise _Excess(f"gives more than {self._ratio:g} times what it takes")
        self._bound = bound if self._limit is None else min(bound, self._limit)


class _Layer:
    """
    One coding, taken off piece by piece.

    @ivar hungry: it has given all that its input stands for, and takes more.
    @ivar ended: the content may end here.
    """

    __slots__ = ("ended", "hungry")

    def __init__(self, budget: _Budget) -> None:
        self.hungry = self.ended = True

    def decode(self, data: bytes) -> bytes:
        """Give the next piece; *data* is more input if C{hungry}, and nothing otherwise."""
        return data


class _Stream(Protocol):
    """A decompressor of zlib or zstd: one gzip member, one zlib stream, one zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Members(_Layer):
    """Streams one behind the other, each told by its first bytes."""

    __slots__ = ("_begun", "_budget", "_held", "_stream")

    def __init__(self, budget: _Budget) -> None:
        super().__init__(budget)
        self._budget = budget
        self._begun = False
        self._stream: _Stream | None = None
        self._held = b""
        """input that no stream has taken yet"""

    def decode(self, data: bytes) -> bytes:
        stream = self._stream
        if stream is None:
            data, self._held, self.hungry, self.ended = self._held + data, b"", True, False
            stream = self._stream = self._begin(data)
            if stream is None:
                return b""
            self._begun = True
        # zlib gives back what had no room, zstd keeps it
        piece = stream.decompress(data or getattr(stream, "unconsumed_tail", b""), PIECE)
        if stream.eof:
            self._stream, self._held, self.ended = None, stream.unused_data, True
            self.hungry = not self._held
        else:
            self.hungry = len(piece) < PIECE
        return piece

    def _begin(self, data: bytes) -> _Stream | None:
        """Make what *data* begins with, or hold what must be seen again with more."""
        raise NotImplementedError  # pragma: no cover - each has its own


class _Gzip(_Members):
    """gzip: members, then perhaps zeros, which fill a tape's last block (RFC 1952 2.2)."""

    __slots__ = ()

    def _begin(self, data: bytes) -> _Stream | None:
        if self._begun:
            if data[0] == 0:
                if data.strip(b"\0"):
                    raise _Malformed("data behind its padding")
                self._held, self.ended = b"\0", True
                return None
            if data[0] != 0x1F:
                raise _Malformed("data behind its end")
            self._budget.begin()
        return zlib.decompressobj(31)


class _Deflate(_Members):
    """
    deflate: the zlib format, or without its header what is inside it, as some servers understood the name.

    The two cannot be mistaken: what has no header and looks like one begins with a stored block behind padding that
    is not zero, and no encoder makes that.
    """

    __slots__ = ()

    def _begin(self, data: bytes) -> _Stream | None:
        if self._begun:
            raise _Malformed("data behind its end")
        if data[0] & 0x8F == 8:  # method 8, a window of at most 32 KiB (RFC 1950 2.2)
            if len(data) == 1:
                self._held = data
                return None
            if int.from_bytes(data[:2], "big") % 31 == 0:
                return zlib.decompressobj(15)
        return zlib.decompressobj(-15)


class _Zstd(_Members):
    """zstd: frames, some of them to be skipped (RFC 8878 3.1); formats older than the RFC are refused."""

    __slots__ = ()

    def _begin(self, data: bytes) -> _Stream | None:
        if len(data) < 4:
            self._held = data
            return None
        if not data.startswith(_ZSTD_FRAME) and (data[0] & 0xF0 != 0x50 or data[1:4] != _ZSTD_SKIPPED):
            raise _Malformed("data that is no frame")
        if self._begun:
            self._budget.begin()
        return zstd.ZstdDecompressor(options=_ZSTD_DECODING)


class _BrotliDecoder(Protocol):
    def process(self, data: bytes, *, output_buffer_limit: int) -> bytes: ...

    def is_finished(self) -> bool: ...


class _Brotli(_Layer):
    """br: one stream (RFC 7932); the library refuses what follows, and windows above 16 MiB."""

    __slots__ = ("_stream",)

    def __init__(self, budget: _Budget) -> None:
        super().__init__(budget)
        self._stream: _BrotliDecoder = brotli.Decompressor()

    def decode(self, data: bytes) -> bytes:
        piece = self._stream.process(data, output_buffer_limit=PIECE)
        self.hungry = len(piece) < PIECE
        self.ended = self._stream.is_finished()
        return piece


_LAYERS: Final[dict[str, type[_Layer]]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
    IDENTITY: _Layer,
}


class Decoder:
    """
    Takes codings off.

    After an error the stream is lost, and every call raises it again. Content of no bytes at all is taken as empty,
    whatever its codings: many servers label an empty body.

    @param codings: as L{codings_of} gives them, in the order they were put on.
    @param ratio: decoded bytes for each encoded one, above L{RATIO_FLOOR}; what all codings give is counted.
    @param limit: decoded bytes in all, counted likewise.
    @param side: whose doing the content is.
    @raise UnknownCoding: one of *codings* cannot be taken off.
    @raise CodingError: they are more than L{MAX_CODINGS}.
    """

    __slots__ = ("_budget", "_error", "_held", "_layers", "_side", "_top", "_where")

    def __init__(
        self,
        codings: Sequence[str],
        *,
        ratio: float = MAX_RATIO,
        limit: int | None = None,
        side: Side = Side.UPSTREAM,
    ) -> None:
        self._side = side
        self._error: CodingError | None = None
        if len(codings) > MAX_CODINGS:
            what, remedy = f"{len(codings)} codings in a row", "let it pass unseen or block it by rule"
            raise CodingError(what, where="content coding", remedy=remedy, side=side)
        self._budget = _Budget(ratio, limit)
        self._layers: list[_Layer] = []
        for coding in reversed(codings or (IDENTITY,)):
            layer = _LAYERS.get(coding)
            if layer is None:
                raise UnknownCoding(coding, side)
            self._layers.append(layer(self._budget))
        self._top = len(self._layers) - 1
        self._where = f"content coded with {', '.join(codings) or IDENTITY}"
        self._held: deque[bytes] = deque()

    def feed(self, data: Bytes) -> None:
        """Hold *data*, until L{more} takes it; a view is copied."""
        if self._error is not None:
            raise self._error
        for at in range(0, len(data), PIECE):
            self._held.append(bytes(data[at : at + PIECE]))

    def more(self) -> bytes:
        """
        Give the next piece of content, at most L{PIECE} bytes; nothing when more must be fed.

        Whoever can take no more stops calling, and goes on later. With one coding a call takes the time of a piece;
        with several it may go through all that the outer ones give before the innermost gives anything, which the
        ratio bounds.

        @raise CodingError: content is not what its codings say. All pieces before are genuine as far as they go:
            checksums come last.
        @raise BombError: a bound is passed; with what was given before, all is within it.
        """
        if self._error is not None:
            raise self._error
        layers, top, spend = self._layers, self._top, self._budget.spend
        at, data = top, b""
        try:
            while True:
                layer = layers[at]
                if data or not layer.hungry:
                    data = layer.decode(data)
                    if data:
                        spend(len(data))
                        if at == top:
                            return data
                        at += 1
                elif at:
                    at -= 1
                elif self._held:
                    data = self._held.popleft()
                    self._budget.encoded += len(data)
                else:
                    return b""
        except _Excess as error:
            raise self._lost(str(error), BombError) from None
        except _FAULTS as error:
            raise self._lost(f"malformed ({error})") from None

    def finish(self) -> None:
        """
        Say that nothing follows, once L{more} has nothing more.

        @raise CodingError: content is cut off.
        """
        if self._error is not None:
            raise self._error
        if self._held or not all(layer.hungry for layer in self._layers):
            what = "pieces are waiting"
            raise InterceptError(what, where=self._where, remedy="report who finished before the last piece")
        if not all(layer.ended for layer in self._layers):
            raise self._lost("cut off")

    def _lost(self, what: str, error: type[CodingError] = CodingError) -> CodingError:
        """Make the error, and let go of what the stream held."""
        lost = self._error = error(what, where=self._where, side=self._side)
        self._layers.clear()
        self._held.clear()
        return lost


# -- encoding ------------------------------------------------------------------------------------------------------


class _BrotliEncoder(Protocol):
    def process(self, data: Bytes) -> bytes: ...

    def flush(self) -> bytes: ...

    def finish(self) -> bytes: ...


class _Press(NamedTuple):
    """What a library offers: all that was pressed and flushed can be decoded."""

    press: Callable[[Bytes], bytes]
    flush: Callable[[], bytes]
    finish: Callable[[], bytes]


def _zlib(wbits: int, level: int) -> _Press:
    stream = zlib.compressobj(level, zlib.DEFLATED, wbits)
    return _Press(stream.compress, partial(stream.flush, zlib.Z_SYNC_FLUSH), stream.flush)


def _brotli(level: int) -> _Press:
    stream: _BrotliEncoder = brotli.Compressor(quality=level, lgwin=WINDOW_LOG)
    return _Press(stream.process, stream.flush, stream.finish)


def _zstd(level: int) -> _Press:
    parameter = zstd.CompressionParameter
    stream = zstd.ZstdCompressor(options={parameter.compression_level: level, parameter.window_log: WINDOW_LOG})
    # one call instead of two saves zstd 6 %
    return _Press(partial(stream.compress, mode=stream.FLUSH_BLOCK), bytes, stream.flush)


class _Encoding(NamedTuple):
    make: Callable[[int], _Press]
    level: int
    levels: range


ENCODINGS: Final = {
    "zstd": _Encoding(_zstd, 1, range(1, 20)),
    "br": _Encoding(_brotli, 2, range(12)),
    "gzip": _Encoding(partial(_zlib, 31), 1, range(10)),
    "deflate": _Encoding(partial(_zlib, 15), 1, range(10)),
    IDENTITY: _Encoding(lambda level: _Press(bytes, bytes, bytes), 0, range(1)),
}
"""
How each coding is put on, at what level by default, and which levels there are.

HTML, Python and JSON in chunks of 16 KiB, each flushed: MB/s on one core, and how many times smaller.

=======  =========  =========  =========
level    HTML       Python     JSON
=======  =========  =========  =========
gzip 1    81  3.4    80  3.4   102  3.9
gzip 2    73  3.5    74  3.6    94  4.2
gzip 6    28  4.1    27  4.2    40  5.1
br 1     166  3.0   167  3.1   205  3.8
br 2     145  6.8    92  4.0   101  4.5
br 4      81  7.2    51  4.2    61  4.8
zstd 1   342  6.1   211  3.8   266  4.8
zstd 2   312  6.4   191  3.9   214  4.7
zstd 3   242  6.6   147  4.0   161  4.7
=======  =========  =========  =========

gzip 6, what most servers send, takes three times as long for a fifth less; below br 2 br is larger than gzip 1.
"""


class Encoder:
    """
    Puts a coding on; a receiver can decode all that was fed at once.

    @param coding: one of L{CODINGS}, or L{IDENTITY}.
    @param level: as the coding counts them, see L{ENCODINGS}; C{None} for a cheap one.
    @raise UnknownCoding: it cannot be put on.
    @raise InterceptError: it has no such level.
    """

    __slots__ = ("_finish", "_flush", "_press")

    def __init__(self, coding: str, level: int | None = None) -> None:
        encoding = ENCODINGS.get(coding)
        if encoding is None:
            raise UnknownCoding(coding, Side.OURS)
        make, default, levels = encoding
        if level is None:
            level = default
        elif level not in levels:
            remedy = f"use one from {levels[0]} to {levels[-1]}"
            raise InterceptError(f"no level {level}", where=f"content coding {coding}", remedy=remedy)
        self._press, self._flush, self._finish = make(level)

    def feed(self, data: Bytes) -> bytes:
        """Give what *data* becomes; nothing becomes nothing."""
        return self._press(data) + self._flush() if data else b""

    def finish(self) -> bytes:
        """Give the end, once; it alone is a valid stream of nothing."""
        return self._finish()
