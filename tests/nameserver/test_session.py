"""Questions on a connection: in any pieces, many at once, answered in any order, never more than there is room for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sslintercept.dns import message as m
from sslintercept.facts import Address, Facts, Scope
from sslintercept.nameserver import session as module
from sslintercept.nameserver.reply import Query, addresses, read_query
from sslintercept.nameserver.session import IDLE, NameAcceptor
from sslintercept.net.vconnection import NetVConnection
from sslintercept.rule.decide import DEFAULT
from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer

from ..dns.support import labels
from .support import readable


def framed(number: int, name: str = "www.example.com") -> bytes:
    data = m.query(number, m.question(labels(name), m.A))
    return len(data).to_bytes(2, "big") + data


def answers(data: bytes) -> list[int]:
    """The ids of what was answered."""
    found = []
    while data:
        size = int.from_bytes(data[:2], "big")
        found.append(readable(data[2 : 2 + size]).id)
        data = data[2 + size :]
    return found


class Service:
    """Answers when a test says so."""

    def __init__(self) -> None:
        self.open: list[Callable[[], object]] = []
        self.at_once = False
        self.size = 1

    def ask(self, data: bytes, client: Address, listener: str, reply: Callable[[Query | None, bytes], object]) -> bool:
        query = read_query(data)
        if not isinstance(query, Query):
            return False
        made = addresses(query, [f"192.0.{i >> 8}.{i & 255}" for i in range(self.size)], 60)
        if self.at_once:
            reply(query, made)
        else:
            self.open.append(lambda: reply(query, made))
        return True

    def answer(self, at: int = 0) -> None:
        self.open.pop(at)()


class Client:
    """A client on a connection."""

    def __init__(self, loop: Loop, peeked: bytes = b"", buffer: int | None = None) -> None:
        self.loop = loop
        self.service = Service()
        self.relayed: list[bytes] = []
        self.vc, sock = loop.pair(buffer=buffer)
        self.peer = Peer(loop, sock, self.vc)
        self.facts = Facts("c1", self.vc.peer, "dns")
        self._peeked = peeked

    def begin(self, scope: Scope | None = None) -> None:
        self.facts.scope = scope
        NameAcceptor(self.service, self).accept(self.vc, self.facts, self._peeked)  # type: ignore[arg-type]  # stand-ins

    protocol = "unknown"

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        self.relayed.append(peeked)
        vc.close()

    def said(self, data: bytes) -> None:
        self.peer.send(data)
        self.loop.pump()

    def heard(self) -> list[int]:
        self.loop.pump()
        return answers(self.peer.take())


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_questions_come_in_any_pieces_and_answers_in_any_order(loop: Loop, size: int) -> None:
    script = framed(1) + framed(2) + framed(3)
    client = Client(loop, script[:size])
    client.begin()
    for at in range(size, len(script), size):
        client.said(script[at : at + size])
    assert len(client.service.open) == 3
    client.service.answer(1)
    client.service.answer(1)
    client.service.answer(0)
    assert client.heard() == [2, 3, 1]
    assert client.facts.stack == "tcp/dns"


def test_more_than_there_is_room_for_waits(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    client = Client(loop)
    client.begin()
    client.said(b"".join(framed(number) for number in range(5)))
    assert len(client.service.open) == 2
    assert not client.vc.tcp.reading
    for number in range(5):
        client.service.answer()
        assert client.heard() == [number]
    assert client.vc.tcp.reading


def test_a_client_that_does_not_read_is_not_read(loop: Loop) -> None:
    client = Client(loop, buffer=4096)
    client.vc.high_water, client.vc.low_water = 8192, 4096
    client.service.at_once = True
    client.service.size = 1000
    client.begin()
    client.peer.reading = False
    for number in range(20):
        client.said(framed(number))
    assert not client.vc.tcp.reading
    client.peer.reading = True
    assert client.heard() == list(range(20))


def test_what_is_no_question_ends_the_connection(loop: Loop) -> None:
    client = Client(loop)
    client.begin()
    client.said(framed(1) + b"\0\1x" + framed(2))
    assert len(client.service.open) == 1
    assert client.peer.ended
    client.service.answer()


def test_a_client_that_has_asked_everything_still_gets_its_answers(loop: Loop) -> None:
    client = Client(loop)
    client.begin()
    client.said(framed(1))
    client.peer.finish()
    loop.pump()
    assert not client.peer.ended
    client.service.answer()
    assert client.heard() == [1]
    assert client.peer.ended
    idle = Client(loop)
    idle.begin()
    idle.peer.finish()
    loop.pump()
    assert idle.peer.ended


def test_a_silent_connection_is_closed(loop: Loop) -> None:
    client = Client(loop)
    client.begin()
    loop.pass_time(IDLE + 2)
    assert client.peer.ended


def test_an_answer_for_somebody_who_has_left_goes_nowhere(loop: Loop) -> None:
    client = Client(loop)
    client.begin()
    client.said(framed(1))
    client.peer.reset()
    loop.pump()
    client.service.answer()


def test_on_its_way_to_another_server_it_is_relayed(loop: Loop) -> None:
    client = Client(loop, framed(1))
    client.begin(Scope(Address("192.0.2.53", 53), DEFAULT))
    assert client.relayed == [framed(1)]


def test_the_whole_gateway_answers_in_the_clear_and_inside_tls(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:dns]\nendpoint = tcp:53\naccept = dns, tls\n")
    client = gateway.client()
    client.send(framed(9))
    gateway.pump()
    assert answers(client.take()) == [9]
    client.close()
    gateway.pump()
    secure = gateway.client()
    secure.start_tls("proxy.test")
    gateway.pump()
    secure.send(framed(8))
    gateway.pump()
    assert answers(secure.take()) == [8]
    assert gateway.facts[-1].stack == "tcp/tls1.3/dns"
    secure.close()
