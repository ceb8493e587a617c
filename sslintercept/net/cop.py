"""
One sweep a second for all timeouts (ATS: InactivityCop).

A connection stores when bytes last moved; nothing is scheduled or cancelled while they move. The sweep compares that
stamp and the connection's deadline with the clock, calls C{timed_out} at most once for each arming, and lets
connections that have been quiet for a moment give memory back.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.net.handler import NetHandler, Reactor
from sslintercept.net.vconnection import NEVER, NetVConnection

PERIOD = 1.0
"""seconds between two sweeps, and so the precision of every timeout"""
TRIM_AFTER = 3.0
"""seconds of silence after which a connection's buffers are given back"""


class InactivityCop:
    """
    The sweep over every connection of one handler.

    @ivar next: the call that will sweep next, C{None} while stopped.
    """

    log = Logger()

    def __init__(self, handler: NetHandler, reactor: Reactor) -> None:
        self._handler = handler
        self._reactor = reactor
        self.next: IDelayedCall | None = None

    def start(self) -> None:
        """Sweep from now on."""
        self.next = self._reactor.callLater(PERIOD, self._tick)

    def stop(self) -> None:
        """No further sweep."""
        if self.next is not None and self.next.active():
            self.next.cancel()
        self.next = None

    def _tick(self) -> None:
        self.next = self._reactor.callLater(PERIOD, self._tick)
        self.sweep()

    def sweep(self) -> None:
        """Look at every connection once."""
        handler = self._handler
        handler.now = now = self._reactor.seconds()
        for vc in list(handler.connections):
            if vc.dead:
                continue  # cut by the timer of another one
            try:
                self._look(vc, now)
            except Exception:
                # A defect in one owner must not keep the others from being looked at.
                self.log.failure("a timer's owner failed; its connection is cut")
                vc.abort()

    @staticmethod
    def _look(vc: NetVConnection, now: float) -> None:
        if vc.deadline <= now:
            vc.deadline = NEVER
            vc.timed_out("deadline")
            return
        active = vc.tcp.active
        if vc.idle_limit and active + vc.idle_limit <= now:
            vc.idle_limit = 0.0
            vc.timed_out("idle")
        elif active > vc.trimmed and active + TRIM_AFTER <= now and not vc.closing:
            vc.trimmed = now
            for profile in vc.profiles:
                profile.trim()
