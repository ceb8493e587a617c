"""Processes of tests that are to stand still."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

PATIENCE = 20.0
"""seconds for every thread to have stopped"""


def stand_still(process: int) -> None:
    """
    Stop a process, and wait until it stands still. The signal alone is not enough: it is one thread's to take, and
    until that one runs, which takes a while on a busy machine, the others work on.
    """
    os.kill(process, signal.SIGSTOP)
    end = time.monotonic() + PATIENCE
    while not all(map(stopped, Path(f"/proc/{process}/task").iterdir())):
        assert time.monotonic() < end, f"process {process} goes on"
        time.sleep(0.001)


def stopped(thread: Path) -> bool:
    """By its state, the first field behind the name, which is in brackets (proc(5)); one that has ended is, too."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return True
