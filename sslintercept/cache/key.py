"""
What a response is kept under: scheme, authority and path, and behind these what Vary names.

Paths and queries are compared byte for byte: where two spellings mean the same to us and not to the origin, one client
could choose what another one gets (RFC 9111 7.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urljoin, urlsplit

from sslintercept.cache.field import Lines
from sslintercept.cache.message import Asked, Variant
from sslintercept.facts import Address

MAX_TARGET: Final = 8192
"""Bytes of a target; longer ones have no key."""
MAX_NAMED: Final = 8192
"""Bytes of all fields that Vary names; a request that says more matches nothing."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_VISIBLE = re.compile(rb"/[\x21\x22\x24-\x7e\x80-\xff]*+")
"""a path with its query and without a fragment"""


def key_of(scheme: str, authority: Address, target: bytes) -> bytes | None:
    """
    Give the key of a resource, its URI with the port written out (RFC 9111 2, RFC 9110 7.1).

    @param authority: in lower case, as heads have it.
    @return: C{None} if nothing can be kept under it: C{*}, CONNECT, no HTTP, too long.
    """
    if scheme not in DEFAULT_PORTS or len(target) > MAX_TARGET or _VISIBLE.fullmatch(target) is None:
        return None
    return _prefix(scheme, authority) + target


@lru_cache(maxsize=1024)
def _prefix(scheme: str, authority: Address) -> bytes:
    return f"{scheme}://{authority}".encode("ascii")


def key_beside(scheme: str, authority: Address, target: bytes, reference: bytes) -> bytes | None:
    """
    Give the key of what a *reference* in a field means, if it is of the same origin (RFC 9110 4.3.1, RFC 3986 5).

    @return: C{None} if it is of another origin, or cannot be read.
    """
    key = key_of(scheme, authority, target)
    if key is None or len(reference) > MAX_TARGET or not reference.isascii() or not reference.decode().isprintable():
        return None
    try:
        parts = urlsplit(urljoin(key.decode("latin-1"), reference.decode()))
        host, port, user = parts.hostname, parts.port, parts.username
    except ValueError:
        return None
    if parts.scheme != scheme or user is not None or host is None:
        return None
    if Address(host.removesuffix("."), DEFAULT_PORTS[scheme] if port is None else port) != authority:
        return None
    target = (parts.path or "/").encode("latin-1") + (b"?" + parts.query.encode("latin-1") if parts.query else b"")
    return key_of(scheme, authority, target)


# -- Vary ------------------------------------------------------------------------------------------------------------

_LISTS: Final = frozenset((b"accept", b"accept-charset", b"accept-encoding", b"accept-language"))
"""lists whose white space around commas and semicolons says nothing (RFC 9110 5.6.1, 12.4.2, 12.5)"""
_CASELESS: Final = frozenset((b"accept-charset", b"accept-encoding", b"accept-language"))
"""nothing in them depends on upper and lower case (RFC 9110 8.3.2, 8.4.1, 8.5.1, 12.4.2)"""
_UNORDERED: Final = frozenset((b"accept-encoding",))
"""whose order says nothing: weights do (RFC 9110 12.5.3)"""
_AROUND = re.compile(rb"[ \t]*+([,;])[ \t]*+")


def _alike(name: bytes, lines: Lines) -> bytes:
    """Write all values alike that mean the same by the definition of their field (RFC 9111 4.1)."""
    value = b", ".join(lines)
    if name not in _LISTS or b'"' in value:
        return value
    members = [member for member in _AROUND.sub(rb"\1", value).strip(b" \t").split(b",") if member]
    if name in _CASELESS:
        members = [member.lower() for member in members]
    if name in _UNORDERED:
        members = sorted(set(members))
    return b",".join(members)


def variant_of(vary: Iterable[bytes], request: Asked) -> Variant | None:
    """
    Give what *request* says in the fields that *vary* names (L{sslintercept.cache.field.vary_of}).

    An absent field is like an absent one only, not like an empty one (RFC 9111 4.1).

    @return: C{None} if it says more than L{MAX_NAMED}.
    """
    named = request.named
    variant = tuple((name, _alike(name, named[name]) if name in named else None) for name in vary)
    return variant if sum(len(value or b"") for _, value in variant) <= MAX_NAMED else None
