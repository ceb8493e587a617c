"""The sinks that the settings want, made, or taken over from the generation before."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from sslintercept import __version__
from sslintercept.config.schema import Collector, EventsSettings
from sslintercept.event import store
from sslintercept.event.backlog import Elsewhere
from sslintercept.event.file import EventFile
from sslintercept.event.log import Sink
from sslintercept.event.quarantine import Bounds
from sslintercept.event.sender import Clock, SyslogSender
from sslintercept.event.store import EventStore, Keep
from sslintercept.event.syslog import Origin
from sslintercept.net.line import OpenLine

Opens = Callable[[Collector], OpenLine]
"""makes what opens connections to a collector"""


class Loop(Clock, Protocol):
    """The reactor."""

    def callFromThread(self, callable: Callable[..., object], *args: object) -> object: ...


def origin() -> Origin:
    """Who sends."""
    return Origin(socket.gethostname(), os.getpid(), __version__)


def bounds(settings: EventsSettings) -> Bounds:
    """What the quarantine keeps."""
    return Bounds(settings.quarantine_size, settings.quarantine_keep)


def sinks(
    settings: EventsSettings,
    state: Path,
    loop: Loop,
    elsewhere: Elsewhere,
    opens: Opens,
    before: Mapping[str, Sink] | None = None,
) -> dict[str, Sink]:
    """
    The sinks by name. Those of C{before} that are wanted still are taken over; nothing is started.

    @param state: the folder of the store.
    """
    found: dict[str, Sink] = {}
    kept = before or {}
    if settings.file is not None:
        name = f"file {settings.file}"
        found[name] = kept.get(name) or EventFile(settings.file, elsewhere)
    if settings.store:
        path, keep = state / store.NAME, Keep(settings.keep, settings.most)
        name = f"store {path}"
        stored = kept.get(name)
        if isinstance(stored, EventStore):
            stored.keep = keep
        found[name] = stored or EventStore(path, keep, elsewhere)
    for collector in settings.syslog or ():
        name = f"syslog {collector}"
        sender = kept.get(name)
        if isinstance(sender, SyslogSender):
            sender.opens = opens(collector)
        found[name] = sender or SyslogSender(str(collector), opens(collector), origin, loop, time.time)
    return found
