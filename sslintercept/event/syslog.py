"""
An event as a message of syslog (RFC 5424), and the frame it travels in over TCP and TLS (RFC 6587 3.4.1, RFC 5425 4.3).

The message is the event's line of JSON. What a collector sorts by stands in front of it as structured data.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sslintercept.event.record import Event, to_json, visible

FACILITY: Final = 16
"""local0 (RFC 5424 6.2.1)"""
MOST_MESSAGE: Final = 8192
"""bytes: what the usual collectors take unasked (RFC 5424 6.1 asks for 2048)"""
MOST_VALUE: Final = 64
"""characters of a value in the structured data"""
SD_ID: Final = "sslintercept@32473"
"""RFC 5424 7.2.2 wants an enterprise's number here; we have none, and 32473 is the one for examples (RFC 5612)"""
ERROR, WARNING, NOTICE, INFORMATIONAL = 3, 4, 5, 6
SEVERITIES: Final = {
    "pass": INFORMATIONAL,
    "report": NOTICE,
    "tag": NOTICE,
    "redact": WARNING,
    "replace": WARNING,
    "block": WARNING,
    "quarantine": WARNING,
}
"""RFC 5424 6.2.1, by what was done; where an engine failed, it is an error whatever was done"""
FAILURE: Final = "failure"
_LATEST: Final = 253402300799.0
"""seconds since the epoch: the end of the year 9999"""


class Origin(NamedTuple):
    """Who sends: the machine's name, the process, our version."""

    host: str
    process: int
    version: str


def message(event: Event, origin: Origin) -> bytes:
    """The event as one message, without its frame."""
    values = {
        name: getattr(event, name)
        for name in ("id", "kind", "act", "inspector", "name", "client", "host", "quarantine")
    }
    head = _head(_severity(event), event.time, event.kind, values, origin)
    return head + to_json(event, MOST_MESSAGE - len(head)).encode()


def lost(count: int, now: float, origin: Origin) -> bytes:
    """A message that stands for so many that were never sent."""
    return _head(ERROR, now, "dropped", {"dropped": str(count)}, origin) + b"%d events were not sent" % count


def frame(message: bytes) -> bytes:
    """Counted, so that a message may hold anything."""
    return b"%d %b" % (len(message), message)


def _severity(event: Event) -> int:
    return ERROR if event.kind == FAILURE else SEVERITIES.get(event.act, NOTICE)


def _head(severity: int, time: float, kind: str, values: dict[str, str], origin: Origin) -> bytes:
    at = datetime.fromtimestamp(max(0.0, min(time, _LATEST)), UTC).isoformat(timespec="microseconds")
    head = (
        f"<{FACILITY * 8 + severity}>1 {at.replace('+00:00', 'Z')} {_name(origin.host, 255)} sslintercept "
        f"{origin.process} {_name(kind, 32)} "
    )
    ours = _element("origin", {"software": "sslintercept", "swVersion": origin.version})
    return f"{head}{ours}{_element(SD_ID, values)} ".encode()


def _name(text: str, most: int) -> str:
    """PRINTUSASCII (RFC 5424 6), or the word for nothing."""
    return re.sub(r"[^!-~]", "_", text)[:most] or "-"


def _element(name: str, values: dict[str, str]) -> str:
    """One element; values that are empty are left out."""
    shown = ((key, visible(value, MOST_VALUE)) for key, value in values.items() if value)
    params = "".join(f' {key}="{_quoted(value)}"' for key, value in shown)
    return f"[{name}{params}]"


def _quoted(value: str) -> str:
    """RFC 5424 6.3.3"""
    return re.sub(r'(["\\\]])', r"\\\1", value)
