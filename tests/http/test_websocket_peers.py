"""The library websockets on both sides of a conversation through stages: somebody else's frames and compression."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from sslintercept.facts import Side
from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from sslintercept.websocket.stage import MessageStage
from tests.http.test_websocket import wire
from tests.sequences.support import CLIENT_FIRST, intercepted

Options = dict[str, Any]


class End:
    """One side: the library's protocol, driven by what a peer gets."""

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        self.protocol = protocol
        self.frames: list[tuple[Opcode, bytes]] = []
        """messages put together, and controls"""
        self.peer: Peer
        self._partial: list[Frame] = []

    def met(self, peer: Peer) -> None:
        self.peer = peer
        peer.received = self.received

    def received(self, peer: Peer) -> None:
        if data := peer.take():
            self.protocol.receive_data(data)
        if peer.ended:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                assert isinstance(self.protocol, ServerProtocol)
                self.protocol.send_response(self.protocol.accept(event))
            elif isinstance(event, Frame):
                self._frame(event)
            else:
                assert isinstance(event, Response)
                assert event.status_code == 101
        self.flush()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self.frames.append((frame.opcode, bytes(frame.data)))
            return
        self._partial.append(frame)
        if frame.fin:
            self.frames.append((self._partial[0].opcode, b"".join(bytes(each.data) for each in self._partial)))
            self._partial.clear()

    def flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.peer.send(data)
            else:
                self.peer.finish()

    def taken(self) -> list[tuple[Opcode, bytes]]:
        frames, self.frames = self.frames, []
        return frames


class Swap(MessageStage):
    """Changes, drops and holds some messages, the rest passes."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def text(self, text: str, sender: Side) -> Any:
        changed = swapped(text)
        if changed is None or "late" not in text:
            return changed
        waiting: Deferred[str] = Deferred()
        self.loop.callLater(0.5, waiting.callback, changed)
        return waiting


def swapped(text: str) -> str | None:
    return text.replace("late", "LATE") if "late" in text else None if "drop" in text else text.replace("cat", "dog")


@pytest.fixture
def pair(loop: Loop) -> Callable[..., tuple[End, End, MemoryGateway]]:
    """Both sides, joined through a gateway that opens their TLS."""

    def pair(client_options: Options | None, server_options: Options | None, *stages: MessageStage) -> Any:
        gateway = MemoryGateway(loop, CLIENT_FIRST)
        wire(gateway, *stages)
        offers = None if client_options is None else [ClientPerMessageDeflateFactory(**client_options)]
        takes = None if server_options is None else [ServerPerMessageDeflateFactory(**server_options)]
        server = End(ServerProtocol(extensions=takes))
        script = gateway.origin("origin.test:443", lambda peer: server.received(peer), tls=gateway.leaf("origin.test"))
        met = script.met
        script.met = lambda peer: (server.met(peer), met(peer))[1]  # type: ignore[method-assign,func-returns-value]
        uri = parse_uri("wss://origin.test/chat")
        client = End(ClientProtocol(uri, extensions=offers))
        client.met(intercepted(gateway))
        assert isinstance(client.protocol, ClientProtocol)
        client.protocol.send_request(client.protocol.connect())
        client.flush()
        gateway.pump()
        assert client.protocol.state is server.protocol.state is State.OPEN
        assert bool(client.protocol.extensions) is (offers is not None and takes is not None)
        return client, server, gateway

    return pair


TERMS = [
    (None, None),
    ({}, None),
    ({}, {}),
    ({"client_max_window_bits": True}, {"server_max_window_bits": 12, "client_max_window_bits": 12}),
    ({"client_no_context_takeover": True}, {"server_no_context_takeover": True}),
    ({"client_max_window_bits": 9, "server_max_window_bits": 9}, {"client_max_window_bits": 9}),
]


@pytest.mark.parametrize(("offer", "take"), TERMS)
def test_two_hundred_messages_each_way_arrive_changed_as_they_should(
    pair: Callable[..., Any], loop: Loop, offer: Options | None, take: Options | None
) -> None:
    client, server, gateway = pair(offer, take, Swap(loop), MessageStage(), Swap(loop))
    dice = random.Random(7)
    words = ["cat ", "über ", "drop ", "late ", "the quick brown fox ", "\U0001f600 ", "a" * 300]
    for speaker, hearer in ((client, server), (server, client)):
        expected: list[tuple[Opcode, bytes]] = []
        for _ in range(200):
            text = "".join(dice.choices(words, [9, 9, 1, 1, 9, 9, 3], k=dice.randrange(6)))
            send(speaker.protocol, dice, text.encode())
            speaker.flush()
            if (left := swapped(text)) is not None and (left := swapped(left)) is not None:
                expected.append((Opcode.TEXT, left.encode()))
            if dice.random() < 0.3:
                gateway.pump()
        loop.pass_time(200)
        assert hearer.taken() == expected
    client.protocol.send_ping(b"are you there")
    client.flush()
    gateway.pump()
    assert server.taken() == [(Opcode.PING, b"are you there")]
    assert client.taken() == [(Opcode.PONG, b"are you there")]
    client.protocol.send_close(1000, "done")
    client.flush()
    gateway.pump()
    for end in (client, server):
        assert (end.protocol.close_code, end.protocol.close_reason) == (1000, "done")
    # The server ends TCP first (RFC 6455 7.1.1); TLS's goodbye is the peer's own.
    server.peer.say_goodbye()
    gateway.pump()
    client.peer.close()


def send(protocol: Protocol, dice: random.Random, data: bytes) -> None:
    """Say a text, whole or in fragments."""
    if not data or dice.random() < 0.6:
        protocol.send_text(data)
        return
    at = dice.randrange(len(data))
    protocol.send_text(data[:at], fin=False)
    protocol.send_continuation(data[at:], fin=True)


def test_binary_messages_of_a_megabyte_pass_with_compression(pair: Callable[..., Any], loop: Loop) -> None:
    client, server, gateway = pair({}, {}, Swap(loop))
    data = random.Random(7).randbytes(1_000_000)
    client.protocol.send_binary(data)
    client.flush()
    server.protocol.send_binary(data[::-1])
    server.flush()
    gateway.pump()
    assert server.taken() == [(Opcode.BINARY, data)]
    assert client.taken() == [(Opcode.BINARY, data[::-1])]
    client.peer.close()


def test_both_libraries_read_why_a_conversation_was_ended(pair: Callable[..., Any], loop: Loop) -> None:
    class Guard(MessageStage):
        def text(self, text: str, sender: Side) -> str:
            self.conversation.close(1008, "not here")
            return text

    client, server, gateway = pair({}, {}, Guard())
    client.protocol.send_text(b"hello")
    client.flush()
    gateway.pump()
    for end in (client, server):
        assert (end.protocol.close_code, end.protocol.close_reason) == (1008, "not here")
        assert end.peer.ended
