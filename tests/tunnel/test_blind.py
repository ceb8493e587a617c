"""Two connections joined: half-close, truncation and reset are passed on as they were; nothing is left behind."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import NamedTuple

import pytest

from sslintercept.facts import Side
from sslintercept.net.vconnection import STALLED, NetVConnection
from sslintercept.profile import tcp
from sslintercept.profile.ssl import SslProfile
from sslintercept.testing.loop import Loop
from sslintercept.tunnel.blind import BlindTunnel
from tests.support import HalfClosing, is_ended, joined, push_server, push_upstream, read_all


class Joined(NamedTuple):
    """A browser, an origin, and the two connections between them."""

    client: NetVConnection
    server: NetVConnection
    browser: socket.socket
    origin: socket.socket
    tunnel: BlindTunnel
    done: list[str]


def join(loop: Loop, idle: float = 0.0, half_close: bool = True, buffer: int | None = None) -> Joined:
    client, browser = loop.pair(Side.CLIENT, buffer)
    server, origin = loop.pair(Side.UPSTREAM, buffer)
    done: list[str] = []
    tunnel = BlindTunnel(client, server, idle_timeout=idle, half_close=half_close, done=lambda: done.append("done"))
    return Joined(client, server, browser, origin, tunnel, done)


def over(loop: Loop, it: Joined) -> None:
    """Everything ended once, and every wire was given back."""
    loop.pump()
    assert it.done == ["done"]
    assert it.client.wires == it.server.wires == 0
    assert it.client.dead
    assert it.server.dead


def test_bytes_go_both_ways_and_what_was_read_before_goes_first(loop: Loop) -> None:
    it = join(loop)
    it.tunnel.start(b"peeked ", b"early ")
    it.browser.send(b"request")
    it.origin.send(b"answer")
    loop.pump()
    assert read_all(it.origin) == b"peeked request"
    assert read_all(it.browser) == b"early answer"
    it.browser.close()
    it.origin.close()
    over(loop, it)


def test_a_client_that_half_closes_still_gets_its_answer(loop: Loop) -> None:
    """T4.10, T5.7"""
    it = join(loop)
    it.tunnel.start()
    it.browser.send(b"request")
    it.browser.shutdown(socket.SHUT_WR)
    loop.pump()
    assert read_all(it.origin) == b"request"
    assert is_ended(it.origin)
    assert not it.client.closing
    it.origin.send(b"answer")
    loop.pump()
    assert read_all(it.browser) == b"answer"
    it.origin.shutdown(socket.SHUT_WR)
    loop.pump()
    assert is_ended(it.browser)
    over(loop, it)


def test_a_server_that_half_closes_still_gets_the_rest(loop: Loop) -> None:
    """T5.7"""
    it = join(loop)
    it.tunnel.start()
    it.origin.shutdown(socket.SHUT_WR)
    loop.pump()
    assert is_ended(it.browser)
    it.browser.send(b"the rest")
    loop.pump()
    assert read_all(it.origin) == b"the rest"
    it.browser.shutdown(socket.SHUT_WR)
    over(loop, it)


def test_without_half_close_the_end_of_one_direction_ends_both(loop: Loop) -> None:
    """T5.7, TwoWayTunnel"""
    it = join(loop, half_close=False)
    it.tunnel.start()
    it.browser.send(b"last")
    it.browser.shutdown(socket.SHUT_WR)
    loop.pump()
    assert read_all(it.origin) == b"last"
    assert is_ended(it.origin)
    assert is_ended(it.browser)
    it.origin.close()
    over(loop, it)


def test_an_end_that_came_before_the_tunnel_is_passed_on(loop: Loop) -> None:
    it = join(loop)
    it.client.attach(HalfClosing())
    it.browser.shutdown(socket.SHUT_WR)
    loop.pump()
    it.tunnel.start(b"all of it")
    loop.pump()
    assert read_all(it.origin) == b"all of it"
    assert is_ended(it.origin)
    it.origin.send(b"answer")
    it.origin.close()
    loop.pump()
    assert read_all(it.browser) == b"answer"
    over(loop, it)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_that_died_before_the_tunnel_ends_the_other(loop: Loop, side: str) -> None:
    it = join(loop)
    getattr(it, side).abort()
    loop.pump()
    it.tunnel.start(b"x", b"y")
    over(loop, it)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset_stays_a_reset_and_no_goodbye_goes_before_it(loop: Loop, side: str) -> None:
    def tcp_pair(side: Side) -> tuple[NetVConnection, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as door:
            ours = socket.create_connection(door.getsockname())
            theirs, _ = door.accept()
        for sock in (ours, theirs):
            sock.setblocking(False)
        loop.peers.append(theirs)
        return loop.adopt(ours, side), theirs

    client, browser = tcp_pair(Side.CLIENT)
    server, origin = tcp_pair(Side.UPSTREAM)
    done: list[str] = []
    BlindTunnel(client, server, idle_timeout=0, done=lambda: done.append("done")).start()
    loop.pump()
    gone, kept = (browser, origin) if side == "client" else (origin, browser)
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp._RESET_ON_CLOSE)
    gone.close()
    loop.pump()
    with pytest.raises(ConnectionResetError):
        kept.recv(1)
    assert done == ["done"]


def test_one_dies_while_the_other_is_paused(loop: Loop) -> None:
    it = join(loop)
    it.tunnel.start()
    for _ in range(100):
        with suppress(BlockingIOError):
            it.browser.send(b"u" * 65536)
        loop.turn()
    assert not it.client.tcp.reading
    it.origin.close()
    over(loop, it)


def test_the_paused_one_dies_while_the_other_never_reads(loop: Loop) -> None:
    it = join(loop, idle=10)
    it.tunnel.start()
    for _ in range(100):
        with suppress(BlockingIOError):
            it.browser.send(b"u" * 65536)
        loop.turn()
    it.browser.close()
    loop.pump()
    loop.pass_time(STALLED + 15)
    over(loop, it)


def test_everything_arrives_through_small_buffers_and_slow_readers(loop: Loop) -> None:
    """T5.3"""
    it = join(loop, buffer=8192)
    it.tunnel.start()
    data = bytes(range(253)) * 8000
    view, got, most = memoryview(data), bytearray(), 0
    while len(got) < len(data):
        with suppress(BlockingIOError):
            view = view[it.browser.send(view[:20_000]) :]
        loop.turn()
        most = max(most, it.server.pending())
        with suppress(BlockingIOError):
            got += it.origin.recv(5000)
    assert got == data
    assert most <= it.server.high_water + 256 * 1024
    it.browser.close()
    it.origin.close()
    over(loop, it)


def test_silence_in_both_directions_ends_it(loop: Loop) -> None:
    it = join(loop, idle=10)
    it.tunnel.start()
    for _ in range(5):
        loop.pass_time(8)
        it.origin.send(b".")
        loop.pump()
    assert not it.client.closing
    loop.pass_time(15)
    over(loop, it)


def tls_tunnel(loop: Loop) -> tuple[Joined, NetVConnection, NetVConnection]:
    """A tunnel between two legs of TLS, and the ends of the peers."""
    client, browser = joined(loop)
    origin, server = joined(loop)
    for inside, outside in ((client, browser), (origin, server)):
        push_server(inside)
        push_upstream(outside).begin()
    loop.pump()
    done: list[str] = []
    tunnel = BlindTunnel(client, server, idle_timeout=0, done=lambda: done.append("done"))
    tunnel.start()
    none = client.tcp.sock
    return Joined(client, server, none, none, tunnel, done), browser, origin


def test_half_close_is_a_close_notify_on_the_other_side(loop: Loop) -> None:
    """T4.10 in TLS (RFC 8446 6.1)"""
    it, browser, origin = tls_tunnel(loop)
    sessions = HalfClosing(), HalfClosing()
    browser.attach(sessions[0])
    origin.attach(sessions[1])
    browser.write(b"request")
    browser.finish()
    loop.pump()
    assert (bytes(sessions[1].got), sessions[1].events) == (b"request", ["made", "read lost"])
    assert not origin.truncated
    origin.write(b"answer")
    origin.finish()
    loop.pump()
    assert (bytes(sessions[0].got), sessions[0].events) == (b"answer", ["made", "read lost"])
    assert not browser.truncated
    for vc in (browser, origin):
        vc.close()
    over(loop, it)


@pytest.mark.parametrize("fault", ["truncation", "bad record"])
def test_what_is_no_goodbye_is_none_on_the_other_side(loop: Loop, fault: str) -> None:
    it, browser, origin = tls_tunnel(loop)
    session = HalfClosing()
    browser.attach(session)
    origin.write(b"not all")
    if fault == "truncation":
        origin.tcp.finish()
    else:
        layer = origin.top
        assert isinstance(layer, SslProfile)
        origin.tcp.write(b"\x17\x03\x03\x00\x20" + bytes(32), layer)
    loop.pump()
    assert session.got == b"not all"
    assert session.events == ["made", "read lost"]
    assert browser.truncated
    for vc in (browser, origin):
        vc.close()
    loop.pass_time(5)
    over(loop, it)
