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
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.aio.buffer import MOST_MEMORY, Pool
from sslintercept.aio.completion import Completions
from sslintercept.aio.descriptor import File, close_own, flags_of, identity, path_of, refuse_appending, renumbered
from sslintercept.aio.kernel import Kernel
from sslintercept.aio.queue import WaitQueue
from sslintercept.aio.request import LARGEST, MOST_FILES, MOST_REQUESTS, Handler, Request, State, read_into, write
from sslintercept.aio.threads import (
    THREADS,
    ThreadEngine,
    admit_file,
    attached,
    closing,
    counted,
    take,
    unknown,
)
from sslintercept.aio.window import at_end, is_part_of_page, show, window
from sslintercept.errors import LimitError

DEPTH: Final = 1024
"""requests that the kernel has at once, and in one call"""
AGAIN: Final = 0.01
"""seconds until the kernel is asked again after it had no room"""
REFUSALS: Final = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL)
"""it would have to wait, this time or always, or the file takes no direct transfers whatever it said when opened"""
ONCE: Final = os.O_CREAT | os.O_EXCL | os.O_TRUNC
"""flags for the first opening of a file, not for its second"""


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
        self._passed_on = 0
        """parts that are the threads', too"""
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
        # A file may need two groups of threads.
        self._threads = ThreadEngine(handler, threads=threads, most=most, most_files=2 * most_files, memory=memory)

    @property
    def load(self) -> int:
        return self._load + self._threads.load - self._passed_on

    def open(self, path: os.PathLike[str] | str, flags: int, mode: int = 0o600) -> int:
        """See L{sslintercept.aio.request.DiskEngine}; where O_DIRECT is refused, threads serve the file."""
        self._admit_file()
        refuse_appending(flags)
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
        self._say_buffered(fd)
        return fd

    def _say_buffered(self, fd: int) -> None:
        found = identity(fd)
        if found is not None and found[0] not in self._buffered_only and len(self._buffered_only) < self._most_files:
            self._buffered_only.add(found[0])
            self.log.warn(
                "{path}: its file system has no O_DIRECT, or none that never waits; its files are served by threads "
                "instead of native requests",
                path=path_of(fd),
            )

    def submit(self, request: Request) -> None:
        """
        See L{sslintercept.aio.request.DiskEngine}. A descriptor that was not opened here and has no O_DIRECT is served
        by threads; one that has takes only writes that its file system finds aligned.
        """
        file = self._files.get(request.fd)
        if file is None:
            if self._threads.owns(request.fd) or not flags_of(request.fd) & os.O_DIRECT:
                self._threads.submit(request)
                return
            self._admit_file()
            refuse_appending(flags_of(request.fd))
        elif file.closing:
            raise closing(request.fd)
        count = counted(request, self._most - self._load)
        if file is None:
            file = self._files[request.fd] = File(request.fd)
        if not file.direct or (file.buffered >= 0 and any(is_part_of_page(part) for part in request.parts())):
            for part in request.parts():
                part.target = file.buffered
            self._threads.submit(request)
            return
        take(request)
        request.on_cancel = self._cancelled
        self._load += count
        file.load += 1
        self._waiting.push(request)
        self._schedule()

    def _schedule(self) -> None:
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
        for fd in file.helpers:
            if self._threads.owns(fd):
                file.helped += 1
                self._threads.close(fd).addCallback(lambda _: self._released(file))
            else:
                os.close(fd)
        self._completions.wake()

    def _released(self, file: File) -> None:
        file.helped -= 1
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
                if not self._pool.reserve(list(head.parts()), [window(part)[1] for part in head.parts()]):
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
        start, length = window(part)
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
                self._refused(*self._take_back(prepared.pop(0)), error)
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
                self._refused(head, part, OSError(-result, os.strerror(-result)))
            else:
                self._moved(head, part, result)

    def _moved(self, head: Request, part: Request, count: int) -> None:
        part.moved += count
        start, length = window(part)
        if count == 0 and part.writes:
            self._fail(head, part, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        elif count and part.moved < length and (part.writes or not at_end(part.target, start + part.moved)):
            self._going.append((head, part))
        else:
            self._transferred(head, part)

    def _transferred(self, head: Request, part: Request) -> None:
        """The kernel has nothing more for a part: show what is wanted of the window, and go on with the batch."""
        show(head, part)
        if part.ok and part.then is not None and not head.cancelled and not self._files[head.fd].closing:
            self._going.append((head, part.then))
        else:
            self._over(head)

    def _fail(self, head: Request, part: Request, error: OSError) -> None:
        part.state, part.error = State.RUNNING, error
        show(head, part)
        self._over(head)

    def _refused(self, head: Request, part: Request, error: OSError) -> None:
        """The kernel has not begun with it: threads wait in its place, or it fails."""
        file = self._files[head.fd]
        if error.errno in REFUSALS and not file.closing and not head.cancelled:
            try:
                self._pass_on(file, head, part, error.errno)
            except (LimitError, OSError):
                pass
            else:
                return
        if file.closing and error.errno == errno.EAGAIN:
            error = OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))  # it was never begun
        self._fail(head, part, error)

    def _pass_on(self, file: File, head: Request, part: Request, why: int | None) -> None:
        """Let threads do what is left of a part, in the same memory."""
        if why != errno.EAGAIN and file.buffered >= 0:
            file.direct = False
            self._say_buffered(file.buffered)
        fd = file.buffered if why == errno.EINVAL and file.buffered >= 0 else file.duplicate()
        start, length = window(part)
        assert part.buffer is not None
        memory = part.buffer.view[part.moved : min(length, part.moved + LARGEST)]

        def done(passed: Request) -> None:
            memory.release()
            self._passed_on -= 1
            if passed.error is not None:
                part.moved += passed.result
                self._fail(head, part, passed.error)
            else:
                self._moved(head, part, passed.result)
            self._schedule()

        ask = write if part.writes else read_into
        self._threads.submit(ask(fd, start + part.moved, memory, done, head.priority))
        self._passed_on += 1

    def _over(self, head: Request) -> None:
        head.refuse_rest(errno.ECANCELED)
        self._completions.post(head)

    def _ended(self, head: Request) -> None:
        self._load -= sum(1 for _ in head.parts())
        self._files[head.fd].load -= 1

    def _after(self) -> None:
        """There may be slots and memory again; files may be done with."""
        self._flush()
        for file in [file for file in self._files.values() if file.over]:
            del self._files[file.fd]
            close_own(file.fd, file.identity)
            file.closed.callback(None)
        if self._stopped is not None and self._threads_stopped and not self._files and not self._stopped.called:
            if self._again is not None:
                self._again.cancel()
            self._kernel.destroy()
            self._completions.close()
            self._stopped.callback(None)
