"""
The stages of a message in one row, each with what it wants taken off in front of it.

A body is on one of three levels: raw chunks, coded content, plain content. Between two stages that want different
levels stands what leads from one to the other; behind the last stands what the receiver needs put on again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from sslintercept.facts import CHUNKED, Side
from sslintercept.transform.accept import choose, codings_of
from sslintercept.transform.coding import CODINGS, IDENTITY, Decoder, Encoder
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.recode import Chunk, Dechunk, Decode, Encode, Reader, Tap
from sslintercept.transform.stage import Null, Transform


class Sees(IntEnum):
    """What a stage gets, and gives."""

    CHUNKS = 0
    """of a chunked request the raw chunks, whose length the stage has to announce (ATS: request transforms)"""
    CODED = 1
    """no chunks; content codings are left on"""
    CONTENT = 2
    """plain content: no chunks, no codings"""


class Bounds(NamedTuple):
    """What decoding may cost (L{sslintercept.transform.coding.Decoder})."""

    ratio: float
    limit: int


VALIDATORS: Final = frozenset((b"accept-ranges", b"content-md5", b"digest", b"content-digest", b"repr-digest"))
"""fields that are about the bytes of a body, and wrong once it is another (RFC 9530, RFC 1864)"""


class Leave(Null):
    """
    Given as a stage it stands for none: it says which coding the body leaves with, whatever it came with.

    @param codings: in the order of liking; the client's own liking and what it accepts come first. L{IDENTITY} alone
        is given to everybody. Of requests the first counts: what an origin accepts nobody knows.
    """

    def __init__(self, *codings: str) -> None:
        self.codings = codings


class Row:
    """
    The row of a message's stages while it grows.

    @ivar stages: so far.
    @ivar raw_in: the first stage gets raw chunks.

    @param accept: the client's values of Accept-Encoding.
    """

    def __init__(self, message: Message, bounds: Bounds, first: Sees, accept: Sequence[bytes] = ()) -> None:
        self.message = message
        self._accept = accept
        self._leave: tuple[str, ...] = ()
        self.stages: list[Transform] = []
        self._bounds = bounds
        self._request = message.direction is Direction.REQUEST
        self._chunked = self._request and message.head.length == CHUNKED
        self.raw_in = self._chunked and first is Sees.CHUNKS
        self._level = Sees.CHUNKS if self.raw_in else Sees.CODED
        # A piece of coded content cannot be decoded.
        self._codings = () if message.partial else codings_of(message.all(b"Content-Encoding"))
        self._came_with = self._codings

    @property
    def raw_out(self) -> bool:
        """The last stage gives raw chunks."""
        return self._level is Sees.CHUNKS

    def add(self, stage: Transform, sees: Sees) -> None:
        """Add a stage."""
        self._go_to(sees if self._chunked else max(sees, Sees.CODED))
        if isinstance(stage, Leave):
            self._leave = stage.codings
        else:
            self.stages.append(stage)

    def read(self, reader: Reader) -> None:
        """Add a reader: what it sees passes as it is."""
        if self._level is Sees.CHUNKS:
            self._go_to(Sees.CODED)
        coded = self._level is Sees.CODED and bool(self._codings)
        self.stages.append(Tap(reader, self._decoder() if coded else None))

    def _go_to(self, level: Sees) -> None:
        while self._level < level:
            if self._level is Sees.CHUNKS:
                self.stages.append(Dechunk())
            elif self._codings:
                self.stages.append(Decode(self._decoder()))
            self._level = Sees(self._level + 1)
        while self._level > level:
            if self._level is Sees.CODED:
                self.stages.append(Chunk())
            else:
                self._encode()
            self._level = Sees(self._level - 1)

    def _encode(self) -> None:
        """Put on what the receiver accepts; an origin gets what the client had used."""
        if self._leave:
            coding = self._leave[0] if self._request else choose(self._accept, self._leave, "")
        elif self._codings:
            coding = self._codings[-1] if self._request else choose(self._accept, CODINGS, self._codings[-1])
        else:
            return
        self._codings = () if coding == IDENTITY else (coding,)
        if self._codings:
            self.stages.append(Encode(Encoder(coding)))
        if not self._request and self._leave != (IDENTITY,):
            self._vary()

    def _decoder(self) -> Decoder:
        side = Side.CLIENT if self._request else Side.UPSTREAM
        return Decoder(self._codings, ratio=self._bounds.ratio, limit=self._bounds.limit, side=side)

    def close(self) -> None:
        """Put on what the receiver accepts, and say so in the head."""
        if self._level is Sees.CONTENT:
            self._encode()
        if self._codings != self._came_with:
            self.message.remove(b"Content-Encoding")
            if self._codings:
                self.message.set(b"Content-Encoding", b", ".join(each.encode("ascii") for each in self._codings))
        if any(isinstance(each, Encode | Decode) for each in self.stages):
            unvalidate(self.message, with_length=not self.message.has_body)

    def _vary(self) -> None:
        """What the client gets depends on what it accepts (RFC 9110 12.5.5)."""
        listed = b",".join(self.message.all(b"Vary")).lower()
        if b"accept-encoding" not in listed and b"*" not in listed:
            self.message.add(b"Vary", b"Accept-Encoding")


def unvalidate(message: Message, *, with_length: bool = False) -> None:
    """
    Take back what the sender said about its bytes, since others will be sent (RFC 9110 7.7, 8.8.1).

    @param with_length: a length, too, of a body that is only spoken of (HEAD, 304).
    """
    fields = []
    for name, value in message.head.fields:
        folded = name.lower()
        if folded in VALIDATORS or (with_length and folded == b"content-length"):
            continue
        if folded == b"etag" and value.startswith(b'"'):
            value = b"W/" + value
        fields.append((name, value))
    message.head.fields = fields
