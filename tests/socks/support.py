"""A proxy's port that speaks SOCKS, with a scripted way to every destination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from sslintercept.errors import InterceptError
from sslintercept.facts import Action, Address, Decision, Facts, Scope, Side
from sslintercept.log.sequence import Sequence as Recorded
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import Probe
from sslintercept.probe.entrance import Blocked, Entered, Entrance
from sslintercept.socks.negotiate import SocksAcceptor
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from sslintercept.tunnel.blind import BlindTunnel

TIMEOUT = 10.0
IDLE = 60.0
INTERCEPT = Decision(Action.INTERCEPT, "all", "a test")


class Way(Entrance):
    """
    Leads to scripted origins, and into blind tunnels.

    @ivar asked: the destinations so far, and how an outer proxy would be asked.
    @ivar entered: with which bytes of the client, and as what, it went on.
    @ivar origins: the other ends of the server connections.
    @ivar held: set to a list, it collects ways that are open when the test calls them.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.asked: list[tuple[Address, str]] = []
        self.decided: list[str] = []
        self.entered: list[tuple[bytes, str]] = []
        self.origins: list[Peer] = []
        self.held: list[Callable[[], None]] | None = None
        self.fault: Exception | None = None
        self.blocked: set[str] = set()
        self.ready = False

    def decide(self, facts: Facts, destination: Address) -> Scope:
        self.decided.append(destination.host)
        facts.destination = destination
        if destination.host in self.blocked:
            raise Blocked(Decision(Action.BLOCK, "no", "a test"), destination)
        return Scope(destination, INTERCEPT)

    async def reach(
        self, vc: NetVConnection, facts: Facts, destination: Address, proxy: str = "http", login: bytes = b""
    ) -> Entered:
        self.asked.append((destination, proxy))
        scope = self.decide(facts, destination)
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(lambda: waiting.callback(None))
            await waiting
        if self.ready:
            return Entered(scope, None)
        if self.fault is not None:
            raise self.fault
        server, sock = self._loop.pair(Side.UPSTREAM)
        server.local = Address("192.0.2.9", 40000)
        self.origins.append(Peer(self._loop, sock, server))
        return Entered(scope, server)

    def enter(self, vc: NetVConnection, facts: Facts, entered: Entered, peeked: bytes) -> None:
        self.entered.append((peeked, facts.path[-1]))
        facts.scope = entered.scope
        if entered.server is None:
            vc.close()
        else:
            BlindTunnel(vc, entered.server, idle_timeout=60.0).start(peeked)


class Port:
    """
    One listening port of a proxy.

    @param options: of L{SocksAcceptor}.
    """

    def __init__(self, loop: Loop, **options: Any) -> None:  # Any: whatever the acceptor takes
        self.loop = loop
        self.way = Way(loop)
        self.facts: list[Facts] = []
        self.local = Address("127.0.0.1", 8080)
        self.probe = Probe(timeout=TIMEOUT, silence=0.1, limit=4096, allowed={"proxy": frozenset({"socks4", "socks5"})})
        for protocol in ("socks4", "socks5"):
            self.probe.register(SocksAcceptor(protocol, entrance=self.way, timeout=TIMEOUT, idle=IDLE, **options))

    def client(self) -> Peer:
        """Somebody who has just connected."""
        vc, sock = self.loop.pair()
        vc.local = self.local
        peer = Peer(self.loop, sock, vc)
        self.accept(vc)
        return peer

    def accept(self, vc: NetVConnection, scope: Scope | None = None) -> None:
        """A client has connected; or has said something inside a tunnel, if there is a scope."""
        facts = Facts("test", vc.peer, "proxy")
        facts.sequence = Recorded()
        facts.scope = scope
        self.facts.append(facts)
        self.probe.accept(vc, facts)

    def said(self, *pieces: bytes, then: Callable[[Peer], object] = lambda peer: None) -> Peer:
        """A client that says all that, each piece when everything before has been dealt with."""
        peer = self.client()
        for piece in pieces:
            peer.send(piece)
            self.loop.pump()
        then(peer)
        self.loop.pump()
        return peer

    @property
    def last(self) -> Facts:
        """What is known of the latest client."""
        return self.facts[-1]

    @property
    def error(self) -> InterceptError | None:
        """What ended it."""
        found = self.last.error
        assert found is None or isinstance(found, InterceptError)
        return found

    @property
    def steps(self) -> Sequence[str]:
        """What was recorded of it."""
        recorded = self.last.sequence
        assert isinstance(recorded, Recorded)
        return recorded.names()
