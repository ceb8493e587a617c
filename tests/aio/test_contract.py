"""What every engine promises, asked of each: transfers, ends, errors, batches, priorities, cancelling, closing."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslintercept.aio.request import LARGEST, MOST_PARTS, Request, State, read, read_into, write
from sslintercept.errors import LimitError, StoppedError
from sslintercept.testing.loop import Loop

from .conftest import DiskMaker
from .support import PAGE, Disk, linked, pages


def test_what_was_written_is_read_again(disk: Disk) -> None:
    fd = disk.file()
    content = pages(16)
    assert disk.answer(disk.write(fd, 0, content)).result == len(content)
    seen = disk.answer(disk.read(fd, 0, len(content)))
    assert seen.data == content
    assert (seen.request.ok, seen.request.error, seen.request.state) == (True, None, State.DONE)
    assert (disk.folder / "file").read_bytes() == content


def test_offsets_and_lengths_need_not_be_aligned(disk: Disk) -> None:
    fd = disk.file(bytes(3 * PAGE))
    disk.answer(disk.write(fd, PAGE - 3, b"across a page"))
    assert disk.answer(disk.read(fd, PAGE - 3, 13)).data == b"across a page"
    assert disk.answer(disk.read(fd, 2 * PAGE + 1, 1)).data == b"\0"


def test_a_read_goes_into_memory_of_the_callers(disk: Disk) -> None:
    fd = disk.file(pages(3))
    memory = bytearray(b"x" * (PAGE + 2))
    request = read_into(fd, PAGE - 1, memory, disk.note)
    seen = disk.answer(request)
    assert (seen.data, seen.result) == (None, PAGE + 2)
    assert memory == pages(3)[PAGE - 1 : 2 * PAGE + 1]
    memory.clear()  # nobody holds it any more


def test_a_read_that_meets_the_end_is_short_and_no_error(disk: Disk) -> None:
    """T7.5: the value of a short read at the end of the file."""
    fd = disk.file(b"a" * 10_000)
    for offset, length, result in [
        (0, 20_000, 10_000),
        (8192, PAGE, 1808),
        (9_999, 5, 1),
        (10_000, 1, 0),
        (50 * PAGE, PAGE, 0),
    ]:
        seen = disk.answer(disk.read(fd, offset, length))
        assert (seen.result, seen.errno, seen.data) == (result, None, b"a" * result)
        assert not seen.request.ok
        assert seen.request.failed is seen.request


def test_a_file_that_ends_with_a_page_ends_there(disk: Disk) -> None:
    fd = disk.file(pages(2))
    seen = disk.answer(disk.read(fd, 0, 4 * PAGE))
    assert (seen.data, seen.errno) == (pages(2), None)


def test_a_short_read_leaves_the_rest_of_the_callers_memory_alone(disk: Disk) -> None:
    fd = disk.file(b"abc")
    memory = bytearray(b"......")
    assert disk.answer(read_into(fd, 1, memory, disk.note)).result == 2
    assert memory == b"bc...."


def test_a_descriptor_that_is_closed_is_an_error(disk: Disk) -> None:
    """T7.5: an error is called back with its number."""
    fd = disk.file(pages(1))
    os.close(fd)
    for request in (disk.read(fd, 0, PAGE), disk.write(fd, 0, pages(1))):
        seen = disk.answer(request)
        assert (seen.result, seen.errno) == (0, errno.EBADF)


def test_a_number_that_is_closed_behind_our_back_is_not_given_to_another_file(disk: Disk) -> None:
    """The requests of two files are not mixed."""
    first = disk.file(pages(1), "first")
    os.close(first)
    second = disk.file(pages(2), "second")
    assert second != first
    assert disk.answer(disk.read(second, PAGE, PAGE)).data == pages(2)[PAGE:]
    disk.closed(first)
    assert disk.answer(disk.write(second, 1, b"x")).result == 1


def test_a_number_that_somebody_else_has_by_now_is_not_closed(disk: Disk) -> None:
    fd = disk.file(pages(1))
    os.close(fd)
    theirs = os.open(disk.folder, os.O_RDONLY)
    assert theirs == fd
    disk.closed(fd)
    os.close(theirs)


def test_a_number_that_was_never_open_is_an_error(disk: Disk) -> None:
    fd = os.open(disk.folder, os.O_RDONLY)
    os.close(fd)
    assert disk.answer(disk.read(fd, 0, PAGE)).errno == errno.EBADF
    disk.closed(fd)


def test_a_write_to_what_may_only_be_read_is_an_error(disk: Disk) -> None:
    fd = disk.file(pages(1), flags=os.O_RDONLY)
    for data in (pages(1), b"part of a page"):
        seen = disk.answer(disk.write(fd, 0, data))
        assert (seen.result, seen.errno) == (0, errno.EBADF)
    assert disk.answer(disk.read(fd, 0, PAGE)).data == pages(1)


def test_a_full_file_system_is_an_error_and_what_it_took_is_counted(make: DiskMaker, kind: str, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a file system of its own")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        disk = make(kind)
        fd = disk.engine.open(small / "file", os.O_RDWR | os.O_CREAT)
        seen = disk.answer(disk.write(fd, 0, pages(32)))
        assert seen.errno == errno.ENOSPC
        assert seen.result <= 16 * PAGE
        assert not seen.request.ok
        assert disk.answer(disk.read(fd, 0, PAGE)).data == (pages(1) if seen.result else b"")
        disk.closed(fd)
    finally:
        subprocess.run(["umount", small], check=True)


def test_requests_that_make_no_sense_are_not_made() -> None:
    for length in (0, LARGEST + 1, -1):
        with pytest.raises(ValueError, match="a request has 1 to"):
            read(3, 0, length)
    for offset in (-1, 2**63 - 1):
        with pytest.raises(ValueError, match="no file has bytes at"):
            read(3, offset, 1)
    with pytest.raises(ValueError, match="the lowest priority"):
        read(3, 0, 1, priority=-1)
    with pytest.raises(ValueError, match="cannot be written to"):
        read_into(3, 0, memoryview(b"constant"))
    assert str(write(3, 7, b"abc")) == "write of 3 bytes at 7 of descriptor 3, new"


def test_a_batch_is_called_back_once_with_the_first(disk: Disk) -> None:
    """T7.6: a batch of 4 linked reads gives one callback."""
    fd = disk.file(pages(4))
    seen: list[bytes] = []

    def done(head: Request) -> None:
        disk.note(head)
        seen.extend(bytes(part.data or b"") for part in head.parts())

    others = [disk.read(fd, n * PAGE, PAGE) for n in (1, 2, 3)]
    head = read(fd, 0, PAGE, done)
    disk.answer(linked(head, *others))
    disk.settle()
    disk.loop.pump()
    assert len(disk.answers) == 1
    assert head.failed is None
    assert b"".join(seen) == pages(4)


def test_a_batch_is_carried_out_in_order(disk: Disk) -> None:
    fd = disk.file(pages(1))
    last = disk.read(fd, 0, PAGE)
    seen: list[bytes] = []
    head = write(fd, 0, b"1" * PAGE, lambda head: seen.append(bytes(last.data or b"")))
    disk.submit(linked(head, disk.write(fd, 0, b"2" * PAGE), disk.write(fd, 1, b"33"), last))
    disk.settle()
    assert seen == [b"233" + b"2" * (PAGE - 3)]


def test_the_rest_of_a_batch_is_not_begun_after_a_failure(disk: Disk) -> None:
    """T7.6: failure of the second stops the rest."""
    fd = disk.file(pages(4))
    parts = [
        disk.read(fd, 0, PAGE),
        disk.read(fd, 99 * PAGE, PAGE),
        disk.write(fd, 0, b"x" * PAGE),
        disk.read(fd, 0, 1),
    ]
    disk.answer(linked(*parts))
    assert parts[0].ok
    assert parts[0].failed is parts[1]
    assert (parts[1].result, parts[1].error) == (0, None)
    assert [part.error.errno for part in parts[2:] if part.error] == [errno.ECANCELED] * 2
    assert (disk.folder / "file").read_bytes() == pages(4)


def test_what_is_no_batch_is_refused_whole(disk: Disk) -> None:
    fd, other = disk.file(pages(1)), disk.file(pages(1), "other")
    with pytest.raises(ValueError, match="one descriptor"):
        disk.submit(linked(disk.read(fd, 0, 1), disk.read(other, 0, 1)))
    with pytest.raises(ValueError, match="at most"):
        disk.submit(linked(*[disk.read(fd, 0, 1) for _ in range(MOST_PARTS + 1)]))
    with pytest.raises(ValueError, match="at most"):
        disk.submit(linked(disk.read(fd, 0, LARGEST), disk.read(fd, 0, 1)))
    request = disk.read(fd, 0, 1)
    disk.answer(request)
    with pytest.raises(ValueError, match="used once"):
        disk.submit(request)
    assert disk.engine.load == 0


def test_the_largest_batch_is_carried_out(disk: Disk) -> None:
    fd = disk.file(pages(LARGEST // PAGE + 1))
    parts = [disk.read(fd, 1 + n * (LARGEST // MOST_PARTS), LARGEST // MOST_PARTS) for n in range(MOST_PARTS)]
    disk.answer(linked(*parts))
    assert parts[0].failed is None


def test_what_waits_begins_by_priority_and_equals_as_they_came(make: DiskMaker, kind: str) -> None:
    """T7.3: priorities 0, 5, 3, 5, 0 begin as 5, 5, 3, 0, 0."""
    disk = make(kind, at_once=1)
    fd = disk.file(pages(5))
    with disk.held():
        for n, priority in enumerate((0, 5, 3, 5, 0)):
            disk.submit(disk.read(fd, n * PAGE, PAGE, priority))
    disk.settle()
    assert [(one.request.priority, one.request.offset // PAGE) for one in disk.answers] == [
        (5, 1),
        (5, 3),
        (3, 2),
        (0, 0),
        (0, 4),
    ]


def test_callbacks_come_on_the_thread_of_the_loop_and_never_inside_of_submit(disk: Disk) -> None:
    """T7.7: the callback is on the requested thread."""
    fd = disk.file(pages(8))
    where: list[threading.Thread] = []
    for n in range(8):
        disk.submit(read(fd, n * PAGE, PAGE, lambda _: where.append(threading.current_thread())))
        assert where == []
    disk.settle()
    assert where == [threading.current_thread()] * 8


def test_a_callback_may_ask_for_more(disk: Disk) -> None:
    fd = disk.file(pages(50))

    def next_page(request: Request) -> None:
        disk.note(request)
        if request.offset < 49 * PAGE:
            disk.submit(read(fd, request.offset + PAGE, PAGE, next_page))

    disk.submit(read(fd, 0, PAGE, next_page))
    disk.settle()
    assert b"".join(one.data or b"" for one in disk.answers) == pages(50)


def test_a_callback_that_fails_harms_nobody_else(disk: Disk) -> None:
    fd = disk.file(pages(2))

    def broken(request: Request) -> None:
        raise ZeroDivisionError("a defect")

    disk.submit(read(fd, 0, PAGE, broken))
    disk.settle()
    (failure,) = disk.loop.failures
    assert failure.check(ZeroDivisionError)
    disk.loop.failures.clear()
    assert disk.answer(disk.read(fd, PAGE, PAGE)).data == pages(2)[PAGE:]


def test_what_was_read_is_shown_during_the_callback_alone(disk: Disk) -> None:
    fd = disk.file(pages(1))
    kept: list[memoryview] = []
    request = read(fd, 0, PAGE, lambda request: kept.append(request.data or memoryview(b"")))
    disk.submit(request)
    disk.settle()
    assert request.data is None
    with pytest.raises(ValueError, match="released"):
        bytes(kept[0])


def test_what_is_cancelled_while_it_waits_is_never_begun(make: DiskMaker, kind: str) -> None:
    """T7.5: no callback for what was cancelled."""
    disk = make(kind, at_once=1)
    fd = disk.file(pages(1))
    memory = bytearray(PAGE)
    with disk.held():
        requests = [disk.write(fd, 0, b"x" * PAGE), read_into(fd, 0, memory, disk.note)]
        disk.submit(*requests, disk.read(fd, 0, PAGE))
        for request in requests:
            request.cancel()
            request.cancel()
    disk.settle()
    assert [one.data for one in disk.answers] == [pages(1)]
    assert memory == bytes(PAGE)


def test_what_is_cancelled_under_way_is_not_called_back(disk: Disk) -> None:
    fd = disk.file(pages(64))
    request = disk.read(fd, 0, 64 * PAGE)
    batch = linked(*[disk.read(fd, n * PAGE, PAGE) for n in range(4)])
    disk.submit(request, batch)
    disk.loop.handler._run_later()  # the end of the requester's stack: now native requests are the kernel's
    request.cancel()
    batch.cancel()
    disk.settle()
    assert disk.answers == []


def test_cancelling_what_is_over_or_new_does_nothing_or_keeps_it_out(disk: Disk) -> None:
    fd = disk.file(pages(1))
    request = disk.read(fd, 0, PAGE)
    disk.answer(request)
    request.cancel()
    assert not request.cancelled
    new = disk.read(fd, 0, PAGE)
    new.cancel()
    with pytest.raises(ValueError, match="used once"):
        disk.submit(new)


def test_a_callback_may_cancel_the_next(make: DiskMaker, kind: str) -> None:
    disk = make(kind, at_once=1)
    fd = disk.file(pages(2))
    second = disk.read(fd, PAGE, PAGE)
    with disk.held():
        disk.submit(read(fd, 0, PAGE, lambda _: second.cancel()), second)
    disk.settle()
    assert disk.answers == []


def test_a_full_queue_refuses_and_takes_again_later(make: DiskMaker, kind: str) -> None:
    disk = make(kind, most=4)
    fd = disk.file(pages(8))
    with disk.held():
        disk.submit(*[disk.read(fd, n * PAGE, PAGE) for n in range(3)])
        late = linked(disk.read(fd, 0, 1), disk.read(fd, 1, 1))
        with pytest.raises(LimitError, match="room for 1 more"):
            disk.submit(late)
        disk.submit(disk.read(fd, 3 * PAGE, PAGE))
        with pytest.raises(LimitError, match="room for 0 more"):
            disk.submit(disk.read(fd, 0, 1))
    disk.settle()
    assert len(disk.answers) == 4
    assert disk.answer(late).data == b"\0"


def test_files_beyond_the_limit_are_refused_and_a_closed_one_makes_room(make: DiskMaker, kind: str) -> None:
    """T7.1: a descriptor beyond the limit is refused cleanly."""
    disk = make(kind, most_files=3, at_once=1)
    files = [disk.file(pages(1), f"file{n}") for n in range(3)]
    with pytest.raises(LimitError, match="3 files are open"):
        disk.file(pages(1), "file3")
    own = os.open(disk.folder / "file0", os.O_RDONLY | (os.O_DIRECT if kind_of(disk) == "native" else 0))
    with pytest.raises(LimitError, match="3 files are open"):
        disk.submit(disk.read(own, 0, PAGE))
    disk.closed(files[0])
    assert disk.answer(disk.read(own, 0, PAGE)).data == pages(1)
    with pytest.raises(ValueError, match="no file of this engine"):
        disk.engine.close(files[0])
    disk.closed(own)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(own)


def kind_of(disk: Disk) -> str:
    return disk.engine.name


def test_a_file_that_cannot_be_opened_leaves_nothing(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.engine.open(disk.folder / "nothing", os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        disk.engine.open(disk.folder, os.O_RDWR)


def test_a_file_that_writes_at_its_end_wherever_it_is_told_is_refused(disk: Disk) -> None:
    fd = disk.file(pages(1))
    with pytest.raises(ValueError, match="O_APPEND"):
        disk.engine.open(disk.folder / "file", os.O_RDWR | os.O_APPEND)
    for direct in (0, os.O_DIRECT):
        own = os.open(disk.folder / "file", os.O_RDWR | os.O_APPEND | direct)
        with pytest.raises(ValueError, match="O_APPEND"):
            disk.submit(disk.write(own, 0, pages(1)))
        os.close(own)
    assert disk.answer(disk.write(fd, 0, b"x")).result == 1


def test_new_files_are_the_owners_alone(disk: Disk) -> None:
    os.umask(0)
    fd = disk.engine.open(disk.folder / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(fd)


def test_closing_a_file_gives_back_what_waits_and_lets_the_rest_end(make: DiskMaker, kind: str) -> None:
    disk = make(kind, at_once=1)
    fd, other = disk.file(pages(64)), disk.file(pages(1), "other")
    with disk.held():
        disk.submit(*[disk.read(fd, n * PAGE, PAGE) for n in range(64)])
    end = disk.engine.close(fd)
    again = disk.engine.close(fd)
    assert disk.answers == []
    with pytest.raises(StoppedError, match="is being closed"):
        disk.submit(disk.read(fd, 0, PAGE))
    disk.until(lambda: bool(end.called and again.called))
    assert len(disk.answers) == 64
    ends = {one.errno for one in disk.answers}
    if kind == "native":
        assert ends == {errno.ECANCELED}
    else:
        assert ends <= {None, errno.ECANCELED}  # threads may have begun as soon as they were let go
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert disk.answer(disk.read(other, 0, PAGE)).data == pages(1)


def test_stopping_calls_back_everything_once_and_takes_nothing_more(disk: Disk) -> None:
    fds = [disk.file(pages(64), f"file{n}") for n in range(3)]
    for n in range(64):
        for fd in fds:
            disk.submit(disk.read(fd, n * PAGE, PAGE))
            disk.submit(disk.write(fd, n * PAGE, b"x"))
    end = disk.engine.stop()
    assert disk.answers == []
    with pytest.raises(StoppedError):
        disk.submit(disk.read(fds[0], 0, PAGE))
    with pytest.raises(StoppedError):
        disk.file(name="new")
    disk.until(lambda: bool(end.called))
    assert len({id(one.request) for one in disk.answers}) == len(disk.answers) == 64 * 6
    assert {one.errno for one in disk.answers} <= {None, errno.ECANCELED}
    assert disk.engine.stop().called


def test_a_callback_may_stop_the_engine(disk: Disk) -> None:
    fd = disk.file(pages(1))
    disk.submit(read(fd, 0, PAGE, lambda _: disk.engine.stop()))
    disk.submit(*[disk.read(fd, 0, PAGE) for _ in range(100)])
    disk.settle()
    assert len(disk.answers) == 100


def test_ten_thousand_requests_leave_nothing_behind(disk: Disk) -> None:
    """Memory of buffers stays within its bound, and no object is left of what is over."""
    fd = disk.file(pages(256))
    before, requests = open_descriptors(), len(living())
    count = [0]

    def done(request: Request) -> None:
        assert request.ok
        count[0] += 1

    for n in range(10_000):
        disk.submit(read(fd, n % 240 * PAGE, 4 * PAGE, done))
    disk.settle()
    assert count[0] == 10_000
    pool = disk.engine._pool
    assert (pool.used, pool.kept <= 64 * 2**20) == (0, True)
    assert open_descriptors() == before
    assert len(living()) <= requests


def living() -> list[Request]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, Request)]


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


SIZE = 6 * PAGE
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, SIZE), st.integers(1, 3 * PAGE)),
        st.tuples(st.just("into"), st.integers(0, SIZE), st.integers(1, 3 * PAGE)),
        st.tuples(st.just("write"), st.integers(0, SIZE), st.integers(1, 2 * PAGE)),
        st.tuples(st.just("page"), st.integers(0, 5).map(lambda n: n * PAGE), st.just(PAGE)),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "as a batch"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_any_reads_and_writes_see_the_file_that_a_model_sees(
    disk: Disk, together: bool, steps: list[tuple[str, int, int]]
) -> None:
    model = bytearray(b"m" * (SIZE // 2))
    fd = disk.file(bytes(model))
    expected: list[bytes | None] = []
    seen: list[bytes | None] = []
    requests: list[Request] = []
    memories: list[bytearray] = []

    def done(head: Request) -> None:
        for part, memory in zip(head.parts(), memories if together else memories[-1:], strict=True):
            assert part.error is None
            if part.writes:
                seen.append(None)
            else:
                seen.append(bytes(part.data) if part.data is not None else bytes(memory[: part.result]))

    for number, (what, offset, length) in enumerate(steps):
        memories.append(bytearray(length))
        if what == "read":
            request = read(fd, offset, length, done)
        elif what == "into":
            request = read_into(fd, offset, memories[-1], done)
        else:
            data = bytes([number + 1]) * length
            request = write(fd, offset, data, done)
            model.extend(bytes(max(0, offset + length - len(model))))
            model[offset : offset + length] = data
        expected.append(None if request.writes else bytes(model[offset : offset + length]))
        requests.append(request)
        if together and not request.writes and len(expected[-1] or b"") < length:
            break  # a short read ends a batch
        if not together:
            disk.submit(request)
            disk.settle()
    if together:
        disk.submit(linked(*requests))
        disk.settle()
    assert seen == expected
    disk.closed(fd)
    if not together:
        assert (disk.folder / "file").read_bytes() == model


def test_an_engine_without_files_stops(loop: Loop, disk: Disk) -> None:
    end = disk.engine.stop()
    disk.until(lambda: bool(end.called))
    assert loop.handler.watched() == []
