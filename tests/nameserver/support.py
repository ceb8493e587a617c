"""What tests of the name server share: queries, upstream messages, and replies as a client reads them."""

from __future__ import annotations

import struct

from hypothesis import strategies as st
from twisted.names import dns

from sslintercept.dns import message as m
from sslintercept.nameserver.relay import relayed
from sslintercept.nameserver.reply import Query

from ..dns.support import Wire, labels, message

NAME = labels("www.example.com")
SPELLED = labels("wWw.eXample.com")
ASKED = b"\xc0\x0c"
OPT = b"\0\0\x29\x04\xd0"
PLAIN_OPT = OPT + bytes(6)
SIGNED_OPT = OPT + b"\0\0\x80\0\0\0"
CLIENT_OPT = b"\0\0\x29\x10\0\0\0\0\0\0\0"
TWISTED_ONLY = {10, 11, 13, 16, 35, 38, 44, 99}
"""types whose data Twisted reads, and we hand on as it is"""


def header(number: int, flags: int, *counts: int) -> bytes:
    return struct.pack(">6H", number, flags, *counts)


def asked(
    rtype: int = m.A, *, edns: bool = True, do: bool = False, flags: int = m.RD, size: int = 1232, name: bytes = SPELLED
) -> Query:
    return Query(0x1234, flags, name, name.lower(), rtype, m.IN, size if edns else 512, edns, do)


def upstream(
    *answers: Wire,
    authority: tuple[Wire, ...] = (),
    additional: tuple[Wire, ...] = (),
    rtype: int = m.A,
    flags: int = 0x8180,
    opt: bytes = PLAIN_OPT,
) -> bytes:
    """A message as a resolver gets it: its OPT record is the last, if there is one."""
    extra = b"".join(record(*one) for one in additional) + opt
    extras = len(additional) + bool(opt)
    return message(0, m.question(NAME, rtype), answers, authority, flags=flags, extra=extra, extras=extras)


def record(owner: str | bytes, rtype: int, ttl: int, data: bytes) -> bytes:
    name = owner if isinstance(owner, bytes) else labels(owner)
    return name + struct.pack(">HHIH", rtype, m.IN, ttl, len(data)) + data


def everything(data: bytes) -> list[m.Record]:
    """The records of all sections."""
    number, flags, questions, *counts = struct.unpack_from(">6H", data)
    read = m.parse(header(number, flags, questions, sum(counts), 0, 0) + data[m.HEADER_SIZE :])
    assert read is not None
    return read.answers


def ends(data: bytes) -> int:
    """Where the last record of a message ends."""
    _, _, questions, *counts = struct.unpack_from(">6H", data)
    assert questions == 1

    def behind(at: int) -> int:
        while size := data[at]:
            if size >= 0xC0:
                return at + 2
            at += 1 + size
        return at + 1

    at = behind(m.HEADER_SIZE) + 4
    for _ in range(sum(counts)):
        at = behind(at) + 10
        at += int.from_bytes(data[at - 2 : at], "big")
    return at


def readable(data: bytes) -> m.Message:
    """A reply that we and Twisted can read, and that ends where it should."""
    read = m.parse(data)
    assert read is not None
    assert ends(data) == len(data) <= 0xFFFF
    if not TWISTED_ONLY.intersection(one.type for one in everything(data)):
        theirs = dns.Message()
        theirs.fromStr(data)
        assert len(theirs.answers) == len(read.answers)
        assert len(theirs.authority) == len(read.authority)
        assert theirs.id == read.id
    return read


def to(query: Query, data: bytes, age: float = 0.0, *, strip_ech: bool = False, stale: bool = False) -> bytes:
    made = relayed(query, data, age, strip_ech=strip_ech, stale=stale)
    readable(made)
    return made


def mutated(data: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed[: max(len(data) - cut, 0)])


COMPRESSED = (
    (header(0, 0x8580, 1, 3, 0, 1) + NAME + b"\0\1\0\1")
    + (b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\6\3web\xc0\x10")
    + (b"\xc0\x2d\0\1\0\1\0\0\0\x0a\0\4\xc0\0\2\1")
    + (b"\xc0\x2d\0\1\0\1\x80\0\0\0\0\4\xc0\0\2\2")
    + CLIENT_OPT
)
"""www.example.com is web.example.com, which has two addresses, one with a TTL that is none"""
MUTATIONS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8)
