"""
SPF: may this address send mail for that domain (RFC 7208)? An evaluator that asks through what it is given.

Everything is evaluated but C{ptr} (5.5: do not use), which counts as a look-up and never matches, and the macro C{p},
which is C{unknown}.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from sslintercept.errors import ResolveError

MOST_LOOKUPS: Final = 10
"""mechanisms and modifiers that ask (RFC 7208 4.6.4)"""
MOST_VOID: Final = 2
"""questions that were answered with nothing (RFC 7208 4.6.4)"""
MOST_EXCHANGES: Final = 10
"""names of one MX that are asked for (RFC 7208 4.6.4)"""
MOST_RECORD: Final = 4096
"""bytes of a record"""
MOST_TERMS: Final = 128
"""terms of a record"""
MOST_NAME: Final = 253
"""characters of a name; of a longer one the labels in front are cut off (RFC 7208 7.3)"""

VERSION: Final = b"v=spf1"

_TERM = re.compile(
    r"(?P<qualifier>[+?~-]?)(?P<name>all|include|a|mx|ptr|ip4|ip6|exists)"
    r"(?::(?P<value>[^/ ]*(?:/(?![0-9/])[^/ ]*)*))?(?:/(?P<four>[0-9]{1,2}))?(?://(?P<six>[0-9]{1,3}))?",
    re.IGNORECASE,
)
_IP = re.compile(r"(?P<qualifier>[+?~-]?)(?P<name>ip[46]):(?P<network>[0-9A-Fa-f:./]+)", re.IGNORECASE)
_MODIFIER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)=(?P<value>[\x21-\x7e]*)")
_MACRO = re.compile(r"%(?:\{([slodiphcrtvSLODIPHCRTV])([0-9]{0,3})(r?|R?)([.+,/_=-]*)\}|([%_-])|)")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)+[A-Za-z0-9_-]{1,63}\.?")

_T = TypeVar("_T")
IP = IPv4Address | IPv6Address


class Result(Enum):
    """What a check comes to (RFC 7208 2.6, RFC 8601 2.7)."""

    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


QUALIFIERS: Final = {
    "": Result.PASS,
    "+": Result.PASS,
    "-": Result.FAIL,
    "~": Result.SOFTFAIL,
    "?": Result.NEUTRAL,
}


class Names(Protocol):
    """
    Whom to ask. What is not there is an empty answer.

    Each raises L{ResolveError} if nobody can say.
    """

    def txt(self, name: str) -> Awaitable[Sequence[bytes]]:
        """The texts of a name, the strings of each put together."""

    def addresses(self, name: str, version: int) -> Awaitable[Sequence[str]]:
        """The addresses of a name, of version 4 or 6."""

    def mx(self, name: str) -> Awaitable[Sequence[tuple[int, str]]]:
        """Who takes mail for a name, with their preferences."""


class PermError(Exception):
    """A record that cannot be evaluated (RFC 7208 2.6.7)."""


class Term(NamedTuple):
    """A mechanism."""

    qualifier: Result
    name: str
    value: str
    four: int
    six: int


class Record(NamedTuple):
    """A record, read."""

    terms: tuple[Term, ...]
    redirect: str | None


def parse(record: str) -> Record:
    """
    Read a record.

    @raise PermError: it is malformed.
    """
    terms: list[Term] = []
    modifiers: dict[str, str] = {}
    words = [word for word in record.split(" ") if word][1:]
    if len(words) > MOST_TERMS:
        raise PermError("too many terms")
    for word in words:
        if (match := _MODIFIER.fullmatch(word)) is not None:
            name = match["name"].lower()
            if name in ("redirect", "exp"):
                if name in modifiers or not match["value"]:
                    raise PermError(f"{name} twice, or empty")
                modifiers[name] = match["value"]
            continue
        terms.append(_network(word) if _IP.fullmatch(word) is not None else _mechanism(word))
    return Record(tuple(terms), modifiers.get("redirect"))


def _network(word: str) -> Term:
    match = _IP.fullmatch(word)
    assert match is not None
    version = int(match["name"][-1])
    try:
        network = ip_network(match["network"], strict=False)
    except ValueError:
        raise PermError("no network") from None
    if network.version != version:
        raise PermError("a network of another version")
    return Term(QUALIFIERS[match["qualifier"]], match["name"].lower(), str(network), 0, 0)


def _mechanism(word: str) -> Term:
    match = _TERM.fullmatch(word)
    if match is None:
        raise PermError("a term that is none")
    name, value = match["name"].lower(), match["value"]
    four, six = int(match["four"] or 32), int(match["six"] or 128)
    if name in ("ip4", "ip6") or four > 32 or six > 128:
        raise PermError("no network")
    cidr = match["four"] is not None or match["six"] is not None
    if (
        (name == "all" and (value is not None or cidr))
        or (name in ("include", "exists") and (not value or cidr))
        or (value == "" or (name == "ptr" and cidr))
    ):
        raise PermError(f"{name} with too much, or too little")
    return Term(QUALIFIERS[match["qualifier"]], name, value or "", four, six)


class Check:
    """
    One check.

    @param ip: who sends.
    @param sender: the address of MAIL FROM; of an empty one C{postmaster@} the name of HELO (RFC 7208 2.4).
    """

    def __init__(self, names: Names, ip: IP, sender: str, helo: str = "") -> None:
        mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
        self.ip: IP = mapped if mapped is not None else ip
        self.sender = sender if "@" in sender else f"postmaster@{sender}"
        self.helo = helo
        self._names = names
        self._lookups = 0
        self._void = 0

    async def result(self, domain: str) -> Result:
        """What the domain says (check_host of RFC 7208 4)."""
        try:
            return await self._host(domain)
        except PermError:
            return Result.PERMERROR
        except ResolveError:
            return Result.TEMPERROR

    async def _host(self, domain: str) -> Result:
        if _DOMAIN.fullmatch(domain) is None or len(domain) > MOST_NAME + 1:
            return Result.NONE
        texts = await self._names.txt(domain)
        found = [text for text in texts if text[:6].lower() == VERSION and text[6:7] in (b"", b" ")]
        if not found:
            return Result.NONE
        if len(found) > 1 or len(found[0]) > MOST_RECORD:
            raise PermError("more than one record, or one too long")
        try:
            record = parse(found[0].decode("ascii"))
        except UnicodeDecodeError:
            raise PermError("a record that is not ASCII") from None
        for term in record.terms:
            if await self._matches(term, domain):
                return term.qualifier
        if record.redirect is not None and not any(term.name == "all" for term in record.terms):
            self._count()
            result = await self._host(self._expanded(record.redirect, domain))
            if result is Result.NONE:
                raise PermError("redirected to nothing")
            return result
        return Result.NEUTRAL

    async def _matches(self, term: Term, domain: str) -> bool:
        name = term.name
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            network = ip_network(term.value)
            return self.ip.version == network.version and self.ip in network
        self._count()
        if name == "ptr":
            return False
        target = self._expanded(term.value, domain) if term.value else domain
        if name == "include":
            result = await self._host(target)
            if result is Result.NONE:
                raise PermError("includes what has no record")
            return result is Result.PASS
        if name == "exists":
            return bool(self._seen(await self._names.addresses(target, 4)))
        if name == "mx":
            exchanges = self._seen(await self._names.mx(target))
            if len(exchanges) > MOST_EXCHANGES:
                raise PermError("too many exchanges")
            hosts = [host for _, host in sorted(exchanges) if host.strip(".")]
        else:
            hosts = [target]
        for host in hosts:
            found = await self._names.addresses(host, self.ip.version)
            if any(self._covers(address, term) for address in self._seen(found)):
                return True
        return False

    def _covers(self, address: str, term: Term) -> bool:
        try:
            network = ip_network(f"{address}/{term.four if self.ip.version == 4 else term.six}", strict=False)
        except ValueError:
            return False
        return network.version == self.ip.version and self.ip in network

    def _seen(self, answer: Sequence[_T]) -> Sequence[_T]:
        """@raise PermError: too many answers were empty."""
        if not answer:
            self._void += 1
            if self._void > MOST_VOID:
                raise PermError("too many questions without an answer")
        return answer

    def _count(self) -> None:
        """@raise PermError: it asks too much."""
        self._lookups += 1
        if self._lookups > MOST_LOOKUPS:
            raise PermError("too many look-ups")

    def _expanded(self, text: str, domain: str) -> str:
        """A domain-spec with its macros undone (RFC 7208 7)."""

        def put(match: re.Match[str]) -> str:
            letter, digits, reverse, delimiters, literal = match.groups()
            if literal is not None:
                return {"%": "%", "_": " ", "-": "%20"}[literal]
            if letter is None or letter in "crtCRT" or digits == "0":
                raise PermError("a macro that is none")
            value = self._macro(letter.lower(), domain)
            parts = re.split(f"[{re.escape(delimiters or '.')}]", value)
            if reverse:
                parts.reverse()
            if digits:
                parts = parts[-int(digits) :]
            value = ".".join(parts)
            return quote(value, safe="-._~") if letter.isupper() else value

        name = _MACRO.sub(put, text).removesuffix(".")
        while len(name) > MOST_NAME:
            name = name.partition(".")[2]
        return name

    def _macro(self, letter: str, domain: str) -> str:
        local, _, of = self.sender.rpartition("@")
        if letter == "i":
            if isinstance(self.ip, IPv6Address):
                return ".".join(self.ip.exploded.replace(":", ""))
            return str(self.ip)
        return {
            "s": self.sender,
            "l": local or "postmaster",
            "o": of,
            "d": domain,
            "h": self.helo or "unknown",
            "v": "in-addr" if self.ip.version == 4 else "ip6",
            "p": "unknown",
        }[letter]


async def check(names: Names, client: str, sender: str, helo: str = "") -> Result:
    """
    May this client send mail from that sender?

    @param client: its address.
    @param sender: the address of MAIL FROM, without brackets; empty for a bounce.
    """
    try:
        ip = ip_address(client.partition("%")[0])
    except ValueError:
        return Result.NONE
    who = sender if "@" in sender else helo
    return await Check(names, ip, who, helo).result(who.rpartition("@")[2])
