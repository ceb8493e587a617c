"""Entries: who shares one, when it may be sent, and what is taken while it lives."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sslintercept.dns.entry import FOLLOWS, MOST_IN_FLIGHT, Entries, Full, Key, State, Waiter
from sslintercept.dns.server import ServerGroup
from sslintercept.errors import StageError
from sslintercept.facts import Address

GROUP = ServerGroup([Address("127.0.0.1", 53)])
SERVER = GROUP.servers[0]


def key(number: int) -> Key:
    return bytes((1, number, 0)), 1, 1, 0x100


def join(entries: Entries, number: int) -> Waiter:
    waiter = Waiter()
    entries.join(key(number), waiter, lambda: GROUP, 0.0)
    return waiter


def made(**limits: int) -> Entries:
    return Entries(random.Random(1).getrandbits, **limits)


def test_the_states_are_documented_as_they_are() -> None:
    def name(state: State) -> str:
        return state.value.replace(" ", "_")

    lines = ["stateDiagram-v2", *(f'    state "{state.value}" as {name(state)}' for state in State)]
    lines.append(f"    [*] --> {name(State.PENDING)}")
    for state in State:
        lines += [f"    {name(state)} --> {name(after)}" for after in State if after in FOLLOWS[state]]
    lines.append(f"    {name(State.DONE)} --> [*]")
    picture = "\n".join(lines)
    text = (Path(__file__).parents[2] / "docs" / "dns.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{picture}\n```" in text


def test_a_state_that_cannot_follow_is_refused() -> None:
    entries = made()
    join(entries, 1)
    entry = entries.take()
    assert entry is not None
    with pytest.raises(StageError, match="in flight cannot become pending"):
        entry.enter(State.PENDING)


def test_the_head_is_told_last_unless_it_has_left() -> None:
    entries = made()
    first, second, third = (join(entries, 1) for _ in range(3))
    (entry,) = entries
    assert entries.finish(entry) == [second, third, first]
    first, second, third = (join(entries, 1) for _ in range(3))
    (entry,) = entries
    entries.leave(first)
    entries.leave(first)
    assert entries.finish(entry) == [second, third]


@pytest.mark.parametrize(("limit", "why"), [({"most_pending": 2}, "questions"), ({"most_waiting": 2}, "wait")])
def test_one_too_many_is_refused(limit: dict[str, int], why: str) -> None:
    entries = made(**limit)
    join(entries, 1)
    join(entries, 2)
    with pytest.raises(Full, match=why):
        join(entries, 3)
    assert (len(entries), entries.waiting) == (2, 2)


@pytest.mark.parametrize("limit", [0, MOST_IN_FLIGHT + 1])
def test_a_limit_that_ids_do_not_suffice_for_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="in flight"):
        made(limit=limit)


def test_an_id_that_is_taken_gives_way_to_the_next_free_one() -> None:
    entries = Entries(lambda bits: 0xFFFF)
    assert [entries.attempt(None, SERVER, b"", 0.0).id for _ in range(3)] == [0xFFFF, 0, 1]


class Life(RuleBasedStateMachine):
    """Any order of events keeps the accounts."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = Entries(lambda bits: 3, limit=3)
        self.waiters: list[Waiter] = []

    @rule(number=st.integers(0, 9))
    def join(self, number: int) -> None:
        self.waiters.append(join(self.entries, number))

    @rule(which=st.integers(0, 99))
    def leave(self, which: int) -> None:
        if self.waiters:
            self.entries.leave(self.waiters.pop(which % len(self.waiters)))

    @rule()
    def send(self) -> None:
        entry = self.entries.take()
        if entry is not None:
            self.entries.attempt(entry, SERVER, b"", 0.0)

    @rule(which=st.integers(0, 99))
    def again(self, which: int) -> None:
        flying = [entry for entry in self.entries if entry.state is State.IN_FLIGHT]
        if flying:
            self.entries.again(flying[which % len(flying)])

    @rule(which=st.integers(0, 99))
    def finish(self, which: int) -> None:
        entries = list(self.entries)
        if entries:
            told = self.entries.finish(entries[which % len(entries)])
            self.waiters = [one for one in self.waiters if one not in told]

    @invariant()
    def accounts(self) -> None:
        entries = list(self.entries)
        assert self.entries.flying == sum(entry.state is State.IN_FLIGHT for entry in entries) <= 3
        assert self.entries.waiting == len(self.waiters) == sum(len(entry.waiters) for entry in entries)
        assert len(self.entries.sent) == sum(len(entry.attempts) for entry in entries)
        assert all(self.entries.sent[a.id] is a for entry in entries for a in entry.attempts)
        assert all(entry.waiters for entry in entries)
        assert all(entry.tried == [SERVER] * len(entry.attempts) for entry in entries)


TestLife = Life.TestCase


def test_a_waiter_says_what_it_does() -> None:
    with pytest.raises(NotImplementedError):
        Waiter().failed("what", "remedy")
    with pytest.raises(NotImplementedError):
        Waiter().told(None, None, 0.0)  # type: ignore[arg-type]  # never looked at
