"""
What is fetched for the cache's sake alone.

L{Fill} lets a response come to its end whose client has left (ATS: background fill). L{Refresh} asks the origin about
what was served although it is stale (RFC 5861 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sslintercept.cache.decide import Then, after, conditional, stored_as
from sslintercept.cache.fresh import Policy
from sslintercept.cache.message import Answered, Asked, Stored, answered, asked
from sslintercept.cache.resource import freshened
from sslintercept.cache.writing import Coming, Writing
from sslintercept.errors import InterceptError, LostError
from sslintercept.facts import Decision, Facts, RequestHead, ResponseHead
from sslintercept.http.fields import host_value
from sslintercept.http.head import has_body, write_request
from sslintercept.http.origin import OriginSession
from sslintercept.tunnel.tunnel import HttpTunnel, Producer

if TYPE_CHECKING:
    from sslintercept.http.cache import HttpCache
    from sslintercept.http.proxy import HttpProxy
    from sslintercept.http.sm import HttpSM


class Fill:
    """
    The owner of a server connection whose response goes on coming for the cache.

    @param keep: the connection may be used again afterwards.
    """

    method = b"GET"

    def __init__(self, origin: OriginSession, producer: Producer, keep: bool) -> None:
        self._origin, self._producer, self._keep = origin, producer, keep
        producer.complete, producer.failed, producer.abandoned = self._complete, self._failed, self._cut
        origin.sm = self

    def informational(self, head: ResponseHead) -> None:
        """Nobody wants to know."""

    def response(self, head: ResponseHead, rest: bytes) -> None:
        """There was one already."""

    def origin_lost(self, error: Exception | None) -> None:
        """It ended early; the tunnel tells the cache."""
        if not isinstance(error, InterceptError):
            error = LostError("the origin closed in the middle of the response", where="cache", remedy="none")
        self._producer.fail(error)

    def _complete(self, rest: bytes) -> None:
        self._origin.release(self._keep, rest)

    def _failed(self, error: Exception) -> None:
        self._cut()

    def _cut(self) -> None:
        self._origin.sm = None
        self._origin.usable = False
        self._origin.vc.abort()


def may_refresh(sm: HttpSM) -> bool:
    """Whether the origin can be asked without the client's connection."""
    scope = sm.session.facts.scope
    return scope is None or (scope.outer is None and not sm.session.identity)


def answer_of(head: ResponseHead, method: bytes, requested: float, received: float) -> Answered:
    """Read a response for the cache, with the length that its framing says."""
    fields = head.read_fields()
    if head.length >= 0 and has_body(head.status, method):
        fields = [*fields, (b"Content-Length", b"%d" % head.length)]
    return answered(head.status, fields, requested, received)


def may_store(response: Answered, request: Asked, origin: OriginSession, policy: Policy) -> Stored | None:
    """
    Give what is stored of a response, if it may be.

    In TLS its origin must have proved who it is. And it must have been asked by the name that the key has: an origin
    may take another spelling of it, which we take for the same, for another host.
    """
    host = host_value(request.authority, request.scheme)
    if any(line.lower() != host for line in request.says(b"host")):
        return None
    if request.method != b"GET" or (origin.key.secure and (origin.leg is None or origin.leg.verified != "ok")):
        return None
    return stored_as(request, response, policy)


def pinned_until(decision: Decision | None, now: float) -> float:
    """Until when a rule wants kept what is stored now; seconds since the epoch, 0 if none does."""
    return now + decision.pin if decision is not None and decision.pin else 0.0


class Refresh:
    """
    A request of our own, which validates what was *found*.

    @ivar over: it has failed, or its body is somebody else's business.
    """

    log = Logger()
    method = b"GET"

    def __init__(
        self, proxy: HttpProxy, cache: HttpCache, uri: bytes, request: Asked, head: RequestHead, facts: Facts
    ) -> None:
        self._proxy, self._cache = proxy, cache
        self._uri, self._request, self._head = uri, request, head
        self.facts = facts
        self._decision: Decision | None = None
        self._found: Sequence[Stored] = ()
        self._begun = cache.processor.wall_clock()
        self.origin: OriginSession | None = None
        self.over = False

    @classmethod
    def begin(cls, sm: HttpSM, cache: HttpCache, request: Asked, found: Sequence[Stored]) -> None:
        """Ask in the background about what has answered the request of C{sm}, unless somebody does already."""
        assert sm.cache is not None
        uri, refreshing = sm.cache.uri, cache.processor.refreshing
        if uri in refreshing or len(refreshing) >= MOST_REFRESHED or request.method != b"GET":
            return
        refreshing.add(uri)
        head, facts = copy(sm.head), copy(sm.session.facts)
        facts.sequence = None
        # Neither the client's own conditions nor a range of its wish are about what is stored.
        left_out = (b"if-none-match", b"if-modified-since", b"range", b"if-range")
        head.fields = [field for field in sm.head.read_fields() if field[0].lower() not in left_out]
        asking = cls(sm.proxy, cache, uri, asked(head), head, facts)
        asking._found, asking._decision = found, sm.decision
        head.fields += conditional(asking._request, found).fields
        key = sm.proxy.key_for(sm.session, sm.head)
        kept = sm.proxy.take_origin(key)
        if kept is not None:
            asking.send(kept)
        else:
            Deferred.fromCoroutine(sm.proxy.open_alone(asking, key)).addErrback(
                lambda failure: asking.origin_lost(failure.value)
            )

    def send(self, origin: OriginSession) -> None:
        """There is a server connection."""
        self.origin = origin
        try:
            raw = write_request(self._head, self._proxy.via)
        except InterceptError as error:
            origin.release(keep=origin.uses > 0)
            self.origin_lost(error)
            return
        origin.send(self, raw)
        self._proxy.await_response(origin)

    def informational(self, head: ResponseHead) -> None:
        """Nobody wants to know."""

    def response(self, head: ResponseHead, rest: bytes) -> None:
        """What the origin says of it."""
        origin, processor, policy = self.origin, self._cache.processor, self._cache.policy
        assert origin is not None
        now = processor.wall_clock()
        response = answer_of(head, self.method, self._begun, now)
        until = pinned_until(self._decision, now)
        then, stored = after(self._request, self._found, response, policy, now)
        writing: Writing | None = None
        if then is Then.FRESHEN:
            processor.change(
                self._uri, lambda before: freshened(before, stored, response, self._request, policy), until
            )
        elif then is Then.PASS and (kept := may_store(response, self._request, origin, policy)) is not None:
            writing = processor.begin(self._uri, Coming(self._request, response, kept, policy, until))
        self._end()
        if 0 <= head.length <= len(rest):
            if writing is not None:
                writing.write(rest[: head.length])
                writing.ended(None)
            origin.release(keep=not head.close, rest=rest[head.length :])
        elif writing is None:
            origin.sm, origin.usable = None, False
            origin.vc.abort()
        else:
            self._store(origin, head, rest, writing)

    def _store(self, origin: OriginSession, head: ResponseHead, rest: bytes, writing: Writing) -> None:
        producer = HttpTunnel().produce("server", origin.vc, head.length, chunked_out=False)
        Fill(origin, producer, keep=not head.close)
        producer.tunnel.consume("cache", writing, producer, content=True, ended=writing.ended)
        origin.body = producer
        self._proxy.carry_body(origin)
        if rest:
            producer.receive(rest)
        if producer.alive and origin.vc.ended_by_peer:
            producer.end(origin.vc.truncated)

    def origin_lost(self, error: BaseException | None) -> None:
        """There is no answer: what is stored stays as stale as it is."""
        if not isinstance(error, InterceptError | None):
            self.log.error("a response could not be validated: {error}", error=repr(error))
        self._end()

    def fail(self, error: InterceptError) -> None:
        """The same."""
        self.origin_lost(error)

    def _end(self) -> None:
        self.over = True
        self.origin = None
        self._cache.processor.refreshing.discard(self._uri)


MOST_REFRESHED = 256
"""responses that are validated in the background at the same time"""
