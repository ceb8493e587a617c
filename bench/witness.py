"""What shows where an answer came from: the origin's count, the bytes a device gave, and who empties the page cache."""

from __future__ import annotations

import contextlib
import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from peer import ORIGIN, sh, tree

EVERY = 0.2
"""Seconds between two evictions: less than the fastest peer takes to ask for the whole working set once."""


def served() -> int:
    """How many requests for numbered objects have reached the origin, by HTTP and HTTPS."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ORIGIN}/count", timeout=10) as answer:
        return int(answer.read())


def fetched(pid: int) -> int:
    """Bytes that the tree of *pid* had read from devices; what the page cache gave is not among them."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):  # it ended meanwhile
            lines = Path(f"/proc/{each}/io").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))
    return total


def memory(pid: int) -> int:
    """
    Bytes of memory of the tree, pages shared by several processes counted once (proportional set size): peers share
    their RAM cache between processes, so the sum of what is resident would count it more than once.
    """
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024


def evict(files: list[Path]) -> None:
    """Take *files* out of the page cache, but for what is not written yet."""
    for path in files:
        with contextlib.suppress(OSError):  # the peer may delete it under us
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


@contextlib.contextmanager
def evicting(folder: Path) -> Iterator[None]:
    """Keep the files below *folder* out of the page cache meanwhile, so that whoever reads one reads the device."""
    over = threading.Event()
    sh("sync", "--file-system", folder)
    files = [path for path in folder.rglob("*") if path.is_file()]

    def repeat() -> None:
        while not over.wait(EVERY):
            evict(files)

    evict(files)
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
