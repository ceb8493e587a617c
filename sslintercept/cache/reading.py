"""
Content from the cache on its way to a client: a push producer (ATS: CacheVC).

It comes from memory, from fragments of the storage, or from a response that is still being written. While whoever takes
it has enough, nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sslintercept.cache.message import Span
from sslintercept.cache.resource import FRAGMENT, Alternate, fragment_key
from sslintercept.cache.writing import Writing
from sslintercept.errors import CacheError

if TYPE_CHECKING:
    from sslintercept.cache.processor import CacheProcessor, Handle

STEP: Final = 128 * 1024
"""Bytes that are given at a time; then whoever takes them is asked whether that is enough."""
TURN: Final = 8
"""Steps until the reactor has its turn."""
MOST_PAUSED: Final = 256 * 2**20
"""Bytes of fragments that are kept for clients that take no more now; beyond that they are read again later."""
AHEAD: Final = 2
"""Fragments before the one that is read that are kept from being overwritten."""


class Reading:
    """
    @param receive: takes content; a view is valid only during the call.
    @param ended: called once at the end: with C{None} behind the last byte, else with what went wrong.
    @ivar position: the byte that comes next.
    @ivar paused: nobody wants more now.
    @ivar from_disk: something was read from the storage.
    """

    def __init__(
        self,
        processor: CacheProcessor,
        source: Alternate | Writing,
        span: Span,
        receive: Callable[[memoryview | bytes], object],
        ended: Callable[[CacheError | None], object],
    ) -> None:
        self._processor, self._source = processor, source
        self.position, self._end = span
        """C{_end} is negative where nobody knows it yet"""
        self._receive, self._ended = receive, ended
        self.paused = True
        self._alive = True
        self._running = False
        self._read: Handle | None = None
        self._reading = False
        self._rest: memoryview | bytes = b""
        """of what was read, not given yet"""
        self._counted = 0
        """of it, while nobody takes it"""
        self.from_disk = False
        if isinstance(source, Writing):
            source.join(self._run)

    # a push producer

    def resumeProducing(self) -> None:
        """Give more."""
        self.paused = False
        self._count(0)
        self._run()

    def pauseProducing(self) -> None:
        """Give nothing."""
        self.paused = True
        if not self._running:
            self._keep()

    def _keep(self) -> None:
        """Keep what is left of a fragment for a client that takes no more now, if there is memory for that."""
        size = len(self._rest)
        if self._processor.paused - self._counted + size > MOST_PAUSED:
            self._rest, size = b"", 0
        self._count(size)

    def _count(self, size: int) -> None:
        self._processor.paused += size - self._counted
        self._counted = size

    def stopProducing(self) -> None:
        """Nobody takes it any more."""
        if self._alive:
            self._alive = False
            self._rest = b""
            self._count(0)
            if isinstance(self._source, Writing):
                self._source.leave(self._run)
            if self._read is not None:
                self._read.cancel()

    def _finish(self, error: CacheError | None) -> None:
        self.stopProducing()
        self._ended(error)

    # the work

    def _run(self) -> None:
        """Give what is there, until it is enough, nothing is there, or others should have their turn."""
        if self._running or self._reading:
            return
        self._running = True
        try:
            for _ in range(TURN):
                if self.paused or not self._alive:
                    if self._alive:
                        self._keep()
                    return
                if self._end == self.position:
                    self._finish(None)
                    return
                if not self._rest:
                    self._fetch()
                if not self._rest:
                    return  # it comes later, or never
                self._give()
        finally:
            self._running = False
        self._processor.loop.soon(self._run)

    def _give(self) -> None:
        rest = self._rest
        size = len(rest) if self._end < 0 else min(len(rest), self._end - self.position)
        step = min(size, STEP)
        self._rest = memoryview(rest)[step:size]
        self.position += step
        self._receive(rest if step == len(rest) else memoryview(rest)[:step])

    def _fetch(self) -> None:
        """Put what comes next into C{_rest}, or have it read."""
        source = self._source
        if isinstance(source, Writing):
            self._fetch_written(source)
        elif source.content is not None:
            self._rest = memoryview(source.content)[self.position :]
        else:
            extent = source.extent(self.position)
            if extent is None:
                self._finish(_lost())
                return
            self._fetch_fragment(extent.key, extent.at, extent.size)
            if not self._rest and self._alive:
                self._spare(source)

    def _fetch_written(self, source: Writing) -> None:
        at = self.position - source.first
        if at >= source.flushed:
            if at < source.count:
                self._rest = bytes(memoryview(source.tail)[at - source.flushed :])
            elif source.over:
                self._finish(None if source.error is None and self._end < 0 else _lost())
            return
        number, within = divmod(at, FRAGMENT)
        held = source.held(number)
        if held is not None:
            self._rest = memoryview(held)[within:]
        else:
            size = min(source.flushed - number * FRAGMENT, FRAGMENT)
            self._fetch_fragment(fragment_key(source.name, number), within, size - within)

    def _fetch_fragment(self, key: bytes, at: int, size: int) -> None:
        memory = self._processor.memory
        kept = memory.get(key)
        if isinstance(kept, bytes):
            self._take(kept, at, size)
            return

        def came(content: memoryview | None) -> None:
            self._reading, self._read = False, None
            if content is None:
                self._finish(_lost())
                return
            self.from_disk = True
            kept = memory.get(key)
            if isinstance(kept, bytes):
                copy = kept  # of somebody who has waited for the same read
            else:
                copy = bytes(content)  # since the view is valid during this call only
                memory.put(key, copy, len(copy))
            self._take(copy, at, size)
            if self._alive and not inside:
                self._run()

        self._reading = inside = True
        self._read = self._processor.fetch(key, came)
        inside = False
        if not self._reading:
            self._read = None

    def _take(self, content: bytes, at: int, size: int) -> None:
        if len(content) < at + size:
            self._finish(_lost())
            return
        self._rest = content if not at and size == len(content) else memoryview(content)[at : at + size]

    def _spare(self, source: Alternate) -> None:
        for ahead in range(AHEAD):
            extent = source.extent(self.position + ahead * FRAGMENT)
            if extent is not None:
                self._processor.storage.save(extent.key)


def _lost() -> CacheError:
    return CacheError("content is not there any more", where="cache", remedy="ask again; it is fetched anew")
