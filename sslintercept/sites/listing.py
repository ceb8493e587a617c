"""What a list is made from, what it says of a site, and what became of its lines: values that cross modules."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from sslintercept.errors import InterceptError

SHOWN_MISTAKES: Final = 5
"""Malformed lines that are named; the others are counted."""


class ListError(InterceptError):
    """A list cannot be used as it is; the one that was loaded before stays."""

    kind = "sites"


class Kind(Enum):
    """What a line lists. The order is that of the numbers in an image."""

    HOST = "host"
    """this name and none below"""
    DOMAIN = "domain"
    """this name and all below"""
    BELOW = "subdomains"
    """all names below, not itself"""
    NETWORK = "network"
    URL = "url"
    """this URL; if it has no query, with any"""
    PREFIX = "prefix"
    """this URL, with any query, and all whose path goes on behind it"""


class Entry(NamedTuple):
    """One thing that a line lists."""

    key: bytes
    """see L{sslintercept.sites.key}"""
    kind: Kind
    exception: bool = False
    """it is taken off the list"""
    category: str = ""
    """instead of the file's"""


class Listing(NamedTuple):
    """Why a site is listed."""

    list: str
    category: str
    file: str
    line: int
    matched: str
    """the entry in its one spelling, not the line's"""
    kind: Kind

    def __str__(self) -> str:
        category = f" ({self.category})" if self.category else ""
        return f"list {self.list}{category}: {self.kind.value} {self.matched}, {self.file} line {self.line}"


@dataclass(frozen=True, slots=True)
class ListSettings:
    """
    One list.

    @ivar path: a file, plain or compressed by gzip, or a folder of categories as the lists of the University of
        Toulouse (UT1) have it.
    @ivar format: a name of L{sslintercept.sites.read.FORMATS}, or C{auto}.
    @ivar category: of what has none of its own.
    @ivar categories: of a folder, the ones that are wanted; empty for all.
    @ivar suffixes: whether a line may list a whole public suffix (C{com}, C{co.uk}) or every address.
    """

    name: str
    path: Path
    format: str = "auto"
    category: str = ""
    categories: tuple[str, ...] = ()
    suffixes: bool = False


@dataclass(slots=True)
class Report:
    """
    What became of the lines of a list.

    @ivar lines: all of them.
    @ivar entries: what is listed, each once.
    @ivar duplicates: what was listed already.
    @ivar skipped: lines that are well-formed and say what a list of sites cannot: cosmetic rules, rules with
        conditions, triggers on name servers.
    @ivar malformed: lines that nobody can read.
    @ivar mistakes: the first of them: file, line and what is wrong.
    @ivar formats: in which formats the files were read.
    """

    lines: int = 0
    entries: int = 0
    duplicates: int = 0
    skipped: int = 0
    malformed: int = 0
    mistakes: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)

    def mistake(self, file: str, line: int, what: str) -> None:
        """A malformed line."""
        self.malformed += 1
        if len(self.mistakes) < SHOWN_MISTAKES:
            self.mistakes.append(f"{file} line {line}: {what}")

    def __str__(self) -> str:
        text = (
            f"{self.entries} entries of {self.lines} lines ({', '.join(self.formats)}), {self.duplicates} duplicates, "
            f"{self.skipped} skipped, {self.malformed} malformed"
        )
        return text + (f": {'; '.join(self.mistakes)}" if self.mistakes else "")

    def plain(self) -> dict[str, object]:
        """For an image."""
        return asdict(self)
