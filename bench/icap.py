"""
What a body costs that goes to a scanning engine: our CPU time, with c-icap's echo and with clamd as installed.

    .venv/bin/python bench/icap.py [MIB]

Bodies of MIB MiB (64, if nothing else is said) in pieces of 64 KiB, and a thousand of 1 KiB; the engines are processes
of their own, so that only our side counts. Three rounds each, the best counts.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import Deferred

epollreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)

from sslintercept.clamd.client import Clamd  # noqa: E402
from sslintercept.clamd.client import Limits as ClamdLimits  # noqa: E402
from sslintercept.facts import Address  # noqa: E402
from sslintercept.icap.message import Modified, ModRequest  # noqa: E402
from sslintercept.icap.service import Limits, Service  # noqa: E402
from sslintercept.icap.wire import Kind  # noqa: E402
from sslintercept.net.connector import Connector  # noqa: E402
from sslintercept.net.handler import NetHandler  # noqa: E402
from sslintercept.net.line import local, tcp  # noqa: E402
from sslintercept.testing import engines  # noqa: E402

reactor: Any = _reactor  # Any: the module is an object with every reactor interface
ROUNDS = 3
SMALL = 1000
"""bodies of 1 KiB"""
DEPTH = 4
"""of them under way at a time"""
PIECE = b"a line of text.\n" * 4096
PATIENCE = 60.0
GET = b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


class Nobody:
    """Knows no names."""

    def resolve(self, host: str) -> Any:
        raise ValueError(host)


class Bringing:
    """Brings a body as fast as it is taken."""

    def __init__(self, to: Any, size: int) -> None:
        self.to, self.left, self.stopped = to, size, False
        to.registerProducer(self, True)
        self.turn()

    def pauseProducing(self) -> None:
        self.stopped = True

    def resumeProducing(self) -> None:
        self.stopped = False
        reactor.callLater(0, self.turn)

    def turn(self) -> None:
        while not self.stopped:
            if not self.left:
                self.to.finish()
                return
            piece = PIECE[: self.left]
            self.left -= len(piece)
            self.to.write(piece)


async def through_icap(service: Service, size: int) -> None:
    """There and back."""
    modification = service.modify(ModRequest(Kind.RESPMOD, GET, OK, body=True))
    Bringing(modification, size)
    outcome = await modification.outcome
    assert isinstance(outcome, Modified), outcome
    assert outcome.body is not None
    ended: Deferred[None] = Deferred()
    came = 0

    def more(data: Any) -> None:
        nonlocal came
        came += len(data)

    outcome.body.read_to(more, lambda: ended.callback(None), ended.errback)
    await ended
    assert came == size


async def through_clamd(clamd: Clamd, size: int) -> None:
    """There, and a word back."""
    scan = clamd.scan()
    Bringing(scan, size)
    await scan.outcome


async def spent(work: Callable[[int], Coroutine[Any, Any, None]], mib: int) -> tuple[float, float]:
    """Seconds of CPU for a MiB, and for a small body."""
    large = small = float("inf")
    for _ in range(ROUNDS):
        before = time.process_time()
        await work(mib << 20)
        large = min(large, (time.process_time() - before) / mib)
        before = time.process_time()
        for _ in range(SMALL // DEPTH):
            for one in [Deferred.fromCoroutine(work(1024)) for _ in range(DEPTH)]:
                await one
        small = min(small, (time.process_time() - before) / SMALL)
    return large, small


async def measure(folder: Path, mib: int) -> None:
    handler = NetHandler(reactor)
    handler.start()
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    with engines.clamd(folder, ports[0], most=f"{mib}M") as sock, engines.c_icap(folder, ports[1], sock):
        connector = Connector(handler, Nobody(), timeout=5.0)
        uri = f"icap://127.0.0.1:{ports[1]}/echo"
        echo = Service(
            handler, tcp(connector, Address("127.0.0.1", ports[1]), uri), uri, limits=Limits(connections=DEPTH)
        )
        options = await echo.options()
        echo._options = options._replace(preview=None)  # else it says 204 in the preview
        limits = ClamdLimits(most=mib << 20)
        by_tcp = Clamd(handler, tcp(connector, Address("127.0.0.1", ports[0]), "clamd"), limits=limits)
        by_unix = Clamd(handler, local(handler, str(sock), "clamd"), limits=limits)
        print(f"{'':18} {'us a MiB':>10} {'us a small body':>16}")
        for name, work in (
            ("c-icap, echo", lambda size: through_icap(echo, size)),
            ("clamd, TCP", lambda size: through_clamd(by_tcp, size)),
            ("clamd, unix socket", lambda size: through_clamd(by_unix, size)),
        ):
            large, small = await spent(work, mib)
            print(f"{name:18} {large * 1e6:10.0f} {small * 1e6:16.0f}", flush=True)
        for one in (echo, by_tcp, by_unix):
            one.close()


def main(mib: int) -> None:
    failed = []
    with tempfile.TemporaryDirectory() as folder:

        def begin() -> None:
            done = Deferred.fromCoroutine(measure(Path(folder), mib))
            done.addErrback(failed.append)
            done.addBoth(lambda _: reactor.stop())

        reactor.callWhenRunning(begin)
        reactor.callLater(ROUNDS * PATIENCE, reactor.stop)
        reactor.run()
    if failed:
        raise SystemExit(failed[0].getTraceback())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
