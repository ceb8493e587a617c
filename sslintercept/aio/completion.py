"""
What is over is gathered by one eventfd in the reactor's set, and called back from there.

Threads post what they did and wake the reactor once for all that is not taken yet; for the kernel's own completions
the kernel writes to the same descriptor.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from select import EPOLLIN
from time import monotonic
from typing import Final

from twisted.logger import Logger

from sslintercept.aio.buffer import Pool
from sslintercept.aio.request import Handler, Request, State

BATCH: Final = 1024
"""callbacks in one turn"""
ENOUGH: Final = 0.003
"""seconds of callbacks in one turn, after which the network has its own"""
LOOK: Final = 4
"""callbacks between two looks at the clock"""


class Completions:
    """
    The watched eventfd of one engine.

    @param gather: called first in each turn; posts what the kernel has done.
    @param ended: called with each batch before its callback: it is not counted any more.
    @param after: called when a turn's callbacks are over.
    @param clock: seconds that never go back.
    """

    log = Logger()

    def __init__(
        self,
        handler: Handler,
        pool: Pool,
        *,
        gather: Callable[[], object],
        ended: Callable[[Request], object],
        after: Callable[[], object],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._handler, self._pool, self._clock = handler, pool, clock
        self._gather, self._ended, self._after = gather, ended, after
        self._over: deque[Request] = deque()
        """bounded by what the engine takes"""
        self._woken = False
        self.turn = -1
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        handler.add(self.fd, self, EPOLLIN)

    def __len__(self) -> int:
        return len(self._over)

    def post(self, request: Request) -> None:
        """A batch is over; any thread may say so."""
        self._over.append(request)
        self.wake()

    def wake(self) -> None:
        """Have a turn; any thread may ask. Whoever cleared the flag looks at everything afterwards."""
        if not self._woken:
            self._woken = True
            os.eventfd_write(self.fd, 1)

    def readable(self) -> None:
        """Something is over."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return  # the event of an eventfd that was read already
        self._woken = True  # what is posted while we gather is told in this turn
        self._gather()
        self._woken = False
        over = self._over
        until = self._clock() + ENOUGH
        for count in range(1, BATCH + 1):
            if not over or (count % LOOK == 0 and self._clock() >= until):
                break
            self._tell(over.popleft())
        if over:
            self.wake()
        self._after()

    def event(self, event: int) -> None:
        """No eventfd breaks; look anyway."""
        self.readable()

    def abort(self) -> None:
        """A defect of ours in this turn: what is left comes in the next."""
        self._woken = True
        os.eventfd_write(self.fd, 1)

    def _tell(self, head: Request) -> None:
        self._ended(head)
        try:
            for part in head.parts():
                part.state = State.DONE
                if part.buffer is not None and part.data is None and part.memory is None:
                    part.data = part.buffer.view[: part.result]
            if not head.cancelled:
                head.done(head)
        except Exception:
            # One caller's defect must not keep the others from what they wait for.
            self.log.failure("the callback of a disk request failed")
        finally:
            for part in head.parts():
                self._free(part)

    def _free(self, part: Request) -> None:
        buffer, part.buffer = part.buffer, None
        data, part.data, part.memory, part.on_cancel = part.data, None, None, None
        if buffer is not None:
            if data is not None:
                data.release()
            self._pool.give(buffer)

    def close(self) -> None:
        """Leave the set; nothing may be under way."""
        self._handler.remove(self.fd)
        os.close(self.fd)
