"""
Registered documents, found again in parts: hashes of some of their runs of words, chosen by winnowing.

Of all runs of L{RUN} words those count that have the least hash of L{WINDOW} runs in a row (Schleimer, Wilkerson,
Aiken, Winnowing: Local Algorithms for Document Fingerprinting, SIGMOD 2003). Whoever takes L{CERTAIN} words in a row
takes a fingerprint along. Spaces, case, and punctuation around words do not count.

For the choice a CRC is good enough; what is stored and looked up is a keyed hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import SURE
from sslintercept.leak.digest import DigestTable, digest, pack
from sslintercept.leak.fold import Fold
from sslintercept.leak.view import AHEAD, BEHIND, Hit, Looking, View, Word

RUN: Final = 5
"""words that are hashed together"""
WINDOW: Final = 6
"""runs of which one is chosen"""
CERTAIN: Final = RUN + WINDOW - 1
"""words in a row of which a fingerprint is known for certain"""
MOST_SHARING: Final = 8
"""documents that may have the same fingerprint; what more have in common is a form letter's, and is left out"""
MOST_DOCUMENTS: Final = 100_000
LEAST_PRINTS: Final = 4
"""of a document, and of a finding"""
STEP: Final = 64 * 1024


class Winnower:
    """Chooses runs of a stream of words."""

    __slots__ = ("_last", "_words")

    def __init__(self) -> None:
        self._words: list[Word] = []
        """the last ones, of which the next window needs some"""
        self._last = -1
        """the hash that was chosen last; the same again is the same run"""

    def add(self, words: list[Word]) -> list[tuple[int, bytes, Word, Word]]:
        """Take the next words; give where runs are chosen, the runs, and their first and last words."""
        words = self._words + words
        self._words = words[-(CERTAIN - 1) :]
        if len(words) < CERTAIN:
            return []
        texts = [text for text, _, _ in words]
        runs = list(map(b" ".join, zip(*(texts[first:] for first in range(RUN)), strict=False)))
        hashes = list(map(crc32, runs))
        chosen: list[tuple[int, bytes, Word, Word]] = []
        last = self._last
        for window, least in enumerate(map(min, *(hashes[first:] for first in range(WINDOW)))):
            if least != last:
                last = least
                run = hashes.index(least, window)
                chosen.append((words[window + CERTAIN - 1][1], runs[run], words[run], words[run + RUN - 1]))
        self._last = last
        return chosen


def prints(key: bytes, chunks: Iterable[bytes]) -> set[int]:
    """The fingerprints of a document, whose UTF-8 comes in chunks; none if it has fewer than L{CERTAIN} words."""
    fold, winnower, found = Fold(), Winnower(), set[int]()
    text, done = b"", 0

    def words(*, final: bool) -> None:
        nonlocal text, done
        limit = len(text) if final else len(text) - AHEAD
        found.update(digest(key, run) for _, run, _, _ in winnower.add(View(text, 0, done, limit).words()))
        begin = max(limit - BEHIND, 0)
        text, done = text[begin:], limit - begin

    for chunk in chunks:
        text += fold.feed(chunk)
        if len(text) > STEP:
            words(final=False)
    text += fold.feed(b"", final=True)
    words(final=True)
    return found


@dataclass(frozen=True)
class Registered:
    """What was made of documents."""

    documents: int
    prints: int
    short: tuple[str, ...]
    """documents with too few words, which cannot be found"""
    packed: bytes


def register(key: bytes, documents: Mapping[str, Iterable[bytes]]) -> Registered:
    """
    Register documents by their names.

    @raise ConfigError: there are too many of them, or of their fingerprints.
    """
    if len(documents) > MOST_DOCUMENTS:
        raise ConfigError(
            f"{len(documents)} documents", where="fingerprints", remedy=f"register at most {MOST_DOCUMENTS}"
        )
    owners: dict[int, list[int]] = {}
    for number, chunks in enumerate(documents.values()):
        for each in prints(key, chunks):
            owners.setdefault(each, []).append(number)
    kept = {each: numbers for each, numbers in owners.items() if len(numbers) <= MOST_SHARING}
    totals = [0] * len(documents)
    for numbers in kept.values():
        for number in numbers:
            totals[number] += 1
    packed = pack(key, [(each, number) for each, numbers in kept.items() for number in numbers])
    head = json.dumps({"documents": list(zip(documents, totals, strict=True))}).encode()
    short = tuple(name for name, total in zip(documents, totals, strict=True) if total < LEAST_PRINTS)
    return Registered(len(documents), len(kept), short, len(head).to_bytes(4, "little") + head + packed)


class Fingerprints(Looking):
    """
    Registered documents, made ready; shared by all streams.

    @param share: of a document's fingerprints that must be found.
    @param count: as many are enough, whatever share of a long document they are.
    @raise ConfigError: the bytes are no registered documents, or those of another key.
    """

    def __init__(
        self, name: str, key: bytes, packed: bytes, *, share: float = 0.2, count: int = 40, score: int = SURE
    ) -> None:
        self.name, self.share, self.count, self.score = name, share, count, score
        where = f"fingerprints {name}"
        size = int.from_bytes(packed[:4], "little")
        self.key, self.table = key, DigestTable(key, packed[4 + size :], where=where)
        self.documents: Final = _documents(packed[4 : 4 + size], where)

    def start(self, least: int) -> FingerprintLook:
        """Look at one stream."""
        return FingerprintLook(self)

    def enough(self, total: int) -> int:
        """How many fingerprints of a document that has *total* make a finding."""
        return max(LEAST_PRINTS, min(self.count, int(total * self.share + 0.999)))


def _documents(head: bytes, where: str) -> list[tuple[str, int]]:
    try:
        return [(str(name), int(total)) for name, total in json.loads(head)["documents"]]
    except (ValueError, KeyError, TypeError):
        raise ConfigError("the list of documents is broken", where=where, remedy="register them again") from None


class FingerprintLook:
    """Looks at one stream."""

    __slots__ = ("_found", "_prints", "_winnower")

    def __init__(self, fingerprints: Fingerprints) -> None:
        self._prints = fingerprints
        self._winnower = Winnower()
        self._found: dict[int, set[int] | None] = {}
        """fingerprints seen of each document; nothing once it is told"""

    def look(self, view: View) -> Iterator[Hit]:
        of = self._prints
        for at, run, first, last in self._winnower.add(view.words()):
            each = digest(of.key, run)
            for number in of.table.find(each):
                if number >= len(of.documents):
                    continue
                seen = self._found.setdefault(number, set())
                if seen is None:
                    continue
                seen.add(each)
                name, total = of.documents[number]
                if len(seen) >= of.enough(total):
                    self._found[number] = None
                    evidence = f"{len(seen)} of {total} fingerprints of {name}"
                    yield Hit(at, of.name, first[1], last[2], evidence, of.score, hash((of.name, number)))
