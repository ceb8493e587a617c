"""The dtls profile on a flow: both roles over a wire that loses, doubles and forges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from sslintercept.errors import StageError, TlsError
from sslintercept.facts import TlsLeg
from sslintercept.profile.chain import ProfileChain
from sslintercept.profile.dtls import KEPT, DtlsProfile, Engine
from sslintercept.profile.profile import Bytes, Profile, Stage
from sslintercept.profile.udp import UdpProfile
from sslintercept.testing.pki import make_ca, make_leaf
from sslintercept.tls.dtls import LARGEST, MTU, DtlsServerContext, DtlsUpstreamContext
from tests.datagram.support import hello, record

ROOT = make_ca()
LEAF = make_leaf(ROOT, ["a.example"])


class Now:
    now = 0.0


class End:
    """One end of a wire: a chain with DTLS on it, and what it heard."""

    def __init__(self, make: Callable[[], Engine], *, server: bool, clock: Clock, hold: bool = False) -> None:
        self.chain = ProfileChain()
        self.out: list[bytes] = []
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.events: list[str] = []
        self.udp = UdpProfile(self.chain, self._send, Now(), proven=not server)
        self.chain.base(self.udp)

        def profile(chain: ProfileChain, lower: Profile) -> Profile:
            return DtlsProfile(
                chain,
                lower,
                make,
                server=server,
                later=clock.callLater,
                done=(lambda _: self.events.append("done")) if hold else None,
                broke=lambda error: self.events.append(error.what),
            )

        top = self.chain.push(profile)
        assert isinstance(top, DtlsProfile)
        self.dtls = top
        top.deliver = lambda data: self.got.append(bytes(data))
        top.ended = lambda clean: self.events.append(f"ended {clean}")

    def _send(self, data: Bytes) -> None:
        self.out.append(bytes(data))
        self.sent.append(bytes(data))


class Wire:
    """A client and a server."""

    def __init__(self, *, hold: bool = False) -> None:
        self.clock = Clock()
        self.client = End(
            lambda: DtlsUpstreamContext().engine("a.example", ()), server=False, clock=self.clock, hold=hold
        )
        self.server = End(
            lambda: DtlsServerContext().engine(LEAF.credential(), (), b"c" * 32), server=True, clock=self.clock
        )

    def carry(self, change: Callable[[bytes], list[bytes]] = lambda datagram: [datagram]) -> None:
        """Until nothing is on the wire."""
        for _ in range(20):
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                sent, sender.out = sender.out, []
                for datagram in sent:
                    for each in change(datagram):
                        receiver.udp.received(each)

    def shake(self) -> None:
        self.client.dtls.begin()
        self.carry()


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_a_write_starts_the_handshake_and_waits_for_its_end(wire: Wire) -> None:
    assert not wire.server.dtls.is_open()
    assert not wire.client.sent
    for n in range(KEPT + 2):
        wire.client.chain.write(b"%d" % n)
    wire.carry()
    assert wire.server.got == [b"%d" % n for n in range(KEPT)]
    assert wire.client.dtls.dropped == 2
    assert str(wire.client.chain) == str(wire.server.chain) == "udp + dtls1.2"
    assert wire.server.dtls.is_open()
    assert not wire.clock.getDelayedCalls()


def test_a_datagram_of_the_application_is_one_datagram_on_the_wire(wire: Wire) -> None:
    wire.shake()
    before = len(wire.server.sent)
    for data in (b"a", b"bb" * 100, b"c" * LARGEST):
        wire.server.chain.write(memoryview(data))
    assert len(wire.server.sent) == before + 3
    wire.carry()
    assert wire.client.got == [b"a", b"bb" * 100, b"c" * LARGEST]
    for data in (b"", b"d" * (LARGEST + 1)):
        wire.server.chain.write(data)
    assert len(wire.server.sent) == before + 3
    assert wire.server.dtls.dropped == 2


def test_no_more_bytes_leave_than_came_until_the_cookie_is_back(wire: Wire) -> None:
    wire.client.dtls.begin()
    first = wire.client.out.pop()
    for _ in range(50):
        wire.server.udp.received(first)
    assert not wire.server.udp.proven
    assert wire.server.udp.sent <= wire.server.udp.read
    assert max(map(len, wire.server.sent)) <= 60
    wire.client.out.append(first)
    wire.carry()
    assert wire.server.udp.proven
    assert wire.client.dtls.stage is Stage.TRANSFER


def test_flights_fit_the_mtu(wire: Wire) -> None:
    wire.shake()
    assert max(map(len, wire.server.sent + wire.client.sent)) <= MTU


def test_doubled_and_forged_datagrams_are_dropped_and_counted_and_end_nothing(wire: Wire) -> None:
    noise = [b"", b"noise", b"\x16" * 30, record(b"x", kind=24), bytes(1500)]
    wire.client.dtls.begin()
    for end in (wire.client, wire.server):
        for datagram in noise:
            end.udp.received(datagram)
        assert end.dtls.bad == len(noise)
    wire.carry(lambda datagram: [*noise, datagram, datagram])
    assert wire.client.dtls.stage is wire.server.dtls.stage is Stage.TRANSFER
    wire.client.chain.write(b"data")
    [sealed] = wire.client.out
    wire.client.out.clear()
    wire.server.dtls.bad = 0
    for datagram in (*noise[1:], hello(), sealed[:-1] + b"\0", sealed, sealed, record(b"\2\x28", kind=21)):
        wire.server.udp.received(datagram)
    assert wire.server.got == [b"data"]
    assert wire.server.dtls.bad == len(noise) - 1 + 4
    assert wire.server.events == []
    assert wire.server.dtls.stage is Stage.TRANSFER


def test_a_client_that_has_said_nothing_hears_nothing(wire: Wire) -> None:
    wire.client.udp.received(hello())
    assert wire.client.dtls.bad == 1
    assert wire.client.sent == []


def test_a_hello_that_breaks_the_cookie_exchange_is_dropped(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(data: Bytes) -> bool:
        raise TlsError("no hello", where="test")

    with monkeypatch.context() as patched:
        patched.setattr(type(wire.server.dtls.engine), "listen", lambda engine, data: refused(data))
        wire.server.udp.received(hello())
    assert wire.server.dtls.bad == 1
    wire.shake()
    assert wire.server.dtls.stage is Stage.TRANSFER


def test_a_held_layer_keeps_a_few_datagrams_until_it_is_released() -> None:
    wire = Wire(hold=True)
    wire.shake()
    assert wire.client.events == ["done"]
    assert wire.client.dtls.leg is not None
    for n in range(KEPT + 1):
        wire.server.chain.write(b"%d" % n)
    wire.client.chain.write(b"question")
    wire.carry()
    assert wire.client.got == wire.server.got == []
    wire.client.dtls.release()
    wire.client.dtls.release()
    assert wire.client.got == [b"%d" % n for n in range(KEPT)]
    assert wire.client.dtls.dropped == 1
    wire.carry()
    assert wire.server.got == [b"question"]


def test_a_session_may_end_the_layer_while_it_is_released() -> None:
    wire = Wire(hold=True)
    wire.shake()
    wire.server.chain.write(b"1")
    wire.server.chain.write(b"2")
    wire.carry()

    def last(data: Bytes) -> None:
        wire.client.got.append(bytes(data))
        wire.client.dtls.die()

    wire.client.dtls.deliver = last
    wire.client.dtls.release()
    assert wire.client.got == [b"1"]


def test_the_goodbye_is_said_once_and_waits_for_nothing(wire: Wire) -> None:
    wire.shake()
    before = len(wire.client.sent)
    wire.client.dtls.half_close()
    wire.client.chain.write(b"too late")
    wire.client.dtls.pre_close()
    wire.client.dtls.pre_close()
    assert len(wire.client.sent) == before + 1
    assert wire.client.dtls.stage is Stage.PRE_CLOSE
    wire.carry()
    assert wire.server.events == ["ended True"]
    wire.server.dtls.pre_close(faithful=False)
    assert wire.server.out == []
    wire.server.chain.write(b"nobody")
    assert wire.server.out == []


def test_a_close_before_the_handshakes_end_says_nothing_and_leaves_no_timer(wire: Wire) -> None:
    wire.client.dtls.begin()
    assert wire.clock.getDelayedCalls()
    wire.client.dtls.pre_close()
    assert wire.client.dtls.stage is Stage.DEAD
    assert len(wire.client.sent) == 1
    assert not wire.clock.getDelayedCalls()
    wire.client.dtls.release()
    wire.client.dtls.fail(TlsError("late", where="test"))
    assert wire.client.events == []


def test_a_handshake_that_fails_says_an_alert_and_tells_the_owner_once(wire: Wire) -> None:
    wire.client.dtls.begin()
    wire.carry(lambda d: [d] if d[:1] != b"\x16" or d[13:14] != b"\2" else [d[:25] + b"\0\0" + d[27:]])
    assert wire.client.dtls.stage is Stage.DEAD
    [event] = wire.client.events
    assert event.startswith("the handshake failed")
    assert any("alert" in event for event in wire.server.events)
    assert not wire.clock.getDelayedCalls()


def test_nobody_writes_past_the_layer(wire: Wire) -> None:
    wire.shake()
    with pytest.raises(StageError):
        wire.client.udp.write(b"plain")
    with pytest.raises(StageError):
        wire.client.dtls.write(b"plain", wire.client.udp)


class Scripted:
    """An engine whose answers a test gives; the timer is the test's own."""

    def __init__(self) -> None:
        self.closed = False
        self.fault: TlsError | None = None
        self.left: float | None = 1.0
        self.error: TlsError | None = None
        self.complete = False
        self.flights = 0
        self.plain: list[bytes] = []

    def listen(self, hello: Bytes) -> bool:
        return True

    def feed(self, datagram: Bytes) -> None:
        """Nothing is looked at."""

    def handshake(self) -> bool:
        return self.complete

    def decrypt(self, datagram: Bytes) -> list[bytes]:
        if self.error is not None:
            raise self.error
        plain, self.plain = self.plain, []
        return plain

    def encrypt(self, data: Bytes) -> bytes:
        if self.error is not None:
            raise self.error
        return bytes(data)

    def flush(self) -> list[bytes]:
        flights, self.flights = self.flights, 0
        return [b"flight"] * flights

    def shutdown(self) -> None:
        """Nothing is said."""

    def timeout(self) -> float | None:
        return self.left

    def timed_out(self) -> None:
        if self.error is not None:
            raise self.error
        self.flights += 1
        assert self.left is not None
        self.left *= 2

    def leg(self, server_name: str, verified: str) -> TlsLeg:
        return TlsLeg("DTLSv1.2", "", "", "", server_name, False, verified)

    def peer_chain(self) -> list[bytes]:
        return []


def scripted() -> tuple[End, Scripted, Clock]:
    engine, clock = Scripted(), Clock()
    return End(lambda: engine, server=False, clock=clock), engine, clock


def test_a_flight_is_said_again_whenever_the_engine_wants_until_it_is_answered() -> None:
    end, engine, clock = scripted()
    end.dtls.begin()
    clock.advance(0.9)
    assert end.sent == []
    clock.advance(0.1)
    assert end.sent == [b"flight"]
    clock.advance(2)
    clock.advance(3.9)
    assert end.sent == [b"flight"] * 2
    clock.advance(0.1)
    assert end.sent == [b"flight"] * 3
    end.udp.received(hello())  # an answer that is not the last one starts the time anew
    assert len(clock.getDelayedCalls()) == 1
    engine.left = None
    end.udp.received(hello())
    assert not clock.getDelayedCalls()
    engine.complete = True
    end.udp.received(hello())
    assert end.dtls.stage is Stage.TRANSFER
    assert not clock.getDelayedCalls()


def test_a_peer_that_never_answers_is_given_up() -> None:
    end, engine, clock = scripted()
    end.dtls.begin()
    engine.error = TlsError("the peer does not answer", where="test")
    clock.advance(1)
    assert end.events == ["the peer does not answer"]
    assert end.dtls.stage is Stage.DEAD
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("way", ["read", "write", "behind"])
def test_an_error_in_the_session_is_told_once(way: str) -> None:
    end, engine, _ = scripted()
    engine.complete, engine.left = True, None
    end.dtls.begin()
    error = TlsError("an alert came", where="test")
    if way == "behind":
        engine.plain, engine.closed, engine.fault = [b"last"], True, error
        end.udp.received(b"x")
        assert end.got == [b"last"]
    else:
        engine.error = error
        if way == "read":
            end.udp.received(b"x")
        else:
            end.chain.write(b"x")
    assert end.events == ["an alert came"]
    assert end.dtls.stage is Stage.DEAD


def test_the_peers_last_flight_again_gets_ours_again_and_is_not_bad() -> None:
    end, engine, _ = scripted()
    engine.complete, engine.left = True, None
    end.dtls.begin()
    engine.flights = 1
    end.udp.received(b"finished, again")
    assert end.sent == [b"flight"]
    assert end.dtls.bad == 0


def test_dtls_stands_on_other_layers_too() -> None:
    chain, clock, engine = ProfileChain(), Clock(), Scripted()
    chain.base(UdpProfile(chain, len, Now(), proven=True))

    def make(chain: ProfileChain, lower: Profile) -> Profile:
        return DtlsProfile(
            chain, lower, lambda: engine, server=True, later=clock.callLater, broke=lambda error: error.what
        )

    first = chain.push(make)
    second = chain.push(make)
    engine.left, engine.complete = None, True
    assert first.deliver == second._received  # type: ignore[attr-defined]  # a DtlsProfile
    first.lower.deliver(hello())  # type: ignore[union-attr]  # the base
    engine.plain = [hello()]
    first.lower.deliver(b"sealed")  # type: ignore[union-attr]  # the base
    assert str(chain) == "udp + dtls1.2 + dtls1.2"
