"""
The access log: one line for each transaction and one for each connection, as JSON or in Squid's native format.

What is the same for all transactions of a connection is rendered once (L{AccessLog.connection_part}) and kept by the
caller, so that a transaction costs little more than its own numbers: 4 µs as JSON, its entry included.

Whatever came from the network is cut to a limit and escaped; a line is ASCII and stays one line. Secrets stay out: a
URL is logged without its user information and fragment, and of its query only the question mark, unless asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from json import JSONEncoder
from typing import Final, NamedTuple

from sslintercept.errors import InterceptError
from sslintercept.facts import Action, Address, ClientHello, Decision, Facts, TlsLeg
from sslintercept.log.writer import json_notice

MAX_URL: Final = 4096
"""Characters of a URL; what is longer ends in three dots."""
MAX_TEXT: Final = 500
"""Characters of a reason or an error."""
MAX_WORD: Final = 100
"""Characters of a method, a content type, a user."""
MAX_VERDICTS: Final = 8
"""Verdicts of a connection that are shown, the latest ones."""

NOT_PRINTED = re.compile(r"[^\x21-\x7e]")
AUTHORITY_ENDS = re.compile(r"[/?#]")

quoted = JSONEncoder().encode


class TransactionEntry(NamedTuple):
    """One request and its response, or what became of it. A tuple, since one is made for every request."""

    id: str
    """of the connection"""
    serial: int
    """of the transaction on its connection, from 1"""
    time: float
    """when it ended, in seconds since the epoch"""
    duration: float
    """seconds"""
    method: str
    url: str
    """absolute, or in authority form for CONNECT; secrets are taken out here, not by the caller"""
    status: int = 0
    """the client was answered with; 0 if it was not answered"""
    bytes_in: int = 0
    """from the client, head and body"""
    bytes_out: int = 0
    """to the client, head and body"""
    upstream: Address | None = None
    """the address that was spoken to; absent if nobody was asked"""
    reused: bool = False
    """the upstream connection had served before"""
    denied: bool = False
    """a rule answered instead of the origin"""
    content_type: str = ""
    error: BaseException | None = None
    parent: str | None = None
    """the parent that the way to the origin goes by"""
    notes: Mapping[str, str] | None = None
    """what transforms said of it"""
    cached: str = ""
    """what the cache has done, as Squid's result code; empty if it was not asked"""

    @property
    def result(self) -> str:
        """Squid's result code."""
        if self.denied or is_denial(self.error):
            return "TCP_DENIED"
        if self.cached and self.cached != "TCP_MISS":
            return self.cached
        if self.upstream is None:
            return "NONE"
        return "TCP_MISS" if self.error is None else "TCP_MISS_ABORTED"


@dataclass(slots=True)
class ConnectionEntry:
    """What a client connection came to; who it was is in its facts."""

    time: float
    """when it ended, in seconds since the epoch"""
    duration: float
    """seconds"""
    status: int = 0
    """the answer to CONNECT, or 0"""
    transactions: int = 0
    bytes_in: int = 0
    """from the client; in a tunnel the bytes relayed"""
    bytes_out: int = 0
    """to the client; in a tunnel the bytes relayed"""
    upstream: Address | None = None
    reused: bool = False
    error: BaseException | None = None


DENIALS: Final = frozenset({"blocked", "forbidden", "inspected", "policy"})
"""kinds of errors by which we refuse what a client wants, whether it could be had or not"""
UNOPENED: Final = "tunnel"
"""the last layer of a connection that was relayed as it is, whatever the rules would have allowed"""


def is_denial(error: BaseException | None) -> bool:
    return isinstance(error, InterceptError) and error.kind in DENIALS


def connection_result(entry: ConnectionEntry, facts: Facts, decision: Decision | None) -> str:
    """Squid's result code; C{NONE} stands for a connection whose transactions have lines of their own."""
    action = decision.action if decision is not None else Action.INTERCEPT
    if action is Action.BLOCK or is_denial(entry.error):
        return "TCP_DENIED"
    if action is Action.TUNNEL or facts.path[-1] == UNOPENED:
        return "TCP_TUNNEL" if entry.error is None else "TCP_TUNNEL_ABORTED"
    return "NONE"


def destination_of(facts: Facts) -> Address | None:
    """Where the client wants to go, if it has said so."""
    destination = facts.destination
    return destination if isinstance(destination, Address) and destination.host else None


def shown_url(url: str, queries: bool = False) -> str:
    """
    The URL as it may be logged: no user information, no fragment, and without *queries* nothing behind the C{?}.

    An origin form has no authority; anything else has one, at its beginning or behind C{://}.
    """
    if "#" in url:
        url = url.partition("#")[0]
    if not queries and (mark := url.find("?")) >= 0:
        url = url[: mark + 1]
    if "@" in url and not url.startswith("/"):
        scheme, separator, rest = url.partition("://")
        if not separator or AUTHORITY_ENDS.search(scheme):
            scheme, separator, rest = "", "", url
        end = found.start() if (found := AUTHORITY_ENDS.search(rest)) else len(rest)
        url = scheme + separator + rest[:end].rpartition("@")[2] + rest[end:]
    return url if len(url) <= MAX_URL else url[:MAX_URL] + "..."


def percent_encoded(text: str) -> str:
    """Without white space, control characters, or anything that is not ASCII; C{-} for nothing."""

    def encode(found: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))

    return NOT_PRINTED.sub(encode, text) or "-"


def fault(error: BaseException) -> tuple[str, str]:
    """
    The kind of an error and its text.

    Only our own errors are known to hold no secrets; of any other just the name of its class is shown.
    """
    if isinstance(error, InterceptError):
        return error.kind, str(error)[:MAX_TEXT]
    return "internal", type(error).__name__


@lru_cache(maxsize=1024)
def json_address(address: Address | None) -> str:
    return quoted(str(address)) if address else "null"


@lru_cache(maxsize=1024)
def json_leg(leg: TlsLeg | None) -> str:
    if leg is None:
        return "null"
    return (
        f'{{"version":{quoted(leg.version)},"cipher":{quoted(leg.cipher)},"group":{quoted(leg.group)},'
        f'"alpn":{quoted(leg.alpn)},"sni":{quoted(leg.server_name)},"resumed":{json_bool(leg.resumed)},'
        f'"verified":{quoted(leg.verified)}}}'
    )


def json_bool(value: bool) -> str:
    return "true" if value else "false"


def json_text(text: str | None, limit: int = MAX_TEXT) -> str:
    return "null" if text is None else quoted(text[:limit])


CONSENTED: Final = '"consented":true,'
NO_ERROR: Final = '"error":null'


def json_error(error: BaseException | None) -> str:
    if error is None:
        return NO_ERROR
    kind, text = fault(error)
    return f'"error":{quoted(kind)},"error_text":{quoted(text)}'


def json_notes(notes: Mapping[str, str]) -> str:
    """The last field of a line, and its end."""
    return f',"notes":{quoted(dict(notes))}}}'


class JsonFormat:
    """One JSON object a line; docs/logs.md names the fields."""

    def __init__(self, queries: bool) -> None:
        self.queries = queries

    def part(self, facts: Facts, decision: Decision | None) -> str:
        hello = facts.client_hello
        ja4 = hello.ja4 if isinstance(hello, ClientHello) else None
        destination = destination_of(facts)
        verdicts = facts.verdicts[-MAX_VERDICTS:]
        probe = ",".join(json_text(f"{verdict.protocol}: {verdict.reason}") for verdict in verdicts)
        return (
            f'"client":{json_text(facts.client.host)},"client_port":{facts.client.port},'
            f'"listener":{json_text(facts.listener)},"user":{json_text(facts.user, MAX_WORD)},'
            f'"login":{json_text(facts.login, MAX_WORD)},'
            f'"destination":{json_address(destination)},"stack":{quoted(facts.stack)},'
            f'"rule":{json_text(decision and decision.rule)},"action":{json_text(decision and decision.action.value)},'
            f'"reason":{json_text(decision and decision.reason)},{CONSENTED if decision and decision.consented else ""}'
            f'"probe":[{probe}],"mismatch":{json_bool(any(verdict.mismatch for verdict in verdicts))},'
            f'"ja4":{json_text(ja4)},"client_tls":{json_leg(facts.client_tls)},'
            f'"layers":[{",".join(map(json_leg, facts.layers))}],"parent":{json_text(facts.parent)},'
            f'"upstream_tls":{json_leg(facts.upstream_tls)}'
        )

    def transaction(self, entry: TransactionEntry, part: str) -> str:
        return (
            f'{{"type":"transaction","time":{entry.time:.3f},"id":"{entry.id}-{entry.serial}",{part},'
            f'"method":{quoted(entry.method[:MAX_WORD])},"url":{quoted(shown_url(entry.url, self.queries))},'
            f'"status":{entry.status},"bytes_in":{entry.bytes_in},"bytes_out":{entry.bytes_out},'
            f'"duration_ms":{entry.duration * 1000:.1f},"upstream":{json_address(entry.upstream)},'
            f'"reused":{"true" if entry.reused else "false"},"result":"{entry.result}",'
            f"{NO_ERROR if entry.error is None else json_error(entry.error)}"
            f"{'}' if not entry.notes else json_notes(entry.notes)}"
        )

    def connection(self, entry: ConnectionEntry, facts: Facts, decision: Decision | None) -> str:
        return (
            f'{{"type":"connection","time":{entry.time:.3f},"id":{quoted(facts.id)},{self.part(facts, decision)},'
            f'"transactions":{entry.transactions},'
            f'"status":{entry.status},"bytes_in":{entry.bytes_in},"bytes_out":{entry.bytes_out},'
            f'"duration_ms":{entry.duration * 1000:.1f},"upstream":{json_address(entry.upstream)},'
            f'"reused":{json_bool(entry.reused)},"result":"{connection_result(entry, facts, decision)}",'
            f"{json_error(entry.error)}}}"
        )


class SquidFormat:
    """
    Squid's native format, with its columns::

        time elapsed client result/status bytes method url user hierarchy/peer type
    """

    def __init__(self, queries: bool) -> None:
        self.queries = queries

    def part(self, facts: Facts, decision: Decision | None) -> str:
        return f"{percent_encoded(facts.client.host)} {percent_encoded((facts.user or '')[:MAX_WORD])}"

    def transaction(self, entry: TransactionEntry, part: str) -> str:
        client, _, user = part.partition(" ")
        return (
            f"{entry.time:.3f} {entry.duration * 1000:6.0f} {client} {entry.result}/{entry.status:03} "
            f"{entry.bytes_out} {percent_encoded(entry.method[:MAX_WORD])} "
            f"{percent_encoded(shown_url(entry.url, self.queries))} {user} {hierarchy(entry.upstream, entry.parent)} "
            f"{percent_encoded(entry.content_type.partition(';')[0].strip()[:MAX_WORD])}"
        )

    def connection(self, entry: ConnectionEntry, facts: Facts, decision: Decision | None) -> str:
        client, _, user = self.part(facts, decision).partition(" ")
        destination = str(destination_of(facts) or "")
        return (
            f"{entry.time:.3f} {entry.duration * 1000:6.0f} {client} "
            f"{connection_result(entry, facts, decision)}/{entry.status:03} {entry.bytes_out} CONNECT "
            f"{percent_encoded(destination[:MAX_URL])} {user} {hierarchy(entry.upstream, facts.parent)} -"
        )


def hierarchy(upstream: Address | None, parent: str | None) -> str:
    """By which way, and to whom: Squid knows the first parent that is up, and shows its address."""
    if upstream is None:
        return "HIER_NONE/-"
    return f"{'HIER_DIRECT' if parent is None else 'FIRSTUP_PARENT'}/{percent_encoded(upstream.host)}"


FORMATS: Final[dict[str, type[JsonFormat] | type[SquidFormat]]] = {"json": JsonFormat, "squid": SquidFormat}

NOTICES: Final[dict[str, Callable[[int], str]]] = {
    "json": json_notice,
    "squid": lambda dropped: f"# {dropped} lines dropped",
}
"""For L{sslintercept.log.writer.LineWriter}: the line that stands for lines that were dropped."""


class AccessLog:
    """
    Renders entries and hands each line to the writer.

    @ivar connections: whether connections get lines, or only transactions.
    """

    __slots__ = ("connection_part", "connections", "format", "write")

    def __init__(
        self,
        writer_write: Callable[[str], None],
        format: str = "json",
        connections: bool = True,
        queries: bool = False,
    ) -> None:
        """
        @param queries: log the query of a URL too; it may hold passwords and tokens.

        @raise ValueError: there is no such format.
        """
        if format not in FORMATS:
            raise ValueError(f"unknown log format {format!r}; allowed are {', '.join(FORMATS)}")
        self.write, self.connections = writer_write, connections
        self.format = FORMATS[format](queries)
        self.connection_part: Callable[[Facts, Decision | None], str] = self.format.part
        """
        What all transactions of a connection share. Keep it, and render it anew when C{facts.client_tls},
        C{upstream_tls}, C{path}, C{user}, C{destination} or the decision have changed.
        """

    def transaction(self, entry: TransactionEntry, part: str) -> None:
        """@param part: what L{connection_part} gave for this connection."""
        self.write(self.format.transaction(entry, part))

    def connection(self, entry: ConnectionEntry, facts: Facts, decision: Decision | None) -> None:
        """A client connection has ended."""
        if self.connections:
            self.write(self.format.connection(entry, facts, decision))
