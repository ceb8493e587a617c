"""
Certificates for tests: a small authority, and leaves that are as right or as wrong as a test wants them.

Dates default to a window around the year 2026 that does not move, since tests bring their own time. Keys are made once
for each kind and kept: making them is what would cost.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

from sslintercept.tls.engine import Credential

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2040, 1, 1, tzinfo=UTC)


@cache
def make_key(kind: str = "ecdsa", _number: int = 0) -> Key:
    """
    A private key of a kind: C{ecdsa} (P-256), C{ecdsa-384}, C{rsa} (2048 bits), C{rsa-1024} or C{ed25519}.

    @param _number: tells keys of one kind apart; the same number gives the same key.
    """
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ecdsa-384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if kind == "rsa-1024" else 2048)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key; C{issuer} is the pair that signed it, C{None} if it signed itself."""

    certificate: x509.Certificate
    key: Key
    issuer: Pair | None = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key as PKCS #8, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def chain(self) -> list[bytes]:
        """What a server sends, as DER: this certificate and those above it without the root."""
        return [self.der] + (self.issuer.chain if self.issuer is not None and self.issuer.issuer is not None else [])

    def credential(self) -> Credential:
        """In the form that a TLS session takes."""
        return Credential(self.der, crypto.PKey.from_cryptography_key(self.key))


def make_ca(
    name: str = "Test CA",
    *,
    issuer: Pair | None = None,
    not_before: datetime = NOT_BEFORE,
    not_after: datetime = NOT_AFTER,
    key_kind: str = "ecdsa",
    path_length: int | None = None,
    ca: bool = True,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Pair:
    """
    An authority: a root, or below C{issuer} an intermediate one.

    @param ca: false makes one that has no right to sign.
    @param extensions: further extensions, each with whether it is critical.
    """
    key = make_key(key_kind, sum(name.encode()) % 8)
    builder = _builder(name, issuer, key, not_before, not_after).add_extension(
        x509.BasicConstraints(ca, path_length if ca else None), critical=True
    )
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    return _sign(builder, key, issuer, extensions)


def make_leaf(
    issuer: Pair | None,
    names: Sequence[str],
    *,
    common_name: str | None = None,
    not_before: datetime = NOT_BEFORE,
    not_after: datetime = NOT_AFTER,
    key_kind: str = "ecdsa",
    purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Pair:
    """
    A server's certificate for C{names} (names or literal addresses), signed by C{issuer} or by itself.

    @param common_name: the subject; by default the first name.
    @param purposes: the extended key usages; empty for none.
    """
    key = make_key(key_kind, 8)
    subject = common_name if common_name is not None else (names[0] if names else "nobody")
    builder = _builder(subject[:64], issuer, key, not_before, not_after)
    builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), critical=False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return _sign(builder, key, issuer, extensions)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    name: str, issuer: Pair | None, key: Key, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    signer = issuer.key if issuer is not None else key
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer.certificate.subject if issuer is not None else _subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _sign(
    builder: x509.CertificateBuilder,
    key: Key,
    issuer: Pair | None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> Pair:
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer is not None else key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Pair(builder.sign(signer, algorithm), key, issuer)
