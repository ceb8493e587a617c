"""Fixtures of the tests of events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import globalLogPublisher

from tests.event.events import Operator
from tests.support import loop

__all__ = ["loop"]


@pytest.fixture
def operator() -> Iterator[Operator]:
    """Who reads the program's log; what has a traceback there is no good news."""
    made = Operator()
    globalLogPublisher.addObserver(made)
    yield made
    globalLogPublisher.removeObserver(made)
    assert not made.failures


@pytest.fixture
def said(operator: Operator) -> list[str]:
    """What the operator hears."""
    return operator.said
