"""Data connections in a whole gateway: how they are met, what they carry, and whose they are."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from sslintercept.facts import Action, Address, Decision, Scope
from sslintercept.ftp import channel
from sslintercept.ftp import data as module
from sslintercept.ftp.channel import DataChannel
from sslintercept.gateway import Gateway
from sslintercept.testing.gateway import MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.sequences.support import ESTABLISHED
from tests.support import is_ended, read_all

DOOR = "[listen:ftp]\nendpoint = tcp:2121\ntarget = ftp.test:21\n"
WAY = "[listen:proxy]\nendpoint = tcp:8080\n"
PASSIVE = b"227 Entering Passive Mode (192,0,2,7,4,1).\r\n"
"""port 1025 of the address that every name has here"""
REPLIES = {
    b"USER": b"331 ok\r\n",
    b"PASS": b"230 in\r\n",
    b"PROT": b"200 ok\r\n",
    b"PASV": PASSIVE,
    b"EPSV": b"229 ok (|||1025|)\r\n",
    b"PORT": b"200 ok\r\n",
    b"RETR": b"150 opening\r\n",
    b"STOR": b"150 opening\r\n",
    b"AUTH": b"234 begin\r\n",
}


class FtpOrigin:
    """A server with a control connection, and one port for data."""

    def __init__(self, gateway: MemoryGateway) -> None:
        self.leaf = gateway.leaf("ftp.test")
        self.commands: list[bytes] = []
        self.control = gateway.origin("ftp.test:21", self._answer)
        self.control.greeting = b"220 hello\r\n"
        self.data = gateway.origin("192.0.2.7:1025", silent)

    def _answer(self, peer: Peer) -> None:
        while (end := peer.got.find(b"\n", peer.used)) >= 0:
            line = bytes(peer.got[peer.used : end + 1])
            peer.used = end + 1
            self.commands.append(line)
            verb = line[:4].upper()
            peer.send(REPLIES.get(verb, b"200 ok\r\n"))
            if verb == b"AUTH":
                peer.serve_tls(self.leaf)

    def say(self, data: bytes) -> None:
        self.control.last.send(data)


class Story:
    """A client with its control connection, by a door with a fixed target."""

    def __init__(self, loop: Loop, more: str = "") -> None:
        self.loop = loop
        self.gateway = MemoryGateway(loop, DOOR + more)
        self.origin = FtpOrigin(self.gateway)
        self.comes_in()

    def comes_in(self) -> None:
        """A client with a control connection."""
        self.client = self.gateway.client()
        self.client.vc.local, self.client.vc.peer = Address("127.0.0.1", 2121), Address("127.0.0.1", 50000)
        self.gateway.facts[-1].client = self.client.vc.peer
        self.loop.pass_time(1)
        assert self.client.take() == b"220 hello\r\n"

    def does(self, *commands: bytes) -> bytes:
        """Say commands; what was answered to the last one."""
        said = b""
        for command in commands:
            self.client.send(command + b"\r\n")
            self.gateway.pump()
            said = self.client.take()
        return said

    def opened(self, command: bytes = b"PASV") -> tuple[str, int]:
        """Where the client is sent."""
        numbers = self.does(command).partition(b"(")[2].partition(b")")[0]
        if command == b"EPSV":
            return "127.0.0.1", int(numbers.strip(b"|"))
        six = numbers.split(b",")
        return b".".join(six[:4]).decode(), int(six[4]) * 256 + int(six[5])

    def comes(self, where: tuple[str, int]) -> socket.socket:
        """Somebody connects."""
        sock = socket.create_connection(where)
        sock.setblocking(False)
        self.loop.peers.append(sock)
        self.gateway.pump()
        return sock

    @property
    def parts(self) -> list[tuple[Any, bytes, bool | None]]:
        return [(kept.part[1:5], kept.content, kept.whole) for kept in self.gateway.parts]


LOGIN = b"USER alice", b"PASS secret"
FILE = ("file", "a.txt", False, "alice")


@pytest.mark.parametrize("command", [b"PASV", b"EPSV"])
def test_behind_a_door_the_client_is_sent_to_a_port_of_ours_and_on_to_the_server(loop: Loop, command: bytes) -> None:
    story = Story(loop)
    story.does(*LOGIN)
    where = story.opened(command)
    assert where[0] == "127.0.0.1"
    sock = story.comes(where)
    assert story.origin.data.last.wire == b""
    story.does(b"RETR a.txt")
    story.origin.data.last.send(b"content")
    story.origin.data.last.finish()
    story.gateway.pump()
    assert read_all(sock) == b"content"
    assert is_ended(sock)
    assert story.parts == [(FILE, b"content", None)]
    sock.close()
    story.origin.say(b"226 done\r\n")
    story.gateway.pump()
    assert story.parts == [(FILE, b"content", True)]
    assert story.client.take() == b"226 done\r\n"
    line = next(line for line in story.gateway.log if line["stack"].endswith("ftp-data"))
    assert (line["login"], line["listener"], line["destination"]) == ("alice", "ftp", "192.0.2.7:1025")
    assert line["user"] is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where).close()


def test_whoever_is_led_to_a_private_server_is_led_to_its_files(loop: Loop) -> None:
    story = Story(loop, "[http]\nprivate_destinations = deny\n")
    story.does(*LOGIN)
    sock = story.comes(story.opened())
    story.does(b"RETR a.txt")
    story.origin.data.last.send(b"content")
    story.gateway.pump()
    assert read_all(sock) == b"content"


def test_a_file_goes_up_and_is_not_whole_if_the_server_says_so(loop: Loop) -> None:
    story = Story(loop)
    sock = story.comes(story.opened())
    story.does(b"STOR b")
    sock.send(b"content")
    sock.close()
    story.gateway.pump()
    assert bytes(story.origin.data.last.got) == b"content"
    assert story.origin.data.last.ended
    story.origin.data.last.close()
    story.origin.say(b"426 broken\r\n")
    story.gateway.pump()
    assert story.parts == [(("file", "b", True, None), b"content", False)]


def test_a_listing_is_no_part(loop: Loop) -> None:
    story = Story(loop)
    sock = story.comes(story.opened())
    story.does(b"LIST")
    story.origin.data.last.send(b"a.txt\r\n")
    story.gateway.pump()
    assert read_all(sock) == b"a.txt\r\n"
    assert story.parts == []


def test_a_server_connects_to_a_port_of_ours_and_on_to_the_client(loop: Loop) -> None:
    story = Story(loop)
    waiting = story.gateway.origin("127.0.0.1:50001", silent)
    story.origin.control.last.vc.local = Address("127.0.0.1", 40000)
    story.origin.control.last.vc.peer = Address("127.0.0.1", 21)
    story.does(*LOGIN)
    assert story.does(b"PORT 127,0,0,1,195,81") == b"200 ok\r\n"
    port = story.origin.commands[-1]
    assert port.startswith(b"PORT 127,0,0,1,")
    high, low = port.strip().split(b",")[-2:]
    story.does(b"RETR a.txt")
    server = story.comes(("127.0.0.1", int(high) * 256 + int(low)))
    server.send(b"content")
    server.shutdown(socket.SHUT_WR)
    story.gateway.pump()
    assert bytes(waiting.last.got) == b"content"
    waiting.last.close()
    story.origin.say(b"226 done\r\n")
    story.gateway.pump()
    assert story.parts == [(FILE, b"content", True)]


@pytest.mark.parametrize("argument", [b"192,0,2,9,195,81", b"127,0,0,1,0,22", b"1,2,3"])
def test_a_server_is_not_made_to_connect_to_somebody_else(loop: Loop, argument: bytes) -> None:
    story = Story(loop)
    assert story.does(b"PORT " + argument).startswith(b"500")
    assert story.origin.commands == []


def test_one_port_is_open_at_a_time_and_none_after_the_conversation(loop: Loop) -> None:
    story = Story(loop)
    first, second = story.opened(), story.opened()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(first).close()
    story.client.close()
    story.origin.control.last.close()
    story.gateway.pump()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(second).close()


def test_who_cannot_be_reached_ends_the_data_connection(loop: Loop) -> None:
    story = Story(loop)
    del story.gateway.connector.origins[Address("192.0.2.7", 1025)]
    assert is_ended(story.comes(story.opened()))
    story.origin.control.last.vc.local = story.origin.control.last.vc.peer = Address("127.0.0.1", 21)
    story.does(b"PORT 127,0,0,1,195,81")
    high, low = story.origin.commands[-1].strip().split(b",")[-2:]
    assert is_ended(story.comes(("127.0.0.1", int(high) * 256 + int(low))))


def test_where_no_port_can_be_opened_the_client_is_told(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EXPECTED", 0)
    story = Story(loop)
    assert story.does(b"PASV").startswith(b"425")
    assert story.does(b"PORT 127,0,0,1,195,81").startswith(b"500")
    assert "are open already" in str(story.gateway.sequences[0].plantuml())


# clients that name their destinations


class Named:
    """A client that comes by CONNECT."""

    def __init__(self, loop: Loop, more: str = "") -> None:
        self.gateway = MemoryGateway(loop, WAY + more)
        self.origin = FtpOrigin(self.gateway)
        self.control = self.connects(b"ftp.test:21")
        loop.pass_time(1)
        assert self.control.take().endswith(b"220 hello\r\n")

    def connects(self, where: bytes) -> Peer:
        client = self.gateway.client()
        client.send(b"CONNECT " + where + b" HTTP/1.1\r\nHost: " + where + b"\r\n\r\n")
        self.gateway.pump()
        return client

    def does(self, *commands: bytes) -> bytes:
        said = b""
        for command in commands:
            self.control.send(command + b"\r\n")
            self.gateway.pump()
            said = self.control.take()
        return said


@pytest.mark.parametrize("where", [b"ftp.test:1025", b"192.0.2.7:1025"])
def test_a_data_connection_is_recognised_by_where_it_goes(loop: Loop, where: bytes) -> None:
    story = Named(loop)
    story.gateway.connector.origins[Address("ftp.test", 1025)] = story.origin.data
    assert story.does(*LOGIN, b"PASV") == PASSIVE
    data = story.connects(where)
    assert data.take() == ESTABLISHED
    story.does(b"RETR a.txt")
    story.origin.data.last.send(b"content")
    story.origin.data.last.finish()
    story.gateway.pump()
    assert data.take() == b"content"
    data.close()
    story.origin.say(b"226 done\r\n")
    story.gateway.pump()
    kept = story.gateway.parts[0]
    assert (kept.part[1:5], kept.content, kept.whole) == (FILE, b"content", True)
    # The next one to the same place was announced by nobody.
    story.connects(where).close()
    story.gateway.pump()
    assert len(story.gateway.parts) == 1


def test_what_was_expected_too_long_ago_is_unknown(loop: Loop) -> None:
    story = Named(loop)
    story.does(b"PASV", b"RETR a.txt")
    loop.pass_time(module.PATIENCE + 1)
    data = story.connects(b"192.0.2.7:1025")
    story.origin.data.last.send(b"content")
    loop.pass_time(1)
    assert data.take() == ESTABLISHED + b"content"
    assert story.gateway.parts == []


def test_a_server_that_sends_the_client_to_somebody_else_is_not_believed(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REPLIES, b"PASV", b"227 ok (192,0,2,8,4,1)\r\n")
    assert Named(loop).does(b"PASV").startswith(b"425")


def test_one_data_connection_is_expected_at_a_time_and_none_after_the_conversation(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Named(loop)
    story.does(b"PASV")
    monkeypatch.setitem(REPLIES, b"PASV", b"227 ok (192,0,2,7,4,2)\r\n")
    story.does(b"PASV", b"RETR a.txt")
    assert len(story.gateway.expectations) == 2
    story.connects(b"192.0.2.7:1025")
    story.origin.data.last.send(b"first")
    loop.pass_time(1)
    assert story.gateway.parts == []
    story.control.close()
    story.origin.control.last.close()
    story.gateway.pump()
    assert len(story.gateway.expectations) == 0


def test_where_too_much_is_expected_the_client_is_told(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MOST_EXPECTED", 1)
    assert Named(loop).does(b"PASV").startswith(b"425")


def test_a_data_connection_that_cannot_be_made_leaves_nothing_behind(loop: Loop) -> None:
    story = Named(loop)
    del story.gateway.connector.origins[Address("192.0.2.7", 1025)]
    for _ in range(3):
        story.does(b"PASV")
        assert story.connects(b"192.0.2.7:1025").take().startswith(b"HTTP/1.1 502")
    assert len(story.gateway.expectations) == 0


def test_a_conversation_that_is_older_than_the_settings_has_its_files_seen(loop: Loop) -> None:
    story = Named(loop)
    story.does(*LOGIN)
    story.gateway.gateway = Gateway(story.gateway.settings, story.gateway)
    assert story.does(b"PASV") == PASSIVE
    data = story.connects(b"192.0.2.7:1025")
    story.does(b"RETR a.txt")
    story.origin.data.last.send(b"content")
    story.origin.data.last.finish()
    loop.pass_time(2)
    assert data.take() == ESTABLISHED + b"content"
    assert story.gateway.facts[-1].path[-1] == "ftp-data"
    assert [kept.content for kept in story.gateway.parts] == [b"content"]


# who waits for whom


def test_a_data_connection_waits_for_its_command(loop: Loop) -> None:
    story = Named(loop)
    story.does(*LOGIN, b"PASV")
    data = story.connects(b"192.0.2.7:1025")
    data.send(b"content")
    story.gateway.pump()
    assert story.origin.data.last.got == b""
    story.does(b"STOR a.txt")
    assert story.origin.data.last.take() == b"content"
    assert [kept.part.name for kept in story.gateway.parts] == ["a.txt"]


def test_a_data_connection_does_not_wait_for_ever(loop: Loop) -> None:
    story = Named(loop)
    story.does(*LOGIN, b"PASV")
    data = story.connects(b"192.0.2.7:1025")
    loop.pass_time(module.PATIENCE - 2)
    assert not data.ended
    loop.pass_time(4)
    assert data.ended
    assert "no transfer was asked for" in str(story.gateway.facts[-1].error)


def test_a_data_connection_that_is_not_used_ends_with_its_conversation(loop: Loop) -> None:
    story = Named(loop)
    story.does(*LOGIN, b"PASV")
    data = story.connects(b"192.0.2.7:1025")
    story.control.close()
    story.origin.control.last.close()
    loop.pass_time(3)
    assert data.ended
    assert story.origin.data.last.ended


def test_who_leaves_before_the_command_is_not_gone_on_with(loop: Loop) -> None:
    story = Named(loop)
    story.does(*LOGIN, b"PASV")
    data = story.connects(b"192.0.2.7:1025")
    data.reset()
    story.gateway.pump()
    story.does(b"RETR a.txt")
    assert story.gateway.parts == []


@pytest.mark.parametrize("make", [Story, Named])
def test_a_conversation_is_not_silent_while_its_file_passes(
    loop: Loop, make: Callable[[Loop, str], Story | Named]
) -> None:
    story = make(loop, "[mail]\nidle_timeout = 60s\n")
    control = story.client if isinstance(story, Story) else story.control
    if isinstance(story, Story):
        story.comes(story.opened())
    else:
        story.does(b"PASV")
        story.connects(b"192.0.2.7:1025")
    story.does(b"RETR a.txt")
    for _ in range(30):
        story.origin.data.last.send(b"x" * 1000)
        loop.pass_time(5)
    assert not control.ended
    loop.pass_time(62)
    assert control.ended


# TLS


def in_tls(story: Named | Story, peer: Peer, protection: bytes = b"PROT P") -> None:
    """AUTH TLS, and PROT inside."""
    peer.send(b"AUTH TLS\r\n")
    story.gateway.pump()
    assert peer.take() == b"234 begin\r\n"
    peer.start_tls("ftp.test", max_version="1.2")
    story.gateway.pump()
    assert peer.secure, peer.fault
    assert peer.names == ["ftp.test"]
    assert story.does(*LOGIN, protection) == b"200 ok\r\n"


@pytest.mark.parametrize("make", [Story, Named])
def test_a_protected_data_connection_is_opened_like_the_conversation(
    loop: Loop, make: Callable[[Loop], Story | Named]
) -> None:
    story = make(loop)
    peer = story.client if isinstance(story, Story) else story.control
    in_tls(story, peer)
    story.origin.data.tls = story.origin.leaf
    if isinstance(story, Story):
        where = story.opened()
        sock = socket.create_connection(where)
        sock.setblocking(False)
        loop.peers.append(sock)
        data = Peer(loop, sock, story.client.vc)
        story.does(b"RETR a.txt")
    else:
        story.does(b"PASV", b"RETR a.txt")
        data = story.connects(b"192.0.2.7:1025")
        assert data.take() == ESTABLISHED
    data.start_tls()
    story.gateway.pump()
    assert data.secure, data.fault
    assert data.names == ["ftp.test"]
    story.origin.data.last.send(b"content")
    story.gateway.pump()
    story.origin.data.last.say_goodbye()
    story.origin.data.last.finish()
    story.gateway.pump()
    assert data.take() == b"content"
    story.origin.say(b"226 done\r\n")
    data.close()
    story.gateway.pump()
    kept = story.gateway.parts[0]
    assert (kept.part[1:5], kept.content, kept.whole) == (FILE, b"content", True)


REQUIRE = "[rule:r]\nmatch = port:21\naction = intercept\nstarttls = require\n"


def test_the_protection_counts_that_is_in_force_when_the_file_is_asked_for(loop: Loop) -> None:
    story = Named(loop, REQUIRE)
    in_tls(story, story.control, b"PROT C")
    story.origin.data.tls = story.origin.leaf
    story.does(b"PASV", b"PROT P")
    data = story.connects(b"192.0.2.7:1025")
    assert data.take() == ESTABLISHED
    hello = data.start_tls("ftp.test", hello_only=True)
    data.send_below(hello)
    story.gateway.pump()
    assert not data.secure
    story.does(b"RETR a.txt")
    assert data.secure, data.fault
    assert data.certificate != story.origin.leaf.certificate
    story.origin.data.last.send(b"content")
    story.origin.data.last.say_goodbye()
    story.origin.data.last.finish()
    loop.pass_time(1)
    assert data.take() == b"content"
    assert [kept.content for kept in story.gateway.parts] == [b"content"]


def test_a_file_passes_in_the_clear_where_that_is_agreed_on_last(loop: Loop) -> None:
    story = Named(loop)
    in_tls(story, story.control)
    story.does(b"PASV", b"PROT C", b"RETR a.txt")
    data = story.connects(b"192.0.2.7:1025")
    story.origin.data.last.send(b"content")
    loop.pass_time(20)
    assert data.take() == ESTABLISHED + b"content"
    assert not data.ended


def test_a_client_may_begin_tls_as_late_as_the_server_lets_it(loop: Loop) -> None:
    story = Named(loop)
    in_tls(story, story.control)
    story.origin.data.tls = story.origin.leaf
    story.does(b"PASV")
    data = story.connects(b"192.0.2.7:1025")
    assert data.take() == ESTABLISHED
    story.does(b"RETR a.txt")
    loop.pass_time(module.PATIENCE - 5)
    data.start_tls("ftp.test")
    story.gateway.pump()
    assert data.secure, data.fault
    late = story.gateway.facts[-1]
    story.does(b"PASV")
    data = story.connects(b"192.0.2.7:1025")
    story.does(b"RETR a.txt")
    loop.pass_time(module.PATIENCE + 2)
    assert data.ended
    assert late.error is None


def test_tls_that_begins_where_it_was_not_agreed_on_is_opened(loop: Loop) -> None:
    story = Named(loop)
    in_tls(story, story.control, b"PROT C")
    story.origin.data.tls = story.origin.leaf
    story.does(b"PASV", b"STOR a.txt")
    data = story.connects(b"192.0.2.7:1025")
    assert data.take() == ESTABLISHED
    data.start_tls("ftp.test")
    story.gateway.pump()
    assert data.secure, data.fault
    assert data.certificate != story.origin.leaf.certificate
    data.send(b"content")
    data.say_goodbye()
    data.finish()
    loop.pass_time(1)
    assert story.origin.data.last.take() == b"content"
    assert [(kept.part.name, kept.content) for kept in story.gateway.parts] == [("a.txt", b"content")]
    assert story.gateway.facts[-1].stack.endswith("ftp-data/tls1.3/ftp-data")


@pytest.mark.parametrize("protection", [b"PROT C", b"PROT P"])
def test_a_hello_that_is_none_does_not_pass(loop: Loop, protection: bytes) -> None:
    story = Named(loop)
    in_tls(story, story.control, protection)
    story.does(b"PASV", b"STOR a.txt")
    data = story.connects(b"192.0.2.7:1025")
    data.send(b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x00\x00")
    story.gateway.pump()
    assert data.ended
    assert story.origin.data.last.got == b""


def test_tls_is_opened_whatever_else_the_client_says_that_it_could_speak(loop: Loop) -> None:
    story = Named(loop)
    in_tls(story, story.control)
    story.origin.data.tls = story.origin.leaf
    story.does(b"PASV", b"STOR a.txt")
    data = story.connects(b"192.0.2.7:1025")
    assert data.take() == ESTABLISHED
    data.start_tls("ftp.test", alpn=[b"h2"])
    story.gateway.pump()
    assert data.secure, data.fault
    assert data.certificate != story.origin.leaf.certificate


def test_where_tls_is_required_no_file_passes_in_the_clear_whoever_agreed_on_it(loop: Loop) -> None:
    story = Named(loop, REQUIRE)
    in_tls(story, story.control)
    story.does(b"PASV")
    data = story.connects(b"192.0.2.7:1025")
    assert data.take() == ESTABLISHED
    scope = story.gateway.facts[-1].scope
    assert scope is not None
    assert isinstance(scope.transfer, DataChannel)
    scope.transfer.carries(None, False)
    story.origin.data.last.send(b"content")
    story.gateway.pump()
    assert data.got == b""
    assert data.ended
    assert "rule r requires TLS" in str(story.gateway.facts[-1].error)


def test_a_redirected_client_may_wait_for_the_server_before_it_begins_tls(loop: Loop) -> None:
    gateway = MemoryGateway(loop, WAY)
    origin = FtpOrigin(gateway)
    origin.data.tls = origin.leaf
    story = Named.__new__(Named)
    story.gateway, story.origin = gateway, origin
    story.control = story.connects(b"ftp.test:21")
    loop.pass_time(1)
    assert story.control.take().endswith(b"220 hello\r\n")
    in_tls(story, story.control)
    story.does(b"PASV")
    # As the kernel hands it over: nobody has been connected to yet.
    data = gateway.client()
    facts = gateway.facts[-1]
    scope = Scope(Address("192.0.2.7", 1025), Decision(Action.INTERCEPT, "r", "why"))
    scope.entrance = True
    gateway.proxy.entrance.recognise(facts, scope)
    facts.scope = scope
    gateway.gateway.probe.accept(data.vc, facts)
    gateway.pump()
    assert not origin.data.peers
    story.does(b"RETR a.txt")
    assert len(origin.data.peers) == 1
    data.start_tls("ftp.test")
    gateway.pump()
    assert data.secure, data.fault


def test_nothing_but_tls_begins_on_a_protected_data_connection(loop: Loop) -> None:
    story = Named(loop)
    in_tls(story, story.control)
    story.does(b"PASV", b"STOR a.txt")
    data = story.connects(b"192.0.2.7:1025")
    data.send(b"in the clear")
    story.gateway.pump()
    assert data.ended
    assert story.origin.data.last.got == b""
    assert "both had agreed" in str(story.gateway.facts[-1].error)


# proxies on the way to the server

PARENT = "[parent:up]\nproxy = http\naddress = parent.test:3128\nmatch = port:21\n"


class ParentOf:
    """A parent proxy behind which every port 21 is an FTP server at 198.51.100.9, and every other one has content."""

    def __init__(self, gateway: MemoryGateway) -> None:
        self.asked: list[bytes] = []
        self.commands: list[bytes] = []
        self._open: set[Peer] = set()
        self.origin = gateway.origin("parent.test:3128", self._answer)

    def _answer(self, peer: Peer) -> None:
        if peer not in self._open:
            head, whole, _ = bytes(peer.got).partition(b"\r\n\r\n")
            if whole:
                self._open.add(peer)
                self.asked.append(head.split(b" ")[1])
                peer.take()
                peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + (b"220 hello\r\n" if b":21 " in head else b"content"))
            return
        while (end := peer.got.find(b"\n", peer.used)) >= 0:
            line = bytes(peer.got[peer.used : end + 1])
            peer.used = end + 1
            self.commands.append(line)
            six = b"227 Entering Passive Mode (198,51,100,9,4,1).\r\n"
            peer.send(six if line.startswith(b"PASV") else REPLIES.get(line[:4], b"200 ok\r\n"))


@pytest.mark.parametrize("command", [b"PASV", b"EPSV"])
def test_behind_a_door_the_parent_is_asked_for_the_servers_other_port(loop: Loop, command: bytes) -> None:
    story = Story.__new__(Story)
    story.loop, story.gateway = loop, MemoryGateway(loop, DOOR + PARENT)
    parent = ParentOf(story.gateway)
    story.comes_in()
    story.does(*LOGIN)
    sock = story.comes(story.opened(command))
    story.does(b"RETR a.txt")
    assert parent.asked == [b"ftp.test:21", b"ftp.test:1025"]
    assert read_all(sock) == b"content"
    assert story.gateway.facts[-1].parent == "up"
    assert story.parts == [(FILE, b"content", None)]


@pytest.mark.parametrize("where", [b"198.51.100.9:1025", b"ftp.test:1025"])
def test_behind_a_parent_the_client_is_told_where_the_server_is(loop: Loop, where: bytes) -> None:
    story = Named.__new__(Named)
    story.gateway = MemoryGateway(loop, WAY + PARENT.replace("match = port:21\n", ""))
    parent = ParentOf(story.gateway)
    story.control = story.connects(b"ftp.test:21")
    loop.pass_time(1)
    assert story.control.take().endswith(b"220 hello\r\n")
    story.does(*LOGIN)
    assert story.does(b"PASV") == b"227 Entering Passive Mode (198,51,100,9,4,1).\r\n"
    data = story.connects(where)
    story.does(b"RETR a.txt")
    assert data.take() == ESTABLISHED + b"content"
    assert parent.asked == [b"ftp.test:21", where]
    assert [kept.content for kept in story.gateway.parts] == [b"content"]


def test_behind_a_parent_an_address_is_believed_only_where_none_is_known(loop: Loop) -> None:
    story = Named.__new__(Named)
    story.gateway = MemoryGateway(loop, WAY + PARENT)
    ParentOf(story.gateway)
    story.control = story.connects(b"198.51.100.8:21")
    loop.pass_time(1)
    story.control.take()
    assert story.does(b"PASV").startswith(b"425")


def test_no_server_behind_a_parent_connects_to_the_client(loop: Loop) -> None:
    story = Story.__new__(Story)
    story.loop, story.gateway = loop, MemoryGateway(loop, DOOR + PARENT)
    parent = ParentOf(story.gateway)
    story.comes_in()
    assert story.does(b"PORT 127,0,0,1,195,81").startswith(b"500")
    assert parent.commands == []


def test_through_another_proxy_the_data_connection_goes_through_it_too(loop: Loop) -> None:
    """A tunnel to a proxy of the client's own, and the server behind that."""
    story = Named.__new__(Named)
    story.gateway = MemoryGateway(loop, WAY)
    parent = ParentOf(story.gateway)

    def inside(where: bytes) -> Peer:
        client = story.connects(b"parent.test:3128")
        assert client.take() == ESTABLISHED
        client.send(b"CONNECT " + where + b" HTTP/1.1\r\nHost: x\r\n\r\n".replace(b"x", where))
        loop.pass_time(1)
        return client

    story.control = inside(b"ftp.test:21")
    assert story.control.take().endswith(b"220 hello\r\n")
    assert story.does(b"PORT 192,0,2,1,195,81").startswith(b"500")
    assert story.does(b"PASV").startswith(b"227")
    data = inside(b"198.51.100.9:1025")
    story.does(b"RETR a.txt")
    assert data.take() == ESTABLISHED + b"content"
    assert parent.asked == [b"ftp.test:21", b"198.51.100.9:1025"]
    assert [kept.part.name for kept in story.gateway.parts] == ["a.txt"]


# balancers before us


class Balanced(Story):
    """A client whose connection a balancer hands on: the balancer is at 127.0.0.2, the client at 127.0.0.1."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.gateway = MemoryGateway(loop, DOOR + "proxy_protocol = 127.0.0.2/32\n")
        self.origin = FtpOrigin(self.gateway)
        vc, sock = loop.pair()
        vc.local, vc.peer = Address("127.0.0.1", 2121), Address("127.0.0.2", 4000)
        self.client = Peer(loop, sock, vc)
        self.gateway.accepted("ftp", vc)
        self.client.send(b"PROXY TCP4 127.0.0.1 203.0.113.1 50000 21\r\n")
        loop.pass_time(1)
        assert self.client.take() == b"220 hello\r\n"


def test_a_client_behind_a_balancer_comes_to_our_own_address(loop: Loop) -> None:
    story = Balanced(loop)
    story.does(*LOGIN)
    where = story.opened()
    stranger = socket.socket()
    stranger.bind(("127.0.0.2", 0))
    stranger.connect(where)
    stranger.setblocking(False)
    loop.peers.append(stranger)
    story.gateway.pump()
    assert is_ended(stranger)
    sock = story.comes(where)
    story.does(b"RETR a.txt")
    story.origin.data.last.send(b"content")
    story.gateway.pump()
    assert read_all(sock) == b"content"
    assert story.gateway.facts[-1].client == Address("127.0.0.1", 50000)


def test_a_client_behind_a_balancer_is_not_sent_back_to_the_balancer(loop: Loop) -> None:
    story = Balanced(loop)
    assert story.does(b"EPSV").startswith(b"425")
    assert "no EPSV through a balancer" in story.gateway.sequences[0].plantuml()


def test_a_server_connects_to_a_client_behind_a_balancer_and_not_to_the_balancer(loop: Loop) -> None:
    story = Balanced(loop)
    story.origin.control.last.vc.local = story.origin.control.last.vc.peer = Address("127.0.0.1", 21)
    assert story.does(b"PORT 127,0,0,2,195,81").startswith(b"500")
    assert story.origin.commands == []
    assert story.does(b"PORT 127,0,0,1,195,81") == b"200 ok\r\n"


# limits


def test_one_client_does_not_take_all_ports(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_A_CLIENT", 1)
    story = Story(loop)
    first = story.client
    story.opened()
    story.comes_in()
    assert story.does(b"PASV").startswith(b"425")
    assert "1 ports are open for this client" in story.gateway.sequences[-1].plantuml()
    first.close()
    story.origin.control.peers[0].close()
    story.gateway.pump()
    story.comes_in()
    assert story.does(b"PASV").startswith(b"227")
