"""Rows of stages: what is taken off in front of each, what is put on behind the last, and what the head says then."""

from __future__ import annotations

import gzip

import pytest

from sslintercept.testing.transform import Pipe, a_message, transformed
from sslintercept.transform.arrange import VALIDATORS, Bounds, Leave, Row, Sees, unvalidate
from sslintercept.transform.coding import CODINGS, IDENTITY, BombError, Decoder, Encoder, UnknownCoding
from sslintercept.transform.message import Message
from sslintercept.transform.recode import Chunk, Dechunk, Decode, Encode, Tap
from sslintercept.transform.stage import Null, Transform

BOUNDS = Bounds(200, 1024 * 1024)
BROWSER = [b"gzip, deflate, br, zstd"]


class Upper(Transform):
    def write(self, data: bytes) -> None:
        self.output.write(data.upper())


class Seen:
    """A reader that keeps what it saw."""

    def __init__(self) -> None:
        self.got = b""

    def write(self, data: bytes) -> None:
        self.got += data

    def finish(self, whole: bool) -> None:
        self.whole = whole


def response(coding: str = "", **fields: str) -> Message:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return a_message(status=200, of_response={**({"Content-Encoding": coding} if coding else {}), **named})


def chunked(coding: str = "") -> Message:
    fields = {"Transfer-Encoding": "chunked", **({"Content-Encoding": coding} if coding else {})}
    return a_message(method="POST", fields=fields)


def row_of(message: Message, *seen: Sees, accept: list[bytes] | None = None) -> Row:
    row = Row(message, BOUNDS, seen[0], BROWSER if accept is None else accept)
    for sees in seen:
        row.add(Upper(), sees)
    row.close()
    return row


def kinds(row: Row) -> list[type[Transform]]:
    return [type(stage) for stage in row.stages]


def encoded(coding: str, data: bytes) -> bytes:
    encoder = Encoder(coding)
    return encoder.feed(data) + encoder.finish()


def decoded(coding: str, data: bytes) -> bytes:
    return transformed(data, Decode(Decoder((coding,))))


# -- what stands in a row ------------------------------------------------------------------------------------------

C, D, X = Sees.CHUNKS, Sees.CODED, Sees.CONTENT
ROWS = [  # message, what the stages see, what stands there, raw chunks in and out
    (response(), [X], [Upper], False, False),
    (response(), [D], [Upper], False, False),
    (response("gzip"), [D], [Upper], False, False),
    (response("gzip"), [X], [Decode, Upper, Encode], False, False),
    (response("gzip"), [X, X], [Decode, Upper, Upper, Encode], False, False),
    (response("gzip"), [X, D], [Decode, Upper, Encode, Upper], False, False),
    (response("gzip"), [D, X, D, X], [Upper, Decode, Upper, Encode, Upper, Decode, Upper, Encode], False, False),
    (response(), [C], [Upper], False, False),
    (response("gzip"), [X, C], [Decode, Upper, Encode, Upper], False, False),
    (chunked(), [C], [Upper], True, True),
    (chunked(), [D], [Upper], False, False),
    (chunked(), [X], [Upper], False, False),
    (chunked(), [C, D], [Upper, Dechunk, Upper], True, False),
    (chunked(), [D, C], [Upper, Chunk, Upper], False, True),
    (chunked("gzip"), [C, X], [Upper, Dechunk, Decode, Upper, Encode], True, False),
    (chunked("gzip"), [X, C], [Decode, Upper, Encode, Chunk, Upper], False, True),
    (chunked("gzip"), [C, X, C], [Upper, Dechunk, Decode, Upper, Encode, Chunk, Upper], True, True),
    (a_message(method="POST", fields={"Content-Length": "5"}), [C], [Upper], False, False),
]


@pytest.mark.parametrize(("message", "seen", "stages", "raw_in", "raw_out"), ROWS)
def test_between_two_levels_stands_what_leads_from_one_to_the_other(
    message: Message, seen: list[Sees], stages: list[type[Transform]], raw_in: bool, raw_out: bool
) -> None:
    row = row_of(message, *seen)
    assert kinds(row) == stages
    assert (row.raw_in, row.raw_out) == (raw_in, raw_out)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_goes_through_its_row_and_leaves_as_it_came(coding: str) -> None:
    message = response(coding)
    got = transformed(encoded(coding, b"hello"), *row_of(message, Sees.CONTENT).stages)
    assert decoded(coding, got) == b"HELLO"
    assert message.all(b"Content-Encoding") == [coding.encode()]


def test_several_codings_are_all_taken_off_and_one_is_put_on() -> None:
    message = response("gzip, br")
    body = encoded("br", gzip.compress(b"hello"))
    got = transformed(body, *row_of(message, Sees.CONTENT).stages)
    assert message.get(b"Content-Encoding") == b"br"
    assert decoded("br", got) == b"HELLO"


def test_raw_chunks_reach_a_stage_and_the_next_sees_what_is_in_them() -> None:
    seen = Seen()
    row = Row(chunked("gzip"), BOUNDS, Sees.CHUNKS)
    row.add(Null(), Sees.CHUNKS)
    row.read(seen)
    row.close()
    body = gzip.compress(b"hello")
    assert transformed(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), *row.stages) == body
    assert seen.got == b"hello"
    assert (row.raw_in, row.raw_out) == (True, False)


def test_a_reader_sees_content_while_coded_bytes_pass() -> None:
    message, seen = response("gzip", ETag='"1"'), Seen()
    row = Row(message, BOUNDS, Sees.CONTENT, BROWSER)
    row.read(seen)
    row.close()
    body = gzip.compress(b"hello")
    assert kinds(row) == [Tap]
    assert transformed(body, *row.stages) == body
    assert (seen.got, seen.whole) == (b"hello", True)
    assert message.head.fields == [(b"Content-Encoding", b"gzip"), (b"ETag", b'"1"')]


def test_a_reader_behind_a_stage_sees_what_that_made() -> None:
    seen = Seen()
    row = Row(response("gzip"), BOUNDS, Sees.CONTENT, BROWSER)
    row.add(Upper(), Sees.CONTENT)
    row.read(seen)
    row.close()
    assert kinds(row) == [Decode, Upper, Tap, Encode]
    transformed(gzip.compress(b"hello"), *row.stages)
    assert seen.got == b"HELLO"


def test_a_bomb_is_stopped_at_the_bounds_of_the_row_by_stages_and_readers() -> None:
    body = gzip.compress(bytes(2 * 1024 * 1024))
    staged = Row(response("gzip"), BOUNDS, Sees.CONTENT)
    staged.add(Null(), Sees.CONTENT)
    read = Row(response("gzip"), BOUNDS, Sees.CONTENT)
    read.read(Seen())
    for row in (staged, read):
        pipe = Pipe(*row.stages)
        pipe.send(body)
        assert isinstance(pipe.error, BombError)


def test_a_piece_of_coded_content_is_seen_as_it_is() -> None:
    message = a_message(status=206, of_response={"Content-Encoding": "gzip", "ETag": '"1"'})
    assert kinds(row_of(message, Sees.CONTENT)) == [Upper]
    assert message.all(b"Content-Encoding") == [b"gzip"]


def test_a_coding_nobody_knows_cannot_be_in_a_row() -> None:
    with pytest.raises(UnknownCoding):
        row_of(response("compress"), Sees.CONTENT)
    assert kinds(row_of(response("compress"), Sees.CODED)) == [Upper]


# -- what the receiver gets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "came", "leaves"),
    [
        ([b"gzip, deflate, br, zstd"], "gzip", b"gzip"),
        ([b"br"], "gzip", b"br"),
        ([b"gzip;q=0"], "gzip", None),
        ([b"identity"], "gzip", None),
        ([b"*;q=0"], "gzip", None),
        ([b""], "gzip", None),
        ([], "gzip", b"gzip"),
    ],
)
def test_a_client_gets_a_coding_that_it_accepts(accept: list[bytes], came: str, leaves: bytes | None) -> None:
    message = response(came)
    row = row_of(message, Sees.CONTENT, accept=accept)
    assert message.get(b"Content-Encoding") == leaves
    assert message.get(b"Vary") == b"Accept-Encoding"
    got = transformed(encoded(came, b"hello"), *row.stages)
    assert (decoded(leaves.decode(), got) if leaves else got) == b"HELLO"


def test_an_origin_gets_the_coding_that_the_client_had_used() -> None:
    message = a_message(method="POST", fields={"Content-Length": "30", "Content-Encoding": "deflate, gzip"})
    row = row_of(message, Sees.CONTENT, accept=[b"br"])
    assert message.get(b"Content-Encoding") == b"gzip"
    assert message.get(b"Vary") is None
    assert kinds(row) == [Decode, Upper, Encode]


@pytest.mark.parametrize(
    ("vary", "then"),
    [
        (None, [b"Accept-Encoding"]),
        ("Origin", [b"Origin", b"Accept-Encoding"]),
        ("Origin, accept-encoding", [b"Origin, accept-encoding"]),
        ("*", [b"*"]),
    ],
)
def test_vary_says_once_that_the_coding_depends_on_the_client(vary: str | None, then: list[bytes]) -> None:
    message = response("gzip", **({} if vary is None else {"Vary": vary}))
    row_of(message, Sees.CONTENT)
    assert message.all(b"Vary") == then


def test_what_came_without_a_coding_leaves_without_one() -> None:
    message = response(ETag='"1"')
    row_of(message, Sees.CONTENT)
    assert message.head.fields == [(b"ETag", b'"1"')]


# -- codings that a transform decides about ------------------------------------------------------------------------


def left(message: Message, *codings: str, accept: list[bytes] | None = None) -> Row:
    row = Row(message, BOUNDS, Sees.CONTENT, BROWSER if accept is None else accept)
    row.add(Leave(*codings), Sees.CONTENT)
    row.close()
    return row


def test_a_body_leaves_without_its_coding() -> None:
    message = response("gzip", ETag='"1"')
    row = left(message, IDENTITY)
    assert kinds(row) == [Decode]
    assert transformed(gzip.compress(b"hello"), *row.stages) == b"hello"
    assert message.head.fields == [(b"ETag", b'W/"1"')]


@pytest.mark.parametrize(
    ("accept", "leaves"),
    [
        ([b"gzip, br, zstd"], b"br"),
        ([b"gzip, br;q=0.5"], b"gzip"),
        ([b"zstd"], None),
        ([b"identity, *"], b"br"),
        ([b"identity, br;q=0.5"], None),
        ([], None),
    ],
)
def test_a_body_leaves_with_a_coding_by_the_clients_liking(accept: list[bytes], leaves: bytes | None) -> None:
    message = response(ETag='"1"')
    row = left(message, "br", "gzip", accept=accept)
    assert message.get(b"Content-Encoding") == leaves
    assert message.get(b"Vary") == b"Accept-Encoding"
    got = transformed(b"hello", *(row.stages or [Null()]))
    assert (decoded(leaves.decode(), got) if leaves else got) == b"hello"
    assert message.get(b"ETag") == (b'W/"1"' if leaves else b'"1"')


def test_what_follows_a_decision_about_the_coding_still_sees_content() -> None:
    message, seen = response("gzip"), Seen()
    row = Row(message, BOUNDS, Sees.CONTENT, BROWSER)
    row.add(Leave(IDENTITY), Sees.CONTENT)
    row.add(Upper(), Sees.CONTENT)
    row.add(Null(), Sees.CODED)
    row.read(seen)
    row.close()
    assert transformed(gzip.compress(b"hello"), *row.stages) == b"HELLO"
    assert seen.got == b"HELLO"
    assert message.get(b"Content-Encoding") is None


def test_a_request_leaves_with_the_first_coding() -> None:
    message = a_message(method="POST", fields={"Content-Length": "30", "Content-Encoding": "gzip"})
    row = left(message, IDENTITY)
    assert transformed(gzip.compress(b"hello"), *row.stages) == b"hello"
    assert message.get(b"Content-Encoding") is None


# -- validators ----------------------------------------------------------------------------------------------------


def test_what_was_said_about_other_bytes_is_taken_back() -> None:
    spelled = {name.decode().title(): "x" for name in VALIDATORS}
    message = a_message(status=200, of_response={**spelled, "ETag": '"1"', "Last-Modified": "x", "Content-Length": "1"})
    unvalidate(message)
    assert message.head.fields == [(b"ETag", b'W/"1"'), (b"Last-Modified", b"x")]
    assert message.length == 1
    unvalidate(message)
    assert message.get(b"ETag") == b'W/"1"'


def test_a_length_is_taken_back_where_it_is_only_spoken_of() -> None:
    message = a_message(method="HEAD", status=200, of_response={"Content-Length": "5", "X": "y"})
    unvalidate(message)
    assert message.get(b"Content-Length") == b"5"
    unvalidate(message, with_length=True)
    assert message.head.fields == [(b"X", b"y")]


def test_recoding_weakens_validators_though_nothing_else_changes() -> None:
    message = response("gzip", ETag='"1"', Digest="x")
    row_of(message, Sees.CONTENT)
    assert message.get(b"ETag") == b'W/"1"'
    assert message.get(b"Digest") is None
    coded = response("gzip", ETag='"1"')
    row_of(coded, Sees.CODED)
    assert coded.get(b"ETag") == b'"1"'


def test_a_row_with_one_coding_put_on_is_one_that_encodes() -> None:
    assert kinds(left(response(), "gzip")) == [Encode]
