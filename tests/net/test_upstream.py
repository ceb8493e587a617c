"""TLS towards an origin: the verdict comes before the first byte, once, whatever happens."""

from __future__ import annotations

import pytest

from sslintercept.errors import CertificateError, InterceptError, TimedOut
from sslintercept.facts import Side
from sslintercept.net.upstream import Handshake, Secured, UpstreamTls, UpstreamTlsError
from sslintercept.net.vconnection import NEVER, NetVConnection
from sslintercept.testing.loop import Loop
from sslintercept.tls.context import UpstreamContext
from sslintercept.tls.verify import Verified
from tests.support import HalfClosing, leaf, push_server, read_all

GOOD = Verified(None, "", NEVER, ("origin.test",), "", "")
BAD = Verified("expired", "the certificate has expired", 0.0, ("origin.test",), "", "")


class Judging:
    """A judge with a fixed opinion, who notes what he was shown."""

    def __init__(self, verdict: Verified) -> None:
        self.verdict = verdict
        self.shown: list[tuple[list[bytes], str, float]] = []

    def verify(self, chain: list[bytes], name: str, now: float) -> Verified:
        self.shown.append((chain, name, now))
        return self.verdict


class Pushed:
    """A server connection with TLS on it, the origin behind it, and the outcomes told."""

    def __init__(self, loop: Loop, verdict: Verified = GOOD, *, require: bool = True, answer: bool = True) -> None:
        self.server, peer = loop.pair(Side.UPSTREAM)
        self.judge = Judging(verdict)
        self.told: list[tuple[Secured | None, InterceptError | None]] = []
        self.session, self.heard = HalfClosing(), HalfClosing()
        self.server.attach(self.session)
        tls = UpstreamTls(
            UpstreamContext(min_version="1.2"),
            self.judge,
            require=require,
            timeout=10,
            wall_clock=lambda: 1_800_000_000.0,
        )
        self.before = self.server.timed_out
        self.handshake: Handshake = tls.push(
            self.server, "origin.test", (b"http/1.1",), None, lambda secured, error: self.told.append((secured, error))
        )
        self.peer = peer
        self.origin: NetVConnection | None = None
        if answer:
            self.origin = loop.adopt(peer, Side.CLIENT)
            self.origin.attach(self.heard)
            push_server(self.origin, alpn=(b"http/1.1",))

    def close(self) -> None:
        self.server.close()
        if self.origin is not None:
            self.origin.close()


def test_a_good_origin_gets_what_was_written_after_the_verdict(loop: Loop) -> None:
    it = Pushed(loop)
    it.server.write(b"GET /")
    loop.pump()
    ((secured, error),) = it.told
    assert error is None
    assert secured is not None
    assert (secured.leg.server_name, secured.leg.verified, secured.leg.alpn) == ("origin.test", "ok", "http/1.1")
    assert it.judge.shown == [([leaf().der], "origin.test", 1_800_000_000.0)]
    assert it.heard.got == b"GET /"
    assert it.server.deadline == NEVER
    assert it.server.timed_out == it.before
    it.close()


def test_nothing_is_said_before_somebody_begins(loop: Loop) -> None:
    it = Pushed(loop, answer=False)
    loop.pump()
    assert read_all(it.peer) == b""
    it.handshake.begin()
    it.handshake.begin()
    assert read_all(it.peer).startswith(b"\x16\x03")
    it.close()


def test_an_origin_that_is_not_accepted_gets_nothing(loop: Loop) -> None:
    it = Pushed(loop, BAD)
    it.server.write(b"secret")
    loop.pump()
    ((secured, error),) = it.told
    assert secured is None
    assert isinstance(error, CertificateError)
    assert error.fault == "expired"
    assert it.heard.got == b""
    assert it.server.closing
    it.close()


def test_an_origin_that_is_not_accepted_may_be_reported_only(loop: Loop) -> None:
    it = Pushed(loop, BAD, require=False)
    it.server.write(b"anyway")
    loop.pump()
    ((secured, error),) = it.told
    assert error is None
    assert secured is not None
    assert secured.leg.verified == "expired"
    assert it.heard.got == b"anyway"
    it.close()


def test_a_failing_handshake_is_told_in_words_once(loop: Loop) -> None:
    it = Pushed(loop, answer=False)
    it.handshake.begin()
    it.peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    loop.pump()
    ((secured, error),) = it.told
    assert secured is None
    assert isinstance(error, UpstreamTlsError)
    assert "TLS with origin.test" in str(error)
    assert it.session.events == ["made", "lost TlsError"]
    it.close()


def test_an_origin_that_hangs_in_the_handshake_is_given_up(loop: Loop) -> None:
    it = Pushed(loop, answer=False)
    it.handshake.begin()
    loop.pass_time(9)
    assert it.told == []
    loop.pass_time(2)
    ((_, error),) = it.told
    assert isinstance(error, TimedOut)
    assert it.server.dead
    it.handshake.too_slow("deadline")
    assert len(it.told) == 1


def test_a_connection_that_is_lost_in_the_handshake_is_an_outcome_too(loop: Loop) -> None:
    for end in ("fail", "abort", "close"):
        it = Pushed(loop, answer=False)
        it.handshake.begin()
        if end == "fail":
            it.server.fail(ConnectionResetError())  # as the tcp profile does at a reset
        else:
            getattr(it.server, end)()
        loop.pass_time(70)
        ((secured, error),) = it.told
        assert secured is None
        assert isinstance(error, UpstreamTlsError)
        assert str(error).startswith("TLS with origin.test: the connection was lost in the handshake")


def test_a_failure_after_the_handshake_is_the_connection_s_end_and_no_second_outcome(loop: Loop) -> None:
    it = Pushed(loop)
    it.handshake.begin()
    loop.pump()
    assert it.origin is not None
    it.origin.tcp.write(b"\x17\x03\x03\x00\x20" + bytes(32), it.origin.top)
    loop.pump()
    assert len(it.told) == 1
    assert it.session.events == ["made", "lost TlsError"]
    it.close()


def test_an_error_of_another_kind_is_told_too(loop: Loop) -> None:
    it = Pushed(loop, answer=False)
    it.handshake.broke(ValueError("a defect below"))
    ((_, error),) = it.told
    assert "a defect below" in str(error)
    it.close()


@pytest.mark.parametrize("how", ["close", "abort"])
def test_an_owner_may_end_the_connection_when_the_outcome_is_told(loop: Loop, how: str) -> None:
    """T2.5"""
    it = Pushed(loop)
    it.handshake._done = lambda secured, error: getattr(it.server, how)()
    it.server.write(b"never")
    loop.pump()
    assert it.heard.got == b""
    assert it.server.closing
    it.close()
