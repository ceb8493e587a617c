"""
Events on their way to a collector of syslog: one connection, opened again when it is lost, and a bounded queue.

Syslog over TCP has no receipts: what was handed to the kernel when a connection breaks may be lost. Everything else
waits here, and what does not fit is counted, and told first of all when the collector is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.errors import InterceptError
from sslintercept.event.record import Event
from sslintercept.event.syslog import Origin, frame, lost, message
from sslintercept.net.line import Line, OpenLine

MOST_WAITING: Final = 4 * 1024 * 1024
"""bytes of messages that wait for a collector"""
FIRST_RETRY: Final = 1.0
MOST_RETRY: Final = 60.0
"""seconds until a connection is tried again; twice as long each time"""
STABLE: Final = 30.0
"""seconds after which a connection was a good one, and the next may be opened at once"""
STALLED: Final = 60.0
"""seconds for which a collector may take nothing of what is sent"""
POLL: Final = 0.05
"""seconds between two looks whether all is sent, at the end"""


class Clock(Protocol):
    """Twisted's clock."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


class SyslogSender:
    """
    The sink of one collector.

    @param opens: makes a connection; may be changed, which counts from the next connection on.
    @ivar sent: events handed to a connection; C{dropped}: those for which there was no room.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        opens: OpenLine,
        origin: Callable[[], Origin],
        clock: Clock,
        wall_clock: Callable[[], float],
    ) -> None:
        """
        @param name: of the collector, for the log.
        @param origin: asked at the start, in the process that stays.
        """
        self.name, self.opens = name, opens
        self.sent = self.dropped = 0
        self._clock, self._wall_clock = clock, wall_clock
        self._ask_origin = origin
        self._origin: Origin
        self._frames: deque[bytes] = deque()
        self._waiting = 0
        self._noticed = 0
        self._line: Line | None = None
        self._opening: Deferred[Line] | None = None
        self._retry: IDelayedCall | None = None
        self._delay = FIRST_RETRY
        self._since = 0.0
        self._failing = False
        self._over = self._stopped = False
        self._ended: Deferred[None] | None = None

    def start(self) -> None:
        """Connect, so that a mistake shows at once. Called before anything is told."""
        self._origin = self._ask_origin()
        self._connect()

    def tell(self, event: Event) -> None:
        """Send it, now or when possible."""
        data = frame(message(event, self._origin))
        if self._over or self._waiting + len(data) > MOST_WAITING:
            self.dropped += 1
            return
        self._frames.append(data)
        self._waiting += len(data)
        self._flush()

    def reopen(self) -> None:
        """Try at once, if a connection is waited for: what was wrong may have been put right."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
            self._delay = FIRST_RETRY
            self._connect()

    def close(self, seconds: float) -> Deferred[None]:
        """Send what waits, if there is a connection or one comes in time; fires after C{seconds} at the latest."""
        self._over = True
        ended: Deferred[None] = Deferred()
        self._ended = ended
        self._linger(self._clock.seconds() + seconds)
        return ended

    # the connection

    def _connect(self) -> None:
        self._retry = None
        self._opening = opening = self.opens()
        opening.addCallbacks(self._opened, self._refused)
        opening.addErrback(lambda reason: self.log.failure("syslog {name}", reason, name=self.name))

    def _opened(self, line: Line) -> None:
        self._opening = None
        if self._stopped:
            line.close()
            return
        self._line = line
        self._since = self._clock.seconds()
        line.lost = self._lost
        line.room = self._flush
        # A collector says nothing; but it takes what it is sent.
        line.owes = lambda: bool(line.vc.pending())
        line.expect(0, STALLED)
        if self._failing or self.dropped > self._noticed:
            self._failing = False
            count = self.dropped - self._noticed
            self._noticed = self.dropped
            if count:
                line.write(frame(lost(count, self._wall_clock(), self._origin)))
            self.log.info("syslog {name}: connected again; {count} events were lost", name=self.name, count=count)
        self._flush()

    def _refused(self, reason: Failure) -> None:
        self._opening = None
        if self._stopped:
            return
        error = reason.value
        self._say(error.what if isinstance(error, InterceptError) else reason.getErrorMessage())
        self._again()

    def _lost(self, fault: str, why: str) -> None:
        self._line = None
        if self._clock.seconds() - self._since >= STABLE:
            self._delay = FIRST_RETRY
        self._say(why)
        self._again()

    def _again(self) -> None:
        self._retry = self._clock.callLater(self._delay, self._connect)
        self._delay = min(self._delay * 2, MOST_RETRY)

    def _say(self, why: str) -> None:
        """Of failures in a row, the first."""
        if not self._failing:
            self._failing = True
            self.log.warn(
                "syslog {name}: {why}; events wait, {most} bytes at most", name=self.name, why=why, most=MOST_WAITING
            )

    def _flush(self) -> None:
        """Hand over what waits for as long as the connection takes it."""
        line = self._line
        while line is not None and self._frames and not line.is_full and not line.closed:
            data = self._frames.popleft()
            self._waiting -= len(data)
            self.sent += 1
            line.write(data)
            line = self._line

    # the end

    def _linger(self, end: float) -> None:
        pending = self._line is not None and self._line.vc.pending()
        if (self._frames or pending) and self._clock.seconds() < end:
            self._clock.callLater(POLL, self._linger, end)
            return
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if left := len(self._frames):
            self.log.warn("syslog {name}: {left} events were not sent in time", name=self.name, left=left)
        line, self._line = self._line, None
        if line is None:
            self._gone()
        else:
            # What the kernel has is on its way; a process that ended now would cut it.
            line.vc.closed = self._gone
            line.close()

    def _gone(self, _connection: object = None) -> None:
        assert self._ended is not None
        self._ended.callback(None)
