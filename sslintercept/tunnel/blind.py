"""
Two connections joined, bytes untouched (ATS: blind tunnel of HttpSM; TwoWayTunnel without half-close).

Both directions are wiring (L{sslintercept.tunnel.oneway}): a read of up to 256 KiB goes to the other socket in the
same call and is copied only if the kernel does not take it all. The kernel's C{splice(2)} could carry long tunnels
between two bare sockets with 0 to 30 % less CPU; it would take the place of L{OneWayTunnel.start} here and nowhere
else.

How an end is passed on: a peer that has finished sending makes us finish sending on the other side, and the answer
still comes back; a truncation stays one, a reset stays one.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.oneway import OneWayTunnel


@implementer(IProtocol, IHalfCloseableProtocol)
class TunnelEnd:
    """The session of one side; bytes do not pass through it."""

    takes_views = True

    def __init__(self, tunnel: BlindTunnel, vc: NetVConnection) -> None:
        self._tunnel = tunnel
        self._vc = vc

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        """Replaced by the other side's wire as soon as the tunnel starts."""

    def readConnectionLost(self) -> None:
        self._tunnel.ended(self._vc)

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._tunnel.lost(self._vc)


class BlindTunnel:
    """
    A client and a server connection joined.

    @param half_close: the end of one direction leaves the other one open; without it both are closed (ATS:
        TwoWayTunnel).
    @param idle_timeout: seconds without a byte in either direction until both are closed; 0 for never.
    @param done: called once when both are gone.
    """

    def __init__(
        self,
        client: NetVConnection,
        server: NetVConnection,
        *,
        idle_timeout: float,
        done: Callable[[], object] = lambda: None,
        half_close: bool = True,
    ) -> None:
        self._client, self._server = client, server
        self._idle_timeout = idle_timeout
        self._done = done
        self._half_close = half_close
        self._ways = {client: OneWayTunnel(client, server), server: OneWayTunnel(server, client)}
        self._ended: set[NetVConnection] = set()
        self._lost: set[NetVConnection] = set()

    def start(self, from_client: bytes = b"", from_server: bytes = b"") -> None:
        """Join them; what was already read from either side goes over first."""
        for vc in (self._client, self._server):
            vc.idle_limit = self._idle_timeout
            vc.deadline = float("inf")
            vc.timed_out = self._timed_out
            vc.attach(TunnelEnd(self, vc))
        self._ways[self._server].start(from_server)
        self._ways[self._client].start(from_client)
        for vc in (self._client, self._server):
            if vc.ended_by_peer:
                self.ended(vc)
            vc.resumeProducing()

    def _other(self, vc: NetVConnection) -> NetVConnection:
        return self._server if vc is self._client else self._client

    def ended(self, vc: NetVConnection) -> None:
        """C{vc}'s peer has finished sending."""
        if vc in self._ended:
            return
        self._ended.add(vc)
        other = self._other(vc)
        if vc.truncated:
            other.close(faithful=False)
            vc.close()
        else:
            other.finish()
            if len(self._ended) == 2 or not self._half_close:
                self._client.close()
                self._server.close()

    def lost(self, vc: NetVConnection) -> None:
        """C{vc} is gone."""
        if vc in self._lost:
            return
        self._lost.add(vc)
        for way in self._ways.values():
            way.stop()
        other = self._other(vc)
        if other not in self._lost:
            other.mirror(vc)
        else:
            self._done()

    def _timed_out(self, kind: str) -> None:
        self._client.close()
        self._server.close()
