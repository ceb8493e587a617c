"""Lines out of a stream in pieces of any size, bounded."""

from __future__ import annotations


class LineTooLong(ValueError):
    """A line is longer than its protocol allows, or lacks its end."""


class Lines:
    """
    Gives whole lines, their ends included, in order.

    A line ends in LF; whether a CR stands before it is the reader's business, who hands lines on as they came. Use::

        lines.feed(data)
        while (line := lines.next()) is not None: ...

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

    def rest(self) -> bytes:
        """Everything that was fed and not given out as a line; it is taken."""
        rest = bytes(self._held[self._at :])
        self._held.clear()
        self._at = self._searched = 0
        return rest

    def __len__(self) -> int:
        """Bytes held that are not a whole line yet, or were not asked for."""
        return len(self._held) - self._at
