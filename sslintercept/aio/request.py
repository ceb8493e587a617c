"""
The contract of all disk engines: what is asked for, how it is cancelled, what comes back.

A request reads or writes at an offset. Linked by C{then}, requests are a batch: carried out in order as one task,
stopped at the first that is not L{Request.ok}, and called back once, with the first. Every batch that was taken is
called back exactly once, on the reactor's thread, in the order in which batches end, and never inside of C{submit};
only one that was cancelled is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

if TYPE_CHECKING:
    from sslintercept.aio.buffer import Buffer

LARGEST: Final = 4 * 2**20
"""bytes of one request"""
MOST_REQUESTS: Final = 16384
"""requests that wait or are under way in one engine, each part of a batch counted; one more is refused"""
MOST_FILES: Final = 100
"""descriptors in one engine (ATS: MAX_DISKS_POSSIBLE); one more is refused"""
MOST_PARTS: Final = 64
"""requests in one batch; together they have no more bytes than one may have"""
END: Final = 2**63
"""where no file reaches"""

Data = bytes | bytearray | memoryview


class State(Enum):
    """Where a request is; a cancelled one keeps the state it had until its engine is rid of it."""

    NEW, WAITING, RUNNING, DONE = range(4)


class Request:
    """
    One read or write; made by L{read}, L{read_into} and L{write}, used once.

    @ivar then: the next request of the batch, of the same descriptor; set before C{submit}.
    @ivar result: bytes that went over, fewer than C{length} at the end of the file or before an error.
    @ivar error: what stopped it: the system's error with its C{errno}, or C{ECANCELED} for what was never begun because
        an earlier part stopped the batch, or its file or engine was closed. The end of a file is no error.
    @ivar data: what was read, while the callback runs; whoever keeps any of it copies it. C{None} for a write.
    """

    __slots__ = (
        "buffer",
        "cancelled",
        "data",
        "done",
        "error",
        "fd",
        "length",
        "memory",
        "moved",
        "offset",
        "on_cancel",
        "priority",
        "result",
        "slot",
        "state",
        "target",
        "then",
        "writes",
    )

    def __init__(
        self,
        fd: int,
        offset: int,
        length: int,
        memory: memoryview | None,
        done: Callable[[Request], object],
        priority: int,
        *,
        writes: bool,
    ) -> None:
        if not 0 < length <= LARGEST:
            raise ValueError(f"a request has 1 to {LARGEST} bytes, not {length}")
        if offset < 0 or offset + length >= END:
            raise ValueError(f"no file has bytes at {offset}")
        if priority < 0:
            raise ValueError(f"the lowest priority is 0, not {priority}")
        self.fd, self.offset, self.length = fd, offset, length
        self.memory = memory
        """the caller's, the engine's until the callback: to be written, or to be read into"""
        self.done, self.priority, self.writes = done, priority, writes
        self.then: Request | None = None
        self.state = State.NEW
        self.cancelled = False
        self.result = 0
        self.error: OSError | None = None
        self.data: memoryview | None = None
        self.buffer: Buffer | None = None
        """the engine's, while it is needed"""
        self.target = fd
        """the descriptor that it is carried out on"""
        self.slot = -1
        """its place among those that the kernel has; C{moved}: bytes that the kernel has moved"""
        self.moved = 0
        self.on_cancel: Callable[[Request], object] | None = None
        """what an engine does about the cancelled"""

    @property
    def ok(self) -> bool:
        """Whether all of it went over."""
        return self.result == self.length and self.error is None

    @property
    def failed(self) -> Request | None:
        """The first part of the batch from here on that is not ok."""
        return next((part for part in self.parts() if not part.ok), None)

    def parts(self) -> Iterator[Request]:
        """This request and those linked to it."""
        part: Request | None = self
        while part is not None:
            yield part
            part = part.then

    def cancel(self) -> None:
        """
        Have no callback any more; ask it of the first of a batch. Twice is once.

        What waits is never begun. What is under way goes on, since no disk gives a request back, and a batch stops
        behind the part that is; memory of the caller's may still be read and written until then.
        """
        if not self.cancelled and self.state is not State.DONE:
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel(self)

    def refuse_rest(self, errno: int) -> None:
        """Give an error to every part that was not begun."""
        for part in self.parts():
            if part.state in (State.NEW, State.WAITING):
                part.error = OSError(errno, os.strerror(errno))

    def __str__(self) -> str:
        what = "write" if self.writes else "read"
        return f"{what} of {self.length} bytes at {self.offset} of descriptor {self.fd}, {self.state.name.lower()}"


def nothing(request: Request) -> None:
    """The callback of all parts of a batch but the first."""


def read(fd: int, offset: int, length: int, done: Callable[[Request], object] = nothing, priority: int = 0) -> Request:
    """A read into memory of the engine's, shown as L{Request.data} during the callback."""
    return Request(fd, offset, length, None, done, priority, writes=False)


def read_into(
    fd: int, offset: int, memory: bytearray | memoryview, done: Callable[[Request], object] = nothing, priority: int = 0
) -> Request:
    """A read into memory of the caller's, which nobody else touches until the callback."""
    view = memoryview(memory).cast("B")
    if view.readonly:
        raise ValueError("this memory cannot be written to")
    return Request(fd, offset, len(view), view, done, priority, writes=False)


def write(fd: int, offset: int, data: Data, done: Callable[[Request], object] = nothing, priority: int = 0) -> Request:
    """A write of memory of the caller's, which nobody changes until the callback."""
    view = memoryview(data).cast("B")
    return Request(fd, offset, len(view), view, done, priority, writes=True)


class Watched(Protocol):
    """What is put into the set of watched descriptors (L{sslintercept.net.handler.NetHandler})."""

    turn: int

    def readable(self) -> None: ...
    def event(self, event: int) -> None: ...
    def abort(self) -> None: ...


class Handler(Protocol):
    """What is needed of that set."""

    def add(self, fd: int, profile: Watched, mask: int) -> None: ...
    def remove(self, fd: int) -> None: ...
    def soon(self, call: Callable[[], object]) -> None: ...
    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...


class DiskEngine(Protocol):
    """
    Whoever carries requests out. Everything here is called on the reactor's thread.

    @ivar name: as in C{[aio] engine}.
    @ivar load: parts that wait or are under way.
    """

    name: str

    @property
    def load(self) -> int: ...

    def open(self, path: os.PathLike[str] | str, flags: int, mode: int = 0o600) -> int:
        """
        Open a file in the way that suits the engine; takes as long as C{os.open}.

        @return: a descriptor for requests, to be closed by L{close} alone.
        @raise OSError: it cannot be opened.
        @raise LimitError: too many files are open.
        @raise ValueError: O_APPEND, which writes where no request says.
        """
        ...

    def submit(self, request: Request) -> None:
        """
        Take a batch; returns at once. A descriptor that was not opened here becomes one of the engine's files.

        @raise LimitError: too much waits, or too many files are open. Nothing was taken; it can be submitted later.
        @raise StoppedError: the file or the engine is being closed.
        @raise ValueError: the request was used before, or its batch has several descriptors, parts or bytes too many,
            or the descriptor has O_APPEND.
        """
        ...

    def close(self, fd: int) -> Deferred[None]:
        """Let what waits end with C{ECANCELED}, what is under way end by itself; then the descriptor is closed."""
        ...

    def stop(self) -> Deferred[None]:
        """The same for every file; afterwards nothing is left of the engine. Twice is once."""
        ...
