"""What news about a resource does to what is stored of it: a 304, an answer to HEAD, a change by an unsafe method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sslintercept.cache.key import key_beside, key_of, variant_of
from sslintercept.cache.message import Answered, Asked, Stored, answered, by_name, kept_fields
from sslintercept.cache.span import STRONG_AFTER

SAFE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""Methods that change nothing (RFC 9110 9.2.1); of those that are not known nobody knows it (RFC 9111 4.4)."""

NOT_UPDATED: Final = frozenset((b"content-encoding", b"content-length", b"content-range"))
"""What is true of the content that is stored, whatever a response without content says (RFC 9111 3.2)."""
_OF_ONE_ANSWER: Final = frozenset((b"age", b"date"))
"""What is not true any longer, whether or not the news say it anew"""


def newest(stored: Sequence[Stored]) -> Stored:
    """Give the one that was generated last; of equals the one that came last (RFC 9111 4)."""
    return max(stored, key=lambda one: (one.response.generated, one.response.received))


def _strong_date(response: Answered) -> bool:
    """Whether Last-Modified is a strong validator (RFC 9110 8.8.2.2)."""
    modified, date = response.last_modified, response.date
    return modified is not None and date is not None and date - modified >= STRONG_AFTER


def identified(news: Answered, initial: Sequence[Stored]) -> list[Stored]:
    """
    Say which of the *initial* responses a 304 speaks of (RFC 9111 4.3.4).

    An entity tag alone decides where there is one.

    @param initial: all that could have been chosen for the request.
    """
    tag, modified = news.etag, news.last_modified
    if tag is not None and not tag.weak:
        return [stored for stored in initial if tag.is_strongly(stored.response.etag)]
    if tag is not None:
        found = [stored for stored in initial if tag.is_weakly(stored.response.etag)]
        return [newest(found)] if found else []
    if modified is not None:
        found = [stored for stored in initial if stored.response.last_modified == modified]
        return found if _strong_date(news) or not found else [newest(found)]
    if len(initial) == 1 and initial[0].response.etag is None and initial[0].response.last_modified is None:
        return list(initial)
    return []


def updated(stored: Stored, news: Answered, request: Asked) -> Stored:
    """
    Give what is *stored* with the fields of the *news* in place of its own (RFC 9111 3.2).

    Whether it may still be kept, or be used without being asked for again, is another question: the news may say no.

    @param request: what the news answer; it says what a new Vary is about, since it gets this response.
    """
    fresh = [(name, value) for name, value in kept_fields(news) if name.lower() not in NOT_UPDATED]
    gone = by_name(fresh).keys() | _OF_ONE_ANSWER
    old = stored.response
    fields = [(name, value) for name, value in old.fields if name.lower() not in gone] + fresh
    response = answered(old.status, fields, news.requested, news.received)
    # What the directives of before and of now name is left out of the whole.
    response = answered(old.status, kept_fields(response), news.requested, news.received)
    variant = stored.variant
    if response.vary != old.vary:
        renewed = None if response.vary is None else variant_of(response.vary, request)
        if renewed is None:
            return replace(stored, response=replace(response, vary=None), invalid=True)
        variant = renewed
    authorized = stored.authorized or bool(request.says(b"authorization"))
    return replace(stored, response=response, variant=variant, authorized=authorized)


def validated(stored: Stored, news: Answered, request: Asked) -> Stored:
    """Update what a 304 has confirmed; it is valid again, unless nobody can be chosen by what it varies on now."""
    return updated(replace(stored, invalid=False), news, request)


def told_by_head(stored: Stored, news: Answered, request: Asked) -> Stored:
    """
    Update what is *stored*, or take it for stale, by a 200 to HEAD (RFC 9111 4.3.5).

    @param stored: it could have been chosen for the request.
    """
    old = stored.response
    same = (
        (news.etag is None or news.etag == old.etag)
        and (news.last_modified is None or news.last_modified == old.last_modified)
        and (not by_name(news.fields).get(b"content-length") or _length(stored) == news.length)
    )
    return updated(stored, news, request) if same else replace(stored, invalid=True)


def _length(stored: Stored) -> bytes | None:
    return stored.response.length if stored.total is None else b"%d" % stored.total


def invalidates(request: Asked, response: Answered) -> tuple[bytes, ...]:
    """
    Give the keys whose responses a *response* to an unsafe method makes invalid (RFC 9111 4.4).

    These are its target, and what Location and Content-Location name of the same origin.
    """
    if request.method in SAFE or not 200 <= response.status < 400:
        return ()
    where = request.scheme, request.authority, request.target
    named = by_name(response.fields)
    beside = [
        key_beside(*where, reference)
        for name in (b"location", b"content-location")
        for reference in named.get(name, ())[:1]
    ]
    return tuple(dict.fromkeys(key for key in (key_of(*where), *beside) if key is not None))
