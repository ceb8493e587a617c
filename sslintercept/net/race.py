"""
Several addresses, one after the other and then side by side: the first that answers wins (RFC 8305, happy eyeballs).

The next address is tried as soon as the one before has failed, or has kept us waiting for L{DELAY}. Addresses that did
not answer are remembered for a while and tried last (ATS: down servers of a round robin).
"""

from __future__ import annotations

import errno
import os
import socket
from collections import OrderedDict, deque
from collections.abc import Sequence
from select import EPOLLOUT
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from sslintercept.facts import Address
from sslintercept.net.handler import option

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

DELAY: Final = 0.25
"""seconds that an address is waited for alone (RFC 8305 5)"""
DEAD: Final = 60.0
"""seconds that an address that did not answer is tried last (ATS: down_server.cache_time)"""
MOST_DEAD: Final = 4096
"""such addresses that are remembered"""


class NoneAnswered(Exception):
    """No address did; the text names the last one and why."""


class Dead:
    """Addresses that did not answer lately."""

    def __init__(self, seconds: float = DEAD, most: int = MOST_DEAD) -> None:
        self._seconds = seconds
        self._most = most
        self._until: OrderedDict[Address, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def note(self, peer: Address, now: float) -> None:
        """C{peer} did not answer."""
        until = self._until
        until[peer] = now + self._seconds
        until.move_to_end(peer)
        if len(until) > self._most:
            until.popitem(last=False)

    def forget(self, peer: Address) -> None:
        """It answers."""
        if self._until:
            self._until.pop(peer, None)

    def last(self, peers: Sequence[Address], now: float) -> Sequence[Address]:
        """The same addresses, the dead ones last."""
        if not self._until or len(peers) < 2:
            return peers
        dead = [peer for peer in peers if self._until.get(peer, now) > now]
        return [peer for peer in peers if peer not in dead] + dead


class Attempt:
    """One connect under way: a socket that is watched until it is writable, and a time limit."""

    def __init__(self, handler: NetHandler, peer: Address, limit: float) -> None:
        self._handler = handler
        self.peer = peer
        self.turn = -1
        self.done: Deferred[socket.socket] = Deferred(lambda _: self._end())
        family = socket.AF_INET6 if ":" in peer.host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._watched = False
        try:
            option(self._sock)
            code = self._sock.connect_ex((peer.host, peer.port))
        except BaseException:
            self._sock.close()
            raise
        self._timer = handler.later(limit, self._too_slow)
        if code in (0, errno.EINPROGRESS):
            handler.add(self._sock.fileno(), self, EPOLLOUT)
            self._watched = True
        else:
            handler.soon(lambda: self._failed(code))

    def readable(self) -> None:
        """Never asked for."""

    def event(self, event: int) -> None:
        """Connected, or refused."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(code)
            return
        sock = self._sock
        self._release()
        self.done.callback(sock)

    def abort(self) -> None:
        """A defect while the outcome was looked at."""
        self._failed(errno.ECONNABORTED)

    def _release(self) -> None:
        if self._watched:
            self._watched = False
            self._handler.remove(self._sock.fileno())
        if self._timer.active():
            self._timer.cancel()

    def _end(self) -> None:
        self._release()
        self._sock.close()

    def _failed(self, code: int) -> None:
        if not self.done.called:
            self._end()
            self.done.errback(OSError(code, os.strerror(code)))

    def _too_slow(self) -> None:
        self._failed(errno.ETIMEDOUT)


class Race:
    """
    Some addresses, of which one is wanted.

    @param limit: seconds for all of them.
    @ivar done: the socket of the first that answered, and its address; or L{NoneAnswered}. Cancel it to give up.
    """

    def __init__(self, handler: NetHandler, peers: Sequence[Address], limit: float, dead: Dead) -> None:
        self._handler = handler
        self._peers = deque(peers)
        self._dead = dead
        self._end = handler.seconds() + limit
        self._running: dict[Attempt, None] = {}
        self._timer: IDelayedCall | None = None
        self._why = "no address answered in time"
        self.done: Deferred[tuple[socket.socket, Address]] = Deferred(lambda _: self._stop())
        self._next()

    def _next(self) -> None:
        """Try one more, or several if they fail at once."""
        self._timer = None
        while self._peers and not self.done.called:
            peer = self._peers.popleft()
            left = self._end - self._handler.seconds()
            if left <= 0:
                self._peers.clear()
                break
            try:
                attempt = Attempt(self._handler, peer, left)
            except (OSError, ValueError, OverflowError) as error:
                # The fault is ours, not the address's.
                self._note(peer, error)
                continue
            self._running[attempt] = None
            attempt.done.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))
            if self._peers:
                self._timer = self._handler.later(DELAY, self._next)
            return
        if not self._running and not self.done.called:
            self.done.errback(NoneAnswered(self._why))

    def _won(self, sock: socket.socket, attempt: Attempt) -> None:
        del self._running[attempt]
        self._stop()
        self._dead.forget(attempt.peer)
        self.done.callback((sock, attempt.peer))

    def _lost(self, failure: Failure, attempt: Attempt) -> None:
        if failure.check(CancelledError) is not None:
            return
        del self._running[attempt]
        assert isinstance(failure.value, OSError)
        self._note(attempt.peer, failure.value)
        self._dead.note(attempt.peer, self._handler.seconds())
        if self._timer is not None:
            self._timer.cancel()
        self._next()

    def _note(self, peer: Address, error: OSError | ValueError | OverflowError) -> None:
        why = error.strerror if isinstance(error, OSError) else str(error)
        self._why = f"cannot connect to {peer} ({why})"

    def _stop(self) -> None:
        self._peers.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        running, self._running = self._running, {}
        for attempt in running:
            attempt.done.cancel()
