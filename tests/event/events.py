"""What tests of events share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer

from sslintercept.event.record import Event, Trace


def event(**values: Any) -> Event:  # Any: the fields of an event
    """An event with usual values, but for those given."""
    usual: dict[str, Any] = {
        "id": "c1f3a-3",
        "time": 1796000000.25,
        "kind": "malware",
        "act": "block",
        "inspector": "av",
        "name": "Eicar-Test-Signature",
        "reason": "Eicar-Test-Signature was found",
        "score": 10,
        "engine": "clamd",
        "version": "27812",
        "evidence": (Trace("card", "4111 **** 1111", "form > file", 12, 16, 3),),
        "carrier": "http",
        "part": "report.zip > invoice.exe",
        "part_kind": "member",
        "direction": "response",
        "media_type": "application/zip",
        "sniffed": "application/zip",
        "size": 68,
        "sha256": "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f",
        "url": "http://files.test/report.zip",
        "host": "files.test",
        "client": "192.0.2.7",
        "listener": "proxy",
        "connection": "c1f3a-3",
    }
    return Event(**{**usual, **values})


PATIENCE = 20.0
"""seconds for something to become so"""


def until(holds: Callable[[], object]) -> None:
    """Wait for what a thread does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


@implementer(ILogObserver)
class Operator:
    """
    Who reads the program's log.

    @ivar said: the sentences; C{failures}: what was logged with a traceback.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.failures: list[str] = []

    def __call__(self, entry: LogEvent) -> None:
        if "log_failure" in entry:
            self.failures.append(f"{formatEvent(entry)}: {entry['log_failure'].getErrorMessage()}")
        elif "log_text" not in entry and entry.get("log_namespace", "").startswith("sslintercept.event"):
            self.said.append(formatEvent(entry))
