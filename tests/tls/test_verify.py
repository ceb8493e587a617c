"""The verdict on origins: one test a fault, on chains that are made here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from sslintercept.errors import ConfigError
from sslintercept.tls import verify as module
from sslintercept.tls.authority import Authority
from sslintercept.tls.leaf import LeafRequest, LeafSource
from sslintercept.tls.verify import KEEP, Verified, Verifier, covers, load_roots

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECONDS = NOW.timestamp()
DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | dsa.DSAPrivateKey | ed25519.Ed25519PrivateKey
Extensions = Sequence[tuple[x509.ExtensionType, bool]]
CA: Extensions = ((x509.BasicConstraints(True, None), True),)


class Pair:
    """A certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key: Key) -> None:
        self.certificate, self.key = certificate, key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(
    subject: str,
    issuer: Pair | None = None,
    extensions: Extensions = (),
    *,
    key: Key | None = None,
    begin: datetime = NOW - DAY,
    end: datetime = NOW + 90 * DAY,
    issuer_name: str | None = None,
) -> Pair:
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer is not None else key
    above = issuer.certificate.subject if issuer is not None else name(subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer_name) if issuer_name else above)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    chosen = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Pair(builder.sign(signer, chosen), key)


def san(*names: str) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False


ROOT = issue("Root", extensions=CA, end=NOW + 3650 * DAY)
INTERMEDIATE = issue("Intermediate", ROOT, CA)
OTHER_ROOT = issue("Other Root", extensions=CA)
LEAF = issue("www.a.test", INTERMEDIATE, [san("www.a.test", "*.b.test")])


def judged(*chain: Pair | bytes, host: str = "www.a.test", own: Authority | None = None) -> Verified:
    ders = [c if isinstance(c, bytes) else c.der for c in chain]
    return Verifier([ROOT.certificate], own).verify(ders, host, SECONDS)


def test_a_good_chain_is_accepted_and_described() -> None:
    verdict = judged(LEAF, INTERMEDIATE)
    assert verdict.fault is None
    assert verdict.names == ("www.a.test", "*.b.test")
    assert (verdict.subject, verdict.issuer) == ("www.a.test", "Intermediate")
    assert verdict.not_after == (NOW + 90 * DAY).timestamp()


@pytest.mark.parametrize(
    "chain",
    [
        (LEAF, INTERMEDIATE, ROOT),
        (LEAF, ROOT, INTERMEDIATE),
        (LEAF, OTHER_ROOT, INTERMEDIATE, INTERMEDIATE, LEAF),
    ],
    ids=["with its root", "unordered", "with extra and doubled ones"],
)
def test_extra_doubled_and_unordered_certificates_do_no_harm(chain: tuple[Pair, ...]) -> None:
    assert judged(*chain).fault is None


def test_a_cross_signed_intermediate_finds_the_root_that_is_trusted() -> None:
    crossed = issue("Intermediate", OTHER_ROOT, CA, key=INTERMEDIATE.key)
    assert judged(LEAF, crossed, INTERMEDIATE).fault is None
    assert judged(LEAF, INTERMEDIATE, crossed).fault is None


def test_roots_as_openssl_makes_them_are_good_enough() -> None:
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    bare = issue("bench CA", extensions=[*CA, (usage, True)], end=NOW + 3650 * DAY)
    leaf = issue("a.test", bare, [san("a.test")], end=NOW + 900 * DAY)
    assert Verifier([bare.certificate], None).verify([leaf.der], "a.test", SECONDS).fault is None


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_usual_curves_are_accepted(curve: ec.EllipticCurve) -> None:
    assert judged(issue("a", ROOT, [san("www.a.test")], key=ec.generate_private_key(curve))).fault is None


def leaf(*extensions: tuple[x509.ExtensionType, bool], **more: object) -> Pair:
    return issue("www.a.test", ROOT, [san("www.a.test"), *extensions], **more)  # type: ignore[arg-type]  # keywords


WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
CLIENT_ONLY = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
SIGN_NOTHING = (x509.KeyUsage(False, False, False, False, False, False, True, False, False), True)
UNKNOWN = (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
NOT_A_CA = issue("Pretender", ROOT, ((x509.BasicConstraints(False, None), True),))
NO_CONSTRAINTS = issue("Old", ROOT)
MAY_NOT_SIGN = issue("Mute", ROOT, [*CA, (x509.KeyUsage(True, *[False] * 8), True)])
SHORT = issue("Short", ROOT, ((x509.BasicConstraints(True, 0), True),))
BELOW_SHORT = issue("Below Short", SHORT, CA)
ONLY_B = issue("Only b", ROOT, [*CA, (x509.NameConstraints([x509.DNSName("b.test")], None), True)])
ENDED = issue("Ended", ROOT, CA, begin=NOW - 30 * DAY, end=NOW - DAY)
FORGED = issue("www.a.test", OTHER_ROOT, [san("www.a.test")], issuer_name="Intermediate")
WITH_AIA = issue(
    "www.a.test",
    INTERMEDIATE,
    [
        san("www.a.test"),
        (
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.test/i.crt")
                    )
                ]
            ),
            False,
        ),
    ],
)


@pytest.mark.parametrize(
    ("chain", "fault", "words"),
    [
        ((leaf(begin=NOW - 9 * DAY, end=NOW - DAY),), "expired", "expired on 2026-11-22 12:00 UTC"),
        ((leaf(begin=NOW + DAY),), "not_yet_valid", "begins on 2026-11-24"),
        ((issue("w", ENDED, [san("www.a.test")]), ENDED), "expired", "Ended expired on"),
        ((issue("www.a.test", ROOT),), "wrong_name", "no name at all"),
        ((issue("x", ROOT, [san("x.test", "y.test")]),), "wrong_name", "is for x.test, y.test, not www.a.test"),
        ((issue("w", extensions=[san("www.a.test")]),), "self_signed", "w signed itself"),
        ((issue("w", OTHER_ROOT, [san("www.a.test")]), OTHER_ROOT), "unknown_issuer", "Other Root is not trusted"),
        ((issue("w", OTHER_ROOT, [san("www.a.test")]),), "unknown_issuer", "the issuer Other Root is not trusted"),
        ((WITH_AIA,), "missing_intermediate", "certificate of Intermediate; it can be had from http://ca.test/i.crt"),
        ((leaf(key=WEAK_RSA),), "weak_key", "RSA key of 1024 bits"),
        ((leaf(key=ec.generate_private_key(ec.SECP192R1())),), "weak_key", "curve secp192r1"),
        ((leaf(key=dsa.generate_private_key(2048)),), "weak_key", "a kind that is not accepted"),
        ((leaf(CLIENT_ONLY),), "not_for_servers", "extended key usage"),
        ((leaf(SIGN_NOTHING),), "not_for_servers", "key usage"),
        ((leaf((x509.BasicConstraints(True, None), True)),), "not_for_servers", "is a CA"),
        ((leaf(UNKNOWN),), "other", "unknown critical extension 1.2.3.4"),
        ((issue("w", NOT_A_CA, [san("www.a.test")]), NOT_A_CA), "bad_ca", "Pretender signed a certificate"),
        ((issue("w", NO_CONSTRAINTS, [san("www.a.test")]), NO_CONSTRAINTS), "bad_ca", "Old signed a certificate"),
        ((issue("w", MAY_NOT_SIGN, [san("www.a.test")]), MAY_NOT_SIGN), "bad_ca", "Mute may not sign"),
        (
            (issue("w", BELOW_SHORT, [san("www.a.test")]), BELOW_SHORT, SHORT),
            "bad_ca",
            "Short allows 0 CAs below it, and there are 1",
        ),
        ((issue("w", ONLY_B, [san("www.a.test")]), ONLY_B), "name_constraints", "may not sign for this name"),
        ((FORGED, INTERMEDIATE), "bad_signature", "is not its issuer's"),
        ((), "malformed", "showed no certificate"),
        ((b"rubbish",), "malformed", "cannot be read"),
        ((LEAF, *[issue(f"i{n}", ROOT, CA) for n in range(10)]), "malformed", "too long"),
    ],
)
def test_each_fault_is_named_exactly(chain: tuple[Pair | bytes, ...], fault: str, words: str) -> None:
    verdict = judged(*chain)
    assert verdict.fault == fault, verdict
    assert words in verdict.detail


def test_a_signature_with_sha1_is_weak_except_on_a_root() -> None:
    # The builder refuses to make one: take a certificate's word for it.
    class Old:
        """A certificate signed with SHA-1."""

        def __getattr__(self, attribute: str) -> object:
            return getattr(LEAF.certificate, attribute)

        signature_hash_algorithm = hashes.SHA1()

    with pytest.raises(module._Fault, match="is signed with SHA1") as caught:
        module._check_strength([Old()])  # type: ignore[list-item]  # see above
    assert caught.value.fault == "weak_signature"


def test_a_certificate_of_our_own_ca_is_refused_when_an_origin_shows_it() -> None:
    own = Authority.make("p256", "Our CA", NOW)
    ours = LeafSource(own, lifetime=86400.0, key_path=None).leaf(LeafRequest("www.a.test"), SECONDS).der
    verifier = Verifier([own.certificate, ROOT.certificate], own)
    assert verifier.verify([ours], "www.a.test", SECONDS).fault == "own_ca"
    assert verifier.verify([own.certificate.public_bytes(Encoding.DER)], "www.a.test", SECONDS).fault == "own_ca"
    namesake = issue("www.a.test", OTHER_ROOT, [san("www.a.test")], issuer_name="Our CA")
    assert verifier.verify([namesake.der], "www.a.test", SECONDS).fault != "own_ca"
    assert judged(LEAF, INTERMEDIATE, own=own).fault is None


def test_addresses_match_as_addresses_only() -> None:
    address = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("192.0.2.1")), x509.DNSName("192.0.2.2")]
    )
    pair = issue("ip", ROOT, [(address, False)])
    assert judged(pair, host="192.0.2.1").fault is None
    assert judged(pair, host="192.0.2.3").fault == "wrong_name"


@pytest.mark.parametrize(
    ("names", "host", "covered"),
    [
        (("a.test",), "a.test", True),
        (("a.test",), "A.test.", True),
        (("a.test",), "b.a.test", False),
        (("*.a.test",), "b.a.test", True),
        (("*.a.test",), "a.test", False),
        (("*.a.test",), "c.b.a.test", False),
        (("*.test",), "a.test", False),
        (("*",), "test", False),
        (("w*.a.test",), "www.a.test", False),
        (("192.0.2.1",), "192.0.2.1", True),
        (("2001:db8::1",), "2001:DB8:0::1", True),
        (("*.0.2.1",), "192.0.2.1", False),
        ((), "a.test", False),
    ],
)
def test_wildcards_stand_for_one_label_with_two_behind_it(names: tuple[str, ...], host: str, covered: bool) -> None:
    assert covers(names, host) is covered


def test_a_verdict_is_kept_and_asked_again_when_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier([ROOT.certificate], None)
    chain = [LEAF.der, INTERMEDIATE.der]
    first = verifier.verify(chain, "www.a.test", SECONDS)
    assert verifier.verify(chain, "www.a.test", SECONDS + KEEP - 1) is first
    assert verifier.verify(chain, "www.a.test", SECONDS + KEEP) is not first
    assert verifier.verify(chain, "www.a.test", SECONDS - 2 * 86400).fault == "not_yet_valid"
    end = (NOW + 90 * DAY).timestamp()
    assert verifier.verify(chain, "www.a.test", end - 10).fault is None
    assert verifier.verify(chain, "www.a.test", end + 10).fault == "expired"
    monkeypatch.setattr(module, "MOST_RESULTS", 2)
    for host in ("b.b.test", "c.b.test", "d.b.test"):
        verifier.verify(chain, host, SECONDS)
    assert len(verifier._kept) == 2


def test_roots_come_from_the_system_or_a_file_and_what_is_broken_is_left_out(tmp_path: Path) -> None:
    roots, _ = load_roots("system", None)
    assert len(roots) > 50
    good = ROOT.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "roots.pem").write_bytes(
        good + b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n" + good
    )
    roots, warnings = load_roots(tmp_path / "roots.pem", tmp_path / "roots.pem")
    assert len(roots) == 4
    assert warnings == [f"certificate 2 in {tmp_path}/roots.pem cannot be used and was left out"] * 2


def test_without_a_system_file_the_roots_of_certifi_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "SYSTEM_ROOTS", tmp_path / "none")
    assert len(load_roots("system", None)[0]) > 50


@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
def test_a_trust_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "roots.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"\[upstream-tls\] trust: .*roots.pem"):
        load_roots(tmp_path / "roots.pem", None)


def test_a_subject_without_a_common_name_is_still_called_something() -> None:
    bare = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ROOT.certificate.subject)
        .public_key(LEAF.certificate.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(*san("www.a.test"))
        .sign(ROOT.key, hashes.SHA256())
    )
    verdict = judged(bare.public_bytes(Encoding.DER))
    assert (verdict.fault, verdict.subject) == (None, "a certificate without a subject")
