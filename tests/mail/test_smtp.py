"""What is read along in SMTP and LMTP, and what is not let through."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dialogue.watcher import Terms
from sslintercept.mail.smtp import MAX_AHEAD, MAX_AUTH, MAX_COMMAND, MAX_OUTSTANDING, MAX_REPLY, SmtpWatcher
from sslintercept.testing.talk import Talk
from tests.mail.scripts import Script, passes, played, said

REQUIRED = Terms(required=True)
GREETING = ("S", b"220 mx.test ESMTP\r\n")
EHLO: Script = [
    GREETING,
    ("C", b"EHLO c.test\r\n"),
    ("S", b"250-mx.test\r\n250-PIPELINING\r\n250-STARTTLS\r\n250-CHUNKING\r\n250 8BITMIME\r\n"),
]
QUIT: Script = [("C", b"QUIT\r\n"), ("S", b"221 Bye\r\n")]
LOGIN = b64encode(b"\0alice\0secret")

SUBMISSION: Script = [
    *EHLO,
    ("C", b"AUTH PLAIN " + LOGIN + b"\r\n"),
    ("S", b"235 2.7.0 Yes\r\n"),
    ("C", b"MAIL FROM:<alice@c.test> SIZE=10 BODY=8BITMIME\r\n"),
    ("S", b"250 Ok\r\n"),
    ("C", b"RCPT TO:<bob@s.test>\r\n"),
    ("S", b"250 Ok\r\n"),
    ("C", b"RCPT TO:<nobody@s.test>\r\n"),
    ("S", b"550 5.1.1 Nobody\r\n"),
    ("C", b"DATA\r\n"),
    ("S", b"354 Go\r\n"),
    ("C", b"Subject: x\r\n\r\n..hidden dot\r\n.\r\n"),
    ("S", b"250 2.0.0 Queued\r\n"),
    *QUIT,
]


def test_a_submission_shows_its_message_with_user_sender_and_accepted_recipients() -> None:
    talk = passes(SmtpWatcher, SUBMISSION)
    (kept,) = talk.parts
    assert kept.content == b"Subject: x\r\n\r\n.hidden dot\r\n"
    assert kept.whole is True
    assert kept.part == ("smtp", "message", "", True, "alice", "alice@c.test", ("bob@s.test",))
    assert talk.users == ["alice"]
    assert talk.offers == [True]
    assert "secret" not in repr(talk.parts[0].part)


def test_an_mta_may_pipeline() -> None:
    talk = passes(
        SmtpWatcher,
        [
            *EHLO,
            ("C", b"MAIL FROM:<>\r\nRCPT TO:<a@s.test>\r\nRCPT TO:<b@s.test>\r\nDATA\r\n"),
            ("S", b"250 Ok\r\n250 Ok\r\n550 No\r\n354 Go\r\n"),
            ("C", b"one\r\n.\r\n"),
            ("S", b"250 Ok\r\n"),
            ("C", b"MAIL FROM:<x@c.test>\r\nRCPT TO:<c@s.test>\r\nDATA\r\n"),
            ("S", b"250 Ok\r\n250 Ok\r\n354 Go\r\n"),
            ("C", b"two\r\n.\r\nQUIT\r\n"),
            ("S", b"250 Ok\r\n221 Bye\r\n"),
        ],
    )
    assert [(k.part.sender, k.part.recipients, k.content) for k in talk.parts] == [
        ("", ("a@s.test",), b"one\r\n"),
        ("x@c.test", ("c@s.test",), b"two\r\n"),
    ]


def test_chunks_form_one_message() -> None:
    talk = passes(
        SmtpWatcher,
        [
            *EHLO,
            ("C", b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@s.test>\r\nBDAT 6\r\nab\r\n.\r" + b"BDAT 3 LAST\r\n\nzz"),
            ("S", b"250 Ok\r\n250 Ok\r\n250 6\r\n250 3\r\n"),
            *QUIT,
        ],
    )
    (kept,) = talk.parts
    assert (kept.content, kept.whole) == (b"ab\r\n.\r\nzz", True)
    assert kept.part.recipients == ("b@s.test",)


def test_lmtp_answers_once_for_each_recipient() -> None:
    talk = passes(
        SmtpWatcher,
        [
            ("S", b"220 lmtp\r\n"),
            ("C", b"LHLO c\r\n"),
            ("S", b"250 x\r\n"),
            ("C", b"MAIL FROM:<a@c>\r\nRCPT TO:<b@s>\r\nRCPT TO:<c@s>\r\nDATA\r\n"),
            ("S", b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n"),
            ("C", b"hi\r\n.\r\n"),
            ("S", b"250 for b\r\n452 for c\r\n"),
            ("C", b"NOOP\r\n"),
            ("S", b"250 Ok\r\n"),
            *QUIT,
        ],
    )
    assert talk.parts[0].part.carrier == "lmtp"


@pytest.mark.parametrize("mechanism", ["LOGIN", "PLAIN"])
def test_a_login_in_steps_is_not_mistaken_for_commands(mechanism: str) -> None:
    steps: Script = (
        [("C", b64encode(b"DATA") + b"\r\n"), ("S", b"334 UGFzc3dvcmQ6\r\n"), ("C", b64encode(b"QUIT") + b"\r\n")]
        if mechanism == "LOGIN"
        else [("C", b64encode(b"\0DATA\0QUIT") + b"\r\n")]
    )
    talk = passes(
        SmtpWatcher,
        [*EHLO, ("C", f"AUTH {mechanism}\r\n".encode()), ("S", b"334 \r\n"), *steps, ("S", b"235 Ok\r\n"), *QUIT],
    )
    assert talk.users == ["DATA"]


def test_a_refused_login_names_nobody_and_a_refused_data_shows_nothing() -> None:
    talk = passes(
        SmtpWatcher,
        [
            *EHLO,
            ("C", b"AUTH PLAIN " + LOGIN + b"\r\n"),
            ("S", b"535 No\r\n"),
            ("C", b"DATA\r\n"),
            ("S", b"503 No\r\n"),
            *QUIT,
        ],
    )
    assert not talk.users
    assert not talk.parts


def test_a_message_that_breaks_off_is_not_whole() -> None:
    talk = Talk(SmtpWatcher)
    talk.plays([*SUBMISSION[:13], ("C", b"Subject: x\r\n\r\nhalf")])
    talk.watcher.ended()
    assert talk.parts[0].whole is False


# TLS

ASK = ("C", b"STARTTLS\r\n")


def test_tls_begins_behind_the_consent() -> None:
    talk = played(SmtpWatcher, [*EHLO, ASK, ("S", b"220 Go\r\n")])
    assert talk.upgraded
    assert talk.client.endswith(b"220 Go\r\n")


def test_a_refused_request_goes_on_in_the_clear() -> None:
    passes(SmtpWatcher, [*EHLO, ASK, ("S", b"454 Not now\r\n"), *QUIT])


def test_it_may_be_asked_for_in_one_go_with_what_comes_before() -> None:
    talk = played(SmtpWatcher, [GREETING, ("C", b"EHLO x\r\nSTARTTLS\r\n"), ("S", b"250 x\r\n"), ("S", b"220 Go\r\n")])
    assert talk.upgraded


@pytest.mark.parametrize(
    "script",
    [
        [*EHLO, ("C", b"STARTTLS\r\nRSET\r\n"), ("S", b"220 Go\r\n")],
        [*EHLO, ASK, ("C", b"M"), ("S", b"220 Go\r\n")],
        [*EHLO, ASK, ("S", b"220 Go\r\n250 injected\r\n")],
    ],
    ids=["behind the request", "before the consent", "behind the consent"],
)
def test_plain_bytes_about_the_beginning_of_tls_end_the_conversation(script: Script) -> None:
    talk = Talk(SmtpWatcher).plays(script)
    assert talk.refused is not None
    assert "injection" in talk.refused
    assert not talk.upgraded
    assert b"RSET" not in talk.server
    assert b"injected" not in talk.client


def test_inside_tls_the_server_greets_no_more_and_starttls_means_nothing() -> None:
    passes(
        SmtpWatcher,
        [*EHLO[1:], ASK, ("S", b"503 Already\r\n"), *QUIT],
        Terms(secured=True, upgraded=True),
    )


def test_where_tls_is_required_nothing_else_is_said_in_the_clear() -> None:
    talk = played(
        SmtpWatcher,
        [
            *EHLO,
            ("C", b"MAIL FROM:<a@c.test>\r\nNOOP\r\nAUTH PLAIN " + LOGIN + b"\r\n"),
            ("S", b"250 Ok\r\n"),
            ASK,
            ("S", b"220 Go\r\n"),
        ],
        REQUIRED,
    )
    assert talk.upgraded
    assert talk.server == b"EHLO c.test\r\nNOOP\r\nSTARTTLS\r\n"
    refusal = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
    assert talk.client.removeprefix(said(EHLO, "S")) == refusal + b"250 Ok\r\n" + refusal + b"220 Go\r\n"


def test_an_offer_that_is_missing_where_it_must_be_kept_ends_the_conversation() -> None:
    talk = Talk(SmtpWatcher, strict_offer=True).plays([GREETING, ("C", b"EHLO c\r\n"), ("S", b"250 x\r\n")])
    assert talk.refused is not None
    assert talk.offers == [False]


# what may be read in two ways


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r\r\n", b"\r.\n", b"\r\n\0.\r\n"])
def test_an_end_that_only_some_servers_see_is_refused(end: bytes) -> None:
    """SMTP smuggling (RFC 5321 2.3.8)."""
    script: Script = [*SUBMISSION[:13], ("C", b"x" + end + b"MAIL FROM:<evil@c.test>\r\n")]
    talk = Talk(SmtpWatcher).plays(script)
    assert talk.refused is not None
    assert "smuggling" in talk.refused
    assert b"evil" not in talk.server
    assert talk.parts[0].whole is False


def test_bare_line_ends_elsewhere_pass() -> None:
    passes(SmtpWatcher, [*SUBMISSION[:13], ("C", b"a\nb\rc\n..d\r\n.\r\n"), ("S", b"250 Ok\r\n"), *QUIT])


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (b"NOOP\n", "bare CR or LF"),
        (b"NOOP " + b"x" * MAX_COMMAND + b"\r\n", "more than"),
        (b"AUTH PLAIN " + b"x" * MAX_AUTH, "more than"),
        (b"BDAT x\r\n", "without a size"),
        (b"NOOP\r\n" * (MAX_OUTSTANDING + 1), "outstanding"),
        (b"DATA\r\n" + b"x" * (MAX_AHEAD + 1), "does not wait"),
    ],
)
def test_what_a_client_must_not_say_is_refused_in_smtp(client: bytes, why: str) -> None:
    talk = Talk(SmtpWatcher).plays([*EHLO, ("C", client)])
    assert talk.refused is not None
    assert why in talk.refused
    assert talk.client.rpartition(b"8BITMIME\r\n")[2][:1] in (b"4", b"5")


def test_a_chunk_that_was_not_offered_is_refused() -> None:
    talk = Talk(SmtpWatcher).plays([GREETING, ("C", b"EHLO c\r\n"), ("S", b"250 x\r\n"), ("C", b"BDAT 2 LAST\r\nab")])
    assert talk.refused is not None


def test_a_refused_greeting_takes_nothing_back_of_what_was_offered() -> None:
    again: Script = [("C", b"EHLO !\r\n"), ("S", b"501-5.5.4 What\r\n501 is that?\r\n")]
    chunk: Script = [("C", b"BDAT 2 LAST\r\nhi"), ("S", b"250 Ok\r\n")]
    talk = passes(SmtpWatcher, [*EHLO, *again, *chunk, *QUIT])
    assert [kept.content for kept in talk.parts] == [b"hi"]
    assert talk.offers == [True, True]
    other: Script = [("C", b"EHLO c\r\n"), ("S", b"250-x\r\n250 SIZE\r\n")]
    assert Talk(SmtpWatcher).plays([*EHLO, *other, *chunk]).refused is not None


@pytest.mark.parametrize(
    "script",
    [
        [("S", b"+OK this is POP3\r\n")],
        [("S", b"\0\0binary")],
        [*EHLO, ("C", b"\0\0\0")],
        [*EHLO, ("S", b"250 nobody asked\r\n")],
        [*EHLO, ("C", b"NOOP\r\n"), ("S", b"354 Go\r\n")],
        [*EHLO, ("C", b"NOOP\r\n"), ("S", b"250-a\r\n251 b\r\n")],
    ],
)
def test_what_is_no_smtp_becomes_opaque_and_nothing_of_it_is_lost(script: Script) -> None:
    talk = Talk(SmtpWatcher).plays([*script, ("C", b"more"), ("S", b"more")])
    assert talk.unseen is not None
    assert talk.server == said(script, "C") + b"more"
    assert talk.client == said(script, "S") + b"more"


def test_a_reply_without_an_end_is_refused() -> None:
    talk = Talk(SmtpWatcher).plays([("S", b"220 " + b"x" * MAX_REPLY)])
    assert talk.refused is not None


@given(st.data())
def test_mutated_conversations_never_raise_and_never_pile_up(data: st.DataObject) -> None:
    script = list(SUBMISSION)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(script) - 1))
        who, speech = script[at]
        cut = data.draw(st.integers(0, len(speech)))
        junk = data.draw(st.sampled_from([b"\r\n", b"\n", b"\0", b".", b"BDAT 5\r\n", b"STARTTLS\r\n", b"250 x\r\n"]))
        script[at] = (who, speech[:cut] + junk + speech[cut + data.draw(st.integers(0, 3)) :])
    talk = Talk(SmtpWatcher).plays(script)
    if talk.refused is None and not talk.upgraded:
        assert said(script, "C").startswith(talk.server)
        assert len(said(script, "C")) - len(talk.server) <= MAX_AUTH + MAX_AHEAD
