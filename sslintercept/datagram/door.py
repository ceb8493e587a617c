"""
Doors for datagrams: a port with a fixed target, and one that redirected clients come through.

A redirected client (Linux: TPROXY) sends to its origin, and the kernel hands the datagram to us with the address it was
sent to. The answer must come from there, so it leaves through a socket bound to the origin's address, one for each
origin, shared by its clients. That, and receiving at all, needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sslintercept.errors import ConfigError
from sslintercept.facts import Address, Facts
from sslintercept.net.flow import Flow, FlowTable
from sslintercept.net.listener import way_out
from sslintercept.net.local import is_local
from sslintercept.net.udp import CONTROL, AnyPort, SocketAddress, UdpPort, bind
from sslintercept.profile.profile import Bytes

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

MOST_ORIGINS = 1024
"""sockets that answer in an origin's name; the one that was not used for longest makes room"""
IP_RECVORIGDSTADDR = 20
IPV6_TRANSPARENT, IPV6_RECVORIGDSTADDR = 75, 74
"""linux/in.h and linux/in6.h; the socket module has no names for them"""

OnSocket = Callable[[socket.socket], None]


def transparent(sock: socket.socket) -> None:
    """
    Let C{sock} have addresses that are not ours.

    @raise PermissionError: CAP_NET_ADMIN is missing.
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)


class Stand:
    """The sockets that answer in the names of origins."""

    def __init__(self, prepare: OnSocket, most: int = MOST_ORIGINS) -> None:
        self._prepare = prepare
        self._most = most
        self._socks: OrderedDict[Address, socket.socket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._socks)

    def send(self, origin: Address, data: Bytes, to: SocketAddress) -> None:
        """@raise OSError: C{data} cannot be sent now, or not from there."""
        sock = self._socks.get(origin)
        if sock is None:
            sock = self._make(origin)
        else:
            self._socks.move_to_end(origin)
        sock.sendto(data, to)

    def _make(self, origin: Address) -> socket.socket:
        family = socket.AF_INET6 if ":" in origin.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._prepare(sock)
            # Other workers answer from there too.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((origin.host, origin.port))
        except BaseException:
            sock.close()
            raise
        self._socks[origin] = sock
        if len(self._socks) > self._most:
            self._socks.popitem(last=False)[1].close()
        return sock

    def close(self) -> None:
        """Close them all."""
        while self._socks:
            self._socks.popitem()[1].close()


class OriginalPort(UdpPort):
    """A port whose clients were on their way somewhere else; a flow is a client and where it was going."""

    def __init__(
        self,
        handler: NetHandler,
        sock: socket.socket,
        table: FlowTable,
        opened: Callable[[Flow], object],
        prepare: OnSocket = transparent,
    ) -> None:
        """@raise OSError: this is not allowed here."""
        prepare(sock)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVORIGDSTADDR, 1)
        super().__init__(handler, sock, table, opened)
        self._receive = self._receive_with_destination
        self.stand = Stand(prepare)

    def _receive_with_destination(self, buffer: bytearray) -> tuple[int, SocketAddress]:
        size, control, _, source = self.sock.recvmsg_into((buffer,), CONTROL)
        return size, (source, control[0][2] if control else b"")

    def source(self, key: SocketAddress) -> tuple[Address, Address, Callable[[Bytes], object]]:
        """@raise OSError: the datagram was sent to us, or nobody knows where to."""
        to, raw = key
        if len(raw) >= 28:
            destination = Address(socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack_from("!H", raw, 2)[0])
        elif len(raw) >= 8:
            destination = Address(socket.inet_ntoa(raw[4:8]), struct.unpack_from("!H", raw, 2)[0])
        else:
            raise OSError("nobody knows where this was going")
        if destination.port == self.address.port and is_local(destination.host):
            # Relaying it would send it to ourselves for ever.
            raise OSError("this was sent to us directly")
        send = self.stand.send
        return Address(to[0], to[1]), destination, lambda data: send(destination, data, to)

    def close(self) -> None:
        super().close()
        self.stand.close()


class Server(Protocol):
    """Who serves new flows (L{sslintercept.datagram.session.Datagrams})."""

    def serve(self, flow: Flow, facts: Facts) -> None: ...


class Listening(NamedTuple):
    """What the settings say of a port."""

    name: str
    target: Address | None
    """where every client is sent, or C{None} for where it was going when it was redirected to us"""


class UdpDoor:
    """
    A port for datagrams, and where they go.

    @param listening: what holds for a new flow; a reload may send it elsewhere, but cannot make a port for redirected
        clients of another one.
    @param new_id: names a new flow in the log.
    """

    def __init__(
        self,
        handler: NetHandler,
        table: FlowTable,
        datagrams: Server,
        *,
        listening: Callable[[], Listening],
        host: str,
        port: int,
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
        share: bool = False,
    ) -> None:
        self._handler = handler
        self._table = table
        self._datagrams = datagrams
        self._listening = listening
        self._at = Address(host, port)
        self._target: Address | None = None
        self._new_id = new_id
        self._wall_clock = wall_clock
        self._share = share
        self._port: UdpPort | None = None

    def start(self) -> Address:
        """
        Open the port; where it is.

        @raise ConfigError: it is taken or not allowed.
        """
        name, self._target = self._listening()
        sock = None
        try:
            sock = bind(*self._at, share=self._share)
            if self._target is None:
                kind: type[UdpPort] = OriginalPort
            else:
                kind = AnyPort if self._at.host in ("", "0.0.0.0", "::") else UdpPort
            self._port = kind(self._handler, sock, self._table, self._opened)
        except OSError as error:
            if sock is not None:
                sock.close()
            what = f"cannot use UDP on {self._at} ({error.strerror or error})"
            remedy = way_out(error)
            if error.errno == errno.EPERM:
                remedy = "give the process CAP_NET_ADMIN, which TPROXY needs"
            raise ConfigError(what, where=f"[listen:{name}] endpoint", remedy=remedy) from None
        return self._port.address

    def stop(self) -> None:
        """End the flows and close the port. Twice is once."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _opened(self, flow: Flow) -> None:
        name, target = self._listening()
        if self._target is not None:
            self._target = target or self._target
        facts = Facts(self._new_id(), flow.peer, name)
        facts.path = ["udp"]
        facts.started = self._wall_clock()
        facts.destination = self._target or flow.local
        self._datagrams.serve(flow, facts)
