"""A slow disk keeps nobody waiting but those who asked it: the loop turns while the kernel waits."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from sslintercept.aio import kernel as kernel_module
from sslintercept.aio.buffer import mapped
from sslintercept.aio.kernel import Kernel
from sslintercept.testing.slowdisk import HeldDisk, LimitedDisk

from .conftest import DiskMaker
from .support import PAGE, Disk, pages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mounted"
    made.mkdir()
    return made


@pytest.fixture
def held(folder: Path) -> Iterator[HeldDisk]:
    """A disk that waits until it is let."""
    made = fuse(folder)
    yield made
    made.close()


def fuse(folder: Path, refuses: int = 0) -> HeldDisk:
    try:
        return HeldDisk(folder, pages(8), refuses)
    except OSError as error:
        pytest.skip(f"no FUSE file system can be mounted here: {error.strerror}")


@pytest.fixture
def limited(folder: Path, tmp_path: Path) -> Iterator[LimitedDisk]:
    """A disk of a limited rate."""
    try:
        made = LimitedDisk(folder, tmp_path / "image")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the rate of a block device cannot be limited here: {error}")
    yield made
    made.close()


def turns(disk: Disk) -> None:
    """The loop turns, while nothing is called back."""
    beats: list[int] = []
    for beat in range(100):
        disk.loop.handler.soon(lambda beat=beat: beats.append(beat))  # type: ignore[misc]  # its default says the type
        disk.loop.turn()
    assert beats == list(range(100))
    assert disk.answers == []


def begun(disk: Disk, held: HeldDisk) -> None:
    """Transfers have arrived at the disk, and wait there."""
    disk.until(lambda: bool(held.begun))
    turns(disk)


def test_the_loop_turns_while_reads_and_writes_wait_for_the_disk(held: HeldDisk, make: DiskMaker, kind: str) -> None:
    """Had the loop's thread waited, they would have EIO at last instead of the data."""
    disk = make(kind)
    fd = disk.engine.open(held.path, os.O_RDWR)
    held.held = True
    disk.submit(disk.read(fd, 0, PAGE), disk.write(fd, 4 * PAGE, b"x" * PAGE), disk.write(fd, 6 * PAGE, b"part"))
    begun(disk, held)
    held.let()
    disk.settle()
    assert [one.errno for one in disk.answers] == [None] * 3
    assert disk.answer(disk.read(fd, 4 * PAGE, 1)).data == b"x"
    assert disk.answer(disk.read(fd, 6 * PAGE, 5)).data == b"part\x06"


def test_a_descriptor_without_direct_transfers_keeps_nobody_waiting(held: HeldDisk, make: DiskMaker, kind: str) -> None:
    """The rule of the native engine: threads have it, since io_submit would wait."""
    disk = make(kind)
    fd = os.open(held.path, os.O_RDWR)
    held.held = True
    disk.submit(disk.read(fd, 0, PAGE))
    begun(disk, held)
    held.let()
    disk.settle()
    assert [one.data for one in disk.answers] == [pages(1)]


def test_a_slow_disk_keeps_no_other_waiting(held: HeldDisk, make: DiskMaker, kind: str) -> None:
    disk = make(kind)
    slow, fast = disk.engine.open(held.path, os.O_RDWR), disk.file(pages(4))
    held.held = True
    disk.submit(*[disk.read(slow, 0, PAGE) for _ in range(20)])
    assert disk.answer(disk.read(fast, PAGE, PAGE)).data == pages(2)[PAGE:]
    held.let()
    disk.settle()
    assert len(disk.answers) == 21


@pytest.mark.usefixtures("native")
def test_handing_over_what_is_not_direct_would_wait_for_the_disk(
    held: HeldDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why that rule stands, and why everything is asked for with NOWAIT."""
    monkeypatch.setattr(kernel_module, "NOWAIT", 0)
    event, fd, (buffer,) = os.eventfd(0), os.open(held.path, os.O_RDONLY), mapped(PAGE)
    kernel = Kernel(1, event)
    held.held = True
    kernel.prepare(0, fd, False, buffer.address, PAGE, 0)
    thread = threading.Thread(target=kernel.submit, args=([0],))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    held.let()
    thread.join()
    assert kernel.completed() == [(0, PAGE)]
    kernel.destroy()
    os.close(fd)
    os.close(event)


@pytest.mark.usefixtures("native")
def test_a_file_system_that_refuses_what_it_opened_is_served_by_threads_and_named_once(
    make: DiskMaker, folder: Path, said: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "NOWAIT", 0)  # FUSE has none
    disk, refusing = make("native"), fuse(folder, errno.EINVAL)
    try:
        for _ in range(2):
            fd = disk.engine.open(refusing.path, os.O_RDWR)
            for _ in range(2):
                assert disk.answer(disk.read(fd, PAGE, 10)).data == bytes([1]) * 10
            assert disk.answer(disk.write(fd, 0, bytes(PAGE))).result == PAGE
            disk.closed(fd)
    finally:
        refusing.close()
    (warned,) = [event for event in said if "O_DIRECT" in str(event.get("log_format"))]
    assert warned["path"] == str(refusing.path)


@pytest.mark.usefixtures("native")
def test_what_a_device_cannot_take_at_once_does_not_keep_the_loop(limited: LimitedDisk, make: DiskMaker) -> None:
    """New blocks and dirty pages: io_submit would wait for all of it, several seconds."""
    disk = make("native")
    path = limited.folder / "file"
    path.write_bytes(pages(64))
    fd = disk.engine.open(path, os.O_RDWR)
    limited.limit(4)
    disk.submit(*[disk.write(fd, (64 + n) * PAGE, pages(1)) for n in range(6)])
    disk.submit(*[disk.read(fd, n * PAGE, PAGE) for n in range(6)])
    for _ in range(3):
        disk.loop.turn()
    assert len(disk.answers) < 6
    limited.limit(0)
    disk.settle()
    assert [one.errno for one in disk.answers] == [None] * 12
    assert path.read_bytes() == pages(64) + pages(1) * 6
    disk.closed(fd)
