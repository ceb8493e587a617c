"""May it be stored, may it be used, what is asked of the origin, and what then (RFC 9111 3, 4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.decide import (
    BARS,
    OF_THE_REQUEST,
    UNDERSTOOD,
    After,
    Bar,
    Conditional,
    Do,
    Plan,
    Then,
    after,
    bar_to,
    bar_to_stay,
    conditional,
    cut_short,
    may_collapse,
    plan,
    stored_as,
    suitable,
)
from sslintercept.cache.field import MAX_MEMBERS
from sslintercept.cache.fresh import FAILURES, HEURISTIC, Policy
from sslintercept.cache.message import Answered, Asked, Span, Stored
from sslintercept.cache.status import Forward
from sslintercept.cache.update import validated
from sslintercept.facts import Address
from tests.cache.build import DATE, EARLIER, HOUR, NOW, OPEN, PLAIN, TAG, answer, ask, fields, store, values

FRESH = [DATE, HOUR, TAG]
RANGE = "Range: bytes=0-9"
PART = [*FRESH, "Content-Range: bytes 0-9/100"]


def cc(value: str) -> str:
    return f"Cache-Control: {value}"


LOGIN = ask("Authorization: x")

STORED = [
    pytest.param(ask(), answer(*FRESH), id="max-age (3, 5.2.2.1)"),
    pytest.param(ask(), answer(DATE, cc("s-maxage=1")), id="s-maxage (3, 5.2.2.10)"),
    pytest.param(ask(), answer(DATE, "Expires: Sun, 06 Nov 2094 08:49:37 GMT"), id="Expires (3)"),
    pytest.param(ask(), answer(DATE, TAG, cc("public"), status=302), id="public (3, 5.2.2.9)"),
    pytest.param(ask(), answer(DATE, EARLIER), id="a heuristic (3, 4.2.2)"),
    pytest.param(ask(), answer(DATE, HOUR, status=302), id="a status that is only kept with a time (3)"),
    pytest.param(ask(), answer(DATE, HOUR, status=299), id="a status that nobody knows, with a time (3)"),
    pytest.param(ask(), answer(DATE, TAG, cc("no-cache")), id="no-cache, which can be validated (5.2.2.4)"),
    pytest.param(ask(), answer(DATE, TAG, "Pragma: no-cache"), id="Pragma, which is no-cache (5.4)"),
    pytest.param(ask(), answer(DATE, cc("max-age=0"), TAG), id="stale, but it can be validated (3)"),
    pytest.param(ask(), answer(DATE, cc("max-age=0, stale-while-revalidate=9")), id="useful while it is stale"),
    pytest.param(ask(), answer(DATE, cc("max-age=0, stale-if-error=9")), id="useful while the origin fails"),
    pytest.param(ask(), answer(DATE, cc('max-age=9, private="x"')), id="private of some fields (5.2.2.7)"),
    pytest.param(ask(), answer(DATE, HOUR, cc("must-understand, no-store")), id="must-understand (5.2.2.3)"),
    pytest.param(ask(), answer(*FRESH, "Vary: Accept"), id="Vary (4.1)"),
    pytest.param(ask(), answer(DATE, cc("max-age=9, public"), "Set-Cookie: a"), id="Set-Cookie that is public (7.3)"),
    pytest.param(ask(), answer(DATE, cc("s-maxage=9"), "Set-Cookie: a"), id="Set-Cookie for shared caches (7.3)"),
    pytest.param(LOGIN, answer(*FRESH, cc("public")), id="Authorization and public (3.5)"),
    pytest.param(LOGIN, answer(DATE, cc("s-maxage=9")), id="Authorization and s-maxage (3.5)"),
    pytest.param(LOGIN, answer(*FRESH, cc("must-revalidate")), id="Authorization and must-revalidate (3.5)"),
    pytest.param(ask(RANGE), answer(*PART, status=206), id="a part (3.3)"),
    pytest.param(ask(cc("no-cache, max-age=0")), answer(*FRESH), id="a request that asks anew (5.2.1)"),
    pytest.param(ask(scheme="https"), answer(*FRESH), id="decrypted, if the policy allows it"),
]


@pytest.mark.parametrize(("request_", "response"), STORED)
def test_a_response_is_stored(request_: Asked, response: Answered) -> None:
    assert bar_to(request_, response, OPEN) is None
    assert stored_as(request_, response, OPEN) is not None


NOT_STORED = [
    pytest.param(ask(method="HEAD"), answer(*FRESH), "the method", id="HEAD"),
    pytest.param(ask(method="POST"), answer(*FRESH, cc("public")), "the method", id="POST (3)"),
    pytest.param(ask(method="FROB"), answer(*FRESH, cc("public")), "the method", id="a method nobody knows (3)"),
    pytest.param(ask(length=5), answer(*FRESH), "the request has content", id="GET with content"),
    pytest.param(ask(upgrade=b"h2c"), answer(*FRESH), "the request has content", id="an upgrade"),
    pytest.param(ask(target="*"), answer(*FRESH), "the target", id="no key (2)"),
    pytest.param(ask(), answer(*FRESH, status=103), "the status is not final", id="an interim response (3)"),
    pytest.param(ask(), answer(*FRESH, status=304), "it is news", id="304 (3)"),
    pytest.param(ask(), answer(*FRESH, status=416), "the status speaks", id="416"),
    pytest.param(ask(), answer(*FRESH, cc('x="')), "Cache-Control", id="malformed (4.2.1)"),
    pytest.param(ask(), answer(*FRESH, cc("must-understand"), status=299), "must-understand", id="not understood (3)"),
    pytest.param(
        ask(), answer(*FRESH, cc("must-understand, no-store"), status=299), "must-understand", id="nor then (5.2.2.3)"
    ),
    pytest.param(ask(cc("no-store")), answer(*FRESH), "no-store of the request", id="no-store (5.2.1.5)"),
    pytest.param(ask(), answer(*FRESH, cc("no-store")), "no-store of the response", id="no-store (3, 5.2.2.5)"),
    pytest.param(ask(), answer(*FRESH, cc("No-Store")), "no-store of the response", id="in any case (5.2)"),
    pytest.param(ask(), answer(*FRESH, cc("private")), "private", id="private (3, 5.2.2.7)"),
    pytest.param(ask(), answer(*FRESH, cc("private, public")), "private", id="private beside public (4.2.1)"),
    pytest.param(LOGIN, answer(*FRESH), "Authorization", id="Authorization (3, 3.5)"),
    pytest.param(LOGIN, answer(*FRESH, cc("proxy-revalidate")), "Authorization", id="which is no consent (3.5)"),
    pytest.param(ask(), answer(DATE, TAG, status=302), "nothing permits it", id="no time, no heuristic (3)"),
    pytest.param(ask(), answer(DATE, TAG, cc('private="x"'), status=302), "nothing permits it", id="private is none"),
    pytest.param(ask(), answer(*FRESH, "Vary: *"), "Vary", id="Vary: * (4.1)"),
    pytest.param(ask(f"X: {'a' * 9000}"), answer(*FRESH, "Vary: X"), "Vary", id="too much that it varies on"),
    pytest.param(ask(), answer(*FRESH, "Set-Cookie: a"), "Set-Cookie", id="Set-Cookie (7.3)"),
    pytest.param(ask(), answer(*PART, status=206), "a part", id="a part that was not asked for"),
    pytest.param(ask(RANGE), answer(*FRESH, status=206), "a part", id="several parts"),
    pytest.param(ask(RANGE), answer(DATE, HOUR, EARLIER, PART[3], status=206), "a part", id="a part without a tag"),
    pytest.param(ask(RANGE), answer(DATE, HOUR, 'ETag: W/"a"', PART[3], status=206), "a part", id="with a weak one"),
    pytest.param(
        ask("Range: pages=1"),
        answer(*FRESH, "Content-Range: pages 1-1/2", status=206),
        "a part",
        id="other units (3.3)",
    ),
    pytest.param(ask(), answer(DATE), "neither fresh", id="no time and no validator (3)"),
    pytest.param(ask(), answer(DATE, cc("max-age=9, no-cache")), "neither fresh", id="no-cache without a validator"),
    pytest.param(ask(), answer(DATE, status=404), "neither fresh", id="nothing there"),
]


@pytest.mark.parametrize(("request_", "response", "reason"), NOT_STORED)
def test_a_response_is_not_stored(request_: Asked, response: Answered, reason: str) -> None:
    bar = bar_to(request_, response, OPEN)
    assert bar is not None
    assert bar.reason.startswith(reason)
    assert stored_as(request_, response, OPEN) is None


def test_what_was_decrypted_is_stored_only_if_that_is_allowed() -> None:
    request, response = ask(scheme="https"), answer(*FRESH)
    bar = bar_to(request, response, PLAIN)
    assert bar is not None
    assert bar.reason == "it was decrypted"
    assert bar_to(ask(), response, PLAIN) is None


def test_parts_are_stored_only_if_that_is_allowed() -> None:
    """RFC 9111 3.3"""
    assert bar_to(ask(RANGE), answer(*PART, status=206), Policy(partial=False)) is not None


def test_what_is_not_there_is_stored_if_the_policy_says_for_how_long() -> None:
    """RFC 9111 4.2.2"""
    assert bar_to(ask(), answer(DATE, status=404), Policy(negative=5)) is None


@pytest.mark.parametrize("status", sorted(OF_THE_REQUEST))
def test_a_status_about_the_request_is_not_stored_whatever_it_says(status: int) -> None:
    bar = bar_to(ask(), answer(*FRESH, cc("public"), status=status), OPEN)
    assert bar is not None
    assert status not in UNDERSTOOD or status == 206


@pytest.mark.parametrize("status", sorted(HEURISTIC - {206}))
def test_these_statuses_are_stored_without_a_time(status: int) -> None:
    """RFC 9111 3, RFC 9110 15.1"""
    assert bar_to(ask(), answer(DATE, TAG, EARLIER, status=status), OPEN) is None


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: bar.reason)
def test_every_bar_is_in_the_page_about_decisions(bar: Bar) -> None:
    page = (Path(__file__).parents[2] / "docs" / "caching-decisions.md").read_text()
    assert f"| {bar.reason} | {bar.section} |" in page


def test_a_stored_response_has_what_came() -> None:
    """RFC 9111 3.1"""
    stored = store(*FRESH, "Content-Length: 7", "Vary: X", "Connection: close", request=ask("X: 1"))
    assert stored.response.fields == fields([*FRESH, "Content-Length: 7", "Vary: X"])
    assert stored.variant == ((b"x", b"1"),)
    assert (stored.total, stored.spans, stored.authorized, stored.invalid) == (7, None, False, False)
    assert store(*FRESH).total is None
    assert store(*FRESH, cc("public"), request=LOGIN).authorized


def test_a_part_is_stored_as_an_incomplete_200() -> None:
    """RFC 9111 3.3"""
    stored = store(*PART, "Content-Length: 10", request=ask(RANGE), status=206)
    assert stored.response.status == 200
    assert values(stored.response.fields, "Content-Range") == []
    assert values(stored.response.fields, "Content-Length") == ["100"]
    assert (stored.total, stored.spans) == (100, (Span(0, 10),))
    endless = store(*FRESH, "Content-Range: bytes 0-9/*", "Content-Length: 10", request=ask(RANGE), status=206)
    assert values(endless.response.fields, "Content-Length") == []
    assert (endless.total, endless.spans) == (None, (Span(0, 10),))
    whole = store(*FRESH, "Content-Range: bytes 0-9/10", request=ask(RANGE), status=206)
    assert (whole.total, whole.spans) == (10, None)


WHOLE = store(*FRESH, EARLIER, "Content-Length: 100")


def test_what_was_cut_short_is_kept_as_incomplete() -> None:
    """RFC 9111 3.3"""
    assert cut_short(WHOLE, 40, OPEN) == replace(WHOLE, spans=(Span(0, 40),))
    assert cut_short(WHOLE, 100, OPEN) is WHOLE


@pytest.mark.parametrize(
    ("stored", "count", "policy"),
    [
        pytest.param(WHOLE, 0, OPEN, id="nothing came"),
        pytest.param(WHOLE, 40, Policy(partial=False), id="parts are not kept"),
        pytest.param(store(*FRESH), 40, OPEN, id="nobody knows of how much"),
        pytest.param(store(DATE, HOUR, "Content-Length: 100"), 40, OPEN, id="no tag"),
        pytest.param(store(DATE, HOUR, 'ETag: W/"a"', "Content-Length: 100"), 40, OPEN, id="a weak tag"),
        pytest.param(store(*FRESH, "Content-Length: 100", status=404), 40, OPEN, id="no 200"),
        pytest.param(replace(WHOLE, spans=(Span(0, 9),)), 4, OPEN, id="a part, cut short itself"),
    ],
)
def test_what_was_cut_short_is_forgotten(stored: Stored, count: int, policy: Policy) -> None:
    """RFC 9111 3.3"""
    assert cut_short(stored, count, policy) is None


@pytest.mark.parametrize(
    ("stored", "news", "request_", "stays"),
    [
        pytest.param(WHOLE, [HOUR], ask(), True, id="still allowed"),
        pytest.param(WHOLE, [HOUR], ask(method="HEAD"), True, id="told by HEAD"),
        pytest.param(WHOLE, [cc("no-store")], ask(), False, id="no-store now (5.2.2.5)"),
        pytest.param(WHOLE, [cc("private")], ask(), False, id="private now (5.2.2.7)"),
        pytest.param(WHOLE, ["Vary: *"], ask(), False, id="Vary: * now (4.1)"),
        pytest.param(WHOLE, [HOUR], LOGIN, False, id="brought by credentials (3.5)"),
        pytest.param(WHOLE, [cc("public")], LOGIN, True, id="brought by credentials, but public (3.5)"),
        pytest.param(replace(WHOLE, authorized=True), [HOUR], ask(), False, id="came for credentials (3.5)"),
    ],
)
def test_news_may_say_that_a_response_is_kept_no_longer(
    stored: Stored, news: list[str], request_: Asked, stays: bool
) -> None:
    """RFC 9111 3, 4.3.4"""
    found = validated(stored, answer(*news, status=304), request_)
    assert (bar_to_stay(request_, found, OPEN) is None) is stays


# -- using -----------------------------------------------------------------------------------------------------------

OLDER = store("Date: Sun, 06 Nov 1994 08:49:27 GMT", HOUR, TAG)


def test_the_most_recent_response_is_used() -> None:
    """RFC 9111 4"""
    assert suitable(ask(), [OLDER, WHOLE]) == suitable(ask(), [WHOLE, OLDER]) == [WHOLE, OLDER]


def test_a_response_with_vary_goes_before_a_newer_one_without() -> None:
    """RFC 9111 4.1"""
    varied = store("Date: Sun, 06 Nov 1994 08:49:27 GMT", HOUR, "Vary: X")
    assert suitable(ask(), [WHOLE, varied]) == [varied, WHOLE]


@pytest.mark.parametrize(
    ("stored", "request_", "is_one"),
    [
        pytest.param(store(*FRESH, "Vary: X", request=ask("X: 1")), ask("X: 1"), True, id="the same (4.1)"),
        pytest.param(store(*FRESH, "Vary: X", request=ask("X: 1")), ask("X: 2"), False, id="another (4.1)"),
        pytest.param(store(*FRESH, "Vary: X", request=ask("X: 1")), ask(), False, id="absent (4.1)"),
        pytest.param(Stored(answer(*FRESH, "Vary: *")), ask(), False, id="Vary: * (4.1)"),
        pytest.param(replace(WHOLE, authorized=True), LOGIN, False, id="it came for credentials (3.5)"),
        pytest.param(
            replace(store(*FRESH, cc("public")), authorized=True),
            ask(),
            True,
            id="it came for them, and is public (3.5)",
        ),
        pytest.param(WHOLE, LOGIN, True, id="it came without credentials, for all"),
    ],
)
def test_a_stored_response_can_answer_a_request(stored: Stored, request_: Asked, is_one: bool) -> None:
    """RFC 9111 4"""
    assert suitable(request_, [stored]) == ([stored] if is_one else [])


VARIED = store(*FRESH, "Vary: X", request=ask("X: 1"))
PARTIAL = replace(WHOLE, spans=(Span(0, 10),))
NO_TAG = store(DATE, cc("max-age=10"))

PLANS = [
    # (request, kept, seconds later, do, forward)
    pytest.param(ask(), [WHOLE], 0, Do.SERVE, None, id="fresh (4)"),
    pytest.param(ask(method="HEAD"), [WHOLE], 0, Do.SERVE, None, id="HEAD is answered by what GET brought (4)"),
    pytest.param(ask(), [], 0, Do.FORWARD, Forward.URI_MISS, id="nothing there"),
    pytest.param(ask("X: 2"), [VARIED], 0, Do.FORWARD, Forward.VARY_MISS, id="another variant (4.1)"),
    pytest.param(ask(), [WHOLE], 3600, Do.VALIDATE, Forward.STALE, id="stale (4, 4.2.4)"),
    pytest.param(ask(), [NO_TAG], 10, Do.FORWARD, Forward.STALE, id="stale, without a validator"),
    pytest.param(ask(cc("no-cache")), [WHOLE], 0, Do.VALIDATE, Forward.REQUEST, id="no-cache (5.2.1.4)"),
    pytest.param(ask("Pragma: no-cache"), [WHOLE], 0, Do.VALIDATE, Forward.REQUEST, id="Pragma (5.4)"),
    pytest.param(ask(cc("no-cache")), [NO_TAG], 0, Do.FORWARD, Forward.REQUEST, id="no-cache, without a validator"),
    pytest.param(ask(cc("max-stale")), [WHOLE], 3600, Do.SERVE, None, id="max-stale (5.2.1.2)"),
    pytest.param(ask(), [store(*FRESH, cc("stale-while-revalidate=9"))], 3605, Do.REFRESH, None, id="RFC 5861 3"),
    pytest.param(ask(), [replace(WHOLE, invalid=True)], 0, Do.VALIDATE, Forward.STALE, id="invalidated (4.4)"),
    pytest.param(ask(), [store(DATE, TAG, cc("no-cache"))], 0, Do.VALIDATE, Forward.STALE, id="no-cache (4, 5.2.2.4)"),
    pytest.param(ask(), [PARTIAL], 0, Do.FORWARD, Forward.PARTIAL, id="incomplete (3.3)"),
    pytest.param(ask("Range: bytes=0-4"), [PARTIAL], 0, Do.SERVE, None, id="a part that is there (3.3)"),
    pytest.param(ask("Range: bytes=5-15"), [PARTIAL], 0, Do.FORWARD, Forward.PARTIAL, id="one that is not (3.3)"),
    pytest.param(ask(method="POST"), [WHOLE], 0, Do.FORWARD, Forward.METHOD, id="POST is written through (4)"),
    pytest.param(ask(method="FROB"), [WHOLE], 0, Do.FORWARD, Forward.METHOD, id="what nobody knows is, too (4)"),
    pytest.param(ask(method="OPTIONS"), [WHOLE], 0, Do.FORWARD, Forward.METHOD, id="OPTIONS"),
    pytest.param(ask(length=5), [WHOLE], 0, Do.FORWARD, Forward.BYPASS, id="content"),
    pytest.param(ask(target="*"), [WHOLE], 0, Do.FORWARD, Forward.BYPASS, id="no key"),
    pytest.param(ask('If-Match: "a"'), [WHOLE], 0, Do.FORWARD, Forward.BYPASS, id="If-Match (4.3.2)"),
    pytest.param(
        ask("If-Unmodified-Since: x"), [WHOLE], 0, Do.FORWARD, Forward.BYPASS, id="If-Unmodified-Since (4.3.2)"
    ),
    pytest.param(ask('If-None-Match: "b"'), [], 0, Do.FORWARD, Forward.URI_MISS, id="nothing to compare with (4.3.2)"),
    pytest.param(ask(cc("only-if-cached")), [WHOLE], 0, Do.SERVE, None, id="only-if-cached, and it is (5.2.1.7)"),
    pytest.param(ask(cc("only-if-cached")), [], 0, Do.TIMEOUT, None, id="only-if-cached, and it is not (5.2.1.7)"),
    pytest.param(ask(cc("only-if-cached")), [WHOLE], 3600, Do.TIMEOUT, None, id="only-if-cached, but stale (5.2.1.7)"),
    pytest.param(ask(cc("only-if-cached"), method="POST"), [], 0, Do.FORWARD, Forward.METHOD, id="not for POST (4)"),
]


@pytest.mark.parametrize(("request_", "kept", "later", "do", "forward"), PLANS)
def test_a_request_is_planned(request_: Asked, kept: list[Stored], later: int, do: Do, forward: Forward | None) -> None:
    found = plan(request_, kept, OPEN, NOW + later)
    assert (found.do, found.forward) == (do, forward)
    assert found.reason
    assert do not in (Do.SERVE, Do.REFRESH, Do.VALIDATE) or found.stored is kept[0]


def test_decrypted_traffic_bypasses_a_cache_that_is_not_for_it() -> None:
    request = ask(cc("only-if-cached"), scheme="https")
    assert plan(request, [WHOLE], PLAIN, NOW) == Plan(
        Do.FORWARD, "decrypted traffic is not cached", forward=Forward.BYPASS
    )
    assert plan(request, [WHOLE], OPEN, NOW).do is Do.SERVE


@pytest.mark.parametrize(
    ("leader", "follower", "may"),
    [
        pytest.param(ask(), ask("X: 1"), True, id="the same resource (4)"),
        pytest.param(ask(), ask(target="/x"), False, id="another path"),
        pytest.param(ask(), ask(scheme="https"), False, id="another scheme"),
        pytest.param(ask(), ask(authority=Address("b.example", 80)), False, id="another host"),
        pytest.param(ask(target="*"), ask(target="*"), False, id="no key"),
        pytest.param(ask(method="HEAD"), ask(), False, id="no content"),
        pytest.param(ask(), ask(length=1), False, id="content"),
        pytest.param(ask(cc("no-store")), ask(), False, id="no-store"),
        pytest.param(ask(), ask(cc("no-cache")), False, id="no-cache"),
        pytest.param(LOGIN, ask(), False, id="credentials"),
        pytest.param(ask(), ask(RANGE), False, id="a range"),
        pytest.param(ask('If-Match: "a"'), ask(), False, id="If-Match"),
        pytest.param(ask(), ask("If-Unmodified-Since: x"), False, id="If-Unmodified-Since"),
    ],
)
def test_a_request_waits_for_the_answer_to_another(leader: Asked, follower: Asked, may: bool) -> None:
    """RFC 9111 4"""
    assert may_collapse(leader, follower) is may


# -- validating ------------------------------------------------------------------------------------------------------

SINCE = "If-Modified-Since:" + EARLIER.partition(":")[2]
DATED = store(DATE, HOUR, EARLIER)
OTHER = store(DATE, HOUR, 'ETag: W/"b"', EARLIER)


@pytest.mark.parametrize(
    ("lines", "found", "sent"),
    [
        pytest.param([], [WHOLE], ['If-None-Match: "a"', SINCE], id="both validators"),
        pytest.param([], [store(*FRESH)], ['If-None-Match: "a"'], id="a tag"),
        pytest.param([], [DATED], [SINCE], id="a date"),
        pytest.param([], [WHOLE, OTHER], ['If-None-Match: "a", W/"b"'], id="two tags, and no date for both"),
        pytest.param([RANGE], [WHOLE], ['If-None-Match: "a"'], id="no date with a range"),
        pytest.param(
            ['If-None-Match: "c", "a"'], [WHOLE], ['If-None-Match: "a", "c"', SINCE], id="the client's, too (4.3.2)"
        ),
        pytest.param(["If-None-Match: *"], [DATED], [SINCE], id="the client's star is not sent on"),
        pytest.param([SINCE], [store(*FRESH)], ['If-None-Match: "a"'], id="the client's date is not sent on"),
        pytest.param(
            [],
            [WHOLE, PARTIAL, replace(OTHER, spans=(Span(0, 1),))],
            ['If-None-Match: "a"'],
            id="no tag of a part (4.3.2)",
        ),
        pytest.param(
            ["Range: bytes=0-0"],
            [WHOLE, replace(OTHER, total=9, spans=(Span(0, 1),))],
            ['If-None-Match: "a", W/"b"'],
            id="but of one that has what is asked for (4.3.2)",
        ),
    ],
)
def test_a_request_that_validates_names_what_is_stored(lines: list[str], found: list[Stored], sent: list[str]) -> None:
    """RFC 9111 4.3.1"""
    assert conditional(ask(*lines), found) == Conditional(
        frozenset((b"if-none-match", b"if-modified-since")), fields(sent)
    )


def test_no_more_tags_are_sent_than_may_be() -> None:
    tags = ", ".join(f'"{number}"' for number in range(MAX_MEMBERS))
    ((_, sent),) = conditional(ask(f"If-None-Match: {tags}"), [store(*FRESH)]).fields
    assert sent.startswith(b'"a", "0"')
    assert sent.count(b",") == MAX_MEMBERS - 1


LENIENT = store(DATE, TAG, cc("max-age=10, stale-if-error=90"))
STRICT = store(DATE, TAG, cc("max-age=10, stale-if-error=90, must-revalidate"))


@pytest.mark.parametrize(
    ("lines", "found", "response", "then"),
    [
        pytest.param([], [WHOLE], answer(TAG, status=304), After(Then.FRESHEN, (WHOLE,)), id="304 (4.3.3)"),
        pytest.param(
            [],
            [WHOLE, OLDER, OTHER],
            answer(TAG, status=304),
            After(Then.FRESHEN, (WHOLE, OLDER)),
            id="304 for two (4.3.4)",
        ),
        pytest.param([], [WHOLE], answer('ETag: "c"', status=304), After(Then.AGAIN), id="304 for nobody (4.3.4)"),
        pytest.param(
            ['If-None-Match: "c"'],
            [WHOLE],
            answer('ETag: "c"', status=304),
            After(Then.PASS),
            id="304 for the client (4.3.2)",
        ),
        pytest.param(
            ['If-None-Match: "d"'], [WHOLE], answer('ETag: "c"', status=304), After(Then.AGAIN), id="304 for neither"
        ),
        pytest.param(
            ['If-None-Match: "d"'], [WHOLE], answer(status=304), After(Then.AGAIN), id="304 that says nothing"
        ),
        pytest.param([], [WHOLE], answer(*FRESH), After(Then.PASS), id="a full response (4.3.3)"),
        pytest.param([], [WHOLE], answer(status=404), After(Then.PASS), id="nothing there any more (4.3.3)"),
        pytest.param(
            [], [LENIENT], answer(status=501), After(Then.PASS), id="an error that is no failure (RFC 5861 4)"
        ),
        pytest.param(
            [], [STRICT], answer(status=503), After(Then.PASS), id="a failure, and nothing stale is allowed (4.3.3)"
        ),
        pytest.param(
            [], [LENIENT], None, After(Then.STAND_IN, (LENIENT,)), id="no answer, and stale is allowed (4.2.4)"
        ),
        pytest.param([], [STRICT], None, After(Then.TIMEOUT), id="no answer, and must-revalidate (5.2.2.2)"),
        pytest.param([], [], None, After(Then.TIMEOUT), id="no answer, and nothing stored"),
    ],
)
def test_an_answer_is_followed_by(
    lines: list[str], found: list[Stored], response: Answered | None, then: After
) -> None:
    """RFC 9111 4.3.3"""
    assert after(ask(*lines), found, response, OPEN, NOW + 50) == then


@pytest.mark.parametrize("status", sorted(FAILURES))
def test_a_stale_response_stands_in_for_a_failure(status: int) -> None:
    """RFC 5861 4, RFC 9111 4.3.3"""
    response = answer(status=status)
    assert after(ask(), [LENIENT], response, OPEN, NOW + 50) == After(Then.STAND_IN, (LENIENT,))
    assert after(ask(), [LENIENT], response, OPEN, NOW + 100) == After(Then.PASS)


LINES = st.lists(
    st.sampled_from(
        [DATE, TAG, EARLIER, RANGE, "Vary: X", "X: 1", "Authorization: x", "Set-Cookie: a", "Expires: 0", PART[3]]
        + [cc(value) for value in ("max-age=9", "no-store", "private", "public", "no-cache", "s-maxage=3", "x=")]
        + [cc(value) for value in ("max-stale", "only-if-cached", "must-revalidate", "stale-if-error=5", 'private="x"')]
    ),
    max_size=8,
)


@given(LINES, LINES, LINES, st.sampled_from(["GET", "HEAD"]), st.sampled_from([200, 206, 302, 404]), st.floats(0, 20))
def test_what_is_served_may_be_stored_and_is_allowed_by_every_directive(
    first: list[str], said: list[str], second: list[str], method: str, status: int, later: float
) -> None:
    """RFC 9111 3, 4"""
    request, response = ask(*first), answer(*said, status=status)
    stored = stored_as(request, response, OPEN)
    control = response.control
    if stored is None:
        return
    assert not control.no_store
    assert not control.private.whole
    assert not request.control.no_store
    again = ask(*second, method=method)
    found = plan(again, [stored], OPEN, NOW + later)
    if found.do in (Do.SERVE, Do.REFRESH):
        assert not control.no_cache.whole
        assert not again.control.no_cache
        assert not stored.authorized or control.public or control.must_revalidate or control.s_maxage is not None
    assert found.do is not Do.FORWARD or not again.control.only_if_cached
