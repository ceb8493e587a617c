"""
Datagrams to name servers: a few sockets for each server, on ports that nobody can predict (RFC 5452 9.2).

Every socket is connected, so the kernel drops whatever does not come from the server's address and port. A query leaves
through one of L{PORTS} sockets at random; a socket that was used often, or long ago, is replaced, and closed when no
answer is expected on it any more.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from select import EPOLLIN
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IDelayedCall

if TYPE_CHECKING:
    from sslintercept.dns.entry import Attempt
    from sslintercept.dns.server import Server

PORTS = 8
"""sockets of one server that queries leave through"""
USES = 64
"""queries through one socket, at most twice as many"""
AGE = 30.0
"""seconds after which a socket is not used any more"""
LOWEST_PORT, PORT_BITS = 16_384, 15
"""the range of source ports: 16 384 to 49 151"""
PORT_TRIES = 16
"""ports that are tried before the kernel may choose one"""
MOST_RETIRED = 64
"""sockets of one server that wait for late answers only"""
BATCH = 64
"""datagrams that are read from one socket in one turn"""
LARGEST = 4096
"""bytes of a datagram that are read"""


class Handler(Protocol):
    """What is needed of L{sslintercept.net.handler.NetHandler}."""

    now: float

    def add(self, fd: int, profile: Watched, mask: int) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def remove(self, fd: int) -> None: ...
    def soon(self, call: Callable[[], object]) -> None: ...
    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...


class Watched(Protocol):
    """What is put into its set (L{sslintercept.net.handler.Watched})."""

    turn: int

    def readable(self) -> None: ...
    def event(self, event: int) -> None: ...
    def abort(self) -> None: ...


class Owner(Protocol):
    """Who gets what channels receive (L{sslintercept.dns.handler.DnsHandler})."""

    def received(self, data: bytes, channel: Channel, stream: bool) -> None: ...
    def broken(self, attempts: set[Attempt], why: str) -> None: ...


class Channel(Protocol):
    """A socket, or a connection."""

    attempts: set[Attempt]
    """those that an answer may still come for"""

    def send(self, data: bytes) -> None:
        """Send a query; it never raises, but may report its attempts as broken before it returns."""

    def forget(self, attempt: Attempt) -> None:
        """No answer to C{attempt} is expected any more."""


class Port:
    """One connected socket."""

    def __init__(self, ports: Ports, sock: socket.socket, uses: int, until: float) -> None:
        self._ports, self._sock = ports, sock
        self.attempts: set[Attempt] = set()
        self.turn = -1
        self.uses, self.until = uses, until
        self.retired = self.closed = False
        ports.handler.add(sock.fileno(), self, EPOLLIN)

    def send(self, data: bytes) -> None:
        """Send a datagram; one that the kernel has no room for is lost like one that the network loses."""
        try:
            self._sock.send(data)
        except BlockingIOError:
            return
        except OSError as error:
            # It may well be the news about an earlier datagram.
            self._failed(error)

    def readable(self) -> None:
        """Take what has come."""
        for _ in range(BATCH):
            try:
                data = self._sock.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            self._ports.owner.received(data, self, False)
            if self.closed or not self.attempts:
                # Nothing more is expected; should there be more, the set of sockets says so again.
                return

    def event(self, event: int) -> None:
        """An ICMP error, with or without datagrams."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(OSError(code, os.strerror(code)))
        else:
            self.readable()

    def abort(self) -> None:
        """A defect while a datagram was looked at."""
        self._failed(OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED)))

    def _failed(self, error: OSError) -> None:
        """The server's host says that nobody listens, or the like: everything sent through here is void."""
        attempts, self.attempts = self.attempts, set()
        self.close()
        self._ports.owner.broken(attempts, (error.strerror or str(error)).lower())

    def forget(self, attempt: Attempt) -> None:
        """No answer to C{attempt} is expected any more."""
        self.attempts.discard(attempt)
        if self.retired and not self.attempts:
            self.close()

    def close(self) -> None:
        """Free the socket. Twice is once."""
        if not self.closed:
            self.closed = True
            self._ports.gone(self)
            self._ports.handler.remove(self._sock.fileno())
            self._sock.close()


class Ports:
    """The sockets of one server."""

    def __init__(self, handler: Handler, owner: Owner, server: Server, bits: Callable[[int], int]) -> None:
        self.handler, self.owner = handler, owner
        self._server = server
        self._bits = bits
        self._open: list[Port | None] = [None] * PORTS
        self._retired: dict[Port, None] = {}

    def take(self, now: float) -> Port:
        """
        A socket for one query.

        @raise OSError: none can be made.
        """
        bits = self._bits(16)
        slot = bits % PORTS
        port = self._open[slot]
        if port is None or port.uses <= 0 or now >= port.until:
            if port is not None:
                self._retire(slot, port)
            port = self._open[slot] = Port(self, self._made(), USES + (bits >> 8) % USES, now + AGE)
        port.uses -= 1
        return port

    def _made(self) -> socket.socket:
        host, number = self._server.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
            for _ in range(PORT_TRIES):
                try:
                    sock.bind((any_address, LOWEST_PORT + self._bits(PORT_BITS)))
                    break
                except OSError as error:
                    if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                        raise
            sock.connect((host, number))
        except BaseException:
            sock.close()
            raise
        return sock

    def _retire(self, slot: int, port: Port) -> None:
        """C{port} waits for its answers, but carries no further query."""
        self._open[slot] = None
        port.retired = True
        if not port.attempts:
            port.close()
            return
        self._retired[port] = None
        if len(self._retired) > MOST_RETIRED:
            # Whoever still waits there will ask again.
            next(iter(self._retired)).close()

    def gone(self, port: Port) -> None:
        """C{port} is closed."""
        self._retired.pop(port, None)
        if port in self._open:
            self._open[self._open.index(port)] = None

    def close(self) -> None:
        """Free every socket."""
        for port in [*self._open, *self._retired]:
            if port is not None:
                port.close()
