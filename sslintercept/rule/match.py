"""
Conditions: the text after ``match =`` and what it says about a connection's facts.

Conditions stand apart by white space and all must hold. Each is C{name:value[,value...]}, of which any value
suffices, or its opposite C{!name:value}. No text matches everything. The names are the table L{CONDITIONS}.

A condition answers in three values: yes, no, or C{None} when its fact is not yet known. One no is enough for the
whole, whatever is still unknown; so a rule decides at the earliest point at which it can (contrast Squid, where an
ACL that cannot be judged at a step is passed over).

Long lists cost no more than short ones: a name is looked up once for each of its labels, an address once for each
prefix length in the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import idna

from sslintercept.facts import UNKNOWN, Address, ClientHello, Facts, Unknown

MAX_CONDITIONS: Final = 64
"""Conditions in one match."""
MAX_VALUES: Final = 20_000
"""Values of one condition."""
MAX_NAME: Final = 253
"""Characters of a name (RFC 1035 2.3.4); what is longer is no name."""
SHOWN_VALUES: Final = 4
"""Values of a list that an explanation repeats."""

LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""What separates labels (RFC 3490 3.1)."""
JA4 = re.compile(r"[tqd][0-9a-z]{9}_[0-9a-f]{12}_[0-9a-f]{12}")
MAPPED: Final = 0xFFFF << 32
"""The first address of C{::ffff:0:0/96}, IPv4 written as IPv6 (RFC 4291 2.5.5.2)."""


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """
    Lower case, A-labels (RFC 5891), no trailing dot.

    @raise ValueError: a label has no A-label.
    """
    name = name.lower()
    if not name.isascii():
        labels = DOTS.split(name)
        name = ".".join(each if each.isascii() else idna.encode(each, uts46=True).decode("ascii") for each in labels)
    return name.removesuffix(".")


@lru_cache(maxsize=4096)
def address_of(host: str) -> tuple[int, int] | None:
    """The bits (32 or 128) and the value of an IP literal, or C{None} for a name. IPv4-mapped IPv6 is IPv4."""
    if ":" not in host and not host[-1:].isdigit():
        return None
    try:
        address = ip_address(unbracketed(host).partition("%")[0])
    except ValueError:
        return None
    return bits_and_value(address)


def bits_and_value(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    value = int(address)
    if address.version == 6 and value >> 32 == MAPPED >> 32:
        return 32, value - MAPPED
    return address.max_prefixlen, value


def unbracketed(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


class Table(Protocol):
    """The values of a condition, ready to be looked up."""

    def find(self, value: str) -> str | None:
        """The value, as the rule spells it, that *value* matches; C{None} if none does."""


class Words:
    """Plain words without regard to case."""

    def __init__(self, values: Sequence[str]) -> None:
        self.words = {value.lower(): value for value in values}

    def find(self, value: str) -> str | None:
        return self.words.get(value.lower())


class Fingerprints(Words):
    """JA4 fingerprints: C{t13d1516h2_8daaf6152771_e5627efa2ab1}."""

    def __init__(self, values: Sequence[str]) -> None:
        super().__init__(values)
        for folded, value in self.words.items():
            if not JA4.fullmatch(folded):
                raise ValueError(f"{value!r} is not a JA4 fingerprint")


class YesNo(Words):
    """C{yes} or C{no}."""

    def __init__(self, values: Sequence[str]) -> None:
        super().__init__(values)
        for value in self.words.values():
            if value.lower() not in ("yes", "no"):
                raise ValueError(f"{value!r} is neither yes nor no")


class Names(Words):
    """The same; C{*} stands for any."""

    def find(self, value: str) -> str | None:
        return super().find(value) or self.words.get("*")


class Ports:
    """Numbers and ranges of them, both ends included: ports."""

    lowest, highest = 1, 65535
    what = "a port (1 to 65535) or a range of ports like 8000-8100"

    def __init__(self, values: Sequence[str]) -> None:
        self.ports: dict[str, str] = {}
        self.ranges: list[tuple[int, int, str]] = []
        for value in values:
            first, dash, last = value.partition("-")
            low, high = self.number(first, value), self.number(last if dash else first, value)
            if low > high:
                raise ValueError(f"the range {value!r} ends before it begins")
            if low == high:
                self.ports[str(low)] = value
            else:
                self.ranges.append((low, high, value))

    def number(self, text: str, value: str) -> int:
        known = text.isascii() and text.isdigit() and len(text) <= 5
        if not (known and self.lowest <= int(text) <= self.highest):
            raise ValueError(f"{value!r} is not {self.what}")
        return int(text)

    def find(self, value: str) -> str | None:
        if (found := self.ports.get(value)) is not None:
            return found
        return next((text for low, high, text in self.ranges if low <= int(value) <= high), None)


class Depths(Ports):
    """How many layers; the same with other bounds."""

    lowest, highest = 0, 99
    what = "a number of layers (0 to 99) or a range like 2-99"


class Networks:
    """Addresses and networks (CIDR) of both families."""

    def __init__(self, values: Sequence[str]) -> None:
        self.by_length: dict[tuple[int, int], dict[int, str]] = {}
        for value in values:
            if not self.add(value):
                raise ValueError(f"{value!r} is neither an IP address nor a network like 192.0.2.0/24 or 2001:db8::/32")

    def add(self, value: str) -> bool:
        """
        Take *value* if it looks like an address or a network.

        @raise ValueError: it looks like one, but there are bits behind its prefix.
        """
        literal, slash, length = value.partition("/")
        try:
            network = ip_network(f"{unbracketed(literal)}{slash}{length}", strict=False)
        except ValueError:
            return False
        bits, first = bits_and_value(network.network_address)
        prefix = network.prefixlen - (network.max_prefixlen - bits)
        if slash and bits_and_value(ip_address(unbracketed(literal))) != (bits, first):
            raise ValueError(f"{value!r} has bits set behind its prefix; {network} is the network it lies in")
        self.by_length.setdefault((bits, bits - prefix), {})[first >> (bits - prefix)] = value
        return True

    def find(self, value: str) -> str | None:
        return None if (address := address_of(value)) is None else self.find_address(*address)

    def find_address(self, bits: int, address: int) -> str | None:
        """The network that holds the address; the first listed prefix length wins."""
        for (width, shift), networks in self.by_length.items():
            if width == bits and (found := networks.get(address >> shift)) is not None:
                return found
        return None


class Hosts:
    """Names, C{*.example.com} (any depth below), C{.example.com} (and itself), addresses, networks, C{*} (any)."""

    def __init__(self, values: Sequence[str]) -> None:
        self.any = "*" in values
        self.exact: dict[str, str] = {}
        self.below: dict[str, str] = {}
        self.networks = Networks(())
        for value in values:
            if value != "*" and not self.networks.add(value):
                self.add_name(value)

    def add_name(self, value: str) -> None:
        wild = value.startswith("*.")
        name = value.removeprefix("*" if wild else "").removeprefix(".")
        try:
            name = canonical(name)
        except ValueError as error:
            raise ValueError(f"{value!r} is not a name ({error})") from error
        labels = name.split(".")
        if len(name) > MAX_NAME or not all(map(LABEL.fullmatch, labels)) or labels[-1].isdigit():
            raise ValueError(
                f"{value!r} is not a host; allowed are names, *.example.com (all below), .example.com (and itself), "
                "addresses, networks like 192.0.2.0/24, and * for any"
            )
        if wild or value.startswith("."):
            self.below[name] = value
        if not wild:
            self.exact[name] = value

    def find(self, value: str) -> str | None:
        if len(value) <= MAX_NAME + 1 and (found := self.find_host(value)) is not None:
            return found
        return "*" if self.any else None

    def find_host(self, host: str) -> str | None:
        if (address := address_of(host)) is not None:
            return self.networks.find_address(*address)
        try:
            name = canonical(host)
        except ValueError:  # no name that a rule could spell
            return None
        if (found := self.exact.get(name)) is not None:
            return found
        while self.below and name:
            name = name.partition(".")[2]
            if (found := self.below.get(name)) is not None:
                return found
        return None


Value: TypeAlias = str | Unknown | None
"""A fact in the form in which it is looked up."""


def host_of(facts: Facts) -> Value:
    return facts.destination.host if isinstance(facts.destination, Address) else facts.destination


def port_of(facts: Facts) -> Value:
    return str(facts.destination.port) if isinstance(facts.destination, Address) else facts.destination


def ja4_of(facts: Facts) -> Value:
    return facts.client_hello.ja4 if isinstance(facts.client_hello, ClientHello) else facts.client_hello


def mismatch_of(facts: Facts) -> Value:
    """
    C{yes} when the client names another host inside TLS than outside (domain fronting).

    A destination that is an address (SOCKS 4, a redirected connection) names no host, so nothing can differ from it.
    """
    inner, outer = facts.server_name, host_of(facts)
    if inner is None or outer is None:
        return "no"
    if isinstance(outer, str) and address_of(outer) is not None:
        return "no"
    if isinstance(inner, Unknown) or isinstance(outer, Unknown):
        return UNKNOWN
    return "no" if folded(inner) == folded(outer) else "yes"


def folded(name: str) -> str:
    try:
        return canonical(name) if len(name) <= MAX_NAME + 1 else name
    except ValueError:
        return name


def contradiction_of(facts: Facts) -> Value:
    """C{yes} when the latest verdict of the probe goes against what the destination's port is for."""
    if isinstance(facts.protocol, Unknown):
        return UNKNOWN
    return "yes" if facts.verdicts and facts.verdicts[-1].mismatch else "no"


S = TypeVar("S")
"""what a condition is asked about: the facts of a connection, or what else has a table of conditions"""


class Kind(NamedTuple, Generic[S]):
    """A name that conditions may have."""

    read: Callable[[S], Value]
    table: Callable[[Sequence[str]], Table]
    needs: frozenset[str]
    """The attributes of L{Facts} it reads that may be unknown."""


CONDITIONS: Final[dict[str, Kind[Facts]]] = {
    "host": Kind(host_of, Hosts, frozenset({"destination"})),
    "port": Kind(port_of, Ports, frozenset({"destination"})),
    "sni": Kind(lambda facts: facts.server_name, Hosts, frozenset({"server_name"})),
    "sni_mismatch": Kind(mismatch_of, YesNo, frozenset({"destination", "server_name"})),
    "client": Kind(lambda facts: facts.client.host, Networks, frozenset()),
    "listener": Kind(lambda facts: facts.listener, Words, frozenset()),
    "user": Kind(lambda facts: facts.user, Names, frozenset()),
    "depth": Kind(lambda facts: str(facts.depth), Depths, frozenset()),
    "protocol": Kind(lambda facts: facts.protocol, Words, frozenset({"protocol"})),
    "mismatch": Kind(contradiction_of, YesNo, frozenset({"protocol"})),
    "ja4": Kind(ja4_of, Fingerprints, frozenset({"client_hello"})),
}


class Condition(Generic[S]):
    """One C{name:values} or its opposite."""

    __slots__ = ("kind", "name", "negated", "several", "shown", "table")

    def __init__(self, name: str, kind: Kind[S], values: Sequence[str], negated: bool) -> None:
        self.name, self.negated, self.kind = name, negated, kind
        self.table = self.kind.table(values)
        self.several = len(values) > 1
        more = len(values) - SHOWN_VALUES
        self.shown = ", ".join(values[:SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "")

    def judge(self, facts: S, final: bool) -> bool | None:
        value = self.kind.read(facts)
        if value is UNKNOWN and not final:
            return None
        found = self.table.find(value) if isinstance(value, str) else None
        return (found is not None) is not self.negated

    def words(self, facts: S, final: bool) -> str:
        """The fact, and how it stands to the values."""
        value = self.kind.read(facts)
        if value is UNKNOWN and not final:
            return f"{self.name} is not yet known"
        if not isinstance(value, str):
            return f"{self.name} is absent"
        text = value[:MAX_NAME]
        text = text if text.isprintable() else ascii(text)
        if isinstance(self.table, YesNo):
            return f"{self.name} is {text}"
        if (found := self.table.find(value)) is not None:
            return f"{self.name} {text} matches {found}"
        return f"{self.name} {text} {'matches none of' if self.several else 'does not match'} {self.shown}"


class Match(Generic[S]):
    """
    All conditions of one rule; L{parse} makes it.

    @ivar always: it holds, whatever is asked about; nobody has to ask.
    """

    __slots__ = ("always", "conditions", "needs")

    def __init__(self, conditions: Sequence[Condition[S]]) -> None:
        self.conditions = tuple(conditions)
        self.always = not self.conditions
        self.needs: frozenset[str] = frozenset().union(*(condition.kind.needs for condition in conditions))
        """The attributes of L{Facts} that may keep an answer waiting."""

    def judge(self, facts: S, final: bool = False) -> bool | None:
        """
        Whether all conditions hold; C{None} means that it depends on a fact not yet known.

        @param final: what is unknown will not come any more; it counts as absent.
        """
        answer: bool | None = True
        for condition in self.conditions:
            holds = condition.judge(facts, final)
            if holds is False:
                return False
            if holds is None:
                answer = None
        return answer

    def words(self, facts: S, final: bool = False) -> str:
        """Why L{judge} answers as it does: what holds, or what does not, or what is waited for."""
        if not self.conditions:
            return "it matches everything"
        answer = self.judge(facts, final)
        return ", ".join(each.words(facts, final) for each in self.conditions if each.judge(facts, final) is answer)


def parse(text: str) -> Match[Facts]:
    """
    @param text: white space around a comma belongs to the list of values, so that lists may span lines.

    @raise ValueError: what is wrong, and what is allowed.
    """
    return parse_with(CONDITIONS, text)


def parse_with(conditions: Mapping[str, Kind[S]], text: str) -> Match[S]:
    """The same with another table of C{conditions}."""
    words = re.sub(r"\s*,\s*", ",", text).split()
    if len(words) > MAX_CONDITIONS:
        raise ValueError(f"{len(words)} conditions are too many; {MAX_CONDITIONS} are allowed in one match")
    return Match([parse_condition(conditions, word) for word in words])


def parse_condition(conditions: Mapping[str, Kind[S]], word: str) -> Condition[S]:
    spelled, colon, rest = word.removeprefix("!").partition(":")
    name = spelled.lower()
    if not colon:
        raise ValueError(f"{word[:80]!r} is not a condition; write name:value, with one of {', '.join(conditions)}")
    if name not in conditions:
        near = get_close_matches(name[:80], conditions, n=1, cutoff=0)[0]
        raise ValueError(f"unknown condition {spelled[:80]!r}, did you mean {near}? Allowed: {', '.join(conditions)}")
    values = rest.split(",")
    if not all(values):
        raise ValueError(f"{spelled} has an empty value; write {spelled}:value or {spelled}:value,value")
    if len(values) > MAX_VALUES:
        raise ValueError(f"{spelled} has {len(values)} values; {MAX_VALUES} are allowed in one condition")
    try:
        return Condition(name, conditions[name], values, word.startswith("!"))
    except ValueError as error:
        raise ValueError(f"{spelled}: {error}") from error
