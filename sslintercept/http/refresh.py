"""
What is fetched for the cache's sake alone.

L{Fill} lets a response come to its end whose client has left (ATS: background fill). L{Refresh} asks the origin about
what was served although it is stale (RFC 5861 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sslintercept.cache.decide import Then, after, conditional
from sslintercept.cache.message import Stored, asked
from sslintercept.cache.resource import freshened
from sslintercept.cache.writing import Coming, Writing
from sslintercept.errors import InterceptError, LostError
from sslintercept.facts import ResponseHead
from sslintercept.http.alone import Alone, answer_of, may_store, pinned_until
from sslintercept.http.origin import OriginSession
from sslintercept.tunnel.tunnel import HttpTunnel, Producer

if TYPE_CHECKING:
    from sslintercept.http.cache import HttpCache
    from sslintercept.http.sm import HttpSM

MOST_REFRESHED = 256
"""responses that are validated in the background at the same time"""


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
        self._origin.cut()

    def _cut(self) -> None:
        self._origin.cut()


class Refresh(Alone):
    """Validates what was *found*, and has answered the request of C{sm}."""

    def __init__(self, sm: HttpSM, cache: HttpCache, uri: bytes, found: Sequence[Stored]) -> None:
        super().__init__(sm)
        self._cache, self._uri, self._found = cache, uri, found
        self._request = asked(self.head)
        self._decision = sm.decision
        self._begun = cache.processor.wall_clock()
        self.head.fields += conditional(self._request, found).fields

    @classmethod
    def begin(cls, sm: HttpSM, cache: HttpCache, uri: bytes, found: Sequence[Stored]) -> None:
        """Ask, unless somebody does already."""
        refreshing = cache.processor.refreshing
        if uri not in refreshing and len(refreshing) < MOST_REFRESHED and sm.method == b"GET":
            refreshing.add(uri)
            cls(sm, cache, uri, found).ask()

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
        self.leave()
        self._end()
        if 0 <= head.length <= len(rest):
            if writing is not None:
                writing.write(rest[: head.length])
                writing.ended(None)
            origin.release(keep=not head.close, rest=rest[head.length :])
        elif writing is None:
            origin.cut()
        else:
            origin.body = producer = HttpTunnel().produce("server", origin.vc, head.length, chunked_out=False)
            Fill(origin, producer, keep=not head.close)
            producer.tunnel.consume("cache", writing, producer, content=True, ended=writing.ended)
            self._proxy.carry_body(origin)
            origin.bring(rest)

    def lost(self, error: InterceptError | None) -> None:
        """What is stored stays as stale as it is."""
        self._end()

    def _end(self) -> None:
        self._cache.processor.refreshing.discard(self._uri)
