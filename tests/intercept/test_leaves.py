"""Which certificate a client is shown."""

from __future__ import annotations

import pytest
from cryptography.x509 import load_der_x509_certificate

from sslintercept.facts import ClientHello
from sslintercept.intercept.leaves import Leaves, kind_for
from sslintercept.testing.gateway import _sources
from sslintercept.testing.peer import EPOCH
from sslintercept.tls.seen import Seen
from tests.support import leaf


def hello(
    versions: tuple[int, ...] = (0x0304, 0x0303),
    schemes: tuple[int, ...] = (0x0403, 0x0804),
    groups: tuple[int, ...] = (0x001D, 0x0017),
    ciphers: tuple[int, ...] = (0x1301, 0xC02B, 0xC02F),
) -> ClientHello:
    return ClientHello(
        0x0303, versions, ciphers, (), "origin.test", (), groups, (), schemes, False, False, False, "", 0
    )


@pytest.mark.parametrize(
    ("offer", "kind"),
    [
        (hello(), "ec"),
        (hello(schemes=(0x0804,)), "rsa"),
        (hello(schemes=()), "rsa"),
        (hello(versions=(0x0303,)), "ec"),
        (hello(versions=(0x0303,), ciphers=(0xC02F,)), "rsa"),
        (hello(versions=(0x0303,), groups=(0x001D,)), "rsa"),
        (hello(versions=(0x0304,), groups=(0x001D,), ciphers=(0x1301,)), "ec"),
    ],
)
def test_the_kind_of_key_is_one_that_the_client_can_verify(offer: ClientHello, kind: str) -> None:
    assert kind_for(offer) == kind


def test_a_leaf_says_what_is_known_of_the_origin() -> None:
    trusted, untrusted = _sources()
    leaves = Leaves(trusted, untrusted, None, ("proxy.test", "127.0.0.1"))
    seen = Seen(("origin.test", "*.origin.test"), EPOCH + 86400, "http/1.1", None)
    known = load_der_x509_certificate(leaves.forge("origin.test", seen, hello(), EPOCH).der)
    unknown = load_der_x509_certificate(leaves.forge("origin.test", None, hello(), EPOCH).der)
    bad = load_der_x509_certificate(leaves.forge("origin.test", seen._replace(fault="expired"), hello(), EPOCH).der)
    assert known.not_valid_after_utc.timestamp() == EPOCH + 86400
    assert unknown.not_valid_after_utc > known.not_valid_after_utc
    assert known.issuer == unknown.issuer != bad.issuer


def test_the_same_request_gives_the_same_credential() -> None:
    leaves = Leaves(*_sources(), None, ("proxy.test",))
    assert leaves.forge("a.test", None, hello(), EPOCH) is leaves.forge("a.test", None, hello(), EPOCH)
    assert leaves.own(None, hello(), EPOCH) is leaves.own("x.test", hello(), EPOCH)


def test_a_configured_certificate_of_the_proxy_is_shown_as_it_is() -> None:
    own = leaf("proxy.test").credential()
    assert Leaves(*_sources(), own, ()).own("anything", hello(), EPOCH) is own
