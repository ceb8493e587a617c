"""
What an answer of ICAP says was found, in the three forms that are in use (draft-stecher-icap-subid 3.4 to 3.6).

A field that cannot be read still says that something was found: it is told with its beginning as the name.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sslintercept.icap.wire import ReplyHead

MOST_THREATS: Final = 64
"""threats of one answer that are told"""
MOST_NAME: Final = 256
"""bytes of a name that are told"""

KINDS: Final = {b"0": "virus", b"1": "violation", b"2": "other"}
RESOLUTIONS: Final = {b"0": "not repaired", b"1": "repaired", b"2": "blocked"}

_INFECTION = re.compile(
    rb"Type[ \t]*=[ \t]*([0-9])[ \t]*;[ \t]*Resolution[ \t]*=[ \t]*([0-9])[ \t]*;"
    rb"[ \t]*Threat[ \t]*=[ \t]*([^;]+);?[ \t]*",
    re.IGNORECASE,
)


class Threat(NamedTuple):
    """
    Something that was found.

    @ivar kind: C{virus}, C{violation}, C{other}, or C{unknown}.
    @ivar resolution: what was done: C{not repaired}, C{repaired}, C{blocked}, or C{unknown}.
    @ivar item: the part it was in, if that is told.
    """

    name: str
    kind: str = "unknown"
    resolution: str = "unknown"
    item: str = ""


def threats(head: ReplyHead) -> tuple[Threat, ...]:
    """
    What was found; of the three forms the one that tells most of them, since all tell the same.

    Of forms that tell as many the infection comes first: c-icap says in it that something was blocked, and in the
    violations that nothing was done.
    """
    found: list[Threat] = []
    for name, read in (
        (b"x-infection-found", _infection),
        (b"x-violations-found", _violations),
        (b"x-virus-id", lambda value: [Threat(_text(value))]),
    ):
        told = [threat for value in head.values(name) for threat in read(value)]
        if len(told) > len(found):
            found = told
    return tuple(found[:MOST_THREATS])


def _infection(value: bytes) -> list[Threat]:
    match = _INFECTION.fullmatch(value)
    if match is None:
        return [Threat(_text(value))]
    return [Threat(_text(match[3]), KINDS.get(match[1], "unknown"), RESOLUTIONS.get(match[2], "unknown"))]


def _violations(value: bytes) -> list[Threat]:
    """A number, then four lines for each: the part, the name, a number of the vendor's, what was done."""
    count, *lines = (line.strip(b" \t") for line in value.split(b"\n"))
    if not count.isdigit():
        return [Threat(_text(value))]
    found = []
    for at in range(0, len(lines) - 3, 4):
        item, name, _, resolution = lines[at : at + 4]
        found.append(Threat(_text(name), "violation", RESOLUTIONS.get(resolution, "unknown"), _text(item)))
    return found or ([Threat(_text(value))] if int(count[:9]) else [])


def _text(value: bytes) -> str:
    return value.strip()[:MOST_NAME].decode("latin-1")
