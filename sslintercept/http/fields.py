"""
The fields of a message: whether they are well formed, which belong to one hop only, and what a body's length is.

Requests and responses share this, so that both sides of the proxy read a field the same way (RFC 9110 5 to 7,
RFC 9112 5 and 6). Nothing here does I/O. Nothing here goes through the fields in Python either: llhttp judges the lines
(L{check_fields}), one pattern finds those that are ours to read or to leave out (L{take_apart}), the others are copied.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sslintercept.errors import InterceptError, MessageError, ResponseError
from sslintercept.facts import CHUNKED, Address, Fields, Head

MAX_FIELDS: Final = 200
"""Fields in one head."""
MAX_LENGTH: Final = 2**62
"""Bytes of a body; far below where a 64 bit counter on the path would wrap."""
MAX_HOST: Final = 255
"""Bytes of a host name (RFC 1035 2.3.4)."""

PROTECTED: Final = frozenset(
    (
        b"accept-encoding",
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-location",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"etag",
        b"expect",
        b"expires",
        b"forwarded",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"last-modified",
        b"location",
        b"max-forwards",
        b"origin",
        b"range",
        b"referer",
        b"set-cookie",
        b"trailer",
        b"vary",
        b"via",
        b"www-authenticate",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    )
)
"""
Fields that Connection cannot name away.

RFC 9110 7.6.1 forbids a sender to name a field that is for all recipients; a message that does so anyway tries to
take the field from the next hop (credentials, the client's address, a cache's key), so these stay.
"""

TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The bytes of a token (RFC 9110 5.6.2)."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_START_LINE = b"POST / HTTP/1.1"
_AUTHORITY = re.compile(rb"(?:([A-Za-z0-9._~-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_VIA = re.compile(rb"\((?:[^()\\]|\\.)*+\)|\\.")
"""comments; an escape outside of one is passed over, or each of thousands would be tried as the begin of a comment"""
_SPOKEN: Final = {10: b"1.0 ", 11: b"1.1 ", 20: b"2 "}
QUIET: Final = frozenset((b"keep-alive", b"close", b"upgrade", b"te"))
"""Options of Connection that name no field beside the hop-by-hop ones, which are taken out anyway."""


_KNOWN: Final = {one: [one.lower()] for one in (b"keep-alive", b"Keep-Alive", b"close", b"Upgrade", b"chunked")}
"""lists as most senders write them"""


def malformed(what: str, *, where: str, status: int) -> MessageError:
    """Make the error of a message that cannot be read: the origin's doing if *status* is 502, else the client's."""
    return (ResponseError if status == 502 else MessageError)(what, where=where, status=status)


def check_fields(lines: bytes, *, where: str, status: int) -> None:
    """
    Let llhttp judge the field *lines* of a head: all behind its start line, from the line break to the empty line.

    llhttp gets a start line of ours, so that its list of methods, its reading of targets and the differences it
    makes between requests and responses do not matter; the callers judge the start line themselves. It refuses
    what makes two readers differ: bare CR or LF, NUL and other controls, white space before the colon, folded
    lines, several or malformed Content-Length, Content-Length beside Transfer-Encoding. 0.5 us for four fields.

    @raise MessageError: with *status*.
    """
    try:
        HttpRequestParser(None).feed_data(_START_LINE + lines)
    except HttpParserUpgrade:
        pass  # the head is complete and asks for another protocol; that is the caller's business
    except HttpParserError as error:
        raise malformed(str(error), where=where, status=status) from None


def lines_named(names: Collection[bytes]) -> re.Pattern[bytes]:
    """
    A pattern that finds the field lines with these lower-case *names*, from their line break to their end.

    Most lines are left by their first letter; its two groups are name and value.
    """
    tails: dict[bytes, list[bytes]] = {}
    for name in sorted(names):
        tails.setdefault(name[:1], []).append(re.escape(name[1:]))
    first = b"".join(letter + letter.upper() for letter in tails)
    either = b"|".join(b"[%b%b](?i:%b)" % (key, key.upper(), b"|".join(tail)) for key, tail in tails.items())
    return re.compile(rb"\r\n(?=[%b])(%b):([^\r\n]*)" % (first, either))


def take_apart(lines: bytes, apart: re.Pattern[bytes]) -> tuple[bytes, dict[bytes, list[bytes]]]:
    """
    Split the field *lines* that L{check_fields} accepted into those to forward and those *apart*.

    No line is looked at by Python unless it is apart: the others stay one block, each line behind its line break.

    @param apart: made by L{lines_named}; the values of each name are returned in order under it.
    """
    parts: list[bytes] = apart.split(lines)  # a piece of the block, a name, a value, a piece of the block, ...
    found: dict[bytes, list[bytes]] = {}
    for at in range(1, len(parts), 3):
        name, value = parts[at].lower(), parts[at + 1].strip(b" \t")
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
    return b"".join(parts[::3])[:-4], found


def elements(values: Sequence[bytes]) -> Sequence[bytes]:
    """Give the non-empty elements of a list field without quoted strings, in lower case (RFC 9110 5.6.1)."""
    if len(values) == 1 and (known := _KNOWN.get(values[0])) is not None:
        return known
    return [element for part in b",".join(values).lower().split(b",") if (element := part.strip(b" \t"))]


def without_named(fields: Fields, options: Collection[bytes]) -> Fields:
    """Take out of *fields* what the connection *options* name, L{PROTECTED} fields excepted (RFC 9110 7.6.1)."""
    named = frozenset(options) - PROTECTED
    return [field for field in fields if field[0].lower() not in named]


def body_length(found: dict[bytes, list[bytes]], version: int, *, where: str, status: int) -> int | None:
    """
    Say what Content-Length and Transfer-Encoding announce: bytes, L{CHUNKED}, or C{None} when both are absent.

    Stricter than RFC 9112 6.3 asks: any pair of the two, any repetition and any coding but C{chunked} is refused,
    because some hop on the way may read it differently.

    @param status: for what is malformed or ambiguous; a request (400) with other codings gets 501, too long 413.
    @raise MessageError: the length is not certain.
    """
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise malformed("both Content-Length and Transfer-Encoding", where=where, status=status)
        if version == 10:
            raise malformed("Transfer-Encoding in HTTP/1.0", where=where, status=status)
        names = elements(codings)
        if names != [b"chunked"]:
            status = 501 if status == 400 and names.count(b"chunked") == 1 else status
            raise malformed("a transfer coding other than chunked", where=where, status=status)
        return CHUNKED
    if lengths is None:
        return None
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise malformed("a malformed or repeated Content-Length", where=where, status=status)
    length = int(lengths[0]) if len(lengths[0]) < 20 else MAX_LENGTH + 1
    if length > MAX_LENGTH:
        raise malformed("a Content-Length above 2**62", where=where, status=413 if status == 400 else status)
    return length


@lru_cache(maxsize=1024)
def parse_authority(value: bytes, default_port: int) -> Address | None:
    """
    Read C{host[:port]} (RFC 3986 3.2, without userinfo), or give C{None} if it is not one.

    Names are letters, digits, C{-._~}: percent-encoding and sub-delims, which RFC 3986 also allows, resolve nowhere.
    The host comes back in lower case and without a trailing dot, an IPv6 address in its canonical form, because
    rules and certificates are compared with it.

    @param default_port: for an absent or empty port; 0 if a port is required.
    """
    match = _AUTHORITY.fullmatch(value) if len(value) <= MAX_HOST + 6 else None
    if match is None:
        return None
    name, literal, digits = match.groups()
    port = int(digits) if digits else default_port
    if not 0 < port < 65536:
        return None
    if literal is not None:
        try:
            return Address(str(IPv6Address(literal.decode("ascii"))), port)
        except ValueError:
            return None
    host = name.decode("ascii").lower()
    host = host.removesuffix(".")
    return Address(host, port) if 0 < len(host) <= MAX_HOST and not host.startswith(".") else None


def via_names(value: bytes) -> list[bytes]:
    """Give who received the message by a Via *value*, in lower case, oldest first (RFC 9110 7.6.3)."""
    return [words[1] for element in _VIA.sub(b" ", value).lower().split(b",") if len(words := element.split()) > 1]


def check_size(raw: bytes, *, where: str, status: int, too_many: int) -> None:
    """Refuse what does not end with its only empty line, and more than L{MAX_FIELDS} fields."""
    if len(raw) < 5 or raw.find(b"\r\n\r\n") != len(raw) - 4:
        raise malformed("the head does not end with its only empty line", where=where, status=status)
    # The shortest line of a field has 4 bytes: a short head need not be counted.
    if len(raw) > 4 * MAX_FIELDS and raw.count(b"\r\n") > MAX_FIELDS + 2:
        raise malformed(f"more than {MAX_FIELDS} fields", where=where, status=too_many)


def without_written(fields: Fields, written: frozenset[bytes]) -> tuple[Fields, list[bytes]]:
    """Leave out the fields that we write ourselves, and give the values of Via."""
    vias = [value for name, value in fields if name.lower() == b"via"]
    return [field for field in fields if field[0].lower() not in written], vias


def via_line(vias: Sequence[bytes], pseudonym: bytes | None, version: int) -> bytes:
    """Write one Via: what came, and who received it now, in which version."""
    ours = [] if pseudonym is None else [_SPOKEN[version] + pseudonym]
    return b"Via: " + b", ".join([*vias, *ours])


@lru_cache(maxsize=16)
def _own_via(pseudonym: bytes, version: int) -> bytes:
    """The Via line of a message that has had none, behind its line break."""
    line = via_line([], pseudonym, version)
    if not set(line).isdisjoint(b"\r\n\0"):
        raise unwritable("Via")
    return b"\r\n" + line


def block_via(head: Head, pseudonym: bytes | None) -> bytes:
    """
    The Via line that belongs to the block of *head*, behind its line break; nothing if it has none.

    @raise InterceptError: *pseudonym* would be read as something else.
    """
    came = head.block_via
    if pseudonym is None:
        return b"" if came is None else b"\r\nVia: " + came
    ours = _own_via(pseudonym, head.version)
    return ours if came is None else b"\r\nVia: %b, %b" % (came, ours[7:])


def check_start(line: bytes, head: Head, where: str) -> None:
    """
    Refuse a start *line*, with its line break, that would be read as something else.

    The line that *head* came with was judged when it was read.

    @raise InterceptError: it would.
    """
    if line.count(b"\n") != 1 or (not head.raw.startswith(line) and (line.count(b"\r") != 1 or b"\0" in line)):
        raise unwritable(where)


def host_value(authority: Address, scheme: str) -> bytes:
    """Write the Host of *authority*, without a port that its scheme implies (RFC 9110 4.2.3)."""
    if authority.port == DEFAULT_PORTS.get(scheme):
        return str(authority).rpartition(":")[0].encode("ascii")
    return str(authority).encode("ascii")


def join_head(lines: list[bytes], names: list[bytes], where: str) -> bytes:
    """
    Join *lines* to a head, and check that the peer will see these lines and these names.

    Fields may come from another version of HTTP or from a plugin; one line break in a value would start a field
    or a message of its own (RFC 9110 5.5, RFC 9113 10.3).
    """
    ends = len(lines) + 1
    lines.append(b"\r\n")
    head = b"\r\n".join(lines)
    if (
        head.count(b"\n") != ends
        or head.count(b"\r") != ends
        or b"\0" in head
        or b"" in names
        or b"".join(names).translate(None, TOKEN)
    ):
        raise unwritable(where)
    return head


def unwritable(where: str) -> InterceptError:
    """Make the error of a head that must not be written; never the peer's fault."""
    what = "what is to be written would be read as something else"
    return InterceptError(what, where=where, remedy="nothing was forwarded; report which plugin or version made it")
