"""
One stream is looked at as it passes: chunks in, findings out, whatever looks for leaks under one policy.

A finding comes as soon as its kind is there often enough, and at most L{AT_LEAST_HELD} bytes after its end has passed.
Nothing of the text is kept but a window; evidence is masked before it leaves the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sslintercept.leak.fold import Fold
from sslintercept.leak.view import AHEAD, BEHIND, Hit, Look, Looking, View

STEP: Final = 8192
"""bytes that must be there before it is worth looking"""
AT_LEAST_HELD: Final = STEP + AHEAD + 261
"""bytes of the window in which something may not be found yet"""
AT_ONCE: Final = 256 * 1024
"""bytes of a chunk that are looked at together"""
FAR: Final = 4096
"""bytes in front of what is decided whose places are still known"""
MOST_DIFFERENT: Final = 4096
"""different secrets of a kind that are told apart; then they count as seen before"""
MOST_HELD: Final = 256
"""findings of a kind that are told, at most, or wait for others"""


class Finding(NamedTuple):
    """Something that must not leave."""

    detector: str
    offset: int
    """of its first byte in the stream, of text: in its UTF-8"""
    length: int
    """bytes; 0 if it counts so late that nobody knows its place any more"""
    evidence: str
    """masked: never the secret"""
    score: int
    """how sure it is, up to 100"""


@dataclass(frozen=True)
class Policy:
    """What is looked for, and how much of it counts."""

    looking: Sequence[Looking] = ()
    score: int = 50
    """what is worth less is nothing"""
    least: Mapping[str, int] = field(default_factory=dict)
    """how many different ones of a detector make a finding; 1, if nothing is said"""
    keep: int = 20
    """findings of a detector that are told, at most L{MOST_HELD}; further ones are counted"""

    def hits(self, text: bytes) -> list[Hit]:
        """What there is in a stream that is one window of folded text."""
        view = View(text, 0, 0, len(text))
        hits: list[Hit] = []
        for each in self.looking:
            hits += each.whole(view, self.score)
        return hits


@dataclass(slots=True)
class Count:
    """How much of one detector was found in a stream."""

    found: int = 0
    different: int = 0
    """up to L{MOST_DIFFERENT}"""
    told: int = 0


class _Tally:
    __slots__ = ("count", "keep", "least", "seen", "waiting")

    def __init__(self, least: int, keep: int) -> None:
        self.least, self.keep = least, keep
        self.count = Count()
        self.seen: set[int] = set()
        self.waiting: list[Finding] = []

    def add(self, finding: Finding, value: int) -> list[Finding]:
        """What may be told now."""
        count = self.count
        count.found += 1
        if value not in self.seen and len(self.seen) < MOST_DIFFERENT:
            self.seen.add(value)
            count.different += 1
        if count.told + len(self.waiting) < min(self.keep, MOST_HELD):
            self.waiting.append(finding)
        if count.different < self.least:
            return []
        told, self.waiting = self.waiting, []
        count.told += len(told)
        return told


class Scan:
    """
    Looks at one stream.

    Memory: the window, up to L{AT_LEAST_HELD} and a chunk of L{AT_ONCE} bytes, what each look keeps, and of each
    detector the hashes of what was found.
    """

    __slots__ = ("_base", "_done", "_fold", "_looks", "_pieces", "_policy", "_size", "_tallies", "_text")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._fold = Fold()
        self._looks: list[Look] | None = None
        """from the first window on"""
        self._text = b""
        self._pieces: list[bytes] = []
        """folded, and not yet put behind the window's text"""
        self._size = 0
        """of the window with them"""
        self._base = self._done = 0
        self._tallies: dict[str, _Tally] = {}

    @property
    def counts(self) -> dict[str, Count]:
        """What was found so far, by detector."""
        return {name: tally.count for name, tally in self._tallies.items()}

    def feed(self, chunk: bytes | str) -> list[Finding]:
        """Look at what comes next, in order; text counts as its UTF-8."""
        data = chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk
        if len(data) <= AT_ONCE:
            return self._take(self._fold.feed(data), final=False)
        findings: list[Finding] = []
        for at in range(0, len(data), AT_ONCE):
            findings += self._take(self._fold.feed(data[at : at + AT_ONCE]), final=False)
        return findings

    def finish(self) -> list[Finding]:
        """The stream has ended; what was held is decided."""
        return self._take(self._fold.feed(b"", final=True), final=True)

    def only(self, data: bytes) -> list[Finding]:
        """Look at a stream that comes as a whole: what is not large takes one pass then, and nothing of it is kept."""
        if len(data) > AT_ONCE:
            return [*self.feed(data), *self.finish()]
        return self._told(self._policy.hits(data if data.isascii() else self._fold.feed(data, final=True)))

    def _take(self, folded: bytes, *, final: bool) -> list[Finding]:
        self._pieces.append(folded)
        self._size += len(folded)
        end = self._base + self._size
        limit = end if final else end - AHEAD
        if limit - self._done < (1 if final else STEP):
            return []
        text = b"".join([self._text, *self._pieces]) if self._text else b"".join(self._pieces)
        view = View(text, self._base, self._done - self._base, limit - self._base)
        if self._looks is None:
            self._looks = [each.start(self._policy.score) for each in self._policy.looking]
        findings = self._told([hit for look in self._looks for hit in look.look(view)])
        base = max(limit - BEHIND, self._base)
        self._text, self._pieces, self._size = text[base - self._base :], [], end - base
        self._base, self._done = base, limit
        self._fold.forget(base - FAR)
        return findings

    def _told(self, hits: list[Hit]) -> list[Finding]:
        findings: list[Finding] = []
        hits.sort()
        policy, origin = self._policy, self._fold.origin
        for hit in hits:
            tally = self._tallies.get(hit.name)
            if tally is None:
                tally = self._tallies[hit.name] = _Tally(policy.least.get(hit.name, 1), policy.keep)
            begin, end = origin(hit.begin), origin(hit.end)
            place = (0, 0) if begin is None or end is None else (begin, end - begin)
            findings += tally.add(Finding(hit.name, *place, hit.evidence, hit.score), hit.value)
        return findings
