"""
Lists are read in a process of their own, which hands back an image; the one that carries connections does not notice.

A thread would: reading a million lines keeps Python's lock for seconds, and whoever else wants it waits up to 5 ms each
time (docs/sites.md has the figures). The image comes through a file in memory (memfd_create(2)).

    python -m sslintercept.sites.compile < settings > image
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import sslintercept
from sslintercept.sites.image import Image
from sslintercept.sites.listing import ListError, ListSettings
from sslintercept.sites.read import build

PATIENCE: Final = 600.0
"""seconds that reading a list may take"""
MEMORY: Final = 3 * 1024**3
"""bytes of address space of the process"""
NICENESS: Final = 10
"""how much less urgent than connections it is (nice(2))"""
REFUSED: Final = 3
"""its exit code when the list cannot be used; the reason is on standard error"""
MAX_REASON: Final = 4096


class Compilation:
    """Makes an image of one list in another process."""

    def __init__(self, settings: ListSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def run(self) -> Image:
        """
        Read the list. Blocks until it is done, so it is called on another thread.

        @raise ListError: it cannot be used, or L{cancel} was called.
        """
        descriptor = os.memfd_create(f"sites {self._settings.name}"[:64], os.MFD_CLOEXEC)
        try:
            self._make(descriptor)
            return Image(whole(descriptor))
        except (OSError, ValueError) as problem:
            raise self._error(f"it could not be read in a process of its own ({problem})") from problem
        finally:
            os.close(descriptor)

    def cancel(self) -> None:
        """Make an end of it, from any thread."""
        self._cancelled = True
        if self._process is not None:
            self._process.kill()

    def _make(self, descriptor: int) -> None:
        place = str(Path(sslintercept.__file__).parent.parent)
        with subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": place},
            cwd="/",
        ) as process:
            self._process = process
            if self._cancelled:
                process.kill()
            try:
                _, said = process.communicate(packed(self._settings), PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise self._error(f"it was not read within {PATIENCE:.0f} s") from None
        if process.returncode == REFUSED:
            reason = json.loads(said[-MAX_REASON:])
            raise ListError(reason["what"], where=reason["where"], remedy=reason["remedy"])
        if process.returncode:
            last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
            raise self._error("stopped" if self._cancelled else f"the process that read it ended: {last}")

    def _error(self, what: str) -> ListError:
        return ListError(what, where=f"list {self._settings.name}", remedy="the list that was loaded before stays")


def whole(descriptor: int) -> bytes:
    """All of a file in memory; a single C{read} gives it, without Python's lock and without a copy."""
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    if len(data) != size:
        raise ValueError("half an image of a list")
    return data


def compiled(settings: ListSettings) -> Image:
    """
    Make an image here and now; for tests and small lists.

    @raise ListError: the list cannot be used.
    """
    return Image(b"".join(bytes(part) for part in build(settings).finish()))


def packed(settings: ListSettings) -> bytes:
    return json.dumps(
        {
            "name": settings.name,
            "path": os.path.abspath(settings.path),
            "format": settings.format,
            "category": settings.category,
            "categories": settings.categories,
            "suffixes": settings.suffixes,
        }
    ).encode("ascii")


def unpacked(text: bytes) -> ListSettings:
    values = json.loads(text)
    return ListSettings(
        values["name"],
        Path(values["path"]),
        values["format"],
        values["category"],
        tuple(values["categories"]),
        values["suffixes"],
    )


def main() -> int:
    """Read settings from standard input, and write the image to standard output."""
    import resource

    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        for part in build(unpacked(sys.stdin.buffer.read())).finish():
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    except ListError as error:
        json.dump({"what": error.what[:1000], "where": error.where, "remedy": error.remedy}, sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
