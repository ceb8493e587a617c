"""Heads of HTTP as services write them, well or badly."""

from __future__ import annotations

import pytest

from sslintercept.errors import EngineError
from sslintercept.icap.head import LONGEST_VALUE, MOST_FIELDS, read


def test_a_response_has_a_status_a_length_and_fields_that_go_on() -> None:
    head = read(
        b"HTTP/1.1 403 Forbidden\r\nServer: C-ICAP\r\nConnection: close, X-Hop\r\nX-Hop: a\r\n"
        b"Content-Type:text/html\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\nVia: 1.0 it\r\n\r\n",
        "here",
    )
    assert (head.status, head.length) == (403, 12)
    assert head.fields == ((b"Server", b"C-ICAP"), (b"Content-Type", b"text/html"))


def test_a_request_has_a_method_and_a_target() -> None:
    head = read(b"POST http://a.test:80/b?c HTTP/1.1\r\nHost: a.test\r\nX-A: \tb \r\n\r\n", "here")
    assert (head.status, head.method, head.target, head.length) == (0, b"POST", b"http://a.test:80/b?c", None)
    assert head.fields == ((b"X-A", b"b"),)


def test_a_head_may_have_no_fields() -> None:
    assert read(b"HTTP/1.0 200 OK\r\n\r\n", "here").fields == ()


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (b"GET http://a.test/b", b"GET http://a.test/b", True),
        (b"GET http://a.test/b", b"GET /b", True),
        (b"GET http://a.test", b"GET http://A.test/", True),
        (b"GET http://a.test?q", b"GET /?q", True),
        (b"GET /b", b"POST /b", False),
        (b"GET /b", b"GET /c", False),
        (b"GET /b", b"GET /b?", False),
        (b"GET http://a.test/b", b"GET http://c.test/b", False),
        (b"GET http://a.test/b", b"GET https://a.test/b", False),
        (b"GET http://a.test/b", b"GET http://x@a.test/b", False),
        (b"OPTIONS *", b"OPTIONS *", True),
    ],
)
def test_requests_ask_the_same_or_something_else(one: bytes, two: bytes, same: bool) -> None:
    heads = [read(line + b" HTTP/1.1\r\n\r\n", "here") for line in (one, two)]
    assert heads[0].asks_as(heads[1]) is same
    assert heads[1].asks_as(heads[0]) is same


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"nonsense",
        b"GET / HTTP/1.1\r\nno field\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 600 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MOST_FIELDS + 1) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * LONGEST_VALUE + b"\r\n\r\n",
    ],
)
def test_what_is_no_head_is_named(head: bytes) -> None:
    with pytest.raises(EngineError) as raised:
        read(head, "here")
    assert raised.value.fault == "rubbish"
