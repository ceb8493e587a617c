"""
The cache of one process: what is stored of a resource, who is writing it, and who waits for that (ATS: CacheProcessor).

A resource is one document in the storage, read and written as a whole, and kept in memory as it was read. Whoever
changes it says how; changes of one resource happen one after the other. What cannot be written is forgotten, never
kept half: the cache may lose an object, not tell two stories about one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.cache.fresh import Policy
from sslintercept.cache.memory import MemoryCache
from sslintercept.cache.message import Span, Stored
from sslintercept.cache.ready import ready_of
from sslintercept.cache.record import decode, encode
from sslintercept.cache.resource import Alternate, Resource, document_key, without
from sslintercept.cache.writing import Coming, Writing
from sslintercept.store.store import Kind

MOST_WRITINGS: Final = 4096
"""Responses that are written at the same time; one more is not stored."""
MOST_BUFFERED: Final = 128 * 2**20
"""Bytes of content that wait in memory to become fragments; beyond that what is written is given up."""
MOST_FOLLOWERS: Final = 4096
"""Requests that wait for the answer to one."""
MOST_LOOKED_FOR: Final = 256
"""Fragments that are looked for before an answer begins: half a millisecond's worth."""
DISK_PATIENCE: Final = 10.0
"""Seconds that a disk may take for a read; then what it has is not there."""
MOST_UNSHARED: Final = 65536
"""URIs of which it is remembered that nobody should wait for their answers."""
PATIENCE: Final = 10.0
"""Seconds that requests wait for the answer to another one, before the first of them goes its own way."""
IMPATIENCE: Final = 1.0
"""Seconds until others follow it."""


class Handle(Protocol):
    """A read under way."""

    def cancel(self) -> None: ...


class Storage(Protocol):
    """Documents under keys (L{sslintercept.store.store.Store})."""

    def has(self, key: bytes) -> bool: ...
    def read(self, key: bytes, found: Callable[[memoryview | None], object]) -> Handle: ...
    def write(
        self, key: bytes, kind: Kind, parts: Sequence[bytes | bytearray | memoryview], *, pinned_until: float = 0.0
    ) -> bool: ...
    def remove(self, key: bytes) -> bool: ...
    def save(self, key: bytes) -> None: ...


class Absent:
    """No storage: what a cache has before its spans are open, and afterwards."""

    def has(self, key: bytes) -> bool:
        """Nothing is here."""
        return False

    def read(self, key: bytes, found: Callable[[memoryview | None], object]) -> Absent:
        """Nothing is found."""
        found(None)
        return self

    def cancel(self) -> None:
        """It is over."""

    def write(
        self, key: bytes, kind: Kind, parts: Sequence[bytes | bytearray | memoryview], *, pinned_until: float = 0.0
    ) -> bool:
        """Nothing is kept."""
        return False

    def remove(self, key: bytes) -> bool:
        """Nothing was here."""
        return False

    def save(self, key: bytes) -> None:
        """Nothing is in danger."""


class Loop(Protocol):
    """What calls later."""

    def soon(self, call: Callable[[], object]) -> None: ...
    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...


@dataclass(slots=True)
class Counters:
    """What the cache has done since it began; requests are counted once."""

    memory_hits: int = 0
    """answered from memory alone"""
    disk_hits: int = 0
    shared: int = 0
    """answered with what another request brought"""
    validated: int = 0
    """answered with what the origin said is still right"""
    stale: int = 0
    """answered with what is stale, because that is allowed or the origin fails"""
    misses: int = 0
    stored: int = 0
    abandoned: int = 0
    """responses that were not stored whole: they ended early, were too large, or the disk was too slow"""
    overwritten: int = 0
    """responses of which content was gone when they were asked for: what came later had taken its place"""
    damaged: int = 0
    """content that was there, but could not be read"""
    late: int = 0
    """reads that took too long"""
    purged: int = 0
    bytes_served: int = 0
    bytes_stored: int = 0


Change = Callable[[Resource | None], Resource | None]


class Lead:
    """
    A request whose answer others wait for.

    If that takes long they go on by themselves, one, then two, then four, and so on: what any of them brings serves
    those who still wait.
    """

    def __init__(self, processor: CacheProcessor, uri: bytes) -> None:
        self._processor, self._uri = processor, uri
        self._waiting: dict[Callable[[], object], None] = {}
        self._timer: IDelayedCall | None = None
        self._next = 1
        """how many go on by themselves the next time"""

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, again: Callable[[], object]) -> None:
        """One more waits."""
        self._waiting[again] = None
        if self._timer is None:
            self._timer = self._processor.loop.later(PATIENCE, self._late)

    def _late(self) -> None:
        self._timer = None
        going, self._next = list(self._waiting)[: self._next], self._next * 2
        for again in going:
            del self._waiting[again]
            self._processor.loop.soon(again)
        if self._waiting:
            self._timer = self._processor.loop.later(IMPATIENCE, self._late)

    def over(self) -> None:
        """It is known what has become of it; those who wait look again. Twice is once."""
        leaders = self._processor.leaders
        if leaders.get(self._uri) is self:
            del leaders[self._uri]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        for again in waiting:
            self._processor.loop.soon(again)


class Fetch:
    """
    A read of the storage, for all who want the same document at the same time; nobody waits for it too long.

    @ivar until: seconds since the epoch at which it is given up.
    """

    __slots__ = ("_reads", "_waiting", "handle", "key", "until")

    def __init__(self, reads: dict[bytes, Fetch], key: bytes, until: float) -> None:
        self._reads, self.key, self.until = reads, key, until
        self._waiting: list[Wait] = []
        self.handle: Handle | None = None

    def wait(self, found: Callable[[memoryview | None], object]) -> Wait:
        """One more wants it."""
        wait = Wait(self, found)
        self._waiting.append(wait)
        return wait

    def came(self, content: memoryview | None) -> None:
        """The storage has said what it has, or took too long."""
        if self._reads.get(self.key) is self:
            del self._reads[self.key]
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            wait.found(content)

    def leave(self, wait: Wait) -> None:
        """One of them does not want it any more."""
        if wait in self._waiting:
            self._waiting.remove(wait)
            if not self._waiting:
                self.give_up()

    def give_up(self) -> None:
        """It took too long, or nobody is left."""
        if self.handle is not None:
            self.handle.cancel()
        self.came(None)


class Wait:
    """One who waits for a document; C{cancel}: no more."""

    __slots__ = ("_fetch", "found")

    def __init__(self, fetch: Fetch, found: Callable[[memoryview | None], object]) -> None:
        self._fetch, self.found = fetch, found

    def cancel(self) -> None:
        """Do not tell it."""
        self._fetch.leave(self)


class CacheProcessor:
    """
    @param memory: bytes that are kept in memory in front of the storage.
    @param largest: bytes of the largest content that is stored.
    @ivar writings: what is being written, by URI; C{leaders}: requests that others may wait for.
    @ivar buffered: bytes of content that wait in memory.
    """

    log = Logger()

    def __init__(
        self, storage: Storage, loop: Loop, wall_clock: Callable[[], float], *, memory: int, largest: int
    ) -> None:
        self.storage, self.loop, self.wall_clock = storage, loop, wall_clock
        self.largest = largest
        self.policy = Policy()
        """that of the latest generation of settings"""
        self.memory: MemoryCache[Resource | bytes] = MemoryCache(memory)
        self.counters = Counters()
        self.writings: dict[bytes, list[Writing]] = {}
        self.leaders: dict[bytes, Lead] = {}
        self._unshared: OrderedDict[int, None] = OrderedDict()
        """hashes of URIs whose last answer was for one request alone"""
        self.refreshing: set[bytes] = set()
        """URIs that are validated in the background"""
        self.buffered = 0
        self.paused = 0
        """bytes of fragments that wait in memory for clients that take no more now"""
        self._open = 0
        self._reads: dict[bytes, Fetch] = {}
        """what the storage is asked for"""
        self._sweep: IDelayedCall | None = None
        self._changes: dict[bytes, list[Change]] = {}
        """what is done with a document that is being read"""

    # what is stored

    def find(self, uri: bytes, found: Callable[[Resource | None], object]) -> None:
        """Call *found* with what is stored under *uri*: at once if it is in memory, or nothing is."""
        kept = self.memory.get(uri)
        if isinstance(kept, Resource):
            found(kept)
            return

        def tell(resource: Resource | None) -> Resource | None:
            found(resource)
            return resource

        self._read(uri, tell)

    def change(self, uri: bytes, how: Change, pinned_until: float = 0.0) -> None:
        """Store what *how* makes of what is stored under *uri*; C{None} removes it, the same changes nothing."""

        def apply(before: Resource | None) -> Resource | None:
            after = how(before)
            return before if after is before else self._write(uri, after, pinned_until)

        kept = self.memory.get(uri)
        if isinstance(kept, Resource) and uri not in self._changes:
            apply(kept)
        else:
            self._read(uri, apply)

    def _read(self, uri: bytes, then: Change) -> None:
        waiting = self._changes.get(uri)
        if waiting is not None:
            waiting.append(then)
            return
        key = document_key(uri)
        if not self.storage.has(key):
            then(None)
            return
        waiting = self._changes[uri] = [then]

        def came(document: memoryview | None) -> None:
            resource = None if document is None else decode(document)
            if resource is not None and resource.uri != uri:
                resource = None
            if resource is not None:
                self.memory.put(uri, resource, resource.size)
                self.storage.save(key)
            # Whoever comes while these are told waits behind them.
            while waiting:
                try:
                    resource = waiting.pop(0)(resource)
                except Exception:
                    # One that breaks must not keep the others waiting, now and for ever.
                    self.log.failure("what is stored under {uri} could not be used", uri=uri)
            del self._changes[uri]

        self.fetch(key, came)

    def _write(self, uri: bytes, resource: Resource | None, pinned_until: float) -> Resource | None:
        key = document_key(uri)
        if resource is not None and resource.alternates:
            if resource.ready is None and len(resource.alternates) == 1 and resource.alternates[0].content:
                (one,) = resource.alternates
                assert one.content is not None
                resource.ready = ready_of(one.stored, one.content, self.policy, self.wall_clock())
            if self.storage.write(key, Kind.HEAD, encode(resource), pinned_until=pinned_until):
                self.memory.put(uri, resource, resource.size)
                return resource
            self.counters.abandoned += 1
        self.memory.drop(uri)
        self.storage.remove(key)
        return None

    def is_there(self, alternate: Alternate, span: Span) -> bool:
        """
        Whether the content of an *alternate* in *span* is there, as far as the directory knows.

        Of very large content only the beginning is looked for, lest others wait; the origin completes the rest.
        """
        has, memory = self.storage.has, self.memory
        position = span.first
        for _ in range(MOST_LOOKED_FOR):
            if position >= span.end:
                break
            extent = alternate.extent(position)
            if extent is None or not (has(extent.key) or memory.get(extent.key) is not None):
                return False
            position += extent.size
        return True

    def lose(self, uri: bytes, stored: Stored) -> None:
        """The content of what is *stored* is not there any more: not all of it, so none."""
        self.change(uri, lambda before: without(before, stored))

    def purge(self, uri: bytes) -> bool:
        """
        Remove what is stored under *uri*, and what is being written (RFC 9111 4.4).

        @return: whether there was anything, as far as memory and the directory know.
        """
        for writing in self.writings.get(uri, ()):
            writing.spoil()
        there = self.memory.get(uri) is not None or self.storage.has(document_key(uri))
        if (waiting := self._changes.get(uri)) is not None:
            waiting.append(lambda before: self._write(uri, None, 0.0))
        else:
            self._write(uri, None, 0.0)
        if there:
            self.counters.purged += 1
        return there

    def fetch(self, key: bytes, found: Callable[[memoryview | None], object]) -> Handle:
        """
        Read from the storage as L{Storage.read} does, once for all who want the same, and never wait for it longer than
        L{DISK_PATIENCE}.
        """
        fetch = self._reads.get(key)
        if fetch is not None:
            return fetch.wait(found)
        fetch = self._reads[key] = Fetch(self._reads, key, self.wall_clock() + DISK_PATIENCE)
        wait = fetch.wait(found)
        fetch.handle = self.storage.read(key, fetch.came)
        if self._sweep is None and key in self._reads:
            self._sweep = self.loop.later(DISK_PATIENCE, self._sweep_reads)
        return wait

    def _sweep_reads(self) -> None:
        now = self.wall_clock()
        for fetch in [one for one in self._reads.values() if one.until <= now]:
            self.counters.late += 1
            fetch.give_up()
        self._sweep = self.loop.later(DISK_PATIENCE / 4, self._sweep_reads) if self._reads else None

    # what is being written

    @property
    def is_full(self) -> bool:
        """Whether too much content waits in memory."""
        return self.buffered > MOST_BUFFERED

    def begin(self, uri: bytes, coming: Coming) -> Writing | None:
        """Store a response; C{None} if too much is under way, or it is too large."""
        stored = coming.stored
        size = stored.total if stored.spans is None else stored.spans[0].end - stored.spans[0].first
        if self._open >= MOST_WRITINGS or self.is_full or (size or 0) > self.largest:
            self.counters.abandoned += 1
            return None
        self._open += 1
        writing = Writing(self, uri, coming)
        self.writings.setdefault(uri, []).append(writing)
        return writing

    def ended(self, writing: Writing) -> None:
        """It is over: L{Writing} says so once."""
        self._open -= 1
        under_way = self.writings[writing.uri]
        under_way.remove(writing)
        if not under_way:
            del self.writings[writing.uri]

    def lead(self, uri: bytes) -> Lead | None:
        """Let others wait for the answer to this request; C{None} if they wait for another one already."""
        if uri in self.leaders:
            return None
        lead = self.leaders[uri] = Lead(self, uri)
        return lead

    def note_shared(self, uri: bytes, shared: bool) -> None:
        """
        An answer was, or was not, for others as well.

        Where it was not nobody waits for the next one: they would go one after the other, each as long as the origin
        takes (Varnish: hit-for-miss).
        """
        if shared:
            self._unshared.pop(hash(uri), None)
        else:
            self._unshared[hash(uri)] = None
            if len(self._unshared) > MOST_UNSHARED:
                self._unshared.popitem(last=False)

    def follow(self, uri: bytes, again: Callable[[], object]) -> bool:
        """Wait for the answer to another request that may serve for this one, too; then *again* is called, once."""
        lead = self.leaders.get(uri)
        if lead is None or hash(uri) in self._unshared or len(lead) >= MOST_FOLLOWERS:
            return False
        lead.wait(again)
        return True
