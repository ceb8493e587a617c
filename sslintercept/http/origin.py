"""
The session on a server connection: writes requests, reads responses, and waits in the pool in between (HTTP/1.1).

Python calls: a response that arrives in one read costs L{OriginSession.dataReceived}, the parser, and the transaction's
C{response}.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import InterceptError, MessageError, TimedOut
from sslintercept.facts import ResponseHead, TlsLeg
from sslintercept.http.head import find_end, read_response
from sslintercept.http.pool import OriginKey, Pool
from sslintercept.net.upstream import Handshake
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.tunnel import Producer

MOST_INFORMATIONAL = 32
"""1xx responses before the final one"""


class Transaction(Protocol):
    """Who asked (L{sslintercept.http.sm.HttpSM})."""

    method: bytes

    def informational(self, head: ResponseHead) -> None: ...
    def response(self, head: ResponseHead, rest: bytes) -> None: ...
    def origin_lost(self, error: Exception | None) -> None: ...


@implementer(IProtocol, IHalfCloseableProtocol)
class OriginSession:
    """
    @ivar key: what this connection may be used for.
    @ivar leg: what TLS with the origin has agreed on, if there is any.
    @ivar uses: requests sent so far.
    @ivar body: the producer of the response body under way.
    @ivar handshake: the TLS handshake under way; its timer runs instead of ours.
    @ivar awaiting: the request is complete and the response's head has not come.
    """

    takes_views = True
    __slots__ = (
        "_head",
        "_informational",
        "_max_header",
        "_pool",
        "_pool_idle",
        "_stands_still",
        "awaiting",
        "body",
        "handshake",
        "key",
        "leg",
        "sm",
        "usable",
        "uses",
        "vc",
    )

    def __init__(
        self, vc: NetVConnection, key: OriginKey, pool: Pool, *, max_header: int, pool_idle: float, body_idle: float
    ) -> None:
        self.vc = vc
        self.key = key
        self.leg: TlsLeg | None = None
        self._pool = pool
        self._pool_idle = pool_idle
        self._max_header = max_header
        self._stands_still = body_idle
        self._head = bytearray()
        self._informational = 0
        self.sm: Transaction | None = None
        self.body: Producer | None = None
        self.handshake: Handshake | None = None
        self.awaiting = False
        self.usable = True
        self.uses = 0

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def send(self, sm: Transaction, head: bytes) -> None:
        """Send a request head on behalf of C{sm}."""
        self.sm = sm
        self.uses += 1
        self._informational = 0
        self.vc.write(head)

    def dataReceived(self, data: Bytes) -> None:
        sm = self.sm
        if sm is None:
            # Bytes that nobody asked for: whatever they are, they must not become the next answer.
            self._drop()
            return
        if self.body is not None:
            self.body.receive(data)
            return
        if self._head:
            before = len(self._head)
            self._head += data
            if len(self._head) <= self._max_header and find_end(self._head, max(before - 3, 0)) < 0:
                return
            raw = bytes(self._head)
            self._head.clear()
        else:
            raw = bytes(data)
        self._read_heads(sm, raw)

    def _read_heads(self, sm: Transaction, raw: bytes) -> None:
        """Hand over the heads in C{raw}; one that is not whole is kept until there is more."""
        while True:
            end = find_end(raw)
            if end < 0 or end > self._max_header:
                if len(raw) > self._max_header:
                    self.fail(
                        MessageError("the response head is too large", where=str(self.key.destination), status=502)
                    )
                else:
                    self._head += raw
                return
            try:
                head = read_response(raw[:end], sm.method)
            except MessageError as error:
                self.fail(error)
                return
            rest = raw[end:]
            if head.status >= 200 or head.status == 101:
                sm.response(head, rest)
                return
            self._informational += 1
            if self._informational > MOST_INFORMATIONAL:
                self.fail(MessageError("too many 1xx responses", where=str(self.key.destination), status=502))
                return
            sm.informational(head)
            if not rest or self.sm is not sm:
                return
            raw = rest

    def fail(self, error: InterceptError) -> None:
        """The origin breaks its protocol."""
        sm, self.sm = self.sm, None
        self.usable = False
        self.vc.abort()
        if sm is not None:
            sm.origin_lost(error)

    def bring(self, rest: bytes) -> None:
        """Let L{body} come, which has begun with *rest*."""
        producer = self.body
        assert producer is not None
        if rest or not producer.length:
            producer.receive(rest)
        if producer.alive and self.vc.ended_by_peer:
            producer.end(self.vc.truncated)

    def cut(self) -> None:
        """What is under way is of no use to anybody."""
        self.sm, self.usable = None, False
        self.vc.abort()

    def release(self, keep: bool, rest: bytes = b"") -> bool:
        """
        The transaction is over; keep the connection if it can serve another one.

        @param rest: bytes behind the response: nobody asked for them, so the connection cannot be trusted.
        @return: whether it went to the pool.
        """
        self.sm = None
        self.body = None
        vc = self.vc
        if not keep or rest or vc.closing or vc.ended_by_peer or not self.usable or not self._pool_idle:
            self.usable = False
            vc.close()
            return False
        vc.deadline = NEVER
        vc.idle_limit = self._pool_idle
        vc.timed_out = self._idle_too_long
        self._pool.put(self)
        return self.usable

    def _idle_too_long(self, kind: str) -> None:
        self._drop()

    def _drop(self) -> None:
        self._pool.remove(self)
        self.retire()

    def retire(self) -> None:
        self.usable = False
        self.vc.close()

    def too_slow(self, kind: str) -> None:
        """The response's head has not come in time, or a body stands still."""
        vc = self.vc
        if kind == "idle" and not (vc.tcp.reading if self.body is not None else vc.pending()):
            # The client is the one who does not take its response, or does not send its body; it has a timer of its
            # own.
            vc.idle_limit = self._stands_still
            vc.tcp.active = vc.handler.now
            return
        sm, self.sm = self.sm, None
        self.usable = False
        self.vc.abort()
        if sm is not None:
            sm.origin_lost(
                TimedOut(
                    "the response did not come in time" if self.body is None else "the response stands still",
                    where=str(self.key.destination),
                    remedy="see [http] response_timeout",
                )
            )

    def readConnectionLost(self) -> None:
        self.usable = False
        if self.sm is None:
            self._drop()
            return
        truncated = self.vc.truncated
        if self.body is not None:
            self.body.end(truncated)
            return
        self._lost(None)

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self.usable = False
        self._pool.remove(self)
        self._lost(self.vc.error)

    def _lost(self, error: Exception | None) -> None:
        sm, self.sm = self.sm, None
        if sm is not None:
            self.vc.close()
            sm.origin_lost(error)
