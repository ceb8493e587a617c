"""
A clamd, and bodies on their way through it (clamd(8), INSTREAM).

Every scan has a connection of its own: clamd reads the streams of a session (IDSESSION) one after the other, so a
session saves no more than the connect, which on the same host costs less than one chunk; docs/clamd.md has the numbers.
What is bounded is how many scans there are, and how many wait.

Nothing of a body is kept here but what comes before there is a connection; whoever brings it is stopped meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.clamd import wire
from sslintercept.clamd.wire import Found, ReplyReader, TooBig, Verdict, Version
from sslintercept.errors import EngineError
from sslintercept.net.breaker import Breaker
from sslintercept.net.intake import Intake, Producer
from sslintercept.net.line import Line, OpenLine
from sslintercept.net.places import Places
from sslintercept.profile.profile import Bytes

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

OURS = frozenset(("dropped", "stopped", "busy", "broken"))
"""faults that tell nothing of clamd's health"""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one clamd is asked for.

    @ivar scans: at the same time; more than its MaxThreads wait there instead of here.
    @ivar waiting: scans that may wait for one to end; C{patience}: seconds that they wait.
    @ivar most: bytes of a body; not above its StreamMaxLength, since clamd cuts the connection there.
    @ivar idle: seconds that it may take nothing and say nothing while a body is being sent.
    @ivar answer: seconds from the end of a body to the verdict; not below its MaxScanTime.
    @ivar keep_version: seconds that its version is believed without asking again.
    """

    scans: int = 10
    waiting: int = 256
    patience: float = 10.0
    most: int = 25 * 1024 * 1024
    idle: float = 30.0
    answer: float = 120.0
    keep_version: float = 60.0


class Clamd:
    """
    One clamd.

    @param where: what errors and counters call it.
    @ivar breaker: whether it is asked at all.
    """

    def __init__(
        self,
        handler: NetHandler,
        open_line: OpenLine,
        where: str = "clamd",
        limits: Limits | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.handler = handler
        self.where = where
        self.limits = limits or Limits()
        self.breaker = breaker or Breaker()
        self._open_line = open_line
        self.places = Places(
            handler, where, self.limits.scans, most_waiting=self.limits.waiting, patience=self.limits.patience
        )
        self._version: Version | None = None
        self._version_until = 0.0
        self._asking: list[Deferred[Version]] = []
        self._under_way: set[Exchange] = set()

    # what its users say

    def scan(self) -> Scan:
        """
        Begin to look at a body: write it into what is returned.

        It never raises; whatever is wrong comes with L{Scan.outcome}.
        """
        scan = Scan(self)
        scan.start()
        return scan

    def version(self) -> Deferred[Version]:
        """Which engine and signatures; asked once, whoever wants to know meanwhile."""
        asked: Deferred[Version] = Deferred()
        if self._version is not None and self.handler.seconds() < self._version_until:
            asked.callback(self._version)
            return asked
        self._asking.append(asked)
        if len(self._asking) == 1:
            asking = self.ask(wire.VERSION, lambda reply: wire.version(reply, self.where))
            asking.addCallback(lambda reply: wire.version(reply, self.where)).addBoth(self._told)
        return asked

    def _told(self, told: Version | Failure) -> None:
        asking, self._asking = self._asking, []
        if not isinstance(told, Failure):
            self._version = told
            self._version_until = self.handler.seconds() + self.limits.keep_version
        for asked in asking:
            asked.callback(told)  # one that was cancelled ignores it

    async def ping(self) -> None:
        """
        Whether it is there.

        @raise EngineError: it is not.
        """
        await self.ask(wire.PING, lambda reply: wire.pong(reply, self.where))

    def ask(self, command: bytes, check: Callable[[bytes], object]) -> Deferred[bytes]:
        """
        Its answer to a command without a body; it fails with an L{EngineError}.

        @param check: called with the answer; raises an L{EngineError} if it is none.
        """
        asking = Exchange(self)
        asking.check = check
        asking.connected = lambda line: asking.say(line, command)
        asking.start()
        return asking.replied

    def close(self) -> None:
        """End everything that is under way."""
        self.places.close()
        for exchange in list(self._under_way):
            exchange.fail(self.error("it is being stopped", "stopped"))

    # for what is under way

    def error(self, what: str, fault: str) -> EngineError:
        """An error of this engine."""
        return EngineError(what, where=self.where, remedy="see clamd's log", fault=fault)

    async def line(self) -> Line:
        """
        A connection and a place, which L{left} gives back.

        @raise EngineError: there is none.
        """
        now = self.handler.seconds()
        if not self.breaker.allows(now):
            raise self.error(self.breaker.refusal(now), "broken")
        try:
            await self.places.take()
        except BaseException:
            self.breaker.unknown(self.handler.seconds())
            raise
        try:
            return await self._open_line()
        except BaseException as error:
            self.left(error)
            raise

    def left(self, error: BaseException | None) -> None:
        """An exchange that had a place is over."""
        self.places.free()
        self.breaker.ended(error, OURS, self.handler.seconds())

    def entered(self, exchange: Exchange) -> None:
        """It is under way."""
        self._under_way.add(exchange)

    def over(self, exchange: Exchange) -> None:
        """It is not any more."""
        self._under_way.discard(exchange)


class Exchange:
    """
    One command and its answer, on a connection of its own.

    @ivar replied: fires with the answer, or fails with an L{EngineError}; cancelling ends everything.
    @ivar connected: called once with the line; C{check}: with the answer, it may raise an L{EngineError}.
    """

    def __init__(self, clamd: Clamd) -> None:
        self._clamd = clamd
        self._reader = ReplyReader(clamd.where)
        self._line: Line | None = None
        self._getting: Deferred[None] | None = None
        self.over = False
        self.connected: Callable[[Line], object] = lambda line: None
        self.check: Callable[[bytes], object] = lambda reply: None
        self.replied: Deferred[bytes] = Deferred(lambda _: self.fail(clamd.error("the caller gave up", "dropped")))

    def start(self) -> None:
        """Get a connection."""
        self._clamd.entered(self)
        self._getting = Deferred.fromCoroutine(self._get())
        self._getting.addErrback(self._not_got)

    async def _get(self) -> None:
        line = self._line = await self._clamd.line()
        line.received, line.lost = self._received, self._lost
        self.connected(line)

    def _not_got(self, failure: Failure) -> None:
        if not self.over:  # else it is our own cancelling
            assert isinstance(failure.value, Exception)
            self._end(failure.value)

    def say(self, line: Line, command: bytes) -> None:
        """Say C{command} and await its answer."""
        line.write(command)
        line.expect(self._clamd.limits.answer, 0)

    def _received(self, data: Bytes) -> None:
        try:
            reply = self._reader.feed(data)
            if reply is not None:
                self.check(reply)
        except EngineError as error:
            self.fail(error)
            return
        if reply is not None:
            self._end(None, reply)

    def _lost(self, fault: str, why: str) -> None:
        self.fail(self._clamd.error(why, fault))

    def fail(self, error: EngineError) -> None:
        """End it with an error. Twice is once."""
        self._end(error)

    def _end(self, error: Exception | None, reply: bytes = b"") -> None:
        if self.over:
            return
        self.over = True
        line, self._line = self._line, None
        if line is not None:
            line.close()
            self._clamd.left(error)
        elif self._getting is not None:
            self._getting.cancel()
        self._clamd.over(self)
        if not self.replied.called:
            if error is None:
                self.replied.callback(reply)
            else:
                self.replied.errback(error)


class Scan:
    """
    A body on its way through clamd: a consumer, and the verdict.

    The caller keeps the body: clamd gives nothing back.

    @ivar outcome: fires with the verdict, perhaps before the end of the body, or fails with an L{EngineError};
        cancelling ends everything.
    @ivar detached: called once if the rest of the body is not wanted any more; writing it does no harm.
    """

    def __init__(self, clamd: Clamd) -> None:
        self._clamd = clamd
        self._intake = Intake()
        self._exchange = Exchange(clamd)
        self._exchange.connected, self._exchange.check = self._connected, self._check
        self._sent = 0
        self._opening = wire.INSTREAM
        """what is said before the next byte"""
        self._verdict: Verdict | None = None
        self.detached: Callable[[], object] = lambda: None
        self.outcome: Deferred[Verdict] = Deferred(lambda _: self._exchange.replied.cancel())
        self._exchange.replied.addCallbacks(self._replied, self._failed)

    def start(self) -> None:
        """Get a connection as soon as there is something to say on it: clamd does not wait for ever."""
        self._clamd.entered(self._exchange)
        self._intake.expect(1, self._exchange.start)

    # IConsumer

    def write(self, data: Bytes) -> None:
        """Take more of the body."""
        self._intake.write(data)

    def finish(self) -> None:
        """The body has ended as it should."""
        self._intake.finish()

    def abort(self, reason: Exception, fault: str = "dropped") -> None:
        """
        The body broke off, or nobody wants the verdict.

        @param fault: C{hangs}, if the caller has waited too long: then it counts as clamd's failure.
        """
        self._exchange.fail(self._clamd.error(f"the body broke off ({reason})", fault))

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """Let C{producer}, which must push, be stopped while clamd has enough."""
        self._intake.attach(producer)

    def unregisterProducer(self) -> None:
        """Nothing more comes."""
        self._intake.attach(None)

    # the connection

    def _connected(self, line: Line) -> None:
        self._line = line
        line.full, line.room = self._intake.stop, self._intake.go
        line.owes = lambda: line.is_full
        line.expect(0, self._clamd.limits.idle)
        self._intake.lead(self._send, self._finish)

    def _send(self, data: Bytes) -> None:
        self._sent += len(data)
        if self._sent > self._clamd.limits.most:
            self._tell(TooBig())
            return
        # One write for all of it: a copy costs less than a call of the kernel.
        self._line.write(b"".join((self._opening, *wire.chunks(data))))
        self._opening = b""

    def _finish(self) -> None:
        self._line.owes = lambda: True
        self._exchange.say(self._line, self._opening + wire.END)

    # the verdict

    def _check(self, reply: bytes) -> None:
        verdict = wire.verdict(reply, self._clamd.where)
        if not self._intake.ended and not isinstance(verdict, Found | TooBig):
            raise wire.rubbish("a verdict before it had the whole body", self._clamd.where)
        self._verdict = verdict

    def _replied(self, reply: bytes) -> None:
        assert self._verdict is not None
        self._tell(self._verdict)

    def _tell(self, verdict: Verdict) -> None:
        if not self.outcome.called:
            self._let_go()
            self.outcome.callback(verdict)
            self._exchange.fail(self._clamd.error("nobody waits for it", "dropped"))

    def _failed(self, failure: Failure) -> None:
        if not self.outcome.called:
            self._let_go()
            self.outcome.errback(failure)

    def _let_go(self) -> None:
        unfinished = not self._intake.ended
        self._intake.drop()
        if unfinished:
            self._clamd.handler.soon(self.detached)
