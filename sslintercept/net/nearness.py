"""
How near an address is, and names that lead nearer than whoever asks for them is (DNS rebinding).

A page from outside may name a host of its own whose address it changes to one inside, and so talk to what only the
inside may reach. A name is therefore followed no nearer than its client is: from the world to the world, from a private
network into private networks, from this machine anywhere. Literal addresses are another matter: who writes one means
it, and C{[http] private_destinations} is about them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from sslintercept.facts import Address, Facts
from sslintercept.net.connector import Forbidden


class Near(IntEnum):
    """How near something is."""

    WORLD = 0
    PRIVATE = 1
    LINK = 2
    MACHINE = 3


NETWORKS: Final = tuple(
    (ip_network(network), near)
    for near, networks in (
        (Near.MACHINE, ("127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128")),
        (Near.LINK, ("169.254.0.0/16", "fe80::/10")),
        (Near.PRIVATE, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")),
    )
    for network in networks
)
"""RFC 6890: what is nearer than the world, nearest first"""


@lru_cache(maxsize=4096)
def nearness(host: str) -> Near:
    """How near the address C{host} is; one of IPv4 inside of IPv6 (mapped, 6to4, NAT64) is as near as what it holds."""
    address = ip_address(host.partition("%")[0])
    if address.version == 6:
        raw = address.packed
        inner = None
        if raw[:12] == b"\0" * 10 + b"\xff\xff" or raw[:12] == b"\0\x64\xff\x9b" + bytes(8):
            inner = raw[12:]
        elif raw[:2] == b"\x20\x02":
            inner = raw[2:6]
        if inner is not None:
            address = ip_address(inner)
    return next((near for network, near in NETWORKS if address in network), Near.WORLD)


class Guard:
    """
    Keeps names from leading nearer than their clients are.

    @param refuse: what the settings say where no rule does.
    @param known: whether whoever runs this machine has said himself where a name is.
    """

    def __init__(self, refuse: bool, known: Callable[[str], bool]) -> None:
        self._refuse = refuse
        self._known = known

    def reach(self, facts: Facts) -> Near:
        """How near a name may lead this client."""
        decision = facts.decision
        wanted = decision.rebinding if decision is not None else ""
        if wanted == "allow" or (not wanted and not self._refuse):
            return Near.MACHINE
        try:
            return nearness(facts.client.host)
        except ValueError:
            return Near.MACHINE  # a client without an address is on this machine

    def passable(self, facts: Facts, destination: Address, addresses: Sequence[str]) -> Sequence[str]:
        """
        Those of a name's C{addresses} that it may lead this client to.

        @raise Forbidden: none.
        """
        reach = self.reach(facts)
        if reach is Near.MACHINE or all(nearness(host) <= reach for host in addresses):
            return addresses
        if is_literal(destination.host) or self._known(destination.host):
            return addresses
        left = [host for host in addresses if nearness(host) <= reach]
        if not left:
            raise Forbidden(
                f"the name leads to {addresses[0]}, which is not for clients from outside (DNS rebinding)",
                where=str(destination),
                remedy="see [dns] rebinding",
            )
        return left


def is_literal(host: str) -> bool:
    """Whether C{host} is an address and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
