"""
The head of an HTTP/1 message: bytes to L{RequestHead} or L{ResponseHead}, and back (RFC 9110, RFC 9112).

A head that two readers on the path could read differently is refused, never repaired. llhttp judges the field
lines (L{check_fields}), this module judges the start line and what the fields mean together. What is written has
one framing field and no field of the other hop. Field lines that are nobody's business are copied as they came; once
somebody has asked for the list of fields, they are made anew from it, and every line break is counted.

CPU on one core, Python 3.11, for reading and writing a request and its response together: 7.2 us with 4 and 5 fields,
10.5 us with a browser's 16 fields and a response of 12.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sslintercept.errors import MessageError, ResponseError
from sslintercept.facts import CHUNKED, HOP_BY_HOP, UNTIL_CLOSE, Address, RequestHead, ResponseHead
from sslintercept.http.fields import (
    DEFAULT_PORTS,
    QUIET,
    TOKEN,
    block_via,
    body_length,
    check_fields,
    check_size,
    check_start,
    elements,
    host_value,
    join_head,
    lines_named,
    parse_authority,
    take_apart,
    unwritable,
    via_line,
    via_names,
    without_named,
    without_written,
)

MAX_METHOD: Final = 24
"""Bytes of a method; the longest registered one has 17."""
MAX_TARGET: Final = 32 * 1024
"""Bytes of a request target."""

_REQUEST = "request head"
_RESPONSE = "response head"
_VERSIONS: Final = {b"HTTP/1.1": 11, b"HTTP/1.0": 10}
_VISIBLE: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x23)
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)")
_PLAIN: Final = re.compile(
    rb"(?!PRI |CONNECT |TRACE |OPTIONS )([!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}) (/[\x21\x22\x24-\x7e]{0,%d}) HTTP/1\.1\r\n"
    % (MAX_METHOD, MAX_TARGET - 1)
)
"""Nearly every request line: a method that is like others, the origin form, HTTP/1.1 (RFC 9112 3)."""
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_PROTOCOL: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")

_LOGIN: Final = re.compile(rb"(?i)\nproxy-authorization:[ \t]*([\x21-\x7e][\x20-\x7e]*)")

_WRITTEN_REQUEST: Final = HOP_BY_HOP | {b"content-length", b"expect", b"via"}
_WRITTEN_RESPONSE: Final = HOP_BY_HOP | {b"content-length", b"via"}
_APART_REQUEST: Final = lines_named(_WRITTEN_REQUEST | {b"host"})
_APART_RESPONSE: Final = lines_named(_WRITTEN_RESPONSE)
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"CONNECT"))
"""Methods without a body by nature: their empty body is not announced (RFC 9110 8.6)."""


def find_end(data: bytes | bytearray, start: int = 0) -> int:
    """Give the index just past the empty line that ends the head, or -1; the caller bounds the size of *data*."""
    found = data.find(b"\r\n\r\n", start)
    return found + 4 if found >= 0 else -1


def skip_empty_lines(data: bytes | bytearray) -> int:
    """Count the bytes of up to two empty lines before a request line, which are ignored (RFC 9112 2.2)."""
    return 4 if data.startswith(b"\r\n\r\n") else 2 if data.startswith(b"\r\n") else 0


# -- requests ------------------------------------------------------------------------------------------------------


def read_request(raw: bytes, scheme: str, authority: Address | None) -> RequestHead:
    """
    Read a whole request head, from its request line to its empty line.

    @param scheme: C{http} or C{https}: what carries the request.
    @param authority: the destination of the tunnel the request came through; C{None} on a proxy's own port, where
        the absolute form or CONNECT is expected (RFC 9112 3.2.2 and 3.2.3). The head's authority is what the
        request itself says; whether that is the tunnel's destination is for the caller to judge.
    @raise MessageError: 400 malformed or ambiguous, 413 body, 414 target or 431 fields too large, 417 an expectation
        other than 100-continue, 501 a method, scheme or coding we do not serve, 505 a version other than 1.0 and 1.1.
    """
    check_size(raw, where=_REQUEST, status=400, too_many=431)
    plain = _PLAIN.match(raw)
    if plain is not None:
        version = 11
        method, target = plain.groups()
        lines = raw[plain.end() - 2 :]
    else:
        line = raw[: raw.index(b"\r\n")]
        method, target, version = _request_line(line)
        lines = raw[len(line) :]
    check_fields(lines, where=_REQUEST, status=400)
    block, found = take_apart(lines, _APART_REQUEST)
    head = RequestHead()
    head.raw, head.method, head.version = raw, method, version
    head.expect_continue = head.te_trailers = False
    head.upgrade = head.max_forwards = None
    head.beyond = False
    head.length, head.close = 0, version == 10
    head.block_via = b", ".join(found.pop(b"via")) if b"via" in found else None
    hosts = found.pop(b"host", None)
    if plain is not None:
        head.scheme, head.target, named = scheme, target, None
    else:
        head.scheme, head.target, named = _destination(method, target, scheme, authority)
    host = _set_authority(head, hosts, named, authority)
    if named is not None and authority is not None and head.scheme == "http":
        head.beyond = scheme != "http" or head.authority != authority
    head.block = b"\r\nHost: " + host + block
    if found:
        _request_fields(head, found, kept=authority is not None)
    if plain is None:
        if method in (b"TRACE", b"OPTIONS"):
            _take_max_forwards(head)
        if head.length and method in (b"CONNECT", b"TRACE"):
            raise _bad(f"{method.decode('ascii')} with a body")
    return head


def write_request(head: RequestHead, via: bytes | None, length: int | None = None) -> bytes:
    """
    Write *head* in HTTP/1.1 for the next hop.

    The body is framed by one Content-Length or C{Transfer-Encoding: chunked}; an empty body is announced unless the
    method is one that has none by nature. Max-Forwards is one less than received (RFC 9110 7.6.2).

    @param via: our pseudonym, appended to Via (RFC 9110 7.6.3), or C{None} to leave Via as it is.
    @param length: of the body, or C{CHUNKED}, if it is not what it was.
    @raise InterceptError: the head cannot be written so that the next hop reads what we mean.
    """
    target = head.target
    if head.beyond:
        target = b"http://" + host_value(head.authority, "http") + (b"" if target == b"*" else target)
    start = b"%b %b HTTP/1.1\r\n" % (head.method, target)
    length, block = head.length if length is None else length, head.block
    if start.count(b" ") != 2 or length < CHUNKED or head.max_forwards == 0:
        raise unwritable(_REQUEST)
    if block and not (head.upgrade or head.expect_continue or head.te_trailers or head.max_forwards or head.beyond):
        check_start(start, head, _REQUEST)
        framing = b"\r\n\r\n"
        if length == CHUNKED:
            framing = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        elif length or head.method not in _BODILESS:
            framing = b"\r\nContent-Length: %d\r\n\r\n" % length
        return b"".join((start, block[2:], block_via(head, via), framing))
    fields = head.fields
    names = [name.lower() for name, _ in fields]
    vias: list[bytes] = []
    if not _WRITTEN_REQUEST.isdisjoint(names):
        fields, vias = without_written(fields, _WRITTEN_REQUEST)
    lines = [start[:-2]]
    hosts = names.count(b"host")
    if hosts == 0:
        lines.append(b"Host: " + host_value(head.authority, head.scheme))
    lines += map(b": ".join, fields)
    if vias or via is not None:
        lines.append(via_line(vias, via, head.version))
    if head.beyond and (login := login_of(head)):
        lines.append(b"Proxy-Authorization: " + login)
    if head.max_forwards is not None:
        lines.append(b"Max-Forwards: %d" % (head.max_forwards - 1))
    if length == CHUNKED:
        lines.append(b"Transfer-Encoding: chunked")
    elif length or head.method not in _BODILESS:
        lines.append(b"Content-Length: %d" % length)
    if head.expect_continue:
        lines.append(b"Expect: 100-continue")
    if head.te_trailers:
        lines.append(b"TE: trailers")
        lines.append(b"Connection: Upgrade, TE" if head.upgrade else b"Connection: TE")
    elif head.upgrade:
        lines.append(b"Connection: Upgrade")
    if head.upgrade:
        lines.append(b"Upgrade: " + head.upgrade)
    if hosts > 1:
        raise unwritable(_REQUEST)
    return join_head(lines, names, _REQUEST)


def login_of(head: RequestHead) -> bytes:
    """What the client says to a proxy of its own (RFC 9110 11.7.2); empty if it says nothing."""
    found = _LOGIN.search(head.raw)
    return found[1] if found is not None else b""


def loops(head: RequestHead, via: bytes) -> bool:
    """Say whether the request came through us before: our pseudonym *via* is in its Via (RFC 9110 7.6.3)."""
    mine = via.lower()
    if head.block is not None:
        return head.block_via is not None and mine in via_names(head.block_via)
    return any(mine in via_names(value) for name, value in head.fields if name.lower() == b"via")


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Split a request line and judge each part by itself (RFC 9112 3)."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise _bad("the request line is not method, target and version with one space between")
    method, target, protocol = parts
    if not method or method.translate(None, TOKEN):
        raise _bad("the method is not a token")
    version = _VERSIONS.get(protocol)
    if version is None:
        if _PROTOCOL.fullmatch(protocol):
            raise MessageError("not HTTP/1.0 or HTTP/1.1", where=_REQUEST, status=505)
        raise _bad("no HTTP version in the request line")
    if method == b"PRI":
        raise _bad("the method of HTTP/2's preface in HTTP/1 (RFC 9113 11.6)")
    if len(method) > MAX_METHOD:
        raise MessageError(f"a method above {MAX_METHOD} bytes", where=_REQUEST, status=501)
    if len(target) > MAX_TARGET:
        raise MessageError(f"a target above {MAX_TARGET} bytes", where=_REQUEST, status=414)
    if not target or target.translate(None, _VISIBLE):
        raise _bad("the target is empty or has a fragment, a control or a byte above 0x7e")
    return method, target, version


def _destination(
    method: bytes, target: bytes, scheme: str, authority: Address | None
) -> tuple[str, bytes, bytes | None]:
    """Read the four forms of a target: scheme, origin form, and the authority named, if any (RFC 9112 3.2)."""
    if method == b"CONNECT":
        if parse_authority(target, 0) is None:
            raise _bad("CONNECT needs host:port")
        return "", target, target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        if not target.startswith(b"/") and (target != b"*" or method != b"OPTIONS"):
            raise _bad("the target has none of the forms that its method allows")
        return scheme, target, None
    name, host, path = match.groups()
    asked = name.decode("ascii").lower()
    if asked not in DEFAULT_PORTS:
        raise MessageError("the target's scheme is not http or https", where=_REQUEST, status=501)
    if authority is not None and asked != scheme and asked != "http":
        raise _bad("the target's scheme is not the connection's")
    if not path:
        return asked, b"*" if method == b"OPTIONS" else b"/", host
    return asked, path if path.startswith(b"/") else b"/" + path, host


def _set_authority(
    head: RequestHead, hosts: list[bytes] | None, named: bytes | None, authority: Address | None
) -> bytes:
    """Set whom the request is for, from the target if it *named* somebody, else from Host; give the Host to forward."""
    port = DEFAULT_PORTS.get(head.scheme, 443)
    host = None
    if hosts is not None:
        host = parse_authority(hosts[0], port)
        if host is None or len(hosts) > 1:
            raise _bad("Host is malformed or repeated")
    elif head.version > 10:
        raise _bad("no Host")
    if named is not None:
        target = parse_authority(named, port)
        if target is None:
            raise _bad("the target's authority is not host[:port]")
        if host != target:  # the target wins, and the origin must not see the other (RFC 9112 3.2.2)
            hosts = [named]
        host = target
    elif authority is None:
        raise _bad("a request without scheme and host, as to an origin, but this port is a proxy's")
    elif host is None:
        host = authority
    head.authority = host
    return hosts[0] if hosts else host_value(host, head.scheme)


def _request_fields(head: RequestHead, found: dict[bytes, list[bytes]], *, kept: bool) -> None:
    """
    Apply the fields that are ours to read.

    @param kept: whether HTTP/1.0's keep-alive is honoured. It is not on a proxy's own port: an old proxy before us
        may have forwarded it without meaning it (RFC 9112 9.3, C.2.2).
    """
    head.length = body_length(found, head.version, where=_REQUEST, status=400) or 0
    if b"connection" in found:
        options = elements(found[b"connection"])
        head.close = b"close" in options or (head.version == 10 and not (kept and b"keep-alive" in options))
        if not QUIET.issuperset(options):
            head.fields = without_named(head.fields, options)
        if head.version == 11 and b"upgrade" in options:
            # h2c has no use left and hides requests from whoever only relays it (RFC 9113 3.1)
            asked = b",".join(found.get(b"upgrade", ())).split(b",")
            offers = [offer.strip(b" \t") for offer in asked if offer.strip(b" \t").lower() not in (b"", b"h2c")]
            head.upgrade = b", ".join(offers) or None
    if b"te" in found:
        head.te_trailers = b"trailers" in elements(found[b"te"])
    if b"expect" in found:
        if elements(found[b"expect"]) != [b"100-continue"]:
            raise MessageError("an expectation other than 100-continue", where=_REQUEST, status=417)
        # HTTP/1.0 cannot mean it, and without a body there is nothing to hold back (RFC 9110 10.1.1)
        head.expect_continue = head.version == 11 and head.length != 0


def _take_max_forwards(head: RequestHead) -> None:
    """Move Max-Forwards of TRACE and OPTIONS into the head; other methods' means nothing (RFC 9110 7.6.2)."""
    values = [value for name, value in head.fields if name.lower() == b"max-forwards"]
    if values:
        if len(values) > 1 or not values[0].isdigit() or len(values[0]) > 9:
            raise _bad("a malformed or repeated Max-Forwards")
        head.max_forwards = int(values[0])
        head.fields = [field for field in head.fields if field[0].lower() != b"max-forwards"]


# -- responses -----------------------------------------------------------------------------------------------------


def read_response(raw: bytes, method: bytes) -> ResponseHead:
    """
    Read a whole response head to a request of *method*.

    C{fields} keeps Content-Length only where it describes a body that is not sent (HEAD, 304).

    @raise MessageError: 502, malformed or ambiguous; its connection must not be used again.
    """
    check_size(raw, where=_RESPONSE, status=502, too_many=502)
    match = _STATUS.match(raw)
    if match is None:
        raise _wrong("no status line of HTTP/1.0 or HTTP/1.1 with a status of 100 to 599 and a plain reason phrase")
    minor, code, reason = match.groups()
    version, status = 10 if minor == b"0" else 11, int(code)
    lines = raw[match.end() - 2 :]
    check_fields(lines, where=_RESPONSE, status=502)
    head = ResponseHead()
    head.block, found = take_apart(lines, _APART_RESPONSE)
    head.block_via = b", ".join(found[b"via"]) if b"via" in found else None
    head.raw, head.version, head.status, head.reason, head.upgrade = raw, version, status, reason or b"", None
    options = elements(found[b"connection"]) if b"connection" in found else ()
    if options and not QUIET.issuperset(options):
        head.fields = without_named(head.fields, options)
    head.close = b"close" in options or (version == 10 and b"keep-alive" not in options)
    length = body_length(found, version, where=_RESPONSE, status=502)
    if method == b"HEAD" or status == 304:
        head.length = 0
        if b"content-length" in found:
            head.fields.append((b"Content-Length", found[b"content-length"][0]))
    elif not has_body(status, method):
        head.length = 0
        if length:  # it may send that body nevertheless, and what follows would be read as the next response
            head.close = True
    elif length is None:
        head.length, head.close = UNTIL_CLOSE, True
    else:
        head.length = length
    if status == 101:
        head.upgrade = b", ".join(found.get(b"upgrade", ())) if b"upgrade" in options else None
        if not head.upgrade:
            raise _wrong("101 without an Upgrade that Connection names")
    return head


def write_response(
    head: ResponseHead,
    *,
    version: int,
    via: bytes | None,
    close: bool,
    chunked: bool,
    announce_keep_alive: bool,
    method: bytes = b"GET",
    length: int | None = None,
    challenges: Sequence[bytes] = (),
) -> bytes:
    """
    Write *head* for a client that spoke *version*; the status line is always HTTP/1.1 (RFC 9112 2.3).

    @param via: our pseudonym, appended to Via, or C{None} to leave Via as it is.
    @param close: announce that the connection ends with this response.
    @param chunked: the body will be written in chunks; ignored for clients of HTTP/1.0, which end it by closing.
    @param announce_keep_alive: a client of HTTP/1.0 asked for it and may have it.
    @param method: of the request: after HEAD and a successful CONNECT the body's length is not ours to state.
    @param length: of the body, if it is not what it was; negative if nobody knows.
    @param challenges: of a proxy behind the tunnel (L{sslintercept.net.challenge.challenges}).
    @raise InterceptError: the head cannot be written so that the client reads what we mean.
    """
    status = head.status
    length = head.length if length is None else length
    start = b"HTTP/1.1 %d %b\r\n" % (status, head.reason)
    block = head.block
    if version > 10 and status != 101 and block is not None and not challenges:
        check_start(start, head, _RESPONSE)
        framing = b""
        if has_body(status, method):
            if chunked:
                framing = b"\r\nTransfer-Encoding: chunked"
            elif length >= 0:
                framing = b"\r\nContent-Length: %d" % length
            else:
                close = True
        if close and status >= 200:
            framing += b"\r\nConnection: close"
        return b"".join((start[:-2], block, block_via(head, via), framing, b"\r\n\r\n"))
    fields = head.fields
    names = [name.lower() for name, _ in fields]
    vias: list[bytes] = []
    if not _WRITTEN_RESPONSE.isdisjoint(names):
        told = method == b"HEAD" or status == 304
        fields, vias = without_written(fields, _WRITTEN_RESPONSE - {b"content-length"} if told else _WRITTEN_RESPONSE)
    lines = [start[:-2]]
    lines += map(b": ".join, fields)
    lines += [b"Proxy-Authenticate: " + challenge for challenge in challenges]
    if vias or via is not None:
        lines.append(via_line(vias, via, head.version))
    if has_body(status, method):
        if chunked and version > 10:
            lines.append(b"Transfer-Encoding: chunked")
        elif length >= 0:
            lines.append(b"Content-Length: %d" % length)
        else:
            close = True  # nothing else ends this body
    if head.upgrade and status == 101:
        lines.append(b"Connection: Upgrade")
        lines.append(b"Upgrade: " + head.upgrade)
    elif close and status >= 200:
        lines.append(b"Connection: close")
    elif announce_keep_alive and version == 10:
        lines.append(b"Connection: keep-alive")
    return join_head(lines, names, _RESPONSE)


def has_body(status: int, method: bytes) -> bool:
    """Say whether a body, even an empty one, follows the head of an answer to *method* (RFC 9112 6.3)."""
    return status >= 200 and status not in (204, 304) and method != b"HEAD" and (method != b"CONNECT" or status >= 300)


# -- errors ---------------------------------------------------------------------------------------------------------


def _bad(what: str) -> MessageError:
    return MessageError(what, where=_REQUEST)


def _wrong(what: str) -> ResponseError:
    return ResponseError(what, where=_RESPONSE)
