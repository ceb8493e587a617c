"""What taking parts apart may cost: bytes, entries, depth, ratio and time, over everything in one part together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Final

MOST_PLACES: Final = 64
"""places that are named where a limit was met, or something was wrong"""

DEPTH, ENTRIES, RATIO, SIZE, TIME = "depth", "entries", "ratio", "size", "time"
TRUNCATED, ENCRYPTED, RUBBISH, UNOPENED = "truncated", "encrypted", "rubbish", "unopened"
LIES, OVERLAP, UNLISTED, CHARSET, ENTITIES = "lies", "overlap", "unlisted", "charset", "entities"
MACROS = "macros"
"""notes: what docs/unpack.md explains"""
LIMITS: Final = frozenset((DEPTH, ENTRIES, RATIO, SIZE, TIME))
"""notes that say that not everything was looked at, since it would be too much"""


class Spent(Exception):
    """A limit for everything together is met: what has been taken out is all."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    @ivar depth: of containers in containers that are opened.
    @ivar entries: pieces that are taken out, in all; C{total}: their bytes; C{member}: bytes of one of them.
    @ivar ratio: bytes for each compressed one, where more than C{floor} bytes come out.
    @ivar pages: of one document.
    """

    depth: int = 16
    entries: int = 10_000
    total: int = 64 * 1024 * 1024
    member: int = 16 * 1024 * 1024
    ratio: int = 1000
    floor: int = 1024 * 1024
    pages: int = 2000

    @classmethod
    def read(cls, meta: object) -> Limits:
        """From a job's meta; what it does not say keeps its default."""
        given = meta if isinstance(meta, Mapping) else {}
        return cls(**{each.name: int(given[each.name]) for each in fields(cls) if each.name in given})


class Budget:
    """
    What is left.

    @ivar path: names from the outermost container to where we are; whoever walks keeps it.
    @ivar hits: notes so far, in the order of their coming; C{places}: with the paths they belong to.
    """

    def __init__(self, limits: Limits, now: Callable[[], float], seconds: float) -> None:
        self.limits = limits
        self._now = now
        self._until = now() + seconds
        self._left = limits.total
        self.entries = 0
        self.path: tuple[str, ...] = ()
        self.hits: dict[str, None] = {}
        self.places: list[tuple[str, tuple[str, ...]]] = []

    @property
    def room(self) -> int:
        """Bytes that the next piece may have."""
        return min(self.limits.member, self._left)

    def hit(self, note: str) -> None:
        """Something is to be known of where we are."""
        self.hits[note] = None
        place = (note, self.path)
        if len(self.places) < MOST_PLACES and place not in self.places:
            self.places.append(place)

    def spend(self, size: int) -> None:
        """
        Bytes were taken out.

        @raise Spent: and no more can be.
        """
        self._left -= size
        if self._left <= 0:
            self._left = 0
            self.hit(SIZE)
            raise Spent

    def entry(self) -> None:
        """
        One more piece is taken out.

        @raise Spent: there were too many.
        """
        self.tick()
        self.entries += 1
        if self.entries > self.limits.entries:
            self.hit(ENTRIES)
            raise Spent

    def tick(self) -> None:
        """
        Once in a while.

        @raise Spent: time is over.
        """
        if self._now() > self._until:
            self.hit(TIME)
            raise Spent
