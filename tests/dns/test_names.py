"""From settings to everything that knows names; and Twisted's own connections, which ask it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sslintercept.config.schema import DnsSettings, SplitDnsSettings
from sslintercept.dns.message import AAAA, A, wire
from sslintercept.dns.names import Families, Names, Wanted, has_address
from sslintercept.dns.reactor import ReactorResolver
from sslintercept.dns.resolvconf import Search
from sslintercept.errors import ResolveError
from sslintercept.facts import Address
from sslintercept.testing.loop import Loop

from .support import NameServer, a, outcome

ONE, TWO = Address("192.0.2.1", 53), Address("192.0.2.2", 5353)
DEFAULT = DnsSettings()


def wanted(split: Sequence[SplitDnsSettings] = (), **keys: Any) -> Wanted:
    return Wanted.of(replace(DEFAULT, **keys), tuple(split))


def test_servers_and_search_domains_are_those_of_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch corp.test\noptions rotate ndots:2\n")
    found = wanted(resolv_conf=path)
    (group,) = found.servers()
    assert [str(server) for server in group.servers] == ["192.0.2.1:53", "192.0.2.2:53"]
    assert group.pick() is not group.pick()
    assert found.search() == Search((wire("corp.test"),), 2)
    assert found == wanted(resolv_conf=path)
    path.write_text("nameserver 192.0.2.1\n")
    assert found != wanted(resolv_conf=path)


def test_the_settings_may_name_them_instead() -> None:
    found = wanted(servers=(ONE, TWO))
    (group,) = found.servers()
    assert [server.address for server in group.servers] == [ONE, TWO]
    assert group.pick() is group.pick()
    assert found.search() == Search()
    assert wanted(servers=(ONE,), search=("a.test", "b.test")).search().domains == (wire("a.test"), wire("b.test"))
    assert wanted(search="none").search() == Search()


def test_domains_may_have_servers_of_their_own() -> None:
    split = SplitDnsSettings("corp", ("corp.test", "other.test"), (TWO,))
    servers = wanted([split], servers=(ONE,)).servers()
    for name, server in (("x.corp.test", TWO), ("other.test", TWO), ("corp.test.x", ONE)):
        assert servers.group(wire(name)).servers[0].address == server


def test_over_tls_the_port_is_another_one() -> None:
    (group,) = wanted(servers=(ONE, TWO), tls="dns.test").servers()
    assert [server.address.port for server in group.servers] == [853, 5353]


def test_a_name_is_found_in_the_end_and_what_was_done_is_summed_up(loop: Loop) -> None:
    server = NameServer(loop, lambda query: query.reply(a(query.name, "192.0.2.9")))
    names = Names(loop.handler, loop, wanted(servers=(server.address,), families="ipv4", search=("corp.test",)))
    names.start()
    asked = names.resolve("www")
    loop.pump()
    assert outcome(asked) == ("192.0.2.9",)
    assert outcome(names.resolve("www")) == ("192.0.2.9",)
    assert [query.name for query in server.queries] == ["www.corp.test"]
    assert "1 from the table" in names.summary()
    assert "1 looked up" in names.summary()
    assert "servers down: none" in names.summary()
    assert [one.up for one in names.health()] == [True]
    names.stop()
    assert isinstance(outcome(names.resolve("other")), ResolveError)
    server.close()


def test_streams_of_tls_are_opened_for_the_name_that_is_wanted(loop: Loop) -> None:
    opened: list[str] = []

    def secure(name: str) -> Any:
        opened.append(name)
        return lambda server: fail(ConnectionError("a test"))

    names = Names(loop.handler, loop, wanted(servers=(ONE,), tls="dns.test", timeout=5.0), secure)
    names.start()
    asked = names.resolve("www.test")
    loop.pass_time(6)
    assert "a test" in str(outcome(asked))
    assert opened == ["dns.test"]
    names.stop()


IF_INET6 = (
    "00000000000000000000000000000001 01 80 10 80       lo\n"
    "fe800000000000000000000000000001 02 40 20 80     eth0\n"
    "nonsense\n"
)


def test_ipv6_is_asked_for_where_this_machine_has_such_an_address(tmp_path: Path) -> None:
    path = tmp_path / "if_inet6"
    clock = Clock()
    families = Families(clock, "auto", path)
    assert families() == (A,)
    path.write_text(IF_INET6)
    clock.advance(31)
    assert families() == (A,)
    path.write_text(IF_INET6 + "20010db8000000000000000000000001 02 40 00 80     eth0\n")
    assert families() == (A,)
    clock.advance(31)
    assert families() == (AAAA, A)
    assert has_address(path)


@pytest.mark.parametrize(("word", "types"), [("both", (AAAA, A)), ("ipv4", (A,)), ("ipv6", (AAAA,))])
def test_or_as_the_settings_say(word: str, types: tuple[int, ...]) -> None:
    families = Families(Clock(), word, Path("/nonexistent"))
    assert families() == types


# Twisted


@implementer(IResolutionReceiver)
class Receiver:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        self.told.append("began")

    def addressResolved(self, address: Any) -> None:
        self.told.append((address.type, address.host, address.port))

    def resolutionComplete(self) -> None:
        self.told.append("over")


def asked(name: str, found: Any = None, **options: Any) -> tuple[Any, list[Any]]:
    receiver = Receiver()
    resolver = ReactorResolver(lambda host: found)
    assert verifyObject(IHostnameResolver, resolver)
    resolution = resolver.resolveHostName(receiver, name, 443, **options)
    return resolution, receiver.told


def test_twisted_is_told_each_address() -> None:
    resolution, told = asked("www.test", succeed(["2001:db8::1", "192.0.2.1"]))
    assert resolution.name == "www.test"
    assert told == ["began", ("TCP", "2001:db8::1", 443), ("TCP", "192.0.2.1", 443), "over"]


@pytest.mark.parametrize(("kind", "host"), [(IPv4Address, "192.0.2.1"), (IPv6Address, "2001:db8::1")])
def test_twisted_may_want_one_family_only(kind: Any, host: str) -> None:
    found = succeed(["2001:db8::1", "192.0.2.1"])
    _, told = asked("www.test", found, addressTypes=[kind], transportSemantics="UDP")
    assert told == ["began", ("UDP", host, 443), "over"]


def test_a_literal_costs_no_question_and_a_failure_is_no_address() -> None:
    assert asked("192.0.2.1")[1] == ["began", ("TCP", "192.0.2.1", 443), "over"]
    error = ResolveError("none", where="www.test", remedy="none")
    assert asked("www.test", fail(error))[1] == ["began", "over"]


def test_a_question_of_twisteds_may_be_cancelled() -> None:
    waiting: Deferred[Sequence[str]] = Deferred()
    resolution, told = asked("www.test", waiting)
    resolution.cancel()
    assert told == ["began", "over"]
