"""Which addresses are ours, and what comes to which of our ports."""

from __future__ import annotations

import pytest

from sslintercept.net.local import Bound, is_local, plain


def test_our_addresses_are_told_from_those_of_others() -> None:
    assert is_local("127.0.0.1")
    assert is_local("::1")
    assert not is_local("192.0.2.1")
    assert not is_local("2001:db8::1")


def test_an_address_is_plain_without_its_zone_and_its_disguise() -> None:
    assert str(plain("::ffff:192.0.2.1")) == "192.0.2.1"
    assert str(plain("fe80::1%eth0")) == "fe80::1"
    with pytest.raises(ValueError, match="name"):
        plain("name")


@pytest.mark.parametrize(
    ("bound", "host", "meets"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.2", "0.0.0.0", False),
        ("0.0.0.0", "127.0.0.2", True),
        ("0.0.0.0", "::ffff:127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("0.0.0.0", "192.0.2.1", False),
        ("::", "::1", True),
        ("::", "::", True),
        ("::", "127.0.0.1", False),
        ("::", "2001:db8::1", False),
        ("fe80::1", "fe80::1%eth0", True),
    ],
)
def test_a_port_is_met_at_the_address_it_is_bound_to_or_at_any_of_ours(bound: str, host: str, meets: bool) -> None:
    assert Bound("TCP", bound, 8080).meets("TCP", host, 8080) is meets
    assert not Bound("TCP", bound, 8080).meets("TCP", host, 8081)
    assert not Bound("TCP", bound, 8080).meets("UDP", host, 8080)


def test_an_ipv6_port_may_take_ipv4_as_well() -> None:
    assert Bound("TCP", "::", 8080, both=True).meets("TCP", "127.0.0.1", 8080)
    assert not Bound("TCP", "::", 8080, both=True).meets("TCP", "192.0.2.1", 8080)
