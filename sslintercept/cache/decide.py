"""
The decisions of a shared cache: may this be stored, may that be used, what is asked of the origin, and what then.

Everything follows from the request, the response, what is stored and the time (RFC 9111 3, 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final, NamedTuple

from sslintercept.cache.field import MAX_MEMBERS, EntityTag, tags_of
from sslintercept.cache.fresh import FAILURES, HEURISTIC, Policy, Use, judge, lifetime, survives_error
from sslintercept.cache.key import key_of, variant_of
from sslintercept.cache.message import Answered, Asked, Span, Stored, Variant, answered, by_name, kept_fields
from sslintercept.cache.span import Missing, extent, piece_of
from sslintercept.cache.status import Forward
from sslintercept.cache.update import identified
from sslintercept.facts import Fields

UNDERSTOOD: Final = HEURISTIC | frozenset(
    (201, 202, 205, 302, 303, 307, 402, 403, 406, 409, 422, 451, 500, 502, 503, 504)
)
"""Status codes that ask nothing of a cache which this one does not do (RFC 9111 3, 5.2.2.3)."""
OF_THE_REQUEST: Final = frozenset((400, 401, 407, 408, 411, 412, 413, 415, 416, 417, 421, 425, 426, 428, 429, 431, 511))
"""Status codes that speak of one request or one client: kept, they would refuse all others."""


def _is_shared(response: Answered) -> bool:
    """Whether *response* allows a shared cache to keep what needed Authorization (RFC 9111 3.5)."""
    control = response.control
    return control.public or control.must_revalidate or control.s_maxage is not None


def _is_permitted(response: Answered) -> bool:
    """Whether anything permits to keep *response* (RFC 9111 3)."""
    control = response.control
    explicit = control.max_age is not None or control.s_maxage is not None or response.expires is not None
    return explicit or control.public or response.status in HEURISTIC


def _is_useless(response: Answered, policy: Policy) -> bool:
    """Whether it would have to be fetched whole at each use."""
    if response.etag is not None or response.last_modified is not None:
        return False
    control = response.control
    after = max(control.stale_while_revalidate, control.stale_if_error or 0)
    return control.no_cache.whole or lifetime(response, policy) + after <= 0


def _is_odd_part(request: Asked, response: Answered, policy: Policy) -> bool:
    """Whether it is a part that nothing could be added to, or that is none (RFC 9111 3.3, 3.4)."""
    if response.status != 206:
        return False
    strong = response.etag is not None and not response.etag.weak
    return not (policy.partial and strong and request.says(b"range") and extent(response) is not None)


class Bar(NamedTuple):
    """What keeps a response from being stored."""

    reason: str
    section: str
    applies: Callable[[Asked, Answered, Policy], bool]


BARS: Final = (
    Bar("the method is not GET", "RFC 9111 3", lambda q, r, p: q.method != b"GET"),
    Bar("the request has content or asks for an upgrade", "RFC 9110 9.3.1", lambda q, r, p: not q.plain),
    Bar("the target has no key", "RFC 9111 2", lambda q, r, p: key_of(q.scheme, q.authority, q.target) is None),
    Bar("it was decrypted", "RFC 9111 7.3", lambda q, r, p: q.scheme == "https" and not p.decrypted),
    Bar("the status is not final", "RFC 9111 3", lambda q, r, p: r.status < 200),
    Bar("it is news about what is stored", "RFC 9111 4.3.4", lambda q, r, p: r.status == 304),
    Bar("the status speaks of this request", "RFC 9111 7.1", lambda q, r, p: r.status in OF_THE_REQUEST),
    Bar("Cache-Control is malformed", "RFC 9111 4.2.1", lambda q, r, p: r.control.malformed),
    Bar(
        "must-understand, and the status is not understood",
        "RFC 9111 5.2.2.3",
        lambda q, r, p: r.control.must_understand and r.status not in UNDERSTOOD,
    ),
    Bar("no-store of the request", "RFC 9111 5.2.1.5", lambda q, r, p: q.control.no_store),
    Bar(
        "no-store of the response",
        "RFC 9111 5.2.2.5",
        lambda q, r, p: r.control.no_store and not r.control.must_understand,
    ),
    Bar("private", "RFC 9111 5.2.2.7", lambda q, r, p: r.control.private.whole),
    Bar(
        "Authorization, and nothing that shares the response",
        "RFC 9111 3.5",
        lambda q, r, p: bool(q.says(b"authorization")) and not _is_shared(r),
    ),
    Bar("nothing permits it", "RFC 9111 3", lambda q, r, p: not _is_permitted(r)),
    Bar("Vary matches no other request", "RFC 9111 4.1", lambda q, r, p: variant_for(q, r) is None),
    Bar(
        "Set-Cookie, and nothing that shares the response",
        "RFC 9111 7.3",
        lambda q, r, p: b"set-cookie" in by_name(r.fields) and not r.control.public and r.control.s_maxage is None,
    ),
    Bar("a part that cannot be combined", "RFC 9111 3.3", _is_odd_part),
    Bar("neither fresh nor with a validator", "RFC 9111 3", lambda q, r, p: _is_useless(r, p)),
)
"""What is asked before a response is stored, in this order."""


def variant_for(request: Asked, response: Answered) -> Variant | None:
    """Give the secondary key of *response*, or C{None} if no request matches it (RFC 9111 4.1)."""
    return None if response.vary is None else variant_of(response.vary, request)


def bar_to(request: Asked, response: Answered, policy: Policy) -> Bar | None:
    """Say what keeps *response* from being stored (RFC 9111 3), or C{None} if nothing does."""
    return next((bar for bar in BARS if bar.applies(request, response, policy)), None)


def bar_to_stay(request: Asked, stored: Stored, policy: Policy) -> Bar | None:
    """Say what keeps what is *stored*, as the news that *request* brought have left it, from being kept longer."""
    asks = {name: lines for name, lines in request.named.items() if name != b"authorization"}
    if stored.authorized:
        asks[b"authorization"] = (b"-",)
    return bar_to(replace(request, method=b"GET", named=asks), stored.response, policy)


def stored_as(request: Asked, response: Answered, policy: Policy) -> Stored | None:
    """
    Give what is stored of *response* once its content has come whole, or C{None} if it is not (RFC 9111 3.1, 3.3).

    A part is stored as an incomplete 200, whose Content-Length is the whole's.
    """
    variant = variant_for(request, response)
    if bar_to(request, response, policy) is not None or variant is None:
        return None
    status, fields, spans = response.status, kept_fields(response), None
    total = int(response.length) if response.length is not None and response.length.isdigit() else None
    part = extent(response) if status == 206 else None
    if part is not None and part.span is not None:
        status, total = 200, part.total
        fields = [field for field in fields if field[0].lower() not in (b"content-range", b"content-length")]
        if total is not None:
            fields.append((b"Content-Length", b"%d" % total))
        spans = None if part.span == (0, total) else (part.span,)
    kept = answered(status, fields, response.requested, response.received)
    return Stored(kept, variant, bool(request.says(b"authorization")), total, spans)


def cut_short(stored: Stored, count: int, policy: Policy) -> Stored | None:
    """
    Give what is *stored* of a response whose connection ended after *count* bytes of content (RFC 9111 3.3).

    @return: C{None}: it is not worth keeping, since nothing could be added to it, or nothing of it came.
    """
    tag = stored.response.etag
    whole = stored.response.status == 200 and stored.spans is None and stored.total is not None
    if not policy.partial or not whole or count < 1 or tag is None or tag.weak:
        return None
    return stored if count == stored.total else replace(stored, spans=(Span(0, count),))


# -- using -----------------------------------------------------------------------------------------------------------


def suitable(request: Asked, kept: Sequence[Stored]) -> list[Stored]:
    """
    Give those *kept* under the key of *request* that could answer it, best first (RFC 9111 4, 4.1).

    Those with Vary go before those without; among these the one that was generated last is best.
    """
    found = [
        stored
        for stored in kept
        if stored.response.vary is not None
        and variant_of(stored.response.vary, request) == stored.variant
        and (not stored.authorized or _is_shared(stored.response))
    ]
    return sorted(
        found, key=lambda one: (bool(one.response.vary), one.response.generated, one.response.received), reverse=True
    )


class Do(Enum):
    """What is done about a request."""

    SERVE = "answer from the cache"
    REFRESH = "answer from the cache, and validate meanwhile"
    VALIDATE = "ask the origin whether what is stored is still right"
    FORWARD = "forward the request as it is"
    TIMEOUT = "answer 504"


class Plan(NamedTuple):
    """
    What is done, why in words, and with what.

    @ivar stored: what answers, or is validated.
    @ivar forward: what Cache-Status says if the origin is asked to answer this request.
    """

    do: Do
    reason: str
    stored: Stored | None = None
    forward: Forward | None = None


def plan(request: Asked, kept: Sequence[Stored], policy: Policy, now: float) -> Plan:
    """
    Say what is done about *request* (RFC 9111 4).

    @param kept: everything that is stored under its key.
    """
    if request.method not in (b"GET", b"HEAD"):
        return Plan(Do.FORWARD, "the method is written through", forward=Forward.METHOD)
    if request.scheme == "https" and not policy.decrypted:
        return Plan(Do.FORWARD, "decrypted traffic is not cached", forward=Forward.BYPASS)
    found = _plan(request, kept, policy, now)
    if request.control.only_if_cached and found.do not in (Do.SERVE, Do.REFRESH):
        return Plan(Do.TIMEOUT, f"only-if-cached, but {found.reason}")
    return found


def _plan(request: Asked, kept: Sequence[Stored], policy: Policy, now: float) -> Plan:
    if not request.plain or key_of(request.scheme, request.authority, request.target) is None:
        return Plan(Do.FORWARD, "it cannot be answered from a cache", forward=Forward.BYPASS)
    if request.says(b"if-match") or request.says(b"if-unmodified-since"):
        return Plan(Do.FORWARD, "its precondition is for the origin", forward=Forward.BYPASS)
    if not kept:
        return Plan(Do.FORWARD, "nothing is stored", forward=Forward.URI_MISS)
    found = suitable(request, kept)
    if not found:
        return Plan(Do.FORWARD, "what is stored answers other requests", forward=Forward.VARY_MISS)
    stored = found[0]
    if isinstance(piece_of(request, stored), Missing):
        return Plan(Do.FORWARD, "the bytes are not stored", stored, Forward.PARTIAL)
    use, reason = judge(stored, request.control, request.scheme == "https", policy, now)
    if use is Use.REFRESH:
        return Plan(Do.REFRESH, reason, stored)
    if use is not Use.NO:
        return Plan(Do.SERVE, reason, stored)
    forward = Forward.REQUEST if reason.endswith("of the request") else Forward.STALE
    can = stored.response.etag is not None or stored.response.last_modified is not None
    return Plan(Do.VALIDATE if can else Do.FORWARD, reason, stored, forward)


def may_collapse(leader: Asked, follower: Asked) -> bool:
    """
    Whether *follower* may wait for the answer to *leader*, to see whether it can use that, too (RFC 9111 4).

    Whoever asks for a part, sends credentials or wants it from the origin does not wait, nor is waited for.
    """
    key = key_of(leader.scheme, leader.authority, leader.target)
    return (
        key is not None
        and key == key_of(follower.scheme, follower.authority, follower.target)
        and all(
            one.method == b"GET"
            and one.plain
            and not one.control.no_store
            and not one.control.no_cache
            and not any(one.says(name) for name in (b"authorization", b"range", b"if-match", b"if-unmodified-since"))
            for one in (leader, follower)
        )
    )


# -- validating ------------------------------------------------------------------------------------------------------


class Conditional(NamedTuple):
    """How a request becomes one that validates."""

    without: frozenset[bytes]
    """fields of the client's that are left out, in lower case"""
    fields: Fields
    """what is added"""


def conditional(request: Asked, found: Sequence[Stored]) -> Conditional:
    """
    Say how *request* asks the origin about what is stored (RFC 9111 4.3.1, 4.3.2).

    The client's entity tags are asked about, too; its date is not, since it is compared with what is found afterwards.

    @param found: what is L{suitable}; at least one with a validator.
    """
    tags: dict[EntityTag, None] = {}
    for stored in found:
        if stored.response.etag is not None and not isinstance(piece_of(request, stored), Missing):
            tags[stored.response.etag] = None
    tags.update(dict.fromkeys(tags_of(request.says(b"if-none-match")).listed))
    fields: Fields = []
    if tags:
        fields.append((b"If-None-Match", b", ".join(bytes(tag) for tag in list(tags)[:MAX_MEMBERS])))
    if len(found) == 1 and not request.says(b"range"):
        modified = found[0].response.last_modified
        if modified is not None:
            fields.append((b"If-Modified-Since", by_name(found[0].response.fields)[b"last-modified"][0]))
    return Conditional(frozenset((b"if-none-match", b"if-modified-since")), fields)


class Then(Enum):
    """What follows an answer to a request that validates."""

    FRESHEN = "what is stored is right: update it, and answer with it"
    PASS = "the answer is the client's, and may be stored"
    AGAIN = "ask once more, without a condition"
    STAND_IN = "answer with what is stored, although it is stale"
    TIMEOUT = "answer 504"


class After(NamedTuple):
    """What is done, and with what."""

    then: Then
    stored: tuple[Stored, ...] = ()
    """for C{FRESHEN} all that are updated, the best first; for C{STAND_IN} the one that answers"""


def after(request: Asked, found: Sequence[Stored], response: Answered | None, policy: Policy, now: float) -> After:
    """
    Say what follows the *response* to a request made by L{conditional} (RFC 9111 4.3.3).

    @param found: what was asked about, the best first.
    @param response: C{None} if the origin cannot be reached or says nothing.
    """
    if response is None or response.status in FAILURES:
        if found and survives_error(found[0], request.control, policy, now):
            return After(Then.STAND_IN, (found[0],))
        return After(Then.TIMEOUT if response is None else Then.PASS)
    if response.status != 304:
        return After(Then.PASS)
    same = identified(response, found)
    if not same and len(found) == 1 and response.etag is None and response.last_modified is None:
        # Whoever leaves its validator out (which RFC 9110 15.4.5 forbids) can only mean the one it was asked about.
        same = [] if request.says(b"if-none-match") else list(found)
    if same:
        return After(Then.FRESHEN, tuple(stored for stored in found if stored in same))
    mine = tags_of(request.says(b"if-none-match"))
    client_has = response.etag is not None and any(tag.is_weakly(response.etag) for tag in mine.listed)
    return After(Then.PASS if client_has else Then.AGAIN)
