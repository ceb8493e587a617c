"""
The wiring: the one module that knows every other (start and stop order included).

The L{SslInterceptService} owns what outlives a generation of settings: the socket handler, the ports, the logs, the CA.
What one generation makes is in L{sslintercept.gateway}.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from sslintercept.config.reader import read
from sslintercept.config.schema import ListenSettings, Settings
from sslintercept.config.units import datagram_endpoint
from sslintercept.datagram.door import UdpDoor
from sslintercept.datagram.hello import Cookies
from sslintercept.dialogue.session import Offers, PartHandler
from sslintercept.dns.hostdb import LATE
from sslintercept.dns.names import Names, OpenSecure, Wanted
from sslintercept.dns.reactor import ReactorResolver
from sslintercept.dns.stream import OpenStream
from sslintercept.errors import ConfigError, InterceptError
from sslintercept.facts import Address, Facts
from sslintercept.ftp.channel import Expectations
from sslintercept.gateway import Gateway, machine_names
from sslintercept.http.lines import AccessLines
from sslintercept.http.origin import OriginSession
from sslintercept.http.proxy import HttpProxy
from sslintercept.http.session import HttpSession
from sslintercept.log.access import NOTICES
from sslintercept.log.sequence import Sequence as Recorded
from sslintercept.log.writer import LineWriter
from sslintercept.net.connector import Connector
from sslintercept.net.cop import InactivityCop
from sslintercept.net.flow import Flow, FlowTable
from sslintercept.net.handler import NetHandler
from sslintercept.net.listener import listen
from sslintercept.net.original import is_local
from sslintercept.net.race import Dead
from sslintercept.net.securestream import open_secure
from sslintercept.net.upstream import UpstreamTls
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import ProbeAccept
from sslintercept.probe.proxyaccept import ProxyLineAccept
from sslintercept.rule.decide import check_match
from sslintercept.supervise import Supervisor, die, make_state_dir, on_signals, say, tell_supervisor
from sslintercept.tls.authority import Authority
from sslintercept.tls.context import UpstreamContext
from sslintercept.tls.leaf import LeafSource
from sslintercept.tls.verify import Verifier, load_roots

THREADS = 16
"""that hash passwords"""
COUNT_EVERY = 3600.0
"""seconds between two lines of counters in the program's log"""


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
        now = datetime.now(UTC)
        ca = settings.ca
        make_state_dir(settings.state_dir)
        self.authority, self.made_ca = Authority.load_or_make(
            ca.certificate, ca.key, key_type=ca.key_type, name=ca.name, now=now
        )
        self.trusted_leaves = LeafSource(
            self.authority, lifetime=ca.leaf_lifetime, key_path=settings.state_dir / "leaf.key"
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
        self.ports: dict[str, IListeningPort] = {}
        self.part_handlers: Iterable[PartHandler] = ()
        self.offers = Offers()
        self.expectations = Expectations()
        self.cookies = Cookies(secrets.token_bytes(32))
        udp = settings.udp
        self.flows = FlowTable(self.handler, most=udp.max_flows, most_of_a_host=udp.per_client, idle=udp.idle_timeout)
        self.names: Iterable[str] = machine_names()
        self._serial = itertools.count(1)
        self._boot = secrets.token_hex(3)
        self._threads = ThreadPool(0, THREADS, "passwords")
        self._dead = Dead()
        self._counting = LoopingCall(lambda: self.log.info("{summary}", summary=self.resolver.summary()))
        self._counting.clock = reactor
        self._wanted = Wanted.of(settings.dns, settings.split_dns)
        self.resolver = Names(self.handler, reactor, self._wanted, self._open_secure(settings))
        self._proxies: WeakSet[HttpProxy] = WeakSet()
        """of every generation that some connection still has"""
        self.recorded: Callable[[Recorded], object] | None = None
        """told the recorded steps of each connection that ended"""
        self.started: Callable[[], object] = lambda: say(banner(self.settings, self.ports.values()))
        """called once, when connections are accepted"""
        self.gateway = Gateway(settings, self)
        self._proxies.add(self.gateway.proxy)

    # what generations share

    def _use_names(self, settings: Settings) -> None:
        """From now on names are looked up as C{settings} want it, also by connections of older generations."""
        wanted = Wanted.of(settings.dns, settings.split_dns)
        if wanted == self._wanted:
            return
        self.log.info("names are asked for anew: {summary}", summary=self.resolver.summary())
        # Whoever waits for the old ones still gets an answer.
        self.reactor.callLater(LATE, self.resolver.stop)
        self._wanted = wanted
        self.resolver = Names(self.handler, self.reactor, wanted, self._open_secure(settings))
        self.resolver.start()

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """The addresses of C{host} (L{sslintercept.interfaces.IResolver})."""
        return self.resolver.resolve(host)

    def _open_secure(self, settings: Settings) -> OpenSecure:
        """Makes streams of TLS to name servers, which are verified as origins are."""
        upstream = settings.upstream_tls

        def make(name: str) -> OpenStream:
            roots, _ = load_roots(upstream.trust, upstream.extra_trust)
            tls = UpstreamTls(
                UpstreamContext(min_version=upstream.min_version, keylog=self.keylog),
                Verifier(roots, own_ca=self.authority),
                require=True,
                timeout=settings.http.tls_timeout,
                wall_clock=time.time,
            )
            return open_secure(self.handler, tls, name, settings.http.connect_timeout)

        return make

    def known_here(self, host: str) -> bool:
        """Whether the hosts file says where C{host} is."""
        return self.resolver.hostdb.listed(host)

    def new_connector(self, settings: Settings) -> Connector:
        """Who opens server connections for a generation."""
        return Connector(
            self.handler,
            self,
            timeout=settings.http.connect_timeout,
            water=(settings.tunnel.high_water, settings.tunnel.low_water),
            allowed=lambda host, port: self.forbidden(settings, host, port),
            back=self.ourselves,
            dead=self._dead,
        )

    def wall_clock(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def new_id(self) -> str:
        """Names a client's connection or flow in the log."""
        return f"{self._boot}-{next(self._serial):x}"

    def serve(self, flow: Flow, facts: Facts) -> None:
        """A new flow of datagrams came to a port."""
        self.gateway.datagrams.serve(flow, facts)

    def in_thread(self, call: Callable[[], bool]) -> Deferred[bool]:
        """Run what takes long on threads."""
        return deferToThreadPool(self.reactor, self._threads, call)

    def forbidden(self, settings: Settings, host: str, port: int) -> str | None:
        """Why an address may not be connected to: ourselves never, private networks by setting."""
        if (why := self.ourselves(host, port)) is not None:
            return why
        if settings.http.private_destinations == "deny" and not ipaddress.ip_address(host).is_global:
            return f"{host} is in a private network"
        return None

    def ourselves(self, host: str, port: int) -> str | None:
        """Whether an address is one of our ports, in words."""
        if any(port == own.port and is_local(host) for own in self.addresses()):
            return "the destination is this proxy itself"
        return None

    def addresses(self) -> list[Any]:
        """Where we listen (Any: Twisted's IPv4Address or IPv6Address)."""
        return [port.getHost() for port in self.ports.values()]

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
            if not self.ports:
                self._open_ports()
        except InterceptError as error:
            die(str(error))
        self._threads.start()
        self.handler.start()
        self.resolver.start()
        self._counting.start(COUNT_EVERY, now=False)
        self._own_resolver = self.reactor.installNameResolver(ReactorResolver(self.resolve))
        self.cop.start()
        on_signals(self.reactor, self.reload)
        for warning in [*self.authority.warnings, *self.gateway.warnings]:
            self.log.warn("{warning}", warning=warning)
        # Whoever reads the banner may send signals: they must find the handlers in place.
        self.reactor.callWhenRunning(self.started)

    def rehearse(self) -> str:
        """
        Open the ports and close them again; used instead of starting, by whoever starts workers.

        @return: the banner.
        @raise ConfigError: a port cannot be opened, or not by several workers.
        """
        try:
            self._open_ports()
            for listener in self.settings.listeners:
                if listener.endpoint.split(":")[1:2] == ["0"]:
                    raise ConfigError(
                        "several workers cannot share a port that the kernel chooses for each",
                        where=f"[listen:{listener.name}] endpoint",
                        remedy="name a port, or set workers = 1",
                    )
            return banner(self.settings, self.ports.values())
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
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        end = self.reactor.seconds() + self.settings.drain_timeout
        while self.handler.connections and self.reactor.seconds() < end:
            for vc in list(self.handler.connections):
                if is_waiting(vc):
                    vc.close()
            await deferLater(self.reactor, 0.05)
        for vc in list(self.handler.connections):
            vc.abort()
        self.flows.close()
        await deferLater(self.reactor, 0)
        self.cop.stop()
        self._counting.stop()
        self.log.info("{summary}", summary=self.resolver.summary())
        self.reactor.installNameResolver(self._own_resolver)
        self.resolver.stop()
        self.handler.stop()
        self._threads.stop()
        self.writer.close()

    def reload(self) -> bool:
        """Read the file again; a mistake in it changes nothing."""
        before = self.settings
        try:
            settings = read(before.path, check_match, generation=before.generation + 1)
            gateway = Gateway(settings, self)
            self.settings = settings
            self._open_ports()
        except InterceptError as error:
            self.settings = before
            self.log.error("the settings were not reloaded: {error}", error=str(error))
            return False
        self.gateway = gateway
        self._use_names(settings)
        self._proxies.add(gateway.proxy)
        self.writer.reopen()
        for key in fixed_keys(before, settings):
            self.log.warn("{key} was changed; that takes effect at the next start", key=key)
        for warning in gateway.warnings:
            self.log.warn("{warning}", warning=warning)
        self.log.info("generation {number} of the settings is in force", number=settings.generation)
        return True

    def _open_ports(self) -> None:
        wanted = {listener.endpoint: listener for listener in self.settings.listeners}
        opened: dict[str, IListeningPort] = {}
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

    def _open_port(self, listener: ListenSettings) -> IListeningPort:
        name, endpoint = listener.name, listener.endpoint
        if (at := datagram_endpoint(endpoint)) is not None:
            return DatagramPort(
                UdpDoor(
                    self.handler,
                    self.flows,
                    self,
                    listener=name,
                    host=at.host,
                    port=at.port,
                    target=listener.target if isinstance(listener.target, Address) else None,
                    new_id=self.new_id,
                    wall_clock=self.wall_clock,
                    share=self.share,
                )
            )
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
        port: IListeningPort = found[0]
        return port

    def accepted(self, endpoint: str, vc: NetVConnection) -> None:
        """A client has connected to a port, whose listener may have got another name since it was opened."""
        gateway = self.gateway
        listener = next(one for one in gateway.settings.listeners if one.endpoint == endpoint)
        gateway.accepted(vc, self.adopt(vc, listener.name), listener)

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


@implementer(IListeningPort)
class DatagramPort:
    """A door for datagrams among the listening ports."""

    def __init__(self, door: UdpDoor) -> None:
        """@raise ConfigError: it cannot be opened."""
        self._door = door
        self._address = door.start()

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> Deferred[None]:
        """Close the port; its flows end."""
        self._door.stop()
        return succeed(None)

    def getHost(self) -> IAddress:
        host, port = self._address
        return (IPv6Address if ":" in host else IPv4Address)("UDP", host, port)


def banner(settings: Settings, ports: Iterable[IListeningPort]) -> str:
    """What somebody who starts us wants to know: where we listen, where the CA is, and what to type."""
    hosts: list[Any] = [port.getHost() for port in ports]  # Any: IPv4Address or IPv6Address
    addresses = [Address(host.host, host.port) for host in hosts if host.type == "TCP"]
    lines = [f"sslintercept listens on {address}" for address in addresses]
    lines += [
        f"sslintercept listens for datagrams on {Address(host.host, host.port)}" for host in hosts if host.type == "UDP"
    ]
    lines.append(f"the CA certificate that clients must trust: {settings.ca.certificate}")
    if addresses:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(addresses[0].host, addresses[0].host)
        proxy = Address(host, addresses[0].port)
        lines.append(f"try: curl --proxy http://{proxy} --cacert {settings.ca.certificate} https://example.com/")
    return "\n".join(lines)


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
    pairs = {
        "[sslintercept] state_dir": (before.state_dir, after.state_dir),
        "[sslintercept] workers": (before.workers, after.workers),
        "[sslintercept] spread": (before.spread, after.spread),
        "[sslintercept] max_connections": (before.max_connections, after.max_connections),
        "[ca]": (before.ca, after.ca),
        "[udp]": (before.udp, after.udp),
        "[log] access": (before.log.access, after.log.access),
        "[log] format": (before.log.format, after.log.format),
        "[log] connections": (before.log.connections, after.log.connections),
        "[log] keylog": (before.log.keylog, after.log.keylog),
    }
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
