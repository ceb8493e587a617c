"""
What a detector is: a row of a table, with a pattern, what must be true of a match, and what it is worth.

The engine looks for the I{mark} in everything that passes, so it must be rare. Where one is, the I{whole} pattern is
tried, which begins with it; what must not stand beside a match counts in both. All is bounded: a match has at most
L{LONGEST} bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from re import _parser  # type: ignore[attr-defined]  # the one place that knows how long a match can be
from typing import Final

from sslintercept.errors import ConfigError

LONGEST: Final = 512
"""bytes of a match"""
NEAR: Final = 80
"""bytes of folded text before and behind a match in which words count that make it more likely"""
MOST_WAYS: Final = 20_000
"""ways in which a pattern of an administrator may be tried at one place, which bounds what hostile text costs"""
MOST_STARS: Final = 24
"""of evidence"""
WORD: Final = b"0-9A-Za-z_"
SURE: Final = 100
NUMERALS: Final = frozenset(b"0123456789AaBb")
"""what long numbers are made of; letters, because those of Corsicans in France have one"""
SEPARATORS: Final = frozenset(b" +-.")
"""and what may stand between"""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")

Check = Callable[[bytes], int]
"""What a match is worth, 0 if it is none: L{SURE} needs nothing else, and from there it goes down."""


def masked(secret: bytes, front: int, back: int) -> str:
    """
    Give evidence that does not give the secret away: letters and digits are stars except the first and last few.

    @param front: letters and digits kept in front, together with *back* at most two thirds of them.
    """
    text = secret.decode("utf-8", "replace")
    places = [at for at, character in enumerate(text) if character.isalnum()]
    most = len(places) * 2 // 3
    front = min(front, most)
    back = min(back, most - front)
    kept = {*places[:front], *places[len(places) - back :]}
    starred = [
        character if at in kept or character in " -._/:" else "*"
        for at, character in enumerate(text)
        if character >= " "
    ]
    if len(starred) > MOST_STARS + front + back:
        return "".join([*starred[: front + MOST_STARS // 2], "…", *starred[len(starred) - back - MOST_STARS // 2 :]])
    return "".join(starred)


_ALL: Final = frozenset(range(256))


@dataclass(frozen=True, slots=True)
class Detector:
    """
    One kind of thing that must not leave.

    A group in the pattern is the secret; without one all of the match is.
    """

    name: str
    title: str
    mark: bytes
    """found by the engine: no look-around, no back-references, bounded repeats"""
    whole: bytes = b""
    """each match of it has one of the mark at C{lead}; without one the mark is all. Look-around is allowed"""
    before: bytes = WORD
    """a class of bytes that must not stand in front"""
    after: bytes = WORD
    """and none of these behind"""
    number: bool = False
    """digits behind a decimal point, or behind a hyphen after others, are none"""
    check: Check | None = None
    """what the secret is worth; without one a match is worth *score*"""
    score: int = SURE
    most: int = SURE
    """what the check finds it worth at most"""
    near: tuple[str, ...] = ()
    """beginnings of words, in lower case; one of them nearby makes the worth *near_score*"""
    near_score: int = SURE
    company: bool = False
    """many of them together, and few that only look like it, are sure without any word nearby"""
    lead: int = 0
    """bytes of a match in front of the mark: what is rare may stand further behind"""
    front: int = 0
    """letters and digits of the secret that evidence keeps in front"""
    back: int = 0
    source: str = ""
    """where the format is from"""
    own: bool = False
    """an administrator's"""
    pattern: re.Pattern[bytes] = field(init=False, repr=False, compare=False)
    longest: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """
        Make the patterns.

        @raise ConfigError: they cannot be compiled, or match nothing, or more than L{LONGEST} bytes.
        """
        where = f"detector {self.name}"
        whole = b"(?:%b)" % (self.whole or self.mark)
        before = b"(?<![%b])" % self.before if self.before else b""
        if self.number:
            before += rb"(?<![0-9][.-])"
        after = b"(?![%b])" % self.after if self.after else b""
        try:
            pattern = re.compile(before + whole + after, re.DOTALL)
        except re.error as error:
            raise ConfigError(f"no pattern ({error})", where=where, remedy="correct the pattern") from None
        least, most = widths(whole)
        if not least or most > LONGEST:
            what = f"a match may have {least} to {most} bytes"
            raise ConfigError(what, where=where, remedy=f"let it have 1 to {LONGEST}: say {{1,20}} where + is")
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "longest", most)

    @property
    def alone(self) -> int:
        """What a match is worth at most without any word nearby."""
        return self.score if self.check is None else self.most

    @property
    def words(self) -> list[bytes]:
        """C{near}, as it is in text."""
        return [word.encode() for word in self.near]

    def group(self, found: re.Match[bytes]) -> int:
        """Which group of a match is the secret."""
        return 1 if self.pattern.groups and found[1] is not None else 0

    def evidence(self, found: re.Match[bytes]) -> str:
        """The match, masked; what is in front of the secret is kept."""
        group = self.group(found)
        head = found[0][: found.start(group) - found.start()].decode("utf-8", "replace")
        return _CONTROL.sub(" ", head) + masked(found[group], self.front, self.back)


def widths(pattern: bytes) -> tuple[int, int]:
    """The least and most bytes that a pattern matches."""
    least, most = _parser.parse(pattern, re.DOTALL).getwidth()
    return int(least), int(most)


def first_bytes(pattern: bytes) -> frozenset[int]:
    """The bytes that a match may begin with, as far as that is easy to say; else all."""
    return _firsts(_parser.parse(pattern, re.DOTALL))


def _firsts(parsed: object) -> frozenset[int]:
    for kind, argument in parsed:  # type: ignore[attr-defined]  # pairs, as the parser makes them
        name = str(kind)
        if name == "LITERAL":
            return frozenset((int(argument),))
        if name == "IN":
            return _listed(argument)
        if name == "BRANCH":
            return frozenset().union(*(_firsts(branch) for branch in argument[1]))
        if name == "SUBPATTERN":
            return _firsts(argument[-1])
        if name == "MAX_REPEAT" and int(argument[0]) > 0:
            return _firsts(argument[2])
        break
    return _ALL


def numerals(pattern: bytes) -> int:
    """How many of L{NUMERALS} every match begins with, at least, with nothing but L{SEPARATORS} between them."""
    return _numerals(_parser.parse(pattern, re.DOTALL))[0]


def _numerals(parsed: object) -> tuple[int, bool]:
    """The same, and whether there is nothing else behind them."""
    count = 0
    for kind, argument in parsed:  # type: ignore[attr-defined]  # pairs, as the parser makes them
        name = str(kind)
        least, more = 1, [(0, False)]
        if name in ("LITERAL", "IN"):
            listed = frozenset((int(argument),)) if name == "LITERAL" else _listed(argument)
            more = [(int(listed <= NUMERALS), listed <= NUMERALS | SEPARATORS)]
        elif name == "BRANCH":
            more = [_numerals(branch) for branch in argument[1]]
        elif name == "SUBPATTERN":
            more = [_numerals(argument[-1])]
        elif name == "MAX_REPEAT":
            least, more = int(argument[0]), [_numerals(argument[2])]
        whole = all(whole for _, whole in more)
        count += min(each for each, _ in more) * (least if whole else min(least, 1))
        if not whole:
            return count, False
    return count, True


def _listed(items: object) -> frozenset[int]:
    found: set[int] = set()
    for kind, argument in items:  # type: ignore[attr-defined]  # likewise
        if str(kind) == "LITERAL":
            found.add(int(argument))
        elif str(kind) == "RANGE":
            found.update(range(int(argument[0]), int(argument[1]) + 1))
        else:
            return _ALL
    return frozenset(found)


def ways(pattern: bytes) -> int:
    """In how many ways a pattern may be tried at one place, at most: the steps of a search that goes back."""
    return _ways(_parser.parse(pattern, re.DOTALL))


def _ways(parsed: object) -> int:
    total = 1
    for kind, argument in parsed:  # type: ignore[attr-defined]  # pairs, as the parser makes them
        if str(kind) in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = argument
            each = _ways(inner)
            most, least = min(int(most), LONGEST + 1), min(int(least), LONGEST)
            total *= most - least + 1 if each == 1 else min(each**most, 1 << 64) * (most - least + 1)
        elif str(kind) == "BRANCH":
            total *= sum(_ways(branch) for branch in argument[1])
        elif str(kind) in ("SUBPATTERN", "ASSERT", "ASSERT_NOT", "ATOMIC_GROUP"):
            inner = argument[-1] if isinstance(argument, tuple) else argument
            total *= _ways(inner)
        elif str(kind) in ("GROUPREF", "GROUPREF_EXISTS"):
            total = 1 << 64
        total = min(total, 1 << 64)
    return total


def detector(name: str, pattern: str, *, title: str = "", score: int = SURE, near: tuple[str, ...] = ()) -> Detector:
    """
    Make a detector of an administrator's pattern; without a word of *near* it is worth two fifths of *score*.

    @raise ConfigError: the pattern is no pattern, too long, or hostile text could make it slow.
    """
    raw = pattern.encode()
    try:
        count = ways(raw)
    except re.error as error:
        raise ConfigError(f"no pattern ({error})", where=f"detector {name}", remedy="correct the pattern") from None
    if count > MOST_WAYS:
        what = f"there are more than {MOST_WAYS} ways to try the pattern at one place"
        raise ConfigError(what, where=f"detector {name}", remedy="bound its repeats, and put none into another")
    edge = WORD if pattern[:1].isalnum() or pattern[:1] in "[(\\" else b""
    worth = score * 2 // 5 if near else score
    return Detector(name, title or name, raw, before=edge, score=worth, near=near, near_score=score, front=2, own=True)
