"""What a client gets from the cache (RFC 9111 4, 4.3.2; RFC 9110 13.2.2, 14, 15.4.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sslintercept.cache.message import Span, Stored
from sslintercept.cache.reply import Reply, not_modified, reply
from tests.cache.build import DATE, EARLIER, HOUR, NOW, TAG, answer, ask, fields, store, values

WHOLE = store(DATE, HOUR, TAG, EARLIER, "Content-Length: 100", "X: 1", "Age: 7")
UNDATED = store(DATE, HOUR, TAG)
SINCE = "If-Modified-Since:" + EARLIER.partition(":")[2]
NOW_ = "If-Modified-Since:" + DATE.partition(":")[2]
BEFORE = "If-Modified-Since: Sun, 06 Nov 1994 08:32:56 GMT"


@pytest.mark.parametrize(
    ("lines", "stored", "has"),
    [
        pytest.param([], WHOLE, False, id="no precondition"),
        pytest.param(['If-None-Match: "a"'], WHOLE, True, id="the same tag"),
        pytest.param(['If-None-Match: "b", W/"a"'], WHOLE, True, id="compared weakly (RFC 9110 13.1.2)"),
        pytest.param(['If-None-Match: "b"'], WHOLE, False, id="another tag"),
        pytest.param(["If-None-Match: *"], WHOLE, True, id="any (RFC 9110 13.1.2)"),
        pytest.param(["If-None-Match: a"], WHOLE, False, id="malformed"),
        pytest.param(['If-None-Match: "b"', SINCE], WHOLE, False, id="tags go before dates (4.3.2)"),
        pytest.param([SINCE], WHOLE, True, id="the same date"),
        pytest.param([NOW_], WHOLE, True, id="a later date"),
        pytest.param([BEFORE], WHOLE, False, id="an earlier date"),
        pytest.param(["If-Modified-Since: x"], WHOLE, False, id="no date (RFC 9110 13.1.3)"),
        pytest.param([SINCE, NOW_], WHOLE, False, id="two dates"),
        pytest.param([SINCE], UNDATED, False, id="without Last-Modified, Date counts (4.3.2)"),
        pytest.param([NOW_], UNDATED, True, id="without Last-Modified, Date counts, and is not later (4.3.2)"),
        pytest.param([NOW_], Stored(answer(TAG)), True, id="without Date, when it came counts (4.3.2)"),
        pytest.param([NOW_], Stored(answer(TAG, received=NOW + 1)), False, id="without Date, and it came later"),
        pytest.param(['If-None-Match: "a"'], store(TAG, HOUR, status=404), False, id="only a 200 is compared"),
    ],
)
def test_preconditions_are_evaluated(lines: list[str], stored: Stored, has: bool) -> None:
    """RFC 9111 4.3.2"""
    for method in ("GET", "HEAD"):
        assert not_modified(ask(*lines, method=method), stored) is has


def test_preconditions_of_other_methods_are_not_evaluated() -> None:
    """RFC 9111 4.3.2"""
    assert not not_modified(ask("If-None-Match: *", method="PUT"), WHOLE)


def got(*lines: str, stored: Stored = WHOLE, method: str = "GET", now: float = NOW) -> Reply:
    found = reply(ask(*lines, method=method), stored, now)
    assert found is not None
    return found


@pytest.mark.parametrize("lines", [[], ["Range: bytes=0-9"], ['If-None-Match: "a"']])
def test_one_age_is_said_and_it_is_the_current_one(lines: list[str]) -> None:
    """RFC 9111 4, 5.1"""
    assert values(got(*lines, now=NOW + 3.9).fields, "Age") == ["10"]


def test_the_whole_is_sent_as_it_came() -> None:
    status, found, span = got()
    assert (status, span) == (200, Span(0, 100))
    assert values(found, "X") == ["1"]
    assert values(found, "Content-Length") == ["100"]
    assert got(stored=replace(WHOLE, total=None)).span == Span(0, -1)
    assert got(stored=store(HOUR, status=404)).status == 404


def test_head_gets_no_content() -> None:
    status, found, span = got("Range: bytes=0-9", method="HEAD")
    assert (status, span) == (200, None)
    assert values(found, "Content-Length") == ["100"]


def test_a_304_has_the_fields_that_it_must_have() -> None:
    """RFC 9110 15.4.5"""
    status, found, span = got('If-None-Match: "a"')
    assert (status, span) == (304, None)
    assert [name for name, _ in found] == [b"Date", b"Cache-Control", b"ETag", b"Age"]
    dated = got(SINCE, stored=store(DATE, HOUR, EARLIER, "X: 1")).fields
    assert [name for name, _ in dated] == [b"Date", b"Cache-Control", b"Last-Modified", b"Age"]


def test_a_part_is_marked_as_one() -> None:
    """RFC 9111 3.3, RFC 9110 15.3.7"""
    status, found, span = got("Range: bytes=10-19")
    assert (status, span) == (206, Span(10, 20))
    assert values(found, "Content-Range") == ["bytes 10-19/100"]
    assert values(found, "Content-Length") == ["10"]
    assert values(found, "X") == ["1"]


def test_a_precondition_goes_before_a_range() -> None:
    """RFC 9110 13.2.2"""
    assert got("Range: bytes=10-19", 'If-None-Match: "a"').status == 304


def test_a_range_behind_the_end_is_refused() -> None:
    """RFC 9110 15.5.17"""
    assert got("Range: bytes=100-") == Reply(416, fields(["Content-Range: bytes */100", "Content-Length: 0"]), None)


def test_bytes_that_are_not_kept_are_not_answered() -> None:
    """RFC 9111 3.3"""
    parts = replace(WHOLE, spans=(Span(0, 10),))
    assert reply(ask(), parts, NOW) is None
    assert reply(ask("Range: bytes=5-15"), parts, NOW) is None
    assert got("Range: bytes=5-9", stored=parts).span == Span(5, 10)
