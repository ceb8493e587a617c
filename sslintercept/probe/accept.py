"""
Peeks at the first bytes of a connection, or of a layer in it, and hands over (ATS: ProtocolProbeSessionAccept).

The probe runs once for every layer: when a connection is accepted, again inside a tunnel, again inside TLS. It keeps
every byte, in order, for whoever takes over. It waits for bytes, for a bounded time and up to a bounded size. Where a
server connection hangs on the client's and the server is expected to speak first, or the client stays silent, what the
server says is relayed while the probe goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import ClientError, InterceptError, PolicyError, TimedOut
from sslintercept.facts import REFUSING, Action, Decision, Facts, Scope, Verdict
from sslintercept.net.upstream import Secured
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.port import greets_first, hint_of
from sslintercept.probe.signature import SIGNATURES, Signature
from sslintercept.probe.verdict import UNRECOGNISED, judge, judge_greeting
from sslintercept.profile.profile import Bytes

EARLY = 64 * 1024
"""bytes of an eager server that are kept while nobody has picked its connection up"""
HEARD = 64 * 1024
"""bytes of a server that are relayed before a session has picked its connection up: they are kept as evidence, and for
a session that reads along, which must not miss one"""


SECURED = frozenset(("http/1", "http/2"))
"""what TLS with a proxy itself carries, whether its port serves that in the clear or not"""


class Acceptor(Protocol):
    """What L{sslintercept.interfaces.IAcceptor} promises."""

    protocol: str

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None: ...


@implementer(IProtocol, IHalfCloseableProtocol)
class Hanging:
    """
    The session of a server connection between two owners (deck: server_vc attached to client_vc).

    Early bytes are kept, or relayed once the client's probe says so; an end empties the slot.
    """

    takes_views = True

    def __init__(self, vc: NetVConnection) -> None:
        self.vc = vc
        self.early = bytearray()
        self.heard = bytearray()
        """what was relayed"""
        self.secured: Secured | None = None
        """what the TLS handshake with the origin found, if there was one already"""
        self.lost: Callable[[Exception | None], object] = lambda error: None
        """called when the connection is gone while it hangs here"""
        self.full: Callable[[], object] = lambda: None
        """called once when no more is relayed, since there is no room to keep it"""
        self.relay_to: NetVConnection | None = None
        self.waits = False
        """the end is kept for the next session, like what came before it: what was said is all there is to say"""
        vc.timed_out = lambda kind: vc.close()
        vc.attach(self)

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        if self.relay_to is not None:
            self._relay(data)
            return
        self.early += data
        if len(self.early) > EARLY:
            self.vc.pauseProducing()

    def _relay(self, data: Bytes) -> None:
        assert self.relay_to is not None
        room = HEARD - len(self.heard)
        if room:
            self.heard += data[:room]
            self.relay_to.write(data[:room])
        if len(data) < room:
            return
        self.early += data[room:]
        self.vc.pauseProducing()
        if room:
            self.vc.handler.soon(self.full)

    def relay(self, client: NetVConnection) -> None:
        """From now on pass everything on."""
        self.relay_to = client
        early = bytes(self.early)
        self.early.clear()
        client.registerProducer(self.vc, True)
        self.vc.resumeProducing()
        if early:
            self._relay(early)

    def hush(self) -> None:
        """Stop relaying; what has come is kept."""
        if self.relay_to is not None:
            self.relay_to.unregisterProducer()
            self.relay_to = None

    def take(self) -> bytes:
        """Stop relaying; give what has not been relayed."""
        self.hush()
        early = bytes(self.early)
        self.early.clear()
        return early

    def readConnectionLost(self) -> None:
        client = self.relay_to
        if client is not None:
            # The server said goodbye in the protocol both were speaking: so do we.
            client.close(faithful=not self.vc.truncated)
        elif self.waits:
            return
        self.vc.close()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        if self.relay_to is not None:
            self.relay_to.mirror(self.vc)
        self.lost(self.vc.error)


def hung(vc: NetVConnection) -> Hanging | None:
    """The waiting session of the server connection that hangs on C{vc}, if there is a live one."""
    server_vc = vc.server_vc
    session = server_vc.session if server_vc is not None and not server_vc.closing else None
    return session if isinstance(session, Hanging) else None


class Reached(NamedTuple):
    """The server of a session (L{sslintercept.probe.reach.reach})."""

    server: NetVConnection
    early: bytes
    """what it said, and the client has not heard"""
    heard: bytes
    """what the client has heard of it already"""
    secured: Secured | None = None
    """what its TLS handshake found, if there was one"""


class Probe:
    """
    The table from verdicts to acceptors, and the limits (ATS: ProtocolProbeSessionAccept).

    @param timeout: seconds until a silent client is decided on, or closed.
    @param silence: seconds after which a silent client gets to hear what the server says.
    @param limit: bytes peeked at most.
    @param allowed: which verdicts a proxy's own port serves, by the listener's name.
    """

    log = Logger()

    def __init__(
        self,
        *,
        timeout: float,
        silence: float,
        limit: int,
        allowed: Mapping[str, frozenset[str]],
        signatures: Sequence[Signature] = SIGNATURES,
    ) -> None:
        self.timeout = timeout
        self.silence = silence
        self.limit = limit
        self.allowed = allowed
        self.signatures = signatures
        self.acceptors: dict[str, Acceptor] = {}
        self.reach: Callable[[NetVConnection, Facts, Scope], Awaitable[Reached]] | None = None
        """opens the way to the server of a tunnel, with TLS on it if TLS stands around the client's layer"""
        self.settle: Callable[[Facts], Decision | None] = lambda facts: None
        """asked for the last word of the rules when a tunnel turns out to carry no TLS"""
        self.foreign: set[str] = set()
        """verdicts that plugins serve: what rules refuse does not come to them"""

    def register(self, acceptor: Acceptor, replace: bool = False) -> None:
        """
        Serve a verdict.

        @raise ValueError: it is served already, and C{replace} is false.
        """
        if acceptor.protocol in self.acceptors and not replace:
            raise ValueError(f"{acceptor.protocol} is served already")
        self.acceptors[acceptor.protocol] = acceptor

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes = b"") -> None:
        """Probe C{vc}; C{peeked} bytes of this layer are here already."""
        session = ProbeAccept(self, vc, facts)
        vc.attach(session)
        session.begin(peeked)

    def decided(self, vc: NetVConnection, facts: Facts, verdict: Verdict, peeked: bytes) -> None:
        """Hand over by the table."""
        facts.verdicts.append(verdict)
        facts.protocol = verdict.protocol
        facts.step("probed", f"{verdict.protocol}: {verdict.reason}")
        if verdict.mismatch:
            self.log.info("{id} probe: {reason}", id=facts.id, reason=verdict.reason)
        acceptor = self.acceptors.get(verdict.protocol)
        scope = facts.scope
        if scope is None:
            allowed = self.allowed.get(facts.listener, frozenset())
            if verdict.protocol not in (allowed | SECURED if facts.depth else allowed):
                acceptor = None
        else:
            if verdict.protocol != "tls":
                if not scope.decided:
                    self._decide(facts, scope)
                action = scope.decision.action
                if action is Action.TUNNEL or (action in REFUSING and verdict.protocol in self.foreign):
                    acceptor = None
            acceptor = acceptor or self.acceptors.get("unknown")
        if acceptor is None:
            facts.error = not_served(facts, verdict)
            facts.step("dropped", verdict.protocol)
            vc.close()
            return
        try:
            acceptor.accept(vc, facts, peeked)
        except InterceptError as refused:
            facts.error = refused
            facts.step("dropped", refused.what)
            vc.close()

    def _decide(self, facts: Facts, scope: Scope) -> None:
        """No ClientHello will come: what the rules waited for is absent."""
        facts.server_name = facts.client_hello = None
        scope.decided = True
        decision = self.settle(facts)
        if decision is not None:
            facts.decision = scope.decision = decision
            facts.step("decided", f"{decision.action.value} by rule {decision.rule}")


def not_served(facts: Facts, verdict: Verdict) -> PolicyError:
    """Why a proxy's own port has nothing for a protocol."""
    what, remedy = f"{verdict.protocol} is not served here ({verdict.reason})", f"see [listen:{facts.listener}] accept"
    if verdict.protocol.startswith("proxy-"):
        what = f"a PROXY header of {facts.client.host}, which is none of the balancers that are believed"
        remedy = f"see [listen:{facts.listener}] proxy_protocol"
    return PolicyError(what, where=f"listener {facts.listener}", remedy=remedy)


@implementer(IProtocol, IHalfCloseableProtocol)
class ProbeAccept:
    """The session of a connection that is being probed (ATS: ProtocolProbeTrampoline)."""

    takes_views = True
    __slots__ = (
        "_begun",
        "_carries",
        "_facts",
        "_head",
        "_opening",
        "_port",
        "_probe",
        "_relaying",
        "_secure",
        "_silence",
        "_vc",
    )

    def __init__(self, probe: Probe, vc: NetVConnection, facts: Facts) -> None:
        self._probe = probe
        self._vc = vc
        self._facts = facts
        self._head = bytearray()
        scope = facts.scope
        self._port = scope.destination.port if scope is not None else None
        self._secure = scope is not None and scope.secure
        self._carries = scope.carries if scope is not None else None
        """the conversation in whose middle TLS begins, or has begun"""
        self._begun = scope is not None and scope.begun
        self._silence: IDelayedCall | None = None
        self._relaying: Hanging | None = None
        """whose greeting the client hears"""
        self._opening = False
        """the way to the server is being opened; what the client says meanwhile is kept"""

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing before L{begin}."""

    def connectionMade(self) -> None:
        """Nothing before L{begin}."""

    def begin(self, peeked: bytes) -> None:
        """Look at what is there, and wait for more if that does not decide."""
        vc, probe = self._vc, self._probe
        vc.idle_limit = 0.0
        scope = self._facts.scope
        vc.deadline = vc.handler.now + (scope.patience if scope is not None and scope.patience else probe.timeout)
        vc.timed_out = self._timed_out
        if self._carries is not None and self._begun:
            self._hand_over(Verdict(self._carries, "both sides had agreed on it"), peeked)
            return
        if peeked:
            self._head += peeked
            if self._look():
                return
        vc.resumeProducing()
        if self._carries is not None:
            return  # both sides have agreed that a ClientHello comes next; nothing else passes
        if scope is not None and scope.decision.action is Action.WARN:
            # Nobody hears the server before a page was read; where it would speak first, there will be none.
            self._look(silent=greets_first(self._port, secure=self._secure))
            return
        server = hung(vc)
        bare = server is None or (self._secure and server.secured is None)
        if greets_first(self._port, secure=self._secure):
            if server is None or bare:
                self._open()
                return
            self._relay(server)
        elif not self._head and self._may_greet():
            self._silence = vc.handler.later(probe.silence, self._silent)

    def _may_greet(self) -> bool:
        """Whether the server might speak first: not where the port is of a protocol whose clients do."""
        scope = self._facts.scope
        hint = hint_of(self._port)
        return scope is not None and bool(scope.destination.host) and (hint is None or hint.server_first)

    def _silent(self) -> None:
        """The client has said nothing for a moment: let it hear what the server says, now and later."""
        self._silence = None
        server = hung(self._vc)
        if self._head:
            return
        if server is None or (self._secure and server.secured is None):
            self._open()
        elif server.relay_to is None:
            self._relay(server)

    def _relay(self, server: Hanging) -> None:
        """Let the client hear what the server says, as much as can be kept for whoever takes over."""
        server.full = self._heard_enough
        self._relaying = server
        server.relay(self._vc)
        self._facts.step("greeting_relayed")

    def _heard_enough(self) -> None:
        """The server has said so much that it is no greeting any more: decide with what there is."""
        if self._vc.session is self and not self._vc.closing:
            self._look(silent=True)

    def _open(self) -> None:
        """Open the way to the server that may greet."""
        scope, reach = self._facts.scope, self._probe.reach
        if scope is None or reach is None:
            self._look(silent=True)
            return
        self._opening = True
        # The client waits for the server now, whose ways have timers of their own.
        self._vc.deadline = NEVER
        self._vc.pauseProducing()

        async def opening() -> None:
            self._opened(await reach(self._vc, self._facts, scope))

        Deferred.fromCoroutine(opening()).addErrback(self._not_opened)

    def _opened(self, reached: Reached) -> None:
        vc = self._vc
        if vc.session is not self or vc.closing:
            reached.server.close()
            return
        self._opening = False
        vc.deadline = vc.handler.now + self._probe.timeout
        vc.hang(reached.server)
        hanging = Hanging(reached.server)
        hanging.secured = reached.secured
        hanging.heard += reached.heard
        hanging.early += reached.early
        self._relay(hanging)
        vc.resumeProducing()
        if self._head:
            self._look()

    def _not_opened(self, failure: Failure) -> None:
        """Whoever serves what this turns out to be will try again, and say what is wrong."""
        vc = self._vc
        if vc.session is not self or vc.closing:
            return
        error = failure.value
        if not isinstance(error, InterceptError):
            self._probe.log.failure("a server could not be reached", failure=failure)
        self._opening = False
        vc.deadline = vc.handler.now + self._probe.timeout
        vc.resumeProducing()
        self._look(silent=greets_first(self._port, secure=self._secure))

    def dataReceived(self, data: Bytes) -> None:
        self._head += data
        if not self._opening:
            self._look()

    def _look(self, silent: bool = False) -> bool:
        """Judge what is there; true if that decided."""
        head = bytes(self._head)
        verdict = judge(
            head,
            self._port,
            silent=silent,
            full=len(head) >= self._probe.limit,
            secure=self._secure,
            signatures=self._probe.signatures,
        )
        if verdict is None:
            return False
        if self._carries is not None:
            if verdict.protocol != "tls":
                self._no_tls()
                return True
            # On whatever port: the two have just agreed on it.
            verdict = Verdict("tls", f"both sides of {self._carries} had agreed on it", "tls")
        if verdict.protocol == UNRECOGNISED or verdict.hint == verdict.protocol:
            verdict = self._by_greeting(head) or verdict
        self._hand_over(verdict, head)
        return True

    def _by_greeting(self, head: bytes) -> Verdict | None:
        """What the server has said is evidence too, where the client's bytes alone say nothing."""
        server = hung(self._vc)
        if server is None or not server.heard:
            return None
        return judge_greeting(bytes(server.heard), head, self._port, secure=self._secure)

    def _no_tls(self) -> None:
        """Somebody goes on in the clear where TLS was agreed on."""
        self._release()
        self._facts.error = ClientError(
            "the client did not begin with TLS, although both had agreed on it",
            where=f"{self._carries} of {self._facts.client}",
            remedy="nothing of it was passed on",
        )
        self._facts.step("dropped", "no TLS")
        self._vc.close()

    def _hand_over(self, verdict: Verdict, head: bytes) -> None:
        self._release()
        relaying, self._relaying = self._relaying, None
        if relaying is not None:
            # Whoever takes over may lead the client somewhere else: nobody but its session feeds it from now on.
            relaying.hush()
        self._probe.decided(self._vc, self._facts, verdict, head)

    def _release(self) -> None:
        vc = self._vc
        vc.deadline = NEVER
        if self._silence is not None:
            if self._silence.active():
                self._silence.cancel()
            self._silence = None

    def _timed_out(self, kind: str) -> None:
        facts = self._facts
        if facts.scope is not None and self._look(silent=True):
            return
        self._release()
        facts.error = TimedOut(
            f"the client sent {len(self._head)} bytes that decide nothing" if self._head else "the client said nothing",
            where=f"probe of {facts.client}",
            remedy=f"see [probe] timeout = {self._probe.timeout:g}s",
        )
        self._vc.close()

    def readConnectionLost(self) -> None:
        """The client has said all it will say; in a tunnel that is still worth an answer."""
        if self._opening:
            return
        if self._head and self._facts.scope is not None and self._look(silent=True):
            return
        self._release()
        self._vc.close()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._release()
