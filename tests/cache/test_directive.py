"""Cache-Control and Pragma: what they say, and that the safer reading is taken (RFC 9111 5.2)."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.directive import (
    ESSENTIAL,
    Named,
    RequestControl,
    ResponseControl,
    request_control,
    response_control,
)
from sslintercept.cache.field import MAX_MEMBERS, MAX_SECONDS, Lines
from tests.cache.test_field import LINES, NEAR

WHOLE = Named(True)


@pytest.mark.parametrize(
    ("value", "control"),
    [
        pytest.param(b"", ResponseControl(), id="empty"),
        pytest.param(b"max-age=5", ResponseControl(max_age=5), id="max-age (5.2.2.1)"),
        pytest.param(b"MAX-AGE=5", ResponseControl(max_age=5), id="names in any case (5.2)"),
        pytest.param(b'max-age="5"', ResponseControl(max_age=5), id="both forms of an argument (5.2)"),
        pytest.param(b"max-age=5, max-age=5", ResponseControl(max_age=5), id="twice the same"),
        pytest.param(b"max-age=5, max-age=6", ResponseControl(max_age=0), id="two values are stale (4.2.1)"),
        pytest.param(b"max-age=x", ResponseControl(max_age=0), id="no number is stale (4.2.1)"),
        pytest.param(b"max-age", ResponseControl(max_age=0), id="no argument is stale (4.2.1)"),
        pytest.param(b"max-age=", ResponseControl(max_age=0), id="an empty argument is stale (4.2.1)"),
        pytest.param(b"max-age=-1", ResponseControl(max_age=0), id="a negative number is stale (4.2.1)"),
        pytest.param(b"max-age=1.5", ResponseControl(max_age=0), id="a fraction is stale (4.2.1)"),
        pytest.param(b"max-age = 5", ResponseControl(max_age=0), id="white space is stale (4.2.1)"),
        pytest.param(b"max-age=5, max-age=x", ResponseControl(max_age=0), id="one malformed of two is stale"),
        pytest.param(b"max-age=99999999999", ResponseControl(max_age=MAX_SECONDS), id="2^31 stands for more (1.2.2)"),
        pytest.param(b"s-maxage=7", ResponseControl(s_maxage=7), id="s-maxage (5.2.2.10)"),
        pytest.param(b"must-revalidate", ResponseControl(must_revalidate=True), id="must-revalidate (5.2.2.2)"),
        pytest.param(b"must-revalidate=1", ResponseControl(must_revalidate=True), id="what forbids, with an argument"),
        pytest.param(b"proxy-revalidate", ResponseControl(proxy_revalidate=True), id="proxy-revalidate (5.2.2.8)"),
        pytest.param(b"must-understand", ResponseControl(must_understand=True), id="must-understand (5.2.2.3)"),
        pytest.param(b"must-understand=1", ResponseControl(), id="must-understand with an argument"),
        pytest.param(b"public", ResponseControl(public=True), id="public (5.2.2.9)"),
        pytest.param(b"public=1", ResponseControl(), id="what permits, with an argument"),
        pytest.param(b"immutable", ResponseControl(immutable=True), id="immutable (RFC 8246 2)"),
        pytest.param(b"no-store", ResponseControl(no_store=True), id="no-store (5.2.2.5)"),
        pytest.param(b"no-store x", ResponseControl(no_store=True), id="no-store with more behind it"),
        pytest.param(b"no-cache", ResponseControl(no_cache=WHOLE), id="no-cache (5.2.2.4)"),
        pytest.param(
            b'no-cache="Set-Cookie, X"',
            ResponseControl(no_cache=Named(False, frozenset((b"set-cookie", b"x")))),
            id="no-cache of fields (5.2.2.4)",
        ),
        pytest.param(
            b"no-cache=x", ResponseControl(no_cache=Named(False, frozenset((b"x",)))), id="no-cache of a token (5.2)"
        ),
        pytest.param(b'no-cache="x", no-cache', ResponseControl(no_cache=WHOLE), id="no-cache of all and of some"),
        pytest.param(b'no-cache=""', ResponseControl(no_cache=WHOLE), id="no-cache of nothing is of all"),
        pytest.param(b'no-cache="a b"', ResponseControl(no_cache=WHOLE), id="no-cache of no name is of all"),
        pytest.param(b'no-cache="vary"', ResponseControl(no_cache=WHOLE), id="no-cache of what is essential is of all"),
        pytest.param(b"private", ResponseControl(private=WHOLE), id="private (5.2.2.7)"),
        pytest.param(
            b'private="x", private="Y"',
            ResponseControl(private=Named(False, frozenset((b"x", b"y")))),
            id="private of fields (5.2.2.7)",
        ),
        pytest.param(b'private="x\\y"', ResponseControl(private=Named(False, frozenset((b"xy",)))), id="an escape"),
        pytest.param(b'private="x\\"', ResponseControl(malformed=True), id="a quote without an end"),
        pytest.param(b"private=@", ResponseControl(private=WHOLE), id="private of what is no name is of all"),
        pytest.param(b"stale-while-revalidate=3", ResponseControl(stale_while_revalidate=3), id="RFC 5861 3"),
        pytest.param(b"stale-while-revalidate=x", ResponseControl(), id="RFC 5861 3, malformed"),
        pytest.param(b"stale-if-error=3", ResponseControl(stale_if_error=3), id="RFC 5861 4"),
        pytest.param(b"stale-if-error", ResponseControl(stale_if_error=0), id="RFC 5861 4, malformed"),
        pytest.param(b"foo, bar=1, @, max-age=5", ResponseControl(max_age=5), id="what is unknown is ignored (5.2.3)"),
        pytest.param(b'foo="max-age=9, no-store", max-age=5', ResponseControl(max_age=5), id="a quoted directive"),
        pytest.param(b"a," * MAX_MEMBERS + b"max-age=5", ResponseControl(malformed=True), id="too many"),
    ],
)
def test_a_response_says(value: bytes, control: ResponseControl) -> None:
    assert response_control([value]) == control


@pytest.mark.parametrize("name", sorted(ESSENTIAL))
def test_a_response_without_an_essential_field_is_not_shared_at_all(name: bytes) -> None:
    """RFC 9111 5.2.2.7"""
    assert response_control([b'private="x, %b"' % name.title()]).private == WHOLE


@pytest.mark.parametrize(
    ("value", "control"),
    [
        pytest.param(b"", RequestControl(), id="empty"),
        pytest.param(b"max-age=5", RequestControl(max_age=5), id="max-age (5.2.1.1)"),
        pytest.param(b"max-age=5, max-age=3", RequestControl(max_age=3), id="the least age"),
        pytest.param(b"max-age=5, max-age=x", RequestControl(max_age=0), id="a malformed age is 0"),
        pytest.param(b"max-stale", RequestControl(max_stale=MAX_SECONDS), id="max-stale without a limit (5.2.1.2)"),
        pytest.param(b"max-stale=5", RequestControl(max_stale=5), id="max-stale (5.2.1.2)"),
        pytest.param(b"max-stale, max-stale=5", RequestControl(max_stale=5), id="the least staleness"),
        pytest.param(b"max-stale=x", RequestControl(), id="malformed staleness is none"),
        pytest.param(b"min-fresh=5", RequestControl(min_fresh=5), id="min-fresh (5.2.1.3)"),
        pytest.param(b"min-fresh=5, min-fresh=7", RequestControl(min_fresh=7), id="the most freshness"),
        pytest.param(b"min-fresh", RequestControl(min_fresh=MAX_SECONDS), id="malformed freshness is all there is"),
        pytest.param(b"no-cache", RequestControl(no_cache=True), id="no-cache (5.2.1.4)"),
        pytest.param(b"no-store", RequestControl(no_store=True), id="no-store (5.2.1.5)"),
        pytest.param(b"only-if-cached", RequestControl(only_if_cached=True), id="only-if-cached (5.2.1.7)"),
        pytest.param(b"stale-if-error=5", RequestControl(stale_if_error=5), id="stale-if-error (RFC 5861 4)"),
        pytest.param(b"no-transform, foo", RequestControl(), id="what is not about caching, or unknown (5.2.3)"),
        pytest.param(b'foo="', RequestControl(no_cache=True, no_store=True), id="malformed"),
    ],
)
def test_a_request_says(value: bytes, control: RequestControl) -> None:
    assert request_control([value]) == control


@pytest.mark.parametrize(
    ("lines", "pragma", "no_cache"),
    [
        pytest.param([], [b"no-cache"], True, id="Pragma counts alone"),
        pytest.param([], [b"foo, No-Cache"], True, id="in any case, among others"),
        pytest.param([], [b'"'], True, id="and if it is malformed"),
        pytest.param([], [b"foo"], False, id="but not what else it says"),
        pytest.param([b"max-age=5"], [b"no-cache"], False, id="Cache-Control goes before it"),
    ],
)
def test_pragma_counts_where_there_is_no_cache_control(lines: Lines, pragma: Lines, no_cache: bool) -> None:
    """RFC 9111 5.4"""
    assert request_control(lines, pragma).no_cache is no_cache
    assert response_control(lines, pragma).no_cache.whole is no_cache


@given(st.one_of(LINES, NEAR), st.one_of(LINES, NEAR))
def test_no_lines_make_a_reader_of_directives_raise(lines: list[bytes], pragma: list[bytes]) -> None:
    said, asked = response_control(lines, pragma), request_control(lines, pragma)
    for control in (said, asked):
        for field in fields(control):
            value = getattr(control, field.name)
            assert not isinstance(value, int) or 0 <= value <= MAX_SECONDS
            assert not isinstance(value, Named) or len(value.fields) <= MAX_MEMBERS**2


DIRECTIVES = st.sampled_from(
    [b"max-age=5", b"max-age=6", b"no-store", b"private", b'private="a,b"', b'no-cache="c"', b"public", b"x=y", b""]
)


@given(st.lists(DIRECTIVES, max_size=8), st.integers(0, 8))
def test_directives_say_in_two_lines_what_they_say_in_one(said: list[bytes], cut: int) -> None:
    """RFC 9110 5.3"""
    one, two = [b", ".join(said)], [b", ".join(said[:cut]), b", ".join(said[cut:])]
    assert response_control(one) == response_control(two)
    assert request_control(one) == request_control(two)


@given(st.lists(DIRECTIVES, max_size=8))
def test_the_order_of_directives_says_nothing(said: list[bytes]) -> None:
    assert response_control(said) == response_control(said[::-1])
    assert request_control(said) == request_control(said[::-1])
