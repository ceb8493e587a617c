"""What is read along in FTP, and what of it is answered or changed here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dialogue.watcher import Part, Terms, Watcher, Wires
from sslintercept.errors import InspectedError
from sslintercept.facts import Address
from sslintercept.ftp.address import write_six
from sslintercept.ftp.control import (
    BOUNCE,
    MAX_LINE,
    MAX_OUTSTANDING,
    MUST_PROTECT,
    MUST_TLS,
    NO_CCC,
    NO_CHANNEL,
    NOT_SERVED,
    FtpWatcher,
)
from sslintercept.testing.talk import Talk
from tests.mail.scripts import Script, passes, played, said


class Transfer:
    """A data connection to come, and what was said of it."""

    def __init__(self) -> None:
        self.protected: bool | None = None
        self.part: Part | None = None
        self.announced = False
        self.good: bool | None = None
        self.piece = False
        self.refused: InspectedError | None = None
        self.undecided = False
        self.decided: Callable[[], object] | None = None

    def carries(self, part: Part | None, protected: bool, piece: bool = False) -> None:
        self.part, self.announced, self.protected, self.piece = part, True, protected, piece

    def open(self, decided: Callable[[], object]) -> bool:
        self.decided = decided
        return self.undecided

    def over(self, good: bool) -> None:
        self.good = good


class Ways:
    """
    Who makes data connections pass in these tests.

    @param ours: what stands in the place of every address; C{None} for nothing.
    """

    def __init__(self, ours: Address | None = None, room: bool = True) -> None:
        self.ours = ours
        self.room = room
        self.transfers: list[Transfer] = []
        self.asked: list[tuple[str, Address | None, int]] = []
        self.closed = False

    def _open(self) -> tuple[Transfer, Address | None] | None:
        if not self.room:
            return None
        self.transfers.append(Transfer())
        return self.transfers[-1], self.ours

    def passive(self, address: Address | None, port: int) -> tuple[Transfer, Address | None] | None:
        self.asked.append(("passive", address, port))
        return self._open()

    def active(self, address: Address) -> tuple[Transfer, Address | None] | None:
        self.asked.append(("active", address, address.port))
        return self._open()

    def close(self) -> None:
        self.closed = True


class Made:
    """Makes watchers; the last one's ways are kept."""

    def __init__(self, ours: Address | None = None, room: bool = True) -> None:
        self._how = ours, room
        self.ways = Ways()

    def __call__(self, wires: Wires, terms: Terms) -> Watcher:
        self.ways = Ways(*self._how)
        return FtpWatcher(wires, terms, self.ways)


GREETING: Script = [("S", b"220-Welcome\r\n not 220 yet\r\n220 (vsFTPd 3.0.3)\r\n")]
FEAT: Script = [("C", b"FEAT\r\n"), ("S", b"211-Features:\r\n AUTH TLS\r\n EPSV\r\n211 End\r\n")]
LOGIN: Script = [
    ("C", b"USER alice\r\n"),
    ("S", b"331 Password\r\n"),
    ("C", b"PASS secret\r\n"),
    ("S", b"230 In\r\n"),
]
PASV: Script = [("C", b"PASV\r\n"), ("S", b"227 Entering Passive Mode (192,0,2,7,4,1).\r\n")]
EPSV: Script = [("C", b"EPSV\r\n"), ("S", b"229 Entering Extended Passive Mode (|||6446|)\r\n")]
DOWN: Script = [("C", b"RETR a b.txt\r\n"), ("S", b"150 Here it comes\r\n"), ("S", b"226 Done\r\n")]
QUIT: Script = [("C", b"QUIT\r\n"), ("S", b"221 Bye\r\n")]
OURS = Address("10.0.0.1", 513)


def test_files_are_announced_to_their_data_connections_with_the_user() -> None:
    made = Made()
    upload: Script = [("C", b"STOR up\xff\r\n"), ("S", b"125 Go\r\n"), ("S", b"451 Disk full\r\n")]
    listing: Script = [("C", b"MLSD\r\n"), ("S", b"150 Here\r\n"), ("S", b"226 Done\r\n")]
    talk = passes(made, [*GREETING, *FEAT, *LOGIN, *PASV, *DOWN, *EPSV, *upload, *PASV, *listing, *QUIT])
    assert talk.users == ["alice"]
    assert talk.offers == [True]
    assert made.ways.asked == [
        ("passive", ("192.0.2.7", 1025), 1025),
        ("passive", None, 6446),
        ("passive", ("192.0.2.7", 1025), 1025),
    ]
    assert [(one.part, one.announced, one.good) for one in made.ways.transfers] == [
        (("ftp", "file", "a b.txt", False, "alice", "", ()), True, True),
        (("ftp", "file", "up\N{REPLACEMENT CHARACTER}", True, "alice", "", ()), True, False),
        (None, True, True),
    ]


def test_addresses_are_replaced_by_ours_where_the_client_cannot_go_there() -> None:
    made = Made(OURS)
    active: Script = [("C", b"PORT 192,0,2,1,4,2\r\n"), ("S", b"200 ok\r\n")]
    extended: Script = [("C", b"EPRT |1|192.0.2.1|1026|\r\n"), ("S", b"200 ok\r\n")]
    talk = played(made, [*GREETING, *LOGIN, *PASV, *EPSV, *active, *DOWN, *extended])
    assert b"227 Entering Passive Mode (10,0,0,1,2,1).\r\n" in talk.client
    assert b"229 Entering Extended Passive Mode (|||513|)\r\n" in talk.client
    assert b"PORT 10,0,0,1,2,1\r\n" in talk.server
    assert b"EPRT |1|10.0.0.1|513|\r\n" in talk.server
    assert made.ways.asked[-1] == ("active", ("192.0.2.1", 1026), 1026)
    assert made.ways.transfers[2].part == ("ftp", "file", "a b.txt", False, "alice", "", ())


def test_where_ours_is_of_ipv6_the_server_is_told_so_and_pasv_has_no_words_for_it() -> None:
    made = Made(Address("2001:db8::1", 513))
    talk = played(made, [*GREETING, ("C", b"PORT 192,0,2,1,4,2\r\n"), ("S", b"200 ok\r\n"), *PASV])
    assert b"EPRT |2|2001:db8::1|513|\r\n" in talk.server
    assert talk.client.endswith(NO_CHANNEL)
    assert [one.good for one in made.ways.transfers] == [None, False]


def test_what_there_is_no_way_for_is_answered_here() -> None:
    talk = played(Made(room=False), [*GREETING, *PASV, ("C", b"PORT 192,0,2,1,4,2\r\n"), ("C", b"EPRT x\r\n")])
    assert talk.client.endswith(NO_CHANNEL + BOUNCE + BOUNCE)
    assert talk.server == b"PASV\r\n"


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"PASV", b"227 somewhere\r\n"),
        (b"PASV", b"227 Entering Passive Mode (0010,0,0,1,0,22)\r\n"),
        (b"PASV", b"227-Entering Passive Mode (192,0,2,8,4,1)\r\n227 ok (192,0,2,7,4,1)\r\n"),
        (b"PASV", b"229 Entering Extended Passive Mode (|||22|)\r\n"),
        (b"PASV", b"228 Entering Long Passive Mode (4,4,192,0,2,8,2,0,22)\r\n"),
        (b"EPSV", b"229 Entering Extended Passive Mode (|1|192.0.2.8|22|)\r\n"),
        (b"EPSV", b"229-(|||22|)\r\n229 (|||23|)\r\n"),
        (b"EPSV", b"227 ok (192,0,2,8,4,1)\r\n"),
    ],
)
def test_an_address_that_can_be_read_in_two_ways_does_not_reach_the_client(command: bytes, reply: bytes) -> None:
    made = Made()
    talk = played(made, [*GREETING, ("C", command + b"\r\n"), ("S", reply), *QUIT])
    assert talk.client == said(GREETING, "S") + NO_CHANNEL + said(QUIT, "S")
    assert made.ways.asked == []


@pytest.mark.parametrize(
    ("command", "reply", "canonical"),
    [
        (b"PASV", b"227 =192,0,2,7,4,1\r\n", b"227 Entering Passive Mode (192,0,2,7,4,1).\r\n"),
        (b"PASV", b"227 (010,0,002,7,04,1) or (1,2,3,4,5,6)\r\n", b"227 Entering Passive Mode (10,0,2,7,4,1).\r\n"),
        (b"EPSV", b"229 (!!!0022!) (|||23|)\n", b"229 Entering Extended Passive Mode (|||22|)\r\n"),
    ],
)
def test_an_address_is_written_anew(command: bytes, reply: bytes, canonical: bytes) -> None:
    talk = played(Made(), [*GREETING, ("C", command + b"\r\n"), ("S", reply), *QUIT])
    assert talk.client == said(GREETING, "S") + canonical + said(QUIT, "S")


def test_a_refusal_of_an_address_is_handed_on_as_it_is() -> None:
    made = Made(OURS)
    passes(
        made,
        [
            *GREETING,
            ("C", b"PASV\r\n"),
            ("S", b"530-Please\r\n530 log in\r\n"),
            ("C", b"EPSV\r\n"),
            ("S", b"500 no\r\n"),
        ],
    )
    assert made.ways.asked == []


def test_an_address_that_nobody_asked_for_makes_the_conversation_opaque() -> None:
    talk = Talk(Made()).plays([*GREETING, ("C", b"NOOP\r\n"), ("S", b"227 ok (192,0,2,8,4,1)\r\n")])
    assert talk.unseen is not None


@pytest.mark.parametrize("command", [b"LPRT 4,4,10,0,0,1,2,0,22", b"lpsv", b"\xff\xf1LPRT 6"])
def test_addresses_of_another_form_are_not_served(command: bytes) -> None:
    talk = played(Made(), [*GREETING, ("C", command + b"\r\n")])
    assert talk.client.endswith(NOT_SERVED)
    assert talk.server == b""


@pytest.mark.parametrize(
    "command", [b"\xff\xf1PORT 1", b"P\xff\xfb\x01ORT 1", b"\xff\xf4\xff\xf2 PORT 1", b"PORT\xff\xf9 1"]
)
def test_a_command_is_read_without_what_telnet_puts_in_it(command: bytes) -> None:
    talk = played(Made(room=False), [*GREETING, ("C", command + b"\r\n")])
    assert talk.client.endswith(BOUNCE)
    assert talk.server == b""


def test_a_doubled_iac_is_a_byte_of_a_name() -> None:
    made = Made()
    passes(made, [*GREETING, *LOGIN, *PASV, ("C", b"RETR \xff\xff\xff\xf1x\r\n"), ("S", b"150 go\r\n226 ok\r\n")])
    assert made.ways.transfers[0].part == ("ftp", "file", "\N{REPLACEMENT CHARACTER}x", False, "alice", "", ())


def test_a_command_that_ends_twice_is_refused() -> None:
    talk = Talk(Made()).plays([*GREETING, ("C", b"NOOP\rPORT 10,0,0,1,0,22\r\n")])
    assert talk.refused == "a command with a bare CR"
    assert talk.server == b""


def test_a_reply_may_end_with_the_bare_code() -> None:
    passes(
        Made(),
        [
            *GREETING,
            ("C", b"SYST\r\n"),
            ("S", b"215-UNIX\r\n215\r\n"),
            ("C", b"HELP\r\n"),
            ("S", b"214-x\n214\n"),
            *QUIT,
        ],
    )


def test_a_refused_port_carries_nothing() -> None:
    made = Made()
    refused: Script = [("C", b"PORT 192,0,2,1,4,2\r\n"), ("S", b"500 no\r\n"), ("C", b"LIST\r\n"), ("S", b"425 no\r\n")]
    passes(made, [*GREETING, *refused])
    assert not made.ways.transfers[0].announced


def test_tls_begins_behind_consent() -> None:
    for argument in (b"TLS", b"tls-c", b"SSL", b"TLS "):
        talk = Talk(Made()).plays([*GREETING, *FEAT, ("C", b"AUTH " + argument + b"\r\n")])
        assert not talk.upgraded
        talk.says(server=b"234 Proceed\r\n")
        assert talk.upgraded
        assert talk.client.endswith(b"234 Proceed\r\n")


def test_a_refusal_of_tls_leaves_everything_in_the_clear() -> None:
    talk = passes(Made(), [*GREETING, ("C", b"AUTH TLS\r\n"), ("S", b"502 no\r\n"), *LOGIN])
    assert (talk.users, talk.offers) == (["alice"], [False])


BEGUN: Script = [*GREETING, *LOGIN, *PASV, ("C", b"RETR x\r\n"), ("S", b"150 Here it comes\r\n")]


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        ([("C", b"STAT\r\n"), ("S", b"211-Status\r\n 10 %\r\n211 end\r\n"), ("S", b"226 Done\r\n")], True),
        ([("C", b"STAT\r\n"), ("S", b"213 10 %\r\n"), ("S", b"426 Broken\r\n")], False),
        ([("C", b"STAT\r\n"), ("S", b"200 ok\r\n"), ("S", b"426 Broken\r\n")], False),
        ([("C", b"STAT\r\n"), ("S", b"502 what\r\n"), ("S", b"226 Done\r\n")], True),
        ([("C", b"STAT\r\n"), ("S", b"226 Done\r\n"), ("S", b"211 idle\r\n")], True),
        ([("C", b"STAT\r\nSTAT\r\n"), ("S", b"211 10 %\r\n"), ("S", b"211 20 %\r\n"), ("S", b"451 no\r\n")], False),
        ([("C", b"STAT\r\n"), ("S", b"551 Broken\r\n"), ("S", b"211 idle\r\n")], False),
        ([("C", b"ABOR\r\n"), ("S", b"426 Broken\r\n"), ("S", b"226 Aborted\r\n")], False),
        ([("C", b"ABOR\r\n"), ("S", b"226 Done\r\n"), ("S", b"225 Nothing to abort\r\n")], False),
        ([("S", b"200 Done in an unusual way\r\n")], True),
    ],
)
def test_what_is_asked_during_a_transfer_does_not_end_it(more: Script, whole: bool) -> None:
    made = Made()
    passes(made, [*BEGUN, *more, ("C", b"NOOP\r\n"), ("S", b"200 ok\r\n"), *QUIT])
    assert made.ways.transfers[0].good is whole


def test_our_answers_during_a_transfer_wait_for_its_end() -> None:
    asked: Script = [("C", b"PORT 1\r\nSTAT\r\n"), ("S", b"211 10 %\r\n"), ("S", b"226 Done\r\n")]
    talk = played(Made(room=False), [*GREETING, *LOGIN, ("C", b"RETR x\r\n"), ("S", b"150 go\r\n"), *asked])
    assert talk.client.endswith(b"150 go\r\n211 10 %\r\n226 Done\r\n" + BOUNCE)


def test_a_transfer_that_was_refused_leaves_its_data_connection_to_the_next() -> None:
    made = Made()
    refused: Script = [("C", b"RETR nothing\r\n"), ("S", b"550 No such file\r\n")]
    passes(made, [*GREETING, *LOGIN, *PASV, *refused, *DOWN, *QUIT])
    (transfer,) = made.ways.transfers
    assert transfer.part is not None
    assert (transfer.part.name, transfer.good) == ("a b.txt", True)


def test_an_address_takes_the_place_of_one_that_was_not_used() -> None:
    made = Made()
    passes(made, [*GREETING, *LOGIN, *PASV, *EPSV, *DOWN])
    assert [(one.announced, one.good) for one in made.ways.transfers] == [(False, False), (True, True)]


def test_other_mechanisms_are_the_servers_business() -> None:
    talk = passes(Made(), [*GREETING, ("C", b"AUTH GSSAPI\r\n"), ("S", b"504 no\r\n")])
    assert not talk.upgraded


@pytest.mark.parametrize(
    "script",
    [
        [*GREETING, ("C", b"AUTH TLS\r\nUSER eve\r\n")],
        [*GREETING, ("C", b"AUTH TLS\r\n"), ("C", b"USER eve\r\n")],
        [*GREETING, ("C", b"AUTH TLS\r\n"), ("S", b"234 ok\r\n230 in\r\n")],
    ],
)
def test_nothing_passes_in_the_clear_behind_the_request_for_tls(script: Script) -> None:
    talk = Talk(Made()).plays(script)
    assert talk.refused is not None
    assert "injection" in talk.refused
    assert b"eve" not in talk.server
    assert b"230" not in talk.client


def test_an_offer_that_is_missing_can_end_the_conversation() -> None:
    features: Script = [("C", b"FEAT\r\n"), ("S", b"211-Features:\r\n EPSV\r\n211 End\r\n")]
    talk = Talk(Made(), strict_offer=True).plays([*GREETING, *features, *LOGIN])
    assert talk.refused == "the offer of TLS is missing"
    assert b"USER" not in talk.server


def test_inside_tls_a_conversation_goes_on_without_a_greeting_and_does_not_go_back() -> None:
    made = Made()
    protect: Script = [("C", b"PBSZ 0\r\n"), ("S", b"200 ok\r\n"), ("C", b"PROT P\r\n"), ("S", b"200 ok\r\n")]
    talk = played(made, [*LOGIN, *protect, *PASV, *DOWN, ("C", b"CCC\r\n")], Terms(secured=True, upgraded=True))
    assert talk.client.endswith(NO_CCC)
    assert b"CCC" not in talk.server
    assert made.ways.transfers[0].protected is True
    again = [*LOGIN, *protect, ("C", b"PROT C\r\n"), ("S", b"200 ok\r\n"), *PASV, *DOWN]
    passes(made, again, Terms(secured=True, upgraded=True))
    assert made.ways.transfers[0].protected is False


PROTECT: Script = [("C", b"PROT P\r\n"), ("S", b"200 ok\r\n")]
UNPROTECT: Script = [("C", b"PROT C\r\n"), ("S", b"200 ok\r\n")]
REFUSED: Script = [("C", b"PROT P\r\n"), ("S", b"536 no\r\n")]


@pytest.mark.parametrize(
    ("script", "protected"),
    [
        ([*PASV, *PROTECT, *DOWN], True),
        ([*PROTECT, *PASV, *UNPROTECT, *DOWN], False),
        ([*PASV, *REFUSED, *DOWN], False),
        ([*PROTECT, *PASV, ("C", b"REIN\r\n"), ("S", b"220 ok\r\n"), *DOWN], False),
        ([("C", b"PASV\r\nPROT P\r\nRETR x\r\n"), PASV[1], PROTECT[1], *DOWN[1:]], True),
        ([("C", b"PASV\r\nPROT P\r\nRETR x\r\n"), PASV[1], REFUSED[1], *DOWN[1:]], False),
    ],
)
def test_what_counts_is_the_protection_when_the_server_gets_to_the_command(script: Script, protected: bool) -> None:
    made = Made()
    passes(made, [*LOGIN, *script, *QUIT], Terms(secured=True, upgraded=True))
    (transfer,) = made.ways.transfers
    assert (transfer.protected, transfer.good) == (protected, True)


def test_where_tls_is_a_must_nothing_else_is_said_in_the_clear() -> None:
    talk = played(Made(), [*GREETING, *FEAT, ("C", b"USER alice\r\n"), ("C", b"PASS s\r\n")], Terms(required=True))
    assert talk.client.endswith(MUST_TLS * 2)
    assert talk.server == b"FEAT\r\n"
    begun = Talk(Made(), Terms(required=True)).plays([*GREETING, ("C", b"AUTH TLS\r\n"), ("S", b"234 ok\r\n")])
    assert begun.upgraded


def test_where_tls_is_a_must_files_are_not_sent_in_the_clear_either() -> None:
    terms = Terms(secured=True, upgraded=True, required=True)
    asked: Script = [*LOGIN, *PASV, ("C", b"RETR x\r\n"), ("C", b"NLST\r\n")]
    talk = played(Made(), asked, terms)
    assert talk.client.endswith(MUST_PROTECT * 2)
    assert b"RETR" not in talk.server
    passes(Made(), [*LOGIN, *PROTECT, *PASV, *DOWN], terms)
    uncertain: Script = [*LOGIN, ("C", b"PASV\r\nPROT P\r\nRETR x\r\n"), PASV[1], REFUSED[1]]
    talk = played(Made(), uncertain, terms)
    assert talk.client.endswith(MUST_PROTECT)
    assert b"RETR" not in talk.server


def test_our_answers_wait_for_their_turn() -> None:
    terms = Terms(secured=True, upgraded=True)
    talk = played(Made(), [("C", b"NOOP\r\nCCC\r\nNOOP\r\n"), ("S", b"200 a\r\n200 b\r\n")], terms)
    assert talk.client == b"200 a\r\n" + NO_CCC + b"200 b\r\n"


def test_a_new_login_forgets_the_old_one() -> None:
    made = Made()
    passes(made, [*GREETING, *LOGIN, ("C", b"REIN\r\n"), ("S", b"220 ok\r\n"), *PASV, *DOWN])
    found = made.ways.transfers[0].part
    assert found is not None
    assert found.user is None


def test_an_abort_may_come_behind_a_telnet_signal() -> None:
    passes(Made(), [*GREETING, ("C", b"\xff\xf4\xff\xf2ABOR\r\n"), ("S", b"226 ok\r\n"), *QUIT])


def test_a_timeout_of_the_server_is_handed_on() -> None:
    passes(Made(), [*GREETING, ("S", b"421 Timeout\r\n")])


@pytest.mark.parametrize(
    "script",
    [
        [("S", b"+OK pop\r\n")],
        [*GREETING, ("S", b"200 nobody asked\r\n")],
        [*GREETING, ("C", b"\0\r\n")],
        [*GREETING, ("C", b"NOOP\r\n"), ("S", b"ok\r\n")],
    ],
)
def test_what_is_no_ftp_becomes_opaque_and_nothing_of_it_is_lost(script: Script) -> None:
    made = Made()
    talk = Talk(made).plays([*script, ("C", b"more"), ("S", b"more")])
    assert talk.unseen is not None
    assert talk.server == said(script, "C") + b"more"
    assert talk.client == said(script, "S") + b"more"
    assert made.ways.closed
    assert Talk(Made(), Terms(required=True)).plays(script).refused is not None


@pytest.mark.parametrize(
    "script",
    [
        [*GREETING, ("C", b"x" * MAX_LINE + b"\r\n")],
        [*GREETING, ("S", b"x" * MAX_LINE + b"\r\n")],
        [*GREETING, ("C", b"NOOP\r\n" * (MAX_OUTSTANDING + 1))],
    ],
)
def test_what_is_too_long_or_too_much_is_refused(script: Script) -> None:
    talk = Talk(Made()).plays(script)
    assert talk.refused is not None


def test_what_is_under_way_when_the_conversation_ends_is_not_whole() -> None:
    made = Made()
    talk = Talk(made).plays([*GREETING, *LOGIN, *PASV, ("C", b"RETR x\r\n")])
    talk.watcher.ended()
    assert made.ways.transfers[0].good is False
    assert made.ways.closed
    talk.watcher.from_client(b"NOOP\r\n")
    talk.watcher.from_server(b"226 ok\r\n")
    assert talk.server.endswith(b"RETR x\r\n")


@given(st.data())
def test_mutated_conversations_never_raise(data: st.DataObject) -> None:
    script = [*GREETING, *FEAT, *LOGIN, *DOWN, *DOWN, ("C", b"AUTH TLS\r\n"), ("S", b"500 no\r\n"), *QUIT]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(script) - 1))
        who, speech = script[at]
        cut = data.draw(st.integers(0, len(speech)))
        junk = data.draw(st.sampled_from([b"\r\n", b"\n", b"\0", b"AUTH TLS\r\n", b"234 ok\r\n", b"220-", b"STAT\r\n"]))
        script[at] = (who, speech[:cut] + junk + speech[cut + data.draw(st.integers(0, 3)) :])
    talk = Talk(Made()).plays(script)
    if talk.refused is None and not talk.upgraded:
        assert said(script, "S").startswith(talk.client)
        assert said(script, "C").startswith(talk.server)


@given(st.data())
def test_no_address_reaches_the_client_but_as_it_was_understood(data: st.DataObject) -> None:
    replies = [b"227 ok (192,0,2,7,4,1)\r\n", b"229 ok (|||6446|)\r\n"]
    reply = data.draw(st.sampled_from(replies))
    for _ in range(data.draw(st.integers(0, 3))):
        cut = data.draw(st.integers(0, len(reply)))
        reply = (
            reply[:cut]
            + data.draw(st.sampled_from([b"1", b",", b"|", b"-", b"\r\n", b"227", b"(", b" "]))
            + reply[cut:]
        )
    made = Made()
    command = data.draw(st.sampled_from([b"PASV\r\n", b"EPSV\r\n"]))
    talk = Talk(made).plays([*GREETING, ("C", command), ("S", reply)])
    shown = talk.client.removeprefix(said(GREETING, "S"))
    if talk.unseen is None and made.ways.asked:
        ((_, address, port),) = made.ways.asked
        written = write_six(address) if address is not None else b"|||%d|" % port
        assert written in shown
        assert shown.count(b"\n") == 1
