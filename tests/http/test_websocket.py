"""Conversations over WebSocket whose messages go through stages, between two sides in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from sslintercept.errors import InterceptError, PolicyError
from sslintercept.facts import Address, Facts, Side
from sslintercept.http import websocket
from sslintercept.http.head import read_request, read_response
from sslintercept.net.vconnection import STALLED
from sslintercept.profile.profile import Bytes
from sslintercept.rule.match import Match
from sslintercept.testing.gateway import MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from sslintercept.transform.arrange import Bounds
from sslintercept.transform.message import Message as HttpMessage
from sslintercept.transform.processor import (
    Entry,
    MessageStages,
    Transformer,
    TransformProcessor,
    UnknownExtension,
)
from sslintercept.transform.stage import StageError
from sslintercept.websocket.deflate import Deflate
from sslintercept.websocket.frame import WebSocketError
from sslintercept.websocket.message import MAX_WAITING
from sslintercept.websocket.relay import Inspector, Relay
from sslintercept.websocket.stage import MessageStage
from tests.sequences.support import CLIENT_FIRST, intercepted
from tests.websocket.reference import KEY, Event, Message, Sender, frame, joined, read

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
REQUEST = b"GET /chat HTTP/1.1\r\nHost: origin.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
EXTENSIONS = b"Sec-WebSocket-Extensions: "
DEFLATE = b"permessage-deflate; client_max_window_bits"


class Giving(Transformer):
    """Gives a stage for every conversation."""

    def __init__(self, stage: MessageStage | None = None) -> None:
        self.stage = stage

    def transform(self, message: HttpMessage) -> None:
        return None

    def messages(self, message: HttpMessage) -> MessageStage | None:
        return self.stage


class Noting(MessageStage):
    """Writes down what it hears, and answers with what a function says."""

    def __init__(self, answer: Callable[[Any], Any] = lambda message: message) -> None:
        self.answer = answer
        self.heard: list[tuple[object, ...]] = []
        self.over = 0

    def text(self, text: str, sender: Side) -> Any:
        self.heard.append((sender.value, text))
        return self.answer(text)

    def binary(self, data: bytes, sender: Side) -> Any:
        self.heard.append((sender.value, data))
        return self.answer(data)

    def closing(self, code: int, reason: str, sender: Side) -> None:
        self.heard.append((sender.value, code, reason))

    def ended(self) -> None:
        self.over += 1


class Talk:
    """A client and an origin after a 101."""

    def __init__(self, gateway: MemoryGateway, client: Peer, origin: Peer) -> None:
        self.gateway, self.loop = gateway, gateway.loop
        self.client, self.origin = client, origin

    def say(self, data: bytes, *, by: Side = Side.CLIENT, step: int = 0) -> bytes:
        """Say something, C{step} bytes at a time, and give what the other side heard."""
        speaker, hearer = (self.client, self.origin) if by is Side.CLIENT else (self.origin, self.client)
        for at in range(0, len(data), step or max(len(data), 1)):
            speaker.send(data[at : at + step] if step else data)
            self.gateway.pump()
        return hearer.take()

    def heard(self, data: bytes, by: Side, **terms: Any) -> list[Event]:
        """What a side reads in C{data}: messages, controls, and the close."""
        events, fault = read(data, masked=by is Side.UPSTREAM, **terms)
        assert fault is None
        return [event for event in joined(events) if event[0] in ("content", "control", "close")]

    def line(self) -> dict[str, Any]:
        """The client's connection in the log, once it has ended."""
        self.loop.pass_time(5)
        (line,) = [line for line in self.gateway.log if line["type"] == "connection"]
        return line

    def closed(self) -> tuple[list[Event], list[Event]]:
        """What both sides heard last, when the conversation was ended."""
        self.gateway.pump()
        assert self.client.ended
        assert self.origin.ended
        return self.heard(self.client.take(), Side.CLIENT), self.heard(self.origin.take(), Side.UPSTREAM)


def wire(gateway: MemoryGateway, *stages: MessageStage) -> None:
    """Let every conversation go through these."""
    entries = [Entry(f"t{at}", Match([]), Giving(stage)) for at, stage in enumerate(stages)]
    gateway.proxy.transforms = TransformProcessor(entries, Bounds(100, 1 << 20), gateway.handler)


Begin = Callable[..., Talk]


@pytest.fixture
def begin(loop: Loop) -> Begin:
    """Begins a conversation through stages."""

    def begin(
        *stages: MessageStage,
        offer: bytes = b"",
        agreed: bytes = b"",
        ini: str = "",
        tls: bool = False,
        buffer: int | None = None,
        early: tuple[bytes, bytes] = (b"", b""),
    ) -> Talk:
        gateway = MemoryGateway(loop, (CLIENT_FIRST if tls else "") + ini)
        wire(gateway, *stages)
        script = gateway.origin(
            "origin.test:443" if tls else "origin.test:80", silent, tls=gateway.leaf("origin.test") if tls else None
        )
        script.buffer = buffer
        client = intercepted(gateway) if tls else gateway.client(buffer=buffer)
        raw = REQUEST if tls else REQUEST.replace(b"GET ", b"GET http://origin.test")
        client.send(raw + (EXTENSIONS + offer + b"\r\n" if offer else b"") + b"\r\n" + early[0])
        gateway.pump()
        origin = script.last
        asked = origin.take()
        assert (EXTENSIONS in asked) is bool(offer)
        origin.send(SWITCH + (EXTENSIONS + agreed + b"\r\n" if agreed else b"") + b"\r\n" + early[1])
        gateway.pump()
        head, _, rest = client.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        client.got += rest
        return Talk(gateway, client, origin)

    return begin


# what nobody changes


SAID = [
    Message(TEXT, "grüß dich".encode(), cuts=(3, 4)),
    Message(BINARY, bytes(range(200)), compressed=True),
    Message(TEXT, b"", compressed=True),
    Message(TEXT, b"again and again and again", compressed=True, cuts=(2,)),
]


@pytest.mark.parametrize("by", [Side.CLIENT, Side.UPSTREAM])
@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("step", [0, 1, 7])
def test_what_nobody_changes_passes_byte_for_byte(begin: Begin, by: Side, takeover: bool, step: int) -> None:
    agreed = b"permessage-deflate" + (b"" if takeover else b"; client_no_context_takeover; server_no_context_takeover")
    stages = Noting(), Noting()
    talk = begin(*stages, offer=agreed, agreed=agreed)
    sender = Sender(by is Side.CLIENT, 15, takeover)
    data = b"".join(map(sender.message, SAID)) + sender.frame(CLOSE, b"\x03\xe8bye")
    assert talk.say(data, by=by, step=step) == data
    heard = [(by.value, said.content.decode() if said.opcode == TEXT else said.content) for said in SAID]
    assert stages[0].heard == stages[1].heard == [*heard, (by.value, 1000, "bye")]
    talk.client.close()


def test_a_ping_between_fragments_goes_by_what_is_held(begin: Begin) -> None:
    talk = begin(Noting())
    first, ping, last = frame(TEXT, b"a", fin=False, key=KEY), frame(PING, b"?", key=KEY), frame(0, b"b", key=KEY)
    assert talk.say(first + ping) == ping
    assert talk.say(last) == first + last
    talk.client.close()


def test_a_conversation_in_tls_is_logged_with_what_it_carried(begin: Begin) -> None:
    stage = Noting()
    talk = begin(stage, tls=True)
    assert talk.say(frame(TEXT, b"hello", key=KEY)) == frame(TEXT, b"hello", key=KEY)
    assert talk.say(frame(TEXT, b"welcome"), by=Side.UPSTREAM) == frame(TEXT, b"welcome")
    talk.say(frame(CLOSE, b"", key=KEY))
    talk.say(frame(CLOSE, b""), by=Side.UPSTREAM)
    talk.origin.say_goodbye()
    talk.origin.finish()
    talk.gateway.pump()
    talk.client.say_goodbye()
    talk.client.finish()
    talk.gateway.pump()
    assert stage.heard == [("client", "hello"), ("upstream", "welcome"), ("client", 1005, ""), ("upstream", 1005, "")]
    assert stage.over == 1
    assert talk.client.clean
    line = talk.line()
    assert line["stack"].endswith("/http1/websocket")
    assert (line["error"], line["action"]) == (None, "intercept")
    steps = {step.name: detail for step, detail in talk.gateway.sequences[0].steps}
    assert steps["conversation"] == "[transform:t0]"
    assert steps["conversation_ended"] == "1 messages from the client, 1 from the server"


def test_what_was_said_together_with_the_heads_goes_through_the_stages_too(begin: Begin) -> None:
    stage = Noting(lambda text: text.upper())
    talk = begin(stage, early=(frame(TEXT, b"from the client", key=KEY), frame(TEXT, b"from the origin")))
    assert talk.client.take() == frame(TEXT, b"FROM THE ORIGIN")
    assert talk.heard(talk.origin.take(), Side.UPSTREAM) == [("content", b"FROM THE CLIENT")]
    talk.client.close()


def test_a_client_that_said_more_than_is_kept_before_the_answer_is_read_again(begin: Begin) -> None:
    said = frame(BINARY, bytes(1000), key=KEY) * 100
    talk = begin(Noting(), early=(said, b""))
    assert talk.origin.take() == said
    assert talk.say(said) == said
    talk.client.close()


def test_many_small_messages_of_one_chunk_leave_in_few_writes(begin: Begin) -> None:
    talk = begin(Noting())
    sizes: list[int] = []
    (server,) = [vc for vc in talk.loop.handler.connections if vc.side is Side.UPSTREAM]
    write = server.write

    def counted(data: Bytes) -> None:
        sizes.append(len(data))
        write(data)

    server.write = counted
    data = frame(TEXT, b"x" * 20, key=KEY) * 2000
    assert talk.say(data) == data
    assert len(sizes) < 10
    talk.client.close()


# what a stage changes


@pytest.mark.parametrize("by", [Side.CLIENT, Side.UPSTREAM])
@pytest.mark.parametrize("agreed", [b"", DEFLATE[:18], b"permessage-deflate; client_no_context_takeover"])
def test_a_changed_message_is_read_by_the_other_side(begin: Begin, by: Side, agreed: bytes) -> None:
    talk = begin(
        Noting(lambda message: message.upper() if "x" in str(message) else message), offer=agreed, agreed=agreed
    )
    takeover = b"no_context" not in agreed or by is Side.UPSTREAM
    sender = Sender(by is Side.CLIENT, 15 if agreed else None, takeover)
    contents = [b"one", b"xone", b"one and two", b"\xc3\xa4 x", b"one and two and three"]
    data = b"".join(sender.message(Message(TEXT, content, compressed=True)) for content in contents)
    other = Side.UPSTREAM if by is Side.CLIENT else Side.CLIENT
    heard = talk.heard(talk.say(data, by=by), other, bits=sender.bits, takeover=takeover)
    assert heard == [("content", c.decode().upper().encode() if b"x" in c else c) for c in contents]
    talk.client.close()


def test_every_frame_of_ours_to_the_server_has_a_key_of_its_own(begin: Begin) -> None:
    talk = begin(Noting(lambda text: text + "!"))
    out = talk.say(frame(TEXT, b"a", key=KEY) * 20)
    assert len({out[at + 2 : at + 6] for at in range(0, len(out), 8)}) > 15
    talk.client.close()


def test_a_dropped_message_is_never_heard_of(begin: Begin) -> None:
    talk = begin(Noting(lambda message: None if message == b"no" else message))
    said = [frame(BINARY, b"yes"), frame(BINARY, b"no"), frame(BINARY, b"yes")]
    assert talk.say(b"".join(said), by=Side.UPSTREAM) == said[0] + said[2]
    talk.client.close()


def test_stages_get_a_message_in_their_order_whoever_sent_it(begin: Begin) -> None:
    first, second = Noting(lambda text: text + "1"), Noting(lambda text: text + "2")
    talk = begin(first, second)
    assert talk.heard(talk.say(frame(TEXT, b"", key=KEY)), Side.UPSTREAM) == [("content", b"12")]
    assert talk.say(frame(TEXT, b""), by=Side.UPSTREAM) == frame(TEXT, b"12")
    assert second.heard == [("client", "1"), ("upstream", "1")]
    talk.client.close()


def test_a_stage_may_hear_of_messages_piece_by_piece(begin: Begin) -> None:
    class Shouting:
        def __init__(self, relay: Relay) -> None:
            self.relay = relay

        def begin(self, opcode: int) -> None:
            self.relay.change()

        def content(self, piece: Any) -> None:
            self.relay.fragment(bytes(piece).upper())

        def end(self) -> None:
            self.relay.finish()

        def closing(self, code: int, reason: str) -> None:
            """Nothing."""

    class Streaming(MessageStage):
        def inspect(self, relay: Relay, sender: Side) -> Inspector:
            return Shouting(relay)

    talk = begin(Streaming())
    assert talk.say(b"\x01\x03abc", by=Side.UPSTREAM) == b"\x01\x03ABC"
    assert talk.say(b"\x80\x01d", by=Side.UPSTREAM) == b"\x00\x01D\x80\x00"
    talk.client.close()


# what a stage holds


@pytest.mark.parametrize("by", [Side.CLIENT, Side.UPSTREAM])
def test_while_a_message_is_held_nothing_more_is_read_and_then_all_goes_on_in_order(begin: Begin, by: Side) -> None:
    waiting: list[Deferred[Any]] = []

    def later(message: str) -> Deferred[Any]:
        waiting.append(Deferred())
        return waiting[-1]

    stages = Noting(), Noting(later)
    talk = begin(*stages)
    sender = Sender(by is Side.CLIENT)
    said = [sender.message(Message(TEXT, b"%d" % number)) for number in range(4)]
    assert talk.say(b"".join(said) + sender.frame(PING, b"?"), by=by) == b""
    (vc,) = [vc for vc in talk.loop.handler.connections if vc.side is by]
    assert not vc.tcp.reading
    assert [text for _, text in stages[1].heard] == ["0"]
    speaker, hearer = (talk.client, talk.origin) if by is Side.CLIENT else (talk.origin, talk.client)
    speaker.send(sender.frame(CLOSE, b""))
    out = b""
    for number, answer in enumerate(("0", "other", None, "3")):
        assert len(waiting) == number + 1
        waiting[number].callback(answer)
        talk.gateway.pump()
        out += hearer.take()
    events = talk.heard(out, Side.UPSTREAM if by is Side.CLIENT else Side.CLIENT)
    assert events == [
        ("content", b"0"),
        ("content", b"other"),
        ("content", b"3"),
        ("control", PING, b"?"),
        ("close", 1005, ""),
    ]
    assert vc.tcp.reading
    talk.client.close()


def test_an_answer_that_is_there_already_is_not_waited_for(begin: Begin) -> None:
    talk = begin(Noting(lambda text: succeed(text.upper())))
    data = frame(TEXT, b"a") * 3000
    assert talk.say(data, by=Side.UPSTREAM) == frame(TEXT, b"A") * 3000
    talk.client.close()


def test_an_end_waits_for_what_is_held(begin: Begin) -> None:
    waiting: Deferred[str] = Deferred()
    talk = begin(Noting(lambda text: waiting if text == "last words" else text))
    talk.client.send(frame(TEXT, b"last words", key=KEY))
    talk.client.finish()
    talk.gateway.pump()
    assert not talk.origin.ended
    waiting.callback("last words")
    talk.gateway.pump()
    assert (talk.origin.take(), talk.origin.ended) == (frame(TEXT, b"last words", key=KEY), True)
    assert talk.say(frame(TEXT, b"answer"), by=Side.UPSTREAM) == frame(TEXT, b"answer")
    talk.client.close()


def test_an_answer_that_does_not_come_ends_the_conversation(begin: Begin) -> None:
    waiting: Deferred[str] = Deferred()
    talk = begin(Noting(lambda text: waiting))
    talk.say(frame(TEXT, b"?", key=KEY))
    talk.loop.pass_time(websocket.PATIENCE + 1)
    assert talk.closed() == ([("close", 1011, "")], [("close", 1011, "")])
    assert "held a message for 60 seconds" in talk.line()["error_text"]
    assert len(talk.loop.failures) == 1
    talk.loop.failures.clear()


def test_a_conversation_that_is_over_cancels_what_it_waits_for(begin: Begin) -> None:
    cancelled: list[object] = []
    waiting: Deferred[str] = Deferred(cancelled.append)
    stage = Noting(lambda text: waiting)
    talk = begin(stage)
    talk.say(frame(TEXT, b"?", key=KEY))
    talk.origin.reset()
    talk.gateway.pump()
    assert cancelled == [waiting]
    assert stage.over == 1
    assert talk.client.was_cut


def test_an_end_comes_behind_all_that_a_slow_reader_has_not_got_yet(begin: Begin) -> None:
    waiting: Deferred[bytes] = Deferred()
    talk = begin(Noting(lambda data: waiting if data == b"first" else data), tls=True, buffer=32 * 1024)
    talk.origin.reading = False
    data = frame(BINARY, b"first", key=KEY) + frame(BINARY, bytes(3000), key=KEY) * 60
    talk.client.send(data)
    talk.client.say_goodbye()
    talk.gateway.pump()
    waiting.callback(b"first")
    talk.gateway.pump()
    talk.origin.reading = True
    talk.gateway.pump()
    assert talk.origin.take() == data
    assert talk.origin.layers[-1].goodbye
    talk.origin.close()


def test_nobody_decides_any_more_when_the_conversation_is_over(begin: Begin) -> None:
    decided: list[str] = []

    class Waiting(MessageStage):
        def text(self, text: str, sender: Side) -> str:
            answer: Deferred[str] = Deferred(lambda deferred: deferred.callback("cancelled"))
            self.conversation.wait(answer, decided.append)
            return text

    talk = begin(Waiting())
    talk.say(frame(TEXT, b"hello", key=KEY))
    talk.client.reset()
    talk.gateway.pump()
    assert talk.origin.was_cut
    assert not decided


# pace


@pytest.mark.parametrize("by", [Side.CLIENT, Side.UPSTREAM])
def test_a_reader_that_stands_still_stops_the_sender_and_gets_all_in_the_end(begin: Begin, by: Side) -> None:
    talk = begin(Noting(), buffer=32 * 1024)
    speaker, hearer = (talk.client, talk.origin) if by is Side.CLIENT else (talk.origin, talk.client)
    hearer.reading = False
    sender = Sender(by is Side.CLIENT)
    data = sender.message(Message(BINARY, bytes(20_000))) * 200
    speaker.send(data)
    talk.gateway.pump()
    source, target = sorted(talk.loop.handler.connections, key=lambda vc: vc.side is not by)
    assert not source.tcp.reading
    assert target.pending() < target.high_water + 512 * 1024
    hearer.reading = True
    talk.gateway.pump()
    assert hearer.take() == data
    talk.client.close()


def test_who_makes_a_stage_answer_and_does_not_read_is_not_read(begin: Begin) -> None:
    class Echo(MessageStage):
        def binary(self, data: bytes, sender: Side) -> bytes | None:
            self.conversation.send(sender, data)
            return None

    talk = begin(Echo(), buffer=32 * 1024)
    talk.client.reading = False
    data = frame(BINARY, bytes(20_000), key=KEY) * 200
    talk.client.send(data)
    talk.gateway.pump()
    (client,) = [vc for vc in talk.loop.handler.connections if vc.side is Side.CLIENT]
    assert not client.tcp.reading
    assert client.pending() < client.high_water + 512 * 1024
    talk.client.reading = True
    talk.gateway.pump()
    assert talk.client.take() == frame(BINARY, bytes(20_000)) * 200
    assert not talk.origin.take()
    talk.client.close()


def test_who_does_not_read_may_go_on_speaking_where_no_stage_adds(begin: Begin) -> None:
    talk = begin(Noting(), buffer=32 * 1024)
    talk.client.reading = False
    talk.origin.send(frame(BINARY, bytes(20_000)) * 100)
    talk.gateway.pump()
    data = frame(BINARY, bytes(20_000), key=KEY) * 100
    assert talk.say(data) == data
    talk.client.reading = True
    talk.client.close()


# ends


def test_an_end_without_a_close_frame_passes_as_one(begin: Begin) -> None:
    stage = Noting()
    talk = begin(stage)
    talk.client.finish()
    talk.gateway.pump()
    assert (talk.origin.ended, talk.client.ended) == (True, False)
    assert talk.say(frame(TEXT, b"still"), by=Side.UPSTREAM) == frame(TEXT, b"still")
    talk.origin.finish()
    talk.gateway.pump()
    assert talk.client.ended
    assert talk.line()["error"] is None
    assert stage.heard == [("upstream", "still")]


def test_a_truncation_stays_one(begin: Begin) -> None:
    talk = begin(Noting(), tls=True)
    talk.origin.send(frame(TEXT, b"hel")[:-1])
    talk.origin.finish()
    talk.gateway.pump()
    assert talk.client.ended
    assert not talk.client.layers[-1].goodbye
    talk.client.close()


@pytest.mark.parametrize("by", [Side.CLIENT, Side.UPSTREAM])
def test_a_reset_stays_one(begin: Begin, by: Side) -> None:
    talk = begin(Noting())
    (talk.client if by is Side.CLIENT else talk.origin).reset()
    talk.gateway.pump()
    assert (talk.origin if by is Side.CLIENT else talk.client).was_cut


def test_two_silent_sides_are_told_that_it_is_over(begin: Begin) -> None:
    talk = begin(Noting(lambda text: None), ini="[tunnel]\nidle_timeout = 30s")
    for by in [Side.UPSTREAM] * 4 + [Side.CLIENT] * 4:
        talk.loop.pass_time(20)
        assert talk.say(Sender(by is Side.CLIENT).message(Message(TEXT, b"alive")), by=by) == b""
    assert not talk.client.ended
    talk.loop.pass_time(32)
    assert talk.closed() == ([("close", 1001, "")], [("close", 1001, "")])
    talk.client.close()


def test_a_side_that_takes_nothing_after_the_end_does_not_take_the_others_goodbye_away(begin: Begin) -> None:
    talk = begin(Noting(), buffer=16 * 1024, ini="[tunnel]\nhigh_water = 1MiB")
    data = frame(BINARY, bytes(3000)) * 60
    talk.client.reading = talk.origin.reading = False
    talk.client.send(frame(BINARY, bytes(3000), key=KEY) * 60)
    talk.origin.send(data + b"\x83\x00")
    talk.gateway.pump()
    talk.loop.pass_time(STALLED - 10)
    talk.client.reading = True
    talk.client.turn()
    talk.client.reading = False
    talk.loop.pass_time(20)
    assert talk.origin.was_cut
    talk.client.reading = True
    talk.gateway.pump()
    assert talk.client.take() == data + frame(CLOSE, b"\x03\xeathe reserved opcode 3")


def test_an_end_in_the_middle_of_a_frame_is_one_without_a_goodbye_there(begin: Begin) -> None:
    class Filling(MessageStage):
        def text(self, text: str, sender: Side) -> str:
            self.conversation.send(Side.UPSTREAM, bytes(MAX_WAITING - 100))
            self.conversation.close(1001)
            return text

    talk = begin(Filling())
    part = frame(BINARY, bytes(1000), key=KEY)[:500]
    assert talk.say(part) == part
    talk.origin.send(frame(TEXT, b"now"))
    talk.gateway.pump()
    assert (talk.origin.take(), talk.origin.ended) == (b"", True)
    assert talk.client.take() == frame(CLOSE, b"\x03\xe9")


# what is not allowed


@pytest.mark.parametrize(
    ("by", "data", "code", "what"),
    [
        (Side.CLIENT, frame(TEXT, b"no mask"), 1002, "a frame without mask"),
        (Side.UPSTREAM, frame(TEXT, b"mask", key=KEY), 1002, "a masked frame"),
        (Side.CLIENT, frame(TEXT, b"\xff", key=KEY), 1007, "a text that is no UTF-8 (invalid start byte)"),
        (Side.UPSTREAM, b"\xc1\x01a", 1002, "a reserved bit that nothing was agreed on for"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_websocket_ends_it_on_both_sides(
    begin: Begin, by: Side, data: bytes, code: int, what: str, step: int
) -> None:
    stage = Noting()
    talk = begin(stage)
    good = Sender(by is Side.CLIENT).message(Message(TEXT, b"good"))
    assert talk.say(good, by=by) == good
    talk.say(data, by=by, step=step)
    assert talk.client.ended
    assert talk.origin.ended
    line = talk.line()
    assert (line["error"], line["error_text"]) == (
        "websocket",
        f"WebSocket from the {by.value}: {what}; close with {code}",
    )
    assert talk.gateway.facts[0].error.side is by  # type: ignore[union-attr]
    assert stage.over == 1


def test_what_came_before_an_error_passes_and_both_hear_why_it_ends(begin: Begin) -> None:
    talk = begin(Noting())
    talk.client.send(frame(TEXT, b"good", key=KEY) + b"\x83\x80")
    client, origin = talk.closed()
    closed = ("close", 1002, "the reserved opcode 3")
    assert (client, origin) == ([closed], [("content", b"good"), closed])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("refuse", [False, True])
def test_a_message_above_the_limit_passes_unseen_or_ends_the_conversation(
    begin: Begin, compressed: bool, refuse: bool
) -> None:
    stage = Noting(lambda data: b"changed")
    stage.max_message, stage.refuse_longer = 1000, refuse
    talk = begin(stage, offer=DEFLATE, agreed=DEFLATE[:18])
    sender = Sender(True, 15)
    fits = sender.message(Message(BINARY, bytes(1000), compressed))
    assert talk.heard(talk.say(fits), Side.UPSTREAM, bits=15) == [("content", b"changed")]
    longer = sender.message(Message(BINARY, bytes(1001), compressed, cuts=(1, 2)))
    talk.client.send(longer)
    talk.gateway.pump()
    assert len(stage.heard) == 1
    if not refuse:
        assert talk.heard(talk.origin.take(), Side.UPSTREAM, bits=15) == [("content", bytes(1001))]
    else:
        assert talk.closed() == 2 * ([("close", 1009, "a message above 1000 bytes")],)
    talk.client.close()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_both_sides_say_the_conversation_goes_on_or_ends_for_both(begin: Begin, loop: Loop, seed: int) -> None:
    dice = random.Random(seed)

    def decide(waiting: Deferred[Any], message: Any) -> None:
        if not waiting.called:
            waiting.callback(message)

    class Moody(MessageStage):
        def answer(self, message: Any) -> Any:
            mood = dice.randrange(8)
            if mood == 0:
                return None
            if mood == 1:
                return message + message
            if mood == 2:
                self.conversation.send(dice.choice([Side.CLIENT, Side.UPSTREAM]), message)
            if mood == 3:
                waiting: Deferred[Any] = Deferred()
                loop.callLater(dice.random() * 5, decide, waiting, message)
                return waiting
            return message

        def text(self, text: str, sender: Side) -> Any:
            return self.answer(text)

        def binary(self, data: bytes, sender: Side) -> Any:
            return self.answer(data)

    offer = DEFLATE[:18] if seed % 2 else b""
    talk = begin(Moody(), Noting(), Moody(), offer=offer, agreed=offer)
    for by, peer in ((Side.CLIENT, talk.client), (Side.UPSTREAM, talk.origin)) * 4:
        sender = Sender(by is Side.CLIENT, 15 if offer else None)
        said = bytearray(b"".join(map(sender.message, dice.choices(SAID, k=5))))
        if seed % 4 > 1:
            said[dice.randrange(len(said))] ^= 1 << dice.randrange(8)
        while said:
            size = dice.randrange(1, 400)
            peer.send(bytes(said[:size]))
            del said[:size]
            if dice.random() < 0.5:
                talk.gateway.pump()
    loop.pass_time(300)
    error = talk.gateway.facts[0].error
    assert error is None or isinstance(error, WebSocketError)
    assert talk.client.ended is talk.origin.ended is (error is not None)
    if error is None:
        assert talk.client.take()
        assert talk.origin.take()
    talk.client.close()


# what a stage does wrong


def fails(message: object) -> Any:
    raise KeyError("secret")


@pytest.mark.parametrize("answer", [fails, lambda text: 5, lambda text: text.encode(), lambda text: "\ud800"])
@pytest.mark.parametrize("late", [False, True])
def test_a_stage_that_fails_ends_its_conversation_and_nothing_else(
    begin: Begin, answer: Callable[[str], Any], late: bool
) -> None:
    waiting: Deferred[Any] = Deferred()
    stage = Noting((lambda text: waiting.addCallback(lambda _: answer(text))) if late else answer)
    talk = begin(Noting(), stage)
    talk.client.send(frame(TEXT, b"hello", key=KEY))
    talk.gateway.pump()
    if late:
        assert not talk.client.ended
        waiting.callback(None)
    assert talk.closed() == ([("close", 1011, "")], [("close", 1011, "")])
    line = talk.line()
    assert line["error"] == "transform"
    assert line["error_text"].startswith("[transform:t1]: it failed (")
    assert "secret" not in str(line)
    assert stage.over == 1
    assert len(talk.loop.failures) == 1
    talk.loop.failures.clear()
    talk.client.close()


@pytest.mark.parametrize("where", ["begin", "inspect"])
def test_a_stage_that_fails_at_once_ends_its_conversation(begin: Begin, where: str) -> None:
    stage = Noting()
    setattr(stage, where, lambda *args: fails(None))
    talk = begin(stage)
    assert talk.closed() == ([("close", 1011, "")], [("close", 1011, "")])
    assert talk.line()["error_text"].startswith("[transform:t0]: it failed (KeyError)")
    talk.loop.failures.clear()
    talk.client.close()


def test_a_stage_that_fails_at_the_end_keeps_nobody_from_ending(begin: Begin) -> None:
    stages = Noting(), Noting()
    stages[0].ended = lambda: fails(None)  # type: ignore[method-assign]
    talk = begin(*stages)
    talk.client.reset()
    talk.gateway.pump()
    assert talk.origin.was_cut
    assert stages[1].over == 1
    assert len(talk.loop.failures) == 1
    talk.loop.failures.clear()


def test_a_stage_may_refuse_a_message_with_a_reason(begin: Begin) -> None:
    def refuse(text: str) -> str:
        raise PolicyError("not here", where="a test", remedy="say something else")

    talk = begin(Noting(refuse))
    talk.client.send(frame(TEXT, b"hello", key=KEY))
    assert talk.closed() == ([("close", 1008, "not here")], [("close", 1008, "not here")])
    assert talk.line()["error"] == "policy"


# what else a stage may do


def test_a_stage_may_speak_first(begin: Begin) -> None:
    class Greeter(MessageStage):
        def begin(self) -> None:
            self.conversation.send(Side.CLIENT, "this conversation is recorded")

    talk = begin(Greeter(), early=(b"", frame(TEXT, b"hello")))
    assert talk.client.take() == frame(TEXT, b"this conversation is recorded") + frame(TEXT, b"hello")
    talk.client.close()


def test_what_is_promised_when_the_conversation_is_over_is_cancelled(begin: Begin) -> None:
    cancelled: list[object] = []

    class Late(MessageStage):
        def text(self, text: str, sender: Side) -> Deferred[str | None]:
            self.conversation.close()
            return Deferred(cancelled.append)

    talk = begin(Late())
    talk.client.send(frame(TEXT, b"hello", key=KEY))
    assert talk.closed() == ([("close", 1000, "")], [("close", 1000, "")])
    assert len(cancelled) == 1


def test_a_stage_may_speak_for_itself_and_end_the_conversation(begin: Begin) -> None:
    class Guard(MessageStage):
        def text(self, text: str, sender: Side) -> str | None:
            with pytest.raises(InterceptError, match="ourselves"):
                self.conversation.send(Side.OURS, text)
            with pytest.raises(InterceptError, match="close frame with code 1006"):
                self.conversation.close(1006)
            self.conversation.send(Side.CLIENT, "you said " + text)
            self.conversation.send(Side.UPSTREAM, text.encode())
            if text == "quit":
                self.conversation.close(4000, "as you like")
                self.conversation.send(Side.CLIENT, "too late")
            return None

    talk = begin(Guard())
    origin = talk.say(frame(TEXT, b"hello", key=KEY))
    assert talk.heard(origin, Side.UPSTREAM) == [("content", b"hello")]
    assert talk.client.take() == frame(TEXT, b"you said hello")
    talk.client.send(frame(TEXT, b"quit", key=KEY))
    client, origin_events = talk.closed()
    assert client == [("content", b"you said quit"), ("close", 4000, "as you like")]
    assert origin_events == [("content", b"quit"), ("close", 4000, "as you like")]
    assert talk.line()["error"] is None


# what is agreed on


class Negotiation:
    """What transforms make of a request that offers extensions, and of the 101 to it."""

    def __init__(
        self, loop: Loop, *entries: Entry, offer: bytes = b"", agreed: bytes = b"", upgrade: bytes = b"websocket"
    ) -> None:
        raw = REQUEST.replace(b"websocket", upgrade) + (EXTENSIONS + offer + b"\r\n" if offer else b"") + b"\r\n"
        self.request = read_request(raw, "http", Address("origin.test", 80))
        self.raw = SWITCH + (EXTENSIONS + agreed + b"\r\n" if agreed else b"")
        facts = Facts("id", Address("192.0.2.1", 1), "proxy")
        made = TransformProcessor(entries, Bounds(100, 1 << 20), loop.handler).select(self.request, facts)
        assert made is not None
        made.start()
        self.transforming = made

    @property
    def offered(self) -> list[bytes]:
        return self.transforming.request.all(b"sec-websocket-extensions")

    def answer(self, fields: bytes = b"", status: bytes = b"101") -> tuple[MessageStages | None, HttpMessage]:
        head = read_response(self.raw.replace(b"101", status) + fields + b"\r\n", b"GET")
        message, _ = self.transforming.response(head, has_body=False)
        return self.transforming.conversation(message), message


def entry(stage: MessageStage | None = None, **options: Any) -> Entry:
    return Entry("t", Match([]), Giving(stage), **options)


@pytest.mark.parametrize("upgrade", [b"websocket", b"WebSocket", b"h2c, websocket"])
@pytest.mark.parametrize(
    ("offer", "left"),
    [
        (b"", []),
        (b"x-snappy", []),
        (b"x-snappy, permessage-deflate; client_max_window_bits", [DEFLATE]),
        (DEFLATE + b", " + DEFLATE[:18], [DEFLATE + b", " + DEFLATE[:18]]),
    ],
)
def test_the_origin_is_offered_what_we_can_read(loop: Loop, upgrade: bytes, offer: bytes, left: list[bytes]) -> None:
    assert Negotiation(loop, entry(), offer=offer, upgrade=upgrade).offered == left


def test_the_offer_stays_where_nobody_may_want_messages(loop: Loop) -> None:
    class Heads(Transformer):
        def transform(self, message: HttpMessage) -> None:
            return None

    other = Entry("t", Match([]), Heads())
    assert Negotiation(loop, other, offer=b"x-snappy").offered == [b"x-snappy"]
    assert Negotiation(loop, other, offer=b"x-snappy").answer()[0] is None
    assert Negotiation(loop, entry(), offer=b"x-snappy", upgrade=b"h2c").offered == [b"x-snappy"]


def test_the_stages_of_those_that_match_are_taken_in_their_order(loop: Loop) -> None:
    stages = MessageStage(), MessageStage()
    given = [Entry("one", Match([]), Giving(stages[0])), entry(None), Entry("two", Match([]), Giving(stages[1]))]
    talk = Negotiation(loop, *given, offer=DEFLATE, agreed=DEFLATE[:18] + b"; client_no_context_takeover")
    found, _ = talk.answer()
    assert found is not None
    assert found.stages == [("[transform:one]", stages[0]), ("[transform:two]", stages[1])]
    assert found.deflate == Deflate(client_no_context_takeover=True)


def test_there_is_no_conversation_where_nobody_gives_a_stage_or_nothing_is_switched(loop: Loop) -> None:
    assert Negotiation(loop, entry(None)).answer()[0] is None
    assert Negotiation(loop, entry(MessageStage())).answer(status=b"200")[0] is None


@pytest.mark.parametrize("agreed", [b"x-snappy", b"permessage-deflate; server_max_window_bits=99", b"a;;"])
def test_what_was_agreed_on_and_cannot_be_read_passes_unseen_or_is_blocked(loop: Loop, agreed: bytes) -> None:
    found, message = Negotiation(loop, entry(MessageStage()), offer=DEFLATE, agreed=agreed).answer()
    assert found is None
    assert message.notes == {"t": "not applied to an extension of WebSocket that we cannot read"}
    blocking = Negotiation(loop, entry(MessageStage(), block_unknown_coding=True), offer=DEFLATE, agreed=agreed)
    with pytest.raises(UnknownExtension, match="cannot read") as caught:
        blocking.answer()
    assert (caught.value.status, caught.value.side) == (502, Side.UPSTREAM)


def test_no_transform_keeps_stages_out_unless_told_otherwise(loop: Loop) -> None:
    forbids = b"Cache-Control: no-transform\r\n"
    assert Negotiation(loop, entry(MessageStage())).answer(forbids)[0] is None
    assert Negotiation(loop, entry(MessageStage(), respect_no_transform=False)).answer(forbids)[0] is not None
    looks = entry(MessageStage())
    looks.transformer.changes = False
    assert Negotiation(loop, looks).answer(forbids)[0] is not None


def test_a_transform_that_fails_when_it_is_asked_for_a_stage_is_named(loop: Loop) -> None:
    class Broken(Giving):
        def messages(self, message: HttpMessage) -> MessageStage | None:
            raise KeyError("secret")

    broken = Entry("t", Match([]), Broken())
    with pytest.raises(StageError, match=r"\[transform:t\]: it failed \(KeyError\)"):
        Negotiation(loop, broken).answer()
    assert len(loop.failures) == 1
    loop.failures.clear()
