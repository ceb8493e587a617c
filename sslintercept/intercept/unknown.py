"""
What nobody recognises, inside a tunnel: relayed as it is, or refused, by C{[probe] unknown}.

Where TLS was opened around it, the other side gets TLS again. Where the rules require TLS and there is none, it is
refused: nobody knows what is said in it.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.config.schema import Settings
from sslintercept.errors import InterceptError, PolicyError
from sslintercept.facts import REFUSING, Action, Facts, Scope
from sslintercept.net.route import Router
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.entrance import Blocked
from sslintercept.probe.reach import Waiting, reach
from sslintercept.tunnel.blind import BlindTunnel


class UnknownAcceptor:
    """Serves verdicts without a session of their own, inside tunnels."""

    protocol = "unknown"
    log = Logger()

    def __init__(self, settings: Settings, router: Router) -> None:
        self._settings = settings
        self._router = router

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """
        Relay (L{sslintercept.interfaces.IAcceptor}).

        @raise InterceptError: the policy says no, a rule blocks or requires TLS, or nobody knows the destination.
        """
        scope = facts.scope
        verdict = facts.verdicts[-1] if facts.verdicts else None
        what = verdict.reason if verdict is not None else "unknown"
        if scope is None:
            where = f"listener {facts.listener}"
            raise PolicyError(f"nobody said where this leads ({what})", where=where, remedy="use CONNECT or SOCKS")
        if scope.decision.action in REFUSING:
            raise Blocked(scope.decision, scope.destination)
        if scope.bare:
            remedy = f"rule {scope.decision.rule} requires TLS"
            raise PolicyError(f"not relayed in the clear ({what})", where=str(scope.destination), remedy=remedy)
        if self._settings.probe.unknown != "tunnel" and scope.decision.action is not Action.TUNNEL:
            raise PolicyError(f"not relayed ({what})", where=str(scope.destination), remedy="see [probe] unknown")
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
        reached = await reach(vc, facts, scope, self._router)
        facts.path.append("tunnel")
        facts.step("blind_tunnel", str(facts.protocol))
        BlindTunnel(
            vc, reached.server, idle_timeout=self._settings.tunnel.idle_timeout, done=lambda: facts.step("tunnel_ended")
        ).start(bytes(session.held), reached.early)
