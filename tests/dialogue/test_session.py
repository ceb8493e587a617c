"""Conversations in a whole gateway: how the two connections are joined, and what ends them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sslintercept.dialogue import session
from sslintercept.ftp import control
from sslintercept.gateway import Gateway
from sslintercept.socks.users import Cost, make_line
from sslintercept.testing.gateway import MemoryGateway, ScriptedOrigin, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer


class Story:
    """A client of a door with a fixed target, and the server there, which greets and says what a test says."""

    def __init__(self, loop: Loop, port: int, greeting: bytes, more: str = "") -> None:
        self.loop = loop
        self.port = port
        self.gateway = MemoryGateway(loop, f"[listen:d]\nendpoint = tcp:2121\ntarget = srv.test:{port}\n{more}")
        self.origin: ScriptedOrigin = self.gateway.origin(f"srv.test:{port}", silent)
        self.origin.greeting = greeting
        self.come()

    def come(self) -> None:
        """Another client, which hears the greeting."""
        self.client = self.gateway.client()
        self.loop.pass_time(1)
        assert self.client.take() == self.origin.greeting

    @property
    def server(self) -> Peer:
        return self.origin.last

    def says(self, *, client: bytes = b"", server: bytes = b"") -> bytes:
        """First the one, then the other; what the client has heard."""
        if client:
            self.client.send(client)
            self.gateway.pump()
        if server:
            self.server.send(server)
            self.gateway.pump()
        return self.client.take()


REQUIRE = "[rule:r]\nmatch =\naction = intercept\nstarttls = require\n"
FTP, SMTP, POP3, IMAP = (21, b"220 hi\r\n"), (25, b"220 hi\r\n"), (110, b"+OK hi\r\n"), (143, b"* OK hi\r\n")


# how it begins


@pytest.mark.parametrize(
    ("port", "lines", "command", "answer"),
    [
        (21, 120, b"USER alice\r\n", b"331 password\r\n"),
        (25, 120, b"EHLO me\r\n", b"250 hello\r\n"),
        (2500, 120, b"EHLO me\r\n", b"250 hello\r\n"),
        (21, 4000, b"USER alice\r\n", b"331 password\r\n"),
        (25, 4000, b"EHLO me\r\n", b"250 hello\r\n"),
    ],
)
def test_a_greeting_of_any_length_is_read_whole(
    loop: Loop, port: int, lines: int, command: bytes, answer: bytes
) -> None:
    text = b"".join(b"220-line %04d of a text that goes on for a while\r\n" % number for number in range(lines))
    story = Story(loop, port, text + b"220 ready\r\n")
    assert story.says(client=command, server=answer) == answer
    assert story.server.take() == command
    assert story.gateway.facts[0].stack == "tcp/ftp" if port == 21 else "tcp/smtp"


def test_a_server_that_never_ends_is_relayed_although_its_client_says_nothing(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:d]\nendpoint = tcp:2121\ntarget = srv.test:19\n")
    origin = gateway.origin("srv.test:19", silent)
    origin.greeting = b"!" * 500_000
    client = gateway.client()
    loop.pass_time(1)
    assert client.take() == origin.greeting


def test_a_client_whose_server_takes_long_to_be_reached_has_not_said_too_little(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:d]\nendpoint = tcp:2121\ntarget = srv.test:143\n")
    gateway.origin("srv.test:143", silent).greeting = b"* OK hi\r\n"
    gateway.connector.held = []
    client = gateway.client()
    loop.pass_time(12)
    while gateway.connector.held:
        gateway.connector.held.pop(0)()
        gateway.pump()
    assert client.take() == b"* OK hi\r\n"
    assert gateway.facts[0].error is None


IRC_LIST = b":irc.example CAP * LS :multi-prefix tls\r\n"


@pytest.mark.parametrize("more", ["", REQUIRE])
def test_irc_begins_tls_on_its_port(loop: Loop, more: str) -> None:
    story = Story(loop, 6667, b"", more)
    assert story.says(client=b"CAP LS\r\n", server=IRC_LIST) == IRC_LIST
    assert story.says(client=b"STARTTLS\r\n", server=b":irc.example 670 * :go\r\n").endswith(b"go\r\n")
    assert story.server.take() == b"CAP LS\r\nSTARTTLS\r\n"
    story.server.serve_tls(story.gateway.leaf("srv.test"))
    story.client.start_tls("srv.test")
    story.gateway.pump()
    assert story.client.secure, story.client.fault
    story.says(client=b"PASS secret\r\n")
    assert story.server.take() == b"PASS secret\r\n"


def test_nobody_logs_in_to_irc_in_the_clear_where_tls_is_required(loop: Loop) -> None:
    story = Story(loop, 6667, b"", REQUIRE)
    assert story.says(client=b"PASS secret\r\n").startswith(b"ERROR :")
    assert story.client.ended
    assert not story.origin.peers or b"secret" not in story.server.got


def mysql(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


MYSQL_GREETING = mysql(
    0, b"\x0a8.4.0\0\7\0\0\0abcdefgh\0\xff\xff" + b"\xff\2\0\xff\xdf\x15" + bytes(10) + b"ijklmnopqrst\0"
)
MYSQL_ASKS = mysql(1, b"\xff\xff\0\0" + bytes(28))


def mysql_server(loop: Loop) -> Story:
    """A server that begins TLS behind the request for it."""
    story = Story(loop, 3306, MYSQL_GREETING)
    story.server.serve_tls(story.gateway.leaf("srv.test"))
    story.server.plain_until = MYSQL_ASKS
    return story


@pytest.mark.parametrize("cuts", [[], [36], [36, 38], [20, 36], [3, 300]])
def test_tls_of_mysql_may_come_right_behind_the_request_for_it(loop: Loop, cuts: list[int]) -> None:
    story = mysql_server(loop)
    said = MYSQL_ASKS + story.client.start_tls("srv.test", hello_only=True)
    for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
        story.client.send_below(said[begin:end])
        story.gateway.pump()
    assert story.client.secure, story.client.fault
    assert story.says(client=b"inside", server=b"too") == b"too"
    assert story.server.take() == MYSQL_ASKS + b"inside"


@pytest.mark.parametrize("behind", [MYSQL_ASKS, b"x", b"\x16\x03\x01\0\x05\x02"])
def test_nothing_but_tls_comes_behind_the_request_for_it_in_mysql(loop: Loop, behind: bytes) -> None:
    story = mysql_server(loop)
    story.says(client=MYSQL_ASKS + behind)
    assert story.client.ended
    assert story.server.got == MYSQL_ASKS
    assert "both had agreed" in str(story.gateway.facts[0].error)


# what waits


@pytest.mark.parametrize(
    ("port", "greeting", "command", "more"),
    [
        (*FTP, b"PORT 1\r\n", ""),
        (*SMTP, b"MAIL\r\n", REQUIRE),
        (*POP3, b"PASS\r\n", REQUIRE),
        (*IMAP, b"a COMPRESS\r\n", ""),
    ],
)
def test_a_client_that_says_nothing_but_what_is_refused_is_sent_away(
    loop: Loop, port: int, greeting: bytes, command: bytes, more: str
) -> None:
    story = Story(loop, port, greeting, more)
    answers = story.says(client=command * 50)
    assert answers.count(b"\r\n") == 50
    assert not story.client.ended
    assert story.says(client=command * 100).count(b"\r\n") == 51
    assert story.client.ended
    assert "refused commands in a row" in str(story.gateway.facts[0].error)


def test_a_client_that_listens_to_nothing_is_not_read(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_REFUSED", 1 << 30)
    story = Story(loop, *FTP)
    story.client.reading = False
    for _ in range(40):
        story.client.send(b"PORT 1\r\n" * 5_000)
        story.gateway.pump()
    assert story.client.vc.tcp.read < 500_000
    assert story.client.vc.tcp.queued < 2_000_000
    assert not story.client.vc.tcp.reading
    story.client.reading = True
    story.gateway.pump()
    assert story.client.take() == control.BOUNCE * 200_000


def test_a_client_whose_server_is_full_too_is_read_when_both_have_room(loop: Loop) -> None:
    story = Story(loop, *FTP)
    story.says(client=b"NOOP\r\n", server=b"200 ok\r\n")
    story.client.reading = story.server.reading = False
    for _ in range(4):
        story.client.send(b"NOOP " + b"x" * 4000 + b"\r\n" + b"SITE " + b"y" * 4000 + b"\r\n")
        story.server.send(b"200-" + b"z" * 3000 + b"\r\n" + (b"x" * 4000 + b"\r\n") * 80 + b"200 ok\r\n200 ok\r\n")
        story.gateway.pump()
    for _ in range(80):
        story.client.send(b"NOOP " + b"x" * 4000 + b"\r\n")
    story.gateway.pump()
    assert not story.client.vc.tcp.reading
    story.server.reading = True
    story.gateway.pump()
    assert not story.client.vc.tcp.reading
    story.client.reading = True
    story.gateway.pump()
    assert story.client.vc.tcp.reading
    assert bytes(story.server.got).count(b"NOOP") == 85


# where TLS is required


@pytest.mark.parametrize(
    ("port", "greeting", "client", "server", "secret"),
    [
        (119, b"200 hi\r\n", b"\r\n", b"", b"AUTHINFO USER alice\r\nAUTHINFO PASS secret\r\n"),
        (119, b"200 hi\r\n", b"CAPABILITIES\r\n", b"101 x\r\n.\r\n999 x\r\n", b"AUTHINFO PASS secret\r\n"),
        (4190, b"OK\r\n", b"", b"what\r\n", b'AUTHENTICATE "PLAIN" "secret"\r\n'),
        (*SMTP, b"EHLO me\r\n", b"999 what\r\n", b"AUTH PLAIN secret\r\n"),
        (*POP3, b"\0\r\n", b"", b"PASS secret\r\n"),
        (*IMAP, b"a CAPABILITY\r\n", b"what\r\n", b"b LOGIN alice secret\r\n"),
        (*FTP, b"FEAT\r\n", b"what\r\n", b"PASS secret\r\n"),
    ],
)
def test_what_is_not_understood_is_not_relayed_where_tls_is_required(
    loop: Loop, port: int, greeting: bytes, client: bytes, server: bytes, secret: bytes
) -> None:
    story = Story(loop, port, greeting, REQUIRE)
    story.says(client=client, server=server)
    story.says(client=secret)
    assert b"secret" not in story.server.got
    assert story.client.ended
    assert "TLS is required" in str(story.gateway.facts[0].error)


def test_a_request_to_cancel_is_not_sent_in_the_clear_where_tls_is_required(loop: Loop) -> None:
    story = Story(loop, 5432, b"", REQUIRE)
    story.says(client=b"\0\0\0\x10\x04\xd2\x16\x2esecret!!")
    assert story.client.ended
    assert b"secret" not in story.server.got
    assert story.gateway.facts[0].protocol == "postgresql"


# where an offer of TLS is to be kept

KEEP = REQUIRE.replace("require", "keep")
NNTP = 119, b"200 hi\r\n"
OFFERED = [  # how TLS is offered, and how it is not
    pytest.param(*POP3, b"CAPA\r\n", b"+OK\r\nSTLS\r\n.\r\n", b"-ERR what\r\n", id="pop3"),
    pytest.param(*POP3, b"CAPA\r\n", b"+OK\r\nSTLS\r\n.\r\n", b"+OK\r\nUIDL\r\n.\r\n", id="pop3, without"),
    pytest.param(*FTP, b"FEAT\r\n", b"211-F\r\n AUTH TLS\r\n211 end\r\n", b"500 what\r\n", id="ftp"),
    pytest.param(*FTP, b"FEAT\r\n", b"211-F\r\n AUTH TLS\r\n211 end\r\n", b"211 none\r\n", id="ftp, without"),
    pytest.param(*FTP, b"FEAT\r\n", b"211-F\r\n AUTH TLS\r\n211 end\r\n", b"what\r\n", id="ftp, no reply"),
    pytest.param(*IMAP, b"a CAPABILITY\r\n", b"* CAPABILITY STARTTLS\r\na OK\r\n", b"a BAD what\r\n", id="imap"),
    pytest.param(*IMAP, b"a CAPABILITY\r\n", b"* CAPABILITY STARTTLS\r\na OK\r\n", b"a OK\r\n", id="imap, none"),
    pytest.param(*SMTP, b"EHLO a\r\n", b"250-x\r\n250 STARTTLS\r\n", b"502 what\r\n", id="smtp"),
    pytest.param(*SMTP, b"EHLO a\r\n", b"250-x\r\n250 STARTTLS\r\n", b"what\r\n", id="smtp, no reply"),
    pytest.param(*NNTP, b"CAPABILITIES\r\n", b"101 c\r\nSTARTTLS\r\n.\r\n", b"500 what\r\n", id="nntp"),
    pytest.param(*NNTP, b"CAPABILITIES\r\n", b"101 c\r\nSTARTTLS\r\n.\r\n", b"999 what\r\n", id="nntp, no reply"),
]
"""C{port, greeting, question, offer, none}"""


@pytest.mark.parametrize(("port", "greeting", "question", "offer", "none"), OFFERED)
def test_a_server_that_offered_tls_before_has_to_offer_it_again(
    loop: Loop, port: int, greeting: bytes, question: bytes, offer: bytes, none: bytes
) -> None:
    story = Story(loop, port, greeting, KEEP)
    assert story.says(client=question, server=offer) == offer
    story.come()
    heard = story.says(client=question, server=none)
    assert none.startswith(heard)
    assert heard != none
    assert story.client.ended
    assert "taken the offer out" in str(story.gateway.facts[1].error)


@pytest.mark.parametrize(("port", "greeting", "question", "offer", "none"), OFFERED)
def test_a_server_that_never_offered_tls_may_go_on_without(
    loop: Loop, port: int, greeting: bytes, question: bytes, offer: bytes, none: bytes
) -> None:
    story = Story(loop, port, greeting, KEEP)
    for _ in range(2):
        assert story.says(client=question, server=none) == none
        assert not story.client.ended
        story.come()


@pytest.mark.parametrize(("port", "greeting", "question", "offer", "none"), OFFERED)
def test_an_offer_is_not_forgotten_when_the_settings_are_read_again(
    loop: Loop, port: int, greeting: bytes, question: bytes, offer: bytes, none: bytes
) -> None:
    story = Story(loop, port, greeting, KEEP)
    story.says(client=question, server=offer)
    story.gateway.gateway = Gateway(story.gateway.settings, story.gateway)
    story.come()
    story.says(client=question, server=none)
    assert story.client.ended


def test_an_offer_is_forgotten_in_time(loop: Loop) -> None:
    story = Story(loop, *POP3, KEEP + "[mail]\nremember = 10s\n")
    story.says(client=b"CAPA\r\n", server=b"+OK\r\nSTLS\r\n.\r\n")
    loop.pass_time(11)
    story.come()
    assert story.says(client=b"CAPA\r\n", server=b"-ERR\r\n") == b"-ERR\r\n"


def test_what_is_remembered_of_servers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_OFFERS", 2)
    offers = session.Offers()
    for name in "abac":
        offers.note("smtp", name, 10.0)
    assert [offers.known("smtp", name, 9.0) for name in "abc"] == [True, False, True]


def test_a_server_that_is_logged_in_to_already_offers_no_tls(loop: Loop) -> None:
    story = Story(loop, 143, b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", KEEP)
    story.says(client=b"a NOOP\r\n", server=b"a OK\r\n")
    story.origin.greeting = b"* PREAUTH hi\r\n"
    story.come()
    story.says(client=b"a SELECT INBOX\r\n")
    assert story.server.got == b""
    assert story.client.ended


def pop3(story: Story) -> None:
    story.says(client=b"CAPA\r\n", server=b"+OK\r\nSTLS\r\n.\r\n")
    story.says(client=b"USER a\r\n", server=b"+OK\r\n")
    story.says(client=b"PASS b\r\n", server=b"+OK\r\n")
    story.says(client=b"CAPA\r\n", server=b"+OK\r\nUIDL\r\n.\r\n")


def pop3_with_kerberos(story: Story) -> None:
    story.says(client=b"CAPA\r\n", server=b"+OK\r\nSTLS\r\n.\r\n")
    story.says(client=b"AUTH GSSAPI\r\n", server=b"+ \r\n")
    story.says(client=b"eHg=\r\n", server=b"+OK\r\n")
    story.says(client=b"CAPA\r\n", server=b"-ERR what\r\n")


def imap_with_kerberos(story: Story) -> None:
    story.says(client=b"a CAPABILITY\r\n", server=b"* CAPABILITY IMAP4rev1 STARTTLS AUTH=GSSAPI\r\na OK\r\n")
    story.says(client=b"a AUTHENTICATE GSSAPI\r\n", server=b"+ \r\n")
    story.says(client=b"eHg=\r\n", server=b"a OK [CAPABILITY IMAP4rev1 IDLE] in\r\n")
    story.says(client=b"a CAPABILITY\r\n", server=b"* CAPABILITY IMAP4rev1 IDLE\r\na OK\r\n")


def smtp_with_kerberos(story: Story) -> None:
    story.says(client=b"EHLO a\r\n", server=b"250-x\r\n250 STARTTLS\r\n")
    story.says(client=b"AUTH GSSAPI eHg=\r\n", server=b"235 in\r\n")
    story.says(client=b"EHLO a\r\n", server=b"250-x\r\n250 SIZE\r\n")


def ftp(story: Story) -> None:
    story.says(client=b"FEAT\r\n", server=b"211-F\r\n AUTH TLS\r\n211 end\r\n")
    story.says(client=b"USER a\r\n", server=b"230 in\r\n")
    story.says(client=b"FEAT\r\n", server=b"211-F\r\n SIZE\r\n211 end\r\n")


@pytest.mark.parametrize(
    ("port", "greeting", "talk"),
    [
        (*POP3, pop3),
        (*POP3, pop3_with_kerberos),
        (*IMAP, imap_with_kerberos),
        (*SMTP, smtp_with_kerberos),
        (*FTP, ftp),
    ],
)
def test_whoever_has_logged_in_is_offered_no_tls_any_more(
    loop: Loop, port: int, greeting: bytes, talk: Callable[[Story], None]
) -> None:
    story = Story(loop, port, greeting, KEEP)
    talk(story)
    assert story.gateway.facts[0].error is None
    assert not story.client.ended


# who it is


def test_a_login_to_a_server_does_not_take_the_place_of_a_login_to_us(loop: Loop, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text(make_line("bob", "pw", Cost(2, 1, 1)) + "\n")
    gateway = MemoryGateway(loop, f"[socks]\nusers = {users}\n")
    origin = gateway.origin("pop.test:110", silent)
    origin.greeting = b"+OK hi\r\n"
    client = gateway.client()
    client.send(b"\5\1\2\1\3bob\2pw\5\1\0\3\x08pop.test\0\x6e")
    loop.pass_time(1)
    for command in (b"USER alice\r\n", b"PASS x\r\n"):
        client.send(command)
        gateway.pump()
        origin.last.send(b"+OK\r\n")
        gateway.pump()
    client.close()
    origin.last.close()
    loop.pass_time(3)
    assert (gateway.log[-1]["user"], gateway.log[-1]["login"]) == ("bob", "alice")


# how it ends


GOODBYES = [
    pytest.param(*FTP, b"QUIT", b"221 bye", id="ftp"),
    pytest.param(*SMTP, b"QUIT", b"221 bye", id="smtp"),
    pytest.param(*SMTP, b"QUIT\r", b"221 bye\r", id="smtp, half an end"),
    pytest.param(*POP3, b"QUIT", b"+OK bye", id="pop3"),
    pytest.param(*IMAP, b"a LOGOUT", b"* BYE now", id="imap"),
    pytest.param(*NNTP, b"QUIT", b"205 bye", id="nntp"),
]
"""C{port, greeting, client, server}: last lines that lack their end"""


@pytest.mark.parametrize(("port", "greeting", "client", "server"), GOODBYES)
def test_a_last_line_without_an_end_is_handed_on_too(
    loop: Loop, port: int, greeting: bytes, client: bytes, server: bytes
) -> None:
    story = Story(loop, port, greeting)
    story.client.finish()
    story.says(client=client)
    assert story.server.take() == client
    assert story.server.ended
    story.server.finish()
    assert story.says(server=server) == server
    assert story.client.ended


@pytest.mark.parametrize(("port", "greeting", "client", "server"), GOODBYES)
def test_the_last_words_of_a_server_are_handed_on_where_they_lack_their_end(
    loop: Loop, port: int, greeting: bytes, client: bytes, server: bytes
) -> None:
    story = Story(loop, port, greeting)
    story.says(client=client.strip() + b"\r\n")
    story.server.finish()
    assert story.says(server=server) == server
    assert story.client.ended


def test_what_a_client_said_ahead_reaches_the_server_before_its_end(loop: Loop) -> None:
    story = Story(loop, *SMTP)
    story.client.send(b"EHLO me\r\nAUTH PLAIN AGEAYg==\r\nQUIT")
    story.client.finish()
    story.gateway.pump()
    assert story.server.take() == b"EHLO me\r\nAUTH PLAIN AGEAYg==\r\n"
    assert not story.server.ended
    story.says(server=b"250 hi\r\n235 in\r\n")
    assert story.server.take() == b"QUIT"
    assert story.server.ended


def test_a_client_that_nobody_answers_any_more_is_not_waited_for(loop: Loop) -> None:
    story = Story(loop, *IMAP)
    story.client.send(b"a IDLE\r\nDONE\r\n")
    story.client.finish()
    story.gateway.pump()
    assert not story.server.ended
    story.server.finish()
    loop.pass_time(3)
    assert story.client.ended
    assert story.server.ended


@pytest.mark.parametrize(
    ("port", "greeting", "client"),
    [
        (*FTP, b"PASS secret"),
        (*SMTP, b"AUTH secret"),
        (*POP3, b"PASS secret"),
        (*IMAP, b"a LOGIN b secret"),
        (*NNTP, b"AUTHINFO PASS secret"),
        (5222, b"", b"<auth secret"),
    ],
)
def test_no_last_line_without_an_end_gets_past_what_is_required(
    loop: Loop, port: int, greeting: bytes, client: bytes
) -> None:
    story = Story(loop, port, greeting, REQUIRE)
    story.client.send(b"<stream:stream>" if port == 5222 else b"")
    story.client.finish()
    story.says(client=client)
    assert b"secret" not in story.server.got


def test_a_last_line_that_is_not_understood_is_relayed_with_the_end_behind_it(loop: Loop) -> None:
    story = Story(loop, *FTP)
    story.client.finish()
    assert story.says(client=b"\0what", server=b"what") == b"what"
    assert story.server.take() == b"\0what"
    assert story.server.ended
