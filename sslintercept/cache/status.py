"""
The field Cache-Status: what this cache has done with a request (RFC 9211).

The key is never told: it would show a client how others are kept apart from it (RFC 9211 2.7, 6).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

MAX_NUMBER: Final = 10**15 - 1
"""The greatest integer of a structured field (RFC 8941 3.3.1)."""

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Forward(Enum):
    """Why a request went on towards the origin (RFC 9211 2.2)."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"


class Outcome(NamedTuple):
    """
    What became of a request.

    @ivar forward: C{None} for a hit: nothing was forwarded to answer it (RFC 9211 2.1).
    @ivar status: what the next hop answered, where that is not what the client gets (RFC 9211 2.3).
    @ivar ttl: seconds that the response is still fresh, below 0 if it is stale (RFC 9211 2.4).
    @ivar stored: what came is kept (RFC 9211 2.5).
    @ivar collapsed: another request's answer served for this one, too (RFC 9211 2.6).
    @ivar detail: in words (RFC 9211 2.8); what is not printable ASCII is left out.
    """

    forward: Forward | None = None
    status: int | None = None
    ttl: float | None = None
    stored: bool = False
    collapsed: bool = False
    detail: str = ""


def _text(value: str) -> str:
    """Write a token where it is one, else a string (RFC 8941 3.3.3, 3.3.4)."""
    if _TOKEN.fullmatch(value):
        return value
    plain = _UNPRINTABLE.sub("", value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


@lru_cache(maxsize=1024)
def member(name: str, outcome: Outcome) -> bytes:
    """Write what the cache called *name* says of an *outcome*."""
    parts = [_text(name)]
    if outcome.forward is None:
        parts.append("hit")
    else:
        parts.append(f"fwd={outcome.forward.value}")
        if outcome.status is not None:
            parts.append(f"fwd-status={outcome.status}")
    if outcome.ttl is not None:
        parts.append(f"ttl={max(-MAX_NUMBER, min(int(outcome.ttl // 1), MAX_NUMBER))}")
    if outcome.forward is not None:  # a hit has nothing to keep, and no other request to wait for
        parts += [word for word, is_so in (("stored", outcome.stored), ("collapsed", outcome.collapsed)) if is_so]
    if outcome.detail:
        parts.append(f"detail={_text(outcome.detail)}")
    return "; ".join(parts).encode("ascii")


def cache_status(came: Sequence[bytes], name: str, outcome: Outcome) -> bytes:
    """Write the field's value: what *came* from caches nearer to the origin, then this one (RFC 9211 2)."""
    return b", ".join([*(line for line in came if line), member(name, outcome)])
