"""Ranges: read, answered from what is kept, and put together (RFC 9110 14, RFC 9111 3.3, 3.4)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.field import MAX_MEMBERS, Lines
from sslintercept.cache.message import Span, Stored
from sslintercept.cache.span import (
    MAX_POSITION,
    MAX_SPANS,
    ContentRange,
    Missing,
    Part,
    Piece,
    Range,
    Unsatisfiable,
    Whole,
    belongs,
    combined,
    content_range_of,
    extent,
    if_range_holds,
    joined,
    piece_of,
    range_of,
)
from tests.cache.build import DATE, EARLIER, TAG, answer, ask
from tests.cache.test_field import LINES, NEAR


@pytest.mark.parametrize(
    ("lines", "ranges"),
    [
        pytest.param([], None, id="absent"),
        pytest.param([b"bytes=0-9"], (Range(0, 10),), id="from and to"),
        pytest.param([b"BYTES=0-0"], (Range(0, 1),), id="units in any case"),
        pytest.param([b"bytes=5-"], (Range(5, None),), id="from"),
        pytest.param([b"bytes=-5"], (Range(None, None, 5),), id="the last"),
        pytest.param([b"bytes= 0-1,, -5"], (Range(0, 2), Range(None, None, 5)), id="two"),
        pytest.param([b"bytes=0-" + b"9" * 30], (Range(0, MAX_POSITION + 1),), id="very far"),
        pytest.param([b"bytes=0-" + b"9" * 19], (Range(0, MAX_POSITION + 1),), id="far"),
        pytest.param([b"bytes=9-0"], None, id="backwards"),
        pytest.param([b"bytes=9-8"], None, id="backwards by one"),
        pytest.param([b"bytes=-"], None, id="nothing"),
        pytest.param([b"bytes="], None, id="no range"),
        pytest.param([b"bytes=a-b"], None, id="no numbers"),
        pytest.param([b"pages=0-1"], None, id="other units"),
        pytest.param([b"bytes=0-1", b"bytes=2-3"], None, id="two lines"),
        pytest.param([b"bytes=" + b"0-1," * MAX_MEMBERS], (Range(0, 2),) * MAX_MEMBERS, id="as many as may be"),
        pytest.param([b"bytes=" + b"0-1," * (MAX_MEMBERS + 1)], None, id="more than may be"),
        pytest.param([b"bytes=0-1" + b"," * 9000], None, id="longer than may be"),
    ],
)
def test_a_range_is_read_or_taken_for_absent(lines: Lines, ranges: tuple[Range, ...] | None) -> None:
    """RFC 9110 14.1.2, 14.2"""
    assert range_of(lines) == ranges


@pytest.mark.parametrize(
    ("value", "means"),
    [
        pytest.param(b"bytes 0-9/100", ContentRange(Span(0, 10), 100), id="of a length"),
        pytest.param(b"bytes 0-9/*", ContentRange(Span(0, 10), None), id="of an unknown length"),
        pytest.param(b"bytes */100", ContentRange(None, 100), id="none"),
        pytest.param(b"bytes 9-0/100", None, id="backwards"),
        pytest.param(b"bytes 9-8/100", None, id="backwards by one"),
        pytest.param(b"bytes 9-9/10", ContentRange(Span(9, 10), 10), id="the last byte"),
        pytest.param(b"bytes 0-100/100", None, id="behind the end"),
        pytest.param(b"bytes 0-99999999999999999999/*", None, id="too far"),
        pytest.param(b"bytes */*", None, id="nothing"),
        pytest.param(b"pages 0-9/100", None, id="other units"),
        pytest.param(b"bytes 0-9/" + b"9" * 100, None, id="too long"),
    ],
)
def test_a_content_range_is_read_or_none(value: bytes, means: ContentRange | None) -> None:
    """RFC 9110 14.4"""
    assert content_range_of([value]) == means


def test_two_content_ranges_are_none() -> None:
    assert content_range_of([b"bytes 0-9/100", b"bytes 0-8/100"]) is None


@given(st.one_of(LINES, NEAR))
def test_no_lines_make_a_reader_of_ranges_raise(lines: list[bytes]) -> None:
    for said in (lines, [b"bytes=" + line for line in lines], [b"bytes " + line for line in lines]):
        assert len(range_of(said) or ()) <= MAX_MEMBERS
        found = content_range_of(said)
        assert found is None or found.span is None or 0 <= found.span.first < found.span.end <= MAX_POSITION


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_a_range_means_the_bytes_that_slices_give(first: int, more: int, total: int) -> None:
    content = bytes(total)
    for one, expected in (
        (Range(first, first + more + 1), content[first : first + more + 1]),
        (Range(first, None), content[first:]),
        (Range(None, None, more), content[-more:] if more else b""),
    ):
        span = one.of(total)
        assert (0 if span is None else span.end - span.first) == len(expected)
        assert span is None or 0 <= span.first < span.end <= total


WHOLE = Stored(answer(DATE, TAG, EARLIER, "Content-Length: 100"), total=100)
PARTS = replace(WHOLE, spans=(Span(0, 10), Span(50, 100)))
ENDLESS = replace(PARTS, total=None)


@pytest.mark.parametrize(
    ("lines", "stored", "piece"),
    [
        pytest.param([], WHOLE, Whole(), id="no range, all of it"),
        pytest.param(["Range: bytes=0-9"], WHOLE, Part(Span(0, 10), b"bytes 0-9/100"), id="a part of the whole"),
        pytest.param(["Range: bytes=-9"], WHOLE, Part(Span(91, 100), b"bytes 91-99/100"), id="its end"),
        pytest.param(["Range: bytes=90-999"], WHOLE, Part(Span(90, 100), b"bytes 90-99/100"), id="up to its end"),
        pytest.param(["Range: bytes=100-"], WHOLE, Unsatisfiable(b"bytes */100"), id="behind its end"),
        pytest.param(["Range: bytes=-0"], WHOLE, Unsatisfiable(b"bytes */100"), id="no byte"),
        pytest.param(["Range: bytes=0-1,5-6"], WHOLE, Whole(), id="several ranges get the whole"),
        pytest.param(["Range: pages=1"], WHOLE, Whole(), id="other units get the whole"),
        pytest.param(["Range: bytes=0-9"], replace(WHOLE, total=None), Whole(), id="a length that is not known"),
        pytest.param(
            ["Range: bytes=0-9"], Stored(answer(status=404), total=100), Whole(), id="a range counts for a 200"
        ),
        pytest.param(["Range: bytes=0-9", 'If-Range: "b"'], WHOLE, Whole(), id="If-Range of another tag"),
        pytest.param(["Range: bytes=0-9", 'If-Range: "a"'], WHOLE, Part(Span(0, 10), b"bytes 0-9/100"), id="If-Range"),
        pytest.param([], PARTS, Missing(), id="incomplete, and all is asked for (3.3)"),
        pytest.param(["Range: bytes=0-9"], PARTS, Part(Span(0, 10), b"bytes 0-9/100"), id="within it (3.3)"),
        pytest.param(["Range: bytes=60-"], PARTS, Part(Span(60, 100), b"bytes 60-99/100"), id="within its end (3.3)"),
        pytest.param(["Range: bytes=5-10"], PARTS, Missing(), id="partly within it (3.3)"),
        pytest.param(["Range: bytes=5-55"], PARTS, Missing(), id="over a gap (3.3)"),
        pytest.param(["Range: bytes=0-1,5-6"], PARTS, Missing(), id="several ranges of it (3.3)"),
        pytest.param(["Range: bytes=100-"], PARTS, Unsatisfiable(b"bytes */100"), id="behind its end, known"),
        pytest.param(["Range: bytes=1-2"], ENDLESS, Part(Span(1, 3), b"bytes 1-2/*"), id="of an unknown length"),
        pytest.param(["Range: bytes=50-"], ENDLESS, Missing(), id="up to an end that is not known"),
        pytest.param(["Range: bytes=-1"], ENDLESS, Missing(), id="the end that is not known"),
    ],
)
def test_a_request_gets_the_part_that_is_kept(lines: list[str], stored: Stored, piece: Piece) -> None:
    """RFC 9110 14.2, RFC 9111 3.3"""
    assert piece_of(ask(*lines), stored) == piece


def test_a_range_says_nothing_to_head() -> None:
    """RFC 9110 14.2"""
    request = ask("Range: bytes=0-9", method="HEAD")
    assert piece_of(request, WHOLE) == piece_of(request, PARTS) == Whole()
    assert piece_of(request, ENDLESS) == Missing()


@pytest.mark.parametrize(
    ("value", "lines", "holds"),
    [
        pytest.param('"a"', [TAG], True, id="the same tag"),
        pytest.param('W/"a"', ['ETag: W/"a"'], False, id="a weak tag"),
        pytest.param('"a"', [DATE, EARLIER], False, id="a tag, but there is none"),
        pytest.param(EARLIER.partition(" ")[2], [DATE, EARLIER], True, id="the same date"),
        pytest.param(DATE.partition(" ")[2], [DATE, EARLIER], False, id="a later date"),
        pytest.param(EARLIER.partition(" ")[2], [EARLIER], False, id="a date that cannot be strong without Date"),
        pytest.param(
            DATE.partition(" ")[2],
            [DATE, DATE.replace("Date", "Last-Modified")],
            False,
            id="a date that is weak, since it is too near",
        ),
        pytest.param("x", [DATE, EARLIER], False, id="neither"),
    ],
)
def test_if_range_asks_for_a_strong_validator(value: str, lines: list[str], holds: bool) -> None:
    """RFC 9110 13.1.5, 8.8.2.2"""
    assert if_range_holds([value.encode()], answer(*lines)) is holds


@pytest.mark.parametrize(("second", "strong"), [(37, True), (38, False)])
def test_a_date_is_strong_from_a_minute_on(second: int, strong: bool) -> None:
    """RFC 9110 8.8.2.2"""
    value = f"Sun, 06 Nov 1994 08:48:{second} GMT"
    assert if_range_holds([value.encode()], answer(DATE, f"Last-Modified: {value}")) is strong


def test_two_lines_of_if_range_do_not_hold() -> None:
    assert not if_range_holds([b'"a"', b'"b"'], answer(TAG))


def part(first: int, last: int, total: str = "100", *lines: str, tag: str = TAG) -> Stored:
    response = answer(DATE, tag, f"Content-Range: bytes {first}-{last}/{total}", *lines, status=206)
    return Stored(response)


@pytest.mark.parametrize(
    ("spans", "first", "last", "total", "then"),
    [
        pytest.param((Span(0, 10),), 10, 19, "100", (Span(0, 20),), id="what follows"),
        pytest.param((Span(0, 10),), 5, 19, "*", (Span(0, 20),), id="what overlaps"),
        pytest.param((Span(0, 10),), 30, 39, "100", (Span(0, 10), Span(30, 40)), id="what is apart"),
        pytest.param((Span(0, 10), Span(30, 40)), 5, 34, "100", (Span(0, 40),), id="what fills a gap"),
        pytest.param((Span(0, 10),), 10, 99, "100", None, id="what completes it (3.3)"),
    ],
)
def test_parts_with_the_same_strong_tag_are_combined(
    spans: tuple[Span, ...], first: int, last: int, total: str, then: tuple[Span, ...] | None
) -> None:
    """RFC 9111 3.4"""
    found = combined(replace(WHOLE, spans=spans), part(first, last, total).response)
    assert found is not None
    assert found.spans == then
    assert found.total == 100


def test_a_part_tells_the_length_that_was_not_known() -> None:
    found = combined(replace(ENDLESS, spans=(Span(0, 10),)), part(10, 99).response)
    assert found == WHOLE
    assert combined(replace(ENDLESS, spans=(Span(0, 10),)), part(10, 99, "*").response) == replace(
        ENDLESS, spans=(Span(0, 100),)
    )


def test_a_part_of_what_is_complete_adds_nothing() -> None:
    assert combined(WHOLE, part(0, 9).response) is WHOLE


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        pytest.param(PARTS, part(10, 19, tag='ETag: "b"'), id="another tag"),
        pytest.param(PARTS, part(10, 19, tag='ETag: W/"a"'), id="a weak tag"),
        pytest.param(PARTS, part(10, 19, tag=EARLIER), id="a date is not enough"),
        pytest.param(replace(PARTS, response=answer(EARLIER)), part(10, 19), id="a tag where there was none"),
        pytest.param(PARTS, part(10, 19, "200"), id="another length"),
        pytest.param(PARTS, Stored(answer(TAG, "Content-Range: bytes 10-19/100")), id="no 206"),
        pytest.param(PARTS, Stored(answer(TAG, status=206)), id="several parts in one"),
        pytest.param(PARTS, Stored(answer(TAG, "Content-Range: bytes */100", status=206)), id="no bytes"),
        pytest.param(PARTS, part(10, 19, "100", "Content-Length: 9"), id="a length that does not fit"),
        pytest.param(replace(ENDLESS, spans=(Span(0, 10), Span(90, 200))), part(10, 19), id="bytes behind the end"),
    ],
)
def test_parts_that_may_be_of_another_representation_are_not_combined(stored: Stored, new: Stored) -> None:
    """RFC 9111 3.4, RFC 9110 15.3.7.3"""
    assert combined(stored, new.response) is None


def test_a_part_may_say_its_own_length() -> None:
    assert extent(part(10, 19, "100", "Content-Length: 10").response) == ContentRange(Span(10, 20), 100)
    assert belongs(PARTS, part(10, 19, "100", "Content-Length: 10").response)


def test_no_more_pieces_are_kept_than_may_be() -> None:
    many = replace(WHOLE, total=1000, spans=tuple(Span(2 * at, 2 * at + 1) for at in range(MAX_SPANS)))
    assert combined(many, part(500, 500, "1000").response) is None
    assert combined(many, part(1, 1, "1000").response) is not None


SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda at: Span(at[0], at[0] + at[1])))


@given(SPANS)
def test_joined_spans_have_the_same_bytes_in_order_with_gaps(spans: list[Span]) -> None:
    found = joined(spans)
    assert {at for span in found for at in range(*span)} == {at for span in spans for at in range(*span)}
    assert all(one.end < other.first for one, other in pairwise(found))
