"""
The system's resolv.conf(5), and the order in which search domains are tried.

Lines that cannot be understood are ignored, as every resolver does.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from sslintercept.dns.message import BadName, text, wire
from sslintercept.dns.server import MAX_NAMED, WAITS
from sslintercept.facts import Address

LARGEST = 64 * 1024
"""bytes of the file that are read"""
PORT = 53
"""the port of every server named in it"""
MOST_DOMAINS = 8
"""search domains"""
MOST_TRIES = 12
"""attempts for one question"""
TIMEOUT, ROUNDS = 5, 2
"""what C{timeout} and C{attempts} are where only the other one is said"""
MOST_NDOTS, MOST_TIMEOUT, MOST_ROUNDS = 15, 30, 5
"""what C{ndots}, C{timeout} and C{attempts} are cut to"""
LOCAL = (Address("127.0.0.1", PORT),)
"""who is asked when no server is named"""


@dataclass(frozen=True, slots=True)
class Search:
    """
    Domains that are tried behind a name.

    @ivar ndots: with as many dots a name is tried as it is first, else last.
    """

    domains: tuple[bytes, ...] = ()
    ndots: int = 1

    def names(self, name: str) -> tuple[bytes, ...]:
        """
        The names to try for C{name}, in order; with a trailing dot it is the only one.

        @raise BadName: it is no name.
        """
        plain = wire(name)
        if not self.domains or name.endswith("."):
            return (plain,)
        extended = []
        for domain in self.domains:
            try:
                extended.append(wire(f"{name}.{text(domain)}"))
            except BadName:
                continue  # too long behind this domain
        return (plain, *extended) if name.count(".") >= self.ndots else (*extended, plain)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What the file says."""

    servers: tuple[Address, ...] = LOCAL
    search: Search = Search()
    timeout: int | None = None
    rounds: int | None = None
    rotate: bool = False
    use_vc: bool = False

    @property
    def waits(self) -> tuple[float, ...]:
        """
        The schedule of attempts: as the file wants it, every server once a round, or ours if it does not say.

        resolv.conf(5) waits 5 s for each answer, which is longer than anybody likes to wait for a page.
        """
        if self.timeout is None and self.rounds is None:
            return WAITS
        tries = min((self.rounds or ROUNDS) * len(self.servers), MOST_TRIES)
        return (float(self.timeout or TIMEOUT),) * tries


def load(path: Path) -> ResolvConf:
    """Read C{path}; a file that is not there says nothing."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return parse(file.read(LARGEST))
    except OSError:
        return ResolvConf()


def parse(content: str) -> ResolvConf:
    """Understand the text of the file."""
    servers: list[Address] = []
    domains: tuple[bytes, ...] = ()
    options: dict[str, int] = {}
    for line in content.splitlines():
        fields = line.split("#")[0].split(";")[0].split()
        if len(fields) < 2:
            continue
        keyword, values = fields[0], fields[1:]
        if keyword == "nameserver":
            try:
                servers.append(Address(str(ip_address(values[0])), PORT))
            except ValueError:
                continue
        elif keyword in ("search", "domain"):
            domains = _domains(values)
        elif keyword == "options":
            for value in values:
                name, _, number = value.partition(":")
                options[name] = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 1
    return ResolvConf(
        tuple(dict.fromkeys(servers))[:MAX_NAMED] or LOCAL,
        Search(domains, min(options.get("ndots", 1), MOST_NDOTS)),
        min(max(options["timeout"], 1), MOST_TIMEOUT) if "timeout" in options else None,
        min(max(options["attempts"], 1), MOST_ROUNDS) if "attempts" in options else None,
        "rotate" in options,
        "use-vc" in options,
    )


def _domains(values: list[str]) -> tuple[bytes, ...]:
    """The search domains of a line; the last such line counts."""
    domains = []
    for value in values:
        try:
            domain = wire(value)
        except BadName:
            continue
        if domain != wire("."):
            domains.append(domain)
    return tuple(domains[:MOST_DOMAINS])
