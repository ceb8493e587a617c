"""UDP ASSOCIATE: who may send, where to, and what comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import count

import pytest

from sslintercept.datagram.associate import SocksAssociation, SocksAssociations
from sslintercept.errors import InterceptError, LimitError
from sslintercept.facts import Address, Facts
from sslintercept.net.connector import Denied
from sslintercept.net.udp import DATAGRAMS
from sslintercept.profile.profile import Bytes
from sslintercept.socks.wire import read_datagram, write_datagram
from sslintercept.testing.loop import Loop
from tests.datagram.support import BLOCK, TUNNEL, Site, hello, sized


class Made:
    """An association of a client whose TCP connection came from 127.0.0.1."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.site = Site(loop, lambda facts: BLOCK if facts.protocol == "stun" else TUNNEL)
        ids = count(1)
        self.associations = SocksAssociations(
            loop.handler,
            self.site.table,
            self.site.datagrams,
            read=read_datagram,
            write=write_datagram,
            new_id=lambda: f"u-{next(ids)}",
            wall_clock=lambda: 1e9,
            most=2,
        )
        self.facts = Facts("t-1", Address("127.0.0.1", 40000), "socks")
        self.facts.path = ["tcp", "socks5"]
        self.facts.user = "ann"
        self.closed: list[str] = []

    def open(self, expected: Address | None = None) -> SocksAssociation:
        return self.associations.open(
            self.facts, self.facts.client, expected, "127.0.0.1", lambda: self.closed.append("closed")
        )

    @property
    def origin(self) -> Address:
        return Address(*self.site.origin.getsockname())


@pytest.fixture
def made(loop: Loop) -> Iterator[Made]:
    made = Made(loop)
    yield made
    made.associations.close()
    made.site.close()


def to(destination: Address, data: bytes, *, fragment: int = 0) -> bytes:
    return bytes([0, 0, fragment]) + write_datagram(destination, data)[3:]


def test_each_destination_is_a_flow_of_its_own(loop: Loop, made: Made) -> None:
    association = made.open()
    client, other = made.site.plug(association.address), made.site.plug()
    second = Address(*other.getsockname())
    client.send(to(made.origin, b"one"))
    client.send(to(second, b""))
    client.send(to(made.origin, b"two"))
    [(_, source), _] = got = made.site.received_from(made.site.origin)
    assert [data for data, _ in got] == [b"one", b"two"]
    assert made.site.received(other) == [b""]
    made.site.origin.sendto(b"a" * 5000, source)  # much more than was asked: the TCP connection proves the address
    assert made.site.received(client) == [to(made.origin, b"a" * 5000)]
    association.close()
    association.close()
    (first, totals), (last, _) = made.site.ended
    assert (first.id, first.user, first.client, first.listener) == ("u-1", "ann", Address("127.0.0.1", 40000), "socks")
    assert first.stack == "tcp/socks5/udp/tunnel"
    assert (first.destination, last.destination) == (made.origin, second)
    assert totals.why == "the association ended"
    assert made.closed == []
    assert not made.associations.all


def test_a_name_is_looked_up_and_answers_say_the_address(loop: Loop, made: Made) -> None:
    association = made.open()
    client = made.site.plug(association.address)
    name = b"\0\0\0\3" + sized(b"origin.example", 1) + made.origin.port.to_bytes(2, "big")
    client.send(name + b"question")
    loop.pump()
    made.site.waiting[0].callback(["127.0.0.1"])
    [(data, source)] = made.site.received_from(made.site.origin)
    assert data == b"question"
    made.site.origin.sendto(b"answer", source)
    assert made.site.received(client) == [to(made.origin, b"answer")]


def test_rules_and_forbidden_addresses_hold_for_each_flow(loop: Loop, made: Made) -> None:
    association = made.open()
    client = made.site.plug(association.address)
    client.send(to(made.origin, b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)))
    assert made.site.received(made.site.origin) == []
    client.send(to(Address("127.0.0.1", 9), hello()))
    loop.pump()
    assert [facts.protocol for facts in made.site.rules.asked] == ["stun", "dtls"]
    assert made.site.rules.asked[1].server_name == "a.example"
    made.site.refused = Denied("it is private", "leave it")
    client.send(to(Address("127.0.0.1", 10), b"x"))
    loop.pump()
    association.close()
    assert "it is private" in str(made.site.ended[-1][0].error)


def test_only_the_client_may_send_and_only_from_one_port(loop: Loop, made: Made) -> None:
    association = made.open()
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.2", 0))
    stranger.sendto(to(made.origin, b"forged"), association.address)
    loop.pump()
    client, neighbour = made.site.plug(association.address), made.site.plug(association.address)
    client.send(to(made.origin, b"one"))
    neighbour.send(to(made.origin, b"two"))
    assert made.site.received(made.site.origin) == [b"one"]
    assert association.dropped == 2
    stranger.close()


def test_a_port_that_was_told_counts_unless_the_client_does_not_know_its_own_address(loop: Loop, made: Made) -> None:
    one, two = made.site.plug(), made.site.plug()
    told = made.open(Address(*one.getsockname()))
    for sock in (two, one):
        sock.sendto(to(made.origin, b"%d" % sock.getsockname()[1]), told.address)
    assert made.site.received(made.site.origin) == [b"%d" % one.getsockname()[1]]
    behind_nat = made.open(Address("10.0.0.1", 5))
    two.sendto(to(made.origin, b"two"), behind_nat.address)
    assert made.site.received(made.site.origin) == [b"two"]


@pytest.mark.parametrize(
    "datagram", [b"", b"\0", b"\0\0\0", b"\0\0\0\1\x7f\0", b"\1\0\0\1\x7f\0\0\1\0\x09", b"\0\0\0\7abcdef"]
)
def test_what_has_no_header_is_dropped(loop: Loop, made: Made, datagram: bytes) -> None:
    association = made.open()
    made.site.plug(association.address).send(datagram)
    loop.pump()
    assert association.dropped == 1
    assert len(made.site.table) == 0


def test_fragments_are_dropped_and_nobody_learns_the_port_from_them(loop: Loop, made: Made) -> None:
    association = made.open()
    one, two = made.site.plug(association.address), made.site.plug(association.address)
    one.send(to(made.origin, b"one", fragment=1))
    two.send(to(made.origin, b"two"))
    assert made.site.received(made.site.origin) == [b"two"]
    assert association.dropped == 1


def test_flows_and_associations_are_bounded(loop: Loop, made: Made) -> None:
    made.site.table._most_of_a_host = 2
    association = made.open()
    made.open()
    with pytest.raises(InterceptError, match="2 associations"):
        made.open()
    client = made.site.plug(association.address)
    for port in range(1, 6):
        client.send(to(Address("127.0.0.1", port), b"x"))
    loop.pump()
    assert len(made.site.table) == 2
    assert association.dropped == 3


def test_one_client_cannot_take_all_associations(made: Made) -> None:
    made.associations.most_of_a_host = 1
    first = made.open()
    with pytest.raises(LimitError, match="1 associations of this client"):
        made.open()
    made.facts = Facts("t-2", Address("127.0.0.2", 40000), "socks")
    made.open()
    first.close()
    made.facts = Facts("t-3", Address("127.0.0.1", 40000), "socks")
    made.open()


def test_datagrams_of_either_side_keep_an_association_active(loop: Loop, made: Made) -> None:
    association = made.open()
    client = made.site.plug(association.address)
    loop.pass_time(10)
    client.send(to(made.origin, b"question"))
    [(_, source)] = made.site.received_from(made.site.origin)
    asked = association.active
    assert asked >= 10
    loop.pass_time(10)
    made.site.origin.sendto(b"answer", source)
    assert made.site.received(client) == [to(made.origin, b"answer")]
    assert association.active >= asked + 10
    client.send(b"no header")
    loop.pass_time(10)
    assert association.active < asked + 20


def test_without_a_socket_there_is_no_association(made: Made) -> None:
    with pytest.raises(InterceptError, match="no socket"):
        made.associations.open(made.facts, made.facts.client, None, "192.0.2.1", lambda: None)


def test_a_turn_is_bounded_and_a_close_in_the_middle_is_noticed(loop: Loop, made: Made) -> None:
    association = made.open()
    client = made.site.plug(association.address)
    for _ in range(DATAGRAMS + 1):
        client.send(to(made.origin, b"x"))
    loop.turn()
    [flow] = made.site.table
    assert flow.udp.came == DATAGRAMS
    flow.read_to(lambda data: association.close())
    client.send(to(made.origin, b"y"))
    loop.pump()
    assert flow.udp.came == DATAGRAMS + 1
    assert flow.why == "the association ended"


def test_a_defect_in_one_flow_ends_that_one_and_one_outside_of_them_the_association(loop: Loop, made: Made) -> None:
    association = made.open()
    client = made.site.plug(association.address)
    client.send(to(made.origin, b"x"))
    loop.pump()
    [flow] = made.site.table

    def defect(data: Bytes) -> None:
        raise RuntimeError("a defect")

    flow.read_to(defect)
    client.send(to(made.origin, b"x"))
    loop.pump()
    assert flow.why == "defect"
    client.send(to(made.origin, b"again"))
    assert made.site.received(made.site.origin) == [b"x", b"again"]
    loop.failures.clear()
    association.event(8)
    association.abort()
    association.abort()
    assert made.closed == ["closed"]
