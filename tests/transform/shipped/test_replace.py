"""Text in the place of another: at every split, in its charset, and never later than it must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.config.units import NotAllowed
from sslintercept.testing.transform import Exchange, Pipe, a_message, splits
from sslintercept.transform.shipped.replace import LONGEST_FIND, LONGEST_NEW, Replace, ReplaceOptions, ReplaceText

EXAMPLES = [
    (b"cat", b"dog", b"the cat sat on the cat, concatenated ca"),
    (b"aa", b"b", b"aaaaa aa a"),
    (b"aab", b"x", b"aaaab aab aa"),
    (b"abab", b"<>", b"abababab ababab"),
    (b"x", b"", b"xxaxxbx"),
    (b"x", b"longer", b"xxaxxbx"),
    (b"same", b"size", b"same same sam"),
    (b"none", b"any", b"nothing of it"),
]


@pytest.mark.parametrize(("find", "new", "body"), EXAMPLES)
def test_every_split_gives_what_the_whole_gives(find: bytes, new: bytes, body: bytes) -> None:
    for pieces in splits(body):
        pipe = Pipe(Replace(find, new), length=len(body))
        pipe.send(*pieces)
        assert pipe.got == body.replace(find, new)
        assert pipe.ended == 1


@given(st.text("ab", min_size=1, max_size=4), st.text("abc", max_size=3), st.lists(st.text("abc", max_size=6)))
def test_any_cut_gives_what_the_whole_gives(find: str, new: str, pieces: list[str]) -> None:
    pipe = Pipe(Replace(find.encode(), new.encode()))
    pipe.send(*(piece.encode() for piece in pieces if piece))
    assert pipe.got.decode() == "".join(pieces).replace(find, new)


@given(st.text("abc", min_size=1, max_size=5), st.lists(st.text("abc", min_size=1, max_size=6)))
def test_what_is_held_may_be_the_beginning_of_a_match_and_nothing_else(find: str, pieces: list[str]) -> None:
    pipe = Pipe(Replace(find.encode(), find.encode()))
    sent = ""
    for piece in pieces:
        pipe.write(piece.encode())
        sent += piece
        held = sent[len(pipe.got) :]
        assert len(held) < len(find)
        assert find.startswith(held)


def test_an_event_does_not_wait_for_the_next() -> None:
    pipe = Pipe(Replace(b"event", b"news"))
    for number in (b"1", b"2"):
        before = pipe.got
        pipe.write(b"data: " + number + b"\n\n")
        assert pipe.got == before + b"data: " + number + b"\n\n"
    pipe.write(b"data: ev")
    assert pipe.got.endswith(b"data: ")
    pipe.write(b"i")
    assert pipe.got.endswith(b"data: evi")


def test_letters_of_ascii_may_be_the_same_in_both_cases() -> None:
    body = b"Cat CAT cat \xc3\x84 \xc3\xa4"
    for pieces in splits(body):
        pipe = Pipe(Replace(b"CaT", b"Dog", fold=True))
        pipe.send(*pieces)
        assert pipe.got == b"Dog Dog Dog \xc3\x84 \xc3\xa4"


def test_the_length_is_known_if_it_stays() -> None:
    same, other = Pipe(Replace(b"a", b"b"), length=5, reading=False), Pipe(Replace(b"a", b""), length=5, reading=False)
    same.write(b"abcab")
    other.write(b"abcab")
    assert (same.announced, other.announced) == ([5], [None])


def test_an_expansion_waits_for_its_reader() -> None:
    body, new = b"x" * 20_000, b"y" * LONGEST_NEW
    pipe = Pipe(Replace(b"x", new))
    pipe.stalled = True
    pipe.send(body)
    rounds = 0
    while not pipe.ended:
        assert pipe.stopped
        assert pipe.waiting < 2 * Pipe.high_water
        pipe.drain()
        pipe.stalled = True
        rounds += 1
        assert rounds < 10_000
    assert pipe.got == new * 20_000


def test_nothing_comes_out_behind_an_abort() -> None:
    pipe = Pipe(Replace(b"cat", b"dog"))
    pipe.write(b"a ca")
    pipe.abort()
    assert (pipe.got, pipe.ended) == (b"a ", 0)


def test_a_waiting_body_is_let_go_by_an_abort() -> None:
    stage = Replace(b"x", b"y" * LONGEST_NEW)
    pipe = Pipe(stage)
    pipe.stalled = True
    pipe.write(b"x" * 10_000)
    assert stage._input
    pipe.leave()
    assert not stage._input


def test_a_long_beginning_that_is_none_costs_no_more_than_its_length_allows() -> None:
    find = b"a" * (LONGEST_FIND - 1) + b"b"
    pipe = Pipe(Replace(find, b""))
    for _ in range(2000):
        pipe.write(b"a")
    assert pipe.got == b"a" * (2000 - len(find) + 1)


# -- the transformer -----------------------------------------------------------------------------------------------


def replaced(body: bytes, options: ReplaceOptions, content_type: str) -> tuple[bytes, dict[str, str]]:
    exchange = Exchange(ReplaceText(options))
    pipe = exchange.respond(fields={"Content-Type": content_type})
    pipe.send(body)
    return pipe.got, exchange.notes


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        ("text/html; charset=utf-8", "utf-8"),
        ("text/html; charset=ISO-8859-1", "latin-1"),
        ("text/html; charset=windows-1252", "cp1252"),
        ("text/plain; charset=koi8-r", "koi8-r"),
        ("application/json", "utf-8"),
        ("application/problem+json", "utf-8"),
        ("image/svg+xml; charset=utf-8", ""),
    ],
)
def test_text_is_searched_in_its_charset(content_type: str, codec: str) -> None:
    find, new = ("мир", "свет") if codec == "koi8-r" else ("café", "thé")
    body = f"a {find} b".encode(codec or "utf-8")
    got, notes = replaced(body, ReplaceOptions(find=find, replace=new), content_type)
    assert got == (f"a {new} b".encode(codec) if codec else body)
    assert notes == {}


def test_a_body_that_names_no_charset_is_read_as_the_options_say() -> None:
    got, _ = replaced(b"caf\xe9", ReplaceOptions(find="é", replace="e", charset="iso-8859-1"), "text/html")
    assert got == b"cafe"


@pytest.mark.parametrize("charset", ["utf-16", "shift_jis", "gbk", "no-such-charset", "x" * 5000])
def test_a_charset_that_cannot_be_searched_passes_with_a_note(charset: str) -> None:
    got, notes = replaced(b"a cat", ReplaceOptions(find="cat"), f"text/html; charset={charset}")
    assert got == b"a cat"
    assert notes == {"replace-text": f"not applied to charset {charset[:40]}"}


def test_what_a_charset_cannot_say_is_not_put_into_it() -> None:
    got, notes = replaced(b"a cat", ReplaceOptions(find="cat", replace="猫"), "text/html; charset=iso-8859-1")
    assert (got, notes) == (b"a cat", {"replace-text": "not to be written in charset cp1252"})


@pytest.mark.parametrize(("case", "got"), [("exact", b"dog Cat"), ("ignore", b"dog dog")])
def test_the_options_say_whether_case_counts(case: str, got: bytes) -> None:
    assert replaced(b"cat Cat", ReplaceOptions(find="cat", replace="dog", case=case), "text/plain") == (got, {})
    assert ReplaceOptions(find="cat").case == "exact"


def test_a_large_piece_is_worked_on_in_few_steps() -> None:
    stage = Replace(b"ab", b"x")
    pipe = Pipe(stage)
    pipe.stalled = True
    pipe.high_water = 0
    pipe.write(b"first ")
    pipe.write(b"ab" * 100_000)
    assert 1 <= len(stage._input) <= 10
    pipe.abort()


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "video/mp4", ""])
def test_what_is_no_text_passes(content_type: str) -> None:
    assert (
        ReplaceText(ReplaceOptions(find="cat")).transform(
            a_message(status=200, of_response={"Content-Type": content_type} if content_type else {})
        )
        is None
    )


def test_a_request_is_searched_too() -> None:
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "5"}
    pipe = Exchange(ReplaceText(ReplaceOptions(find="cat", replace="dog")), method="POST", fields=fields).upload()
    pipe.send(b"a=cat")
    assert pipe.got == b"a=dog"


def test_the_charset_of_bodies_that_name_none_is_one_that_can_be_searched() -> None:
    unit = ReplaceOptions.__dataclass_fields__["charset"].metadata["key"].unit
    assert unit("Windows-1251") == "windows-1251"
    for text in ("utf-16", "gbk", "none", ""):
        with pytest.raises(NotAllowed):
            unit(text)


def test_what_is_found_has_a_length() -> None:
    unit = ReplaceOptions.__dataclass_fields__["find"].metadata["key"].unit
    assert unit("x" * LONGEST_FIND) == "x" * LONGEST_FIND
    for text in ("", "x" * (LONGEST_FIND + 1), "é" * LONGEST_FIND):
        with pytest.raises(NotAllowed):
            unit(text)
