"""The body of an answer as it comes: kept until somebody reads, and then handed straight on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sslintercept.errors import InterceptError
from sslintercept.profile.profile import Bytes

HIGH_WATER: Final = 64 * 1024
"""bytes that nobody reads yet at which the server is stopped"""


def _nothing() -> None:
    """Nobody to stop."""


class AnswerBody:
    """
    A push producer to whoever reads; C{stopProducing} means that nobody does any more.

    @ivar ended: all of it has come; C{error}: why no more does.
    @ivar gone: called when nobody reads any more.
    """

    __slots__ = ("_end", "_failed", "_full", "_go", "_kept", "_paused", "_receive", "_stop", "ended", "error", "gone")

    def __init__(self, stop: Callable[[], object], go: Callable[[], object]) -> None:
        self._stop, self._go = stop, go
        self._kept = bytearray()
        self._receive: Callable[[Bytes], object] | None = None
        self._end: Callable[[], object] = _nothing
        self._failed: Callable[[InterceptError], object] = lambda error: None
        self._full = self._paused = False
        self.gone: Callable[[], object] = _nothing
        self.ended = False
        self.error: InterceptError | None = None

    # whoever reads

    def read_to(
        self,
        receive: Callable[[Bytes], object],
        end: Callable[[], object],
        failed: Callable[[InterceptError], object],
    ) -> None:
        """
        Give what is kept, and from now on everything at once; views live as long as the call.

        @param end: called once behind the last byte; or C{failed}, if it breaks off.
        """
        self._receive, self._end, self._failed = receive, end, failed
        kept, self._kept = self._kept, bytearray()
        if kept:
            receive(bytes(kept))
        if self.error is not None:
            failed(self.error)
        elif self.ended:
            end()
        elif self._full:
            self._full = False
            if not self._paused:
                self._go()

    def pauseProducing(self) -> None:
        """Enough for now."""
        if not self._paused:
            self._paused = True
            if not self._full:
                self._stop()

    def resumeProducing(self) -> None:
        """There is room."""
        if self._paused:
            self._paused = False
            if not self._full:
                self._go()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self._receive, self._end, self._failed = lambda data: None, _nothing, lambda error: None
        self._kept = bytearray()
        self.gone()

    # whoever brings it

    @property
    def stopped(self) -> bool:
        """Whether it is the reader that we wait for."""
        return self._full or self._paused

    def source(self, stop: Callable[[], object], go: Callable[[], object]) -> None:
        """From now on somebody else brings it."""
        self._stop, self._go = stop, go
        if self.stopped:
            stop()

    def write(self, data: Bytes) -> None:
        """More of it."""
        if self._receive is not None:
            self._receive(data)
            return
        self._kept += data
        if len(self._kept) > HIGH_WATER and not self._full:
            self._full = True
            if not self._paused:
                self._stop()

    def finish(self) -> None:
        """All of it has come."""
        self.ended = True
        if self._receive is not None:
            self._end()

    def fail(self, error: InterceptError) -> None:
        """It breaks off."""
        self.error = error
        if self._receive is not None:
            self._failed(error)
