"""Documents in memory, where a gateway on disk has L{sslintercept.store.store.Store}."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sslintercept.store.store import Kind


class Waiting:
    """A read that was put off."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self.cancelled = True

    def __call__(self) -> None:
        """The disk has done it."""
        if not self.cancelled:
            self.call()


class MemoryStore:
    """
    @ivar documents: by key.
    @ivar held: set to a list, it collects reads that wait until a test calls them.
    @ivar full: nothing more is taken.
    """

    def __init__(self) -> None:
        self.documents: dict[bytes, bytes] = {}
        self.kinds: dict[bytes, Kind] = {}
        self.pinned: dict[bytes, float] = {}
        self.held: list[Waiting] | None = None
        self.full = False
        self.reads = 0

    def has(self, key: bytes) -> bool:
        """Whether there is one."""
        return key in self.documents

    def read(self, key: bytes, found: Callable[[memoryview | None], object]) -> Waiting:
        """Give a document, at once or when the test lets it."""
        self.reads += 1
        document = self.documents.get(key)
        waiting = Waiting(lambda: found(None if document is None else memoryview(document)))
        if self.held is None or document is None:
            waiting()
        else:
            self.held.append(waiting)
        return waiting

    def write(
        self, key: bytes, kind: Kind, parts: Sequence[bytes | bytearray | memoryview], *, pinned_until: float = 0.0
    ) -> bool:
        """Keep a document."""
        if self.full:
            return False
        self.documents[key] = b"".join(parts)
        self.kinds[key], self.pinned[key] = kind, pinned_until
        return True

    def remove(self, key: bytes) -> bool:
        """Remove one."""
        return self.documents.pop(key, None) is not None

    def save(self, key: bytes) -> None:
        """Nothing is ever overwritten here."""

    def release(self) -> None:
        """Do all reads that wait, also those which come meanwhile."""
        while self.held:
            self.held.pop(0)()
