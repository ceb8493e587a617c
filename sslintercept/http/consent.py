"""
What a user has consented to, written down in cookies that nobody else can make.

A rule with C{action = warn} answers with a page whose button leads to L{PATH} on the same host. Its link holds a token
for this client, rule, site and target; following it, with POST, sets cookies whose tokens say until when that client is
not asked again there. Every process with the same key can tell a token of ours; nothing has to be kept.

The cookies are for the host, and for its domain as well, since one site is made of several hosts. Which domains may
have cookies is known to browsers (publicsuffix.org): they refuse what would be for everybody below C{co.uk}, and the
cookie for the host is left.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from hmac import compare_digest, digest
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from sslintercept.facts import Facts, RequestHead
from sslintercept.http.fields import host_value
from sslintercept.sites.read import REGISTRIES

PATH: Final = b"/.sslintercept/continue"
"""where a user continues, on every host that a rule warns of; nothing below it reaches an origin"""
MARK: Final = b"sslintercept-"
"""in the names of our cookies"""
LINK: Final = 600.0
"""seconds for which a button may be pressed"""
MOST_TARGET: Final = 8 * 1024
"""bytes of a target that is returned to; from longer ones a user comes to the site's first page"""
MOST_TOKENS: Final = 8
"""tokens of a request that are looked at"""

_COOKIE = re.compile(rb"(?:__Host-|__Secure-)?sslintercept-[0-9a-f]{8}")
_TOKEN = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{43})")
_QUERY = re.compile(rb"rule=([A-Za-z0-9_.~%-]{1,200})&token=([0-9]{1,12}\.[A-Za-z0-9_-]{43})&to=([A-Za-z0-9_.~%-]+)")


class Link(NamedTuple):
    """What a link to continue says, before anybody has looked at its token."""

    rule: str
    token: str
    target: bytes


class Signer:
    """
    Makes and knows tokens: a time, and a code (HMAC-SHA256) over it and what the token is for.

    @param key: 32 bytes that all processes share.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, until: float, *what: str) -> str:
        """One that ends at C{until}."""
        return f"{int(until)}.{self._code(int(until), what)}"

    def holds(self, token: str, now: float, most: float, *what: str) -> bool:
        """Whether C{token} is ours for that, has not ended, and does not last longer than C{most} seconds."""
        match = _TOKEN.fullmatch(token)
        if match is None or not now < int(match[1]) <= now + most + 1:
            return False
        return compare_digest(self._code(int(match[1]), what), match[2])

    def _code(self, until: int, what: Sequence[str]) -> str:
        # Each part behind its length: no two lists of parts are the same bytes.
        parts = [part.encode("utf-8", "surrogatepass") for part in (str(until), *what)]
        message = b"".join(b"%d:%b," % (len(part), part) for part in parts)
        return urlsafe_b64encode(digest(self._key, message, "sha256")).rstrip(b"=").decode("ascii")


class Consents:
    """
    Asks for tokens, and makes them, for the rules of one generation.

    @param warned: for each rule that warns, the seconds for which it is not asked again.
    """

    __slots__ = ("_signer", "_warned")

    def __init__(self, key: bytes, warned: dict[str, float]) -> None:
        self._signer = Signer(key)
        self._warned = warned

    def given(self, facts: Facts, rule: str, host: str, tokens: Sequence[str], now: float) -> bool:
        """Whether one of the C{tokens} lets this client pass C{rule} to C{host}."""
        most = self._warned.get(rule, 0.0)
        who = client_of(facts)
        scopes = [host, *filter(None, [domain_of(host)])]
        return any(
            self._signer.holds(token, now, most, "consent", who, rule, scope)
            for token in tokens[:MOST_TOKENS]
            for scope in scopes
        )

    def link(self, facts: Facts, rule: str, head: RequestHead, now: float) -> str:
        """Where this client continues to what C{head} asks for."""
        target = head.target if len(head.target) <= MOST_TARGET and head.target != b"*" else b"/"
        token = self._signer.token(now + LINK, "link", client_of(facts), rule, site(head), target.decode("latin-1"))
        return f"{PATH.decode()}?rule={quote(rule, safe='')}&token={token}&to={quote(target, safe='')}"

    def follow(self, facts: Facts, head: RequestHead, now: float) -> Link | None:
        """What a request for L{PATH} leads to; C{None} if its link is not ours, not for this client, or too old."""
        link = read_link(head.target)
        if link is None or link.rule not in self._warned:
            return None
        what = ("link", client_of(facts), link.rule, site(head), link.target.decode("latin-1"))
        return link if self._signer.holds(link.token, now, LINK, *what) else None

    def cookies(self, facts: Facts, rule: str, head: RequestHead, now: float) -> list[str]:
        """The values of Set-Cookie that remember a consent (RFC 6265 4.1, 6265bis 4.1.3)."""
        seconds = self._warned[rule]
        host, secure = head.authority.host, head.scheme == "https"
        ends = f"Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"

        def value(scope: str) -> str:
            token = self._signer.token(now + seconds, "consent", client_of(facts), rule, scope)
            return f"{cookie_name(rule)}={token}; {ends}"

        found = [("__Host-" if secure else "") + value(host)]
        if domain := domain_of(host):
            found.append(("__Secure-" if secure else "") + f"{value(domain)}; Domain={domain}")
        return found


def client_of(facts: Facts) -> str:
    """Who a consent is bound to: the user where one is known, else the address."""
    return f"address {facts.client.host}" if facts.user is None else f"user {facts.user}"


def site(head: RequestHead) -> str:
    """Scheme, host and port of a request."""
    return f"{head.scheme}://{host_value(head.authority, head.scheme).decode('ascii')}"


def domain_of(host: str) -> str | None:
    """The domain that a name is probably registered under; C{None} for what has none."""
    try:
        ip_address(host)
        return None
    except ValueError:
        labels = host.split(".")
    few = 3 if len(labels[-1]) == 2 and len(labels) > 1 and labels[-2].encode() in REGISTRIES else 2
    return ".".join(labels[-few:]) if len(labels) >= few and all(labels) else None


def cookie_name(rule: str) -> str:
    """One for each rule, so that two of them do not overwrite each other's."""
    return f"{MARK.decode()}{sha256(rule.encode()).hexdigest()[:8]}"


def is_ours(target: bytes, path: bytes = PATH) -> bool:
    """Whether a request is for a C{path} of ours, or something below it, whatever it is asked."""
    return target.startswith(path) and target[len(path) : len(path) + 1] in (b"", b"?", b"/")


def read_link(target: bytes) -> Link | None:
    """Take the target of a request for L{PATH} apart."""
    match = _QUERY.fullmatch(target[len(PATH) + 1 :]) if is_ours(target) else None
    if match is None:
        return None
    rule, token, to = match.groups()
    return Link(unquote_to_bytes(rule).decode("utf-8", "replace"), token.decode("ascii"), unquote_to_bytes(to))


def take(head: RequestHead) -> list[str]:
    """Take our cookies out of a request, which must not reach an origin; their tokens."""
    if MARK not in head.raw:
        return []
    tokens: list[str] = []
    fields = []
    for name, value in head.fields:
        if name.lower() == b"cookie" and MARK in value:
            value = b"; ".join(_others(value, tokens))
            if not value:
                continue
        fields.append((name, value))
    head.fields = fields
    return tokens


def _others(cookies: bytes, tokens: list[str]) -> Iterator[bytes]:
    for pair in cookies.split(b";"):
        name, _, value = pair.strip(b" \t").partition(b"=")
        if _COOKIE.fullmatch(name.strip(b" \t")):
            tokens.append(value.strip(b" \t").decode("latin-1"))
        elif pair.strip(b" \t"):
            yield pair.strip(b" \t")
