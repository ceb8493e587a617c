"""
Between a gate and the conversation that waits for it: sinks beside it see what it sees, and its faults end the
conversation, whenever they happen.
"""

from __future__ import annotations

from typing import Protocol

from sslintercept.dialogue.watcher import PartGate, PartSink, Way
from sslintercept.errors import InspectedError


class Guarding(Protocol):
    """The conversation (L{sslintercept.dialogue.session.Dialogue})."""

    def gate_began(self, gate: GateGuard) -> None: ...
    def gate_ended(self, gate: GateGuard, error: InspectedError | None) -> None: ...
    def gate_failed(self) -> None: ...


class GateGuard:
    """
    A gate to the watcher, and a way to the gate.

    @param sink: sees the same; C{None} if nobody does.
    """

    def __init__(self, gate: PartGate, sink: PartSink | None, guarding: Guarding) -> None:
        self._gate = gate
        self._sink = sink
        self._guarding = guarding
        self._way: Way | None = None
        """C{None} before and behind its time"""

    # to the watcher (L{PartGate})

    def begin(self, way: Way) -> None:
        """See L{PartGate}."""
        self._way = way
        self._guarding.gate_began(self)
        self._gate.begin(self)

    def write(self, data: bytes) -> None:
        """To both."""
        if self._sink is not None:
            self._sink.write(data)
        self._gate.write(data)

    def finish(self, whole: bool) -> None:
        """To both."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.finish(whole)
        self._gate.finish(whole)

    def abort(self) -> None:
        """To both."""
        self._close(None)
        self._gate.abort()

    # to the gate (L{Way})

    def release(self, data: bytes) -> None:
        """See L{Way}."""
        try:
            if self._way is not None:
                self._way.release(data)
        except Exception:
            self._guarding.gate_failed()

    def replace(self, data: bytes) -> None:
        """See L{Way}."""
        try:
            if self._way is not None:
                self._way.replace(data)
        except Exception:
            self._guarding.gate_failed()

    def ended(self, error: InspectedError | None) -> None:
        """See L{Way}."""
        way = self._way
        if way is None:
            return
        try:
            self._close(error)
            way.ended(error)
        except Exception:
            self._guarding.gate_failed()

    def pause(self) -> None:
        """See L{Way}."""
        if self._way is not None:
            self._way.pause()

    def resume(self) -> None:
        """See L{Way}."""
        if self._way is not None:
            self._way.resume()

    def _close(self, error: InspectedError | None) -> None:
        self._way = None
        self._guarding.gate_ended(self, error)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.finish(False)
