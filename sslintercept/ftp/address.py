"""Addresses of data connections as FTP writes them (RFC 959 4.1.2, RFC 2428)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from sslintercept.facts import Address

_SIX: Final = re.compile(rb"(?<![0-9])" + rb",".join([rb"([0-9]{1,3})"] * 6) + rb"(?![0-9])")
_EPRT: Final = re.compile(rb"([!-~])([12])\1([0-9A-Fa-f.:]{2,45})\1([0-9]{1,5})\1")
_EPSV: Final = re.compile(rb"\(([!-~])\1\1([0-9]{1,5})\1\)")


def read_six(text: bytes) -> Address | None:
    """The address in C{h1,h2,h3,h4,p1,p2}, as in PORT and in the reply to PASV; C{None} if there is none."""
    match = _SIX.search(text)
    numbers = [int(group) for group in match.groups()] if match else []
    if not numbers or max(numbers) > 255 or not numbers[4] * 256 + numbers[5]:
        return None
    return Address(".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5])


def write_six(address: Address) -> bytes:
    """The same the other way round; the address is one of IPv4."""
    return b"%b,%d,%d" % (address.host.replace(".", ",").encode("ascii"), address.port >> 8, address.port & 255)


def read_eprt(text: bytes) -> Address | None:
    """The address in EPRT's argument."""
    match = _EPRT.fullmatch(text.strip())
    if match is None or not 0 < int(match[4]) < 65536:
        return None
    try:
        host = ipaddress.ip_address(match[3].decode("ascii"))
    except ValueError:
        return None
    return Address(str(host), int(match[4])) if host.version == (4 if match[2] == b"1" else 6) else None


def write_eprt(address: Address) -> bytes:
    """The same the other way round."""
    return b"|%d|%b|%d|" % (2 if ":" in address.host else 1, address.host.encode("ascii"), address.port)


def read_epsv(text: bytes) -> int | None:
    """The port in the reply to EPSV."""
    match = _EPSV.search(text)
    port = int(match[2]) if match else 0
    return port if 0 < port < 65536 else None
