"""
The session of a client's flow: the first datagram is judged, the rules decide, and the flow is relayed, opened or dead.

What a rule blocks is dropped without a word until the flow is over: a browser finds that QUIC does not pass, and goes
on with TCP. A relay is wiring: the target's C{write} in the source's hand. For DTLS the decision waits for the
ClientHello; later ones, which a client may send at any time, must name the same server. (One that hides in a datagram
behind a record of DTLS 1.3 that is encrypted already is not seen.)

A client behind a listener may be a forged source: until something else proves the address, L{FACTOR} bounds what an
origin's answers may send there.

A relayed datagram costs 5.0 us of CPU, of which the kernel's two calls are 4.3; one whose DTLS is opened 14 us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.datagram.hello import HEADER, Hello, HelloReader
from sslintercept.datagram.probe import judge
from sslintercept.errors import ConnectError, HelloError, InterceptError, UpstreamError
from sslintercept.facts import REFUSING, Action, Address, Decision, Facts
from sslintercept.net.connector import Denied, refusal
from sslintercept.net.udp import connect
from sslintercept.profile.dtls import DtlsProfile
from sslintercept.profile.profile import Bytes, Receiver

if TYPE_CHECKING:
    from sslintercept.net.flow import Flow
    from sslintercept.net.handler import NetHandler

FACTOR = 10.0
"""
bytes of answers relayed for each byte of an address that is not proven: enough for DNS and for the certificates of DTLS
without cookies, and little to an attacker; QUIC holds itself to 3 (RFC 9000 8.1)
"""
HELD = 8
"""datagrams kept while the hello is incomplete or the name is looked up; more are dropped"""
HELD_BYTES = 16 * 1024
BRIEF = frozenset(("dns", "ntp"))
"""protocols whose clients ask each question from a port of its own"""


class Decider(Protocol):
    """Who decides (L{sslintercept.rule.decide.Rules})."""

    def decide(self, facts: Facts, final: bool = False) -> Decision | None: ...


class FlowTotals(NamedTuple):
    """What a client's flow came to."""

    why: str
    """what ended it, in a word"""
    seconds: float
    read: int
    """bytes from the client"""
    sent: int
    """bytes to the client"""
    came: int
    """datagrams from the client"""
    left: int
    """datagrams to the client"""
    dropped: int
    """datagrams in either direction that were not passed on"""


class Opener(Protocol):
    """Who opens DTLS (L{sslintercept.datagram.intercept.DtlsInterceptor})."""

    def accept(self, session: Session, hello: Hello) -> None:
        """
        A hello of a flow that the rules want opened came; it may be the first one, without a proof of the address.

        Called again for each further hello until C{session.adopt} or C{session.end}.
        """


class Datagrams:
    """
    What all flows of one generation of settings share.

    @param addresses: those of a destination that a client may be led to (L{sslintercept.net.route.Router.straight}).
    @param denied: why the address of a destination must not be used, or C{None}; asked before a packet leaves.
    @param ended: told each client flow's end once, for the log.
    @param opener: opens DTLS; without one what a rule wants opened is relayed.
    """

    def __init__(
        self,
        handler: NetHandler,
        rules: Decider,
        *,
        addresses: Callable[[Facts, Address], Awaitable[Sequence[str]]],
        denied: Callable[[Facts, Address, str], Denied | None],
        ended: Callable[[Facts, FlowTotals], object],
        opener: Opener | None = None,
        factor: float = FACTOR,
    ) -> None:
        self.handler = handler
        self.rules = rules
        self.addresses = addresses
        self.denied = denied
        self.ended = ended
        self.opener = opener
        self.factor = factor

    def serve(self, flow: Flow, facts: Facts) -> None:
        """Own C{flow} from now on; C{facts} know the destination. The first datagram follows."""
        Session(self, flow, facts)

    async def upstream(self, facts: Facts, destination: Address) -> Flow:
        """
        A flow to the destination.

        @raise UpstreamError: the name has no address, none may be used, or there is no way to any.
        """
        last: UpstreamError | None = None
        for host in await self.addresses(facts, destination):
            if (refused := self.denied(facts, destination, host)) is not None:
                last = refusal(destination, refused)
                continue
            try:
                return connect(self.handler, Address(host, destination.port))
            except ConnectError as error:
                last = error
        raise last or ConnectError("no address to try", where=str(destination), remedy="look at the name's records")


class Session:
    """
    One client flow from its first datagram to its end.

    @ivar upstream: the flow to the origin, once there is one.
    """

    log = Logger()

    def __init__(self, datagrams: Datagrams, flow: Flow, facts: Facts) -> None:
        self.datagrams = datagrams
        self.flow = flow
        self.facts = facts
        self.upstream: Flow | None = None
        self.dropped = 0
        self._began = datagrams.handler.now
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._reader = HelloReader()
        self._work: Deferred[None] | None = None
        flow.closed = self._over
        flow.read_to(self._first)

    @property
    def destination(self) -> Address:
        """Where the client wants to go."""
        destination = self.facts.destination
        assert isinstance(destination, Address)
        return destination

    # deciding

    def _first(self, data: Bytes) -> None:
        facts = self.facts
        verdict = judge(bytes(data), self.destination.port)
        facts.verdicts.append(verdict)
        facts.protocol = verdict.protocol
        self.flow.brief = verdict.protocol in BRIEF
        if verdict.protocol == "dtls":
            self.flow.read_to(self._hello)
            self._hello(data)
            return
        facts.server_name = facts.client_hello = None
        decision = self._decide()
        if decision.action in REFUSING:
            self.drop()
            return
        self.flow.read_to(self.hold)
        self.hold(data)
        self.run(self._relay())

    def _decide(self) -> Decision:
        facts = self.facts
        decision = self.datagrams.rules.decide(facts, final=True)
        assert decision is not None
        facts.decision = decision
        facts.step("decided", f"{decision.action.value} by rule {decision.rule}")
        return decision

    def _hello(self, data: Bytes) -> None:
        """Until the hello is whole, and after each try of the client to prove its address."""
        facts = self.facts
        try:
            hello = self._reader.feed(bytes(data))
        except HelloError as error:
            # It may be anybody's: the client will say its own again (RFC 6347 4.1.2.7).
            facts.error = error
            self._reader = HelloReader()
            self.dropped += 1
            self.forget()
            return
        self.hold(data)
        if hello is None:
            return
        facts.error = None
        facts.client_hello = hello.client_hello
        facts.server_name = hello.client_hello.server_name
        facts.step("hello_received", facts.server_name or "")
        action = self._decide().action
        if action in REFUSING:
            self.drop()
        elif action is Action.INTERCEPT and self.datagrams.opener is not None:
            self.forget()
            self.datagrams.opener.accept(self, hello)
        else:
            self.flow.read_to(self.hold)
            self.run(self._relay())

    # keeping

    def hold(self, data: Bytes) -> None:
        """Keep a datagram for the origin, as long as there is room."""
        if len(self._held) >= HELD or self._held_bytes + len(data) > HELD_BYTES:
            self.dropped += 1
            return
        self._held.append(bytes(data))
        self._held_bytes += len(data)

    def forget(self) -> None:
        """Keep nothing of what came so far."""
        self._held.clear()
        self._held_bytes = 0

    def drop(self) -> None:
        """From now on nothing passes and nothing is said; the flow stays, so that it is decided and logged once."""
        self.forget()
        self.flow.read_to(self._lose)
        self.dropped = self.flow.udp.came

    def _lose(self, data: Bytes) -> None:
        self.dropped += 1

    # relaying

    def run(self, work: Awaitable[None]) -> None:
        """Let C{work} go on by itself; it is given up when the flow ends, and its failure ends the flow."""

        async def working() -> None:
            await work

        self._work = Deferred.fromCoroutine(working())
        self._work.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if self.flow.why:
            return  # given up
        error = failure.value
        if not isinstance(error, InterceptError):
            self.log.failure("a flow could not be set up", failure=failure)
        self.facts.error = error if isinstance(error, Exception) else None
        # Drop what still comes, or each datagram would try again.
        self.drop()

    async def _relay(self) -> None:
        upstream = await self.datagrams.upstream(self.facts, self.destination)
        self.adopt(upstream)
        flow, facts = self.flow, self.facts
        facts.path.append("tunnel")
        if not flow.udp.proven:
            flow.udp.factor = self.datagrams.factor
        forward: Receiver = upstream.hold()
        upstream.read_to(flow.hold())
        if facts.protocol == "dtls":
            self._reader = HelloReader()
            forward = self._watch
        held = list(self._held)
        self.forget()
        for datagram in held:
            forward(datagram)
        flow.read_to(forward)

    def _watch(self, data: Bytes) -> None:
        """Relay what asks for no other server; a hello that does, or that cannot be read, is dropped."""
        size = len(data)
        if size <= HEADER or data[0] != 23 or HEADER + (data[11] << 8 | data[12]) != size:
            try:
                hello = self._reader.feed(bytes(data))
            except HelloError:
                self.dropped += 1
                return
            if hello is not None and hello.client_hello.server_name != self.facts.server_name:
                self.dropped += 1
                return
        assert self.upstream is not None
        self.upstream.write(data)

    def adopt(self, upstream: Flow) -> None:
        """The origin's flow ends with the client's, and the client's with it."""
        self.upstream = upstream
        self.facts.upstream = upstream.peer
        upstream.closed = lambda _: self.flow.close("upstream")
        upstream.udp.failed = self._nobody_there

    def _nobody_there(self, error: OSError) -> None:
        """ICMP says that nobody listens; it can be forged, so it is only an explanation when nothing else comes."""
        upstream = self.upstream
        if upstream is not None and not upstream.udp.came and self.facts.error is None:
            self.facts.error = ConnectError(
                f"{upstream.peer} does not listen ({error.strerror})",
                where=str(self.destination),
                remedy="the origin is down, or is no server of this protocol",
            )

    # the end

    def _over(self, flow: Flow) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
        self.forget()
        dropped = self.dropped + dropped_by(flow)
        if (upstream := self.upstream) is not None:
            upstream.closed = ignore_flow
            upstream.close(flow.why)
            dropped += dropped_by(upstream)
        udp = flow.udp
        totals = FlowTotals(
            flow.why, self.datagrams.handler.now - self._began, udp.read, udp.sent, udp.came, udp.left, dropped
        )
        self.datagrams.ended(self.facts, totals)


def dropped_by(flow: Flow) -> int:
    """Datagrams that the layers of C{flow} did not pass on."""
    layers = (profile for profile in flow.profiles if isinstance(profile, DtlsProfile))
    return flow.udp.dropped + sum(layer.dropped + layer.bad for layer in layers)


def ignore_flow(flow: Flow) -> None:
    """The end of a flow that nobody waits for."""
