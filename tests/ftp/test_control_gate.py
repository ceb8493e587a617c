"""What is said on the control connection of a file that a gate decides about."""

from __future__ import annotations

import pytest

from sslintercept.dialogue.words import refusal
from sslintercept.facts import Address
from sslintercept.ftp.control import MAX_LAST_WORD, NO_MODE, FtpWatcher
from sslintercept.testing.gate import EVENT, found
from sslintercept.testing.talk import Talk
from tests.ftp.test_control import Transfer, Ways
from tests.mail.scripts import Script, every_cut, said

PASSIVE = b"229 Entering Extended Passive Mode (|||1025|)\r\n"
BEGUN: Script = [
    ("S", b"220 hi\r\n"),
    ("C", b"EPSV\r\n"),
    ("S", PASSIVE),
    ("C", b"RETR a\r\n"),
    ("S", b"150-well\r\n150 here\r\n"),
]
HEARD = said(BEGUN, "S")
NO = refusal("ftp", "malware", EVENT)
REPLIES = [b"226 done\r\n", b"226-done\r\n in 1 s\r\n226 \r\n", b"426 broken\r\n"]


class Story:
    """A transfer whose outcome is open."""

    def __init__(self, script: Script = BEGUN) -> None:
        self.ways = Ways()
        self.talk = Talk(lambda wires, terms: FtpWatcher(wires, terms, self.ways))
        self.talk.plays(script)
        self.transfer: Transfer = self.ways.transfers[-1]
        self.transfer.undecided = True

    def decided(self, refused: bool) -> None:
        self.transfer.undecided = False
        self.transfer.refused = found() if refused else None
        assert self.transfer.decided is not None
        self.transfer.decided()


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("refused", [False, True])
def test_how_a_transfer_went_is_said_when_that_is_decided(reply: bytes, refused: bool) -> None:
    for version in every_cut([("S", reply)]):
        story = Story()
        story.talk.plays(version)
        assert story.talk.client == HEARD
        assert story.talk.holds == {True: 0, False: 1}
        assert story.talk.watcher.server_ended() is False
        story.decided(refused)
        assert story.talk.client == HEARD + (NO if refused else reply)
        assert story.talk.holds == {True: 0, False: 0}
        assert story.transfer.good is (not refused and reply[:3] == b"226")
        assert story.talk.watcher.server_ended()


def test_a_file_that_was_refused_before_the_server_said_anything_has_failed() -> None:
    story = Story()
    story.transfer.undecided, story.transfer.refused = False, found()
    story.talk.says(server=b"226 done\r\n")
    assert story.talk.client == HEARD + NO


def test_replies_behind_it_wait_and_the_conversation_goes_on() -> None:
    story = Story()
    story.talk.plays([("C", b"NOOP\r\nCCC\r\nNOOP\r\n"), ("S", b"226 done\r\n200 a\r\n502 c\r\n200 b\r\n")])
    assert story.talk.client == HEARD
    story.decided(True)
    assert story.talk.client == HEARD + NO + b"200 a\r\n502 c\r\n200 b\r\n"
    story.talk.says(client=b"QUIT\r\n", server=b"221 bye\r\n")
    assert story.talk.client.endswith(b"221 bye\r\n")
    assert story.talk.refused is None


def test_what_was_decided_only_a_little_is_waited_for_again() -> None:
    story = Story()
    story.talk.says(server=b"226 done\r\n")
    assert story.transfer.decided is not None
    story.transfer.decided()
    assert story.talk.client == HEARD
    assert story.talk.holds[False] == 1
    story.decided(False)
    assert story.talk.client == HEARD + b"226 done\r\n"


def test_a_transfer_that_did_not_begin_is_not_waited_for() -> None:
    story = Story(BEGUN[:-1])
    story.talk.says(server=b"550 none\r\n")
    assert story.talk.client.endswith(b"550 none\r\n")


def test_a_conversation_that_ends_waits_for_nothing() -> None:
    story = Story()
    story.talk.says(server=b"226 done\r\n")
    story.talk.watcher.ended()
    assert story.transfer.good is False
    story.decided(False)
    assert story.talk.client == HEARD


def test_the_last_word_about_a_transfer_is_bounded() -> None:
    story = Story()
    story.talk.says(server=b"226-\r\n" + (b"x" * 1000 + b"\r\n") * (MAX_LAST_WORD // 1000 + 1))
    assert story.talk.refused is not None


@pytest.mark.parametrize(
    ("commands", "replies", "piece"),
    [
        (b"RETR a\r\n", b"", False),
        (b"REST 100\r\nRETR a\r\n", b"350 go\r\n", True),
        (b"REST 0\r\nRETR a\r\n", b"350 go\r\n", False),
        (b"REST 100\r\nRETR a\r\n", b"502 no\r\n", False),
        (b"REST 100\r\nLIST\r\nEPSV\r\nRETR a\r\n", b"350 go\r\n150 a\r\n226 b\r\n" + PASSIVE, False),
        (b"APPE a\r\n", b"", True),
        (b"STOR a\r\n", b"", False),
    ],
)
def test_what_goes_on_where_another_transfer_ended_is_a_piece(commands: bytes, replies: bytes, piece: bool) -> None:
    ways = Ways()
    talk = Talk(lambda wires, terms: FtpWatcher(wires, terms, ways)).plays(
        [*BEGUN[:3], ("C", commands), ("S", replies)]
    )
    assert talk.refused is None
    assert ways.transfers[-1].announced
    assert ways.transfers[-1].piece is piece


@pytest.mark.parametrize(
    ("command", "passes"), [(b"MODE S", True), (b"mode z", False), (b"MODE B", False), (b"MODE", False)]
)
def test_files_are_not_hidden_by_another_mode(command: bytes, passes: bool) -> None:
    talk = Talk(lambda wires, terms: FtpWatcher(wires, terms, Ways(Address("127.0.0.1", 5000))))
    talk.plays([("S", b"220 hi\r\n"), ("C", command + b"\r\n")])
    assert talk.server == (command + b"\r\n" if passes else b"")
    assert talk.client == b"220 hi\r\n" + (b"" if passes else NO_MODE)
