"""What a store promises, with each engine: what was written is read, whole and intact, or nothing is."""

from __future__ import annotations

import pytest

from sslintercept.store.layout import LARGEST_DOCUMENT
from sslintercept.store.store import Kind

from .conftest import ShelfMaker
from .support import MEBIBYTE, Shelf, content, key


def test_a_document_is_read_from_memory_at_once(shelf: Shelf) -> None:
    found: list[bytes] = []
    assert shelf.store.write(key(1), Kind.HEAD, [b"one ", bytearray(b"and "), memoryview(b"two")])
    shelf.store.read(key(1), lambda view: found.append(bytes(view or b"")))
    assert found == [b"one and two"]


def test_a_document_is_read_from_the_disk(shelf: Shelf) -> None:
    made = shelf.put(1, 100_000)
    shelf.flush()
    found: list[bytes] = []
    shelf.store.read(key(1), lambda view: found.append(bytes(view or b"")))
    assert not found
    shelf.until(lambda: bool(found))
    assert found == [made]


@pytest.mark.parametrize("length", [0, 1, 439, 440, 441, 4096, LARGEST_DOCUMENT])
def test_every_length_comes_back(shelf: Shelf, length: int) -> None:
    made = shelf.put(1, length)
    assert shelf.get(key(1)) == made
    shelf.flush()
    assert shelf.get(key(1)) == made
    shelf.restart()
    assert shelf.get(key(1)) == made


def test_what_is_too_large_is_refused(plain: Shelf) -> None:
    assert not plain.store.write(key(1), Kind.HEAD, [bytes(LARGEST_DOCUMENT), b"x"])
    assert plain.store.stat.counters.refused == 1
    assert not plain.store.has(key(1))


def test_a_key_has_16_bytes(plain: Shelf) -> None:
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        plain.store.write(b"abc", Kind.HEAD, [b"x"])


def test_what_was_never_written_is_absent(shelf: Shelf) -> None:
    found: list[memoryview | None] = []
    shelf.store.read(key(1), found.append)
    assert found == [None]
    assert not shelf.store.has(key(1))


def test_a_new_document_takes_the_place_of_the_old_one(shelf: Shelf) -> None:
    shelf.store.write(key(1), Kind.HEAD, [b"old"])
    shelf.flush()
    shelf.store.write(key(1), Kind.HEAD, [b"new"])
    assert shelf.get(key(1)) == b"new"
    shelf.flush()
    assert shelf.get(key(1)) == b"new"
    assert shelf.store.stat.documents == 1


def test_a_removed_document_is_gone_at_once(shelf: Shelf) -> None:
    shelf.put(1)
    shelf.flush()
    assert shelf.store.remove(key(1))
    assert not shelf.store.has(key(1))
    assert shelf.get(key(1)) is None
    assert not shelf.store.remove(key(1))


def test_a_read_that_was_cancelled_is_not_heard_of(shelf: Shelf) -> None:
    shelf.put(1)
    shelf.flush()
    found: list[object] = []
    shelf.store.read(key(1), found.append).cancel()
    shelf.until(lambda: not shelf.engine.load)
    shelf.loop.pump()
    assert not found


def test_the_content_is_shown_during_the_call_only(shelf: Shelf) -> None:
    shelf.put(1)
    views: list[memoryview] = []
    shelf.store.read(key(1), lambda view: views.append(view or memoryview(b"")))
    with pytest.raises(ValueError, match="released"):
        bytes(views[0])


def test_everything_is_there_after_a_restart(shelf: Shelf) -> None:
    for number in range(300):
        shelf.put(number)
    shelf.restart()
    assert shelf.held(range(300)) == list(range(300))
    assert shelf.store.stat.documents == 300


def test_after_a_wrap_the_newest_are_there_and_every_one_is_intact(shelf: Shelf) -> None:
    numbers = shelf.fill(0, part=2.5)
    held = shelf.held(numbers, 64 * 1024)
    assert held == list(range(held[0], len(numbers)))
    assert len(held) * 64 * 1024 > shelf.stripe.size * 0.8
    assert shelf.store.stat.counters.wraps == 2
    shelf.restart()
    assert shelf.held(numbers, 64 * 1024) == held


def test_documents_are_shared_among_spans_by_their_keys(make: ShelfMaker) -> None:
    shelf = make(spans=3)
    shelf.start()
    for number in range(300):
        shelf.put(number)
    shares = [stripe.census.documents for stripe in shelf.stripes]
    assert sum(shares) == 300
    assert min(shares) > 60
    shelf.restart()
    assert shelf.held(range(300)) == list(range(300))


def test_walking_shows_every_document_of_a_kind(shelf: Shelf) -> None:
    for number in range(50):
        shelf.put(number)
        shelf.put(1000 + number, kind=Kind.FRAGMENT)
    shelf.flush()
    shelf.put(50)
    seen = {}
    shelf.wait(shelf.store.walk(Kind.HEAD, lambda key, view: seen.update({key: bytes(view)})))
    assert seen == {key(number): content(number) for number in range(51)}


def test_a_walk_through_what_is_still_in_memory_ends_once(shelf: Shelf) -> None:
    seen: list[bytes] = []
    for number in range(6):
        shelf.put(number)
        shelf.wait(shelf.store.walk(Kind.HEAD, lambda key, view: seen.append(key)))
    assert len(seen) == 1 + 2 + 3 + 4 + 5 + 6


def test_verifying_reads_everything(shelf: Shelf) -> None:
    for number in range(50):
        shelf.put(number)
    shelf.flush()
    bad: list[tuple[bytes, str]] = []
    assert shelf.wait(shelf.store.verify(lambda key, why: bad.append((key, why)))) == (50, 50_000, 0)
    assert not bad


def test_too_much_that_waits_is_refused(make: ShelfMaker) -> None:
    shelf = make("threads")
    shelf.start()
    taken = 0
    for number in range(100):
        taken += shelf.store.write(key(number), Kind.HEAD, [bytes(MEBIBYTE)])
    assert 4 <= taken <= 8
    assert shelf.store.stat.counters.refused == 100 - taken
    shelf.flush()
    assert shelf.store.write(key(1), Kind.HEAD, [b"again"])
    assert sum(shelf.store.has(key(number)) for number in range(100)) >= taken


def test_stopping_twice_is_stopping_once(plain: Shelf) -> None:
    first, second = plain.store.stop(), plain.store.stop()
    plain.wait(first)
    plain.wait(second)
    assert plain.get(key(1)) is None
    assert not plain.store.write(key(1), Kind.HEAD, [b"x"])


def test_a_store_that_was_never_started_has_nothing(make: ShelfMaker) -> None:
    shelf = make()
    shelf.begin()
    assert not shelf.store.write(key(1), Kind.HEAD, [b"x"])
    assert shelf.get(key(1)) is None
