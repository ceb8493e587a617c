"""A process that stores events: C{python -m tests.event.storing PATH NAME COUNT [LIMIT]}; it says what is stored."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.logger import globalLogBeginner, textFileLogObserver

from sslintercept.event.store import EventStore, Keep
from tests.event.events import event

YEAR = 365 * 86400.0


def here(call: Callable[[], object]) -> Deferred[object]:
    """Call it on this thread."""
    return succeed(call())


def main(path: str, name: str, count: str, limit: str = "") -> None:
    """
    Store events of C{name} one after the other; each line of output says how many are on the disk.

    @param limit: bytes that a file may have, until a line comes by standard input.
    """
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    store = EventStore(Path(path), Keep(100 * YEAR, 10_000_000), here)
    store.start()
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    for number in range(int(count)):
        store.tell(event(id=f"{name}-{number}", kind=name, reason="r" * 500))
        while store.written <= number and not (limit and number >= 20):
            time.sleep(0.0005)
        if not limit:
            print(number + 1, flush=True)
    if limit:
        print("told", flush=True)
        sys.stdin.readline()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.close(30.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
