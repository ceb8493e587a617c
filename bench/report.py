"""Runs to medians, medians to tables."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cases import CASES, KIB, MIB, Case

Run = dict[str, Any]
"""What loadgen printed of one run, with what was measured beside it."""

QUIET_CPU, QUIET_STEAL = 0.2, 0.15
"""A run is undisturbed when others used, and the hypervisor took, less than this; in cores."""

TOLERATED = 0.001
"""The share of hits among misses, and the other way round, that needs no mark."""

LEGEND = """\
Each cell: raw rate; CPU of the proxy (its whole process tree) per request, connection or GB. Median of the undisturbed
runs; in parentheses the least CPU figure of all runs; `[q/n]`: q of n runs were undisturbed; `~`: none was, so the
least disturbed one. `-`: not run; n/a: the peer cannot. Load generator, origin and proxy share the machine, so the CPU
figure says more than the raw rate. `MISSED`: that share of the requests reached the origin where all should have been
hits; `HIT`: that share did not where all should have.
"""
CACHES = """\
Missed: the share of the requests that reached the origin, as it counted them. Device: what the proxy had read from
disks for an answer, without what the page cache gave. Memory: of the proxy with its cache after a run, pages shared by
its processes counted once. Miss / hit: CPU of a miss by that of a hit, for answers of the same size.
"""


def quiet(run: Run) -> bool:
    """Was the machine ours?"""
    return bool(run.get("foreign_cpu", 9) < QUIET_CPU and run.get("steal", 9) < QUIET_STEAL)


def moved(run: Run) -> float:
    return float(run.get("bytes_down", 0) + run.get("bytes_up", 0)) / (run.get("elapsed") or 1)


def median(runs: list[Run]) -> Run:
    """
    The (lower) median of the undisturbed good runs, or the least disturbed run, marked noisy, when there is none; with
    the least CPU figure of all runs beside it. Errors are summed up.
    """
    signs = ("requests", "bytes_down", "bytes_up", "rss_held", "rss_peak", "errors")
    good = [run for run in runs if not run.get("failed") and any(run.get(sign) for sign in signs)]
    if not good:
        return runs[-1] if runs else {}
    calm = sorted(filter(quiet, good), key=moved)
    least = min(good, key=lambda run: run.get("foreign_cpu", 9) + run.get("steal", 9))
    result = dict(calm[(len(calm) - 1) // 2] if calm else least)
    result["noisy"], result["quiet_runs"] = not calm, f"{len(calm)}/{len(runs)}"
    for key in list(result):
        if key.startswith("cpu_") and key != "cpu_s":
            result["cpumin_" + key.removeprefix("cpu_")] = min(run[key] for run in good if key in run)
    result["errors_all_runs"] = sum(run.get("errors", 0) for run in runs)
    return result


def strays(case: Case, result: Run) -> str:
    """The mark of a run that met the cache too seldom, or too often."""
    if not case.objects or "missed" not in result:
        return ""
    share = result["missed"] if case.objects.fresh else 1 - result["missed"]
    return f" {'MISSED' if case.objects.fresh else 'HIT'} {share:.1%}" if share > TOLERATED else ""


def cell(name: str, result: Run) -> str:
    """One cell of the table: case *name*, the median *result*."""
    case = CASES[name]
    if case.report == "verify":
        return "?" if "requests" not in result else "NO" if result["requests"] else "yes"
    if result.get("failed"):
        return "fails"
    end = f" ({result['errors_all_runs']} err)" if result.get("errors_all_runs") else ""
    end += strays(case, result)
    end += f" {'~' if result.get('noisy') else ''}[{result.get('quiet_runs')}]"
    if case.report == "held":
        return f"{result['rss_per_connection'] / 1024:.1f} KiB{end}" if "rss_per_connection" in result else "fails"
    if case.report == "slow":
        return f"+{result['rss_growth'] / MIB:.0f} MiB{end}" if "rss_growth" in result else "fails"
    if not any(result.get(key) for key in ("requests", "bytes_down", "bytes_up")):
        return f"fails{end}"
    if case.per == "GB":
        figures = f"{result.get('cpu_s_per_GB', 0):.2f} ({result.get('cpumin_s_per_GB', 0):.2f}) s/GB"
        return f"{result[f'mb_{case.way}_s']:.0f} MB/s; {figures}{end}"
    key = f"us_per_{case.per}"
    figures = f"{result.get('cpu_' + key, 0):.0f} ({result.get('cpumin_' + key, 0):.0f}) us"
    return f"{result['rps']:.0f}/s; {figures}{end}"


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def tables(folder: Path, able: dict[str, Collection[str]]) -> str:
    """
    The results in *folder* as markdown.

    @param able: for each known peer, in the order of the table, the cases it can do.
    """
    got: dict[tuple[str, str], Run] = {}
    for file in folder.glob("*__*.json"):
        stored = json.loads(file.read_text())
        if stored["case"] in CASES:
            got[stored["peer"], stored["case"]] = median(stored["runs"])
    seen = {peer for peer, _ in got}
    peers = [name for name in able if name in seen] + sorted(seen - set(able))
    cases = [name for name in CASES if any(name == case for _, case in got)]

    def entry(peer: str, case: str) -> str:
        if (peer, case) in got:
            return cell(case, got[peer, case])
        return "-" if case in able.get(peer, CASES) else "n/a"

    rates = [row("peer", *cases), "|---" * (len(cases) + 1) + "|"]
    rates += [row(peer, *(entry(peer, case) for case in cases)) for peer in peers]
    heads = ("peer", "case", "p50 ms", "p90", "p99", "max", "leaf", "TLS to client", "errors by kind")
    times = [row(*heads), "|---" * len(heads) + "|"]
    for peer in peers:
        for case in cases:
            result = got.get((peer, case), {})
            if result.get("requests") and CASES[case].report == "rate":
                spread = [result["latency_ms"][key] for key in ("p50", "p90", "p99", "max")]
                times.append(row(peer, case, *spread, result["leaf"], result["tls"], result["errors_by_kind"] or ""))
    parts = ["# Results", "", LEGEND, *rates, "", "## Latency", "", *times, ""]
    measured = [caching(peer, case, got) for peer in peers for case in cases if "missed" in got.get((peer, case), {})]
    if measured:
        heads = ("peer", "case", "answers/s", "CPU us", "missed", "device KiB", "memory MiB", "miss / hit")
        parts += ["## Caches", "", CACHES, row(*heads), "|---" * len(heads) + "|", *measured, ""]
    return "\n".join(parts)


def caching(peer: str, case: str, got: dict[tuple[str, str], Run]) -> str:
    """One line on a cache."""
    key, result = "cpu_us_per_request", got[peer, case]
    miss = got.get((peer, CASES[case].beside), {}).get(key)
    return row(
        *(peer, case, f"{result['rps']:.0f}", f"{result[key]:.0f}", f"{result['missed']:.1%}"),
        *(f"{result['device_bytes_per_request'] / KIB:.1f}", f"{result['memory'] / MIB:.0f}"),
        f"{miss / result[key]:.1f}" if miss and result[key] else "-",
    )
