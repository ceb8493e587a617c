"""Which parts an inspector gets."""

from __future__ import annotations

from typing import Any

import pytest

from sslintercept.facts import Address, Facts
from sslintercept.http.head import read_request, read_response
from sslintercept.inspect.part import Part
from sslintercept.inspect.select import check_part_match, of_bodies, of_conversations, of_parts
from sslintercept.transform.message import Direction, Message
from tests.inspect.support import a_part

MAIL = {
    "carrier": "smtp",
    "kind": "message",
    "sender": "Anna@Example.COM",
    "recipients": ("bert@one.test", "Carla@Two.test"),
    "media_type": "message/rfc822",
}
FILE = {"carrier": "ftp", "kind": "file", "name": "Setup.EXE", "media_type": "", "length": 100, "host": "ftp.a.test"}
BODY = {"url": "https://www.a.test/up/load?q=1", "host": "www.a.test", "method": "POST", "name": "load"}
ANSWER = {**BODY, "direction": Direction.RESPONSE, "status": 404, "media_type": "text/html"}


@pytest.mark.parametrize(
    ("match", "part", "holds"),
    [
        ("", {}, True),
        ("carrier:http", {}, True),
        ("carrier:HTTP,ftp", FILE, True),
        ("carrier:mail", MAIL, True),
        ("carrier:mail", {"carrier": "imap"}, True),
        ("carrier:mail", {}, False),
        ("!carrier:mail", FILE, True),
        ("direction:upload", {}, True),
        ("direction:REQUEST", {}, True),
        ("direction:download", {}, False),
        ("direction:response,upload", {}, True),
        ("direction:download", ANSWER, True),
        ("host:.a.test", BODY, True),
        ("host:a.test", BODY, False),
        ("host:.a.test", FILE, True),
        ("host:.a.test", {}, False),
        ("path:/up/*", BODY, True),
        ("path:*q=1", BODY, False),
        ("path:*", FILE, False),
        ("path:*", {"url": "http://a.test"}, False),
        ("path:/", {"url": "http://a.test/?a/b"}, True),
        ("method:post", BODY, True),
        ("method:post", FILE, False),
        ("status:4xx", ANSWER, True),
        ("status:200-399", ANSWER, False),
        ("status:200", BODY, False),
        ("!status:200", BODY, True),
        ("type:text/*", ANSWER, True),
        ("type:*/*", FILE, False),
        ("size:100B-", FILE, True),
        ("size:-99B", FILE, False),
        ("size:-99B", BODY, False),
        ("!size:-99B", BODY, True),
        ("name:*.exe", FILE, True),
        ("name:setup.exe,*.dll", FILE, True),
        ("name:*.exe", BODY, False),
        ("sender:*@example.com", MAIL, True),
        ("sender:*@example.com", BODY, False),
        ("recipient:*@two.test", MAIL, True),
        ("recipient:bert@*", MAIL, True),
        ("recipient:*@three.test", MAIL, False),
        ("!recipient:*@three.test", MAIL, True),
        ("client:192.0.2.0/24", {}, True),
        ("client:198.51.100.0/24", {}, False),
        ("listener:proxy", {}, True),
        ("carrier:http direction:upload !host:.b.test", BODY, True),
    ],
)
def test_a_part_is_asked_what_it_is(match: str, part: dict[str, object], holds: bool) -> None:
    assert of_parts(match).judge(a_part(**part), True) is holds


@pytest.mark.parametrize(
    ("match", "what"),
    [
        ("carrier:pigeon", "'pigeon' is none of mail, http, websocket"),
        ("direction:sideways", "'sideways' is none of request, upload, response, download"),
        ("type:text", "is not a media type"),
        ("size:big", "is not a range of sizes"),
        ("status:99", "is not a status"),
        ("elephant:1", "elephant"),
    ],
)
def test_a_match_that_makes_no_sense_is_refused(match: str, what: str) -> None:
    for check in (of_parts, of_bodies, of_conversations, check_part_match):
        with pytest.raises(ValueError, match=what):
            check(match)


def test_a_condition_of_a_recipient_does_not_join_two_of_them() -> None:
    part = a_part(**MAIL)
    assert of_parts("recipient:bert@*two.test").judge(part, True) is False


# messages of HTTP, before there is a part


def message(direction: Direction = Direction.REQUEST, *, response: bytes = b"", upgrade: bool = False) -> Message:
    more = b"Upgrade: websocket\r\nConnection: upgrade\r\n" if upgrade else b""
    raw = b"POST /up/load.exe?q=1 HTTP/1.1\r\nHost: www.a.test\r\nContent-Type: text/csv\r\n%bContent-Length: 7\r\n\r\n"
    head = read_request(raw % more, "http", Address("www.a.test", 80))
    facts = Facts("c1", Address("192.0.2.1", 5000), "proxy")
    answer = read_response(response, b"POST") if response else None
    later: Any = None  # Any: nothing is called later here
    return Message(direction, head, answer, facts, later, {}, has_body=True)


RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("match", "request_", "awaited", "response"),
    [
        ("", True, True, True),
        ("direction:upload", True, False, False),
        ("direction:download", False, True, True),
        ("carrier:http", True, True, True),
        ("carrier:mail", False, False, False),
        ("name:*.EXE", True, True, True),
        ("name:load.exe", True, True, True),
        ("sender:*@a.test", False, False, False),
        ("!recipient:*@a.test", True, True, True),
        ("type:text/csv", True, None, False),
        ("type:text/html", False, None, True),
        ("status:200", False, None, True),
        ("size:-8B", True, None, False),
        ("host:.a.test path:/up/*", True, True, True),
        ("method:post type:text/html", False, None, True),
    ],
)
def test_a_body_is_asked_before_it_comes(match: str, request_: bool, awaited: bool | None, response: bool) -> None:
    asked = of_bodies(match)
    assert asked.judge(message()) is request_
    assert asked.judge(message(Direction.RESPONSE)) is awaited
    assert asked.judge(message(Direction.RESPONSE, response=RESPONSE)) is response


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ("carrier:websocket", True),
        ("carrier:http", False),
        ("", True),
        ("host:.b.test", False),
        ("direction:download", True),
        ("carrier:websocket direction:upload size:-10B type:text/plain name:x status:200", True),
        ("carrier:websocket client:198.51.100.1", False),
        ("sender:a@b.test", False),
    ],
)
def test_a_conversation_is_asked_what_is_known_before_its_messages(match: str, holds: bool) -> None:
    assert of_conversations(match).judge(message(upgrade=True), True) is holds


def test_a_body_and_its_part_agree() -> None:
    part = Part(
        carrier="http",
        kind="body",
        direction=Direction.REQUEST,
        facts=message().facts,
        name="load.exe",
        media_type="text/csv",
        length=7,
        url=message().url,
        host="www.a.test",
        method="POST",
    )
    for match in ("", "direction:upload", "name:*.exe", "size:7B-7B", "type:text/csv", "path:/up/*", "host:a.test"):
        assert of_bodies(match).judge(message(), True) is of_parts(match).judge(part, True)
