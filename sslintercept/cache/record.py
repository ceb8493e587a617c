"""
The document of a resource as bytes: what is known of its alternates as JSON, and the content of the small ones.

Whoever gives a document has compared its checksum; what cannot be read was written by another version.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import TypeAlias

from sslintercept.cache.message import Span, Stored, Variant, answered
from sslintercept.cache.resource import NAME, Alternate, Piece, Resource
from sslintercept.cache.span import MAX_POSITION

_LENGTH = struct.Struct("<I")
Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


def encode(resource: Resource) -> list[bytes]:
    """Write *resource* as the parts of its document."""
    told: list[Json] = []
    content = []
    for one in resource.alternates:
        told.append(_told(one))
        if one.content is not None:
            content.append(one.content)
    head = json.dumps([resource.uri.decode("latin-1"), told], separators=(",", ":")).encode("ascii")
    return [_LENGTH.pack(len(head)), head, *content]


def _told(one: Alternate) -> Json:
    stored, response = one.stored, one.stored.response
    return [
        response.status,
        [[name.decode("latin-1"), value.decode("latin-1")] for name, value in response.fields],
        response.requested,
        response.received,
        [
            [name.decode("latin-1"), None if value is None else value.decode("latin-1")]
            for name, value in stored.variant
        ],
        stored.authorized,
        stored.total,
        None if stored.spans is None else [list(span) for span in stored.spans],
        stored.invalid,
        None if one.content is None else len(one.content),
        [[piece.first, piece.end, piece.name.hex()] for piece in one.pieces],
    ]


def decode(document: memoryview) -> Resource | None:
    """
    Read a document.

    @return: C{None} if it cannot be read.
    """
    try:
        (length,) = _LENGTH.unpack_from(document)
        at = _LENGTH.size + length
        uri, told = json.loads(bytes(document[_LENGTH.size : at]))
        alternates = []
        for one in told:
            size = one[9]
            content = None
            if size is not None:
                content = bytes(document[at : at + size])
                if len(content) != size:
                    return None
                at += size
            alternates.append(_alternate(one, content))
        return Resource(uri.encode("latin-1"), tuple(alternates))
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, struct.error):
        return None


def _alternate(one: Sequence, content: bytes | None) -> Alternate:  # type: ignore[type-arg]  # what JSON holds
    status, fields, requested, received, variant, authorized, total, spans, invalid, _, pieces = one
    lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    said: Variant = tuple(
        (name.encode("latin-1"), None if value is None else value.encode("latin-1")) for name, value in variant
    )
    stored = Stored(
        answered(int(status), lines, float(requested), float(received)),
        said,
        bool(authorized),
        None if total is None else int(total),
        None if spans is None else tuple(Span(int(first), int(end)) for first, end in spans),
        bool(invalid),
    )
    kept = tuple(Piece(int(first), int(end), bytes.fromhex(name)) for first, end, name in pieces)
    if content is not None and stored.total not in (None, len(content)):
        raise ValueError("the content is not as long as is said of it")
    if any(not 0 <= piece.first < piece.end <= MAX_POSITION or len(piece.name) != NAME for piece in kept):
        raise ValueError("a piece that is none")
    return Alternate(stored, content, kept)
