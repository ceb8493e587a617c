"""
What the cache does to one transaction (ATS: HttpCacheSM).

The transaction asks here at three places: before its request goes anywhere (L{CacheSM.begin}), when a response's head
has come (L{CacheSM.takes}), and when none comes (L{CacheSM.stands_in}). What follows is decided by
L{sslintercept.cache.decide}; here it is done. A hit is a producer (L{sslintercept.http.hit}), a response that is stored
has one consumer more, and transforms see both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sslintercept.cache.decide import Do, Then, after, conditional, may_collapse, plan, suitable
from sslintercept.cache.fresh import FAILURES, time_to_live
from sslintercept.cache.message import Answered, Asked, Span, Stored, asked, by_name
from sslintercept.cache.processor import Lead
from sslintercept.cache.reply import Reply, reply
from sslintercept.cache.resource import FRAGMENT, Alternate, Resource, freshened, with_stored
from sslintercept.cache.status import Forward, Outcome, cache_status
from sslintercept.cache.update import invalidates, told_by_head, validated
from sslintercept.cache.writing import Coming, Writing
from sslintercept.errors import CacheError
from sslintercept.facts import Fields, Head, ResponseHead, reason_of
from sslintercept.http.alone import CONDITIONS, RANGES, answer_of, may_store, pinned_until
from sslintercept.http.hit import Hit
from sslintercept.http.origin import OriginSession
from sslintercept.http.refresh import Refresh
from sslintercept.tunnel.tunnel import Producer

if TYPE_CHECKING:
    from sslintercept.http.cache import HttpCache
    from sslintercept.http.sm import HttpSM

_KEPT_BY_NOBODY = re.compile(rb"\ncache-control:[^\r\n]*\b(?:no-store|private)\b(?![ \t]*=)", re.IGNORECASE)
_UNDERSTAND = re.compile(rb"must-understand", re.IGNORECASE)


class CacheSM:
    """
    @ivar writing: the response on its way into the cache.
    """

    __slots__ = (
        "_again",
        "_begun",
        "_cache",
        "_followed",
        "_forward",
        "_found",
        "_goes_on",
        "_hit",
        "_inside",
        "_lead",
        "_looked_up",
        "_original",
        "_plain",
        "_read",
        "_resource",
        "_sm",
        "_spare",
        "uri",
        "writing",
    )

    def __init__(self, cache: HttpCache, sm: HttpSM, uri: bytes, plain: bool) -> None:
        self._cache, self._sm, self.uri = cache, sm, uri
        self._plain = plain
        """it says nothing that an answer from the cache depends on, but what Vary may name"""
        self._read: Asked | None = None
        self._begun = cache.processor.wall_clock()
        """when the request was made, as far as ages go"""
        self._resource: Resource | None = None
        self._found: list[Stored] = []
        """what the origin is asked about"""
        self._spare: list[Stored] = []
        """what it cannot be asked about, but may stand in for it"""
        self._original: Fields = []
        """the request's fields before conditions were added"""
        self._forward = Forward.METHOD
        self._lead: Lead | None = None
        self._followed = False
        """it has waited for another request"""
        self._again = False
        """the origin was asked a second time"""
        self._inside = self._goes_on = False
        self._looked_up = False
        """the disk was asked for the document"""
        self._hit: Hit | None = None
        self.writing: Writing | None = None
        sm.cached = "TCP_MISS"

    @property
    def _asked(self) -> Asked:
        """The request, read when that is needed: of most misses nothing is."""
        if self._read is None:
            self._read = asked(self._sm.head)
        return self._read

    # before the request goes anywhere

    def begin(self) -> bool:
        """Look for an answer: true if there is one, or it takes a while to know."""
        if not (self._plain or self._asked.plain):
            # While a disk is asked nobody would take its content: that would be read as the next request.
            return self._decide(None)
        self._inside, self._goes_on = True, False
        self._cache.processor.find(self.uri, self._came)
        self._inside = False
        return not self._goes_on

    def bypass(self) -> None:
        """The request goes to its origin, whatever is stored."""
        if self._sm.method in (b"GET", b"HEAD"):
            self._forward = Forward.BYPASS

    def _came(self, resource: Resource | None) -> None:
        if self._sm.over:
            return
        if self._inside:
            self._goes_on = not self._decide(resource)
        else:
            self._looked_up = True
            if not self._decide(resource):
                self._sm.forward()

    def _look_again(self) -> None:
        """What was waited for is known, or takes too long."""
        if not self._sm.over and not self.begin():
            self._sm.forward()

    def _decide(self, resource: Resource | None) -> bool:
        """True if it is answered from here, or waits."""
        processor = self._cache.processor
        if resource is None and self._plain and self.uri not in processor.writings:
            self._forward = Forward.URI_MISS
            return self._waits(True)
        now = processor.wall_clock()
        self._resource = resource
        alike = self._plain and not self._followed and self._sm.transform is None
        ready = resource.ready if alike and resource is not None else None
        if ready is not None and ready.since <= now < ready.until:
            self._cache.answer(self._sm, ready, now, self._looked_up)
            return True
        request = self._asked
        kept = [one.stored for one in resource.alternates] if resource is not None else []
        kept += [one.stored for one in processor.writings.get(self.uri, ()) if one.open and one.stored.spans is None]
        planned = plan(request, kept, self._cache.policy, now)
        self._forward = planned.forward or (Forward.STALE if planned.do is Do.REFRESH else Forward.PARTIAL)
        if planned.do is Do.TIMEOUT:
            return self._refuses(planned.reason)
        refresh = planned.do is Do.REFRESH
        if planned.stored is not None and (planned.do is Do.SERVE or refresh):
            if self._serve(planned.stored, now):
                if refresh:
                    Refresh.begin(self._sm, self._cache, self.uri, suitable(request, kept))
                return True
            if self._refuses("the content is lost"):
                return True
        elif self._forward is not Forward.BYPASS and self._waits(may_collapse(request, request)):
            return True
        if planned.do in (Do.VALIDATE, Do.REFRESH) and resource is not None:
            self._validate([one for one in suitable(request, kept) if resource.of(one) is not None])
        elif planned.forward is Forward.STALE and planned.stored is not None:
            self._spare = [planned.stored]
        return False

    def _waits(self, shares: bool) -> bool:
        """Whether another request may bring the answer; else others may wait for this one, if it *shares*."""
        processor = self._cache.processor
        if shares and not self._followed and processor.follow(self.uri, self._look_again):
            self._followed = True
            return True
        if shares:
            self._lead = processor.lead(self.uri)
        return False

    def _validate(self, found: list[Stored]) -> None:
        """Have the request ask whether what was *found* is still right."""
        if found:
            self._found = found
            head = self._sm.head
            condition = conditional(self._asked, found)
            self._original = head.fields
            head.fields = [f for f in self._original if f[0].lower() not in condition.without] + condition.fields

    # the answer from the cache

    def _serve(self, stored: Stored, now: float, outcome: Outcome | None = None) -> bool:
        """Answer with what is *stored*; false if that is impossible."""
        processor = self._cache.processor
        found = reply(self._asked, stored, now)
        content = self._content_of(stored)
        if found is None or content is None or not self._is_there(content, found):
            return False
        if outcome is None:
            ttl = time_to_live(stored.response, self._cache.policy, now)
            if isinstance(content, Writing) or self._followed:
                outcome = Outcome(Forward.URI_MISS, ttl=ttl, collapsed=True)
                self._sm.cached = "TCP_CF_HIT"
            else:
                outcome = Outcome(ttl=ttl)
                self._sm.cached = "TCP_MEM_HIT" if ttl > 0 else "TCP_STALE_HIT"
        head = made(found.status)
        head.fields = found.fields
        self._tell(head, outcome)
        self._hit = Hit(
            self._sm,
            processor,
            stored,
            content,
            found.span,
            lost=lambda early: self._lost(stored, early),
            over=self._served,
        )
        self._hit.begin(head)
        return True

    def _content_of(self, stored: Stored) -> Alternate | Writing | None:
        content = self._resource.of(stored) if self._resource is not None else None
        if content is not None:
            return content
        writings = self._cache.processor.writings.get(self.uri, ())
        return next((one for one in writings if one.stored is stored), None)

    def _is_there(self, content: Alternate | Writing, found: Reply) -> bool:
        if isinstance(content, Writing):
            # Bytes that are far away are had sooner from the origin.
            return found.span is None or found.span.first <= content.position + FRAGMENT
        if found.span is None or content.content is not None:
            return True
        if self._cache.processor.is_there(content, found.span):
            return True
        self._cache.processor.counters.overwritten += 1
        self._cache.processor.lose(self.uri, content.stored)
        return False

    def _served(self, size: int, from_disk: bool) -> None:
        counters = self._cache.processor.counters
        counters.bytes_served += size
        if self._sm.cached == "TCP_CF_HIT":
            counters.shared += 1
        elif self._sm.cached == "TCP_REFRESH_UNMODIFIED":
            counters.validated += 1
        elif self._sm.cached in ("TCP_STALE_HIT", "TCP_REFRESH_FAIL_OLD"):
            counters.stale += 1
        elif from_disk or self._looked_up:
            counters.disk_hits += 1
            self._sm.cached = "TCP_HIT"
        else:
            counters.memory_hits += 1

    def _lost(self, stored: Stored, early: bool) -> None:
        """The content is not there; C{early}: nothing was said yet, so the origin may answer."""
        if self._resource is not None and self._resource.of(stored) is not None:
            self._cache.processor.counters.damaged += 1
            self._cache.processor.lose(self.uri, stored)
        self._hit = None
        if early and not self._sm.over:
            self._forward, self._sm.cached = Forward.PARTIAL, "TCP_MISS"
            self._found, self._spare = [], []
            if not self._refuses("the content is lost"):
                self._restore()
                self._sm.forward()

    def _refuses(self, reason: str) -> bool:
        """Whether the client wants no answer but from a cache (RFC 9111 5.2.1.7): it gets none."""
        if self._asked.control.only_if_cached:
            where = self.uri.decode("latin-1")
            self._sm.fail(CacheError(reason, where=where, remedy="ask without only-if-cached"))
            return True
        return False

    def _restore(self) -> None:
        """Let the request say again what the client said: nobody would understand the answer to our conditions."""
        if self._original:
            self._sm.head.fields, self._original = self._original, []

    def again_whole(self) -> None:
        """A transform needs all of it: look for that."""
        self.asks_whole()
        self._look_again()

    def asks_whole(self) -> None:
        """The request is about all of it from now on; what came of a part is not its answer."""
        self._give_up()
        self._restore()
        head = self._sm.head
        head.fields = [field for field in head.fields if field[0].lower() not in RANGES]
        self._read = None
        self._plain = False

    def _tell(self, head: Head, outcome: Outcome) -> None:
        """Say in Cache-Status what was done (RFC 9211)."""
        name = self._cache.name
        block = head.block
        if block is not None and b"cache-status" not in block.lower():
            head.block = block + b"\r\nCache-Status: " + cache_status((), name, outcome)
            return
        came = by_name(head.fields).get(b"cache-status", ())
        others = [field for field in head.fields if field[0].lower() != b"cache-status"]
        head.fields = [*others, (b"Cache-Status", cache_status(came, name, outcome))]

    # the answer of the origin

    def takes(self, origin: OriginSession, head: ResponseHead, rest: bytes) -> bool:
        """
        A response's head has come, and C{rest} behind it: true if it is not the client's.
        """
        processor, policy = self._cache.processor, self._cache.policy
        found, self._found = self._found, []
        method = self._sm.method
        if not found and not self._spare and method == b"GET" and _is_for_nobody_else(head):
            processor.counters.misses += 1
            self._tell(head, Outcome(self._forward))
            self._known(False)
            return False
        now = processor.wall_clock()
        response = answer_of(head, method, self._begun, now)
        spare, self._spare = self._spare if response.status in FAILURES else [], []
        if found or spare:
            then, stored = after(self._asked, found or spare, response, policy, now)
            if then is Then.FRESHEN:
                self._sm.response_came(rest)
                self._freshen(stored, response, now)
                return True
            if then is Then.STAND_IN:
                self._sm.leave_origin()
                if not self._stand_in(stored[0], now, response.status):
                    where = self.uri.decode("latin-1")
                    self._sm.fail(
                        CacheError("the origin fails, and nothing stands in", where=where, remedy="try later")
                    )
                return True
            if then is Then.AGAIN:
                return self._ask_again(rest)
            if found:
                self._sm.cached = "TCP_REFRESH_MODIFIED"
        for uri in invalidates(self._asked, response):
            processor.purge(uri)
        if method == b"HEAD" and response.status == 200:
            self._told_by_head(response)
        if (kept := may_store(response, self._asked, origin, policy)) is not None:
            until = pinned_until(self._sm.decision, now)
            self.writing = processor.begin(self.uri, Coming(self._asked, response, kept, policy, until))
        if method == b"GET":
            processor.counters.misses += 1
        self._tell(head, Outcome(self._forward, stored=self.writing is not None))
        self._known(self.writing is not None)
        return False

    def _known(self, shared: bool) -> None:
        """It is known whether others may have the answer; those who wait look again."""
        processor = self._cache.processor
        if self._lead is not None or shared:
            processor.note_shared(self.uri, shared)
        self._let_go()
        if shared and (lead := processor.leaders.get(self.uri)) is not None:
            lead.over()

    def _freshen(self, stored: Sequence[Stored], news: Answered, now: float) -> None:
        """The origin says that what is *stored* is right: update it, and answer with it (RFC 9111 4.3.4)."""
        request, policy, resource = self._asked, self._cache.policy, self._resource
        assert resource is not None
        self._cache.processor.change(
            self.uri,
            lambda before: freshened(before, stored, news, request, policy),
            pinned_until(self._sm.decision, now),
        )
        best = validated(stored[0], news, request)
        self._resource = with_stored(resource, stored[0], best)
        self._sm.cached = "TCP_REFRESH_UNMODIFIED"
        self._let_go()
        ttl = time_to_live(best.response, policy, now)
        if not self._serve(best, now, Outcome(Forward.STALE, status=304, ttl=ttl, stored=True)):
            self._ask_plainly()

    def _told_by_head(self, news: Answered) -> None:
        def told(before: Resource | None) -> Resource | None:
            for old in suitable(self._asked, [one.stored for one in before.alternates]) if before is not None else ():
                assert before is not None
                before = with_stored(before, old, told_by_head(old, news, self._asked))
            return before

        self._cache.processor.change(self.uri, told)

    def _ask_again(self, rest: bytes) -> bool:
        if self._again:
            return False
        self._again = True
        self._sm.response_came(rest)
        self._ask_plainly()
        return True

    def _ask_plainly(self) -> None:
        """Ask the origin without conditions."""
        self._sm.head.fields = [field for field in self._original if field[0].lower() not in CONDITIONS]
        self._sm.forward()

    def stands_in(self) -> bool:
        """No answer comes: true if what is stored answers, although it is stale (RFC 5861 4)."""
        found, self._found, self._spare = self._found or self._spare, [], []
        if not found:
            return False
        now = self._cache.processor.wall_clock()
        then, stored = after(self._asked, found, None, self._cache.policy, now)
        return then is Then.STAND_IN and self._stand_in(stored[0], now, None)

    def _stand_in(self, stored: Stored, now: float, status: int | None) -> bool:
        self._let_go()
        self._sm.cached = "TCP_REFRESH_FAIL_OLD"
        ttl = time_to_live(stored.response, self._cache.policy, now)
        return self._serve(stored, now, Outcome(Forward.STALE, status=status, ttl=ttl))

    # the response on its way into the cache

    def attach(self, producer: Producer) -> None:
        """Let the cache have what C{producer} brings, beside the client."""
        writing = self.writing
        if writing is not None and producer.alive:
            producer.tunnel.consume("cache", writing, producer, content=True, ended=writing.ended)
            if self._sm.transform is None and producer.length >= 0:
                writing.shared = lambda: self._read_along(producer, writing)
        else:
            self._give_up()

    def _read_along(self, producer: Producer, writing: Writing) -> None:
        """Others read what comes: from now on so does the client, lest a slow one holds them all."""
        if self._sm.over or not producer.alive:
            return
        span = Span(writing.first + producer.ndone, writing.first + producer.length)
        self._hit = hit = Hit(
            self._sm, self._cache.processor, writing.stored, writing, span, lost=_nothing, over=lambda size, disk: None
        )
        self._sm.let_go_of_client(producer)
        hit.go_on()

    def put(self, content: bytes) -> None:
        """The same for content that came with its head."""
        if self.writing is not None:
            self.writing.write(content)
            self.writing.ended(None)

    @property
    def fills(self) -> bool:
        """Whether a response is worth having although its client has left (ATS: background fill)."""
        return self.writing is not None and self.writing.fills

    def _let_go(self) -> None:
        if self._lead is not None:
            self._lead.over()
            self._lead = None

    def part(self) -> Hit | None:
        """
        The transaction ends, but not what it has begun (ATS: background fill): that goes on by itself, into the cache
        or out of it.

        @return: what comes out of it.
        """
        if self.writing is not None:
            self.writing.alone = True
        hit, self._hit, self.writing = self._hit, None, None
        return hit

    def stop(self) -> None:
        """The transaction is over."""
        self._let_go()
        if self._hit is not None:
            self._hit.stopProducing()
        self._give_up()

    def _give_up(self) -> None:
        """Nothing more comes of what is on its way into the cache."""
        if self.writing is not None and not self.writing.over:
            self.writing.ended(CacheError("it ended early", where="cache", remedy="none"))


def _nothing(early: bool) -> None:
    """What is still being written is in no document."""


def _is_for_nobody_else(head: ResponseHead) -> bool:
    """Whether a response says in one word that it may not be stored; most of those that may not do."""
    raw = head.raw
    return _KEPT_BY_NOBODY.search(raw) is not None and _UNDERSTAND.search(raw) is None


def made(status: int) -> ResponseHead:
    """A head of our own, without fields."""
    head = ResponseHead()
    head.version, head.status, head.reason = 11, status, reason_of(status)
    head.raw, head.upgrade, head.block_via, head.close = b"", None, None, False
    return head
