"""Rules in order: the first match, waiting, the trail."""

from dataclasses import dataclass

import pytest

from sslintercept.errors import ConfigError
from sslintercept.facts import Action, Address, Decision, Facts
from sslintercept.rule.decide import DEFAULT, Rules, check_match


@dataclass
class Section:
    name: str
    match: str
    action: Action | str
    line: int = 0
    starttls: str = "allow"
    rebinding: str | None = None
    dns_answer: tuple[str, ...] | None = None
    cache: bool = True
    pin: float | None = None
    warn_for: float = 0.0


def rules(*sections: tuple[str, str, str]) -> Rules:
    return Rules([Section(name, match, action, 10 + index) for index, (name, match, action) in enumerate(sections)])


def facts(host: str = "www.example.com", port: int = 443) -> Facts:
    made = Facts("c1", Address("192.0.2.7", 40000), "proxy")
    made.destination = Address(host, port)
    return made


def test_without_rules_everything_is_intercepted() -> None:
    assert Rules([]).decide(facts()) == DEFAULT == Decision(Action.INTERCEPT, "default", "no rule matched")


def test_the_first_rule_that_matches_decides() -> None:
    found = rules(
        ("mail", "port:993", "block"),
        ("banks", "host:*.example.com", "tunnel"),
        ("rest", "", "block"),
    )
    assert found.decide(facts()) == Decision(Action.TUNNEL, "banks", "host www.example.com matches *.example.com")
    assert found.decide(facts("a.example")) == Decision(Action.BLOCK, "rest", "it matches everything")


def test_an_action_may_be_given_as_an_action() -> None:
    decision = Rules([Section("all", "", Action.BLOCK)]).decide(facts())
    assert decision is not None
    assert decision.action is Action.BLOCK


def test_a_rule_that_waits_holds_back_the_rules_after_it() -> None:
    found = rules(("pinned", "sni:pinned.example", "tunnel"), ("rest", "", "block"))
    asked = facts()
    assert found.decide(asked) is None
    asked.server_name = "pinned.example"
    decision = found.decide(asked)
    assert decision is not None
    assert decision.rule == "pinned"
    asked.server_name = "www.example.com"
    decision = found.decide(asked)
    assert decision is not None
    assert decision.rule == "rest"


def test_a_match_before_a_rule_that_would_wait_decides_at_once() -> None:
    decision = rules(("web", "port:443", "tunnel"), ("sni", "sni:a.example", "block")).decide(facts())
    assert decision is not None
    assert decision.rule == "web"


def test_a_rule_that_cannot_match_any_more_holds_nothing_back() -> None:
    assert rules(("mail", "sni:a.example port:993", "block")).decide(facts()) == DEFAULT


def test_when_nothing_more_will_come_there_is_always_an_answer() -> None:
    found = rules(("sni", "sni:a.example", "block"), ("nameless", "!sni:*", "tunnel"))
    assert found.decide(facts()) is None
    assert found.decide(facts(), final=True) == Decision(Action.TUNNEL, "nameless", "sni is absent")


def test_the_facts_that_any_rule_needs_are_named() -> None:
    assert Rules([]).needs == frozenset()
    assert rules(("a", "client:192.0.2.0/24", "block")).needs == frozenset()
    assert rules(("a", "host:a.example", "block"), ("b", "sni:b", "block")).needs == {"destination", "server_name"}


def test_the_trail_tells_of_every_rule_in_words() -> None:
    found = rules(
        ("mail", "port:993", "block"),
        ("banks", "host:*.example.com", "tunnel"),
        ("rest", "", "block"),
    )
    assert found.trail(facts()) == [
        "rule mail (line 10), block: does not match, because port 443 does not match 993",
        "rule banks (line 11), tunnel: decides, because host www.example.com matches *.example.com",
        "rule rest (line 12), block: not reached",
        "rule default, intercept: not reached",
    ]


def test_the_trail_tells_what_is_waited_for_and_what_would_decide_then() -> None:
    found = rules(("pinned", "sni:pinned.example", "tunnel"), ("web", "port:443", "block"), ("rest", "", "block"))
    assert found.trail(facts()) == [
        "rule pinned (line 10), tunnel: waits, because sni is not yet known",
        "rule web (line 11), block: decides if no rule above does, because port 443 matches 443",
        "rule rest (line 12), block: not reached",
        "rule default, intercept: not reached",
    ]
    assert found.trail(facts(), final=True)[:2] == [
        "rule pinned (line 10), tunnel: does not match, because sni is absent",
        "rule web (line 11), block: decides, because port 443 matches 443",
    ]


def test_the_trail_ends_with_the_default() -> None:
    assert Rules([]).trail(facts()) == ["rule default, intercept: decides, because no rule matched"]
    waiting = Rules([Section("a", "sni:a", "block")]).trail(facts())
    assert waiting == [
        "rule a, block: waits, because sni is not yet known",
        "rule default, intercept: decides if no rule above does",
    ]


def test_a_rule_that_cannot_be_used_says_where_it_stands() -> None:
    with pytest.raises(ConfigError, match=r"\[rule:banks\] in line 10: unknown condition 'hots', did you mean host"):
        rules(("banks", "hots:a.example", "tunnel"))
    with pytest.raises(ConfigError, match=r"^\[rule:banks\]: 'allow' is not a valid Action"):
        Rules([Section("banks", "", "allow")])


def test_a_rule_that_warns_says_for_how_long_it_is_not_asked_again() -> None:
    made = Rules([Section("a", "host:a.test", "warn", warn_for=60.0), Section("b", "", "block", warn_for=1.0)])
    assert made.warned == {"a": 60.0}
    decision = made.decide(facts("a.test"))
    assert decision is not None
    assert (decision.action, decision.warn_for, decision.consented) == (Action.WARN, 60.0, False)
    assert made.trail(facts("a.test"))[0] == "rule a, warn: decides, because host a.test matches a.test"


def test_a_match_can_be_checked_by_itself() -> None:
    check_match("host:a.example")
    with pytest.raises(ValueError, match="is not a port"):
        check_match("port:https")
