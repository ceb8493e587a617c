"""Content codings: there and back whatever the cuts, damage and bombs told, header fields read (RFC 9110 8.4)."""

import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from random import Random

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import InterceptError
from sslintercept.facts import Side
from sslintercept.transform import coding as module
from sslintercept.transform.coding import (
    CODINGS,
    ENCODINGS,
    IDENTITY,
    MAX_RATIO,
    MAX_WINDOW_LOG,
    PIECE,
    RATIO_FLOOR,
    BombError,
    CodingError,
    Decoder,
    Encoder,
    UnknownCoding,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
PARAMETER = zstd.CompressionParameter
TEXT = b"".join(b"%d green bottles\n" % number for number in range(12))
SKIPPED = b"\x53\x2a\x4d\x18\x05\x00\x00\x00hello"


def raw(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def stored(begin: bytes, data: bytes) -> bytes:
    """A block of deflate as it is; what follows its type in *begin* is padding."""
    return begin + len(data).to_bytes(2, "little") + (len(data) ^ 0xFFFF).to_bytes(2, "little") + data


def zstd_with(data: bytes, **parameters: int) -> bytes:
    return zstd.compress(data, options={getattr(PARAMETER, name): value for name, value in parameters.items()})


def br(data: bytes) -> bytes:
    made: bytes = brotli.compress(data, quality=5)
    return made


def unbr(data: bytes) -> bytes:
    made: bytes = brotli.decompress(data)
    return made


CODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.compress(data, wbits=31),
    "deflate": zlib.compress,
    "br": br,
    "zstd": zstd.compress,
    IDENTITY: bytes,
}
UNDO: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": unbr,
    "zstd": zstd.decompress,
    IDENTITY: bytes,
}
GZIP_HEAD = b"\x1f\x8b\x08%b\0\0\0\0\0\x03"
FIELDS = b"\x04\x00abcd" + b"name\0" + b"comment\0"
ALL_FIELDS = GZIP_HEAD % b"\x1e" + FIELDS
TAIL = zlib.crc32(TEXT).to_bytes(4, "little") + len(TEXT).to_bytes(4, "little")

GOOD = [  # codings, the encoded content
    pytest.param(("gzip",), gzip.compress(TEXT, mtime=0), id="gzip"),
    pytest.param(("x-gzip",), gzip.compress(TEXT, mtime=0), id="x-gzip"),
    pytest.param(("gzip",), gzip.compress(TEXT[:9]) + gzip.compress(b"") + gzip.compress(TEXT[9:]), id="gzip, members"),
    pytest.param(("gzip",), gzip.compress(TEXT) + bytes(70), id="gzip, padded with zeros"),
    pytest.param(
        ("gzip",),
        ALL_FIELDS + (zlib.crc32(ALL_FIELDS) & 0xFFFF).to_bytes(2, "little") + raw(TEXT) + TAIL,
        id="gzip, every field in its head",
    ),
    pytest.param(("gzip",), gzip.compress(TEXT, 0), id="gzip, stored"),
    pytest.param(("deflate",), zlib.compress(TEXT), id="deflate"),
    pytest.param(("deflate",), zlib.compress(TEXT, wbits=9), id="deflate, small window"),
    pytest.param(("deflate",), raw(TEXT), id="deflate without its head"),
    pytest.param(("deflate",), stored(b"\x08", TEXT) + b"\x03\0", id="deflate without its head, odd padding"),
    pytest.param(
        ("deflate",), stored(b"\x88", TEXT[:28]) + stored(b"\1", TEXT[28:]), id="a window that deflate does not have"
    ),
    pytest.param(("br",), br(TEXT), id="br"),
    pytest.param(("br",), brotli.compress(TEXT, quality=11, lgwin=24), id="br, best"),
    pytest.param(("zstd",), zstd.compress(TEXT), id="zstd"),
    pytest.param(("zstd",), zstd_with(TEXT, checksum_flag=1), id="zstd, checksum"),
    pytest.param(("zstd",), zstd_with(TEXT, content_size_flag=0, window_log=10), id="zstd, no size"),
    pytest.param(
        ("zstd",),
        SKIPPED + zstd.compress(TEXT[:9]) + zstd.compress(b"") + SKIPPED + zstd.compress(TEXT[9:]) + SKIPPED,
        id="zstd, frames",
    ),
    pytest.param((), TEXT, id="none"),
    pytest.param((IDENTITY,), TEXT, id="identity"),
    pytest.param(("gzip", "br"), br(gzip.compress(TEXT)), id="gzip, then br"),
    pytest.param(("br", "gzip"), gzip.compress(br(TEXT)), id="br, then gzip"),
    pytest.param(
        ("zstd", "deflate", IDENTITY, "gzip"), gzip.compress(zlib.compress(zstd.compress(TEXT))), id="four in a row"
    ),
]
WITH_AN_END = [param for param in GOOD if param.values[0] not in ((), (IDENTITY,))]


def pieces_of(decoder: Decoder, data: bytes | memoryview) -> Iterator[bytes]:
    decoder.feed(data)
    for piece in iter(decoder.more, b""):
        assert len(piece) <= PIECE
        yield piece


def decode(codings: Sequence[str], *parts: bytes) -> bytes:
    decoder = Decoder(codings)
    content = b"".join(piece for part in parts for piece in pieces_of(decoder, part))
    decoder.finish()
    return content


def encode(coding: str, *parts: bytes) -> bytes:
    encoder = Encoder(coding)
    return b"".join(encoder.feed(part) for part in parts) + encoder.finish()


def fault(act: Callable[[], object]) -> CodingError | None:
    try:
        act()
    except CodingError as error:
        return error
    return None


def singles(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def splits(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield singles(data)
    yield from ([data[:cut], data[cut:]] for cut in range(len(data) + 1))


# -- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codings", "coded"), GOOD)
def test_content_is_read_whole_at_every_cut_and_in_single_bytes(codings: Sequence[str], coded: bytes) -> None:
    for parts in splits(coded):
        assert decode(codings, *parts) == TEXT


@pytest.mark.parametrize("coding", [*CODINGS, IDENTITY])
def test_the_libraries_read_what_is_encoded_at_every_cut_and_in_single_bytes(coding: str) -> None:
    for parts in splits(TEXT):
        coded = encode(coding, *parts)
        assert UNDO[coding](coded) == TEXT
        assert decode((coding,), coded) == TEXT


@cache
def content(size: int, kind: str) -> bytes:
    random = Random(size)
    if kind == "noise":
        return random.randbytes(size)
    lines = (b"%d %s\n" % (random.getrandbits(40), TEXT[: random.randrange(60)]) for _ in range(20_000))
    return (b"".join(lines) * (size // 500_000 + 1))[:size]


@pytest.mark.parametrize("kind", ["noise", "text"])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, PIECE - 1, PIECE, PIECE + 1, MIB, 10 * MIB])
@pytest.mark.parametrize("coding", [*CODINGS, IDENTITY])
def test_every_size_there_and_back(coding: str, size: int, kind: str) -> None:
    data = content(size, kind)
    ours = encode(coding, *(data[at : at + 65536] for at in range(0, size, 65536)))
    assert UNDO[coding](ours) == data
    assert decode((coding,), ours) == data
    theirs = CODE[coding](data)
    assert decode((coding,), *(theirs[at : at + 16384] for at in range(0, len(theirs), 16384))) == data


@pytest.mark.parametrize("coding", CODINGS)
def test_every_level_can_be_read_by_everybody(coding: str) -> None:
    for level in ENCODINGS[coding].levels:
        encoder = Encoder(coding, level)
        assert UNDO[coding](encoder.feed(TEXT) + encoder.finish()) == TEXT


@pytest.mark.parametrize(("coding", "level"), [("gzip", 10), ("gzip", -1), ("br", 12), ("zstd", 0), ("zstd", 20)])
def test_a_level_that_a_coding_has_not_is_refused(coding: str, level: int) -> None:
    with pytest.raises(InterceptError, match=rf"{coding}: no level {level}; use one from \d to \d"):
        Encoder(coding, level)


def test_we_encode_zstd_with_a_window_that_every_client_has() -> None:
    data = content(300_000, "text")
    for level in ENCODINGS["zstd"].levels:
        encoder = Encoder("zstd", level)
        coded = encoder.feed(data) + encoder.finish()
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: module.WINDOW_LOG}
        assert zstd.decompress(coded, options=options) == data


@pytest.mark.parametrize("coding", [*CODINGS, IDENTITY])
def test_nothing_is_encoded_as_a_valid_stream_of_nothing(coding: str) -> None:
    assert Encoder(coding).feed(b"") == b""
    assert UNDO[coding](encode(coding)) == b""
    assert decode((coding,), encode(coding)) == b""


@pytest.mark.parametrize("codings", [(), *((coding,) for coding in CODINGS), ("gzip", "br")])
def test_an_empty_body_is_empty_whatever_its_label(codings: Sequence[str]) -> None:
    assert decode(codings) == b""
    assert decode(codings, b"") == b""


@pytest.mark.parametrize("coding", [*CODINGS, IDENTITY])
@given(parts=st.lists(st.binary(max_size=200), max_size=8))
def test_all_that_was_fed_can_be_decoded_at_once(coding: str, parts: list[bytes]) -> None:
    encoder, decoder = Encoder(coding), Decoder((coding,))
    for part in parts:
        assert b"".join(pieces_of(decoder, encoder.feed(part))) == part
    assert b"".join(pieces_of(decoder, encoder.finish())) == b""
    decoder.finish()


@given(
    data=st.binary(max_size=600),
    codings=st.lists(st.sampled_from([*CODINGS, IDENTITY]), max_size=4),
    cuts=st.lists(st.integers(0, 700), max_size=8),
)
def test_decoding_undoes_encoding_whatever_the_codings_and_cuts(
    data: bytes, codings: list[str], cuts: list[int]
) -> None:
    coded = data
    for coding in codings:
        coded = CODE[coding](coded)
    edges = sorted({0, *(min(cut, len(coded)) for cut in cuts), len(coded)})
    assert decode(codings, *(coded[a:b] for a, b in pairwise(edges))) == data


def test_a_view_is_copied_before_its_buffer_is_used_again() -> None:
    for coding in (*CODINGS, IDENTITY):
        buffer = bytearray(CODE[coding](TEXT))
        decoder = Decoder((coding,))
        decoder.feed(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        assert decoder.more() == TEXT
        plain = bytearray(TEXT)
        encoder = Encoder(coding)
        coded = encoder.feed(memoryview(plain))
        plain[:] = bytes(len(plain))
        assert UNDO[coding](coded + encoder.finish()) == TEXT


# -- what is not what its coding says ------------------------------------------------------------------------------


@pytest.mark.parametrize(("codings", "coded"), WITH_AN_END)
def test_content_that_is_cut_off_is_told_apart_at_every_byte(codings: Sequence[str], coded: bytes) -> None:
    for cut in range(len(coded)):
        decoder = Decoder(codings)
        got = b"".join(pieces_of(decoder, coded[:cut]))
        assert TEXT.startswith(got)
        if fault(decoder.finish) is None:
            assert got in (b"", TEXT[:9], TEXT)  # where a member or a frame ends, content may end


@pytest.mark.parametrize("coding", CODINGS)
def test_one_stream_that_is_cut_off_never_passes(coding: str) -> None:
    coded = CODE[coding](TEXT)
    for cut in range(1, len(coded)):
        with pytest.raises(CodingError, match=f"content coded with {coding}: cut off; close the connection"):
            decode((coding,), coded[:cut])


BROKEN = [
    pytest.param(("gzip",), b"x", id="not gzip"),
    pytest.param(("gzip",), TEXT, id="no gzip at all"),
    pytest.param(("gzip",), gzip.compress(TEXT) + b"x", id="garbage behind gzip"),
    pytest.param(("gzip",), gzip.compress(TEXT) + b"\0\0x", id="garbage behind padding"),
    pytest.param(("gzip",), gzip.compress(TEXT) + b"\0" + gzip.compress(TEXT), id="a member behind padding"),
    pytest.param(("gzip",), gzip.compress(TEXT) + b"\x1f\x8c", id="nearly a member"),
    pytest.param(("gzip",), raw(TEXT) + TAIL, id="gzip without its head"),
    pytest.param(("gzip",), GZIP_HEAD % b"\x20" + raw(TEXT) + TAIL, id="a flag nobody knows"),
    pytest.param(("gzip",), ALL_FIELDS + b"\0\0" + raw(TEXT) + TAIL, id="the head's checksum"),
    pytest.param(("gzip",), GZIP_HEAD % b"\0" + raw(TEXT) + b"\0" + TAIL[1:], id="gzip's checksum"),
    pytest.param(("gzip",), GZIP_HEAD % b"\0" + raw(TEXT) + TAIL[:4] + b"\0\0\0\0", id="gzip's length"),
    pytest.param(("gzip",), zlib.compress(TEXT), id="deflate called gzip"),
    pytest.param(("deflate",), gzip.compress(TEXT), id="gzip called deflate"),
    pytest.param(("deflate",), zlib.compress(TEXT)[:-1] + b"\0", id="deflate's checksum"),
    pytest.param(("deflate",), zlib.compress(TEXT) + b"\0", id="zero behind deflate"),
    pytest.param(("deflate",), zlib.compress(TEXT) * 2, id="two streams of deflate"),
    pytest.param(("deflate",), raw(TEXT) + b"x", id="garbage behind deflate without its head"),
    pytest.param(("deflate",), b"\x78\xbb" + bytes(8), id="a dictionary nobody has"),
    pytest.param(("deflate",), b"\x07", id="a block of no type"),
    pytest.param(("br",), br(TEXT) + b"\0", id="zero behind br"),
    pytest.param(("br",), b"\x11\x1e\0\0", id="a br window above 16 MiB"),
    pytest.param(("br",), gzip.compress(TEXT), id="gzip called br"),
    pytest.param(("zstd",), zstd.compress(TEXT) + bytes(4), id="zeros behind zstd"),
    pytest.param(("zstd",), zstd_with(TEXT, checksum_flag=1)[:-1] + b"\0", id="zstd's checksum"),
    pytest.param(("zstd",), b"\x27\xb5\x2f\xfd" + bytes(20), id="zstd 0.7"),
    pytest.param(("zstd",), b"\x63\x2a\x4d\x18" + bytes(4), id="nearly to be skipped"),
    pytest.param(("zstd",), b"\x53\x2a\x4d\x19" + bytes(4), id="nearly to be skipped, too"),
    pytest.param(("gzip", "br"), gzip.compress(br(TEXT)), id="the wrong order"),
]


@pytest.mark.parametrize(("codings", "coded"), BROKEN)
def test_what_is_malformed_is_refused_at_every_cut_and_in_single_bytes(codings: Sequence[str], coded: bytes) -> None:
    for parts in splits(coded):
        with pytest.raises(CodingError) as caught:
            decode(codings, *parts)
        assert type(caught.value) is CodingError


@pytest.mark.parametrize(
    ("coding", "coded", "what"),
    [
        ("gzip", gzip.compress(TEXT) + b"x", "data behind its end"),
        ("gzip", gzip.compress(TEXT) + b"\0x", "data behind its padding"),
        ("gzip", TEXT, "incorrect header check"),
        ("deflate", zlib.compress(TEXT) + b"x", "data behind its end"),
        ("zstd", zstd.compress(TEXT) + bytes(4), "data that is no frame"),
        ("zstd", b"\x27\xb5\x2f\xfd", "data that is no frame"),
    ],
)
def test_an_error_says_what_is_wrong(coding: str, coded: bytes, what: str) -> None:
    with pytest.raises(
        CodingError, match=rf"content coded with {coding}: malformed \(.*{what}\); close the connection"
    ):
        decode((coding,), coded)


def test_an_error_is_for_good_and_says_whose_doing_it_was() -> None:
    for side in (Side.UPSTREAM, Side.CLIENT):
        decoder = Decoder(("gzip",), side=side)
        decoder.feed(TEXT)
        with pytest.raises(CodingError, match="content coded with gzip: malformed") as first:
            decoder.more()
        assert first.value.side is side
        assert fault(decoder.more) is first.value
        assert fault(decoder.finish) is first.value
        with pytest.raises(CodingError):
            decoder.feed(b"x")


def test_pieces_that_wait_must_be_taken_before_the_end() -> None:
    decoder = Decoder(("gzip",))
    decoder.feed(gzip.compress(bytes(PIECE + 1)))
    for _ in range(2):
        with pytest.raises(InterceptError, match="pieces are waiting") as caught:
            decoder.finish()
        assert caught.value.kind == "internal"
        assert decoder.more()
    decoder.more()
    decoder.finish()


@pytest.mark.parametrize("end", [gzip.compress(b""), bytes(PIECE * 2)])
def test_what_follows_the_last_piece_of_gzip_is_still_judged(end: bytes) -> None:
    coded = gzip.compress(bytes(PIECE)) + end
    assert decode(("gzip",), coded) == bytes(PIECE)
    with pytest.raises(CodingError):
        decode(("gzip",), coded, b"x")


Change = tuple[int, bytes, int]
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)), max_size=3)


def changed(data: bytes, changes: Iterable[Change]) -> bytes:
    for at, put, gone in changes:
        data = data[:at] + put + data[at + gone :]
    return data


def outcome(codings: Sequence[str], parts: Iterable[bytes]) -> bytes | None:
    try:
        return decode(codings, *parts)
    except CodingError:
        return None


@pytest.mark.parametrize(("codings", "coded"), WITH_AN_END)
@given(changes=CHANGES)
def test_a_changed_stream_is_judged_alike_whole_and_in_single_bytes(
    codings: Sequence[str], coded: bytes, changes: list[Change]
) -> None:
    data = changed(coded, changes)
    assert outcome(codings, [data]) == outcome(codings, singles(data))


@given(
    codings=st.lists(st.sampled_from(CODINGS), min_size=1, max_size=4),
    head=st.sampled_from([b"", b"\x1f\x8b\x08\0\0\0\0\0\0\3", b"\x28\xb5\x2f\xfd", b"\x78\x9c", b"\x0b"]),
    parts=st.lists(st.binary(max_size=300), max_size=4),
)
def test_any_bytes_are_content_or_a_coding_error(codings: list[str], head: bytes, parts: list[bytes]) -> None:
    outcome(codings, [head, *parts])


@pytest.mark.parametrize("coding", CODINGS)
@given(changes=CHANGES, limit=st.integers(0, 3 * PIECE), ratio=st.sampled_from([1, 20, MAX_RATIO, 1e9]))
def test_no_change_makes_a_stream_give_more_than_its_bounds(
    coding: str, changes: list[Change], limit: int, ratio: float
) -> None:
    coded = changed(shrunk(coding, 2 * PIECE), changes)
    decoder = Decoder((coding,), ratio=ratio, limit=limit)
    given_so_far = 0
    with suppress(CodingError):
        for piece in pieces_of(decoder, coded):
            given_so_far += len(piece)
            assert given_so_far <= limit


@cache
def shrunk(coding: str, size: int) -> bytes:
    """Zeros, which every coding shrinks most."""
    return CODE[coding](bytes(size))


# -- bombs ---------------------------------------------------------------------------------------------------------


@cache
def endless() -> tuple[bytes, bytes]:
    """The beginning of a gzip stream, and 16 KiB that stand for 16 MiB of zeros however often they are repeated."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    begin = stream.compress(b"") + stream.flush(zlib.Z_FULL_FLUSH)
    return begin, stream.compress(bytes(16 * MIB)) + stream.flush(zlib.Z_FULL_FLUSH)


def ten_gib() -> bytes:
    begin, block = endless()
    return begin + block * 640


def stopped(decoder: Decoder, parts: Iterable[bytes], memory: int) -> tuple[CodingError | None, int, int]:
    """Say what stopped the decoder, and how much it gave of how much; *memory* is what it may need, in bytes."""
    fed = got = 0

    def run() -> None:
        nonlocal fed, got
        for part in parts:
            fed += len(part)
            for piece in pieces_of(decoder, part):
                got += len(piece)

    tracemalloc.start()
    try:
        error = fault(run)
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    return error, got, fed


def test_ten_gib_of_zeros_are_stopped_after_one_mib() -> None:
    data = ten_gib()
    error, got, fed = stopped(Decoder(("gzip",)), (data[at : at + 100] for at in range(0, len(data), 100)), MIB)
    assert isinstance(error, BombError)
    assert str(error) == "content coded with gzip: gives more than 200 times what it takes; close the connection"
    assert error.kind == "bomb"
    assert RATIO_FLOOR - PIECE <= got <= RATIO_FLOOR
    assert fed < 2048


def test_without_a_ratio_ten_gib_are_stopped_at_the_limit_and_never_held() -> None:
    limit = 64 * MIB
    data = ten_gib()
    error, got, _ = stopped(Decoder(("gzip",), ratio=1e9, limit=limit), [data], len(data) + MIB)
    assert isinstance(error, BombError)
    assert error.what == f"gives more than {limit} bytes"
    assert limit - PIECE <= got <= limit


def test_content_as_large_as_the_limit_passes_and_one_byte_more_does_not() -> None:
    for coding in (*CODINGS, IDENTITY):
        for size in (100_000, 100, 0):
            decoder = Decoder((coding,), limit=size)
            assert sum(len(piece) for piece in pieces_of(decoder, CODE[coding](bytes(size)))) == size
            decoder.finish()
            with pytest.raises(BombError):
                list(pieces_of(Decoder((coding,), limit=size), CODE[coding](bytes(size + 1))))


def test_content_without_a_coding_has_a_limit_too() -> None:
    with pytest.raises(BombError, match="content coded with identity: gives more than 3 bytes"):
        list(pieces_of(Decoder((), limit=3), b"abcd"))


def test_a_ratio_is_judged_above_its_floor_only() -> None:
    for coding in CODINGS:
        assert decode((coding,), shrunk(coding, RATIO_FLOOR)) == bytes(RATIO_FLOOR)
        with pytest.raises(BombError):
            decode((coding,), shrunk(coding, RATIO_FLOOR + 1))


def test_a_ratio_is_kept_exactly() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    coded = stream.compress(Random(1).randbytes(MIB)) + stream.compress(bytes(20 * MIB)) + stream.flush()
    ratio = 21 * MIB / len(coded)
    assert len(b"".join(pieces_of(Decoder(("gzip",), ratio=ratio), coded))) == 21 * MIB
    with pytest.raises(BombError):
        list(pieces_of(Decoder(("gzip",), ratio=ratio * 0.999), coded))


@pytest.mark.parametrize("codings", [("br",), ("zstd",), ("deflate",), ("br", "zstd"), ("zstd", "gzip", "br")])
def test_zeros_in_every_coding_are_stopped_in_bounded_memory(codings: Sequence[str]) -> None:
    coded = shrunk(codings[0], 64 * MIB)
    for coding in codings[1:]:
        coded = CODE[coding](coded)
    error, got, _ = stopped(Decoder(codings), [coded], len(coded) + MIB)
    assert isinstance(error, BombError)
    assert got <= MAX_RATIO * PIECE


def test_ten_gib_in_gzip_in_gzip_in_gzip_are_stopped_at_every_depth() -> None:
    coded = ten_gib()
    for depth in (2, 3, 4):
        coded = gzip.compress(coded, 9 if depth == 2 else 1)
        error, got, _ = stopped(Decoder(("gzip",) * depth), [coded], len(coded) + MIB)
        assert isinstance(error, BombError)
        assert got <= max(RATIO_FLOOR, MAX_RATIO * PIECE)


def test_what_an_outer_coding_gives_counts_though_the_inner_one_swallows_it() -> None:
    swallowed = SKIPPED[:4] + (40 * MIB).to_bytes(4, "little") + bytes(40 * MIB)
    assert decode(("zstd",), swallowed) == b""
    with pytest.raises(BombError):
        decode(("zstd", "gzip"), gzip.compress(swallowed, 1))


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_million_empty_members_are_a_bomb_and_small_ones_are_not(coding: str) -> None:
    empty = CODE[coding](b"")
    assert decode((coding, "gzip"), gzip.compress(empty * 500)) == b""
    with pytest.raises(BombError):
        decode((coding, "gzip"), gzip.compress(empty * 1_000_000, 1))
    assert decode((coding,), CODE[coding](b"data: 1\n\n") * 5_000) == b"data: 1\n\n" * 5_000


def test_nine_bytes_are_too_few_for_a_frame() -> None:
    frames = zstd.compress(b"") * 2000
    assert len(frames) == 18_000
    with pytest.raises(BombError):
        decode(("zstd",), frames)


def test_a_zstd_window_of_8_mib_is_the_largest() -> None:
    data = content(10 * MIB, "text")
    for log, passes in ((MAX_WINDOW_LOG, True), (MAX_WINDOW_LOG + 1, False)):
        stream = zstd.ZstdCompressor(options={PARAMETER.compression_level: 1, PARAMETER.window_log: log})
        coded = stream.compress(data) + stream.flush()
        if passes:
            assert decode(("zstd",), coded) == data
        else:
            with pytest.raises(CodingError, match="too much memory"):
                decode(("zstd",), coded)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_caller_can_stop_in_the_middle_and_go_on_later(coding: str) -> None:
    data = content(MIB, "text")
    decoder = Decoder((coding,))
    decoder.feed(CODE[coding](data))
    tracemalloc.start()
    try:
        first = decoder.more()
        assert tracemalloc.get_traced_memory()[1] < 8 * PIECE
    finally:
        tracemalloc.stop()
    assert 0 < len(first) <= PIECE
    decoder.feed(b"")
    assert first + b"".join(iter(decoder.more, b"")) == data
    decoder.finish()


@pytest.mark.parametrize("codings", [("compress",), ("gzip", "aws-chunked"), ("gzip;q=1",), ("",)])
def test_a_coding_nobody_knows_is_named(codings: Sequence[str]) -> None:
    with pytest.raises(UnknownCoding, match="is not one of zstd, br, gzip, deflate; let it pass unseen") as caught:
        Decoder(codings, side=Side.CLIENT)
    assert caught.value.coding == codings[-1]
    assert (caught.value.kind, caught.value.side) == ("unknown_coding", Side.CLIENT)
    with pytest.raises(UnknownCoding):
        Encoder(codings[-1])


def test_the_name_of_a_coding_does_not_fill_the_log() -> None:
    with pytest.raises(UnknownCoding) as caught:
        Decoder(("x" * 5000,))
    assert len(str(caught.value)) < 200


def test_five_codings_in_a_row_are_refused() -> None:
    with pytest.raises(CodingError, match="5 codings in a row"):
        Decoder(("gzip",) * 5)
