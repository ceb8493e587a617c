"""Signs mails for tests, with keys made once."""

from __future__ import annotations

from base64 import b64encode
from functools import cache

import dkim  # type: ignore[import-untyped]  # it has no types
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@cache
def key(bits: int = 2048) -> RSAPrivateKey:
    return generate_private_key(65537, bits)


def record(bits: int = 2048) -> str:
    """The text of the public key."""
    public = key(bits).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={b64encode(public).decode()}"


def signed(message: bytes, domain: str, selector: str = "key1", bits: int = 2048, length: bool = False) -> bytes:
    """The message with a signature in front."""
    private = key(bits).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    made = dkim.sign(
        message, selector.encode(), domain.encode(), private, canonicalize=(b"relaxed", b"relaxed"), length=length
    )
    assert isinstance(made, bytes)
    return made + message
