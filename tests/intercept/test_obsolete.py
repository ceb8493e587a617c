"""Hellos that are older than TLS."""

from __future__ import annotations

import struct

import pytest

from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from tests.sequences.support import connected

SSL2 = b"\x80\x2b\x01\x00\x02" + b"\x00\x12\x00\x00\x00\x10" + bytes(18) + b"R" * 16
"""a hello of SSL 2 alone"""
LATER = b"\x80\x2b\x01\x03\x01" + SSL2[5:]
"""one in its form that offers TLS 1.0"""


def sslv3() -> bytes:
    """A hello of SSL 3."""
    body = b"\x03\x00" + b"R" * 32 + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
    message = b"\x01" + struct.pack("!I", len(body))[1:] + body
    return b"\x16\x03\x00" + struct.pack("!H", len(message)) + message


@pytest.mark.parametrize(
    ("hello", "answer", "word"),
    [
        (SSL2, "8003000001", "SSL 2"),
        (LATER, "15030000020246", "form of SSL 2"),
        (sslv3(), "15030000020246", "version too low"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_an_obsolete_hello_gets_the_right_alert_and_a_line_in_the_log(
    loop: Loop, hello: bytes, answer: str, word: str, inside: bool
) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = connected(gateway) if inside else gateway.client()
    client.send(hello)
    gateway.pump()
    assert client.take().hex() == answer
    assert client.ended
    client.close()
    gateway.pump()
    line = gateway.log[-1]
    assert line["error"] == "client_tls"
    assert word in line["error_text"]
    assert not any(hello in peer.wire for peer in origin.peers)


def test_in_a_tunnel_by_rule_it_passes(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[rule:old]\nmatch = protocol:sslv2\naction = tunnel\n")
    origin = gateway.origin("origin.test:443", lambda peer: None)
    client = connected(gateway)
    client.send(SSL2)
    gateway.pump()
    assert origin.last.got == SSL2
    client.close()
