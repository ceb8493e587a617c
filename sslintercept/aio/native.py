"""
The engine that handles a disk like the network: Linux AIO in the reactor's set, without a thread.

What is asked for in a turn is handed to the kernel at its end, in one call for up to 1024 requests. The kernel writes
to an eventfd when something is over, and all that is over is taken in one call (ATS: DiskHandler). The kernel keeps
its word only with O_DIRECT: buffered transfers would block in io_submit. So every file is open twice: directly, for
whole pages, and buffered, for writes of parts of pages, which threads do. Reads are widened to whole pages.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from fcntl import F_GETFL, fcntl
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.aio.buffer import MOST_MEMORY, PAGE, Pool
from sslintercept.aio.completion import Completions
from sslintercept.aio.kernel import Kernel
from sslintercept.aio.queue import WaitQueue
from sslintercept.aio.request import MOST_FILES, MOST_REQUESTS, Handler, Request, State
from sslintercept.aio.threads import (
    THREADS,
    ThreadEngine,
    admit_file,
    attached,
    close_own,
    closing,
    counted,
    identity,
    renumbered,
    take,
    unknown,
)

DEPTH: Final = 1024
"""requests that the kernel has at once, and in one call"""
AGAIN: Final = 0.01
"""seconds until the kernel is asked again after it had no room"""
ONCE: Final = os.O_CREAT | os.O_EXCL | os.O_TRUNC
"""flags for the first opening of a file, not for its second"""


class File:
    """
    One descriptor.

    @ivar load: batches that wait or are under way.
    @ivar buffered: the same file without O_DIRECT; C{-1} for a descriptor that was not opened here.
    """

    __slots__ = ("buffered", "closed", "closing", "fd", "identity", "load", "released")

    def __init__(self, fd: int, buffered: int = -1) -> None:
        self.fd, self.buffered, self.identity = fd, buffered, identity(fd)
        self.load = 0
        self.closing = False
        self.released = False
        """whether C{buffered} is closed"""
        self.closed: Deferred[None] = Deferred()


class NativeEngine:
    """
    One context of the kernel's.

    @param depth: requests that the kernel has at once.
    @param threads: for each file that needs them.
    @param most: parts that wait or are under way; C{most_files}: descriptors.
    @param memory: bytes of buffers that the kernel has or that were not called back yet.
    @raise OSError: the kernel refuses.
    """

    name = "native"
    log = Logger()

    def __init__(
        self,
        handler: Handler,
        *,
        depth: int = DEPTH,
        threads: int = THREADS,
        most: int = MOST_REQUESTS,
        most_files: int = MOST_FILES,
        memory: int = MOST_MEMORY,
    ) -> None:
        self._handler = handler
        self._most, self._most_files = most, most_files
        self._pool = Pool(memory)
        self._files: dict[int, File] = {}
        self._waiting = WaitQueue()
        self._going: deque[tuple[Request, Request]] = deque()
        """batch and part: those that go on, and have their memory"""
        self._free = list(range(depth))
        self._slots: list[tuple[Request, Request] | None] = [None] * depth
        self._prepared: list[int] = []
        """slots that are filled, and not the kernel's yet"""
        self._load = 0
        self._scheduled = False
        self._again: IDelayedCall | None = None
        self._buffered_only: set[int] = set()
        """devices that were said to refuse O_DIRECT; as many as there are files at most"""
        self._stopped: Deferred[None] | None = None
        self._threads_stopped = False
        self._completions = Completions(handler, self._pool, gather=self._collect, ended=self._ended, after=self._after)
        try:
            self._kernel = Kernel(depth, self._completions.fd)
        except OSError:
            self._completions.close()
            raise
        self._threads = ThreadEngine(handler, threads=threads, most=most, most_files=most_files, memory=memory)

    @property
    def load(self) -> int:
        return self._load + self._threads.load

    def open(self, path: os.PathLike[str] | str, flags: int, mode: int = 0o600) -> int:
        """See L{sslintercept.aio.request.DiskEngine}; where O_DIRECT is refused, threads serve the file."""
        self._admit_file()
        buffered = os.open(path, flags | os.O_CLOEXEC, mode)
        try:
            fd = os.open(path, flags & ~ONCE | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as error:
            os.close(buffered)
            if error.errno != errno.EINVAL:
                raise
            return self._open_buffered(path, flags & ~ONCE)
        if not os.path.samestat(os.fstat(fd), os.fstat(buffered)):
            os.close(fd)
            os.close(buffered)
            raise OSError(errno.ESTALE, "replaced while it was opened", str(path))
        fd = renumbered(fd, self._files)
        self._files[fd] = File(fd, buffered)
        return fd

    def _open_buffered(self, path: os.PathLike[str] | str, flags: int) -> int:
        fd = self._threads.open(path, flags)
        device = os.fstat(fd).st_dev
        if device not in self._buffered_only and len(self._buffered_only) < self._most_files:
            self._buffered_only.add(device)
            self.log.warn(
                "{path}: its file system has no O_DIRECT; its files are served by threads instead of native requests",
                path=str(path),
            )
        return fd

    def submit(self, request: Request) -> None:
        """
        See L{sslintercept.aio.request.DiskEngine}. A descriptor that was not opened here and has no O_DIRECT is served
        by threads; one that has takes only writes that its file system finds aligned.
        """
        file = self._files.get(request.fd)
        if file is None:
            if self._threads.owns(request.fd) or not _direct(request.fd):
                self._threads.submit(request)
                return
            self._admit_file()
        elif file.closing:
            raise closing(request.fd)
        count = counted(request, self._most - self._load)
        if file is None:
            file = self._files[request.fd] = File(request.fd)
        if file.buffered >= 0 and any(part.writes and not _aligned(part) for part in request.parts()):
            for part in request.parts():
                part.target = file.buffered
            self._threads.submit(request)
            return
        take(request)
        request.on_cancel = self._cancelled
        self._load += count
        file.load += 1
        self._waiting.push(request)
        if not self._scheduled:
            self._scheduled = True
            self._handler.soon(self._flush)

    def close(self, fd: int) -> Deferred[None]:
        """See L{sslintercept.aio.request.DiskEngine}."""
        file = self._files.get(fd)
        if file is not None:
            self._close(file)
            return attached(file.closed)
        if self._threads.owns(fd):
            return self._threads.close(fd)
        raise unknown(fd)

    def stop(self) -> Deferred[None]:
        """See L{sslintercept.aio.request.DiskEngine}."""
        if self._stopped is None:
            self._stopped = Deferred()
            for file in self._files.values():
                self._close(file)
            self._threads.stop().addCallback(self._without_threads)
        return attached(self._stopped)

    def _close(self, file: File) -> None:
        if file.closing:
            return
        file.closing = True
        if self._threads.owns(file.buffered):
            self._threads.close(file.buffered).addCallback(lambda _: self._released(file))
        else:
            if file.buffered >= 0:
                os.close(file.buffered)
            self._released(file)

    def _released(self, file: File) -> None:
        file.released = True
        self._completions.wake()

    def _without_threads(self, _: None) -> None:
        self._threads_stopped = True
        self._completions.wake()

    def _admit_file(self) -> None:
        admit_file(self._stopped is not None, len(self._files), self._most_files)

    def _cancelled(self, head: Request) -> None:
        for part in head.parts():
            if part.slot >= 0 and part.slot not in self._prepared:
                self._kernel.cancel(part.slot)

    def _flush(self) -> None:
        """Hand over what waits, as far as there are slots and memory."""
        self._scheduled = False
        free, going, waiting = self._free, self._going, self._waiting
        while free and going:
            self._prepare(*going.popleft())
        while free and (head := waiting.first()) is not None:
            if head.cancelled or self._files[head.fd].closing:
                waiting.pop()
                self._over(head)
                continue
            try:
                if not self._pool.reserve(list(head.parts()), [_window(part)[1] for part in head.parts()]):
                    break
            except OSError as error:
                waiting.pop()
                self._fail(head, head, error)
                continue
            waiting.pop()
            self._prepare(head, head)
        self._submit()

    def _prepare(self, head: Request, part: Request) -> None:
        """Describe what is left of a part in a slot."""
        assert part.buffer is not None
        part.state = State.RUNNING
        slot = part.slot = self._free.pop()
        self._slots[slot] = head, part
        start, length = _window(part)
        if part.writes and not part.moved:
            assert part.memory is not None
            part.buffer.view[:length] = part.memory
        moved = part.moved
        self._kernel.prepare(slot, part.target, part.writes, part.buffer.address + moved, length - moved, start + moved)
        self._prepared.append(slot)

    def _submit(self) -> None:
        prepared = self._prepared
        while prepared:
            try:
                count = self._kernel.submit(prepared)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                if error.errno == errno.EAGAIN and self._stopped is None:
                    if self._again is None:
                        self._again = self._handler.later(AGAIN, self._submit_again)
                    return
                # It is the first that is refused; the others have not been looked at.
                head, part = self._take_back(prepared.pop(0))
                self._fail(head, part, error)
            else:
                del prepared[:count]

    def _submit_again(self) -> None:
        self._again = None
        self._submit()

    def _take_back(self, slot: int) -> tuple[Request, Request]:
        entry = self._slots[slot]
        assert entry is not None
        self._slots[slot] = None
        self._free.append(slot)
        entry[1].slot = -1
        return entry

    def _collect(self) -> None:
        """Take all that the kernel has done."""
        for slot, result in self._kernel.completed():
            head, part = self._take_back(slot)
            if result < 0:
                self._fail(head, part, OSError(-result, os.strerror(-result)))
                continue
            part.moved += result
            start, length = _window(part)
            if result == 0 and part.writes:
                self._fail(head, part, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            elif result and part.moved < length and (part.writes or not _at_end(part.target, start + part.moved)):
                self._going.append((head, part))
            else:
                self._transferred(head, part)

    def _transferred(self, head: Request, part: Request) -> None:
        """The kernel has nothing more for a part: show what is wanted of the window, and go on with the batch."""
        _show(head, part)
        if part.ok and part.then is not None and not head.cancelled and not self._files[head.fd].closing:
            self._going.append((head, part.then))
        else:
            self._over(head)

    def _fail(self, head: Request, part: Request, error: OSError) -> None:
        part.state, part.error = State.RUNNING, error
        _show(head, part)
        self._over(head)

    def _over(self, head: Request) -> None:
        head.refuse_rest(errno.ECANCELED)
        self._completions.post(head)

    def _ended(self, head: Request) -> None:
        self._load -= sum(1 for _ in head.parts())
        self._files[head.fd].load -= 1

    def _after(self) -> None:
        """There may be slots and memory again; files may be done with."""
        self._flush()
        for file in [file for file in self._files.values() if file.released and not file.load]:
            del self._files[file.fd]
            close_own(file.fd, file.identity)
            file.closed.callback(None)
        if self._stopped is not None and self._threads_stopped and not self._files and not self._stopped.called:
            if self._again is not None:
                self._again.cancel()
            self._kernel.destroy()
            self._completions.close()
            self._stopped.callback(None)


def _window(part: Request) -> tuple[int, int]:
    """Where a part is in the file for the kernel: a read in whole pages, a write as it is."""
    if part.writes:
        return part.offset, part.length
    start = part.offset - part.offset % PAGE
    return start, -(-(part.offset + part.length) // PAGE) * PAGE - start


def _aligned(part: Request) -> bool:
    return part.offset % PAGE == 0 and part.length % PAGE == 0


def _show(head: Request, part: Request) -> None:
    """Put what was moved where the caller looks for it; a cancelled read leaves the caller's memory alone."""
    skip = part.offset - _window(part)[0]
    part.result = min(max(part.moved - skip, 0), part.length)
    if part.writes or part.buffer is None or head.cancelled:
        return
    seen = part.buffer.view[skip : skip + part.result]
    if part.memory is None:
        part.data = seen
    else:
        part.memory[: part.result] = seen
        seen.release()


def _at_end(fd: int, offset: int) -> bool:
    """Whether a short read that stopped here has reached the end; in the middle of a page nothing else stops it."""
    if offset % PAGE == 0:
        return False
    try:
        return offset >= os.fstat(fd).st_size
    except OSError:
        return True


def _direct(fd: int) -> bool:
    """Whether the kernel is to have a descriptor; it also is who finds that one is closed."""
    try:
        return bool(fcntl(fd, F_GETFL) & os.O_DIRECT)
    except OSError:
        return True
