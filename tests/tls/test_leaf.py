"""Forged leaves, read back and judged by every verifier that is at hand."""

from __future__ import annotations

import ipaddress
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import ClientError, ConfigError
from sslintercept.tls.authority import Authority
from sslintercept.tls.leaf import FRESH, MOST_LEAVES, Leaf, LeafRequest, LeafSource

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECONDS = NOW.timestamp()
DAY = 86400.0


@pytest.fixture(scope="module", params=["p256", "rsa2048"])
def authority(request: pytest.FixtureRequest) -> Authority:
    return Authority.make(request.param, "Test CA", datetime.now(UTC))


@pytest.fixture(scope="module")
def source(authority: Authority) -> LeafSource:
    return LeafSource(authority, lifetime=30 * DAY, key_path=None)


def read(leaf: Leaf) -> x509.Certificate:
    return x509.load_der_x509_certificate(leaf.der)


def names(certificate: x509.Certificate) -> list[str]:
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in san]


def now() -> float:
    return datetime.now(UTC).timestamp()


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_leaf_says_what_its_profile_says(authority: Authority, source: LeafSource, kind: str) -> None:
    leaf = source.leaf(LeafRequest("www.example.com", ("*.example.com", "192.0.2.7", "2001:db8::7"), kind=kind), now())
    certificate = read(leaf)
    extensions = certificate.extensions
    assert certificate.version is x509.Version.v3
    assert certificate.issuer == authority.certificate.subject
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "www.example.com"
    assert names(certificate) == ["www.example.com", "*.example.com", "192.0.2.7", "2001:db8::7"]
    assert not extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment is (kind == "rsa")
    assert not usage.value.key_cert_sign
    eku = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(eku) == [ExtendedKeyUsageOID.SERVER_AUTH]
    aki = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == authority.ski
    ski = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert ski == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    # Nothing that points to the origin's CRL, OCSP or logs.
    assert len(list(extensions)) == 6
    certificate.verify_directly_issued_by(authority.certificate)


def test_the_cas_own_key_is_in_no_leaf(authority: Authority, source: LeafSource) -> None:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for kind in ("ec", "rsa"):
        leaf = read(source.leaf(LeafRequest("a.test", kind=kind), now()))
        assert leaf.public_key().public_bytes(*form) != authority.certificate.public_key().public_bytes(*form)


def test_serials_are_positive_long_and_never_the_same(source: LeafSource) -> None:
    serials = {read(source.leaf(LeafRequest(f"h{i}.test"), now())).serial_number for i in range(200)}
    assert len(serials) == 200
    assert all(2**126 <= serial < 2**127 for serial in serials)


@pytest.mark.parametrize(
    "host", ["www.example.com", "192.0.2.1", "2001:db8::1", "b\u00fccher.example", "a" * 60 + ".test"]
)
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_openssl_in_strict_mode_and_gnutls_accept_a_leaf(
    authority: Authority, source: LeafSource, tmp_path: Path, host: str, kind: str
) -> None:
    leaf = read(source.leaf(LeafRequest(host, kind=kind), now()))
    (tmp_path / "ca.pem").write_bytes(authority.export("pem"))
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    name = names(leaf)[0]
    check = "-verify_ip" if ":" in name or name[0].isdigit() else "-verify_hostname"
    strict = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", check, name]  # noqa: RUF005 - one thought a line
        + ["-CAfile", tmp_path / "ca.pem", tmp_path / "leaf.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert strict.returncode == 0, strict.stderr
    gnutls = subprocess.run(
        [
            *("certtool", "--verify", "--load-ca-certificate", str(tmp_path / "ca.pem")),
            "--infile",
            str(tmp_path / "leaf.pem"),
        ]
        + ([] if check == "-verify_ip" else [f"--verify-hostname={name}"]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert gnutls.returncode == 0, gnutls.stdout


@pytest.mark.skipif(shutil.which("certutil") is None, reason="NSS's certutil (libnss3-tools) is not installed")
def test_nss_accepts_a_leaf(authority: Authority, source: LeafSource, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.export("pem"))
    (tmp_path / "leaf.pem").write_bytes(
        read(source.leaf(LeafRequest("www.example.com"), now())).public_bytes(Encoding.PEM)
    )
    store = f"sql:{tmp_path}"
    for command in (
        ["-N", "--empty-password"],
        ["-A", "-n", "ca", "-t", "C,,", "-a", "-i", str(tmp_path / "ca.pem")],
        ["-A", "-n", "leaf", "-t", ",,", "-a", "-i", str(tmp_path / "leaf.pem")],
        ["-V", "-n", "leaf", "-u", "V", "-e"],
    ):
        done = subprocess.run(["certutil", "-d", store, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_a_name_too_long_for_a_common_name_stands_in_the_san_alone_and_critical(source: LeafSource) -> None:
    certificate = read(source.leaf(LeafRequest("a" * 60 + ".example"), now()))
    assert not list(certificate.subject)
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_names_are_bounded_and_doubled_or_impossible_ones_left_out(source: LeafSource) -> None:
    many = tuple(f"n{i}.test" for i in range(500))
    assert (
        len(names(read(source.leaf(LeafRequest("a.test", ("A.test.", "bad name", "", "x" * 70, *many)), now())))) == 100
    )


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64 + ".test", "with space.test", "\ud800"])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(source: LeafSource, host: str) -> None:
    with pytest.raises(ClientError, match="cannot stand in a certificate"):
        source.leaf(LeafRequest(host), now())


def test_validity_never_exceeds_the_lifetime_the_ca_or_the_origin() -> None:
    authority = Authority.make("p256", "Test CA", NOW)
    source = LeafSource(authority, lifetime=30 * DAY, key_path=None)
    plain = read(source.leaf(LeafRequest("a.test"), SECONDS))
    assert plain.not_valid_after_utc == NOW + timedelta(days=30)
    assert plain.not_valid_before_utc == NOW - timedelta(days=1)
    short = read(source.leaf(LeafRequest("a.test", not_after=SECONDS + 5 * DAY), SECONDS))
    assert short.not_valid_after_utc == NOW + timedelta(days=5)
    ended = read(source.leaf(LeafRequest("a.test", not_after=SECONDS - DAY), SECONDS))
    assert ended.not_valid_after_utc == NOW + timedelta(days=30)
    late = authority.not_after.timestamp() - DAY
    assert read(source.leaf(LeafRequest("b.test"), late)).not_valid_after_utc == authority.not_after
    early = read(LeafSource(authority, lifetime=DAY, key_path=None).leaf(LeafRequest("a.test"), SECONDS - DAY / 2))
    assert early.not_valid_before_utc == authority.not_before


def test_dates_beyond_2049_are_written_as_generalized_time() -> None:
    then = datetime(2049, 12, 25, tzinfo=UTC)
    source = LeafSource(Authority.make("p256", "Test CA", then), lifetime=30 * DAY, key_path=None)
    certificate = read(source.leaf(LeafRequest("a.test"), then.timestamp()))
    assert certificate.not_valid_after_utc == then + timedelta(days=30)


def test_a_leaf_is_kept_until_it_gets_old() -> None:
    source = LeafSource(Authority.make("p256", "Test CA", NOW), lifetime=2 * DAY, key_path=None)
    request = LeafRequest("a.test")
    leaf = source.leaf(request, SECONDS)
    assert source.leaf(request, SECONDS + DAY) is leaf
    assert source.leaf(request, SECONDS + 2 * DAY - FRESH) is not leaf
    ending = LeafRequest("a.test", not_after=SECONDS + 600)
    last = source.leaf(ending, SECONDS)
    # It cannot be made to live longer than its origin: making it anew would gain nothing.
    assert source.leaf(ending, SECONDS + 300) is last


def test_the_store_of_leaves_is_bounded() -> None:
    source = LeafSource(Authority.make("p256", "Test CA", NOW), lifetime=DAY, key_path=None)
    first = source.leaf(LeafRequest("first.test"), SECONDS)
    for i in range(MOST_LEAVES):
        source.leaf(LeafRequest(f"h{i}.test"), SECONDS)
    assert source.leaf(LeafRequest("first.test"), SECONDS) is not first


def test_the_leaf_key_is_kept_in_a_file_of_its_own_that_nobody_else_can_read(tmp_path: Path) -> None:
    authority = Authority.make("p256", "Test CA", NOW)
    path = tmp_path / "state" / "leaf.key"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    keys = []
    for _ in range(2):
        source = LeafSource(authority, lifetime=DAY, key_path=path)
        keys.append(
            [
                source.leaf(LeafRequest("a.test", kind=kind), SECONDS).private_key.public_key().public_bytes(*form)
                for kind in ("ec", "rsa")
            ]
        )
    assert keys[0] == keys[1]
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["leaf-rsa.key", "leaf.key"]


@given(st.text(max_size=80))
def test_whatever_is_asked_for_gives_a_certificate_that_parses_or_a_clear_error(host: str) -> None:
    try:
        leaf = SOURCE.leaf(LeafRequest(host), SECONDS)
    except ClientError:
        return
    assert names(read(leaf))


@given(st.ip_addresses())
def test_every_address_stands_in_its_leaf_as_an_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    san = read(SOURCE.leaf(LeafRequest(str(address)), SECONDS)).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert san.value.get_values_for_type(x509.IPAddress) == [address]


SOURCE = LeafSource(Authority.make("p256", "Test CA", NOW), lifetime=DAY, key_path=None)


@pytest.mark.parametrize(
    ("path", "what"),
    [(Path("x" * 300) / "leaf.key", "cannot look at .*too long"), (Path("/proc/leaf.key"), "cannot write /proc/")],
)
def test_a_key_of_leaves_that_cannot_be_reached_or_kept_is_named(authority: Authority, path: Path, what: str) -> None:
    with pytest.raises(ConfigError, match=f"^leaf key: {what}"):
        LeafSource(authority, lifetime=DAY, key_path=path)
