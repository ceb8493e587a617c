"""The cases: what is loaded on a proxy, and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

KIB, MIB = 1 << 10, 1 << 20
HOSTS = 1000
ONCE = ("--requests-per-connection", 1)


@dataclass(frozen=True)
class Objects:
    """
    What is asked for again and again, each as often as the others, where a cache is measured.

    @ivar count: how many.
    @ivar size: of one, in bytes.
    @ivar memory: how much of them a proxy may keep in memory, in bytes.
    @ivar disk: they do not fit, so a proxy needs a disk.
    @ivar evict: the kernel's page cache is kept free of the proxy's files while it is measured.
    @ivar fresh: they may be cached.
    """

    count: int
    size: int
    memory: int = 64 * MIB
    disk: bool = False
    evict: bool = False
    fresh: bool = True

    @property
    def load(self) -> tuple[object, ...]:
        """Options of loadgen."""
        path = f"/{'cached' if self.fresh else 'uncached'}/%d/{self.size}"
        return ("--path", path, "--npaths", self.count, "--size", self.size)


@dataclass(frozen=True)
class Case:
    """
    @ivar cap: the capability it needs (see L{peer.Peer}).
    @ivar mode: how loadgen speaks to the proxy.
    @ivar connections: at once.
    @ivar load: further options of loadgen.
    @ivar per: the unit of the CPU figure; empty where memory or a yes or no is reported.
    @ivar keep: connections are kept, and counted only once all of them stand.
    @ivar warm: a second of load goes before the counting.
    @ivar cold: the proxy is started anew for each run.
    @ivar way: C{down} or C{up} where bytes are counted.
    @ivar limit: seconds, instead of the duration asked for.
    @ivar objects: what is asked for, and the proxy's cache is on.
    @ivar beside: the case that asks for the same but may not be answered from a cache.
    @ivar report: C{rate}, C{held} (memory of open connections), C{slow} (memory behind slow readers) or C{verify}.
    """

    cap: str
    mode: str
    connections: int
    load: tuple[object, ...]
    per: str = ""
    keep: bool = False
    warm: bool = True
    cold: bool = False
    way: str = ""
    limit: float = 0
    objects: Objects | None = None
    beside: str = ""
    report: str = "rate"


def requests(cap: str, mode: str) -> Case:
    return Case(cap, mode, 64, ("--size", 1024), per="request", keep=True)


def connections(cap: str, mode: str) -> Case:
    return Case(cap, mode, 16, ("--size", 1024, *ONCE), per="connection")


def bulk(cap: str, mode: str, way: str) -> Case:
    option = "--size" if way == "down" else "--upload"
    return Case(cap, mode, 4, (option, 64 * MIB, "--timeout", 60), per="GB", keep=True, warm=False, way=way)


def cached(objects: Objects, beside: str = "", cap: str = "cache", mode: str = "plain") -> Case:
    load = (*objects.load, "--seed", 1)
    return Case(cap, mode, 64, load, per="request", keep=True, objects=objects, beside=beside)


BUMP = ("bump-cache", "connect-tls")
SMALL, LARGE = Objects(100, KIB), Objects(100, 64 * KIB)
MANY = Objects(4000, 64 * KIB, memory=8 * MIB, disk=True)
"""250 MiB, of which a proxy may keep a thirtieth in memory."""

FORGE = ("--size", 1024, *ONCE, "--nhosts", HOSTS, "--total", HOSTS)
SLOW = ("--size", 256 * MIB, "--read-rate", 4 * MIB, "--timeout", 60)

CASES = {
    "plain-rps": requests("plain", "plain"),
    "bump-rps": requests("bump", "connect-tls"),
    "bump-cps": connections("bump", "connect-tls"),
    "bump-forge": Case("bump", "connect-tls", 16, FORGE, per="connection", cold=True, limit=20),
    "bump-down": bulk("bump", "connect-tls", "down"),
    "bump-up": bulk("bump", "connect-tls", "up"),
    "tunnel-down": bulk("tunnel", "connect-raw", "down"),
    "tunnel-cps": connections("tunnel", "connect-raw"),
    "hit-ram": cached(SMALL, "miss"),
    "miss": cached(replace(SMALL, fresh=False)),
    "hit-ram-64k": cached(LARGE, "miss-64k"),
    "hit-disk": cached(replace(MANY, evict=True), "miss-64k"),
    "hit-pages": cached(MANY, "miss-64k"),
    "miss-64k": cached(replace(LARGE, fresh=False)),
    "bump-hit": cached(SMALL, "bump-miss", *BUMP),
    "bump-miss": cached(replace(SMALL, fresh=False), "", *BUMP),
    "tls-rps": requests("tls", "https-proxy"),
    "tls-cps": connections("tls", "https-proxy"),
    "mem-idle": Case("bump", "connect-tls", 1000, ("--size", 1024, "--ramp", 16), report="held"),
    "mem-slow": Case("bump", "connect-tls", 4, SLOW, report="slow"),
    "verify": Case("bump", "connect-tls", 2, ("--size", 1024, *ONCE, "--total", 10), report="verify"),
}
SHORT = ("plain-rps", "hit-ram", "hit-disk", "bump-rps", "bump-cps", "bump-down", "tunnel-down", "verify")
"""What is run where no cases are named; with five peers some minutes."""
