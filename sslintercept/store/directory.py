"""
The directory of a span: where the document of a key is, in 16 bytes of memory each (ATS: Dir, 10 bytes).

A bounded array of buckets of eight. A key has two buckets it may be in, by its hash, which also is its tag. A location
packs position, flags and length into a number that is the higher the newer, so the oldest entry of a bucket is the
least, and an entry below the floor of the log is as good as a free one. Full buckets forget the oldest entry that is
not pinned.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

from xxhash import xxh3_64_digest, xxh3_64_intdigest

from sslintercept.store.layout import BLOCK, BUCKET, WAYS

_LOCATION: Final = struct.Struct("<Q")
_LOCATIONS: Final = struct.Struct(f"<{WAYS}Q")
TAGS: Final = WAYS * 8
"""bytes of the tags of a bucket; the locations are behind them"""
REGIONS: Final = 256
"""parts of the log in each of which documents are counted"""
FINEST: Final = 2**14
"""bytes of such a part, at least"""

_PINNED: Final = 1 << 13
_KIND: Final = 14


def located(position: int, whole: int, kind: int, pinned: bool) -> int:
    """
    Where a document is, as a number: 48 bits of blocks of position, 2 of kind, 1 for pinned, 13 of blocks of length.

    @param position: in bytes, at a block; C{whole}: bytes in the log.
    """
    return position // BLOCK << 16 | kind << _KIND | (_PINNED if pinned else 0) | whole // BLOCK


def position_of(location: int) -> int:
    """Bytes."""
    return (location >> 16) * BLOCK


def whole_of(location: int) -> int:
    """Bytes in the log."""
    return (location & 0x1FFF) * BLOCK


def kind_of(location: int) -> int:
    """L{sslintercept.store.layout.HEAD} and so on."""
    return location >> _KIND & 3


def unpinned(location: int) -> int:
    """The same without a pin."""
    return location & ~_PINNED


def is_pinned(location: int) -> bool:
    """Whether it was pinned when it was written."""
    return bool(location & _PINNED)


class Put(NamedTuple):
    """What a new entry took the place of: the key's own older one, or that of another key; 0 if none."""

    replaced: int
    evicted: int


class Directory:
    """
    The entries of one span.

    @param seed: of the hash, unknown outside, so nobody can choose keys that meet in a bucket.
    @ivar data: the memory of all entries, as it goes into a snapshot.
    """

    __slots__ = ("_seed", "buckets", "data")

    def __init__(self, buckets: int, seed: int) -> None:
        self.buckets, self._seed = buckets, seed
        self.data = mmap.mmap(-1, buckets * BUCKET, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        """zeros that cost nothing until they are used"""
        self.data.madvise(mmap.MADV_DONTFORK)

    def find(self, key: bytes) -> int:
        """
        The location of a key, dead or alive; 0 if it has none.

        Another key's entry is taken for it with a probability of (entries in use) / 2^64.
        """
        tag, number = xxh3_64_digest(key, self._seed), xxh3_64_intdigest(key, self._seed)
        at = self._entry(tag, number % self.buckets * BUCKET)
        if at < 0:
            at = self._entry(tag, (number >> 32) % self.buckets * BUCKET)
            if at < 0:
                return 0
        found: int = _LOCATION.unpack_from(self.data, at)[0]
        return found

    def put(self, key: bytes, new: int, oldest: int, *, newer: bool = False) -> Put:
        """
        Enter a location, in place of what the key had.

        @param oldest: the least location that is alive.
        @param newer: leave an entry of the key alone if it is newer.
        """
        data = self.data
        tag, number = xxh3_64_digest(key, self._seed), xxh3_64_intdigest(key, self._seed)
        first, second = number % self.buckets * BUCKET, (number >> 32) % self.buckets * BUCKET
        at = self._entry(tag, first)
        if at < 0:
            at = self._entry(tag, second)
        if at >= 0:
            old: int = _LOCATION.unpack_from(data, at)[0]
            if not newer or old < new:
                _LOCATION.pack_into(data, at, new)
            return Put(old if old >= oldest else 0, 0)
        bucket, locations = first, _LOCATIONS.unpack_from(data, first + TAGS)
        others = _LOCATIONS.unpack_from(data, second + TAGS)
        alive = max(oldest, 1)
        free, others_free = bisect_left(sorted(locations), alive), bisect_left(sorted(others), alive)
        if free or others_free:
            # The emptier of the two: so buckets fill evenly.
            if others_free > free:
                bucket, locations = second, others
            least = min(locations)
        else:
            both = locations + others
            least = min((one for one in both if not one & _PINNED), default=min(both))
            if least not in locations:
                bucket, locations = second, others
        way = locations.index(least)
        data[bucket + way * 8 : bucket + way * 8 + 8] = tag
        _LOCATION.pack_into(data, bucket + TAGS + way * 8, new)
        return Put(0, least if least >= oldest else 0)

    def drop(self, key: bytes, only: int = 0) -> int:
        """
        Take a key out.

        @param only: the location it must have for that.
        @return: the location it had; 0 if nothing was done.
        """
        tag, number = xxh3_64_digest(key, self._seed), xxh3_64_intdigest(key, self._seed)
        at = self._entry(tag, number % self.buckets * BUCKET)
        if at < 0:
            at = self._entry(tag, (number >> 32) % self.buckets * BUCKET)
        if at < 0:
            return 0
        old: int = _LOCATION.unpack_from(self.data, at)[0]
        if only and old != only:
            return 0
        self._clear(at)
        return old

    def locations(self, bucket: int) -> tuple[int, ...]:
        """What is in a bucket; 0 is a free entry."""
        return _LOCATIONS.unpack_from(self.data, bucket * BUCKET + TAGS)

    def drop_at(self, bucket: int, location: int) -> None:
        """Take out an entry of which only the place is known, if it still is there."""
        locations = self.locations(bucket)
        if location in locations:
            self.clear(bucket, locations.index(location))

    def set_at(self, bucket: int, way: int, location: int) -> None:
        """Change the location of an entry of which only the place is known."""
        _LOCATION.pack_into(self.data, bucket * BUCKET + TAGS + way * 8, location)

    def clear(self, bucket: int, way: int) -> None:
        """Make an entry free."""
        self._clear(bucket * BUCKET + TAGS + way * 8)

    def _clear(self, at: int) -> None:
        _LOCATION.pack_into(self.data, at, 0)
        _LOCATION.pack_into(self.data, at - TAGS, 0)

    def _entry(self, tag: bytes, bucket: int) -> int:
        """Where the location of a tag is in a bucket; below 0 if it is not there."""
        at = self.data.find(tag, bucket, bucket + TAGS)
        while at >= 0:
            if not at & 7:
                return at + TAGS
            at = self.data.find(tag, at + 1, bucket + TAGS)
        return -1


class Census:
    """
    How many documents are alive, and their bytes: counted by parts of the log, which die as a whole.

    So what is overwritten is taken off at once for a 256th part of the log, and nobody has to go through the directory.

    @param size: bytes of the log; C{ahead}: the most that waits to be written to it.
    """

    __slots__ = ("_bytes", "_documents", "_lowest", "_region", "documents", "used")

    def __init__(self, size: int, ahead: int) -> None:
        self._region = max(FINEST, -(-size // REGIONS))
        count = (size + ahead) // self._region + 3
        self._documents = [0] * count
        self._bytes = [0] * count
        self._lowest = 0
        self.documents = self.used = 0

    def add(self, location: int, sign: int = 1) -> None:
        """Count a document; with a C{sign} of -1 do not count it any more."""
        region = position_of(location) // self._region
        if region >= self._lowest:
            at, size = region % len(self._documents), sign * whole_of(location)
            self._documents[at] += sign
            self._bytes[at] += size
            self.documents += sign
            self.used += size

    def advance(self, floor: int) -> None:
        """Everything below a position is overwritten."""
        for at in self._passed(floor // self._region):
            self.documents -= self._documents[at]
            self.used -= self._bytes[at]
            self._documents[at] = self._bytes[at] = 0

    def _passed(self, lowest: int) -> Iterator[int]:
        count = len(self._documents)
        for region in range(self._lowest, min(lowest, self._lowest + count)):
            yield region % count
        self._lowest = max(self._lowest, lowest)
