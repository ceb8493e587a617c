"""Fixtures of the tests of clamd's client."""

from tests.support import loop

__all__ = ["loop"]
