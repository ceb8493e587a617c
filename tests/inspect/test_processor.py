"""The inspectors of generations of settings, and when they are let go."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from sslintercept.gateway import Gateway
from sslintercept.inspect.entry import Decision, Found
from sslintercept.inspect.inspector import Inspector
from sslintercept.inspect.processor import MOST_EVENTS, Generations
from sslintercept.inspect.verdict import Act, Verdict
from sslintercept.testing.gateway import Answers, MemoryGateway
from sslintercept.testing.loop import Loop
from tests.http.test_session import GET, asked
from tests.inspect.stubs import BAD, Word
from tests.inspect.support import World, a_part, entry

EVIL = "[inspect:one]\nuse = tests.inspect.stubs:evil\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


def word_of(gateway: MemoryGateway) -> Word:
    """The inspector of the generation in force."""
    assert gateway.inspection is not None
    inspector = gateway.inspection.entries[0].inspector
    assert isinstance(inspector, Word)
    return inspector


def reload(gateway: MemoryGateway) -> None:
    """Another generation is in force."""
    gateway.gateway = Gateway(gateway.settings, gateway)
    gateway.inspection, gateway.pool = gateway.gateway.inspection, gateway.gateway.pool
    gateway.learned, gateway.proxy = gateway.gateway.learned, gateway.gateway.proxy


def test_inspectors_are_let_go_behind_the_last_connection_of_their_generation(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)
    gateway.origin("origin.test:80", Answers(FINE))
    generations = Generations(loop.handler.soon)
    assert gateway.inspection is not None
    generations.watch(gateway.inspection)
    old, client = word_of(gateway), gateway.client()
    assert asked(gateway, GET, client)[0].body == b"fine"
    assert not generations.older(gateway.inspection)
    reload(gateway)
    assert generations.older(gateway.inspection)
    gc.collect()
    gateway.pump()
    assert not old.closed
    assert asked(gateway, GET, client)[0].body == b"fine"
    assert len(old.looks) == 2
    old.looks.clear()  # what a look belongs to is under way
    client.close()
    gateway.pump()
    gc.collect()
    gateway.pump()
    assert old.closed
    assert not generations.older(gateway.inspection)
    assert not word_of(gateway).closed


def test_what_decides_is_told_however_much_was_found_before_it() -> None:
    world = World(entry(Word(), "one"))
    entries, part = world.processor.entries, a_part()
    reports = [Found(entries[0], part, Verdict(Act.REPORT, "site", f"r{at}", "")) for at in range(MOST_EVENTS)]
    error = world.processor.settle(part, Decision.of([*reports, Found(entries[0], part, BAD)]))
    assert error is not None
    assert len(world.events.told) == MOST_EVENTS
    assert (world.events.told[-1].name, world.events.told[-1].id) == ("Bad", error.event)


def test_all_that_are_left_are_let_go_when_the_process_stops_and_once() -> None:
    class Counts(Word):
        times = 0

        def close(self) -> None:
            self.times += 1

    class Clings(Inspector):
        def close(self) -> None:
            raise ValueError("it holds")

    counts = Counts()
    world = World(entry(Clings(), "one"), entry(counts, "two"))
    calls: list[Callable[[], object]] = []
    generations = Generations(calls.append)
    generations.watch(world.processor)
    generations.close()
    assert counts.times == 1
    del world
    gc.collect()
    assert calls == []
    assert counts.times == 1


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_kept_of_generations_that_are_gone(count: int) -> None:
    calls: list[Callable[[], object]] = []
    generations = Generations(calls.append)
    words = [Word() for _ in range(count)]
    for word in words:
        generations.watch(World(entry(word)).processor)
    gc.collect()
    assert [word.closed for word in words] == [False] * count
    for call in calls:
        call()
    assert [word.closed for word in words] == [True] * count
    generations.close()
