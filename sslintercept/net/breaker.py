"""
A circuit breaker: whoever fails again and again is left alone for a while, then tried by one before by all.

Closed is the ordinary state. After a number of failures in a row it opens, and everybody is refused at once instead of
waiting for a time limit. When it has been open long enough it is half open: a few may try. If they succeed it closes;
if one fails it opens again, for twice as long up to a limit.

It owns no clock and no timer: C{now} is an argument.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum
from typing import Final

from sslintercept.errors import EngineError

FAILURES: Final = 5
"""failures in a row that open it"""
OPEN: Final = 5.0
"""seconds that it stays open the first time"""
MOST_OPEN: Final = 120.0
"""seconds that it stays open at most"""
TRIALS: Final = 1
"""who may try at the same time while it is half open"""


class State(Enum):
    """Whether anybody is let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """
    Ask L{allows} before each attempt, and report its end once: L{succeeded}, L{failed}, or L{unknown};
    L{ended} tells which of them it was.

    @ivar opened: how often it has opened; C{refused}: how many were not let through.
    @param failures: in a row, that open it; 0 for a breaker that never does.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        open_seconds: float = OPEN,
        most_open: float = MOST_OPEN,
        trials: int = TRIALS,
    ) -> None:
        self._failures = failures
        self._first = open_seconds
        self._most = most_open
        self._trials = trials
        self._row = 0
        """failures since the last success"""
        self._open_for = open_seconds
        self._until: float | None = None
        """the time at which it is half open; C{None} while it is closed"""
        self._trying = 0
        self.opened = self.refused = 0

    def state(self, now: float) -> State:
        """How it stands."""
        if self._until is None:
            return State.CLOSED
        return State.OPEN if now < self._until else State.HALF_OPEN

    def wait(self, now: float) -> float:
        """Seconds until somebody may try again."""
        return max(0.0, self._until - now) if self._until is not None else 0.0

    def allows(self, now: float) -> bool:
        """Whether somebody may try; a yes while half open is a trial, whose end must be reported."""
        state = self.state(now)
        if state is State.CLOSED:
            return True
        if state is State.HALF_OPEN and self._trying < self._trials:
            self._trying += 1
            return True
        self.refused += 1
        return False

    def succeeded(self, now: float) -> None:
        """An attempt went well; one that began before it opened does not close it."""
        if self.state(now) is State.OPEN:
            return
        self._row = self._trying = 0
        self._until = None
        self._open_for = self._first

    def failed(self, now: float) -> None:
        """An attempt failed by the other side's doing."""
        state = self.state(now)
        if state is State.OPEN:
            return
        self._row += 1
        if state is State.HALF_OPEN:
            self._open_for = min(self._open_for * 2, self._most)
        elif not self._failures or self._row < self._failures:
            return
        self._trying = 0
        self._until = now + self._open_for
        self.opened += 1

    def ended(self, error: BaseException | None, ours: Container[str], now: float) -> None:
        """An attempt at an engine ended with that; C{ours}: faults that tell nothing of the engine's health."""
        if error is None:
            self.succeeded(now)
        elif isinstance(error, EngineError) and error.fault not in ours:
            self.failed(now)
        else:
            self.unknown(now)

    def refusal(self, now: float) -> str:
        """Why nobody is let through, in words."""
        return f"it failed too often, and is left alone for {self.wait(now):.0f} s"

    def unknown(self, now: float) -> None:
        """An attempt ended without telling anything of the other side: the caller went away."""
        if self._trying:
            self._trying -= 1
