"""
Messages of ICAP as bytes: what is asked is written, what is answered is taken apart (RFC 3507 4).

An answer is a head, up to one head of HTTP and a chunked body, whose places the Encapsulated field tells; offsets that
do not fit what is there end the exchange. The last chunk of an answer may say that the rest of the original follows
(draft-rousskov-icap-ext-partial-content 4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

from sslintercept.errors import EngineError, InterceptError, MessageError
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.chunk import ChunkDecoder

MOST_HEAD: Final = 32 * 1024
"""bytes of an answer's own head"""
MOST_FIELDS: Final = 100
MOST_ENCAPSULATED: Final = 256 * 1024
"""bytes of the head of HTTP in an answer"""

LAST: Final = b"0\r\n\r\n"
"""the end of a body, or of a preview that is not the whole body"""
IEOF: Final = b"0; ieof\r\n\r\n"
"""the end of a preview that is the whole body (RFC 3507 4.5)"""

_STATUS_LINE = re.compile(rb"ICAP/1\.0 ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\n\x20-\x7e\x80-\xff]*)")
_FOLD = re.compile(rb"\r\n[ \t]+")
_BEGINNING = b"ICAP/1.0 "
_ENTRY = re.compile(rb"[ \t]*((?:req|res|opt|null)-(?:hdr|body))[ \t]*=[ \t]*([0-9]{1,9})[ \t]*")
_ORIGINAL = re.compile(rb"use-original-body[ \t]*=[ \t]*([0-9]{1,18})")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Kind(Enum):
    """What is asked for."""

    OPTIONS = b"OPTIONS"
    REQMOD = b"REQMOD"
    RESPMOD = b"RESPMOD"


MAY_HOLD: Final = {
    (): (b"null-body", b"opt-body", b"req-body", b"res-body"),
    (b"req-hdr",): (b"req-body", b"null-body"),
    (b"res-hdr",): (b"res-body", b"null-body"),
}
"""the heads that an answer may encapsulate, and what may follow them (RFC 3507 4.4.1)"""

Field = tuple[bytes, bytes]


class ReplyHead(NamedTuple):
    """
    What an answer says before its body.

    @ivar request: the head of HTTP it brings, if that is a request; C{response}: if it is a response.
    @ivar body: whether a body follows.
    """

    status: int
    reason: str
    fields: tuple[Field, ...]
    request: bytes | None
    response: bytes | None
    body: bool

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field's lines, in order; a value that was folded has newlines."""
        return [value for found, value in self.fields if found.lower() == name]

    def value(self, name: bytes) -> bytes | None:
        """The value of a field that has one line, else C{None}."""
        found = self.values(name)
        return found[0] if len(found) == 1 else None

    @property
    def closes(self) -> bool:
        """Whether the connection ends behind it."""
        return any(b"close" in value.lower() for value in self.values(b"connection"))


class _State(Enum):
    HEAD = "its head"
    ENCAPSULATED = "the head of HTTP"
    BODY = "its body"
    DONE = "its end"
    BROKEN = "what was refused"


class ReplyReader:
    """
    Takes one answer apart from what comes.

    @ivar head: what it says, once that is complete.
    @ivar done: it has ended; what follows belongs to another one.
    @ivar original: the byte of the original body from which on that follows, or C{None}; known once C{done}.
    @param where: what errors call the engine.
    """

    __slots__ = ("_begun", "_chunks", "_got", "_sections", "_state", "_where", "head", "original")

    def __init__(self, where: str) -> None:
        self._where = where
        self._state = _State.HEAD
        self._got = bytearray()
        self._begun: ReplyHead | None = None
        self._sections: list[tuple[bytes, int]] = []
        self._chunks = ChunkDecoder(MessageError)
        self.head: ReplyHead | None = None
        self.original: int | None = None

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return self._state is not _State.HEAD or bool(self._got)

    @property
    def done(self) -> bool:
        return self._state is _State.DONE

    def feed(self, data: Bytes) -> tuple[list[Bytes], int]:
        """
        Give what C{data} holds of the body, as slices of it, and how many bytes belong to this answer.

        @raise EngineError: it is no answer of ICAP, or above a limit; nothing more may be read.
        """
        state, self._state = self._state, _State.BROKEN
        at = 0
        if state is _State.HEAD:
            at = self._feed_head(data)
            state = self._after_head() if self._begun is not None else state
        if state is _State.ENCAPSULATED:
            at += self._feed_encapsulated(data[at:])
            if self.head is not None:
                state = _State.BODY if self.head.body else _State.DONE
        pieces: list[Bytes] = []
        if state is _State.BODY:
            try:
                pieces, taken = self._chunks.feed(data[at:])
            except MessageError as error:
                raise self._rubbish(f"a chunked body of which {error.what}") from None
            at += taken
            if self._chunks.done:
                self._end_of_body()
                state = _State.DONE
        elif state is _State.BROKEN:
            raise self._rubbish("more after an error")
        self._state = state
        return pieces, at

    def _feed_head(self, data: Bytes) -> int:
        held = len(self._got)
        self._got += data[: MOST_HEAD + 4 - held]
        got = self._got
        beginning = bytes(got[: len(_BEGINNING)])
        if not _BEGINNING.startswith(beginning):
            raise self._rubbish("something that is no ICAP")
        end = got.find(b"\r\n\r\n", max(0, held - 3))
        if end < 0:
            if len(got) >= MOST_HEAD:
                raise self._rubbish(f"a head above {MOST_HEAD} bytes")
            return len(data)
        self._begun = self._parse(bytes(got[:end]))
        got.clear()
        return end + 4 - held

    def _parse(self, head: bytes) -> ReplyHead:
        first, *lines = _FOLD.sub(b"\n", head).split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        if status is None:
            raise self._rubbish("a status line that is none")
        if len(lines) > MOST_FIELDS:
            raise self._rubbish(f"more than {MOST_FIELDS} fields")
        fields = []
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise self._rubbish("a field that is none")
            fields.append((field[1], field[2].rstrip(b" \t")))
        return ReplyHead(int(status[1]), (status[2] or b"").decode("latin-1"), tuple(fields), None, None, False)

    def _after_head(self) -> _State:
        """Where the parts are (RFC 3507 4.4.1); without a word about them there are none."""
        assert self._begun is not None
        values = self._begun.values(b"encapsulated")
        if len(values) > 1:
            raise self._rubbish("two Encapsulated fields")
        sections = []
        for entry in values[0].split(b",", 8) if values else ():
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise self._rubbish("an Encapsulated field that cannot be read")
            sections.append((match[1], int(match[2])))
        names = tuple(name for name, _ in sections)
        if sections and names[-1] not in MAY_HOLD.get(names[:-1], ()):
            raise self._rubbish("parts that do not go together")
        offsets = [offset for _, offset in sections]
        if offsets and (offsets[0] or any(one >= two for one, two in pairwise(offsets))):
            raise self._rubbish("offsets that do not grow from 0")
        if offsets and offsets[-1] > MOST_ENCAPSULATED:
            raise self._rubbish(f"a head of HTTP above {MOST_ENCAPSULATED} bytes")
        if self._begun.status in (100, 204) and sections and names != (b"null-body",):
            raise self._rubbish(f"a body with {self._begun.status}")
        self._sections = sections
        if len(sections) == 2:
            return _State.ENCAPSULATED
        body = bool(sections) and names[0] != b"null-body"
        self.head = self._begun._replace(body=body)
        return _State.BODY if body else _State.DONE

    def _feed_encapsulated(self, data: Bytes) -> int:
        assert self._begun is not None
        (kind, _), (body, size) = self._sections
        taken = min(size - len(self._got), len(data))
        self._got += data[:taken]
        if len(self._got) == size:
            head = bytes(self._got)
            self._got = bytearray()
            if head.find(b"\r\n\r\n") != size - 4:
                raise self._rubbish("offsets that do not fit the head of HTTP")
            part = {"request" if kind == b"req-hdr" else "response": head}
            self.head = self._begun._replace(body=body != b"null-body", **part)  # type: ignore[arg-type] # one or other
        return taken

    def _end_of_body(self) -> None:
        extension = self._chunks.extension
        if not extension.lower().startswith(b"use-original-body"):
            return
        match = _ORIGINAL.fullmatch(extension.lower())
        if match is None or self.head is None or self.head.status != 206:
            raise self._rubbish("a use-original-body that does not belong there")
        self.original = int(match[1])

    def _rubbish(self, what: str) -> EngineError:
        return rubbish(what, self._where)


def rubbish(what: str, where: str) -> EngineError:
    """The error for what an ICAP server would not say."""
    return EngineError(f"it sent {what}", where=where, remedy="is it an ICAP server?", fault="rubbish")


def request(
    kind: Kind, uri: str, host: str, fields: Iterable[Field], heads: Iterable[tuple[bytes, bytes]], body: bool
) -> bytes:
    """
    Write a request up to its body.

    @param heads: of HTTP, each as C{req-hdr} or C{res-hdr} and its bytes with the empty line.
    @raise InterceptError: a field that would be another one to its reader.
    """
    lines = [b"%b %b ICAP/1.0" % (kind.value, uri.encode("ascii")), b"Host: " + host.encode("ascii")]
    for name, value in fields:
        if not _VALUE.fullmatch(value):
            what = f"a value of {name.decode('latin-1')} that cannot be written"
            raise InterceptError(what, where="ICAP request", remedy="report who made it")
        lines.append(b"%b: %b" % (name, value))
    entries, parts, offset = [], [], 0
    for name, head in heads:
        entries.append(b"%b=%d" % (name, offset))
        parts.append(head)
        offset += len(head)
    which = b"null-body" if not body else b"req-body" if kind is Kind.REQMOD else b"res-body"
    entries.append(b"%b=%d" % (which, offset))
    lines += [b"Encapsulated: " + b", ".join(entries), b"", b""]
    return b"\r\n".join(lines) + b"".join(parts)
