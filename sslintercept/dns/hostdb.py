"""
The table of hosts: from a name to its addresses, and for how long they are good (ATS: HostDB).

A name is looked for in the hosts file, which always wins, then among those kept, then asked of the name servers, for
both families at once. Equal questions share one look-up. What it finds is kept as long as its records live (RFC 1035),
that there is nothing as long as its zone says (RFC 2308), a failure for a moment (RFC 9520). A name in use is asked for
again shortly before its time is over, so that nobody waits; when the servers do not answer, what was true last is
better than nothing (RFC 8767). Nobody waits longer than the limit, but a look-up goes on and fills the table.

A kept name costs about 2 µs, a further waiter 7 µs (C{bench/dns.py}).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from sslintercept.dns.alarm import Alarms, Clock
from sslintercept.dns.answer import Answer
from sslintercept.dns.host import BOTH, NO_ADDRESS, NO_NAME, Host, mixed
from sslintercept.dns.hosts import HostsFile, special
from sslintercept.errors import ResolveError

PATIENCE: Final = 15.0
"""seconds that anybody waits"""
LATE: Final = 60.0
"""seconds that a look-up may take, whether or not anybody still waits"""
DELAY: Final = 0.05
"""seconds that the addresses of one family wait for those of the other (RFC 8305 3)"""
KEEP_FAILURE: Final = 5.0
"""seconds that a failure is kept (RFC 9520 3.2)"""
RECHECK: Final = 30.0
"""seconds that a name whose look-up failed is answered from what was known before (RFC 8767 5)"""
RESPONSE: Final = 1.8
"""seconds that one waits for news of a name whose time is over, if something is known of it (RFC 8767 5)"""
REFRESH_USES: Final = 2
"""how often a name must have been asked for to be in use"""
STALE: Final = 86_400.0
"""seconds beyond their lifetime that addresses are better than nothing (RFC 8767 4: one to three days)"""
LONGEST: Final = 255
"""characters of a name"""
MOST_NAMES: Final = 100_000
"""names kept; the one that was not asked for longest makes room"""
MOST_WAITING: Final = 65_536
"""waiters of all look-ups; further ones fail at once"""


Query = Callable[[str, int, float], "Deferred[Answer]"]
"""Asks the name servers: name, type, and the clock's time at which to give up."""


class Limit(Protocol):
    """What a time limit is set for."""

    live: bool

    def ring(self) -> object:
        """The time is over."""


@dataclass(slots=True)
class Counters:
    """
    What was answered so far, and from where.

    @ivar hosts: from the hosts file, and special names.
    @ivar kept: from the table; C{negative}: of them, that there is nothing; C{stale}: from what was true before.
    @ivar asked: look-ups that were begun because somebody wanted to know; C{refreshed}: before anybody had to wait.
    @ivar shared: questions that joined a look-up under way.
    @ivar failed: look-ups that failed; C{expired}: waiters whose time was over; C{refused}: those too many.
    @ivar evicted: names that made room.
    """

    hosts: int = 0
    kept: int = 0
    negative: int = 0
    stale: int = 0
    asked: int = 0
    refreshed: int = 0
    shared: int = 0
    failed: int = 0
    expired: int = 0
    refused: int = 0
    evicted: int = 0


class Waiting:
    """Somebody who waits for a look-up."""

    __slots__ = ("_table", "done", "live", "lookup")

    def __init__(self, table: HostDB, lookup: Lookup) -> None:
        self._table = table
        self.lookup = lookup
        self.live = True
        self.done: Deferred[Sequence[str]] = Deferred(self._cancelled)

    def _cancelled(self, done: Deferred[Sequence[str]]) -> None:
        self.live = False
        self._table.waiting -= 1

    def ring(self) -> None:
        """The time is over: what is known of old, or nothing."""
        self._table.expired(self)


class Moment:
    """The resolution delay of a look-up (RFC 8305 3)."""

    __slots__ = ("_call", "live")

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.live = True

    def ring(self) -> None:
        """It is over."""
        self._call()


class Lookup:
    """
    One look-up: a question for each family, and who waits for them.

    @ivar old: what was known before, if it is better than nothing.
    @ivar found: what the servers know of each family; C{why}: why they do not know one.
    """

    __slots__ = ("_delay", "_open", "_table", "found", "name", "old", "waiters", "why")

    def __init__(self, table: HostDB, name: str, old: Host | None) -> None:
        self._table = table
        self.name = name
        self.old = old
        self.waiters: list[Waiting] = []
        self.found: dict[int, Answer] = {}
        self.why: str | None = None
        self._open = 0
        self._delay: Moment | None = None

    def begin(self, query: Query, families: Sequence[int], deadline: float) -> None:
        """Ask for all families; some may be answered at once."""
        self._open = len(families)
        for rtype in families:
            query(self.name, rtype, deadline).addCallbacks(self._answered, self._failed, callbackArgs=(rtype,))

    def _answered(self, answer: Answer, rtype: int) -> None:
        self.found[rtype] = answer
        self._settle()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self.why = error.what if isinstance(error, ResolveError) else f"{type(error).__name__} in the resolver"
        self._settle()

    def _settle(self) -> None:
        self._open -= 1
        if not self._open:
            if self._delay is not None:
                self._delay.live = False
            self._table.ended(self)
        elif self._delay is None and any(answer.addresses for answer in self.found.values()):
            self._delay = Moment(lambda: self._table.partly(self))
            self._table.limit(DELAY, self._delay)

    def host(self, now: float, stale: float) -> Host | None:
        """What is to be kept of it; C{None} if it has failed."""
        return Host.of(self.found, self.why is None, now, stale)


class Known(NamedTuple):
    """What is kept of a name, for readers; C{left} seconds more."""

    addresses: Sequence[str]
    why: str
    left: float


class HostDB:
    """
    Answers L{sslintercept.interfaces.IResolver.resolve}.

    @param query: asks the name servers (L{sslintercept.dns.processor.DnsProcessor.query}).
    @param families: the types to ask for, each time somebody does: C{A}, C{AAAA}.
    @param most: names kept.
    @param stale: seconds beyond their lifetime that addresses are better than nothing.
    @param patience: seconds that anybody waits.
    @ivar counters: what was answered so far.
    @ivar waiting: how many wait.
    """

    def __init__(
        self,
        clock: Clock,
        hosts: HostsFile,
        query: Query,
        *,
        families: Callable[[], Sequence[int]] = lambda: BOTH,
        most: int = MOST_NAMES,
        stale: float = STALE,
        patience: float = PATIENCE,
    ) -> None:
        self._clock = clock
        self.hosts = hosts
        self._query = query
        self._families = families
        self._most = most
        self._stale = stale
        self._patience = patience
        self._kept: OrderedDict[str, Host] = OrderedDict()
        self._lookups: dict[str, Lookup] = {}
        self._alarms: Alarms[Limit] = Alarms(clock, lambda limit: limit.ring())
        self.counters = Counters()
        self.waiting = 0

    def __len__(self) -> int:
        return len(self._kept)

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """
        The addresses of C{host}, at least one, in the order they should be tried.

        @return: fires with addresses, or fails with L{ResolveError}. It may be cancelled, which mutes this caller only.
        """
        name = host.lower()
        now = self._clock.seconds()
        if (listed := self.hosts.get(name.rstrip("."), now)) is not None:
            self.counters.hosts += 1
            return succeed(listed)
        kept = self._kept.get(name)
        if kept is None or now >= kept.expires:
            return self._wait(host, name, kept, now)
        self._kept.move_to_end(name)
        self.counters.kept += 1
        kept.uses += 1
        if now >= kept.refresh and kept.uses >= REFRESH_USES:
            self._refresh(name, kept, now)
        if kept.why:
            self.counters.negative += 1
            return fail(missing(host, kept.why))
        return succeed(kept.addresses())

    def listed(self, host: str) -> bool:
        """Whether whoever runs this machine has said where C{host} is: in the hosts file."""
        return self.hosts.get(host.lower().rstrip("."), self._clock.seconds()) is not None

    def peek(self, host: str) -> Known | None:
        """What is kept of C{host}; looking changes nothing."""
        kept = self._kept.get(host.lower())
        if kept is None:
            return None
        return Known(mixed(kept.v6, kept.v4), kept.why, kept.expires - self._clock.seconds())

    def stop(self) -> None:
        """Fail whoever waits; the look-ups are the processor's to end."""
        lookups, self._lookups = self._lookups, {}
        for lookup in lookups.values():
            self._tell(lookup, None, "the resolver is stopping")
        self._alarms.stop()

    def limit(self, seconds: float, what: Limit) -> None:
        """Let C{what} know when so much time is over."""
        self._alarms.set(self._clock.seconds() + seconds, what)

    # asking

    def _wait(self, host: str, name: str, kept: Host | None, now: float) -> Deferred[Sequence[str]]:
        """Nothing good is known of it: wait for a look-up."""
        if self.waiting >= MOST_WAITING or len(name) > LONGEST:
            self.counters.refused += 1
            return fail(missing(host, TOO_LONG if len(name) > LONGEST else "too many wait for names"))
        lookup = self._lookups.get(name)
        new = lookup is None
        if lookup is None:
            if (meant := special(name.rstrip("."))) is not None:
                self.counters.hosts += 1
                return succeed(meant) if meant else fail(missing(host, NOWHERE))
            old = kept if kept is not None and not kept.why and now < kept.until else None
            lookup = self._lookups[name] = Lookup(self, name, old)
            self.counters.asked += 1
        else:
            self.counters.shared += 1
        waiting = Waiting(self, lookup)
        lookup.waiters.append(waiting)
        self.waiting += 1
        done = waiting.done
        if new:
            lookup.begin(self._query, self._families(), now + LATE)
        if waiting.live:
            self._alarms.set(now + (self._patience if lookup.old is None else RESPONSE), waiting)
        return done

    def _refresh(self, name: str, kept: Host, now: float) -> None:
        """Ask again while what is known is still good."""
        kept.refresh = inf
        if name not in self._lookups:
            self.counters.refreshed += 1
            lookup = self._lookups[name] = Lookup(self, name, None if kept.why else kept)
            lookup.begin(self._query, self._families(), now + LATE)

    # what a look-up found

    def partly(self, lookup: Lookup) -> None:
        """There are addresses of one family, and the other keeps us waiting: go on with those."""
        host = lookup.host(self._clock.seconds(), self._stale)
        assert host is not None  # else there would be nothing to go on with
        self._keep(lookup.name, host)
        self._tell(lookup, host, "")

    def ended(self, lookup: Lookup) -> None:
        """Everything was answered, or was not."""
        if self._lookups.get(lookup.name) is not lookup:
            return  # stopped meanwhile
        del self._lookups[lookup.name]
        now = self._clock.seconds()
        host = lookup.host(now, self._stale)
        if host is None:
            self.counters.failed += 1
            host = lookup.old
            if host is not None:
                host.expires = max(host.expires, now + RECHECK)
                self.counters.stale += sum(waiting.live for waiting in lookup.waiters)
            else:
                host = Host((), (), str(lookup.why), now, KEEP_FAILURE, 0.0)
        self._keep(lookup.name, host)
        self._tell(lookup, host, host.why)

    def _keep(self, name: str, host: Host) -> None:
        kept = self._kept
        kept[name] = host
        kept.move_to_end(name)
        if len(kept) > self._most:
            kept.popitem(last=False)
            self.counters.evicted += 1

    def _tell(self, lookup: Lookup, host: Host | None, why: str) -> None:
        """Everybody who still waits gets addresses, or an error of their own: raising one grows it."""
        waiters, lookup.waiters = lookup.waiters, []
        for waiting in waiters:
            if waiting.live:
                waiting.live = False
                self.waiting -= 1
                if host is None or why:
                    waiting.done.errback(missing(lookup.name, why))
                else:
                    waiting.done.callback(host.addresses())

    def expired(self, waiting: Waiting) -> None:
        """Somebody has waited long enough."""
        waiting.live = False
        self.waiting -= 1
        old = waiting.lookup.old
        if old is None:
            self.counters.expired += 1
            waiting.done.errback(missing(waiting.lookup.name, "no answer in time"))
            return
        # The next ones need not wait that long for the same servers.
        old.expires = max(old.expires, self._clock.seconds() + RECHECK)
        self.counters.stale += 1
        waiting.done.callback(old.addresses())


TOO_LONG: Final = "the name is too long"
NOWHERE: Final = "no server knows such names"
ITS_OWN: Final = frozenset((NO_NAME, NO_ADDRESS, TOO_LONG, NOWHERE))
"""why a name leads nowhere that is the name's own fault; anything else is the servers', or ours"""


def missing(host: str, why: str) -> ResolveError:
    """The error for a name without addresses."""
    remedy = "check its spelling"
    if why not in ITS_OWN:
        remedy = "try again later; the name servers, or those of its zone, are slow, down or broken"
    return ResolveError(why, where=shown(host), remedy=remedy)


def shown(host: str) -> str:
    """A name as it may stand in an error."""
    return host[:LONGEST] if host.isprintable() else ascii(host)[:LONGEST]
