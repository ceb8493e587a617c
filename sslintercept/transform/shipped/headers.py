"""
C{headers}: sets, adds and removes fields, and changes a response's status.

Good for policies that an origin does not set, and for fields that should not leave or reach the house::

    [transform:policy]
    use = headers
    match = host:*.example direction:response
    set = Content-Security-Policy: default-src 'self'
          X-Frame-Options: DENY
    remove = Server, X-Powered-By

First the fields of C{remove} go, then those of C{set} take the place of what is there, then those of C{add} come.

Limits. Requests and responses both match unless C{match} says C{direction:}. Fields that frame or route a message
(Content-Length, Connection, Host, Via ...) and those that say how its bytes are to be read (Content-Encoding,
Content-Range) cannot be named; the transforms C{decode} and C{encode} are for codings. C{status} is for responses that
may have content, and leaves 1xx, 204, 205, 206 and 304 alone, because it would change where their body ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.config.units import Unit
from sslintercept.facts import reason_of
from sslintercept.transform.message import BODILESS, FieldError, Message, check_field
from sslintercept.transform.processor import Transformer

MOST: Final = 32
"""fields in one option"""
OURS: Final = frozenset((b"content-encoding", b"content-range"))
"""fields that say how the bytes of a body are to be read"""
FIXED: Final = BODILESS | {206}
"""statuses that say what a body is, or that there is none"""

Line = tuple[bytes, bytes]


def _checked(name: bytes, value: bytes = b"") -> Line:
    try:
        check_field(name, value)
    except FieldError as error:
        raise ValueError(error.what) from None
    if name.lower() in OURS:
        raise ValueError(f"{name.decode('ascii')} says how the body is to be read")
    return name, value


def _line(text: str) -> Line:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("a line without a colon")
    return _checked(name.strip().encode(), value.strip().encode())


def _lines(text: str) -> tuple[Line, ...]:
    lines = text.split("\n")
    if len(lines) > MOST:
        raise ValueError(f"{len(lines)} lines are too many")
    return tuple(map(_line, lines))


def _names(text: str) -> tuple[bytes, ...]:
    return tuple(_checked(name.encode())[0] for name in units.listed(units.token(), MOST)(text))


def _status(text: str) -> int:
    status = units.integer(200, 599)(text)
    if status in FIXED:
        raise ValueError("a status that says what its body is")
    return status


LINES: Final[Unit[tuple[Line, ...]]] = units.unit(_lines, f"up to {MOST} lines Name: value")


@dataclass(frozen=True, slots=True)
class HeadersOptions:
    """Of C{headers}."""

    set: tuple[Line, ...] | None = setting(
        LINES, None, "fields that take the place of those of the same name", example="X-Frame-Options: DENY"
    )
    add: tuple[Line, ...] | None = setting(LINES, None, "fields that are added", example="Vary: Origin")
    remove: tuple[bytes, ...] | None = setting(
        units.unit(_names, f"up to {MOST} names with commas"), None, "fields that are removed", example="Server"
    )
    status: int | None = setting(
        units.unit(_status, "a status from 200 to 599, but not 204, 205, 206 or 304"),
        None,
        "status of a response",
        example="404",
    )


class Headers(Transformer):
    """Rewrites heads; bodies are none of its business."""

    def __init__(self, options: HeadersOptions) -> None:
        self.options = options

    def transform(self, message: Message) -> None:
        options = self.options
        for name in options.remove or ():
            message.remove(name)
        for name, _ in options.set or ():
            message.remove(name)
        for name, value in (*(options.set or ()), *(options.add or ())):
            message.add(name, value)
        response = message.response
        if options.status is None or response is None or response.status < 200 or response.status in FIXED:
            return
        response.status, response.reason = options.status, reason_of(options.status)
