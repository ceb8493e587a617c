"""Messages of syslog: what RFC 5424 asks for, with any text in an event."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.event.record import Trace, from_json
from sslintercept.event.syslog import MOST_MESSAGE, Origin, frame, lost, message
from tests.event.events import event

ORIGIN = Origin("gateway.test", 4711, "0.1.0")
VALUE = rb'"(?:[^"\\\]]|\\["\\\]])*"'
ELEMENT = rb"\[[!-~]{1,32}(?: [a-zA-Z]{1,32}=" + VALUE + rb")*\]"
MESSAGE = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) (sslintercept) (\d{1,128}) ([!-~]{1,32}) "
    rb"((?:" + ELEMENT + rb")+) (.*)"
)
"""RFC 5424 6, as far as we use it"""


def taken_apart(data: bytes) -> list[bytes]:
    found = MESSAGE.fullmatch(data)
    assert found, data
    return list(found.groups())


def test_a_message_is_what_rfc_5424_says() -> None:
    made = event()
    pri, time, host, _, process, kind, data, text = taken_apart(message(made, ORIGIN))
    assert (pri, time) == (b"132", b"2026-11-30T00:53:20.250000Z")
    assert (host, process, kind) == (b"gateway.test", b"4711", b"malware")
    assert data == (
        b'[origin software="sslintercept" swVersion="0.1.0"]'
        b'[sslintercept@32473 id="c1f3a-3" kind="malware" act="block" inspector="av" name="Eicar-Test-Signature" '
        b'client="192.0.2.7" host="files.test"]'
    )
    assert from_json(text) == made


@pytest.mark.parametrize(
    ("kind", "act", "severity"),
    [
        ("site", "pass", 6),
        ("site", "report", 5),
        ("site", "tag", 5),
        ("leak", "redact", 4),
        ("leak", "replace", 4),
        ("leak", "block", 4),
        ("malware", "quarantine", 4),
        ("failure", "pass", 3),
        ("odd", "odd", 5),
    ],
)
def test_the_severity_tells_what_was_done(kind: str, act: str, severity: int) -> None:
    pri = int(taken_apart(message(event(kind=kind, act=act), ORIGIN))[0])
    assert (pri // 8, pri % 8) == (16, severity)


@given(st.text(), st.text(), st.floats())
def test_any_event_makes_one_message(word: str, text: str, time: float) -> None:
    made = event(id=word, kind=word, name=text, client=text, host=text, inspector=text, time=time, url=text)
    data = message(made, Origin(text, 1, "1"))
    assert b"\n" not in data
    assert from_json(taken_apart(data)[7]) == made


@pytest.mark.parametrize("char", ["x", '"', "\x00", "\U0001f600", "\U000e0001"])
def test_a_message_is_never_longer_than_collectors_take(char: str) -> None:
    long = char * 10_000
    names = ("id", "kind", "act", "inspector", "name", "client", "host", "url", "reason", "part", "sender", "user")
    made = event(**dict.fromkeys(names, long), evidence=(Trace(long, long, long),) * 64, recipients=(long,) * 100)
    data = message(made, Origin(long, 1, "1"))
    assert len(data) <= MOST_MESSAGE
    assert from_json(taken_apart(data)[7]).time == made.time


def test_what_was_lost_is_told_in_a_message() -> None:
    parts = taken_apart(lost(17, 0.0, ORIGIN))
    assert parts[0] == b"131"
    assert parts[5:] == [
        b"dropped",
        b'[origin software="sslintercept" swVersion="0.1.0"][sslintercept@32473 dropped="17"]',
        b"17 events were not sent",
    ]


def test_a_frame_counts_bytes() -> None:
    assert frame("ü\n".encode()) == b"3 \xc3\xbc\n"
