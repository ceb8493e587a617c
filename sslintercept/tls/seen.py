"""
What is remembered of origins, so that the client's TLS can be answered without asking again (handshake order
"adaptive").

Only what a forged leaf needs is kept, never a verdict that opens anything: the origin is verified on each new
connection.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from sslintercept.facts import Address

MOST = 10_000
"""origins remembered"""


class Seen(NamedTuple):
    """An origin's leaf as far as it is copied, and the protocol that was agreed on."""

    names: tuple[str, ...]
    not_after: float
    alpn: str
    fault: str | None


class Origins:
    """
    The origins seen lately, bounded in number and time.

    @param remember: seconds.
    """

    def __init__(self, remember: float) -> None:
        self._remember = remember
        self._seen: OrderedDict[tuple[Address, str], tuple[float, Seen]] = OrderedDict()

    def note(self, destination: Address, name: str, seen: Seen, now: float) -> None:
        """Remember what a handshake with C{name} at C{destination} found."""
        self._seen[destination, name] = (min(now + self._remember, seen.not_after), seen)
        self._seen.move_to_end((destination, name))
        while len(self._seen) > MOST:
            self._seen.popitem(last=False)

    def recall(self, destination: Address, name: str, now: float) -> Seen | None:
        """What is known, unless it is too old."""
        kept = self._seen.get((destination, name))
        if kept is None:
            return None
        if kept[0] <= now:
            del self._seen[destination, name]
            return None
        return kept[1]

    def forget(self, destination: Address, name: str) -> None:
        """The origin turned out to be different."""
        self._seen.pop((destination, name), None)
