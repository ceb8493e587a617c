"""Fixtures of the tests of ICAP's client."""

from tests.support import loop

__all__ = ["loop"]
