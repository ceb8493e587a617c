"""What a name server says for itself: hostile queries do no harm, and every refusal has its words."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dns import message as m
from sslintercept.nameserver import reply as r
from sslintercept.nameserver.relay import HTTPS, cache_ttl
from sslintercept.nameserver.reply import Query, addresses, read_query, refusal, shortened

from ..dns.support import labels, soa
from .support import (
    ASKED,
    CLIENT_OPT,
    COMPRESSED,
    MUTATIONS,
    NAME,
    OPT,
    PLAIN_OPT,
    SIGNED_OPT,
    SPELLED,
    asked,
    header,
    mutated,
    readable,
    record,
    to,
    upstream,
)


def test_the_bytes_of_constants() -> None:
    assert (r.STALE_ANSWER, r.BLOCKED, r.CENSORED, r.FILTERED, r.NO_REACHABLE_AUTHORITY) == (3, 15, 16, 17, 22)


# queries


def test_a_query_without_edns_is_read() -> None:
    data = header(0x1234, m.RD | m.CD, 1, 0, 0, 0) + SPELLED + b"\0\x1c\0\1"
    query = read_query(data)
    assert query == Query(0x1234, m.RD | m.CD, SPELLED, NAME, m.AAAA, m.IN, 512, False, False)
    assert isinstance(query, Query)
    assert (query.rd, query.ad, query.cd) == (True, False, True)


@pytest.mark.parametrize(
    ("announced", "size"), [(0, 512), (511, 512), (512, 512), (1000, 1000), (1232, 1232), (65535, 1232)]
)
def test_a_query_with_edns_is_read(announced: int, size: int) -> None:
    cookie = b"\0\x0a\0\x08client!!"
    opt = b"\0" + struct.pack(">HHIH", m.OPT, announced, 0x8000, len(cookie)) + cookie
    data = header(1, m.AD, 1, 0, 0, 1) + SPELLED + b"\0\1\0\1" + opt
    query = read_query(data)
    assert query == Query(1, m.AD, SPELLED, NAME, m.A, m.IN, size, True, True)
    assert isinstance(query, Query)
    assert (query.rd, query.ad, query.cd) == (False, True, False)


def test_our_own_queries_are_read() -> None:
    query = read_query(m.query(7, m.question(m.ROOT, m.NS)))
    assert query == Query(7, m.RD, m.ROOT, m.ROOT, m.NS, m.IN, 1232, True, False)


@pytest.mark.parametrize("data", [b"", bytes(11), header(1, m.QR, 1, 0, 0, 0) + NAME + b"\0\1\0\1", b"\xff" * 600])
def test_nothing_is_said_to_a_fragment_or_to_a_reply(data: bytes) -> None:
    assert read_query(data) is None


@pytest.mark.parametrize("opcode", range(1, 16))
def test_only_queries_are_implemented(opcode: int) -> None:
    data = header(9, opcode << 11 | m.RD | m.AA, 1, 0, 0, 0) + NAME + b"\0\1\0\1"
    assert read_query(data) == header(9, 0x8184 | opcode << 11, 0, 0, 0, 0)


LONG = (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"y" * 61 + b"\0"


@pytest.mark.parametrize(
    "data",
    [
        header(9, m.RD, 0, 0, 0, 0),
        header(9, m.RD, 2, 0, 0, 0) + (NAME + b"\0\1\0\1") * 2,
        header(9, m.RD, 1, 0, 0, 0),
        header(9, m.RD, 1, 0, 0, 0) + NAME + b"\0\1\0",
        header(9, m.RD, 1, 0, 0, 0) + NAME + b"\0\1\0\1x",  # something behind
        header(9, m.RD, 1, 0, 0, 0) + b"\3www\xc0\x04\0\1\0\1",  # a pointer
        header(9, m.RD, 1, 0, 0, 0) + b"\x40" + b"x" * 64 + b"\0\0\1\0\1",  # a label of an unknown kind
        header(9, m.RD, 1, 0, 0, 0) + b"\1x" + LONG + b"\0\1\0\1",  # 257 bytes
        header(9, m.RD, 1, 0, 0, 1) + NAME + b"\0\1\0\1",  # no record
        header(9, m.RD, 1, 0, 0, 1) + NAME + b"\0\1\0\1" + CLIENT_OPT[:-1],
        header(9, m.RD, 1, 0, 0, 1) + NAME + b"\0\1\0\1" + CLIENT_OPT[:-1] + b"\1",  # its data is missing
        header(9, m.RD, 1, 0, 0, 1) + NAME + b"\0\1\0\1" + CLIENT_OPT + b"\0",
        header(9, m.RD, 1, 0, 0, 2) + NAME + b"\0\1\0\1" + CLIENT_OPT * 2,
        header(9, m.RD, 1, 1, 0, 0) + NAME + b"\0\1\0\1" + CLIENT_OPT,
        header(9, m.RD, 1, 0, 1, 0) + NAME + b"\0\1\0\1" + CLIENT_OPT,
        header(9, m.RD, 1, 0, 0, 1) + NAME + b"\0\1\0\1\1x" + CLIENT_OPT,  # of another name than the root
        header(9, m.RD, 1, 0, 0, 1) + NAME + b"\0\1\0\1\x80" + record("", 99, 0, b"")[1:],
        header(9, m.RD, 1, 0, 0, 1025) + NAME + b"\0\1\0\1" + record("", 99, 0, b"") * 1025,
    ],
)
def test_what_cannot_be_read_is_a_format_error(data: bytes) -> None:
    assert read_query(data) == header(9, 0x8181, 0, 0, 0, 0)


def test_the_longest_name_is_read() -> None:
    query = read_query(header(9, m.RD, 1, 0, 0, 0) + LONG + b"\0\1\0\1")
    assert isinstance(query, Query)
    assert len(query.asked) == 255


def test_records_that_nobody_asked_for_are_passed_over() -> None:
    others = record("x.test", m.A, 1, b"1234") + record(ASKED, 99, 1, b"") + CLIENT_OPT + record("", r.TSIG, 0, b"key")
    query = read_query(header(9, m.RD, 1, 1, 1, 2) + NAME + b"\0\1\0\1" + others)
    assert isinstance(query, Query)
    assert query.edns


def test_a_later_version_of_edns_is_refused_with_ours() -> None:
    data = header(9, m.RD, 1, 0, 0, 1) + SPELLED + b"\0\xff\0\3" + b"\0\0\x29\x10\0\0\1\x80\0\0\0"
    assert read_query(data) == header(9, 0x8180, 1, 0, 0, 1) + SPELLED + b"\0\xff\0\3" + OPT + b"\1\0\x80\0\0\0"


@pytest.mark.parametrize("cls", [0, 3, 4, 254, 255])
def test_other_classes_are_refused(cls: int) -> None:
    question = SPELLED + struct.pack(">HH", m.ANY, cls)
    assert read_query(header(9, 0, 1, 0, 0, 0) + question) == header(9, 0x8085, 1, 0, 0, 0) + question


@pytest.mark.parametrize("rtype", [41, 249, 250, 251, 252, 253, 254])
def test_transfers_and_what_is_no_record_are_refused(rtype: int) -> None:
    question = SPELLED + struct.pack(">HH", rtype, 1)
    data = header(9, m.RD | m.CD, 1, 0, 1, 1) + question + record("example.com", *soa("example.com", 1)[1:])
    assert read_query(data + CLIENT_OPT) == header(9, 0x8195, 1, 0, 0, 1) + question + PLAIN_OPT


def test_any_is_answered_minimally() -> None:
    question = SPELLED + b"\0\xff\0\1"
    record = b"\xc0\x0c\0\x0d\0\1\0\0\x0e\x10\0\x09\7RFC8482\0"
    assert read_query(header(9, m.RD, 1, 0, 0, 0) + question) == header(9, 0x8180, 1, 1, 0, 0) + question + record
    made = read_query(header(9, m.RD, 1, 0, 0, 1) + question + CLIENT_OPT)
    assert made == header(9, 0x8180, 1, 1, 0, 1) + question + record + PLAIN_OPT
    readable(made)


WHOLE = header(9, m.RD, 1, 1, 1, 2) + SPELLED + b"\0\1\0\1" + record(ASKED, 99, 1, b"x") * 3 + CLIENT_OPT


def test_every_cut_of_a_query_is_a_format_error() -> None:
    for end in range(m.HEADER_SIZE, len(WHOLE)):
        assert read_query(WHOLE[:end]) == header(9, 0x8181, 0, 0, 0, 0)
    assert isinstance(read_query(WHOLE), Query)


def fine(said: Query | bytes | None, data: bytes) -> None:
    """A query is what the bytes say, and a refusal an answer to them."""
    if isinstance(said, Query):
        assert data[m.HEADER_SIZE : m.HEADER_SIZE + len(said.asked)] == said.asked
        assert said.name == said.asked.lower()
        assert 512 <= said.size <= 1232
        readable(refusal(said, m.REFUSED, (r.BLOCKED, "no")))
    elif said is not None:
        assert said[:2] == data[:2]
        assert said[2] & 0x80
        assert m.parse(said) is not None


@given(st.binary(max_size=600))
def test_no_bytes_raise(data: bytes) -> None:
    fine(read_query(data), data)
    data = header(9, m.RD, 1, 0, 0, 1) + data
    fine(read_query(data), data)


@given(MUTATIONS, st.just(0) | st.integers(0, 60))
def test_no_mutation_of_a_query_raises(changes: list[tuple[int, int]], cut: int) -> None:
    data = mutated(WHOLE, changes, cut)
    fine(read_query(data), data)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.integers(0, 255), st.integers(0, 65535))
def test_what_is_asked_is_what_is_read(parts: list[bytes], rtype: int, number: int) -> None:
    name = b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
    said = read_query(m.query(number, m.question(name, rtype), do=True))
    if isinstance(said, Query):
        assert said == Query(number, m.RD, name, name.lower(), rtype, m.IN, 1232, True, True)
    else:
        assert rtype in {*range(249, 256), m.OPT}


# replies made here


def test_a_refusal_echoes_the_question() -> None:
    plain = asked(m.AAAA, edns=False, flags=m.RD | m.AD | m.CD | m.AA)
    question = SPELLED + b"\0\x1c\0\1"
    assert refusal(plain, m.SERVFAIL) == header(0x1234, 0x8192, 1, 0, 0, 0) + question
    assert refusal(plain, m.REFUSED, (r.BLOCKED, "unheard")) == header(0x1234, 0x8195, 1, 0, 0, 0) + question
    assert refusal(asked(do=True, flags=0), m.NXDOMAIN) == (
        header(0x1234, 0x8083, 1, 0, 0, 1) + SPELLED + b"\0\1\0\1" + SIGNED_OPT
    )


def test_a_refusal_says_why() -> None:
    assert refusal(asked(), m.REFUSED, (r.FILTERED, "früh")) == (
        header(0x1234, 0x8185, 1, 0, 0, 1) + SPELLED + b"\0\1\0\1" + OPT + b"\0\0\0\0\0\x0b\0\x0f\0\7\0\x11fr\xc3\xbch"
    )


def test_a_long_reason_is_cut_and_fits_the_smallest_datagram() -> None:
    query = asked(name=LONG, size=512)
    made = refusal(query, m.REFUSED, (r.CENSORED, "x" + "ü" * 500))
    assert made.endswith(b"\0\x0f\0\xc9\0\x10x" + "ü".encode() * 99)
    assert shortened(query, made) is made
    assert refusal(asked(), m.REFUSED, (r.CENSORED, "\udcff")).endswith(b"\0\x10?")


def test_a_response_code_above_15_needs_edns() -> None:
    made = refusal(asked(do=True), 23)
    assert made == header(0x1234, 0x8187, 1, 0, 0, 1) + SPELLED + b"\0\1\0\1" + OPT + b"\1\0\x80\0\0\0"
    assert readable(made).rcode == 23
    assert readable(refusal(asked(edns=False), m.BADVERS)).rcode == m.SERVFAIL


FOUND = ("192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.1")


@pytest.mark.parametrize(
    ("rtype", "expected"),
    [
        (m.A, [IPv4Address("192.0.2.1").packed, IPv4Address("192.0.2.2").packed]),
        (m.AAAA, [IPv6Address("2001:db8::1").packed]),
    ],
)
def test_addresses_of_the_type_asked_for_are_answered(rtype: int, expected: list[bytes]) -> None:
    made = addresses(asked(rtype, edns=False), FOUND, 300)
    question = m.question(SPELLED, rtype)
    records = b"".join(record(ASKED, rtype, 300, one) for one in expected)
    assert made == header(0x1234, 0x8180, 1, len(expected), 0, 0) + question + records
    assert [one.rdata for one in readable(made).answers] == expected
    assert addresses(asked(rtype), FOUND, 300) == (
        header(0x1234, 0x8180, 1, len(expected), 0, 1) + question + records + PLAIN_OPT
    )


@pytest.mark.parametrize(
    ("rtype", "found"), [(m.A, ()), (m.A, FOUND[1:2]), (m.AAAA, FOUND[:1]), (m.MX, FOUND), (HTTPS, FOUND)]
)
def test_without_an_address_the_client_hears_so_and_can_keep_it(rtype: int, found: tuple[str, ...]) -> None:
    made = addresses(asked(rtype), found, 300)
    data = NAME + labels("nobody.invalid") + struct.pack(">5I", 1, 3600, 1200, 604800, 300)
    read = readable(made)
    assert (read.rcode, read.flags, read.answers) == (m.NOERROR, 0x8180, [])
    assert read.authority == [m.Record(NAME, m.SOA, m.IN, 300, data)]
    assert made.endswith(PLAIN_OPT)
    assert cache_ttl(made) == 300


# datagrams


def test_a_reply_that_fits_is_sent_as_it_is() -> None:
    made = to(asked(edns=False), COMPRESSED)
    assert shortened(asked(edns=False)._replace(size=len(made)), made) is made


MANY = [("www.example.com", m.A, 60, bytes((192, 0, 2, i))) for i in range(20)]


def test_a_reply_that_does_not_fit_is_truncated() -> None:
    query = asked(do=True, size=512)
    made = to(query, upstream(*MANY, flags=0x8183, opt=OPT + b"\1" + bytes(5)))
    question = SPELLED + b"\0\1\0\1"
    assert shortened(query, made) == header(0x1234, 0x8383, 1, 0, 0, 1) + question + OPT + b"\1\0\x80\0\0\0"
    assert shortened(query._replace(size=1232), made) is made
    plain = asked(edns=False)
    assert shortened(plain, to(plain, upstream(*MANY))) == header(0x1234, 0x8380, 1, 0, 0, 0) + question


def test_a_truncated_reply_still_says_that_it_is_stale() -> None:
    query = asked(size=512)
    made = shortened(query, to(query, upstream(*MANY), 100, stale=True))
    assert made.endswith(SPELLED + b"\0\1\0\1" + OPT + b"\0\0\0\0\0\6\0\x0f\0\2\0\3")
