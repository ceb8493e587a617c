"""A client that hesitates in a tunnel, while another connection to the origin is kept."""

from __future__ import annotations

import pytest

from sslintercept.testing.gateway import Answers, MemoryGateway
from sslintercept.testing.loop import Loop
from tests.sequences.support import connected, get, intercepted

BODY = b"x" * 300_000
WHERE = "origin.test:4443"


@pytest.mark.parametrize(("before", "inside"), [(0.0, 0.0), (2.0, 0.0), (0.0, 2.0), (2.0, 2.0)])
@pytest.mark.parametrize("order", ["client-first", "adaptive", "server-first"])
def test_a_client_that_hesitates_gets_its_answer_by_a_kept_connection(
    loop: Loop, order: str, before: float, inside: float
) -> None:
    """The server that might have greeted it is heard no more once it has asked for something."""
    gateway = MemoryGateway(loop, f"[upstream-tls]\nhandshake_order = {order}\n")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    gateway.origin(WHERE, Answers(answer), tls=gateway.leaf("origin.test"))
    first = intercepted(gateway, WHERE)
    assert get(gateway, first, host=WHERE).body == BODY
    clients = [first]
    for _ in range(2):
        client = connected(gateway, WHERE)
        clients.append(client)
        loop.pass_time(before)
        client.start_tls("origin.test", alpn=(b"http/1.1",))
        gateway.pump()
        loop.pass_time(inside)
        gateway.pump()
        for _ in range(3):
            assert get(gateway, client, host=WHERE).body == BODY
    for client in clients:
        client.close()
    gateway.pump()
