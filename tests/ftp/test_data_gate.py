"""Gates in a whole gateway: files that pass or do not, and what the client is told of them."""

from __future__ import annotations

import socket

import pytest

from sslintercept.dialogue.words import refusal
from sslintercept.facts import Side
from sslintercept.testing.gate import EVENT, Does, Gates
from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from tests.ftp import test_data
from tests.ftp.test_data import DOOR, LOGIN, FtpOrigin
from tests.support import is_ended, read_all

NO = refusal("ftp", "malware", EVENT)
DONE = b"226 done\r\n"


class Story(test_data.Story):
    """A client with a transfer under way, by a door with a fixed target."""

    def __init__(self, loop: Loop, command: bytes, gates: Gates, more: str = "") -> None:
        self.loop = loop
        self.gates = gates
        self.gateway = MemoryGateway(loop, DOOR + more, [gates])
        self.origin = FtpOrigin(self.gateway)
        self.comes_in()
        self.does(*LOGIN)
        self.sock = self.comes(self.opened())
        self.does(command)

    def cuts(self) -> None:
        """The client's data connection is lost."""
        next(vc for vc in self.loop.handler.connections if vc.side is Side.CLIENT and vc is not self.client.vc).abort()
        self.gateway.pump()

    def decide(self) -> bytes:
        """What the client hears on its control connection then."""
        self.gates.decide()
        self.gateway.pump()
        return self.client.take()

    def says(self, reply: bytes) -> bytes:
        """Likewise, when the server has said something."""
        self.origin.say(reply)
        self.gateway.pump()
        return self.client.take()


@pytest.mark.parametrize("does", [Does.HOLD, Does.REFUSE])
def test_a_file_comes_down_and_how_it_went_is_said_when_that_is_decided(loop: Loop, does: Does) -> None:
    story = Story(loop, b"RETR a.txt", Gates(does, later=True))
    server = story.origin.data.last
    server.send(b"content")
    server.finish()
    assert story.says(DONE) == b""
    assert read_all(story.sock) == b""
    assert not is_ended(story.sock)
    refused = does is Does.REFUSE
    assert story.decide() == (NO if refused else DONE)
    assert read_all(story.sock) == (b"" if refused else b"content")
    assert is_ended(story.sock) or refused
    assert server.vc.cut is refused
    assert story.does(b"NOOP") == b"200 ok\r\n"
    story.sock.close()
    story.gateway.pump()
    errors = [line["error"] for line in story.gateway.log if line["stack"].endswith("ftp-data")]
    assert errors == ["inspected" if refused else None]


@pytest.mark.parametrize("does", [Does.HOLD, Does.REFUSE, Does.REPLACE])
def test_a_file_goes_up_and_the_server_has_its_end_only_if_it_may_pass(loop: Loop, does: Does) -> None:
    story = Story(loop, b"STOR a.txt", Gates(does, b"other", later=True))
    server = story.origin.data.last
    story.sock.send(b"content")
    story.sock.shutdown(socket.SHUT_WR)
    story.gateway.pump()
    assert server.take() == b""
    assert not server.ended
    story.decide()
    assert server.take() == {Does.HOLD: b"content", Does.REFUSE: b"", Does.REPLACE: b"other"}[does]
    assert server.vc.cut is (does is Does.REFUSE)
    assert story.says(b"426 broken\r\n" if does is Does.REFUSE else DONE) == (NO if does is Does.REFUSE else DONE)


@pytest.mark.parametrize("command", [b"RETR a.txt", b"STOR a.txt"])
@pytest.mark.parametrize("does", [Does.EARLY, Does.LATE])
def test_a_file_that_is_refused_under_way_is_cut_and_the_conversation_goes_on(
    loop: Loop, command: bytes, does: Does
) -> None:
    story = Story(loop, command, Gates(does))
    server = story.origin.data.last
    if command.startswith(b"RETR"):
        server.send(b"content")
        server.finish()
    else:
        story.sock.send(b"content")
        story.sock.shutdown(socket.SHUT_WR)
    story.gateway.pump()
    assert server.vc.cut
    assert (read_all(story.sock) + server.take()) == (b"con" if does is Does.LATE else b"")
    assert story.says(b"426 broken\r\n") == NO
    assert story.does(b"NOOP") == b"200 ok\r\n"


def test_a_small_file_whose_end_is_heard_of_first_waits_for_its_gate(loop: Loop) -> None:
    story = Story(loop, b"RETR a.txt", Gates(Does.REFUSE))
    assert story.says(DONE) == b""
    server = story.origin.data.last
    server.send(b"content")
    server.finish()
    story.gateway.pump()
    assert story.client.take() == NO


def test_a_client_that_goes_within_a_file_does_not_leave_half_of_it(loop: Loop) -> None:
    story = Story(loop, b"STOR a.txt", Gates(Does.TAIL, later=True))
    story.sock.send(b"content")
    story.gateway.pump()
    server = story.origin.data.last
    assert server.take() == b"con"
    story.cuts()
    assert server.vc.cut
    assert story.says(b"426 broken\r\n") == b"426 broken\r\n"
    assert story.gates.all[0].aborted


@pytest.mark.parametrize("does", [Does.TAIL, Does.LATE])
def test_a_client_that_has_sent_its_file_may_go(loop: Loop, does: Does) -> None:
    story = Story(loop, b"STOR a.txt", Gates(does, later=True))
    story.sock.send(b"content")
    story.sock.shutdown(socket.SHUT_WR)
    story.gateway.pump()
    server = story.origin.data.last
    story.cuts()
    assert not server.ended
    story.decide()
    refused = does is Does.LATE
    assert server.take() == (b"con" if refused else b"content")
    assert (server.ended, server.vc.cut) == (True, refused)
    assert story.says(DONE) == (NO if refused else DONE)
    server.close()
    loop.pass_time(3)
    assert server.vc not in loop.handler.connections


@pytest.mark.parametrize("command", [b"RETR a.txt", b"STOR a.txt"])
def test_a_side_that_has_ended_early_does_not_let_half_a_file_pass_for_whole(loop: Loop, command: bytes) -> None:
    """The receiver's direction is over first: the end of the other one must still wait."""
    story = Story(loop, command, Gates(Does.HOLD, later=True))
    server = story.origin.data.last
    if command.startswith(b"RETR"):
        story.sock.shutdown(socket.SHUT_WR)
        story.gateway.pump()
        server.send(b"content")
        server.finish()
    else:
        server.finish()
        story.gateway.pump()
        story.sock.send(b"content")
        story.sock.shutdown(socket.SHUT_WR)
    story.gateway.pump()
    assert not server.vc.cut
    assert (server.take() + read_all(story.sock)) == b""
    story.decide()
    assert (server.take() + read_all(story.sock)) == b"content"
    assert server.ended
    assert is_ended(story.sock)


def test_a_file_that_waits_for_its_gate_is_not_silent(loop: Loop) -> None:
    story = Story(loop, b"RETR a.txt", Gates(Does.HOLD, later=True), "[mail]\nidle_timeout = 20s\n")
    server = story.origin.data.last
    server.send(b"content")
    server.finish()
    assert story.says(DONE) == b""
    loop.pass_time(90)
    assert story.decide() == DONE
    assert read_all(story.sock) == b"content"


def test_a_data_connection_that_cannot_be_made_is_not_waited_for(loop: Loop) -> None:
    story = Story(loop, b"NOOP", Gates(Does.HOLD))
    story.gateway.connector.origins.clear()
    assert is_ended(story.comes(story.opened()))
    story.does(b"RETR a.txt")
    assert story.says(DONE) == DONE


def test_a_listing_has_no_gate(loop: Loop) -> None:
    story = Story(loop, b"LIST", Gates(Does.REFUSE))
    story.origin.data.last.send(b"a.txt\r\n")
    story.origin.data.last.finish()
    assert story.says(DONE) == b"226 done\r\n" or story.client.take() == b""
    assert read_all(story.sock) == b"a.txt\r\n"
