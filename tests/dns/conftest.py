"""Fixtures of the name resolver's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sslintercept.dns.processor import DnsProcessor
from sslintercept.dns.server import NameServers, Rules, ServerGroup
from sslintercept.testing.loop import Loop, checked_loop

from .support import NameServer, Query, address


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop; the test fails if it leaves anything behind."""
    with checked_loop() as made:
        yield made


ServerMaker = Callable[..., NameServer]


@pytest.fixture
def serve(loop: Loop) -> Iterator[ServerMaker]:
    """Makes name servers."""
    made: list[NameServer] = []

    def make(script: Callable[[Query], object] = address) -> NameServer:
        made.append(NameServer(loop, script))
        return made[-1]

    yield make
    for server in made:
        server.close()


Asker = Callable[..., DnsProcessor]


@pytest.fixture
def ask(loop: Loop) -> Iterator[Asker]:
    """Makes processors that are started; afterwards they are stopped and must hold nothing."""
    made: list[DnsProcessor] = []

    def make(
        *servers: NameServer, rotate: bool = False, rules: Rules | None = None, split: Any = None, **options: Any
    ) -> DnsProcessor:
        group = ServerGroup([server.address for server in servers], rotate=rotate, rules=rules)
        made.append(DnsProcessor(loop.handler, loop, NameServers(group, split), **options))
        made[-1].start()
        return made[-1]

    yield make
    for processor in made:
        processor.stop()
        assert processor.load == (0, 0, 0)
    loop.pump()
