"""Makes the reactor ask the same table as everybody else: Twisted's own connections by name find what we have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Literal

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import ResolveError

Resolve = Callable[[str], "Deferred[Sequence[str]]"]


@implementer(IHostResolution)
class Resolution:
    """One question of Twisted's."""

    def __init__(self, name: str, asked: Deferred[Sequence[str]]) -> None:
        self.name = name
        self._asked = asked

    def cancel(self) -> None:
        """It is not wanted any more; the receiver is told that it is complete."""
        self._asked.cancel()


@implementer(IHostnameResolver)
class ReactorResolver:
    """
    L{IHostnameResolver} on our own.

    @param resolve: the table's (L{sslintercept.dns.hostdb.HostDB.resolve}).
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Tell C{resolutionReceiver} of each address; a name without any is one that nothing was said of."""
        try:
            asked: Deferred[Sequence[str]] = succeed([str(ip_address(hostName))])
        except ValueError:
            asked = self._resolve(hostName)
        semantics: Literal["TCP", "UDP"] = "UDP" if transportSemantics == "UDP" else "TCP"
        wanted = tuple(addressTypes) if addressTypes is not None else (IPv4Address, IPv6Address)

        def found(hosts: Sequence[str]) -> None:
            for host in hosts:
                kind = IPv6Address if ":" in host else IPv4Address
                if kind in wanted:
                    resolutionReceiver.addressResolved(kind(semantics, host, portNumber))

        def missing(failure: Failure) -> None:
            failure.trap(ResolveError, CancelledError)

        resolution = Resolution(hostName, asked)
        resolutionReceiver.resolutionBegan(resolution)
        asked.addCallbacks(found, missing)
        asked.addCallback(lambda _: resolutionReceiver.resolutionComplete())
        return resolution
