"""
Questions that are pending, in flight or to be asked again, and who waits for them (ATS: DNSEntry, dups).

Equal questions share one entry: the first that asked is its head, the others are its dups. A question is sent in
attempts, each with an id of its own; all ids of an entry stay taken until it ends, so that a late answer to an earlier
attempt still counts. Nothing here sends, receives or knows the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING

from sslintercept.errors import StageError

if TYPE_CHECKING:
    from sslintercept.dns.answer import Answer, Judgement
    from sslintercept.dns.server import Server, ServerGroup
    from sslintercept.dns.transport import Channel

IN_FLIGHT = 2048
"""entries in flight at once; further ones are held in order"""
MOST_PENDING = 16_384
"""entries held; further ones are refused"""
MOST_WAITING = 131_072
"""waiters of all entries; further ones are refused"""
MOST_ATTEMPTS = 16
"""attempts of one entry, whatever their reasons"""
MOST_IN_FLIGHT = 4000
"""what a limit of entries in flight may be: with all their attempts they fit into the 65 536 ids"""
TRIES = 16
"""random ids that are tried before the next free one is looked for"""

Key = tuple[bytes, int, int, int]
"""folded name, type, class, and the flags that a query differs by"""


class State(Enum):
    """What becomes of an entry."""

    PENDING = "pending"
    IN_FLIGHT = "in flight"
    RETRY = "retry"
    DONE = "done"

    __hash__ = object.__hash__
    """members are single objects; the hash of their names is computed anew each time"""


FOLLOWS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.IN_FLIGHT, State.DONE}),
    State.IN_FLIGHT: frozenset({State.RETRY, State.DONE}),
    State.RETRY: frozenset({State.IN_FLIGHT, State.DONE}),
    State.DONE: frozenset(),
}
"""Which state may come after which."""


class Full(Exception):
    """There is no room for a further question; the text says for what."""


class Waiter:
    """Somebody who waits for an entry; C{live} until it has what it wanted, or wants nothing any more."""

    __slots__ = ("entry", "live")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.live = True

    def told(self, judgement: Judgement, answer: Answer, now: float) -> None:
        """A server has answered."""
        raise NotImplementedError

    def failed(self, what: str, remedy: str) -> None:
        """No server will, or not in time."""
        raise NotImplementedError


class Attempt:
    """
    One query on its way.

    @ivar entry: C{None} for a probe of a server.
    @ivar live: whether its time limit counts.
    @ivar heard: whether its answer has come; a second one is a duplicate.
    """

    __slots__ = ("channel", "edns", "entry", "heard", "id", "live", "question", "sent", "server")

    def __init__(self, number: int, entry: Entry | None, server: Server, question: bytes, sent: float) -> None:
        self.id, self.entry, self.server, self.question, self.sent = number, entry, server, question, sent
        self.channel: Channel | None = None
        self.edns = True
        self.live = True
        self.heard = False


class Entry:
    """
    One question.

    @ivar tries: attempts that used up a part of the schedule.
    @ivar failures: attempts that a server answered with a failure, or that could not be sent.
    @ivar stream: whether it goes over a connection from now on.
    @ivar why: what went wrong last.
    @ivar last: the last message of a server that refused to answer.
    """

    __slots__ = (
        *("attempts", "failures", "group", "head", "key", "last", "since", "state", "stream", "tries", "waiters"),
        "why",
    )

    def __init__(self, key: Key, head: Waiter, group: ServerGroup, now: float) -> None:
        self.key, self.head, self.group, self.since = key, head, group, now
        self.state = State.PENDING
        self.waiters: dict[Waiter, None] = {}
        self.attempts: list[Attempt] = []
        self.tries = self.failures = 0
        self.stream = False
        self.why = "no name server answered"
        self.last: tuple[Server, bytes] | None = None

    def enter(self, state: State) -> None:
        """
        Go on to C{state}.

        @raise StageError: it cannot follow the present one.
        """
        if state not in FOLLOWS[self.state]:
            raise StageError(
                f"{self.state.value} cannot become {state.value}",
                where="DNS entry",
                remedy="this is a defect; report it",
            )
        self.state = state

    @property
    def tried(self) -> list[Server]:
        """Who was asked, in order."""
        return [attempt.server for attempt in self.attempts]


class Entries:
    """
    Every question that has no answer yet.

    @param bits: random bits that nobody can predict.
    @ivar flying: entries in flight.
    @ivar waiting: waiters of all entries.
    @ivar sent: attempts by id, those of probes too.
    """

    def __init__(
        self,
        bits: Callable[[int], int],
        *,
        limit: int = IN_FLIGHT,
        most_pending: int = MOST_PENDING,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        if not 1 <= limit <= MOST_IN_FLIGHT:
            raise ValueError(f"between 1 and {MOST_IN_FLIGHT} entries can be in flight")
        self._bits = bits
        self._limit, self._most_pending, self._most_waiting = limit, most_pending, most_waiting
        self._by_key: dict[Key, Entry] = {}
        self._held: OrderedDict[Entry, None] = OrderedDict()
        self.sent: dict[int, Attempt] = {}
        self.flying = 0
        self.waiting = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._by_key.values()))

    def join(self, key: Key, waiter: Waiter, group: Callable[[], ServerGroup], now: float) -> bool:
        """
        Let C{waiter} wait for C{key}.

        @param group: called for the servers of a question that nobody has asked yet.
        @return: whether it is such a one, so that something may have to be sent.
        @raise Full: it would be one too many.
        """
        if self.waiting >= self._most_waiting:
            raise Full("too many wait for answers")
        entry = self._by_key.get(key)
        new = entry is None
        if entry is None:
            if len(self._held) >= self._most_pending:
                raise Full("too many questions are under way")
            entry = self._by_key[key] = Entry(key, waiter, group(), now)
            self._held[entry] = None
        entry.waiters[waiter] = None
        waiter.entry = entry
        self.waiting += 1
        return new

    def leave(self, waiter: Waiter) -> None:
        """C{waiter} waits no more; the last one takes the entry with it."""
        entry, waiter.entry = waiter.entry, None
        if entry is not None:
            del entry.waiters[waiter]
            self.waiting -= 1
            if not entry.waiters:
                self.finish(entry)

    def take(self) -> Entry | None:
        """The entry that may be sent now, which is in flight then: those to be asked again come first."""
        if self.flying >= self._limit or not self._held:
            return None
        entry, _ = self._held.popitem(last=False)
        entry.enter(State.IN_FLIGHT)
        self.flying += 1
        return entry

    def attempt(self, entry: Entry | None, server: Server, question: bytes, now: float) -> Attempt:
        """An attempt with an id of its own."""
        sent = self.sent
        for _ in range(TRIES):
            number = self._bits(16)
            if number not in sent:
                break
        else:
            while number in sent:
                number = (number + 1) & 0xFFFF
        made = sent[number] = Attempt(number, entry, server, question, now)
        if entry is not None:
            entry.attempts.append(made)
        return made

    def again(self, entry: Entry) -> None:
        """C{entry} is not in flight any more and will be asked again, before those that are still pending."""
        entry.enter(State.RETRY)
        entry.attempts[-1].live = False
        self.flying -= 1
        self._held[entry] = None
        self._held.move_to_end(entry, last=False)

    def finish(self, entry: Entry) -> list[Waiter]:
        """C{entry} is over: who must be told, in the order they asked, the head last (ATS: dups first)."""
        if entry.state is State.IN_FLIGHT:
            self.flying -= 1
        else:
            del self._held[entry]
        entry.enter(State.DONE)
        del self._by_key[entry.key]
        for attempt in entry.attempts:
            self.release(attempt)
        entry.attempts.clear()
        waiters = [waiter for waiter in entry.waiters if waiter is not entry.head]
        if entry.head in entry.waiters:
            waiters.append(entry.head)
        for waiter in waiters:
            waiter.entry = None
        self.waiting -= len(waiters)
        entry.waiters.clear()
        return waiters

    def release(self, attempt: Attempt) -> None:
        """The id of C{attempt} is free again, and an answer to it a stranger's."""
        attempt.live = False
        del self.sent[attempt.id]
        if attempt.channel is not None:
            attempt.channel.forget(attempt)
