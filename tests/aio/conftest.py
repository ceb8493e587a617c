"""Fixtures of the disk's tests: engines that are checked afterwards, and files where they may be read directly."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from sslintercept.aio.native import NativeEngine
from sslintercept.aio.threads import ThreadEngine
from sslintercept.testing.loop import Loop, checked_loop

from .support import Disk, kernel_refuses, refuses_direct


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
    if kind == "native":
        needs_native(tmp_path)
    return kind


@pytest.fixture
def native(tmp_path: Path) -> None:
    """For tests of the native engine alone."""
    needs_native(tmp_path)


def needs_native(folder: Path) -> None:
    if why := kernel_refuses() or refuses_direct(folder):
        pytest.skip(why)


DiskMaker = Callable[..., Disk]


@pytest.fixture
def make(loop: Loop, tmp_path: Path) -> Iterator[DiskMaker]:
    """Makes engines, which are stopped afterwards and must hold nothing."""
    made: list[Disk] = []

    def one(kind: str, *, at_once: int | None = None, most: int = 16384, most_files: int = 100) -> Disk:
        engine: ThreadEngine | NativeEngine
        if kind == "threads":
            engine = ThreadEngine(loop.handler, threads=at_once or 8, most=most, most_files=most_files)
        else:
            engine = NativeEngine(loop.handler, depth=at_once or 1024, most=most, most_files=most_files)
        made.append(Disk(loop, engine, tmp_path))
        return made[-1]

    yield one
    for disk in made:
        disk.stop()
        assert disk.engine.load == 0
        assert disk.engine._pool.used == 0


@pytest.fixture
def disk(make: DiskMaker, kind: str) -> Disk:
    """Each engine in turn."""
    return make(kind)


@implementer(ILogObserver)
class Said:
    """Collects what is logged."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)


@pytest.fixture
def said() -> Iterator[list[LogEvent]]:
    """What is logged during a test."""
    observer = Said()
    globalLogPublisher.addObserver(observer)
    yield observer.events
    globalLogPublisher.removeObserver(observer)


@pytest.fixture(autouse=True)
def owner_only() -> Iterator[None]:
    """Files are made as the service makes them."""
    old = os.umask(0o077)
    yield
    os.umask(old)
