"""What tests of the floors share: a loop that is checked afterwards, sessions that note what they hear, TLS."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import TlsError
from sslintercept.facts import Side
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.profile import Bytes, Profile, Stage
from sslintercept.profile.ssl import SslProfile
from sslintercept.testing.loop import Loop, checked_loop
from sslintercept.testing.pki import Pair, make_ca, make_leaf
from sslintercept.tls.context import ServerContext, UpstreamContext
from sslintercept.tls.engine import Engine


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop; the test fails if it leaves anything behind."""
    with checked_loop() as made:
        yield made


@implementer(IProtocol)
class Listening:
    """A session that writes down what it hears; one that knows no half-close."""

    takes_views = True

    def __init__(self) -> None:
        self.got = bytearray()
        self.events: list[str] = []
        self.transport: Any = None  # Any: what a Twisted protocol is given
        self.on_data: Callable[[Bytes], object] = lambda data: None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: Bytes) -> None:
        self.got += data
        self.on_data(data)

    def connectionLost(self, reason: Failure) -> None:
        self.events.append(f"lost {type(reason.value).__name__}")


@implementer(IHalfCloseableProtocol)
class HalfClosing(Listening):
    """One that knows half-close."""

    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        raise AssertionError("nobody calls this")


class Noting:
    """A producer that writes down what it is asked."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


@cache
def authority() -> Pair:
    """The CA of these tests."""
    return make_ca()


@cache
def leaf(name: str = "origin.test", key_kind: str = "ecdsa") -> Pair:
    """A certificate for a name."""
    return make_leaf(authority(), [name], key_kind=key_kind)


@cache
def server_context(min_version: str = "1.2") -> ServerContext:
    return ServerContext(min_version=min_version)


@cache
def upstream_context(min_version: str = "1.2") -> UpstreamContext:
    return UpstreamContext(min_version=min_version)


class Stages:
    """Writes down the stages of every layer of a connection."""

    def __init__(self, vc: NetVConnection) -> None:
        self.seen: list[tuple[str, Stage]] = [(p.name, p.stage) for p in vc.profiles]
        self.of: dict[Profile, list[Stage]] = {}
        vc.on_stage = self.note

    def note(self, profile: Profile, stage: Stage) -> None:
        self.seen.append((profile.name, stage))
        self.of.setdefault(profile, []).append(stage)


def push_server(
    vc: NetVConnection,
    *,
    peeked: bytes = b"",
    alpn: tuple[bytes, ...] = (),
    pair: Pair | None = None,
    context: ServerContext | None = None,
    done: Callable[[SslProfile], object] | None = None,
    broke: Callable[[TlsError], object] | None = None,
    wrap: Callable[[Engine], Engine] = lambda engine: engine,
) -> SslProfile:
    """Put a layer of TLS on, in the role of the server."""
    credential = (pair or leaf()).credential()
    return vc.push_ssl(
        lambda chain, lower: SslProfile(
            chain,
            lower,
            lambda level: wrap((context or server_context()).engine(credential, alpn, level)),
            server=True,
            done=done,
            broke=broke or vc.tls_broke,
        ),
        peeked,
    )


def push_upstream(
    vc: NetVConnection,
    *,
    name: str = "origin.test",
    alpn: tuple[bytes, ...] = (),
    context: UpstreamContext | None = None,
    done: Callable[[SslProfile], object] | None = None,
    broke: Callable[[TlsError], object] | None = None,
) -> SslProfile:
    """Put a layer of TLS on, in the role of the client."""
    return vc.push_ssl(
        lambda chain, lower: SslProfile(
            chain,
            lower,
            lambda level: (context or upstream_context()).engine(name, alpn, None, level),
            server=False,
            done=done,
            broke=broke or vc.tls_broke,
        )
    )


def joined(loop: Loop, buffer: int | None = None) -> tuple[NetVConnection, NetVConnection]:
    """A client connection and a server connection of ours, each the other's peer."""
    server, theirs = loop.pair(Side.CLIENT, buffer)
    return server, loop.adopt(theirs, Side.UPSTREAM)


def secured(loop: Loop, layers: int = 1, buffer: int | None = None) -> tuple[NetVConnection, NetVConnection]:
    """Two connections of ours with C{layers} of TLS between them; the first one is the TLS server."""
    server, client = joined(loop, buffer)
    for _ in range(layers):
        push_server(server)
        push_upstream(client).begin()
        loop.pump()
    return server, client


def read_all(sock: socket.socket) -> bytes:
    """What waits in a socket."""
    found = bytearray()
    while True:
        try:
            piece = sock.recv(1 << 20)
        except (BlockingIOError, ConnectionResetError):
            return bytes(found)
        if not piece:
            return bytes(found)
        found += piece


def is_ended(sock: socket.socket) -> bool:
    """Whether the other side has finished sending, after everything that waits was read."""
    read_all(sock)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
