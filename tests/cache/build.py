"""Requests and responses as these tests write them."""

from __future__ import annotations

from collections.abc import Sequence

from sslintercept.cache.decide import stored_as
from sslintercept.cache.fresh import Policy
from sslintercept.cache.message import Answered, Asked, Stored, answered, asked
from sslintercept.facts import Address, Fields, RequestHead

NOW = 784111777
"""seconds; Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 5.6.7"""
DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT"
"""1000 s before"""
TAG = 'ETag: "a"'
HOUR = "Cache-Control: max-age=3600"

PLAIN = Policy()
OPEN = Policy(decrypted=True)
ORIGIN = Address("a.example", 80)


def fields(lines: Sequence[str]) -> Fields:
    found = []
    for line in lines:
        name, _, value = line.partition(":")
        found.append((name.encode("latin-1"), value.strip().encode("latin-1")))
    return found


def ask(
    *lines: str,
    method: str = "GET",
    target: str = "/",
    scheme: str = "http",
    authority: Address = ORIGIN,
    length: int = 0,
    upgrade: bytes | None = None,
) -> Asked:
    head = RequestHead()
    head.method, head.scheme, head.authority, head.target = method.encode(), scheme, authority, target.encode("latin-1")
    head.fields, head.length, head.upgrade = fields(lines), length, upgrade
    return asked(head)


def answer(*lines: str, status: int = 200, requested: float = NOW, received: float = NOW) -> Answered:
    return answered(status, fields(lines), requested, received)


def store(*lines: str, request: Asked | None = None, status: int = 200, policy: Policy = OPEN) -> Stored:
    """What is stored of a response that can be."""
    stored = stored_as(request or ask(), answer(*lines, status=status), policy)
    assert stored is not None
    return stored


def values(found: Fields, name: str) -> list[str]:
    return [value.decode("latin-1") for key, value in found if key.lower() == name.lower().encode()]
