"""
C{tee}: keeps a copy of each body in a file.

Good for looking at what an application really sends, and for feeding a scanner that reads files::

    [transform:keep]
    use = tee
    match = host:api.example
    folder = /var/lib/sslintercept/bodies
    max_body = 10MiB
    max_bytes = 1GiB

A file is named by the connection's number in the log, a counter and the direction: C{5f3a-1b-000007-response}; the note
C{response_tee} in the access log names it. Nothing in a name comes from the net. The folder is made with mode 0700, the
files with 0600. A file is C{NAME.part} until its body is whole, and keeps that name if it never is, or is larger than
C{max_body}, or is a range of the content (206). Content codings are undone.

Limits. What is there at the start counts; when C{max_files} or C{max_bytes} are reached nothing more is kept, until
somebody clears the folder and the proxy is started or told to read its settings again. Each worker counts for itself.
Files are written by the proxy itself, in pieces of at most 64 KiB, to the operating system's memory: a disk that cannot
follow for long holds up everybody, so use a fast one and do not keep everything. A body never waits for its copy, and
never fails with it: if the disk is full the copy is given up, with a note. What is kept is as secret as what was
encrypted before; empty bodies are not kept.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from twisted.logger import Logger

from sslintercept.config import units
from sslintercept.config.key import described, setting
from sslintercept.errors import ConfigError
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Transformer

BUFFER: Final = 64 * 1024
"""bytes of a file that are written at once"""
TRIES: Final = 16
"""names that are tried, if another worker has used the one before"""
_NAMED = re.compile(r"[0-9A-Za-z-]{1,64}-([0-9]{6,18})-(?:request|response)(?:\.part)?")
_UNSAFE = re.compile(r"[^0-9A-Za-z-]+")

log = Logger()


@dataclass(frozen=True, slots=True)
class TeeOptions:
    """Of C{tee}."""

    folder: Path = field(
        metadata=described(
            units.path(), None, "where files are kept; it is made if it is not there", example="bodies", required=True
        )
    )
    max_body: int = setting(units.size("1B", "100GiB"), "10MiB", "bytes that are kept of one body")
    max_files: int = setting(units.integer(1, 1_000_000), "10000", "files in the folder")
    max_bytes: int = setting(units.size("1B", "100000GiB"), "1GiB", "bytes of all files in the folder")


class Folder:
    """
    The folder of copies, and how much room there is in it.

    @ivar files: how many there are; C{size}: their bytes.
    """

    def __init__(self, options: TeeOptions) -> None:
        self.options = options
        self.files = self.size = 0
        self._ready = False
        self._count = 0
        self._complained = False

    def prepare(self) -> None:
        """
        Make it, or count what is in it; once.

        @raise ConfigError: others may look into it, or it is none.
        @raise OSError: it cannot be made or read.
        """
        if self._ready:
            return
        path = self.options.folder
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ConfigError(
                "it is no folder, or somebody else's, or open to others", where=f"tee: {path}", remedy="chmod 700 it"
            )
        with os.scandir(path) as entries:
            for entry in entries:
                self.files += 1
                self.size += entry.stat(follow_symlinks=False).st_size
                if (named := _NAMED.fullmatch(entry.name)) is not None:
                    self._count = max(self._count, int(named[1]))
                if self.files >= self.options.max_files:
                    break
        self._ready = True

    def open(self, connection: str, direction: str) -> tuple[BinaryIO, Path] | None:
        """
        A new file and the name it will have once it is whole; C{None} if there is no room.

        @raise OSError: it cannot be made.
        """
        if self.files >= self.options.max_files or self.size >= self.options.max_bytes:
            return None
        safe = _UNSAFE.sub("", connection)[:64].strip("-") or "0"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(TRIES):
            self._count += 1
            path = self.options.folder / f"{safe}-{self._count:06d}-{direction}"
            if path.exists():
                continue
            try:
                descriptor = os.open(part_of(path), flags, 0o600)
            except FileExistsError:
                continue
            self.files += 1
            return os.fdopen(descriptor, "wb", BUFFER), path
        raise FileExistsError(f"{TRIES} names are taken")

    def complain(self, error: Exception) -> None:
        """Say what is wrong, once until something is kept again."""
        if not self._complained:
            self._complained = True
            log.error("cannot keep bodies in {folder}: {error}", folder=str(self.options.folder), error=error)

    def kept(self) -> None:
        """A file is complete."""
        self._complained = False


def part_of(path: Path) -> Path:
    """The name of a file that is not whole."""
    return path.with_name(path.name + ".part")


class Copy:
    """A reader that writes what it sees into a file, as long as there is room."""

    def __init__(self, message: Message, folder: Folder) -> None:
        self._message = message
        self._folder = folder
        self._file: BinaryIO | None = None
        self._path = Path()
        self._size = 0
        self._over = False
        """nothing more is written"""

    def write(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._write(data)
        except OSError as error:
            self._give_up(error)

    def _write(self, data: bytes) -> None:
        folder = self._folder
        if self._file is None:
            made = folder.open(self._message.facts.id, self._message.direction.value)
            if made is None:
                self._over = True
                self._note("not kept, the folder is full")
                return
            self._file, self._path = made
        room = min(folder.options.max_body - self._size, folder.options.max_bytes - folder.size)
        kept = data[: max(0, room)]
        self._size += len(kept)
        folder.size += len(kept)
        self._file.write(kept)
        if len(kept) < len(data):
            self._stop("only the beginning")

    def finish(self, whole: bool) -> None:
        if self._over or self._file is None:
            return
        try:
            if not whole or self._message.partial:
                self._stop("broke off" if not whole else "a range")
                return
            self._over = True
            self._file.close()
            part_of(self._path).rename(self._path)
        except OSError as error:
            self._give_up(error)
        else:
            self._folder.kept()
            self._note(self._path.name)

    def _stop(self, why: str) -> None:
        """Close what is not whole."""
        self._over = True
        if self._file is not None:
            self._file.close()
        self._note(f"{part_of(self._path).name} ({why})")

    def _give_up(self, error: OSError) -> None:
        """Close and remove a file that cannot be written; what it held counts no more."""
        self._over = True
        self._folder.complain(error)
        self._note("not kept, see the proxy's log")
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.raw.close()  # type: ignore[attr-defined]  # what is in the buffer could not be written anyway
            part_of(self._path).unlink()
        except OSError as again:
            self._folder.complain(again)
            return
        self._folder.files -= 1
        self._folder.size -= self._size

    def _note(self, text: str) -> None:
        self._message.note(f"{self._message.direction.value}_tee", text)


class Tee(Transformer):
    """Keeps copies of bodies."""

    partial = True

    def __init__(self, options: TeeOptions) -> None:
        self.folder = Folder(options)

    def transform(self, message: Message) -> Copy | None:
        try:
            self.folder.prepare()
        except (OSError, ConfigError) as error:
            self.folder.complain(error)
            message.note(f"{message.direction.value}_tee", "not kept, see the proxy's log")
            return None
        return Copy(message, self.folder)
