"""
What the texts in the ini file stand for: durations, sizes, switches, numbers, words, addresses, paths.

A L{Unit} turns one text into one value. Durations become C{float} seconds, sizes C{int} bytes. Every refusal says what
is allowed, so that whoever reads it need not look anything up.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Generic, TypeVar

from sslintercept.config.endpoint import ALLOWED, parse
from sslintercept.facts import Address

T = TypeVar("T")
U = TypeVar("U")
N = TypeVar("N", int, float)
T_co = TypeVar("T_co", covariant=True)

SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SWITCH: Final = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
MOST_ITEMS: Final = 1024
"""items of a list"""
MOST_TEXT: Final = 4096
"""characters of a path or an endpoint; PATH_MAX on Linux"""
MOST_SHOWN: Final = 60
"""characters of a value in a message"""
HERE: Final = Path()

_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,3}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


class NotAllowed(ValueError):
    """
    A text that stands for no value.

    @ivar what: what is wrong with it.
    @ivar allowed: what would be right.
    """

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(f"{what}; allowed: {allowed}")
        self.what, self.allowed = what, allowed


@dataclass(frozen=True, slots=True)
class Unit(Generic[T_co]):
    """
    A way to read a text.

    @ivar read: text and the folder that relative paths start from; raises C{ValueError} with what is wrong.
    @ivar allowed: what it takes, in words.
    @ivar brief: the same for a comment beside the key; empty where the default shows it.
    """

    read: Callable[[str, Path], T_co]
    allowed: str
    brief: str = ""

    def __call__(self, text: str, folder: Path = HERE) -> T_co:
        """@raise NotAllowed: the text stands for nothing."""
        try:
            return self.read(text, folder)
        except NotAllowed as error:
            raise NotAllowed(error.what, self.allowed) from None
        except ValueError as error:
            raise NotAllowed(str(error), self.allowed) from None


def unit(read: Callable[[str], T], allowed: str, brief: str = "") -> Unit[T]:
    """A unit that has nothing to do with folders."""
    return Unit(lambda text, folder: read(text), allowed, brief)


def shown(text: str) -> str:
    """A text from the file as messages show it: its first line, shortened, without what a terminal might act upon."""
    first = text.partition("\n")[0][:MOST_SHOWN]
    printable = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in first)
    return printable + (" ..." if first != text else "")


# numbers


def duration(low: str = "1ms", high: str = "30d") -> Unit[float]:
    """Seconds, from I{low} to I{high}."""
    least, most = _seconds(low), _seconds(high)

    def read(text: str) -> float:
        return _between(_seconds(text), least, most)

    return unit(read, f"a number with ms, s, m, h or d, from {low} to {high}", f"{low} to {high}")


def size(low: str, high: str) -> Unit[int]:
    """Bytes, from I{low} to I{high}."""
    least, most = _bytes(low), _bytes(high)

    def read(text: str) -> int:
        return _between(_bytes(text), least, most)

    return unit(read, f"a whole number with B, KiB, MiB or GiB, from {low} to {high}", f"{low} to {high}")


def integer(low: int, high: int) -> Unit[int]:
    """A whole number, both bounds included."""

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ValueError("not a whole number")
        return _between(int(text), low, high)

    return unit(read, f"a whole number from {low} to {high}", f"{low} to {high}")


def _between(value: N, low: N, high: N) -> N:
    if value < low:
        raise ValueError("too small")
    if value > high:
        raise ValueError("too large")
    return value


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a duration")
    # Decimal, because 300 * 0.001 in floats need not be the float nearest to 0.3.
    return float(Decimal(match[1]) * SECONDS[match[2]])


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("not a size")
    return int(match[1]) * BYTES[match[2]]


# words


def switch() -> Unit[bool]:
    """On or off, without regard to case."""

    def read(text: str) -> bool:
        if text.lower() not in SWITCH:
            raise ValueError("neither on nor off")
        return SWITCH[text.lower()]

    return unit(read, "on, yes, true, off, no or false", "on | off")


def choice(*words: str) -> Unit[str]:
    """One of I{words}."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError("not one of the choices")
        return text

    return unit(read, either_of(words), " | ".join(words))


def listed(one: Unit[T], most: int = MOST_ITEMS) -> Unit[tuple[T, ...]]:
    """A list with commas, each item read by I{one}; at least one, none twice."""

    def read(text: str, folder: Path) -> tuple[T, ...]:
        texts = [item.strip() for item in text.split(",")]
        if len(texts) > most:
            raise ValueError(f"{len(texts)} items are too many")
        items: list[T] = []
        for item in texts:
            if not item:
                raise ValueError("an item is empty")
            try:
                value = one(item, folder)
            except NotAllowed as error:
                raise ValueError(f"{error.what}: {shown(item)}") from None
            if value in items:
                raise ValueError(f"listed twice: {shown(item)}")
            items.append(value)
        return tuple(items)

    return Unit(read, f"a list with commas, each item {one.allowed}")


def word_or(word: str, value: U, other: Unit[T]) -> Unit[U | T]:
    """Either I{word}, which stands for I{value}, or what I{other} reads."""

    def read(text: str, folder: Path) -> U | T:
        return value if text == word else other(text, folder)

    return Unit(read, f"{word}, or {other.allowed}", f"{word} | {other.brief}" if other.brief else "")


def either_of(words: tuple[str, ...]) -> str:
    """C{a, b or c}"""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


# texts


def phrase(most: int, allowed: str) -> Unit[str]:
    """One line of at most I{most} bytes of UTF-8."""

    def read(text: str) -> str:
        if len(_one_line(text).encode()) > most:
            raise ValueError("too long")
        return text

    return unit(read, allowed)


def token() -> Unit[str]:
    """A token (RFC 9110 5.6.2)."""

    def read(text: str) -> str:
        if not _TOKEN.fullmatch(text):
            raise ValueError("not a token")
        return text

    return unit(read, "at most 64 letters, digits and characters of !#$%&'*+-.^_`|~")


def language() -> Unit[str]:
    """A tag of a language (RFC 5646), in lower case."""

    def read(text: str) -> str:
        if not _LANGUAGE.fullmatch(text):
            raise ValueError("not a tag of a language")
        return text.lower()

    return unit(read, "a tag of a language like de or pt-BR", "de")


def endpoint() -> Unit[str]:
    """Where to listen (L{sslintercept.config.endpoint}); the text is kept as it is written."""

    def read(text: str) -> str:
        if len(_one_line(text)) > MOST_TEXT:
            raise ValueError("too long")
        parse(text)
        return text

    return unit(read, ALLOWED)


def path() -> Unit[Path]:
    """The path of a file or folder, absolute; a relative one starts from the ini file's folder."""
    return Unit(_resolved, "a path")


def _resolved(text: str, folder: Path) -> Path:
    if len(_one_line(text).encode()) > MOST_TEXT:
        raise ValueError("too long")
    # As text, not as the file system would: etc may be a symbolic link, and ../var is still beside it.
    return Path(os.path.normpath(folder / text))


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError("more than one line")
    return text


# the net


def address(port: int | None = None, literal: bool = False) -> Unit[Address]:
    """
    C{host:port}; IPv6 literals stand in brackets when a port follows.

    @param port: what stands for a port that is left out; without it the port must be given.
    @param literal: take IP addresses only.
    """

    def read(text: str) -> Address:
        host, given = _host_and_port(text)
        if given is None and port is None:
            raise ValueError("no port")
        if given is not None and not (_INTEGER.fullmatch(given) and 1 <= int(given) <= 65535):
            raise ValueError("not a port")
        number = int(given) if given is not None else port
        assert number is not None
        return Address(_host(host, literal), number)

    what = "an IP address" if literal else "a host name or IP address"
    how = "host:port" if port is None else f"host or host:port ({port} if left out)"
    return unit(read, f"{what} as {how}, IPv6 in brackets before a port", "host:port")


def host() -> Unit[str]:
    """A host name or an IP address."""
    return unit(lambda text: _host(text, literal=False), "a host name or IP address")


def dns_answer() -> Unit[tuple[str, ...]]:
    """Addresses, or one of the words that stand for an answer without any."""
    words = ("nxdomain", "nodata", "refused")
    addresses = listed(Unit(lambda text, folder: _host(text, literal=True), "an IP address"), 16)

    def read(text: str, folder: Path) -> tuple[str, ...]:
        return (text,) if text in words else addresses.read(text, folder)

    return Unit(read, f"{either_of(words)}, or up to 16 IP addresses")


def network() -> Unit[IPv4Network | IPv6Network]:
    """An IP address or network (CIDR) without bits behind its prefix."""

    def read(text: str) -> IPv4Network | IPv6Network:
        try:
            return ipaddress.ip_network(text)
        except ValueError as error:
            what = "bits are set behind the prefix" if "host bits" in str(error) else "not a network"
            raise ValueError(what) from None

    return unit(read, "an IP address or a network like 192.0.2.0/24 or 2001:db8::/32")


def _host_and_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError("not an IPv6 address in brackets")
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _host(host: str, literal: bool) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if literal or ":" in host:
            raise ValueError("not an IP address") from None
    name = host.lower().removesuffix(".")
    if not name.isascii():
        raise ValueError("not ASCII, write the name as xn--...")
    labels = name.split(".")
    # A last label of digits would make it an IPv4 address, which it is not (RFC 1123 2.1).
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise ValueError("not a host")
    return name
