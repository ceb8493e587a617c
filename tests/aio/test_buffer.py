"""Memory for transfers: aligned, used again, bounded."""

from __future__ import annotations

import itertools
import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.aio.buffer import CUT, HUGE, PAGE, WORST, Pool, size_of
from sslintercept.aio.request import LARGEST, Request, read


def taken(pool: Pool, *lengths: int) -> list[Request]:
    parts = [read(3, 0, 1) for _ in lengths]
    assert pool.reserve(parts, lengths)
    return parts


def give(pool: Pool, parts: list[Request]) -> None:
    for part in parts:
        assert part.buffer is not None
        pool.give(part.buffer)


def test_a_size_is_a_power_of_two_of_pages() -> None:
    assert [size_of(length) // PAGE for length in (1, PAGE, PAGE + 1, 3 * PAGE, 4 * PAGE, 5 * PAGE)] == [
        1,
        1,
        2,
        4,
        4,
        8,
    ]


def test_buffers_begin_at_pages_and_are_as_long_as_asked() -> None:
    pool = Pool()
    for part, length in zip(taken(pool, 1, PAGE, 5 * PAGE), (1, PAGE, 5 * PAGE), strict=True):
        assert part.buffer is not None
        assert part.buffer.address % PAGE == 0
        assert len(part.buffer.view) >= length


def test_pages_that_the_disk_may_be_writing_are_not_copied_by_a_fork() -> None:
    (part,) = taken(Pool(), 16 * PAGE)
    assert part.buffer is not None
    maps = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in maps:
        start, dash, rest = line.partition(" ")[0].partition("-")
        if dash and int(start, 16) <= part.buffer.address < int(rest, 16):
            break
    flags = next(line for line in maps if line.startswith("VmFlags:"))
    assert "dc" in flags.split()  # "do not copy area on fork", proc(5)


def test_what_was_given_back_is_used_again() -> None:
    pool = Pool()
    first = taken(pool, PAGE)
    give(pool, first)
    assert (pool.used, pool.kept) == (0, PAGE)
    assert taken(pool, 1)[0].buffer is first[0].buffer
    assert (pool.used, pool.kept) == (PAGE, 0)


def test_used_and_kept_together_stay_within_the_bound() -> None:
    """What is kept in other sizes makes room."""
    pool = Pool(WORST)
    give(pool, taken(pool, *[2 * PAGE] * 64))
    assert pool.kept == 128 * PAGE
    held = taken(pool, *[PAGE] * (WORST // PAGE - 64))
    assert (pool.used, pool.kept) == (WORST - 64 * PAGE, 64 * PAGE)
    held += taken(pool, *[PAGE] * 64)
    assert (pool.used, pool.kept) == (WORST, 0)
    more = read(3, 0, 1)
    assert not pool.reserve([more], [1])
    assert more.buffer is None
    give(pool, held[:1])
    assert pool.reserve([more], [1])


def test_large_buffers_share_huge_pages() -> None:
    pool = Pool()
    parts = taken(pool, *[HUGE // 2] * 3, HUGE, 2 * HUGE)
    assert (pool.used, pool.kept) == (9 * HUGE // 2, HUGE // 2)
    first, second, *_ = (part.buffer.address for part in parts if part.buffer is not None)
    assert abs(first - second) == HUGE // 2
    assert all(part.buffer.address % (HUGE // 2) == 0 for part in parts if part.buffer is not None)
    give(pool, parts)
    assert (pool.used, pool.kept) == (0, 5 * HUGE)


def test_a_huge_page_is_forgotten_when_all_of_its_buffers_are_given_back() -> None:
    pool = Pool(WORST)
    held = taken(pool, CUT, CUT)
    give(pool, held[:1])
    rest = taken(pool, *[PAGE] * ((WORST - HUGE) // PAGE))
    more = read(3, 0, 1)
    assert not pool.reserve([more], [1])
    give(pool, held[1:])
    assert pool.reserve([more], [1])
    assert (pool.used, pool.kept) == (WORST - HUGE + PAGE, 0)
    give(pool, [*rest, more])


def test_the_worst_batch_has_room_when_nothing_else_is_in_use() -> None:
    """Whatever is kept in other sizes."""
    pool = Pool(WORST)
    for size in (PAGE, CUT, 2 * CUT, HUGE // 2, HUGE):
        give(pool, taken(pool, *[size] * (WORST // max(size, HUGE))))
    lengths = [CUT // 2 + 1, CUT + 1, 2 * CUT + 1, 4 * CUT + 1, 8 * CUT + 1]
    lengths += [(LARGEST - sum(lengths)) // 59] * 59
    give(pool, taken(pool, *lengths))
    assert pool.used == 0
    assert pool.kept <= WORST


@given(st.lists(st.tuples(st.integers(1, LARGEST), st.booleans()), max_size=40))
def test_no_order_of_taking_and_giving_breaks_the_bound_or_shares_a_byte(steps: list[tuple[int, bool]]) -> None:
    pool, held = Pool(WORST), list[Request]()
    for length, gives in steps:
        if gives and held:
            give(pool, [held.pop(length % len(held))])
        else:
            part = read(3, 0, 1)
            if pool.reserve([part], [length]):
                held.append(part)
        assert pool.used + pool.kept <= WORST
        assert pool.used == sum(size_of(part.buffer.size) for part in held if part.buffer is not None)
    ranges = sorted((part.buffer.address, part.buffer.size) for part in held if part.buffer is not None)
    assert all(start + size <= then for (start, size), (then, _) in itertools.pairwise(ranges))


def test_a_batch_gets_all_of_its_memory_or_none() -> None:
    pool = Pool(WORST)
    held = taken(pool, *[PAGE] * (WORST // PAGE - 1))
    parts = [read(3, 0, 1), read(3, 0, 1)]
    assert not pool.reserve(parts, [PAGE, PAGE])
    assert [part.buffer for part in parts] == [None, None]
    give(pool, held[:1])
    assert pool.reserve(parts, [PAGE, PAGE])


def test_a_bound_below_the_largest_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="largest batch"):
        Pool(WORST - 1)


def test_memory_that_the_system_does_not_have_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, pages = Pool(), iter([mmap.mmap(-1, PAGE)])

    def scarce(*args: object, **kwargs: object) -> mmap.mmap:
        try:
            return next(pages)
        except StopIteration:
            raise OSError(12, "Cannot allocate memory") from None

    monkeypatch.setattr(mmap, "mmap", scarce)
    parts = [read(3, 0, 1), read(3, 0, 1)]
    with pytest.raises(OSError, match="Cannot allocate"):
        pool.reserve(parts, [PAGE, PAGE])
    give(pool, [part for part in parts if part.buffer is not None])
    assert pool.used == 0
