"""What is read along in IMAP."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dialogue.watcher import Terms
from sslintercept.mail.imap import MAX_AHEAD, MAX_ANSWER, MAX_LINE, MAX_OUTSTANDING, MAX_PIECES, ImapWatcher
from sslintercept.testing.talk import Talk
from tests.mail.scripts import Script, passes, played, said

GREETING = ("S", b"* OK [CAPABILITY IMAP4rev1 LITERAL+ STARTTLS] Dovecot ready.\r\n")
LOGIN: Script = [
    ("C", b'a1 LOGIN "al\\"ice" {6}\r\n'),
    ("S", b"+ OK\r\n"),
    ("C", b"secret\r\n"),
    ("S", b"a1 OK in\r\n"),
]
SELECT: Script = [
    ("C", b"a2 SELECT INBOX\r\n"),
    ("S", b"* 2 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\na2 OK [READ-WRITE] Selected\r\n"),
]
FETCH: Script = [
    ("C", b"a3 UID FETCH 7 (FLAGS BODY.PEEK[])\r\n"),
    ("S", b"* 1 FETCH (UID 7 FLAGS () BODY[] {13}\r\nHi\r\na3 OK no\r)\r\na3 OK Fetched\r\n"),
    ("C", b"a4 FETCH 2 (BODY[HEADER] BODY[TEXT]<0> RFC822)\r\n"),
    (
        "S",
        b'* 2 FETCH (BODY[HEADER] {3}\r\nh\r\n BODY[TEXT]<0> {4}\r\npart RFC822 "q\\"uoted")\r\na4 OK x\r\n',
    ),
]
APPEND: Script = [
    ("C", b"a5 APPEND {4}\r\n"),
    ("S", b"+ \r\n"),
    ("C", b"Sent (\\Seen) {5}\r\n"),
    ("S", b"+ go\r\n"),
    ("C", b"hello (\\Seen) {5+}\r\nagain\r\n"),
    ("S", b"a5 OK [APPENDUID 1 2] done\r\n"),
]
LOGOUT: Script = [("C", b"a9 LOGOUT\r\n"), ("S", b"* BYE\r\na9 OK\r\n")]


def test_messages_are_shown_with_mailbox_and_who() -> None:
    talk = passes(ImapWatcher, [GREETING, *LOGIN, *SELECT, *FETCH, *APPEND, *LOGOUT])
    assert [(k.part.name, k.part.upload, k.content, k.whole) for k in talk.parts] == [
        ("INBOX;UID 7;", False, b"Hi\r\na3 OK no\r", True),
        ("INBOX;2;TEXT", False, b"part", False),
        ("INBOX;2;", False, b'q"uoted', True),
        ("Sent", True, b"hello", True),
        ("Sent", True, b"again", True),
    ]
    assert talk.users == ['al"ice']
    assert {kept.part.user for kept in talk.parts} == {'al"ice'}
    assert talk.offers == [True]


def test_idle_waits_for_done() -> None:
    passes(
        ImapWatcher,
        [
            GREETING,
            *LOGIN,
            *SELECT,
            ("C", b"b IDLE\r\n"),
            ("S", b"+ idling\r\n"),
            ("S", b"* 3 EXISTS\r\n"),
            ("C", b"DONE\r\n"),
            ("S", b"b OK\r\n"),
            *LOGOUT,
        ],
    )


@pytest.mark.parametrize(
    ("steps", "users"),
    [
        ([("C", b"x LOGIN bob pw\r\n"), ("S", b"x OK\r\n")], ["bob"]),
        ([("C", b"x LOGIN bob pw\r\n"), ("S", b"x NO [AUTHENTICATIONFAILED]\r\n")], []),
        ([("C", b"x AUTHENTICATE PLAIN " + b64encode(b"\0eve\0p") + b"\r\n"), ("S", b"x OK\r\n")], ["eve"]),
        (
            [
                ("C", b"x AUTHENTICATE PLAIN\r\n"),
                ("S", b"+ \r\n"),
                ("C", b64encode(b"\0zoe\0p") + b"\r\n"),
                ("S", b"x OK\r\n"),
            ],
            ["zoe"],
        ),
        ([("C", b"x AUTHENTICATE GSSAPI\r\n"), ("S", b"x NO\r\n")], []),
        ([("C", b"x LOGIN {3+}\r\nbob {2+}\r\npw\r\n"), ("S", b"x OK\r\n")], ["bob"]),
    ],
)
def test_every_way_to_log_in_names_the_user_once_the_server_agreed(steps: Script, users: list[str]) -> None:
    assert passes(ImapWatcher, [GREETING, *steps, *LOGOUT]).users == users


def test_a_password_never_takes_the_place_of_a_name_that_is_too_long() -> None:
    login: Script = [("C", b"x LOGIN {1025+}\r\n" + b"u" * 1025 + b" secret\r\n"), ("S", b"x OK\r\n")]
    talk = Talk(ImapWatcher).plays(
        [GREETING, *login, ("C", b"y APPEND {1025+}\r\n" + b"m" * 1025 + b" {2+}\r\nhi\r\n")]
    )
    assert talk.users == ["(long)"]
    assert [(kept.part.name, kept.part.user, kept.content) for kept in talk.parts] == [("(long)", "(long)", b"hi")]


def test_a_refused_literal_is_not_sent_and_a_new_command_comes() -> None:
    talk = passes(
        ImapWatcher,
        [GREETING, *LOGIN, ("C", b"c APPEND Nowhere {5}\r\n"), ("S", b"c NO [TRYCREATE]\r\n"), *LOGOUT],
    )
    assert [kept.whole for kept in talk.parts] == [False]


@pytest.mark.parametrize("rest", [[b"half", b"rest", b"\r\n"], [b"halfrest", b" {2+}\r\n", b"x", b"y\r\n"]])
def test_an_answer_may_come_before_the_end_of_a_command_that_does_not_wait(rest: list[bytes]) -> None:
    script = [GREETING, *LOGIN, ("C", b"c APPEND Nowhere {8+}\r\n" + rest[0]), ("S", b"c NO [TRYCREATE]\r\n")]
    talk = Talk(ImapWatcher).plays([*script, *(("C", piece) for piece in rest[1:]), *LOGOUT])
    assert talk.refused is talk.unseen is None
    assert talk.server == said(script, "C") + b"".join(rest[1:]) + said(LOGOUT, "C")
    assert talk.client == said(script, "S") + said(LOGOUT, "S")
    assert [kept.whole for kept in talk.parts] == [rest[0] == b"halfrest"]


def test_who_is_answered_early_is_not_waited_for() -> None:
    script = [GREETING, ("C", b"c IDLE {3+}\r\n"), ("S", b"c BAD\r\n"), ("C", b"abc\r\n"), *LOGOUT]
    passes(ImapWatcher, script)


def test_a_message_that_breaks_off_is_not_whole() -> None:
    talk = Talk(ImapWatcher).plays([GREETING, ("C", b"x APPEND A {9+}\r\nhalf")])
    talk.watcher.ended()
    assert (talk.parts[0].content, talk.parts[0].whole) == (b"half", False)


def test_answers_may_come_out_of_turn() -> None:
    passes(ImapWatcher, [GREETING, ("C", b"x NOOP\r\ny NOOP\r\n"), ("S", b"y OK\r\nx OK\r\n"), *LOGOUT])


def test_compression_is_refused_here_and_never_within_an_answer() -> None:
    talk = Talk(ImapWatcher).plays(
        [
            GREETING,
            ("C", b"x FETCH 1 BODY[]\r\n"),
            ("S", b"* 1 FETCH (BODY[] {4}\r\nab"),
            ("C", b"y COMPRESS DEFLATE\r\n"),
            ("S", b"cd)\r\nx OK\r\n"),
        ]
    )
    assert b"COMPRESS" not in talk.server
    assert talk.client.endswith(b"abcd)\r\ny NO [CANNOT] Compression is not allowed here\r\nx OK\r\n")


# TLS

ASK = ("C", b"t STARTTLS\r\n")


def test_tls_begins_behind_the_consent_with_its_tag() -> None:
    assert played(ImapWatcher, [GREETING, ASK, ("S", b"* OK wait\r\nt OK Begin\r\n")]).upgraded
    talk = played(ImapWatcher, [GREETING, ("C", b"x NOOP\r\nt STARTTLS\r\n"), ("S", b"x OK\r\nt OK\r\n")])
    assert talk.upgraded
    passes(ImapWatcher, [GREETING, ASK, ("S", b"t BAD\r\n"), *LOGOUT])


@pytest.mark.parametrize(
    "script",
    [
        [GREETING, ("C", b"t STARTTLS\r\nx LOGIN evil x\r\n"), ("S", b"t OK\r\n")],
        [GREETING, ASK, ("C", b"x"), ("S", b"t OK\r\n")],
        [GREETING, ASK, ("S", b"t OK\r\n* injected\r\n")],
    ],
)
def test_plain_bytes_about_the_beginning_of_tls_end_the_conversation(script: Script) -> None:
    talk = Talk(ImapWatcher).plays(script)
    assert "injection" in (talk.refused or "")
    assert not talk.upgraded
    assert b"evil" not in talk.server
    assert b"injected" not in talk.client


def test_inside_tls_the_server_greets_no_more() -> None:
    terms = Terms(secured=True, upgraded=True)
    talk = passes(ImapWatcher, [*LOGIN, *SELECT, *FETCH, ASK, ("S", b"t BAD\r\n"), *LOGOUT], terms)
    assert len(talk.parts) == 3


def test_where_tls_is_required_nothing_else_is_said_in_the_clear() -> None:
    talk = played(
        ImapWatcher,
        [
            GREETING,
            ("C", b"x LOGIN {5}\r\n"),
            ("C", b"y LOGIN {5+}\r\nalice secret\r\nz CAPABILITY\r\n"),
            ("S", b"* CAPABILITY IMAP4rev1 STARTTLS\r\nz OK\r\n"),
            ASK,
            ("S", b"t OK\r\n"),
        ],
        Terms(required=True),
    )
    assert talk.upgraded
    assert talk.server == b"z CAPABILITY\r\nt STARTTLS\r\n"
    assert talk.client.count(b" NO [PRIVACYREQUIRED] Use STARTTLS first\r\n") == 2
    assert Talk(ImapWatcher, Terms(required=True)).says(server=b"* PREAUTH in\r\n").refused is not None


@pytest.mark.parametrize("answer", [b"* OK [CAPABILITY IMAP4rev1] hi\r\n", b"* OK hi\r\n* CAPABILITY IMAP4rev1\r\n"])
def test_an_offer_that_is_missing_where_it_must_be_kept_ends_the_conversation(answer: bytes) -> None:
    talk = Talk(ImapWatcher, strict_offer=True).plays([("S", answer)])
    assert talk.refused is not None


# limits


@pytest.mark.parametrize(
    "client",
    [
        b"x" * MAX_LINE,
        b"".join(b"a%d NOOP\r\n" % n for n in range(MAX_OUTSTANDING + 1)),
        b"x IDLE\r\n" + b"x" * (MAX_AHEAD + 1),
        b"x APPEND a {9999999999+}\r\n",
        b"x SEARCH" + b" {1+}\r\nx" * (MAX_PIECES + 1),
    ],
)
def test_what_is_too_much_is_refused_in_imap(client: bytes) -> None:
    talk = Talk(ImapWatcher).plays([GREETING, ("C", client)])
    assert talk.refused is not None
    assert talk.client.removeprefix(GREETING[1]).startswith(b"* BYE ")


@pytest.mark.parametrize(
    "script",
    [
        [("S", b"220 smtp\r\n")],
        [("S", b"* HELLO\r\n")],
        [GREETING, ("C", b"\0\r\n")],
        [GREETING, ("S", b"junk\r\n")],
        [GREETING, ("S", b"* " + b"x" * MAX_ANSWER)],
        [("S", b"* {3}\r\nOK [CAPABILITY IMAP4rev1] ready.\r\n")],
    ],
)
def test_what_is_no_imap_becomes_opaque_and_nothing_of_it_is_lost(script: Script) -> None:
    talk = Talk(ImapWatcher).plays([*script, ("C", b"more"), ("S", b"more")])
    assert talk.unseen is not None
    assert talk.server == said(script, "C") + b"more"
    assert talk.client == said(script, "S") + b"more"
    assert Talk(ImapWatcher, Terms(required=True)).plays(script).refused is not None


@given(st.data())
def test_mutated_conversations_never_raise(data: st.DataObject) -> None:
    script = [GREETING, *LOGIN, *SELECT, *FETCH, *APPEND]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(script) - 1))
        who, speech = script[at]
        cut = data.draw(st.integers(0, len(speech)))
        junk = data.draw(
            st.sampled_from([b"\r\n", b"\0", b"{3}\r\n", b"{2+}\r\n", b"+ \r\n", b"a1 OK\r\n", b"* BYE\r\n", b'"'])
        )
        script[at] = (who, speech[:cut] + junk + speech[cut + data.draw(st.integers(0, 3)) :])
    talk = Talk(ImapWatcher).plays(script)
    if talk.refused is None and not talk.upgraded:
        assert said(script, "S").startswith(talk.client)
        assert said(script, "C").startswith(talk.server)
