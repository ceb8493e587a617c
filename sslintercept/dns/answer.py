"""
What an answer says to its question: records, an alias to be asked for next, or that there is nothing (RFC 2308).

Only records on the chain of aliases that begins at the question count; whatever else a server put in is ignored.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv6Address
from typing import NamedTuple

from sslintercept.dns.message import AAAA, ANY, CNAME, FORMERR, HEADER_SIZE, NOERROR, NS, RA, SOA, A, Message

MOST_ALIASES = 16
"""aliases of one chain that are followed, over all its queries"""
LONGEST_TTL = 7 * 86_400
"""seconds; longer ones are cut (RFC 8767 4)"""
LONGEST_NEGATIVE = 3 * 3600
"""seconds; the same for the news that there is nothing (RFC 2308 5)"""


class Answer(NamedTuple):
    """
    An answer to a look-up.

    @ivar rcode: C{NOERROR} or C{NXDOMAIN}; of L{sslintercept.dns.processor.DnsProcessor.raw} any.
    @ivar canonical: the name behind the last alias, folded, for readers.
    @ivar addresses: for A and AAAA, as text.
    @ivar rdata: for any other type, names in it written out.
    @ivar ttl: seconds, the smallest of the chain; how long the news is good, too, if C{negative}.
    @ivar negative: the name, or its records of this type, do not exist.
    @ivar server: who answered.
    @ivar took: seconds.
    @ivar message: for L{sslintercept.dns.processor.DnsProcessor.raw}, the whole message with the id 0 and a folded
        question; else empty.
    """

    rcode: int
    canonical: str
    addresses: tuple[str, ...]
    rdata: tuple[bytes, ...]
    ttl: int
    negative: bool
    server: str
    took: float
    message: bytes = b""


class Finding(Enum):
    """What an answer comes to."""

    RECORDS = "records"
    ALIAS = "alias"
    NOTHING = "nothing"
    REFERRAL = "referral"
    LOOP = "loop"


class Judgement(NamedTuple):
    """
    What a message says to a question.

    @ivar name: the last name of the chain; for an alias the one to ask for.
    @ivar aliases: how many were followed.
    """

    finding: Finding
    name: bytes
    aliases: int
    ttl: int
    addresses: tuple[str, ...] = ()
    rdata: tuple[bytes, ...] = ()


def misfit(data: bytes, asked: bytes, stream: bool) -> str | None:
    """
    Why C{data}, which has the id of a query, cannot be the answer to its question section C{asked}, or C{None}.

    A connection's peer is known, so there the case of letters need not be as it was.
    """
    if not data[2] & 0x80 or data[2] & 0x78:
        return "header"
    echoed = data[HEADER_SIZE : HEADER_SIZE + len(asked)]
    if data[4:6] == b"\0\1":
        if echoed == asked:
            return None
        if echoed[-4:] == asked[-4:] and echoed[:-4].lower() == asked[:-4].lower():
            return None if stream else "case"
    elif len(data) == HEADER_SIZE and data[3] & 15 == FORMERR and data[4:6] == b"\0\0":
        return None  # from a server that could not read as far as the question
    return "question"


def judge(message: Message, name: bytes, rtype: int, cls: int) -> Judgement:
    """What C{message}, whose response code is C{NOERROR} or C{NXDOMAIN}, says to the folded C{name}."""
    ttl = LONGEST_TTL
    seen = {name}
    answers = message.answers
    while True:
        found: list[bytes] = []
        alias = None
        for record in answers:
            if record.name != name or record.cls != cls:
                continue
            if record.type == rtype or rtype == ANY:
                found.append(record.rdata)
            elif record.type == CNAME and alias is None:
                alias = record.rdata
            else:
                continue
            ttl = min(ttl, clamped(record.ttl, LONGEST_TTL))
        aliases = len(seen) - 1
        if found:
            # A repeated record is one.
            unique = tuple(dict.fromkeys(found))
            if rtype == A:
                return Judgement(Finding.RECORDS, name, aliases, ttl, tuple("{}.{}.{}.{}".format(*x) for x in unique))
            if rtype == AAAA:
                return Judgement(Finding.RECORDS, name, aliases, ttl, tuple(str(IPv6Address(x)) for x in unique))
            return Judgement(Finding.RECORDS, name, aliases, ttl, rdata=unique)
        if alias is None:
            return _nothing(message, name, cls, aliases, ttl)
        if alias in seen or aliases == MOST_ALIASES:
            return Judgement(Finding.LOOP, alias, aliases, 0)
        seen.add(alias)
        name = alias


def _nothing(message: Message, name: bytes, cls: int, aliases: int, ttl: int) -> Judgement:
    """The chain ends without records: for good, at a further question, or at another server (RFC 2308 2)."""
    kinds = set()
    for record in message.authority:
        if record.type == SOA and record.cls == cls and _within(name, record.name):
            minimum = int.from_bytes(record.rdata[-4:], "big")
            lasts = min(clamped(minimum, LONGEST_NEGATIVE), clamped(record.ttl, LONGEST_NEGATIVE))
            return Judgement(Finding.NOTHING, name, aliases, min(ttl, lasts))
        kinds.add(record.type)
    if message.rcode == NOERROR:
        if aliases:
            return Judgement(Finding.ALIAS, name, aliases, ttl)
        if NS in kinds and not message.flags & RA:
            return Judgement(Finding.REFERRAL, name, 0, 0)
    # Without a SOA it must not be kept (RFC 2308 5).
    return Judgement(Finding.NOTHING, name, aliases, 0)


def _within(name: bytes, zone: bytes) -> bool:
    """Whether C{name} is C{zone} or below it."""
    while name != zone:
        if len(name) <= len(zone):
            return False
        name = name[1 + name[0] :]
    return True


def clamped(ttl: int, longest: int) -> int:
    """Seconds within bounds; one with its first bit set is 0 (RFC 2181 8)."""
    return 0 if ttl & 0x80000000 else min(ttl, longest)
