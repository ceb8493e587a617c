"""
Where nobody is led: to this proxy itself, and into private networks where the settings say so.

Asked for every address before a packet leaves. What no client has named (a listener's target, a parent, a client that
waits for a connection itself) may be anywhere but here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sslintercept.net.connector import Denied
from sslintercept.net.local import Bound, plain
from sslintercept.net.nearness import Near, nearness

ITSELF: Final = Denied("the destination is this proxy itself", "name another destination")


class Limits:
    """
    @param private: whether private networks are refused.
    @param ports: our own; a reload may change them.
    """

    def __init__(self, private: bool, ports: Callable[[], Iterable[Bound]]) -> None:
        self._private = private
        self._ports = ports

    def itself(self, host: str, port: int, transport: str = "TCP") -> Denied | None:
        """Why an address may not be used that the settings name, or that a client has by itself."""
        return ITSELF if any(own.meets(transport, host, port) for own in self._ports()) else None

    def denied(self, host: str, port: int, transport: str = "TCP") -> Denied | None:
        """Why an address may not be used that a client names."""
        if (itself := self.itself(host, port, transport)) is not None:
            return itself
        if self._private and (nearness(host) is not Near.WORLD or not plain(host).is_global):
            return Denied(f"{host} is in a private network", "see [http] private_destinations")
        return None
