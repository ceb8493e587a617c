"""The disk under a cache: its engine and its spans, from start to stop."""

from __future__ import annotations

from time import time
from typing import Protocol

from twisted.internet.defer import Deferred

from sslintercept.aio.engine import choose
from sslintercept.aio.request import DiskEngine, Handler
from sslintercept.cache.operate import Cached
from sslintercept.cache.place import parts_of
from sslintercept.cache.processor import Absent, CacheProcessor
from sslintercept.config.schema import Settings
from sslintercept.store.medium import Timers
from sslintercept.store.store import Store


class Loop(Handler, Timers, Protocol):
    """What engine and spans need of the reactor's loop."""


class Disk:
    """
    @param worker: this process's number; each has spans, or slices of spans, of its own.
    @raise ConfigError: their places cannot be used.
    @ivar cached: what operators may ask, while it is open.
    """

    def __init__(self, settings: Settings, handler: Loop, processor: CacheProcessor, worker: int) -> None:
        self._settings, self._handler, self._processor = settings, handler, processor
        self._parts = parts_of(settings.cache, worker, settings.workers)
        self._engine: DiskEngine | None = None
        self.cached: Cached | None = None

    def start(self) -> Deferred[None]:
        """Open the spans; fires when they are recovered. Until then everything is a miss."""
        self._engine = choose(self._settings.aio.engine, self._handler, threads=self._settings.aio.threads)
        store = Store(self._parts, self._engine, self._handler, wall_clock=time)
        self._processor.storage = store
        self.cached = Cached(self._processor, store)
        return store.start()

    async def stop(self) -> None:
        """Write what waits, and close."""
        cached, self.cached = self.cached, None
        self._processor.storage = Absent()
        if cached is not None:
            await cached.store.stop()
        if self._engine is not None:
            await self._engine.stop()
