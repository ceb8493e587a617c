"""Fanning out: every sink hears, one that breaks hurts no other, and the end is waited for, but not for ever."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from sslintercept.errors import ConfigError
from sslintercept.event.log import GRACE, MOST_COUNTED, OTHERS, SECONDS, EventLog
from sslintercept.event.quarantine import Bounds, Quarantine
from sslintercept.event.record import Event
from sslintercept.interfaces import IEventSinkPlugin
from sslintercept.testing.gateway import MemoryEvents
from tests.event.events import Operator, event
from tests.event.storing import here
from tests.event.test_quarantine import Here


class Recorder:
    """A sink that notes what it is asked."""

    def __init__(self, ending: Deferred[None] | None = None, error: Exception | None = None) -> None:
        self.told: list[Event] = []
        self.did: list[str] = []
        self.dropped = 0
        self._ending = ending
        self._error = error

    def start(self) -> None:
        self.did.append("start")
        if self._error is not None:
            raise self._error

    def tell(self, event: Event) -> None:
        self.told.append(event)
        if self._error is not None:
            raise self._error

    def reopen(self) -> None:
        self.did.append("reopen")

    def close(self, seconds: float) -> Deferred[None]:
        self.did.append(f"close {seconds:g}")
        return self._ending or succeed(None)


class Copies(Quarantine):
    """A quarantine that says what a test wants."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), Bounds(0, 1.0), Here(), here)
        self.brought: list[tuple[bytes, Event]] = []
        self.answer: Deferred[str] = Deferred()

    def keep(self, content: Iterable[bytes], event: Event) -> Deferred[str]:
        self.brought.append((b"".join(content), event))
        return self.answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_every_sink_hears_even_behind_one_that_raises(clock: Clock, operator: Operator) -> None:
    broken, first, last, plugin = Recorder(error=ValueError("no")), Recorder(), Recorder(), Recorder()
    log = EventLog({"first": first, "broken": broken, "last": last}, Copies(), clock, [broken, plugin])
    log.tell(event())
    assert first.told == last.told == plugin.told == [event()]
    assert log.failures == 2
    assert operator.failures == ["an event was not told to Recorder: no"] * 2
    operator.failures.clear()


def test_events_are_counted_by_kind_and_act_in_a_bounded_table(clock: Clock) -> None:
    log = EventLog({}, Copies(), clock)
    assert log.summary() == "events: none"
    for _ in range(2):
        log.tell(event())
    log.tell(event(kind="leak", act="report"))
    assert log.counts == {("malware", "block"): 2, ("leak", "report"): 1}
    assert log.summary() == "events: 2 malware block, 1 leak report"
    for number in range(2 * MOST_COUNTED):
        log.tell(event(kind=str(number)))
    log.tell(event())
    assert len(log.counts) == MOST_COUNTED + 1
    assert log.counts["malware", "block"] == 3
    assert log.counts[OTHERS] == MOST_COUNTED + 2


def test_what_a_sink_could_not_take_is_in_the_summary(clock: Clock) -> None:
    sink = Recorder()
    sink.dropped = 7
    log = EventLog({"syslog x": sink, "file": Recorder()}, Copies(), clock)
    log.tell(event())
    assert log.summary() == "events: 1 malware block; 7 not in syslog x"


@pytest.mark.parametrize("answer", ["c1f3a-3", ""])
def test_an_event_with_a_copy_is_told_when_it_is_known_whether_there_is_one(clock: Clock, answer: str) -> None:
    sink, copies = Recorder(), Copies()
    log = EventLog({"sink": sink}, copies, clock)
    done = log.tell_with_copy(event(), [b"a", b"b"])
    assert copies.brought == [(b"ab", event())]
    assert sink.told == []
    copies.answer.callback(answer)
    assert done.result == answer
    assert sink.told == [event(quarantine=answer)]


def test_a_reload_begins_new_sinks_keeps_old_ones_and_ends_the_others(clock: Clock, said: list[str]) -> None:
    stays, goes, comes = Recorder(), Recorder(), Recorder()
    bad = Recorder(error=ConfigError("cannot append", where="[events] file", remedy="do"))
    log = EventLog({"stays": stays, "goes": goes}, Copies(), clock)
    log.start()
    log.use({"stays": stays, "comes": comes, "bad": bad})
    log.reopen()
    assert stays.did == ["start", "reopen"]
    assert comes.did == ["start", "reopen"]
    assert goes.did == ["start", f"close {SECONDS:g}"]
    assert list(log.sinks) == ["stays", "comes"]
    assert said == ["[events] file: cannot append; do"]


def test_the_end_waits_for_every_sink(clock: Clock) -> None:
    slow: Deferred[None] = Deferred()
    log = EventLog({"slow": Recorder(slow), "quick": Recorder()}, Copies(), clock)
    done = log.close(3.0)
    assert not done.called
    slow.callback(None)
    assert done.called
    assert clock.getDelayedCalls() == []


def test_the_end_does_not_wait_for_ever(clock: Clock) -> None:
    slow: Deferred[None] = Deferred()
    log = EventLog({"slow": Recorder(slow)}, Copies(), clock)
    done = log.close(3.0)
    clock.advance(3.0 + GRACE - 0.1)
    assert not done.called
    clock.advance(0.1)
    assert done.called
    slow.callback(None)


def test_a_sink_that_cannot_end_hinders_no_other(clock: Clock, operator: Operator) -> None:
    log = EventLog({"broken": Recorder(fail(ValueError("no"))), "other": Recorder()}, Copies(), clock)
    assert log.close().called
    assert operator.failures == ["a sink of events did not end well: no"]
    operator.failures.clear()


def test_the_stand_in_for_tests_collects_what_the_real_one_would_write() -> None:
    events = MemoryEvents()
    events.tell(event())
    assert events.tell_with_copy(event(id="x"), [b"a", b"b"]).result == "x"
    assert events.told == [event(), event(id="x", quarantine="x")]
    assert events.quarantine.kept == {"x": b"ab"}


def test_the_interface_of_plugins_asks_for_one_thing() -> None:
    assert list(IEventSinkPlugin) == ["tell"]
