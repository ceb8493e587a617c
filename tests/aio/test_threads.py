"""The engine of threads: who runs beside whom, who waits, and that nobody waits for a lock."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from sslintercept.aio import threads as module
from sslintercept.aio.buffer import WORST
from sslintercept.aio.request import LARGEST, Request, read
from sslintercept.aio.threads import ThreadEngine
from sslintercept.errors import LimitError
from sslintercept.testing.loop import Loop

from .conftest import DiskMaker
from .support import PAGE, Disk, linked, pages


class Gate:
    """A disk that is as slow as a test wants it to be."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.names: set[str] = set()
        self._open = threading.Semaphore(0)

    def preadv(self, fd: int, memory: Sequence[memoryview], offset: int) -> int:
        self.begun.append((fd, offset // PAGE))
        self.names.add(threading.current_thread().name)
        self._open.acquire()
        return os.preadv(fd, memory, offset)

    def let(self, count: int) -> None:
        """Let some go on."""
        self._open.release(count)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(module, "preadv", made.preadv)
    yield made
    made.let(10_000)


@pytest.fixture
def disk(make: DiskMaker) -> Disk:
    return make("threads")


def steady(disk: Disk, true: Callable[[], bool]) -> None:
    """It becomes true, and is so still when threads had time for more."""
    disk.until(true)
    time.sleep(0.05)
    disk.loop.turn()
    assert true()


def test_eight_run_together_the_ninth_waits_and_another_file_does_not(disk: Disk, gate: Gate) -> None:
    """T7.2 and T7.1: a file has eight threads, and two files are independent."""
    fd, other = disk.file(pages(9)), disk.file(pages(1), "other")
    disk.submit(*[disk.read(fd, n * PAGE, PAGE) for n in range(9)])
    steady(disk, lambda: len(gate.begun) == 8)
    disk.submit(disk.read(other, 0, PAGE))
    steady(disk, lambda: len(gate.begun) == 9)
    assert gate.begun[8] == (other, 0)
    gate.let(1)
    steady(disk, lambda: len(gate.begun) == 10 or len(disk.answers) == 1)
    gate.let(9)
    disk.settle()
    assert len(disk.answers) == 10
    assert {name.partition(":")[2] for name in gate.names} == {str(fd), str(other)}


def test_the_same_descriptor_used_from_two_places_has_one_group(disk: Disk, gate: Gate) -> None:
    """T7.1: one set of requests for a descriptor, whoever uses it and whoever opened it."""
    (disk.folder / "file").write_bytes(pages(20))
    fd = os.open(disk.folder / "file", os.O_RDONLY)
    for place in (0, 10):
        disk.submit(*[disk.read(fd, (place + n) * PAGE, PAGE) for n in range(8)])
    steady(disk, lambda: len(gate.begun) == 8)
    gate.let(16)
    disk.settle()


def test_submitting_while_the_mutex_is_held_returns_at_once_and_keeps_the_order(make: DiskMaker, gate: Gate) -> None:
    """T7.4: nobody waits for the mutex, and what was submitted meanwhile begins in its order."""
    disk = make("threads", at_once=1)
    fd = disk.file(pages(5))
    with disk.held():
        for n in range(5):
            disk.submit(disk.read(fd, n * PAGE, PAGE))  # a lock taken here would never come back
        time.sleep(0.05)
        assert gate.begun == []
    gate.let(5)
    disk.settle()
    assert [page for _, page in gate.begun] == [0, 1, 2, 3, 4]


def test_what_is_submitted_while_all_are_busy_begins_by_priority(make: DiskMaker, gate: Gate) -> None:
    """T7.3: priorities 0, 5, 3, 5, 0 queued while all threads are busy."""
    disk = make("threads", at_once=1)
    fd = disk.file(pages(6))
    disk.submit(disk.read(fd, 5 * PAGE, PAGE))
    disk.until(lambda: len(gate.begun) == 1)
    for n, priority in enumerate((0, 5, 3, 5, 0)):
        disk.submit(disk.read(fd, n * PAGE, PAGE, priority))
    gate.let(6)
    disk.settle()
    assert [page for _, page in gate.begun] == [5, 1, 3, 2, 0, 4]


def test_completions_come_as_they_end_not_as_they_began(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    first = threading.Event()

    def preadv(fd: int, memory: Sequence[memoryview], offset: int) -> int:
        if not offset:
            assert first.wait(60)
        return os.preadv(fd, memory, offset)

    monkeypatch.setattr(module, "preadv", preadv)
    fd = disk.file(pages(2))
    disk.submit(disk.read(fd, 0, PAGE), disk.read(fd, PAGE, PAGE))
    disk.until(lambda: len(disk.answers) == 1)
    first.set()
    disk.settle()
    assert [one.request.offset for one in disk.answers] == [PAGE, 0]


def test_many_completions_are_one_event_of_the_loop(disk: Disk, gate: Gate) -> None:
    fd = disk.file(pages(8))
    disk.submit(*[disk.read(fd, n * PAGE, PAGE) for n in range(8)])
    gate.let(8)
    end = time.monotonic() + 60
    while len(disk.engine._completions) < 8:
        assert time.monotonic() < end
        time.sleep(0.001)
    disk.loop.turn()
    assert len(disk.answers) == 8
    assert len({one.turn for one in disk.answers}) == 1


def test_a_transfer_in_pieces_is_put_together(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """T7.5: short results go on until the whole length is done."""
    monkeypatch.setattr(module, "preadv", lambda fd, memory, at: os.preadv(fd, [memory[0][:1000]], at))
    monkeypatch.setattr(module, "pwritev", lambda fd, memory, at: os.pwritev(fd, [memory[0][:700]], at))
    fd = disk.file()
    assert disk.answer(disk.write(fd, 0, pages(2))).result == 2 * PAGE
    assert disk.answer(disk.read(fd, 0, 2 * PAGE)).data == pages(2)


def test_an_error_in_the_middle_keeps_what_went_over(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """T7.5: the number of the error beside the bytes before it."""

    def preadv(fd: int, memory: Sequence[memoryview], offset: int) -> int:
        if offset:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.preadv(fd, [memory[0][:PAGE]], offset)

    monkeypatch.setattr(module, "preadv", preadv)
    monkeypatch.setattr(module, "pwritev", lambda fd, memory, at: 0)
    fd = disk.file(pages(2))
    seen = disk.answer(disk.read(fd, 0, 2 * PAGE))
    assert (seen.result, seen.errno, seen.data) == (PAGE, errno.EIO, pages(1))
    assert disk.answer(disk.write(fd, 0, b"x")).errno == errno.ENOSPC


def test_a_batch_that_is_cancelled_stops_behind_the_part_under_way(disk: Disk, gate: Gate) -> None:
    fd = disk.file(pages(4))
    head = linked(*[disk.read(fd, n * PAGE, PAGE) for n in range(4)])
    disk.submit(head)
    disk.until(lambda: len(gate.begun) == 1)
    head.cancel()
    gate.let(4)
    disk.settle()
    assert disk.answers == []
    assert gate.begun == [(fd, 0)]


def test_stopping_waits_for_what_is_under_way(make: DiskMaker, gate: Gate) -> None:
    disk = make("threads", at_once=2)
    fd = disk.file(pages(4))
    disk.submit(*[disk.read(fd, n * PAGE, PAGE) for n in range(4)])
    disk.until(lambda: len(gate.begun) == 2)
    end = disk.engine.stop()
    steady(disk, lambda: len(disk.answers) == 2)
    assert not end.called
    assert os.fstat(fd)
    gate.let(2)
    disk.until(lambda: bool(end.called))
    assert [one.errno for one in disk.answers] == [errno.ECANCELED, errno.ECANCELED, None, None]


def test_closing_a_file_gives_back_what_waits_and_leaves_others_alone(make: DiskMaker, gate: Gate) -> None:
    disk = make("threads", at_once=2)
    fd, other = disk.file(pages(4)), disk.file(pages(1), "other")
    disk.submit(*[disk.read(fd, n * PAGE, PAGE) for n in range(4)], disk.read(other, 0, PAGE))
    disk.until(lambda: len(gate.begun) == 3)
    end = disk.engine.close(fd)
    steady(disk, lambda: [one.errno for one in disk.answers] == [errno.ECANCELED] * 2)
    assert not end.called
    gate.let(3)
    disk.until(lambda: bool(end.called))
    disk.settle()
    assert [one.errno for one in disk.answers[2:]] == [None] * 3


def test_threads_wait_with_reading_until_somebody_takes_what_was_read(loop: Loop, disk: Disk) -> None:
    """Memory is bounded by its size, not by the number of requests."""
    small = Disk(loop, ThreadEngine(loop.handler, memory=WORST), disk.folder)
    fd = small.file(pages(LARGEST // PAGE))
    small.submit(*[read(fd, 0, LARGEST, lambda request: small.answers.append(request)) for _ in range(20)])  # type: ignore[arg-type]  # counted only
    time.sleep(0.2)
    assert 0 < small.engine._pool.used <= WORST
    assert small.engine.load == 20
    small.settle()
    assert len(small.answers) == 20
    small.answers.clear()
    small.submit(*[small.read(fd, 0, LARGEST) for _ in range(20)])
    time.sleep(0.2)
    small.stop()  # those that wait for memory wait no more
    assert {one.errno for one in small.answers} == {None, errno.ECANCELED}


def test_threads_that_cannot_be_started_are_a_limit_and_leave_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []

    class Scarce(threading.Thread):
        def start(self) -> None:
            if len(started) == 3:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(module, "Thread", Scarce)
        with pytest.raises(LimitError, match="no further thread"):
            disk.file(pages(1))
    assert threading.active_count() == before
    disk.settle()
    assert disk.answer(disk.read(disk.file(pages(1)), 0, PAGE)).data == pages(1)


def test_a_file_has_a_thread(loop: Loop) -> None:
    with pytest.raises(ValueError, match="one thread"):
        ThreadEngine(loop.handler, threads=0)


def test_idle_threads_sleep_and_keep_nothing_alive(disk: Disk) -> None:
    class Big(bytearray):
        """Something whose end can be seen."""

        ends = 0

        def seen(self, request: Request) -> None:
            """A callback that holds this."""

        def __del__(self) -> None:
            Big.ends += 1

    fd = disk.file()
    request: Request | None = disk.write(fd, 0, bytes(PAGE))
    assert request is not None
    big = Big(PAGE)
    request.done = big.seen
    disk.submit(request)
    request = None
    del big
    disk.settle()
    deadline = time.monotonic() + 10
    while not Big.ends and time.monotonic() < deadline:
        time.sleep(0.001)
    assert Big.ends == 1
    used = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used < 0.1
