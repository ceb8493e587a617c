"""
A flow: what one remote address says on one socket, with its chain of profiles on it; and the table of all flows.

A flow is to datagrams what a connection is to bytes, but nobody says hello or goodbye: it begins with the first
datagram and ends when nothing has come or left for a while. Sources can be forged, so a full table refuses whoever is
new and never pushes out a flow that is in use; only one that nobody has answered yet makes room, oldest first.

One sweep a second looks at every flow (like L{sslintercept.net.cop.InactivityCop}); there is no timer a flow.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twisted.logger import Logger

from sslintercept.facts import Address
from sslintercept.net.vconnection import NEVER
from sslintercept.profile.chain import ProfileChain
from sslintercept.profile.profile import Receiver, ignore, ignore_end
from sslintercept.profile.udp import UdpProfile

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from sslintercept.net.handler import NetHandler

MOST_FLOWS = 4096
"""client flows of a process; each may have one socket upstream"""
MOST_OF_A_HOST = 256
"""client flows of one host; for IPv6 of one /64, which one host may have for itself"""
IDLE = 120.0
"""seconds without a datagram after which a flow is over (RFC 4787 4.3: not below two minutes)"""
UNANSWERED = 30.0
"""seconds after which one is over that nobody has answered, or that is brief"""
PERIOD = 1.0
"""seconds between two sweeps, and so the precision of every limit"""
WARN_EVERY = 60.0
"""seconds between two warnings that the table is full"""


class Flow(ProfileChain):
    """
    The datagrams of one remote address on one socket.

    @ivar local: the address of ours, or of whom we stand in for, that the peer sends to.
    @ivar udp: the base; it counts.
    @ivar brief: one question and its answer, as of DNS, so that it is over sooner (RFC 4787 4.3, REQ-5 a).
    @ivar own: bytes that we sent of our own accord to an address that is not proven (a cookie): no answer.
    @ivar deadline: the time on the handler's clock after which C{timed_out} is called once, traffic or not.
    @ivar closed: called once with this flow when it is over; C{why} says in one word what ended it.
    @ivar release_key: called once at the end, before C{closed}: whoever finds the flow by its address forgets it.
    """

    __slots__ = ("brief", "closed", "deadline", "local", "own", "peer", "release_key", "timed_out", "udp", "why")

    def __init__(self, peer: Address, local: Address) -> None:
        super().__init__()
        self.peer = peer
        self.local = local
        self.own = 0
        self.brief = False
        self.deadline = NEVER
        self.why = ""
        self.udp: UdpProfile
        self.timed_out: Callable[[], object] = lambda: self.close("deadline")
        self.closed: Callable[[Flow], object] = lambda flow: None
        self.release_key: Callable[[], object] = lambda: None

    def open(self, base: UdpProfile) -> None:
        """Put the base at the bottom."""
        self.udp = base
        self.base(base)

    def read_to(self, receiver: Receiver) -> None:
        """From now on the datagrams of the top layer go to C{receiver}; views are valid within the call."""
        if not self.why:
            self.top.deliver = receiver

    @property
    def answered(self) -> bool:
        """Whether somebody took what came seriously: the address is proven, or an answer was relayed."""
        return self.udp.proven or self.udp.sent > self.own

    def close(self, why: str, faithful: bool = True) -> None:
        """
        Say goodbye in each layer, top first, and be gone; nothing waits. Twice is once.

        @param faithful: false leaves the goodbye out.
        """
        if self.why:
            return
        self.why = why
        self.top.deliver, self.top.ended = ignore, ignore_end
        for profile in reversed(self.profiles):
            profile.pre_close(faithful)
        self.write = ignore
        for profile in reversed(self.profiles):
            profile.die()
        self.release_key()
        self.closed(self)


def host_key(host: str) -> str:
    """Whose flows are counted together: an IPv4 address, or the /64 that an IPv6 address is in."""
    if ":" not in host:
        return host
    network = int(ipaddress.IPv6Address(host.partition("%")[0])) >> 64
    return f"{network:x}/64"


class FlowTable:
    """
    The client flows of a process, bounded in number and time.

    @ivar refused: datagrams of newcomers that found no room; C{pushed}: unanswered flows that made room.
    """

    log = Logger()

    def __init__(
        self,
        handler: NetHandler,
        *,
        most: int = MOST_FLOWS,
        most_of_a_host: int = MOST_OF_A_HOST,
        idle: float = IDLE,
        unanswered: float = UNANSWERED,
    ) -> None:
        self._handler = handler
        self._most = most
        self._most_of_a_host = most_of_a_host
        self._idle = idle
        self._patience = min(unanswered, idle)
        self._flows: dict[Flow, str] = {}
        """with the host they are counted for"""
        self._unanswered: dict[Flow, None] = {}
        """those not yet seen answered, oldest first"""
        self._hosts: dict[str, dict[Flow, None]] = {}
        self._next: IDelayedCall | None = None
        self._warned = -WARN_EVERY
        self.refused = self.pushed = 0

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(list(self._flows))

    def room_for(self, host: str) -> bool:
        """Whether a flow of C{host} may be added; an unanswered flow may be pushed out for it."""
        of_host = self._hosts.get(host_key(host))
        if of_host is not None and len(of_host) >= self._most_of_a_host:
            return self._push_out(next((flow for flow in of_host if not flow.answered), None))
        if len(self._flows) < self._most:
            return True
        waiting = self._unanswered
        while waiting:
            flow = next(iter(waiting))
            if not flow.answered:
                return self._push_out(flow)
            del waiting[flow]
        return self._push_out(None)

    def _push_out(self, flow: Flow | None) -> bool:
        if flow is not None:
            self.pushed += 1
            flow.close("pushed out", faithful=False)
            return True
        self.refused += 1
        if self._handler.now - self._warned >= WARN_EVERY:
            self._warned = self._handler.now
            self.log.warn("new flows are refused: {flows} are open", flows=len(self._flows))
        return False

    def add(self, flow: Flow) -> None:
        """Count C{flow} and watch its time; L{room_for} was asked before. The flow's C{release_key} is extended."""
        host = host_key(flow.peer.host)
        self._flows[flow] = host
        self._unanswered[flow] = None
        self._hosts.setdefault(host, {})[flow] = None
        before = flow.release_key

        def release() -> None:
            before()
            self._forget(flow)

        flow.release_key = release
        if self._next is None:
            self._next = self._handler.later(PERIOD, self._tick)

    def _forget(self, flow: Flow) -> None:
        host = self._flows.pop(flow)
        self._unanswered.pop(flow, None)
        of_host = self._hosts[host]
        del of_host[flow]
        if not of_host:
            del self._hosts[host]
        if not self._flows and self._next is not None:
            self._next.cancel()
            self._next = None

    def _tick(self) -> None:
        self._next = self._handler.later(PERIOD, self._tick)
        self.sweep()

    def sweep(self) -> None:
        """Look at every flow once."""
        now = self._handler.now = self._handler.seconds()
        for flow in self:
            if flow.why:
                continue  # ended by another one
            try:
                if flow.deadline <= now:
                    flow.deadline = NEVER
                    flow.timed_out()
                elif flow.udp.active + (self._idle if flow.answered and not flow.brief else self._patience) <= now:
                    flow.close("idle")
            except Exception:
                # A defect in one session must not keep the others from being looked at.
                self.log.failure("a flow could not be ended in order")
                flow.close("defect", faithful=False)

    def close(self) -> None:
        """End every flow."""
        for flow in self:
            flow.close("shutdown")
