"""Remembered bypasses: threshold, expiry, bounds."""

from sslintercept.facts import Action, Decision
from sslintercept.rule.learned import Learned, LearnedEntry

PHONE, LAPTOP = "192.0.2.7", "192.0.2.8"


def pinned(after: int = 3, ttl: float = 100.0, limit: int = 10) -> Learned:
    learned = Learned(after, ttl, limit)
    for second in range(after):
        learned.rejected(PHONE, "api.example", "alert unknown_ca", float(second))
    return learned


def test_only_the_rejection_that_reaches_the_threshold_says_so() -> None:
    learned = Learned(3, 100.0)
    told = [learned.rejected(PHONE, "api.example", "alert unknown_ca", now) for now in (0.0, 1.0, 2.0, 3.0)]
    assert told == [False, False, True, False]


def test_a_pair_is_tunnelled_only_after_the_threshold() -> None:
    learned = Learned(2, 100.0)
    assert learned.bypass(PHONE, "api.example", 0.0) is None
    learned.rejected(PHONE, "api.example", "closed after Finished", 0.0)
    assert learned.bypass(PHONE, "api.example", 1.0) is None
    learned.rejected(PHONE, "api.example", "alert unknown_ca", 2.0)
    assert learned.bypass(PHONE, "api.example", 12.0) == Decision(
        Action.TUNNEL,
        "learned",
        "192.0.2.7 rejected our certificate for api.example 2 times (last: alert unknown_ca); "
        "tunnelled for another 90 s",
    )


def test_other_clients_and_other_servers_are_intercepted_as_before() -> None:
    learned = pinned()
    assert learned.bypass(PHONE, "api.example", 3.0) is not None
    assert learned.bypass(LAPTOP, "api.example", 3.0) is None
    assert learned.bypass(PHONE, "www.example", 3.0) is None


def test_a_bypass_ends_with_its_time_and_starts_anew() -> None:
    learned = pinned(after=2, ttl=100.0)
    assert learned.bypass(PHONE, "api.example", 100.9) is not None
    assert learned.bypass(PHONE, "api.example", 101.0) is None
    assert not learned.pairs
    assert not learned.rejected(PHONE, "api.example", "alert", 102.0)
    assert learned.rejected(PHONE, "api.example", "alert", 103.0)


def test_rejections_further_apart_than_the_time_do_not_add_up() -> None:
    learned = Learned(2, 100.0)
    told = [learned.rejected(PHONE, "api.example", "alert", now) for now in (0.0, 100.0, 200.0, 299.0)]
    assert told == [False, False, False, True]


def test_rejections_under_way_do_not_prolong_a_bypass() -> None:
    learned = pinned(after=1, ttl=100.0)
    learned.rejected(PHONE, "api.example", "alert", 99.0)
    assert learned.bypass(PHONE, "api.example", 100.0) is None


def test_a_client_that_accepts_is_forgiven() -> None:
    learned = pinned(after=2)
    learned.accepted(PHONE, "api.example")
    learned.accepted(PHONE, "never.example")
    assert learned.bypass(PHONE, "api.example", 2.0) is None
    assert not learned.rejected(PHONE, "api.example", "alert", 3.0)


def test_nothing_is_learned_with_a_threshold_of_nought() -> None:
    learned = Learned(0, 100.0)
    assert not learned.rejected(PHONE, "api.example", "alert", 0.0)
    assert not learned.pairs


def test_the_pair_longest_unused_gives_way() -> None:
    learned = Learned(1, 100.0, limit=2)
    learned.rejected(PHONE, "a.example", "alert", 0.0)
    learned.rejected(PHONE, "b.example", "alert", 1.0)
    assert learned.bypass(PHONE, "a.example", 2.0) is not None
    learned.rejected(PHONE, "c.example", "alert", 3.0)
    assert [entry.server for entry in learned.entries(3.0)] == ["a.example", "c.example"]


def test_the_report_shows_what_is_remembered_and_not_over() -> None:
    learned = Learned(2, 100.0)
    learned.rejected(LAPTOP, "old.example", "alert", 0.0)
    learned.rejected(PHONE, "api.example", "x" * 1000, 50.0)
    learned.rejected(PHONE, "api.example", "x" * 1000, 60.0)
    assert learned.entries(100.0) == [LearnedEntry(PHONE, "api.example", 2, "x" * 200, True, 60.0)]
    assert [entry.bypassed for entry in learned.entries(61.0)] == [False, True]
