"""The table of hosts: what is kept for how long, who waits, and what is said when servers are silent."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from sslintercept.dns import hostdb as module
from sslintercept.dns.answer import Answer
from sslintercept.dns.host import BOTH, MOST_ADDRESSES, PARTIAL, Host, mixed
from sslintercept.dns.hostdb import DELAY, KEEP_FAILURE, LATE, RECHECK, RESPONSE, STALE, HostDB
from sslintercept.dns.hosts import HostsFile
from sslintercept.dns.message import AAAA, NOERROR, NXDOMAIN, A
from sslintercept.errors import ResolveError
from sslintercept.interfaces import IResolver


class Servers:
    """Name servers that answer when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.open: dict[tuple[str, int], Deferred[Answer]] = {}
        self.deadline = 0.0

    def __call__(self, name: str, rtype: int, deadline: float) -> Deferred[Answer]:
        self.asked.append((name, rtype))
        self.deadline = deadline
        made: Deferred[Answer] = Deferred()
        self.open[name, rtype] = made
        return made

    def say(self, name: str, rtype: int, *addresses: str, ttl: int = 60, rcode: int = NOERROR) -> None:
        """Answer a question; without addresses there is nothing."""
        answer = Answer(rcode, name, addresses, (), ttl, not addresses, "192.0.2.53:53", 0.01)
        self.open.pop((name, rtype)).callback(answer)

    def know(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """Answer both questions for a name."""
        for rtype in (A, AAAA):
            if (name, rtype) in self.open:
                self.say(name, rtype, *(one for one in addresses if (":" in one) == (rtype == AAAA)), ttl=ttl)

    def break_(self, name: str, *types: int) -> None:
        """Fail."""
        for rtype in types or (A, AAAA):
            error = ResolveError("192.0.2.53:53 failed (SERVFAIL)", where=name, remedy="none")
            self.open.pop((name, rtype)).errback(error)


class Table:
    """A table, its servers and its clock."""

    def __init__(self, hosts: Path = Path("/nonexistent"), families: Sequence[int] = BOTH, **options: Any) -> None:
        self.clock = Clock()
        self.servers = Servers()
        self.db = HostDB(self.clock, HostsFile(hosts), self.servers, families=lambda: families, **options)

    def ask(self, name: str) -> list[Any]:
        """Ask; the list gets addresses, or an error."""
        found: list[Any] = []
        self.db.resolve(name).addCallbacks(lambda x: found.append(list(x)), lambda failure: found.append(failure.value))
        return found

    def known(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """Look something up."""
        found = self.ask(name)
        self.servers.know(name, *addresses, ttl=ttl)
        assert len(found) == 1


V4, V6, OTHER = "192.0.2.1", "2001:db8::1", "192.0.2.2"


def test_it_is_a_resolver() -> None:
    db = Table().db
    directlyProvides(db, IResolver)
    assert verifyObject(IResolver, db, tentative=True)


def test_both_families_are_asked_at_once_and_tried_by_turns() -> None:
    table = Table()
    found = table.ask("www.test")
    assert table.servers.asked == [("www.test", AAAA), ("www.test", A)]
    assert table.servers.deadline == LATE
    table.servers.say("www.test", AAAA, V6, "2001:db8::2")
    assert found == []
    table.servers.say("www.test", A, V4)
    assert found == [["2001:db8::2", V4, V6]]
    assert table.db.counters.asked == 1


def test_equal_questions_share_a_look_up_and_everybody_is_told_in_turn() -> None:
    table = Table()
    found = [table.ask(name) for name in ("www.test", "WWW.test", "www.TEST")]
    assert len(table.servers.asked) == 2
    assert (table.db.waiting, table.db.counters.shared) == (3, 2)
    table.servers.know("www.test", V4)
    assert found == [[[V4]]] * 3
    assert table.db.waiting == 0


def test_who_cancels_mutes_himself_only() -> None:
    table = Table()
    first = table.db.resolve("www.test")
    second = table.ask("www.test")
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    table.servers.know("www.test", V4)
    assert second == [[V4]]
    assert table.db.waiting == 0
    table.clock.advance(60)
    assert not table.clock.getDelayedCalls()


def test_addresses_are_kept_as_long_as_they_live() -> None:
    """T9.3: TTL expiry."""
    table = Table(stale=0.0)
    table.known("www.test", V4, ttl=60)
    table.clock.advance(59.9)
    assert table.ask("www.test") == [[V4]]
    table.clock.advance(0.2)
    table.servers.open.clear()
    assert table.ask("www.test") == []
    table.servers.know("www.test", OTHER)
    assert table.ask("www.test") == [[OTHER]]
    assert table.db.counters.kept == 2


def test_what_lives_no_longer_than_a_moment_is_kept_for_a_second() -> None:
    """T9.3: TTL 0."""
    table = Table(stale=0.0)
    table.known("www.test", V4, ttl=0)
    table.clock.advance(0.9)
    assert table.ask("www.test") == [[V4]]
    table.clock.advance(0.2)
    assert table.ask("www.test") == []


@pytest.mark.parametrize(("rcode", "why"), [(NXDOMAIN, "there is no such name"), (NOERROR, "it has no address")])
def test_that_there_is_nothing_is_kept_as_long_as_the_zone_says(rcode: int, why: str) -> None:
    """T9.3: negative answers."""
    table = Table()
    found = table.ask("no.test")
    table.servers.say("no.test", A, ttl=100, rcode=rcode)
    table.servers.say("no.test", AAAA, ttl=30, rcode=NXDOMAIN)
    assert isinstance(found[0], ResolveError)
    assert found[0].what == why
    table.clock.advance(29)
    again = table.ask("No.test")
    assert (again[0].what, table.db.counters.negative) == (why, 1)
    assert again[0] is not found[0]
    table.clock.advance(2)
    assert table.ask("no.test") == []


@pytest.mark.parametrize("failure", ["servfail", "silence", "missing", "special"])
def test_only_a_name_that_leads_nowhere_by_itself_is_said_to_be_misspelt(failure: str) -> None:
    table = Table(patience=10.0)
    found = table.ask("www.invalid" if failure == "special" else "www.test")
    if failure == "servfail":
        table.servers.break_("www.test")
    elif failure == "silence":
        table.clock.advance(10)
    elif failure == "missing":
        table.servers.know("www.test")
    (error,) = found
    assert isinstance(error, ResolveError)
    assert ("spelling" in error.remedy) is (failure in ("missing", "special"))
    assert ("the name servers" in error.remedy) is (failure in ("servfail", "silence"))


def test_a_failure_is_kept_for_a_moment() -> None:
    table = Table()
    found = table.ask("www.test")
    table.servers.break_("www.test")
    assert "SERVFAIL" in str(found[0])
    assert "SERVFAIL" in str(table.ask("www.test")[0])
    table.clock.advance(KEEP_FAILURE)
    assert table.ask("www.test") == []
    assert table.db.counters.failed == 1


def test_half_an_answer_is_better_than_none_and_kept_for_less_long() -> None:
    table = Table()
    found = table.ask("www.test")
    table.servers.break_("www.test", AAAA)
    table.servers.say("www.test", A, V4, ttl=3600)
    assert found == [[V4]]
    assert table.db.counters.failed == 0
    table.clock.advance(PARTIAL)
    table.ask("www.test")
    assert ("www.test", AAAA) in table.servers.open


def test_that_there_is_nothing_of_one_family_says_nothing_when_the_other_failed() -> None:
    table = Table()
    found = table.ask("www.test")
    table.servers.say("www.test", AAAA)
    table.servers.break_("www.test", A)
    assert "SERVFAIL" in str(found[0])


def test_a_slow_family_is_waited_for_for_a_moment_only() -> None:
    """RFC 8305 3"""
    table = Table()
    found = table.ask("www.test")
    table.servers.say("www.test", A, V4)
    table.clock.advance(DELAY - 0.01)
    assert found == []
    table.clock.advance(0.01)
    assert found == [[V4]]
    assert table.ask("www.test") == [[V4]]
    table.servers.say("www.test", AAAA, V6)
    assert table.ask("www.test") == [[V6, V4]]
    table.clock.advance(60)
    assert not table.clock.getDelayedCalls()


def test_a_family_that_is_not_used_here_is_not_asked_for() -> None:
    table = Table(families=(A,))
    found = table.ask("www.test")
    table.servers.say("www.test", A, V4)
    assert found == [[V4]]
    assert table.servers.asked == [("www.test", A)]


def test_the_hosts_file_always_wins(tmp_path: Path) -> None:
    """T9.3: hosts-file override."""
    hosts = tmp_path / "hosts"
    table = Table(hosts)
    table.known("www.test", V4)
    hosts.write_text(f"{OTHER} www.test\n")
    table.clock.advance(1)
    assert table.ask("WWW.test.") == [[OTHER]]
    assert table.db.listed("www.test")
    assert not table.db.listed("www2.test")
    hosts.write_text("")
    table.clock.advance(1)
    assert table.ask("www.test") == [[V4]]
    assert table.db.counters.hosts == 1


def test_special_names_cost_no_query() -> None:
    table = Table()
    assert table.ask("localhost") == [["127.0.0.1", "::1"]]
    assert "no server knows" in str(table.ask("x.onion")[0])
    assert table.servers.asked == []


def test_nobody_waits_longer_than_the_limit_and_the_answer_still_fills_the_table() -> None:
    """T9.5: a late answer after the caller's timeout; the next request needs no packet."""
    table = Table(patience=10.0)
    first = table.ask("www.test")
    table.clock.advance(4)
    second = table.ask("www.test")
    table.clock.advance(6)
    assert "no answer in time" in str(first[0])
    assert second == []
    table.clock.advance(4)
    assert len(second) == 1
    table.servers.know("www.test", V4)
    assert table.ask("www.test") == [[V4]]
    assert len(table.servers.asked) == 2
    assert (table.db.counters.expired, table.db.waiting) == (2, 0)


def test_a_name_in_use_is_asked_for_again_before_its_time_is_over() -> None:
    table = Table()
    table.known("www.test", V4, ttl=100)
    table.clock.advance(91)
    assert table.ask("www.test") == [[V4]]
    assert len(table.servers.asked) == 2
    assert table.ask("www.test") == [[V4]]
    assert len(table.servers.asked) == 4
    assert table.ask("www.test") == [[V4]]
    assert len(table.servers.asked) == 4
    table.servers.know("www.test", OTHER, ttl=100)
    assert table.ask("www.test") == [[OTHER]]
    assert (table.db.counters.refreshed, table.db.counters.asked) == (1, 1)


def test_who_comes_while_it_is_asked_for_again_has_what_is_good_and_waits_when_it_is_not() -> None:
    table = Table()
    table.known("www.test", V4, ttl=100)
    table.clock.advance(95)
    table.ask("www.test")
    table.ask("www.test")
    table.clock.advance(10)
    found = table.ask("www.test")
    assert (found, table.db.counters.shared) == ([], 1)
    table.servers.know("www.test", OTHER)
    assert found == [[OTHER]]


def test_that_a_refresh_fails_changes_nothing_for_a_while() -> None:
    table = Table()
    table.known("www.test", V4, ttl=100)
    table.clock.advance(95)
    for _ in range(2):
        table.ask("www.test")
    table.servers.break_("www.test")
    table.clock.advance(10)
    assert table.ask("www.test") == [[V4]]


def test_that_nothing_is_there_is_refreshed_too() -> None:
    table = Table()
    table.known("no.test", ttl=100)
    table.clock.advance(95)
    for _ in range(2):
        table.ask("no.test")
    table.servers.know("no.test", V4)
    assert table.ask("no.test") == [[V4]]


def test_short_lives_are_not_refreshed() -> None:
    table = Table()
    table.known("www.test", V4, ttl=5)
    table.clock.advance(4.9)
    for _ in range(5):
        table.ask("www.test")
    assert table.db.counters.refreshed == 0


def test_when_servers_are_silent_what_was_true_last_is_better_than_nothing() -> None:
    """T9.3: serve stale; RFC 8767 5."""
    table = Table()
    table.known("www.test", V4)
    table.clock.advance(1000)
    found = table.ask("www.test")
    table.clock.advance(RESPONSE - 0.1)
    assert found == []
    table.clock.advance(0.1)
    assert found == [[V4]]
    assert table.ask("www.test") == [[V4]]
    assert len(table.servers.asked) == 4
    table.servers.know("www.test", OTHER)
    assert table.ask("www.test") == [[OTHER]]


def test_when_they_fail_it_is_said_at_once_and_for_a_while() -> None:
    """RFC 8767 5"""
    table = Table()
    table.known("www.test", V4)
    table.clock.advance(1000)
    found = table.ask("www.test")
    table.servers.break_("www.test")
    assert found == [[V4]]
    table.clock.advance(RECHECK - 1)
    assert table.ask("www.test") == [[V4]]
    table.clock.advance(2)
    assert table.ask("www.test") == []
    assert table.db.counters.stale == 1


def test_what_was_true_long_ago_is_not() -> None:
    table = Table()
    table.known("www.test", V4)
    table.clock.advance(60 + STALE)
    found = table.ask("www.test")
    table.clock.advance(RESPONSE)
    assert found == []
    table.servers.break_("www.test")
    assert "SERVFAIL" in str(found[0])


def test_that_a_name_is_gone_is_news() -> None:
    table = Table()
    table.known("www.test", V4)
    table.clock.advance(1000)
    found = table.ask("www.test")
    table.servers.say("www.test", A, rcode=NXDOMAIN)
    table.servers.say("www.test", AAAA, rcode=NXDOMAIN)
    assert "no such name" in str(found[0])


def test_several_addresses_come_by_turns_and_are_bounded() -> None:
    """T9.4: at most 16; each is the first some time."""
    table = Table()
    many = [f"192.0.2.{i}" for i in range(1, 20)]
    table.known("www.test", *many)
    seen = [table.ask("www.test")[0] for _ in range(MOST_ADDRESSES)]
    assert {one[0] for one in seen} == set(many[:MOST_ADDRESSES])
    assert all(sorted(one) == sorted(many[:MOST_ADDRESSES]) for one in seen)


def test_names_are_bounded_and_the_one_least_asked_for_makes_room() -> None:
    table = Table(most=2)
    table.known("a.test", V4)
    table.known("b.test", V4)
    assert table.ask("a.test") == [[V4]]
    table.known("c.test", V4)
    assert (len(table.db), table.db.counters.evicted) == (2, 1)
    assert table.ask("b.test") == []
    assert table.ask("a.test") == [[V4]]


def test_waiters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    table = Table()
    table.ask("a.test")
    table.ask("a.test")
    assert "too many" in str(table.ask("b.test")[0])
    assert table.db.counters.refused == 1
    table.servers.know("a.test", V4)
    assert table.ask("b.test") == []


def test_what_is_no_name_is_refused_without_being_kept() -> None:
    table = Table()
    error = table.ask("x" * 256)[0]
    assert "too long" in str(error)
    assert len(str(error)) < 400
    assert "\\x1b" in str(table.ask("\x1b" * 300)[0])
    assert len(table.db) == 0


def test_an_answer_may_come_at_once() -> None:
    clock = Clock()
    db = HostDB(clock, HostsFile(Path("/nonexistent")), lambda name, rtype, deadline: fail(KeyError("a defect")))
    found: list[Any] = []
    db.resolve("www.test").addErrback(lambda failure: found.append(failure.value))
    assert "KeyError in the resolver" in str(found[0])


def test_whoever_waits_is_told_when_it_stops() -> None:
    table = Table()
    found = table.ask("www.test")
    table.db.stop()
    assert "stopping" in str(found[0])
    assert not table.clock.getDelayedCalls()
    table.servers.know("www.test", V4)
    assert len(table.db) == 0


def test_one_may_look_at_what_is_kept() -> None:
    table = Table()
    assert table.db.peek("www.test") is None
    table.known("www.test", V4, V6)
    table.clock.advance(10)
    assert table.db.peek("WWW.test") == ([V6, V4], "", 50.0)


@pytest.mark.parametrize(
    ("first", "second", "found"), [("a", "", "a"), ("", "b", "b"), ("ab", "xyz", "axbyz"), ("abc", "x", "axbc")]
)
def test_two_families_are_mixed(first: str, second: str, found: str) -> None:
    assert "".join(mixed(list(first), list(second))) == found


def test_a_hundred_thousand_names_are_small() -> None:
    """The aim: under 100 MiB."""
    count = 10_000
    tracemalloc.start()
    try:
        kept = {
            f"www{i}.some-name-of-usual-length.example.com": Host(
                (f"2001:db8:1234:5678::{i:x}",), (f"192.0.{i >> 8}.{i & 255}",), "", 0.0, 60.0, STALE
            )
            for i in range(count)
        }
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == count
    assert size / count * 100_000 < 80 << 20
