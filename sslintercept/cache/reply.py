"""What a client gets from the cache: 200, 304, 206 or 416, and with which fields."""

from __future__ import annotations

from typing import Final, NamedTuple

from sslintercept.cache.field import date_of, tags_of
from sslintercept.cache.fresh import current_age
from sslintercept.cache.message import Asked, Span, Stored
from sslintercept.cache.span import Missing, Part, Unsatisfiable, piece_of
from sslintercept.facts import Fields

WITH_304: Final = frozenset((b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary"))
"""What a 304 has, where a 200 had it (RFC 9110 15.4.5)."""


class Reply(NamedTuple):
    """
    The head of an answer, and which content follows.

    @ivar span: the bytes of content to send; C{None}: none. All of a content of unknown length is C{Span(0, -1)}.
    """

    status: int
    fields: Fields
    span: Span | None


def not_modified(request: Asked, stored: Stored) -> bool:
    """
    Whether the client has what is *stored* already, by the preconditions that a cache evaluates (RFC 9111 4.3.2).

    If-None-Match goes before If-Modified-Since (RFC 9110 13.2.2); without Last-Modified, Date counts, or when it came.
    """
    response = stored.response
    if response.status != 200 or request.method not in (b"GET", b"HEAD"):
        return False
    if lines := request.says(b"if-none-match"):
        tags = tags_of(lines)
        return tags.everything or any(tag.is_weakly(response.etag) for tag in tags.listed)
    since = date_of(request.says(b"if-modified-since"), response.received)
    modified = response.generated if response.last_modified is None else response.last_modified
    return since is not None and modified <= since


def reply(request: Asked, stored: Stored, now: float) -> Reply | None:
    """
    Answer *request* with what is *stored*; that this is allowed was decided before.

    Age is how old it is (RFC 9111 4, 5.1).

    @return: C{None} if the bytes that are asked for are not kept.
    """
    response = stored.response
    age = (b"Age", b"%d" % current_age(response, now))
    fields = [field for field in response.fields if field[0].lower() != b"age"]
    piece = piece_of(request, stored)
    if not_modified(request, stored):
        names = WITH_304 if response.etag is not None else WITH_304 | {b"last-modified"}
        return Reply(304, [*(field for field in fields if field[0].lower() in names), age], None)
    if isinstance(piece, Missing):
        return None
    if isinstance(piece, Unsatisfiable):
        return Reply(416, [(b"Content-Range", piece.content_range), (b"Content-Length", b"0")], None)
    head = request.method == b"HEAD"
    if isinstance(piece, Part):
        length = b"%d" % (piece.span.end - piece.span.first)
        fields = [field for field in fields if field[0].lower() != b"content-length"]
        fields += [age, (b"Content-Range", piece.content_range), (b"Content-Length", length)]
        return Reply(206, fields, piece.span)
    span = Span(0, -1 if stored.total is None else stored.total)
    return Reply(response.status, [*fields, age], None if head else span)
