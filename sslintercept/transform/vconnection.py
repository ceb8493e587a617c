"""
A chain of stages that a body flows through, one way (ATS: TransformVConnection).

To the tunnel that brings the body the chain is a consumer, to the tunnel that takes it a producer. Between the two
every stage stands in a link, which is itself a consumer to what is before it and a producer to what follows, so that a
receiver who stands still stops the sender through any number of stages. At the end is the terminus: it keeps what comes
out until the owner reads, and reports once, in the reactor turn of the first byte or of the end, that there is output
and how long it will be (ATS: TRANSFORM_READ_READY). Whatever came out in the same turn is known by then, so a body that
is there as a whole has a length though no stage announced one.

What a chain holds is bounded: of its output one high water mark before the owner reads, in each link what was under way
when its stage began to wait. Waits are bounded too: a stage that holds its input, or the end of its output, for longer
than C{patience} without giving a byte breaks the chain, unless what follows is full.

Python calls: a chunk costs L{Link.write}, the stage's C{write} and L{Link.give} for each stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import InterceptError
from sslintercept.profile.profile import Bytes
from sslintercept.transform.link import Link, Loop, Unwanted
from sslintercept.transform.stage import StageError, Transform

HIGH_WATER: Final = 64 * 1024
"""bytes of output that nobody reads yet at which the input is stopped"""
PATIENCE: Final = 60.0
"""seconds that a stage may hold the body without giving a byte"""

log = Logger()


class Source(Protocol):
    """Who brings the body: an IPushProducer."""

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...


class Entry:
    """The beginning of a chain: tells whoever brings the body to stop and to go on."""

    __slots__ = ("_held", "_source")

    def __init__(self) -> None:
        self._source: Source | None = None
        self._held = False

    def attach(self, source: Source | None) -> None:
        """From now on it is C{source} that brings the body, or nobody."""
        self._source = source
        if self._held and source is not None:
            source.pauseProducing()

    def pauseProducing(self) -> None:
        """The first stage has enough."""
        self._held = True
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """The first stage has room."""
        self._held = False
        if self._source is not None:
            self._source.resumeProducing()


class Terminus:
    """
    The end of a chain (ATS: TransformTerminus).

    @ivar ended: all of the output has come.
    @ivar length: how long the output is in all, or C{None} while nobody knows.
    """

    __slots__ = ("_chain", "_end", "_full", "_kept", "_paused", "_receive", "ended", "length", "size")

    def __init__(self, chain: TransformVConnection) -> None:
        self._chain = chain
        self._kept: list[bytes] = []
        self._receive: Callable[[Bytes], object] | None = None
        self._end: Callable[[], object] = lambda: None
        self._full = False
        """more is kept than should be"""
        self._paused = False
        """the reader has enough"""
        self.size = 0
        self.ended = False
        self.length: int | None = None

    def announced(self, length: int) -> None:
        """The output's length is known."""
        self.length = length

    def write(self, data: Bytes) -> None:
        """Take output."""
        receive = self._receive
        if receive is not None:
            receive(data)
            return
        self._kept.append(bytes(data))
        self.size += len(data)
        if self.size > HIGH_WATER and not self._full:
            self._full = True
            self._chain.last.pauseProducing()
        self._chain.output_begins()

    def end(self) -> None:
        """There is no more output."""
        self.ended = True
        if self._receive is not None:
            self._end()
            return
        if self.length is None:
            self.length = self.size
        self._chain.output_begins()

    def read_to(self, receive: Callable[[Bytes], object], end: Callable[[], object]) -> None:
        """Give what is kept, and from now on everything at once."""
        kept, self._kept = self._kept, []
        self._receive, self._end = receive, end
        for data in kept:
            receive(data)
        if self._receive is receive:
            self._chain.last.lead(receive)
        if self.ended:
            end()
        elif self._full and not self._paused:
            self._full = False
            self._chain.last.resumeProducing()

    def pause(self) -> None:
        """The reader has enough."""
        if not self._paused:
            self._paused = True
            if not self._full:
                self._chain.last.pauseProducing()

    def resume(self) -> None:
        """The reader has room."""
        if self._paused:
            self._paused = self._full = False
            self._chain.last.resumeProducing()

    def drop(self) -> None:
        """Nobody reads any more."""
        self._kept.clear()
        self._receive, self._end = _nowhere, _nothing
        self._chain.last.lead(_nowhere)


def _nowhere(_data: Bytes) -> None:
    """Where output goes that nobody wants."""


def _nothing() -> None:
    """What happens then at its end."""


@implementer(IConsumer, IPushProducer)
class TransformVConnection:
    """
    A chain of stages.

    The owner starts it with L{start}; then the tunnel that brings the body writes, L{finish} or L{abort} says how that
    ended, and after C{ready} the owner reads with L{read_to} whenever it likes.

    @ivar error: what broke it.
    @ivar length: how many bytes come out in all, if that is known.

    @param stages: at least one, the first to get the body first.
    @param ready: called once, before anything is read: with the output's length, or C{None} where it is not known.
    @param failed: called once if a stage breaks; all have been let go by then.
    @param detached: called once if the rest of the body is not wanted, although the output is fine.
    @raise ValueError: there is no stage.
    """

    def __init__(
        self,
        stages: Sequence[Transform],
        loop: Loop,
        *,
        ready: Callable[[int | None], object],
        failed: Callable[[InterceptError], object],
        detached: Callable[[], object] = lambda: None,
        patience: float = PATIENCE,
    ) -> None:
        if not stages:
            raise ValueError("a transform chain needs a stage")
        self.loop = loop
        self.patience = patience
        self.error: InterceptError | None = None
        self._ready: Callable[[int | None], object] | None = ready
        self._failed = failed
        self._detached: Callable[[], object] | None = detached
        self._reporting = False
        self._over = False
        self.entry = Entry()
        self.terminus = Terminus(self)
        self.links: list[Link] = []
        for stage in stages:
            self.links.append(Link(self, stage, self.links[-1] if self.links else None))
        self.last = self.links[-1]
        self.write: Callable[[Bytes], None] = self.links[0].write

    @property
    def length(self) -> int | None:
        return self.terminus.length

    @property
    def whole(self) -> bool:
        """Whether all of the output has come."""
        return self.terminus.ended

    def start(self, length: int | None = None) -> None:
        """
        Let the stages begin, the last first, so that each finds its output working.

        @param length: of the body, if that is known.
        """
        for at in range(len(self.links) - 1, -1, -1):
            following = self.links[at + 1] if at + 1 < len(self.links) else self.terminus
            self.links[at].begin(following)
        if length is not None and not self._over:
            self.links[0].announced(length)

    # to the tunnel that brings the body

    def finish(self) -> None:
        """The body has ended as it should."""
        if not self._over:
            self.links[0].end()

    def abort(self, reason: Exception) -> None:
        """The body broke off, or nobody wants the output: every stage that has not finished hears so, once."""
        if not self._over:
            self._over = True
            self._ready = self._detached = None
            self._abort_links(reason)
            self.terminus.drop()

    def _abort_links(self, reason: Exception) -> None:
        for link in self.links:
            link.abort(reason)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let C{producer} be stopped while the chain has enough (IConsumer)."""
        if not streaming:
            raise ValueError("a transform chain needs a producer that pushes")
        self.entry.attach(producer)

    def unregisterProducer(self) -> None:
        """Nothing more comes (IConsumer)."""
        self.entry.attach(None)

    # to the tunnel that takes it

    def read_to(self, receive: Callable[[Bytes], object], end: Callable[[], object]) -> None:
        """
        Give the output.

        @param end: called once behind its last byte; not if the chain breaks, that is C{failed}.
        """
        self.terminus.read_to(receive, end)

    def pauseProducing(self) -> None:
        """The reader has enough (IPushProducer)."""
        self.terminus.pause()

    def resumeProducing(self) -> None:
        """The reader has room (IPushProducer)."""
        self.terminus.resume()

    def stopProducing(self) -> None:
        """The reader is gone (IPushProducer)."""
        self.abort(Unwanted("nobody takes the output", where="transform", remedy="nothing is wrong"))

    # from the links

    def output_begins(self) -> None:
        """There is output, or the end of it."""
        if not self._reporting:
            self._reporting = True
            self.loop.soon(self._report)

    def _report(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready(self.terminus.length)

    def unwanted(self, link: Link | None) -> None:
        """C{link}, and what is before it, need give nothing more."""
        reason = Unwanted("what follows has finished", where="transform", remedy="nothing is wrong")
        while link is not None:
            link.abort(reason)
            link = link.preceding
        detached, self._detached = self._detached, None
        if detached is not None:
            # Not from here: whoever detached us may be in the middle of writing to us.
            self.loop.soon(detached)

    def broke(self, error: BaseException, link: Link) -> None:
        """A stage broke."""
        if self._over:
            return
        if not isinstance(error, InterceptError):
            log.failure("a stage failed", failure=Failure(error))
            what = f"it failed ({type(error).__name__})"
            error = StageError(what, where=self.name_of(link), remedy="see the proxy's log")
        self.error = error
        self._over = True
        self._ready = self._detached = None
        self._abort_links(error)
        self.terminus.drop()
        self._failed(error)

    def name_of(self, link: Link) -> str:
        """What errors call a stage."""
        return f"transform stage {type(link.stage).__name__}"
