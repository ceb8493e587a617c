"""An inspector in its place: the section that names it, what it matches, and what becomes of parts it cannot judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sslintercept.errors import EngineError, InterceptError
from sslintercept.inspect.inspector import Inspector
from sslintercept.inspect.part import Part
from sslintercept.inspect.verdict import FAILURE, Act, Verdict
from sslintercept.rule.match import Match
from sslintercept.transform.message import Message


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """
    An inspector in its place.

    @ivar match: which parts it gets; C{bodies}: the same asked of messages of HTTP, C{conversations}: of those that
        begin a conversation over WebSocket.
    @ivar closed: a part does not pass when the engine gives no verdict.
    @ivar largest: bytes of a part that it looks at; C{largest_closed}: a larger one does not pass.
    @ivar unreadable_closed: one with something in it that nobody can read (encrypted, damaged) does not pass.
    @ivar timeout: seconds from the end of a part to the verdict.
    @ivar glances: it may have something to say before any content comes; C{looks}: about content; C{judges}: about a
        part that is there as a whole it can say that without a look.
    """

    name: str
    inspector: Inspector
    match: Match[Part]
    bodies: Match[Message]
    conversations: Match[Message]
    closed: bool = True
    largest: int = 1 << 62
    largest_closed: bool = False
    unreadable_closed: bool = False
    timeout: float = 60.0
    glances: bool = field(init=False)
    looks: bool = field(init=False)
    judges: bool = field(init=False)

    def __post_init__(self) -> None:
        kind = type(self.inspector)
        object.__setattr__(self, "glances", kind.glance is not Inspector.glance)
        object.__setattr__(self, "looks", kind.look is not Inspector.look)
        object.__setattr__(self, "judges", kind.judge is not Inspector.judge and not self.inspector.changes)


class Found(NamedTuple):
    """What an inspector found, and where."""

    entry: Entry
    part: Part
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What becomes of a part.

    @ivar found: what all inspectors found, in the order of their sections; those of pieces behind those of the whole.
    @ivar worst: what decides, C{None} if nothing was found.
    @ivar size: bytes that came; C{sha256}: of these, in hexadecimal, if somebody had to know.
    @ivar content: all of it, where it was kept.
    """

    found: tuple[Found, ...] = ()
    worst: Found | None = None
    size: int = 0
    sha256: str = ""
    content: tuple[bytes, ...] | None = None

    @classmethod
    def of(
        cls, found: Sequence[Found], size: int = 0, sha256: str = "", content: tuple[bytes, ...] | None = None
    ) -> Decision:
        """What was found decides: the first of the worst."""
        worst = max(found, key=lambda each: each.verdict.act) if found else None
        return cls(tuple(found), worst, size, sha256, content)

    @property
    def act(self) -> Act:
        """What to do."""
        return Act.PASS if self.worst is None else self.worst.verdict.act

    @property
    def passes(self) -> bool:
        """Whether it goes on, in whatever form."""
        return self.act < Act.BLOCK


PASSES = Decision()


def failure(entry: Entry, error: Exception) -> Verdict:
    """What becomes of a part that C{entry} cannot judge."""
    fault = error.fault if isinstance(error, EngineError) else "broken"
    what = error.what if isinstance(error, InterceptError) else type(error).__name__
    closed = entry.largest_closed if fault == "too_big" else entry.closed
    return Verdict(Act.BLOCK if closed else Act.REPORT, FAILURE, fault, what)
