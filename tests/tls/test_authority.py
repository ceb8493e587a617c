"""The CA: made, kept, brought, and refused when it cannot be used."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from sslintercept.errors import ConfigError
from sslintercept.tls.authority import Authority, private_pem, shared_secret, write_secret

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def load(folder: Path, key_type: str = "p256", now: datetime = NOW) -> tuple[Authority, bool]:
    return Authority.load_or_make(folder / "ca.pem", folder / "ca.key", key_type=key_type, name="Test CA", now=now)


UNREACHABLE = "x" * 300
"""the name of a folder that nobody can enter, root included"""


def brought(
    folder: Path,
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    begin: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=365),
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ((x509.BasicConstraints(True, None), True),),
) -> Path:
    """Put a CA into C{folder} as an administrator would bring it."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "brought CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "ca.key").write_bytes(private_pem(key))
    (folder / "ca.key").chmod(0o600)
    return folder


@pytest.mark.parametrize("key_type", ["p256", "rsa2048"])
def test_a_ca_is_made_on_first_start_and_kept_from_then_on(tmp_path: Path, key_type: str) -> None:
    folder = tmp_path / "state"
    authority, made = load(folder, key_type)
    assert made
    again, made = load(folder, key_type)
    assert not made
    assert again.fingerprint == authority.fingerprint
    assert not again.warnings
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(file.name for file in folder.iterdir()) == ["ca.key", "ca.pem"]


def test_the_made_ca_may_sign_leaves_and_nothing_else(tmp_path: Path) -> None:
    certificate = load(tmp_path)[0].certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)
    assert certificate.serial_number.bit_length() == 127
    assert certificate.not_valid_before_utc < NOW


def test_a_self_signed_ca_sends_nothing_behind_its_leaves(tmp_path: Path) -> None:
    assert load(tmp_path)[0].chain_der == []


def test_an_intermediate_ca_is_sent_behind_its_leaves(tmp_path: Path) -> None:
    root = Authority.make("p256", "Root", NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    intermediate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Intermediate")]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(9)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(root.key, hashes.SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(intermediate.public_bytes(Encoding.PEM) + root.export("pem"))
    write_secret(tmp_path / "ca.key", private_pem(key))
    assert load(tmp_path)[0].chain_der == [intermediate.public_bytes(Encoding.DER)]
    (tmp_path / "ca.pem").write_bytes(
        intermediate.public_bytes(Encoding.PEM) + Authority.make("p256", "Other", NOW).export("pem")
    )
    with pytest.raises(ConfigError, match="are no chain"):
        load(tmp_path)


def test_a_key_that_others_can_read_is_used_with_a_warning(tmp_path: Path) -> None:
    brought(tmp_path)
    (tmp_path / "ca.key").chmod(0o644)
    assert "can be read by others" in load(tmp_path)[0].warnings[0]


def test_a_ca_that_ends_soon_is_used_with_a_warning(tmp_path: Path) -> None:
    brought(tmp_path, end=NOW + timedelta(days=10))
    assert "ends on 2026-12-03" in load(tmp_path)[0].warnings[0]


USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: brought(d, extensions=()), "is no CA .no basicConstraints."),
        (lambda d: brought(d, extensions=((x509.BasicConstraints(False, None), True),)), "is no CA .CA:FALSE."),
        (
            lambda d: brought(d, extensions=((x509.BasicConstraints(True, None), True), (USAGE, True))),
            "may not sign certificates",
        ),
        (lambda d: brought(d, end=NOW - timedelta(hours=1)), "ended on 2026-11-23"),
        (lambda d: brought(d, begin=NOW + timedelta(days=1)), "begins on 2026-11-24"),
        (lambda d: brought(d, key=rsa.generate_private_key(public_exponent=65537, key_size=1024)), "do not accept"),
        (lambda d: brought(d, key=ec.generate_private_key(ec.SECP521R1())), "do not accept"),
        (lambda d: (d / "ca.pem").write_text("rubbish"), "ca.key is missing"),
        (lambda d: (d / "ca.key").write_text("rubbish"), "ca.pem is missing"),
        (lambda d: [(d / n).write_text("rubbish") for n in ("ca.pem", "ca.key")], "holds no certificate"),
        (lambda d: [brought(d), (d / "ca.key").write_text("rubbish")], "holds no private key"),
        (
            lambda d: [brought(d), (d / "ca.key").write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))],
            "is not the key of",
        ),
        (
            lambda d: [
                brought(d),
                (d / "ca.key").write_bytes(
                    ec.generate_private_key(ec.SECP256R1()).private_bytes(
                        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
                    )
                ),
            ],
            "without a password",
        ),
        (
            lambda d: [
                brought(d),
                (d / "ca.key").write_bytes(
                    ed25519.Ed25519PrivateKey.generate().private_bytes(
                        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
                    )
                ),
            ],
            "do not accept",
        ),
        (lambda d: [brought(d), (d / "ca.key").unlink(), (d / "ca.key").mkdir()], "cannot read .*ca.key"),
        (lambda d: [brought(d), (d / "ca.pem").unlink(), (d / "ca.pem").mkdir()], "cannot read .*ca.pem"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("[ca]")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        load(tmp_path / "file" / "state")


def test_a_secret_is_never_written_over_a_file_that_is_there(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", b"first")
    with pytest.raises(FileExistsError):
        write_secret(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_a_shared_secret_is_made_once_for_us_alone(tmp_path: Path) -> None:
    first = shared_secret(tmp_path / "state" / "a.secret", "[x]")
    assert len(first) == 32
    assert shared_secret(tmp_path / "state" / "a.secret", "[x]") == first
    assert shared_secret(tmp_path / "state" / "b.secret", "[x]") != first
    assert (tmp_path / "state" / "a.secret").stat().st_mode & 0o777 == 0o600


def test_of_two_processes_the_slower_one_takes_the_secret_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.secret"
    first = shared_secret(path, "[x]")
    monkeypatch.setattr("sslintercept.tls.authority.is_there", lambda path, where: False)
    assert shared_secret(path, "[x]") == first


@pytest.mark.parametrize(
    ("data", "mode", "what"),
    [(b"x" * 32, 0o644, "can be read by others"), (b"short", 0o600, "does not hold 32 bytes")],
)
def test_a_shared_secret_that_is_none_is_refused(tmp_path: Path, data: bytes, mode: int, what: str) -> None:
    path = tmp_path / "a.secret"
    path.write_bytes(data)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"\[x\]: .*{what}.*; remove it"):
        shared_secret(path, "[x]")


def test_a_shared_secret_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use"):
        shared_secret(tmp_path / "file" / "a.secret", "[x]")


def test_of_two_processes_that_start_at_once_the_second_takes_the_firsts_ca(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = load(tmp_path)
    exists = iter([False, False])
    monkeypatch.setattr(Path, "exists", lambda self: next(exists))
    second, made = load(tmp_path)
    assert not made
    assert second.fingerprint == first.fingerprint


def test_a_description_has_names_dates_key_and_fingerprint_but_no_secret(tmp_path: Path) -> None:
    for key_type, kind in (("p256", "EC secp256r1"), ("rsa2048", "RSA 2048")):
        authority, _ = load(tmp_path / key_type, key_type)
        text = authority.describe()
        assert "CN=Test CA" in text
        assert kind in text
        assert authority.fingerprint[:2].upper() + ":" in text
        assert "PRIVATE" not in text


def test_the_certificate_is_exported_in_both_forms(tmp_path: Path) -> None:
    authority, _ = load(tmp_path)
    assert x509.load_pem_x509_certificate(authority.export("pem")) == authority.certificate
    assert x509.load_der_x509_certificate(authority.export("der")) == authority.certificate


def test_a_ca_that_cannot_be_reached_is_not_taken_for_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^\[ca\] certificate: cannot look at .*\(File name too long\); run as"):
        load(tmp_path / UNREACHABLE)
