"""
An answer from the cache on its way to the client: a producer of content, where a server connection would have been one.

The head goes when the first of the content is there, so that a disk which fails costs nothing yet: whoever asked is
told, and goes another way. Small content that is in memory leaves with the head in one write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sslintercept.cache.message import Span, Stored
from sslintercept.cache.processor import CacheProcessor
from sslintercept.cache.reading import Reading
from sslintercept.cache.resource import Alternate
from sslintercept.cache.writing import Writing
from sslintercept.errors import InterceptError
from sslintercept.facts import UNTIL_CLOSE, ResponseHead
from sslintercept.http.remainder import Remainder, may_fetch
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.tunnel import Producer, Source

if TYPE_CHECKING:
    from sslintercept.http.sm import HttpSM


class Hit:
    """
    @param span: the bytes to give; C{None}: no content. An end below 0: all, however much that will be.
    @param lost: the content is not there. Said before anything was sent, somebody else has to answer.
    @param over: all was given; with the count of bytes, and whether the disk was asked.
    """

    def __init__(
        self,
        sm: HttpSM,
        processor: CacheProcessor,
        stored: Stored,
        content: Alternate | Writing,
        span: Span | None,
        *,
        lost: Callable[[bool], object],
        over: Callable[[int, bool], object],
    ) -> None:
        self._sm, self._processor = sm, processor
        self._stored, self._content = stored, content
        self._span = Span(0, 0) if span is None else span
        self._lost, self._over = lost, over
        self.length = UNTIL_CLOSE if self._span.end < 0 else self._span.end - self._span.first
        self._reading: Reading | None = None
        self._remainder: Remainder | None = None
        """where the rest comes from, once it turned out that the cache has lost it"""
        self._producer: Producer | None = None

    def begin(self, head: ResponseHead) -> None:
        """Answer."""
        sm, content = self._sm, self._content
        head.length = self.length
        sm.present(head)
        small = isinstance(content, Alternate) and content.content is not None
        if sm.transform is None and (small or not self.length):
            raw = sm.begin_response(self.length)
            if raw is not None:
                body = b""
                if self.length and isinstance(content, Alternate) and content.content is not None:
                    body = content.content[self._span.first : self._span.end]
                sm.send_head(raw + body if body else raw)
                self._over(len(body), False)
                sm.finish()
        elif not self.length:
            self._open()
            if self._producer is not None:
                self._producer.end(truncated=False)
        else:
            self._reading = Reading(self._processor, content, self._span, self._receive, self._ended)
            self._reading.resumeProducing()

    def go_on(self) -> None:
        """Go on with an answer of which the head and the content before the span were sent."""
        self._producer = self._sm.lead_to_client(self, self.length, self._complete)
        self._reading = Reading(self._processor, self._content, self._span, self._receive, self._ended)
        self._reading.resumeProducing()

    def _receive(self, data: Bytes) -> None:
        if self._producer is None:
            self._open()
        if self._producer is not None:
            self._producer.receive(data)

    def _open(self) -> None:
        """The first of the content is there: let it begin on its way, through transforms or straight."""
        sm = self._sm
        if sm.transform is not None and sm.transform.takes_hit(self):
            return
        raw = sm.begin_response(self.length)
        if raw is None:
            self.stopProducing()
            return
        self._producer = sm.lead_to_client(self, self.length, self._complete)
        sm.send_head(raw)

    def lead(self, producer: Producer) -> None:
        """The content goes into a chain of transforms by C{producer}, whose source is this."""
        self._producer = producer

    def came(self, _rest: bytes) -> None:
        """All of the content was given."""
        from_disk = self._reading is not None and self._reading.from_disk
        self._over(self._producer.ndone if self._producer is not None else 0, from_disk)

    def _complete(self, rest: bytes) -> None:
        self.came(rest)
        self._sm.response_sent()

    def _ended(self, error: InterceptError | None) -> None:
        if self._producer is None and error is None:
            self._open()
        producer = self._producer
        if error is not None:
            self._lost(producer is None)
        if producer is None or not producer.alive:
            return
        if error is None:
            producer.end(truncated=False)
        elif self._reading and not self._remainder and self._span.end > 0 and may_fetch(self._stored):
            self._fetch(producer, self._reading)
        else:
            producer.fail(error)

    def _fetch(self, producer: Producer, reading: Reading) -> None:
        """Have the origin send what the cache has lost."""
        self._remainder = remainder = Remainder(
            self._sm,
            self._stored,
            Span(reading.position, self._span.end),
            self._processor.wall_clock(),
            receive=producer.receive,
            ended=self._ended,
        )
        if reading.paused:
            remainder.pauseProducing()
        remainder.ask()

    # the source of a tunnel

    def resumeProducing(self) -> None:
        """Give more."""
        if (source := self._source()) is not None:
            source.resumeProducing()

    def pauseProducing(self) -> None:
        """Give nothing."""
        if (source := self._source()) is not None:
            source.pauseProducing()

    def stopProducing(self) -> None:
        """Nobody takes it any more."""
        if (source := self._source()) is not None:
            source.stopProducing()

    def _source(self) -> Source | None:
        return self._remainder or self._reading
