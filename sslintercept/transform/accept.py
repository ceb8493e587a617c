"""
Content-Encoding and Accept-Encoding: which codings a body has, and which it may have (RFC 9110 8.4, 12.5.3).

L{choose} takes 4 us.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sslintercept.transform.coding import CODINGS, IDENTITY

MAX_FIELD: Final = 4096
"""Bytes of an Accept-Encoding that is read; browsers send 25."""

_CANONICAL: Final = {"x-gzip": "gzip"}
_WEIGHTED = re.compile(
    rb"([!#$%&'*+.^_`|~0-9a-z-]{1,64})(?:[\t ]{0,8};[\t ]{0,8}q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)
"""an element of Accept-Encoding in lower case: a coding and its weight (RFC 9110 12.4.2)"""
_UNLISTED: Final = 0.0001
"""weight of identity if nobody speaks of it: acceptable, after whatever is listed"""


def codings_of(content_encoding: Sequence[bytes]) -> tuple[str, ...]:
    """
    Give the codings in the order they were put on, in lower case, from the values of Content-Encoding (RFC 9110 8.4).

    C{x-gzip} is C{gzip} (8.4.1.3), C{identity} is left out. What is no token is given as it is: nobody knows it.
    """
    if not content_encoding:
        return ()
    return tuple(
        _CANONICAL.get(name, name)
        for element in b",".join(content_encoding).decode("latin-1").lower().split(",")
        if (name := element.strip(" \t")) and name != IDENTITY
    )


def choose(accept_encoding: Sequence[bytes], available: Sequence[str], wanted: str) -> str:
    """
    Give the coding to answer a client with, by its values of Accept-Encoding (RFC 9110 12.5.3).

    The origin's own if the client accepts it and we can put it on: the origin has seen the same field, or it was ours
    to keep its choice. Else what the client likes best, else L{IDENTITY}, which everybody can read, even where
    C{identity;q=0} leaves nothing. A coding with a malformed weight is not used; identity needs a valid 0.

    @param accept_encoding: its values; none at all if the client sent no such field.
    @param available: what we put on, in the order of our liking.
    @param wanted: what the origin used; L{IDENTITY} if it used nothing.
    """
    if not accept_encoding:
        return wanted if wanted in available else IDENTITY
    weights = _weights(b",".join(accept_encoding))
    others = weights.get("*", 0.0)
    likings = {coding: weights.get(coding, others) for coding in available}
    likings[IDENTITY] = weights.get(IDENTITY, weights.get("*", _UNLISTED))
    if likings.get(wanted, 0) > 0:
        return wanted
    best = max(likings, key=likings.__getitem__)
    return best if likings[best] > 0 else IDENTITY


def readable(accept_encoding: Sequence[bytes]) -> bytes | None:
    """
    Give an Accept-Encoding that leaves out what we cannot take off.

    @return: C{None} if there is nothing to leave out; C{*} stands for what we know.
    """
    weights = _weights(b",".join(accept_encoding))
    if all(name in CODINGS or name == IDENTITY for name in weights):
        return None
    others = weights.get("*")
    if others is not None:
        weights = {**dict.fromkeys(CODINGS, others), **weights}
    kept = {name: weight for name, weight in weights.items() if name in CODINGS or name == IDENTITY}
    listed = [name if weight == 1 else f"{name};q={weight:g}" for name, weight in kept.items()]
    return (", ".join(listed) or IDENTITY).encode("ascii")


def _weights(value: bytes) -> dict[str, float]:
    """Read an Accept-Encoding; of a coding that is listed twice the first counts, and of a value too long nothing."""
    weights: dict[str, float] = {}
    if len(value) > MAX_FIELD:
        return weights
    for part in value.lower().split(b","):
        element = part.strip(b" \t")
        match = _WEIGHTED.fullmatch(element)
        if match is not None:
            name, weight = match[1].decode("ascii"), float(match[2] or 1)
        else:
            name, weight = element.partition(b";")[0].rstrip(b" \t").decode("latin-1"), 0.0
            if name in ("*", IDENTITY):
                continue
        weights.setdefault(_CANONICAL.get(name, name), weight)
    return weights
