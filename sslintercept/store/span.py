"""
The life of one span: opened and recovered, its directory saved every now and then, flushed and closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.aio.request import DiskEngine
from sslintercept.errors import ConfigError
from sslintercept.store.aggregate import Buffers
from sslintercept.store.medium import Part, Timers, check
from sslintercept.store.recover import Recovery
from sslintercept.store.snapshot import Snapshots
from sslintercept.store.stripe import State, Stripe

LOOK: Final = 5.0
"""seconds between two looks whether a snapshot is due"""


class Span:
    """
    A stripe and who looks after it.

    @param lost: called when it goes out of service, or never came into it.
    """

    log = Logger()

    def __init__(
        self,
        part: Part,
        engine: DiskEngine,
        timers: Timers,
        buffers: Buffers,
        wall_clock: Callable[[], float],
        average: int,
        lost: Callable[[Span], object],
    ) -> None:
        self.part, self._timers, self._average = part, timers, average
        self.stripe = Stripe(part, engine, timers, buffers, wall_clock, lambda _: lost(self))
        self.snapshots = Snapshots(self.stripe)
        self.recovery = Recovery(self.stripe, self.snapshots)
        self._timer: IDelayedCall | None = None
        self._saving = False
        self._saved: list[Deferred[None]] = []
        """who waits for the end of the snapshot that is under way"""

    async def start(self) -> None:
        """Open and recover; what goes wrong is told in the log."""
        stripe = self.stripe
        try:
            check(self.part)
            header = await stripe.medium.open(self._average)
            if stripe.state is not State.RECOVERING:
                return
            stripe.prepare(header)
            if stripe.medium.anew:
                stripe.begin(0, 0)
            else:
                await self.recovery.run()
        except OSError as error:
            if stripe.state is State.RECOVERING:
                what = error.strerror or str(error)
                remedy = "it is out of service; look at the disk, then restart"
                stripe.lose(ConfigError(what, where=f"cache span {self.part}", remedy=remedy))
        except ConfigError as error:
            if stripe.state is State.RECOVERING:
                stripe.lose(error)
        if stripe.state is State.SERVING:
            stripe.progress = self._look
            self._watch()

    async def stop(self) -> None:
        """Write what waits and a last snapshot, and give everything back; L{start} has ended before."""
        stripe = self.stripe
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if stripe.state is State.SERVING:
            stripe.state = State.STOPPING
            stripe.progress = lambda: None
            await stripe.settle()
            if self._saving:
                ended: Deferred[None] = Deferred()
                self._saved.append(ended)
                await ended
            if stripe.state is State.STOPPING:
                await self.snapshots.take(clean=True)
        await stripe.close()

    def _watch(self) -> None:
        self._timer = self._timers.later(LOOK, self._watch)
        self._look()

    def _look(self) -> None:
        if self.stripe.state is State.LOST:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self.snapshots.due and not self._saving:
            self._saving = True
            Deferred.fromCoroutine(self.snapshots.take()).addBoth(self._looked)

    def _looked(self, result: object) -> None:
        self._saving = False
        if isinstance(result, Failure):
            self.log.failure("a snapshot of a cache span failed", result)
        saved, self._saved = self._saved, []
        for one in saved:
            one.callback(None)
