"""
A line to an engine beside us: over TCP, TLS or a unix socket, with bytes in both directions and a stop for each.

What is said on it is somebody else's business (L{sslintercept.icap}, L{sslintercept.clamd}). Whoever writes is told
when enough waits to be sent, and when there is room again; whoever reads can stop the other side. A line ends once,
with a reason, unless we end it ourselves.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import EngineError, InterceptError
from sslintercept.facts import Address, Side
from sslintercept.net.connector import Connector
from sslintercept.net.handler import option
from sslintercept.net.upstream import Secured, UpstreamTls
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.profile.profile import Bytes
from sslintercept.profile.tcp import TcpProfile

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

OpenLine = Callable[[], Deferred["Line"]]
"""Makes a line; cancelling gives it up. It fails with an L{EngineError} that is C{unreachable}."""
UP = "is it up, and is its address right?"


def nothing() -> None:
    """Nobody wants to know."""


def unheard(data: Bytes) -> None:
    """Nobody listens."""


def unmourned(fault: str, why: str) -> None:
    """An end that nobody minds."""


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Line:
    """
    The session on top of the connection.

    @ivar received: called with bytes, which are views of a shared buffer: they live as long as the call.
    @ivar lost: called once with one word (C{lost} or C{hangs}) and a reason if the line ends by itself.
    @ivar full: called when enough waits to be sent; C{room}: when there is room again.
    @ivar owes: whether the other side must do something now; asked when it was silent for the idle limit.
    @ivar used: whether an exchange has ended well on it: it may have died since.
    """

    takes_views = True

    def __init__(self, vc: NetVConnection) -> None:
        self.vc = vc
        self.received: Callable[[Bytes], object] = unheard
        self.lost: Callable[[str, str], object] = unmourned
        self.full: Callable[[], object] = nothing
        self.room: Callable[[], object] = nothing
        self.owes: Callable[[], bool] = lambda: True
        self.used = False
        self.closed = False
        self._idle = 0.0
        self._is_full = False
        vc.timed_out = self._timed_out
        vc.attach(self)
        vc.registerProducer(self, True)

    # what its user says

    @property
    def write(self) -> Callable[[Bytes], object]:
        """Sends, now or when possible."""
        return self.vc.write

    @property
    def is_full(self) -> bool:
        """Whether enough waits to be sent."""
        return self._is_full

    def pause(self) -> None:
        """Read nothing more."""
        self.vc.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self.vc.resumeProducing()

    def expect(self, within: float, idle: float) -> None:
        """
        From now on something has to be done within so many seconds, or silence must not last so long; 0 for no limit.
        """
        self._idle = idle
        vc = self.vc
        vc.deadline = vc.handler.now + within if within else NEVER
        vc.idle_limit = idle
        vc.timed_out = self._timed_out
        vc.tcp.active = vc.handler.now

    def release(self) -> None:
        """Its user is done; whatever happens now is told to nobody."""
        self.received, self.lost, self.full, self.room = unheard, unmourned, nothing, nothing
        self.owes = lambda: True
        self.expect(0, 0)
        self.vc.resumeProducing()

    def close(self) -> None:
        """End it at once. Twice is once."""
        if not self.closed:
            self.closed = True
            self.release()
            self.vc.unregisterProducer()
            if self.vc.pending():
                self.vc.abort()
            else:
                self.vc.close()

    def _timed_out(self, kind: str) -> None:
        if kind == "idle" and not self.owes():
            self.vc.idle_limit = self._idle
            return
        self._end("hangs", "it does not answer in time" if kind == "deadline" else "it has been silent for too long")

    def _end(self, fault: str, why: str) -> None:
        if not self.closed:
            lost = self.lost
            self.close()
            lost(fault, why)

    # IPushProducer: the connection tells us how much waits

    def pauseProducing(self) -> None:
        self._is_full = True
        self.full()

    def resumeProducing(self) -> None:
        self._is_full = False
        self.room()

    def stopProducing(self) -> None:
        """Nothing can be sent any more; C{connectionLost} tells why."""

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self.received(data)

    def readConnectionLost(self) -> None:
        self._end("lost", "it closed the connection")

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._end("lost", str(self.vc.error or "the connection is gone"))


def tcp(
    connector: Connector, destination: Address, where: str, tls: UpstreamTls | None = None, name: str = ""
) -> OpenLine:
    """
    Lines over TCP, each within the connector's time limit.

    @param tls: verifies the certificate, and lines are secure; C{None} for lines in the clear.
    @param name: whom the certificate must be for; empty for the destination's host.
    """

    async def opening() -> Line:
        try:
            vc = await connector.connect(destination, configured=True)
        except InterceptError as error:
            raise _unreachable(error.what, where) from None
        if tls is None:
            return Line(vc)
        line = Line(vc)
        done: Deferred[None] = Deferred(lambda _: line.close())

        def secured(_secured: Secured | None, error: InterceptError | None) -> None:
            if done.called:
                return
            if error is None:
                done.callback(None)
            else:
                line.close()
                done.errback(_unreachable(error.what, where))

        tls.push(vc, name or destination.host, (), None, secured).begin()
        await done
        return line

    return lambda: Deferred.fromCoroutine(opening())


def local(handler: NetHandler, path: str, where: str) -> OpenLine:
    """Lines over the unix socket C{path}; the kernel connects them at once, or not at all."""

    async def opening() -> Line:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        option(sock)
        code = sock.connect_ex(path)
        if code:
            sock.close()
            raise _unreachable(os.strerror(code).lower(), where)
        vc = NetVConnection(handler, Side.UPSTREAM, Address(path, 0), Address("", 0))
        vc.open(TcpProfile(vc, sock, handler))
        return Line(vc)

    return lambda: Deferred.fromCoroutine(opening())


def _unreachable(what: str, where: str) -> EngineError:
    return EngineError(what, where=where, remedy=UP, fault="unreachable")
