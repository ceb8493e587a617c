"""
Log lines on their way to a file, without the caller ever waiting for the disk.

L{LineWriter.write} appends to a queue; one thread writes the queue out in batches, at most L{BATCH_SECONDS} after a
line or when L{BATCH_BYTES} have gathered. An idle log costs nothing: the thread sleeps until the first line. When the
disk is slower than the proxy, lines are dropped and counted, and a line says so once there is room again. A disk that
is full, or a pipe that is broken, is reported once and tried again every L{RETRY_SECONDS}.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Thread
from typing import Final

from twisted.logger import Logger
from zope.interface import implementer

from sslintercept.errors import ConfigError
from sslintercept.interfaces import ILineSink

LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Characters (with newlines) that may wait; our lines are ASCII, so they are bytes."""
BATCH_BYTES: Final = 64 * 1024
BATCH_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0
CLOSING_RETRY_SECONDS: Final = 0.05
MODE: Final = 0o640
STDOUT: Final = 1
ANY: Final = 1
"""A threshold: wake the thread for any line."""
NEVER: Final = 1 << 62
"""A threshold: the thread is awake, leave it alone."""


log = Logger()


def report_to_log(sentence: str) -> None:
    log.warn("{sentence}", sentence=sentence)


def json_notice(dropped: int) -> str:
    return f'{{"type":"dropped","lines":{dropped}}}'


@implementer(ILineSink)
class LineWriter:
    """
    Lines to a file, appended, or to standard output for C{-}.

    All methods belong to one thread (the reactor's). Make it, fork, then L{start} it: threads do not survive a fork.

    @ivar dropped: lines lost because the queue was full, or because they came after L{close}.
    @ivar failures: attempts to write or open that failed.
    @ivar undelivered: lines lost because L{close} ran out of time.
    """

    def __init__(
        self,
        path: str,
        notice: Callable[[int], str] = json_notice,
        report: Callable[[str], object] = report_to_log,
        mode: int = MODE,
        where: str = "[log] access",
    ) -> None:
        """
        @param mode: of a file that is made.
        @param where: the key that names the path, for errors.
        @param notice: makes the line that stands for so many dropped lines.
        @param report: gets a sentence for the operator; called by the writing thread.
        """
        self.path, self.notice, self.report = path, notice, report
        self._mode, self._where = mode, where
        self.dropped = self.failures = self.undelivered = 0
        self._noticed = 0
        self._lines: deque[str] = deque()
        # Each counter has one writer, so neither needs a lock: the caller counts in, the thread counts out.
        self._queued = self._taken = 0
        self._threshold = NEVER
        self._wake = Event()
        self._reopen = False
        self._deadline: float | None = None
        self._fd = -1
        self._failing = False
        self._rest = b""
        """what the last batch could not write"""
        self._size = 0
        self._thread: Thread | None = None

    def start(self) -> None:
        """
        Open the file and start the thread; lines written before are kept.

        @raise ConfigError: the file cannot be opened.
        """
        try:
            self._fd = self._open()
        except OSError as error:
            raise ConfigError(
                f"cannot append to {self.path} ({error.strerror})",
                where=self._where,
                remedy="make the file writable for the user who runs the proxy",
            ) from error
        self._thread = Thread(target=self._run, name=f"log {self.path}", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue *line*, which has no newline. Never waits, never raises; measured: 0.3 µs."""
        waiting = self._queued - self._taken
        if waiting >= LIMIT_BYTES or self._deadline is not None:
            self.dropped += 1
            return
        self._lines.append(line)
        self._queued += len(line) + 1
        if waiting >= self._threshold - 1:
            self._threshold = NEVER
            self._wake.set()

    def reopen(self) -> None:
        """Go on in a new file of the same name; the old one was renamed (rotation)."""
        self._reopen = True
        self._wake.set()

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits and close the file. Blocks until it is done, *seconds* at most."""
        self._deadline = time.monotonic() + seconds
        if self._thread is not None:
            self._wake.set()
            self._thread.join(seconds + 0.1)
            self._thread = None
        self.undelivered = len(self._lines) + self._rest.count(b"\n")

    # From here on everything runs in the thread.

    def _run(self) -> None:
        while True:
            self._wait(ANY, self._pending, None)
            self._wait(BATCH_BYTES, lambda: self._queued - self._taken >= BATCH_BYTES, BATCH_SECONDS)
            done = self._drain()
            if self._reopen:
                self._reopen = False
                self._replace()
            if self._deadline is not None and (done or time.monotonic() >= self._deadline):
                break
            if not done:
                self._pause()
                self._replace()
        if self._fd != STDOUT:
            os.close(self._fd)

    def _pending(self) -> bool:
        return bool(self._lines or self._rest or self.dropped > self._noticed)

    def _wait(self, threshold: int, enough: Callable[[], bool], seconds: float | None) -> None:
        """
        Sleep until *threshold* bytes wait, or somebody wants something.

        The threshold is set before the last look at the queue: a line that comes in between finds the one or is
        found by the other.
        """
        self._wake.clear()
        self._threshold = threshold
        if not (enough() or self._reopen or self._deadline is not None):
            self._wake.wait(seconds)
        self._threshold = NEVER

    def _pause(self) -> None:
        """Between two attempts at a disk that is full; shorter while somebody waits in L{close}."""
        self._wake.clear()
        self._wake.wait(RETRY_SECONDS if self._deadline is None else CLOSING_RETRY_SECONDS)

    def _drain(self) -> bool:
        """Write all that waits, in batches. C{False} if that failed; what was not written is kept."""
        while self._pending():
            if not self._rest:
                self._rest, self._size = self._batch()
            try:
                while self._rest:
                    self._rest = self._rest[os.write(self._fd, self._rest) :]
            except OSError as error:
                self._failed("write to", error)
                return False
            self._taken += self._size
            if self._failing:
                self._failing = False
                self.report(f"log {self.path}: written again")
        return True

    def _batch(self) -> tuple[bytes, int]:
        """The next bytes to write, and what they counted in the queue."""
        lines: list[str] = []
        size = 0
        while self._lines and size < BATCH_BYTES:
            lines.append(self._lines.popleft())
            size += len(lines[-1]) + 1
        dropped = self.dropped
        if dropped > self._noticed and not self._lines:
            lines.append(self.notice(dropped - self._noticed))
            self._noticed = dropped
        return "\n".join([*lines, ""]).encode("utf-8", "backslashreplace"), size

    def _open(self) -> int:
        """@raise OSError: it cannot be opened; a pipe that nobody reads is such a case, and never waited for."""
        if self.path == "-":
            return STDOUT
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, self._mode)
        os.set_blocking(fd, True)
        return fd

    def _replace(self) -> None:
        """Open the file anew; if that fails, the old one stays in use."""
        if self.path == "-":
            return
        try:
            fd = self._open()
        except OSError as error:
            self._failed("open", error)
            return
        os.close(self._fd)
        self._fd = fd

    def _failed(self, what: str, error: OSError) -> None:
        """Count it; tell the operator of the first of a row."""
        self.failures += 1
        if not self._failing:
            self._failing = True
            self.report(f"log {self.path}: cannot {what} it ({error.strerror}); trying again, newest lines may be lost")
