"""BIND: one connection on a client's behalf, from whom it was told to expect, and within the time."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import pytest
from twisted.internet.defer import CancelledError

from sslintercept.errors import InterceptError, ResolveError, TimedOut
from sslintercept.facts import Address, Side
from sslintercept.net.bind import ACCEPTS, Bind, Binds
from sslintercept.net.vconnection import NetVConnection
from sslintercept.socks import negotiate
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.socks.support import Port
from tests.support import is_ended, read_all

HELLO = b"\x05\x01\x00"
ANYBODY = b"\x05\x02\x00\x01" + bytes(6)
HERE = b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x15"
ELSEWHERE = b"\x05\x02\x00\x01\xc0\x00\x02\x07\x00\x15"
NAMED = b"\x05\x02\x00\x03\x0borigin.test\x00\x15"
NOBODY = b"\x00\x01" + bytes(6)


async def known(host: str) -> Sequence[str]:
    """Names: one of them is this machine."""
    if host == "nowhere.test":
        raise ResolveError("none", where=host, remedy="none")
    return ["127.0.0.1"] if host == "origin.test" else [host]


def bound(client: Peer) -> tuple[str, int]:
    """The address in the first reply."""
    said = client.take()
    assert said[:6] == b"\x05\x00\x05\x00\x00\x01"
    return socket.inet_ntoa(said[6:10]), int.from_bytes(said[10:12], "big")


def knock(loop: Loop, where: tuple[str, int]) -> socket.socket:
    """Somebody connects."""
    sock = socket.create_connection(where)
    sock.setblocking(False)
    loop.peers.append(sock)
    loop.pump()
    return sock


@pytest.mark.parametrize("request_", [ANYBODY, HERE, NAMED])
def test_the_one_that_comes_is_told_of_and_joined(loop: Loop, request_: bytes) -> None:
    binds = Binds(known)
    port = Port(loop, binds=binds)
    client = port.said(HELLO, request_ + b"early ")
    where = bound(client)
    assert where[0] == "127.0.0.1"
    assert len(binds) == 1
    client.send(b"bytes")
    loop.pump()
    origin = knock(loop, where)
    host, number = origin.getsockname()
    assert client.take() == b"\x05\x00\x00\x01" + socket.inet_aton(host) + number.to_bytes(2, "big")
    assert read_all(origin) == b"early bytes"
    origin.send(b"answer")
    loop.pump()
    assert client.take() == b"answer"
    assert port.last.upstream == Address(host, number)
    assert port.last.stack == "tcp/socks5"
    assert port.steps == ["probed", "socks_received", "socks_answered", "socks_answered"]
    assert len(binds) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where).close()


def test_the_connection_that_came_is_on_the_upstream_side_with_the_clients_marks(loop: Loop) -> None:
    client, _ = loop.pair()
    client.local = Address("127.0.0.1", 8080)
    client.high_water, client.low_water = 1000, 500
    bind = Binds(known).open(client, None)
    assert bind.address.host == "127.0.0.1"
    knock(loop, bind.address)
    server = bind.done.result
    assert isinstance(server, NetVConnection)
    assert (server.side, server.high_water, server.low_water, str(server)) == (Side.UPSTREAM, 1000, 500, "tcp")
    server.abort()


def test_ports_are_opened_for_ipv6_too(loop: Loop) -> None:
    port = Port(loop, binds=Binds(known))
    port.local = Address("::1", 8080)
    client = port.said(HELLO, ANYBODY)
    said = client.take()
    assert said[:6] == b"\x05\x00\x05\x00\x00\x04"
    origin = knock(loop, ("::1", int.from_bytes(said[-2:], "big")))
    assert client.take()[3:20] == b"\x04" + socket.inet_pton(socket.AF_INET6, "::1")
    assert not is_ended(origin)


def test_socks_4_binds_too(loop: Loop) -> None:
    client = Port(loop, binds=Binds(known)).said(b"\x04\x02\x00\x15\x7f\x00\x00\x01\0")
    said = client.take()
    assert said[:2] == b"\x00\x5a"
    assert said[4:] == b"\x7f\x00\x00\x01"
    knock(loop, ("127.0.0.1", int.from_bytes(said[2:4], "big")))
    assert client.take()[:2] == b"\x00\x5a"


def test_strangers_are_closed_and_waiting_goes_on(loop: Loop) -> None:
    binds = Binds(known)
    client = Port(loop, binds=binds).said(HELLO, ELSEWHERE)
    where = bound(client)
    crowd = [socket.create_connection(where) for _ in range(ACCEPTS)]
    assert is_ended(knock(loop, where))
    for sock in crowd:
        sock.setblocking(False)
        loop.peers.append(sock)
        assert is_ended(sock)
    assert client.take() == b""
    assert len(binds) == 1


def test_when_nobody_comes_the_client_is_told(loop: Loop) -> None:
    binds = Binds(known, timeout=30.0)
    port = Port(loop, binds=binds)
    client = port.said(HELLO, ANYBODY)
    bound(client)
    loop.pass_time(29)
    assert not client.ended
    loop.pass_time(2)
    assert client.take() == b"\x05\x06" + NOBODY
    assert client.clean
    assert isinstance(port.error, TimedOut)
    assert len(binds) == 0


@pytest.mark.parametrize("how", ["finish", "close", "reset"])
def test_the_port_is_closed_when_the_client_leaves(loop: Loop, how: str) -> None:
    binds = Binds(known)
    client = Port(loop, binds=binds).said(HELLO, ANYBODY)
    where = bound(client)
    getattr(client, how)()
    loop.pump()
    assert len(binds) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where).close()


def test_a_client_that_says_much_while_it_waits_is_not_read_any_more(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negotiate, "HELD", 1000)
    client = Port(loop, binds=Binds(known)).said(HELLO, ANYBODY, bytes(1000))
    assert client.vc.tcp.reading
    client.send(b"!")
    loop.pump()
    assert not client.vc.tcp.reading
    origin = knock(loop, bound(client))
    client.send(b"!")
    loop.pump()
    assert read_all(origin) == bytes(1000) + b"!!"
    eager = Port(loop, binds=Binds(known)).said(HELLO, ANYBODY + bytes(1001))
    assert not eager.vc.tcp.reading
    eager.reset()


def test_ports_are_counted(loop: Loop) -> None:
    port = Port(loop, binds=Binds(known, most=2))
    for _ in range(2):
        bound(port.said(HELLO, ANYBODY))
    assert port.said(HELLO, ANYBODY).take() == b"\x05\x00\x05\x01" + NOBODY
    assert port.error is not None
    assert "2 ports are open already" in str(port.error)


def test_one_client_does_not_take_them_all(loop: Loop) -> None:
    binds = Binds(known, most_of_a_client=1)
    client, _ = loop.pair()
    client.local = Address("127.0.0.1", 8080)
    one = binds.open(client, None)
    with pytest.raises(InterceptError, match="1 ports are open already for 192"):
        binds.open(client, None)
    other = binds.open(client, None, "192.0.2.9")
    assert len(binds) == 2
    for bind in (one, other):
        bind.done.addErrback(lambda failure: failure.trap(CancelledError))
        bind.done.cancel()
    again = binds.open(client, None)
    again.done.addErrback(lambda failure: failure.trap(CancelledError))
    again.done.cancel()
    assert len(binds) == 0


def test_what_the_rules_block_is_not_waited_for(loop: Loop) -> None:
    binds = Binds(known)
    port = Port(loop, binds=binds)
    port.way.blocked.add("origin.test")
    assert port.said(HELLO, NAMED).take() == b"\x05\x00\x05\x02" + NOBODY
    assert len(binds) == 0


def test_whoever_comes_for_anybody_is_asked_of_the_rules(loop: Loop) -> None:
    port = Port(loop, binds=Binds(known))
    port.way.blocked.add("127.0.0.1")
    client = port.said(HELLO, ANYBODY)
    origin = knock(loop, bound(client))
    assert client.take() == b"\x05\x02" + NOBODY
    assert client.clean
    assert is_ended(origin)
    assert port.way.decided == ["0.0.0.0", "127.0.0.1"]


def test_a_name_without_an_address_is_no_host(loop: Loop) -> None:
    request_ = b"\x05\x02\x00\x03\x0cnowhere.test\x00\x15"
    assert Port(loop, binds=Binds(known)).said(HELLO, request_).take() == b"\x05\x00\x05\x04" + NOBODY


@pytest.mark.parametrize("host", ["unix", "fe80::1%nowhere"])
def test_where_no_port_can_be_opened_the_client_is_told(loop: Loop, host: str) -> None:
    port = Port(loop, binds=Binds(known))
    port.local = Address(host, 8080)
    assert port.said(HELLO, ANYBODY).take() == b"\x05\x00\x05\x01" + NOBODY
    assert port.error is not None
    assert f"no port can be opened on {host}" in str(port.error)


class Failing:
    """A listening socket whose accept fails."""

    def __init__(self, bind: Bind, error: Exception) -> None:
        self.sock = bind._sock
        self._error = error
        bind._sock = self  # type: ignore[assignment]  # what a port asks of its socket

    def accept(self) -> tuple[socket.socket, object]:
        raise self._error

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


def opened(loop: Loop) -> tuple[Bind, list[object]]:
    """A port, and how it ended."""
    client, _ = loop.pair()
    client.local = Address("127.0.0.1", 8080)
    bind = Binds(known).open(client, None)
    found: list[object] = []
    bind.done.addBoth(found.append)
    return bind, found


def test_without_descriptors_the_port_is_given_up(loop: Loop) -> None:
    bind, found = opened(loop)
    Failing(bind, OSError(errno.EMFILE, "a test"))
    knock(loop, bind.address)
    assert "Too many open files" in str(found[0])


def test_who_is_gone_before_it_was_let_in_costs_nothing(loop: Loop) -> None:
    bind, found = opened(loop)
    failing = Failing(bind, OSError(errno.ECONNABORTED, "a test"))
    bind.event(0)
    assert found == []
    bind._sock = failing.sock
    bind.done.cancel()


def test_a_socket_that_is_broken_already_is_passed_over(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    bind, found = opened(loop)

    def broken(sock: socket.socket) -> None:
        raise OSError(errno.EINVAL, "a test")

    monkeypatch.setattr("sslintercept.net.bind.option", broken)
    assert is_ended(knock(loop, bind.address))
    assert found == []
    bind.done.cancel()


def test_a_defect_while_somebody_is_let_in_closes_the_port(loop: Loop) -> None:
    bind, found = opened(loop)
    Failing(bind, KeyError("a defect"))
    knock(loop, bind.address)
    assert "nobody can be let in" in str(found[0])
    assert loop.failures.pop().check(KeyError)
    bind.abort()
    assert len(found) == 1


def test_who_leaves_while_a_name_is_looked_up_gets_no_port(loop: Loop) -> None:
    binds = Binds(known)
    port = Port(loop, binds=binds)
    client = port.client()
    late: list[object] = []

    async def leaving(host: str) -> Sequence[str]:
        late.append(host)
        client.vc.abort()
        return ["127.0.0.1"]

    binds._addresses = leaving
    client.send(HELLO + NAMED)
    loop.pump()
    assert late == ["origin.test"]
    assert len(binds) == 0
