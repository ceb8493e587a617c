"""
The document of a resource as bytes: what is known of its alternates as JSON, and the content of the small ones.

Whoever gives a document has compared its checksum; what cannot be read was written by another version.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from math import isfinite
from typing import Final, TypeAlias

from sslintercept.cache.message import Span, Stored, Variant, answered
from sslintercept.cache.ready import Ready
from sslintercept.cache.resource import NAME, Alternate, Piece, Resource
from sslintercept.cache.span import MAX_POSITION

_HEAD = struct.Struct("<BdddHHIII")
"""
Version; since, until, born and status of what is ready, 0 if nothing is; lengths of the URI, of the fields and the
content of what is ready, and of the JSON.
"""
VERSION: Final = 1
Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


def encode(resource: Resource) -> list[bytes | memoryview]:
    """Write *resource* as the parts of its document."""
    told: list[Json] = []
    content: list[bytes | memoryview] = []
    for one in resource.alternates:
        told.append(_told(one))
        if one.content is not None:
            content.append(one.content)
    known = json.dumps(told, separators=(",", ":")).encode("ascii")
    since, until, born, status, block, ready = resource.ready or (0.0, 0.0, 0.0, 0, b"", b"")
    sizes = len(resource.uri), len(block), len(ready), len(known)
    head = _HEAD.pack(VERSION, since, until, born, status, *sizes)
    return [head, resource.uri, block, known, *content]


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
    Read a document; its alternates are read when somebody wants to see them.

    @return: C{None} if it cannot be read.
    """
    try:
        version, since, until, born, status, *sizes = _HEAD.unpack_from(document)
    except struct.error:
        return None
    uri, block, size, known = sizes
    at = _HEAD.size + uri
    text = at + block
    content = text + known
    if version != VERSION or content + size > len(document):
        return None
    kept = bytes(document)
    ready = None
    if until and isfinite(until) and isfinite(since) and isfinite(born):
        ready = Ready(since, until, born, status, kept[at:text], memoryview(kept)[content : content + size])
    return Resource(
        kept[_HEAD.size : at],
        load=lambda: _alternates(kept[text:content], memoryview(kept)[content:]),
        size=len(kept),
        ready=ready,
    )


def _alternates(known: bytes, contents: memoryview) -> tuple[Alternate, ...]:
    """Give the alternates; none if they cannot be read."""
    at = 0
    found = []
    try:
        for one in json.loads(known):
            size = one[9]
            content = None
            if size is not None:
                content = bytes(contents[at : at + size])
                if len(content) != size:
                    return ()
                at += size
            found.append(_alternate(one, content))
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, KeyError):
        return ()
    return tuple(found)


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
