"""
What a service makes of a part: a page, or content, read as a whole before anything is said of it.

A service may answer while the part is still being sent, and must not be stopped then, or it would stop us, too. And one
that has begun to answer may find something later: all that it can do then is to end too early. So what it says is taken
in to its end, and compared with the part. What all looks of an inspector keep is bounded (L{Room}).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from sslintercept.errors import EngineError
from sslintercept.icap.body import AnswerBody
from sslintercept.profile.profile import Bytes

MOST_PAGE: Final = 256 * 1024
"""bytes of a page that a client is told in the part's place"""

BLOCK: Final = 4096
"""bytes of a body that have a digest"""
DIGEST: Final = 16
"""bytes of a digest"""

Fail = Callable[[str, str], EngineError]
"""makes an error of the engine: what, and the fault"""


class Room:
    """
    How many bytes are kept.

    @ivar taken: bytes that are kept now.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def has(self, size: int) -> bool:
        """Whether there is room for so many more."""
        return self.taken + size <= self._most

    def take(self, size: int) -> None:
        """So many more are kept."""
        self.taken += size

    def give(self, size: int) -> None:
        """They are not kept any more."""
        self.taken -= size


def _deaf(data: Bytes) -> None:
    """Nobody reads."""


def _nothing() -> None:
    """Nobody waits."""


class Marks:
    """
    Digests of a body's blocks: they tell whether another one is the same, or the beginning of it.

    @ivar size: bytes of it.
    """

    def __init__(self) -> None:
        self.size = 0
        self._blocks: list[bytes] = []
        """of all blocks that are complete"""
        self._block = blake2b(digest_size=DIGEST)

    def write(self, data: Bytes) -> None:
        """More of it."""
        view, at = memoryview(data), 0
        while at < len(view):
            piece = view[at : at + BLOCK - self.size % BLOCK]
            self._block.update(piece)
            self.size += len(piece)
            at += len(piece)
            if self.size % BLOCK == 0:
                self._blocks.append(self._block.digest())
                self._block = blake2b(digest_size=DIGEST)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Marks) and self._all == other._all

    @property
    def _all(self) -> tuple[int, list[bytes], bytes]:
        return self.size, self._blocks, self._block.digest()

    def begins(self, other: Marks) -> bool:
        """Whether all complete blocks of this one are those that the longer C{other} begins with; at least one is."""
        blocks = self._blocks
        return bool(blocks) and self.size < other.size and blocks == other._blocks[: len(blocks)]


class Content:
    """
    Content that takes a part's place (L{sslintercept.inspect.verdict.Body}).

    @param body: from the service; C{None} for none at all.
    @param length: what its head says, below which it has broken off; C{None} if it says nothing.
    @param error: makes the errors that are found here.
    @param most: bytes of it.
    @param keep: false if nobody will read it: only what it is and how it ends is of interest.
    @ivar came: called once when all of it has come; C{failed}: if it breaks off, or is too much.
    @ivar ended: all of it has come; only then it may be read.
    @ivar marks: of what came.
    """

    def __init__(
        self, body: AnswerBody | None, length: int | None, room: Room, error: Fail, most: int, *, keep: bool = True
    ) -> None:
        self._body = body
        self.length = length
        self._room = room
        self._error = error
        self._most = most
        self._keeps = keep
        self._kept: deque[bytes] = deque()
        self._paused = self._over = False
        self._write: Callable[[Bytes], object] = _deaf
        self._finish: Callable[[], object] | None = None
        self.came: Callable[[], object] = _nothing
        self.failed: Callable[[Exception], object] = lambda error: None
        self.ended = False
        self.marks = Marks()

    def start(self) -> None:
        """Take in what comes; called once, when C{came} and C{failed} are set."""
        if self._body is None:
            self._end()
        else:
            self._body.read_to(self._more, self._end, self._broke)

    # Body: whoever reads it

    def read_to(
        self,
        write: Callable[[Bytes], object],
        finish: Callable[[], object],
        fail: Callable[[Exception], object],
    ) -> None:
        """Give it; as all of it has come it cannot fail."""
        self._write, self._finish = write, finish
        self._flow()

    def pauseProducing(self) -> None:
        """Enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """There is room."""
        if self._paused:
            self._paused = False
            self._flow()

    def stopProducing(self) -> None:
        """Nobody wants it, or the rest of it. Twice is once."""
        if not self._over:
            self._drop()
            if self._body is not None and not self.ended:
                self._body.stopProducing()

    def _flow(self) -> None:
        while self._kept and not self._paused and not self._over:
            piece = self._kept.popleft()
            self._room.give(len(piece))
            self._write(piece)
        if self._finish is not None and not (self._kept or self._paused or self._over):
            self._over = True
            self._finish()

    # the service

    def _more(self, data: Bytes) -> None:
        self.marks.write(data)
        if self.marks.size > self._most:
            self._give_up(f"its answer is above {self._most} bytes", "too_big")
        elif self._keeps and not self._room.has(len(data)):
            self._give_up("too many bytes of its answers are kept already", "busy")
        elif self._keeps:
            self._room.take(len(data))
            self._kept.append(bytes(data))

    def _give_up(self, what: str, fault: str) -> None:
        self.stopProducing()
        self.failed(self._error(what, fault))

    def _end(self) -> None:
        size = self.marks.size
        if self.length is not None and size < self.length:
            self._broke(self._error(f"its answer broke off at {size} of {self.length} bytes", "lost"))
        elif not self._over:
            self.ended = True
            self.came()

    def _broke(self, error: Exception) -> None:
        if not self._over:
            self._drop()
            self.failed(error)

    def _drop(self) -> None:
        self._over = True
        self._room.give(sum(map(len, self._kept)))
        self._kept.clear()


class Page:
    """
    A page from the service, read as a whole.

    @param done: called once with it, or with C{None} if it breaks off or is above L{MOST_PAGE}.
    """

    def __init__(self, body: AnswerBody | None, done: Callable[[bytes | None], object]) -> None:
        self._body = body
        self._done: Callable[[bytes | None], object] | None = done
        self._got = bytearray()

    def start(self) -> None:
        """Read it; called once."""
        if self._body is None:
            self._end(b"")
        else:
            self._body.read_to(self._more, lambda: self._end(bytes(self._got)), lambda error: self._end(None))

    def stop(self) -> None:
        """Nobody waits for it any more."""
        if self._done is not None:
            self._done = None
            if self._body is not None:
                self._body.stopProducing()

    def _more(self, data: Bytes) -> None:
        self._got += data
        if len(self._got) > MOST_PAGE:
            done = self._done
            self.stop()
            if done is not None:
                done(None)

    def _end(self, page: bytes | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(page)
