"""Fixtures of tests with worker processes: a loop whose clock goes with the world's, and pools that are closed."""

from tests.worker.tools import loop, pools

__all__ = ["loop", "pools"]
