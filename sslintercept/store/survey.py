"""Going through all documents of a store, a few at a time, behind everybody who waits for one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from sslintercept.aio.request import Request
from sslintercept.store.directory import kind_of
from sslintercept.store.layout import Document
from sslintercept.store.medium import Timers
from sslintercept.store.stripe import Stripe

AT_ONCE: Final = 4
"""reads under way"""
STEP: Final = 1024
"""buckets that are looked at in one turn"""
BEHIND: Final = 0
"""the priority of these reads"""


class Verified(NamedTuple):
    """What was read: intact documents and the bytes of their content, and how many were damaged."""

    documents: int
    bytes: int
    damaged: int


class Survey:
    """
    One way through all directories.

    @param kind: of the documents; 0 means all.
    @param each: called with key and content of each.
    @param damaged: called with the key, or nothing if it is not known, and what is wrong.
    """

    def __init__(
        self,
        stripes: Sequence[Stripe],
        timers: Timers,
        kind: int,
        each: Callable[[bytes, memoryview], object] | None,
        damaged: Callable[[bytes, str], object] | None,
    ) -> None:
        self._timers, self._kind, self._each, self._damaged = timers, kind, each, damaged
        self._places = self._all(stripes)
        self._reading: dict[int, Request | None] = {}
        self._number = 0
        self._more = True
        self._timer: IDelayedCall | None = None
        self._documents = self._bytes = self._bad = 0
        self._over: Deferred[Verified] = Deferred(self._cancel)

    def start(self) -> Deferred[Verified]:
        """Begin; fires at the end."""
        self._later()
        return self._over

    def _all(self, stripes: Sequence[Stripe]) -> Generator[tuple[Stripe, int, int] | None, None, None]:
        """Stripe, bucket and location of each entry; C{None} when others should have a turn."""
        for stripe in stripes:
            bucket = 0
            while stripe.open and bucket < stripe.directory.buckets:
                for location in stripe.directory.locations(bucket):
                    if location > stripe.oldest and self._kind in (0, kind_of(location)):
                        yield stripe, bucket, location
                bucket += 1
                if bucket % STEP == 0:
                    yield None

    def _go_on(self) -> None:
        self._timer = None
        for _ in range(AT_ONCE):
            if len(self._reading) >= AT_ONCE or not self._more:
                break
            place = next(self._places, ())
            if place is None:
                break
            if not place:
                self._more = False
                break
            self._read(*place)
            if self._over.called:
                return
        if self._over.called:
            return
        if not self._more and not self._reading:
            # What was read from memory was shown at once, and has asked for another turn.
            self._end()
            self._over.callback(Verified(self._documents, self._bytes, self._bad))
        elif self._more and len(self._reading) < AT_ONCE:
            self._later()

    def _later(self) -> None:
        if self._timer is None and not self._over.called:
            self._timer = self._timers.later(0, self._go_on)

    def _read(self, stripe: Stripe, bucket: int, location: int) -> None:
        self._number += 1
        number = self._number
        self._reading[number] = None

        def done(document: Document | None, content: memoryview | None, why: str) -> None:
            del self._reading[number]
            if self._over.called:
                return
            try:
                if why:
                    self._bad += 1
                    if document is not None:
                        stripe.damaged(document.key, location)
                    else:
                        stripe.damaged_at(bucket, location)
                    if self._damaged is not None:
                        self._damaged(document.key if document is not None else b"", why)
                elif document is not None and content is not None:
                    self._documents += 1
                    self._bytes += len(content)
                    if self._each is not None:
                        self._each(document.key, content)
            except Exception:
                # The caller's defect is the caller's to hear of.
                if not self._over.called:
                    self._end()
                    self._over.errback()
            self._later()

        request = stripe.fetch(location, done, BEHIND)
        if number in self._reading:
            self._reading[number] = request

    def _cancel(self, _: Deferred[Verified]) -> None:
        self._end()

    def _end(self) -> None:
        self._more = False
        self._places.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for request in self._reading.values():
            if request is not None:
                request.cancel()
        self._reading.clear()
