"""What waits for a thread: in order, bounded, and over when it should be."""

from __future__ import annotations

import threading
import time

from sslintercept.event.backlog import GRACE, Backlog


def test_things_are_taken_in_order_as_many_as_are_wanted() -> None:
    backlog: Backlog[str] = Backlog(100)
    assert all(backlog.put(one, 1) for one in "abc")
    assert [one for one, _ in backlog.take(2, 0)] == ["a", "b"]
    assert backlog.take(2, 0) == [("c", 1)]
    assert backlog.take(2, 0) == []


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    backlog: Backlog[str] = Backlog(10)
    assert backlog.put("a", 6)
    assert not backlog.put("b", 5)
    assert backlog.put("c", 4)
    backlog.take(2, 0)
    assert not backlog.put("d", 1)  # what was taken is not done yet
    backlog.done(4)
    assert backlog.put("e", 4)
    assert backlog.dropped == 2


def test_the_end_wakes_the_thread_and_nothing_comes_after_it() -> None:
    backlog: Backlog[str] = Backlog(10)
    taken: list[str] = []

    def run() -> None:
        while not backlog.ending or len(backlog):
            taken.extend(one for one, _ in backlog.take(1, 60))

    backlog.start(run, "test")
    backlog.put("a", 1)
    assert backlog.end(10)
    assert taken == ["a"]
    assert not backlog.put("b", 1)
    assert backlog.dropped == 1


def test_a_pause_ends_when_the_end_is_asked_for() -> None:
    backlog: Backlog[str] = Backlog(10)
    backlog.start(lambda: backlog.pause(60), "test")
    assert backlog.end(10)


def test_a_thread_that_hangs_is_not_waited_for() -> None:
    backlog: Backlog[str] = Backlog(10)
    release = threading.Event()
    backlog.start(lambda: release.wait(60), "test")
    before = time.monotonic()
    assert not backlog.end(0.05)
    assert time.monotonic() - before >= 0.05 + GRACE
    assert backlog.late
    release.set()


def test_the_end_of_what_never_began_is_at_once() -> None:
    assert Backlog[str](1).end(60)
