"""
One direction from one connection to another (ATS: OneWayTunnel).

A tunnel of unknown length is wiring: the target's C{write} is put into the source's hand and the tunnel itself is not
on the path. With a length every chunk is counted, no byte beyond it goes over, and what is left of the chunk is handed
back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.profile import Bytes, Receiver, Wire, ignore

UNKNOWN_LENGTH: Final = 2**63 - 1
"""bytes of a counted tunnel whose length will be known later (ATS: INT64_MAX)"""


@implementer(IPushProducer)
class OneWayTunnel:
    """
    Bytes from C{source} to C{target}.

    The tunnel is the producer that the target stops and starts; when it stops, whatever it paused reads again and goes
    to where it went before.

    @ivar nbytes: how many bytes go over, or C{None} for all until the source ends, uncounted. A length that is not
        known yet but will be is L{UNKNOWN_LENGTH}; it is lowered with L{limit}.
    @ivar ndone: bytes gone over; counted only when there is a length.
    @ivar complete: called once when C{nbytes} have gone over, with what the last chunk held beyond them.
    """

    def __init__(
        self,
        source: NetVConnection,
        target: NetVConnection,
        nbytes: int | None = None,
        complete: Callable[[bytes], object] = lambda rest: None,
    ) -> None:
        self.source, self.target = source, target
        self.nbytes = nbytes
        self.ndone = 0
        self.complete = complete
        self.running = False
        self._paused = False
        self._wire: Wire = ignore
        self._before: Receiver = ignore

    def start(self, peeked: bytes = b"") -> None:
        """Let bytes flow; C{peeked} goes first. The target's chain is held until L{stop}."""
        self.running = True
        self._before = self.source.top.deliver
        self._wire = wire = self.target.hold()
        self.target.registerProducer(self, True)
        if self.nbytes is None:
            self.source.read_to(wire)
            if peeked:
                wire(peeked)
        else:
            self.source.read_to(self._counted)
            self._counted(peeked)

    def limit(self, nbytes: int) -> None:
        """
        Lower the goal of a counted tunnel; at what is done already it ends at once.

        @raise ValueError: more than that has gone over, or nobody counts.
        """
        if self.nbytes is None:
            raise ValueError("a tunnel that does not count cannot become one that does")
        if nbytes < self.ndone:
            raise ValueError(f"{self.ndone} bytes have gone over; the length cannot become {nbytes}")
        self.nbytes = nbytes
        if self.running and nbytes == self.ndone:
            self._done(b"")

    def _counted(self, data: Bytes) -> None:
        assert self.nbytes is not None
        left = self.nbytes - self.ndone
        if len(data) < left:
            self.ndone += len(data)
            if data:
                self._wire(data)
            return
        rest = bytes(data[left:])
        self.ndone = self.nbytes
        if left:
            self._wire(data[:left])
        self._done(rest)

    def _done(self, rest: bytes) -> None:
        self.stop()
        self.complete(rest)

    def stop(self) -> None:
        """Give the target's chain back and stop writing to it."""
        if self.running:
            self.running = False
            self.source.read_to(self._before)
            self.target.unregisterProducer()
            self.target.release()
            self._wire = ignore
            self.resumeProducing()

    # the target's producer

    def pauseProducing(self) -> None:
        """The target is above its high water mark."""
        self._paused = True
        self.source.pauseProducing()

    def resumeProducing(self) -> None:
        """The target is below its low water mark."""
        if self._paused:
            self._paused = False
            self.source.resumeProducing()

    def stopProducing(self) -> None:
        """The target is gone: the source's peer sees how."""
        self.source.mirror(self.target)
