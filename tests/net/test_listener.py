"""Listening ports: the cap, a lack of descriptors, clients that are gone, and strings that are wrong."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from sslintercept.errors import ConfigError
from sslintercept.facts import Address, Side
from sslintercept.net.connector import Connector
from sslintercept.net.listener import (
    IPV6_TRANSPARENT,
    PAUSE,
    WARN_EVERY,
    Door,
    Listener,
    NotTransparent,
    address,
    listen,
    way_out,
)
from sslintercept.net.vconnection import NetVConnection
from sslintercept.testing.loop import Loop
from tests.support import Listening


def opened(
    loop: Loop,
    accepted: Callable[[NetVConnection], object],
    limit: int = 1000,
    description: str = "tcp:0:interface=127.0.0.1",
    share: bool = False,
    transparent: bool = False,
) -> Listener:
    found: list[Any] = []
    Deferred.fromCoroutine(
        listen(
            loop.handler,
            description,
            accepted,
            limit=limit,
            share=share,
            transparent=transparent,
            where="[listen:main] endpoint",
        )
    ).addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    assert isinstance(found[0], Listener)
    return found[0]


def connect(loop: Loop, port: Listener) -> socket.socket:
    host = port.getHost()
    sock = socket.create_connection((host.host, host.port))  # type: ignore[attr-defined]  # IPv4Address or IPv6Address
    loop.peers.append(sock)
    loop.pump()
    return sock


class Broken:
    """A listening socket whose accept fails in a given way, then works."""

    def __init__(self, port: Listener, *errors: int) -> None:
        self.sock = port._sock
        self.errors = list(errors)
        port._sock = self  # type: ignore[assignment]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, errno.errorcode[number])
        return self.sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


def test_a_client_gets_a_connection_with_a_base_and_nothing_on_top(loop: Loop) -> None:
    made: list[NetVConnection] = []
    port = opened(loop, made.append)
    assert verifyObject(IListeningPort, port)
    sock = connect(loop, port)
    (vc,) = made
    assert (str(vc), vc.side) == ("tcp", Side.CLIENT)
    assert vc.peer == Address(*sock.getsockname())
    assert vc.local == Address(*sock.getpeername())
    port.stopListening()
    port.stopListening()


def test_urgent_bytes_stay_where_they_are_in_the_stream(loop: Loop) -> None:
    made: list[NetVConnection] = []
    port = opened(loop, made.append)
    sock = connect(loop, port)
    session = Listening()
    made[0].attach(session)
    sock.send(b"before")
    sock.send(b"!", socket.MSG_OOB)
    sock.send(b"behind")
    loop.pump()
    assert session.got == b"before!behind"
    port.stopListening()


def test_both_families_and_shared_ports_can_be_listened_on(loop: Loop) -> None:
    made: list[NetVConnection] = []
    first = opened(loop, made.append, description="tcp6:0:interface=\\:\\:1", share=True)
    host = first.getHost()
    second = opened(loop, made.append, description=f"tcp6:{host.port}:interface=\\:\\:1", share=True)  # type: ignore[attr-defined]
    connect(loop, first)
    assert made[0].peer.host == "::1"
    first.stopListening()
    second.stopListening()


def test_a_socket_that_somebody_else_bound_is_adopted(loop: Loop) -> None:
    made: list[NetVConnection] = []
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = Door(loop.handler, made.append, 10, False).adoptStreamPort(bound.fileno(), socket.AF_INET, None)
    connect(loop, port)
    assert len(made) == 1
    port.stopListening()


def test_at_the_cap_accepting_pauses_at_91_percent_and_connecting_goes_on(loop: Loop) -> None:
    """T2.8"""
    made: list[NetVConnection] = []
    port = opened(loop, made.append, limit=20)
    for _ in range(30):
        connect(loop, port)
    assert len(made) == 19
    with socket.create_server(("127.0.0.1", 0)) as origin:
        found: list[Any] = []
        connector = Connector(loop.handler, None, timeout=5)  # type: ignore[arg-type]  # literal addresses only
        Deferred.fromCoroutine(connector.connect(Address(*origin.getsockname()))).addBoth(found.append)
        loop.pump()
        assert isinstance(found[0], NetVConnection)
    found[0].abort()
    loop.pass_time(PAUSE * 3)
    assert len(made) == 19
    for vc in made[:5]:
        vc.abort()
    loop.pass_time(PAUSE * 2)
    assert len(made) == 19 + 5
    port.stopListening()
    loop.pump()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_the_port_rests_and_tries_again(loop: Loop, number: int) -> None:
    made: list[NetVConnection] = []
    port = opened(loop, made.append)
    Broken(port, number, number)
    connect(loop, port)
    assert made == []
    loop.pass_time(PAUSE)
    assert made == []
    loop.pass_time(PAUSE)
    assert len(made) == 1
    port.stopListening()


def test_transient_errors_are_tried_again_at_once(loop: Loop) -> None:
    made: list[NetVConnection] = []
    port = opened(loop, made.append)
    Broken(port, errno.ECONNABORTED, errno.EINTR)
    connect(loop, port)
    assert len(made) == 1
    port.stopListening()


def test_a_resting_port_warns_now_and_then_only(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    port = opened(loop, lambda vc: None)
    monkeypatch.setattr(Logger, "warn", lambda self, text, why: warned.append(why))
    for _ in range(5):
        port.abort()
        port.abort()
        loop.pass_time(1)
    assert len(warned) == 1
    loop.pass_time(WARN_EVERY)
    port.abort()
    assert len(warned) == 2
    port.stopListening()
    port.abort()
    loop.pass_time(1)


def test_a_port_closed_by_the_connection_it_just_accepted_stays_closed(loop: Loop) -> None:
    made: list[NetVConnection] = []

    def accepted(vc: NetVConnection) -> None:
        made.append(vc)
        port.stopListening()

    port = opened(loop, accepted)
    connect(loop, port)
    loop.pass_time(1)
    assert len(made) == 1
    port.event(0)


def test_an_owner_that_fails_costs_one_connection_and_not_the_port(loop: Loop) -> None:
    made: list[NetVConnection] = []

    def accepted(vc: NetVConnection) -> None:
        made.append(vc)
        if len(made) == 1:
            raise ValueError("a defect")

    port = opened(loop, accepted)
    connect(loop, port)
    connect(loop, port)
    assert [vc.dead for vc in made] == [True, False]
    assert [f.type for f in loop.failures] == [ValueError]
    loop.failures.clear()
    port.stopListening()


def test_a_client_that_is_gone_when_it_is_accepted_leaves_nothing(loop: Loop) -> None:
    made: list[NetVConnection] = []
    port = opened(loop, made.append)
    gone = socket.socket()
    gone.close()
    port.adopt(gone, ("192.0.2.1", 1))
    assert made == []
    port.stopListening()


@pytest.mark.parametrize(
    "description",
    ["nonsense", "tcp:port", "tcp:99999", "unix:/tmp/x", "tcp:1:2:3:4", "tcp:1:iface=lo", "ssl:443", ""],
)
def test_an_endpoint_that_is_wrong_is_told_in_words(loop: Loop, description: str) -> None:
    with pytest.raises(ConfigError, match=r"\[listen:main\] endpoint") as wrong:
        opened(loop, lambda vc: None, description=description)
    assert "Door" not in str(wrong.value)
    assert "_parse" not in str(wrong.value)


@pytest.mark.parametrize("which", ["index=7", "name=proxy"])
def test_a_socket_that_systemd_did_not_hand_over_is_told_in_words(loop: Loop, which: str) -> None:
    with pytest.raises(ConfigError, match=r"systemd has handed over no such socket\); see FileDescriptorName"):
        opened(loop, lambda vc: None, description=f"systemd:domain=INET:{which}")


@pytest.mark.parametrize(
    ("interface", "what"),
    [
        ("192.0.2.1", r"Cannot assign requested address\); give an address of this machine"),
        ("no.such.interface.invalid", r"\); give an address of this machine as interface, and no name"),
    ],
)
def test_an_interface_that_is_not_here_is_told_from_a_port_that_is_taken(loop: Loop, interface: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        opened(loop, lambda vc: None, description=f"tcp:0:interface={interface}")


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.EACCES, "CAP_NET_BIND_SERVICE"),
        (errno.EADDRINUSE, "end the program"),
        (errno.EADDRNOTAVAIL, "an address of this machine"),
        (errno.EAFNOSUPPORT, "the other family"),
        (errno.EMFILE, "choose another port or interface"),
    ],
)
def test_each_reason_why_a_port_stays_shut_has_its_own_way_out(number: int, what: str) -> None:
    assert what in way_out(OSError(number, "no"))


def test_a_port_that_is_taken_is_told_in_words(loop: Loop) -> None:
    refused = pytest.raises(ConfigError, match=r"in use\); end the program")
    with socket.create_server(("127.0.0.1", 0)) as taken, refused:
        opened(loop, lambda vc: None, description=f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1")


def test_addresses_are_read_from_what_the_socket_module_gives() -> None:
    assert address(("::ffff:192.0.2.1", 80, 0, 0)) == Address("192.0.2.1", 80)
    assert address(("2001:db8::1", 80, 0, 0)) == Address("2001:db8::1", 80)
    assert address("") == Address("unix", 0)


class Options:
    """The options of sockets, as far as transparency goes; a kernel that says no unless it is C{kind}."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: bool) -> None:
        self.set: list[tuple[int, int]] = []
        self.kind = kind
        self.real_get, self.real_set = socket.socket.getsockopt, socket.socket.setsockopt
        monkeypatch.setattr(socket.socket, "getsockopt", lambda *given: self.get(*given))
        monkeypatch.setattr(socket.socket, "setsockopt", lambda *given: self.put(*given))

    def get(self, sock: socket.socket, level: int, name: int) -> int:
        if name in (socket.IP_TRANSPARENT, IPV6_TRANSPARENT):
            return (level, name) in self.set
        return self.real_get(sock, level, name)

    def put(self, sock: socket.socket, level: int, name: int, value: int) -> None:
        if name not in (socket.IP_TRANSPARENT, IPV6_TRANSPARENT):
            self.real_set(sock, level, name, value)
        elif not self.kind:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        else:
            assert value == 1
            # Bound already, it would not be asked whether it may have another address.
            assert sock.getsockname()[1] == 0
            self.set.append((level, name))


def test_a_transparent_port_is_made_so_before_it_is_bound(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(monkeypatch, kind=True)
    opened(loop, lambda vc: None, transparent=True).stopListening()
    opened(loop, lambda vc: None, transparent=True, description="tcp6:0:interface=\\:\\:1").stopListening()
    assert options.set == [(socket.IPPROTO_IP, socket.IP_TRANSPARENT), (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)]


def test_other_ports_are_not_transparent(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(monkeypatch, kind=True)
    opened(loop, lambda vc: None).stopListening()
    assert options.set == []


def test_a_process_that_may_not_be_transparent_is_told_what_it_needs(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    Options(monkeypatch, kind=False)
    with pytest.raises(
        ConfigError, match=r"\[listen:main\] endpoint: .*not permitted\); give the process CAP_NET_ADMIN"
    ):
        opened(loop, lambda vc: None, transparent=True)


def test_an_adopted_socket_that_is_transparent_already_needs_no_permission(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(monkeypatch, kind=False)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        door = Door(loop.handler, lambda vc: None, 10, False, transparent=True)
        with pytest.raises(NotTransparent):
            door.adoptStreamPort(bound.fileno(), socket.AF_INET, None)
        options.set.append((socket.IPPROTO_IP, socket.IP_TRANSPARENT))
        door.adoptStreamPort(bound.fileno(), socket.AF_INET, None).stopListening()
