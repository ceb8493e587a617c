"""
101: both connections go on in another protocol (RFC 9110 7.8).

They are probed again, like any tunnel, and what nobody recognises is relayed as it is. So is WebSocket, by its name,
unless somebody has stages for its messages (L{sslintercept.http.websocket}).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sslintercept.facts import Action, Decision, Scope
from sslintercept.http.websocket import WebSocket
from sslintercept.net.vconnection import NEVER
from sslintercept.probe.accept import Hanging
from sslintercept.transform.processor import MessageStages

if TYPE_CHECKING:
    from sslintercept.http.origin import OriginSession
    from sslintercept.http.proxy import HttpProxy
    from sslintercept.http.session import HttpSession


def switch(
    proxy: HttpProxy,
    session: HttpSession,
    origin: OriginSession,
    upgrade: bytes | None,
    decision: Decision,
    rest: bytes,
    messages: MessageStages | None = None,
) -> None:
    """
    Go on with both connections, neither of which has a transaction any more; the client has got the 101.

    @param upgrade: what the origin agreed to.
    @param rest: what it said behind the 101.
    @param messages: stages for what both say, if that is WebSocket.
    """
    client, facts = session.vc, session.facts
    if decision.consented:
        decision = decision._replace(action=Action.INTERCEPT)  # the user was asked, and goes on
    protocol = (upgrade or b"upgrade").decode("latin-1")
    peeked = session.taken_over()
    vc = origin.vc
    vc.deadline, vc.idle_limit = NEVER, 0.0
    outer = facts.scope
    if protocol.strip().lower() == "websocket" and messages is None:
        # Both have agreed on it, so it is known, whatever becomes of what nobody knows.
        decision = Decision(Action.TUNNEL, decision.rule, "upgraded to WebSocket")
    facts.scope = scope = Scope(origin.key.destination, decision)
    if outer is not None:
        scope.name, scope.secure, scope.hello, scope.failure = outer.name, outer.secure, outer.hello, outer.failure
    facts.step("upgraded", protocol)
    facts.path.append(protocol.lower().partition(",")[0].strip() or "upgrade")
    client.hang(vc)
    if messages is not None:
        client.pick_up()
        WebSocket(client, vc, facts, messages, idle_timeout=proxy.body_idle).start(peeked, rest)
        return
    hanging = Hanging(vc)
    if scope.secure:
        # TLS stands already on that side; what is inside needs no further layer.
        hanging.secured = proxy.plain
    hanging.early += rest
    hanging.relay(client)
    proxy.probe.accept(client, facts, peeked)
