"""What the disk's tests share."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sslintercept.aio.kernel import Kernel
from sslintercept.aio.native import NativeEngine
from sslintercept.aio.request import Request, read, write
from sslintercept.aio.threads import ThreadEngine
from sslintercept.testing.loop import Loop

PAGE = 4096
PATIENCE = 60.0
"""seconds that a disk may take on a busy machine"""


@dataclass
class Answer:
    """What a callback saw."""

    request: Request
    data: bytes | None
    result: int
    errno: int | None
    turn: int


@dataclass
class Disk:
    """An engine, and what it called back."""

    loop: Loop
    engine: ThreadEngine | NativeEngine
    folder: Path
    answers: list[Answer] = field(default_factory=list)

    def note(self, request: Request) -> None:
        """A callback."""
        data = bytes(request.data) if request.data is not None else None
        errno = request.error.errno if request.error is not None else None
        self.answers.append(Answer(request, data, request.result, errno, self.loop.handler.turns))

    def until(self, true: Callable[[], bool]) -> None:
        """Turn the loop until something is true."""
        poll = select.poll()
        poll.register(self.loop.handler.fileno(), select.POLLIN)
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"{len(self.answers)} answers, {self.engine.load} under way"
            poll.poll(10)
            self.loop.turn()

    def settle(self) -> None:
        """Turn until nothing is under way."""
        self.until(lambda: not self.engine.load)

    def submit(self, *requests: Request) -> None:
        """Submit each, or a batch that is linked already."""
        for request in requests:
            self.engine.submit(request)

    def answer(self, request: Request) -> Answer:
        """What the callback of one request sees."""
        self.submit(request)
        self.until(lambda: any(one.request is request for one in self.answers))
        return next(one for one in self.answers if one.request is request)

    def read(self, fd: int, offset: int, length: int, priority: int = 0) -> Request:
        """A read that is noted."""
        return read(fd, offset, length, self.note, priority)

    def write(self, fd: int, offset: int, data: bytes, priority: int = 0) -> Request:
        """A write that is noted."""
        return write(fd, offset, data, self.note, priority)

    def file(self, content: bytes = b"", name: str = "file", flags: int = os.O_RDWR | os.O_CREAT) -> int:
        """A file with a content that is on the disk alone, opened by the engine."""
        path = self.folder / name
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return self.engine.open(path, flags)

    def closed(self, fd: int) -> None:
        """Close a file and wait for it."""
        end = self.engine.close(fd)
        self.until(lambda: bool(end.called))

    def stop(self) -> None:
        """Stop the engine and wait for it."""
        end = self.engine.stop()
        self.until(lambda: bool(end.called))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is begun meanwhile: the mutex of every file's group is held elsewhere."""
        with ExitStack() as stack:
            if isinstance(self.engine, ThreadEngine):
                for group in self.engine._groups.values():
                    stack.enter_context(group.lock)
            yield


def linked(*parts: Request) -> Request:
    """A batch."""
    for part, then in itertools.pairwise(parts):
        part.then = then
    return parts[0]


def pages(count: int) -> bytes:
    """Pages that differ."""
    return b"".join(bytes([n % 251]) * PAGE for n in range(count))


def kernel_refuses() -> str:
    """Why there can be no native engine on this machine; nothing if there can be."""
    fd = os.eventfd(0)
    try:
        Kernel(1, fd).destroy()
    except OSError as error:
        return f"the kernel refuses io_setup here: {error.strerror}"
    finally:
        os.close(fd)
    return ""


def refuses_direct(folder: Path) -> str:
    """Why files of a folder cannot be read directly."""
    path = folder / "direct"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError as error:
        return f"the file system of {folder} refuses O_DIRECT: {error.strerror}"
    path.unlink()
    return ""
