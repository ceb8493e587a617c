"""From transactions and connections to the lines of the access log."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from twisted.internet.error import ConnectionLost

from sslintercept.errors import ClientError, MessageError
from sslintercept.facts import REFUSING, Address, Decision, Facts, RequestHead
from sslintercept.http.fields import DEFAULT_PORTS
from sslintercept.http.session import HttpSession
from sslintercept.http.sm import HttpSM
from sslintercept.log.access import AccessLog, ConnectionEntry, TransactionEntry
from sslintercept.log.question import line as question_line
from sslintercept.net.vconnection import NetVConnection

METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
"""a token (RFC 9110 5.6.2)"""


class AccessLines:
    """
    Collects what a line needs and hands it to the log.

    @param clock: seconds since the epoch.
    """

    def __init__(
        self, write: Callable[[str], None], format: str, connections: bool, clock: Callable[[], float]
    ) -> None:
        self._log = AccessLog(write, format, connections)
        self._write, self._json = write, format == "json"
        self._clock = clock

    def transaction(self, sm: HttpSM) -> None:
        """Write the line of a transaction that has ended."""
        session = sm.session
        facts = session.facts
        vc = session.vc
        state = (facts.upstream_tls, facts.destination, sm.decision, facts.user, facts.parent)
        if session.constant is None or session.constant_of != state:
            # Stack, probe and the client's TLS do not change while an HTTP session sits on top.
            session.constant = self._log.connection_part(facts, sm.decision)
            session.constant_of = state
        head = sm.head
        entry = TransactionEntry(
            facts.id,
            session.serial,
            self._clock(),
            vc.handler.now - sm.begun,
            head.method.decode("latin-1"),
            shown(head),
            sm.status,
            len(head.raw) + sm.received_body,
            vc.tcp.sent + vc.tcp.queued - sm.sent_before,
            sm.upstream,
            sm.reused,
            sm.decision is not None and sm.decision.action in REFUSING and not sm.decision.consented,
            "",
            sm.error,
            facts.parent,
            sm.transform.notes if sm.transform is not None else None,
            sm.cached,
        )
        self._log.transaction(entry, session.constant)

    def refused(self, session: HttpSession, error: MessageError, head: bytes, sent: int) -> None:
        """Write the line of a request that could not be read, of which C{head} came; C{sent}: bytes of the answer."""
        facts, now = session.facts, session.vc.handler.now
        method, target = words_of(head)
        scope = facts.scope
        if scope is not None and target.startswith("/"):
            target = prefix("https" if scope.secure else "http", Address(scope.name, scope.destination.port)) + target
        entry = TransactionEntry(
            facts.id,
            session.serial,
            self._clock(),
            now - session.began,
            method,
            target,
            error.status,
            len(head),
            sent,
            error=error,
        )
        self._log.transaction(entry, self._log.connection_part(facts, facts.decision))

    def connection(self, facts: Facts, vc: NetVConnection) -> None:
        """Write the line of a client connection that has ended."""
        now = self._clock()
        error = facts.error if facts.error is not None else vc.error
        if isinstance(error, ConnectionLost):
            error = ClientError("the connection broke", where=f"client {facts.client}", remedy="the client reset it")
        self._log.connection(
            ConnectionEntry(
                now,
                now - facts.started,
                facts.connect_status,
                facts.transactions,
                vc.tcp.read,
                vc.tcp.sent,
                facts.upstream,
                False,
                error,
            ),
            facts,
            facts.decision,
        )

    def question(self, facts: Facts, decision: Decision, name: str, rtype: int, answer: str) -> None:
        """Write the line of a question for a name that a rule answered; Squid has no such line."""
        if self._json:
            self._write(question_line(facts, decision, name, rtype, answer, self._clock()))

    def flow(self, facts: Facts, seconds: float, read: int, sent: int) -> None:
        """Write the line of a client's flow of datagrams that has ended."""
        entry = ConnectionEntry(self._clock(), seconds, 0, 0, read, sent, facts.upstream, False, facts.error)
        self._log.connection(entry, facts, facts.decision)


def words_of(head: bytes) -> tuple[str, str]:
    """Method and target of a head that cannot be read, as far as it begins like one; C{-} for what does not."""
    words = head.lstrip(b"\r\n").partition(b"\n")[0].split()
    if not words or not METHOD.fullmatch(words[0]):
        return "-", "-"
    return words[0].decode("ascii"), words[1].decode("latin-1") if len(words) > 1 else "-"


def shown(head: RequestHead) -> str:
    """The URL of a request; the log takes secrets out of it."""
    if head.method == b"CONNECT":
        return str(head.authority)
    return prefix(head.scheme, head.authority) + head.target.decode("latin-1")


@lru_cache(maxsize=1024)
def prefix(scheme: str, authority: Address) -> str:
    """A URL up to its path; a port that the scheme implies is left out."""
    host, port = authority
    where = f"[{host}]" if ":" in host else host
    return f"{scheme}://{where}" if port == DEFAULT_PORTS.get(scheme) else f"{scheme}://{where}:{port}"
