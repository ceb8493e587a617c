"""A file that a body waits in: threads that take their time, readers that come and go, disks that fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from sslintercept.facts import UNTIL_CLOSE
from sslintercept.http.spool import CHUNK, HIGH_WATER, Spool, SpoolError, put
from sslintercept.inspect.memory import Budget
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.tunnel import HttpTunnel, Producer, Source

ROOM = 16 << 20


class Soon:
    """A loop whose postponed calls the test makes."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def soon(self, call: Callable[[], object]) -> None:
        self.calls.append(call)

    def turn(self) -> bool:
        """Make them; whether there were any."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        return bool(calls)


class Bring:
    """Who brings the body."""

    def __init__(self) -> None:
        self.stopped = False

    def pauseProducing(self) -> None:
        assert not self.stopped
        self.stopped = True

    def resumeProducing(self) -> None:
        assert self.stopped
        self.stopped = False

    def stopProducing(self) -> None:
        """Nothing to stop."""


class Take:
    """Who takes the body; what it got, and whether that was the end."""

    def __init__(self, spool: Spool, length: int = UNTIL_CLOSE) -> None:
        self.got = b""
        self.error: Exception | None = None
        self.ended = 0
        self.producer: Producer = HttpTunnel().produce(
            "waiting", spool, length, chunked_out=False, complete=self._complete, failed=self._failed
        )
        self.consumer = self.producer.tunnel.consume("client", self, self.producer)

    def _complete(self, rest: bytes) -> None:
        self.ended += 1

    def _failed(self, error: Exception) -> None:
        self.error = error

    def write(self, data: Bytes) -> None:
        self.got += bytes(data)

    def registerProducer(self, producer: Source, streaming: bool) -> None:
        """The test stops and starts."""

    def unregisterProducer(self) -> None:
        """Likewise."""


class World:
    """A spool on a disk whose work the test lets happen."""

    def __init__(self, folder: Path, most: int = ROOM) -> None:
        self.budget = Budget(most)
        self.soon = Soon()
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []  # Any: whatever the call returns
        self.wholes = 0
        self.errors: list[SpoolError] = []
        self.file = TemporaryFile("w+b", buffering=0, dir=folder)  # noqa: SIM115  # the spool closes it
        self.spool = Spool(
            self.file, self.budget, self.soon, self._elsewhere, whole=self._whole, failed=self.errors.append
        )
        self.source = Bring()
        self.spool.registerProducer(self.source, True)

    def _elsewhere(self, call: Callable[[], Any]) -> Deferred[Any]:  # Any: likewise
        assert not self.waiting, "one transfer at a time"
        self.waiting.append((call, Deferred()))
        return self.waiting[-1][1]

    def _whole(self) -> None:
        self.wholes += 1

    def disk(self) -> bool:
        """Let the disk do what it has to do now; whether that was anything."""
        if not self.waiting:
            return False
        call, waiting = self.waiting.pop()
        try:
            found = call()
        except OSError as error:
            waiting.errback(error)
        else:
            waiting.callback(found)
        return True

    def settle(self) -> None:
        """Until nothing moves."""
        while self.disk() or self.soon.turn():
            pass


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.spool.close()
    made.settle()
    assert made.file.closed
    assert made.budget.used == 0


def test_what_is_kept_is_given_as_often_as_somebody_takes_it(world: World) -> None:
    spool = world.spool
    spool.write(b"one ")
    spool.write(memoryview(bytearray(b"two")))
    world.settle()
    assert world.wholes == 0
    spool.end()
    assert (world.wholes, spool.size, spool.written) == (1, 7, 7)
    for _ in range(2):
        take = Take(spool)
        assert not spool.read
        spool.lead(take.producer)
        assert spool.read
        world.settle()
        assert (take.got, take.ended) == (b"one two", 1)
        assert not spool.read


def test_it_is_whole_only_when_it_is_in_the_file(world: World) -> None:
    world.spool.write(b"x")
    world.spool.write(b"y")
    world.spool.end()
    assert world.wholes == 0
    assert world.disk()
    assert world.wholes == 0
    assert world.disk()
    assert world.wholes == 1


def test_a_disk_that_takes_its_time_stops_the_source(world: World) -> None:
    world.spool.write(bytes(HIGH_WATER))
    assert not world.source.stopped
    world.spool.write(b"x")
    assert world.source.stopped
    world.disk()
    assert not world.source.stopped
    world.settle()
    assert world.spool.written == HIGH_WATER + 1


def test_what_comes_passes_straight_once_everything_was_given(world: World) -> None:
    spool = world.spool
    spool.write(b"a" * (CHUNK + 1))
    world.settle()
    take = Take(spool)
    spool.lead(take.producer)
    assert world.source.stopped
    spool.write(b"b")
    assert take.got == b""
    world.settle()
    assert take.got == b"a" * (CHUNK + 1) + b"b"
    assert not world.source.stopped
    spool.write(b"c")
    assert take.got.endswith(b"bc")
    take.consumer.pauseProducing()
    assert world.source.stopped
    take.consumer.resumeProducing()
    assert not world.source.stopped
    spool.end()
    assert take.ended == 1
    assert world.wholes == 0
    assert world.waiting == []


def test_a_reader_that_has_enough_gets_nothing(world: World) -> None:
    spool = world.spool
    spool.write(bytes(3 * CHUNK))
    spool.end()
    world.settle()
    take = Take(spool, 3 * CHUNK)
    spool.lead(take.producer)
    take.consumer.pauseProducing()
    world.settle()
    assert len(take.got) == CHUNK, "what was on its way already"
    take.consumer.resumeProducing()
    world.settle()
    assert (len(take.got), take.ended) == (3 * CHUNK, 1)


def test_somebody_takes_it_while_a_thread_writes(world: World) -> None:
    spool = world.spool
    spool.write(b"one ")
    spool.write(b"two ")
    take = Take(spool)
    spool.lead(take.producer)
    spool.write(b"three")
    spool.end()
    assert take.got == b""
    world.settle()
    assert (take.got, take.ended) == (b"one two three", 1)


def test_what_a_former_reader_was_to_get_no_later_one_gets(world: World) -> None:
    spool = world.spool
    spool.write(b"a" * CHUNK + b"b" * CHUNK)
    spool.end()
    world.settle()
    first = Take(spool)
    spool.lead(first.producer)
    world.disk()
    world.soon.turn()
    first.producer.tunnel.stop()
    second = Take(spool)
    spool.lead(second.producer)
    world.settle()
    assert second.got == b"a" * CHUNK + b"b" * CHUNK
    assert first.got == b"a" * CHUNK


def test_a_reader_that_leaves_without_a_word_is_noticed(world: World) -> None:
    spool = world.spool
    spool.write(bytes(3 * CHUNK))
    spool.end()
    world.settle()
    take = Take(spool)
    spool.lead(take.producer)
    take.consumer.pauseProducing()
    take.producer.tunnel.stop()
    world.settle()
    assert not spool.read
    again = Take(spool)
    spool.lead(again.producer)
    world.settle()
    assert len(again.got) == 3 * CHUNK


@pytest.mark.parametrize("led", [False, True])
def test_closing_waits_for_the_thread(world: World, led: bool) -> None:
    world.spool.write(b"x")
    if led:
        world.disk()
        world.spool.lead(Take(world.spool).producer)
    world.spool.close()
    world.spool.close()
    assert not world.file.closed
    world.disk()
    assert world.file.closed
    world.spool.write(b"y")
    world.spool.end()
    assert world.waiting == []
    assert (world.wholes, world.errors) == (0, [])


@pytest.mark.parametrize("led", [False, True])
def test_a_disk_that_takes_no_more_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch, led: bool) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    spool = world.spool
    spool.write(b"one ")
    world.settle()
    monkeypatch.setattr(os, "pwrite", full)
    spool.write(b"two ")
    take = Take(spool)
    if led:
        spool.lead(take.producer)
    world.disk()
    assert len(world.errors) == 1
    assert "No space left on device" in str(world.errors[0])
    if not led:
        assert world.source.stopped
        spool.write(b"three ")
        assert world.waiting == []
        spool.lead(take.producer)
    spool.end()
    world.settle()
    assert take.got == (b"one two " if led else b"one two three ")
    assert (take.ended, world.wholes, len(world.errors)) == (1, 0, 1)


def test_more_than_there_is_room_for_is_said_once_and_kept(tmp_path: Path) -> None:
    world = World(tmp_path, 10)
    spool = world.spool
    assert not spool.reserve(11)
    assert spool.reserve(4)
    spool.write(b"1234567890")
    world.settle()
    assert world.budget.used == 10
    spool.write(b"1")
    spool.write(b"2")
    assert len(world.errors) == 1
    take = Take(spool, 12)
    spool.lead(take.producer)
    world.settle()
    assert (take.got, take.ended) == (b"123456789012", 1)
    spool.close()
    assert world.budget.used == 0


def test_a_file_that_cannot_be_read_breaks_the_transfer(world: World) -> None:
    world.spool.write(b"one")
    world.spool.end()
    world.settle()
    world.file.truncate(0)
    take = Take(world.spool)
    world.spool.lead(take.producer)
    world.settle()
    assert isinstance(take.error, SpoolError)
    assert take.ended == 0


def test_pieces_are_written_although_the_kernel_takes_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    with (tmp_path / "file").open("w+b") as file:
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:2], at))
        assert put(file.fileno(), (b"abc", b"defgh", b""), 1) == 8
        assert os.pread(file.fileno(), 20, 0) == b"\0abcdefgh"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.integers(1, 2 * CHUNK), max_size=8),
    moves=st.lists(st.sampled_from(["disk", "turn", "write", "lead", "pause", "resume"]), max_size=40),
)
def test_in_whatever_order_things_happen_all_bytes_come_in_order(
    tmp_path: Path, pieces: list[int], moves: list[str]
) -> None:
    world = World(tmp_path)
    spool, left = world.spool, list(enumerate(pieces))
    take: Take | None = None
    expected = b"".join(bytes([number % 256]) * size for number, size in enumerate(pieces))

    def write() -> None:
        if left:
            number, size = left.pop(0)
            spool.write(bytes([number % 256]) * size)

    for move in moves:
        if move == "disk":
            world.disk()
        elif move == "turn":
            world.soon.turn()
        elif move == "write":
            write()
        elif move == "lead" and take is None:
            take = Take(spool)
            spool.lead(take.producer)
        elif move == "pause" and take is not None:
            take.consumer.pauseProducing()
        elif move == "resume" and take is not None:
            take.consumer.resumeProducing()
    while left:
        write()
    spool.end()
    if take is None:
        take = Take(spool)
        spool.lead(take.producer)
    take.consumer.resumeProducing()
    world.settle()
    assert take.got == expected
    assert take.ended == 1
    spool.close()
    assert world.file.closed
