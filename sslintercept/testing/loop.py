"""
A whole proxy in one thread without a reactor: real sockets of the kernel, a clock that stands still, and no waiting.

L{Loop} stands in for the reactor. Sockets are C{socketpair}s, so that every layer below a test is the real one; time
passes only when a test says so; L{Loop.pump} runs until nothing moves any more.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock

from sslintercept.facts import Address, Side
from sslintercept.net.cop import InactivityCop
from sslintercept.net.handler import NetHandler
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.tcp import TcpProfile

QUIET = 3
"""turns without an event after which nothing moves any more"""
MOST_TURNS = 100_000
"""turns after which a test is thought to run for ever"""


class Loop(Clock):
    """A clock, and what L{NetHandler} needs of a reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[IReadDescriptor] = []
        self.handler = NetHandler(self)
        self.handler.start()
        self.cop = InactivityCop(self.handler, self)
        self.cop.start()
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
        vc = NetVConnection(self.handler, side, Address("192.0.2.1", 50000), Address("192.0.2.2", 8080))
        vc.open(TcpProfile(vc, ours, self.handler))
        return vc, theirs

    def close(self) -> None:
        """Cut what is left and free the handler; a connection that a test forgot is no leak of ours."""
        for vc in list(self.handler.connections):
            vc.abort()
        self.pump()
        self.cop.stop()
        self.handler.stop()
