"""A stream of TLS to a name server (RFC 7858): what L{sslintercept.dns.stream.Pipe} frames its messages over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.dns.stream import OpenStream, Stream, unheard, unmourned
from sslintercept.errors import ResolveError
from sslintercept.net.connector import Connector
from sslintercept.net.upstream import Secured, UpstreamTls
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.profile import Bytes

if TYPE_CHECKING:
    from sslintercept.dns.server import Server
    from sslintercept.errors import InterceptError
    from sslintercept.net.handler import NetHandler

ALPN = (b"dot",)
"""RFC 7858 has none, but the name is registered for it (IANA, TLS ALPN protocol IDs)"""


@implementer(IProtocol, IHalfCloseableProtocol)
class SecureStream:
    """
    The session on top of the connection (L{Stream}).

    @ivar opened: fires with this once the server has proven who it is.
    """

    takes_views = True

    def __init__(self, vc: NetVConnection) -> None:
        self._vc = vc
        self.received: Callable[[bytes], None] = unheard
        self.lost: Callable[[str], None] = unmourned
        self.opened: Deferred[Stream] = Deferred(lambda _: self.close())
        self._closed = False
        vc.timed_out = lambda kind: self._end("it did not answer in time")
        vc.attach(self)

    def secured(self, _secured: Secured | None, error: InterceptError | None) -> None:
        """The handshake is over."""
        if error is not None:
            self._end(str(error))
        elif not self.opened.called:
            self.opened.callback(self)

    # Stream

    def write(self, data: bytes) -> None:
        """Send, now or when possible; more than the connection takes is the server's fault."""
        if not self._closed:
            self._vc.write(data)

    def close(self) -> None:
        """End at once."""
        if not self._closed:
            self._closed = True
            self._vc.close()

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self.received(bytes(data))

    def readConnectionLost(self) -> None:
        self._end("the server closed the connection")

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._end(str(self._vc.error or "the connection is gone"))

    def _end(self, why: str) -> None:
        if self._closed:
            return
        self.close()
        if self.opened.called:
            self.lost(why)
        else:
            self.opened.errback(ConnectionError(why))


class Nobody:
    """Knows no names: servers are named by their addresses."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """Never asked."""
        return fail(ResolveError("name servers have no names here", where=host, remedy="give an address"))


def open_secure(handler: NetHandler, tls: UpstreamTls, name: str, timeout: float) -> OpenStream:
    """Make what opens streams to servers whose certificates are for C{name}, each within C{timeout} seconds."""
    connector = Connector(handler, Nobody(), timeout=timeout)

    async def opening(server: Server) -> Stream:
        vc = await connector.connect(server.address)
        stream = SecureStream(vc)
        tls.push(vc, name, ALPN, None, stream.secured).begin()
        return await stream.opened

    return lambda server: Deferred.fromCoroutine(opening(server))
