"""What upstream name servers said lately, ready for clients: bounded by count and bytes, good while it says so."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from sslintercept.nameserver.relay import Prepared, cache_ttl, prepare

MOST_ANSWERS: Final = 20_000
"""answers kept"""
MOST_BYTES: Final = 32 * 1024 * 1024
"""of their messages"""
OVERHEAD: Final = 400
"""bytes that an answer costs beside its message"""

Key = tuple[bytes, int, bool, bool]
"""folded name, type, and the flags C{DO} and C{CD}"""


class Kept(NamedTuple):
    """
    An answer.

    @ivar since: when it came; C{until}: until when it is good; C{stale}: until when it is better than nothing.
    @ivar size: bytes that it costs.
    """

    prepared: Prepared
    since: float
    until: float
    stale: float
    size: int


class AnswerTable:
    """
    The latest ones; the one that was not asked for longest makes room.

    @param stale: seconds beyond its time that an answer is better than nothing (RFC 8767).
    @param strip_ech: take ECH keys out (L{prepare}).
    """

    def __init__(
        self, *, stale: float, strip_ech: bool, most: int = MOST_ANSWERS, most_bytes: int = MOST_BYTES
    ) -> None:
        self._stale = stale
        self._strip_ech = strip_ech
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key, now: float) -> Kept | None:
        """What is known of C{key}, good or stale; who asks looks at the time."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if now >= kept.stale:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def learn(self, key: Key, message: bytes, now: float) -> Prepared | None:
        """An upstream server's message has come: C{None} if it is malformed."""
        prepared = prepare(message, key[2], self._strip_ech)
        if prepared is None:
            return None
        ttl = cache_ttl(message)
        if ttl:
            size = len(message) + OVERHEAD
            self._drop(key)
            until = now + ttl
            self._kept[key] = Kept(prepared, now, until, until + self._stale, size)
            self.bytes += size
            while len(self._kept) > self._most or self.bytes > self._most_bytes:
                self._drop(next(iter(self._kept)))
        return prepared

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size
