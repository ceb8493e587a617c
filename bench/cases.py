"""The cases: what is loaded on a proxy, and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
HOSTS = 1000
ONCE = ("--requests-per-connection", 1)


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
    report: str = "rate"


def requests(cap: str, mode: str) -> Case:
    return Case(cap, mode, 64, ("--size", 1024), per="request", keep=True)


def connections(cap: str, mode: str) -> Case:
    return Case(cap, mode, 16, ("--size", 1024, *ONCE), per="connection")


def bulk(cap: str, mode: str, way: str) -> Case:
    option = "--size" if way == "down" else "--upload"
    return Case(cap, mode, 4, (option, 64 * MIB, "--timeout", 60), per="GB", keep=True, warm=False, way=way)


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
    "tls-rps": requests("tls", "https-proxy"),
    "tls-cps": connections("tls", "https-proxy"),
    "mem-idle": Case("bump", "connect-tls", 1000, ("--size", 1024, "--ramp", 16), report="held"),
    "mem-slow": Case("bump", "connect-tls", 4, SLOW, report="slow"),
    "verify": Case("bump", "connect-tls", 2, ("--size", 1024, *ONCE, "--total", 10), report="verify"),
}
SHORT = ("plain-rps", "bump-rps", "bump-cps", "bump-down", "tunnel-down", "verify")
"""What is run where no cases are named; with four peers a few minutes."""
