"""
DTLS that is opened: the client proves its address, the origin is looked at, a leaf is forged, datagrams are relayed.

The first hello is answered with a cookie and forgotten. The one that brings it back starts a handshake with the origin;
only when the origin's certificate is accepted is the client answered, with a leaf that says what the origin's says and
with the protocol that the origin chose. A hello that is said again meanwhile is dropped: the answer is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sslintercept.datagram.hello import Cookies, Hello, fatal, hello_verify
from sslintercept.errors import CertificateError, InterceptError, TimedOut, TlsError, UpstreamError
from sslintercept.facts import ClientHello
from sslintercept.net.upstream import Judge, UpstreamTlsError
from sslintercept.net.vconnection import NEVER
from sslintercept.profile.dtls import DtlsProfile
from sslintercept.profile.profile import ignore
from sslintercept.tls.dtls import DtlsServerContext, DtlsUpstreamContext
from sslintercept.tls.engine import Credential, of_client
from sslintercept.tls.seen import Seen

if TYPE_CHECKING:
    from sslintercept.datagram.session import Session
    from sslintercept.net.handler import NetHandler
    from sslintercept.profile.chain import ProfileChain
    from sslintercept.profile.profile import Profile

HANDSHAKE_FAILURE, BAD_CERTIFICATE, INTERNAL_ERROR = 40, 42, 80
"""alerts (RFC 5246 7.2)"""
TIMEOUT = 15.0
"""seconds for both handshakes together: time to lose three datagrams"""


class Forger(Protocol):
    """Who forges leaves (L{sslintercept.intercept.leaves.Leaves})."""

    def forge(self, name: str, seen: Seen | None, hello: ClientHello, now: float) -> Credential: ...


class DtlsInterceptor:
    """
    Opens what the rules want opened (L{sslintercept.datagram.session.Opener}).

    @param judge: says whether an origin is genuine (L{sslintercept.tls.verify.Verifier}).
    @param require: refuse an origin whose certificate is not accepted; else only report it.
    @param timeout: seconds for the handshakes.
    """

    def __init__(
        self,
        handler: NetHandler,
        *,
        client_context: DtlsServerContext,
        upstream_context: DtlsUpstreamContext,
        judge: Judge,
        credentials: Forger,
        cookies: Cookies,
        wall_clock: Callable[[], float],
        require: bool = True,
        timeout: float = TIMEOUT,
    ) -> None:
        self.handler = handler
        self.client_context = client_context
        self.upstream_context = upstream_context
        self.judge = judge
        self.credentials = credentials
        self.cookies = cookies
        self.wall_clock = wall_clock
        self.require = require
        self.timeout = timeout

    def accept(self, session: Session, hello: Hello) -> None:
        """Ask for the proof, or go on with it."""
        flow, now = session.flow, self.wall_clock()
        if self.cookies.good(hello.cookie, flow.peer, now):
            Interception(self, session, hello).begin()
            return
        before = flow.udp.sent
        flow.write(hello_verify(self.cookies.bake(flow.peer, now), hello.number))
        flow.own += flow.udp.sent - before


class Interception:
    """One client flow that is opened, from the proof of its address to its end."""

    def __init__(self, interceptor: DtlsInterceptor, session: Session, hello: Hello) -> None:
        self._i = interceptor
        self._session = session
        self._flow = session.flow
        self._facts = session.facts
        self._hello = hello
        self._name = hello.client_hello.server_name or session.destination.host
        self._answered = False
        """the client has been sent a layer of DTLS, so that what is wrong is said there"""

    def begin(self) -> None:
        """The address is proven; look at the origin first."""
        flow = self._flow
        flow.udp.proven = True
        flow.read_to(ignore)
        flow.deadline = self._i.handler.now + self._i.timeout
        flow.timed_out = self._too_slow
        self._session.run(self._connect())

    async def _connect(self) -> None:
        i, session = self._i, self._session
        try:
            upstream = await session.datagrams.upstream(session.facts, session.destination)
        except UpstreamError as error:
            self._refuse(error, INTERNAL_ERROR)
            return
        session.adopt(upstream)
        self._facts.step("server_first")

        def make(chain: ProfileChain, lower: Profile) -> DtlsProfile:
            return DtlsProfile(
                chain,
                lower,
                lambda: i.upstream_context.engine(self._name, self._hello.client_hello.alpn),
                server=False,
                later=i.handler.later,
                done=self._look,
                broke=self._upstream_broke,
            )

        profile = upstream.push(make)
        assert isinstance(profile, DtlsProfile)
        profile.ended = lambda clean: self._flow.close("upstream")
        profile.begin()

    def _look(self, upstream: DtlsProfile) -> None:
        """The handshake with the origin is complete; is it the origin?"""
        i, facts, name = self._i, self._facts, self._name
        verified = i.judge.verify(upstream.engine.peer_chain(), name, i.wall_clock())
        assert upstream.leg is not None
        upstream.leg = leg = upstream.leg._replace(server_name=name, verified=verified.fault or "ok")
        facts.upstream_tls = leg
        if verified.fault is not None and i.require:
            facts.step("certificate_refused", name)
            error = CertificateError(
                verified.detail,
                where=f"certificate of {name}",
                remedy="the origin was not asked for anything",
                fault=verified.fault,
            )
            self._refuse(error, BAD_CERTIFICATE)
            return
        facts.step("upstream_handshake", leg.version)
        seen = Seen(verified.names, verified.not_after, leg.alpn, verified.fault)
        self._answer(upstream, seen, (leg.alpn.encode("latin-1"),) if leg.alpn else ())

    def _answer(self, upstream: DtlsProfile, seen: Seen, alpn: tuple[bytes, ...]) -> None:
        """Shake hands with the client in the origin's name, and join the two."""
        i, flow = self._i, self._flow
        credential = i.credentials.forge(self._name, seen, self._hello.client_hello, i.wall_clock())

        def make(chain: ProfileChain, lower: Profile) -> DtlsProfile:
            return DtlsProfile(
                chain,
                lower,
                lambda: i.client_context.engine(credential, alpn, self._hello.cookie),
                server=True,
                later=i.handler.later,
                done=self._open,
                broke=self._client_broke,
            )

        self._answered = True
        profile = flow.push(make, self._hello.record)
        if flow.why:
            return  # the two have nothing in common
        profile.ended = lambda clean: flow.close("client")
        origin = self._session.upstream
        assert origin is not None
        flow.read_to(origin.hold())
        origin.read_to(flow.hold())
        upstream.release()

    def _open(self, client: DtlsProfile) -> None:
        """The client likes the leaf."""
        facts = self._facts
        assert client.leg is not None
        facts.client_tls = client.leg._replace(server_name=self._hello.client_hello.server_name or "")
        facts.depth += 1
        facts.path.append(client.label)
        self._flow.deadline = NEVER
        client.release()

    # what goes wrong

    def _refuse(self, error: InterceptError, alert: int) -> None:
        """Tell a client that nothing was said to yet; its next try is another flow."""
        self._facts.error = error
        self._flow.write(fatal(alert, self._hello.number))
        self._flow.close("refused")

    def _upstream_broke(self, error: TlsError) -> None:
        refused = UpstreamTlsError(
            error.what,
            where=f"DTLS with {self._name}",
            remedy="the origin refuses, or speaks no DTLS that is accepted",
        )
        if self._answered:
            self._facts.error = refused
            self._flow.close("upstream", faithful=False)
            return
        self._facts.step("upstream_handshake_failed", self._name)
        self._refuse(refused, HANDSHAKE_FAILURE)

    def _client_broke(self, error: TlsError) -> None:
        self._facts.error = of_client(error, self._facts.client)
        self._flow.close("client", faithful=False)

    def _too_slow(self) -> None:
        what = "the client" if self._answered else "the origin"
        error = TimedOut(
            f"the handshake with {what} was not complete in time", where=f"DTLS with {self._name}", remedy="try again"
        )
        if self._answered:
            self._facts.error = error
            self._flow.close("deadline", faithful=False)
        else:
            self._refuse(error, INTERNAL_ERROR)
