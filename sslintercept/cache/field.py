"""
The fields that caching asks besides Cache-Control: lists, times, Age, entity tags, Vary.

Values come as the list of a field's lines, without the white space around them. Nothing here raises: what is malformed,
contradictory or too long is read as whatever makes a cache keep less and ask more (RFC 9111 4.2.1). Bounds are
L{MAX_VALUE} and L{MAX_MEMBERS}; work is linear in what came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

Lines = Sequence[bytes]
"""the values of a field's lines, in order"""

MAX_VALUE: Final = 8192
"""Bytes of a list field, all lines together; more counts as malformed."""
MAX_MEMBERS: Final = 64
"""Members of a list; more counts as malformed."""
MAX_SECONDS: Final = 2**31
"""What stands for every greater number of seconds (RFC 9111 1.2.2)."""
LONG_AGO: Final = -(2**40)
"""A time before all others: what an Expires that is no date means (RFC 9111 5.3)."""

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
QUOTED: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_MARK = re.compile(rb'[",]')
_STRING = re.compile(QUOTED, re.DOTALL)
NAME: Final = re.compile(TOKEN)
"""a token (RFC 9110 5.6.2)"""


def members(lines: Lines) -> list[bytes] | None:
    """
    Give the members of a list that are not empty (RFC 9110 5.6.1.2); commas in quoted strings do not separate.

    @return: C{None} if a quoted string has no end or a bound is passed: nobody knows then what the list says.
    """
    joined = b",".join(lines)
    if len(joined) > MAX_VALUE:
        return None
    found: list[bytes] = []
    begin = at = 0
    while True:
        mark = _MARK.search(joined, at)
        end = len(joined) if mark is None else mark.start()
        if mark is not None and mark[0] == b'"':
            string = _STRING.match(joined, end)
            if string is None:
                return None
            at = string.end()
            continue
        if member := joined[begin:end].strip(b" \t"):
            found.append(member)
        if mark is None:
            return found if len(found) <= MAX_MEMBERS else None
        begin = at = end + 1


def seconds_of(argument: bytes | None) -> int | None:
    """Read delta-seconds (RFC 9111 1.2.2)."""
    if argument is None or not argument.isdigit():
        return None
    digits = argument.lstrip(b"0")
    return min(int(digits or b"0"), MAX_SECONDS) if len(digits) < 11 else MAX_SECONDS


# -- times -----------------------------------------------------------------------------------------------------------

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), 1
    )
}
_CLOCK = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_FORMS: Final = (
    re.compile(_DAY + rb", (?P<day>[0-9]{2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4}) " + _CLOCK + rb" GMT"),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{2})-(?P<month>[A-Z][a-z]{2})-(?P<year>[0-9]{2}) "
        + _CLOCK
        + rb" GMT"
    ),
    re.compile(_DAY + rb" (?P<month>[A-Z][a-z]{2}) (?P<day>[0-9 ][0-9]) " + _CLOCK + rb" (?P<year>[0-9]{4})"),
)
"""IMF-fixdate, RFC 850, asctime (RFC 9110 5.6.7); whether the name of the day is right does not matter"""


def read_date(value: bytes, now: float) -> int | None:
    """
    Read an HTTP-date (RFC 9110 5.6.7) as seconds since the epoch.

    @param now: tells the century of a year with two digits: not more than 50 years from here.
    """
    for form in _FORMS:
        if (match := form.fullmatch(value)) is not None:
            break
    else:
        return None
    month = _MONTHS.get(match["month"], 0)
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    year = int(match["year"])
    leap = second == 60
    try:
        if len(match["year"]) == 2:
            this = datetime.fromtimestamp(now, UTC).year
            year = this + 50 - (this + 50 - year) % 100
        return int(datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC).timestamp()) + leap
    except (ValueError, OverflowError, OSError):
        return None


def only(lines: Lines) -> bytes | None:
    """Give the value of a field that may stand only once: C{None} if it is absent or its lines differ."""
    return lines[0] if lines and all(line == lines[0] for line in lines) else None


def date_of(lines: Lines, now: float) -> int | None:
    """Read Date or Last-Modified (RFC 9110 6.6.1, 8.8.2); several that differ are none."""
    value = only(lines)
    return None if value is None else read_date(value, now)


def expires_of(lines: Lines, now: float) -> int | None:
    """Read Expires (RFC 9111 5.3): L{LONG_AGO} if it is no date or several, C{None} if it is absent."""
    if not lines:
        return None
    seconds = date_of(lines, now)
    return LONG_AGO if seconds is None else seconds


def age_of(lines: Lines) -> int:
    """Read Age: the first member counts, and what is no number counts as 0 (RFC 9111 5.1)."""
    return seconds_of(lines[0].partition(b",")[0].strip(b" \t")) or 0 if lines else 0


# -- validators and Vary ---------------------------------------------------------------------------------------------


class EntityTag(NamedTuple):
    """An entity tag (RFC 9110 8.8.3)."""

    opaque: bytes
    """without its quotes"""
    weak: bool = False

    def __bytes__(self) -> bytes:
        return b'%b"%b"' % (b"W/" if self.weak else b"", self.opaque)

    def is_strongly(self, other: EntityTag | None) -> bool:
        """Compare strongly: both strong, and the same (RFC 9110 8.8.3.2)."""
        return other is not None and not self.weak and not other.weak and self.opaque == other.opaque

    def is_weakly(self, other: EntityTag | None) -> bool:
        """Compare weakly: the same, either may be weak."""
        return other is not None and self.opaque == other.opaque


_TAG = re.compile(rb'(W/)?"([\x21\x23-\x7e\x80-\xff]*+)"')
_NEXT_TAG = re.compile(rb'[ \t,]*+(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*+)"[ \t]*+(?=,|\Z)|(\Z))')


def read_tag(value: bytes) -> EntityTag | None:
    """Read one entity tag."""
    match = _TAG.fullmatch(value) if len(value) <= MAX_VALUE else None
    return None if match is None else EntityTag(match[2], match[1] is not None)


def tag_of(lines: Lines) -> EntityTag | None:
    """Read ETag; several that differ, or a malformed one, are none."""
    value = only(lines)
    return None if value is None else read_tag(value)


class Tags(NamedTuple):
    """What If-None-Match lists."""

    listed: tuple[EntityTag, ...] = ()
    everything: bool = False
    """it is C{*}"""


def tags_of(lines: Lines) -> Tags:
    """
    Read If-None-Match (RFC 9110 13.1.2); commas in tags do not separate, and backslashes escape nothing.

    What is malformed lists nothing, so that nothing matches.
    """
    joined = b",".join(lines)
    if joined == b"*":
        return Tags(everything=True)
    if len(joined) > MAX_VALUE:
        return Tags()
    found: list[EntityTag] = []
    at = 0
    while len(found) <= MAX_MEMBERS and (match := _NEXT_TAG.match(joined, at)) is not None:
        if match[3] is not None:
            return Tags(tuple(found))
        found.append(EntityTag(match[2], match[1] is not None))
        at = match.end()
    return Tags()


def vary_of(lines: Lines) -> tuple[bytes, ...] | None:
    """
    Give the fields that Vary names, in lower case, sorted, each once (RFC 9110 12.5.5).

    @return: C{None} for C{*}, and for what is malformed: no request matches then (RFC 9111 4.1).
    """
    listed = members(lines)
    if listed is None or b"*" in listed or not all(NAME.fullmatch(name) for name in listed):
        return None
    return tuple(sorted({name.lower() for name in listed}))
