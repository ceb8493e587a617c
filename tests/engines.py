"""What tests of clients for scanning engines share: engines that follow a script, and real ones as children."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from sslintercept.errors import EngineError
from sslintercept.facts import Side
from sslintercept.net.line import Line
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer

PATIENCE = 30.0
"""seconds for an engine to start, or an answer to come"""
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""what every malware engine calls malware; in two parts, lest one does so with this file"""


class Engine:
    """
    An engine that does what a script says.

    @ivar peers: the other ends of the lines so far.
    """

    def __init__(self, loop: Loop, script: Callable[[Peer], object] = lambda peer: None) -> None:
        self._loop = loop
        self.script = script
        self.peers: list[Peer] = []
        self.buffer: int | None = None

    def open(self) -> Deferred[Line]:
        """Make a line."""
        vc, sock = self._loop.pair(Side.UPSTREAM, self.buffer)
        peer = Peer(self._loop, sock, vc)
        peer.received = self.script
        self.peers.append(peer)
        return succeed(Line(vc))


class RealLoop(Loop):
    """A loop whose clock goes with the world's."""

    def until(self, done: Callable[[], object]) -> None:
        """Turn until something is so."""
        last = time.monotonic()
        end = last + PATIENCE
        while not done():
            assert last < end, "it did not happen in time"
            if not self.turn():
                time.sleep(0.0005)
            now = time.monotonic()
            self.advance(now - last)
            last = now

    def found(self, asked: Deferred[Any]) -> Any:
        """What a Deferred comes to."""
        self.until(lambda: asked.called)
        return outcome(asked)


class Stopping:
    """A producer that notes whether it is stopped."""

    def __init__(self) -> None:
        self.stopped = False
        self.stops = 0

    def pauseProducing(self) -> None:
        assert not self.stopped
        self.stopped = True
        self.stops += 1

    def resumeProducing(self) -> None:
        assert self.stopped
        self.stopped = False


def outcome(deferred: Deferred[Any]) -> Any:
    """What a Deferred came to: its value, its exception, or C{None} if it has not fired."""
    if not deferred.called:
        return None
    found: list[Any] = []

    def note(result: Any) -> Any:
        found.append(result)
        return None if isinstance(result, Failure) else result

    deferred.addBoth(note)
    return found[0].value if isinstance(found[0], Failure) else found[0]


def fault(deferred: Deferred[Any]) -> str:
    """The fault that a Deferred failed with."""
    error = outcome(deferred)
    assert isinstance(error, EngineError), error
    return error.fault


@contextmanager
def child(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a child that is ready when the block begins, and gone when it ends."""
    program = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program is not None, f"{command[0]} is not installed"
    with log.open("wb") as out:
        process = subprocess.Popen([program, *command[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        end = time.monotonic() + PATIENCE
        while not ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_clamd(folder: Path, port: int, most: str = "1M") -> tuple[list[str], Path]:
    """The command for a clamd whose only signature is that of L{EICAR}, and its socket."""
    base = folder / "base"
    base.mkdir()
    (base / "own.ndb").write_text(f"Eicar-Test:0:0:{EICAR.hex()}\n")
    sock = folder / "clamd.sock"
    (folder / "clamd.conf").write_text(
        f"Foreground yes\nLocalSocket {sock}\nTCPSocket {port}\nTCPAddr 127.0.0.1\nDatabaseDirectory {base}\n"
        f"TemporaryDirectory {folder}\nUser root\nMaxThreads 4\nStreamMaxLength {most}\n"
    )
    return ["clamd", "-c", str(folder / "clamd.conf")], sock
