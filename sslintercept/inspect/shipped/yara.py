"""
C{yara}: rules of YARA, for whole parts and for what is taken out of them::

    [inspect:own-rules]
    use = yara
    rules = /etc/sslintercept/rules
    action = quarantine

The rules are compiled when the settings are read, so a mistake in them is told by C{check-config}; what came of them is
sent to worker processes, where the scans are. A reload reads them anew. Their C{severity} and C{description} are told
with what is found, and which strings were where, never what was there.

Limits. Rules are files of their own: C{include} reads from their folder. No external variables. A string counts to
10 000. Compiling thousands of rules takes seconds, for which a reload stands still; docs/yara.md.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import yara_x
from twisted.internet.defer import Deferred

from sslintercept.config import units
from sslintercept.config.key import described, setting
from sslintercept.errors import ConfigError, EngineError
from sslintercept.inspect.inspector import Inspector, Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.shipped.acts import ACTS, act
from sslintercept.inspect.shipped.answer import Room
from sslintercept.inspect.shipped.yara_task import MOST_RULES, MOST_STRINGS, MOST_TEXT, TASK
from sslintercept.inspect.verdict import MALWARE, MOST_EVIDENCE, Act, Evidence, Verdict
from sslintercept.worker.pool import MOST_CONTENT, Item, Kept, Workers

ENDINGS: Final = (".yar", ".yara")
MOST_FILES: Final = 10_000
MOST_SOURCE: Final = 64 * 1024 * 1024
"""bytes of all rules"""
MOST_KEPT: Final = 256 * 1024 * 1024
"""bytes of all parts that have not come as a whole yet"""
WHERE: Final = "yara"
_SEVERITIES: Final = {"critical": 4, "high": 3, "medium": 2, "low": 1}


class Engines(Protocol):
    """What it needs of the gateway (L{sslintercept.inspect.engines.Engines})."""

    @property
    def workers(self) -> Workers: ...


@dataclass(frozen=True, slots=True)
class YaraOptions:
    """Of C{yara}."""

    rules: Path = field(
        metadata=described(
            units.path(),
            None,
            "a file of rules, or a folder with files that end in .yar or .yara",
            example="/etc/sslintercept/rules",
            required=True,
        )
    )
    scan_time: float = setting(units.duration("1s", "10m"), "10s", "how long the rules may take for one part")
    action: str = act("block", "quarantine", "report")


class YaraInspector(Inspector):
    """
    Shows parts to the rules.

    @raise ConfigError: the rules cannot be read, or have a mistake.
    """

    Options = YaraOptions
    members = True
    by_content = True

    def __init__(self, options: YaraOptions, engines: Engines) -> None:
        super().__init__(options)
        self.act = ACTS[options.action]
        self.keeps = self.act is Act.QUARANTINE
        self.seconds = options.scan_time
        self.kept = compiled(options.rules)
        self.room = Room(MOST_KEPT)
        self._engines = engines

    @property
    def tag(self) -> bytes | None:
        """Which rules: others say something else."""
        return self.kept.key.encode()

    def look(self, part: Part) -> Look | None:
        """See L{Inspector.look}."""
        return YaraLook(self, part)

    def scan(self, content: Sequence[bytes]) -> Deferred[list[Item]]:
        """Show content to the rules."""
        return self._engines.workers.run(TASK, {"seconds": self.seconds}, content, self.kept)


class YaraLook(Look):
    """A look at one part, which is taken whole."""

    def __init__(self, inspector: YaraInspector, part: Part) -> None:
        self._inspector, self._part = inspector, part
        self._content: list[bytes] = []
        self._size = 0
        self._asked: Deferred[None] | None = None

    def write(self, data: bytes) -> None:
        """See L{Look.write}."""
        room, size = self._inspector.room, len(data)
        if self._size + size > MOST_CONTENT or not room.has(size):
            what = "the part is longer than a worker takes" if room.has(size) else "too much is kept already"
            self._take()
            self.fail(EngineError(what, where=WHERE, remedy="see largest", fault="too_big"))
            return
        room.take(size)
        self._size += size
        self._content.append(bytes(data))

    def _take(self) -> list[bytes]:
        """What has come, which is not kept here any more."""
        self._inspector.room.give(self._size)
        self._size = 0
        content, self._content = self._content, []
        return content

    def finish(self) -> None:
        """See L{Look.finish}."""
        content = self._take()
        self._asked = self._inspector.scan(content).addCallback(self._judge)
        self._asked.addErrback(self.broke, WHERE)

    def abort(self) -> None:
        """See L{Look.abort}."""
        self.over = True
        self._take()
        if self._asked is not None:
            self._asked.cancel()

    def _judge(self, items: Sequence[Item]) -> None:
        if any(item.meta.get("late") is True for item in items):
            what = f"the rules took more than {self._inspector.seconds:g} s"
            raise EngineError(what, where=WHERE, remedy="allow more, or find the slow rule", fault="hangs")
        matches = [match for item in items[:MOST_RULES] if (match := read(item.meta)) is not None]
        if len(matches) < min(len(items), MOST_RULES):
            raise EngineError("its worker said rubbish", where=WHERE, remedy="see docs/worker.md", fault="rubbish")
        self.tell(verdict_of(self._inspector, matches, self._part) if matches else None)


@dataclass(frozen=True, slots=True)
class Match:
    """
    A rule that matches.

    @ivar strings: name, offset and length of what was found.
    """

    rule: str
    file: str
    tags: tuple[str, ...]
    severity: str
    description: str
    strings: tuple[tuple[str, int, int], ...]

    @property
    def rank(self) -> int:
        """How bad, as its author says."""
        return _SEVERITIES.get(self.severity.lower(), 0)

    @property
    def words(self) -> str:
        """What it says of itself."""
        said = f"rule {self.rule}"
        if self.severity:
            said += f", severity {self.severity}"
        if self.tags:
            said += f", tags {' '.join(self.tags)}"
        return f"{said}: {self.description}" if self.description else said


def read(meta: Mapping[str, object]) -> Match | None:
    """What a worker says of a rule; C{None} if it is nothing that it should say."""
    rule, file, severity, description = (meta.get(name) for name in ("rule", "file", "severity", "description"))
    tags, strings = meta.get("tags"), meta.get("strings")
    if not (isinstance(rule, str) and isinstance(file, str) and isinstance(severity, str)):
        return None
    if not (isinstance(description, str) and isinstance(tags, list) and isinstance(strings, list)):
        return None
    places: list[tuple[str, int, int]] = []
    for each in strings[:MOST_STRINGS]:
        if not isinstance(each, list) or [type(one) for one in each] != [str, int, int]:
            return None
        name, offset, length = each
        if not 0 <= offset < 2**48 or not 0 <= length < 2**48:
            return None
        places.append((_line(name), offset, length))
    words = tuple(_line(str(tag)) for tag in tags[:MOST_STRINGS])
    return Match(_line(rule), _line(file), words, _line(severity), _line(description), tuple(places))


def verdict_of(inspector: YaraInspector, matches: Sequence[Match], part: Part) -> Verdict:
    """A verdict, named by the worst rule, with all of them as evidence."""
    worst = max(matches, key=lambda match: match.rank)
    evidence: list[Evidence] = []
    for match in matches:
        evidence.append(Evidence(match.rule, match.words, part.path))
        evidence += [
            Evidence(f"{match.rule} {name}", "", part.path, offset, length) for name, offset, length in match.strings
        ]
    return Verdict(
        inspector.act,
        MALWARE,
        worst.rule,
        worst.words,
        tuple(evidence[:MOST_EVIDENCE]),
        engine="yara",
        version=inspector.kept.key[:12],
    )


def compiled(path: Path) -> Kept:
    """
    All rules of a file or a folder, as worker processes take them.

    @raise ConfigError: they cannot be read, or have a mistake.
    """
    compiler = yara_x.Compiler()
    folder = path if path.is_dir() else path.parent
    compiler.add_include_dir(str(folder))
    left = MOST_SOURCE
    for file in _files(path):
        try:
            source = file.read_bytes()
            left -= len(source)
            if left < 0:
                raise _error(f"{path} has more than {MOST_SOURCE} bytes of rules", "split them")
            name = str(file.relative_to(folder))
            compiler.new_namespace(name)
            compiler.add_source(source.decode(), origin=name)
        except OSError as error:
            raise _error(f"cannot read {file} ({error.strerror})", "make it readable for our user") from None
        except UnicodeError:
            raise _error(f"{file} is not UTF-8", "save it as UTF-8") from None
        except yara_x.CompileError as error:
            raise _error(one_line(str(error), file), "correct the rule") from None
    out = io.BytesIO()
    compiler.build().serialize_into(out)
    return Kept(hashlib.sha256(out.getvalue()).hexdigest(), out.getvalue())


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        files = sorted(each for each in path.rglob("*") if each.suffix in ENDINGS and each.is_file())
    except OSError as error:
        raise _error(f"cannot read {path} ({error.strerror})", "make it readable for our user") from None
    if not files:
        raise _error(f"there are no rules in {path}", f"put files there that end in {' or '.join(ENDINGS)}")
    if len(files) > MOST_FILES:
        raise _error(f"{path} has more than {MOST_FILES} files", "join them")
    return files


def one_line(told: str, file: Path) -> str:
    """A mistake in rules, with its place: C{rules.yar:3:5: unknown identifier `foo`, ...}."""
    lines = told.splitlines() or [""]
    what = lines[0].partition(": ")[2] or lines[0]
    place = next((line.partition(":")[2] for line in lines if line.lstrip().startswith("-->")), "")
    details = [line.rpartition("^ ")[2].strip() for line in lines[1:] if "^ " in line][:1]
    return _line(": ".join((f"{file}:{place.strip()}" if place else str(file), ", ".join((what, *details)))))


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[: 4 * MOST_TEXT])


def _error(what: str, remedy: str) -> ConfigError:
    return ConfigError(what, where=WHERE, remedy=remedy)
