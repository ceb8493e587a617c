"""
io_uring in the place of Linux AIO under the native engine: a prototype, to measure whether an engine of its own pays.

It does what L{sslintercept.aio.kernel.Kernel} does for plain reads and writes, and no more: no older kernels, no full
queue, no cancelling. docs/decisions/0015-io-uring.md says what came of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from ctypes import c_long, c_void_p
from typing import Final
from unittest import mock

from sslintercept.aio import native
from sslintercept.aio.kernel import Event, _syscall, checked
from sslintercept.aio.native import NativeEngine
from sslintercept.net.handler import NetHandler

SETUP, ENTER, REGISTER = 425, 426, 427
"""system calls, the same on x86-64 and aarch64; layouts: include/uapi/linux/io_uring.h"""
READ, WRITE, REGISTER_EVENTFD = 22, 23, 4
ENTRIES_AT: Final = 0x10000000
SQE: Final = struct.Struct("=BBHiQQIIQQQQ")
"""opcode, flags, priority, descriptor, offset, address, bytes, flags, data, nothing"""
CQE: Final = struct.Struct("=QiI")


class Kernel:
    """One ring."""

    def __init__(self, depth: int, eventfd: int) -> None:
        self._enter = _syscall(ENTER, c_long, c_long, c_long, c_long, c_void_p, c_long)
        parameters = ctypes.create_string_buffer(120)
        self._fd = checked(_syscall(SETUP, c_long, c_void_p)(depth, ctypes.addressof(parameters)))
        count, completions = struct.unpack_from("=2I", parameters, 0)
        _, tail, _, _, _, _, order = struct.unpack_from("=7I", parameters, 40)
        head, end, _, _, _, self._done = struct.unpack_from("=6I", parameters, 80)
        size = max(order + 4 * count, self._done + CQE.size * completions)
        self._ring = memoryview(mmap.mmap(self._fd, size, flags=mmap.MAP_SHARED))
        self._words = self._ring[: size // 4 * 4].cast("I")
        self._entries = mmap.mmap(self._fd, count * SQE.size, flags=mmap.MAP_SHARED, offset=ENTRIES_AT)
        self._tail, self._head, self._end = tail // 4, head // 4, end // 4
        self._mask, self._done_mask = count - 1, completions - 1
        for n in range(count):
            self._words[order // 4 + n] = n
        number = ctypes.c_int(eventfd)
        register = _syscall(REGISTER, c_long, c_long, c_void_p, c_long)
        checked(register(self._fd, REGISTER_EVENTFD, ctypes.addressof(number), 1))
        self._prepared: dict[int, tuple[int, int, int, int, int]] = {}

    def prepare(self, slot: int, fd: int, writes: bool, address: int, length: int, offset: int) -> None:
        self._prepared[slot] = WRITE if writes else READ, fd, offset, address, length

    def submit(self, slots: Sequence[int]) -> int:
        tail = self._words[self._tail]
        for slot in slots:
            opcode, fd, offset, address, length = self._prepared.pop(slot)
            at = (tail & self._mask) * SQE.size
            SQE.pack_into(self._entries, at, opcode, 0, 0, fd, offset, address, length, 0, slot, 0, 0, 0)
            tail += 1
        self._words[self._tail] = tail & 0xFFFFFFFF
        return checked(self._enter(self._fd, len(slots), 0, 0, 0, 0))

    def completed(self) -> list[Event]:
        head, end = self._words[self._head], self._words[self._end]
        events: list[Event] = []
        while head != end:
            data, result, _ = CQE.unpack_from(self._ring, self._done + (head & self._done_mask) * CQE.size)
            events.append((data, result))
            head = (head + 1) & 0xFFFFFFFF
        self._words[self._head] = head
        return events

    def cancel(self, slot: int) -> None:
        """Left out."""

    def destroy(self) -> None:
        os.close(self._fd)


def engine(handler: NetHandler) -> NativeEngine:
    """
    The native engine with a ring.

    @raise OSError: the kernel refuses.
    """
    with mock.patch.object(native, "Kernel", Kernel):
        return NativeEngine(handler)
