"""
Which name server is asked, and how one that has failed is left out and taken back (ATS: DNSHandler failover).

A server that gave no good answer to the last few queries is suspected: that moment is noted. I{Soon} after it the
server is probed; if nothing good has come until I{now}, it is given up, and is probed until it answers again.
Nothing here sends or knows the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from sslintercept.dns.message import NS, ROOT, wire
from sslintercept.facts import Address

MAX_NAMED = 32
"""name servers of one group; further ones are ignored"""
MOST_GROUPS = 64
"""domains that have name servers of their own"""
PROBE_NAMES = 8
"""questions answered before that are kept for probes"""
PROBE_TURNOVER = 50
"""good answers after which one of them is replaced"""
WAITS = (1.0, 1.0, 2.0, 2.0, 4.0, 4.0)
"""seconds each attempt is given; there are as many as waits"""


class Rules(NamedTuple):
    """
    When a server is given up; ATS ships 5, 21, 5 and 60, but there a question never changes its server by itself.

    @ivar number: queries without a good answer after which a server is suspected.
    @ivar soon: seconds from then to the first probe.
    @ivar every: seconds between probes.
    @ivar now: seconds from the suspicion until the server is given up.
    """

    number: int = 5
    soon: float = 3.0
    every: float = 5.0
    now: float = 10.0


class Server:
    """
    One name server and what is known of its health.

    @raise ValueError: its address is not numeric.
    @ivar unanswered: queries since the last good answer.
    @ivar suspected: since when it has been suspected.
    @ivar down: whether it was given up.
    @ivar edns: whether it takes queries with EDNS.
    @ivar smoothed: seconds a good answer takes, smoothed (RFC 6298 2).
    """

    __slots__ = (
        *(
            "address",
            "asked",
            "down",
            "edns",
            "failed",
            "good",
            "probed",
            "probes",
            "smoothed",
            "suspected",
            "timeouts",
        ),
        "unanswered",
    )

    def __init__(self, address: Address) -> None:
        ip_address(address.host)  # a name would have to be looked up first
        if not 0 < address.port < 65536:
            raise ValueError(f"{address} has no port")
        self.address = address
        self.asked = self.good = self.failed = self.timeouts = 0
        self.unanswered = self.probes = 0
        self.suspected: float | None = None
        self.probed = 0.0
        self.down = False
        self.edns = True
        self.smoothed: float | None = None

    def __str__(self) -> str:
        return str(self.address)


class Health(NamedTuple):
    """A server's health for logs."""

    server: str
    up: bool
    asked: int
    good: int
    failed: int
    timeouts: int
    smoothed: float | None


@dataclass(slots=True)
class Duties:
    """What is to be done for the health of a group now, and when to look again, if at all."""

    probe: list[Server]
    given_up: list[Server]
    again: float | None


class ServerGroup:
    """
    Name servers that know the same names.

    @param rotate: ask them by turns; else the first that is not down, the others being its backups.
    @ivar servers: those that are used.
    @ivar ignored: how many more were configured.
    """

    def __init__(self, addresses: Sequence[Address], *, rotate: bool = False, rules: Rules | None = None) -> None:
        if not addresses:
            raise ValueError("there is no name server")
        self.servers = [Server(address) for address in addresses[:MAX_NAMED]]
        self.ignored = len(addresses) - len(self.servers)
        self.rules = rules or Rules()
        self._rotate = rotate
        self._next = 0
        self._known: deque[tuple[bytes, int]] = deque(maxlen=PROBE_NAMES)
        self._answers = 0

    def pick(self, tried: Sequence[Server] = ()) -> Server:
        """Who is asked next, after C{tried}: of those that are up, or else of all, the one that was asked least."""
        servers = self.servers
        if not tried:
            if not self._rotate:
                return next((server for server in servers if not server.down), servers[0])
            up = [server for server in servers[self._next :] + servers[: self._next] if not server.down]
            server = up[0] if up else servers[self._next]
            self._next = (servers.index(server) + 1) % len(servers)
            return server
        # In order behind the last one, so that every attempt goes to another server.
        last = servers.index(tried[-1]) + 1
        order = servers[last:] + servers[:last]
        return min([server for server in order if not server.down] or order, key=tried.count)

    def sent(self, server: Server, now: float) -> bool:
        """A query left for C{server}; true if it is suspected from now on, and L{check} is to be called."""
        server.asked += 1
        server.unanswered += 1
        if server.unanswered < self.rules.number or server.suspected is not None or len(self.servers) == 1:
            return False
        server.suspected, server.probes = now, 0
        return True

    def good(self, server: Server, question: tuple[bytes, int] | None, took: float) -> bool:
        """C{server} gave a good answer to C{question} (C{None}: a probe's); true if it was down before."""
        server.good += 1
        server.unanswered = 0
        server.suspected = None
        server.smoothed = took if server.smoothed is None else server.smoothed + (took - server.smoothed) / 8
        if question is not None:
            if len(self._known) < PROBE_NAMES or self._answers % PROBE_TURNOVER == 0:
                self._known.append(question)
            self._answers += 1
        was, server.down = server.down, False
        return was

    def probe(self) -> tuple[bytes, int]:
        """A question to probe a server with: one that was answered before, or for the root."""
        if not self._known:
            return ROOT, NS
        self._known.rotate(1)
        return self._known[0]

    def check(self, now: float) -> Duties:
        """What time brings; call it when a server gets suspected, and whenever it says."""
        rules = self.rules
        duties = Duties([], [], None)
        for server in self.servers:
            if server.suspected is None:
                continue
            if not server.down and now >= server.suspected + rules.now:
                server.down = True
                duties.given_up.append(server)
            due = self._probe_due(server)
            if now >= due:
                server.probes += 1
                server.probed = now
                duties.probe.append(server)
                due = self._probe_due(server)
            if not server.down:
                due = min(due, server.suspected + rules.now)
            duties.again = due if duties.again is None else min(duties.again, due)
        return duties

    def _probe_due(self, server: Server) -> float:
        assert server.suspected is not None  # what check() looks at
        return server.probed + self.rules.every if server.probes else server.suspected + self.rules.soon


class NameServers:
    """
    The groups of name servers: one for everything, others for domains (split DNS).

    @ivar default: those for everything.
    @param split: groups by domain; the longest domain that a name is in decides.
    @raise BadName: a domain is no name.
    """

    def __init__(self, default: ServerGroup, split: Mapping[str, ServerGroup] | None = None) -> None:
        self.default = default
        if split is not None and len(split) > MOST_GROUPS:
            raise ValueError(f"more than {MOST_GROUPS} domains have name servers of their own")
        self._split = {wire(domain): group for domain, group in (split or {}).items()}

    def __iter__(self) -> Iterator[ServerGroup]:
        yield self.default
        yield from dict.fromkeys(self._split.values())

    def group(self, name: bytes) -> ServerGroup:
        """Who is asked for a folded name."""
        split = self._split
        if split:
            while name != ROOT:
                if (found := split.get(name)) is not None:
                    return found
                name = name[1 + name[0] :]
        return self.default

    def health(self) -> list[Health]:
        """Every server's health."""
        return [
            Health(str(s), not s.down, s.asked, s.good, s.failed, s.timeouts, s.smoothed)
            for group in self
            for s in group.servers
        ]
