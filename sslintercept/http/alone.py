"""
Requests of our own, which the cache makes without a client's connection (L{sslintercept.http.refresh},
L{sslintercept.http.remainder}).
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sslintercept.cache.decide import stored_as
from sslintercept.cache.fresh import Policy
from sslintercept.cache.message import Answered, Asked, Stored, answered
from sslintercept.errors import InterceptError
from sslintercept.facts import Decision, RequestHead, ResponseHead
from sslintercept.http.head import has_body, write_request
from sslintercept.http.origin import OriginSession

if TYPE_CHECKING:
    from sslintercept.http.sm import HttpSM

CONDITIONS = frozenset((b"if-none-match", b"if-modified-since"))
RANGES = frozenset((b"range", b"if-range"))
OF_THE_CLIENT = CONDITIONS | RANGES
"""fields by which a client asks for less than what is stored"""


def answer_of(head: ResponseHead, method: bytes, requested: float, received: float) -> Answered:
    """Read a response for the cache, with the length that its framing says."""
    fields = head.read_fields()
    if head.length >= 0 and has_body(head.status, method):
        fields = [*fields, (b"Content-Length", b"%d" % head.length)]
    return answered(head.status, fields, requested, received)


def may_store(response: Answered, request: Asked, origin: OriginSession, policy: Policy) -> Stored | None:
    """Give what is stored of a response, if it may be: in TLS its origin must have proved who it is."""
    if request.method != b"GET" or (origin.key.secure and (origin.leg is None or origin.leg.verified != "ok")):
        return None
    return stored_as(request, response, policy)


def pinned_until(decision: Decision | None, now: float) -> float:
    """Until when a rule wants kept what is stored now; seconds since the epoch, 0 if none does."""
    return now + decision.pin if decision is not None and decision.pin else 0.0


class Alone:
    """
    A request like that of C{sm}, for all of what it asks for.

    @ivar over: it has failed, or its body is somebody else's business.
    """

    log = Logger()
    method = b"GET"

    def __init__(self, sm: HttpSM) -> None:
        self._proxy = sm.proxy
        self._key = sm.proxy.key_for(sm.session, sm.head)
        self.head: RequestHead = copy(sm.head)
        self.head.fields = [f for f in sm.head.read_fields() if f[0].lower() not in OF_THE_CLIENT]
        self.facts = copy(sm.session.facts)
        self.facts.sequence = None
        self.origin: OriginSession | None = None
        self.over = False

    def ask(self) -> None:
        """Find a server connection, and send the request."""
        kept = self._proxy.take_origin(self._key)
        if kept is not None:
            self.send(kept)
        else:
            opening = Deferred.fromCoroutine(self._proxy.open_alone(self, self._key))
            opening.addErrback(lambda failure: self.origin_lost(failure.value))

    def send(self, origin: OriginSession) -> None:
        """There is a server connection."""
        self.origin = origin
        try:
            raw = write_request(self.head, self._proxy.via)
        except InterceptError as error:
            origin.release(keep=origin.uses > 0)
            self.origin_lost(error)
            return
        origin.send(self, raw)
        self._proxy.await_response(origin)

    def informational(self, head: ResponseHead) -> None:
        """Nobody wants to know."""

    def response(self, head: ResponseHead, rest: bytes) -> None:
        """The final head, and what came behind it."""
        raise NotImplementedError

    def lost(self, error: InterceptError | None) -> None:
        """There is no answer."""
        raise NotImplementedError

    def origin_lost(self, error: BaseException | None) -> None:
        """The server connection is gone, or there never was one."""
        if self.over:
            return
        self.leave()
        if not isinstance(error, InterceptError | None):
            self.log.error("a request of the cache failed: {error}", error=repr(error))
            error = None
        self.lost(error)

    def leave(self) -> OriginSession | None:
        """It is over; give the server connection, if there is one, to whoever ends it."""
        self.over = True
        origin, self.origin = self.origin, None
        return origin
