"""What clients are told: by rule, the hosts file, what is kept, the name servers; and when these are silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sslintercept.dns import message as m
from sslintercept.dns.answer import Answer
from sslintercept.errors import ResolveError
from sslintercept.facts import Action, Address, Decision, Facts
from sslintercept.nameserver import service as module
from sslintercept.nameserver.answers import AnswerTable
from sslintercept.nameserver.reply import BLOCKED, FILTERED, Query
from sslintercept.nameserver.service import OWN_TTL, RESPONSE, NameService
from sslintercept.net.nearness import Guard

from ..dns.support import a, aaaa, labels, message
from .support import everything, readable

CLIENT = Address("198.51.100.7", 5353)
NAME = labels("www.example.com")


class Handler(Clock):
    """The clock as the handler gives it."""

    def later(self, delay: float, call: Callable[[], object]) -> Any:
        return self.callLater(delay, call)


class Upstream:
    """Who knows names, as a test says."""

    def __init__(self) -> None:
        self.names: dict[str, Sequence[str]] = {}
        self.asked: list[tuple[bytes, int, int, bool]] = []
        self.open: list[Deferred[Answer]] = []

    def listed(self, name: str) -> Sequence[str] | None:
        return self.names.get(name)

    def raw(self, name: bytes, rtype: int, cls: int, deadline: float, *, flags: int, signed: bool) -> Deferred[Answer]:
        self.asked.append((name, rtype, flags, signed))
        self.open.append(Deferred())
        return self.open[-1]

    def say(self, *records: Any, rcode: int = 0, rtype: int = m.A, authority: Any = ()) -> None:
        """Answer the oldest question."""
        whole = message(0, m.question(NAME, rtype), records, authority, flags=0x8180 | rcode)
        self.open.pop(0).callback(Answer(rcode, "", (), (), 0, False, "192.0.2.53:53", 0.0, whole))

    def fail(self, error: Exception) -> None:
        self.open.pop(0).errback(Failure(error))


class Story:
    """A name server, and what it said."""

    def __init__(self, decisions: dict[str, Decision] | None = None, *, refuse: bool = True) -> None:
        self.clock = Handler()
        self.upstream = Upstream()
        self.answers = AnswerTable(stale=1000.0, strip_ech=True)
        self.told: list[tuple[str, str, int, str]] = []
        self.seen: list[Facts] = []
        self._decisions = decisions
        self.service = NameService(
            self.clock,
            rules=None if decisions is None else self,
            guard=Guard(refuse, lambda host: False),
            names=lambda: self.upstream,
            answers=lambda: self.answers,
            new_id=lambda: "id-1",
            told=lambda facts, decision, name, rtype, answer: self.told.append((facts.id, name, rtype, answer)),
        )

    def certain(self, facts: Facts) -> Decision | None:
        self.seen.append(facts)
        assert isinstance(facts.destination, Address)
        assert self._decisions is not None
        return self._decisions.get(facts.destination.host)

    def ask(self, rtype: int = m.A, name: str = "wWw.example.com", client: Address = CLIENT) -> list[bytes]:
        """Ask; the list gets the reply."""
        replies: list[bytes] = []

        def reply(query: Query | None, made: bytes) -> None:
            replies.append(made)

        data = m.query(7, m.question(labels(name), rtype))
        assert self.service.ask(data, client, "dns", reply)
        return replies


def decided(action: Action = Action.INTERCEPT, *words: str) -> Decision:
    return Decision(action, "r", "why", dns_answer=words)


def found(made: bytes) -> list[bytes]:
    return [one.rdata for one in readable(made).answers]


def test_a_name_server_is_asked_once_and_its_answer_kept() -> None:
    story = Story()
    first, second = story.ask(), story.ask()
    assert story.upstream.asked == [(NAME, m.A, m.RD, False)] * 2
    story.upstream.say(a("www.example.com", "192.0.2.1", 60))
    assert readable(first[0]).id == 7
    assert labels("wWw.example.com") in first[0]
    story.upstream.say(a("www.example.com", "192.0.2.1", 60))
    assert first == second
    story.clock.advance(20)
    (third,) = story.ask()
    assert [one.ttl for one in everything(third) if one.type == m.A] == [40]
    assert not story.upstream.open
    assert (story.service.counters.kept, story.service.counters.asked) == (1, 2)


@pytest.mark.parametrize(
    ("decision", "rcode", "addresses"),
    [
        (decided(Action.BLOCK), m.NXDOMAIN, []),
        (decided(Action.BLOCK, "refused"), m.REFUSED, []),
        (decided(Action.BLOCK, "nodata"), m.NOERROR, []),
        (decided(Action.TUNNEL, "nxdomain"), m.NXDOMAIN, []),
        (decided(Action.INTERCEPT, "192.0.2.9", "2001:db8::1"), m.NOERROR, [bytes((192, 0, 2, 9))]),
    ],
)
def test_rules_have_the_first_word(decision: Decision, rcode: int, addresses: list[bytes]) -> None:
    story = Story({"www.example.com": decision})
    (made,) = story.ask()
    assert readable(made).rcode == rcode
    assert found(made) == addresses
    assert story.upstream.asked == []
    assert story.told == [("id-1", "www.example.com", m.A, " ".join(decision.dns_answer) or "nxdomain")]
    facts = story.seen[0]
    assert (facts.protocol, facts.listener, facts.client) == ("dns", "dns", CLIENT)
    if rcode:
        assert BLOCKED.to_bytes(2, "big") + b"rule r" in made


def test_a_rule_without_an_answer_leaves_the_truth_and_no_line() -> None:
    story = Story({"www.example.com": decided(Action.TUNNEL)})
    replies = story.ask()
    story.upstream.say(a("www.example.com", "192.0.2.1"))
    assert found(replies[0]) == [bytes((192, 0, 2, 1))]
    assert story.told == []


def test_the_hosts_file_and_special_names_come_next() -> None:
    story = Story()
    story.upstream.names = {"www.example.com": ["192.0.2.5", "2001:db8::5"], "x.onion": []}
    assert found(story.ask()[0]) == [bytes((192, 0, 2, 5))]
    assert found(story.ask(m.MX)[0]) == []
    assert readable(story.ask(name="X.onion")[0]).rcode == m.NXDOMAIN
    assert [one.ttl for one in everything(story.ask()[0]) if one.type == m.A] == [OWN_TTL]
    assert story.upstream.asked == []


def test_what_is_no_question_is_refused_or_not_answered() -> None:
    story = Story()
    replies: list[bytes] = []
    assert not story.service.ask(b"x", CLIENT, "dns", lambda query, made: replies.append(made))
    assert story.service.ask(m.query(7, b""), CLIENT, "dns", lambda query, made: replies.append(made))
    assert replies[0][3] & 15 == m.FORMERR
    assert (story.service.counters.dropped, story.service.counters.refused) == (1, 1)


@pytest.mark.parametrize(
    "error", [ResolveError("192.0.2.53:53 did not answer", where="x", remedy="y"), RuntimeError("a defect")]
)
def test_when_nobody_answers_the_client_is_told(error: Exception) -> None:
    story = Story()
    replies = story.ask()
    story.upstream.fail(error)
    assert readable(replies[0]).rcode == m.SERVFAIL
    assert story.service.counters.failed == 1


def test_a_malformed_answer_is_a_failure() -> None:
    story = Story()
    replies = story.ask()
    story.upstream.open.pop().callback(Answer(0, "", (), (), 0, False, "", 0.0, b"nonsense"))
    assert readable(replies[0]).rcode == m.SERVFAIL


def test_a_failure_of_the_servers_is_handed_on() -> None:
    story = Story()
    replies = story.ask()
    story.upstream.say(rcode=m.SERVFAIL)
    assert readable(replies[0]).rcode == m.SERVFAIL


def old(story: Story) -> None:
    """Something is known, and its time is over."""
    story.ask()
    story.upstream.say(a("www.example.com", "192.0.2.1", 60))
    story.clock.advance(100)


def test_when_servers_are_slow_what_was_true_last_is_better_than_nothing() -> None:
    """RFC 8767 5"""
    story = Story()
    old(story)
    replies = story.ask()
    story.clock.advance(RESPONSE - 0.1)
    assert replies == []
    story.clock.advance(0.1)
    assert found(replies[0]) == [bytes((192, 0, 2, 1))]
    assert [one.ttl for one in everything(replies[0]) if one.type == m.A] == [30]
    story.upstream.say(a("www.example.com", "192.0.2.2", 60))
    assert len(replies) == 1
    assert found(story.ask()[0]) == [bytes((192, 0, 2, 2))]
    assert story.service.counters.stale == 1
    assert not story.clock.getDelayedCalls()


@pytest.mark.parametrize("how", ["fail", "servfail"])
def test_and_when_they_fail_it_is_said_at_once(how: str) -> None:
    story = Story()
    old(story)
    replies = story.ask()
    if how == "fail":
        story.upstream.fail(ResolveError("down", where="x", remedy="y"))
    else:
        story.upstream.say(rcode=m.SERVFAIL)
    assert found(replies[0]) == [bytes((192, 0, 2, 1))]
    assert not story.clock.getDelayedCalls()


def test_news_come_before_what_was_true() -> None:
    story = Story()
    old(story)
    replies = story.ask()
    story.upstream.say(rcode=m.NXDOMAIN)
    assert readable(replies[0]).rcode == m.NXDOMAIN


@pytest.mark.parametrize(
    ("client", "rcode"), [("198.51.100.7", m.NXDOMAIN), ("10.0.0.1", m.NXDOMAIN), ("127.0.0.1", m.NOERROR)]
)
def test_answers_do_not_lead_clients_nearer_than_they_are(client: str, rcode: int) -> None:
    story = Story()
    replies = story.ask(client=Address(client, 5353))
    story.upstream.say(a("www.example.com", "192.0.2.1"), a("www.example.com", "127.0.0.1"))
    assert readable(replies[0]).rcode == rcode
    assert (FILTERED.to_bytes(2, "big") + b"an address inside" in replies[0]) is (rcode == m.NXDOMAIN)


def test_unless_a_rule_or_the_settings_allow_it() -> None:
    story = Story({"www.example.com": Decision(Action.INTERCEPT, "r", "why", rebinding="allow")})
    replies = story.ask(m.AAAA)
    story.upstream.say(aaaa("www.example.com", "::1"), rtype=m.AAAA)
    assert readable(replies[0]).rcode == m.NOERROR
    story = Story(refuse=False)
    replies = story.ask()
    story.upstream.say(a("www.example.com", "10.0.0.1"))
    assert readable(replies[0]).rcode == m.NOERROR


def test_open_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ASKED", 1)
    story = Story()
    first = story.ask()
    assert readable(story.ask()[0]).rcode == m.SERVFAIL
    story.upstream.say(a("www.example.com", "192.0.2.1"))
    assert len(first) == 1
