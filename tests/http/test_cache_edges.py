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
