"""
What comes of a modification: unchanged, another message, or an answer in the origin's place; and its body as it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from sslintercept.errors import EngineError, InterceptError
from sslintercept.icap.verdict import Threat
from sslintercept.profile.profile import Bytes

HIGH_WATER: Final = 64 * 1024
"""bytes of an answer's body that nobody reads yet at which the server is stopped"""


class Report(NamedTuple):
    """
    What the service said beside the message.

    @ivar tag: what this verdict may be kept under, or C{None}: not at all.
    @ivar fields: the fields of its answer that begin with X-.
    """

    status: int
    tag: bytes | None
    threats: tuple[Threat, ...]
    fields: tuple[tuple[bytes, bytes], ...]


class Unchanged(NamedTuple):
    """
    The message may pass as it is.

    @ivar kept: the body as far as it was written, for the caller to pass on; then comes the rest, which the caller
        still has and which is not to be written here any more. C{None} only where the caller keeps the body itself.
    """

    kept: bytes | None
    report: Report


class Modified(NamedTuple):
    """Another message of the same kind takes its place: a head of HTTP with its empty line, and a body or none."""

    head: bytes
    body: AnswerBody | None
    report: Report


class Answered(NamedTuple):
    """A response to the request that was shown: the origin is not asked."""

    head: bytes
    body: AnswerBody | None
    report: Report


Outcome = Unchanged | Modified | Answered


def _nothing() -> None:
    """Nobody to stop."""


class AnswerBody:
    """
    A body as it comes from the service: kept until somebody reads, and then handed straight on.

    It is a push producer to whoever reads. C{stopProducing} means that nobody does any more.
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
        self.error: EngineError | None = None

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

    def fail(self, error: EngineError) -> None:
        """It breaks off."""
        self.error = error
        if self._receive is not None:
            self._failed(error)
