"""Inspectors that do as a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.errors import EngineError
from sslintercept.inspect.engines import Engines
from sslintercept.inspect.inspector import Inspector, Look, Source
from sslintercept.inspect.part import Part
from sslintercept.inspect.verdict import MALWARE, Act, Verdict
from sslintercept.transform.message import Answer

BAD = Verdict(Act.BLOCK, MALWARE, "Bad", "it is bad")


class WordLook(Look):
    """Tells C{verdict} if C{word} comes."""

    def __init__(self, word: bytes, verdict: Verdict, *, early: bool = False) -> None:
        self.word, self.verdict, self.early = word, verdict, early
        self.got = b""
        self.ended = self.aborted = False
        self.source: Source | None = None

    def registerProducer(self, source: Source, streaming: bool) -> None:
        self.source = source

    def write(self, data: bytes) -> None:
        self.got += data
        if self.early and self.word in self.got:
            self.tell(self.verdict)

    def finish(self) -> None:
        self.ended = True
        self.tell(self.verdict if self.word in self.got else None)

    def abort(self) -> None:
        self.aborted = True


class Word(Inspector):
    """Looks for a word."""

    def __init__(
        self,
        word: bytes = b"EVIL",
        verdict: Verdict = BAD,
        make: Callable[[Part], Look | None] | None = None,
        *,
        members: bool = False,
        forms: bool = False,
        by_content: bool = False,
        keeps: bool = False,
        changes: bool = False,
        early: bool = False,
    ) -> None:
        super().__init__()
        self.members, self.forms = members, forms
        self.by_content, self.keeps, self.changes = by_content, keeps, changes
        self.looks: list[Look] = []
        self.parts: list[Part] = []
        self.closed = False
        self._make = make or (lambda part: WordLook(word, verdict, early=early))

    def look(self, part: Part) -> Look | None:
        look = self._make(part)
        self.parts.append(part)
        if look is not None:
            self.looks.append(look)
        return look

    def close(self) -> None:
        self.closed = True


class LateLook(WordLook):
    """Tells when the test says so, or after a time."""

    def __init__(self, word: bytes, verdict: Verdict, engines: Engines, seconds: float) -> None:
        super().__init__(word, verdict)
        self._engines, self._seconds = engines, seconds

    def finish(self) -> None:
        self.ended = True
        if self._seconds:
            self._engines.handler.later(self._seconds, self.say)

    def say(self) -> None:
        """The verdict."""
        self.tell(self.verdict if self.word in self.got else None)


@dataclass(frozen=True)
class LateOptions:
    """Of L{late}."""

    seconds: float = setting(units.word_or("never", 0.0, units.duration()), "never", "from the end to the verdict")


def late(options: LateOptions, engines: Engines) -> Inspector:
    """For ini files: C{use = tests.inspect.stubs:late}."""
    return Word(make=lambda part: LateLook(b"EVIL", BAD, engines, options.seconds))


late.Options = LateOptions  # type: ignore[attr-defined]  # how a factory names them


class Spare:
    """Content of an engine's, which holds it until it is read or let go."""

    def __init__(self) -> None:
        self.stopped = 0

    def read_to(self, *_: object) -> None:
        raise AssertionError("nobody should read it")

    def pauseProducing(self) -> None:
        """Nobody does."""

    def resumeProducing(self) -> None:
        """Nobody does."""

    def stopProducing(self) -> None:
        self.stopped += 1


@dataclass(frozen=True)
class EvilOptions:
    """Of L{evil}."""

    word: str = setting(units.token(), "EVIL", "what is bad")
    act: str = setting(units.choice("block", "quarantine", "tag", "report", "redact", "replace"), "block", "what then")
    early: str = setting(units.choice("yes", "no"), "no", "told at once")
    late: str = setting(units.choice("yes", "no"), "no", "told in a later turn of the reactor")
    answer: str = setting(units.choice("yes", "no"), "no", "what a client is told is said, too")


def evil(options: EvilOptions, engines: Engines) -> Inspector:
    """For ini files: C{use = tests.inspect.stubs:evil}."""
    act = Act[options.act.upper()]
    word = options.word.encode()
    content = b"CLEAN" if act is Act.REPLACE else None
    answer = Answer(403, ((b"X-By", b"the engine"),), b"not that") if options.answer == "yes" else None
    verdict = Verdict(act, MALWARE, "Bad", "it is bad", score=7, content=content, answer=answer)

    class MaskLook(WordLook):
        def finish(self) -> None:
            at = self.got.find(word)
            self.tell(verdict if at >= 0 and self.mask(at, len(word)) else None)

    class LateLook(WordLook):
        def finish(self) -> None:
            engines.handler.later(0, super().finish)

    make: Callable[[Part], Look | None] | None = None
    if act is Act.REDACT:
        make = lambda part: MaskLook(word, verdict)  # noqa: E731 - one of two
    elif options.late == "yes":
        make = lambda part: LateLook(word, verdict)  # noqa: E731 - likewise
    return Word(
        word,
        verdict,
        make,
        members=True,
        keeps=act is Act.QUARANTINE,
        changes=act in (Act.REDACT, Act.REPLACE),
        early=options.early == "yes",
    )


evil.Options = EvilOptions  # type: ignore[attr-defined]  # how a factory names them


def halting(options: EvilOptions, engines: Engines) -> Inspector:
    """Stops whoever brings a part with the first bytes, and tells a second later what it has seen by then."""
    word = options.word.encode()

    class HaltingLook(WordLook):
        def write(self, data: bytes) -> None:
            super().write(data)
            if self.got == data and self.source is not None:
                self.source.pauseProducing()
                engines.handler.later(1.0, lambda: self.tell(self.verdict if word in self.got else None))

    return Word(word, BAD, lambda part: HaltingLook(word, BAD))


halting.Options = EvilOptions  # type: ignore[attr-defined]  # likewise


class Glancing(Inspector):
    """Says what C{says} says of every part before it comes."""

    def __init__(self, says: Callable[[Part], Verdict | None]) -> None:
        super().__init__()
        self.says = says

    def glance(self, part: Part) -> Verdict | None:
        return self.says(part)


@dataclass(frozen=True)
class GlanceOptions:
    """Of L{glancing}."""

    act: str = setting(units.choice("report", "raise", "change"), "report", "what it does")


def glancing(options: GlanceOptions, engines: Engines) -> Inspector:
    """Likewise: finds fault with everything at the first glance."""

    def says(part: Part) -> Verdict:
        if options.act == "raise":
            raise EngineError("it is gone", where="one", remedy="none", fault="unreachable")
        return Verdict(Act.REPORT if options.act == "report" else Act.REPLACE, MALWARE, "Bad", "it is bad")

    return Glancing(says)


glancing.Options = GlanceOptions  # type: ignore[attr-defined]  # likewise


def asking(options: EvilOptions, engines: Engines) -> Inspector:
    """Looks for the word in the heads of requests, also of those without a body."""
    word = options.word.encode()

    class HeadLook(WordLook):
        def __init__(self, part: Part) -> None:
            super().__init__(word, BAD)
            self.got = part.request_head

    found = Word(word, BAD, lambda part: HeadLook(part) if part.leaves else None)
    found.heads = True
    return found


asking.Options = EvilOptions  # type: ignore[attr-defined]  # likewise


class Saying(Inspector):
    """Says in the log of the process that it was let go."""

    def __init__(self, options: object, engines: Engines) -> None:
        super().__init__(options)

    def look(self, part: Part) -> Look:
        return WordLook(b"EVIL", BAD)

    def close(self) -> None:
        Logger().info("an inspector was let go")
