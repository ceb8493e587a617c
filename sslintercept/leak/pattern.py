"""Detectors at work: a place that the engine names becomes a match, and the match a hit, if it is right."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sslintercept.leak.detector import NEAR, Detector
from sslintercept.leak.engine import Engine, Mark, Places, make_engine
from sslintercept.leak.view import Hit, Looking, View

ENOUGH: Final = 8
"""different ones that pass the check make company"""
REFUTED: Final = 2
"""for that many that pass, one may fail"""
FEW: Final = 4
"""places that are tried one by one"""
MOST_NEEDED: Final = 2048
"""bytes of a pattern of words nearby"""
MOST_COMPANY: Final = 64
"""hits that wait for company"""


class Patterns(Looking):
    """
    Detectors made ready; shared by all streams.

    @param least: what is worth less is nothing to any of them.
    @raise ConfigError: as L{make_engine}.
    """

    def __init__(self, detectors: Sequence[Detector], least: int = 0, *, engine: str = "hyperscan") -> None:
        self.detectors: Final = tuple(detectors)
        self.least: Final = least
        marks = [
            Mark(
                each.name,
                each.mark,
                each.before,
                b"" if each.whole else each.after,
                each.lead,
                each.own,
                _needed(each, least),
            )
            for each in detectors
        ]
        self.engine: Final[Engine] = make_engine(marks, engine)
        numbers: dict[bytes, int] = {}
        self.near: Final = [[numbers.setdefault(word, len(numbers)) for word in each.words] for each in detectors]
        """numbers of the words of each detector"""
        self.words: Final = list(numbers)
        self.word_engine: Final = make_engine([Mark("near", re.escape(word)) for word in self.words], engine)

    def start(self, least: int) -> PatternLook:
        """Look at one stream, for what is worth *least* or more."""
        return PatternLook(self, max(least, self.least))

    def whole(self, view: View, least: int) -> Iterable[Hit]:
        """See L{Looking.whole}."""
        places = self.engine.places(view.text)
        return self.start(least).weigh(view, places) if places else ()


class _Company:
    """
    Those of one kind that are worth too little by themselves.

    Of random digits a check passes one in ten or fewer. Where at least twice as many pass as fail, and some different
    ones do, they are what they look like.
    """

    __slots__ = ("failed", "passed", "sure", "waiting")

    def __init__(self) -> None:
        self.failed = 0
        self.passed: set[int] = set()
        self.waiting: list[Hit] = []
        self.sure = False

    def joined(self, value: int) -> bool:
        """Whether with this one they are enough."""
        if not self.sure:
            if len(self.passed) < MOST_COMPANY:
                self.passed.add(value)
            self.sure = len(self.passed) >= max(ENOUGH, self.failed * REFUTED)
        return self.sure


class _Nearby:
    """Words in a window, looked up when somebody asks."""

    __slots__ = ("_of", "_patterns", "_places", "_view")

    def __init__(self, patterns: Patterns, view: View) -> None:
        self._patterns, self._view = patterns, view
        self._places: list[set[int]] | None = None
        """where each word begins"""
        self._of: dict[int, list[tuple[int, int]]] = {}
        """where those of each detector begin and end"""

    def around(self, number: int, begin: int, end: int) -> bool:
        """Whether one of a detector's words is within L{NEAR} bytes of what is at *begin* to *end*."""
        spans = self._of.get(number)
        if spans is None:
            spans = self._of[number] = self._spans(number)
        return _one_within(spans, begin - NEAR, begin) or _one_within(spans, end, end + NEAR)

    def _spans(self, number: int) -> list[tuple[int, int]]:
        patterns, low = self._patterns, self._view.low
        if self._places is None:
            self._places = [set() for _ in patterns.words]
            for word, first, last in patterns.word_engine.places(low):
                text = patterns.words[word]
                for at in range(first, last + 1):
                    # Scripts without spaces have no beginnings of words.
                    if low.startswith(text, at) and (text[0] >= 0x80 or not low[max(at - 1, 0) : at].isalnum()):
                        self._places[word].add(at)
        return sorted(
            (at, at + len(patterns.words[word])) for word in patterns.near[number] for at in self._places[word]
        )


def _one_within(spans: list[tuple[int, int]], first: int, last: int) -> bool:
    at = bisect_left(spans, (first, 0))
    while at < len(spans) and spans[at][0] < last:
        if spans[at][1] <= last:
            return True
        at += 1
    return False


class PatternLook:
    """Looks at one stream."""

    __slots__ = ("_company", "_done", "_least", "_patterns")

    def __init__(self, patterns: Patterns, least: int) -> None:
        self._patterns, self._least = patterns, least
        self._done = [0] * len(patterns.detectors)
        """how far each detector's last match went"""
        self._company: dict[int, _Company] = {}
        """of those detectors whose finds count in company, once there is one"""

    def look(self, view: View) -> Iterable[Hit]:
        """See L{Look.look}."""
        places = self._patterns.engine.places(view.text)
        return self.weigh(view, places) if places else ()

    def weigh(self, view: View, places: list[Places]) -> Iterator[Hit]:
        """What there is at these places."""
        places.sort()
        nearby = _Nearby(self._patterns, view)
        detectors = self._patterns.detectors
        last_number, at = -1, 0
        for number, first, last in places:
            if number != last_number:
                last_number, at = number, view.begin
            at = max(at, first, self._done[number] - view.base)
            stop = min(last, view.limit - 1)
            detector = detectors[number]
            while at <= stop:
                found = _first(detector, view.text, at, stop)
                if found is None:
                    at = stop + 1
                    break
                begin, end = found.span()
                worth = detector.check(found[detector.group(found)]) if detector.check is not None else detector.score
                if 0 < worth < detector.near_score and nearby.around(number, begin, end):
                    worth = detector.near_score
                at = begin + 1
                if worth:
                    at = end
                    self._done[number] = view.base + end
                    yield from self._weighed(number, found, worth, view.base)
                elif detector.company:
                    self._company_of(number).failed += 1

    def _company_of(self, number: int) -> _Company:
        company = self._company.get(number)
        if company is None:
            company = self._company[number] = _Company()
        return company

    def _weighed(self, number: int, found: re.Match[bytes], worth: int, base: int) -> Iterator[Hit]:
        detector = self._patterns.detectors[number]
        company = self._company_of(number) if detector.company else None
        secret = found[detector.group(found)]
        value = hash((detector.name, secret.translate(None, b" .-").upper()))
        waits = False
        if company is not None:
            if company.joined(value):
                worth = max(worth, detector.near_score)
                for waiting in company.waiting:
                    yield waiting._replace(at=base + found.start(), score=detector.near_score)
                company.waiting.clear()
            else:
                waits = worth < self._least and len(company.waiting) < MOST_COMPANY
        if worth < self._least and not waits:
            return
        begin, end = base + found.start(), base + found.end()
        hit = Hit(begin, detector.name, begin, end, detector.evidence(found), worth, value)
        if waits and company is not None:
            company.waiting.append(hit)
        else:
            yield hit


def _needed(detector: Detector, least: int) -> bytes:
    """What must be in a text in which something is worth so much, if that is known and not long."""
    if not detector.near or detector.company or detector.alone >= least:
        return b""
    needed = b"(?i:%b)" % b"|".join(map(re.escape, detector.words))
    return needed if len(needed) <= MOST_NEEDED else b""


def _first(detector: Detector, text: bytes, at: int, stop: int) -> re.Match[bytes] | None:
    """The first match that begins at *at* to *stop*, both included."""
    if stop - at < FEW:
        for place in range(at, stop + 1):
            if (found := detector.pattern.match(text, place)) is not None:
                return found
        return None
    # Two bytes more than a match can have, as nothing stands behind the end that is given here.
    found = detector.pattern.search(text, at, stop + detector.longest + 2)
    return found if found is not None and found.start() <= stop else None
