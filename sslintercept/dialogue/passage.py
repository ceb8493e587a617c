"""
One part on its way through a watcher: nobody looks, sinks look on, or a gate decides.

The watcher frames content, this counts it: what a gate releases is never more than has come, and a gate that says it is
done has released everything. A gate that does otherwise is a defect, and its conversation ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sslintercept.dialogue.watcher import Part, PartGate, Wires
from sslintercept.errors import InspectedError, InterceptError


class GateError(InterceptError):
    """A gate does what it must not."""

    kind = "gate"


def _nowhere(data: bytes) -> None:
    """For a part without a gate."""


class Passage:
    """
    One part (L{sslintercept.dialogue.watcher.Way} for its gate).

    While all of it has come and its gate has not ended, whoever sent it is not read.

    @param passes: takes what the gate releases. C{replaces}: what it puts in the place of the whole.
    @param ends: called once when the gate has ended, and not when the part was aborted; may be called within L{write}
        and L{finish}.
    @ivar gated: nothing passes but by C{passes} and C{replaces}.
    @ivar open: its end has not come, it was not given up, and it was not refused.
    @ivar over: the gate has ended, or was let go.
    @ivar begun: some of it has passed the gate.
    @ivar refused: why it does not pass.
    """

    __slots__ = (
        "_came",
        "_ends",
        "_passes",
        "_paused",
        "_replaced",
        "_replaces",
        "_seen",
        "_upload",
        "_went",
        "_wires",
        "begun",
        "gated",
        "open",
        "over",
        "refused",
    )

    def __init__(
        self,
        wires: Wires,
        part: Part,
        *,
        passes: Callable[[bytes], object] = _nowhere,
        replaces: Callable[[bytes], object] = _nowhere,
        ends: Callable[[InspectedError | None], object] = lambda error: None,
    ) -> None:
        self._wires = wires
        self._upload = part.upload
        self._passes, self._replaces, self._ends = passes, replaces, ends
        self._came = self._went = 0
        self._paused = self._replaced = self.begun = self.over = False
        self.open = True
        self.refused: InspectedError | None = None
        self._seen: Final = wires.part(part)
        self.gated = isinstance(self._seen, PartGate)
        if isinstance(self._seen, PartGate):
            self._seen.begin(self)

    @property
    def waits(self) -> bool:
        """All of it has come, and the gate has not ended."""
        return self.gated and not self.open and not self.over

    # the watcher

    def write(self, data: bytes) -> None:
        """The next bytes of the content; nothing of a part that is not open."""
        if self.open and self._seen is not None and data:
            self._came += len(data)
            self._seen.write(data)

    def finish(self, whole: bool) -> None:
        """All has come, or it broke off; twice is once."""
        if self.open:
            self.open = False
            if self._seen is not None:
                self._seen.finish(whole)
            if self.waits and not self._paused:
                self._paused = True
                self._wires.hold(self._upload)

    def abort(self) -> None:
        """It breaks off, or the conversation is over: nobody waits for the gate any more. Twice is once."""
        seen = self._seen
        if not isinstance(seen, PartGate):
            self.finish(False)
        elif not self.over:
            self.over, self.open = True, False
            self._go()
            seen.abort()

    # the gate

    def release(self, data: bytes) -> None:
        """See L{sslintercept.dialogue.watcher.Way}."""
        if self.over or not data:
            return
        self._went += len(data)
        if self._replaced or self._went > self._came:
            raise _wrong("it releases more than has come")
        self.begun = True
        self._passes(data)

    def replace(self, data: bytes) -> None:
        """See L{sslintercept.dialogue.watcher.Way}."""
        if self.over:
            return
        if self.open or self.begun:
            raise _wrong("it replaces what has passed, or has not come")
        self.begun = self._replaced = True
        self._replaces(data)

    def ended(self, error: InspectedError | None) -> None:
        """See L{sslintercept.dialogue.watcher.Way}."""
        if self.over:
            return
        if error is None and (self.open or not (self._replaced or self._went == self._came)):
            raise _wrong("it lets pass what it has not released")
        self.over, self.open = True, False
        self.refused = error
        self._go()
        self._ends(error)
        self._wires.go_on()

    def pause(self) -> None:
        """See L{sslintercept.dialogue.watcher.Way}."""
        if self.open and not self._paused:
            self._paused = True
            self._wires.hold(self._upload)

    def resume(self) -> None:
        """See L{sslintercept.dialogue.watcher.Way}."""
        if self.open:
            self._go()

    def _go(self) -> None:
        if self._paused:
            self._paused = False
            self._wires.let_go(self._upload)


def _wrong(what: str) -> GateError:
    return GateError(what, where="a gate", remedy="report it to whoever wrote it")
