"""
What was decided for one plain request holds for all of them, for a while: answers that need no decision any more.

A request is plain if it says nothing that a cache asks about. A small complete response without Vary that is fresh
answers all plain requests for its URI alike, but for its age, until it is stale or something is changed about it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sslintercept.cache.fresh import Policy, current_age, lifetime, time_to_live
from sslintercept.cache.message import Stored
from sslintercept.cache.status import Outcome, member
from sslintercept.facts import RequestHead

ASKS = (b"authorization", b"cache-control", b"if-", b"pragma", b"range")
"""Beginnings of the names of fields that answers to GET depend on (RFC 9111 3.5, 4.3.2, 5.2.1, 5.4; RFC 9110 14)."""
_ASKS = re.compile(rb"\n(?:" + b"|".join(ASKS) + rb")", re.IGNORECASE)


class Ready(NamedTuple):
    """
    An answer as it stands.

    @ivar since: seconds since the epoch at which that was decided; a clock that says less has gone back.
    @ivar until: the same from which on it is not fresh; C{born}: at which its age was 0.
    @ivar block: the lines of its fields without Age and Content-Length, each behind its line break.
    """

    since: float
    until: float
    born: float
    status: int
    block: bytes
    content: bytes | memoryview


def is_plain(head: RequestHead) -> bool:
    """Whether a request says nothing that an answer from the cache depends on."""
    return head.method == b"GET" and head.length == 0 and head.upgrade is None and _ASKS.search(head.raw) is None


def ready_of(stored: Stored, content: bytes, policy: Policy, now: float) -> Ready | None:
    """
    Give what answers all plain requests, if this is all that is *stored* under their URI.

    @return: C{None} if they are not answered alike, or it is not fresh.
    """
    response = stored.response
    if response.vary or stored.authorized or stored.spans is not None or stored.invalid:
        return None
    if time_to_live(response, policy, now) <= 0 or response.control.no_cache.whole:
        return None
    lines = [b"\r\n%b: %b" % field for field in response.fields if field[0].lower() not in (b"age", b"content-length")]
    if any(b"cache-status" in line[:14].lower() for line in lines):
        return None
    born = now - current_age(response, now)
    return Ready(now, born + lifetime(response, policy), born, response.status, b"".join(lines), content)


def fields_of(ready: Ready, name: str, now: float) -> bytes:
    """Write its fields as they are at this moment; *name*: ours in Cache-Status."""
    hit = member(name, Outcome(ttl=(ready.until - now) // 1))  # alike for all within a second
    return b"%b\r\nAge: %d\r\nCache-Status: %b" % (ready.block, now - ready.born, hit)
