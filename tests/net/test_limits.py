"""Where nobody is led."""

from __future__ import annotations

import pytest

from sslintercept.net.limits import ITSELF, Limits
from sslintercept.net.local import Bound

PORTS = [Bound("TCP", "127.0.0.1", 8080), Bound("UDP", "0.0.0.0", 5353)]


@pytest.mark.parametrize("private", [True, False])
def test_this_proxy_itself_is_denied_to_everybody_and_whatever_the_settings_say(private: bool) -> None:
    limits = Limits(private, lambda: PORTS)
    for asked in (limits.itself, limits.denied):
        assert asked("127.0.0.1", 8080) == ITSELF
        assert asked("127.0.0.1", 5353, "UDP") == ITSELF
    assert "private" not in " ".join(ITSELF)


def test_another_server_on_a_port_of_ours_may_be_used() -> None:
    limits = Limits(False, lambda: PORTS)
    for host, port, transport in (("127.0.0.2", 8080, "TCP"), ("127.0.0.1", 8080, "UDP"), ("127.0.0.1", 5353, "TCP")):
        assert limits.denied(host, port, transport) is None


def test_a_port_that_was_opened_later_counts_too() -> None:
    ports: list[Bound] = []
    limits = Limits(False, lambda: ports)
    assert limits.denied("127.0.0.1", 8080) is None
    ports += PORTS
    assert limits.denied("127.0.0.1", 8080) == ITSELF


@pytest.mark.parametrize(
    ("host", "denied"),
    [
        ("10.1.2.3", True),
        ("127.0.0.1", True),
        ("169.254.1.1", True),
        ("fe80::1", True),
        ("fd00::1", True),
        ("192.0.2.1", True),
        ("::ffff:10.1.2.3", True),
        ("64:ff9b::a01:203", True),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("2600::1", False),
    ],
)
def test_private_networks_are_denied_to_clients_if_the_settings_say_so(host: str, denied: bool) -> None:
    limits = Limits(True, list)
    found = limits.denied(host, 443)
    assert (found is not None) is denied
    if found is not None:
        assert found == (f"{host} is in a private network", "see [http] private_destinations")
    assert limits.itself(host, 443) is None
    assert Limits(False, list).denied(host, 443) is None
