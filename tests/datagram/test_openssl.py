"""A door between the client and the server that OpenSSL itself ships, in processes of their own and in real time."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sslintercept.datagram.door import Listening, UdpDoor
from sslintercept.datagram.hello import Cookies
from sslintercept.datagram.intercept import DtlsInterceptor
from sslintercept.datagram.session import Datagrams, FlowTotals
from sslintercept.facts import Action, Address, Facts
from sslintercept.net.flow import Flow, FlowTable
from sslintercept.profile.profile import Bytes
from sslintercept.testing.loop import Loop
from sslintercept.testing.pki import Pair, make_ca, make_leaf
from sslintercept.tls.dtls import DtlsServerContext, DtlsUpstreamContext
from sslintercept.tls.verify import Verifier
from tests.datagram.support import INTERCEPT, TUNNEL, Fixed
from tests.datagram.test_intercept import NOW, OURS, ROOT, Forger

OPENSSL = shutil.which("openssl") or ""
pytestmark = pytest.mark.skipif(not OPENSSL, reason="openssl is not installed")

PATIENCE = 20.0
"""seconds until a test is given up"""


class Talk:
    """A process whose output is collected."""

    def __init__(self, loop: Loop, *arguments: str) -> None:
        self._loop = loop
        self.output = b""
        self.process = subprocess.Popen(
            [OPENSSL, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )

    def say(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)

    def wait(self, done: Callable[[], bool]) -> None:
        """Let the loop turn in real time until C{done}."""
        output = self.process.stdout
        assert output is not None
        last = time.monotonic()
        end = last + PATIENCE
        while not done():
            assert last < end, self.output.decode()
            ready, _, _ = select.select([self._loop.handler.fileno(), output.fileno()], [], [], 0.05)
            if output.fileno() in ready:
                self.output += output.read(65536)
            now = time.monotonic()
            self._loop.advance(now - last)
            self._loop.turn()
            last = now

    def until(self, text: bytes) -> None:
        self.wait(lambda: text in self.output)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Way:
    """A client, a door, and an origin."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        self.loop = loop
        self.folder = folder
        self.talks: list[Talk] = []
        self.ended: list[tuple[Facts, FlowTotals]] = []
        self.door: UdpDoor | None = None

    def talk(self, *arguments: str) -> Talk:
        self.talks.append(Talk(self.loop, *arguments))
        return self.talks[-1]

    def origin(self, leaf: Pair, *more: str) -> tuple[Talk, Address]:
        cert, key, chain = (self.folder / name for name in ("cert.pem", "key.pem", "chain.pem"))
        cert.write_bytes(leaf.pem)
        key.write_bytes(leaf.key_pem)
        above = leaf.issuer
        chain.write_bytes(above.pem if above is not None else b"")
        server = self.talk(
            *("s_server", "-dtls1_2", "-4", "-accept", "127.0.0.1:0", "-cert", str(cert), "-key", str(key)),
            *("-cert_chain", str(chain), "-mtu", "1200", *more),
        )
        server.wait(lambda: re.search(rb"ACCEPT [^\n]*:\d+\n", server.output) is not None)
        found = re.search(rb"ACCEPT [^\n]*:(\d+)\n", server.output)
        assert found is not None
        return server, Address("127.0.0.1", int(found[1]))

    def open_door(self, target: Address, action: Action, lose: Callable[[Flow], None] = lambda flow: None) -> Address:
        handler = self.loop.handler

        async def addresses(facts: Facts, destination: Address) -> list[str]:
            return [destination.host]

        opener = DtlsInterceptor(
            handler,
            client_context=DtlsServerContext(chain=[OURS.der]),
            upstream_context=DtlsUpstreamContext(),
            judge=Verifier([ROOT.certificate], None),
            credentials=Forger(),
            cookies=Cookies(b"k" * 32),
            wall_clock=lambda: NOW,
        )

        class Lossy(Datagrams):
            def serve(self, flow: Flow, facts: Facts) -> None:
                lose(flow)
                super().serve(flow, facts)

        datagrams = Lossy(
            handler,
            Fixed(action),
            addresses=addresses,
            denied=lambda facts, destination, host: None,
            ended=lambda facts, totals: self.ended.append((facts, totals)),
            opener=opener,
        )

        self.door = UdpDoor(
            handler,
            FlowTable(handler),
            datagrams,
            listening=lambda: Listening("test", target),
            host="127.0.0.1",
            port=0,
            new_id=lambda: "t",
            wall_clock=lambda: NOW,
        )
        return self.door.start()

    def client(self, to: Address, root: Pair) -> Talk:
        trust = self.folder / "trust.pem"
        trust.write_bytes(root.pem)
        return self.talk(
            *("s_client", "-dtls1_2", "-connect", str(to), "-servername", "a.example", "-verify_hostname", "a.example"),
            *("-verify_return_error", "-CAfile", str(trust), "-mtu", "1200", "-timeout"),
        )

    def close(self) -> None:
        if self.door is not None:
            self.door.stop()
        for talk in self.talks:
            talk.end()


@pytest.fixture
def way(loop: Loop, tmp_path: Path) -> Iterator[Way]:
    way = Way(loop, tmp_path)
    try:
        yield way
    finally:
        way.close()


def talk_both_ways(client: Talk, server: Talk) -> None:
    client.until(b"Verify return code: 0 (ok)")
    client.say(b"hello origin\n")
    server.until(b"hello origin")
    server.say(b"hello client\n")
    client.until(b"hello client")


def test_the_client_trusts_the_forged_leaf_and_both_talk(way: Way) -> None:
    server, origin = way.origin(make_leaf(make_ca("middle", issuer=ROOT), ["a.example"]), "-listen")
    client = way.client(way.open_door(origin, INTERCEPT), OURS)
    talk_both_ways(client, server)
    client.say(b"Q\n")
    client.wait(lambda: bool(way.ended))
    [(facts, totals)] = way.ended
    assert totals.why == "client"
    assert facts.client_tls is not None
    assert facts.client_tls.version == "DTLSv1.2"
    assert facts.client_tls.server_name == "a.example"
    assert facts.error is None


def test_a_tunnel_leaves_cookie_and_certificate_to_the_origin(way: Way) -> None:
    server, origin = way.origin(make_leaf(ROOT, ["a.example"]), "-listen")
    client = way.client(way.open_door(origin, TUNNEL), ROOT)
    talk_both_ways(client, server)
    assert way.ended == []


def test_a_refused_origin_is_an_alert_for_the_client(way: Way) -> None:
    _, origin = way.origin(make_leaf(ROOT, ["b.example"]))
    client = way.client(way.open_door(origin, INTERCEPT), OURS)
    client.until(b"alert bad certificate")
    assert way.ended[0][1].why == "refused"


def test_lost_datagrams_are_said_again(way: Way) -> None:
    server, origin = way.origin(make_leaf(ROOT, ["a.example"]))
    lost: list[int] = []

    def lose(flow: Flow) -> None:
        send = flow.udp._send

        def sometimes(data: Bytes) -> None:
            if len(data) > 300 and not lost:
                lost.append(len(data))
            else:
                send(data)

        flow.udp._send = sometimes

    client = way.client(way.open_door(origin, INTERCEPT, lose), OURS)
    talk_both_ways(client, server)
    assert len(lost) == 1
