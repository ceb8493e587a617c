"""Detectors of an administrator: bounded in length and in the ways to try them, and evidence that is masked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import ConfigError
from sslintercept.leak.detector import LONGEST, Detector, detector, masked, numerals, ways
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Policy, Scan
from sslintercept.leak.table import TABLE


def found(made: Detector, text: str) -> list[str]:
    scan = Scan(Policy([Patterns([made])]))
    return [finding.evidence for finding in scan.feed(text) + scan.finish()]


@pytest.mark.parametrize(
    ("secret", "front", "back", "evidence"),
    [
        (b"4111 1111 1111 1111", 6, 4, "4111 11** **** 1111"),
        (b"4111111111111111", 6, 4, "411111******1111"),
        (b"123-45-6789", 0, 2, "***-**-**89"),
        (b"short", 9, 9, "sho**"),
        (b"ab", 0, 0, "**"),
        ("pässword".encode(), 0, 0, "********"),
        (b"x" * 100, 2, 0, "xx" + "*" * 12 + "…" + "*" * 12),
        (b"a\nb\x00c", 0, 0, "***"),
    ],
)
def test_evidence_shows_the_first_and_last_few_letters(secret: bytes, front: int, back: int, evidence: str) -> None:
    assert masked(secret, front, back) == evidence


@given(st.text(min_size=1, max_size=80), st.integers(0, 90), st.integers(0, 90))
def test_evidence_hides_a_third_of_the_letters_at_least(secret: str, front: int, back: int) -> None:
    letters = sum(character.isalnum() for character in secret)
    shown = sum(character.isalnum() for character in masked(secret.encode(), front, back))
    assert shown <= letters * 2 // 3


def test_a_pattern_of_an_administrator_is_found() -> None:
    assert found(detector("project", r"PRJ-[0-9]{6}"), "see PRJ-123456, not XPRJ-123456 or PRJ-1234567") == [
        "PR*-******"
    ]


def test_a_pattern_with_words_needs_one_of_them_nearby() -> None:
    made = detector("staff", r"[0-9]{6}", near=("staff", "employee"))
    assert found(made, "123456") == []
    assert found(made, "Employee 123456") == ["12****"]
    assert found(made, "Employee " + "." * 100 + " 123456") == []


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("[a", "no pattern"),
        ("a*", "0 to"),
        ("a+", "1 to"),
        (f"a{{1,{LONGEST + 1}}}", f"1 to {LONGEST + 1}"),
        ("(?:a{1,9}){1,50}", "ways"),
        ("a{0,200}b{0,200}c{0,200}", "ways"),
        (r"(a)\1", "ways"),
    ],
)
def test_a_pattern_without_bounds_is_refused(pattern: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        detector("x", pattern)


def test_a_detector_whose_whole_is_no_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match="no pattern"):
        Detector("x", "x", b"abc", rb"abc(")


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("abc", 1), ("a?", 2), ("a{2,5}", 4), ("ab|cd|ef", 3), ("a?b?", 4), ("(?:ab?){2}", 4), ("a??", 2)],
)
def test_ways_to_try_a_pattern_are_counted(pattern: str, count: int) -> None:
    assert ways(pattern.encode()) == count


def test_it_is_known_what_is_worth_little_without_a_word_nearby() -> None:
    assert TABLE["aws-secret"].alone < 50
    assert TABLE["card"].alone == TABLE["iban"].alone == 100
    assert (detector("x", "abc", score=60, near=("y",)).alone, detector("x", "abc", score=60).alone) == (24, 60)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("123", 3),
        ("[0-9]{3}[ -]?[0-9]{2}", 5),
        ("[0-9]{3}[ -][0-9]{2}", 5),
        ("[0-9 ]{3}[0-9]", 1),
        ("(?:12|345|6 7)8", 3),
        ("(?:12|3x)45", 1),
        ("[0-9]{2,5}1", 3),
        ("(?:[ -]?[0-9]){8}", 8),
        ("(?:1x){8}", 1),
        ("(?:x1){8}", 0),
        ("(?:1x)?2", 0),
        ("1(?:2[ab]|34)", 3),
        ("12.34", 2),
        (r"12\d", 2),
        ("12[^3]4", 2),
        ("1(?=2)3", 1),
        ("x1234", 0),
    ],
)
def test_what_a_number_has_at_least_is_counted(pattern: str, count: int) -> None:
    assert numerals(pattern.encode()) == count
