"""
Copies of the directory on disk, in two places written in turn, so that one of them is whole at any time.

A snapshot is written in pieces while the directory changes. It is of the log's position when it was begun: entries from
there on are ignored when it is loaded, and found by scanning the log, removals included.
"""

from __future__ import annotations

import errno
from typing import Final

from xxhash import xxh3_64

from sslintercept.aio.buffer import Buffer
from sslintercept.store.directory import TAGS
from sslintercept.store.layout import (
    BLOCK,
    BUCKET,
    PAGE,
    PIN,
    SnapshotHeader,
    packed_pin,
    pins_of,
    snapshot_header,
    up,
)
from sslintercept.store.stripe import State, Stripe

PERIOD: Final = 60.0
"""seconds between two snapshots, if anything was written"""
RATE: Final = 2 * 2**20
"""bytes of snapshots a second, at most: for a large directory the period is longer"""
PART: Final = 16
"""a snapshot is due when a 16th of the log was written"""
PIECE: Final = 2**20
"""bytes that are copied, summed up and written at once"""
STEP: Final = 256
"""buckets, or pins, that are looked at in one turn"""


class Snapshots:
    """
    Those of one span.

    @ivar sequence: the last one's; C{place}: where the next one goes.
    @ivar taken: when the last one was complete, in seconds of the loop; C{None} before there is one.
    """

    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe
        self.sequence = self.place = self.position = 0
        self.changes = 0
        self.taken: float | None = None
        self.begun = stripe.timers.seconds()

    @property
    def due(self) -> bool:
        """Whether it is time for one."""
        stripe = self._stripe
        passed = stripe.timers.seconds() - self.begun
        return (
            stripe.urgent
            or stripe.written - self.position >= stripe.size // PART
            or (stripe.written != self.position and passed >= max(PERIOD, len(stripe.directory.data) / RATE))
        )

    async def take(self, *, clean: bool = False) -> bool:
        """
        Write one.

        @param clean: nothing will be written after it.
        @return: whether it is on the disk.
        """
        stripe = self._stripe
        buffer = stripe.buffers.take()
        if buffer is None:
            return False
        self.begun = stripe.timers.seconds()
        try:
            return await self._write(buffer, clean)
        except OSError as error:
            stripe.urgent = True
            stripe.trouble(error)
            return False
        finally:
            stripe.buffers.give(buffer)

    async def _write(self, buffer: Buffer, clean: bool) -> bool:
        stripe = self._stripe
        stripe.urgent = False
        position, floor, generation = stripe.written, stripe.floor, stripe.header.generation
        medium, data, checksum = stripe.medium, stripe.directory.data, xxh3_64()
        pins = await self._pins(position)
        offset = start = PAGE + self.place * stripe.header.place
        for source in (data, pins):
            for at in range(0, len(source), PIECE):
                piece = memoryview(source)[at : at + PIECE]
                size = up(len(piece), PAGE)
                buffer.view[: len(piece)] = piece
                buffer.view[len(piece) : size] = bytes(size - len(piece))
                checksum.update(buffer.view[: len(piece)])
                await medium.write(offset + PAGE, buffer.view[:size])
                if stripe.state is State.LOST:
                    return False
                offset += size
        count = len(pins) // PIN
        header = SnapshotHeader(generation, self.sequence + 1, position, floor, count, int(clean), checksum.intdigest())
        await medium.write(start, header.packed())
        self.sequence, self.place, self.position = header.sequence, 1 - self.place, position
        self.taken = stripe.timers.seconds()
        stripe.counters.snapshots += 1
        return True

    async def _pins(self, position: int) -> bytearray:
        packed = bytearray()
        pins = self._stripe.evacuation.pins()
        for number, pin in enumerate(pins, 1):
            if pin[0] < position:
                packed += packed_pin(*pin)
            if number % STEP == 0:
                await self._stripe.medium.pause(0)
        return packed

    async def load(self) -> tuple[SnapshotHeader, list[tuple[int, bytes, float]]] | None:
        """
        Fill the directory from the newest that is intact, without what is to be scanned for.

        @return: its header and what is pinned; C{None} if there is none.
        @raise OSError: the disk fails.
        """
        stripe = self._stripe
        found: list[tuple[SnapshotHeader, int]] = []
        for place in (0, 1):
            page = memoryview(bytearray(PAGE))
            got = await self._read(PAGE + place * stripe.header.place, page)
            header = snapshot_header(page, stripe.header.generation) if got else None
            if header is not None:
                found.append((header, place))
        for header, place in sorted(found, reverse=True):
            pins = await self._body(header, PAGE + place * stripe.header.place + PAGE)
            if pins is None:
                stripe.say("a snapshot of the directory is damaged; another one, or all of the log, takes its place")
                stripe.prepare(stripe.header)
                continue
            self.sequence, self.place, self.position = header.sequence, 1 - place, header.position
            await self._cut(header.position)
            return header, pins_of(pins)
        return None

    async def _body(self, header: SnapshotHeader, offset: int) -> bytearray | None:
        stripe, checksum = self._stripe, xxh3_64()
        pins = bytearray(header.pins * PIN)
        for target in (stripe.directory.data, pins):
            view = memoryview(target)
            for at in range(0, len(target), PIECE):
                piece = view[at : at + PIECE]
                if not await self._read(offset, piece):
                    return None
                checksum.update(piece)
                offset += up(len(piece), PAGE)
        return pins if checksum.intdigest() == header.checksum else None

    async def _read(self, offset: int, memory: memoryview) -> bool:
        """
        Read a piece of a snapshot; whether the disk gave it.

        @raise OSError: nothing more can be read.
        """
        stripe = self._stripe
        try:
            await stripe.medium.read_into(offset, memory)
        except OSError as error:
            stripe.trouble(error)
            if stripe.state is not State.RECOVERING or error.errno == errno.ECANCELED:
                raise
            return False
        stripe.went_well()
        return True

    async def _cut(self, position: int) -> None:
        """Take out what was entered while the snapshot was written."""
        directory, limit = self._stripe.directory, position // BLOCK << 16
        for bucket in range(directory.buckets):
            locations = directory.locations(bucket)
            if max(locations) >= limit:
                for way, location in enumerate(locations):
                    if location >= limit:
                        directory.clear(bucket, way)
            if bucket % STEP == 0:
                await self._stripe.medium.pause(0)


assert BUCKET == 2 * TAGS
