#!/usr/bin/env python3
"""
Peers x cases -> bench/results/*.json and two tables.

  run.py                          the short set of cases, the usual peers as far as they are installed
  run.py -p squid,sslintercept -c bump-rps,bump-cps [-n 3] [-d 5]
  run.py --all                    every installed peer, every case (the better part of an hour)
  run.py --list | --table

Runs itself again in a network and mount namespace of its own (needs root): an own loopback, so no ports clash and no
traffic leaves the machine, and an /etc/hosts seen only there. Every timed run holds one lock.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import measure
import peer
from cases import CASES, HOSTS, SHORT
from report import cell, median, tables

HERE = Path(__file__).resolve().parent
RESULTS = Path(os.environ.get("BENCH_RESULTS", HERE / "results"))
USUAL = ("nothing", "squid", "ats", "mitmproxy", "sslintercept")
ORDER = (
    *("nothing", "haproxy-tcp", "nginx-stream", "haproxy-tls", "sslsplit", "sslsplit-https"),
    *("squid", "squid-2w", "squid-rsa", "squid-rock", "ats", "mitmproxy", "mitmproxy-stream", "proxypy"),
    *("sslintercept", "sslintercept-2w"),
)


def load_peers() -> dict[str, peer.Peer]:
    """Every peer there is an adapter for, in the order of the table."""
    modules = [importlib.import_module(f"adapters.{file.stem}") for file in (HERE / "adapters").glob("*.py")]
    found = {each.name: each for module in modules for each in module.PEERS}
    return {name: found.pop(name) for name in ORDER if name in found} | found


def able(each: peer.Peer) -> list[str]:
    """The cases *each* can do."""
    return [name for name, case in CASES.items() if case.cap in each.caps and name not in each.skip]


def enter_namespaces() -> None:
    """Leave the machine's network; comes back in a new process. Names h0..h999.bench.test lead to the origin."""
    if os.environ.get("BENCH_NAMESPACE") != "1":
        command = ["unshare", "--net", "--mount", sys.executable, *sys.argv]
        os.execvpe(command[0], command, dict(os.environ, BENCH_NAMESPACE="1"))
    names = "".join(f"127.0.0.1 h{number}.bench.test\n" for number in range(HOSTS))
    own = f"127.0.0.1 localhost\n127.0.0.1 {os.uname().nodename} proxy.bench.test\n"
    (peer.TMP / "hosts").write_text(own + names)
    (peer.TMP / "host.conf").write_text("multi off\n")  # else glibc reads on past the first match
    peer.sh("ip", "link", "set", "lo", "up")
    # Unused; without it getaddrinfo takes the machine for one without IPv4, as it does not count 127.0.0.1.
    peer.sh("ip", "addr", "add", "198.18.0.1/32", "dev", "lo")
    for name in ("hosts", "host.conf"):
        if Path("/etc", name).exists():
            peer.sh("mount", "--bind", peer.TMP / name, f"/etc/{name}")
    for name, value in (("ip_local_port_range", "20000 65000"), ("tcp_tw_reuse", "1")):
        Path("/proc/sys/net/ipv4", name).write_text(value)


def build() -> None:
    """Compile the load generator and the origin, unless they are newer than their sources."""
    for name in ("loadgen", "origin"):
        source, program = HERE / f"{name}.c", peer.TMP / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            peer.sh("cc", "-O2", "-pthread", "-o", program, source, "-lssl", "-lcrypto")


def run(peers: list[peer.Peer], cases: list[str], options: argparse.Namespace) -> None:
    """Measure; one line and one file a peer and case."""
    peer.TMP.mkdir(parents=True, exist_ok=True)
    enter_namespaces()
    build()
    ca = peer.make_cas()
    command = [peer.TMP / "origin", str(peer.ORIGIN), ca / "origin.pem", ca / "origin.key", str(HOSTS), "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as origin:
        try:
            assert origin.stdout is not None
            origin.stdout.readline()
            for each in peers:
                for name in cases:
                    if name in able(each):
                        store(measure.measure(each, name, options.runs, options.duration), options.more)
        finally:
            origin.kill()


def store(result: dict[str, object], more: bool) -> None:
    file = RESULTS / f"{result['peer']}__{result['case']}.json"
    runs = result["runs"]
    assert isinstance(runs, list)
    if more and file.exists():
        runs[:0] = json.loads(file.read_text())["runs"]
    file.write_text(json.dumps(result, indent=1))
    middle = median(runs)
    words = cell(str(result["case"]), middle), middle.get("failed", "")[:200]
    print(time.strftime("%T"), f"{result['peer']:18} {result['case']:12}", *words, flush=True)


def chosen(names: str | None, all_names: bool, known: dict[str, peer.Peer]) -> list[peer.Peer]:
    """The peers to run. One asked for by name must be there."""
    if names:
        for name in names.split(","):
            if name not in known:
                raise SystemExit(f"there is no peer {name}; known are {', '.join(known)}")
            if not known[name].installed():
                raise SystemExit(f"{name} is not installed: {known[name].program} was not found")
        return [known[name] for name in names.split(",")]
    wanted = [each for each in known.values() if all_names or each.name in USUAL]
    absent = [each.name for each in wanted if not each.installed()]
    if absent:
        print("not installed, so left out:", *absent, flush=True)
    return [each for each in wanted if each.installed()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--peers", help="comma-separated")
    parser.add_argument("-c", "--cases", help="comma-separated")
    parser.add_argument("-n", "--runs", type=int, default=2, help="of each case (default 2)")
    parser.add_argument("-d", "--duration", type=float, default=4, help="seconds of a run (default 4)")
    parser.add_argument("--all", action="store_true", help="every installed peer, every case")
    parser.add_argument("--more", action="store_true", help="add to the stored runs instead of replacing them")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--table", action="store_true", help="only print the tables of the stored results")
    options = parser.parse_args()
    known = load_peers()
    if options.list:
        for name, each in known.items():
            print(f"{name:18}", "installed    " if each.installed() else "not installed", *able(each))
        return
    if not options.table:
        cases = options.cases.split(",") if options.cases else list(CASES if options.all else SHORT)
        for name in cases:
            if name not in CASES:
                parser.error(f"there is no case {name}; known are {', '.join(CASES)}")
        if os.geteuid() != 0:
            parser.error("it needs root, for a network namespace of its own; try again with sudo")
        for tool in ("unshare", "ip", "cc", "openssl"):
            if not shutil.which(tool):
                parser.error(f"{tool} is missing; scripts/install-system-packages installs what is needed")
        RESULTS.mkdir(parents=True, exist_ok=True)
        run(chosen(options.peers, options.all, known), cases, options)
    text = tables(RESULTS, {name: able(each) for name, each in known.items()})
    (RESULTS / "RESULTS.md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
