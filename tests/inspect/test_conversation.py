"""Messages of WebSocket under inspection, in a whole gateway in memory."""

from __future__ import annotations

import pytest

from sslintercept.facts import Side
from sslintercept.testing.gateway import MemoryGateway, silent
from sslintercept.testing.loop import Loop
from tests.http.test_websocket import BINARY, REQUEST, SWITCH, TEXT, Talk
from tests.websocket.reference import KEY, frame

EVIL = "[inspect:one]\nuse = tests.inspect.stubs:evil\n"


def talk(loop: Loop, ini: str) -> Talk:
    """A conversation that has begun."""
    gateway = MemoryGateway(loop, ini)
    script = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(REQUEST.replace(b"GET ", b"GET http://origin.test") + b"\r\n")
    gateway.pump()
    origin = script.last
    origin.take()
    origin.send(SWITCH + b"\r\n")
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 101 ")
    return Talk(gateway, client, origin)


@pytest.mark.parametrize("by", [Side.CLIENT, Side.UPSTREAM])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_what_is_fine_passes_byte_for_byte(loop: Loop, by: Side, opcode: int) -> None:
    said = talk(loop, EVIL)
    data = frame(opcode, b"fine" * 200, key=KEY if by is Side.CLIENT else None)
    assert said.say(data, by=by) == data
    said.client.close()


@pytest.mark.parametrize("late", ["yes", "no"])
@pytest.mark.parametrize("by", [Side.CLIENT, Side.UPSTREAM])
def test_what_is_bad_ends_the_conversation_and_names_the_event(loop: Loop, by: Side, late: str) -> None:
    said = talk(loop, EVIL + f"late = {late}\n")
    data = frame(TEXT, b"an EVIL thing", key=KEY if by is Side.CLIENT else None)
    assert b"EVIL" not in said.say(data, by=by)
    to_client, to_origin = said.closed()
    (event,) = said.gateway.events.told
    for closing in (*to_client[-1:], *to_origin[-1:]):
        assert closing[0] == "close"
        assert closing[1] == 1008
        assert event.id in str(closing[2])
    assert (event.carrier, event.part_kind, event.url) == ("websocket", "message", "http://origin.test/chat")
    assert event.direction == ("request" if by is Side.CLIENT else "response")


def test_a_match_may_ask_for_one_direction(loop: Loop) -> None:
    said = talk(loop, EVIL + "match = carrier:websocket direction:upload\n")
    data = frame(TEXT, b"EVIL")
    assert said.say(data, by=Side.UPSTREAM) == data
    assert b"EVIL" not in said.say(frame(TEXT, b"EVIL", key=KEY))
    said.closed()


def test_a_match_for_bodies_leaves_conversations_alone(loop: Loop) -> None:
    said = talk(loop, EVIL + "match = carrier:http\n")
    data = frame(TEXT, b"EVIL", key=KEY)
    assert said.say(data) == data
    said.client.close()


def test_what_was_found_is_overwritten(loop: Loop) -> None:
    said = talk(loop, EVIL + "act = redact\n")
    heard = said.heard(said.say(frame(TEXT, b"an EVIL thing", key=KEY)), Side.UPSTREAM)
    assert [event[-1] for event in heard] == [b"an **** thing"]
    said.client.close()


def test_something_else_takes_its_place(loop: Loop) -> None:
    said = talk(loop, EVIL + "act = replace\n")
    heard = said.heard(said.say(frame(BINARY, b"an EVIL thing", key=KEY)), Side.UPSTREAM)
    assert [event[-1] for event in heard] == [b"CLEAN"]
    said.client.close()


@pytest.mark.parametrize(("policy", "passes"), [("open", True), ("closed", False)])
def test_a_message_longer_than_is_held_is_left_to_the_policy(loop: Loop, policy: str, passes: bool) -> None:
    said = talk(loop, f"[inspection]\nhold = 64KiB\n{EVIL}too_large = {policy}\n")
    data = frame(TEXT, b"x" * 70_000 + b"EVIL", key=KEY)
    assert (said.say(data) == data) is passes
    said.client.close()


@pytest.mark.parametrize(("policy", "status"), [("open", b"101"), ("closed", b"503")])
def test_a_conversation_that_nobody_can_read_is_left_to_the_policy(loop: Loop, policy: str, status: bytes) -> None:
    gateway = MemoryGateway(loop, EVIL + f"unreadable = {policy}\n")
    script = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(REQUEST.replace(b"GET ", b"GET http://origin.test") + b"\r\n")
    gateway.pump()
    script.last.send(SWITCH + b"Sec-WebSocket-Extensions: secret\r\n\r\n")
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 " + status)
    assert [(each.name, each.carrier) for each in gateway.events.told] == [("unknown_coding", "websocket")]
    client.close()
    gateway.pump()


def test_a_message_too_long_to_be_held_is_told_of_when_it_passes(loop: Loop) -> None:
    said = talk(loop, EVIL + "[inspection]\nhold = 64KiB\n")
    data = frame(BINARY, bytes(100_000))
    assert said.say(data, by=Side.UPSTREAM) == data
    assert [(each.name, each.direction) for each in said.gateway.events.told] == [("too_big", "response")]
    said.client.close()
