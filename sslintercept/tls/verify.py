"""
Is this origin genuine? The chain, the name, the dates, the purpose and the strength of its certificates.

The path is built by C{cryptography.x509.verification}. Rules that it lacks or leaves vague are our own, and they go
first, in a fixed order, so that a fault is named exactly: whose certificate, and what is wrong with it. Revocation is
not checked.

Trust files of enterprises hold roots that the public web's profile would refuse (no keyUsage, no key identifiers): what
is asked of a CA is what RFC 5280 asks, not more.
"""

from __future__ import annotations

import hashlib
import ipaddress
import warnings as python_warnings
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from sslintercept.errors import ConfigError

SYSTEM_ROOTS = Path("/etc/ssl/certs/ca-certificates.crt")
MOST_CERTIFICATES = 10
MOST_BYTES = 64 * 1024
"""of a chain that is looked at"""
MOST_NAMES = 100
MOST_RESULTS = 2048
KEEP = 3600.0
"""seconds a verdict is kept"""
DEPTH = 8
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
WEAK_HASHES = (hashes.MD5, hashes.SHA1)
END = b"-----END CERTIFICATE-----"


class Verified(NamedTuple):
    """
    What an origin's certificate is worth.

    C{fault} is C{None}, or one word: expired, not_yet_valid, wrong_name, unknown_issuer, self_signed,
    missing_intermediate, weak_key, weak_signature, not_for_servers, bad_ca, name_constraints, own_ca, malformed,
    bad_signature, other.
    """

    fault: str | None
    detail: str
    not_after: float
    """the first end of validity in the chain, in seconds since the epoch"""
    names: tuple[str, ...]
    subject: str
    issuer: str


class Own(Protocol):
    """Our CA, as far as it matters here."""

    certificate: x509.Certificate


class _Fault(Exception):
    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(detail)
        self.fault, self.detail = fault, detail


def load_roots(trust: str | Path, extra: Path | None) -> tuple[list[x509.Certificate], list[str]]:
    """
    The roots that origins are held against, and what could not be used of them.

    @param trust: C{system}, or a PEM file.
    @raise ConfigError: a file cannot be read, or holds no usable certificate.
    """
    system = trust == "system"
    path = Path(trust) if not system else SYSTEM_ROOTS if SYSTEM_ROOTS.exists() else Path(certifi.where())
    roots, warnings = _read_roots(path, "[upstream-tls] trust")
    if extra is not None:
        more, other = _read_roots(extra, "[upstream-tls] extra_trust")
        roots, warnings = roots + more, warnings + other
    return roots, warnings


def _read_roots(path: Path, where: str) -> tuple[list[x509.Certificate], list[str]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror})", where=where, remedy="give a readable PEM file"
        ) from None
    roots, warnings = [], []
    for number, block in enumerate(data.split(END)[:-1], 1):
        try:
            with python_warnings.catch_warnings():
                # Old roots have serial numbers that are not positive; that is their makers' affair.
                python_warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                root = x509.load_pem_x509_certificate(block + END + b"\n")
            root.public_key()
            roots.append(root)
        except (ValueError, UnsupportedAlgorithm):
            warnings.append(f"certificate {number} in {path} cannot be used and was left out")
    if not roots:
        raise ConfigError(f"{path} holds no usable certificate", where=where, remedy="give a PEM file with CAs")
    return roots, warnings


class Verifier:
    """
    Judges chains.

    @param roots: what is trusted.
    @param own_ca: our CA, which nobody else may show us.
    """

    def __init__(self, roots: Sequence[x509.Certificate], own_ca: Own | None) -> None:
        self._store = verification.Store(list(roots))
        self._roots = {root.subject.public_bytes() for root in roots}
        self._own = own_ca.certificate if own_ca is not None else None
        self._kept: OrderedDict[tuple[bytes, str], tuple[float, float, Verified]] = OrderedDict()

    def verify(self, chain: Sequence[bytes], name: str, now: float) -> Verified:
        """Judge C{chain} (DER, the leaf first) as the certificate of C{name} at C{now}."""
        key = (hashlib.sha256(b"".join(chain)).digest(), name)
        kept = self._kept.get(key)
        if kept is not None and kept[0] <= now < kept[1]:
            self._kept.move_to_end(key)
            return kept[2]
        verdict = self._judge(chain, name, now)
        # A clock that was set back asks again; one that passes the end of a certificate does, too.
        end = min(now + KEEP, verdict.not_after) if verdict.not_after > now else now + KEEP
        self._kept[key] = (now, end, verdict)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_RESULTS:
            self._kept.popitem(last=False)
        return verdict

    def _judge(self, chain: Sequence[bytes], name: str, now: float) -> Verified:
        if not chain:
            return Verified("malformed", "the origin showed no certificate", now, (), "", "")
        if len(chain) > MOST_CERTIFICATES or sum(map(len, chain)) > MOST_BYTES:
            return Verified("malformed", "the origin's chain is too long", now, (), "", "")
        try:
            certificates = [x509.load_der_x509_certificate(der) for der in dict.fromkeys(chain)]
            names = _names(certificates[0])
            subject, issuer = _text(certificates[0].subject), _text(certificates[0].issuer)
            not_after = min(c.not_valid_after_utc.timestamp() for c in certificates)
        except (ValueError, UnsupportedAlgorithm) as error:
            return Verified("malformed", f"a certificate cannot be read ({error})", now, (), "", "")
        try:
            path = self._check(certificates, names, name, datetime.fromtimestamp(now, UTC))
            not_after = min(c.not_valid_after_utc.timestamp() for c in path)
        except _Fault as fault:
            return Verified(fault.fault, fault.detail, not_after, names, subject, issuer)
        except (ValueError, UnsupportedAlgorithm) as error:
            return Verified("malformed", f"a certificate cannot be read ({error})", not_after, names, subject, issuer)
        return Verified(None, "", not_after, names, subject, issuer)

    def _check(
        self, certificates: list[x509.Certificate], names: tuple[str, ...], name: str, now: datetime
    ) -> list[x509.Certificate]:
        leaf, *others = certificates
        self._refuse_own(certificates)
        _check_dates([leaf], now)
        if not covers(names, name):
            shown = ", ".join(names[:5]) or "no name at all"
            raise _Fault("wrong_name", f"the certificate is for {shown}{', …' if len(names) > 5 else ''}, not {name}")
        _check_leaf(leaf)
        path = self._known_path(leaf, others)
        _check_strength([c for c in path if c.subject.public_bytes() not in self._roots or c is leaf])
        verifier = (
            verification.PolicyBuilder()
            .store(self._store)
            .time(now)
            .max_chain_depth(DEPTH)
            .extension_policies(
                ca_policy=_authorities(),
                ee_policy=verification.ExtensionPolicy.permit_all().require_present(
                    x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
                ),
            )
            .build_server_verifier(_subject(name))
        )
        try:
            return list(verifier.verify(leaf, others))
        except verification.VerificationError as error:
            raise self._explain(leaf, others, path, now, str(error)) from None

    def _refuse_own(self, certificates: list[x509.Certificate]) -> None:
        own = self._own
        if own is None:
            return
        for certificate in certificates:
            if certificate.issuer != own.subject:
                continue
            try:
                certificate.verify_directly_issued_by(own)
            except (ValueError, TypeError, InvalidSignature):
                continue
            raise _Fault("own_ca", "the certificate comes from this proxy's own CA: the request would go in a circle")

    def _known_path(self, leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
        """From the leaf upwards by names, as far as what was shown goes."""
        path = [leaf]
        while path[-1].subject != path[-1].issuer and len(path) < MOST_CERTIFICATES:
            following = next((c for c in others if c.subject == path[-1].issuer and c not in path), None)
            if following is None:
                break
            path.append(following)
        return path

    def _explain(
        self,
        leaf: x509.Certificate,
        others: list[x509.Certificate],
        path: list[x509.Certificate],
        now: datetime,
        words: str,
    ) -> _Fault:
        """What exactly the engine's refusal means."""
        try:
            _check_dates(path[1:], now)
            _check_authorities(path)
        except _Fault as fault:
            return fault
        if "constraint" in words:
            return _Fault("name_constraints", f"a CA above {_text(leaf.subject)} may not sign for this name ({words})")
        last = path[-1]
        for issued, issuer in pairwise(path):
            try:
                issued.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                return _Fault("bad_signature", f"the signature on {_text(issued.subject)} is not its issuer's")
        if last.issuer.public_bytes() in self._roots:
            return _Fault("other", f"no path to a trusted root ({words})")
        if last.subject == last.issuer:
            if last is leaf:
                return _Fault("self_signed", f"{_text(leaf.subject)} signed itself, and is not trusted")
            return _Fault("unknown_issuer", f"the root {_text(last.subject)} is not trusted")
        hint = _issuer_address(last)
        if len(path) == 1 and hint is None:
            return _Fault("unknown_issuer", f"the issuer {_text(last.issuer)} is not trusted, nor was it shown")
        where = f"; it can be had from {hint}" if hint else ""
        return _Fault("missing_intermediate", f"the origin did not show the certificate of {_text(last.issuer)}{where}")


def _authorities() -> verification.ExtensionPolicy:
    """A CA must say that it is one; if it limits its key's use, signing must be in it (RFC 5280 4.2.1.3, 4.2.1.9)."""

    def key_usage(_policy: object, _ca: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is not None and not usage.key_cert_sign:
            raise ValueError("keyUsage does not allow to sign certificates")

    def constraints(_policy: object, _ca: x509.Certificate, value: x509.BasicConstraints | None) -> None:
        if value is not None and not value.ca:
            raise ValueError("not a CA")

    agnostic = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, agnostic, constraints)
        .may_be_present(x509.KeyUsage, agnostic, key_usage)
    )


def _subject(name: str) -> verification.Subject:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _text(name: x509.Name) -> str:
    """A name as people know it."""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return str(attribute.value)[:100]
    return name.rfc4514_string()[:100] or "a certificate without a subject"


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = [n.value.lower() for n in san if isinstance(n, x509.DNSName)]
    found += [str(n.value) for n in san if isinstance(n, x509.IPAddress)]
    return tuple(found[:MOST_NAMES])


def covers(names: Sequence[str], host: str) -> bool:
    """
    Whether one of a certificate's names is C{host} (RFC 9525 6.3).

    A wildcard is the whole leftmost label, stands for one label, and has two more behind it. Addresses match exactly.
    """
    try:
        return str(ipaddress.ip_address(host)) in names
    except ValueError:
        pass
    host = host.lower().rstrip(".")
    if host in names:
        return True
    _, _, parent = host.partition(".")
    return "." in parent and f"*.{parent}" in names


def _check_dates(certificates: Sequence[x509.Certificate], now: datetime) -> None:
    for certificate in certificates:
        name = _text(certificate.subject)
        if certificate.not_valid_after_utc < now:
            raise _Fault("expired", f"{name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if certificate.not_valid_before_utc > now:
            raise _Fault("not_yet_valid", f"{name} begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")


def _check_leaf(leaf: x509.Certificate) -> None:
    """Is it a server's certificate?"""
    name = _text(leaf.subject)
    known = {
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.SubjectAlternativeName,
        x509.NameConstraints,
        x509.CertificatePolicies,
    }
    for extension in leaf.extensions:
        value = extension.value
        if extension.critical and type(value) not in known:
            raise _Fault("other", f"{name} has an unknown critical extension {extension.oid.dotted_string}")
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise _Fault("not_for_servers", f"{name} is a CA, not a server")
        if isinstance(value, x509.ExtendedKeyUsage) and not (
            ExtendedKeyUsageOID.SERVER_AUTH in value or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in value
        ):
            raise _Fault("not_for_servers", f"{name} is not for servers (extended key usage)")
        if isinstance(value, x509.KeyUsage) and not (value.digital_signature or value.key_encipherment):
            raise _Fault("not_for_servers", f"{name} may not be used for TLS (key usage)")


def _check_strength(certificates: Sequence[x509.Certificate]) -> None:
    """Keys and hashes (RFC 9325 4.5, CA/B Forum Baseline Requirements 6.1.5)."""
    for certificate in certificates:
        name = _text(certificate.subject)
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < 2048:
                raise _Fault("weak_key", f"{name} has an RSA key of {key.key_size} bits")
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if not isinstance(key.curve, CURVES):
                raise _Fault("weak_key", f"{name} has a key on the curve {key.curve.name}")
        elif not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            raise _Fault("weak_key", f"{name} has a key of a kind that is not accepted")
        digest = certificate.signature_hash_algorithm
        if isinstance(digest, WEAK_HASHES) and certificate.subject != certificate.issuer:
            raise _Fault("weak_signature", f"{name} is signed with {digest.name.upper()}")


def _check_authorities(path: Sequence[x509.Certificate]) -> None:
    """May those above the leaf sign what they signed?"""
    for below, certificate in enumerate(path[1:]):
        name = _text(certificate.subject)
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            raise _Fault("bad_ca", f"{name} signed a certificate, but is no CA") from None
        if not constraints.ca:
            raise _Fault("bad_ca", f"{name} signed a certificate, but is no CA")
        if constraints.path_length is not None and below > constraints.path_length:
            raise _Fault("bad_ca", f"{name} allows {constraints.path_length} CAs below it, and there are {below}")
        try:
            if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
                raise _Fault("bad_ca", f"{name} may not sign certificates (key usage)")
        except x509.ExtensionNotFound:
            continue


def _issuer_address(certificate: x509.Certificate) -> str | None:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    for entry in access:
        if entry.access_method == AuthorityInformationAccessOID.CA_ISSUERS:
            return str(entry.access_location.value)[:200]
    return None
