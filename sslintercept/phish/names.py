"""
Asks name servers what SPF, DKIM and DMARC need, for one mail, until its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from twisted.internet.defer import Deferred

from sslintercept.dns.answer import Answer
from sslintercept.dns.message import AAAA, MX, A, text
from sslintercept.errors import ResolveError

TXT: Final = 16
"""type of a record (RFC 1035 3.2.2)"""
MOST_ASKED: Final = 64
"""questions for one mail: SPF may need 10 look-ups with 10 exchanges each, which nobody honest has"""
MOST_TEXTS: Final = 64
"""texts of a name that are looked at"""


class Resolver(Protocol):
    """The lower half of the resolver (L{sslintercept.dns.processor.DnsProcessor})."""

    def query(self, name: str, rtype: int, deadline: float) -> Deferred[Answer]: ...


def texts_of(rdata: bytes) -> bytes:
    """The strings of a TXT record, put together (RFC 1035 3.3.14, RFC 7208 3.3)."""
    found = b""
    at = 0
    while at < len(rdata):
        found += rdata[at + 1 : at + 1 + rdata[at]]
        at += 1 + rdata[at]
    return found


class MailNames:
    """
    What L{sslintercept.phish.spf.Names} wants, of a L{Resolver}.

    @param seconds: the clock that deadlines are of.
    @param patience: seconds for all questions together.
    """

    def __init__(self, resolver: Resolver, seconds: Callable[[], float], patience: float) -> None:
        self._resolver = resolver
        self._deadline = seconds() + patience
        self._left = MOST_ASKED

    async def txt(self, name: str) -> Sequence[bytes]:
        """The texts of a name."""
        return [texts_of(rdata) for rdata in (await self._ask(name, TXT)).rdata[:MOST_TEXTS]]

    async def addresses(self, name: str, version: int) -> Sequence[str]:
        """Its addresses."""
        return (await self._ask(name, A if version == 4 else AAAA)).addresses

    async def mx(self, name: str) -> Sequence[tuple[int, str]]:
        """Who takes its mail."""
        answer = await self._ask(name, MX)
        return [(int.from_bytes(rdata[:2], "big"), text(rdata[2:])) for rdata in answer.rdata]

    async def _ask(self, name: str, rtype: int) -> Answer:
        self._left -= 1
        if self._left < 0:
            raise ResolveError("too many questions for one mail", where=name[:80], remedy="it is not checked further")
        return await self._resolver.query(name.removesuffix(".") + ".", rtype, self._deadline)
