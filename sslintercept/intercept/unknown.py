"""
What nobody recognises, inside a tunnel: relayed as it is, or refused, by C{[probe] unknown}.

Where TLS was opened around it, the other side gets TLS again.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.config.schema import Settings
from sslintercept.errors import InterceptError
from sslintercept.facts import Action, Facts, Scope
from sslintercept.net.connector import Connector
from sslintercept.net.upstream import Secured, UpstreamTls
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.accept import Hanging, hung
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
        if self._settings.probe.unknown != "tunnel":
            raise InterceptError(f"not relayed ({what})", where="tunnel", remedy="see [probe] unknown")
        vc.pauseProducing()
        session = Waiting(vc, peeked)
        deferred = Deferred.fromCoroutine(self._relay(vc, facts, scope, session))

        def failed(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, InterceptError):
                self.log.failure("a relay could not be set up", failure=failure)
            facts.error = error if isinstance(error, Exception) else None
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
        if scope.secure and secured is None and not early:
            secured = await self._secure(server, facts, scope)
            facts.upstream_tls = secured.leg
        if vc.closing:
            server.close()
            return
        server.deadline = NEVER
        facts.path.append("tunnel")
        facts.step("blind_tunnel", str(facts.protocol))
        BlindTunnel(vc, server, idle_timeout=self._settings.tunnel.idle_timeout).start(bytes(session.held), early)

    async def _secure(self, server: NetVConnection, facts: Facts, scope: Scope) -> Secured:
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


class Waiting:
    """Holds a client's bytes while the way to the origin is made."""

    takes_views = True

    def __init__(self, vc: NetVConnection, peeked: bytes) -> None:
        self.held = bytearray(peeked)
        self._vc = vc
        vc.attach(self)

    def makeConnection(self, transport: object) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: bytes | memoryview) -> None:
        self.held += data

    def connectionLost(self, reason: Failure) -> None:
        """The relay notices by itself."""
