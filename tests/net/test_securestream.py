"""Streams of TLS to name servers: proven, lost, refused, too slow, and given up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from sslintercept.dns.server import Server
from sslintercept.errors import ResolveError
from sslintercept.facts import Address
from sslintercept.net.securestream import Nobody, open_secure
from sslintercept.net.upstream import UpstreamTls
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import EPOCH, Peer
from sslintercept.tls.context import UpstreamContext
from sslintercept.tls.verify import Verifier
from tests.support import authority, leaf


class NameServer:
    """Somebody who listens, and a stream to it."""

    def __init__(self, loop: Loop, name: str = "dns.test") -> None:
        self.loop = loop
        self.sock = socket.create_server(("127.0.0.1", 0))
        tls = UpstreamTls(
            UpstreamContext(min_version="1.2"),
            Verifier([authority().certificate], None),
            require=True,
            timeout=5.0,
            wall_clock=lambda: EPOCH,
        )
        self.opening = open_secure(loop.handler, tls, name, 3.0)(Server(Address(*self.sock.getsockname())))
        self.got: list[bytes] = []
        self.ends: list[str] = []
        self.found: list[Any] = []
        self.opening.addBoth(self.found.append)
        self.peer: Peer | None = None

    def accept(self, name: str | None = "dns.test") -> Peer:
        """The server meets the connection; without a name it says nothing."""
        self.loop.pump()
        sock, _ = self.sock.accept()
        sock.setblocking(False)
        self.loop.peers.append(sock)
        (vc,) = self.loop.handler.connections
        self.peer = Peer(self.loop, sock, vc)
        if name is not None:
            self.peer.serve_tls(leaf(name))
        self.loop.pump()
        return self.peer

    @property
    def stream(self) -> Any:
        (stream,) = self.found
        stream.received, stream.lost = self.got.append, self.ends.append
        return stream


@pytest.fixture
def server(loop: Loop) -> Iterator[NameServer]:
    made = NameServer(loop)
    yield made
    made.sock.close()


def test_messages_pass_both_ways_once_the_server_has_proven_who_it_is(server: NameServer) -> None:
    peer = server.accept()
    stream = server.stream
    stream.write(b"question")
    server.loop.pump()
    assert peer.take() == b"question"
    peer.send(b"answer")
    server.loop.pump()
    assert server.got == [b"answer"]
    stream.close()
    stream.close()
    stream.write(b"too late")
    server.loop.pump()
    assert peer.ended
    assert server.ends == []


@pytest.mark.parametrize(("how", "why"), [("finish", "the server closed the connection"), ("reset", "reset by a test")])
def test_a_stream_that_ends_by_itself_says_why(server: NameServer, how: str, why: str) -> None:
    peer = server.accept()
    assert server.stream is not None
    getattr(peer, how)()
    server.loop.pump()
    (end,) = server.ends
    assert why in end


def test_a_server_of_another_name_is_refused(server: NameServer) -> None:
    server.accept("other.test")
    (failure,) = server.found
    assert failure.check(ConnectionError)
    assert "dns.test" in str(failure.value)


@pytest.mark.parametrize("how", ["finish", "reset"])
def test_a_server_that_leaves_in_the_handshake_is_no_stream(server: NameServer, how: str) -> None:
    peer = server.accept(None)
    getattr(peer, how)()
    server.loop.pump()
    (failure,) = server.found
    assert failure.check(ConnectionError)


def test_a_server_that_does_not_shake_hands_is_waited_for_for_a_while(server: NameServer) -> None:
    server.accept(None)
    server.loop.pass_time(7)
    (failure,) = server.found
    assert failure.check(ConnectionError)


def test_an_opening_may_be_given_up(server: NameServer) -> None:
    peer = server.accept(None)
    server.opening.cancel()
    server.loop.pump()
    assert server.found[0].check(CancelledError)
    assert peer.ended


def test_names_of_servers_are_not_looked_up() -> None:
    found: list[Any] = []
    Nobody().resolve("dns.test").addErrback(found.append)
    assert found[0].check(ResolveError)
