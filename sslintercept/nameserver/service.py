"""
Answers clients' questions: by rule, from the hosts file, from what is kept, or from the name servers (DNS as a door).

A question is looked at once, in this order. Rules decide by its name (C{host:}), its client and its listener: what they
block does not exist, what they rewrite has the addresses they say. The hosts file is next, then special names. All else
is asked of the name servers through the same entries as everybody's look-ups, so equal questions share a query; what
they say is handed on with its lifetime lowered, signatures and all, and without the keys of ECH if so wished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sslintercept.dns.answer import Answer
from sslintercept.dns.message import NOERROR, NXDOMAIN, REFUSED, SERVFAIL, text
from sslintercept.errors import ResolveError
from sslintercept.facts import Action, Address, Decision, Facts
from sslintercept.nameserver.answers import AnswerTable, Key
from sslintercept.nameserver.relay import Prepared
from sslintercept.nameserver.reply import (
    BLOCKED,
    FILTERED,
    NO_REACHABLE_AUTHORITY,
    Query,
    addresses,
    read_query,
    refusal,
)
from sslintercept.net.nearness import Guard, Near, nearness

OWN_TTL: Final = 60
"""seconds that an answer of ours is good: of a rule, or of the hosts file"""
PATIENCE: Final = 10.0
"""seconds that a client waits"""
RESPONSE: Final = 1.8
"""seconds that it waits when something stale is known (RFC 8767 5)"""
MOST_ASKED: Final = 16_384
"""questions that wait for name servers; further ones fail"""
PORT: Final = 53
"""of the destination that rules see"""
REFUSALS: Final = {"nxdomain": NXDOMAIN, "nodata": NOERROR, "refused": REFUSED}
"""words of C{dns_answer}"""


class Names(Protocol):
    """Who knows names (L{sslintercept.dns.names.Names})."""

    def listed(self, name: str) -> Sequence[str] | None:
        """The addresses that the hosts file has for a name, or that it has by its meaning; none if it is nowhere."""

    def raw(self, name: bytes, rtype: int, cls: int, deadline: float, *, flags: int, signed: bool) -> Deferred[Answer]:
        """A server's whole message."""


class Decider(Protocol):
    """Rules (L{sslintercept.rule.decide.Rules})."""

    def certain(self, facts: Facts) -> Decision | None: ...


class Clock(Protocol):
    """The handler's (L{sslintercept.net.handler.NetHandler})."""

    def seconds(self) -> float: ...
    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...


@dataclass(slots=True)
class Counters:
    """Questions by where their answer came from; C{dropped}: those that were no question, or one too many."""

    rules: int = 0
    hosts: int = 0
    kept: int = 0
    stale: int = 0
    asked: int = 0
    failed: int = 0
    refused: int = 0
    dropped: int = 0

    def summary(self) -> str:
        """In a line for the log."""
        return (
            f"questions: {self.rules} by rule, {self.hosts} from the hosts file, {self.kept} kept, {self.stale} stale, "
            f"{self.asked} asked, {self.failed} failed, {self.refused} refused, {self.dropped} dropped"
        )


class Asked(Protocol):
    """Told what became of a question that a rule answered (the log)."""

    def __call__(self, facts: Facts, decision: Decision, name: str, rtype: int, answer: str) -> object: ...


Reply = Callable[[bytes], object]


class NameService:
    """
    The answers of one generation of settings.

    @param names: gives who knows names now.
    @param answers: gives what was said lately, which outlives this generation.
    @param new_id: names a question in the log.
    @param told: told what rules answered.
    @ivar rules: asked about each question, if there are any; C{guard} about addresses inside for clients outside.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        *,
        rules: Decider | None,
        guard: Guard,
        names: Callable[[], Names],
        answers: Callable[[], AnswerTable],
        new_id: Callable[[], str],
        told: Asked,
        counters: Counters | None = None,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._guard = guard
        self._names = names
        self._answers = answers
        self._new_id = new_id
        self._told = told
        self._open = 0
        self.counters = counters or Counters()

    def now(self) -> float:
        """Seconds of the clock."""
        return self._clock.seconds()

    def ask(self, data: bytes, client: Address, listener: str, reply: Callable[[Query | None, bytes], object]) -> bool:
        """
        Answer a client's message, now or later.

        @param reply: called once at most, with the bytes of the answer; without a query they are a refusal of what was
            not understood.
        @return: whether it was a message that may be answered at all.
        """
        query = read_query(data)
        if query is None:
            self.counters.dropped += 1
            return False
        if isinstance(query, bytes):
            self.counters.refused += 1
            reply(None, query)
            return True
        facts = Facts("", client, listener)
        question = Question(self, query, facts, lambda made: reply(query, made))
        if self._rules is None or not self._by_rule(question):
            self._by_knowledge(question)
        return True

    def _by_rule(self, question: Question) -> bool:
        """Whether a rule has the answer."""
        assert self._rules is not None
        facts = question.facts
        facts.destination = Address(question.name, PORT)
        facts.protocol = "dns"
        decision = self._rules.certain(facts)
        facts.decision = decision
        if decision is None:
            return False
        words = decision.dns_answer or (("nxdomain",) if decision.action is Action.BLOCK else ())
        if not words:
            return False
        self.counters.rules += 1
        facts.id = self._new_id()
        self._told(facts, decision, question.name, question.query.rtype, " ".join(words))
        if words[0] not in REFUSALS:
            question.reply(addresses(question.query, words, OWN_TTL))
        elif words[0] == "nodata":
            question.reply(addresses(question.query, (), OWN_TTL))
        else:
            question.reply(refusal(question.query, REFUSALS[words[0]], (BLOCKED, f"rule {decision.rule}")))
        return True

    def _by_knowledge(self, question: Question) -> None:
        query = question.query
        listed = self._names().listed(question.name)
        if listed is not None:
            self.counters.hosts += 1
            question.reply(addresses(query, listed, OWN_TTL) if listed else refusal(query, NXDOMAIN))
            return
        key = query.name, query.rtype, query.do, query.cd
        now = self._clock.seconds()
        kept = self._answers().get(key, now)
        if kept is not None and now < kept.until:
            self.counters.kept += 1
            question.answer(kept.prepared, now - kept.since)
            return
        if self._open >= MOST_ASKED:
            question.fail("too many questions are under way")
            return
        self._open += 1
        if kept is not None:
            question.wait_with(kept.prepared, kept.since, self._clock.later(RESPONSE, question.too_slow))
        asked = self._names().raw(
            query.name, query.rtype, query.cls, now + PATIENCE, flags=query.flags, signed=query.do
        )
        asked.addCallbacks(self._answered, self._failed, callbackArgs=(question, key), errbackArgs=(question,))

    def _answered(self, answer: Answer, question: Question, key: Key) -> None:
        self._open -= 1
        self.counters.asked += 1
        prepared = self._answers().learn(key, answer.message, self._clock.seconds())
        if prepared is None:
            question.fail("a malformed answer")
        elif answer.rcode in (NOERROR, NXDOMAIN) or not question.stale():
            question.answer(prepared, 0.0)

    def _failed(self, failure: Failure, question: Question) -> None:
        self._open -= 1
        if failure.check(ResolveError, CancelledError) is None:
            self.log.failure("a question could not be asked", failure=failure)
        error = failure.value
        question.fail(error.what if isinstance(error, ResolveError) else "stopping")

    def leads_inside(self, question: Question, prepared: Prepared) -> bool:
        """Whether an answer has addresses that its client must not be led to."""
        if not prepared.addresses:
            return False
        reach = self._guard.reach(question.facts)
        return reach is not Near.MACHINE and any(nearness(host) > reach for host in prepared.addresses)


class Question:
    """One question of a client until it is answered."""

    __slots__ = ("_old", "_reply", "_service", "_since", "_timer", "facts", "name", "query")

    def __init__(self, service: NameService, query: Query, facts: Facts, reply: Reply) -> None:
        self._service = service
        self.query = query
        self.name = text(query.name)
        self.facts = facts
        self._reply: Reply | None = reply
        self._old: Prepared | None = None
        self._since = 0.0
        self._timer: IDelayedCall | None = None

    def wait_with(self, old: Prepared, since: float, timer: IDelayedCall) -> None:
        """Something is known that was true before."""
        self._old, self._since, self._timer = old, since, timer

    def reply(self, made: bytes) -> None:
        """The answer, once."""
        reply, self._reply = self._reply, None
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        if reply is not None:
            reply(made)

    def answer(self, prepared: Prepared, age: float, *, stale: bool = False) -> None:
        """What an upstream server said, unless it leads inside."""
        if self._service.leads_inside(self, prepared):
            self._service.counters.refused += 1
            self.reply(refusal(self.query, NXDOMAIN, (FILTERED, "an address inside (DNS rebinding)")))
        else:
            self.reply(prepared.to(self.query, age, stale=stale))

    def too_slow(self) -> None:
        """The servers keep the client waiting; what they say later is kept for the next one."""
        self._timer = None
        self.stale()

    def stale(self) -> bool:
        """Answer with what was true before, if anything is known."""
        old = self._old
        if old is None or self._reply is None:
            return old is not None
        self._service.counters.stale += 1
        self.answer(old, self._service.now() - self._since, stale=True)
        return True

    def fail(self, why: str) -> None:
        """The servers have no answer."""
        if not self.stale():
            self._service.counters.failed += 1
            self.reply(refusal(self.query, SERVFAIL, (NO_REACHABLE_AUTHORITY, why)))
