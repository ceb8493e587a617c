"""Datagrams through a running gateway: by every door, with real name servers and OpenSSL's own DTLS."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.namespaces import CLIENT_CABLE, ORIGIN_4, ORIGIN_6, net
from tests.process.origins import Certificates
from tests.process.running import Proxy, settings
from tests.process.servers import NAME, Dnsmasq
from tests.process.test_redirect import routed
from tests.process.tools import ENVIRONMENT, PATIENCE, run, server_port, tool, wait_for

Ini = Callable[[str], str]
ANSWER = "203.0.113.9"
QUERY = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0\x03www\x04real\x04test\0\0\1\0\1"
QUIC = b"\xc0\0\0\0\1\x08" + bytes(8) + b"\0\0\x44\x9e" + bytes(1200)
"""the long header of an Initial of version 1"""
TPROXY = f"""
table inet intercept {{{{
    chain prerouting {{{{
        type filter hook prerouting priority mangle
        iifname "{CLIENT_CABLE}" fib daddr type != local udp dport 53 tproxy to :{{to}} meta mark set 1 accept
    }}}}
}}}}
"""


@pytest.fixture(scope="module")
def dnsmasq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dnsmasq]:
    """A name server."""
    server = Dnsmasq(tmp_path_factory.mktemp("dnsmasq"), f"www.real.test={ANSWER}")
    yield server
    server.stop()


def dig(folder: Path, server: str, *options: str) -> str:
    """What dig prints of an address it asks for."""
    done = run(tool("dig"), f"@{server}", "+short", "+tries=2", "+time=5", *options, "www.real.test", folder=folder)
    return done.stdout.strip()


def test_a_fixed_target_answers_and_the_log_names_the_protocol(
    proxy: ProxyMaker, dnsmasq: Dnsmasq, tmp_path: Path
) -> None:
    port = server_port()
    gateway = proxy(
        f"[listen:dns]\nendpoint = udp:{port}:interface=127.0.0.1\ntarget = 127.0.0.1:{dnsmasq.port}\n"
        "[udp]\nidle_timeout = 1s\n"
    )
    for _ in range(3):
        assert dig(tmp_path, "127.0.0.1", "-p", str(port)) == ANSWER
    line = gateway.logged(lambda line: line["listener"] == "dns")
    assert line["probe"] == ["dns: the first datagram is one of dns (RFC 1035 4.1)"]
    assert (line["stack"], line["error"]) == ("udp/tunnel", None)
    assert line["destination"] == f"127.0.0.1:{dnsmasq.port}"


def test_a_reload_sends_new_flows_to_another_target(proxy: ProxyMaker, ini: Ini) -> None:
    port = server_port()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as before,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as after,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for origin in (before, after):
            origin.bind(("127.0.0.1", 0))
            origin.settimeout(PATIENCE)
        doors = [
            f"[listen:udp]\nendpoint = udp:{port}:interface=127.0.0.1\ntarget = 127.0.0.1:{one.getsockname()[1]}\n"
            for one in (before, after)
        ]
        gateway = proxy(doors[0])
        gateway.reload(ini(doors[1]))
        wait_for("the reload", lambda: "generation 2 of the settings" in gateway.said())
        client.sendto(b"hello", ("127.0.0.1", port))
        assert after.recv(100) == b"hello"


def associated(gateway: Proxy) -> tuple[socket.socket, socket.socket]:
    """A client of SOCKS 5, and its socket for datagrams."""
    control = gateway.connect()
    control.sendall(b"\x05\x01\x00")
    assert control.recv(2) == b"\x05\x00"
    control.sendall(b"\x05\x03\x00\x01" + bytes(6))
    reply = control.recv(64)
    assert reply[:4] == b"\x05\x00\x00\x01"
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.connect((socket.inet_ntoa(reply[4:8]), struct.unpack("!H", reply[8:10])[0]))
    return control, sock


def test_a_client_of_socks_reaches_servers_by_address_and_by_name(gateway: Proxy, dnsmasq: Dnsmasq) -> None:
    control, sock = associated(gateway)
    port = struct.pack("!H", dnsmasq.port)
    with control, sock:
        for where in (b"\x01" + socket.inet_aton("127.0.0.1"), b"\x03" + bytes([len(NAME)]) + NAME.encode()):
            sock.send(b"\0\0\0" + where + port + QUERY)
            got = sock.recv(2000)
            assert got[:10] == b"\0\0\0\x01" + socket.inet_aton("127.0.0.1") + port
            assert got[10:12] == QUERY[:2]
            assert got.endswith(socket.inet_aton(ANSWER))
        control.close()
        # The association ends with its connection.
        sock.send(b"\0\0\0\x01" + socket.inet_aton("127.0.0.1") + port + QUERY)
        sock.settimeout(0.5)
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            sock.recv(2000)


def test_a_server_of_datagrams_may_have_the_number_of_our_tcp_port(gateway: Proxy) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as beside:
        beside.bind(gateway.address)
        beside.settimeout(PATIENCE)
        control, sock = associated(gateway)
        with control, sock:
            port = struct.pack("!H", gateway.address[1])
            sock.send(b"\0\0\0\x01" + socket.inet_aton("127.0.0.1") + port + b"hello")
            assert beside.recv(2000) == b"hello"


def test_quic_is_dropped_where_a_rule_says_so(proxy: ProxyMaker) -> None:
    port = server_port()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as origin,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        origin.bind(("127.0.0.1", 0))
        origin.settimeout(PATIENCE)
        gateway = proxy(
            f"[listen:udp]\nendpoint = udp:{port}:interface=127.0.0.1\ntarget = 127.0.0.1:{origin.getsockname()[1]}\n"
            "[udp]\nidle_timeout = 1s\n[rule:quic]\nmatch = protocol:quic\naction = block\n"
        )
        client.sendto(QUIC, ("127.0.0.1", port))
        line = gateway.logged(lambda line: line["listener"] == "udp")
        assert (line["rule"], line["action"]) == ("quic", "block")
        assert line["probe"][0].startswith("quic: ")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"not quic", ("127.0.0.1", port))
            assert origin.recv(2000) == b"not quic"


@contextmanager
def wrapped(sock: socket.socket, header: bytes) -> Iterator[int]:
    """A port that puts the header of SOCKS before datagrams, for a client that does not know it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
        inner.bind(("127.0.0.1", 0))
        over = threading.Event()

        def relay() -> None:
            client = None
            while not over.is_set():
                for ready in select.select([inner, sock], [], [], 0.1)[0]:
                    data, source = ready.recvfrom(70_000)
                    if ready is inner:
                        client = source
                        sock.send(header + data)
                    elif client is not None:
                        inner.sendto(data[10:], client)

        thread = threading.Thread(target=relay)
        thread.start()
        try:
            yield inner.getsockname()[1]
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("way", ["target", "socks"])
def test_dtls_is_opened_with_our_leaf(proxy: ProxyMaker, certificates: Certificates, tmp_path: Path, way: str) -> None:
    chain, key = certificates.files[NAME]
    above = tmp_path / "above.pem"
    above.write_text("".join(Path(chain).read_text().partition("-----END CERTIFICATE-----\n")[2:]))
    origin, port = server_port(), server_port()
    command = (
        *("s_server", "-dtls1_2", "-accept", f"127.0.0.1:{origin}"),
        *("-cert", chain, "-key", key, "-cert_chain", above),
    )
    server = subprocess.Popen(
        [tool("openssl"), *map(str, command)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    try:
        assert server.stdout is not None
        while b"ACCEPT" not in server.stdout.readline():
            assert server.poll() is None
        gateway = proxy(
            f"[listen:dtls]\nendpoint = udp:{port}:interface=127.0.0.1\ntarget = {NAME}:{origin}\n"
            "[udp]\nidle_timeout = 2s\n"
        )
        with ExitStack() as stack:
            if way == "socks":
                _, sock = (stack.enter_context(one) for one in associated(gateway))
                header = b"\0\0\0\x03" + bytes([len(NAME)]) + NAME.encode() + struct.pack("!H", origin)
                port = stack.enter_context(wrapped(sock, header))
            client = stack.enter_context(
                subprocess.Popen(
                    [
                        *(
                            tool("openssl"),
                            "s_client",
                            "-dtls1_2",
                            "-connect",
                            f"127.0.0.1:{port}",
                            "-servername",
                            NAME,
                        ),
                        *("-verify_hostname", NAME, "-verify_return_error", "-CAfile", str(gateway.ca), "-quiet"),
                    ],
                    cwd=tmp_path,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=ENVIRONMENT,
                )
            )
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"hello origin\n")
            client.stdin.flush()
            while server.stdout.readline() != b"hello origin\n":
                assert server.poll() is None
            assert server.stdin is not None
            server.stdin.write(b"hello client\n")
            server.stdin.flush()
            assert client.stdout.readline() == b"hello client\n"
            client.kill()
        stack_of = {"target": "udp/dtls1.2", "socks": "tcp/socks5/udp/dtls1.2"}[way]
        line = gateway.logged(lambda line: line["stack"] == stack_of)
        assert line["upstream_tls"]["verified"] == "ok"
        assert line["client_tls"]["sni"] == NAME
    finally:
        server.kill()
        server.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network namespaces")
@pytest.mark.parametrize("host", [ORIGIN_4, ORIGIN_6])
def test_redirected_datagrams_are_answered_in_the_origins_name(
    certificates: Certificates, hosts: Path, tmp_path_factory: pytest.TempPathFactory, host: str
) -> None:
    folder = tmp_path_factory.mktemp("tproxy")
    port = server_port()
    with net() as made:
        routed(made.gateway)
        text = (
            f"[listen:dns]\nendpoint = udp:{port}:interface=\\:\\:\ntarget = original\ntransparent = on\n"
            f"[listen:dns4]\nendpoint = udp:{port}:interface=0.0.0.0\ntarget = original\n"
            "transparent = on\n[udp]\nidle_timeout = 1s\n"
        )
        with made.origin.entered():
            server = Dnsmasq(tmp_path_factory.mktemp("dnsmasq"), f"www.real.test={ANSWER}", host=host, port=53)
        try:
            with made.gateway.entered():
                gateway = Proxy(folder, settings(text, certificates.trust, hosts))
            try:
                made.gateway.nft(TPROXY.format(to=port))
                with made.client.entered():
                    assert dig(folder, host) == ANSWER
                    assert dig(folder, host) == ANSWER
                wanted = f"[{host}]:53" if ":" in host else f"{host}:53"
                line = gateway.logged(lambda line: line["destination"] == wanted)
                assert line["probe"][0].startswith("dns: ")
                wait_for("both flows being over", lambda: len(gateway.log()) >= 2, 10)
                gateway.stop()
            finally:
                gateway.kill()
        finally:
            server.stop()
