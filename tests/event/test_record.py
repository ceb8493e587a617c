"""What an event is, whatever somebody puts into it: bounded, printable, one line, without secrets in its URL."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.event.record import (
    MOST_LINE,
    MOST_LONG,
    MOST_NUMBER,
    MOST_RECIPIENTS,
    MOST_TEXT,
    MOST_TRACES,
    MOST_WORD,
    Event,
    Trace,
    from_json,
    from_record,
    to_json,
    visible,
    without_secrets,
)
from tests.event.events import event

HOSTILE = 'a\n{"id":"forged"}\r\x1b[2J\x9b31m\u202e\ud800\udfff\x00"\\\u2028\U0001f600'


def test_an_event_is_one_line_of_json_with_every_field() -> None:
    line = to_json(event())
    assert "\n" not in line
    assert set(json.loads(line)) == {field.name for field in fields(Event)}
    assert json.loads(line)["evidence"] == [
        {"what": "card", "text": "4111 **** 1111", "where": "form > file", "offset": 12, "length": 16, "score": 3}
    ]


def test_an_event_comes_back_from_its_line() -> None:
    made = event(user="anna", size=None, recipients=("a@b.test",))
    assert from_json(to_json(made)) == made
    assert from_json(to_json(made).encode()) == made


def test_hostile_texts_stay_on_one_line_of_ascii() -> None:
    made = event(
        **dict.fromkeys(("id", "kind", "act", "name", "reason", "url", "host", "client", "user"), HOSTILE),
        evidence=(Trace(HOSTILE, HOSTILE, HOSTILE),),
        recipients=(HOSTILE,),
    )
    line = to_json(made)
    assert line.isascii()
    assert line.isprintable()
    assert from_json(line) == made
    assert made.id.isprintable()
    made.name.encode()  # no lone surrogate is left: databases and sockets take no other text


@given(st.text(), st.text(), st.integers(), st.floats(), st.text(), st.lists(st.text()))
def test_any_event_comes_back(word: str, text: str, number: int, time: float, url: str, many: list[str]) -> None:
    made = Event(
        word,
        time,
        word,
        word,
        name=text,
        score=number,
        size=number,
        url=url,
        evidence=(Trace(text, text, text, number, number, number),),
        recipients=tuple(many),
    )
    line = to_json(made)
    assert line.isascii()
    assert from_json(line) == made


def test_every_text_has_a_bound_and_shows_that_it_was_cut() -> None:
    long = "x" * 10_000
    texts = {field.name: long for field in fields(Event) if field.type == "str"}
    made = event(**texts, user=long, recipients=(long,) * 1000, evidence=(Trace(long, long, long),) * 1000)
    assert len(made.id) == len(made.kind) == MOST_WORD
    assert len(made.name) == len(made.user or "") == MOST_TEXT
    assert made.name.endswith("…")
    assert len(made.url) == len(made.reason) == MOST_LONG
    assert (len(made.recipients), len(made.evidence)) == (MOST_RECIPIENTS, MOST_TRACES)
    assert all(len(text) == MOST_TEXT for text in (*made.recipients, *made.evidence[0][:3]))
    assert (event(score=10**30).score, event(size=-(10**30)).size) == (MOST_NUMBER, -MOST_NUMBER)
    assert [event(time=time).time for time in (float("nan"), float("inf"))] == [0.0, 0.0]


@pytest.mark.parametrize("most", [MOST_LINE, 8192, 2500])
@pytest.mark.parametrize("char", ["x", "\x00", "\U0001f600", "\ud800"])
def test_a_line_has_a_bound_and_keeps_what_names_the_event(most: int, char: str) -> None:
    long = char * 10_000
    texts = {field.name: long for field in fields(Event) if field.type == "str"} | {"id": "c1-2", "kind": "malware"}
    made = event(**texts, user=long, recipients=(long,) * 100, evidence=(Trace(long, long, long),) * 64)
    line = to_json(made, most)
    assert len(line) <= most
    kept = from_json(line)
    assert (kept.id, kept.kind, kept.time) == ("c1-2", "malware", made.time)


def test_a_line_that_is_too_long_loses_evidence_before_texts() -> None:
    made = event(evidence=(Trace("what", "text"),) * 64, reason="r" * 100)
    kept = from_json(to_json(made, 3000))
    assert 0 < len(kept.evidence) < 64
    assert replace(kept, evidence=()) == replace(made, evidence=())


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://host/a?b=c#d", "http://host/a?b=c#d"),
        ("http://anna:pw@host/a", "http://host/a"),
        ("http://anna@host", "http://host"),
        ("http://an@na:p@w@host:80/x@y?z@", "http://host:80/x@y?z@"),
        ("http:/anna:pw@host/", "http:/host/"),
        ("http:\\\\anna:pw@host/", "http:\\\\host/"),
        ("//anna:pw@host/", "//host/"),
        ("anna:pw@host:443", "host:443"),
        ("  \tht\ntp://anna:pw@host/", "http://host/"),
        ("ws://host/?q=a@b", "ws://host/?q=a@b"),
        ("/path/a@b", "/path/a@b"),
        ("host:443", "host:443"),
        ("", ""),
    ],
)
def test_a_url_loses_its_userinfo(url: str, kept: str) -> None:
    assert without_secrets(url, "malware") == event(kind="malware", url=url).url == kept


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://u:p@host/a?card=4111", "http://host/a?…"),
        ("http://host/a#card=4111", "http://host/a#…"),
        ("http://host/a?", "http://host/a?…"),
        ("http://host/a", "http://host/a"),
    ],
)
def test_where_something_leaked_a_url_loses_its_query_too(url: str, kept: str) -> None:
    made = event(kind="leak", url=url)
    assert made.url == kept
    assert replace(made, act="pass").url == kept


def test_a_userinfo_that_is_longer_than_a_text_may_be_is_gone_all_the_same() -> None:
    assert event(url=f"http://{'secret' * 1000}@host/").url == "http://host/"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"id":"a","time":1,"kind":"k"}',
        '{"id":1,"time":1,"kind":"k","act":"a"}',
        '{"id":"a","time":"1","kind":"k","act":"a"}',
        '{"id":"a","time":true,"kind":"k","act":"a"}',
        '{"id":"a","time":1,"kind":"k","act":"a","size":1.5}',
        '{"id":"a","time":1,"kind":"k","act":"a","evidence":1}',
        '{"id":"a","time":1,"kind":"k","act":"a","evidence":[1]}',
        '{"id":"a","time":1,"kind":"k","act":"a","evidence":[{"text":"t"}]}',
        '{"id":"a","time":1,"kind":"k","act":"a","evidence":[{"what":"t","offset":"0"}]}',
        '{"id":"a","time":1,"kind":"k","act":"a","recipients":["a",1]}',
        '{"id":"a","time":1,"kind":"k","act":"a","user":1}',
        f'{{"id":"a","time":{"9" * 400},"kind":"k","act":"a"}}',
        "[" * 100_000,
        " " * (3 * MOST_LINE),
    ],
)
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        from_json(line)


def test_what_another_version_wrote_is_read_as_far_as_it_is_known() -> None:
    record = {"id": "a", "time": 1, "kind": "k", "act": "block", "later": {"x": 1}}
    assert from_record(record) == Event("a", 1.0, "k", "block")


def test_nothing_that_a_terminal_acts_upon_is_visible() -> None:
    shown = visible(HOSTILE)
    assert shown.isprintable()
    assert "\\u001b[2J" in shown
    assert "\\u202e" in shown
    assert "\U0001f600" in shown
    assert visible("x" * 50, 10) == "xxxxxxxxx…"
    assert visible("\U000e0001") == "\\U000e0001"
