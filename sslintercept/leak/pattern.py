"""Detectors at work: a place that the engine names becomes a match, and the match a hit, if it is right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from sslintercept.leak.detector import NEAR, Detector, Nearby
from sslintercept.leak.engine import Engine, Mark, make_engine
from sslintercept.leak.view import Hit, View

ENOUGH: Final = 8
"""different ones that pass the check make company"""
REFUTED: Final = 2
"""for that many that pass, one may fail"""
MANY: Final = 3 * NEAR
"""bytes of a window for a place, below which it is cheaper to look up all words nearby at once"""
FEW: Final = 4
"""places that are tried one by one"""
MOST_COMPANY: Final = 64
"""hits that wait for company"""


class Patterns:
    """
    Detectors made ready; shared by all streams.

    @raise ConfigError: as L{make_engine}.
    """

    def __init__(self, detectors: Sequence[Detector], *, engine: str = "hyperscan") -> None:
        self.detectors: Final = tuple(detectors)
        marks = [Mark(each.name, each.mark, each.before, b"" if each.whole else each.after) for each in detectors]
        self.engine: Final[Engine] = make_engine(marks, engine)

    def start(self, least: int) -> PatternLook:
        """Look at one stream, for what is worth *least* or more."""
        return PatternLook(self, least)


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


class PatternLook:
    """Looks at one stream."""

    __slots__ = ("_company", "_done", "_least", "_patterns")

    def __init__(self, patterns: Patterns, least: int) -> None:
        self._patterns, self._least = patterns, least
        self._done = [0] * len(patterns.detectors)
        """how far each detector's last match went"""
        self._company = [_Company() if each.company else None for each in patterns.detectors]

    def look(self, view: View) -> Iterator[Hit]:
        places = self._patterns.engine.places(view.text)
        if not places:
            return
        places.sort()
        counts = Counter(each.number for each in places)
        detectors = self._patterns.detectors
        last_number, at = -1, 0
        nearby: Nearby | None = None
        for number, first, last in places:
            if number != last_number:
                last_number, at, nearby = number, view.begin, None
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
                if 0 < worth < detector.near_score and detector.words is not None:
                    if nearby is None:
                        nearby = Nearby(detector.words, view.low, many=counts[number] * MANY > len(view.low))
                    if nearby.around(begin, end):
                        worth = detector.near_score
                at = begin + 1
                if worth:
                    at = end
                    self._done[number] = view.base + end
                    yield from self._weighed(number, found, worth, view.base)
                elif (company := self._company[number]) is not None:
                    company.failed += 1

    def _weighed(self, number: int, found: re.Match[bytes], worth: int, base: int) -> Iterator[Hit]:
        detector, company = self._patterns.detectors[number], self._company[number]
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
