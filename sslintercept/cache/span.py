"""Parts of a representation: what is asked for, what came, what is kept, and which of them belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sslintercept.cache.field import MAX_MEMBERS, MAX_VALUE, Lines, only, read_date, read_tag
from sslintercept.cache.message import Answered, Asked, Span, Stored, by_name

MAX_POSITION: Final = 2**62
"""Bytes of a representation; what is further away counts as that."""
MAX_SPANS: Final = 64
"""Pieces that are kept of one representation; with more, the new one is not added."""
STRONG_AFTER: Final = 60
"""Seconds from Last-Modified to Date that make it strong; one were enough of a single clock (RFC 9110 8.8.2.2)."""

_RANGE = re.compile(rb"([0-9]*+)-([0-9]*+)")
_CONTENT_RANGE = re.compile(rb"bytes +(?:([0-9]++)-([0-9]++)/(?:([0-9]++)|\*)|\*/([0-9]++))", re.IGNORECASE)


def _position(digits: bytes) -> int:
    return min(int(digits), MAX_POSITION) if len(digits) < 20 else MAX_POSITION


class Range(NamedTuple):
    """One range of bytes as it is asked for (RFC 9110 14.1.2)."""

    first: int | None
    """C{None}: the last C{suffix} bytes"""
    end: int | None
    """behind the last byte; C{None}: as far as there are bytes"""
    suffix: int = 0

    def of(self, total: int) -> Span | None:
        """Give the bytes it means of *total*, or C{None} if there are none."""
        if self.first is None:
            span = Span(max(0, total - self.suffix), total)
        else:
            span = Span(self.first, total if self.end is None else min(self.end, total))
        return span if span.first < span.end else None


def range_of(lines: Lines) -> tuple[Range, ...] | None:
    """
    Read Range (RFC 9110 14.2).

    @return: C{None} if it is absent, malformed, of other units or of more than L{MAX_MEMBERS} ranges: a recipient then
        takes it for absent.
    """
    value = only(lines)
    if value is None or len(value) > MAX_VALUE or value[:6].lower() != b"bytes=":
        return None
    found: list[Range] = []
    for part in value[6:].split(b","):
        spec = part.strip(b" \t")
        if not spec:
            continue
        match = _RANGE.fullmatch(spec)
        if match is None or spec == b"-" or len(found) == MAX_MEMBERS:
            return None
        first, last = match.groups()
        if not first:
            found.append(Range(None, None, _position(last)))
        elif not last:
            found.append(Range(_position(first), None))
        elif _position(last) >= _position(first):
            found.append(Range(_position(first), _position(last) + 1))
        else:
            return None
    return tuple(found) or None


class ContentRange(NamedTuple):
    """What Content-Range says (RFC 9110 14.4)."""

    span: Span | None
    """C{None}: the range that was asked for could not be satisfied"""
    total: int | None


def content_range_of(lines: Lines) -> ContentRange | None:
    """Read Content-Range; what contradicts itself, is not in bytes or too far away is none."""
    value = only(lines)
    match = None if value is None or len(value) > 100 else _CONTENT_RANGE.fullmatch(value)
    if match is None:
        return None
    first, last, total, alone = match.groups()
    if alone is not None:
        return ContentRange(None, _position(alone))
    span = Span(_position(first), _position(last) + 1)
    size = None if total is None else _position(total)
    if span.first >= span.end or span.end > MAX_POSITION or (size is not None and span.end > size):
        return None
    return ContentRange(span, size)


# -- answering -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole representation answers, with its own status."""


class Part(NamedTuple):
    """These bytes answer, as a 206 with this Content-Range."""

    span: Span
    content_range: bytes


class Unsatisfiable(NamedTuple):
    """There are no such bytes: a 416 with this Content-Range (RFC 9110 15.5.17)."""

    content_range: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """The bytes that are asked for are not kept."""


Piece = Whole | Part | Unsatisfiable | Missing


def if_range_holds(lines: Lines, response: Answered) -> bool:
    """Whether If-Range allows that *response* is answered in part (RFC 9110 13.1.5): by a strong validator only."""
    if not lines:
        return True
    value = only(lines)
    if value is None:
        return False
    tag = read_tag(value)
    if tag is not None:
        return tag.is_strongly(response.etag)
    modified, date = response.last_modified, response.date
    if modified is None or date is None or date - modified < STRONG_AFTER:
        return False
    return read_date(value, response.received) == modified


def piece_of(request: Asked, stored: Stored) -> Piece:
    """
    Say which part of what is *stored* answers *request* (RFC 9110 14.2, RFC 9111 3.3).

    A range counts for GET and a 200 only. Several ranges are answered with the whole, which a server may do; where only
    parts are kept, they are missing.
    """
    response = stored.response
    ranges = range_of(request.says(b"range")) if request.method == b"GET" else None
    wanted = ranges is not None and len(ranges) == 1 and if_range_holds(request.says(b"if-range"), response)
    if stored.spans is None:
        if ranges is None or not wanted or response.status != 200 or stored.total is None:
            return Whole()
    elif ranges is None or not wanted:
        # HEAD is answered by fields alone, and those of a part speak of the whole (RFC 9111 3.3).
        return Whole() if request.method == b"HEAD" and stored.total is not None else Missing()
    asked = ranges[0]
    if stored.total is None:
        if asked.first is None or asked.end is None:
            return Missing()
        span: Span | None = Span(asked.first, asked.end)
    else:
        span = asked.of(stored.total)
    total = b"*" if stored.total is None else b"%d" % stored.total
    if span is None:
        return Unsatisfiable(b"bytes */" + total)
    if stored.spans is not None and not any(kept.first <= span.first and span.end <= kept.end for kept in stored.spans):
        return Missing()
    return Part(span, b"bytes %d-%d/%b" % (span.first, span.end - 1, total))


# -- combining -------------------------------------------------------------------------------------------------------


def joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Put *spans* in order, and make one of those that overlap or touch."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.first <= found[-1].end:
            found[-1] = Span(found[-1].first, max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def extent(response: Answered) -> ContentRange | None:
    """
    Say which bytes a 206 brings (RFC 9110 15.3.7).

    @return: C{None} for several parts in one, and where Content-Range says nothing, or not what Content-Length says.
    """
    named = by_name(response.fields)
    said = content_range_of(named.get(b"content-range", ()))
    if said is None or said.span is None:
        return None
    length = response.length
    if b"content-length" in named and length != b"%d" % (said.span.end - said.span.first):
        return None
    return said


def belongs(stored: Stored, response: Answered) -> bool:
    """
    Whether a 206 is a part of the same representation as what is *stored* (RFC 9111 3.4, RFC 9110 15.3.7.3).

    Only a strong entity tag proves that; dates do not, and neither do two totals that differ.
    """
    said = extent(response)
    tag = response.etag
    if response.status != 206 or said is None or tag is None or not tag.is_strongly(stored.response.etag):
        return False
    return said.total is None or stored.total is None or said.total == stored.total


def combined(stored: Stored, response: Answered) -> Stored | None:
    """
    Add what a 206 brings to what is *stored*; its fields are for L{sslintercept.cache.update.updated}.

    @return: C{None} if it does not belong to it, or would make more than L{MAX_SPANS} pieces.
    """
    said = extent(response)
    if said is None or said.span is None or not belongs(stored, response):
        return None
    if stored.spans is None:
        return stored
    total = said.total if stored.total is None else stored.total
    spans = joined((*stored.spans, said.span))
    if len(spans) > MAX_SPANS or (total is not None and spans[-1].end > total):
        return None
    return replace(stored, total=total, spans=None if total is not None and spans == (Span(0, total),) else spans)
