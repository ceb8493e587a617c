"""
What is counted, and the clock that the health of name servers is looked at by.

L{sslintercept.dns.server.ServerGroup} decides; here its decisions get their time, and are logged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.dns.alarm import Clock
from sslintercept.dns.server import Server, ServerGroup


@dataclass(slots=True)
class Counters:
    """
    What was done so far.

    @ivar queries: look-ups that were asked for.
    @ivar coalesced: questions that joined an equal one under way.
    @ivar sent: messages to servers.
    @ivar retries: of them, further attempts.
    @ivar probes: of them, probes of servers.
    @ivar timeouts: attempts without an answer in time.
    @ivar truncated: answers that did not fit into a datagram.
    @ivar failures: answers that were a server's failure, and attempts that could not be sent.
    @ivar expired: look-ups whose own time was over.
    @ivar cancelled: look-ups that were cancelled.
    @ivar refused: look-ups that were one too many.
    @ivar given_up: times that a server was given up.
    @ivar dropped: answers that did not fit, by reason: C{short}, C{id}, C{source}, C{duplicate}, C{header},
        C{question}, C{case}, C{malformed}.
    """

    queries: int = 0
    coalesced: int = 0
    sent: int = 0
    retries: int = 0
    probes: int = 0
    timeouts: int = 0
    truncated: int = 0
    failures: int = 0
    expired: int = 0
    cancelled: int = 0
    refused: int = 0
    given_up: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Watch:
    """
    The health of every group's servers.

    @param probe: sends something to a server, to see whether it answers.
    @param call_back: takes back what is under way to a server that was given up.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        counters: Counters,
        probe: Callable[[ServerGroup, Server], None],
        call_back: Callable[[Server], None],
    ) -> None:
        self._clock, self._counters, self._probe, self._call_back = clock, counters, probe, call_back
        self._checks: dict[ServerGroup, IDelayedCall] = {}

    def sent(self, group: ServerGroup, server: Server, now: float) -> None:
        """A query leaves for C{server}."""
        if group.sent(server, now) and group not in self._checks:
            # A check that is planned already comes in time for this server, too.
            self._plan(group, group.check(now).again, now)

    def good(self, group: ServerGroup, server: Server, question: tuple[bytes, int] | None, took: float) -> None:
        """C{server} gave a good answer, after C{took} seconds."""
        if group.good(server, question, took):
            self.log.info("name server {server} answers again", server=server)

    def stop(self) -> None:
        """Look no more."""
        for call in self._checks.values():
            call.cancel()
        self._checks.clear()

    def _plan(self, group: ServerGroup, again: float | None, now: float) -> None:
        if again is not None:
            # Never later than the first probe of a server that gets suspected meanwhile.
            delay = max(0.0, min(again - now, group.rules.soon))
            self._checks[group] = self._clock.callLater(delay, self._check, group)

    def _check(self, group: ServerGroup) -> None:
        del self._checks[group]
        now = self._clock.seconds()
        duties = group.check(now)
        self._plan(group, duties.again, now)
        for server in duties.given_up:
            self._counters.given_up += 1
            self.log.warn("name server {server} does not answer; it is left out until it does", server=server)
            self._call_back(server)
        for server in duties.probe:
            self._probe(group, server)
