"""
TLS on a server connection: the profile, and the verdict on the origin before a byte of the application passes.

Pushing the profile says nothing to the origin. The first write starts the handshake (deck: "TLS handshake triggered by
do_io_write"), or L{Handshake.begin} does when the origin is looked at first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sslintercept.errors import CertificateError, InterceptError, TimedOut, TlsError, UpstreamError
from sslintercept.facts import ClientHello, TlsLeg
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.ssl import SslProfile
from sslintercept.tls.context import UpstreamContext
from sslintercept.tls.verify import Verified


class Judge(Protocol):
    """Who says whether an origin is genuine (L{sslintercept.tls.verify.Verifier})."""

    def verify(self, chain: list[bytes], name: str, now: float) -> Verified: ...


class Secured(NamedTuple):
    """A server connection with TLS on it: what was agreed, and what the origin's certificate is worth."""

    leg: TlsLeg
    verified: Verified


class UpstreamTlsError(UpstreamError):
    """The handshake with the origin failed."""

    kind = "upstream_tls"


Done = Callable[[Secured | None, InterceptError | None], object]


class Handshake:
    """
    One TLS layer towards an origin, from the push to the verdict.

    @ivar profile: the layer.
    """

    def __init__(self, tls: UpstreamTls, vc: NetVConnection, name: str, done: Done) -> None:
        self._tls = tls
        self._vc = vc
        self._name = name
        self._done: Done | None = done
        self._before = (vc.deadline, vc.timed_out, vc.closed)
        vc.closed = self._gone
        self.profile: SslProfile

    def begin(self) -> None:
        """Start without waiting for a write."""
        self.profile.begin()

    def _finished(self, secured: Secured | None, error: InterceptError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._vc.deadline, self._vc.timed_out, self._vc.closed = self._before
            done(secured, error)

    def _gone(self, vc: NetVConnection) -> None:
        """The connection was reset, or cut by us, before TLS could say anything; its session knows already."""
        closed = self._before[2]
        self._finished(
            None,
            UpstreamTlsError(
                "the connection was lost in the handshake",
                where=f"TLS with {self._name}",
                remedy="the origin refuses, or is down",
            ),
        )
        closed(vc)

    def complete(self, profile: SslProfile) -> None:
        """The handshake is complete; is it the origin?"""
        tls, vc = self._tls, self._vc
        verified = tls.judge.verify(profile.engine.peer_chain(), self._name, tls.wall_clock())
        assert profile.leg is not None
        leg = profile.leg._replace(server_name=self._name, verified=verified.fault or "ok")
        profile.leg = leg
        if verified.fault is not None and tls.require:
            error = CertificateError(
                verified.detail,
                where=f"certificate of {self._name}",
                remedy="the origin was not asked for anything",
                fault=verified.fault,
            )
            self._finished(None, error)
            vc.close(faithful=False)
            return
        self._finished(Secured(leg, verified), None)
        profile.release()

    def broke(self, error: Exception) -> None:
        """The layer failed; during the handshake that is an answer, later the end of the connection."""
        during = self._done is not None
        if during:
            what = error.what if isinstance(error, TlsError) else str(error)
            self._finished(
                None,
                UpstreamTlsError(
                    what,
                    where=f"TLS with {self._name}",
                    remedy="the origin refuses, or speaks no TLS that is accepted",
                ),
            )
        self._vc.tls_broke(error)

    def too_slow(self, kind: str) -> None:
        """The origin hangs in the handshake."""
        self._finished(
            None,
            TimedOut(
                f"the TLS handshake with {self._name} was not complete in time",
                where=str(self._vc.peer),
                remedy="see [http] tls_timeout",
            ),
        )
        self._vc.abort()


class UpstreamTls:
    """
    Puts TLS on server connections.

    @param require: refuse an origin whose certificate is not accepted; else only report it.
    @param timeout: seconds for a handshake.
    @param wall_clock: seconds since the epoch, for the dates in certificates.
    """

    def __init__(
        self,
        context: UpstreamContext,
        judge: Judge,
        *,
        require: bool,
        timeout: float,
        wall_clock: Callable[[], float],
    ) -> None:
        self._context = context
        self.judge = judge
        self.require = require
        self._timeout = timeout
        self.wall_clock = wall_clock

    def push(
        self,
        vc: NetVConnection,
        name: str,
        alpn: tuple[bytes, ...],
        hello: ClientHello | None,
        done: Done,
        resume: object = None,
    ) -> Handshake:
        """
        Put the layer on C{vc}; nothing is sent yet.

        @param name: whom the certificate must be for; also the SNI, unless it is an address.
        @param hello: the client's own offer, below which we do not go.
        @param resume: the L{sslintercept.tls.context.Resumable} of another connection with this origin.
        @param done: called once with the outcome, whatever becomes of the connection.
        """
        handshake = Handshake(self, vc, name, done)
        handshake.profile = vc.push_ssl(
            lambda chain, lower: SslProfile(
                chain,
                lower,
                lambda level: self._context.engine(name, alpn, hello, level, resume),
                server=False,
                done=handshake.complete,
                broke=handshake.broke,
            )
        )
        vc.deadline = vc.handler.now + self._timeout
        vc.timed_out = handshake.too_slow
        return handshake
