"""
What the proxy says itself in place of an origin: why it cannot, why it will not, and whether the user is sure.

Nothing here decides whether something is answered; it says it in the words of L{sslintercept.http.page}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sslintercept.errors import InspectedError, InterceptError, MessageError
from sslintercept.facts import Action, Decision, RequestHead, Side
from sslintercept.http.consent import Consents, site
from sslintercept.http.page import Notice, page
from sslintercept.http.template import Pages
from sslintercept.http.wants import Wants, wants
from sslintercept.net.parent import LoginWanted

if TYPE_CHECKING:
    from sslintercept.http.session import HttpSession
    from sslintercept.http.sm import HttpSM

PROXY_STATUS = {
    "dns": (502, "dns_error", "name"),
    "connect": (502, "connection_refused", "unreachable"),
    "upstream": (502, "destination_unavailable", "unreachable"),
    "upstream_tls": (502, "tls_protocol_error", "tls"),
    "upstream_closed": (502, "connection_terminated", "closed"),
    "parent": (502, "proxy_internal_response", "parent"),
    "certificate": (502, "tls_certificate_error", "certificate"),
    "http_message": (502, "http_protocol_error", "malformed"),
    "timeout": (504, "http_response_timeout", "late"),
    "tls": (502, "tls_protocol_error", "tls"),
    "client": (400, "http_request_error", "request"),
    "forbidden": (403, "destination_ip_prohibited", "forbidden"),
    "transform": (500, "proxy_internal_error", "transform"),
    "coding": (502, "http_response_content_coding", "coding"),
    "unknown_coding": (502, "http_response_content_coding", "coding"),
    "cache": (504, "proxy_internal_response", "cache"),
    "bomb": (502, "http_response_body_size", "bomb"),
    "waiting": (503, "proxy_internal_error", "room"),
}
"""
for each kind of error: status, error token of Proxy-Status (RFC 9209 2.3), and the key of its text
(L{sslintercept.http.template.Language})
"""
CONTENT = {"coding": 400, "bomb": 413, "unknown_coding": 415}
"""statuses for clients whose request has such a body (RFC 9110 15.5)"""
INTERNAL = (500, "proxy_internal_error", "internal")
REFUSED = {
    408: "slow",
    413: "large",
    414: "long",
    417: "expectation",
    431: "fields",
    501: "unimplemented",
    505: "version",
}
"""texts for request heads that are refused; without one it is a bad request"""
REFRESH: Final = 5
"""seconds after which a page of somebody who waits asks again"""
FOUND: Final = frozenset(("malware", "site", "leak", "phishing", "failure"))
"""categories of L{InspectedError} that have texts of their own"""


class TransactionLog(Protocol):
    """Who writes the line of a transaction."""

    def transaction(self, sm: HttpSM) -> None: ...
    def refused(self, session: HttpSession, error: MessageError, head: bytes, sent: int) -> None:
        """The same for a request that could not be read, of which C{head} came; C{sent}: bytes of the answer."""


class Answering:
    """
    The part of L{sslintercept.http.proxy.HttpProxy} that speaks.

    @ivar name: of the proxy, in Proxy-Status.
    @ivar consents: who knows what users have consented to, if a rule warns.
    """

    def __init__(
        self,
        name: str,
        pages: Pages,
        consents: Consents | None,
        transactions: TransactionLog,
        wall_clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.pages = pages
        self.consents = consents
        self.transactions = transactions
        self._wall_clock = wall_clock

    # warnings

    def asks(self, sm: HttpSM, decision: Decision, tokens: Sequence[str]) -> bool:
        """Whether the user must be asked first, and was."""
        facts, head, now = sm.session.facts, sm.head, self._wall_clock()
        consents = self.consents
        if consents is not None and consents.given(facts, decision.rule, head.authority.host, tokens, now):
            facts.step("consented", f"rule {decision.rule}")
            sm.decision = decision._replace(consented=True)
            return False
        wanted = wants(head.read_fields())
        # A script that gets hold of the link could press the button for its user.
        link = consents.link(facts, decision.rule, head, now) if consents is not None and wanted.navigates else ""
        facts.step("warned", f"403 by rule {decision.rule}")
        self._say(sm, self._of_rule(sm, decision, "warn", link))
        return True

    def go_on(self, sm: HttpSM, consents: Consents) -> None:
        """The user has pressed the button of a warning, or somebody would like us to believe that."""
        facts, head, now = sm.session.facts, sm.head, self._wall_clock()
        link = consents.follow(facts, head, now) if head.method == b"POST" and not by_script(head) else None
        if link is None:
            what = "a link to continue behind a warning that is not, or no longer, this client's"
            self._say(sm, self._notice(sm, 403, "expired", what, "", "http_request_denied", kind="block"))
            return
        where = site(head) + link.target.decode("ascii")
        cookies = [f"Set-Cookie: {cookie}" for cookie in consents.cookies(facts, link.rule, head, now)]
        lines = ["HTTP/1.1 303 See Other", f"Location: {where}", *cookies, "Cache-Control: no-store"]
        lines += ["Referrer-Policy: no-referrer", "Content-Length: 0"]
        if sm.closes:
            lines.append("Connection: close")
        facts.step("consented", f"rule {link.rule}")
        sm.decision = Decision(Action.WARN, link.rule, "the user continues", consented=True)
        sm.answer(303, "\r\n".join([*lines, "\r\n"]).encode("ascii"), sm.closes)

    # what takes a while

    def waits(self, sm: HttpSM, shown: str, link: str, *, ready: bool) -> None:
        """
        Answer that what was asked for is still being inspected, or, when it is C{ready}, that it may be had.

        @param shown: what it is, and how far.
        @param link: where the page goes on by itself.
        """
        text, status, seconds = ("inspected", 200, 1) if ready else ("waiting", 503, REFRESH)
        notice = self._notice(sm, status, text, shown, "", "", kind="wait")._replace(link=link)
        self._say(sm, notice, fields=[f"Refresh: {seconds}; url={link}"])

    def gone(self, sm: HttpSM) -> None:
        """Answer that nothing waits there, at least not for this client."""
        self._say(sm, self._notice(sm, 404, "gone", "nothing waits under this name", "", "http_request_error"))

    # answers of our own

    def fail(self, sm: HttpSM, error: InterceptError, close: bool = False) -> None:
        """Answer with a page that names the fault."""
        what = f"{error.where}: {error.what}"
        if isinstance(error, InspectedError):
            self._inspected(sm, error, what, close)
            return
        status, token, text = PROXY_STATUS.get(error.kind, INTERNAL)
        if error.side is Side.CLIENT and error.kind in CONTENT:
            status, token, text = CONTENT[error.kind], "http_request_error", "content"
        if isinstance(error, MessageError):
            status = error.status
            if status < 500:
                token, text = "http_request_error", "request"
        sm.session.facts.step("error", error.kind)
        self._say(sm, self._notice(sm, status, text, what, error.remedy, token), close)

    def _inspected(self, sm: HttpSM, error: InspectedError, what: str, close: bool) -> None:
        """Answer with the page that says what kind of thing was found, and under which id it was written down."""
        failure = error.category == "failure"
        status, token = (503, "proxy_internal_error") if failure else (403, "http_request_denied")
        text = error.category if error.category in FOUND else "blocked"
        sm.session.facts.step("blocked", f"{status} by inspection: {error.category}")
        notice = self._notice(sm, status, text, what, error.remedy, token, kind="block")
        notice = notice._replace(
            category=error.category, event=error.event, id=error.event or notice.id, received=sm.received_status
        )
        self._say(sm, notice, close)

    def refuse(self, sm: HttpSM, status: int, text: str, error: InterceptError, token: str) -> None:
        """Answer that the request itself is the problem."""
        sm.error = error
        self._say(sm, self._notice(sm, status, text, error.what, error.remedy, token))

    def block(self, sm: HttpSM, decision: Decision) -> None:
        """Answer with the page that says which rule."""
        sm.decision = decision
        sm.session.facts.step("blocked", f"403 by rule {decision.rule}")
        self._say(sm, self._of_rule(sm, decision, "block"))

    def challenge(self, sm: HttpSM, wanted: LoginWanted) -> None:
        """Hand on that a proxy of the client's own wants it to log in."""
        sm.error = wanted
        notice = self._notice(sm, 407, "login", f"{wanted.where}: {wanted.what}", wanted.remedy, "http_request_denied")
        self._say(sm, notice, fields=[f"Proxy-Authenticate: {one.decode('ascii')}" for one in wanted.challenges])

    def _of_rule(self, sm: HttpSM, decision: Decision, kind: str, link: str = "") -> Notice:
        what, text = f"rule {decision.rule}: {decision.reason}", "blocked" if kind == "block" else kind
        notice = self._notice(sm, 403, text, what, "", "http_request_denied", kind=kind)
        return notice._replace(rule=decision.rule, link=link)

    def _notice(
        self, sm: HttpSM, status: int, text: str, what: str, remedy: str, token: str, *, kind: str = "error"
    ) -> Notice:
        head = sm.head
        connect = head.method == b"CONNECT"
        return Notice(
            status,
            text,
            what,
            remedy,
            f"{sm.session.facts.id}-{sm.session.serial}",
            token,
            kind,
            host=head.authority.host,
            url=str(head.authority) if connect else site(head) + head.target.decode("latin-1"),
        )

    def _say(self, sm: HttpSM, notice: Notice, close: bool = False, fields: Sequence[str] = ()) -> None:
        head = sm.head
        close = close or sm.closes
        if notice.kind == "wait":
            sm.session.facts.step("waiting_answered", f"{notice.status} {notice.text}")
        else:
            sm.session.facts.step("error_answered", f"{notice.status} {notice.error}")
        raw = page(
            notice,
            self.pages,
            wants(head.read_fields()),
            close=close,
            head_only=head.method == b"HEAD",
            via_name=self.name,
            fields=fields,
        )
        sm.answer(notice.status, raw, close)

    def refused(self, session: HttpSession, error: MessageError, head: bytes) -> None:
        """Answer a request whose head, or what there is of it, cannot be read."""
        facts, tcp = session.facts, session.vc.tcp
        facts.error = error
        facts.transactions += 1
        sent = tcp.sent + tcp.queued
        notice = Notice(
            error.status,
            REFUSED.get(error.status, "request"),
            error.what,
            error.remedy,
            f"{facts.id}-{session.serial}",
            "http_request_error",
        )
        session.vc.write(page(notice, self.pages, Wants(), close=True, via_name=self.name))
        self.transactions.refused(session, error, head, tcp.sent + tcp.queued - sent)


def by_script(head: RequestHead) -> bool:
    """Whether a browser says that a script asks, and no person (Fetch Metadata, Sec-Fetch-Mode)."""
    modes = [value for name, value in head.read_fields() if name.lower() == b"sec-fetch-mode"]
    return any(mode != b"navigate" for mode in modes)
