"""Random stories beside a dictionary: every read gives exactly what was last written, or nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslintercept.store.store import Kind
from sslintercept.testing.loop import checked_loop
from tests.aio.support import kernel_refuses

from .support import MEBIBYTE, SMALL, Shelf, content, key

LENGTHS = st.sampled_from([0, 100, 5000, 60_000, 300_000, 2 * MEBIBYTE])
KEYS = st.integers(0, 15)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, LENGTHS),
        st.tuples(st.just("fill"), st.integers(1, 8), st.just(0)),
        st.tuples(st.just("remove"), KEYS, st.just(0)),
        st.tuples(st.just("save"), KEYS, st.just(0)),
        st.tuples(st.just("pin"), KEYS, st.just(5000)),
        st.tuples(st.sampled_from(["flush", "snapshot", "restart", "crash", "lose"]), st.just(0), st.just(0)),
    ),
    max_size=25,
)


class Story:
    """A store and what it should hold: of a key, what a read may give. C{None} is always allowed."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.model: dict[int, bytes] = {}
        self.disk: dict[int, set[bytes | None]] = {}
        """what may come back after a crash: what was on the disk last, and everything since"""
        self.number = 0

    def step(self, what: str, which: int, length: int) -> None:
        shelf, store = self.shelf, self.shelf.store
        if what in ("put", "pin"):
            self.number += 1
            made = content(self.number, length)
            if store.write(key(which), Kind.HEAD, [made], pinned_until=2e9 if what == "pin" else 0.0):
                self.model[which] = made
                self.disk.setdefault(which, {None}).add(made)
        elif what == "remove":
            store.remove(key(which))
            self.model.pop(which, None)
            self.disk.setdefault(which, {None}).add(None)
        elif what == "fill":
            for _ in range(which):
                self.number += 1
                shelf.put(1000 + self.number, MEBIBYTE)
        elif what == "save":
            store.save(key(which))
        elif what == "flush":
            self.flushed()
        elif what == "snapshot":
            shelf.snapshot()
        elif what == "restart":
            shelf.restart()
            self.settled()
        else:
            if what == "lose":
                shelf.flush()
                self.settled()
                shelf.lose_snapshots()
            shelf.crash()
            for one, may in self.disk.items():
                got = shelf.get(key(one))
                assert got in may
                if got is None:
                    self.model.pop(one, None)
                else:
                    self.model[one] = got
            self.flushed()

    def flushed(self) -> None:
        self.shelf.flush()
        self.settled()

    def settled(self) -> None:
        """What is on the disk is what counts."""
        self.disk = {one: {None, self.model.get(one)} for one in self.disk}

    def check(self) -> None:
        for one in range(16):
            got = self.shelf.get(key(one))
            assert got is None or got == self.model.get(one)


def told(kind: str, steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, checked_loop() as loop:
        shelf = Shelf(loop, Path(folder), kind, 1, size=SMALL)
        shelf.start()
        story = Story(shelf)
        try:
            for step in steps:
                story.step(*step)
                story.check()
        finally:
            shelf.end()


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_with_threads_every_read_gives_what_was_last_written_or_nothing(steps: list[tuple[str, int, int]]) -> None:
    told("threads", steps)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_natively_every_read_gives_what_was_last_written_or_nothing(steps: list[tuple[str, int, int]]) -> None:
    if why := kernel_refuses():
        pytest.skip(why)
    told("native", steps)


def test_what_was_just_written_and_flushed_is_not_absent() -> None:
    """The stories above allow absence; here is what they must not allow."""
    with tempfile.TemporaryDirectory() as folder, checked_loop() as loop:
        shelf = Shelf(loop, Path(folder), "threads", 1)
        shelf.start()
        for number in range(40):
            made = shelf.put(number % 7, 300_000)
            assert shelf.get(key(number % 7)) == made == content(number % 7, 300_000)
            shelf.flush()
            assert shelf.get(key(number % 7)) == made
            if number % 10 == 9:
                shelf.crash()
                assert shelf.held(range(7), 300_000) == list(range(7))
        shelf.end()
