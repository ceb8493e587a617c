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

from sslintercept.dialogue.watcher import Part, PartSink, Terms, Wires
from sslintercept.facts import Address, Scope
from sslintercept.probe.signature import Answer, tls

MOST_EXPECTED: Final = 4096
"""data connections that are expected at a time"""
MOST_OF_A_CLIENT: Final = 256
"""and of one client"""


class DataChannel:
    """
    One transfer (L{sslintercept.ftp.control.Channel}).

    A part is finished when its data connection has ended and the server has said how it went.

    @param moved: called whenever bytes pass.
    @ivar protected: whether the data connection begins with TLS; C{None} while nobody has asked for a transfer.
    """

    def __init__(self, moved: Callable[[], object] = lambda: None) -> None:
        self.protected: bool | None = None
        self._moved = moved
        self._part: Part | None = None
        self._sink: PartSink | None = None
        self._begun = False
        self._closed = False
        self._good: bool | None = None
        self._waits: Callable[[], object] | None = None

    def carries(self, part: Part | None, protected: bool) -> None:
        """See L{sslintercept.ftp.control.Channel}."""
        self._part = part
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

    def saw(self, data: bytes, wires: Wires) -> None:
        """Bytes of the file pass."""
        self._moved()
        if not self._begun and self._part is not None:
            self._begun = True
            self._sink = wires.part(self._part)
        if self._sink is not None:
            self._sink.write(data)

    def closed(self, wires: Wires) -> None:
        """The data connection has ended."""
        if not self._begun and self._part is not None:
            self._begun = True
            self._sink = wires.part(self._part)
        self._closed = True
        self._settle()

    def _settle(self) -> None:
        if self._sink is not None and self._closed and self._good is not None:
            sink, self._sink = self._sink, None
            sink.finish(self._good)


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
        self._channel.saw(data, self._wires)
        self._wires.to_server(data)

    def from_server(self, data: bytes) -> None:
        """Bytes of the server: it comes down."""
        self._channel.saw(data, self._wires)
        self._wires.to_client(data)

    def client_ended(self) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        self._looks = False
        held, self._held = self._held, b""
        if held:
            self.from_client(held)
        return True

    def server_ended(self) -> None:
        """Nothing is held."""

    def ended(self) -> None:
        """Nothing more passes; what comes inside of TLS is another watcher's."""
        if not self._secured:
            self._channel.closed(self._wires)


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
