"""
Our side of one worker process: it is started, given one job at a time, and killed when it does not do as agreed.

The line to it is a socket pair, watched by L{NetHandler} as a connection is; its end is seen by a pidfd
(pidfd_open(2)). It is started by C{subprocess}, which lets the kernel make it without copying our address space
(vfork), with no descriptor but the line and no environment but where Python's modules are.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.errors import EngineError
from sslintercept.worker.wire import Answer, FailedError, FrameReader, Item, Rubbish, keep, pack, printable

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

READ: Final = 256 * 1024
"""bytes read in one turn"""
START: Final = 30.0
"""seconds until a process must have said that it is ready"""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Of each process.

    @ivar memory: bytes of address space.
    @ivar seconds: that a job may take.
    @ivar answer: bytes that a job's items may have together (L{sslintercept.worker.wire.Job}).
    @ivar jobs: after which it is replaced: what libraries lose of memory comes back.
    """

    memory: int = 768 * 1024 * 1024
    seconds: float = 30.0
    answer: int = 128 * 1024 * 1024
    jobs: int = 500


def command(limits: Limits) -> tuple[list[str], dict[str, str]]:
    """The line that starts a process, and its environment."""
    numbers = (limits.memory, limits.seconds, limits.answer, limits.jobs)
    path = os.pathsep.join(os.path.abspath(each) for each in sys.path if each)
    return (
        [sys.executable, "-P", "-s", "-m", "sslintercept.worker.child", *map(str, numbers)],
        {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"},
    )


def spawn(limits: Limits) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """
    Start a process.

    @return: our end of the line to it, and the process.
    @raise OSError: it cannot be started.
    """
    line, environment = command(limits)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                line,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
    except BaseException:
        ours.close()
        raise
    return ours, process


class Exit:
    """Sees the end of a process."""

    turn = 0

    def __init__(self, process: Process) -> None:
        self._process = process

    def readable(self) -> None:
        self._process.ended()

    def event(self, event: int) -> None:
        self._process.ended()

    def abort(self) -> None:
        self._process.ended()


class Process:
    """
    One worker process.

    @ivar confined: how, as it says itself; empty until it is ready.
    @ivar over: it has ended, or will at once; no job may be given to it any more.
    @param free: called when it can take another job; C{gone}: when there is no such process any more.
    """

    log = Logger()
    turn = 0

    def __init__(
        self,
        handler: NetHandler,
        where: str,
        limits: Limits,
        free: Callable[[Process], object],
        gone: Callable[[Process], object],
    ) -> None:
        """@raise OSError: it cannot be started."""
        self._handler, self._where, self._limits = handler, where, limits
        self._free, self._gone = free, gone
        self._reader = FrameReader(0)
        self._out: deque[memoryview] = deque()
        self._kept: dict[str, None] = {}
        self._answer = Answer(0)
        self._jobs = 0
        self._mask = EPOLLIN
        self._timer: IDelayedCall | None = None
        self._job: Deferred[list[Item]] | None = None
        self.confined = ""
        self.over = False
        self._line, self._popen = spawn(limits)
        try:
            self._pid = os.pidfd_open(self._popen.pid)
        except BaseException:
            self._line.close()
            raise
        self._line.setblocking(False)
        handler.add(self._line.fileno(), self, EPOLLIN)
        handler.add(self._pid, Exit(self), EPOLLIN)

    # for the pool

    def run(
        self, meta: dict[str, object], content: Sequence[bytes], kept: tuple[str, bytes] | None
    ) -> Deferred[list[Item]]:
        """
        Run a job; only one at a time. Cancelling kills the process.

        @raise Rubbish: the job's meta is no JSON, or too large.
        """
        head = pack(meta, sum(map(len, content)))
        if kept is not None and kept[0] not in self._kept:
            keep(self._kept, kept[0], None)
            self._say(pack({"keep": kept[0]}, len(kept[1])), kept[1])
        self._say(head, *content)
        self._jobs += 1
        self._answer = Answer(self._limits.answer)
        job = self._job = Deferred(lambda _: self._fail("the caller gave up", "dropped"))
        self._wait(self._limits.seconds if self.confined else START)
        self._write()
        return job

    def stop(self, what: str, fault: str) -> None:
        """End it at once; the job that it has fails."""
        self._fail(what, fault)

    # the line

    def readable(self) -> None:
        """The handler's: there is something to read."""
        self._read()

    def _read(self) -> bool:
        """Read once; whether there was something."""
        try:
            data = self._line.recv(READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self._kill()  # the process has ended, or must: L{ended} says how
        return bool(data)

    def event(self, event: int) -> None:
        """The handler's: something else."""
        if event & EPOLLIN:
            self.readable()
        elif event & (EPOLLERR | EPOLLHUP):
            self._kill()
        if event & EPOLLOUT and not self.over:
            self._write()

    def abort(self) -> None:
        """The handler's: a defect of ours."""
        self._fail("it was given up", "lost")

    def _received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while not self.over:
                self._reader.most = self._answer.left
                frame = self._reader.frame()
                if frame is None:
                    break
                self._frame(*frame)
        except FailedError as error:
            self._fail(error.what, error.fault)
        except Rubbish as error:
            self._fail(f"what it says is no answer ({error})", "rubbish")

    def _frame(self, meta: dict[str, object], content: bytes) -> None:
        if not self.confined:
            self._begun(meta)
        elif self._job is None:
            raise Rubbish("nobody asked")
        elif self._answer.take(meta, content):
            if self._reader.held or self._out:
                raise Rubbish("an end that is none")
            self._done()

    def _begun(self, meta: dict[str, object]) -> None:
        how = meta.get("ready")
        if not isinstance(how, str) or not how:
            raise Rubbish("it is not ready")
        self.confined = printable(how)
        if self._job is not None:
            self._wait(self._limits.seconds)

    def _done(self) -> None:
        job, self._job = self._job, None
        answer, self._answer = self._answer, Answer(0)
        self._wait(None)
        if self._jobs >= self._limits.jobs:
            self._kill()
        else:
            self._free(self)
        assert job is not None
        job.callback(answer.items)

    def _say(self, *pieces: bytes) -> None:
        self._out.extend(memoryview(piece) for piece in pieces if piece)

    def _write(self) -> None:
        out = self._out
        try:
            while out:
                sent = self._line.send(out[0])
                if sent == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._kill()
            return
        mask = EPOLLIN | EPOLLOUT if out else EPOLLIN
        if mask != self._mask:
            self._mask = mask
            self._handler.modify(self._line.fileno(), mask)

    # ends

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._handler.later(seconds, self._too_long)

    def _too_long(self) -> None:
        seconds = self._limits.seconds if self.confined else START
        self._fail(f"it did not end in {seconds:g} s", "hangs")

    def _fail(self, what: str, fault: str) -> None:
        self._kill()
        job, self._job = self._job, None
        self._answer = Answer(0)
        self._wait(None)
        if job is not None:
            job.errback(self._error(what, fault))

    def _kill(self) -> None:
        if not self.over:
            self.over = True
            self._out.clear()
            self._handler.remove(self._line.fileno())
            self._line.close()
            self._popen.kill()

    def ended(self) -> None:
        """There is no such process any more."""
        self._handler.remove(self._pid)
        os.close(self._pid)
        code = self._popen.wait()
        while not self.over and self._read():
            pass  # its end may be seen before its last words are read
        if self._job is not None:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
            fault = "hangs" if -code == signal.SIGXCPU else "lost"
            self._fail(f"its process ended by {name}" if name else f"its process ended with {code}", fault)
        self._kill()
        self._gone(self)

    def _error(self, what: str, fault: str) -> EngineError:
        return EngineError(what, where=self._where, remedy="see docs/worker.md", fault=fault)
