"""How inspectors reach the engines beside us: what they are given for that, and lines over TCP or TLS."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from twisted.internet.defer import Deferred, succeed

from sslintercept.net.connector import Connector
from sslintercept.net.line import OpenLine, tcp

if TYPE_CHECKING:
    from sslintercept.facts import Address
    from sslintercept.net.handler import NetHandler
    from sslintercept.net.upstream import UpstreamTls

TIMEOUT: Final = 10.0
"""seconds for a connection, where nobody gives us a connector"""
SLOW: Final = 5.0
"""
seconds from the end of a part after which it is the engine's fault that nobody waits for its verdict any more: whoever
shows parts has limits of its own, and an engine that hangs has to be left alone nevertheless
"""
LOCAL: Final = "localhost"


class Engines(Protocol):
    """What every inspector is given."""

    @property
    def handler(self) -> NetHandler: ...


@runtime_checkable
class Reaching(Protocol):
    """What it may be given besides: who knows names. Without that engines are named by their addresses."""

    @property
    def connector(self) -> Connector: ...


@runtime_checkable
class Securing(Protocol):
    """And who verifies the certificates of engines; without that they are reached in the clear only."""

    @property
    def secure(self) -> UpstreamTls: ...


class Local:
    """Knows one name, and is asked for no other: L{LOCAL}."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """Its addresses (RFC 6761 6.3)."""
        return succeed(["127.0.0.1", "::1"])


def reached(engines: Engines, destination: Address, where: str, *, secure: bool = False) -> OpenLine:
    """
    Lines to C{destination}.

    @param where: what errors call it.
    @param secure: over TLS; the certificate must be for the destination's host.
    @raise ValueError: there is no way to it.
    """
    tls = engines.secure if isinstance(engines, Securing) else None
    if secure and tls is None:
        raise ValueError(f"{where} needs TLS, which inspectors have none of here; write icap:// for the clear")
    if isinstance(engines, Reaching):
        connector = engines.connector
    elif _literal(destination.host):
        connector = Connector(engines.handler, Local(), timeout=TIMEOUT)
    else:
        raise ValueError(f"{where}: no names are known here; write an address")
    return tcp(connector, destination, where, tls if secure else None)


class Patience:
    """How long somebody has waited for an engine."""

    def __init__(self, handler: NetHandler) -> None:
        self._handler = handler
        self._since: float | None = None

    def begin(self) -> None:
        """From now on it is the engine's turn."""
        self._since = self._handler.seconds()

    @property
    def fault(self) -> str:
        """Whose doing it is that nobody waits any more: the fault of the error that ends it."""
        waited = 0.0 if self._since is None else self._handler.seconds() - self._since
        return "hangs" if waited >= SLOW else "dropped"


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == LOCAL
    return True
