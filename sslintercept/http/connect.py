"""
CONNECT: reach the destination, say so, hang the server connection on the client's, and probe again (deck: steps 3 to
12).

The first transaction ends here; whatever the tunnel carries is met by the probe, and a new transaction begins in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sslintercept.facts import UNKNOWN, Action, Address, Scope
from sslintercept.http.page import connect_established
from sslintercept.http.pool import OriginKey
from sslintercept.probe.accept import Hanging
from sslintercept.probe.port import greets_first
from sslintercept.tunnel.blind import BlindTunnel

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
    destination = sm.head.authority
    if not _allowed(proxy.connect_ports, destination.port):
        proxy.refuse(
            sm, 403, "Tunnel forbidden", f"tunnels to port {destination.port} are not allowed", "http_request_denied"
        )
        return
    facts.step("connect_received", str(destination))
    facts.destination = destination
    # What is inside is another layer: nothing is known of it yet.
    facts.server_name = facts.client_hello = facts.protocol = UNKNOWN
    decision = proxy.rules.decide(facts)
    facts.decision = sm.decision = decision or proxy.default
    if decision is not None:
        facts.step("decided", f"{decision.action.value} by rule {decision.rule}")
    if decision is not None and decision.action is Action.BLOCK:
        proxy.block(sm, decision)
        return
    scope = Scope(destination, decision or proxy.default)
    scope.decided = decision is not None
    server = None
    if not (decision is None or decision.action is Action.INTERCEPT) or not _kept_ready(proxy, destination):
        addresses = await proxy.connector.addresses(destination.host)
        facts.step("connect_resolved")
        facts.step("tcp_opened")
        server = await proxy.connector.connect(destination, addresses)
        facts.step("established")
        facts.upstream = server.peer
        if sm.over or client.closing:
            server.close()
            return
        facts.step("attached")
    facts.scope = scope
    facts.path.append("http-connect")
    facts.step("connect_response_built")
    client.write(connect_established())
    facts.step("connect_answered")
    peeked = session.taken_over()
    sm.hand_over()
    outer = client.pick_up()
    if outer is not None:
        # It leads to where the tunnel around this one goes.
        facts.step("slot_dropped")
        outer.close()
    if server is not None and decision is not None and decision.action is Action.TUNNEL:
        facts.path.append("tunnel")
        facts.step("blind_tunnel", f"rule {decision.rule}")
        BlindTunnel(client, server, idle_timeout=proxy.body_idle, done=lambda: facts.step("tunnel_ended")).start(
            from_client=peeked
        )
        return
    if server is not None:
        client.hang(server)
        hanging = Hanging(server)
        hanging.lost = lambda error: None if client.closing else facts.step("slot_cleared")
        facts.step("hung")
    proxy.probe.accept(client, facts, peeked)


def _allowed(ports: tuple[int, ...] | None, port: int) -> bool:
    return ports is None or port in ports


def _kept_ready(proxy: HttpProxy, destination: Address) -> bool:
    """
    Whether the destination need not be opened before the client is answered.

    With the order "adaptive", an idle verified connection to that very origin proves that it is reached; the client's
    next request travels on it. Deck order is kept by the other two orders.
    """
    upstream = proxy.settings.upstream_tls
    if upstream.handshake_order != "adaptive" or greets_first(destination.port):
        return False
    name = destination.host
    if proxy.origins.recall(destination, name, proxy.tls.wall_clock()) is None:
        return False
    return proxy.pool.has(OriginKey(destination, True, name, "http/1.1", proxy.lowest))
