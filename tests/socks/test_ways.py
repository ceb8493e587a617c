"""SOCKS as an entrance of the whole proxy in memory: what is inside is probed, decided on, and intercepted."""

from __future__ import annotations

import pytest

from sslintercept.facts import Address
from sslintercept.socks.negotiate import SocksAcceptor
from sslintercept.testing.gateway import MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer

LISTEN = "[listen:proxy]\nendpoint = tcp:0\naccept = http, tls, socks4, socks5\n"
TO_443 = b"\x05\x01\x00\x03\x0borigin.test\x01\xbb"
TO_25 = b"\x05\x01\x00\x03\x0borigin.test\x00\x19"
GRANTED = b"\x05\x00\x05\x00\x00\x01\xc0\x00\x02\x02\x1f\x90"
REQUEST = b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n"


def serving(loop: Loop, rules: str = "") -> MemoryGateway:
    gateway = MemoryGateway(loop, LISTEN + rules)
    for protocol in ("socks4", "socks5"):
        acceptor = SocksAcceptor(protocol, entrance=gateway.proxy.entrance, timeout=10.0, idle=60.0)
        gateway.gateway.probe.register(acceptor, replace=True)
    return gateway


def asked(gateway: MemoryGateway, request: bytes = TO_443) -> Peer:
    client = gateway.client()
    client.send(b"\x05\x01\x00" + request)
    gateway.pump()
    return client


def test_tls_behind_a_request_is_intercepted(loop: Loop) -> None:
    gateway = serving(loop)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = asked(gateway)
    assert client.take() == GRANTED
    client.start_tls("origin.test")
    gateway.pump()
    client.send(REQUEST)
    gateway.pump()
    assert client.take().endswith(b"hello")
    assert client.certificate != gateway.leaf("origin.test").certificate
    assert origin.last.got.startswith(b"GET / ")
    assert gateway.facts[0].destination == Address("origin.test", 443)
    assert gateway.facts[0].stack == "tcp/socks5/tls1.3/http1"


def test_a_rule_that_says_tunnel_leaves_it_untouched(loop: Loop) -> None:
    gateway = serving(loop, "[rule:1]\nmatch = host:origin.test\naction = tunnel\n")
    own = gateway.leaf("origin.test")
    gateway.origin("origin.test:443", tls=own)
    client = asked(gateway)
    assert client.take() == GRANTED
    client.start_tls("origin.test")
    gateway.pump()
    assert client.certificate == own.certificate
    assert gateway.facts[0].stack == "tcp/socks5/tunnel"


def test_a_rule_that_says_block_is_told_in_socks(loop: Loop) -> None:
    gateway = serving(loop, "[rule:1]\nmatch = host:origin.test\naction = block\n")
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = asked(gateway)
    assert client.take() == b"\x05\x00\x05\x02\x00\x01" + bytes(6)
    assert client.clean
    assert gateway.connector.opened == []


def test_the_greeting_of_port_25_comes_behind_the_reply(loop: Loop) -> None:
    gateway = serving(loop)
    origin = gateway.origin("origin.test:25", silent)
    origin.greeting = b"220 mail.test\r\n"
    client = asked(gateway, TO_25)
    assert client.take() == GRANTED + b"220 mail.test\r\n"


@pytest.mark.parametrize("request_", [TO_443, b"\x05\x01\x00\x03\x0cnowhere.test\x01\xbb"])
def test_a_destination_that_cannot_be_reached_is_told_in_socks(loop: Loop, request_: bytes) -> None:
    gateway = serving(loop)
    gateway.origin("origin.test:80")
    client = asked(gateway, request_)
    code = 5 if request_ == TO_443 else 4
    assert client.take() == b"\x05\x00\x05" + bytes((code,)) + b"\x00\x01" + bytes(6)
    assert client.clean


def test_it_works_in_a_tunnel_to_another_proxy_of_socks(loop: Loop) -> None:
    """The way leads through that proxy, as the client wanted."""
    gateway = serving(loop)
    outer = gateway.origin("other.test:1080", silent)
    client = gateway.client()
    client.send(b"CONNECT other.test:1080 HTTP/1.1\r\nHost: other.test:1080\r\n\r\n")
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 200 ")
    client.send(b"\x05\x01\x00" + TO_443)
    gateway.pump()
    assert outer.last.take() == b"\x05\x01\x00"
    outer.last.send(b"\x05\x00")
    gateway.pump()
    assert outer.last.take() == TO_443
    outer.last.send(b"\x05\x00\x00\x01" + bytes(6))
    gateway.pump()
    assert client.take() == GRANTED
    client.send(REQUEST)
    gateway.pump()
    assert outer.last.take().startswith(b"GET / ")
