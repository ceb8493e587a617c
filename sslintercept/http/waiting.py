"""
Downloads whose verdict takes long, and the people who wait for them.

A download that a person navigates to, and that is inspected, goes into a file instead of to its client from the byte on
that the inspectors' hold lets go (L{sslintercept.http.spool}). Four things may happen to it:

 - it is known to pass: what is in the file goes to the client, and what comes after it as it comes;
 - it does not pass, or breaks off: the client has got nothing yet, and is answered with a page that says why;
 - C{waiting_page} is over: the client gets a page that asks again every few seconds, the transaction ends, and the
   download goes on for itself. When it is whole and passes, the page leads to a link that gives it once;
 - there is no room for it: it flows as it would without all this.

The page and the link are on the same host, below L{PATH}, under names of 128 random bits that are good for the client
and the host that they were made for.
"""

from __future__ import annotations

from copy import copy
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.errors import InterceptError, LostError
from sslintercept.facts import UNTIL_CLOSE, ResponseHead
from sslintercept.http.consent import client_of, site
from sslintercept.http.hit import Hit
from sslintercept.http.origin import OriginSession
from sslintercept.http.spool import Spool, SpoolError
from sslintercept.inspect.body import InspectStage

if TYPE_CHECKING:
    from sslintercept.http.proxy import HttpProxy
    from sslintercept.http.room import WaitingRoom
    from sslintercept.http.sm import HttpSM
    from sslintercept.http.transform import Passage

PATH: Final = b"/.sslintercept/waiting"
"""where a client waits and gets its file, on every host; nothing below it reaches an origin"""
UNVISITED: Final = 120.0
"""seconds without a question after which a download that is under way ends"""
KEPT: Final = 600.0
"""seconds for which a file, or what became of it, is kept after the verdict"""
MOST_NAMED: Final = 100
"""characters of a file's name at the end of its link: what browsers save it as, if nothing else says that"""

UNSENT: Final = frozenset(
    (b"accept-ranges", b"age", b"cache-control", b"content-length", b"expires", b"x-content-type-options")
)
"""fields of a download that are not, or not so, true of its file"""

log = Logger()


class Whose(NamedTuple):
    """Who may ask for a download, and where."""

    client: str
    site: str


class Waiting:
    """
    One download.

    First its client waits for the answer to its request. Once the client has got the page it is I{apart}, and owns its
    server connection, as L{sslintercept.http.refresh.Fill} does.

    @ivar page: the path of the page; C{link}: that of the file.
    @ivar seen: when the client asked last; C{decided}: when it was known what becomes of it.
    """

    method = b"GET"
    __slots__ = (
        "_apart",
        "_head",
        "_hit",
        "_keep",
        "_name",
        "_origin",
        "_over",
        "_passage",
        "_passing",
        "_proxy",
        "_room",
        "_settled",
        "_sm",
        "_spool",
        "_timer",
        "_total",
        "decided",
        "error",
        "link",
        "page",
        "seen",
        "tokens",
        "whose",
    )

    def __init__(self, room: WaitingRoom, proxy: HttpProxy, sm: HttpSM, passage: Passage, stage: InspectStage) -> None:
        self._room, self._proxy, self._passage = room, proxy, passage
        self._sm: HttpSM | None = sm
        self._head = head = sm.answering
        self._total = head.length if head.length > 0 else None
        self._name = stage.part.name
        self._spool: Spool | None = None
        self._settled = self._over = self._apart = self._keep = self._passing = False
        self._origin: OriginSession | None = None
        self._hit: Hit | None = None
        self.whose = whose(sm)
        self.tokens = (token_urlsafe(16), token_urlsafe(16))
        self.page = f"{PATH.decode()}/{self.tokens[0]}"
        named = quote(self._name[-MOST_NAMED:], safe="") if self._name.strip(".") else ""
        self.link = f"{PATH.decode()}/{self.tokens[1]}/{named}"
        self.seen = self.decided = 0.0
        self.error: InterceptError | None = None
        stage.settled = self._passes
        self._timer: IDelayedCall | None = room.loop.later(proxy.waiting_after, self._late)

    # while the client waits for its answer

    def keeps(self) -> bool:
        """There is output: true if that goes into a file."""
        if self._settled or self._over:
            return False
        spool = self._open(self._passage.length)
        if spool is None:
            self.stop()
            return False
        self._fill(spool)
        return True

    def _open(self, size: int | None) -> Spool | None:
        self._spool = self._room.open(size or 0, whole=self._whole, failed=self._full)
        return self._spool

    def _fill(self, spool: Spool) -> None:
        length = self._passage.length
        self._passage.lead(
            "waiting",
            spool,
            UNTIL_CLOSE if length is None else length,
            chunked=False,
            complete=lambda rest: spool.end(),
            failed=self._failed,
        )

    def _passes(self) -> None:
        """The inspectors let it pass."""
        self._settled = True
        if self._apart or self._over:
            return
        self._stop_timer()
        if self._spool is not None:
            self._room.loop.soon(self._pass_on)

    def _pass_on(self) -> None:
        """Let the client have it: what is in the file, and what comes."""
        sm, spool = self._sm, self._spool
        if sm is None or sm.over or self._over or spool is None or self._passing:
            return
        self._stop_timer()
        self._passing = True
        length = UNTIL_CLOSE if self._passage.length is None else self._passage.length
        raw = sm.begin_response(length)
        if raw is None:
            return
        producer = sm.lead_to_client(spool, length, lambda rest: sm.response_sent(), "waiting")
        sm.send_head(raw)
        spool.lead(producer)

    def _full(self, error: SpoolError) -> None:
        """The file takes no more."""
        self._room.loop.soon(lambda: self._failed(error) if self._apart else self._pass_on())

    def _failed(self, error: Exception) -> None:
        """It will not be whole, or does not pass."""
        if self._over:
            return
        if self._apart:
            if not isinstance(error, InterceptError):
                error = LostError(str(error), where=self.whose.site, remedy="try again")
            self._decide(error)
        elif self._sm is not None and self._sm.transform is not None:
            self._sm.transform.broke(error)

    def stop(self) -> None:
        """The transaction is over, or goes on without this."""
        self._over = True
        self._stop_timer()
        if self._spool is not None:
            self._spool.close()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # the page

    def _late(self) -> None:
        """The client has waited long enough."""
        self._timer = None
        sm = self._sm
        if sm is None or sm.over or self._over or self._settled or self._passing:
            return
        if self._proxy.draining or not self._room.admits(self):
            self._go_on()
            return
        if self._spool is None and self._open(self._total) is None:
            self._go_on()
            return
        self._leave(sm)
        self._room.add(self)
        self._proxy.waits(sm, self.shown, self.page, ready=False)

    def _go_on(self) -> None:
        """There is no page: go on as if there never had been one."""
        if self._spool is not None:
            self._pass_on()
        else:
            self.stop()

    def _leave(self, sm: HttpSM) -> None:
        """Part from the transaction, and own what it leaves behind."""
        self._apart, self._sm = True, None
        producer = self._passage.hand_over(
            ready=self._ready, complete=self._came, failed=self._failed, abandoned=self._cut
        )
        self._origin, sm.origin = sm.origin, None
        if self._origin is not None:
            self._origin.sm = self
            self._keep = sm.sent and not self._head.close and not sm.session.identity
        if producer is not None:
            sm.received = producer.ndone
        if sm.cache is not None:
            self._hit = sm.cache.part()
        if sm.transform is not None:
            sm.transform.let_go()

    def _ready(self) -> None:
        """Apart from the client there is output now."""
        if not self._over and self._spool is not None:
            self._fill(self._spool)

    @property
    def shown(self) -> str:
        """What it is, and how far, in no language."""
        came = self._passage.came
        name = f"{self._name}: " if self._name else ""
        if self._total is None:
            return f"{name}{shown_size(came)}"
        share = min(came * 100 // self._total, 100)
        return f"{name}{shown_size(came)} / {shown_size(self._total)} ({share} %)"

    # apart: the owner of a server connection

    def informational(self, head: ResponseHead) -> None:
        """Nobody wants to know."""

    def response(self, head: ResponseHead, rest: bytes) -> None:
        """There was one already."""

    def origin_lost(self, error: Exception | None) -> None:
        """It ended early."""
        origin, self._origin = self._origin, None
        if not isinstance(error, InterceptError):
            what = "the origin closed in the middle of the response"
            error = LostError(what, where=self.whose.site, remedy="try again")
        if origin is not None and origin.body is not None:
            origin.body.fail(error)

    def _came(self, rest: bytes) -> None:
        origin, self._origin = self._origin, None
        hit, self._hit = self._hit, None
        if origin is not None:
            origin.release(self._keep, rest)
        if hit is not None:
            hit.came(rest)

    def _cut(self) -> None:
        origin, self._origin = self._origin, None
        hit, self._hit = self._hit, None
        if origin is not None:
            origin.cut()
        if hit is not None:
            hit.stopProducing()

    def _whole(self) -> None:
        """It is in the file, and passes."""
        if self._apart:
            self._decide(None)
        else:
            self._pass_on()

    def _decide(self, error: InterceptError | None) -> None:
        if self.decided or self._over:
            return
        self.decided, self.error = self._room.loop.seconds(), error
        if error is not None:
            self._drop()

    def _drop(self) -> None:
        """Let go of everything."""
        self._cut()
        self._passage.stop()
        if self._spool is not None:
            self._spool.close()

    def end(self) -> None:
        """Nobody waits for it any more."""
        self._over = True
        self._drop()

    # who asks

    @property
    def read(self) -> bool:
        """Whether somebody gets the file at present."""
        return self._spool is not None and self._spool.read

    def is_due(self, now: float) -> bool:
        """Whether it has been kept long enough."""
        if self.decided:
            return now >= self.decided + KEPT and not self.read
        return now >= self.seen + UNVISITED

    def visited(self, sm: HttpSM, proxy: HttpProxy, token: str) -> None:
        """Its client asks."""
        self.seen = self._room.loop.seconds()
        if self.error is not None:
            sm.fail(self.error)
        elif not self.decided or token == self.tokens[0]:
            ready = self.decided > 0
            proxy.waits(sm, self.shown, self.link if ready else self.page, ready=ready)
        elif self.read:
            proxy.gone(sm)
        else:
            self._send(sm)

    def _send(self, sm: HttpSM) -> None:
        """Give the file, with the head that it came with."""
        spool = self._spool
        assert spool is not None
        head, size = copy(self._head), spool.size
        head.fields = [field for field in self._head.read_fields() if field[0].lower() not in UNSENT]
        head.fields += [(b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff")]
        head.length = size
        only_head = sm.method == b"HEAD"
        if only_head:
            head.fields.append((b"Content-Length", b"%d" % size))
        sm.present(head)
        raw = sm.begin_response(size)
        if raw is None:
            return
        if only_head or not size:
            sm.send_head(raw)
            sm.finish()
            if not only_head:
                self._room.remove(self)
            return
        producer = sm.lead_to_client(spool, size, lambda rest: self._sent(sm), "waiting")
        sm.send_head(raw)
        spool.lead(producer)

    def _sent(self, sm: HttpSM) -> None:
        """It was given: that was the only time."""
        sm.response_sent()
        self._room.remove(self)


def whose(sm: HttpSM) -> Whose:
    """Who asks, and where."""
    return Whose(client_of(sm.facts), site(sm.head))


def shown_size(size: int) -> str:
    """C{1.5 MiB}"""
    if size < 1 << 20:
        return f"{size / 1024:.1f} KiB"
    return f"{size / (1 << 20):.1f} MiB" if size < 1 << 30 else f"{size / (1 << 30):.1f} GiB"
