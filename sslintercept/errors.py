"""Everything that is raised on purpose: what went wrong, where, and what to do about it."""

from sslintercept.facts import Side


class InterceptError(Exception):
    """
    What went wrong, where, and what the reader can do about it.

    @ivar kind: one word for logs and counters, the same for every error of a class.
    @ivar side: whose doing it was.
    """

    kind = "internal"
    side = Side.OURS

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}; {remedy}")
        self.what, self.where, self.remedy = what, where, remedy


class ConfigError(InterceptError):
    """The ini file, or something it names, cannot be used."""

    kind = "config"


class StageError(InterceptError):
    """A profile was asked for a stage that cannot follow the one it is in, or a chain for a push or pop it refuses."""

    kind = "stage"


class ClientError(InterceptError):
    """The client said something that cannot be served."""

    kind = "client"
    side = Side.CLIENT


class PolicyError(InterceptError):
    """The settings do not let a client have what it wants."""

    kind = "policy"


class LimitError(InterceptError):
    """More is wanted than we have at once, or more than one client's share."""

    kind = "limit"


class BlockedError(InterceptError):
    """A rule blocks."""

    kind = "blocked"


class InspectedError(BlockedError):
    """
    An inspector does not let a part pass.

    @ivar category: C{malware}, C{site}, C{leak}, C{phishing}, C{failure}, or a plugin's own word.
    @ivar event: the id under which it was written down.
    """

    kind = "inspected"

    def __init__(self, what: str, *, where: str, remedy: str, category: str, event: str) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.category, self.event = category, event


class LoopError(ClientError):
    """A request has passed here before."""

    kind = "loop"


class MessageError(ClientError):
    """
    A message of HTTP that is malformed, ambiguous, or too large, or asks for what is not there.

    @ivar status: the status code that answers it when a client sent it (400, 408, 413, 414, 417, 421, 431, 501, 505).
    """

    kind = "http_message"

    def __init__(self, what: str, *, where: str, remedy: str = "nothing was forwarded", status: int = 400) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.status = status
        if status in (501, 505):
            self.kind = "unsupported"


class ResponseError(MessageError):
    """A response of HTTP that is malformed, ambiguous, or too large; its connection must not be used again."""

    side = Side.UPSTREAM

    def __init__(self, what: str, *, where: str, remedy: str = "nothing was forwarded", status: int = 502) -> None:
        super().__init__(what, where=where, remedy=remedy, status=status)


class HelloError(ClientError):
    """A ClientHello that is malformed or too large (RFC 8446 4.1.2)."""

    kind = "client_hello"


class TlsError(InterceptError):
    """
    A TLS layer failed.

    @ivar alert: the alert's number when the peer or we sent one (RFC 8446 6), else C{None}.
    @ivar sent_by_peer: whether that alert came from the peer.
    """

    kind = "tls"

    def __init__(
        self,
        what: str,
        *,
        where: str,
        remedy: str = "the connection was closed",
        alert: int | None = None,
        sent_by_peer: bool = False,
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.alert, self.sent_by_peer = alert, sent_by_peer


class ClientTlsError(TlsError):
    """The TLS layer with a client failed."""

    kind = "client_tls"
    side = Side.CLIENT


class UpstreamError(InterceptError):
    """The origin cannot be reached, or does not do what its protocol asks."""

    kind = "upstream"
    side = Side.UPSTREAM


class LostError(UpstreamError):
    """The origin closed its connection, or cut it, where more was to come."""

    kind = "upstream_closed"


class ResolveError(UpstreamError):
    """The name has no address."""

    kind = "dns"


class ConnectError(UpstreamError):
    """No connection to the origin's address."""

    kind = "connect"


class CertificateError(UpstreamError):
    """
    The origin's certificate is not accepted.

    @ivar fault: one word from L{sslintercept.tls.verify}, for example C{expired}, C{wrong_name}, C{unknown_issuer}.
    """

    kind = "certificate"

    def __init__(self, what: str, *, where: str, remedy: str, fault: str) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.fault = fault


class CacheError(InterceptError):
    """What was stored cannot be given."""

    kind = "cache"


class StoppedError(InterceptError):
    """The process ends."""

    kind = "stopped"


class TimedOut(InterceptError):
    """A wait ended; C{kind} names the timer."""

    kind = "timeout"


class EngineError(InterceptError):
    """
    A scanning engine beside us (ICAP, clamd) gives no verdict. What to do without one is the caller's to say.

    @ivar fault: one word, for counters: C{unreachable}, C{busy} (no place in time, or it says so itself), C{hangs},
        C{lost} (its connection ended too early), C{rubbish} (not its protocol), C{refused} (it said an error),
        C{too_big} (above its own limit), C{broken} (the breaker is open), C{dropped} (the caller gave up),
        C{stopped} (we end).
    """

    kind = "engine"

    def __init__(self, what: str, *, where: str, remedy: str, fault: str) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.fault = fault
