"""C{sslintercept leak ...}: registers what must not leave, and tries on files what is looked for."""

from __future__ import annotations

import csv
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sslintercept.errors import ConfigError
from sslintercept.leak import fingerprint
from sslintercept.leak.dictionary import Dictionaries
from sslintercept.leak.digest import KEY_BYTES, read_or_make_key, store_secret
from sslintercept.leak.exact import MOST_SHARING, register_csv
from sslintercept.leak.files import check_names, read_dictionary, read_exact, read_fingerprints, read_patterns
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Finding, Looking, Policy, Scan
from sslintercept.leak.table import GROUPS, chosen

CHUNK: Final = 64 * 1024
"""bytes of a file that are read at once"""
MOST_DOCUMENT: Final = 64 * 1024 * 1024
"""bytes of a document that is registered"""
FOUND: Final = 2
"""exit status of a scan that found something"""
DELIMITERS: Final = {",": ",", ";": ";", "|": "|", "tab": "\t"}

Named = tuple[str, Path]
"""what a file is (C{exact}, C{fingerprints}, C{key}), and where"""


def printable(text: str) -> str:
    """Text for one line of a terminal, whatever was in the name of a file or a column."""
    return "".join(character if character.isprintable() else "?" for character in text)


def register_table(source: Path, columns: str, output: Path, key: Path, *, encoding: str, delimiter: str) -> int:
    """
    Register columns of a CSV file, and say what became of them.

    @param columns: their names with commas between them, as a line of CSV.
    @raise ConfigError: see L{register_csv}; or one file is named for two things.
    """
    _all_differ([source], output, key)
    names = [name.strip() for name in next(csv.reader([columns]), [])]
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    except LookupError:
        raise ConfigError(f"no encoding {encoding}", where="--encoding", remedy="try utf-8 or cp1252") from None
    new = not os.path.exists(key)
    made = register_csv(source, names, output, key, encoding=encoding, delimiter=DELIMITERS[delimiter])
    _say_key(key, new=new)
    told = ", ".join(map(printable, made.columns))
    print(f"{output}: columns {told}; {made.rows} rows, {made.cells} cells")
    if made.empty or made.shared:
        shared = f"{made.shared} different ones that more than {MOST_SHARING} rows have"
        print(f"left out: {made.empty} cells that tell too little or are too long, {shared}")
    if not made.cells:
        raise ConfigError("nothing of it can be found", where=str(source), remedy="name columns that tell rows apart")
    return 0


def register_documents(sources: Sequence[Path], output: Path, key: Path) -> int:
    """
    Register documents of plain text, and say which cannot be found.

    @raise ConfigError: one cannot be read, is no plain text or too large; or one file is named for two things.
    """
    _all_differ(sources, output, key)
    names = _names(sources)
    secret, new = read_or_make_key(key)
    made = fingerprint.register(secret, {name: _document(source) for name, source in zip(names, sources, strict=True)})
    store_secret(output, made.packed)
    _say_key(key, new=new)
    print(f"{output}: {made.documents} documents, {made.prints} fingerprints")
    for name in made.short:
        print(f"too short to be found: {name}")
    if len(made.short) == made.documents:
        raise ConfigError("none of them can be found", where=str(output), remedy="register longer documents")
    return 0


def _all_differ(sources: Sequence[Path], output: Path, key: Path) -> None:
    """What is written must not take the place of what is read."""
    counted = Counter(os.path.realpath(path) for path in (*sources, output, key))
    for path, count in counted.items():
        if count > 1:
            raise ConfigError("one file is named twice", where=path, remedy="name another one")


def _names(sources: Sequence[Path]) -> list[str]:
    """What findings call documents: their files, with folders only where files are called the same."""
    counted = Counter(source.name for source in sources)
    names = [printable(source.name if counted[source.name] == 1 else str(source)) for source in sources]
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{count} documents are called {name}", where="leak", remedy="rename some")
    return names


def _document(path: Path) -> Iterator[bytes]:
    remedy = "save its text as UTF-8"
    total = 0
    for chunk in _chunks(path, regular=True):
        total += len(chunk)
        if total > MOST_DOCUMENT:
            raise ConfigError(f"more than {MOST_DOCUMENT} bytes", where=str(path), remedy="cut it into parts")
        if b"\0" in chunk:
            raise ConfigError("no plain text: it has bytes of zero", where=str(path), remedy=remedy)
        yield chunk


def _chunks(path: Path, *, regular: bool = False) -> Iterator[bytes]:
    """
    The bytes of a file.

    @raise ConfigError: it cannot be read.
    """
    try:
        if regular and not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError("not a regular file", where=str(path), remedy="name a file")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(path), remedy="check the path") from None


def _say_key(key: Path, *, new: bool) -> None:
    print(f"{'made' if new else 'used'} the key {key} ({KEY_BYTES} bytes)")


def scan(
    sources: Sequence[Path],
    *,
    detectors: Sequence[str] = (),
    dictionaries: Sequence[Path] = (),
    patterns: Sequence[Path] = (),
    registered: Sequence[Named] = (),
    least: int = 2,
) -> int:
    """
    Print what is found in files, masked; 0 if that is nothing, else L{FOUND}.

    @param detectors: names with commas between them; all that ship, if nothing else is named either.
    @param registered: tables and keys in the order in which they were named; see L{_with_keys}.
    @param least: different columns of a row of a table that make a finding.
    @raise ConfigError: something that is named cannot be used.
    """
    looking = _looking(detectors, dictionaries, patterns, registered, least)
    policy = Policy(looking)
    return FOUND if sum([_scan_one(source, policy) for source in sources]) else 0


def _looking(
    detectors: Sequence[str],
    dictionaries: Sequence[Path],
    patterns: Sequence[Path],
    registered: Sequence[Named],
    least: int,
) -> list[Looking]:
    own = [each for path in patterns for each in read_patterns(path)]
    words = [each for path in dictionaries for each in read_dictionary(path)]
    tables = [
        read_exact(path, key, least=least) if what == "exact" else read_fingerprints(path, key)
        for what, path, key in _with_keys(registered)
    ]
    check_names(each.name for each in (*own, *words, *tables))
    names = [name.strip() for each in detectors for name in each.split(",") if name.strip()]
    if not (names or own or words or tables):
        names = list(GROUPS)
    looking: list[Looking] = list(tables)
    if names or own:
        looking.insert(0, Patterns([*chosen(names), *own]))
    if words:
        looking.insert(0, Dictionaries(words))
    return looking


def _with_keys(registered: Sequence[Named]) -> list[tuple[str, Path, Path]]:
    """
    Tables with their keys: one key is that of all; of several each is that of the tables named in front of it.

    @raise ConfigError: a table has no key, or a key no table.
    """
    found: list[tuple[str, Path, Path]] = []
    waiting: list[Named] = []
    if sum(what == "key" for what, _ in registered) == 1:
        registered = sorted(registered, key=lambda each: each[0] == "key")
    for what, path in registered:
        if what != "key":
            waiting.append((what, path))
            continue
        if not waiting:
            raise ConfigError(f"{path} is the key of nothing", where="--key", remedy="name it behind its tables")
        found += [(kind, table, path) for kind, table in waiting]
        waiting = []
    if waiting:
        raise ConfigError(f"{waiting[0][1]} has no key", where="--key", remedy="name its key behind it")
    return found


def _scan_one(source: Path, policy: Policy) -> int:
    """Print what is found in one file; how much that is."""
    name = printable(str(source))
    looked = Scan(policy)
    plain = True
    for chunk in _chunks(source):
        if plain and b"\0" in chunk:
            plain = False
            print(f"{name}: no plain text, so what is packed or coded in it is not seen", file=sys.stderr)
        _tell(name, looked.feed(chunk))
    _tell(name, looked.finish())
    told = 0
    for detector, count in looked.counts.items():
        told += count.told
        if count.told < count.found:
            print(f"{name}: {count.found} of {detector} in all, {count.told} told")
    if not told:
        print(f"{name}: nothing found")
    return told


def _tell(name: str, findings: Sequence[Finding]) -> None:
    for each in findings:
        print(f"{name}: byte {each.offset}: {each.detector}, score {each.score}: {printable(each.evidence)}")


def list_detectors() -> int:
    """Print all detectors that ship, by group, with where their formats are from."""
    for group, detectors in GROUPS.items():
        print(group)
        for each in detectors:
            print(f"  {each.name}  {each.title}  ({each.source})")
    return 0
