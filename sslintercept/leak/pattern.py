"""Detectors at work: a place that the engine names becomes a match, and the match a hit, if it is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sslintercept.leak.detector import Detector
from sslintercept.leak.engine import Engine, Mark, make_engine
from sslintercept.leak.view import Hit, View

ENOUGH: Final = 8
"""different ones that pass the check make company"""
REFUTED: Final = 2
"""for that many that pass, one may fail"""
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

    def joined(self, hit: Hit) -> bool:
        """Whether with this one they are enough."""
        if not self.sure:
            if len(self.passed) < MOST_COMPANY:
                self.passed.add(hit.value)
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
        detectors = self._patterns.detectors
        last_number, at = -1, 0
        for number, first, last in places:
            if number != last_number:
                last_number, at = number, view.begin
            at = max(at, first, self._done[number] - view.base)
            stop = min(last, view.limit - 1)
            detector = detectors[number]
            while at <= stop:
                found = detector.pattern.search(view.text, at)
                if found is None or found.start() > stop:
                    at = stop + 1
                    break
                begin, end = found.span()
                group = 1 if found.re.groups and found[1] is not None else 0
                secret = found[group]
                worth = detector.worth(secret, view.low, begin, end)
                at = begin + 1
                if worth:
                    at = end
                    self._done[number] = view.base + end
                    value = hash((detector.name, secret.translate(None, b" .-").upper() if not group else secret))
                    place = view.base + begin
                    hit = Hit(place, detector.name, place, view.base + end, detector.evidence(found), worth, value)
                    yield from self._weighed(number, hit)
                elif (company := self._company[number]) is not None:
                    company.failed += 1

    def _weighed(self, number: int, hit: Hit) -> Iterator[Hit]:
        company = self._company[number]
        if company is None:
            if hit.score >= self._least:
                yield hit
        elif company.joined(hit):
            score = self._patterns.detectors[number].near_score
            for waiting in company.waiting:
                yield waiting._replace(at=hit.at, score=score)
            company.waiting.clear()
            yield hit._replace(score=max(hit.score, score))
        elif hit.score >= self._least:
            yield hit
        elif len(company.waiting) < MOST_COMPANY:
            company.waiting.append(hit)
