"""
What operators ask of a cache: what is in it, that something goes, that all of it is whole.

Each answer is lines of text. They are asked for over a socket (L{sslintercept.control}) from a process that runs, or by
a command that opens the spans itself.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred

from sslintercept.cache.fresh import Policy, current_age, time_to_live
from sslintercept.cache.key import DEFAULT_PORTS, key_of
from sslintercept.cache.processor import CacheProcessor
from sslintercept.cache.record import decode
from sslintercept.cache.resource import Resource
from sslintercept.facts import Address
from sslintercept.store.store import Kind, Store

MOST_LINES: Final = 10_000
"""Lines of a list; what is left is counted."""
MOST_SHOWN: Final = 1024
"""Bytes of a URI that are shown."""
AT_ONCE: Final = 256
"""Resources that are removed in one turn of the reactor."""
_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")

Say = Callable[[str], object]


class Cached(NamedTuple):
    """A cache with what is under it."""

    processor: CacheProcessor
    store: Store


async def _stat(cached: Cached, _argument: str, say: Say) -> None:
    """Say what it holds, and what it has done since it began."""
    store = cached.store.stat
    processor, counters = cached.processor, cached.processor.counters
    for name in ("documents", "used", "size", "pinned", "waiting"):
        say(f"{name} {getattr(store, name)}")
    say(f"spans {store.spans} of {store.of}")
    say(f"memory {processor.memory.used} of {processor.memory.most}")
    for one in fields(counters):
        say(f"{one.name} {getattr(counters, one.name)}")
    for one in fields(store.counters):
        say(f"span_{one.name} {getattr(store.counters, one.name)}")


async def _ls(cached: Cached, pattern: str, say: Say) -> None:
    """List what is stored under URIs like *pattern* (shell wildcards): status, bytes, age and time left, URI."""
    now, policy = cached.processor.wall_clock(), Policy()
    count = 0

    def one(_key: bytes, content: memoryview) -> None:
        nonlocal count
        resource = decode(content)
        if resource is None or not matches(resource, pattern):
            return
        for alternate in resource.alternates:
            count += 1
            if count <= MOST_LINES:
                response = alternate.stored.response
                whole = "" if alternate.stored.spans is None else " partial"
                age, left = current_age(response, now), time_to_live(response, policy, now)
                say(f"{response.status} {alternate.size} age={age:.0f} ttl={left:.0f}{whole} {shown(resource.uri)}")

    await cached.store.walk(Kind.HEAD, one)
    if count > MOST_LINES:
        say(f"... and {count - MOST_LINES} more")


async def _purge(cached: Cached, what: str, say: Say) -> None:
    """Remove a URL; if there is none of that name and it has wildcards, all that are like it."""
    processor = cached.processor
    uri = uri_of(what)
    gone = uri is not None and processor.purge(uri)
    if gone or not any(sign in what for sign in "*?["):
        say(f"{int(gone)} removed")
        return
    uris: list[bytes] = []

    def one(_key: bytes, content: memoryview) -> None:
        resource = decode(content)
        if resource is not None and matches(resource, what):
            uris.append(resource.uri)

    await cached.store.walk(Kind.HEAD, one)
    removed = 0
    while uris:
        removed += sum(processor.purge(uri) for uri in uris[-AT_ONCE:])
        del uris[-AT_ONCE:]
        others: Deferred[None] = Deferred()
        processor.loop.soon(lambda others=others: others.callback(None))  # type: ignore[misc]  # a default, no parameter
        await others
    say(f"{removed} removed")


async def _verify(cached: Cached, _argument: str, say: Say) -> None:
    """Read everything and compare checksums; what is damaged is removed."""
    count = 0

    def damaged(key: bytes, why: str) -> None:
        nonlocal count
        count += 1
        if count <= MOST_LINES:
            say(f"{key.hex() or '?'} {why}")

    found = await cached.store.verify(damaged)
    cached.processor.memory.clear()
    say(" ".join(f"{name} {value}" for name, value in found._asdict().items()))


OPERATIONS: Final[dict[str, Callable[[Cached, str, Say], Awaitable[None]]]] = {
    "stat": _stat,
    "ls": _ls,
    "purge": _purge,
    "verify": _verify,
}


def operate(cached: Cached, word: str, argument: str, say: Say) -> Deferred[None]:
    """Do what is asked for; fires when all was said."""
    return Deferred.fromCoroutine(OPERATIONS[word](cached, argument, say))  # type: ignore[arg-type]  # they are coroutines


def matches(resource: Resource, pattern: str) -> bool:
    """Whether a resource is meant by *pattern*; none means all."""
    return not pattern or fnmatchcase(resource.uri.decode("latin-1"), pattern) or uri_of(pattern) == resource.uri


def uri_of(url: str) -> bytes | None:
    """The key of a URL as somebody types it: without a port, a path, or in upper case; C{None} if it is none."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        target = ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode("ascii")
    except (ValueError, UnicodeEncodeError):
        return None
    if scheme not in DEFAULT_PORTS or not host:
        return None
    return key_of(scheme, Address(host.rstrip("."), port or DEFAULT_PORTS[scheme]), target)


def shown(uri: bytes) -> str:
    """A URI on a screen, cut where it is very long."""
    if len(uri) > MOST_SHOWN:
        uri = uri[:MOST_SHOWN] + b"..."
    return _UNPRINTABLE.sub(lambda found: f"%{ord(found[0]):02X}", uri.decode("latin-1"))
