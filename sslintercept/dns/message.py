"""
Messages of DNS as bytes (RFC 1035 4, RFC 6891): questions are written, answers are read, hostile ones too.

A name is kept in its wire form, labels with their lengths: that is unambiguous, and since a length is below 64 the
whole can be folded with C{bytes.lower}. L{parse} gives C{None} for whatever is malformed and raises nothing; its work
is bounded by the length of the message, L{MOST_RECORDS} and L{MOST_JUMPS}.
"""

from __future__ import annotations

from struct import Struct, error
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, MX, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 15, 28, 33, 41, 255
"""types of records (RFC 1035 3.2.2, RFC 2782, RFC 3596, RFC 6891)"""
IN = 1
"""the class of the internet"""
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
"""response codes (RFC 1035 4.1.1, RFC 6891 9)"""
RCODES = {FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN", NOTIMP: "NOTIMP", REFUSED: "REFUSED"}
"""their names, for readers"""
WELL = frozenset((NOERROR, NXDOMAIN))
"""response codes of a server that does its work"""
QR, OPCODE, AA, TC, RD, RA, AD, CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
"""bits of a header's flags"""
DO = 0x8000
"""the flag of an OPT record that asks for signatures (RFC 3225)"""
PAYLOAD = 1232
"""bytes of a datagram that we announce to take: what passes everywhere unfragmented"""
HEADER_SIZE = 12
"""bytes of a header"""
LONGEST_NAME = 255
"""bytes of a name in its wire form (RFC 1035 3.1)"""
LONGEST_LABEL = 63
"""bytes of a label"""
MOST_RECORDS = 1024
"""records of a message in all sections; one with more is malformed to us"""
MOST_JUMPS = 127
"""pointers followed for one name: more than it can have labels"""
ROOT = b"\0"
"""the name of the root"""

_HEADER = Struct(">HHHHHH")
_QUESTION = Struct(">HH")
_RECORD = Struct(">HHIH")
_FOLLOWING_QUESTION = b"\xc0\x0c"
_LETTERS = bytes(0x20 if 97 <= value <= 122 else 0 for value in range(256))
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b'."\\;()@$')
_LAYOUTS = {NS: (0, 1, 0), CNAME: (0, 1, 0), SOA: (0, 2, 20), PTR: (0, 1, 0), MX: (2, 1, 0), SRV: (6, 1, 0)}
"""bytes before names, names, bytes after: what may be compressed in record data (RFC 3597 4)"""
_SIZES = {A: 4, AAAA: 16}


class BadName(ValueError):
    """A text that is no name."""


class Malformed(ValueError):
    """A message that cannot be read."""


class Record(NamedTuple):
    """One record; its owner is folded, and names in its data are folded and written out."""

    name: bytes
    type: int
    cls: int
    ttl: int
    rdata: bytes


class Message(NamedTuple):
    """What an answer holds; C{rcode} includes the bits of its OPT record."""

    id: int
    flags: int
    rcode: int
    question: tuple[bytes, int, int] | None
    answers: list[Record]
    authority: list[Record]


def wire(name: str) -> bytes:
    r"""
    The folded wire form of a name; a trailing dot changes nothing, C{\.} and C{\DDD} are understood (RFC 1035 5.1).

    @raise BadName: it is no name.
    """
    if name == ".":
        return ROOT
    if not name.isascii():
        raise BadName("the name is not ASCII")
    if not name.isprintable() or " " in name:
        raise BadName("the name has a blank or a control character")
    labels = _unescaped(name) if "\\" in name else name.lower().encode("ascii").removesuffix(b".").split(b".")
    parts = []
    for label in labels:
        if not 0 < len(label) <= LONGEST_LABEL:
            raise BadName("a label of the name is empty" if not label else "a label of the name is too long")
        parts.append(len(label).to_bytes(1, "big") + label)
    made = b"".join(parts) + ROOT
    if len(made) > LONGEST_NAME:
        raise BadName("the name is too long")
    return made


def _unescaped(name: str) -> list[bytes]:
    labels = [bytearray()]
    raw = name.lower().encode("ascii")
    at = 0
    while at < len(raw):
        value = raw[at]
        at += 1
        if value == 0x5C:
            digits = raw[at : at + 3]
            if len(digits) == 3 and digits.isdigit() and int(digits) < 256:
                labels[-1] += bytes((int(digits),)).lower()
                at += 3
            elif digits and not digits[:1].isdigit():
                labels[-1].append(digits[0])
                at += 1
            else:
                raise BadName("an escape of the name is not complete")
        elif value == 0x2E:
            labels.append(bytearray())
        else:
            labels[-1].append(value)
    if len(labels) > 1 and not labels[-1]:
        labels.pop()
    return [bytes(label) for label in labels]


def text(name: bytes) -> str:
    """A name for a reader; bytes that would mislead are escaped (RFC 1035 5.1)."""
    if name == ROOT:
        return "."
    labels = []
    at = 0
    while size := name[at]:
        label = name[at + 1 : at + 1 + size]
        if label.isalnum() or _PLAIN.issuperset(label):
            labels.append(label.decode("ascii"))
        else:
            labels.append("".join(chr(value) if value in _PLAIN else f"\\{value:03d}" for value in label))
        at += 1 + size
    return ".".join(labels)


def mixed(name: bytes, bits: int) -> bytes:
    """A folded name with the letters raised that C{bits}, eight for each byte, choose ("0x20")."""
    chosen = int.from_bytes(name.translate(_LETTERS), "big") & bits
    return (int.from_bytes(name, "big") ^ chosen).to_bytes(len(name), "big")


def question(name: bytes, rtype: int, cls: int = IN) -> bytes:
    """A question section of one question."""
    return name + _QUESTION.pack(rtype, cls)


def query(number: int, asked: bytes, *, flags: int = RD, edns: bool = True, do: bool = False) -> bytes:
    """A query with the id C{number} for the question section C{asked}."""
    if edns:
        return _HEADER.pack(number, flags, 1, 0, 0, 1) + asked + (_OPT_DO if do else _OPT)
    return _HEADER.pack(number, flags, 1, 0, 0, 0) + asked


_OPT = ROOT + _RECORD.pack(OPT, PAYLOAD, 0, 0)
_OPT_DO = ROOT + _RECORD.pack(OPT, PAYLOAD, DO, 0)


def parse(data: bytes) -> Message | None:
    """Read an answer; C{None} if it is malformed."""
    try:
        return _parse(data)
    except (Malformed, IndexError, error):
        return None


def _parse(data: bytes) -> Message:
    number, flags, questions, answers, authorities, extras = _HEADER.unpack_from(data)
    total = answers + authorities + extras
    if questions > 1 or total > MOST_RECORDS:
        raise Malformed("too many questions or records")
    at = HEADER_SIZE
    known: dict[int, bytes] = {}
    asked = None
    first = None
    if questions:
        first, at = _name(data, at, known)
        rtype, cls = _QUESTION.unpack_from(data, at)
        asked = (first, rtype, cls)
        at += _QUESTION.size
    rcode = flags & 15
    length = len(data)
    found: list[Record] = []
    for count in range(total):
        if first is not None and data[at : at + 2] == _FOLLOWING_QUESTION:
            name, at = first, at + 2
        else:
            name, at = _name(data, at, known)
        rtype, cls, ttl, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        end = at + size
        if end > length:
            raise Malformed("a record ends behind the message")
        if count < answers + authorities:
            found.append(Record(name, rtype, cls, ttl, _rdata(data, at, end, rtype, known)))
        elif rtype == OPT:
            rcode |= ttl >> 24 << 4
        at = end
    return Message(number, flags, rcode, asked, found[:answers], found[answers:])


def _name(data: bytes, at: int, known: dict[int, bytes]) -> tuple[bytes, int]:
    """The folded name at C{at} and where it ends; C{known} are names that were read, by where they begin."""
    start = limit = at
    end = jumps = 0
    parts: list[bytes] = []
    length = 1
    while size := data[at]:
        if size <= LONGEST_LABEL:
            parts.append(data[at : at + 1 + size])
            at += 1 + size
            length += 1 + size
        elif size >= 0xC0:
            target = (size & 0x3F) << 8 | data[at + 1]
            end = end or at + 2
            jumps += 1
            # Only backwards, and behind nothing that was read for this name: a loop cannot be.
            if target >= limit or jumps > MOST_JUMPS:
                raise Malformed("a pointer of a name leads nowhere")
            if (tail := known.get(target)) is not None:
                parts.append(tail[:-1])
                length += len(tail) - 1
                break
            limit = at = target
        else:
            raise Malformed("a label of an unknown kind")
        if length > LONGEST_NAME:
            raise Malformed("a name is too long")
    if length > LONGEST_NAME:
        raise Malformed("a name is too long")
    known[start] = name = b"".join(parts).lower() + ROOT
    return name, end or at + 1


def _rdata(data: bytes, at: int, end: int, rtype: int, known: dict[int, bytes]) -> bytes:
    """The data of a record without compression."""
    if (size := _SIZES.get(rtype)) is not None and end - at != size:
        raise Malformed("an address of a wrong length")
    layout = _LAYOUTS.get(rtype)
    if layout is None:
        return data[at:end]
    before, names, after = layout
    made = data[at : at + before]
    at += before
    for _ in range(names):
        name, at = _name(data, at, known)
        made += name
    if at + after != end:
        raise Malformed("record data of a wrong length")
    return made + data[at:end]
