"""A disk that fails: the cache loses the object, says so, and never the request."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from twisted.internet.defer import CancelledError

from sslintercept.aio.request import Request
from sslintercept.store.layout import DOCUMENT_HEADER, whole
from sslintercept.store.store import Kind
from sslintercept.store.stripe import MOST_ERRORS

from .conftest import ShelfMaker
from .support import MEBIBYTE, Shelf, content, key


def failing(number: int, *, reads: bool = True, writes: bool = True) -> Callable[[Request], int]:
    """A disk that answers with an errno."""

    def fails(request: Request) -> int:
        return number if (writes if request.writes else reads) else 0

    return fails


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_what_the_disk_does_not_take_is_gone(shelf: Shelf, said: list[str], number: int) -> None:
    shelf.put(1)
    shelf.flush()
    shelf.frail.fails = failing(number)
    shelf.put(1)
    shelf.put(2)
    assert shelf.held([1, 2]) == [1, 2]
    shelf.flush()
    shelf.frail.fails = failing(0)
    assert shelf.held([1, 2]) == []
    stat = shelf.store.stat
    assert (stat.documents, stat.used, stat.counters.write_failed) == (0, 0, 2)
    assert any(os.strerror(number) in line for line in said)
    shelf.loop.pass_time(6)
    shelf.until(lambda: bool(shelf.store.stat.counters.snapshots))
    shelf.crash()
    assert shelf.held([1, 2]) == []
    shelf.put(3)
    assert shelf.held([3]) == [3]


def test_what_the_disk_does_not_give_is_absent(shelf: Shelf) -> None:
    for number in range(3):
        shelf.put(number)
    shelf.flush()
    shelf.frail.fails = failing(errno.EIO)
    assert shelf.get(key(1)) is None
    shelf.frail.fails = failing(0)
    assert shelf.held(range(3)) == [0, 2]
    assert shelf.store.stat.counters.io_errors == 1


def test_a_failure_that_says_nothing_about_the_disk_costs_one_miss(plain: Shelf) -> None:
    plain.put(1)
    plain.flush()
    plain.frail.fails = failing(errno.ENOMEM)
    assert plain.get(key(1)) is None
    plain.frail.fails = failing(0)
    assert plain.held([1]) == [1]


def test_a_span_that_fails_again_and_again_is_out_of_service(make: ShelfMaker, said: list[str]) -> None:
    shelf = make(spans=2)
    shelf.start()
    for number in range(100):
        shelf.put(number)
    shelf.flush()
    bad = shelf.stripes[0]
    shelf.frail.fails = lambda request: errno.EIO if request.fd == bad.medium.fd else 0
    for number in range(100):
        shelf.get(key(number))
    assert shelf.store.stat.spans == 1
    (line,) = [line for line in said if "out of service" in line]
    assert f"{MOST_ERRORS} failures in a row" in line
    assert str(shelf.file) in line
    for number in range(100):
        shelf.put(number)
    assert shelf.held(range(100)) == list(range(100))
    assert bad.medium.fd == -1


def test_a_span_is_lost_while_documents_wait_for_it(plain: Shelf) -> None:
    plain.put(1)
    plain.flush()
    for number in range(10, 13):
        plain.put(number, MEBIBYTE)
    plain.frail.fails = failing(errno.EIO)
    for number in range(MOST_ERRORS):
        plain.store.write(key(100 + number), Kind.HEAD, [b"x"])
        plain.pass_time()
    assert plain.store.stat.spans == 0
    assert plain.get(key(1)) is None
    assert not plain.store.write(key(1), Kind.HEAD, [b"x"])
    assert not plain.store.remove(key(1))
    plain.store.save(key(1))
    assert plain.store._buffers.used == 0


def test_failures_between_successes_do_not_add_up(plain: Shelf) -> None:
    for number in range(3 * MOST_ERRORS):
        plain.frail.fails = failing(errno.EIO if number % 2 else 0)
        plain.put(number)
        plain.flush()
    assert plain.store.stat.spans == 1


def test_the_same_trouble_is_told_once_a_minute(plain: Shelf, said: list[str]) -> None:
    for number in range(1, 10):
        plain.frail.fails = failing(errno.EIO if number % 2 else 0)
        plain.put(number)
        plain.flush()
    assert len([line for line in said if "the disk failed" in line]) == 1


@pytest.mark.parametrize("at", [0, 10, 20, 30, 50, 70, DOCUMENT_HEADER, DOCUMENT_HEADER + 999])
def test_a_flipped_bit_is_a_document_less(shelf: Shelf, said: list[str], at: int) -> None:
    for number in range(3):
        shelf.put(number)
    shelf.flush()
    shelf.damage(shelf.header.start + whole(1000) + at)
    assert shelf.held(range(3)) == [0, 2]
    assert not shelf.store.has(key(1))
    assert shelf.store.stat.counters.damaged == 1
    assert any("is lost" in line for line in said)


def test_verifying_finds_what_is_damaged_and_drops_it(shelf: Shelf) -> None:
    for number in range(10):
        shelf.put(number)
    shelf.flush()
    shelf.damage(shelf.header.start + 2 * whole(1000) + DOCUMENT_HEADER)
    shelf.damage(shelf.header.start + 5 * whole(1000))
    bad: list[tuple[bytes, str]] = []
    verified = shelf.wait(shelf.store.verify(lambda key, why: bad.append((key, why))))
    assert verified == (8, 8000, 2)
    assert sorted(bad) == [(b"", "its header is damaged or another's"), (key(2), "its content is damaged")]
    assert shelf.held(range(10)) == [n for n in range(10) if n not in (2, 5)]
    assert shelf.store.stat.documents == 8


def test_a_file_that_was_cut_off_gives_what_is_left(shelf: Shelf) -> None:
    for number in range(10):
        shelf.put(number, 10_000)
    shelf.flush()
    os.truncate(shelf.file, shelf.header.start + 5 * whole(10_000) + 5000)
    assert shelf.held(range(10), 10_000) == list(range(5))


def test_what_is_overwritten_while_it_is_read_is_absent_and_no_damage(plain: Shelf) -> None:
    plain.put(1)
    plain.fill(1000, part=0.9)
    found: list[memoryview | None] = []
    held: list[Request] = []
    plain.frail.holds = held.append
    plain.store.read(key(1), found.append)
    plain.frail.holds = None
    plain.fill(2000, part=0.3)
    plain.engine.submit(held[0])
    plain.until(lambda: bool(found))
    assert found == [None]
    assert plain.store.stat.counters.damaged == 0


def test_an_engine_without_room_is_asked_again(plain: Shelf) -> None:
    plain.frail.fails = failing(errno.EBUSY)
    plain.put(1)
    plain.loop.advance(0.5)
    plain.loop.advance(0.1)
    assert plain.held([1]) == [1]
    plain.frail.fails = failing(errno.EBUSY, writes=False)
    plain.loop.advance(0.1)
    plain.flush()
    assert plain.get(key(1)) is None
    assert plain.store.stat.counters.reads_refused == 1
    plain.frail.fails = failing(0)
    assert plain.held([1]) == [1]


def test_a_read_under_way_is_answered_when_the_store_stops(shelf: Shelf) -> None:
    for number in range(50):
        shelf.put(number, 100_000)
    shelf.flush()
    found: list[bytes | None] = []
    for number in range(50):
        shelf.store.read(key(number), lambda view: found.append(None if view is None else bytes(view)))
    shelf.stop()
    assert len(found) == 50
    assert set(found) <= {None, *(content(number, 100_000) for number in range(50))}


def test_a_walk_can_be_cancelled_and_ends_with_what_it_calls(plain: Shelf) -> None:
    for number in range(50):
        plain.put(number)
    plain.flush()
    seen: list[bytes] = []

    def each(key: bytes, view: memoryview) -> None:
        seen.append(key)
        if len(seen) == 5:
            walk.cancel()

    walk = plain.store.walk(Kind.HEAD, each)
    with pytest.raises(CancelledError):
        plain.wait(walk)
    assert len(seen) == 5
    with pytest.raises(ZeroDivisionError):
        plain.wait(plain.store.walk(Kind.HEAD, lambda key, view: 1 // 0))
    plain.until(lambda: not plain.engine.load)


def test_a_walk_lets_others_pass(plain: Shelf) -> None:
    for number in range(500):
        plain.put(number)
    plain.flush()
    seen: list[bytes] = []
    most = 0
    walk = plain.store.walk(Kind.HEAD, lambda key, view: seen.append(key))
    plain.until(lambda: len(seen) > 3)
    while not walk.called:
        most = max(most, plain.engine.load)
        assert plain.held([1]) == [1]
    assert most <= 4
    plain.wait(walk)
    assert len(seen) == 500


def test_a_walk_ends_when_the_store_stops(plain: Shelf) -> None:
    for number in range(500):
        plain.put(number)
    plain.flush()
    walk = plain.store.walk(Kind.HEAD, lambda key, view: None)
    plain.stop()
    plain.wait(walk)


def test_another_keys_document_is_not_shown(plain: Shelf) -> None:
    """Two keys with one tag: the directory takes one for the other, the document does not."""
    plain.put(1)
    plain.flush()
    location = plain.stripe.directory.find(key(1))
    plain.stripe.directory.put(key(2), location, 0)
    assert plain.store.has(key(2))
    assert plain.get(key(2)) is None
    assert plain.held([1]) == [1]


def test_documents_that_lose_their_entry_to_others_are_counted(make: ShelfMaker) -> None:
    shelf = make(average=2**20)
    shelf.start()
    for number in range(500):
        shelf.put(number, 100)
    stat = shelf.store.stat
    assert stat.documents == 500 - stat.counters.evicted == len(shelf.held(range(500), 100))
    assert stat.counters.evicted > 300


def test_an_engine_that_was_stopped_first_costs_what_was_not_written(make: ShelfMaker, kind: str) -> None:
    shelf = make(kind)
    shelf.start()
    shelf.put(1)
    shelf.flush()
    shelf.put(2)
    shelf.wait(shelf.engine.stop())
    assert shelf.get(key(1)) is None
    shelf.wait(shelf.store.stop())
    shelf.start()
    assert shelf.held([1, 2]) == [1]
