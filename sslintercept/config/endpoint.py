"""
Endpoint strings: where a listener is, understood before anything is opened.

They are Twisted's (serverFromString), of the kinds that we listen with; C{udp} and C{udp6} are ours, in the same form.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final, NamedTuple

ARGUMENTS: Final = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "udp": ("port", "interface"),
    "udp6": ("port", "interface"),
    "systemd": ("domain", "index", "name"),
}
"""the kinds, each with its arguments in the order in which they need no name"""
ALLOWED: Final = (
    "a Twisted server endpoint of the kind tcp, tcp6 or systemd, like tcp:8080:interface=127.0.0.1; "
    "for datagrams udp or udp6 in the same form"
)
EVERYWHERE: Final = {"tcp": "0.0.0.0", "tcp6": "::", "udp": "0.0.0.0", "udp6": "::"}
"""where a port is without an interface"""
DOMAINS: Final = ("INET", "INET6")

_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_COLON: Final = re.compile(r"(?<!\\):")


class Endpoint(NamedTuple):
    """Where to listen."""

    kind: str
    host: str = ""
    """empty where systemd knows"""
    port: int = 0
    """0 for any"""

    @property
    def transport(self) -> str:
        """C{TCP} or C{UDP}."""
        return "UDP" if self.kind.startswith("udp") else "TCP"

    def collides(self, other: Endpoint) -> bool:
        """Whether both cannot be opened: one port on the same address, or on every address beside one."""
        if self.transport != other.transport or self.port != other.port or not self.port:
            return False
        if self.host == other.host:
            return True
        try:
            one, two = ip_address(self.host), ip_address(other.host)
        except ValueError:
            return False  # by name: the kernel will say
        if one.version == two.version:
            return one == two or one.is_unspecified or two.is_unspecified
        # A TCP port on every IPv6 address takes IPv4 too.
        return self.transport == "TCP" and (one if one.version == 6 else two).is_unspecified


def parse(text: str) -> Endpoint:
    """@raise ValueError: what is wrong with it."""
    kind, *values = _COLON.split(text)
    if not _KIND.fullmatch(kind) or not any(values):
        raise ValueError("not an endpoint")
    if kind in ("ssl", "tls"):
        raise ValueError("TLS is not the endpoint's affair; write tcp, and accept = tls")
    if kind not in ARGUMENTS:
        raise ValueError(f"{kind} is no kind of endpoint that is served")
    given = _arguments(kind, values)
    if kind == "systemd":
        _check_systemd(given)
        return Endpoint(kind)
    port = given.get("port", "")
    if not _NUMBER.fullmatch(port) or int(port) > 65535:
        raise ValueError("no port from 0 to 65535")
    if not _NUMBER.fullmatch(given.get("backlog", "0")):
        raise ValueError("backlog is no number")
    return Endpoint(kind, given.get("interface") or EVERYWHERE[kind], int(port))


def _arguments(kind: str, values: list[str]) -> dict[str, str]:
    names = ARGUMENTS[kind]
    given: dict[str, str] = {}
    position = 0
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals:
            if position == len(names):
                raise ValueError(f"{kind} takes {len(names)} arguments at most: {', '.join(names)}")
            name, rest, position = names[position], value, position + 1
        if name not in names:
            raise ValueError(f"{kind} takes no {name}; it takes {', '.join(names)}")
        if name in given:
            raise ValueError(f"{name} is given twice")
        given[name] = re.sub(r"\\(.)", r"\1", rest)
    return given


def _check_systemd(given: dict[str, str]) -> None:
    if given.get("domain") not in DOMAINS:
        raise ValueError("domain is neither INET nor INET6")
    if ("index" in given) == ("name" in given):
        raise ValueError("give either index or name")
    if not _NUMBER.fullmatch(given.get("index", "0")):
        raise ValueError("index is no number")
