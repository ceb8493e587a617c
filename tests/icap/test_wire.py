"""Answers of ICAP, however they come; requests as they are written; and what is no answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import EngineError, InterceptError
from sslintercept.icap.wire import (
    MOST_ENCAPSULATED,
    MOST_FIELDS,
    MOST_HEAD,
    Kind,
    ReplyHead,
    ReplyReader,
    request,
)

from .support import CONTINUE, GET, NEW, OK, reply, told

PARTIAL = reply(206, NEW, None).replace(b"null-body", b"res-body") + b"3\r\nabc\r\n0; use-original-body=17\r\n\r\n"
ANSWERS = (
    (CONTINUE, (100, b"", None)),
    (told(), (200, b"", None)),
    (reply(204, None), (204, b"", None)),
    (reply(body=b"a body"), (200, b"a body", None)),
    (reply(body=None), (200, b"", None)),
    (reply(head=GET, body=b"", kind="req"), (200, b"", None)),
    (PARTIAL, (206, b"abc", 17)),
    (b"ICAP/1.0 404\r\nX-Long: a\r\n\tb\r\n c\r\n\r\n", (404, b"", None)),
)


def read(pieces: Sequence[bytes]) -> tuple[ReplyReader, bytes, bytes]:
    """The reader behind it all, the body, and what was left."""
    reader, body, left = ReplyReader("icap"), b"", b""
    for piece in pieces:
        found, taken = reader.feed(piece) if not reader.done else ([], 0)
        body += b"".join(bytes(one) for one in found)
        left += piece[taken:]
    return reader, body, left


def meaning(pieces: Sequence[bytes]) -> tuple[ReplyHead | None, bytes, int | None, bool, bytes]:
    reader, body, left = read(pieces)
    return reader.head, body, reader.original, reader.done, left


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_an_answer_means_the_same_at_every_cut(answer: bytes, expected: tuple[int, bytes, int | None]) -> None:
    once = meaning([answer + b"next"])
    assert once[0] is not None
    assert (once[0].status, once[1], once[2], once[3:]) == (*expected, (True, b"next"))
    for at in range(len(answer)):
        assert meaning([answer[:at], answer[at:] + b"next"]) == once
    assert meaning([*(answer[at : at + 1] for at in range(len(answer))), b"next"]) == once


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.data())
def test_a_chunked_body_comes_out_as_it_went_in(chunks: list[bytes], data: st.DataObject) -> None:
    answer = reply(body=b"")[:-5] + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert meaning(pieces)[1] == b"".join(chunks)


@given(st.binary(max_size=400), st.integers(0, len(PARTIAL)))
def test_rubbish_at_any_place_is_refused_or_awaited_and_nothing_else(noise: bytes, at: int) -> None:
    reader = ReplyReader("icap")
    with suppress(EngineError):
        reader.feed(PARTIAL[:at] + noise)
    assert len(reader._got) <= MOST_HEAD


def test_folded_lines_are_one_value_with_newlines() -> None:
    reader, _, _ = read([b"ICAP/1.0 204 x\r\nX-Violations-Found: 1\r\n\tfile\r\n\tworm\r\n\r\n"])
    assert reader.head is not None
    assert reader.head.value(b"x-violations-found") == b"1\nfile\nworm"


def encapsulated(value: str, status: int = 200) -> bytes:
    return f"ICAP/1.0 {status} x\r\nEncapsulated: {value}\r\n\r\n".encode() + NEW + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"S",
        b"ICAP/2.0 200 OK\r\n\r\n",
        b"ICAP/1.0 20 OK\r\n\r\n",
        b"ICAP/1.0 200 OK\r\nno field\r\n\r\n",
        b"ICAP/1.0 200 OK\r\nA: \0\r\n\r\n",
        b"ICAP/1.0 200 OK\nA: b\r\n\r\n",
        b"ICAP/1.0 200 OK\r\n" + b"A: b\r\n" * (MOST_FIELDS + 1) + b"\r\n",
        b"ICAP/1.0 200 OK\r\nA: " + b"b" * MOST_HEAD,
        b"ICAP/1.0 200 x\r\nEncapsulated: null-body=0\r\nEncapsulated: null-body=0\r\n\r\n",
        encapsulated("res-hdr=0"),
        encapsulated("res-hdr=0, res-body"),
        encapsulated("res-hdr=1, res-body=38"),
        encapsulated("res-hdr=0, res-body=0"),
        encapsulated(f"res-hdr=0, res-body={len(NEW) - 1}"),
        encapsulated(f"res-hdr=0, res-body={len(NEW) + 4}"),
        encapsulated(f"res-hdr=0, req-body={len(NEW)}"),
        encapsulated(f"req-hdr=0, res-hdr=10, res-body={len(NEW)}"),
        encapsulated(f"res-body={len(NEW)}, res-hdr=0"),
        encapsulated(f"res-hdr=0, res-body={MOST_ENCAPSULATED + 1}"),
        encapsulated("res-hdr=0, res-body=-1"),
        encapsulated("res-hdr=0, res-body=99999999999999999999"),
        encapsulated("res-body=0", 204),
        reply(body=b"abc").replace(b"3\r\n", b"zz\r\n"),
        PARTIAL.replace(b" 206 ", b" 200 "),
        PARTIAL.replace(b"=17", b"=-17"),
    ],
)
def test_what_is_no_answer_is_refused_and_stays_refused(answer: bytes) -> None:
    reader = ReplyReader("icap")
    with pytest.raises(EngineError) as error:
        reader.feed(answer)
    assert error.value.fault == "rubbish"
    with pytest.raises(EngineError):
        reader.feed(b"ICAP/1.0 200 OK\r\n\r\n")


def test_a_head_that_never_ends_is_refused_at_its_limit() -> None:
    reader = ReplyReader("icap")
    reader.feed(b"ICAP/1.0 200 OK\r\n" + b"A: b\r\n" * 10)
    lines = MOST_HEAD // 100
    for _ in range(lines - 1):
        reader.feed(b"A" * 98 + b"\r\n")
    with pytest.raises(EngineError):
        reader.feed(b"A" * 200)
    assert len(reader._got) <= MOST_HEAD + 4


def test_a_request_names_the_places_of_its_parts() -> None:
    written = request(
        Kind.RESPMOD,
        "icap://a.test/x",
        "a.test:1344",
        [(b"Allow", b"204")],
        [(b"req-hdr", GET), (b"res-hdr", OK)],
        True,
    )
    assert (
        written
        == (
            b"RESPMOD icap://a.test/x ICAP/1.0\r\nHost: a.test:1344\r\nAllow: 204\r\n"
            b"Encapsulated: req-hdr=0, res-hdr=%d, res-body=%d\r\n\r\n" % (len(GET), len(GET + OK))
        )
        + GET
        + OK
    )
    assert b"Encapsulated: req-hdr=0, null-body=%d\r\n" % len(GET) in request(
        Kind.REQMOD, "icap://a.test/x", "a.test", [], [(b"req-hdr", GET)], False
    )


@pytest.mark.parametrize("value", [b"a\r\nEvil: b", b"a\nb", b"\0"])
def test_a_value_that_would_be_another_field_is_not_written(value: bytes) -> None:
    with pytest.raises(InterceptError):
        request(Kind.REQMOD, "icap://a.test/x", "a.test", [(b"X-Authenticated-User", value)], [], False)
