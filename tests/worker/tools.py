"""What tests with real worker processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.errors import EngineError
from sslintercept.testing.loop import RealLoop
from sslintercept.worker.pool import Workers

Pools = Callable[..., Workers]


@pytest.fixture
def loop() -> Iterator[RealLoop]:
    made = RealLoop()
    yield made
    assert made.leftovers() == []
    made.close()


@pytest.fixture
def pools(loop: RealLoop) -> Iterator[Pools]:
    """Makes pools, and closes them."""
    made: list[Workers] = []

    def make(count: int = 1, *args: Any, **named: Any) -> Workers:  # Any: what L{Workers} takes
        made.append(Workers(loop.handler, count, *args, **named))
        return made[-1]

    yield make
    for pool in made:
        came(loop, pool.close())
        assert pool.processes == 0


def came(loop: RealLoop, asked: Deferred[Any]) -> Any:
    """What it came to: its value, or its exception (Any: of each Deferred's own kind)."""
    found: list[Any] = []
    asked.addBoth(found.append)
    loop.until(lambda: found)
    return found[0].value if isinstance(found[0], Failure) else found[0]


def fault(loop: RealLoop, asked: Deferred[Any]) -> str:
    """The word of the error that it failed with."""
    error = came(loop, asked)
    assert isinstance(error, EngineError), error
    return error.fault
