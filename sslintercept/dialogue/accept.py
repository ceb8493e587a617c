"""
From the probe's verdict to a conversation: reach the server as every session inside a tunnel does, and read along.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.dialogue.session import Conversations, Dialogue
from sslintercept.dialogue.watcher import MakeWatcher
from sslintercept.errors import InterceptError, PolicyError
from sslintercept.facts import REFUSING, Facts, Scope
from sslintercept.net.vconnection import NetVConnection
from sslintercept.probe.entrance import Blocked
from sslintercept.probe.reach import Waiting, reach

BLOCKED = {
    "smtp": b"554 5.7.1 Blocked by a rule\r\n",
    "lmtp": b"554 5.7.1 Blocked by a rule\r\n",
    "pop3": b"-ERR [SYS/PERM] Blocked by a rule\r\n",
    "imap": b"* BYE Blocked by a rule\r\n",
    "ftp": b"421 Blocked by a rule\r\n",
    "nntp": b"400 Blocked by a rule\r\n",
    "sieve": b'BYE "Blocked by a rule"\r\n',
}
"""how a conversation is told that a rule ends it; other protocols are closed"""


class DialogueAcceptor:
    """Serves the verdict of one protocol with its watcher."""

    def __init__(self, protocol: str, make: MakeWatcher, conversations: Conversations) -> None:
        self.protocol = protocol
        self._make = make
        self._shared = conversations

    def watcher(self, vc: NetVConnection, server: NetVConnection, facts: Facts, scope: Scope) -> MakeWatcher:
        """Who reads along between these two."""
        return self._make

    def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
        """
        Reach the server and read along (L{sslintercept.interfaces.IAcceptor}).

        @raise InterceptError: a rule blocks, or nobody knows the destination.
        """
        scope = facts.scope
        if scope is None:
            raise PolicyError(
                f"nobody said where this {self.protocol} conversation leads",
                where=f"listener {facts.listener}",
                remedy="use CONNECT, SOCKS, or a listener with a target",
            )
        facts.path.append(self.protocol)
        if scope.decision.action in REFUSING:
            vc.write(BLOCKED.get(self.protocol, b""))
            raise Blocked(scope.decision, scope.destination)
        waiting = Waiting(vc, peeked)

        async def begin() -> None:
            reached = await reach(vc, facts, scope, self._shared.router)
            dialogue = Dialogue(self._shared, self.protocol, vc, facts, scope, reached.server)
            dialogue.start(self.watcher(vc, reached.server, facts, scope), reached, bytes(waiting.held))

        self.run(vc, facts, begin())

    def run(self, vc: NetVConnection, facts: Facts, work: Coroutine[Any, Any, None]) -> None:
        """Do what takes a while on behalf of C{vc}, which is closed if that fails (Any: as Deferreds want it)."""

        def failed(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, InterceptError):
                self._shared.log.failure("a conversation could not be set up", failure=failure)
            if facts.error is None and not vc.closing and isinstance(error, Exception):
                facts.error = error
            vc.close()

        Deferred.fromCoroutine(work).addErrback(failed)
