"""A message as a transform sees it: what it is asked, what it may change, and what it may not."""

from __future__ import annotations

import pytest

from sslintercept.http.head import read_request
from sslintercept.testing.transform import PipeLoop, a_message
from sslintercept.transform.message import (
    FRAMING,
    MAX_NAME,
    MAX_NOTE,
    MOST_NOTES,
    Answer,
    Direction,
    FieldError,
    Message,
)

BAD_FIELDS = [
    (b"", b"x"),
    (b"X Y", b"x"),
    (b"X:", b"x"),
    (b"X\r\nY", b"x"),
    (b"\xe4", b"x"),
    (b"X" * 257, b"x"),
    (b"X", b"a\r\nSet-Cookie: b"),
    (b"X", b"a\nb"),
    (b"X", b"a\0b"),
    (b"X", b"a\x7fb"),
    (b"X", b"a" * 16_385),
]


def test_a_request_is_the_head_until_there_is_a_response() -> None:
    request, response = a_message(), a_message(status=200)
    assert request.head is request.request
    assert response.head is response.response
    assert (request.direction, response.direction) == (Direction.REQUEST, Direction.RESPONSE)
    assert not request.awaited
    assert not response.awaited


def test_a_response_that_has_not_come_is_awaited() -> None:
    sent = a_message()
    assert Message(Direction.RESPONSE, sent.request, None, sent.facts, PipeLoop().later, {}, has_body=True).awaited


@pytest.mark.parametrize(
    ("fields", "status", "of_response", "length"),
    [
        ({}, None, {}, 0),
        ({"Content-Length": "12"}, None, {}, 12),
        ({"Transfer-Encoding": "chunked"}, None, {}, None),
        ({}, 200, {"Content-Length": "7"}, 7),
        ({}, 200, {"Transfer-Encoding": "chunked"}, None),
        ({}, 200, {}, None),
    ],
)
def test_the_length_is_known_or_nobody_knows_it(
    fields: dict[str, str], status: int | None, of_response: dict[str, str], length: int | None
) -> None:
    assert a_message(method="POST", fields=fields, status=status, of_response=of_response).length == length


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://www.example/", "/"),
        ("https://www.example/a/b?c=d?e", "/a/b"),
        ("http://www.example/x", "/x"),
        ("https://www.example:8443/x?y", "/x"),
        ("http://[2001:db8::1]/", "/"),
        ("http://[2001:db8::1]:8080/", "/"),
    ],
)
def test_a_url_is_made_of_scheme_authority_and_target(url: str, path: str) -> None:
    message = a_message(url)
    assert message.url == url
    assert message.path == path


@pytest.mark.parametrize(
    ("value", "media_type", "charset"),
    [
        (None, "", None),
        ("text/html", "text/html", None),
        ("Text/HTML; Charset=UTF-8", "text/html", "utf-8"),
        ('text/html ;charset="iso-8859-1"', "text/html", "iso-8859-1"),
        ("text/html; boundary=x; charset=koi8-r", "text/html", "koi8-r"),
        ("text/html; charset=", "text/html", None),
        ("text/html; charset", "text/html", None),
        ("; charset=utf-8", "", "utf-8"),
    ],
)
def test_the_content_type_is_taken_apart(value: str | None, media_type: str, charset: str | None) -> None:
    message = a_message(status=200, of_response={} if value is None else {"Content-Type": value})
    assert (message.media_type, message.charset) == (media_type, charset)


def test_only_206_is_a_piece() -> None:
    assert a_message(status=206).partial
    assert not a_message(status=200).partial
    assert not a_message().partial


def test_lines_of_one_field_are_read_with_commas_between() -> None:
    message = a_message(fields={"Accept": "a", "ACCEPT": "b"})
    assert message.all(b"accept") == [b"a", b"b"]
    assert message.get(b"aCCept") == b"a, b"
    assert message.get(b"Cookie") is None
    assert message.all(b"Cookie") == []


def test_a_field_is_set_added_and_removed_whatever_its_case() -> None:
    message = a_message(status=200, of_response={"X-A": "1", "x-a": "2", "X-B": "3"})
    message.set(b"X-a", b"4")
    message.add(b"X-C", b"5")
    message.add(b"X-C", b"6")
    message.remove(b"x-b")
    assert message.head.fields == [(b"X-a", b"4"), (b"X-C", b"5"), (b"X-C", b"6")]
    assert message.request.fields == [(b"Host", b"www.example")]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS)
def test_a_field_that_would_be_read_as_another_is_refused(name: bytes, value: bytes) -> None:
    message = a_message()
    before = list(message.head.fields)
    with pytest.raises(FieldError):
        message.set(name, value)
    with pytest.raises(FieldError):
        message.add(name, value)
    with pytest.raises(FieldError):
        message.answer(200, {name: value})
    assert message.head.fields == before
    assert message.answered is None


@pytest.mark.parametrize("name", sorted(FRAMING))
def test_a_field_that_frames_is_left_alone(name: bytes) -> None:
    message = a_message()
    before = list(message.head.fields)
    for change in (message.set, message.add):
        with pytest.raises(FieldError, match="frames the message"):
            change(name.title(), b"x")
    with pytest.raises(FieldError):
        message.remove(name.upper())
    with pytest.raises(FieldError):
        message.answer(200, {name: b"x"})
    assert message.head.fields == before


def test_bytes_above_ascii_are_a_value() -> None:
    message = a_message()
    message.set(b"X-Name", "Jürgen\t1".encode())
    assert message.get(b"X-Name") == "Jürgen\t1".encode()


def test_a_refusal_does_not_repeat_a_long_name() -> None:
    with pytest.raises(FieldError) as caught:
        a_message().set(b"x y" * 1000, b"")
    assert len(str(caught.value)) < 200


def test_an_answer_has_a_status_fields_and_a_body() -> None:
    message = a_message()
    message.answer(403, {b"Content-Type": b"text/plain"}, b"no")
    assert message.answered == Answer(403, ((b"Content-Type", b"text/plain"),), b"no")
    for status in (200, 204, 599):
        message.answer(status)
        assert message.answered == Answer(status)


def test_a_response_knows_the_fields_of_its_request() -> None:
    message = a_message(fields={"Accept": "a", "ACCEPT": "b"}, status=200, of_response={"Accept": "c"})
    assert message.request_field(b"accepT") == b"a"
    assert message.request_field(b"Cookie") is None


@pytest.mark.parametrize(
    ("status", "body"), [(0, b""), (100, b""), (199, b""), (600, b""), (204, b"x"), (205, b"x"), (304, b"x")]
)
def test_an_answer_with_no_final_status_or_a_body_it_cannot_have_is_refused(status: int, body: bytes) -> None:
    message = a_message()
    with pytest.raises(FieldError, match="no status to answer with"):
        message.answer(status, {}, body)
    assert message.answered is None


def test_notes_are_bounded_in_number_and_length() -> None:
    message = a_message()
    for number in range(MOST_NOTES + 5):
        message.note(f"n{number}", "x" * (MAX_NOTE + 1))
    assert list(message.notes) == [f"n{number}" for number in range(MOST_NOTES)]
    assert set(message.notes.values()) == {"x" * MAX_NOTE}
    message.note("n0", "again")
    assert message.notes["n0"] == "again"


def test_the_name_of_a_note_is_bounded_too() -> None:
    message = a_message()
    message.note("n" * 1000, "x")
    assert message.notes == {"n" * MAX_NAME: "x"}


def test_a_message_can_call_back_later() -> None:
    loop, called = PipeLoop(), []
    a_message(loop=loop).later(2.0, lambda: called.append("now"))
    loop.advance(1.9)
    assert called == []
    loop.advance(0.1)
    assert called == ["now"]


@pytest.mark.parametrize("name", [b"X-One", b"x-one-more", b"X-Last", b"X-None", b"X-Empty"])
def test_values_are_the_same_whether_the_list_of_fields_was_made_or_not(name: bytes) -> None:
    lines = b"Host: a.test\r\nX-One: \t 1 \r\nx-one:2\r\nX-One-More: 3\r\nX-Empty:\r\nX-Last: 4\r\n\r\n"
    raw = b"GET http://a.test/ HTTP/1.1\r\n" + lines
    fresh, listed = a_message(), a_message()
    fresh.request, listed.request = (read_request(raw, "http", None) for _ in range(2))
    assert fresh.all(name) == [value for each, value in listed.request.fields if each.lower() == name.lower()]
    assert fresh.request.block is not None
