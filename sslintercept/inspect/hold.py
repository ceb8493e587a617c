"""The tail of a part that is held back until there is a verdict: never the whole of a large one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

STAR: Final = b"*"


class Hold:
    """
    Holds the last bytes of a part.

    @ivar held: bytes that are held; C{released}: that have passed.

    @param most: bytes that are held.
    @param release: takes what passes, in order.
    """

    __slots__ = ("_kept", "_most", "_release", "held", "released")

    def __init__(self, most: int, release: Callable[[bytes], object]) -> None:
        self._most = most
        self._release = release
        self._kept: deque[bytes | bytearray] = deque()
        self.held = 0
        self.released = 0

    def write(self, data: bytes) -> None:
        """Take more; what is more than may be held passes."""
        self.add(data)
        self.trim()

    def add(self, data: bytes) -> None:
        """Take more, that somebody has still to look at; then L{trim}."""
        self._kept.append(data)
        self.held += len(data)

    def trim(self) -> None:
        """What is more than may be held passes."""
        while self.held > self._most:
            excess = self.held - self._most
            first = self._kept[0]
            if len(first) <= excess:
                self._kept.popleft()
                self._pass(bytes(first))
            else:
                self._kept[0] = first[excess:]
                self._pass(bytes(first[:excess]))

    def _pass(self, data: bytes) -> None:
        self.held -= len(data)
        self.released += len(data)
        self._release(data)

    def mask(self, offset: int, length: int) -> bool:
        """
        Overwrite bytes of the part.

        @return: false if some of them have passed, or have not come; then nothing is done.
        """
        begin = offset - self.released
        end = begin + length
        if begin < 0 or end > self.held:
            return False
        at = 0
        for number, piece in enumerate(self._kept):
            if at < end and at + len(piece) > begin:
                first, last = max(begin - at, 0), min(end - at, len(piece))
                changed = bytearray(piece)
                changed[first:last] = STAR * (last - first)
                self._kept[number] = changed
            at += len(piece)
        return True

    def let_go(self) -> None:
        """Everything that is held passes."""
        kept, self._kept = self._kept, deque()
        self.held = 0
        for piece in kept:
            self.released += len(piece)
            self._release(bytes(piece))

    def take(self) -> bytes:
        """What is held, which passes some other way or not at all."""
        kept, self._kept = self._kept, deque()
        self.held = 0
        return b"".join(kept)
