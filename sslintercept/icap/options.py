"""
What a service of ICAP says of itself, and for how long that holds (RFC 3507 4.7, 4.10).

Its ISTag is what verdicts may be kept under: another tag means that all of them may be different now. One that is
missing, malformed or different with every answer is no such thing, and that is named.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum
from typing import Final, NamedTuple

from sslintercept.errors import EngineError
from sslintercept.icap.wire import Kind, ReplyHead, rubbish

LEAST_TTL: Final = 5.0
MOST_TTL: Final = 3600.0
"""seconds that what it says is believed, whatever it says of that"""
MOST_PREVIEW: Final = 64 * 1024
"""bytes of a preview; a shorter one than it asks for is in order (RFC 3507 4.5)"""
MOST_EXTENSIONS: Final = 1024
"""file extensions of one list"""
CHANGES: Final = 8
WITHIN: Final = 60.0
"""so many changes of a tag in so many seconds, and it is no tag"""

_TAG = re.compile(rb'"([\x21\x23-\x7e]{1,64})"|([!#-+\--:<-~]{1,64})')


class Transfer(Enum):
    """What is sent of a body with a certain file extension (RFC 3507 4.10.2)."""

    PREVIEW = b"transfer-preview"
    IGNORE = b"transfer-ignore"
    COMPLETE = b"transfer-complete"


class Options(NamedTuple):
    """
    An answer to OPTIONS.

    @ivar preview: bytes, or C{None} if it takes no previews.
    @ivar connections: how many it wants at most, or C{None}.
    @ivar ttl: seconds that this holds.
    @ivar wants: the fields of ours that it asks for (X-Include), in lower case.
    """

    methods: frozenset[Kind]
    preview: int | None
    allow_204: bool
    allow_206: bool
    connections: int | None
    ttl: float
    tag: bytes | None
    service: str
    wants: frozenset[bytes]
    transfers: dict[bytes, Transfer]

    def transfer(self, extension: str) -> Transfer:
        """What to do with a body whose name ends so; without a word about it a preview, if it takes any."""
        found = self.transfers.get(extension.lower().encode("ascii", "replace")) or self.transfers.get(b"*")
        if found is None or found is Transfer.PREVIEW:
            return Transfer.COMPLETE if self.preview is None else Transfer.PREVIEW
        return found


def options(head: ReplyHead, where: str) -> Options:
    """
    What an answer to OPTIONS says.

    @raise EngineError: it is an error, or says nothing of use.
    """
    if head.status != 200:
        raise refused(head, where)
    methods = frozenset(kind for kind in (Kind.REQMOD, Kind.RESPMOD) if kind.value.lower() in _list(head, b"methods"))
    if not methods:
        raise rubbish("options without a method that is of use", where)
    allow = _list(head, b"allow")
    preview = _number(head, b"preview", where)
    ttl = _number(head, b"options-ttl", where)
    transfers = {
        extension: transfer
        for transfer in (Transfer.PREVIEW, Transfer.COMPLETE, Transfer.IGNORE)
        for extension in _list(head, transfer.value)[:MOST_EXTENSIONS]
    }
    connections = _number(head, b"max-connections", where)
    return Options(
        methods,
        None if preview is None else min(preview, MOST_PREVIEW),
        b"204" in allow,
        b"206" in allow,
        None if connections is None else max(1, connections),
        MOST_TTL if ttl is None else min(max(float(ttl), LEAST_TTL), MOST_TTL),
        tag(head),
        (head.value(b"service") or b"")[:256].decode("latin-1"),
        frozenset(_list(head, b"x-include")),
        transfers,
    )


def tag(head: ReplyHead) -> bytes | None:
    """Its ISTag without quotes, which some leave out; C{None} if there is none that can be read."""
    match = _TAG.fullmatch(head.value(b"istag") or b"")
    return (match[1] or match[2]) if match is not None else None


def refused(head: ReplyHead, where: str) -> EngineError:
    """The error for an answer that is one (RFC 3507 4.3.3)."""
    what = f"it said {head.status} {head.reason[:100]}"
    busy = head.status in (408, 503)
    remedy = "it has too much to do" if busy else "is the service's name right? See its log"
    return EngineError(what, where=where, remedy=remedy, fault="busy" if busy else "refused")


def _list(head: ReplyHead, name: bytes) -> list[bytes]:
    joined = b",".join(head.values(name)).lower()
    return [one for one in (entry.strip(b" \t\n") for entry in joined.split(b",")) if one]


def _number(head: ReplyHead, name: bytes, where: str) -> int | None:
    values = head.values(name)
    if not values:
        return None
    if len(values) > 1 or not re.fullmatch(rb"[0-9]{1,12}", values[0]):
        raise rubbish(f"a {name.decode()} that is no number", where)
    return int(values[0])


class Tag:
    """
    The ISTag of a service as its answers tell it.

    @ivar now: what verdicts may be kept under, or C{None}: nothing may be kept.
    @ivar fault: why not: C{missing}, or C{restless}; empty if all is well.
    """

    def __init__(self) -> None:
        self.now: bytes | None = None
        self.fault = "missing"
        self._last: bytes | None = None
        self._changes: deque[float] = deque(maxlen=CHANGES)

    def heard(self, told: bytes | None, now: float) -> bool:
        """An answer came with this tag; whether it is another one than before."""
        changed = told != self._last
        if changed and self._last is not None:
            self._changes.append(now)
        self._last = told
        restless = len(self._changes) == CHANGES and now - self._changes[0] < WITHIN
        self.fault = "restless" if restless else "missing" if told is None else ""
        self.now = None if self.fault else told
        return changed
