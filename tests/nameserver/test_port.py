"""A UDP port for questions: answers come from where they were asked, and strangers get little."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from sslintercept.dns import message as m
from sslintercept.errors import ConfigError
from sslintercept.facts import Address
from sslintercept.nameserver import port as module
from sslintercept.nameserver.port import FACTOR, QuestionPort
from sslintercept.nameserver.reply import Query, addresses, read_query
from sslintercept.net.nearness import Near
from sslintercept.net.udp import DATAGRAMS
from sslintercept.testing.loop import Loop

from ..dns.support import labels
from .support import readable

QUERY = m.query(7, m.question(labels("www.example.com"), m.A))
MANY = [f"192.0.2.{i}" for i in range(1, 60)]


class Server:
    """A port that answers every query with many addresses, or as a test says."""

    def __init__(self, loop: Loop, host: str = "127.0.0.1") -> None:
        self.loop = loop
        self.asked: list[tuple[bytes, Address]] = []
        self.later: list[Callable[[], object]] = []
        self.wait = False
        self.found = MANY
        self.port = QuestionPort(loop.handler, Address(host, 0), "dns", self.ask)

    def ask(self, data: bytes, client: Address, reply: Callable[[Query | None, bytes], object]) -> None:
        self.asked.append((data, client))
        if data == b"defect":
            raise KeyError("a defect")
        if data == b"close":
            self.port.close()
            return
        query = read_query(data)
        if not isinstance(query, Query):
            reply(None, b"refused")
            return
        made = addresses(query, self.found, 60)
        if self.wait:
            self.later.append(lambda: reply(query, made))
        else:
            reply(query, made)


class Client:
    def __init__(self, server: Server, host: str = "127.0.0.1") -> None:
        self._loop = server.loop
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect((host, server.port.address.port))

    def ask(self, data: bytes = QUERY) -> bytes | None:
        self.sock.send(data)
        self._loop.pump()
        return self.take()

    def take(self) -> bytes | None:
        try:
            return self.sock.recv(65536)
        except (BlockingIOError, ConnectionRefusedError):
            return None


@pytest.fixture
def server(loop: Loop) -> Iterator[Server]:
    made = Server(loop)
    yield made
    made.port.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    made = Client(server)
    yield made
    made.sock.close()


def test_a_question_is_answered(server: Server, client: Client) -> None:
    made = client.ask()
    assert made is not None
    assert len(readable(made).answers) == len(MANY)
    assert server.asked == [(QUERY, Address(*client.sock.getsockname()))]
    assert client.ask(b"\0" * 12) == b"refused"


def test_what_does_not_fit_is_cut_to_say_so(server: Server, client: Client) -> None:
    server.found = [f"192.0.2.{i}" for i in range(1, 200)]
    made = client.ask()
    assert made is not None
    assert readable(made).flags & m.TC


def test_strangers_get_no_more_than_some_times_what_they_sent(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "nearness", lambda host: Near.WORLD)
    made = client.ask()
    assert made is not None
    assert readable(made).flags & m.TC
    assert len(made) < len(QUERY) * FACTOR
    server.found = MANY[:5]
    made = client.ask()
    assert made is not None
    assert len(readable(made).answers) == 5


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_answer_comes_from_the_address_that_was_asked(loop: Loop, host: str) -> None:
    server = Server(loop, host)
    client = Client(server, "127.0.0.2" if host == "0.0.0.0" else "::1")
    assert client.ask() is not None
    client.sock.close()
    server.port.close()


def test_an_answer_may_come_later_or_too_late(server: Server, client: Client) -> None:
    server.wait = True
    assert client.ask() is None
    server.later.pop()()
    assert client.take() is not None
    assert client.ask() is None
    server.port.close()
    server.later.pop()()
    assert client.take() is None


def test_a_defect_costs_one_question(server: Server, client: Client) -> None:
    assert client.ask(b"defect") is None
    assert server.loop.failures.pop().check(KeyError)
    assert client.ask() is not None


def test_a_port_may_be_closed_while_it_is_asked(server: Server, client: Client) -> None:
    client.sock.send(b"close")
    client.sock.send(QUERY)
    server.loop.pump()
    assert len(server.asked) == 1
    server.port.abort()


def test_a_turn_is_bounded(server: Server, client: Client) -> None:
    for _ in range(DATAGRAMS + 10):
        client.sock.send(QUERY)
    server.port.event(0)
    assert len(server.asked) == DATAGRAMS
    server.loop.pump()
    assert len(server.asked) == DATAGRAMS + 10


def test_a_port_that_is_taken_says_so(server: Server) -> None:
    with pytest.raises(ConfigError, match=r"\[listen:dns\] endpoint: cannot use UDP on .* \(Address already in use\)"):
        QuestionPort(server.loop.handler, server.port.address, "dns", server.ask)
