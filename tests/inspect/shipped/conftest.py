"""Fixtures of the tests of inspectors that ship."""

from tests.support import loop

__all__ = ["loop"]
