"""
A place in an HTML document that comes piece by piece (WHATWG HTML 13.2.5, as far as tags are concerned).

What takes long is passed over in one step, 42 MB/s of a page in chunks of 16 KiB; tag by tag it was 6.

Comments, attribute values and the text of scripts, styles, titles and the like are passed over: what looks like a tag
there is none. Not followed is what a script does after C{<!-- <script>} inside itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

RAW: Final = frozenset((b"script", b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes"))
"""elements in which there are no tags"""
LOOK: Final = len("</textarea>") + 1
"""bytes from a C{<} that tell what it begins, and one more than is ever held"""

_SPACE: Final = b"\t\n\f\r "
_NAME = re.compile(rb"<(/?)([a-z][^\t\n\f\r />]*)")
_ORDINARY = re.compile(
    rb"""
    (?:
        [^<]* <
        (?! /? (?: head | body | %b ) [\t\n\f\r\ />] )
        /? [a-z] [^\t\n\f\r\ />]* (?= [\t\n\f\r\ />] )
        [^>=]*
        (?: = [\t\n\f\r\ ]* (?: "[^"]*" | '[^']*' | [^\t\n\f\r\ >"'][^\t\n\f\r\ >]*(?=[\t\n\f\r\ >]) | (?=>) ) [^>=]* )*
        >
    )*
    """
    % b"|".join(sorted(RAW)),
    re.IGNORECASE | re.VERBOSE,
)
"""
text and whole tags that nobody looks for: what the states do, at once, where it is all there

Each part can end in one place only, so what does not fit is known after one pass.
"""
_IN_TAG = re.compile(rb"[=>]")
_BLANK = re.compile(rb"[\t\n\f\r ]*")
_AFTER_VALUE = re.compile(rb"[\t\n\f\r >]")
_COMMENT_END = re.compile(rb"--!?>")


class Finder:
    """
    Finds the place behind the first C{<head ...>}, or in front of the first C{</body>}.

    Each state takes bytes from a position, and says up to where; no step forward means that it must see more.

    @param name: of the tag, in lower case.
    @param closing: look for the end tag, and stop in front of it; else for the start tag, and stop behind it.
    """

    __slots__ = ("_closing", "_held", "_name", "_quote", "_raw_end", "_state", "_wanted", "place")

    def __init__(self, name: bytes, *, closing: bool) -> None:
        self._name, self._closing = name, closing
        self._state: Callable[[bytes, int], int] = self._text
        self._held = b""
        self._quote = b'"'
        self._raw_end = b""
        """what ends the raw text that follows the tag, if any does"""
        self._wanted = False
        """the tag we are in is the one"""
        self.place = -1

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """
        Look on.

        @return: what is in front of the place and what is behind it. While it is not found there is no second, and what
            may be the beginning of the tag is held, less than L{LOOK} bytes; L{rest} has it.
        """
        data = self._held + data
        at = 0
        while at < len(data):
            state = self._state
            then = state(data, at)
            if self.place >= 0:
                self._held = b""
                return data[: self.place], data[self.place :]
            if then == at and self._state is state:
                break
            at = then
        self._held = data[at:]
        return data[:at], None

    def rest(self) -> bytes:
        """What was held, once nothing follows."""
        held, self._held = self._held, b""
        return held

    # states

    def _text(self, data: bytes, at: int) -> int:
        ordinary = _ORDINARY.match(data, at)
        if ordinary is not None and ordinary.end() > at:
            return ordinary.end()
        found = data.find(b"<", at)
        if found != at:
            return found if found > at else len(data)
        head = data[at : at + LOOK].lower()
        if head.startswith(b"<!--"):
            self._state = self._comment
            return at + 2  # its hyphens may be those of its end: <!-->
        if len(head) < LOOK and (head == b"</" or b"<!--".startswith(head)):
            return at
        tag = _NAME.match(head)
        if tag is None:
            if head[1:2] in (b"!", b"?", b"/"):
                self._state = self._bogus
            return at + 1
        if tag.end() == len(head) and any(name.startswith(tag[2]) for name in (self._name, *RAW)):
            return at
        return self._begin_tag(tag[2], at, tag.end(), closing=bool(tag[1]))

    def _begin_tag(self, name: bytes, at: int, size: int, *, closing: bool) -> int:
        self._wanted = name == self._name and closing is self._closing
        if self._wanted and closing:
            self.place = at
        self._raw_end = b"</" + name if name in RAW and not closing else b""
        self._state = self._tag
        return at + size

    def _tag(self, data: bytes, at: int) -> int:
        found = _IN_TAG.search(data, at)
        if found is None:
            return len(data)
        if found[0] == b">":
            return self._end_tag(found.end())
        self._state = self._value
        return found.end()

    def _value(self, data: bytes, at: int) -> int:
        blank = _BLANK.match(data, at)
        at = blank.end() if blank else at
        if at == len(data):
            return at
        first = data[at : at + 1]
        if first in (b'"', b"'"):
            self._quote, self._state = first, self._quoted
            return at + 1
        self._state = self._unquoted
        return at

    def _quoted(self, data: bytes, at: int) -> int:
        found = data.find(self._quote, at)
        if found < 0:
            return len(data)
        self._state = self._tag
        return found + 1

    def _unquoted(self, data: bytes, at: int) -> int:
        found = _AFTER_VALUE.search(data, at)
        if found is None:
            return len(data)
        self._state = self._tag
        return found.start()

    def _end_tag(self, at: int) -> int:
        if self._wanted:
            self.place = at
        self._state = self._raw if self._raw_end else self._text
        return at

    def _raw(self, data: bytes, at: int) -> int:
        found = data.find(b"</", at)
        if found != at:
            return found if found > at else len(data) - data.endswith(b"<")
        head = data[at : at + len(self._raw_end) + 1].lower()
        if len(head) <= len(self._raw_end) and self._raw_end.startswith(head):
            return at
        if head.startswith(self._raw_end) and head[-1:] in _SPACE + b"/>":
            self._raw_end, self._wanted, self._state = b"", False, self._tag
            return at + len(head) - 1
        return at + 2

    def _comment(self, data: bytes, at: int) -> int:
        found = _COMMENT_END.search(data, at)
        if found is not None:
            self._state = self._text
            return found.end()
        open_end = 3 if data.endswith(b"--!") else 2 if data.endswith(b"--") else int(data.endswith(b"-"))
        return max(at, len(data) - open_end)

    def _bogus(self, data: bytes, at: int) -> int:
        """C{<!doctype html>}, C{<?xml ...?>}, C{</>}: up to the next C{>}."""
        found = data.find(b">", at)
        if found < 0:
            return len(data)
        self._state = self._text
        return found + 1
