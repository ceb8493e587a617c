"""Names as a running gateway looks them up, and as it answers whoever asks it: with real servers and real clients."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Certificates, body
from tests.process.running import Proxy
from tests.process.servers import NAME, Dnsmasq, Named, Unbound
from tests.process.tools import PATIENCE, ours, run, server_port, tool, wait_for
from tests.signedzone import ORIGIN
from tests.standstill import stand_still

OUTSIDE = "203.0.113.9"
KNOWN = (
    f"www.real.test={OUTSIDE}",
    "here.real.test=127.0.0.1",
    *(f"n{number}.real.test=198.51.100.{number % 250 + 1}" for number in range(100)),
)


@pytest.fixture(scope="module")
def dnsmasq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dnsmasq]:
    """A name server with lifetimes of a minute."""
    server = Dnsmasq(tmp_path_factory.mktemp("dnsmasq"), *KNOWN)
    yield server
    server.stop()


class Door:
    """A gateway that is a name server, by UDP, TCP and TLS."""

    def __init__(self, make: ProxyMaker, servers: str, more: str = "") -> None:
        self.port = server_port()
        listeners = "".join(
            f"[listen:{kind}]\nendpoint = {kind}:{self.port}:interface=127.0.0.1\naccept = {accept}\n"
            for kind, accept in (("udp", "dns"), ("tcp", "dns, tls"))
        )
        self.proxy = make(f"[dns]\nservers = {servers}\n{listeners}{more}")

    def dig(self, folder: Path, name: str, *options: str) -> str:
        """What dig prints."""
        where = ("@127.0.0.1", "-p", str(self.port), "+tries=1", "+time=10")
        return run(tool("dig"), *where, name, *options, folder=folder, timeout=30).stdout


def test_names_of_origins_are_asked_of_the_servers_and_kept(
    proxy: ProxyMaker, dnsmasq: Dnsmasq, plain_origin: BodyOrigin
) -> None:
    gateway = proxy(f"[dns]\nservers = 127.0.0.1:{dnsmasq.port}\n")
    for _ in range(3):
        got = gateway.curl(f"http://here.real.test:{plain_origin.port}/bytes/1000")
        assert (got.status, got.body) == (200, body(1000))
    assert gateway.curl(f"http://gone.real.test:{plain_origin.port}/").status == 502
    gateway.stop()
    found = re.search(r"names: (\d+) from the table .* (\d+) looked up", gateway.said())
    assert found is not None
    assert int(found[2]) == 2


def test_a_name_that_leads_inside_is_not_for_clients_from_outside(
    proxy: ProxyMaker, dnsmasq: Dnsmasq, plain_origin: BodyOrigin
) -> None:
    """The client is on this machine; the PROXY protocol makes it somebody from outside."""
    gateway = proxy(
        f"[dns]\nservers = 127.0.0.1:{dnsmasq.port}\n"
        "[listen:balanced]\nendpoint = tcp:0:interface=127.0.0.2\nproxy_protocol = 127.0.0.0/8\n"
        f"[rule:known]\nmatch = port:{plain_origin.port} client:203.0.113.7\naction = intercept\nrebinding = allow\n"
    )
    url = f"http://here.real.test:{plain_origin.port}/bytes/10"
    assert gateway.curl(url).status == 200
    for client, status in (("203.0.113.6", 403), ("203.0.113.7", 200)):
        host, _, port = gateway.ports[1].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
            head = f"GET {url} HTTP/1.1\r\nHost: here.real.test\r\nConnection: close\r\n\r\n"
            sock.sendall(f"PROXY TCP4 {client} 127.0.0.2 1000 80\r\n{head}".encode())
            assert sock.makefile("rb").readline().startswith(b"HTTP/1.1 %d " % status)
    line = gateway.logged(lambda line: line["type"] == "transaction" and line["client"] == "203.0.113.6")
    assert "DNS rebinding" in line["error_text"]


def test_servers_are_asked_over_tls_and_must_be_who_they_should_be(
    proxy: ProxyMaker, certificates: Certificates, tmp_path: Path, plain_origin: BodyOrigin
) -> None:
    server = Unbound(tmp_path, certificates, "here.real.test. 60 A 127.0.0.1")
    try:
        servers = f"[dns]\nservers = 127.0.0.1:{server.port}\nfamilies = ipv4\n"
        url = f"http://here.real.test:{plain_origin.port}/bytes/10"
        assert proxy(f"{servers}tls = {NAME}\n").curl(url).status == 200
        refused = proxy(f"{servers}tls = another-name.test\n")
        assert refused.curl(url).status == 502
        line = refused.logged(lambda line: line["type"] == "transaction")
        assert "another-name.test" in line["error_text"]
    finally:
        server.stop()


def test_clients_are_answered_over_udp_tcp_and_tls(proxy: ProxyMaker, dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    door = Door(proxy, f"127.0.0.1:{dnsmasq.port}")
    secure = ("+tls", f"+tls-ca={door.proxy.ca}", "+tls-hostname=localhost")
    for way in ((), ("+tcp",), secure):
        said = door.dig(tmp_path, "www.real.test", *way)
        assert "status: NOERROR" in said
        assert OUTSIDE in said
    assert "status: NXDOMAIN" in door.dig(tmp_path, "x.invalid")
    assert "127.0.0.1" in door.dig(tmp_path, NAME, "+short")


def test_signatures_pass_and_are_valid_for_who_checks_them(proxy: ProxyMaker, tmp_path: Path) -> None:
    server = Named(tmp_path)
    try:
        door = Door(proxy, f"127.0.0.1:{server.port}")
        way = ("-a", server.anchors, f"+root={ORIGIN}", "@127.0.0.1", "-p", str(door.port))
        for name in (f"www.{ORIGIN}", f"alias.{ORIGIN}", f"nothing.{ORIGIN}", f"www.{ORIGIN}"):
            done = run(tool("delv"), *way, name, folder=tmp_path)
            assert "fully validated" in done.stdout, done.stdout + done.stderr
        cut = door.dig(tmp_path, ORIGIN, "DNSKEY", "+dnssec", "+bufsize=1232", "+ignore")
        assert "flags: qr tc" in cut.replace(" aa", "")
        assert "RRSIG" not in cut
        whole = door.dig(tmp_path, ORIGIN, "DNSKEY", "+dnssec", "+bufsize=1232")
        assert whole.count("RRSIG") >= 2
        assert "(TCP)" in whole
        assert "RRSIG" not in door.dig(tmp_path, f"www.{ORIGIN}")
    finally:
        server.stop()


def test_rules_block_and_rewrite_names(proxy: ProxyMaker, dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    rules = (
        "[rule:later]\nmatch = sni:.real.test\naction = block\n"
        "[rule:ads]\nmatch = host:.n1.real.test,n2.real.test\naction = block\n"
        "[rule:other]\nmatch = host:n3.real.test\naction = tunnel\ndns_answer = 192.0.2.3, 2001:db8::3\n"
    )
    door = Door(proxy, f"127.0.0.1:{dnsmasq.port}", rules)
    for name in ("n1.real.test", "x.n1.real.test", "N2.real.test"):
        said = door.dig(tmp_path, name)
        assert "status: NXDOMAIN" in said
        assert "EDE: 15 (Blocked): (rule ads)" in said
    assert door.dig(tmp_path, "n3.real.test", "+short").strip() == "192.0.2.3"
    assert door.dig(tmp_path, "n3.real.test", "AAAA", "+short").strip() == "2001:db8::3"
    assert door.dig(tmp_path, "n4.real.test", "+short").strip() == "198.51.100.5"
    line = door.proxy.logged(lambda line: line["type"] == "question" and line["name"] == "n3.real.test")
    assert (line["rule"], line["answer"], line["client"]) == ("other", "192.0.2.3 2001:db8::3", "127.0.0.1")


def test_no_answer_is_lost_and_none_is_wrong(proxy: ProxyMaker, dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    door = Door(proxy, f"127.0.0.1:{dnsmasq.port}")
    queries = tmp_path / "queries"
    queries.write_text("".join(f"n{number}.real.test A\n" for number in range(100)) + "none.invalid A\n")
    for mode in ("udp", "tcp"):
        load = (
            "-s",
            "127.0.0.1",
            "-p",
            str(door.port),
            "-d",
            str(queries),
            "-l",
            "2",
            "-c",
            "8",
            "-q",
            "50",
            "-m",
            mode,
        )
        done = run(tool("dnsperf"), *load, folder=tmp_path, timeout=60)
        assert re.search(r"Queries lost: +0 ", done.stdout), done.stdout
        codes = re.search(r"Response codes: +(.*)", done.stdout)
        assert codes is not None
        assert set(re.findall(r"[A-Z]+", codes[1])) == {"NOERROR", "NXDOMAIN"}
    for number in (0, 50, 99):
        assert door.dig(tmp_path, f"n{number}.real.test", "+short").strip() == f"198.51.100.{number % 250 + 1}"


def test_a_server_that_is_killed_is_passed_over_and_stale_answers_tide_over(
    proxy: ProxyMaker, dnsmasq: Dnsmasq, tmp_path: Path
) -> None:
    first = Dnsmasq(tmp_path, *KNOWN[:1])
    try:
        door = Door(proxy, f"127.0.0.1:{first.port}, 127.0.0.1:{dnsmasq.port}")
        assert OUTSIDE in door.dig(tmp_path, "www.real.test")
        first.process.kill()
        first.process.wait()
        assert "198.51.100.8" in door.dig(tmp_path, "n7.real.test")
    finally:
        first.stop()


def test_a_server_that_hangs_keeps_nobody_waiting_for_what_is_kept(
    proxy: ProxyMaker, tmp_path: Path, plain_origin: BodyOrigin
) -> None:
    server = Dnsmasq(tmp_path, "here.real.test=127.0.0.1")
    try:
        gateway = proxy(f"[dns]\nservers = 127.0.0.1:{server.port}\ntimeout = 2s\n")
        url = f"http://here.real.test:{plain_origin.port}/bytes/10"
        assert gateway.curl(url).status == 200
        stand_still(server.process.pid)
        assert gateway.curl(url).status == 200
        got = gateway.curl(f"http://other.real.test:{plain_origin.port}/")
        assert got.status in (502, 504)
        assert "no answer in time" in got.text
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.stop()


def test_reading_the_settings_again_takes_other_servers(
    proxy: ProxyMaker, dnsmasq: Dnsmasq, plain_origin: BodyOrigin
) -> None:
    gateway: Proxy = proxy("[dns]\nservers = 127.0.0.1:9\ntimeout = 1s\n")
    url = f"http://here.real.test:{plain_origin.port}/bytes/10"
    assert gateway.curl(url).status != 200
    before = gateway.ini.read_text()
    gateway.reload(before.replace("servers = 127.0.0.1:9", f"servers = 127.0.0.1:{dnsmasq.port}"))
    wait_for("the new servers being asked", lambda: gateway.curl(url).status == 200, 10)
    assert "names are asked for anew" in gateway.said()


def ask(folder: Path, ini: Path, name: str) -> tuple[int, str]:
    done = run(ours("sslintercept"), "resolve", "--config", str(ini), name, folder=folder, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_one_may_ask_how_a_name_is_answered(dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    ini = tmp_path / "x.ini"
    (tmp_path / "hosts").write_text("192.0.2.1 mine.test\n")
    ini.write_text(
        f"[dns]\nservers = 127.0.0.1:9\nhosts = hosts\nfamilies = both\n"
        f"[dns-for:real]\ndomains = real.test\nservers = 127.0.0.1:{dnsmasq.port}\n"
    )
    status, said = ask(tmp_path, ini, "www.real.test")
    assert status == 0
    assert f"servers: 127.0.0.1:{dnsmasq.port} (from [dns-for:...])" in said
    assert f"A    {OUTSIDE}; good for 60 s, from 127.0.0.1:{dnsmasq.port}" in said
    assert "AAAA none; good for" in said
    assert f"tried in this order: {OUTSIDE}" in said
    assert "not led to addresses inside" in ask(tmp_path, ini, "here.real.test")[1]
    assert ask(tmp_path, ini, "mine.test") == (0, f"mine.test\n  hosts file {tmp_path}/hosts: 192.0.2.1\n")
    assert ask(tmp_path, ini, "192.0.2.7")[0] == 0
    status, said = ask(tmp_path, ini, "www.elsewhere.test")
    assert status == 1
    assert "no address: 127.0.0.1:9 failed (connection refused)" in said
    assert ask(tmp_path, ini, "a..b")[0] == 1
