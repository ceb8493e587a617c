"""
Idle server connections, kept for the next request (ATS: HttpSessionManager, "match both").

A connection is handed out again only for the very same destination, verified name, ALPN, lowest version, verify policy
and client identity. Whatever happens to an idle connection, even a byte that nobody asked for, takes it out for good.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple, Protocol

from sslintercept.facts import Address


class OriginKey(NamedTuple):
    """What two requests must share to share a connection."""

    destination: Address
    secure: bool
    name: str = ""
    """the name the certificate is verified for"""
    alpn: str = ""
    floor: int = 0
    """the lowest TLS version that the client's own offer allows"""
    identity: str = ""
    """whose connection it is, where the connection itself carries a login"""
    way: str = ""
    """the proxies that it leads through"""
    reach: int = 3
    """how near a name may lead the client (L{sslintercept.net.nearness}): what insiders opened is not for others"""


class Kept(Protocol):
    """A connection as the pool sees it."""

    key: OriginKey
    usable: bool

    def retire(self) -> None:
        """Close; the pool has let go already."""


class Pool:
    """
    @param size: idle connections in all.
    @param per_origin: idle connections for one key.
    """

    def __init__(self, size: int, per_origin: int) -> None:
        self._size = size
        self._per_origin = per_origin
        self._idle: dict[OriginKey, deque[Kept]] = {}
        self._order: OrderedDict[Kept, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def take(self, key: OriginKey) -> Kept | None:
        """The connection used last for C{key}, which is the least likely to be closed by the origin just now."""
        waiting = self._idle.get(key)
        while waiting:
            kept = waiting.pop()
            del self._order[kept]
            if not waiting:
                del self._idle[key]
            if kept.usable:
                return kept
        return None

    def has(self, key: OriginKey) -> bool:
        """Whether a connection for C{key} waits."""
        return any(kept.usable for kept in self._idle.get(key, ()))

    def put(self, kept: Kept) -> None:
        """Keep a connection, at the cost of the oldest if there is no room."""
        if not self._size:
            kept.retire()
            return
        waiting = self._idle.setdefault(kept.key, deque())
        waiting.append(kept)
        self._order[kept] = None
        oldest = None
        if len(waiting) > self._per_origin:
            oldest = waiting[0]
        elif len(self._order) > self._size:
            oldest = next(iter(self._order))
        if oldest is not None:
            self.remove(oldest)
            oldest.retire()

    def remove(self, kept: Kept) -> None:
        """Let go of a connection that died; one that is not here is ignored."""
        if kept in self._order:
            del self._order[kept]
            waiting = self._idle[kept.key]
            waiting.remove(kept)
            if not waiting:
                del self._idle[kept.key]

    def forget(self, identity: str) -> None:
        """Close what carries a login of somebody who is gone."""
        for kept in [kept for kept in self._order if kept.key.identity == identity]:
            self.remove(kept)
            kept.retire()

    def clear(self) -> None:
        """Close everything that is idle."""
        while self._order:
            kept, _ = self._order.popitem(last=False)
            kept.retire()
        self._idle.clear()
