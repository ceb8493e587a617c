"""The connection: sessions, timeouts, closing, back-pressure, and callbacks that pull it from under itself."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from sslintercept.errors import ClientError, TimedOut, TlsError
from sslintercept.facts import Address, Side
from sslintercept.net.vconnection import LINGER, NEVER, STALLED, NetVConnection
from sslintercept.profile.tcp import TcpProfile
from sslintercept.testing.loop import Loop
from tests.support import HalfClosing, Listening, Noting, is_ended, push_server, read_all, secured


def test_a_connection_is_what_twisted_calls_a_transport(loop: Loop) -> None:
    vc, _peer = loop.pair()
    for interface in (ITCPTransport, IConsumer, IPushProducer):
        assert verifyObject(interface, vc)
    assert vc.getPeer() == IPv4Address("TCP", "192.0.2.1", 50000)
    vc.local = Address("2001:db8::1", 8080)
    assert vc.getHost() == IPv6Address("TCP", "2001:db8::1", 8080)
    vc.setTcpNoDelay(True)
    assert vc.getTcpNoDelay()


def test_keep_alive_can_be_asked_for(loop: Loop) -> None:
    sock = socket.socket()
    vc = loop.adopt(sock, Side.UPSTREAM)
    assert not vc.getTcpKeepAlive()
    vc.setTcpKeepAlive(True)
    assert vc.getTcpKeepAlive()
    vc.abort()


def test_any_twisted_protocol_sits_on_any_depth_of_layers(loop: Loop) -> None:
    """T3.1"""

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert type(data) is bytes
            assert self.transport is not None
            self.transport.writeSequence([data, b"!"])
            if data == b"bye":
                self.transport.loseConnection()

    for layers in range(3):
        server, client = secured(loop, layers)
        server.attach(Echo())
        session = Listening()
        client.attach(session)
        client.write(b"hi")
        loop.pump()
        client.write(b"bye")
        loop.pump()
        assert session.got == b"hi!bye!"
        assert session.events == ["made", "lost ConnectionDone"]


# sessions


def test_a_session_that_was_replaced_hears_nothing_more(loop: Loop) -> None:
    vc, peer = loop.pair()
    first, second = HalfClosing(), HalfClosing()
    vc.attach(first)
    first.on_data = lambda data: vc.attach(second)
    peer.send(b"1")
    loop.pump()
    peer.send(b"2")
    peer.shutdown(socket.SHUT_WR)
    loop.pump()
    vc.close()
    loop.pump()
    assert (bytes(first.got), first.events) == (b"1", ["made"])
    assert (bytes(second.got), second.events) == (b"2", ["made", "read lost", "lost ConnectionDone"])


def test_a_session_attached_after_the_peer_s_end_is_told_of_it(loop: Loop) -> None:
    vc, peer = loop.pair()
    first, second, third = HalfClosing(), HalfClosing(), HalfClosing()
    vc.attach(first)
    peer.shutdown(socket.SHUT_WR)
    loop.pump()
    vc.attach(second)
    vc.attach(third)
    assert third.events == ["made"]
    loop.pump()
    assert (first.events, second.events, third.events) == (["made", "read lost"], ["made"], ["made", "read lost"])
    vc.close()


def test_a_session_attached_to_a_dead_connection_is_told_of_it(loop: Loop) -> None:
    vc, _peer = loop.pair()
    vc.abort()
    loop.pump()
    late = HalfClosing()
    vc.attach(late)
    vc.resumeProducing()
    vc.write(b"to nobody")
    loop.pump()
    assert late.events == ["made", "lost ConnectionAborted"]


def test_a_session_attached_between_the_death_and_its_telling_is_told_once(loop: Loop) -> None:
    vc, _peer = loop.pair()
    vc.abort()
    late = HalfClosing()
    vc.attach(late)
    loop.pump()
    assert late.events == ["made", "lost ConnectionAborted"]


def test_a_connection_without_a_session_closes_with_its_peer(loop: Loop) -> None:
    vc, peer = loop.pair()
    gone: list[NetVConnection] = []
    vc.closed = gone.append
    peer.close()
    loop.pump()
    assert gone == [vc]


def test_closed_is_called_even_if_the_session_fails_at_the_end(loop: Loop) -> None:
    vc, _peer = loop.pair()
    gone: list[NetVConnection] = []
    vc.closed = gone.append

    class Failing(Listening):
        def connectionLost(self, reason: Failure) -> None:
            raise ValueError("a defect")

    vc.attach(Failing())
    vc.abort()
    loop.pump()
    assert gone == [vc]
    assert [f.type for f in loop.failures] == [ValueError]
    loop.failures.clear()


def test_a_session_that_fails_costs_its_own_connection_and_is_told(loop: Loop) -> None:
    vc, peer = loop.pair()
    other, other_peer = loop.pair()
    session, bystander = HalfClosing(), HalfClosing()
    vc.attach(session)
    other.attach(bystander)
    gone: list[NetVConnection] = []
    vc.closed = gone.append

    def fail(data: object) -> None:
        raise ValueError("a defect")

    session.on_data = fail
    peer.send(b"x")
    other_peer.send(b"y")
    loop.pump()
    assert session.events == ["made", "lost ConnectionLost"]
    assert gone == [vc]
    assert vc not in loop.handler.connections
    assert bystander.got == b"y"
    assert [f.type for f in loop.failures] == [ValueError]
    loop.failures.clear()
    other.close()


# T2.5: whoever closes within a callback hears nothing more


@pytest.mark.parametrize("how", ["close", "abort", "finish"])
def test_a_callback_may_end_its_connection(loop: Loop, how: str) -> None:
    """T2.5"""
    for layers in range(3):
        server, client = secured(loop, layers)
        session, peer = HalfClosing(), HalfClosing()
        server.attach(session)
        client.attach(peer)
        session.on_data = lambda data, server=server: getattr(server, how)()  # type: ignore[misc]
        client.write(b"1")
        client.write(b"2" * 300_000)
        loop.pump()
        if how == "finish":
            assert peer.events == ["made", "read lost"]
            assert len(session.got) == 300_001
            server.abort()
        else:
            assert len(session.got) <= 256 * 1024 + 16384
        client.close()
        loop.pump()
        loop.pass_time(LINGER + 2)
        assert session.events[0] == "made"
        assert len(session.events) == 2


def test_a_connection_may_be_cut_from_within_its_own_write(loop: Loop) -> None:
    """T2.5: a producer that is told to pause, and cuts."""
    vc, _peer = loop.pair(buffer=4096)
    session = Listening()
    vc.attach(session)

    class Impatient(Noting):
        def pauseProducing(self) -> None:
            super().pauseProducing()
            vc.abort()

    producer = Impatient()
    vc.registerProducer(producer, True)
    vc.write(b"x" * 500_000)
    vc.write(b"more")
    loop.pump()
    assert producer.events == ["pause", "stop"]
    assert session.events == ["made", "lost ConnectionAborted"]


def test_every_way_to_end_a_dead_connection_does_nothing(loop: Loop) -> None:
    vc, _peer = loop.pair()
    session = Listening()
    vc.attach(session)
    vc.abort()
    loop.pump()
    for end in (vc.abort, vc.close, vc.finish, vc.loseConnection, vc.loseWriteConnection, vc.abortConnection):
        end()
    vc.fail(ValueError("late"))
    vc.tls_broke(TlsError("late", where="test"))
    vc.pauseProducing()
    vc.resumeProducing()
    vc.stopProducing()
    loop.pump()
    assert session.events == ["made", "lost ConnectionAborted"]


# closing


def test_a_close_sends_everything_and_then_waits_a_bounded_time(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=8192)
    session = Listening()
    vc.attach(session)
    vc.write(b"d" * 100_000)
    vc.loseConnection()
    got = bytearray()
    for _ in range(500):
        got += read_all(peer)
        loop.turn()
    assert len(got) == 100_000
    assert is_ended(peer)
    assert session.events == ["made"]
    loop.pass_time(LINGER + 2)
    assert session.events == ["made", "lost ConnectionDone"]


def test_a_close_with_a_full_queue_and_a_peer_that_never_reads_ends_by_the_idle_limit(loop: Loop) -> None:
    vc, _peer = loop.pair(buffer=4096)
    vc.attach(Listening())
    vc.idle_limit = 10.0
    vc.write(b"d" * 1_000_000)
    vc.close()
    loop.pump()
    loop.pass_time(9)
    assert not vc.dead
    loop.pass_time(3)
    assert vc.dead


def test_a_closed_connection_without_an_idle_limit_ends_all_the_same(loop: Loop) -> None:
    vc, _peer = loop.pair(buffer=4096)
    vc.write(b"d" * 1_000_000)
    vc.close()
    loop.pass_time(STALLED - 1)
    assert not vc.dead
    loop.pass_time(3)
    assert vc.dead


def test_a_peer_that_takes_nothing_cannot_keep_a_closed_connection_by_sending(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=4096)
    vc.idle_limit = 10.0
    vc.write(b"d" * 1_000_000)
    vc.close()
    for _ in range(10):
        peer.send(b".")
        loop.pass_time(1)
    loop.pass_time(2)
    assert vc.dead


def test_a_peer_that_takes_slowly_keeps_a_closed_connection(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=4096)
    vc.idle_limit = 10.0
    vc.write(b"d" * 100_000)
    vc.close()
    got = 0
    while got < 100_000:
        got += len(read_all(peer))
        loop.pump()
        loop.pass_time(5)
        assert loop.seconds() < 1000
    loop.pass_time(LINGER + 2)
    assert vc.dead


def test_a_connection_that_was_silent_for_long_is_still_closed_in_order(loop: Loop) -> None:
    vc, peer = loop.pair()
    session = Listening()
    vc.attach(session)
    loop.pass_time(1000)
    vc.write(b"bye")
    vc.tcp.active = 0.0
    vc.idle_limit = 10.0
    vc.close()
    loop.pass_time(1)
    assert not vc.dead
    loop.pass_time(LINGER + 1)
    assert session.events == ["made", "lost ConnectionDone"]
    assert read_all(peer) == b"bye"


def test_a_close_after_a_half_close_lingers_no_longer_than_any_other(loop: Loop) -> None:
    vc, _peer = loop.pair()
    vc.idle_limit = 900.0
    vc.finish()
    vc.close()
    loop.pass_time(LINGER + 2)
    assert vc.dead


def test_a_slow_peer_gets_what_the_kernel_has_after_the_linger_is_over(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        ours = socket.create_connection(door.getsockname())
        theirs, _ = door.accept()
    ours.setblocking(False)
    vc = loop.adopt(ours, Side.CLIENT)
    data = b"download" * 20_000
    vc.write(data)
    assert vc.pending() == 0
    vc.close()
    loop.pass_time(LINGER + 2)
    assert vc.dead
    with theirs:
        got = bytearray()
        while piece := theirs.recv(1 << 20):
            got += piece
    assert got == data


def test_an_abort_is_a_reset(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        ours = socket.create_connection(door.getsockname())
        theirs, _ = door.accept()
    ours.setblocking(False)
    with theirs:
        loop.adopt(ours, Side.CLIENT).abort()
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
    loop.pump()


@pytest.mark.parametrize("layers", [0, 1])
def test_an_end_is_mirrored_the_way_it_was(loop: Loop, layers: int) -> None:
    """A clean end stays one, a truncation stays one, a refused record is none, and a reset is a reset."""
    for ending, expected in (("clean", "clean"), ("truncated", "truncated"), ("fault", "truncated"), ("reset", "lost")):
        first, _ = loop.pair()
        server, client = secured(loop, layers)
        heard = HalfClosing()
        client.attach(heard)
        if ending == "truncated":
            first.truncated = True
        elif ending == "fault":
            first.error = TlsError("a record was refused", where="TLS")
        elif ending == "reset":
            first.tcp.broke(ConnectionResetError())
        server.mirror(first)
        loop.pump()
        if layers and expected != "lost":
            assert heard.events == ["made", "read lost"]
            assert client.truncated is (expected == "truncated")
        assert server.closing
        if expected == "lost":
            assert server.dead
            assert isinstance(server.error, ClientError), "whose reset it was can be told"
        for vc in (first, client):
            vc.abort()


# timeouts


def test_the_idle_timer_restarts_with_traffic_and_the_deadline_does_not(loop: Loop) -> None:
    """T2.7"""
    vc, peer = loop.pair()
    vc.attach(Listening())
    kinds: list[str] = []
    vc.timed_out = kinds.append
    vc.idle_limit = 5.0
    vc.deadline = loop.seconds() + 12
    for _ in range(11):
        loop.pass_time(1)
        peer.send(b".")
        loop.pump()
    assert kinds == []
    loop.pass_time(1)
    assert kinds == ["deadline"]
    loop.pass_time(3)
    assert kinds == ["deadline"]
    loop.pass_time(2)
    assert kinds == ["deadline", "idle"]
    loop.pass_time(20)
    assert kinds == ["deadline", "idle"]


def test_a_timer_comes_once_and_only_again_if_it_is_armed_again(loop: Loop) -> None:
    """T2.7"""
    vc, _peer = loop.pair()
    kinds: list[str] = []

    def late(kind: str) -> None:
        kinds.append(kind)
        if len(kinds) == 1:
            vc.idle_limit = 3.0
            vc.tcp.active = loop.seconds()

    vc.timed_out = late
    vc.idle_limit = 3.0
    loop.pass_time(20)
    assert kinds == ["idle", "idle"]
    assert vc.idle_limit == 0.0
    assert vc.deadline == NEVER


def test_a_timeout_nobody_handles_closes_with_a_reason(loop: Loop) -> None:
    vc, _peer = loop.pair()
    session = Listening()
    vc.attach(session)
    vc.idle_limit = 2.0
    loop.pass_time(8)
    assert isinstance(vc.error, TimedOut)
    assert session.events == ["made", "lost TimedOut"]


# back-pressure


def test_a_full_queue_stops_the_producer_and_an_emptied_one_starts_it(loop: Loop) -> None:
    """T2.3"""
    vc, peer = loop.pair(buffer=4096)
    producer = Noting()
    vc.registerProducer(producer, True)
    vc.write(b"x" * (vc.high_water + 4096 * 8))
    vc.write(b"x" * 10)
    assert producer.events == ["pause"]
    while vc.pending() > vc.low_water:
        assert producer.events == ["pause"]
        read_all(peer)
        loop.turn()
    assert producer.events == ["pause", "resume"]
    vc.unregisterProducer()
    vc.close()
    for _ in range(100):
        read_all(peer)
        loop.turn()


def test_marks_of_one_byte_do_not_dead_lock(loop: Loop) -> None:
    """T5.4"""
    vc, peer = loop.pair(buffer=4096)
    vc.high_water = vc.low_water = 1
    producer = Noting()
    vc.registerProducer(producer, True)
    for _ in range(5):
        vc.write(b"x" * 100_000)
        while vc.pending():
            read_all(peer)
            loop.turn()
    assert producer.events == ["pause", "resume"] * 5
    vc.close()


def test_nothing_happens_on_an_empty_queue(loop: Loop) -> None:
    """T2.4: no busy loop; a producer that has nothing is not asked again and again."""
    vc, _peer = loop.pair()
    push, pull = Noting(), Noting()
    vc.registerProducer(push, True)
    loop.pump()
    vc.unregisterProducer()
    vc.registerProducer(pull, False)
    loop.pump()
    assert push.events == []
    assert pull.events == ["resume"]
    vc.abort()
    assert pull.events == ["resume", "stop"]


@pytest.mark.parametrize("buffer", [None, 4096])
@pytest.mark.parametrize("layers", [0, 1])
def test_a_pull_producer_is_asked_until_it_is_done(loop: Loop, tmp_path: Any, buffer: int | None, layers: int) -> None:
    server, client = secured(loop, layers, buffer)
    session = Listening()
    client.attach(session)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100_000)
    done: list[bytes] = []
    with path.open("rb") as file:
        FileSender().beginFileTransfer(file, server).addCallback(done.append)
        loop.pump()
    assert done == [b"9"]
    assert session.got == b"0123456789" * 100_000
    server.close()


def test_a_producer_that_leaves_while_it_is_about_to_be_asked_is_not(loop: Loop) -> None:
    vc, _peer = loop.pair()
    pull = Noting()
    vc.registerProducer(pull, False)
    vc.unregisterProducer()
    loop.pump()
    assert pull.events == []
    vc.close()


def test_producers_come_one_after_the_other(loop: Loop) -> None:
    vc, peer = loop.pair(buffer=4096)
    first, second = Noting(), Noting()
    vc.registerProducer(first, True)
    with pytest.raises(RuntimeError, match="still is"):
        vc.registerProducer(second, True)
    vc.write(b"x" * 200_000)
    vc.unregisterProducer()
    vc.unregisterProducer()
    vc.registerProducer(second, True)
    assert (first.events, second.events) == (["pause"], ["pause"])
    while vc.pending():
        read_all(peer)
        loop.turn()
    assert (first.events, second.events) == (["pause"], ["pause", "resume"])
    vc.abort()
    assert second.events == ["pause", "resume", "stop"]


def test_a_producer_that_comes_after_the_close_is_stopped(loop: Loop) -> None:
    vc, _peer = loop.pair()
    vc.close()
    late = Noting()
    vc.registerProducer(late, True)
    assert late.events == ["stop"]


def test_a_producer_that_fails_when_it_is_stopped_keeps_nobody_from_being_told(loop: Loop) -> None:
    vc, _peer = loop.pair()
    session = Listening()
    vc.attach(session)

    class Failing(Noting):
        def stopProducing(self) -> None:
            raise ValueError("a defect")

    vc.registerProducer(Failing(), True)
    with pytest.raises(ValueError, match="defect"):
        vc.abort()
    loop.pump()
    assert session.events == ["made", "lost ConnectionAborted"]


# a connection that hangs on another


def test_a_hanging_connection_is_picked_up_once(loop: Loop) -> None:
    client, _ = loop.pair()
    server, _ = loop.pair(Side.UPSTREAM)
    client.hang(server)
    assert server.owner is client
    assert client.pick_up() is server
    assert server.owner is None
    assert client.pick_up() is None


def test_a_hanging_connection_closes_with_its_owner_and_its_death_empties_the_slot(loop: Loop) -> None:
    for end in ("close", "abort"):
        client, _ = loop.pair()
        server, _ = loop.pair(Side.UPSTREAM)
        client.hang(server)
        getattr(client, end)()
        assert server.closing
        assert client.server_vc is None
    client, _ = loop.pair()
    server, _ = loop.pair(Side.UPSTREAM)
    client.hang(server)
    server.abort()
    assert client.server_vc is None
    assert client.pick_up() is None


def test_a_hanging_connection_that_is_closing_is_not_picked_up(loop: Loop) -> None:
    client, _ = loop.pair()
    server, _ = loop.pair(Side.UPSTREAM)
    client.hang(server)
    server.close()
    assert client.pick_up() is None


def test_hanging_on_somebody_who_is_gone_or_taken_leaves_nobody_without_an_owner(loop: Loop) -> None:
    client, _ = loop.pair()
    first, _ = loop.pair(Side.UPSTREAM)
    second, _ = loop.pair(Side.UPSTREAM)
    client.hang(first)
    client.hang(second)
    client.hang(second)
    assert first.closing
    assert client.server_vc is second
    dead, _ = loop.pair(Side.UPSTREAM)
    dead.abort()
    client.hang(dead)
    assert client.server_vc is None
    assert second.closing
    client.close()
    third, _ = loop.pair(Side.UPSTREAM)
    client.hang(third)
    assert third.closing
    assert third.owner is None


def test_an_owner_that_has_another_one_already_keeps_it(loop: Loop) -> None:
    client, _ = loop.pair()
    first, _ = loop.pair(Side.UPSTREAM)
    second, _ = loop.pair(Side.UPSTREAM)
    client.hang(first)
    client.server_vc = second
    first.abort()
    assert client.server_vc is second
    client.abort()


def test_a_tls_fault_of_an_unattached_connection_closes_it(loop: Loop) -> None:
    vc, peer = loop.pair()
    push_server(vc)
    peer.send(b"no TLS at all")
    loop.pump()
    assert vc.closing
    assert isinstance(vc.error, TlsError)


def test_a_broken_socket_tells_what_happened(loop: Loop) -> None:
    vc, _ = loop.pair()
    session = Listening()
    vc.attach(session)
    assert isinstance(vc.tcp, TcpProfile)
    vc.fail(ValueError("the chain is unusable"))
    vc.fail(ValueError("again"))
    loop.pump()
    assert session.events == ["made", "lost ValueError"]
