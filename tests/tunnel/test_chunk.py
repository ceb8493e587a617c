"""The chunked coding: what it carries, where it ends, and everything that must not pass for it (RFC 9112 7.1)."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import InterceptError, MessageError, ResponseError
from sslintercept.tunnel import chunk
from sslintercept.tunnel.chunk import (
    LAST,
    MAX_EXTENSION,
    MAX_TRAILERS,
    NOT_IN_TRAILERS,
    ChunkDecoder,
    ChunkVerifier,
    encode,
    last,
)

NEXT = b"GET / HTTP/1.1\r\n"

GOOD = [  # the body, its content, its trailers
    pytest.param(b"0\r\n\r\n", b"", [], id="empty (7.1)"),
    pytest.param(b"5\r\nhello\r\n0\r\n\r\n", b"hello", [], id="one chunk (7.1)"),
    pytest.param(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", [], id="two chunks (7.1)"),
    pytest.param(b"0000000000000002\r\nab\r\n0000\r\n\r\n", b"ab", [], id="leading zeros (7.1)"),
    pytest.param(
        b"0000000000000002\r\nab\r\n0000000000000001\r\nc\r\n0\r\n\r\n", b"abc", [], id="16 digits twice (7.1)"
    ),
    pytest.param(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, [], id="both cases (7.1)"),
    pytest.param(b'1;a=b\r\nx\r\n1 ; c="d;\\"e"\r\ny\r\n0;last\r\n\r\n', b"xy", [], id="extensions (7.1.1)"),
    pytest.param(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", [], id="line ends as content (7.1)"),
    pytest.param(
        b"0\r\nDigest: abc\r\nEmpty:\r\n\r\n", b"", [(b"Digest", b"abc"), (b"Empty", b"")], id="trailers (7.1.2)"
    ),
    pytest.param(b"1\r\nx\r\n0\r\na:\t\xe4 \r\n\r\n", b"x", [(b"a", b"\xe4")], id="obs-text in a trailer (7.1.2)"),
]

BAD = [  # what is broken is broken at its last byte and not earlier
    pytest.param(b"\r", id="no digits (7.1)"),
    pytest.param(b";", id="an extension without a size (7.1)"),
    pytest.param(b"g", id="no hexadecimal digit (7.1)"),
    pytest.param(b"-", id="a sign (7.1)"),
    pytest.param(b"0x", id="a prefix (7.1)"),
    pytest.param(b"1_", id="an underscore (7.1)"),
    pytest.param(b" ", id="white space before the size (7.1)"),
    pytest.param(b"5\n", id="a bare LF after the size (2.2)"),
    pytest.param(b"5\rx", id="a bare CR after the size (2.2)"),
    pytest.param(b"5\r\r", id="two CR after the size (2.2)"),
    pytest.param(b"5 \r", id="white space after the size (7.1)"),
    pytest.param(b"5         ", id="much white space after the size (7.1.1)"),
    pytest.param(b"5;a\n", id="a bare LF in an extension (7.1.1)"),
    pytest.param(b"5;a\rb", id="a bare CR in an extension (7.1.1)"),
    pytest.param(b"5;a\0", id="NUL in an extension (7.1.1)"),
    pytest.param(b"5;a\x7f", id="DEL in an extension (7.1.1)"),
    pytest.param(b"5;" + b"a" * (MAX_EXTENSION - 8), id="a long extension (7.1.1)"),
    pytest.param(b"00000000000000001", id="17 digits (7.1)"),
    pytest.param(b"4000000000000001\r\n", id="above 2**62 (7.1)"),
    pytest.param(b"ffffffffffffffff\r\n", id="would wrap (7.1)"),
    pytest.param(b"2\r\nabc", id="data longer than its size (7.1)"),
    pytest.param(b"2\r\nab\n", id="a bare LF after data (7.1)"),
    pytest.param(b"2\r\nab\r\r", id="no LF after data (7.1)"),
    pytest.param(b"2\r\nab\r\n\r", id="an empty line for a size (7.1)"),
    pytest.param(b"0\r\n\n", id="a bare LF at the end (7.1)"),
    pytest.param(b"0\r\n\rX", id="a bare CR at the end (7.1)"),
    pytest.param(b"0\r\n:", id="a trailer without a name (5.1)"),
    pytest.param(b"0\r\na ", id="white space before the colon of a trailer (5.1)"),
    pytest.param(b"0\r\n ", id="a folded trailer (5.2)"),
    pytest.param(b"0\r\na: b\r\n\t", id="a folded trailer after another (5.2)"),
    pytest.param(b"0\r\na\r", id="a trailer without a colon (5.1)"),
    pytest.param(b"0\r\na: b\n", id="a bare LF after a trailer (2.2)"),
    pytest.param(b"0\r\na: \0", id="NUL in a trailer (9110 5.5)"),
    pytest.param(b"0\r\nContent-Length: 5\r\n", id="framing in a trailer (9110 6.5.1)"),
    pytest.param(b"0\r\ntransfer-ENCODING: chunked\r\n", id="a coding in a trailer (9110 6.5.1)"),
    pytest.param(b"0\r\nConnection: close\r\n", id="hop-by-hop in a trailer (9110 7.6.1)"),
]


def decode(*parts: bytes) -> tuple[bytes, int, ChunkDecoder]:
    decoder, content, consumed = ChunkDecoder(), [], 0
    for part in parts:
        pieces, taken = decoder.feed(part)
        content += [bytes(piece) for piece in pieces]
        consumed += taken
        assert taken == len(part) or decoder.done
    return b"".join(content), consumed, decoder


@pytest.mark.parametrize(("body", "content", "trailers"), GOOD)
def test_a_body_is_read_whole_at_every_cut_and_in_single_bytes(
    body: bytes, content: bytes, trailers: list[tuple[bytes, bytes]]
) -> None:
    data = body + NEXT
    splits = [[data[:cut], data[cut:]] for cut in range(len(data) + 1)]
    for parts in [[data], [data[at : at + 1] for at in range(len(data))], *splits]:
        got, consumed, decoder = decode(*parts)
        assert (got, consumed, decoder.trailers, decoder.done) == (content, len(body), trailers, True)
        verifier = ChunkVerifier()
        assert sum(verifier.feed(part) for part in parts) == len(body)
        assert verifier.done
        assert verifier.trailers == trailers


@pytest.mark.parametrize("body", BAD)
def test_what_others_may_read_differently_is_broken_at_that_byte_however_it_comes(body: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        ChunkVerifier().feed(body)
    assert caught.value.status == 400
    for cut in range(len(body)):
        verifier = ChunkVerifier()
        assert verifier.feed(body[:cut]) == cut
        with pytest.raises(MessageError):
            verifier.feed(body[cut:])
    verifier = ChunkVerifier()
    for at in range(len(body) - 1):
        assert verifier.feed(body[at : at + 1]) == 1
    with pytest.raises(MessageError):
        verifier.feed(body[-1:])


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_line_end_after_data_may_come_in_two_parts_and_is_still_judged(cut: int) -> None:
    body = b"1\r\nx\r\n"
    verifier = ChunkVerifier()
    assert verifier.feed(body[: 3 + cut]) == 3 + cut
    assert verifier.feed(body[3 + cut :] + b"0\r\n\r\nX") == len(body) - 3 - cut + 5
    assert verifier.done


def test_an_error_is_for_good() -> None:
    verifier = ChunkVerifier()
    with pytest.raises(MessageError):
        verifier.feed(b"x")
    with pytest.raises(MessageError, match="after an error"):
        verifier.feed(LAST)
    assert not verifier.done


def test_after_its_end_a_body_takes_nothing() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(LAST + NEXT) == ([], len(LAST))
    assert decoder.feed(NEXT) == ([], 0)


def test_an_empty_read_changes_nothing() -> None:
    verifier = ChunkVerifier()
    assert verifier.feed(b"") == 0
    assert verifier.feed(LAST) == len(LAST)


def test_a_trailer_section_of_8_kib_passes_and_one_byte_more_does_not() -> None:
    for line in (b"a: %b\r\n", b"b: c\r\na: %b\r\n"):
        room = MAX_TRAILERS - len(line % b"") - 2
        full = b"0\r\n" + line % (b"x" * room) + b"\r\n"
        assert ChunkVerifier().feed(full) == len(full)
        over = b"0\r\n" + line % (b"x" * (room + 1)) + b"\r\n"
        for parts in ([over], [over[:1000], over[1000:]], [over[:-1], over[-1:]]):
            verifier = ChunkVerifier()
            with pytest.raises(MessageError):
                [verifier.feed(part) for part in parts]


def test_a_trailer_line_without_end_is_refused_at_8_kib() -> None:
    with pytest.raises(MessageError):
        ChunkVerifier().feed(b"0\r\na: " + b"x" * MAX_TRAILERS)


class Counting:
    """A pattern that counts what it was asked to look at."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern
        self.looked_at = 0

    def fullmatch(self, data: bytes) -> re.Match[bytes] | None:
        self.looked_at += len(data)
        return self.pattern.fullmatch(data)


@pytest.mark.parametrize("line", [b"a:%b\r\n" % (b"x" * 8000), b"%b:\r\n" % (b"a" * 8000)])
def test_a_long_trailer_in_single_bytes_is_looked_at_only_once(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    counting = Counting(chunk._TRAILER_BEGUN)
    monkeypatch.setattr(chunk, "_TRAILER_BEGUN", counting)
    body = b"0\r\n" + line + b"\r\n"
    verifier = ChunkVerifier()
    assert sum(verifier.feed(body[at : at + 1]) for at in range(len(body))) == len(body)
    assert verifier.trailers == [(line.partition(b":")[0], line.partition(b":")[2].strip())]
    assert len(line) < counting.looked_at < 4 * len(line)


def test_a_broken_body_raises_what_its_owner_asked_for() -> None:
    for error, status in ((MessageError, 400), (ResponseError, 502)):
        for reader in (ChunkVerifier(error), ChunkDecoder(error)):
            with pytest.raises(MessageError) as caught:
                reader.feed(b"x")
            assert type(caught.value) is error
            assert caught.value.status == status


def test_pieces_of_a_memoryview_are_views_of_it() -> None:
    data = bytearray(b"3\r\nabc\r\n0\r\n\r\n")
    (piece,), consumed = ChunkDecoder().feed(memoryview(data))
    assert consumed == len(data)
    assert isinstance(piece, memoryview)
    data[3:6] = b"xyz"
    assert bytes(piece) == b"xyz"


def test_a_chunk_of_2_to_the_62_is_the_largest() -> None:
    verifier = ChunkVerifier()
    assert verifier.feed(b"4000000000000000\r\n") == 18
    assert verifier.feed(bytes(65536)) == 65536


def test_nothing_makes_no_chunk() -> None:
    assert encode(b"") == []


def test_without_trailers_the_last_chunk_is_the_plain_one() -> None:
    assert last([]) == LAST


def test_trailers_are_written_in_order() -> None:
    assert last([(b"grpc-status", b"0"), (b"grpc-message", b"")]) == b"0\r\ngrpc-status: 0\r\ngrpc-message: \r\n\r\n"


@pytest.mark.parametrize("trailer", [(b"a", b"b\r\nc: d"), (b"a:", b"b"), (b"", b"b"), (b"a", b"\0"), (b"Host", b"a")])
def test_a_trailer_that_would_be_misread_is_not_written(trailer: tuple[bytes, bytes]) -> None:
    with pytest.raises(InterceptError):
        last([trailer])


NAMES = st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True).filter(
    lambda name: name.lower() not in NOT_IN_TRAILERS
)
VALUES = st.from_regex(
    rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]{0,12}[\x21-\x7e\x80-\xff])?)?", fullmatch=True
)


@given(
    chunks=st.lists(st.binary(max_size=40), max_size=6),
    trailers=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_decoding_undoes_encoding_whatever_the_cuts(
    chunks: list[bytes], trailers: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    body = b"".join(bytes(piece) for chunk in chunks for piece in encode(chunk)) + last(trailers)
    data, edges = body + NEXT, sorted({0, *(min(cut, len(body) + len(NEXT)) for cut in cuts), len(body) + len(NEXT)})
    parts = [data[a:b] for a, b in pairwise(edges)]
    content, consumed, decoder = decode(*parts)
    assert (content, consumed, decoder.trailers) == (b"".join(chunks), len(body), trailers)
    assert decoder.done


@given(st.lists(st.sampled_from([b"0", b"1", b"a", b"\r\n", b"\r", b"\n", b";", b" ", b":", b"x"]), max_size=12))
def test_any_bytes_are_judged_alike_whole_and_in_single_bytes(parts: list[bytes]) -> None:
    def outcome(pieces: list[bytes]) -> object:
        verifier = ChunkVerifier()
        try:
            return sum(verifier.feed(piece) for piece in pieces), verifier.done
        except MessageError:
            return "broken"

    data = b"".join(parts)
    assert outcome([data]) == outcome([data[at : at + 1] for at in range(len(data))])


@pytest.mark.parametrize(
    ("end", "extension"),
    [
        (b"0\r\n\r\n", b""),
        (b"0; ieof\r\n\r\n", b"ieof"),
        (b"00 ;\tuse-original-body=17 \r\n\r\n", b"use-original-body=17"),
    ],
)
def test_what_stands_behind_the_last_size_is_told_at_every_cut(end: bytes, extension: bytes) -> None:
    body = b"1; of another chunk\r\nx\r\n" + end
    for at in range(len(body)):
        decoder = ChunkDecoder()
        decoder.feed(body[:at])
        decoder.feed(body[at:])
        assert decoder.done
        assert decoder.extension == extension
