"""
A worker process: reads jobs from descriptor 0, runs a task for each, and answers there.

    python -m sslintercept.worker.child MEMORY SECONDS ANSWER JOBS

It confines itself before it reads the first byte, and imports tasks after that. Whatever a task raises ends the job
with a line that names the exception and the place, never what is in it: that may be of the content.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Final, cast

from sslintercept.worker.confine import confine, limit_cpu
from sslintercept.worker.wire import (
    ITEM_COST,
    LENGTHS,
    TASK,
    Item,
    Job,
    Rubbish,
    Task,
    keep,
    lengths,
    pack,
    unpack,
)

MOST_CONTENT: Final = 2**32
"""bytes of a job; the limit of address space is the one that counts"""
SPARE_CPU: Final = 2.0
"""seconds of CPU that a job may have beside its seconds: whoever waits ends it first"""


class TooMuch(Exception):
    """The items of a task are larger than allowed."""


class Child:
    """The process's side of the line."""

    def __init__(self, line: socket.socket, memory: int, seconds: float, answer: int) -> None:
        self._line = line
        self._memory, self._seconds, self._answer = memory, seconds, answer
        self._kept: dict[str, bytes] = {}

    def serve(self) -> None:
        """
        Run jobs until the line ends.

        @raise Rubbish: what comes are no jobs.
        """
        while (head := self._read(LENGTHS.size)) is not None:
            meta_length, length = lengths(head, MOST_CONTENT)
            meta = unpack(self._read(meta_length) or b"")
            content = self._read(length)
            if content is None:
                return
            if isinstance(key := meta.get("keep"), str):
                keep(self._kept, key, bytes(content))
            else:
                self._run(meta, bytes(content))

    def _read(self, length: int) -> bytearray | None:
        """Exactly so much; C{None} if the line ends."""
        into = bytearray(length)
        view = memoryview(into)
        while view:
            size = self._line.recv_into(view)
            if not size:
                return None
            view = view[size:]
        return into

    def _run(self, meta: Mapping[str, object], content: bytes) -> None:
        limit_cpu(self._seconds + SPARE_CPU)
        left = self._answer
        try:
            key = str(meta.get("kept", ""))
            job = Job(self._seconds, self._memory, self._answer, key, self._kept.get(key, b""))
            for item in find(str(meta.get("task")))(cast("Mapping[str, object]", meta["meta"]), content, job):
                left -= ITEM_COST + self._item(item)
                if left < 0:
                    raise TooMuch
        except MemoryError:
            self._say({"failed": f"{self._memory} bytes of memory are not enough", "fault": "too_big"})
        except TooMuch:
            self._say({"failed": f"it gives more than {self._answer} bytes", "fault": "too_big"})
        except Exception as error:
            self._say({"failed": told(error), "fault": "refused"})
        else:
            self._say({"end": True})

    def _item(self, item: Item) -> int:
        head = pack({"item": item.meta}, len(item.content))
        self._line.sendall(head)
        self._line.sendall(item.content)
        return len(head) + len(item.content)

    def _say(self, meta: Mapping[str, object]) -> None:
        self._line.sendall(pack(meta))


def find(name: str) -> Task:
    """
    The task of a name.

    @raise Rubbish: none has it.
    """
    if not TASK.fullmatch(name):
        raise Rubbish("no task has such a name")
    module, function = name.split(":")
    return cast("Task", getattr(importlib.import_module(module), function))


def told(error: BaseException) -> str:
    """An exception's name and place."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + at


def main(arguments: Sequence[str]) -> None:
    """Confine this process, say so, and serve."""
    memory, seconds, answer, jobs = int(arguments[0]), float(arguments[1]), int(arguments[2]), int(arguments[3])
    line = socket.socket(fileno=0)
    line.setblocking(True)
    how = confine(memory, int((seconds + SPARE_CPU + 1) * jobs) + 60)
    line.sendall(pack({"ready": how}))
    Child(line, memory, seconds, answer).serve()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    finally:
        os._exit(0)
