"""
UDP ASSOCIATE of SOCKS 5 (RFC 1928 7): one socket for a client, and a flow for each destination that it names.

The association lives as long as its TCP connection, which also proves the client's address: answers are not bounded by
what was asked. Datagrams count only if they come from that host and, once it is told or seen, from one port. Each
destination is judged, decided on and logged as a flow of its own, DTLS inside of it included.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from select import EPOLLIN
from typing import TYPE_CHECKING

from twisted.logger import Logger

from sslintercept.datagram.session import Datagrams
from sslintercept.errors import ClientError, InterceptError, LimitError
from sslintercept.facts import Address, Facts
from sslintercept.net.flow import Flow, FlowTable, host_key
from sslintercept.net.udp import BUFFER, DATAGRAMS, VIEW, bind
from sslintercept.profile.profile import Bytes
from sslintercept.profile.udp import UdpProfile

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

MOST_ASSOCIATIONS = 1024
"""sockets of a process"""
MOST_OF_A_HOST = 64
"""and of one client's host (L{sslintercept.net.flow.host_key})"""

Read = Callable[[Bytes], tuple[Address, bytes] | None]
Write = Callable[[Address, Bytes], bytes]


class SocksAssociations:
    """
    Opens associations (the interface C{Associations} of L{sslintercept.socks.negotiate}).

    @param read: takes the header off a client's datagram: where to, and what; C{None} for a fragment. It raises
        L{ClientError} if there is no header (L{sslintercept.socks.wire.read_datagram}).
    @param write: puts the header before an answer (L{sslintercept.socks.wire.write_datagram}).
    @param new_id: names a new flow in the log.
    """

    def __init__(
        self,
        handler: NetHandler,
        table: FlowTable,
        datagrams: Datagrams,
        *,
        read: Read,
        write: Write,
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
        most: int = MOST_ASSOCIATIONS,
        most_of_a_host: int = MOST_OF_A_HOST,
    ) -> None:
        self.handler = handler
        self.table = table
        self.datagrams = datagrams
        self.read = read
        self.write = write
        self.new_id = new_id
        self.wall_clock = wall_clock
        self.most = most
        self.most_of_a_host = most_of_a_host
        self.all: dict[SocksAssociation, str] = {}
        """with the host they are counted for"""

    def open(
        self, facts: Facts, client: Address, expected: Address | None, local_host: str, closed: Callable[[], object]
    ) -> SocksAssociation:
        """
        Carry datagrams for C{client} until the association is closed.

        @param expected: where the client says they will come from; its host counts for nothing, the TCP connection
            says it, and its port only where the client knows its own address.
        @param local_host: the address of ours that the client reached; the association is there too.
        @param closed: called when the association ended by itself.
        @raise InterceptError: there are too many, or no socket is left.
        """
        where = "UDP association"
        if len(self.all) >= self.most:
            raise LimitError(f"{self.most} associations are open", where=where, remedy="close some")
        host = host_key(facts.client.host)
        if sum(host == other for other in self.all.values()) >= self.most_of_a_host:
            raise LimitError(
                f"{self.most_of_a_host} associations of this client are open", where=where, remedy="close some"
            )
        try:
            sock = bind(local_host, 0)
        except OSError as error:
            raise InterceptError(f"no socket ({error.strerror})", where=where, remedy="see the limits") from None
        port = expected.port if expected is not None and expected.host == client.host else 0
        association = SocksAssociation(self, facts, Address(client.host, port), sock, closed)
        self.all[association] = host
        return association

    def close(self) -> None:
        """End them all."""
        for association in list(self.all):
            association.close()


class SocksAssociation:
    """
    The datagrams of one client.

    @ivar address: where the client sends them.
    @ivar active: when a datagram last came from the client or left to it, on the handler's clock.
    @ivar dropped: datagrams from elsewhere, without a header, or in fragments.
    """

    log = Logger()

    def __init__(
        self,
        owner: SocksAssociations,
        facts: Facts,
        client: Address,
        sock: socket.socket,
        closed: Callable[[], object],
    ) -> None:
        self._owner = owner
        self._facts = facts
        self._client = client
        self._sock = sock
        self._closed = closed
        self.turn = -1
        self.dropped = 0
        self.address = Address(*sock.getsockname()[:2])
        self._flows: dict[Address, Flow] = {}
        self._open = True
        self.active = owner.handler.now
        owner.handler.add(sock.fileno(), self, EPOLLIN)

    def readable(self) -> None:
        """Hand what waits to the flows of its destinations."""
        for _ in range(DATAGRAMS):
            try:
                size, source = self._sock.recvfrom_into(BUFFER)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier datagram of ours came back
            self._take(source, VIEW[:size])
            if not self._open:
                return

    def _take(self, source: tuple[str, int], data: Bytes) -> None:
        host, port = source[:2]
        if host != self._client.host or (self._client.port and port != self._client.port):
            self.dropped += 1
            return
        try:
            found = self._owner.read(data)
        except ClientError:
            found = None
        if found is None:
            self.dropped += 1
            return
        self._client = Address(host, port)
        self.active = self._owner.handler.now
        destination, payload = found
        flow = self._flows.get(destination) or self._new(destination)
        if flow is None:
            self.dropped += 1
            return
        try:
            flow.udp.received(payload)
        except Exception:
            # A defect in one session must not touch the others of this client.
            self.log.failure("a session failed; its flow is ended")
            flow.close("defect", faithful=False)

    def _new(self, destination: Address) -> Flow | None:
        owner, before = self._owner, self._facts
        if not owner.table.room_for(self._client.host):
            return None
        facts = Facts(owner.new_id(), before.client, before.listener)
        facts.path = [*before.path, "udp"]
        facts.user = before.user
        facts.started = owner.wall_clock()
        facts.destination = destination
        flow = Flow(self._client, self.address)
        flow.release_key = lambda: self._flows.pop(destination)

        def send(data: Bytes) -> None:
            self.active = owner.handler.now
            source = facts.upstream or destination
            self._sock.sendto(owner.write(source, data), tuple(self._client))

        flow.open(UdpProfile(flow, send, owner.handler, proven=True))
        self._flows[destination] = flow
        owner.table.add(flow)
        owner.datagrams.serve(flow, facts)
        return flow

    def event(self, event: int) -> None:
        """An error on the socket shows at the next read."""
        self.readable()

    def abort(self) -> None:
        """A defect outside of every flow (L{sslintercept.net.handler.NetHandler})."""
        if self._open:
            self.close()
            self._closed()

    def close(self) -> None:
        """End the flows and close the socket. Twice is once."""
        if self._open:
            self._open = False
            self._owner.all.pop(self, None)
            for flow in list(self._flows.values()):
                flow.close("the association ended")
            self._owner.handler.remove(self._sock.fileno())
            self._sock.close()
