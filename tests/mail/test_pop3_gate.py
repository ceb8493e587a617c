"""What becomes of a mail in POP3 that a gate holds, replaces or refuses."""

from __future__ import annotations

import pytest

from sslintercept.dialogue.watcher import Cut
from sslintercept.dialogue.words import refusal
from sslintercept.mail.pop3 import Pop3Watcher
from sslintercept.testing.gate import EVENT, Does, Gates
from sslintercept.testing.talk import Talk
from tests.mail.scripts import Script, gated, said

IN: Script = [
    ("S", b"+OK hi\r\n"),
    ("C", b"USER a\r\n"),
    ("S", b"+OK\r\n"),
    ("C", b"PASS b\r\n"),
    ("S", b"+OK\r\n"),
]
CONTENT = b"Subject: x\r\n\r\n.dot\r\nend\r\n"
ANSWER = b"+OK 33 octets\r\nSubject: x\r\n\r\n..dot\r\nend\r\n.\r\n"
FETCHED: Script = [*IN, ("C", b"RETR 1\r\n"), ("S", ANSWER)]
AFTER: Script = [("C", b"QUIT\r\n"), ("S", b"+OK bye\r\n")]
NO = refusal("pop3", "malware", EVENT)


@pytest.mark.parametrize("does", [Does.PASS, Does.HOLD, Does.TAIL])
def test_a_mail_that_may_pass_arrives_as_it_was(does: Does) -> None:
    script: Script = [*FETCHED, *AFTER]
    talk, (gate,) = gated(Pop3Watcher, script, does)
    assert talk.refused is None
    assert (talk.server, talk.client) == (said(script, "C"), said(script, "S"))
    assert (gate.content, gate.whole) == (CONTENT, True)
    assert talk.holds == {True: 0, False: 0}


@pytest.mark.parametrize(
    ("instead", "sent"),
    [(b"Subject: [!]\r\n\r\n.\r\n", b"Subject: [!]\r\n\r\n..\r\n.\r\n"), (b"x", b"x\r\n.\r\n"), (b"", b".\r\n")],
)
def test_what_takes_the_place_of_a_mail_is_framed_like_one(instead: bytes, sent: bytes) -> None:
    talk, _ = gated(Pop3Watcher, [*FETCHED, *AFTER], Does.REPLACE, instead)
    assert talk.client == said(IN, "S") + b"+OK 33 octets\r\n" + sent + b"+OK bye\r\n"


@pytest.mark.parametrize("does", [Does.EARLY, Does.REFUSE])
def test_a_mail_that_is_refused_as_a_whole_becomes_an_error_and_the_conversation_goes_on(does: Does) -> None:
    talk, _ = gated(Pop3Watcher, [*FETCHED, *AFTER], does)
    assert talk.refused is None
    assert talk.client == said(IN, "S") + NO + b"+OK bye\r\n"
    assert talk.server == said([*FETCHED, *AFTER], "C")


def test_a_mail_that_is_refused_when_some_of_it_has_passed_is_cut() -> None:
    talk, _ = gated(Pop3Watcher, FETCHED, Does.LATE)
    assert talk.client == said(IN, "S") + ANSWER[:-7]
    assert talk.cut is Cut.BOTH
    assert talk.error is not None


def test_the_beginning_of_a_mail_is_never_whole() -> None:
    talk, (gate,) = gated(Pop3Watcher, [*IN, ("C", b"TOP 1 0\r\n"), ("S", ANSWER)], Does.HOLD)
    assert gate.whole is False
    assert talk.client == said(IN, "S") + ANSWER


def test_answers_and_refused_commands_behind_a_held_mail_follow_it() -> None:
    gates = Gates(Does.REFUSE, later=True)
    talk = Talk(Pop3Watcher, wants=gates)
    talk.plays([*IN, ("C", b"RETR 1\r\nRETR 2\r\nNOOP\r\n"), ("S", ANSWER + ANSWER + b"+OK\r\n")])
    assert talk.client == said(IN, "S")
    assert talk.holds == {True: 0, False: 1}
    assert talk.watcher.server_ended() is False
    gates.decide()
    assert talk.client == said(IN, "S") + NO
    assert len(gates.all) == 2
    gates.decide()
    assert talk.client == said(IN, "S") + NO + NO + b"+OK\r\n"
    assert talk.holds == {True: 0, False: 0}
    assert talk.watcher.server_ended()


def test_a_mail_that_does_not_exist_has_no_gate() -> None:
    talk, gates = gated(Pop3Watcher, [*IN, ("C", b"RETR 9\r\n"), ("S", b"-ERR none\r\n")], Does.NEVER)
    assert not gates
    assert talk.client.endswith(b"-ERR none\r\n")


@pytest.mark.parametrize("end", [len(ANSWER), len(ANSWER) - 3])
def test_a_conversation_that_ends_lets_go_of_its_mail(end: int) -> None:
    gates = Gates(Does.NEVER)
    talk = Talk(Pop3Watcher, wants=gates).plays([*FETCHED[:-1], ("S", ANSWER[:end])])
    talk.watcher.ended()
    assert gates.all[0].aborted
    assert talk.client == said(IN, "S")


def test_what_is_not_understood_is_not_relayed_while_a_mail_is_held() -> None:
    talk = Talk(Pop3Watcher, wants=Gates(Does.NEVER)).plays([*FETCHED, ("C", b"\0\r\n")])
    assert talk.unseen is None
    assert talk.cut is Cut.BOTH
