"""A stream in chunks: the same findings wherever it is cut, with places in the whole, in bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.leak import scan as scanning
from sslintercept.leak.dictionary import Dictionaries, Dictionary
from sslintercept.leak.exact import ExactData, register
from sslintercept.leak.fingerprint import Fingerprints
from sslintercept.leak.fingerprint import register as register_documents
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import AT_LEAST_HELD, AT_ONCE, STEP, Count, Finding, Policy, Scan
from sslintercept.leak.table import TABLE, chosen
from sslintercept.leak.view import Looking
from tests.leak.corpus import digits, luhn, try_last
from tests.leak.test_engine import TEXTS

ALL = Patterns(tuple(TABLE.values()))
KEY = bytes(32)
IBAN = Patterns(chosen(["iban"]))
SOME = "Grüße, Visa 4111\u00a01111\u00a01111\u00a01111, IBAN DE89 3704 0044 0532 0130 00; NHS 943 476 5919"
CARD, ACCOUNT = "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"


def found(chunks: Iterable[bytes | str], policy: Policy | None = None) -> list[Finding]:
    scan = Scan(policy or Policy([ALL]))
    return [finding for chunk in chunks for finding in scan.feed(chunk)] + scan.finish()


def test_a_secret_is_found_wherever_it_is_cut() -> None:
    raw = SOME.encode()
    whole = found([raw])
    assert [finding.detector for finding in whole] == ["card", "iban", "uk-nhs"]
    assert found(raw[at : at + 1] for at in range(len(raw))) == whole
    for cut in range(len(raw)):
        assert found([raw[:cut], raw[cut:]]) == whole


@pytest.mark.parametrize("before", range(STEP - 120, STEP + 900, 7))
def test_a_secret_is_found_wherever_the_window_ends(before: int) -> None:
    raw = b"." * before + SOME.encode() + b"." * 2 * STEP
    places = [(finding.offset - before, finding.length) for finding in found([raw[:STEP], raw[STEP:]])]
    assert places == [(finding.offset, finding.length) for finding in found([SOME])]


@given(TEXTS, st.data())
def test_cuts_change_nothing(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=4)))
    pieces = [raw[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert found(pieces) == found([raw])


@given(TEXTS, st.integers(1, 700))
def test_small_steps_change_nothing(text: str, size: int) -> None:
    raw = (text + " " * 300 + text).encode()
    whole = found([raw])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "STEP", 1)
        assert found(raw[at : at + size] for at in range(0, len(raw), size)) == whole


def test_cuts_change_nothing_whoever_looks() -> None:
    plan = " ".join(f"word{number * 7919 % 101}" for number in range(60))
    looking: list[Looking] = [
        ALL,
        Dictionaries([Dictionary("words", {"secret": 1, "falcon": 1}, least=2)]),
        ExactData("rows", KEY, register(KEY, ("name", "number"), [("Anna Berg", "12345678")]).packed),
        Fingerprints("documents", KEY, register_documents(KEY, {"plan": [plan.encode()]}).packed),
    ]
    policy = Policy(looking)
    raw = f"{SOME} secret Anna Berg {plan}, 12345678 falcon Anna Berg, 12 345 678 {SOME} {plan}".encode()
    whole = found([raw], policy)
    assert {finding.detector for finding in whole} == {"card", "iban", "uk-nhs", "words", "rows", "documents"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "STEP", 1)
        for size in (1, 2, 3, 50, 777):
            assert found((raw[at : at + size] for at in range(0, len(raw), size)), policy) == whole


def test_places_are_those_of_what_was_fed() -> None:
    raw = SOME.encode()
    texts = [raw[finding.offset :][: finding.length].decode() for finding in found([raw])]
    assert texts == ["4111\u00a01111\u00a01111\u00a01111", ACCOUNT, "943 476 5919"]


def test_text_counts_as_its_utf_8() -> None:
    assert found([SOME]) == found([SOME.encode()])


def test_a_lone_surrogate_is_no_error() -> None:
    assert [finding.detector for finding in found(["\ud800 " + ACCOUNT])] == ["iban"]


def test_a_finding_comes_before_the_stream_ends() -> None:
    scan = Scan(Policy([IBAN]))
    assert scan.feed(ACCOUNT) == []
    assert [finding.detector for finding in scan.feed(b" " * AT_LEAST_HELD)] == ["iban"]
    assert scan.finish() == []


def test_a_chunk_of_any_size_is_looked_at() -> None:
    raw = b"." * (3 * AT_ONCE - 10) + ACCOUNT.encode() + b"." * AT_ONCE
    assert [finding.offset for finding in found([raw])] == [3 * AT_ONCE - 10]


def test_a_stream_of_nothing_has_no_findings() -> None:
    assert found([]) == found([b"", ""]) == []


def test_findings_above_the_number_to_keep_are_counted() -> None:
    scan = Scan(Policy([IBAN], keep=3))
    findings = scan.feed(f"{ACCOUNT}\n" * 10) + scan.finish()
    assert len(findings) == 3
    assert scan.counts == {"iban": Count(found=10, different=1, told=3)}


def test_too_few_different_ones_are_no_finding() -> None:
    policy = Policy([IBAN], least={"iban": 2})
    assert found([f"{ACCOUNT}\n" * 5], policy) == []
    both = found([f"{ACCOUNT}\n{ACCOUNT}\nGB82WEST12345698765432\n"], policy)
    assert [finding.offset for finding in both] == [0, 28, 56]


def test_the_same_number_written_otherwise_is_no_different_one() -> None:
    scan = Scan(Policy([IBAN]))
    scan.feed(f"{ACCOUNT}\n{ACCOUNT.replace(' ', '')}\n")
    scan.finish()
    assert scan.counts["iban"] == Count(found=2, different=1, told=2)


def test_what_is_worth_less_than_the_policy_asks_is_nothing() -> None:
    assert [finding.score for finding in found([f"x {CARD}"])] == [70]
    assert found([f"x {CARD}"], Policy([ALL], score=71)) == []
    assert [finding.score for finding in found([f"visa {CARD}"], Policy([ALL], score=71))] == [90]


def test_no_text_is_kept_but_a_window() -> None:
    scan = Scan(Policy([IBAN]))
    for _ in range(64):
        scan.feed(b"x" * 100 + "ü".encode() * 10_000 + b"\n" * 1000)
        held = len(scan._text) + sum(map(len, scan._pieces))
        assert held < 2 * AT_LEAST_HELD
        assert len(scan._fold._places) < 10


def test_what_counts_so_late_that_its_place_is_forgotten_has_none() -> None:
    between = " \u00adx " * 2500  # what has no width moves the places of all that follows
    chance = random.Random(8)
    cards = [try_last("4" + digits(chance, 14), luhn) for _ in range(8)]
    text = between.join(cards).encode()
    scan = Scan(Policy([Patterns(chosen(["card"]))]))
    findings = scan.feed(text) + scan.finish()
    assert len(findings) == 8
    known = [each for each in findings if each.length]
    assert 1 <= len(known) < 8
    for each in known:
        assert text[each.offset :][: each.length].decode() in cards
