"""
Worker processes: what parses hostile bytes in C, or may take for ever, runs in a process that may die.

A process is started when a job needs one, kept, and replaced after a number of jobs, or when it dies. A job that hangs,
crashes, eats memory or talks rubbish fails with an L{EngineError}; the next one gets another process. While nobody
asks for anything there is no process, or there are some that sleep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted.internet.defer import Deferred

from sslintercept.errors import EngineError
from sslintercept.net.places import MOST_WAITING, PATIENCE, Places
from sslintercept.worker.process import Limits, Process
from sslintercept.worker.wire import TASK, Item

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

WAITING_BYTES: Final = 256 * 1024 * 1024
"""bytes of content that jobs may have which wait for a process"""
MOST_CONTENT: Final = 128 * 1024 * 1024
"""bytes of content of one job"""

__all__ = ["Item", "Kept", "Limits", "Workers"]


class Kept(NamedTuple):
    """
    Bytes for many jobs, which are sent to each process once.

    @ivar key: of these bytes: others have another key.
    """

    key: str
    content: bytes


class Workers:
    """
    A pool of processes.

    @param count: processes at the same time.
    @param where: what errors call it.
    @ivar limits: of each process.
    """

    def __init__(
        self,
        handler: NetHandler,
        count: int,
        limits: Limits | None = None,
        *,
        waiting: int = MOST_WAITING,
        waiting_bytes: int = WAITING_BYTES,
        patience: float = PATIENCE,
        most: int = MOST_CONTENT,
        where: str = "worker",
    ) -> None:
        self.limits = limits or Limits()
        self.where = where
        self._handler = handler
        self._most = most
        self._most_waiting_bytes = waiting_bytes
        self._waiting_bytes = 0
        self._places = Places(handler, where, count, most_waiting=waiting, patience=patience)
        self._idle: list[Process] = []
        self._processes: set[Process] = set()
        self._empty: list[Deferred[None]] = []

    @property
    def processes(self) -> int:
        """How many there are now."""
        return len(self._processes)

    def run(
        self, task: str, meta: Mapping[str, object], content: bytes | Sequence[bytes], kept: Kept | None = None
    ) -> Deferred[list[Item]]:
        """
        Run C{task} on C{content}; its items in their order. Cancelling ends it.

        It fails with an L{EngineError}: C{busy}, C{hangs}, C{lost} (the process died), C{rubbish}, C{refused} (the task
        raised something), C{too_big} (the content, the answer, or the memory needed), C{unreachable} (no process can be
        started), C{stopped}.

        @param task: C{module:function} of this package, an L{sslintercept.worker.wire.Task}.
        @param meta: for the task; JSON, at most L{sslintercept.worker.wire.MOST_META} bytes.

        @raise ValueError: no task can have such a name.
        """
        if not TASK.fullmatch(task):
            raise ValueError(f"{task} is no task")
        pieces = [content] if isinstance(content, bytes) else list(content)
        return Deferred.fromCoroutine(self._run(task, meta, pieces, kept))

    async def _run(self, task: str, meta: Mapping[str, object], pieces: list[bytes], kept: Kept | None) -> list[Item]:
        size = sum(map(len, pieces))
        if size > self._most:
            raise self._error(f"{size} bytes are above {self._most}", "too_big")
        if self._places.taken >= self._places.most and self._waiting_bytes + size > self._most_waiting_bytes:
            raise self._error(f"{self._waiting_bytes} bytes wait already", "busy")
        self._waiting_bytes += size
        try:
            await self._places.take()
        finally:
            self._waiting_bytes -= size
        process = next((each for each in reversed(self._idle) if not each.over), None)
        if process is None:
            process = self._start()
        else:
            self._idle.remove(process)
        job: dict[str, object] = {"task": task, "meta": dict(meta)}
        if kept is not None:
            job["kept"] = kept.key
        try:
            return await process.run(job, pieces, kept)
        except ValueError as error:  # the meta is too large: the process knows nothing of it
            self._free(process)
            raise self._error(str(error), "too_big") from None

    def close(self) -> Deferred[None]:
        """End everything; fires when the last process is gone."""
        self._places.close()
        for process in list(self._processes):
            process.stop("it is being stopped", "stopped")
        done: Deferred[None] = Deferred()
        if self._processes:
            self._empty.append(done)
        else:
            done.callback(None)
        return done

    # processes

    def _start(self) -> Process:
        try:
            process = Process(self._handler, self.where, self.limits, self._free, self._gone)
        except OSError as error:
            self._places.free()
            raise self._error(f"no process can be started ({error.strerror})", "unreachable") from None
        self._processes.add(process)
        return process

    def _free(self, process: Process) -> None:
        self._idle.append(process)
        self._places.free()

    def _gone(self, process: Process) -> None:
        self._processes.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        else:
            self._places.free()
        if not self._processes:
            empty, self._empty = self._empty, []
            for done in empty:
                done.callback(None)

    def _error(self, what: str, fault: str) -> EngineError:
        return EngineError(what, where=self.where, remedy="allow more processes, or inspect less", fault=fault)
