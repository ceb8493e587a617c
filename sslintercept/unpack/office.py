"""
Documents of office programs: OOXML (ECMA-376) and ODF (OASIS), which are zips of XML.

The text of each part comes on its own: paragraphs are lines, cells of a row stand on one line with tabs between them.
What is no XML comes as members: pictures, embedded files, macros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sslintercept.unpack.archive import Zip
from sslintercept.unpack.budget import ENCRYPTED, MACROS, Budget
from sslintercept.unpack.markup import XmlText
from sslintercept.unpack.piece import MEMBER, Piece, text

OOXML, ODF = "ooxml", "odf"
MOST_STRINGS: Final = 1_000_000
"""texts that cells of a workbook share"""
MOST_SPACES: Final = 100
"""that C{text:s} of ODF may stand for"""

_BREAKS: Final = frozenset(
    ("p", "h", "br", "cr", "tr", "row", "si", "comment", "list-item", "note", "footnote", "endnote", "li")
)
_NO_TEXT: Final = ("/theme/", "/styles.xml", "/fontTable.xml", "/webSettings.xml")
"""parts of OOXML that say nothing of a writer's"""
_EXPONENT: Final = re.compile(r"-?[0-9.]{1,20}[eE]\+?[0-9]{1,2}")


def kind_of(found: Zip) -> str:
    """L{OOXML}, L{ODF}, or empty for any other zip."""
    names = {entry.name for entry in found.entries}
    if "[Content_Types].xml" in names:
        return OOXML
    return ODF if "content.xml" in names and ("mimetype" in names or "META-INF/manifest.xml" in names) else ""


class WordText(XmlText):
    """Text of OOXML's text and presentations, and of ODF: only what stands between tags, with breaks where they are."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "tab":
            self.add("\t")
        elif name == "s":
            count = attributes.get("text:c", "1")
            self.add(" " * min(int(count) if count.isdigit() and len(count) < 6 else 1, MOST_SPACES))
        elif name in ("br", "cr", "line-break"):
            self.add("\n")
        elif name == "table-cell" and (value := attributes.get("office:value")):
            self.add(f"{value} ")  # what is shown may be rounded

    def end(self, name: str) -> None:
        if name in _BREAKS:
            self.add("\n")
        elif name in ("tc", "table-cell"):
            self.add("\t")


class SharedStrings(XmlText):
    """
    The texts that cells point at.

    @ivar strings: in their order.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.strings: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "si":
            self.out.clear()

    def end(self, name: str) -> None:
        if name == "si" and len(self.strings) < MOST_STRINGS:
            self.strings.append("".join(self.out))


class SheetText(XmlText):
    """The cells of a sheet: what they show, and formulas behind what they give."""

    def __init__(self, most: int, strings: list[str]) -> None:
        super().__init__(most)
        self._strings = strings
        self._type = ""
        self._value: list[str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            self._type = attributes.get("t", "")
        elif name in ("v", "t", "f"):
            self._value = []

    def text(self, data: str) -> None:
        if self._value is not None:
            self._value.append(data)

    def end(self, name: str) -> None:
        if name in ("v", "t", "f") and self._value is not None:
            value, self._value = "".join(self._value), None
            if name == "v" and self._type == "s":
                number = int(value) if value.isdigit() and len(value) < 9 else -1
                value = self._strings[number] if 0 <= number < len(self._strings) else ""
            elif name == "v" and _EXPONENT.fullmatch(value):
                value = whole(value)
            self.add(value if name == "t" else f"{value} " if name == "f" else value)
        elif name == "c":
            self.add("\t")
        elif name == "row":
            self.add("\n")


def whole(value: str) -> str:
    """A large number as a sheet shows it: 4.1111111111111E+15 is 4111111111111100."""
    try:
        number = float(value)
    except ValueError:
        return value
    return str(round(number)) if number.is_integer() and abs(number) < 1e21 else value


def open_office(found: Zip, kind: str, budget: Budget) -> Iterator[Piece]:
    """The texts of a document, and what else is in it."""
    for note in found.notes:
        budget.hit(note)
    strings: list[str] | None = None
    for number, entry in enumerate(found.entries):
        name = entry.name
        budget.tick()
        if name.endswith("/"):
            continue
        if kind == ODF and name == "META-INF/manifest.xml" and b":encryption-data" in found.read(number)[0]:
            budget.hit(ENCRYPTED)
        if not name.endswith((".xml", ".vml")):
            if name.endswith(".rels") or name == "mimetype":
                continue
            content, notes = found.read(number)
            if name.endswith("vbaProject.bin"):
                notes.append(MACROS)
                budget.hit(MACROS)
            yield Piece(MEMBER, name, content, encrypted=entry.encrypted, notes=notes)
            continue
        if any(part in name for part in _NO_TEXT):
            continue
        if strings is None and name.startswith("xl/worksheets/"):
            strings = _strings(found, budget)
        content, notes = found.read(number)
        budget.spend(len(content))
        reader: XmlText
        if name.startswith("xl/worksheets/"):
            reader = SheetText(budget.room, strings or [])
        else:
            reader = WordText(budget.room)
        notes += reader.read(content)
        said = "\n".join(line.strip() for line in "".join(reader.out).split("\n")).strip()
        for note in notes:
            budget.hit(note)
        if said or notes:
            yield text(name, said, *notes)


def _strings(found: Zip, budget: Budget) -> list[str]:
    for number, entry in enumerate(found.entries):
        if entry.name == "xl/sharedStrings.xml":
            reader = SharedStrings(budget.room)
            content, _ = found.read(number)
            budget.spend(len(content))
            reader.read(content)
            return reader.strings
    return []
