"""
Documents gathered to one write (ATS: the aggregation buffer), and the memory that all spans of a store share.

What is appended is copied, with its header and checksum, to where it will be on disk; from there it also is read until
it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from sslintercept.aio.buffer import Buffer, mapped
from sslintercept.store.layout import (
    BLOCK,
    DOCUMENT_HEADER,
    LARGEST_WHOLE,
    PAGE,
    Bytes,
    Document,
    document_at,
    put_document,
    up,
    whole,
)

CAPACITY: Final = LARGEST_WHOLE + PAGE - BLOCK
"""bytes of a buffer: the largest document, wherever in a page it begins"""
FLUSH: Final = 2**20
"""bytes in an aggregate that is written without waiting for more"""
MOST_MEMORY: Final = 64 * 2**20
"""bytes of all buffers of a store: of documents that wait for the disk, of snapshots and recoveries under way"""
MOST_KEPT: Final = 4
"""buffers that wait to be used again"""


class Buffers:
    """
    Page-aligned memory for writes, snapshots and recoveries.

    @param most: bytes in use.
    @ivar used: bytes in use.
    """

    def __init__(self, most: int = MOST_MEMORY) -> None:
        self._most, self._kept = most, list[Buffer]()
        self.used = 0

    def take(self, *, urgent: bool = False) -> Buffer | None:
        """
        A buffer of L{CAPACITY} bytes, of whatever content; C{None} if too many are in use or memory is short.

        @param urgent: for what must not be refused as easily, which has a quarter for itself.
        """
        if self.used + CAPACITY > (self._most if urgent else self._most * 3 // 4):
            return None
        try:
            buffer = self._kept.pop() if self._kept else mapped(CAPACITY)[0]
        except OSError:
            return None
        self.used += CAPACITY
        return buffer

    def give(self, buffer: Buffer) -> None:
        """Take one back that neither disk nor caller looks at any more."""
        self.used -= CAPACITY
        if len(self._kept) < MOST_KEPT:
            self._kept.append(buffer)


class Aggregate:
    """
    One buffer and the part of the log it will become.

    @param start: the position of its first byte, at a page.
    @ivar fill: bytes in use.
    @ivar entries: key, location and whether it replaced an older one, of each document in it.
    @ivar buries: whether a tombstone is among them, which has no entry.
    @ivar due: whether it is to be written although it is not full.
    """

    __slots__ = ("buffer", "buries", "due", "entries", "fill", "generation", "start")

    def __init__(self, buffer: Buffer, start: int, generation: int) -> None:
        self.buffer, self.start, self.generation = buffer, start, generation
        self.fill = 0
        self.due = self.buries = False
        self.entries: list[tuple[bytes, int, bool]] = []

    @property
    def end(self) -> int:
        """The position behind it, at a page."""
        return self.start + up(self.fill, PAGE)

    def append(self, key: bytes, kind: int, parts: Sequence[Bytes], length: int, pinned_until: float) -> int:
        """
        Copy a document behind the others; it must fit.

        @param parts: its content, C{length} bytes together.
        @return: its position.
        """
        view, at = self.buffer.view, self.fill
        begin = end = at + DOCUMENT_HEADER
        for part in parts:
            view[end : end + len(part)] = part
            end += len(part)
        checksum = xxh3_64_intdigest(view[begin:end])
        position = self.start + at
        put_document(view, at, Document(self.generation, position, key, pinned_until, length, kind, checksum))
        self.fill = at + whole(length)
        view[end : self.fill] = bytes(self.fill - end)
        return position

    def content(self, key: bytes, position: int) -> memoryview | None:
        """The content of a document in here; C{None} if another key's is at its place."""
        at = position - self.start
        document = document_at(self.buffer.view, at, self.generation)
        if document is None or document.key != key:
            return None
        return self.buffer.view[at + DOCUMENT_HEADER : at + DOCUMENT_HEADER + document.length]

    def sealed(self) -> memoryview:
        """What is to be written: whole pages, nothing left in them of what the buffer held before."""
        end = self.end - self.start
        self.buffer.view[self.fill : end] = bytes(end - self.fill)
        return self.buffer.view[:end]
