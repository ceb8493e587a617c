"""
What every transaction of one generation of settings shares: rules, the way to origins, pages, and the log.

Nothing here is on the path of a byte. A request on a kept connection costs L{HttpProxy.take_request},
L{HttpProxy.key_for}, L{HttpProxy.take_origin} and L{HttpProxy.ended}.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.config.schema import Settings
from sslintercept.errors import InterceptError, LoopError, MessageError
from sslintercept.facts import REFUSING, Action, Address, Decision, Facts, RequestHead, ResponseHead, TlsLeg
from sslintercept.http.answer import Answering, TransactionLog
from sslintercept.http.cache import HttpCache
from sslintercept.http.connect import kept_ready, open_tunnel
from sslintercept.http.consent import Consents, is_ours, take
from sslintercept.http.head import loops
from sslintercept.http.origin import OriginSession, Transaction
from sslintercept.http.pool import OriginKey, Pool
from sslintercept.http.room import WaitingRoom, for_us
from sslintercept.http.session import HttpSession
from sslintercept.http.sm import HttpSM, same_origin
from sslintercept.http.template import Pages
from sslintercept.net.challenge import OF_A_CONNECTION
from sslintercept.net.route import Router
from sslintercept.net.upstream import Secured
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.accept import Probe, hung
from sslintercept.probe.entrance import Entrance
from sslintercept.rule.category import url_of
from sslintercept.rule.decide import Rules
from sslintercept.tls.context import floor
from sslintercept.tls.seen import Origins, Seen
from sslintercept.tls.verify import Verified, covers
from sslintercept.transform.processor import TransformProcessor

HTTP_1_1 = (b"http/1.1",)
_LOGIN = re.compile(rb"\nauthorization:[ \t]*(?:negotiate|ntlm)")
"""schemes that log the connection in, not the request (RFC 4559), in a head of lower case"""


class Forwarding(Transaction, Protocol):
    """Whose request goes to an origin."""

    origin: OriginSession | None

    @property
    def over(self) -> bool: ...
    @property
    def facts(self) -> Facts: ...
    def send(self, origin: OriginSession) -> None: ...


class HttpProxy(Answering):
    """
    @ivar via: our pseudonym in Via, or C{None}.
    @ivar draining: the process is stopping; connections close after the transaction under way.
    @ivar transforms: who changes messages, if anybody does.
    @ivar cache: who keeps responses, if anybody does.
    @ivar waiting: where downloads wait for their verdicts, if any may; C{waiting_after}: seconds after which their
        clients get a page, 0 if these settings have none.
    @ivar plain: what stands for "no TLS wanted" on a connection that is handed on as it is.
    """

    log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        rules: Rules,
        router: Router,
        pool: Pool,
        origins: Origins,
        probe: Probe,
        transactions: TransactionLog,
        pages: Pages,
        consents: Consents | None,
        wall_clock: Callable[[], float],
    ) -> None:
        http = settings.http
        super().__init__("sslintercept" if http.via == "off" else http.via, pages, consents, transactions, wall_clock)
        self.settings = settings
        self.rules = rules
        self.router = router
        self.tls = router.tls
        self.pool = pool
        self.origins = origins
        self.probe = probe
        self.via = None if http.via == "off" else http.via.encode("ascii")
        self.max_header = http.max_header
        self.header_timeout = http.header_timeout
        self.keep_alive_timeout = http.keep_alive_timeout
        self.response_timeout = http.response_timeout
        self.body_idle = settings.tunnel.idle_timeout
        self.connect_ports = http.connect_ports
        self.draining = False
        self.transforms: TransformProcessor | None = None
        self.cache: HttpCache | None = None
        self.waiting: WaitingRoom | None = None
        self.waiting_after = 0.0
        self.default = Decision(Action.INTERCEPT, "default", "no rule matches")
        self.plain = Secured(TlsLeg("", "", "", "", "", False, ""), Verified(None, "", NEVER, (), "", ""))
        self.lowest = tls_floor(settings.upstream_tls.min_version)
        self.entrance = Entrance(
            rules=rules,
            router=router,
            probe=probe,
            default=self.default,
            idle_timeout=self.body_idle,
            ready=lambda facts, destination: kept_ready(self, facts, destination),
        )
        probe.settle = self._settle

    # what a request may do

    def take_request(self, sm: HttpSM) -> bool:
        """Decide about a request before anything leaves; true if it has been answered."""
        head = sm.head
        session = sm.session
        facts = session.facts
        if head.method == b"CONNECT":
            run(open_tunnel(self, sm), sm)
            return True
        if self.via is not None and loops(head, self.via):
            what, remedy = "this request has passed this proxy before", "two proxies in a row need different [http] via"
            self.refuse(sm, 508, "loop", LoopError(what, where="request", remedy=remedy), "http_loop_detected")
            return True
        if head.max_forwards == 0:
            self._answer_max_forwards(sm)
            return True
        if facts.sequence is not None:
            if not facts.depth:
                facts.step("request_received")
            facts.step("request_parsed", head.method.decode("latin-1"))
        if not session.identity and b"authorization:" in (lower := head.raw.lower()) and _LOGIN.search(lower):
            session.identity = facts.id
            session.key = None
        tokens = take(head) if self.consents is not None else ()
        scope = facts.scope
        if scope is None:
            decision = self._decide(facts, head)
        else:
            decision = scope.decision
            if isinstance(scope.failure, InterceptError):
                # The next connection of this client tries again; on this one nothing else could be said.
                sm.decision, sm.error = decision, scope.failure
                self.fail(sm, scope.failure, close=True)
                return True
            host, port = head.authority
            if head.beyond and decision.action is Action.WARN:
                # What is warned of is the proxy there: no page of the request's own host can ask about it.
                self.block(sm, decision)
                return True
            if head.beyond:
                decision = self._decide_beyond(facts, head)
            elif (host != scope.name or port != scope.destination.port) and not self._leads_to(session, head):
                sm.decision = decision
                what = f"this connection leads to {scope.name}; the request names {head.authority.host}"
                misdirected = MessageError(what, where="request", status=421)
                self.refuse(sm, 421, "misdirected", misdirected, "http_request_denied")
                return True
            if self.rules.by_url and decision.action is not Action.BLOCK:
                decision = self._decide_request(session, head, decision)
        sm.decision = decision
        if facts.sequence is not None:
            facts.step("request_considered", f"{decision.action.value} by rule {decision.rule}")
        if decision.action is Action.BLOCK:
            self.block(sm, decision)
            return True
        if self.waiting is not None and for_us(head):
            self.waiting.serve(self, sm)
            return True
        if self.consents is not None and is_ours(head.target):
            self.go_on(sm, self.consents)
            return True
        return decision.action is Action.WARN and self.asks(sm, decision, tokens)

    def _ask_rules(self, facts: Facts, head: RequestHead) -> Decision:
        """The rules' word about a request, for those that look at its URL, too."""
        if not self.rules.by_url:
            return self.rules.decide(facts, final=True) or self.default
        facts.url = url_of(head.scheme, head.authority, head.target)
        try:
            return self.rules.decide(facts, final=True) or self.default
        finally:
            facts.url = None

    def _decide_request(self, session: HttpSession, head: RequestHead, decision: Decision) -> Decision:
        """
        What the rules say of one request in a tunnel; all that is left to them is to block it, or to warn of it.

        They know nothing of it but its URL that was not known before: where no list has anything about an origin, they
        say of all its URLs the same, until a list is loaded anew.
        """
        sites = self.rules.sites
        origin = (sites.generation, head.scheme, head.authority)
        if session.unlisted == origin:
            return decision
        found = self._ask_rules(session.facts, head)
        if found.action in REFUSING:
            return found
        if sites.silent(head.scheme, *head.authority):
            session.unlisted = origin
        return decision

    def _decide(self, facts: Facts, head: RequestHead) -> Decision:
        facts.destination = head.authority
        facts.server_name = facts.client_hello = facts.upstream_tls = facts.parent = None
        decision = self._ask_rules(facts, head)
        facts.decision = decision
        return decision

    def _decide_beyond(self, facts: Facts, head: RequestHead) -> Decision:
        """The rules about what a proxy behind the tunnel is asked for: they hold there, too."""
        around, facts.destination = facts.destination, head.authority
        try:
            return self._ask_rules(facts, head)
        finally:
            facts.destination = around

    def _settle(self, facts: Facts) -> Decision | None:
        """The last word of the rules about a tunnel (L{Probe.settle})."""
        assert facts.scope is not None
        facts.destination = facts.scope.destination if facts.scope.destination.host else None
        return self.rules.decide(facts, final=True)

    def _leads_to(self, session: HttpSession, head: RequestHead) -> bool:
        """Whether the tunnel leads to where the request wants to go, although the two are not spelled alike."""
        scope = session.facts.scope
        assert scope is not None
        wanted = Address(scope.name, scope.destination.port)
        return same_origin(head.authority, wanted) or self._covered(session, head)

    def _covered(self, session: HttpSession, head: RequestHead) -> bool:
        """
        Whether the request's host differs harmlessly from the tunnel's name.

        In the clear the tunnel's destination gets what it would get without us. In TLS the verified certificate must be
        good for the name as well.
        """
        scope = session.facts.scope
        assert scope is not None
        if not scope.secure:
            return True
        if head.authority.port != scope.destination.port:
            return False
        seen = self.origins.recall(scope.destination, scope.name, self.tls.wall_clock())
        return seen is not None and seen.fault is None and covers(seen.names, head.authority.host)

    def _answer_max_forwards(self, sm: HttpSM) -> None:
        head = sm.head
        end = b"Connection: close\r\n\r\n" if sm.closes else b"\r\n"
        if head.method == b"TRACE":
            shown = b"\r\n".join(
                line
                for line in head.raw.split(b"\r\n")
                if not line.lower().startswith((b"authorization:", b"proxy-authorization:", b"cookie:"))
            )
            start = b"HTTP/1.1 200 OK\r\nContent-Type: message/http\r\nContent-Length: %d\r\n" % len(shown)
            sm.answer(200, start + end + shown, sm.closes)
            return
        methods = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, CONNECT"
        sm.answer(204, b"HTTP/1.1 204 No Content\r\nAllow: %b\r\n" % methods + end, sm.closes)

    # the way to the origin

    def key_for(self, session: HttpSession, head: RequestHead) -> OriginKey:
        """What a connection for this request must be."""
        scope = session.facts.scope
        if scope is None:
            authority = head.authority
            way, reach = self._way(session.facts, authority), self.router.reach(session.facts)
            if head.scheme == "https":
                return OriginKey(authority, True, authority.host, "http/1.1", self.lowest, session.identity, way, reach)
            return OriginKey(authority, False, identity=session.identity, way=way, reach=reach)
        key = session.key
        if key is None:
            where, way = scope.destination, scope.way or self._way(session.facts, scope.destination)
            reach = self.router.reach(session.facts)
            if scope.secure:
                lowest = max(self.lowest, floor(scope.hello))
                key = OriginKey(where, True, scope.name, "http/1.1", lowest, session.identity, way, reach)
            else:
                key = OriginKey(where, False, identity=session.identity, way=way, reach=reach)
            session.key = key
        return key

    def _way(self, facts: Facts, destination: Address) -> str:
        """The parent that leads to C{destination}; connections by different ones are not the same."""
        if self.router.choose is None:
            return ""
        parent = self.router.parent(facts, destination)
        return parent.name if parent is not None else ""

    def take_origin(self, key: OriginKey) -> OriginSession | None:
        """A kept connection, if there is one."""
        while (kept := self.pool.take(key)) is not None:
            assert isinstance(kept, OriginSession)
            if not kept.vc.closing:
                return kept
        return None

    def open_origin(self, sm: HttpSM, key: OriginKey) -> None:
        """Find a connection for C{sm}: the one that hangs on the client's, or a new one."""
        run(self._open(sm, key), sm)

    async def _open(self, sm: HttpSM, key: OriginKey) -> None:
        facts = sm.session.facts
        scope = facts.scope
        inside = scope is not None and scope.outer is not None
        addresses = () if inside else await self.router.addresses(facts, key.destination)
        if sm.over:
            return
        facts.step("resolved")
        hanging = hung(sm.session.vc)
        hung_vc = sm.session.vc.pick_up()
        if hung_vc is not None and hanging is not None:
            facts.step("picked_up")
            if not hanging.take():
                self._on_top(sm, hung_vc, key, hanging.secured)
                return
            # Somebody who speaks before being asked is not the HTTP server that the request is for.
            hung_vc.close()
        facts.step("tcp_opened")
        if scope is not None and inside:
            vc = await self.router.lead(facts, scope)
        else:
            vc = await self.router.connect(facts, key.destination, addresses or None)
        facts.step("established")
        if sm.over:
            vc.close()
            return
        self._on_top(sm, vc, key, None)

    async def open_alone(self, asking: Forwarding, key: OriginKey) -> None:
        """Find a connection for a request of our own."""
        vc = await self.router.connect(asking.facts, key.destination, None)
        if asking.over:
            vc.close()
        else:
            self._on_top(asking, vc, key, None)

    def _on_top(self, sm: Forwarding, vc: NetVConnection, key: OriginKey, secured: Secured | None) -> None:
        """Put TLS on a bare connection if it needs any, and the session on top; then forward."""
        session = OriginSession(
            vc,
            key,
            self.pool,
            max_header=self.max_header,
            pool_idle=self.settings.http.pool_idle,
            body_idle=self.body_idle,
        )
        vc.deadline = NEVER
        vc.idle_limit = 0.0
        vc.timed_out = session.too_slow
        vc.attach(session)
        if key.secure and secured is None:
            self._secure(sm, session, key)
        elif secured is not None and secured is not self.plain:
            session.leg = secured.leg
        sm.send(session)

    def _secure(self, sm: Forwarding, session: OriginSession, key: OriginKey) -> None:
        facts = sm.facts
        hello = facts.scope.hello if facts.scope is not None else None

        def done(secured: Secured | None, error: InterceptError | None) -> None:
            session.handshake = None
            if secured is not None:
                facts.upstream_tls = session.leg = secured.leg
                if facts.sequence is not None:
                    facts.step("upstream_handshake", secured.leg.version)
                    facts.step("upstream_flow_open")
                verified = secured.verified
                seen = Seen(verified.names, verified.not_after, secured.leg.alpn, verified.fault)
                self.origins.note(key.destination, key.name, seen, self.tls.wall_clock())
                if session.sm is not None:
                    if session.awaiting:
                        self.await_response(session)
                    else:
                        self.carry_body(session)
                elif sm.origin is session and not sm.over:
                    # Its transforms hold the request back.
                    self.carry_body(session)
                    sm.send(session)
            elif error is not None:
                session.usable = False
                waiting, session.sm = session.sm, None
                if waiting is None and sm.origin is session and not sm.over:
                    waiting = sm
                if waiting is None:
                    return  # the client has left, or has heard of it already
                self.origins.forget(key.destination, key.name)
                refused = error.kind == "certificate"
                facts.step("certificate_refused" if refused else "upstream_handshake_failed", error.kind)
                waiting.origin_lost(error)

        session.handshake = self.tls.push(session.vc, key.name, HTTP_1_1, hello, done)
        facts.step("upstream_profile_attached")
        if facts.sequence is not None:
            session.handshake.profile.progress = facts.step

    def await_response(self, origin: OriginSession) -> None:
        """The request is complete: the origin's time to answer begins."""
        origin.awaiting = True
        if origin.handshake is None:
            vc = origin.vc
            vc.deadline = vc.handler.now + self.response_timeout
            vc.idle_limit = 0.0
            vc.timed_out = origin.too_slow

    def carry_body(self, origin: OriginSession) -> None:
        """A body is under way: only a standstill ends it."""
        origin.awaiting = False
        if origin.handshake is None:
            vc = origin.vc
            vc.deadline = NEVER
            vc.idle_limit = self.body_idle
            vc.timed_out = origin.too_slow

    def note_login(self, session: HttpSession, origin: OriginSession, head: ResponseHead) -> None:
        """A login that belongs to the connection (Negotiate, NTLM) makes the connection this client's own."""
        if any(n.lower() == b"www-authenticate" and v.lower().startswith(OF_A_CONNECTION) for n, v in head.fields):
            self.bind(session, origin)

    def bind(self, session: HttpSession, origin: OriginSession) -> None:
        """Keep C{origin} for this client alone."""
        session.identity = session.facts.id
        session.key = None
        origin.key = origin.key._replace(identity=session.identity)

    # the end

    def ended(self, sm: HttpSM) -> None:
        """A transaction is over: write its line."""
        facts = sm.session.facts
        if facts.sequence is not None:
            facts.step("http_sm_ended")
        facts.transactions += 1
        if sm.upstream is not None:
            facts.upstream = sm.upstream
        self.transactions.transaction(sm)


class HttpAcceptor:
    """Serves what the probe says is HTTP/1."""

    protocol = "http/1"

    def __init__(self, proxy: HttpProxy) -> None:
        self._proxy = proxy

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """Put a session on top (L{sslintercept.interfaces.IAcceptor})."""
        facts.path.append("http1")
        facts.step("http_sm_made")
        if facts.depth:
            facts.step("client_flow_open")
        session = HttpSession(self._proxy, vc, facts)
        vc.attach(session)
        session.begin(peeked)


def tls_floor(text: str) -> int:
    """The wire value of a version as it stands in the ini file."""
    return 0x0304 if text == "1.3" else 0x0303


def run(work: object, sm: HttpSM) -> None:
    """Run a coroutine on behalf of a transaction; what it raises is the transaction's end."""
    deferred: Deferred[None] = Deferred.fromCoroutine(work)  # type: ignore[arg-type]  # coroutines of this folder

    def failed(failure: Failure) -> None:
        error = failure.value
        if isinstance(error, InterceptError):
            sm.fail(error)
            return
        HttpProxy.log.failure("a transaction failed", failure=failure)
        sm.fail(InterceptError("an internal error", where="proxy", remedy="see the proxy's log"))

    deferred.addErrback(failed)
