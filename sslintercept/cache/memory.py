"""
What is kept in memory in front of the disk, such that reading everything once does not push out what is used again.

Two queues, first in, first out: what is new waits in a small one, and goes on to the main one only if it was asked for
again meanwhile; what leaves the main one and was asked for since goes round once more. Of what was pushed out of the
small queue the keys are remembered for a while: who comes back soon goes to the main queue at once (S3-FIFO, Yang et
al., SOSP 2023).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

SHARE_OF_NEW: Final = 10
"""The small queue is the tenth part of the whole."""
MOST_USES: Final = 3
"""Uses that are counted."""
MOST_GHOSTS: Final = 65536
"""Keys that are remembered."""

T = TypeVar("T")


class _Kept(Generic[T]):
    __slots__ = ("size", "uses", "value")

    def __init__(self, value: T, size: int) -> None:
        self.value, self.size, self.uses = value, size, 0


class MemoryCache(Generic[T]):
    """
    Values under keys, with their sizes.

    @param most: bytes of all values; 0 keeps nothing.
    @ivar used: bytes of what is kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._new: OrderedDict[bytes, _Kept[T]] = OrderedDict()
        self._new_size = 0
        self._main: OrderedDict[bytes, _Kept[T]] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        """hashes of keys, which may be long; two that are the same cost one place in a queue"""

    def __len__(self) -> int:
        return len(self._new) + len(self._main)

    def get(self, key: bytes) -> T | None:
        """Give the value under *key*, which counts as a use."""
        kept = self._main.get(key) or self._new.get(key)
        if kept is None:
            return None
        if kept.uses < MOST_USES:
            kept.uses += 1
        return kept.value

    def put(self, key: bytes, value: T, size: int) -> None:
        """Keep *value*; what is larger than the small queue is not kept at all."""
        uses = self._take(key)
        if size > self.most // SHARE_OF_NEW:
            return
        kept = _Kept(value, size)
        self.used += size
        if uses is not None:
            kept.uses = uses  # what is renewed does not begin anew
            self._main[key] = kept
        elif (ghost := hash(key)) in self._ghosts:
            del self._ghosts[ghost]
            self._main[key] = kept
        else:
            self._new[key] = kept
            self._new_size += size
        while self.used > self.most:
            self._evict()

    def drop(self, key: bytes) -> None:
        """Forget what is under *key*."""
        self._take(key)

    def clear(self) -> None:
        """Forget everything."""
        self._new.clear()
        self._main.clear()
        self._ghosts.clear()
        self.used = self._new_size = 0

    def _take(self, key: bytes) -> int | None:
        """Take what is under *key* away; say how often it was used if it had reached the main queue."""
        if (kept := self._main.pop(key, None)) is not None:
            self.used -= kept.size
            return kept.uses
        if (kept := self._new.pop(key, None)) is not None:
            self.used -= kept.size
            self._new_size -= kept.size
            if kept.uses:
                return kept.uses
        return None

    def _evict(self) -> None:
        if self._new and (self._new_size > self.most // SHARE_OF_NEW or not self._main):
            key, kept = self._new.popitem(last=False)
            self._new_size -= kept.size
            if kept.uses:
                kept.uses = 0
                self._main[key] = kept
                return
            self._ghosts[hash(key)] = None
            if len(self._ghosts) > MOST_GHOSTS:
                self._ghosts.popitem(last=False)
        else:
            key, kept = self._main.popitem(last=False)
            if kept.uses:
                kept.uses -= 1
                self._main[key] = kept
                return
        self.used -= kept.size
