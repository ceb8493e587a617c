"""
Which messages a transform gets: the conditions of rules, and those that only a message can be asked.

At the time of a request nothing is known of its response; what depends on that answers "not yet", exactly as in rules.
So L{sslintercept.rule.match.Match.judge} tells a transform that will never get the response from one that may.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sslintercept.config.units import size
from sslintercept.facts import UNKNOWN, Facts
from sslintercept.rule.match import CONDITIONS, Kind, Ports, Value, Words, parse_with
from sslintercept.transform.message import Direction, Message

MOST: Final = 2**62
"""bytes of a body"""
_TYPE = re.compile(r"(?:\*|[a-z0-9!#$&^_.+-]+)/(?:\*|[a-z0-9!#$&^_.+-]+)")


class Globs:
    """Texts in which C{*} stands for anything: paths."""

    def __init__(self, values: Sequence[str]) -> None:
        self.exact = {value: value for value in values if "*" not in value}
        self.globs = [(value.split("*"), value) for value in values if "*" in value]

    def find(self, value: str) -> str | None:
        if (found := self.exact.get(value)) is not None:
            return found
        return next((text for parts, text in self.globs if self.fits(parts, value)), None)

    @staticmethod
    def fits(parts: list[str], value: str) -> bool:
        """Each part at its first place behind the one before: once through the value, however many stars there are."""
        first, *middle, last = parts
        if not value.startswith(first) or not value.endswith(last) or len(value) < len(first) + len(last):
            return False
        at, end = len(first), len(value) - len(last)
        for part in middle:
            at = value.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True


class MediaTypes:
    """C{text/html}, C{text/*}, C{*/*}."""

    def __init__(self, values: Sequence[str]) -> None:
        self.types = {value.lower(): value for value in values}
        for folded, value in self.types.items():
            if not _TYPE.fullmatch(folded):
                raise ValueError(f"{value!r} is not a media type like text/html or text/*")

    def find(self, value: str) -> str | None:
        types = self.types
        return types.get(value) or types.get(value.partition("/")[0] + "/*") or types.get("*/*")


class Statuses(Ports):
    """C{200}, C{300-399}, C{4xx}."""

    lowest, highest = 100, 599
    what = "a status (100 to 599), a class like 4xx, or a range like 300-399"

    def __init__(self, values: Sequence[str]) -> None:
        spelled = {f"{value[0]}00-{value[0]}99" if value[1:].lower() == "xx" else value: value for value in values}
        super().__init__(list(spelled))
        self.spelled = spelled

    def find(self, value: str) -> str | None:
        found = super().find(value)
        return None if found is None else self.spelled[found]


class Sizes:
    """C{1KiB-10MiB}, C{10MiB-} and above, C{-64KiB} and below, both ends included."""

    def __init__(self, values: Sequence[str]) -> None:
        self.ranges: list[tuple[int, int, str]] = []
        read = size("0B", "1000000GiB")
        for value in values:
            low, dash, high = value.partition("-")
            try:
                if not dash or not (low or high):
                    raise ValueError
                bounds = read(low) if low else 0, read(high) if high else MOST
                if bounds[0] > bounds[1]:
                    raise ValueError
            except ValueError:
                raise ValueError(f"{value!r} is not a range of sizes like 1KiB-10MiB, 10MiB- or -64KiB") from None
            self.ranges.append((*bounds, value))

    def find(self, value: str) -> str | None:
        return next((text for low, high, text in self.ranges if low <= int(value) <= high), None)


class Directions(Words):
    """C{request} or C{response}."""

    def __init__(self, values: Sequence[str]) -> None:
        super().__init__(values)
        for value in self.words:
            if value not in (Direction.REQUEST.value, Direction.RESPONSE.value):
                raise ValueError(f"{value!r} is neither request nor response")


def check_message_match(text: str) -> None:
    """@raise ValueError: *text* is no match of messages, or one that no message can have."""
    asked = {each.name: each for each in parse_with(CONDITIONS_OF_MESSAGES, text).conditions if not each.negated}
    direction = asked.get("direction")
    if direction is not None and "status" in asked and direction.table.find("response") is None:
        raise ValueError("requests have no status; ask for direction:response, or for no direction")


def status_of(message: Message) -> Value:
    if message.direction is Direction.REQUEST:
        return None
    return UNKNOWN if message.response is None else str(message.response.status)


def type_of(message: Message) -> Value:
    return UNKNOWN if message.awaited else message.media_type or None


def size_of(message: Message) -> Value:
    if message.awaited:
        return UNKNOWN
    return None if message.length is None else str(message.length)


def of_connection(kind: Kind[Facts]) -> Kind[Message]:
    """A condition of rules, asked of the connection that a message comes by."""
    return Kind(lambda message: kind.read(message.facts), kind.table, kind.needs)


NOTHING: Final = frozenset[str]()
CONDITIONS_OF_MESSAGES: Final[dict[str, Kind[Message]]] = {
    **{name: of_connection(kind) for name, kind in CONDITIONS.items()},
    "host": Kind(lambda message: message.request.authority.host, CONDITIONS["host"].table, NOTHING),
    "port": Kind(lambda message: str(message.request.authority.port), CONDITIONS["port"].table, NOTHING),
    "path": Kind(lambda message: message.path, Globs, NOTHING),
    "method": Kind(lambda message: message.request.method.decode("latin-1"), Words, NOTHING),
    "direction": Kind(lambda message: message.direction.value, Directions, NOTHING),
    "status": Kind(status_of, Statuses, NOTHING),
    "type": Kind(type_of, MediaTypes, NOTHING),
    "size": Kind(size_of, Sizes, NOTHING),
}
