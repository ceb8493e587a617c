"""
What a watcher of a conversation sees, and what it may do.

A watcher knows one protocol and nothing else: no sockets, no clock, no TLS. It is given the bytes of both directions as
they come and hands them on, byte for byte, through its L{Wires}; on the way it names what passes (parts, users, an
offer of TLS) and says when TLS begins. L{sslintercept.dialogue.session.Dialogue} is the other side: it joins the two
connections, and makes true what a watcher says.

What a watcher keeps of a message that is not whole yet is bounded by itself; when it does not understand any more, it
says so (L{Wires.opaque}) and the rest is relayed unseen, or refused, by policy.

A part that passes may be seen (L{PartSink}), or it goes through a gate (L{PartGate}): then nothing of it passes but
what the gate lets through, and nothing that is behind it passes before the gate has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Flag, auto
from typing import Final, NamedTuple, Protocol, runtime_checkable

from sslintercept.errors import InspectedError

MAX_REFUSED: Final = 100
"""Commands in a row that a watcher answers itself; whoever goes on has not listened, and the conversation ends."""


class Cut(Flag):
    """Whose connection is reset, for something is half said to it, and it may not take that for whole."""

    NOBODY = 0
    SERVER = auto()
    CLIENT = auto()
    BOTH = SERVER | CLIENT


class Part(NamedTuple):
    """A message or a file on its way (an inspector's unit)."""

    carrier: str
    """the protocol: C{smtp}, C{lmtp}, C{pop3}, C{imap}, C{ftp}"""
    kind: str
    """C{message} or C{file}"""
    name: str
    """a file's path, a mailbox with the message's number, or empty; as the client said it, not to be trusted"""
    upload: bool
    """from the client to the server"""
    user: str | None
    """who logged in"""
    sender: str = ""
    """of a mail in SMTP: MAIL FROM"""
    recipients: tuple[str, ...] = ()
    """of a mail in SMTP: RCPT TO, as accepted by the server"""


class PartSink(Protocol):
    """Gets the bytes of one part (L{sslintercept.interfaces.IPartSink})."""

    def write(self, data: bytes) -> None:
        """The next bytes of the content; dot-stuffing and other framing is undone."""

    def finish(self, whole: bool) -> None:
        """Called once; C{whole} is false when the transfer broke off."""


class Way(Protocol):
    """
    Where a gate lets content pass; whoever brings the part provides it. Calls may come from within a call to the gate,
    or later; when the part was aborted they do nothing.
    """

    def release(self, data: bytes) -> None:
        """The next bytes that may pass: as many as were written, in the same order; some may be overwritten."""

    def replace(self, data: bytes) -> None:
        """All has come and nothing was released: this passes in its place, as a whole."""

    def ended(self, error: InspectedError | None) -> None:
        """
        Called once. C{None}: it has come to its end, and everything was released, or replaced. Else it is refused, at
        any time, and nothing more of it passes.
        """

    def pause(self) -> None:
        """The gate has enough: whoever sends the part is not read for a while."""

    def resume(self) -> None:
        """It is read again; called when it was paused."""


@runtime_checkable
class PartGate(PartSink, Protocol):
    """
    Decides about one part (L{sslintercept.interfaces.IPartGate}).

    It has its own time limit and its own bound for what it holds: whoever brings the part waits as long as it takes. It
    must let go of what is more than it may hold, so that a large part keeps flowing.
    """

    def begin(self, way: Way) -> None:
        """Called once, before anything else; nothing is to be said to C{way} yet."""

    def abort(self) -> None:
        """
        The transfer broke off, or nobody waits any more: let go of everything. Called at most once, instead of
        C{finish} or behind it, and never when the gate has ended; it may be called within a call to its way.
        """


class Wires(Protocol):
    """What a watcher may do. Every call takes effect at once and in order."""

    def to_server(self, data: bytes) -> None:
        """Hand on, or say, something towards the server."""

    def to_client(self, data: bytes) -> None:
        """Hand on, or say, something towards the client."""

    def upgrade(self, peeked: bytes = b"") -> None:
        """
        TLS begins now in both directions, right behind what was handed on. The watcher gets no further byte: inside TLS
        a new one begins, with L{Terms.upgraded}.

        @param peeked: what the client has said of it already, where it need not wait: it is taken as TLS or not at all
        """

    def opaque(self, why: str) -> None:
        """
        What comes is not understood: from now on everything is relayed unseen, or the conversation ends, by policy; and
        it ends where TLS has to begin first, for nobody could say whether it does.

        Call it first, then hand on what is held of both directions; where the conversation ends, that goes nowhere.
        """

    def refuse(
        self,
        why: str,
        to_client: bytes = b"",
        to_server: bytes = b"",
        *,
        error: InspectedError | None = None,
        cut: Cut = Cut.NOBODY,
    ) -> None:
        """
        End the conversation after these last words; nothing more is relayed or given to the watcher.

        @param error: what the log says, where an inspector wanted it.
        @param cut: whose connection is reset; others end in order.
        """

    def offered(self, tls: bool) -> bool:
        """
        The server has said whether it offers TLS on this connection in the clear.

        A server that answers the question for its offers with an error offers nothing.

        @return: whether the conversation goes on; false if a rule forbids that an offer of earlier times is missing now
            (stripping), then it was refused already.
        """

    def logged_in(self, user: str | None) -> None:
        """
        Somebody has logged in (the server agreed), C{None} where nobody can say who.

        TLS does not begin any more, so what the server offers from now on says nothing about it.
        """

    def part(self, part: Part) -> PartSink | PartGate | None:
        """A message or a file begins; C{None} if nobody wants to see it (L{sslintercept.dialogue.passage.Passage})."""

    def hold(self, client: bool) -> None:
        """Read nothing more of this side, until L{let_go} was called as often; what was read already still comes."""

    def let_go(self, client: bool) -> None:
        """See L{hold}."""

    def go_on(self) -> None:
        """
        Something that was waited for has happened outside of a call to the watcher: it is asked anew about ends that it
        did not let pass (L{Watcher.client_ended}).
        """


class Terms(NamedTuple):
    """Under which a conversation is held."""

    secured: bool = False
    """it runs inside TLS"""
    upgraded: bool = False
    """and that TLS began in the middle of a conversation (STARTTLS): the server greets no more"""
    required: bool = False
    """nothing but what leads to TLS may be said in the clear, on this connection or another that belongs to it"""

    @property
    def clear(self) -> bool:
        """There is no TLS yet."""
        return not (self.secured or self.upgraded)

    @property
    def must(self) -> bool:
        """TLS has to begin before anything else is said."""
        return self.required and self.clear


class Watcher(Protocol):
    """Knows one protocol."""

    def from_client(self, data: bytes) -> None:
        """Bytes of the client, in order, in pieces of any size."""

    def from_server(self, data: bytes) -> None:
        """Bytes of the server."""

    def client_ended(self, clean: bool = True) -> bool:
        """
        No more comes from the client: what is held of it is its last message, even where that lacks its end.

        @param clean: see L{server_ended}.
        @return: whether nothing is held any more; else this is called again whenever the server has said something, or
            the watcher says L{Wires.go_on}.
        """

    def server_ended(self, clean: bool = True) -> bool:
        """
        No more comes from the server, likewise.

        @param clean: false if the end lacks the goodbye of TLS: somebody may have cut it short.
        """

    def ended(self) -> None:
        """The conversation is over, or opaque: finish what is under way. Called once; no call comes after it."""


MakeWatcher = Callable[[Wires, Terms], Watcher]
"""What a table of watchers holds."""
