"""
One direction from one connection to another (ATS: OneWayTunnel).

A tunnel of unknown length is wiring: the target's C{write} is put into the source's hand and the tunnel itself is not on
the path. With a length every chunk is counted, no byte beyond it goes over, and what is left of the chunk is handed back.
"""

from __future__ import annotations

from collections.abc import Callable

from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.profile import Bytes


class OneWayTunnel:
    """
    Bytes from C{source} to C{target}.

    @ivar nbytes: how many bytes go over, or C{None} for all until the source ends (ATS: INT64_MAX). It may be set once
        more while the tunnel runs, which is how an unknown length becomes known.
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

    def start(self, peeked: bytes = b"") -> None:
        """Let bytes flow; C{peeked} goes first. The target's chain is held until L{stop}."""
        self.running = True
        wire = self.target.hold()
        self._wire = wire
        self.target.registerProducer(self.source, True)
        if self.nbytes is None:
            if peeked:
                wire(peeked)
            self.source.read_to(wire)
        else:
            self.source.read_to(self._counted)
            self._counted(peeked)

    def limit(self, nbytes: int) -> None:
        """
        Lower the goal of a counted tunnel; at what is done already it ends at once.

        @raise ValueError: more than that has gone over.
        """
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
            self.target.unregisterProducer()
            self.target.release()
