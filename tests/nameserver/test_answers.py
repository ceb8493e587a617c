"""What is kept of upstream answers: for how long, and how much."""

from __future__ import annotations

from sslintercept.dns import message as m
from sslintercept.nameserver.answers import OVERHEAD, AnswerTable, Key

from ..dns.support import a, soa
from .support import NAME, upstream

KEY: Key = (NAME, m.A, False, False)


def table(**limits: int) -> AnswerTable:
    return AnswerTable(stale=100.0, strip_ech=True, **limits)


def test_an_answer_is_good_for_its_lifetime_and_better_than_nothing_for_a_while() -> None:
    answers = table()
    assert answers.learn(KEY, upstream(a("www.example.com", "192.0.2.1", 60)), 1000.0) is not None
    kept = answers.get(KEY, 1100.0)
    assert kept is not None
    assert (kept.since, kept.until, kept.stale) == (1000.0, 1060.0, 1160.0)
    assert answers.get(KEY, 1160.0) is None
    assert (len(answers), answers.bytes) == (0, 0)


def test_what_must_not_be_kept_is_not() -> None:
    answers = table()
    assert answers.learn(KEY, upstream(a("www.example.com", "192.0.2.1", 0)), 0.0) is not None
    assert answers.learn(KEY, upstream(flags=0x8182), 0.0) is not None
    assert answers.learn(KEY, b"nonsense", 0.0) is None
    assert len(answers) == 0


def test_that_there_is_nothing_is_kept_too() -> None:
    answers = table()
    answers.learn(KEY, upstream(authority=(soa("example.com", 30),), flags=0x8183), 0.0)
    kept = answers.get(KEY, 0.0)
    assert kept is not None
    assert kept.until == 30.0


def test_a_new_answer_takes_the_place_of_the_old_one() -> None:
    answers = table()
    message = upstream(a("www.example.com", "192.0.2.1"))
    for now in (0.0, 10.0):
        answers.learn(KEY, message, now)
    kept = answers.get(KEY, 10.0)
    assert kept is not None
    assert (kept.since, len(answers), answers.bytes) == (10.0, 1, len(message) + OVERHEAD)


def test_answers_are_bounded_by_count_and_bytes() -> None:
    message = upstream(a("www.example.com", "192.0.2.1"))
    keys: list[Key] = [(NAME, m.A, do, cd) for do in (False, True) for cd in (False, True)]
    for answers in (table(most=2), table(most_bytes=2 * (len(message) + OVERHEAD))):
        answers.learn(keys[0], message, 0.0)
        answers.learn(keys[1], message, 0.0)
        answers.get(keys[0], 0.0)
        answers.learn(keys[2], message, 0.0)
        assert [answers.get(key, 0.0) is not None for key in keys] == [True, False, True, False]
        assert len(answers) == 2
