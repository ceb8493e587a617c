"""What a 304, an answer to HEAD and an unsafe method do to what is stored (RFC 9111 3.2, 4.3.4, 4.3.5, 4.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sslintercept.cache.message import Stored
from sslintercept.cache.update import identified, invalidates, newest, told_by_head, updated, validated
from tests.cache.build import DATE, EARLIER, HOUR, NOW, TAG, answer, ask, store, values

LATER = "Date: Sun, 06 Nov 1994 08:49:47 GMT"
"""10 s after DATE"""
NEAR = DATE.replace("Date", "Last-Modified")
OLD = store(DATE, HOUR, TAG, EARLIER)
NEW = store(LATER, HOUR, TAG, EARLIER)
OTHER = store(DATE, HOUR, 'ETag: "b"')
WEAK = store(DATE, HOUR, 'ETag: W/"a"')
WEAKER = store(LATER, HOUR, 'ETag: W/"a"')
DATED = store(DATE, HOUR, EARLIER)
BARE = store(DATE, HOUR)


@pytest.mark.parametrize(
    ("lines", "initial", "found"),
    [
        pytest.param([TAG], [OTHER, OLD, NEW], [OLD, NEW], id="a strong tag: all with it"),
        pytest.param([TAG], [OTHER, DATED, BARE, WEAK], [], id="a strong tag: none without it"),
        pytest.param([TAG, EARLIER], [DATED], [], id="a strong tag: a date does not stand in for it"),
        pytest.param(['ETag: W/"a"'], [OTHER, OLD, NEW], [NEW], id="a weak tag: the most recent"),
        pytest.param(['ETag: W/"a"'], [WEAKER, WEAK], [WEAKER], id="a weak tag: the most recent of weak ones"),
        pytest.param(['ETag: W/"c"'], [OLD, WEAK], [], id="a weak tag that nobody has"),
        pytest.param([LATER, EARLIER], [OLD, DATED, BARE], [OLD, DATED], id="a strong date: all with it"),
        pytest.param([EARLIER], [OLD, NEW, BARE], [NEW], id="a weak date: the most recent"),
        pytest.param([NEAR], [OLD, DATED], [], id="a date that nobody has"),
        pytest.param([], [BARE], [BARE], id="no validator: the only one that has none either"),
        pytest.param([], [OLD], [], id="no validator: not one with a tag"),
        pytest.param([], [DATED], [], id="no validator: not one with a date"),
        pytest.param([], [BARE, BARE], [], id="no validator: not one of two"),
        pytest.param([TAG], [], [], id="nothing stored"),
    ],
)
def test_a_304_identifies_what_it_speaks_of(lines: list[str], initial: list[Stored], found: list[Stored]) -> None:
    """RFC 9111 4.3.4"""
    assert identified(answer(*lines, status=304), initial) == found


@pytest.mark.parametrize(("second", "strong"), [(37, True), (38, False)])
def test_a_date_identifies_all_that_have_it_from_a_minute_on(second: int, strong: bool) -> None:
    """RFC 9111 4.3.4, RFC 9110 8.8.2.2"""
    modified = f"Last-Modified: Sun, 06 Nov 1994 08:48:{second} GMT"
    both = [store(DATE, HOUR, modified), store(LATER, HOUR, modified)]
    assert identified(answer(DATE, modified, status=304), both) == (both if strong else both[1:])


def test_the_newest_is_told_by_date() -> None:
    """RFC 9111 4"""
    assert newest([NEW, OLD]) is newest([OLD, NEW]) is NEW
    late = replace(OLD, response=replace(OLD.response, received=NOW + 9))
    assert newest([late, OLD]) is newest([OLD, late]) is late


def test_fields_of_a_304_replace_those_that_are_stored() -> None:
    """RFC 9111 3.2, 4.3.4"""
    stored = store(DATE, HOUR, TAG, "X-A: 1", "X-A: 2", "X-B: 3", "Age: 5")
    news = answer(LATER, "Cache-Control: max-age=9", "X-A: 4", "X-C: 5", TAG, status=304, received=NOW + 10)
    found = validated(stored, news, ask()).response
    assert found.status == 200
    assert values(found.fields, "X-A") == ["4"]
    assert values(found.fields, "X-B") == ["3"]
    assert values(found.fields, "X-C") == ["5"]
    assert values(found.fields, "Cache-Control") == ["max-age=9"]
    assert found.control.max_age == 9
    assert (found.date, found.age, found.received) == (NOW + 10, 0, NOW + 10)


@pytest.mark.parametrize("name", ["Content-Length", "Content-Encoding", "Content-Range"])
def test_fields_of_the_content_are_not_updated(name: str) -> None:
    """RFC 9111 3.2"""
    stored = store(DATE, HOUR, TAG, f"{name}: 1")
    assert values(validated(stored, answer(f"{name}: 2", status=304), ask()).response.fields, name) == ["1"]


def test_fields_that_are_not_stored_are_not_updated() -> None:
    """RFC 9111 3.1, 3.2"""
    news = answer('Cache-Control: max-age=9, private="x-b"', "Proxy-Authenticate: x", "X-B: 1", status=304)
    found = validated(store(DATE, HOUR, TAG, "X-B: 0"), news, ask()).response.fields
    assert values(found, "Proxy-Authenticate") == values(found, "X-B") == []


def test_a_directive_that_stays_is_about_new_fields_too() -> None:
    """RFC 9111 3.1, 3.2"""
    stored = store(DATE, 'Cache-Control: max-age=9, no-cache="set-cookie"', TAG)
    assert values(validated(stored, answer("Set-Cookie: a", status=304), ask()).response.fields, "Set-Cookie") == []


def test_age_and_date_of_before_are_not_those_of_now() -> None:
    """RFC 9111 4.2.3"""
    found = validated(store(DATE, HOUR, "Age: 100"), answer(status=304, received=NOW + 200), ask()).response
    assert (found.date, found.age, found.generated) == (None, 0, NOW + 200)


def test_what_is_validated_is_valid_again() -> None:
    """RFC 9111 4.4"""
    assert not validated(replace(OLD, invalid=True), answer(TAG, status=304), ask()).invalid
    assert updated(replace(OLD, invalid=True), answer(TAG, status=304), ask()).invalid


def test_a_new_vary_is_about_the_request_that_brought_it() -> None:
    """RFC 9111 3.2, 4.1"""
    stored = store(DATE, HOUR, TAG, "Vary: Accept", request=ask("Accept: a"))
    same = validated(stored, answer("Vary: accept", status=304), ask("Accept: b"))
    assert same.variant == stored.variant == ((b"accept", b"a"),)
    other = validated(stored, answer("Vary: X", status=304), ask("Accept: b", "X: 1"))
    assert other.variant == ((b"x", b"1"),)


@pytest.mark.parametrize(("vary", "x"), [("*", ""), ("X", "a" * 9000)])
def test_what_varies_on_everything_now_is_not_used_again(vary: str, x: str) -> None:
    """RFC 9111 4.1"""
    found = validated(OLD, answer(f"Vary: {vary}", status=304), ask(f"X: {x}"))
    assert found.invalid
    assert found.response.vary is None


def test_credentials_of_the_request_that_brought_news_count() -> None:
    """RFC 9111 3.5"""
    assert not validated(OLD, answer(status=304), ask()).authorized
    assert validated(OLD, answer(status=304), ask("Authorization: x")).authorized
    assert validated(replace(OLD, authorized=True), answer(status=304), ask()).authorized


LONG = store(DATE, HOUR, TAG, EARLIER, "Content-Length: 5")


@pytest.mark.parametrize(
    ("lines", "stored", "same"),
    [
        pytest.param([TAG, EARLIER, "Content-Length: 5"], LONG, True, id="all the same"),
        pytest.param(["X: 1"], LONG, True, id="no validator, no length"),
        pytest.param(['ETag: "b"'], LONG, False, id="another tag"),
        pytest.param([NEAR], LONG, False, id="another date"),
        pytest.param(["Content-Length: 6"], LONG, False, id="another length"),
        pytest.param(["Content-Length: 5"], replace(LONG, total=None), True, id="the length that was said"),
        pytest.param(["Content-Length: 5"], replace(OLD, total=5), True, id="the length that came"),
        pytest.param(["Content-Length: 5", "Content-Length: 6"], LONG, False, id="two lengths"),
        pytest.param([TAG], DATED, False, id="a tag where there was none"),
    ],
)
def test_an_answer_to_head_updates_what_it_matches(lines: list[str], stored: Stored, same: bool) -> None:
    """RFC 9111 4.3.5"""
    found = told_by_head(stored, answer(LATER, "Cache-Control: max-age=9", *lines), ask(method="HEAD"))
    assert found.invalid is not same
    assert found.response.control.max_age == (9 if same else 3600)


A = b"http://a.example:80"


@pytest.mark.parametrize(
    ("method", "status", "lines", "keys"),
    [
        pytest.param("POST", 200, [], [b"/x"], id="the target"),
        pytest.param("PUT", 204, [], [b"/x"], id="PUT"),
        pytest.param("DELETE", 302, [], [b"/x"], id="a redirection"),
        pytest.param("FROB", 200, [], [b"/x"], id="a method that nobody knows"),
        pytest.param("POST", 199, [], [], id="not an interim response"),
        pytest.param("POST", 400, [], [], id="not an error of the client"),
        pytest.param("POST", 500, [], [], id="not an error of the server"),
        pytest.param("POST", 201, ["Location: /y"], [b"/x", b"/y"], id="Location"),
        pytest.param("POST", 200, ["Content-Location: y"], [b"/x", b"/y"], id="Content-Location"),
        pytest.param("POST", 200, ["Location: /x"], [b"/x"], id="each once"),
        pytest.param("POST", 200, ["Location: http://b.example/y"], [b"/x"], id="not of another origin"),
        pytest.param("POST", 200, ["Location: https://a.example/y"], [b"/x"], id="not of another scheme"),
        pytest.param("POST", 200, ["Location: /y", "Location: /z"], [b"/x", b"/y"], id="the first line only"),
        pytest.param("GET", 200, ["Content-Location: /y"], [], id="GET"),
        pytest.param("HEAD", 200, ["Content-Location: /y"], [], id="HEAD"),
        pytest.param("OPTIONS", 200, [], [], id="OPTIONS"),
        pytest.param("TRACE", 200, [], [], id="TRACE"),
    ],
)
def test_an_unsafe_method_invalidates(method: str, status: int, lines: list[str], keys: list[bytes]) -> None:
    """RFC 9111 4.4"""
    found = invalidates(ask(method=method, target="/x"), answer(*lines, status=status))
    assert found == tuple(A + key for key in keys)


def test_what_has_no_key_invalidates_nothing() -> None:
    assert invalidates(ask(method="FROB", target="*"), answer("Location: /y")) == ()
