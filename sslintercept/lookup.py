"""C{sslintercept resolve}: how a name would be answered, and from where, without the proxy running."""

from __future__ import annotations

import sys
from typing import Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.config.schema import Settings
from sslintercept.dns.answer import Answer
from sslintercept.dns.host import BOTH
from sslintercept.dns.message import NXDOMAIN, A, BadName, wire
from sslintercept.dns.names import Names, Wanted
from sslintercept.errors import ResolveError
from sslintercept.gateway import secure_streams
from sslintercept.net.handler import NetHandler
from sslintercept.net.nearness import Near, is_literal, nearness

PATIENCE: Final = 30.0
"""seconds for each question"""


async def report(names: Names, settings: Settings, host: str, seconds: float) -> tuple[list[str], bool]:
    """
    What there is to say about C{host}, and whether it has an address.

    @param seconds: the clock's time.
    """
    dns = settings.dns
    lines = [host]
    if is_literal(host):
        return [*lines, "  an address; nobody is asked for it"], True
    listed = names.listed(host.lower())
    hosts = names.hostdb.hosts.names
    if listed is not None:
        where = f"hosts file {dns.hosts}" if host.lower().rstrip(".") in hosts else "a name with a meaning of its own"
        return [*lines, f"  {where}: {', '.join(listed) or 'no such name'}"], bool(listed)
    lines.append(f"  hosts file {dns.hosts}: not listed")
    try:
        group = names.servers.group(wire(host))
    except BadName as error:
        return [*lines, f"  no name: {error}"], False
    source = str(dns.resolv_conf) if dns.servers == "system" else "[dns] servers"
    if group is not names.servers.default:
        source = "[dns-for:...]"
    over = f" over TLS, as {dns.tls}" if dns.tls != "off" else ""
    lines.append(f"  servers{over}: {', '.join(str(server) for server in group.servers)} (from {source})")
    for rtype in BOTH:
        kind = "A   " if rtype == A else "AAAA"
        if rtype not in names.families():
            lines.append(f"  {kind} not asked for (families = {dns.families})")
            continue
        try:
            answer = await names.processor.query(host, rtype, seconds + PATIENCE)
        except ResolveError as error:
            lines.append(f"  {kind} not known: {error.what}")
        else:
            lines.append(f"  {kind} {told(answer, host)}")
    try:
        order = await names.resolve(host)
    except ResolveError as error:
        return [*lines, f"  no address: {error.what}"], False
    lines.append(f"  tried in this order: {', '.join(order)}")
    if dns.rebinding == "refuse" and any(nearness(one) is not Near.WORLD for one in order):
        lines.append("  clients from outside are not led to addresses inside ([dns] rebinding = refuse)")
    return lines, True


def told(answer: Answer, host: str) -> str:
    """An answer in words."""
    if answer.negative:
        what = "no such name" if answer.rcode == NXDOMAIN else "none"
    else:
        what = ", ".join(answer.addresses)
    called = f" as {answer.canonical}" if answer.canonical != host.lower().rstrip(".") else ""
    return f"{what}{called}; good for {answer.ttl} s, from {answer.server} in {answer.took * 1000:.1f} ms"


def resolve(settings: Settings, host: str) -> int:
    """Print the report; 0 if the name has an address, else 1."""
    from twisted.internet import reactor  # the choice of one is made by importing it

    handler = NetHandler(reactor)
    secure = secure_streams(handler, settings, None, None)
    names = Names(handler, reactor, Wanted.of(settings.dns, settings.split_dns), secure)
    outcome: list[tuple[list[str], bool] | Failure] = []

    def over(result: tuple[list[str], bool] | Failure) -> None:
        outcome.append(result)
        names.stop()
        handler.stop()
        reactor.stop()

    def begin() -> None:
        handler.start()
        names.start()
        seconds = reactor.seconds()
        Deferred.fromCoroutine(report(names, settings, host, seconds)).addBoth(over)

    reactor.callWhenRunning(begin)
    reactor.run()
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    lines, found = result
    print("\n".join(lines), file=sys.stdout)
    return 0 if found else 1
