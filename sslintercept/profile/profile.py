"""
One layer of a connection and the four stages of its life (deck: ProfileSM).

A profile stands between the layer below and whatever sits above it. Upwards it calls C{deliver(data)} for bytes and
C{ended(clean)} once when the peer has finished; downwards it offers C{write(data)}, C{pause()}, C{resume()} and
C{finish()}. All of them are plain attributes or methods that are called once for a chunk: a stage change rewires them,
bytes never ask what stage it is. What is handed to C{deliver} and C{write} may be a view of a shared buffer and is
valid only within the call.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from sslintercept.errors import StageError

if TYPE_CHECKING:
    from sslintercept.profile.chain import ProfileChain

Bytes = bytes | memoryview
"""What crosses a layer; a memoryview is borrowed for the length of the call."""

Receiver = Callable[[Bytes], object]
Wire = Callable[[Bytes], None]


class Stage(Enum):
    """The stages of the deck, and the end."""

    NEW_BORN = "new born"
    PRE_TRANSFER = "pre-transfer"
    TRANSFER = "transfer"
    PRE_CLOSE = "pre-close"
    DEAD = "dead"


FOLLOWS: dict[Stage, frozenset[Stage]] = {
    Stage.NEW_BORN: frozenset({Stage.PRE_TRANSFER, Stage.DEAD}),
    Stage.PRE_TRANSFER: frozenset({Stage.TRANSFER, Stage.DEAD}),
    Stage.TRANSFER: frozenset({Stage.PRE_CLOSE, Stage.DEAD}),
    Stage.PRE_CLOSE: frozenset({Stage.DEAD}),
    Stage.DEAD: frozenset(),
}
"""Which stage may come after which; every profile of every kind obeys it."""


def ignore(data: Bytes) -> None:
    """A receiver for bytes that nobody wants any more."""


def ignore_end(clean: bool) -> None:
    """An end that nobody waits for."""


class Profile:
    """
    One layer; subclasses say what each stage does.

    @ivar chain: the connection this layer belongs to; it lives no longer than that.
    @ivar lower: the layer below, C{None} for the base.
    @ivar upper: the layer above, C{None} for the top.
    @ivar deliver: where bytes go upwards.
    @ivar ended: called once when the peer has finished sending; the argument is false if this layer's own goodbye was
        missing (a FIN without close_notify).
    """

    __slots__ = ("chain", "deliver", "ended", "lower", "stage", "upper")

    name = "profile"

    def __init__(self, chain: ProfileChain, lower: Profile | None) -> None:
        self.chain = chain
        self.lower = lower
        self.upper: Profile | None = None
        self.stage = Stage.NEW_BORN
        self.deliver: Receiver = ignore
        self.ended: Callable[[bool], object] = ignore_end

    def enter(self, stage: Stage) -> None:
        """
        Change the stage, and tell the connection's recorder.

        @raise StageError: C{stage} cannot follow the present one.
        """
        if stage not in FOLLOWS[self.stage]:
            raise StageError(
                f"{self.stage.value} cannot become {stage.value}",
                where=f"{self.name} profile",
                remedy="this is a defect; record the sequence and report it",
            )
        self.stage = stage
        if self.chain.on_stage is not None:
            self.chain.on_stage(self, stage)

    @property
    def label(self) -> str:
        """How the layer is called in a printed stack."""
        return self.name

    def new_born(self) -> None:
        """Make what the layer needs. No I/O."""
        self.enter(Stage.PRE_TRANSFER)
        self.pre_transfer()

    def pre_transfer(self) -> None:
        """Agree with the peer; nothing passes before. With nothing to agree on, go on at once."""
        self.enter(Stage.TRANSFER)

    def write(self, data: Bytes, above: Profile | None = None) -> None:
        """
        Do this layer's work on C{data} and hand it down.

        @param above: the caller, if it is a layer. Whoever kept this method from before a push names none, or the wrong
            one, and is refused: its bytes would pass below the new layer.
        @raise StageError: C{above} is not the layer that stands on this one.
        """
        raise NotImplementedError(self.name)  # pragma: no cover - every profile has its own

    def refuse(self) -> None:
        """@raise StageError: somebody writes past the layer above."""
        raise StageError(
            f"a write past {self.upper.label if self.upper is not None else 'the end of a layer'} was refused",
            where=f"{self.name} profile",
            remedy="look the connection's write up for each write, or hold the wire",
        )

    def pause(self) -> None:
        """Ask for no more bytes from below."""
        if self.lower is not None:
            self.lower.pause()

    def resume(self) -> None:
        """Ask for bytes again. Never delivers within the call."""
        if self.lower is not None:
            self.lower.resume()

    def pending(self) -> int:
        """Bytes written to this layer that have not left it, in this layer and below."""
        return self.lower.pending() if self.lower is not None else 0

    def untouched(self) -> bool:
        """Whether no byte has gone through this layer yet, so that it may be taken away again."""
        return False

    def trim(self) -> None:
        """Give back memory that an idle connection does not need."""

    def pre_close(self, faithful: bool = True) -> None:
        """
        Say goodbye in this layer while those below are open. Twice is once.

        @param faithful: false leaves the goodbye out, so that the peer sees a truncation.
        """
        if self.stage is Stage.TRANSFER:
            self.enter(Stage.PRE_CLOSE)

    def half_close(self) -> None:
        """Say that we have finished sending in this layer; the peer may go on."""

    def is_open(self) -> bool:
        """Whether what is written goes out, or waits for something to be agreed on."""
        return self.stage is Stage.TRANSFER

    def die(self) -> None:
        """Free everything; no call comes after this one."""
        if self.stage is not Stage.DEAD:
            self.enter(Stage.DEAD)
        self.deliver = ignore
        self.ended = ignore_end
