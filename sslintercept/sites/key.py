"""
One spelling for every host, network and URL, so that what a list says and what a client asks for meet.

A key is bytes. That of a name is the name in lower-case A-labels; that of a URL is authority, path and query, and has a
C{/}, which no name has; that of a network begins with a byte that no name begins with. So one table holds all three.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import idna

MAX_NAME: Final = 253
"""Characters of a name (RFC 1035 2.3.4)."""
MAX_TARGET: Final = 8192
"""Bytes of path and query that are looked at; what follows is cut off."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

NAME: Final = re.compile(rb"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
"""
Names as they are looked up, which is more than host names (RFC 1123 2.1): hyphens may stand at the ends of labels, and
underscores anywhere, for clients find such names, too.
"""
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""what separates labels (RFC 3490 3.1)"""
_MAPPED: Final = 0xFFFF << 32
"""the first address of C{::ffff:0:0/96}, IPv4 written as IPv6 (RFC 4291 2.5.5.2)"""

_LOCATION = re.compile(
    rb"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?(?![A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#@]*@)?"
    rb"(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#:\[\]]+)(?::(?P<port>[0-9]{0,5}))?(?P<target>[/?#].*)?",
    re.DOTALL,
)
_PLAIN = re.compile(rb"/(?:%b/)*(?:%b)?" % ((rb"[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*",) * 2))
"""a path in which nothing has to be changed: no percent sign, no segment that is empty or begins with a dot"""
_ODD = re.compile(rb"%([0-9A-Fa-f]{2})|%|[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""what means the same with and without percent-encoding (RFC 3986 2.3)"""


def labels_of(name: str) -> str:
    """
    Write a name that is not ASCII in lower case, A-labels (RFC 5891 with the mapping of UTS 46), no trailing dot.

    @raise ValueError: a label has no A-label.
    """
    labels = _DOTS.split(name.lower())
    name = ".".join(each if each.isascii() else idna.encode(each, uts46=True).decode("ascii") for each in labels)
    return name.removesuffix(".")


def name_key(text: bytes) -> bytes:
    """
    Give the key of a name as a list spells it, in UTF-8.

    @raise ValueError: it is no name.
    """
    name = text.lower().removesuffix(b".")
    if not name.isascii() and len(text) <= 4 * MAX_NAME:
        name = labels_of(text.decode("utf-8")).encode("ascii")
    if len(name) > MAX_NAME or NAME.fullmatch(name) is None or name[name.rfind(b".") + 1 :].isdigit():
        raise ValueError(f"{quoted(text)} is not a name")
    return name


def asked_key(host: str) -> bytes | None:
    """Give the key of a name that somebody asks for; C{None} if no list could spell it."""
    if len(host) > MAX_NAME + 1:
        return None
    if host.isascii():
        return host.lower().removesuffix(".").encode("ascii")
    try:
        return labels_of(host).encode("ascii")
    except ValueError:
        return None


# -- Addresses -------------------------------------------------------------------------------------------------------


def address_of(host: str) -> bytes | None:
    """Give the packed address (4 or 16 bytes) of an IP literal, C{None} for a name. IPv4-mapped IPv6 is IPv4."""
    return _parsed(host) if ":" in host or host[-1:].isdigit() else None


@lru_cache(maxsize=4096)
def _parsed(host: str) -> bytes | None:
    literal = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return packed(ip_address(literal.partition("%")[0]))
    except ValueError:
        return None


def packed(address: IPv4Address | IPv6Address) -> bytes:
    """Give 4 bytes, or 16 of what is no IPv4-mapped address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


def network_key(text: bytes) -> bytes | None:
    """
    Give the key of an address or a network (CIDR) as a list spells it, C{None} if it looks like neither.

    Bits behind the prefix do not count, as in most lists.
    """
    if not text[:1].isdigit() and b":" not in text:
        return None
    try:
        network = ip_network(text.decode("ascii").replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None
    prefix = network.prefixlen
    if isinstance(network, IPv6Network) and prefix >= 96 and int(network.network_address) >> 32 == _MAPPED >> 32:
        prefix -= 96
    return prefix_key(packed(network.network_address), prefix)


def prefix_key(address: bytes, prefix: int) -> bytes:
    """Give the key of the network with that many bits that holds the packed C{address}."""
    free = len(address) * 8 - prefix
    first = int.from_bytes(address, "big") >> free << free
    return bytes((len(address), prefix)) + first.to_bytes(len(address), "big")


def is_network(key: bytes) -> bool:
    return key[0] in (4, 16)


# -- URLs ------------------------------------------------------------------------------------------------------------


def host_key(host: str) -> bytes | None:
    """Give the key of a host as a URL has it, name or IP literal; C{None} if no list could spell it."""
    address = address_of(host)
    if address is None:
        return asked_key(host) or None
    return literal_key(address)


def literal_key(address: bytes) -> bytes:
    """Give a packed address as a URL has it."""
    literal = str(IPv4Address(address)) if len(address) == 4 else f"[{IPv6Address(address)}]"
    return literal.encode("ascii")


def authority_key(scheme: str, host: bytes, port: int | None) -> bytes:
    """
    Give the beginning of the keys of all URLs of an origin; C{host} is a L{host_key}.

    The scheme is not part of it: who serves malware by HTTP serves it by HTTPS. Without a scheme, both default ports
    are left out.
    """
    if port is None or port == DEFAULT_PORTS.get(scheme) or (not scheme and port in (80, 443)):
        return host
    return b"%b:%d" % (host, port)


def url_key(text: bytes) -> tuple[bytes, str]:
    """
    Give the key of a URL, with or without scheme, as a list spells it, and its scheme in lower case.

    @raise ValueError: it cannot be read.
    """
    match = _LOCATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not a URL")
    scheme, port = (match["scheme"] or b"").lower().decode("ascii"), match["port"]
    if port and not 0 < int(port) < 65536:
        raise ValueError(f"{quoted(text)} has no port that can be")
    spelled = match["host"]
    host = host_key(literal) if address_of(literal := spelled.decode("utf-8")) is not None else name_key(spelled)
    assert host is not None
    return authority_key(scheme, host, int(port) if port else None) + target_key(match["target"] or b"/"), scheme


def target_key(target: bytes) -> bytes:
    """
    Give path and query in one spelling (RFC 3986 6.2.2): percent-encodings of unreserved characters undone, all others
    in upper case, dot segments removed, what may not stand in a URL encoded; no fragment. Empty segments are removed,
    too, for most servers do not see them.
    """
    path, mark, query = target[:MAX_TARGET].partition(b"#")[0].partition(b"?")
    if _PLAIN.fullmatch(path) is None:
        path = _without_dots(_ODD.sub(_respell, path))
    return path + mark + _ODD.sub(_respell, query) if mark else path


def _respell(match: re.Match[bytes]) -> bytes:
    byte = int(match[1], 16) if match[1] is not None else match[0][0]
    return bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte


def _without_dots(path: bytes) -> bytes:
    """Remove dot segments and empty ones (RFC 3986 5.2.4)."""
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    folder = segments[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(kept) + (b"/" if folder and kept else b"")


# -- For people ------------------------------------------------------------------------------------------------------


def quoted(text: bytes) -> str:
    """What a list says, short enough and printable."""
    return repr(text[:80].decode("utf-8", "replace"))


def shown(key: bytes) -> str:
    """A key as people read it."""
    if not is_network(key):
        return key.decode("ascii")
    address = ip_address(key[2:])
    return str(address) if key[1] == address.max_prefixlen else f"{address}/{key[1]}"
