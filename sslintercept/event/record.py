"""
What is written down when something is found: one frozen value, and the line of JSON that stands for it.

Whatever an event holds came from the network, or from an engine that read what came from there. So an event is fit to
be written down from the moment it is made: texts have a bound, lone surrogates are spelled out, numbers fit 64 bits,
and a URL has lost what must not be in a log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any, Final, NamedTuple

MOST_WORD: Final = 64
"""characters of C{id}, C{kind}, C{act}, C{sha256} and the like, which are printable ASCII"""
MOST_TEXT: Final = 512
"""characters of any other text"""
MOST_LONG: Final = 2048
"""characters of a URL, a reason or a path of names"""
MOST_TRACES: Final = 64
"""pieces of evidence"""
MOST_RECIPIENTS: Final = 100
MOST_LINE: Final = 128 * 1024
"""bytes of the line of one event"""
MOST_READ: Final = 2 * MOST_LINE
"""bytes of a line that is read"""
MOST_NUMBER: Final = 2**62
LEAK: Final = "leak"
"""the kind whose URLs lose their query: what leaked may stand there"""
CUT: Final = "…"
"""ends a text that was too long"""

_WORDS: Final = frozenset(("id", "kind", "act", "sha256", "quarantine", "part_kind", "direction", "carrier"))
_LONG: Final = frozenset(("url", "reason", "part"))
_USERINFO: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:[/\\]+|[/\\]{2,}|)([^/\\?#]*@)?")
_NO_WORD: Final = re.compile(r"[^ -~]")


class Trace(NamedTuple):
    """One piece of evidence, masked: never a secret itself."""

    what: str
    """the detector, signature or reason"""
    text: str = ""
    where: str = ""
    """names from the outermost part to the one it was in"""
    offset: int = 0
    length: int = 0
    """bytes in the content of that part; 0 if it has no place"""
    score: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """
    Who, what, why, and what became of it.

    @ivar id: given by whoever tells it; a page that blocks shows the same.
    @ivar time: seconds since the epoch.
    @ivar kind: C{malware}, C{site}, C{leak}, C{phishing}, C{failure}, or a plugin's word.
    @ivar act: C{pass}, C{report}, C{tag}, C{redact}, C{replace}, C{block} or C{quarantine}.
    @ivar inspector: the name of its section.
    @ivar name: of the threat, detector or list.
    @ivar version: of the engine's rules.
    @ivar part: names, from the outermost part to the one it was found in.
    @ivar direction: C{request} for what leaves, C{response} for what comes in.
    @ivar size: bytes of the content; C{None} if nobody knows.
    @ivar sha256: of the content, as hexadecimal digits; empty if nobody knows.
    @ivar connection: its id in the access log.
    @ivar quarantine: under which id a copy is kept, or empty.
    """

    id: str
    time: float
    kind: str
    act: str
    inspector: str = ""
    name: str = ""
    reason: str = ""
    score: int = 0
    engine: str = ""
    version: str = ""
    evidence: tuple[Trace, ...] = ()
    carrier: str = ""
    part: str = ""
    part_kind: str = ""
    direction: str = ""
    media_type: str = ""
    sniffed: str = ""
    size: int | None = None
    sha256: str = ""
    url: str = ""
    host: str = ""
    client: str = ""
    user: str | None = None
    listener: str = ""
    connection: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    quarantine: str = ""

    def __post_init__(self) -> None:
        put = object.__setattr__
        url = without_secrets(self.url, self.kind)
        for name, most in _TEXTS.items():
            text = url if name == "url" else getattr(self, name)
            put(self, name, bounded(text, most) if most else _word(text))
        if self.user is not None:
            put(self, "user", bounded(self.user, MOST_TEXT))
        if self.size is not None:
            put(self, "size", _number(self.size))
        put(self, "score", _number(self.score))
        put(self, "time", float(self.time) if isfinite(self.time) else 0.0)
        put(self, "evidence", tuple(map(_trace, self.evidence[:MOST_TRACES])))
        put(self, "recipients", tuple(bounded(one, MOST_TEXT) for one in self.recipients[:MOST_RECIPIENTS]))


_TEXTS: Final = {
    field.name: 0 if field.name in _WORDS else MOST_LONG if field.name in _LONG else MOST_TEXT
    for field in fields(Event)
    if field.type == "str"
}
"""the characters that a text may have; 0 for words"""
_NAMES: Final = tuple(field.name for field in fields(Event))


def _word(text: str) -> str:
    return _NO_WORD.sub("_", text[:MOST_WORD])


def _number(value: int) -> int:
    return max(-MOST_NUMBER, min(int(value), MOST_NUMBER))


def _trace(trace: Trace) -> Trace:
    what, text, where = (bounded(one, MOST_TEXT) for one in trace[:3])
    return Trace(what, text, where, *map(_number, trace[3:]))


def bounded(text: str, most: int) -> str:
    """The text with lone surrogates spelled out, and its end left out if there is more than C{most} characters."""
    if len(text) <= most and text.isascii():
        return text
    short = text[: most + 1].encode("utf-8", "backslashreplace").decode()
    return short if len(short) <= most else short[: most - 1] + CUT


def without_secrets(url: str, kind: str) -> str:
    """
    A URL without its userinfo; where something leaked, without its query and fragment too.

    It is not parsed, so that one that no parser takes loses them as well.
    """
    url = re.sub(r"[\t\r\n]", "", url.lstrip())  # as browsers do (WHATWG URL 4.4)
    match = _USERINFO.match(url)
    assert match is not None  # each of its pieces may be empty
    url = match[1] + url[match.end() :]
    found = re.search(r"[?#]", url)
    return url[: found.end()] + CUT if kind == LEAK and found is not None else url


def visible(text: str, most: int = MOST_LONG) -> str:
    """The text as a terminal may have it: what is not printable, as an escape; C{most} characters of it."""
    short = bounded(text, most)
    return short if short.isprintable() else "".join(c if c.isprintable() else _escaped(ord(c)) for c in short)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# as JSON


def to_json(event: Event, most: int = MOST_LINE) -> str:
    """
    One line of ASCII with all fields; the newline is not part of it.

    What is longer than C{most} bytes loses evidence and recipients first, then the ends of its texts.
    """
    line = _dumped(event)
    traces, recipients = len(event.evidence), len(event.recipients)
    while len(line) > most and (traces or recipients):
        traces, recipients = traces // 2, recipients // 2
        line = _dumped(replace(event, evidence=event.evidence[:traces], recipients=event.recipients[:recipients]))
    size = MOST_LONG
    while len(line) > most and size > 1:
        size //= 2
        short: dict[str, Any] = {  # Any: replace() knows the fields' types, these are texts
            name: bounded(getattr(event, name), min(size, most_of_it))
            for name, most_of_it in _TEXTS.items()
            if most_of_it
        }
        user = event.user and bounded(event.user, size)
        line = _dumped(replace(event, **short, user=user, evidence=(), recipients=()))
    return line


def _dumped(event: Event) -> str:
    record: dict[str, object] = {name: getattr(event, name) for name in _NAMES}
    record["evidence"] = [trace._asdict() for trace in event.evidence]
    return json.dumps(record, separators=(",", ":"), allow_nan=False)


def from_json(line: str | bytes) -> Event:
    """
    The event that L{to_json} wrote. What is missing has its default, what is unknown is left out: another version may
    have written it.

    @raise ValueError: it is no event.
    """
    if len(line) > MOST_READ:
        raise ValueError("too long for an event")
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return from_record(record)


def from_record(record: object) -> Event:
    """
    The same from parsed JSON.

    @raise ValueError: it is no event.
    """
    if not isinstance(record, dict) or not {"id", "time", "kind", "act"} <= record.keys():
        raise ValueError("not an event")
    values: dict[str, Any] = {}  # Any: checked below, field by field
    for field in fields(Event):
        if field.name in record:
            value = record[field.name]
            if not _KINDS[str(field.type)](value):
                raise ValueError(f"{field.name} is not what it should be")
            values[field.name] = value
    values["evidence"] = tuple(map(_read_trace, values.get("evidence", ())))
    values["recipients"] = tuple(values.get("recipients", ()))
    try:
        return Event(**values)
    except OverflowError:
        raise ValueError("a number is too large") from None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: Final[dict[str, Callable[[object], bool]]] = {
    "str": _is_text,
    "str | None": lambda value: value is None or _is_text(value),
    "int": _is_number,
    "int | None": lambda value: value is None or _is_number(value),
    "float": lambda value: isinstance(value, float) or _is_number(value),
    "tuple[Trace, ...]": lambda value: isinstance(value, list),
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}
"""whether a value may stand in a field of a type"""


def _read_trace(value: object) -> Trace:
    names = Trace._fields
    if not isinstance(value, dict) or not _is_text(value.get("what")):
        raise ValueError("evidence is not what it should be")
    found = {name: value[name] for name in names if name in value}
    if not all((_is_text if name in names[:3] else _is_number)(one) for name, one in found.items()):
        raise ValueError("evidence is not what it should be")
    return Trace(**found)
