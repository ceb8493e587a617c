"""What is here: the addresses of this machine, and what the ports we listen on are bound to."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

LOOPBACK: Final = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
"""where a connection to the unspecified address leads (Linux: tcp_v4_connect, tcp_v6_connect)"""


class Bound(NamedTuple):
    """An open port of ours."""

    transport: str
    """C{TCP} or C{UDP}"""
    host: str
    port: int
    both: bool = False
    """bound to every IPv6 address, it takes those of IPv4 too"""

    def meets(self, transport: str, host: str, port: int) -> bool:
        """Whether what is sent to this address comes here."""
        if (transport, port) != (self.transport, self.port):
            return False
        own, there = plain(self.host), plain(host)
        if there.is_unspecified:
            there = LOOPBACK[there.version]
        if not own.is_unspecified:
            return own == there
        if own.version != there.version and not (self.both and there.version == 4):
            return False
        return is_local(str(there))


def plain(host: str) -> IPv4Address | IPv6Address:
    """
    An address without a zone, one of IPv4 inside of IPv6 as what it is.

    @raise ValueError: it is none.
    """
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_local(host: str) -> bool:
    """Whether an address is one of this machine's: only such can be bound to."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            return False
    return True
