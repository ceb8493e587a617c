"""How near addresses are, and names that lead nearer than their client is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.facts import Action, Address, Decision, Facts
from sslintercept.net.connector import Forbidden
from sslintercept.net.nearness import Guard, Near, nearness


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("198.51.100.7", Near.WORLD),
        ("2001:db8::1", Near.WORLD),
        ("172.32.0.1", Near.WORLD),
        ("10.1.2.3", Near.PRIVATE),
        ("172.31.255.255", Near.PRIVATE),
        ("192.168.0.1", Near.PRIVATE),
        ("100.64.0.1", Near.PRIVATE),
        ("fd00::1", Near.PRIVATE),
        ("169.254.169.254", Near.LINK),
        ("fe80::1%eth0", Near.LINK),
        ("127.0.0.1", Near.MACHINE),
        ("0.0.0.0", Near.MACHINE),
        ("::1", Near.MACHINE),
        ("::", Near.MACHINE),
        ("::ffff:127.0.0.1", Near.MACHINE),
        ("::ffff:198.51.100.7", Near.WORLD),
        ("64:ff9b::10.0.0.1", Near.PRIVATE),
        ("64:ff9b:1::10.0.0.1", Near.WORLD),
        ("2002:7f00:1::", Near.MACHINE),
        ("2002:c633:6407::1", Near.WORLD),
    ],
)
def test_networks_are_told_apart(host: str, near: Near) -> None:
    assert nearness(host) is near


@given(st.ip_addresses())
def test_every_address_has_its_place(address: object) -> None:
    assert nearness(str(address)) in Near


def facts(client: str, rebinding: str | None = "") -> Facts:
    """A client, and what a rule says of it; C{None}: nothing is decided yet."""
    made = Facts("c1", Address(client, 50000), "proxy")
    if rebinding is not None:
        made.decision = Decision(Action.INTERCEPT, "r", "why", rebinding=rebinding)
    return made


NAME = Address("host.test", 443)
WORLD, PRIVATE, LINK, MACHINE = "198.51.100.7", "10.0.0.1", "169.254.169.254", "127.0.0.1"


@pytest.mark.parametrize(
    ("client", "left"),
    [
        (WORLD, [WORLD]),
        (PRIVATE, [WORLD, PRIVATE]),
        (LINK, [WORLD, PRIVATE, LINK]),
        (MACHINE, [WORLD, PRIVATE, LINK, MACHINE]),
        ("unix", [WORLD, PRIVATE, LINK, MACHINE]),
    ],
)
@pytest.mark.parametrize("decided", [None, "", "refuse"])
def test_a_name_leads_no_nearer_than_its_client_is(client: str, left: list[str], decided: str | None) -> None:
    guard = Guard(True, lambda host: False)
    assert guard.passable(facts(client, decided), NAME, [WORLD, PRIVATE, LINK, MACHINE]) == left


def test_a_name_that_leads_nowhere_else_is_refused() -> None:
    with pytest.raises(Forbidden, match=r"the name leads to 10.0.0.1, which is not for clients from outside"):
        Guard(True, lambda host: False).passable(facts(WORLD), NAME, [PRIVATE, MACHINE])


@pytest.mark.parametrize(
    ("guard", "who", "destination"),
    [
        (Guard(False, lambda host: False), facts(WORLD), NAME),
        (Guard(True, lambda host: False), facts(WORLD, "allow"), NAME),
        (Guard(True, lambda host: host == "host.test"), facts(WORLD), NAME),
        (Guard(True, lambda host: False), facts(WORLD), Address(MACHINE, 443)),
    ],
)
def test_settings_rules_the_hosts_file_and_literals_may_lead_anywhere(
    guard: Guard, who: Facts, destination: Address
) -> None:
    assert guard.passable(who, destination, [MACHINE]) == [MACHINE]


def test_a_rule_may_refuse_what_the_settings_allow() -> None:
    with pytest.raises(Forbidden):
        Guard(False, lambda host: False).passable(facts(WORLD, "refuse"), NAME, [MACHINE])
