"""
Where a body is put that goes to an engine: kept until somebody takes it, and then handed straight on.

Whoever brings the body writes, and is told to stop and to go on. Until L{Intake.lead} what comes is kept, up to L{HOLD}
bytes and what was under way; so a request can wait for a connection, be said again on another one, or give back what
it took.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from sslintercept.errors import InterceptError
from sslintercept.profile.profile import Bytes

HOLD: Final = 64 * 1024
"""bytes kept at which whoever brings the body is stopped"""
MOST_KEPT: Final = 4 * 1024 * 1024
"""bytes kept at which one that does not stop is refused"""


class Producer(Protocol):
    """Who brings the body: an IPushProducer."""

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...


def _drop(data: Bytes) -> None:
    """Nobody wants it."""


def _nothing() -> None:
    """Nobody waits for the end."""


class Intake:
    """
    @ivar size: bytes written so far.
    @ivar kept: those kept; C{whole}: that is all that was written.
    @ivar ended: nothing more comes.
    """

    __slots__ = ("_end", "_enough", "_producer", "_receive", "_retains", "_stopped", "_wanted", "ended", "kept", "size")

    def __init__(self) -> None:
        self.kept = bytearray()
        self.size = 0
        self.ended = False
        self._receive: Callable[[Bytes], object] | None = None
        self._end: Callable[[], object] = _nothing
        self._retains = False
        self._wanted = 0
        self._enough: Callable[[], object] | None = None
        self._producer: Producer | None = None
        self._stopped = False

    @property
    def whole(self) -> bool:
        """Whether every byte that was written is kept."""
        return len(self.kept) == self.size

    # whoever brings the body

    def write(self, data: Bytes) -> None:
        """
        Take more of it.

        @raise InterceptError: L{MOST_KEPT} are kept, and the caller was told to stop long before.
        """
        self.size += len(data)
        receive = self._receive
        if receive is not None and not self._retains:
            receive(data)
            return
        self.kept += data
        if len(self.kept) > MOST_KEPT:
            raise InterceptError("a body comes although it was stopped", where="engine", remedy="report the caller")
        if receive is not None:
            receive(data)
        elif self._enough is not None:
            self._look()
        elif len(self.kept) > HOLD:
            self.stop()

    def finish(self) -> None:
        """It has ended as it should."""
        self.ended = True
        if self._receive is not None:
            self._end()
        elif self._enough is not None:
            self._look()

    def attach(self, producer: Producer | None) -> None:
        """From now on it is C{producer} that is stopped and set going, or nobody."""
        self._producer = producer
        if self._stopped and producer is not None:
            producer.pauseProducing()

    # whoever takes it

    def expect(self, size: int, enough: Callable[[], object]) -> None:
        """Call C{enough} once, when C{size} bytes are kept or it has ended; then nothing more is wanted for now."""
        self._receive = None
        self._wanted, self._enough = size, enough
        self.go()
        self._look()

    def _look(self) -> None:
        if self._enough is not None and (self.ended or len(self.kept) >= self._wanted):
            enough, self._enough = self._enough, None
            if not self.ended:
                self.stop()
            enough()

    def lead(
        self, receive: Callable[[Bytes], object], end: Callable[[], object], at: int = 0, retain: bool = False
    ) -> None:
        """
        Give what is kept from C{at} on, and from now on everything at once.

        @param retain: keep everything nevertheless.
        """
        self._enough = None
        rest = bytes(memoryview(self.kept)[at:])
        if not retain:
            self.kept = bytearray()
        self._retains = retain
        self._receive, self._end = receive, end
        self.go()
        if rest:
            receive(rest)
        if self.ended and self._receive is receive:
            end()

    def hold(self) -> None:
        """Keep what comes again."""
        self._receive = None
        if not self.ended and len(self.kept) > HOLD:
            self.stop()

    def drop(self) -> None:
        """Nobody wants any more of it."""
        self._enough = None
        self._receive, self._end, self._retains = _drop, _nothing, False
        self.kept = bytearray()
        self.go()

    def stop(self) -> None:
        """Enough for now."""
        if not self._stopped:
            self._stopped = True
            if self._producer is not None:
                self._producer.pauseProducing()

    def go(self) -> None:
        """There is room."""
        if self._stopped:
            self._stopped = False
            if self._producer is not None:
                self._producer.resumeProducing()
