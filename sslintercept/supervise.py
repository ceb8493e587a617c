"""
Worker processes that share the listening ports (SO_REUSEPORT), one supervisor above them.

Which of them a client's connections go to is the kernel's doing (L{sslintercept.net.spread}).

The supervisor carries no traffic. It starts the workers again when they end, each time a little later, hands SIGHUP on
to them, and takes them along when it stops.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ReactorNotRunning
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.config.schema import Settings
from sslintercept.errors import ConfigError

WORKER = "SSLINTERCEPT_WORKER"
"""set in the environment of worker processes: their number"""
READY = 3
"""the descriptor on which a worker says that it accepts connections"""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal for us when our parent ends"""
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


def make_state_dir(path: Path) -> None:
    """
    Make the folder for everything we keep, for us alone.

    @raise ConfigError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {path} ({error.strerror})",
            where="[sslintercept] state_dir",
            remedy="name a folder that can be made, or make it",
        ) from None


def on_signals(reactor: Any, reload: Callable[[], object]) -> None:
    """
    Reload on SIGHUP; stop on SIGTERM, with exit status 0 (Twisted's own way ends by the signal itself).

    Away from the main thread no signal can be had (Any: the reactor provides several interfaces at once).
    """

    def stop() -> None:
        with suppress(ReactorNotRunning):  # it stops already
            reactor.stop()

    def on(number: int, call: Callable[[], object]) -> None:
        with suppress(ValueError):
            signal.signal(number, lambda number, frame: reactor.callFromThread(call))

    on(signal.SIGHUP, reload)
    reactor.callWhenRunning(on, signal.SIGTERM, stop)  # after the reactor has put its own in place


def tell_supervisor() -> None:
    """In a worker: connections are accepted; from now on the end of the supervisor is our end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        os.write(READY, b"+")
    except BrokenPipeError:
        die("worker: the supervisor has ended; nothing is left to do")
    os.close(READY)


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
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(name)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It accepts connections: an end from now on is not the continuation of earlier ones."""
        self.delay = FIRST_DELAY
        self._supervisor.is_ready()

    def processEnded(self, reason: Failure) -> None:
        """Tell the supervisor."""
        self.ended.callback(None)
        self._supervisor.ended(self, str(reason.value))


class Supervisor(Service):
    """Keeps C{settings.workers} processes running."""

    log = Logger()
    name = "sslintercept"

    def __init__(self, settings: Settings, reactor: Any, banner: str) -> None:
        # Any: the reactor provides several interfaces at once.
        self._settings = settings
        self._reactor = reactor
        self._banner = banner
        self._workers: dict[int, Worker] = {}
        self._starting: dict[int, Any] = {}  # Any: IDelayedCall
        self._ready = 0

    def startService(self) -> None:
        """Start the workers."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's Service is untyped
        on_signals(self._reactor, self._reload)
        for number in range(self._settings.workers):
            self._start(number, FIRST_DELAY)

    def is_ready(self) -> None:
        """A worker accepts connections; when all did for the first time, say so."""
        self._ready += 1
        if self._ready == self._settings.workers:
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
                *("--log-level", "warn", "--log-format", "text"),
                "sslintercept",
                "--config",
                str(self._settings.path),
            ],
            env={**os.environ, WORKER: str(number)},
            childFDs={0: 0, 1: 1, 2: 2, READY: "r"},
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
