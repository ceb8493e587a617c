"""
A bounded number of places, and a bounded queue before them: how many speak to an engine at the same time.

The queue is bounded in number and in time, first come first served. Who waits can give up by cancelling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from sslintercept.errors import EngineError

MOST_WAITING: Final = 256
"""who may wait for a place"""
PATIENCE: Final = 10.0
"""seconds that one waits at most"""


class Later(Protocol):
    """What is needed of the reactor (L{sslintercept.net.handler.NetHandler})."""

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...


class Waiter:
    """One who waits: its Deferred, and the end of its patience."""

    __slots__ = ("got", "timer")

    def __init__(self, got: Deferred[None]) -> None:
        self.got = got
        self.timer: IDelayedCall | None = None


class Places:
    """
    @ivar taken: places in use.
    @ivar most: places in all; lowering it takes nobody's place away.
    @param where: what errors call the engine.
    """

    def __init__(
        self, loop: Later, where: str, most: int, *, most_waiting: int = MOST_WAITING, patience: float = PATIENCE
    ) -> None:
        self._loop = loop
        self._where = where
        self.most = most
        self._most_waiting = most_waiting
        self._patience = patience
        self._queue: deque[Waiter] = deque()
        self._closed = False
        self.taken = 0

    @property
    def waiting(self) -> int:
        """Who waits now."""
        return len(self._queue)

    def take(self) -> Deferred[None]:
        """
        A place, at once or as soon as one is free; each must be given back with L{free}. Cancelling gives up waiting.

        It fails with an L{EngineError}: C{busy}, if the queue is full or the wait too long; C{stopped}.
        """
        waiter = Waiter(Deferred(lambda _: self._leave(waiter)))
        if self._closed:
            waiter.got.errback(self._error("it is being stopped", "stopped"))
        elif self.taken < self.most and not self._queue:
            self.taken += 1
            waiter.got.callback(None)
        elif len(self._queue) >= self._most_waiting:
            waiter.got.errback(self._error(f"{self._most_waiting} wait for it already", "busy"))
        else:
            self._queue.append(waiter)
            waiter.timer = self._loop.later(self._patience, lambda: self._too_long(waiter))
        return waiter.got

    def free(self) -> None:
        """A place is given back; whoever waits longest gets it."""
        self.taken -= 1
        self.let_in()

    def let_in(self) -> None:
        """Let in whoever there is room for: C{most} may have grown."""
        while self._queue and self.taken < self.most:
            waiter = self._queue[0]
            self._leave(waiter)
            self.taken += 1
            waiter.got.callback(None)

    def close(self) -> None:
        """Send everybody away."""
        self._closed = True
        for waiter in list(self._queue):
            self._leave(waiter)
            waiter.got.errback(self._error("it is being stopped", "stopped"))

    def _leave(self, waiter: Waiter) -> None:
        if waiter.timer is not None:
            self._queue.remove(waiter)
            if waiter.timer.active():
                waiter.timer.cancel()
            waiter.timer = None

    def _too_long(self, waiter: Waiter) -> None:
        self._leave(waiter)
        waiter.got.errback(self._error(f"no place in {self._patience:g} s", "busy"))

    def _error(self, what: str, fault: str) -> EngineError:
        return EngineError(what, where=self._where, remedy="allow it more connections, or use fewer", fault=fault)
