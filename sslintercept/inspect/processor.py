"""
The inspectors of one generation of settings: who gets a part, and what becomes of it then.

Everything that carries parts asks here: L{sslintercept.inspect.body} for HTTP, L{sslintercept.inspect.conversation} for
WebSocket, L{sslintercept.inspect.carried} for mail and files. What is found is written down here, once for each part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final, Protocol
from weakref import finalize

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sslintercept.errors import InspectedError, InterceptError
from sslintercept.event.log import Events
from sslintercept.event.record import Event, Trace
from sslintercept.inspect.entry import PASSES, Decision, Entry, Found, failure
from sslintercept.inspect.inspection import Inspection, Loop
from sslintercept.inspect.memory import Budget, Verdicts
from sslintercept.inspect.part import Part, sniff
from sslintercept.inspect.pieces import Piece, Pieces
from sslintercept.inspect.verdict import FAILURE, MOST_EVIDENCE, Act, Verdict
from sslintercept.unpack.known import opens

RAW: Final = frozenset(
    (
        "application/ecmascript",
        "application/javascript",
        "application/json",
        "application/x-javascript",
        "application/x-www-form-urlencoded",
        "application/xml",
    )
)
"""texts that inspectors read as they come; beside all of C{text/} and what ends in C{+json} or C{+xml}"""
FORM: Final = "multipart/form-data"
TITLES: Final = {
    "malware": "malware was found",
    "site": "the site is listed",
    "leak": "it holds what must not leave",
    "phishing": "it looks like phishing",
    FAILURE: "it could not be inspected",
}
MOST_EVENTS: Final = 32
"""events of one part"""

log = Logger()


class TakeApart(Protocol):
    """Takes parts apart in a worker process (L{sslintercept.inspect.apart})."""

    def __call__(self, part: Part, content: Sequence[bytes]) -> Deferred[Sequence[Piece]]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Of one part, and of all.

    @ivar hold: bytes of a part that are held back while it is inspected.
    @ivar collect: bytes of a part that is taken apart, or kept for the quarantine.
    @ivar memory: bytes that all inspections of a process keep for that at once.
    @ivar remember: verdicts that are remembered by digest; C{remember_for}: seconds.
    """

    hold: int = 1 << 20
    collect: int = 32 << 20
    memory: int = 256 << 20
    remember: int = 10_000
    remember_for: float = 3600.0


class InspectProcessor:
    """
    @ivar entries: the inspectors in the order of their sections.

    @param new_id: names an event.
    @param wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        loop: Loop,
        limits: Limits,
        events: Events,
        apart: TakeApart,
        *,
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
    ) -> None:
        self.entries = tuple(entries)
        self.loop = loop
        self.limits = limits
        self.budget = Budget(limits.memory)
        self.verdicts = Verdicts(limits.remember, limits.remember_for)
        self._events = events
        self._apart = apart
        self._new_id = new_id
        self._wall_clock = wall_clock

    # who gets a part

    def wanted(self, part: Part) -> list[Entry]:
        """The inspectors whose sections match a part; by what its carrier said of it."""
        return [entry for entry in self.entries if entry.match.judge(part, True)]

    def glance(self, part: Part, entries: Sequence[Entry]) -> Decision:
        """What can be said before any content has come."""
        found: list[Found] = []
        for entry in entries:
            if entry.glances:
                try:
                    verdict = entry.inspector.glance(part)
                except Exception as error:
                    verdict = _broken(entry, error)
                if verdict is not None:
                    verdict = _unchanging(verdict, "early", "it was to be changed before any of it has come")
                    found.append(Found(entry, part, verdict))
        return Decision.of(found) if found else PASSES

    def judge(self, part: Part, entries: Sequence[Entry], content: bytes) -> Decision | None:
        """What is to be said of a part that is there as a whole; C{None} if somebody has to look at it for that."""
        size = len(content)
        for entry in entries:
            if not entry.judges or size > entry.largest:
                return None
        part.sniffed = sniff(content)
        if self.openers(part, entries):
            return None
        found: list[Found] = []
        for entry in entries:
            try:
                verdict = entry.inspector.judge(part, content)
            except Exception as error:
                verdict = _broken(entry, error)
            if verdict is not None:
                verdict = _unchanging(verdict, "broken", "it was to be changed by one that changes nothing")
                found.append(Found(entry, part, verdict))
                if verdict.act >= Act.BLOCK:
                    break
        if not found:
            return PASSES
        kept = (content,) if any(entry.inspector.keeps for entry in entries) else None
        return Decision.of(found, size, sha256(content).hexdigest() if kept else "", kept)

    def inspect(self, part: Part, entries: Sequence[Entry], decided: Callable[[Decision], object]) -> Inspection:
        """Begin to inspect a part; write it into what is returned."""
        return Inspection(self, part, entries, decided)

    def openers(self, part: Part, entries: Sequence[Entry]) -> list[Entry]:
        """The inspectors that want what can be taken out of a part, and nobody sees as it comes."""
        raw = _raw(part.media_type, part.sniffed, part.kind == "message")
        if raw or not opens(part.media_type, part.sniffed, part.name):
            return []
        form = part.media_type == FORM
        return [each for each in entries if each.inspector.members or (form and each.inspector.forms)]

    def take_apart(
        self, part: Part, content: Sequence[bytes], entries: Sequence[Entry], over: Callable[[], object]
    ) -> Pieces:
        """Take a part apart and let the inspectors see the pieces."""
        return Pieces(self, part, entries, self._apart(part, content), over)

    # what becomes of it

    def settle(self, part: Part, decision: Decision) -> InspectedError | None:
        """
        Write down what was found.

        @return: the error that its carrier answers with, if the part does not pass.
        """
        told = ""
        first = decision.found[:MOST_EVENTS]
        if decision.worst is not None and all(found is not decision.worst for found in first):
            first = (*first[:-1], decision.worst)
        for found in first:
            event = self._event(part, found, decision)
            if found.verdict.act is Act.QUARANTINE and decision.content is not None:
                self._events.tell_with_copy(event, decision.content)
            else:
                self._events.tell(event)
            if found is decision.worst:
                told = event.id
        if decision.passes or decision.worst is None:
            return None
        entry, _, verdict = decision.worst
        why = TITLES.get(verdict.kind, verdict.kind)
        what = f"{why} ({verdict.name}: {verdict.reason})" if verdict.reason else f"{why} ({verdict.name})"
        return InspectedError(
            what,
            where=f"[inspect:{entry.name}]",
            remedy="ask whoever runs this proxy, and name the event",
            category=verdict.kind,
            event=told,
        )

    def late(self, part: Part, entry: Entry) -> InspectedError:
        """The error of a part that was to be changed when some of it had passed; it is written down."""
        what = "it was to be changed, and some of it has passed, or it cannot be changed here"
        found = Found(entry, part, Verdict(Act.BLOCK, FAILURE, "late", what))
        error = self.settle(part, Decision.of([found]))
        assert error is not None
        return error

    def _event(self, whole: Part, found: Found, decision: Decision) -> Event:
        entry, part, verdict = found
        facts = part.facts
        here = part is whole
        return Event(
            id=self._new_id(),
            time=self._wall_clock(),
            kind=verdict.kind,
            act=verdict.act.name.lower(),
            inspector=entry.name,
            name=verdict.name,
            reason=verdict.reason,
            score=verdict.score,
            engine=verdict.engine,
            version=verdict.version,
            evidence=tuple(
                Trace(each.what, each.text, each.where, each.offset, each.length, each.score)
                for each in verdict.evidence[:MOST_EVIDENCE]
            ),
            carrier=part.carrier,
            part=part.path,
            part_kind=part.kind,
            direction=part.direction.value,
            media_type=part.media_type,
            sniffed=part.sniffed,
            size=decision.size if here else part.length,
            sha256=decision.sha256 if here else "",
            url=part.url,
            host=part.host,
            client=facts.client.host,
            user=part.user or facts.user,
            listener=facts.listener,
            connection=facts.id,
            sender=part.sender,
            recipients=part.recipients,
        )


class Generations:
    """
    Lets the inspectors of a generation of settings go, once.

    Whatever may still ask them holds their L{InspectProcessor}: a proxy that some connection has, a body, a gate. So
    they go when nothing does any more; the garbage collector says so, on whatever thread it runs.

    @param call: calls something on the reactor's thread, at any time and from any thread.
    """

    def __init__(self, call: Callable[[Callable[[], object]], object]) -> None:
        self._call = call
        self._alive: list[finalize[[Callable[[], object]], InspectProcessor]] = []

    def watch(self, processor: InspectProcessor) -> None:
        """A generation comes into force."""
        entries = processor.entries
        gone = finalize(processor, self._call, lambda: _close(entries))
        gone.atexit = False
        self._alive = [*(one for one in self._alive if one.alive), gone]

    def older(self, current: InspectProcessor | None) -> bool:
        """Whether there are others than C{current}."""
        return any((left := one.peek()) is not None and left[0] is not current for one in self._alive)

    def close(self) -> None:
        """The process stops, and nothing is under way: let all of them go."""
        alive, self._alive = self._alive, []
        for one in alive:
            if (left := one.detach()) is not None:
                _close(left[0].entries)


@lru_cache(1024)
def _raw(media_type: str, sniffed: str, message: bool) -> bool:
    """Whether all that is in a part is seen as it comes."""
    kind = sniffed or media_type
    if kind == "text/plain" and media_type:
        kind = media_type
    return kind in RAW or kind.endswith(("+json", "+xml")) or (kind.startswith("text/") and not message)


def _broken(entry: Entry, error: Exception) -> Verdict:
    if not isinstance(error, InterceptError):
        log.failure("an inspector failed")
    return failure(entry, error)


def _unchanging(verdict: Verdict, name: str, what: str) -> Verdict:
    """What is said where nothing can be changed."""
    if verdict.act not in (Act.REDACT, Act.REPLACE):
        return verdict
    verdict.let_go()
    return Verdict(Act.BLOCK, FAILURE, name, what)


def _close(entries: Sequence[Entry]) -> None:
    for entry in entries:
        try:
            entry.inspector.close()
        except Exception:
            log.failure("an inspector failed as it was let go")
