"""What is kept of one name: addresses, the order they are tried in, until when they are good. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

from sslintercept.dns.answer import Answer
from sslintercept.dns.message import AAAA, NOERROR, A

SHORTEST: Final = 1.0
"""seconds that anything is kept, also what lives no longer than 0 s (ATS does so)"""
PARTIAL: Final = 30.0
"""seconds that addresses are kept at most when the other family could not be looked up"""
REFRESH_PART: Final = 0.1
"""of a lifetime: in this last part a name in use is asked for again"""
REFRESH_SHORTEST: Final = 10.0
"""seconds of a lifetime below which that is not worth it"""
MOST_ADDRESSES: Final = 16
"""addresses of one family that are kept (ATS: round robin)"""
NO_NAME: Final = "there is no such name"
NO_ADDRESS: Final = "it has no address"
"""what servers may know for certain of a name that leads nowhere"""
BOTH: Final = (AAAA, A)
"""the families, in the order of preference"""


class Host:
    """
    What is kept of one name.

    @ivar v6: its addresses by family, C{v4} likewise; none where there is nothing, or nothing is known.
    @ivar why: why there are none.
    @ivar expires: until when that is good; C{until}: until when it is better than nothing.
    @ivar refresh: from when on a use makes it be asked for again.
    """

    __slots__ = ("expires", "refresh", "turn", "until", "uses", "v4", "v6", "why")

    def __init__(
        self, v6: tuple[str, ...], v4: tuple[str, ...], why: str, now: float, ttl: float, stale: float
    ) -> None:
        self.v6, self.v4, self.why = v6, v4, why
        self.expires = now + ttl
        self.until = self.expires + stale
        self.refresh = self.expires - ttl * REFRESH_PART if ttl >= REFRESH_SHORTEST else inf
        self.uses = 0
        self.turn = 0

    @classmethod
    def of(cls, found: Mapping[int, Answer], whole: bool, now: float, stale: float) -> Host | None:
        """
        What is known after a look-up; C{None} if that is nothing.

        @param found: what the servers said of each family.
        @param whole: whether they said something of every one.
        @param stale: seconds beyond their lifetime that addresses are better than nothing.
        """
        v6, v4 = (found[rtype].addresses[:MOST_ADDRESSES] if rtype in found else () for rtype in BOTH)
        if v6 or v4:
            ttl = float(min(answer.ttl for answer in found.values() if answer.addresses))
            return cls(v6, v4, "", now, max(ttl if whole else min(ttl, PARTIAL), SHORTEST), stale)
        if not whole:
            return None
        ttl = max(float(min(answer.ttl for answer in found.values())), SHORTEST)
        exists = any(answer.rcode == NOERROR for answer in found.values())
        return cls((), (), NO_ADDRESS if exists else NO_NAME, now, ttl, 0.0)

    def addresses(self) -> Sequence[str]:
        """In the order they should be tried: the families by turns, IPv6 first (RFC 8305 4), every time one further."""
        v6, v4 = self.v6, self.v4
        if not v6 and len(v4) == 1:
            return v4
        self.turn = turn = self.turn + 1
        return mixed(turned(v6, turn), turned(v4, turn))


def turned(addresses: tuple[str, ...], turn: int) -> tuple[str, ...]:
    """The same, beginning with another one each turn."""
    if len(addresses) < 2:
        return addresses
    at = turn % len(addresses)
    return addresses[at:] + addresses[:at]


def mixed(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """By turns, as long as there are some of both."""
    short = min(len(first), len(second))
    found = [one for pair in zip(first, second, strict=False) for one in pair]
    found.extend(first[short:])
    found.extend(second[short:])
    return found
