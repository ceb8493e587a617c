"""The destination of a redirected connection."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from sslintercept.errors import ClientError
from sslintercept.facts import Address
from sslintercept.net.original import SO_ORIGINAL_DST, original_destination
from sslintercept.net.vconnection import NetVConnection
from sslintercept.testing.loop import Loop


class Redirected:
    """A socket that knows where its connection was going."""

    def __init__(self, sock: socket.socket, level: int, raw: bytes) -> None:
        self._sock, self._level, self._raw = sock, level, raw

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        if option != SO_ORIGINAL_DST:
            return self._sock.getsockopt(level, option)
        assert (level, size) == (self._level, len(self._raw))
        return self._raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def redirected(loop: Loop, local: Address, level: int, raw: bytes) -> NetVConnection:
    vc, _ = loop.pair()
    vc.local = local
    vc.tcp.sock = Redirected(vc.tcp.sock, level, raw)  # type: ignore[assignment]
    return vc


V4 = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(443), socket.inet_aton("198.51.100.7"))
V6 = struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(443), 0, socket.inet_pton(socket.AF_INET6, "2001:db8::7"), 0)


def test_the_destination_of_either_family_is_found(loop: Loop) -> None:
    vc = redirected(loop, Address("192.0.2.2", 8080), socket.IPPROTO_IP, V4)
    assert original_destination(vc) == Address("198.51.100.7", 443)
    vc = redirected(loop, Address("2001:db8::2", 8080), socket.IPPROTO_IPV6, V6)
    assert original_destination(vc) == Address("2001:db8::7", 443)


def test_a_connection_that_came_directly_would_lead_to_ourselves(loop: Loop) -> None:
    vc = redirected(loop, Address("198.51.100.7", 443), socket.IPPROTO_IP, V4)
    with pytest.raises(ClientError, match="directly"):
        original_destination(vc)


def test_a_connection_that_was_not_redirected_is_told(loop: Loop) -> None:
    vc, _ = loop.pair()
    with pytest.raises(ClientError, match="not redirected"):
        original_destination(vc)


def test_a_redirected_connection_to_another_address_of_ours_would_lead_to_ourselves_too(loop: Loop) -> None:
    raw = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(8443), socket.inet_aton("127.0.0.1"))
    vc = redirected(loop, Address("192.0.2.2", 8443), socket.IPPROTO_IP, raw)
    with pytest.raises(ClientError, match=r"192\.0\.2\.2:8443: .*directly"):
        original_destination(vc)
    vc = redirected(loop, Address("192.0.2.2", 8080), socket.IPPROTO_IP, raw)
    assert original_destination(vc) == Address("127.0.0.1", 8443)


@pytest.mark.parametrize("host", ["198.51.100.7", "2001:db8::7"])
def test_with_tproxy_our_own_end_is_the_destination(loop: Loop, host: str) -> None:
    vc, _ = loop.pair()
    vc.local = Address(host, 443)
    assert original_destination(vc, transparent=True) == Address(host, 443)
    assert original_destination(vc, transparent=True, port=443) == Address(host, 443)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_with_tproxy_an_address_of_ours_and_our_port_would_lead_to_ourselves(loop: Loop, host: str) -> None:
    vc, _ = loop.pair()
    vc.local = Address(host, 8444)
    with pytest.raises(ClientError, match="directly; use a TPROXY rule"):
        original_destination(vc, transparent=True, port=8444)
    with pytest.raises(ClientError, match="directly; use a TPROXY rule"):
        original_destination(vc, transparent=True)
    assert original_destination(vc, transparent=True, port=8445) == Address(host, 8444)
