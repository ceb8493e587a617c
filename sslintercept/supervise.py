"""
Worker processes that share the listening ports (SO_REUSEPORT), one supervisor above them.

The supervisor carries no traffic. It starts the workers again when they end, each time a little later, hands SIGHUP on
to them, and takes them along when it stops.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.config.schema import Settings

WORKER = "SSLINTERCEPT_WORKER"
"""set in the environment of worker processes: their number"""
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""seconds until a worker that ended is started again"""


def say(text: str) -> None:
    """To the screen, past Twisted's log."""
    stream = sys.__stdout__
    if stream is not None:
        print(text, file=stream, flush=True)


def die(text: str) -> NoReturn:
    """One line (or one a mistake) for whoever started us, and exit status 1."""
    print(text, file=sys.__stderr__ or sys.stderr, flush=True)
    raise SystemExit(1)


class Worker(ProcessProtocol):
    """One worker process."""

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self._supervisor = supervisor
        self.number = number
        self.delay = FIRST_DELAY
        self.ended: Deferred[None] = Deferred()

    def signal(self, name: str) -> None:
        """Send a signal, if there is still somebody to get it."""
        if self.transport is not None:
            try:
                self.transport.signalProcess(name)
            except ProcessExitedAlready:
                return

    def processEnded(self, reason: Failure) -> None:
        """Tell the supervisor."""
        self.ended.callback(None)
        self._supervisor.ended(self, str(reason.value))


class Supervisor(Service):
    """Keeps C{settings.workers} processes running."""

    log = Logger()
    name = "sslintercept"

    def __init__(self, settings: Settings, reactor: Any, banner: str = "") -> None:
        # Any: the reactor provides several interfaces at once.
        self._settings = settings
        self._reactor = reactor
        self._banner = banner
        self._workers: dict[int, Worker] = {}
        self._starting: dict[int, Any] = {}  # Any: IDelayedCall

    def startService(self) -> None:
        """Start the workers."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self._reload))
        for number in range(self._settings.workers):
            self._start(number, FIRST_DELAY)
        say(self._banner)

    def _start(self, number: int, delay: float) -> None:
        self._starting.pop(number, None)
        worker = self._workers[number] = Worker(self, number)
        worker.delay = delay
        self._reactor.spawnProcess(
            worker,
            sys.executable,
            [
                sys.executable,
                "-m",
                "twisted",
                *("--log-level", "warn"),
                "sslintercept",
                "--config",
                str(self._settings.path),
            ],
            env={**os.environ, WORKER: str(number)},
            childFDs={0: 0, 1: 1, 2: 2},
        )

    def _reload(self) -> None:
        for worker in self._workers.values():
            worker.signal("HUP")

    def ended(self, worker: Worker, why: str) -> None:
        """A worker is gone; start another one, later each time."""
        if not self.running:
            return
        self.log.error("worker {number} ended: {why}", number=worker.number, why=why)
        delay = min(worker.delay * 2, LONGEST_DELAY)
        self._starting[worker.number] = self._reactor.callLater(worker.delay, self._start, worker.number, delay)

    def stopService(self) -> Deferred[None]:
        """Stop the workers and wait for them; they bound the time themselves."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        for call in self._starting.values():
            if call.active():
                call.cancel()
        return Deferred.fromCoroutine(self._wait())

    async def _wait(self) -> None:
        for worker in self._workers.values():
            worker.signal("TERM")
        for worker in self._workers.values():
            if not worker.ended.called:
                await worker.ended
