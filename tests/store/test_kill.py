"""kill -9 of a process that writes: what it had on the disk is there, whole, and nothing that it removed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from .child import SPREAD, length
from .conftest import ShelfMaker
from .support import Shelf, content, key

ROUNDS = 3
ROOT = Path(__file__).resolve().parent.parent.parent


def killed(shelf: Shelf, start: int, seconds: float) -> int:
    """Let a process write from a number on, each key at least twice, and kill it; the last number on the disk."""
    arguments = [sys.executable, "-m", "tests.store.child", str(shelf.file), shelf.kind, str(start)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, bufsize=-1) as child:
        assert child.stdout is not None
        lines = child.stdout.readline()
        while int(lines) < start + 2 * SPREAD:
            lines = child.stdout.readline()
        time.sleep(seconds)  # it is a real process
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read()
    return int(lines.split(b"\n")[-2])


def test_after_kill_9_everything_is_intact_and_nearly_all_is_there(make: ShelfMaker, kind: str) -> None:
    chance, start = random.Random(1), 0
    for _ in range(ROUNDS):
        shelf = make(kind)
        safe = killed(shelf, start, chance.uniform(0.0, 0.4))
        assert safe > start
        shelf.start()
        held = 0
        for one in range(SPREAD):
            last = safe - (safe - one) % SPREAD
            got = shelf.get(key(one))
            # What was written behind the last line may be there as well.
            may = [number for number in range(last, last + 20 * SPREAD, SPREAD) if number % 11 != 10 and number >= 0]
            if got is not None:
                held += 1
                assert any(len(got) == length(n) and got == content(n, length(n)) for n in may)
        assert held > SPREAD * 0.8 * 10 / 11
        shelf.stop()
        start = safe + 20 * SPREAD
