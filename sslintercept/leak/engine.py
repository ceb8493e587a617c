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
from typing import Any, Final, NamedTuple, Protocol

import hyperscan

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import NUMERALS, SEPARATORS, first_bytes, numerals, widths

MOST_APART: Final = 128
"""marks that are asked for first; more are words of dictionaries, which are best looked for together"""
MOST_PASSES: Final = 3
"""marks that are looked for one by one; of more, as in dumps and tables, all are looked for in one pass"""
FEW_FIRSTS: Final = 4
"""bytes that words may begin with"""
LONG_NUMBER: Final = 9
"""digits, and what may stand for some, that words and dates of prose do not have one after the other"""
LONG: Final = b"[0-9](?:[%b]*[%b]){%d}" % (
    re.escape(bytes(sorted(SEPARATORS))),
    bytes(sorted(NUMERALS)),
    LONG_NUMBER - 1,
)
_DIGITS: Final = frozenset(b"0123456789")
_CAPITALS: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_")


class Mark(NamedTuple):
    """What an engine looks for: a pattern without look-around, and classes of bytes that must not stand beside it."""

    name: str
    """of what it is for, in errors"""
    pattern: bytes
    before: bytes = b""
    after: bytes = b""
    lead: int = 0
    """bytes that what is looked for has in front of the mark; what must not stand in front of that is not looked at"""
    own: bool = False
    """an administrator's: nobody has measured how it goes together with others"""
    needs: bytes = b""
    """a pattern without which it is nothing; an engine may look for that first"""


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
        self._leads: Final = [mark.lead for mark in marks]

    def places(self, text: bytes) -> list[Places]:
        found = []
        for number, pattern in enumerate(self._patterns):
            match = pattern.search(text)
            while match is not None:
                at = match.start()
                found.append(Places(number, at - self._leads[number], at - self._leads[number]))
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
        self._least: Final = [least + mark.lead for (least, _), mark in zip(all_widths, marks, strict=True)]
        self._most: Final = [most + 1 + mark.lead for (_, most), mark in zip(all_widths, marks, strict=True)]
        self._database: Final = _compiled([_consuming(mark) for mark in marks], marks) if marks else None

    def places(self, text: bytes) -> list[Places]:
        if self._database is None:
            return []
        ends: list[tuple[int, int]] = []

        def found(number: int, _begin: int, end: int, _flags: int, _context: object) -> None:
            ends.append((number, end))

        self._database.scan(text, match_event_handler=found)
        least, most = self._least, self._most
        return [Places(number, max(end - most[number], 0), end - least[number]) for number, end in ends]


class PresenceEngine:
    """
    Asks first which marks are there at all, which mostly none is, and looks for the places of those only.

    To Hyperscan it is much cheaper to say that a mark is somewhere, whatever is beside it, than where. Marks of long
    numbers cost most, as every number may be one: they are looked for only where a number is that long. Marks that need
    something else, and begin with what is in every word, are looked for only where that is. All others go together, but
    for those of an administrator that begin so; each of them has a pass.

    @raise ConfigError: as L{HyperscanEngine}.
    """

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._marks: Final = list(marks)
        self._precise: Final[dict[int, HyperscanEngine]] = {}
        """by number of the mark, made when it is there for the first time"""
        self._together: Final = HyperscanEngine(marks)
        """looks for all of them, where many are there"""
        self._many = False
        """they were in the text before this one: dumps and tables have more than one window"""
        rest: list[int] = []
        apart: list[int] = []
        needing: dict[bytes, list[int]] = {}
        for number, mark in enumerate(marks):
            if is_long(mark.pattern):
                needing.setdefault(LONG, []).append(number)
            elif mark.needs and not is_word(mark.pattern):
                needing.setdefault(mark.needs, []).append(number)
            elif mark.own and not is_word(mark.pattern):
                apart.append(number)
            else:
                rest.append(number)
        needed = [Mark(marks[numbers[0]].name, needs) for needs, numbers in needing.items()]
        self._needing: Final = [self._presence(numbers) for numbers in needing.values()]
        """asked where what they need is"""
        passes = [self._presence([number]) for number in apart]
        if rest or needed:
            passes.insert(0, self._presence(rest, needed))
        self._passes: Final = passes

    def _presence(self, numbers: list[int], others: Sequence[Mark] = ()) -> tuple[Any, list[int]]:  # Any: a database
        """A database that says which of these marks are there, and their numbers; those of others go down from -1."""
        marks = [*(self._marks[number] for number in numbers), *others]
        expressions = [b"(?:%b)" % mark.pattern for mark in marks]
        database = _compiled(expressions, marks, hyperscan.HS_FLAG_DOTALL | hyperscan.HS_FLAG_SINGLEMATCH)
        return database, [*numbers, *range(-1, -1 - len(others), -1)]

    def places(self, text: bytes) -> list[Places]:
        if self._many:
            places = self._together.places(text)
            self._many = len({place.number for place in places}) > MOST_PASSES
            return places
        there: list[int] = []
        numbers: list[int] = []

        def found(number: int, _begin: int, _end: int, _flags: int, _context: object) -> None:
            there.append(numbers[number])

        for database, numbers in self._passes:  # noqa: B007 - found() reads it
            database.scan(text, match_event_handler=found)
        if not there:
            return []
        for needed in [number for number in there if number < 0]:
            there.remove(needed)
            database, numbers = self._needing[-1 - needed]
            database.scan(text, match_event_handler=found)
        if len(there) > MOST_PASSES:
            self._many = True
            return self._together.places(text)
        places = []
        for number in there:
            engine = self._precise.get(number)
            if engine is None:
                engine = self._precise[number] = HyperscanEngine([self._marks[number]])
            places += [place._replace(number=number) for place in engine.places(text)]
        return places


def is_long(pattern: bytes) -> bool:
    """Whether L{LONG} is in every match."""
    return first_bytes(pattern) <= _DIGITS and numerals(pattern) >= LONG_NUMBER


def is_word(pattern: bytes) -> bool:
    """Whether matches begin with few bytes, or with bytes that few words begin with."""
    firsts = first_bytes(pattern)
    return len(firsts) <= FEW_FIRSTS or firsts <= _CAPITALS


def _compiled(expressions: list[bytes], marks: Sequence[Mark], flags: int = hyperscan.HS_FLAG_DOTALL) -> Any:
    """
    A database; Any: the library has no types for it.

    @raise ConfigError: a mark is none to Hyperscan.
    """
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)

    def compile(expressions: list[bytes]) -> None:
        count = len(expressions)
        database.compile(expressions=expressions, ids=list(range(count)), elements=count, flags=[flags] * count)

    try:
        compile(expressions)
    except hyperscan.error as error:
        for expression, mark in zip(expressions, marks, strict=True):
            try:
                compile([expression])
            except hyperscan.error as found:
                where = f"detector {mark.name}"
                raise ConfigError(str(found), where=where, remedy="write the pattern without it") from None
        raise ConfigError(str(error), where="hyperscan", remedy="choose the engine `re`") from None
    return database


def _looking(mark: Mark) -> bytes:
    before = b"(?<![%b])" % mark.before if mark.before and not mark.lead else b""
    after = b"(?![%b])" % mark.after if mark.after else b""
    return before + b"(?:%b)" % mark.pattern + after


def _consuming(mark: Mark) -> bytes:
    """The mark with what is beside it, as there is no look-around; it tells most of what is none from what is one."""
    before = b"(?:^|[^%b])" % mark.before if mark.before and not mark.lead else b""
    after = b"(?:[^%b]|$)" % mark.after if mark.after else b""
    return before + b"(?:%b)" % mark.pattern + after


def make_engine(marks: Sequence[Mark], kind: str = "hyperscan") -> Engine:
    """
    Make an engine: C{hyperscan} or C{re}.

    @raise ConfigError: there is no such engine, or a pattern is none to it.
    """
    if kind not in ("hyperscan", "re"):
        raise ConfigError(f"no engine {kind}", where="leak", remedy="choose hyperscan or re")
    if kind == "re":
        return PlainEngine(marks)
    return PresenceEngine(marks) if len(marks) <= MOST_APART else HyperscanEngine(marks)
