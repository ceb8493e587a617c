"""
What the cache does to one transaction (ATS: HttpCacheSM).

The transaction asks here at three places: before its request goes anywhere (L{CacheSM.begin}), when a response's head
has come (L{CacheSM.takes}), and when none comes (L{CacheSM.stands_in}). What follows is decided by
L{sslintercept.cache.decide}; here it is done. A hit is a producer (L{sslintercept.http.hit}), a response that is stored
has one consumer more, and transforms see both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from sslintercept.cache.decide import Do, Then, after, conditional, may_collapse, plan, suitable
from sslintercept.cache.fresh import FAILURES, Policy, time_to_live
from sslintercept.cache.key import key_of
from sslintercept.cache.message import Answered, Stored, asked, by_name
from sslintercept.cache.processor import CacheProcessor, Lead
from sslintercept.cache.ready import Ready, fields_of, is_plain, ready_of
from sslintercept.cache.reply import Reply, reply
from sslintercept.cache.resource import FRAGMENT, Alternate, Resource, freshened, with_stored
from sslintercept.cache.status import Forward, Outcome, cache_status
from sslintercept.cache.update import SAFE, invalidates, told_by_head, validated
from sslintercept.cache.writing import Coming, Writing
from sslintercept.errors import CacheError
from sslintercept.facts import Fields, Head, RequestHead, ResponseHead, Scope
from sslintercept.http.hit import Hit
from sslintercept.http.origin import OriginSession
from sslintercept.http.refresh import Refresh, answer_of, may_refresh, may_store
from sslintercept.tunnel.tunnel import Producer

if TYPE_CHECKING:
    from sslintercept.http.sm import HttpSM

CONDITIONS = frozenset((b"if-none-match", b"if-modified-since"))


class HttpCache:
    """The cache as one generation of settings wants it; C{name}: ours in Cache-Status."""

    def __init__(self, processor: CacheProcessor, policy: Policy, name: str) -> None:
        self.processor, self.policy, self.name = processor, policy, name

    def begin(self, sm: HttpSM) -> bool:
        """A transaction begins: true if the cache has answered, or will say how it goes on."""
        head, decision = sm.head, sm.decision
        if (
            (decision is not None and not decision.cache)
            or (head.scheme == "https" and not self.policy.decrypted)
            or sm.session.identity
            or not is_sure(head, sm.session.facts.scope)
        ):
            return False
        uri = key_of(head.scheme, head.authority, head.target)
        if uri is None or (head.method not in (b"GET", b"HEAD") and head.method in SAFE):
            return False
        kept = self.processor.memory.get(uri) if sm.transform is None else None
        if isinstance(kept, Resource) and kept.ready is not None and is_plain(head):
            now = self.processor.wall_clock()
            if now < kept.ready.until:
                self._answer(sm, kept.ready, now)
                return True
        sm.cache = CacheSM(self, sm, uri)
        return head.method in (b"GET", b"HEAD") and sm.cache.begin()

    def _answer(self, sm: HttpSM, ready: Ready, now: float) -> None:
        """Answer without further thought; costs 60 Python calls with the reading of the request and its line."""
        content = ready.content
        head = ResponseHead()
        head.version, head.status, head.reason = 11, ready.status, phrase(ready.status)
        head.raw, head.upgrade, head.block_via, head.close = b"", None, None, False
        head.block, head.length = fields_of(ready, self.name, now), len(content)
        sm.present(head)
        raw = sm.begin_response(len(content))
        if raw is not None:
            counters = self.processor.counters
            counters.memory_hits += 1
            counters.bytes_served += len(content)
            sm.cached = "TCP_MEM_HIT"
            sm.send_head(raw + content)
            sm.finish()


def is_sure(head: RequestHead, scope: Scope | None) -> bool:
    """
    Whether what answers is the host that the request names.

    In a tunnel in the clear it is whoever the client has chosen: were that kept under the name, one client could choose
    what all others get (RFC 9110 17.1). In TLS the verified certificate says who it is.
    """
    if head.beyond or (scope is not None and scope.outer is not None):
        return False
    return scope is None or scope.secure or head.authority == (scope.name, scope.destination.port)


class CacheSM:
    """
    @ivar writing: the response on its way into the cache.
    """

    __slots__ = (
        "_again",
        "_asked",
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
        "_resource",
        "_sm",
        "_spare",
        "uri",
        "writing",
    )

    def __init__(self, cache: HttpCache, sm: HttpSM, uri: bytes) -> None:
        self._cache, self._sm, self.uri = cache, sm, uri
        self._asked = asked(sm.head)
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

    # before the request goes anywhere

    def begin(self) -> bool:
        """Look for an answer: true if there is one, or it takes a while to know."""
        self._inside, self._goes_on = True, False
        self._cache.processor.find(self.uri, self._came)
        self._inside = False
        return not self._goes_on

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
        processor, request = self._cache.processor, self._asked
        now = processor.wall_clock()
        self._resource = resource
        kept = [one.stored for one in resource.alternates] if resource is not None else []
        kept += [one.stored for one in processor.writings.get(self.uri, ()) if one.open and one.stored.spans is None]
        planned = plan(request, kept, self._cache.policy, now)
        self._forward = planned.forward or (Forward.STALE if planned.do is Do.REFRESH else Forward.PARTIAL)
        if planned.do is Do.TIMEOUT:
            where = self.uri.decode("latin-1")
            self._sm.fail(CacheError(planned.reason, where=where, remedy="ask without only-if-cached"))
            return True
        refresh = planned.do is Do.REFRESH and may_refresh(self._sm)
        if planned.stored is not None and (planned.do is Do.SERVE or refresh):
            if self._serve(planned.stored, now):
                if refresh:
                    Refresh.begin(self._sm, self._cache, request, suitable(request, kept))
                return True
        elif request.method == b"GET" and self._forward is not Forward.BYPASS:
            if not self._followed and processor.follow(self.uri, request, self._look_again):
                self._followed = True
                return True
            if may_collapse(request, request):
                self._lead = processor.lead(self.uri, request)
        if planned.do in (Do.VALIDATE, Do.REFRESH) and resource is not None:
            self._validate([one for one in suitable(request, kept) if resource.of(one) is not None])
        elif planned.forward is Forward.STALE and planned.stored is not None:
            self._spare = [planned.stored]
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
        if outcome is None and isinstance(content, Alternate) and content.content and self._resource is not None:
            self._resource.ready = ready_of(self._asked, stored, content.content, self._cache.policy, now)
        if outcome is None:
            ttl = time_to_live(stored.response, self._cache.policy, now)
            if isinstance(content, Writing) or self._followed:
                outcome = Outcome(Forward.URI_MISS, ttl=ttl, collapsed=True)
                self._sm.cached = "TCP_CF_HIT"
            else:
                outcome = Outcome(ttl=ttl)
                self._sm.cached = "TCP_MEM_HIT" if ttl > 0 else "TCP_STALE_HIT"
        head = ResponseHead()
        head.version, head.status, head.reason = 11, found.status, phrase(found.status)
        head.raw, head.upgrade, head.block_via, head.close = b"", None, None, False
        head.fields = found.fields
        self._tell(head, outcome)
        self._hit = Hit(
            self._sm, processor, content, found.span, lost=lambda early: self._lost(stored, early), over=self._served
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
        if found.span is None or content.content is not None or self._resource is None:
            return True
        if self._cache.processor.is_whole(self._resource, content):
            return True
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
        self._cache.processor.lose(self.uri, stored)
        self._hit = None
        if early and not self._sm.over:
            self._forward, self._sm.cached = Forward.PARTIAL, "TCP_MISS"
            self._found, self._spare = [], []
            self._sm.forward()

    def again_whole(self) -> None:
        """A transform needs all of it: look for that."""
        head = self._sm.head
        head.fields = [field for field in head.fields if field[0].lower() not in (b"range", b"if-range")]
        self._asked = asked(head)
        self._look_again()

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
        now = processor.wall_clock()
        response = answer_of(head, self._asked.method, self._begun, now)
        found, self._found = self._found, []
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
                return self._ask_again(origin)
            if found:
                self._sm.cached = "TCP_REFRESH_MODIFIED"
        for uri in invalidates(self._asked, response):
            processor.purge(uri)
        if self._asked.method == b"HEAD" and response.status == 200:
            self._told_by_head(response)
        if (kept := may_store(response, self._asked, origin, policy)) is not None:
            pin = self._sm.decision.pin if self._sm.decision is not None else 0.0
            until = now + pin if pin else 0.0
            self.writing = processor.begin(self.uri, Coming(self._asked, response, kept, policy, until))
        if self._asked.method == b"GET":
            processor.counters.misses += 1
        self._tell(head, Outcome(self._forward, stored=self.writing is not None))
        self._let_go()
        return False

    def _freshen(self, stored: Sequence[Stored], news: Answered, now: float) -> None:
        """The origin says that what is *stored* is right: update it, and answer with it (RFC 9111 4.3.4)."""
        request, policy, resource = self._asked, self._cache.policy, self._resource
        assert resource is not None
        self._cache.processor.change(self.uri, lambda before: freshened(before, stored, news, request, policy))
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

    def _ask_again(self, origin: OriginSession) -> bool:
        if self._again:
            return False
        self._again = True
        self._sm.response_came(b"")
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
        elif writing is not None:
            writing.ended(CacheError("it ended early", where="cache", remedy="none"))

    def put(self, content: bytes) -> None:
        """The same for content that came with its head."""
        if self.writing is not None:
            self.writing.write(content)
            self.writing.ended(None)

    @property
    def fills(self) -> bool:
        """Whether a response is worth having although its client has left (ATS: background fill)."""
        writing = self.writing
        if writing is None or writing.over:
            return False
        total = writing.stored.total
        return writing.wanted or (writing.open and total is not None and total - writing.count <= MOST_FILLED)

    def _let_go(self) -> None:
        if self._lead is not None:
            self._lead.over()
            self._lead = None

    def stop(self) -> None:
        """The transaction is over."""
        self._let_go()
        if self._hit is not None:
            self._hit.stopProducing()
        if self.writing is not None and not self.writing.over:
            self.writing.ended(CacheError("it ended early", where="cache", remedy="none"))


@lru_cache(maxsize=256)
def phrase(status: int) -> bytes:
    """The reason phrase of a status that is stored (RFC 9110 15)."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


MOST_FILLED = 10 * 2**20
"""bytes that are still fetched for the cache when the client has left"""
