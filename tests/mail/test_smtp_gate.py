"""What becomes of a mail in SMTP and LMTP that a gate holds, replaces or refuses."""

from __future__ import annotations

import pytest

from sslintercept.dialogue.watcher import Cut
from sslintercept.dialogue.words import refusal
from sslintercept.mail import smtp
from sslintercept.mail.smtp import CHUNK_TAKEN, CLOSES, LEFT, SMUGGLED, SmtpWatcher
from sslintercept.testing.gate import EVENT, Does, Gates
from sslintercept.testing.talk import Talk
from tests.mail.scripts import Script, gated, said

GREETING: Script = [
    ("S", b"220 mx\r\n"),
    ("C", b"EHLO c\r\n"),
    ("S", b"250-mx\r\n250 CHUNKING\r\n"),
]
ASKS: Script = [
    ("C", b"MAIL FROM:<a@c>\r\nRCPT TO:<b@s>\r\n"),
    ("S", b"250 Ok\r\n250 Ok\r\n"),
]
DATA: Script = [*GREETING, *ASKS, ("C", b"DATA\r\n"), ("S", b"354 Go\r\n")]
CONTENT = b"Subject: x\r\n\r\n.dot\r\n..\r\n\nend\r\n"
STUFFED = b"Subject: x\r\n\r\n..dot\r\n...\r\n\nend\r\n"
MAIL: Script = [*DATA, ("C", STUFFED + b".\r\n")]
NO = refusal("smtp", "malware", EVENT)
PASSES = [Does.PASS, Does.HOLD, Does.TAIL]
REFUSES = [Does.EARLY, Does.REFUSE, Does.LATE]


@pytest.mark.parametrize("does", PASSES)
def test_a_mail_that_may_pass_arrives_as_it_was_and_the_conversation_goes_on(does: Does) -> None:
    script: Script = [*MAIL, ("S", b"250 Queued\r\n"), ("C", b"QUIT\r\n"), ("S", b"221 Bye\r\n")]
    talk, (gate,) = gated(SmtpWatcher, script, does)
    assert talk.refused is None
    assert (talk.server, talk.client) == (said(script, "C"), said(script, "S"))
    assert (gate.content, gate.whole) == (CONTENT, True)
    assert gate.part.recipients == ("b@s",)
    assert talk.holds == {True: 0, False: 0}


@pytest.mark.parametrize(
    ("instead", "sent"),
    [
        (b"Subject: [!] x\r\n\r\n.\r\n", b"Subject: [!] x\r\n\r\n..\r\n.\r\n"),
        (b"no end of a line", b"no end of a line\r\n.\r\n"),
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
    ],
)
def test_what_takes_the_place_of_a_mail_is_framed_like_one(instead: bytes, sent: bytes) -> None:
    talk, _ = gated(SmtpWatcher, [*MAIL, ("S", b"250 Ok\r\n")], Does.REPLACE, instead)
    assert talk.server == said(DATA, "C") + sent
    assert talk.client == said(DATA, "S") + b"250 Ok\r\n"


@pytest.mark.parametrize("instead", [b"x\n.\r\nMAIL FROM:<e@v>\r\n", b"x\r.\r\n", b"x\r\n\0.\r\n", b"x\n."])
def test_what_takes_the_place_of_a_mail_smuggles_nothing(instead: bytes) -> None:
    talk, _ = gated(SmtpWatcher, MAIL, Does.REPLACE, instead)
    assert talk.cut is Cut.SERVER
    assert talk.client.endswith(SMUGGLED)
    assert b"MAIL FROM:<e@v>" not in talk.server


@pytest.mark.parametrize("does", REFUSES)
def test_of_a_refused_mail_the_server_never_sees_the_end(does: Does) -> None:
    talk, (gate,) = gated(SmtpWatcher, [*MAIL, ("C", b"QUIT\r\n")], does)
    assert talk.client == said(DATA, "S") + NO + CLOSES
    assert talk.cut is Cut.SERVER
    assert talk.error is not None
    assert talk.error.event == EVENT
    assert not gate.aborted
    sent = talk.server.removeprefix(said(DATA, "C"))
    assert sent == (STUFFED[:-4] if does is Does.LATE else b"")


def test_a_refusal_may_be_one_for_the_time_being() -> None:
    talk, _ = gated(SmtpWatcher, MAIL, Does.REFUSE, category="failure")
    assert talk.client.endswith(refusal("smtp", "failure", EVENT) + CLOSES)
    assert b"\r\n451 4.7.1 " in talk.client


def test_a_mail_that_is_never_decided_about_holds_everything_behind_it() -> None:
    gates = Gates(Does.NEVER)
    talk = Talk(SmtpWatcher, wants=gates).plays([*MAIL, ("C", b"MAIL FROM:<x@c>\r\nQUIT")])
    assert talk.server == said(DATA, "C")
    assert talk.holds == {True: 1, False: 0}
    assert talk.watcher.client_ended() is False
    talk.watcher.ended()
    assert gates.all[0].aborted


def test_commands_behind_a_held_mail_follow_it() -> None:
    gates = Gates(Does.HOLD, later=True)
    talk = Talk(SmtpWatcher, wants=gates).plays([*DATA, ("C", STUFFED + b".\r\nMAIL FROM:<x@c>\r\nQUIT")])
    gates.decide()
    assert talk.server == said(DATA, "C") + STUFFED + b".\r\nMAIL FROM:<x@c>\r\n"
    talk.says(server=b"250 Ok\r\n250 Ok\r\n")
    assert talk.watcher.client_ended()
    assert talk.server.endswith(b"QUIT")


def test_an_empty_mail_goes_through_the_gate_too() -> None:
    talk, (gate,) = gated(SmtpWatcher, [*DATA, ("C", b".\r\n")], Does.HOLD)
    assert (gate.content, gate.whole) == (b"", True)
    assert talk.server == said(DATA, "C") + b".\r\n"


def test_a_mail_that_breaks_off_is_let_go_of() -> None:
    gates = Gates(Does.HOLD, later=True)
    talk = Talk(SmtpWatcher, wants=gates).plays([*DATA, ("C", b"half")])
    assert talk.watcher.client_ended()
    talk.watcher.ended()
    assert (gates.all[0].aborted, gates.all[0].whole) == (True, None)
    assert talk.server == said(DATA, "C")


@pytest.mark.parametrize("line", [b"421 4.4.2 Timeout\r\n", b"552 5.3.4 Too big\r\n", b"250 What?\r\n"])
def test_a_server_that_replies_before_it_has_a_held_mail_ends_the_conversation(line: bytes) -> None:
    talk, _ = gated(SmtpWatcher, [*MAIL, ("S", line)], Does.NEVER)
    assert talk.client == said(DATA, "S") + line
    assert talk.cut is Cut.SERVER


@pytest.mark.parametrize("script", [DATA, MAIL])
def test_the_client_is_told_when_the_server_leaves_while_its_mail_is_held(script: Script) -> None:
    gates = Gates(Does.NEVER)
    talk = Talk(SmtpWatcher, wants=gates).plays([*script, ("C", b"x")])
    talk.watcher.server_ended()
    assert talk.client == said(DATA, "S") + LEFT
    assert talk.cut is Cut.SERVER
    assert gates.all[0].aborted


def test_what_is_not_understood_is_not_relayed_behind_a_held_mail() -> None:
    talk, _ = gated(SmtpWatcher, [*MAIL, ("S", b"what\r\n")], Does.NEVER)
    assert talk.unseen is None
    assert talk.cut is Cut.SERVER


def test_a_refused_mail_without_an_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "MAX_SWALLOWED", 100)
    talk = Talk(SmtpWatcher, wants=Gates(Does.EARLY)).plays([*DATA, ("C", b"x" * 50), ("C", b"x" * 101)])
    assert talk.client.endswith(NO + CLOSES)
    assert talk.cut is Cut.SERVER


def test_in_lmtp_every_recipient_is_refused() -> None:
    script: Script = [
        ("S", b"220 lmtp\r\n"),
        ("C", b"LHLO c\r\n"),
        ("S", b"250-x\r\n250 CHUNKING\r\n"),
        ("C", b"MAIL FROM:<a@c>\r\nRCPT TO:<b@s>\r\nRCPT TO:<c@s>\r\nRCPT TO:<d@s>\r\n"),
        ("S", b"250 Ok\r\n250 Ok\r\n550 No\r\n250 Ok\r\n"),
    ]
    no = refusal("lmtp", "malware", EVENT) * 2
    data: Script = [*script, ("C", b"DATA\r\n"), ("S", b"354 Go\r\n"), ("C", b"hi\r\n.\r\n")]
    talk, _ = gated(SmtpWatcher, data, Does.REFUSE)
    assert talk.client == said(data, "S") + no + CLOSES
    chunks: Script = [*script, ("C", b"BDAT 2 LAST\r\nhi"), ("S", b"250 Reset\r\n")]
    talk, _ = gated(SmtpWatcher, chunks, Does.REFUSE)
    assert talk.client == said(script, "S") + no
    assert talk.refused is None


# chunks

CHUNKS: Script = [*GREETING, *ASKS, ("C", b"BDAT 6\r\nab\r\n.\rBDAT 0\r\nBDAT 3 LAST\r\n\nzz")]
BEFORE = said([*GREETING, *ASKS], "C")
HEARD = said([*GREETING, *ASKS], "S")


@pytest.mark.parametrize("does", PASSES)
def test_a_mail_in_chunks_that_may_pass_arrives_as_one_chunk_of_ours(does: Does) -> None:
    script: Script = [*CHUNKS, ("S", b"250 Queued\r\n"), ("C", b"QUIT\r\n"), ("S", b"221 Bye\r\n")]
    talk, (gate,) = gated(SmtpWatcher, script, does)
    assert talk.server == BEFORE + b"BDAT 9 LAST\r\nab\r\n.\r\nzzQUIT\r\n"
    assert talk.client == HEARD + CHUNK_TAKEN * 2 + b"250 Queued\r\n221 Bye\r\n"
    assert (gate.content, gate.whole) == (b"ab\r\n.\r\nzz", True)


def test_a_mail_in_chunks_may_be_replaced() -> None:
    talk, _ = gated(SmtpWatcher, [*CHUNKS, ("S", b"250 Queued\r\n")], Does.REPLACE, b"instead")
    assert talk.server == BEFORE + b"BDAT 7 LAST\r\ninstead"
    assert talk.client == HEARD + CHUNK_TAKEN * 2 + b"250 Queued\r\n"


@pytest.mark.parametrize("does", [Does.REFUSE, Does.LATE])
def test_a_refused_mail_in_chunks_is_taken_back_and_the_conversation_goes_on(does: Does) -> None:
    script: Script = [*CHUNKS, ("S", b"250-Re\r\n250 Reset\r\n"), *ASKS, ("C", b"QUIT\r\n"), ("S", b"221 Bye\r\n")]
    talk, _ = gated(SmtpWatcher, script, does)
    assert talk.refused is None
    assert talk.server == BEFORE + b"RSET\r\n" + said(ASKS, "C") + b"QUIT\r\n"
    assert talk.client == HEARD + CHUNK_TAKEN * 2 + NO + said(ASKS, "S") + b"221 Bye\r\n"


def test_every_chunk_of_a_mail_that_was_refused_early_is_refused() -> None:
    talk = Talk(SmtpWatcher, wants=Gates(Does.EARLY)).plays([*CHUNKS, ("S", b"250 Reset\r\n")])
    assert talk.server == BEFORE + b"RSET\r\n"
    assert talk.client == HEARD + NO * 3


def test_large_mails_in_chunks_keep_flowing_and_may_still_be_taken_back() -> None:
    first: Script = [*GREETING, *ASKS, ("C", b"BDAT 200000\r\n" + b"a" * 200_000), ("C", b"BDAT 4 LAST\r\nlast")]
    talk = Talk(SmtpWatcher, wants=Gates(Does.LATE)).plays(first)
    sent = talk.server.removeprefix(BEFORE)
    assert sent == b"BDAT 199996\r\n" + b"a" * 199_996 + b"RSET\r\n"
    talk.says(server=b"250 Ok\r\n250 Reset\r\n")
    assert talk.client == HEARD + CHUNK_TAKEN + NO
    assert talk.refused is None


@pytest.mark.parametrize("reply", [b"552 5.3.4 Too big\r\n", b"552-Too\r\n552 5.3.4 Too big\r\n"])
def test_what_the_server_says_to_a_chunk_of_ours_is_the_answer_to_the_last_one(reply: bytes) -> None:
    gates = Gates(Does.PASS)
    talk = Talk(SmtpWatcher, wants=gates)
    talk.plays([*GREETING, *ASKS, ("C", b"BDAT 100000\r\n" + b"a" * 100_000), ("S", reply)])
    talk.says(client=b"BDAT 4 LAST\r\nlast")
    assert talk.server.endswith(b"aRSET\r\n")
    talk.says(server=b"250 Reset\r\n")
    assert talk.client == HEARD + CHUNK_TAKEN + b"552 5.3.4 Too big\r\n"


def test_a_client_that_takes_its_chunks_back_gets_the_answer_of_the_server() -> None:
    gates = Gates(Does.HOLD, later=True)
    talk = Talk(SmtpWatcher, wants=gates)
    talk.plays([*GREETING, *ASKS, ("C", b"BDAT 2\r\nhiRSET\r\n"), ("S", b"250 Reset\r\n")])
    assert gates.all[0].aborted
    assert talk.server == BEFORE + b"RSET\r\n"
    assert talk.client == HEARD + CHUNK_TAKEN + b"250 Reset\r\n"


def test_chunks_may_be_pipelined_behind_another_mail_in_chunks() -> None:
    script: Script = [
        *GREETING,
        ("C", b"MAIL FROM:<a@c>\r\nRCPT TO:<b@s>\r\nBDAT 1 LAST\r\n1"),
        ("C", b"MAIL FROM:<a@c>\r\nRCPT TO:<b@s>\r\nBDAT 1 LAST\r\n2"),
        ("S", b"250 A\r\n250 B\r\n250 C\r\n250 D\r\n250 E\r\n250 F\r\n"),
    ]
    talk, gates = gated(SmtpWatcher, script, Does.HOLD)
    assert [gate.content for gate in gates] == [b"1", b"2"]
    assert (talk.server, talk.client) == (said(script, "C"), said(script, "S"))


def test_a_server_that_leaves_between_chunks_is_told_of() -> None:
    talk, _ = gated(SmtpWatcher, [*GREETING, *ASKS, ("C", b"BDAT 2\r\nhi"), ("S", b"421 Bye\r\n")], Does.NEVER)
    assert talk.client == HEARD + CHUNK_TAKEN + b"421 Bye\r\n"


def test_a_server_that_leaves_behind_a_chunk_of_ours_is_told_of() -> None:
    script: Script = [*GREETING, *ASKS, ("C", b"BDAT 100000\r\n" + b"a" * 100_000), ("S", b"421 Bye\r\n")]
    talk = Talk(SmtpWatcher, wants=Gates(Does.PASS)).plays(script)
    assert talk.client == HEARD + b"421 Bye\r\n"
    assert talk.cut is Cut.SERVER


def test_a_refused_chunk_of_ours_takes_no_more_behind_it() -> None:
    chunk = ("C", b"BDAT 100000\r\n" + b"a" * 100_000)
    talk = Talk(SmtpWatcher, wants=Gates(Does.PASS)).plays([*GREETING, *ASKS, chunk, ("S", b"552 Big\r\n"), chunk])
    assert talk.server.count(b"BDAT") == 1
