"""
Text of HTML and XML.

HTML is read by its tokens (WHATWG HTML 13.2.5) and not as a tree: what builds one, as browsers do, takes minutes for a
page of a hundred thousand elements inside each other, and a text needs no tree. XML is read by expat; a document that
declares entities is not read on: nobody needs them, and they are how a small one stands for gigabytes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Final
from xml.parsers import expat

from sslintercept.unpack.budget import ENTITIES, RUBBISH, SIZE, TRUNCATED, Budget
from sslintercept.unpack.charset import decode
from sslintercept.unpack.piece import Piece, text

_SPACE: Final = r"\t\n\f\r "
_TOKEN: Final = re.compile(
    rf"""
    <!--(?:-?>|.*?(?:--!?>|\Z))
    | <[!?][^>]*+>?
    | </[^a-zA-Z>][^>]*+>?
    | <(/?)([a-zA-Z][^{_SPACE}/>]*+)
      ((?:
        [{_SPACE}/]++
        | [^{_SPACE}/>][^{_SPACE}/>=]*+
          (?: [{_SPACE}]*+=[{_SPACE}]*+ (?: "[^"]*+(?:"|\Z) | '[^']*+(?:'|\Z) | [^{_SPACE}>"'][^{_SPACE}>]*+ )?+ )?+
      )*+)
      (?:>|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
"""a comment, what browsers take for one, or a tag; each part can end in one place only"""
_ATTRIBUTE: Final = re.compile(
    rf"""([^{_SPACE}/>=]++)[{_SPACE}]*+=[{_SPACE}]*+(?:"([^"]*+)"?|'([^']*+)'?|([^{_SPACE}>]++))"""
)
_LONG: Final = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")
_SHOWN: Final = re.compile(
    r"\b(?:title|alt|value|content|placeholder|label|aria-label|summary|srcdoc)\b", re.IGNORECASE
)
_SHOWN_NAMES: Final = frozenset(
    ("title", "alt", "value", "content", "placeholder", "label", "aria-label", "summary", "srcdoc")
)
"""attributes whose values people read, or send"""
_SKIPPED: Final = frozenset(("script", "style"))
_RAW: Final = _SKIPPED | {"xmp", "iframe", "noembed", "noframes"}
_RAW_END: Final = {
    name: re.compile(rf"</{name}(?=[{_SPACE}/>])|\Z", re.IGNORECASE) for name in (*_RAW, "title", "textarea")
}
MOST_INSIDE: Final = 4
"""documents in attributes of documents"""
MOST_PLAIN: Final = 1000
"""characters of a tag that is remembered, and how many of them are"""
_INLINE: Final = frozenset(
    (
        *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins"),
        *("kbd", "label", "mark", "nobr", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt"),
        *("u", "var", "wbr"),
    )
)
"""elements that do not separate the letters around them; all others do"""


def open_html(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """What a page says to whoever reads it."""
    source, notes = decode(piece.content, piece.charset)
    yield text("text", html_text(source, budget.tick), *notes)


def html_text(source: str, tick: Callable[[], object] = lambda: None, depth: int = 0) -> str:
    """
    Text and attributes that are shown, with entities replaced, elements of blocks on lines of their own.

    @param depth: how many documents it is inside of.
    """
    out: list[str] = []
    plain: dict[str, str] = {}
    """tags that need no look any more, with what they leave: most of a page are the same few"""
    at = count = 0
    while (token := _TOKEN.search(source, at)) is not None:
        begin, end = token.span()
        if begin > at:
            piece = source[at:begin]
            out.append(unescape(piece) if "&" in piece else piece)
        at = end
        count += 1
        if not count & 0xFFF:
            tick()
        whole = token[0]
        if (leaves := plain.get(whole)) is not None:
            out.append(leaves)
            continue
        closing, name, attributes = token.groups()
        if name is None:
            continue
        name = name.lower()
        leaves = "" if name in _INLINE else "\n"
        out.append(leaves)
        if attributes and _SHOWN.search(attributes):
            out.extend(_attributes(attributes, tick, depth))
        elif name not in _RAW_END and len(whole) < MOST_PLAIN and len(plain) < MOST_PLAIN:
            plain[whole] = leaves
        if not closing and name in _RAW_END:
            raw_end = _RAW_END[name].search(source, at)
            assert raw_end is not None
            if name not in _SKIPPED:
                inside = source[at : raw_end.start()]
                out.append(inside if name in _RAW else unescape(inside))
            at = raw_end.start()
        elif name == "plaintext":
            out.append(source[at:])
            at = len(source)
    out.append(unescape(source[at:]))
    return tidy("".join(out))


def tidy(lines: str) -> str:
    """Without blank lines, and blanks around the others."""
    return "\n".join(stripped for line in lines.split("\n") if (stripped := line.strip()))


def unescape(source: str) -> str:
    """With character references replaced."""
    try:
        return html.unescape(source)
    except ValueError:  # more digits than Python reads
        return html.unescape(_LONG.sub("\ufffd", source))


def _attributes(tag: str, tick: Callable[[], object], depth: int) -> Iterator[str]:
    for match in _ATTRIBUTE.finditer(tag):
        if (name := match[1].lower()) in _SHOWN_NAMES:
            value = unescape(match[2] or match[3] or match[4] or "")
            if name == "srcdoc" and "<" in value and depth < MOST_INSIDE:
                value = html_text(value, tick, depth + 1)
            yield f"\n{value}\n"


_CUT_OFF: Final = frozenset(
    expat.errors.codes[text]
    for text in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
)


class Forbidden(Exception):
    """A document declares entities."""


class Excess(Exception):
    """A document says too much."""


class XmlText:
    """
    Collects the text of an XML document.

    @param start: called with an element's name without its prefix, and its attributes; C{end} with its name. Both add
        to C{out} what they like.
    """

    def __init__(self, most: int) -> None:
        self.out: list[str] = []
        self._room = most
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = lambda name, attributes: self.start(name.rpartition(":")[2], attributes)
        parser.EndElementHandler = lambda name: self.end(name.rpartition(":")[2])
        parser.CharacterDataHandler = self.text
        parser.EntityDeclHandler = self._entity
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def read(self, content: bytes) -> list[str]:
        """Read a document; what is to be known of it. What came before a mistake in it counts."""
        notes: list[str] = []
        try:
            self._parser.Parse(content, True)
        except Forbidden:
            notes.append(ENTITIES)
        except Excess:
            notes.append(SIZE)
        except expat.ExpatError as error:
            notes.append(TRUNCATED if error.code in _CUT_OFF else RUBBISH)
        except (ValueError, LookupError):  # an encoding that nobody knows
            notes.append(RUBBISH)
        return notes

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self.add("\n")
        for value in attributes.values():
            self.add(value)
            self.add("\n")

    def end(self, name: str) -> None:
        """An element ends."""
        self.add("\n")

    def text(self, data: str) -> None:
        """Characters between tags."""
        self.add(data)

    def add(self, data: str) -> None:
        """
        Add to the text.

        @raise Excess: there is too much.
        """
        self._room -= len(data)
        if self._room < 0:
            raise Excess
        self.out.append(data)

    def _entity(self, *declared: object) -> None:
        raise Forbidden


def open_xml(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """All text and attributes of a document."""
    reader = XmlText(budget.room)
    notes = reader.read(piece.content)
    yield text("text", tidy("".join(reader.out)), *notes)
