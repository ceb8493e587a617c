"""
Linux AIO: five system calls that libc does not wrap, and the layout of what they are given (io_submit(2)).

io_setup is to a disk what epoll_create is to a socket; io_getevents stands for epoll_wait, io_submit for epoll_ctl.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Sequence
from ctypes import c_long, c_void_p
from errno import ENOSYS
from typing import Any, Final

NUMBERS: Final = {
    # setup, destroy, getevents, submit, cancel
    "x86_64": (206, 207, 208, 209, 210),
    "aarch64": (0, 1, 4, 2, 3),
}
"""of the calls, by machine: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h"""

IOCB: Final = struct.Struct("=QIIHhIQQqQII")
"""
data, key, rw_flags, opcode, priority, descriptor, address, bytes, offset, reserved, flags, eventfd; both machines are
little-endian
"""
EVENT: Final = struct.Struct("=QQqq")
"""data, iocb, result, second result"""
PREAD, PWRITE, RESFD = 0, 1, 1
NOWAIT: Final = 8
"""EAGAIN instead of waiting in io_submit for a lock, for dirty pages or for new blocks (RWF_NOWAIT, preadv2(2))"""

Event = tuple[int, int]
"""slot and result; a result below 0 is an errno"""


class Kernel:
    """
    One context, and the memory of what it is given: C{depth} slots, each of which the kernel has or not.

    @raise OSError: the kernel refuses: not on this machine, not permitted, or fs.aio-max-nr is used up.
    """

    def __init__(self, depth: int, eventfd: int) -> None:
        numbers = (
            NUMBERS.get(platform.machine()) if os.uname().sysname == "Linux" and struct.calcsize("P") == 8 else None
        )
        if numbers is None:
            raise OSError(ENOSYS, os.strerror(ENOSYS))
        setup, destroy, getevents, submit, cancel = numbers
        self._depth, self._eventfd = depth, eventfd
        self._iocbs = ctypes.create_string_buffer(depth * IOCB.size)
        self._base = ctypes.addressof(self._iocbs)
        self._pointers = (ctypes.c_uint64 * depth)()
        self._events = ctypes.create_string_buffer(depth * EVENT.size)
        self._seen = memoryview(self._events)
        self._no_time = ctypes.create_string_buffer(16)
        self._call_submit = _syscall(submit, c_void_p, c_long, c_void_p)
        self._call_getevents = _syscall(getevents, c_void_p, c_long, c_long, c_void_p, c_void_p)
        self._call_cancel = _syscall(cancel, c_void_p, c_void_p, c_void_p)
        self._call_destroy = _syscall(destroy, c_void_p)
        context = ctypes.c_uint64(0)
        checked(_syscall(setup, c_long, c_void_p)(depth, ctypes.addressof(context)))
        self._context = context.value

    def prepare(self, slot: int, fd: int, writes: bool, address: int, length: int, offset: int) -> None:
        """Describe a transfer in a slot that the kernel does not have."""
        opcode = PWRITE if writes else PREAD
        at = slot * IOCB.size
        IOCB.pack_into(
            self._iocbs, at, slot, 0, NOWAIT, opcode, 0, fd, address, length, offset, 0, RESFD, self._eventfd
        )

    def submit(self, slots: Sequence[int]) -> int:
        """
        Hand slots over, as many as the kernel takes.

        @return: how many from the beginning; the others still are ours.
        @raise OSError: it takes not even the first.
        """
        base, size = self._base, IOCB.size
        struct.pack_into(f"={len(slots)}Q", self._pointers, 0, *[base + slot * size for slot in slots])
        return checked(self._call_submit(self._context, len(slots), ctypes.addressof(self._pointers)))

    def completed(self) -> list[Event]:
        """What is over, without waiting, each once; their slots are ours again."""
        count = checked(
            self._call_getevents(
                self._context, 0, self._depth, ctypes.addressof(self._events), ctypes.addressof(self._no_time)
            )
        )
        return [(data, result) for data, _, result, _ in EVENT.iter_unpack(self._seen[: count * EVENT.size])]

    def cancel(self, slot: int) -> None:
        """Ask for a transfer back. Hardly a file system gives it; either way it is completed like any other."""
        unused = ctypes.create_string_buffer(EVENT.size)
        self._call_cancel(self._context, self._base + slot * IOCB.size, ctypes.addressof(unused))

    def destroy(self) -> None:
        """Free the context; waits for what it still has."""
        checked(self._call_destroy(self._context))


def _syscall(number: int, *arguments: Any) -> Callable[..., int]:  # Any: ctypes' types
    """A system call as a function that returns -1 and sets errno."""
    call = ctypes.CFUNCTYPE(c_long, c_long, *arguments, use_errno=True)(("syscall", ctypes.CDLL(None)))

    def made(*values: int) -> int:
        return int(call(number, *values))

    return made


def checked(result: int) -> int:
    """
    The result of a system call.

    @raise OSError: it failed.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
