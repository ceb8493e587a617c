"""A conversation that a watcher is given in pieces, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sslintercept.dialogue.watcher import Cut, MakeWatcher, Part, PartGate, PartSink, Terms, Watcher
from sslintercept.errors import InspectedError

PLAIN = Terms()


class Kept:
    """A part as an inspector would get it."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.content = b""
        self.whole: bool | None = None
        """C{None} while it is under way"""

    def write(self, data: bytes) -> None:
        """The next bytes."""
        assert self.whole is None, "a part went on after its end"
        self.content += data

    def finish(self, whole: bool) -> None:
        """The end."""
        assert self.whole is None, "a part ended twice"
        self.whole = whole


class Talk:
    """
    Stands in for the connections of a conversation (L{sslintercept.dialogue.watcher.Wires}).

    @ivar server: every byte handed on to the server; C{client}: to the client.
    @ivar parts: those shown, in the order of their beginnings.
    @ivar refused: why the conversation was ended, or C{None}; likewise C{unseen}: why it became opaque.
    @ivar error: which inspector refused it; C{cut}: and whose connection was reset.
    @ivar holds: how often each side is not read; the client's under true.
    @ivar upgraded: whether TLS has begun; C{peeked}: what the client said of it already.
    """

    def __init__(
        self,
        make: MakeWatcher,
        terms: Terms = PLAIN,
        *,
        strict_offer: bool = False,
        wants: Callable[[Part], PartSink | PartGate | None] | None = None,
    ) -> None:
        self.server = b""
        self.client = b""
        self.parts: list[Kept] = []
        self.users: list[str | None] = []
        """who has logged in"""
        self.offers: list[bool] = []
        self.refused: str | None = None
        self.error: InspectedError | None = None
        self.cut = Cut.NOBODY
        self.holds = {True: 0, False: 0}
        self._wants = wants
        self.unseen: str | None = None
        self.upgraded = False
        self.peeked = b""
        self._strict_offer = strict_offer
        self._terms = terms
        self.watcher: Watcher = make(self, terms)

    # what a test says

    def says(self, *, client: bytes | None = None, server: bytes | None = None) -> Talk:
        """One side says something; what is relayed unseen does not go through the watcher."""
        over = self.refused is not None or self.upgraded
        if client and not over:
            if self.unseen is None:
                self.watcher.from_client(client)
            else:
                self.server += client
        if server and not over:
            if self.unseen is None:
                self.watcher.from_server(server)
            else:
                self.client += server
        return self

    def plays(self, script: Iterable[tuple[str, bytes]]) -> Talk:
        """Say everything of a script of C{("C", ...)} and C{("S", ...)}."""
        for who, data in script:
            if who == "C":
                self.says(client=data)
            else:
                self.says(server=data)
        return self

    # Wires

    def to_server(self, data: bytes) -> None:
        """Handed on."""
        if self.refused is None:
            assert not self.upgraded, "plain bytes behind the beginning of TLS"
            self.server += data

    def to_client(self, data: bytes) -> None:
        """Handed on."""
        if self.refused is None:
            assert not self.upgraded, "plain bytes behind the beginning of TLS"
            self.client += data

    def upgrade(self, peeked: bytes = b"") -> None:
        """TLS begins."""
        assert not self.upgraded
        self.upgraded = True
        self.peeked = peeked

    def opaque(self, why: str) -> None:
        """Not understood any more."""
        assert self.unseen is None
        if self._terms.must:
            self.refuse(why)
        else:
            self.unseen = why

    def refuse(
        self,
        why: str,
        to_client: bytes = b"",
        to_server: bytes = b"",
        *,
        error: InspectedError | None = None,
        cut: Cut = Cut.NOBODY,
    ) -> None:
        """Ended."""
        if self.refused is None:
            self.client += to_client
            self.server += to_server
            self.refused, self.error, self.cut = why, error, cut

    def hold(self, client: bool) -> None:
        """A side is not read."""
        self.holds[client] += 1

    def let_go(self, client: bool) -> None:
        """It is read again."""
        self.holds[client] -= 1
        assert self.holds[client] >= 0, "let go more often than held"

    def go_on(self) -> None:
        """Nothing ends here but by a test."""

    def offered(self, tls: bool) -> bool:
        """Whether TLS is on offer."""
        self.offers.append(tls)
        if self._strict_offer and not tls and not self.users:
            self.refuse("the offer of TLS is missing")
            return False
        return True

    def logged_in(self, user: str | None) -> None:
        """Somebody has."""
        self.users.append(user)

    def part(self, part: Part) -> PartSink | PartGate | None:
        """Everybody wants to see it, or a test says who does."""
        if self._wants is not None:
            return self._wants(part)
        kept = Kept(part)
        self.parts.append(kept)
        return kept


def in_pieces(script: Iterable[tuple[str, bytes]], size: int) -> list[tuple[str, bytes]]:
    """The same script with every speech cut into pieces of C{size} bytes."""
    return [(who, data[at : at + size]) for who, data in script for at in range(0, len(data), size)]
