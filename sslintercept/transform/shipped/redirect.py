"""
C{redirect}: sends the client somewhere else.

Good for hosts that have moved, for C{https:} everywhere, for a page that explains why something is not to be had::

    [transform:moved]
    use = redirect
    match = host:old.example direction:request
    to = https://new.example{path}{query}
    status = 308

Placeholders: C{{host}} of the request, without its port; C{{path}}; C{{query}} with its C{?}, or nothing; C{{url}}, all
of it. Each is quoted for the place where it stands: behind a C{?} of C{to} as one value, C{?back={url}}; in front of it
as what it is. No client can give the address another host, another field or another line.

Limits. The request is never forwarded. A request for the very address it would be sent to passes with a note, so
C{to = https://{host}{path}{query}} may match C{https:} requests, too; a loop over several addresses is not seen. A
client keeps 301 and 308 for long; 302 and 303 let it repeat a POST as a GET, 307 and 308 do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import quote, urlsplit

from sslintercept.config import units
from sslintercept.config.key import described, setting
from sslintercept.errors import MessageError
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Transformer

LONGEST: Final = 8192
"""bytes of a Location; what is longer many clients do not take"""
LONGEST_TEMPLATE: Final = 2048

_TEMPLATE = re.compile(
    r"https?://(?:\{host\}|[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:(?:[/?#]|\{path\}|\{query\})(?:[!#$%&'()*+,./0-9:;=?@A-Z_a-z~\[\]-]|\{(?:host|path|query|url)\})*)?"
)
_PLACE = re.compile(r"\{(host|path|query|url)\}")
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~"


def _template(text: str) -> str:
    if len(text) > LONGEST_TEMPLATE:
        raise ValueError("too long")
    if not _TEMPLATE.fullmatch(text):
        raise ValueError("not an absolute address, or with other placeholders")
    parts = urlsplit(_PLACE.sub(lambda found: "host" if found[1] == "host" else "/", text))
    if parts.netloc.startswith("["):
        IPv6Address(parts.hostname or "")
    _ = parts.port  # raises ValueError if it is none
    return text


@dataclass(frozen=True, slots=True)
class RedirectOptions:
    """Of C{redirect}."""

    to: str = field(
        metadata=described(
            units.unit(_template, "http: or https: address in ASCII, with {host}, {path}, {query} or {url}"),
            None,
            "where clients are sent",
            example="https://new.example{path}{query}",
            required=True,
        )
    )
    status: str = setting(
        units.choice("301", "302", "303", "307", "308"), "302", "how: moved, found, see other, or with its method kept"
    )


class Redirect(Transformer):
    """Answers with another address."""

    def __init__(self, options: RedirectOptions) -> None:
        self.status = int(options.status)
        front, mark, behind = options.to.partition("?")
        self._front, self._behind = _PLACE.split(front), _PLACE.split(mark + behind)
        """texts and the names of placeholders in turn, for the address in front of its query, and from there on"""

    def transform(self, message: Message) -> None:
        location = self.location(message)
        if len(location) > LONGEST:
            raise MessageError("where it leads to is too long an address", where="redirect", status=414)
        if same(location, message.url):
            message.note("redirect", "not sent to itself")
            return
        message.answer(self.status, {b"Location": location.encode("ascii")})

    def location(self, message: Message) -> str:
        """
        Where the request leads to, in ASCII.

        @raise MessageError: its host cannot be part of an address.
        """
        path, mark, query = message.request.target.partition(b"?")
        if not path.startswith(b"/"):
            path = b"/"
        values = {"host": b"", "path": path, "query": mark + query, "url": message.url.encode("latin-1", "replace")}
        host = message.request.authority.host
        if ":" not in host and not _HOST.fullmatch(host):
            raise MessageError("its host is none", where="redirect")
        values["host"] = f"[{host}]".encode("ascii") if ":" in host else host.encode("ascii")
        safe = {"host": "[]:", "path": _PATH_SAFE, "query": _PATH_SAFE + "?", "url": ""}
        return "".join(
            [
                *(part if at % 2 == 0 else quote(values[part], safe[part]) for at, part in enumerate(self._front)),
                *(part if at % 2 == 0 else quote(values[part], "") for at, part in enumerate(self._behind)),
            ]
        )


def same(one: str, other: str) -> bool:
    """Whether two addresses lead to the same place; what stands behind C{#} is the client's own business."""
    return canonical(one) == canonical(other)


def canonical(url: str) -> tuple[str, str, int, str, str]:
    """Its parts, with what may be left out, and quoted alike."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = quote((parts.path or "/").encode("latin-1", "replace"), _PATH_SAFE)
    query = quote(parts.query.encode("latin-1", "replace"), _PATH_SAFE + "?")
    return parts.scheme, (parts.hostname or "").rstrip("."), port, path, query
