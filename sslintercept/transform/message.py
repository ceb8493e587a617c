"""
One HTTP message as a transform sees it: a head that may be changed before it is forwarded, and what is known around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from twisted.internet.interfaces import IDelayedCall

from sslintercept.errors import InterceptError
from sslintercept.facts import Facts, RequestHead, ResponseHead

MAX_NOTE: Final = 1024
"""characters of a note in the access log"""
MAX_NAME: Final = 64
"""characters of a note's name"""
MOST_NOTES: Final = 16
"""notes of one transaction"""

FRAMING: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
    )
)
"""fields that frame or route a message: they are written by whoever sends it"""

BODILESS: Final = frozenset((204, 205, 304))
"""statuses of final answers without content (RFC 9110 6.4.1)"""

_PORTS: Final = {"http": 80, "https": 443}
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]{0,16384}")


class Direction(Enum):
    """Which way a message goes."""

    REQUEST = "request"
    RESPONSE = "response"


class Answer(NamedTuple):
    """What is sent to the client in the place of what was, or would be, answered."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class FieldError(InterceptError):
    """A field that cannot be written: a name that is no token, a value with a line break, or one that frames."""

    kind = "transform"


def check_field(name: bytes, value: bytes = b"") -> None:
    """@raise FieldError: it is not for a transform to write, or would not be read as it is meant."""
    where, remedy = "transform", "correct the plugin or its options"
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise FieldError(f"{name[:40]!r} is no field name, or its value is none", where=where, remedy=remedy)
    if name.lower() in FRAMING:
        raise FieldError(f"{name.decode('ascii')} frames the message", where=where, remedy=remedy)


def charset_of(content_type: bytes) -> str | None:
    """The charset that a Content-Type names, in lower case (RFC 9110 8.3.2)."""
    for parameter in content_type.split(b";")[1:]:
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"charset":
            return value.strip().strip(b'"').lower().decode("latin-1") or None
    return None


class Message:
    """
    A request or a response on its way.

    @ivar request: the request's head; C{response}: the response's, where there is one already.
    @ivar facts: what is known of the client's connection.
    @ivar has_body: whether a body comes with it.
    @ivar length: bytes of the body as it comes; C{None} if nobody knows.
    @ivar content: the body as it comes, if all of it is there already and nobody in front gets it; C{None} says
        nothing. Whoever sees from it that the body may pass need not give a stage.
    @ivar answered: what L{answer} said.
    @ivar notes: what L{note} said, for the access log.
    @ivar later: calls back after a number of seconds.
    """

    __slots__ = (
        "answered",
        "content",
        "direction",
        "facts",
        "has_body",
        "later",
        "length",
        "notes",
        "request",
        "response",
    )

    def __init__(
        self,
        direction: Direction,
        request: RequestHead,
        response: ResponseHead | None,
        facts: Facts,
        later: Callable[[float, Callable[[], object]], IDelayedCall],
        notes: dict[str, str],
        *,
        has_body: bool,
    ) -> None:
        self.request = request
        self.response = response
        self.direction = direction
        self.facts = facts
        self.later = later
        self.notes = notes
        self.has_body = has_body
        length = request.length if response is None else response.length
        self.length = length if length >= 0 else None
        self.content: bytes | None = None
        self.answered: Answer | None = None

    @property
    def head(self) -> RequestHead | ResponseHead:
        """The head of this message."""
        return self.request if self.response is None else self.response

    @property
    def awaited(self) -> bool:
        """Whether it is a response that has not come yet."""
        return self.response is None and self.direction is Direction.RESPONSE

    @property
    def url(self) -> str:
        """What the request is for, as an absolute URL; a target's bytes above ASCII are kept as they came."""
        request = self.request
        host, port = request.authority
        shown = f"[{host}]" if ":" in host else host
        if port != _PORTS.get(request.scheme):
            shown += f":{port}"
        return f"{request.scheme}://{shown}{request.target.decode('latin-1')}"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.request.target.partition(b"?")[0].decode("latin-1")

    @property
    def media_type(self) -> str:
        """C{text/html}, in lower case; empty if the message does not say."""
        return (self.get(b"Content-Type") or b"").partition(b";")[0].strip().lower().decode("latin-1")

    @property
    def charset(self) -> str | None:
        """The charset parameter of Content-Type in lower case, if it has one (RFC 9110 8.3.2)."""
        return charset_of(self.get(b"Content-Type") or b"")

    @property
    def partial(self) -> bool:
        """Whether it holds only a piece of the content (RFC 9110 15.3.7)."""
        return self.response is not None and self.response.status == 206

    # fields

    def get(self, name: bytes) -> bytes | None:
        """The value of a field; of several lines the values with commas between (RFC 9110 5.3)."""
        values = self.all(name)
        return b", ".join(values) if values else None

    def all(self, name: bytes) -> list[bytes]:
        """The values of all lines of a field."""
        name, head = name.lower(), self.response or self.request
        block = head.block
        if block is None:
            return [value for each, value in head.fields if each.lower() == name]
        # Nobody has asked for the list of fields yet, and making it costs more, here and where the head is written.
        values: list[bytes] = []
        mark, low = b"\r\n%b:" % name, block.lower()
        at = low.find(mark)
        while at >= 0:
            begin = at + len(mark)
            end = block.find(b"\r\n", begin)
            values.append((block[begin:end] if end >= 0 else block[begin:]).strip(b" \t"))
            at = low.find(mark, begin)
        if name == b"via" and head.block_via is not None:
            values.append(head.block_via)
        return values

    def request_field(self, name: bytes) -> bytes | None:
        """The value of a field of the request that this is, or is the response to; of several lines the first."""
        name = name.lower()
        return next((value for each, value in self.request.fields if each.lower() == name), None)

    def set(self, name: bytes, value: bytes) -> None:
        """
        Let the field have this value and no other.

        @raise FieldError: it is not for a transform to write.
        """
        check_field(name, value)
        self.remove(name)
        self.head.fields.append((name, value))

    def add(self, name: bytes, value: bytes) -> None:
        """
        Add a line of the field.

        @raise FieldError: it is not for a transform to write.
        """
        check_field(name, value)
        self.head.fields.append((name, value))

    def remove(self, name: bytes) -> None:
        """
        Take the field out.

        @raise FieldError: it is not for a transform to write.
        """
        check_field(name)
        name = name.lower()
        head = self.head
        head.fields = [field for field in head.fields if field[0].lower() != name]

    # instead, and beside

    def answer(self, status: int, fields: Mapping[bytes, bytes] | None = None, body: bytes = b"") -> None:
        """
        Answer the client with this; a request is not forwarded then, a response is thrown away.

        @raise FieldError: a field cannot be written, or the status is none of a final answer, or none with a body.
        """
        if not 200 <= status <= 599 or (body and status in BODILESS):
            what = f"{status} is no status to answer with, or has no body"
            raise FieldError(what, where="transform", remedy="correct the plugin or its options")
        for name, value in (fields or {}).items():
            check_field(name, value)
        self.answered = Answer(status, tuple((fields or {}).items()), body)

    def note(self, name: str, value: str) -> None:
        """Put something into the transaction's line of the access log; of more than L{MOST_NOTES} the first count."""
        name = name[:MAX_NAME]
        if len(self.notes) < MOST_NOTES or name in self.notes:
            self.notes[name] = value[:MAX_NOTE]
