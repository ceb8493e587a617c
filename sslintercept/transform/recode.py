"""
The stages between what is on the wire and what other stages want to see: codings, chunks, and readers who change
nothing.
"""

from __future__ import annotations

from typing import Protocol

from sslintercept.errors import MessageError
from sslintercept.profile.profile import Bytes
from sslintercept.transform.coding import Decoder, Encoder
from sslintercept.transform.stage import StageError, Transform
from sslintercept.tunnel.chunk import LAST, ChunkDecoder, encode


class Reader(Protocol):
    """Gets content and changes nothing (L{sslintercept.interfaces.IPartSink})."""

    def write(self, data: bytes) -> None: ...
    def finish(self, whole: bool) -> None: ...


class Decode(Transform):
    """Takes content codings off, in pieces and no faster than what follows takes them."""

    takes_views = True

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._ended = False

    def write(self, data: Bytes) -> None:
        self._decoder.feed(data)
        self._flow()

    def _flow(self) -> None:
        output, more = self.output, self._decoder.more
        while not output.full:
            piece = more()
            if piece:
                output.write(piece)
            elif self._ended:
                self._decoder.finish()
                output.finish()
                return
            else:
                return

    def drained(self) -> None:
        self._flow()

    def finish(self) -> None:
        self._ended = True
        self._flow()


class Encode(Transform):
    """Puts a content coding on; what came in can be decoded from what went out, at once."""

    takes_views = True

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def write(self, data: Bytes) -> None:
        self.output.write(self._encoder.feed(data))

    def finish(self) -> None:
        self.output.write(self._encoder.finish())
        self.output.finish()


class Dechunk(Transform):
    """Takes the chunked transfer coding off behind a stage that gave raw chunks, and is to blame if they are broken."""

    takes_views = True

    def __init__(self) -> None:
        self._decoder = ChunkDecoder(MessageError)

    def write(self, data: Bytes) -> None:
        try:
            pieces, used = self._decoder.feed(data)
        except MessageError as error:
            raise _broken(error.what) from error
        for piece in pieces:
            self.output.write(piece)
        if used < len(data):
            raise _broken("bytes behind the last chunk")

    def finish(self) -> None:
        if not self._decoder.done:
            raise _broken("no last chunk")
        self.output.finish()


def _broken(what: str) -> StageError:
    return StageError(what, where="chunks that a stage gave", remedy="correct the plugin")


class Chunk(Transform):
    """Puts the chunked transfer coding on in front of a stage that wants raw chunks."""

    takes_views = True

    def write(self, data: Bytes) -> None:
        self.output.write(b"".join(encode(data)))

    def finish(self) -> None:
        self.output.write(LAST)
        self.output.finish()


class Tap(Transform):
    """
    Passes a body on as it is, and shows its content to a reader first.

    @param decoder: for the codings that the reader does not want to see.
    """

    takes_views = True

    def __init__(self, reader: Reader, decoder: Decoder | None = None) -> None:
        self._reader = reader
        self._decoder = decoder
        self._told = False

    def expect(self, length: int) -> None:
        self.output.expect(length)

    def write(self, data: Bytes) -> None:
        decoder, read = self._decoder, self._reader.write
        if decoder is None:
            read(bytes(data))
        else:
            decoder.feed(data)
            while piece := decoder.more():
                read(piece)
        self.output.write(data)

    def finish(self) -> None:
        if self._decoder is not None:
            self._decoder.finish()
        self._told = True
        self._reader.finish(True)
        self.output.finish()

    def abort(self, reason: Exception) -> None:
        if not self._told:
            self._told = True
            self._reader.finish(False)
