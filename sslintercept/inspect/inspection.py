"""
One part under the inspectors that want it, and then the pieces that are taken out of it.

The part is written here as it comes. Every look gets it at once, except those whose verdict may be known by the
content's digest: these begin when L{EARLY} bytes have come, or the end. What is to be taken apart is collected, and
goes to a worker process when it is whole; each piece that comes back is a part of its own, one after the other.

It ends with one L{Decision}: at once when something does not pass, else when every look has told, failed, or used up
its time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.errors import EngineError, InterceptError
from sslintercept.inspect.entry import Decision, Entry, Found, failure
from sslintercept.inspect.inspector import Look
from sslintercept.inspect.part import HEAD, Part, sniff
from sslintercept.inspect.verdict import FAILURE, Act, Verdict

if TYPE_CHECKING:
    from sslintercept.inspect.pieces import Pieces
    from sslintercept.inspect.processor import InspectProcessor

EARLY: Final = 256 * 1024
"""bytes that are kept before looks begin whose verdict may be known already"""

log = Logger()


class Loop(Protocol):
    """What an inspection needs of the reactor (L{sslintercept.net.handler.NetHandler})."""

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...
    def seconds(self) -> float: ...


class Slot:
    """
    One inspector's look at a part.

    @ivar open: there is no verdict yet.
    @ivar brake: by which it stops whoever brings the part, once it has begun.
    @ivar tag: of what it judges by, as it began.
    """

    __slots__ = ("_timer", "begun", "brake", "entry", "look", "open", "tag", "verdict")

    def __init__(self, entry: Entry, look: Look | None) -> None:
        self.entry = entry
        self.look = look
        self.open = look is not None
        self.begun = False
        self.brake: Brake | None = None
        self.tag: bytes | None = None
        self.verdict: Verdict | None = None
        self._timer: IDelayedCall | None = None

    def watch(self, loop: Loop, late: Callable[[], object]) -> None:
        """From now on its time runs."""
        if self.open and self._timer is None:
            self._timer = loop.later(self.entry.timeout, late)

    def close(self, verdict: Verdict | None) -> None:
        """It is decided."""
        self.open = False
        self.verdict = verdict
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def let_go(self) -> None:
        """Nobody waits for it any more."""
        look = self.look
        if self.open and look is not None:
            self.close(None)
            look.over = True
            try:
                look.abort()
            except Exception:
                log.failure("an inspector failed as it was let go")


class Inspection:
    """
    One part on its way through its inspectors.

    @ivar stop: set by whoever brings the part; called when a look has enough. C{go}: when it wants more.
    @ivar mask: set by whoever holds the part back; overwrites what has not passed yet.
    @ivar over: it is decided, or nobody waits any more.

    @param decided: called once.
    """

    __slots__ = (
        "_brakes",
        "_busy",
        "_collected",
        "_collected_size",
        "_decided",
        "_digest",
        "_early",
        "_ended",
        "_entries",
        "_finished",
        "_openers",
        "_opening",
        "_pieces",
        "_processor",
        "_slots",
        "_stopped",
        "go",
        "mask",
        "over",
        "part",
        "size",
        "stop",
    )

    def __init__(
        self,
        processor: InspectProcessor,
        part: Part,
        entries: Sequence[Entry],
        decided: Callable[[Decision], object],
    ) -> None:
        self._processor = processor
        self.part = part
        self._entries = entries
        self._decided = decided
        self._opening: list[bytes] | None = []
        """what comes before the type is known; C{None} from then on"""
        self._slots: list[Slot] = []
        self._collected: list[bytes] | None = None
        self._collected_size = 0
        self._early: list[bytes] | None = None
        """for looks that have not begun"""
        self._digest = sha256() if any(each.inspector.by_content for each in entries) else None
        self._openers: Sequence[Entry] = ()
        """who gets what is taken out of it"""
        self._pieces: Pieces | None = None
        self._brakes = 0
        self._stopped = False
        """whoever brings the part was told so"""
        self._busy = False
        """looks are told something, or let go: nobody goes on before they all have heard of it"""
        self._ended = False
        self._finished = False
        """and whoever looks has heard so, and it is being taken apart if it has to be"""
        self.over = False
        self.size = 0
        self.stop: Callable[[], object] = _nothing
        self.go: Callable[[], object] = _nothing
        self.mask: Callable[[int, int], bool] = _too_late

    @property
    def loop(self) -> Loop:
        """Counts the time."""
        return self._processor.loop

    @property
    def ended(self) -> bool:
        """All of the part has come."""
        return self._ended

    # whoever brings the part

    def write(self, data: bytes) -> None:
        """The next bytes."""
        if self.over:
            return
        self.size += len(data)
        opening = self._opening
        if opening is not None:
            opening.append(data)
            if self.size < HEAD:
                return
        self._busy = True
        try:
            if opening is not None:
                data = self._open()
            if not self.over:
                self._take(data)
        finally:
            self._busy = False
        self._pace()

    def finish(self, whole: bool = True) -> None:
        """
        It has ended.

        @param whole: otherwise it broke off, or is only a piece: nothing is taken out of it.
        """
        if self.over:
            return
        self._ended = True
        self._busy = True
        try:
            self._finish(whole)
        finally:
            self._busy = False
        self._pace()

    def _finish(self, whole: bool) -> None:
        if self._opening is not None:
            data = self._open()
            if data and not self.over:
                self._take(data)
        if self.over:
            return
        self._end_early()
        for slot in self._slots:
            if slot.open and slot.look is not None and not self.over:
                self._call(slot, slot.look.finish)
        if self.over:
            return
        if whole and self._collected is not None:
            self._take_apart()
        elif not whole:
            self._not_whole()
            if self.over:
                return
        self._finished = True
        for slot in self._slots:
            slot.watch(self._processor.loop, lambda slot=slot: self.late(slot))  # type: ignore[misc]
        self._settle()

    def cancel(self) -> None:
        """Nobody waits for the decision any more. Twice is once."""
        if not self.over:
            for slot in self._slots:
                if slot.verdict is not None:
                    slot.verdict.let_go()
            self._leave()
            self._pace()

    # the beginning

    def _open(self) -> bytes:
        """The type is as known as it gets: ask who wants to look. Gives what has come so far."""
        data = b"".join(self._opening or ())
        part, processor = self.part, self._processor
        part.sniffed = sniff(data)
        self._openers = processor.openers(part, self._entries)
        collects = bool(self._openers)
        for entry in self._entries:
            if self.over:
                return data
            slot = Slot(entry, None)
            self._slots.append(slot)
            try:
                slot.look = entry.inspector.look(part)
            except Exception as error:
                self._refused(slot, error)
                continue
            collects = collects or entry.inspector.keeps
            if slot.look is None:
                continue
            slot.open = True
            if entry.inspector.by_content:
                self._early = [] if self._early is None else self._early
            else:
                self._begin(slot)
        if not self.over:
            self._opening = None  # it is not settled before all were asked
            if collects:
                self._collected = []
            self._settle()
        return data

    def _begin(self, slot: Slot) -> None:
        look = slot.look
        assert look is not None
        slot.begun = True
        slot.tag = slot.entry.inspector.tag
        look.told = lambda verdict: self._told(slot, verdict)
        look.failed = lambda error: self._failed(slot, error)
        look.mask = self._mask
        slot.brake = brake = Brake(self, slot)
        self._call(slot, lambda: look.registerProducer(brake, True))

    def _mask(self, offset: int, length: int) -> bool:
        return self.mask(offset, length)

    # while it comes

    def _take(self, data: bytes) -> None:
        if self._digest is not None:
            self._digest.update(data)
        if self._collected is not None:
            self._collect(data)
        if self._early is not None:
            self._early.append(data)
        size = self.size
        for slot in self._slots:
            if not slot.open:
                continue
            if size > slot.entry.largest:
                self._too_large(slot)
            elif slot.begun:
                assert slot.look is not None
                try:
                    slot.look.write(data)
                except Exception as error:
                    self._refused(slot, error)
            if self.over:
                return
        if self._early is not None and size > EARLY:
            self._start_early()

    def _collect(self, data: bytes) -> None:
        processor = self._processor
        if self._collected_size + len(data) > processor.limits.collect or not processor.budget.take(len(data)):
            self._drop()
            what = "it is too large to be taken apart" if self.size > processor.limits.collect else "too much is held"
            error = EngineError(what, where="inspection", remedy="see [inspection]", fault="too_big")
            for slot in self._slots[:]:
                if slot.entry in self._openers and not self.over:
                    self._refused(slot, error, extra=True)
            return
        assert self._collected is not None
        self._collected.append(data)
        self._collected_size += len(data)

    def _drop(self) -> None:
        self._collected = None
        self._processor.budget.give(self._collected_size)
        self._collected_size = 0

    def _start_early(self) -> None:
        """Looks that waited begin."""
        early, self._early = self._early, None
        data = b"".join(early or ())
        for slot in self._slots:
            if slot.open and not slot.begun:
                self._begin(slot)
                if slot.open and data and slot.look is not None:
                    look = slot.look
                    self._call(slot, lambda look=look: look.write(data))  # type: ignore[misc]
            if self.over:
                return

    def _end_early(self) -> None:
        """All has come: verdicts that are known need no look."""
        if self._early is None or self._digest is None:
            return
        digest, processor = self._digest.digest(), self._processor
        now = processor.loop.seconds()
        for slot in self._slots:
            if slot.open and not slot.begun:
                tag = slot.entry.inspector.tag
                known = None if tag is None else processor.verdicts.find(slot.entry.name, tag, digest, now)
                if known is not None:
                    self._overrule(slot, None if known[0] is None else _moved(known[0], self.part))
                    if self.over:
                        return
        self._start_early()

    # what looks say

    def _call(self, slot: Slot, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self._refused(slot, error)

    def _told(self, slot: Slot, verdict: Verdict | None) -> None:
        entry = slot.entry
        if not isinstance(verdict, Verdict | None):
            verdict = failure(entry, TypeError())
        elif slot.open and entry.inspector.by_content and self._ended and self._digest is not None:
            tag = entry.inspector.tag
            if tag is not None and tag == slot.tag:
                verdicts, now = self._processor.verdicts, self._processor.loop.seconds()
                verdicts.keep(entry.name, tag, self._digest.digest(), verdict, now)
        self._close(slot, verdict)

    def _failed(self, slot: Slot, error: Exception) -> None:
        self._close(slot, failure(slot.entry, error))

    def _refused(self, slot: Slot, error: Exception, extra: bool = False) -> None:
        """
        The inspector itself failed, or cannot be asked.

        @param extra: what its own look says counts as well.
        """
        if not isinstance(error, InterceptError):
            log.failure("an inspector failed")
            error = EngineError(
                f"it failed ({type(error).__name__})", where=slot.entry.name, remedy="see the log", fault="broken"
            )
        if extra:
            self._slots.append(blamed := Slot(slot.entry, None))
            blamed.verdict = failure(slot.entry, error)
            if blamed.verdict.act >= Act.BLOCK:
                self._conclude()
            return
        self._overrule(slot, failure(slot.entry, error))

    def _too_large(self, slot: Slot) -> None:
        entry = slot.entry
        act = Act.BLOCK if entry.largest_closed else Act.REPORT
        what = f"it has more than the {entry.largest} bytes that are looked at"
        self._overrule(slot, Verdict(act, FAILURE, "too_big", what))

    def late(self, slot: Slot) -> None:
        """It has had its time."""
        entry = slot.entry
        if not slot.open:
            return
        busy, self._busy = self._busy, True
        what = f"no verdict within {entry.timeout:g} s"
        error = EngineError(what, where=entry.name, remedy="see the engine", fault="hangs")
        self._overrule(slot, failure(entry, error))
        self._busy = busy
        self._pace()

    def _overrule(self, slot: Slot, verdict: Verdict | None) -> None:
        """The verdict, whatever its look may still say."""
        slot.let_go()
        slot.open = True
        self._close(slot, verdict)

    def _close(self, slot: Slot, verdict: Verdict | None) -> None:
        if self.over or not slot.open:
            return
        slot.close(verdict)
        if verdict is not None and verdict.act >= Act.BLOCK:
            self._conclude()
        else:
            self._settle()
        if slot.brake is not None and slot.brake.off():
            self.brake(-1)

    # pieces

    def _take_apart(self) -> None:
        if self._openers:
            content = self._collected or []
            self._pieces = self._processor.take_apart(self.part, content, self._openers, self._taken_apart)

    def _not_whole(self) -> None:
        """Nothing can be taken out of a piece."""
        what = "it is not whole, so that nothing can be taken out of it"
        for entry in self._openers:
            blamed = Slot(entry, None)
            blamed.verdict = Verdict(Act.BLOCK if entry.unreadable_closed else Act.REPORT, FAILURE, "truncated", what)
            self._slots.append(blamed)
        if any(entry.unreadable_closed for entry in self._openers):
            self._conclude()

    def _taken_apart(self) -> None:
        if self.over:
            return
        if self._pieces is not None and any(each.verdict.act >= Act.BLOCK for each in self._pieces.found):
            self._conclude()
        else:
            self._settle()

    # the end

    def _settle(self) -> None:
        """Conclude, if nobody is waited for."""
        if self.over or self._opening is not None or any(slot.open for slot in self._slots):
            return
        if not self._finished and self._collected is not None:
            return
        if self._pieces is not None and not self._pieces.done:
            return
        self._conclude()

    def _conclude(self) -> None:
        found = [Found(slot.entry, self.part, slot.verdict) for slot in self._slots if slot.verdict is not None]
        if self._pieces is not None:
            found += self._pieces.found
        content = None if self._collected is None or not self._ended else tuple(self._collected)
        digest = ""
        if found and self._ended:
            if self._digest is not None:
                digest = self._digest.hexdigest()
            elif content is not None:
                whole = sha256()
                for piece in content:
                    whole.update(piece)
                digest = whole.hexdigest()
        decision = Decision.of(found, self.size, digest, content)
        for each in found:
            if each is not decision.worst:
                each.verdict.let_go()
        self._leave()
        self._decided(decision)
        self._pace()

    def _leave(self) -> None:
        """Let go of everything; whoever brings the part goes on behind that."""
        self.over = True
        busy, self._busy = self._busy, True
        for slot in self._slots:
            slot.let_go()
            if slot.brake is not None:
                slot.brake.off()
        if self._pieces is not None:
            self._pieces.cancel()
        self._early = self._opening = None
        self._drop()
        self._brakes = 0
        self._busy = busy

    # pace

    def brake(self, more: int) -> None:
        """A look has enough, or wants more."""
        self._brakes = max(self._brakes + more, 0)
        if not self.over:
            self._pace()

    def _pace(self) -> None:
        """Stop whoever brings the part, or let it go on, if that has changed."""
        stopped = self._brakes > 0
        if stopped is not self._stopped and not self._busy:
            self._stopped = stopped
            if stopped:
                self.stop()
            else:
                self.go()


class Brake:
    """
    What one look stops and sets going (IPushProducer). It may stop a part for as long as a verdict may take, and not
    once it is over.
    """

    __slots__ = ("_inspection", "_slot", "_timer")

    def __init__(self, inspection: Inspection, slot: Slot) -> None:
        self._inspection = inspection
        self._slot = slot
        self._timer: IDelayedCall | None = None

    def pauseProducing(self) -> None:
        inspection, slot = self._inspection, self._slot
        if self._timer is None and slot.open and not inspection.over:
            self._timer = inspection.loop.later(slot.entry.timeout, lambda: inspection.late(slot))
            inspection.brake(1)

    def resumeProducing(self) -> None:
        if self.off():
            self._inspection.brake(-1)

    def off(self) -> bool:
        """Let go; whether it was on."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return timer is not None


def _moved(verdict: Verdict, part: Part) -> Verdict:
    """The same verdict of another part, which has another name."""
    return replace(verdict, evidence=tuple(each._replace(where=each.where and part.path) for each in verdict.evidence))


def _nothing() -> None:
    """Nobody can be stopped."""


def _too_late(_offset: int, _length: int) -> bool:
    """Nothing is held back."""
    return False
