"""What is pinned or asked for outlives the lap it was written in, and not more of it than there may be."""

from __future__ import annotations

import errno

import pytest

from sslintercept.aio.request import Request
from sslintercept.store.aggregate import CAPACITY, MOST_KEPT, MOST_MEMORY, Buffers
from sslintercept.store.evacuate import AHEAD, MOST_MOVES, SHARE
from sslintercept.store.layout import MOST_PINNED, whole
from sslintercept.store.store import Kind

from .conftest import ShelfMaker
from .support import MEBIBYTE, Shelf, content, key

LONG = 1e10
"""seconds; later than any test's now"""


def test_what_is_pinned_survives_many_laps(shelf: Shelf) -> None:
    for number in range(20):
        shelf.put(number, 50_000, until=LONG)
    shelf.fill(1000, part=3.5)
    assert shelf.held(range(20), 50_000) == list(range(20))
    stat = shelf.store.stat
    assert stat.counters.evacuated >= 60
    assert stat.counters.pins_lost == 0
    assert stat.pinned == 20 * whole(50_000)


def test_many_pinned_together_are_moved_although_they_fill_whole_writes(shelf: Shelf) -> None:
    count = shelf.stripe.size // SHARE // whole(200_000)
    for number in range(count):
        shelf.put(number, 200_000, until=LONG)
    shelf.fill(1000, part=3)
    assert shelf.held(range(count), 200_000) == list(range(count))
    assert shelf.store.stat.counters.pins_lost == 0


def test_small_pinned_documents_by_the_hundred(plain: Shelf) -> None:
    for number in range(MOST_MOVES * 20):
        plain.put(number, 300, until=LONG)
    plain.fill(10_000, part=2.5)
    assert len(plain.held(range(MOST_MOVES * 20), 300)) == MOST_MOVES * 20


def test_a_pin_ends(plain: Shelf) -> None:
    plain.put(1, until=plain.now + 100)
    plain.now += 101
    plain.fill(1000, part=1.5)
    assert plain.held([1]) == []
    assert plain.store.stat.pinned == 0
    assert plain.stripe.evacuation.count == 0


def test_pinned_documents_have_a_quarter_of_the_span(plain: Shelf) -> None:
    numbers = plain.fill(0, part=0)
    for number in range(100):
        plain.put(number, 100_000, until=LONG)
    plain.flush()
    stat = plain.store.stat
    assert stat.pinned <= plain.stripe.size // SHARE < stat.pinned + whole(100_000)
    pinned = stat.pinned // whole(100_000)
    assert stat.counters.pins_refused == 100 - pinned
    plain.fill(1000, part=1.5)
    assert plain.held(range(100), 100_000) == list(range(pinned))
    assert numbers


def test_pinned_documents_are_counted(make: ShelfMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslintercept.store.evacuate.MOST_PINNED", 10)
    shelf = make()
    shelf.start()
    for number in range(12):
        shelf.put(number, until=LONG)
    assert shelf.stripe.evacuation.count == 10
    assert shelf.store.stat.counters.pins_refused == 2
    for _ in range(100):
        shelf.put(3, until=LONG)
    assert shelf.stripe.evacuation.count == 10
    assert len(shelf.stripe.evacuation._pins) <= 21
    assert MOST_PINNED == 16384


def test_there_is_room_again_when_pins_end(plain: Shelf) -> None:
    for number in range(50):
        plain.put(number, 100_000, until=plain.now + 100)
    refused = plain.store.stat.counters.pins_refused
    assert refused
    plain.now += 200
    plain.put(100, 100_000, until=LONG)
    assert plain.store.stat.counters.pins_refused == refused
    assert plain.store.stat.pinned == whole(100_000)


def test_a_document_that_was_replaced_or_removed_is_not_pinned_any_more(plain: Shelf) -> None:
    for number in range(3):
        plain.put(number, until=LONG)
    plain.put(0)
    plain.store.remove(key(1))
    plain.fill(1000, part=1.5)
    assert plain.held(range(3)) == [2]
    assert plain.stripe.evacuation.count == 1


def test_pins_survive_a_restart(shelf: Shelf) -> None:
    for number in range(20):
        shelf.put(number, 50_000, until=LONG)
    shelf.restart()
    shelf.fill(1000, part=1.5)
    shelf.restart()
    shelf.fill(2000, part=1.5)
    assert shelf.held(range(20), 50_000) == list(range(20))


@pytest.mark.parametrize("lost", [False, True])
def test_pins_survive_a_crash(plain: Shelf, lost: bool) -> None:
    for number in range(20):
        plain.put(number, 50_000, until=LONG)
    plain.fill(1000, part=0.95)
    if lost:
        plain.lose_snapshots()
    plain.crash()
    plain.fill(2000, part=1.5)
    assert plain.held(range(20), 50_000) == list(range(20))


def test_pins_survive_a_crash_at_any_time(plain: Shelf) -> None:
    """What is moved is on the disk at its new place before its old one is overwritten."""
    for number in range(20):
        plain.put(number, 50_000, until=LONG)
    for number in range(3 * plain.stripe.size // 2 // 500_000):
        plain.put(1000 + number, 500_000)
        plain.pass_time()
        if number % 7 == 0:
            plain.crash()
    assert plain.held(range(20), 50_000) == list(range(20))


def test_a_pinned_document_that_cannot_be_read_is_lost_and_nothing_else(plain: Shelf) -> None:
    for number in range(5):
        plain.put(number, 5000, until=LONG)
    plain.flush()
    plain.damage(plain.header.start + 200)
    plain.fill(1000, part=1.5)
    assert plain.held(range(5), 5000) == [1, 2, 3, 4]
    assert plain.store.stat.counters.damaged == 1


def test_pinned_documents_whose_move_the_disk_fails_are_counted(plain: Shelf) -> None:
    for number in range(5):
        plain.put(number, 5000, until=LONG)
    plain.fill(1000, part=0.6)
    plain.frail.fails = lambda request: errno.EBUSY if not request.writes else 0
    plain.fill(2000, part=0.9)
    plain.frail.fails = lambda request: 0
    assert plain.held(range(5), 5000) == []
    assert plain.store.stat.counters.pins_lost == 5
    assert plain.stripe.evacuation.count == 0


def test_what_is_asked_for_before_it_is_overwritten_is_moved(shelf: Shelf) -> None:
    shelf.fill(500, part=0.02)
    shelf.put(1)
    shelf.put(2)
    shelf.fill(1000, part=0.96)
    shelf.store.save(key(1))
    assert shelf.store.stat.counters.evacuated == 0
    shelf.fill(2000, part=0.02)
    assert shelf.stripe.head > shelf.stripe.size
    for number in (1, 1):
        shelf.store.save(key(number))
    shelf.until(lambda: not shelf.engine.load)
    shelf.fill(3000, part=0.2)
    assert shelf.held([1, 2]) == [1]
    assert shelf.store.stat.counters.evacuated == 1


def test_saving_what_is_new_or_absent_is_nothing(plain: Shelf) -> None:
    plain.fill(1000, part=1.2)
    plain.put(1)
    seen = plain.frail.seen
    plain.store.save(key(1))
    plain.store.save(key(2))
    assert plain.frail.seen == seen


def test_what_is_replaced_while_it_is_moved_stays_replaced(plain: Shelf) -> None:
    plain.fill(500, part=0.02)
    plain.put(1)
    plain.fill(1000, part=0.975)
    while plain.stripe.head <= plain.stripe.size:
        plain.fill(2000, part=0)
    plain.store.save(key(1))
    assert plain.stripe.evacuation._moving
    plain.store.write(key(1), Kind.HEAD, [b"new"])
    plain.until(lambda: not plain.engine.load)
    assert plain.get(key(1)) == b"new"
    plain.flush()
    plain.crash()
    assert plain.get(key(1)) == b"new"


def test_what_is_being_moved_is_pinned_in_a_snapshot(plain: Shelf) -> None:
    plain.put(1, 50_000, until=LONG)
    plain.flush()
    (pin,) = plain.stripe.evacuation.pins()
    held: list[Request] = []
    plain.frail.holds = held.append
    plain.stripe.evacuation.ready(plain.stripe.size // 2)
    plain.frail.holds = None
    assert plain.stripe.evacuation._moving
    assert plain.stripe.evacuation.pins() == [pin]
    plain.snapshot()
    plain.crash()
    assert plain.stripe.evacuation.pins() == [pin]
    plain.made[0][0].submit(held[0])
    plain.until(lambda: not plain.made[0][0].load)


def test_without_its_pin_a_document_is_not_counted_as_pinned(plain: Shelf) -> None:
    plain.put(1, until=LONG)
    plain.flush()
    plain.stripe.evacuation._pins.clear()
    plain.restart()
    assert plain.held([1]) == [1]
    assert (plain.store.stat.pinned, plain.stripe.evacuation.count) == (0, 0)


def test_memory_for_what_is_moved_is_kept_free() -> None:
    buffers, taken = Buffers(), []
    while (buffer := buffers.take()) is not None:
        taken.append(buffer)
    few = len(taken)
    while (buffer := buffers.take(urgent=True)) is not None:
        taken.append(buffer)
    assert few < len(taken) == MOST_MEMORY // CAPACITY
    for buffer in taken:
        buffers.give(buffer)
    assert buffers.used == 0
    assert len(buffers._kept) == MOST_KEPT


def test_stopping_overwrites_nothing_that_is_pinned(plain: Shelf) -> None:
    numbers = []
    for number in range(20):
        plain.put(number, 50_000, until=LONG)
    plain.fill(1000, part=0.93)
    for number in range(2000, 2010):
        if plain.store.write(key(number), Kind.HEAD, [content(number, MEBIBYTE)]):
            numbers.append(number)
    plain.restart()
    assert plain.held(range(20), 50_000) == list(range(20))
    plain.fill(3000, part=1.2)
    assert plain.held(range(20), 50_000) == list(range(20))
    assert numbers


def test_what_is_looked_at_ahead_is_more_than_one_write() -> None:
    assert AHEAD > 2 * CAPACITY
