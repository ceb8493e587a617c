"""Lists, times, entity tags and Vary: what they say, and that nothing a peer sends breaks or binds their readers."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.field import (
    LONG_AGO,
    MAX_MEMBERS,
    MAX_SECONDS,
    MAX_VALUE,
    EntityTag,
    Lines,
    Tags,
    age_of,
    date_of,
    expires_of,
    members,
    only,
    read_date,
    read_tag,
    tag_of,
    tags_of,
    vary_of,
)
from tests.cache.build import NOW

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"

LINES = st.lists(st.binary(max_size=60), max_size=6)
NEAR = st.lists(
    st.lists(
        st.sampled_from([b"a", b"max-age", b"=", b'"', b"\\", b",", b" ", b"\t", b"1", b"*", b"W/", b"-", b"\xff"])
    ).map(b"".join),
    max_size=6,
)
"""lines of what lists are made of"""


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param([], [], id="no line"),
        pytest.param([b"a, b"], [b"a", b"b"], id="two members"),
        pytest.param([b"a", b"b"], [b"a", b"b"], id="two lines (RFC 9110 5.3)"),
        pytest.param([b" ,a,, \t,b,"], [b"a", b"b"], id="empty members are passed over (RFC 9110 5.6.1.2)"),
        pytest.param([b'a="b,c", d'], [b'a="b,c"', b"d"], id="a comma in a quoted string"),
        pytest.param([b'a="b\\",c", d'], [b'a="b\\",c"', b"d"], id="an escaped quote"),
        pytest.param([b'a="b', b'c"'], [b'a="b,c"'], id="a quoted string over two lines"),
        pytest.param([b'a="b, c'], None, id="a quoted string without an end"),
        pytest.param([b'a="b\\"'], None, id="an escape at the end"),
        pytest.param([b"a" * MAX_VALUE], [b"a" * MAX_VALUE], id="as long as may be"),
        pytest.param([b"a" * (MAX_VALUE - 1), b"b"], None, id="longer than may be"),
        pytest.param([b"a," * MAX_MEMBERS], [b"a"] * MAX_MEMBERS, id="as many as may be"),
        pytest.param([b"a," * MAX_MEMBERS + b"a"], None, id="more than may be"),
    ],
)
def test_a_list_is_split_at_commas_outside_of_quotes(lines: Lines, found: list[bytes] | None) -> None:
    assert members(lines) == found


@given(st.lists(st.sampled_from([b"a", b"no-store", b'b="c,d"', b'e="\\""', b"f=1"]), max_size=12), st.data())
def test_lines_say_what_they_say_when_joined(said: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(said)))
    lines = [b", ".join(said[:cut]), b",".join(said[cut:])]
    assert members(lines) == members([b", ".join(lines)]) == said


@pytest.mark.parametrize("read", [members, age_of, tag_of, tags_of, vary_of, only])
@given(st.one_of(LINES, NEAR))
def test_no_lines_make_a_reader_raise(read: Callable[[Lines], object], lines: list[bytes]) -> None:
    read(lines)


@given(st.one_of(LINES, NEAR))
def test_what_is_read_has_its_bounds(lines: list[bytes]) -> None:
    assert len(members(lines) or ()) <= MAX_MEMBERS
    assert len(vary_of(lines) or ()) <= MAX_MEMBERS
    assert len(tags_of(lines).listed) <= MAX_MEMBERS
    assert 0 <= age_of(lines) <= MAX_SECONDS


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(DATE, NOW, id="IMF-fixdate"),
        pytest.param(b"Sunday, 06-Nov-94 08:49:37 GMT", NOW, id="RFC 850"),
        pytest.param(b"Sun Nov  6 08:49:37 1994", NOW, id="asctime"),
        pytest.param(b"Sun Nov 16 08:49:37 1994", NOW + 864000, id="asctime with two digits"),
        pytest.param(b"Mon, 06 Nov 1994 08:49:37 GMT", NOW, id="the wrong day of the week"),
        pytest.param(b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800, id="a leap second"),
        pytest.param(b"Thu, 01 Jan 1970 00:00:00 GMT", 0, id="the epoch"),
        pytest.param(b"Wed, 31 Dec 1969 23:59:59 GMT", -1, id="before the epoch"),
        pytest.param(b"0", None, id="a number"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 UTC", None, id="another zone"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 +0000", None, id="an offset"),
        pytest.param(b"Sun, 06 nov 1994 08:49:37 GMT", None, id="lower case"),
        pytest.param(b"Sun, 06 Foo 1994 08:49:37 GMT", None, id="no month"),
        pytest.param(b"Sun, 31 Feb 1994 08:49:37 GMT", None, id="no day"),
        pytest.param(b"Sun, 06 Nov 1994 24:00:00 GMT", None, id="no hour"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:61 GMT", None, id="no second"),
        pytest.param(b"Sun, 06 Nov 0000 08:49:37 GMT", None, id="no year"),
        pytest.param(b"Sun Nov   08:49:37 1994", None, id="asctime without a day"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT ", None, id="more behind it"),
    ],
)
def test_three_forms_of_dates_are_read_and_no_other(value: bytes, seconds: int | None) -> None:
    """RFC 9110 5.6.7"""
    assert read_date(value, NOW) == seconds


@pytest.mark.parametrize(("year", "means"), [(44, 2044), (45, 1945), (94, 1994), (0, 2000)])
def test_two_digits_mean_no_year_more_than_50_years_from_now(year: int, means: int) -> None:
    """RFC 9110 5.6.7"""
    written = read_date(b"Sunday, 06-Nov-%02d 08:49:37 GMT" % year, NOW)
    assert written == read_date(b"Sun, 06 Nov %d 08:49:37 GMT" % means, NOW)


def test_a_time_out_of_all_bounds_does_not_make_a_year_raise() -> None:
    assert read_date(b"Sunday, 06-Nov-94 08:49:37 GMT", 1e300) is None


@given(st.integers(0, 4_000_000_000))
def test_every_date_that_is_written_is_read_back(seconds: int) -> None:
    assert read_date(formatdate(seconds, usegmt=True).encode(), NOW) == seconds


@given(st.binary(max_size=40), st.floats(0, 1e11))
def test_nothing_makes_a_date_raise(value: bytes, now: float) -> None:
    assert read_date(value, now) is None or value


@pytest.mark.parametrize(
    ("lines", "date", "expires"),
    [
        pytest.param([], None, None, id="absent"),
        pytest.param([DATE], NOW, NOW, id="a date"),
        pytest.param([DATE, DATE], NOW, NOW, id="twice the same"),
        pytest.param([DATE, LATER], None, LONG_AGO, id="two that differ (RFC 9111 4.2.1)"),
        pytest.param([b"0"], None, LONG_AGO, id="0 means expired (RFC 9111 5.3)"),
        pytest.param([b"tomorrow"], None, LONG_AGO, id="no date means expired (RFC 9111 5.3)"),
        pytest.param([b""], None, LONG_AGO, id="empty means expired (RFC 9111 5.3)"),
    ],
)
def test_dates_that_cannot_be_read_are_absent_but_have_expired(
    lines: Lines, date: int | None, expires: int | None
) -> None:
    assert (date_of(lines, NOW), expires_of(lines, NOW)) == (date, expires)


@pytest.mark.parametrize(
    ("lines", "age"),
    [
        pytest.param([], 0, id="absent"),
        pytest.param([b"7"], 7, id="a number"),
        pytest.param([b"7, 9"], 7, id="the first of a list counts (RFC 9111 5.1)"),
        pytest.param([b"7", b"9"], 7, id="the first line counts (RFC 9111 5.1)"),
        pytest.param([b"-1"], 0, id="negative is ignored (RFC 9111 5.1)"),
        pytest.param([b"1.5"], 0, id="a fraction is ignored (RFC 9111 5.1)"),
        pytest.param([b""], 0, id="empty is ignored (RFC 9111 5.1)"),
        pytest.param([b"00000000000007"], 7, id="zeros in front"),
        pytest.param([b"2147483649"], MAX_SECONDS, id="2^31 stands for more (RFC 9111 1.2.2)"),
        pytest.param([b"9" * 5000], MAX_SECONDS, id="and for much more (RFC 9111 1.2.2)"),
    ],
)
def test_age_is_its_first_number(lines: Lines, age: int) -> None:
    assert age_of(lines) == age


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        pytest.param(b'"a"', EntityTag(b"a"), id="strong"),
        pytest.param(b'W/"a"', EntityTag(b"a", True), id="weak"),
        pytest.param(b'""', EntityTag(b""), id="empty"),
        pytest.param(b'"a\\"', EntityTag(b"a\\"), id="a backslash escapes nothing"),
        pytest.param(b'"a,\xe9"', EntityTag(b"a,\xe9"), id="a comma, and more than ASCII"),
        pytest.param(b'w/"a"', None, id="a small w"),
        pytest.param(b"a", None, id="no quotes"),
        pytest.param(b'"a b"', None, id="a space"),
        pytest.param(b'"' + b"a" * MAX_VALUE + b'"', None, id="longer than may be"),
    ],
)
def test_an_entity_tag_is_read_and_written(value: bytes, tag: EntityTag | None) -> None:
    """RFC 9110 8.8.3"""
    assert read_tag(value) == tag
    assert tag is None or bytes(tag) == value


def test_two_entity_tags_of_one_response_are_none() -> None:
    assert tag_of([b'"a"', b'"b"']) is None
    assert tag_of([b'"a"', b'"a"']) == EntityTag(b"a")


@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'"1"', True, True),
    ],
)
def test_tags_compare_strongly_and_weakly(one: bytes, other: bytes, strongly: bool, weakly: bool) -> None:
    """RFC 9110 8.8.3.2"""
    a, b = read_tag(one), read_tag(other)
    assert a is not None
    assert b is not None
    assert a.is_strongly(b) is b.is_strongly(a) is strongly
    assert a.is_weakly(b) is b.is_weakly(a) is weakly
    assert not a.is_strongly(None)
    assert not a.is_weakly(None)


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        pytest.param([], Tags(), id="absent"),
        pytest.param([b"*"], Tags(everything=True), id="a star"),
        pytest.param([b'"*"'], Tags((EntityTag(b"*"),)), id="a tag that looks like it"),
        pytest.param([b'"a", W/"b"'], Tags((EntityTag(b"a"), EntityTag(b"b", True))), id="two"),
        pytest.param([b'"a"', b'"b"'], Tags((EntityTag(b"a"), EntityTag(b"b"))), id="two lines"),
        pytest.param([b'"a,b\\",, "c"'], Tags((EntityTag(b"a,b\\"), EntityTag(b"c"))), id="a comma and a backslash"),
        pytest.param([b'"a", b'], Tags(), id="one without quotes"),
        pytest.param([b'"a""b"'], Tags(), id="no comma"),
        pytest.param([b'*, "a"'], Tags(), id="a star beside a tag"),
        pytest.param([b'"a",' * MAX_MEMBERS], Tags((EntityTag(b"a"),) * MAX_MEMBERS), id="as many as may be"),
        pytest.param([b'"a",' * (MAX_MEMBERS + 1)], Tags(), id="more than may be"),
        pytest.param([b'"' + b"a" * MAX_VALUE + b'"'], Tags(), id="longer than may be"),
    ],
)
def test_if_none_match_lists_tags(lines: Lines, tags: Tags) -> None:
    """RFC 9110 13.1.2"""
    assert tags_of(lines) == tags


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        pytest.param([], (), id="absent"),
        pytest.param([b"Cookie, accept", b"Accept"], (b"accept", b"cookie"), id="sorted, each once, in lower case"),
        pytest.param([b"*"], None, id="a star matches nothing (RFC 9111 4.1)"),
        pytest.param([b"Accept, *"], None, id="nor does one among others (RFC 9111 4.1)"),
        pytest.param([b"a b"], None, id="malformed matches nothing"),
        pytest.param([b'"a'], None, id="a quote matches nothing"),
    ],
)
def test_vary_names_fields(lines: Lines, names: tuple[bytes, ...] | None) -> None:
    """RFC 9110 12.5.5"""
    assert vary_of(lines) == names
