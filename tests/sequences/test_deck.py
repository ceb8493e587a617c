"""The deck's 37 steps as they are recorded, with real TLS on both sides."""

from __future__ import annotations

from pathlib import Path

from sslintercept.log.steps import DECK
from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.sequences.support import CLIENT_FIRST, ESTABLISHED, connected, get, intercepted, responses

PICTURES = Path(__file__).parents[2] / "docs" / "sequences"
BODY = b"Hello from the origin, seen in the clear on its way.\n" * 8000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


def test_one_https_request_takes_the_37_steps_of_the_deck_in_order(loop: Loop) -> None:
    """T4.1"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    gateway.origin("origin.test:443", ANSWER, tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    assert get(gateway, client).body == BODY
    recorded = gateway.sequences[0].names()
    assert [name for name in recorded if name in DECK] == list(DECK)
    assert recorded.count("probed") == 3
    assert recorded.count("http_sm_made") == 2
    assert [verdict.protocol for verdict in gateway.facts[0].verdicts] == ["http/1", "tls", "http/1"]
    assert gateway.facts[0].stack == "tcp/http1/http-connect/tls1.3/http1"
    assert client.names == ["origin.test"]


def test_the_picture_of_it_is_the_one_in_the_documentation(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    gateway.origin("origin.test:443", ANSWER, tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    get(gateway, client)
    client.close()
    gateway.pump()
    drawn = gateway.sequences[0].plantuml()
    assert drawn == (PICTURES / "client-first.puml").read_text(encoding="utf-8")


def test_one_connection_reaches_the_origin_and_its_first_byte_is_a_hello_sent_after_the_request_was_parsed(
    loop: Loop,
) -> None:
    """T4.2"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    assert len(origin.peers) == 1
    assert origin.last.wire == b""
    client.send(b"GET / HTTP/1.1\r\nHost: origin.test\r\n")
    gateway.pump()
    assert origin.last.wire == b""
    client.send(b"\r\n")
    gateway.pump()
    assert len(origin.peers) == 1
    assert gateway.connector.opened == [("origin.test", 443)]
    assert origin.last.wire[:1] == b"\x16"
    assert origin.last.got.startswith(b"GET / HTTP/1.1\r\nHost: origin.test\r\n")
    assert [r.body for r in responses(client.take())] == [b"hello"]


def test_an_origin_that_is_down_is_answered_with_502_and_never_with_200(loop: Loop) -> None:
    """T4.3"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    gateway.origin("origin.test:80")
    client = gateway.client()
    client.send(b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n")
    gateway.pump()
    (answer,) = responses(client.take())
    assert answer.status == 502
    assert b"error=connection_refused" in answer.head
    assert client.ended
    assert "connect_answered" not in gateway.steps()
    assert gateway.transactions()[0]["status"] == 502


def test_a_name_without_address_is_answered_with_502(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    client = gateway.client()
    client.send(b"CONNECT nowhere.test:443 HTTP/1.1\r\nHost: nowhere.test:443\r\n\r\n")
    gateway.pump()
    (answer,) = responses(client.take())
    assert (answer.status, b"error=dns_error" in answer.head) == (502, True)


def test_a_port_that_is_not_in_connect_ports_is_answered_with_403_and_no_packet_leaves(loop: Loop) -> None:
    """T4.3"""
    gateway = MemoryGateway(loop, "[http]\nconnect_ports = 443, 8443")
    gateway.origin("origin.test:22")
    client = gateway.client()
    client.send(b"CONNECT origin.test:22 HTTP/1.1\r\nHost: origin.test:22\r\n\r\n")
    gateway.pump()
    (answer,) = responses(client.take())
    assert answer.status == 403
    assert gateway.connector.opened == []
    assert gateway.connector.lookups == []


def test_an_early_hello_in_the_segment_of_connect_works(loop: Loop) -> None:
    """T4.4"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = gateway.client()
    hello = client.start_tls("origin.test", alpn=(b"http/1.1",), hello_only=True)
    client.plain_until = b"\r\n\r\n"
    client.send_below(b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n" + hello)
    gateway.pump()
    assert client.take() == ESTABLISHED
    assert client.secure
    assert get(gateway, client).body == b"hello"
    assert len(origin.peers) == 1


def answered(gateway: MemoryGateway, client: Peer) -> bool:
    return get(gateway, client).status == 200


def test_an_origin_that_closes_while_it_hangs_is_replaced_and_the_request_succeeds(loop: Loop) -> None:
    """T4.5"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = connected(gateway)
    origin.last.close()
    gateway.pump()
    assert gateway.steps()[-1] == "slot_cleared"
    client.start_tls("origin.test", alpn=(b"http/1.1",))
    gateway.pump()
    assert answered(gateway, client)
    assert len(origin.peers) == 2


def test_an_origin_that_resets_while_it_hangs_is_replaced_and_the_request_succeeds(loop: Loop) -> None:
    """T4.5"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    origin.last.reset()
    gateway.pump()
    assert answered(gateway, client)
    assert len(origin.peers) == 2


def test_a_client_that_closes_while_the_origin_hangs_takes_it_along_within_a_turn(loop: Loop) -> None:
    """T4.5"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    for begin in (connected, intercepted):
        client = begin(gateway)
        server = origin.last.vc
        assert not server.closing
        client.sock.close()
        loop.turn()
        assert server.closing
        gateway.pump()
        assert origin.last.ended
        assert origin.last.wire == b""


def test_a_second_request_takes_the_kept_connection(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    for target in ("/1", "/2", "/3"):
        assert get(gateway, client, target).status == 200
    assert len(origin.peers) == 1
    assert gateway.steps().count("pool_reused") == 2
    assert gateway.steps().count("pool_kept") == 3
    assert gateway.steps().count("http_sm_ended") == 3
    assert [line["reused"] for line in gateway.transactions()] == [False, True, True]
