"""What tests of clients for scanning engines share: engines that follow a script, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from sslintercept.errors import EngineError
from sslintercept.facts import Side
from sslintercept.net.line import Line
from sslintercept.testing.loop import Loop, RealLoop
from sslintercept.testing.peer import Peer


class Engine:
    """
    An engine that does what a script says.

    @ivar peers: the other ends of the lines so far.
    """

    def __init__(self, loop: Loop, script: Callable[[Peer], object] = lambda peer: None) -> None:
        self._loop = loop
        self.script = script
        self.peers: list[Peer] = []
        self.buffer: int | None = None

    def open(self) -> Deferred[Line]:
        """Make a line."""
        vc, sock = self._loop.pair(Side.UPSTREAM, self.buffer)
        peer = Peer(self._loop, sock, vc)
        peer.received = self.script
        self.peers.append(peer)
        return succeed(Line(vc))


class Stopping:
    """A producer that notes whether it is stopped."""

    def __init__(self) -> None:
        self.stopped = False
        self.stops = 0

    def pauseProducing(self) -> None:
        assert not self.stopped
        self.stopped = True
        self.stops += 1

    def resumeProducing(self) -> None:
        assert self.stopped
        self.stopped = False


def outcome(deferred: Deferred[Any]) -> Any:
    """What a Deferred came to: its value, its exception, or C{None} if it has not fired."""
    if not deferred.called:
        return None
    found: list[Any] = []

    def note(result: Any) -> Any:
        found.append(result)
        return None if isinstance(result, Failure) else result

    deferred.addBoth(note)
    return found[0].value if isinstance(found[0], Failure) else found[0]


def found(loop: RealLoop, deferred: Deferred[Any]) -> Any:
    """What a Deferred comes to."""
    loop.wait_for(deferred)
    return outcome(deferred)


def fault(deferred: Deferred[Any]) -> str:
    """The fault that a Deferred failed with."""
    error = outcome(deferred)
    assert isinstance(error, EngineError), error
    return error.fault
