"""What is remembered of origins, and for how long."""

from __future__ import annotations

import pytest

from sslintercept.facts import Address
from sslintercept.tls import seen as module
from sslintercept.tls.seen import Origins, Seen

ORIGIN = Address("origin.test", 443)
SEEN = Seen(("origin.test",), 1000.0, "http/1.1", None)


def test_an_origin_is_remembered_for_a_while() -> None:
    origins = Origins(60)
    origins.note(ORIGIN, "origin.test", SEEN, 100)
    assert origins.recall(ORIGIN, "origin.test", 159.9) == SEEN
    assert origins.recall(ORIGIN, "origin.test", 160) is None
    assert origins.recall(ORIGIN, "origin.test", 159) is None


def test_nothing_is_remembered_longer_than_its_certificate_is_good() -> None:
    origins = Origins(60)
    origins.note(ORIGIN, "origin.test", SEEN, 990)
    assert origins.recall(ORIGIN, "origin.test", 999) == SEEN
    assert origins.recall(ORIGIN, "origin.test", 1000) is None


def test_destination_and_name_both_count() -> None:
    origins = Origins(60)
    origins.note(ORIGIN, "origin.test", SEEN, 0)
    assert origins.recall(ORIGIN, "other.test", 1) is None
    assert origins.recall(Address("origin.test", 8443), "origin.test", 1) is None


def test_an_origin_can_be_forgotten() -> None:
    origins = Origins(60)
    origins.note(ORIGIN, "origin.test", SEEN, 0)
    origins.forget(ORIGIN, "origin.test")
    origins.forget(ORIGIN, "origin.test")
    assert origins.recall(ORIGIN, "origin.test", 1) is None


def test_the_oldest_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    origins = Origins(60)
    for i, name in enumerate(["a.test", "b.test", "a.test", "c.test"]):
        origins.note(ORIGIN, name, SEEN, i)
    assert [n for n in ("a.test", "b.test", "c.test") if origins.recall(ORIGIN, n, 5)] == ["a.test", "c.test"]
