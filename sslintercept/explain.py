"""
What a request would meet, and why, without making it: the listener, the rules, the way, and TLS.

Nothing is asked of the network: what a name leads to is told only where this machine knows it by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from sslintercept.config.endpoint import parse
from sslintercept.config.schema import ListenSettings, Settings
from sslintercept.datagram.probe import judge as judge_datagram
from sslintercept.dns.hosts import HostsFile, special
from sslintercept.errors import ConfigError
from sslintercept.facts import Action, Address, Decision, Facts
from sslintercept.gateway import site_lists
from sslintercept.http.head import read_request
from sslintercept.inspect.select import of_bodies, of_conversations
from sslintercept.net.limits import Limits
from sslintercept.net.local import Bound
from sslintercept.net.nearness import is_literal
from sslintercept.probe.verdict import judge
from sslintercept.rule.category import url_of
from sslintercept.rule.decide import DEFAULT, Rules, match_of
from sslintercept.rule.match import Match, parse_with
from sslintercept.sites.compile import Compilation
from sslintercept.sites.look import SiteList, Sites
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.processor import Prospect
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES

HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
REQUEST: Final = b"GET / HTTP/1.1\r\n"
SAFE: Final = "/?:@!$&'()*+,;=-._~%[]"
"""of a URL, what stands for itself"""
QUIC: Final = b"\xc0\0\0\0\1\x08" + bytes(8) + b"\0\0\x44\x9e" + bytes(1200)
"""how what a client says inside begins: TLS, HTTP; and QUIC where it sends datagrams"""


class Question(NamedTuple):
    """What is asked about."""

    secure: bool
    destination: Address
    """of the URL"""
    server_name: str | None
    client: str
    target: str
    """path and query of the URL"""


class Lead(NamedTuple):
    """Where a listener leads, and how the client says so."""

    way_in: str
    destination: Address
    named: bool
    """the client names the destination"""


def question(url: str, client: str, server_name: str | None) -> Question:
    """@raise ConfigError: it is no such URL, or no address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https") or port == 0:
        raise ConfigError(f"{url} is no http or https URL", where="explain", remedy="give https://HOST[:PORT]/")
    secure = parts.scheme == "https"
    try:
        client = str(ip_address(client))
    except ValueError:
        raise ConfigError(f"{client} is no address", where="--client", remedy="give one like 192.0.2.7") from None
    if server_name is None and not is_literal(host):
        server_name = host  # of addresses clients say nothing in their hellos (RFC 6066 3)
    target = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
    destination = Address(host, port or (443 if secure else 80))
    return Question(secure, destination, server_name if secure else None, client, target)


def listener_of(settings: Settings, name: str | None) -> ListenSettings:
    """
    The listener of that name; without one the first that clients may name destinations to, or else the first.

    @raise ConfigError: there is none.
    """
    listeners = settings.listeners
    if name is None:
        return next((one for one in listeners if one.target is None), listeners[0])
    found = next((one for one in listeners if one.name == name), None)
    if found is None:
        names = ", ".join(one.name for one in listeners)
        raise ConfigError(f"there is no listener {name}", where="explain", remedy=f"there are {names}")
    return found


def explain(settings: Settings, asked: Question, listener: ListenSettings) -> Iterator[str]:
    """
    The lines of the answer.

    @raise ConfigError: it cannot be told for this listener.
    """
    at = parse(listener.endpoint)
    yield f"listener {listener.name} ({listener.endpoint}), client {asked.client}"
    there = lead(asked, listener)
    yield there.way_in
    if not there.destination.host:
        yield "refused: without a server name nobody knows where it leads"
        return
    facts = Facts("explain", Address(asked.client, 0), listener.name)
    destination = facts.destination = there.destination
    datagrams = at.transport == "UDP"
    facts.server_name, facts.client_hello = None if datagrams else asked.server_name, None
    opening = HELLO if asked.secure else REQUEST
    verdict = judge_datagram(QUIC, destination.port) if datagrams else judge(opening, destination.port)
    assert verdict is not None  # the openings are whole
    facts.protocol = verdict.protocol
    facts.verdicts.append(verdict)
    yield f"destination {destination}" + (f", server name {facts.server_name}" if facts.server_name else "")
    yield f"probe: {verdict.reason}"
    ports = settings.http.connect_ports
    if there.way_in == CONNECT and ports is not None and destination.port not in ports:
        yield "CONNECT: refused with 403, the port is not in [http] connect_ports"
        return
    sites = Sites(tuple(SiteList(one.name, Compilation(one).run()) for one in site_lists(settings.sites)))
    rules = Rules(settings.rules, sites)
    if settings.listeners and rules.by_url and not datagrams:
        facts.url = url_of("https" if asked.secure else "http", asked.destination, asked.target.encode("ascii"))
    yield from (f"  {line}" for line in rules.trail(facts, final=True))
    decision = rules.decide(facts, final=True) or DEFAULT
    yield f"decision: {decision.action.value}, rule {decision.rule}: {decision.reason}"
    if decision.action is Action.WARN:
        yield warning(decision, datagrams)
    if decision.action is not Action.BLOCK and not (datagrams and decision.action is Action.WARN):
        yield from on_the_way(settings, facts, sites, there, decision, at.transport)
    if decision.action in OPENED and not datagrams:
        yield from changes(settings, facts, asked)


CONNECT: Final = "the client says CONNECT"
OPENED: Final = frozenset((Action.INTERCEPT, Action.WARN))
"""what has its TLS opened"""


def warning(decision: Decision, datagrams: bool) -> str:
    """What comes of a rule that warns."""
    if datagrams:
        return "warning: blocked, datagrams carry no page"
    hours, minutes = divmod(round(decision.warn_for) // 60, 60)
    lasts = " ".join(f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "min")) if number)
    return f"warning: a page asks first; who continues is not asked again for {lasts}. What is not HTTP is blocked"


def lead(asked: Question, listener: ListenSettings) -> Lead:
    """@raise ConfigError: the client of this listener knows no names."""
    target, at = listener.target, parse(listener.endpoint)
    if isinstance(target, Address):
        return Lead(f"everybody is sent to {target}", target, False)
    if target == "sni":
        host = asked.server_name or ""
        return Lead(
            f"the server name says where to, and this endpoint the port {at.port}", Address(host, at.port), True
        )
    if target == "original":
        try:
            host = str(ip_address(asked.destination.host))
        except ValueError:
            raise ConfigError(
                f"clients of listener {listener.name} come with an address and no name (target = original)",
                where="explain",
                remedy=f"give https://ADDRESS/ and --sni {asked.destination.host}, or --listener",
            ) from None
        return Lead("the client was on its way there", Address(host, asked.destination.port), True)
    accept = listener.accept
    if "http" in accept or "tls" in accept:
        return Lead(CONNECT if asked.secure else "the client asks for the whole URL", asked.destination, True)
    return Lead(f"the client says {accept[0].upper().replace('SOCKS', 'SOCKS ')}", asked.destination, True)


def on_the_way(
    settings: Settings, facts: Facts, sites: Sites, there: Lead, decision: Decision, transport: str
) -> Iterator[str]:
    """By which parent, whether its address may be used, and what TLS is asked for."""
    destination = there.destination
    parents = settings.parents if transport == "TCP" else ()
    parent = next((one for one in parents if match_of("parent", one, sites).judge(facts, final=True)), None)
    straight = parent is None or parent.proxy == "direct"
    if parent is not None:
        yield f"way: {'straight' if straight else f'by {parent.proxy} {parent.address}'}, parent {parent.name}"
    addresses = known(settings, destination.host, look=straight)
    limits = Limits(settings.http.private_destinations == "deny", lambda: own_ports(settings.listeners))
    asked = limits.denied if there.named else limits.itself
    refused = [asked(host, destination.port, transport) for host in addresses]
    if refused and all(refused):
        assert refused[0] is not None
        yield f"refused with 403: {refused[0].what}; {refused[0].remedy}"
        return
    if facts.protocol == "tls" and decision.action in OPENED:
        upstream = settings.upstream_tls
        yield (
            f"TLS: towards the client {settings.client_tls.min_version} or newer, towards the origin "
            f"{upstream.min_version} or newer; handshake order {upstream.handshake_order}; "
            f"a certificate that is not accepted is {'refused' if upstream.verify == 'require' else 'reported'}"
        )


def changes(settings: Settings, facts: Facts, asked: Question) -> Iterator[str]:
    """What of a GET for the URL each transform and each inspector gets."""
    if not settings.changes and not settings.inspectors:
        return
    scheme = "https" if asked.secure else "http"
    raw = f"GET {asked.target} HTTP/1.1\r\nHost: {asked.destination}\r\n\r\n".encode("ascii", "replace")
    head = read_request(raw, scheme, asked.destination)
    messages = [Prospect(direction).of(head, facts) for direction in Direction]
    for change in settings.changes:
        gets = what_of(parse_with(CONDITIONS_OF_MESSAGES, change.match), messages)
        yield f"transform {change.name} ({change.use}): {listed(gets)}"
    for inspector in settings.inspectors:
        gets = what_of(of_bodies(inspector.match), messages)
        if of_conversations(inspector.match).judge(messages[0]) is not False:
            gets.append("messages over WebSocket")
        what = f"{inspector.use}, match {inspector.match}" if inspector.match else inspector.use
        yield f"inspected by {inspector.name} ({what}): {listed(gets)}"


def what_of(match: Match[Message], messages: Sequence[Message]) -> list[str]:
    """Which of a request and its response, of which nothing is known yet, are met."""
    request, response = (match.judge(message) for message in messages)
    gets = ["the request"] if request else []
    if response is not False:
        gets.append("the response" if response else "the response, depending on what that is")
    return gets


def listed(gets: Sequence[str]) -> str:
    *others, last = gets or ["nothing of it"]
    return f"{', '.join(others)} and {last}" if others else last


def known(settings: Settings, host: str, look: bool) -> Sequence[str]:
    """The addresses of a host, as far as nobody has to be asked; a parent knows names better."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        if not look:
            return ()
        return HostsFile(settings.dns.hosts).get(host, 0.0) or special(host) or ()


def own_ports(listeners: Sequence[ListenSettings]) -> Iterator[Bound]:
    """Where we would listen, as far as the settings say."""
    for listener in listeners:
        at = parse(listener.endpoint)
        if at.port:
            yield Bound(at.transport, at.host, at.port, both=at.transport == "TCP")
