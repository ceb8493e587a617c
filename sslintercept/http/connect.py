"""
CONNECT: reach the destination, say so, hang the server connection on the client's, and probe again (deck: steps 3 to
12).

The first transaction ends here; whatever the tunnel carries is met by the probe, and a new transaction begins in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sslintercept.errors import PolicyError
from sslintercept.facts import Address, Facts
from sslintercept.http.head import login_of
from sslintercept.http.page import connect_established
from sslintercept.http.pool import OriginKey
from sslintercept.net.parent import LoginWanted
from sslintercept.probe.entrance import Blocked
from sslintercept.probe.port import greets_first

if TYPE_CHECKING:
    from sslintercept.http.proxy import HttpProxy
    from sslintercept.http.sm import HttpSM


async def open_tunnel(proxy: HttpProxy, sm: HttpSM) -> None:
    """
    Serve a CONNECT.

    @raise UpstreamError: the destination cannot be reached; the client gets a page and no 200.
    """
    session = sm.session
    facts = session.facts
    client = session.vc
    facts.destination = destination = sm.head.authority
    if not _allowed(proxy.connect_ports, destination.port):
        what = f"tunnels to port {destination.port} are not allowed"
        refused = PolicyError(what, where=str(destination), remedy="see [http] connect_ports")
        proxy.refuse(sm, 403, "tunnel", refused, "http_request_denied")
        return
    facts.step("connect_received", str(destination))
    try:
        entered = await proxy.entrance.reach(client, facts, destination, login=login_of(sm.head))
    except Blocked as blocked:
        proxy.block(sm, blocked.decision)
        return
    except LoginWanted as wanted:
        proxy.challenge(sm, wanted)
        return
    finally:
        sm.decision = facts.decision
    if sm.over or client.closing:
        if entered.server is not None:
            entered.server.close()
        return
    facts.step("connect_response_built")
    client.write(connect_established())
    facts.connect_status = 200
    facts.step("connect_answered")
    facts.path.append("http-connect")
    peeked = session.taken_over()
    sm.hand_over()
    proxy.entrance.enter(client, facts, entered, peeked)


def _allowed(ports: tuple[int, ...] | None, port: int) -> bool:
    return ports is None or port in ports


def kept_ready(proxy: HttpProxy, facts: Facts, destination: Address) -> bool:
    """
    Whether the destination need not be opened before the client is answered.

    With the order "adaptive", an idle verified connection to that very origin proves that it is reached; the client's
    next request travels on it. Deck order is kept by the other two orders.
    """
    upstream = proxy.settings.upstream_tls
    if upstream.handshake_order != "adaptive" or greets_first(destination.port) or proxy.router.choose is not None:
        return False
    name = destination.host
    if proxy.origins.recall(destination, name, proxy.tls.wall_clock()) is None:
        return False
    return proxy.pool.has(OriginKey(destination, True, name, "http/1.1", proxy.lowest, reach=proxy.router.reach(facts)))
