"""
What a name costs: our CPU time beside Twisted's, against a scripted server, and the memory of kept names.

    .venv/bin/python bench/dns.py [LOOK-UPS]

New names are each asked for once, 64 under way at any time; the server is a process of its own, so that only the
resolver's side counts: query, send, receive, parse, callback. Three rounds each, the best counts.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import Deferred

epollreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)
from twisted.names import dns  # noqa: E402
from twisted.names.cache import CacheResolver  # noqa: E402
from twisted.names.client import Resolver  # noqa: E402
from twisted.names.resolve import ResolverChain  # noqa: E402

from sslintercept.dns.host import BOTH  # noqa: E402
from sslintercept.dns.hostdb import HostDB  # noqa: E402
from sslintercept.dns.hosts import HostsFile  # noqa: E402
from sslintercept.dns.message import A  # noqa: E402
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


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def at_once(count: int, ask: Callable[[int], Deferred[Any]]) -> float:
    """µs of CPU for each of *count* questions that are asked in a loop; the best of three rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        cpu = time.process_time()
        for n in range(count):
            ask(n)
        best = min(best, (time.process_time() - cpu) / count * 1e6)
    return best


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
    hosts = HostsFile(Path("/etc/hosts"))
    one = HostDB(reactor, hosts, processor.query, families=lambda: (A,), most=10_000_000)
    both = HostDB(reactor, hosts, processor.query, families=lambda: BOTH, most=10_000_000)
    twisted = Resolver(servers=[(host, port)], reactor=reactor)
    chain = ResolverChain([CacheResolver(), twisted])
    serial = iter(range(10**9))
    rows: list[tuple[str, float]] = []

    def new() -> str:
        return f"www{next(serial)}.some-name.example.com"

    cases: list[tuple[str, Callable[[int], Deferred[Any]]]] = [
        ("new question", lambda n: processor.query(new(), 1, reactor.seconds() + PATIENCE)),
        ("new name, IPv4", lambda n: one.resolve(new())),
        ("new name, both families", lambda n: both.resolve(new())),
        ("  twisted.names, IPv4", lambda n: twisted.lookupAddress(new())),
    ]
    best: dict[str, float] = {}
    runs = [case for _ in range(ROUNDS) for case in cases]

    def step(name: str, cpu: float) -> None:
        best[name] = min(best.get(name, cpu), cpu)
        reactor.callLater(0, go)

    def go() -> None:
        if runs:
            name, ask = runs.pop(0)
            measure(count, ask, lambda result: step(name, result[0] / count * 1e6))
            return
        kept()

    def kept() -> None:
        """What is there already."""
        one.resolve("kept.example.com").addCallback(lambda _: waiters())

    def waiters() -> None:
        """What joins a look-up under way."""
        rows.append(("kept name", at_once(100_000, lambda n: one.resolve("kept.example.com"))))
        waiting: list[Deferred[Any]] = []
        name = new()
        cpu = time.process_time()
        for _ in range(1000):
            waiting.append(one.resolve(name).addCallback(len))

        def told(_: object) -> None:
            rows.append(("further waiter", (time.process_time() - cpu) / 1000 * 1e6))
            chain.lookupAddress("kept.example.com").addCallback(cached)

        waiting[-1].addCallback(told)

    def cached(result: tuple[list[Any], Any, Any]) -> None:
        cache = chain.resolvers[0]
        query = dns.Query(b"kept.example.com", dns.A, dns.IN)
        cache.cacheResult(query, result)
        rows.append(("  twisted.names CacheResolver, kept", at_once(100_000, lambda n: cache.query(query))))
        fill()

    def fill() -> None:
        """A hundred thousand names."""
        before, start = resident(), len(one)

        def more() -> None:
            if len(one) - start >= 100_000:
                rows.append(("MiB for 100 000 names", (resident() - before) / 2**20))
                reactor.stop()
            else:
                measure(5_000, lambda n: one.resolve(new()), lambda _: reactor.callLater(0, more))

        more()

    try:
        reactor.callWhenRunning(go)
        reactor.run()
    finally:
        processor.stop()
        handler.stop()
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
    print(f"{'':36}{'µs CPU':>8}")
    for name, value in [*best.items(), *rows]:
        print(f"{name:36}{value:8.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
