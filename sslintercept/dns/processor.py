"""
From a name to a server's answer (ATS: DNSProcessor): search domains, aliases across answers, everybody's own deadline.

Nothing is kept here. A look-up costs about 75 µs of our time, the kernel's part included (C{bench/dns.py}).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail

from sslintercept.dns import message as m
from sslintercept.dns.alarm import Clock
from sslintercept.dns.answer import MOST_ALIASES, Answer, Finding, Judgement
from sslintercept.dns.entry import IN_FLIGHT, MOST_PENDING, Waiter
from sslintercept.dns.handler import RAW, SIGNED, DnsHandler, Random
from sslintercept.dns.resolvconf import Search
from sslintercept.dns.server import WAITS, Health, NameServers
from sslintercept.dns.watch import Counters
from sslintercept.errors import ResolveError

if TYPE_CHECKING:
    from sslintercept.dns.stream import OpenStream
    from sslintercept.dns.transport import Handler


class Lookup(Waiter):
    """Somebody's question: the names it still has to try, and how far aliases have led it."""

    __slots__ = (
        *("_aliases", "_asked", "_cls", "_exists", "_flags", "_handler", "_names", "_rtype", "_since", "_ttl"),
        "_done",
    )

    def __init__(
        self, handler: DnsHandler, names: tuple[bytes, ...], rtype: int, cls: int, flags: int, now: float
    ) -> None:
        super().__init__()
        self._handler = handler
        self._names, self._rtype, self._cls, self._flags, self._since = names, rtype, cls, flags, now
        self._asked = names[0]
        self._aliases = 0
        self._ttl: int | None = None
        self._exists = False
        self._done: Deferred[Answer] = Deferred(self._cancelled)

    def _cancelled(self, done: Deferred[Answer]) -> None:
        self._end()
        self._handler.counters.cancelled += 1
        self._handler.leave(self)

    def begin(self, now: float, deadline: float) -> Deferred[Answer]:
        """Ask for the first name."""
        done = self._done
        self._ask(self._asked, now)
        if self.live:
            self._handler.alarm(deadline, self)
        return done

    def _ask(self, name: bytes, now: float) -> None:
        """Wait for what the servers say about C{name}."""
        self._asked = name
        self._handler.ask((name, self._rtype, self._cls, self._flags), self, now)

    def told(self, judgement: Judgement, answer: Answer, now: float) -> None:
        """An answer, which may not be the end of it."""
        if self._flags & RAW:
            self._succeed(answer)
            return
        self._aliases += judgement.aliases
        if judgement.finding is Finding.LOOP or self._aliases > MOST_ALIASES:
            self.failed("its aliases lead nowhere", "the name's zone is broken")
            return
        if self._ttl is not None:
            # Part of a longer way, which is good as long as all of its parts are.
            answer = answer._replace(ttl=min(self._ttl, answer.ttl), took=now - self._since)
        self._ttl = answer.ttl
        if judgement.finding is Finding.ALIAS:
            self._ask(judgement.name, now)
        elif not answer.negative:
            self._succeed(answer)
        else:
            self._exists = self._exists or answer.rcode == m.NOERROR
            self._names = self._names[1:]
            if self._names:
                self._aliases = 0
                self._ask(self._names[0], now)
            else:
                self._succeed(answer._replace(rcode=m.NOERROR) if self._exists else answer)

    def _succeed(self, answer: Answer) -> None:
        self._end().callback(answer)

    def failed(self, what: str, remedy: str) -> None:
        """The end; everybody gets an error of his own, since raising one grows it."""
        self._end().errback(ResolveError(what, where=m.text(self._asked), remedy=remedy))

    def _end(self) -> Deferred[Answer]:
        """Nothing more is wanted. A Deferred that knows us, and we it, would be left to the collector of cycles."""
        self.live = False
        done = self._done
        del self._done
        return done


class DnsProcessor:
    """
    The lower half of the resolver.

    @param handler: the set of watched sockets (L{sslintercept.net.handler.NetHandler}).
    @param search: domains that are tried behind names.
    @param options: see L{DnsHandler}.
    @ivar counters: what was done so far.
    """

    def __init__(
        self,
        handler: Handler,
        clock: Clock,
        servers: NameServers,
        *,
        waits: tuple[float, ...] = WAITS,
        search: Search | None = None,
        limit: int = IN_FLIGHT,
        most_pending: int = MOST_PENDING,
        tcp: bool = False,
        open_stream: OpenStream | None = None,
        mix_case: bool = True,
        random: Random | None = None,
    ) -> None:
        self._clock = clock
        self._servers = servers
        self._search = search or Search()
        self._handler = DnsHandler(
            handler,
            clock,
            servers,
            waits=waits,
            limit=limit,
            most_pending=most_pending,
            tcp=tcp,
            open_stream=open_stream,
            mix_case=mix_case,
            random=random,
        )
        self.counters: Counters = self._handler.counters

    def start(self) -> None:
        """From now on questions are taken."""
        self._handler.start()

    def stop(self) -> None:
        """Fail whoever waits, and close every socket; nothing is left behind."""
        self._handler.stop()

    def query(self, name: str, rtype: int, deadline: float) -> Deferred[Answer]:
        """
        Ask for the records of C{name}; aliases are followed.

        @param deadline: the time of the clock at which this caller, and nobody else, gives up.
        @return: fires with an L{Answer}, also if there is nothing, or fails with L{ResolveError}. It may be cancelled,
            which mutes this caller only.
        """
        try:
            names = self._search.names(name)
        except m.BadName as error:
            return fail(ResolveError(str(error), where=ascii(name), remedy="check its spelling"))
        return self._begin(names, rtype, m.IN, m.RD, deadline)

    def raw(
        self, name: bytes, rtype: int, cls: int, deadline: float, *, flags: int = m.RD, signed: bool = False
    ) -> Deferred[Answer]:
        """
        Ask exactly this, and get a server's whole message as it came, whatever it says.

        @param name: a name in its wire form.
        @param flags: C{RD}, C{AD} and C{CD} as they are wanted; others are left out.
        @param signed: whether signatures are wanted (RFC 3225).
        @return: like L{query}; a server's failure is an answer, too.
        """
        flags = flags & (m.RD | m.AD | m.CD) | RAW | (SIGNED if signed else 0)
        return self._begin((name.lower(),), rtype, cls, flags, deadline)

    def health(self) -> list[Health]:
        """Every server's health, for logs."""
        return self._servers.health()

    @property
    def load(self) -> tuple[int, int, int]:
        """Entries, those of them in flight, and ids that are taken."""
        entries = self._handler.entries
        return len(entries), entries.flying, len(entries.sent)

    def _begin(self, names: tuple[bytes, ...], rtype: int, cls: int, flags: int, deadline: float) -> Deferred[Answer]:
        self.counters.queries += 1
        now = self._clock.seconds()
        return Lookup(self._handler, names, rtype, cls, flags, now).begin(now, deadline)
