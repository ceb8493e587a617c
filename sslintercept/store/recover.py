"""
What a span remembers after a restart: its newest snapshot, and the log from there on; without one, all of the log.

Documents are believed if generation, place and checksums agree; the newest of a key counts. Everything is done in
pieces, with a pause after each, while the span answers that it has nothing.
"""

from __future__ import annotations

import errno
import re
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from sslintercept.aio.buffer import Buffer
from sslintercept.store.aggregate import CAPACITY
from sslintercept.store.directory import is_pinned, kind_of, located, position_of, unpinned
from sslintercept.store.evacuate import Pin
from sslintercept.store.layout import (
    BLOCK,
    DOCUMENT_HEADER,
    LARGEST_WHOLE,
    MAGIC_DOCUMENT,
    MOST_PINNED,
    PAGE,
    TOMBSTONE,
    Document,
    document_at,
    up,
)
from sslintercept.store.snapshot import STEP, Snapshots
from sslintercept.store.stripe import State, Stripe

LOOK_AHEAD: Final = 16 * 2**20
"""bytes behind the last document in which another one is looked for: writes that failed left a hole"""
MOST_LOOKS: Final = 256
"""headers that are looked at in one turn"""
PATIENCE: Final = 1.0
"""seconds until memory for the scan is asked for again"""

_MAGIC: Final = re.compile(re.escape(MAGIC_DOCUMENT))


class Found(NamedTuple):
    """
    What a part of the log holds.

    @ivar documents: each with whether its content is intact.
    @ivar at: where to go on in the memory.
    @ivar newer: whether there is something of a later lap than was expected.
    """

    documents: list[tuple[Document, bool]]
    at: int
    newer: bool


def gather(memory: memoryview, at: int, place: int, lap: int | None, generation: int, size: int) -> Found:
    """
    Find documents from C{at} on, until memory ends, a document goes beyond it, or L{MOST_LOOKS} were looked at.

    @param place: where in the data the memory begins.
    @param lap: how often the log had wrapped when they were written; C{None} if it is not known.
    @param size: bytes of the data.
    """
    found: list[tuple[Document, bool]] = []
    newer = False
    for _ in range(MOST_LOOKS):
        document = document_at(memory, at, generation)
        if document is not None and document.position % size == place + at:
            if lap is None or document.position // size == lap:
                end = at + document.whole
                if end > len(memory):
                    return Found(found, at, newer)
                content = memory[at + DOCUMENT_HEADER : at + DOCUMENT_HEADER + document.length]
                found.append((document, xxh3_64_intdigest(content) == document.checksum))
                at = end
                continue
            newer = newer or document.position // size > lap
        at = _next(memory, at + BLOCK)
        if at >= len(memory):
            break
    return Found(found, at, newer)


def _next(memory: memoryview, at: int) -> int:
    """The next block that begins like a document."""
    while (match := _MAGIC.search(memory, at)) is not None:
        at = match.start()
        if at % BLOCK == 0:
            return at
        at += 1
    return len(memory)


class Recovery:
    """
    One recovery.

    @ivar scanned: bytes of the log that were read; C{complete}: whether all of it was.
    """

    def __init__(self, stripe: Stripe, snapshots: Snapshots) -> None:
        self._stripe, self._snapshots = stripe, snapshots
        self._pins: list[Pin] = []
        self.scanned = 0
        self.complete = False

    async def run(self) -> None:
        """
        Fill the directory and let the span serve.

        @raise OSError: the disk fails.
        """
        stripe = self._stripe
        loaded = await self._snapshots.load()
        end: int | None = None
        floor, clean = 0, False
        if loaded is not None:
            header, self._pins = loaded
            floor = header.floor
            end = await self._with_buffer(header.position)
            clean = bool(header.clean) and end == header.position
        if end is None:
            self.complete = True
            stripe.prepare(stripe.header)
            self._pins.clear()
            end, floor = await self._with_buffer(None) or 0, 0
        head = up(end, PAGE)
        if not clean:
            # What was being written in the last moment may have begun to overwrite what follows.
            edge = up(head, stripe.size)
            floor = max(floor, (edge if edge - head < LARGEST_WHOLE else head) + CAPACITY - stripe.size)
        if stripe.state is State.RECOVERING:
            await self._count(head, max(floor, 0))
            stripe.urgent = not clean

    async def _with_buffer(self, position: int | None) -> int | None:
        stripe = self._stripe
        while (buffer := stripe.buffers.take()) is None:
            await stripe.medium.pause(PATIENCE)
        try:
            return await self._scan(buffer, position)
        finally:
            stripe.buffers.give(buffer)

    async def _scan(self, buffer: Buffer, position: int | None) -> int | None:
        """
        Read the log from a position on, or all of it.

        @return: the position behind the last document; C{None} if the log has gone on for more than a lap since.
        """
        stripe, everything = self._stripe, position is None
        size = stripe.size
        at = end = position or 0
        limit = at + size
        while at < limit and (everything or at < end + LOOK_AHEAD):
            start, place = at - at % size, at % size - at % PAGE
            wanted = min(CAPACITY, size - place)
            memory = buffer.view[: await self._read(place, buffer.view[:wanted])]
            lap = None if everything else start // size
            inside = first = at % PAGE
            while inside < len(memory):
                found = gather(memory, inside, place, lap, stripe.header.generation, size)
                if found.newer:
                    return None
                for document, intact in found.documents:
                    end = max(end, document.position + document.whole)
                    self._enter(document, intact)
                await stripe.medium.pause(0)
                if stripe.state is not State.RECOVERING:
                    return end
                if found.at == inside:
                    break  # a document goes on behind this piece
                inside = found.at
            if inside == first:
                inside += BLOCK  # the end of the file, or of the data, cuts it off
            at = start + (size if len(memory) < wanted else place + inside)
        return end

    async def _read(self, place: int, memory: memoryview) -> int:
        """Read a piece; one that the disk does not give holds nothing."""
        stripe = self._stripe
        self.scanned += len(memory)
        try:
            got = await stripe.medium.read_into(stripe.header.start + place, memory)
        except OSError as error:
            stripe.trouble(error)
            if stripe.state is not State.RECOVERING or error.errno == errno.ECANCELED:
                raise
            memory[:] = bytes(len(memory))
            return len(memory)
        stripe.went_well()
        return got

    def _enter(self, document: Document, intact: bool) -> None:
        """The newest of a key counts, also if it says that there is none, or cannot be read."""
        position, key = document.position, document.key
        kind = document.kind if intact else TOMBSTONE
        if kind == TOMBSTONE and not self.complete:
            self._stripe.directory.drop(key)  # forward, everything that is known is older
            return
        pinned = intact and document.pinned_until > 0
        self._stripe.directory.put(key, located(position, document.whole, kind, pinned), 0, newer=True)
        if pinned:
            self._pins.append((position, key, document.pinned_until))
            if len(self._pins) > 2 * MOST_PINNED:
                find = self._stripe.directory.find
                self._pins = [pin for pin in self._pins if position_of(find(pin[1])) == pin[0]][-MOST_PINNED:]

    async def _count(self, head: int, floor: int) -> None:
        """Take out what says that there is nothing, and what is overwritten; count the rest, and serve."""
        stripe = self._stripe
        directory, oldest, newest = stripe.directory, floor // BLOCK << 16, head // BLOCK << 16
        pins = sorted(self._pins)[-MOST_PINNED:]
        known = {pin[0] for pin in pins}
        for bucket in range(directory.buckets):
            locations = directory.locations(bucket)
            for way, one in enumerate(locations) if any(locations) else ():
                if one <= oldest or one >= newest or kind_of(one) == TOMBSTONE:
                    directory.clear(bucket, way)
                    continue
                if is_pinned(one) and position_of(one) not in known:
                    directory.set_at(bucket, way, unpinned(one))
                else:
                    stripe.evacuation.counted(one, 1)
                stripe.census.add(one)
            if bucket % STEP == 0:
                await stripe.medium.pause(0)
                if stripe.state is not State.RECOVERING:
                    return
        for pin in pins:
            stripe.evacuation.add(*pin)
        stripe.begin(head, floor)
