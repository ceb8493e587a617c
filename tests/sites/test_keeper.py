"""Lists are loaded, looked at again, and swapped at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from sslintercept.errors import ConfigError
from sslintercept.sites.compile import compiled
from sslintercept.sites.image import Image
from sslintercept.sites.keeper import INTERVAL, Keeper
from sslintercept.sites.listing import ListError, ListSettings
from tests.sites.build import listed, settings


class Here:
    """Reads a list in this process."""

    read = 0
    cancelled = 0

    def __init__(self, wanted: ListSettings) -> None:
        self._wanted = wanted

    def run(self) -> Image:
        Here.read += 1
        return compiled(self._wanted)

    def cancel(self) -> None:
        Here.cancelled += 1


@implementer(ILogObserver)
class Lines:
    """Collects what the keeper logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if event["log_namespace"].startswith("sslintercept.sites"):
            self.lines.append(event["log_format"].format(**event))


@pytest.fixture(autouse=True)
def _counts() -> None:
    Here.read = Here.cancelled = 0


@pytest.fixture
def logged() -> Iterator[list[str]]:
    observer = Lines()
    globalLogPublisher.addObserver(observer)
    yield observer.lines
    globalLogPublisher.removeObserver(observer)


def now(call: Callable[[], Any]) -> Deferred[Any]:  # Any: what the call returns
    try:
        return succeed(call())
    except ListError as error:
        failed: Deferred[Any] = Deferred()
        failed.errback(error)
        return failed


class Threads:
    """Calls wait until a test lets them go."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, call: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((call, done))
        return done

    def step(self) -> None:
        call, done = self.waiting.pop(0)
        now(call).chainDeferred(done)

    def rest(self) -> None:
        while self.waiting:
            self.step()


def fired(deferred: Deferred[None]) -> bool:
    return deferred.called


def test_a_list_is_read_at_the_start_and_again_when_its_file_has_changed(tmp_path: Path, logged: list[str]) -> None:
    clock = Clock()
    wanted = settings(tmp_path, "a.example\n")
    keeper = Keeper(clock, now, [wanted], make=Here)
    sites = keeper.sites
    assert fired(keeper.start())
    assert listed(sites, "a.example", "bb.example") == ["a.example"]
    clock.advance(INTERVAL)
    assert Here.read == 1
    settings(tmp_path, "a.example\nbb.example\n")
    clock.advance(INTERVAL - 1)
    assert Here.read == 1
    clock.advance(1)
    assert listed(sites, "a.example", "bb.example") == ["a.example", "bb.example"]
    assert logged == [
        "list bad: 1 entries of 1 lines (plain), 0 duplicates, 0 skipped, 0 malformed",
        "list bad: 2 entries of 2 lines (plain), 0 duplicates, 0 skipped, 0 malformed",
    ]
    keeper.stop()
    assert not clock.getDelayedCalls()


def test_a_bad_list_leaves_the_old_one_and_says_so_once(tmp_path: Path, logged: list[str]) -> None:
    clock = Clock()
    keeper = Keeper(clock, now, [settings(tmp_path, "a.example\n")], make=Here)
    keeper.start()
    clock.advance(5)
    settings(tmp_path, "<html>\n")
    for _ in range(3):
        clock.advance(INTERVAL)
    assert listed(keeper.sites, "a.example") == ["a.example"]
    (state,) = keeper.states()
    assert (state.loaded, state.error[:9]) == (0.0, "list bad:")
    assert "is no list of sites" in str(state)
    assert Here.read == 2
    assert len(logged) == 2
    settings(tmp_path, "bb.example\n")
    clock.advance(INTERVAL)
    (state,) = keeper.states()
    assert (state.error, state.loaded) == ("", 5 + 4 * INTERVAL)
    assert state.report is not None
    assert state.report.entries == 1
    assert state.size > 0
    keeper.stop()


def test_a_list_that_cannot_be_read_at_the_start_is_missing_until_it_comes(tmp_path: Path) -> None:
    clock = Clock()
    good = settings(tmp_path, "a.example\n")
    keeper = Keeper(clock, now, [ListSettings("late", tmp_path / "late"), good], make=Here)
    assert fired(keeper.start())
    assert keeper.missing == ("late",)
    assert str(keeper.states()[0]).startswith("list late: not loaded; list late: cannot read")
    (tmp_path / "late").write_text("a.example\nb.example\n")
    clock.advance(INTERVAL)
    assert not keeper.missing
    found = keeper.sites.host("a.example")
    assert found is not None
    assert found.list == "late"  # the order of lists is that of the settings, not that of loading
    keeper.stop()


def test_old_lists_answer_while_new_ones_are_read(tmp_path: Path) -> None:
    clock, threads = Clock(), Threads()
    keeper = Keeper(clock, threads, [settings(tmp_path, "a.example\n")], make=Here)
    begun = keeper.start()
    threads.rest()
    assert fired(begun)
    settings(tmp_path, "bb.example\n")
    again = keeper.reload()
    threads.step()
    threads.step()
    assert listed(keeper.sites, "a.example", "bb.example") == ["a.example"]
    threads.rest()
    assert listed(keeper.sites, "a.example", "bb.example") == ["bb.example"]
    assert fired(again)
    keeper.stop()


def test_a_list_that_changes_while_it_is_read_is_not_taken_and_read_again(tmp_path: Path) -> None:
    clock, threads = Clock(), Threads()
    keeper = Keeper(clock, threads, [settings(tmp_path, "a.example\n")], make=Here)
    keeper.start()
    threads.step()
    settings(tmp_path, "a.example\nbb.exam")
    threads.rest()
    assert keeper.missing == ("bad",)
    assert "it changed while it was read" in keeper.states()[0].error
    clock.advance(INTERVAL)
    threads.rest()
    assert not keeper.missing
    keeper.stop()


def test_however_often_a_reload_is_asked_for_one_follows_the_one_under_way(tmp_path: Path) -> None:
    clock, threads = Clock(), Threads()
    keeper = Keeper(clock, threads, [settings(tmp_path, "a.example\n")], make=Here)
    asked = [keeper.start(), keeper.reload(), keeper.reload(), keeper.reload()]
    threads.rest()
    assert Here.read == 2
    assert all(map(fired, asked))
    assert len(clock.getDelayedCalls()) == 1
    keeper.stop()


def test_stopping_ends_what_is_under_way_and_everybody_hears(tmp_path: Path, logged: list[str]) -> None:
    clock, threads = Clock(), Threads()
    lists = [settings(tmp_path, "a.example\n", name=name) for name in ("one", "two")]
    keeper = Keeper(clock, threads, lists, make=Here)
    asked = [keeper.start(), keeper.reload()]
    threads.step()
    keeper.stop()
    assert Here.cancelled == 1
    _, done = threads.waiting.pop()
    done.errback(ListError("stopped", where="list one", remedy="none"))
    threads.rest()
    assert all(map(fired, asked))
    assert fired(keeper.reload())
    assert Here.read == 0
    assert not logged
    assert not clock.getDelayedCalls()


def test_what_nobody_expected_is_logged_and_the_clock_goes_on(tmp_path: Path, logged: list[str]) -> None:
    class Broken(Here):
        def run(self) -> Image:
            raise ListError("never seen", where="list bad", remedy="none") from RuntimeError()

    def elsewhere(call: Callable[[], Any]) -> Deferred[Any]:
        failed: Deferred[Any] = Deferred()
        failed.errback(RuntimeError("no threads"))
        return failed

    clock = Clock()
    keeper = Keeper(clock, elsewhere, [settings(tmp_path, "a.example\n")], make=Broken)
    assert fired(keeper.start())
    assert logged == ["lists of sites"]
    assert len(clock.getDelayedCalls()) == 1
    keeper.stop()


def test_a_list_is_read_by_a_process_of_its_own(tmp_path: Path) -> None:
    keeper = Keeper(Clock(), now, [settings(tmp_path, "a.example\n")])
    assert fired(keeper.start())
    assert listed(keeper.sites, "www.a.example", "b.example") == ["www.a.example"]
    keeper.stop()


def test_two_lists_of_a_name_and_too_many_are_refused(tmp_path: Path) -> None:
    wanted = settings(tmp_path, "a.example\n")
    with pytest.raises(ConfigError, match="two lists have one name"):
        Keeper(Clock(), now, [wanted, wanted])
    many = [ListSettings(str(n), tmp_path) for n in range(257)]
    with pytest.raises(ConfigError, match="257 lists; 256 are allowed"):
        Keeper(Clock(), now, many)
