"""Dictionaries: different terms count once each, pairs by distance, wherever the stream is cut."""

from __future__ import annotations

import pytest

from sslintercept.errors import ConfigError
from sslintercept.leak import dictionary as dictionaries
from sslintercept.leak.dictionary import Dictionaries, Dictionary, Pair
from sslintercept.leak.scan import Finding, Policy, Scan


def found(dictionary: Dictionary, *chunks: bytes | str, engine: str = "hyperscan") -> list[Finding]:
    scan = Scan(Policy([Dictionaries([dictionary], engine=engine)]))
    return [finding for chunk in chunks for finding in scan.feed(chunk)] + scan.finish()


def has(term: str, text: str) -> bool:
    answers = {bool(found(Dictionary("x", {term: 1}), text, engine=engine)) for engine in ("hyperscan", "re")}
    assert len(answers) == 1
    return answers.pop()


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("secret", "a SECRET."),
        ("top secret", "Top \r\n  Secret"),
        ("Größe", "DIE GRÖSSE"),
        ("Größe", "gro\u0308sse"),
        ("confid*", "confidentiality"),
        ("confidential", "con\u00adfi\u200bdential"),
        ("c++", "C++ code"),
        ("機密", "これは機密です"),
        ("тайна", "ТАЙНА!"),
    ],
)
def test_a_term_is_found(term: str, text: str) -> None:
    assert has(term, text)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("secret", "secretary"),
        ("secret", "no_secret"),
        ("secret", "äsecret"),
        ("confid*", "unconfident"),
        ("top secret", "top, secret"),
        ("top secret", "topsecret"),
        ("top secret", "top" + " " * 40 + "secret"),
    ],
)
def test_a_term_is_not_found(term: str, text: str) -> None:
    assert not has(term, text)


def test_different_terms_count_and_the_same_one_once() -> None:
    dictionary = Dictionary("deal", {"merger": 1, "target": 1, "board": 1}, least=3)
    assert found(dictionary, "merger merger merger target") == []
    assert found(dictionary, "Merger, target, board, merger") == [Finding("deal", 16, 5, "merger, target, board", 100)]


def test_weights_are_added_up() -> None:
    dictionary = Dictionary("deal", {"merger": 5, "target": 1}, least=6)
    assert found(dictionary, "merger") == []
    assert len(found(dictionary, "merger target")) == 1


@pytest.mark.parametrize("text", ["price ... Falcon", "Falcon ... price", "falcon" + " " * 50 + "price"])
def test_a_pair_is_found_in_either_order(text: str) -> None:
    pair = Pair(["falcon", "eagle"], ["price", "offer"], within=50)
    assert [finding.evidence for finding in found(Dictionary("x", pairs=[pair]), text)] == ["pair 1"]


@pytest.mark.parametrize("text", ["falcon" + " " * 51 + "price", "falcon falcon", "price offer"])
def test_a_pair_is_not_found(text: str) -> None:
    assert found(Dictionary("x", pairs=[Pair(["falcon", "eagle"], ["price", "offer"], within=50)]), text) == []


def test_a_term_is_no_pair_with_itself() -> None:
    dictionary = Dictionary("x", pairs=[Pair(["falcon"], ["falcon", "price"])])
    assert found(dictionary, "falcon") == []
    assert len(found(dictionary, "falcon falcon")) == 1


def test_cuts_change_nothing() -> None:
    dictionary = Dictionary("x", {"größe": 1, "top secret": 1}, [Pair(["a"], ["falcon"], 20)], least=3)
    raw = "GRÖSSE, Top\n Secret, a falcon".encode()
    whole = found(dictionary, raw)
    assert [raw[finding.offset :][: finding.length] for finding in whole] == [b"falcon"]
    for cut in range(len(raw)):
        assert found(dictionary, raw[:cut], raw[cut:]) == whole


def test_a_pair_is_found_over_windows() -> None:
    dictionary = Dictionary("x", pairs=[Pair(["alpha"], ["omega"], within=2000)])
    for before in range(8192 - 2100, 8192 + 100, 61):
        assert len(found(dictionary, b"." * before + b" alpha " + b"." * 1900 + b" omega " + b"." * 20_000)) == 1


def test_dictionaries_do_not_disturb_each_other() -> None:
    both = Dictionaries([Dictionary("one", {"secret": 1}), Dictionary("two", {"secret": 1, "secret plan": 1}, least=2)])
    scan = Scan(Policy([both]))
    assert [finding.detector for finding in scan.feed("secret plan") + scan.finish()] == ["one", "two"]


def test_a_dictionary_that_is_worth_less_than_the_policy_asks_says_nothing() -> None:
    scan = Scan(Policy([Dictionaries([Dictionary("x", {"secret": 1}, score=40)])], score=50))
    assert scan.feed("secret") + scan.finish() == []


@pytest.mark.parametrize("term", ["", "  ", "*", "**", "merger *", "a " * 9, "x" * 300])
def test_a_term_that_is_empty_or_too_long_is_refused(term: str) -> None:
    with pytest.raises(ConfigError, match="empty or too long"):
        Dictionaries([Dictionary("x", {term: 1})])


def test_more_terms_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionaries, "MOST_TERMS", 2)
    with pytest.raises(ConfigError, match="3 terms"):
        Dictionaries([Dictionary("x", {"aa": 1, "bb": 1, "cc": 1})])


def test_a_distance_out_of_bounds_is_refused() -> None:
    with pytest.raises(ConfigError, match="9999 bytes"):
        Dictionaries([Dictionary("x", pairs=[Pair(["a"], ["b"], within=9999)])])
