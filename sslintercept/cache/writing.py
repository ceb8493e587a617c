"""
A response on its way into the cache: the consumer of a tunnel that wants content (ATS: CacheVC, OpenDirEntry).

Content is collected until it fills a fragment, which is then written; nothing is ever larger in memory. The document of
the resource, which makes the response one that is found, is written when all has come. Others may read what has come so
far (read while write). A disk that refuses costs the stored response, and neither the client's nor theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from sslintercept.cache.decide import cut_short
from sslintercept.cache.fresh import Policy
from sslintercept.cache.message import Answered, Asked, Stored
from sslintercept.cache.resource import (
    FRAGMENT,
    MOST_PIECES,
    NAME,
    SMALL,
    Alternate,
    Piece,
    Resource,
    fragment_key,
    with_alternate,
    with_piece,
)
from sslintercept.cache.span import combined
from sslintercept.cache.update import updated
from sslintercept.store.store import Kind

if TYPE_CHECKING:
    from sslintercept.cache.processor import CacheProcessor

MOST_FILLED: Final = 10 * 2**20
"""Bytes that are still fetched when the client has left, and nobody else reads."""
MOST_HELD: Final = 8
"""Fragments that are kept in memory for those who read what the disk does not take; who is further behind loses."""


class Coming(NamedTuple):
    """A response whose content begins to come, and that may be stored as C{stored}."""

    asked: Asked
    response: Answered
    stored: Stored
    policy: Policy
    pinned_until: float = 0.0


class Stopped(Protocol):
    """What brings it."""

    def stopProducing(self) -> None: ...


class Writing:
    """
    @ivar stored: what it will be.
    @ivar count: bytes of content that have come; C{first}: the place of the first of them in the representation.
    @ivar over: no more comes; C{error}: why it is not whole, if it is not.
    @ivar tail: what has come and is no fragment yet; it begins at C{flushed}.
    """

    def __init__(self, processor: CacheProcessor, uri: bytes, coming: Coming) -> None:
        self._processor = processor
        self.uri = uri
        self.asked, self.response, self.stored, self._policy, self._pinned_until = coming
        self.first = 0 if self.stored.spans is None else self.stored.spans[0].first
        self.name = os.urandom(NAME)
        self.count = self.flushed = 0
        self.tail = bytearray()
        self.over = False
        self.alone = False
        """its client has left"""
        self.error: Exception | None = None
        self._consumer: Stopped | None = None
        self._keeps = True
        """it will be stored, if nothing happens"""
        self.shared: Callable[[], object] | None = None
        """called when somebody begins to read along"""
        self._readers: dict[Callable[[], object], None] = {}
        self._held: dict[int, bytes] = {}
        """fragments that the storage has not taken, for those who read"""

    @property
    def position(self) -> int:
        """Up to which byte of the representation content has come."""
        return self.first + self.count

    @property
    def open(self) -> bool:
        """Whether more comes, and others may read along."""
        return not self.over and self._keeps

    @property
    def fills(self) -> bool:
        """Whether it is worth having although its client has left (ATS: background fill)."""
        if self.over or self._readers:
            return not self.over
        total = self.stored.total
        return self._keeps and total is not None and total - self.count <= MOST_FILLED

    # a consumer of a tunnel

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """More content."""
        if self.over:
            return
        size = len(data)
        self.count += size
        self._processor.buffered += size
        self.tail += data
        if len(self.tail) >= FRAGMENT:
            self._flush()
        if self._keeps and (self.count > self._processor.largest or self._processor.is_full):
            self.spoil()
        if not self._keeps and not self._readers:
            self._let_go(len(self.tail))
            self.tail.clear()
            self.flushed = self.count
            if self._consumer is not None:
                # Neither kept nor read: for our sake it need not come.
                self._consumer.stopProducing()
                return
        for wake in list(self._readers):
            wake()

    def registerProducer(self, producer: Stopped, streaming: bool) -> None:
        """It is never made to wait for the sake of the cache, but may be left."""
        self._consumer = producer

    def unregisterProducer(self) -> None:
        """No more comes."""
        self._consumer = None

    def ended(self, error: Exception | None) -> None:
        """The content has come whole, or why not."""
        if self.over:
            return
        self.over, self.error = True, error
        self._let_go(len(self.tail))
        self._processor.ended(self)
        try:
            if error is None:
                self._commit(self.stored)
            elif (part := cut_short(self.stored, self.count, self._policy)) is not None and self._keeps:
                self._commit(part)
            else:
                self._processor.counters.abandoned += 1
        finally:
            for wake in list(self._readers):
                wake()

    def spoil(self) -> None:
        """It must not be stored any more."""
        self._keeps = False

    def _let_go(self, size: int) -> None:
        self._processor.buffered -= size

    # to the storage

    def _flush(self, rest: bool = False) -> None:
        """Write whole fragments, and what is left of the last one if that is all."""
        at = 0
        tail = self.tail
        with memoryview(tail) as view:
            while len(tail) - at >= FRAGMENT or (rest and at < len(tail)):
                self._write(self.flushed // FRAGMENT, view[at : at + FRAGMENT])
                size = min(FRAGMENT, len(tail) - at)
                at += size
                self.flushed += size
        del tail[:at]
        if not self.over:
            self._let_go(at)

    def _write(self, number: int, content: memoryview) -> None:
        key = fragment_key(self.name, number)
        if self._keeps and not self._processor.storage.write(
            key, Kind.FRAGMENT, [content], pinned_until=self._pinned_until
        ):
            self.spoil()
        if not self._keeps and self._readers:
            self._held[number] = bytes(content)
            self._processor.buffered += len(content)
            while len(self._held) > MOST_HELD:
                self._drop(next(iter(self._held)))

    def _drop(self, number: int) -> None:
        self._let_go(len(self._held.pop(number)))

    def _commit(self, stored: Stored) -> None:
        processor = self._processor
        whole = stored.spans is None
        if whole and stored.total is None:
            stored = replace(stored, total=self.count)
        said = stored.total if stored.spans is None else stored.spans[0].end - stored.spans[0].first
        if said != self.count:
            self._keeps = False
        small = whole and self.count <= SMALL
        if self._keeps and not small:
            self._flush(rest=True)
        if not self._keeps:
            processor.counters.abandoned += 1
            return
        processor.counters.stored += 1
        processor.counters.bytes_stored += self.count
        if small:
            alternate = Alternate(stored, bytes(self.tail))
        else:
            alternate = Alternate(stored, None, (Piece(self.first, self.first + self.count, self.name),))

        processor.change(self.uri, lambda before: self._beside(before, alternate), self._pinned_until)

    def _beside(self, before: Resource | None, new: Alternate) -> Resource:
        """Put what has come to what is stored of the same representation, or in its place (RFC 9111 3.4)."""
        news = self.response
        if before is not None and news.status == 206 and new.pieces:
            for one in before.alternates:
                both = combined(one.stored, news) if one.stored.variant == new.stored.variant else None
                if both is not None and (both is one.stored or len(one.pieces) < MOST_PIECES):
                    stored = updated(both, news, self.asked)
                    joint = (
                        replace(one, stored=stored) if both is one.stored else with_piece(one, stored, new.pieces[0])
                    )
                    others = tuple(joint if other is one else other for other in before.alternates)
                    return Resource(before.uri, others)
        return with_alternate(self.uri, before, new)

    # those who read along

    def join(self, wake: Callable[[], object]) -> None:
        """Call *wake* whenever there is more, or the end."""
        self._readers[wake] = None
        if self.shared is not None:
            shared, self.shared = self.shared, None
            shared()

    def leave(self, wake: Callable[[], object]) -> None:
        """Call it no more."""
        self._readers.pop(wake, None)
        if not self._readers:
            for number in list(self._held):
                self._drop(number)
            if self.alone and not self.fills and self._consumer is not None:
                self._consumer.stopProducing()

    def held(self, number: int) -> bytes | None:
        """Give a fragment that is in memory only."""
        return self._held.get(number)
