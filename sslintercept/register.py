"""C{sslintercept leak ...}: registers what must not leave, and tries on files what is looked for."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sslintercept.contents import Contents, Run
from sslintercept.errors import ConfigError
from sslintercept.leak import fingerprint
from sslintercept.leak.dictionary import Dictionaries
from sslintercept.leak.digest import KEY_BYTES, read_or_make_key, store_secret
from sslintercept.leak.exact import MOST_SHARING, register_csv
from sslintercept.leak.files import check_names, read_dictionary, read_exact, read_fingerprints, read_patterns
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Finding, Policy, Scan
from sslintercept.leak.table import GROUPS, chosen
from sslintercept.leak.view import Looking
from sslintercept.worker.alone import Alone

MOST_DOCUMENT: Final = 64 * 1024 * 1024
"""bytes of text of a document that is registered"""
UNREAD: Final = 1
"""exit status of a scan that found nothing in what it could read, which was not all"""
FOUND: Final = 2
"""exit status of a scan that found something"""
DELIMITERS: Final = {",": ",", ";": ";", "|": "|", "tab": "\t"}
_PLAIN: Final = "save its text as UTF-8"

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
    Register the texts of documents, and say which cannot be found.

    @raise ConfigError: nothing of one can be read, or it is too large; or one file is named for two things.
    """
    _all_differ(sources, output, key)
    names = _names(sources)
    secret, new = read_or_make_key(key)
    with Alone() as worker:
        texts = {name: _document(source, worker.run) for name, source in zip(names, sources, strict=True)}
        made = fingerprint.register(secret, texts)
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


def _document(path: Path, run: Run) -> Iterator[bytes]:
    """
    All texts of a document, one behind the other.

    @raise ConfigError: it cannot be read, or is too large.
    """
    contents = Contents(path, run, regular=True)
    total, empty = 0, True
    for text in contents.texts(once=True):
        for chunk in text.chunks:
            total += len(chunk)
            if total > MOST_DOCUMENT:
                raise ConfigError(f"more than {MOST_DOCUMENT} bytes", where=str(path), remedy="cut it into parts")
            if not text.path and b"\0" in chunk:
                raise ConfigError("no plain text: it has bytes of zero", where=str(path), remedy=_PLAIN)
            yield chunk
        yield b"\n"
        empty = False
    if empty:
        reasons = ", ".join(dict.fromkeys(printable(why) for _, why in contents.unread)) or "no text"
        raise ConfigError(f"nothing of it can be read ({reasons})", where=str(path), remedy=_PLAIN)
    _tell_unread(printable(str(path)), contents)


def _tell_unread(name: str, contents: Contents) -> None:
    for path, why in contents.unread:
        print(f"{_named(name, path)}: not all is read ({printable(why)})", file=sys.stderr)


def _named(name: str, path: Sequence[str]) -> str:
    return " > ".join((name, *map(printable, path)))


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
    Print what is found in files, masked; 0 if that is nothing, L{FOUND}, or L{UNREAD}.

    @param detectors: names with commas between them; all that ship, if nothing else is named either.
    @param registered: tables and keys in the order in which they were named; see L{_with_keys}.
    @param least: different columns of a row of a table that make a finding.
    @raise ConfigError: something that is named cannot be used.
    """
    policy = Policy(_looking(detectors, dictionaries, patterns, registered, least))
    with Alone() as worker:
        scanned = [_scan_one(source, policy, worker.run) for source in sources]
    if any(told for told, _ in scanned):
        return FOUND
    return 0 if all(whole for _, whole in scanned) else UNREAD


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


def _scan_one(source: Path, policy: Policy, run: Run) -> tuple[int, bool]:
    """Print what is found in one file; how much that is, and whether all of it was read."""
    name = printable(str(source))
    contents = Contents(source, run)
    told, some = 0, False
    for text in contents.texts():
        some = True
        told += _scan_text(_named(name, text.path), text.chunks, policy)
    if some and not told:
        print(f"{name}: nothing found" + (" in what is read" if contents.unread else ""))
    _tell_unread(name, contents)
    return told, not contents.unread


def _scan_text(name: str, chunks: Iterator[bytes], policy: Policy) -> int:
    looked = Scan(policy)
    for chunk in chunks:
        _tell(name, looked.feed(chunk))
    _tell(name, looked.finish())
    told = 0
    for detector, count in looked.counts.items():
        told += count.told
        if count.told < count.found:
            print(f"{name}: {count.found} of {detector} in all, {count.told} told")
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
