"""The writer: batches, rotation, a full disk, a broken pipe. Real files, real thread; close() is the meeting point."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from zope.interface.verify import verifyObject

from sslintercept.errors import ConfigError
from sslintercept.interfaces import ILineSink
from sslintercept.log import writer as module
from sslintercept.log.writer import LineWriter, json_notice, report_to_log


class Told:
    """An operator who can be waited for."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.heard = threading.Semaphore(0)

    def __call__(self, sentence: str) -> None:
        self.sentences.append(sentence)
        self.heard.release()

    def wait(self) -> None:
        assert self.heard.acquire(timeout=5), self.sentences


class Disk:
    """Stands for os.write; counts its calls, and blocks or fails when told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.written = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.may_go.set()
        self.at_most = 1 << 30
        self.real = os.write

    def write(self, fd: int, data: bytes) -> int:
        self.entered.release()
        assert self.may_go.wait(5)
        size = self.real(fd, data[: self.at_most])
        self.sizes.append(size)
        self.written.release()
        return size


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(os, "write", made.write)
    return made


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LineWriter]]:
    made: list[LineWriter] = []

    def build(path: Path | str = tmp_path / "access.log", told: Told | None = None) -> LineWriter:
        made.append(LineWriter(str(path), report=told or Told()))
        return made[-1]

    yield build
    for writer in made:
        writer.close(0.0)


def test_a_writer_provides_the_interface_of_line_sinks() -> None:
    assert verifyObject(ILineSink, LineWriter("-"))


def test_lines_reach_the_file_in_order(tmp_path: Path, make: Callable[..., LineWriter]) -> None:
    writer = make()
    writer.write("before the start")
    writer.start()
    for number in range(1000):
        writer.write(f"line {number}")
    writer.close()
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert lines == ["before the start", *(f"line {number}" for number in range(1000))]
    assert (writer.dropped, writer.failures, writer.undelivered) == (0, 0, 0)


def test_the_file_is_appended_to_and_not_for_everybody_to_read(tmp_path: Path, make: Callable[..., LineWriter]) -> None:
    for line in ("first", "second"):
        writer = make()
        writer.start()
        writer.write(line)
        writer.close()
    path = tmp_path / "access.log"
    assert path.read_text() == "first\nsecond\n"
    assert path.stat().st_mode & 0o137 == 0


def test_lines_are_written_without_a_close(disk: Disk, make: Callable[..., LineWriter]) -> None:
    writer = make()
    writer.start()
    writer.write("one")
    assert disk.written.acquire(timeout=5)
    writer.write("two")
    assert disk.written.acquire(timeout=5)
    assert disk.sizes == [4, 4]


def test_64_kib_are_written_without_waiting_for_more(
    disk: Disk, make: Callable[..., LineWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SECONDS", 60.0)
    writer = make()
    writer.start()
    for _ in range(66):
        writer.write("x" * 1023)
    assert disk.written.acquire(timeout=5)
    assert disk.sizes[0] >= 64 * 1024


def test_a_thousand_lines_wake_the_thread_less_than_ten_times(make: Callable[..., LineWriter]) -> None:
    writer = make()
    wakes: list[int] = []

    class Counting(threading.Event):
        def set(self) -> None:
            wakes.append(1)
            super().set()

    writer._wake = Counting()
    writer.start()
    for _ in range(1000):
        writer.write("x" * 50)
    assert 0 < len(wakes) < 10


def test_a_write_that_takes_only_a_part_is_continued(
    tmp_path: Path, disk: Disk, make: Callable[..., LineWriter]
) -> None:
    disk.at_most = 3
    writer = make()
    writer.start()
    writer.write("0123456789")
    writer.close()
    assert (tmp_path / "access.log").read_text() == "0123456789\n"
    assert disk.sizes == [3, 3, 3, 2]


def test_a_log_that_is_slower_than_the_proxy_drops_lines_and_says_how_many(
    tmp_path: Path, disk: Disk, make: Callable[..., LineWriter]
) -> None:
    disk.may_go.clear()
    writer = make()
    writer.start()
    writer.write("first")
    assert disk.entered.acquire(timeout=5)
    for _ in range(4100):
        writer.write("x" * 1023)
    assert writer.dropped == 4  # 4096 KiB were taken, though the first line is still in the disk's hand
    disk.may_go.set()
    writer.close()
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert len(lines) == 1 + 4096 + 1
    assert lines[-1] == '{"type":"dropped","lines":4}'


def test_lines_after_the_close_are_counted_and_nothing_is_raised(make: Callable[..., LineWriter]) -> None:
    writer = make()
    writer.start()
    writer.close()
    writer.write("late")
    writer.close()
    assert writer.dropped == 1


def test_a_writer_that_was_never_started_counts_what_it_held(make: Callable[..., LineWriter]) -> None:
    writer = make()
    writer.write("one")
    writer.close()
    assert writer.undelivered == 1


def test_rotation_goes_on_in_a_new_file(tmp_path: Path, disk: Disk, make: Callable[..., LineWriter]) -> None:
    path = tmp_path / "access.log"
    writer = make()
    writer.start()
    writer.write("old")
    assert disk.written.acquire(timeout=5)
    path.rename(tmp_path / "access.log.1")
    writer.reopen()
    writer.close()
    assert (tmp_path / "access.log.1").read_text() == "old\n"
    assert path.read_text() == ""


def test_a_rotation_that_cannot_open_keeps_the_old_file(
    tmp_path: Path, disk: Disk, make: Callable[..., LineWriter]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    told = Told()
    writer = make(folder / "access.log", told)
    writer.start()
    folder.rename(tmp_path / "away")
    writer.reopen()
    told.wait()
    writer.write("still here")
    told.wait()
    writer.close()
    assert (tmp_path / "away" / "access.log").read_text() == "still here\n"
    assert told.sentences == [
        f"log {folder}/access.log: cannot open it (No such file or directory); trying again, newest lines may be lost",
        f"log {folder}/access.log: written again",
    ]
    assert writer.failures == 1


def test_a_file_that_cannot_be_opened_stops_the_start_with_a_remedy(
    tmp_path: Path, make: Callable[..., LineWriter]
) -> None:
    with pytest.raises(
        ConfigError, match=r"^\[log\] access: cannot append to .*No such file.*; make the file writable"
    ):
        make(tmp_path / "nowhere" / "access.log").start()


def test_a_pipe_without_a_reader_is_refused_at_once(tmp_path: Path, make: Callable[..., LineWriter]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="No such device or address"):
        make(tmp_path / "pipe").start()


def test_a_full_disk_is_told_once_and_the_lines_are_counted(make: Callable[..., LineWriter]) -> None:
    told = Told()
    writer = make("/dev/full", told)
    writer.start()
    writer.write("one")
    writer.write("two")
    told.wait()
    writer.close(0.2)
    assert told.sentences == [
        "log /dev/full: cannot write to it (No space left on device); trying again, newest lines may be lost"
    ]
    assert writer.failures > 1
    assert writer.undelivered == 2


def test_a_pipe_that_breaks_is_tried_again_until_somebody_reads(
    tmp_path: Path, make: Callable[..., LineWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    told = Told()
    writer = make(tmp_path / "pipe", told)
    writer.start()
    os.close(reader)
    writer.write("one")
    told.wait()
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    told.wait()
    writer.close()
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    assert "Broken pipe" in told.sentences[0]
    assert told.sentences[-1].endswith("written again")


def test_standard_output_is_written_to_and_left_open(capfd: pytest.CaptureFixture[str]) -> None:
    writer = LineWriter("-")
    writer.start()
    writer.write("to the screen")
    writer.reopen()
    writer.close()
    os.write(1, b"and more\n")
    assert capfd.readouterr().out == "to the screen\nand more\n"


def test_a_standard_output_that_fails_is_not_reopened(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., LineWriter]
) -> None:
    monkeypatch.setattr(module, "STDOUT", os.open("/dev/full", os.O_WRONLY))
    told = Told()
    writer = make("-", told)
    writer.start()
    writer.write("lost")
    writer.close(0.1)
    assert writer.undelivered == 1
    os.close(module.STDOUT)


def test_a_line_with_half_a_character_is_written_all_the_same(tmp_path: Path, make: Callable[..., LineWriter]) -> None:
    writer = make()
    writer.start()
    writer.write("a\udc80ä")
    writer.close()
    assert (tmp_path / "access.log").read_text("utf-8") == "a\\udc80ä\n"


def test_the_notice_is_json() -> None:
    assert json_notice(3) == '{"type":"dropped","lines":3}'


def test_a_report_with_braces_is_logged_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from twisted.logger import LogEvent, formatEvent

    events: list[LogEvent] = []
    monkeypatch.setattr(module.log, "observer", events.append)
    report_to_log("log {odd}: broken")
    assert [formatEvent(event) for event in events] == ["log {odd}: broken"]
