"""
Memory for transfers: whole pages at page boundaries, as O_DIRECT wants them, used again and again.

A size is a power of two of pages. What is in use and what is kept count together; who asks for more than there may be
gets nothing and waits.
"""

from __future__ import annotations

import ctypes
import mmap
from collections import defaultdict
from collections.abc import Iterable
from threading import Lock
from typing import Final

from sslintercept.aio.request import LARGEST, MOST_PARTS, Request

PAGE: Final = mmap.PAGESIZE
MOST_MEMORY: Final = 64 * 2**20
"""bytes of all buffers of one engine: 1024 requests of 64 KiB"""
WORST: Final = 2 * LARGEST + MOST_PARTS * 4 * PAGE
"""bytes that the largest batch may need: sizes round up to twice the length, and reads to whole pages on both sides"""


class Buffer:
    """
    Some pages.

    @ivar address: where they are, as long as this lives.
    """

    __slots__ = ("address", "size", "view")

    def __init__(self, size: int) -> None:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A fork while the disk writes here would leave parent or child with the old page.
        pages.madvise(mmap.MADV_DONTFORK)
        self.size = size
        self.view = memoryview(pages)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(pages))


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
        wanted = [(part, size_of(length)) for part, length in zip(parts, lengths, strict=True)]
        total = sum(size for _, size in wanted)
        with self._lock:
            if self.used + total > self._most:
                return False
            self.used += total
            for part, size in wanted:
                if self._free[size]:
                    self.kept -= size
                    part.buffer = self._free[size].pop()
            while self.used + self.kept > self._most:
                self._drop()
        missing = [(part, size) for part, size in wanted if part.buffer is None]
        while missing:
            part, size = missing[-1]
            try:
                part.buffer = Buffer(size)
            except OSError:
                with self._lock:
                    self.used -= sum(size for _, size in missing)
                raise
            missing.pop()
        return True

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back that nobody looks at any more, neither here nor in the kernel."""
        with self._lock:
            self.used -= buffer.size
            self.kept += buffer.size
            self._free[buffer.size].append(buffer)

    def _drop(self) -> None:
        """Forget a kept buffer, the smallest first: they are the cheapest to make anew."""
        size = min(size for size, free in self._free.items() if free)
        self._free[size].pop()
        self.kept -= size


def size_of(length: int) -> int:
    """The size of buffer that C{length} bytes are put into."""
    return int(PAGE << max(0, (length - 1) // PAGE).bit_length())
