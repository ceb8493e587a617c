"""What is due when, on a single timer: time limits of attempts, look-ups and waiters, most of which never come true."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall

STALE = 256
"""alarms that may be kept although nobody needs them any more"""


class Clock(Protocol):
    """Twisted's clock."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


class Limited(Protocol):
    """What has a time limit; C{live} while that counts."""

    live: bool


L = TypeVar("L", bound=Limited)


class Alarms(Generic[L]):
    """
    Alarms; those of the dead are dropped as they are met, so that to end early costs nothing.

    @param due: called with what is due and live.
    """

    def __init__(self, clock: Clock, due: Callable[[L], object]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[float, int, L]] = []
        self._count = 0
        self._prune_at = STALE
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, when: float, what: L) -> None:
        """C{what} is due at C{when}."""
        heap = self._heap
        if len(heap) >= self._prune_at:
            heap[:] = [alarm for alarm in heap if alarm[2].live]
            heapify(heap)
            self._prune_at = 2 * len(heap) + STALE
        self._count += 1
        heappush(heap, (when, self._count, what))
        if self._timer is None or when < self._timer_at:
            self._arm()

    def stop(self) -> None:
        """Nothing is due any more."""
        self._heap.clear()
        self._arm()

    def _next(self) -> float | None:
        heap = self._heap
        while heap and not heap[0][2].live:
            heappop(heap)
        return heap[0][0] if heap else None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._next()
        if when is not None:
            self._timer_at = when
            self._timer = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while (when := self._next()) is not None and when <= now:
            self._due(heappop(self._heap)[2])
        self._arm()
