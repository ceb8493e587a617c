"""The verdict on origins: one test a fault, on chains that are made here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from sslintercept.errors import ConfigError
from sslintercept.tls import verify as module
from sslintercept.tls.authority import Authority, make_key
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


def judged(*chain: Pair | bytes, host: str = "www.a.test", own: Authority | None = None, root: Pair = ROOT) -> Verified:
    ders = [c if isinstance(c, bytes) else c.der for c in chain]
    return Verifier([root.certificate], own).verify(ders, host, SECONDS)


def www(issuer: Pair | None, *extensions: tuple[x509.ExtensionType, bool], key: Key | None = None) -> Pair:
    return issue("www", issuer, [san("www.a.test"), *extensions], key=key)


def sequence(*parts: bytes) -> bytes:
    content = b"".join(parts)
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def signed_with(digest: hashes.HashAlgorithm, pair: Pair, signer: Key) -> Pair:
    """C{pair}, which an RSA key signed with SHA-256, signed with a worse hash; the library's builder refuses to."""
    assert isinstance(signer, rsa.RSAPrivateKey)
    good, bad = (
        bytes.fromhex(f"06092a864886f70d0101{last}") for last in ("0b", {"sha1": "05", "md5": "04"}[digest.name])
    )
    tbs = pair.certificate.tbs_certificate_bytes
    assert tbs.count(good) == 1
    tbs = tbs.replace(good, bad)
    signature = signer.sign(tbs, padding.PKCS1v15(), digest)
    algorithm = b"\x30\x0d" + bad + b"\x05\x00"
    der = sequence(tbs, algorithm, b"\x03\x82" + (len(signature) + 1).to_bytes(2, "big") + b"\x00" + signature)
    return Pair(x509.load_der_x509_certificate(der), pair.key)


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
                    x509.AccessDescription(where, place)
                    for where, place in (
                        (AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://ca.test/ocsp")),
                        (AuthorityInformationAccessOID.CA_ISSUERS, x509.DirectoryName(name("Intermediate"))),
                        (
                            AuthorityInformationAccessOID.CA_ISSUERS,
                            x509.UniformResourceIdentifier("http://ca.test/i.crt"),
                        ),
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


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_ROOT = issue("RSA Root", extensions=CA, key=RSA)


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.MD5()])
def test_a_weak_signature_is_weak_except_on_a_root(digest: hashes.HashAlgorithm) -> None:
    server = signed_with(digest, www(RSA_ROOT), RSA)
    verdict = judged(server, root=RSA_ROOT)
    assert (verdict.fault, verdict.detail) == ("weak_signature", f"www is signed with {digest.name.upper()}")
    between = signed_with(digest, issue("Between", RSA_ROOT, CA), RSA)
    verdict = judged(www(between), between, root=RSA_ROOT)
    assert (verdict.fault, verdict.detail) == ("weak_signature", f"Between is signed with {digest.name.upper()}")
    root = signed_with(digest, RSA_ROOT, RSA)
    assert judged(www(root), root=root).fault is None


NO_SERVERS = issue("No Servers", ROOT, [*CA, CLIENT_ONLY])
ANYTHING = issue("Anything", ROOT, [*CA, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)])
STRANGE = issue("Strange", ROOT, [*CA, UNKNOWN])
NOT_B = issue("Not b", ROOT, [*CA, (x509.NameConstraints(None, [x509.DNSName("b.test")]), True)])
LATER = issue("Later", ROOT, CA, begin=NOW + DAY)
WEAK_CA = issue("Weak", ROOT, CA, key=WEAK_RSA)


@pytest.mark.parametrize(
    ("chain", "fault", "words"),
    [
        ((www(NO_SERVERS), NO_SERVERS), "bad_ca", "No Servers may not sign for servers (extended key usage)"),
        ((www(STRANGE), STRANGE), "other", "Strange has an unknown critical extension 1.2.3.4"),
        ((issue("w", NOT_B, [san("www.a.test", "b.test")]), NOT_B), "name_constraints", "Not b may not sign"),
        ((www(LATER), LATER), "not_yet_valid", "Later begins on 2026-11-24 12:00 UTC"),
        ((www(WEAK_CA), WEAK_CA), "weak_key", "Weak has an RSA key of 1024 bits"),
        ((www(issue("Middle", OTHER_ROOT, CA)),), "unknown_issuer", "the issuer Middle is not trusted"),
    ],
)
def test_each_fault_of_a_ca_is_named_exactly(chain: tuple[Pair, ...], fault: str, words: str) -> None:
    verdict = judged(*chain)
    assert verdict.fault == fault, verdict
    assert words in verdict.detail


def test_cas_whose_limits_leave_room_are_accepted() -> None:
    assert judged(www(ANYTHING), ANYTHING).fault is None
    assert judged(www(NOT_B), NOT_B).fault is None
    assert judged(issue("b", ONLY_B, [san("x.b.test")]), ONLY_B, host="x.b.test").fault is None
    assert judged(www(BELOW_SHORT), BELOW_SHORT, SHORT).fault == "bad_ca"
    assert judged(www(SHORT), SHORT).fault is None


@pytest.mark.parametrize(
    ("root", "fault", "words"),
    [
        (issue("Gone", extensions=CA, begin=NOW - 9 * DAY, end=NOW - DAY), "expired", "Gone expired on 2026-11-22"),
        (issue("Soon", extensions=CA, begin=NOW + DAY), "not_yet_valid", "Soon begins on 2026-11-24"),
        (issue("Weak", extensions=CA, key=WEAK_RSA), "weak_key", "Weak has an RSA key of 1024 bits"),
        (issue("Ed", extensions=CA, key=ed25519.Ed25519PrivateKey.generate()), "other", "Ed signs with a key that"),
    ],
)
def test_a_trusted_root_is_not_beyond_doubt(root: Pair, fault: str, words: str) -> None:
    verdict = judged(www(root), root=root)
    assert (verdict.fault, words in verdict.detail) == (fault, True), verdict


def test_a_server_may_have_a_key_for_ed25519() -> None:
    assert judged(www(ROOT, key=ed25519.Ed25519PrivateKey.generate())).fault is None


def test_a_root_of_version_1_is_no_ca() -> None:
    bare = issue("Old", key=RSA)
    tbs = bare.certificate.tbs_certificate_bytes
    version = bytes.fromhex("a003020102")
    assert tbs[4:9] == version
    tbs = sequence(tbs[9:])
    signature = RSA.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    algorithm = bytes.fromhex("300d06092a864886f70d01010b0500")
    old = x509.load_der_x509_certificate(sequence(tbs, algorithm, b"\x03\x82\x01\x01\x00" + signature))
    assert old.version is x509.Version.v1
    verdict = judged(www(bare), root=Pair(old, RSA))
    assert (verdict.fault, verdict.detail.startswith("Old is of X.509 version 1")) == ("bad_ca", True)


def key_ids(own: Key, signer: Key) -> Extensions:
    return (
        (x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    )


def test_a_ca_that_only_shares_the_name_of_a_root_is_unknown_but_not_forged() -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    known, namesake = (issue("Root", extensions=[*CA, *key_ids(key, key)], key=key) for key in keys)
    server = www(namesake, key_ids(keys[0], keys[1])[1])
    verdict = judged(server, root=known)
    assert (verdict.fault, "not from the one that is known" in verdict.detail) == ("unknown_issuer", True), verdict
    assert judged(server, namesake, root=known).fault == "unknown_issuer"
    assert judged(server, root=namesake).fault is None


def test_a_chain_that_is_too_deep_is_refused_in_the_words_of_the_engine() -> None:
    chain = [ROOT]
    for number in range(9):
        chain.append(issue(f"Floor {number}", chain[-1], CA))
    verdict = judged(www(chain[-1]), *chain[:0:-1])
    assert verdict.fault == "other"
    assert "exceeds max depth" in verdict.detail


def test_many_cas_of_one_name_that_sign_each_other_come_to_an_end() -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    mesh = [
        issue("M", Pair(issue("M", key=signer).certificate, signer), CA, key=key) for key in keys for signer in keys
    ]
    assert judged(www(mesh[0]), *mesh).fault == "unknown_issuer"


def test_a_server_that_is_itself_in_the_trust_file_is_trusted() -> None:
    server = www(None)
    assert judged(server, root=server).fault is None
    assert judged(server, root=server, host="other.test").fault == "wrong_name"
    assert judged(server).fault == "self_signed"


def raw(extension: str, value: str) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(ObjectIdentifier(extension), bytes.fromhex(value)), False


def replaced(old: str, new: str) -> bytes:
    assert bytes.fromhex(old) in LEAF_WITH_KEY_ID.der
    return LEAF_WITH_KEY_ID.der.replace(bytes.fromhex(old), bytes.fromhex(new), 1)


LEAF_WITH_KEY_ID = www(ROOT, *key_ids(ROOT.key, ROOT.key))


@pytest.mark.parametrize(
    "der",
    [
        issue("x", ROOT, [raw("2.5.29.17", "300c8206612e74657374a3023000")]).der,
        issue("x", ROOT, [raw("2.5.29.17", "30058703010203")]).der,
        issue("x", ROOT, [raw("2.5.29.17", "30088206612e7465 73e4".replace(" ", ""))]).der,
        issue("x", ROOT, [raw("2.5.29.17", "0500")]).der,
        replaced("a003020102", "a003020105"),
        replaced("0603551d0e", "0603551d23"),
        LEAF.der + b"\x00",
        LEAF.der[:-1],
    ],
    ids=["x400", "address", "8 bits", "no names", "version 6", "doubled", "longer", "shorter"],
)
def test_a_certificate_that_cannot_be_read_is_malformed(der: bytes) -> None:
    verdict = judged(der, host="a.test")
    assert (verdict.fault, "cannot be read" in verdict.detail) == ("malformed", True)


def test_no_byte_of_a_chain_can_be_changed_and_the_verdict_stays_good() -> None:
    verifier = Verifier([ROOT.certificate], None)
    for position in range(len(LEAF.der)):
        wrong = bytearray(LEAF.der)
        wrong[position] ^= 0x81
        assert verifier.verify([bytes(wrong), INTERMEDIATE.der], "www.a.test", SECONDS).fault is not None, position
    for position in range(len(INTERMEDIATE.der)):
        wrong = bytearray(INTERMEDIATE.der)
        wrong[position] ^= 0x81
        assert verifier.verify([LEAF.der, bytes(wrong)], "www.a.test", SECONDS).fault is not None, position


@pytest.mark.filterwarnings("error")
def test_a_serial_number_that_is_not_positive_is_refused_without_a_warning() -> None:
    serial = LEAF.der.index(bytes.fromhex("a00302010202")) + 7
    wrong = bytearray(LEAF.der)
    wrong[serial] |= 0x80
    assert judged(bytes(wrong), INTERMEDIATE).fault == "bad_signature"
    assert judged(LEAF, INTERMEDIATE, bytes(wrong)).fault is None


def test_what_others_wrote_is_shown_in_one_line_of_printable_text() -> None:
    server = issue("x\r\nSet-Cookie: y\u202e" + "z" * 30, ROOT, [san("x.test")])
    assert judged(server, host="x.test").subject == "x??Set-Cookie: y?" + "z" * 30


def test_a_certificate_of_our_own_ca_is_refused_when_an_origin_shows_it() -> None:
    own = Authority.make("p256", "Our CA", NOW)
    ours = LeafSource(own, lifetime=86400.0, key_path=None).leaf(LeafRequest("www.a.test"), SECONDS).der
    verifier = Verifier([own.certificate, ROOT.certificate], own)
    assert verifier.verify([ours], "www.a.test", SECONDS).fault == "own_ca"
    assert verifier.verify([own.certificate.public_bytes(Encoding.DER)], "www.a.test", SECONDS).fault == "own_ca"
    namesake = issue("www.a.test", OTHER_ROOT, [san("www.a.test")], issuer_name="Our CA")
    assert verifier.verify([namesake.der], "www.a.test", SECONDS).fault != "own_ca"
    assert judged(LEAF, INTERMEDIATE, own=own).fault is None


def test_our_ca_below_another_is_refused_as_well() -> None:
    key = make_key("p256")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    below = issue("Our CA", ROOT, CA, key=key)
    own = Authority(below.certificate, key)
    assert judged(www(below), below, own=own).fault == "own_ca"
    assert judged(LEAF, INTERMEDIATE, below, own=own).fault == "own_ca"
    assert judged(below, own=own).fault == "own_ca"


def test_addresses_match_as_addresses_only() -> None:
    address = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("192.0.2.1")), x509.DNSName("192.0.2.2")]
    )
    pair = issue("ip", ROOT, [(address, False)])
    assert judged(pair, host="192.0.2.1").fault is None
    assert judged(pair, host="192.0.2.2").fault == "wrong_name"
    assert judged(pair, host="192.0.2.1").names == ("192.0.2.1",)
    network = issue("net", ROOT, [raw("2.5.29.17", "30128206612e746573748708c0000200ffffff00")])
    assert judged(network, host="a.test").names == ("a.test",)


@pytest.mark.parametrize("host", ["a_b.a.test", "-x.a.test", "b.a.test.", "B.A.Test"])
def test_hosts_are_looked_up_as_they_are_used(host: str) -> None:
    assert judged(issue("w", ROOT, [san("*.a.test")]), host=host).fault is None


def test_every_name_counts_and_a_hundred_are_told() -> None:
    verdict = judged(issue("many", ROOT, [san(*(f"n{i}.test" for i in range(150)))]), host="n149.test")
    assert (verdict.fault, len(verdict.names), verdict.names[-1]) == (None, 100, "n99.test")


@pytest.mark.parametrize(
    "text", ["a\0.test", "w*.a.test", "*", "a.*.test", "a..test", ".test", "a.test.", "1.2.3.4", ""]
)
def test_a_name_that_can_be_nobodys_is_left_out(text: str) -> None:
    verdict = judged(issue("odd", ROOT, [san(text, "good.test")]), host="good.test")
    assert (verdict.fault, verdict.names) == (None, ("good.test",))
    assert judged(issue("odd", ROOT, [san(text)]), host=text).fault == "wrong_name"


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
        (("a.test",), "a.test..", False),
        (("*.a.test",), "*.a.test", False),
        (("*.a.test",), ".a.test", False),
        (("a.test",), "", False),
        (("2001:db8::1",), "2001:db8::2", False),
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
    monkeypatch.setattr(module, "MOST_RESULTS", 2)
    for host in ("b.b.test", "c.b.test", "d.b.test"):
        verifier.verify(chain, host, SECONDS)
    assert len(verifier._kept) == 2


def test_a_kept_verdict_changes_at_the_very_dates_of_the_chain() -> None:
    verifier = Verifier([ROOT.certificate], None)
    middle = issue("Middle", ROOT, CA, end=NOW + 40 * DAY)
    server = issue("w", middle, [san("www.a.test")], begin=NOW + DAY)
    begin, end = (NOW + DAY).timestamp(), (NOW + 40 * DAY).timestamp()
    dates = [begin - 10, begin - 0.1, begin, end - 10, end, end + 0.9, end + 1, end + 10]
    verdicts = [verifier.verify([server.der, middle.der], "www.a.test", now) for now in dates]
    assert [v.fault for v in verdicts] == ["not_yet_valid"] * 2 + [None] * 4 + ["expired"] * 2
    assert verdicts[2].not_after == end
    assert verdicts[0] is verdicts[1]
    assert verdicts[6] is verdicts[7]


def test_the_end_of_a_root_ends_a_kept_verdict() -> None:
    root = issue("Root", extensions=CA, end=NOW + timedelta(minutes=1))
    verifier, chain = Verifier([root.certificate], None), [www(root).der]
    assert verifier.verify(chain, "www.a.test", SECONDS).not_after == SECONDS + 60
    assert verifier.verify(chain, "www.a.test", SECONDS + 61).fault == "expired"


def test_chains_with_the_same_bytes_in_a_row_are_different_chains() -> None:
    verifier = Verifier([ROOT.certificate], None)
    assert verifier.verify([LEAF.der + INTERMEDIATE.der], "www.a.test", SECONDS).fault == "malformed"
    assert verifier.verify([LEAF.der, INTERMEDIATE.der], "www.a.test", SECONDS).fault is None


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


def test_a_root_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    good = ROOT.certificate.public_bytes(Encoding.PEM)
    path = tmp_path / "roots.pem"
    path.write_bytes(good[:200] + b"\n" + good + b"# a comment\n" + good[:200])
    assert load_roots(path, None) == ([ROOT.certificate], [f"certificate 2 in {path} cannot be used and was left out"])


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
