"""The session that reads the header of the PROXY protocol, on real connections."""

from __future__ import annotations

import socket

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from zope.interface.verify import verifyObject

from sslintercept.errors import PolicyError, TimedOut
from sslintercept.facts import Address, Facts
from sslintercept.log.sequence import Sequence
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.accept import Probe
from sslintercept.probe.proxyaccept import ProxyLineAccept, trusted
from sslintercept.probe.proxyline import ProxyLine, ProxyLineError
from sslintercept.rule.match import Networks
from sslintercept.testing.loop import Loop
from tests.support import Listening, is_ended

LINE = b"PROXY TCP4 198.51.100.1 203.0.113.2 1234 443\r\n"
TIMEOUT = 10.0


class Balanced:
    """A connection that waits for its header, and what became of it."""

    def __init__(self, loop: Loop) -> None:
        self.sock: socket.socket
        self.vc: NetVConnection
        self.vc, self.sock = loop.pair()
        self.loop = loop
        self.facts = Facts("1", self.vc.peer, "main")
        self.got: list[tuple[ProxyLine, bytes]] = []
        self.after = Listening()
        self.session = ProxyLineAccept(self.vc, self.facts, TIMEOUT, self.done)
        self.session.begin()

    def done(self, line: ProxyLine, rest: bytes) -> None:
        self.got.append((line, rest))
        self.vc.attach(self.after)

    def say(self, data: bytes) -> None:
        self.sock.send(data)
        self.loop.pump()


def test_the_client_is_who_the_header_says_and_the_peer_stays_the_balancer(loop: Loop) -> None:
    balanced = Balanced(loop)
    assert verifyObject(IProtocol, balanced.session)
    assert verifyObject(IHalfCloseableProtocol, balanced.session)
    balanced.facts.sequence = sequence = Sequence()
    balanced.say(LINE + b"GET / ")
    ((line, rest),) = balanced.got
    assert (line.destination, rest) == (Address("203.0.113.2", 443), b"GET / ")
    assert balanced.facts.client == Address("198.51.100.1", 1234)
    assert balanced.vc.peer == Address("192.0.2.1", 50000)
    assert "the client is 198.51.100.1:1234" in sequence.plantuml()
    assert balanced.facts.error is None
    balanced.say(b"HTTP/1.1")
    assert balanced.after.got == b"HTTP/1.1"


def test_a_header_may_come_in_pieces_and_its_wait_ends_with_it(loop: Loop) -> None:
    balanced = Balanced(loop)
    for byte in LINE:
        assert balanced.got == []
        balanced.say(bytes([byte]))
    ((_, rest),) = balanced.got
    assert rest == b""
    assert balanced.vc.deadline == NEVER
    loop.pass_time(TIMEOUT * 2)
    assert not balanced.vc.closing


def test_a_balancer_that_speaks_for_itself_is_the_client(loop: Loop) -> None:
    balanced = Balanced(loop)
    balanced.say(b"PROXY UNKNOWN\r\n")
    assert balanced.got == [(ProxyLine(1), b"")]
    assert balanced.facts.client == balanced.vc.peer


def test_from_a_trusted_address_the_header_is_required(loop: Loop) -> None:
    balanced = Balanced(loop)
    balanced.facts.sequence = sequence = Sequence()
    balanced.say(b"GET / HTTP/1.1\r\n\r\n")
    assert balanced.got == []
    assert is_ended(balanced.sock)
    assert isinstance(balanced.facts.error, ProxyLineError)
    assert "does not begin with one; let the balancer send it" in str(balanced.facts.error)
    assert "no PROXY header" in sequence.plantuml()


def test_a_balancer_that_says_nothing_or_half_of_it_is_closed_in_time(loop: Loop) -> None:
    for said in (b"", LINE[:-1]):
        balanced = Balanced(loop)
        if said:
            balanced.say(said)
        loop.pass_time(TIMEOUT - 2)
        assert not is_ended(balanced.sock)
        loop.pass_time(4)
        assert is_ended(balanced.sock)
        assert isinstance(balanced.facts.error, TimedOut)
        assert balanced.got == []


def test_slow_bytes_do_not_put_the_end_off(loop: Loop) -> None:
    balanced = Balanced(loop)
    for byte in LINE[:12]:
        balanced.say(bytes([byte]))
        loop.pass_time(1)
    assert balanced.vc.closing


def test_a_header_that_is_cut_off_is_a_fault_and_a_mere_knock_is_none(loop: Loop) -> None:
    cut, knock = Balanced(loop), Balanced(loop)
    cut.say(LINE[:9])
    for balanced in (cut, knock):
        balanced.sock.shutdown(socket.SHUT_WR)
        loop.pump()
        assert is_ended(balanced.sock)
    assert "in the middle" in str(cut.facts.error)
    assert knock.facts.error is None


def test_a_balancer_that_resets_leaves_nothing(loop: Loop) -> None:
    balanced = Balanced(loop)
    balanced.vc.abort()
    loop.pump()
    assert balanced.got == []


def test_only_networks_that_are_listed_are_trusted() -> None:
    networks = Networks(["192.0.2.0/24", "2001:db8::/32"])
    for host in ("192.0.2.9", "2001:db8::9", "::ffff:192.0.2.9"):
        assert trusted(networks, host)
    for host in ("198.51.100.1", "2001:db9::1", "unix", "", "fe80::1%eth0"):
        assert not trusted(networks, host)
    assert not trusted(Networks(()), "192.0.2.9")


@pytest.mark.parametrize("header", [LINE, b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12)])
def test_on_a_port_of_our_own_the_probe_lets_no_header_of_a_stranger_pass(loop: Loop, header: bytes) -> None:
    vc, sock = loop.pair()
    facts = Facts("1", vc.peer, "main")
    Probe(
        timeout=TIMEOUT, silence=1, limit=1024, allowed={"main": frozenset({"http/1", "http/2", "tls", "socks5"})}
    ).accept(vc, facts)
    sock.send(header)
    loop.pump()
    assert is_ended(sock)
    assert isinstance(facts.error, PolicyError)
    assert "a PROXY header of 192.0.2.1, which is none of the balancers" in str(facts.error)
    assert str(facts.error).endswith("see [listen:main] proxy_protocol")
