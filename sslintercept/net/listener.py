"""
Listening ports: from a Twisted endpoint string to accepted connections (ATS: NetAccept).

The string is read by Twisted itself; L{Door} stands in for the reactor, so that the ports it opens are watched by our
own handler. C{tcp}, C{tcp6} and C{systemd} endpoints are understood.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from select import EPOLLIN
from typing import TYPE_CHECKING, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from sslintercept.config.endpoint import ALLOWED, parse
from sslintercept.errors import ConfigError
from sslintercept.facts import Address, Side
from sslintercept.net.handler import option
from sslintercept.net.local import Bound
from sslintercept.net.spread import by_client
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.tcp import TcpProfile

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

ACCEPTS = 32
"""connections taken from one port in one turn"""
PAUSE = 0.05
"""seconds that a port rests when the cap is reached or descriptors ran out (ATS: throttle_delay)"""
WARN_EVERY = 600.0
"""seconds between two warnings of one port"""
IPV6_TRANSPARENT: Final = 75
"""linux/in6.h; the socket module has only its sister for IPv4"""

_TRANSIENT = {errno.EAGAIN, errno.ECONNABORTED, errno.ECONNRESET, errno.EPIPE, errno.EINTR, errno.EPERM, errno.EPROTO}


def address(raw: object) -> Address:
    """The address in what the socket module gives; a unix socket has none."""
    if isinstance(raw, tuple) and len(raw) >= 2:
        host = str(raw[0])
        return Address(host[7:] if host.startswith("::ffff:") else host, int(raw[1]))
    return Address("unix", 0)


class NotTransparent(Exception):
    """The kernel does not let us take connections to other addresses."""


def make_transparent(sock: socket.socket) -> None:
    """
    Let a socket take connections to any address (TPROXY).

    @raise NotTransparent: we may not.
    """
    level, name = socket.IPPROTO_IP, socket.IP_TRANSPARENT
    if sock.family == socket.AF_INET6:
        level, name = socket.IPPROTO_IPV6, IPV6_TRANSPARENT
    try:
        if not sock.getsockopt(level, name):  # systemd may have done it (Transparent=)
            sock.setsockopt(level, name, 1)
    except OSError as error:
        raise NotTransparent(error.strerror) from None


@implementer(IListeningPort)
class Listener:
    """
    One listening socket.

    @ivar accepted: called with each new connection, its base in place and nothing on top yet.
    @ivar limit: connections this process may hold; accepting counts the open ones at 110 %, so that outgoing
        connections still find room when no new client does (ATS: net.connections_throttle).
    """

    log = Logger()

    def __init__(
        self, handler: NetHandler, sock: socket.socket, accepted: Callable[[NetVConnection], object], limit: int
    ) -> None:
        self._handler = handler
        self._sock = sock
        self.accepted = accepted
        self.limit = limit
        self.turn = -1
        self._warned = -WARN_EVERY
        self._rests: IDelayedCall | None = None
        self._open = False

    def startListening(self) -> None:
        """Accept from now on."""
        self._open = True
        self._handler.add(self._sock.fileno(), self, EPOLLIN)

    def stopListening(self) -> Deferred[None]:
        """Close the port; connections stay."""
        if self._open:
            self._open = False
            if self._rests is None:
                self._handler.remove(self._sock.fileno())
            else:
                self._rests.cancel()
                self._rests = None
            self._sock.close()
        return succeed(None)

    @property
    def bound(self) -> Bound:
        """Where the port is."""
        host, port = self._sock.getsockname()[:2]
        six = self._sock.family == socket.AF_INET6
        return Bound("TCP", host, port, six and not self._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))

    def getHost(self) -> IAddress:
        host = self._sock.getsockname()
        return (IPv6Address if self._sock.family == socket.AF_INET6 else IPv4Address)("TCP", host[0], host[1])

    def readable(self) -> None:
        """Take what waits."""
        for _ in range(ACCEPTS):
            if len(self._handler.connections) * 11 // 10 >= self.limit:
                self._rest("the limit of connections is reached (max_connections)")
                return
            try:
                sock, peer = self._sock.accept()
            except OSError as error:
                if error.errno not in _TRANSIENT:
                    self._rest(f"no connection can be accepted ({error.strerror})")
                return
            self.adopt(sock, peer)

    def adopt(self, sock: socket.socket, peer: object) -> None:
        """Make a connection of an accepted socket; one that fails costs nothing but itself."""
        try:
            option(sock)
            vc = NetVConnection(self._handler, Side.CLIENT, address(peer), address(sock.getsockname()))
        except OSError:
            sock.close()  # the client is gone already
            return
        vc.open(TcpProfile(vc, sock, self._handler))
        try:
            self.accepted(vc)
        except Exception:
            self.log.failure("a new connection could not be set up; it is cut")
            vc.abort()

    def event(self, event: int) -> None:
        """An error on the port shows at the next accept."""
        self.readable()

    def abort(self) -> None:
        """A defect while accepting: the port rests, so that it cannot spin."""
        self._rest("connections cannot be accepted")

    def _rest(self, why: str) -> None:
        if self._rests is not None or not self._open:
            return
        self._handler.remove(self._sock.fileno())
        if self._handler.now - self._warned >= WARN_EVERY:
            self._warned = self._handler.now
            self.log.warn("accepting pauses: {why}", why=why)
        self._rests = self._handler.later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._rests = None
        self._handler.add(self._sock.fileno(), self, EPOLLIN)


class Door:
    """Stands in for the reactor when an endpoint listens (IReactorTCP.listenTCP, IReactorSocket.adoptStreamPort)."""

    def __init__(
        self,
        handler: NetHandler,
        accepted: Callable[[NetVConnection], object],
        limit: int,
        share: bool,
        transparent: bool = False,
        spread: int = 0,
    ) -> None:
        self._handler = handler
        self._accepted = accepted
        self._limit = limit
        self._share = share
        self._spread = spread
        self._transparent = transparent

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Listener:
        """Bind and listen; the factory is not used, connections go to C{accepted}."""
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._share:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self._transparent:
                make_transparent(sock)
            sock.bind((interface, port))
            sock.listen(max(backlog, 1024))
            if self._share and self._spread > 1:
                by_client(sock, self._spread)
        except BaseException:
            sock.close()
            raise
        return self._listen(sock)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: object) -> Listener:
        """Listen on a socket that somebody else bound, for example systemd."""
        sock = socket.socket(fileno=socket.dup(fileDescriptor))
        try:
            sock.setblocking(False)
            if self._transparent:
                make_transparent(sock)
        except BaseException:
            sock.close()
            raise
        return self._listen(sock)

    def _listen(self, sock: socket.socket) -> Listener:
        listener = Listener(self._handler, sock, self._accepted, self._limit)
        listener.startListening()
        return listener


WAYS_OUT: Final = {
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: give it to the process, or choose a higher port",
    errno.EPERM: "give the process the right to do so, or choose another port",
    errno.EADDRINUSE: "end the program that has the port, or choose another one",
    errno.EADDRNOTAVAIL: "give an address of this machine as interface, or none",
    errno.EAFNOSUPPORT: "this machine has no such addresses; choose an interface of the other family",
}


def way_out(error: OSError) -> str:
    """What to do about a port that cannot be opened."""
    if isinstance(error, socket.gaierror):
        return "give an address of this machine as interface, and no name"
    return WAYS_OUT.get(error.errno or 0, "choose another port or interface")


async def listen(
    handler: NetHandler,
    description: str,
    accepted: Callable[[NetVConnection], object],
    *,
    limit: int,
    share: bool = False,
    transparent: bool = False,
    spread: int = 0,
    where: str = "endpoint",
) -> Listener:
    """
    Open the port that an endpoint string describes.

    @param share: let other processes listen on the same port (SO_REUSEPORT).
    @param spread: how many of them there are, where each client is to have one of its own (L{sslintercept.net.spread}).
    @param transparent: take connections to any address (IP_TRANSPARENT), for TPROXY.
    @raise ConfigError: the string is wrong, the port is taken or not allowed.
    """
    try:
        parse(description)
    except ValueError as error:
        raise ConfigError(f"cannot use {description!r} ({error})", where=where, remedy=f"write {ALLOWED}") from None
    try:
        endpoint = serverFromString(Door(handler, accepted, limit, share, transparent, spread), description)
        port: Listener = await endpoint.listen(Factory())
        return port
    except NotTransparent as error:
        raise ConfigError(
            f"cannot take connections to other addresses on {description} ({error})",
            where=where,
            remedy="give the process CAP_NET_ADMIN, or set transparent = off",
        ) from None
    except LookupError:
        raise ConfigError(
            f"cannot listen on {description} (systemd has handed over no such socket)",
            where=where,
            remedy="see FileDescriptorName in the socket's unit",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {description} ({error.strerror or error})", where=where, remedy=way_out(error)
        ) from None
