"""
Which certificate a client is shown: forged leaves for origins, our own for the proxy itself.

The key's kind follows what the client can verify; an origin whose certificate is not accepted gets a leaf that no
client accepts either (Squid: signUntrusted).
"""

from __future__ import annotations

from collections.abc import Sequence

from OpenSSL import crypto

from sslintercept.facts import ClientHello
from sslintercept.tls.engine import Credential
from sslintercept.tls.leaf import Leaf, LeafRequest, LeafSource
from sslintercept.tls.seen import Seen

ECDSA_SCHEMES = frozenset({0x0403})
"""ecdsa_secp256r1_sha256 (RFC 8446 4.2.3), which our EC leaves are verified with"""
P256 = 0x0017
ECDSA_SUITES = frozenset({0xC02B, 0xC02C, 0xCCA9, 0xC023, 0xC024, 0xC009, 0xC00A})
"""suites of TLS 1.2 that sign with ECDSA"""


def kind_for(hello: ClientHello) -> str:
    """C{ec} if the client can verify a P-256 signature, else C{rsa}."""
    if not ECDSA_SCHEMES.intersection(hello.signature_algorithms):
        return "rsa"
    if 0x0304 in hello.versions:
        return "ec"
    return "ec" if P256 in hello.groups and ECDSA_SUITES.intersection(hello.ciphers) else "rsa"


class Leaves:
    """
    Answers what L{sslintercept.intercept.tls.Credentials} asks.

    @param trusted: leaves under our CA; C{untrusted}: under one that nobody knows.
    @param own: the proxy's configured certificate, or C{None} for a leaf with C{own_names}.
    """

    def __init__(
        self, trusted: LeafSource, untrusted: LeafSource, own: Credential | None, own_names: Sequence[str]
    ) -> None:
        self._trusted = trusted
        self._untrusted = untrusted
        self._own = own
        self._own_names = tuple(own_names)

    def forge(self, name: str, seen: Seen | None, hello: ClientHello, now: float) -> Credential:
        """A leaf for C{name} that says what the origin's leaf says, as far as it is known."""
        kind = kind_for(hello)
        if seen is None:
            return self._credential(self._trusted.leaf(LeafRequest(host=name, kind=kind), now))
        if seen.fault is not None:
            return self._credential(self._untrusted.leaf(LeafRequest(host=name, kind=kind), now))
        request = LeafRequest(host=name, names=seen.names, not_after=seen.not_after, kind=kind)
        return self._credential(self._trusted.leaf(request, now))

    def own(self, name: str | None, hello: ClientHello, now: float) -> Credential:
        """The proxy's own certificate."""
        if self._own is not None:
            return self._own
        first, *others = self._own_names
        request = LeafRequest(host=first, names=tuple(others), kind=kind_for(hello))
        return self._credential(self._trusted.leaf(request, now))

    @staticmethod
    def _credential(leaf: Leaf) -> Credential:
        credential = leaf.handle
        if not isinstance(credential, Credential):
            leaf.handle = credential = Credential(leaf.der, crypto.PKey.from_cryptography_key(leaf.private_key))
        return credential
