"""
Connections to name servers: one for each server, on which queries follow each other at once (RFC 7766 6.2.1.1).

L{Pipe} frames messages over any stream, be it TCP, which L{Tcp} makes, or TLS, which somebody else makes (RFC 7858).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from sslintercept.dns.entry import Attempt
    from sslintercept.dns.server import Server
    from sslintercept.dns.transport import Handler, Owner

IDLE = 10.0
"""seconds a connection is kept without a question on it"""
CHUNK = 64 * 1024
"""bytes read at once"""
MOST_UNSENT = 1024 * 1024
"""bytes that may wait for a server that reads nothing"""


class Stream(Protocol):
    """
    A connection to a name server.

    @ivar received: called with bytes, in any pieces.
    @ivar lost: called once with a reason, if it ends by itself; not after C{close}.
    """

    received: Callable[[bytes], None]
    lost: Callable[[str], None]

    def write(self, data: bytes) -> None:
        """Send C{data}, now or when possible; it never raises and calls nothing back."""

    def close(self) -> None:
        """End at once. Twice is once."""


OpenStream = Callable[["Server"], Deferred[Stream]]
"""Makes a connection to a server; cancelling gives it up. It may fail with any exception."""


def unheard(data: bytes) -> None:
    """Bytes that come before anybody listens."""


def unmourned(why: str) -> None:
    """An end that comes before anybody listens."""


class Tcp:
    """A stream over TCP; C{opened} fires with it when it is connected."""

    def __init__(self, handler: Handler, server: Server) -> None:
        self._handler = handler
        self.turn = -1
        self.received: Callable[[bytes], None] = unheard
        self.lost: Callable[[str], None] = unmourned
        self.opened: Deferred[Stream] = Deferred(lambda _: self.close())
        self._connected = False
        self._unsent = bytearray()
        self._mask = EPOLLOUT
        host, port = server.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._closed = False
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = self._sock.connect_ex((host, port))
        except BaseException:
            self._sock.close()
            raise
        if code in (0, errno.EINPROGRESS):
            handler.add(self._sock.fileno(), self, EPOLLOUT)
        else:
            handler.soon(lambda: self._end(os.strerror(code)))

    def write(self, data: bytes) -> None:
        """Send, now or when possible."""
        if self._closed:
            return
        self._unsent += data
        if self._mask == EPOLLIN:
            self._flush()
        if len(self._unsent) > MOST_UNSENT:
            self._unsent.clear()
            self._handler.soon(lambda: self._end("the server reads nothing"))

    def _flush(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            why = os.strerror(error.errno or errno.EIO)
            self._unsent.clear()
            self._handler.soon(lambda: self._end(why))
        mask = EPOLLIN | EPOLLOUT if self._unsent else EPOLLIN
        if mask != self._mask:
            self._mask = mask
            self._handler.modify(self._sock.fileno(), mask)

    def readable(self) -> None:
        """Take what has come."""
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(os.strerror(error.errno or errno.EIO))
            return
        if data:
            self.received(data)
        else:
            self._end("the server closed the connection")

    def event(self, event: int) -> None:
        """Connected, broken, or able to take more."""
        if not self._connected:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._end(os.strerror(code))
                return
            self._connected = True
            self._flush()
            self.opened.callback(self)
            return
        if event & EPOLLOUT:
            self._flush()
        if event & ~EPOLLOUT and not self._closed:
            self.readable()

    def abort(self) -> None:
        """A defect while an answer was looked at."""
        self._end("a defect of ours")

    def close(self) -> None:
        """End at once."""
        if not self._closed:
            self._closed = True
            self._handler.remove(self._sock.fileno())
            self._sock.close()

    def _end(self, why: str) -> None:
        if self._closed:
            return
        self.close()
        if self._connected:
            self.lost(why.lower())
        else:
            self.opened.errback(ConnectionError(why))


class Pipe:
    """
    The connection of one server: opened when it is needed, closed when it was idle for L{IDLE}.

    @ivar heard: when the last message came on it.
    """

    def __init__(self, handler: Handler, owner: Owner, server: Server, open_stream: OpenStream) -> None:
        self._handler, self._owner = handler, owner
        self._server = server
        self._open_stream = open_stream
        self.attempts: set[Attempt] = set()
        self.heard = -1.0
        self._opening: Deferred[None] | None = None
        self._stream: Stream | None = None
        self._waiting: list[bytes] = []
        self._flushing = False
        self._got = bytearray()
        self._idle: IDelayedCall | None = None
        self._used = 0.0

    def send(self, data: bytes) -> None:
        """Send a message, together with those of the same turn."""
        self._used = self._handler.now
        self._waiting.append(len(data).to_bytes(2, "big") + data)
        if self._stream is None:
            if self._opening is None:
                self._open()
        elif not self._flushing:
            self._flushing = True
            self._handler.soon(self._flush)

    def _open(self) -> None:
        self.heard = -1.0
        try:
            opening = self._open_stream(self._server)
        except Exception as error:
            why = str(error)
            self._handler.soon(lambda: self._lost(why))
            return
        self._opening = opening.addCallback(self._opened)
        # A stream that is there at once is nothing to wait for any more.
        opening.addErrback(self._refused)
        if self._stream is not None:
            self._opening = None

    def _opened(self, stream: Stream) -> None:
        self._opening = None
        self._stream = stream
        stream.received, stream.lost = self._received, self._lost
        self._flush()

    def _refused(self, failure: Failure) -> None:
        """Not opened; a connection that was given up is nobody's loss."""
        if self._opening is not None:
            self._opening = None
            self._lost(str(failure.value).lower())

    def _flush(self) -> None:
        self._flushing = False
        waiting, self._waiting = self._waiting, []
        if self._stream is not None and waiting:
            self._stream.write(b"".join(waiting))

    def _received(self, data: bytes) -> None:
        got = self._got
        got += data
        at = 0
        while len(got) - at >= 2:
            end = at + 2 + int.from_bytes(got[at : at + 2], "big")
            if end > len(got):
                break
            message = bytes(got[at + 2 : end])
            at = end
            self.heard = self._handler.now
            self._owner.received(message, self, True)
            if self._got is not got:
                return  # closed meanwhile
        del got[:at]

    def forget(self, attempt: Attempt) -> None:
        """No answer to C{attempt} is expected any more."""
        self.attempts.discard(attempt)
        self._used = self._handler.now
        if not self.attempts and self._idle is None and self._stream is not None:
            self._idle = self._handler.later(IDLE, self._look)

    def _look(self) -> None:
        self._idle = None
        if self.attempts:
            return
        left = self._used + IDLE - self._handler.now
        if left > 0:
            self._idle = self._handler.later(left, self._look)
        else:
            self.close()

    def give_up(self, why: str) -> None:
        """The connection is of no use: close it, and let what is on it be asked elsewhere."""
        self._lost(why)

    def _lost(self, why: str) -> None:
        attempts, self.attempts = self.attempts, set()
        self.close()
        self._owner.broken(attempts, why)

    def close(self) -> None:
        """Free the connection; the next question opens another one."""
        self._waiting.clear()
        self._got = bytearray()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        opening, self._opening = self._opening, None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.received, stream.lost = unheard, unmourned
            stream.close()
        if opening is not None:
            opening.cancel()
