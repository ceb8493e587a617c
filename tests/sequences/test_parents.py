"""Ways to origins that lead through other proxies, chosen by rule."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.testing.gateway import OK, Answers, MemoryGateway
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.sequences.support import CLIENT_FIRST, ESTABLISHED, SERVER_FIRST, get, intercepted, responses

HTTP = "[parent:up]\nproxy = http\naddress = parent.test:3128\n"
HTTPS = "[parent:up]\nproxy = https\naddress = parent.test:3128\n"
CONNECT = b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n"
SOCKS = "[parent:up]\nproxy = socks5\naddress = parent.test:3128\n"


class HttpParent:
    """Opens every way that CONNECT asks for, and is the origin at its end as well."""

    def __init__(self, gateway: MemoryGateway, reply: bytes = b"HTTP/1.1 200 OK\r\n\r\n", tls: bool = True) -> None:
        self.own = gateway.leaf("origin.test") if tls else None
        self.reply = reply
        self.asked: list[bytes] = []
        self.opened: set[Peer] = set()
        self.answers = Answers(OK)

    def __call__(self, peer: Peer) -> None:
        if peer in self.opened:
            self.answers(peer)
            return
        head, end, _ = bytes(peer.got).partition(b"\r\n\r\n")
        if end:
            self.asked.append(head)
            self.opened.add(peer)
            peer.take()
            peer.send(self.reply)
            if self.own is not None:
                peer.serve_tls(self.own)


class SocksParent(HttpParent):
    """The same with SOCKS 5; C{method} is what it wants."""

    def __init__(self, gateway: MemoryGateway, method: int = 0, code: int = 0) -> None:
        super().__init__(gateway)
        self.method = method
        self.code = code
        self.login = b""

    def __call__(self, peer: Peer) -> None:
        if peer in self.opened:
            self.answers(peer)
            return
        got = peer.take()
        if got.startswith((b"\x05\x01\x00", b"\x05\x02\x00\x02")) and len(got) < 5:
            peer.send(bytes([5, self.method]))
        elif got.startswith(b"\x01"):
            self.login = got
            peer.send(b"\x01\x00" if got.endswith(b"secret") else b"\x01\x01")
        elif got.startswith(b"\x05\x01\x00"):
            self.asked.append(got)
            self.opened.add(peer)
            peer.send(bytes([5, self.code, 0, 3, 3]) + b"abc\x00\x50")
            assert self.own is not None
            peer.serve_tls(self.own)


Make = Callable[[MemoryGateway], HttpParent]


@pytest.mark.parametrize("order", [CLIENT_FIRST, SERVER_FIRST, ""])
@pytest.mark.parametrize(
    ("ini", "make", "asks", "stack"),
    [
        (HTTP, HttpParent, b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443", "tcp + tls1.3"),
        (HTTPS, HttpParent, b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443", "tcp + tls1.3 + tls1.3"),
        (SOCKS, SocksParent, b"\x05\x01\x00\x03\x0borigin.test\x01\xbb", "tcp + tls1.3"),
    ],
)
def test_every_kind_of_parent_leads_to_the_origin_in_every_order(
    loop: Loop, order: str, ini: str, make: Make, asks: bytes, stack: str
) -> None:
    gateway = MemoryGateway(loop, order + ini)
    parent = make(gateway)
    there = gateway.origin("parent.test:3128", parent, tls=gateway.leaf("parent.test") if ini is HTTPS else None)
    client = intercepted(gateway)
    assert client.names == ["origin.test"]
    for _ in range(2):
        assert get(gateway, client).body == b"hello"
    assert set(parent.asked) == {asks}
    assert str(there.last.vc) == stack
    assert "origin.test" not in gateway.connector.lookups, "names are the parent's to resolve"
    assert gateway.facts[0].parent == "up"
    client.close()
    gateway.pump()
    assert gateway.log[-1]["parent"] == "up"


def test_the_match_decides_who_goes_by_the_parent(loop: Loop) -> None:
    gateway = MemoryGateway(
        loop,
        "[parent:none]\nproxy = direct\nmatch = host:straight.test\n" + HTTP.replace("proxy", "match = port:80\nproxy"),
    )
    parent = HttpParent(gateway, tls=False)
    gateway.origin("parent.test:3128", parent)
    gateway.origin("straight.test:80", b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstraight")
    client = gateway.client()
    bodies = []
    for host in (b"straight.test", b"other.test", b"straight.test", b"other.test"):
        client.send(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (host, host))
        gateway.pump()
        bodies.append(responses(client.take())[0].body)
    assert bodies == [b"straight", b"hello", b"straight", b"hello"]
    assert [head.split(b"\r\n")[0] for head in parent.asked] == [b"CONNECT other.test:80 HTTP/1.1"]
    client.close()


def test_a_parent_is_logged_in_to(loop: Loop, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\nmore\n")
    login = f"user = me\npassword_file = {secret}\n"
    gateway = MemoryGateway(loop, HTTP + login)
    parent = HttpParent(gateway)
    gateway.origin("parent.test:3128", parent)
    assert get(gateway, intercepted(gateway)).body == b"hello"
    assert b"\r\nProxy-Authorization: Basic " + b64encode(b"me:secret") in parent.asked[0]

    gateway = MemoryGateway(loop, SOCKS + login)
    socks = SocksParent(gateway, method=2)
    gateway.origin("parent.test:3128", socks)
    assert get(gateway, intercepted(gateway)).body == b"hello"
    assert socks.login == b"\x01\x02me\x06secret"


def test_a_password_that_cannot_be_read_is_a_mistake_at_the_start(loop: Loop, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    for name, what in ((tmp_path / "none", "No such file"), (empty, "empty or too long")):
        with pytest.raises(ConfigError, match=what):
            MemoryGateway(loop, HTTP + f"user = me\npassword_file = {name}\n")


@pytest.mark.parametrize(
    ("ini", "make", "what"),
    [
        (HTTP, lambda g: HttpParent(g, b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n"), "with 407"),
        (
            HTTP,
            lambda g: HttpParent(g, b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n"),
            "see [parent:up] user and password_file",
        ),
        (HTTP, lambda g: HttpParent(g, b"SSH-2.0-x\r\n\r\n\r\n"), "not HTTP"),
        (HTTP, lambda g: HttpParent(g, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 4000), "larger than"),
        (SOCKS, lambda g: SocksParent(g, method=255), "no login"),
        (SOCKS, lambda g: SocksParent(g, code=5), "connection refused"),
    ],
)
def test_a_parent_that_refuses_is_named_to_the_client(loop: Loop, ini: str, make: Make, what: str) -> None:
    gateway = MemoryGateway(loop, ini)
    there = gateway.origin("parent.test:3128", make(gateway))
    client = gateway.client()
    client.send(CONNECT)
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 502
    assert what.encode() in found.body
    assert b"parent up" in found.body
    assert there.last.ended
    client.close()


def test_an_interim_answer_of_a_parent_is_passed_over(loop: Loop) -> None:
    gateway = MemoryGateway(loop, HTTP)
    gateway.origin(
        "parent.test:3128", HttpParent(gateway, b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nVia: x\r\n\r\n")
    )
    assert get(gateway, intercepted(gateway)).body == b"hello"


def test_what_a_destination_says_at_once_comes_through_a_parent_whole(loop: Loop) -> None:
    gateway = MemoryGateway(loop, HTTP)
    gateway.origin("parent.test:3128", HttpParent(gateway, b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-there\r\n", tls=False))
    client = gateway.client()
    client.send(b"CONNECT origin.test:22 HTTP/1.1\r\nHost: origin.test:22\r\n\r\n")
    gateway.pump()
    assert client.take() == ESTABLISHED + b"SSH-2.0-there\r\n"
    client.close()


@pytest.mark.parametrize("silent", [True, False])
def test_a_parent_that_hangs_or_leaves_is_given_up(loop: Loop, silent: bool) -> None:
    gateway = MemoryGateway(loop, SOCKS)
    there = gateway.origin("parent.test:3128", (lambda peer: None) if silent else (lambda peer: peer.finish()))
    client = gateway.client()
    client.send(CONNECT)
    gateway.pump()
    if silent:
        assert client.take() == b""
        loop.advance(11.0)
        gateway.pump()
    assert responses(client.take())[0].status in (502, 504)
    assert there.last.ended
    client.close()


def test_a_parent_in_tls_that_is_not_genuine_is_not_spoken_to_and_is_named(loop: Loop) -> None:
    gateway = MemoryGateway(loop, HTTPS)
    parent = HttpParent(gateway)
    gateway.origin("parent.test:3128", parent, tls=gateway.leaf("somebody.test"))
    client = gateway.client()
    client.send(CONNECT)
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 502
    assert b"parent up: the certificate is for somebody.test, not parent.test" in found.body
    assert b"[upstream-tls] extra_trust" in found.body
    assert not parent.asked
    client.close()


@pytest.mark.parametrize(("known", "what"), [(True, "Connection refused"), (False, "parent.test has no address")])
def test_a_parent_that_is_down_is_named_to_the_client(loop: Loop, known: bool, what: str) -> None:
    gateway = MemoryGateway(loop, HTTP)
    gateway.origin("origin.test:443")
    if known:
        gateway.origin("parent.test:1")
    client = gateway.client()
    client.send(CONNECT)
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 502
    assert f"parent up: {what}".encode() in found.body
    assert b"[parent:up] address" in found.body
    line = gateway.transactions()[-1]
    assert (line["error"], line["parent"]) == ("parent", "up")
    client.close()


@pytest.mark.parametrize("how", ["fin", "reset", "garbage", "silence"])
@pytest.mark.parametrize("inside", [False, True], ids=["a parent", "a proxy inside a tunnel"])
def test_a_proxy_on_the_way_that_fails_in_its_tls_handshake_is_given_up(loop: Loop, how: str, inside: bool) -> None:
    def fails(peer: Peer) -> None:
        if how == "fin":
            peer.finish()
        elif how == "reset":
            peer.reset()
        elif how == "garbage":
            peer.send_below(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    gateway = MemoryGateway(loop, CLIENT_FIRST if inside else HTTPS)
    there = gateway.origin("parent.test:3128", fails)
    if inside:
        client = intercepted(gateway, "parent.test:3128", "parent.test")
    else:
        client = gateway.client()
    client.send(CONNECT)
    gateway.pump()
    if how == "silence":
        assert client.take() == b""
        loop.pass_time(16.0)
    (found,) = responses(client.take())
    assert found.status == (504 if how == "silence" else 502)
    if not inside:
        assert b"parent up: " in found.body
    assert all(peer.vc.dead or peer.vc.closing for peer in there.peers)
    client.close()
    gateway.pump()
    assert not [vc for vc in loop.handler.connections if not vc.closing]


def test_a_parent_may_be_private_where_clients_may_name_no_such_place(loop: Loop) -> None:
    gateway = MemoryGateway(loop, HTTP + "[http]\nprivate_destinations = deny\n")
    gateway.origin("parent.test:3128", HttpParent(gateway))
    assert get(gateway, intercepted(gateway)).body == b"hello"
    client = gateway.client()
    client.send(b"CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1:443\r\n\r\n")
    gateway.pump()
    assert responses(client.take())[0].status == 403
    client.close()
