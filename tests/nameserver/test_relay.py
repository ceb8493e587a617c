"""What a name server says of others: upstream messages become the replies of a client, hostile ones a failure."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from ipaddress import IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sslintercept.dns import message as m
from sslintercept.nameserver import relay as r
from sslintercept.nameserver.relay import cache_ttl, prepare, relayed
from sslintercept.nameserver.reply import TSIG, Query, refusal, shortened

from ..dns.support import Wire, a, aaaa, cname, labels, message, ns, soa
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
    everything,
    header,
    mutated,
    readable,
    record,
    to,
    upstream,
)

# replies made of an upstream server's message


def test_a_small_message_stays_as_it_is_but_for_head_and_ttls() -> None:
    query = asked(edns=False)
    records = COMPRESSED[m.HEADER_SIZE + len(NAME) + 4 : -len(CLIENT_OPT)].replace(b"\x80\0\0\0", bytes(4))
    question = SPELLED + b"\0\1\0\1"
    assert to(query, COMPRESSED) == header(0x1234, 0x8180, 1, 3, 0, 0) + question + records
    older = records.replace(b"\x3c", b"\x33").replace(b"\x0a", b"\x01")
    assert to(query, COMPRESSED, 9.9) == header(0x1234, 0x8180, 1, 3, 0, 0) + question + older
    ages = [[one.ttl for one in everything(to(query, COMPRESSED, age))] for age in (10, 11.5, 59, 60, 1e9)]
    assert ages == [[50, 0, 0], [49, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert to(asked(), COMPRESSED) == header(0x1234, 0x8180, 1, 3, 0, 1) + question + records + PLAIN_OPT
    assert to(asked(do=True), COMPRESSED).endswith(records + SIGNED_OPT)


def test_a_prepared_message_serves_many_clients() -> None:
    prepared = prepare(COMPRESSED, False, True)
    assert prepared is not None
    assert (prepared.name, prepared.rtype) == (NAME, m.A)
    first, second = asked(), asked(name=NAME, flags=0)
    made = prepared.to(first, 5)
    assert prepared.to(second, 7) == relayed(second, COMPRESSED, 7, strip_ech=True)
    assert prepared.to(first, 5) == made


@pytest.mark.parametrize("query", [asked(m.AAAA), asked(name=labels("www.example.org")), asked(name=labels("w.test"))])
def test_the_answer_to_another_question_is_none(query: Query) -> None:
    assert to(query, COMPRESSED) == refusal(query, m.SERVFAIL)


def test_a_name_without_letters_and_the_root_are_answered() -> None:
    data = message(0, m.question(m.ROOT, m.NS), [ns("", "a.root-servers.net")])
    assert readable(to(asked(m.NS, name=m.ROOT), data)).answers[0].rdata == labels("a.root-servers.net")


@pytest.mark.parametrize(
    ("flags", "do", "theirs", "expected"),
    [
        (m.RD, False, m.AD, m.RD),
        (m.RD | m.AD, False, m.AD, m.RD | m.AD),
        (m.RD, True, m.AD, m.RD | m.AD),
        (m.RD | m.AD, True, 0, m.RD),
        (m.CD, False, m.RD, m.CD),
        (0, False, m.RD | m.CD | m.TC | m.AA | 0x40, 0),
        (m.TC | m.AA | 0x40, False, 0, 0),
    ],
)
def test_flags_are_those_of_a_resolver(flags: int, do: bool, theirs: int, expected: int) -> None:
    data = upstream(a("www.example.com", "192.0.2.1"), flags=m.QR | theirs)
    assert readable(to(asked(flags=flags, do=do), data)).flags == m.QR | m.RA | expected


@pytest.mark.parametrize("rcode", [0, 2, 3, 5, 15])
def test_the_response_code_stays(rcode: int) -> None:
    data = upstream(flags=0x8180 | rcode, authority=(soa("example.com", 60),))
    read = readable(to(asked(edns=False), data))
    assert (read.rcode, len(read.authority)) == (rcode, 1)


def test_bits_of_the_response_code_in_the_opt_record_stay() -> None:
    data = upstream(flags=0x8187, opt=OPT + b"\1\0\x80\0\0\4\0\3\0\0")
    assert to(asked(), data).endswith(b"\0\1\0\1" + OPT + b"\1\0\0\0\0\0")
    assert readable(to(asked(), data)).rcode == 23
    assert to(asked(edns=False), data) == refusal(asked(edns=False), m.SERVFAIL)


def test_a_stale_message_is_told_to_be_so() -> None:
    made = to(asked(), COMPRESSED, 20, stale=True)
    assert [one.ttl for one in everything(made)][:3] == [40, 30, 30]
    assert made.endswith(OPT + b"\0\0\0\0\0\6\0\x0f\0\2\0\3")
    assert to(asked(edns=False), COMPRESSED, 20, stale=True).endswith(b"\0\0\0\x1e\0\4\xc0\0\2\2")


def test_what_is_between_us_and_the_server_does_not_go_on() -> None:
    extras = ((".", m.OPT, 0, b""), a("ns.example.com", "192.0.2.9"), (".", TSIG, 0, b"key"), aaaa("x.y", "::1"))
    made = to(asked(), upstream(a("www.example.com", "192.0.2.1"), additional=extras, opt=b""))
    assert made[10:12] == b"\0\3"
    assert [one.type for one in everything(made)] == [m.A, m.A, m.AAAA, m.OPT]


def test_names_are_written_out_behind_what_goes() -> None:
    """The OPT record is not the last one here, so what is behind it moves; cases of letters are kept."""
    data = (
        (header(0, 0x8180, 1, 1, 0, 13) + NAME + b"\0\x0f\0\1")
        + record(ASKED, m.MX, 5, b"\0\x0a\4Mail\xc0\x10")
        + (CLIENT_OPT + record(b"\4Mail\xc0\x10", m.A, 5, b"1234"))
        + record(b"\4Mail\xc0\x10", m.AAAA, 5, b"1234567890123456")
        + record(ASKED, m.SRV, 5, b"\0\1\0\2\0\3\1S\xc0\x10")
        + record(ASKED, m.SOA, 5, b"\xc0\x10\1R\xc0\x0c" + bytes(20))
        + record(ASKED, m.NS, 5, ASKED)
        + record(b"\xc0\x10", m.PTR, 5, b"\1P\xc0\x18")
        + record(ASKED, 17, 5, b"\xc0\x10" + ASKED)  # RP
        + record(ASKED, 18, 5, b"\0\1\xc0\x10")  # AFSDB
        + record(ASKED, 99, 5, ASKED)  # nothing is known of this type
        + record(b"\0", m.NS, 5, b"\0") * 2
        + record(b"\xc0\x10", m.A, 5, b"1234")
    )
    domain = labels("example.com")
    before = (
        (header(0x1234, 0x8180, 1, 1, 0, 13) + SPELLED + b"\0\x0f\0\1")
        + record(ASKED, m.MX, 4, b"\0\x0a\4Mail\xc0\x10")
        + record("Mail.example.com", m.A, 4, b"1234")
        + record(b"\xc0\x36", m.AAAA, 4, b"1234567890123456")
        + record(ASKED, m.SRV, 4, b"\0\1\0\2\0\3" + labels("S.example.com"))
        + record(ASKED, m.SOA, 4, domain + labels("R.www.example.com") + bytes(20))
        + record(ASKED, m.NS, 4, NAME)
    )
    assert to(asked(m.MX), data, 1) == (
        before
        + record(domain, m.PTR, 4, labels("P.com"))
        + record(ASKED, 17, 4, domain + NAME)
        + record(ASKED, 18, 4, b"\0\1" + domain)
        + record(ASKED, 99, 4, ASKED)
        + record(b"\0", m.NS, 4, b"\0") * 2
        + record((0xC000 | len(before)).to_bytes(2, "big"), m.A, 4, b"1234")
        + PLAIN_OPT
    )


def test_owners_too_far_behind_are_written_whole_each_time() -> None:
    big = record("", 99, 5, bytes(0x4000))
    data = header(0, 0x8180, 1, 0, 0, 4) + NAME + b"\0\1\0\1" + CLIENT_OPT + big + record("x.test", 99, 5, b"") * 2
    made = to(asked(), data)
    assert made.endswith(record("x.test", 99, 5, b"") * 2 + PLAIN_OPT)


def test_a_message_that_grows_too_long_is_none() -> None:
    data = (
        (header(0, 0x8180, 1, 0, 0, 1002) + NAME + b"\0\1\0\1" + record("x." * 100, 99, 5, b"") + CLIENT_OPT)
        + record(ASKED, m.PTR, 5, b"\xc0\x21") * 1000
    )  # fmt: skip
    assert prepare(data, False, False) is None
    kept = data.replace(CLIENT_OPT, record("", 99, 5, b""))
    assert len(to(asked(), kept)) == len(kept) + len(PLAIN_OPT)


# signatures


def rrsig(owner: str, covered: int, ttl: int = 60) -> Wire:
    fields = struct.pack(">HBBIIIH", covered, 13, 3, 60, 2, 1, 7)
    return owner, r.RRSIG, ttl, fields + labels("example.com") + b"signature"


def nsec(owner: str) -> Wire:
    return owner, r.NSEC, 60, labels("z.example.com") + b"\0\1\x40"


SIGNED = (a("www.example.com", "192.0.2.1"), rrsig("www.example.com", m.A))
PROOF = (
    *(soa("example.com", 60), rrsig("example.com", m.SOA), nsec("example.com"), rrsig("example.com", r.NSEC)),
    *(("h.example.com", r.NSEC3, 60, b"hash"), ("example.com", 43, 60, b"ds")),
)


def types(data: bytes) -> list[list[int]]:
    read = m.parse(data)
    assert read is not None
    return [[one.type for one in section] for section in (read.answers, read.authority)]


def test_signatures_are_for_those_who_want_them() -> None:
    keys = ("example.com", r.DNSKEY, 60, b"key")
    data = upstream(*SIGNED, authority=(*PROOF, keys), additional=(*SIGNED, nsec("x.test")), flags=0x81A0)
    wanted = to(asked(do=True), data)
    assert types(wanted) == [[1, 46], [6, 46, 47, 46, 50, 43, 48]]
    assert wanted[12:] == SPELLED + data[12 + len(SPELLED) : -len(PLAIN_OPT)] + SIGNED_OPT
    made = to(asked(flags=m.RD | m.AD), data)
    assert types(made) == [[1], [6, 43]]
    assert [one.type for one in everything(made)] == [1, 6, 43, 1, 41]
    assert readable(made).flags & m.AD  # nothing untrue was said


@pytest.mark.parametrize("rtype", [r.RRSIG, r.NSEC, r.NSEC3, r.DNSKEY])
def test_signatures_are_for_those_who_ask_for_them(rtype: int) -> None:
    answers = [("www.example.com", one, 60, bytes(30)) for one in (r.RRSIG, r.NSEC, r.NSEC3, r.DNSKEY)]
    assert types(to(asked(rtype), upstream(*answers, rtype=rtype))) == [[rtype], []]


# Encrypted Client Hello


@dataclass(frozen=True)
class Svcb:
    """The data of an HTTPS record."""

    params: tuple[tuple[int, bytes], ...]
    target: bytes = b"\0"
    priority: int = 1

    @property
    def wire(self) -> bytes:
        pairs = b"".join(struct.pack(">HH", key, len(value)) + value for key, value in self.params)
        return struct.pack(">H", self.priority) + self.target + pairs

    def without(self, *keys: int) -> Svcb:
        return Svcb(tuple(one for one in self.params if one[0] not in keys), self.target, self.priority)


ECH_CONFIG = b"\0\x45\xfe\x0d\0\x41" + bytes(65)
MANDATORY = (0, b"\0\1\0\5")
ALPN = (1, b"\2h3\2h2")
PORT = (3, b"\x20\xfb")
IPV4HINT = (4, b"\xc0\0\2\1\xc0\0\2\2")
ECH = (5, ECH_CONFIG)
IPV6HINT = (6, IPv6Address("2001:db8::1").packed)
FULL = Svcb((MANDATORY, ALPN, PORT, IPV4HINT, ECH, IPV6HINT, (65280, b"private")), labels("Svc.example.NET"))


def https(data: bytes, owner: str = "www.example.com", rtype: int = r.HTTPS) -> Wire:
    return owner, rtype, 60, data


def data_of(made: bytes, *rtypes: int) -> list[bytes]:
    return [one.rdata for one in everything(made) if one.type in rtypes]


def test_the_keys_of_encrypted_client_hello_go_and_nothing_else() -> None:
    data = upstream(https(FULL.wire), rtype=r.HTTPS, flags=0x81A0)
    query = asked(r.HTTPS, flags=m.RD | m.AD)
    assert data_of(to(query, data), r.HTTPS) == [FULL.wire]
    assert readable(to(query, data)).flags & m.AD
    rdata = (
        b"\0\1\3Svc\7example\3NET\0"
        b"\0\0\0\2\0\1"
        b"\0\1\0\6\2h3\2h2"
        b"\0\3\0\2\x20\xfb"
        b"\0\4\0\x08\xc0\0\2\1\xc0\0\2\2"
        b"\0\6\0\x10\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
        b"\xff\0\0\7private"
    )
    made = to(query, data, 1, strip_ech=True)
    assert made == (
        header(0x1234, 0x8180, 1, 1, 0, 1) + SPELLED + b"\0\x41\0\1" + record(ASKED, r.HTTPS, 59, rdata) + PLAIN_OPT
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Svcb((ECH,)), Svcb(())),
        (Svcb(((0, b"\0\5"), ALPN, ECH)), Svcb((ALPN,))),
        (Svcb(((0, b"\0\4\0\5\0\6"), IPV4HINT, ECH, IPV6HINT)), Svcb(((0, b"\0\4\0\6"), IPV4HINT, IPV6HINT))),
        (Svcb((ALPN, (5, b""))), Svcb((ALPN,))),
        (Svcb((ECH,), NAME, 0), Svcb((), NAME, 0)),
        (Svcb(()), Svcb(())),
        (Svcb((), NAME, 0), Svcb((), NAME, 0)),
        (Svcb((ALPN, IPV4HINT)), Svcb((ALPN, IPV4HINT))),
        (Svcb(((0, b"\0\1"), ALPN)), Svcb(((0, b"\0\1"), ALPN))),
        (Svcb(((0, b"\0\5"), ALPN)), Svcb(((0, b"\0\5"), ALPN))),  # useless to anybody, and so it stays
    ],
)
def test_records_with_and_without_ech(before: Svcb, after: Svcb) -> None:
    data = upstream(https(before.wire, rtype=r.SVCB), rtype=r.SVCB)
    assert data_of(to(asked(r.SVCB), data, strip_ech=True), r.SVCB) == [after.wire]


def test_ech_goes_from_every_section() -> None:
    svcb = Svcb((ECH,), labels("x.test"))
    others = (https(svcb.wire, "x.test", r.SVCB), aaaa("x.test", "::1"))
    data = upstream(https(FULL.wire), authority=others, additional=others, rtype=r.HTTPS)
    made = to(asked(r.HTTPS), data, strip_ech=True)
    assert ECH_CONFIG not in made
    assert data_of(made, r.SVCB) == [svcb.without(5).wire] * 2
    assert types(made) == [[r.HTTPS], [r.SVCB, m.AAAA]]


def test_signatures_of_changed_records_go_and_others_stay() -> None:
    same = Svcb((ALPN,)).wire
    answers = (
        *(cname("www.example.com", "Web.example.com"), rrsig("www.example.com", m.CNAME)),
        *(https(FULL.wire, "Web.example.com"), https(same, "web.example.com"), rrsig("web.example.com", r.HTTPS)),
        *(https(same, "other.example.com"), rrsig("other.example.com", r.HTTPS), rrsig("web.example.com", r.SVCB)),
    )
    authority = (https(same, "web.example.com"), rrsig("web.example.com", r.HTTPS))
    data = upstream(*answers, authority=authority, rtype=r.HTTPS, flags=0x81A0)
    kept = to(asked(r.HTTPS, do=True), data)
    assert types(kept) == [[5, 46, 65, 65, 46, 65, 46, 46], [65, 46]]
    assert readable(kept).flags & m.AD
    made = to(asked(r.HTTPS, do=True), data, strip_ech=True)
    assert types(made) == [[5, 46, 65, 65, 65, 46, 46], [65, 46]]
    assert not readable(made).flags & m.AD
    assert labels("Web.example.com") in made
    assert made.endswith(SIGNED_OPT)


def test_a_signature_too_short_to_say_of_what_stays() -> None:
    data = upstream(https(FULL.wire), ("www.example.com", r.RRSIG, 60, b"\0"), rtype=r.HTTPS)
    assert types(to(asked(r.HTTPS, do=True), data, strip_ech=True)) == [[65, 46], []]


def test_a_message_without_ech_keeps_its_signatures() -> None:
    data = upstream(https(FULL.without(5).wire), rrsig("www.example.com", r.HTTPS), rtype=r.HTTPS, flags=0x81A0)
    query = asked(r.HTTPS, do=True)
    assert to(query, data, strip_ech=True) == to(query, data)
    assert readable(to(query, data, strip_ech=True)).flags & m.AD


@pytest.mark.parametrize(
    "rdata",
    [
        b"",
        b"\0\1",
        b"\0\1\1x",
        b"\0\1\xc0\x0c",  # a target may not be compressed
        b"\0\1\0\0",
        FULL.wire[:-1],
        Svcb((ECH, ALPN)).wire,  # in disorder
        Svcb((ECH, ECH)).wire,
        Svcb(((0, b"\0\5\0"), ECH)).wire,
        Svcb(((0, b""), ECH)).wire,
    ],
)
def test_a_record_whose_ech_cannot_be_found_for_certain_is_a_failure(rdata: bytes) -> None:
    data = upstream(https(rdata), rtype=r.HTTPS)
    query = asked(r.HTTPS)
    assert to(query, data, strip_ech=True) == refusal(query, m.SERVFAIL)
    assert data_of(to(query, data), r.HTTPS) == [rdata]


PARAMS = st.dictionaries(st.integers(1, 20) | st.integers(0, 65535), st.binary(max_size=30), max_size=6)


@given(PARAMS, st.booleans(), st.sets(st.integers(0, 20), min_size=1), st.integers(0, 65535), st.booleans())
def test_all_other_parameters_stay(
    params: dict[int, bytes], listed: bool, keys: set[int], priority: int, encrypted: bool
) -> None:
    params.pop(0, None)
    params.pop(5, None)
    if encrypted:
        params[5] = ECH_CONFIG
    if listed:
        params[0] = b"".join(struct.pack(">H", key) for key in sorted(keys))
    svcb = Svcb(tuple(sorted(params.items())), labels("x.test"), priority)
    made = to(asked(r.HTTPS), upstream(https(svcb.wire), rtype=r.HTTPS), strip_ech=True)
    expected = svcb
    if encrypted:
        expected = svcb.without(5)
        if listed and (left := b"".join(struct.pack(">H", key) for key in sorted(keys - {5}))):
            expected = Svcb(((0, left), *expected.without(0).params), svcb.target, priority)
        elif listed:
            expected = expected.without(0)
    assert data_of(made, r.HTTPS) == [expected.wire]


# malformed messages


def answer(records: bytes, count: int = 1) -> bytes:
    return header(0, 0x8180, 1, count, 0, 0) + NAME + b"\0\1\0\1" + records


# where the data of a first record begins that is owned by the question's name
DATA = m.HEADER_SIZE + len(NAME) + 4 + 12
POINTER = (0xC000 | DATA).to_bytes(2, "big")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        header(0, 0x8181, 0, 0, 0, 0),  # from a server that could not read the question
        header(0, 0x8180, 2, 0, 0, 0) + (NAME + b"\0\1\0\1") * 2,
        header(0, 0x0180, 1, 0, 0, 0) + NAME + b"\0\1\0\1",  # a query
        header(0, 0x8980, 1, 0, 0, 0) + NAME + b"\0\1\0\1",  # of another opcode
        header(0, 0x8180, 1, 0, 0, 0) + NAME + b"\0\1\0\3",  # of another class
        header(0, 0x8180, 1, 0, 0, 0) + NAME + b"\0\1\0",
        header(0, 0x8180, 1, 0, 0, 0) + b"\xc0\x04\0\1\0\1",
        header(0, 0x8180, 1, 400, 400, 400) + NAME + b"\0\1\0\1",
        answer(record(ASKED, m.A, 1, b"12345")),
        answer(record(ASKED, m.AAAA, 1, b"1234")),
        answer(record(ASKED, m.NS, 1, b"\1x\0x")),
        answer(record(ASKED, m.NS, 1, b"\1x")),
        answer(record(ASKED, m.MX, 1, b"\0")),
        answer(record(ASKED, m.SOA, 1, b"\0\0" + bytes(19))),
        answer(record(ASKED, m.A, 1, b"1234")[:-1]),
        answer(record(b"\x40x", 99, 1, b"")),  # a label of an unknown kind
        answer(record(b"\xc0\x21", 99, 1, b"")),  # points at itself
        answer(record(b"\xc0\xff", 99, 1, b"")),  # forwards
        answer(record(b"\xc0\x02", 99, 1, b"")),  # into the header
        answer(record(b"\1x" * 128 + b"\0", 99, 1, b"")),  # 257 bytes
        answer(record(ASKED, 99, 1, b"") + record(b"\xc0\x27", 99, 0, b""), 2),  # into a TTL
        answer(record(ASKED, 99, 1, b"\3\0") + record(POINTER, 99, 1, b""), 2),  # over the end
        header(0, 0x8180, 1, 1, 0, 0) + NAME + b"\0\1\0\1" + CLIENT_OPT,
        header(0, 0x8180, 1, 0, 1, 0) + NAME + b"\0\1\0\1" + CLIENT_OPT,
        header(0, 0x8180, 1, 0, 0, 2) + NAME + b"\0\1\0\1" + CLIENT_OPT * 2,
    ],
)
def test_a_malformed_message_is_a_failure(data: bytes) -> None:
    assert prepare(data, False, False) is None
    assert to(asked(), data) == refusal(asked(), m.SERVFAIL)


def test_pointers_into_data_that_holds_a_name_are_followed() -> None:
    """Some servers let names point to the signer's name in a signature."""
    data = answer(record(ASKED, 99, 1, b"\1x\xc0\x10") + record(POINTER, 99, 1, b""), 2)
    assert [one.name for one in readable(to(asked(), data)).answers] == [NAME, labels("x.example.com")]


def test_a_name_that_pointers_make_too_long_is_malformed() -> None:
    long = (b"\x3f" + b"x" * 63) * 3
    question = header(0, 0x8180, 1, 1, 0, 0) + long + b"\0\0\1\0\1"
    assert prepare(question + record(b"\x3d" + b"y" * 61 + ASKED, 99, 1, b""), False, False) is not None
    assert prepare(question + record(b"\x3e" + b"y" * 62 + ASKED, 99, 1, b""), False, False) is None
    assert prepare(question + record(b"\x3e" + b"y" * 62 + b"\xc0\x4c", 99, 1, b""), False, False) is not None


@pytest.mark.parametrize(("jumps", "fine"), [(m.MOST_JUMPS, True), (m.MOST_JUMPS + 1, False)])
def test_a_chain_of_pointers_ends(jumps: int, fine: bool) -> None:
    chain = b"\0" + b"".join((0xC000 | DATA + max(2 * i - 1, 0)).to_bytes(2, "big") for i in range(jumps - 1))
    last = (0xC000 | DATA + len(chain) - 2).to_bytes(2, "big")
    made = prepare(answer(record(ASKED, 99, 1, chain) + record(last, 99, 1, b""), 2), False, False)
    assert (made is not None) == fine


def test_every_cut_of_a_message_is_malformed() -> None:
    assert all(prepare(COMPRESSED[:end], False, False) is None for end in range(len(COMPRESSED)))


def test_what_is_behind_a_message_is_left_out() -> None:
    assert to(asked(), COMPRESSED + b"junk") == to(asked(), COMPRESSED)


def test_the_worst_message_costs_milliseconds() -> None:
    """Names of as many labels as possible, for as many records as are read, behind chains of pointers."""
    chain = b"\0" + b"".join((0xC000 | DATA + max(2 * i - 1, 0)).to_bytes(2, "big") for i in range(126))
    last = (0xC000 | DATA + len(chain) - 2).to_bytes(2, "big")
    chains = answer(record(ASKED, 99, 1, chain) + record(last, m.NS, 1, last) * (m.MOST_RECORDS - 1), m.MOST_RECORDS)
    deep = b"\1a" * 126 + b"\0"
    body = b"".join(record(b"\1b\xc0" + bytes((14 + 2 * (i % 100),)), 99, 1, b"") for i in range(m.MOST_RECORDS))
    before = time.process_time()
    assert prepare(chains, False, True) is not None
    assert prepare(header(0, 0x8180, 1, m.MOST_RECORDS, 0, 0) + deep + b"\0\1\0\1" + body, False, True) is not None
    assert time.process_time() - before < 1.0


LARGE = upstream(
    *(cname("www.example.com", "web.example.com"), https(FULL.wire, "web.example.com"), *SIGNED),
    *(rrsig("web.example.com", r.HTTPS), ("example.com", m.SRV, 1, bytes(6) + NAME)),
    authority=PROOF,
    additional=((".", m.OPT, 1 << 24, b""), a("ns.example.com", "192.0.2.9"), ns("x.test", "ns.test")),
    opt=b"",
    rtype=r.HTTPS,
)
MOVED = (header(0, 0x8180, 1, 2, 0, 3) + NAME + b"\0\1\0\1") + (
    (record(ASKED, m.CNAME, 60, b"\3web\xc0\x10") + record(b"\xc0\x2d", m.MX, 300, b"\0\1\xc0\x2d") + CLIENT_OPT)
    + (record(b"\xc0\x2d", m.SOA, 60, b"\xc0\x0c\1r\xc0\x10" + bytes(20)) + record(b"\xc0\x18", r.RRSIG, 1, bytes(20)))
)
QUERIES = [
    asked(rtype, edns=edns, do=do and edns) for rtype in (1, 65) for edns in (False, True) for do in (False, True)
]


@pytest.mark.parametrize("data", [COMPRESSED, LARGE, MOVED])
def test_the_messages_that_are_mutated_are_well_formed(data: bytes) -> None:
    assert prepare(data, False, True) is not None


@given(
    *(st.sampled_from([COMPRESSED, LARGE, MOVED]), MUTATIONS, st.just(0) | st.integers(0, 60)),
    *(st.sampled_from(QUERIES), st.floats(0, 1e9), st.booleans()),
)
@example(answer(record(ASKED, 99, 1 << 24, b"") + record(b"\xc0\x27", 99, 0, b""), 2), [], 0, QUERIES[0], 1.0, False)
def test_no_mutation_of_a_message_raises_or_makes_a_bad_reply(
    data: bytes, changes: list[tuple[int, int]], cut: int, query: Query, age: float, strip_ech: bool
) -> None:
    data = mutated(data, changes, cut)
    made = to(query, data, age, strip_ech=strip_ech)
    readable(shortened(query, made))
    assert 0 <= cache_ttl(data) <= 7 * 86_400
    if made != refusal(query, m.SERVFAIL):
        read, theirs = readable(made), m.parse(data)
        assert theirs is not None
        assert len(read.answers) <= len(theirs.answers)
        assert {one.name for one in read.answers} <= {one.name for one in theirs.answers}


@given(st.binary(max_size=400), st.sampled_from(QUERIES), st.integers(0, 30))
def test_no_message_raises(data: bytes, query: Query, count: int) -> None:
    to(query, data, strip_ech=True)
    to(query, header(0, 0x8180, 1, count, 0, 1) + data, strip_ech=True)
    to(query, header(0, 0x8180, 1, count, 0, 1) + NAME + m.question(b"", query.rtype) + data, strip_ech=True)


# how long a message may be kept

WEEK, HOURS = 7 * 86_400, 3 * 3600


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (upstream(a("www.example.com", "192.0.2.1", 300)), 300),
        (upstream(a("www.example.com", "192.0.2.1", 300), a("www.example.com", "192.0.2.2", 200)), 200),
        (upstream(a("www.example.com", "192.0.2.1", 300), authority=(ns("example.com", "ns.test", 100),)), 100),
        (upstream(a("www.example.com", "192.0.2.1", 300), additional=(a("ns.test", "192.0.2.2", 1),)), 300),
        (upstream(a("www.example.com", "192.0.2.1", 10**7)), WEEK),
        (upstream(a("www.example.com", "192.0.2.1", 0x80000000)), 0),
        (upstream(cname("www.example.com", "x.test", 100), a("x.test", "192.0.2.1", 300)), 100),
        (upstream(a("www.example.com", "192.0.2.1", 300), (".", m.OPT, 0, b"")), 300),
        (upstream(a("www.example.com", "192.0.2.1", 300), flags=0x8380), 0),  # truncated
        (upstream(a("www.example.com", "192.0.2.1", 300), flags=0x8182), 0),
        (upstream(a("www.example.com", "192.0.2.1", 300), opt=OPT + b"\1" + bytes(5)), 0),
        (upstream(), 0),
        (upstream(flags=0x8183), 0),
        (upstream(authority=(ns("example.com", "ns.test"),)), 0),  # a referral
        (upstream(authority=(soa("example.com", 60, 3600),)), 60),
        (upstream(authority=(soa("example.com", 3600, 60),), flags=0x8183), 60),
        (upstream(authority=(soa("example.com", 10**6, 10**6),), flags=0x8183), HOURS),
        (upstream(authority=(soa("example.com", 0x80000000),)), 0),
        (upstream(cname("www.example.com", "x.test", 50), authority=(soa("test", 60),)), 50),
        (upstream(cname("www.example.com", "x.test", 50), authority=(soa("test", 60),), flags=0x8183), 50),
        (upstream(cname("www.example.com", "x.test", 50)), 0),  # nothing at the end of it
        (upstream(cname("www.example.com", "x.test", 50), rtype=m.CNAME), 50),
        (message(0, b"", [a("www.example.com", "192.0.2.1")]), 0),
        (COMPRESSED[:-1], 0),
        (b"", 0),
    ],
)
def test_a_message_is_kept_as_long_as_it_is_good(data: bytes, expected: int) -> None:
    assert cache_ttl(data) == expected
