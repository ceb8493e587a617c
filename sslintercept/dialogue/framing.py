"""
Whole messages out of a stream in pieces of any size, bounded; L{sslintercept.dialogue.lines} does the same for lines.

A splitter looks at a byte once, however the stream was cut. It knows where a message ends and nothing of what it means;
what can't be a message of its protocol, or is longer than its limit, is L{Broken}, and what was held is then got
with C{rest()}. Use::

    splitter.feed(data)
    while (message := splitter.next()) is not None: ...
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Protocol

LDAP_LIMIT: Final = 1 << 20
"""Bytes of a message of LDAP; entries with certificates and revocation lists are long."""
STARTUP_LIMIT: Final = 10_000
"""Bytes of what a client of PostgreSQL says first; servers take no more."""
MYSQL_LIMIT: Final = 64 * 1024
"""Bytes of a packet before MySQL's login is done, its header included."""
STANZA_LIMIT: Final = 64 * 1024
"""Bytes of an element on top of an XMPP stream; RFC 6120 13.12 has a receiver take at least 10,000."""
SIEVE_LIMIT: Final = 64 * 1024
"""Bytes of a command or a response line of ManageSieve, its literals included."""


class Broken(ValueError):
    """This is no message of the protocol, or too long for one."""


class Splitter(Protocol):
    """Gives messages byte for byte as they came, in order."""

    def feed(self, data: bytes) -> None:
        """More bytes."""

    def next(self) -> bytes | None:
        """
        The next message, if there is a whole one.

        @raise ValueError: there will never be one.
        """

    def rest(self) -> bytes:
        """Everything that was fed and not given out; it is taken."""

    def __len__(self) -> int:
        """Bytes that were fed and not given out."""


class _Held:
    """What every splitter does alike: keep the bytes, and where it has got to in them."""

    __slots__ = ("_at", "_begin", "_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._held = bytearray()
        self._begin = 0
        """of the message"""
        self._at = 0
        """everything before it was looked at"""
        self._limit = limit

    def feed(self, data: bytes) -> None:
        """More bytes."""
        if self._begin:
            del self._held[: self._begin]
            self._at -= self._begin
            self._begin = 0
        self._held += data

    def rest(self) -> bytes:
        """Everything that was fed and not given out; it is taken."""
        rest = bytes(self._held[self._begin :])
        self._held.clear()
        self._begin = self._at = 0
        return rest

    def __len__(self) -> int:
        return len(self._held) - self._begin

    def _take(self, size: int) -> bytes | None:
        """A message of C{size} bytes, if they are there."""
        if size > self._limit:
            raise Broken(f"a message of more than {self._limit} bytes")
        if len(self) < size:
            return None
        message = bytes(self._held[self._begin : self._begin + size])
        self._begin = self._at = self._begin + size
        return message


class BerMessages(_Held):
    """Messages of LDAP: sequences of definite length, which is written in at most five bytes (RFC 4511 5.1)."""

    __slots__ = ()

    def __init__(self, limit: int = LDAP_LIMIT) -> None:
        super().__init__(limit)

    def next(self) -> bytes | None:
        """The next message."""
        head = bytes(self._held[self._begin : self._begin + 6])
        if head[:1] not in (b"", b"\x30"):
            raise Broken("this is no message of LDAP")
        if len(head) < 2:
            return None
        if head[1] < 0x80:
            return self._take(2 + head[1])
        more = head[1] - 0x80
        if not 1 <= more <= 4:
            raise Broken("a length that LDAP does not have")
        if len(head) < 2 + more:
            return None
        return self._take(2 + more + int.from_bytes(head[2 : 2 + more], "big"))


class StartupPackets(_Held):
    """What a client of PostgreSQL says before the session: a length that counts itself, a code, the rest."""

    __slots__ = ()

    def __init__(self, limit: int = STARTUP_LIMIT) -> None:
        super().__init__(limit)

    def next(self) -> bytes | None:
        """The next packet."""
        if len(self) < 4:
            return None
        size = int.from_bytes(self._held[self._begin : self._begin + 4], "big")
        if size < 8:
            raise Broken("this is no start of PostgreSQL")
        return self._take(size)


class SingleBytes(_Held):
    """PostgreSQL's answers to a wish for encryption: every byte is one."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)

    def next(self) -> bytes | None:
        """The next byte."""
        return self._take(1)


class MysqlPackets(_Held):
    """Packets of MySQL: three bytes of length, a number, the payload; the header is part of what is given out."""

    __slots__ = ()

    def __init__(self, limit: int = MYSQL_LIMIT) -> None:
        super().__init__(limit)

    def next(self) -> bytes | None:
        """The next packet."""
        if len(self) < 4:
            return None
        return self._take(4 + int.from_bytes(self._held[self._begin : self._begin + 3], "little"))


_LITERAL = re.compile(rb"\{([0-9]{1,10})\+?\}\r?\n\Z")
_LONGEST_LITERAL: Final = len(b"{4294967296+}\r\n")


class LiteralLines(_Held):
    """Lines of ManageSieve, each with the literals that it announces at line ends (RFC 5804 4)."""

    __slots__ = ("_line",)

    def __init__(self, limit: int = SIEVE_LIMIT) -> None:
        super().__init__(limit)
        self._line = 0
        """offset in the message of the line that is looked at: what stands before it may be content"""

    def next(self) -> bytes | None:
        """The next line."""
        while end := self._held.find(b"\n", self._at) + 1:
            line = self._begin + self._line
            literal = _LITERAL.search(self._held[max(line, end - _LONGEST_LITERAL) : end])
            if literal is None:
                self._line = 0
                return self._take(end - self._begin)
            self._at = end + int(literal[1])
            self._line = self._at - self._begin
        self._at = max(self._at, len(self._held))
        if self._at - self._begin >= self._limit:
            raise Broken(f"a line of more than {self._limit} bytes, or literals of more")
        return None


class _Where(Enum):
    TEXT = "between tags"
    OPEN = "behind a <"
    TAG = "in a tag"
    CDATA = "in a CDATA section"
    DECLARATION = "in the XML declaration"


_CDATA: Final = b"<![CDATA["
_SPACES = re.compile(rb"[ \t\r\n]{1,1024}")
_NAME = re.compile(rb"[A-Za-z_:\x80-\xff]")
_DECLARED = re.compile(rb"<\?xml[ \t\r\n]")
_TELLING = {b"": re.compile(rb"[<>'\"]"), b"'": re.compile(rb"['<]"), b'"': re.compile(rb'["<]')}
"""by the quotes that one is in: the bytes that change something in a tag"""


class Stanzas(_Held):
    """
    What stands on top of an XMPP stream: the declaration, the stream's two tags, each child whole, white space between.

    Comments, processing instructions and document types have no place in a stream (RFC 6120 11.1). Tags are counted,
    their names not compared; entities stay what they are.
    """

    __slots__ = ("_depth", "_ended", "_quote", "_tag", "_where")

    def __init__(self, limit: int = STANZA_LIMIT) -> None:
        super().__init__(limit)
        self._where = _Where.TEXT
        self._depth = 0
        """elements that are open, the stream included"""
        self._ended = False
        self._tag = 0
        """offset of the current tag in the message"""
        self._quote = b""

    def next(self) -> bytes | None:
        """The next message."""
        while self._at < len(self._held):
            at = self._at
            size = self._STEPS[self._where](self)
            if size:
                self._where = _Where.TEXT
                return self._take(size)
            if size is None and self._at == at:
                break  # more is needed to tell
        if len(self) >= self._limit:
            raise Broken(f"an element of more than {self._limit} bytes")
        return None

    # Each step looks at what is new, and returns the size of a message that ends there, 0 to go on, or None when
    # it has seen everything.

    def _text(self) -> int | None:
        if self._depth <= 1:
            spaces = _SPACES.match(self._held, self._at)
            if spaces:
                return spaces.end() - self._begin
            if self._held[self._at] != 0x3C or self._ended:
                raise Broken("this is no stream of XMPP")
            self._tag = 0
        else:
            found = self._held.find(b"<", self._at)
            if found < 0:
                self._at = len(self._held)
                return None
            self._at = found
            self._tag = found - self._begin
        self._where = _Where.OPEN
        return 0

    def _open(self) -> int | None:
        head = bytes(self._held[self._at : self._at + len(_CDATA)])
        second = head[1:2]
        if not second:
            return None
        if second == b"!" and self._depth > 1:
            if len(head) < len(_CDATA) and _CDATA.startswith(head):
                return None
            if head != _CDATA:
                raise Broken("a comment or a declaration inside of a stream")
            self._where = _Where.CDATA
            self._at += len(_CDATA)
        elif second == b"?" and not self._depth:
            self._where = _Where.DECLARATION
            self._at += 2
        elif (second == b"/" and self._depth) or _NAME.match(second):
            self._where = _Where.TAG
            self._at += 2
        else:
            raise Broken("something that has no place in a stream")
        return 0

    def _in_tag(self) -> int | None:
        found = _TELLING[self._quote].search(self._held, self._at)
        if found is None:
            self._at = len(self._held)
            return None
        self._at = found.end()
        if found[0] == b"<":
            raise Broken("a < inside of a tag")
        if found[0] != b">":
            self._quote = b"" if self._quote else found[0]
            return 0
        return self._tag_ended()

    def _tag_ended(self) -> int:
        tag = self._begin + self._tag
        closing, empty = self._held[tag + 1] == 0x2F, self._held[self._at - 2] == 0x2F
        if empty and (closing or not self._depth):
            raise Broken("a tag that both begins and ends")
        self._where = _Where.TEXT
        if not empty:
            self._depth += -1 if closing else 1
        self._ended = not self._depth
        stream = not empty and self._depth == (0 if closing else 1)
        return self._at - self._begin if stream or self._depth == 1 else 0

    def _in_cdata(self) -> int | None:
        return self._seek(b"]]>")

    def _in_declaration(self) -> int | None:
        if self._seek(b"?>") is None:
            return None
        if not _DECLARED.match(self._held, self._begin):
            raise Broken("a processing instruction inside of a stream")
        return self._at - self._begin

    def _seek(self, end: bytes) -> int | None:
        """Go behind C{end}, or so far that a beginning of it is looked at again."""
        found = self._held.find(end, self._at)
        if found < 0:
            self._at = max(self._at, len(self._held) - len(end) + 1)
            return None
        self._at = found + len(end)
        self._where = _Where.TEXT
        return 0

    _STEPS: Final = {
        _Where.TEXT: _text,
        _Where.OPEN: _open,
        _Where.TAG: _in_tag,
        _Where.CDATA: _in_cdata,
        _Where.DECLARATION: _in_declaration,
    }
