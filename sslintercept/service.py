"""
The wiring: the one module that knows every other (start and stop order included).

The L{SslInterceptService} owns what outlives a generation of settings: the socket handler, the ports, the logs, the CA.
What one generation makes is in L{sslintercept.gateway}.
"""

from __future__ import annotations

import gc
import itertools
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

import sslintercept.plugins
from sslintercept.cache.disk import Disk
from sslintercept.cache.operate import OPERATIONS, operate
from sslintercept.cache.processor import Absent, CacheProcessor
from sslintercept.config.endpoint import parse
from sslintercept.config.schema import DnsSettings, ListenSettings, Settings
from sslintercept.control import ControlPort, socket_of
from sslintercept.datagram.door import Listening, UdpDoor
from sslintercept.datagram.hello import Cookies
from sslintercept.dialogue.session import Offers, PartHandler
from sslintercept.dns.hostdb import LATE
from sslintercept.dns.names import Names, Wanted
from sslintercept.dns.reactor import ReactorResolver
from sslintercept.errors import ConfigError, InterceptError, PolicyError, StoppedError
from sslintercept.event import arrange, quarantine
from sslintercept.event.log import EventLog, Sink
from sslintercept.event.quarantine import Quarantine
from sslintercept.examine import LEAF_KEY, SECRETS, examine, secret_path
from sslintercept.facts import Address, Facts
from sslintercept.ftp.channel import Expectations
from sslintercept.gateway import Gateway, collectors, machine_names, secure_streams, site_lists
from sslintercept.http import room
from sslintercept.http.lines import AccessLines
from sslintercept.http.origin import OriginSession
from sslintercept.http.proxy import HttpProxy
from sslintercept.http.room import WaitingRoom
from sslintercept.http.session import HttpSession
from sslintercept.inspect.processor import Generations
from sslintercept.interfaces import IEventSinkPlugin
from sslintercept.load import load
from sslintercept.log.access import NOTICES
from sslintercept.log.sequence import Sequence as Recorded
from sslintercept.log.writer import LineWriter
from sslintercept.nameserver.answers import AnswerTable
from sslintercept.nameserver.port import QuestionPort
from sslintercept.nameserver.reply import Query
from sslintercept.nameserver.service import Counters
from sslintercept.net.connector import Connector
from sslintercept.net.cop import InactivityCop
from sslintercept.net.flow import Flow, FlowTable
from sslintercept.net.handler import NetHandler
from sslintercept.net.limits import Limits
from sslintercept.net.line import Line
from sslintercept.net.listener import Listener, listen
from sslintercept.net.local import Bound
from sslintercept.net.race import Dead
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import ProbeAccept
from sslintercept.probe.proxyaccept import ProxyLineAccept
from sslintercept.sites.keeper import Keeper
from sslintercept.supervise import Supervisor, die, make_state_dir, on_signals, say, tell_supervisor
from sslintercept.tls.authority import Authority, shared_secret
from sslintercept.tls.leaf import LeafSource
from sslintercept.worker.pool import Workers
from sslintercept.worker.process import Limits as WorkerLimits

MOST_THREADS = 16
"""that hash passwords"""
COUNT_EVERY = 3600.0
"""seconds between two lines of counters in the program's log"""
COLLECT_AFTER = 5.0
"""seconds from a reload until it is seen to whether anything of older generations is still under way"""


class SslInterceptService(Service):
    """
    The process: opens the ports, accepts, reloads on SIGHUP, drains on stop.

    @param settings: the first generation.
    @param worker: this process's number among several that share the ports, or C{None}.
    """

    log = Logger()
    name = "sslintercept"

    def __init__(self, settings: Settings, reactor: Any, worker: int | None = None) -> None:
        # Any: the reactor provides a dozen interfaces of which we use six; mypy knows no intersection.
        self.settings = settings
        self.reactor = reactor
        self.share = worker is not None
        self.spread = settings.workers if settings.spread == "clients" else 0
        examined = examine(settings)
        examined.refuse()
        self._speaks = worker in (None, 0)
        """whether it is this process that says what the operator should look at"""
        self._warnings = examined.warnings
        now = datetime.now(UTC)
        ca = settings.ca
        make_state_dir(settings.state_dir)
        self.authority, self.made_ca = Authority.load_or_make(
            ca.certificate, ca.key, key_type=ca.key_type, name=ca.name, now=now
        )
        self.trusted_leaves = LeafSource(
            self.authority, lifetime=ca.leaf_lifetime, key_path=settings.state_dir / LEAF_KEY
        )
        self.untrusted_leaves = LeafSource(
            Authority.untrusted("sslintercept: the origin's certificate is not trusted", now),
            lifetime=ca.leaf_lifetime,
            key_path=None,
        )
        self.writer = LineWriter(settings.log.access, notice=NOTICES[settings.log.format])
        self.lines = AccessLines(self.writer.write, settings.log.format, settings.log.connections, time.time)
        self.keylog = _keylog(settings.log.keylog)
        self.handler = NetHandler(reactor)
        self.cop = InactivityCop(self.handler, reactor)
        self.cache: CacheProcessor | None = None
        self._disk: Disk | None = None
        if settings.cache.path is not None:
            cache = settings.cache
            self.cache = CacheProcessor(Absent(), self.handler, time.time, memory=cache.memory, largest=cache.largest)
            self._disk = Disk(settings, self.handler, self.cache, worker or 0)
        self.lists = self._new_lists(settings)
        self.sites = self.lists.sites
        self._control = ControlPort(reactor, socket_of(settings.state_dir, worker or 0), self._asked_to)
        self.ports: dict[str, Listener | DatagramPort] = {}
        self.part_handlers: Iterable[PartHandler] = ()
        self.offers = Offers()
        self.expectations = Expectations()
        self.cookies = Cookies(secrets.token_bytes(32))
        self._secrets: dict[str, bytes] = {}
        udp = settings.udp
        self.flows = FlowTable(self.handler, most=udp.max_flows, most_of_a_host=udp.per_client, idle=udp.idle_timeout)
        self.names: Iterable[str] = machine_names()
        self._serial = itertools.count(1)
        self._boot = secrets.token_hex(3)
        self._threads = ThreadPool(0, hashing_threads(len(os.sched_getaffinity(0))), "passwords")
        self._dead = Dead()
        self._counting = LoopingCall(self._count)
        self._counting.clock = reactor
        self._wanted = Wanted.of(settings.dns, settings.split_dns)
        self.resolver = Names(
            self.handler, reactor, self._wanted, secure_streams(self.handler, settings, self.authority, self.keylog)
        )
        self.answers = answers_of(settings.dns)
        self.asked = Counters()
        state = settings.state_dir
        copies = Quarantine(state / quarantine.FOLDER, arrange.bounds(settings.events), reactor, self._elsewhere)
        plugins = getPlugins(IEventSinkPlugin, sslintercept.plugins)
        self.events = EventLog(self._sinks(settings), copies, reactor, plugins)
        self._proxies: WeakSet[HttpProxy] = WeakSet()
        """of every generation that some connection still has"""
        self._inspections = Generations(reactor.callFromThread)
        self.recorded: Callable[[Recorded], object] | None = None
        """told the recorded steps of each connection that ended"""
        self.started: Callable[[], object] = lambda: say(banner(self.settings, self.addresses()))
        """called once, when connections are accepted"""
        inspection = settings.inspection
        self.workers = Workers(
            self.handler,
            inspection.workers,
            WorkerLimits(memory=inspection.worker_memory, seconds=inspection.worker_timeout),
        )
        self.waiting = WaitingRoom(settings.state_dir / room.FOLDER, self.handler, self._elsewhere)
        self.waiting.budget.most = inspection.waiting_size
        self.gateway = Gateway(settings, self)
        self._comes(self.gateway)

    def _comes(self, gateway: Gateway) -> None:
        """A generation comes into force."""
        self._proxies.add(gateway.proxy)
        if gateway.inspection is not None:
            self._inspections.watch(gateway.inspection)

    # what generations share

    def _new_names(self, settings: Settings, wanted: Wanted) -> Names:
        """Who knows names as C{settings} want it."""
        secure = secure_streams(self.handler, settings, self.authority, self.keylog)
        return Names(self.handler, self.reactor, wanted, secure)

    def _new_lists(self, settings: Settings) -> Keeper:
        """Who keeps the lists of sites that C{settings} name."""
        return Keeper(self.reactor, self._elsewhere, site_lists(settings.sites))

    def _elsewhere(self, call: Callable[[], Any]) -> Deferred[Any]:  # Any: whatever the call returns
        """Run what takes a while on a thread."""
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), call)

    def _sinks(self, settings: Settings, before: Mapping[str, Sink] | None = None) -> dict[str, Sink]:
        """Where events go as C{settings} want it."""
        opens = collectors(settings, self.new_connector(settings), self.authority, self.keylog)
        return arrange.sinks(settings.events, self.settings.state_dir, self.reactor, self._elsewhere, opens, before)

    def _use_names(self, settings: Settings) -> None:
        """From now on names are looked up as C{settings} want it, also by connections of older generations."""
        wanted = Wanted.of(settings.dns, settings.split_dns)
        if wanted == self._wanted:
            return
        self.log.info("names are asked for anew: {summary}", summary=self.resolver.summary())
        # Whoever waits for the old ones still gets an answer.
        self.reactor.callLater(LATE, self.resolver.stop)
        self._wanted = wanted
        self.resolver = Names(
            self.handler, self.reactor, wanted, secure_streams(self.handler, settings, self.authority, self.keylog)
        )
        self.answers = answers_of(settings.dns)
        self.resolver.start()

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """The addresses of C{host} (L{sslintercept.interfaces.IResolver})."""
        return self.resolver.resolve(host)

    def _collect(self) -> None:
        """What older generations have made goes by the garbage collector, which by itself may take very long."""
        if self._inspections.older(self.gateway.inspection):
            gc.collect()

    def _count(self) -> None:
        """Say in the program's log what was done."""
        self._collect()
        self.log.info("{summary}", summary=self.resolver.summary())
        if self.asked != Counters():
            self.log.info("{asked}; {kept} answers kept", asked=self.asked.summary(), kept=len(self.answers))
        if self.events.counts:
            self.log.info("{summary}", summary=self.events.summary())

    def known_here(self, host: str) -> bool:
        """Whether the hosts file says where C{host} is."""
        return self.resolver.hostdb.listed(host)

    def new_connector(self, settings: Settings) -> Connector:
        """Who opens server connections for a generation."""
        limits = self.limits(settings)
        return Connector(
            self.handler,
            self,
            timeout=settings.http.connect_timeout,
            water=(settings.tunnel.high_water, settings.tunnel.low_water),
            allowed=limits.denied,
            itself=limits.itself,
            dead=self._dead,
        )

    def wall_clock(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def new_id(self) -> str:
        """Names a client's connection or flow in the log."""
        return f"{self._boot}-{next(self._serial):x}"

    def secret(self, name: str) -> bytes:
        """
        Kept in state_dir, made when it is first asked for.

        @raise ConfigError: it cannot be kept there.
        """
        if name not in self._secrets:
            self._secrets[name] = shared_secret(secret_path(self.settings, name), SECRETS)
        return self._secrets[name]

    def serve(self, flow: Flow, facts: Facts) -> None:
        """A new flow of datagrams came to a port."""
        self.gateway.datagrams.serve(flow, facts)

    def in_thread(self, call: Callable[[], bool]) -> Deferred[bool]:
        """Run what takes long on threads."""
        return deferToThreadPool(self.reactor, self._threads, call)

    def limits(self, settings: Settings) -> Limits:
        """Where clients of a generation may not be led."""
        return Limits(settings.http.private_destinations == "deny", self.addresses)

    def addresses(self) -> list[Bound]:
        """Where we listen."""
        return [port.bound for port in self.ports.values()]

    # life

    def privilegedStartService(self) -> None:
        """Open the ports, while we may; one that cannot be opened ends the process with one line."""
        try:
            self._open_ports()
        except InterceptError as error:
            die(str(error))
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped

    def startService(self) -> None:
        """Accept from now on."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        try:
            self.writer.start()
            self.events.start()
            self.lists.read()
            if not self.ports:
                self._open_ports()
        except InterceptError as error:
            die(str(error))
        self._threads.start()
        self.handler.start()
        if self._disk is not None:
            self._disk.start()
        self._open_control()
        self.resolver.start()
        self._counting.start(COUNT_EVERY, now=False)
        self._own_resolver = self.reactor.installNameResolver(ReactorResolver(self.resolve))
        self.cop.start()
        if self.settings.sites:
            self.lists.watch()
        on_signals(self.reactor, self.reload)
        self._warn(self._warnings)
        # Whoever reads the banner may send signals: they must find the handlers in place.
        self.reactor.callWhenRunning(self.started)

    def _open_control(self) -> None:
        try:
            self._control.open()
        except (OSError, CannotListenError) as error:
            self.log.warn("no commands can reach this process: {error}", error=str(error))

    def _asked_to(self, word: str, rest: str, say: Callable[[str], object]) -> Deferred[None]:
        """A command asks this process for something (L{sslintercept.control})."""
        what, _, argument = rest.partition(" ")
        if word != "cache" or what not in OPERATIONS:
            return fail(PolicyError(f"nobody does {word} {what}", where="control", remedy="use the same version"))
        if self._disk is None or self._disk.cached is None:
            return fail(PolicyError("there is no cache", where="[cache] path", remedy="set it, and start anew"))
        return operate(self._disk.cached, what, argument, say)

    def rehearse(self) -> str:
        """
        Open the ports and close them again; used instead of starting, by whoever starts workers.

        @return: the banner.
        @raise ConfigError: a port cannot be opened, or not by several workers.
        """
        try:
            self._open_ports()
            for listener in self.settings.listeners:
                at = parse(listener.endpoint)
                if at.kind != "systemd" and not at.port:
                    raise ConfigError(
                        "several workers cannot share a port that the kernel chooses for each",
                        where=f"[listen:{listener.name}] endpoint",
                        remedy="name a port, or set workers = 1",
                    )
            return banner(self.settings, self.addresses())
        finally:
            for port in self.ports.values():
                port.stopListening()
            self.ports.clear()
            self.handler.stop()

    def stopService(self) -> Deferred[None]:
        """Close the ports, let what runs finish for a while, then cut it."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        for port in self.ports.values():
            port.stopListening()
        self.ports.clear()
        for proxy in self._proxies:
            proxy.draining = True
        self.waiting.close()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        end = self.reactor.seconds() + self.settings.drain_timeout
        while (served := self._served()) and self.reactor.seconds() < end:
            for vc in served:
                if is_waiting(vc):
                    vc.close()
            await deferLater(self.reactor, 0.05)
        late = StoppedError("the process stopped", where="shutdown", remedy="see [sslintercept] drain_timeout")
        for vc in self._served():
            vc.abort(late)
        self.waiting.close(now=True)
        self.flows.close()
        await deferLater(self.reactor, 0)
        await self.events.close()
        self.cop.stop()
        self._counting.stop()
        self._count()
        self.reactor.installNameResolver(self._own_resolver)
        self.resolver.stop()
        self._control.close()
        self.lists.stop()
        if self._disk is not None:
            await self._disk.stop()
        self._inspections.close()
        for vc in list(self.handler.connections):
            vc.abort(late)
        await self.workers.close()
        self.handler.stop()
        self._threads.stop()
        self.writer.close()

    def _served(self) -> list[NetVConnection]:
        """Connections with clients and origins; lines to collectors and engines stay for as long as those do."""
        return [vc for vc in self.handler.connections if not isinstance(vc.session, Line)]

    def reload(self) -> bool:
        """Read the file again; a mistake in it changes nothing."""
        before, lists = self.settings, self.lists
        try:
            settings = load(before.path, before.generation + 1)
            examined = examine(settings, before)
            examined.refuse()
            if settings.sites != before.sites:
                lists = self._new_lists(settings)
                lists.adopt(self.lists)
                self.sites = lists.sites
            sinks = self._sinks(settings, self.events.sinks)
            gateway = Gateway(settings, self)
            self.settings = settings
            self._open_ports()
        except InterceptError as error:
            self.settings, self.sites = before, self.lists.sites
            self.log.error("the settings were not reloaded: {error}", error=str(error))
            return False
        self.gateway = gateway
        if lists is not self.lists:
            self.lists.stop()
            self.lists = lists
        if settings.sites:
            lists.reload()
        self._use_names(settings)
        self._comes(gateway)
        self.reactor.callLater(COLLECT_AFTER, self._collect)
        self.writer.reopen()
        self.events.quarantine.bounds = arrange.bounds(settings.events)
        self.waiting.budget.most = settings.inspection.waiting_size
        self.events.use(sinks)
        self.events.reopen()
        for key in fixed_keys(before, settings):
            self.log.warn("{key} was changed; that takes effect at the next start", key=key)
        self._warn(warning for warning in examined.warnings if warning not in self._warnings)
        self._warnings = examined.warnings
        self.log.info("generation {number} of the settings is in force", number=settings.generation)
        return True

    def _warn(self, warnings: Iterable[str]) -> None:
        if self._speaks:
            for warning in warnings:
                self.log.warn("{warning}", warning=warning)

    def _open_ports(self) -> None:
        wanted = {listener.endpoint: listener for listener in self.settings.listeners}
        opened: dict[str, Listener | DatagramPort] = {}
        try:
            for endpoint, listener in wanted.items():
                if endpoint not in self.ports:
                    opened[endpoint] = self._open_port(listener)
        except InterceptError:
            for port in opened.values():
                port.stopListening()
            raise
        for endpoint in [e for e in self.ports if e not in wanted]:
            self.ports.pop(endpoint).stopListening()
        self.ports = {endpoint: opened.get(endpoint) or self.ports[endpoint] for endpoint in wanted}

    def _open_port(self, listener: ListenSettings) -> Listener | DatagramPort:
        name, endpoint = listener.name, listener.endpoint
        at = parse(endpoint)
        if at.transport == "UDP":
            if listener.accept == ("dns",):
                where = Address(at.host, at.port)
                questions = QuestionPort(self.handler, where, name, partial(self.asked_for, endpoint), share=self.share)
                return DatagramPort(questions.address, questions.close)
            door = UdpDoor(
                self.handler,
                self.flows,
                self,
                listening=lambda: self._listening(endpoint),
                host=at.host,
                port=at.port,
                new_id=self.new_id,
                wall_clock=self.wall_clock,
                share=self.share,
            )
            return DatagramPort(door.start(), door.stop)
        found: list[Any] = []  # Any: a port, or the failure that kept it from opening
        opening = Deferred.fromCoroutine(
            listen(
                self.handler,
                endpoint,
                lambda vc: self.accepted(endpoint, vc),
                limit=self.settings.max_connections,
                share=self.share,
                # A balancer is one client to the kernel, whoever is behind it.
                spread=0 if listener.proxy_protocol else self.spread,
                transparent=listener.transparent,
                where=f"[listen:{name}] endpoint",
            )
        )
        opening.addBoth(found.append)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        port: Listener = found[0]
        return port

    def _listener(self, endpoint: str) -> ListenSettings:
        """Whose port this is; a reload may give it another name and send its clients elsewhere."""
        return next(one for one in self.settings.listeners if one.endpoint == endpoint)

    def _listening(self, endpoint: str) -> Listening:
        """The same for datagrams."""
        listener = self._listener(endpoint)
        return Listening(listener.name, listener.target if isinstance(listener.target, Address) else None)

    def accepted(self, endpoint: str, vc: NetVConnection) -> None:
        """A client has connected to a port."""
        listener = self._listener(endpoint)
        self.gateway.accepted(vc, self.adopt(vc, listener.name), listener)

    def asked_for(
        self, endpoint: str, data: bytes, client: Address, reply: Callable[[Query | None, bytes], object]
    ) -> None:
        """A datagram came to a port for questions."""
        self.gateway.name_service.ask(data, client, self._listener(endpoint).name, reply)

    def adopt(self, vc: NetVConnection, listener: str) -> Facts:
        """The facts of a new connection with a client; its line is written when it ends."""
        facts = Facts(self.new_id(), vc.peer, listener)
        facts.started = time.time()
        if self.gateway.settings.log.sequence is not None:
            facts.sequence = Recorded()
        vc.closed = lambda vc: self._closed(facts, vc)
        return facts

    def _closed(self, facts: Facts, vc: NetVConnection) -> None:
        self.lines.connection(facts, vc)
        facts.step("client_closed")
        folder = self.gateway.settings.log.sequence
        if facts.sequence is not None and folder is not None:
            assert isinstance(facts.sequence, Recorded)
            write_sequence(folder, facts.id, facts.sequence)
            if self.recorded is not None:
                self.recorded(facts.sequence)


def answers_of(dns: DnsSettings) -> AnswerTable:
    """What keeps the answers that clients get."""
    return AnswerTable(stale=dns.serve_stale, strip_ech=dns.strip_ech)


@implementer(IListeningPort)
class DatagramPort:
    """A port for datagrams among the listening ports."""

    def __init__(self, address: Address, close: Callable[[], object]) -> None:
        self._address = address
        self._close = close

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> Deferred[None]:
        """Close the port, and end what is on it."""
        self._close()
        return succeed(None)

    @property
    def bound(self) -> Bound:
        """Where the port is."""
        return Bound("UDP", *self._address)

    def getHost(self) -> IAddress:
        host, port = self._address
        return (IPv6Address if ":" in host else IPv4Address)("UDP", host, port)


def banner(settings: Settings, ports: Iterable[Bound]) -> str:
    """
    What somebody who starts us wants to know: where we listen, where the CA is, and what to type.

    @param ports: those of the listeners, in their order.
    """
    bound = list(ports)
    of = {"TCP": "sslintercept listens on", "UDP": "sslintercept listens for datagrams on"}
    lines = [f"{of[kind]} {Address(at.host, at.port)}" for kind in of for at in bound if at.transport == kind]
    lines.append(f"the CA certificate that clients must trust: {settings.ca.certificate}")
    if (attempt := to_try(settings, zip(settings.listeners, bound, strict=True))) is not None:
        lines.append(f"try: {attempt}")
    return "\n".join(lines)


def to_try(settings: Settings, ports: Iterable[tuple[ListenSettings, Bound]]) -> str | None:
    """A curl line for the first port that is a proxy for clients who know it, HTTP before all others."""
    proxies = [(listener, at) for listener, at in ports if listener.target is None and at.transport == "TCP"]
    ca = shlex.quote(str(settings.ca.certificate))
    trusts = "" if settings.proxy_tls.certificate is not None else f"--proxy-cacert {ca} "
    logs_in = "" if settings.socks.users is None else "--proxy-user NAME "
    for word, scheme, more in (
        ("http", "http", ""),
        ("tls", "https", trusts),
        ("socks5", "socks5h", logs_in),
        ("socks4", "socks4a", ""),
    ):
        for listener, at in proxies:
            if word in listener.accept:
                host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(at.host, at.host)
                where = f"{scheme}://{Address(host, at.port)}"
                return f"curl --proxy {where} {more}--cacert {ca} https://example.com/"
    return None


def hashing_threads(cores: int) -> int:
    """How many threads may hash passwords at once: a flood of logins must leave half of the machine to the traffic."""
    return min(max(cores // 2, 1), MOST_THREADS)


def is_waiting(vc: NetVConnection) -> bool:
    """Whether a connection can be closed without loss: between two requests, or nothing was said on it yet."""
    session = vc.session
    return isinstance(session, ProbeAccept | ProxyLineAccept) or (
        isinstance(session, HttpSession | OriginSession) and session.sm is None
    )


def write_sequence(folder: Path, name: str, sequence: Recorded) -> None:
    """Write the recorded steps of one connection; a folder that cannot be written costs the record, nothing else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / f"{name}.puml").write_text(sequence.plantuml(), encoding="utf-8")
        (folder / f"{name}.mmd").write_text(sequence.mermaid(), encoding="utf-8")
    except OSError as error:
        SslInterceptService.log.error("a sequence was not written: {error}", error=str(error))


def _keylog(path: Path | None) -> Callable[[bytes], object] | None:
    """
    Where TLS secrets go when the administrator asked for them.

    @raise ConfigError: the file cannot be opened.
    """
    if path is None:
        return None
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot open {path} ({error.strerror})", where="[log] keylog", remedy="give a file that can be written"
        ) from None
    return lambda line: os.write(fd, line + b"\n")


def fixed_keys(before: Settings, after: Settings) -> list[str]:
    """The keys that a reload changed in the file, but cannot change in a running process."""
    pairs: dict[str, tuple[object, object]] = {
        "[sslintercept] state_dir": (before.state_dir, after.state_dir),
        "[sslintercept] workers": (before.workers, after.workers),
        "[sslintercept] spread": (before.spread, after.spread),
        "[sslintercept] max_connections": (before.max_connections, after.max_connections),
        "[ca]": (before.ca, after.ca),
        "[udp]": (before.udp, after.udp),
        "[cache] path": (before.cache.path, after.cache.path),
        "[cache] size": (before.cache.size, after.cache.size),
        "[cache] memory": (before.cache.memory, after.cache.memory),
        "[cache] largest": (before.cache.largest, after.cache.largest),
        "[aio]": (before.aio, after.aio),
        "[inspection] workers": (before.inspection.workers, after.inspection.workers),
        "[inspection] worker_memory": (before.inspection.worker_memory, after.inspection.worker_memory),
        "[inspection] worker_timeout": (before.inspection.worker_timeout, after.inspection.worker_timeout),
        "[log] access": (before.log.access, after.log.access),
        "[log] format": (before.log.format, after.log.format),
        "[log] connections": (before.log.connections, after.log.connections),
        "[log] keylog": (before.log.keylog, after.log.keylog),
    }
    opened = {listener.endpoint: listener for listener in before.listeners}
    for listener in after.listeners:
        port = opened.get(listener.endpoint, listener)
        pairs[f"[listen:{listener.name}] transparent"] = port.transparent, listener.transparent
        if parse(listener.endpoint).transport == "UDP":
            pairs[f"[listen:{listener.name}] accept"] = port.accept, listener.accept
    return [name for name, (old, new) in pairs.items() if old != new]


def make_service(settings: Settings, reactor: Any, worker: int | None) -> Service:
    """
    The service for these settings: this process, or a supervisor of several.

    @raise InterceptError: something the settings name cannot be used.
    """
    service = SslInterceptService(settings, reactor, worker)
    if worker is not None:
        service.started = tell_supervisor
    elif settings.workers > 1:
        # The parent makes the CA and the leaf key once, and tries the ports; the workers find them.
        service.share = True
        return Supervisor(settings, reactor, service.rehearse())
    return service
