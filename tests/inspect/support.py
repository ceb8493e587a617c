"""What tests of inspections share: a processor whose pieces, events and clock are the test's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from sslintercept.facts import Address, Facts
from sslintercept.inspect.entry import Decision, Entry
from sslintercept.inspect.inspection import Inspection
from sslintercept.inspect.inspector import Inspector
from sslintercept.inspect.part import Part
from sslintercept.inspect.pieces import Piece
from sslintercept.inspect.processor import InspectProcessor, Limits
from sslintercept.inspect.select import of_bodies, of_conversations, of_parts
from sslintercept.testing.gateway import MemoryEvents
from sslintercept.transform.message import Direction


class Later:
    """A loop of which only the clock moves."""

    def __init__(self) -> None:
        self.clock = Clock()

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall:
        return self.clock.callLater(delay, call)

    def seconds(self) -> float:
        return self.clock.seconds()


def entry(inspector: Inspector, name: str = "one", match: str = "", **more: object) -> Entry:
    """An inspector in its place."""
    matches = of_parts(match), of_bodies(match), of_conversations(match)
    return Entry(name, inspector, *matches, **more)  # type: ignore[arg-type]  # each has its own type


class World:
    """
    A processor and what happens around it.

    @ivar asked: parts that were to be taken apart, with their content and who waits.
    @ivar decisions: of all inspections so far.
    """

    def __init__(self, *entries: Entry, limits: Limits | None = None) -> None:
        self.loop = Later()
        self.events = MemoryEvents()
        self.asked: list[tuple[Part, bytes, Deferred[Sequence[Piece]]]] = []
        self.cancelled = 0
        self.decisions: list[Decision] = []
        self.serial = 0
        self.processor = InspectProcessor(
            entries,
            self.loop,
            limits or Limits(),
            self.events,
            self._apart,
            new_id=self._id,
            wall_clock=lambda: 1000.0,
        )

    def _id(self) -> str:
        self.serial += 1
        return f"e{self.serial}"

    def _apart(self, part: Part, content: Sequence[bytes]) -> Deferred[Sequence[Piece]]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        waiting: Deferred[Sequence[Piece]] = Deferred(cancel)
        waiting.addErrback(lambda failure: failure)
        self.asked.append((part, b"".join(content), waiting))
        return waiting

    def inspect(self, part: Part) -> Inspection:
        """Begin to inspect."""
        return self.processor.inspect(part, self.processor.wanted(part), self.decisions.append)

    def whole(self, content: bytes, part: Part | None = None) -> Decision | None:
        """Inspect something that comes at once; C{None} if it is not decided yet."""
        before = len(self.decisions)
        inspection = self.inspect(part or a_part())
        if content:
            inspection.write(content)
        inspection.finish()
        return self.decisions[-1] if len(self.decisions) > before else None


def a_part(**more: object) -> Part:
    """A body that leaves."""
    values: dict[str, object] = {
        "carrier": "http",
        "kind": "body",
        "direction": Direction.REQUEST,
        "facts": Facts("c1", Address("192.0.2.1", 5000), "proxy"),
        "media_type": "text/plain",
        **more,
    }
    return Part(**values)  # type: ignore[arg-type]  # each has its own type


def piece(content: bytes, *path: str, notes: Sequence[str] = (), kind: str = "member", media_type: str = "") -> Piece:
    """Something taken out."""
    return Piece(path, kind, path[-1] if path else "", media_type, None, content, tuple(notes))
