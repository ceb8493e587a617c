"""What is remembered, and what may be held: verdicts by digest, and bytes of parts that wait."""

from __future__ import annotations

from collections import OrderedDict

from sslintercept.inspect.verdict import Verdict


class Verdicts:
    """
    Verdicts by the digest of what they are about, for inspectors that judge by content alone.

    Failures are not remembered. A generation of settings begins with none.

    @param most: kept; the one that was asked for longest ago goes first. 0: none.
    @param keep: seconds; signatures become better.
    """

    def __init__(self, most: int, keep: float) -> None:
        self._most, self._keep = most, keep
        self._kept: OrderedDict[tuple[str, bytes, bytes], tuple[float, Verdict | None]] = OrderedDict()
        self.asked = self.known = 0

    def find(self, inspector: str, tag: bytes, digest: bytes, now: float) -> tuple[Verdict | None] | None:
        """
        The verdict in a tuple, C{None} if none is known.

        @param tag: of what the inspector judges by (L{sslintercept.inspect.inspector.Inspector.tag}).
        """
        self.asked += 1
        key = inspector, tag, digest
        kept = self._kept.get(key)
        if kept is None or kept[0] <= now:
            return None
        self._kept.move_to_end(key)
        self.known += 1
        return (kept[1],)

    def keep(self, inspector: str, tag: bytes, digest: bytes, verdict: Verdict | None, now: float) -> None:
        """Remember a verdict."""
        if not self._most:
            return
        key = inspector, tag, digest
        self._kept[key] = now + self._keep, verdict
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


class Budget:
    """
    Bytes of parts that all inspections of a process may keep at once.

    @ivar used: at present.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, size: int) -> bool:
        """Whether there is room for so many more; they count then."""
        if self.used + size > self.most:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """They are kept no longer."""
        self.used -= size
