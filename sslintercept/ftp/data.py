"""
How data connections of FTP are met, and whose they are.

A client that names its destinations itself (CONNECT, SOCKS), or is redirected, opens the data connection the way it
opened the control connection; it is recognised by its destination. A client of a door with a fixed target is given a
port of ours instead, and so is a server that connects to the client (PORT). Either way the connection waits for the
command that says what it carries. With PROT P nothing but TLS may begin then, and both TLS sessions resume, or may
resume, those of the control connection, as servers demand (RFC 4217 10).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.dialogue.accept import DialogueAcceptor
from sslintercept.dialogue.session import Conversations
from sslintercept.dialogue.watcher import MakeWatcher, Terms, Wires
from sslintercept.errors import ClientError, InterceptError, PolicyError, TimedOut
from sslintercept.facts import Address, Facts, Scope, Side
from sslintercept.ftp.channel import MOST_EXPECTED, MOST_OF_A_CLIENT, DataChannel, DataWatcher, Expectations, Expected
from sslintercept.ftp.control import FtpWatcher
from sslintercept.net.bind import Bind, Binds, is_address
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.accept import hung
from sslintercept.probe.entrance import hang
from sslintercept.probe.reach import Waiting
from sslintercept.profile.ssl import SslProfile
from sslintercept.tls.context import Resumable

CARRIES: Final = "ftp-data"
"""the verdict on a data connection"""
PATIENCE: Final = 60.0
"""seconds that one is expected; that it waits for its command; and that the client may take to begin TLS behind it"""


class DataConnections:
    """
    Those of one generation of settings.

    @param adopt: makes the facts of a connection that came to a port of ours, and writes its line in the end.
    @param expectations: those of the process.
    """

    log = Logger()

    def __init__(
        self, shared: Conversations, adopt: Callable[[NetVConnection, str], Facts], expectations: Expectations
    ) -> None:
        self.shared = shared
        self.adopt = adopt
        self.expectations = expectations
        self.binds = Binds(
            shared.router.connector.addresses, timeout=PATIENCE, most=MOST_EXPECTED, most_of_a_host=MOST_OF_A_CLIENT
        )

    def recognise(self, facts: Facts, scope: Scope) -> None:
        """Somebody wants to go somewhere: if it is a data connection, its scope says so from now on."""
        found = self.expectations.take(facts.client.host, scope.destination, self.shared.clock())
        if found is not None:
            describe(facts, scope, found)


def describe(facts: Facts, scope: Scope, expected: Expected) -> None:
    """What C{scope} is around is this data connection."""
    scope.carries, scope.begun, scope.transfer = CARRIES, True, expected.channel
    scope.name, scope.resume = expected.scope.name, expected.resume
    scope.decision, scope.decided = expected.scope.decision, True
    facts.login = expected.login


def arrives(channel: DataChannel, vc: NetVConnection) -> None:
    """The client's end of the data connection is there: until it is gone the transfer is not over."""
    if not channel.come:
        channel.come, closed = True, vc.closed

        def gone(vc: NetVConnection) -> None:
            channel.gone()
            closed(vc)

        vc.closed = gone


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

    @staticmethod
    def unseen(wires: Wires, terms: Terms) -> DataWatcher:
        """Of a transfer that nobody announced."""
        return DataWatcher(wires, terms, DataChannel())

    def watcher(self, vc: NetVConnection, server: NetVConnection, facts: Facts, scope: Scope) -> MakeWatcher:
        """With the channel that the control connection announced."""
        channel = scope.transfer
        if not isinstance(channel, DataChannel):
            return self.unseen
        return lambda wires, terms: DataWatcher(wires, terms, channel)

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """
        Wait for the command, then go on in TLS or in the clear as that wants it; inside of TLS it was given already.

        @raise InterceptError: see L{DialogueAcceptor.accept}.
        """
        scope = facts.scope
        if scope is None or scope.secure or not isinstance(scope.transfer, DataChannel):
            super().accept(vc, facts, peeked)
            return
        channel, waiting = scope.transfer, Waiting(vc, peeked)
        arrives(channel, vc)

        def too_late(_kind: str) -> None:
            facts.error = TimedOut("no transfer was asked for", where=CARRIES, remedy="it was closed")
            vc.close()

        def asked() -> None:
            if vc.session is waiting and not vc.closing:
                vc.deadline = NEVER
                self.run(vc, facts, self._go_on(vc, facts, scope, channel, waiting))

        vc.deadline, vc.timed_out = vc.handler.now + PATIENCE, too_late

        # The control connection is in the middle of handing the command on.
        channel.when_asked(lambda: vc.handler.soon(asked))

    async def _go_on(
        self, vc: NetVConnection, facts: Facts, scope: Scope, channel: DataChannel, waiting: Waiting
    ) -> None:
        if channel.protected is None:
            raise ClientError("no transfer was asked for", where=CARRIES, remedy="it was closed")
        if not channel.protected:
            if scope.bare:
                raise PolicyError(
                    "the data connection is not protected",
                    where=CARRIES,
                    remedy=f"rule {scope.decision.rule} requires TLS",
                )
            super().accept(vc, facts, bytes(waiting.held))
            return
        if hung(vc) is None:
            # The server says that the transfer begins when it has been connected to, and clients may wait for that.
            server = await self._shared.router.lead(facts, scope)
            if vc.session is not waiting or vc.closing:
                server.close()
                return
            hang(vc, server, facts).waits = True
        scope.begun, scope.patience = False, PATIENCE
        self._shared.probe.accept(vc, facts, bytes(waiting.held))


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
        self._straight = facts.parent is None and scope.outer is None
        """the server itself is connected to, and no proxy before it"""
        self._bind: Bind | None = None
        """the port that is open; a conversation has one data connection at a time"""
        self._expected: Expected | None = None

    def close(self) -> None:
        """See L{sslintercept.ftp.control.Channels}."""
        bind, self._bind = self._bind, None
        if bind is not None and not bind.done.called:
            bind.done.cancel()
        expected, self._expected = self._expected, None
        if expected is not None:
            self._data.expectations.forget(self._facts.client.host, expected)

    def passive(self, address: Address | None, port: int) -> tuple[DataChannel, Address | None] | None:
        """See L{sslintercept.ftp.control.Channels}."""
        self.close()
        found = self._client_opens if self._scope.entrance else self._client_is_given_a_port
        return found(address, port)

    def _client_opens(self, address: Address | None, port: int) -> tuple[DataChannel, Address | None] | None:
        """The client goes where the reply says: that is the server, or nobody."""
        hosts = {self._scope.destination.host, self._scope.name}
        known = self._server.peer.host if self._straight else self._scope.destination.host
        if is_address(known):
            hosts.add(known)
            if address is not None and not _same(address.host, known):
                self._facts.step("note", "the server sends the client to somebody else")
                return None
        elif address is not None:
            # Only the proxy on the way knows the server's address.
            hosts.add(address.host)
        expected = self._announce()
        where = [Address(host, port) for host in hosts]
        if not self._data.expectations.add(self._facts.client.host, where, expected, self._data.shared.clock()):
            self._facts.step("note", "too many data connections are expected already")
            return None
        self._expected = expected
        return expected.channel, None

    def _client_is_given_a_port(self, address: Address | None, port: int) -> tuple[DataChannel, Address | None] | None:
        """The client comes to us, since it cannot go to the server."""
        if address is None and not _same(self._facts.client.host, self._client.peer.host):
            # EPSV sends it to the balancer, which knows nothing of a port of ours; PASV names our own address.
            self._facts.step("note", "no EPSV through a balancer")
            return None
        expected = self._announce()
        bind = self._open(self._client, self._facts.client.host)
        if bind is None:
            return None
        self._when_come(bind, lambda vc: self._came_from_client(vc, port, expected))
        return expected.channel, bind.address

    def active(self, address: Address) -> tuple[DataChannel, Address | None] | None:
        """See L{sslintercept.ftp.control.Channels}."""
        if not self._straight or not _same(address.host, self._facts.client.host) or address.port < 1024:
            # The client would have the server connect to somebody else (RFC 2577 3), or to us past a proxy.
            return None
        self.close()
        expected = self._announce()
        bind = self._open(self._server, self._server.peer.host)
        if bind is None:
            return None
        self._when_come(bind, lambda vc: self._came_from_server(vc, address, expected))
        return expected.channel, bind.address

    def _announce(self) -> Expected:
        client, server = self._client, self._server

        def moved() -> None:
            # While a file passes its conversation is not silent.
            client.tcp.active = server.tcp.active = client.handler.now

        def resume() -> object:
            top = server.top
            return Resumable.of(top.engine) if isinstance(top, SslProfile) and not server.dead else None

        until = self._data.shared.clock() + PATIENCE
        return Expected(DataChannel(moved), self._scope, self._facts.login, resume, until)

    def _open(self, beside: NetVConnection, welcome: str) -> Bind | None:
        """A port beside a connection, for whoever comes from C{welcome}; C{None} if there is none."""
        try:
            return self._data.binds.open(beside, frozenset({_plain(welcome)}), self._facts.client.host)
        except InterceptError as error:
            self._facts.step("note", error.what)
            return None

    def _when_come(self, bind: Bind, come: Callable[[NetVConnection], object]) -> None:
        def failed(failure: Failure) -> None:
            if failure.check(CancelledError, InterceptError) is None:
                DataConnections.log.failure("a data connection could not be set up", failure=failure)

        self._bind = bind
        bind.done.addCallback(come)
        bind.done.addErrback(failed)

    def _came_from_client(self, vc: NetVConnection, port: int, expected: Expected) -> Deferred[None]:
        """
        The client has come to our port instead of the server's.

        The server is connected to at once: it answers the command for the transfer only when somebody came, and the
        client may begin with TLS only when it has that answer.
        """
        vc.side = Side.CLIENT
        facts = self._facts_of(vc)
        arrives(expected.channel, vc)
        scope = self._beside(Address(self._server.peer.host if self._straight else self._scope.destination.host, port))

        async def go_on() -> None:
            vc.pauseProducing()
            try:
                server = await self._reach(facts, scope)
            except BaseException:
                expected.channel.gone()
                vc.close()
                raise
            self._begin(vc, server, facts, scope, expected)

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
            facts = self._facts_of(vc)
            arrives(expected.channel, vc)
            self._begin(vc, server, facts, self._beside(server.peer), expected)

        return Deferred.fromCoroutine(go_on())

    async def _reach(self, facts: Facts, scope: Scope) -> NetVConnection:
        """The server's port for data, by the way that the conversation goes."""
        router = self._data.shared.router
        if scope.outer is not None:
            return await router.lead(facts, scope)
        parent = router.parent(self._facts, self._scope.destination)
        # Whoever led to the server led to its ports for data.
        configured = router.configured(self._facts, self._scope.destination)
        if parent is None:
            host = scope.destination.host
            return await router.connector.connect(scope.destination, [host], configured=configured)
        facts.parent = parent.name
        return await router.by(facts, parent, scope.destination, configured=configured)

    def _beside(self, destination: Address) -> Scope:
        """The scope of a data connection."""
        scope = Scope(destination, self._scope.decision)
        scope.outer, scope.asked, scope.login = self._scope.outer, self._scope.asked, self._scope.login
        return scope

    def _facts_of(self, vc: NetVConnection) -> Facts:
        facts = self._data.adopt(vc, self._facts.listener)
        facts.client, facts.user = self._facts.client, self._facts.user
        return facts

    def _begin(
        self, vc: NetVConnection, server: NetVConnection, facts: Facts, scope: Scope, expected: Expected
    ) -> None:
        facts.destination, facts.scope, facts.decision = scope.destination, scope, scope.decision
        describe(facts, scope, expected)
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
