"""
A gate that does what a test wants, for every way in which one can behave (L{sslintercept.dialogue.watcher.PartGate}).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from sslintercept.dialogue.watcher import Part, Way
from sslintercept.errors import InspectedError

EVENT: Final = "e-1"


class Does(Enum):
    """How a gate behaves."""

    PASS = "lets everything pass as it comes"
    HOLD = "holds everything, then lets it pass"
    TAIL = "holds the last bytes, then lets them pass"
    REPLACE = "puts something else in its place"
    EARLY = "refuses with the first bytes"
    REFUSE = "holds everything, then refuses"
    LATE = "lets all but the last bytes pass, then refuses"
    NEVER = "never says anything"


TAIL: Final = 4
"""bytes that are held where the rest passes"""


def found(category: str = "malware") -> InspectedError:
    """What a gate refuses with."""
    return InspectedError("found", where="a test", remedy="none", category=category, event=EVENT)


class ScriptedGate:
    """
    One part at a gate.

    @param later: it decides only when the test says L{decide}.
    @ivar content: what has come. C{whole}: C{None} as long as its end has not. C{aborted}: nobody waits any more.
    """

    def __init__(
        self, part: Part, does: Does, instead: bytes = b"", later: bool = False, category: str = "malware"
    ) -> None:
        self.part = part
        self.content = b""
        self.whole: bool | None = None
        self.aborted = False
        self.over = False
        self.way: Way | None = None
        self._does = does
        self._instead = instead
        self._later = later
        self._error = found(category)
        self._released = 0

    def begin(self, way: Way) -> None:
        """See L{sslintercept.dialogue.watcher.PartGate}."""
        assert self.way is None, "a part began twice"
        self.way = way

    def write(self, data: bytes) -> None:
        """See L{sslintercept.dialogue.watcher.PartGate}."""
        assert self.whole is None, "a part went on after its end"
        assert data, "no bytes"
        assert not self.over, "a part went on at a gate that had ended"
        assert not self.aborted
        self.content += data
        if self._does is Does.PASS:
            self._release(len(self.content))
        elif self._does in (Does.TAIL, Does.LATE):
            self._release(len(self.content) - TAIL)
        elif self._does is Does.EARLY and not self._later:
            self.decide()

    def finish(self, whole: bool) -> None:
        """See L{sslintercept.dialogue.watcher.PartGate}."""
        assert self.whole is None, "a part ended twice"
        assert not self.aborted
        assert not self.over
        self.whole = whole
        if not self._later and self._does is not Does.NEVER:
            self.decide()

    def abort(self) -> None:
        """See L{sslintercept.dialogue.watcher.PartGate}."""
        assert not self.over
        assert not self.aborted, "aborted twice"
        self.aborted = True

    @property
    def can(self) -> bool:
        """Whether it may say something: with the end of the part, or before that if it refuses early."""
        early = self._does is Does.EARLY and bool(self.content)
        if self.over or self.aborted or self._does is Does.NEVER:
            return False
        return self.whole is not None or early

    def decide(self) -> None:
        """Say what is to become of it."""
        way = self.way
        assert way is not None
        if self._does is Does.REPLACE:
            way.replace(self._instead)
        elif self._does in (Does.PASS, Does.HOLD, Does.TAIL):
            self._release(len(self.content))
        # What passes may have ended the conversation.
        self.over = not self.aborted
        way.ended(self._error if self._does in (Does.EARLY, Does.REFUSE, Does.LATE) else None)

    def _release(self, until: int) -> None:
        assert self.way is not None
        if until > self._released:
            begin, self._released = self._released, until
            self.way.release(self.content[begin:until])


class Gates:
    """
    Puts a gate in the way of every part; a handler of parts, and what L{sslintercept.testing.talk.Talk} asks.

    @ivar all: those so far.
    """

    def __init__(
        self,
        does: Does,
        instead: bytes = b"",
        *,
        later: bool = False,
        category: str = "malware",
        wants: Callable[[Part], bool] = lambda part: True,
    ) -> None:
        self.all: list[ScriptedGate] = []
        self._does, self._instead, self._later, self._category = does, instead, later, category
        self._wants = wants

    def __call__(self, part: Part) -> ScriptedGate | None:
        """For a conversation without a gateway."""
        if not self._wants(part):
            return None
        self.all.append(ScriptedGate(part, self._does, self._instead, self._later, self._category))
        return self.all[-1]

    def part(self, part: Part, facts: object) -> ScriptedGate | None:
        """See L{sslintercept.interfaces.IPartHandler}."""
        return self(part)

    def decide(self) -> bool:
        """Let all decide that have not, and can; whether there were any."""
        able = [gate for gate in self.all if gate.can]
        for gate in able:
            gate.decide()
        return bool(able)
