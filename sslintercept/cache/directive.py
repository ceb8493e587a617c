"""
Cache-Control and Pragma: how long and for whom a response may be kept, read so that doubt costs a visit to the origin.

Nothing here raises, and bounds are those of L{sslintercept.cache.field}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from sslintercept.cache.field import MAX_SECONDS, NAME, QUOTED, TOKEN, Lines, members, seconds_of

_DIRECTIVE = re.compile(rb"(%b)(?:=(%b|%b))?" % (TOKEN, TOKEN, QUOTED), re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
MOST_KEPT: Final = 256
"""bytes of a field's lines that are read once and kept"""
_MALFORMED: Final = b"\0"
"""the argument of a directive that has one nobody can read"""


def _directives(lines: Lines) -> dict[bytes, list[bytes | None]] | None:
    """Give the arguments of each directive, names in lower case (RFC 9111 5.2), or C{None} as L{members} does."""
    listed = members(lines)
    if listed is None:
        return None
    found: dict[bytes, list[bytes | None]] = {}
    for member in listed:
        match = _DIRECTIVE.fullmatch(member)
        if match is not None:
            name, argument = match.groups()
            if argument is not None and argument.startswith(b'"'):
                argument = _ESCAPED.sub(rb"\1", argument[1:-1])
        elif (begin := NAME.match(member)) is not None:
            name, argument = begin[0], _MALFORMED
        else:
            continue
        found.setdefault(name.lower(), []).append(argument)
    return found


def _agreed(arguments: Sequence[bytes | None] | None) -> int | None:
    """
    Give the seconds that all *arguments* of a directive say; 0 if they differ or one is malformed.

    @return: C{None} if the directive is absent.
    """
    if arguments is None:
        return None
    said = {seconds_of(argument) for argument in arguments}
    only = said.pop()
    return 0 if said or only is None else only


class Named(NamedTuple):
    """A directive that may be about some fields only: C{no-cache} and C{private} of a response."""

    whole: bool
    """it is about all of the response"""
    fields: frozenset[bytes] = frozenset()
    """lower-case names; empty if it is about the whole, or absent"""


_ABSENT: Final = Named(False)
_WHOLE: Final = Named(True)

ESSENTIAL: Final = frozenset(
    (
        b"age",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-location",
        b"content-range",
        b"content-type",
        b"date",
        b"etag",
        b"expires",
        b"last-modified",
        b"location",
        b"pragma",
        b"vary",
    )
)
"""Fields without which a stored response says something else; a directive that takes one away takes all."""


def _named(arguments: Sequence[bytes | None] | None) -> Named:
    if arguments is None:
        return _ABSENT
    names: set[bytes] = set()
    for argument in arguments:
        listed = members([argument]) if argument is not None else None
        if not listed or not all(NAME.fullmatch(name) for name in listed):
            return _WHOLE
        names.update(name.lower() for name in listed)
    return _WHOLE if names & ESSENTIAL else Named(False, frozenset(names))


def _bare(arguments: Sequence[bytes | None] | None) -> bool:
    """Whether a directive that permits something is there and has, as it should, no argument."""
    return arguments is not None and all(argument is None for argument in arguments)


@dataclass(frozen=True, slots=True)
class ResponseControl:
    """
    What Cache-Control of a response says (RFC 9111 5.2.2, RFC 5861, RFC 8246).

    Seconds are C{None} where a directive is absent, 0 where it is malformed or contradicts itself. What forbids counts
    with any argument, what permits only without one.
    """

    max_age: int | None = None
    s_maxage: int | None = None
    no_cache: Named = _ABSENT
    private: Named = _ABSENT
    no_store: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    public: bool = False
    immutable: bool = False
    stale_while_revalidate: int = 0
    stale_if_error: int | None = None
    malformed: bool = False
    """nobody knows what it says"""


def response_control(lines: Lines, pragma: Lines = ()) -> ResponseControl:
    """
    Read Cache-Control of a response; what many say is read once.

    @param pragma: counts where there is no Cache-Control: C{no-cache} had no meaning in responses (RFC 9111 5.4), but
        who sends it has one in mind.
    """
    return (_kept_response if _is_short(lines, pragma) else _response_control)(tuple(lines), tuple(pragma))


def _is_short(*fields: Lines) -> bool:
    """Whether what was read of it may be kept: its memory is bounded."""
    return sum(map(len, chain.from_iterable(fields))) <= MOST_KEPT


def _response_control(lines: Lines, pragma: Lines) -> ResponseControl:
    found = _directives(lines)
    if found is None:
        return ResponseControl(malformed=True)
    if not lines and _says_no_cache(pragma):
        return ResponseControl(no_cache=_WHOLE)
    return ResponseControl(
        max_age=_agreed(found.get(b"max-age")),
        s_maxage=_agreed(found.get(b"s-maxage")),
        no_cache=_named(found.get(b"no-cache")),
        private=_named(found.get(b"private")),
        no_store=b"no-store" in found,
        must_revalidate=b"must-revalidate" in found,
        proxy_revalidate=b"proxy-revalidate" in found,
        must_understand=_bare(found.get(b"must-understand")),
        public=_bare(found.get(b"public")),
        immutable=_bare(found.get(b"immutable")),
        stale_while_revalidate=_agreed(found.get(b"stale-while-revalidate")) or 0,
        stale_if_error=_agreed(found.get(b"stale-if-error")),
    )


@dataclass(frozen=True, slots=True)
class RequestControl:
    """
    What Cache-Control of a request says (RFC 9111 5.2.1, RFC 5861 4).

    Of several values the one counts that a cache can meet least.
    """

    max_age: int | None = None
    min_fresh: int = 0
    max_stale: int = 0
    """how much staler than its lifetime a response may be; L{MAX_SECONDS} without a limit"""
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    stale_if_error: int | None = None


def request_control(lines: Lines, pragma: Lines = ()) -> RequestControl:
    """
    Read Cache-Control of a request; malformed means: neither keep nor use what is kept.

    @param pragma: C{no-cache} counts where there is no Cache-Control, as caches of HTTP/1.0 had it (RFC 9111 5.4).
    """
    return (_kept_request if _is_short(lines, pragma) else _request_control)(tuple(lines), tuple(pragma))


def _request_control(lines: Lines, pragma: Lines) -> RequestControl:
    found = _directives(lines)
    if found is None:
        return RequestControl(no_cache=True, no_store=True)
    if not lines and _says_no_cache(pragma):
        return RequestControl(no_cache=True)
    ages = [seconds_of(argument) or 0 for argument in found.get(b"max-age", ())]
    fresh = [seconds_of(argument) for argument in found.get(b"min-fresh", ())]
    stale = [MAX_SECONDS if argument is None else seconds_of(argument) or 0 for argument in found.get(b"max-stale", ())]
    return RequestControl(
        max_age=min(ages, default=None),
        min_fresh=max((MAX_SECONDS if seconds is None else seconds for seconds in fresh), default=0),
        max_stale=min(stale, default=0),
        no_cache=b"no-cache" in found,
        no_store=b"no-store" in found,
        only_if_cached=b"only-if-cached" in found,
        stale_if_error=_agreed(found.get(b"stale-if-error")),
    )


def _says_no_cache(pragma: Lines) -> bool:
    found = _directives(pragma)
    return found is None or b"no-cache" in found


_kept_response = lru_cache(maxsize=1024)(_response_control)
_kept_request = lru_cache(maxsize=1024)(_request_control)
