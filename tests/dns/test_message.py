"""Messages of DNS: written and read, and hostile ones refused without an exception or much work."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dns import message as m
from sslintercept.dns.message import BadName, Message, Record, mixed, parse, query, question, text, wire

from .support import a, aaaa, cname, labels, message, ns, soa

NAMES = st.lists(st.binary(min_size=1, max_size=20), max_size=6).map(
    lambda parts: b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
)
QUESTION = labels("www.example.com") + b"\0\1\0\1"
ANSWER = message(
    7,
    QUESTION,
    [cname("www.example.com", "Web.example.com"), a("web.example.com", "192.0.2.1"), aaaa("x.test", "2001:db8::1")],
    [ns("example.com", "ns.example.com"), soa("example.com", 60)],
    extra=m.ROOT + struct.pack(">HHIH", m.OPT, 4096, 0, 0),
    extras=1,
)


# names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Example.COM", b"\7example\3com\0"),
        ("example.com.", b"\7example\3com\0"),
        (".", b"\0"),
        (r"a\.b.c", b"\3a.b\1c\0"),
        (r"a\\b", b"\3a\\b\0"),
        (r"\065\000.c.", b"\2a\0\1c\0"),
        ("x" * 63 + ".a", b"\x3f" + b"x" * 63 + b"\1a\0"),
    ],
)
def test_a_name_becomes_its_folded_wire_form(name: str, expected: bytes) -> None:
    assert wire(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "a..b", ".a", "a b", "a\tb", "a\x7fb", "ä", "x" * 64, ".".join(["x" * 63] * 4)),
        *("a\\", r"a\2", r"a\25", r"a\256", r"\..", "\\..b..c"),
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    if name == r"\..":
        assert wire(name) == b"\1.\0"
        return
    with pytest.raises(BadName):
        wire(name)


@given(NAMES)
def test_text_is_the_inverse_of_wire_and_harmless(name: bytes) -> None:
    shown = text(name.lower())
    assert shown.isascii()
    assert shown.isprintable()
    assert wire(shown) == name.lower()


@given(NAMES, st.integers(0, 2**2048 - 1))
def test_mixing_changes_nothing_but_the_case_of_letters(name: bytes, bits: int) -> None:
    folded = name.lower()
    assert mixed(folded, bits & (1 << 8 * len(folded)) - 1).lower() == folded
    assert mixed(folded, 0) == folded


def test_every_letter_can_be_raised() -> None:
    assert mixed(b"\4a-1z\0", 2**48 - 1) == b"\4A-1Z\0"


# queries


def test_a_query_is_laid_out_as_it_should() -> None:
    assert query(0x1234, QUESTION) == (b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + QUESTION + b"\0\0\x29\x04\xd0\0\0\0\0\0\0")
    assert query(1, QUESTION, flags=0, edns=False) == b"\0\1\0\0\0\1\0\0\0\0\0\0" + QUESTION
    assert query(1, QUESTION, do=True).endswith(b"\x04\xd0\0\0\x80\0\0\0")
    assert question(b"\1a\0", m.AAAA, 3) == b"\1a\0\0\x1c\0\3"


# answers


def test_an_answer_is_read() -> None:
    web = b"\3web\7example\3com\0"
    assert parse(ANSWER) == Message(
        7,
        0x8180,
        0,
        (labels("www.example.com"), 1, 1),
        [
            Record(labels("www.example.com"), m.CNAME, 1, 60, web),
            Record(web, m.A, 1, 60, b"\xc0\0\2\1"),
            Record(labels("x.test"), m.AAAA, 1, 60, b"\x20\1\x0d\xb8" + bytes(11) + b"\1"),
        ],
        [
            Record(labels("example.com"), m.NS, 1, 60, labels("ns.example.com")),
            Record(labels("example.com"), m.SOA, 1, 3600, soa("example.com", 60)[3]),
        ],
    )


def test_compressed_names_are_written_out() -> None:
    data = (
        struct.pack(">6H", 1, 0x8180, 1, 3, 0, 0)
        + (labels("a.example.com") + b"\0\x0f\0\1")
        + (b"\xc0\x0c" + struct.pack(">HHIH", m.MX, 1, 5, 9) + b"\0\x0a\4mail\xc0\x0e")
        + (b"\xc0\x0e" + struct.pack(">HHIH", m.SRV, 1, 5, 8) + b"\0\1\0\2\0\3\xc0\x2d")
        + (b"\1b\xc0\x0c" + struct.pack(">HHIH", 99, 1, 5, 2) + b"\xc0\x0c")
    )
    read = parse(data)
    assert read is not None
    assert [(one.name, one.rdata) for one in read.answers] == [
        (labels("a.example.com"), b"\0\x0a" + labels("mail.example.com")),
        (labels("example.com"), b"\0\1\0\2\0\3" + labels("mail.example.com")),
        (labels("b.a.example.com"), b"\xc0\x0c"),  # nothing is known of this type
    ]


def test_a_message_without_a_question_is_read_too() -> None:
    assert parse(struct.pack(">6H", 1, 0x8181, 0, 0, 0, 0)) == Message(1, 0x8181, 1, None, [], [])
    read = parse(message(1, b"", [a("a.test", "192.0.2.1")]))
    assert read is not None
    assert read.question is None
    assert read.answers[0].name == labels("a.test")


def test_the_response_code_has_the_bits_of_the_opt_record() -> None:
    extra = m.ROOT + struct.pack(">HHIH", m.OPT, 1232, 1 << 24, 0) + m.ROOT + struct.pack(">HHIH", 99, 1, 0, 0)
    read = parse(message(1, QUESTION, extra=extra, extras=2))
    assert read is not None
    assert read.rcode == m.BADVERS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        struct.pack(">6H", 1, 0x8180, 2, 0, 0, 0) + QUESTION * 2,
        struct.pack(">6H", 1, 0x8180, 0, 0xFFFF, 0xFFFF, 0xFFFF),
        struct.pack(">6H", 1, 0x8180, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",  # points at itself
        struct.pack(">6H", 1, 0x8180, 1, 0, 0, 0) + b"\1a\xc0\x0c\0\1\0\1",  # and in a circle
        struct.pack(">6H", 1, 0x8180, 1, 0, 0, 0) + b"\xc0\xff\0\1\0\1",  # forwards
        struct.pack(">6H", 1, 0x8180, 1, 0, 0, 0) + b"\x40a\0\0\1\0\1",  # a label of an unknown kind
        struct.pack(">6H", 1, 0x8180, 1, 0, 0, 0) + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1",  # 257 bytes
        message(1, QUESTION, [("a.test", m.A, 1, b"12345")]),
        message(1, QUESTION, [("a.test", m.AAAA, 1, b"1234")]),
        message(1, QUESTION, [("a.test", m.CNAME, 1, labels("b.test") + b"x")]),
        message(1, QUESTION, [("a.test", m.MX, 1, b"\0")]),
        message(1, QUESTION, [a("a.test", "192.0.2.1")])[:-1],
    ],
)
def test_what_is_malformed_is_nothing(data: bytes) -> None:
    assert parse(data) is None


def test_a_name_that_a_pointer_makes_too_long_is_malformed() -> None:
    long = (b"\x3f" + b"x" * 63) * 3 + b"\0"
    record = struct.pack(">HHIH", 99, 1, 0, 0)
    data = struct.pack(">6H", 1, 0x8180, 1, 1, 0, 0) + long + b"\0\1\0\1"
    assert parse(data + b"\x3e" + b"y" * 62 + b"\xc0\x0c" + record) is None
    assert parse(data + b"\x3d" + b"y" * 61 + b"\xc0\x0c" + record) is not None
    assert parse(data + (b"\x1f" + b"y" * 31) * 3 + b"\xc0\x0c" + record) is None


def test_a_chain_of_pointers_ends() -> None:
    """Each points at the one before; the whole work is bounded by what a message can hold."""
    chain = b"\0" + b"".join(struct.pack(">H", 0xC000 | (24 + 2 * i - (1 if not i else 2))) for i in range(4000))
    data = (
        struct.pack(">6H", 1, 0x8180, 0, 2, 0, 0)
        + (b"\0" + struct.pack(">HHIH", 99, 1, 0, len(chain)) + chain)
        + (struct.pack(">H", 0xC000 | (23 + 2 * 3000)) + struct.pack(">HHIH", 99, 1, 0, 0))
    )
    assert parse(data) is None


def test_the_worst_message_costs_milliseconds() -> None:
    """Names of as many labels as possible, for as many records as are read, behind chains of pointers."""
    deep = b"\1a" * 126 + b"\0"
    body = b"".join(
        b"\1b\xc0" + bytes((14 + 2 * (i % 100),)) + struct.pack(">HHIH", 99, 1, 0, 0) for i in range(m.MOST_RECORDS)
    )
    data = struct.pack(">6H", 1, 0x8180, 1, m.MOST_RECORDS, 0, 0) + deep + b"\0\1\0\1" + body
    before = time.process_time()
    assert parse(data) is not None
    assert time.process_time() - before < 1.0


@given(st.binary(max_size=600))
def test_no_bytes_raise(data: bytes) -> None:
    parse(data)
    parse(ANSWER[:12] + data)


@given(st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 300))
def test_no_mutation_raises_or_makes_more_of_a_message(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(ANSWER)
    for at, value in changes:
        data[at] = value
    read = parse(bytes(data[: max(len(data) - cut, 0)]))
    if read is not None:
        held = read.answers + read.authority
        assert len(held) <= len(data) // 11
        assert all(len(one.name) <= m.LONGEST_NAME for one in held)
        assert all(len(one.rdata) <= len(data) + 2 * m.LONGEST_NAME for one in held)


def test_every_cut_is_malformed() -> None:
    assert all(parse(ANSWER[:end]) is None for end in range(len(ANSWER)))
