"""The directory on disk: one of two copies is whole at any time, and is as new as it has to be."""

from __future__ import annotations

import errno

import pytest

from sslintercept.store.aggregate import CAPACITY
from sslintercept.store.layout import PAGE
from sslintercept.store.snapshot import PERIOD, RATE
from sslintercept.store.store import Kind

from .conftest import ShelfMaker
from .support import Shelf, key


def snapshots(shelf: Shelf) -> int:
    return shelf.store.stat.counters.snapshots


def test_one_is_taken_after_a_minute_if_anything_was_written(plain: Shelf) -> None:
    plain.loop.pass_time(2 * PERIOD)
    assert snapshots(plain) == 0
    plain.put(1)
    plain.loop.pass_time(PERIOD + 10)
    plain.until(lambda: snapshots(plain) == 1)
    plain.loop.pass_time(2 * PERIOD)
    assert snapshots(plain) == 1


def test_a_removal_is_something_written(plain: Shelf) -> None:
    plain.put(1)
    plain.flush()
    plain.snapshot()
    plain.store.remove(key(1))
    plain.loop.pass_time(2 * PERIOD)
    plain.until(lambda: snapshots(plain) == 2)


def test_one_is_taken_when_a_sixteenth_was_written(plain: Shelf) -> None:
    plain.fill(0, 50_000, part=0.5)
    plain.until(lambda: not plain.store._spans[0]._saving)
    assert 2 <= snapshots(plain) <= 8


def test_a_large_directory_is_saved_less_often(make: ShelfMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = make(average=512)
    shelf.start()
    monkeypatch.setattr("sslintercept.store.snapshot.RATE", len(shelf.stripe.directory.data) / 500)
    shelf.put(1)
    shelf.flush()
    shelf.snapshot()
    shelf.put(2)
    shelf.loop.pass_time(400)
    assert snapshots(shelf) == 1
    shelf.loop.pass_time(110)
    shelf.until(lambda: snapshots(shelf) == 2)
    assert RATE == 2 * 2**20


def test_its_age_is_told(plain: Shelf) -> None:
    assert plain.store.stat.snapshot_age is None
    plain.put(1)
    plain.flush()
    plain.snapshot()
    plain.loop.advance(3)
    assert plain.store.stat.snapshot_age == 3


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("at", [8, PAGE + 3])
def test_one_that_is_damaged_leaves_the_other(plain: Shelf, place: int, at: int) -> None:
    for number in range(100):
        plain.put(number)
    plain.flush()
    plain.snapshot()
    for number in range(50, 150):
        plain.put(number, 2000)
    for number in range(10):
        plain.store.remove(key(number))
    plain.flush()
    plain.snapshot()
    plain.damage(PAGE + place * plain.header.place + at)
    plain.crash()
    assert not plain.store._spans[0].recovery.complete
    assert plain.held(range(50)) == list(range(10, 50))
    assert plain.held(range(50, 150), 2000) == list(range(50, 150))


def test_bodies_that_are_both_damaged_are_replaced_by_the_log(plain: Shelf, said: list[str]) -> None:
    for number in range(100):
        plain.put(number)
    plain.flush()
    plain.snapshot()
    plain.snapshot()
    for place in (0, 1):
        plain.damage(PAGE + place * plain.header.place + PAGE + 500)
    plain.crash()
    assert plain.store._spans[0].recovery.complete
    assert plain.held(range(100)) == list(range(100))
    assert any("a snapshot of the directory is damaged" in line for line in said)


def test_what_happens_while_one_is_written_is_right_afterwards(plain: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslintercept.store.snapshot.PIECE", 2 * PAGE)
    for number in range(200):
        plain.put(number)
    plain.flush()
    plain.snapshot()
    span = plain.store._spans[0]
    plain.stripe.urgent = True
    span._look()
    number, before = 0, span.snapshots.sequence
    while span.snapshots.sequence == before and number < 90:
        plain.put(number, 2000)
        plain.store.remove(key(199 - number))
        number += 1
        plain.loop.advance(0.5)
        plain.loop.turn()
    assert number > 1
    plain.flush()
    plain.crash()
    assert plain.held(range(number), 2000) == list(range(number))
    assert plain.held(range(number, 200)) == list(range(number, 200 - number))


def test_a_crash_in_the_middle_of_one_costs_nothing(plain: Shelf) -> None:
    for number in range(200):
        plain.put(number)
    plain.flush()
    plain.snapshot()
    plain.snapshot()
    for number in range(200, 250):
        plain.put(number)
    plain.flush()
    plain.frail.fails = lambda request: errno.EIO if request.writes and request.length == PAGE else 0
    plain.stripe.urgent = True
    plain.store._spans[0]._look()
    plain.until(lambda: not plain.store._spans[0]._saving)
    assert snapshots(plain) == 2
    plain.crash()
    assert plain.held(range(250)) == list(range(250))


def test_a_clean_stop_needs_no_allowance(plain: Shelf) -> None:
    numbers = plain.fill(0, 20_000, part=1.5)
    held = plain.held(numbers, 20_000)
    plain.restart()
    assert plain.held(numbers, 20_000) == held


def test_what_a_stop_wrote_is_not_taken_for_clean_after_more_was_written(plain: Shelf) -> None:
    plain.put(1)
    plain.restart()
    plain.put(2)
    plain.flush()
    plain.crash()
    assert plain.held([1, 2]) == [1, 2]


def test_without_memory_it_is_put_off(plain: Shelf) -> None:
    plain.put(1)
    plain.flush()
    buffers, taken = plain.stripe.buffers, []
    while (buffer := buffers.take()) is not None:
        taken.append(buffer)
    assert len(taken) * CAPACITY <= 64 * 2**20
    plain.loop.pass_time(2 * PERIOD)
    assert snapshots(plain) == 0
    assert not plain.store.write(key(2), Kind.HEAD, [b"x"])
    for buffer in taken:
        buffers.give(buffer)
    plain.loop.pass_time(2 * PERIOD)
    plain.until(lambda: snapshots(plain) == 1)


def test_removals_that_find_no_place_in_the_log_are_saved_at_once(plain: Shelf) -> None:
    plain.put(1)
    plain.flush()
    plain.snapshot()
    buffers, taken = plain.stripe.buffers, []
    while (buffer := buffers.take(urgent=True)) is not None:
        taken.append(buffer)
    assert plain.store.remove(key(1))
    assert plain.stripe.urgent
    for buffer in taken:
        buffers.give(buffer)
    plain.loop.pass_time(6)
    plain.until(lambda: snapshots(plain) == 2)
    plain.crash()
    assert plain.held([1]) == []
