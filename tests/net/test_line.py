"""Lines to engines: over TLS and a unix socket, lost, silent, and given up; and the body that waits for one."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail

from sslintercept.errors import InterceptError
from sslintercept.facts import Address
from sslintercept.net.connector import Connector
from sslintercept.net.intake import HOLD, MOST_KEPT, Intake
from sslintercept.net.line import Line, local, tcp
from sslintercept.net.places import Places
from sslintercept.net.upstream import UpstreamTls
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import EPOCH, Peer
from sslintercept.tls.context import UpstreamContext
from sslintercept.tls.verify import Verifier
from tests.engines import Engine, Stopping, fault, outcome
from tests.support import authority, leaf


class Nobody:
    """Knows no names."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        return fail(ValueError(host))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def secured(loop: Loop, listener: socket.socket, name: str | None) -> tuple[Deferred[Line], Peer]:
    """A line by TLS to an engine that shows a certificate for C{name}, or that says nothing."""
    tls = UpstreamTls(
        UpstreamContext(min_version="1.2"),
        Verifier([authority().certificate], None),
        require=True,
        timeout=5.0,
        wall_clock=lambda: EPOCH,
    )
    connector = Connector(loop.handler, Nobody(), timeout=3.0)
    opening = tcp(connector, Address(*listener.getsockname()), "engine", tls, "engine.test")()
    loop.pump()
    sock, _ = listener.accept()
    sock.setblocking(False)
    loop.peers.append(sock)
    (vc,) = loop.handler.connections
    peer = Peer(loop, sock, vc)
    if name is not None:
        peer.serve_tls(leaf(name))
    loop.pump()
    return opening, peer


def test_a_line_by_tls_carries_both_ways(loop: Loop, listener: socket.socket) -> None:
    opening, peer = secured(loop, listener, "engine.test")
    line = outcome(opening)
    got: list[bytes] = []
    line.received = lambda data: got.append(bytes(data))
    line.write(b"question")
    loop.pump()
    assert peer.take() == b"question"
    peer.send(b"answer")
    loop.pump()
    assert got == [b"answer"]
    line.close()


def test_an_engine_with_the_certificate_of_another_is_unreachable(loop: Loop, listener: socket.socket) -> None:
    opening, peer = secured(loop, listener, "other.test")
    assert fault(opening) == "unreachable"
    loop.pump()
    assert peer.ended


def test_an_engine_that_does_not_answer_the_handshake_is_unreachable(loop: Loop, listener: socket.socket) -> None:
    opening, _ = secured(loop, listener, None)
    loop.pass_time(7)
    assert fault(opening) == "unreachable"


def test_a_handshake_can_be_given_up(loop: Loop, listener: socket.socket) -> None:
    opening, peer = secured(loop, listener, None)
    opening.cancel()
    outcome(opening)
    loop.pump()
    assert peer.ended


def test_nobody_at_the_address_is_unreachable(loop: Loop, listener: socket.socket) -> None:
    where = Address(*listener.getsockname())
    listener.close()
    opening = tcp(Connector(loop.handler, Nobody(), timeout=3.0), where, "engine")()
    loop.pump()
    assert fault(opening) == "unreachable"


def test_a_unix_socket_carries_both_ways(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "engine")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        line = outcome(local(loop.handler, path, "engine")())
        line.write(b"question")
        loop.pump()
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(100) == b"question"
            line.close()
            loop.pump()
    assert fault(local(loop.handler, str(tmp_path / "x"), "engine")()) == "unreachable"


def test_silence_is_told_only_while_the_other_side_owes_something(loop: Loop) -> None:
    line = outcome(Engine(loop).open())
    ends: list[str] = []
    line.lost = lambda fault, why: ends.append(fault)
    line.owes = lambda: False
    line.expect(0, 5)
    loop.pass_time(20)
    assert not ends
    line.owes = lambda: True
    loop.pass_time(2)
    assert ends == ["hangs"]
    loop.pump()
    assert ends == ["hangs"]


def test_a_line_that_was_released_tells_nobody(loop: Loop) -> None:
    engine = Engine(loop)
    line = outcome(engine.open())
    ends: list[str] = []
    line.lost = lambda fault, why: ends.append(fault)
    line.release()
    engine.peers[0].finish()
    loop.pump()
    assert (ends, line.closed) == ([], True)


def test_a_body_waits_and_is_given_in_order() -> None:
    intake, got = Intake(), bytearray()
    intake.write(b"ab")
    intake.lead(got.extend, lambda: got.extend(b"."), at=1)
    intake.write(memoryview(b"cd"))
    intake.finish()
    assert got == b"bcd."
    assert not intake.whole


def test_one_that_is_retained_can_be_given_again() -> None:
    intake, got = Intake(), bytearray()
    intake.write(b"ab")
    intake.lead(got.extend, lambda: None, retain=True)
    intake.write(b"cd")
    intake.hold()
    intake.write(b"ef")
    intake.lead(got.extend, lambda: None)
    assert got == b"abcdabcdef"


def test_whoever_brings_more_than_may_wait_is_stopped_and_refused_if_it_goes_on() -> None:
    intake, producer = Intake(), Stopping()
    intake.attach(producer)
    intake.write(bytes(HOLD))
    assert not producer.stopped
    intake.write(b"x")
    assert producer.stopped
    with pytest.raises(InterceptError):
        intake.write(bytes(MOST_KEPT))
    intake.drop()
    assert not producer.stopped
    assert intake.kept == b""


def test_one_who_brings_it_later_is_stopped_if_there_is_enough() -> None:
    intake, producer = Intake(), Stopping()
    intake.write(bytes(HOLD + 1))
    intake.attach(producer)
    assert producer.stopped


def test_places_are_given_in_the_order_of_asking_and_more_when_there_are_more(loop: Loop) -> None:
    places = Places(loop.handler, "engine", 1)
    asked = [places.take() for _ in range(4)]
    places.most = 2
    places.let_in()
    assert [one.called for one in asked] == [True, True, False, False]
    asked[2].cancel()
    outcome(asked[2])
    places.free()
    assert asked[3].called
    assert places.waiting == 0
    places.close()
    assert fault(places.take()) == "stopped"
