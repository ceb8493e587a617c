"""A circuit breaker: who is let through, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sslintercept.net.breaker import Breaker, State


def opened(**more: float) -> Breaker:
    breaker = Breaker(2, 5.0, 12.0, **more)  # type: ignore[arg-type] # a count
    breaker.failed(0)
    breaker.failed(0)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = Breaker(2)
    breaker.failed(0)
    breaker.succeeded(0)
    breaker.failed(0)
    assert breaker.state(0) is State.CLOSED
    breaker.failed(0)
    assert breaker.state(0) is State.OPEN
    assert not breaker.allows(0)
    assert breaker.refused == 1


def test_half_open_lets_one_try_and_its_success_closes() -> None:
    breaker = opened()
    assert breaker.wait(1) == 4
    assert breaker.state(5) is State.HALF_OPEN
    assert [breaker.allows(5), breaker.allows(5)] == [True, False]
    breaker.succeeded(6)
    assert breaker.state(6) is State.CLOSED
    assert breaker.wait(6) == 0


def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    breaker = opened()
    for now, until in ((5, 15), (15, 27), (27, 39)):
        assert breaker.allows(now)
        breaker.failed(now)
        assert breaker.state(until - 0.1) is State.OPEN
        assert breaker.state(until) is State.HALF_OPEN
    assert breaker.opened == 4


def test_a_trial_that_tells_nothing_lets_another_one_try() -> None:
    breaker = opened()
    assert breaker.allows(5)
    breaker.unknown(5)
    assert breaker.allows(5)


def test_what_began_before_it_opened_changes_nothing() -> None:
    breaker = opened()
    breaker.succeeded(1)
    breaker.failed(1)
    assert breaker.state(4.9) is State.OPEN
    assert breaker.opened == 1


def test_one_without_a_limit_never_opens() -> None:
    breaker = Breaker(0)
    for _ in range(100):
        breaker.failed(0)
    assert breaker.allows(0)


@given(st.lists(st.sampled_from(("succeeded", "failed", "unknown")), max_size=60), st.integers(1, 3))
def test_it_always_lets_somebody_try_again(ends: list[str], trials: int) -> None:
    breaker, now = Breaker(2, 5.0, 12.0, trials), 0.0
    for end in ends:
        now += 1
        if breaker.allows(now):
            getattr(breaker, end)(now)
    assert breaker.allows(now + 12.0)
