"""Names to addresses: the hosts file, shared questions, bounds, and resolvers that misbehave."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.client import Resolver as NameServers
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from sslintercept.dns import resolver as module
from sslintercept.dns.resolver import (
    KEEP,
    KEEP_FAILURE,
    PATIENCE,
    HostsFile,
    Resolver,
    server_lookup,
    system_lookup,
)
from sslintercept.errors import ResolveError
from sslintercept.facts import Address
from sslintercept.interfaces import IResolver


class Asked:
    """A lookup that a test answers when it likes."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.open: dict[str, Deferred[list[str]]] = {}

    def __call__(self, name: str) -> Deferred[list[str]]:
        self.names.append(name)
        self.open[name] = Deferred()
        return self.open[name]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked() -> Asked:
    return Asked()


def made(clock: Clock, lookup: Callable[[str], Deferred[list[str]]], hosts: Path = Path("/nonexistent")) -> Resolver:
    return Resolver(clock, HostsFile(hosts), lookup)


def outcome(deferred: Deferred[Any]) -> Any:
    """What a Deferred has fired with; a failure is given as its exception."""
    found: list[Any] = []
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.value))
    assert found, "it has not fired"
    return found[0]


def test_it_is_a_resolver(clock: Clock, asked: Asked) -> None:
    one = made(clock, asked)
    directlyProvides(one, IResolver)
    assert verifyObject(IResolver, one, tentative=True)


def test_equal_questions_share_one_answer(clock: Clock, asked: Asked) -> None:
    """Deck: DNS dups."""
    one = made(clock, asked)
    waiting = [one.resolve(name) for name in ("Origin.Test", "origin.test.", "origin.test")]
    assert asked.names == ["origin.test"]
    asked.open["origin.test"].callback(["192.0.2.1", "2001:db8::1"])
    assert [outcome(d) for d in waiting] == [["192.0.2.1", "2001:db8::1"]] * 3
    assert outcome(one.resolve("origin.test")) == ["192.0.2.1", "2001:db8::1"]
    assert asked.names == ["origin.test"]
    assert clock.getDelayedCalls() == []


def test_thousands_of_waiters_each_get_the_answer(clock: Clock, asked: Asked) -> None:
    one = made(clock, asked)
    waiting = [one.resolve("origin.test") for _ in range(5000)]
    for deferred in waiting[::2]:
        deferred.addErrback(lambda failure: failure.trap(CancelledError))
        deferred.cancel()
    asked.open["origin.test"].callback(["192.0.2.1"])
    assert all(outcome(d) == ["192.0.2.1"] for d in waiting[1::2])


def test_a_failure_is_an_error_of_its_own_for_everybody(clock: Clock, asked: Asked) -> None:
    """Raising an exception grows its traceback; one that is shared and kept would hold every waiter's frames."""
    one = made(clock, asked)
    waiting = [one.resolve("nowhere.test") for _ in range(3)]
    asked.open["nowhere.test"].errback(DNSLookupError("no such name"))
    errors = [outcome(d) for d in waiting] + [outcome(one.resolve("nowhere.test"))]
    assert all(isinstance(e, ResolveError) for e in errors)
    assert len({id(e) for e in errors}) == 4
    assert "no such name" in str(errors[0])
    assert "nowhere.test" in str(errors[0])


def test_answers_are_kept_for_a_while_and_failures_for_a_short_one(clock: Clock, asked: Asked) -> None:
    one = made(clock, asked)
    good, bad = one.resolve("good.test"), one.resolve("bad.test")
    asked.open["good.test"].callback(["192.0.2.1"])
    asked.open["bad.test"].errback(socket.gaierror(-2, "Name or service not known"))
    outcome(good)
    assert "Name or service not known" in str(outcome(bad))
    clock.advance(KEEP_FAILURE - 0.1)
    assert isinstance(outcome(one.resolve("bad.test")), ResolveError)
    clock.advance(0.2)
    again = one.resolve("bad.test")
    assert asked.names == ["good.test", "bad.test", "bad.test"]
    asked.open["bad.test"].callback(["192.0.2.2"])
    assert outcome(again) == ["192.0.2.2"]
    clock.advance(KEEP)
    one.resolve("good.test")
    assert asked.names[-1] == "good.test"
    asked.open["good.test"].callback(["192.0.2.3"])


def test_a_name_without_addresses_is_an_error(clock: Clock) -> None:
    one = made(clock, lambda name: succeed([]))
    assert "the name has no address" in str(outcome(one.resolve("empty.test")))


def test_a_question_without_an_answer_ends(clock: Clock, asked: Asked) -> None:
    one = made(clock, asked)
    waiting = one.resolve("slow.test")
    clock.advance(PATIENCE + 0.1)
    assert isinstance(outcome(waiting), ResolveError)
    assert clock.getDelayedCalls() == []


def test_a_lookup_that_raises_is_an_error_and_does_not_poison_the_name(clock: Clock) -> None:
    def lookup(name: str) -> Deferred[list[str]]:
        raise ValueError("a label is too long")

    one = made(clock, lookup)
    assert "a label is too long" in str(outcome(one.resolve("x.test")))
    clock.advance(KEEP_FAILURE + 1)
    assert isinstance(outcome(one.resolve("x.test")), ResolveError)


def test_an_error_without_words_is_told_by_its_name(clock: Clock) -> None:
    one = made(clock, lambda name: fail(TimeoutError()))
    assert "TimeoutError" in str(outcome(one.resolve("x.test")))


def test_too_many_questions_at_once_are_refused(clock: Clock, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    one = made(clock, asked)
    waiting = [one.resolve(f"{i}.test") for i in range(2)]
    assert "too many questions" in str(outcome(one.resolve("2.test")))
    waiting.append(one.resolve("1.test"))
    for i in range(2):
        asked.open[f"{i}.test"].callback([f"192.0.2.{i}"])
    assert [outcome(d) for d in waiting] == [["192.0.2.0"], ["192.0.2.1"], ["192.0.2.1"]]


def test_the_answers_kept_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 3)
    names: list[str] = []

    def lookup(name: str) -> Deferred[list[str]]:
        names.append(name)
        return succeed(["192.0.2.1"])

    one = made(clock, lookup)
    for i in range(5):
        outcome(one.resolve(f"{i}.test"))
    outcome(one.resolve("4.test"))
    outcome(one.resolve("0.test"))
    assert names == ["0.test", "1.test", "2.test", "3.test", "4.test", "0.test"]


def test_a_waiter_may_ask_again_at_once(clock: Clock, asked: Asked) -> None:
    one = made(clock, asked)
    found: list[Any] = []
    one.resolve("a.test").addCallback(lambda addresses: one.resolve("a.test")).addCallback(found.append)
    asked.open["a.test"].callback(["192.0.2.1"])
    assert found == [["192.0.2.1"]]


# the hosts file


def test_the_hosts_file_answers_first(clock: Clock, asked: Asked, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "# hosts(5)\n192.0.2.7 Origin.Test. alias # why\n192.0.2.7 alias\n2001:db8::7 alias\nnonsense x\n192.0.2.9\n"
    )
    one = made(clock, asked, hosts)
    assert outcome(one.resolve("ORIGIN.test")) == ["192.0.2.7"]
    assert outcome(one.resolve("alias")) == ["192.0.2.7", "2001:db8::7"]
    assert asked.names == []


def test_a_changed_hosts_file_is_read_again_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 a\n")
    hosts = HostsFile(path)
    assert hosts.get("a", 0.0) == ["192.0.2.1"]
    stamp = os.stat(path)
    replacement = tmp_path / "new"
    replacement.write_text("192.0.2.2 a\n")
    os.utime(replacement, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    replacement.replace(path)
    assert hosts.get("a", 0.5) == ["192.0.2.1"]
    assert hosts.get("a", 1.5) == ["192.0.2.2"]
    assert hosts.get("a", 3.0) == ["192.0.2.2"]
    path.unlink()
    assert hosts.get("a", 4.5) is None
    path.write_bytes(b"192.0.2.3 a \xff\xfe\n")
    assert hosts.get("a", 6.0) == ["192.0.2.3"]


# those who know


class Threads:
    """A reactor and its threads, one job at a time when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[bool, Any], object], Callable[..., Any], tuple[Any, ...]]] = []

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        call(*args)

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        self.jobs.append((done, call, args))

    def run(self) -> None:
        jobs, self.jobs = self.jobs, []
        for done, call, args in jobs:
            try:
                result = call(*args)
            except Exception:
                done(False, Failure())
            else:
                done(True, result)


def system(threads: Threads) -> Callable[[str], Deferred[list[str]]]:
    reactor: Any = threads
    pool: ThreadPool = reactor
    return system_lookup(reactor, pool)


def test_the_system_is_asked_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads()
    lookup = system(threads)
    tcp = socket.SOCK_STREAM

    def getaddrinfo(name: str, port: None, type: int) -> list[Any]:
        if name == "nowhere.test":
            raise socket.gaierror(-2, "Name or service not known")
        return [
            (socket.AF_INET, tcp, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET6, tcp, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, tcp, 6, "", ("192.0.2.1", 0)),
            (socket.AF_UNIX, tcp, 6, "", "/tmp/x"),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    good, bad = lookup("origin.test"), lookup("nowhere.test")
    threads.run()
    assert outcome(good) == ["192.0.2.1", "2001:db8::1"]
    assert isinstance(outcome(bad), socket.gaierror)
    assert isinstance(outcome(lookup("naïve.test")), ResolveError)


def test_a_question_that_was_given_up_is_not_asked_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, names = Threads(), []

    def getaddrinfo(name: str, port: None, type: int) -> list[Any]:
        names.append(name)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    clock = Clock()
    one = made(clock, system(threads))
    slow = [one.resolve(f"{i}.test") for i in range(100)]
    clock.advance(PATIENCE + 1)
    assert all(isinstance(outcome(d), ResolveError) for d in slow)
    last = one.resolve("last.test")
    threads.run()
    assert names == ["last.test"]
    assert isinstance(outcome(last), ResolveError)


def answer(*payloads: dns.Record_A | dns.Record_AAAA | dns.Record_CNAME) -> tuple[list[Any], list[Any], list[Any]]:
    return [dns.RRHeader(type=one.TYPE, payload=one) for one in payloads], [], []


def servers(
    monkeypatch: pytest.MonkeyPatch, v4: Deferred[Any], v6: Deferred[Any]
) -> Callable[[str], Deferred[list[str]]]:
    monkeypatch.setattr(NameServers, "lookupAddress", lambda self, name: v4)
    monkeypatch.setattr(NameServers, "lookupIPV6Address", lambda self, name: v6)
    return server_lookup([Address("192.0.2.53", 53)], Clock())


def test_name_servers_are_asked_for_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = servers(
        monkeypatch,
        succeed(answer(dns.Record_CNAME("other.test"), dns.Record_A("192.0.2.1"))),
        succeed(answer(dns.Record_AAAA("2001:db8::1"))),
    )
    assert outcome(lookup("origin.test")) == ["192.0.2.1", "2001:db8::1"]


def test_one_family_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = servers(monkeypatch, succeed(answer(dns.Record_A("192.0.2.1"))), fail(DNSLookupError("no AAAA")))
    assert outcome(lookup("origin.test")) == ["192.0.2.1"]


def test_no_family_is_the_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = servers(monkeypatch, fail(DNSLookupError("no A")), fail(DNSLookupError("no AAAA")))
    assert "no A" in str(outcome(lookup("origin.test")))
    lookup = servers(monkeypatch, succeed(answer()), succeed(answer()))
    assert outcome(lookup("origin.test")) == []
