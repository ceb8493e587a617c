"""What the wiring decides by itself, without a process."""

from __future__ import annotations

import pytest

from sslintercept.service import MOST_THREADS, hashing_threads


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4), (128, MOST_THREADS)])
def test_passwords_are_hashed_on_half_of_the_machine_at_most(cores: int, threads: int) -> None:
    assert hashing_threads(cores) == threads
