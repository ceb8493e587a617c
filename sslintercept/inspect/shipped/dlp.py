"""
C{dlp}: what must not leave (L{sslintercept.leak}), looked for in text as it passes.

::

    [inspect:leaks]
    use = dlp
    match = direction:upload
    detectors = payment, credential
    least = card:5
    action = block

Text bodies are read as they come, in pieces; forms are decoded, escapes of JSON undone, UTF-16 recognised. Text inside
of documents, archives and mails is taken out of them first and read then. With C{redact} what is found in a text is
overwritten before it passes; what is found inside of something, or in coded text, cannot be, and is blocked.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from sslintercept.config import units
from sslintercept.config.key import described, setting
from sslintercept.errors import ConfigError
from sslintercept.inspect.inspector import Inspector, Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.shipped.acts import ACTS, act
from sslintercept.inspect.verdict import LEAK, MOST_EVIDENCE, Act, Evidence, Verdict
from sslintercept.leak.dictionary import Dictionaries
from sslintercept.leak.files import check_names, read_dictionary, read_exact, read_fingerprints, read_patterns
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import MOST_HELD, Finding, Looking, Policy, Scan
from sslintercept.leak.table import chosen

FORM: Final = "application/x-www-form-urlencoded"
TEXTS: Final = frozenset(
    (
        FORM,
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
        "multipart/form-data",
    )
)
"""what is read as it comes, beside C{text/} and what ends in C{+json} or C{+xml}"""
WIDE: Final = {
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ESCAPE: Final = re.compile(rb"\\u([0-9a-fA-F]{4})")
_CUT_ESCAPE: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_CUT_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]?\Z")
_LEAST: Final = re.compile(r"([a-z0-9][a-z0-9_.-]{0,63}):([1-9][0-9]{0,5})")

Undo = Callable[[bytes, bool], bytes | str]
"""makes text of the next bytes; the second argument: they are the last"""


def _least(text: str) -> tuple[str, int]:
    match = _LEAST.fullmatch(text)
    if match is None:
        raise ValueError("not a detector's name with a number, like card:5")
    return match[1], int(match[2])


@dataclass(frozen=True, slots=True)
class DlpOptions:
    """Of C{dlp}."""

    detectors: tuple[str, ...] | None = setting(
        units.listed(units.token()),
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


class DlpInspector(Inspector):
    """
    What must not leave.

    @raise ConfigError: a file cannot be used, or there is no such detector.
    """

    Options = DlpOptions
    members = True

    def __init__(self, options: DlpOptions, engines: object) -> None:
        super().__init__(options)
        self._act = ACTS[options.action]
        self.changes = self._act is Act.REDACT
        self.keeps = self._act is Act.QUARANTINE
        self.policy = policy_of(options)

    def look(self, part: Part) -> Look | None:
        """See L{Inspector.look}."""
        undo = reading(part)
        if undo is None:
            return None
        return DlpLook(part, Scan(self.policy), undo, self._act)


def policy_of(options: DlpOptions) -> Policy:
    """@raise ConfigError: a file cannot be used, or there is no such detector."""
    shipped = chosen(options.detectors or ())
    own = [each for path in options.patterns or () for each in read_patterns(path)]
    detectors = [*shipped, *own]
    looking: list[Looking] = [Patterns(detectors)] if detectors else []
    dictionaries = [each for path in options.dictionaries or () for each in read_dictionary(path)]
    if dictionaries:
        looking.append(Dictionaries(dictionaries))
    tables = [*(options.exact or ()), *(options.fingerprints or ())]
    if tables and options.key is None:
        raise ConfigError("registered data needs its key", where="dlp", remedy="give key = FILE")
    if options.key is not None:
        looking += [read_exact(path, options.key) for path in options.exact or ()]
        looking += [read_fingerprints(path, options.key) for path in options.fingerprints or ()]
    if not looking:
        raise ConfigError("nothing is looked for", where="dlp", remedy="name detectors, or files")
    names = [*(each.name for each in own), *(each.name for each in dictionaries), *(path.stem for path in tables)]
    check_names(names)
    names += [each.name for each in shipped]
    for name, _ in options.least or ():
        if name not in names:
            raise ConfigError(f"least: nothing is called {name}", where="dlp", remedy=f"there are {', '.join(names)}")
    keep = MOST_HELD if options.action == "redact" else 20
    return Policy(looking, options.score, dict(options.least or ()), keep)


class DlpLook(Look):
    """One text."""

    def __init__(self, part: Part, scan: Scan, undo: Undo, action: Act) -> None:
        self._part = part
        self._scan = scan
        self._undo = undo if undo is not plain else None
        self._act = action
        self._found: list[Finding] = []
        self._unmasked = False
        """something was found that cannot be overwritten"""
        self._undone = False
        """offsets are those of the text: they say nothing of the body"""
        self._began = False

    def write(self, data: bytes) -> None:
        """See L{Look.write}."""
        if not self._began:
            self._began = True
            wide = next((name for mark, name in WIDE.items() if data.startswith(mark)), None)
            if wide is None and self._undo is marked:
                wide = unmarked(data)
                self._undo = None
            if wide is not None:
                self._undo = decoded(wide)
        text: bytes | str = data
        if self._undo is not None:
            text = self._undo(data, False)
            self._undone = self._undone or text != data
        self._take(self._scan.feed(text))

    def finish(self) -> None:
        """See L{Look.finish}."""
        if self._undo is not None:
            self._take(self._scan.feed(self._undo(b"", True)))
        if not self.over:
            self._take(self._scan.finish())
        if not self.over:
            self.tell(self._verdict() if self._found else None)

    def _take(self, findings: list[Finding]) -> None:
        if not findings or self.over:
            return
        self._found += findings[: MOST_HELD - len(self._found)]
        action = self._act
        if action is Act.REDACT and not self._unmasked:
            self._unmasked = self._undone or not all(
                self.mask(each.offset, each.length) for each in findings if each.length
            )
        if action is Act.BLOCK or self._unmasked:
            self.tell(self._verdict())

    def _verdict(self) -> Verdict:
        action = self._act
        counts = self._scan.counts.values()
        if action is Act.REDACT and (self._unmasked or any(each.found > each.told > 0 for each in counts)):
            action = Act.BLOCK
        counted = Counter(each.detector for each in self._found)
        reason = ", ".join(f"{count} {name}" for name, count in counted.most_common(8))
        where = self._part.path
        evidence = tuple(
            Evidence(each.detector, each.evidence, where, each.offset, each.length, each.score)
            for each in self._found[:MOST_EVIDENCE]
        )
        score = max(each.score for each in self._found)
        return Verdict(action, LEAK, counted.most_common(1)[0][0], reason, evidence, score, "dlp")


def reading(part: Part) -> Undo | None:
    """How a part is read as text, C{None} if it is none, or is read in its pieces."""
    kind = part.media_type if part.sniffed in ("", "text/plain", "text/xml") and part.media_type else part.type
    if part.kind == "field" and not part.media_type and part.parent is not None and not part.name:
        return None
    if kind.startswith("message/"):
        return None
    text = kind in TEXTS or kind.startswith("text/") or kind.endswith(("+json", "+xml"))
    if not text and part.kind not in ("text", "headers") and part.sniffed != "text/plain":
        return None
    if kind == FORM:
        return form()
    if kind.endswith("json"):
        return json()
    if part.charset is not None and part.charset.startswith(("utf-16", "utf16")):
        return marked
    return plain


def plain(data: bytes, _last: bool) -> bytes:
    """Nothing is to be undone."""
    return data


def marked(data: bytes, _last: bool) -> bytes:
    """Text that is said to be UTF-16, until its first bytes tell of which kind it is."""
    return data


def unmarked(data: bytes) -> str | None:
    """Which UTF-16 it is that has no mark, by where the zeros of its ASCII are; C{None} for text that has none."""
    odd, even = data[:64:2].count(0), data[1:64:2].count(0)
    if not odd and not even:
        return None
    return "utf-16-be" if odd > even else "utf-16-le"


def decoded(codec: str) -> Undo:
    """Text of another charset."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    return decoder.decode


def form() -> Undo:
    """Percent-encoding and plus signs (WHATWG URL 5.1), across the borders of pieces."""
    held = b""

    def undo(data: bytes, last: bool) -> bytes:
        nonlocal held
        data = held + data
        held = b""
        if not last and (cut := _CUT_PERCENT.search(data)) is not None:
            held, data = data[cut.start() :], data[: cut.start()]
        return unquote_to_bytes(data.replace(b"+", b" "))

    return undo


def json() -> Undo:
    """Escapes of JSON (RFC 8259 7) that stand for characters; halves of surrogate pairs become question marks."""
    held = b""

    def undo(data: bytes, last: bool) -> bytes:
        nonlocal held
        data = held + data
        held = b""
        if b"\\" not in data:
            return data
        if not last and (cut := _CUT_ESCAPE.search(data)) is not None:
            held, data = data[cut.start() :], data[: cut.start()]
        return _ESCAPE.sub(lambda match: chr(int(match[1], 16)).encode("utf-8", "replace"), data)

    return undo
