"""
BIND: wait for one connection on a client's behalf (RFC 1928 4, 6).

The port is open for a bounded time, on the address that the client reached us at, and takes a single connection: from
the host that the client named. Whoever else knocks is closed at once.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from select import EPOLLIN
from typing import Final

from twisted.internet.defer import Deferred

from sslintercept.errors import InterceptError, LimitError, TimedOut
from sslintercept.facts import Address, Side
from sslintercept.net.flow import host_key
from sslintercept.net.handler import option
from sslintercept.net.listener import address
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.tcp import TcpProfile

MOST_BINDS: Final = 64
"""ports open at once"""
MOST_OF_A_HOST: Final = 16
"""and for one client's host (L{sslintercept.net.flow.host_key}), so that others find some left"""
ACCEPTS: Final = 16
"""connections looked at in one turn; the same number may wait in the kernel"""

_WHERE: Final = "a port that waits for one connection"


class Binds:
    """
    The open ports.

    @param addresses: the addresses of a name, or of an address itself (L{sslintercept.net.connector.Connector}).
    @param timeout: seconds that a port is open.
    @param most: ports open at once; C{most_of_a_host}: and for one client.
    """

    def __init__(
        self,
        addresses: Callable[[str], Awaitable[Sequence[str]]],
        *,
        timeout: float = 60.0,
        most: int = MOST_BINDS,
        most_of_a_host: int = MOST_OF_A_HOST,
    ) -> None:
        self._addresses = addresses
        self._timeout = timeout
        self._most = most
        self._most_of_a_host = most_of_a_host
        self._open: dict[Bind, str] = {}
        """with the host they are counted for"""
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    async def welcome(self, host: str) -> frozenset[str] | None:
        """
        Who may connect when the client named C{host}; C{None} for everybody.

        @raise ResolveError: the name has no address.
        """
        if unspecified(host):
            return None
        return frozenset(map(_plain, await self._addresses(host)))

    def open(self, client: NetVConnection, welcome: frozenset[str] | None, host: str = "") -> Bind:
        """
        Open a port beside a connection, on the address that its peer reaches us at.

        @param host: whom it is counted for, if it is not the connection's peer.
        @raise InterceptError: too many are open, or none can be.
        """
        if len(self._open) >= self._most:
            raise LimitError(f"{self._most} ports are open already", where=_WHERE, remedy="try again")
        key = host_key(host or client.peer.host)
        if self._of[key] >= self._most_of_a_host:
            raise LimitError(f"{self._most_of_a_host} ports are open for this client", where=_WHERE, remedy="use them")
        try:
            bind = Bind(client, welcome, self._timeout, self._closed)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not an IP address"
            raise InterceptError(
                f"no port can be opened on {client.local.host} ({why})", where=_WHERE, remedy="reach the proxy over TCP"
            ) from None
        self._open[bind] = key
        self._of[key] += 1
        return bind

    def _closed(self, bind: Bind) -> None:
        key = self._open.pop(bind)
        self._of[key] -= 1
        if not self._of[key]:
            del self._of[key]


class Bind:
    """
    One open port, watched until somebody came or the time is over.

    @ivar address: where it is.
    @ivar done: the connection that came, on the upstream side, with its base in place and nothing on top; cancel it to
        close the port.
    """

    def __init__(
        self,
        client: NetVConnection,
        welcome: frozenset[str] | None,
        limit: float,
        closed: Callable[[Bind], object],
    ) -> None:
        self._client = client
        self._welcome = welcome
        self._closed = closed
        self.turn = -1
        host = client.local.host
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._sock.bind((host, 0))
            self._sock.listen(ACCEPTS)
            self.address = address(self._sock.getsockname())
        except BaseException:
            self._sock.close()
            raise
        self.done: Deferred[NetVConnection] = Deferred(lambda _: self._release())
        handler = client.handler
        self._timer = handler.later(limit, self._too_late)
        handler.add(self._sock.fileno(), self, EPOLLIN)

    def readable(self) -> None:
        """Somebody knocks."""
        for _ in range(ACCEPTS):
            try:
                sock, peer = self._sock.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._fail(InterceptError(os.strerror(error.errno), where=_WHERE, remedy="try again"))
                return
            if self._take(sock, address(peer)):
                return

    def _take(self, sock: socket.socket, peer: Address) -> bool:
        if self._welcome is not None and _plain(peer.host) not in self._welcome:
            sock.close()
            return False
        client = self._client
        try:
            option(sock)
            vc = NetVConnection(client.handler, Side.UPSTREAM, peer, address(sock.getsockname()))
        except OSError:
            sock.close()  # it is gone already
            return False
        vc.high_water, vc.low_water = client.high_water, client.low_water
        vc.open(TcpProfile(vc, sock, client.handler))
        self._release()
        self.done.callback(vc)
        return True

    def event(self, event: int) -> None:
        """An error on the port shows at the next accept."""
        self.readable()

    def abort(self) -> None:
        """A defect while somebody was let in."""
        self._fail(InterceptError("nobody can be let in", where=_WHERE, remedy="look at the log"))

    def _too_late(self) -> None:
        self._fail(TimedOut("nobody came in time", where=_WHERE, remedy="connect at once"))

    def _fail(self, error: InterceptError) -> None:
        if not self.done.called:
            self._release()
            self.done.errback(error)

    def _release(self) -> None:
        self._client.handler.remove(self._sock.fileno())
        self._sock.close()
        if self._timer.active():
            self._timer.cancel()
        self._closed(self)


def unspecified(host: str) -> bool:
    """Whether C{host} is 0.0.0.0 or ::, which stands for nobody in particular."""
    return is_address(host) and ipaddress.ip_address(host).is_unspecified


def is_address(host: str) -> bool:
    """Whether C{host} is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _plain(host: str) -> str:
    """An address in its canonical form, without a zone."""
    return str(ipaddress.ip_address(host.partition("%")[0]))
