"""Values that cross folders: what is known of a connection, and what was decided about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol


class Side(Enum):
    """Whose doing, or which leg."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    OURS = "ours"


class Address(NamedTuple):
    """A host (name, IPv4 or IPv6 literal without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unknown(Enum):
    """The type of L{UNKNOWN}; an enumeration of one, so that type checkers can tell it apart."""

    UNKNOWN = "not yet known"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown.UNKNOWN
"""A fact that may still arrive; C{None} is a fact that is absent for good."""


class Action(Enum):
    """What a rule says (Squid: bump, splice, terminate)."""

    INTERCEPT = "intercept"
    TUNNEL = "tunnel"
    BLOCK = "block"
    WARN = "warn"
    """a page asks first; whoever cannot be shown one is blocked"""


REFUSING: Final = frozenset({Action.BLOCK, Action.WARN})
"""what lets nothing pass where no page of HTTP can be shown"""


class Decision(NamedTuple):
    """An action, the rule it comes from, and why in words."""

    action: Action
    rule: str
    reason: str
    starttls: str = "allow"
    """C{allow}, C{keep} or C{require}: what is asked of conversations that begin in the clear"""
    rebinding: str = ""
    """C{allow} or C{refuse}: names that lead nearer than the client is; empty: as the settings say"""
    dns_answer: tuple[str, ...] = ()
    """what a client that asks for the name is told: addresses, or a word; empty: the truth"""
    cache: bool = True
    """whether the cache is asked, and gets what comes"""
    pin: float = 0.0
    """seconds for which what is stored is kept from being overwritten"""
    warn_for: float = 0.0
    """seconds for which whoever continues behind a warning is not asked again"""
    consented: bool = False
    """of a request that a rule warns of: the user has chosen to continue"""


class Verdict(NamedTuple):
    """
    What a probe says about the first bytes of a connection or of a layer in it.

    C{protocol} is C{tls}, C{http/1}, C{http/2}, C{socks4}, C{socks5}, ... or C{unknown}.
    """

    protocol: str
    reason: str
    hint: str | None = None
    """What the destination port alone would have said."""
    mismatch: bool = False
    """Whether signature and hint disagree."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offers (RFC 8446 4.1.2), GREASE values (RFC 8701) removed from every list."""

    version: int
    """legacy_version"""
    versions: tuple[int, ...]
    """every version offered, by supported_versions or else by legacy_version; 0x0303 is TLS 1.2"""
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    server_name: str | None
    """lower case, A-labels, without a trailing dot"""
    alpn: tuple[bytes, ...]
    groups: tuple[int, ...]
    key_shares: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    resumes: bool
    """offers a session: pre_shared_key, or a session ticket that is not empty"""
    ech: bool
    """carries encrypted_client_hello, real or GREASE (RFC 9849)"""
    grease: bool
    ja4: str
    size: int
    """bytes of the handshake message with its header"""


class TlsLeg(NamedTuple):
    """What one TLS layer agreed on."""

    version: str
    """C{TLSv1.3}"""
    cipher: str
    group: str
    alpn: str
    server_name: str
    resumed: bool
    verified: str
    """C{""} for the client's leg; for the upstream leg C{ok} or the fault"""


class Recorder(Protocol):
    """Who records the steps of a connection."""

    def step(self, name: str, detail: str = "") -> None: ...


class Scope:
    """
    What the tunnel around a session leads to; a session inside a tunnel may reach nothing else.

    @ivar destination: where the tunnel's TCP connection goes.
    @ivar name: the name that the origin's certificate was, or will be, verified for.
    @ivar secure: whether TLS stood around the session, and so must stand towards the origin.
    @ivar failure: what is wrong with the origin, known before the first request: it is answered inside the client's
        TLS.
    @ivar decision: what the rules said.
    @ivar carries: the protocol that runs inside, where it is known for certain: both sides agreed on TLS in the middle
        of a conversation. C{None} where the probe has to find out.
    @ivar begun: whether that protocol runs here already; false while TLS has to begin first.
    @ivar resume: gives the TLS session that the server wants to be resumed (L{sslintercept.tls.context.Resumable}), if
        there is one.
    @ivar transfer: what it carries of another conversation, as that one knows it (L{sslintercept.ftp.channel}).
    @ivar patience: seconds that the client may take to begin TLS, where that is not the probe's to say; else 0.
    @ivar entrance: whether other connections of this client come the same way, since it names its destinations
        (CONNECT, SOCKS) or is redirected; false where everybody is sent to one place.
    @ivar outer: the tunnel that this one is in, where its request was said to another proxy; the way leads through it.
    @ivar asked: how that proxy is asked, C{http} or C{socks5}.
    @ivar login: what the client has said to that proxy to be let in: its Proxy-Authorization, or empty.
    """

    __slots__ = (
        "asked",
        "begun",
        "carries",
        "decided",
        "decision",
        "destination",
        "entrance",
        "failure",
        "hello",
        "login",
        "name",
        "outer",
        "patience",
        "resume",
        "secure",
        "transfer",
    )

    def __init__(self, destination: Address, decision: Decision) -> None:
        self.destination = destination
        self.decision = decision
        self.decided = True
        """false while a rule still waits for a fact, for example the server name"""
        self.name = destination.host
        self.secure = False
        self.hello: ClientHello | None = None
        self.failure: Exception | None = None
        self.carries: str | None = None
        self.begun = False
        self.resume: Callable[[], object] = lambda: None
        self.transfer: object = None
        self.patience = 0.0
        self.entrance = False
        self.outer: Scope | None = None
        self.asked = "http"
        self.login = b""

    @property
    def bare(self) -> bool:
        """Whether it is in the clear, although the rules require TLS."""
        return self.decision.starttls == "require" and not self.secure

    @property
    def way(self) -> str:
        """The proxies that the way to the destination leads through, by the client's own wish."""
        if self.outer is None:
            return ""
        who = sha256(self.login).hexdigest() if self.login else ""
        return f"{self.outer.way}{self.asked}:{who}:{self.outer.name}:{self.outer.destination} "


class Facts:
    """
    Everything rules, logs and plugins may know of one client connection.

    A fact is known, absent (C{None}) or not yet known (L{UNKNOWN}). Facts are written by the session that learns them;
    a tunnel inside a tunnel overwrites what is about the destination, since rules then decide about the inner one.
    """

    __slots__ = (
        "client",
        "client_hello",
        "client_tls",
        "connect_status",
        "decision",
        "depth",
        "destination",
        "error",
        "id",
        "layers",
        "listener",
        "login",
        "parent",
        "path",
        "protocol",
        "scope",
        "sequence",
        "server_name",
        "started",
        "transactions",
        "upstream",
        "upstream_tls",
        "url",
        "user",
        "verdicts",
    )

    def __init__(self, id: str, client: Address, listener: str) -> None:
        self.id = id
        self.client = client
        self.listener = listener
        self.destination: Address | Unknown | None = UNKNOWN
        """Where the client wants to go: the CONNECT authority, the SOCKS request, the redirected address."""
        self.protocol: str | Unknown = UNKNOWN
        """The probe's latest verdict."""
        self.server_name: str | Unknown | None = UNKNOWN
        """SNI; absent when the innermost protocol is not TLS or the hello names nobody."""
        self.client_hello: ClientHello | Unknown | None = UNKNOWN
        self.user: str | None = None
        """Who has proved to this proxy to be that."""
        self.login: str | None = None
        """Who has logged in to the server of a conversation: what the client said, and the server agreed to."""
        self.client_tls: TlsLeg | None = None
        """The innermost layer of TLS with the client."""
        self.layers: list[TlsLeg] = []
        """All of them, outermost first."""
        self.upstream_tls: TlsLeg | None = None
        self.path: list[str] = ["tcp"]
        """The layers met so far, outermost first; joined with C{/} it is the log's C{stack}."""
        self.depth = 0
        """TLS layers on the client's side."""
        self.verdicts: list[Verdict] = []
        self.scope: Scope | None = None
        """The innermost tunnel; absent on a proxy's own port."""
        self.decision: Decision | None = None
        """The latest decision of the rules."""
        self.error: Exception | None = None
        """What ended the connection, if something went wrong."""
        self.sequence: Recorder | None = None
        """Where the steps of this connection are recorded, if anybody wants them."""
        self.parent: str | None = None
        """the parent proxy that the way to the destination goes by"""
        self.connect_status = 0
        """what the latest CONNECT was answered with"""
        self.transactions = 0
        """requests answered so far"""
        self.upstream: Address | None = None
        """the address last connected to for this client"""
        self.url: str | None = None
        """of the request that rules are asked about just now; absent while they are asked about the connection"""
        self.started = 0.0
        """when the connection was accepted, in seconds since the epoch"""

    def step(self, name: str, detail: str = "") -> None:
        """Record a step (L{sslintercept.log.sequence})."""
        if self.sequence is not None:
            self.sequence.step(name, detail)

    @property
    def stack(self) -> str:
        """C{tcp/tls1.3/http-connect/tls1.3/http1}"""
        return "/".join(self.path)


Fields = list[tuple[bytes, bytes]]


class Head:
    """
    What both kinds of heads have: fields, which most readers never ask for.

    @ivar block: the lines of C{fields} as they came, each behind its line break, while nobody has asked for the list: a
        writer may copy them. Afterwards C{None}, since whoever has the list may change it.
    @ivar block_via: what Via says beside C{block}, where no line of that name is; in the list it is the last field.
    @ivar raw: the whole head as it came.
    @ivar version: 10 or 11 for HTTP/1, 20 for HTTP/2.
    """

    __slots__ = ("_fields", "block", "block_via", "raw", "version")

    block: bytes | None
    block_via: bytes | None
    raw: bytes
    version: int
    _fields: Fields

    def read_fields(self) -> Fields:
        """What is forwarded, for reading only: C{block} stays what it is."""
        if (block := self.block) is None:
            return self._fields
        fields: Fields = []
        for line in block.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields.append((name, value.strip(b" \t")))
        if self.block_via is not None:
            fields.append((b"Via", self.block_via))
        return fields

    @property
    def fields(self) -> Fields:
        """What is forwarded, hop-by-hop fields already taken out; names keep the sender's spelling."""
        if self.block is not None:
            self._fields = self.read_fields()
            self.block = None
        return self._fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self.block = None
        self._fields = fields


class RequestHead(Head):
    """The head of a request in the form that every version of HTTP shares (RFC 9110 6)."""

    __slots__ = (
        "authority",
        "beyond",
        "close",
        "expect_continue",
        "length",
        "max_forwards",
        "method",
        "scheme",
        "target",
        "te_trailers",
        "upgrade",
    )

    method: bytes
    scheme: str
    """C{http} or C{https}; empty for CONNECT"""
    authority: Address
    """where the request is for: from the absolute form or Host; for CONNECT the target"""
    beyond: bool
    """it asks a proxy behind a tunnel, by a whole URL, for what that tunnel does not lead to (RFC 9112 3.2.2)"""
    target: bytes
    """origin form (C{/path?query}, or C{*}); for CONNECT the authority form as sent"""
    length: int
    """bytes of the body, or L{CHUNKED}"""
    close: bool
    """the client does not keep the connection after this exchange"""
    expect_continue: bool
    upgrade: bytes | None
    """the Upgrade field's value when the client asks for one (RFC 9110 7.8)"""
    te_trailers: bool
    max_forwards: int | None


class ResponseHead(Head):
    """The head of a response (RFC 9110 6), like L{RequestHead}."""

    __slots__ = ("close", "length", "reason", "status", "upgrade")

    status: int
    reason: bytes
    length: int
    """bytes of the body (0 for answers that have none), or L{CHUNKED}, or L{UNTIL_CLOSE}"""
    close: bool
    """the origin does not keep the connection after this response"""
    upgrade: bytes | None


@lru_cache(maxsize=256)
def reason_of(status: int) -> bytes:
    """The reason phrase of a status (RFC 9110 15); empty for one that nobody has registered."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""
Fields that are for the next hop only and never forwarded, in lower case (RFC 9110 7.6.1 and 11.7, RFC 9112 C.2.2).
Connection may name more; C{Trailer} is for every hop that reads the trailers, so it stays.
"""
