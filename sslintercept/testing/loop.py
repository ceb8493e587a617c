"""
A whole proxy in one thread without a reactor: real sockets of the kernel, a clock that stands still, and no waiting.

L{Loop} stands in for the reactor. Sockets are C{socketpair}s, so that every layer below a test is the real one; time
passes only when a test says so; L{Loop.pump} runs until nothing moves any more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.facts import Address, Side
from sslintercept.net.cop import InactivityCop
from sslintercept.net.handler import NetHandler
from sslintercept.net.vconnection import LINGER, NetVConnection
from sslintercept.profile.tcp import TcpProfile

QUIET = 3
"""turns without an event after which nothing moves any more"""
MOST_TURNS = 100_000
"""turns after which a test is thought to run for ever"""
PATIENCE = 30.0
"""seconds for a server to start, or an answer to come"""


class Loop(Clock):
    """A clock, and what L{NetHandler} needs of a reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[IReadDescriptor] = []
        self.handler = NetHandler(self)
        self.handler.start()
        self.cop = InactivityCop(self.handler, self)
        self.cop.start()
        self.peers: list[socket.socket] = []
        """the other ends of the sockets that were made here"""
        self.failures: list[Failure] = []
        """what was logged with a traceback during a test"""
        self.others: list[Callable[[], bool]] = []
        """called each turn; whoever moved something says true"""

    def addReader(self, reader: IReadDescriptor) -> None:
        """Watch the handler (IReactorFDSet)."""
        self.readers.append(reader)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Watch it no more (IReactorFDSet)."""
        self.readers.remove(reader)

    def turn(self) -> bool:
        """One turn of the loop; true if anything happened."""
        before = self.handler.turns
        super().advance(0)
        self.handler.doRead()
        moved = self.handler.turns != before
        for other in self.others:
            moved = other() or moved
        return moved

    def pump(self, timings: Iterable[float] = ()) -> None:
        """
        Turn until nothing moves.

        @param timings: seconds to let pass before (L{Clock.pump}).

        @raise AssertionError: something moves for ever.
        """
        for seconds in timings:
            self.advance(seconds)
        quiet = 0
        for _ in range(MOST_TURNS):
            quiet = 0 if self.turn() else quiet + 1
            if quiet >= QUIET:
                return
        raise AssertionError(f"still moving after {MOST_TURNS} turns")

    def pass_time(self, seconds: float) -> None:
        """Let time pass in steps of a sweep, everything that is due happening on the way."""
        while seconds > 0:
            step = min(seconds, 1.0)
            self.advance(step)
            self.pump()
            seconds -= step

    def pair(self, side: Side = Side.CLIENT, buffer: int | None = None) -> tuple[NetVConnection, socket.socket]:
        """A connection of ours, and the other end of its socket, which does not block."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
            if buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.peers.append(theirs)
        return self.adopt(ours, side), theirs

    def adopt(self, sock: socket.socket, side: Side) -> NetVConnection:
        """Make a connection of ours out of a socket; one end of a pair that became ours is nobody's peer any more."""
        if sock in self.peers:
            self.peers.remove(sock)
        vc = NetVConnection(self.handler, side, Address("192.0.2.1", 50000), Address("192.0.2.2", 8080))
        vc.open(TcpProfile(vc, sock, self.handler))
        return vc

    def close(self) -> None:
        """Cut what is left and free the handler; a connection that a test forgot is no leak of ours."""
        for vc in list(self.handler.connections):
            vc.abort()
        self.pump()
        self.cop.stop()
        self.handler.stop()
        for sock in self.peers:
            sock.close()

    def leftovers(self) -> list[str]:
        """
        What is still here once every peer has gone and the last lingering close is over: there should be nothing.

        Connections, delayed calls other than the sweep's, and watched descriptors.
        """
        for sock in self.peers:
            sock.close()
        self.pump()
        self.pass_time(LINGER + 2)
        found = [f"connection {vc}" for vc in self.handler.connections]
        found += [f"delayed call {call}" for call in self.getDelayedCalls() if call is not self.cop.next]
        found += [f"watched descriptor of {one}" for one in self.handler.watched()]
        return found


@implementer(ILogObserver)
class Observer:
    """Collects what is logged with a traceback."""

    def __init__(self, failures: list[Failure]) -> None:
        self._failures = failures

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._failures.append(event["log_failure"])


@contextmanager
def checked_loop() -> Iterator[Loop]:
    """
    A loop for one test, which fails if anything is left behind: see L{Loop.leftovers}, open descriptors, and failures
    that were only logged (those a test expects it takes out of L{Loop.failures}).

    @raise AssertionError: something was left.
    """
    before = set(os.listdir("/proc/self/fd"))
    loop = Loop()

    observe = Observer(loop.failures)
    globalLogPublisher.addObserver(observe)
    try:
        yield loop
        left = loop.leftovers()
    finally:
        loop.close()
        globalLogPublisher.removeObserver(observe)
    left += [f"open descriptor {fd}" for fd in set(os.listdir("/proc/self/fd")) - before]
    left += [f"logged failure {failure.getTraceback()}" for failure in loop.failures]
    assert not left, "left behind: " + ", ".join(left)


class RealLoop(Loop):
    """
    A loop whose clock goes with the world's.

    @param patience: seconds for something to become so.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__()
        self._patience = patience

    def until(self, done: Callable[[], object]) -> None:
        """
        Turn until something is so.

        @raise AssertionError: it is not in time.
        """
        last = time.monotonic()
        end = last + self._patience
        while not done():
            assert last < end, "it did not happen in time"
            if not self.turn():
                time.sleep(0.0005)
            now = time.monotonic()
            self.advance(now - last)
            last = now

    def wait_for(self, asked: Deferred[object]) -> None:
        """Turn until a Deferred has fired."""
        self.until(lambda: asked.called)
