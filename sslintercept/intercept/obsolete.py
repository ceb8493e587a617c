"""
Hellos in the form of SSL 2, which nobody may speak any more (RFC 6176): recognised, told so, and logged.

A client of SSL 2 alone is told in its own words; one that offers a later version in that form gets the alert of the
later version (RFC 5246 E.1, E.2). In a tunnel that a rule leaves closed they pass like everything else.
"""

from __future__ import annotations

from sslintercept.errors import ClientTlsError
from sslintercept.facts import Facts
from sslintercept.net.vconnection import NetVConnection

NO_CIPHER = b"\x80\x03\x00\x00\x01"
"""MSG_ERROR with SSL_PE_NO_CIPHER (SSL 2, as in RFC 6101's references)"""
PROTOCOL_VERSION = b"\x15\x03\x00\x00\x02\x02\x46"
"""a fatal alert, protocol_version, in a record of the oldest version"""


class ObsoleteHello:
    """Serves the verdict for hellos of SSL 2 by saying no."""

    protocol = "sslv2"

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """
        Refuse (L{sslintercept.interfaces.IAcceptor}).

        @raise ClientTlsError: always, after the refusal was written.
        """
        later = peeked[3:4] == b"\x03"
        vc.write(PROTOCOL_VERSION if later else NO_CIPHER)
        facts.path.append("sslv2")
        facts.step("client_handshake_failed", "SSL 2")
        offer = "a hello in the form of SSL 2" if later else "SSL 2"
        raise ClientTlsError(
            f"the client offers {offer}, which is not served (RFC 6176)",
            where=f"client {facts.client}",
            alert=70 if later else None,
        )
