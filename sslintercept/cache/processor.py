"""
The cache of one process: what is stored of a resource, who is writing it, and who waits for that (ATS: CacheProcessor).

A resource is one document in the storage, read and written as a whole, and kept in memory as it was read. Whoever
changes it says how; changes of one resource happen one after the other. What cannot be written is forgotten, never
kept half: the cache may lose an object, not tell two stories about one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall

from sslintercept.cache.decide import may_collapse
from sslintercept.cache.memory import MemoryCache
from sslintercept.cache.message import Asked, Stored
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
PATIENCE: Final = 10.0
"""Seconds that a request waits for the answer to another one, before it goes its own way."""


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
    damaged: int = 0
    """content that was there, but could not be read"""
    purged: int = 0
    bytes_served: int = 0
    bytes_stored: int = 0


Change = Callable[[Resource | None], Resource | None]


class Lead:
    """A request whose answer others wait for."""

    def __init__(self, processor: CacheProcessor, uri: bytes, asked: Asked) -> None:
        self._processor, self._uri = processor, uri
        self.asked = asked
        self.waiting: dict[Callable[[], object], IDelayedCall] = {}

    def over(self) -> None:
        """It is known what has become of it; those who wait look again. Twice is once."""
        leaders = self._processor.leaders
        if leaders.get(self._uri) is self:
            del leaders[self._uri]
        waiting, self.waiting = self.waiting, {}
        for again, timer in waiting.items():
            timer.cancel()
            self._processor.loop.soon(again)

    def late(self, again: Callable[[], object]) -> None:
        """It has taken too long for one of those who wait."""
        if self.waiting.pop(again, None) is not None:
            again()


class CacheProcessor:
    """
    @param memory: bytes that are kept in memory in front of the storage.
    @param largest: bytes of the largest content that is stored.
    @ivar writings: what is being written, by URI; C{leaders}: requests that others may wait for.
    @ivar buffered: bytes of content that wait in memory.
    """

    def __init__(
        self, storage: Storage, loop: Loop, wall_clock: Callable[[], float], *, memory: int, largest: int
    ) -> None:
        self.storage, self.loop, self.wall_clock = storage, loop, wall_clock
        self.largest = largest
        self.memory: MemoryCache[Resource | bytes] = MemoryCache(memory)
        self.counters = Counters()
        self.writings: dict[bytes, list[Writing]] = {}
        self.leaders: dict[bytes, Lead] = {}
        self.refreshing: set[bytes] = set()
        """URIs that are validated in the background"""
        self.buffered = 0
        self._open = 0
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

    def in_memory(self, uri: bytes) -> bool:
        """Whether what is stored under *uri* is in memory."""
        return self.memory.get(uri) is not None

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
                resource = waiting.pop(0)(resource)
            del self._changes[uri]

        self.storage.read(key, came)

    def _write(self, uri: bytes, resource: Resource | None, pinned_until: float) -> Resource | None:
        key = document_key(uri)
        if resource is not None and resource.alternates:
            if self.storage.write(key, Kind.HEAD, encode(resource), pinned_until=pinned_until):
                self.memory.put(uri, resource, resource.size)
                return resource
            self.counters.abandoned += 1
        self.memory.drop(uri)
        self.storage.remove(key)
        return None

    def is_whole(self, resource: Resource, alternate: Alternate) -> bool:
        """Whether all fragments of an *alternate* are there, as far as the directory knows."""
        has, memory = self.storage.has, self.memory
        keys = replace(resource, alternates=(alternate,)).fragments()
        return all(has(key) or memory.get(key) is not None for key in keys)

    def lose(self, uri: bytes, stored: Stored) -> None:
        """The content of what is *stored* cannot be read: it is not there any more."""
        self.counters.damaged += 1
        self.change(uri, lambda before: without(before, stored))

    def purge(self, uri: bytes) -> bool:
        """
        Remove what is stored under *uri*, and what is being written (RFC 9111 4.4).

        @return: whether there was anything, as far as memory and the directory know.
        """
        for writing in self.writings.get(uri, ()):
            writing.spoil()
        there = self.memory.get(uri) is not None or self.storage.has(document_key(uri))
        if uri in self._changes:
            self.change(uri, lambda before: None)
            self.memory.drop(uri)
        else:
            # Nobody needs to read what goes.
            self._write(uri, None, 0.0)
        if there:
            self.counters.purged += 1
        return there

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

    def lead(self, uri: bytes, asked: Asked) -> Lead | None:
        """Let others wait for the answer to this request; C{None} if they wait for another one already."""
        if uri in self.leaders:
            return None
        lead = self.leaders[uri] = Lead(self, uri, asked)
        return lead

    def follow(self, uri: bytes, asked: Asked, again: Callable[[], object]) -> bool:
        """Wait for the answer to another request that may serve for this one, too; then *again* is called, once."""
        lead = self.leaders.get(uri)
        if lead is None or len(lead.waiting) >= MOST_FOLLOWERS or not may_collapse(lead.asked, asked):
            return False
        lead.waiting[again] = self.loop.later(PATIENCE, lambda: lead.late(again))
        return True
