"""Folded text: one spelling, the same however the bytes were cut, and every byte's place in the original."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.leak.fold import LONGEST_RUN, MOST_HELD, Fold

LETTERS = ("a", "B", " ", "é", "e\u0301", "ß", "ﬁ", "１", "\u200b", "한", "ᄒ", "ᅡ", "Я", "😀")
PIECES = st.sampled_from([*(letter.encode() for letter in LETTERS), b"\xff", b"\xe2\x82", b"\xf0\x9f"])


def folded(*chunks: bytes) -> bytes:
    fold = Fold()
    return b"".join(map(fold.feed, chunks)) + fold.feed(b"", final=True)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("plain, UPPER", "plain, UPPER", id="ASCII stays, in its case"),
        pytest.param("４１１１", "4111", id="full-width digits"),
        pytest.param("4111\u00a01111\u202f1", "4111 1111 1", id="no-break spaces"),
        pytest.param("4111\u20131111\u22121", "4111-1111-1", id="dashes"),
        pytest.param("con\u00adfi\u200bdential", "confidential", id="what has no width"),
        pytest.param("STRASSE straße ÄÖÜ", "STRASSE strasse äöü", id="letters are case-folded"),
        pytest.param("Cafe\u0301 CafE\u0301", "Café Café", id="marks are composed with the letter before"),
        pytest.param("„x“ ‘y’", "\"x\" 'y'", id="quotes"),
        pytest.param("ﬁle", "file", id="ligatures"),
        pytest.param("ТАЙНА", "тайна", id="Cyrillic"),
    ],
)
def test_text_gets_one_spelling(raw: str, expected: str) -> None:
    assert folded(raw.encode()).decode() == expected


def test_bytes_that_are_no_utf_8_stay() -> None:
    assert folded(b"a\xff\xfe\xe2\x82 b") == b"a\xff\xfe\xe2\x82 b"


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_cuts_change_nothing(raw: bytes) -> None:
    whole = folded(raw)
    assert folded(*(raw[at : at + 1] for at in range(len(raw)))) == whole
    for cut in range(len(raw)):
        assert folded(raw[:cut], raw[cut:]) == whole


@pytest.mark.parametrize("more", ["", "é", "한", "😀", "a"])
@pytest.mark.parametrize("count", [LONGEST_RUN // 3 - 1, LONGEST_RUN // 3, LONGEST_RUN])
def test_cuts_change_nothing_in_runs_longer_than_is_held(count: int, more: str) -> None:
    raw = (more + "한" * count + "e\u0301é").encode() + b"\xff"
    whole = folded(raw)
    for cut in range(len(raw)):
        assert folded(raw[:cut], raw[cut:]) == whole


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_no_more_is_held_than_the_limit(raw: bytes) -> None:
    fold = Fold()
    given_back = sum(len(fold.feed(raw[at : at + 1])) for at in range(len(raw)))
    rest = fold.feed(b"", final=True)
    assert len(rest) <= MOST_HELD * 2  # what is held may become longer
    assert given_back + len(rest) == len(folded(raw))


def test_every_byte_knows_where_it_came_from() -> None:
    raw = "a\u00adb ﬁ １２ e\u0301 ß z".encode()
    fold = Fold()
    text = fold.feed(raw, final=True).decode()
    assert text == "ab fi 12 é ss z"
    for letter in ("b", "z", "１２"):
        place = fold.origin(text.encode().index(letter.replace("１２", "12").encode()))
        assert place is not None
        assert raw[place:].startswith(letter.encode())
    assert fold.origin(len(text.encode())) == len(raw)


def test_places_are_known_after_others_were_forgotten() -> None:
    fold = Fold()
    text = fold.feed(("\u00adx" * 300).encode() + b"end", final=True)
    place = text.index(b"end")
    before = fold.origin(place)
    fold.forget(place - 5)
    assert fold.origin(place) == before == 900
    assert fold.origin(place - 50) is None


def test_forgetting_what_is_before_the_beginning_forgets_nothing() -> None:
    fold = Fold()
    fold.feed("\u00adx\u00ady".encode(), final=True)
    fold.forget(-5)
    assert [fold.origin(place) for place in range(2)] == [2, 5]
