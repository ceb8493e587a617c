"""
From facts to a decision: the first rule in the order of the file that matches.

A rule that waits for a fact holds back every rule after it, for it might be the first that matches. So L{Rules.decide}
is asked again whenever a fact arrives, and answers once the answer cannot change any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from sslintercept.errors import ConfigError
from sslintercept.facts import Action, Decision, Facts
from sslintercept.rule.category import CATEGORY, parse
from sslintercept.rule.match import Match
from sslintercept.sites.look import Sites

DEFAULT: Final = Decision(Action.INTERCEPT, "default", "no rule matched")


class Matching(Protocol):
    """A section with a match."""

    @property
    def name(self) -> str: ...

    @property
    def match(self) -> str: ...

    @property
    def line(self) -> int:
        """Where the section begins in the ini file; 0 when it does not come from a file."""


class RuleSettings(Matching, Protocol):
    """A section C{[rule:NAME]}."""

    @property
    def action(self) -> Action | str: ...

    @property
    def starttls(self) -> str: ...

    @property
    def rebinding(self) -> str | None: ...

    @property
    def dns_answer(self) -> tuple[str, ...] | None: ...
    @property
    def cache(self) -> bool: ...
    @property
    def pin(self) -> float | None: ...
    @property
    def warn_for(self) -> float: ...


def place(kind: str, settings: Matching) -> str:
    """Where a mistake of a section is."""
    return f"[{kind}:{settings.name}]" + (f" in line {settings.line}" if settings.line else "")


NOTHING_LISTED: Final = Sites()


def match_of(kind: str, settings: Matching, sites: Sites = NOTHING_LISTED) -> Match[Facts]:
    """@raise ConfigError: the match cannot be used."""
    try:
        return parse(settings.match, sites)
    except ValueError as error:
        raise ConfigError(str(error), where=place(kind, settings), remedy="correct its match") from error


class Rule(NamedTuple):
    """A rule that can be asked."""

    name: str
    match: Match[Facts]
    action: Action
    starttls: str
    rebinding: str
    dns_answer: tuple[str, ...]
    line: int
    cache: bool
    pin: float
    warn_for: float

    @classmethod
    def of(cls, settings: RuleSettings, sites: Sites) -> Rule:
        """@raise ConfigError: the match or the action cannot be used."""
        try:
            match = match_of("rule", settings, sites)
            return cls(
                settings.name,
                match,
                Action(settings.action),
                settings.starttls,
                settings.rebinding or "",
                settings.dns_answer or (),
                settings.line,
                settings.cache,
                settings.pin or 0.0,
                settings.warn_for,
            )
        except ValueError as error:
            raise ConfigError(str(error), where=place("rule", settings), remedy="correct this rule") from error

    def decision(self, facts: Facts, final: bool) -> Decision:
        """What it says about C{facts}, which it matches."""
        return Decision(
            self.action,
            self.name,
            self.match.words(facts, final),
            self.starttls,
            self.rebinding,
            self.dns_answer,
            self.cache,
            self.pin,
            self.warn_for,
        )


class Rules:
    """
    The rules of one generation of settings; nothing in here changes.

    @ivar sites: what C{category} is looked up in.
    @ivar needs: the attributes of L{Facts} that a rule may wait for. Without C{"server_name"} and C{"client_hello"}
        in it, a decision never has to wait for a ClientHello.
    @ivar by_url: whether a rule may say something else of a request than of its connection.
    @ivar warned: for each rule that warns, the seconds for which it is not asked again.
    """

    __slots__ = ("by_url", "needs", "rules", "sites", "warned")

    def __init__(self, rules: Sequence[RuleSettings], sites: Sites = NOTHING_LISTED) -> None:
        """@raise ConfigError: a rule cannot be used."""
        self.sites = sites
        self.rules = tuple(Rule.of(rule, sites) for rule in rules)
        self.by_url = any(condition.name == CATEGORY for rule in self.rules for condition in rule.match.conditions)
        self.warned = {rule.name: rule.warn_for for rule in self.rules if rule.action is Action.WARN}
        self.needs: frozenset[str] = frozenset().union(*(rule.match.needs for rule in self.rules))

    def decide(self, facts: Facts, final: bool = False) -> Decision | None:
        """
        @param final: no further fact will come; what is unknown counts as absent, and there is always an answer.

        @return: C{None} if the answer depends on a fact that is not yet known.
        """
        for rule in self.rules:
            answer = rule.match.judge(facts, final)
            if answer:
                return rule.decision(facts, final)
            if answer is None:
                return None
        return DEFAULT

    def certain(self, facts: Facts) -> Decision | None:
        """
        The first rule that matches whatever is not known yet; C{None} if there is none.

        For what is decided only in part and asked again later: a look-up of a name before the connection to it.
        """
        for rule in self.rules:
            if rule.match.judge(facts):
                return rule.decision(facts, False)
        return None

    def trail(self, facts: Facts, final: bool = False) -> list[str]:
        """What L{decide} does with each rule, a line each, the default last."""
        return list(self.steps(facts, final))

    def steps(self, facts: Facts, final: bool) -> Iterator[str]:
        waiting = decided = False
        for rule in self.rules:
            line = f" (line {rule.line})" if rule.line else ""
            start = f"rule {rule.name}{line}, {rule.action.value}: "
            answer = rule.match.judge(facts, final)
            why = rule.match.words(facts, final)
            if decided:
                yield start + "not reached"
            elif answer is False:
                yield f"{start}does not match, because {why}"
            elif answer is None:
                waiting = True
                yield f"{start}waits, because {why}"
            elif waiting:
                decided = True
                yield f"{start}decides if no rule above does, because {why}"
            else:
                decided = True
                yield f"{start}decides, because {why}"
        start = f"rule {DEFAULT.rule}, {DEFAULT.action.value}: "
        if decided:
            yield start + "not reached"
        elif waiting:
            yield start + "decides if no rule above does"
        else:
            yield f"{start}decides, because {DEFAULT.reason}"


def check_match(text: str) -> None:
    """@raise ValueError: *text* is no match; the message says what is allowed."""
    parse(text, NOTHING_LISTED)
