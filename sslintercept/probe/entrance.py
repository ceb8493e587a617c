"""
Where a client names its destination (CONNECT, SOCKS): decide, reach it, hang it on the client's connection, and probe
again (deck: steps 3 to 12).

Whoever read the client's request calls L{Entrance.reach}, answers the client in its protocol, and calls
L{Entrance.enter}. A request that came through a tunnel to another proxy is asked of that proxy: the way leads through
it, as the client wanted. Where the tunnel leads to something that is no proxy, the request was meant for us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sslintercept.errors import BlockedError
from sslintercept.facts import UNKNOWN, Action, Address, Decision, Facts, Scope
from sslintercept.net.parent import NoProxy
from sslintercept.net.route import Router
from sslintercept.net.upstream import Secured
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import Hanging, Probe
from sslintercept.probe.reach import reach
from sslintercept.rule.decide import Rules
from sslintercept.tunnel.blind import BlindTunnel


class Blocked(BlockedError):
    """A rule blocks the destination."""

    def __init__(self, decision: Decision, destination: Address) -> None:
        super().__init__(
            f"rule {decision.rule} blocks: {decision.reason}", where=str(destination), remedy="see the rules"
        )
        self.decision = decision


class Entered(NamedTuple):
    """A destination that is reached, or will be."""

    scope: Scope
    server: NetVConnection | None
    """the way to it; C{None} where an idle verified connection proves that it can be reached, or a page comes first"""


class Entrance:
    """
    @param default: the decision where no rule has one.
    @param idle_timeout: seconds a blind tunnel may carry nothing.
    @param ready: whether a destination need not be opened before the client is answered; asked only when the rules
        said "intercept" already.
    """

    def __init__(
        self,
        *,
        rules: Rules,
        router: Router,
        probe: Probe,
        default: Decision,
        idle_timeout: float,
        ready: Callable[[Facts, Address], bool] = lambda facts, destination: False,
    ) -> None:
        self.recognise: Callable[[Facts, Scope], object] = lambda facts, scope: None
        """told every destination: it may be known what goes there (data connections)"""
        self._rules = rules
        self._router = router
        self._probe = probe
        self._default = default
        self._idle_timeout = idle_timeout
        self._ready = ready

    def decide(self, facts: Facts, destination: Address) -> Scope:
        """
        Ask the rules.

        @raise Blocked: one says so, or warns of the tunnel that this is said in: what is inside of it is no page.
        """
        if facts.scope is not None and facts.scope.decision.action is Action.WARN:
            raise Blocked(facts.scope.decision, facts.scope.destination)
        facts.destination = destination
        # What is inside is another layer: nothing is known of it yet.
        facts.server_name = facts.client_hello = facts.protocol = UNKNOWN
        decision = self._rules.decide(facts)
        facts.decision = decision or self._default
        if decision is not None:
            facts.step("decided", f"{decision.action.value} by rule {decision.rule}")
            if decision.action is Action.BLOCK:
                raise Blocked(decision, destination)
        scope = Scope(destination, facts.decision)
        scope.decided = decision is not None
        scope.entrance = True
        self.recognise(facts, scope)
        return scope

    async def reach(
        self, vc: NetVConnection, facts: Facts, destination: Address, proxy: str = "http", login: bytes = b""
    ) -> Entered:
        """
        Decide about C{destination} and open the way to it.

        @param proxy: how the proxy of an outer tunnel, if there is one, is asked: C{http} or C{socks5}.
        @param login: what the client says to that one to be let in.
        @raise Blocked: a rule says so.
        @raise UpstreamError: it cannot be reached.
        """
        outer = facts.scope
        scope = self.decide(facts, destination)
        if outer is None and scope.decision.action is Action.INTERCEPT and self._ready(facts, destination):
            return Entered(scope, None)
        if outer is None and scope.decision.action is Action.WARN:
            return Entered(scope, None)  # nobody is reached before the user has read the page
        server = None
        if outer is not None:
            scope.asked, scope.login = proxy, login
            server = await self._through(vc, facts, scope, outer)
        if server is None:
            addresses = await self._router.addresses(facts, destination)
            facts.step("connect_resolved")
            facts.step("tcp_opened")
            server = await self._router.connect(facts, destination, addresses or None)
        facts.step("established")
        facts.upstream = server.peer
        facts.step("attached")
        return Entered(scope, server)

    async def _through(self, vc: NetVConnection, facts: Facts, scope: Scope, outer: Scope) -> NetVConnection | None:
        """
        The way through the proxy that the outer tunnel leads to, to whom the request was said; C{None} if what is there
        is no proxy, so that it can only have been said to us.
        """
        destination = facts.destination
        reached = await reach(vc, facts, outer, self._router)
        facts.destination = destination
        server = reached.server
        if reached.early:
            server.close()
            return None
        scope.outer = outer
        try:
            await self._router.through(server, scope)
        except NoProxy as error:
            facts.step("note", error.what)
            scope.outer = None
            return None
        return server

    def enter(self, vc: NetVConnection, facts: Facts, entered: Entered, peeked: bytes) -> None:
        """
        The client has been answered: go on with what it says inside.

        @param peeked: what it said already.
        """
        scope, server = entered
        facts.scope = scope
        outer = vc.pick_up()
        if outer is not None:
            # It leads to where the tunnel around this one goes.
            facts.step("slot_dropped")
            outer.close()
        if server is not None and scope.decided and scope.decision.action is Action.TUNNEL:
            facts.path.append("tunnel")
            facts.step("blind_tunnel", f"rule {scope.decision.rule}")
            BlindTunnel(vc, server, idle_timeout=self._idle_timeout, done=lambda: facts.step("tunnel_ended")).start(
                from_client=peeked
            )
            return
        if server is not None:
            hang(vc, server, facts).waits = scope.carries is not None
        self._probe.accept(vc, facts, peeked)


def hang(vc: NetVConnection, server: NetVConnection, facts: Facts, secured: Secured | None = None) -> Hanging:
    """Let C{server} hang on the client's connection C{vc} until a session picks it up."""
    vc.hang(server)
    hanging = Hanging(server)
    hanging.secured = secured
    hanging.lost = lambda error: None if vc.closing else facts.step("slot_cleared")
    facts.step("hung")
    return hanging
