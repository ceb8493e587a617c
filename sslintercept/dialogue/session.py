"""
A conversation that is read along: two connections joined through a watcher (L{sslintercept.dialogue.watcher}).

The session gives both sides' bytes to the watcher, and makes true what the watcher says: above all the moment when TLS
begins, where both connections go back to the probe, which finds the ClientHello (deck: switch to TLS later).

Python calls a chunk: C{dataReceived}, the watcher's, C{to_server} or C{to_client}, the chain's C{write}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.dialogue.guard import GateGuard
from sslintercept.dialogue.watcher import Cut, MakeWatcher, Part, PartGate, PartSink, Terms
from sslintercept.errors import InspectedError, PolicyError
from sslintercept.facts import Facts, Scope
from sslintercept.net.route import Router
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.accept import Probe, Reached
from sslintercept.probe.entrance import hang
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.blind import BlindTunnel

MOST_OFFERS = 10_000
"""servers whose offer of TLS is remembered"""
MOST_USER = 255
"""characters of a user's name that are kept"""

STRIPPED = "the server offers no TLS any more: somebody on the way may have taken the offer out"
"""why a conversation ends that has to keep an offer"""


class PartHandler(Protocol):
    """What L{sslintercept.interfaces.IPartHandler} promises."""

    def part(self, part: Part, facts: Facts) -> PartSink | PartGate | None: ...


class Offers:
    """
    Which servers have offered TLS in the middle of a conversation, for rules with C{starttls = keep}.

    A process has one, whatever becomes of its settings: who is asked to keep an offer is not to get away by a reload.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def note(self, protocol: str, where: str, until: float) -> None:
        """A server offers it; at the cost of the oldest memory if there is no room."""
        key = protocol, where
        self._seen[key] = until
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_OFFERS:
            self._seen.popitem(last=False)

    def known(self, protocol: str, where: str, now: float) -> bool:
        """Whether it did before."""
        return self._seen.get((protocol, where), 0.0) > now


class Conversations:
    """
    What every conversation of one generation of settings shares.

    @param remember: seconds that an offer of TLS is remembered.
    @param relay_opaque: relay what a watcher does not understand, instead of ending it.
    @param idle: seconds that a conversation may be silent.
    @param handlers: who wants to see parts.
    @param clock: seconds, for what is remembered.
    """

    log = Logger()

    def __init__(
        self,
        *,
        router: Router,
        probe: Probe,
        offers: Offers,
        remember: float,
        relay_opaque: bool,
        idle: float,
        handlers: Iterable[PartHandler],
        clock: Callable[[], float],
    ) -> None:
        self.router = router
        self.probe = probe
        self.offers = offers
        self.remember = remember
        self.relay_opaque = relay_opaque
        self.idle = idle
        self.handlers = tuple(handlers)
        self.clock = clock


@implementer(IProtocol, IHalfCloseableProtocol)
class End:
    """The session of one side."""

    takes_views = True
    __slots__ = ("_dialogue", "_held", "hear", "vc")

    def __init__(self, dialogue: Dialogue, vc: NetVConnection, hear: Callable[[bytes], None]) -> None:
        self._dialogue = dialogue
        self.vc = vc
        self.hear = hear
        self._held = 0
        """brakes that are on: it is not read"""

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self.hear(bytes(data))
        self._dialogue.settle()

    def readConnectionLost(self) -> None:
        self._dialogue.side_ended(self.vc)

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._dialogue.side_lost(self.vc)

    def begin(self) -> None:
        """Read, unless a brake is on already."""
        if not self._held:
            self.vc.resumeProducing()

    def hold(self) -> None:
        """A brake more."""
        self._held += 1
        self.vc.pauseProducing()

    def let_go(self) -> None:
        """A brake less; the last one lets it be read again."""
        self._held -= 1
        self.begin()


@implementer(IPushProducer)
class Brake:
    """What a connection stops while too much waits to be sent on it: everybody whose bytes add to that."""

    def __init__(self, *ends: End) -> None:
        self._ends = ends

    def pauseProducing(self) -> None:
        for end in self._ends:
            end.hold()

    def resumeProducing(self) -> None:
        for end in self._ends:
            end.let_go()

    def stopProducing(self) -> None:
        """The connection is gone; L{Dialogue.side_lost} has it."""


class Fan:
    """One part for several handlers."""

    def __init__(self, sinks: list[PartSink]) -> None:
        self._sinks = sinks

    def write(self, data: bytes) -> None:
        """To each."""
        for sink in self._sinks:
            sink.write(data)

    def finish(self, whole: bool) -> None:
        """To each."""
        for sink in self._sinks:
            sink.finish(whole)


class Dialogue:
    """
    One conversation (L{sslintercept.dialogue.watcher.Wires} for its watcher).

    Its life: joined, and then one of over (refused, or a side is gone), upgrading, or unseen.
    """

    def __init__(
        self,
        shared: Conversations,
        protocol: str,
        vc: NetVConnection,
        facts: Facts,
        scope: Scope,
        server: NetVConnection,
    ) -> None:
        self._shared = shared
        self._protocol = protocol
        self._client = vc
        self._server = server
        self._facts = facts
        self._scope = scope
        self._terms = Terms(
            secured=scope.secure,
            upgraded=scope.secure and scope.carries is not None,
            required=scope.decision.starttls == "require",
        )
        self._heard = 0
        """bytes of the server that the client has heard, and the watcher has not handed on yet"""
        self._joined = True
        self._logged_in = False
        self._client_ended = self._server_ended = False
        """and the other side has not been told, since the watcher still holds something"""
        self._ends: dict[bool, End] = {}
        """the client's under true"""
        self._holds = 0
        """reasons why a side is not read, that are ours and not a peer's"""
        self._gates: set[GateGuard] = set()
        """those that have not ended"""
        self._next: Callable[[], None] | None = None
        """what takes the place of this conversation as soon as the watcher has returned"""

    def start(self, make: MakeWatcher, reached: Reached, from_client: bytes) -> None:
        """Join the two; what was said already goes first."""
        facts = self._facts
        self._heard = len(reached.heard)
        self._watcher = make(self, self._terms)
        client = End(self, self._client, self._watcher.from_client)
        server = End(self, self._server, self._watcher.from_server)
        self._ends = {True: client, False: server}
        for end in (client, server):
            end.vc.idle_limit = self._shared.idle
            end.vc.deadline = NEVER
            end.vc.timed_out = self._timed_out
            end.vc.attach(end)
        # Some of what the client hears the watcher says itself, in answer to the client alone.
        self._client.registerProducer(Brake(client, server), True)
        self._server.registerProducer(Brake(client), True)
        facts.step("dialogue", self._protocol)
        for said in (reached.heard, reached.early):
            if said and self._joined:
                self._watcher.from_server(said)
        if self._joined and from_client:
            self._watcher.from_client(from_client)
        self.settle()
        if self._joined:
            for end in (client, server):
                end.begin()

    # Wires

    def to_server(self, data: bytes) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        if self._joined or self._next is not None:
            self._server.write(data)

    def to_client(self, data: bytes) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        if self._heard:
            # It may end within a message, which is handed on when it is whole.
            data, self._heard = data[self._heard :], max(self._heard - len(data), 0)
        if data and (self._joined or self._next is not None):
            self._client.write(data)

    def upgrade(self, peeked: bytes = b"") -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        self._leave()
        self._next = lambda: self._upgrade(peeked)

    def opaque(self, why: str) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        if not self._joined:
            return
        self._facts.step("note", f"not understood: {why}")
        if self._terms.must:
            self.refuse(f"TLS is required, and this is not understood ({why})")
            return
        if self._must_offer():
            self.refuse(f"{STRIPPED} ({why})")
            return
        if not self._shared.relay_opaque:
            self.refuse(f"not understood ({why})")
            return
        self._leave()
        self._next = self._unseen

    def refuse(
        self,
        why: str,
        to_client: bytes = b"",
        to_server: bytes = b"",
        *,
        error: InspectedError | None = None,
        cut: Cut = Cut.NOBODY,
    ) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        if not self._joined:
            return
        facts = self._facts
        if facts.error is None:
            facts.error = error or PolicyError(
                why, where=f"{self._protocol} with {self._scope.destination}", remedy="the conversation was ended"
            )
        facts.step("dropped", why)
        self._client.write(to_client)
        self._server.write(to_server)
        self._leave()
        for vc, whose in ((self._client, Cut.CLIENT), (self._server, Cut.SERVER)):
            if whose in cut:
                vc.abort()
            vc.close()

    def offered(self, tls: bool) -> bool:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        shared = self._shared
        if tls:
            shared.offers.note(self._protocol, str(self._scope.destination), shared.clock() + shared.remember)
        elif self._must_offer():
            self.refuse(STRIPPED)
            return False
        return True

    def _must_offer(self) -> bool:
        """Whether TLS has to be on offer here: it was before, a rule wants that kept, and it could still begin."""
        shared, scope = self._shared, self._scope
        return (
            scope.decision.starttls == "keep"
            and self._terms.clear
            and not self._logged_in
            and shared.offers.known(self._protocol, str(scope.destination), shared.clock())
        )

    def logged_in(self, user: str | None) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        self._logged_in = True
        if user is not None:
            self._facts.login = user[:MOST_USER]

    def part(self, part: Part) -> PartSink | PartGate | None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        self._facts.step("part", f"{part.kind} {part.name}"[:200])
        sinks: list[PartSink] = []
        gates: list[PartGate] = []
        for handler in self._shared.handlers:
            wants = handler.part(part, self._facts)
            if isinstance(wants, PartGate):
                gates.append(wants)
            elif wants is not None:
                sinks.append(wants)
        sink = sinks[0] if len(sinks) == 1 else Fan(sinks) if sinks else None
        if not gates:
            return sink
        if len(gates) > 1:
            raise PolicyError("more than one handler wants to decide", where="part", remedy="take one of them out")
        return GateGuard(gates[0], sink, self)

    def hold(self, client: bool) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        self._holds += 1
        self._ends[client].hold()

    def let_go(self, client: bool) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        self._holds -= 1
        self._ends[client].let_go()

    def go_on(self) -> None:
        """See L{sslintercept.dialogue.watcher.Wires}."""
        self._client.handler.soon(self._settle_later)

    # what gates are doing (L{sslintercept.dialogue.guard.Guarding})

    def gate_began(self, gate: GateGuard) -> None:
        """It decides from now on."""
        self._gates.add(gate)

    def gate_ended(self, gate: GateGuard, error: InspectedError | None) -> None:
        """It does not any more."""
        self._gates.discard(gate)
        if error is not None:
            self._facts.step("note", f"refused: {error.what}"[:200])

    def gate_failed(self) -> None:
        """What it did, or what came of it, went wrong: nothing passes any more."""
        self._shared.log.failure("a gate failed; its conversation is cut")
        self._cut()

    def _settle_later(self) -> None:
        try:
            self.settle()
        except Exception:
            self.gate_failed()

    def _cut(self) -> None:
        """Nobody may take for whole what has passed so far."""
        self._leave()
        self._client.abort()
        self._server.abort()

    # what comes next

    def _leave(self) -> None:
        """The watcher's work is done; both connections are without a session of ours as soon as it returns."""
        if self._joined:
            self._joined = False
            self._client.unregisterProducer()
            self._server.unregisterProducer()
            self._watcher.ended()

    def settle(self) -> None:
        """The watcher has returned: if it ended the conversation, what comes next begins."""
        follow, self._next = self._next, None
        if follow is not None:
            follow()
            return
        if self._client_ended and self._joined:
            self._end_client()
        if self._server_ended and self._joined:
            self._end_server()

    def _upgrade(self, peeked: bytes) -> None:
        """Both sides expect a ClientHello next: the probe meets it on the client's connection."""
        facts, scope = self._facts, self._scope
        facts.step("starttls", self._protocol)
        scope.carries, scope.begun = self._protocol, False
        if self._client.closing or self._server.closing:
            self._client.close()
            self._server.close()
            return
        hang(self._client, self._server, facts)
        self._server.resumeProducing()
        self._shared.probe.accept(self._client, facts, peeked)

    def _unseen(self) -> None:
        """Relay from now on what nobody understands."""
        self._facts.path.append("tunnel")
        self._facts.step("blind_tunnel", "not understood")
        BlindTunnel(
            self._client,
            self._server,
            idle_timeout=self._shared.idle,
            done=lambda: self._facts.step("tunnel_ended"),
        ).start()

    # ends

    def _other(self, vc: NetVConnection) -> NetVConnection:
        return self._server if vc is self._client else self._client

    def side_ended(self, vc: NetVConnection) -> None:
        """C{vc}'s peer has finished sending."""
        if vc is self._client:
            self._client_ended = True
        else:
            self._server_ended = True
        self.settle()

    def _end_client(self) -> None:
        """The client has said everything: so has the watcher, as soon as it holds nothing of it any more."""
        client = self._client
        nobody_answers = self._server.ended_by_peer and not self._gates
        if (self._watcher.client_ended(not client.truncated) or nobody_answers) and self._joined:
            self._client_ended = False
            self._pass_end(client)
        if self._next is not None:
            self.settle()

    def _end_server(self) -> None:
        """The server has, likewise."""
        server = self._server
        if self._watcher.server_ended(not server.truncated) and self._joined:
            self._server_ended = False
            self._pass_end(server)
        if self._next is not None:
            self.settle()

    def _pass_end(self, vc: NetVConnection) -> None:
        """C{vc} has said everything, and so its other side is told."""
        other = self._other(vc)
        if vc.truncated and self._gates:
            self._cut()
        elif vc.truncated:
            other.close(faithful=False)
            vc.close()
        else:
            other.finish()
        if other.ended_by_peer and not vc.truncated and not self._gates:
            self._client.close()
            self._server.close()

    def side_lost(self, vc: NetVConnection) -> None:
        """C{vc} is gone; what a gate holds does not come any more, so that what has passed is not whole."""
        held = bool(self._gates)
        ended = self._client_ended if vc is self._client else self._server_ended
        if held and ended and not vc.truncated:
            # It has said everything, and only a gate keeps that from the other side. Clients of FTP that send a file
            # in TLS close without reading our tickets, which is a reset.
            return
        self._leave()
        other = self._other(vc)
        if held:
            other.abort()
        elif not other.closing:
            other.mirror(vc)

    def _timed_out(self, kind: str) -> None:
        if self._holds:
            # The silence is ours; whoever decides has a time limit of its own.
            for vc in (self._client, self._server):
                vc.idle_limit, vc.tcp.active = self._shared.idle, vc.handler.now
        elif self._gates:
            self._cut()
        else:
            self._client.close()
            self._server.close()
