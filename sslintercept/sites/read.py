"""
Files and folders to entries: which format a file is in, and how much of it is read.

What a list says is nobody's promise: a line has a longest length, a file a greatest size and number of lines, and lines
that cannot be read are left out and counted. A file of which most cannot be read is no list, and refused.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from sslintercept.sites.adblock import Adblock
from sslintercept.sites.image import Builder
from sslintercept.sites.key import shown
from sslintercept.sites.lines import Hosts, Parser, Plain, Table, Urls
from sslintercept.sites.listing import Entry, Kind, ListError, ListSettings
from sslintercept.sites.zone import Zone

MAX_LINE: Final = 16 * 1024
"""bytes of a line"""
MAX_LINES: Final = 20_000_000
"""lines of one list"""
MAX_BYTES: Final = 2 * 1024**3
"""bytes of one file, once decompressed"""
MAX_CATEGORIES: Final = 1000
"""entries of a folder of categories"""
SAMPLE: Final = 64 * 1024
"""bytes by which a format is recognised"""
SAMPLE_LINES: Final = 300
BOM: Final = b"\xef\xbb\xbf"
GZIP: Final = b"\x1f\x8b"
AUTO: Final = "auto"


class Format(NamedTuple):
    """A format: who reads it, and how a line of it looks."""

    parser: Callable[[], Parser]
    looks: re.Pattern[bytes]
    closest: bool = False
    """the closest entry decides, be it an exception or not"""


def looks(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.IGNORECASE)


FORMATS: Final = {
    "rpz": Format(Zone, looks(rb"\$(?:TTL|ORIGIN)\s|\S*\s+(?:\d+\s+)?(?:IN\s+)?(?:CNAME|SOA)\s"), True),
    "adblock": Format(Adblock, looks(rb"\|\||@@|\[Adblock|!|[^#\s][^#]*#@?[?$]?#|##[^#\s]")),
    "hosts": Format(Hosts, looks(rb"\s*(?:[\d.]{7,15}|(?=[\da-f.]*:)[\da-f:.]{2,45})(?:%\w+)?\s+[^\s#;]")),
    "csv": Format(Table, looks(rb'"[^"]*",|[^\s",#/]+,')),
    "plain": Format(Plain, looks(rb"[^\s,|@!#\[]+\s*(?:[#;].*)?$")),
    "urls": Format(Urls, looks(rb"(?!)")),
}
"""The formats, and the order in which they are preferred where lines look like several; C{urls} has to be asked for."""


class Part(NamedTuple):
    """A file of a list."""

    path: Path
    shown: str
    category: str
    format: str


class Lines(Protocol):
    """A file, as far as it is read by lines."""

    def readline(self, size: int, /) -> bytes: ...


def error(settings: ListSettings, what: str, remedy: str) -> ListError:
    return ListError(what, where=f"list {settings.name}", remedy=remedy)


def parts(settings: ListSettings) -> list[Part]:
    """
    Give the files of a list.

    @raise ListError: there is none.
    """
    if settings.format != AUTO and settings.format not in FORMATS:
        raise error(settings, f"unknown format {settings.format!r}", f"write {AUTO} or {', '.join(FORMATS)}")
    try:
        if not settings.path.is_dir():
            return [Part(settings.path, str(settings.path), settings.category, settings.format)]
        folder = settings.path
        found = list(category(folder, settings.category or folder.name, settings.format))
        for number, each in enumerate(() if found else sorted(folder.iterdir())):
            if number > MAX_CATEGORIES:
                raise error(settings, f"over {MAX_CATEGORIES} entries in {folder}", "leave out what is no category")
            if settings.categories and each.name not in settings.categories:
                continue
            # The lists of Toulouse have old names of categories as links to the new ones.
            if each.is_dir() and (not each.is_symlink() or each.name in settings.categories):
                found += category(each, each.name, settings.format)
    except OSError as problem:
        raise error(settings, f"cannot read {settings.path} ({problem.strerror})", "make it readable") from problem
    missing = set(settings.categories) - {part.category for part in found}
    if missing:
        raise error(settings, f"no category {', '.join(sorted(missing))} in {folder}", "correct the categories")
    if not found:
        raise error(settings, f"no files domains or urls in {folder}, nor in folders in it", "correct the path")
    return found


def category(folder: Path, name: str, wanted: str) -> Iterator[Part]:
    """The files of one category (C{adult/domains}, C{adult/urls})."""
    for file, format_ in (("domains", "plain"), ("urls", "urls")):
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                yield Part(path, f"{folder.name}/{path.name}", name, format_ if wanted == AUTO else wanted)
                break


def stamp(settings: ListSettings) -> tuple[tuple[str, int, int, int], ...]:
    """
    Give something that changes when a file of the list does; empty if there is none.

    May wait for the disk.
    """
    try:
        stamps = []
        for part in parts(settings):
            found = part.path.stat()
            stamps.append((str(part.path), found.st_mtime_ns, found.st_size, found.st_ino))
        return tuple(stamps)
    except (ListError, OSError):
        return ()


def build(settings: ListSettings) -> Builder:
    """
    Read all files of a list. Takes seconds for a million lines.

    @raise ListError: it cannot be used.
    """
    builder = Builder(settings.name)
    report = builder.report
    for part in parts(settings):
        try:
            one(settings, part, builder)
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise error(settings, f"{part.shown} is not whole ({problem})", "fetch it again") from problem
        except OSError as problem:
            raise error(settings, f"cannot read {part.shown} ({problem.strerror})", "make it readable") from problem
    if not report.lines:
        raise error(settings, "not a single line", "fetch it again, or put a comment into a list that is to be empty")
    return builder


def one(settings: ListSettings, part: Part, builder: Builder) -> None:
    """Read one file."""
    with opened(settings, part) as file:
        reader = BufferedReader(file, SAMPLE)
        name = part.format if part.format != AUTO else recognised(reader.peek(SAMPLE)[:SAMPLE])
        if name is None:
            raise error(settings, f"{part.shown} is in no format that is known", f"write {', '.join(FORMATS)}")
        format_ = FORMATS[name]
        builder.closest = format_.closest
        if name not in builder.report.formats:
            builder.report.formats.append(name)
        take(settings, part, format_.parser(), reader, builder)


def opened(settings: ListSettings, part: Part) -> BufferedReader | Unpacked:
    """Open a regular file, and see whether it is compressed."""
    descriptor = os.open(part.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise error(settings, f"{part.shown} is not a regular file", "correct the path")
    if file.peek(2)[:2] != GZIP:
        return file
    return Unpacked(file)


class Unpacked(gzip.GzipFile):
    """A compressed file that closes the one below it."""

    def __init__(self, file: BufferedReader) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


def recognised(sample: bytes) -> str | None:
    """The format that most lines look like; a single line that is cut off at the end does not count."""
    lines = sample.removeprefix(BOM).splitlines()[:SAMPLE_LINES]
    if len(sample) == SAMPLE and len(lines) > 1:
        lines = lines[:-1]
    votes = dict.fromkeys(FORMATS, 0)
    for line in lines:
        for name, format_ in FORMATS.items():
            if format_.looks.match(line[:1024]) is not None:
                votes[name] += 1
                break
    best = max(votes, key=lambda name: votes[name])
    if votes[best]:
        return best
    return "plain" if all(line.strip()[:1] in (b"", b"#", b";") for line in lines) else None


def take(settings: ListSettings, part: Part, parser: Parser, reader: Lines, builder: Builder) -> None:
    """
    Give all lines to a parser and what it finds to the builder.

    @raise ListError: there is too much, or most of it is malformed, or nothing can be used.
    """
    report, source, read = builder.report, builder.source(part.shown, part.category), parser.read
    malformed, skipped, used = report.malformed, report.skipped, 0
    for number, line in numbered(settings, part, reader):
        report.lines += 1
        if report.lines > MAX_LINES:
            raise error(settings, f"more than {MAX_LINES} lines", "split it")
        try:
            if line is None:
                raise ValueError(f"more than {MAX_LINE} bytes")
            entries = read(line)
            if entries is None:
                report.skipped += 1
                continue
            for entry in entries:
                allowed(entry, settings.suffixes)
        except ValueError as problem:
            report.mistake(part.shown, number, str(problem))
            continue
        for entry in entries:
            used += 1
            where = source if not entry.category else builder.source(part.shown, entry.category)
            builder.add(entry, number, where)
    malformed, skipped = report.malformed - malformed, report.skipped - skipped
    if malformed > used + skipped or (skipped and not used):
        first = f"; {report.mistakes[0]}" if report.mistakes else ""
        raise error(
            settings,
            f"{part.shown} is no list of sites: {malformed} lines are malformed, {skipped} say nothing of whole sites, "
            f"{used} can be used{first}",
            "correct its format, or fetch it again",
        )


NAMES: Final = frozenset((Kind.HOST, Kind.DOMAIN, Kind.BELOW))
REGISTRIES: Final = frozenset(
    b"ac co com edu go gob gov govt gouv ltd mil ne net nic nom or org plc sch".split(),
)
"""Second labels below which the registries of countries register names (publicsuffix.org lists all there are)."""
COUNTRY: Final = re.compile(rb"([a-z]+)\.[a-z]{2}")


def allowed(entry: Entry, suffixes: bool) -> None:
    """@raise ValueError: more is listed than can be meant."""
    key, kind = entry.key, entry.kind
    if suffixes or entry.exception:
        return
    if kind is Kind.NETWORK:
        if not key[1]:
            raise ValueError(f"{shown(key)} is every address")
    elif kind in NAMES:
        if b"." not in key:
            raise ValueError(f"{shown(key)} is a whole top-level domain")
        if len(key) < 8 and kind is not Kind.HOST:
            match = COUNTRY.fullmatch(key)
            if match is not None and match[1] in REGISTRIES:
                raise ValueError(f"{shown(key)} is a whole public suffix")


def numbered(settings: ListSettings, part: Part, reader: Lines) -> Iterator[tuple[int, bytes | None]]:
    """Give each line with its number; C{None} for one that is too long."""
    number, left = 0, MAX_BYTES
    readline = reader.readline
    while line := readline(MAX_LINE):
        number += 1
        left -= len(line)
        whole = len(line) < MAX_LINE or line.endswith(b"\n")
        rest = b"" if whole else line
        while rest and not rest.endswith(b"\n") and left >= 0:
            rest = readline(MAX_LINE)
            left -= len(rest)
        if left < 0:
            raise error(settings, f"{part.shown} has more than {MAX_BYTES >> 20} MiB", "split it")
        if number == 1:
            line = line.removeprefix(BOM)
        yield number, line if whole else None
