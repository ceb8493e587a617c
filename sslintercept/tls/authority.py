"""
Our certificate authority: made on first start, or brought by the administrator.

The key never leaves this process: it signs, and is written nowhere but to its own file, mode 0600 in a folder of mode
0700.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from sslintercept.errors import ConfigError

LIFETIME = timedelta(days=3650)
BACKDATED = timedelta(days=1)
"""for clients whose clocks are behind"""
SECRET = 32
"""bytes of a secret that processes share"""
LOOSE = stat.S_IRWXG | stat.S_IRWXO

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_key(key_type: str) -> SigningKey:
    """A new key: C{p256} or C{rsa2048}."""
    if key_type == "rsa2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def serial() -> int:
    """127 random bits, so positive in 16 bytes and never the same twice (RFC 5280 4.1.2.2)."""
    return secrets.randbits(126) | 1 << 126


def is_there(path: Path, where: str) -> bool:
    """
    Whether a file exists.

    @raise ConfigError: nobody can tell: the way to it is closed.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(
            f"cannot look at {path} ({error.strerror})",
            where=where,
            remedy="run as the user its folder belongs to, or let this one enter it",
        ) from None
    return True


def write_secret(path: Path, data: bytes) -> None:
    """
    Write a file that only we can read, whole or not at all, and never over one that is there.

    @raise OSError: it exists, or its folder cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def shared_secret(path: Path, where: str) -> bytes:
    """
    The 32 bytes in a file that only we can read; it is made if it is not there.

    @raise ConfigError: it cannot be read or made, others may read it, or it holds something else.
    """
    try:
        if not is_there(path, where):
            with suppress(FileExistsError):  # another process was faster
                write_secret(path, secrets.token_bytes(SECRET))
        loose, found = path.stat().st_mode & LOOSE, path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot use {path} ({error.strerror})", where=where, remedy="make its folder ours, or remove the file"
        ) from None
    if loose or len(found) != SECRET:
        what = "can be read by others than its owner" if loose else f"does not hold {SECRET} bytes"
        raise ConfigError(f"{path} {what}", where=where, remedy="remove it; another one is made at the next start")
    return found


def private_pem(key: SigningKey) -> bytes:
    """A key as it is kept on disk."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(path: Path, where: str) -> SigningKey:
    """@raise ConfigError: the file cannot be read, or is no key that we sign with."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror})", where=where, remedy="make the file readable for this user"
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{path} holds no private key in PEM without a password", where=where, remedy="give such a file"
        ) from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return key
    raise ConfigError(
        f"{path} is of a kind that clients do not accept", where=where, remedy="use P-256, P-384, RSA 2048+"
    )


class Authority:
    """
    A CA that signs leaves.

    @ivar certificate: its certificate; C{key} signs.
    @ivar chain_der: what is sent behind a leaf: this CA and its issuers, unless they sign themselves.
    @ivar warnings: what the administrator should look at.
    """

    def __init__(
        self, certificate: x509.Certificate, key: SigningKey, issuers: Sequence[x509.Certificate] = ()
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.name_der = certificate.subject.public_bytes()
        self.ski = _ski(certificate)
        self.not_before = certificate.not_valid_before_utc
        self.not_after = certificate.not_valid_after_utc
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        self.chain_der = [c.public_bytes(Encoding.DER) for c in (certificate, *issuers) if c.subject != c.issuer]
        self.warnings: list[str] = []

    @classmethod
    def load_or_make(
        cls, certificate: Path, key: Path, *, key_type: str, name: str, now: datetime
    ) -> tuple[Authority, bool]:
        """
        The CA in these files; both are made if both are missing.

        @return: the CA, and whether it was made just now.
        @raise ConfigError: see L{load}; or they cannot be made.
        """
        found = cls.load(certificate, key, now)
        if found is not None:
            return found, False
        authority = cls.make(key_type, name, now)
        try:
            write_secret(key, private_pem(authority.key))
            certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            certificate.write_bytes(authority.export("pem"))
            certificate.chmod(0o644)
        except FileExistsError:
            # Another process made it at the same moment: its CA is as good as ours, and there must be only one.
            return cls._load(certificate, key, now), False
        except OSError as error:
            raise ConfigError(
                f"cannot write {error.filename or key} ({error.strerror})",
                where="[ca]",
                remedy="make the folder writable for this user",
            ) from None
        return authority, True

    @classmethod
    def load(cls, certificate: Path, key: Path, now: datetime) -> Authority | None:
        """
        The CA in these files; C{None} if both are missing.

        @raise ConfigError: one is missing, or they cannot be reached or used.
        """
        have = [is_there(certificate, "[ca] certificate"), is_there(key, "[ca] key")]
        if all(have):
            return cls._load(certificate, key, now)
        if any(have):
            there, missing = (certificate, key) if have[0] else (key, certificate)
            raise ConfigError(
                f"{missing} is missing, but {there} is there", where="[ca]", remedy="bring both files, or remove both"
            )
        return None

    @classmethod
    def make(cls, key_type: str, name: str, now: datetime) -> Authority:
        """A new CA that may sign leaves and nothing else (pathlen 0)."""
        key = make_key(key_type)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        public = key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(public)
            .serial_number(serial())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def untrusted(cls, name: str, now: datetime) -> Authority:
        """A CA that lives in memory and that nobody trusts."""
        return cls.make("p256", name, now)

    @classmethod
    def _load(cls, path: Path, key_path: Path, now: datetime) -> Authority:
        where = "[ca] certificate"
        try:
            certificate, *issuers = x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"cannot read {path} ({error.strerror})", where=where, remedy="make the file readable for this user"
            ) from None
        except ValueError:
            raise ConfigError(f"{path} holds no certificate in PEM", where=where, remedy="give such a file") from None
        key = load_key(key_path, "[ca] key")
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
            raise ConfigError(f"{key_path} is not the key of {path}", where="[ca] key", remedy="give the pair")
        _check_ca(certificate, path, now)
        for issued, issuer in zip((certificate, *issuers), issuers, strict=False):
            try:
                issued.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                raise ConfigError(
                    f"the certificates in {path} are no chain", where=where, remedy="the CA first, then its issuers"
                ) from None
        authority = cls(certificate, key, issuers)
        if key_path.stat().st_mode & LOOSE:
            authority.warnings.append(f"{key_path} can be read by others than its owner; chmod 600 it")
        if certificate.not_valid_after_utc - now < timedelta(days=30):
            authority.warnings.append(f"the CA in {path} ends on {certificate.not_valid_after_utc:%Y-%m-%d}")
        return authority

    def describe(self) -> str:
        """What an administrator compares: names, dates, fingerprint."""
        kind = f"RSA {self.key.key_size}" if isinstance(self.key, rsa.RSAPrivateKey) else f"EC {self.key.curve.name}"
        pairs = {
            "subject": self.certificate.subject.rfc4514_string(),
            "issuer": self.certificate.issuer.rfc4514_string(),
            "serial": f"{self.certificate.serial_number:x}",
            "valid": f"{self.not_before:%Y-%m-%d %H:%M} to {self.not_after:%Y-%m-%d %H:%M} UTC",
            "key": kind,
            "SHA-256": ":".join(self.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper(),
        }
        return "\n".join(f"{name:8} {value}" for name, value in pairs.items())

    def export(self, format: str) -> bytes:
        """The certificate, C{pem} or C{der}."""
        return self.certificate.public_bytes(Encoding.DER if format == "der" else Encoding.PEM)


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _ski(certificate: x509.Certificate) -> bytes:
    """The subject key identifier: the one in the certificate, or the usual hash of the key (RFC 5280 4.2.1.2)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def _check_ca(certificate: x509.Certificate, path: Path, now: datetime) -> None:
    def refuse(what: str) -> ConfigError:
        return ConfigError(f"{path} {what}", where="[ca] certificate", remedy="give the certificate of a CA")

    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise refuse("is no CA (no basicConstraints)") from None
    except ValueError:
        raise refuse("has malformed extensions") from None
    if not constraints.ca:
        raise refuse("is no CA (CA:FALSE)")
    try:
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            raise refuse("may not sign certificates (keyUsage)")
    except x509.ExtensionNotFound:
        pass  # absent means unrestricted (RFC 5280 4.2.1.3)
    if certificate.not_valid_after_utc <= now:
        raise refuse(f"ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc > now:
        raise refuse(f"begins on {certificate.not_valid_before_utc:%Y-%m-%d}")
