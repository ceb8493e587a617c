"""Parts of every carrier as a service of ICAP sees them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.facts import Address
from sslintercept.icap.head import read
from sslintercept.icap.wire import Kind
from sslintercept.inspect.shipped.encapsulate import LONGEST_URL, asked
from sslintercept.transform.message import Direction

from .support import part

OUT, IN = Direction.REQUEST, Direction.RESPONSE


def shown(carrier: str, direction: Direction, **more: Any) -> tuple[list[str], list[str]]:
    """The lines of the heads of the request and of the response."""
    said = asked(part(carrier, direction, **more))
    return _lines(said.request), [] if said.response is None else _lines(said.response)


def _lines(head: bytes) -> list[str]:
    assert head.endswith(b"\r\n\r\n")
    return head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")


def test_a_part_of_http_is_shown_with_its_own_heads() -> None:
    get, ok = b"GET http://a.test/ HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    said = asked(part("http", IN, request_head=get, response_head=ok))
    assert (said.kind, said.request, said.response, said.keeps) == (Kind.RESPMOD, get, ok, True)
    said = asked(part("http", OUT, request_head=get))
    assert (said.kind, said.request, said.response) == (Kind.REQMOD, get, None)


def test_what_was_taken_out_of_one_has_no_heads_of_its_own() -> None:
    outer = part("http", IN, url="http://a.test/x.zip", request_head=b"GET ...", response_head=b"HTTP ...")
    said = asked(outer.member("member", "b.exe", "application/x-msdownload", 7))
    assert said.request.startswith(b"GET http://a.test/x.zip HTTP/1.1\r\nHost: a.test\r\n")
    assert b'filename="b.exe"' in (said.response or b"")


def test_a_file_by_ftp_comes_or_goes() -> None:
    request, response = shown("ftp", IN, kind="file", host="ftp.test", name="pub/a b.zip", length=9)
    assert request == ["GET ftp://ftp.test/pub/a%20b.zip HTTP/1.1", "Host: ftp.test"]
    assert response == [
        "HTTP/1.1 200 OK",
        "Content-Type: application/octet-stream",
        "Content-Length: 9",
        'Content-Disposition: attachment; filename="a b.zip"',
    ]
    request, response = shown("ftp", OUT, kind="file", host="ftp.test", name="/up/x.txt")
    assert request[0] == "PUT ftp://ftp.test/up/x.txt HTTP/1.1"
    assert 'Content-Disposition: attachment; filename="x.txt"' in request
    assert response == []


@pytest.mark.parametrize(("carrier", "scheme"), [("smtp", "smtp"), ("lmtp", "smtp"), ("pop3", "pop"), ("imap", "imap")])
def test_a_mail_is_a_mail(carrier: str, scheme: str) -> None:
    request, _ = shown(carrier, OUT, kind="message", host="mail.test")
    assert request[:2] == [f"POST {scheme}://mail.test/ HTTP/1.1", "Host: mail.test"]
    assert "Content-Type: message/rfc822" in request


def test_a_message_of_websocket_has_the_url_of_its_request() -> None:
    request, response = shown("websocket", IN, kind="message", url="wss://chat.test/room?a=b", media_type="text/plain")
    assert request[0] == "GET https://chat.test/room?a=b HTTP/1.1"
    assert response[1] == "Content-Type: text/plain"


def test_what_is_known_of_a_type_is_said() -> None:
    request, _ = shown("http", OUT, media_type="text/plain", charset="utf-8", url="http://a.test/b")
    assert "Content-Type: text/plain; charset=utf-8" in request
    request, _ = shown("http", OUT, sniffed="application/pdf", url="http://a.test/b")
    assert "Content-Type: application/pdf" in request


def test_hosts_may_be_addresses_or_nobody() -> None:
    assert shown("ftp", IN, host="2001:db8::1", name="a")[0][1] == "Host: [2001:db8::1]"
    assert shown("ftp", IN, name="a")[0][0] == "GET ftp://unknown.invalid/a HTTP/1.1"


def test_a_name_beyond_ascii_is_said_twice() -> None:
    _, response = shown("ftp", IN, host="a.test", name='dir\\größe "1".exe')
    assert response[-1] == (
        "Content-Disposition: attachment; filename=\"gr__e _1_.exe\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22.exe"
    )


@pytest.mark.parametrize(
    ("more", "ending"),
    [
        ({"name": "a.tar.GZ"}, "gz"),
        ({"name": "a"}, ""),
        ({"name": "a.b/c"}, ""),
        ({"name": "a." + "x" * 17}, ""),
        ({"url": "http://a.test/b/c.gif?d=e.f"}, "gif"),
        ({"url": "http://a.test"}, ""),
    ],
)
def test_the_ending_of_a_name_is_told_apart(more: dict[str, str], ending: str) -> None:
    assert asked(part("http", IN, **more)).extension == ending


def test_who_it_is_and_how_much_it_is_is_said() -> None:
    one = part("smtp", OUT, user="said", length=0)
    said = asked(one)
    assert (said.client, said.server, said.user, said.body, said.length) == ("192.0.2.9", "", "said", False, 0)
    one.facts.user, one.facts.upstream = "proved", Address("192.0.2.7", 25)
    one.length = None
    said = asked(one)
    assert (said.server, said.user, said.body, said.length) == ("192.0.2.7", "proved", True, None)


TEXT = st.text(max_size=40)


@given(
    st.sampled_from(["http", "websocket", "ftp", "smtp", "other"]),
    st.sampled_from([OUT, IN]),
    st.fixed_dictionaries(
        dict.fromkeys(("name", "url", "host", "media_type", "sniffed", "method"), TEXT), optional={"charset": TEXT}
    ),
)
def test_whatever_somebody_says_heads_are_heads(carrier: str, direction: Direction, more: dict[str, str]) -> None:
    said = asked(part(carrier, direction, **more))
    for head in (said.request, said.response):
        if head is not None:
            assert len(read(head, "here").fields) <= 2
            assert re.fullmatch(rb"(?:[\x20-\x7e]+\r\n)+\r\n", head)


def test_a_url_is_bounded() -> None:
    assert len(shown("http", IN, url="http://a.test/" + "x" * 20_000)[0][0]) <= LONGEST_URL + 20
