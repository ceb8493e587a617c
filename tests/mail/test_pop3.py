"""What is read along in POP3."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dialogue.watcher import Terms
from sslintercept.mail.pop3 import MAX_ANSWER, MAX_AUTH, MAX_COMMAND, MAX_OUTSTANDING, Dotted, Pop3Watcher
from sslintercept.testing.talk import Talk
from tests.mail.scripts import Script, passes, played, said

GREETING = ("S", b"+OK Dovecot ready.\r\n")
CAPA: Script = [("C", b"CAPA\r\n"), ("S", b"+OK\r\nCAPA\r\nTOP\r\nSTLS\r\nUSER\r\n.\r\n")]
LOGIN: Script = [
    ("C", b"USER alice\r\n"),
    ("S", b"+OK\r\n"),
    ("C", b"PASS secret word\r\n"),
    ("S", b"+OK Logged in.\r\n"),
]
QUIT: Script = [("C", b"QUIT\r\n"), ("S", b"+OK Bye\r\n")]
FETCH: Script = [
    ("C", b"STAT\r\n"),
    ("S", b"+OK 2 320\r\n"),
    ("C", b"LIST\r\n"),
    ("S", b"+OK 2 messages\r\n1 120\r\n2 200\r\n.\r\n"),
    ("C", b"LIST 1\r\n"),
    ("S", b"+OK 1 120\r\n"),
    ("C", b"RETR 1\r\n"),
    ("S", b"+OK 120 octets\r\nSubject: x\r\n\r\n..dot\r\nlast\r\n.\r\n"),
    ("C", b"TOP 2 0\r\n"),
    ("S", b"+OK\r\nSubject: y\r\n\r\n.\r\n"),
    ("C", b"RETR 9\r\n"),
    ("S", b"-ERR no such message\r\n"),
]


def test_messages_are_shown_with_who_fetched_them() -> None:
    talk = passes(Pop3Watcher, [GREETING, *CAPA, *LOGIN, *FETCH, *QUIT])
    assert [(kept.part, kept.content, kept.whole) for kept in talk.parts] == [
        (("pop3", "message", "1", False, "alice", "", ()), b"Subject: x\r\n\r\n.dot\r\nlast\r\n", True),
        (("pop3", "message", "2 top", False, "alice", "", ()), b"Subject: y\r\n\r\n", False),
    ]
    assert talk.users == ["alice"]
    assert talk.offers == [True]


def test_languages_are_listed_over_several_lines_and_chosen_in_one() -> None:
    listed: Script = [("C", b"LANG\r\n"), ("S", b"+OK Languages\r\nen English\r\n..\r\n.\r\n")]
    chosen: Script = [("C", b"LANG en\r\nUTF8\r\n"), ("S", b"+OK en\r\n+OK UTF8\r\n")]
    passes(Pop3Watcher, [GREETING, *listed, *chosen, *FETCH, *QUIT])


def test_commands_may_be_pipelined() -> None:
    talk = passes(
        Pop3Watcher,
        [
            GREETING,
            ("C", b"USER a\r\nPASS p\r\nLIST\r\nRETR 1\r\nRETR 2\r\nQUIT\r\n"),
            ("S", b"+OK\r\n+OK\r\n+OK\r\n1 3\r\n.\r\n+OK\r\na\r\n.\r\n+OK\r\n.\r\n+OK\r\n"),
        ],
    )
    assert [kept.content for kept in talk.parts] == [b"a\r\n", b""]


@pytest.mark.parametrize(
    ("steps", "user"),
    [
        ([("C", b"APOP bob 0123\r\n"), ("S", b"+OK\r\n")], ["bob"]),
        ([("C", b"AUTH PLAIN " + b64encode(b"\0carol\0p") + b"\r\n"), ("S", b"+OK\r\n")], ["carol"]),
        (
            [("C", b"AUTH PLAIN\r\n"), ("S", b"+ \r\n"), ("C", b64encode(b"\0STLS\0p") + b"\r\n"), ("S", b"+OK\r\n")],
            ["STLS"],
        ),
        ([("C", b"USER x\r\nPASS y\r\n"), ("S", b"+OK\r\n-ERR [AUTH] no\r\n")], []),
        ([("C", b"AUTH\r\n"), ("S", b"+OK\r\nPLAIN\r\n.\r\n")], []),
    ],
)
def test_every_way_to_log_in_names_the_user_once_the_server_agreed(steps: Script, user: list[str]) -> None:
    assert passes(Pop3Watcher, [GREETING, *steps, *QUIT]).users == user


def test_a_message_that_breaks_off_is_not_whole() -> None:
    talk = Talk(Pop3Watcher).plays([GREETING, *LOGIN, ("C", b"RETR 1\r\n"), ("S", b"+OK\r\nhalf")])
    talk.watcher.ended()
    assert (talk.parts[0].content, talk.parts[0].whole) == (b"half", False)


# TLS

ASK = ("C", b"STLS\r\n")


def test_tls_begins_behind_the_consent() -> None:
    assert played(Pop3Watcher, [GREETING, *CAPA, ASK, ("S", b"+OK Begin TLS\r\n")]).upgraded
    assert played(Pop3Watcher, [GREETING, ("C", b"CAPA\r\nSTLS\r\n"), CAPA[1], ("S", b"+OK\r\n")]).upgraded
    passes(Pop3Watcher, [GREETING, ASK, ("S", b"-ERR not now\r\n"), *QUIT])


@pytest.mark.parametrize(
    "script",
    [
        [GREETING, ("C", b"STLS\r\nUSER evil\r\n"), ("S", b"+OK\r\n")],
        [GREETING, ASK, ("C", b"U"), ("S", b"+OK\r\n")],
        [GREETING, ASK, ("S", b"+OK\r\n+OK injected\r\n")],
    ],
)
def test_plain_bytes_about_the_beginning_of_tls_end_the_conversation(script: Script) -> None:
    talk = Talk(Pop3Watcher).plays(script)
    assert "injection" in (talk.refused or "")
    assert not talk.upgraded
    assert b"evil" not in talk.server
    assert b"injected" not in talk.client


def test_inside_tls_the_server_greets_no_more() -> None:
    talk = passes(Pop3Watcher, [*LOGIN, ASK, ("S", b"-ERR\r\n"), *FETCH, *QUIT], Terms(secured=True, upgraded=True))
    assert len(talk.parts) == 2


def test_where_tls_is_required_nothing_else_is_said_in_the_clear() -> None:
    talk = played(
        Pop3Watcher,
        [GREETING, ("C", b"CAPA\r\nUSER alice\r\nPASS secret\r\nSTLS\r\n"), CAPA[1], ("S", b"+OK Begin\r\n")],
        Terms(required=True),
    )
    assert talk.upgraded
    assert talk.server == b"CAPA\r\nSTLS\r\n"
    assert talk.client == GREETING[1] + CAPA[1][1] + b"-ERR [SYS/PERM] Use STLS first\r\n" * 2 + b"+OK Begin\r\n"


def test_an_offer_that_is_missing_where_it_must_be_kept_ends_the_conversation() -> None:
    script = [GREETING, ("C", b"CAPA\r\n"), ("S", b"+OK\r\nUSER\r\n.\r\n+OK\r\n")]
    talk = Talk(Pop3Watcher, strict_offer=True).plays(script)
    assert talk.refused is not None


# limits


@pytest.mark.parametrize(
    "client", [b"NOOP " + b"x" * MAX_COMMAND + b"\r\n", b"x" * MAX_AUTH, b"NOOP\r\n" * (MAX_OUTSTANDING + 1)]
)
def test_what_is_too_much_is_refused_in_pop3(client: bytes) -> None:
    talk = Talk(Pop3Watcher).plays([GREETING, ("C", client)])
    assert talk.refused is not None
    assert talk.client.removeprefix(GREETING[1]).startswith(b"-ERR ")


def test_an_answer_without_an_end_is_refused_but_a_message_may_have_long_lines() -> None:
    assert Talk(Pop3Watcher).plays([("S", b"+OK " + b"x" * MAX_ANSWER)]).refused is not None
    assert Talk(Pop3Watcher).plays([GREETING, ("C", b"NOOP\r\n"), ("S", b"+OK\r\n" + b"x" * MAX_ANSWER)]).refused
    line = b"x" * 4 * MAX_ANSWER
    talk = Talk(Pop3Watcher).plays([GREETING, ("C", b"RETR 1\r\n"), ("S", b"+OK\r\n" + line + b"\r\n.\r\n")])
    assert talk.parts[0].content == line + b"\r\n"


@pytest.mark.parametrize(
    "script", [[("S", b"220 smtp\r\n")], [GREETING, ("S", b"+OK nobody asked\r\n")], [GREETING, ("C", b"\0\r\n")]]
)
def test_what_is_no_pop3_becomes_opaque_and_nothing_of_it_is_lost(script: Script) -> None:
    talk = Talk(Pop3Watcher).plays([*script, ("C", b"more"), ("S", b"more")])
    assert talk.unseen is not None
    assert talk.server == said(script, "C") + b"more"
    assert talk.client == said(script, "S") + b"more"
    assert Talk(Pop3Watcher, Terms(required=True)).plays(script).refused is not None


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\r\n."]), max_size=12), st.data())
def test_dots_are_taken_off_however_the_answer_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    body = b"".join(pieces)
    lines = (body + b"\r\n").split(b"\r\n")[:-1]
    stuffed = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\nrest"
    dotted, got, at = Dotted(), b"", 0
    while not dotted.done:
        piece = stuffed[at : at + data.draw(st.integers(1, 5))]
        content, taken = dotted.feed(piece)
        got += content
        at += taken
    assert got == body + b"\r\n"
    assert stuffed[at:] == b"rest"


@given(st.data())
def test_mutated_conversations_never_raise(data: st.DataObject) -> None:
    script = [GREETING, *CAPA, *LOGIN, *FETCH]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(script) - 1))
        who, speech = script[at]
        cut = data.draw(st.integers(0, len(speech)))
        junk = data.draw(st.sampled_from([b"\r\n", b"\n", b"\0", b".\r\n", b"STLS\r\n", b"+OK\r\n", b"-ERR\r\n"]))
        script[at] = (who, speech[:cut] + junk + speech[cut + data.draw(st.integers(0, 3)) :])
    talk = Talk(Pop3Watcher).plays(script)
    if talk.refused is None and not talk.upgraded:
        assert said(script, "S").startswith(talk.client)
