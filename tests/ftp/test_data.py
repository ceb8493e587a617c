"""Data connections in a whole gateway: how they are met, what they carry, and whose they are."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from sslintercept.dialogue.watcher import Part
from sslintercept.facts import Address
from sslintercept.ftp import data as module
from sslintercept.ftp.data import DataChannel, DataWatcher
from sslintercept.testing.gateway import MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from sslintercept.testing.talk import Talk
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
        self.client = self.gateway.client()
        self.client.vc.local, self.client.vc.peer = Address("127.0.0.1", 2121), Address("127.0.0.1", 50000)
        loop.pass_time(1)
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


def test_what_is_expected_is_bounded(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EXPECTED", 3)
    story = Named(loop)
    story.does(b"PASV")
    monkeypatch.setitem(REPLIES, b"PASV", b"227 ok (192,0,2,7,4,2)\r\n")
    story.does(b"PASV", b"RETR a.txt")
    story.connects(b"192.0.2.7:1025")
    story.origin.data.last.send(b"first")
    loop.pass_time(1)
    assert story.gateway.parts == []


# TLS


def in_tls(story: Named | Story, peer: Peer) -> None:
    """AUTH TLS, and PROT P inside."""
    peer.send(b"AUTH TLS\r\n")
    story.gateway.pump()
    assert peer.take() == b"234 begin\r\n"
    peer.start_tls("ftp.test", max_version="1.2")
    story.gateway.pump()
    assert peer.secure, peer.fault
    assert peer.names == ["ftp.test"]
    assert story.does(*LOGIN, b"PROT P") == b"200 ok\r\n"


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


# the channel by itself


def test_an_empty_file_is_a_part_too() -> None:
    channel = DataChannel()
    talk = Talk(lambda wires, terms: DataWatcher(wires, channel))
    channel.carries(Part("ftp", "file", "empty", False, None), False)
    talk.watcher.ended()
    channel.over(True)
    assert [(kept.content, kept.whole) for kept in talk.parts] == [(b"", True)]
