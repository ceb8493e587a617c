"""The probe on real connections: it waits for bytes, keeps them in order, and hands over by the table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.protocol import Protocol

from sslintercept.errors import ClientError
from sslintercept.facts import Action, Address, Decision, Facts, Scope, Side
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import EARLY, HEARD, Hanging, Probe, hung
from sslintercept.testing.loop import Loop
from tests.support import is_ended, read_all


class Taking:
    """An acceptor that writes down what it gets."""

    def __init__(self, protocol: str, refuse: bool = False) -> None:
        self.protocol = protocol
        self.got: list[bytes] = []
        self.refuse = refuse
        self.session: Protocol = Protocol()

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        self.got.append(peeked)
        if self.refuse:
            raise ClientError("no", where="here", remedy="none")
        received = self.got
        self.session.dataReceived = lambda data: received.append(data)  # type: ignore[method-assign]  # a stand-in
        vc.attach(self.session)
        vc.resumeProducing()


def probe(*acceptors: Taking, limit: int = 1024) -> Probe:
    made = Probe(timeout=10.0, silence=0.3, limit=limit, allowed={"all": frozenset(a.protocol for a in acceptors)})
    for acceptor in acceptors:
        made.register(acceptor)
    return made


def facts(action: Action | None = None, port: int = 80) -> Facts:
    made = Facts("1", Address("192.0.2.1", 1), "all")
    if action is not None:
        made.scope = Scope(Address("origin.test", port), Decision(action, "r", "why"))
    return made


OPENINGS = {
    "http/1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "socks5": b"\x05\x01\x00",
}


@pytest.mark.parametrize("protocol", OPENINGS)
def test_an_opening_is_recognised_at_every_cut_and_delivered_once_in_order(loop: Loop, protocol: str) -> None:
    """T1.1, T1.2"""
    raw = OPENINGS[protocol]
    for at in range(1, len(raw)):
        taking = [Taking(name) for name in OPENINGS]
        vc, sock = loop.pair()
        probe(*taking).accept(vc, facts())
        for piece in (raw[:at], raw[at:]):
            sock.send(piece)
            loop.pump()
        assert {one.protocol: b"".join(one.got) for one in taking if one.got} == {protocol: raw}
        sock.close()


def test_bytes_that_are_here_already_decide_at_once(loop: Loop) -> None:
    taking = Taking("http/1")
    vc, _ = loop.pair()
    probe(taking).accept(vc, facts(), b"GET / ")
    assert taking.got == [b"GET / "]


def test_bytes_that_are_here_already_and_decide_nothing_are_kept(loop: Loop) -> None:
    taking = Taking("http/1")
    vc, sock = loop.pair()
    probe(taking).accept(vc, facts(), b"GE")
    sock.send(b"T / ")
    loop.pump()
    assert taking.got == [b"GET / "]


def test_a_verdict_is_served_by_one_acceptor_unless_it_is_replaced() -> None:
    made = probe(Taking("http/1"))
    with pytest.raises(ValueError, match="http/1 is served already"):
        made.register(Taking("http/1"))
    other = Taking("http/1")
    made.register(other, replace=True)
    assert made.acceptors["http/1"] is other


def test_an_acceptor_that_refuses_closes_the_connection(loop: Loop) -> None:
    known = facts()
    vc, sock = loop.pair()
    probe(Taking("http/1", refuse=True)).accept(vc, known)
    sock.send(b"GET / ")
    loop.pump()
    assert is_ended(sock)
    assert isinstance(known.error, ClientError)


def test_in_a_tunnel_what_nobody_serves_goes_to_whoever_serves_unknown(loop: Loop) -> None:
    unknown = Taking("unknown")
    vc, _ = loop.pair()
    probe(unknown).accept(vc, facts(Action.INTERCEPT), b"SSH-2.0-x\r\n")
    assert unknown.got == [b"SSH-2.0-x\r\n"]


def test_in_a_tunnel_without_anybody_for_it_the_connection_closes(loop: Loop) -> None:
    vc, sock = loop.pair()
    probe().accept(vc, facts(Action.INTERCEPT), b"SSH-2.0-x\r\n")
    loop.pump()
    assert is_ended(sock)


def test_a_scope_that_is_to_be_tunnelled_goes_to_unknown_whatever_the_verdict(loop: Loop) -> None:
    http, unknown = Taking("http/1"), Taking("unknown")
    vc, _ = loop.pair()
    probe(http, unknown).accept(vc, facts(Action.TUNNEL), b"GET / ")
    assert (http.got, unknown.got) == ([], [b"GET / "])


@pytest.mark.parametrize("answer", [None, Decision(Action.TUNNEL, "late", "now it is known")])
def test_the_rules_are_asked_for_their_last_word_when_no_hello_will_come(loop: Loop, answer: Decision | None) -> None:
    http, unknown = Taking("http/1"), Taking("unknown")
    made = probe(http, unknown)
    known = facts(Action.INTERCEPT)
    assert known.scope is not None
    known.scope.decided = False
    made.settle = lambda facts: answer
    vc, _ = loop.pair()
    made.accept(vc, known, b"GET / ")
    assert known.scope.decided
    assert (known.server_name, known.client_hello) == (None, None)
    assert bool(unknown.got) is (answer is not None)
    assert known.decision == answer


def test_a_full_buffer_decides(loop: Loop) -> None:
    unknown = Taking("unknown")
    vc, sock = loop.pair()
    probe(unknown, limit=8).accept(vc, facts(Action.INTERCEPT))
    sock.send(b"\x04\x01\x00\x50\x7f\x00\x00\x01name without end")
    loop.pump()
    assert len(unknown.got) == 1


# the connection in the slot


def hanging(loop: Loop) -> tuple[NetVConnection, Hanging, Callable[[bytes], object]]:
    client, _ = loop.pair()
    server, theirs = loop.pair(Side.UPSTREAM)
    client.hang(server)
    return client, Hanging(server), theirs.send


def test_early_bytes_are_kept_and_given_to_whoever_takes_the_connection(loop: Loop) -> None:
    client, waiting, say = hanging(loop)
    say(b"early")
    loop.pump()
    assert hung(client) is waiting
    assert waiting.take() == b"early"
    assert waiting.take() == b""


def test_early_bytes_beyond_a_limit_are_not_read(loop: Loop) -> None:
    _, waiting, say = hanging(loop)
    for _ in range(6):
        say(b"x" * 30_000)
        loop.pump()
    assert EARLY < len(waiting.early) < EARLY + 30_001
    assert not waiting.vc.tcp.reading


def test_what_is_relayed_is_kept_no_longer_and_stops_when_somebody_takes_over(loop: Loop) -> None:
    client, sock = loop.pair()
    server, theirs = loop.pair(Side.UPSTREAM)
    client.hang(server)
    waiting = Hanging(server)
    theirs.send(b"one ")
    loop.pump()
    waiting.relay(client)
    theirs.send(b"two ")
    loop.pump()
    assert read_all(sock) == b"one two "
    assert waiting.take() == b""
    theirs.send(b"three")
    loop.pump()
    assert read_all(sock) == b""
    assert waiting.take() == b"three"


@pytest.mark.parametrize("piece", [HEARD - 1, HEARD, HEARD + 1, 7000])
def test_what_is_relayed_is_kept_up_to_a_limit_and_nothing_is_relayed_beyond_it(loop: Loop, piece: int) -> None:
    client, sock = loop.pair()
    server, theirs = loop.pair(Side.UPSTREAM)
    client.hang(server)
    waiting = Hanging(server)
    full: list[int] = []
    waiting.full = lambda: full.append(len(waiting.heard))
    waiting.relay(client)
    said = bytes(range(256)) * 400
    heard = b""
    for at in range(0, len(said), piece):
        theirs.send(said[at : at + piece])
        loop.pump()
        heard += read_all(sock)
    assert full == [HEARD]
    assert heard == bytes(waiting.heard) == said[:HEARD]
    assert not server.tcp.reading
    held = waiting.take()
    assert said.startswith(heard + held)
    server.resumeProducing()
    loop.pump()
    assert heard + held + waiting.take() == said


def test_a_connection_that_ends_in_the_slot_tells_whoever_waits_for_it(loop: Loop) -> None:
    client, _ = loop.pair()
    server, theirs = loop.pair(Side.UPSTREAM)
    client.hang(server)
    waiting = Hanging(server)
    lost: list[Exception | None] = []
    waiting.lost = lost.append
    theirs.close()
    loop.pump()
    assert lost == [None]
    assert hung(client) is None
    assert client.pick_up() is None


def test_a_connection_that_stands_still_in_the_slot_too_long_is_closed(loop: Loop) -> None:
    _, waiting, _ = hanging(loop)
    waiting.vc.deadline = 5.0
    loop.pass_time(6)
    assert waiting.vc.closing
