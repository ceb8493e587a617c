"""
What a look-up that nobody has kept costs: our CPU time, beside Twisted's resolver, against a scripted server.

    .venv/bin/python bench/dns.py [LOOK-UPS]

Each one is for a name of its own; 64 are under way at any time. The server is a process of its own, so that only the
resolver's side counts: query, send, receive, parse, callback. Three rounds each, the best counts.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import Deferred

epollreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)
from twisted.names.client import Resolver  # noqa: E402

from sslintercept.dns.processor import DnsProcessor  # noqa: E402
from sslintercept.dns.server import NameServers, ServerGroup  # noqa: E402
from sslintercept.facts import Address  # noqa: E402
from sslintercept.net.handler import NetHandler  # noqa: E402

reactor: Any = _reactor  # Any: the module is an object with every reactor interface
DEPTH = 64
ROUNDS = 3
PATIENCE = 10.0
RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
"""an address of whatever was asked for"""


def serve(sock: socket.socket) -> None:
    """Answer every query with one address; the question ends before the query's OPT record, if it has one."""
    while True:
        data, source = sock.recvfrom(4096)
        question = data[12 : data.index(b"\0", 12) + 5]
        sock.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + RECORD, source)


def measure(count: int, ask: Callable[[int], Deferred[Any]], done: Callable[[tuple[float, float]], None]) -> None:
    """CPU and wall seconds of *count* look-ups, DEPTH of them under way."""
    state = {"next": 0, "open": 0}
    cpu, wall = time.process_time(), time.perf_counter()

    def more(_: object) -> None:
        state["open"] -= 1
        if state["next"] < count:
            one()
        elif not state["open"]:
            done((time.process_time() - cpu, time.perf_counter() - wall))

    def failed(reason: object) -> None:
        print("failed:", reason, file=sys.stderr)

    def one() -> None:
        state["next"] += 1
        state["open"] += 1
        ask(state["next"]).addErrback(failed).addCallback(more)

    for _ in range(min(DEPTH, count)):
        one()


def main(count: int) -> None:
    """Measure both, and print a table."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    host, port = sock.getsockname()
    server = os.fork()
    if not server:
        try:
            serve(sock)
        finally:
            os._exit(1)
    handler = NetHandler(reactor)
    handler.start()
    processor = DnsProcessor(handler, reactor, NameServers(ServerGroup([Address(host, port)])))
    processor.start()
    twisted = Resolver(servers=[(host, port)], reactor=reactor)
    cases: list[tuple[str, Callable[[int], Deferred[Any]]]] = [
        ("sslintercept", lambda n: processor.query(f"www{n}.example.com", 1, reactor.seconds() + PATIENCE)),
        ("twisted.names", lambda n: twisted.lookupAddress(f"www{n}.example.com")),
    ]
    best: dict[str, tuple[float, float]] = {}
    runs = [case for _ in range(ROUNDS) for case in cases]

    def step(name: str, result: tuple[float, float]) -> None:
        best[name] = min(best.get(name, result), result)
        reactor.callLater(0, go)

    def go() -> None:
        if not runs:
            reactor.stop()
            return
        name, ask = runs.pop(0)
        measure(count, ask, lambda result: step(name, result))

    try:
        reactor.callWhenRunning(go)
        reactor.run()
    finally:
        processor.stop()
        handler.stop()
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
    print(f"{'':14}{'µs CPU':>8}{'look-ups/s':>12}")
    for name, (cpu, wall) in best.items():
        print(f"{name:14}{cpu / count * 1e6:8.1f}{count / wall:12.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
