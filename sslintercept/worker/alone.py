"""
One worker process for a command, where no reactor runs: each job is waited for.

It is the process of a pool (L{sslintercept.worker.child}), confined and limited alike, on a line that blocks.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from time import monotonic
from types import TracebackType
from typing import Final

from sslintercept.errors import EngineError
from sslintercept.worker.pool import MOST_CONTENT
from sslintercept.worker.process import READ, START, Limits, spawn
from sslintercept.worker.wire import Answer, FailedError, FrameReader, Item, Rubbish, pack

_REMEDY: Final = "see docs/worker.md"


class Alone:
    """
    Runs one job after the other; a process is started by the first one, and replaced when it fails.

    @param where: what errors call it.
    """

    def __init__(self, limits: Limits | None = None, *, where: str = "worker") -> None:
        self._limits = limits or Limits()
        self._where = where
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._reader = FrameReader(0)
        self._until = 0.0
        self._jobs = 0

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._line = None

    def run(self, task: str, meta: Mapping[str, object], content: bytes) -> list[Item]:
        """
        Run a task (L{sslintercept.worker.pool.Workers.run}), and wait for what it gives.

        @raise EngineError: C{hangs}, C{lost}, C{rubbish}, C{refused}, C{too_big} or C{unreachable}.
        """
        if len(content) > MOST_CONTENT:
            raise self._error(f"{len(content)} bytes are above {MOST_CONTENT}", "too_big")
        try:
            line = self._line or self._start()
            self._until = monotonic() + self._limits.seconds
            self._send(line, pack({"task": task, "meta": dict(meta)}, len(content)))
            self._send(line, content)
            items = self._items(line)
        except BaseException as error:
            self.close()  # whatever it does now, the next job gets another one
            if isinstance(error, TimeoutError):
                raise self._error("it did not end in time", "hangs") from None
            if isinstance(error, OSError):
                raise self._error("its process ended", "lost") from None
            if isinstance(error, FailedError):
                raise self._error(error.what, error.fault) from None
            if isinstance(error, Rubbish):
                raise self._error(f"what it says is no answer ({error})", "rubbish") from None
            raise
        self._jobs += 1
        if self._jobs >= self._limits.jobs:
            self.close()
        return items

    def _start(self) -> socket.socket:
        self._reader, self._jobs = FrameReader(0), 0
        try:
            self._line, self._process = spawn(self._limits)
        except OSError as error:
            raise self._error(f"no process can be started ({error.strerror})", "unreachable") from None
        self._until = monotonic() + START
        if not isinstance(self._frame(self._line)[0].get("ready"), str):
            raise Rubbish("it is not ready")
        return self._line

    def _items(self, line: socket.socket) -> list[Item]:
        answer = Answer(self._limits.answer)
        ended = False
        while not ended:
            self._reader.most = answer.left
            ended = answer.take(*self._frame(line))
        return answer.items

    def _send(self, line: socket.socket, data: bytes) -> None:
        line.settimeout(self._left())
        line.sendall(data)

    def _frame(self, line: socket.socket) -> tuple[dict[str, object], bytes]:
        """@raise OSError: the line ends; TimeoutError: time is over."""
        while (frame := self._reader.frame()) is None:
            line.settimeout(self._left())
            data = line.recv(READ)
            if not data:
                raise ConnectionResetError
            self._reader.feed(data)
        return frame

    def _left(self) -> float:
        """@raise TimeoutError: nothing is left."""
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _error(self, what: str, fault: str) -> EngineError:
        return EngineError(what, where=self._where, remedy=_REMEDY, fault=fault)
