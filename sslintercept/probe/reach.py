"""
A session inside a tunnel wants its server: the connection that hangs on the client's, or a new one, with TLS on it if
TLS stands around the session.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import InterceptError, UpstreamError
from sslintercept.facts import Facts, Scope
from sslintercept.net.route import Router
from sslintercept.net.upstream import Secured
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.accept import Hanging, Reached, hung
from sslintercept.profile.profile import Bytes


class Gone(InterceptError):
    """The client left, or the connection with it, while its server was being reached."""

    kind = "client"


async def reach(vc: NetVConnection, facts: Facts, scope: Scope, router: Router) -> Reached:
    """
    The server connection for what C{scope} is around; it is the caller's from now on.

    @raise UpstreamError: there is no way to it, or it is not genuine.
    @raise Gone: the client went away meanwhile.
    """
    if scope.failure is not None:
        raise scope.failure
    hanging = hung(vc)
    server = vc.pick_up()
    early = heard = b""
    secured = None
    if server is not None and hanging is not None:
        facts.step("picked_up")
        early, heard = hanging.take(), bytes(hanging.heard)
        secured = hanging.secured
    else:
        server = await router.lead(facts, scope)
        facts.step("session_opened")
    facts.upstream = server.peer
    if scope.secure and secured is None:
        if early:
            server.close()
            raise UpstreamError(
                "the origin spoke before the handshake", where=str(scope.destination), remedy="it is no TLS server"
            )
        # While the origin shakes hands it goes when the client does.
        vc.hang(server)
        secured = await _secure(server, facts, scope, router)
        server = vc.pick_up()
    if secured is not None:
        facts.upstream_tls = secured.leg
    if server is None or vc.closing:
        if server is not None:
            server.close()
        raise Gone("the client left", where=str(scope.destination), remedy="nothing was lost")
    return Reached(server, early, heard, secured)


async def _secure(server: NetVConnection, facts: Facts, scope: Scope, router: Router) -> Secured:
    """
    TLS towards the origin.

    @raise InterceptError: there is none, or the client has gone meanwhile.
    """
    waiting: Deferred[Secured] = Deferred()

    def done(secured: Secured | None, error: InterceptError | None) -> None:
        if secured is not None:
            waiting.callback(secured)
        else:
            assert error is not None
            waiting.errback(error)

    Hanging(server)
    leg = facts.client_tls
    alpn = (leg.alpn.encode("latin-1"),) if leg is not None and leg.alpn else ()
    handshake = router.tls.push(server, scope.name, alpn, scope.hello, done, scope.resume())
    facts.step("server_first")
    handshake.begin()
    return await waiting


@implementer(IProtocol, IHalfCloseableProtocol)
class Waiting:
    """Holds what a client says while the way to the origin is made; it is not read meanwhile."""

    takes_views = True

    def __init__(self, vc: NetVConnection, peeked: bytes) -> None:
        self.held = bytearray(peeked)
        self._vc = vc
        vc.pauseProducing()
        vc.attach(self)

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self.held += data

    def readConnectionLost(self) -> None:
        """Whoever comes next will see it."""

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        """Whoever waits notices by itself."""
