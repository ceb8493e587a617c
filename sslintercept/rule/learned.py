"""
Remembered bypasses: clients that reject our certificate are tunnelled after a few attempts.

An application that pins its origin's key can never be intercepted. It says so by an alert (C{unknown_ca},
C{bad_certificate}, C{certificate_unknown}; RFC 8446 6.2) or by closing right after our Finished. After a number of
such rejections by the same client for the same server, the next connections of that pair are tunnelled for a time;
other clients, and the same client elsewhere, are intercepted as before.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from sslintercept.facts import Action, Decision

MAX_WHY: Final = 200
"""Characters of evidence kept for a pair."""


class LearnedEntry(NamedTuple):
    """A pair as reports show it."""

    client: str
    server: str
    rejections: int
    why: str
    """the last one's evidence"""
    bypassed: bool
    left: float
    """seconds until it is forgotten"""


class Pair:
    """What is remembered of one client and one server."""

    __slots__ = ("bypassed", "count", "until", "why")

    def __init__(self) -> None:
        self.count, self.until, self.why, self.bypassed = 0, 0.0, "", False


class Learned:
    """
    Counts rejections and answers with a bypass.

    @ivar after: rejections that make a bypass; 0 never makes one.
    @ivar ttl: seconds a bypass lasts, and a rejection counts. When they are over the pair starts anew.
    @ivar limit: pairs remembered; beyond it the one that was longest unused is forgotten.
    """

    __slots__ = ("after", "limit", "pairs", "ttl")

    def __init__(self, after: int, ttl: float, limit: int = 10_000) -> None:
        self.after, self.ttl, self.limit = after, ttl, limit
        self.pairs: OrderedDict[tuple[str, str], Pair] = OrderedDict()

    def rejected(self, client_host: str, server: str, why: str, now: float) -> bool:
        """
        The client refused the leaf for *server*. C{True} if just now this made a bypass of the pair.

        @param why: the evidence in words, for example C{alert unknown_ca}.
        """
        if self.after < 1:
            return False
        key = (client_host, server)
        pair = self.pairs.get(key)
        if pair is None or pair.until <= now:
            pair = self.pairs[key] = Pair()
        self.pairs.move_to_end(key)
        if len(self.pairs) > self.limit:
            self.pairs.popitem(last=False)
        pair.count += 1
        pair.why = why[:MAX_WHY]
        if pair.bypassed:  # connections that were under way when the bypass was made do not prolong it
            return False
        pair.until = now + self.ttl
        pair.bypassed = pair.count >= self.after
        return pair.bypassed

    def accepted(self, client_host: str, server: str) -> None:
        """The client finished a handshake with our leaf: whatever was held against the pair is forgotten."""
        self.pairs.pop((client_host, server), None)

    def bypass(self, client_host: str, server: str, now: float) -> Decision | None:
        """The decision to tunnel, if the pair has earned it."""
        key = (client_host, server)
        pair = self.pairs.get(key)
        if pair is None:
            return None
        if pair.until <= now:
            del self.pairs[key]
            return None
        if not pair.bypassed:
            return None
        self.pairs.move_to_end(key)
        reason = (
            f"{client_host} rejected our certificate for {server} {pair.count} times (last: {pair.why}); "
            f"tunnelled for another {pair.until - now:.0f} s"
        )
        return Decision(Action.TUNNEL, "learned", reason)

    def entries(self, now: float) -> list[LearnedEntry]:
        """What is remembered and not over, the longest unused first."""
        return [
            LearnedEntry(client, server, pair.count, pair.why, pair.bypassed, pair.until - now)
            for (client, server), pair in self.pairs.items()
            if pair.until > now
        ]
