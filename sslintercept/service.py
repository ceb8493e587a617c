"""
The wiring: the one module that knows every other (start and stop order included).

A L{Gateway} is what one generation of settings makes: rules, contexts, pools, acceptors. A reload makes a new one; old
connections keep theirs until they end. The L{SslInterceptService} owns what outlives a generation: the socket handler, the
ports, the logs, the CA.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

import sslintercept.plugins
from sslintercept.config.reader import read
from sslintercept.config.schema import Settings
from sslintercept.dns.resolver import HostsFile, Lookup, Resolver, server_lookup, system_lookup
from sslintercept.errors import ConfigError, InterceptError
from sslintercept.facts import Action, Address, Facts, Scope
from sslintercept.http.lines import AccessLines
from sslintercept.http.pool import Pool
from sslintercept.http.proxy import HttpAcceptor, HttpProxy
from sslintercept.http.session import HttpSession
from sslintercept.intercept.leaves import Leaves
from sslintercept.intercept.refusal import REFUSALS, Refusal
from sslintercept.intercept.tls import TlsAcceptor
from sslintercept.intercept.unknown import UnknownAcceptor
from sslintercept.interfaces import IAcceptorPlugin, IProbeSignatures
from sslintercept.log.access import NOTICES
from sslintercept.log.sequence import Sequence
from sslintercept.log.writer import LineWriter
from sslintercept.net.connector import Connector
from sslintercept.net.cop import InactivityCop
from sslintercept.net.handler import NetHandler
from sslintercept.net.listener import listen
from sslintercept.net.original import original_destination
from sslintercept.net.upstream import UpstreamTls
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import Probe, ProbeAccept
from sslintercept.probe.signature import SIGNATURES
from sslintercept.rule.decide import Rules, check_match
from sslintercept.rule.learned import Learned
from sslintercept.supervise import Supervisor, die, say
from sslintercept.tls.authority import Authority
from sslintercept.tls.context import ServerContext, UpstreamContext
from sslintercept.tls.engine import Credential
from sslintercept.tls.leaf import LeafSource
from sslintercept.tls.seen import Origins
from sslintercept.tls.verify import Verifier, load_roots

SERVED = {
    "http": frozenset({"http/1", "http/2"}),
    "tls": frozenset({"tls"}),
    "socks4": frozenset({"socks4"}),
    "socks5": frozenset({"socks5"}),
}
"""which verdicts of the probe a word of C{accept} stands for"""
RESOLVER_THREADS = 16
EPOCH = time.time


class Gateway:
    """
    Everything that one generation of settings makes.

    @ivar settings: the generation's settings.
    @ivar probe: where every accepted connection goes.
    """

    def __init__(self, settings: Settings, process: SslInterceptService) -> None:
        self.settings = settings
        self.rules = Rules(settings.rules)
        self.learned = Learned(settings.client_tls.learn_after, settings.client_tls.learn_for)
        upstream = settings.upstream_tls
        roots, warnings = load_roots(upstream.trust, upstream.extra_trust)
        self.warnings = [*settings.warnings, *warnings]
        self.verifier = Verifier(roots, own_ca=process.authority)
        keylog = process.keylog
        self.connector = Connector(
            process.handler,
            process.resolver(settings),
            timeout=settings.http.connect_timeout,
            water=(settings.tunnel.high_water, settings.tunnel.low_water),
            allowed=lambda host, port: process.forbidden(settings, host, port),
        )
        self.upstream = UpstreamTls(
            UpstreamContext(min_version=upstream.min_version, keylog=keylog),
            self.verifier,
            require=upstream.verify == "require",
            timeout=settings.http.tls_timeout,
            wall_clock=EPOCH,
        )
        self.pool = Pool(settings.http.pool_size, settings.http.pool_per_origin)
        origins = Origins(upstream.remember)
        signatures = tuple(s for plugin in getPlugins(IProbeSignatures, sslintercept.plugins) for s in plugin.signatures)
        self.probe = Probe(
            timeout=settings.probe.timeout,
            silence=settings.probe.silence,
            limit=settings.probe.limit,
            allowed={
                listener.name: frozenset().union(*(SERVED[word] for word in listener.accept))
                for listener in settings.listeners
            },
            signatures=(*signatures, *SIGNATURES),
        )
        self.proxy = HttpProxy(
            settings,
            rules=self.rules,
            connector=self.connector,
            tls=self.upstream,
            pool=self.pool,
            origins=origins,
            probe=self.probe,
            transactions=process.lines,
        )
        unknown = UnknownAcceptor(settings, connector=self.connector, upstream=self.upstream)
        own, own_chain = process.own_certificate(settings)
        self.tls = TlsAcceptor(
            settings,
            rules=self.rules,
            learned=self.learned,
            probe=self.probe,
            connector=self.connector,
            upstream=self.upstream,
            client_context=ServerContext(
                min_version=settings.client_tls.min_version, chain=process.authority.chain_der, keylog=keylog
            ),
            proxy_context=ServerContext(
                min_version=settings.client_tls.min_version,
                chain=own_chain if own is not None else process.authority.chain_der,
                keylog=keylog,
            ),
            credentials=Leaves(process.trusted_leaves, process.untrusted_leaves, own, machine_names()),
            origins=origins,
            wall_clock=EPOCH,
        )
        for acceptor in (
            HttpAcceptor(self.proxy),
            self.tls,
            unknown,
            *(Refusal(protocol, unknown) for protocol in REFUSALS),
        ):
            self.probe.register(acceptor)
        for plugin in getPlugins(IAcceptorPlugin, sslintercept.plugins):
            for added in plugin.acceptors(self):
                self.probe.register(added, replace=True)

    def close(self) -> None:
        """No new work: connections that wait for some are closed."""
        self.proxy.draining = True
        self.pool.clear()


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
        self.worker = worker
        now = datetime.now(timezone.utc)
        ca = settings.ca
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        self.lines = AccessLines(self.writer.write, settings.log.format, settings.log.connections, EPOCH)
        self.keylog = _keylog(settings.log.keylog)
        self.handler = NetHandler(reactor)
        self.cop = InactivityCop(self.handler, reactor)
        self.ports: dict[str, IListeningPort] = {}
        self._serial = itertools.count(1)
        self._boot = secrets.token_hex(3)
        self._threads = ThreadPool(0, RESOLVER_THREADS, "resolver")
        self._resolvers: dict[object, Resolver] = {}
        self._old: list[Gateway] = []
        self.recorded: Callable[[Sequence], object] | None = None
        """told the recorded steps of each connection that ended"""
        self.gateway = Gateway(settings, self)

    # what generations share

    def resolver(self, settings: Settings) -> Resolver:
        """The resolver for a generation; the same settings share one."""
        key = (settings.dns.servers, settings.dns.hosts)
        if key not in self._resolvers:
            lookup: Lookup = (
                system_lookup(self.reactor, self._threads)
                if settings.dns.servers == "system"
                else server_lookup(settings.dns.servers, self.reactor)
            )
            self._resolvers[key] = Resolver(self.reactor, HostsFile(settings.dns.hosts), lookup)
        return self._resolvers[key]

    def forbidden(self, settings: Settings, host: str, port: int) -> str | None:
        """Why an address may not be connected to: ourselves never, private networks by setting."""
        if any(port == own.port and is_local(host) for own in self.addresses()):
            return "the destination is this proxy itself"
        if settings.http.private_destinations == "deny" and not ipaddress.ip_address(host).is_global:
            return f"{host} is in a private network"
        return None

    def addresses(self) -> list[Any]:
        """Where we listen (Any: Twisted's IPv4Address or IPv6Address)."""
        return [port.getHost() for port in self.ports.values()]

    def own_certificate(self, settings: Settings) -> tuple[Credential | None, list[bytes]]:
        """
        The configured certificate of the proxy itself, and its chain.

        @raise ConfigError: it cannot be used.
        """
        proxy = settings.proxy_tls
        if proxy.certificate is None or proxy.key is None:
            return None, []
        return load_own(proxy.certificate, proxy.key)

    # life

    def privilegedStartService(self) -> None:
        """Open the ports, while we may; one that cannot be opened ends the process with one line."""
        try:
            self._open_ports()
        except InterceptError as error:
            die(str(error))
        super().privilegedStartService()

    def startService(self) -> None:
        """Accept from now on."""
        super().startService()
        self.writer.start()
        self._threads.start()
        if not self.ports:
            self._open_ports()
        self.handler.start()
        self.cop.start()
        if hasattr(signal, "SIGHUP"):
            try:
                signal.signal(signal.SIGHUP, lambda number, frame: self.reactor.callFromThread(self.reload))
            except ValueError:
                self.log.debug("not on the main thread: no reload by signal")
        if self.worker is None:
            say(banner(self.settings, self.ports.values()))
        for warning in [*self.authority.warnings, *self.gateway.warnings]:
            self.log.warn("{warning}", warning=warning)

    def stopService(self) -> Deferred[None]:
        """Close the ports, let what runs finish for a while, then cut it."""
        super().stopService()
        for port in self.ports.values():
            port.stopListening()
        self.ports.clear()
        for gateway in [*self._old, self.gateway]:
            gateway.close()
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
        await deferLater(self.reactor, 0)
        self.cop.stop()
        self.handler.stop()
        self._threads.stop()
        self.writer.close()

    def reload(self) -> bool:
        """Read the file again; a mistake in it changes nothing."""
        try:
            settings = read(self.settings.path, check_match, generation=self.settings.generation + 1)
            gateway = Gateway(settings, self)
        except InterceptError as error:
            self.log.error("the settings were not reloaded: {error}", error=str(error))
            return False
        old, self.gateway, self.settings = self.gateway, gateway, settings
        old.close()
        self._old = [g for g in self._old if g is not old] + [old]
        self._old = self._old[-8:]
        self._open_ports()
        self.writer.reopen()
        self.log.info("generation {number} of the settings is in force", number=settings.generation)
        return True

    def _open_ports(self) -> None:
        wanted = {listener.endpoint: listener for listener in self.settings.listeners}
        for endpoint in [e for e in self.ports if e not in wanted]:
            self.ports.pop(endpoint).stopListening()
        for endpoint, listener in wanted.items():
            if endpoint not in self.ports:
                self.ports[endpoint] = self._open_port(listener.name, endpoint)

    def _open_port(self, name: str, endpoint: str) -> IListeningPort:
        found: list[Any] = []  # Any: a port, or the failure that kept it from opening
        opening = Deferred.fromCoroutine(
            listen(
                self.handler,
                endpoint,
                lambda vc: self.accepted(name, vc),
                limit=self.settings.max_connections,
                share=self.worker is not None,
                where=f"[listen:{name}] endpoint",
            )
        )
        opening.addBoth(found.append)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        port: IListeningPort = found[0]
        return port

    def accepted(self, name: str, vc: NetVConnection) -> None:
        """A client has connected."""
        gateway = self.gateway
        number = next(self._serial)
        facts = Facts(f"{self._boot}-{number:x}", vc.peer, name)
        facts.started = EPOCH()
        tunnel = gateway.settings.tunnel
        vc.high_water, vc.low_water = tunnel.high_water, tunnel.low_water
        if gateway.settings.log.sequence is not None:
            facts.sequence = Sequence()
            facts.step("accepted", str(vc.peer))
        vc.closed = lambda vc: self._closed(facts, vc)
        listener = next((one for one in gateway.settings.listeners if one.name == name), None)
        if listener is not None and listener.target is not None:
            try:
                facts.scope = fixed_scope(gateway, facts, vc, listener.target)
            except InterceptError as error:
                facts.error = error
                vc.close()
                return
        gateway.probe.accept(vc, facts)

    def _closed(self, facts: Facts, vc: NetVConnection) -> None:
        self.lines.connection(facts, vc)
        folder = self.gateway.settings.log.sequence
        if facts.sequence is not None and folder is not None:
            assert isinstance(facts.sequence, Sequence)
            write_sequence(folder, facts.id, facts.sequence)
            if self.recorded is not None:
                self.recorded(facts.sequence)


def banner(settings: Settings, ports: Iterable[IListeningPort]) -> str:
    """What somebody who starts us wants to know: where we listen, where the CA is, and what to type."""
    addresses = [Address(port.getHost().host, port.getHost().port) for port in ports]
    lines = [f"sslintercept listens on {address}" for address in addresses]
    lines.append(f"the CA certificate that clients must trust: {settings.ca.certificate}")
    if addresses:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(addresses[0].host, addresses[0].host)
        proxy = Address(host, addresses[0].port)
        lines.append(f"try: curl --proxy http://{proxy} --cacert {settings.ca.certificate} https://example.com/")
    return "\n".join(lines)


def fixed_scope(gateway: Gateway, facts: Facts, vc: NetVConnection, target: str | Address) -> Scope:
    """
    The scope of a connection whose destination is not the client's to name.

    @raise InterceptError: the original destination is not known, or a rule blocks it.
    """
    if isinstance(target, Address):
        destination = target
    elif target == "original":
        destination = original_destination(vc)
    else:
        # By the server name: the hello will say where.
        destination = Address("", vc.local.port)
    facts.destination = destination
    decision = gateway.rules.decide(facts)
    if decision is not None and decision.action is Action.BLOCK:
        raise InterceptError(f"rule {decision.rule} blocks", where=str(destination), remedy="see the rules")
    scope = Scope(destination, decision or gateway.proxy.default)
    scope.decided = decision is not None
    return scope


def is_waiting(vc: NetVConnection) -> bool:
    """Whether a connection can be closed without loss: a client between two requests, or one that has said nothing."""
    session = vc.session
    return isinstance(session, ProbeAccept) or (isinstance(session, HttpSession) and session.sm is None)


def is_local(host: str) -> bool:
    """Whether an address is one of this machine's: only such can be bound to."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            return False
    return True


def machine_names() -> list[str]:
    """The names under which clients of this machine's proxy may know it."""
    names = [socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(name for name in names if name and name.isascii()))


def load_own(certificate: Path, key: Path) -> tuple[Credential, list[bytes]]:
    """
    A certificate with its chain, and its key, from PEM files.

    @raise ConfigError: one cannot be read or used.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    path = certificate
    try:
        first, *chain = load_pem_x509_certificates(certificate.read_bytes())
        path = key
        private = load_pem_private_key(key.read_bytes(), None)
        same = private.public_key() == first.public_key()
    except (OSError, ValueError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot use {path} ({why})", where="[proxy-tls]", remedy="give PEM files") from None
    if not same:
        raise ConfigError(f"{key} is not the key of {certificate}", where="[proxy-tls] key", remedy="give the pair")
    wrapped = crypto.PKey.from_cryptography_key(private)
    return Credential(first.public_bytes(Encoding.DER), wrapped), [c.public_bytes(Encoding.DER) for c in chain]


def write_sequence(folder: Path, name: str, sequence: Sequence) -> None:
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


def make_service(settings: Settings, reactor: Any, worker: int | None) -> Service:
    """
    The service for these settings: this process, or a supervisor of several.

    @raise InterceptError: something the settings name cannot be used.
    """
    if settings.workers > 1 and worker is None:
        # The parent makes the CA and the leaf key once; the workers find them.
        SslInterceptService(settings, reactor)
        return Supervisor(settings, reactor)
    return SslInterceptService(settings, reactor, worker)
