"""
The head of HTTP that an answer brings: what it begins with, and the fields that go on to others (RFC 9112 2 to 5).

What a service writes is read as strictly as what an origin writes: a line that is no field ends it all.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sslintercept.facts import HOP_BY_HOP
from sslintercept.icap.wire import Field, rubbish

MOST_FIELDS: Final = 200
LONGEST_VALUE: Final = 16384
"""bytes of a field's value"""
WRITTEN: Final = HOP_BY_HOP | {b"content-length", b"expect", b"host", b"trailer", b"via"}
"""fields that frame or route a message: whoever sends it writes them"""

_FIELD = re.compile(rb"([!#$%%&'*+.^_`|~0-9A-Za-z-]{1,256}):([\t\x20-\x7e\x80-\xff]{0,%d})" % LONGEST_VALUE)
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([\x21-\x7e]{1,65536}) HTTP/[0-9](?:\.[0-9])?")
_STATUS = re.compile(rb"HTTP/[0-9](?:\.[0-9])? ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class HttpHead(NamedTuple):
    """
    A head of either kind.

    @ivar status: of a response, else 0; C{method} and C{target}: of a request, else empty.
    @ivar fields: those that are not L{WRITTEN} by whoever sends the message.
    @ivar length: what it says of its content, or C{None}.
    """

    status: int
    method: bytes
    target: bytes
    fields: tuple[Field, ...]
    length: int | None

    @property
    def resource(self) -> bytes:
        """The target without its scheme and host, as a request to an origin names it (RFC 9112 3.2.1)."""
        _, scheme, rest = self.target.partition(b"://")
        if not scheme:
            return self.target
        at = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
        return rest[at:] if rest[at : at + 1] == b"/" else b"/" + rest[at:]

    @property
    def host(self) -> bytes:
        """Of an absolute target scheme, host and port in lower case; else empty."""
        scheme, colon, rest = self.target.partition(b"://")
        return scheme.lower() + b"://" + re.split(rb"[/?]", rest, maxsplit=1)[0].lower() if colon else b""

    def asks_as(self, other: HttpHead) -> bool:
        """Whether two requests ask the same of the same; one of them may leave out whom it asks."""
        same = self.host == other.host or not self.host or not other.host
        return same and (self.method, self.resource) == (other.method, other.resource)


def read(head: bytes, where: str) -> HttpHead:
    """
    Read a head with its empty line.

    @param where: what errors call the engine.
    @raise EngineError: it is none.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if len(lines) > MOST_FIELDS:
        raise rubbish(f"a head of HTTP with more than {MOST_FIELDS} fields", where)
    found: list[Field] = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise rubbish("a head of HTTP with a field that is none", where)
        found.append((field[1], field[2].strip(b" \t")))
    named = {
        name.strip(b" \t").lower()
        for field, value in found
        if field.lower() == b"connection"
        for name in value.split(b",")
    }
    lengths = {value for name, value in found if name.lower() == b"content-length"}
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise rubbish("a head of HTTP with a Content-Length that is no number", where)
    fields = tuple((name, value) for name, value in found if name.lower() not in WRITTEN | named)
    length = int(lengths.pop()) if lengths else None
    if (status := _STATUS.fullmatch(first)) is not None:
        return HttpHead(int(status[1]), b"", b"", fields, length)
    if (request := _REQUEST.fullmatch(first)) is not None:
        return HttpHead(0, request[1], request[2], fields, length)
    raise rubbish("a head of HTTP that begins with neither a request nor a status", where)
