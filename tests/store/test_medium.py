"""What a span may lie on, and that nothing of anybody else's is written over."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.store.layout import PAGE
from sslintercept.store.medium import Part
from sslintercept.store.store import MOST_SPANS, Kind, Store
from tests.aio.support import PAGE as SAME

from .conftest import ShelfMaker
from .support import MEBIBYTE, SMALL, Shelf, key

assert SAME == PAGE


def refused(shelf: Shelf, said: list[str]) -> str:
    """Why the only span is out of service."""
    shelf.start()
    assert (shelf.store.stat.spans, shelf.store.stat.of) == (0, 1)
    assert not shelf.store.write(key(1), Kind.HEAD, [b"x"])
    assert shelf.get(key(1)) is None
    (line,) = [line for line in said if line.startswith("cache span")]
    return line


def test_a_new_file_is_the_owners_alone_and_its_space_is_reserved(shelf: Shelf) -> None:
    status = shelf.file.stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_size == SMALL
    assert status.st_blocks * 512 >= SMALL


def test_a_file_that_others_may_read_is_taken_from_them(make: ShelfMaker, said: list[str]) -> None:
    shelf = make()
    shelf.file.touch(0o644)
    shelf.file.chmod(0o644)
    shelf.start()
    assert shelf.file.stat().st_mode & 0o777 == 0o600
    assert any("its mode is 0600 now" in line for line in said)


def test_a_file_of_something_else_is_left_alone(make: ShelfMaker, said: list[str]) -> None:
    shelf = make()
    shelf.file.write_bytes(b"a letter".ljust(SMALL, b"\0"))
    assert "something else is on it; clear it" in refused(shelf, said)
    assert shelf.file.read_bytes() == b"a letter".ljust(SMALL, b"\0")


@pytest.mark.parametrize("at", [1024, 32 * 1024 + 1, 64 * 1024 + 64, SMALL - 512])
def test_marks_of_file_systems_and_volumes_are_seen(make: ShelfMaker, said: list[str], at: int) -> None:
    shelf = make()
    with shelf.file.open("wb") as file:
        file.truncate(SMALL)
        file.seek(at)
        file.write(b"mark")
    assert "something else is on it" in refused(shelf, said)


def test_a_short_file_of_something_else_is_left_alone(make: ShelfMaker, said: list[str]) -> None:
    shelf = make()
    shelf.file.write_bytes(b"short")
    assert "something else" in refused(shelf, said)
    assert shelf.file.read_bytes() == b"short"


def test_a_slice_has_one_holder(make: ShelfMaker, said: list[str]) -> None:
    make().start()
    assert "another process or another span has it" in refused(make(), said)


def test_another_process_sees_the_lock(plain: Shelf) -> None:
    script = (
        "import fcntl, os, struct, sys; fd = os.open(sys.argv[1], os.O_RDWR); "
        "fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack('hhqqixxxx', fcntl.F_WRLCK, 0, int(sys.argv[2]), 4096, 0))"
    )

    def locks(offset: int) -> bool:
        ran = subprocess.run([sys.executable, "-c", script, str(plain.file), str(offset)], capture_output=True)
        return ran.returncode == 0

    assert not locks(0)
    assert not locks(SMALL - PAGE)
    assert locks(SMALL)
    plain.stop()
    assert locks(0)


def test_slices_of_one_file_do_not_disturb_each_other(make: ShelfMaker) -> None:
    shelf = make(spans=2)
    shelf.parts = [Part(shelf.file, 0, SMALL), Part(shelf.file, SMALL, SMALL)]
    shelf.start()
    for number in range(200):
        shelf.put(number, 10_000)
    shelf.restart()
    assert shelf.held(range(200), 10_000) == list(range(200))
    assert all(stripe.census.documents for stripe in shelf.stripes)


def test_a_file_is_made_for_the_slice_of_another_worker(make: ShelfMaker) -> None:
    second, first = make(), make()
    second.parts = [Part(second.file, SMALL, SMALL)]
    second.start()
    first.start()
    assert first.store.stat.spans == second.store.stat.spans == 1


@pytest.mark.parametrize(
    ("offset", "size", "why"),
    [
        (512, SMALL, "a page"),
        (0, SMALL + 512, "a page"),
        (-PAGE, SMALL, "a page"),
        (0, SMALL - PAGE, "size"),
        (0, 2**50, "size"),
    ],
)
def test_slices_that_cannot_be(make: ShelfMaker, said: list[str], offset: int, size: int, why: str) -> None:
    shelf = make()
    shelf.parts = [Part(shelf.file, offset, size)]
    assert why in refused(shelf, said)
    assert not shelf.file.exists()


def test_a_missing_device_is_not_made(make: ShelfMaker, said: list[str]) -> None:
    shelf = make()
    shelf.parts = [Part(Path("/dev/none-of-these"), 0, SMALL)]
    assert "there is no such device" in refused(shelf, said)
    assert not shelf.parts[0].path.exists()


def test_a_folder_is_no_span(make: ShelfMaker, said: list[str]) -> None:
    shelf = make()
    shelf.file.mkdir()
    assert "neither a file nor a block device" in refused(shelf, said)


def test_a_file_in_a_folder_that_is_missing(make: ShelfMaker, said: list[str]) -> None:
    shelf = make()
    shelf.parts = [Part(shelf.folder / "none" / "span", 0, SMALL)]
    assert "make its folder" in refused(shelf, said)


def test_a_limit_of_file_sizes_is_told(make: ShelfMaker, said: list[str]) -> None:
    shelf = make()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL // 2, old[1]))
    try:
        assert "raise the limit of file sizes" in refused(shelf, said)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_is_told(make: ShelfMaker, said: list[str], tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    shelf = make()
    try:
        shelf.parts = [Part(folder / "span", 0, SMALL)]
        assert "free space, or make it smaller" in refused(shelf, said)
        shelf.end()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_damaged_header_has_a_copy(shelf: Shelf, said: list[str]) -> None:
    for number in range(10):
        shelf.put(number)
    shelf.stop()
    shelf.damage(40)
    shelf.start()
    assert shelf.held(range(10)) == list(range(10))
    assert any("the copy at its end is used" in line for line in said)
    shelf.stop()
    shelf.damage(SMALL - PAGE + 40)
    shelf.start()
    assert shelf.held(range(10)) == list(range(10))
    shelf.stop()
    page = shelf.file.read_bytes()
    assert page[:PAGE] == page[-PAGE:]


def test_a_span_without_any_header_of_ours_is_made_anew(shelf: Shelf) -> None:
    shelf.put(1)
    shelf.stop()
    shelf.damage(40)
    shelf.damage(SMALL - PAGE + 40)
    shelf.start()
    assert shelf.get(key(1)) is None
    made = shelf.put(1)
    shelf.restart()
    assert shelf.get(key(1)) == made


def test_another_size_or_average_makes_it_anew(make: ShelfMaker) -> None:
    shelf = make()
    shelf.start()
    shelf.put(1)
    shelf.stop()
    shelf.average = 16384
    shelf.start()
    assert shelf.get(key(1)) is None
    shelf.stop()
    shelf.parts = [Part(shelf.file, 0, SMALL + MEBIBYTE)]
    shelf.start()
    shelf.put(1)
    shelf.restart()
    assert shelf.held([1]) == [1]


def test_there_are_99_spans_at_most(make: ShelfMaker) -> None:
    shelf = make(spans=MOST_SPANS + 1)
    with pytest.raises(ConfigError, match="use 99 at most"):
        Store(shelf.parts, None, shelf.loop.handler, wall_clock=lambda: 0.0)  # type: ignore[arg-type]


def test_documents_of_less_than_a_block_are_not_planned_for(make: ShelfMaker) -> None:
    shelf = make()
    with pytest.raises(ConfigError, match="say 512 at least"):
        Store(shelf.parts, None, shelf.loop.handler, wall_clock=lambda: 0.0, average=511)  # type: ignore[arg-type]


def test_a_span_that_fails_leaves_its_keys_to_the_others(make: ShelfMaker) -> None:
    shelf = make(spans=3)
    shelf.parts[1].path.mkdir()
    shelf.start()
    for number in range(100):
        shelf.put(number)
    assert shelf.store.stat.spans == 2
    assert shelf.held(range(100)) == list(range(100))
