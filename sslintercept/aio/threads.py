"""
The engine that works everywhere: a group of threads for each file.

The requester puts a batch on the insert queue of its file and a token beside it; neither takes a lock. A thread takes
a token, sorts what was inserted into the queue of priorities, takes the first batch and carries all of it out without
holding anything (ATS: AIO_Reqs, aio_thread_main). So a pass is one batch, a file has as many under way as it has
threads, and files do not know of each other. Idle threads sleep in the kernel; nothing polls.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from os import preadv, pwritev
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from twisted.internet.defer import Deferred, succeed

from sslintercept.aio.buffer import MOST_MEMORY, Pool
from sslintercept.aio.completion import Completions
from sslintercept.aio.descriptor import close_own, flags_of, identity, refuse_appending, renumbered
from sslintercept.aio.queue import WaitQueue
from sslintercept.aio.request import LARGEST, MOST_FILES, MOST_PARTS, MOST_REQUESTS, Handler, Request, State
from sslintercept.errors import LimitError, StoppedError

THREADS: Final = 8
"""for each file (ATS: cache.threads_per_disk)"""
PATIENCE: Final = 0.01
"""seconds until a thread looks again for memory; it is short only while nobody takes what was read"""


class Group:
    """
    The threads of one descriptor and what waits for them.

    @ivar lock: held by threads while they move requests between queues, never during a transfer.
    @ivar ended: threads that are through, or about to be.
    """

    def __init__(self, fd: int, count: int, pool: Pool, completions: Completions) -> None:
        self.fd, self.identity = fd, identity(fd)
        self.lock = Lock()
        self.stopping = False
        self.ended = 0
        self.closed: Deferred[None] = Deferred()
        self._pool, self._completions = pool, completions
        self._inserted: deque[Request] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._waiting = WaitQueue()
        self._threads: list[Thread] = []
        try:
            for n in range(count):
                thread = Thread(target=self._work, name=f"aio {n}:{fd}")
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            self.stop()
            self.join()
            raise LimitError(
                "no further thread can be started", where="disk engine", remedy="raise RLIMIT_NPROC"
            ) from None

    def insert(self, request: Request) -> None:
        """Never blocks."""
        self._inserted.append(request)
        self._tokens.put(None)

    def stop(self) -> None:
        """Give back what waits, and let the threads end with what they are at."""
        self.stopping = True
        while (request := self._next()) is not None:
            request.refuse_rest(errno.ECANCELED)
            self._completions.post(request)
        for _ in self._threads:
            self._tokens.put(None)

    @property
    def over(self) -> bool:
        """Whether all threads have done their last."""
        return self.ended == len(self._threads)

    def join(self) -> None:
        """Wait for threads that are over: the last step of each is to say so."""
        for thread in self._threads:
            thread.join()

    def _next(self) -> Request | None:
        with self.lock:
            while self._inserted:
                self._waiting.push(self._inserted.popleft())
            return self._waiting.pop()

    def _work(self) -> None:
        while True:
            self._tokens.get()
            if self.stopping:
                break
            request = self._next()
            if request is not None:  # else it was given back
                self._carry_out(request)
                self._completions.post(request)
            del request  # an idle thread keeps nothing alive
        with self.lock:
            self.ended += 1
        self._completions.wake()

    def _carry_out(self, head: Request) -> None:
        try:
            self._reserve(head)
            for part in head.parts():
                if head.cancelled:
                    return
                part.state = State.RUNNING
                _transfer(part)
                if not part.ok:
                    break
        except OSError as error:
            part = next(part for part in head.parts() if not part.ok)
            part.state, part.error = State.RUNNING, error
        head.refuse_rest(errno.ECANCELED)

    def _reserve(self, head: Request) -> None:
        """Have memory for all reads that have none; wait while too much was read that nobody took."""
        parts = [part for part in head.parts() if part.memory is None]
        while not self._pool.reserve(parts, [part.length for part in parts]):
            if self.stopping:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            time.sleep(PATIENCE)


def _transfer(part: Request) -> None:
    """All of it, in as many calls as it takes; a read stops at the end of the file."""
    if part.memory is not None:
        memory = part.memory
    else:
        assert part.buffer is not None
        memory = part.buffer.view
    move = pwritev if part.writes else preadv
    while part.result < part.length:
        moved = move(part.target, [memory[part.result : part.length]], part.offset + part.result)
        if not moved:
            if part.writes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        part.result += moved


class ThreadEngine:
    """
    The groups of all files.

    @param threads: for each file; that many of its batches are under way at once.
    @param most: parts that wait or are under way; C{most_files}: descriptors.
    @param memory: bytes of reads that were not called back yet.
    """

    name = "threads"

    def __init__(
        self,
        handler: Handler,
        *,
        threads: int = THREADS,
        most: int = MOST_REQUESTS,
        most_files: int = MOST_FILES,
        memory: int = MOST_MEMORY,
    ) -> None:
        if threads < 1:
            raise ValueError("a file has one thread at least")
        self._threads, self._most, self._most_files = threads, most, most_files
        self._pool = Pool(memory)
        self._groups: dict[int, Group] = {}
        self._load = 0
        self._stopped: Deferred[None] | None = None
        self._completions = Completions(
            handler, self._pool, gather=lambda: None, ended=self._ended, after=self._close_the_idle
        )

    @property
    def load(self) -> int:
        return self._load

    def open(self, path: os.PathLike[str] | str, flags: int, mode: int = 0o600) -> int:
        """See L{sslintercept.aio.request.DiskEngine}."""
        self._admit_file()
        refuse_appending(flags)
        fd = renumbered(os.open(path, flags | os.O_CLOEXEC, mode), self._groups)
        try:
            self._groups[fd] = Group(fd, self._threads, self._pool, self._completions)
        except LimitError:
            os.close(fd)
            raise
        return fd

    def owns(self, fd: int) -> bool:
        """Whether a descriptor is one of the engine's files."""
        return fd in self._groups

    def submit(self, request: Request) -> None:
        """See L{sslintercept.aio.request.DiskEngine}; the group of a descriptor is made with its first request."""
        group = self._groups.get(request.target)
        if group is None:
            self._admit_file()
            refuse_appending(flags_of(request.target))
        elif group.stopping:
            raise closing(request.fd)
        count = counted(request, self._most - self._load)
        if group is None:
            group = Group(request.target, self._threads, self._pool, self._completions)
            self._groups[request.target] = group
        self._load += count
        take(request)
        group.insert(request)

    def close(self, fd: int) -> Deferred[None]:
        """See L{sslintercept.aio.request.DiskEngine}."""
        group = self._groups.get(fd)
        if group is None:
            raise unknown(fd)
        if not group.stopping:
            group.stop()
        return attached(group.closed)

    def stop(self) -> Deferred[None]:
        """See L{sslintercept.aio.request.DiskEngine}."""
        if self._stopped is None:
            self._stopped = Deferred()
            for group in self._groups.values():
                if not group.stopping:
                    group.stop()
            self._completions.wake()
        return attached(self._stopped)

    def _admit_file(self) -> None:
        admit_file(self._stopped is not None, len(self._groups), self._most_files)

    def _ended(self, head: Request) -> None:
        self._load -= sum(1 for _ in head.parts())

    def _close_the_idle(self) -> None:
        """Close files whose threads are through and whose batches were all called back."""
        if len(self._completions):
            return
        for group in [group for group in self._groups.values() if group.stopping and group.over]:
            group.join()
            if len(self._completions):
                return  # another thread's, posted since
            del self._groups[group.fd]
            close_own(group.fd, group.identity)
            group.closed.callback(None)
        if self._stopped is not None and not self._groups and not self._stopped.called:
            self._completions.close()
            self._stopped.callback(None)


def counted(head: Request, room: int) -> int:
    """
    The number of a batch's parts.

    @raise LimitError: there is no room for as many.
    @raise ValueError: it is no batch that can be carried out.
    """
    count = length = 0
    for part in head.parts():
        count += 1
        length += part.length
        if count > MOST_PARTS or length > LARGEST:
            raise ValueError(f"a batch has {MOST_PARTS} requests and {LARGEST} bytes at most")
        if part.state is not State.NEW or part.cancelled:
            raise ValueError(f"a request is used once; this is the {part}")
        if part.fd != head.fd:
            raise ValueError("the requests of a batch have one descriptor")
    if count > room:
        raise LimitError(f"there is room for {max(room, 0)} more requests", where="disk engine", remedy="wait for some")
    return count


def take(head: Request) -> None:
    """All parts of a batch wait from now on."""
    for part in head.parts():
        part.state = State.WAITING


def admit_file(stopped: bool, files: int, most: int) -> None:
    """
    Have room for one more descriptor.

    @raise LimitError: there is none.
    @raise StoppedError: the engine has stopped.
    """
    if stopped:
        raise StoppedError("the engine has stopped", where="disk engine", remedy="nothing is read or written any more")
    if files >= most:
        raise LimitError(f"{most} files are open", where="disk engine", remedy="use fewer, larger ones")


def closing(fd: int) -> StoppedError:
    """What a request for a file hears that is being closed."""
    return StoppedError(f"descriptor {fd} is being closed", where="disk engine", remedy="open it anew")


def unknown(fd: int) -> ValueError:
    """What somebody hears who closes what is not open."""
    return ValueError(f"descriptor {fd} is no file of this engine")


def attached(end: Deferred[None]) -> Deferred[None]:
    """A Deferred of one's own for an end that several wait for."""
    if end.called:
        return succeed(None)
    mine: Deferred[None] = Deferred()
    end.addCallback(lambda _: mine.callback(None))
    return mine
