"""
Words and phrases with weights: found in any case, counted once each, alone or one within a distance of another.

Words of scripts with spaces are found as whole words, or with C{*} at the end as beginnings; others anywhere. Between
the words of a phrase there may be some white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import LONGEST, SURE
from sslintercept.leak.engine import Mark, make_engine
from sslintercept.leak.fold import fold_text
from sslintercept.leak.view import BEHIND, Hit, Looking, View

MOST_TERMS: Final = 20_000
MOST_WITHIN: Final = 2048
"""bytes between the two of a pair"""
GAP: Final = 16
"""bytes of white space between the words of a phrase"""
_LETTER: Final = rb"0-9a-z_\x80-\xff"


@dataclass(frozen=True)
class Pair:
    """One of some terms within a distance of one of others, on either side."""

    first: Sequence[str]
    second: Sequence[str]
    within: int = 200
    """bytes of folded text between them"""
    weight: int = 1


@dataclass(frozen=True)
class Dictionary:
    """
    Terms that count together.

    It is found once in a stream: where the weights of the different terms and pairs found so far reach *least*.
    """

    name: str
    terms: Mapping[str, int] = field(default_factory=dict)
    """and what each weighs"""
    pairs: Sequence[Pair] = ()
    least: int = 1
    score: int = SURE


class _Term:
    __slots__ = ("pairs", "pattern", "text", "weight")

    def __init__(self, text: str, pattern: re.Pattern[bytes]) -> None:
        self.text, self.pattern = text, pattern
        self.weight: int = 0
        self.pairs: list[tuple[int, int]] = []
        """numbers of pairs, and which side of them this is"""


class Dictionaries(Looking):
    """
    Dictionaries made ready; shared by all streams.

    @raise ConfigError: a term is empty or too long, there are too many, or a distance is too great.
    """

    def __init__(self, dictionaries: Sequence[Dictionary], *, engine: str = "hyperscan") -> None:
        self.dictionaries: Final = tuple(dictionaries)
        self.terms: Final[list[tuple[int, _Term]]] = []
        """with the number of the dictionary"""
        firsts: dict[bytes, list[int]] = {}
        for number, dictionary in enumerate(self.dictionaries):
            for term, first in _terms(dictionary):
                firsts.setdefault(first, []).append(len(self.terms))
                self.terms.append((number, term))
        if len(self.terms) > MOST_TERMS:
            what = f"{len(self.terms)} terms"
            raise ConfigError(what, where="dictionaries", remedy=f"have at most {MOST_TERMS}")
        self.of_mark: Final = list(firsts.values())
        """numbers of the terms that begin with each mark"""
        marks = [Mark(repr(first.decode("utf-8", "replace")), re.escape(first)) for first in firsts]
        self.engine: Final = make_engine(marks, engine)

    def start(self, least: int) -> DictionaryLook:
        """Look at one stream; dictionaries that are worth less than *least* say nothing."""
        return DictionaryLook(self, least)


def _terms(dictionary: Dictionary) -> Iterator[tuple[_Term, bytes]]:
    """The terms, and of each the first word."""
    where = f"dictionary {dictionary.name}"
    found: dict[str, tuple[_Term, bytes]] = {}

    def term(text: str) -> _Term:
        words = fold_text(text).lower().encode().split()
        if (
            not words
            or not words[0].strip(b"*")
            or not words[-1].strip(b"*")
            or len(text.encode()) > LONGEST // 2
            or len(words) > 8
        ):
            raise ConfigError(
                f"the term {text[:40]!r} is empty or too long", where=where, remedy="write one to eight words"
            )
        key = b" ".join(words).decode()
        if key not in found:
            open_end = words[-1].endswith(b"*")
            words[-1] = words[-1].rstrip(b"*")
            before = b"(?<![%b])" % _LETTER if words[0][0] < 0x80 else b""
            after = b"(?![%b])" % _LETTER if words[-1][-1] < 0x80 and not open_end else b""
            gap = rb"[ \t\r\n]{1,%d}" % GAP
            pattern = re.compile(before + gap.join(map(re.escape, words)) + after)
            found[key] = _Term(text, pattern), words[0]
        return found[key][0]

    for text, weight in dictionary.terms.items():
        term(text).weight = weight
    for number, pair in enumerate(dictionary.pairs):
        if not 0 <= pair.within <= MOST_WITHIN:
            what = f"{pair.within} bytes between the terms of a pair"
            raise ConfigError(what, where=where, remedy=f"have at most {MOST_WITHIN}")
        for side, texts in enumerate((pair.first, pair.second)):
            for text in texts:
                term(text).pairs.append((number, side))
    return iter(found.values())


class _State:
    """What one stream has of one dictionary."""

    __slots__ = ("last", "seen", "told", "weight")

    def __init__(self, dictionary: Dictionary) -> None:
        self.seen: dict[str, None] = {}
        """terms and pairs, in order"""
        self.last = [[-(1 << 62), -(1 << 62)] for _ in dictionary.pairs]
        """where the last term of each side ended"""
        self.weight = 0
        self.told = False


class DictionaryLook:
    """Looks at one stream."""

    __slots__ = ("_all", "_least", "_states")

    def __init__(self, dictionaries: Dictionaries, least: int) -> None:
        self._all, self._least = dictionaries, least
        self._states = [_State(each) for each in dictionaries.dictionaries]

    def look(self, view: View) -> Iterator[Hit]:
        if all(state.told for state in self._states):
            return
        found: set[tuple[int, int, int]] = set()
        low, begin, limit, terms = view.low, view.begin, view.limit, self._all.terms
        for number, first, last in self._all.engine.places(low):
            for at in range(max(first, begin), min(last, limit - 1) + 1):
                for term in self._all.of_mark[number]:
                    if (match := terms[term][1].pattern.match(low, at)) is not None:
                        found.add((at, match.end(), term))
        for at, end, which in sorted(found):
            dictionary, found_term = terms[which]
            hit = self._count(dictionary, found_term, view.base + at, view.base + end)
            if hit is not None:
                yield hit

    def _count(self, number: int, term: _Term, begin: int, end: int) -> Hit | None:
        dictionary, state = self._all.dictionaries[number], self._states[number]
        if state.told:
            return None
        if term.weight and term.text not in state.seen:
            state.seen[term.text] = None
            state.weight += term.weight
        for pair, side in term.pairs:
            what, name = dictionary.pairs[pair], f"pair {pair + 1}"
            if begin - state.last[pair][1 - side] <= what.within and name not in state.seen:
                state.seen[name] = None
                state.weight += what.weight
        for pair, side in term.pairs:
            state.last[pair][side] = max(state.last[pair][side], end)
        if state.weight < dictionary.least or dictionary.score < self._least:
            return None
        state.told = True
        evidence = ", ".join(list(state.seen)[:8])
        return Hit(begin, dictionary.name, begin, end, evidence[:BEHIND], dictionary.score, hash(dictionary.name))
