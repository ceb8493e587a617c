"""Lines out of a stream in pieces of any size, bounded, and what stands between lines: literals, content, chunks."""

from __future__ import annotations

from typing import Final

PIECE: Final = 64 * 1024
"""Bytes that whoever finds the end of content by itself takes at a time."""


class LineTooLong(ValueError):
    """A line is longer than its protocol allows, or lacks its end."""


class Lines:
    """
    Gives whole lines, their ends included, in order.

    A line ends in LF; whether a CR stands before it is the reader's business, who hands lines on as they came. Use::

        lines.feed(data)
        while (line := lines.next()) is not None: ...

    Between two of them the reader may L{take} what is no line. A byte is copied a bounded number of times, however the
    stream was cut and however often it changes between lines and other things.

    @param limit: bytes of a line, its end included.
    """

    __slots__ = ("_at", "_held", "_limit", "_searched")

    def __init__(self, limit: int) -> None:
        self._held = bytearray()
        self._at = 0
        self._searched = 0
        self._limit = limit

    def feed(self, data: bytes) -> None:
        """More bytes."""
        if self._at:
            del self._held[: self._at]
            self._searched -= self._at
            self._at = 0
        self._held += data

    def next(self) -> bytes | None:
        """
        The next line, if there is a whole one.

        @raise LineTooLong: it is not, and is too long already.
        """
        end = self._held.find(b"\n", max(self._searched, self._at)) + 1
        if not end:
            self._searched = len(self._held)
            if len(self._held) - self._at >= self._limit:
                raise LineTooLong(f"a line of more than {self._limit} bytes")
            return None
        if end - self._at > self._limit:
            raise LineTooLong(f"a line of more than {self._limit} bytes")
        line = bytes(self._held[self._at : end])
        self._at = end
        return line

    def take(self, most: int = PIECE) -> bytes:
        """At most C{most} bytes as they are, whatever lines they are of."""
        begin = self._at
        self._at = min(begin + most, len(self._held))
        return bytes(self._held[begin : self._at])

    def give_back(self, size: int) -> None:
        """The last C{size} bytes that were taken are lines again."""
        self._at -= size

    def rest(self) -> bytes:
        """Everything that was fed and not given out; it is taken."""
        rest = bytes(self._held[self._at :])
        self._held.clear()
        self._at = self._searched = 0
        return rest

    def __len__(self) -> int:
        """Bytes held that are not a whole line yet, or were not asked for."""
        return len(self._held) - self._at
