"""
One body from where it comes to where it goes (ATS: HttpTunnel).

A tunnel has at most two producers and four consumers. Consumers are added before the producer starts, so that no byte
passes a late one. A producer feeds its consumers through its chunk action; with one consumer and nothing to change, a
chunk costs L{Producer.receive} and the consumer's C{write}. A consumer that wants content gets it without framing,
whatever the others get. Each consumer stops the producer above its own high water mark; the producer goes on when none
of them holds it. At the end the producer's handler runs first, then the consumers learn of the end, and C{done} is
called exactly once, when nothing is alive.

A consumer that breaks leaves alone. The producer goes on while one is left that sustains it (ATS: background fill, a
cache writer that goes on when the client has left); with none it is stopped, and who is still there learns that the
body is not whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Protocol, TypeAlias

from sslintercept.errors import LostError, MessageError, ResponseError
from sslintercept.facts import CHUNKED, UNTIL_CLOSE
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.chunk import LAST, ChunkDecoder, ChunkVerifier, encode

MOST_PRODUCERS = 2
MOST_CONSUMERS = 4


class ChunkAction(Enum):
    """What happens to the framing of a body on its way (ats-design 5.4)."""

    CHUNK = "identity in, chunked out"
    DECHUNK = "chunked in, identity out"
    PASSTHRU_CHUNKED = "chunked in, the same bytes out, verified"
    PASSTHRU_DECHUNKED = "identity in, identity out"


def action_for(length: int, chunked_out: bool) -> ChunkAction:
    """The action for a body that comes with C{length} and goes out chunked or not."""
    if length == CHUNKED:
        return ChunkAction.PASSTHRU_CHUNKED if chunked_out else ChunkAction.DECHUNK
    return ChunkAction.CHUNK if chunked_out else ChunkAction.PASSTHRU_DECHUNKED


Ended: TypeAlias = Callable[[Exception | None], object]
"""hears how a body ended: whole, or why not"""


class Source(Protocol):
    """Where a body comes from: an IPushProducer."""

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def stopProducing(self) -> None: ...


class Sink(Protocol):
    """Where a body goes: an IConsumer."""

    @property
    def write(self) -> Callable[[Bytes], object]: ...
    def registerProducer(self, producer: Source, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...


class Consumer:
    """
    One way out.

    @ivar alive: whether it still takes bytes.
    @ivar content: it gets the body without framing.
    @ivar sustains: the producer goes on for its sake, when all others have left.
    """

    __slots__ = ("_ended", "_held", "alive", "content", "name", "producer", "sink", "sustains")

    def __init__(
        self, name: str, sink: Sink, producer: Producer, content: bool, sustains: bool, ended: Ended | None
    ) -> None:
        self.name = name
        self.sink = sink
        self.producer = producer
        self.content = content
        self.sustains = sustains
        self.alive = True
        self._ended = ended
        self._held = False

    def pauseProducing(self) -> None:
        """The sink is above its high water mark."""
        if not self._held:
            self._held = True
            self.producer.hold()

    def resumeProducing(self) -> None:
        """The sink is below its low water mark."""
        if self._held:
            self._held = False
            self.producer.let_go()

    def stopProducing(self) -> None:
        """The sink is gone."""
        self.producer.tunnel.consumer_gone(self)

    def detach(self) -> None:
        """Take nothing more, although the body is fine (ATS: CONSUMER_DETACH)."""
        if self.alive:
            self._ended = None
            self.leave()
            self.producer.tunnel.consumer_left(self.producer)

    def leave(self, error: Exception | None = None) -> None:
        """
        Take nothing more.

        @param error: why the body is not whole, if it is not.
        """
        if self.alive:
            self.alive = False
            self.sink.unregisterProducer()
            self.resumeProducing()
            self.tell(error)

    def tell(self, error: Exception | None) -> None:
        """Say once how the body ended."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)


class Producer:
    """
    One way in.

    @ivar name: who sends: C{client}, or else an origin, which is to blame for a response that breaks.
    @ivar length: bytes of the body, C{CHUNKED}, or C{UNTIL_CLOSE}.
    @ivar ndone: bytes of the body taken so far, framing included.
    @ivar complete: called once at the body's proper end with the bytes that came behind it.
    @ivar failed: called once when the body cannot be completed, with the reason.
    @ivar abandoned: called once when the last consumer broke; with C{None} the source is stopped, which closes it.
    """

    __slots__ = (
        "_contents",
        "_decoder",
        "_error",
        "_holds",
        "_verifier",
        "abandoned",
        "action",
        "alive",
        "complete",
        "consumers",
        "failed",
        "length",
        "name",
        "ndone",
        "source",
        "tunnel",
    )

    def __init__(
        self,
        tunnel: HttpTunnel,
        name: str,
        source: Source,
        length: int,
        action: ChunkAction,
        complete: Callable[[bytes], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self.tunnel = tunnel
        self.name = name
        self.source = source
        self.length = length
        self.action = action
        self.complete = complete
        self.failed = failed
        self.abandoned: Callable[[], object] | None = None
        self.consumers: list[Consumer] = []
        self.ndone = 0
        self.alive = True
        self._holds = 0
        self._error = MessageError if name == "client" else ResponseError
        self._verifier = ChunkVerifier(self._error) if action is ChunkAction.PASSTHRU_CHUNKED else None
        self._decoder = ChunkDecoder(self._error) if action is ChunkAction.DECHUNK else None
        self._contents = False
        """somebody wants content where others get framing"""

    def receive(self, data: Bytes) -> None:
        """Take what the source brought."""
        if not self.alive:
            return
        size = len(data)
        if self.length >= 0:
            left = self.length - self.ndone
            if size < left:
                self.ndone += size
                self._pass_on(data)
                return
            rest = bytes(data[left:]) if size > left else b""
            self.ndone = self.length
            if left:
                self._pass_on(data[:left] if rest else data)
            self._finish(rest)
        elif self._verifier is not None or self._decoder is not None:
            self._receive_chunks(data, size)
        else:
            self.ndone += size
            self._pass_on(data)

    def _receive_chunks(self, data: Bytes, size: int) -> None:
        pieces: Iterable[Bytes] = ()
        try:
            if self._verifier is not None:
                used = self._verifier.feed(data)
                ended = self._verifier.done
                if used:
                    self._write(data[:used] if used < size else data, False)
                if self._decoder is not None:
                    pieces, _ = self._decoder.feed(data)
            else:
                assert self._decoder is not None
                pieces, used = self._decoder.feed(data)
                ended = self._decoder.done
        except MessageError as error:
            self.fail(error)
            return
        for piece in pieces:
            if self._verifier is not None:
                self._write(piece, True)
            else:
                self._pass_on(piece)
        self.ndone += used
        if ended:
            self._finish(bytes(data[used:]) if used < size else b"")

    def _pass_on(self, data: Bytes) -> None:
        if self.action is ChunkAction.CHUNK:
            if data:
                self._write(b"".join(encode(data)), False)
                if self._contents:
                    self._write(data, True)
            return
        for consumer in self.consumers:
            if consumer.alive:
                consumer.sink.write(data)

    def _write(self, data: Bytes, content: bool) -> None:
        """Give bytes to those that get framing, or to those that do not."""
        for consumer in self.consumers:
            if consumer.alive and consumer.content is content:
                consumer.sink.write(data)

    def add(self, consumer: Consumer) -> None:
        """One more that gets the body from its beginning."""
        self.consumers.append(consumer)
        if consumer.content and not self._contents:
            self._contents = True
            if self._verifier is not None:
                self._decoder = ChunkDecoder(self._error)

    def end(self, truncated: bool) -> None:
        """The source has no more: the end of a body that only the close delimits, else a failure."""
        if not self.alive:
            return
        if self.length == self.ndone or (self.length == UNTIL_CLOSE and not truncated):
            self._finish(b"")
        else:
            self.fail(
                self._error("the body ended early", where=self.name, remedy="what had come was passed on", status=502)
            )

    def _finish(self, rest: bytes) -> None:
        self.give_back()
        # The owner first: it may still change what the consumers are told (ATS: local_finish_all).
        self.complete(rest)
        for consumer in self.consumers:
            if consumer.alive:
                if self.action is ChunkAction.CHUNK and not consumer.content:
                    consumer.sink.write(LAST)
                consumer.leave()
        self.tunnel.check()

    def fail(self, error: Exception) -> None:
        """Stop; the consumers are left with what they got."""
        if self.alive:
            self.give_back()
            for consumer in self.consumers:
                consumer.leave(error)
            self.failed(error)
            self.tunnel.check()

    def hold(self) -> None:
        """One consumer more cannot take bytes."""
        self._holds += 1
        if self._holds == 1:
            self.source.pauseProducing()

    def let_go(self) -> None:
        """One consumer fewer holds the source."""
        if self._holds:
            self._holds -= 1
            if not self._holds:
                self.source.resumeProducing()

    def give_back(self) -> None:
        """Whoever owns the source now finds it reading, and nobody of ours stops or starts it any more."""
        self.alive = False
        if self._holds:
            self._holds = 0
            self.source.resumeProducing()

    def abandon(self) -> None:
        """Nobody is left for whose sake the body is worth having."""
        self.give_back()
        for consumer in self.consumers:
            if consumer.alive:
                consumer.leave(LostError("nobody waits for it any more", where=self.name, remedy="it is not whole"))
        if self.abandoned is None:
            self.source.stopProducing()
        else:
            self.abandoned()


class HttpTunnel:
    """
    The producers and consumers of one transaction.

    @param done: called once when nothing is alive any more.
    """

    __slots__ = ("_done", "consumers", "producers")

    def __init__(self, done: Callable[[], object] = lambda: None) -> None:
        self._done: Callable[[], object] | None = done
        self.producers: list[Producer] = []
        self.consumers: list[Consumer] = []

    def produce(
        self,
        name: str,
        source: Source,
        length: int,
        *,
        chunked_out: bool,
        complete: Callable[[bytes], object] = lambda rest: None,
        failed: Callable[[Exception], object] = lambda error: None,
        abandoned: Callable[[], object] | None = None,
    ) -> Producer:
        """
        Add a way in.

        @raise ValueError: there are two already.
        """
        if len(self.producers) >= MOST_PRODUCERS:
            raise ValueError(f"a tunnel has at most {MOST_PRODUCERS} producers; {name} was refused")
        producer = Producer(self, name, source, length, action_for(length, chunked_out), complete, failed)
        producer.abandoned = abandoned
        self.producers.append(producer)
        return producer

    def consume(
        self,
        name: str,
        sink: Sink,
        producer: Producer,
        *,
        content: bool = False,
        sustains: bool = True,
        ended: Ended | None = None,
    ) -> Consumer:
        """
        Add a way out of C{producer}.

        @param content: it wants the body without framing: a cache writer, a mirror.
        @param sustains: the body is worth having for its sake alone.
        @param ended: hears once how the body ended, behind the producer's own handler; not after L{Consumer.detach}.
        @raise ValueError: there are four already, or the producer has begun or ended.
        """
        if len(self.consumers) >= MOST_CONSUMERS:
            raise ValueError(f"a tunnel has at most {MOST_CONSUMERS} consumers; {name} was refused")
        if not producer.alive or producer.ndone:
            raise ValueError(f"{name} comes too late: {producer.name} has begun")
        consumer = Consumer(name, sink, producer, content, sustains, ended)
        self.consumers.append(consumer)
        producer.add(consumer)
        sink.registerProducer(consumer, True)
        return consumer

    def consumer_gone(self, consumer: Consumer) -> None:
        """A sink broke: with nobody left for its sake its producer is stopped (ATS: chain_abort_all)."""
        if not consumer.alive:
            return
        consumer.alive = False
        consumer.resumeProducing()
        consumer.tell(LostError("it takes no more", where=consumer.name, remedy="the others go on"))
        self.consumer_left(consumer.producer)

    def consumer_left(self, producer: Producer) -> None:
        """There is one consumer fewer."""
        if producer.alive and not any(other.alive and other.sustains for other in producer.consumers):
            producer.abandon()
        self.check()

    def check(self) -> None:
        """Tell the owner when nothing is alive."""
        alive = any(p.alive for p in self.producers) or any(c.alive for c in self.consumers)
        if self._done is not None and not alive:
            done, self._done = self._done, None
            done()

    def stop(self) -> None:
        """Let go of everything without a word to the owner; consumers still there learn that the body is not whole."""
        self._done = None
        for producer in self.producers:
            producer.give_back()
        for consumer in self.consumers:
            if consumer.alive:
                consumer.leave(LostError("it was stopped", where=consumer.name, remedy="it is not whole"))
