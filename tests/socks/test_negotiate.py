"""Whole conversations of SOCKS in memory: what clients say, what they are told, and where it leads."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred, execute

from sslintercept.errors import ConnectError, InterceptError, ResolveError, TimedOut
from sslintercept.facts import Address, Facts, Scope, Side
from sslintercept.probe.accept import Hanging
from sslintercept.socks import negotiate
from sslintercept.socks.users import Cost, Users, make_line
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.socks.support import IDLE, INTERCEPT, TIMEOUT, Port
from tests.support import leaf, push_server

HELLO = b"\x05\x01\x00"
TO_NAME = b"\x05\x01\x00\x03\x0borigin.test\x01\xbb"
GRANTED = b"\x05\x00\x00\x01\xc0\x00\x02\x09\x9c\x40"
NOBODY = b"\x00\x01" + bytes(6)
LOGIN = b"\x05\x02\x00\x02"
ALICE = b"\x01\x05alice\x06secret"


def users(folder: Path, run: Callable[[Callable[[], bool]], Deferred[bool]] = execute) -> Users:
    path = folder / "users"
    path.write_text(make_line("alice", "secret", Cost(16, 1, 1)), encoding="utf-8")
    path.chmod(0o600)
    return Users.load(path, run)[0]


def v5(command: int, host: str, port: int) -> bytes:
    raw = ipaddress.ip_address(host).packed
    return bytes((5, command, 0, 1 if len(raw) == 4 else 4)) + raw + port.to_bytes(2, "big")


# CONNECT


@pytest.mark.parametrize(
    ("request_", "destination"),
    [
        (v5(1, "192.0.2.7", 443), Address("192.0.2.7", 443)),
        (v5(1, "2001:db8::7", 443), Address("2001:db8::7", 443)),
        (TO_NAME, Address("origin.test", 443)),
    ],
)
def test_socks_5_leads_to_addresses_and_names(loop: Loop, request_: bytes, destination: Address) -> None:
    port = Port(loop)
    client = port.said(HELLO)
    assert client.take() == b"\x05\x00"
    client.send(request_)
    loop.pump()
    assert client.take() == GRANTED
    assert port.way.asked == [(destination, "socks5")]
    assert port.way.entered == [(b"", "socks5")]
    client.send(b"question")
    port.way.origins[0].send(b"answer")
    loop.pump()
    assert (port.way.origins[0].take(), client.take()) == (b"question", b"answer")
    assert port.last.stack == "tcp/socks5"
    assert port.steps == ["probed", "socks_received", "socks_answered"]
    assert port.error is None


@pytest.mark.parametrize(
    ("request_", "destination"),
    [
        (b"\x04\x01\x01\xbb\xc0\x00\x02\x07me\0", Address("192.0.2.7", 443)),
        (b"\x04\x01\x01\xbb\0\0\0\x01\0origin.test\0", Address("origin.test", 443)),
    ],
)
def test_socks_4_and_4a_lead_there_too(loop: Loop, request_: bytes, destination: Address) -> None:
    port = Port(loop)
    client = port.said(request_)
    assert client.take() == b"\x00\x5a\x9c\x40\xc0\x00\x02\x09"
    assert port.way.asked[0][0] == destination
    assert port.way.entered == [(b"", "socks4")]
    assert port.last.user is None


@pytest.mark.parametrize("opening", [HELLO + TO_NAME, b"\x04\x01\x01\xbb\0\0\0\x01\0origin.test\0"])
def test_what_is_said_behind_the_request_goes_on_at_every_cut(loop: Loop, opening: bytes) -> None:
    port = Port(loop)
    early = b"\x16\x03\x01early"
    for cut in range(1, len(opening + early)):
        whole = opening + early
        client = port.said(whole[:cut], whole[cut:])
        assert port.way.origins[-1].take() == early
        client.close()
    port.said(*(bytes((byte,)) for byte in opening + early))
    assert port.way.origins[-1].take() == early


def test_what_is_said_while_the_way_is_made_waits_in_the_socket(loop: Loop) -> None:
    port = Port(loop)
    port.way.held = []
    client = port.said(HELLO, TO_NAME + b"first ", b"second")
    assert client.vc.tcp.reading is False
    port.way.held[0]()
    loop.pump()
    assert client.take() == b"\x05\x00" + GRANTED
    assert port.way.entered == [(b"first ", "socks5")]
    assert port.way.origins[0].take() == b"first second"


def test_a_way_that_is_kept_ready_has_no_bound_address(loop: Loop) -> None:
    port = Port(loop)
    port.way.ready = True
    assert port.said(HELLO, TO_NAME).take() == b"\x05\x00\x05\x00" + NOBODY


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectError("down", where="origin", remedy="none"), 5),
        (ResolveError("none", where="origin", remedy="none"), 4),
        (TimedOut("late", where="origin", remedy="none"), 6),
        (InterceptError("else", where="origin", remedy="none"), 1),
    ],
)
def test_a_way_that_fails_is_answered_and_closed(loop: Loop, error: InterceptError, code: int) -> None:
    port = Port(loop)
    port.way.fault = error
    client = port.said(HELLO, TO_NAME)
    assert client.take() == b"\x05\x00" + bytes((5, code)) + NOBODY
    assert client.clean
    assert port.error is error
    assert port.way.entered == []
    older = port.said(b"\x04\x01\x01\xbb\xc0\x00\x02\x07\0")
    assert older.take() == b"\x00\x5b" + bytes(6)
    assert older.clean


def test_a_blocked_destination_is_not_allowed_by_the_rules(loop: Loop) -> None:
    port = Port(loop)
    port.way.blocked.add("origin.test")
    client = port.said(HELLO, TO_NAME)
    assert client.take() == b"\x05\x00\x05\x02" + NOBODY
    assert client.clean
    assert port.error is not None
    assert port.error.kind == "blocked"


def test_a_defect_is_logged_and_answered(loop: Loop) -> None:
    port = Port(loop)
    port.way.fault = KeyError("a defect")
    client = port.said(HELLO, TO_NAME)
    assert client.take() == b"\x05\x00\x05\x01" + NOBODY
    assert port.error is not None
    assert loop.failures.pop().check(KeyError)
    assert loop.failures == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([HELLO, b"\x05\x09"], b"\x05\x00\x05\x07" + NOBODY),
        ([HELLO, b"\x05\x01\x00\x09"], b"\x05\x00\x05\x08" + NOBODY),
        ([HELLO, b"\x04\x01"], b"\x05\x00\x05\x01" + NOBODY),
        ([HELLO, b"\x05\x01\x00\x03\x03a b\x01\xbb"], b"\x05\x00\x05\x01" + NOBODY),
        ([b"\x05\x01\x02"], b"\x05\xff"),
        ([b"\x04\x01\x01\xbb\0\0\0\x01\0" + b"h" * 256], b"\x00\x5b" + bytes(6)),
        ([HELLO, v5(2, "0.0.0.0", 0)], b"\x05\x00\x05\x07" + NOBODY),
        ([HELLO, v5(3, "0.0.0.0", 0)], b"\x05\x00\x05\x07" + NOBODY),
        ([b"\x04\x02\x01\xbb\xc0\x00\x02\x07\0"], b"\x00\x5b" + bytes(6)),
    ],
)
def test_what_is_not_served_is_refused_in_its_own_words(loop: Loop, said: list[bytes], told: bytes) -> None:
    port = Port(loop)
    client = port.said(*said)
    assert client.take() == told
    assert client.clean
    assert port.error is not None
    assert port.error.side is Side.CLIENT
    assert port.way.asked == []


def test_a_slow_client_is_told_that_it_is_too_late(loop: Loop) -> None:
    port = Port(loop)
    client = port.said(HELLO, TO_NAME[:-1])
    loop.pass_time(TIMEOUT - 2)
    assert not client.ended
    client.send(TO_NAME[-1:])
    loop.pump()
    loop.pass_time(TIMEOUT * 2)
    assert not client.ended  # a deadline for the request, not for what it leads to
    slow = port.said(HELLO, TO_NAME[:-1])
    loop.pass_time(TIMEOUT + 2)
    assert slow.take() == b"\x05\x00\x05\x06" + NOBODY
    assert slow.clean
    assert isinstance(port.error, TimedOut)


@pytest.mark.parametrize("said", [[HELLO], [HELLO, TO_NAME[:-1]]])
def test_a_client_that_ends_in_the_middle_is_closed(loop: Loop, said: list[bytes]) -> None:
    port = Port(loop)
    client = port.said(*said, then=Peer.finish)
    assert client.clean
    assert port.error is not None
    assert "left in the middle" in str(port.error)


def test_a_client_that_has_said_everything_at_once_and_finished_is_served(loop: Loop) -> None:
    port = Port(loop)
    client = port.client()
    client.send(HELLO + TO_NAME + b"question")
    client.finish()
    loop.pump()
    origin = port.way.origins[0]
    assert origin.take() == b"question"
    assert origin.ended
    origin.send(b"answer")
    loop.pump()
    assert client.take() == b"\x05\x00" + GRANTED + b"answer"


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_who_leaves_while_the_way_is_made_leaves_nothing_behind(loop: Loop, leave: Callable[[Peer], None]) -> None:
    port = Port(loop)
    port.way.held = []
    port.said(HELLO, TO_NAME, then=leave)
    port.way.held[0]()
    loop.pump()
    assert port.way.origins[0].ended


def test_a_failure_that_comes_after_the_client_left_is_nobodys(loop: Loop) -> None:
    port = Port(loop)
    port.way.held = []
    port.way.fault = ConnectError("down", where="origin", remedy="none")
    port.said(HELLO, TO_NAME, then=Peer.reset)
    port.way.held[0]()
    loop.pump()
    assert port.error is None
    port.way.held.clear()
    port.way.fault = KeyError("a defect")
    port.said(HELLO, TO_NAME, then=Peer.reset)
    port.way.held[0]()
    loop.pump()
    assert port.error is None
    assert loop.failures.pop().check(KeyError)  # a defect is told to us all the same


def test_a_wait_that_somebody_else_cancels_does_not_leave_the_client_waiting(loop: Loop) -> None:
    port = Port(loop)
    port.way.fault = CancelledError()
    assert port.said(HELLO, TO_NAME).take() == b"\x05\x00\x05\x01" + NOBODY
    assert loop.failures.pop().check(CancelledError)


def test_a_way_that_is_kept_ready_is_no_matter_to_who_left(loop: Loop) -> None:
    port = Port(loop)
    port.way.held = []
    client = port.said(HELLO, TO_NAME, then=Peer.reset)
    port.way.ready = True
    port.way.held[0]()
    loop.pump()
    assert client.vc.dead
    assert port.way.entered == []


def test_whoever_recognises_less_than_a_greeting_waits_for_the_rest(loop: Loop) -> None:
    port = Port(loop)
    vc, sock = loop.pair()
    client = Peer(loop, sock, vc)
    port.probe.acceptors["socks5"].accept(vc, Facts("test", vc.peer, "proxy"), b"\x05")
    assert client.take() == b""
    client.send(HELLO[1:])
    loop.pump()
    assert client.take() == b"\x05\x00"


def test_it_works_inside_tls_to_the_proxy(loop: Loop) -> None:
    port = Port(loop)
    client = secured(loop, port)
    for piece in (HELLO, TO_NAME + b"question"):
        client.send(piece)
        loop.pump()
    assert client.take() == b"\x05\x00" + GRANTED
    assert port.way.origins[0].take() == b"question"
    refused = secured(loop, port)
    refused.send(b"\x05\x01\x02")
    loop.pump()
    assert refused.take() == b"\x05\xff"
    assert refused.clean


def secured(loop: Loop, port: Port) -> Peer:
    """A client that has opened TLS to the proxy."""
    vc, sock = loop.pair()
    client = Peer(loop, sock, vc)
    push_server(vc, pair=leaf("proxy.test"))
    client.start_tls("proxy.test")
    loop.pump()
    port.accept(vc)
    return client


# logging in


def test_a_user_logs_in_and_is_known(loop: Loop, tmp_path: Path) -> None:
    port = Port(loop, users=users(tmp_path))
    client = port.said(LOGIN)
    assert client.take() == b"\x05\x02"
    client.send(ALICE)
    loop.pump()
    assert client.take() == b"\x01\x00"
    assert port.last.user == "alice"
    client.send(TO_NAME)
    loop.pump()
    assert client.take() == GRANTED
    everything = port.said(LOGIN + ALICE + TO_NAME + b"question")
    assert everything.take() == b"\x05\x02\x01\x00" + GRANTED
    assert port.way.origins[-1].take() == b"question"


@pytest.mark.parametrize("said", [b"\x01\x05alice\x05wrong", b"\x01\x03bob\x06secret", b"\x01\x00\x00", b"\x02\x01"])
def test_a_login_that_is_not_right_is_refused(loop: Loop, tmp_path: Path, said: bytes) -> None:
    port = Port(loop, users=users(tmp_path))
    client = port.said(LOGIN, said)
    assert client.take() == b"\x05\x02\x01\x01"
    assert client.clean
    assert port.last.user is None
    assert port.error is not None
    assert "wrong" not in str(port.error)


def test_without_a_login_nobody_comes_in(loop: Loop, tmp_path: Path) -> None:
    port = Port(loop, users=users(tmp_path))
    assert port.said(HELLO).take() == b"\x05\xff"
    older = port.said(b"\x04\x01\x01\xbb\xc0\x00\x02\x07alice\0")
    assert older.take() == b"\x00\x5b" + bytes(6)
    assert older.clean
    assert port.way.asked == []


def test_without_users_no_password_is_asked_for(loop: Loop) -> None:
    assert Port(loop).said(LOGIN).take() == b"\x05\x00"


class Thread:
    """Answers when the test wants it."""

    def __init__(self) -> None:
        self.answers: list[Deferred[bool]] = []

    def __call__(self, call: Callable[[], bool]) -> Deferred[bool]:
        self.answers.append(Deferred())
        return self.answers[-1]


def test_while_a_password_is_verified_nothing_is_read(loop: Loop, tmp_path: Path) -> None:
    thread = Thread()
    port = Port(loop, users=users(tmp_path, thread))
    client = port.said(LOGIN, ALICE, TO_NAME)
    assert client.take() == b"\x05\x02"
    assert port.way.asked == []
    thread.answers[0].callback(True)
    loop.pump()
    assert client.take() == b"\x01\x00" + GRANTED


def test_who_has_finished_while_its_password_was_verified_is_closed(loop: Loop, tmp_path: Path) -> None:
    thread = Thread()
    port = Port(loop, users=users(tmp_path, thread))
    client = port.said(LOGIN)
    client.send(ALICE)
    client.finish()
    loop.pump()
    thread.answers[0].callback(True)
    loop.pump()
    assert client.clean
    assert port.error is not None
    assert "left in the middle" in str(port.error)


def test_a_goodbye_heard_while_a_password_was_verified_is_remembered(loop: Loop, tmp_path: Path) -> None:
    thread = Thread()
    port = Port(loop, users=users(tmp_path, thread))
    client = secured(loop, port)
    client.send(LOGIN + ALICE)
    client.say_goodbye()
    loop.pump()
    thread.answers[0].callback(True)
    loop.pump()
    assert client.take() == b"\x05\x02\x01\x00\x05\x01" + NOBODY
    assert client.clean


def test_a_verification_that_comes_too_late_opens_nothing(loop: Loop, tmp_path: Path) -> None:
    thread = Thread()
    port = Port(loop, users=users(tmp_path, thread))
    client = port.said(LOGIN, ALICE + TO_NAME)
    loop.pass_time(TIMEOUT + 2)
    assert client.take() == b"\x05\x02\x01\x01"
    thread.answers[0].callback(True)
    loop.pump()
    assert port.last.user is None
    assert port.way.asked == []


# UDP ASSOCIATE


class Relay:
    """Carries nothing, and writes down what it is asked."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", 5353)
        self.asked: list[tuple[Address, Address | None, str]] = []
        self.ended: Callable[[], object] = lambda: None
        self.closes = 0
        self.active = 0.0
        self.fault: InterceptError | None = None

    def open(
        self, facts: Facts, client: Address, expected: Address | None, local_host: str, closed: Callable[[], object]
    ) -> Relay:
        if self.fault is not None:
            raise self.fault
        self.asked.append((client, expected, local_host))
        self.ended = closed
        return self

    def close(self) -> None:
        self.closes += 1
        self.ended()


@pytest.mark.parametrize(
    ("host", "number", "expected"),
    [
        ("0.0.0.0", 0, None),
        ("::", 0, None),
        ("0.0.0.0", 5000, Address("192.0.2.1", 5000)),
        ("192.0.2.1", 5000, Address("192.0.2.1", 5000)),
    ],
)
def test_an_association_lasts_as_long_as_its_connection(
    loop: Loop, host: str, number: int, expected: Address | None
) -> None:
    relay = Relay()
    port = Port(loop, associations=relay)
    client = port.said(HELLO, v5(3, host, number) + b"ignored")
    assert client.take() == b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x14\xe9"
    assert relay.asked == [(Address("192.0.2.1", 50000), expected, "127.0.0.1")]
    assert port.last.stack == "tcp/socks5"
    loop.pass_time(TIMEOUT * 3)
    assert relay.closes == 0
    client.finish()
    loop.pump()
    assert relay.closes == 1
    assert client.clean
    assert port.error is None


def test_a_connection_that_breaks_ends_its_association(loop: Loop) -> None:
    relay = Relay()
    Port(loop, associations=relay).said(HELLO, v5(3, "0.0.0.0", 0), then=Peer.reset)
    assert relay.closes == 1


def test_a_connection_ends_with_its_association(loop: Loop) -> None:
    relay = Relay()
    client = Port(loop, associations=relay).said(HELLO, v5(3, "0.0.0.0", 0))
    relay.ended()
    loop.pump()
    assert client.clean


def test_an_association_that_carries_nothing_ends(loop: Loop) -> None:
    relay = Relay()
    port = Port(loop, associations=relay)
    client = port.said(HELLO, v5(3, "0.0.0.0", 0))
    loop.pass_time(IDLE - 2)
    relay.active = loop.seconds()
    loop.pass_time(IDLE - 2)
    client.send(b"a byte counts as well")
    loop.pass_time(IDLE - 2)
    assert relay.closes == 0
    loop.pass_time(4)
    assert relay.closes == 1
    assert client.clean
    assert port.error is not None
    assert str(port.error).endswith(f"the association carried nothing; see [tunnel] idle_timeout = {IDLE:g}s")


def test_a_client_may_not_fill_the_connection_of_its_association(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negotiate, "IGNORED", 10)
    relay = Relay()
    port = Port(loop, associations=relay)
    client = port.said(HELLO, v5(3, "0.0.0.0", 0), b"12345", b"67890")
    assert relay.closes == 0
    client.take()
    client.send(b"!")
    loop.pump()
    assert relay.closes == 1
    assert client.clean
    assert client.take() == b""
    assert port.error is not None


def test_an_association_that_cannot_be_made_is_refused(loop: Loop) -> None:
    relay = Relay()
    relay.fault = InterceptError("too many", where="udp", remedy="wait")
    port = Port(loop, associations=relay)
    assert port.said(HELLO, v5(3, "0.0.0.0", 0)).take() == b"\x05\x00\x05\x01" + NOBODY
    assert port.error is relay.fault
    assert port.said(HELLO, b"\x05\x03" + TO_NAME[2:]).take() == b"\x05\x00\x05\x08" + NOBODY


def test_inside_a_tunnel_an_association_drops_the_tunnels_server(loop: Loop) -> None:
    port = Port(loop, associations=Relay())
    vc, sock = loop.pair()
    server, origin = loop.pair(Side.UPSTREAM)
    vc.hang(server)
    Hanging(server)
    client = Peer(loop, sock, vc)
    outer = Peer(loop, origin, server)
    port.accept(vc, Scope(Address("other.test", 1080), INTERCEPT))
    client.send(HELLO + v5(3, "0.0.0.0", 0))
    loop.pump()
    assert client.take().endswith(b"\x7f\x00\x00\x01\x14\xe9")
    assert outer.ended
