"""Ages, lifetimes, and who takes what is stale (RFC 9111 4.2, RFC 5861, RFC 8246)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.directive import request_control
from sslintercept.cache.field import MAX_SECONDS
from sslintercept.cache.fresh import (
    HEURISTIC,
    NEGATIVE,
    Policy,
    Use,
    current_age,
    explicit_lifetime,
    forbids_stale,
    judge,
    lifetime,
    survives_error,
    time_to_live,
)
from sslintercept.cache.message import Answered, Stored
from tests.cache.build import DATE, EARLIER, HOUR, NOW, OPEN, PLAIN, TAG, answer

EXPIRES = "Expires: Sun, 06 Nov 1994 08:51:17 GMT"
"""100 s after DATE"""


@pytest.mark.parametrize(
    ("lines", "requested", "received", "now", "age"),
    [
        pytest.param([DATE], NOW, NOW, NOW, 0, id="just made"),
        pytest.param([DATE], NOW, NOW, NOW + 9, 9, id="resident time"),
        pytest.param([DATE], NOW + 5, NOW + 5, NOW + 5, 5, id="apparent age"),
        pytest.param([DATE, "Age: 30"], NOW, NOW, NOW, 30, id="age of an upstream cache"),
        pytest.param([DATE, "Age: 30"], NOW - 4, NOW, NOW, 34, id="the delay of the response is added"),
        pytest.param([DATE, "Age: 1"], NOW + 50, NOW + 50, NOW + 50, 50, id="the greater of both"),
        pytest.param([DATE], NOW - 99, NOW - 99, NOW - 99, 0, id="an origin whose clock is ahead"),
        pytest.param(["Age: 3"], NOW, NOW, NOW, 3, id="no Date: it was made when it came"),
        pytest.param([DATE, "Age: 30"], NOW, NOW, NOW - 99, 30, id="our clock went back"),
        pytest.param([DATE, "Age: 30"], NOW + 9, NOW, NOW, 30, id="our clock went back on the way"),
        pytest.param([DATE, "Age: 9999999999"], NOW, NOW, NOW + 9, MAX_SECONDS, id="2^31 stands for more (1.2.2)"),
    ],
)
def test_age_is_the_greatest_that_anybody_tells(
    lines: list[str], requested: float, received: float, now: float, age: float
) -> None:
    """RFC 9111 4.2.3"""
    assert current_age(answer(*lines, requested=requested, received=received), now) == age


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        pytest.param(["Cache-Control: s-maxage=1, max-age=2", EXPIRES], 1, id="s-maxage goes first (5.2.2.10, 5.3)"),
        pytest.param(["Cache-Control: max-age=2", EXPIRES], 2, id="then max-age (5.3)"),
        pytest.param(["Cache-Control: max-age=x", EXPIRES], 0, id="also if it is malformed (4.2.1)"),
        pytest.param([EXPIRES], 100, id="then Expires without Date (4.2.1)"),
        pytest.param(["Expires: 0"], 0, id="which has passed if it is no date (5.3)"),
        pytest.param(["Expires: Sun, 06 Nov 1994 08:00:00 GMT"], 0, id="or if it has"),
        pytest.param([EXPIRES, "Expires: 0"], 0, id="or if it is said twice (4.2.1)"),
        pytest.param(["Expires: Sun, 06 Nov 9994 08:00:00 GMT"], MAX_SECONDS, id="2^31 stands for more (1.2.2)"),
        pytest.param(['Cache-Control: max-age=9, x="'], 0, id="what nobody can read is stale (4.2.1)"),
        pytest.param([EARLIER], None, id="Last-Modified is not explicit (4.2.1)"),
    ],
)
def test_a_lifetime_is_told_by_the_first_that_tells_one(lines: list[str], seconds: float | None) -> None:
    """RFC 9111 4.2.1"""
    assert explicit_lifetime(answer(DATE, *lines)) == seconds


def test_expires_is_compared_with_the_time_of_arrival_where_there_is_no_date() -> None:
    """RFC 9111 4.2.1"""
    assert explicit_lifetime(answer(EXPIRES, received=NOW + 40)) == 60


@pytest.mark.parametrize(
    ("lines", "status", "policy", "seconds"),
    [
        pytest.param([EARLIER], 200, PLAIN, 100, id="a tenth of the time since Last-Modified"),
        pytest.param([EARLIER], 200, Policy(longest=60), 60, id="but not more than the policy says"),
        pytest.param([EARLIER], 200, Policy(fraction=0), 0, id="nothing, if the policy says so"),
        pytest.param([EARLIER, "Cache-Control: max-age=1"], 200, PLAIN, 1, id="not beside an explicit time"),
        pytest.param([EARLIER, "Expires: 0"], 200, PLAIN, 0, id="not beside one that has passed"),
        pytest.param([], 200, PLAIN, 0, id="not without Last-Modified"),
        pytest.param(["Last-Modified: Sun, 06 Nov 2094 08:32:57 GMT"], 200, PLAIN, 0, id="not from the future"),
        pytest.param([EARLIER], 302, PLAIN, 0, id="not for every status"),
        pytest.param([EARLIER, "Cache-Control: public"], 302, PLAIN, 100, id="unless it is public"),
        pytest.param([], 404, PLAIN, 0, id="nothing there, by default"),
        pytest.param([EARLIER], 404, Policy(negative=7), 7, id="nothing there, by the policy"),
        pytest.param([HOUR], 404, Policy(negative=7), 3600, id="nothing there, by its own word"),
    ],
)
def test_a_heuristic_stands_in_for_what_nobody_tells(
    lines: list[str], status: int, policy: Policy, seconds: float
) -> None:
    """RFC 9111 4.2.2"""
    assert lifetime(answer(DATE, *lines, status=status), policy) == seconds


@pytest.mark.parametrize("status", sorted(HEURISTIC - NEGATIVE))
def test_a_heuristic_is_for_these_statuses(status: int) -> None:
    """RFC 9110 15.1"""
    assert lifetime(answer(DATE, EARLIER, status=status), PLAIN) == 100


JUDGED = [
    # (response, request, seconds later, use)
    pytest.param("max-age=10", "", 9, Use.FRESH, id="fresh (4.2)"),
    pytest.param("max-age=10", "", 10, Use.NO, id="no longer fresh: the age has reached the lifetime (4.2)"),
    pytest.param("max-age=10, no-cache", "", 1, Use.NO, id="no-cache goes before max-age (4, 5.2.2.4)"),
    pytest.param('max-age=10, no-cache="x"', "", 1, Use.FRESH, id="no-cache of fields (5.2.2.4)"),
    pytest.param("max-age=10", "no-cache", 1, Use.NO, id="no-cache of the request (5.2.1.4)"),
    pytest.param("max-age=10", "max-age=5", 5, Use.FRESH, id="young enough (5.2.1.1)"),
    pytest.param("max-age=10", "max-age=5", 6, Use.NO, id="too old for the client (5.2.1.1)"),
    pytest.param("max-age=10", "max-age=5, max-stale", 6, Use.NO, id="too old, although stale is taken (5.2.1.1)"),
    pytest.param("max-age=10", "min-fresh=4", 6, Use.FRESH, id="fresh for long enough (5.2.1.3)"),
    pytest.param("max-age=10", "min-fresh=4", 7, Use.NO, id="not fresh for long enough (5.2.1.3)"),
    pytest.param("max-age=10", "min-fresh=1, max-stale", 11, Use.NO, id="min-fresh goes before max-stale"),
    pytest.param("max-age=10", "max-stale", 99999, Use.STALE, id="stale is taken (4.2.4, 5.2.1.2)"),
    pytest.param("max-age=10", "max-stale=5", 15, Use.STALE, id="stale is taken up to a limit (5.2.1.2)"),
    pytest.param("max-age=10", "max-stale=5", 16, Use.NO, id="too stale (5.2.1.2)"),
    pytest.param("max-age=10", "max-stale=0", 10, Use.NO, id="no staleness at all"),
    pytest.param("max-age=10, must-revalidate", "max-stale", 11, Use.NO, id="must-revalidate (4.2.4, 5.2.2.2)"),
    pytest.param("max-age=10, must-revalidate", "", 9, Use.FRESH, id="must-revalidate while it is fresh (5.2.2.2)"),
    pytest.param("max-age=10, proxy-revalidate", "max-stale", 11, Use.NO, id="proxy-revalidate (5.2.2.8)"),
    pytest.param("s-maxage=10", "max-stale", 11, Use.NO, id="s-maxage is proxy-revalidate (5.2.2.10)"),
    pytest.param("max-age=10, stale-while-revalidate=5", "", 14, Use.REFRESH, id="RFC 5861 3"),
    pytest.param("max-age=10, stale-while-revalidate=5", "", 15, Use.NO, id="RFC 5861 3, too late"),
    pytest.param("max-age=10, stale-while-revalidate=5, must-revalidate", "", 11, Use.NO, id="RFC 5861 3, forbidden"),
    pytest.param("max-age=10, stale-while-revalidate=5", "max-age=9", 11, Use.NO, id="RFC 5861 3, not for the client"),
    pytest.param("max-age=10, immutable", "max-age=0", 9, Use.FRESH, id="RFC 8246 2.1: a reload"),
    pytest.param("max-age=10, immutable", "no-cache", 9, Use.NO, id="RFC 8246 2.1: a reload that means it"),
    pytest.param("max-age=10, immutable", "", 11, Use.NO, id="RFC 8246 2: only while it is fresh"),
    pytest.param("max-age=10, immutable", "max-age=0", 11, Use.NO, id="RFC 8246 2.1: a reload of what is stale"),
]


@pytest.mark.parametrize(("response", "request_", "later", "use"), JUDGED)
def test_a_stored_response_is_used_unasked(response: str, request_: str, later: int, use: Use) -> None:
    stored = Stored(answer(DATE, f"Cache-Control: {response}"))
    assert judge(stored, request_control([request_.encode()]), True, PLAIN, NOW + later).use is use


@pytest.mark.parametrize(
    ("value", "forbidden"),
    [
        ("max-age=1, stale-if-error=9, public", False),
        ("no-cache", True),
        ("must-revalidate", True),
        ("proxy-revalidate", True),
        ("s-maxage=1", True),
        ('x="', True),
        ('no-cache="x"', False),
    ],
)
def test_a_directive_forbids_what_is_stale(value: str, forbidden: bool) -> None:
    """RFC 9111 4.2.4, 4.2.1"""
    assert forbids_stale(answer(f"Cache-Control: {value}").control) is forbidden


def test_immutable_counts_only_inside_tls() -> None:
    """RFC 8246 3"""
    stored = Stored(answer(DATE, "Cache-Control: max-age=10, immutable"))
    assert judge(stored, request_control([b"max-age=0"]), False, PLAIN, NOW + 1).use is Use.NO


def test_what_was_invalidated_is_not_used_although_it_is_fresh() -> None:
    """RFC 9111 4.4"""
    stored = Stored(answer(DATE, HOUR), invalid=True)
    assert judge(stored, request_control([b"max-stale"]), True, PLAIN, NOW).use is Use.NO
    assert not survives_error(stored, request_control([b"stale-if-error=99"]), PLAIN, NOW)


@pytest.mark.parametrize(
    ("response", "request_", "later", "may"),
    [
        pytest.param("max-age=10, stale-if-error=5", "", 14, True, id="the response allows it"),
        pytest.param("max-age=10, stale-if-error=5", "", 15, False, id="not for so long"),
        pytest.param("max-age=10", "stale-if-error=5", 14, True, id="the request allows it"),
        pytest.param("max-age=10", "", 11, False, id="nobody allows it (RFC 9111 4.2.4)"),
        pytest.param("max-age=10, stale-if-error=5, must-revalidate", "", 11, False, id="it is forbidden (5.2.2.2)"),
        pytest.param("max-age=10, stale-if-error=5, s-maxage=10", "", 11, False, id="by s-maxage, too (5.2.2.10)"),
        pytest.param("max-age=10, stale-if-error=5, no-cache", "", 1, False, id="by no-cache, too (5.2.2.4)"),
        pytest.param("max-age=10, stale-if-error=5", "no-cache", 11, False, id="the client wants no stored one"),
        pytest.param("max-age=10, stale-if-error=5", "max-age=10", 11, False, id="nor one so old"),
        pytest.param("max-age=10, stale-if-error=5", "min-fresh=1", 11, False, id="nor a stale one"),
        pytest.param("max-age=10", "", 9, True, id="it is fresh"),
        pytest.param("max-age=10", "min-fresh=5", 9, False, id="but not as the client wants it"),
    ],
)
def test_a_stored_response_stands_in_for_an_origin_that_fails(
    response: str, request_: str, later: int, may: bool
) -> None:
    """RFC 5861 4"""
    stored = Stored(answer(DATE, f"Cache-Control: {response}"))
    assert survives_error(stored, request_control([request_.encode()]), PLAIN, NOW + later) is may


TIMES = st.floats(-(2.0**40), 2.0**40)
RESPONSES = st.builds(
    lambda base, date, age, expires, modified, requested, received: replace(
        base, date=date, age=age, expires=expires, last_modified=modified, requested=requested, received=received
    ),
    st.sampled_from([answer(), answer(HOUR), answer("Cache-Control: s-maxage=5"), answer(TAG, status=404)]),
    st.none() | st.integers(-(2**40), 2**40),
    st.integers(0, MAX_SECONDS),
    st.none() | st.integers(-(2**40), 2**40),
    st.none() | st.integers(-(2**40), 2**40),
    TIMES,
    TIMES,
)


@given(RESPONSES, TIMES, st.floats(0, 2.0**32))
def test_age_is_never_negative_and_never_falls(response: Answered, now: float, later: float) -> None:
    """RFC 9111 4.2.3"""
    age = current_age(response, now)
    assert 0 <= age <= current_age(response, now + later) <= MAX_SECONDS


@given(RESPONSES, TIMES)
def test_what_is_fresh_is_younger_than_its_lifetime(response: Answered, now: float) -> None:
    """RFC 9111 4.2"""
    is_fresh = judge(Stored(response), request_control([]), True, OPEN, now).use is Use.FRESH
    assert is_fresh == (current_age(response, now) < lifetime(response, OPEN))
    assert is_fresh == (time_to_live(response, OPEN, now) > 0)
    assert 0 <= lifetime(response, OPEN) <= MAX_SECONDS


@given(RESPONSES, TIMES, st.floats(0, 2.0**32))
def test_what_is_stale_stays_stale(response: Answered, now: float, later: float) -> None:
    """RFC 9111 4.2"""
    assert time_to_live(response, OPEN, now + later) <= time_to_live(response, OPEN, now)
