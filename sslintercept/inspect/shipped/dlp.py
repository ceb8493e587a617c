"""
C{dlp}: what must not leave (L{sslintercept.leak}), looked for in text as it passes.

::

    [inspect:leaks]
    use = dlp
    match = direction:upload
    detectors = payment, credential
    least = card:5
    action = block

Text bodies are read as they come, in pieces; forms are decoded, escapes of JSON undone, other charsets than UTF-8
decoded (L{sslintercept.inspect.shipped.undo}). Text inside of documents, archives and mails is taken out of them first
and read then. With C{redact} what is found in a body is overwritten before it passes. What cannot be overwritten is
blocked: what is inside of something, what has passed by the time that it counts, or only a part of which is found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from sslintercept.config import units
from sslintercept.config.key import described, setting
from sslintercept.errors import ConfigError
from sslintercept.inspect.inspector import Inspector, Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.shipped.acts import ACTS, act
from sslintercept.inspect.shipped.undo import NOTHING_DONE, Charset, Form, Json, Layer, Undo, wide
from sslintercept.inspect.verdict import LEAK, MOST_EVIDENCE, Act, Evidence, Verdict
from sslintercept.leak.detector import Detector
from sslintercept.leak.dictionary import Dictionaries
from sslintercept.leak.files import check_names, read_dictionary, read_exact, read_fingerprints, read_patterns
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import MOST_HELD, Finding, Policy, Scan
from sslintercept.leak.table import chosen
from sslintercept.leak.view import Looking
from sslintercept.unpack.charset import known
from sslintercept.unpack.known import format_of

FORM: Final = "application/x-www-form-urlencoded"
REPORT: Final = "application/csp-report"
TEXTS: Final = frozenset(
    (
        FORM,
        REPORT,
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/sql",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-sh",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
    )
)
"""what is read as it comes, beside C{text/}, C{multipart/}, and what ends in C{+json} or C{+xml}"""
PACKED: Final = frozenset(("zip", "gzip", "bzip2", "xz", "zstd", "tar", "pdf", "ole", "rtf", "mail", "closed"))
"""formats of which the bytes themselves say nothing: what is in them is taken out"""
SPELLED: Final = frozenset(("json", "form"))
"""formats of pieces whose text is taken out of them, too, with all escapes undone"""
GENERIC: Final = frozenset(("", "text/plain", "application/octet-stream"))
"""declared types of what may be JSON"""
IN_PART: Final = frozenset(("private-key", "putty-key", "jwt"))
"""detectors that find where a secret begins, and not all of it"""
MOST_READY: Final = 8
"""sets of detectors that are kept ready"""
_FIRST_OF_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[{\[]")
_UNMARKED: Final = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""without a mark (WHATWG Encoding 4.2)"""
_LEAST: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63}):([1-9][0-9]{0,5})")


def _least(text: str) -> tuple[str, int]:
    match = _LEAST.fullmatch(text)
    if match is None:
        raise ValueError("not a detector's name with a number, like card:5")
    return match[1], int(match[2])


@dataclass(frozen=True, slots=True)
class DlpOptions:
    """Of C{dlp}."""

    detectors: tuple[str, ...] = setting(
        units.word_or("none", (), units.listed(units.token())),
        "payment, credential",
        "detectors that ship, by name or group (docs/leak.md)",
    )
    least: tuple[tuple[str, int], ...] | None = setting(
        units.listed(units.unit(_least, "names with numbers, like card:5")),
        None,
        "how many different ones of a detector make a finding; 1 if nothing is said",
        example="card:5, iban:3",
    )
    score: int = setting(units.integer(1, 100), "50", "how sure a finding must be")
    patterns: tuple[Path, ...] | None = setting(
        units.listed(units.path(), 16), None, "files with patterns of your own", example="patterns.toml"
    )
    dictionaries: tuple[Path, ...] | None = setting(
        units.listed(units.path(), 16), None, "files with words of your own", example="words.toml"
    )
    exact: tuple[Path, ...] | None = setting(
        units.listed(units.path(), 16), None, "registered tables (sslintercept leak table)", example="customers.table"
    )
    fingerprints: tuple[Path, ...] | None = setting(
        units.listed(units.path(), 16), None, "registered documents (sslintercept leak documents)", example="plans.docs"
    )
    key: Path | None = field(
        default=None,
        metadata=described(units.path(), None, "the key they were registered with", example="leak.key"),
    )
    action: str = act("block", "quarantine", "redact", "tag", "report")


MOST_FIRST: Final = 32 * 1024
"""bytes of a first piece that may be all; less than is held back of any part"""


class DlpInspector(Inspector):
    """
    What must not leave.

    @raise ConfigError: a file cannot be used, or there is no such detector.
    """

    Options = DlpOptions
    members = True
    queries = True

    def __init__(self, options: DlpOptions, engines: object) -> None:
        super().__init__(options)
        self._act = ACTS[options.action]
        self.changes = self._act is Act.REDACT
        self.keeps = self._act is Act.QUARANTINE
        self.policy, self._in_part = policy_of(options)

    def glance(self, part: Part) -> Verdict | None:
        """Look at what the query of a request says; a form may stand there."""
        _, mark, query = part.url.partition("?")
        if not mark or not part.leaves:
            return None
        scan = Scan(self.policy)
        text = unquote_to_bytes(query.replace("+", " ").encode("utf-8", "replace"))
        found = [*scan.feed(text), *scan.finish()]
        if not found:
            return None
        # A query is nothing that could be marked, or overwritten without asking for something else.
        action = {Act.TAG: Act.REPORT, Act.REDACT: Act.BLOCK, Act.QUARANTINE: Act.BLOCK}.get(self._act, self._act)
        where = [Evidence(each.detector, each.evidence, "query", score=each.score) for each in found]
        return verdict_of(action, found, where[:MOST_EVIDENCE])

    def judge(self, part: Part, content: bytes) -> Verdict | None:
        """See L{Inspector.judge}."""
        if not reads(part):
            return None
        undo = undoing(part, content, traced=False)
        found = Scan(self.policy).only(undo.feed(content, True))[:MOST_HELD]
        return verdict_of(self._act, found, evidence_of(part, undo, found)) if found else None

    def look(self, part: Part) -> Look | None:
        """See L{Inspector.look}."""
        if not reads(part):
            return None
        if self.changes and _overwritten(part):
            return None
        return DlpLook(part, Scan(self.policy), self._act, self._in_part)


@lru_cache(MOST_READY)
def ready(detectors: tuple[Detector, ...], least: int) -> Patterns:
    """Detectors at work: to make them takes most of a second, in which nothing passes at a reload."""
    return Patterns(detectors, least)


class Wanted(NamedTuple):
    """What is looked for."""

    policy: Policy
    in_part: frozenset[str]
    """names of what finds a part of what must not leave: that cannot be overwritten"""


def policy_of(options: DlpOptions) -> Wanted:
    """@raise ConfigError: a file cannot be used, or there is no such detector."""
    shipped = chosen(options.detectors)
    own = [each for path in options.patterns or () for each in read_patterns(path)]
    looking: list[Looking] = [ready((*shipped, *own), options.score)] if shipped or own else []
    dictionaries = [each for path in options.dictionaries or () for each in read_dictionary(path)]
    if dictionaries:
        looking.append(Dictionaries(dictionaries))
    exact, documents = options.exact or (), options.fingerprints or ()
    tables = [*exact, *documents]
    if tables and options.key is None:
        raise ConfigError("registered data needs its key", where="dlp", remedy="give key = FILE")
    if options.key is not None:
        looking += [read_exact(path, options.key) for path in exact]
        looking += [read_fingerprints(path, options.key) for path in documents]
    if not looking:
        raise ConfigError("nothing is looked for", where="dlp", remedy="name detectors, or files")
    names = [*(each.name for each in own), *(each.name for each in dictionaries), *(path.stem for path in tables)]
    check_names(names)
    names += [each.name for each in shipped]
    for name, _ in options.least or ():
        if name not in names:
            raise ConfigError(f"least: nothing is called {name}", where="dlp", remedy=f"there are {', '.join(names)}")
    keep = MOST_HELD if options.action == "redact" else 20
    in_part = IN_PART.union((each.name for each in dictionaries), (path.stem for path in documents))
    return Wanted(Policy(looking, options.score, dict(options.least or ()), keep), in_part)


def verdict_of(action: Act, found: Sequence[Finding], evidence: Sequence[Evidence]) -> Verdict:
    """What is said of a part in which something was found."""
    counted = Counter(each.detector for each in found)
    reason = ", ".join(f"{count} {name}" for name, count in counted.most_common(8))
    score = max(each.score for each in found)
    return Verdict(action, LEAK, counted.most_common(1)[0][0], reason, tuple(evidence), score, "dlp")


def span_of(undo: Undo | None, finding: Finding) -> tuple[int, int] | None:
    """From where to where it is in the body, as far as that is known."""
    if not finding.length or undo is None:
        return None
    return undo.span(finding.offset, finding.offset + finding.length)


def evidence_of(part: Part, undo: Undo | None, found: Sequence[Finding]) -> list[Evidence]:
    """What is told of it."""
    told = []
    for each in found[:MOST_EVIDENCE]:
        begin, end = span_of(undo, each) or (0, 0)
        told.append(Evidence(each.detector, each.evidence, part.path, begin, end - begin, each.score))
    return told


class DlpLook(Look):
    """One text."""

    def __init__(self, part: Part, scan: Scan, action: Act, in_part: frozenset[str]) -> None:
        self._part = part
        self._scan = scan
        self._act = action
        self._in_part = in_part
        self._undo: Undo | None = None
        """known with the first bytes"""
        self._first: bytes | None = None
        """what came first, while nobody knows whether it is all: what comes as a whole takes one pass"""
        self._found: list[Finding] = []

    def write(self, data: bytes) -> None:
        """See L{Look.write}."""
        undo = self._undo
        if undo is None:
            undo = self._undo = undoing(self._part, data, traced=self._act is Act.REDACT)
            self._first = undo.feed(data, False)
            if len(data) > MOST_FIRST:
                self._go_on()
            return
        self._go_on()
        if not self.over:
            self._take(self._scan.feed(undo.feed(data, False)))

    def _go_on(self) -> None:
        """There is more than what came first."""
        first, self._first = self._first, None
        if first is not None:
            self._take(self._scan.feed(first))

    def finish(self) -> None:
        """See L{Look.finish}."""
        rest = b"" if self._undo is None else self._undo.feed(b"", True)
        if self._first is not None:
            self._take(self._scan.only(self._first + rest))
        else:
            if rest:
                self._take(self._scan.feed(rest))
            if not self.over:
                self._take(self._scan.finish())
        if not self.over:
            self.tell(self._verdict(self._act) if self._found else None)

    def _take(self, findings: list[Finding]) -> None:
        self._found += findings[: MOST_HELD - len(self._found)]
        if not self._found:
            return
        if self._act is Act.BLOCK or (self._act is Act.REDACT and not self._overwrite(findings)):
            self.tell(self._verdict(Act.BLOCK))

    def _overwrite(self, findings: list[Finding]) -> bool:
        """Whether that was possible for all that is found."""
        for each in findings:
            span = span_of(self._undo, each)
            if span is None or each.detector in self._in_part or not self.mask(span[0], span[1] - span[0]):
                return False
        # What is found more often than is told has passed, or will.
        return all(count.found == count.told for count in self._scan.counts.values() if count.told)

    def _verdict(self, action: Act) -> Verdict:
        return verdict_of(action, self._found, evidence_of(self._part, self._undo, self._found))


def reads(part: Part) -> bool:
    """Whether a part is text itself, and not only what is taken out of it."""
    if part.kind in ("text", "headers"):
        return True
    if part.parent is None:
        return _reads(part.media_type, part.sniffed)
    kind = format_of(part.media_type, part.sniffed, part.name)
    return kind not in SPELLED and _reads_as(kind, part.media_type, part.sniffed)


@lru_cache(1024)
def _reads(media_type: str, sniffed: str) -> bool:
    return _reads_as(format_of(media_type, sniffed), media_type, sniffed)


def _reads_as(kind: str, media_type: str, sniffed: str) -> bool:
    return kind not in PACKED and (_textual(media_type) or _textual(sniffed))


def _overwritten(part: Part) -> bool:
    """Whether it is a field of a form whose body is read itself, and overwritten."""
    plain = known(part.charset or "utf-8") in ("utf-8", "ascii") and _textual(part.sniffed)
    return plain and part.kind == "field" and part.parent is part.outermost and reads(part.outermost)


def _textual(media_type: str) -> bool:
    return (
        media_type in TEXTS or media_type.startswith(("text/", "multipart/")) or media_type.endswith(("+json", "+xml"))
    )


def undoing(part: Part, head: bytes, *, traced: bool) -> Undo:
    """
    What is to be undone before a part can be read.

    @param head: its first bytes.
    @param traced: where something is in it will be asked for.
    """
    if part.kind in ("text", "headers"):
        return NOTHING_DONE
    layers: list[Layer] = []
    media_type, codec = part.media_type, wide(head)
    declared = known(part.charset) if part.charset else ""
    if codec:
        layers.append(Charset(traced, codec))
        declared = ""
    elif declared.startswith(("utf-16", "utf-32")):
        # Without zeros it may be Chinese, or a lie about ASCII.
        declared = "" if head.isascii() else _UNMARKED.get(declared, declared)
    if media_type == FORM:
        layers.append(Form(traced))
    if declared not in ("", "utf-8", "ascii"):
        layers.append(Charset(traced, declared))
    if _FIRST_OF_JSON.match(head) if media_type in GENERIC else media_type.endswith("json") or media_type == REPORT:
        layers.append(Json(traced))
    return Undo(layers) if layers else NOTHING_DONE
