"""Fingerprints: a passage is found in other text, as winnowing promises, and what all documents have is left out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import ConfigError
from sslintercept.leak import fingerprint
from sslintercept.leak.fingerprint import CERTAIN, LEAST_PRINTS, MOST_SHARING, RUN, Fingerprints, prints, register
from sslintercept.leak.scan import Finding, Policy, Scan

KEY = bytes(range(32))


def text(seed: int, words: int = 600) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(words))


PLAN, MINUTES = text(1), text(2, 200)
REGISTERED = register(KEY, {"plan.txt": [PLAN.encode()], "minutes.txt": [MINUTES.encode()], "note.txt": [b"too short"]})


def found(*chunks: bytes | str, share: float = 0.2, count: int = 40) -> list[Finding]:
    scan = Scan(Policy([Fingerprints("documents", KEY, REGISTERED.packed, share=share, count=count)]))
    return [finding for chunk in chunks for finding in scan.feed(chunk)] + scan.finish()


def some(document: str, first: int, count: int) -> str:
    return " ".join(document.split()[first : first + count])


@given(st.lists(st.sampled_from("abcdefgh"), min_size=CERTAIN, max_size=40), st.integers(0, 20), st.integers(0, 20))
def test_every_passage_that_is_long_enough_has_a_fingerprint(words: list[str], before: int, after: int) -> None:
    document = " ".join([*(f"x{at}" for at in range(before)), *words, *(f"y{at}" for at in range(after))])
    assert prints(KEY, [document.encode()]) & prints(
        KEY, [("other words " + " ".join(words) + " follow here").encode()]
    )


def test_fewer_words_than_a_run_have_no_fingerprint() -> None:
    assert prints(KEY, [" ".join("abcd"[: RUN - 1]).encode()]) == set()


@given(st.integers(0, 5000))
def test_cuts_change_no_fingerprint(cut: int) -> None:
    raw = PLAN.encode()
    assert prints(KEY, [raw[:cut], raw[cut:]]) == prints(KEY, [raw])


def test_a_document_of_many_windows_has_the_same_fingerprints_however_it_comes() -> None:
    raw = text(3, 30_000).encode()
    assert prints(KEY, (raw[at : at + 999] for at in range(0, len(raw), 999))) == prints(KEY, [raw])


def test_about_two_of_seven_runs_are_chosen() -> None:
    assert 0.24 < len(prints(KEY, [text(4, 5000).encode()])) / 5000 < 0.33


def test_a_third_of_a_document_is_found_in_other_text() -> None:
    (finding,) = found(text(5) + "\n\n" + some(PLAN, 100, 200).upper().replace(" ", ",\n  ") + text(6))
    assert finding.detector == "documents"
    assert finding.evidence.endswith(" fingerprints of plan.txt")


def test_a_document_is_told_once_and_another_beside_it() -> None:
    assert [finding.evidence.split()[-1] for finding in found(PLAN + " " + MINUTES + " " + PLAN)] == [
        "plan.txt",
        "minutes.txt",
    ]


@pytest.mark.parametrize("other", [text(7, 3000), some(PLAN, 100, 30), " ".join(sorted(PLAN.split()))])
def test_other_text_small_parts_and_the_same_words_are_not_found(other: str) -> None:
    assert found(other) == []


def test_a_number_of_fingerprints_is_enough_whatever_the_share() -> None:
    assert len(found(some(PLAN, 100, 40), share=1.0, count=LEAST_PRINTS)) == 1


def test_cuts_change_no_finding() -> None:
    raw = (text(8, 40) + " " + some(MINUTES, 20, 100)).encode()
    whole = found(raw)
    assert len(whole) == 1
    for cut in range(0, len(raw), 11):
        assert found(raw[:cut], raw[cut:]) == whole


def test_what_many_documents_have_in_common_is_left_out() -> None:
    form = text(9, 100)
    documents = {f"letter {number}": [f"{form} {text(number + 20, 60)}".encode()] for number in range(MOST_SHARING + 1)}
    scan = Scan(Policy([Fingerprints("x", KEY, register(KEY, documents).packed)]))
    assert scan.feed(form) + scan.finish() == []


def test_more_documents_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MOST_DOCUMENTS", 1)
    with pytest.raises(ConfigError, match="2 documents"):
        register(KEY, {"a": [b""], "b": [b""]})


def test_documents_that_are_too_short_are_named() -> None:
    assert REGISTERED.short == ("note.txt",)


def test_nothing_of_a_document_is_in_the_table() -> None:
    assert not any(word.encode() in REGISTERED.packed for word in PLAN.split() if len(word) > 5)


@pytest.mark.parametrize("packed", [b"", REGISTERED.packed[:30], b"\2\0\0\0{}" + register(KEY, {}).packed[21:]])
def test_bytes_that_are_no_registered_documents_are_refused(packed: bytes) -> None:
    with pytest.raises(ConfigError, match="fingerprints x"):
        Fingerprints("x", KEY, packed)
