"""Kept connections: which is handed out, which is thrown away."""

from __future__ import annotations

from sslintercept.facts import Address
from sslintercept.http.pool import OriginKey, Pool

A, B = OriginKey(Address("a.test", 443), True, "a.test"), OriginKey(Address("b.test", 443), True, "b.test")


class Kept:
    """A connection as the pool sees it."""

    def __init__(self, key: OriginKey) -> None:
        self.key = key
        self.usable = True
        self.retired = 0

    def retire(self) -> None:
        self.usable = False
        self.retired += 1


def test_the_one_used_last_is_handed_out_first_and_once() -> None:
    pool = Pool(10, 10)
    first, second = Kept(A), Kept(A)
    pool.put(first)
    pool.put(second)
    assert pool.has(A)
    assert [pool.take(A), pool.take(A), pool.take(A)] == [second, first, None]
    assert not pool.has(A)
    assert len(pool) == 0


def test_every_part_of_the_key_counts() -> None:
    pool = Pool(10, 10)
    pool.put(Kept(A))
    for other in (
        B,
        A._replace(destination=Address("a.test", 444)),
        A._replace(secure=False),
        A._replace(name="b.test"),
        A._replace(alpn="http/1.1"),
        A._replace(floor=0x0304),
        A._replace(identity="somebody"),
    ):
        assert pool.take(other) is None
    assert pool.take(A) is not None


def test_one_that_became_unusable_is_passed_over() -> None:
    pool = Pool(10, 10)
    good, bad = Kept(A), Kept(A)
    pool.put(good)
    pool.put(bad)
    bad.usable = False
    assert pool.take(A) is good
    pool.put(bad)
    assert not pool.has(A)
    assert pool.take(A) is None


def test_the_oldest_makes_room() -> None:
    pool = Pool(3, 2)
    kept = [Kept(A), Kept(A), Kept(A), Kept(B), Kept(B)]
    for one in kept:
        pool.put(one)
    assert [one.retired for one in kept] == [1, 1, 0, 0, 0]
    assert len(pool) == 3


def test_a_pool_without_room_keeps_nothing() -> None:
    for pool in (Pool(0, 5), Pool(5, 0)):
        one = Kept(A)
        pool.put(one)
        assert (one.retired, len(pool)) == (1, 0)


def test_removing_what_is_not_here_changes_nothing() -> None:
    pool = Pool(5, 5)
    here, gone = Kept(A), Kept(A)
    other = Kept(A)
    pool.put(here)
    pool.put(other)
    pool.remove(gone)
    pool.remove(here)
    pool.remove(here)
    assert pool.take(A) is other


def test_the_logins_of_somebody_who_is_gone_are_closed() -> None:
    pool = Pool(5, 5)
    mine, theirs, nobodys = Kept(A._replace(identity="me")), Kept(A._replace(identity="them")), Kept(A)
    for one in (mine, theirs, nobodys):
        pool.put(one)
    pool.forget("me")
    assert (mine.retired, theirs.retired, nobodys.retired, len(pool)) == (1, 0, 0, 2)


def test_clearing_closes_everything() -> None:
    pool = Pool(5, 5)
    kept = [Kept(A), Kept(B), Kept(B)]
    for one in kept:
        pool.put(one)
    pool.clear()
    assert [one.retired for one in kept] == [1, 1, 1]
    assert len(pool) == 0
    assert pool.take(B) is None
