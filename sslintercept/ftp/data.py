"""
Data connections of FTP: which ones are expected, how they come, and what they carry.

A client that names its destinations itself (CONNECT, SOCKS), or is redirected, opens the data connection the way it
opened the control connection; it is recognised by its destination. A client of a door with a fixed target is given a
port of ours instead, and so is a server that connects to the client (PORT). Either way the connection is met by the
probe: with PROT P nothing but TLS may begin there, and both TLS sessions resume, or may resume, those of the control
connection, as servers demand (RFC 4217 10).
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.dialogue.session import Conversations, DialogueAcceptor
from sslintercept.dialogue.watcher import MakeWatcher, Part, PartSink, Terms, Wires
from sslintercept.errors import InterceptError
from sslintercept.facts import Address, Facts, Scope, Side
from sslintercept.ftp.control import FtpWatcher
from sslintercept.net.bind import Bind, Binds
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.entrance import hang
from sslintercept.profile.ssl import SslProfile
from sslintercept.tls.context import Resumable

CARRIES: Final = "ftp-data"
"""the verdict on a data connection"""
MOST_EXPECTED: Final = 4096
"""data connections that are expected at a time"""
PATIENCE: Final = 60.0
"""seconds that one is expected"""


class DataChannel:
    """
    One transfer (L{sslintercept.ftp.control.Channel}).

    A part is finished when its data connection has ended and the server has said how it went.
    """

    def __init__(self) -> None:
        self._part: Part | None = None
        self._sink: PartSink | None = None
        self._begun = False
        self._closed = False
        self._good: bool | None = None

    def carries(self, part: Part | None, protected: bool) -> None:
        """See L{sslintercept.ftp.control.Channel}."""
        self._part = part

    def over(self, good: bool) -> None:
        """See L{sslintercept.ftp.control.Channel}."""
        if self._good is None:
            self._good = good
            self._settle()

    def saw(self, data: bytes, wires: Wires) -> None:
        """Bytes of the file pass."""
        if not self._begun and self._part is not None:
            self._begun = True
            self._sink = wires.part(self._part)
        if self._sink is not None:
            self._sink.write(data)

    def closed(self, wires: Wires | None) -> None:
        """The data connection has ended."""
        if wires is not None and not self._begun and self._part is not None:
            self._begun = True
            self._sink = wires.part(self._part)
        self._closed = True
        self._settle()

    def _settle(self) -> None:
        if self._sink is not None and self._closed and self._good is not None:
            sink, self._sink = self._sink, None
            sink.finish(self._good)


class DataWatcher:
    """Passes the bytes of one data connection, and shows them (L{sslintercept.dialogue.watcher.Watcher})."""

    def __init__(self, wires: Wires, channel: DataChannel) -> None:
        self._wires = wires
        self._channel = channel

    def from_client(self, data: bytes) -> None:
        """Bytes of the client: the file goes up."""
        self._channel.saw(data, self._wires)
        self._wires.to_server(data)

    def from_server(self, data: bytes) -> None:
        """Bytes of the server: it comes down."""
        self._channel.saw(data, self._wires)
        self._wires.to_client(data)

    def client_ended(self) -> bool:
        """Nothing is held."""
        return True

    def server_ended(self) -> None:
        """Nothing is held."""

    def ended(self) -> None:
        """Nothing more passes."""
        self._channel.closed(self._wires)


class Expected(NamedTuple):
    """A data connection to come."""

    channel: DataChannel
    scope: Scope
    """of the control connection"""
    login: str | None
    protected: bool
    resume: Callable[[], object]
    until: float


class DataConnections:
    """
    Those of one generation of settings.

    @param adopt: makes the facts of a connection that came to a port of ours, and writes its line in the end.
    """

    log = Logger()

    def __init__(self, shared: Conversations, adopt: Callable[[NetVConnection, str], Facts]) -> None:
        self.shared = shared
        self.adopt = adopt
        self.binds = Binds(shared.router.connector.addresses, timeout=PATIENCE, most=MOST_EXPECTED)
        self._expected: OrderedDict[tuple[str, str, int], Expected] = OrderedDict()
        self._channels: dict[str, DataChannel] = {}

    def expect(self, client: str, hosts: set[str], port: int, expected: Expected) -> None:
        """A client will connect to one of C{hosts}; the oldest expectation makes room."""
        for host in hosts:
            self._expected[client, host, port] = expected
        while len(self._expected) > MOST_EXPECTED:
            self._expected.popitem(last=False)

    def recognise(self, facts: Facts, scope: Scope) -> None:
        """Somebody wants to go somewhere: if it is a data connection, its scope says so from now on."""
        host, port = scope.destination
        found = self._expected.pop((facts.client.host, host, port), None) if self._expected else None
        if found is not None and found.until > self.shared.clock():
            self.describe(facts, scope, found)

    def describe(self, facts: Facts, scope: Scope, expected: Expected) -> None:
        """What C{scope} is around is this data connection."""
        scope.carries, scope.begun = CARRIES, not expected.protected
        scope.name, scope.resume = expected.scope.name, expected.resume
        scope.decision, scope.decided = expected.scope.decision, True
        facts.login = expected.login
        self._channels[facts.id] = expected.channel

    def channel(self, facts: Facts) -> DataChannel:
        """That of a data connection that begins; one that nobody expected carries nothing known."""
        return self._channels.pop(facts.id, None) or DataChannel()


class FtpAcceptor(DialogueAcceptor):
    """Serves control connections."""

    def __init__(self, data: DataConnections) -> None:
        super().__init__("ftp", FtpDataAcceptor.unseen, data.shared)
        self._data = data

    def watcher(self, vc: NetVConnection, server: NetVConnection, facts: Facts, scope: Scope) -> MakeWatcher:
        """With the channels of this very conversation."""
        channels = ConversationChannels(self._data, vc, server, facts, scope)
        return lambda wires, terms: FtpWatcher(wires, terms, channels)


class FtpDataAcceptor(DialogueAcceptor):
    """Serves data connections."""

    def __init__(self, data: DataConnections) -> None:
        super().__init__(CARRIES, self.unseen, data.shared)
        self._data = data

    @staticmethod
    def unseen(wires: Wires, _terms: Terms) -> DataWatcher:
        """Of a transfer that nobody announced."""
        return DataWatcher(wires, DataChannel())

    def watcher(self, vc: NetVConnection, server: NetVConnection, facts: Facts, scope: Scope) -> MakeWatcher:
        """With the channel that the control connection announced."""
        channel = self._data.channel(facts)
        return lambda wires, terms: DataWatcher(wires, channel)


class ConversationChannels:
    """The data connections of one conversation (L{sslintercept.ftp.control.Channels})."""

    def __init__(
        self, data: DataConnections, vc: NetVConnection, server: NetVConnection, facts: Facts, scope: Scope
    ) -> None:
        self._data = data
        self._client = vc
        self._server = server
        self._facts = facts
        self._scope = scope
        self._bind: Bind | None = None
        """the port that is open; a conversation has one data connection at a time"""

    def close(self) -> None:
        """See L{sslintercept.ftp.control.Channels}."""
        bind, self._bind = self._bind, None
        if bind is not None and not bind.done.called:
            bind.done.cancel()

    def passive(self, address: Address | None, port: int, protected: bool) -> tuple[DataChannel, Address | None] | None:
        """See L{sslintercept.ftp.control.Channels}."""
        host = self._server.peer.host
        if address is not None and self._scope.entrance and not _same(address.host, host):
            # The server sends the client to somebody else.
            return None
        expected = self._announce(protected)
        if self._scope.entrance:
            hosts = {host, self._scope.destination.host, self._scope.name}
            self._data.expect(self._facts.client.host, hosts, port, expected)
            return expected.channel, None
        try:
            bind = self._data.binds.open(self._client, frozenset({_plain(self._client.peer.host)}))
        except InterceptError as error:
            self._facts.step("note", error.what)
            return None
        self._when_come(bind, lambda vc: self._came_from_client(vc, Address(host, port), expected))
        return expected.channel, bind.address

    def active(self, address: Address, protected: bool) -> tuple[DataChannel, Address | None] | None:
        """See L{sslintercept.ftp.control.Channels}."""
        if not _same(address.host, self._client.peer.host) or address.port < 1024:
            # The client would have the server connect to somebody else (RFC 2577 3).
            return None
        expected = self._announce(protected)
        try:
            bind = self._data.binds.open(self._server, frozenset({_plain(self._server.peer.host)}))
        except InterceptError as error:
            self._facts.step("note", error.what)
            return None
        self._when_come(bind, lambda vc: self._came_from_server(vc, address, expected))
        return expected.channel, bind.address

    def _announce(self, protected: bool) -> Expected:
        server = self._server

        def resume() -> object:
            top = server.top
            return Resumable.of(top.engine) if isinstance(top, SslProfile) and not server.dead else None

        until = self._data.shared.clock() + PATIENCE
        return Expected(DataChannel(), self._scope, self._facts.login, protected, resume, until)

    def _when_come(self, bind: Bind, come: Callable[[NetVConnection], object]) -> None:
        def failed(failure: Failure) -> None:
            if failure.check(CancelledError, InterceptError) is None:
                DataConnections.log.failure("a data connection could not be set up", failure=failure)

        self.close()
        self._bind = bind
        bind.done.addCallback(come)
        bind.done.addErrback(failed)

    def _came_from_client(self, vc: NetVConnection, destination: Address, expected: Expected) -> Deferred[None]:
        """
        The client has come to our port instead of the server's.

        The server is connected to at once: it answers the command for the transfer only when somebody came, and the
        client may begin with TLS only when it has that answer.
        """
        vc.side = Side.CLIENT
        facts = self._facts_of(vc)

        async def go_on() -> None:
            vc.pauseProducing()
            try:
                server = await self._data.shared.router.connect(facts, destination)
            except BaseException:
                vc.close()
                raise
            self._begin(vc, server, facts, destination, expected)

        return Deferred.fromCoroutine(go_on())

    def _came_from_server(self, server: NetVConnection, destination: Address, expected: Expected) -> Deferred[None]:
        """The server has come to our port instead of the client's: go on to the client."""

        async def go_on() -> None:
            # Nobody is there yet to take what the server says.
            server.pauseProducing()
            try:
                vc = await self._data.shared.router.connector.connect_back(destination)
            except BaseException:
                server.close()
                raise
            vc.side = Side.CLIENT
            self._begin(vc, server, self._facts_of(vc), server.peer, expected)

        return Deferred.fromCoroutine(go_on())

    def _facts_of(self, vc: NetVConnection) -> Facts:
        facts = self._data.adopt(vc, self._facts.listener)
        facts.client, facts.user = self._facts.client, self._facts.user
        return facts

    def _begin(
        self, vc: NetVConnection, server: NetVConnection, facts: Facts, destination: Address, expected: Expected
    ) -> None:
        scope = Scope(destination, self._scope.decision)
        facts.destination, facts.scope, facts.decision = destination, scope, scope.decision
        self._data.describe(facts, scope, expected)
        hang(vc, server, facts).waits = True
        server.resumeProducing()
        self._data.shared.probe.accept(vc, facts)


def _plain(host: str) -> str:
    return str(ipaddress.ip_address(host.partition("%")[0]))


def _same(one: str, other: str) -> bool:
    try:
        return _plain(one) == _plain(other)
    except ValueError:
        return False
