"""
The session on a client connection: reads requests one after the other and writes their responses (ATS: HttpClientSession).

One transaction runs at a time; what the client sends meanwhile is kept, bounded, and answered in order. The session knows
HTTP/1's bytes; what happens to a request is L{sslintercept.http.sm.HttpSM}'s business.

Python calls: a request that arrives in one read costs L{HttpSession.dataReceived}, the parser, and the transaction's
C{start}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import MessageError, TimedOut
from sslintercept.facts import Facts
from sslintercept.http.head import find_end, read_request, skip_empty_lines
from sslintercept.http.pool import OriginKey
from sslintercept.http.sm import HttpSM
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.profile.profile import Bytes

if TYPE_CHECKING:
    from sslintercept.http.proxy import HttpProxy

PIPELINE = 64 * 1024
"""bytes kept of requests that come while another one is served; beyond that the client is not read"""


@implementer(IProtocol, IHalfCloseableProtocol)
class HttpSession:
    """
    @ivar serial: transactions begun on this connection.
    @ivar key: what connections to the tunnel's origin must be; made with the first request.
    @ivar identity: this connection's own, once a login is bound to its server connection; else empty.
    @ivar constant: the part of the log line that does not change between transactions; C{constant_of}: what it was made of.
    """

    takes_views = True
    __slots__ = (
        "_buffer",
        "_closing",
        "_paused",
        "_proxy",
        "_scanned",
        "constant",
        "constant_of",
        "facts",
        "identity",
        "key",
        "serial",
        "sm",
        "vc",
    )

    def __init__(self, proxy: HttpProxy, vc: NetVConnection, facts: Facts) -> None:
        self._proxy = proxy
        self.vc = vc
        self.facts = facts
        self._buffer = bytearray()
        self._scanned = 0
        self._paused = False
        self._closing = False
        self.sm: HttpSM | None = None
        self.serial = 0
        self.key: OriginKey | None = None
        self.identity = ""
        self.constant: str | None = None
        self.constant_of: object = None

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing before L{begin}."""

    def connectionMade(self) -> None:
        """Nothing before L{begin}."""

    def begin(self, peeked: bytes) -> None:
        """Read the first request; its beginning is C{peeked}."""
        vc = self.vc
        vc.idle_limit = self._proxy.keep_alive_timeout
        vc.timed_out = self._timed_out
        vc.deadline = vc.handler.now + self._proxy.header_timeout
        vc.resumeProducing()
        if peeked:
            self.dataReceived(peeked)

    # reading

    def dataReceived(self, data: Bytes) -> None:
        sm = self.sm
        if sm is not None:
            if sm.request_body is not None and sm.request_body.alive:
                sm.request_body.receive(data)
            else:
                self.hold(bytes(data))
            return
        if self._buffer:
            self._buffer += data
            raw = bytes(self._buffer)
        else:
            raw = bytes(data)
        self._read_head(raw)

    def _read_head(self, raw: bytes) -> None:
        end = find_end(raw, max(self._scanned - 3, 0))
        vc = self.vc
        proxy = self._proxy
        if end < 0 or end > proxy.max_header:
            if len(raw) > proxy.max_header:
                self._refuse(
                    MessageError(
                        f"the request head is larger than {proxy.max_header} bytes", where="request", status=431
                    )
                )
                return
            if not self._buffer:
                self._buffer += raw
                if vc.deadline == NEVER:
                    vc.deadline = vc.handler.now + proxy.header_timeout
            self._scanned = len(raw)
            return
        self._buffer.clear()
        self._scanned = 0
        vc.deadline = NEVER
        at = skip_empty_lines(raw)
        if at >= end:
            # Nothing but empty lines so far (RFC 9112 2.2); what follows them is the request.
            if raw[at:]:
                self._read_head(raw[at:])
            return
        scope = self.facts.scope
        try:
            head = read_request(
                raw[at:end],
                "https" if scope is not None and scope.secure else "http",
                scope.destination if scope is not None else None,
            )
        except MessageError as error:
            self._refuse(error)
            return
        self.serial += 1
        self.sm = sm = HttpSM(proxy, self, head)
        sm.start(raw[end:])

    def hold(self, rest: bytes) -> None:
        """Keep bytes for later."""
        if rest:
            self._buffer += rest
            if len(self._buffer) > PIPELINE and not self._paused:
                self._paused = True
                self.vc.pauseProducing()

    def _refuse(self, error: MessageError) -> None:
        """Answer a request that cannot be read, and close: where the next one would begin is not known."""
        self.serial += 1
        self._closing = True
        self._buffer.clear()
        self._proxy.refused(self, error)
        self.vc.close()

    # the end of a transaction

    def finished(self, keep: bool) -> None:
        """The transaction is over: go on with the next request, or close."""
        self.sm = None
        vc = self.vc
        if not keep or self._closing or self._proxy.draining:
            vc.close()
            return
        if self._paused:
            self._paused = False
            vc.resumeProducing()
        if self._buffer:
            # Not from here: a client that sends many requests at once must not deepen the stack.
            vc.handler.soon(self._next)
        elif vc.ended_by_peer:
            vc.close()

    def _next(self) -> None:
        if self.sm is None and not self.vc.closing and self._buffer:
            raw = bytes(self._buffer)
            self._buffer.clear()
            self._read_head(raw)
        if self.sm is None and self.vc.ended_by_peer:
            self.vc.close()

    def taken_over(self) -> bytes:
        """The connection goes to another session; give what was read but not used."""
        self.sm = None
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    # events

    def _timed_out(self, kind: str) -> None:
        sm = self.sm
        if sm is not None and kind == "idle":
            if sm.waits_for_origin:
                # The origin has its own timers.
                self.vc.idle_limit = self._proxy.keep_alive_timeout
                self.vc.tcp.active = self.vc.handler.now
                return
            sm.client_lost(
                TimedOut("the client stands still", where="client connection", remedy="see [tunnel] idle_timeout")
            )
            self.vc.abort()
            return
        if kind == "deadline":
            error = MessageError("the request head did not come in time", where="request", status=408)
            if self._buffer:
                self._refuse(error)
                return
            self.facts.error = error
        self.vc.close()

    def readConnectionLost(self) -> None:
        sm = self.sm
        if sm is None:
            if self._buffer:
                self.facts.error = MessageError("the client closed in the middle of a request head", where="request")
            self.vc.close()
            return
        sm.client_ended()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        sm, self.sm = self.sm, None
        if sm is not None:
            sm.client_lost(self.vc.error)
