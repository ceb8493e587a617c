"""
What a name server says, as bytes: a client's query is read, its reply is made here or of an upstream server's message.

Whatever a client sent, L{read_query} raises nothing and follows no pointer. An upstream server's message is read once,
by L{prepare}: what all clients get alike is decided there, so that L{Prepared.to} only puts in a client's id, question
and flags and lowers the TTLs. Records stay as the server wrote them and where they stood, since names point to each
other; behind the first that goes or changes, names are written out.

For an answer with two records, 2.3 µs are spent on L{read_query}, 1.5 on L{Prepared.to} and 0.1 on L{shortened}; once
per message, 23 on L{prepare} and 10 on L{cache_ttl} (Python 3.11).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from struct import Struct, error
from typing import Final, NamedTuple

from sslintercept.dns import message as m
from sslintercept.dns.answer import LONGEST_NEGATIVE, LONGEST_TTL, clamped

STALE_ANSWER: Final = 3
BLOCKED: Final = 15
CENSORED: Final = 16
FILTERED: Final = 17
NO_REACHABLE_AUTHORITY: Final = 22
"""codes of extended errors (RFC 8914 4)"""

HINFO: Final = 13
RRSIG: Final = 46
NSEC: Final = 47
DNSKEY: Final = 48
NSEC3: Final = 50
SVCB: Final = 64
HTTPS: Final = 65
TSIG: Final = 250
"""types of records (RFC 1035 3.2.2, RFC 4034, RFC 5155, RFC 9460, RFC 8945)"""
MANDATORY: Final = 0
ECH: Final = 5
"""keys of an SVCB record's parameters (RFC 9460 14.3.2, RFC 9848)"""

PLAIN_SIZE: Final = 512
"""bytes of a datagram that a client without EDNS takes (RFC 1035 4.2.1)"""
LONGEST_MESSAGE: Final = 0xFFFF
"""bytes that the length before a message can say (RFC 1035 4.2.2)"""
LONGEST_TEXT: Final = 200
"""bytes of an extended error's text: beside the longest question, it fits the smallest datagram of EDNS"""
STALE_TTL: Final = 30
"""seconds that a record is good whose time is over (RFC 8767 4)"""
MINIMAL_TTL: Final = 3600
"""seconds that the answer for ANY is good"""

_HEADER: Final = Struct(">HHHHHH")
_QUESTION: Final = Struct(">HH")
_RECORD: Final = Struct(">HHIH")
_TTL: Final = Struct(">I")
_PARAM: Final = Struct(">HH")
_ERROR: Final = Struct(">HHH")
_ECH_KEY: Final = ECH.to_bytes(2, "big")
_EXTENDED_ERROR: Final = 15  # an option of EDNS (RFC 8914 2)
_EXTRAS: Final = 2  # the third section
_ASKED: Final = b"\xc0\x0c"  # a pointer to the question's name
_LAST_POINTER: Final = 0x3FFF
_LARGEST_TTL: Final = 0x7FFFFFFF  # one above is none (RFC 2181 8)
_OPT: Final = m.ROOT + _QUESTION.pack(m.OPT, m.PAYLOAD)  # how each of ours begins
_SIGNATURES: Final = frozenset((RRSIG, NSEC, DNSKEY, NSEC3))
_HOP: Final = frozenset((m.OPT, TSIG))  # between us and the server alone
_REFUSED_TYPES: Final = frozenset((m.OPT, 249, TSIG, 251, 252, 253, 254))  # TKEY, IXFR, AXFR, MAILB, MAILA
_MINIMAL: Final = b"\7RFC8482\0"  # a processor and a system (RFC 8482 4.2)
_EMPTY_ZONE: Final = _ASKED + m.wire("nobody.invalid") + Struct(">4I").pack(1, 3600, 1200, 604800)  # RFC 6303 3
_VERSIONS: Final = {m.A: 4, m.AAAA: 6}
_SIZES: Final = {m.A: 4, m.AAAA: 16}
_LAYOUTS: Final = {
    **dict.fromkeys((m.NS, 3, 4, m.CNAME, 7, 8, 9, m.PTR, 39), (0, 1, 0)),  # MD, MF, MB, MG, MR, DNAME
    **dict.fromkeys((14, 17), (0, 2, 0)),  # MINFO, RP
    **dict.fromkeys((m.MX, 18, 21), (2, 1, 0)),  # AFSDB, RT
    m.SOA: (0, 2, 20),
    m.SRV: (6, 1, 0),
}
"""bytes before names, names, bytes after: record data that may point into its message (RFC 3597 4)"""


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
    number, flags, *_ = _HEADER.unpack_from(data)
    return _HEADER.pack(number, m.QR | m.RA | flags & (m.OPCODE | m.RD | m.CD) | rcode, 0, 0, 0, 0)


def _read(data: bytes) -> tuple[Query, int]:
    """A query and its version of EDNS."""
    number, flags, questions, answers, authority, extras = _HEADER.unpack_from(data)
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
    rtype, cls = _QUESTION.unpack_from(data, at)
    at += _QUESTION.size
    takes, ttl, edns = PLAIN_SIZE, 0, False
    for count in range(total):
        owner = data[at]
        at = _behind_name(data, at)
        kind, payload, fields, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size + size
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
    return _reply(query, rcode, options=b"" if info is None else _extended(*info))


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
    return _reply(query, m.NOERROR, _record(m.SOA, ttl, _EMPTY_ZONE + _TTL.pack(ttl)), authority=1)


def _record(rtype: int, ttl: int, rdata: bytes) -> bytes:
    """A record of the name asked for."""
    return _ASKED + _RECORD.pack(rtype, m.IN, ttl, len(rdata)) + rdata


def _reply(
    query: Query, rcode: int, records: bytes = b"", *, answers: int = 0, authority: int = 0, options: bytes = b""
) -> bytes:
    if rcode > 15 and not query.edns:
        rcode = m.SERVFAIL
    flags = m.QR | m.RA | query.flags & (m.RD | m.CD) | rcode & 15
    return (
        _HEADER.pack(query.id, flags, 1, answers, authority, query.edns)
        + (query.asked + _QUESTION.pack(query.rtype, query.cls) + records)
        + (_opt(rcode, query.do, options) if query.edns else b"")
    )


def _opt(rcode: int, do: bool, options: bytes) -> bytes:
    return _OPT + _TTL.pack(rcode >> 4 << 24 | (m.DO if do else 0)) + len(options).to_bytes(2, "big") + options


def _extended(code: int, text: str) -> bytes:
    """An extended error as an option of EDNS."""
    raw = text.encode("utf-8", "replace")[:LONGEST_TEXT].decode("utf-8", "ignore").encode("utf-8")
    return _ERROR.pack(_EXTENDED_ERROR, 2 + len(raw), code) + raw


_STALE: Final = _extended(STALE_ANSWER, "")


# replies made of an upstream server's message


def relayed(query: Query, message: bytes, age: float, *, strip_ech: bool, stale: bool = False) -> bytes:
    """
    The reply that C{message} makes; C{SERVFAIL} if it is malformed, or answers another question.

    @param message: as L{sslintercept.dns.processor.DnsProcessor.raw} gives it.
    @param age: seconds since it came.
    @param strip_ech: see L{prepare}.
    @param stale: see L{Prepared.to}.
    """
    prepared = prepare(message, query.do, strip_ech)
    return refusal(query, m.SERVFAIL) if prepared is None else prepared.to(query, age, stale=stale)


def prepare(message: bytes, do: bool, strip_ech: bool) -> Prepared | None:
    """
    Read an upstream server's message; C{None} if it is malformed.

    @param do: keep signatures and proofs for clients that want them. Others get them only as the type they asked for.
    @param strip_ech: take the keys of Encrypted Client Hello out of SVCB and HTTPS records, and out of their sections
        the signatures that are no longer true; one that cannot be read makes the message malformed.
    """
    try:
        return _prepare(message, do, strip_ech)
    except (m.Malformed, IndexError, error):
        return None


class Prepared:
    """
    An upstream server's message, ready for clients that asked its question and set, or did not set, C{DO} alike.

    @ivar name: the question's name, folded.
    @ivar rtype: the question's type.
    """

    __slots__ = ("_body", "_counts", "_extended", "_flags", "_genuine", "_ttls", "name", "rtype")

    def __init__(
        self,
        question: tuple[bytes, int],
        rcode: int,
        genuine: bool,
        counts: tuple[int, int, int],
        body: bytes,
        ttls: list[tuple[int, int]],
    ) -> None:
        self.name, self.rtype = question
        self._flags, self._extended, self._genuine = m.QR | m.RA | rcode & 15, rcode & ~15, genuine
        self._counts = counts
        self._body = body  # the type and the class of the question, and all records
        self._ttls = ttls  # where each is in the body, and what it was

    def to(self, query: Query, age: float, *, stale: bool = False) -> bytes:
        """
        The reply to a client; C{SERVFAIL} if that has asked something else.

        @param age: seconds since the message came.
        @param stale: the time of the message is over. Its records are good for L{STALE_TTL}, and the client is told.
        """
        edns = query.edns
        if query.name != self.name or query.rtype != self.rtype or (self._extended and not edns):
            return refusal(query, m.SERVFAIL)
        lowered, least = int(age), STALE_TTL if stale else 0
        body = bytearray(self._body)
        put = _TTL.pack_into
        for at, ttl in self._ttls:
            left = ttl - lowered
            put(body, at, left if left > least else least)
        flags = self._flags | query.flags & (m.RD | m.CD)
        if self._genuine and (query.do or query.flags & m.AD):
            flags |= m.AD
        answers, authority, extras = self._counts
        head = _HEADER.pack(query.id, flags, 1, answers, authority, extras + edns)
        if not edns:
            return head + query.asked + body
        return head + query.asked + body + _opt(self._extended, query.do, _STALE if stale else b"")


class _Record(NamedTuple):
    """A record, and where it stands; its owner and the names in its data are written out, their case kept."""

    section: int
    at: int
    fields: int
    """where its type is, and what follows"""
    end: int
    owner: bytes
    rtype: int
    cls: int
    ttl: int
    rdata: bytes


class _Reader:
    """Reads the names and records of a message, and makes sure that they can stay where they are."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        # Names and how many pointers they follow, by where they begin.
        self._known: dict[int, tuple[bytes, int]] = {}
        # Bytes that are others in a reply. No name may lead there.
        self._moving = bytearray(len(data))
        self._moving[: m.HEADER_SIZE] = b"\1" * m.HEADER_SIZE

    def name(self, at: int) -> tuple[bytes, int]:
        """The name at C{at} and where it ends."""
        data, known = self.data, self._known
        start = run = limit = at
        end = jumps = 0
        parts: list[bytes] = []
        length = 1
        runs = [(start, 0, 0)]
        while True:
            size = data[at]
            if 0 < size <= m.LONGEST_LABEL:
                parts.append(data[at : at + 1 + size])
                at += 1 + size
                length += 1 + size
                if length > m.LONGEST_NAME:
                    raise m.Malformed("a name is too long")
                continue
            if 0 < size < 0xC0:
                raise m.Malformed("a label of an unknown kind")
            stop = at + 2 if size else at + 1
            if jumps and (stop > limit or self._moving.find(1, run, stop) >= 0):
                raise m.Malformed("a pointer leads to what is no name")
            end = end or stop
            if not size:
                break
            target = (size & 0x3F) << 8 | data[at + 1]
            tail, further = known.get(target, (m.ROOT, 0))
            jumps += 1 + further
            if target >= run or jumps > m.MOST_JUMPS:
                raise m.Malformed("a pointer of a name leads nowhere")
            if target in known:
                parts.append(tail[:-1])
                length += len(tail) - 1
                break
            runs.append((target, len(parts), jumps))
            limit = run
            at = run = target
        if length > m.LONGEST_NAME:
            raise m.Malformed("a name is too long")
        for begin, first, before in runs:
            known[begin] = b"".join(parts[first:]) + m.ROOT, jumps - before
        return known[start][0], end

    def records(self, at: int, counts: Sequence[int]) -> Iterator[_Record]:
        """The records of each section."""
        for section, count in enumerate(counts):
            for _ in range(count):
                owner, fields = self.name(at)
                rtype, cls, ttl, size = _RECORD.unpack_from(self.data, fields)
                rdata = fields + _RECORD.size
                end = rdata + size
                if end > len(self.data):
                    raise m.Malformed("a record ends behind the message")
                self._moving[fields + 4 : fields + 8] = b"\1\1\1\1"
                yield _Record(section, at, fields, end, owner, rtype, cls, ttl, self._rdata(rdata, end, rtype))
                at = end

    def _rdata(self, at: int, end: int, rtype: int) -> bytes:
        """The data of a record without compression."""
        if (size := _SIZES.get(rtype)) is not None and end - at != size:
            raise m.Malformed("an address of a wrong length")
        layout = _LAYOUTS.get(rtype)
        if layout is None:
            return self.data[at:end]
        before, names, after = layout
        made = self.data[at : at + before]
        at += before
        for _ in range(names):
            name, at = self.name(at)
            made += name
        if at + after != end:
            raise m.Malformed("record data of a wrong length")
        return made + self.data[at:end]


def _prepare(message: bytes, do: bool, strip_ech: bool) -> Prepared:
    _, flags, questions, *counts = _HEADER.unpack_from(message)
    if flags & (m.QR | m.OPCODE) != m.QR or questions != 1 or sum(counts) > m.MOST_RECORDS:
        raise m.Malformed("no answer to one question, or too many records")
    reader = _Reader(message)
    asked, start = reader.name(m.HEADER_SIZE)
    rtype, cls = _QUESTION.unpack_from(message, start)
    if cls != m.IN:
        raise m.Malformed("of another class")
    unwanted = _HOP if do else (_HOP | _SIGNATURES) - {rtype}
    rcode = flags & 15
    opts = 0
    kept: list[_Record] = []
    changed: dict[int, bytes] = {}
    """data of records that are no longer what they were, by where they begin"""
    untrue: set[tuple[int, bytes, int]] = set()
    """sections, owners and types of records whose signatures are no longer true"""
    for record in reader.records(start + _QUESTION.size, counts):
        if record.rtype == m.OPT:
            opts += 1
            if opts > 1 or record.section != _EXTRAS:
                raise m.Malformed("an OPT record where none may be")
            rcode |= record.ttl >> 24 << 4
        if record.rtype in unwanted:
            continue
        kept.append(record)
        if strip_ech and record.rtype in (SVCB, HTTPS):
            rdata = _without_ech(record.rdata)
            if rdata is not record.rdata:
                changed[record.at] = rdata
                untrue.add((record.section, record.owner.lower(), record.rtype))
    if untrue:
        kept = [one for one in kept if one.rtype != RRSIG or _covered(one) not in untrue]
    body, ttls = _written(message, asked, start, kept, changed)
    left = [0, 0, 0]
    for record in kept:
        left[record.section] += 1
    genuine = bool(flags & m.AD) and not untrue
    answers, authority, extras = left
    return Prepared((asked.lower(), rtype), rcode, genuine, (answers, authority, extras), body, ttls)


def _covered(record: _Record) -> tuple[int, bytes, int]:
    """What an RRSIG record signs."""
    return record.section, record.owner.lower(), int.from_bytes(record.rdata[:2], "big")


def _written(
    message: bytes, asked: bytes, start: int, records: list[_Record], changed: dict[int, bytes]
) -> tuple[bytes, list[tuple[int, int]]]:
    """What a message has behind the question's name, and where in it the TTLs are; C{start} is where it begins."""
    body = bytearray(message[start : start + _QUESTION.size])
    ttls: list[tuple[int, int]] = []
    places = {asked: m.HEADER_SIZE}
    """owners, by where they are written whole"""
    in_place = True
    for record in records:
        here = start + len(body)
        in_place = in_place and record.at == here and record.at not in changed
        if in_place:
            fields = record.fields - start
            body += message[record.at : record.end]
        else:
            place = places.get(record.owner)
            if place is None:
                body += record.owner
                if here <= _LAST_POINTER and record.owner != m.ROOT:
                    places[record.owner] = here
            else:
                body += (0xC000 | place).to_bytes(2, "big")
            fields = len(body)
            rdata = changed.get(record.at, record.rdata)
            body += _RECORD.pack(record.rtype, record.cls, 0, len(rdata)) + rdata
        ttls.append((fields + 4, clamped(record.ttl, _LARGEST_TTL)))
    if start + len(body) + len(_opt(0, False, _STALE)) > LONGEST_MESSAGE:
        raise m.Malformed("too long when its names are written out")
    return bytes(body), ttls


def _without_ech(rdata: bytes) -> bytes:
    """The data of an SVCB record without C{ech}; the very same if it has none (RFC 9460 2.2)."""
    at = 2
    while size := rdata[at]:
        if size > m.LONGEST_LABEL:
            raise m.Malformed("a compressed target")
        at += 1 + size
    at += 1
    made = rdata[:at]
    params: list[tuple[int, bytes]] = []
    last = -1
    while at < len(rdata):
        key, size = _PARAM.unpack_from(rdata, at)
        at += _PARAM.size
        value = rdata[at : at + size]
        if key <= last or len(value) != size:
            raise m.Malformed("parameters in disorder, or one that ends behind its record")
        params.append((key, value))
        last = key
        at += size
    if all(key != ECH for key, _ in params):
        return rdata
    for key, value in params:
        if key == MANDATORY:
            value = _without_key(value)
            if not value:
                continue
        if key != ECH:
            made += _PARAM.pack(key, len(value)) + value
    return made


def _without_key(mandatory: bytes) -> bytes:
    """A list of keys without that of C{ech}."""
    if not mandatory or len(mandatory) % 2:
        raise m.Malformed("a list of keys of a wrong length")
    keys = (mandatory[at : at + 2] for at in range(0, len(mandatory), 2))
    return b"".join(key for key in keys if key != _ECH_KEY)


# what is done with a reply or a message


def shortened(query: Query, reply: bytes) -> bytes:
    """
    C{reply}, which was made here for C{query}, or what a datagram says instead if it does not fit: nothing, and that it
    was truncated, so that the client asks again over a connection (RFC 2181 9, RFC 7766 5).
    """
    if len(reply) <= query.size:
        return reply
    number, flags, *_ = _HEADER.unpack_from(reply)
    question = reply[m.HEADER_SIZE : m.HEADER_SIZE + len(query.asked) + _QUESTION.size]
    # Nothing that is so long has a text in its OPT record, so the last that looks like one is it.
    opt = reply[reply.rindex(_OPT) :] if query.edns else b""
    return _HEADER.pack(number, flags | m.TC, 1, 0, 0, query.edns) + question + opt


def cache_ttl(message: bytes) -> int:
    """
    How many seconds an upstream server's message may be kept: as long as all of its answer and authority is good.

    The news that there is no such name, or nothing of the type at the end of its aliases, is good as long as an SOA
    record says, and without one not at all (RFC 2308 5); no other failure is kept, and nothing that was cut.
    """
    read = m.parse(message)
    if read is None or read.question is None or read.flags & m.TC or read.rcode not in m.WELL:
        return 0
    least = min(
        (clamped(one.ttl, LONGEST_TTL) for one in read.answers + read.authority if one.type != m.OPT), default=0
    )
    if read.rcode == m.NOERROR and any(one.type == read.question[1] for one in read.answers):
        return least
    minima = [int.from_bytes(one.rdata[-4:], "big") for one in read.authority if one.type == m.SOA]
    return min(least, *(clamped(minimum, LONGEST_NEGATIVE) for minimum in minima)) if minima else 0
