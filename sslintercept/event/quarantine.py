"""
Copies of what was taken out of the traffic, kept so that nobody opens one by accident.

A copy is two files: C{ID.kept}, the content under AES-256-CTR, and C{ID.json}, which says what it is and holds the key.
This hides nothing from whoever may read the folder: it keeps the content from being run, opened or shown by a click,
and from a virus scanner that would take it away. To get one back without us, see C{docs/events.md}.

One thread writes; several processes may use the folder. The oldest copies go when they are too old, or too many bytes.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from sslintercept.errors import ConfigError
from sslintercept.event.backlog import Backlog, Elsewhere
from sslintercept.event.record import MOST_READ, Event, to_json

FOLDER: Final = "quarantine"
"""in state_dir"""
CONTENT, ABOUT, PART = ".kept", ".json", ".part"
MOST_WAITING: Final = 64
"""contents that wait to be written"""
MOST_COPIES: Final = 10_000
CHUNK: Final = 256 * 1024
"""bytes read at once"""
MOST_ABOUT: Final = MOST_READ + 4096
"""bytes of a JSON file that is read"""
ABANDONED: Final = 3600.0
"""seconds after which what was begun is taken for what a crash left"""
TIDY_EVERY: Final = 600.0
"""seconds between two looks for what is too old"""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Bounds(NamedTuple):
    """What is kept."""

    size: int
    """bytes of all copies; 0 for none at all"""
    seconds: float


class Loop(Protocol):
    """What brings an answer back from a thread: the reactor."""

    def callFromThread(self, callable: Callable[..., object], *args: object) -> object: ...


@dataclass(slots=True)
class Task:
    """A copy that is to be made."""

    content: Iterable[bytes]
    event: Event
    made: Deferred[str]


class Quarantine:
    """
    Keeps copies; all methods belong to the reactor's thread.

    @ivar bounds: may be changed at any time.
    @ivar kept: copies made; C{failures}: those that could not be.
    """

    log = Logger()

    def __init__(
        self, folder: Path, bounds: Bounds, loop: Loop, elsewhere: Elsewhere, clock: Callable[[], float] = time.time
    ) -> None:
        """@param clock: seconds since the epoch; asked in the thread."""
        self.folder, self.bounds = folder, bounds
        self.kept = self.failures = 0
        self._loop, self._elsewhere, self._clock = loop, elsewhere, clock
        self._backlog: Backlog[Task] = Backlog(MOST_WAITING)

    def start(self) -> None:
        """Begin to write; what was brought before is kept."""
        self._backlog.start(self._run, f"quarantine {self.folder}")

    def keep(self, content: Iterable[bytes], event: Event) -> Deferred[str]:
        """
        Keep a copy of what the event is about.

        @param content: gone through once, in the thread, where it may block.
        @return: fires with the copy's id, which is the event's, or with nothing if there is none (the log says why);
            never fails.
        """
        made: Deferred[str] = Deferred()
        if not self.bounds.size:
            return succeed("")
        if not self._backlog.put(Task(content, event, made), 1):
            self._failed("too many wait to be kept")
            return succeed("")
        return made

    def close(self, seconds: float) -> Deferred[None]:
        """Keep what waits, and end; fires after C{seconds} at the latest."""
        return self._elsewhere(lambda: self._backlog.end(seconds))

    # From here on everything runs in the thread.

    def _run(self) -> None:
        wait = 0.0
        while not self._backlog.late:
            tasks = self._backlog.take(1, wait)
            for task, size in tasks:
                made = self._made(task)
                self._backlog.done(size)
                self._loop.callFromThread(task.made.callback, made)
            if not tasks and self._backlog.ending:
                break
            if not tasks:
                with suppress(OSError):
                    self._tidy()
            wait = TIDY_EVERY
        for task, _ in self._backlog.take(MOST_WAITING, 0):
            self._loop.callFromThread(task.made.callback, "")

    def _made(self, task: Task) -> str:
        try:
            made = self._keep(task)
        except OSError as error:
            self._failed(error.strerror or str(error))
            return ""
        except Exception:
            self.failures += 1
            self.log.failure("quarantine: what was to be kept could not be read")
            return ""
        self.kept += 1
        with suppress(OSError):
            self._tidy()
        return made

    def _failed(self, why: str) -> None:
        self.failures += 1
        self.log.warn("quarantine {folder}: no copy was kept ({why})", folder=self.folder, why=why)

    def _keep(self, task: Task) -> str:
        """@raise OSError: it cannot be kept."""
        event = task.event
        if not _ID.fullmatch(event.id):
            raise OSError("its id is no name for a file")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        content, about = self.folder / f"{event.id}{CONTENT}", self.folder / f"{event.id}{ABOUT}"
        parts = [Path(f"{content}{PART}"), Path(f"{about}{PART}")]
        key, nonce = secrets.token_bytes(32), secrets.token_bytes(16)
        if content.exists():
            raise OSError("there is a copy of that id already")
        try:
            with _new(parts[0]) as file:
                digest, size = self._write(file, task.content, key, nonce)
            said = {
                "id": event.id,
                "name": event.name,
                "sha256": digest,
                "size": size,
                "time": self._clock(),
                "key": key.hex(),
                "nonce": nonce.hex(),
                "event": json.loads(to_json(event)),
            }
            with _new(parts[1]) as file:
                file.write(json.dumps(said).encode() + b"\n")
                _settle(file)
            os.rename(parts[1], about)
            os.rename(parts[0], content)
        finally:
            for path in parts:
                path.unlink(missing_ok=True)
        return event.id

    def _write(self, file: BinaryIO, content: Iterable[bytes], key: bytes, nonce: bytes) -> tuple[str, int]:
        """@return: the digest and the size of the content."""
        hide = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
        digest, size = sha256(), 0
        for piece in content:
            size += len(piece)
            if size > self.bounds.size:
                raise OSError("it is larger than [events] quarantine_size")
            digest.update(piece)
            file.write(hide.update(piece))
        _settle(file)
        return digest.hexdigest(), size

    def _tidy(self) -> None:
        """Let go of the oldest, and of what a crash has left."""
        now, bounds = self._clock(), self.bounds
        copies: list[tuple[float, int, str]] = []
        for name, status in _entries(self.folder):
            if name.endswith(CONTENT):
                copies.append((status.st_mtime, status.st_size, name.removesuffix(CONTENT)))
            elif now - status.st_mtime > ABANDONED and (
                name.endswith(PART)
                or (name.endswith(ABOUT) and not (self.folder / f"{name.removesuffix(ABOUT)}{CONTENT}").exists())
            ):
                (self.folder / name).unlink(missing_ok=True)
        copies.sort()
        total, left = sum(size for _, size, _ in copies), len(copies)
        for at, size, name in copies:
            if total <= bounds.size and left <= MOST_COPIES and now - at <= bounds.seconds:
                break
            for tail in (CONTENT, ABOUT):
                (self.folder / f"{name}{tail}").unlink(missing_ok=True)
            total, left = total - size, left - 1


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files in it with what is known of them; another process may take some away meanwhile."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False)


def _new(path: Path) -> BinaryIO:
    """A file that was not there, for us alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return os.fdopen(fd, "wb")


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


# and back


class About(NamedTuple):
    """What the JSON file says that is needed to get the content back."""

    sha256: str
    size: int
    key: bytes
    nonce: bytes


def restore(folder: Path, name: str, to: Path) -> About:
    """
    Write the content of a copy to a file that is not there yet, with mode 0600; one that is not what it was is removed.

    @raise ConfigError: there is no such copy, it is not what it was, or the file cannot be written.
    """
    where = f"quarantine {folder}"
    if not _ID.fullmatch(name):
        raise ConfigError("that is no id of a copy", where=where, remedy="take it from sslintercept events show")
    try:
        with (folder / f"{name}{CONTENT}").open("rb") as hidden:
            about = read_about(folder / f"{name}{ABOUT}", where)
            _restore(hidden, about, to, where)
    except FileNotFoundError:
        remedy = "it may have been too old, or one too many"
        raise ConfigError(f"there is no copy {name}", where=where, remedy=remedy) from None
    except OSError as error:
        raise ConfigError(f"cannot read copy {name} ({error.strerror})", where=where, remedy="may you?") from None
    return about


def _restore(hidden: BinaryIO, about: About, to: Path, where: str) -> None:
    show = Cipher(algorithms.AES(about.key), modes.CTR(about.nonce)).decryptor()
    digest, size = sha256(), 0
    try:
        file = _new(to)
    except OSError as error:
        raise ConfigError(f"cannot make {to} ({error.strerror})", where="--to", remedy="name another file") from None
    try:
        with file:
            while chunk := hidden.read(CHUNK):
                plain = show.update(chunk)
                digest.update(plain)
                size += len(plain)
                file.write(plain)
        if (digest.hexdigest(), size) != (about.sha256, about.size):
            raise ConfigError(
                "the copy is not what it was", where=where, remedy="it was changed, or cut; do not trust it"
            )
    except OSError as error:
        to.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {to} ({error.strerror})", where="--to", remedy="name another file") from None
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def read_about(path: Path, where: str) -> About:
    """
    What a JSON file says.

    @raise ConfigError: it is not what it should be.
    """
    try:
        with path.open("rb") as file:
            said: Any = json.loads(file.read(MOST_ABOUT))  # Any: JSON, looked at below
        about = About(said["sha256"], said["size"], bytes.fromhex(said["key"]), bytes.fromhex(said["nonce"]))
        if (
            not isinstance(about.sha256, str)
            or type(about.size) is not int
            or len(about.key) != 32
            or len(about.nonce) != 16
        ):
            raise ValueError(path)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ConfigError(f"{path.name} is not what it should be", where=where, remedy="the copy is lost") from None
    return about
