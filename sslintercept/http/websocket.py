"""
A conversation over WebSocket whose messages go through stages: what stands on both connections after such a 101.

Where nobody has a stage, the connections are joined as they are (L{sslintercept.http.upgrade}) and nothing here is on
the path.

Ends are passed on as a blind tunnel does it: a close frame is a message's business, an end without one stays an end, a
truncation or a reset stays one. Three things end a conversation from here, each with a close frame to both sides where
no frame is in the middle of being sent: what a side must not say, what a stage does wrong, and silence.

Python calls a chunk beside those of the relays: C{dataReceived}, the chain's C{feed}, the connection's C{write}. What
leaves because of one chunk leaves in one write, so that many small messages cost one call of the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import InterceptError
from sslintercept.facts import Facts, Side
from sslintercept.log.access import is_denial
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.profile.profile import Bytes
from sslintercept.transform.processor import MessageStages
from sslintercept.websocket.chain import Chain, Stages, blamed
from sslintercept.websocket.frame import (
    BINARY,
    GOING_AWAY,
    INTERNAL_ERROR,
    NORMAL,
    POLICY,
    TEXT,
    WebSocketError,
    unwritable,
)
from sslintercept.websocket.message import check_code
from sslintercept.websocket.stage import MessageStage, MessageStageError

PATIENCE: Final = 60.0
"""seconds that a stage may hold a message"""
LARGE: Final = 16 * 1024
"""bytes that are written at once; less is collected until the chunk that it comes from is done with"""

T = TypeVar("T")


def new_key() -> bytes:
    """What masks a frame to a server: four bytes that nobody can foresee (RFC 6455 5.3)."""
    return os.urandom(4)


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Way:
    """
    What one side says: the session of its connection, and the producer of the other one.

    @ivar busy: in the middle of a chunk, so that what has left so far is not all.
    @ivar ended: its side has finished sending; C{passed}: and the other side knows.
    @ivar full: the target has enough.
    @ivar added: while the target had enough, a stage added to it; who makes stages do so has to wait, too.
    """

    takes_views = True
    __slots__ = ("_out", "_stopped", "_talk", "added", "busy", "chain", "ended", "full", "passed", "source", "target")

    def __init__(self, talk: WebSocket, source: NetVConnection, target: NetVConnection) -> None:
        self._talk = talk
        self.source, self.target = source, target
        self.busy = self.ended = self.passed = self.full = self.added = False
        self._stopped = False
        self._out = bytearray()
        self.chain: Chain

    def open(self, stages: Stages, messages: MessageStages) -> None:
        """Let messages go through these."""
        side = self.source.side
        keys = new_key if side is Side.CLIENT else None
        self.chain = Chain(
            side, stages, self._write, keys=keys, deflate=messages.deflate, decided=self._talk.settle_soon
        )

    def run(self, call: Callable[..., object], *data: Bytes) -> None:
        """Do what may end the conversation, then write what left."""
        error: Exception | None = None
        self.busy = True
        try:
            call(*data)
        except Exception as raised:
            error = raised
        self.busy = False
        self.flush()
        if error is not None:
            self._talk.fail(error)

    def pace(self, halted: bool) -> None:
        """Read, or do not, by what waits."""
        self.chain.halted = halted
        stop = halted or not self.chain.clear
        if stop and not self._stopped:
            self._stopped = True
            self.source.pauseProducing()
        elif self._stopped and not stop:
            self._stopped = False
            self.source.resumeProducing()

    def flush(self) -> None:
        """Write what was collected."""
        if self._out:
            out = bytes(self._out)
            self._out.clear()
            self.target.write(out)

    def _write(self, data: Bytes) -> None:
        if self.busy and len(data) < LARGE:
            self._out += data
            if len(self._out) >= LARGE:
                self.flush()
        else:
            self.flush()
            self.target.write(data)

    # the source's session

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self.run(self.chain.feed, data)
        self._talk.pace()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._talk.pass_ends()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._talk.lost(self.source)

    # the target's producer

    def pauseProducing(self) -> None:
        self.full = True
        self._talk.pace()

    def resumeProducing(self) -> None:
        self.full = self.added = False
        self._talk.settle_soon()

    def stopProducing(self) -> None:
        """The target is gone; L{WebSocket.lost} has it."""


class Handle:
    """What one stage may do (L{sslintercept.websocket.stage.Conversation})."""

    def __init__(self, talk: WebSocket, name: str) -> None:
        self._talk, self._name = talk, name

    def send(self, to: Side, message: str | bytes) -> None:
        """See L{sslintercept.websocket.stage.Conversation}."""
        self._talk.send(to, message)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """See L{sslintercept.websocket.stage.Conversation}."""
        check_code(code)
        self._talk.end(code, reason)

    def wait(self, answer: Deferred[T], decide: Callable[[T], object]) -> None:
        """See L{sslintercept.websocket.stage.Conversation}."""
        self._talk.wait(self._name, answer, decide)


class WebSocket:
    """
    One conversation. Its life: joined, then over; L{Way.connectionLost} of both is the last that is heard.

    @param messages: the stages, at least one, and what was agreed on.
    @param idle_timeout: seconds without a byte from either side until it ends; 0 for never.
    """

    log = Logger()

    def __init__(
        self,
        client: NetVConnection,
        server: NetVConnection,
        facts: Facts,
        messages: MessageStages,
        *,
        idle_timeout: float,
    ) -> None:
        self._client, self._server = client, server
        self._facts = facts
        self._messages = messages
        self._idle_timeout = idle_timeout
        self._from_client = Way(self, client, server)
        self._from_server = Way(self, server, client)
        self._ways = self._from_client, self._from_server
        self._waiting: dict[Deferred[Any], IDelayedCall] = {}
        """what stages have promised, and when that is overdue"""
        self._over = self._woken = False
        self._lost: set[NetVConnection] = set()

    def start(self, from_client: bytes, from_server: bytes) -> None:
        """Begin with what was already read."""
        for way in self._ways:
            vc = way.source
            vc.idle_limit, vc.deadline, vc.timed_out = self._idle_timeout, NEVER, self._timed_out
            vc.attach(way)
        stages = self._messages.stages
        self._facts.step("conversation", ", ".join(name for name, _ in stages))
        error = self._open(stages)
        if error is not None:
            self._open([("", MessageStage())])
        for way in self._ways:
            way.target.registerProducer(way, True)
            way.source.resumeProducing()
        if error is not None:
            self.fail(error)
        self._begin(stages)
        for way, early in ((self._from_server, from_server), (self._from_client, from_client)):
            if early and not self._over:
                way.run(way.chain.feed, early)
        self.pace()

    def _open(self, stages: Stages) -> InterceptError | None:
        try:
            for name, stage in stages:
                stage.conversation = Handle(self, name)
            for way in self._ways:
                way.open(stages, self._messages)
        except Exception as error:
            return blamed("WebSocket", error)
        return None

    def _begin(self, stages: Stages) -> None:
        for name, stage in stages:
            if not self._over:
                try:
                    stage.begin()
                except Exception as error:
                    self.fail(blamed(name, error))

    # for the ways

    def pace(self) -> None:
        """Let each side be read or not, after whatever may have changed that."""
        if not self._over:
            to_server, to_client = self._ways
            to_server.pace(to_server.full or (to_client.full and to_client.added))
            to_client.pace(to_client.full or (to_server.full and to_server.added))
            self.pass_ends()

    def settle_soon(self) -> None:
        """Go on with what was kept as soon as the present call stack has ended."""
        if not self._woken:
            self._woken = True
            self._client.handler.soon(self._settle)

    def _settle(self) -> None:
        self._woken = False
        self.pace()
        for way in self._ways:
            if not self._over:
                way.run(way.chain.settle)
        self.pace()

    def pass_ends(self) -> None:
        """Tell the other side of an end, once everything that was said before has passed."""
        for way in self._ways:
            if way.ended and not way.passed and not way.busy and not self._over and way.chain.clear:
                way.passed = True
                if way.source.truncated:
                    self._leave()
                    way.target.close(faithful=False)
                    way.source.close()
                    return
                way.target.finish()
        if all(way.passed for way in self._ways) and not self._over:
            self._leave()
            self._client.close()
            self._server.close()

    # for the stages

    def send(self, to: Side, message: str | bytes) -> None:
        """See L{sslintercept.websocket.stage.Conversation}."""
        if to is Side.OURS:
            raise unwritable("a message to ourselves")
        if self._over:
            return
        way = self._from_server if to is Side.CLIENT else self._from_client
        if isinstance(message, str):
            way.chain.last.send_message(TEXT, message.encode())
        else:
            way.chain.last.send_message(BINARY, message)
        if way.full:
            way.added = True
            self.pace()

    def wait(self, name: str, answer: Deferred[T], decide: Callable[[T], object]) -> None:
        """See L{sslintercept.websocket.stage.Conversation}."""

        settled = False

        def done() -> None:
            nonlocal settled
            settled = True
            timer = self._waiting.pop(answer, None)
            if timer is not None and timer.active():
                timer.cancel()

        def decided(result: T) -> None:
            done()
            if not self._over:
                decide(result)

        def broke(failure: Failure) -> None:
            done()
            assert failure.value is not None
            self.fail(blamed(name, failure.value))

        def overdue() -> None:
            what = f"it held a message for {PATIENCE:g} seconds"
            self.fail(MessageStageError(what, where=name, remedy="correct the plugin, or what it waits for"))

        answer.addCallback(decided).addErrback(broke)
        if self._over:
            answer.cancel()
        elif not settled:
            self._waiting[answer] = self._client.handler.later(PATIENCE, overdue)

    # ends

    def fail(self, error: Exception) -> None:
        """What ends the conversation, other than its sides."""
        if self._over:
            return
        error = blamed("WebSocket", error)
        if isinstance(error, MessageStageError):
            self.log.failure("a message stage failed", failure=Failure(error.__cause__ or error))
        if self._facts.error is None:
            self._facts.error = error
        self._facts.step("error", error.kind)
        if isinstance(error, WebSocketError):
            self.end(error.code, error.what)
        elif is_denial(error):
            self.end(POLICY, error.what)
        else:
            self.end(INTERNAL_ERROR)

    def end(self, code: int, reason: str = "") -> None:
        """Say goodbye to both sides, and close."""
        if self._over:
            return
        for way in self._ways:
            with suppress(InterceptError):  # too much waits already, so that this would wait in vain
                way.chain.last.send_close(code, reason)
            way.flush()
        self._leave()
        self._client.close()
        self._server.close()

    def lost(self, vc: NetVConnection) -> None:
        """C{vc} is gone."""
        self._leave()
        self._lost.add(vc)
        other = self._server if vc is self._client else self._client
        if not other.closing:
            other.mirror(vc)
        if len(self._lost) == 2:
            client, server = (way.chain.messages for way in self._ways)
            self._facts.step("conversation_ended", f"{client} messages from the client, {server} from the server")

    def _timed_out(self, kind: str) -> None:
        """One side was silent; a stage may have kept from it what the other one said."""
        active = max(way.source.tcp.active for way in self._ways)
        if active + self._idle_timeout <= self._client.handler.now:
            self.end(GOING_AWAY)
            return
        for way in self._ways:
            way.source.tcp.active, way.source.idle_limit = active, self._idle_timeout

    def _leave(self) -> None:
        """It is over: nobody waits, and stages are told."""
        if self._over:
            return
        self._over = True
        for vc in (self._client, self._server):
            vc.unregisterProducer()
        waiting, self._waiting = self._waiting, {}
        for answer, timer in waiting.items():
            if timer.active():
                timer.cancel()
            answer.cancel()
        for name, stage in self._messages.stages:
            try:
                stage.ended()
            except Exception:
                self.log.failure("{name} failed at the end of a conversation", name=name)
