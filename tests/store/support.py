"""What the store's tests share."""

from __future__ import annotations

import errno
import os
import random
import select
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.aio.native import NativeEngine
from sslintercept.aio.request import DiskEngine, Request
from sslintercept.aio.threads import ThreadEngine
from sslintercept.errors import LimitError
from sslintercept.net.handler import NetHandler
from sslintercept.store.layout import PAGE, SpanHeader, divided
from sslintercept.store.medium import Part
from sslintercept.store.span import Span
from sslintercept.store.store import Kind, Store
from sslintercept.store.stripe import Stripe
from sslintercept.testing.loop import Loop

Result = TypeVar("Result")
MEBIBYTE = 2**20
SMALL = 16 * MEBIBYTE
PATIENCE = 20.0
"""seconds that a disk may take on a busy machine"""


def key(number: int) -> bytes:
    """A key."""
    return number.to_bytes(16, "big")


def content(number: int, length: int = 1000) -> bytes:
    """Bytes that nothing else has."""
    return random.Random(number).randbytes(length)


class Frail:
    """
    A disk engine that fails when it is told to.

    @ivar fails: the errno for a request; 0 lets it pass.
    @ivar holds: takes requests instead of the disk, if it is there.
    @ivar seen: how many requests were asked for; C{longest}: bytes of the longest.
    """

    def __init__(self, engine: DiskEngine, handler: NetHandler) -> None:
        self._engine, self._handler = engine, handler
        self.name = engine.name
        self.fails: Callable[[Request], int] = lambda request: 0
        self.holds: Callable[[Request], object] | None = None
        self.seen = self.longest = 0

    @property
    def load(self) -> int:
        return self._engine.load

    def open(self, path: os.PathLike[str] | str, flags: int, mode: int = 0o600) -> int:
        return self._engine.open(path, flags, mode)

    def submit(self, request: Request) -> None:
        self.seen += 1
        self.longest = max(self.longest, request.length)
        if self.holds is not None:
            self.holds(request)
            return
        number = self.fails(request)
        if number == errno.EBUSY:
            raise LimitError("full", where="disk engine", remedy="wait")
        if number:
            request.error = OSError(number, os.strerror(number))
            self._handler.soon(lambda: request.cancelled or request.done(request))
        else:
            self._engine.submit(request)

    def close(self, fd: int) -> Deferred[None]:
        return self._engine.close(fd)

    def stop(self) -> Deferred[None]:
        return self._engine.stop()


class Shelf:
    """
    A store in a folder, and the engine and loop below it.

    @ivar frail: the last store's engine as the store sees it.
    """

    def __init__(self, loop: Loop, folder: Path, kind: str, spans: int, *, size: int = SMALL, average: int = 8192):
        self.loop, self.folder, self.kind, self.average = loop, folder, kind, average
        self.parts = [Part(folder / f"span{n}", 0, size) for n in range(spans)]
        self.now = 1_800_000_000.0
        self.made: list[tuple[ThreadEngine | NativeEngine, Store]] = []

    def start(self) -> Store:
        """A store, after its start."""
        self.begin()
        self.wait(self.store.start())
        return self.store

    def begin(self) -> Store:
        """A store, not started."""
        engine = (ThreadEngine if self.kind == "threads" else NativeEngine)(self.loop.handler)
        self.engine, self.frail = engine, Frail(engine, self.loop.handler)
        self.store = Store(self.parts, self.frail, self.loop.handler, wall_clock=lambda: self.now, average=self.average)
        self.made.append((engine, self.store))
        return self.store

    def stop(self) -> None:
        """Stop it, as a process does that ends well."""
        self.wait(self.store.stop())
        self.wait(self.engine.stop())

    def restart(self) -> Store:
        """Stop and start it."""
        self.stop()
        return self.start()

    def crash(self) -> Store:
        """What a process finds on the disk that starts after this one was killed now; another store on a copy."""
        copies = []
        for part in self.parts:
            copies.append(part._replace(path=part.path.with_name(part.path.name + "c")))
            shutil.copyfile(part.path, copies[-1].path)
            copies[-1].path.chmod(0o600)
        self.parts = copies
        return self.start()

    def end(self) -> None:
        """Stop whatever was made here; nothing may be held."""
        for engine, store in self.made:
            self.wait(store.stop())
            assert store._buffers.used == 0
            self.wait(engine.stop())
            assert engine.load == 0
            assert engine._pool.used == 0

    def until(self, true: Callable[[], bool]) -> None:
        """Turn the loop until something is true."""
        poll = select.poll()
        poll.register(self.loop.handler.fileno(), select.POLLIN)
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"{self.engine.load} under way"
            if not any(call.getTime() <= self.loop.seconds() for call in self.loop.getDelayedCalls()):
                poll.poll(10)
            self.loop.turn()

    def wait(self, deferred: Deferred[Result]) -> Result:
        """What a Deferred fires with."""
        results: list[Result | Failure] = []
        deferred.addBoth(results.append)
        self.until(lambda: bool(results))
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def pass_time(self, seconds: float = 0.5) -> None:
        """Let time pass, and the disk take what is due."""
        self.loop.advance(seconds)
        self.until(lambda: not self.engine.load)

    def flush(self) -> None:
        """Everything that was written is on the disk."""
        for _ in range(1000):
            self.pass_time()
            self.loop.pump()
            if all(stripe.written >= stripe.head for stripe in self.stripes):
                return
        raise AssertionError("the disk does not take it")

    def get(self, key: bytes) -> bytes | None:
        """What a read finds."""
        found: list[bytes | None] = []
        self.store.read(key, lambda view: found.append(None if view is None else bytes(view)))
        self.until(lambda: bool(found))
        (one,) = found
        return one

    def put(self, number: int, length: int = 1000, *, kind: Kind = Kind.HEAD, until: float = 0.0) -> bytes:
        """Write a document that only C{number} has; it has to be taken, if need be after others."""
        made = content(number, length)
        while not self.store.write(key(number), kind, [made], pinned_until=until):
            self.pass_time(0)
        return made

    def held(self, numbers: Sequence[int] | range, length: int = 1000) -> list[int]:
        """Which of these documents there are; each must be what was written."""
        found = []
        for number in numbers:
            got = self.get(key(number))
            if got is not None:
                assert got == content(number, length)
                found.append(number)
        return found

    def fill(self, first: int, length: int = 64 * 1024, part: float = 1.0) -> range:
        """Write documents from number C{first} on, until a part of the log was written; their numbers."""
        count = int(self.stripe.size * part) // length + 1
        for number in range(first, first + count):
            self.put(number, length)
        self.flush()
        return range(first, first + count)

    @property
    def stripes(self) -> list[Stripe]:
        return [span.stripe for span in self.store._spans]

    @property
    def stripe(self) -> Stripe:
        return self.stripes[0]

    @property
    def header(self) -> SpanHeader:
        return self.stripe.header

    @property
    def file(self) -> Path:
        return self.parts[0].path

    def damage(self, offset: int, length: int = 1) -> None:
        """Flip bits in the file of the first span."""
        with self.file.open("r+b") as file:
            file.seek(offset)
            old = file.read(length)
            file.seek(offset)
            file.write(bytes(byte ^ 0x55 for byte in old))

    def snapshot(self) -> None:
        """Have one taken of each span."""
        for span in self.store._spans:
            self._snapshot(span)

    def _snapshot(self, span: Span) -> None:
        self.until(lambda: not span._saving)
        before = span.snapshots.sequence
        span.stripe.urgent = True
        span._look()
        self.until(lambda: span.snapshots.sequence > before and not span._saving)

    def lose_snapshots(self) -> None:
        """Nothing is left of both of the first span's headers."""
        place = divided(self.parts[0].size, self.average, 0).place
        with self.file.open("r+b") as file:
            for offset in (PAGE, PAGE + place):
                file.seek(offset)
                file.write(bytes(PAGE))
