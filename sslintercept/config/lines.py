"""
The ini file as lines: bytes in, sections with their keys and line numbers out, and what is wrong with the rest.

Blank lines and lines that begin with C{;} or C{#} say nothing; C{;} or C{#} after white space begins a comment to the
end of the line. A line that is indented deeper than its key continues the key's value; a blank line ends it. Nothing is
interpolated, quoted or unescaped. What is not understood is never repeated in a message: it may be a private key that
was pasted by mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_COMMENT: Final = re.compile(r"(?:^|\s)[;#].*")
_SECTION: Final = re.compile(r"\[\s*([^\[\]\s][^\[\]]{0,79})\]")
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_MARK: Final = b"\xef\xbb\xbf"
"""what some editors write in front of UTF-8"""


@dataclass(slots=True)
class Entry:
    """A key's value as it stands in the file; its lines without indentation and comments."""

    line: int
    parts: list[str]

    @property
    def value(self) -> str:
        """The lines that are not empty, joined by line feeds."""
        return "\n".join(part for part in self.parts if part)


@dataclass(slots=True)
class Section:
    """What stands between the brackets, in which line, and the keys below."""

    name: str
    line: int
    entries: dict[str, Entry] = field(default_factory=dict)


class Fault(NamedTuple):
    """A line that cannot be used; C{section} and C{key} are empty where they are not known."""

    line: int
    section: str
    key: str
    what: str


def parse(data: bytes) -> tuple[list[Section], list[Fault]]:
    """The sections in the order of the file (one given twice is there twice), and every fault in the order of lines."""
    parser = _Parser()
    for number, line in enumerate(data.removeprefix(_MARK).split(b"\n"), 1):
        parser.take(number, line)
    return parser.sections, parser.faults


class _Parser:
    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.faults: list[Fault] = []
        self._first: dict[str, int] = {}
        self._section: Section | None = None
        self._open: Entry | None = None
        """the entry that an indented line would continue"""
        self._indent = 0
        """of the open entry's key"""

    def take(self, number: int, raw: bytes) -> None:
        """Take in the next line."""
        try:
            line = raw.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError:
            self._fault(number, "not UTF-8; save the file as UTF-8")
            return
        if _CONTROL.search(line):
            self._fault(number, "a control character; remove it")
            return
        bare = line.strip()
        if not bare:
            self._open = None
            return
        if bare[0] in ";#":
            return
        indent = len(line) - len(line.lstrip())
        bare = _COMMENT.sub("", bare).rstrip()
        if self._open is not None and indent > self._indent:
            self._open.parts.append(bare)
        elif bare.startswith("["):
            self._header(number, bare)
        else:
            self._indent = indent
            self._entry(number, bare)

    def _header(self, number: int, bare: str) -> None:
        self._open = None
        match = _SECTION.fullmatch(bare)
        if match is None:
            self._fault(number, "not a section; write [NAME] in a line of its own", section="")
            # Its keys belong to no other section either.
            self._section = Section("", number)
            return
        section = self._section = Section(match[1].strip(), number)
        first = self._first.setdefault(section.name, number)
        if first != number:
            self._fault(number, f"given twice, first in line {first}; keep one of the two")
        self.sections.append(section)

    def _entry(self, number: int, bare: str) -> None:
        key, equals, value = bare.partition("=")
        key = key.rstrip()
        self._open = None
        if not equals or not _KEY.fullmatch(key):
            self._fault(number, "not understood; write [SECTION], key = value, or a comment that begins with ; or #")
            return
        if self._section is None:
            self._fault(number, "a key before the first section; write a line like [http] above it", key)
            self._section = Section("", number)
        self._open = Entry(number, [value.strip()])
        first = self._section.entries.setdefault(key, self._open)
        if first is not self._open:
            self._fault(number, f"given twice, first in line {first.line}; keep one of the two", key)

    def _fault(self, number: int, what: str, key: str = "", section: str | None = None) -> None:
        if section is None:
            section = self._section.name if self._section is not None else ""
        self.faults.append(Fault(number, section, key, what))
