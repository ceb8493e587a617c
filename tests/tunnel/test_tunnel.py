"""HttpTunnel: framing byte-exact, back-pressure of every consumer, and ends in the right order, once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from sslintercept.errors import MessageError
from sslintercept.facts import CHUNKED, UNTIL_CLOSE, Side
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.profile import Bytes
from sslintercept.testing.loop import Loop
from sslintercept.tunnel.tunnel import (
    MOST_CONSUMERS,
    MOST_PRODUCERS,
    ChunkAction,
    HttpTunnel,
    Producer,
    Source,
    action_for,
)
from tests.support import Listening, read_all


class From:
    """A source that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


class To:
    """A sink that keeps what it gets and counts like a connection of 64/32 KiB."""

    high, low = 64 * 1024, 32 * 1024

    def __init__(self, order: list[str] | None = None, stalled: bool = False) -> None:
        self.got = bytearray()
        self.waiting = 0
        self.most = 0
        self.stalled = stalled
        self.order = order if order is not None else []
        self.producer: Source | None = None
        self.paused = False
        self.on_write: Callable[[], object] = lambda: None

    def write(self, data: Bytes) -> None:
        self.got += data
        self.order.append("write")
        if self.stalled:
            self.waiting += len(data)
            self.most = max(self.most, self.waiting)
            if self.waiting > self.high and self.producer is not None and not self.paused:
                self.paused = True
                self.producer.pauseProducing()
        self.on_write()

    def take(self, size: int) -> None:
        """The peer takes some of what waits."""
        self.waiting = max(0, self.waiting - size)
        if self.waiting <= self.low and self.paused and self.producer is not None:
            self.paused = False
            self.producer.resumeProducing()

    def registerProducer(self, producer: Source, streaming: bool) -> None:
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.order.append("unregister")
        self.producer = None

    def die(self) -> None:
        """The peer is gone."""
        producer, self.producer = self.producer, None
        assert producer is not None
        producer.stopProducing()


class Heard:
    """What the owner of a producer hears."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.rests: list[bytes] = []
        self.errors: list[Exception] = []
        self.abandoned = 0

    def complete(self, rest: bytes) -> None:
        self.order.append("complete")
        self.rests.append(rest)

    def failed(self, error: Exception) -> None:
        self.order.append("failed")
        self.errors.append(error)

    def done(self) -> None:
        self.order.append("done")


def wired(
    length: int, chunked_out: bool, sinks: int = 1, stalled: bool = False
) -> tuple[HttpTunnel, Producer, From, list[To], Heard]:
    heard = Heard()
    tunnel = HttpTunnel(heard.done)
    source = From()
    producer = tunnel.produce(
        "origin", source, length, chunked_out=chunked_out, complete=heard.complete, failed=heard.failed
    )
    found = [To(heard.order, stalled) for _ in range(sinks)]
    for i, sink in enumerate(found):
        tunnel.consume(f"client {i}", sink, producer)
    return tunnel, producer, source, found, heard


PLAIN = b"The quick brown fox"
CODED = b"4;ext=1\r\nThe \r\n00f\r\nquick brown fox\r\n0\r\nX-Sum: 1\r\n\r\n"
BEHIND = b"HTTP/1.1 200"


@pytest.mark.parametrize("cut", [*range(1, len(CODED) + len(BEHIND))])
@pytest.mark.parametrize(
    ("length", "chunked_out", "action"),
    [
        (CHUNKED, True, ChunkAction.PASSTHRU_CHUNKED),
        (CHUNKED, False, ChunkAction.DECHUNK),
        (len(PLAIN), False, ChunkAction.PASSTHRU_DECHUNKED),
        (len(PLAIN), True, ChunkAction.CHUNK),
    ],
)
def test_all_four_actions_are_byte_exact_at_every_cut(
    length: int, chunked_out: bool, action: ChunkAction, cut: int
) -> None:
    """T5.1: in pieces of every size, so that each line of the coding is split everywhere."""
    assert action_for(length, chunked_out) is action
    _, producer, _, (sink,), heard = wired(length, chunked_out)
    body = CODED if length == CHUNKED else PLAIN
    stream = body + BEHIND
    rest = b""
    for at in range(0, len(stream), cut):
        piece = stream[at : at + cut]
        if producer.alive:
            producer.receive(memoryview(piece))
        else:
            rest += piece
    assert producer.ndone == len(body)
    assert heard.rests[0] + rest == BEHIND
    if action is ChunkAction.PASSTHRU_CHUNKED:
        assert sink.got == CODED
    elif action is ChunkAction.CHUNK:
        _, again, _, (back,), _ = wired(CHUNKED, False)
        again.receive(bytes(sink.got))
        assert not again.alive
        assert back.got == PLAIN
        assert sink.got.endswith(b"0\r\n\r\n")
    else:
        assert sink.got == PLAIN
    assert heard.order[-1] == "done"


def test_a_body_until_the_close_ends_with_it() -> None:
    for chunked_out, expected in ((False, b"until"), (True, b"5\r\nuntil\r\n0\r\n\r\n")):
        _, producer, _, (sink,), heard = wired(UNTIL_CLOSE, chunked_out)
        producer.receive(b"until")
        producer.receive(b"")
        producer.end(truncated=False)
        producer.end(truncated=False)
        assert sink.got == expected
        assert heard.rests == [b""]


@pytest.mark.parametrize(
    ("length", "data", "truncated"),
    [(CHUNKED, b"5\r\nhel", False), (10, b"hel", False), (UNTIL_CLOSE, b"hel", True), (CHUNKED, b"", False)],
)
def test_a_body_that_ends_early_leaves_what_came_and_tells_the_owner_why(
    length: int, data: bytes, truncated: bool
) -> None:
    """T5.2: what came was passed on, nothing says that it is all, and the owner closes both."""
    _, producer, _, (sink,), heard = wired(length, chunked_out=length == CHUNKED)
    producer.receive(data)
    producer.end(truncated)
    producer.receive(b"late")
    assert sink.got == data
    assert isinstance(heard.errors[0], MessageError)
    assert heard.order[-3:] == ["unregister", "failed", "done"]
    assert not producer.alive


@pytest.mark.parametrize("chunked_out", [True, False])
def test_a_broken_chunk_is_a_failure(chunked_out: bool) -> None:
    _, producer, _, (sink,), heard = wired(CHUNKED, chunked_out)
    producer.receive(b"3\r\nabc\r\n")
    producer.receive(b"nonsense\r\n")
    assert isinstance(heard.errors[0], MessageError)
    assert b"abc" in sink.got
    assert heard.order[-1] == "done"


@pytest.mark.parametrize(("name", "side"), [("client", Side.CLIENT), ("server", Side.UPSTREAM)])
def test_a_body_that_breaks_is_the_doing_of_who_sent_it(name: str, side: Side) -> None:
    for chunked_out, data in ((True, b"x"), (False, b"x"), (True, b"5\r\n")):
        errors: list[Exception] = []
        producer = HttpTunnel().produce(name, From(), CHUNKED, chunked_out=chunked_out, failed=errors.append)
        producer.receive(data)
        producer.end(truncated=True)
        assert [error.side for error in errors if isinstance(error, MessageError)] == [side]


def test_the_owner_hears_of_the_end_before_the_consumers_and_done_comes_once() -> None:
    """T5.6"""
    tunnel, producer, _, _, heard = wired(3, True, sinks=2)
    producer.receive(b"abc")
    assert heard.order == ["write", "write", "complete", "write", "unregister", "write", "unregister", "done"]
    tunnel.check()
    tunnel.stop()
    assert heard.order.count("done") == 1


def test_done_waits_for_every_producer() -> None:
    """T5.6"""
    tunnel, producer, _, _, heard = wired(3, False)
    other = tunnel.produce("client", From(), 2, chunked_out=False)
    tunnel.consume("server", To(), other)
    producer.receive(b"abc")
    assert "done" not in heard.order
    other.receive(b"xy")
    assert heard.order[-1] == "done"


def test_a_stalled_client_stops_the_origin_and_memory_stays_bounded() -> None:
    """T5.3: below the high mark and one read; after the client goes on, all of it arrives."""
    total, read = 3_000_000, 65536
    _, producer, source, (sink,), _ = wired(total, False, stalled=True)
    sent = turns = 0
    while sent < total:
        while sent < total and source.events[-1:] != ["pause"]:
            size = min(read, total - sent)
            producer.receive(b"d" * size)
            sent += size
        while source.events[-1:] == ["pause"] and sent < total:
            sink.take(10_000)
            turns += 1
            assert turns < 1000
    assert sink.most <= To.high + read
    assert len(sink.got) == total
    assert source.events.count("pause") > 10


def test_marks_of_one_byte_do_not_dead_lock() -> None:
    """T5.4"""
    _, producer, source, (sink,), heard = wired(100, False, stalled=True)
    sink.high = sink.low = 1
    for _ in range(50):
        producer.receive(b"ab")
        sink.take(2)
    assert source.events == ["pause", "resume"] * 50
    assert heard.rests == [b""]


def test_the_slowest_of_several_consumers_holds_the_source() -> None:
    _, producer, source, sinks, _ = wired(UNTIL_CLOSE, False, sinks=2, stalled=True)
    producer.receive(b"x" * 70_000)
    assert source.events == ["pause"]
    sinks[0].take(70_000)
    assert source.events == ["pause"]
    consumer = producer.consumers[1]
    consumer.pauseProducing()
    sinks[1].take(70_000)
    consumer.resumeProducing()
    assert source.events == ["pause", "resume"]


def test_a_source_is_given_back_reading_before_its_owner_hears_of_the_end() -> None:
    """The owner may pause it for reasons of its own, and nobody of ours may undo that."""
    heard: list[str] = []
    source = From()
    tunnel = HttpTunnel()

    def complete(rest: bytes) -> None:
        heard.extend(source.events)
        source.pauseProducing()

    producer = tunnel.produce("client", source, 100_000, chunked_out=False, complete=complete)
    sink = To(stalled=True)
    tunnel.consume("server", sink, producer)
    producer.receive(b"x" * 100_000)
    assert heard == ["pause", "resume"]
    sink.take(100_000)
    assert source.events == ["pause", "resume", "pause"]


def test_a_client_that_goes_stops_the_origin() -> None:
    """T5.5, no other consumer"""
    _, producer, source, (sink,), heard = wired(100, False)
    producer.receive(b"x")
    sink.die()
    assert source.events == ["stop"]
    assert not producer.alive
    producer.receive(b"y")
    assert sink.got == b"x"
    assert heard.order == ["write", "done"]


def test_a_client_that_goes_leaves_the_origin_to_the_others() -> None:
    """T5.5, with another consumer, for example one that fills a cache"""
    _, producer, source, sinks, heard = wired(4, False, sinks=2, stalled=True)
    sinks[0].high = 0
    producer.receive(b"ab")
    assert source.events == ["pause"]
    gone = producer.consumers[0]
    sinks[0].die()
    gone.stopProducing()
    gone.leave()
    assert source.events == ["pause", "resume"]
    producer.receive(b"cd")
    assert (bytes(sinks[0].got), bytes(sinks[1].got)) == (b"ab", b"abcd")
    assert heard.rests == [b""]
    assert heard.order.count("done") == 1


def test_an_owner_may_keep_a_source_whose_consumers_are_gone() -> None:
    """An origin that dies in the middle of an upload is answered for; the client must not be closed over it."""
    source, asked = From(), []
    tunnel = HttpTunnel()
    producer = tunnel.produce("client", source, 100, chunked_out=False, abandoned=lambda: asked.append("abandoned"))
    sink = To(stalled=True)
    sink.high = 0
    tunnel.consume("server", sink, producer)
    producer.receive(b"up")
    sink.die()
    assert asked == ["abandoned"]
    assert source.events == ["pause", "resume"]
    assert not producer.alive


def test_a_consumer_that_goes_within_a_write_gets_no_more() -> None:
    """T2.5"""
    _, producer, source, sinks, heard = wired(CHUNKED, False, sinks=2)
    sinks[0].on_write = sinks[0].die
    producer.receive(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    assert (bytes(sinks[0].got), bytes(sinks[1].got)) == (b"a", b"ab")
    assert source.events == []
    assert heard.rests == [b""]


def test_a_tunnel_that_is_stopped_lets_go_of_everything_without_a_word() -> None:
    tunnel, producer, source, (sink,), heard = wired(1_000_000, False, stalled=True)
    producer.receive(b"x" * 100_000)
    tunnel.stop()
    tunnel.stop()
    assert source.events == ["pause", "resume"]
    assert sink.producer is None
    producer.receive(b"late")
    producer.fail(ValueError("late"))
    producer.end(truncated=True)
    assert heard.order == ["write", "unregister"]


def test_the_owner_may_stop_the_tunnel_when_it_hears_of_the_end() -> None:
    tunnel = HttpTunnel()
    sink = To()
    producer = tunnel.produce("origin", From(), 2, chunked_out=True, complete=lambda rest: tunnel.stop())
    tunnel.consume("client", sink, producer)
    producer.receive(b"ab")
    assert sink.producer is None


def test_the_third_producer_and_the_fifth_consumer_are_refused_loudly() -> None:
    """T5.8"""
    tunnel = HttpTunnel()
    producers = [tunnel.produce(f"p{i}", From(), 1, chunked_out=False) for i in range(MOST_PRODUCERS)]
    with pytest.raises(ValueError, match="at most 2 producers"):
        tunnel.produce("p2", From(), 1, chunked_out=False)
    for i in range(MOST_CONSUMERS):
        tunnel.consume(f"c{i}", To(), producers[0])
    with pytest.raises(ValueError, match="at most 4 consumers"):
        tunnel.consume("c4", To(), producers[1])


def test_a_consumer_that_comes_late_is_refused() -> None:
    tunnel, producer, _, _, _ = wired(10, False)
    producer.receive(b"x")
    with pytest.raises(ValueError, match="too late"):
        tunnel.consume("late", To(), producer)
    producer.fail(ValueError("x"))
    with pytest.raises(ValueError, match="too late"):
        tunnel.consume("later", To(), producer)


def test_between_real_connections_everything_arrives(loop: Loop) -> None:
    """T5.3, T2.3: with the marks of a connection, and a client that reads slowly."""
    origin, sender = loop.pair(buffer=65536)
    client, reader = loop.pair(buffer=8192)
    size = 2_000_000
    tunnel = HttpTunnel()
    done: list[bytes] = []
    producer = tunnel.produce("origin", origin, size, chunked_out=False, complete=done.append)
    tunnel.consume("client", client, producer)
    origin.read_to(producer.receive)
    client.attach(Listening())
    data = memoryview(b"0123456789" * (size // 10))
    got, most = bytearray(), 0
    while len(got) < size:
        with suppress(BlockingIOError):
            data = data[sender.send(data[:50_000]) :]
        loop.turn()
        most = max(most, client.pending())
        got += read_all(reader)
    assert got == b"0123456789" * (size // 10)
    assert done == [b""]
    assert most <= client.high_water + 256 * 1024
    for vc in (origin, client):
        assert isinstance(vc, NetVConnection)
        vc.abort()
