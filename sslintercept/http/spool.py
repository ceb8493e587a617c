"""
A body that waits in a file without a name: written as it comes, and read from its beginning, perhaps while more comes.

To whoever brings the body a spool is a consumer, to whoever takes it a producer. Until somebody takes it everything
goes to the file. Then the file is given first, what had not been written after it, and from there on what comes passes
straight through; meanwhile the source stands still. The disk is used on threads, one transfer at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.errors import InterceptError
from sslintercept.inspect.memory import Budget
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.tunnel import Producer, Source

CHUNK: Final = 256 * 1024
"""bytes read at once"""
HIGH_WATER: Final = 1 << 20
"""bytes that wait for the disk at which the source is stopped"""

Elsewhere = Callable[[Callable[[], Any]], Deferred[Any]]  # Any: whatever the call returns
"""runs what takes a while on a thread"""

log = Logger()


class Loop(Protocol):
    """What a spool needs of the reactor."""

    def soon(self, call: Callable[[], object]) -> None: ...


class SpoolError(InterceptError):
    """There is no room for a body, or its file cannot be written or read."""

    kind = "waiting"


class Spool:
    """
    @ivar size: bytes that have come.
    @ivar written: bytes that are in the file.

    @param file: open, without a name; closed by L{close}.
    @param budget: of bytes in all such files.
    @param whole: called once when all has come, and is in the file; not if somebody takes it before.
    @param failed: called once when the file takes no more. What has come is still here, and may be taken.
    """

    __slots__ = (
        "_at",
        "_budget",
        "_busy",
        "_closed",
        "_elsewhere",
        "_ended",
        "_failed",
        "_file",
        "_held",
        "_loop",
        "_paused",
        "_pending",
        "_producer",
        "_reserved",
        "_source",
        "_stuck",
        "_through",
        "_waiting",
        "_whole",
        "size",
        "written",
    )

    def __init__(
        self,
        file: IO[bytes],
        budget: Budget,
        loop: Loop,
        elsewhere: Elsewhere,
        *,
        whole: Callable[[], object],
        failed: Callable[[SpoolError], object],
    ) -> None:
        self._file = file
        self._budget, self._reserved = budget, 0
        self._loop, self._elsewhere = loop, elsewhere
        self._whole, self._failed = whole, failed
        self._pending: deque[bytes] = deque()
        self._waiting = 0
        """bytes that are pending"""
        self._busy = False
        """a thread uses the file"""
        self._stuck = self._ended = self._closed = False
        self._source: Source | None = None
        self._held = False
        self._producer: Producer | None = None
        """who takes it"""
        self._at = 0
        self._through = False
        """it has everything, and gets what comes"""
        self._paused = False
        self.size = self.written = 0

    def reserve(self, size: int) -> bool:
        """Whether there is room for so many bytes in all; it is kept."""
        more = size - self._reserved
        if more > 0:
            if not self._budget.take(more):
                return False
            self._reserved = size
        return True

    @property
    def read(self) -> bool:
        """Whether somebody takes it at present."""
        return self._producer is not None and self._producer.alive

    # what comes

    def write(self, data: Bytes) -> None:
        """Take the next bytes (IConsumer)."""
        if self._closed:
            return
        self.size += len(data)
        if self._through and self._producer is not None:
            self._producer.receive(data)
            return
        self._pending.append(bytes(data))
        self._waiting += len(data)
        if self._producer is None and not self._stuck:
            if self.reserve(self.size):
                self._save()
            else:
                self._fail("too much waits to be inspected")
        self._judge()

    def end(self) -> None:
        """All has come."""
        self._ended = True
        if self._through and self._producer is not None:
            self._producer.end(truncated=False)
        elif self._producer is not None:
            self._give()
        else:
            self._settle()

    def registerProducer(self, producer: Source, streaming: bool) -> None:
        """Who brings it (IConsumer)."""
        self._source = producer
        self._judge()

    def unregisterProducer(self) -> None:
        """Nothing more comes (IConsumer)."""
        self._source, self._held = None, False

    def _judge(self) -> None:
        """Stop the source, or let it go on, if that has changed."""
        if self._producer is None:
            held = self._stuck or self._waiting > HIGH_WATER
        else:
            held = self._paused or not self._through
        source = self._source
        if held is not self._held and source is not None and not self._closed:
            self._held = held
            if held:
                source.pauseProducing()
            else:
                source.resumeProducing()

    # the file

    def _save(self) -> None:
        if self._busy or self._stuck or self._producer is not None or not self._pending:
            return
        pieces = tuple(self._pending)
        self._busy = True
        saving = self._elsewhere(partial(put, self._file.fileno(), pieces, self.written))
        saving.addCallbacks(lambda size: self._saved(len(pieces), size), self._refused)

    def _saved(self, pieces: int, size: int) -> None:
        if self._is_over():
            return
        for _ in range(pieces):
            self._pending.popleft()
        self._waiting -= size
        self.written += size
        if self._producer is not None:
            self._give()
        else:
            self._save()
            self._settle()
            self._judge()

    def _settle(self) -> None:
        """Say that it is whole, if it is."""
        if self._ended and not self._busy and not self._pending and not self._stuck and not self._closed:
            self._whole()

    def _refused(self, failure: Failure) -> None:
        if self._is_over():
            return
        if not failure.check(OSError):
            log.failure("a file of bodies that wait failed", failure=failure)
        self._fail(f"its file cannot be written ({getattr(failure.value, 'strerror', None) or failure.value})")
        self._give()

    def _is_over(self) -> bool:
        """A thread has done its work: true if that came too late."""
        self._busy = False
        if self._closed:
            self._file.close()
        return self._closed

    def _fail(self, what: str) -> None:
        if not self._stuck:
            self._stuck = True
            self._failed(SpoolError(what, where="waiting page", remedy="see [inspection] waiting_size"))
            self._judge()

    # who takes it

    def lead(self, producer: Producer) -> None:
        """From now on give it to C{producer}, whose source this is, from the beginning."""
        self._producer, self._at, self._through = producer, 0, False
        self._judge()
        self._give()

    def _give(self) -> None:
        """Give what is next, if whoever takes it wants more."""
        producer = self._producer
        if producer is None or self._closed or self._busy or self._paused or self._through:
            return
        if not producer.alive:
            self.stopProducing()
        elif self._at < self.written:
            self._busy = True
            size = min(CHUNK, self.written - self._at)
            reading = self._elsewhere(partial(os.pread, self._file.fileno(), size, self._at))
            reading.addCallbacks(lambda data: self._got(data, producer), lambda _: self._got(b"", producer))
        elif self._pending:
            data = self._pending.popleft()
            self._waiting -= len(data)
            producer.receive(data)
            self._loop.soon(self._give)
        elif self._ended:
            producer.end(truncated=False)
        else:
            self._through = True
            self._judge()

    def _got(self, data: bytes, producer: Producer) -> None:
        if self._is_over():
            return
        if producer is self._producer:
            if not data:
                producer.fail(SpoolError("its file cannot be read", where="waiting page", remedy="see the disk"))
                return
            self._at += len(data)
            producer.receive(data)
        self._loop.soon(self._give)

    def pauseProducing(self) -> None:
        """Give nothing (IPushProducer)."""
        self._paused = True
        self._judge()

    def resumeProducing(self) -> None:
        """Give more (IPushProducer)."""
        self._paused = False
        self._judge()
        self._give()

    def stopProducing(self) -> None:
        """Nobody takes it any more (IPushProducer); if it is whole, somebody else may."""
        self._producer, self._paused, self._through = None, False, False

    def close(self) -> None:
        """It is not needed any more; twice is once."""
        if self._closed:
            return
        self._closed = True
        self._pending.clear()
        self._source = self._producer = None
        self._budget.give(self._reserved)
        if not self._busy:
            self._file.close()


def put(fd: int, pieces: Sequence[bytes], at: int) -> int:
    """Write all of the pieces from C{at} on; for a thread."""
    size = 0
    for piece in pieces:
        left = memoryview(piece)
        while left:
            written = os.pwrite(fd, left, at + size)
            size += written
            left = left[written:]
    return size
