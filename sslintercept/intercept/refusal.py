"""
Protocols that are recognised on a proxy's own port and have no session here: refused in their own words.

Inside a tunnel they are nobody's business but the tunnel's policy.
"""

from __future__ import annotations

from sslintercept.errors import ClientError
from sslintercept.facts import Facts
from sslintercept.intercept.unknown import UnknownAcceptor
from sslintercept.net.vconnection import NetVConnection

REFUSALS = {
    # an empty SETTINGS frame, then GOAWAY with HTTP_1_1_REQUIRED (RFC 9113 6.5, 6.8, 7)
    "http/2": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0d",
}


class Refusal:
    """Serves one verdict by saying no."""

    def __init__(self, protocol: str, unknown: UnknownAcceptor) -> None:
        self.protocol = protocol
        self._unknown = unknown

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """
        Refuse (L{sslintercept.interfaces.IAcceptor}).

        @raise ClientError: always, on a proxy's own port, after the refusal was written.
        """
        if facts.scope is not None:
            self._unknown.accept(vc, facts, peeked)
            return
        vc.write(REFUSALS[self.protocol])
        raise ClientError(
            f"{self.protocol} is recognised but has no session here",
            where=f"listener {facts.listener}",
            remedy="use HTTP CONNECT",
        )
