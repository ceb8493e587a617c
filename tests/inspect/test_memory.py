"""What is remembered, and what may be held."""

from __future__ import annotations

from sslintercept.inspect.memory import Budget, Verdicts
from tests.inspect.stubs import BAD


def test_a_verdict_is_known_for_its_inspector_its_tag_and_its_digest_alone() -> None:
    verdicts = Verdicts(10, 60.0)
    verdicts.keep("virus", b"1", b"digest", BAD, 0.0)
    verdicts.keep("virus", b"1", b"fine", None, 0.0)
    assert verdicts.find("virus", b"1", b"digest", 1.0) == (BAD,)
    assert verdicts.find("virus", b"1", b"fine", 1.0) == (None,)
    for key in (("other", b"1", b"digest"), ("virus", b"2", b"digest"), ("virus", b"1", b"other")):
        assert verdicts.find(*key, 1.0) is None
    assert (verdicts.asked, verdicts.known) == (5, 2)


def test_a_verdict_is_forgotten_after_its_time_and_counts_anew_when_it_is_kept_again() -> None:
    verdicts = Verdicts(10, 60.0)
    verdicts.keep("a", b"", b"x", BAD, 0.0)
    assert verdicts.find("a", b"", b"x", 59.9) == (BAD,)
    assert verdicts.find("a", b"", b"x", 60.0) is None
    verdicts.keep("a", b"", b"x", None, 60.0)
    assert verdicts.find("a", b"", b"x", 119.0) == (None,)


def test_the_one_that_was_asked_for_longest_ago_goes_first() -> None:
    verdicts = Verdicts(2, 60.0)
    verdicts.keep("a", b"", b"1", BAD, 0.0)
    verdicts.keep("a", b"", b"2", BAD, 0.0)
    assert verdicts.find("a", b"", b"1", 1.0)
    verdicts.keep("a", b"", b"3", BAD, 1.0)
    assert [bool(verdicts.find("a", b"", digest, 2.0)) for digest in (b"1", b"2", b"3")] == [True, False, True]


def test_none_is_kept_where_none_may_be() -> None:
    verdicts = Verdicts(0, 60.0)
    verdicts.keep("a", b"", b"x", BAD, 0.0)
    assert verdicts.find("a", b"", b"x", 0.0) is None


def test_a_budget_gives_as_much_as_there_is() -> None:
    budget = Budget(10)
    assert budget.take(6)
    assert not budget.take(5)
    assert budget.used == 6
    assert budget.take(4)
    assert not budget.take(1)
    budget.give(10)
    assert budget.used == 0
    assert budget.take(10)
