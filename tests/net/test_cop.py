"""The sweep: one look a second at every connection."""

from __future__ import annotations

from sslintercept.net.cop import TRIM_AFTER
from sslintercept.net.vconnection import NEVER
from sslintercept.testing.loop import Loop
from tests.support import Listening


def test_one_failing_owner_does_not_keep_the_others_from_their_timers(loop: Loop) -> None:
    first, _ = loop.pair()
    second, _ = loop.pair()
    session = Listening()
    first.attach(session)
    late: list[str] = []

    def fail(kind: str) -> None:
        raise ValueError(kind)

    first.timed_out, second.timed_out = fail, late.append
    first.deadline = second.deadline = 1.5
    loop.pass_time(3)
    assert late == ["deadline"]
    assert session.events == ["made", "lost ConnectionAborted"]
    assert [f.type for f in loop.failures] == [ValueError]
    loop.failures.clear()


def test_a_connection_cut_by_the_timer_of_another_is_not_asked(loop: Loop) -> None:
    pair = [loop.pair()[0] for _ in range(2)]
    kinds: list[str] = []

    def both(kind: str) -> None:
        kinds.append(kind)
        for vc in pair:
            vc.abort()

    for vc in pair:
        vc.timed_out = both
        vc.idle_limit = 1.0
    loop.pass_time(4)
    assert kinds == ["idle"]


def test_two_connections_closed_by_one_timer_both_close_in_order(loop: Loop) -> None:
    """The sweep that closes both must not cut the second one as if it had lingered."""
    pair = [loop.pair()[0] for _ in range(2)]

    def both(kind: str) -> None:
        for vc in pair:
            vc.close()

    for vc in pair:
        vc.timed_out = both
        vc.idle_limit = 5.0
    for _ in range(6):
        loop.advance(1)
        loop.turn()
    assert [vc.closing for vc in pair] == [True, True]
    assert [vc.dead for vc in pair] == [False, False]


def test_quiet_connections_are_trimmed_once(loop: Loop) -> None:
    vc, peer = loop.pair()
    vc.attach(Listening())
    trimmed: list[float] = []

    vc.tcp.active = loop.seconds()
    loop.pass_time(TRIM_AFTER + 1)
    trimmed.append(vc.trimmed)
    loop.pass_time(10)
    trimmed.append(vc.trimmed)
    peer.send(b"x")
    loop.pump()
    loop.pass_time(TRIM_AFTER + 1)
    trimmed.append(vc.trimmed)
    assert trimmed[0] == trimmed[1] < trimmed[2]
    vc.close()


def test_a_stopped_sweep_looks_no_more(loop: Loop) -> None:
    vc, _ = loop.pair()
    kinds: list[str] = []
    vc.timed_out = kinds.append
    vc.deadline = 1.0
    loop.cop.stop()
    loop.cop.stop()
    loop.pass_time(5)
    assert kinds == []
    assert loop.cop.next is None
    loop.cop.start()
    loop.pass_time(2)
    assert kinds == ["deadline"]
    assert vc.deadline == NEVER
    vc.abort()
