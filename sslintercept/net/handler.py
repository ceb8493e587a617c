"""
One set of watched sockets inside the reactor (ATS: NetHandler).

Twisted's reactor sees a single descriptor: an epoll set of our own. When anything in it is ready the reactor calls
L{NetHandler.doRead} once, and the handler calls every ready profile directly. So one turn costs Twisted's bookkeeping
once and not once a connection, any reactor with descriptors will do, and nothing of its inside is touched.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from select import EPOLLIN
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from sslintercept.net.vconnection import NetVConnection

BATCH = 512
"""ready descriptors taken in one turn"""
ROUNDS = 64
"""times the postponed calls of one turn may postpone others before the loop gets its turn again"""

KEEP_IDLE, KEEP_INTERVAL, KEEP_COUNT = 120, 30, 4
"""
seconds of silence until the kernel asks whether the peer is still there, seconds between two questions, and how many
stay unanswered before the connection is lost: after four minutes
"""


class Reactor(Protocol):
    """What is needed of Twisted's reactor."""

    def addReader(self, reader: IReadDescriptor) -> None: ...
    def removeReader(self, reader: IReadDescriptor) -> None: ...
    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...
    def seconds(self) -> float: ...


class Watched(Protocol):
    """What is put into the set."""

    turn: int

    def readable(self) -> None: ...
    def event(self, event: int) -> None: ...
    def abort(self) -> None: ...


@implementer(IReadDescriptor)
class NetHandler:
    """
    The watched sockets of one process.

    @ivar now: the reactor's time at the beginning of this turn; reading it costs nothing.
    @ivar connections: every open connection, for the sweep of L{sslintercept.net.cop.InactivityCop}.
    """

    log = Logger()

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._later: deque[Callable[[], object]] = deque()
        self._wake: IDelayedCall | None = None
        self._polling = False
        self._turn = 0
        self.turns = 0
        """events and postponed calls so far"""
        self.now = reactor.seconds()
        self.connections: set[NetVConnection] = set()

    def start(self) -> None:
        """Let the reactor call us."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Leave the reactor and free the set; connections must be closed before."""
        self._reactor.removeReader(self)
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        self._epoll.close()

    def fileno(self) -> int:
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "net"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is stopping."""

    def add(self, fd: int, profile: Watched, mask: int) -> None:
        """Watch C{fd} and tell C{profile}."""
        profile.turn = self._turn
        self._watched[fd] = profile
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        """Watch C{fd} for something else."""
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        """Watch C{fd} no more; call it before the descriptor is closed."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def watched(self) -> list[Watched]:
        """Who is told of events."""
        return list(self._watched.values())

    def soon(self, call: Callable[[], object]) -> None:
        """Call back when the present call stack has ended, still in this turn if it is ours."""
        self._later.append(call)
        if not self._polling and self._wake is None:
            self._wake = self._reactor.callLater(0, self._woken)

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall:
        """Call back after C{delay} seconds; for what happens once a connection, never once a chunk."""
        return self._reactor.callLater(delay, call)

    def seconds(self) -> float:
        """The reactor's time, exactly."""
        return self._reactor.seconds()

    def _woken(self) -> None:
        self._wake = None
        self.now = self._reactor.seconds()
        self._run_later()

    def _run_later(self) -> None:
        later = self._later
        for _ in range(ROUNDS * BATCH):
            if not later:
                return
            try:
                self.turns += 1
                later.popleft()()
            except Exception:
                self.log.failure("a postponed call failed")
        if self._wake is None:
            self._wake = self._reactor.callLater(0, self._woken)

    def doRead(self) -> None:
        """Call every ready profile once."""
        self.now = self._reactor.seconds()
        self._turn += 1
        turn = self._turn
        watched = self._watched
        self._polling = True
        try:
            for fd, event in self._epoll.poll(0, BATCH):
                self.turns += 1
                profile = watched.get(fd)
                if profile is None:
                    continue
                try:
                    if event == EPOLLIN:
                        profile.readable()
                    elif profile.turn != turn:
                        # One added in this turn may have inherited the number of a descriptor that was closed in it.
                        profile.event(event)
                except Exception:
                    # A defect in one session must not touch the others.
                    self.log.failure("a session failed; its connection is cut")
                    self._abort(profile)
            if self._later:
                self._run_later()
        finally:
            self._polling = False

    def _abort(self, profile: Watched) -> None:
        try:
            profile.abort()
        except Exception:
            # An exception that left doRead would make the reactor take the whole set out.
            self.log.failure("a session failed again when its connection was cut")


def option(sock: socket.socket) -> None:
    """
    What every TCP socket of ours has: no blocking; no waiting for more bytes, since we batch ourselves; an end for
    peers that vanished; urgent bytes in their place among the others (RFC 6093 6): clients of FTP end ABOR with one.
    """
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_COUNT)
