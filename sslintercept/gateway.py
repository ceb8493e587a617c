"""
What one generation of settings makes: rules, contexts, pools, acceptors.

A reload makes a new gateway; old connections keep theirs until they end.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.plugin import getPlugins

import sslintercept.plugins
from sslintercept.cache.fresh import Policy
from sslintercept.cache.processor import CacheProcessor
from sslintercept.config.schema import Collector, ListenSettings, ParentSettings, Settings, SitesSettings
from sslintercept.datagram.associate import SocksAssociations
from sslintercept.datagram.hello import Cookies
from sslintercept.datagram.intercept import DtlsInterceptor
from sslintercept.datagram.session import Datagrams
from sslintercept.dialogue.accept import DialogueAcceptor
from sslintercept.dialogue.session import Conversations, Offers, PartHandler
from sslintercept.dialogue.upgrade import UPGRADES, watcher_of
from sslintercept.dialogue.watcher import MakeWatcher
from sslintercept.dns.names import OpenSecure
from sslintercept.dns.stream import OpenStream
from sslintercept.errors import ConfigError, InterceptError
from sslintercept.event.arrange import Opens
from sslintercept.event.log import Events
from sslintercept.facts import UNKNOWN, Action, Address, Facts, Scope
from sslintercept.ftp.channel import Expectations
from sslintercept.ftp.data import DataConnections, FtpAcceptor, FtpDataAcceptor
from sslintercept.http.cache import HttpCache
from sslintercept.http.consent import Consents
from sslintercept.http.lines import AccessLines
from sslintercept.http.pool import Pool
from sslintercept.http.proxy import HttpAcceptor, HttpProxy
from sslintercept.http.room import WaitingRoom
from sslintercept.http.template import Pages
from sslintercept.inspect.apart import Apart
from sslintercept.inspect.body import InspectBodies
from sslintercept.inspect.carried import InspectParts
from sslintercept.inspect.engines import Engines
from sslintercept.inspect.processor import InspectProcessor
from sslintercept.inspect.processor import Limits as InspectLimits
from sslintercept.intercept.leaves import Leaves
from sslintercept.intercept.obsolete import ObsoleteHello
from sslintercept.intercept.refusal import REFUSALS, Refusal
from sslintercept.intercept.tls import TlsAcceptor
from sslintercept.intercept.unknown import UnknownAcceptor
from sslintercept.interfaces import IAcceptorPlugin, IPartHandler, IProbeSignatures
from sslintercept.load import entries, inspecting
from sslintercept.mail.imap import ImapWatcher
from sslintercept.mail.pop3 import Pop3Watcher
from sslintercept.mail.smtp import SmtpWatcher
from sslintercept.nameserver.answers import AnswerTable
from sslintercept.nameserver.service import Counters, Names, NameService
from sslintercept.nameserver.session import NameAcceptor
from sslintercept.net.bind import Binds
from sslintercept.net.connector import Connector, Denied
from sslintercept.net.flow import FlowTable
from sslintercept.net.handler import NetHandler
from sslintercept.net.limits import Limits
from sslintercept.net.line import OpenLine, tcp
from sslintercept.net.nearness import Guard
from sslintercept.net.original import original_destination
from sslintercept.net.parent import Parent
from sslintercept.net.route import Choose, Router
from sslintercept.net.securestream import open_secure
from sslintercept.net.upstream import UpstreamTls
from sslintercept.net.vconnection import NetVConnection
from sslintercept.phish.names import Resolver
from sslintercept.probe.accept import Acceptor, Probe
from sslintercept.probe.entrance import Blocked
from sslintercept.probe.proxyaccept import ProxyLineAccept, trusted
from sslintercept.probe.proxyline import ProxyLine
from sslintercept.probe.reach import reach
from sslintercept.probe.signature import SIGNATURES
from sslintercept.rule.decide import Rules, match_of
from sslintercept.rule.learned import Learned
from sslintercept.rule.match import Networks
from sslintercept.sites.listing import ListSettings
from sslintercept.sites.look import Sites
from sslintercept.socks.negotiate import SocksAcceptor
from sslintercept.socks.users import Users
from sslintercept.socks.wire import read_datagram, write_datagram
from sslintercept.tls.authority import Authority, load_key
from sslintercept.tls.context import ServerContext, UpstreamContext
from sslintercept.tls.dtls import DtlsServerContext, DtlsUpstreamContext
from sslintercept.tls.engine import Credential
from sslintercept.tls.leaf import LeafSource
from sslintercept.tls.seen import Origins
from sslintercept.tls.verify import Verifier, load_roots
from sslintercept.transform.arrange import Bounds
from sslintercept.transform.processor import TransformProcessor
from sslintercept.worker.pool import Workers

SERVED = {
    "http": frozenset({"http/1", "http/2"}),
    "tls": frozenset({"tls", "sslv2"}),
    "socks4": frozenset({"socks4"}),
    "socks5": frozenset({"socks5"}),
    "dns": frozenset({"dns"}),
}
"""which verdicts of the probe a word of C{accept} stands for"""
WATCHERS: Final[dict[str, MakeWatcher]] = {
    **{name: watcher_of(name) for name in UPGRADES},
    "smtp": SmtpWatcher,
    "pop3": Pop3Watcher,
    "imap": ImapWatcher,
}
"""who reads along, for each verdict of the probe"""
CONSENT_KEY: Final = "consent"
"""the secret that consents of users are signed with"""
MOST_PASSWORD = 255
"""bytes (RFC 1929 2)"""


class Asking(Names, Resolver, Protocol):
    """Who knows names, for clients that ask and for whoever checks who sent a mail."""


class Process(Protocol):
    """What generations share (L{sslintercept.service.SslInterceptService}), and what differs in a test."""

    answers: AnswerTable
    """what name servers said lately, for clients that ask us for names"""
    asked: Counters
    cache: CacheProcessor | None
    """what is kept of responses"""
    authority: Authority
    cookies: Cookies
    expectations: Expectations
    flows: FlowTable
    sites: Sites
    """what lists say, as they were read last"""
    handler: NetHandler
    keylog: Callable[[bytes], object] | None
    lines: AccessLines
    part_handlers: Iterable[PartHandler]
    """who sees mails and files, besides the plugins"""
    offers: Offers
    names: Iterable[str]
    """those under which clients may know this proxy"""
    trusted_leaves: LeafSource
    untrusted_leaves: LeafSource
    waiting: WaitingRoom
    """downloads whose verdicts take long"""
    workers: Workers
    """processes for what parses hostile content"""

    @property
    def events(self) -> Events:
        """Where it is told what inspectors find."""

    @property
    def resolver(self) -> Asking:
        """Who knows names now."""

    def adopt(self, vc: NetVConnection, listener: str) -> Facts:
        """The facts of a new connection with a client; its line is written when it ends."""

    def known_here(self, host: str) -> bool:
        """Whether whoever runs this machine has said where C{host} is (a hosts file)."""

    def limits(self, settings: Settings) -> Limits: ...
    def new_connector(self, settings: Settings) -> Connector: ...
    def new_id(self) -> str:
        """Names a client's connection or flow in the log."""

    def secret(self, name: str) -> bytes:
        """
        32 bytes that all processes of this installation know, and nobody else, for one purpose.

        @raise ConfigError: they are nowhere, and cannot be kept.
        """

    def wall_clock(self) -> float:
        """Seconds since the epoch, for dates in certificates and logs."""

    def in_thread(self, call: Callable[[], bool]) -> Deferred[bool]:
        """Run what takes long where nobody has to wait for it."""


class Gateway:
    """
    Everything that one generation of settings makes.

    @ivar settings: the generation's settings.
    @ivar probe: where every accepted connection goes.
    """

    def __init__(self, settings: Settings, process: Process) -> None:
        self.settings = settings
        self.rules = Rules(settings.rules, process.sites)
        self.learned = Learned(settings.client_tls.learn_after, settings.client_tls.learn_for)
        upstream = settings.upstream_tls
        roots, _ = load_roots(upstream.trust, upstream.extra_trust)
        keylog = process.keylog
        self._balancers = {
            listener.name: Networks([str(network) for network in listener.proxy_protocol or ()])
            for listener in settings.listeners
        }
        self.connector = process.new_connector(settings)
        self.verifier = Verifier(roots, own_ca=process.authority)
        self.upstream = tls_to(
            settings, self.verifier, keylog, process.wall_clock, require=upstream.verify == "require"
        )
        self.guard = Guard(settings.dns.rebinding == "refuse", process.known_here)
        self.router = Router(
            self.connector,
            self.upstream,
            chooser(settings.parents, process.sites),
            settings.http.connect_timeout,
            self.guard,
            {one.name: one.target for one in settings.listeners if isinstance(one.target, Address)},
        )
        self.pool = Pool(settings.http.pool_size, settings.http.pool_per_origin)
        self.origins = Origins(upstream.remember)
        openings = [plugin.signatures for plugin in getPlugins(IProbeSignatures, sslintercept.plugins)]
        self.probe = Probe(
            timeout=settings.probe.timeout,
            silence=settings.probe.silence,
            limit=settings.probe.limit,
            allowed={
                listener.name: frozenset().union(*(SERVED[word] for word in listener.accept))
                for listener in settings.listeners
            },
            signatures=(*chain.from_iterable(openings), *SIGNATURES),
        )
        self.probe.reach = lambda vc, facts, scope: reach(vc, facts, scope, self.router)
        self.proxy = HttpProxy(
            settings,
            rules=self.rules,
            router=self.router,
            pool=self.pool,
            origins=self.origins,
            probe=self.probe,
            transactions=process.lines,
            pages=Pages(settings.pages),
            consents=Consents(process.secret(CONSENT_KEY), self.rules.warned) if self.rules.warned else None,
            wall_clock=process.wall_clock,
        )
        self.inspection = self._inspection(process)
        if settings.changes or self.inspection is not None:
            self.proxy.transforms = transforms(settings, process.handler, self.inspection)
        inspection = settings.inspection
        if self.inspection is not None:
            self.proxy.waiting_after = inspection.waiting_page
        if self.proxy.waiting_after or len(process.waiting):
            self.proxy.waiting = process.waiting
        if process.cache is not None:
            policy = Policy(decrypted=settings.cache.decrypted, negative=settings.cache.negative)
            self.proxy.cache = HttpCache(process.cache, policy, self.proxy.name)
        unknown = UnknownAcceptor(settings, self.router)
        own, own_chain = own_certificate(settings)
        self._leaves = Leaves(process.trusted_leaves, process.untrusted_leaves, own, tuple(process.names))
        self.tls = TlsAcceptor(
            settings,
            rules=self.rules,
            learned=self.learned,
            probe=self.probe,
            router=self.router,
            client_context=ServerContext(
                min_version=settings.client_tls.min_version, chain=process.authority.chain_der, keylog=keylog
            ),
            proxy_context=ServerContext(
                min_version=settings.client_tls.min_version,
                chain=own_chain if own is not None else process.authority.chain_der,
                keylog=keylog,
            ),
            credentials=self._leaves,
            origins=self.origins,
            wall_clock=process.wall_clock,
        )
        self.datagrams = self._datagrams(process)
        acceptors: list[Acceptor] = [HttpAcceptor(self.proxy), self.tls, unknown, ObsoleteHello()]
        acceptors += [Refusal(protocol, unknown) for protocol in REFUSALS]
        acceptors += self._socks(process)
        acceptors += self._conversations(process)
        self.name_service = self._names(process)
        acceptors.append(NameAcceptor(self.name_service, unknown))
        for acceptor in acceptors:
            self.probe.register(acceptor)
        for plugin in getPlugins(IAcceptorPlugin, sslintercept.plugins):
            for added in plugin.acceptors(self):
                self.probe.register(added, replace=True)
                self.probe.foreign.add(added.protocol)

    def _inspection(self, process: Process) -> InspectProcessor | None:
        """The inspectors of this generation (L{sslintercept.inspect}), if there are any."""
        settings, common = self.settings.inspectors, self.settings.inspection
        if not settings:
            return None
        secure = tls_to(self.settings, self.verifier, process.keylog, process.wall_clock)
        engines = Engines(
            process.handler, process.sites, process.workers, self.connector, secure, lambda: process.resolver
        )
        return InspectProcessor(
            [inspecting(each, engines) for each in settings],
            process.handler,
            InspectLimits(common.hold, common.collect, common.memory, common.remember, common.remember_for),
            process.events,
            Apart(process.workers),
            new_id=process.new_id,
            wall_clock=process.wall_clock,
        )

    def _names(self, process: Process) -> NameService:
        """The name server that clients may ask (L{sslintercept.nameserver})."""
        return NameService(
            process.handler,
            rules=self.rules if self.rules.rules else None,
            guard=self.guard,
            names=lambda: process.resolver,
            answers=lambda: process.answers,
            new_id=process.new_id,
            told=process.lines.question,
            counters=process.asked,
        )

    def _socks(self, process: Process) -> list[Acceptor]:
        """SOCKS in both versions (L{sslintercept.socks})."""
        socks = self.settings.socks
        users = None
        if socks.users is not None:
            users, _ = Users.load(socks.users, process.in_thread)
        associations = SocksAssociations(
            process.handler,
            process.flows,
            self.datagrams,
            read=read_datagram,
            write=write_datagram,
            new_id=process.new_id,
            wall_clock=process.wall_clock,
        )
        binds = None
        if socks.bind:
            binds = Binds(self.connector.addresses, timeout=socks.bind_timeout)
        return [
            SocksAcceptor(
                version,
                entrance=self.proxy.entrance,
                timeout=socks.timeout,
                idle=self.settings.tunnel.idle_timeout,
                users=users,
                binds=binds,
                associations=associations if socks.udp else None,
            )
            for version in ("socks4", "socks5")
        ]

    def _datagrams(self, process: Process) -> Datagrams:
        """Flows of datagrams, and DTLS in them (L{sslintercept.datagram})."""
        udp, upstream = self.settings.udp, self.settings.upstream_tls
        opener = DtlsInterceptor(
            process.handler,
            client_context=DtlsServerContext(
                oldest=udp.dtls_min_version, chain=process.authority.chain_der, keylog=process.keylog, mtu=udp.mtu
            ),
            upstream_context=DtlsUpstreamContext(oldest=udp.dtls_min_version, keylog=process.keylog, mtu=udp.mtu),
            judge=self.verifier,
            credentials=self._leaves,
            cookies=process.cookies,
            wall_clock=process.wall_clock,
            require=upstream.verify == "require",
            timeout=self.settings.http.tls_timeout,
        )
        limits = process.limits(self.settings)

        def denied(facts: Facts, destination: Address, host: str) -> Denied | None:
            asked = limits.itself if self.router.configured(facts, destination) else limits.denied
            return asked(host, destination.port, "UDP")

        return Datagrams(
            process.handler,
            self.rules,
            addresses=self.router.straight,
            denied=denied,
            ended=lambda facts, totals: process.lines.flow(facts, totals.seconds, totals.read, totals.sent),
            opener=opener,
        )

    def _conversations(self, process: Process) -> list[Acceptor]:
        """What begins in the clear and may become TLS, and what carries messages (L{sslintercept.dialogue})."""
        mail = self.settings.mail
        if not mail.sessions:
            return []
        inspects = [] if self.inspection is None else [InspectParts(self.inspection)]
        shared = Conversations(
            router=self.router,
            probe=self.probe,
            offers=process.offers,
            remember=mail.remember,
            relay_opaque=mail.opaque == "relay",
            idle=mail.idle_timeout,
            handlers=[*inspects, *process.part_handlers, *getPlugins(IPartHandler, sslintercept.plugins)],
            clock=process.wall_clock,
        )
        data = DataConnections(shared, process.adopt, process.expectations)
        self.proxy.entrance.recognise = data.recognise
        others = [DialogueAcceptor(name, make, shared) for name, make in WATCHERS.items()]
        return [*others, FtpAcceptor(data), FtpDataAcceptor(data)]

    # clients

    def accepted(self, vc: NetVConnection, facts: Facts, listener: ListenSettings) -> None:
        """A client has connected to C{listener}."""
        tunnel = self.settings.tunnel
        vc.high_water, vc.low_water = tunnel.high_water, tunnel.low_water
        facts.step("accepted", str(vc.peer))
        if listener.proxy_protocol and trusted(self._balancers[listener.name], vc.peer.host):
            ProxyLineAccept(
                vc, facts, self.settings.probe.timeout, lambda line, rest: self._enter(vc, facts, listener, line, rest)
            ).begin()
        else:
            self._enter(vc, facts, listener)

    def _enter(
        self,
        vc: NetVConnection,
        facts: Facts,
        listener: ListenSettings,
        line: ProxyLine | None = None,
        peeked: bytes = b"",
    ) -> None:
        """Find out where the client is sent, if it cannot say so itself, and probe."""
        if listener.target is not None:
            try:
                facts.scope = self._scope(vc, facts, listener, line)
            except InterceptError as error:
                facts.error = error
                vc.close()
                return
        self.probe.accept(vc, facts, peeked)

    def _scope(self, vc: NetVConnection, facts: Facts, listener: ListenSettings, line: ProxyLine | None) -> Scope:
        """
        The scope of a connection whose destination is not the client's to name.

        @raise InterceptError: the original destination is not known, or a rule blocks it.
        """
        target = listener.target
        if isinstance(target, Address):
            destination = target
        elif target == "original":
            if line is not None and line.destination is not None:
                # The balancer knows what was redirected to it.
                destination = line.destination
            else:
                destination = original_destination(vc, listener.transparent)
        else:
            # By the server name: the hello will say where.
            destination = Address("", vc.local.port)
        facts.destination = destination if destination.host else UNKNOWN
        decision = self.rules.decide(facts)
        facts.decision = decision or self.proxy.default
        if decision is not None and decision.action is Action.BLOCK:
            raise Blocked(decision, destination)
        scope = Scope(destination, facts.decision)
        scope.decided = decision is not None
        scope.entrance = target == "original"
        if scope.entrance:
            self.proxy.entrance.recognise(facts, scope)
        return scope


def tls_to(
    settings: Settings,
    verifier: Verifier,
    keylog: Callable[[bytes], object] | None,
    wall_clock: Callable[[], float],
    *,
    require: bool = True,
) -> UpstreamTls:
    """What does TLS as a client: with origins, engines, name servers and collectors."""
    context = UpstreamContext(min_version=settings.upstream_tls.min_version, keylog=keylog)
    return UpstreamTls(context, verifier, require=require, timeout=settings.http.tls_timeout, wall_clock=wall_clock)


def secure_streams(
    handler: NetHandler, settings: Settings, own_ca: Authority | None, keylog: Callable[[bytes], object] | None
) -> OpenSecure:
    """What opens streams of TLS to name servers, which are verified as origins are."""
    upstream = settings.upstream_tls

    def make(name: str) -> OpenStream:
        roots, _ = load_roots(upstream.trust, upstream.extra_trust)
        tls = tls_to(settings, Verifier(roots, own_ca=own_ca), keylog, time.time)
        return open_secure(handler, tls, name, settings.http.connect_timeout)

    return make


def collectors(
    settings: Settings, connector: Connector, own_ca: Authority | None, keylog: Callable[[bytes], object] | None
) -> Opens:
    """
    What opens lines to collectors of syslog, which are verified as origins are, but always.

    @raise ConfigError: the authorities cannot be read.
    """
    upstream, own = settings.upstream_tls, settings.events.syslog_trust
    tls: UpstreamTls | None = None
    if any(collector.secure for collector in settings.events.syslog or ()):
        if own is not None:
            roots, _ = load_roots(own, None, "[events] syslog_trust")
        else:
            roots, _ = load_roots(upstream.trust, upstream.extra_trust)
        tls = tls_to(settings, Verifier(roots, own_ca=own_ca), keylog, time.time)

    def opens(collector: Collector) -> OpenLine:
        return tcp(connector, collector.address, f"syslog {collector}", tls if collector.secure else None)

    return opens


def transforms(
    settings: Settings, handler: NetHandler, inspection: InspectProcessor | None = None
) -> TransformProcessor:
    """
    The transforms of the settings, with the inspectors nearest to the server: they see what comes from there, and what
    goes there.

    @raise ConfigError: one cannot be made.
    """
    common = settings.transforms
    bounds = Bounds(common.max_ratio, common.max_decoded)
    nearest = None if inspection is None else InspectBodies(inspection, bounds).entry()
    return TransformProcessor(entries(settings.changes), bounds, handler, common.patience, nearest)


def chooser(settings: Sequence[ParentSettings], sites: Sites) -> Choose | None:
    """
    Who chooses among the configured parents; C{None} where there are none.

    @raise ConfigError: a password cannot be read.
    """
    parents = [(match_of("parent", one, sites), parent_of(one)) for one in settings]
    if not parents:
        return None

    def choose(facts: Facts) -> Parent | None:
        return next((parent for match, parent in parents if match.judge(facts, final=True)), None)

    return choose


def site_lists(settings: Sequence[SitesSettings]) -> list[ListSettings]:
    """The lists of the C{[sites:NAME]} sections; what has no category of its own has the section's name."""
    return [
        ListSettings(one.name, one.path, one.format, one.category or one.name, one.categories or (), one.suffixes)
        for one in settings
    ]


def parent_of(settings: ParentSettings) -> Parent | None:
    """
    A parent as it is spoken to; C{None} for the straight way.

    @raise ConfigError: its password cannot be read.
    """
    if settings.proxy == "direct" or settings.address is None:
        return None
    password = ""
    if settings.password_file is not None:
        where = f"[parent:{settings.name}] password_file"
        try:
            lines = settings.password_file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(
                f"cannot read {settings.password_file} ({why})", where=where, remedy="give a text file"
            ) from None
        password = lines[0] if lines else ""
        if not 0 < len(password.encode()) <= MOST_PASSWORD:
            raise ConfigError(
                "the first line is empty or too long", where=where, remedy=f"at most {MOST_PASSWORD} bytes"
            )
    return Parent(settings.name, settings.proxy, settings.address, settings.user, password)


def machine_names() -> list[str]:
    """The names under which clients of this machine's proxy may know it."""
    names = [socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(name for name in names if name and name.isascii()))


def load_own(certificate: Path, key: Path) -> tuple[Credential, list[bytes]]:
    """
    A certificate with its chain, and its key, from PEM files.

    @raise ConfigError: one cannot be read or used.
    """
    path = certificate
    try:
        first, *chain = load_pem_x509_certificates(certificate.read_bytes())
        path = key
        private = load_key(key, "[proxy-tls] key")
        same = private.public_key() == first.public_key()
    except (OSError, ValueError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot use {path} ({why})", where="[proxy-tls]", remedy="give PEM files") from None
    if not same:
        raise ConfigError(f"{key} is not the key of {certificate}", where="[proxy-tls] key", remedy="give the pair")
    wrapped = crypto.PKey.from_cryptography_key(private)
    return Credential(first.public_bytes(Encoding.DER), wrapped), [c.public_bytes(Encoding.DER) for c in chain]


def own_certificate(settings: Settings) -> tuple[Credential | None, list[bytes]]:
    """
    The configured certificate of the proxy itself, and its chain.

    @raise ConfigError: it cannot be used.
    """
    proxy = settings.proxy_tls
    if proxy.certificate is None or proxy.key is None:
        return None, []
    return load_own(proxy.certificate, proxy.key)
