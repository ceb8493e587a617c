"""
STARTTLS of protocols that nobody watches more closely, as a table, and the one watcher that a row of it drives.

A row says how the two directions are cut into messages and what a message means (L{sslintercept.dialogue.judged}); the
watcher does the rest, alike for all: it finds the reply that belongs to the request for TLS, lets nothing pass behind
either of them in the clear (L{sslintercept.dialogue.gate}), ends what may only be said inside TLS, and hands on every
byte as it came. Once TLS can't come any more it looks at nothing.

1.5 us a line, 5 us a message of LDAP, 13 us an element of XMPP; 0.1 us a piece once it looks at nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

from sslintercept.dialogue import binary, framing, textual
from sslintercept.dialogue.framing import Broken, Splitter
from sslintercept.dialogue.gate import Gate
from sslintercept.dialogue.judged import GREETING, Act, Heard, JudgeClient, JudgeServer, Next, Said, Turn
from sslintercept.dialogue.lines import Lines, LineTooLong
from sslintercept.dialogue.watcher import MakeWatcher, Terms, Watcher, Wires

MAX_TURNS: Final = 4096
"""Commands that wait for a reply at the same time."""
NNTP_LINE: Final = 64 * 1024
"""Bytes of a line; overviews with long lists of references are the longest."""
IRC_LINE: Final = 16 * 1024
"""Bytes of a message with its tags."""


class Upgrade(NamedTuple):
    """How TLS begins in the middle of a protocol."""

    name: str
    command: str
    """by which the client asks, in words"""
    answer: str
    """by which the server agrees, in words"""
    source: str
    client: Callable[[], Splitter]
    """cuts what the client says into messages"""
    server: Callable[[], Splitter]
    said: JudgeClient
    heard: JudgeServer
    refusal: Callable[[bytes], bytes]
    """says to a client, in answer to its message, that it must not be said in the clear"""
    in_turn: bool = False
    """replies come in the order of the commands; else judges name what belongs together"""
    greets: bool = False
    """the server speaks first; where replies come in turn"""
    at_once: bool = False
    """TLS begins right behind the request, without an answer"""


_UPGRADES: Final = (
    Upgrade(
        "ldap",
        "extended request 1.3.6.1.4.1.1466.20037",
        "extended response with the same number, result 0",
        "RFC 4511 4.14",
        framing.BerMessages,
        framing.BerMessages,
        binary.ldap_said,
        binary.ldap_heard,
        binary.ldap_refusal,
    ),
    Upgrade(
        "xmpp",
        "`<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>`",
        "`<proceed/>`",
        "RFC 6120 5",
        framing.Stanzas,
        framing.Stanzas,
        textual.xmpp_said,
        textual.xmpp_heard,
        lambda message: textual.XMPP_REFUSAL,
    ),
    Upgrade(
        "nntp",
        "`STARTTLS`",
        "`382`",
        "RFC 4642",
        partial(Lines, NNTP_LINE),
        partial(Lines, NNTP_LINE),
        textual.nntp_said,
        textual.nntp_heard,
        lambda message: textual.NNTP_REFUSAL,
        in_turn=True,
        greets=True,
    ),
    Upgrade(
        "sieve",
        "`STARTTLS`",
        "`OK`",
        "RFC 5804 2.2",
        framing.LiteralLines,
        framing.LiteralLines,
        textual.sieve_said,
        textual.sieve_heard,
        lambda message: textual.SIEVE_REFUSAL,
        in_turn=True,
        greets=True,
    ),
    Upgrade(
        "postgresql",
        "SSLRequest (80877103)",
        "`S`",
        "PostgreSQL, SSL Session Encryption",
        framing.StartupPackets,
        framing.SingleBytes,
        binary.postgresql_said,
        binary.postgresql_heard,
        lambda message: binary.POSTGRESQL_REFUSAL,
        in_turn=True,
    ),
    Upgrade(
        "mysql",
        "SSLRequest: 32 bytes with CLIENT_SSL",
        "none: TLS begins at once",
        "MySQL, Protocol::SSLRequest",
        framing.MysqlPackets,
        framing.MysqlPackets,
        binary.mysql_said,
        binary.mysql_heard,
        lambda message: binary.MYSQL_REFUSAL,
        in_turn=True,
        greets=True,
        at_once=True,
    ),
    Upgrade(
        "irc",
        "`STARTTLS`",
        "`670`",
        "IRCv3 tls",
        partial(Lines, IRC_LINE),
        partial(Lines, IRC_LINE),
        textual.irc_said,
        textual.irc_heard,
        lambda message: textual.IRC_REFUSAL,
    ),
)
UPGRADES: Final[Mapping[str, Upgrade]] = {row.name: row for row in _UPGRADES}
"""By the name that the probe gives the protocol."""

WATCHED_CLOSELY: Final = (
    ("smtp", "`STARTTLS`", "`220`", "RFC 3207"),
    ("pop3", "`STLS`", "`+OK`", "RFC 2595 4"),
    ("imap", "`STARTTLS`", "tagged `OK`", "RFC 9051 6.2.1"),
    ("ftp", "`AUTH TLS`", "`234`", "RFC 4217 4"),
)
"""Those that have watchers of their own, for the same table of the docs."""


def table() -> str:
    """Every protocol whose STARTTLS is understood, in Markdown."""
    rows = (*WATCHED_CLOSELY, *((row.name, row.command, row.answer, row.source) for row in _UPGRADES))
    lines = ("| protocol | the client asks | the server agrees | source |", "| --- | --- | --- | --- |")
    return "\n".join((*lines, *(f"| {' | '.join(row)} |" for row in rows), ""))


def watcher_of(name: str) -> MakeWatcher:
    """Makes watchers of the protocol with this C{name}, which L{UPGRADES} has."""
    row = UPGRADES[name]

    def make(wires: Wires, terms: Terms) -> Watcher:
        return UpgradeWatcher(row, wires, terms)

    return make


class UpgradeWatcher:
    """Watches one conversation for the beginning of TLS (L{Watcher})."""

    def __init__(self, row: Upgrade, wires: Wires, terms: Terms) -> None:
        self._row = row
        self._wires = wires
        self._required = terms.required
        self._gate = Gate(wires)
        self._client = row.client()
        self._server = row.server()
        self._next = Next.COMMAND
        """what the client is to say"""
        self._turns = deque([Turn(GREETING)] if row.greets else [])
        """replies that are to come in turn"""
        self._named: dict[str, Turn] = {}
        """and those that are known by a name"""
        self._aside = Turn(GREETING)
        """what is known of messages that nobody asked for"""
        self._settled = False
        """the client has logged in: no TLS will come"""
        self._relays = not terms.clear
        """there is nothing to look for"""
        self._over = False

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._relays:
            self._wires.to_server(data)
            return
        if self._gate.asked:
            self._over = True
            self._gate.trespassed()
            return
        self._client.feed(data)
        while (message := self._message(self._client)) is not None:
            self._from_client(message)

    def from_server(self, data: bytes) -> None:
        """Bytes of the server."""
        if self._relays:
            self._wires.to_client(data)
            return
        self._server.feed(data)
        while (message := self._message(self._server)) is not None:
            self._from_server(message)

    def client_ended(self, clean: bool = True) -> bool:
        """No more comes from the client; half a message leads to no TLS."""
        if clean and (rest := self._client.rest()):
            self._last(self._wires.to_server, rest)
        return True

    def server_ended(self, clean: bool = True) -> bool:
        """No more comes from the server."""
        if clean and (rest := self._server.rest()):
            self._last(self._wires.to_client, rest)
        return True

    def _last(self, hand_on: Callable[[bytes], None], rest: bytes) -> None:
        """Hand on half a message, unless nobody may see it."""
        if not self._over and not self._required:
            hand_on(rest)

    def ended(self) -> None:
        """No more comes."""
        self._over = True

    def _message(self, splitter: Splitter) -> bytes | None:
        """The next message, as long as there is somebody to look at it."""
        if self._over or self._relays:
            return None
        try:
            return splitter.next()
        except (Broken, LineTooLong) as error:
            self._lose(str(error))
            return None

    # The client

    def _from_client(self, message: bytes) -> None:
        if self._next is not Next.COMMAND:
            self._from_client_within(message)
            return
        try:
            said = self._row.said(message)
        except Broken as error:
            self._lose(str(error), client=message)
            return
        if self._required and said.act not in (Act.LEADS, Act.ASKS, Act.WRAPS):
            self._refuse("TLS is required, and the client goes on without it", self._row.refusal(message))
        elif said.act is Act.ASKS and self._row.at_once:
            self._upgrade_at_once(message)
        elif said.act is Act.LEAVES:
            self._wires.to_server(message)
            self._relay()
        elif self._awaits(said):
            self._next = said.next
            if said.act is Act.ASKS:
                rest = self._client.rest()
                self._over = bool(rest)
                self._gate.ask(message, rest)
            else:
                self._wires.to_server(message)
        else:
            self._lose("too many commands wait for a reply", client=message)

    def _from_client_within(self, message: bytes) -> None:
        """Something that is no command."""
        if self._next is Next.NOTHING:
            self._lose("the client does not wait for the reply", client=message)
            return
        if self._next is Next.LINE:
            self._next = Next.NOTHING
        elif not message.endswith(b"\r\n"):
            self._lose("a line of an article without CR: its end would be in doubt", client=message)
            return
        elif message == b".\r\n":
            self._next = Next.COMMAND
        self._wires.to_server(message)

    def _awaits(self, said: Said) -> bool:
        """Remember that a reply is to come; false if there are too many."""
        if self._row.in_turn:
            if said.replied:
                self._turns.append(Turn(said))
        elif said.act in (Act.ASKS, Act.LOGS_IN):
            self._named[said.name] = Turn(said)
        return len(self._turns) <= MAX_TURNS and len(self._named) <= MAX_TURNS

    def _upgrade_at_once(self, message: bytes) -> None:
        if self._turns:
            self._lose("the client speaks before the server has greeted", client=message)
            return
        self._over = True
        if len(self._server):
            self._wires.refuse("the server went on in the clear before TLS (response injection)")
        else:
            self._wires.to_server(message)
            self._wires.upgrade(self._client.rest())

    # The server

    def _from_server(self, message: bytes) -> None:
        turn = self._aside
        if self._row.in_turn:
            if not self._turns:
                self._lose("the server says what nobody asked for", server=message)
                return
            turn = self._turns[0]
        try:
            heard = self._row.heard(message, turn)
        except Broken as error:
            self._lose(str(error), server=message)
            return
        if heard.offer is not None and not self._wires.offered(heard.offer):
            self._over = True
        elif heard.leaves and self._required:
            self._refuse("TLS is required, and the server goes on without it", message + self._server.rest())
        elif not heard.final:
            self._next = heard.next or self._next
            self._wires.to_client(message)
        else:
            self._replied(message, heard)

    def _replied(self, message: bytes, heard: Heard) -> None:
        """The last message of a reply, or one that nothing is known of."""
        turn = self._turns.popleft() if self._row.in_turn else self._named.pop(heard.name, None)
        act = turn.said.act if turn else Act.PLAIN
        if not self._turns and self._next is not Next.DOTTED:
            self._next = Next.COMMAND
        self._settled = self._settled or heard.leaves or (heard.agreed and act is Act.LOGS_IN)
        if act is Act.ASKS:
            self._answered(message, heard.agreed)
        elif act is Act.WRAPS and heard.agreed:
            if self._required:
                self._refuse("TLS is required, and the server agrees to another protection")
            else:
                self._lose("the server agrees to a protection in which nothing can be seen", server=message)
        else:
            self._wires.to_client(message)
        if self._settled and not self._gate.asked and not self._over:
            self._relay()

    def _answered(self, message: bytes, agreed: bool) -> None:
        """The server's answer to the request for TLS."""
        self._over = not self._gate.answered(message, self._server.rest() if agreed else b"", agreed)

    # The end of watching

    def _relay(self) -> None:
        """No TLS will come: hand on what is held, and from now on everything."""
        self._relays = True
        for hand_on, splitter in ((self._wires.to_server, self._client), (self._wires.to_client, self._server)):
            if rest := splitter.rest():
                hand_on(rest)

    def _lose(self, why: str, *, client: bytes = b"", server: bytes = b"") -> None:
        """Give up; C{client} or C{server} is the message at which it happened."""
        self._over = True
        client += self._client.rest()
        server += self._server.rest()
        self._wires.opaque(why)
        if client:
            self._wires.to_server(client)
        if server:
            self._wires.to_client(server)

    def _refuse(self, why: str, to_client: bytes = b"") -> None:
        self._over = True
        self._wires.refuse(why, to_client)
