"""Which server is asked, and how one is left out and taken back."""

from __future__ import annotations

import pytest

from sslintercept.dns.message import NS, ROOT, A, BadName
from sslintercept.dns.server import (
    MAX_NAMED,
    MOST_GROUPS,
    PROBE_NAMES,
    PROBE_TURNOVER,
    NameServers,
    Rules,
    Server,
    ServerGroup,
)
from sslintercept.facts import Address

from .support import labels

RULES = Rules(number=5, soon=21.0, every=5.0, now=60.0)
NAME = labels("a.test")


def group(count: int = 2, *, rotate: bool = False) -> ServerGroup:
    return ServerGroup([Address("192.0.2.1", 53 + i) for i in range(count)], rotate=rotate, rules=RULES)


def suspect(of: ServerGroup, server: Server, now: float = 0.0) -> None:
    assert [of.sent(server, now) for _ in range(5)] == [False] * 4 + [True]


@pytest.mark.parametrize("address", [Address("ns.test", 53), Address("192.0.2.1", 0), Address("192.0.2.1", 65536)])
def test_a_server_has_a_numeric_address(address: Address) -> None:
    """A name would have to be looked up first."""
    with pytest.raises(ValueError):
        Server(address)


def test_a_group_has_servers_but_not_too_many() -> None:
    with pytest.raises(ValueError, match="no name server"):
        ServerGroup([])
    full = ServerGroup([Address("192.0.2.1", 1 + i) for i in range(MAX_NAMED + 1)])
    assert (len(full.servers), full.ignored) == (32, 1)


def test_the_primary_is_asked_first_and_its_backups_next() -> None:
    one = group(3)
    first, second, third = one.servers
    assert one.pick() is one.pick() is first
    assert one.pick([first]) is second
    assert one.pick([first, second]) is third
    assert one.pick([first, second, third]) is first
    first.down = True
    assert one.pick() is second
    assert one.pick([second, third]) is second
    second.down = third.down = True
    assert one.pick() is first
    assert one.pick([first]) is second


def test_turns_go_round_those_that_are_up() -> None:
    one = group(3, rotate=True)
    first, second, third = one.servers
    assert [one.pick() for _ in range(4)] == [first, second, third, first]
    second.down = True
    assert [one.pick() for _ in range(3)] == [third, first, third]
    assert one.pick([first]) is third
    first.down = third.down = True
    assert [one.pick() for _ in range(4)] == [first, second, third, first]


def test_a_silent_server_is_probed_soon_and_given_up_now() -> None:
    one = group()
    first, second = one.servers
    suspect(one, first)
    assert not one.sent(first, 1.0)  # it is suspected already
    duties = one.check(0.0)
    assert (duties.probe, duties.given_up, duties.again) == ([], [], 21.0)
    duties = one.check(21.0)
    assert (duties.probe, duties.given_up, duties.again) == ([first], [], 26.0)
    assert one.check(22.0).probe == []
    assert [len(one.check(float(t)).probe) for t in range(26, 56, 5)] == [1] * 6
    duties = one.check(56.0)
    assert (duties.probe, duties.again) == ([first], 60.0)
    duties = one.check(60.0)
    assert (duties.probe, duties.given_up, duties.again) == ([], [first], 61.0)
    assert one.pick() is second
    duties = one.check(61.0)
    assert (duties.probe, duties.given_up, duties.again) == ([first], [], 66.0)
    assert one.good(first, None, 0.1)
    assert one.pick() is first
    assert one.check(66.0).again is None


def test_the_next_look_is_for_whoever_needs_it_first() -> None:
    one = group(3)
    suspect(one, one.servers[1], 0.0)
    suspect(one, one.servers[0], 2.0)
    assert one.check(3.0).again == 21.0


def test_a_good_answer_clears_a_suspicion() -> None:
    one = group()
    suspect(one, one.servers[0])
    assert not one.good(one.servers[0], (NAME, A), 0.1)
    assert one.check(1.0).again is None
    suspect(one, one.servers[0], 2.0)


def test_a_single_server_is_never_given_up() -> None:
    one = group(1)
    assert not any(one.sent(one.servers[0], 0.0) for _ in range(50))


def test_a_probe_asks_what_was_answered_before() -> None:
    one = group()
    assert one.probe() == (ROOT, NS)
    server = one.servers[0]
    for i in range(PROBE_NAMES):
        one.good(server, (bytes((1, 65 + i, 0)), A), 0.1)
    assert len({one.probe() for _ in range(PROBE_NAMES)}) == PROBE_NAMES
    for _ in range(PROBE_TURNOVER - PROBE_NAMES):
        one.good(server, (NAME, A), 0.1)
    assert (NAME, A) not in {one.probe() for _ in range(PROBE_NAMES)}
    one.good(server, (NAME, A), 0.1)
    assert (NAME, A) in {one.probe() for _ in range(PROBE_NAMES)}


def test_the_time_of_answers_is_smoothed() -> None:
    one = group()
    one.good(one.servers[0], None, 0.8)
    one.good(one.servers[0], None, 1.6)
    assert one.servers[0].smoothed == pytest.approx(0.9)


def test_the_longest_domain_decides() -> None:
    everything, corp, lab = group(), group(), group()
    servers = NameServers(everything, {"corp.test": corp, "Lab.corp.test.": lab, "other.test": corp})
    for name, expected in {
        "corp.test": corp,
        "a.b.corp.test": corp,
        "lab.corp.test": lab,
        "a.lab.corp.test": lab,
        "xlab.corp.test": corp,
        "xcorp.test": everything,
        "test": everything,
        "": everything,
    }.items():
        assert servers.group(labels(name)) is expected
    assert list(servers) == [everything, corp, lab]
    assert list(NameServers(everything)) == [everything]
    assert [one.server for one in NameServers(everything).health()] == ["192.0.2.1:53", "192.0.2.1:54"]


def test_a_table_of_domains_is_bounded_and_has_names() -> None:
    with pytest.raises(BadName):
        NameServers(group(), {"a..b": group()})
    with pytest.raises(ValueError, match="64"):
        NameServers(group(), {f"n{i}.test": group() for i in range(MOST_GROUPS + 1)})
