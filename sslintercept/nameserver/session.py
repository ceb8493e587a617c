"""
Questions on a connection: TCP, and TLS where the listener accepts it (RFC 7766, RFC 7858).

Each message stands behind its length. Questions follow each other without waiting, and answers go back as they come. A
client that asks faster than it is answered, or does not read, is not read any more.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.facts import Facts
from sslintercept.nameserver.reply import Query
from sslintercept.nameserver.service import NameService
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.probe.accept import Acceptor
from sslintercept.profile.profile import Bytes

IDLE: Final = 20.0
"""seconds that a connection without a question is kept (RFC 7766 6.2.3)"""
MOST_OPEN: Final = 64
"""questions of one connection that wait for an answer"""


class NameAcceptor:
    """
    Serves the verdict C{dns} on a listener that accepts it (L{sslintercept.interfaces.IAcceptor}).

    @param relay: takes connections inside of tunnels: they are on their way to another name server.
    """

    protocol = "dns"

    def __init__(self, service: NameService, relay: Acceptor) -> None:
        self._service = service
        self._relay = relay

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """Own the connection from now on."""
        if facts.scope is not None:
            self._relay.accept(vc, facts, peeked)
            return
        facts.path.append("dns")
        NameSession(self._service, vc, facts).begin(peeked)


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class NameSession:
    """One client, and the producer that stops when it does not read."""

    takes_views = True

    def __init__(self, service: NameService, vc: NetVConnection, facts: Facts) -> None:
        self._service = service
        self._vc = vc
        self._facts = facts
        self._got = bytearray()
        self._open = 0
        self._paused = False
        self._ended = False

    def begin(self, peeked: bytes) -> None:
        """Answer what was asked already."""
        vc = self._vc
        vc.idle_limit = IDLE
        vc.deadline = NEVER
        vc.timed_out = lambda kind: vc.close()
        vc.attach(self)
        vc.registerProducer(self, True)
        vc.resumeProducing()
        self.dataReceived(peeked)

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self._got += data
        self._go()

    def _go(self) -> None:
        """Ask what is complete, as long as there is room."""
        got, at = self._got, 0
        while not self._paused and self._open < MOST_OPEN and len(got) - at >= 2 and not self._vc.closing:
            end = at + 2 + int.from_bytes(got[at : at + 2], "big")
            if len(got) < end:
                break
            message = bytes(got[at + 2 : end])
            at = end
            self._open += 1
            if not self._service.ask(message, self._facts.client, self._facts.listener, self._answered):
                # A client of a connection must not send what is no question.
                self._open -= 1
                self._vc.close()
        del got[:at]
        self._flow()

    def _answered(self, query: Query | None, made: bytes) -> None:
        """An answer, in any order."""
        self._open -= 1
        if self._vc.closing:
            return
        self._vc.write(len(made).to_bytes(2, "big") + made)
        if self._open == MOST_OPEN - 1:
            self._vc.handler.soon(self._go)
        self._flow()

    def _flow(self) -> None:
        """Read if there is room for more; end when everything is said."""
        if self._ended and not self._open and not self._vc.closing:
            self._vc.close()
        elif self._open >= MOST_OPEN or self._paused:
            self._vc.pauseProducing()
        else:
            self._vc.resumeProducing()

    # producer

    def pauseProducing(self) -> None:
        self._paused = True
        self._vc.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        self._go()

    def stopProducing(self) -> None:
        """The connection is gone."""

    # ends

    def readConnectionLost(self) -> None:
        """The client has asked all it will ask; what is open is still answered."""
        self._ended = True
        self._flow()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self._got.clear()
