"""
Documents under keys of 16 bytes, on spans: what a cache is built on (ATS: the cache's volumes and their hash table).

Nothing here raises because of a disk: what cannot be read is absent, what cannot be written is refused or lost, both
are counted, and the log says so. A document is shown whole and intact or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from math import log
from typing import Final

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from xxhash import xxh3_64_intdigest

from sslintercept.aio.request import DiskEngine, Request
from sslintercept.aio.threads import attached
from sslintercept.errors import ConfigError
from sslintercept.store.aggregate import Buffers
from sslintercept.store.count import Counters, Stat
from sslintercept.store.layout import BLOCK, FRAGMENT, HEAD, KEY, LARGEST_DOCUMENT, Bytes, Document
from sslintercept.store.medium import Part, Timers
from sslintercept.store.span import Span
from sslintercept.store.stripe import State, Stripe
from sslintercept.store.survey import Survey, Verified

__all__ = ["LARGEST_DOCUMENT", "MOST_SPANS", "Kind", "Part", "Reading", "Stat", "Store", "Verified"]

MOST_SPANS: Final = 99
"""as many files as a disk engine opens, less one"""
SLOTS: Final = 1024
"""parts of all keys, each of which belongs to a span (ATS: the volume hash table)"""


class Kind(Enum):
    """What a document is: C{HEAD} is what a list of all that is cached shows."""

    HEAD = HEAD
    FRAGMENT = FRAGMENT


class Reading:
    """A read under way."""

    __slots__ = ("_found", "_key", "_request", "_stripe")

    def __init__(self, stripe: Stripe, key: bytes, found: Callable[[memoryview | None], object]) -> None:
        self._stripe, self._key = stripe, key
        self._found: Callable[[memoryview | None], object] | None = found
        self._request: Request | None = None

    def cancel(self) -> None:
        """Have no call any more. Twice is once, and after the call it is nothing."""
        self._found = None
        if self._request is not None:
            self._request.cancel()
            self._request = None

    def begin(self, location: int) -> None:
        """Read what is at a location."""

        def done(document: Document | None, content: memoryview | None, why: str) -> None:
            stripe, key, found = self._stripe, self._key, self._found
            self._request = self._found = None
            if why:
                stripe.damaged(key, location)
            if document is not None and document.key != key:
                content = None
            if found is not None:
                if content is not None:
                    stripe.counters.hits += 1
                found(content)

        request = self._stripe.fetch(location, done)
        if self._found is not None:
            self._request = request


class Over(Reading):
    """A read that was over at once."""

    __slots__ = ()

    def __init__(self) -> None:
        self._found = self._request = None


OVER: Final = Over()


class Store:
    """
    All spans of one process.

    @param parts: where they are; those that cannot be used are left out.
    @param loop: what is needed of the reactor's loop.
    @param wall_clock: seconds since 1970, for pins.
    @param average: bytes of a document, which sizes the directories of new spans.
    @raise ConfigError: there are too many spans, or documents are said to be too small.
    """

    log = Logger()

    def __init__(
        self,
        parts: Sequence[Part],
        engine: DiskEngine,
        loop: Timers,
        *,
        wall_clock: Callable[[], float],
        average: int = 8192,
    ) -> None:
        if len(parts) > MOST_SPANS:
            raise ConfigError(f"{len(parts)} spans", where="cache", remedy=f"use {MOST_SPANS} at most, larger ones")
        if average < BLOCK:
            raise ConfigError(f"documents of {average} bytes", where="cache", remedy=f"say {BLOCK} at least")
        self._loop = loop
        self._buffers = Buffers()
        self._spans = [Span(part, engine, loop, self._buffers, wall_clock, average, self._lost) for part in parts]
        self._table: list[Stripe | None] = [None] * SLOTS
        self._out = Counters()
        """of what met no span"""
        self._started: Deferred[None] | None = None
        self._stopped: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Open and recover all spans; fires when each is in service or out of it. Reads before that simply miss."""
        assert self._started is None, "a store is started once"
        self._started = Deferred()
        self._share(range(SLOTS))
        starts = [Deferred.fromCoroutine(span.start()).addErrback(self._defect, span) for span in self._spans]
        DeferredList(starts).addCallback(self._all_started)
        return attached(self._started)

    def _defect(self, failure: Failure, span: Span) -> None:
        """A defect of ours in one span must not keep the others from starting and stopping."""
        self.log.failure("a cache span failed", failure)
        where = f"cache span {span.part}"
        span.stripe.lose(ConfigError("a defect", where=where, remedy="it is out of service; report the traceback"))

    def _all_started(self, _: object) -> None:
        assert self._started is not None
        self._started.callback(None)

    def stop(self) -> Deferred[None]:
        """Write what waits and the directories, close. Afterwards everything is absent. Twice is once."""
        if self._stopped is None:
            stopped = self._stopped = Deferred()
            for span in self._spans:
                span.stripe.abandon()
            started = succeed(None) if self._started is None else attached(self._started)
            started.addCallback(
                lambda _: DeferredList(
                    [Deferred.fromCoroutine(span.stop()).addErrback(self._defect, span) for span in self._spans]
                )
            ).addCallback(lambda _: stopped.callback(None))
        return attached(self._stopped)

    def has(self, key: bytes) -> bool:
        """
        Whether there probably is a document: by the directory alone.

        A key that was never written is taken for another one's with a probability of (documents) / 2^64, and what
        turns out to be damaged when it is read still is here.
        """
        stripe = self._table[xxh3_64_intdigest(key) % SLOTS]
        return stripe is not None and bool(stripe.find(key))

    def read(self, key: bytes, found: Callable[[memoryview | None], object]) -> Reading:
        """
        Read a document.

        @param found: called exactly once, with the content, valid during the call only, or with C{None}: absent,
            overwritten, damaged, or the disk failed. Called inside of this if that is known at once, or if the document
            still is in memory. What is written or removed meanwhile does not change what is found.
        """
        stripe = self._table[xxh3_64_intdigest(key) % SLOTS]
        counters = self._out if stripe is None else stripe.counters
        counters.reads += 1
        location = 0 if stripe is None else stripe.find(key)
        if stripe is None or not location:
            found(None)
            return OVER
        reading = Reading(stripe, key, found)
        reading.begin(location)
        return reading

    def write(self, key: bytes, kind: Kind, parts: Sequence[Bytes], *, pinned_until: float = 0.0) -> bool:
        """
        Write a document in place of what the key had; it can be read at once.

        @param parts: its content, copied during the call.
        @param pinned_until: seconds since 1970 until which it is not overwritten, as long as pinned documents have
            less than a quarter of the span.
        @return: false if nothing happened: it is too large, too much waits for the disk, or no span is in service.
        @raise ValueError: the key does not have 16 bytes.
        """
        if len(key) != KEY:
            raise ValueError(f"a key has {KEY} bytes, not {len(key)}")
        stripe = self._table[xxh3_64_intdigest(key) % SLOTS]
        length = sum(map(len, parts))
        if stripe is None or stripe.state is not State.SERVING or length > LARGEST_DOCUMENT:
            (self._out if stripe is None else stripe.counters).refused += 1
            return False
        if not stripe.append(key, kind.value, parts, length, pinned_until):
            return False
        stripe.counters.writes += 1
        return True

    def remove(self, key: bytes) -> bool:
        """
        Remove a document.

        It is gone at once; that it was removed is written like a document, within half a second.
        @return: whether there was one.
        """
        stripe = self._table[xxh3_64_intdigest(key) % SLOTS]
        if stripe is None or not stripe.remove(key):
            return False
        stripe.counters.removed += 1
        return True

    def save(self, key: bytes) -> None:
        """Somebody still needs it: if it is about to be overwritten it is moved to the front of the log."""
        stripe = self._table[xxh3_64_intdigest(key) % SLOTS]
        if stripe is not None and stripe.state is State.SERVING and (location := stripe.find(key)):
            stripe.evacuation.save(key, location)

    def walk(self, kind: Kind, each: Callable[[bytes, memoryview], object]) -> Deferred[None]:
        """
        Show every document of a kind, with its key, in no order; cancel the Deferred to end it.

        What is written meanwhile may be shown or not. An exception of C{each} ends it.
        """
        return (
            Survey([span.stripe for span in self._spans], self._loop, kind.value, each, None).start().addCallback(_none)
        )

    def verify(self, damaged: Callable[[bytes, str], object]) -> Deferred[Verified]:
        """
        Read everything; what is damaged is dropped and counted. Cancel the Deferred to end it.

        @param damaged: called with the key and what is wrong; the key is empty if it cannot be read any more.
        """
        return Survey([span.stripe for span in self._spans], self._loop, 0, None, damaged).start()

    @property
    def stat(self) -> Stat:
        """What there is and what happened so far."""
        serving = [span for span in self._spans if span.stripe.open]
        counters = Counters()
        for one in (self._out, *(span.stripe.counters for span in self._spans)):
            for field in fields(Counters):
                setattr(counters, field.name, getattr(counters, field.name) + getattr(one, field.name))
        taken = [span.snapshots.taken for span in serving if span.snapshots.taken is not None]
        return Stat(
            documents=sum(span.stripe.census.documents for span in serving),
            used=sum(span.stripe.census.used for span in serving),
            size=sum(span.stripe.size for span in serving),
            waiting=self._buffers.used,
            pinned=sum(span.stripe.evacuation.pinned for span in serving),
            spans=len(serving),
            of=len(self._spans),
            snapshot_age=self._loop.seconds() - min(taken) if taken else None,
            counters=counters,
        )

    def _lost(self, lost: Span) -> None:
        """A span is out of service: its keys are shared among the others, whose own keys stay where they are."""
        self._share([slot for slot, stripe in enumerate(self._table) if stripe is lost.stripe])

    def _share(self, slots: Sequence[int]) -> None:
        """Give slots to spans, to each as many as its size asks for (rendezvous hashing, weighted by size)."""
        spans = [(span, str(span.part).encode()) for span in self._spans if span.stripe.state is not State.LOST]
        for slot in slots:
            best, owner = 0.0, None
            for span, name in spans:
                drawn = (xxh3_64_intdigest(name, slot) + 1) / 2**64
                score = span.part.size / -log(drawn) if drawn < 1 else float("inf")
                if score > best:
                    best, owner = score, span.stripe
            self._table[slot] = owner


def _none(_: object) -> None: ...
