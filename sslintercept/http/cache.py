"""
When the cache is asked about a request, and the answers that need no decision any more.

What it then does to the transaction is L{sslintercept.http.cachesm}'s business.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sslintercept.cache.fresh import Policy
from sslintercept.cache.key import key_of
from sslintercept.cache.processor import CacheProcessor
from sslintercept.cache.ready import Ready, fields_of, is_plain
from sslintercept.cache.resource import Resource
from sslintercept.cache.update import SAFE
from sslintercept.facts import RequestHead, Scope
from sslintercept.http.cachesm import CacheSM, made
from sslintercept.http.fields import host_value

if TYPE_CHECKING:
    from sslintercept.http.sm import HttpSM


class HttpCache:
    """The cache as one generation of settings wants it; C{name}: ours in Cache-Status."""

    def __init__(self, processor: CacheProcessor, policy: Policy, name: str) -> None:
        self.processor, self.policy, self.name = processor, policy, name
        processor.policy = policy

    def begin(self, sm: HttpSM) -> bool:
        """A transaction begins: true if the cache has answered, or will say how it goes on."""
        head, decision = sm.head, sm.decision
        if (
            (decision is not None and not decision.cache)
            or (head.scheme == "https" and not self.policy.decrypted)
            or sm.session.identity
            or not is_sure(head, sm.session.facts.scope)
        ):
            return False
        uri = key_of(head.scheme, head.authority, head.target)
        if uri is None or (head.method not in (b"GET", b"HEAD") and head.method in SAFE):
            return False
        plain = is_plain(head)
        kept = self.processor.memory.get(uri) if plain and sm.transform is None else None
        if isinstance(kept, Resource) and kept.ready is not None:
            now = self.processor.wall_clock()
            if kept.ready.since <= now < kept.ready.until:
                self.answer(sm, kept.ready, now)
                return True
        if not is_spelled_alike(head):
            return False
        sm.cache = CacheSM(self, sm, uri, plain)
        if sm.transform is not None and not sm.transform.untouched:
            # Whoever looks at requests may refuse this one: it looks when there is a server connection.
            sm.cache.bypass()
            return False
        return head.method in (b"GET", b"HEAD") and sm.cache.begin()

    def answer(self, sm: HttpSM, ready: Ready, now: float, from_disk: bool = False) -> None:
        """Answer without further thought; costs 60 Python calls with the reading of the request and its line."""
        content = ready.content
        head = made(ready.status)
        head.block, head.length = fields_of(ready, self.name, now), len(content)
        sm.present(head)
        raw = sm.begin_response(len(content))
        if raw is not None:
            counters = self.processor.counters
            counters.bytes_served += len(content)
            if from_disk:
                counters.disk_hits += 1
                sm.cached = "TCP_HIT"
            else:
                counters.memory_hits += 1
                sm.cached = "TCP_MEM_HIT"
            sm.send_head(raw + content)
            sm.finish()


def is_sure(head: RequestHead, scope: Scope | None) -> bool:
    """
    Whether what answers is the host that the request names.

    In a tunnel in the clear it is whoever the client has chosen: were that kept under the name, one client could choose
    what all others get (RFC 9110 17.1). In TLS the verified certificate says who it is.
    """
    if head.beyond or (scope is not None and scope.outer is not None):
        return False
    return scope is None or scope.secure or head.authority == (scope.name, scope.destination.port)


def is_spelled_alike(head: RequestHead) -> bool:
    """
    Whether Host is spelled as in the key.

    An origin may take another spelling of a name, which we take for the same, for another host: what it says must not
    be everybody's answer.
    """
    host = host_value(head.authority, head.scheme)
    if head.block is not None:
        found = _HOST.search(head.block)
        return found is not None and found[1].lower() == host
    return all(value.lower() == host for name, value in head.fields if name.lower() == b"host")


_HOST = re.compile(rb"\nhost:[ \t]*([^\r\n]*?)[ \t]*(?:\r|\Z)", re.IGNORECASE)
