"""Heads rewritten: fields removed, set and added in this order, and statuses where no body ends elsewhere by them."""

from __future__ import annotations

import pytest

from sslintercept.config.units import NotAllowed
from sslintercept.facts import reason_of
from sslintercept.testing.transform import Exchange, a_message
from sslintercept.transform.shipped.headers import MOST, Headers, HeadersOptions


def read(name: str, text: str) -> object:
    return HeadersOptions.__dataclass_fields__[name].metadata["key"].unit(text)


def options(**texts: str) -> HeadersOptions:
    """As the ini file makes them."""
    return HeadersOptions(**{name: read(name, text) for name, text in texts.items()})  # type: ignore[arg-type]  # read


def test_fields_are_removed_then_set_then_added() -> None:
    exchange = Exchange(
        Headers(
            options(
                remove="Server, X-Powered-By",
                set="X-Frame-Options: DENY\nx-a: 1\nX-A: 2",
                add="Vary: Origin\nServer: us",
            )
        )
    )
    exchange.respond(
        fields={"Server": "x", "x-frame-options": "ALLOW", "X-Powered-By": "y", "Vary": "Accept", "ETag": '"1"'}
    )
    assert exchange.head.head.fields == [
        (b"Vary", b"Accept"),
        (b"ETag", b'"1"'),
        (b"X-Frame-Options", b"DENY"),
        (b"x-a", b"1"),
        (b"X-A", b"2"),
        (b"Vary", b"Origin"),
        (b"Server", b"us"),
    ]
    assert exchange.stages == []


def test_a_request_is_rewritten_too() -> None:
    exchange = Exchange(Headers(options(set="User-Agent: none")), fields={"User-Agent": "Some/1.0"})
    assert exchange.request.get(b"User-Agent") == b"none"


def test_nothing_to_do_changes_nothing() -> None:
    exchange = Exchange(Headers(HeadersOptions()))
    exchange.respond(404, {"Server": "x"})
    assert exchange.head.head.fields == [(b"Server", b"x")]
    assert exchange.head.response is not None
    assert (exchange.head.response.status, exchange.head.response.reason) == (404, b"As it is")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("X-A: b", (b"X-A", b"b")),
        ("X-A:b: c", (b"X-A", b"b: c")),
        ("X-A :  b ", (b"X-A", b"b")),
        ("X-A:", (b"X-A", b"")),
        ("X-Name: Jürgen", (b"X-Name", "Jürgen".encode())),
    ],
)
def test_a_line_is_a_name_and_a_value(text: str, line: tuple[bytes, bytes]) -> None:
    assert read("set", text) == (line,)


@pytest.mark.parametrize("key", ["set", "add"])
@pytest.mark.parametrize(
    "text",
    [
        "X-A",
        ": b",
        "X A: b",
        "X-A: b\r",
        "X-A: b\0c",
        "Content-Length: 5",
        "transfer-encoding: chunked",
        "Connection: close",
        "Host: other",
        "Content-Encoding: gzip",
        "content-range: bytes 0-1/2",
        "\n".join(f"X-{number}: y" for number in range(MOST + 1)),
    ],
)
def test_a_line_that_frames_or_is_none_is_refused_at_the_start(key: str, text: str) -> None:
    if text.endswith("\r"):
        text += "Set-Cookie: c"
    with pytest.raises(NotAllowed):
        read(key, text)


@pytest.mark.parametrize("text", ["X A", "Server,", "Server, Server", "Content-Length", "Content-Encoding", "Via"])
def test_a_name_that_frames_or_is_none_is_not_removed(text: str) -> None:
    with pytest.raises(NotAllowed):
        read("remove", text)


@pytest.mark.parametrize("status", [200, 201, 301, 404, 500])
def test_a_status_is_changed_and_its_phrase_with_it(status: int) -> None:
    exchange = Exchange(Headers(options(status="451")))
    exchange.respond(status)
    assert exchange.head.response is not None
    assert (exchange.head.response.status, exchange.head.response.reason) == (451, b"Unavailable For Legal Reasons")


@pytest.mark.parametrize("status", [204, 205, 206, 304])
def test_a_status_that_says_where_the_body_ends_stays(status: int) -> None:
    exchange = Exchange(Headers(options(status="200")))
    exchange.respond(status)
    assert exchange.head.response is not None
    assert exchange.head.response.status == status


@pytest.mark.parametrize("text", ["100", "204", "205", "206", "304", "600", "x", "-200"])
def test_a_status_that_would_move_the_end_of_a_body_cannot_be_set(text: str) -> None:
    with pytest.raises(NotAllowed):
        read("status", text)


def test_a_status_nobody_registered_has_no_phrase() -> None:
    assert reason_of(299) == b""
    assert reason_of(404) == b"Not Found"


def test_a_request_has_no_status() -> None:
    message = a_message()
    Headers(options(status="404")).transform(message)
    assert message.answered is None
    assert message.response is None
