"""
What a stage of a transform chain is, and what it may do with its output.

An author writes a class with L{Transform} as its base and overrides what is not to pass as it is::

    class Upper(Transform):
        def write(self, data: bytes) -> None:
            self.output.write(data.upper())

The chain around it is L{sslintercept.transform.vconnection}; it takes care of pace, waits, errors and ends.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from sslintercept.errors import InterceptError
from sslintercept.profile.profile import Bytes

Later = Deferred[None] | None
"""C{None}, or when the call is really over: until then the stage gets nothing more, and its source is stopped."""


class StageError(InterceptError):
    """A stage of a transform chain raised, announced what it did not give, or took too long."""

    kind = "transform"


class Output(Protocol):
    """Where a stage's bytes go, and its hold on what comes in."""

    @property
    def full(self) -> bool:
        """Whether what follows has enough; bytes written nevertheless are kept. L{Transform.drained} says when not."""

    def write(self, data: Bytes) -> None:
        """Give bytes on; a view may be used again when this returns. After L{finish} they go nowhere."""

    def finish(self) -> None:
        """
        Nothing follows. Once is enough, and it may be said before the input has ended: what is still to come of that is
        then not wanted, and its source is stopped.
        """

    def expect(self, length: int) -> None:
        """
        Announce how many bytes the output has in all; said before the first byte, it becomes the body's length.

        What is written beyond, and an end before, breaks the chain.
        """

    def fail(self, error: Exception) -> None:
        """Break the chain: whoever gets the body sees that it is not whole."""

    def pause(self) -> None:
        """Stop the input, for a reason of the stage's own."""

    def resume(self) -> None:
        """Let the input go on."""


class Transform:
    """
    A stage; as it stands, one that changes nothing.

    Every stage hears L{begin} once, first. Then it hears of the input with L{write} and L{finish}, or L{abort} once at
    any time before its output has finished; nothing comes after that. What it raises breaks its chain and nothing else.

    @cvar sees: what it gets, C{None}: as its transformer says (L{sslintercept.transform.processor.Transformer}).
        C{changes}: whether it may change content, likewise.
    @cvar limited: it breaks its chain when it holds a body for too long; one that takes care of that itself is not.
    @cvar takes_views: it gets memoryviews of shared buffers, valid until its L{write} returns, where others get bytes.
    """

    takes_views = False
    sees: int | None = None
    changes: bool | None = None
    limited = True
    output: Output

    def whole(self, body: bytes) -> bool:
        """
        All of a body is there before anything has begun: true if it passes as it is, and the stage is not needed.

        Called once, first; a stage that says no gets the body as any other.

        @raise InterceptError: it does not pass.
        """
        return False

    def begin(self, output: Output) -> None:
        """Remember where bytes go."""
        self.output = output

    def expect(self, length: int) -> None:
        """The input has so many bytes in all; heard at most once, and not at all where nobody knows."""

    def write(self, data: bytes) -> Later:
        """Take the next bytes, never none."""
        self.output.write(data)
        return None

    def finish(self) -> Later:
        """The input has ended. Whenever all is said, C{output.finish} must be called: here, or later."""
        self.output.finish()
        return None

    def drained(self) -> None:
        """C{output} was full, and has room again."""

    def abort(self, reason: Exception) -> None:
        """The body will not be whole, or nobody wants the rest: let go of everything."""


class Null(Transform):
    """Changes nothing and costs two calls a chunk (ATS: null-transform)."""

    takes_views = True

    def expect(self, length: int) -> None:
        """As many come out."""
        self.output.expect(length)
