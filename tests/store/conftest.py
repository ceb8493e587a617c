"""Fixtures of the store's tests: stores on real files, with each disk engine, that are checked afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from sslintercept.testing.loop import Loop, checked_loop
from tests.aio.support import kernel_refuses, refuses_direct

from .support import Shelf


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop; the test fails if it leaves anything behind, threads included."""
    before = set(threading.enumerate())
    with checked_loop() as made:
        yield made
    assert set(threading.enumerate()) == before


@pytest.fixture(params=["threads", "native"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each engine in turn, if this machine has what it needs."""
    kind: str = request.param
    if kind == "native" and (why := kernel_refuses() or refuses_direct(tmp_path)):
        pytest.skip(why)
    return kind


ShelfMaker = Callable[..., Shelf]


@pytest.fixture
def make(loop: Loop, tmp_path: Path) -> Iterator[ShelfMaker]:
    """Makes shelves, whose stores and engines are stopped afterwards and hold nothing."""
    made: list[Shelf] = []

    def one(kind: str = "threads", spans: int = 1, **settings: int) -> Shelf:
        made.append(Shelf(loop, tmp_path, kind, spans, **settings))
        return made[-1]

    yield one
    for shelf in made:
        shelf.end()


@pytest.fixture
def shelf(make: ShelfMaker, kind: str) -> Shelf:
    """A store on one small span, with each engine in turn."""
    made = make(kind)
    made.start()
    return made


@pytest.fixture
def plain(make: ShelfMaker) -> Shelf:
    """A store on one small span, for what has nothing to do with the engine."""
    made = make()
    made.start()
    return made


@implementer(ILogObserver)
class Said:
    """Collects what is logged, as text."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        self.lines.append(formatEvent(event))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged during a test."""
    observer = Said()
    globalLogPublisher.addObserver(observer)
    yield observer.lines
    globalLogPublisher.removeObserver(observer)
