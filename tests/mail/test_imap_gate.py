"""What becomes of a mail in IMAP that a gate holds, replaces or refuses."""

from __future__ import annotations

import re

import pytest

from sslintercept.dialogue.watcher import Cut, Part
from sslintercept.dialogue.words import refusal
from sslintercept.mail.imap import ENDS, GO_ON, ImapWatcher
from sslintercept.mail.notice import notice
from sslintercept.testing.gate import EVENT, Does, Gates
from sslintercept.testing.talk import Talk
from tests.mail.scripts import Script, gated, said

IN: Script = [
    ("S", b"* OK hi\r\n"),
    ("C", b"a LOGIN b c\r\n"),
    ("S", b"a OK in\r\n"),
    ("C", b"s SELECT INBOX\r\n"),
    ("S", b"s OK [READ-WRITE]\r\n"),
]
HEARD = said(IN, "S")
ASKED = said(IN, "C")
MAIL = b"Subject: x\r\n\r\nhello\r\n"
ASKS = ("C", b"f FETCH 1 (UID BODY[])\r\n")
AFTER = b"* 1 FETCH (FLAGS (\\Seen))\r\nf OK done\r\n"
ANSWER = b"* 1 FETCH (UID 7 BODY[] {21}\r\n" + MAIL + b" FLAGS ())\r\n"
FETCHED: Script = [*IN, ASKS, ("S", ANSWER + AFTER)]
PASSES = [Does.PASS, Does.HOLD, Does.TAIL]
NO = refusal("imap", "malware", EVENT)
NOTICE = notice(b"", "malware", EVENT)


def literal(content: bytes) -> bytes:
    return b"* 1 FETCH (UID 7 BODY[] {%d}\r\n%b FLAGS ())\r\n" % (len(content), content)


# what is fetched


@pytest.mark.parametrize("does", PASSES)
def test_a_mail_that_may_pass_arrives_as_it_was(does: Does) -> None:
    talk, (gate,) = gated(ImapWatcher, FETCHED, does)
    assert talk.refused is None
    assert (talk.server, talk.client) == (said(FETCHED, "C"), said(FETCHED, "S"))
    assert (gate.content, gate.whole) == (MAIL, True)
    assert gate.part.name == "INBOX;UID 7;"
    assert talk.holds == {True: 0, False: 0}


@pytest.mark.parametrize("instead", [b"Subject: [!] x\r\n\r\nhello, this is longer\r\n", b"short", b""])
def test_what_takes_the_place_of_a_mail_has_its_own_size(instead: bytes) -> None:
    talk, _ = gated(ImapWatcher, FETCHED, Does.REPLACE, instead)
    assert talk.client == HEARD + literal(instead) + AFTER


@pytest.mark.parametrize("does", [Does.EARLY, Does.REFUSE])
def test_a_notice_stands_in_the_place_of_a_mail_that_is_refused_as_a_whole(does: Does) -> None:
    talk, _ = gated(ImapWatcher, FETCHED, does)
    assert talk.refused is None
    assert talk.client == HEARD + literal(NOTICE) + AFTER
    assert b"\r\nSubject: Withheld: Malware found (event e-1)\r\n" in NOTICE


def test_a_mail_that_is_refused_when_some_of_it_has_passed_is_cut() -> None:
    talk, _ = gated(ImapWatcher, FETCHED, Does.LATE)
    assert talk.client == HEARD + ANSWER[: ANSWER.index(b"lo\r\n")]
    assert talk.cut is Cut.BOTH
    assert talk.error is not None


def test_an_empty_mail_goes_through_the_gate_too() -> None:
    script: Script = [*IN, ASKS, ("S", literal(b"") + AFTER)]
    talk, (gate,) = gated(ImapWatcher, script, Does.HOLD)
    assert (gate.whole, talk.client) == (True, said(script, "S"))


@pytest.mark.parametrize(
    ("section", "size", "whole"),
    [
        (b"BODY[]<0>", 21, False),
        (b"RFC822", 500, True),
        (b"RFC822.TEXT", 500, True),
        (b"BODY[TEXT]", 500, True),
        (b"BODY[1.2]", 500, True),
    ],
)
def test_the_notice_fits_what_was_asked_for(section: bytes, size: int, whole: bool) -> None:
    text = b"* 1 FETCH (%b {21}\r\n%b)\r\n"
    talk, (gate,) = gated(ImapWatcher, [*IN, ASKS, ("S", text % (section, MAIL) + AFTER)], Does.REFUSE)
    assert gate.whole is whole
    found = re.search(rb"\{(\d+)\}\r\n(.*)\)\r\n\* 1", talk.client, re.DOTALL)
    assert found is not None
    assert len(found[2]) == int(found[1]) <= size
    assert found[2].startswith(b"From: Gateway" if section in (b"BODY[]<0>", b"RFC822") else b"This was withheld")


def test_a_binary_section_stays_one() -> None:
    script: Script = [*IN, ASKS, ("S", b"* 1 FETCH (BINARY[1] ~{3}\r\na\0b UID 7)\r\n" + AFTER)]
    talk, (gate,) = gated(ImapWatcher, script, Does.REPLACE, b"\0instead")
    assert gate.content == b"a\0b"
    assert talk.client == HEARD + b"* 1 FETCH (BINARY[1] ~{8}\r\n\0instead UID 7)\r\n" + AFTER


def test_several_contents_of_an_answer_are_decided_about_one_by_one() -> None:
    line = b"* 1 FETCH (BODY[1] {2}\r\nab BODY[2] {2}\r\ncd BODY[HEADER] {4}\r\nX: y BODY[3] {2}\r\nef)\r\n"

    def wants(part: Part) -> bool:
        return part.name.endswith(("2", "3"))

    talk, gates = gated(ImapWatcher, [*IN, ASKS, ("S", line + AFTER)], Does.REPLACE, b"...", wants=wants)
    assert [gate.content for gate in gates] == [b"cd", b"ef"]
    assert talk.client == HEARD + line.replace(b"{2}\r\ncd", b"{3}\r\n...").replace(b"{2}\r\nef", b"{3}\r\n...") + AFTER


@pytest.mark.parametrize(
    ("does", "first", "second"),
    [
        (Does.HOLD, b'a "quoted" word', b""),
        (Does.REPLACE, b"instead", b"instead"),
        (Does.REFUSE, notice(b"1", "malware", EVENT), notice(b"2", "malware", EVENT)),
    ],
)
def test_contents_between_quotes_become_literals(does: Does, first: bytes, second: bytes) -> None:
    line = b'* 1 FETCH (BODY[1] "a \\"quoted\\" word" BODY[2] "" UID 7)\r\n'
    talk, gates = gated(ImapWatcher, [*IN, ASKS, ("S", line + AFTER)], does, b"instead")
    assert [gate.content for gate in gates] == [b'a "quoted" word', b""]
    assert (
        talk.client
        == HEARD
        + b"* 1 FETCH (BODY[1] {%d}\r\n%b BODY[2] {%d}\r\n%b UID 7)\r\n"
        % (
            len(first),
            first,
            len(second),
            second,
        )
        + AFTER
    )


def test_everything_behind_a_held_mail_waits_for_it() -> None:
    gates = Gates(Does.HOLD, later=True)
    talk = Talk(ImapWatcher, wants=gates).plays(
        [*IN, ASKS, ("S", ANSWER + b"* 3 EXISTS\r\n"), ("C", b"z COMPRESS DEFLATE\r\n")]
    )
    assert talk.client == HEARD
    assert talk.holds == {True: 0, False: 1}
    assert talk.watcher.server_ended() is False
    gates.decide()
    assert talk.client == HEARD + ANSWER + b"z NO [CANNOT] Compression is not allowed here\r\n" + b"* 3 EXISTS\r\n"
    assert talk.watcher.server_ended()


@pytest.mark.parametrize("end", [len(ANSWER), ANSWER.index(b"hello"), ANSWER.index(b"Subject")])
def test_a_conversation_that_ends_lets_go_of_what_is_fetched(end: int) -> None:
    gates = Gates(Does.NEVER)
    talk = Talk(ImapWatcher, wants=gates).plays([*IN, ASKS, ("S", ANSWER[:end])])
    talk.watcher.ended()
    assert gates.all[0].aborted
    assert talk.client == HEARD


# what is stored

APPEND: Script = [
    *IN,
    ("C", b"p APPEND Sent (\\Seen) {21}\r\n"),
    ("C", MAIL + b"\r\n"),
]
STORED: Script = [*APPEND, ("S", b"+ go\r\n"), ("S", b"p OK stored\r\n"), ("C", b"q NOOP\r\n"), ("S", b"q OK\r\n")]


@pytest.mark.parametrize("does", PASSES)
def test_a_mail_that_may_be_stored_is_announced_to_the_server_when_something_of_it_passes(does: Does) -> None:
    talk, (gate,) = gated(ImapWatcher, STORED, does)
    assert talk.refused is None
    assert talk.server == said(STORED, "C")
    assert talk.client == HEARD + GO_ON + b"p OK stored\r\nq OK\r\n"
    assert (gate.content, gate.whole, gate.part.name) == (MAIL, True, "Sent")
    assert talk.holds == {True: 0, False: 0}


@pytest.mark.parametrize("instead", [b"Subject: [!] x\r\n\r\nhello\r\n", b"", b"x"])
def test_what_is_stored_in_its_place_is_announced_with_its_size(instead: bytes) -> None:
    talk, _ = gated(ImapWatcher, STORED, Does.REPLACE, instead)
    assert talk.server == ASKED + b"p APPEND Sent (\\Seen) {%d}\r\n%b\r\nq NOOP\r\n" % (len(instead), instead)


@pytest.mark.parametrize("does", [Does.EARLY, Does.REFUSE])
@pytest.mark.parametrize("plus", [b"", b"+"])
def test_of_a_mail_that_is_refused_as_a_whole_the_server_hears_nothing(does: Does, plus: bytes) -> None:
    script: Script = [
        *IN,
        ("C", b"p APPEND Sent {21%b}\r\n" % plus),
        ("C", MAIL + b"\r\n"),
        ("C", b"q NOOP\r\n"),
        ("S", b"q OK\r\n"),
    ]
    talk, _ = gated(ImapWatcher, script, does)
    assert talk.refused is None
    assert talk.server == ASKED + b"q NOOP\r\n"
    assert talk.client == HEARD + (b"" if plus else GO_ON) + b"p " + NO + b"q OK\r\n"


@pytest.mark.parametrize("does", [*PASSES, Does.REPLACE])
def test_a_mail_that_waits_for_nobody_is_stored_without_waiting(does: Does) -> None:
    script: Script = [*IN, ("C", b"p APPEND Sent {21+}\r\n" + MAIL + b"\r\n"), ("S", b"p OK\r\n")]
    talk, _ = gated(ImapWatcher, script, does, MAIL)
    assert (talk.server, talk.client) == (said(script, "C"), said(script, "S"))


def test_a_mail_that_is_refused_when_some_of_it_has_passed_ends_the_conversation() -> None:
    script: Script = [*IN, ("C", b"p APPEND Sent {21+}\r\n" + MAIL)]
    talk, _ = gated(ImapWatcher, script, Does.LATE)
    assert talk.server == ASKED + b"p APPEND Sent {21+}\r\n" + MAIL[:-4]
    assert talk.client == HEARD + b"p " + NO + ENDS
    assert talk.cut is Cut.SERVER


def test_a_second_mail_that_is_refused_ends_the_conversation_for_the_first_is_under_way() -> None:
    script: Script = [*IN, ("C", b"p APPEND Sent {2+}\r\nab {2+}\r\ncd\r\n")]
    gates = Gates(Does.HOLD, later=True)
    talk = Talk(ImapWatcher, wants=gates).plays(script)
    gates.decide()
    assert talk.server == ASKED + b"p APPEND Sent {2+}\r\nab"
    gates.all[1]._does = Does.REFUSE
    gates.decide()
    assert talk.client == HEARD + b"p " + NO + ENDS
    assert talk.cut is Cut.SERVER


def test_several_mails_of_one_command_may_pass() -> None:
    script: Script = [
        *IN,
        ("C", b"p APPEND Sent {2}\r\nab {3}\r\ncde\r\nq NOOP\r\n"),
        ("S", b"+ go\r\n"),
        ("S", b"+ go\r\n"),
        ("S", b"p OK\r\nq OK\r\n"),
    ]
    talk, gates = gated(ImapWatcher, script, Does.HOLD)
    assert [gate.content for gate in gates] == [b"ab", b"cde"]
    assert talk.server == said(script, "C")
    assert talk.client == HEARD + GO_ON * 2 + b"p OK\r\nq OK\r\n"


@pytest.mark.parametrize("does", [Does.PASS, Does.HOLD, Does.TAIL])
def test_a_server_that_does_not_want_the_literal_does_not_get_it(does: Does) -> None:
    script: Script = [*APPEND, ("S", b"p NO [TRYCREATE] no\r\n"), ("C", b"q NOOP\r\n"), ("S", b"q OK\r\n")]
    talk, _ = gated(ImapWatcher, script, does)
    assert talk.server == ASKED + b"p APPEND Sent (\\Seen) {21}\r\nq NOOP\r\n"
    assert talk.client == HEARD + GO_ON + b"p NO [TRYCREATE] no\r\nq OK\r\n"
    assert talk.holds == {True: 0, False: 0}


def test_a_server_that_does_not_want_it_while_it_comes_does_not_get_it_either() -> None:
    gates = Gates(Does.PASS)
    talk = Talk(ImapWatcher, wants=gates).plays([*APPEND[:-1], ("C", MAIL[:5]), ("S", b"p NO no\r\n")])
    assert gates.all[0].aborted
    talk.plays([("C", MAIL[5:]), ("C", b"\r\nq NOOP\r\n")])
    assert talk.server == ASKED + b"p APPEND Sent (\\Seen) {21}\r\nq NOOP\r\n"


def test_a_server_that_answers_early_gets_the_rest_of_what_it_was_announced() -> None:
    gates = Gates(Does.TAIL)
    talk = Talk(ImapWatcher, wants=gates)
    talk.plays([*IN, ("C", b"p APPEND Sent {21+}\r\n" + MAIL[:9]), ("S", b"p NO no\r\n"), ("C", MAIL[9:] + b"\r\n")])
    talk.says(client=b"q NOOP\r\n")
    assert talk.server == ASKED + b"p APPEND Sent {21+}\r\n" + MAIL + b"\r\nq NOOP\r\n"
    assert talk.refused is None


def test_while_a_mail_is_held_the_client_waits_and_is_told_when_the_server_leaves() -> None:
    gates = Gates(Does.NEVER)
    talk = Talk(ImapWatcher, wants=gates).plays([*APPEND, ("C", b"q NOOP\r\n")])
    assert talk.server == ASKED
    assert talk.holds == {True: 1, False: 0}
    assert talk.watcher.client_ended() is False
    talk.watcher.server_ended()
    assert talk.client == HEARD + GO_ON + ENDS
    assert gates.all[0].aborted


def test_what_is_not_understood_is_not_relayed_while_a_mail_is_held() -> None:
    talk = Talk(ImapWatcher, wants=Gates(Does.NEVER)).plays([*APPEND, ("S", b"what\r\n")])
    assert talk.unseen is None
    assert talk.cut is Cut.BOTH
