"""The proxy's own responses: well framed, harmless, and told apart from an origin's."""

import json

import pytest
from httptools import HttpResponseParser

from sslintercept.errors import InterceptError
from sslintercept.http.head import find_end, read_response
from sslintercept.http.page import connect_established, page, prefers_json


def made(
    status: int = 502,
    *,
    what: str = "The name has no address.",
    accept: bytes = b"text/html",
    close: bool = False,
    head_only: bool = False,
    error: str = "dns_error",
    via_name: str = "gw",
) -> bytes:
    return page(
        status,
        title="Cannot reach the site",
        what=what,
        remedy="Check the name.",
        id="c42",
        accept=accept,
        close=close,
        head_only=head_only,
        error=error,
        via_name=via_name,
    )


def parsed(response: bytes) -> tuple[dict[bytes, bytes], bytes]:
    end = find_end(response)
    head = read_response(response[:end], b"GET")
    assert head.length == len(response) - end
    return {name.lower(): value for name, value in head.fields}, response[end:]


def test_a_page_is_one_complete_response() -> None:
    ends: list[bool] = []

    class Seen:
        def on_message_complete(self) -> None:
            ends.append(True)

    HttpResponseParser(Seen()).feed_data(made())
    assert ends == [True]


def test_a_page_says_what_happened_what_to_do_and_its_id() -> None:
    fields, body = parsed(made())
    assert fields[b"content-type"] == b"text/html; charset=utf-8"
    for text in (b"Cannot reach the site", b"The name has no address.", b"Check the name.", b"c42", b"502"):
        assert text in body


def test_a_page_is_not_stored_and_runs_nothing() -> None:
    fields, body = parsed(made())
    assert fields[b"cache-control"] == b"no-store"
    assert fields[b"content-security-policy"].startswith(b"default-src 'none'; style-src 'sha256-")
    assert b"<script" not in body


def test_proxy_status_names_the_proxy_and_the_error() -> None:
    fields, _ = parsed(made(error="connection_refused"))
    assert fields[b"proxy-status"] == b"gw; error=connection_refused"


def test_a_name_that_is_no_token_is_written_as_a_string() -> None:
    fields, _ = parsed(made(via_name='10 "a\\b"'))
    assert fields[b"proxy-status"] == rb'"10 \"a\\b\""; error=dns_error'


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "'\"&<>", "<img src=x onerror=y>"])
def test_what_comes_from_the_network_is_escaped(text: str) -> None:
    _, body = parsed(made(what=text))
    assert text.encode() not in body
    assert b"&lt;" in body


def test_controls_and_directional_overrides_are_shown_as_unknown() -> None:
    _, body = parsed(made(what="a\r\n\u202eb\ud800c"))
    assert "a\ufffd\ufffd\ufffdb\ufffdc".encode() in body


def test_a_percent_sign_is_only_text() -> None:
    _, body = parsed(made(what="100 %(id)s %d"))
    assert b"100 %(id)s %d" in body


def test_a_program_that_prefers_json_gets_a_problem_document() -> None:
    fields, body = parsed(made(what='a "b" <c>', accept=b"application/json"))
    assert fields[b"content-type"] == b"application/problem+json"
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Cannot reach the site",
        "status": 502,
        "detail": 'a "b" <c>',
        "remedy": "Check the name.",
        "id": "c42",
    }


@pytest.mark.parametrize(
    ("accept", "json_wins"),
    [
        (b"", False),
        (b"*/*", False),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"application/json, text/plain, */*", False),
        (b"application/json, */*;q=0.5", True),
        (b"application/*;q=0.9, text/*;q=0.8", True),
        (b"text/html;q=0.2, application/json;q=0.3", True),
        (b"application/json;q=2, text/html;q=0.1", False),
        (b"text/html;q=0, */*", True),
        (b"APPLICATION/JSON; charset=utf-8 ; q=1.0", True),
        (b"image/png, ;;q=, \xff", False),
    ],
)
def test_accept_chooses_between_html_and_json(accept: bytes, json_wins: bool) -> None:
    assert prefers_json(accept) is json_wins


def test_close_is_announced_only_when_meant() -> None:
    assert b"\r\nConnection: close\r\n" in made(close=True)
    assert b"Connection:" not in made()


def test_the_answer_to_head_is_the_head_of_the_page() -> None:
    whole = made()
    assert made(head_only=True) == whole[: find_end(whole)]


def test_a_status_without_a_registered_phrase_has_an_empty_one() -> None:
    assert made(599).startswith(b"HTTP/1.1 599 \r\n")
    assert made(421).startswith(b"HTTP/1.1 421 Misdirected Request\r\n")


@pytest.mark.parametrize(
    ("status", "error", "via_name"), [(200, "a", "gw"), (502, "a b", "gw"), (502, "a", "g\r\nw"), (502, "a", "gü")]
)
def test_a_page_that_cannot_be_written_is_our_error(status: int, error: str, via_name: str) -> None:
    with pytest.raises(InterceptError):
        made(status, error=error, via_name=via_name)


def test_the_answer_to_connect_has_no_fields() -> None:
    assert read_response(connect_established(), b"CONNECT").length == 0
    assert connect_established() == b"HTTP/1.1 200 Connection established\r\n\r\n"
