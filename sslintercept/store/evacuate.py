"""
Documents that outlive the lap of the log they were written in: they are moved to its front (ATS: evacuation).

A pinned document is moved before its place is overwritten, and the write waits for that. One that somebody asks for
while it is about to be overwritten is moved too (ATS: hit evacuation), if there is room.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from sslintercept.store.directory import is_pinned, position_of, whole_of
from sslintercept.store.layout import MOST_PINNED, Document

if TYPE_CHECKING:
    from sslintercept.store.stripe import Stripe

AHEAD: Final = 8 * 2**20
"""bytes of the log that are looked at before their turn, so that what is moved is on the disk in time"""
MOST_MOVES: Final = 32
"""documents of a span that are moved at once"""
NEAR: Final = 32
"""what is in the next 32nd of the log is about to be overwritten (ATS: cache.hit_evacuate_percent)"""
SHARE: Final = 4
"""pinned documents have a quarter of the span at most"""
SWEEP: Final = 60.0
"""seconds between two looks for pins that are over, when there is no room for a new one"""

Pin = tuple[int, bytes, float]
"""position, key, until"""


class Evacuation:
    """
    What is pinned in a span, and what is being moved.

    @ivar pinned: bytes of pinned documents in the directory; C{count}: how many.
    """

    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe
        self._pins: deque[Pin] = deque()
        """by position; replaced ones are among them until they are come across"""
        self._moving: dict[int, Pin | None] = {}
        """by position"""
        self._swept = 0.0
        self.pinned = self.count = 0

    def admits(self, whole: int) -> bool:
        """Whether a document of so many bytes in the log may be pinned."""
        if self._fits(whole):
            return True
        now = self._stripe.wall_clock()
        if not 0 <= now - self._swept < SWEEP:
            self._swept = now
            self._sweep(now)
        return self._fits(whole)

    def _fits(self, whole: int) -> bool:
        return self.count < MOST_PINNED and self.pinned + whole <= self._stripe.size // SHARE

    def _sweep(self, now: float) -> None:
        for pin in self._pins:
            if pin[2] <= now:
                self._unpin(pin)
        self._compact()

    def _compact(self) -> None:
        self._pins = deque(pin for pin in self._pins if self._location(pin))

    def pins(self) -> list[Pin]:
        """What is pinned, by position."""
        moving = [pin for pin in self._moving.values() if pin is not None]
        return [pin for pin in (*sorted(moving), *self._pins) if self._location(pin)]

    def add(self, position: int, key: bytes, until: float) -> None:
        """A pinned document was entered into the directory; positions only grow."""
        self._pins.append((position, key, until))
        if len(self._pins) > 2 * MOST_PINNED:
            self._compact()

    def counted(self, location: int, sign: int) -> None:
        """A location came into the directory, or left it."""
        if is_pinned(location):
            self.pinned += sign * whole_of(location)
            self.count += sign

    def ready(self, floor: int) -> bool:
        """
        Whether everything below a position may be overwritten; else what must not is being moved, and
        L{Stripe.flush} is called again afterwards. A span that is being stopped moves nothing any more.
        """
        pins, moving = self._pins, self._moving
        if self._stripe.serving:
            now = self._stripe.wall_clock()
            ahead = floor + min(AHEAD, self._stripe.size // SHARE)
            while pins and pins[0][0] < ahead and len(moving) < MOST_MOVES:
                pin = pins.popleft()
                found = self._location(pin)
                if found and pin[2] > now:
                    self._move(pin[1], found, pin)
                elif found:
                    self._unpin(pin)
        return not (pins and pins[0][0] < floor) and not any(position < floor for position in moving)

    def save(self, key: bytes, location: int) -> None:
        """Move a document if it is about to be overwritten, and nothing more urgent is in the way."""
        stripe, position = self._stripe, position_of(location)
        if (
            position - stripe.floor < stripe.size // NEAR
            and stripe.head > stripe.size
            and position < stripe.written
            and position not in self._moving
            and len(self._moving) < MOST_MOVES // 2
        ):
            self._move(key, location)

    def _location(self, pin: Pin) -> int:
        """Where a pinned document is; 0 if the pin is none any more."""
        location = self._stripe.directory.find(pin[1])
        return location if is_pinned(location) and position_of(location) == pin[0] else 0

    def _unpin(self, pin: Pin) -> None:
        if location := self._location(pin):
            self._stripe.unpin(pin[1], location)

    def _move(self, key: bytes, location: int, pin: Pin | None = None) -> None:
        self._moving[position_of(location)] = pin

        def read(document: Document | None, content: memoryview | None, why: str) -> None:
            del self._moving[position_of(location)]
            stripe = self._stripe
            if not stripe.serving:
                if pin is not None:
                    self._pins.appendleft(pin)  # it stays where it is
            elif stripe.directory.find(key) == location:
                if why:
                    stripe.damaged(key, location)
                elif document is not None and content is not None and document.key == key:
                    self._moved(document, content)
                if is_pinned(location) and stripe.directory.find(key) == location:
                    stripe.unpin(key, location)
                    stripe.counters.pins_lost += 1
            stripe.flush()

        self._stripe.fetch(location, read)

    def _moved(self, document: Document, content: memoryview) -> None:
        until, stripe = document.pinned_until, self._stripe
        if stripe.append(document.key, document.kind, [content], document.length, until, moves=True):
            stripe.counters.evacuated += 1
