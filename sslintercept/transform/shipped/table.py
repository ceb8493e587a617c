"""The transforms that ship, by the names that C{use =} gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sslintercept.transform.plugin import Factory

SHIPPED: Final[Mapping[str, Factory]] = {}
