"""
Is this origin genuine? The chain, the name, the dates, the purpose and the strength of its certificates.

The path is built by C{cryptography.x509.verification}. The name (RFC 9525), the leaf's purpose and key, and our own CA
are judged here, before it; when it refuses, its reason is found here in a fixed order, so that a fault is named
exactly: whose certificate, and what is wrong with it. Revocation is not checked.

Trust files of enterprises hold roots that the public web's profile would refuse (no keyUsage, no key identifiers), and
leaves that live for years: what is asked of a CA is what RFC 5280 asks, not more. The engine takes no CA of X.509
version 1, none that signs with Ed25519, and no critical extension about policies.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import warnings as python_warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

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
"""that are told to others; all of them are looked at"""
MOST_RESULTS = 2048
KEEP = 3600.0
"""seconds a verdict is kept"""
DEPTH = 8
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
WEAK_HASHES = (hashes.MD5, hashes.SHA1)
UNDERSTOOD = (
    x509.AuthorityInformationAccess,
    x509.AuthorityKeyIdentifier,
    x509.BasicConstraints,
    x509.ExtendedKeyUsage,
    x509.KeyUsage,
    x509.NameConstraints,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
)
"""the extensions that the engine looks at"""
BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
NAME = re.compile(r"(\*\.)?([a-z0-9_-]+\.)*(?![0-9]+$)[a-z0-9_-]+")
"""a DNS name that can be anybody's: not an address written as text, nor anything with a wildcard elsewhere"""
UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""what reading a hostile certificate may raise, late, since its parts are decoded when they are asked for"""
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


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


def load_roots(
    trust: str | Path, extra: Path | None, where: str = "[upstream-tls] trust"
) -> tuple[list[x509.Certificate], list[str]]:
    """
    The roots that origins are held against, and what could not be used of them.

    @param trust: C{system}, or a PEM file.
    @param where: the key that names it, for errors.
    @raise ConfigError: a file cannot be read, or holds no usable certificate.
    """
    system = trust == "system"
    path = Path(trust) if not system else SYSTEM_ROOTS if SYSTEM_ROOTS.exists() else Path(certifi.where())
    roots, warnings = _read_roots(path, where)
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
    *blocks, rest = data.split(END)
    for number, block in enumerate([*blocks, rest] if BEGIN in rest else blocks, 1):
        try:
            with python_warnings.catch_warnings():
                # Old roots have serial numbers that are not positive; that is their makers' affair.
                python_warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                # From the last beginning: what was cut off before must not take this one with it.
                root = x509.load_pem_x509_certificate(block[max(block.rfind(BEGIN), 0) :] + END + b"\n")
                root.public_key(), root.extensions  # both are decoded when asked for
            roots.append(root)
        except UNREADABLE:
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
        self._roots: dict[bytes, list[x509.Certificate]] = {}
        for root in roots:
            self._roots.setdefault(root.subject.public_bytes(), []).append(root)
        self._own = own_ca.certificate if own_ca is not None else None
        self._kept: OrderedDict[tuple[bytes, tuple[int, ...], str], tuple[float, float, Verified]] = OrderedDict()

    def verify(self, chain: Sequence[bytes], name: str, now: float) -> Verified:
        """Judge C{chain} (DER, the leaf first) as the certificate of C{name} at C{now}, seconds since the epoch."""
        # The lengths tell apart chains whose bytes are the same in a row.
        key = (hashlib.sha256(b"".join(chain)).digest(), tuple(map(len, chain)), name)
        kept = self._kept.get(key)
        if kept is not None and kept[0] <= now < kept[1]:  # a clock that was set back asks again
            self._kept.move_to_end(key)
            return kept[2]
        with python_warnings.catch_warnings():
            # What others' certificates do wrong is for the verdict to say, not for a warning.
            python_warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            verdict, end = self._judge(chain, name, now)
        self._kept[key] = (now, end, verdict)
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_RESULTS:
            self._kept.popitem(last=False)
        return verdict

    def _judge(self, chain: Sequence[bytes], name: str, now: float) -> tuple[Verified, float]:
        """The verdict, and until when it holds: the next date in the chain, or a while."""
        end = now + KEEP
        if not chain:
            return Verified("malformed", "the origin showed no certificate", now, (), "", ""), end
        if len(chain) > MOST_CERTIFICATES or sum(map(len, chain)) > MOST_BYTES:
            return Verified("malformed", "the origin's chain is too long", now, (), "", ""), end
        fault, detail, not_after, subject, issuer = None, "", now, "", ""
        names: list[str] = []
        try:
            certificates = [x509.load_der_x509_certificate(der) for der in dict.fromkeys(chain)]
            subject, issuer = _text(certificates[0].subject), _text(certificates[0].issuer)
            not_after = _first_end(certificates)
            end = _next_date(certificates, now, end)
            names = _names(certificates[0])
            path = self._check(certificates, names, name, datetime.fromtimestamp(int(now), UTC))
            not_after = _first_end(path)
            end = _next_date(path, now, end)
        except _Fault as found:
            fault, detail = found.fault, found.detail
        except UNREADABLE as error:
            fault, detail = "malformed", f"a certificate cannot be read ({_printable(str(error), 200)})"
        return Verified(fault, detail, not_after, tuple(names[:MOST_NAMES]), subject, issuer), end

    def _check(
        self, certificates: list[x509.Certificate], names: Sequence[str], name: str, now: datetime
    ) -> list[x509.Certificate]:
        leaf, *others = certificates
        self._refuse_own(certificates)
        _check_dates([leaf], now)
        if not covers(names, name):
            shown = ", ".join(names[:5]) or "no name at all"
            raise _Fault("wrong_name", f"the certificate is for {shown}{', …' if len(names) > 5 else ''}, not {name}")
        _check_leaf(leaf)
        _check_strength([leaf])
        # The verifier "for clients" leaves the name to us; the one for servers takes no underscore, which hosts have.
        # They differ otherwise in their policies for extensions, and those are ours.
        verifier = (
            verification.PolicyBuilder()
            .store(self._store)
            .time(now)
            .max_chain_depth(DEPTH)
            .extension_policies(ca_policy=_AUTHORITIES, ee_policy=verification.ExtensionPolicy.permit_all())
            .build_client_verifier()
        )
        try:
            return verifier.verify(leaf, others).chain
        except verification.VerificationError as error:
            words = str(error).removeprefix("validation failed: ").removeprefix("candidates exhausted: ")
            raise self._explain(leaf, others, now, _printable(words, 200)) from None

    def _refuse_own(self, certificates: list[x509.Certificate]) -> None:
        own = self._own
        if own is not None and any(c == own or _signed(c, own) for c in certificates):
            raise _Fault("own_ca", "the certificate comes from this proxy's own CA: the request would go in a circle")

    def _likely_path(self, leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
        """From the leaf upwards by names, as far as what was shown and what is trusted goes; true signatures first."""
        path = [leaf]
        while path[-1].subject != path[-1].issuer:
            last = path[-1]
            known = [*self._roots.get(last.issuer.public_bytes(), ()), *others]
            above = [c for c in known if c.subject == last.issuer and c not in path]
            if not above:
                break
            path.append(next((c for c in above if _signed(last, c)), above[0]))
        return path

    def _explain(self, leaf: x509.Certificate, others: list[x509.Certificate], now: datetime, words: str) -> _Fault:
        """What exactly the engine's refusal means."""
        path = self._likely_path(leaf, others)
        last = path[-1]
        try:
            for issued, issuer in pairwise(path):
                _check_issue(issued, issuer)
            _check_dates(path[1:], now)
            _check_strength(path[1:])
            _check_authorities(path)
            _check_critical(path)
        except _Fault as fault:
            return fault
        if last in self._roots.get(last.subject.public_bytes(), ()):
            limited = [_text(c.subject) for c in path[1:] if _extension(c, x509.NameConstraints) is not None]
            if "name constraint" in words and limited:
                return _Fault("name_constraints", f"{limited[0]} may not sign for this name ({words})")
            return _Fault("other", f"{_text(leaf.subject)} has no path to a trusted root that holds ({words})")
        if last is leaf and leaf.subject == leaf.issuer:
            return _Fault("self_signed", f"{_text(leaf.subject)} signed itself, and is not trusted")
        if last.subject == last.issuer:
            return _Fault("unknown_issuer", f"the root {_text(last.subject)} is not trusted")
        hint = _issuer_address(last)
        where = f"; it can be had from {hint}" if hint else ""
        # Above an intermediate there may rightly be nothing but the root, which origins need not show.
        if last is leaf and hint:
            return _Fault(
                "missing_intermediate", f"the origin did not show the certificate of {_text(last.issuer)}{where}"
            )
        return _Fault("unknown_issuer", f"the issuer {_text(last.issuer)} is not trusted, nor was it shown{where}")


def _purpose_fits(usage: x509.ExtendedKeyUsage) -> bool:
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _authorities() -> verification.ExtensionPolicy:
    """
    A CA says that it is one, and what limits its key or its purposes leaves room for servers' certificates.

    The engine itself looks at C{cA}, the path's length and the names' constraints.
    RFC 5280 4.2.1.3, 4.2.1.9, and 4.2.1.12 in the sense of everybody: a purpose that a CA lacks, nobody below it has.
    """

    def key_usage(_policy: object, _ca: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is not None and not usage.key_cert_sign:
            raise ValueError("keyUsage does not allow to sign certificates")

    def purposes(_policy: object, _ca: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
        if usage is not None and not _purpose_fits(usage):
            raise ValueError("extendedKeyUsage does not allow servers")

    agnostic = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, agnostic, None)
        .may_be_present(x509.KeyUsage, agnostic, key_usage)
        .may_be_present(x509.ExtendedKeyUsage, agnostic, purposes)
    )


_AUTHORITIES = _authorities()


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _signed(issued: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether names and signature agree."""
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_namesake(issued: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether key identifiers say that another CA of this name is meant (RFC 5280 4.2.1.1)."""
    meant, has = _extension(issued, x509.AuthorityKeyIdentifier), _extension(issuer, x509.SubjectKeyIdentifier)
    return meant is not None and has is not None and meant.key_identifier not in (None, has.digest)


def _first_end(certificates: Iterable[x509.Certificate]) -> float:
    return min(c.not_valid_after_utc.timestamp() for c in certificates)


def _next_date(certificates: Iterable[x509.Certificate], now: float, end: float) -> float:
    """When a verdict may change; dates are whole seconds, and the last one is still a good one (RFC 5280 4.1.2.5)."""
    for certificate in certificates:
        for first in (certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp() + 1):
            if now < first < end:
                end = first
    return end


def _printable(text: str, most: int) -> str:
    """What others wrote, for pages and logs."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


def _text(name: x509.Name) -> str:
    """A name as people know it."""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return _printable(str(attribute.value), 100)
    return _printable(name.rfc4514_string(), 100) or "a certificate without a subject"


def _names(leaf: x509.Certificate) -> list[str]:
    """All that the subjectAltName says, in lower case; what cannot be a host's name is left out."""
    san = _extension(leaf, x509.SubjectAlternativeName) or ()
    found = [n.value.lower() for n in san if isinstance(n, x509.DNSName)]
    addresses = [n.value for n in san if isinstance(n, x509.IPAddress)]
    return [n for n in found if NAME.fullmatch(n)] + [
        str(a) for a in addresses if isinstance(a, ipaddress.IPv4Address | ipaddress.IPv6Address)
    ]


def covers(names: Sequence[str], host: str) -> bool:
    """
    Whether one of a certificate's names is C{host} (RFC 9525 6.3).

    A wildcard is the whole leftmost label, stands for one label, and has two more behind it. Addresses match exactly;
    C{names} come from a L{Verified}, where a text that only looks like an address is none.
    """
    try:
        return str(ipaddress.ip_address(host)) in names
    except ValueError:
        pass
    host = host.lower().removesuffix(".")
    if "*" in host:
        return False
    if host in names:
        return True
    label, _, parent = host.partition(".")
    return label != "" and "." in parent and f"*.{parent}" in names


def _check_dates(certificates: Sequence[x509.Certificate], now: datetime) -> None:
    for certificate in certificates:
        name = _text(certificate.subject)
        if certificate.not_valid_after_utc < now:
            raise _Fault("expired", f"{name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if certificate.not_valid_before_utc > now:
            raise _Fault("not_yet_valid", f"{name} begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")


def _check_issue(issued: x509.Certificate, issuer: x509.Certificate) -> None:
    """Did the one that has the issuer's name sign it?"""
    if _signed(issued, issuer):
        return
    _check_strength([issued])  # what is signed too weakly may not be readable as signed at all
    name, whose = _text(issuer.subject), _text(issued.subject)
    if _is_namesake(issued, issuer):
        raise _Fault("unknown_issuer", f"{whose} comes from a CA called {name}, but not from the one that is known")
    raise _Fault("bad_signature", f"the signature on {whose} is not its issuer's ({name})")


def _check_critical(path: Iterable[x509.Certificate]) -> None:
    """Nothing that must be understood may be unknown (RFC 5280 4.2)."""
    for certificate in path:
        for extension in certificate.extensions:
            if extension.critical and not isinstance(extension.value, UNDERSTOOD):
                name = _text(certificate.subject)
                raise _Fault("other", f"{name} has an unknown critical extension {extension.oid.dotted_string}")


def _check_leaf(leaf: x509.Certificate) -> None:
    """Is it a server's certificate?"""
    name = _text(leaf.subject)
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise _Fault("not_for_servers", f"{name} is a CA, not a server")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and not _purpose_fits(purposes):
        raise _Fault("not_for_servers", f"{name} is not for servers (extended key usage)")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.key_encipherment):
        raise _Fault("not_for_servers", f"{name} may not be used for TLS (key usage)")


def _check_strength(certificates: Iterable[x509.Certificate]) -> None:
    """Keys and hashes (RFC 9325 4.5, CA/B Forum Baseline Requirements 6.1.5); nobody relies on a root's own hash."""
    for certificate in certificates:
        name = _text(certificate.subject)
        try:
            key = certificate.public_key()
        except UnsupportedAlgorithm:
            raise _Fault("weak_key", f"{name} has a key of a kind that is not accepted") from None
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < 2048:
                raise _Fault("weak_key", f"{name} has an RSA key of {key.key_size} bits")
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if not isinstance(key.curve, CURVES):
                raise _Fault("weak_key", f"{name} has a key on the curve {key.curve.name}")
        elif not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            raise _Fault("weak_key", f"{name} has a key of a kind that is not accepted")
        if certificate.subject == certificate.issuer:
            continue
        try:
            digest = certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:
            raise _Fault("weak_signature", f"{name} is signed in a way that is not accepted") from None
        if isinstance(digest, WEAK_HASHES):
            raise _Fault("weak_signature", f"{name} is signed with {digest.name.upper()}")


def _check_authorities(path: Sequence[x509.Certificate]) -> None:
    """May those above the leaf sign what they signed?"""
    below = 0
    for certificate in path[1:]:
        name = _text(certificate.subject)
        if certificate.version is x509.Version.v1:
            raise _Fault("bad_ca", f"{name} is of X.509 version 1, which does not say who is a CA")
        constraints = _extension(certificate, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            raise _Fault("bad_ca", f"{name} signed a certificate, but is no CA")
        if constraints.path_length is not None and below > constraints.path_length:
            raise _Fault("bad_ca", f"{name} allows {constraints.path_length} CAs below it, and there are {below}")
        usage, purposes = _extension(certificate, x509.KeyUsage), _extension(certificate, x509.ExtendedKeyUsage)
        if usage is not None and not usage.key_cert_sign:
            raise _Fault("bad_ca", f"{name} may not sign certificates (key usage)")
        if purposes is not None and not _purpose_fits(purposes):
            raise _Fault("bad_ca", f"{name} may not sign for servers (extended key usage)")
        if isinstance(certificate.public_key(), ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            raise _Fault("other", f"{name} signs with a key that is accepted from servers only, not from CAs")
        if certificate.subject != certificate.issuer:
            below += 1


def _issuer_address(certificate: x509.Certificate) -> str | None:
    for entry in _extension(certificate, x509.AuthorityInformationAccess) or ():
        place = entry.access_location
        if entry.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(
            place, x509.UniformResourceIdentifier
        ):
            return _printable(place.value, 200)
    return None
