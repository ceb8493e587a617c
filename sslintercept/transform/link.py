"""
A stage at its place in a chain: what comes in before it is ready waits, and both neighbours hear when to stop.

See L{sslintercept.transform.vconnection} for the whole. A link calls its stage, and its stage calls the link through
L{LinkOutput}; whatever the stage raises is the chain's business and goes no further.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import InterceptError
from sslintercept.profile.profile import Bytes
from sslintercept.transform.stage import Later, StageError, Transform

if TYPE_CHECKING:
    from sslintercept.transform.vconnection import Terminus, TransformVConnection

log = Logger()


class Loop(Protocol):
    """What a chain needs of the reactor (L{sslintercept.net.handler.NetHandler})."""

    def soon(self, call: Callable[[], object]) -> None: ...
    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...


class Unwanted(InterceptError):
    """What follows in the chain has finished and needs no more; it is nobody's fault."""

    kind = "unwanted"


@implementer(IConsumer, IPushProducer)
class Link:
    """
    A stage at its place; to the stage it is the output (L{sslintercept.transform.stage.Output}).

    @ivar stage: whose place it is.
    @ivar preceding: the link before, or C{None} for the first.
    @ivar finished: the stage's output has ended.
    @ivar expected: bytes that the stage announced, or C{None}.
    @ivar given: bytes that the stage gave.
    """

    __slots__ = (
        "_begun",
        "_chain",
        "_ended",
        "_following",
        "_full",
        "_held",
        "_holding",
        "_onward",
        "_queue",
        "_timer",
        "_told",
        "_views",
        "_waiting",
        "expected",
        "finished",
        "given",
        "preceding",
        "stage",
    )

    def __init__(self, chain: TransformVConnection, stage: Transform, preceding: Link | None) -> None:
        self._chain = chain
        self.stage = stage
        self.preceding = preceding
        self._views = stage.takes_views
        self._following: Link | Terminus = chain.terminus
        self._onward: Callable[[Bytes], object] = chain.terminus.write
        """takes the output"""
        self._queue: deque[bytes] = deque()
        """input that came while the stage waited"""
        self._waiting = False
        """a Deferred of the stage has not fired"""
        self._holding = False
        """the stage has stopped its input itself"""
        self._full = False
        self._held = False
        """the source of this link was told to stop"""
        self._ended = False
        """the input has ended, and perhaps the stage has not heard of it yet"""
        self._begun = False
        self._told = False
        """the stage has heard that the input has ended"""
        self._timer: IDelayedCall | None = None
        self.finished = False
        self.expected: int | None = None
        self.given = 0

    def begin(self, following: Link | Terminus) -> None:
        """Connect to what follows, and let the stage begin."""
        self._following = following
        self._onward = following.write
        if not self.finished:
            self._begun = True
            self._guard(lambda: self.stage.begin(self.output))

    @property
    def output(self) -> LinkOutput:
        """What the stage gets hold of."""
        return LinkOutput(self)

    def _guard(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self.broke(error)

    # the input

    def announced(self, length: int) -> None:
        """The input's length is known."""
        if not self.finished:
            self._guard(lambda: self.stage.expect(length))

    def write(self, data: Bytes) -> None:
        """Take input (IConsumer)."""
        if self._waiting or self._holding:
            if not self.finished:
                self._queue.append(bytes(data))
            return
        if self.finished:
            return
        if not self._views and type(data) is not bytes:
            data = bytes(data)
        try:
            later = self.stage.write(data)  # type: ignore[arg-type]  # a stage with takes_views takes both
        except Exception as error:
            self.broke(error)
            return
        if later is not None:
            self._wait(later)

    def end(self) -> None:
        """The input has ended."""
        if self._ended:
            return
        self._ended = True
        if not self._queue and not self._waiting and not self._holding:
            self._finish()

    def _finish(self) -> None:
        if self.finished or self._told:
            return
        self._told = True
        try:
            later = self.stage.finish()
        except Exception as error:
            self.broke(error)
            return
        if later is not None:
            self._wait(later)
        self._watch()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Links know their neighbours from the start (IConsumer)."""

    def unregisterProducer(self) -> None:
        """The same (IConsumer)."""

    # waiting

    def _wait(self, later: Later) -> None:
        assert later is not None
        if later.called and not later.paused and not isinstance(later.result, Failure):
            return
        self._waiting = True
        self._judge()
        self._watch()
        later.addCallbacks(self._over, self._failed)

    def _over(self, _result: object) -> None:
        self._waiting = False
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        self._waiting = False
        if not self.finished:  # a stage that was let go cancels what it waits for
            self.broke(failure.value)  # type: ignore[arg-type]  # a Failure without an exception is not made

    def _go_on(self) -> None:
        """Give the stage what has waited for it, then let the source go on."""
        if self.finished:
            return
        while self._queue and not self._waiting and not self._holding:
            self.write(self._queue.popleft())
        if self._waiting or self._holding:
            return
        if self._ended:
            self._finish()
        else:
            self._unwatch()
        self._judge()

    def hold(self) -> None:
        """The stage stops its input."""
        if not self._holding and not self.finished:
            self._holding = True
            self._judge()
            self._watch()

    def let_go(self) -> None:
        """The stage wants its input again."""
        if self._holding:
            self._holding = False
            if not self._waiting:
                self._go_on()

    def _judge(self) -> None:
        """Stop the source, or start it, if that has changed."""
        held = (self._full or self._waiting or self._holding) and not self.finished
        if held is not self._held:
            self._held = held
            source = self.preceding or self._chain.entry
            if held:
                source.pauseProducing()
            else:
                source.resumeProducing()

    # patience

    def _watch(self) -> None:
        if self._timer is None and not self.finished and self.stage.limited:
            given = self.given
            self._timer = self._chain.loop.later(self._chain.patience, lambda: self._look(given))

    def _unwatch(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _look(self, given: int) -> None:
        self._timer = None
        if self.finished:
            return
        if self._full or self.given != given:
            self._watch()
            return
        what = f"it gave nothing for {self._chain.patience:g} s"
        self.broke(StageError(what, where=self._chain.name_of(self), remedy="see what it waits for"))

    # the output

    @property
    def full(self) -> bool:
        """What follows has enough."""
        return self._full

    def give(self, data: Bytes) -> None:
        """The stage's output."""
        if self.finished or not data:
            return
        self.given += len(data)
        if self.expected is not None and self.given > self.expected:
            what = f"it gave more than the {self.expected} bytes it announced"
            self.broke(StageError(what, where=self._chain.name_of(self), remedy="correct the plugin"))
            return
        self._onward(data)

    def lead(self, receive: Callable[[Bytes], object]) -> None:
        """From now on the output goes straight to its reader."""
        self._onward = receive

    def announce(self, length: int) -> None:
        """The stage says how long its output is."""
        if self.finished:
            return
        if length < self.given or (self.expected is not None and self.expected != length):
            what = f"it announced {length} bytes after it gave {self.given} or announced others"
            raise StageError(what, where=self._chain.name_of(self), remedy="correct the plugin")
        if self.expected is None:
            self.expected = length
            self._following.announced(length)

    def close(self) -> None:
        """The stage's output has ended."""
        if self.finished:
            return
        if self.expected is not None and self.given != self.expected:
            what = f"it announced {self.expected} bytes and gave {self.given}"
            self.broke(StageError(what, where=self._chain.name_of(self), remedy="correct the plugin"))
            return
        early = not self._ended or bool(self._queue)
        self._leave()
        if early:
            self._chain.unwanted(self.preceding)
        self._following.end()

    def _leave(self) -> None:
        self.finished = True
        self._queue.clear()
        self._unwatch()
        self._judge()

    def pauseProducing(self) -> None:
        """What follows has enough (IPushProducer)."""
        if not self._full:
            self._full = True
            self._judge()

    def resumeProducing(self) -> None:
        """What follows has room; the stage may fill it again before anybody else is asked (IPushProducer)."""
        if self._full:
            self._full = False
            if not self.finished:
                self._guard(self.stage.drained)
            self._judge()

    def stopProducing(self) -> None:
        """Nobody wants the output any more (IPushProducer)."""
        self.abort(Unwanted("what follows has finished", where="transform", remedy="nothing is wrong"))

    # the end

    def broke(self, error: BaseException) -> None:
        """The stage is broken, and with it the chain."""
        self._chain.broke(error, self)

    def abort(self, reason: Exception) -> None:
        """Let the stage go, once; what it raises changes nothing any more."""
        if self.finished:
            return
        self._leave()
        if not self._begun:
            return
        try:
            self.stage.abort(reason)
        except Exception:
            log.failure("a stage failed as it was aborted")


class LinkOutput:
    """The side of a link that its stage sees (L{sslintercept.transform.stage.Output})."""

    __slots__ = ("_link", "write")

    def __init__(self, link: Link) -> None:
        self._link = link
        self.write: Callable[[Bytes], None] = link.give

    @property
    def full(self) -> bool:
        return self._link.full

    def finish(self) -> None:
        self._link.close()

    def expect(self, length: int) -> None:
        self._link.announce(length)

    def fail(self, error: Exception) -> None:
        if not self._link.finished:
            self._link.broke(error)

    def pause(self) -> None:
        self._link.hold()

    def resume(self) -> None:
        self._link.let_go()
