"""The store: a real SQLite, real processes, a disk that is full, files that are damaged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.event import store as module
from sslintercept.event.query import Query, find
from sslintercept.event.record import from_json
from sslintercept.event.store import BATCH, VERSION, EventStore, Keep
from tests.event.events import PATIENCE, event, until
from tests.event.storing import YEAR, here
from tests.event.test_record import HOSTILE

NOW = 1796000000.0
ALL = Keep(100 * YEAR, 1_000_000)
MakeStore = Callable[..., EventStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def make(path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeStore]:
    """Makes stores that try again soon."""
    monkeypatch.setattr(module, "RETRY", 0.02)
    monkeypatch.setattr(module, "BUSY", 0.05)
    made: list[EventStore] = []

    def build(keep: Keep = ALL, start: bool = True) -> EventStore:
        made.append(EventStore(path, keep, here, lambda: NOW))
        if start:
            made[-1].start()
        return made[-1]

    yield build
    for each in made:
        each.close(1.0)


def ids(path: Path, **query: object) -> list[str]:
    return [from_json(line).id for line in find(path, Query(limit=1_000_000, **query))]  # type: ignore[arg-type]  # any field


def test_an_event_is_found_again_whatever_is_in_it(make: MakeStore, path: Path, said: list[str]) -> None:
    store = make()
    told = [event(), event(name=HOSTILE, client=HOSTILE, host=HOSTILE, url=HOSTILE, user=HOSTILE)]
    for each in told:
        store.tell(each)
    store.close(PATIENCE)
    assert [from_json(line) for line in find(path, Query())] == told
    assert [from_json(line) for line in find(path, Query(host=told[1].host, client=told[1].client))] == told[1:]
    assert (store.written, store.dropped, said) == (2, 0, [])


def test_what_was_told_before_the_start_is_kept(make: MakeStore, path: Path) -> None:
    store = make(start=False)
    store.tell(event())
    assert not path.exists()
    store.start()
    store.close(PATIENCE)
    assert ids(path) == ["c1f3a-3"]


def test_all_its_files_are_for_us_alone_even_where_one_was_for_all(make: MakeStore, path: Path) -> None:
    path.touch(0o644)
    path.chmod(0o666)
    store = make()
    store.tell(event())
    until(lambda: store.written)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["events.db", "events.db-shm", "events.db-wal", "events.db.lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_link_in_its_place_is_not_followed(make: MakeStore, path: Path, said: list[str]) -> None:
    target = path.parent / "target"
    target.write_text("x")
    path.symlink_to(target)
    make().tell(event())
    until(lambda: said)
    assert "cannot be written" in said[0]
    assert target.read_text() == "x"


def test_it_is_read_while_it_is_written(make: MakeStore, path: Path) -> None:
    store = make()
    for number in range(50):
        store.tell(event(id=str(number)))
        until(lambda number=number: store.written == number + 1)  # type: ignore[misc]  # a loop variable kept
        assert ids(path) == [str(each) for each in range(number + 1)]


def run(path: Path, name: str, count: int, *limit: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.event.storing", str(path), name, str(count), *limit]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1)


def test_several_processes_write_one_file(path: Path) -> None:
    names = ["one", "two", "three"]
    processes = [run(path, name, 100) for name in names]
    for process in processes:
        said, complained = process.communicate(timeout=60)
        assert (process.returncode, complained) == (0, "")
        assert said.split()[-1] == "100"
    for name in names:
        assert ids(path, kind=(name,)) == [f"{name}-{number}" for number in range(100)]


def test_kill_9_loses_nothing_that_was_written(path: Path) -> None:
    for round_ in range(3):
        process = run(path, f"round{round_}", 1_000_000)
        assert process.stdout is not None
        with process:
            last = 0
            while last < 30 + 17 * round_:
                last = int(process.stdout.readline())
            process.kill()
            said = process.stdout.read().split()
        last = int(said[-1]) if said else last
        found = ids(path, kind=(f"round{round_}",))
        assert found[:last] == [f"round{round_}-{number}" for number in range(last)]
        assert len(found) - last <= 1
    with sqlite3.connect(path) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_disk_that_was_full_gets_everything_later(path: Path) -> None:
    process = run(path, "full", 2000, str(256 * 1024))
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "told\n"
    complaint = process.stderr.readline()
    assert "cannot be written" in complaint
    stored = len(ids(path))
    assert 20 <= stored < 2000
    _, rest = process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert "events are written again" in rest
    assert ids(path) == [f"full-{number}" for number in range(2000)]


def test_what_waits_for_the_disk_has_a_bound(
    make: MakeStore, path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10_000)
    path.mkdir()
    store = make()
    until(lambda: said)
    for number in range(20):
        store.tell(event(id=str(number)))
    assert 10 < store.dropped < 20
    path.rmdir()
    until(lambda: len(said) > 1)
    assert said[1].endswith(f"events are written again; {store.dropped} were lost meanwhile")
    until(lambda: store.written == 20 - store.dropped)
    store.tell(event(id="again"))
    until(lambda: ids(path)[-1] == "again")
    assert len(said) == 2


def test_a_lock_that_somebody_keeps_is_waited_for(make: MakeStore, path: Path, said: list[str]) -> None:
    store = make()
    store.tell(event(id="1"))
    until(lambda: store.written == 1)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        store.tell(event(id="2"))
        until(lambda: said)
        other.execute("rollback")
    until(lambda: store.written == 2)
    store.close(PATIENCE)
    assert ids(path) == ["1", "2"]
    assert "locked" in said[0]
    assert said[1].endswith("events are written again")


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_put_aside(make: MakeStore, path: Path, said: list[str], content: bytes) -> None:
    path.write_bytes(content)
    store = make()
    store.tell(event())
    until(lambda: store.written)
    assert ids(path) == ["c1f3a-3"]
    (aside,) = path.parent.glob("*.damaged-*")
    assert "put aside" in said[0]
    assert str(aside) in said[0]
    assert aside.read_bytes()[:1000] == content[:1000]


def test_a_file_that_is_damaged_while_it_is_open_is_put_aside(make: MakeStore, path: Path, said: list[str]) -> None:
    store = make()
    for number in range(200):
        store.tell(event(id=str(number), reason="r" * 400))
    until(lambda: store.written == 200)
    store.close(PATIENCE)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    again = make()
    again.tell(event(id="new"))
    until(lambda: again.written)
    assert ids(path) == ["new"]
    assert "put aside" in said[0]


def test_a_file_that_went_away_is_begun_anew(make: MakeStore, path: Path) -> None:
    store = make()
    store.tell(event(id="1"))
    until(lambda: store.written)
    path.rename(path.parent / "old")
    store.tell(event(id="2"))
    until(lambda: store.written == 2)
    assert ids(path) == ["2"]


def test_tables_of_a_newer_version_are_left_alone(make: MakeStore, path: Path, said: list[str]) -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"pragma user_version = {VERSION + 1}")
    before = path.read_bytes()
    store = make()
    store.tell(event())
    until(lambda: said)
    store.close(0.2)
    assert f"version {VERSION + 1}" in said[0]
    assert "1 events could not be written" in said[-1]
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match=f"version {VERSION + 1}"):
        list(find(path, Query()))


def test_tables_that_were_made_say_their_version(make: MakeStore, path: Path) -> None:
    make().close(PATIENCE)
    with sqlite3.connect(path) as database:
        assert database.execute("pragma user_version").fetchone() == (VERSION,)
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)


def test_old_events_go_by_age(make: MakeStore, path: Path) -> None:
    store = make(Keep(3600.0, 1_000_000), start=False)
    for age in (7200, 3601, 3600, 10, -10):
        store.tell(event(id=str(age), time=NOW - age))
    store.start()
    store.close(PATIENCE)
    assert ids(path) == ["3600", "10", "-10"]


def test_events_that_are_too_many_go_by_number(make: MakeStore, path: Path) -> None:
    store = make(Keep(YEAR, 250), start=False)
    for number in range(3 * BATCH + 17):
        store.tell(event(id=str(number), time=NOW))
    store.start()
    store.close(PATIENCE)
    until(lambda: len(ids(path)) == 250)
    assert ids(path) == [str(number) for number in range(3 * BATCH + 17 - 250, 3 * BATCH + 17)]


def test_space_is_given_back(make: MakeStore, path: Path) -> None:
    store = make()
    for number in range(2 * BATCH):
        store.tell(event(id=str(number), time=NOW - 10, reason="r" * 500))
    store.close(PATIENCE)
    large = path.stat().st_size
    make(Keep(1.0, 1_000_000)).close(PATIENCE)
    assert ids(path) == []
    assert path.stat().st_size < large / 10


def test_what_sqlite_does_not_take_is_counted_and_hinders_nothing(
    make: MakeStore, path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    real = EventStore._write

    def write(self: EventStore, rows: list[module.Row]) -> None:
        if any(row[0] == "odd" for row in rows):
            raise sqlite3.DataError("string or blob too big")
        real(self, rows)

    monkeypatch.setattr(EventStore, "_write", write)
    store.tell(event(id="odd"))
    until(lambda: store.refused)
    store.tell(event(id="good"))
    until(lambda: store.written)
    assert (ids(path), store.refused) == (["good"], 1)
    assert "could not be stored" in said[0]


def test_the_end_does_not_take_longer_than_it_may(make: MakeStore, path: Path, said: list[str]) -> None:
    path.mkdir()
    store = make()
    store.tell(event())
    until(lambda: said)
    before = time.monotonic()
    store.close(0.2)
    assert time.monotonic() - before < 5.0
    assert "1 events could not be written before the end" in said[-1]
