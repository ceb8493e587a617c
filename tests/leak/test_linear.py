"""Nothing that passes costs more than its length: four times as much of it takes about four times as long."""

from __future__ import annotations

import pytest

from sslintercept.leak.dictionary import Dictionaries, Dictionary, Pair
from sslintercept.leak.exact import ExactData, register
from sslintercept.leak.fingerprint import Fingerprints
from sslintercept.leak.fingerprint import register as register_documents
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Policy, Scan
from sslintercept.leak.table import TABLE
from tests.test_linear import AT_ONCE, TOO_STEEP, TRIES, seconds

KEY = bytes(32)
ALL = Policy(
    [
        Patterns(tuple(TABLE.values())),
        Dictionaries([Dictionary("x", {"aa": 1, "aa aa": 1}, [Pair(["aa"], ["bb"])], least=99)]),
        ExactData("x", KEY, register(KEY, ("a", "b"), [("aa bb cc dd ee ff", "12345"), ("aa aa aa", "123456")]).packed),
        Fingerprints("x", KEY, register_documents(KEY, {"x": [b"aa bb cc dd ee ff " * 20]}).packed),
    ]
)
HOSTILE = {
    "digits": b"4",
    "digits in groups": b"4111 ",
    "cards": b"4111 1111 1111 1111\n",
    "beginnings of tokens": b"eyJhbGciOiJIUzI1NiJ9.eyJ",
    "words for passwords": b"password=",
    "beginnings of keys": b"-----BEGIN RSA PRIVATE KEY-----\n",
    "countries of accounts": b"DE12",
    "URLs": b"ftp://a:b",
    "words that tell": b"visa ",
    "terms": b"aa ",
    "cells": b"aa bb cc dd ee 12 34 5 ",
    "joined words": b"a.",
    "letters": "é".encode(),
    "marks": "\u0301".encode(),
    "what has no width": "\u200b".encode(),
    "no UTF-8": b"a\xff",
}


def scan(text: bytes, size: int) -> None:
    one = Scan(ALL)
    for at in range(0, len(text), size):
        one.feed(text[at : at + size])
    one.finish()


@pytest.mark.parametrize("name", HOSTILE)
def test_four_times_as_much_takes_about_four_times_as_long(name: str) -> None:
    text = HOSTILE[name] * (4_000 // len(HOSTILE[name]))
    found = []
    for _ in range(TRIES):
        little, much = seconds(lambda: scan(text, 1000)), seconds(lambda: scan(text * 4, 1000))
        if much < AT_ONCE or much < TOO_STEEP * little:
            return
        found.append(f"{much / little:.1f} times {little * 1000:.1f} ms")
    pytest.fail(f"{name}: {', '.join(found)}")
