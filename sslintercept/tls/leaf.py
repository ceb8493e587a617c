"""
Forged leaves: minted on the fly, cached, never with the CA's key in them.

The certificate is written as DER by hand and signed once: a general builder costs five times as much. What does not
change from leaf to leaf is encoded once. The profile is in docs/certificates.md.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import idna
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import SubjectKeyIdentifier

from sslintercept.errors import ClientError, ConfigError
from sslintercept.tls.authority import (
    Authority,
    SigningKey,
    is_there,
    load_key,
    make_key,
    private_pem,
    serial,
    write_secret,
)

MOST_LEAVES = 4096
"""leaves kept"""
MOST_NAMES = 100
"""names in one leaf; an origin with more gets the first ones and the name that was asked for"""
LONGEST_NAME = 64
"""characters of a common name (RFC 5280 A.1, ub-common-name)"""
SKEW = 24 * 3600.0
"""seconds a leaf is back-dated, for clients whose clocks are behind"""
FRESH = 3600.0
"""seconds before its end at which a leaf is made anew"""


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """
    What a leaf is for.

    @ivar host: the name that was asked for: a DNS name or an address literal.
    @ivar names: the names in the origin's certificate.
    @ivar not_after: the end of the origin's validity in seconds since the epoch; 0 if it is not known.
    @ivar kind: C{ec} or C{rsa}, by what the client can verify.
    """

    host: str
    names: tuple[str, ...] = ()
    not_after: float = 0.0
    kind: str = "ec"


class Leaf:
    """
    A forged certificate and its key.

    @ivar not_after: seconds since the epoch.
    @ivar handle: for the TLS engine, which keeps its own form of it here.
    """

    __slots__ = ("der", "handle", "not_after", "private_key")

    def __init__(self, der: bytes, private_key: SigningKey, not_after: float) -> None:
        self.der = der
        self.private_key = private_key
        self.not_after = not_after
        self.handle: object = None


class LeafSource:
    """
    Mints leaves under one CA.

    @param lifetime: seconds; a leaf never outlives its CA or its origin's certificate either.
    @param key_path: where the key of EC leaves is kept, so that all processes and starts use the same; C{None} for a
        key that is never written. The rarer RSA key stands beside it.
    """

    def __init__(self, authority: Authority, *, lifetime: float, key_path: Path | None) -> None:
        self._authority = authority
        self._lifetime = lifetime
        self._key_path = key_path
        self._keys: dict[str, _LeafKey] = {}
        self._leaves: OrderedDict[LeafRequest, Leaf] = OrderedDict()
        self._algorithm = _signature_algorithm(authority.key)
        self._key("ec")

    def _key(self, kind: str) -> _LeafKey:
        made = self._keys.get(kind)
        if made is None:
            path = self._key_path
            if path is not None and kind == "rsa":
                path = path.with_name(f"{path.stem}-rsa{path.suffix}")
            key = _kept_key(path, "rsa2048" if kind == "rsa" else "p256")
            self._keys[kind] = made = _LeafKey(key, kind, self._authority)
        return made

    def leaf(self, request: LeafRequest, now: float) -> Leaf:
        """
        A leaf for C{request}, kept or new, with a while of validity left if that is possible.

        @raise ClientError: the name cannot stand in a certificate.
        """
        kept = self._leaves.get(request)
        if kept is not None and (kept.not_after - now > FRESH or now < kept.not_after >= self._end(request, now)):
            self._leaves.move_to_end(request)
            return kept
        leaf = self._mint(request, now)
        self._leaves[request] = leaf
        self._leaves.move_to_end(request)
        while len(self._leaves) > MOST_LEAVES:
            self._leaves.popitem(last=False)
        return leaf

    def _end(self, request: LeafRequest, now: float) -> float:
        """Never beyond the CA, nor the origin's certificate unless that one has ended already."""
        end = min(now + self._lifetime, self._authority.not_after.timestamp())
        return min(end, request.not_after) if request.not_after > now else end

    def _mint(self, request: LeafRequest, now: float) -> Leaf:
        authority = self._authority
        key = self._key(request.kind)
        end = self._end(request, now)
        start = max(now - SKEW, authority.not_before.timestamp())
        names = _alternative_names(request)
        common = names[0].text
        short = bool(common) and len(common) <= LONGEST_NAME
        subject = _name(common) if short else _SEQUENCE_EMPTY
        tbs = _tlv(
            0x30,
            b"".join(
                (
                    _VERSION_3,
                    _integer(serial()),
                    self._algorithm.identifier,
                    authority.name_der,
                    _tlv(0x30, _time(start) + _time(end)),
                    subject,
                    key.spki,
                    _tlv(
                        0xA3,
                        _tlv(0x30, key.extensions + _extension(_OID_SAN, _sans(names), critical=not short)),
                    ),
                )
            ),
        )
        der = _tlv(0x30, tbs + self._algorithm.identifier + _bit_string(self._algorithm.sign(tbs)))
        return Leaf(der, key.private, end)


def _kept_key(path: Path | None, key_type: str) -> SigningKey:
    """@raise ConfigError: it cannot be read, or kept."""
    if path is None:
        return make_key(key_type)
    where = "leaf key"
    if is_there(path, where):
        return load_key(path, where)
    key = make_key(key_type)
    try:
        write_secret(path, private_pem(key))
    except FileExistsError:
        return load_key(path, where)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path} ({error.strerror})", where=where, remedy="make the folder writable for this user"
        ) from None
    return key


class _LeafKey:
    """A key of leaves, with everything in a certificate that depends on it alone."""

    def __init__(self, key: SigningKey, kind: str, authority: Authority) -> None:
        self.private = key
        public = key.public_key()
        self.spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        usage = b"\x03\x02\x05\xa0" if kind == "rsa" else b"\x03\x02\x07\x80"
        self.extensions = b"".join(
            (
                _extension(_OID_BASIC_CONSTRAINTS, _SEQUENCE_EMPTY, critical=True),
                _extension(_OID_KEY_USAGE, usage, critical=True),
                _extension(_OID_EKU, _tlv(0x30, _OID_SERVER_AUTH)),
                _extension(_OID_SKI, _tlv(0x04, SubjectKeyIdentifier.from_public_key(public).digest)),
                _extension(_OID_AKI, _tlv(0x30, _tlv(0x80, authority.ski))),
            )
        )


class _Algorithm:
    """How the CA signs."""

    def __init__(self, key: SigningKey, identifier: bytes, digest: hashes.HashAlgorithm) -> None:
        self._key = key
        self.identifier = identifier
        self._digest = digest

    def sign(self, data: bytes) -> bytes:
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(data, ec.ECDSA(self._digest))
        return self._key.sign(data, padding.PKCS1v15(), self._digest)


# DER (X.690)


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bit_string(value: bytes) -> bytes:
    return _tlv(0x03, b"\x00" + value)


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    out = bytearray([first * 40 + second])
    for part in rest:
        groups = [part & 0x7F]
        while part := part >> 7:
            groups.append(part & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return _tlv(0x06, bytes(out))


def _time(seconds: float) -> bytes:
    """UTCTime until 2049, GeneralizedTime from then on (RFC 5280 4.1.2.5)."""
    when = datetime.fromtimestamp(int(seconds), UTC)
    if when.year < 2050:
        return _tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(0x18, when.strftime("%Y%m%d%H%M%SZ").encode())


def _extension(oid: bytes, value: bytes, critical: bool = False) -> bytes:
    return _tlv(0x30, oid + (b"\x01\x01\xff" if critical else b"") + _tlv(0x04, value))


def _name(common: str) -> bytes:
    return _tlv(0x30, _tlv(0x31, _tlv(0x30, _OID_CN + _tlv(0x0C, common.encode()))))


_SEQUENCE_EMPTY = b"\x30\x00"
_VERSION_3 = b"\xa0\x03\x02\x01\x02"
_OID_CN = _oid("2.5.4.3")
_OID_SAN = _oid("2.5.29.17")
_OID_SKI = _oid("2.5.29.14")
_OID_AKI = _oid("2.5.29.35")
_OID_EKU = _oid("2.5.29.37")
_OID_KEY_USAGE = _oid("2.5.29.15")
_OID_BASIC_CONSTRAINTS = _oid("2.5.29.19")
_OID_SERVER_AUTH = _oid("1.3.6.1.5.5.7.3.1")
_NULL = b"\x05\x00"


def _signature_algorithm(key: SigningKey) -> _Algorithm:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.key_size > 256:
            return _Algorithm(key, _tlv(0x30, _oid("1.2.840.10045.4.3.3")), hashes.SHA384())
        return _Algorithm(key, _tlv(0x30, _oid("1.2.840.10045.4.3.2")), hashes.SHA256())
    return _Algorithm(key, _tlv(0x30, _oid("1.2.840.113549.1.1.11") + _NULL), hashes.SHA256())


# names


@dataclass(frozen=True, slots=True)
class _Name:
    """A subject alternative name: a DNS name, or the bytes of an address."""

    text: str
    packed: bytes | None

    def der(self) -> bytes:
        if self.packed is not None:
            return _tlv(0x87, self.packed)
        return _tlv(0x82, self.text.encode("ascii"))


def _as_name(text: str) -> _Name | None:
    """The name in the form of a certificate, or C{None} for what cannot stand in one."""
    try:
        address = ipaddress.ip_address(text)
        return _Name(str(address), address.packed)
    except ValueError:
        pass
    plain = text.lower().rstrip(".")
    star = "*." if plain.startswith("*.") else ""
    plain = plain[len(star) :]
    if not plain.isascii():
        try:
            plain = idna.encode(plain, uts46=True).decode("ascii")
        except idna.IDNAError:
            return None
    labels = plain.split(".")
    if len(plain) > 253 or not all(0 < len(label) <= 63 for label in labels) or not plain.isprintable() or " " in plain:
        return None
    return _Name(star + plain, None)


def _alternative_names(request: LeafRequest) -> list[_Name]:
    """The name that was asked for first, then the origin's, each once."""
    found: dict[tuple[str, bool], _Name] = {}
    for text in (request.host, *request.names):
        name = _as_name(text)
        if name is not None:
            found.setdefault((name.text, name.packed is None), name)
        if len(found) >= MOST_NAMES:
            break
    if not found:
        raise ClientError(
            f"{request.host!r} cannot stand in a certificate",
            where="forged leaf",
            remedy="use a DNS name or an address",
        )
    return list(found.values())


def _sans(names: Iterable[_Name]) -> bytes:
    return _tlv(0x30, b"".join(name.der() for name in names))
