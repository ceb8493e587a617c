"""Where a connection was going before the kernel redirected it to us (Linux netfilter: REDIRECT)."""

from __future__ import annotations

import socket
import struct

from sslintercept.errors import ClientError
from sslintercept.facts import Address
from sslintercept.net.vconnection import NetVConnection

SO_ORIGINAL_DST = 80
"""the same number for IPv4 (linux/netfilter_ipv4.h) and IPv6 (IP6T_SO_ORIGINAL_DST)"""


def original_destination(vc: NetVConnection) -> Address:
    """
    The address that the client connected to.

    @raise ClientError: the connection was not redirected.
    """
    sock = vc.tcp.sock
    try:
        # By the address, not the socket: a socket of both families reports a client of IPv4 as one.
        if ":" in vc.local.host:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
            port = struct.unpack_from("!H", raw, 2)[0]
            found = Address(socket.inet_ntop(socket.AF_INET6, raw[8:24]), port)
        else:
            raw = sock.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
            port = struct.unpack_from("!H", raw, 2)[0]
            found = Address(socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
    except OSError as error:
        raise ClientError(
            f"the connection was not redirected ({error.strerror})", where="listener", remedy="use a REDIRECT rule"
        ) from None
    if found == vc.local:
        raise ClientError("the connection came to us directly", where="listener", remedy="use a REDIRECT rule")
    return found
