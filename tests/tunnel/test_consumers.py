"""Several consumers of one body: each its own framing, pace and end, and who keeps the source."""

from __future__ import annotations

import pytest

from sslintercept.facts import CHUNKED
from sslintercept.tunnel.tunnel import Ended, HttpTunnel, Producer
from tests.tunnel.test_tunnel import CODED, PLAIN, From, Heard, To


class Split:
    """A producer with a client and a cache writer, which wants content."""

    def __init__(self, length: int = len(PLAIN), *, chunked_out: bool = False, fill: bool = False) -> None:
        self.heard = Heard()
        self.ends: list[Exception | None] = []
        self.source = From()
        self.tunnel = HttpTunnel(self.heard.done)
        self.producer: Producer = self.tunnel.produce(
            "server",
            self.source,
            length,
            chunked_out=chunked_out,
            complete=self.heard.complete,
            failed=self.heard.failed,
        )
        self.client, self.cache = To(self.heard.order), To()
        self.tunnel.consume("client", self.client, self.producer)
        ended: Ended = self._ended
        self.writer = self.tunnel.consume("cache", self.cache, self.producer, content=True, sustains=fill, ended=ended)

    def _ended(self, error: Exception | None) -> None:
        self.heard.order.append("cache ended")
        self.ends.append(error)


@pytest.mark.parametrize("cut", range(1, len(CODED)))
@pytest.mark.parametrize(("length", "chunked_out"), [(CHUNKED, True), (CHUNKED, False), (19, False), (19, True)])
def test_a_cache_writer_gets_content_whatever_the_client_gets(length: int, chunked_out: bool, cut: int) -> None:
    """T5.1, for several consumers"""
    split = Split(length, chunked_out=chunked_out)
    body = CODED if length == CHUNKED else PLAIN
    for at in range(0, len(body), cut):
        split.producer.receive(memoryview(body[at : at + cut]))
    assert split.cache.got == PLAIN
    if length == CHUNKED:
        assert split.client.got == (CODED if chunked_out else PLAIN)
    elif chunked_out:
        assert split.client.got.endswith(b"\r\n0\r\n\r\n")
    else:
        assert split.client.got == PLAIN
    assert split.ends == [None]
    assert split.heard.order.index("complete") < split.heard.order.index("cache ended")
    assert split.heard.order[-1] == "done"


def test_of_a_body_that_breaks_the_cache_writer_learns_that_it_is_not_whole() -> None:
    """T5.2"""
    split = Split(CHUNKED, chunked_out=True)
    split.producer.receive(b"5\r\nhel")
    split.producer.end(truncated=True)
    assert (bytes(split.client.got), bytes(split.cache.got)) == (b"5\r\nhel", b"hel")
    assert split.ends == split.heard.errors
    assert split.ends != [None]


def test_the_slower_one_holds_the_source_and_each_has_its_own_marks() -> None:
    """T5.3"""
    split = Split(1_000_000)
    split.cache.stalled = True
    sent = 0
    while split.source.events.count("pause") == split.source.events.count("resume"):
        split.producer.receive(bytes(4096))
        sent += 4096
    assert split.cache.most == sent < split.cache.high + 2 * 4096
    assert split.client.waiting == 0
    split.cache.take(sent)
    assert split.source.events == ["pause", "resume"]


@pytest.mark.parametrize("fill", [True, False])
def test_a_client_that_goes_stops_the_source_unless_the_background_is_filled(fill: bool) -> None:
    """T5.5"""
    split = Split(10, fill=fill)
    split.producer.receive(b"12345")
    split.client.die()
    assert split.source.events == ([] if fill else ["stop"])
    split.producer.receive(b"67890")
    assert bytes(split.cache.got) == (b"1234567890" if fill else b"12345")
    assert [error is None for error in split.ends] == [fill]
    assert split.heard.order.count("done") == 1


def test_a_cache_writer_that_breaks_leaves_alone() -> None:
    split = Split(10, fill=True)
    split.producer.receive(b"12345")
    split.cache.die()
    split.producer.receive(b"67890")
    assert split.client.got == b"1234567890"
    assert [error is None for error in split.ends] == [False]
    assert split.source.events == []


def test_who_is_detached_hears_nothing_more_and_holds_nobody() -> None:
    split = Split(10)
    split.cache.stalled, split.cache.high = True, 0
    split.producer.receive(b"12345")
    assert split.source.events == ["pause"]
    split.writer.detach()
    split.writer.detach()
    split.producer.receive(b"67890")
    assert (bytes(split.client.got), bytes(split.cache.got)) == (b"1234567890", b"12345")
    assert split.ends == []
    assert split.source.events == ["pause", "resume"]


def test_the_last_one_that_is_detached_stops_the_source() -> None:
    source = From()
    tunnel = HttpTunnel()
    producer = tunnel.produce("server", source, 10, chunked_out=False)
    consumer = tunnel.consume("transform", To(), producer)
    producer.receive(b"12345")
    consumer.detach()
    assert source.events == ["stop"]


def test_a_tunnel_that_is_stopped_tells_the_cache_writer() -> None:
    split = Split(10, fill=True)
    split.producer.receive(b"12345")
    split.tunnel.stop()
    split.tunnel.stop()
    assert [error is None for error in split.ends] == [False]
    assert "done" not in split.heard.order
