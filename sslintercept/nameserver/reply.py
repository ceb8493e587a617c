"""
What a name server says for itself, as bytes: a client's query is read, and refused, or answered with addresses.

Whatever a client sent, L{read_query} raises nothing and follows no pointer. What an upstream server said is made into a
reply by L{sslintercept.nameserver.relay}.

A query costs 2.3 µs to read, and 0.1 to see that its reply fits (Python 3.11).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from struct import Struct, error
from typing import Final, NamedTuple

from sslintercept.dns import message as m

STALE_ANSWER: Final = 3
BLOCKED: Final = 15
CENSORED: Final = 16
FILTERED: Final = 17
NO_REACHABLE_AUTHORITY: Final = 22
"""codes of extended errors (RFC 8914 4)"""

HINFO: Final = 13
TSIG: Final = 250
"""types of records (RFC 1035 3.2.2, RFC 8945)"""

PLAIN_SIZE: Final = 512
"""bytes of a datagram that a client without EDNS takes (RFC 1035 4.2.1)"""
LONGEST_TEXT: Final = 200
"""bytes of an extended error's text: beside the longest question, it fits the smallest datagram of EDNS"""
MINIMAL_TTL: Final = 3600
"""seconds that the answer for ANY is good"""

HEADER: Final = Struct(">HHHHHH")
QUESTION: Final = Struct(">HH")
RECORD: Final = Struct(">HHIH")
TTL: Final = Struct(">I")
_ERROR: Final = Struct(">HHH")
_EXTENDED_ERROR: Final = 15  # an option of EDNS (RFC 8914 2)
_ASKED: Final = b"\xc0\x0c"  # a pointer to the question's name
_OPT: Final = m.ROOT + QUESTION.pack(m.OPT, m.PAYLOAD)  # how each of ours begins
_REFUSED_TYPES: Final = frozenset((m.OPT, 249, TSIG, 251, 252, 253, 254))  # TKEY, IXFR, AXFR, MAILB, MAILA
_MINIMAL: Final = b"\7RFC8482\0"  # a processor and a system (RFC 8482 4.2)
_EMPTY_ZONE: Final = _ASKED + m.wire("nobody.invalid") + Struct(">4I").pack(1, 3600, 1200, 604800)  # RFC 6303 3
_VERSIONS: Final = {m.A: 4, m.AAAA: 6}


class Query(NamedTuple):
    """
    A client's question.

    @ivar asked: its name as the client wrote it, in its wire form.
    @ivar name: the same, folded.
    @ivar size: bytes of a datagram that the client takes.
    @ivar edns: it speaks EDNS (RFC 6891).
    @ivar do: it wants signatures (RFC 3225).
    """

    id: int
    flags: int
    asked: bytes
    name: bytes
    rtype: int
    cls: int
    size: int
    edns: bool
    do: bool

    @property
    def rd(self) -> bool:
        """It wants to be answered whole."""
        return bool(self.flags & m.RD)

    @property
    def ad(self) -> bool:
        """It wants to know whether the answer was found genuine (RFC 6840 5.7)."""
        return bool(self.flags & m.AD)

    @property
    def cd(self) -> bool:
        """It wants the answer even if that was found forged (RFC 4035 3.2.2)."""
        return bool(self.flags & m.CD)


# queries


def read_query(data: bytes) -> Query | bytes | None:
    """What a client asks; or bytes, what to tell it at once; or C{None}, which nobody may be told anything about."""
    if len(data) < m.HEADER_SIZE or data[2] & 0x80:
        return None
    if data[2] & 0x78:
        return _bare(data, m.NOTIMP)
    try:
        query, version = _read(data)
    except (m.Malformed, IndexError, error):
        return _bare(data, m.FORMERR)
    if version:
        return refusal(query, m.BADVERS)
    if query.cls != m.IN or query.rtype in _REFUSED_TYPES:
        return refusal(query, m.REFUSED)
    if query.rtype == m.ANY:
        return _reply(query, m.NOERROR, _record(HINFO, MINIMAL_TTL, _MINIMAL), answers=1)
    return query


def _bare(data: bytes, rcode: int) -> bytes:
    """A refusal of what was not read further than its header."""
    number, flags, *_ = HEADER.unpack_from(data)
    return HEADER.pack(number, m.QR | m.RA | flags & (m.OPCODE | m.RD | m.CD) | rcode, 0, 0, 0, 0)


def _read(data: bytes) -> tuple[Query, int]:
    """A query and its version of EDNS."""
    number, flags, questions, answers, authority, extras = HEADER.unpack_from(data)
    before = answers + authority
    total = before + extras
    if questions != 1 or total > m.MOST_RECORDS:
        raise m.Malformed("not one question, or too many records")
    at = m.HEADER_SIZE
    while size := data[at]:
        if size > m.LONGEST_LABEL:
            raise m.Malformed("the question's name is compressed")
        at += 1 + size
    at += 1
    if at > m.HEADER_SIZE + m.LONGEST_NAME:
        raise m.Malformed("the question's name is too long")
    asked = data[m.HEADER_SIZE : at]
    rtype, cls = QUESTION.unpack_from(data, at)
    at += QUESTION.size
    takes, ttl, edns = PLAIN_SIZE, 0, False
    for count in range(total):
        owner = data[at]
        at = _behind_name(data, at)
        kind, payload, fields, size = RECORD.unpack_from(data, at)
        at += RECORD.size + size
        if kind == m.OPT:
            if edns or owner or count < before:
                raise m.Malformed("an OPT record where none may be")
            takes, ttl, edns = min(max(payload, PLAIN_SIZE), m.PAYLOAD), fields, True
    if at != len(data):
        raise m.Malformed("cut short, or something behind the last record")
    return Query(number, flags, asked, asked.lower(), rtype, cls, takes, edns, ttl & m.DO != 0), ttl >> 16 & 0xFF


def _behind_name(data: bytes, at: int) -> int:
    """Where a name ends that nobody wants to know."""
    while size := data[at]:
        if size > m.LONGEST_LABEL:
            if size < 0xC0:
                raise m.Malformed("a label of an unknown kind")
            return at + 2
        at += 1 + size
    return at + 1


# replies made here


def refusal(query: Query, rcode: int, info: tuple[int, str] | None = None) -> bytes:
    """
    A reply without records.

    @param rcode: one above 15 can be told by EDNS only; without it becomes C{SERVFAIL}.
    @param info: an extended error, for a client that speaks EDNS (RFC 8914): its code, and a text for readers, which is
        cut at L{LONGEST_TEXT}.
    """
    return _reply(query, rcode, options=b"" if info is None else extended(*info))


def addresses(query: Query, found: Sequence[str], ttl: int) -> bytes:
    """
    A reply with those addresses that are of the type asked for.

    Without one it says that there is none, by an SOA record that lets the client keep the news (RFC 2308 5).

    @param found: addresses of either family, as text.
    @param ttl: seconds.
    """
    version = _VERSIONS.get(query.rtype)
    fitting = dict.fromkeys(address.packed for address in map(ip_address, found) if address.version == version)
    if fitting:
        records = b"".join(_record(query.rtype, ttl, packed) for packed in fitting)
        return _reply(query, m.NOERROR, records, answers=len(fitting))
    return _reply(query, m.NOERROR, _record(m.SOA, ttl, _EMPTY_ZONE + TTL.pack(ttl)), authority=1)


def _record(rtype: int, ttl: int, rdata: bytes) -> bytes:
    """A record of the name asked for."""
    return _ASKED + RECORD.pack(rtype, m.IN, ttl, len(rdata)) + rdata


def _reply(
    query: Query, rcode: int, records: bytes = b"", *, answers: int = 0, authority: int = 0, options: bytes = b""
) -> bytes:
    if rcode > 15 and not query.edns:
        rcode = m.SERVFAIL
    flags = m.QR | m.RA | query.flags & (m.RD | m.CD) | rcode & 15
    return (
        HEADER.pack(query.id, flags, 1, answers, authority, query.edns)
        + (query.asked + QUESTION.pack(query.rtype, query.cls) + records)
        + (opt(rcode, query.do, options) if query.edns else b"")
    )


def opt(rcode: int, do: bool, options: bytes) -> bytes:
    """Our OPT record, with the bits of a response code above 15."""
    return _OPT + TTL.pack(rcode >> 4 << 24 | (m.DO if do else 0)) + len(options).to_bytes(2, "big") + options


def extended(code: int, text: str) -> bytes:
    """An extended error as an option of EDNS."""
    raw = text.encode("utf-8", "replace")[:LONGEST_TEXT].decode("utf-8", "ignore").encode("utf-8")
    return _ERROR.pack(_EXTENDED_ERROR, 2 + len(raw), code) + raw


def shortened(query: Query, reply: bytes) -> bytes:
    """
    C{reply}, which was made here for C{query}, or what a datagram says instead if it does not fit: nothing, and that it
    was truncated, so that the client asks again over a connection (RFC 2181 9, RFC 7766 5).
    """
    if len(reply) <= query.size:
        return reply
    number, flags, *_ = HEADER.unpack_from(reply)
    question = reply[m.HEADER_SIZE : m.HEADER_SIZE + len(query.asked) + QUESTION.size]
    # Nothing that is so long has a text in its OPT record, so the last that looks like one is it.
    tail = reply[reply.rindex(_OPT) :] if query.edns else b""
    return HEADER.pack(number, flags | m.TC, 1, 0, 0, query.edns) + question + tail
