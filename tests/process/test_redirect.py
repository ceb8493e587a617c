"""Connections that the kernel redirects to the proxy, and those of balancers: three machines, real rules."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.process.namespaces import (
    CLIENT_4,
    CLIENT_6,
    CLIENT_CABLE,
    GATEWAY_4,
    GATEWAY_6,
    ORIGIN_4,
    ORIGIN_6,
    Namespace,
    Net,
    net,
)
from tests.process.origins import BODY_NAME, BodyOrigin, Certificates, body, serving
from tests.process.running import Answer, Proxy, curl, settings
from tests.process.tools import PATIENCE

LISTENERS = """
[listen:redirect]
endpoint = tcp6:0
target = original
[listen:tproxy]
endpoint = tcp6:0:interface=\\:\\:0
target = original
transparent = on
[listen:named]
endpoint = tcp:{named}
target = sni
[listen:fixed]
endpoint = tcp:0
target = {name}:{secure}
[listen:balanced]
endpoint = tcp6:0:interface=\\:\\:0\\:0
proxy_protocol = {client}/32
[listen:strange]
endpoint = tcp:0:interface=0.0.0.0
proxy_protocol = 203.0.113.0/24
[log]
connections = on
[probe]
timeout = 2s
"""
REDIRECT = """
table inet intercept {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "{cable}" fib daddr type != local tcp dport {{ {ports} }} redirect to :{to}
    }}
}}
"""
TPROXY = """
table inet intercept {{
    chain prerouting {{
        type filter hook prerouting priority mangle
        iifname "{cable}" fib daddr type != local tcp dport {{ {ports} }} tproxy to :{to} meta mark set 1 accept
    }}
}}
"""
HOSTS = {4: ORIGIN_4, 6: ORIGIN_6}
CLIENTS = {4: CLIENT_4, 6: CLIENT_6}


@dataclass(frozen=True)
class World:
    """The machines, what runs on them, and where the proxy listens, by the listener's name."""

    net: Net
    proxy: Proxy
    ports: dict[str, int]
    secure: dict[int, BodyOrigin]
    plain: dict[int, BodyOrigin]
    folder: Path

    def ask(self, version: int, path: str = "/bytes/70000", *options: str | Path, secure: bool = True) -> Answer:
        """The client fetches a URL; it knows the origin's address itself."""
        origin = (self.secure if secure else self.plain)[version]
        host = f"[{HOSTS[version]}]" if version == 6 else HOSTS[version]
        where = ("--resolve", f"{BODY_NAME}:{origin.port}:{host}")
        with self.net.client.entered():
            return curl(self.folder, "--noproxy", "*", "--cacert", self.proxy.ca, *where, *options, origin.url(path))

    def connect(self, host: str, port: int) -> socket.socket:
        """The client connects."""
        with self.net.client.entered():
            return socket.create_connection((host, port), timeout=PATIENCE)

    def redirect(self, rules: str, listener: str) -> None:
        """Send what the client says to origins to a listener."""
        ports = ", ".join(str(one.port) for one in (*self.secure.values(), *self.plain.values()))
        self.net.gateway.nft(rules.format(cable=CLIENT_CABLE, ports=ports, to=self.ports[listener]))

    def line(self, kind: str, listener: str, **matching: object) -> dict[str, Any]:
        """A line of the log."""
        wanted = {"type": kind, "listener": listener, **matching}
        return self.proxy.logged(lambda line: all(line.get(key) == value for key, value in wanted.items()))


@pytest.fixture(scope="module")
def world(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("redirect")
    hosts = folder / "hosts"
    hosts.write_text(f"{ORIGIN_4} {BODY_NAME}\n")
    with net() as made:
        with made.origin.entered():
            secure = {4: BodyOrigin(certificates.files[BODY_NAME], ORIGIN_4)}
            secure[6] = BodyOrigin(certificates.files[BODY_NAME], ORIGIN_6)
            plain = {version: BodyOrigin(None, HOSTS[version]) for version in HOSTS}
        routed(made.gateway)
        with serving(secure[4]), serving(secure[6]), serving(plain[4]), serving(plain[6]):
            text = LISTENERS.format(name=BODY_NAME, secure=secure[4].port, named=secure[4].port, client=CLIENT_4)
            with made.gateway.entered():
                proxy = Proxy(folder, settings(text, certificates.trust, hosts))
            try:
                names = ("proxy", "redirect", "tproxy", "named", "fixed", "balanced", "strange")
                ports = {name: int(port.rpartition(":")[2]) for name, port in zip(names, proxy.ports, strict=True)}
                yield World(made, proxy, ports, secure, plain, tmp_path_factory.mktemp("client"))
                proxy.stop()
            finally:
                proxy.kill()


def routed(gateway: Namespace) -> None:
    """What TPROXY needs besides its rule: packets that carry the mark are for this machine, whatever their address."""
    for family in ("-4", "-6"):
        gateway.ip(f"{family} rule add fwmark 1 lookup 100", f"{family} route add local default dev lo table 100")


WAYS = [("redirect", REDIRECT), ("tproxy", TPROXY)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("listener", "rules"), WAYS)
def test_a_redirected_client_is_intercepted_and_logged_with_the_destination_it_wanted(
    world: World, listener: str, rules: str, version: int
) -> None:
    world.redirect(rules, listener)
    got = world.ask(version)
    assert (got.code, got.status, got.body) == (0, 200, body(70_000))
    assert got.facts[0]["ssl_verify_result"] == 0
    destination = f"[{ORIGIN_6}]" if version == 6 else ORIGIN_4
    destination = f"{destination}:{world.secure[version].port}"
    assert got.facts[0]["remote_ip"] == HOSTS[version]
    line = world.line("transaction", listener, destination=destination)
    assert (line["upstream"], line["client"], line["status"]) == (destination, CLIENTS[version], 200)
    assert line["client_tls"]["sni"] == BODY_NAME


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("listener", "rules"), WAYS)
def test_a_redirected_request_in_the_clear_is_served(world: World, listener: str, rules: str, version: int) -> None:
    world.redirect(rules, listener)
    got = world.ask(version, "/bytes/100", secure=False)
    assert (got.code, got.status, got.body) == (0, 200, body(100))


def test_without_rules_nothing_reaches_the_origin(world: World) -> None:
    world.net.gateway.nft("")
    assert world.ask(4, "/bytes/1", "--max-time", "1").code != 0


@pytest.mark.parametrize("host", [GATEWAY_4, GATEWAY_6])
@pytest.mark.parametrize("listener", ["redirect", "tproxy"])
def test_who_comes_directly_is_refused_and_goes_round_in_no_circle(world: World, listener: str, host: str) -> None:
    world.redirect(dict(WAYS)[listener], listener)
    sock = world.connect(host, world.ports[listener])
    client = sock.getsockname()[1]
    with sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: body.test\r\n\r\n")
        assert is_closed(sock)
    line = world.line("connection", listener, client_port=client)
    assert line["error"] == "client"
    assert "use a " in line["error_text"]
    assert line["upstream"] is None
    itself = str(world.ports[listener])
    assert not [one for one in world.proxy.log() if (one["upstream"] or "").endswith(f":{itself}")]


def test_a_client_can_be_sent_by_its_server_name_alone(world: World) -> None:
    world.redirect(REDIRECT, "named")
    got = world.ask(4, "/bytes/9", "--resolve", f"{BODY_NAME}:{world.ports['named']}:{GATEWAY_4}")
    assert (got.status, got.body) == (200, body(9))
    line = world.line("transaction", "named")
    assert line["upstream"] == f"{ORIGIN_4}:{world.ports['named']}"


def test_a_client_can_be_sent_to_a_fixed_place(world: World) -> None:
    world.net.gateway.nft("")
    port = world.ports["fixed"]
    got = world.ask(4, "/bytes/9", "--connect-to", f"{BODY_NAME}:{world.secure[4].port}:{GATEWAY_4}:{port}")
    assert (got.status, got.body) == (200, body(9))
    assert world.line("transaction", "fixed")["upstream"] == f"{ORIGIN_4}:{world.secure[4].port}"


# balancers

serial = itertools.count(2000)


def headers(source: str, port: int) -> list[bytes]:
    """What a balancer says of a client, in both versions."""
    ends = socket.inet_aton(source) + socket.inet_aton("203.0.113.9") + port.to_bytes(2, "big") + b"\x01\xbb"
    return [
        f"PROXY TCP4 {source} 203.0.113.9 {port} 443\r\n".encode(),
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + ends,
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_the_log_has_the_client_of_whom_a_trusted_balancer_speaks(world: World, number: int) -> None:
    port = next(serial)
    header = headers("203.0.113.77", port)[number]
    authority = f"{BODY_NAME}:{world.secure[4].port}"
    with world.connect(GATEWAY_4, world.ports["balanced"]) as sock:
        sock.sendall(header + f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")
        with world.proxy.context().wrap_socket(sock, server_hostname=BODY_NAME) as tls:
            tls.sendall(f"GET /bytes/5 HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
            assert everything(tls).endswith(body(5))
    line = world.line("transaction", "balanced", client_port=port)
    assert (line["client"], line["status"]) == ("203.0.113.77", 200)


def test_curl_can_be_the_balancer(world: World) -> None:
    got = by(world, "balanced", "--haproxy-protocol")
    assert (got.status, got.body) == (200, body(9))
    assert world.line("transaction", "balanced", client=CLIENT_4)["status"] == 200


def test_a_trusted_balancer_that_sends_no_header_is_closed(world: World) -> None:
    with world.connect(GATEWAY_4, world.ports["balanced"]) as sock:
        sock.sendall(b"GET http://body.test/ HTTP/1.1\r\nHost: body.test\r\n\r\n")
        assert is_closed(sock)
    line = world.line("connection", "balanced", error="proxy_line")
    assert "does not begin with one" in line["error_text"]


def test_a_stranger_is_served_without_a_header_and_refused_with_one(world: World) -> None:
    assert by(world, "strange").status == 200
    for header in headers("203.0.113.77", next(serial)):
        sock = world.connect(GATEWAY_4, world.ports["strange"])
        client = sock.getsockname()[1]
        with sock:
            sock.sendall(header + b"GET http://body.test/ HTTP/1.1\r\nHost: body.test\r\n\r\n")
            assert is_closed(sock)
        line = world.line("connection", "strange", client_port=client)
        assert (line["error"], line["result"]) == ("policy", "TCP_DENIED")
        assert "a PROXY header of" in line["error_text"]
        assert "[listen:strange] proxy_protocol" in line["error_text"]


def by(world: World, listener: str, *options: str) -> Answer:
    """The client asks a listener as a proxy for a plain origin."""
    proxy = f"http://{GATEWAY_4}:{world.ports[listener]}"
    with world.net.client.entered():
        return curl(world.folder, "--proxy", proxy, *options, world.plain[4].url("/bytes/9"))


def everything(sock: ssl.SSLSocket) -> bytes:
    found = bytearray()
    while piece := sock.recv(65536):
        found += piece
    return bytes(found)


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side closes without a word."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
