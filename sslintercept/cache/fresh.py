"""How old a stored response is, how long it is fresh, and when a stale one may be used all the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from sslintercept.cache.directive import RequestControl, ResponseControl
from sslintercept.cache.field import MAX_SECONDS
from sslintercept.cache.message import Answered, Stored

HEURISTIC: Final = frozenset((200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501))
"""Status codes whose responses may be kept although nothing says for how long (RFC 9110 15.1)."""
NEGATIVE: Final = frozenset((404, 405, 410, 414, 501))
"""Those of them that say there is nothing."""
FAILURES: Final = frozenset((500, 502, 503, 504))
"""Status codes that C{stale-if-error} is about (RFC 5861 4)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    What the administrator decides.

    @ivar decrypted: whether what came out of TLS is kept.
    @ivar fraction: of the time since Last-Modified, for which a response is fresh that says nothing (RFC 9111 4.2.2).
    @ivar longest: seconds that C{fraction} gives at most.
    @ivar negative: seconds for which one of L{NEGATIVE} is fresh that says nothing; 0: they are not kept.
    @ivar partial: whether incomplete content is kept.
    """

    decrypted: bool = False
    fraction: float = 0.1
    longest: float = 86400
    negative: float = 0
    partial: bool = True


def current_age(response: Answered, now: float) -> float:
    """
    Give the age of *response* in seconds (RFC 9111 4.2.3), from 0 to L{MAX_SECONDS}.

    Clocks that went back make no response younger than it was when it came.
    """
    apparent = max(0.0, response.received - response.generated)
    delay = max(0.0, response.received - response.requested)
    initial = max(apparent, response.age + delay)
    return min(initial + max(0.0, now - response.received), MAX_SECONDS)


def explicit_lifetime(response: Answered) -> float | None:
    """
    Give the seconds from its generation for which *response* says it is fresh (RFC 9111 4.2.1).

    @return: C{None} if it says nothing, so that a heuristic may.
    """
    control = response.control
    if control.malformed:
        return 0.0
    if control.s_maxage is not None:
        return control.s_maxage
    if control.max_age is not None:
        return control.max_age
    if response.expires is not None:
        return min(max(0.0, response.expires - response.generated), MAX_SECONDS)
    return None


def lifetime(response: Answered, policy: Policy) -> float:
    """Give the seconds from its generation for which *response* is fresh, by what it says or by *policy*."""
    explicit = explicit_lifetime(response)
    if explicit is not None:
        return explicit
    if response.status in NEGATIVE:
        return policy.negative
    if response.last_modified is None or (response.status not in HEURISTIC and not response.control.public):
        return 0.0
    since = max(0.0, response.generated - response.last_modified)
    return min(since * policy.fraction, policy.longest)


def time_to_live(response: Answered, policy: Policy, now: float) -> float:
    """Give the seconds for which *response* will be fresh; below 0: since when it is not."""
    return lifetime(response, policy) - current_age(response, now)


def forbids_stale(control: ResponseControl) -> bool:
    """
    Whether a stale response must not be used by a shared cache, whoever permits it (RFC 9111 4.2.4).

    C{s-maxage} is C{proxy-revalidate}, too (RFC 9111 5.2.2.10).
    """
    return (
        control.malformed
        or control.no_cache.whole
        or control.must_revalidate
        or control.proxy_revalidate
        or control.s_maxage is not None
    )


class Use(Enum):
    """Whether a stored response may be used without asking the origin."""

    FRESH = "fresh"
    STALE = "stale, and the client takes that"
    REFRESH = "stale, and the origin allows that while it is asked"
    NO = "no"


class Freshness(NamedTuple):
    """What L{judge} says, and why in words."""

    use: Use
    reason: str


def judge(stored: Stored, control: RequestControl, secure: bool, policy: Policy, now: float) -> Freshness:
    """
    Say whether a response that was *stored* may answer a request with *control* unasked (RFC 9111 4, 4.2, 5.2.1).

    @param secure: the request came inside TLS; C{immutable} counts only there (RFC 8246 3).
    """
    response = stored.response
    said = response.control
    if stored.invalid:
        return Freshness(Use.NO, "invalidated")
    if said.no_cache.whole:
        return Freshness(Use.NO, "no-cache of the response")
    if control.no_cache:
        return Freshness(Use.NO, "no-cache of the request")
    age = current_age(response, now)
    left = lifetime(response, policy) - age
    # A reload asks for an age of 0; the author of an immutable response has said that there is no need to
    # (RFC 8246 2.1). Whoever means it says no-cache.
    unchanging = said.immutable and secure and left > 0
    if control.max_age is not None and age > control.max_age and not unchanging:
        return Freshness(Use.NO, "max-age of the request")
    if left > 0:
        if left < control.min_fresh:
            return Freshness(Use.NO, "min-fresh of the request")
        return Freshness(Use.FRESH, "fresh")
    if control.min_fresh or forbids_stale(said):
        return Freshness(Use.NO, "stale")
    if control.max_stale and -left <= control.max_stale:
        return Freshness(Use.STALE, "max-stale of the request")
    if -left < said.stale_while_revalidate:
        return Freshness(Use.REFRESH, "stale-while-revalidate")
    return Freshness(Use.NO, "stale")


def survives_error(stored: Stored, control: RequestControl, policy: Policy, now: float) -> bool:
    """
    Whether a response that was *stored* may stand in for an origin that fails (RFC 5861 4, RFC 9111 4.2.4).

    A failure is no answer at all, or one of L{FAILURES}. A limit that the request sets is kept, too; without anybody's
    permission nothing stale is used, although RFC 9111 would allow it to who is disconnected.
    """
    said = stored.response.control
    if stored.invalid or control.no_cache or said.no_cache.whole:
        return False
    age = current_age(stored.response, now)
    left = lifetime(stored.response, policy) - age
    if control.max_age is not None and age > control.max_age:
        return False
    if left > 0:
        return left >= control.min_fresh
    if control.min_fresh or forbids_stale(said):
        return False
    return -left < max(said.stale_if_error or 0, control.stale_if_error or 0)
