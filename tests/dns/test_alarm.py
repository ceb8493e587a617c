"""Time limits on one timer."""

from __future__ import annotations

from twisted.internet.task import Clock

from sslintercept.dns.alarm import STALE, Alarms


class Limit:
    """Something with a time limit."""

    def __init__(self) -> None:
        self.live = True


def test_alarms_come_in_order_and_those_of_the_dead_never() -> None:
    clock, rung = Clock(), list[tuple[float, Limit]]()
    alarms = Alarms[Limit](clock, lambda limit: rung.append((clock.seconds(), limit)))
    limits = [Limit() for _ in range(4)]
    for when, limit in zip((3.0, 1.0, 2.0, 2.0), limits, strict=True):
        alarms.set(when, limit)
    limits[1].live = False
    clock.pump([0.5, 1.0, 0.5, 2.0])
    assert rung == [(2.0, limits[2]), (2.0, limits[3]), (4.0, limits[0])]
    assert not clock.getDelayedCalls()


def test_nothing_is_due_once_it_stopped() -> None:
    clock, rung = Clock(), list[Limit]()
    alarms = Alarms[Limit](clock, rung.append)
    alarms.set(1.0, Limit())
    alarms.stop()
    alarms.stop()
    clock.advance(2)
    assert (rung, clock.getDelayedCalls()) == ([], [])


def test_alarms_of_the_dead_do_not_pile_up() -> None:
    clock, rung = Clock(), list[Limit]()
    alarms = Alarms[Limit](clock, rung.append)
    for _ in range(10 * STALE):
        limit = Limit()
        alarms.set(1.0, limit)
        limit.live = False
    assert len(alarms) <= STALE + 1
    kept = [Limit() for _ in range(3 * STALE)]
    for limit in kept:
        alarms.set(1.0, limit)
    clock.advance(1)
    assert rung == kept
