"""
C{sslintercept events}: stored events for people and for programs, and copies out of the quarantine.

What is shown was written by the network: nothing of it reaches a terminal that is not printable.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sslintercept.config import units
from sslintercept.config.units import NotAllowed
from sslintercept.errors import ConfigError
from sslintercept.event import quarantine, store
from sslintercept.event.query import Query, find
from sslintercept.event.record import Event, Trace, from_json, visible

MOST_LISTED: Final = 1_000_000
COLUMNS: Final = (("act", 10), ("kind", 9), ("client", 15), ("inspector", 12), ("name", 28))
"""fields of a line, and the characters that each has at least; the name has no more"""
PLACE: Final = 100
"""characters of the place at the end of a line"""
_AGO: Final = units.duration("0s", "3650d")
_NUMBER: Final = re.compile(r"[0-9]{1,7}")


def moment(text: str, where: str, now: float) -> float:
    """
    Seconds since the epoch for C{1h} (ago), or for a date with or without a time (UTC, unless it says otherwise).

    @raise ConfigError: it is neither.
    """
    try:
        return now - _AGO(text)
    except NotAllowed:
        pass
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        remedy = "give 90s, 10m, 1h or 7d (ago), or 2026-01-31T12:00 (UTC)"
        raise ConfigError(f"{units.shown(text)} is no time", where=where, remedy=remedy) from None


def limit(text: str) -> int:
    """@raise ConfigError: it is no number of events."""
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST_LISTED:
        raise ConfigError(f"{units.shown(text)} is no number", where="--limit", remedy=f"give 1 to {MOST_LISTED}")
    return int(text)


def listed(state: Path, query: Query, as_json: bool) -> Iterator[str]:
    """
    A line an event, newest last.

    @raise ConfigError: there is no store, or it cannot be read.
    """
    lines = find(state / store.NAME, query)
    return lines if as_json else each(lines, brief)


def shown(state: Path, name: str) -> Iterator[str]:
    """
    All there is to say about the events of that id: one, if nobody gives an id twice.

    @raise ConfigError: there is none.
    """
    found = False
    for line in find(state / store.NAME, Query(id=name)):
        if found:
            yield ""
        found = True
        yield from full(line)
    if not found:
        raise ConfigError(
            f"there is no event {units.shown(name)}",
            where=str(state / store.NAME),
            remedy="it may have been too old, or one too many",
        )


def restored(state: Path, name: str, to: Path) -> str:
    """
    Get a copy out of the quarantine.

    @return: what to say about it.
    @raise ConfigError: there is none, it is not what it was, or the file cannot be written.
    """
    about = quarantine.restore(state / quarantine.FOLDER, name, to)
    return f"wrote {to}: {about.size} bytes, SHA-256 {about.sha256}; it may be dangerous"


def each(lines: Iterable[str], show: Callable[[Event], str]) -> Iterator[str]:
    """A line that is no event is shown as that, and hides no other."""
    for line in lines:
        try:
            event = from_json(line)
        except ValueError as error:
            yield f"(unreadable: {error})"
        else:
            yield show(event)


def when(time: float) -> str:
    """A time as people read it."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{time:.0f}"


def brief(event: Event) -> str:
    """One event in a line."""
    columns = [when(event.time), visible(event.id, 64).ljust(12)]
    for name, width in COLUMNS:
        text = visible(getattr(event, name), width if name == "name" else 64)
        columns.append((text or "-").ljust(width))
    columns.append(visible(event.url or event.part or event.host or event.reason, PLACE))
    return "  ".join(columns).rstrip()


def full(line: str) -> Iterator[str]:
    """One event with everything that is known, a field a line."""
    try:
        event = from_json(line)
    except ValueError as error:
        yield f"(unreadable: {error})"
        return
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name == "time":
            yield f"{'time':<12}  {when(value)} ({value:.3f})"
        elif field.name == "evidence":
            for trace in value:
                yield f"{'evidence':<12}  {traced(trace)}"
        elif field.name == "recipients":
            for one in value:
                yield f"{'recipient':<12}  {visible(one)}"
        elif value not in ("", None):
            yield f"{field.name:<12}  {visible(str(value))}"


def traced(trace: Trace) -> str:
    """One piece of evidence."""
    place = f" at {trace.offset}+{trace.length}" if trace.length else ""
    where = f" in {visible(trace.where)}" if trace.where else ""
    score = f" (score {trace.score})" if trace.score else ""
    return f"{visible(trace.what)}: {visible(trace.text)}{where}{place}{score}"


def say(lines: Iterable[str]) -> int:
    """Print them; whoever reads may have enough before the end (C{| head})."""
    out = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")
    try:
        for line in lines:
            out.write(f"{line}\n")
        out.flush()
    except BrokenPipeError:
        # The interpreter would try once more at its end, and complain.
        sys.stdout = None
    return 0
