"""
The files that say what must not leave: an administrator's dictionaries and patterns (TOML 1.0), registered tables and
documents.

They are read whole when a policy is made; a mistake is told with its file, its place there, and what to write instead.
"""

from __future__ import annotations

import re
import stat
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import SURE, Detector, detector
from sslintercept.leak.dictionary import MOST_TERMS, MOST_WITHIN, Dictionary, Pair
from sslintercept.leak.digest import read_key, read_secret
from sslintercept.leak.exact import ExactData
from sslintercept.leak.fingerprint import Fingerprints
from sslintercept.leak.fold import fold_text
from sslintercept.leak.table import GROUPS, TABLE

MOST_BYTES: Final = 4 * 1024 * 1024
"""of a TOML file"""
MOST_REGISTERED: Final = 256 * 1024 * 1024
"""bytes of a registered table, or of registered documents"""
MOST_PATTERNS: Final = 1000
"""in a file"""
MOST_NEAR: Final = 100
"""words of a pattern that make it more likely"""
MOST_TEXT: Final = 256
"""characters of a title, a word or a term"""
MOST_PATTERN: Final = 4096
"""characters of a pattern"""
MOST_WEIGHT: Final = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_names(names: Iterable[str], *, where: str = "leak") -> None:
    """
    See to it that what one policy has besides the detectors that ship can be told apart by its names.

    @raise ConfigError: two have the same name, whatever its case, or one has that of a detector or group that ships.
    """
    seen: set[str] = set()
    for name in names:
        low = name.lower()
        if low in TABLE or low in GROUPS:
            raise ConfigError(f"{name} is the name of what ships", where=where, remedy="give it another one")
        if low in seen:
            raise ConfigError(f"two are called {name}", where=where, remedy="give one of them another name")
        seen.add(low)


def read_dictionary(path: Path) -> list[Dictionary]:
    """
    Read a file of one or several C{[[dictionary]]}.

    @raise ConfigError: it cannot be read, is no TOML, or a key is unknown, missing or out of bounds.
    """
    dictionaries = [_dictionary(table) for table in _only(path, "dictionary", MOST_TERMS)]
    check_names((each.name for each in dictionaries), where=str(path))
    return dictionaries


def read_patterns(path: Path) -> list[Detector]:
    """
    Read a file of one or several C{[[pattern]]}.

    @raise ConfigError: as L{read_dictionary}, or a pattern is none, too long, or could be slow.
    """
    detectors = [_pattern(table) for table in _only(path, "pattern", MOST_PATTERNS)]
    check_names((each.name for each in detectors), where=str(path))
    return detectors


def read_exact(path: Path, key: Path, *, least: int = 2, within: int = 256, score: int = SURE) -> ExactData:
    """
    Read a registered table and its key; it is called as its file, without the ending.

    @raise ConfigError: one of them cannot be read, others can read it too, they do not belong together, or a limit is
        out of bounds.
    """
    name = _name_of(path)
    return ExactData(name, read_key(key), read_secret(path, MOST_REGISTERED), least=least, within=within, score=score)


def read_fingerprints(path: Path, key: Path, *, share: float = 0.2, count: int = 40, score: int = SURE) -> Fingerprints:
    """
    Read registered documents and their key; they are called as their file, without the ending.

    @raise ConfigError: as L{read_exact}.
    """
    name = _name_of(path)
    if not 0 < share <= 1 or count < 1:
        what = f"a share of {share} or {count} fingerprints"
        remedy = "give a share above 0 and up to 1, and a number of at least 1"
        raise ConfigError(what, where=f"fingerprints {name}", remedy=remedy)
    packed = read_secret(path, MOST_REGISTERED)
    return Fingerprints(name, read_key(key), packed, share=share, count=count, score=score)


def _name_of(path: Path) -> str:
    if _NAME.fullmatch(path.stem) is None:
        remedy = "rename it: up to 64 letters, digits, dots, hyphens and underscores"
        raise ConfigError(f"the file's name {path.stem[:64]!r} is no name", where="leak", remedy=remedy)
    return path.stem


def _load(path: Path) -> dict[str, object]:
    where = str(path)
    try:
        # Looked at first, because opening a FIFO would wait for somebody to write to it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError("not a regular file", where=where, remedy="name a TOML file")
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=where, remedy="check the path") from None
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"more than {MOST_BYTES} bytes", where=where, remedy="cut it into several files")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8", where=where, remedy="save it as UTF-8") from None
    except RecursionError:
        raise ConfigError("too deeply nested", where=where, remedy="write it flat") from None
    except ValueError as error:
        raise ConfigError(f"no TOML ({error})", where=where, remedy="correct it") from None


class _Table:
    """
    One table of a file; whoever has taken all keys calls L{done}.

    @ivar where: the file and the place in it, for errors.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise ConfigError("not a table", where=where, remedy="write it in double brackets, [[...]]")
        self.where = where
        self._values: dict[str, object] = values
        self._known: list[str] = []

    def refuse(self, what: str, remedy: str) -> ConfigError:
        return ConfigError(what, where=self.where, remedy=remedy)

    def take(self, key: str) -> object:
        """A value of any type; nothing, if there is none."""
        self._known.append(key)
        return self._values.get(key)

    def text(self, key: str, most: int = MOST_TEXT) -> str:
        value = self.take(key)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            raise self.refuse(f"{key} is no text of one line", f"write up to {most} visible characters in quotes")
        return value

    def name(self) -> str:
        name = self.text("name")
        if _NAME.fullmatch(name) is None:
            what = f"{name!r} is no name" if name else "there is no name"
            remedy = 'write name = "...": up to 64 letters, digits, dots, hyphens and underscores'
            raise self.refuse(what, remedy)
        self.where += f" ({name})"
        return name

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value = self.take(key)
        return default if value is None else self.bounded(key, value, least, most)

    def bounded(self, what: str, value: object, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.refuse(f"{what} is no whole number of {least} to {most}", "write one")
        return value

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most or not all(map(_is_line, value)):
            remedy = f'write up to {most} of at most {MOST_TEXT} characters, as ["one", "two"]'
            raise self.refuse(f"{key} is no list of texts", remedy)
        return tuple(value)

    def tables(self, key: str, most: int) -> Iterator[_Table]:
        values = self.take(key)
        if values is None:
            return
        if not isinstance(values, list) or len(values) > most:
            raise self.refuse(f"{key} is no list of tables", f"write up to {most} of [[{key}]]")
        for number, value in enumerate(values, 1):
            yield _Table(value, f"{self.where}, {key} {number}")

    def done(self) -> None:
        for key in self._values:
            if key not in self._known:
                raise self.refuse(f"unknown key {key[:64]!r}", f"use some of {', '.join(self._known)}")


def _is_line(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_TEXT and value.isprintable()


def _only(path: Path, key: str, most: int) -> list[_Table]:
    """The tables of a file that has nothing else."""
    top = _Table(_load(path), str(path))
    tables = list(top.tables(key, most))
    top.done()
    if not tables:
        raise top.refuse(f"there is no {key} in it", f"write [[{key}]]")
    return tables


def _dictionary(table: _Table) -> Dictionary:
    name = table.name()
    least = table.number("least", 1, 1, MOST_WEIGHT)
    score = table.number("score", SURE, 1, SURE)
    terms = _terms(table)
    pairs = tuple(_pair(each) for each in table.tables("pairs", MOST_TERMS))
    table.done()
    total = sum(terms.values()) + sum(pair.weight for pair in pairs)
    if not total:
        raise table.refuse("there are no terms and no pairs", 'write [dictionary.terms] and "some term" = 1')
    if total < least:
        what = f"all its terms and pairs weigh {total} together, so they never reach least = {least}"
        raise table.refuse(what, "lower least, or raise weights")
    return Dictionary(name, terms, pairs, least=least, score=score)


def _terms(table: _Table) -> dict[str, int]:
    values = table.take("terms")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise table.refuse("terms is no table", 'write [dictionary.terms] and below it "some term" = 1')
    for term in values:
        if not _is_line(term):
            what = f"the term {term[:40]!r} is empty, too long or more than one line"
            raise table.refuse(what, f"write up to {MOST_TEXT} visible characters")
    return {term: table.bounded(f"the weight of {term!r}", value, 1, MOST_WEIGHT) for term, value in values.items()}


def _pair(table: _Table) -> Pair:
    first, second = (table.texts(key, MOST_TERMS) for key in ("first", "second"))
    pair = Pair(first, second, table.number("within", 200, 0, MOST_WITHIN), table.number("weight", 1, 1, MOST_WEIGHT))
    table.done()
    if not first or not second:
        raise table.refuse("a side has no terms", 'write first = ["one"] and second = ["another"]')
    return pair


def _pattern(table: _Table) -> Detector:
    name = table.name()
    pattern = table.text("pattern", MOST_PATTERN)
    title = table.text("title")
    score = table.number("score", SURE, 1, SURE)
    near = table.texts("near", MOST_NEAR)
    table.done()
    words = tuple(fold_text(word).lower().strip() for word in near)
    if not all(words):
        raise table.refuse("a word of near is empty", "write words, or beginnings of words")
    if not pattern.isascii():
        # It is a pattern of bytes: of other characters classes and repeats would take single bytes.
        raise table.refuse("the pattern has characters that are not ASCII", "find such words with a dictionary")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            return detector(name, pattern, title=title, score=score, near=words)
    except ConfigError as error:
        raise table.refuse(error.what, error.remedy) from None
    except (FutureWarning, OverflowError, RecursionError, ValueError) as error:
        raise table.refuse(f"no pattern ({error})", "correct the pattern") from None
