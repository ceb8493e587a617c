"""
The session on a client connection: reads requests one after the other and writes their responses (ATS:
HttpClientSession).

One transaction runs at a time; what the client sends meanwhile is kept, bounded, and answered in order. The session
knows HTTP/1's bytes; what happens to a request is L{sslintercept.http.sm.HttpSM}'s business.

Python calls: a request that arrives in one read costs L{HttpSession.dataReceived}, the parser, and the transaction's
C{start}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import MessageError
from sslintercept.facts import Facts
from sslintercept.http.head import find_end, read_request, skip_empty_lines
from sslintercept.http.pool import OriginKey
from sslintercept.http.sm import HttpSM
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.profile.profile import Bytes, ignore

if TYPE_CHECKING:
    from sslintercept.http.proxy import HttpProxy

PIPELINE = 64 * 1024
"""bytes kept of requests that come while another one is served; beyond that the client is not read"""
DRAIN = 10.0
"""seconds that a client which was answered early may go on sending: a reset would take the answer from it"""


@implementer(IProtocol, IHalfCloseableProtocol)
class HttpSession:
    """
    @ivar serial: transactions begun on this connection.
    @ivar began: when the first byte of the present request came.
    @ivar key: what connections to the tunnel's origin must be; made with the first request.
    @ivar identity: this connection's own, once a login is bound to its server connection; else empty.
    @ivar drains: the client was answered before it had said everything; it may finish, nobody listens.
    @ivar unlisted: an origin of which no list has anything, as L{HttpProxy} knows it.
    @ivar constant: the part of the log line that does not change between transactions; C{constant_of}: what it was
        made of.
    """

    takes_views = True
    __slots__ = (
        "_awaited",
        "_buffer",
        "_closing",
        "_paused",
        "_proxy",
        "_scanned",
        "began",
        "constant",
        "constant_of",
        "drains",
        "facts",
        "identity",
        "key",
        "serial",
        "sm",
        "unlisted",
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
        self._awaited = False
        """the next request will be looked for when this call stack has ended"""
        self.drains = False
        self.sm: HttpSM | None = None
        self.serial = 0
        self.began = vc.handler.now
        self.key: OriginKey | None = None
        self.identity = ""
        self.unlisted: object = None
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
                self.hold(data)
            return
        if self._awaited:
            self.hold(data)
            return
        if self._buffer:
            self._buffer += data
            self._read_buffer()
        else:
            self._read_head(bytes(data))

    def _read_buffer(self) -> None:
        """Look for a head in what came in pieces, or came early; only the head is copied out."""
        buffer = self._buffer
        at = skip_empty_lines(buffer)
        end = find_end(buffer, max(self._scanned - 3, at))
        if end < 0 or end - at > self._proxy.max_header:
            self._wait(len(buffer) - at)
            return
        raw = bytes(buffer[at:end])
        del buffer[:end]
        self._begin(raw, b"")

    def _read_head(self, raw: bytes) -> None:
        """Begin the transaction that C{raw} asks for, or keep it until there is more; the buffer is empty."""
        # Before a request line a few empty lines are ignored (RFC 9112 2.2).
        at = skip_empty_lines(raw)
        end = find_end(raw, at)
        if end < 0 or end - at > self._proxy.max_header:
            self._buffer += raw
            self._wait(len(raw) - at)
            return
        self._begin(raw[at:end], raw[end:])

    def _wait(self, size: int) -> None:
        """There is no whole head yet, in C{size} bytes of one."""
        vc = self.vc
        proxy = self._proxy
        if size > proxy.max_header:
            what = f"the request head is larger than {proxy.max_header} bytes"
            self._refuse(MessageError(what, where="request", status=431), bytes(self._buffer))
            return
        self._scanned = len(self._buffer)
        if vc.deadline == NEVER:
            self.began = vc.handler.now
            vc.deadline = self.began + proxy.header_timeout

    def _begin(self, raw: bytes, rest: bytes) -> None:
        """Begin a transaction with a whole head; C{rest} came behind it, and what is in the buffer after that."""
        if not self._scanned:
            self.began = self.vc.handler.now
        self._scanned = 0
        self.vc.deadline = NEVER
        scope = self.facts.scope
        try:
            head = read_request(
                raw,
                "https" if scope is not None and scope.secure else "http",
                scope.destination if scope is not None else None,
            )
        except MessageError as error:
            self._refuse(error, raw)
            return
        if head.length and self._buffer:
            size = head.length if head.length > 0 else len(self._buffer)
            rest += bytes(self._buffer[:size])
            del self._buffer[:size]
            if not self._buffer:
                self._unpause()
        self.serial += 1
        self.sm = sm = HttpSM(self._proxy, self, head)
        sm.start(rest)

    def hold(self, rest: Bytes) -> None:
        """Keep bytes for later."""
        if rest:
            self._buffer += rest
            if len(self._buffer) > PIPELINE and not self._paused:
                self._paused = True
                self.vc.pauseProducing()

    def resume(self) -> None:
        """Read the client again, unless it has sent too far ahead."""
        if not self._paused:
            self.vc.resumeProducing()

    def _unpause(self) -> None:
        """There is room for more."""
        if self._paused:
            self._paused = False
            self.vc.resumeProducing()

    def _refuse(self, error: MessageError, head: bytes) -> None:
        """Answer a request that cannot be read, and close: where the next one would begin is not known."""
        self.serial += 1
        self._proxy.refused(self, error, head)
        self.drains = error.status != 408
        self._drain()

    # the end of a transaction

    def finished(self, keep: bool) -> None:
        """The transaction is over: go on with the next request, or close."""
        self.sm = None
        vc = self.vc
        if not keep or self._closing or self._proxy.draining:
            self._drain()
            return
        if len(self._buffer) <= PIPELINE:
            self._unpause()
        if self._buffer:
            # Not from here: a client that sends many requests at once must not deepen the stack.
            self._awaited = True
            vc.handler.soon(self._next)
        elif vc.ended_by_peer:
            vc.close()

    def _next(self) -> None:
        self._awaited = False
        vc = self.vc
        if vc.closing or vc.session is not self:
            return
        self._scanned = 0
        self._read_buffer()
        if self.sm is None:
            self._unpause()
            if vc.ended_by_peer:
                vc.close()

    def _drain(self) -> None:
        """
        Close behind what was written.

        A client that is still sending gets to read it: its bytes are thrown away for a while (RFC 9112 9.6).
        """
        vc = self.vc
        self._closing = True
        self._buffer.clear()
        if not self.drains or vc.ended_by_peer:
            vc.close()
            return
        vc.finish()
        vc.read_to(ignore)
        vc.deadline = vc.handler.now + DRAIN
        vc.resumeProducing()

    def taken_over(self) -> bytes:
        """The connection goes to another session; give what was read but not used."""
        self.sm = None
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    # events

    def _timed_out(self, kind: str) -> None:
        sm = self.sm
        vc = self.vc
        if sm is not None and kind == "idle":
            if not sm.waits_for_client:
                # Whoever is waited for has timers of its own.
                vc.idle_limit = self._proxy.body_idle
                vc.tcp.active = vc.handler.now
                return
            sm.client_stands_still()
            return
        if kind == "deadline" and not self._closing and bytes(self._buffer).strip(b"\r\n"):
            late = MessageError("the request head did not come in time", where="request", status=408)
            self._refuse(late, bytes(self._buffer))
            return
        vc.close()

    def readConnectionLost(self) -> None:
        sm = self.sm
        if sm is not None:
            sm.client_ended()
            return
        if self._awaited:
            return  # what it sent before it finished is still to be answered
        if bytes(self._buffer).strip(b"\r\n"):
            self.facts.error = MessageError("the client closed in the middle of a request head", where="request")
        self.vc.close()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        sm, self.sm = self.sm, None
        if sm is not None:
            sm.client_lost(self.vc.error)
        if self.identity:
            self._proxy.pool.forget(self.identity)
