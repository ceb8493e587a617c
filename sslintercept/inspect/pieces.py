"""
What is taken out of a part: each piece is a part of its own, shown to the inspectors that want pieces.

A worker process takes the part apart (L{sslintercept.unpack}); what it gives is looked at one after the other, for some
milliseconds in a turn of the reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.errors import EngineError, InterceptError
from sslintercept.inspect.entry import Entry, Found, failure
from sslintercept.inspect.inspector import Look, Source
from sslintercept.inspect.part import HEAD, Part, sniff
from sslintercept.inspect.verdict import FAILURE, Act, Verdict

if TYPE_CHECKING:
    from sslintercept.inspect.processor import InspectProcessor

TURN: Final = 0.005
"""seconds of a turn of the reactor"""
MOST_FOUND: Final = 256
"""findings in the pieces of one part"""
BOMBS: Final = frozenset(("depth", "entries", "ratio", "size", "time", "pages"))
"""limits that hardly anything reaches but what is made to be hard to look at: the rest of it is not known"""
LIES: Final = frozenset(("lies", "overlap", "unlisted", "entities"))
"""what nobody makes by accident: two readers may see two things"""
UNREADABLE: Final = frozenset(("encrypted", "rubbish", "truncated", "unopened"))
"""why nobody can read something; other notes (L{sslintercept.unpack.budget}) are no reason to be afraid"""

log = Logger()


class Piece(NamedTuple):
    """
    Something that was taken out of a part.

    @ivar path: the names of what it lies in, outermost first, and its own; none, where the notes are of the whole.
    @ivar kind: C{member}, C{attachment}, C{field}, C{text} or C{headers}.
    @ivar notes: what is wrong with it, a word each (L{sslintercept.unpack}).
    """

    path: tuple[str, ...]
    kind: str
    name: str
    media_type: str
    charset: str | None
    content: bytes
    notes: tuple[str, ...] = ()


class Asked:
    """A look at a piece that has not told yet."""

    __slots__ = ("entry", "look", "part", "timer")

    def __init__(self, entry: Entry, look: Look, part: Part) -> None:
        self.entry, self.look, self.part = entry, look, part
        self.timer: IDelayedCall | None = None

    def let_go(self) -> None:
        """It has told, or nobody waits for it any more."""
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if not self.look.over:
            self.look.over = True
            try:
                self.look.abort()
            except Exception:
                log.failure("an inspector failed as it was let go")


class Pieces:
    """
    The pieces of one part.

    @ivar found: what was found in them; C{done}: nothing more comes.

    @param taken: fires with the pieces.
    @param over: called once, when all are looked at, or one does not pass.
    """

    def __init__(
        self,
        processor: InspectProcessor,
        part: Part,
        entries: Sequence[Entry],
        taken: Deferred[Sequence[Piece]],
        over: Callable[[], object],
    ) -> None:
        self._processor = processor
        self._part = part
        self._entries = entries
        self._over = over
        self._taken: Deferred[Any] = taken  # Any: it is not asked for a result here
        self._left: list[Piece] = []
        self._parents: dict[tuple[str, ...], Part] = {(): part}
        self._looks: list[Asked] = []
        self._hanging: set[str] = set()
        """names of entries that have used up their time at one piece: they get no other"""
        self._running = False
        self.found: list[Found] = []
        self.done = False
        taken.addCallbacks(self._came, self._failed)

    def cancel(self) -> None:
        """Nobody waits any more."""
        if not self.done:
            self.done = True
            self._let_go()
            self._left = []
            self._taken.cancel()

    def _came(self, pieces: Sequence[Piece]) -> None:
        self._left = list(reversed(pieces))
        if not self.done:
            self._go_on()

    def _failed(self, failure: Failure) -> None:
        self._spoilt(failure.value)

    def _spoilt(self, error: BaseException | None) -> None:
        if self.done:
            return
        fault = error.fault if isinstance(error, EngineError) else "broken"
        what = error.what if isinstance(error, InterceptError) else type(error).__name__
        self._note(self._part, fault, f"it cannot be taken apart: {what}", closed=lambda entry: entry.closed)
        self._end()

    # one after the other

    def _go_on(self) -> None:
        if self._running:
            return
        self._running = True
        seconds = self._processor.loop.seconds
        until = seconds() + TURN
        try:
            while self._left and not self._looks and not self.done:
                if seconds() > until:
                    self._processor.loop.later(0, self._go_on)
                    return
                self._look(self._left.pop())
        except Exception as error:
            log.failure("a piece could not be shown to inspectors")
            self._spoilt(error)
        finally:
            self._running = False
        if not self._left and not self._looks:
            self._end()

    def _look(self, piece: Piece) -> None:
        part = self._place(piece)
        for note in piece.notes:
            if note in BOMBS:
                self._note(part, note, f"a limit is reached ({note})", closed=_closed)
            elif note in LIES:
                self._note(part, note, f"it contradicts itself ({note})", closed=_closed)
            elif note in UNREADABLE:
                self._note(part, note, f"it cannot be read ({note})", closed=_unreadable)
        if self.done or not piece.content:
            return
        part.sniffed = sniff(piece.content[:HEAD])
        for entry in self._entries:
            if entry.name in self._hanging:
                continue
            try:
                look = entry.inspector.look(part)
            except Exception as error:
                self._broke(entry, part, error)
            else:
                if look is not None:
                    self._begin(Asked(entry, look, part), piece.content)
            if self.done:
                return

    def _begin(self, asked: Asked, content: bytes) -> None:
        self._looks.append(asked)
        entry, look = asked.entry, asked.look
        look.told = lambda verdict: self._told(asked, verdict)
        look.failed = lambda error: self._told(asked, failure(entry, error))
        look.mask = _not_here
        try:
            look.registerProducer(_Nobody(), True)
            if not look.over:
                look.write(content)
            if not look.over:
                look.finish()
        except Exception as error:
            if asked in self._looks:
                self._looks.remove(asked)
            asked.let_go()
            self._broke(entry, asked.part, error)
        else:
            if not look.over:
                asked.timer = self._processor.loop.later(entry.timeout, lambda: self._late(asked))

    def _told(self, asked: Asked, verdict: Verdict | None) -> None:
        if asked not in self._looks:
            return
        self._looks.remove(asked)
        asked.let_go()
        if not isinstance(verdict, Verdict | None):
            verdict = failure(asked.entry, TypeError())
        if verdict is not None:
            self._add(asked.entry, asked.part, verdict)
        if not self.done and not self._looks:
            self._go_on()

    def _late(self, asked: Asked) -> None:
        entry = asked.entry
        asked.let_go()
        self._hanging.add(entry.name)
        what = f"no verdict within {entry.timeout:g} s"
        self._told(asked, failure(entry, EngineError(what, where=entry.name, remedy="see the engine", fault="hangs")))

    def _broke(self, entry: Entry, part: Part, error: Exception) -> None:
        """The inspector itself failed, or cannot be asked."""
        if not isinstance(error, InterceptError):
            log.failure("an inspector failed")
        if not self.done:
            self._add(entry, part, failure(entry, error))

    def _place(self, piece: Piece) -> Part:
        """The part that the piece is, below those that it lies in; one without content may be known already."""
        if not piece.content and (found := self._parents.get(piece.path)) is not None:
            return found
        parent = self._part
        for depth in range(1, len(piece.path)):
            key = piece.path[:depth]
            known = self._parents.get(key)
            if known is None:
                known = self._parents[key] = parent.member("member", key[-1], "", 0)
            parent = known
        part = parent.member(piece.kind, piece.name, piece.media_type, len(piece.content), piece.charset)
        if len(self._parents) < MOST_FOUND:
            self._parents.setdefault(piece.path, part)
        return part

    # what comes of it

    def _note(self, part: Part, name: str, what: str, closed: Callable[[Entry], bool]) -> None:
        for entry in self._entries:
            if not self.done:
                self._add(entry, part, Verdict(Act.BLOCK if closed(entry) else Act.REPORT, FAILURE, name, what))

    def _add(self, entry: Entry, part: Part, verdict: Verdict) -> None:
        if verdict.act in (Act.REDACT, Act.REPLACE):
            verdict.let_go()
            verdict = Verdict(Act.BLOCK, FAILURE, "late", "it was to be changed, which is not possible where it lies")
        if len(self.found) < MOST_FOUND:
            self.found.append(Found(entry, part, verdict))
        elif verdict.act >= Act.BLOCK:
            self.found[-1] = Found(entry, part, verdict)
        if verdict.act >= Act.BLOCK:
            self._end()

    def _let_go(self) -> None:
        looks, self._looks = self._looks, []
        for asked in looks:
            asked.let_go()

    def _end(self) -> None:
        if not self.done:
            self.done = True
            self._let_go()
            self._left = []
            self._over()


def _closed(entry: Entry) -> bool:
    return entry.closed


def _unreadable(entry: Entry) -> bool:
    return entry.unreadable_closed


def _not_here(_offset: int, _length: int) -> bool:
    """A piece is a copy: nothing of the part changes with it."""
    return False


class _Nobody(Source):
    """All of a piece is there; who has enough gets it nevertheless."""

    def pauseProducing(self) -> None:
        """There is nobody to stop."""

    def resumeProducing(self) -> None:
        """Nobody was stopped."""
