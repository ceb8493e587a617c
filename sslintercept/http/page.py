"""
The responses that are the proxy's own: error and block pages, and the answer to CONNECT.

A page says what happened, what the reader can do, and an id that finds the connection in the log; browsers get HTML,
programs that prefer it get JSON (RFC 9457). Proxy-Status tells programs that the proxy speaks and not the origin
(RFC 9209). Texts may quote names from the network: whatever is not ours is escaped where it is written.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from sslintercept.errors import InterceptError
from sslintercept.facts import reason_of

MAX_ACCEPT: Final = 1024
"""Bytes of Accept that are read."""

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:12vh auto;padding:0 1.5rem;"
    "color:#222;background:#fff}h1{font-size:1.4rem}p{overflow-wrap:anywhere}small{color:#666}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}small{color:#999}}"
)
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>%(title)s</title><style>{_STYLE.replace("%", "%%")}</style></head>
<body><h1>%(title)s</h1>
<p>%(what)s</p>
<p>%(remedy)s</p>
<p><small>%(status)d &middot; %(via)s &middot; %(id)s</small></p>
</body></html>
"""
_STYLE_HASH = b64encode(sha256(_STYLE.encode("ascii")).digest()).decode("ascii")
_SAFETY = (
    f"Content-Security-Policy: default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer"
)
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_SPECIFICITY = {"*/*": 0, "application/*": 1, "text/*": 1}


def page(
    status: int,
    *,
    title: str,
    what: str,
    remedy: str,
    id: str,
    accept: bytes,
    close: bool,
    head_only: bool = False,
    error: str,
    via_name: str,
    challenges: Sequence[bytes] = (),
) -> bytes:
    """
    Make a whole response, head and body.

    @param id: finds the connection in the log.
    @param accept: the request's Accept, or empty.
    @param close: announce that the connection ends with this response.
    @param head_only: the request was HEAD: the head of the same page.
    @param error: the error type of RFC 9209 2.3, for example C{dns_timeout} or C{http_request_denied}.
    @param via_name: the proxy's name in Proxy-Status, the one it has in Via.
    @param challenges: with 407, values of Proxy-Authenticate.
    @raise InterceptError: C{status} is not of an error, or C{error} or C{via_name} cannot be written in a field.
    """
    if not 400 <= status < 600 or not _TOKEN.fullmatch(error):
        raise _unwritable("the status or the error type")
    texts = {
        name: _printable(text) for name, text in (("title", title), ("what", what), ("remedy", remedy), ("id", id))
    }
    if prefers_json(accept):
        kind = "application/problem+json"
        body = json.dumps(
            {"type": "about:blank", "status": status, "title": texts["title"], "detail": texts["what"]}
            | {"remedy": texts["remedy"], "id": texts["id"]}
        ).encode("ascii")
    else:
        kind = "text/html; charset=utf-8"
        escaped: dict[str, str | int] = {name: html.escape(text) for name, text in texts.items()}
        escaped["status"], escaped["via"] = status, html.escape(_printable(via_name))
        body = (_PAGE % escaped).encode("utf-8")
    lines = [
        f"HTTP/1.1 {status} {reason_of(status).decode('ascii')}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"Proxy-Status: {_item(via_name)}; error={error}",
        _SAFETY,
    ]
    lines += [f"Proxy-Authenticate: {challenge.decode('ascii')}" for challenge in challenges]
    if close:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "\r\n"]).encode("ascii")
    return head if head_only else head + body


def connect_established() -> bytes:
    """Give the answer to a CONNECT that succeeded; no field of framing may be in it (RFC 9110 9.3.6)."""
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


def prefers_json(accept: bytes) -> bool:
    """
    Say whether *accept* gives JSON a higher quality than HTML (RFC 9110 12.5.1).

    The most specific range counts for each; without a preference the page is for people.
    """
    best = {"text/html": (-1, 0.0), "application/json": (-1, 0.0), "application/problem+json": (-1, 0.0)}
    for element in accept[:MAX_ACCEPT].decode("latin-1").lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = float(parameter[2:]) if _QUALITY.fullmatch(parameter[2:]) else 0.0
        for kind in best:
            if name in (kind, "*/*", kind.partition("/")[0] + "/*"):
                best[kind] = max(best[kind], (_SPECIFICITY.get(name, 2), quality))
    return max(best["application/json"][1], best["application/problem+json"][1]) > best["text/html"][1]


def _printable(text: str) -> str:
    """Show controls and lone surrogates, which have no place in a page, as U+FFFD; keep it to a bounded length."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text[:2000])


def _item(name: str) -> str:
    """Write *name* as an item of a structured field: a token if it is one, else a string (RFC 9651 3.3)."""
    if _TOKEN.fullmatch(name):
        return name
    if not name.isascii() or not name.isprintable():
        raise _unwritable("the proxy's name")
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unwritable(what: str) -> InterceptError:
    return InterceptError(f"{what} cannot be written", where="error page", remedy="report who asked for this page")
