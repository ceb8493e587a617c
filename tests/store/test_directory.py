"""The directory says where a key is, forgets the oldest when it is full, and counts what is alive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sslintercept.store.directory import Census, Directory, is_pinned, kind_of, located, position_of, whole_of
from sslintercept.store.layout import FRAGMENT, HEAD, LARGEST_WHOLE, WAYS

from .support import key


@given(st.integers(0, 2**48 - 1), st.integers(1, LARGEST_WHOLE // 512), st.integers(0, 2), st.booleans())
def test_a_location_says_all_that_was_put_into_it(block: int, blocks: int, kind: int, pinned: bool) -> None:
    one = located(block * 512, blocks * 512, kind, pinned)
    assert (position_of(one), whole_of(one), kind_of(one), is_pinned(one)) == (block * 512, blocks * 512, kind, pinned)
    assert 0 < one < 2**64


def test_a_newer_location_is_a_higher_number() -> None:
    assert located(1024, 512, HEAD, False) > located(512, LARGEST_WHOLE, FRAGMENT, True)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200))
def test_it_is_a_dictionary_as_long_as_there_is_room(steps: list[tuple[int, bool]]) -> None:
    directory, model = Directory(50, 1), dict[int, int]()
    for position, (number, puts) in enumerate(steps, 1):
        if puts:
            new = located(position * 512, 512, HEAD, False)
            assert directory.put(key(number), new, 0) == (model.get(number, 0), 0)
            model[number] = new
        else:
            assert directory.drop(key(number)) == model.pop(number, 0)
        assert [directory.find(key(one)) for one in range(21)] == [model.get(one, 0) for one in range(21)]


def test_what_is_full_forgets_the_oldest() -> None:
    directory = Directory(1, 1)
    locations = [located(n * 512, 512, HEAD, False) for n in range(1, 100)]
    for n, one in enumerate(locations):
        evicted = directory.put(key(n), one, 0).evicted
        assert evicted == (locations[n - WAYS] if n >= WAYS else 0)
        assert directory.find(key(n)) == one


def test_what_is_pinned_is_not_forgotten_unless_everything_is() -> None:
    directory = Directory(1, 1)
    for n in range(WAYS - 1):
        directory.put(key(n), located((1 + n) * 512, 512, HEAD, True), 0)
    for n in range(100, 110):
        directory.put(key(n), located(n * 512, 512, HEAD, False), 0)
    assert all(directory.find(key(n)) for n in range(WAYS - 1))
    assert directory.find(key(109))
    directory.put(key(109), located(512 * 200, 512, HEAD, True), 0)
    assert directory.put(key(200), located(512 * 201, 512, HEAD, False), 0).evicted == located(512, 512, HEAD, True)


def test_what_is_overwritten_makes_room_without_being_counted() -> None:
    directory = Directory(1, 1)
    for n in range(WAYS):
        directory.put(key(n), located((1 + n) * 512, 512, HEAD, False), 0)
    oldest = located(5 * 512, 0, 0, False)
    assert directory.put(key(50), located(50 * 512, 512, HEAD, False), oldest) == (0, 0)
    assert not directory.find(key(0))


def test_buckets_fill_evenly() -> None:
    directory, lost = Directory(1000, 1), 0
    for n in range(WAYS * 800):  # as full as it is meant to be
        lost += bool(directory.put(key(n), located((1 + n) * 512, 512, HEAD, False), 0).evicted)
    assert lost < WAYS * 800 * 0.001


def test_while_recovering_the_newer_location_stays() -> None:
    directory = Directory(10, 1)
    old, new = located(512, 512, HEAD, False), located(1024, 512, HEAD, False)
    directory.put(key(1), new, 0, newer=True)
    directory.put(key(1), old, 0, newer=True)
    assert directory.find(key(1)) == new


def test_only_a_certain_location_is_dropped() -> None:
    directory = Directory(10, 1)
    directory.put(key(1), 5 << 16 | 1, 0)
    assert not directory.drop(key(1), 6 << 16 | 1)
    assert directory.drop(key(1), 5 << 16 | 1)
    assert not directory.find(key(1))


def test_an_entry_is_dropped_at_its_place() -> None:
    directory = Directory(1, 1)
    directory.put(key(1), 77 << 16 | 1, 0)
    directory.drop_at(0, 78 << 16 | 1)
    assert 77 << 16 | 1 in directory.locations(0)
    directory.drop_at(0, 77 << 16 | 1)
    assert not directory.find(key(1))
    assert directory.locations(0) == (0,) * WAYS


def test_a_tag_that_only_looks_like_one_between_two_is_not_found() -> None:
    directory = Directory(1, 1)
    directory.put(key(1), 1 << 16 | 1, 0)
    directory.put(key(2), 2 << 16 | 1, 0)
    directory.put(key(3), 3 << 16 | 1, 0)
    tags = bytes(directory.data[:24])
    directory.data[4:12] = tags[16:24]
    assert directory.find(key(3)) == 3 << 16 | 1


@given(st.lists(st.integers(1, 40), max_size=300))
def test_the_census_is_right_to_a_part_of_the_log(lengths: list[int]) -> None:
    size, head, alive = 256 * 16384, 0, list[int]()
    census = Census(size, 2**20)
    for length in lengths:
        alive.append(located(head, length * 512, HEAD, False))
        census.add(alive[-1])
        head += length * 512
        census.advance(head - size)
        alive = [one for one in alive if position_of(one) >= head - size]
        assert 0 <= census.documents - len(alive) <= 33
        assert 0 <= census.used - sum(map(whole_of, alive)) <= 2 * 16384
    for one in alive:
        census.add(one, -1)
    assert 0 <= census.documents <= 33


def test_the_census_forgets_everything_after_a_lap() -> None:
    census = Census(2**24, 2**20)
    census.add(located(0, 512, HEAD, False))
    census.advance(2**40)
    assert (census.documents, census.used) == (0, 0)
    census.add(located(512, 512, HEAD, False), -1)
    assert (census.documents, census.used) == (0, 0)
