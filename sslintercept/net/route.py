"""Which way server connections take: straight, or by a parent proxy (ATS: parent selection)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sslintercept.errors import ClientError
from sslintercept.facts import Address, Facts, Scope
from sslintercept.net.connector import Connector, Denied, refusal
from sslintercept.net.nearness import Guard, Near
from sslintercept.net.parent import Parent, blamed, open_way, secure
from sslintercept.net.upstream import UpstreamTls
from sslintercept.net.vconnection import NetVConnection

Choose = Callable[[Facts], Parent | None]
NO_TARGETS: Final[Mapping[str, Address]] = MappingProxyType({})


class Router:
    """
    Opens server connections on behalf of clients.

    @param choose: the parent for a client's destination (C{facts.destination}), or C{None} for the straight way; absent
        where there are no parents at all.
    @param guard: looks at where names lead; absent where nobody does.
    @param timeout: seconds for a parent to open the way.
    @param targets: where the settings send everybody, by the listener's name.
    """

    def __init__(
        self,
        connector: Connector,
        tls: UpstreamTls,
        choose: Choose | None,
        timeout: float,
        guard: Guard | None = None,
        targets: Mapping[str, Address] = NO_TARGETS,
    ) -> None:
        self.connector = connector
        self.tls = tls
        self.choose = choose
        self.guard = guard
        self._timeout = timeout
        self._targets = targets

    def configured(self, facts: Facts, destination: Address) -> bool:
        """Whether it is the settings that send this client to C{destination}, and not its own wish."""
        return self._targets.get(facts.listener) == destination

    def parent(self, facts: Facts, destination: Address) -> Parent | None:
        """
        The parent that the way to C{destination} goes by.

        @raise ClientError: nobody has said where to: a hello should have, and did not come.
        """
        if not destination.host:
            where = f"listener {facts.listener}"
            raise ClientError("the client names no server", where=where, remedy="target = sni takes TLS with a name")
        if self.choose is None:
            return None
        facts.destination = destination
        found = self.choose(facts)
        facts.parent = found.name if found is not None else None
        return found

    async def addresses(self, facts: Facts, destination: Address) -> Sequence[str]:
        """
        The addresses to try; none where a parent looks them up.

        @raise ResolveError: the name has no address.
        @raise Forbidden: it has none that the client may be led to.
        """
        if self.parent(facts, destination) is not None:
            return ()
        return await self.straight(facts, destination)

    async def straight(self, facts: Facts, destination: Address) -> Sequence[str]:
        """
        The addresses of a destination that this client may be led to.

        @raise ResolveError, Forbidden: see L{addresses}.
        """
        addresses = await self.connector.addresses(destination.host)
        if self.guard is None or self.configured(facts, destination):
            return addresses
        return self.guard.passable(facts, destination, addresses)

    def reach(self, facts: Facts) -> int:
        """How near a name may lead this client (L{sslintercept.net.nearness.Near})."""
        return Near.MACHINE if self.guard is None else self.guard.reach(facts)

    async def connect(
        self, facts: Facts, destination: Address, addresses: Sequence[str] | None = None
    ) -> NetVConnection:
        """
        A connection that leads to C{destination}; what sits on it is the caller's.

        @raise UpstreamError: see L{Connector.connect} and L{open_way}.
        """
        parent = self.parent(facts, destination)
        configured = self.configured(facts, destination)
        if parent is None:
            if addresses is None:
                addresses = await self.straight(facts, destination)
            return await self.connector.connect(destination, addresses, configured=configured)
        return await self.by(facts, parent, destination, configured=configured)

    async def lead(self, facts: Facts, scope: Scope) -> NetVConnection:
        """
        A connection that leads to where C{scope}'s tunnel leads, through the tunnels around it.

        @raise UpstreamError: see L{connect}; or a proxy on the way is not genuine.
        """
        outer = scope.outer
        if outer is None:
            return await self.connect(facts, scope.destination)
        vc = await self.lead(facts, outer)
        if outer.secure:
            await secure(vc, self.tls, outer.name, outer.hello)
        await self.through(vc, scope)
        return vc

    async def through(self, vc: NetVConnection, scope: Scope) -> None:
        """
        Ask the proxy of the outer tunnel, which C{vc} leads to, for the way to C{scope}'s destination.

        @raise UpstreamError: it refuses.
        """
        assert scope.outer is not None
        at = scope.outer.destination
        parent = Parent(f"at {at}", scope.asked, at, login=scope.login)
        await open_way(vc, parent, scope.destination, self.tls, self._timeout)

    async def by(self, facts: Facts, parent: Parent, destination: Address, *, configured: bool) -> NetVConnection:
        """
        A connection by a certain parent.

        @param configured: it is the settings that lead there, and no client.
        @raise UpstreamError: it may not be asked for that, or C{ParentError}, which names it.
        """
        if not configured and (refused := self._refused(destination)) is not None:
            raise refusal(destination, refused)
        with blamed(parent):
            vc = await self.connector.connect(parent.address, configured=True)
            facts.step("note", f"by parent {parent.name}")
            await open_way(vc, parent, destination, self.tls, self._timeout)
        return vc

    def _refused(self, destination: Address) -> Denied | None:
        """What an address may not be used for, it may not be used for by a parent either."""
        try:
            host = str(ipaddress.ip_address(destination.host))
        except ValueError:
            return None
        return self.connector.allowed(host, destination.port)
