"""
The responses that are the proxy's own: error, block and warning pages, and the answer to CONNECT.

A page says what happened, what the reader can do, and an id that finds it in the logs. People get HTML; programs get
JSON (RFC 9457); an image is answered by an image, a script or a style by nothing (L{sslintercept.http.wants}).
Proxy-Status tells programs that the proxy speaks and not the origin (RFC 9209). Texts may quote names from the network:
whatever is not ours is escaped where it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from sslintercept.errors import InterceptError
from sslintercept.facts import reason_of
from sslintercept.http.picture import sign
from sslintercept.http.template import Language, Page, Pages
from sslintercept.http.wants import Form, Wants

EVENT: Final = "Sslintercept-Event"
"""the field that carries the id that a page shows"""
MOST_TEXT: Final = 2000
"""characters of a text on a page"""
MOST_LINK: Final = 32 * 1024
"""characters of the link that continues"""

_SAFETY = "base-uri 'none'; form-action {form}; frame-ancestors 'none'"
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_UNFIT = re.compile(r"[^A-Za-z0-9._:-]")
_PLAIN_FIELD = re.compile(r"[A-Za-z-]+: [\x21-\x7e][\x20-\x7e]*")


class Notice(NamedTuple):
    """
    What is to be said.

    @ivar text: for which occasion: a key of the languages' C{texts}.
    @ivar what: what happened; C{remedy}: what to do, where the language has nothing for this occasion.
    @ivar id: finds it in the logs: that of the event, or else of the transaction.
    @ivar error: the error type of RFC 9209 2.3, for example C{dns_timeout} or C{http_request_denied}; empty on a page
        of the kind C{wait}, since nothing has gone wrong.
    @ivar kind: of the page: C{error}, C{block}, C{warn} or C{wait}.
    @ivar event: the id of an event, if one was written down; C{category}: of what was found.
    @ivar rule: whose doing it was; C{host} and C{url}: what was asked for.
    @ivar link: of a warning, where the user continues; of what waits, where it goes on.
    @ivar received: the status that the next hop had answered with, or 0 (RFC 9209 2.1.5).
    """

    status: int
    text: str
    what: str
    remedy: str
    id: str
    error: str
    kind: str = "error"
    event: str = ""
    category: str = ""
    rule: str = ""
    host: str = ""
    url: str = ""
    link: str = ""
    received: int = 0


def page(
    notice: Notice,
    pages: Pages,
    wants: Wants,
    *,
    close: bool,
    head_only: bool = False,
    via_name: str,
    fields: Sequence[str] = (),
) -> bytes:
    """
    Make a whole response, head and body.

    @param close: announce that the connection ends with this response.
    @param head_only: the request was HEAD: the head of the same page.
    @param via_name: the proxy's name in Proxy-Status, the one it has in Via.
    @param fields: further lines of the head, for example Proxy-Authenticate with 407.
    @raise InterceptError: the status is not of an error, or the error, the name or a field cannot be written.
    """
    status = notice.status
    waits = notice.kind == "wait"
    if not (400 <= status < 600 or (waits and status == 200)) or not (waits or _TOKEN.fullmatch(notice.error)):
        raise _unwritable("the status or the error type")
    template, language = pages.choose(notice.kind, wants.languages)
    title, remedy = language.texts[notice.text]
    notice = notice._replace(remedy=remedy or notice.remedy)
    safety = _SAFETY.format(form="'self'" if notice.link and not waits else "'none'")
    policy = f"default-src 'none'; {safety}"
    if wants.form is Form.HTML:
        kind, body = "text/html; charset=utf-8", _html(notice, title, template, language, pages.contact, via_name)
        policy = f"default-src 'none'; style-src {template.policy}; img-src data:; {safety}"
    elif wants.form is Form.JSON:
        kind, body = "application/problem+json", _json(notice, title)
    elif wants.form is Form.IMAGE and notice.kind in ("block", "warn"):
        kind, body = "image/png", sign()
    elif wants.form is not Form.EMPTY:
        said = (title, notice.what, notice.remedy, pages.contact, notice.id)
        kind, body = "text/plain; charset=utf-8", "".join(f"{printable(line)}\n" for line in said if line).encode()
    else:
        kind, body = wants.type, b""
    error = f"; error={notice.error}" if notice.error else ""
    received = f"; received-status={notice.received}" if notice.received else ""
    lines = [
        f"HTTP/1.1 {status} {reason_of(status).decode('ascii')}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"Proxy-Status: {_item(via_name)}{error}{received}",
        f"{EVENT}: {_UNFIT.sub('?', notice.id[:100]) or '-'}",
        f"Content-Security-Policy: {policy}",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
    ]
    if kind.startswith(("text/html", "text/plain")):
        lines.append(f"Content-Language: {language.tag}")
    for field in fields:
        if not _PLAIN_FIELD.fullmatch(field):
            raise _unwritable("a field")
        lines.append(field)
    if close:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "\r\n"]).encode("ascii")
    return head if head_only else head + body


def _html(notice: Notice, title: str, template: Page, language: Language, contact: str, via_name: str) -> bytes:
    values = {
        "title": title,
        "what": notice.what,
        "remedy": notice.remedy,
        "id": notice.id,
        "event": notice.event,
        "category": notice.category,
        "host": notice.host,
        "url": notice.url,
        "rule": notice.rule,
        "contact": contact,
        "status": str(notice.status),
        "button": language.button,
        "lang": language.tag,
        "via": via_name,
    }
    shown = {name: printable(value) for name, value in values.items()}
    return template.fill({**shown, "continue": printable(notice.link, MOST_LINK)})


def _json(notice: Notice, title: str) -> bytes:
    """A problem document with members of our own (RFC 9457 3.2)."""
    said = {"type": "about:blank", "status": notice.status, "title": title, "detail": printable(notice.what)}
    said |= {"remedy": printable(notice.remedy), "id": printable(notice.id)}
    more = {"event": notice.event, "category": notice.category, "rule": notice.rule}
    said |= {name: printable(value) for name, value in more.items() if value}
    if notice.link:
        said["continue"] = printable(notice.link, MOST_LINK)
    return json.dumps(said).encode("ascii")


def connect_established() -> bytes:
    """Give the answer to a CONNECT that succeeded; no field of framing may be in it (RFC 9110 9.3.6)."""
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


def printable(text: str, most: int = MOST_TEXT) -> str:
    """Show controls and lone surrogates, which have no place in a page, as U+FFFD; keep it to a bounded length."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text[:most])


def _item(name: str) -> str:
    """Write *name* as an item of a structured field: a token if it is one, else a string (RFC 9651 3.3)."""
    if _TOKEN.fullmatch(name):
        return name
    if not name.isascii() or not name.isprintable():
        raise _unwritable("the proxy's name")
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unwritable(what: str) -> InterceptError:
    return InterceptError(f"{what} cannot be written", where="error page", remedy="report who asked for this page")
