"""
From a name to a connection (ATS: NetProcessor.connect_re).

The name is resolved first; its addresses are tried in the order they came (L{sslintercept.net.race}), and the first
that answers wins. A literal address never costs a look-up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twisted.internet.defer import Deferred

from sslintercept.errors import ConnectError, UpstreamError
from sslintercept.facts import Address, Side
from sslintercept.net.listener import address
from sslintercept.net.race import Dead, NoneAnswered, Race
from sslintercept.net.vconnection import HIGH_WATER, LOW_WATER, NetVConnection
from sslintercept.profile.tcp import TcpProfile

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

MOST_ADDRESSES = 32
"""addresses of one name that are tried"""
DOWN = "the origin or the way to it is down"


class Denied(NamedTuple):
    """Why an address may not be used, and what to do about it."""

    what: str
    remedy: str


May = Callable[[str, int], Denied | None]
"""asked for every address before a packet leaves (L{sslintercept.net.limits.Limits})"""


class Resolver(Protocol):
    """Who knows the addresses of a name (L{sslintercept.interfaces.IResolver})."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]: ...


class Connector:
    """
    Opens server connections.

    @param water: the high and low water marks of the connections.
    @ivar allowed: why an address may not be used that a client names, or C{None}.
    @ivar itself: the same for one that no client names.
    @param dead: addresses that did not answer lately, whoever tried them.
    """

    def __init__(
        self,
        handler: NetHandler,
        resolver: Resolver,
        *,
        timeout: float,
        water: tuple[int, int] = (HIGH_WATER, LOW_WATER),
        allowed: May = lambda host, port: None,
        itself: May = lambda host, port: None,
        dead: Dead | None = None,
    ) -> None:
        self._handler = handler
        self._resolver = resolver
        self._timeout = timeout
        self._water = water
        self.allowed = allowed
        self.itself = itself
        self._dead = dead or Dead()

    async def addresses(self, host: str) -> Sequence[str]:
        """
        The addresses to try for C{host}.

        @raise ResolveError: it has none.
        """
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            return (await self._resolver.resolve(host))[:MOST_ADDRESSES]

    async def connect(
        self, destination: Address, addresses: Sequence[str] | None = None, *, configured: bool = False
    ) -> NetVConnection:
        """
        A connection with its base in place and nothing on top.

        @param configured: the settings name the destination, and no client.
        @raise ResolveError: the name has no address.
        @raise ConnectError: no address answered, or none may be used.
        """
        if addresses is None:
            addresses = await self.addresses(destination.host)
        return await self._try(destination, addresses, self.itself if configured else self.allowed)

    async def connect_back(self, client: Address) -> NetVConnection:
        """
        A connection to a client that waits for one, at its own address; where clients live is no forbidden place.

        @raise ConnectError: it does not answer, or it is a port of our own.
        """
        return await self._try(client, [client.host], self.itself)

    async def _try(self, destination: Address, addresses: Sequence[str], allowed: May) -> NetVConnection:
        last: UpstreamError | None = None
        peers = []
        for host in addresses:
            if (refused := allowed(host, destination.port)) is not None:
                last = refusal(destination, refused)
            else:
                peers.append(Address(host, destination.port))
        if not peers:
            raise last or ConnectError("no address to try", where=str(destination), remedy="look at the name's records")
        race = Race(self._handler, self._dead.last(peers, self._handler.seconds()), self._timeout, self._dead)
        try:
            sock, peer = await race.done
        except NoneAnswered as error:
            raise ConnectError(str(error), where=str(destination), remedy=DOWN) from None
        vc = NetVConnection(self._handler, Side.UPSTREAM, peer, address(sock.getsockname()))
        vc.high_water, vc.low_water = self._water
        vc.open(TcpProfile(vc, sock, self._handler))
        return vc


class Forbidden(ConnectError):
    """The destination is one that this gateway must not be used to reach."""

    kind = "forbidden"


def refusal(destination: Address, why: Denied) -> Forbidden:
    """The error for an address that may not be used."""
    return Forbidden(why.what, where=str(destination), remedy=why.remedy)
