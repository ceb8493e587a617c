"""
What is stored of a resource: its alternates, and where their content is (ATS: HTTPInfo vector).

Small content is here; what is larger, or not all there, is in pieces. A piece is cut into fragments, which are
documents of their own. It has a random name, so that a fragment which is found belongs to it, whatever was kept
before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, NamedTuple

from sslintercept.cache.decide import bar_to_stay
from sslintercept.cache.fresh import Policy
from sslintercept.cache.message import Answered, Asked, Stored
from sslintercept.cache.ready import Ready
from sslintercept.cache.update import validated

FRAGMENT: Final = 2**20
"""Bytes of content in a fragment; the last one of a piece has fewer."""
SMALL: Final = 64 * 1024
"""Bytes of content that stand in the document itself."""
MOST_ALTERNATES: Final = 8
"""Alternates of a resource; with more, the one that came first is not kept (ATS: proxy.config.cache.limits)."""
MOST_PIECES: Final = 256
"""Pieces of an alternate: each change writes all of their names. With more, the new one takes their place."""
NAME: Final = 16
"""Bytes of the name of a piece, and of a key."""


class Piece(NamedTuple):
    """Bytes of a content from C{first} up to, not including, C{end}, in fragments under the piece's C{name}."""

    first: int
    end: int
    name: bytes


class Extent(NamedTuple):
    """Where a byte of content is: in the fragment under C{key} from C{at} on, where C{size} bytes are of use."""

    key: bytes
    at: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Alternate:
    """
    One response that is stored; two are the same only if they are one object.

    @ivar content: all of it, if it is small; else C{None}, and it is in C{pieces}.
    """

    stored: Stored
    content: bytes | None
    pieces: tuple[Piece, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of content that are kept."""
        return len(self.content) if self.content is not None else sum(piece.end - piece.first for piece in self.pieces)

    def extent(self, position: int) -> Extent | None:
        """Say where the byte of content at *position* is; C{None} if it is in no piece."""
        for piece in self.pieces:
            if piece.first <= position < piece.end:
                number, at = divmod(position - piece.first, FRAGMENT)
                return Extent(fragment_key(piece.name, number), at, min(FRAGMENT - at, piece.end - position))
        return None


class Resource:
    """
    What is stored under a URI (L{sslintercept.cache.key.key_of}); a change makes another one.

    @param load: gives the alternates when somebody wants to see them, from C{size} bytes; most who ask are answered
        with what is ready.
    @ivar ready: what answers plain requests, where they are all answered alike.
    """

    __slots__ = ("_alternates", "_load", "_size", "ready", "uri")

    def __init__(
        self,
        uri: bytes,
        alternates: tuple[Alternate, ...] = (),
        *,
        load: Callable[[], tuple[Alternate, ...]] | None = None,
        size: int = 0,
        ready: Ready | None = None,
    ) -> None:
        self.uri, self._alternates, self._load, self._size, self.ready = uri, alternates, load, size, ready

    @property
    def alternates(self) -> tuple[Alternate, ...]:
        """The latest last."""
        if self._load is not None:
            load, self._load = self._load, None
            self._alternates = load()
            if self.ready is not None and len(self._alternates) == 1 and (content := self._alternates[0].content):
                self.ready = self.ready._replace(content=content)  # lest the document is kept as well
        return self._alternates

    def of(self, stored: Stored) -> Alternate | None:
        """Find the alternate that holds *stored*."""
        return next((one for one in self.alternates if one.stored is stored), None)

    @property
    def size(self) -> int:
        """Bytes of memory, roughly."""
        if self._load is not None:
            return 2000 + self._size
        fields = sum(len(n) + len(v) + 120 for one in self.alternates for n, v in one.stored.response.fields)
        return (
            1500
            + len(self.uri)
            + fields
            + sum(len(one.content or b"") + 200 * len(one.pieces) + 1000 for one in self.alternates)
        )


def document_key(uri: bytes) -> bytes:
    """Give the key of a resource's document."""
    return blake2b(uri, digest_size=NAME, person=b"resource").digest()


def fragment_key(name: bytes, number: int) -> bytes:
    """Give the key of the fragment *number* of a piece."""
    return blake2b(name + number.to_bytes(8, "big"), digest_size=NAME, person=b"fragment").digest()


def with_alternate(uri: bytes, before: Resource | None, new: Alternate) -> Resource:
    """Put *new* in the place of those that answer the same requests, or beside the others."""
    kept = () if before is None else before.alternates
    others = [one for one in kept if one.stored.variant != new.stored.variant]
    return Resource(uri, (*others, new)[-MOST_ALTERNATES:])


def with_piece(alternate: Alternate, stored: Stored, piece: Piece) -> Alternate:
    """Add a *piece* to what *alternate* has; *stored* says what both are together."""
    others = [one for one in alternate.pieces if not (piece.first <= one.first and one.end <= piece.end)]
    return Alternate(stored, None, (*others, piece))


def with_stored(resource: Resource, old: Stored, new: Stored) -> Resource:
    """Put *new* in the place of what was *old* stored."""
    return Resource(
        resource.uri,
        tuple(replace(one, stored=new) if one.stored is old else one for one in resource.alternates),
    )


def is_same(one: Stored, other: Stored) -> bool:
    """Whether two are the same response, one of them perhaps read anew from the disk."""
    return one is other or (one.variant == other.variant and one.response.received == other.response.received)


def freshened(
    before: Resource | None, stored: Sequence[Stored], news: Answered, request: Asked, policy: Policy
) -> Resource | None:
    """Give what is stored under a URI once a 304 has confirmed some of it (RFC 9111 3.2, 4.3.4)."""
    for old in stored if before is not None else ():
        assert before is not None
        kept = next((one.stored for one in before.alternates if is_same(one.stored, old)), None)
        if kept is not None:
            new = validated(kept, news, request)
            before = with_stored(before, kept, new)
            if bar_to_stay(request, new, policy) is not None:
                before = Resource(before.uri, tuple(one for one in before.alternates if one.stored is not new))
    return before


def without(resource: Resource | None, stored: Stored) -> Resource | None:
    """Leave out what is *stored*."""
    if resource is None:
        return None
    kept = tuple(one for one in resource.alternates if not is_same(one.stored, stored))
    return resource if len(kept) == len(resource.alternates) else Resource(resource.uri, kept)
