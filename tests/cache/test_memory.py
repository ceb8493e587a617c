"""What is kept in memory: within its size, and not pushed out by reading everything once."""

from __future__ import annotations

import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.memory import MemoryCache


def key(n: int) -> bytes:
    return n.to_bytes(4, "big")


def filled(most: int = 1000, size: int = 10, count: int = 50) -> MemoryCache[int]:
    """A cache with values that were used."""
    cache: MemoryCache[int] = MemoryCache(most)
    for n in range(count):
        cache.put(key(n), n, size)
        cache.get(key(n))
    return cache


def test_what_was_put_is_there() -> None:
    cache = filled()
    assert [cache.get(key(n)) for n in range(50)] == list(range(50))
    assert (len(cache), cache.used) == (50, 500)


def test_reading_everything_once_does_not_push_out_what_is_used() -> None:
    cache = filled()
    for n in range(1000, 11000):
        cache.put(key(n), n, 10)
    assert [cache.get(key(n)) for n in range(50)] == list(range(50))


def test_what_comes_back_soon_stays() -> None:
    cache: MemoryCache[int] = MemoryCache(1000)
    for n in range(120):
        cache.put(key(n), n, 10)
    gone = next(n for n in range(120) if cache.get(key(n)) is None)
    cache.put(key(gone), gone, 10)
    for n in range(1000, 1300):
        cache.put(key(n), n, 10)
    assert cache.get(key(gone)) == gone


def test_what_is_used_no_more_leaves_in_the_end() -> None:
    cache = filled(most=500)
    for n in range(1000, 2000):
        cache.put(key(n), n, 10)
        cache.get(key(n))
    assert cache.get(key(0)) is None


def test_what_is_too_large_is_not_kept_and_what_it_replaces_goes() -> None:
    cache = filled()
    cache.put(key(0), -1, 101)
    assert (cache.get(key(0)), cache.used) == (None, 490)


def test_nothing_is_kept_without_room() -> None:
    cache: MemoryCache[int] = MemoryCache(0)
    cache.put(key(0), 0, 1)
    assert (len(cache), cache.get(key(0))) == (0, None)


def test_what_is_renewed_stays_where_it_was() -> None:
    cache = filled(most=500)
    cache.put(key(3), 33, 20)
    assert cache.get(key(3)) == 33
    assert cache.used <= 500


def test_clearing_leaves_nothing() -> None:
    cache = filled()
    cache.clear()
    assert (len(cache), cache.used, cache.get(key(1))) == (0, 0, None)


@given(st.lists(st.tuples(st.sampled_from("gpd"), st.integers(0, 30), st.integers(0, 40)), max_size=200))
def test_the_size_is_kept_and_values_are_the_latest(story: list[tuple[str, int, int]]) -> None:
    cache: MemoryCache[object] = MemoryCache(200)
    latest: dict[int, object] = {}
    for what, n, size in story:
        if what == "p":
            latest[n] = object()
            cache.put(key(n), latest[n], size)
        elif what == "d":
            latest.pop(n, None)
            cache.drop(key(n))
        else:
            assert cache.get(key(n)) in (None, latest.get(n))
        assert 0 <= cache.used <= 200
    for n in range(31):
        cache.drop(key(n))
    assert (cache.used, len(cache)) == (0, 0)


def test_what_is_remembered_of_what_was_pushed_out_is_small() -> None:
    cache: MemoryCache[int] = MemoryCache(1000)
    tracemalloc.start()
    try:
        for n in range(3000):
            cache.put(b"%08d" % n * 1000, n, 10)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 3_000_000


def test_it_is_better_than_forgetting_the_oldest() -> None:
    """Requests by a law of Zipf, a third of them for what nobody asks for again."""
    dice = random.Random(7)
    cache: MemoryCache[int] = MemoryCache(1000)
    order: dict[int, None] = {}
    hits = oldest = 0
    for turn in range(20000):
        n = 10**6 + turn if dice.random() < 0.33 else int(dice.paretovariate(0.6)) % 2000
        if cache.get(key(n)) is not None:
            hits += 1
        else:
            cache.put(key(n), n, 10)
        if n in order:
            oldest += 1
            del order[n]
        elif len(order) == 100:
            del order[next(iter(order))]
        order[n] = None
    assert hits > oldest * 1.08
