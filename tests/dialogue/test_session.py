"""Conversations in a whole gateway: how the two connections are joined, and what ends them."""

from __future__ import annotations

import pytest

from sslintercept.ftp import control
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
