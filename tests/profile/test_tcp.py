"""The base: reading, writing and closing of one socket, against hostile and absent peers."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

import pytest

from sslintercept.facts import Side
from sslintercept.net.vconnection import LINGER, NetVConnection
from sslintercept.profile import tcp
from sslintercept.profile.profile import Bytes, Stage
from sslintercept.testing.loop import Loop
from tests.support import HalfClosing, Listening, Stages, is_ended, read_all


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection of real TCP, which resets as a socketpair does not."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        ours = socket.create_connection(door.getsockname())
        theirs, _ = door.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs


def test_the_empty_stages_take_no_io(loop: Loop) -> None:
    """T3.2, tcp"""
    vc, peer = loop.pair()
    stages = Stages(vc)
    assert vc.tcp.stage is Stage.TRANSFER
    assert vc.tcp.read == vc.tcp.sent == 0
    vc.close()
    peer.close()
    loop.pump()
    assert stages.of[vc.tcp] == [Stage.PRE_CLOSE, Stage.DEAD]


def test_what_the_kernel_takes_goes_at_once_and_the_rest_in_order(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=8192)
    data = bytes(range(256)) * 4096
    for at in range(0, len(data), 3000):
        vc.write(memoryview(data)[at : at + 3000])
    assert 0 < vc.tcp.sent < len(data)
    assert vc.pending() == len(data) - vc.tcp.sent
    got = bytearray()
    while len(got) < len(data):
        got += read_all(peer)
        loop.turn()
    assert got == data
    assert vc.pending() == 0
    vc.close()


def test_a_borrowed_view_is_copied_before_the_call_returns(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=4096)
    shared = bytearray(b"a" * 300_000)
    vc.write(memoryview(shared))
    shared[:] = b"b" * len(shared)
    got = bytearray()
    while len(got) < 300_000:
        got += read_all(peer)
        loop.turn()
    assert set(got) == {ord("a")}
    vc.close()


def test_a_paused_connection_reads_nothing_even_if_its_event_was_fetched_already(loop: Loop) -> None:
    first, first_peer = loop.pair()
    second, second_peer = loop.pair()
    sessions = Listening(), Listening()
    first.attach(sessions[0])
    second.attach(sessions[1])
    sessions[0].on_data = lambda data: second.pauseProducing()
    sessions[1].on_data = lambda data: first.pauseProducing()
    first_peer.send(b"x")
    second_peer.send(b"x")
    loop.pump()
    assert sorted(len(s.got) for s in sessions) == [0, 1]
    for vc, session in ((first, sessions[0]), (second, sessions[1])):
        session.on_data = lambda data: None
        vc.resumeProducing()
        vc.resumeProducing()
    loop.pump()
    assert [bytes(s.got) for s in sessions] == [b"x", b"x"]


def test_a_paused_connection_whose_peer_vanished_neither_spins_nor_loses_what_it_said(loop: Loop) -> None:
    vc, peer = loop.pair()
    session = HalfClosing()
    vc.attach(session)
    vc.pauseProducing()
    peer.send(b"last words")
    peer.close()
    loop.pump()  # fails if it never comes to rest
    assert session.got == b""
    vc.pauseProducing()
    vc.resumeProducing()
    loop.pump()
    assert session.got == b"last words"
    assert session.events == ["made", "read lost"]
    vc.close()


def test_a_paused_connection_whose_peer_reset_it_is_told_at_once(loop: Loop) -> None:
    ours, theirs = tcp_pair()
    vc, _ = loop.pair()
    vc.abort()
    vc = loop.adopt(ours, Side.CLIENT)
    session = HalfClosing()
    vc.attach(session)
    vc.pauseProducing()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp._RESET_ON_CLOSE)
    theirs.close()
    loop.pump()
    assert session.events == ["made", "lost ConnectionLost"]


def reset_behind(loop: Loop, words: bytes) -> tuple[NetVConnection, HalfClosing]:
    """A connection that is not read while its peer says something and resets it."""
    ours, theirs = tcp_pair()
    vc, _ = loop.pair()
    vc.abort()
    vc = loop.adopt(ours, Side.CLIENT)
    session = HalfClosing()
    vc.attach(session)
    vc.pauseProducing()
    theirs.send(words)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp._RESET_ON_CLOSE)
    theirs.close()
    loop.pump()
    assert session.events == ["made"]
    return vc, session


def test_what_came_before_a_reset_is_read_by_who_stood_still(loop: Loop) -> None:
    """Clients of FTP reset the connection of an upload when they close it with something unread."""
    words = bytes(range(256)) * 400
    vc, session = reset_behind(loop, words)
    loop.pass_time(5)
    assert session.events == ["made"]
    vc.resumeProducing()
    loop.pump()
    assert session.got == words
    assert session.events == ["made", "lost ConnectionLost"]


def test_who_writes_to_a_connection_that_was_reset_learns_it(loop: Loop) -> None:
    vc, session = reset_behind(loop, b"unread")
    vc.write(b"an answer")
    vc.write(b"and more")
    loop.pump()
    assert session.events == ["made", "lost ConnectionLost"]
    assert session.got == b""


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_connection_that_was_reset_is_closed_without_a_wait(loop: Loop, how: str) -> None:
    vc, session = reset_behind(loop, b"unread")
    getattr(vc, how)()
    loop.pump()
    assert session.events[-1].startswith("lost ")


def test_a_half_closed_connection_still_reads(loop: Loop) -> None:
    """T2.6"""
    vc, peer = loop.pair()
    session = HalfClosing()
    vc.attach(session)
    vc.write(b"request")
    vc.finish()
    vc.finish()
    vc.write(b"too late")
    assert read_all(peer) == b"request"
    assert is_ended(peer)
    peer.send(b"answer")
    loop.pump()
    assert session.got == b"answer"
    peer.close()
    loop.pump()
    assert session.events == ["made", "read lost"]
    vc.close()
    loop.pump()
    assert session.events == ["made", "read lost", "lost ConnectionDone"]


def test_fin_goes_behind_everything_that_waits(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=4096)
    vc.write(b"z" * 200_000)
    vc.finish()
    got = bytearray()
    for _ in range(1000):
        got += read_all(peer)
        loop.turn()
    assert len(got) == 200_000
    assert is_ended(peer)
    vc.close()


def test_what_nobody_wants_is_drained_so_that_the_answer_is_not_reset(loop: Loop) -> None:
    ours, theirs = tcp_pair()
    vc = loop.adopt(ours, Side.CLIENT)
    theirs.send(b"u" * 100_000)
    vc.write(b"HTTP/1.1 413 too large")
    vc.close()
    loop.pump()
    theirs.send(b"u" * 1000)
    loop.pump()
    assert read_all(theirs) == b"HTTP/1.1 413 too large"
    theirs.close()
    loop.pump()
    assert vc.dead


def test_a_peer_that_never_stops_sending_is_cut(loop: Loop) -> None:
    vc, peer = loop.pair()
    vc.close()
    sent = 0
    for _ in range(200):
        with suppress(BlockingIOError, BrokenPipeError):
            sent += peer.send(b"f" * 65536)
        loop.pump()
    assert vc.dead
    assert sent <= tcp.DRAIN_LIMIT + 1024 * 1024


def test_an_early_answer_is_read_although_the_peer_takes_nothing_more(loop: Loop) -> None:
    """A server that refuses an upload answers, closes, and resets what still comes."""
    vc, peer = loop.pair()
    session = HalfClosing()
    vc.attach(session)
    peer.send(b"HTTP/1.1 413 too large\r\n\r\n")
    peer.close()
    vc.write(b"more of the upload")
    vc.write(b"and more")
    loop.pump()
    assert session.got == b"HTTP/1.1 413 too large\r\n\r\n"
    assert session.events == ["made", "read lost", "lost ConnectionLost"]


def test_an_early_answer_is_read_although_the_queue_cannot_leave(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=4096)
    session = HalfClosing()
    vc.attach(session)
    vc.write(b"upload" * 100_000)
    assert vc.pending()
    peer.send(b"no")
    peer.close()
    loop.pump()
    assert session.got == b"no"
    assert session.events[-1] == "lost ConnectionLost"
    assert vc.pending() == 0


def test_a_write_that_fails_after_the_close_ends_the_connection_quietly(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=4096)
    session = Listening()
    vc.attach(session)
    vc.write(b"answer" * 100_000)
    vc.close()
    peer.close()
    loop.pump()
    assert session.events == ["made", "lost ConnectionDone"]


def test_an_answer_that_cannot_leave_while_reading_is_paused_still_ends(loop: Loop) -> None:
    vc, peer = loop.pair()
    session = HalfClosing()
    vc.attach(session)
    vc.pauseProducing()
    peer.send(b"unread")
    peer.close()
    vc.write(b"lost")
    loop.pump()
    assert session.events == ["made", "lost ConnectionLost"]


def test_a_session_that_cuts_within_the_last_read_is_not_told_twice(loop: Loop) -> None:
    vc, peer = loop.pair()
    session = HalfClosing()
    vc.attach(session)
    session.on_data = lambda data: vc.abort()
    peer.send(b"early answer")
    peer.close()
    vc.write(b"upload")
    loop.pump()
    assert session.events == ["made", "lost ConnectionAborted"]


@pytest.mark.parametrize("closing", [False, True])
def test_an_end_that_the_kernel_refuses_because_the_peer_is_gone_ends_all_the_same(loop: Loop, closing: bool) -> None:
    ours, theirs = tcp_pair()
    vc = loop.adopt(ours, Side.CLIENT)
    session = HalfClosing()
    vc.attach(session)
    vc.pauseProducing()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp._RESET_ON_CLOSE)
    theirs.close()
    if closing:
        vc.close()
    else:
        vc.finish()
    loop.pump()
    assert session.events == ["made", "lost ConnectionDone" if closing else "lost ConnectionLost"]


def test_a_dead_base_takes_nothing(loop: Loop) -> None:
    vc, _peer = loop.pair()
    base = vc.tcp
    vc.abort()
    base.write(b"to nobody")
    base.resume()
    base.pause()
    base.cut()
    base.abort()
    base.broke(OSError(errno.EIO, "again"))
    loop.pump()
    assert base.stage is Stage.DEAD
    assert base.sent == 0


def test_an_error_on_the_socket_reaches_the_session_once(loop: Loop) -> None:
    ours, theirs = tcp_pair()
    vc = loop.adopt(ours, Side.CLIENT)
    session = HalfClosing()
    vc.attach(session)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp._RESET_ON_CLOSE)
    theirs.close()
    loop.pump()
    assert session.events == ["made", "lost ConnectionLost"]
    assert "broke" in str(vc.error)


def test_a_reset_met_by_a_read_is_an_error_too(loop: Loop) -> None:
    ours, theirs = tcp_pair()
    vc = loop.adopt(ours, Side.CLIENT)
    session = HalfClosing()
    vc.attach(session)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp._RESET_ON_CLOSE)
    theirs.close()
    vc.tcp.readable()
    loop.pump()
    assert session.events == ["made", "lost ConnectionLost"]


def test_a_read_event_without_bytes_is_nothing(loop: Loop) -> None:
    vc, _peer = loop.pair()
    session = Listening()
    vc.attach(session)
    vc.tcp.readable()
    vc.tcp.writable()
    assert session.events == ["made"]
    assert not vc.dead


def test_the_peer_s_end_after_our_close_ends_it_without_lingering(loop: Loop) -> None:
    vc, peer = loop.pair()
    vc.close()
    loop.pump()
    assert not vc.dead
    peer.shutdown(socket.SHUT_WR)
    loop.pump()
    assert vc.dead


def test_a_peer_that_keeps_its_side_open_is_left_after_the_linger(loop: Loop) -> None:
    vc, _peer = loop.pair()
    vc.close()
    loop.pump()
    loop.pass_time(LINGER - 1)
    assert not vc.dead
    loop.pass_time(2)
    assert vc.dead


def test_reading_can_be_asked_about(loop: Loop) -> None:
    vc, _peer = loop.pair()
    assert vc.tcp.reading
    vc.pauseProducing()
    assert not vc.tcp.reading
    vc.close()
    assert vc.tcp.reading


def test_bytes_of_a_session_may_come_as_views_or_bytes(loop: Loop) -> None:
    vc, peer = loop.pair()
    kinds: list[type] = []

    class Plain(Listening):
        takes_views = False

        def dataReceived(self, data: Bytes) -> None:
            kinds.append(type(data))

    vc.attach(Plain())
    peer.send(b"1")
    loop.pump()
    views = Listening()
    views.on_data = lambda data: kinds.append(type(data))
    vc.attach(views)
    peer.send(b"2")
    loop.pump()
    assert kinds == [bytes, memoryview]
