"""
What documents on disk cost: CPU of each operation, memory of the directory, and how fast a span comes back.

    .venv/bin/python bench/store.py [FOLDER]

One span of 512 MiB in FOLDER, which must be on a disk. CPU is that of the process, its threads included; each row is
the best of three rounds.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import Deferred

epollreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)

from sslintercept.aio.native import NativeEngine  # noqa: E402
from sslintercept.aio.threads import ThreadEngine  # noqa: E402
from sslintercept.net.handler import NetHandler  # noqa: E402
from sslintercept.store.layout import PAGE, divided  # noqa: E402
from sslintercept.store.medium import Part  # noqa: E402
from sslintercept.store.store import Kind, Store  # noqa: E402

reactor: Any = _reactor  # Any: the module is an object with every reactor interface
SIZE = 512 * 2**20
ROUNDS = 3


def keys(first: int, count: int) -> list[bytes]:
    chance = random.Random(first)
    return [chance.randbytes(16) for _ in range(count)]


class Bench:
    """A store, and what is measured of it."""

    def __init__(self, folder: str, name: str) -> None:
        self.part = Part(Path(folder) / name, 0, SIZE)
        self.handler = NetHandler(reactor)
        self.handler.start()
        self.name = name
        self.average = 8192

    def make(self) -> None:
        self.engine = (ThreadEngine if self.name == "threads" else NativeEngine)(self.handler)
        self.store = Store([self.part], self.engine, self.handler, wall_clock=time.time, average=self.average)

    async def stop(self) -> None:
        await self.store.stop()
        await self.engine.stop()

    async def run(self) -> None:
        self.make()
        await self.store.start()
        await self.writes("write 1 KiB", 1024, 20_000)
        await self.writes("write 64 KiB", 65536, 2000)
        small, large = keys(1024 + ROUNDS - 1, 20_000), keys(65536 + ROUNDS - 1, 2000)
        for key in small[:500]:
            self.store.write(key, Kind.HEAD, [bytes(1024)])
        self.plain("has, there", small, self.store.has)
        self.plain("has, absent", keys(1, 20_000), self.store.has)
        self.plain("read 1 KiB, memory", small[:500] * 20, lambda key: self.store.read(key, len))  # type: ignore[arg-type]
        await self.settled()
        await self.reads("read 1 KiB, disk", small[1000:], 4000)
        await self.reads("read 64 KiB, disk", large, 2000)
        await self.recovery()

    def show(self, what: str, cpu: float, count: int) -> None:
        print(f"{self.name:8} {what:22} {cpu / count * 1e6:8.2f} us")

    def plain(self, what: str, some: list[bytes], call: Callable[[bytes], object]) -> None:
        best = float("inf")
        for _ in range(ROUNDS):
            before = time.process_time()
            for key in some:
                call(key)
            best = min(best, time.process_time() - before)
        self.show(what, best, len(some))

    async def writes(self, what: str, length: int, count: int) -> None:
        best, body = float("inf"), random.randbytes(length)
        for turn in range(ROUNDS):
            some = keys(length + turn, count)
            before = time.process_time()
            for key in some:
                while not self.store.write(key, Kind.HEAD, [body]):
                    await self.pause(0.001)
            await self.settled()
            best = min(best, time.process_time() - before)
        self.show(what, best, count)

    async def reads(self, what: str, some: list[bytes], count: int) -> None:
        best = float("inf")
        for _ in range(ROUNDS):
            wanted = random.sample(some, min(count, len(some)))
            before = time.process_time()
            assert await self.read_all(wanted) == len(wanted)
            best = min(best, time.process_time() - before)
        self.show(what, best, min(count, len(some)))

    def read_all(self, wanted: list[bytes]) -> Deferred[int]:
        """Read them, 16 at a time; how many there were."""
        over: Deferred[int] = Deferred()
        more, waiting, there = iter(wanted), 0, 0

        def ask() -> None:
            nonlocal waiting
            while waiting < 16 and (key := next(more, None)) is not None:
                waiting += 1
                self.store.read(key, found)
            if not waiting and not over.called:
                over.callback(there)

        def found(view: memoryview | None) -> None:
            nonlocal waiting, there
            waiting -= 1
            there += view is not None
            ask()

        ask()
        return over

    async def recovery(self) -> None:
        await self.timed("start after a stop")
        place = divided(SIZE, self.average, 0).place
        await self.timed("start, 512 MiB scanned", [PAGE, PAGE + place])

    async def timed(self, what: str, lost: list[int] | None = None) -> None:
        await self.stop()
        with self.part.path.open("r+b") as file:
            for offset in lost or []:
                file.seek(offset)
                file.write(bytes(PAGE))
        self.make()
        cpu, wall = time.process_time(), time.monotonic()
        late, due, over = 0.0, time.monotonic(), False

        def beat() -> None:
            nonlocal late, due
            late = max(late, time.monotonic() - due)
            due = time.monotonic() + 0.002
            if not over:
                reactor.callLater(0.002, beat)

        beat()
        await self.store.start()
        over = True
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        documents = self.store.stat.documents
        print(
            f"{self.name:8} {what:22} {wall:8.2f} s, {cpu:.2f} s CPU, {documents} documents, late {late * 1000:.1f} ms"
        )

    async def settled(self) -> None:
        while self.engine.load or self.store.stat.waiting:
            await self.pause(0.01)

    def pause(self, seconds: float) -> Deferred[None]:
        over: Deferred[None] = Deferred()
        reactor.callLater(seconds, over.callback, None)
        return over


async def main(folder: str) -> None:
    for name in ("native", "threads"):
        bench = Bench(folder, name)
        await bench.run()
        await bench.stop()
        bench.part.path.unlink()


def begin(folder: str) -> None:
    def over(result: object) -> None:
        if result is not None:
            print(result, file=sys.stderr)
        reactor.stop()

    Deferred.fromCoroutine(main(folder)).addBoth(over)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else os.getcwd()) as made:
        reactor.callWhenRunning(begin, made)
        reactor.run()
