"""
Before the probe: reads the PROXY header with which a trusted balancer begins, and lets the client be who it says.

Put on an accepted connection whose peer is L{trusted}; every other one goes to the probe as it is, and there a header
is a protocol that nobody serves.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import TimedOut
from sslintercept.facts import Facts
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.proxyline import ProxyLine, ProxyLineError, ProxyLineReader
from sslintercept.profile.profile import Bytes
from sslintercept.rule.match import Networks


def trusted(networks: Networks, host: str) -> bool:
    """Whether what a peer says of its clients is believed."""
    return networks.find(host) is not None


@implementer(IProtocol, IHalfCloseableProtocol)
class ProxyLineAccept:
    """
    The session of a connection whose header is being read.

    @param facts: C{facts.client} becomes the header's source, if it names one; C{vc.peer} stays the balancer.
    @param timeout: seconds until the header must be here.
    @param done: called once with the header and the bytes behind it; the connection is the caller's from then on.
    """

    takes_views = True
    __slots__ = ("_began", "_done", "_facts", "_reader", "_timeout", "_vc")

    def __init__(
        self, vc: NetVConnection, facts: Facts, timeout: float, done: Callable[[ProxyLine, bytes], object]
    ) -> None:
        self._vc = vc
        self._facts = facts
        self._timeout = timeout
        self._done = done
        self._reader = ProxyLineReader()
        self._began = False
        """whether anything was said; who only knocks, as balancers do to see whether we live, did nothing wrong"""

    def begin(self) -> None:
        """Take the connection, and wait."""
        vc = self._vc
        vc.idle_limit = 0.0
        vc.deadline = vc.handler.now + self._timeout
        vc.timed_out = self._timed_out
        vc.attach(self)
        vc.resumeProducing()

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self._began = True
        try:
            line = self._reader.feed(data)
        except ProxyLineError as error:
            self._refuse(error)
            return
        if line is None:
            return
        vc, facts = self._vc, self._facts
        vc.deadline = NEVER
        if line.source is not None:
            facts.client = line.source
        facts.step("note", f"PROXY protocol {line.version}: the client is {facts.client}")
        self._done(line, self._reader.rest)

    def _refuse(self, error: Exception) -> None:
        self._facts.error = error
        self._facts.step("dropped", "no PROXY header")
        self._vc.close()

    def _timed_out(self, kind: str) -> None:
        self._refuse(
            TimedOut(
                "the balancer did not send it in time",
                where="PROXY header",
                remedy=f"see [probe] timeout = {self._timeout:g}s, or take the address out of proxy_protocol",
            )
        )

    def readConnectionLost(self) -> None:
        if self._began:
            self._refuse(ProxyLineError("the connection ended in the middle of it"))
        else:
            self._vc.close()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is held."""
