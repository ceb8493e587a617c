"""Flows: who has one, for how long, and how many there may be."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sslintercept.config.schema import UdpSettings
from sslintercept.facts import Address
from sslintercept.net.flow import IDLE, MOST_FLOWS, MOST_OF_A_HOST, Flow, FlowTable, host_key
from sslintercept.profile.udp import UdpProfile
from sslintercept.testing.loop import Loop
from sslintercept.tls.dtls import MTU

HERE = Address("192.0.2.9", 53)


class Table:
    """A table, and flows in it that send nowhere."""

    def __init__(self, loop: Loop, **limits: float) -> None:
        self.loop = loop
        self.table = FlowTable(loop.handler, **limits)  # type: ignore[arg-type]  # counts are whole numbers
        self.ended: list[tuple[int, str]] = []

    def newcomer(self, host: str = "192.0.2.1", port: int = 1, *, answered: bool = False) -> Flow | None:
        if not self.table.room_for(host):
            return None
        flow = Flow(Address(host, port), HERE)
        flow.open(UdpProfile(flow, len, self.loop.handler, proven=False))
        flow.closed = lambda flow: self.ended.append((flow.peer.port, flow.why))
        self.table.add(flow)
        flow.udp.received(b"question")
        if answered:
            flow.write(b"answer")
        return flow


@pytest.fixture
def made(loop: Loop) -> Iterator[Table]:
    table = Table(loop, most=4, most_of_a_host=2, idle=20.0, unanswered=5.0)
    yield table
    table.table.close()


def test_an_unanswered_flow_makes_room_oldest_first_and_an_answered_one_never_does(made: Table) -> None:
    for n in range(1, 5):
        assert made.newcomer(f"192.0.2.{n}", n, answered=n == 1)
    assert made.newcomer("192.0.2.5", 5)
    assert made.ended == [(2, "pushed out")]
    for n in (6, 7, 8):
        assert made.newcomer(f"192.0.2.{n}", n, answered=True)
    assert [port for port, _ in made.ended] == [2, 3, 4, 5]
    assert made.newcomer("192.0.2.9", 9) is None
    assert made.newcomer("192.0.2.10", 10) is None
    assert len(made.table) == 4
    assert (made.table.refused, made.table.pushed) == (2, 4)


def test_one_host_cannot_take_everything(made: Table) -> None:
    assert made.newcomer(port=1, answered=True)
    assert made.newcomer(port=2)
    assert made.newcomer(port=3, answered=True)
    assert made.ended == [(2, "pushed out")]
    assert made.newcomer(port=4) is None
    assert made.newcomer("192.0.2.2", 5)


def test_what_we_said_of_our_own_accord_is_no_answer(made: Table) -> None:
    flow = made.newcomer()
    assert flow is not None
    flow.own = 3
    flow.write(b"abc")
    assert not flow.answered
    flow.udp.proven = True
    assert flow.answered


def test_a_flow_is_over_when_nothing_moved_for_the_idle_time(loop: Loop, made: Table) -> None:
    flow = made.newcomer(port=1, answered=True)
    assert flow is not None
    made.newcomer(port=2)
    loop.pass_time(5)
    assert made.ended == [(2, "idle")]
    loop.pass_time(10)
    flow.udp.received(b"again")
    loop.pass_time(19)
    assert (1, "idle") not in made.ended
    loop.pass_time(2)
    assert (1, "idle") in made.ended
    assert len(made.table) == 0


def test_no_timer_is_left_when_the_last_flow_is_over(loop: Loop, made: Table) -> None:
    flow = made.newcomer()
    assert flow is not None
    assert len(loop.getDelayedCalls()) == 2
    flow.close("enough")
    flow.close("twice")
    assert len(loop.getDelayedCalls()) == 1
    assert made.ended == [(1, "enough")]


def test_a_deadline_is_told_once_traffic_or_not(loop: Loop, made: Table) -> None:
    flow = made.newcomer()
    assert flow is not None
    told: list[str] = []
    flow.deadline = loop.handler.now + 3
    flow.timed_out = lambda: told.append("now")
    for _ in range(6):
        flow.udp.received(b"x")
        loop.pass_time(1)
    assert told == ["now"]
    other = made.newcomer("192.0.2.7")
    assert other is not None
    other.deadline = loop.handler.now
    loop.pass_time(1)
    assert other.why == "deadline"


def test_a_defect_in_one_session_does_not_keep_the_others_from_being_looked_at(loop: Loop, made: Table) -> None:
    first, second = made.newcomer(port=1), made.newcomer(port=2)
    assert first is not None
    assert second is not None

    def defect() -> None:
        raise RuntimeError("a defect")

    first.timed_out = defect
    first.deadline = second.deadline = 0.5
    loop.pass_time(1)
    assert made.ended == [(1, "defect"), (2, "deadline")]
    assert [failure.type for failure in loop.failures] == [RuntimeError]
    loop.failures.clear()


def test_a_flow_ended_by_another_one_in_the_same_sweep_is_left_alone(loop: Loop, made: Table) -> None:
    first, second = made.newcomer(port=1), made.newcomer(port=2)
    assert first is not None
    assert second is not None
    first.closed = lambda _: second.close("with the first")
    loop.pass_time(6)
    assert second.why == "with the first"


def test_a_closed_flow_delivers_nothing_to_a_late_reader(made: Table) -> None:
    flow = made.newcomer()
    assert flow is not None
    flow.close("over")
    got: list[bytes] = []
    flow.read_to(lambda data: got.append(bytes(data)))
    flow.udp.received(b"late")
    flow.write(b"late")
    assert got == []
    assert flow.udp.left == 0


def test_a_flood_of_sources_does_not_grow_the_table_and_warns_once_a_minute(loop: Loop, made: Table) -> None:
    warned: list[int] = []
    made.table.log = SimpleNamespace(warn=lambda _, flows: warned.append(flows))  # type: ignore[assignment]  # a stand-in
    for n in range(4):
        made.newcomer(f"192.0.2.{n}", n, answered=True)
    for n in range(5000):
        assert made.newcomer(f"10.0.{n >> 8}.{n & 255}") is None
    assert len(made.table) == 4
    assert made.table.refused == 5000
    assert warned == [4]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%lo", "fe80::2%eth0", True),
    ],
)
def test_addresses_of_one_network_of_64_bits_are_one_host(one: str, other: str, same: bool) -> None:
    assert (host_key(one) == host_key(other)) is same


def test_the_limits_are_those_of_the_settings_unless_somebody_says_otherwise() -> None:
    settings = UdpSettings()
    assert (settings.max_flows, settings.per_client, settings.idle_timeout) == (MOST_FLOWS, MOST_OF_A_HOST, IDLE)
    assert settings.mtu == MTU
