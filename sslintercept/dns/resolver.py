"""
From a name to its addresses: a hosts file, then the system's resolver or the configured name servers.

Equal questions that are asked while one is under way share its answer; answers are kept for a short time, failures for
a shorter one, and everything is bounded. No answer takes longer than L{PATIENCE}.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, fail, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.names import dns
from twisted.names.client import Resolver as NameServers
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from sslintercept.errors import ResolveError
from sslintercept.facts import Address

KEEP = 60.0
"""seconds an answer is kept"""
KEEP_FAILURE = 2.0
"""seconds a failure is kept, so that a burst of requests asks once"""
MOST_NAMES = 10_000
"""names kept"""
MOST_WAITING = 2048
"""questions under way at once; further ones fail at once"""
PATIENCE = 15.0
"""seconds until a question without an answer fails"""
HOSTS_SIZE = 4 * 1024 * 1024
"""bytes of a hosts file that are read"""


class Clock(Protocol):
    """Twisted's clock."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


Lookup = Callable[[str], Deferred[list[str]]]


class HostsFile:
    """A hosts file (hosts(5)), read again when it has changed; looked at once a second at most."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._looked = -1.0
        self._names: dict[str, list[str]] = {}

    def get(self, name: str, now: float) -> list[str] | None:
        """The addresses of C{name}, or C{None}."""
        if now - self._looked >= 1.0 or self._looked < 0:
            self._looked = now
            self._refresh()
        return self._names.get(name)

    def _refresh(self) -> None:
        try:
            stat = os.stat(self._path)
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return
            with open(self._path, encoding="ascii", errors="replace") as file:
                text = file.read(HOSTS_SIZE)
        except OSError:
            self._stamp, self._names = None, {}
            return
        self._stamp = stamp
        names: dict[str, list[str]] = {}
        for line in text.splitlines():
            fields = line.partition("#")[0].split()
            if len(fields) < 2:
                continue
            try:
                host = str(ipaddress.ip_address(fields[0]))
            except ValueError:
                continue
            for name in fields[1:]:
                kept = names.setdefault(name.lower().rstrip("."), [])
                if host not in kept:
                    kept.append(host)
        self._names = names


class Resolver:
    """
    Answers L{sslintercept.interfaces.IResolver.resolve}.

    @param lookup: asks whoever knows; it is never asked the same question twice at once.
    """

    def __init__(self, clock: Clock, hosts: HostsFile, lookup: Lookup) -> None:
        self._clock = clock
        self._hosts = hosts
        self._lookup = lookup
        self._kept: OrderedDict[str, tuple[float, list[str] | str]] = OrderedDict()
        self._waiting: dict[str, list[Deferred[Sequence[str]]]] = {}

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """
        The addresses of C{host}, at least one, in the order they should be tried.

        @return: fires with addresses, or fails with L{ResolveError}.
        """
        name = host.lower().rstrip(".")
        now = self._clock.seconds()
        if (listed := self._hosts.get(name, now)) is not None:
            return succeed(listed)
        kept = self._kept.get(name)
        if kept is not None and kept[0] > now:
            return fail(_missing(name, kept[1])) if isinstance(kept[1], str) else succeed(kept[1])
        waiter: Deferred[Sequence[str]] = Deferred()
        if (waiters := self._waiting.get(name)) is not None:
            waiters.append(waiter)
            return waiter
        if len(self._waiting) >= MOST_WAITING:
            return fail(ResolveError("too many questions are under way", where=host, remedy="try again later"))
        self._waiting[name] = [waiter]
        question = maybeDeferred(self._lookup, name)
        question.addTimeout(PATIENCE, self._clock)  # type: ignore[arg-type]  # it needs callLater, and we no more of a clock
        question.addCallbacks(lambda found: self._answered(name, found), lambda failure: self._failed(name, failure))
        return waiter

    def _answered(self, name: str, found: list[str]) -> None:
        self._finish(name, found or "the name has no address")

    def _failed(self, name: str, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, ResolveError):
            why = error.what
        else:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            why = f"no address was found ({said})"
        self._finish(name, why)

    def _finish(self, name: str, answer: list[str] | str) -> None:
        """Everybody who waits gets the addresses, or an error of their own: raising one grows it."""
        self._kept[name] = (self._clock.seconds() + (KEEP_FAILURE if isinstance(answer, str) else KEEP), answer)
        self._kept.move_to_end(name)
        while len(self._kept) > MOST_NAMES:
            self._kept.popitem(last=False)
        for waiter in self._waiting.pop(name):
            if isinstance(answer, str):
                waiter.errback(_missing(name, answer))
            else:
                waiter.callback(answer)


def _missing(name: str, why: str) -> ResolveError:
    return ResolveError(why, where=name, remedy="check its spelling")


def system_lookup(reactor: IReactorThreads, pool: ThreadPool) -> Lookup:
    """
    Ask the system's resolver (getaddrinfo) on the threads of C{pool}.

    A question that was given up is not asked when its turn comes: a burst of names that nobody answers would otherwise
    keep the threads long after the last client has left.
    """

    def ask(name: str, wanted: list[bool]) -> list[str]:
        if not wanted:
            return []
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found if entry[0] in (socket.AF_INET, socket.AF_INET6)))

    def lookup(name: str) -> Deferred[list[str]]:
        try:
            name.encode("ascii")
        except UnicodeEncodeError:
            return fail(ResolveError("the name is not ASCII", where=name, remedy="use its A-labels"))
        wanted = [True]
        question: Deferred[list[str]] = Deferred(lambda _: wanted.clear())

        def answered(found: list[str] | Failure) -> None:
            if not question.called:
                question.callback(found)

        deferToThreadPool(reactor, pool, ask, name, wanted).addBoth(answered)
        return question

    return lookup


def server_lookup(servers: Sequence[Address], clock: Clock) -> Lookup:
    """Ask the configured name servers, for both families at once."""
    names = NameServers(servers=[(s.host, s.port) for s in servers], timeout=(1, 3, 5), reactor=clock)

    def addresses(result: tuple[list[dns.RRHeader], object, object]) -> list[str]:
        found: list[str] = []
        for header in result[0]:
            if isinstance(header.payload, dns.Record_A | dns.Record_AAAA):
                family = socket.AF_INET if isinstance(header.payload, dns.Record_A) else socket.AF_INET6
                found.append(socket.inet_ntop(family, header.payload.address))
        return found

    def lookup(name: str) -> Deferred[list[str]]:
        failures: list[Failure] = []

        def missing(failure: Failure) -> list[str]:
            failures.append(failure)
            return []

        both = [
            names.lookupAddress(name).addCallback(addresses).addErrback(missing),
            names.lookupIPV6Address(name).addCallback(addresses).addErrback(missing),
        ]

        def join(found: list[list[str]]) -> list[str] | Failure:
            joined = found[0] + found[1]
            return failures[0] if not joined and failures else joined

        return gatherResults(both).addCallback(join)

    return lookup
