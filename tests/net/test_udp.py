"""Sockets of datagrams, with real ones on the loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sslintercept.errors import ConnectError
from sslintercept.facts import Address
from sslintercept.net.flow import Flow, FlowTable
from sslintercept.net.udp import DATAGRAMS, AnyPort, UdpPort, bind, connect
from sslintercept.profile.profile import Bytes
from sslintercept.testing.loop import Loop


class Echo:
    """Sends back what comes, a letter in front."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []

    def opened(self, flow: Flow) -> None:
        self.flows.append(flow)
        flow.udp.proven = True
        flow.read_to(lambda data: flow.write(b">" + bytes(data)))


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def port(loop: Loop, echo: Echo) -> Iterator[UdpPort]:
    port = UdpPort(loop.handler, bind("127.0.0.1", 0), FlowTable(loop.handler), echo.opened)
    yield port
    port.close()
    port.close()


def client(loop: Loop, to: Address, host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    sock.connect((to.host, to.port))
    loop.peers.append(sock)
    return sock


def test_every_client_is_a_flow_and_datagrams_keep_their_borders(loop: Loop, port: UdpPort, echo: Echo) -> None:
    one, two = client(loop, port.address), client(loop, port.address)
    for datagram in (b"a", b"", b"bb" * 20000):
        one.send(datagram)
    two.send(b"c")
    loop.pump()
    assert [one.recv(65536) for _ in range(3)] == [b">a", b">", b">" + b"bb" * 20000]
    assert two.recv(10) == b">c"
    assert [flow.peer.port for flow in echo.flows] == [one.getsockname()[1], two.getsockname()[1]]
    assert {flow.local for flow in echo.flows} == {port.address}


def test_a_turn_reads_a_bounded_number_of_datagrams(loop: Loop, port: UdpPort, echo: Echo) -> None:
    one = client(loop, port.address)
    for _ in range(DATAGRAMS + 10):
        one.send(b"x")
    loop.turn()
    assert echo.flows[0].udp.came == DATAGRAMS
    loop.pump()
    assert echo.flows[0].udp.came == DATAGRAMS + 10


def test_a_defect_in_one_session_ends_that_flow_alone(loop: Loop, port: UdpPort, echo: Echo) -> None:
    one, two = client(loop, port.address), client(loop, port.address)
    one.send(b"a")
    loop.pump()

    def defect(data: Bytes) -> None:
        raise RuntimeError("a defect")

    echo.flows[0].read_to(defect)
    one.send(b"b")
    two.send(b"c")
    loop.pump()
    assert echo.flows[0].why == "defect"
    assert two.recv(10) == b">c"
    loop.failures.clear()


def test_a_flow_that_cannot_be_set_up_is_dropped(loop: Loop) -> None:
    def opened(flow: Flow) -> None:
        raise RuntimeError("a defect")

    port = UdpPort(loop.handler, bind("127.0.0.1", 0), FlowTable(loop.handler), opened)
    client(loop, port.address).send(b"x")
    loop.pump()
    assert not port.flows
    assert len(loop.failures) == 1
    loop.failures.clear()
    port.close()


def test_a_session_may_close_the_port_while_it_is_being_read(loop: Loop) -> None:
    def opened(flow: Flow) -> None:
        flow.read_to(lambda data: here.close())

    here = UdpPort(loop.handler, bind("127.0.0.1", 0), FlowTable(loop.handler), opened)
    one = client(loop, here.address)
    one.send(b"x")
    one.send(b"y")
    loop.pump()
    assert not here.open


def test_a_full_table_refuses_the_newcomer_and_serves_the_others(loop: Loop, echo: Echo) -> None:
    table = FlowTable(loop.handler, most=1)
    port = UdpPort(loop.handler, bind("127.0.0.1", 0), table, echo.opened)
    one, two = client(loop, port.address), client(loop, port.address)
    one.send(b"a")
    loop.pump()
    two.send(b"b")
    one.send(b"c")
    loop.pump()
    assert [one.recv(10), one.recv(10)] == [b">a", b">c"]
    assert table.refused == 1
    port.close()


def test_an_error_report_on_the_set_is_looked_at_and_an_abort_closes_the_port(loop: Loop, port: UdpPort) -> None:
    port.event(8)
    port.abort()
    assert not port.open


@pytest.mark.parametrize(("any_host", "asked"), [("0.0.0.0", "127.0.0.2"), ("::", "::1")])
def test_a_port_on_every_address_answers_from_the_one_that_was_asked(
    loop: Loop, echo: Echo, any_host: str, asked: str
) -> None:
    port = AnyPort(loop.handler, bind(any_host, 0), FlowTable(loop.handler), echo.opened)
    # Connected, so that an answer from elsewhere is not let in.
    one = client(loop, Address(asked, port.address.port), "::1" if ":" in asked else "127.0.0.1")
    one.send(b"a")
    loop.pump()
    assert one.recv(10) == b">a"
    assert echo.flows[0].local == Address(asked, port.address.port)
    port.close()


def test_a_peer_hears_what_is_written_and_is_heard(loop: Loop) -> None:
    there = bind("127.0.0.1", 0)
    loop.peers.append(there)
    flow = connect(loop.handler, Address(*there.getsockname()))
    got: list[bytes] = []
    flow.read_to(lambda data: got.append(bytes(data)))
    flow.write(b"question")
    data, source = there.recvfrom(100)
    assert (data, Address(*source)) == (b"question", flow.local)
    for n in range(DATAGRAMS + 1):
        there.sendto(b"%d" % n, source)
    loop.pump()
    assert got == [b"%d" % n for n in range(DATAGRAMS + 1)]
    stranger = bind("127.0.0.1", 0)
    stranger.sendto(b"forged", source)
    stranger.close()
    loop.pump()
    assert len(got) == DATAGRAMS + 1
    flow.read_to(lambda data: flow.close("enough"))
    there.sendto(b"last", source)
    there.sendto(b"too late", source)
    loop.pump()
    assert flow.why == "enough"


def test_nobody_listening_is_told_and_the_flow_goes_on(loop: Loop) -> None:
    there = bind("127.0.0.1", 0)
    address = Address(*there.getsockname())
    there.close()
    flow = connect(loop.handler, address)
    told: list[OSError] = []
    flow.udp.failed = told.append
    flow.write(b"question")
    loop.pump()
    assert len(told) == 1
    assert not flow.why
    flow.close("enough")


def test_a_defect_above_a_peer_ends_its_flow(loop: Loop) -> None:
    there = bind("127.0.0.1", 0)
    loop.peers.append(there)
    flow = connect(loop.handler, Address(*there.getsockname()))

    def defect(data: Bytes) -> None:
        raise RuntimeError("a defect")

    flow.read_to(defect)
    there.sendto(b"x", flow.local)
    loop.pump()
    assert flow.why == "defect"
    loop.failures.clear()


@pytest.mark.parametrize("peer", [Address("192.0.2.1", 70000), Address("255.255.255.255", 1)])
def test_what_is_no_address_is_an_error_in_words(loop: Loop, peer: Address) -> None:
    with pytest.raises(ConnectError, match="cannot send"):
        connect(loop.handler, peer)


def test_a_port_that_is_taken_is_an_error_and_leaves_no_descriptor(loop: Loop) -> None:
    first = bind("127.0.0.1", 0)
    loop.peers.append(first)
    with pytest.raises(OSError):
        bind(*first.getsockname())


def test_workers_may_share_a_port(loop: Loop) -> None:
    first = bind("127.0.0.1", 0, share=True)
    second = bind(*first.getsockname(), share=True)
    assert first.getsockname() == second.getsockname()
    loop.peers += [first, second]
