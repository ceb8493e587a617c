"""
TLS found by the probe: read the hello, decide, and put the client's TLS layer on (deck: steps 11 to 16).

On a proxy's own port it is TLS with the proxy itself. Inside a tunnel it is TLS with an origin, which is passed through
untouched, or opened: then a leaf is made that says what the origin's certificate says, the layer is pushed, and what
comes out of it is probed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.config.schema import Settings
from sslintercept.errors import (
    CertificateError,
    ClientTlsError,
    HelloError,
    InterceptError,
    PolicyError,
    TimedOut,
    TlsError,
    UpstreamError,
)
from sslintercept.facts import REFUSING, UNKNOWN, Action, Address, ClientHello, Decision, Facts, Scope
from sslintercept.net.route import Router
from sslintercept.net.upstream import Secured
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.accept import Hanging, Probe, hung
from sslintercept.probe.port import greets_first
from sslintercept.profile.profile import Bytes
from sslintercept.profile.ssl import SslProfile
from sslintercept.rule.decide import Rules
from sslintercept.rule.learned import Learned
from sslintercept.tls.context import ServerContext
from sslintercept.tls.engine import REJECTIONS, Credential, of_client
from sslintercept.tls.hello import HelloReader
from sslintercept.tls.seen import Origins, Seen
from sslintercept.tunnel.blind import BlindTunnel

WAITING = 64 * 1024
"""bytes of an impatient client kept while its hello is being decided on"""
HTTP_1_1 = b"http/1.1"
LATER_HTTP = frozenset({b"h2", b"h2c", b"h3"})
"""versions of HTTP without a session here; they are never agreed on"""
AT_ONCE = 1.0
"""seconds after the handshake: a client that leaves within them without a word did not like our certificate"""


class Credentials(Protocol):
    """Who forges leaves, and knows the proxy's own certificate."""

    def forge(self, name: str, seen: Seen | None, hello: ClientHello, now: float) -> Credential: ...
    def own(self, name: str | None, hello: ClientHello, now: float) -> Credential: ...


class TlsAcceptor:
    """Serves what the probe says is TLS."""

    protocol = "tls"
    log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        rules: Rules,
        learned: Learned,
        probe: Probe,
        router: Router,
        client_context: ServerContext,
        proxy_context: ServerContext,
        credentials: Credentials,
        origins: Origins,
        wall_clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.rules = rules
        self.learned = learned
        self.probe = probe
        self.router = router
        self.client_context = client_context
        self.proxy_context = proxy_context
        self.credentials = credentials
        self.origins = origins
        self.wall_clock = wall_clock

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """
        Read the hello (L{sslintercept.interfaces.IAcceptor}).

        @raise InterceptError: there are too many layers of TLS already.
        """
        if facts.depth >= self.settings.client_tls.max_layers:
            raise PolicyError(
                f"TLS layer {facts.depth + 1} was refused",
                where=f"client {facts.client}",
                remedy="see [client-tls] max_layers",
            )
        if facts.scope is not None and facts.scope.secure:
            # TLS right inside of TLS, without a tunnel between: two layers towards the origin would have to match it.
            self.probe.acceptors["unknown"].accept(vc, facts, peeked)
            return
        session = TlsAccept(self, vc, facts)
        vc.attach(session)
        session.begin(peeked)


@implementer(IProtocol, IHalfCloseableProtocol)
class TlsAccept:
    """The session of a client connection from the first byte of a hello to the end of the handshake."""

    takes_views = True

    def __init__(self, acceptor: TlsAcceptor, vc: NetVConnection, facts: Facts) -> None:
        self._a = acceptor
        self._vc = vc
        self._facts = facts
        self._reader: HelloReader | None = HelloReader()
        self._raw = bytearray()
        self._profile: SslProfile | None = None
        self._over = False
        self._accepted = False
        """the client has used the layer, so our certificate is good enough"""
        self._name = ""

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing before L{begin}."""

    def connectionMade(self) -> None:
        """Nothing before L{begin}."""

    # the hello

    def begin(self, peeked: bytes) -> None:
        """Read the hello; its beginning is C{peeked}."""
        vc = self._vc
        vc.deadline = vc.handler.now + self._a.settings.http.tls_timeout
        vc.timed_out = self._timed_out
        vc.resumeProducing()
        self.dataReceived(peeked)

    def dataReceived(self, data: Bytes) -> None:
        self._raw += data
        if self._reader is None:
            if len(self._raw) > WAITING:
                self._vc.pauseProducing()
            return
        try:
            hello = self._reader.feed(bytes(data))
        except HelloError as error:
            self._reader = None
            self._no_hello(error)
            return
        if hello is not None:
            self._reader = None
            self._run(self._decide(hello))

    def _no_hello(self, error: HelloError) -> None:
        """What looked like TLS is none: by policy, and the end on our own port or where it has to be TLS."""
        facts, scope = self._facts, self._facts.scope
        if (
            scope is not None
            and self._a.settings.probe.unknown == "tunnel"
            and scope.decision.action is not Action.WARN
            and not (scope.bare or scope.carries)
        ):
            facts.step("note", error.what)
            self._run(self._tunnel(scope.decision))
            return
        facts.error = error
        self._vc.close()

    def _run(self, work: object) -> None:
        deferred: Deferred[None] = Deferred.fromCoroutine(work)  # type: ignore[arg-type]  # coroutines of this class

        def failed(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, InterceptError):
                self._a.log.failure("a TLS session could not be set up", failure=failure)
            if self._facts.error is None and isinstance(error, Exception):
                self._facts.error = error
            self._facts.step("dropped", error.what if isinstance(error, InterceptError) else "internal error")
            self._over = True
            self._vc.close()

        deferred.addErrback(failed)

    # the decision

    async def _decide(self, hello: ClientHello) -> None:
        a, facts = self._a, self._facts
        # From here on the client waits for us, and for the origin, which has timers of its own.
        self._vc.deadline = NEVER
        facts.client_hello = hello
        facts.server_name = hello.server_name
        facts.step("hello_received", hello.server_name or "")
        if facts.scope is None:
            self._to_us(hello)
            return
        scope = self._scope(hello)
        decision = scope.decision
        if decision.action not in REFUSING and a.settings.client_tls.learn:
            bypass = a.learned.bypass(facts.client.host, scope.name, a.wall_clock())
            if bypass is not None:
                facts.step("learned_bypass", bypass.reason)
                decision = bypass
        alpn = self._alpn(hello)
        if alpn is None and scope.carries:
            alpn = ()  # whatever else the client could speak, this is what both have agreed on
        if decision.action is Action.INTERCEPT and alpn is None:
            decision = Decision(
                Action.TUNNEL if a.settings.probe.unknown == "tunnel" else Action.BLOCK,
                decision.rule,
                "the client speaks none of the protocols that have a session here",
            )
        scope.decision = facts.decision = decision
        if decision.action is Action.TUNNEL:
            await self._tunnel(decision)
            return
        if alpn is None:
            raise PolicyError(decision.reason, where=f"TLS with {scope.name}", remedy="see [probe] unknown")
        if decision.action is Action.BLOCK:
            if (server := self._vc.pick_up()) is not None:
                facts.step("slot_dropped")
                server.close()
            self._with_client(scope, hello, None, alpn)
            return
        await self._intercept(scope, hello, alpn)

    def _scope(self, hello: ClientHello) -> Scope:
        """The scope of what is inside this TLS; the rules decide again if a name was missing before."""
        facts = self._facts
        outer = facts.scope
        assert outer is not None
        destination = outer.destination
        decision, decided = outer.decision, outer.decided
        if not destination.host:
            # A listener whose clients are sent where their hello says.
            if hello.server_name is None:
                raise HelloError("no server name", where="TLS client", remedy="[listen:...] target = sni needs one")
            destination, decided = Address(hello.server_name, destination.port), False
        facts.destination = destination
        if not decided:
            decision = self._a.rules.decide(facts, final=True) or decision
            facts.step("decided", f"{decision.action.value} by rule {decision.rule}")
        scope = Scope(destination, decision)
        scope.outer, scope.asked, scope.login = outer.outer, outer.asked, outer.login
        scope.carries, scope.entrance = outer.carries, outer.entrance
        scope.begun, scope.resume, scope.transfer = outer.carries is not None, outer.resume, outer.transfer
        scope.name = hello.server_name or (outer.name if outer.destination == destination else destination.host)
        scope.hello = hello
        scope.secure = True
        facts.scope = scope
        self._name = scope.name
        return scope

    @staticmethod
    def _alpn(hello: ClientHello) -> tuple[bytes, ...] | None:
        """What may be agreed on: HTTP/1.1 or what is not HTTP; C{None} if the client offers later versions only."""
        if not hello.alpn:
            return ()
        if HTTP_1_1 in hello.alpn:
            return (HTTP_1_1,)
        return tuple(name for name in hello.alpn if name not in LATER_HTTP) or None

    async def _tunnel(self, decision: Decision) -> None:
        """Pass the client's bytes on as they are, from the first one."""
        facts, vc = self._facts, self._vc
        scope = facts.scope
        assert scope is not None
        server, early = await self._server(scope)
        if self._gone(server):
            return
        self._over = True
        facts.upstream = server.peer
        facts.path.append("tunnel")
        facts.step("replayed", f"{len(self._raw)} bytes")
        facts.step("blind_tunnel", decision.reason)
        tunnel = BlindTunnel(
            vc,
            server,
            idle_timeout=self._a.settings.tunnel.idle_timeout,
            done=lambda: facts.step("tunnel_ended"),
        )
        tunnel.start(bytes(self._raw), early)

    async def _server(self, scope: Scope) -> tuple[NetVConnection, bytes]:
        """The server connection that hangs here, or a new one; and what its peer said already."""
        hanging = hung(self._vc)
        server = self._vc.pick_up()
        if server is not None and hanging is not None:
            self._facts.step("note", "the hung connection was taken out of its slot")
            return server, hanging.take()
        return await self._a.router.lead(self._facts, scope), b""

    def _gone(self, server: NetVConnection | None) -> bool:
        """Whether the client went away while we waited."""
        if self._over or self._vc.closing or self._vc.ended_by_peer:
            if server is not None:
                server.close()
            self._vc.close()
            return True
        return False

    # the origin first, or the client first

    async def _intercept(self, scope: Scope, hello: ClientHello, alpn: tuple[bytes, ...]) -> None:
        a, facts = self._a, self._facts
        order = a.settings.upstream_tls.handshake_order
        seen = a.origins.recall(scope.destination, scope.name, a.wall_clock()) if order == "adaptive" else None
        if seen is not None and seen.fault is not None:
            seen = None
        # Only who says that it speaks HTTP is known to speak first; for any other the server must be heard.
        # Where a page comes first, the origin is not asked for anything before it was read.
        if scope.decision.action is Action.WARN:
            order = "client-first"
        if order == "client-first" or (seen is not None and alpn == (HTTP_1_1,)):
            self._with_client(scope, hello, seen, alpn)
            return
        try:
            server, early = await self._server(scope)
        except UpstreamError as error:
            scope.failure = error
            self._with_client(scope, hello, None, alpn)
            return
        if self._gone(server):
            return
        if early:
            # An origin that greets in the clear speaks no TLS.
            server.close()
            scope.failure = UpstreamError(
                "the origin spoke before the handshake", where=str(scope.destination), remedy="it is no TLS server"
            )
            self._with_client(scope, hello, None, alpn)
            return
        # While the origin shakes hands it goes when the client does.
        self._vc.hang(server)
        hanging = Hanging(server)
        hanging.waits = scope.carries is not None
        waiting: Deferred[Secured | None] = Deferred()
        handshake = a.router.tls.push(
            server,
            scope.name,
            alpn,
            hello,
            lambda secured, error: self._looked(scope, waiting, secured, error),
            scope.resume(),
        )
        facts.upstream = server.peer
        facts.step("server_first")
        if facts.sequence is not None:
            handshake.profile.progress = facts.step
        handshake.begin()
        secured = await waiting
        if self._gone(None):
            return
        if secured is None:
            refused = isinstance(scope.failure, CertificateError)
            facts.step("certificate_refused" if refused else "upstream_handshake_failed", scope.name)
            self._with_client(scope, hello, None, alpn)
            return
        facts.upstream_tls = secured.leg
        facts.step("upstream_handshake", secured.leg.version)
        hanging.secured = secured
        verified = secured.verified
        seen = Seen(verified.names, verified.not_after, secured.leg.alpn, verified.fault)
        a.origins.note(scope.destination, scope.name, seen, a.wall_clock())
        if secured.leg.alpn:
            alpn = (secured.leg.alpn.encode("latin-1"),)
        elif alpn != (HTTP_1_1,):
            # The origin ignores ALPN, and so do we; HTTP both speak anyway.
            alpn = ()
        facts.step("certificate_copied")
        self._with_client(scope, hello, seen, alpn)

    @staticmethod
    def _looked(
        scope: Scope, waiting: Deferred[Secured | None], secured: Secured | None, error: InterceptError | None
    ) -> None:
        scope.failure = error
        waiting.callback(secured)

    # the client's layer

    def _to_us(self, hello: ClientHello) -> None:
        """TLS with the proxy itself (secure proxy)."""
        a = self._a
        credential = a.credentials.own(hello.server_name, hello, a.wall_clock())
        alpn = (HTTP_1_1,) if HTTP_1_1 in hello.alpn else ()
        self._push(a.proxy_context, credential, alpn)

    def _with_client(self, scope: Scope, hello: ClientHello, seen: Seen | None, alpn: tuple[bytes, ...]) -> None:
        """Answer the client's hello with a leaf for the name it asked for."""
        a = self._a
        credential = a.credentials.forge(scope.name, seen, hello, a.wall_clock())
        self._push(a.client_context, credential, alpn)

    def _push(self, context: ServerContext, credential: Credential, alpn: tuple[bytes, ...]) -> None:
        vc = self._vc
        vc.deadline = vc.handler.now + self._a.settings.http.tls_timeout
        raw = bytes(self._raw)
        self._raw.clear()
        self._profile = profile = vc.push_ssl(
            lambda chain, lower: SslProfile(
                chain,
                lower,
                lambda level: context.engine(credential, alpn, level),
                server=True,
                done=self._handshaken,
                broke=self._broke,
            )
        )
        self._facts.step("client_profile_attached")
        vc.resumeProducing()
        assert profile.lower is not None
        profile.lower.deliver(raw)

    def _handshaken(self, profile: SslProfile) -> None:
        vc, facts = self._vc, self._facts
        assert profile.leg is not None
        hello = facts.client_hello
        profile.leg = leg = profile.leg._replace(
            server_name=(hello.server_name or "") if isinstance(hello, ClientHello) else ""
        )
        facts.client_tls = leg
        facts.layers.append(leg)
        facts.depth += 1
        facts.path.append(profile.label)
        facts.step("client_handshake", leg.version)
        if facts.scope is None:
            # That hello was for us; the one that names an origin may still come.
            facts.server_name = facts.client_hello = UNKNOWN
        vc.deadline = NEVER
        self._over = True
        done = vc.handler.now
        self._a.probe.accept(vc, facts)
        # Until the first byte or the end we look on: which of them it is says what the client thinks of our
        # certificate.
        deliver, ended = profile.deliver, profile.ended

        def spoke(data: Bytes) -> None:
            self._accepted = True
            profile.ended = ended
            vc.read_to(deliver)
            if self._name:
                self._a.learned.accepted(facts.client.host, self._name)
            if facts.sequence is not None:
                facts.step("tls_request_received")
                facts.step("request_decrypted")
                facts.step("request_returned")
            deliver(data)

        def left(clean: bool) -> None:
            if self._name and not self._greeted() and vc.handler.now - done <= AT_ONCE:
                self._rejected("closed right after the handshake")
            ended(clean)

        if profile is vc.top and not vc.closing:
            profile.ended = left
            vc.read_to(spoke)
        profile.release()

    def _greeted(self) -> bool:
        """Whether it is the server that speaks first, so that the client's silence means nothing."""
        scope = self._facts.scope
        return scope is not None and greets_first(scope.destination.port, secure=True)

    def _broke(self, error: TlsError) -> None:
        """The client's layer failed."""
        facts = self._facts
        told = of_client(error, facts.client)
        if facts.error is None:
            facts.error = told
        if not self._over:
            facts.step("client_handshake_failed", error.what)
        if self._name and not self._accepted:
            if error.sent_by_peer and error.alert in REJECTIONS:
                self._rejected(REJECTIONS[error.alert])
            elif not self._over and error.alert is None and not error.sent_by_peer and self._vc.tcp.fin_received:
                self._rejected("closed during the handshake")
        self._over = True
        self._vc.tls_broke(told)

    def _rejected(self, why: str) -> None:
        a, facts = self._a, self._facts
        crossed = a.learned.rejected(facts.client.host, self._name, why, a.wall_clock())
        facts.step("learned_rejection", why)
        if crossed:
            a.log.info(
                "{client} keeps rejecting the certificate for {name} ({why}); learn = {learn}",
                client=facts.client.host,
                name=self._name,
                why=why,
                learn="on" if a.settings.client_tls.learn else "off",
            )

    # events

    def _timed_out(self, kind: str) -> None:
        self._facts.error = TimedOut(
            "the TLS handshake was not complete in time",
            where=f"client {self._facts.client}",
            remedy="see [http] tls_timeout",
        )
        self._over = True
        self._vc.close(faithful=False)

    def readConnectionLost(self) -> None:
        self._over = True
        if self._facts.error is None:
            where = f"TLS with client {self._facts.client}"
            self._facts.error = ClientTlsError("it closed in the middle of its hello", where=where)
        self._vc.close()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        if not self._over and self._profile is not None and self._name:
            self._rejected("reset during the handshake")
        self._over = True
        if self._facts.error is None and self._vc.error is not None:
            self._facts.error = self._vc.error
