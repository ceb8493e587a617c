"""One direction: exact lengths, wires that are given back, and ends in every order."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from sslintercept.errors import StageError
from sslintercept.net.vconnection import NetVConnection
from sslintercept.testing.loop import Loop
from sslintercept.tunnel.oneway import UNKNOWN_LENGTH, OneWayTunnel
from tests.support import HalfClosing, is_ended, push_server, read_all


class Ends:
    """Two connections of ours and the peers behind them."""

    def __init__(self, loop: Loop, buffer: int | None = None) -> None:
        self.source, self.sender = loop.pair(buffer=buffer)
        self.target, self.receiver = loop.pair(buffer=buffer)
        self.before = HalfClosing()
        self.source.attach(self.before)
        self.target.attach(HalfClosing())
        self.completed: list[bytes] = []

    def tunnel(self, nbytes: int | None = None) -> OneWayTunnel:
        return OneWayTunnel(self.source, self.target, nbytes, self.completed.append)

    def close(self) -> None:
        for vc in (self.source, self.target):
            vc.abort()


def test_it_is_a_producer(loop: Loop) -> None:
    ends = Ends(loop)
    assert verifyObject(IPushProducer, ends.tunnel())
    ends.close()


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 8])
def test_exactly_n_bytes_go_over_though_the_peer_sent_more(loop: Loop, cut: int) -> None:
    """T2.1"""
    ends = Ends(loop)
    tunnel = ends.tunnel(5)
    tunnel.start()
    data = b"1234567890"
    for at in range(0, len(data), cut):
        ends.sender.send(data[at : at + cut])
        loop.pump()
    assert read_all(ends.receiver) == b"12345"
    assert tunnel.ndone == 5
    (rest,) = ends.completed
    assert rest + bytes(ends.before.got) == b"67890"
    ends.close()


@pytest.mark.parametrize("peeked", [b"", b"12", b"12345", b"1234567"])
def test_peeked_bytes_count(loop: Loop, peeked: bytes) -> None:
    """T2.1"""
    ends = Ends(loop)
    tunnel = ends.tunnel(5)
    tunnel.start(peeked)
    ends.sender.send(b"1234567"[len(peeked) :] or b"8")
    loop.pump()
    assert read_all(ends.receiver) == b"12345"
    assert len(ends.completed) == 1
    ends.close()


def test_a_length_of_zero_is_complete_at_once(loop: Loop) -> None:
    ends = Ends(loop)
    ends.tunnel(0).start(b"rest")
    assert ends.completed == [b"rest"]
    assert ends.target.wires == 0
    ends.close()


def test_without_a_length_everything_goes_over_and_the_end_comes_behind_it(loop: Loop) -> None:
    """T2.2"""
    ends = Ends(loop)
    tunnel = ends.tunnel()
    tunnel.start(b"peeked ")
    ends.sender.send(b"and the rest")
    ends.sender.shutdown(socket.SHUT_WR)
    loop.pump()
    assert read_all(ends.receiver) == b"peeked and the rest"
    assert ends.before.events == ["made", "read lost"]
    tunnel.stop()
    ends.close()


def test_an_unknown_length_becomes_known(loop: Loop) -> None:
    """T2.2: lowered to what is done, it ends; to more, it ends there; to less, it is refused."""
    ends = Ends(loop)
    tunnel = ends.tunnel(UNKNOWN_LENGTH)
    tunnel.start(b"12345")
    with pytest.raises(ValueError, match="5 bytes have gone over"):
        tunnel.limit(4)
    tunnel.limit(7)
    assert ends.completed == []
    ends.sender.send(b"6789")
    loop.pump()
    assert ends.completed == [b"89"]
    again = ends.tunnel(UNKNOWN_LENGTH)
    again.start(b"abc")
    again.limit(3)
    assert ends.completed == [b"89", b""]
    again.limit(3)
    assert len(ends.completed) == 2
    assert read_all(ends.receiver) == b"1234567abc"
    with pytest.raises(ValueError, match="does not count"):
        ends.tunnel().limit(3)
    ends.close()


def test_the_target_may_not_be_pushed_or_popped_while_its_wire_is_held(loop: Loop) -> None:
    ends = Ends(loop)
    tunnel = ends.tunnel()
    tunnel.start()
    with pytest.raises(StageError, match="wire"):
        push_server(ends.target)
    tunnel.stop()
    tunnel.stop()
    push_server(ends.target)
    ends.sender.send(b"after the end")
    loop.pump()
    assert read_all(ends.receiver) == b""
    assert ends.before.got == b"after the end"
    ends.close()


def test_a_source_that_was_paused_reads_again_when_the_tunnel_is_over(loop: Loop) -> None:
    """A length that is reached with the very chunk that fills the target's queue."""
    ends = Ends(loop, buffer=4096)
    size = ends.target.high_water * 2
    tunnel = ends.tunnel(size)
    tunnel.start(b"x" * size)
    assert ends.completed == [b""]
    ends.sender.send(b"next")
    loop.pump()
    assert ends.before.got == b"next"
    ends.close()


def test_a_stalled_target_stops_the_source_and_memory_stays_bounded(loop: Loop) -> None:
    """T2.3, T5.3: what waits is below the high mark and one read."""
    ends = Ends(loop)
    tunnel = ends.tunnel()
    tunnel.start()
    sent = 0
    data = b"s" * 65536
    most = 0
    for _ in range(400):
        with suppress(BlockingIOError):
            sent += ends.sender.send(data)
        loop.turn()
        most = max(most, ends.target.pending())
    assert 0 < most <= ends.target.high_water + 256 * 1024
    got = 0
    while got < sent:
        got += len(read_all(ends.receiver))
        loop.turn()
    assert got == sent
    assert ends.target.pending() == 0
    tunnel.stop()
    ends.close()


@pytest.mark.parametrize("end", [NetVConnection.abort, NetVConnection.close])
def test_a_target_that_goes_takes_the_source_with_it(loop: Loop, end: object) -> None:
    ends = Ends(loop)
    tunnel = ends.tunnel()
    tunnel.start()
    end(ends.target)  # type: ignore[operator]  # a method of the class
    ends.receiver.close()
    loop.pump()
    assert ends.source.closing
    tunnel.stop()
    assert ends.target.wires == 0
    ends.close()


def test_a_target_that_is_closing_already_ends_the_source(loop: Loop) -> None:
    ends = Ends(loop)
    ends.target.close()
    tunnel = ends.tunnel()
    tunnel.start(b"to nobody")
    loop.pump()
    assert ends.source.closing
    assert is_ended(ends.receiver)
    tunnel.stop()
    assert ends.target.wires == 0
