"""
SOCKS as an entrance: agree on a method, let the user log in, read the request, answer it, and hand over.

A session is in one state at a time (L{State}), which says what is done with bytes, what the client's end means, and in
which words a refusal is written. CONNECT ends in the probe (L{sslintercept.probe.entrance.Entrance.enter}), and so does
BIND once somebody came; UDP ASSOCIATE keeps its connection as long as its datagrams flow.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import InterceptError, TimedOut
from sslintercept.facts import Address, Facts
from sslintercept.net.bind import Binds, is_address, unspecified
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.entrance import Entered, Entrance
from sslintercept.profile.profile import Bytes
from sslintercept.socks.users import Users
from sslintercept.socks.wire import (
    NO_LOGIN,
    NO_METHOD,
    PASSWORD,
    Command,
    Reader,
    Reply,
    Request,
    SocksError,
    code_of,
    greeting,
    login,
    login_answer,
    method,
    reply,
    request4,
    request5,
)

HELD: Final = 64 * 1024
"""bytes behind a request that are kept while somebody is waited for; then the client is not read any more"""
IGNORED: Final = 64 * 1024
"""bytes that a client may waste on the connection of an association"""


class Association(Protocol):
    """The datagrams of one client."""

    address: Address
    """where the client sends them"""

    def close(self) -> None: ...


class Associations(Protocol):
    """Who carries datagrams for clients of SOCKS 5."""

    def open(
        self, facts: Facts, client: Address, expected: Address | None, local_host: str, closed: Callable[[], object]
    ) -> Association:
        """
        Carry datagrams for C{client}.

        @param expected: where the client says they will come from; C{None} if it did not say.
        @param local_host: the address of ours that the client reached.
        @param closed: called when the association ended by itself.
        @raise InterceptError: that cannot be done.
        """


class SocksAcceptor:
    """
    Serves the verdict C{socks4} or C{socks5} (L{sslintercept.interfaces.IAcceptor}).

    @param timeout: seconds a client has, from its first byte on, until its request is complete.
    @param users: who may come in; C{None} for everybody.
    @param binds: serves BIND, C{associations} UDP ASSOCIATE; C{None} where that is off.
    """

    def __init__(
        self,
        protocol: str,
        *,
        entrance: Entrance,
        timeout: float,
        users: Users | None = None,
        binds: Binds | None = None,
        associations: Associations | None = None,
    ) -> None:
        self.protocol = protocol
        self.entrance = entrance
        self.timeout = timeout
        self.users = users
        self.binds = binds
        self.associations = associations

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """Own the connection from now on."""
        SocksSession(self, vc, facts, peeked).begin()


@implementer(IProtocol, IHalfCloseableProtocol)
class SocksSession:
    """One client until its request is answered."""

    takes_views = True
    log = Logger()

    def __init__(self, acceptor: SocksAcceptor, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        self._acceptor = acceptor
        self._vc = vc
        self._facts = facts
        self._reader = Reader(peeked)
        self._version = 5 if acceptor.protocol == "socks5" else 4
        self._state = GREETING if self._version == 5 else REQUEST
        self._knock: Deferred[NetVConnection] | None = None
        """who is to come to an open port; the port is closed when the client leaves"""
        self._association: Association | None = None
        self._users = acceptor.users if facts.scope is None else None
        """inside a tunnel the request is said to somebody else, whose users are not ours"""
        self._ignored = 0

    def begin(self) -> None:
        """Read the client's first message."""
        vc = self._vc
        vc.idle_limit = 0.0
        vc.deadline = vc.handler.now + self._acceptor.timeout
        vc.timed_out = self._timed_out
        vc.attach(self)
        vc.resumeProducing()
        self._go()

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing before L{begin}."""

    def connectionMade(self) -> None:
        """Nothing before L{begin}."""

    def dataReceived(self, data: Bytes) -> None:
        self._reader.feed(data)
        self._go()

    def readConnectionLost(self) -> None:
        self._state.ended(self)

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._end()

    def _go(self) -> None:
        try:
            self._state.received(self)
        except InterceptError as error:
            self._refuse(error)
        if self._vc.ended_by_peer:
            self._state.ended(self)

    # states: what is done with bytes

    def _greeted(self) -> None:
        methods = self._reader.take(greeting)
        if methods is None:
            return
        wanted = NO_LOGIN if self._users is None else PASSWORD
        if wanted not in methods:
            raise SocksError(
                "the client offers no method that suits" if wanted == NO_LOGIN else "the client offers no password",
                remedy="see [socks] users",
            )
        self._vc.write(method(wanted))
        self._state = REQUEST if wanted == NO_LOGIN else LOGIN
        self._state.received(self)

    def _logging_in(self) -> None:
        said = self._reader.take(login)
        if said is None:
            return
        users = self._users
        assert users is not None  # nobody else is asked to log in
        self._state = VERIFYING
        self._wait_for(self._verify(users.verify(*said), said.user))

    async def _verify(self, verified: Deferred[bool], user: bytes) -> None:
        right = await verified
        vc = self._vc
        if vc.closing:
            return
        if not right:
            raise SocksError("a name or a password that is not known", remedy="see [socks] users")
        self._facts.user = user.decode("utf-8")
        vc.write(login_answer(True))
        self._state = REQUEST
        vc.resumeProducing()
        vc.handler.soon(self._go)

    def _asked(self) -> None:
        request = self._reader.take(request5 if self._version == 5 else request4)
        if request is None:
            return
        self._facts.step("socks_received", f"{request.command.name.lower()} {request.destination}")
        if self._version == 4 and self._users is not None:
            raise SocksError("SOCKS 4 has no password", remedy="use SOCKS 5", reply=Reply.NOT_ALLOWED)
        self._vc.deadline = NEVER
        self._state = REACHING
        self._wait_for(SERVED[request.command](self, request))

    def _hold(self) -> None:
        if len(self._reader) > HELD:
            self._vc.pauseProducing()

    def _ignore(self) -> None:
        self._ignored += len(self._reader.rest())
        if self._ignored > IGNORED:
            raise SocksError(f"more than {IGNORED} bytes beside the datagrams")

    def _stay(self) -> None:
        """Nothing to do."""

    # what is asked for

    async def _connect(self, request: Request) -> None:
        # SOCKS 4 cannot name hosts; a proxy in the way is asked in the version that can.
        entered = await self._acceptor.entrance.reach(self._vc, self._facts, request.destination, "socks5")
        self._enter(entered, entered.server.local if entered.server is not None else None)

    async def _bind(self, request: Request) -> None:
        vc, facts, binds, entrance = self._vc, self._facts, self._acceptor.binds, self._acceptor.entrance
        if binds is None:
            raise SocksError("BIND is not served", remedy="see [socks] bind", reply=Reply.NO_COMMAND)
        scope = entrance.decide(facts, request.destination)
        welcome = await binds.welcome(request.destination.host)
        if vc.closing:
            return
        bind = binds.open(vc, welcome, facts.client.host)
        self._answer(Reply.GRANTED, bind.address)
        self._state = LISTENING
        vc.resumeProducing()
        self._hold()
        self._knock = bind.done
        server = await bind.done
        try:
            if welcome is None:
                # Now there is somebody whom the rules can be asked about.
                scope = entrance.decide(facts, server.peer)
        except InterceptError:
            server.close()
            raise
        facts.upstream = server.peer
        self._enter(Entered(scope, server), server.peer)

    async def _associate(self, request: Request) -> None:
        vc, facts, associations = self._vc, self._facts, self._acceptor.associations
        if associations is None:
            raise SocksError("UDP ASSOCIATE is not served", remedy="see [socks] udp", reply=Reply.NO_COMMAND)
        association = associations.open(facts, vc.peer, _expected(request, vc), vc.local.host, self._done)
        self._association = association
        facts.path.append(self._acceptor.protocol)
        outer = vc.pick_up()
        if outer is not None:
            # It leads to where the tunnel around this one goes.
            facts.step("slot_dropped")
            outer.close()
        self._answer(Reply.GRANTED, association.address)
        self._state = ASSOCIATED
        vc.resumeProducing()
        vc.handler.soon(self._go)

    # how it ends

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:  # Any: what coroutines of Deferreds yield
        """Read nothing more until C{work} is done."""
        self._vc.pauseProducing()
        Deferred.fromCoroutine(work).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if self._state is OVER and failure.check(CancelledError, InterceptError):
            return  # nobody is left whom it could be told
        if not isinstance(error, InterceptError):
            self.log.failure("a request of SOCKS could not be served", failure=failure)
            error = InterceptError("a defect while it was served", where="SOCKS", remedy="look at the log")
        self._refuse(error)

    def _answer(self, code: Reply, bound: Address | None) -> None:
        self._vc.write(reply(self._version, code, bound))
        self._facts.step("socks_answered", code.name.lower())

    def _enter(self, entered: Entered, bound: Address | None) -> None:
        if self._vc.closing:
            # The client left; a server that hangs on nothing would stay.
            if entered.server is not None:
                entered.server.close()
            return
        self._answer(Reply.GRANTED, bound)
        self._state = OVER
        self._acceptor.entrance.enter(self._vc, self._facts, entered, self._reader.rest(), self._acceptor.protocol)

    def _refuse(self, error: InterceptError) -> None:
        if self._state is OVER:
            return
        words = self._state.refusal(self, error)
        self._end()
        self._facts.error = error
        self._facts.step("socks_answered", code_of(error).name.lower())
        self._vc.write(words)
        self._vc.close()

    def _timed_out(self, kind: str) -> None:
        limit = self._acceptor.timeout
        self._refuse(
            TimedOut("no request in time", where=str(self._facts.client), remedy=f"see [socks] timeout = {limit:g}s")
        )

    def _left(self) -> None:
        self._refuse(SocksError("the client left in the middle", where=str(self._facts.client)))

    def _done(self) -> None:
        self._end()
        self._vc.close()

    def _end(self) -> None:
        """Nobody waits any longer."""
        self._state = OVER
        knock, self._knock = self._knock, None
        if knock is not None:
            knock.cancel()
        association, self._association = self._association, None
        if association is not None:
            association.close()

    def _no_method(self, error: Exception) -> bytes:
        return method(NO_METHOD)

    def _no_login(self, error: Exception) -> bytes:
        return login_answer(False)

    def _no(self, error: Exception) -> bytes:
        return reply(self._version, code_of(error))

    def _no_words(self, error: Exception) -> bytes:
        return b""


def _expected(request: Request, vc: NetVConnection) -> Address | None:
    """Where the client's datagrams will come from, as far as it knows that itself (RFC 1928 4)."""
    host, port = request.destination
    if not is_address(host):
        raise SocksError("an association is asked for with a name", reply=Reply.NO_ADDRESS_TYPE)
    if unspecified(host):
        return Address(vc.peer.host, port) if port else None
    return request.destination


class State(NamedTuple):
    """What bytes mean, what the client's end means, and how to say no."""

    received: Callable[[SocksSession], object]
    ended: Callable[[SocksSession], object]
    refusal: Callable[[SocksSession, Exception], bytes]


_S = SocksSession
GREETING: Final = State(_S._greeted, _S._left, _S._no_method)
LOGIN: Final = State(_S._logging_in, _S._left, _S._no_login)
VERIFYING: Final = State(_S._stay, _S._stay, _S._no_login)
REQUEST: Final = State(_S._asked, _S._left, _S._no)
REACHING: Final = State(_S._stay, _S._stay, _S._no)
LISTENING: Final = State(_S._hold, _S._left, _S._no)
ASSOCIATED: Final = State(_S._ignore, _S._done, _S._no_words)
OVER: Final = State(_S._stay, _S._stay, _S._no_words)

SERVED: Final = {Command.CONNECT: _S._connect, Command.BIND: _S._bind, Command.ASSOCIATE: _S._associate}
