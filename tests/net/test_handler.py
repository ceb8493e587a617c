"""The watched set: postponed calls, defects, and descriptors whose numbers are used again."""

from __future__ import annotations

import socket
from collections.abc import Callable
from select import EPOLLIN

import pytest
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from sslintercept.net import handler as module
from sslintercept.net.handler import KEEP_COUNT, KEEP_IDLE, KEEP_INTERVAL, option
from sslintercept.testing.loop import Loop
from tests.support import Listening, read_all


class Watching:
    """Something in the set."""

    def __init__(self) -> None:
        self.turn = -1
        self.events: list[str] = []
        self.on_read: Callable[[], object] = lambda: None
        self.on_abort: Callable[[], object] = lambda: None

    def readable(self) -> None:
        self.events.append("readable")
        self.on_read()

    def event(self, event: int) -> None:
        self.events.append(f"event {event}")

    def abort(self) -> None:
        self.events.append("abort")
        self.on_abort()


def fail() -> None:
    raise ValueError("a defect")


def test_the_set_is_one_descriptor_of_the_reactor(loop: Loop) -> None:
    handler = loop.handler
    assert verifyObject(IReadDescriptor, handler)
    assert handler.fileno() >= 0
    assert handler.logPrefix() == "net"
    handler.connectionLost(Failure(ValueError("stopping")))
    stopped = Loop()
    stopped.close()
    assert stopped.handler.fileno() == -1


def test_a_stopped_set_wants_no_further_call() -> None:
    clock = Loop()
    clock.handler.soon(lambda: None)
    clock.close()
    assert clock.getDelayedCalls() == []
    assert clock.readers == []
    clock.cop.stop()


def test_postponed_calls_come_in_order_after_the_present_stack(loop: Loop) -> None:
    order: list[int] = []

    def first() -> None:
        order.append(1)
        loop.handler.soon(lambda: order.append(3))

    loop.handler.soon(first)
    loop.handler.soon(lambda: order.append(2))
    assert order == []
    loop.pump()
    assert order == [1, 2, 3]


def test_a_postponed_call_of_an_event_comes_in_the_same_turn(loop: Loop) -> None:
    vc, peer = loop.pair()
    session = Listening()
    vc.attach(session)
    order: list[str] = []
    session.on_data = lambda data: loop.handler.soon(lambda: order.append("soon"))
    peer.send(b"x")
    loop.handler.doRead()
    assert order == ["soon"]
    vc.close()


def test_a_postponed_call_that_fails_is_logged_and_the_others_come(loop: Loop) -> None:
    order: list[int] = []
    loop.handler.soon(fail)
    loop.handler.soon(lambda: order.append(1))
    loop.pump()
    assert order == [1]
    assert [f.type for f in loop.failures] == [ValueError]
    loop.failures.clear()


def test_calls_that_postpone_themselves_for_ever_let_the_loop_have_its_turn(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(module, "BATCH", 10)
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        if count < 35:
            loop.handler.soon(again)

    loop.handler.soon(again)
    loop.handler.doRead()
    assert count == 10
    loop.pump()
    assert count == 35


def test_a_defect_costs_the_one_it_happened_in_even_if_cutting_it_fails_too(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    bad, good = Watching(), Watching()
    bad.on_read = bad.on_abort = fail
    for (ours, theirs), one in zip(pairs, (bad, good), strict=True):
        ours.setblocking(False)
        loop.handler.add(ours.fileno(), one, EPOLLIN)
        theirs.send(b"x")
    loop.handler.doRead()
    assert bad.events == ["readable", "abort"]
    assert good.events == ["readable"]
    assert [f.type for f in loop.failures] == [ValueError, ValueError]
    loop.failures.clear()
    for ours, theirs in pairs:
        loop.handler.remove(ours.fileno())
        loop.handler.remove(ours.fileno())
        ours.close()
        theirs.close()


def test_a_number_used_again_in_the_same_turn_gets_no_event_of_its_former_owner(loop: Loop) -> None:
    first, first_peer = loop.pair()
    second, second_peer = loop.pair()
    sessions = Listening(), Listening()
    first.attach(sessions[0])
    second.attach(sessions[1])
    made: list[Watching] = []
    socks: list[socket.socket] = []

    def replace(other: int) -> None:
        victim = (first, second)[other]
        if victim.dead:
            return
        fd = victim.tcp.fd
        victim.abort()
        ours, theirs = socket.socketpair()
        socks.extend((ours, theirs))
        assert fd in (ours.fileno(), theirs.fileno())
        made.append(Watching())
        loop.handler.add(fd, made[0], EPOLLIN)

    sessions[0].on_data = lambda data: replace(1)
    sessions[1].on_data = lambda data: replace(0)
    for peer in (first_peer, second_peer):
        peer.send(b"x")
        peer.shutdown(socket.SHUT_RDWR)
    loop.handler.doRead()
    assert [one.events for one in made] == [[]]
    for one in loop.handler.watched():
        if one in made:
            for sock in socks:
                loop.handler.remove(sock.fileno())
    for sock in socks:
        sock.close()
    for vc in (first, second):
        vc.close()


def test_an_event_of_somebody_who_left_in_the_same_turn_is_dropped(loop: Loop) -> None:
    first, first_peer = loop.pair()
    second, second_peer = loop.pair()
    sessions = Listening(), Listening()
    for vc, other, session in ((first, second, sessions[0]), (second, first, sessions[1])):
        vc.attach(session)
        session.on_data = lambda data, other=other: other.abort()  # type: ignore[misc]  # a lambda's default
    for peer in (first_peer, second_peer):
        peer.send(b"x")
    loop.pump()
    assert sorted(bytes(s.got) for s in sessions) == [b"", b"x"]
    assert first.dead != second.dead
    for vc in (first, second):
        vc.abort()


def test_many_connections_are_served_in_turns(loop: Loop) -> None:
    pairs = [loop.pair() for _ in range(200)]
    sessions = []
    for vc, peer in pairs:
        session = Listening()
        sessions.append(session)
        vc.attach(session)
        session.on_data = lambda data, vc=vc: vc.write(bytes(data))  # type: ignore[misc]  # a lambda's default
        peer.send(b"echo")
    loop.pump()
    assert all(read_all(peer) == b"echo" for _, peer in pairs)


def test_the_kernel_looks_after_every_connection_of_ours() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        option(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [KEEP_IDLE, KEEP_INTERVAL, KEEP_COUNT]
