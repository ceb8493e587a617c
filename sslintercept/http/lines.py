"""From transactions and connections to the lines of the access log."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from sslintercept.facts import Action, Address, Decision, Facts, RequestHead
from sslintercept.http.fields import DEFAULT_PORTS
from sslintercept.http.sm import HttpSM
from sslintercept.log.access import AccessLog, ConnectionEntry, TransactionEntry
from sslintercept.log.question import line as question_line
from sslintercept.net.vconnection import NetVConnection


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
        state = (facts.upstream_tls, facts.destination, sm.decision, facts.user)
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
            sm.decision is not None and sm.decision.action is Action.BLOCK,
            False,
            "",
            sm.error,
        )
        self._log.transaction(entry, session.constant)

    def connection(self, facts: Facts, vc: NetVConnection) -> None:
        """Write the line of a client connection that has ended."""
        now = self._clock()
        error = facts.error if facts.error is not None else vc.error
        self._log.connection(
            ConnectionEntry(
                now,
                now - facts.started,
                200 if "http-connect" in facts.path else 0,
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
