"""
The downloads of a process whose clients wait: which ones do, where their files are, and who asks for them.

See L{sslintercept.http.waiting}, which is one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.facts import Fields, RequestHead
from sslintercept.http.consent import is_ours
from sslintercept.http.spool import Elsewhere, Spool, SpoolError
from sslintercept.http.waiting import PATH, Waiting, whose
from sslintercept.http.wants import is_navigation
from sslintercept.inspect.body import InspectStage
from sslintercept.inspect.inspection import Loop as Timers
from sslintercept.inspect.memory import Budget
from sslintercept.transform.link import Loop as Turns
from sslintercept.transform.stage import Transform

if TYPE_CHECKING:
    from sslintercept.http.proxy import HttpProxy
    from sslintercept.http.sm import HttpSM
    from sslintercept.http.transform import Passage

FOLDER: Final = "waiting"
"""in state_dir"""
SWEEP: Final = 10.0
"""seconds between two looks for what is too old"""
MOST: Final = 1024
"""downloads behind pages in a process"""
MOST_OF_A_CLIENT: Final = 16
SHOWN: Final = ("text/", "image/", "audio/", "video/", "multipart/", "application/xhtml+xml")
"""beginnings of media types that a browser shows, and that do not wait unless they are attachments"""

log = Logger()


class Loop(Timers, Turns, Protocol):
    """What is needed of the reactor (L{sslintercept.net.handler.NetHandler})."""


class WaitingRoom:
    """
    The downloads of a process whose clients wait; it outlives generations of settings.

    @ivar budget: of bytes in their files.

    @param folder: for the files; made with the first.
    @param elsewhere: runs what takes a while on a thread.
    """

    def __init__(self, folder: Path, loop: Loop, elsewhere: Elsewhere) -> None:
        self.folder, self.loop = folder, loop
        self.budget = Budget(0)
        self._elsewhere = elsewhere
        self._by_token: dict[str, Waiting] = {}
        self._waiting: dict[Waiting, None] = {}
        self._sweep: IDelayedCall | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, proxy: HttpProxy, sm: HttpSM, passage: Passage, stages: Sequence[Transform]) -> Waiting | None:
        """Watch a response that is about to be inspected, if a person downloads it."""
        head = sm.answering if not sm.over else None
        stage = next((each for each in stages if isinstance(each, InspectStage)), None)
        if stage is None or head is None or head.status != 200 or sm.method != b"GET" or not sm.sent:
            return None
        if not is_download(head.read_fields(), stage.part.media_type) or not is_navigation(sm.head.read_fields()):
            return None
        return Waiting(self, proxy, sm, passage, stage)

    # files

    def open(self, size: int, *, whole: Callable[[], object], failed: Callable[[SpoolError], object]) -> Spool | None:
        """A file with room for C{size} bytes, if there is any."""
        if size > self.budget.most - self.budget.used:
            return None
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            # It has no name from the beginning (O_TMPFILE), or none from then on: a crash leaves nothing behind.
            file = TemporaryFile("w+b", buffering=0, dir=self.folder)  # noqa: SIM115  # the spool closes it
        except OSError as error:
            log.error("no download can wait in {folder}: {why}", folder=str(self.folder), why=error.strerror)
            return None
        spool = Spool(file, self.budget, self.loop, self._elsewhere, whole=whole, failed=failed)
        spool.reserve(size)
        return spool

    # who waits

    def admits(self, waiting: Waiting) -> bool:
        """Whether one more may wait behind a page."""
        same = sum(one.whose.client == waiting.whose.client for one in self._waiting)
        return not self._closing and len(self._waiting) < MOST and same < MOST_OF_A_CLIENT

    def add(self, waiting: Waiting) -> None:
        """From now on its client asks here."""
        waiting.seen = self.loop.seconds()
        self._waiting[waiting] = None
        for token in waiting.tokens:
            self._by_token[token] = waiting
        if self._sweep is None:
            self._sweep = self.loop.later(SWEEP, self._look)

    def remove(self, waiting: Waiting) -> None:
        """Nobody asks for it any more."""
        if waiting in self._waiting:
            del self._waiting[waiting]
            for token in waiting.tokens:
                del self._by_token[token]
            waiting.end()
        if not self._waiting and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _look(self) -> None:
        self._sweep = self.loop.later(SWEEP, self._look)
        now = self.loop.seconds()
        for waiting in list(self._waiting):
            if waiting.is_due(now) or (self._closing and not waiting.read):
                self.remove(waiting)

    def serve(self, proxy: HttpProxy, sm: HttpSM) -> None:
        """Answer a request for something below L{PATH}."""
        head = sm.head
        token = head.target[len(PATH) + 1 :].partition(b"?")[0].partition(b"/")[0].decode("latin-1")
        head.target = PATH  # the log gets no names
        waiting = self._by_token.get(token)
        if waiting is None or head.method not in (b"GET", b"HEAD") or waiting.whose != whose(sm):
            proxy.gone(sm)
        else:
            waiting.visited(sm, proxy, token)

    def close(self, *, now: bool = False) -> None:
        """
        The process stops: what is under way ends, and nobody is sent here any more.

        @param now: also what somebody is being given.
        """
        self._closing = True
        for waiting in list(self._waiting):
            if now or not waiting.read:
                self.remove(waiting)


def for_us(head: RequestHead) -> bool:
    """Whether a request is for something below L{PATH}."""
    return is_ours(head.target, PATH)


def is_download(fields: Fields, media_type: str) -> bool:
    """Whether a browser saves, or hands to another program, what has this type and these fields."""
    for name, value in fields:
        if name.lower() == b"content-disposition" and value.lower().startswith(b"attachment"):
            return True
    return bool(media_type) and not media_type.startswith(SHOWN)
