"""
Memory for transfers: whole pages at page boundaries, as O_DIRECT wants them, used again and again.

A size is a power of two of pages; the larger ones lie in huge pages. What is in use and what is kept count together;
who asks for more than there may be gets nothing and waits.
"""

from __future__ import annotations

import ctypes
import mmap
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock
from typing import Final

from sslintercept.aio.request import LARGEST, MOST_PARTS, Request

PAGE: Final = mmap.PAGESIZE
MOST_MEMORY: Final = 64 * 2**20
"""bytes of all buffers of one engine: 1024 requests of 64 KiB"""
HUGE: Final = 2 * 2**20
"""bytes of a huge page"""
CUT: Final = 65536
"""bytes from which on buffers lie in huge pages"""
WORST: Final = 2 * LARGEST + MOST_PARTS * 4 * PAGE + 5 * HUGE
"""
bytes that the largest batch may need: sizes round up to twice the length, reads to whole pages on both sides, and of
each of the five sizes from C{CUT} to C{HUGE} a huge page may be in use for one buffer
"""


class Buffer:
    """
    Some pages.

    @ivar address: where they are, as long as this lives.
    @ivar mates: all buffers of the same mapping, this one among them.
    """

    __slots__ = ("address", "mates", "size", "taken", "view")

    def __init__(self, size: int, view: memoryview, mates: list[Buffer]) -> None:
        self.size, self.view, self.mates = size, view, mates
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        self.taken = False


def mapped(size: int) -> list[Buffer]:
    """
    New buffers of a size: one, or as many as a huge page has; a transfer into it has one segment instead of one for
    each page.

    @raise OSError: the system has no memory.
    """
    if size < CUT:
        pages, start, count = _anonymous(size), 0, 1
    else:
        pages = _anonymous(max(size, HUGE) + HUGE)
        with suppress(OSError):  # a kernel without
            pages.madvise(mmap.MADV_HUGEPAGE)
        start = -ctypes.addressof(ctypes.c_char.from_buffer(pages)) % HUGE
        count = max(1, HUGE // size)
    view = memoryview(pages)
    mates: list[Buffer] = []
    mates.extend(Buffer(size, view[at : at + size], mates) for at in range(start, start + count * size, size))
    return mates


def _anonymous(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A fork while the disk writes here would leave parent or child with the old page.
    pages.madvise(mmap.MADV_DONTFORK)
    return pages


class Pool:
    """
    The buffers of an engine; any thread may take and give.

    @ivar used: bytes taken; C{kept}: bytes of buffers that wait to be taken again.
    """

    def __init__(self, most: int = MOST_MEMORY) -> None:
        if most < WORST:
            raise ValueError(f"{most} bytes do not hold the largest batch, {WORST} do")
        self._most = most
        self._free: defaultdict[int, list[Buffer]] = defaultdict(list)
        self._lock = Lock()
        self.used = 0
        self.kept = 0

    def reserve(self, parts: Iterable[Request], lengths: Iterable[int]) -> bool:
        """
        Give each part a buffer of its length, or none of them any: half a batch never waits for the other half.

        @return: whether they have them; else too much is in use.
        @raise OSError: the system has no memory.
        """
        taken: list[Request] = []
        with self._lock:
            try:
                for part, length in zip(parts, lengths, strict=True):
                    part.buffer = self._take(size_of(length))
                    if part.buffer is None:
                        break
                    taken.append(part)
                else:
                    taken.clear()
                    return True
            finally:
                for part in taken:
                    assert part.buffer is not None
                    self._put(part.buffer)
                    part.buffer = None
        return False

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back that nobody looks at any more, neither here nor in the kernel."""
        with self._lock:
            self._put(buffer)

    def _take(self, size: int) -> Buffer | None:
        free = self._free[size]
        if not free:
            more = max(size, HUGE) if size >= CUT else size
            while self.used + self.kept + more > self._most:
                if not self._drop():
                    return None
            free.extend(mapped(size))
            self.kept += more
        buffer = free.pop()
        buffer.taken = True
        self.kept -= size
        self.used += size
        return buffer

    def _put(self, buffer: Buffer) -> None:
        buffer.taken = False
        self.used -= buffer.size
        self.kept += buffer.size
        self._free[buffer.size].append(buffer)

    def _drop(self) -> bool:
        """
        Forget a mapping of which nothing is taken, the smallest buffers first: they are the cheapest to make anew.

        @return: whether there was one.
        """
        for size in sorted(size for size, free in self._free.items() if free):
            free = self._free[size]
            for buffer in reversed(free):
                if any(mate.taken for mate in buffer.mates):
                    continue
                self.kept -= size * len(buffer.mates)
                if len(buffer.mates) == 1:
                    free.pop()
                else:
                    free[:] = [one for one in free if one.mates is not buffer.mates]
                buffer.mates.clear()  # they hold each other
                return True
        return False


def size_of(length: int) -> int:
    """The size of buffer that C{length} bytes are put into."""
    return int(PAGE << max(0, (length - 1) // PAGE).bit_length())
