"""Whose handshake comes first: server-first and adaptive, and what is the same in every order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sslintercept.errors import ConnectError
from sslintercept.net.connector import Denied
from sslintercept.testing.gateway import MemoryGateway, address, origin_ca, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.pki import make_ca, make_leaf
from tests.sequences.support import CLIENT_FIRST, SERVER_FIRST, connected, get, intercepted, responses

ORDERS = ("client-first", "server-first", "adaptive")


def ordered(order: str, more: str = "") -> str:
    return f"[upstream-tls]\nhandshake_order = {order}\n{more}"


def test_server_first_copies_the_names_of_the_origin(loop: Loop) -> None:
    gateway = MemoryGateway(loop, SERVER_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test", "www.origin.test"))
    client = intercepted(gateway)
    assert set(client.names) == {"origin.test", "www.origin.test"}
    assert origin.last.secure
    assert origin.last.got == b""
    steps = gateway.steps()
    assert steps.index("server_first") < steps.index("upstream_handshake") < steps.index("client_handshake")
    assert get(gateway, client).body == b"hello"
    assert len(origin.peers) == 1


def test_adaptive_asks_an_unknown_origin_first_and_a_known_one_later(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[http]\npool_size = 0")
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test", "*.origin.test"))
    first = intercepted(gateway)
    assert "server_first" in gateway.steps()
    second = intercepted(gateway)
    assert "server_first" not in gateway.steps()
    assert origin.last.wire == b""
    assert set(second.names) == set(first.names) == {"origin.test", "*.origin.test"}
    assert get(gateway, second).body == b"hello"
    assert origin.last.got.startswith(b"GET /")


def test_adaptive_forgets_an_origin_after_a_while(loop: Loop) -> None:
    gateway = MemoryGateway(loop, ordered("adaptive", "remember = 10m"))
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    intercepted(gateway)
    loop.pass_time(601)
    intercepted(gateway)
    assert "server_first" in gateway.steps()


def test_adaptive_answers_connect_without_opening_when_a_verified_connection_waits(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    assert get(gateway, intercepted(gateway)).status == 200
    second = intercepted(gateway)
    assert "tcp_opened" not in gateway.steps()
    assert get(gateway, second).status == 200
    assert len(origin.peers) == 1
    assert gateway.transactions()[-1]["reused"] is True


def test_a_pooled_connection_that_somebody_else_took_is_replaced_by_a_new_one(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    assert get(gateway, intercepted(gateway)).status == 200
    second = intercepted(gateway)
    gateway.pool.clear()
    assert get(gateway, second).status == 200
    assert len(origin.peers) == 2


def test_the_other_orders_open_the_origin_for_every_connect(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    assert get(gateway, intercepted(gateway)).status == 200
    intercepted(gateway)
    assert len(origin.peers) == 2


@pytest.mark.parametrize("order", ORDERS)
def test_a_bad_certificate_becomes_a_page_inside_tls(loop: Loop, order: str) -> None:
    """T4.7"""
    gateway = MemoryGateway(loop, ordered(order))
    origin = gateway.origin("origin.test:443", tls=make_leaf(make_ca("Nobody"), ["origin.test"]))
    client = connected(gateway)
    client.start_tls("origin.test", trust=[gateway.ca.certificate])
    gateway.pump()
    assert client.secure, client.fault
    answer = get(gateway, client)
    assert answer.status == 502
    assert b"error=tls_certificate_error" in answer.head
    assert b"certificate of origin.test" in answer.body
    assert origin.last.got == b""
    assert "certificate_refused" in gateway.steps()
    assert gateway.transactions()[0]["error"] is not None


@pytest.mark.parametrize("order", ORDERS)
def test_a_failure_found_before_the_first_request_ends_the_connection_so_that_the_next_one_tries_again(
    loop: Loop, order: str
) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    gateway.origin("origin.test:443", tls=make_leaf(make_ca("Nobody"), ["origin.test"]))
    client = intercepted(gateway)
    assert get(gateway, client).status == 502
    if order != "client-first":
        assert client.clean
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    again = client if order == "client-first" else intercepted(gateway)
    assert get(gateway, again).status == 200


@pytest.mark.parametrize(
    ("fault", "words"), [("expired", "expired"), ("wrong_name", "other.test"), ("unknown_issuer", "Nobody")]
)
def test_the_page_says_what_is_wrong_with_a_certificate(loop: Loop, fault: str, words: str) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    old = datetime(2021, 1, 1, tzinfo=UTC)
    gateway.origin(
        "origin.test:443",
        tls={
            "expired": lambda: make_leaf(origin_ca(), ["origin.test"], not_after=old),
            "wrong_name": lambda: make_leaf(origin_ca(), ["other.test"]),
            "unknown_issuer": lambda: make_leaf(make_ca("Nobody"), ["origin.test"]),
        }[fault](),
    )
    answer = get(gateway, intercepted(gateway))
    assert answer.status == 502
    assert words in answer.body.decode()
    assert gateway.transactions()[0]["error"] == "certificate"


@pytest.mark.parametrize("order", ["server-first", "adaptive"])
def test_report_shows_an_untrusted_leaf_for_an_origin_that_is_not_genuine(loop: Loop, order: str) -> None:
    """T4.7"""
    gateway = MemoryGateway(loop, ordered(order, "verify = report"))
    gateway.origin("origin.test:443", tls=make_leaf(make_ca("Nobody"), ["origin.test"]))
    for _ in range(2):
        careful = connected(gateway)
        careful.start_tls("origin.test", trust=[gateway.ca.certificate])
        gateway.pump()
        assert not careful.secure
        assert "certificate verify failed" in careful.fault
    careless = intercepted(gateway)
    assert get(gateway, careless).status == 200
    assert gateway.transactions()[0]["upstream_tls"]["verified"] == "unknown_issuer"


@pytest.mark.parametrize("order", ["server-first", "adaptive"])
def test_an_origin_that_went_down_behind_connect_becomes_a_page_inside_tls(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    where = "origin.test:443"
    origin = gateway.origin(where, tls=gateway.leaf("origin.test"))
    client = connected(gateway)
    origin.last.close()
    del gateway.connector.origins[address(where)]
    gateway.connector.faults[address(where)] = ConnectError("refused", where=where, remedy="later")
    client.start_tls("origin.test")
    gateway.pump()
    answer = get(gateway, client)
    assert (answer.status, b"connection_refused" in answer.head) == (502, True)


@pytest.mark.parametrize("order", ORDERS)
def test_an_origin_that_closes_in_its_handshake_becomes_a_page(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    origin = gateway.origin("origin.test:443", lambda peer: peer.close() if peer.got else None)
    client = connected(gateway)
    client.start_tls("origin.test")
    gateway.pump()
    answer = get(gateway, client)
    assert answer.status == 502
    assert "upstream_handshake_failed" in gateway.steps()
    assert origin.last.wire[:1] == b"\x16"


@pytest.mark.parametrize("order", ["server-first", "adaptive"])
def test_an_origin_that_resets_in_its_handshake_becomes_a_page(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    origin = gateway.origin("origin.test:443", silent)
    client = connected(gateway)
    client.start_tls("origin.test")
    gateway.pump()
    origin.last.reset()
    gateway.pump()
    assert client.secure
    assert get(gateway, client).status == 502


@pytest.mark.parametrize("order", ORDERS)
def test_an_origin_that_hangs_in_its_handshake_becomes_a_page_after_the_timeout(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order, "[http]\ntls_timeout = 15s"))
    origin = gateway.origin("origin.test:443", silent)
    client = connected(gateway)
    client.start_tls("origin.test")
    gateway.pump()
    if order == "client-first":
        client.send(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    loop.pass_time(14)
    assert client.secure is (order == "client-first")
    loop.pass_time(3)
    assert client.secure
    assert origin.last.vc.dead
    if order != "client-first":
        client.send(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n")
        gateway.pump()
    (answer,) = responses(client.take())
    assert answer.status == 504


def test_an_origin_that_speaks_before_the_handshake_is_no_tls_server(loop: Loop) -> None:
    gateway = MemoryGateway(loop, SERVER_FIRST)
    origin = gateway.origin("origin.test:443", silent)
    origin.greeting = b"hello?"
    client = intercepted(gateway)
    answer = get(gateway, client)
    assert answer.status == 502
    assert b"spoke before the handshake" in answer.body


@pytest.mark.parametrize("order", ["server-first", "adaptive"])
def test_a_client_that_leaves_while_the_origin_shakes_hands_takes_it_along_within_a_turn(
    loop: Loop, order: str
) -> None:
    """T4.5"""
    gateway = MemoryGateway(loop, ordered(order))
    origin = gateway.origin("origin.test:443", silent)
    client = connected(gateway)
    client.start_tls("origin.test")
    gateway.pump()
    assert origin.last.wire[:1] == b"\x16"
    client.sock.close()
    loop.turn()
    assert origin.last.vc.closing


@pytest.mark.parametrize("order", ORDERS)
def test_a_client_that_leaves_while_the_origin_is_being_reached_leaves_nothing(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = gateway.client()
    held: list[Callable[[], None]] = []
    gateway.connector.held = held
    client.send(b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n")
    gateway.pump()
    held.pop(0)()
    gateway.pump()
    client.sock.close()
    gateway.pump()
    client.vc.abort()
    held.pop(0)()
    gateway.pump()
    assert origin.last.vc.closing


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("offered", "agreed"), [((b"h2", b"http/1.1"), "http/1.1"), ((), ""), ((b"http/1.1",), "http/1.1")]
)
def test_only_what_we_speak_is_agreed_on_by_alpn(
    loop: Loop, order: str, offered: tuple[bytes, ...], agreed: str
) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"), alpn=(b"h2", b"http/1.1"))
    client = connected(gateway)
    client.start_tls("origin.test", alpn=offered)
    gateway.pump()
    assert client.alpn == agreed
    assert get(gateway, client).status == 200


@pytest.mark.parametrize("order", ORDERS)
def test_a_client_that_speaks_only_http2_is_tunnelled(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    own = gateway.leaf("origin.test")
    gateway.origin("origin.test:443", lambda peer: None, tls=own, alpn=(b"h2",))
    client = connected(gateway)
    client.start_tls("origin.test", alpn=(b"h2",))
    gateway.pump()
    assert client.secure
    assert client.certificate == own.certificate
    assert client.alpn == "h2"
    assert "blind_tunnel" in gateway.steps()
    client.close()


def test_a_client_that_speaks_only_http2_is_refused_where_unknown_is_closed(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[probe]\nunknown = close")
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"), alpn=(b"h2",))
    client = connected(gateway)
    client.start_tls("origin.test", alpn=(b"h2",))
    gateway.pump()
    assert client.ended
    assert not client.secure
    assert origin.last.wire == b""


@pytest.mark.parametrize("order", ORDERS)
def test_another_protocol_is_agreed_on_with_both_sides(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    origin = gateway.origin("origin.test:443", silent, tls=gateway.leaf("origin.test"), alpn=(b"imap",))
    client = connected(gateway)
    client.start_tls("origin.test", alpn=(b"imap", b"h2"))
    gateway.pump()
    assert client.alpn == "imap"
    client.send(b"\x00\x01\x02 something of its own")
    gateway.pump()
    assert origin.last.alpn == "imap"
    assert origin.last.got == b"\x00\x01\x02 something of its own"
    client.close()


def test_an_origin_that_ignores_alpn_is_mirrored(loop: Loop) -> None:
    gateway = MemoryGateway(loop, SERVER_FIRST)
    gateway.origin("origin.test:443", silent, tls=gateway.leaf("origin.test"), alpn=())
    client = connected(gateway)
    client.start_tls("origin.test", alpn=(b"imap",))
    gateway.pump()
    assert client.secure
    assert client.alpn == ""
    client.close()


@pytest.mark.parametrize("order", ORDERS)
def test_a_client_that_insists_on_tls_1_3_is_not_led_to_an_origin_with_less(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"), max_version="1.2")
    modern = connected(gateway)
    modern.start_tls("origin.test", min_version="1.3")
    gateway.pump()
    assert modern.version == "TLSv1.3"
    answer = get(gateway, modern)
    assert answer.status == 502
    assert b"tls_protocol_error" in answer.head
    assert get(gateway, intercepted(gateway)).status == 200
    # And a connection that was good enough for that one is not good enough for the first.
    again = connected(gateway)
    again.start_tls("origin.test", min_version="1.3")
    gateway.pump()
    assert get(gateway, again).status == 502


@pytest.mark.parametrize("order", ORDERS)
def test_a_client_of_tls_1_2_with_rsa_only_gets_a_leaf_that_it_can_verify(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, ordered(order))
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = connected(gateway)
    client.start_tls("origin.test", max_version="1.2", ciphers=b"ECDHE-RSA-AES128-GCM-SHA256")
    gateway.pump()
    assert client.secure, client.fault
    assert client.version == "TLSv1.2"
    assert get(gateway, client).status == 200


@pytest.mark.parametrize("order", ORDERS)
def test_an_upload_may_be_the_first_request(loop: Loop, order: str) -> None:
    """T4.8"""
    gateway = MemoryGateway(loop, ordered(order))
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    body = bytes(range(256)) * 8192
    client.send(b"POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    gateway.pump()
    assert responses(client.take())[0].status == 200
    assert origin.last.got.endswith(body)
    loop.pass_time(1)
    assert get(gateway, client).status == 200


def test_an_upload_to_an_origin_with_a_bad_certificate_gets_its_page(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("other.test"))
    client = intercepted(gateway)
    client.send(b"POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 4000000\r\n\r\n" + b"u" * 3_000_000)
    gateway.pump()
    assert responses(client.take())[0].status == 502
    assert origin.last.got == b""
    assert b"u" * 100 not in origin.last.wire
    client.close()


def test_unknown_bytes_for_an_origin_that_failed_end_the_connection(loop: Loop) -> None:
    gateway = MemoryGateway(loop, SERVER_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("other.test"))
    client = intercepted(gateway)
    client.send(b"\xff\xfe\xfd\xfc")
    gateway.pump()
    assert client.ended
    assert origin.last.got == b""
    client.close()
    gateway.pump()
    assert gateway.log[-1]["error"] == "certificate"


@pytest.mark.parametrize("inside", [False, True])
def test_a_defect_while_a_tunnel_is_set_up_closes_it_and_is_logged(loop: Loop, inside: bool) -> None:
    gateway = MemoryGateway(loop, "[rule:r]\nmatch = sni:origin.test\naction = tunnel")
    origin = gateway.origin("origin.test:443", silent)
    client = connected(gateway)
    origin.last.close()
    gateway.pump()
    gateway.connector.allowed = lambda host, port: Denied(str(1 // 0), "")
    if inside:
        client.start_tls("origin.test")
    else:
        client.send(b"\xff\xfe\xfd\xfc")
    gateway.pump()
    assert client.ended
    assert loop.failures.pop().type is ZeroDivisionError
    loop.failures.clear()
