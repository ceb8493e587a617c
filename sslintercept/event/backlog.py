"""
What waits for a thread: bounded, in order, and nobody who brings something waits for the thread.

The reactor's thread puts, one other thread takes. What does not fit is dropped and counted; so is what comes after the
end. The thread is asked to end by a time, and whatever waits still then is lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any, Final, Generic, TypeAlias, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")
Elsewhere: TypeAlias = "Callable[[Callable[[], Any]], Deferred[Any]]"  # Any: passes on whatever the call returns
"""Calls a function on another thread, for example C{deferToThread}."""

GRACE: Final = 0.1
"""seconds beyond the time it was given that are waited for the thread"""


class Backlog(Generic[T]):
    """
    Things on their way to a thread.

    @ivar dropped: those for which there was no room, or that came after L{end}.
    """

    def __init__(self, most: int) -> None:
        """@param most: of the sizes of all that wait, and are not done."""
        self.dropped = 0
        self._most = most
        self._held = 0
        self._items: deque[tuple[T, int]] = deque()
        self._changed = Condition()
        self._deadline: float | None = None
        self._thread: Thread | None = None

    def start(self, run: Callable[[], object], name: str) -> None:
        """Start the thread, which is C{run}: after the process has forked, since threads do not survive that."""
        self._thread = Thread(target=run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T, size: int) -> bool:
        """Let it wait; whether there was room."""
        with self._changed:
            if self._held + size > self._most or self._deadline is not None:
                self.dropped += 1
                return False
            self._held += size
            self._items.append((item, size))
            self._changed.notify()
        return True

    def end(self, seconds: float) -> bool:
        """Let the thread finish what waits, and end. Blocks, C{seconds} at most; whether the thread has ended."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify()
        if self._thread is None:
            return True
        self._thread.join(seconds + GRACE)
        return not self._thread.is_alive()

    def __len__(self) -> int:
        return len(self._items)

    # in the thread

    def take(self, most: int, seconds: float) -> list[tuple[T, int]]:
        """The next ones with their sizes, at most so many; waits for the first, C{seconds} at most."""
        with self._changed:
            if not self._items and self._deadline is None:
                self._changed.wait(seconds)
            return [self._items.popleft() for _ in range(min(most, len(self._items)))]

    def done(self, size: int) -> None:
        """So much has been dealt with, and gives room."""
        with self._changed:
            self._held -= size

    def pause(self, seconds: float) -> None:
        """Wait before another attempt; not once the end was asked for."""
        with self._changed:
            if self._deadline is None:
                self._changed.wait_for(self._is_ending, seconds)

    def _is_ending(self) -> bool:
        return self._deadline is not None

    @property
    def ending(self) -> bool:
        """Whether the end was asked for."""
        return self._deadline is not None

    @property
    def late(self) -> bool:
        """Whether the time to end has come."""
        return self._deadline is not None and time.monotonic() >= self._deadline
