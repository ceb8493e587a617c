"""Requests, responses and what is kept of them, as far as caching asks; every field read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from sslintercept.cache.directive import ESSENTIAL, RequestControl, ResponseControl, request_control, response_control
from sslintercept.cache.field import EntityTag, Lines, age_of, date_of, expires_of, only, tag_of, vary_of
from sslintercept.facts import HOP_BY_HOP, Address, Fields, RequestHead

Variant = tuple[tuple[bytes, bytes | None], ...]
"""What a request says in the fields that Vary names; C{None} where it has no such field."""


def by_name(fields: Fields) -> dict[bytes, list[bytes]]:
    """Collect the values of each field under its lower-case name, in order."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: bytes
    scheme: str
    authority: Address
    target: bytes
    """origin form"""
    named: Mapping[bytes, Lines]
    """its fields, by lower-case name"""
    control: RequestControl
    plain: bool = True
    """it has no content and asks for no other protocol"""

    def says(self, name: bytes) -> Lines:
        """Give the lines of a field, by its lower-case name."""
        return self.named.get(name, ())


def asked(head: RequestHead) -> Asked:
    """Read the *head* of a request."""
    named = by_name(head.read_fields())
    control = request_control(named.get(b"cache-control", ()), named.get(b"pragma", ()))
    plain = head.length == 0 and head.upgrade is None
    return Asked(head.method, head.scheme, head.authority, head.target, named, control, plain)


@dataclass(frozen=True, slots=True)
class Answered:
    """
    A response, with all its fields.

    @ivar date: C{None} where the origin says none.
    @ivar age: what Age said when it came.
    @ivar vary: C{None} if no other request matches.
    @ivar length: what Content-Length says.
    @ivar requested: when the request was sent, by our clock; seconds since the epoch.
    @ivar received: when the head of the response came, by the same clock.
    """

    status: int
    fields: Fields
    control: ResponseControl
    date: int | None
    age: int
    expires: int | None
    last_modified: int | None
    etag: EntityTag | None
    vary: tuple[bytes, ...] | None
    length: bytes | None
    requested: float
    received: float

    @property
    def generated(self) -> float:
        """When the origin made it (RFC 9110 6.6.1: without a Date, when it was received)."""
        return self.received if self.date is None else self.date


def answered(status: int, fields: Fields, requested: float, received: float) -> Answered:
    """Read a response; *requested* and *received* are seconds since the epoch."""
    named = by_name(fields)

    def lines(name: bytes) -> Lines:
        return named.get(name, ())

    return Answered(
        status,
        fields,
        response_control(lines(b"cache-control"), lines(b"pragma")),
        date_of(lines(b"date"), received),
        age_of(lines(b"age")),
        expires_of(lines(b"expires"), received),
        date_of(lines(b"last-modified"), received),
        tag_of(lines(b"etag")),
        vary_of(lines(b"vary")),
        only(lines(b"content-length")),
        requested,
        received,
    )


class Span(NamedTuple):
    """Bytes of a representation, from C{first} up to, not including, C{end}."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Stored:
    """
    A response to GET that is kept.

    @ivar variant: what its request said in the fields that its Vary names.
    @ivar authorized: its request had Authorization.
    @ivar total: bytes of the whole representation, where they are known.
    @ivar spans: which of them are kept, in order, none touching another; C{None}: all, it is complete.
    @ivar invalid: it may only be used after it was validated (RFC 9111 4.4, 4.3.5).
    """

    response: Answered
    variant: Variant = ()
    authorized: bool = False
    total: int | None = None
    spans: tuple[Span, ...] | None = None
    invalid: bool = False


NOT_KEPT: Final = HOP_BY_HOP | {b"trailer"}
"""Fields that are never kept (RFC 9111 3.1, RFC 9110 7.6.1); for Trailer, trailers are not kept either."""


def kept_fields(response: Answered) -> Fields:
    """
    Give the fields that are stored: all, but those of one hop, and those that C{private="..."} and C{no-cache="..."}
    name (RFC 9111 3.1). Connection takes no field away without which the response says something else.
    """
    named = by_name(response.fields)
    options = b",".join(named.get(b"connection", ())).lower().split(b",")
    control = response.control
    without = NOT_KEPT | control.private.fields | control.no_cache.fields
    without |= {option.strip(b" \t") for option in options} - ESSENTIAL
    return [(name, value) for name, value in response.fields if name.lower() not in without]
