"""curl through every door: proxies in the clear and in TLS, SOCKS in all versions, parents, layers in layers."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from sslintercept.socks.users import make_line
from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Nginx, body, digest
from tests.process.running import Proxy
from tests.process.servers import Server
from tests.process.tools import PATIENCE, server_port, tool

HELLO = b"hello from nginx\n" * 4
MUCH = 10_000_000


def resolved(url: str) -> tuple[str, str]:
    """What tells curl the address, for doors that take no names."""
    return "--resolve", f"good.test:{url.split(':')[2].split('/')[0]}:127.0.0.1"


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks4a", "socks5", "socks5h"])
@pytest.mark.parametrize("secure", [True, False], ids=["to-https", "to-http"])
def test_curl_comes_in_by_every_door(gateway: Proxy, nginx: Nginx, scheme: str, secure: bool) -> None:
    url = nginx.url() if secure else nginx.plain_url()
    got = gateway.curl(url, "--proxy-cacert", gateway.ca, *resolved(url), by=f"{scheme}://{gateway.ports[0]}")
    assert (got.status, got.body) == (200, HELLO), got.said
    assert got.facts[0]["ssl_verify_result"] == 0


@pytest.mark.parametrize("scheme", ["socks4a", "socks5h"])
def test_behind_socks_tls_is_intercepted_and_named_in_the_log(gateway: Proxy, nginx: Nginx, scheme: str) -> None:
    url = nginx.url(f"/big?{scheme}")
    got = gateway.curl(url, by=f"{scheme}://{gateway.ports[0]}")
    assert got.body == body(MUCH)
    stack = f"tcp/{scheme.rstrip('ah')}/tls1.3/http1"
    gateway.logged(lambda line: line["stack"] == stack and line["destination"].startswith("good.test:"))


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks4a", "socks5", "socks5h"])
def test_every_door_is_open_inside_of_tls(gateway: Proxy, nginx: Nginx, tmp_path: Path, scheme: str) -> None:
    """curl speaks no SOCKS inside of TLS; socat puts the TLS around it."""
    port = server_port()
    way = f"OPENSSL:{gateway.ports[0]},cafile={gateway.ca},commonname=localhost"
    wrapped = Server(tmp_path, [tool("socat"), f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", way], port)
    try:
        got = gateway.curl(nginx.url(), *resolved(nginx.url()), by=f"{scheme}://127.0.0.1:{port}")
        assert (got.status, got.body) == (200, HELLO), got.said
    finally:
        wrapped.stop()
    layer = {"http": "http1/http-connect"}.get(scheme, scheme.rstrip("ah"))
    gateway.logged(lambda line: line["stack"] == f"tcp/tls1.3/{layer}/tls1.3/http1")


@pytest.mark.parametrize("inner", ["http", "https"])
@pytest.mark.parametrize("outer", ["socks4a", "socks5h"])
def test_curl_reaches_a_proxy_of_its_own_through_socks(proxy: ProxyMaker, nginx: Nginx, outer: str, inner: str) -> None:
    far = proxy("")
    near = proxy(f"[upstream-tls]\nextra_trust = {far.ca}\n[http]\nvia = near\n")
    way = ("--preproxy", f"{outer}://{near.ports[0]}", "--proxy-cacert", near.ca)
    got = near.curl(nginx.url(), *way, by=f"{inner}://localhost:{far.address[1]}")
    assert (got.status, got.body) == (200, HELLO), got.said
    plain = near.curl(nginx.plain_url(), *way, by=f"{inner}://localhost:{far.address[1]}")
    assert (plain.status, plain.body) == (200, HELLO), plain.said
    far.logged(lambda line: line.get("url") == nginx.plain_url())
    between = {"http": "", "https": "tls1.3/"}[inner]
    near.logged(lambda line: line["stack"] == f"tcp/{outer[:6].rstrip('ah')}/{between}http1/http-connect/tls1.3/http1")


def test_tls_in_tls_carries_ten_megabytes_both_ways(gateway: Proxy, origin: BodyOrigin, tmp_path: Path) -> None:
    """T4.8"""
    upload = tmp_path / "upload"
    upload.write_bytes(body(MUCH))
    way = ("--proxy-cacert", gateway.ca)
    by = f"https://{gateway.ports[0]}"
    down = gateway.curl(origin.url(f"/bytes/{MUCH}"), *way, by=by)
    assert down.status == 200, down.said
    up = gateway.curl(origin.url("/digest"), "-T", upload, *way, by=by)
    assert digest(MUCH) in up.text
    line = gateway.logged(lambda line: line["type"] == "transaction" and "body.test" in line["url"])
    assert [layer["sni"] for layer in line["layers"]][-1] == "body.test"
    assert line["stack"] == "tcp/tls1.3/http1/http-connect/tls1.3/http1"


def test_an_urgent_byte_passes_a_tunnel_in_its_place_both_ways(gateway: Proxy) -> None:
    """Telnet and FTP send some (RFC 854, RFC 959 4.1.3)."""
    with (
        socket.create_server(("127.0.0.1", 0)) as origin,
        gateway.tunnel(f"127.0.0.1:{origin.getsockname()[1]}") as client,
    ):
        server, _ = origin.accept()
        server.settimeout(PATIENCE)
        with server:
            for sender, receiver in ((client, server), (server, client)):
                sender.sendall(b"\xff\xf4")
                sender.send(b"\xff", socket.MSG_OOB)
                sender.sendall(b"\xf2ABOR\r\n")
                got = b""
                while not got.endswith(b"\n"):
                    piece = receiver.recv(100)
                    assert piece
                    got += piece
                assert got == b"\xff\xf4\xff\xf2ABOR\r\n"


def test_users_of_socks_must_log_in(proxy: ProxyMaker, nginx: Nginx, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(make_line("alice", "wonder land") + "\n")
    users.chmod(0o600)
    gateway = proxy(f"[socks]\nusers = {users}\n")
    by = f"socks5h://{gateway.ports[0]}"
    good = gateway.curl(nginx.url(), "--proxy-user", "alice:wonder land", by=by)
    assert (good.status, good.body) == (200, HELLO)
    assert gateway.logged(lambda line: line["user"] == "alice")
    assert gateway.curl(nginx.url(), "--proxy-user", "alice:wrong", by=by).code == 97
    assert gateway.curl(nginx.url(), by=by).code == 97
    assert gateway.curl(nginx.url(), by=f"socks4a://{gateway.ports[0]}").code == 97
    assert "wonder" not in gateway.said() + str(gateway.log())


def test_a_flood_of_bad_logins_keeps_nobody_else_out(proxy: ProxyMaker, nginx: Nginx, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(make_line("alice", "secret") + "\n")
    users.chmod(0o600)
    gateway = proxy(f"[socks]\nusers = {users}\n")
    with ExitStack() as stack:
        for _ in range(200):
            guesser = socket.create_connection(gateway.address, PATIENCE, ("127.0.0.2", 0))
            stack.enter_context(guesser)
            guesser.sendall(b"\x05\x01\x02\x01\x05alice\x05guess")
        got = gateway.curl(nginx.url(), "--proxy-user", "alice:secret", by=f"socks5h://{gateway.ports[0]}")
        assert got.status == 200, got.said
    line = gateway.logged(lambda line: line["client"] == "127.0.0.2" and line["error"] == "limit")
    assert "too many logins of this client" in line["error_text"]


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_a_gateway_behind_a_gateway(proxy: ProxyMaker, nginx: Nginx, kind: str) -> None:
    """The inner one is the other's parent; both intercept, each trusts what it meets."""
    far = proxy("")
    near = proxy(
        f"[parent:far]\nproxy = {kind}\naddress = localhost:{far.address[1]}\n"
        f"[upstream-tls]\nextra_trust = {far.ca}\n[http]\nvia = near\n"
    )
    got = near.curl(nginx.url())
    assert (got.status, got.body) == (200, HELLO), got.said + got.text
    assert near.logged(lambda line: line["type"] == "transaction")["parent"] == "far"
    there = far.logged(lambda line: line["type"] == "transaction" and line["method"] == "GET")
    assert there["status"] == 200
    assert there["stack"].split("/")[1] == {"http": "http1", "https": "tls1.3", "socks5": "socks5"}[kind]


def test_connect_in_tls_in_connect_in_tls(gateway: Proxy, proxy: ProxyMaker, nginx: Nginx) -> None:
    """A client goes through one gateway to another one in TLS, and through that one to the origin: three layers."""
    far = proxy("")
    near = proxy(f"[upstream-tls]\nextra_trust = {far.ca}\n[http]\nvia = near\n")
    with near.secure(f"localhost:{far.address[1]}", "localhost") as outer:
        assert asks_and_reads(near, outer, nginx).endswith(HELLO)
    line = near.logged(lambda line: line["type"] == "transaction" and line["method"] == "GET")
    assert [layer["sni"] for layer in line["layers"]] == ["localhost", "good.test"]
    assert line["stack"] == "tcp/http1/http-connect/tls1.3/http1/http-connect/tls1.3/http1"
    there = far.logged(lambda line: line["type"] == "transaction" and line["method"] == "GET")
    assert there["stack"] == "tcp/tls1.3/http1/http-connect/tls1.3/http1", "asked as the client asked"


def asks_and_reads(near: Proxy, outer: ssl.SSLSocket, nginx: Nginx) -> bytes:
    """CONNECT in an open layer, another layer inside, and a request in that one."""
    port = nginx.url().split(":")[2].split("/")[0]
    outer.sendall(f"CONNECT good.test:{port} HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = outer.recv(1)
        assert piece, head
        head += piece
    assert head.startswith(b"HTTP/1.1 200"), head
    inner = Layered(outer, near.context(), "good.test")
    inner.send(f"GET /hello.txt HTTP/1.1\r\nHost: good.test:{port}\r\nConnection: close\r\n\r\n".encode())
    return inner.read()


class Layered:
    """A TLS client on top of a TLS socket, which the ssl module itself does not do."""

    def __init__(self, below: ssl.SSLSocket, context: ssl.SSLContext, name: str) -> None:
        self._below = below
        below.settimeout(PATIENCE)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._pump(self._tls.do_handshake)

    def _pump(self, step: object) -> bytes | None:
        while True:
            try:
                done: bytes | None = step()  # type: ignore[operator]  # a method of SSLObject
            except ssl.SSLWantReadError:
                self._below.sendall(self._out.read())
                data = self._below.recv(65536)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
                continue
            if self._out.pending:
                self._below.sendall(self._out.read())
            return done

    def send(self, data: bytes) -> None:
        """Say something."""
        self._pump(lambda: self._tls.write(data))

    def read(self) -> bytes:
        """Everything until the end."""
        pieces = []
        while True:
            try:
                piece = self._pump(lambda: self._tls.read(65536))
            except (ssl.SSLError, ConnectionError):
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)


@pytest.mark.parametrize("first", ["SSH-2.0-x\r\n", "220 smtp.test ESMTP\r\n"])
def test_a_server_that_greets_is_heard_by_a_client_that_says_nothing(gateway: Proxy, first: str) -> None:
    """T1.5, T4.9: on a port that nobody knows."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        gateway.tunnel(f"127.0.0.1:{server.getsockname()[1]}") as client,
        server.accept()[0] as there,
    ):
        there.sendall(first.encode())
        client.settimeout(PATIENCE)
        assert client.recv(100) == first.encode()
