"""
What nobody recognises, inside a tunnel: relayed as it is, or refused, by C{[probe] unknown}.

Where TLS was opened around it, the other side gets TLS again.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.config.schema import Settings
from sslintercept.errors import InterceptError, UpstreamError
from sslintercept.facts import Action, Facts, Scope
from sslintercept.net.connector import Connector
from sslintercept.net.upstream import Secured, UpstreamTls
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import Hanging, hung
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.blind import BlindTunnel


class UnknownAcceptor:
    """Serves verdicts without a session of their own, inside tunnels."""

    protocol = "unknown"
    log = Logger()

    def __init__(self, settings: Settings, *, connector: Connector, upstream: UpstreamTls) -> None:
        self._settings = settings
        self._connector = connector
        self._upstream = upstream

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """
        Relay (L{sslintercept.interfaces.IAcceptor}).

        @raise InterceptError: the policy says no, or a rule blocks, or nobody knows the destination.
        """
        scope = facts.scope
        verdict = facts.verdicts[-1] if facts.verdicts else None
        what = verdict.reason if verdict is not None else "unknown"
        if scope is None or scope.decision.action is Action.BLOCK:
            raise InterceptError(f"blocked ({what})", where="tunnel", remedy="see the rules")
        if self._settings.probe.unknown != "tunnel" and scope.decision.action is not Action.TUNNEL:
            raise InterceptError(f"not relayed ({what})", where="tunnel", remedy="see [probe] unknown")
        vc.pauseProducing()
        session = Waiting(vc, peeked)
        deferred = Deferred.fromCoroutine(self._relay(vc, facts, scope, session))

        def failed(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, InterceptError):
                self.log.failure("a relay could not be set up", failure=failure)
            if facts.error is None and not vc.closing and isinstance(error, Exception):
                facts.error = error
            vc.close()

        deferred.addErrback(failed)

    async def _relay(self, vc: NetVConnection, facts: Facts, scope: Scope, session: Waiting) -> None:
        if scope.failure is not None:
            raise scope.failure
        hanging = hung(vc)
        server = vc.pick_up()
        early = b""
        secured = None
        if server is not None and hanging is not None:
            facts.step("picked_up")
            early = hanging.take()
            secured = hanging.secured
        else:
            server = await self._connector.connect(scope.destination)
            facts.step("session_opened")
        facts.upstream = server.peer
        if scope.secure and secured is None:
            if early:
                server.close()
                raise UpstreamError(
                    "the origin spoke before the handshake", where=str(scope.destination), remedy="it is no TLS server"
                )
            # While the origin shakes hands it goes when the client does.
            vc.hang(server)
            secured = await self._secure(server, facts, scope)
            facts.upstream_tls = secured.leg
            server = vc.pick_up()
        if server is None:
            return
        if vc.closing:
            server.close()
            return
        facts.path.append("tunnel")
        facts.step("blind_tunnel", str(facts.protocol))
        BlindTunnel(
            vc, server, idle_timeout=self._settings.tunnel.idle_timeout, done=lambda: facts.step("tunnel_ended")
        ).start(bytes(session.held), early)

    async def _secure(self, server: NetVConnection, facts: Facts, scope: Scope) -> Secured:
        """
        TLS towards the origin.

        @raise InterceptError: there is none, or the client has gone meanwhile.
        """
        waiting: Deferred[Secured] = Deferred()

        def done(secured: Secured | None, error: InterceptError | None) -> None:
            if waiting.called:
                return
            if secured is not None:
                waiting.callback(secured)
            else:
                waiting.errback(error or InterceptError("no TLS", where=str(scope.destination), remedy="try again"))

        hanging = Hanging(server)
        hanging.lost = lambda error: done(
            None, InterceptError("the origin closed the connection", where=str(scope.destination), remedy="try again")
        )
        leg = facts.client_tls
        alpn = (leg.alpn.encode("latin-1"),) if leg is not None and leg.alpn else ()
        handshake = self._upstream.push(server, scope.name, alpn, scope.hello, done)
        facts.step("server_first")
        handshake.begin()
        return await waiting


@implementer(IProtocol, IHalfCloseableProtocol)
class Waiting:
    """Holds what a client says while the way to the origin is made; it is not read meanwhile."""

    takes_views = True

    def __init__(self, vc: NetVConnection, peeked: bytes) -> None:
        self.held = bytearray(peeked)
        self._vc = vc
        vc.attach(self)

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self.held += data

    def readConnectionLost(self) -> None:
        """The tunnel will pass it on."""

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        """The relay notices by itself."""
