"""
What is known of a descriptor: how it was opened, and whether it still is what it was.

A number that is closed behind our back soon belongs to somebody else, so it is known again by device and inode.
"""

from __future__ import annotations

import os
from collections.abc import Container
from fcntl import F_DUPFD_CLOEXEC, F_GETFL, fcntl

from twisted.internet.defer import Deferred

Identity = tuple[int, int] | None
"""device and inode"""


def identity(fd: int) -> Identity:
    """What a descriptor stands for; C{None} if it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def close_own(fd: int, own: Identity) -> None:
    """Close a descriptor, unless somebody closed it behind our back: by now it may stand for something of theirs."""
    if own is not None and identity(fd) == own:
        os.close(fd)


def renumbered(fd: int, taken: Container[int]) -> int:
    """The same under a number that is not taken; one is that was closed behind our back."""
    if fd not in taken:
        return fd
    numbers = [fd]
    while numbers[-1] in taken:
        numbers.append(fcntl(fd, F_DUPFD_CLOEXEC, numbers[-1] + 1))
    for number in numbers[:-1]:
        os.close(number)
    return numbers[-1]


def flags_of(fd: int) -> int:
    """The flags it was opened with; none of one that is closed, which whoever uses it finds out."""
    try:
        return fcntl(fd, F_GETFL)
    except OSError:
        return 0


def path_of(fd: int) -> str:
    """Where its file was found (proc(5)); for messages."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


def refuse_appending(flags: int) -> None:
    """
    Have no descriptor that writes at the end whatever offset it is given (pwrite(2), BUGS).

    @raise ValueError: it has O_APPEND.
    """
    if flags & os.O_APPEND:
        raise ValueError("O_APPEND: every request has an offset of its own; open the file without it")


class File:
    """
    One descriptor of the native engine, and those by which threads help it.

    @ivar load: batches that wait or are under way.
    @ivar buffered: the same file without O_DIRECT; C{-1} for a descriptor that was not opened here.
    @ivar waiting: the same descriptor for what would have to wait; C{-1} until something had to.
    @ivar direct: whether the kernel is to have its requests; not once it refused one for ever.
    @ivar helped: helping descriptors that are not closed yet.
    """

    __slots__ = ("buffered", "closed", "closing", "direct", "fd", "helped", "identity", "load", "waiting")

    def __init__(self, fd: int, buffered: int = -1) -> None:
        self.fd, self.buffered, self.waiting, self.identity = fd, buffered, -1, identity(fd)
        self.load = 0
        self.direct = True
        self.closing = False
        self.helped = 0
        self.closed: Deferred[None] = Deferred()

    @property
    def helpers(self) -> list[int]:
        """The descriptors that help."""
        return [fd for fd in (self.buffered, self.waiting) if fd >= 0]

    @property
    def over(self) -> bool:
        """Whether nothing is under way any more and nothing comes."""
        return self.closing and not self.helped and not self.load

    def duplicate(self) -> int:
        """C{waiting}, made when it is needed; C{OSError} if there can be none."""
        if self.waiting < 0:
            self.waiting = fcntl(self.fd, F_DUPFD_CLOEXEC, 0)
        return self.waiting
