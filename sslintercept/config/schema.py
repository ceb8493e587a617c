# ruff: noqa: RUF009 -- setting() makes a field of a dataclass, just as dataclasses.field() does
"""
Every section and key of the ini file as data, and the settings they become.

A field of a settings class is a key of its section: how its text is read, its default as text, and what it means. The
reader, the reference (L{sslintercept.config.reference}) and the type checker all go by these lines.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from sslintercept.config import units
from sslintercept.config.key import Section, described, setting
from sslintercept.config.units import Unit
from sslintercept.facts import Address

MOST_WORKERS: Final = 64
MOST_SERVERS: Final = 32
"""name servers that are used; more are a warning"""
MOST_DOMAINS: Final = 8
"""search domains"""
MOST_SPLIT: Final = 64
"""domains with name servers of their own"""
SYSTEM: Final = "system"
ENGINES: Final = ("auto", "native", "threads")
"""of the disk"""
SYSLOG_PORTS: Final = {"tcp": 601, "tls": 6514}
"""where a collector listens if nothing else is said (RFC 6587, RFC 5425; IANA: syslog-conn, syslog-tls)"""
MOST_COLLECTORS: Final = 8
MOST_DISK_THREADS: Final = 32
"""for each file; there are 100 files at most"""


# units that serve one key


def _workers(text: str) -> int:
    if text == "auto":
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return units.integer(1, MOST_WORKERS)(text)


def _engine(text: str) -> str:
    if text == "uring":
        raise ValueError("not in this version; see docs/aio.md")
    return units.choice(*ENGINES)(text)


def _access(text: str, folder: Path) -> str:
    return text if text == "-" else str(units.path()(text, folder))


def _match(text: str) -> str:
    return " ".join(text.split())


class Collector(NamedTuple):
    """Where syslog goes."""

    secure: bool
    """by TLS"""
    address: Address

    def __str__(self) -> str:
        return f"{'tls' if self.secure else 'tcp'}:{self.address}"


def _collector(text: str) -> Collector:
    kind, _, rest = text.partition(":")
    if kind not in SYSLOG_PORTS:
        raise ValueError("neither tcp: nor tls:")
    return Collector(kind == "tls", units.address(port=SYSLOG_PORTS[kind])(rest))


SITE_FORMATS: Final = ("plain", "hosts", "urls", "adblock", "csv", "rpz")
"""L{sslintercept.sites.read.FORMATS}, which a test compares"""


# sections


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """C{[sslintercept]}"""

    state_dir: Path = setting(units.path(), "../var", "folder for the CA, keys and run-time files, made with mode 0700")
    workers: int = setting(
        units.unit(_workers, f"a whole number from 1 to {MOST_WORKERS}, or auto", f"1 to {MOST_WORKERS} | auto"),
        "1",
        "processes that share the listening ports; auto: one per core",
    )
    spread: str = setting(
        units.choice("clients", "connections"),
        "clients",
        "what workers divide among them: clients, each always to the same one, or single connections",
    )
    max_connections: int = setting(
        units.integer(1, 1_000_000), "30000", "client connections at a time, in each process"
    )
    drain_timeout: float = setting(
        units.duration("0s", "1d"), "30s", "how long running transactions may take to finish on SIGTERM"
    )


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """C{[listen:NAME]}"""

    name: str
    endpoint: str = field(
        metadata=described(
            units.endpoint(),
            None,
            "where to listen: tcp, tcp6, or systemd; udp:PORT or udp6:PORT for datagrams",
            example="tcp:8080:interface=127.0.0.1",
            required=True,
        )
    )
    accept: tuple[str, ...] = setting(
        units.listed(units.choice("http", "tls", "socks4", "socks5", "dns")),
        "http, tls, socks4, socks5",
        "what a client may begin with; tls: a secure (HTTPS) proxy; dns: questions for names, the only one over udp",
    )
    target: Address | Literal["original", "sni"] | None = setting(
        units.word_or("original", "original", units.word_or("sni", "sni", units.address())),
        None,
        "where clients are sent; original: where a redirected one was going; sni: its server name",
        example="mail.example:993",
    )
    transparent: bool = setting(
        units.switch(), "off", "with target = original: take connections that TPROXY redirects (needs CAP_NET_ADMIN)"
    )
    proxy_protocol: tuple[IPv4Network | IPv6Network, ...] | None = setting(
        units.listed(units.network()),
        None,
        "balancers that begin with a PROXY protocol header, which is believed from these networks only",
        example="192.0.2.0/24, 2001:db8::/64",
    )
    line: int = field(default=0, compare=False)
    """where the section begins; 0 when it is not in the file"""


@dataclass(frozen=True, slots=True)
class CaSettings:
    """C{[ca]}"""

    certificate: Path = field(
        metadata=described(
            units.path(),
            None,
            "certificate of the CA, made if it and its key are missing; unset: ca.pem in state_dir",
            example="../var/ca.pem",
        )
    )
    key: Path = field(
        metadata=described(
            units.path(), None, "private key of the CA; unset: ca.key in state_dir", example="../var/ca.key"
        )
    )
    key_type: str = setting(units.choice("p256", "rsa2048"), "p256", "kind of key of a CA made on first start")
    leaf_lifetime: float = setting(units.duration("1h", "99d"), "30d", "how long a forged certificate is valid")
    name: str = setting(
        units.phrase(64, "at most 64 bytes"), "sslintercept CA", "common name of a CA made on first start"
    )


@dataclass(frozen=True, slots=True)
class ProxyTlsSettings:
    """C{[proxy-tls]}"""

    certificate: Path | None = setting(
        units.path(),
        None,
        "PEM file, with its chain; unset: a leaf of the CA for the machine's names",
        example="proxy.pem",
    )
    key: Path | None = setting(units.path(), None, "PEM file of its private key", example="proxy.key")


@dataclass(frozen=True, slots=True)
class ClientTlsSettings:
    """C{[client-tls]}"""

    min_version: str = setting(units.choice("1.2", "1.3"), "1.2", "lowest version of TLS that clients may use")
    max_layers: int = setting(units.integer(1, 16), "4", "layers of TLS in TLS that are opened on one connection")
    learn: bool = setting(
        units.switch(), "off", "tunnel, for a time, what a client keeps rejecting our certificate for"
    )
    learn_after: int = setting(units.integer(1, 1000), "3", "rejections that make a learned bypass")
    learn_for: float = setting(units.duration("1s", "365d"), "1d", "how long a learned bypass lasts")


@dataclass(frozen=True, slots=True)
class UpstreamTlsSettings:
    """C{[upstream-tls]}"""

    trust: Path | Literal["system"] = setting(
        units.word_or(SYSTEM, SYSTEM, units.path()),
        "system",
        "CAs that origins are verified with: the system's, or a PEM file",
    )
    extra_trust: Path | None = setting(units.path(), None, "PEM file with CAs added to it", example="company-ca.pem")
    min_version: str = setting(units.choice("1.2", "1.3"), "1.2", "lowest version of TLS that origins may use")
    verify: str = setting(
        units.choice("require", "report"), "require", "refuse an origin that is not genuine, or only log that it is not"
    )
    handshake_order: str = setting(
        units.choice("client-first", "server-first", "adaptive"),
        "adaptive",
        "whose handshake is first; adaptive: the client's if the origin is remembered",
    )
    remember: float = setting(units.duration("0s"), "10m", "how long adaptive remembers an origin")


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """C{[dns]}"""

    servers: tuple[Address, ...] | Literal["system"] = setting(
        units.word_or(SYSTEM, SYSTEM, units.listed(units.address(port=53, literal=True))),
        "system",
        f"name servers: those of resolv.conf, or up to {MOST_SERVERS} addresses like 192.0.2.53, [2001:db8::1]:5353",
    )
    resolv_conf: Path = setting(units.path(), "/etc/resolv.conf", "read for servers = system, and again on SIGHUP")
    hosts: Path = setting(
        units.path(), "/etc/hosts", "hosts file, asked before them, and read again when it has changed"
    )
    search: tuple[str, ...] | Literal["system", "none"] = setting(
        units.word_or(SYSTEM, SYSTEM, units.word_or("none", "none", units.listed(units.host(), MOST_DOMAINS))),
        "system",
        "domains tried behind short names; system: those of resolv.conf if its servers are asked",
    )
    rotate: bool = setting(units.switch(), "off", "ask the servers by turns; off: the first, the others if it fails")
    tcp: bool = setting(units.switch(), "off", "ask over TCP only; off: over UDP, and TCP where an answer does not fit")
    tls: str = setting(
        units.word_or("off", "off", units.host()),
        "off",
        "ask over TLS only (RFC 7858; port 853 for 53): the name in the servers' certificates",
    )
    mix_case: bool = setting(units.switch(), "on", "raise letters of each question at random, and expect them back")
    families: str = setting(
        units.choice("auto", "both", "ipv4", "ipv6"),
        "auto",
        "which addresses are asked for; auto: IPv6 only if this machine has one beyond its link",
    )
    timeout: float = setting(units.duration("100ms", "1m"), "10s", "how long anybody waits for a name")
    cache_size: int = setting(units.integer(1, 10_000_000), "100000", "names whose addresses are kept")
    serve_stale: float = setting(
        units.duration("0s", "7d"), "1d", "how long beyond their time addresses are used when servers do not answer"
    )
    rebinding: str = setting(
        units.choice("refuse", "allow"),
        "refuse",
        "names that lead to loopback or private addresses, for clients from outside; a rule may differ",
    )
    strip_ech: bool = setting(
        units.switch(),
        "on",
        "for listeners that accept dns: take ECH keys out of answers, so that hellos stay readable",
    )


@dataclass(frozen=True, slots=True)
class SplitDnsSettings:
    """C{[dns-for:NAME]}"""

    name: str
    domains: tuple[str, ...] = field(
        metadata=described(
            units.listed(units.host()), None, "domains whose names they know", example="corp.example", required=True
        )
    )
    servers: tuple[Address, ...] = field(
        metadata=described(
            units.listed(units.address(port=53, literal=True), MOST_SERVERS),
            None,
            "their addresses",
            example="192.0.2.53",
            required=True,
        )
    )
    rotate: bool = setting(units.switch(), "off", "ask them by turns; off: the first, the others if it fails")
    line: int = field(default=0, compare=False)
    """where the section begins"""


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """C{[tunnel]}"""

    idle_timeout: float = setting(units.duration(), "5m", "how long a tunnel may carry nothing")
    high_water: int = setting(
        units.size("1B", "64MiB"), "64KiB", "bytes waiting for a slow reader, above which the sender is paused"
    )
    low_water: int = setting(
        units.size("0B", "64MiB"), "32KiB", "and at or below which it goes on; not above high_water"
    )


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """C{[probe]}"""

    timeout: float = setting(units.duration(), "10s", "how long a silent client may take to say what it speaks")
    silence: float = setting(
        units.duration("0s"),
        "300ms",
        "on ports without a hint, wait for the client before the origin's greeting is relayed",
    )
    limit: int = setting(units.size("1KiB", "1MiB"), "64KiB", "bytes looked at before a connection counts as unknown")
    unknown: str = setting(
        units.choice("tunnel", "close"), "tunnel", "what happens to a connection that is not recognised"
    )


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """C{[http]}"""

    header_timeout: float = setting(units.duration(), "10s", "to receive a whole request head")
    response_timeout: float = setting(units.duration(), "60s", "from the request's end to the response's head")
    keep_alive_timeout: float = setting(units.duration(), "2m", "idle client connections")
    max_header: int = setting(units.size("1KiB", "1MiB"), "64KiB", "bytes of a request or response head")
    connect_ports: tuple[int, ...] | None = setting(
        units.word_or("*", None, units.listed(units.integer(1, 65535))),
        "*",
        "ports that CONNECT may name: * for all, or a list like 443, 8443",
    )
    private_destinations: str = setting(
        units.choice("allow", "deny"),
        "allow",
        "loopback, private and link-local networks where clients name them; the proxy itself is always denied",
    )
    connect_timeout: float = setting(units.duration(), "10s", "to connect to an origin")
    tls_timeout: float = setting(units.duration(), "15s", "for a TLS handshake on either side")
    via: str = setting(units.token(), "sslintercept", "our pseudonym in Via; off: leave Via as it is")
    pool_idle: float = setting(units.duration("0s"), "60s", "how long an idle upstream connection is kept")
    pool_size: int = setting(units.integer(0, 1_000_000), "256", "idle upstream connections kept in all")
    pool_per_origin: int = setting(units.integer(0, 1_000_000), "32", "and for one origin")


@dataclass(frozen=True, slots=True)
class PagesSettings:
    """C{[pages]}"""

    folder: Path | None = setting(
        units.path(), None, "folder with templates of one's own: block.html, warn.de.html", example="pages"
    )
    language: str = setting(
        units.word_or("auto", "auto", units.language()), "auto", "of the pages; auto: what each client prefers"
    )
    contact: str | None = setting(
        units.phrase(512, "one line of at most 512 bytes"),
        None,
        "whom users may ask, on block and warning pages",
        example="it-help@example.com",
    )


@dataclass(frozen=True, slots=True)
class SocksSettings:
    """C{[socks]}"""

    users: Path | None = setting(
        units.path(),
        None,
        "file of users who must log in (SOCKS 5 only: HTTP on the same port asks nobody); unset: everybody may come in",
        example="socks-users",
    )
    bind: bool = setting(units.switch(), "on", "serve BIND: wait for one connection on a client's behalf")
    bind_timeout: float = setting(units.duration(), "60s", "how long BIND waits for it")
    udp: bool = setting(units.switch(), "on", "serve UDP ASSOCIATE (SOCKS 5)")
    timeout: float = setting(units.duration(), "10s", "how long a client may take to say what it wants")


@dataclass(frozen=True, slots=True)
class UdpSettings:
    """C{[udp]}"""

    idle_timeout: float = setting(
        units.duration(), "2m", "how long a flow may carry nothing; of DNS and NTP 30s at most"
    )
    max_flows: int = setting(units.integer(1, 1_000_000), "4096", "flows at a time, in each process")
    per_client: int = setting(units.integer(1, 1_000_000), "256", "and for one client address")
    dtls_min_version: str = setting(units.choice("1.0", "1.2"), "1.2", "lowest version of DTLS on either side")
    mtu: int = setting(units.integer(576, 9000), "1400", "bytes of the largest datagram of a DTLS handshake")


@dataclass(frozen=True, slots=True)
class MailSettings:
    """C{[mail]}"""

    sessions: bool = setting(
        units.switch(), "on", "read along in SMTP, POP3, IMAP, FTP and what else knows STARTTLS; off: relay it unseen"
    )
    opaque: str = setting(
        units.choice("relay", "close"), "relay", "what happens to a conversation that is not understood any more"
    )
    idle_timeout: float = setting(units.duration(), "31m", "how long a conversation may be silent (IMAP: 29 minutes)")
    remember: float = setting(
        units.duration("0s", "365d"), "30d", "for starttls = keep: how long a server's offer of STARTTLS is remembered"
    )


@dataclass(frozen=True, slots=True)
class ParentSettings:
    """C{[parent:NAME]}; the first match in the order of the file decides, without one the way is straight."""

    name: str
    match: str = field(
        metadata=described(
            units.unit(_match, "conditions like host:.example.com port:443"),
            "",
            "connections that go by this proxy, in the language of rules; empty: all",
            example="host:.example.com",
        )
    )
    proxy: str = field(
        metadata=described(
            units.choice("http", "https", "socks5", "direct"),
            None,
            "what the parent speaks; https: HTTP inside TLS; direct: no parent",
            example="http",
            required=True,
        )
    )
    address: Address | None = field(
        metadata=described(units.address(), None, "where it listens", example="proxy.example:3128")
    )
    user: str | None = field(
        metadata=described(units.phrase(255, "at most 255 bytes"), None, "name to log in with", example="gateway")
    )
    password_file: Path | None = field(
        metadata=described(units.path(), None, "file whose first line is the password", example="parent-password")
    )
    line: int
    """where the section begins"""


@dataclass(frozen=True, slots=True)
class SitesSettings:
    """C{[sites:NAME]}"""

    name: str
    path: Path = field(
        metadata=described(
            units.path(),
            None,
            "the list: a file, plain or gzipped, or a folder of categories (UT1)",
            example="malware.txt",
            required=True,
        )
    )
    format: str = setting(units.choice("auto", *SITE_FORMATS), "auto", "how it is written; auto: by its first lines")
    category: str | None = setting(
        units.token(), None, "of what has no category of its own; unset: the name of this section", example="malware"
    )
    categories: tuple[str, ...] | None = setting(
        units.listed(units.token()),
        None,
        "of a folder, those that are read; unset: all",
        example="malware, phishing",
    )
    suffixes: bool = setting(units.switch(), "off", "on: a line may list all of com, of co.uk, or every address")
    line: int = field(default=0, compare=False)
    """where the section begins"""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """C{[cache]}"""

    path: tuple[Path, ...] | None = setting(
        units.listed(units.path(), 99),
        None,
        "folder, file or device, or several of them; without one nothing is kept",
        example="../var/cache",
    )
    size: int = setting(
        units.size("16MiB", "16384GiB"), "1GiB", "bytes of each file that is made; a device is used as it is"
    )
    memory: int = setting(
        units.size("0KiB", "1024GiB"), "64MiB", "bytes that each process keeps in memory before the disk"
    )
    decrypted: bool = setting(units.switch(), "no", "also what came out of TLS")
    largest: int = setting(units.size("64KiB", "1024GiB"), "4GiB", "bytes of the largest content that is kept")
    negative: float = setting(
        units.duration("0s"), "0s", "for how long it is kept that there is nothing (404, 410 ...), if nothing says so"
    )


@dataclass(frozen=True, slots=True)
class AioSettings:
    """C{[aio]}"""

    engine: str = setting(
        units.unit(_engine, "auto, native or threads", " | ".join(ENGINES)),
        "auto",
        "who reads and writes files; native: Linux AIO; auto: native if the kernel permits it",
    )
    threads: int = setting(
        units.integer(1, MOST_DISK_THREADS),
        "8",
        "threads for each file that threads serve; native takes them for what O_DIRECT cannot do",
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """C{[log]}"""

    access: str = setting(
        Unit(_access, "a path, or - for standard output"),
        "-",
        "file for a line about each request and tunnel; -: standard output",
    )
    format: str = setting(units.choice("json", "squid"), "json", "how these lines look")
    connections: bool = setting(units.switch(), "on", "a further line about each client connection")
    sequence: Path | None = setting(
        units.path(), None, "folder that gets the recorded steps of every connection", example="../var/sequences"
    )
    keylog: Path | None = setting(
        units.path(),
        None,
        "DANGEROUS: file (mode 0600) of the TLS secrets; whoever has it can decrypt recorded traffic",
        example="../var/keys.log",
    )


@dataclass(frozen=True, slots=True)
class EventsSettings:
    """C{[events]}"""

    file: str | None = setting(
        Unit(_access, "a path, or - for standard output"),
        None,
        "file (mode 0600) for a line of JSON about each event; -: standard output",
        example="../var/events.jsonl",
    )
    syslog: tuple[Collector, ...] | None = setting(
        units.listed(
            units.unit(_collector, "tcp:host:port or tls:host:port (601 and 6514 if left out)"), MOST_COLLECTORS
        ),
        None,
        "collectors that are sent each event (RFC 5424), over TCP or TLS",
        example="tls:logs.example:6514",
    )
    syslog_trust: Path | None = setting(
        units.path(),
        None,
        "PEM file with the CAs that collectors are verified with; unset: as [upstream-tls] says",
        example="company-ca.pem",
    )
    store: bool = setting(units.switch(), "on", "keep them in events.db in state_dir, for sslintercept events")
    keep: float = setting(units.duration("1h", "3650d"), "90d", "for how long they are stored")
    most: int = setting(units.integer(1, 100_000_000), "1000000", "and how many")
    quarantine_size: int = setting(
        units.size("0B", "16384GiB"), "1GiB", "bytes of all copies in quarantine in state_dir; 0B for none"
    )
    quarantine_keep: float = setting(units.duration("1h", "3650d"), "30d", "for how long they are kept")


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """C{[rule:NAME]}; the match is text here, L{sslintercept.rule.match} knows what it means."""

    name: str
    match: str = field(
        metadata=described(
            units.unit(_match, "conditions like host:.example.com port:443"),
            "",
            "conditions that must all hold; empty: every connection",
            example="host:.bank.example",
        )
    )
    action: str = field(
        metadata=described(
            units.choice("intercept", "tunnel", "block", "warn"),
            None,
            "open the TLS, pass it on unopened, refuse with a page, or ask the user on one",
            example="tunnel",
            required=True,
        )
    )
    line: int
    """where the section begins"""
    starttls: str = field(
        default="allow",
        metadata=described(
            units.choice("allow", "keep", "require"),
            "allow",
            "keep: a server must offer again what it offered before; require: nothing in the clear",
        ),
    )
    rebinding: str | None = setting(
        units.choice("allow", "refuse"),
        None,
        "names that lead nearer than their client is; unset: as [dns] rebinding says",
        example="allow",
    )
    dns_answer: tuple[str, ...] | None = setting(
        units.dns_answer(),
        None,
        "what clients of a listener that accepts dns are told instead of the truth; for action = block: nxdomain",
        example="192.0.2.1, 2001:db8::1",
    )
    cache: bool = setting(units.switch(), "on", "off: the cache is not asked, and gets nothing")
    pin: float | None = setting(
        units.duration(), None, "for how long what is kept must not be overwritten by what comes later", example="1d"
    )
    warn_for: float = setting(
        units.duration("1m", "30d"), "1h", "with action = warn: for how long whoever continues is not asked again"
    )


@dataclass(frozen=True, slots=True)
class TransformsSettings:
    """C{[transforms]}"""

    max_ratio: int = setting(
        units.integer(2, 100_000), "200", "bytes that a byte of coded content may stand for, beyond the first 1 MiB"
    )
    max_decoded: int = setting(
        units.size("1MiB", "1024GiB"), "16GiB", "bytes that a body may stand for when its coding is taken off"
    )
    patience: float = setting(units.duration(), "60s", "how long a stage may hold a body without giving a byte")


@dataclass(frozen=True, slots=True)
class TransformSettings:
    """C{[transform:NAME]}; what C{use} names has keys of its own, which become C{options}."""

    name: str
    use: str = field(
        metadata=described(
            units.phrase(256, "a shipped stage, a plugin's name, or module:factory"),
            None,
            "what changes or reads messages; it has keys of its own, which stand here too",
            example="replace-text",
            required=True,
        )
    )
    match: str = field(
        metadata=described(
            units.unit(_match, "conditions like host:.example.com type:text/html"),
            "",
            "conditions that must all hold; empty: every message",
            example="host:.example.com type:text/*",
        )
    )
    no_transform: str = field(
        metadata=described(
            units.choice("respect", "ignore"),
            "respect",
            "messages whose sender forbids changes (Cache-Control: no-transform)",
        )
    )
    unknown_coding: str = field(
        metadata=described(
            units.choice("pass", "block"),
            "pass",
            "content in a coding that nobody can take off: unseen, or not at all",
        )
    )
    options: Any = None  # Any: each transform has its own dataclass
    line: int = field(default=0, compare=False)
    """where the section begins"""


@dataclass(frozen=True, slots=True)
class InspectionSettings:
    """C{[inspection]}"""

    hold: int = setting(
        units.size("64KiB", "64MiB"), "1MiB", "bytes of each part that are held back until there is a verdict"
    )
    collect: int = setting(
        units.size("1MiB", "256MiB"), "32MiB", "bytes of the largest part that is taken apart, or kept as evidence"
    )
    memory: int = setting(units.size("16MiB", "64GiB"), "256MiB", "bytes that each process keeps for that at once")
    waiting_page: float = setting(
        units.word_or("off", 0.0, units.duration("1s", "10m")),
        "off",
        "how long a person waits for a download that is inspected until a page says how far it is",
    )
    waiting_size: int = setting(
        units.size("1MiB", "1024GiB"), "1GiB", "bytes of downloads that wait in files, for each process"
    )
    remember: int = setting(
        units.integer(0, 1_000_000), "10000", "verdicts that are remembered by the digest of what they are about"
    )
    remember_for: float = setting(units.duration("1s"), "1h", "for how long")
    workers: int = setting(
        units.integer(1, 64), "1", "processes of each process that take parts apart and may die of it"
    )
    worker_memory: int = setting(units.size("256MiB", "64GiB"), "1GiB", "bytes that each of them may have")
    worker_timeout: float = setting(units.duration("1s", "10m"), "30s", "how long one part may keep one of them")


@dataclass(frozen=True, slots=True)
class InspectSettings:
    """C{[inspect:NAME]}; what C{use} names has keys of its own, which become C{options}."""

    name: str
    use: str = field(
        metadata=described(
            units.phrase(256, "icap, clamd, yara, list, dlp, phishing, a plugin's name, or module:factory"),
            None,
            "who looks at parts; it has keys of its own, which stand here too",
            example="dlp",
            required=True,
        )
    )
    match: str = field(
        metadata=described(
            units.unit(_match, "conditions like direction:upload carrier:http"),
            "",
            "conditions that must all hold; empty: every part",
            example="direction:upload !host:.example.com",
        )
    )
    fail: str = setting(
        units.choice("closed", "open"),
        "closed",
        "closed: a part does not pass when the engine fails, or it is made to be hard to look at",
    )
    too_large: str = setting(units.choice("open", "closed"), "open", "closed: nor one that is larger than is looked at")
    unreadable: str = setting(
        units.choice("open", "closed"), "open", "closed: nor one with something that nobody can read (encrypted)"
    )
    largest: int = setting(units.size("1KiB", "1024GiB"), "1024GiB", "bytes of a part that are looked at")
    timeout: float = setting(units.duration("100ms", "1h"), "1m", "how long the verdict may take once a part is whole")
    options: Any = None  # Any: each inspector has its own dataclass
    line: int = field(default=0, compare=False)
    """where the section begins"""


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """C{[admin]}, which has no keys yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProcessSettings):
    """
    The ini file, read once and never changed; a reload makes the next generation, and old connections keep theirs.

    @ivar path: the ini file, absolute.
    @ivar generation: counts from 1.
    @ivar listeners: at least one, in the order of the file.
    @ivar rules: in the order of the file; C{parents}, C{split_dns}, C{changes} and C{sites} likewise.
    @ivar warnings: what was taken, but not as it stands; a line each.
    """

    path: Path
    generation: int
    listeners: tuple[ListenSettings, ...]
    ca: CaSettings
    proxy_tls: ProxyTlsSettings
    client_tls: ClientTlsSettings
    upstream_tls: UpstreamTlsSettings
    dns: DnsSettings
    tunnel: TunnelSettings
    probe: ProbeSettings
    http: HttpSettings
    pages: PagesSettings
    socks: SocksSettings
    mail: MailSettings
    udp: UdpSettings
    cache: CacheSettings
    aio: AioSettings
    log: LogSettings
    events: EventsSettings
    admin: AdminSettings
    rules: tuple[RuleSettings, ...]
    parents: tuple[ParentSettings, ...]
    split_dns: tuple[SplitDnsSettings, ...]
    transforms: TransformsSettings
    changes: tuple[TransformSettings, ...]
    """the [transform:NAME] sections"""
    sites: tuple[SitesSettings, ...]
    inspection: InspectionSettings
    inspectors: tuple[InspectSettings, ...]
    """the [inspect:NAME] sections"""
    warnings: tuple[str, ...]


DEFAULT_LISTENER: Final = ListenSettings("proxy", "tcp:8080:interface=127.0.0.1")
"""what listens when the file has no listen section"""


PROCESS: Final = Section("sslintercept", ProcessSettings, "the process")
LISTEN: Final = Section("listen", ListenSettings, "a listening endpoint; one section for each", "proxy")
RULE: Final = Section("rule", RuleSettings, "a rule; the first match in the order of the file decides", "banks")
PARENT: Final = Section(
    "parent", ParentSettings, "a proxy between us and origins; the first match in the order of the file", "uplink"
)
SPLIT_DNS: Final = Section(
    "dns-for", SplitDnsSettings, "name servers for some domains only (split DNS); the longest domain decides", "corp"
)
SITES: Final = Section("sites", SitesSettings, "a list of sites, for category: in rules", "malware")
TRANSFORM: Final = Section(
    "transform", TransformSettings, "changes or reads messages; in the order of the file", "banner"
)
INSPECT: Final = Section(
    "inspect",
    InspectSettings,
    "looks at what is carried, and says what passes; in the order of the file",
    "leaks",
)
SECTIONS: Final = (
    PROCESS,
    LISTEN,
    Section("ca", CaSettings, "signs the forged certificates (leaves)"),
    Section(
        "proxy-tls", ProxyTlsSettings, "the proxy's own certificate, where it is a secure (HTTPS) proxy; both or none"
    ),
    Section("client-tls", ClientTlsSettings, "TLS towards clients"),
    Section("upstream-tls", UpstreamTlsSettings, "TLS towards origins"),
    Section("dns", DnsSettings, "from names to addresses"),
    SPLIT_DNS,
    Section("tunnel", TunnelSettings, "bytes on their way from one side to the other"),
    Section("probe", ProbeSettings, "finds out what a connection speaks"),
    Section("http", HttpSettings, "HTTP on both sides"),
    Section("pages", PagesSettings, "what clients are shown in place of what they asked for"),
    Section("socks", SocksSettings, "SOCKS 4, 4a and 5"),
    Section("mail", MailSettings, "conversations that begin in the clear: mail, FTP, directories, databases"),
    Section("udp", UdpSettings, "datagrams, and DTLS in them"),
    PARENT,
    Section("cache", CacheSettings, "what is kept of responses"),
    Section("aio", AioSettings, "disk input and output"),
    Section("log", LogSettings, "what is written down"),
    Section("events", EventsSettings, "where it is told what inspectors find"),
    SITES,
    RULE,
    Section("transforms", TransformsSettings, "what all transforms have in common"),
    TRANSFORM,
    Section("inspection", InspectionSettings, "what all inspectors have in common"),
    INSPECT,
    Section("admin", AdminSettings, "reserved: it has no keys in this version"),
)
