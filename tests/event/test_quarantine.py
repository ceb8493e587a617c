"""Copies in quarantine: hidden, bounded, for us alone, and back again as they were."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from sslintercept.errors import ConfigError
from sslintercept.event import quarantine as module
from sslintercept.event.quarantine import ABANDONED, ABOUT, CONTENT, Bounds, Quarantine, restore
from sslintercept.event.record import Event, from_record
from tests.event.events import Operator, event, until
from tests.event.storing import YEAR, here

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
DAY = 86400.0


class Here:
    """A reactor that calls at once, on whatever thread."""

    def callFromThread(self, callable: Callable[..., object], *args: object) -> None:
        callable(*args)


class Time:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1796000000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "quarantine"


MakeQuarantine = Callable[..., Quarantine]


@pytest.fixture
def make(folder: Path) -> Iterator[MakeQuarantine]:
    """Makes quarantines."""
    made: list[Quarantine] = []

    def build(size: int = 1 << 20, start: bool = True, clock: Callable[[], float] | None = None) -> Quarantine:
        made.append(Quarantine(folder, Bounds(size, DAY), Here(), here, *([clock] if clock else [])))
        if start:
            made[-1].start()
        return made[-1]

    yield build
    for each in made:
        each.close(5.0)


def kept(quarantine: Quarantine, content: object, made: Event | None = None) -> str:
    done = quarantine.keep(content, made or event())  # type: ignore[arg-type]  # some tests bring what is no content
    until(lambda: done.called)
    result: list[str] = []
    done.addCallback(result.append)
    return result[0]


def test_a_copy_comes_back_as_it_was(make: MakeQuarantine, folder: Path, tmp_path: Path) -> None:
    assert kept(make(), [EICAR[:10], b"", EICAR[10:]]) == "c1f3a-3"
    about = restore(folder, "c1f3a-3", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == EICAR
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert (about.size, about.sha256) == (len(EICAR), hashlib.sha256(EICAR).hexdigest())


def test_what_it_was_stands_beside_it(make: MakeQuarantine, folder: Path) -> None:
    time = Time()
    kept(make(clock=time), [EICAR])
    said = json.loads((folder / f"c1f3a-3{ABOUT}").read_text())
    assert (said["id"], said["name"], said["size"], said["time"]) == (
        "c1f3a-3",
        "Eicar-Test-Signature",
        len(EICAR),
        time.now,
    )
    assert said["sha256"] == hashlib.sha256(EICAR).hexdigest()
    assert from_record(said["event"]) == event()


def test_the_content_is_hidden_and_everything_is_for_us_alone(make: MakeQuarantine, folder: Path) -> None:
    folder.mkdir(0o755)
    kept(make(), [EICAR * 100])
    assert folder.stat().st_mode & 0o777 == 0o700
    files = list(folder.iterdir())
    assert sorted(file.name for file in files) == [f"c1f3a-3{ABOUT}", f"c1f3a-3{CONTENT}"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert not any(b"EICAR-STANDARD" in file.read_bytes() for file in files)


def test_the_same_content_never_looks_the_same(make: MakeQuarantine, folder: Path) -> None:
    quarantine = make()
    for name in ("a", "b"):
        kept(quarantine, [EICAR], event(id=name))
    assert (folder / f"a{CONTENT}").read_bytes() != (folder / f"b{CONTENT}").read_bytes()


def test_openssl_gets_it_back_as_the_documentation_says(make: MakeQuarantine, folder: Path, tmp_path: Path) -> None:
    kept(make(), [EICAR * 1000])
    said = json.loads((folder / f"c1f3a-3{ABOUT}").read_text())
    command = ["openssl", "enc", "-d", "-aes-256-ctr", "-K", said["key"], "-iv", said["nonce"]]
    done = subprocess.run([*command, "-in", folder / f"c1f3a-3{CONTENT}"], capture_output=True, check=True)
    assert done.stdout == EICAR * 1000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_any_content_comes_back(tmp_path: Path, pieces: list[bytes]) -> None:
    folder, out = tmp_path / "quarantine", tmp_path / "out"
    quarantine = Quarantine(folder, Bounds(1 << 20, DAY), Here(), here)
    quarantine.start()
    assert kept(quarantine, pieces) == "c1f3a-3"
    quarantine.close(5.0)
    restore(folder, "c1f3a-3", out)
    assert out.read_bytes() == b"".join(pieces)
    for path in (out, *folder.iterdir()):
        path.unlink()


def test_nothing_is_kept_where_nothing_may_be(make: MakeQuarantine, folder: Path) -> None:
    assert kept(make(0), [EICAR]) == ""
    assert not folder.exists()


def test_what_is_larger_than_all_that_may_be_kept_leaves_nothing(
    make: MakeQuarantine, folder: Path, said: list[str]
) -> None:
    quarantine = make(100)
    assert kept(quarantine, iter([b"x" * 60, b"x" * 60])) == ""
    assert list(folder.iterdir()) == []
    assert "larger than [events] quarantine_size" in said[0]
    assert (quarantine.kept, quarantine.failures) == (0, 1)
    assert kept(quarantine, [b"x" * 100]) == "c1f3a-3"


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a b", "x" * 64])
def test_an_id_that_is_no_name_for_a_file_is_refused(
    make: MakeQuarantine, folder: Path, tmp_path: Path, said: list[str], name: str
) -> None:
    assert kept(make(), [EICAR], event(id=name)) == ""
    assert not folder.exists()
    with pytest.raises(ConfigError, match="no id"):
        restore(folder, name, tmp_path / "out")


def test_an_id_is_kept_once(make: MakeQuarantine, folder: Path, tmp_path: Path, said: list[str]) -> None:
    quarantine = make()
    assert kept(quarantine, [EICAR]) == "c1f3a-3"
    assert kept(quarantine, [b"other"]) == ""
    restore(folder, "c1f3a-3", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == EICAR


def test_content_that_cannot_be_read_leaves_nothing(make: MakeQuarantine, folder: Path, operator: Operator) -> None:
    def broken() -> Iterator[bytes]:
        yield EICAR
        raise ValueError("broken")

    def unreadable() -> Iterator[bytes]:
        yield EICAR
        raise OSError(5, "Input/output error")

    quarantine = make()
    assert kept(quarantine, broken()) == ""
    assert kept(quarantine, unreadable()) == ""
    assert list(folder.iterdir()) == []
    assert "Input/output error" in operator.said[0]
    assert operator.failures.pop() == "quarantine: what was to be kept could not be read: broken"
    assert kept(quarantine, [EICAR]) == "c1f3a-3"


def test_the_oldest_copies_go_first(make: MakeQuarantine, folder: Path) -> None:
    quarantine = make(250)
    quarantine.bounds = Bounds(250, YEAR * 100)
    for number in range(5):
        kept(quarantine, [b"x" * 100], event(id=str(number)))
        os.utime(folder / f"{number}{CONTENT}", (number, number))
    kept(quarantine, [b"x" * 100], event(id="last"))
    quarantine.close(5.0)
    assert sorted(file.name for file in folder.iterdir()) == [
        f"4{ABOUT}",
        f"4{CONTENT}",
        f"last{ABOUT}",
        f"last{CONTENT}",
    ]


def test_copies_go_when_they_are_too_old(make: MakeQuarantine, folder: Path) -> None:
    first = make()
    for name in ("old", "new"):
        kept(first, [EICAR], event(id=name))
    first.close(5.0)
    time = Time()
    os.utime(folder / f"old{CONTENT}", (time.now - DAY - 1,) * 2)
    os.utime(folder / f"new{CONTENT}", (time.now - DAY + 1,) * 2)
    make(clock=time).close(5.0)
    assert sorted(file.name for file in folder.iterdir()) == [f"new{ABOUT}", f"new{CONTENT}"]


def test_what_a_crash_has_left_goes_after_a_while(make: MakeQuarantine, folder: Path) -> None:
    folder.mkdir()
    time = Time()
    for name, age in ((f"a{CONTENT}.part", 1), (f"a{ABOUT}", 1), (f"b{CONTENT}.part", 0), (f"b{ABOUT}", 0)):
        (folder / name).write_text("x")
        os.utime(folder / name, (time.now - age * (ABANDONED + 1),) * 2)
    make(clock=time).close(5.0)
    assert sorted(file.name for file in folder.iterdir()) == [f"b{ABOUT}", f"b{CONTENT}.part"]


def test_too_many_that_wait_are_not_kept(
    make: MakeQuarantine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    release = threading.Event()

    def slow() -> Iterator[bytes]:
        assert release.wait(20)
        yield b"x"

    quarantine = make()
    waiting: list[Deferred[str]] = [quarantine.keep(slow(), event(id=str(number))) for number in range(2)]
    assert kept(quarantine, [b"x"]) == ""
    assert "too many wait" in said[0]
    release.set()
    until(lambda: all(each.called for each in waiting))
    assert kept(quarantine, [b"x"]) == "c1f3a-3"


def test_the_end_tells_those_that_were_not_kept_in_time(make: MakeQuarantine, said: list[str]) -> None:
    release = threading.Event()

    def slow() -> Iterator[bytes]:
        assert release.wait(20)
        yield b"x"

    quarantine = make()
    slow_one, late_one = quarantine.keep(slow(), event(id="1")), quarantine.keep([b"x"], event(id="2"))
    quarantine.close(0.05)
    release.set()
    until(lambda: slow_one.called and late_one.called)
    told: list[str] = []
    slow_one.addCallback(told.append)
    late_one.addCallback(told.append)
    assert told == ["1", ""]


def test_a_disk_that_is_full_leaves_nothing(folder: Path) -> None:
    script = f"""
import resource, sys, pathlib
from tests.event.test_quarantine import *
quarantine = Quarantine(pathlib.Path({str(folder)!r}), Bounds(1 << 30, DAY), Here(), here)
quarantine.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
print(repr(kept(quarantine, [b"x" * 70_000] * 2)), quarantine.failures, list(quarantine.folder.iterdir()))
print(repr(kept(quarantine, [b"x" * 70_000])))
quarantine.close(5.0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("'' 1 []\n'c1f3a-3'\n", 0), done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


# getting it back


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("tail", "change", "what"),
    [
        (CONTENT, lambda data: data[:-1], "not what it was"),
        (CONTENT, lambda data: data + b"x", "not what it was"),
        (CONTENT, lambda data: bytes([data[0] ^ 1]) + data[1:], "not what it was"),
        (ABOUT, lambda data: data.replace(b'"size": 68', b'"size": 69'), "not what it was"),
        (ABOUT, lambda data: data.replace(b'"size": 68', b'"size": "68"'), "not what it should be"),
        (ABOUT, lambda data: data.replace(b'"key": "', b'"key": "00'), "not what it should be"),
        (ABOUT, lambda data: data.replace(b'"nonce"', b'"none"'), "not what it should be"),
        (ABOUT, lambda data: data[:-5], "not what it should be"),
        (ABOUT, lambda data: b"[" * 100_000, "not what it should be"),
        (ABOUT, lambda data: b"[]", "not what it should be"),
        (ABOUT, lambda data: b"\xff", "not what it should be"),
    ],
)
def test_a_copy_that_is_not_what_it_was_is_not_given(
    make: MakeQuarantine,
    folder: Path,
    tmp_path: Path,
    tail: str,
    change: Callable[[bytes], bytes],
    what: str,
) -> None:
    kept(make(), [EICAR])
    spoil(folder / f"c1f3a-3{tail}", change)
    with pytest.raises(ConfigError, match=what):
        restore(folder, "c1f3a-3", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_there_is_not_overwritten(make: MakeQuarantine, folder: Path, tmp_path: Path) -> None:
    kept(make(), [EICAR])
    (tmp_path / "out").write_text("precious")
    with pytest.raises(ConfigError, match="File exists"):
        restore(folder, "c1f3a-3", tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="File exists"):
        restore(folder, "c1f3a-3", tmp_path / "link")
    assert (tmp_path / "out").read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("missing", ["both", CONTENT, ABOUT])
def test_a_copy_that_is_not_there_is_said(make: MakeQuarantine, folder: Path, tmp_path: Path, missing: str) -> None:
    kept(make(), [EICAR])
    for tail in (CONTENT, ABOUT):
        if missing in ("both", tail):
            (folder / f"c1f3a-3{tail}").unlink()
    with pytest.raises(ConfigError, match="there is no copy c1f3a-3"):
        restore(folder, "c1f3a-3", tmp_path / "out")
