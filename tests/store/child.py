"""A process that writes documents for ever, until somebody kills it: C{python child.py FILE ENGINE START}."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)

from sslintercept.aio.native import NativeEngine  # noqa: E402
from sslintercept.aio.threads import ThreadEngine  # noqa: E402
from sslintercept.net.handler import NetHandler  # noqa: E402
from sslintercept.store.medium import Part  # noqa: E402
from sslintercept.store.store import Kind, Store  # noqa: E402
from tests.store.support import SMALL, content, key  # noqa: E402

reactor: Any = _reactor  # Any: the module is an object with every reactor interface
SPREAD = 500
"""keys that are written again and again; a key's content is that of a number that is the key and a multiple of this"""


def length(number: int) -> int:
    return (number * 7919) % 16_000


def main(path: Path, kind: str, start: int) -> None:
    """Write document after document; say after each piece of the log that is on the disk how far that goes."""
    handler = NetHandler(reactor)
    handler.start()
    engine = (ThreadEngine if kind == "threads" else NativeEngine)(handler)
    store = Store([Part(path, 0, SMALL)], engine, handler, wall_clock=time.time)
    stripe = store._spans[0].stripe
    number, ends = start, [(0, start)]

    def more() -> None:
        nonlocal number
        for _ in range(20):
            key_number = number % SPREAD
            if number % 11 == 10:
                store.remove(key(key_number))
            elif not store.write(key(key_number), Kind.HEAD, [content(number, length(number))]):
                break
            ends.append((stripe.head, number))
            number += 1
        safe = max((n for end, n in ends if end <= stripe.written), default=start)
        del ends[:-2000]
        os.write(1, f"{safe}\n".encode())
        handler.later(0.001, more)

    store.start().addCallback(lambda _: more())
    reactor.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
