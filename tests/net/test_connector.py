"""From a name to a connection: refused, slow, cancelled, forbidden, and without an end."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from sslintercept.errors import ConnectError, ResolveError
from sslintercept.facts import Address, Side
from sslintercept.net.connector import MOST_ADDRESSES, Connector, Denied, Forbidden
from sslintercept.net.race import DEAD, DELAY, Attempt, Dead
from sslintercept.net.vconnection import NetVConnection
from sslintercept.testing.loop import Loop


class Names:
    """A resolver that knows what a test tells it."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.asked: list[str] = []

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        self.asked.append(host)
        found = self.names.get(host)
        if found is None:
            return fail(ResolveError("the name has no address", where=host, remedy="check its spelling"))
        return succeed(found)


@pytest.fixture
def door() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def connector(loop: Loop, timeout: float = 10.0, **names: list[str]) -> Connector:
    return Connector(loop.handler, Names(**names), timeout=timeout)


def begin(loop: Loop, made: Connector, host: str, port: int) -> tuple[list[Any], Deferred[NetVConnection]]:
    found: list[Any] = []
    deferred = Deferred.fromCoroutine(made.connect(Address(host, port)))
    deferred.addBoth(found.append)
    return found, deferred


class Silent:
    """Connecting to this never ends: a socket that says it is under way, and is never writable."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, but: str = "") -> None:
        self.tried: list[str] = []
        silent = self

        class Sock(socket.socket):
            def connect_ex(self, address: Any) -> int:
                if address[0] == but:
                    return super().connect_ex(address)
                silent.tried.append(address[0])
                theirs = socket.socketpair()
                # A full queue is not writable.
                theirs[0].setblocking(False)
                with suppress(BlockingIOError):
                    while True:
                        theirs[0].send(bytes(65536))
                os.dup2(theirs[0].fileno(), self.fileno(), inheritable=False)
                theirs[0].close()
                silent.kept.append(theirs[1])
                return errno.EINPROGRESS

        self.kept: list[socket.socket] = []
        monkeypatch.setattr(socket, "socket", Sock)

    def close(self) -> None:
        for sock in self.kept:
            sock.close()


def test_a_literal_address_is_connected_without_a_question(loop: Loop, door: socket.socket) -> None:
    made = connector(loop)
    found, _ = begin(loop, made, "127.0.0.1", door.getsockname()[1])
    loop.pump()
    (vc,) = found
    assert vc.side is Side.UPSTREAM
    assert str(vc) == "tcp"
    assert str(vc.peer) == f"127.0.0.1:{door.getsockname()[1]}"
    vc.abort()
    assert made._resolver.asked == []  # type: ignore[attr-defined]


def test_the_next_address_is_tried_when_one_refuses(loop: Loop, door: socket.socket) -> None:
    found, _ = begin(loop, connector(loop, origin=["127.0.0.2", "127.0.0.1"]), "origin", door.getsockname()[1])
    loop.pump()
    assert found[0].peer.host == "127.0.0.1"
    found[0].abort()


def test_when_all_refuse_the_last_reason_is_told(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    found, _ = begin(loop, connector(loop, origin=["127.0.0.1"]), "origin", port)
    loop.pump()
    assert found[0].check(ConnectError)
    assert f"cannot connect to 127.0.0.1:{port} (Connection refused)" in str(found[0].value)


def test_a_name_without_addresses_is_no_connection(loop: Loop) -> None:
    found, _ = begin(loop, connector(loop), "nowhere", 80)
    loop.pump()
    assert found[0].check(ResolveError)
    empty: list[Any] = []
    Deferred.fromCoroutine(connector(loop).connect(Address("x", 80), [])).addBoth(empty.append)
    assert empty[0].check(ConnectError)


def test_no_more_than_a_few_addresses_are_tried(loop: Loop) -> None:
    many = [f"127.0.0.{i}" for i in range(1, 100)]
    found: list[Any] = []
    Deferred.fromCoroutine(connector(loop, origin=many).addresses("origin")).addBoth(found.append)
    assert found == [many[:MOST_ADDRESSES]]


def test_a_forbidden_address_gets_no_packet(loop: Loop, door: socket.socket) -> None:
    made = Connector(
        loop.handler,
        Names(origin=["127.0.0.1"]),
        timeout=10,
        allowed=lambda host, port: Denied(f"{host} is in a private network", "see the settings"),
    )
    found, _ = begin(loop, made, "origin", door.getsockname()[1])
    loop.pump()
    assert found[0].check(Forbidden)
    assert str(found[0].value).endswith(": 127.0.0.1 is in a private network; see the settings")
    door.setblocking(False)
    with pytest.raises(BlockingIOError):
        door.accept()


def test_the_next_address_is_tried_beside_one_that_keeps_us_waiting(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305 5"""
    silent = Silent(monkeypatch)
    found, _ = begin(loop, connector(loop, timeout=9, origin=["192.0.2.1", "192.0.2.2", "192.0.2.3"]), "origin", 443)
    assert silent.tried == ["192.0.2.1"]
    loop.pump([DELAY - 0.01])
    assert silent.tried == ["192.0.2.1"]
    loop.pump([0.01])
    assert silent.tried == ["192.0.2.1", "192.0.2.2"]
    loop.pump([DELAY])
    assert silent.tried == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    loop.pass_time(8)
    assert found == []
    loop.pass_time(1)
    assert found[0].check(ConnectError)
    assert "timed out" in str(found[0].value)
    silent.close()


def test_the_first_that_answers_wins_and_the_others_are_given_up(
    loop: Loop, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Silent(monkeypatch, but="127.0.0.1")
    made = connector(loop, origin=["192.0.2.1", "127.0.0.1", "192.0.2.3"])
    found, _ = begin(loop, made, "origin", door.getsockname()[1])
    loop.pump([DELAY])
    assert found[0].peer.host == "127.0.0.1"
    assert silent.tried == ["192.0.2.1"]
    found[0].abort()
    silent.close()


def test_an_address_that_did_not_answer_is_tried_last_until_its_time_is_over(loop: Loop, door: socket.socket) -> None:
    """T9.4: 16 addresses, one dead."""
    port = door.getsockname()[1]
    made = connector(loop, origin=["127.0.0.2", *["127.0.0.1"] * 15], only=["127.0.0.2"])
    dead = made._dead
    both = [Address("127.0.0.2", port), Address("127.0.0.1", port)]
    for _ in range(2):
        found, _ = begin(loop, made, "origin", port)
        loop.pump()
        assert found[0].peer.host == "127.0.0.1"
        found[0].abort()
        assert dead.last(both, loop.seconds()) == both[::-1]
        loop.pass_time(DEAD / 2 - 1)
    loop.pass_time(2)
    assert dead.last(both, loop.seconds()) == both
    with socket.create_server(("127.0.0.2", port)):
        # All are dead: one is tried all the same, and if it answers it is alive.
        dead.note(both[0], loop.seconds())
        found, _ = begin(loop, made, "only", port)
        loop.pump()
        assert found[0].peer.host == "127.0.0.2"
        assert len(dead) == 0
        found[0].abort()


def test_the_dead_are_bounded_and_forgotten_in_time() -> None:
    dead = Dead(seconds=10, most=2)
    peers = [Address("192.0.2.1", port) for port in range(3)]
    for peer in peers:
        dead.note(peer, 0.0)
    assert len(dead) == 2
    assert dead.last(peers, 5.0) == peers
    assert dead.last([peers[1], peers[0]], 5.0) == [peers[0], peers[1]]
    assert dead.last([peers[1], peers[0]], 10.0) == [peers[1], peers[0]]
    assert dead.last(peers[1:2], 5.0) == peers[1:2]


def test_a_late_timer_leaves_no_time_for_the_rest(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that was busy for longer than the whole limit."""
    silent = Silent(monkeypatch)
    found, _ = begin(loop, connector(loop, timeout=4, origin=["192.0.2.1", "192.0.2.2"]), "origin", 443)
    loop.advance(100)
    loop.pump()
    assert silent.tried == ["192.0.2.1"]
    assert found[0].check(ConnectError)
    none: list[Any] = []
    Deferred.fromCoroutine(connector(loop, timeout=0).connect(Address("192.0.2.1", 1))).addBoth(none.append)
    assert "in time" in str(none[0].value)
    silent.close()


def test_a_cancelled_connect_leaves_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Silent(monkeypatch)
    found, deferred = begin(loop, connector(loop), "192.0.2.1", 443)
    loop.pump()
    deferred.cancel()
    loop.pump()
    assert found[0].check(CancelledError)
    silent.close()


def test_a_connect_cancelled_before_its_refusal_is_told_is_cancelled_once(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda self, address: errno.ENETUNREACH, raising=False)
    found, deferred = begin(loop, connector(loop), "192.0.2.1", 443)
    deferred.cancel()
    loop.pump()
    assert found[0].check(CancelledError)


def test_a_network_that_cannot_be_reached_is_told(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sock(socket.socket):
        def connect_ex(self, address: Any) -> int:
            return errno.ENETUNREACH

    monkeypatch.setattr(socket, "socket", Sock)
    found, _ = begin(loop, connector(loop), "2001:db8::1", 443)
    loop.pump()
    assert "Network is unreachable" in str(found[0].value)


def test_an_address_that_cannot_be_used_and_a_lack_of_descriptors_are_errors_of_the_connect(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = begin(loop, connector(loop), "127.0.0.1", 70_000)
    loop.pump()
    assert found[0].check(ConnectError)
    assert "0-65535" in str(found[0].value)

    def exhausted(*args: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", exhausted)
    found, _ = begin(loop, connector(loop), "127.0.0.1", 80)
    loop.pump()
    assert "Too many open files" in str(found[0].value)


def test_a_defect_while_the_outcome_is_looked_at_fails_the_attempt(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Silent(monkeypatch)
    attempt = Attempt(loop.handler, Address("192.0.2.1", 443), 5)
    found: list[Any] = []
    attempt.done.addErrback(found.append)
    attempt.readable()
    attempt.abort()
    attempt.abort()
    assert found[0].check(OSError)
    silent.close()
