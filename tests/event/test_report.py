"""What C{sslintercept events} says: times, filters, lines for people, nothing that a terminal would act upon."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from sslintercept.errors import ConfigError
from sslintercept.event import report, store
from sslintercept.event.query import Query
from sslintercept.event.record import Event, Trace, from_json
from sslintercept.event.store import EventStore, Keep
from tests.event.events import event
from tests.event.storing import YEAR, here
from tests.event.test_record import HOSTILE

NOW = 1796000000.0


def stored(folder: Path, *events: Event) -> None:
    made = EventStore(folder / store.NAME, Keep(100 * YEAR, 1000), here)
    for each in events:
        made.tell(each)
    made.start()
    made.close(20.0)
    assert made.written == len(events)


def ids(folder: Path, **query: Any) -> list[str]:  # Any: the fields of a query
    return [from_json(line).id for line in report.listed(folder, Query(**query), True)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h", NOW - 3600),
        ("0s", NOW),
        ("7d", NOW - 7 * 86400),
        ("2026-11-30", 1795996800.0),
        ("2026-11-30T01:00", 1796000400.0),
        ("2026-11-30T01:00:00+01:00", 1795996800.0),
        ("2026-11-30 01:00Z", 1796000400.0),
    ],
)
def test_a_time_is_so_long_ago_or_a_date(text: str, seconds: float) -> None:
    assert report.moment(text, "--since", NOW) == seconds


@pytest.mark.parametrize("text", ["", "1", "yesterday", "-1h", "1h1m", "2026-13-01", "\x1b[2J"])
def test_what_is_no_time_is_said_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--since") as caught:
        report.moment(text, "--since", NOW)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1000001", "9" * 100])
def test_what_is_no_number_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match="--limit"):
        report.limit(text)
    assert report.limit("1000000") == 1_000_000


def test_events_are_listed_newest_last_and_only_the_newest(tmp_path: Path) -> None:
    stored(tmp_path, *(event(id=str(number), time=NOW + (number * 7) % 5) for number in range(5)))
    assert ids(tmp_path) == ["0", "3", "1", "4", "2"]
    assert ids(tmp_path, limit=2) == ["4", "2"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "abcd"),
        ({"since": NOW + 1}, "bcd"),
        ({"until": NOW + 1}, "a"),
        ({"since": NOW + 1, "until": NOW + 3}, "bc"),
        ({"id": "c"}, "c"),
        ({"id": "x"}, ""),
        ({"kind": ("leak",)}, "b"),
        ({"kind": ("leak", "site")}, "bc"),
        ({"act": ("report",)}, "b"),
        ({"inspector": ("dlp",)}, "b"),
        ({"client": "2001:db8::1"}, "c"),
        ({"host": "files.test"}, "a"),
        ({"host": "FILES.test"}, "a"),
        ({"host": ".files.test"}, "ab"),
        ({"host": ".test"}, "abcd"),
        ({"host": "%"}, ""),
        ({"host": ".%"}, ""),
        ({"host": "' or 1 --"}, ""),
        ({"kind": ("malware",), "host": "other.test"}, "d"),
    ],
)
def test_filters_hold_all_at_once(tmp_path: Path, query: dict[str, Any], found: str) -> None:
    stored(
        tmp_path,
        event(id="a", time=NOW),
        event(id="b", time=NOW + 1, kind="leak", act="report", inspector="dlp", host="x.Files.test"),
        event(id="c", time=NOW + 2, kind="site", client="2001:db8::1", host="notfiles.test"),
        event(id="d", time=NOW + 3, host="other.test"),
    )
    assert "".join(ids(tmp_path, **query)) == found


def test_a_line_for_people_is_short_and_aligned(tmp_path: Path) -> None:
    stored(tmp_path, event(), event(act="quarantine", kind="phishing", client="198.51.100.177", url="", name="x" * 100))
    assert list(report.listed(tmp_path, Query(), False)) == [
        "2026-11-30 00:53:20Z  c1f3a-3       block       malware    192.0.2.7        av            "
        "Eicar-Test-Signature          http://files.test/report.zip",
        "2026-11-30 00:53:20Z  c1f3a-3       quarantine  phishing   198.51.100.177   av            "
        "xxxxxxxxxxxxxxxxxxxxxxxxxxx…  report.zip > invoice.exe",
    ]


def test_nothing_from_the_network_reaches_a_terminal_as_it_came(tmp_path: Path) -> None:
    names = ("name", "reason", "url", "host", "client", "user", "part", "engine", "inspector", "sender", "media_type")
    made = event(
        **dict.fromkeys(names, HOSTILE), evidence=(Trace(HOSTILE, HOSTILE, HOSTILE, 1, 2, 3),), recipients=(HOSTILE,)
    )
    stored(tmp_path, made)
    for lines in (
        report.listed(tmp_path, Query(), False),
        report.listed(tmp_path, Query(), True),
        report.shown(tmp_path, made.id),
    ):
        for line in lines:
            assert line.isprintable()


def test_an_event_is_shown_with_all_there_is(tmp_path: Path) -> None:
    stored(tmp_path, event(user="anna", recipients=("a@b.test", "c@d.test"), time=0.5))
    shown = list(report.shown(tmp_path, "c1f3a-3"))
    assert shown[:2] == ["id            c1f3a-3", "time          1970-01-01 00:00:00Z (0.500)"]
    assert "evidence      card: 4111 **** 1111 in form > file at 12+16 (score 3)" in shown
    assert [line for line in shown if line.startswith("recipient")] == [
        "recipient     a@b.test",
        "recipient     c@d.test",
    ]
    assert "user          anna" in shown
    assert not any(line.startswith("sender") for line in shown)


def test_two_events_of_one_id_are_both_shown(tmp_path: Path) -> None:
    stored(tmp_path, event(name="first"), event(name="second"))
    shown = list(report.shown(tmp_path, "c1f3a-3"))
    assert [line for line in shown if line.startswith("name") or not line] == [
        "name          first",
        "",
        "name          second",
    ]


def test_an_event_that_is_not_there_is_said(tmp_path: Path) -> None:
    stored(tmp_path, event())
    with pytest.raises(ConfigError, match=r"there is no event x\\u001b"):
        list(report.shown(tmp_path, "x\x1b"))


def test_a_line_that_is_no_event_hides_no_other(tmp_path: Path) -> None:
    assert list(report.each(["{}", "x"], report.brief)) == [
        "(unreadable: not an event)",
        "(unreadable: Expecting value: line 1 column 1 (char 0))",
    ]
    assert list(report.full("{}")) == ["(unreadable: not an event)"]


def test_times_that_no_calendar_has_are_numbers() -> None:
    assert report.when(1e18) == "1000000000000000000"


def test_where_nothing_is_stored_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no events have been stored"):
        list(report.listed(tmp_path, Query(), True))


def test_a_store_that_is_just_being_made_is_empty(tmp_path: Path) -> None:
    (tmp_path / store.NAME).touch()
    assert ids(tmp_path) == []


def test_what_is_no_store_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / store.NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match=r"events\.db"):
        list(report.listed(tmp_path, Query(), True))


def test_a_terminal_that_knows_few_characters_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert report.say(["ü"]) == 0
    assert raw.getvalue() == b"\\xfc\n"
