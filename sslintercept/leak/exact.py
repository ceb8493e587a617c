"""
Rows of a table that must not leave: registered as keyed hashes of their cells, found where cells of one row meet.

A cell is a number (digits, whatever separates them), or one to L{MOST_WORDS} words. The first word of every cell of
several is registered too, so that a run of words is only hashed where a cell may begin. A row is found where different
columns of it occur near each other: one cell alone says little, several of the same row say whose they are.
"""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import SURE
from sslintercept.leak.digest import DigestTable, digest, pack, read_or_make_key, store_secret
from sslintercept.leak.fold import fold_text
from sslintercept.leak.view import Hit, Looking, View, words_of

MOST_WORDS: Final = 6
"""of a cell"""
LEAST_DIGITS: Final = 5
MOST_DIGITS: Final = 24
LEAST_LETTERS: Final = 3
"""bytes of a cell of words; shorter ones are everywhere"""
MOST_SHARING: Final = 64
"""rows that may have the same cell; what more have in common (a town, a first name) tells nothing, and is left out"""
MOST_COLUMNS: Final = 32
MOST_ROWS: Final = 2**26
GAP: Final = 4
"""bytes between the words of a cell"""
MOST_WITHIN: Final = 2048
MOST_OPEN: Final = 2048
"""rows of which a cell was seen lately"""
MEMORY: Final = 16_384
"""words of which it is remembered what they are"""

_BEGINS: Final = (1 << 32) - 1
"""the number of a word with which cells begin"""
_NUMBER = re.compile(r"[0-9 ./()+\-]+")
_NOT_DIGITS: Final = bytes(byte for byte in range(256) if byte not in b"0123456789")
_JOINED_NUMBER: Final = frozenset(b"0123456789.-+")


def normal(cell: str) -> tuple[bytes, ...]:
    """The words of a cell; one with a sign, if it is a number; none, if it tells too little or is too long."""
    text = fold_text(cell.strip())
    if _NUMBER.fullmatch(text):
        digits = text.encode().translate(None, _NOT_DIGITS)
        return (b"#" + digits,) if LEAST_DIGITS <= len(digits) <= MOST_DIGITS else ()
    words = tuple(word for word, _, _ in words_of(text.encode().lower()))
    return words if len(words) <= MOST_WORDS and len(b"".join(words)) >= LEAST_LETTERS else ()


@dataclass(frozen=True)
class Registered:
    """What was made of a table."""

    columns: tuple[str, ...]
    rows: int
    cells: int
    """registered"""
    empty: int
    """cells that tell too little or are too long"""
    shared: int
    """cells that too many rows have in common"""
    packed: bytes


def register(key: bytes, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Registered:
    """
    Register a table.

    @raise ConfigError: it has too many columns, rows or cells, or a row has too few cells.
    """
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise ConfigError(f"{len(columns)} columns", where="exact data", remedy=f"register 1 to {MOST_COLUMNS} of them")
    if len(set(columns)) < len(columns):
        raise ConfigError("a column is there twice", where="exact data", remedy="name each once")
    cells: dict[int, list[int]] = {}
    begins: set[int] = set()
    lengths: set[int] = set()
    digits_begin = False
    count = empty = 0
    for number, row in enumerate(rows):
        if len(row) < len(columns):
            what = f"row {number + 1} has {len(row)} cells"
            raise ConfigError(what, where="exact data", remedy=f"give it {len(columns)}")
        if number >= MOST_ROWS:
            raise ConfigError(f"more than {MOST_ROWS} rows", where="exact data", remedy="register less")
        count += 1
        for column, cell in enumerate(row[: len(columns)]):
            words = normal(cell)
            if not words:
                empty += 1
                continue
            known = cells.setdefault(digest(key, b" ".join(words)), [])
            if len(known) <= MOST_SHARING:
                known.append(number * MOST_COLUMNS + column)
            if words[0][:1] == b"#":
                lengths.add(len(words[0]) - 1)
            elif len(words) > 1:
                begins.add(digest(key, b"^" + words[0]))
                digits_begin |= words[0][:1].isdigit()
    kept = {
        each: places for each, places in cells.items() if len({at // MOST_COLUMNS for at in places}) <= MOST_SHARING
    }
    entries = [(each, place) for each, places in kept.items() for place in places]
    packed = pack(key, entries + [(each, _BEGINS) for each in begins])
    head = json.dumps({"columns": list(columns), "lengths": sorted(lengths), "digits": digits_begin}).encode()
    shared = len(cells) - len(kept)
    return Registered(
        tuple(columns), count, len(entries), empty, shared, len(head).to_bytes(4, "little") + head + packed
    )


def register_csv(
    path: Path,
    columns: Sequence[str],
    table: Path,
    key_file: Path,
    *,
    encoding: str = "utf-8-sig",
    delimiter: str = ",",
) -> Registered:
    """
    Register columns of a CSV file with a head, into *table*; the key is read from *key_file*, or made.

    @raise ConfigError: the file cannot be read, has no such column, or too much.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            head = next(reader, [])
            missing = [column for column in columns if column not in head]
            if missing:
                what = f"{path} has no column {', '.join(missing)}"
                told = "".join(each if each.isprintable() else " " for each in ", ".join(head)[:200])
                raise ConfigError(what, where="exact data", remedy=f"it has {told}")
            places = [head.index(column) for column in columns]
            key, _ = read_or_make_key(key_file)
            made = register(key, columns, ([row[at] if at < len(row) else "" for at in places] for row in reader))
    except (OSError, UnicodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: {why}", where="exact data", remedy="check the file") from None
    store_secret(table, made.packed)
    return made


class ExactData(Looking):
    """
    A registered table, made ready; shared by all streams.

    @param least: different columns of one row that make a finding.
    @param within: bytes of folded text in which they must be.
    @raise ConfigError: the bytes are no registered table, or one of another key; or a limit is out of bounds.
    """

    def __init__(
        self, name: str, key: bytes, packed: bytes, *, least: int = 2, within: int = 256, score: int = SURE
    ) -> None:
        self.name, self.least, self.within, self.score = name, least, within, score
        where = f"exact data {name}"
        if not 1 <= least <= MOST_COLUMNS or not 0 < within <= MOST_WITHIN:
            what = f"{least} columns within {within} bytes"
            raise ConfigError(what, where=where, remedy=f"at most {MOST_COLUMNS} within {MOST_WITHIN}")
        size = int.from_bytes(packed[:4], "little")
        self._key, self._table = key, DigestTable(key, packed[4 + size :], where=where)
        self.columns, self.lengths, self.digits_begin = _head(packed[4 : 4 + size], where)
        """of numbers, in digits: others need no hash; and whether cells of several words begin with a digit"""
        if least > len(self.columns):
            what = f"{least} columns of a row are asked for, and {len(self.columns)} are registered"
            raise ConfigError(what, where=where, remedy="ask for fewer, or register more")
        self.columns += [f"column {more + 1}" for more in range(len(self.columns), MOST_COLUMNS)]
        self.longest: Final = max(self.lengths, default=0)
        self._known: dict[bytes, tuple[int, ...]] = {}
        self._begins: dict[bytes, bool] = {}

    def start(self, least: int) -> ExactLook:
        """Look at one stream."""
        return ExactLook(self)

    def places(self, cell: bytes) -> tuple[int, ...]:
        """Rows and columns of a normal cell, as one number each."""
        found = self._known.get(cell)
        if found is None:
            if len(self._known) >= MEMORY:
                self._known.clear()
            found = self._known[cell] = self._table.find(digest(self._key, cell))
        return found

    def begins(self, word: bytes) -> bool:
        """Whether a cell of several words begins with this one."""
        found = self._begins.get(word)
        if found is None:
            if len(self._begins) >= MEMORY:
                self._begins.clear()
            found = self._begins[word] = bool(self._table.find(digest(self._key, b"^" + word)))
        return found


def _head(raw: bytes, where: str) -> tuple[list[str], frozenset[int], bool]:
    """Names of columns, lengths of numbers, and whether cells of several words begin with a digit."""
    try:
        head = json.loads(raw)
        columns = [str(column) for column in head["columns"]][:MOST_COLUMNS]
        lengths = frozenset(int(length) for length in head["lengths"])
        digits_begin = bool(head["digits"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError("the head of the table is broken", where=where, remedy="register the table again") from None
    return columns, lengths, digits_begin


class ExactLook:
    """Looks at one stream."""

    __slots__ = ("_data", "_end", "_numbers", "_open", "_rows", "_told")

    def __init__(self, data: ExactData) -> None:
        self._data = data
        self._open: list[tuple[bytes, int, int]] = []
        """runs of words that may be the beginning of a cell, where they begin, and how many more words they may have"""
        self._numbers: deque[tuple[bytes, int]] = deque(maxlen=MOST_WORDS)
        """digits that follow each other closely, and where they begin"""
        self._end = -GAP - 1
        self._rows: dict[int, dict[int, int]] = {}
        """row, column, and where that cell was last"""
        self._told: set[int] = set()

    def look(self, view: View) -> Iterator[Hit]:
        data, numbers, runs = self._data, self._numbers, self._open
        for text, begin, end in view.words():
            if begin - self._end > GAP:
                runs.clear()
                numbers.clear()
            self._end = end
            if text[0] < 58 and _JOINED_NUMBER.issuperset(text):
                numbers.append((text.translate(None, _NOT_DIGITS), begin))
                digits = b""
                for more, start in reversed(numbers):
                    digits = more + digits
                    if len(digits) > data.longest:
                        break
                    if len(digits) in data.lengths and (places := data.places(b"#" + digits)):
                        yield from self._met(places, begin, start, end)
            else:
                numbers.clear()
                if places := data.places(text):
                    yield from self._met(places, begin, begin, end)
            if runs:
                longer = [(b"%b %b" % (run, text), start, more - 1) for run, start, more in runs]
                for run, start, _ in longer:
                    if places := data.places(run):
                        yield from self._met(places, begin, start, end)
                runs[:] = [each for each in longer if each[2]]
            if (data.digits_begin or not 48 <= text[0] < 58) and data.begins(text):
                runs.append((text, begin, MOST_WORDS - 1))

    def _met(self, places: tuple[int, ...], at: int, begin: int, end: int) -> Iterator[Hit]:
        """A cell was met, of which the last word begins at *at*."""
        data, rows = self._data, self._rows
        for place in places:
            row, column = divmod(place, MOST_COLUMNS)
            if place == _BEGINS or row in self._told:
                continue
            columns = rows.pop(row, {})
            columns[column] = begin
            columns = {each: place for each, place in columns.items() if end - place <= data.within}
            rows[row] = columns
            if len(columns) >= data.least:
                yield self._hit(row, columns, at, end)
        if len(rows) > MOST_OPEN:
            for row in list(rows)[: len(rows) - MOST_OPEN // 2]:  # those seen least lately
                del rows[row]

    def _hit(self, row: int, columns: dict[int, int], at: int, end: int) -> Hit:
        del self._rows[row]
        if len(self._told) < MOST_OPEN:
            self._told.add(row)
        names = ", ".join(self._data.columns[column] for column in sorted(columns))
        begin = min(columns.values())
        evidence = f"row {row + 1}: {names}"
        return Hit(at, self._data.name, begin, end, evidence, self._data.score, hash((self._data.name, row)))
