"""
A whole gateway in memory, between clients and origins that do as a test says.

Every part is the real one, wired as L{sslintercept.gateway.Gateway} wires it, but for three: the reactor is a L{Loop},
names are resolved by a table, and a server connection leads to a L{ScriptedOrigin} over a pair of sockets. There is no
reactor, no port, and no waiting::

    with checked_loop() as loop:
        gateway = MemoryGateway(loop, "[upstream-tls]\\nhandshake_order = client-first")
        gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
        client = gateway.client()
        client.send(b"CONNECT origin.test:443 HTTP/1.1\\r\\nHost: origin.test\\r\\n\\r\\n")
        gateway.pump()
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute, fail, succeed

from sslintercept.cache.processor import CacheProcessor
from sslintercept.config.schema import Settings
from sslintercept.datagram.hello import Cookies
from sslintercept.dialogue.session import Offers, PartHandler
from sslintercept.dialogue.watcher import Part
from sslintercept.dns.answer import Answer
from sslintercept.errors import ConnectError, ResolveError, UpstreamError
from sslintercept.event.record import Event
from sslintercept.facts import Address, Facts, Side
from sslintercept.ftp.channel import Expectations
from sslintercept.gateway import Gateway, site_lists
from sslintercept.http.lines import AccessLines
from sslintercept.http.room import WaitingRoom
from sslintercept.load import load
from sslintercept.log.sequence import Sequence as Recorded
from sslintercept.nameserver.answers import AnswerTable
from sslintercept.nameserver.service import Counters
from sslintercept.net.connector import Connector, refusal
from sslintercept.net.flow import FlowTable
from sslintercept.net.limits import Limits
from sslintercept.net.vconnection import NetVConnection
from sslintercept.sites.compile import compiled
from sslintercept.sites.look import SiteList, Sites
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import EPOCH, Peer
from sslintercept.testing.pki import Pair, make_ca, make_leaf
from sslintercept.testing.store import MemoryStore
from sslintercept.testing.talk import Kept
from sslintercept.tls.authority import Authority
from sslintercept.tls.leaf import LeafSource
from sslintercept.worker.pool import Workers

LISTENER = "proxy"
OWN_NAMES = ("proxy.test", "127.0.0.1")


def address(text: str) -> Address:
    """C{host:port} as a value."""
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


@cache
def origin_ca() -> Pair:
    """The authority that the gateway trusts for origins."""
    return make_ca("Origin CA")


@cache
def _authority(folder: Path) -> Authority:
    return Authority.load_or_make(folder / "ca.pem", folder / "ca.key", key_type="p256", name="Gateway CA", now=_now())[
        0
    ]


def _now() -> datetime:
    return datetime.fromtimestamp(EPOCH, UTC)


class ScriptedOrigin:
    """
    Who listens at an address.

    @param tls: the certificate it shows; C{None} for an origin without TLS.
    @param respond: called for each connection whenever something came, or ended; replaces the answers.
    @ivar peers: its connections so far.
    @ivar greeting: said at once, in the top layer.
    """

    def __init__(
        self,
        tls: Pair | None,
        alpn: Sequence[bytes],
        respond: Callable[[Peer], object],
        max_version: str = "1.3",
    ) -> None:
        self.tls = tls
        self.alpn = alpn
        self.respond = respond
        self.max_version = max_version
        self.peers: list[Peer] = []
        self.greeting = b""
        self.buffer: int | None = None
        """bytes of the kernel's send buffers towards this origin, both ways"""

    def met(self, peer: Peer) -> None:
        """A connection has been opened."""
        self.peers.append(peer)
        peer.received = self.respond
        if self.tls is not None:
            peer.serve_tls(self.tls, alpn=self.alpn, max_version=self.max_version)
            peer.secured = self._greet
        else:
            self._greet(peer)

    def _greet(self, peer: Peer) -> None:
        if self.greeting:
            peer.send(self.greeting)

    @property
    def last(self) -> Peer:
        """The latest connection."""
        return self.peers[-1]


def silent(peer: Peer) -> None:
    """Say nothing: the test speaks itself."""


class Answers:
    """
    Serves HTTP/1.1: for each whole request the answer that a function gives for its head and body.

    @ivar requests: the heads so far.
    """

    def __init__(self, answer: Callable[[bytes, bytes], bytes] | bytes) -> None:
        self.answer = answer if callable(answer) else lambda head, body: answer
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []

    def __call__(self, peer: Peer) -> None:
        """Answer what is complete."""
        while (found := self._next(peer)) is not None:
            head, body = found
            self.requests.append(head)
            self.bodies.append(body)
            peer.send(self.answer(head, body))

    @staticmethod
    def _next(peer: Peer) -> tuple[bytes, bytes] | None:
        got, at = peer.got, peer.used
        end = got.find(b"\r\n\r\n", at)
        if end < 0:
            return None
        head, end = bytes(got[at:end]), end + 4
        fields = {
            name.lower(): value.strip() for name, _, value in (f.partition(b":") for f in head.split(b"\r\n")[1:])
        }
        if fields.get(b"transfer-encoding") == b"chunked":
            last = got.find(b"0\r\n\r\n", end)
            if last < 0:
                return None
            stop = last + 5
        else:
            stop = end + int(fields.get(b"content-length", b"0"))
            if len(got) < stop:
                return None
        peer.used = stop
        return head, bytes(got[end:stop])


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class ScriptedConnector(Connector):
    """
    Leads to scripted origins.

    @ivar lookups: names asked for; C{opened}: addresses connected to, also in vain.
    @ivar held: set to a list, it collects connects that wait until the test calls them.
    """

    def __init__(self, loop: Loop, water: tuple[int, int]) -> None:
        super().__init__(loop.handler, Table(), timeout=10.0, water=water)
        self._loop = loop
        self.origins: dict[Address, ScriptedOrigin] = {}
        self.lookups: list[str] = []
        self.opened: list[Address] = []
        self.held: list[Callable[[], None]] | None = None
        self.faults: dict[Address, UpstreamError] = {}

    async def addresses(self, host: str) -> Sequence[str]:
        """The same address for every name that has an origin."""
        self.lookups.append(host)
        await self._moment()
        if not any(known.host == host for known in (*self.origins, *self.faults)):
            raise ResolveError(f"{host} has no address", where="resolver", remedy="look at the name")
        return ["192.0.2.7"]

    async def connect(
        self, destination: Address, addresses: Sequence[str] | None = None, *, configured: bool = False
    ) -> NetVConnection:
        """Open a connection to a scripted origin, or fail as the test wants it."""
        if addresses is None:
            await self.addresses(destination.host)
        if (refused := (self.itself if configured else self.allowed)("192.0.2.7", destination.port)) is not None:
            raise refusal(destination, refused)
        self.opened.append(destination)
        await self._moment()
        if destination in self.faults:
            raise self.faults[destination]
        origin = self.origins.get(destination)
        if origin is None:
            raise ConnectError("Connection refused", where=str(destination), remedy="the origin is down")
        vc, sock = self._loop.pair(Side.UPSTREAM, origin.buffer)
        vc.peer = Address("192.0.2.7", destination.port)
        vc.high_water, vc.low_water = self._water
        origin.met(Peer(self._loop, sock, vc))
        return vc

    async def connect_back(self, client: Address) -> NetVConnection:
        """Open a connection to a client that waits for one: it is scripted like an origin."""
        return await self.connect(client, [client.host], configured=True)

    def _moment(self) -> Deferred[None]:
        """What takes a while takes a turn here, or as long as the test holds it."""
        waiting: Deferred[None] = Deferred()
        if self.held is not None:
            self.held.append(lambda: waiting.callback(None))
        else:
            self._handler.soon(lambda: waiting.callback(None))
        return waiting


class Table:
    """A resolver that is never asked: L{ScriptedConnector} knows every name."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """One address for everybody."""
        return succeed(["192.0.2.7"])

    def listed(self, name: str) -> Sequence[str] | None:
        """The same for those who ask us for names."""
        return ["192.0.2.7"]

    def query(self, name: str, rtype: int, deadline: float) -> Deferred[Answer]:
        """Nobody is asked."""
        return fail(ResolveError("nobody knows", where="a test", remedy="none"))

    def raw(self, name: bytes, rtype: int, cls: int, deadline: float, *, flags: int, signed: bool) -> Deferred[Answer]:
        """Never asked."""
        return fail(ResolveError("nobody knows", where="a test", remedy="none"))


class Collector:
    """Keeps every part."""

    def __init__(self, parts: list[Kept]) -> None:
        self._parts = parts

    def part(self, part: Part, facts: Facts) -> Kept:
        """Wants to see them all."""
        self._parts.append(Kept(part))
        return self._parts[-1]


class MemoryCopies:
    """
    A quarantine in memory.

    @ivar kept: the contents by their ids.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def keep(self, content: Iterable[bytes], event: Event) -> Deferred[str]:
        """Keep it at once (L{sslintercept.event.quarantine.Quarantine.keep})."""
        self.kept[event.id] = b"".join(content)
        return succeed(event.id)


class MemoryEvents:
    """
    Collects what is told (L{sslintercept.event.log.EventLog}).

    @ivar told: the events so far.
    """

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.quarantine = MemoryCopies()

    def tell(self, event: Event) -> None:
        """Keep it."""
        self.told.append(event)

    def tell_with_copy(self, event: Event, content: Iterable[bytes]) -> Deferred[str]:
        """Keep both."""
        kept = self.quarantine.keep(content, event)
        self.tell(replace(event, quarantine=event.id))
        return kept


class MemoryGateway:
    """
    A process in memory: one generation of settings, everything it makes, and the log of it.

    @param ini: the settings as text; what it does not say has its default.
    @param handlers: of parts, beside the one that keeps them.
    @ivar log: the access log, parsed.
    @ivar sequences: the recorded steps of each connection, in the order of their beginnings.
    @ivar facts: and what was known of it.
    @ivar store: what the cache keeps, if C{[cache] path} is set.
    @ivar events: what inspectors told, and the copies that were kept.
    @ivar waiting: downloads whose verdicts take long.
    @ivar parts: every message and file that passed, with its content.
    """

    def __init__(self, loop: Loop, ini: str = "", handlers: Iterable[PartHandler] = ()) -> None:
        self.loop = loop
        self.handler = loop.handler
        settings = settings_of(ini)
        self.settings = replace(settings, upstream_tls=replace(settings.upstream_tls, trust=_trust()))
        self.log: list[dict[str, Any]] = []  # Any: parsed JSON
        self.sequences: list[Recorded] = []
        self.facts: list[Facts] = []
        self.parts: list[Kept] = []
        self._serial = itertools.count(1)
        self.authority = self.ca = _authority(_folder())
        self.keylog: Callable[[bytes], object] | None = None
        self.names: Iterable[str] = OWN_NAMES
        self.part_handlers: Iterable[PartHandler] = [Collector(self.parts), *handlers]
        self.offers = Offers()
        self.expectations = Expectations()
        self.cookies = Cookies(b"memory")
        self.events = MemoryEvents()
        self.resolver = Table()
        self.answers = AnswerTable(stale=0.0, strip_ech=True)
        self.asked = Counters()
        self.flows = FlowTable(loop.handler)
        self.trusted_leaves, self.untrusted_leaves = _sources()
        self.lines = AccessLines(self._line, "json", True, self.wall_clock)
        self.connector = ScriptedConnector(loop, (settings.tunnel.high_water, settings.tunnel.low_water))
        limits = self.limits(settings)
        self.connector.allowed, self.connector.itself = limits.denied, limits.itself
        self.sites = Sites(tuple(SiteList(one.name, compiled(one)) for one in site_lists(settings.sites)))
        self.store = MemoryStore()
        self.cache: CacheProcessor | None = None
        if settings.cache.path is not None:
            self.cache = CacheProcessor(
                self.store,
                loop.handler,
                self.wall_clock,
                memory=settings.cache.memory,
                largest=settings.cache.largest,
            )
        self.workers = Workers(loop.handler, 1)
        self.waiting = WaitingRoom(_folder() / "waiting", loop.handler, execute)
        self.waiting.budget.most = settings.inspection.waiting_size
        self.gateway = Gateway(self.settings, self)
        self.inspection = self.gateway.inspection
        self.pool = self.gateway.pool
        self.learned = self.gateway.learned
        self.proxy = self.gateway.proxy

    def known_here(self, host: str) -> bool:
        """Nobody has said where names are."""
        return False

    def limits(self, settings: Settings) -> Limits:
        """As everywhere; there are no ports."""
        return Limits(settings.http.private_destinations == "deny", list)

    def new_connector(self, settings: Settings) -> ScriptedConnector:
        """Who leads to scripted origins, whatever the settings."""
        return self.connector

    def new_id(self) -> str:
        """The next one."""
        return f"test-{next(self._serial):x}"

    def in_thread(self, call: Callable[[], bool]) -> Deferred[bool]:
        """There are no threads in memory."""
        return succeed(call())

    def secret(self, name: str) -> bytes:
        """The same in all gateways, as in all processes."""
        return name.encode().ljust(32, b".")

    def wall_clock(self) -> float:
        """Seconds since the epoch; they pass when the loop's do."""
        return EPOCH + self.loop.seconds()

    def _line(self, line: str) -> None:
        self.log.append(json.loads(line))

    # the two sides

    def client(self, listener: str = "", buffer: int | None = None) -> Peer:
        """Somebody who has just connected to a listener, by default the first one."""
        vc, sock = self.loop.pair(Side.CLIENT, buffer)
        peer = Peer(self.loop, sock, vc)
        self.accepted(listener or self.settings.listeners[0].name, vc)
        return peer

    def accepted(self, name: str, vc: NetVConnection) -> None:
        """A client has connected (L{sslintercept.service.SslInterceptService.accepted})."""
        listener = next(one for one in self.settings.listeners if one.name == name)
        self.gateway.accepted(vc, self.adopt(vc, name), listener)

    def adopt(self, vc: NetVConnection, listener: str) -> Facts:
        """The facts of a new connection with a client."""
        facts = Facts(self.new_id(), vc.peer, listener)
        facts.started = self.wall_clock()
        facts.sequence = recorded = Recorded()
        self.facts.append(facts)
        self.sequences.append(recorded)
        vc.closed = lambda vc: self._closed(facts, vc)
        return facts

    def _closed(self, facts: Facts, vc: NetVConnection) -> None:
        self.lines.connection(facts, vc)

    def origin(
        self,
        where: str,
        respond: Callable[[Peer], object] | bytes = OK,
        *,
        tls: Pair | None = None,
        alpn: Sequence[bytes] = (b"http/1.1",),
        max_version: str = "1.3",
    ) -> ScriptedOrigin:
        """
        Let somebody listen at C{where} (C{host:port}).

        @param respond: bytes are the answer to every request; see L{ScriptedOrigin}, L{Answers} and L{silent}.
        """
        script = Answers(respond) if isinstance(respond, bytes) else respond
        made = self.connector.origins[address(where)] = ScriptedOrigin(tls, alpn, script, max_version)
        return made

    @staticmethod
    def leaf(*names: str) -> Pair:
        """A certificate that the gateway accepts for these names."""
        return _leaf(names)

    def pump(self) -> None:
        """Turn until nothing moves."""
        self.loop.pump()

    # what happened

    def steps(self, number: int = -1) -> list[str]:
        """The names of the recorded steps of a connection."""
        return self.sequences[number].names()

    def transactions(self) -> list[dict[str, Any]]:  # Any: parsed JSON
        """The lines of transactions so far."""
        return [line for line in self.log if line["type"] == "transaction"]


def settings_of(ini: str) -> Settings:
    """Settings from text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.ini"
        path.write_text(ini, encoding="utf-8")
        return load(path)


@cache
def _leaf(names: tuple[str, ...]) -> Pair:
    return make_leaf(origin_ca(), list(names))


@cache
def _folder() -> Path:
    kept = tempfile.TemporaryDirectory()
    _kept.append(kept)
    return Path(kept.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _trust() -> Path:
    """The file with the authority that origins are verified with."""
    path = _folder() / "origin-ca.pem"
    path.write_bytes(origin_ca().pem)
    return path


@cache
def _sources() -> tuple[LeafSource, LeafSource]:
    return (
        LeafSource(_authority(_folder()), lifetime=30 * 86400.0, key_path=None),
        LeafSource(Authority.untrusted("not trusted", _now()), lifetime=30 * 86400.0, key_path=None),
    )
