"""
One data connection of FTP: what it carries, who sees that, and which ones clients are expected to open.

A channel learns from two sides: the control connection says what is transferred and how that went, the data connection
brings the bytes. The data connection may be there first; then it waits for the command, for only that says whether TLS
begins on it (RFC 4217 9).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sslintercept.dialogue.passage import Passage
from sslintercept.dialogue.watcher import Cut, Part, Terms, Wires
from sslintercept.errors import InspectedError
from sslintercept.facts import Address, Scope
from sslintercept.probe.signature import Answer, tls

MOST_EXPECTED: Final = 4096
"""data connections that are expected at a time"""
MOST_OF_A_CLIENT: Final = 256
"""and of one client"""


class DataChannel:
    """
    One transfer (L{sslintercept.ftp.control.Channel}).

    A part is finished when its data connection has ended and the server has said how it went. A gate gets its end when
    whoever sends the file has said everything, and that passes when the gate has ended; until then the control
    connection says nothing of how it went.

    @param moved: called whenever bytes pass.
    @ivar protected: whether the data connection begins with TLS; C{None} while nobody has asked for a transfer.
    @ivar come: the data connection is there, and its bytes will pass here, or L{gone} is called.
    @ivar passage: that of the file, once something is known of it; C{None} for a listing.
    """

    def __init__(self, moved: Callable[[], object] = lambda: None) -> None:
        self.protected: bool | None = None
        self.come = False
        self.passage: Passage | None = None
        self._moved = moved
        self._part: Part | None = None
        self._piece = False
        self._begun = False
        self._closed = False
        self._good: bool | None = None
        self._waits: Callable[[], object] | None = None
        self._decided: Callable[[], object] | None = None

    def carries(self, part: Part | None, protected: bool, piece: bool = False) -> None:
        """See L{sslintercept.ftp.control.Channel}."""
        self._part = part
        self._piece = piece
        self.protected = protected
        self._tell()

    def over(self, good: bool) -> None:
        """See L{sslintercept.ftp.control.Channel}."""
        if self._good is None:
            self._good = good
            self._settle()
            self._tell()

    def when_asked(self, call: Callable[[], object]) -> None:
        """Call once, as soon as the transfer is asked for, or it is known that none will be."""
        self._waits = call
        if self.protected is not None or self._good is not None:
            self._tell()

    def _tell(self) -> None:
        call, self._waits = self._waits, None
        if call is not None:
            call()

    def open(self, decided: Callable[[], object]) -> bool:
        """See L{sslintercept.ftp.control.Channel}."""
        passage = self.passage
        if passage is not None:
            undecided = passage.gated and not passage.over
        else:
            undecided = self.come and self._part is not None and not self._begun and not self._closed
        if undecided:
            self._decided = decided
        return undecided

    @property
    def refused(self) -> InspectedError | None:
        """See L{sslintercept.ftp.control.Channel}."""
        return self.passage.refused if self.passage is not None else None

    def gone(self) -> None:
        """The data connection was there, and nothing comes any more."""
        self._closed = True
        self._decide()

    def _decide(self) -> None:
        """Something is known that the control connection may wait for."""
        call, self._decided = self._decided, None
        if call is not None:
            call()

    def moved(self) -> None:
        """Bytes come."""
        self._moved()

    def begin(
        self, wires: Wires, passes: Callable[[bytes], object], refuses: Callable[[InspectedError], object]
    ) -> None:
        """The data connection brings the file, or has ended without; twice is once."""
        if self._begun or self._part is None:
            return
        self._begun = True

        def ends(error: InspectedError | None) -> None:
            if error is not None:
                refuses(error)
            self._decide()

        self.passage = Passage(wires, self._part, passes=passes, replaces=passes, ends=ends)
        if not self.passage.gated:
            self._decide()

    def brings(self, upload: bool) -> bool:
        """Whether this side sends the file."""
        return self._part is not None and self._part.upload is upload

    def said(self, clean: bool) -> bool:
        """Whoever sends the file has said everything; whether that may pass."""
        passage = self.passage
        if passage is None or not passage.gated:
            return True
        passage.finish(clean and not self._piece)
        return not passage.waits

    def closed(self) -> None:
        """The data connection has ended."""
        self._closed = True
        if self.passage is not None and self.passage.gated:
            self.passage.abort()
        self._settle()
        self._decide()

    def _settle(self) -> None:
        passage = self.passage
        if passage is not None and not passage.gated and self._closed and self._good is not None:
            passage.finish(self._good)


class DataWatcher:
    """
    Passes the bytes of one data connection, and shows them (L{sslintercept.dialogue.watcher.Watcher}).

    Where it should be in the clear a client may begin with TLS all the same: that is opened, not passed on.
    """

    def __init__(self, wires: Wires, terms: Terms, channel: DataChannel) -> None:
        self._wires = wires
        self._channel = channel
        self._looks = terms.clear
        """the client may still begin with TLS"""
        self._held = b""
        """the beginning of what may be a ClientHello"""
        self._secured = False

    def from_client(self, data: bytes) -> None:
        """Bytes of the client: the file goes up."""
        if self._looks:
            data = self._held + data
            answer = tls(data)
            self._held = data if answer is Answer.MORE else b""
            self._looks = answer is Answer.MORE
            if answer is Answer.MATCH:
                self._secured = True
                self._wires.upgrade(data)
            if answer is not Answer.NO:
                return
        self._moves(data, True)

    def from_server(self, data: bytes) -> None:
        """Bytes of the server: it comes down."""
        self._moves(data, False)

    def _moves(self, data: bytes, upload: bool) -> None:
        channel = self._channel
        channel.moved()
        if channel.passage is None:
            channel.begin(self._wires, self._passes, self._refuses)
        passage = channel.passage
        if passage is None or not passage.gated:
            if passage is not None:
                passage.write(data)
            self._hand_on(data, upload)
        elif channel.brings(upload):
            passage.write(data)
        else:
            self._wires.refuse("a file comes the wrong way", cut=Cut.BOTH)

    def _hand_on(self, data: bytes, upload: bool) -> None:
        if upload:
            self._wires.to_server(data)
        else:
            self._wires.to_client(data)

    def _passes(self, data: bytes) -> None:
        """A gate lets this through."""
        self._channel.moved()
        self._hand_on(data, self._channel.brings(True))

    def _refuses(self, error: InspectedError) -> None:
        """A gate does not: whoever gets the file may not take it for whole, and whoever sends it is told elsewhere."""
        self._wires.refuse(error.what, error=error, cut=Cut.SERVER if self._channel.brings(True) else Cut.BOTH)

    def client_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        self._looks = False
        held, self._held = self._held, b""
        if held and clean:
            self.from_client(held)
        return self._ended(True, clean)

    def server_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        return self._ended(False, clean)

    def _ended(self, upload: bool, clean: bool) -> bool:
        """One side has said everything; whether that passes."""
        channel = self._channel
        if not channel.brings(upload):
            return True
        channel.begin(self._wires, self._passes, self._refuses)
        return channel.said(clean)

    def ended(self) -> None:
        """Nothing more passes; what comes inside of TLS is another watcher's."""
        if not self._secured:
            self._channel.begin(self._wires, self._passes, self._refuses)
            self._channel.closed()


class Expected(NamedTuple):
    """A data connection to come."""

    channel: DataChannel
    scope: Scope
    """of the control connection"""
    login: str | None
    resume: Callable[[], object]
    """gives the TLS session that the server wants to be resumed"""
    until: float
    """seconds since the epoch"""


class Expectations:
    """
    The data connections that clients will open themselves, by the client's host, and where they lead.

    A process has one for all generations of its settings: a conversation that is older than a reload has its data
    connections met by what the reload made.
    """

    def __init__(self) -> None:
        self._of: dict[str, OrderedDict[Address, Expected]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, client: str, addresses: Iterable[Address], expected: Expected, now: float) -> bool:
        """
        C{client} will connect to one of C{addresses}; of a client that has too many the oldest one is forgotten.

        @return: whether there was room.
        """
        addresses = tuple(addresses)
        if self._count + len(addresses) > MOST_EXPECTED:
            self._forget_old(now)
        if self._count + len(addresses) > MOST_EXPECTED:
            return False
        own = self._of.setdefault(client, OrderedDict())
        for address in addresses:
            self._count += address not in own
            own[address] = expected
            own.move_to_end(address)
        while len(own) > MOST_OF_A_CLIENT:
            own.popitem(last=False)
            self._count -= 1
        return True

    def take(self, client: str, address: Address, now: float) -> Expected | None:
        """Whether this connection is one of them; it is expected no more then."""
        own = self._of.get(client)
        found = own.get(address) if own is not None else None
        if found is None:
            return None
        self.forget(client, found)
        return found if found.until > now else None

    def forget(self, client: str, expected: Expected) -> None:
        """It will not come any more."""
        own = self._of.get(client)
        if own is not None:
            for address in [address for address, one in own.items() if one is expected]:
                del own[address]
                self._count -= 1
            if not own:
                del self._of[client]

    def _forget_old(self, now: float) -> None:
        for client, own in list(self._of.items()):
            for expected in [one for one in own.values() if one.until <= now]:
                self.forget(client, expected)
