"""
One connection: a socket, its chain of profiles, and the session on top (ATS: NetVConnection).

There is one class for plain, TLS and TLS-in-TLS connections, on either side; they differ in their chain only. The
session on top is an ordinary Twisted protocol whose transport is this object. Sessions are swapped with
L{NetVConnection.attach} while the connection lives.

Closing is here and nowhere else. L{NetVConnection.finish} ends our direction (inner close_notify, outer close_notify,
FIN); L{NetVConnection.close} does the same and then waits a bounded time for the peer; L{NetVConnection.abort} cuts.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import ClientError, InterceptError, LostError, TimedOut
from sslintercept.facts import Address, Side
from sslintercept.profile.chain import ProfileChain
from sslintercept.profile.profile import Bytes, Profile, Receiver, ignore, ignore_end
from sslintercept.profile.ssl import SslProfile
from sslintercept.profile.tcp import TcpProfile

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

HIGH_WATER = 64 * 1024
LOW_WATER = 32 * 1024
"""bytes waiting to be sent at which a producer is stopped, and started again"""
LINGER = 2.0
"""seconds that a closed connection waits for the peer's FIN once ours has left"""
STALLED = 60.0
"""seconds that a closed connection waits at most for a peer that takes nothing"""
NEVER = float("inf")

DONE = Failure(ConnectionDone())


@implementer(ITransport, IConsumer, IPushProducer, ITCPTransport)
class NetVConnection(ProfileChain):
    """
    A connection to a client or to an origin.

    @ivar side: whose connection it is; the ssl profile takes its role from that.
    @ivar peer: the other end's address; C{local}: ours.
    @ivar server_vc: the server connection that hangs on this client connection between two sessions (deck: "attach
        server_vc to client_vc"). It is closed with this one, and the slot empties itself when it dies.
    @ivar idle_limit: seconds without a byte in either direction after which C{timed_out} is called; 0 for never.
    @ivar deadline: the time on the handler's clock after which C{timed_out} is called, traffic or not.
    @ivar timed_out: called with C{"idle"} or C{"deadline"}; it is called once, whoever wants another wait arms it
        again.
    @ivar closed: called once with this connection when nothing of it is left.
    @ivar truncated: the peer's direction ended without the goodbye of the top layer.
    @ivar cut: it ended by a reset, the peer's or ours.
    @ivar error: why it ended, if not in order; of a reset that nobody explains it is Twisted's.
    """

    __slots__ = (
        "_finish_waits",
        "_producer",
        "_producing",
        "_pulling",
        "_session_lost",
        "_streaming",
        "closed",
        "closing",
        "cut",
        "dead",
        "deadline",
        "ended_by_peer",
        "error",
        "finished",
        "handler",
        "high_water",
        "idle_limit",
        "local",
        "low_water",
        "owner",
        "peer",
        "server_vc",
        "session",
        "side",
        "tcp",
        "timed_out",
        "trimmed",
        "truncated",
    )

    disconnecting = False
    tcp: TcpProfile

    def __init__(self, handler: NetHandler, side: Side, peer: Address, local: Address) -> None:
        super().__init__()
        self.handler = handler
        self.side = side
        self.peer = peer
        self.local = local
        # Any: sessions are Twisted protocols of every kind; what they lack is looked up once, in attach.
        self.session: Any = None
        self.server_vc: NetVConnection | None = None
        self.owner: NetVConnection | None = None
        """the client connection this one hangs on"""
        self.idle_limit = 0.0
        self.deadline = NEVER
        self.timed_out: Callable[[str], object] = self._cut_by_timer
        self.closed: Callable[[NetVConnection], object] = lambda vc: None
        self.closing = self.dead = self.finished = self.ended_by_peer = self.truncated = self.cut = False
        self.trimmed = -1.0
        """when the layers last gave back what idle connections do not need"""
        self.error: Exception | None = None
        self._producer: Any = None  # Any: IPushProducer or IPullProducer, told apart by _streaming
        self._producing = True
        self._streaming = True
        self._pulling = False
        """a pull producer will be asked when this call stack has ended"""
        self._finish_waits = False
        """our direction ends as soon as the handshake lets what was written pass"""
        self._session_lost = True
        self.high_water = HIGH_WATER
        self.low_water = LOW_WATER

    def open(self, base: TcpProfile) -> None:
        """Put the socket's profile at the bottom and begin to watch."""
        self.tcp = base
        self.handler.connections.add(self)
        base.failed = self._broke
        base.gone = self._die
        base.fin_out = self._fin_out
        base.grew = self._grew
        base.shrank = self._shrank
        self.base(base)
        base.ended = self._ended

    # sessions

    def attach(self, session: Any) -> None:
        """
        Put C{session} on top; the one before hears nothing more.

        C{session} provides L{IProtocol}; one with a true attribute C{takes_views} gets memoryviews of shared buffers,
        any other one gets bytes. What happened before it came, the peer's end or the connection's, it is told as soon
        as the present call stack has ended.
        """
        self.session = session
        self._session_lost = False
        if getattr(session, "takes_views", False):
            self.read_to(session.dataReceived)
        else:
            received = session.dataReceived
            self.read_to(lambda data: received(bytes(data)))
        session.makeConnection(self)
        if self.dead:
            self.handler.soon(self._tell_session)
        elif self.ended_by_peer and not self.closing:
            self.handler.soon(lambda: self._tell_end(session))

    def read_to(self, receiver: Receiver) -> None:
        """From now on the bytes of the top layer go to C{receiver}: how a session changes its state."""
        if not self.closing:
            self.top.deliver = receiver

    def push_ssl(self, make: Callable[[ProfileChain, Profile], SslProfile], peeked: Bytes = b"") -> SslProfile:
        """
        Add a TLS layer on top of what is there.

        @raise StageError: see L{ProfileChain.push}.
        """
        profile = self.push(make, peeked)
        assert isinstance(profile, SslProfile)
        if self.ended_by_peer:
            # The layer below has said so already, to somebody else.
            self.ended_by_peer = False
            lower = profile.lower
            assert lower is not None
            self.handler.soon(lambda: lower.ended(True))
        return profile

    def hang(self, server_vc: NetVConnection) -> None:
        """Let C{server_vc} hang on this connection until somebody picks it up; the one before it is closed."""
        before, self.server_vc = self.server_vc, None
        if before is not None and before is not server_vc:
            before.owner = None
            before.close()
        if self.closing:
            server_vc.close()
        elif not server_vc.dead:
            self.server_vc = server_vc
            server_vc.owner = self

    def pick_up(self) -> NetVConnection | None:
        """Take the hanging server connection, if it is still alive."""
        server_vc, self.server_vc = self.server_vc, None
        if server_vc is None:
            return None
        server_vc.owner = None
        return None if server_vc.closing or server_vc.dead else server_vc

    # events from the chain

    def _ended(self, clean: bool) -> None:
        self.ended_by_peer = True
        self.truncated = not clean
        self._tell_end(self.session)

    def _tell_end(self, session: Any) -> None:
        if session is not self.session or self.closing:
            return
        if IHalfCloseableProtocol.providedBy(session):
            session.readConnectionLost()
        else:
            self.close()

    def _broke(self, error: Exception) -> None:
        self.cut = True
        self.fail(ConnectionLost(str(error)))

    def fail(self, error: Exception) -> None:
        """Something in the chain is unusable: free every layer and tell the session once."""
        if self.dead:
            return
        self.error = error
        self._die()

    def tls_broke(self, error: Exception) -> None:
        """A TLS layer failed: the session is told at once, and the socket closes in order behind the alert."""
        if self.dead or self.closing:
            return
        self.error = error
        self.close(faithful=False)
        self.handler.soon(self._tell_session)

    def _die(self) -> None:
        self.dead = self.closing = True
        self.write = ignore
        for profile in reversed(self.profiles):
            profile.die()
        self.handler.connections.discard(self)
        self.deadline = NEVER
        self._producing = False
        self.handler.soon(self._tell_lost)
        if (server_vc := self.server_vc) is not None:
            self.server_vc = None
            server_vc.owner = None
            server_vc.close()
        if (owner := self.owner) is not None:
            self.owner = None
            if owner.server_vc is self:
                owner.server_vc = None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    def _tell_lost(self) -> None:
        try:
            self._tell_session()
        finally:
            self.closed(self)

    def _tell_session(self) -> None:
        session, self.session = self.session, None
        if session is not None and not self._session_lost:
            self._session_lost = True
            session.connectionLost(DONE if self.error is None else Failure(self.error))

    # closing

    def finish(self) -> None:
        """End our direction: close_notify of every layer from the top down, then FIN. The peer may go on sending."""
        if not self.finished and not self.closing:
            self.finished = True
            self._finish_layers()

    def _finish_layers(self) -> None:
        for profile in reversed(self.profiles):
            if not profile.is_open():
                self._finish_waits = True
                return
            profile.half_close()

    def close(self, faithful: bool = True) -> None:
        """
        Close in order, top layer first, behind everything written; bounded by the idle limit or L{STALLED}, then by
        L{LINGER}.

        What waits for a handshake to be complete is not sent any more.

        @param faithful: false leaves out the close_notify, so that the peer sees the truncation that we saw.
        """
        if self.closing:
            return
        self.closing = True
        if self.server_vc is not None:
            server_vc, self.server_vc = self.server_vc, None
            server_vc.owner = None
            server_vc.close()
        self.top.deliver = ignore
        self.top.ended = ignore_end
        self.write = ignore
        # A peer that has sent FIN would answer a goodbye with a reset.
        faithful = faithful and not self.tcp.fin_received
        for profile in reversed(self.profiles):
            if profile is not self.tcp:
                profile.pre_close(faithful)
        self.deadline = NEVER
        self.idle_limit = min(self.idle_limit or STALLED, STALLED)
        self.timed_out = self._close_is_over
        # The peer's time to take what is left begins now, however long it has been silent.
        self.tcp.active = self.handler.now
        self.tcp.pre_close()
        if self.tcp.fin_sent:
            self._fin_out()

    def _close_is_over(self, kind: str) -> None:
        if self.tcp.fin_sent:
            # What the kernel still has goes on its way without us; a reset would throw it away.
            self.tcp.leave()
        else:
            where = f"{self.side.value} connection"
            self.abort(TimedOut("nobody takes what is left", where=where, remedy="it was cut"))

    def _fin_out(self) -> None:
        if self.closing and not self.dead and self.deadline == NEVER:
            self.deadline = self.handler.now + LINGER

    def abort(self, why: InterceptError | None = None) -> None:
        """Cut the connection so that the peer sees RST (RFC 9293 3.10.5)."""
        if not self.dead:
            self.cut = True
            if self.error is None:
                self.error = why or ConnectionAborted()
            self.tcp.cut()
            self._die()

    def mirror(self, other: NetVConnection) -> None:
        """
        Close the way C{other} ended: a reset there is a reset here, and a truncation, or a record that was refused,
        never looks like a goodbye.
        """
        if other.cut:
            self.abort(cut_by(other))
        else:
            self.close(faithful=other.error is None and not other.truncated)

    def _cut_by_timer(self, kind: str) -> None:
        self.error = TimedOut(f"the {kind} timer ended", where=f"{self.side.value} connection", remedy="it was closed")
        self.close(faithful=False)

    # back-pressure

    def _grew(self, queued: int) -> None:
        if self._producing and queued > self.high_water and self._producer is not None and self._streaming:
            self._producing = False
            self._producer.pauseProducing()

    def _shrank(self, queued: int) -> None:
        producer = self._producer
        if producer is not None:
            if not self._streaming:
                if not queued:
                    self._pull()
            elif not self._producing and queued <= self.low_water:
                self._producing = True
                producer.resumeProducing()

    def _pull(self) -> None:
        """Ask a pull producer for more, as long as the kernel takes everything at once."""
        if not self._pulling:
            self._pulling = True
            self.handler.soon(self._pull_now)

    def _pull_now(self) -> None:
        self._pulling = False
        producer = self._producer
        if producer is not None and not self._streaming and not self.pending():
            before = self.tcp.sent
            producer.resumeProducing()
            if self.tcp.sent != before:
                self._pull()

    def kept_back(self) -> None:
        self._grew(self.pending())

    def opened(self) -> None:
        self._shrank(self.pending())
        if self._finish_waits and not self.closing:
            self._finish_waits = False
            self._finish_layers()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let C{producer} be stopped while more than C{high_water} bytes wait (IConsumer)."""
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered: {self._producer!r} still is")
        if self.closing:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producing = True
        if not streaming:
            self._pull()
        else:
            self._grew(self.pending())

    def unregisterProducer(self) -> None:
        """The producer has nothing more (IConsumer)."""
        self._producer = None
        self._producing = True

    def pauseProducing(self) -> None:
        """Read nothing more from the peer (IPushProducer)."""
        if not self.closing:
            self.top.pause()

    def resumeProducing(self) -> None:
        """Read again; nothing is delivered within the call (IPushProducer)."""
        if not self.closing:
            self.top.resume()

    def stopProducing(self) -> None:
        """Whoever consumed us is gone (IPushProducer)."""
        self.close()

    # the rest of Twisted's transport

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.close()

    def loseWriteConnection(self) -> None:
        self.finish()

    def abortConnection(self) -> None:
        self.abort()

    def getPeer(self) -> IPv4Address | IPv6Address:
        return _twisted(self.peer)

    def getHost(self) -> IPv4Address | IPv6Address:
        return _twisted(self.local)

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Always on: every layer writes once for an event."""

    def getTcpKeepAlive(self) -> bool:
        return bool(self.tcp.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.tcp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(enabled))


def cut_by(vc: NetVConnection) -> InterceptError:
    """What is told of a connection that was cut because C{vc} was."""
    if isinstance(vc.error, InterceptError):
        return vc.error
    if vc.side is Side.UPSTREAM:
        return LostError("the origin reset the connection", where=str(vc.peer), remedy="the origin refuses, or is down")
    return ClientError("the client reset the connection", where=str(vc.peer), remedy="it did not wait for the end")


def _twisted(address: Address) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ":" in address.host else IPv4Address
    return kind("TCP", address.host, address.port)
