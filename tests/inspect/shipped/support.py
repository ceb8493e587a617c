"""What tests of the inspectors over engines share: parts, and somebody who shows them and waits for verdicts."""

from __future__ import annotations

from typing import Any

from sslintercept.facts import Address, Facts
from sslintercept.inspect.inspector import Inspector, Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.verdict import Verdict
from sslintercept.net.handler import NetHandler
from sslintercept.testing.loop import Loop, RealLoop
from sslintercept.transform.message import Direction

PIECE = 16384
TURN = 0.0001
"""seconds between two pieces; a loop runs whatever is due, so none at all would be for ever"""


class Handler:
    """All that an engine's inspector must be given."""

    def __init__(self, loop: Loop) -> None:
        self.handler: NetHandler = loop.handler


def part(carrier: str = "http", direction: Direction = Direction.RESPONSE, **more: Any) -> Part:
    """One that a client of 192.0.2.9 sends or gets."""
    kind = more.pop("kind", "body")
    return Part(carrier, kind, direction, Facts("c1", Address("192.0.2.9", 40000), "main"), **more)


class Shown:
    """
    One part as it is shown to an inspector: what the core does, as far as a look can see it.

    @ivar verdict: as it was told; C{error}: why there is none; C{over}: one of both is there.
    @ivar stopped: whether the look wants no more for now; C{stops}: how often it said so.
    """

    def __init__(self, inspector: Inspector, part: Part, body: bytes | None = None) -> None:
        self.verdict: Verdict | None = None
        self.error: Any = None
        self.over = self.stopped = False
        self.stops = 0
        look = inspector.look(part)
        assert look is not None
        self.look: Look = look
        look.told, look.failed = self._told, self._failed
        look.registerProducer(self, True)
        if body is not None:
            self.write(body)
            self.finish()

    def _told(self, verdict: Verdict | None) -> None:
        assert not self.over
        self.over, self.verdict = True, verdict

    def _failed(self, error: Exception) -> None:
        assert not self.over
        self.over, self.error = True, error

    def pauseProducing(self) -> None:
        assert not self.stopped
        self.stopped = True
        self.stops += 1

    def resumeProducing(self) -> None:
        assert self.stopped
        self.stopped = False

    def write(self, data: bytes) -> None:
        """Bring more, unless there is a verdict."""
        for at in range(0, len(data), PIECE):
            if not self.over:
                self.look.write(data[at : at + PIECE])

    def finish(self) -> None:
        """The part has ended."""
        if not self.over:
            self.look.finish()

    @property
    def fault(self) -> str:
        """The fault of the error, which must be there."""
        assert self.verdict is None
        fault = self.error.fault
        assert isinstance(fault, str)
        return fault


class Bringing:
    """Brings a part as fast as the look takes it, a piece a turn."""

    def __init__(self, loop: RealLoop, shown: Shown, body: bytes) -> None:
        self._loop, self._shown = loop, shown
        self._left = memoryview(body)
        loop.handler.soon(self._turn)

    def _turn(self) -> None:
        shown = self._shown
        if shown.over:
            return
        if not self._left:
            shown.finish()
            return
        if not shown.stopped:
            piece, self._left = self._left[:PIECE], self._left[PIECE:]
            shown.look.write(bytes(piece))
        self._loop.handler.later(TURN, self._turn)


def waited(loop: RealLoop, shown: Shown) -> Shown:
    """The same, with its verdict or its error."""
    loop.until(lambda: shown.over)
    return shown
