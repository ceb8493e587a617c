"""Clients that ask a gateway all the time, while something else happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

from tests.process.carriers import World
from tests.process.origins import body
from tests.process.tools import wait_for


class Load:
    """
    Clients that ask for something, one request after the other, until told to stop.

    @ivar answers: how many were as they should be; C{failures}: the others.
    @ivar slowest: seconds that the slowest took.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._url = world.servers.plain.lay(body(20_000))
        self._stop = threading.Event()
        self.answers = 0
        self.slowest = 0.0
        self.failures: list[object] = []
        self._threads = [threading.Thread(target=self._ask, args=(kept,)) for kept in (True, False)]
        for thread in self._threads:
            thread.start()

    def _ask(self, kept: bool) -> None:
        host, port = self._world.gateway.address
        connection = HTTPConnection(host, port, timeout=20)
        while not self._stop.wait(0.03):
            asked = time.monotonic()
            try:
                connection.request("POST" if kept else "GET", self._url, body=b"fine" if kept else None)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status == 200 and content == (b"taken" if kept else body(20_000)):
                    self.answers += 1
                else:
                    self.failures.append((answer.status, content[:100]))
            except Exception as error:
                self.failures.append(error)
            self.slowest = max(self.slowest, time.monotonic() - asked)
            if not kept:
                connection.close()
        connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def load(world: World) -> Iterator[Load]:
    """Clients that ask all the time; none may notice what happens."""
    made = Load(world)
    try:
        wait_for("some answers", lambda: made.answers > 5 or bool(made.failures))
        yield made
        before = made.answers
        wait_for("some more answers", lambda: made.answers > before + 5 or bool(made.failures))
    finally:
        made.stop()
    assert made.failures == []
