"""The cache where things go wrong at once, or are made to: nothing may mix up clients, or stay behind."""

from __future__ import annotations

import pytest

from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from tests.http.test_cache import (
    CACHE,
    FRESH,
    GET,
    ask,
    cache,
    forget_memory,
    ok,
    serve,
)
from tests.sequences.support import responses


@pytest.fixture
def gateway(loop: Loop) -> MemoryGateway:
    return MemoryGateway(loop, CACHE)


# requests that must stay whole


def test_the_content_of_a_get_is_not_its_next_request(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    client = gateway.client()
    content = b"GET http://origin.test/smuggled HTTP/1.1\r\nHost: origin.test\r\n\r\n"
    client.send(GET[:-2] + b"Content-Length: %d\r\n\r\n" % len(content))
    gateway.pump()
    client.send(content)
    gateway.pump()
    gateway.store.release()
    gateway.pump()
    assert len(responses(client.take())) == 1
    assert script.bodies[1:] == [content]


# what was decided once


def test_it_is_not_decided_once_for_all_beside_an_alternate_that_varies(gateway: MemoryGateway) -> None:
    def answer(head: bytes, body: bytes) -> bytes:
        return ok(FRESH, "Vary: X", body=b"one") if b"\r\nX: 1" in head else ok(FRESH, body=b"other")

    serve(gateway, answer)
    ask(gateway, "X: 1")
    ask(gateway, "X: 2")
    for _ in range(2):
        assert (ask(gateway, "X: 2").body, ask(gateway, "X: 1").body) == (b"other", b"one")


def test_a_clock_that_goes_back_makes_nothing_younger_than_it_came(gateway: MemoryGateway) -> None:
    serve(gateway, ok(FRESH, "Age: 5"))
    for _ in range(3):
        ask(gateway)
    real = cache(gateway).wall_clock
    cache(gateway).wall_clock = lambda: real() - 3600
    assert b"\r\nAge: 5" in ask(gateway).head
