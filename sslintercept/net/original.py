"""
Where a connection was going before the kernel redirected it to us (Linux netfilter: REDIRECT and TPROXY).

REDIRECT writes our address over the client's destination, and the connection tracker remembers what stood there. TPROXY
writes nothing: the socket that we accept has the client's destination as its own local address.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from sslintercept.errors import ClientError
from sslintercept.facts import Address
from sslintercept.net.local import is_local
from sslintercept.net.vconnection import NetVConnection

SO_ORIGINAL_DST: Final = 80
"""the same number for IPv4 (linux/netfilter_ipv4.h) and IPv6 (IP6T_SO_ORIGINAL_DST)"""


def original_destination(vc: NetVConnection, transparent: bool = False, port: int | None = None) -> Address:
    """
    The address that the client connected to.

    @param transparent: the listener takes what TPROXY redirects; otherwise it is REDIRECT.
    @param port: where we listen, which with TPROXY the connection itself does not show; unless it is known, every port
        of this machine counts as ours.
    @raise ClientError: the connection was not redirected, and would lead back to us.
    """
    if transparent:
        found, direct, rule = vc.local, False, "TPROXY"
    else:
        found, port, rule = _tracked(vc), vc.local.port, "REDIRECT"
        direct = found == vc.local
    if direct or (port in (None, found.port) and is_local(found.host)):
        raise ClientError(
            "the connection came to us directly", where=f"listener at {vc.local}", remedy=f"use a {rule} rule"
        )
    return found


def _tracked(vc: NetVConnection) -> Address:
    """What the connection tracker remembers."""
    sock = vc.tcp.sock
    try:
        # By the address, not the socket: a socket of both families reports a client of IPv4 as one.
        if ":" in vc.local.host:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
            host = socket.inet_ntop(socket.AF_INET6, raw[8:24])
        else:
            raw = sock.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
            host = socket.inet_ntop(socket.AF_INET, raw[4:8])
    except OSError as error:
        raise ClientError(
            f"the connection was not redirected ({error.strerror})",
            where=f"listener at {vc.local}",
            remedy="use a REDIRECT rule",
        ) from None
    return Address(host, struct.unpack_from("!H", raw, 2)[0])
