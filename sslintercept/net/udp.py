"""
Sockets of datagrams in the handler's set: a bound one that many addresses talk to, and one connected to an origin.

All sockets of the process read into one buffer. A socket is read up to L{DATAGRAMS} times in one turn; what is left is
reported again, so that one fast sender cannot starve the others.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from select import EPOLLIN
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.logger import Logger

from sslintercept.errors import ConnectError
from sslintercept.facts import Address
from sslintercept.net.flow import Flow, FlowTable
from sslintercept.profile.profile import Bytes
from sslintercept.profile.udp import UdpProfile

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

DATAGRAMS = 64
"""datagrams read from one socket in one turn"""
LARGEST = 65536
"""bytes of the shared buffer; no datagram has more (RFC 768)"""
IP_PKTINFO = 8
"""linux/in.h; the socket module has no name for it"""
CONTROL = socket.CMSG_SPACE(28)
"""bytes of room for the address that came with a datagram"""
KERNEL_BUFFER = 1024 * 1024
"""bytes the kernel is asked to keep for a port that many talk to; it may give less"""

SocketAddress: TypeAlias = Any  # Any: what the socket module calls an address, a tuple whose form the family decides

BUFFER = bytearray(LARGEST)
VIEW = memoryview(BUFFER)


def ask_local(sock: socket.socket) -> None:
    """Let each datagram come with the address it was sent to (RFC 3542 6, and IP_PKTINFO)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def answer_from(sock: socket.socket, info: bytes) -> list[tuple[int, int, bytes]]:
    """What lets an answer leave from the address that came with C{info}; the kernel would choose by its routes."""
    if not info:
        return []
    if sock.family == socket.AF_INET6:
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
    return [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("i4s4s", 0, info[8:12], b""))]


class UdpPort:
    """
    A socket bound to one address, and the flows on it, one for each remote address.

    @param opened: called with a new flow, its base in place; the first datagram follows at once.
    @ivar flows: by the source as L{UdpPort.source} knows it.
    """

    log = Logger()

    def __init__(
        self, handler: NetHandler, sock: socket.socket, table: FlowTable, opened: Callable[[Flow], object]
    ) -> None:
        self._handler = handler
        self.sock = sock
        self._table = table
        self._opened = opened
        self._receive: Callable[[bytearray], tuple[int, SocketAddress]] = sock.recvfrom_into
        self.turn = -1
        self.flows: dict[SocketAddress, Flow] = {}
        self.open = True
        self.address = Address(*sock.getsockname()[:2])
        handler.add(sock.fileno(), self, EPOLLIN)

    def readable(self) -> None:
        """Hand what waits to its flows."""
        receive, flows, view = self._receive, self.flows, VIEW
        for _ in range(DATAGRAMS):
            try:
                size, source = receive(BUFFER)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier datagram of ours came back; whose, the kernel does not say
            flow = flows.get(source)
            if flow is None:
                flow = self._new(source)
                if flow is None:
                    continue
            try:
                flow.udp.received(view[:size])
            except Exception:
                # A defect in one session must not touch the others on this socket.
                self.log.failure("a session failed; its flow is ended")
                flow.close("defect", faithful=False)
            if not self.open:
                return

    def source(self, key: SocketAddress) -> tuple[Address, Address, Callable[[Bytes], object]]:
        """Who sent what came with C{key}, to which address, and how to answer."""
        send = self.sock.sendto
        return Address(key[0], key[1]), self.address, lambda data: send(data, key)

    def _new(self, key: SocketAddress) -> Flow | None:
        try:
            peer, local, send = self.source(key)
        except OSError:
            return None
        if not peer.port or not self._table.room_for(peer.host):
            return None  # nobody can be answered at port 0
        flow = Flow(peer, local)
        flow.release_key = lambda: self.flows.pop(key, None)
        flow.open(UdpProfile(flow, send, self._handler, proven=False))
        self.flows[key] = flow
        self._table.add(flow)
        try:
            self._opened(flow)
        except Exception:
            self.log.failure("a new flow could not be set up; it is dropped")
            flow.close("defect", faithful=False)
            return None
        return flow

    def event(self, event: int) -> None:
        """An error on the socket shows at the next read."""
        self.readable()

    def abort(self) -> None:
        """A defect outside of every flow."""
        self.close()

    def close(self) -> None:
        """End the flows and close the socket. Twice is once."""
        if self.open:
            self.open = False
            for flow in list(self.flows.values()):
                flow.close("shutdown")
            self._handler.remove(self.sock.fileno())
            self.sock.close()


class AnyPort(UdpPort):
    """
    A socket bound to every address of the host: the answer comes from the address that was asked.
    """

    def __init__(
        self, handler: NetHandler, sock: socket.socket, table: FlowTable, opened: Callable[[Flow], object]
    ) -> None:
        ask_local(sock)
        super().__init__(handler, sock, table, opened)
        self._receive = self._receive_with_address

    def _receive_with_address(self, buffer: bytearray) -> tuple[int, SocketAddress]:
        size, control, _, source = self.sock.recvmsg_into((buffer,), CONTROL)
        return size, (source, control[0][2] if control else b"")

    def source(self, key: SocketAddress) -> tuple[Address, Address, Callable[[Bytes], object]]:
        to, info = key
        if not info:
            local = self.address.host
        elif self.sock.family == socket.AF_INET6:
            local = socket.inet_ntop(socket.AF_INET6, info[:16])
        else:
            local = socket.inet_ntoa(info[8:12])
        send = self.sock.sendmsg
        known = answer_from(self.sock, info)
        return Address(to[0], to[1]), Address(local, self.address.port), lambda data: send((data,), known, 0, to)


class UdpPeer:
    """The socket of one flow upstream, connected, so that the kernel lets nobody else's datagrams in."""

    def __init__(self, handler: NetHandler, sock: socket.socket, flow: Flow) -> None:
        self._handler = handler
        self._sock = sock
        self._flow = flow
        self._receive = sock.recv_into
        self.turn = -1
        flow.release_key = self._close
        flow.open(UdpProfile(flow, sock.send, handler, proven=True))
        handler.add(sock.fileno(), self, EPOLLIN)

    def readable(self) -> None:
        """Hand what waits to the flow."""
        receive, flow, view = self._receive, self._flow, VIEW
        for _ in range(DATAGRAMS):
            try:
                size = receive(BUFFER)
            except BlockingIOError:
                return
            except OSError as error:
                flow.udp.lost(error)
                size = -1
            if size >= 0:
                flow.udp.received(view[:size])
            if flow.why:
                return

    def event(self, event: int) -> None:
        """What ICMP brought shows at the next read."""
        self.readable()

    def abort(self) -> None:
        """A defect in the session above (L{sslintercept.net.handler.NetHandler})."""
        self._flow.close("defect", faithful=False)

    def _close(self) -> None:
        self._handler.remove(self._sock.fileno())
        self._sock.close()


def connect(handler: NetHandler, peer: Address) -> Flow:
    """
    A flow to an origin, over a socket of its own.

    @raise ConnectError: there is no way to it, or no descriptor left.
    """
    family = socket.AF_INET6 if ":" in peer.host else socket.AF_INET
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock.connect((peer.host, peer.port))
    except (OSError, ValueError, OverflowError) as error:
        if sock is not None:
            sock.close()
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConnectError(
            f"cannot send to {peer} ({why})", where=str(peer), remedy="the way to the origin is down"
        ) from None
    flow = Flow(peer, Address(*sock.getsockname()[:2]))
    UdpPeer(handler, sock, flow)
    return flow


def bind(host: str, port: int, *, share: bool = False) -> socket.socket:
    """
    A bound socket that does not block; C{::} serves IPv6 alone.

    @param share: let other processes bind the same port (SO_REUSEPORT).
    @raise OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
