"""DTLS opened between a client and an origin, with real keys, over real sockets, without a clock that moves."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from sslintercept.datagram.hello import SLOT, Cookies, fatal
from sslintercept.datagram.intercept import TIMEOUT, DtlsInterceptor
from sslintercept.datagram.session import Datagrams
from sslintercept.errors import CertificateError, InterceptError, TimedOut, TlsError
from sslintercept.facts import Action, ClientHello, Facts
from sslintercept.net.connector import Denied
from sslintercept.net.upstream import UpstreamTlsError
from sslintercept.testing.loop import Loop
from sslintercept.testing.pki import Pair, make_ca, make_leaf
from sslintercept.tls.dtls import DtlsEngine, DtlsServerContext, DtlsUpstreamContext
from sslintercept.tls.engine import Credential
from sslintercept.tls.seen import Seen
from sslintercept.tls.verify import Verifier
from tests.datagram.support import INTERCEPT, Site, hello

NOW = 1.77e9
ROOT, OURS = make_ca("origins' root"), make_ca("ours")


class Forger:
    """Leaves under our CA, and what they were made from."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Seen | None, str | None]] = []
        self.leaf = make_leaf(OURS, ["a.example"])

    def forge(self, name: str, seen: Seen | None, hello: ClientHello, now: float) -> Credential:
        assert now == NOW
        self.asked.append((name, seen, hello.server_name))
        return self.leaf.credential()


class Peer:
    """An end of ours that speaks DTLS on a plain socket."""

    def __init__(self, sock: socket.socket, engine: DtlsEngine) -> None:
        self.sock = sock
        self.engine = engine
        self.open = False
        self.got: list[bytes] = []
        self.error: TlsError | None = None

    def send(self, datagram: bytes) -> None:
        self.sock.send(datagram)

    def turn(self) -> bool:
        moved = False
        while self.error is None:
            try:
                data, source = self.sock.recvfrom(65536)
            except OSError:
                return moved  # nothing there, nobody there, or closed
            moved = True
            try:
                self.take(data, source)
            except TlsError as error:
                self.error = error
            for each in self.engine.flush():
                self.send(each)
        return moved

    def take(self, data: bytes, source: tuple[str, int]) -> None:
        if self.open:
            self.got += self.engine.decrypt(data)
        else:
            self.engine.feed(data)
            self.open = self.engine.handshake()


class Origin(Peer):
    """Takes one client, without asking for a cookie by itself."""

    listening = True

    def take(self, data: bytes, source: tuple[str, int]) -> None:
        if self.listening:
            self.sock.connect(source)
            self.listening = not self.engine.listen(data)
            if not self.listening:
                self.open = self.engine.handshake()
        else:
            super().take(data, source)


class Opened:
    """A site whose DTLS is opened, a client and an origin."""

    def __init__(
        self,
        loop: Loop,
        leaf: Pair | None = None,
        *,
        action: Action | Callable[[Facts], Action] = INTERCEPT,
        alpn: tuple[bytes, ...] = (),
        offer: tuple[bytes, ...] = (),
        server_name: str = "a.example",
        require: bool = True,
        upstream: DtlsUpstreamContext | None = None,
        client_context: DtlsServerContext | None = None,
    ) -> None:
        self.loop = loop
        self.forger = Forger()
        self.now = NOW
        self.interceptor = DtlsInterceptor(
            loop.handler,
            client_context=client_context or DtlsServerContext(),
            upstream_context=upstream or DtlsUpstreamContext(),
            judge=Verifier([ROOT.certificate], None),
            credentials=self.forger,
            cookies=Cookies(b"k" * 32),
            wall_clock=lambda: self.now,
            require=require,
        )
        self.site = Site(loop, action, opener=self.interceptor)
        leaf = leaf or make_leaf(ROOT, ["a.example"])
        context = DtlsServerContext(chain=leaf.chain[1:])
        self.origin = Origin(self.site.origin, context.engine(leaf.credential(), alpn, b"o" * 32))
        self.client = Peer(self.site.client(), DtlsUpstreamContext().engine(server_name, offer))
        loop.others += [self.origin.turn, self.client.turn]

    def start(self) -> None:
        self.client.engine.handshake()
        for datagram in self.client.engine.flush():
            self.client.send(datagram)
        self.loop.pump()

    @property
    def datagrams(self) -> Datagrams:
        return self.site.datagrams

    def end(self) -> Facts:
        """Close, and the one entry of the log."""
        self.site.close()
        self.loop.pump()
        [(facts, _)] = self.site.ended
        return facts


def test_the_client_sees_a_forged_leaf_and_datagrams_pass_one_for_one(loop: Loop) -> None:
    opened = Opened(loop, alpn=(b"coap",), offer=(b"x", b"coap"))
    opened.start()
    client, origin = opened.client, opened.origin
    assert client.open
    assert origin.open
    assert client.engine.peer_chain() == [opened.forger.leaf.der]
    for data in (b"one", b"two" * 300):
        client.send(client.engine.encrypt(data))
        origin.send(origin.engine.encrypt(b">" + data))
    loop.pump()
    assert origin.got == [b"one", b"two" * 300]
    assert client.got == [b">one", b">" + b"two" * 300]
    [(name, seen, offered)] = opened.forger.asked
    assert (name, offered) == ("a.example", "a.example")
    assert seen is not None
    assert (seen.names, seen.alpn, seen.fault) == (("a.example",), "coap", None)
    loop.pass_time(TIMEOUT + 1)
    assert opened.site.ended == []
    facts = opened.end()
    assert client.engine.closed
    assert origin.engine.closed
    assert facts.stack == "udp/dtls1.2"
    assert facts.depth == 1
    assert facts.client_tls is not None
    assert facts.upstream_tls is not None
    assert (facts.client_tls.version, facts.client_tls.alpn) == ("DTLSv1.2", "coap")
    assert (facts.upstream_tls.server_name, facts.upstream_tls.verified) == ("a.example", "ok")
    assert facts.error is None


def test_nothing_is_asked_of_the_origin_and_little_is_said_before_the_address_is_proven(loop: Loop) -> None:
    opened = Opened(loop)
    forged = opened.site.client()
    for n in range(5):
        forged.send(hello("a.example", serial=0, cookie=bytes([n]) * 32))
    answers = opened.site.received(forged)
    assert len(answers) == 5
    assert {len(answer) for answer in answers} == {60}
    assert opened.origin.listening
    [flow] = opened.site.table
    assert not flow.answered
    assert flow.own == 300
    opened.site.close()


def test_a_cookie_that_is_too_old_is_asked_for_again(loop: Loop) -> None:
    opened = Opened(loop)
    client = opened.client
    client.engine.handshake()
    client.send(client.engine.flush()[0])
    for _ in range(3):
        loop.handler.doRead()
    opened.now += 2 * SLOT
    loop.pump()
    assert not client.open
    assert opened.origin.listening
    opened.site.close()


def test_an_origin_whose_certificate_is_refused_gets_nothing_and_the_client_an_alert(loop: Loop) -> None:
    opened = Opened(loop, make_leaf(ROOT, ["b.example"]))
    opened.start()
    assert opened.client.error is not None
    assert opened.client.error.alert == 42
    assert opened.forger.asked == []
    [(facts, totals)] = opened.site.ended
    assert isinstance(facts.error, CertificateError)
    assert facts.error.fault == "wrong_name"
    assert facts.upstream_tls is not None
    assert facts.upstream_tls.verified == "wrong_name"
    assert totals.why == "refused"
    opened.site.close()


def test_a_fault_is_only_reported_where_that_is_wanted(loop: Loop) -> None:
    opened = Opened(loop, make_leaf(ROOT, ["b.example"]), require=False)
    opened.start()
    assert opened.client.open
    assert opened.forger.asked[0][1] is not None
    assert opened.forger.asked[0][1].fault == "wrong_name"
    assert opened.end().error is None


def test_an_origin_that_refuses_the_handshake_is_told_to_the_client(loop: Loop) -> None:
    opened = Opened(loop)
    opened.client.engine.handshake()
    opened.client.send(opened.client.engine.flush()[0])

    def refuse(data: bytes, source: tuple[str, int]) -> None:
        opened.site.origin.sendto(fatal(40, bytes(8)), source)

    opened.origin.take = refuse  # type: ignore[method-assign]  # a worse origin
    loop.pump()
    assert opened.client.error is not None
    assert opened.client.error.alert == 40
    [(facts, _)] = opened.site.ended
    assert isinstance(facts.error, UpstreamTlsError)
    opened.site.close()


def test_an_origin_that_may_not_be_reached_is_told_to_the_client(loop: Loop) -> None:
    opened = Opened(loop)
    opened.site.refused = Denied("it is private", "leave it")
    opened.start()
    assert opened.client.error is not None
    assert opened.client.error.alert == 80
    assert "private" in str(opened.end().error)


def test_an_origin_that_says_nothing_is_waited_for_for_a_bounded_time(loop: Loop) -> None:
    opened = Opened(loop)
    opened.origin.take = lambda data, source: None  # type: ignore[method-assign]  # a silent origin
    opened.start()
    loop.pass_time(TIMEOUT + 1)
    assert opened.client.error is not None
    assert opened.client.error.alert == 80
    assert isinstance(opened.end().error, TimedOut)


def test_a_client_that_goes_away_in_its_handshake_is_waited_for_for_a_bounded_time(loop: Loop) -> None:
    opened = Opened(loop)
    opened.client.engine.handshake()
    opened.client.send(opened.client.engine.flush()[0])
    take = opened.client.take

    def only_the_cookie(data: bytes, source: tuple[str, int]) -> None:
        if len(data) == 60:
            take(data, source)

    opened.client.take = only_the_cookie  # type: ignore[method-assign]  # a worse client
    loop.pump()
    assert opened.forger.asked
    loop.pass_time(TIMEOUT + 1)
    [(facts, totals)] = opened.site.ended
    assert isinstance(facts.error, TimedOut)
    assert totals.why == "deadline"
    opened.site.close()


def test_a_client_that_shares_nothing_with_us_is_told_so(loop: Loop) -> None:
    rsa = make_leaf(OURS, ["a.example"], key_kind="rsa")
    opened = Opened(loop)
    opened.forger.leaf = rsa
    # The suites of this hello sign with ECDSA alone, and our leaf cannot.
    sock = opened.site.client()
    sock.send(hello("a.example"))
    [asked] = opened.site.received(sock)
    only = hello("a.example", serial=1, cookie=asked[28:]).replace(b"\xc0\x2b\xc0\x2f", b"\xc0\x2b\xc0\x2c")
    sock.send(only)
    assert any(answer[0] == 21 for answer in opened.site.received(sock))
    [(facts, totals)] = opened.site.ended
    assert isinstance(facts.error, TlsError)
    assert totals.why == "client"
    opened.site.close()


@pytest.mark.parametrize("who", ["client", "origin"])
def test_a_goodbye_of_one_side_is_said_to_the_other(loop: Loop, who: str) -> None:
    opened = Opened(loop)
    opened.start()
    one, other = (opened.client, opened.origin) if who == "client" else (opened.origin, opened.client)
    one.engine.shutdown()
    for datagram in one.engine.flush():
        one.send(datagram)
    loop.pump()
    assert other.engine.closed
    [(facts, totals)] = opened.site.ended
    assert totals.why == ("client" if who == "client" else "upstream")
    assert facts.error is None
    opened.site.close()


def test_a_session_with_the_origin_that_breaks_later_ends_the_flow(loop: Loop) -> None:
    opened = Opened(loop)
    opened.start()
    [flow] = opened.site.table
    upstream = next(one for one in loop.handler.watched() if hasattr(one, "_flow"))
    layer = upstream._flow.top
    layer.fail(TlsError("an alert came", where="test"))
    [(facts, totals)] = opened.site.ended
    assert isinstance(facts.error, UpstreamTlsError)
    assert "an alert came" in str(facts.error)
    assert totals.why == flow.why == "upstream"
    opened.site.close()


def test_what_the_origin_says_first_waits_for_the_clients_handshake(loop: Loop) -> None:
    opened = Opened(loop)
    said: list[bytes] = []
    take = opened.origin.take

    def greet(data: bytes, source: tuple[str, int]) -> None:
        take(data, source)
        if opened.origin.open and not said:
            said.append(b"greeting")
            opened.origin.send(b"".join(opened.origin.engine.flush()))
            opened.origin.send(opened.origin.engine.encrypt(said[0]))

    opened.origin.take = greet  # type: ignore[method-assign]  # an origin that speaks first
    opened.start()
    assert opened.client.got == [b"greeting"]
    opened.site.close()


def test_noise_in_the_middle_of_everything_changes_nothing_but_the_count(loop: Loop) -> None:
    opened = Opened(loop)
    send, noise = opened.client.send, [b"noise", b"\x16" * 40, bytes(1300), b""]

    def noisy(datagram: bytes) -> None:
        for each in (*noise, datagram, *noise):
            send(each)

    opened.client.send = noisy  # type: ignore[method-assign]  # a worse wire
    # The first datagram names the flow, so it is a good one.
    opened.client.engine.handshake()
    send(opened.client.engine.flush()[0])
    loop.pump()
    assert opened.client.open
    opened.client.send(opened.client.engine.encrypt(b"data"))
    loop.pump()
    assert opened.origin.got == [b"data"]
    opened.site.close()
    assert opened.site.ended[0][1].dropped > 8


def test_an_address_is_the_name_where_the_hello_has_none(loop: Loop) -> None:
    opened = Opened(loop, make_leaf(ROOT, ["127.0.0.1"]), server_name="127.0.0.1")
    opened.start()
    assert opened.client.open
    assert opened.forger.asked[0][0] == "127.0.0.1"
    facts = opened.end()
    assert facts.client_tls is not None
    assert facts.client_tls.server_name == ""


def test_a_defect_of_the_forger_ends_the_flow(loop: Loop) -> None:
    opened = Opened(loop)

    def defect(name: str, seen: Seen | None, hello: ClientHello, now: float) -> Credential:
        raise InterceptError("no key", where="test", remedy="none")

    opened.forger.forge = defect  # type: ignore[method-assign]  # a broken one
    opened.start()
    assert [totals.why for _, totals in opened.site.ended] == ["upstream"]
    loop.failures.clear()
    opened.site.close()
