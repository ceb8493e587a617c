"""Doors: fixed targets, and clients that were redirected."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from sslintercept.datagram.door import Listening, OriginalPort, Stand, UdpDoor, transparent
from sslintercept.errors import ConfigError
from sslintercept.facts import Address
from sslintercept.net.flow import Flow, FlowTable
from sslintercept.net.udp import AnyPort, UdpPort, bind
from sslintercept.testing.loop import Loop
from tests.datagram.support import Site


def door(loop: Loop, site: Site, host: str, port: int, target: Address | None, *, share: bool = False) -> UdpDoor:
    return UdpDoor(
        loop.handler,
        site.table,
        site.datagrams,
        listening=lambda: Listening("l", target),
        host=host,
        port=port,
        new_id=lambda: "x",
        wall_clock=lambda: 0.0,
        share=share,
    )


def test_a_door_that_is_taken_says_so_and_one_that_is_shared_is_not(loop: Loop) -> None:
    site = Site(loop)
    target = Address("127.0.0.1", 9)
    with pytest.raises(ConfigError, match=r"cannot use UDP on 127.*in use\); end the program"):
        door(loop, site, *site.address, target).start()
    with pytest.raises(ConfigError, match=r"cannot use UDP on 192.*\); give an address of this machine"):
        door(loop, site, "192.0.2.1", 5353, target).start()
    first = door(loop, site, "127.0.0.1", 0, target, share=True)
    second = door(loop, site, *first.start(), target, share=True)
    second.start()
    for one in (first, second, second):
        one.stop()
    site.close()


def test_a_new_flow_goes_where_the_settings_say_now_and_an_older_one_stays(loop: Loop) -> None:
    site = Site(loop)
    first, second = site.client(), site.client()
    before, after = site.origin, site.plug()
    first.send(b"one")
    assert site.received(before) == [b"one"]
    site.target = Address(*after.getsockname())
    first.send(b"two")
    second.send(b"three")
    assert site.received(before) == [b"two"]
    assert site.received(after) == [b"three"]
    site.target = None  # as if it were for redirected clients, which this port cannot be
    third = site.client()
    third.send(b"four")
    assert site.received(after) == [b"four"]
    site.close()


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", UdpPort), ("0.0.0.0", AnyPort), ("::", AnyPort)])
def test_a_port_on_every_address_is_one_that_answers_from_the_right_one(
    loop: Loop, host: str, kind: type[UdpPort]
) -> None:
    site = Site(loop)
    made = door(loop, site, host, 0, Address("127.0.0.1", 9))
    made.start()
    assert kind in [type(one) for one in loop.handler.watched()]
    made.stop()
    site.close()


def test_without_the_right_to_stand_in_for_others_the_door_says_what_is_missing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(sock: socket.socket) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(OriginalPort.__init__, "__defaults__", (refused,))
    site = Site(loop)
    with pytest.raises(ConfigError, match="CAP_NET_ADMIN"):
        door(loop, site, "127.0.0.1", 0, None).start()
    site.close()


def nothing(sock: socket.socket) -> None:
    """What takes no rights."""


def test_a_datagram_that_came_to_us_directly_is_no_flow(loop: Loop) -> None:
    flows: list[Flow] = []
    port = OriginalPort(loop.handler, bind("127.0.0.1", 0), FlowTable(loop.handler), flows.append, nothing)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    loop.peers.append(client)
    client.sendto(b"x", tuple(port.address))
    loop.pump()
    assert flows == []
    assert not port.flows
    port.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_redirected_flow_is_a_client_and_an_origin_and_is_answered_in_its_name(loop: Loop, family: int) -> None:
    flows: list[Flow] = []
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    port = OriginalPort(loop.handler, bind(host, 0), FlowTable(loop.handler), flows.append, nothing)
    client, place = bind(host, 0), bind(host, 0)
    loop.peers.append(client)
    origin = Address(*place.getsockname()[:2])
    place.close()
    if family == socket.AF_INET:
        raw = struct.pack("!HH4s8x", family, origin.port, socket.inet_pton(family, host))
    else:
        raw = struct.pack("!HHI16sI", family, origin.port, 0, socket.inet_pton(family, host), 0)
    key = (client.getsockname(), raw)
    peer, local, send = port.source(key)
    assert (peer, local) == (Address(*client.getsockname()[:2]), origin)
    send(b"answer")
    send(b"another")
    assert len(port.stand) == 1
    assert [client.recvfrom(100)[1][:2] for _ in range(2)] == [origin, origin]
    with pytest.raises(OSError, match="nobody knows"):
        port.source((client.getsockname(), b""))
    port.close()


def test_the_sockets_that_stand_in_for_origins_are_bounded(loop: Loop) -> None:
    stand = Stand(nothing, most=2)
    sink = bind("127.0.0.1", 0)
    loop.peers.append(sink)
    places = [bind("127.0.0.1", 0) for _ in range(3)]
    origins = [Address(*place.getsockname()) for place in places]
    for place in places:
        place.close()
    stand.send(origins[0], b"a", sink.getsockname())
    stand.send(origins[1], b"b", sink.getsockname())
    stand.send(origins[0], b"c", sink.getsockname())
    stand.send(origins[2], b"d", sink.getsockname())
    assert list(stand._socks) == [origins[0], origins[2]]
    with pytest.raises(OSError):
        stand.send(Address("192.0.2.1", 9), b"e", sink.getsockname())
    stand.close()
    assert len(stand) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="standing in for others takes CAP_NET_ADMIN")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_lets_root_stand_in_for_others(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            transparent(sock)
        except PermissionError:
            pytest.skip("root without CAP_NET_ADMIN")
        sock.bind(("192.0.2.1" if family == socket.AF_INET else "2001:db8::1", 9))
