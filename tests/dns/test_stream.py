"""A connection to a name server: what is written arrives, and nothing is kept without bound."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sslintercept.dns.server import Server
from sslintercept.dns.stream import MOST_UNSENT, Stream, Tcp, unheard, unmourned
from sslintercept.facts import Address
from sslintercept.testing.loop import Loop

from .support import outcome

SMALL = 4096
"""bytes of a socket's buffers"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


def opened(loop: Loop, listener: socket.socket) -> tuple[Stream, socket.socket, list[str]]:
    """A stream, its other end, and where its end is written down."""
    tcp = Tcp(loop.handler, Server(Address(*listener.getsockname())))
    tcp._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    loop.pump()
    stream: Stream = outcome(tcp.opened)
    peer, _ = listener.accept()
    peer.setblocking(False)
    lost: list[str] = []
    stream.lost = lost.append
    return stream, peer, lost


def test_what_the_kernel_does_not_take_at_once_is_sent_later(loop: Loop, listener: socket.socket) -> None:
    stream, peer, lost = opened(loop, listener)
    data = bytes(range(256)) * 1024
    stream.write(data)
    got = bytearray()
    while len(got) < len(data):
        loop.pump()
        got += peer.recv(65536)
    assert bytes(got) == data
    assert not lost
    stream.close()
    stream.close()
    stream.write(b"nobody gets this")
    peer.close()


def test_a_server_that_reads_nothing_costs_a_bounded_buffer(loop: Loop, listener: socket.socket) -> None:
    stream, peer, lost = opened(loop, listener)
    for _ in range(20):
        stream.write(bytes(MOST_UNSENT // 10))
    loop.pump()
    assert lost == ["the server reads nothing"]
    peer.close()


def test_a_reset_is_told(loop: Loop, listener: socket.socket) -> None:
    stream, peer, lost = opened(loop, listener)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    stream.write(b"x")
    stream.write(b"y")
    loop.pump()
    assert len(lost) == 1
    assert lost[0] in ("connection reset by peer", "broken pipe")


def test_an_end_is_told_once(loop: Loop, listener: socket.socket) -> None:
    _, peer, lost = opened(loop, listener)
    peer.close()
    loop.pump()
    assert lost == ["the server closed the connection"]


def test_a_connection_that_is_cancelled_is_closed(loop: Loop, listener: socket.socket) -> None:
    tcp = Tcp(loop.handler, Server(Address(*listener.getsockname())))
    tcp.opened.cancel()
    outcome(tcp.opened)
    loop.pump()
    assert loop.handler.watched() == []


def test_an_interface_that_is_not_there_is_an_error(loop: Loop) -> None:
    with pytest.raises(OSError):
        Tcp(loop.handler, Server(Address("fe80::1%nosuch", 53)))


def test_what_comes_when_nobody_listens_is_dropped() -> None:
    unheard(b"late")
    unmourned("late")
