"""
What a slow disk keeps the reactor waiting: the longest delay of a heartbeat while each engine reads and writes.

    .venv/bin/python bench/slowdisk.py [FOLDER]

Makes an ext4 file system in a file in FOLDER, on a loop device whose transfers the kernel limits to 20 in a second
(blkio.throttle; needs root and cgroup v1). A heartbeat of the reactor is due every 2 ms. The first row does nothing: so
late the machine is by itself; the last does what the engines avoid.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import epollreactor
from twisted.internet.defer import DeferredList

epollreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)

from sslintercept.aio import kernel  # noqa: E402
from sslintercept.aio.native import NativeEngine  # noqa: E402
from sslintercept.aio.request import DiskEngine, Request, read, write  # noqa: E402
from sslintercept.aio.threads import ThreadEngine  # noqa: E402
from sslintercept.net.handler import NetHandler  # noqa: E402
from sslintercept.testing.slowdisk import LimitedDisk  # noqa: E402

reactor: Any = _reactor  # Any: the module is an object with every reactor interface
RATE = 20
BEAT = 0.002
BLOCK = 65536
CONTENT = 8 * 2**20
Run = tuple[str, Callable[[Callable[[Request], None]], int]]
"""what it does, and how it begins, with the number of callbacks to come"""


def measure(begin: Callable[[Callable[[Request], None]], int], done: Callable[[float, float, int], None]) -> None:
    """Tell the seconds until all is called back, the latest heartbeat in seconds, and the errors."""
    start = due = reactor.seconds()
    late, failed, left, took = 0.0, 0, 1, 0.0

    def beat() -> None:
        nonlocal late, due
        late = max(late, reactor.seconds() - due)
        due = reactor.seconds() + BEAT
        if left:
            reactor.callLater(BEAT, beat)
        else:
            reactor.callLater(0, done, took, late, failed)

    def over(request: Request) -> None:
        nonlocal left, failed, took
        left -= 1
        failed += not request.ok
        took = reactor.seconds() - start

    beat()
    left = begin(over)


def reads(engine: DiskEngine, fd: int) -> Callable[[Callable[[Request], None]], int]:
    """32 reads that the disk has to be asked for."""

    def begin(over: Callable[[Request], None]) -> int:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for n in range(32):
            engine.submit(read(fd, n * BLOCK, BLOCK, over))
        return 32

    return begin


def writes(engine: DiskEngine, fd: int, begin_at: int) -> Callable[[Callable[[Request], None]], int]:
    """16 writes: of what is there, or behind the end."""

    def begin(over: Callable[[Request], None]) -> int:
        for n in range(16):
            engine.submit(write(fd, begin_at + n * BLOCK, bytes(BLOCK), over))
        return 16

    return begin


def nothing(over: Callable[[Request], None]) -> int:
    """A second without any disk: how late the machine makes a heartbeat by itself."""
    request = read(0, 0, 1)
    request.result = 1
    reactor.callLater(1, over, request)
    return 1


def main(folder: Path) -> None:
    """Measure all, and print a table."""
    handler = NetHandler(reactor)
    handler.start()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        (Path(made) / "mounted").mkdir()
        disk = LimitedDisk(Path(made) / "mounted", Path(made) / "image", 64 * 2**20)
        try:
            runs, engines = plan(handler, disk.folder)
            os.sync()
            disk.limit(RATE)

            def go() -> None:
                if runs:
                    name, begin = runs.pop(0)
                    measure(begin, lambda *row: step(name, *row))
                else:
                    disk.limit(0)
                    DeferredList([one.stop() for one in engines]).addCallback(lambda _: reactor.stop())

            def step(name: str, took: float, late: float, failed: int) -> None:
                print(f"{name:44}{took:8.2f}{late * 1e3:9.1f}{failed:8}", flush=True)
                reactor.callLater(0.1, go)

            print(f"{'':44}{'s':>8}{'late ms':>9}{'failed':>8}")
            reactor.callWhenRunning(go)
            reactor.run()
            handler.stop()
        finally:
            disk.close()


def plan(handler: NetHandler, folder: Path) -> tuple[list[Run], list[DiskEngine]]:
    """The files, and what is done with them."""
    for name in ("native", "threads", "waits"):
        (folder / name).write_bytes(os.urandom(CONTENT))
    native, threads = NativeEngine(handler), ThreadEngine(handler)
    with mock.patch.object(kernel, "NOWAIT", 0):
        waits = NativeEngine(handler)
    fd = native.open(folder / "native", os.O_RDWR)
    cached = threads.open(folder / "threads", os.O_RDWR)
    plain = os.open(folder / "native", os.O_RDWR)
    waited = waits.open(folder / "waits", os.O_RDWR)

    def without(begin: Callable[[Callable[[Request], None]], int]) -> Callable[[Callable[[Request], None]], int]:
        def begun(over: Callable[[Request], None]) -> int:
            patch.start()
            reactor.callLater(0.01, patch.stop)  # after the turn in which they are handed over
            return begin(over)

        patch = mock.patch.object(kernel, "NOWAIT", 0)
        return begun

    runs: list[Run] = [
        ("nothing", nothing),
        ("native, reads", reads(native, fd)),
        ("native, reads of a descriptor without O_DIRECT", reads(native, plain)),
        ("native, writes of what is there", writes(native, fd, 0)),
        ("native, writes behind the end", writes(native, fd, CONTENT)),
        ("threads, reads", reads(threads, cached)),
        ("threads, writes behind the end", writes(threads, cached, CONTENT)),
        ("  native without NOWAIT, behind the end", without(writes(waits, waited, CONTENT))),
    ]
    return runs, [native, threads, waits]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()))
