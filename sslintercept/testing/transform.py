"""
A transform chain in memory, for the tests of stages: its source, its reader and its time are the test's.

::

    pipe = Pipe(Upper())
    pipe.send(b"hello ", b"world")
    assert pipe.got == b"HELLO WORLD"

Nothing here waits or opens a socket. L{splits} cuts an input in the ways that find what goes wrong at borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from sslintercept.errors import InterceptError
from sslintercept.profile.profile import Bytes
from sslintercept.transform.stage import Transform
from sslintercept.transform.vconnection import PATIENCE, TransformVConnection


class PipeLoop(Clock):
    """A clock that stands still, and calls that come when the present call stack has ended."""

    def soon(self, call: Callable[[], object]) -> None:
        """See L{sslintercept.net.handler.NetHandler.soon}."""
        self.callLater(0, call)

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall:
        """See L{sslintercept.net.handler.NetHandler.later}."""
        return self.callLater(delay, call)


class Pipe:
    """
    A chain between a source that can be stopped and a reader that may stand still.

    @ivar announced: each length that the chain reported with its readiness: exactly one, C{None} for an unknown one.
    @ivar ended: how often the reader heard that this is all.
    @ivar error: what broke the chain.
    @ivar detached: whether the chain said that it needs no more input.
    @ivar stopped: whether the source has to wait now.
    @ivar stalled: set it, and the reader takes nothing until L{drain}; what comes nevertheless is in C{waiting}.

    @param length: of the input, if the source knows it.
    @param reading: whether the reader begins by itself as soon as there is output.
    """

    high_water = 64 * 1024
    """bytes waiting at the reader above which it stops the chain"""

    def __init__(
        self, *stages: Transform, length: int | None = None, reading: bool = True, patience: float = PATIENCE
    ) -> None:
        self.loop = PipeLoop()
        self.chain = TransformVConnection(
            stages, self.loop, ready=self._ready, failed=self._failed, detached=self._detached, patience=patience
        )
        self.chain.registerProducer(self, True)
        self.announced: list[int | None] = []
        self.ended = 0
        self.error: InterceptError | None = None
        self.detached = False
        self.stopped = False
        self.stalled = False
        self.waiting = 0
        self._reading = reading
        self._held_up = False
        self._got = bytearray()
        self.chain.start(length)

    @property
    def got(self) -> bytes:
        """What the reader got so far."""
        return bytes(self._got)

    # the source

    def write(self, *pieces: Bytes) -> None:
        """Bring pieces of the body, whether or not the chain wants them; a view is taken back afterwards."""
        for piece in pieces:
            if not isinstance(piece, memoryview):
                self.chain.write(piece)
                continue
            shared = bytearray(piece)
            self.chain.write(memoryview(shared))
            shared[:] = b"\xaa" * len(shared)
        self.loop.advance(0)

    def finish(self) -> None:
        """The body has ended."""
        self.chain.finish()
        self.loop.advance(0)

    def send(self, *pieces: Bytes) -> None:
        """Bring a whole body."""
        self.write(*pieces)
        self.finish()

    def abort(self, reason: Exception | None = None) -> None:
        """The body breaks off."""
        self.chain.abort(reason or ConnectionError("the source broke off"))
        self.loop.advance(0)

    def pauseProducing(self) -> None:
        """The chain has enough."""
        self.stopped = True

    def resumeProducing(self) -> None:
        """The chain wants more."""
        self.stopped = False

    def stopProducing(self) -> None:
        """Not called: a chain says that it is detached."""

    # the reader

    def read(self) -> None:
        """Begin to read, where the test has not left that to us."""
        self.chain.read_to(self._take, self._end)
        self.loop.advance(0)

    def drain(self) -> None:
        """The reader takes all that waits, and goes on."""
        self.stalled = False
        self.waiting = 0
        if self._held_up:
            self._held_up = False
            self.chain.resumeProducing()
        self.loop.advance(0)

    def leave(self) -> None:
        """The reader goes away."""
        self.chain.stopProducing()
        self.loop.advance(0)

    def _ready(self, length: int | None) -> None:
        self.announced.append(length)
        if self._reading:
            self.chain.read_to(self._take, self._end)

    def _take(self, data: Bytes) -> None:
        self._got += data
        if self.stalled:
            self.waiting += len(data)
            if self.waiting > self.high_water and not self._held_up:
                self._held_up = True
                self.chain.pauseProducing()

    def _end(self) -> None:
        self.ended += 1

    def _failed(self, error: InterceptError) -> None:
        self.error = error

    def _detached(self) -> None:
        self.detached = True


def splits(data: bytes, longest: int = 64) -> Iterator[list[bytes]]:
    """
    Cut C{data} in every way that has a meaning of its own: whole, at each of its first and last C{longest} places,
    and into single bytes if it is short enough for that to be quick.
    """
    yield [data]
    places = set(range(1, min(longest, len(data)))) | set(range(max(1, len(data) - longest), len(data)))
    for at in sorted(places):
        yield [data[:at], data[at:]]
    if len(data) <= 64 * 1024:
        yield [data[at : at + 1] for at in range(len(data))]


def transformed(data: bytes, *stages: Transform) -> bytes:
    """
    What C{stages} make of a whole body.

    @raise InterceptError: the chain broke.
    @raise AssertionError: it did not end.
    """
    pipe = Pipe(*stages, length=len(data))
    pipe.send(data) if data else pipe.finish()
    if pipe.error is not None:
        raise pipe.error
    assert pipe.ended == 1, "the output has not ended; does a stage wait?"
    return pipe.got
