"""Fixtures of this folder."""

from tests.support import loop

__all__ = ["loop"]
