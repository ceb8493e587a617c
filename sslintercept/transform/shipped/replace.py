"""
C{replace-text}: puts one text in the place of another, wherever it is found.

Good for corrections that an origin will not make: old names, links with C{http:}, a word in an interface::

    [transform:our-new-name]
    use = replace-text
    match = host:www.example type:text/html
    find = Example Ltd
    replace = Example plc

Several pairs are several sections, applied in their order. What cannot be part of a match is given on at once, so
server-sent events do not wait; what may be the beginning of one is held, less than C{find} is long.

Limits. Only text is searched (C{text/*}, JSON, XML, scripts, forms), as bytes in the charset that the message names, or
C{charset} if it names none; other charsets pass with a note, UTF-16 and those of East Asia among them. What is written
differently is not found: C{&amp;}, C{\\u00e9}, a word with a tag in its middle. C{case = ignore} is about ASCII.

2 GB/s, with a match in every 90 bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from sslintercept.config import units
from sslintercept.config.key import described, setting
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Transformer
from sslintercept.transform.shipped.text import SEPARATE, charset, is_text, text
from sslintercept.transform.stage import Transform

LONGEST_FIND: Final = 256
"""bytes; as many may have to be compared for each byte that comes"""
LONGEST_NEW: Final = 1024
OUTPUT: Final = 32 * 1024
"""bytes of output, about, that are made before we look whether there is room for more"""


def _something(value: str) -> str:
    if not value:
        raise ValueError("empty")
    return text(LONGEST_FIND)(value)


@dataclass(frozen=True, slots=True)
class ReplaceOptions:
    """Of C{replace-text}."""

    find: str = field(
        metadata=described(
            units.unit(_something, f"text of 1 to {LONGEST_FIND} bytes"),
            None,
            "what is replaced",
            example="Example Ltd",
            required=True,
        )
    )
    replace: str = setting(text(LONGEST_NEW), "", "what stands there then; empty: nothing")
    case: str = setting(units.choice("exact", "ignore"), "exact", "whether a and A are the same")
    charset: str = setting(charset(), "utf-8", "charset of bodies that name none")


class Replace(Transform):
    """
    Replaces bytes, from left to right, once each.

    @param find: not empty.
    @param fold: letters of ASCII are the same in both cases.
    """

    def __init__(self, find: bytes, new: bytes, *, fold: bool = False) -> None:
        self._find = find.lower() if fold else find
        self._new = new
        self._fold = fold
        self._step = max(len(find), OUTPUT * len(find) // max(len(find), len(new)))
        """bytes of input that are worked on at once"""
        self._input: deque[bytes] = deque()
        self._held = b""
        """what may be the beginning of a match"""
        self._ended = False

    def expect(self, length: int) -> None:
        if len(self._find) == len(self._new):
            self.output.expect(length)

    def write(self, data: bytes) -> None:
        step = self._step
        self._input.extend(data[at : at + step] for at in range(0, len(data), step))
        self._flow()

    def finish(self) -> None:
        self._ended = True
        self._flow()

    def drained(self) -> None:
        self._flow()

    def abort(self, reason: Exception) -> None:
        self._input.clear()

    def _flow(self) -> None:
        while self._input and not self.output.full:
            given, self._held = self._replaced(self._held + self._input.popleft())
            self.output.write(given)
        if self._ended and not self._input:
            held, self._held = self._held, b""
            self.output.write(held)
            self.output.finish()

    def _replaced(self, data: bytes) -> tuple[bytes, bytes]:
        """What can be given, and what has to wait for more."""
        find, size = self._find, len(self._find)
        searched = data.lower() if self._fold else data
        parts: list[bytes] = []
        at = 0
        while (found := searched.find(find, at)) >= 0:
            parts += (data[at:found], self._new)
            at = found + size
        begun = self._begun(searched, max(at, len(data) - size + 1))
        parts.append(data[at:begun])
        return b"".join(parts), data[begun:]

    def _begun(self, searched: bytes, at: int) -> int:
        """Where a match may have begun, at C{at} or behind it."""
        first = self._find[:1]
        while (at := searched.find(first, at)) >= 0:
            if self._find.startswith(searched[at:]):
                return at
            at += 1
        return len(searched)


class ReplaceText(Transformer):
    """Puts one text in the place of another."""

    def __init__(self, options: ReplaceOptions) -> None:
        self.options = options

    def transform(self, message: Message) -> Replace | None:
        options = self.options
        if not is_text(message.media_type):
            return None
        codec = SEPARATE.get(message.charset or options.charset)
        if codec is None:
            message.note("replace-text", f"not applied to charset {(message.charset or '')[:40]}")
            return None
        try:
            find, new = options.find.encode(codec), options.replace.encode(codec)
        except UnicodeEncodeError:
            message.note("replace-text", f"not to be written in charset {codec}")
            return None
        return Replace(find, new, fold=options.case == "ignore")
