"""
One span: a log of documents that wraps, the directory of where they are, and what is on the way to the disk (ATS: Vol).

What is written is copied to an aggregate and entered into the directory at once; aggregates are written one after
the other, each when it has a mebibyte or is half a second old. Documents that the disk did not take are gone, and
after five failures in a row the span is out of service (ATS: cache.max_disk_errors).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from xxhash import xxh3_64_intdigest

from sslintercept.aio.request import DiskEngine, Request, read, write
from sslintercept.errors import ConfigError, LimitError, StoppedError
from sslintercept.store.aggregate import CAPACITY, FLUSH, Aggregate, Buffers
from sslintercept.store.count import Counters
from sslintercept.store.directory import Census, Directory, is_pinned, located, position_of, unpinned, whole_of
from sslintercept.store.evacuate import Evacuation
from sslintercept.store.layout import (
    BLOCK,
    DOCUMENT_HEADER,
    PAGE,
    TOMBSTONE,
    Bytes,
    Document,
    SpanHeader,
    document_at,
    up,
    whole,
)
from sslintercept.store.medium import AGAIN, Medium, Part, Timers

DELAY: Final = 0.5
"""seconds that a document waits for others to be written with"""
MOST_WAITING: Final = 4
"""aggregates of one span that wait for the disk; documents are refused then"""
MOST_WAITING_MOVED: Final = 6
"""the same for documents that are moved, C{MOST_WAITING_TOMBSTONES} for removals: they may not be refused as easily"""
MOST_WAITING_TOMBSTONES: Final = 7
MOST_ERRORS: Final = 5
"""failures in a row after which a span is out of service"""
QUIET: Final = 60.0
"""seconds between two lines of the log about the same trouble"""
URGENT: Final = 1
"""the priority of what somebody waits for"""

NEVER: Final = 2**64
"""above all locations"""
TRANSIENT: Final = frozenset((errno.ECANCELED, errno.ENOMEM, errno.EAGAIN, errno.EINTR))
"""failures that say nothing about what is on the disk"""

Done = Callable[[Document | None, memoryview | None, str], object]
"""
Called with a document and its content, which is valid during the call; else without content and with what is wrong, or
without a word if it was overwritten meanwhile. The document itself is there if its header can be read.
"""


class State(Enum):
    """Where a span is in its life."""

    RECOVERING, SERVING, STOPPING, LOST = range(4)


class Stripe:
    """
    The log of a span.

    @param lost: called when it goes out of service.
    @ivar head: the position behind the last document; C{written}: below it everything went to the disk, or failed to.
    @ivar floor: everything below is overwritten; C{oldest}: the least location that is not.
    @ivar urgent: whether a snapshot is needed at once, for example since a removal did not come into the log.
    """

    log = Logger()

    def __init__(
        self,
        part: Part,
        engine: DiskEngine,
        timers: Timers,
        buffers: Buffers,
        wall_clock: Callable[[], float],
        lost: Callable[[Stripe], object],
    ) -> None:
        self.part, self.engine, self.timers, self.buffers, self.wall_clock = part, engine, timers, buffers, wall_clock
        self._lost = lost
        self.medium = Medium(part, engine, timers)
        self.state = State.RECOVERING
        self.counters = Counters()
        self.prepare(SpanHeader(0, 0, 1, 0, 0, 0))
        self.head = self.written = self.floor = 0
        self.oldest = NEVER
        self.urgent = False
        self.progress: Callable[[], object] = lambda: None
        """called when an aggregate was written"""
        self._queue: deque[Aggregate] = deque()
        """what is to be written, in order; bounded by the L{MOST_WAITING} constants"""
        self._filling: Aggregate | None = None
        """the last of them, while documents are added"""
        self._writing: Aggregate | None = None
        self._timer: IDelayedCall | None = None
        self._errors = 0
        self._said: dict[str, float] = {}
        self._idle: list[Deferred[None]] = []

    def prepare(self, header: SpanHeader) -> None:
        """Make an empty directory for what the header says."""
        self.header, self.size = header, header.size
        self.directory = Directory(header.buckets, header.generation)
        self.census = Census(header.size, MOST_WAITING_TOMBSTONES * CAPACITY)
        self.evacuation = Evacuation(self)

    @property
    def serving(self) -> bool:
        """Whether documents are written."""
        return self.state is State.SERVING

    @property
    def open(self) -> bool:
        """Whether documents are read."""
        return self.state in (State.SERVING, State.STOPPING)

    def begin(self, head: int, floor: int) -> None:
        """Everything was recovered: serve, and go on writing at a position, which is at a page."""
        self.head = self.written = head
        self.oldest = 0
        self._advance(floor)
        self.state = State.SERVING

    def find(self, key: bytes) -> int:
        """The location of a key that is alive; 0 if there is none."""
        found = self.directory.find(key)
        return found if found > self.oldest else 0

    def append(
        self,
        key: bytes,
        kind: int,
        parts: Sequence[Bytes],
        length: int,
        pinned_until: float,
        *,
        moves: bool = False,
    ) -> int:
        """
        Write a document.

        @param parts: its content, C{length} bytes together, copied during the call.
        @param moves: it is in the log already, and is to be at its front.
        @return: its location; 0 if too much waits for the disk.
        """
        size = whole(length)
        aggregate = self._room(size, MOST_WAITING_MOVED if moves else MOST_WAITING)
        if aggregate is None:
            self.counters.refused += 1
            return 0
        pinned = pinned_until > 0 and pinned_until > self.wall_clock()
        if pinned and not (moves and is_pinned(self.directory.find(key))) and not self.evacuation.admits(size):
            pinned, pinned_until = False, 0.0
            self.counters.pins_refused += 1
        position = aggregate.append(key, kind, parts, length, pinned_until if pinned else 0.0)
        new = located(position, size, kind, pinned)
        replaced, evicted = self.directory.put(key, new, self.oldest)
        if replaced:
            self._gone(replaced)
        if evicted:
            self._gone(evicted)
            self.counters.evicted += 1
        self.census.add(new)
        self.evacuation.counted(new, 1)
        if pinned:
            self.evacuation.add(position, key, pinned_until)
        aggregate.entries.append((key, new, bool(replaced)))
        self._appended(aggregate)
        return new

    def remove(self, key: bytes) -> bool:
        """Take a document out, and say so in the log, so that it does not come back."""
        old = self.find(key)
        if not old:
            return False
        self.directory.drop(key, old)
        self._gone(old)
        self._bury(key)
        return True

    def damaged(self, key: bytes, location: int) -> None:
        """A document cannot be read: it is gone, and an older one does not come back in its place."""
        if self.directory.drop(key, location):
            self._gone(location)
            self._bury(key)

    def damaged_at(self, bucket: int, location: int) -> None:
        """The same for one whose key cannot be read any more."""
        if location in self.directory.locations(bucket):
            self.directory.drop_at(bucket, location)
            self._gone(location)

    def unpin(self, key: bytes, old: int) -> None:
        """Let a document be overwritten like any other."""
        if is_pinned(old):
            self.directory.put(key, unpinned(old), 0)
            self.evacuation.counted(old, -1)

    def _gone(self, location: int) -> None:
        self.census.add(location, -1)
        self.evacuation.counted(location, -1)

    def _bury(self, key: bytes) -> None:
        aggregate = self._room(whole(0), MOST_WAITING_TOMBSTONES) if self.serving else None
        if aggregate is None:
            self.urgent = True
            return
        aggregate.append(key, TOMBSTONE, (), 0, 0.0)
        aggregate.buries = True
        self._appended(aggregate)

    def _room(self, size: int, most: int) -> Aggregate | None:
        """An aggregate with room for a document; C{None} if too many wait."""
        filling = self._filling
        if filling is not None:
            if filling.fill + size <= min(CAPACITY, self.size - filling.start % self.size):
                return filling
            self._filling = None
            filling.due = True
        if len(self._queue) >= most:
            return None
        buffer = self.buffers.take(urgent=most > MOST_WAITING)
        if buffer is None:
            return None
        start = up(self.head, PAGE)
        if size > self.size - start % self.size:
            start = up(start, self.size)
        made = self._filling = Aggregate(buffer, start, self.header.generation)
        self._queue.append(made)
        if self._timer is None:
            self._timer = self.timers.later(DELAY, self._due)
        return made

    def _appended(self, aggregate: Aggregate) -> None:
        self.head = aggregate.start + aggregate.fill
        if aggregate.fill >= FLUSH:
            aggregate.due = True
        self.flush()

    def _due(self) -> None:
        self._timer = None
        if self._filling is not None:
            self._filling.due = True
        self.flush()

    def flush(self) -> None:
        """Write the next aggregate, if it is due and nothing is under way."""
        if self._writing is not None or not self._queue or self.state is State.LOST:
            return
        aggregate = self._queue[0]
        if not aggregate.due and self.state is not State.STOPPING:
            return
        if aggregate is self._filling:
            self._filling = None
        if not self.evacuation.ready(aggregate.end - self.size):
            if self.state is State.STOPPING:
                self._over(aggregate, OSError(errno.ECANCELED, "it would overwrite what is pinned"))
                self.flush()
            return
        if self._writing is not None or not self._queue or self._queue[0] is not aggregate:
            return  # what had to be moved was in memory, and we were called meanwhile
        self._advance(aggregate.end - self.size)
        at = self.part.offset + self.header.start + aggregate.start % self.size
        try:
            self.engine.submit(write(self.medium.fd, at, aggregate.sealed(), self._written, URGENT))
        except LimitError:
            self.timers.later(AGAIN, self.flush)
        except StoppedError as error:
            self._over(aggregate, OSError(errno.ECANCELED, error.what))
            self.flush()
        else:
            self._writing = aggregate
            if aggregate.start % self.size == 0 and aggregate.start:
                self.counters.wraps += 1

    def _advance(self, floor: int) -> None:
        if floor > self.floor:
            self.floor = floor
            self.oldest = floor // BLOCK << 16
            self.census.advance(floor)

    def _written(self, request: Request) -> None:
        aggregate, self._writing = self._writing, None
        if aggregate is not None:
            self._over(aggregate, request.error)
            self.flush()

    def _over(self, aggregate: Aggregate, error: OSError | None) -> None:
        """The disk took an aggregate, or did not."""
        if self.state is not State.LOST:
            self._queue.popleft()
            self.written = aggregate.end
            if error is None:
                self._errors = 0
                self.counters.bytes_written += aggregate.end - aggregate.start
            else:
                self._forget(aggregate)
                self.trouble(error)
        self.buffers.give(aggregate.buffer)
        self.progress()
        if not self._queue:
            idle, self._idle = self._idle, []
            for one in idle:
                one.callback(None)

    def _forget(self, aggregate: Aggregate) -> None:
        self.urgent = self.urgent or aggregate.buries
        for key, location, replaced in aggregate.entries:
            self.counters.write_failed += 1
            if self.directory.drop(key, location):
                self._gone(location)
            if replaced:
                self._bury(key)

    def trouble(self, error: OSError) -> None:
        """The disk failed; too often in a row, and the span is out of service."""
        if error.errno == errno.ECANCELED or self.state is State.LOST:
            return
        self.counters.io_errors += 1
        self._errors += 1
        self.say("the disk failed: {why}; documents are lost, requests are not", why=error.strerror or str(error))
        if self._errors >= MOST_ERRORS:
            self.lose(
                ConfigError(
                    f"{MOST_ERRORS} failures in a row, the last of them: {error.strerror}",
                    where=f"cache span {self.part}",
                    remedy="it is out of service; look at the disk, then restart",
                )
            )

    def went_well(self) -> None:
        """The disk did what it should: failures before do not count any more."""
        self._errors = 0

    def lose(self, error: ConfigError) -> None:
        """Go out of service, with a reason for people."""
        self.log.error("{error}", error=str(error))
        self.state, self.oldest = State.LOST, NEVER
        self._filling = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            aggregate = self._queue.pop()
            if aggregate is not self._writing:
                self.buffers.give(aggregate.buffer)
        self.prepare(SpanHeader(0, 0, 1, 0, 0, 0))
        self.medium.close()
        self._lost(self)
        idle, self._idle = self._idle, []
        for one in idle:
            one.callback(None)

    def say(self, text: str, **values: object) -> None:
        """Put a line into the log, unless the same was said within a minute."""
        now = self.timers.seconds()
        if now - self._said.get(text, -QUIET) >= QUIET:
            self._said[text] = now
            self.log.warn("cache span {part}: " + text, part=str(self.part), **values)

    def fetch(self, location: int, done: Done, priority: int = URGENT) -> Request | None:
        """
        Read and check the document at a location; from memory C{done} is called at once.

        @return: the request that can be cancelled, if there is one.
        """
        position = position_of(location)
        if position >= self.written:
            for aggregate in self._queue:
                if aggregate.start <= position < aggregate.end:
                    self._show(aggregate.buffer.view, position - aggregate.start, location, done)
                    return None
        at = self.part.offset + self.header.start + position % self.size
        request = read(
            self.medium.fd, at, whole_of(location), lambda request: self._fetched(request, location, done), priority
        )
        try:
            self.engine.submit(request)
        except (LimitError, StoppedError):
            self.counters.reads_refused += 1
            done(None, None, "")
            return None
        return request

    def _fetched(self, request: Request, location: int, done: Done) -> None:
        error = request.error
        if error is not None:
            self.trouble(error)
            lasting = error.errno not in TRANSIENT and self.open
            done(None, None, f"the disk failed ({error.strerror})" if lasting else "")
            return
        self._errors = 0
        if request.data is None or self.state is State.LOST:
            done(None, None, "")
            return
        self._show(request.data, 0, location, done)

    def _show(self, memory: memoryview, at: int, location: int, done: Done) -> None:
        """Check a document in memory, and show it."""
        position = position_of(location)
        document = document_at(memory, at, self.header.generation)
        if document is None or document.position != position or document.whole != whole_of(location):
            why = "its header is damaged or another's"
        elif len(memory) < at + DOCUMENT_HEADER + document.length:
            why = "the file ends within it"
        else:
            with memory[at + DOCUMENT_HEADER : at + DOCUMENT_HEADER + document.length] as content:
                if xxh3_64_intdigest(content) == document.checksum:
                    done(document, content, "")
                    return
            why = "its content is damaged"
        if position < self.floor:
            done(None, None, "")
            return
        self.counters.damaged += 1
        self.say("a document at {position} is lost: {why}; look at the disk", position=position, why=why)
        done(document if document is not None and document.position == position else None, None, why)

    def settle(self) -> Deferred[None]:
        """Write everything; fires when nothing waits any more."""
        settled: Deferred[None] = Deferred()
        if not self._queue:
            settled.callback(None)
            return settled
        self._idle.append(settled)
        for aggregate in self._queue:
            aggregate.due = True
        self.flush()
        return settled

    def abandon(self) -> None:
        """Recover no further: the process ends."""
        if self.state is State.RECOVERING:
            self.state = State.LOST

    async def close(self) -> None:
        """Give everything back; whatever is read from now on is absent."""
        self.state, self.oldest = State.LOST, NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.prepare(SpanHeader(0, 0, 1, 0, 0, 0))
        await self.medium.close()
