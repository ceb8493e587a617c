"""
C{throttle}: lets each body through at a pace.

Good for downloads that should leave room for others, and for trying out how a page behaves on a slow line::

    [transform:slow-videos]
    use = throttle
    match = type:video/* size:10MiB-
    rate = 500KiB
    burst = 2MiB

The first C{burst} bytes go at once, and after a pause as many as the pause has earned, C{burst} at most; then C{rate}
bytes a second go, ten times a second. While a body has to wait its source is stopped, so that no more of it is held
than the piece that came last; the sender on the other side of the net slows down with it.

Limits. The pace is that of each body, not of a client or of all together: a client that opens ten connections gets ten
times as much. It counts bytes as they are on the wire, compressed ones if they are compressed; heads are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from twisted.internet.interfaces import IDelayedCall

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.transform.arrange import Sees
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Transformer
from sslintercept.transform.stage import Transform

TICK: Final = 0.1
"""seconds between two pieces of a body that has to wait"""


@dataclass(frozen=True, slots=True)
class ThrottleOptions:
    """Of C{throttle}."""

    rate: int = setting(units.size("1KiB", "1GiB"), "1MiB", "bytes of each body in a second")
    burst: int = setting(units.size("1KiB", "1GiB"), "256KiB", "bytes that may go at once, if none have gone for long")


class Pace(Transform):
    """
    Lets bytes through as time allows.

    A timer runs only while less than C{burst} may go, and ends with the body.

    @param later: calls back after a number of seconds.
    """

    def __init__(self, rate: int, burst: int, later: Callable[[float, Callable[[], object]], IDelayedCall]) -> None:
        self._earned = rate * TICK
        """bytes that may go for each tick"""
        self._burst = float(max(burst, self._earned))
        self._may = self._burst
        """bytes that may go now"""
        self._rest = memoryview(b"")
        """of the piece that came last"""
        self._later = later
        self._timer: IDelayedCall | None = None

    def expect(self, length: int) -> None:
        self.output.expect(length)

    def write(self, data: bytes) -> None:
        self._rest = memoryview(data)
        self._flow()

    def _flow(self) -> None:
        size = min(len(self._rest), int(self._may))
        if size and not self.output.full:
            given, self._rest = self._rest[:size], self._rest[size:]
            self._may -= size
            if self._timer is None:
                self._timer = self._later(TICK, self._tick)
            self.output.write(given)
        if self._rest:
            self.output.pause()
        else:
            self.output.resume()

    def _tick(self) -> None:
        self._timer = None
        self._may = min(self._burst, self._may + self._earned)
        if self._may < self._burst:
            self._timer = self._later(TICK, self._tick)
        if self._rest:
            self._flow()

    def drained(self) -> None:
        if self._rest:
            self._flow()

    def finish(self) -> None:
        self._stop()
        self.output.finish()

    def abort(self, reason: Exception) -> None:
        self._rest = memoryview(b"")
        self._stop()

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class Throttle(Transformer):
    """Gives each body a pace."""

    sees = Sees.CODED
    changes = False
    partial = True

    def __init__(self, options: ThrottleOptions) -> None:
        self.options = options

    def transform(self, message: Message) -> Pace:
        return Pace(self.options.rate, self.options.burst, message.later)
