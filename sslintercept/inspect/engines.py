"""What inspectors find in the process: its loop, its lists of sites, its worker processes, ways to engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslintercept.sites.look import Sites

if TYPE_CHECKING:
    from sslintercept.net.connector import Connector
    from sslintercept.net.handler import NetHandler
    from sslintercept.net.upstream import UpstreamTls
    from sslintercept.phish.names import Resolver
    from sslintercept.worker.pool import Workers


@dataclass(frozen=True, slots=True)
class Engines:
    """
    Handed to each inspector that is made; those of one generation of settings.

    @ivar handler: the loop.
    @ivar sites: what lists say; they are read anew behind it.
    @ivar workers: processes for what parses hostile content, which may die of it.
    @ivar connector: opens connections to engines, and knows names; C{secure}: TLS on them, always verified.
    @ivar resolving: who asks name servers now, C{None} where nobody does.
    """

    handler: NetHandler
    sites: Sites
    workers: Workers
    connector: Connector
    secure: UpstreamTls
    resolving: Callable[[], Resolver | None] = lambda: None

    @property
    def dns(self) -> Resolver | None:
        """Asks name servers for more than addresses."""
        return self.resolving()
