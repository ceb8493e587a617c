"""
Mail and other things of MIME: headers, texts, attachments, parts of forms (RFC 5322, 2045 to 2047, 2183, 7578).

Bodies are cut at their boundaries here, each level once, so that ten thousand parts cost no more than their bytes.
The fields of a head are read by C{email} with bounds before it: its parsers are slow on what nobody sends honestly.
Where readers of mail differ, more is taken out rather than less.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from sslintercept.unpack.budget import CHARSET, DEPTH, LIES, RUBBISH, SIZE, TRUNCATED, Budget
from sslintercept.unpack.charset import decode, known
from sslintercept.unpack.markup import html_text
from sslintercept.unpack.piece import ATTACHMENT, FIELD, HEADERS, TEXT, Piece, text

MOST_HEAD: Final = 256 * 1024
"""bytes of a head that are read"""
MOST_VALUE: Final = 4096
"""characters of a field of which parameters are read"""
MOST_FIELDS: Final = 2000
"""fields of a head"""

_BLANK: Final = re.compile(rb"\r?\n\r?\n|\A\r?\n|\r\r")
_WORD: Final = re.compile(r"=\?([^?\s]{1,40})\?([bBqQ])\?([^?\s]{0,4096})\?=")
_BETWEEN: Final = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")
_NO_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/=]+")
_DELIMITER: Final = re.compile(rb"(?:\A|\n)--([^\r\n]{1,200}?)[ \t]*(?:\r?\n|\r|\Z)")


class Head:
    """The head of a message or of a part of one."""

    def __init__(self, head: bytes, budget: Budget) -> None:
        if len(head) > MOST_HEAD:
            budget.hit(SIZE)
        try:
            self._fields: Message = BytesHeaderParser(policy=compat32).parsebytes(head[:MOST_HEAD])
        except Exception:  # it raises much, for heads that nobody sends honestly
            budget.hit(RUBBISH)
            self._fields = Message()
        self._budget = budget

    def text(self) -> str:
        """All fields, decoded, a line each."""
        lines = []
        for name, value in list(self._fields.raw_items())[:MOST_FIELDS]:
            lines.append(f"{name}: {words(str(value))}\n")
        return "".join(lines)

    def value(self, name: str) -> str:
        """A field's value without its parameters, in lower case."""
        return self._raw(name).partition(";")[0].strip().lower()

    def parameter(self, field: str, name: str) -> str:
        """A parameter of a field; empty if there is none."""
        value = self._raw(field)
        if ";" not in value:
            return ""
        alone = Message()
        alone[field] = value
        try:
            found = alone.get_param(name, "", field)
            if isinstance(found, tuple):  # RFC 2231: charset, language, value
                charset, _, raw = found
                found = decode(raw.encode("latin-1", "replace"), charset or "")[0]
        except Exception:  # as above
            self._budget.hit(RUBBISH)
            return ""
        return words(str(found)).strip()

    @property
    def name(self) -> str:
        """Of the file."""
        return self.parameter("content-disposition", "filename") or self.parameter("content-type", "name")

    @property
    def media_type(self) -> str:
        value = self.value("content-type")
        return value if "/" in value else ""

    def _raw(self, name: str) -> str:
        try:
            return re.sub(r"[\r\n]+", " ", str(self._fields.get(name, "")))[:MOST_VALUE]
        except Exception:  # as above
            return ""


def words(value: str) -> str:
    """A value of a field with its encoded words decoded (RFC 2047)."""
    value = re.sub(r"[\r\n]+", "", value)
    if "=?" not in value:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _WORD.sub(_word, _BETWEEN.sub(r"\1", value)).encode("utf-8", "replace").decode()


def _word(match: re.Match[str]) -> str:
    charset, how, coded = match.groups()
    raw = coded.encode("ascii", "replace")
    data = base64(raw)[0] if how in "bB" else binascii.a2b_qp(raw, header=True)
    return decode(data, charset.partition("*")[0])[0]


def base64(data: bytes) -> tuple[bytes, list[str]]:
    """
    What base64 stands for; what is not of it is passed over (RFC 2045 6.8).

    Padding ends it for some readers, and others read on behind it: we do, with a note.
    """
    pieces = [piece for piece in _NO_BASE64.sub(b"", data).split(b"=") if piece]
    notes = [LIES] if len(pieces) > 1 else []
    decoded = []
    for piece in pieces:
        if len(piece) % 4 == 1:
            piece, notes = piece[:-1], [*notes, TRUNCATED]
        decoded.append(binascii.a2b_base64(piece + b"=" * (-len(piece) % 4)))
    return b"".join(decoded), list(dict.fromkeys(notes))


def transferred(data: bytes, how: str) -> tuple[bytes, list[str]]:
    """Undo a Content-Transfer-Encoding."""
    if how == "base64":
        return base64(data)
    if how == "quoted-printable":
        return binascii.a2b_qp(data), []
    if how in ("x-uuencode", "uuencode", "x-uue", "uue"):
        return _uu(data)
    return data, [] if how in ("", "7bit", "8bit", "binary") else [RUBBISH]


def _uu(data: bytes) -> tuple[bytes, list[str]]:
    lines, notes = [], []
    for line in data.splitlines():
        if line.startswith((b"begin ", b"end")) or not line:
            continue
        try:
            lines.append(binascii.a2b_uu(line))
        except binascii.Error:
            try:  # some write too many spaces, or too few
                lines.append(binascii.a2b_uu(line[: 1 + ((line[0] - 32 & 63) * 4 + 2) // 3 + 1]))
            except binascii.Error:
                notes = [RUBBISH]
    return b"".join(lines), notes


def split(data: bytes) -> tuple[bytes, bytes]:
    """Head and body."""
    blank = _BLANK.search(data[: MOST_HEAD + 4])
    if blank is None:
        return (data, b"") if b":" in data[:200] else (b"", data)
    return data[: blank.start() + 1], data[blank.end() :]


def parts(body: bytes, boundary: str, budget: Budget) -> Iterator[tuple[bytes, bool]]:
    """
    The parts of a multipart body, and whether each is one: what stands around them is given, too (RFC 2046 5.1).

    A boundary that does not occur is a lie or was not told: the first line that could be one is taken then.
    """
    mark = boundary.encode("utf-8", "surrogateescape")[:200]
    if not mark or b"--" + mark not in body:
        found = _DELIMITER.search(body)
        if found is None:
            budget.hit(TRUNCATED)
            yield body, False
            return
        if mark:
            budget.hit(LIES)
        mark = found[1]
    delimiter = re.compile(re.escape(b"--" + mark) + rb"(--)?[ \t]*(?=\r|\n|\Z)")
    at, inside, closed = 0, False, False
    # The line break behind a delimiter may be the one in front of the next, so it is not part of it.
    for match in delimiter.finditer(body):
        begin = match.start()
        if begin and body[begin - 1] not in b"\r\n":
            continue  # in the middle of a line
        begin -= 2 if body.startswith(b"\r\n", max(0, begin - 2)) else min(begin, 1)
        if begin > at or inside:
            yield body[at:begin], inside
        closed = bool(match[1])
        inside, at = not closed, match.end()
        at += 2 if body.startswith(b"\r\n", at) else 1
    if not closed:
        budget.hit(TRUNCATED)
    if at < len(body):
        yield body[at:], inside


def open_mail(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """A message: its head, and what its body is or has."""
    raw, body = split(piece.content)
    head = Head(raw, budget)
    yield Piece(HEADERS, "headers", head.text().encode("utf-8", "replace"), "text/rfc822-headers", "utf-8")
    yield from entity(head, body, budget, 0)


def open_multipart(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """The fields and files of a form, or the parts of another multipart body of HTTP."""
    for raw, inside in parts(piece.content, piece.boundary, budget):
        if not inside:
            if raw.strip():
                yield text("around", decode(raw)[0])
            continue
        top, body = split(raw)
        head = Head(top, budget)
        content, notes = transferred(body, head.value("content-transfer-encoding"))
        name = head.name or head.parameter("content-disposition", "name")
        boundary = head.parameter("content-type", "boundary")
        yield Piece(
            FIELD,
            name,
            content,
            head.media_type,
            head.parameter("content-type", "charset").lower(),
            boundary,
            False,
            notes,
        )


def entity(head: Head, body: bytes, budget: Budget, depth: int) -> Iterator[Piece]:
    """A part of a mail: a text, an attachment, or parts in turn."""
    media_type = head.media_type or "text/plain"
    if media_type.startswith("multipart/"):
        if depth >= budget.limits.depth:
            yield Piece(ATTACHMENT, head.name or "multipart", body, "application/octet-stream", notes=[DEPTH])
            return
        for raw, inside in parts(body, head.parameter("content-type", "boundary"), budget):
            if inside:
                top, below = split(raw)
                yield from entity(Head(top, budget), below, budget, depth + 1)
            elif raw.strip():
                yield text("around", decode(raw)[0])
        return
    content, notes = transferred(body, head.value("content-transfer-encoding"))
    charset = head.parameter("content-type", "charset").lower()
    attached = bool(head.name) or head.value("content-disposition") == "attachment"
    if media_type.startswith("text/") and not attached:
        decoded, more = decode(content, charset)
        if charset and not known(charset):
            more = [CHARSET]
        yield Piece(TEXT, media_type, decoded.encode("utf-8", "replace"), media_type, "utf-8", notes=[*notes, *more])
        if media_type == "text/html":
            yield text("text", html_text(decoded, budget.tick))
    else:
        yield Piece(ATTACHMENT, head.name or media_type, content, media_type, charset, notes=notes)
