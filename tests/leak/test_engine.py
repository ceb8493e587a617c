"""Two engines, one answer: what Hyperscan leads to is what C{re} leads to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import Detector, detector
from sslintercept.leak.engine import LONG, HyperscanEngine, Mark, PlainEngine, PresenceEngine, is_long, make_engine
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Finding, Policy, Scan
from sslintercept.leak.table import TABLE

FAST = Patterns(tuple(TABLE.values()))
PLAIN = Patterns(tuple(TABLE.values()), engine="re")
SURE_ONES = Patterns(tuple(TABLE.values()), 50)

SECRETS = (
    *("4111 1111 1111 1111", "378282246310005", "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"),
    *("86 095 742 719", "255081416802538", "12345678Z", "X-1234567-L", "RSSMRA85T10A562S", "111222333", "44051401359"),
    *("AB 12 34 56 C", "943 476 5919", "219-09-9998", "756.9217.0769.85", "529.982.247-25", "11010519491231002X"),
    *("2341 2341 2346", "811228-9874", "85.07.30-033.28", "131052-308T", "15076500565"),
    *("ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + "0mLq17", "postgres://joe:s3cr3tpw@db", 'password="Tr0ub4dor.3"'),
    *(
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0",
        "PuTTY-User-Key-File-2: ssh-rsa",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzQ5d8Hk2Lm",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ",
    ),
)
GLUE = st.sampled_from(
    [
        *("", " ", "\n", ",", "-", ".", "0", "4", "a", "Z", "_", "é", "visa ", "ssn ", "AWS_secret ", "dni ", "eyJ"),
        *("sk-", "DE12"),
    ]
)
TEXTS = st.lists(st.tuples(GLUE, st.sampled_from(SECRETS), GLUE).map("".join), max_size=8).map("".join)


def found(patterns: Patterns, text: str, least: int = 1) -> list[Finding]:
    scan = Scan(Policy([patterns], score=least))
    return scan.feed(text) + scan.finish()


@given(TEXTS)
def test_both_engines_lead_to_the_same_findings(text: str) -> None:
    assert found(FAST, text) == found(PLAIN, text)
    assert found(SURE_ONES, text, 50) == found(PLAIN, text, 50)


@given(st.text("0123456789 -.ABCDXeyJ_:/=", max_size=400))
@settings(max_examples=300)
def test_both_engines_lead_to_the_same_findings_in_what_only_looks_like_it(text: str) -> None:
    assert found(FAST, text) == found(PLAIN, text)


@given(st.lists(st.sampled_from([b"ab", b"abab", b"a", b"xab", b" "]), max_size=30).map(b"".join))
def test_hyperscan_names_every_place_that_re_names(text: bytes) -> None:
    marks = [Mark("x", b"ab(?:ab){0,2}", b"x", b"b"), Mark("y", b"[ab]{2,3}")]
    named = {
        (number, at) for number, first, last in HyperscanEngine(marks).places(text) for at in range(first, last + 1)
    }
    assert {(number, first) for number, first, _ in PlainEngine(marks).places(text)} <= named


LONG_ONES = [each for each in TABLE.values() if is_long(each.mark)]


def test_most_numbers_are_looked_for_only_where_a_number_is_long() -> None:
    assert {"card", "us-ssn", "fr-nir", "se-personnummer"} <= {each.name for each in LONG_ONES}
    assert not is_long(TABLE["fi-hetu"].mark)
    assert not is_long(TABLE["iban"].mark)


@pytest.mark.parametrize("each", LONG_ONES, ids=lambda each: each.name)
@given(data=st.data())
@settings(max_examples=50)
def test_whatever_is_a_long_number_lets_long_numbers_be_looked_for(each: Detector, data: st.DataObject) -> None:
    assert re.search(LONG, data.draw(st.from_regex(re.compile(each.mark, re.DOTALL), fullmatch=True)))


def test_what_needs_something_is_looked_for_only_where_that_is() -> None:
    marks = [
        Mark("x", b"[a-z][0-9]{9}", needs=b"(?i:aws|key)"),
        Mark("y", b"y{3}", needs=b"no"),
        Mark("z", b"[0-9]{9}"),
    ]
    engine = PresenceEngine(marks)
    assert {place.number for place in engine.places(b"x123456789 yyy")} == {1, 2}, "what is cheap needs nothing"
    assert {place.number for place in engine.places(b"x123456789 Key")} == {0, 2}
    assert engine.places(b"key aws") == []


def test_without_a_word_nearby_some_are_not_worth_looking_for() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzQ5d8Hk2Lm"
    for text, count in ((secret, 0), (f"Aws: {secret}", 1), (f"aws{' ' * 100}{secret}", 0)):
        assert len(found(SURE_ONES, text, 50)) == len(found(PLAIN, text, 50)) == count
    assert len(found(FAST, secret, 1)) == 1
    assert found(SURE_ONES, secret, 1) == []


def test_words_nearby_may_be_many() -> None:
    near = ("order", *(f"{'w' * 160}{number}" for number in range(100)))
    own = detector("mine", "[a-z]{4}[0-9]{4}", near=near)
    assert len(found(Patterns([own], 50), "order abcd1234", 50)) == 1


def test_a_mark_of_an_administrator_is_found_beside_others_however_it_begins() -> None:
    own = [Mark("any", b"[a-z]{3}x", own=True), Mark("words", b"(?:ab|cd)x", own=True), Mark("long", b"[0-9]{9}z")]
    engine = PresenceEngine([Mark("number", b"[0-9]{10}"), *own])
    assert {place.number for place in engine.places(b"abcx")} == {1}
    assert {place.number for place in engine.places(b"1cdx")} == {2}
    assert {place.number for place in engine.places(b"123456789z")} == {3}
    assert {place.number for place in engine.places(b"1234567890")} == {0}
    assert engine.places(b"12345678 z") == []


def test_a_mark_that_hyperscan_does_not_know_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="detector odd: "):
        make_engine([Mark("fine", b"abc"), Mark("odd", rb"(a)\1")])


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="no engine pcre"):
        make_engine([], "pcre")


@pytest.mark.parametrize("kind", ["hyperscan", "re"])
def test_without_marks_there_are_no_places(kind: str) -> None:
    assert make_engine([], kind).places(b"anything") == []
