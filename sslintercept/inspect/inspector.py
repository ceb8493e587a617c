"""
What an inspector is: it is asked for a look at each part that its section matches, and each look gives one verdict.

An author writes two classes::

    class Size(Inspector):
        def look(self, part: Part) -> Look | None:
            return SizeLook() if part.leaves else None

    class SizeLook(Look):
        size = 0

        def write(self, data: bytes) -> None:
            self.size += len(data)

        def finish(self) -> None:
            self.tell(Verdict(Act.BLOCK, "size", "big", "too much leaves") if self.size > 1000 else None)

A look may take its time: whoever asked waits, for as long as the section's C{timeout} says. All calls come on the
reactor's thread and must return at once; work that takes long goes to a thread, to an engine, or to a worker process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from sslintercept.errors import EngineError, InterceptError
from sslintercept.inspect.part import Part
from sslintercept.inspect.verdict import Verdict


class Source(Protocol):
    """Who brings a part: an IPushProducer."""

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...


class Look:
    """
    A look at one part, while that comes.

    @ivar told: set by whoever asked; called by L{tell}. C{failed} likewise.
    @ivar mask: set by whoever asked: overwrites bytes of the part, by offset and length, that have not passed yet; says
        whether that was possible. For inspectors with C{changes}.
    @ivar over: it has told, failed, or was let go.
    """

    told: Callable[[Verdict | None], object]
    failed: Callable[[Exception], object]
    mask: Callable[[int, int], bool]
    over = False

    def write(self, data: bytes) -> None:
        """The next bytes, never none; nothing comes once it has told."""

    def finish(self) -> None:
        """All of it has come. L{tell} must be called: here, or later."""

    def abort(self) -> None:
        """Nobody waits for the verdict any more: let go of everything. Called at most once, and not once it told."""

    def registerProducer(self, source: Source, streaming: bool) -> None:
        """
        Who brings the part: a look that has enough calls C{source.pauseProducing}, and must call
        C{source.resumeProducing} then. Called once, before anything else.
        """

    # for the look itself

    def tell(self, verdict: Verdict | None) -> None:
        """The verdict, C{None} if there is nothing to say; may be told before the part has ended. Once counts."""
        if not self.over:
            self.over = True
            self.told(verdict)

    def fail(self, error: Exception) -> None:
        """There will be none: the section says what becomes of the part then."""
        if not self.over:
            self.over = True
            self.failed(error)

    def broke(self, failure: Failure, where: str) -> None:
        """
        An errback of what it waited for: L{fail}, and what is a defect goes on to the log. Once it is over only what
        nobody waits for any more may fail.

        @param where: of the error.
        """
        error = failure.value
        if self.over:
            failure.trap(CancelledError, InterceptError)
        elif isinstance(error, InterceptError):
            self.fail(error)
        else:
            self.fail(EngineError("it could not be judged", where=where, remedy="report it", fault="rubbish"))
            failure.raiseException()


@dataclass(frozen=True)
class NoOptions:
    """Of an inspector that has none."""


class Inspector:
    """
    An inspector with its options; L{look} is asked for each part that its section matches.

    @cvar Options: a dataclass whose fields are keys of its section (L{sslintercept.config.key.setting}).
    @cvar members: whether it also wants what is taken out of parts: members of archives, attachments, texts of
        documents. One that takes apart parts itself does not.
    @cvar forms: whether it wants at least what stands in forms (C{multipart/form-data}), which engines for files do not
        take apart.
    @cvar queries: it glances at requests with a query only.
    @cvar by_content: its verdict depends on the bytes alone, so that it is remembered by their digest.
    @cvar heads: it wants the heads of a message of HTTP (L{Part.request_head}), and also requests without a body.
    @ivar changes: it may answer with L{Act.REDACT} or L{Act.REPLACE}. Of what it looks at validators are weakened.
    @ivar keeps: it may answer with L{Act.QUARANTINE}, so that content has to be kept until it has.
    """

    Options: type[Any] = NoOptions  # Any: each inspector has its own dataclass
    members = False
    forms = False
    queries = False
    by_content = False
    heads = False
    changes = False
    keeps = False

    def __init__(self, options: Any = None) -> None:  # Any: an instance of C{Options}
        self.options = options

    @property
    def tag(self) -> bytes | None:
        """Under which a verdict of now may be remembered: what changes it gives another one. C{None}: not now."""
        return b""

    def glance(self, part: Part) -> Verdict | None:
        """Judge by what is known before any content comes; C{None} if there is nothing to say yet."""
        return None

    def look(self, part: Part) -> Look | None:
        """
        Look at a part; C{None} if it is of no interest, and passes.

        @raise InterceptError: it cannot be looked at; the section says what becomes of it.
        """
        return None

    def judge(self, part: Part, content: bytes) -> Verdict | None:
        """
        Judge a part that is there as a whole, and not large: what L{look} would tell, at once. Whoever can do this
        beside L{look} saves most small bodies a look; it is asked only if C{changes} is false.

        @raise InterceptError: as for L{look}.
        """
        raise NotImplementedError

    def close(self) -> None:
        """These settings are not in force any more, and nothing is under way: let go of connections."""
