"""
The rest of an answer whose beginning came from the cache and whose content is damaged further on.

The origin is asked for the bytes that are left, and only if they are of the same representation (RFC 9110 13.1.5, RFC
9111 3.4): a strong entity tag says so. So a disk that loses what it had loses no client's request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sslintercept.cache.message import Span, Stored
from sslintercept.cache.span import belongs, extent
from sslintercept.errors import CacheError, InterceptError
from sslintercept.facts import ResponseHead
from sslintercept.http.alone import Alone, answer_of
from sslintercept.http.origin import OriginSession
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.tunnel import HttpTunnel, Producer, Source

if TYPE_CHECKING:
    from sslintercept.http.sm import HttpSM


def may_fetch(stored: Stored) -> bool:
    """Whether the rest of what is *stored* can be had from the origin."""
    tag = stored.response.etag
    return tag is not None and not tag.weak and stored.response.status == 200


class Remainder(Alone):
    """
    A push producer of the bytes in *span*.

    @param receive: takes them; C{ended}: hears once that they were all, or what went wrong.
    """

    def __init__(
        self,
        sm: HttpSM,
        stored: Stored,
        span: Span,
        now: float,
        *,
        receive: Callable[[Bytes], object],
        ended: Callable[[InterceptError | None], object],
    ) -> None:
        super().__init__(sm)
        self._stored, self._span, self._now = stored, span, now
        self.write, self._ended = receive, ended
        self._producer: Producer | None = None
        self._paused = False
        tag = stored.response.etag
        assert tag is not None
        self.head.fields += [
            (b"Range", b"bytes=%d-%d" % (span.first, span.end - 1)),
            (b"If-Range", bytes(tag)),
        ]

    def response(self, head: ResponseHead, rest: bytes) -> None:
        """If it is the rest, let it come."""
        response = answer_of(head, self.method, self._now, self._now)
        came = extent(response)
        if came is None or came.span != self._span or not belongs(self._stored, response):
            origin = self.leave()
            assert origin is not None
            origin.cut()
            self.lost(None)
            return
        origin = self.origin
        assert origin is not None
        self._producer = origin.body = producer = HttpTunnel().produce(
            "server",
            origin.vc,
            head.length,
            chunked_out=False,
            complete=lambda behind: self._complete(origin, behind, not head.close),
            failed=self._failed,
            abandoned=self.stopProducing,
        )
        consumer = producer.tunnel.consume("client", self, producer, content=True)
        if self._paused:
            consumer.pauseProducing()
        self._consumer = consumer
        self._proxy.carry_body(origin)
        origin.bring(rest)

    def _complete(self, origin: OriginSession, behind: bytes, keep: bool) -> None:
        self.leave()
        origin.release(keep, behind)
        self._ended(None)

    def _failed(self, error: Exception) -> None:
        if (origin := self.leave()) is not None:
            origin.cut()
        self.lost(error if isinstance(error, InterceptError) else None)

    def lost(self, error: InterceptError | None) -> None:
        """The rest cannot be had."""
        self._ended(error or CacheError("the rest is not what was stored", where="cache", remedy="ask again"))

    # a consumer of what the origin sends

    def registerProducer(self, producer: Source, streaming: bool) -> None:
        """Back-pressure goes by L{pauseProducing}."""

    def unregisterProducer(self) -> None:
        """See L{registerProducer}."""

    # a producer

    def pauseProducing(self) -> None:
        """Give nothing."""
        self._paused = True
        if self._producer is not None:
            self._consumer.pauseProducing()

    def resumeProducing(self) -> None:
        """Give more."""
        self._paused = False
        if self._producer is not None:
            self._consumer.resumeProducing()

    def stopProducing(self) -> None:
        """Nobody takes it any more."""
        if not self.over and (origin := self.leave()) is not None:
            if self._producer is not None:
                self._producer.tunnel.stop()
            origin.cut()
        self.over = True
