"""
A part as a service of ICAP sees it: a message of HTTP, whatever carried it.

A part of HTTP is shown with its own heads. Others get heads that say the same in the words of HTTP, as gateways for FTP
and mail have done it for long: where it goes or comes from, what it is, and its name (RFC 9110 8.3, RFC 6266).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from sslintercept.icap.message import ModRequest
from sslintercept.icap.wire import Kind
from sslintercept.inspect.part import Part

MAILS: Final = frozenset(("smtp", "lmtp", "pop3", "imap"))
SCHEMES: Final = {"ftp": "ftp", "smtp": "smtp", "lmtp": "smtp", "pop3": "pop", "imap": "imap"}
"""of URLs for what has none; anything else is told as C{http}"""
NOBODY: Final = "unknown.invalid"
"""the host of a part of which no host is known (RFC 2606 2)"""
BINARY: Final = "application/octet-stream"
MAIL: Final = "message/rfc822"
LONGEST_URL: Final = 8192
MOST_EXTENSION: Final = 16
"""characters of a name's ending; what is longer is none"""

_SAFE: Final = "!$%&'()*+,/:;=?@[]~"
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_CHARSET = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_METHOD = re.compile(r"[A-Z]{1,24}")
_ENDING = re.compile(rf"[A-Za-z0-9]{{1,{MOST_EXTENSION}}}")


def asked(part: Part) -> ModRequest:
    """What is said of a part; whoever shows it keeps its bytes."""
    facts = part.facts
    return ModRequest(
        Kind.REQMOD if part.leaves else Kind.RESPMOD,
        part.request_head or request_head(part),
        None if part.leaves else part.response_head or response_head(part),
        body=part.length != 0,
        length=part.length,
        keeps=True,
        extension=extension(part),
        client=facts.client.host,
        server=facts.upstream.host if facts.upstream is not None else "",
        user=facts.user or part.user or facts.login or "",
    )


def request_head(part: Part) -> bytes:
    """The request that sends it, or that it answers."""
    method = part.method if _METHOD.fullmatch(part.method) else _method(part)
    where = url(part)
    host, _ = _split(where)
    lines = [f"{method} {where} HTTP/1.1", f"Host: {host}"]
    if part.leaves:
        lines += described(part)
    return _head(lines)


def response_head(part: Part) -> bytes:
    """The response that brings it."""
    return _head([f"HTTP/1.1 {part.status or 200} OK", *described(part)])


def _method(part: Part) -> str:
    if not part.leaves:
        return "GET"
    return "PUT" if part.carrier == "ftp" else "POST"


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def described(part: Part) -> list[str]:
    """The fields that tell of the content."""
    declared = part.media_type or part.sniffed
    if not _TYPE.fullmatch(declared):
        declared = MAIL if part.carrier in MAILS and part.kind == "message" else BINARY
    elif part.charset is not None and _CHARSET.fullmatch(part.charset):
        declared += f"; charset={part.charset}"
    fields = [f"Content-Type: {declared}"]
    if part.length is not None:
        fields.append(f"Content-Length: {part.length}")
    if name := part.name.replace("\\", "/").rpartition("/")[2]:
        plain = re.sub(r'[^\x20-\x7e]|["%]', "_", name)
        exact = f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}" if plain != name else ""
        fields.append(f'Content-Disposition: attachment; filename="{plain}"{exact}')
    return fields


def url(part: Part) -> str:
    """Where it goes, or comes from; always one with a scheme and a host, of visible characters."""
    said = re.sub(r"^ws(s?)://", r"http\1://", part.url)
    if not re.match(r"[a-z]{2,8}://[^/?#]", said):
        host = quote(part.host, safe="[]:") or NOBODY
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        path = part.name if part.carrier == "ftp" else ""
        said = f"{SCHEMES.get(part.carrier, 'http')}://{host}/{quote(path.lstrip('/'), errors='replace')}"
    return quote(said, safe=_SAFE, errors="replace")[:LONGEST_URL]


def _split(where: str) -> tuple[str, str]:
    """Host and port of a URL, and its path."""
    rest = where.partition("://")[2].partition("?")[0]
    host, _, path = rest.partition("/")
    return host, path


def extension(part: Part) -> str:
    """What the name ends with, without the dot: the file's, else the URL's."""
    name = part.name or _split(url(part))[1]
    ending = name.replace("\\", "/").rpartition("/")[2].rpartition(".")
    return ending[2].lower() if ending[1] and _ENDING.fullmatch(ending[2]) else ""
