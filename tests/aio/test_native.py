"""The engine of the kernel: turns, batches of them, alignment, refusals."""

from __future__ import annotations

import errno
import os
import platform
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from sslintercept.aio import kernel as kernel_module
from sslintercept.aio import native as module
from sslintercept.aio import threads as threads_module
from sslintercept.aio.kernel import Event, Kernel
from sslintercept.aio.native import NativeEngine
from sslintercept.aio.request import LARGEST, Request, State, read, read_into, write
from sslintercept.errors import LimitError
from sslintercept.testing.loop import Loop

from .conftest import DiskMaker
from .support import PAGE, Disk, linked, pages

pytestmark = pytest.mark.usefixtures("native")


class Watched(Kernel):
    """A kernel that writes down what it is handed, and fails as it is told."""

    def __init__(self, depth: int, eventfd: int) -> None:
        super().__init__(depth, eventfd)
        self.batches: list[int] = []
        self.transfers: list[tuple[int, int, int]] = []
        self.cancelled: list[int] = []
        self.refusals: list[int] = []
        self.shorten = 0

    def prepare(self, slot: int, fd: int, writes: bool, address: int, length: int, offset: int) -> None:
        assert address % PAGE == 0
        self.transfers.append((fd, offset, length))
        super().prepare(slot, fd, writes, address, min(length, self.shorten or length), offset)

    def submit(self, slots: Sequence[int]) -> int:
        self.batches.append(len(slots))
        if self.refusals and (number := self.refusals.pop(0)):
            raise OSError(number, os.strerror(number))
        return super().submit(slots)

    def cancel(self, slot: int) -> None:
        self.cancelled.append(slot)
        super().cancel(slot)


@pytest.fixture
def disk(make: DiskMaker, monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(module, "Kernel", Watched)
    return make("native")


def watched(disk: Disk) -> Watched:
    kernel = engine(disk)._kernel
    assert isinstance(kernel, Watched)
    return kernel


def engine(disk: Disk) -> NativeEngine:
    assert isinstance(disk.engine, NativeEngine)
    return disk.engine


def test_three_thousand_of_one_turn_are_handed_over_in_batches_and_all_end(disk: Disk) -> None:
    """T7.8: nothing is submitted inside of the requester's call, then at most 1024 at once, on the same loop."""
    fd = disk.file(pages(8))
    kernel = watched(disk)
    disk.submit(*[disk.read(fd, n % 8 * PAGE, PAGE) for n in range(3000)])
    assert kernel.batches == []
    disk.loop.handler._run_later()
    assert kernel.batches == [1024]
    disk.settle()
    assert sum(kernel.batches) == 3000
    assert max(kernel.batches) <= 1024
    assert [one.result for one in disk.answers] == [PAGE] * 3000


def test_a_refusal_in_the_middle_of_a_batch_is_its_own_and_no_others(disk: Disk) -> None:
    """ATS lost what followed a partial submit; here it follows."""
    fd, gone = disk.file(pages(4)), disk.file(pages(1), "gone")
    disk.submit(disk.read(fd, 0, PAGE), disk.read(gone, 0, PAGE), disk.read(fd, PAGE, PAGE))
    os.close(gone)
    disk.settle()
    seen = {(one.request.fd, one.request.offset): (one.result, one.errno) for one in disk.answers}
    assert seen == {(fd, 0): (PAGE, None), (gone, 0): (0, errno.EBADF), (fd, PAGE): (PAGE, None)}


def test_a_kernel_without_room_is_asked_again(disk: Disk) -> None:
    fd = disk.file(pages(4))
    kernel = watched(disk)
    kernel.refusals = [errno.EINTR, errno.EAGAIN]
    disk.submit(disk.read(fd, 0, PAGE), disk.read(fd, PAGE, PAGE))
    disk.loop.pump()
    assert (disk.answers, kernel.batches) == ([], [2, 2])
    disk.loop.advance(0.02)
    disk.settle()
    assert len(disk.answers) == 2


def test_stopping_does_not_wait_for_a_kernel_without_room(disk: Disk) -> None:
    fd = disk.file(pages(4))
    kernel = watched(disk)
    kernel.refusals = [errno.EAGAIN] * 100
    disk.submit(disk.read(fd, 0, PAGE), disk.read(fd, PAGE, PAGE))
    disk.loop.pump()
    disk.stop()
    assert [one.errno for one in disk.answers] == [errno.ECANCELED] * 2


def test_a_transfer_in_pieces_is_put_together(disk: Disk) -> None:
    """T7.5: short results go on until the whole length is done."""
    watched(disk).shorten = PAGE
    fd = disk.file(bytes(4 * PAGE))
    assert disk.answer(disk.write(fd, 0, pages(4))).result == 4 * PAGE
    seen = disk.answer(disk.read(fd, 100, 3 * PAGE))
    assert seen.data == pages(4)[100 : 100 + 3 * PAGE]
    assert [offset for _, offset, _ in watched(disk).transfers] == [n * PAGE for n in (0, 1, 2, 3, 0, 1, 2, 3)]


def test_an_error_in_the_middle_keeps_what_went_over(disk: Disk) -> None:
    kernel = watched(disk)
    kernel.shorten = PAGE
    kernel.refusals = [0, errno.EIO]
    fd = disk.file(pages(3))
    seen = disk.answer(disk.read(fd, 10, 2 * PAGE))
    assert (seen.result, seen.errno, seen.data) == (PAGE - 10, errno.EIO, pages(1)[10:])


def test_a_write_that_moves_nothing_is_no_room(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Kernel.completed

    def nothing(self: Kernel) -> list[Event]:
        return [(slot, 0) for slot, _ in whole(self)]

    monkeypatch.setattr(Watched, "completed", nothing)
    fd = disk.file()
    assert disk.answer(disk.write(fd, 0, pages(1))).errno == errno.ENOSPC


def test_what_would_have_to_wait_is_done_by_threads_and_the_batch_goes_on(disk: Disk) -> None:
    """New blocks and dirty pages: the kernel says EAGAIN instead of waiting."""
    fd = disk.file(pages(2))
    last = disk.read(fd, 0, 4 * PAGE)
    seen: list[bytes] = []
    head = write(fd, 2 * PAGE, bytes(PAGE), lambda _: seen.append(bytes(last.data or b"")))
    disk.submit(linked(head, disk.write(fd, 0, pages(2)[PAGE:]), disk.write(fd, 3 * PAGE, pages(1)), last))
    disk.settle()
    assert (seen, head.failed) == ([pages(2)[PAGE:] * 2 + bytes(2 * PAGE)], None)
    assert engine(disk)._threads.owns(engine(disk)._files[fd].waiting)
    with (disk.folder / "file").open("r+b") as file:
        file.write(b"dirty")
        file.flush()
        assert disk.answer(disk.read(fd, 1, PAGE)).data == b"irty" + bytes([1]) * (PAGE - 5) + bytes([1])
    disk.closed(fd)


def test_the_largest_read_is_passed_on_whole(disk: Disk) -> None:
    """With the pages around it, it is larger than a request may be."""
    content = pages(LARGEST // PAGE + 1)
    fd = disk.file(content)
    watched(disk).refusals = [errno.EOPNOTSUPP]
    assert disk.answer(disk.read(fd, 1, LARGEST)).data == content[1 : LARGEST + 1]


def test_a_kernel_that_cannot_promise_not_to_wait_is_asked_once_for_each_file(disk: Disk, said: list[LogEvent]) -> None:
    fd = disk.file(pages(2))
    watched(disk).refusals = [errno.EOPNOTSUPP] * 9
    for _ in range(3):
        assert disk.answer(disk.read(fd, PAGE, PAGE)).data == pages(2)[PAGE:]
    assert len(watched(disk).transfers) == 1
    assert len([event for event in said if "O_DIRECT" in str(event.get("log_format"))]) == 1


def test_a_part_that_threads_have_no_room_for_fails_with_what_the_kernel_said(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(request: Request) -> None:
        raise LimitError("full", where="disk engine", remedy="wait")

    fd = disk.file(pages(1))
    watched(disk).refusals = [errno.EOPNOTSUPP]
    monkeypatch.setattr(engine(disk)._threads, "submit", full)
    assert disk.answer(disk.read(fd, 0, PAGE)).errno == errno.EOPNOTSUPP


def test_what_was_passed_on_is_given_back_when_its_file_is_closed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = disk.file()
    begin, begun = threading.Event(), threading.Event()

    def pwritev(fd: int, memory: Sequence[memoryview], offset: int) -> int:
        begun.set()
        assert begin.wait(60)
        return os.pwritev(fd, memory, offset)

    monkeypatch.setattr(threads_module, "pwritev", pwritev)
    disk.submit(*[disk.write(fd, n * PAGE, bytes(PAGE)) for n in range(12)])
    disk.until(lambda: disk.engine.load == 12 and engine(disk)._threads.load == 12 and begun.is_set())
    end = disk.engine.close(fd)
    begin.set()
    disk.until(lambda: bool(end.called))
    assert {one.errno for one in disk.answers} == {None, errno.ECANCELED}
    assert len(disk.answers) == 12


def test_reads_are_widened_to_pages_and_parts_of_pages_are_written_by_threads(disk: Disk) -> None:
    fd = disk.file(pages(3))
    kernel = watched(disk)
    disk.answer(disk.read(fd, PAGE - 1, 2))
    assert kernel.transfers == [(fd, 0, 2 * PAGE)]
    disk.answer(disk.write(fd, 1, b"x"))
    assert len(kernel.transfers) == 1
    assert disk.answer(disk.read(fd, 0, 2)).data == b"\0x"
    assert disk.answer(linked(disk.write(fd, 0, b"yz"), disk.read(fd, 0, 2))).result == 2
    disk.closed(fd)


def test_a_descriptor_of_ones_own_goes_where_its_flags_say(disk: Disk) -> None:
    (disk.folder / "file").write_bytes(pages(2))
    direct = os.open(disk.folder / "file", os.O_RDWR | os.O_DIRECT)
    buffered = os.open(disk.folder / "file", os.O_RDWR)
    for fd in (direct, buffered):
        assert disk.answer(disk.read(fd, 1, PAGE)).data == pages(2)[1 : PAGE + 1]
    assert [fd for fd, _, _ in watched(disk).transfers] == [direct]
    assert disk.answer(disk.write(direct, 1, b"x")).errno == errno.EINVAL
    assert disk.answer(disk.write(buffered, 1, b"x")).errno is None
    disk.closed(direct)
    disk.closed(buffered)


def test_a_file_system_without_direct_transfers_is_served_by_threads_and_named_once(
    disk: Disk, said: list[LogEvent]
) -> None:
    """The files of /proc refuse O_DIRECT."""
    for name in ("version", "version"):
        fd = disk.engine.open(f"/proc/{name}", os.O_RDONLY)
        seen = disk.answer(disk.read(fd, 0, 5))
        assert seen.data == b"Linux"
        disk.closed(fd)
    assert watched(disk).transfers == []
    (warned,) = [event for event in said if "O_DIRECT" in str(event.get("log_format"))]
    assert warned["path"] == "/proc/version"


def test_a_file_that_is_replaced_while_it_is_opened_is_refused(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = disk.folder / "file"
    path.write_bytes(b"old")
    really = os.open

    def opened(name: Path, flags: int, mode: int = 0o600) -> int:
        fd = really(name, flags, mode)
        path.unlink(missing_ok=True)
        path.write_bytes(b"new")
        return fd

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        with pytest.raises(OSError, match="replaced"):
            disk.engine.open(path, os.O_RDWR)


def test_a_file_that_may_not_be_opened_twice_is_refused(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def opened(name: Path, flags: int, mode: int = 0o600) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return really(name, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        with pytest.raises(OSError, match="Too many open files"):
            disk.file(pages(1))


def test_a_file_that_is_made_is_emptied_once_and_may_be_exclusive(disk: Disk) -> None:
    fd = disk.engine.open(disk.folder / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_TRUNC)
    assert disk.answer(disk.write(fd, 0, pages(1))).result == PAGE
    with pytest.raises(FileExistsError):
        disk.engine.open(disk.folder / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL)


def test_the_kernel_is_asked_for_what_is_cancelled_under_way(disk: Disk) -> None:
    fd = disk.file(pages(1))
    request = disk.read(fd, 0, PAGE)
    waiting = disk.read(fd, 0, PAGE)
    disk.submit(request)
    disk.loop.handler._run_later()
    disk.submit(waiting)
    slot = request.slot
    request.cancel()
    waiting.cancel()
    assert watched(disk).cancelled == [slot]
    disk.settle()
    assert disk.answers == []


def test_a_cancelled_read_leaves_the_callers_memory_alone(disk: Disk) -> None:
    fd = disk.file(pages(2))
    memory = bytearray(b"." * PAGE)
    request = read_into(fd, PAGE, memory, disk.note)
    disk.submit(request)
    disk.loop.handler._run_later()
    request.cancel()
    disk.settle()
    assert memory == b"." * PAGE


def test_buffers_stay_within_their_bound_and_what_has_none_waits(make: DiskMaker) -> None:
    disk = make("native")
    fd = disk.file(pages(1024))
    pool = disk.engine._pool
    most = [0]

    def done(request: Request) -> None:
        most[0] = max(most[0], pool.used)
        disk.note(request)

    disk.submit(*[read(fd, 0, 1024 * PAGE, done) for _ in range(40)])
    disk.loop.handler._run_later()
    assert pool.used == 64 * 2**20
    disk.settle()
    assert (len(disk.answers), most[0]) == (40, 64 * 2**20)


def test_memory_that_the_system_does_not_have_is_an_error_of_the_request(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(size: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    fd = disk.file(pages(1))
    with monkeypatch.context() as patch:
        patch.setattr("sslintercept.aio.buffer.mapped", scarce)
        assert disk.answer(disk.read(fd, 0, PAGE)).errno == errno.ENOMEM
    assert disk.answer(disk.read(fd, 0, PAGE)).errno is None


def test_a_batch_stops_when_its_file_is_closed(disk: Disk) -> None:
    fd = disk.file(pages(4))
    parts = [disk.read(fd, n * PAGE, PAGE) for n in range(4)]
    disk.submit(linked(*parts))
    disk.loop.handler._run_later()
    disk.closed(fd)
    assert parts[0].ok
    assert [part.error.errno for part in parts[1:] if part.error] == [errno.ECANCELED] * 3


def test_a_descriptor_that_is_closed_under_way_still_gives_what_was_read(disk: Disk) -> None:
    fd = disk.file(b"a" * 100)
    request = disk.read(fd, 0, PAGE)
    disk.submit(request)
    disk.loop.handler._run_later()
    os.close(fd)
    assert request.state is State.RUNNING
    disk.settle()
    (seen,) = disk.answers
    assert (seen.data, seen.errno) == (b"a" * 100, None)


def test_a_defect_of_ours_loses_no_completion(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failures = Kernel.completed, [ZeroDivisionError("a defect")]

    def once(self: Kernel) -> list[Event]:
        if failures:
            raise failures.pop()
        return whole(self)

    monkeypatch.setattr(Watched, "completed", once)
    fd = disk.file(pages(1))
    assert disk.answer(disk.read(fd, 0, PAGE)).data == pages(1)
    (failure,) = disk.loop.failures
    assert failure.check(ZeroDivisionError)
    disk.loop.failures.clear()


def test_a_machine_whose_calls_are_not_known_has_no_kernel(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="not implemented"):
        NativeEngine(loop.handler)
    assert loop.handler.watched() == []


def test_a_depth_beyond_what_the_system_allows_is_refused(loop: Loop) -> None:
    with pytest.raises(OSError, match=r"temporarily unavailable|Invalid argument"):
        NativeEngine(loop.handler, depth=2**22)
    assert loop.handler.watched() == []


def test_a_request_of_the_kernels_is_64_bytes_and_an_event_32() -> None:
    assert (kernel_module.IOCB.size, kernel_module.EVENT.size) == (64, 32)
    assert write(3, 0, b"x").slot == -1
