"""
What a read from disk costs: CPU time and latency of each engine, beside Twisted's threads, caio and io_uring.

    .venv/bin/python bench/aio.py [FOLDER]

Reads at random pages of a file of 256 MiB in FOLDER, which must be on a disk; 16 are under way at any time. CPU is that
of the process, its threads included. "late" is the most that a heartbeat of the reactor, due every 2 ms, was kept
waiting. Three rounds each, engines in turn; the round with the least CPU counts. caio is measured if it is found in
BENCH_TMP (bench/README.md), io_uring (bench/uring.py) if the kernel permits it.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import DeferredList

epollreactor.install()

import uring  # noqa: E402
from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)
from twisted.internet.threads import deferToThread  # noqa: E402

from sslintercept.aio.descriptor import File  # noqa: E402
from sslintercept.aio.native import NativeEngine  # noqa: E402
from sslintercept.aio.request import DiskEngine, Request, read  # noqa: E402
from sslintercept.aio.threads import ThreadEngine  # noqa: E402
from sslintercept.net.handler import NetHandler  # noqa: E402

TMP = Path(os.environ.get("BENCH_TMP", Path(tempfile.gettempdir()) / "sslintercept-bench"))
reactor: Any = _reactor  # Any: the module is an object with every reactor interface
SIZE = 256 * 2**20
DEPTH = 16
ROUNDS = 3
BEAT = 0.002
CASES = [("64 KiB", 65536, 4000), ("1 MiB", 2**20, 500)]
Ask = Callable[[int, int, Callable[[], None]], None]


def engine(made: DiskEngine, fd: int) -> Ask:
    """Reads by an engine."""

    def told(request: Request, done: Callable[[], None]) -> None:
        if not request.ok:
            print("failed:", request, request.error, file=sys.stderr)
        done()

    def ask(offset: int, length: int, done: Callable[[], None]) -> None:
        made.submit(read(fd, offset, length, lambda request: told(request, done)))

    return ask


def twisted(fd: int) -> Ask:
    """Reads by Twisted's pool of threads."""

    def ask(offset: int, length: int, done: Callable[[], None]) -> None:
        deferToThread(os.pread, fd, length, offset).addCallback(lambda _: done())

    return ask


def caio(fd: int) -> dict[str, Ask]:
    """Reads by caio's threads and by its Linux AIO, each by its own way of telling; empty without it."""
    version = f"python{sysconfig.get_python_version()}"
    sys.path.append(str(TMP / "caio" / "lib" / version / "site-packages"))
    asks: dict[str, Ask] = {}
    for name in ("thread_aio", "linux_aio"):
        try:
            library = importlib.import_module(f"caio.{name}")
            context = library.Context(1024)
        except (ImportError, OSError):
            continue
        asks[f"  caio {name}, page cache"] = caio_ask(library.Operation, context, fd)
    return asks


def caio_ask(operation: Any, context: Any, fd: int) -> Ask:  # Any: it is not there when types are checked
    """Reads by one of its contexts."""
    watched = hasattr(context, "poll")
    if watched:
        reactor.addReader(Context(context))

    def ask(offset: int, length: int, done: Callable[[], None]) -> None:
        one = operation.read(length, fd, offset)

        def told(_: int) -> None:
            if len(one.get_value()) != length:
                print("failed:", offset, file=sys.stderr)
            done()

        one.set_callback(told if watched else lambda result: reactor.callFromThread(told, result))
        context.submit(one)

    return ask


class Context:
    """The eventfd of a context of caio's, for the reactor."""

    def __init__(self, context: Any) -> None:  # Any: see above
        self.context = context

    def fileno(self) -> int:
        return int(self.context.fileno)

    def logPrefix(self) -> str:
        return "caio"

    def doRead(self) -> None:
        with suppress(BlockingIOError):
            self.context.poll()
        while self.context.process_events():
            pass

    def connectionLost(self, reason: object) -> None:
        """It is closed with the process."""


def measure(ask: Ask, length: int, count: int, done: Callable[[list[float]], None]) -> None:
    """µs of CPU, mean and longest latency in ms, and latest heartbeat in ms, of *count* reads."""
    offsets = random.Random(length)
    state = {"next": 0, "open": 0}
    latencies: list[float] = []
    late = [0.0]
    due = reactor.seconds() + BEAT

    def beat() -> None:
        nonlocal due, heart
        late[0] = max(late[0], reactor.seconds() - due)
        due = reactor.seconds() + BEAT
        heart = reactor.callLater(BEAT, beat)

    heart = reactor.callLater(BEAT, beat)
    cpu = time.process_time()

    def one() -> None:
        state["next"] += 1
        state["open"] += 1
        offset = offsets.randrange((SIZE - length) // 4096) * 4096
        begun = time.perf_counter()
        ask(offset, length, lambda: over(begun))

    def over(begun: float) -> None:
        latencies.append(time.perf_counter() - begun)
        state["open"] -= 1
        if state["next"] < count:
            one()
        elif not state["open"]:
            used = time.process_time() - cpu
            mean = sum(latencies) / count
            late[0] = max(late[0], reactor.seconds() - due)
            heart.cancel()
            reactor.callLater(0, done, [used / count * 1e6, mean * 1e3, max(latencies) * 1e3, late[0] * 1e3])

    for _ in range(DEPTH):
        one()


def main(folder: Path) -> None:
    """Measure all, and print a table."""
    handler = NetHandler(reactor)
    handler.start()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        path = Path(made) / "file"
        block = random.Random(1).randbytes(2**20)
        with path.open("wb") as file:
            for _ in range(SIZE // len(block)):
                file.write(block)
            os.fsync(file.fileno())
        native, threads = NativeEngine(handler), ThreadEngine(handler)
        direct = native.open(path, os.O_RDWR)
        # Direct transfers want aligned memory, which the engines have and os.pread has not.
        uncached = threads.open(path, os.O_RDWR | os.O_DIRECT)
        buffered = threads.open(path, os.O_RDWR)
        plain = os.open(path, os.O_RDONLY)
        engines: list[DiskEngine] = [native, threads]
        asks = {
            "native, O_DIRECT": engine(native, direct),
            "threads, O_DIRECT": engine(threads, uncached),
            "threads, page cache": engine(threads, buffered),
            "  deferToThread(os.pread), page cache": twisted(plain),
            **caio(plain),
        }
        with suppress(OSError):
            ring = uring.engine(handler)
            engines.append(ring)
            asks["  io_uring, O_DIRECT"] = engine(ring, ring.open(path, os.O_RDWR))
            # The native engine would give a descriptor without O_DIRECT to threads; a ring may have it.
            cached = os.open(path, os.O_RDWR)
            ring._files[cached] = File(cached)
            asks["  io_uring, page cache"] = engine(ring, cached)
        best: dict[tuple[str, str], list[float]] = {}
        runs = [(name, case) for _ in range(ROUNDS) for case in CASES for name in asks]

        def step(name: str, label: str, row: list[float]) -> None:
            best[label, name] = min(best.get((label, name), row), row)
            go()

        def go() -> None:
            if runs:
                name, (label, length, count) = runs.pop(0)
                measure(asks[name], length, count, lambda row: step(name, label, row))
            else:
                DeferredList([one.stop() for one in engines]).addCallback(lambda _: reactor.stop())

        reactor.callWhenRunning(go)
        reactor.run()
        handler.stop()
        os.close(plain)
    print(f"{'':46}{'µs CPU':>8}{'ms':>8}{'most ms':>9}{'late ms':>9}")
    for (label, name), (cpu, mean, most, late) in best.items():
        print(f"{label:8}{name:38}{cpu:8.1f}{mean:8.2f}{most:9.2f}{late:9.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()))
