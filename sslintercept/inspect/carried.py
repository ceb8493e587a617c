"""
Mails and files under inspection: each goes through a gate of the conversation that carries it
(L{sslintercept.dialogue.watcher.PartGate}).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sslintercept.errors import InspectedError
from sslintercept.facts import Address, Facts
from sslintercept.inspect.entry import Decision, Entry
from sslintercept.inspect.hold import Hold
from sslintercept.inspect.part import MOST_NAME, Part
from sslintercept.inspect.verdict import TAG, Act, Verdict
from sslintercept.phish.tag import tagged
from sslintercept.transform.message import Direction

if TYPE_CHECKING:
    from sslintercept.inspect.processor import InspectProcessor

MESSAGE: Final = "message"


class Carried(Protocol):
    """What a conversation says of a part (L{sslintercept.dialogue.watcher.Part})."""

    @property
    def carrier(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def upload(self) -> bool: ...
    @property
    def user(self) -> str | None: ...
    @property
    def sender(self) -> str: ...
    @property
    def recipients(self) -> tuple[str, ...]: ...


class Way(Protocol):
    """Where a gate lets content pass (L{sslintercept.dialogue.watcher.Way})."""

    def release(self, data: bytes) -> None: ...
    def replace(self, data: bytes) -> None: ...
    def ended(self, error: InspectedError | None) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class InspectParts:
    """The inspectors, to conversations that carry parts (L{sslintercept.interfaces.IPartHandler})."""

    def __init__(self, processor: InspectProcessor) -> None:
        self._processor = processor

    def part(self, carried: Carried, facts: Facts) -> CarriedGate | None:
        """A message or a file begins; C{None} if nobody inspects it."""
        part = part_of(carried, facts)
        entries = self._processor.wanted(part)
        return CarriedGate(self._processor, part, entries) if entries else None


def part_of(carried: Carried, facts: Facts) -> Part:
    """What it is to an inspector."""
    host = facts.destination.host if isinstance(facts.destination, Address) else ""
    message = carried.kind == MESSAGE
    return Part(
        carrier=carried.carrier,
        kind=carried.kind,
        direction=Direction.REQUEST if carried.upload else Direction.RESPONSE,
        facts=facts,
        name=(carried.name if message else carried.name.replace("\\", "/").rpartition("/")[2])[:MOST_NAME],
        media_type="message/rfc822" if message else "",
        host=host,
        sender=carried.sender,
        recipients=carried.recipients,
        user=carried.user or facts.login or facts.user,
    )


class CarriedGate:
    """One message or file."""

    def __init__(self, processor: InspectProcessor, part: Part, entries: Sequence[Entry]) -> None:
        self._processor = processor
        self._part = part
        self._entries = entries
        self._way: Way
        self._whole = False
        self._over = False
        self._error: InspectedError | None = None
        """what was found before any content came"""
        self._hold = Hold(processor.limits.hold, self._release)
        self._inspection = processor.inspect(part, entries, self._decided)
        self._inspection.mask = self._hold.mask

    def begin(self, way: Way) -> None:
        """Called once, before anything else."""
        self._way = way
        self._inspection.stop, self._inspection.go = way.pause, way.resume
        decision = self._processor.glance(self._part, self._entries)
        if decision.found:
            # It is refused with its first bytes: the conversation is not ready for that yet.
            self._error = self._processor.settle(self._part, decision)

    def write(self, data: bytes) -> None:
        """The next bytes of the content."""
        if self._error is not None:
            self._refuse(self._error)
        if self._over:
            return
        if self._inspection.over:
            self._way.release(data)
            return
        self._hold.add(data)
        self._inspection.write(data)
        self._hold.trim()

    def finish(self, whole: bool) -> None:
        """All has come, or as much of it as was asked for."""
        if self._error is not None:
            self._refuse(self._error)
        if self._over:
            return
        self._whole = whole
        if self._inspection.over:
            self._end()
        else:
            self._inspection.finish(whole)

    def abort(self) -> None:
        """Nobody waits any more."""
        self._over = True
        self._hold.take()
        self._inspection.cancel()

    # what passes

    def _release(self, data: bytes) -> None:
        self._way.release(data)

    def _end(self) -> None:
        self._over = True
        self._way.ended(None)

    def _refuse(self, error: InspectedError) -> None:
        self._error = None
        self._over = True
        self._hold.take()
        self._inspection.cancel()
        self._way.ended(error)

    def _decided(self, decision: Decision) -> None:
        processor, part = self._processor, self._part
        error = processor.settle(part, decision)
        if error is not None:
            self._refuse(error)
            return
        worst = decision.worst
        if worst is not None and decision.act in (Act.TAG, Act.REPLACE):
            content = self._changed(worst.verdict)
            if content is not None:
                self._over = True
                self._hold.take()
                self._way.replace(content)
                self._way.ended(None)
                return
            if decision.act is Act.REPLACE:
                worst.verdict.let_go()
                self._refuse(processor.late(part, worst.entry))
                return
        self._hold.let_go()
        if self._inspection.ended:
            self._end()

    def _changed(self, verdict: Verdict) -> bytes | None:
        """What takes the place of the whole; C{None} if that is too late, or not possible."""
        if not self._whole or self._hold.released:
            return None
        if verdict.act is Act.REPLACE:
            return verdict.content if isinstance(verdict.content, bytes) else None
        if self._part.kind != MESSAGE:
            return None
        marks = verdict.marks or ((TAG, verdict.tag),)
        return tagged(self._hold.take(), verdict.subject, marks)
