"""What is found after a crash: nothing that was not written, nothing that was removed, nearly all of the rest."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.store.aggregate import CAPACITY, Aggregate, Buffers
from sslintercept.store.directory import Directory
from sslintercept.store.layout import DOCUMENT_HEADER, PAGE, document_at, whole
from sslintercept.store.medium import Medium
from sslintercept.store.recover import MOST_LOOKS, gather
from sslintercept.store.snapshot import PIECE, STEP
from sslintercept.store.store import Kind

from .conftest import ShelfMaker
from .support import MEBIBYTE, Shelf, content, key

GENERATION = 77


def test_after_a_crash_everything_is_there_that_was_on_the_disk(shelf: Shelf) -> None:
    for number in range(300):
        shelf.put(number)
    shelf.flush()
    shelf.put(300)
    shelf.crash()
    assert shelf.held(range(301)) == list(range(300))
    assert shelf.store.stat.documents == 300


def test_what_came_after_a_snapshot_is_found_by_scanning(plain: Shelf) -> None:
    for number in range(100):
        plain.put(number)
    plain.snapshot()
    for number in range(50, 150):
        plain.put(number, 3000)
    plain.flush()
    plain.crash()
    assert plain.held(range(50)) == list(range(50))
    assert plain.held(range(50, 150), 3000) == list(range(50, 150))
    assert not plain.store._spans[0].recovery.complete


def test_without_any_snapshot_all_of_the_log_is_scanned(shelf: Shelf) -> None:
    numbers = shelf.fill(0, 20_000, part=1.7)
    held = shelf.held(numbers, 20_000)
    shelf.lose_snapshots()
    shelf.crash()
    assert shelf.store._spans[0].recovery.complete
    found = shelf.held(numbers, 20_000)
    assert found == held[len(held) - len(found) :]
    assert len(held) - len(found) <= CAPACITY // whole(20_000) + 1


def test_writing_goes_on_after_a_crash(shelf: Shelf) -> None:
    for number in range(3):
        first = shelf.fill(1000 * number, 20_000, part=0.9)
        shelf.crash()
    assert shelf.held(first, 20_000)[-1] == first[-1]
    shelf.restart()
    assert shelf.held(first, 20_000)[-1] == first[-1]


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_removed_stays_removed(shelf: Shelf, lost: bool) -> None:
    for number in range(100):
        shelf.put(number)
    shelf.flush()
    shelf.snapshot()
    for number in range(0, 100, 2):
        assert shelf.store.remove(key(number))
    shelf.put(0)
    shelf.flush()
    if lost:
        shelf.lose_snapshots()
    shelf.crash()
    assert shelf.held(range(100)) == [0, *range(1, 100, 2)]
    shelf.crash()
    assert shelf.held(range(100)) == [0, *range(1, 100, 2)]


def test_an_older_document_does_not_come_back_for_one_whose_content_is_damaged(plain: Shelf) -> None:
    plain.store.write(key(1), Kind.HEAD, [b"old"])
    plain.flush()
    plain.snapshot()
    plain.store.write(key(1), Kind.HEAD, [b"new"])
    at = plain.header.start + plain.stripe.head - whole(3) + DOCUMENT_HEADER
    plain.flush()
    plain.damage(at)
    plain.crash()
    assert plain.get(key(1)) is None
    plain.lose_snapshots()
    plain.crash()
    assert plain.get(key(1)) is None


def test_a_damaged_document_costs_no_other(plain: Shelf) -> None:
    for number in range(100):
        plain.put(number, 3000)
    plain.flush()
    plain.lose_snapshots()
    for number in (0, 10, 50):
        plain.damage(plain.header.start + number * whole(3000))
        plain.damage(plain.header.start + (number + 20) * whole(3000) + 2000)
    plain.crash()
    assert plain.held(range(100), 3000) == [n for n in range(100) if n not in (0, 10, 50, 20, 30, 70)]


def test_a_hole_that_a_failed_write_left_costs_nothing_behind_it(plain: Shelf) -> None:
    plain.put(1)
    plain.flush()
    plain.snapshot()
    plain.frail.fails = lambda request: 5 if request.writes else 0
    plain.put(2, MEBIBYTE)
    plain.flush()
    plain.frail.fails = lambda request: 0
    plain.put(3)
    plain.flush()
    plain.crash()
    assert plain.held([1, 3]) == [1, 3]
    assert plain.get(key(2)) is None


def test_a_file_that_was_cut_off_loses_what_was_behind(plain: Shelf) -> None:
    numbers = plain.fill(0, 20_000, part=0.9)
    plain.lose_snapshots()
    with plain.file.open("r+b") as file:
        file.truncate(plain.header.start + 5 * MEBIBYTE + 333)
    plain.crash()
    held = plain.held(numbers, 20_000)
    assert held == list(range(5 * MEBIBYTE // whole(20_000)))
    made = plain.put(5000)
    plain.restart()
    assert plain.get(key(5000)) == made


def test_a_snapshot_that_the_log_has_passed_is_not_believed(plain: Shelf) -> None:
    for number in range(10):
        plain.put(number)
    plain.flush()
    plain.snapshot()
    old = plain.file.read_bytes()[: plain.header.start]
    numbers = plain.fill(100, part=1.2)
    with plain.file.open("r+b") as file:
        file.write(old)
    plain.crash()
    assert plain.store._spans[0].recovery.complete
    assert plain.held(range(10)) == []
    assert plain.held(numbers, 64 * 1024)[-1] == numbers[-1]


def test_reads_miss_and_writes_are_refused_while_a_span_recovers(plain: Shelf) -> None:
    plain.put(1)
    plain.flush()
    plain.stop()
    plain.begin()
    over = plain.store.start()
    assert plain.get(key(1)) is None
    assert not plain.store.has(key(1))
    assert not plain.store.write(key(2), Kind.HEAD, [b"x"])
    assert not plain.store.remove(key(1))
    plain.wait(over)
    assert plain.held([1]) == [1]


def test_a_recovery_can_be_stopped(plain: Shelf) -> None:
    numbers = plain.fill(0, 20_000)
    plain.lose_snapshots()
    plain.stop()
    plain.lose_snapshots()
    plain.begin()
    over = plain.store.start()
    plain.until(lambda: plain.store._spans[0].recovery.scanned > 4 * MEBIBYTE)
    plain.wait(plain.store.stop())
    plain.wait(over)
    plain.wait(plain.engine.stop())
    plain.start()
    assert len(plain.held(numbers, 20_000)) > len(numbers) // 2


def test_a_recovery_does_little_in_one_turn(make: ShelfMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are counted, not timed: at most so many headers or buckets between two pauses, and so many bytes."""
    shelf = make(average=600)
    shelf.start()
    for number in range(8000):
        shelf.put(number, 100)
    shelf.flush()
    shelf.stop()
    shelf.lose_snapshots()
    looks = most = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:  # Any: whatever it takes and gives
        def counting(*arguments: Any) -> Any:
            nonlocal looks, most
            looks += 1
            most = max(most, looks)
            return call(*arguments)

        return counting

    def paused(medium: Medium, seconds: float) -> Any:
        nonlocal looks
        looks = 0
        return pause(medium, seconds)

    pause = Medium.pause
    monkeypatch.setattr("sslintercept.store.recover.document_at", counted(document_at))
    monkeypatch.setattr(Directory, "locations", counted(Directory.locations))
    monkeypatch.setattr(Medium, "pause", paused)
    shelf.start()
    assert most == MOST_LOOKS == STEP
    assert shelf.frail.longest <= max(CAPACITY, PIECE)
    monkeypatch.undo()
    assert shelf.store.stat.documents == 8000


def test_a_piece_that_the_disk_does_not_give_costs_what_is_in_it(plain: Shelf) -> None:
    numbers = plain.fill(0, 20_000, part=0.7)
    plain.stop()
    plain.lose_snapshots()
    bad = plain.parts[0].offset + 7 * MEBIBYTE
    plain.begin()
    plain.frail.fails = lambda request: errno.EIO if request.offset <= bad < request.offset + request.length else 0
    plain.wait(plain.store.start())
    held = plain.held(numbers, 20_000)
    assert len(numbers) - CAPACITY // whole(20_000) - 2 <= len(held) < len(numbers)
    assert held[-1] == numbers[-1]
    assert plain.store.stat.counters.io_errors == 1


def test_snapshots_that_the_disk_does_not_give_are_replaced_by_the_log(plain: Shelf) -> None:
    for number in range(100):
        plain.put(number)
    plain.flush()
    plain.snapshot()
    plain.restart()
    start = plain.header.start
    plain.stop()
    plain.begin()
    plain.frail.fails = lambda request: errno.EIO if PAGE <= request.offset < start else 0
    plain.wait(plain.store.start())
    assert plain.held(range(100)) == list(range(100))
    assert plain.store._spans[0].recovery.complete


def test_a_disk_that_gives_nothing_is_out_of_service(plain: Shelf, said: list[str]) -> None:
    plain.fill(0, 20_000, part=0.9)
    plain.stop()
    header = plain.begin()._spans[0].part
    plain.frail.fails = lambda request: errno.EIO if request.offset else 0
    plain.wait(plain.store.start())
    assert plain.store.stat.spans == 0
    assert any(str(header) in line and "look at the disk" in line for line in said)


def test_a_defect_in_one_span_leaves_the_others(
    make: ShelfMaker, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    shelf = make(spans=2)
    shelf.start()
    shelf.stop()
    shelf.begin()

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(shelf.store._spans[0].recovery, "run", broken)
    shelf.wait(shelf.store.start())
    assert shelf.store.stat.spans == 1
    assert any("report the traceback" in line for line in said)
    assert len(shelf.loop.failures) == 1
    shelf.loop.failures.clear()


def test_a_recovery_waits_for_memory(plain: Shelf) -> None:
    plain.put(1)
    plain.stop()
    store = plain.begin()
    taken = []
    while (buffer := store._buffers.take()) is not None:
        taken.append(buffer)
    over = store.start()
    plain.until(lambda: bool(plain.loop.getDelayedCalls()) and not plain.engine.load)
    for buffer in taken:
        store._buffers.give(buffer)
    for _ in range(5):
        plain.loop.pass_time(1)
    plain.wait(over)
    assert plain.held([1]) == [1]


def written(*lengths: int, start: int = 0) -> tuple[memoryview, list[tuple[bytes, int, int]]]:
    """An aggregate as it would be on disk, and key, position and length of each document."""
    buffer = Buffers().take()
    assert buffer is not None
    aggregate, documents = Aggregate(buffer, start, GENERATION), []
    for number, length in enumerate(lengths):
        position = aggregate.append(key(number), Kind.HEAD.value, [content(number, length)], length, 0.0)
        documents.append((key(number), position, length))
    return aggregate.sealed(), documents


def all_in(memory: memoryview, size: int = 2**30, lap: int | None = 0, place: int = 0) -> list[tuple[bytes, int, int]]:
    """What is found in memory."""
    documents, at = [], 0
    while at < len(memory):
        found = gather(memory, at, place, lap, GENERATION, size)
        documents += [(one.key, one.position, one.length) for one, intact in found.documents if intact]
        if found.at == at:
            break
        at = found.at
    return documents


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20))
def test_every_document_of_an_aggregate_is_found(lengths: list[int]) -> None:
    memory, documents = written(*lengths)
    assert all_in(memory) == documents
    assert all_in(memory, lap=None) == documents


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20), st.data())
def test_after_garbage_the_next_document_is_found(lengths: list[int], data: st.DataObject) -> None:
    memory, documents = written(*lengths)
    lost = data.draw(st.integers(0, len(lengths) - 1))
    memory[documents[lost][1] + data.draw(st.integers(0, DOCUMENT_HEADER - 1))] ^= 1
    assert all_in(memory) == [one for number, one in enumerate(documents) if number != lost]


def test_a_document_inside_of_a_content_is_none() -> None:
    """An origin cannot pose as the disk: it does not know the generation."""
    buffer = Buffers().take()
    assert buffer is not None
    fake = Aggregate(buffer, 0, GENERATION + 1)
    fake.append(b"victim".ljust(16), Kind.HEAD.value, [b"fake"], 4, 0.0)
    other = Buffers().take()
    assert other is not None
    real = Aggregate(other, 0, GENERATION)
    body = bytes(512 - DOCUMENT_HEADER) + bytes(fake.sealed())
    real.append(key(1), Kind.HEAD.value, [body], len(body), 0.0)
    memory = real.sealed()
    memory[0] ^= 1
    assert all_in(memory) == []


def test_what_lies_elsewhere_than_it_says_is_none() -> None:
    memory, _ = written(100, 100, start=PAGE)
    assert all_in(memory) == []
    assert len(all_in(memory, place=PAGE)) == 2


def test_documents_of_other_laps_are_told_apart() -> None:
    size = 2**24
    memory, documents = written(100, 100, start=3 * size)
    assert all_in(memory, size, 3) == documents
    assert all_in(memory, size, None) == documents
    assert all_in(memory, size, 4) == []
    assert gather(memory, 0, 0, 2, GENERATION, size).newer
    assert not gather(memory, 0, 0, 4, GENERATION, size).newer


def test_a_document_that_goes_beyond_the_memory_is_left_for_the_next() -> None:
    memory, documents = written(100, 5000)
    found = gather(memory[:4096], 0, 0, 0, GENERATION, 2**30)
    assert [one.key for one, _ in found.documents] == [documents[0][0]]
    assert found.at == 512
