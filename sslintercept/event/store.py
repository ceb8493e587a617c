"""
Events in an SQLite file: written by one thread, several processes may write the same file, and C{sslintercept events}
reads it meanwhile.

What waits is written in one transaction, and is on the disk when that has ended (WAL, synchronous = FULL). A disk that
is full, or a lock that somebody keeps, is said once and tried again; a file that is damaged is put aside, and a new one
begun. Old events go by age and by number, in small transactions.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sslintercept.event.backlog import Backlog, Elsewhere
from sslintercept.event.record import Event, to_json

NAME: Final = "events.db"
"""in state_dir"""
VERSION: Final = 1
"""of the tables (PRAGMA user_version)"""
MODE: Final = 0o600
MOST_WAITING: Final = 32 * 1024 * 1024
"""bytes of events that wait for the disk"""
OVERHEAD: Final = 1024
"""and what each takes in memory beside its line, about"""
BATCH: Final = 1000
"""events of one transaction, and as many go in one"""
BUSY: Final = 2.0
"""seconds that another writer is waited for, before it is tried again"""
RETRY: Final = 1.0
CLOSING_RETRY: Final = 0.05
"""seconds between two attempts; the second while somebody waits for the end"""
TIDY_EVERY: Final = 600.0
"""seconds between two looks for old events"""
TIDY_AFTER: Final = 5 * BATCH
"""events written after which it is looked for those that are too many"""
VACUUM: Final = 4096
"""pages given back to the file system at a time"""
JOURNAL: Final = 16 * 1024 * 1024
"""bytes that the write-ahead log keeps of the disk"""
DAMAGED: Final = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))

SCHEMA: Final = """
create table event (
    number integer primary key autoincrement,
    id text not null,
    time real not null,
    kind text not null,
    act text not null,
    inspector text not null,
    client text not null,
    host text not null,
    json text not null
);
create index event_time on event (time);
create index event_id on event (id);
create index event_kind on event (kind, time);
create index event_client on event (client, time);
create index event_host on event (host, time);
"""
COLUMNS: Final = "id, time, kind, act, inspector, client, host, json"

Row = tuple[str, float, str, str, str, str, str, str]
Batch = list[tuple[Row, int]]
"""rows with their sizes"""


class Keep(NamedTuple):
    """What is kept."""

    seconds: float
    most: int


class NewerError(Exception):
    """The file was made by a newer version of ours; it is left alone."""


class EventStore:
    """
    The sink that writes; all methods belong to the reactor's thread.

    @ivar keep: for how long, and how many; may be changed at any time.
    @ivar written: events on the disk; C{refused}: those that SQLite did not take.
    """

    log = Logger()

    def __init__(self, path: Path, keep: Keep, elsewhere: Elsewhere, clock: Callable[[], float] = time.time) -> None:
        """@param clock: seconds since the epoch; asked in the thread."""
        self.path, self.keep = path, keep
        self.written = self.refused = 0
        self._elsewhere, self._clock = elsewhere, clock
        self._backlog: Backlog[Row] = Backlog(MOST_WAITING)
        self._database: sqlite3.Connection | None = None
        self._inode = -1
        self._failing = False
        self._noticed = 0
        self._tidied = -TIDY_EVERY
        self._since = 0

    @property
    def dropped(self) -> int:
        """Events for which there was no room."""
        return self._backlog.dropped

    def start(self) -> None:
        """Begin to write; what was told before is kept."""
        self._backlog.start(self._run, f"events {self.path}")

    def tell(self, event: Event) -> None:
        """Write it soon."""
        line = to_json(event)
        row = (event.id, event.time, event.kind, event.act, event.inspector, event.client, event.host, line)
        self._backlog.put(row, len(line) + OVERHEAD)

    def reopen(self) -> None:
        """Nothing to do: a file that is not in its place any more is noticed with the next event."""

    def close(self, seconds: float) -> Deferred[None]:
        """Write what waits, and end; fires after C{seconds} at the latest."""
        return self._elsewhere(lambda: self._close(seconds))

    def _close(self, seconds: float) -> None:
        if not self._backlog.end(seconds):
            self._say("the disk takes so long that the latest events are lost")

    # From here on everything runs in the thread.

    def _run(self) -> None:
        backlog = self._backlog
        batch: Batch = []
        wait = 0.0
        while True:
            batch = batch or backlog.take(BATCH, wait)
            done = self._attempt(batch)
            if backlog.late or (done and backlog.ending and not len(backlog)):
                break
            wait = TIDY_EVERY
            if not done:
                backlog.pause(RETRY)
                if backlog.ending:
                    time.sleep(CLOSING_RETRY)
        self._shut()
        if batch or len(backlog):
            self._say(f"{len(batch) + len(backlog)} events could not be written before the end")

    def _attempt(self, batch: Batch) -> bool:
        """Write them, and let old ones go; C{False} if that has to be tried again with what is left of the batch."""
        try:
            if not self._in_place():
                self._shut()
                self._open()
            if batch:
                self._write([row for row, _ in batch])
                self.written += len(batch)
                self._since += len(batch)
                self._dealt_with(batch)
            self._tidy()
        except sqlite3.OperationalError as error:
            self._failed(str(error))
            return False
        except OSError as error:
            self._failed(error.strerror or str(error))
            return False
        except NewerError as error:
            self._failed(str(error))
            return False
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in DAMAGED:
                self._put_aside(str(error))
                return False
            # Something in them that SQLite does not take; the next ones may be better.
            self.refused += len(batch)
            self._say(f"{len(batch)} events could not be stored ({error})")
            self._dealt_with(batch)
            return True
        self._recovered()
        return True

    def _dealt_with(self, batch: Batch) -> None:
        self._backlog.done(sum(size for _, size in batch))
        batch.clear()

    def _write(self, rows: list[Row]) -> None:
        with self._transaction() as database:
            database.executemany(f"insert into event ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _tidy(self) -> None:
        """Let go of what is too old or too much, a batch a transaction, for as long as nobody waits for us."""
        now = time.monotonic()
        if now - self._tidied < TIDY_EVERY and self._since < TIDY_AFTER:
            return
        keep = self.keep
        old = "select number from event where time < ?"
        many = "select number from event where number <= (select max(number) from event) - ?"
        for which, bound in ((old, self._clock() - keep.seconds), (many, keep.most)):
            gone = BATCH
            while gone == BATCH:
                if len(self._backlog):
                    return
                with self._transaction() as database:
                    gone = database.execute(
                        f"delete from event where number in ({which} limit {BATCH})", (bound,)
                    ).rowcount
        assert self._database is not None
        # As a script, which is run to its end: execute() would free one page.
        self._database.executescript(f"pragma incremental_vacuum({VACUUM});")
        self._tidied, self._since = now, 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._database
        assert database is not None
        database.execute("begin immediate")
        try:
            yield database
            database.execute("commit")
        except BaseException:
            with suppress(sqlite3.Error):
                database.execute("rollback")
            raise

    # the file

    def _in_place(self) -> bool:
        """Whether the file that is open is the one that the path names."""
        if self._database is None:
            return False
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        with self._alone():
            # Before SQLite opens it, and at no other time: closing any descriptor of a file ends its POSIX locks.
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
            try:
                os.fchmod(fd, MODE)
                inode = os.fstat(fd).st_ino
            finally:
                os.close(fd)
            database = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None)
            self._database, self._inode = database, inode
            try:
                prepare(database)
            except BaseException:
                self._shut()
                raise

    def _shut(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    def _put_aside(self, why: str) -> None:
        """Rename a file that is damaged, unless another process has done so already."""
        ours = self._inode
        self._shut()
        aside = f"{self.path}.damaged-{int(self._clock())}-{os.getpid()}"
        try:
            with self._alone():
                if os.stat(self.path).st_ino != ours:
                    return
                os.rename(self.path, aside)
                for tail in ("-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.rename(f"{self.path}{tail}", f"{aside}{tail}")
        except OSError as error:
            self._failed(f"{why}; it could not be put aside: {error.strerror}")
            return
        self._say(f"it is damaged ({why}) and was put aside as {aside}; a new one begins")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Among the processes that write this file."""
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        try:
            flock(lock, LOCK_EX)
            yield
        finally:
            os.close(lock)

    # what the operator hears

    def _failed(self, why: str) -> None:
        self._shut()
        if not self._failing:
            self._failing = True
            self._say(f"cannot be written ({why}); it is tried again, newest events may be lost")

    def _recovered(self) -> None:
        dropped = self._backlog.dropped
        if self._failing or dropped > self._noticed:
            lost = f"; {dropped - self._noticed} were lost meanwhile" if dropped > self._noticed else ""
            self._say(f"events are written again{lost}")
            self._failing, self._noticed = False, dropped

    def _say(self, sentence: str) -> None:
        self.log.warn("events {path}: {sentence}", path=self.path, sentence=sentence)


def prepare(database: sqlite3.Connection) -> None:
    """
    Make the tables, unless they are there.

    @raise NewerError: they are of a version that we do not know.
    """
    (version,) = database.execute("pragma user_version").fetchone()
    if version > VERSION:
        raise NewerError(f"its tables are of version {version}, this program knows {VERSION}")
    if version == 0:
        database.execute("pragma auto_vacuum = incremental")
    for pragma in ("journal_mode = wal", "synchronous = full", f"journal_size_limit = {JOURNAL}"):
        database.execute(f"pragma {pragma}").fetchall()
    if version == 0:
        database.executescript(f"begin immediate; {SCHEMA} pragma user_version = {VERSION}; commit;")
