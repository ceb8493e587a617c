"""
All that knows names in one process, put together from the settings: hosts file, table, processor, name servers.

One L{Names} serves every generation of settings whose C{[dns]} sections, and what resolv.conf said, are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted.internet.defer import Deferred

from sslintercept.config.schema import DnsSettings, SplitDnsSettings
from sslintercept.dns.alarm import Clock
from sslintercept.dns.answer import Answer
from sslintercept.dns.host import BOTH
from sslintercept.dns.hostdb import HostDB
from sslintercept.dns.hosts import HostsFile, special
from sslintercept.dns.message import AAAA, A, wire
from sslintercept.dns.processor import DnsProcessor
from sslintercept.dns.resolvconf import ResolvConf, Search, load
from sslintercept.dns.server import WAITS, Health, NameServers, ServerGroup
from sslintercept.facts import Address

if TYPE_CHECKING:
    from sslintercept.dns.stream import OpenStream
    from sslintercept.dns.transport import Handler

IF_INET6: Final = Path("/proc/net/if_inet6")
"""the kernel's list of IPv6 addresses of this machine"""
BEYOND_LINK: Final = "00"
"""the scope of those that are good beyond the link"""
LOOK: Final = 30.0
"""seconds between two looks at it"""
PORT, SECURE_PORT = 53, 853

OpenSecure = Callable[[str], "OpenStream"]
"""Makes what opens streams of TLS to servers whose certificates are for this name."""


class Wanted(NamedTuple):
    """What L{Names} are made from; equal ones make equal ones."""

    dns: DnsSettings
    split: tuple[SplitDnsSettings, ...]
    system: ResolvConf | None

    @classmethod
    def of(cls, dns: DnsSettings, split: tuple[SplitDnsSettings, ...]) -> Wanted:
        """Read resolv.conf, if the settings look at it."""
        return cls(dns, split, load(dns.resolv_conf) if dns.servers == "system" else None)

    def servers(self) -> NameServers:
        """The groups of name servers."""
        dns, system = self.dns, self.system
        rotate = dns.rotate or (system is not None and system.rotate)
        servers = system.servers if system is not None else dns.servers
        assert servers != "system"
        default = ServerGroup(self._secured(servers), rotate=rotate)
        split = {}
        for one in self.split:
            group = ServerGroup(self._secured(one.servers), rotate=one.rotate)
            split.update(dict.fromkeys(one.domains, group))
        return NameServers(default, split)

    def _secured(self, servers: Sequence[Address]) -> list[Address]:
        if self.dns.tls == "off":
            return list(servers)
        return [server if server.port != PORT else Address(server.host, SECURE_PORT) for server in servers]

    def search(self) -> Search:
        """The search domains."""
        wanted = self.dns.search
        if wanted == "system":
            return self.system.search if self.system is not None else Search()
        return Search() if wanted == "none" else Search(tuple(map(wire, wanted)))


class Names:
    """
    @param secure: opens streams of TLS; needed where the settings want them.
    @ivar hostdb: the table of hosts.
    @ivar processor: asks the name servers for anything else; C{servers}: who they are.
    @ivar families: the types of addresses that are asked for.
    """

    def __init__(self, handler: Handler, clock: Clock, wanted: Wanted, secure: OpenSecure | None = None) -> None:
        dns, system = wanted.dns, wanted.system
        self._clock = clock
        self.servers = wanted.servers()
        self.families = Families(clock, dns.families)
        self.processor = DnsProcessor(
            handler,
            clock,
            self.servers,
            waits=system.waits if system is not None else WAITS,
            search=wanted.search(),
            tcp=dns.tcp or (system is not None and system.use_vc),
            open_stream=secure(dns.tls) if secure is not None and dns.tls != "off" else None,
            mix_case=dns.mix_case,
        )
        self.hostdb = HostDB(
            clock,
            HostsFile(dns.hosts),
            self.processor.query,
            families=self.families,
            most=dns.cache_size,
            stale=dns.serve_stale,
            patience=dns.timeout,
        )

    def start(self) -> None:
        """From now on names are looked up."""
        self.processor.start()

    def stop(self) -> None:
        """Fail whoever waits, and close every socket."""
        self.hostdb.stop()
        self.processor.stop()

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """See L{HostDB.resolve}."""
        return self.hostdb.resolve(host)

    def query(self, name: str, rtype: int, deadline: float) -> Deferred[Answer]:
        """See L{DnsProcessor.query}."""
        return self.processor.query(name, rtype, deadline)

    def raw(self, name: bytes, rtype: int, cls: int, deadline: float, *, flags: int, signed: bool) -> Deferred[Answer]:
        """See L{DnsProcessor.raw}."""
        return self.processor.raw(name, rtype, cls, deadline, flags=flags, signed=signed)

    def listed(self, name: str) -> Sequence[str] | None:
        """
        The addresses of C{name}, folded, where no server is asked for it: it is in the hosts file, or special; none
        where such a name is nowhere.
        """
        name = name.rstrip(".")
        found = self.hostdb.hosts.get(name, self._clock.seconds())
        return found if found is not None else special(name)

    def health(self) -> list[Health]:
        """Every server's health."""
        return self.servers.health()

    def summary(self) -> str:
        """What was done so far, in a line for the log."""
        found, sent = self.hostdb.counters, self.processor.counters
        down = [one.server for one in self.health() if not one.up]
        return (
            f"names: {found.kept} from the table ({found.negative} negative), {found.hosts} from the hosts file, "
            f"{found.stale} stale, {found.shared} shared, {found.asked} looked up, {found.refreshed} refreshed, "
            f"{found.failed} failed, {found.expired} too slow, {found.refused} refused; {sent.sent} messages sent, "
            f"{sent.coalesced} coalesced, {sent.retries} retries, {sent.timeouts} without an answer, "
            f"{sum(sent.dropped.values())} answers dropped; {len(self.hostdb)} names kept; "
            f"servers down: {', '.join(down) or 'none'}"
        )


class Families:
    """
    Which types of addresses are asked for.

    @param wanted: C{auto}, C{both}, C{ipv4} or C{ipv6}.
    """

    def __init__(self, clock: Clock, wanted: str, path: Path = IF_INET6) -> None:
        self._clock = clock
        self._path = path
        self._look_at = float("-inf") if wanted == "auto" else float("inf")
        self._types: Sequence[int] = {"ipv4": (A,), "ipv6": (AAAA,)}.get(wanted, BOTH)

    def __call__(self) -> Sequence[int]:
        """Now; addresses come and go."""
        if (now := self._clock.seconds()) >= self._look_at:
            self._look_at = now + LOOK
            self._types = BOTH if has_address(self._path) else (A,)
        return self._types


def has_address(path: Path = IF_INET6) -> bool:
    """Whether this machine has an IPv6 address beyond its link (as C{AI_ADDRCONFIG} of getaddrinfo(3) asks)."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return False
    return any(len(fields := line.split()) > 3 and fields[3] == BEYOND_LINK for line in text.splitlines())
