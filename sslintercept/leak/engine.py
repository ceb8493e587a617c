"""
Where marks may begin: many patterns at once over a window, by Hyperscan, or one after the other by C{re}.

An engine says too much rather than too little: a place it names is looked at with the whole pattern, so that both
engines lead to the same findings. Hyperscan (Vectorscan's library, in the distribution C{hyperscan}) tells where marks
end; with their widths that is where they may begin. Costs and risks: docs/decisions/0018-leak-engine.md.

One engine serves all streams of a thread: Hyperscan's scratch space is for one scan at a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import hyperscan

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import widths


class Mark(NamedTuple):
    """What an engine looks for: a pattern without look-around, and classes of bytes that must not stand beside it."""

    name: str
    """of what it is for, in errors"""
    pattern: bytes
    before: bytes = b""
    after: bytes = b""


class Places(NamedTuple):
    """The mark with this number may begin at *first* to *last*, both included."""

    number: int
    first: int
    last: int


class Engine(Protocol):
    """Looks for a set of marks."""

    def places(self, text: bytes) -> list[Places]:
        """All places of all marks, in no order; some may hold none."""


class PlainEngine:
    """Marks one after the other with C{re}: a hundred times slower, and no C code but Python's own."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._patterns: Final = [re.compile(_looking(mark), re.DOTALL) for mark in marks]

    def places(self, text: bytes) -> list[Places]:
        found = []
        for number, pattern in enumerate(self._patterns):
            match = pattern.search(text)
            while match is not None:
                at = match.start()
                found.append(Places(number, at, at))
                match = pattern.search(text, at + 1)
        return found


class HyperscanEngine:
    """
    All marks in one pass.

    @raise ConfigError: a mark is none to Hyperscan, or the processor is none for it.
    """

    def __init__(self, marks: Sequence[Mark]) -> None:
        all_widths = [widths(mark.pattern) for mark in marks]
        # The byte behind a match may count as its end, so a beginning may be one further in front.
        self._least: Final = [least for least, _ in all_widths]
        self._most: Final = [most + 1 for _, most in all_widths]
        self._database: Final = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        if not marks:
            return
        try:
            self._compile([_consuming(mark) for mark in marks])
        except hyperscan.error as error:
            raise self._culprit(marks, error) from None

    def _compile(self, expressions: list[bytes]) -> None:
        count = len(expressions)
        flags = [hyperscan.HS_FLAG_DOTALL] * count
        self._database.compile(expressions=expressions, ids=list(range(count)), elements=count, flags=flags)

    def _culprit(self, marks: Sequence[Mark], error: Exception) -> ConfigError:
        for mark in marks:
            try:
                self._compile([_consuming(mark)])
            except hyperscan.error as found:
                return ConfigError(str(found), where=f"detector {mark.name}", remedy="write the pattern without it")
        return ConfigError(str(error), where="hyperscan", remedy="choose the engine `re`")

    def places(self, text: bytes) -> list[Places]:
        if not self._least:
            return []
        ends: list[tuple[int, int]] = []

        def found(number: int, _begin: int, end: int, _flags: int, _context: object) -> None:
            ends.append((number, end))

        self._database.scan(text, match_event_handler=found)
        least, most = self._least, self._most
        return [Places(number, max(end - most[number], 0), end - least[number]) for number, end in ends]


def _looking(mark: Mark) -> bytes:
    before = b"(?<![%b])" % mark.before if mark.before else b""
    after = b"(?![%b])" % mark.after if mark.after else b""
    return before + b"(?:%b)" % mark.pattern + after


def _consuming(mark: Mark) -> bytes:
    """The mark with what is beside it, as there is no look-around; it tells most of what is none from what is one."""
    before = b"(?:^|[^%b])" % mark.before if mark.before else b""
    after = b"(?:[^%b]|$)" % mark.after if mark.after else b""
    return before + b"(?:%b)" % mark.pattern + after


def make_engine(marks: Sequence[Mark], kind: str = "hyperscan") -> Engine:
    """
    Make an engine: C{hyperscan} or C{re}.

    @raise ConfigError: there is no such engine, or a pattern is none to it.
    """
    if kind not in ("hyperscan", "re"):
        raise ConfigError(f"no engine {kind}", where="leak", remedy="choose hyperscan or re")
    return HyperscanEngine(marks) if kind == "hyperscan" else PlainEngine(marks)
