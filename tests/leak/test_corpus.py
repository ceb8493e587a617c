"""
How much is found of what is there, and how much of what is found is there: bounds for each detector.

C{pytest -s tests/leak/test_corpus.py} prints the table; docs/leak.md tells how it is made.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache

import pytest

from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Finding, Policy, Scan
from sslintercept.leak.table import TABLE
from tests.leak.corpus import DECOYS, SECRETS, digits, document, prose

DOCUMENTS = 60
ALL = Patterns(tuple(TABLE.values()))
RECALL = 0.97
PRECISION = 0.97
WEAKER = {"us-ssn": (0.97, 0.85), "se-personnummer": (0.97, 0.9)}
"""recall and precision of those that have less: no check digit; a date and one check digit"""


def found(text: str) -> list[Finding]:
    scan = Scan(Policy([ALL], keep=250))
    return scan.feed(text) + scan.finish()


@cache
def measured() -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How many of each are there, how many of them are found, and how many are found that are not there."""
    there, right, wrong = Counter[str](), Counter[str](), Counter[str]()
    for seed in range(DOCUMENTS):
        text, placed = document(seed)
        findings = found(text)
        spans = [(each.detector, each.offset, each.offset + each.length) for each in findings]
        for name, offset, secret in placed:
            there[name] += 1
            right[name] += any(
                kind == name and begin <= offset + len(secret) - 1 and offset < end for kind, begin, end in spans
            )
        for kind, begin, end in spans:
            # A token beside the word for one is a password, too.
            wrong[kind] += not any(
                name == kind or kind in ("password", "url-password")
                for name, offset, secret in placed
                if begin < offset + len(secret.encode()) and offset < end
            )
    return there, right, wrong


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_there_is_found_and_what_is_found_is_there(name: str) -> None:
    there, right, wrong = measured()
    recall = right[name] / there[name]
    precision = right[name] / max(right[name] + wrong[name], 1)
    print(f"\n{name:18} {there[name]:4} there, recall {recall:6.1%}, precision {precision:6.1%}", end="")
    least_recall, least_precision = WEAKER.get(name, (RECALL, PRECISION))
    assert recall >= least_recall
    assert precision >= least_precision


def test_detectors_that_nothing_is_there_for_find_next_to_nothing() -> None:
    _, _, wrong = measured()
    others = {name: count for name, count in wrong.items() if name not in SECRETS and count}
    print(f"\nothers: {others}", end="")
    assert sum(others.values()) <= DOCUMENTS * 0.1


@pytest.mark.parametrize("kind", DECOYS)
def test_a_megabyte_of_decoys_of_one_kind_has_next_to_no_findings(kind: str) -> None:
    chance = random.Random(kind)
    text = "\n".join(f"{DECOYS[kind](chance)} {prose(chance, 3)}" for _ in range(4000))
    findings = found(text)
    print(f"\n{kind:18} {len(text):7} bytes, {Counter(each.detector for each in findings)}", end="")
    assert len(findings) <= 4


def test_of_random_numbers_with_16_digits_none_is_a_card() -> None:
    chance = random.Random(16)
    assert found("\n".join(digits(chance, 16) for _ in range(20_000))) == []
