"""Tasks for worker processes that behave well, and as badly as a process that was taken over: for tests of the pool."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from sslintercept.worker.wire import Item, Job

_LINE = 0
"""the descriptor of the line to the pool"""


def echo(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """What it was given."""
    yield Item({**meta, "pid": os.getpid(), "kept": job.kept.decode(), "environment": sorted(os.environ)}, content)


def crash(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Read where nothing is."""
    yield Item({}, b"the last words")
    ctypes.string_at(0)


def leave(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """End in the middle of a job."""
    yield Item({}, b"")
    os._exit(3)


def halt(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Stop, as by SIGSTOP."""
    signal.raise_signal(signal.SIGSTOP)
    yield Item({}, b"")


def spin(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Calculate for ever."""
    while True:
        pass
    yield Item({}, b"")


def sleep(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Take so many seconds as the content says."""
    time.sleep(float(content))
    yield Item({}, b"")


def eat(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Want all the memory there is."""
    held = []
    while True:
        held.append(bytearray(2**24))
    yield Item({}, b"")


def flood(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Give items for ever."""
    while True:
        yield Item({}, bytes(2**16))


def fail(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Raise something with the content in it."""
    yield Item({}, b"")
    raise RuntimeError(content)


def babble(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Write the content to the line, past all framing."""
    os.write(_LINE, content)
    time.sleep(60)
    yield Item({}, b"")


def flood_past(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Write for ever, past all limits."""
    line = socket.socket(fileno=os.dup(_LINE))
    while True:
        line.sendall(content)
    yield Item({}, b"")


def reach(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """Try what a process that was taken over would; an item for each, with what came of it."""
    path = content.decode()
    attempts: dict[str, Callable[[], object]] = {
        "read": lambda: open(path).close(),
        "list": lambda: os.listdir(os.path.dirname(path)),
        "write": lambda: open(path, "w").close(),
        "create": lambda: open(path + ".new", "x").close(),
        "chmod": lambda: os.chmod(path, 0o666),
        "unlink": lambda: os.unlink(path),
        "socket": lambda: socket.socket().close(),
        "fork": fork,
        "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        "kill": lambda: os.kill(os.getppid(), 0),
        "ptrace": lambda: os.listdir(f"/proc/{os.getppid()}/fd"),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            yield Item({"tried": name, "came": type(error).__name__}, b"")
        else:
            yield Item({"tried": name, "came": "through"}, b"")


def fork() -> None:
    """Another process."""
    if os.fork() == 0:
        os._exit(0)


def gone(meta: Mapping[str, object], content: bytes, job: Job) -> NoReturn:
    """End before anything is given."""
    os._exit(0)
