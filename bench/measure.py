"""One peer under one case: start it, load it, and read off CPU, memory and loadgen's own figures."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import peer as peers
import witness
from cases import CASES, Case, Objects
from peer import ORIGIN, TMP, Cache, Peer
from report import Run, quiet

PORT = 13128
EXTRA = int(os.environ.get("BENCH_EXTRA", "1"))
"""Runs added while fewer than two were undisturbed."""
PATIENCE = float(os.environ.get("BENCH_PATIENCE", "5"))
"""Seconds to wait for a calm machine before each run."""
ROUNDS = 8
"""Times that a cache is shown the whole working set, at most, until it answers all of it by itself."""


def busy() -> tuple[float, float]:
    """CPU seconds of the whole machine: busy, and stolen by the hypervisor."""
    with open("/proc/stat") as file:
        ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in file.readline().split()[1:]]
    return ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6], ticks[7]


def settle(patience: float) -> None:
    """Wait, up to *patience* seconds, until others leave the machine alone."""
    end = time.time() + patience
    while time.time() < end:
        before = busy()[0]
        time.sleep(0.7)
        if busy()[0] - before < 0.1:
            return


def loadgen(peer: Peer, case: Case, ctx: SimpleNamespace, *extra: object, load: tuple[object, ...] = ()) -> list[str]:
    """The load generator's command line; *load* instead of the case's own."""
    plain = case.mode in ("plain", "connect-raw")
    port = ORIGIN + (2 if case.report == "verify" else 0 if plain else 1)
    mode, target = case.mode, PORT
    if peer.direct:
        mode = "direct-plain" if plain else "direct"
        target = port if peer.port else PORT + (case.mode == "plain")
    words = [
        *(TMP / "loadgen", "--proxy", f"127.0.0.1:{target}", "--mode", mode, "--port", port),
        *("--cafile", ctx.trust if peer.port else ctx.ca, "--proxy-cafile", ctx.proxy_ca),
        *("--proxy-name", "proxy.bench.test", "--connections", case.connections),
        *(load or case.load),
        *extra,
    ]
    return [str(word) for word in words]


def finish(argv: list[str], timeout: float = 100) -> Run:
    return final(subprocess.run(argv, capture_output=True, text=True, timeout=timeout).stdout)


def final(line: str) -> Run:
    """What loadgen printed."""
    try:
        figures: Run = json.loads(line)
    except ValueError:
        return {"failed": (line or "no output")[-200:]}
    return figures


def gated(argv: list[str], during: Callable[[subprocess.Popen[str]], Run]) -> Run:
    """Run loadgen with C{--barrier}: *during* is called once all connections stand."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*argv, "--barrier"], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline().strip()
        result = during(process) if line == "READY" else {"failed": line or "loadgen died"}
        out, _ = process.communicate(timeout=120)
    return {**(final(out) if out else {}), **result}


def held(peer: Peer, case: Case, pid: int, ctx: SimpleNamespace) -> Run:
    """Memory of open connections."""
    few = ("--connections", 4, "--total", 20, "--duration", 10)
    finish(loadgen(peer, case, ctx, *few))
    base = peers.rss(pid)

    def during(process: subprocess.Popen[str]) -> Run:
        time.sleep(1)
        grown = peers.rss(pid)
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        return {"rss_base": base, "rss_held": grown, "rss_per_connection": (grown - base) / case.connections}

    return gated(loadgen(peer, case, ctx), during)


def slow(peer: Peer, case: Case, pid: int, ctx: SimpleNamespace) -> Run:
    """Memory behind slow readers: the peak over the start."""
    finish(loadgen(peer, case, ctx, "--total", 20, "--duration", 5, load=("--size", 1024)))
    base = peak = peers.rss(pid)
    over = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not over.wait(0.1):
            peak = max(peak, peers.rss(pid))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    result = finish(loadgen(peer, case, ctx, "--duration", 8))
    over.set()
    sampler.join()
    return {**result, "rss_base": base, "rss_peak": peak, "rss_growth": peak - base}


def fill(peer: Peer, case: Case, ctx: SimpleNamespace, objects: Objects) -> None:
    """
    Show the cache every object until a whole round needs no origin, or more rounds do not help; once, where nothing may
    be cached.

    The order is not the one that is measured, or a cache that writes one object behind the other would be read from the
    first byte to the last.
    """
    missed, last = objects.count, 0
    for number in range(ROUNDS if objects.fresh else 1):
        before = witness.served()
        finish(loadgen(peer, case, ctx, "--seed", 2 + number, "--total", objects.count, "--duration", 60))
        missed, last = witness.served() - before, missed
        if not missed or (number > 1 and missed >= last):
            return


def kept(peer: Peer, case: Case, pid: int, ctx: SimpleNamespace, duration: float) -> Run:
    """Rate and CPU over connections that stand already; of a cache also what it asked of others."""
    objects = case.objects
    if objects:
        fill(peer, case, ctx, objects)
    if case.warm:
        finish(loadgen(peer, case, ctx, "--duration", 1))

    def during(process: subprocess.Popen[str]) -> Run:
        assert process.stdin is not None
        assert process.stdout is not None
        served, fetched = (witness.served(), witness.fetched(pid)) if objects else (0, 0)
        before = peers.cpu(pid)
        process.stdin.write("GO\n")
        process.stdin.flush()
        line = process.stdout.readline()
        run = {**final(line), "cpu_s": peers.cpu(pid) - before}
        if objects and run.get("requests"):
            run["missed"] = min(1.0, (witness.served() - served) / run["requests"])
            run["device_bytes_per_request"] = (witness.fetched(pid) - fetched) / run["requests"]
            run["memory"] = witness.memory(pid)
        return run

    with witness.evicting(ctx.store) if objects and objects.evict else contextlib.nullcontext():
        return gated(loadgen(peer, case, ctx, "--duration", duration), during)


def counted(peer: Peer, case: Case, pid: int, ctx: SimpleNamespace, duration: float) -> Run:
    """Rate and CPU from the first connection on."""
    if case.cold:  # code paths warm, certificates cold: one host name outside the thousand
        one = ("--hosts", "warm%d.bench.test", "--nhosts", 1, "--total", 8, "--duration", 5)
        finish(loadgen(peer, case, ctx, *one))
    else:
        finish(loadgen(peer, case, ctx, "--duration", 0.7))
    before = peers.cpu(pid)
    result = finish(loadgen(peer, case, ctx, "--duration", case.limit or duration))
    time.sleep(0.05)
    return {**result, "cpu_s": peers.cpu(pid) - before}


def one(peer: Peer, case: Case, pid: int, ctx: SimpleNamespace, duration: float) -> Run:
    """One timed run against a running peer."""
    if case.report == "held":
        return held(peer, case, pid, ctx)
    if case.report == "slow":
        return slow(peer, case, pid, ctx)
    if case.keep:
        result = kept(peer, case, pid, ctx, duration)
        if not (result.get("failed") and case.per == "GB"):
            return result  # else too slow for the first bodies to be warm-up: count from the start
    return counted(peer, case, pid, ctx, duration)


def with_unit_costs(case: Case, run: Run) -> Run:
    """Add the CPU per unit."""
    if "cpu_s" in run and run.get("requests"):
        if case.per == "GB" and run[f"bytes_{case.way}"]:
            run["cpu_s_per_GB"] = run["cpu_s"] / (run[f"bytes_{case.way}"] / 1e9)
        elif case.per in ("request", "connection"):
            run[f"cpu_us_per_{case.per}"] = run["cpu_s"] / run["requests"] * 1e6
    return run


def timed(peer: Peer, case: Case, pid: int, ctx: SimpleNamespace, duration: float) -> Run:
    """L{one} under the machine-wide lock, with what others used of the machine meanwhile."""
    settle(PATIENCE)
    with open(f"{TMP}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began, own = time.time(), peers.cpu(os.getpid())
        used, stolen = busy()
        run = one(peer, case, pid, ctx, duration)
        wall, (used_now, stolen_now) = time.time() - began, busy()
        run["foreign_cpu"] = (used_now - used - (peers.cpu(os.getpid()) - own)) / wall
        run["steal"] = (stolen_now - stolen) / wall
    return with_unit_costs(case, run)


def measure(peer: Peer, name: str, runs: int, duration: float) -> dict[str, object]:
    """All runs of one peer and case, as they are stored."""
    case, done = CASES[name], list[Run]()
    once = case.report != "rate"
    kind = case.cap if case.cap in ("tunnel", "tls") else "bump" if "bump" in peer.caps else "tunnel"
    https = ORIGIN + (2 if case.report == "verify" else 1)
    cache = case.objects and Cache(case.objects.memory, case.objects.disk, case.cap == "bump-cache")
    process = None
    try:
        while len(done) < (1 if once else runs + EXTRA) and not (len(done) >= runs and sum(map(quiet, done)) >= 2):
            if process is None or case.cold or process.poll() is not None:
                if process:
                    peers.stop(process)
                process, ctx = peers.start(peer, kind, PORT, https, cache)
            run = timed(peer, case, process.pid, ctx, duration)
            run["exited"] = process.poll()  # None: still alive, as it should be
            done.append(run)
            if run.get("failed") or (run.get("requests") == 0 and not once):
                break
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # a peer that cannot do a case is a result too
        done.append({"failed": f"{type(error).__name__}: {error}"[:700]})
    finally:
        if process:
            peers.stop(process)
    return {"peer": peer.name, "case": name, "when": time.strftime("%F %T"), "duration": duration, "runs": done}
