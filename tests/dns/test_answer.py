"""What an answer says to its question."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sslintercept.dns.answer import LONGEST_NEGATIVE, LONGEST_TTL, MOST_ALIASES, Finding, Judgement, judge, misfit
from sslintercept.dns.message import AAAA, ANY, CNAME, MX, NXDOMAIN, A, parse

from .support import Wire, a, aaaa, cname, labels, message, ns, soa

NAME = labels("a.test")
QUESTION = NAME + b"\0\1\0\1"


def judged(*answers: Wire, rtype: int = A, authority: tuple[Wire, ...] = (), flags: int = 0x8180) -> Judgement:
    read = parse(message(1, QUESTION, answers, authority, flags=flags))
    assert read is not None
    return judge(read, NAME, rtype, 1)


def test_only_what_was_asked_for_counts() -> None:
    found = judged(
        a("A.TEST", "192.0.2.1", 60), a("b.test", "6.6.6.6", 1), aaaa("a.test", "::6", 1), a("a.test", "192.0.2.1", 70)
    )
    assert found == Judgement(Finding.RECORDS, NAME, 0, 60, ("192.0.2.1",))


def test_another_class_is_another_question() -> None:
    read = parse(message(1, QUESTION, [a("a.test", "192.0.2.1")]))
    assert read is not None
    assert judge(read, NAME, A, 3).finding is Finding.NOTHING


def test_any_takes_every_record() -> None:
    found = judged(a("a.test", "192.0.2.1"), ("a.test", MX, 9, b"\0\1" + labels("m.test")), rtype=ANY)
    assert found.rdata == (b"\xc0\0\2\1", b"\0\1" + labels("m.test"))
    assert found.ttl == 9


@pytest.mark.parametrize(("ttl", "kept"), [(0, 0), (60, 60), (2**31 - 1, LONGEST_TTL), (2**31, 0), (2**32 - 1, 0)])
def test_a_lifetime_is_within_bounds(ttl: int, kept: int) -> None:
    assert judged(a("a.test", "192.0.2.1", ttl)).ttl == kept


def test_a_chain_is_followed_in_any_order() -> None:
    found = judged(
        aaaa("c.test", "2001:db8::1", 9), cname("b.test", "C.test", 5), cname("a.test", "b.TEST", 7), rtype=AAAA
    )
    assert found == Judgement(Finding.RECORDS, labels("c.test"), 2, 5, ("2001:db8::1",))


def test_the_first_alias_of_a_name_counts() -> None:
    assert judged(cname("a.test", "b.test"), cname("a.test", "c.test")).name == labels("b.test")


def test_a_chain_that_goes_on_elsewhere_is_to_be_asked_for() -> None:
    assert judged(cname("a.test", "b.test", 7)) == Judgement(Finding.ALIAS, labels("b.test"), 1, 7)


def test_a_chain_is_no_circle_and_not_endless() -> None:
    assert judged(cname("a.test", "a.test")).finding is Finding.LOOP
    assert judged(cname("a.test", "b.test"), cname("b.test", "a.test")).finding is Finding.LOOP
    names = ["a.test", *(f"n{i}.test" for i in range(MOST_ALIASES + 1))]
    chain = [cname(x, y) for x, y in pairwise(names)]
    assert judged(*chain).finding is Finding.LOOP
    assert judged(*chain[:-1], a(names[-2], "192.0.2.1")).finding is Finding.RECORDS


@pytest.mark.parametrize("rcode", [0, NXDOMAIN])
def test_nothing_is_kept_as_long_as_the_zone_says(rcode: int) -> None:
    """RFC 2308 5: the smaller one of the SOA's lifetime and its minimum."""
    flags = 0x8180 | rcode
    for zone in ("a.test", "test", ""):
        assert judged(authority=(soa(zone, 30, 60),), flags=flags) == Judgement(Finding.NOTHING, NAME, 0, 30)
    assert judged(authority=(soa("test", 60, 30),), flags=flags).ttl == 30
    assert judged(authority=(soa("test", 86_400, 86_400),), flags=flags).ttl == LONGEST_NEGATIVE
    assert judged(authority=(soa("test", 2**31, 60),), flags=flags).ttl == 0


def test_nothing_without_a_soa_is_not_kept() -> None:
    for authority in ((), (soa("other.test", 30),), (soa("xtest", 30),), (soa("x.a.test", 30),), (ns("test", "x"),)):
        assert judged(authority=authority) == Judgement(Finding.NOTHING, NAME, 0, 0)


def test_an_alias_to_nothing_is_nothing() -> None:
    there = labels("b.test")
    assert judged(cname("a.test", "b.test", 9), flags=0x8183) == Judgement(Finding.NOTHING, there, 1, 0)
    found = judged(cname("a.test", "b.test", 9), authority=(soa("test", 30),))
    assert found == Judgement(Finding.NOTHING, there, 1, 9)


def test_a_server_that_points_elsewhere_does_not_answer() -> None:
    assert judged(authority=(ns("test", "ns.test"),), flags=0x8100).finding is Finding.REFERRAL


def test_the_alias_itself_is_a_record() -> None:
    assert judged(cname("a.test", "b.test"), rtype=CNAME).rdata == (labels("b.test"),)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (message(1, QUESTION), None),
        (message(1, QUESTION.replace(b"test", b"teST")), "case"),
        (message(1, QUESTION, flags=0x0100), "header"),
        (message(1, QUESTION, flags=0x9180), "header"),
        (message(1, labels("b.test") + QUESTION[-4:]), "question"),
        (message(1, QUESTION[:-1] + b"\3"), "question"),
        (message(1, b""), "question"),
        (message(1, b"", flags=0x8181), None),
        (message(1, b"", flags=0x8182), "question"),
        (message(1, b"", [a("a.test", "192.0.2.1")], flags=0x8181), "question"),
        (message(1, QUESTION)[:20], "question"),
    ],
)
def test_an_answer_must_fit_its_query(data: bytes, why: str | None, stream: bool) -> None:
    assert misfit(data, QUESTION, stream) == (None if stream and why == "case" else why)
