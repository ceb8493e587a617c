"""All detectors that ship, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sslintercept.errors import ConfigError
from sslintercept.leak import credential, money, person
from sslintercept.leak.detector import Detector

GROUPS: Final[dict[str, tuple[Detector, ...]]] = {
    "payment": money.DETECTORS,
    "person": person.DETECTORS,
    "credential": credential.DETECTORS,
}
TABLE: Final[dict[str, Detector]] = {each.name: each for group in GROUPS.values() for each in group}


def chosen(names: Iterable[str]) -> tuple[Detector, ...]:
    """
    Give the detectors of some names; the name of a group stands for all of it.

    @raise ConfigError: there is none of that name.
    """
    found: dict[str, Detector] = {}
    for name in names:
        if name in GROUPS:
            found.update((each.name, each) for each in GROUPS[name])
        elif name in TABLE:
            found[name] = TABLE[name]
        else:
            known = ", ".join([*GROUPS, *TABLE])
            raise ConfigError(f"no detector {name}", where="detectors", remedy=f"use some of {known}")
    return tuple(found.values())
