"""FTP through the gateway: by every door, in the clear and in TLS, with data connections of both kinds."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import Certificates, body
from tests.process.running import curl
from tests.process.servers import NAME, Vsftpd
from tests.process.tools import PATIENCE, run, server_port, tool, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="vsftpd is started by root only")

MUCH = 3_000_000


@pytest.fixture(scope="module")
def vsftpd(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Vsftpd]:
    """A vsftpd with a file."""
    server = Vsftpd(tmp_path_factory.mktemp("vsftpd"), certificates)
    server.root.chmod(0o755)
    (server.root / "file").write_bytes(body(MUCH))
    server.root.chmod(0o555)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ftps(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Vsftpd]:
    """One that speaks TLS from the first byte on."""
    server = Vsftpd(tmp_path_factory.mktemp("ftps"), certificates, implicit=True)
    server.root.chmod(0o755)
    (server.root / "file").write_bytes(body(MUCH))
    server.root.chmod(0o555)
    yield server
    server.stop()


class Door:
    """A gateway with a door of its own for FTP."""

    def __init__(self, make: ProxyMaker, vsftpd: Vsftpd, more: str = "") -> None:
        self.port = server_port()
        self.proxy = make(
            f"[listen:ftp]\nendpoint = tcp:{self.port}:interface=127.0.0.1\ntarget = {NAME}:{vsftpd.port}\n{more}"
        )


@pytest.fixture(scope="module")
def door(module_proxy: ProxyMaker, vsftpd: Vsftpd) -> Door:
    """One with the usual settings."""
    return Door(module_proxy, vsftpd)


PLAIN, TLS = "plain", "tls"


@pytest.mark.parametrize("way", ["door", "http", "https", "socks4a", "socks5h"])
@pytest.mark.parametrize("mode", [PLAIN, TLS])
@pytest.mark.parametrize("passive", [["--disable-epsv"], []], ids=["pasv", "epsv"])
def test_curl_fetches_a_file(door: Door, vsftpd: Vsftpd, way: str, mode: str, passive: list[str]) -> None:
    proxy = door.proxy
    options = ["--cacert", str(proxy.ca), "--ftp-skip-pasv-ip", *passive, *(["--ssl-reqd"] if mode == TLS else [])]
    if way == "door":
        options += ["--resolve", f"{NAME}:{door.port}:127.0.0.1"]
        url = f"ftp://{NAME}:{door.port}/file"
    else:
        options += ["--proxy", f"{way}://{proxy.ports[0]}", "--proxytunnel", "--proxy-cacert", str(proxy.ca)]
        url = f"ftp://{NAME}:{vsftpd.port}/file"
    got = curl(proxy.folder, *options, url)
    assert got.code == 0, got.said
    assert got.body == body(MUCH)
    last = "tls1.3/ftp-data" if mode == TLS else "ftp-data"
    line = proxy.logged(lambda line: line["stack"].endswith(last) and line["bytes_out"] >= MUCH)
    assert line["login"] == "anonymous"


@pytest.mark.parametrize("way", ["door", "http", "socks5h"])
def test_curl_fetches_a_file_where_tls_comes_first(module_proxy: ProxyMaker, ftps: Vsftpd, way: str) -> None:
    own = Door(module_proxy, ftps)
    proxy = own.proxy
    options = ["--cacert", str(proxy.ca), "--ftp-skip-pasv-ip"]
    if way == "door":
        options += ["--resolve", f"{NAME}:{own.port}:127.0.0.1"]
        url = f"ftps://{NAME}:{own.port}/file"
    else:
        options += ["--proxy", f"{way}://{proxy.ports[0]}", "--proxytunnel"]
        url = f"ftps://{NAME}:{ftps.port}/file"
    got = curl(proxy.folder, *options, url)
    assert got.code == 0, got.said
    assert got.body == body(MUCH)
    line = proxy.logged(lambda line: "tls1.3/ftp-data" in line["stack"] and line["bytes_out"] >= MUCH)
    assert line["login"] == "anonymous"


@pytest.mark.parametrize("mode", [PLAIN, TLS])
@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
def test_a_file_goes_up_and_comes_down_by_both_kinds_of_data_connections(
    door: Door, vsftpd: Vsftpd, mode: str, passive: bool
) -> None:
    name = f"up/{mode}-{passive}"
    client = ftplib.FTP_TLS(context=door.proxy.context(), timeout=PATIENCE) if mode == TLS else ftplib.FTP(timeout=30)
    with client:
        client.connect("127.0.0.1", door.port)
        client.login("anonymous", "me@test")
        if isinstance(client, ftplib.FTP_TLS):
            client.prot_p()
        client.set_pasv(passive)
        client.storbinary(f"STOR {name}", io.BytesIO(body(MUCH)))
        assert (vsftpd.root / name).read_bytes() == body(MUCH)
        assert "file" in client.nlst()
        got = bytearray()
        client.retrbinary("RETR file", got.extend)
        assert got == body(MUCH)


@pytest.mark.parametrize("way", ["http", "socks5h"])
def test_several_workers_know_the_data_connections_of_their_clients(
    proxy: ProxyMaker, vsftpd: Vsftpd, way: str
) -> None:
    made = proxy(f"[sslintercept]\nworkers = 4\n[listen:proxy]\nendpoint = tcp:{server_port()}:interface=127.0.0.1\n")
    clients = [f"127.0.0.{number}" for number in range(1, 13)]
    for client in clients:
        got = curl(
            made.folder,
            *("--cacert", str(made.ca), "--ftp-skip-pasv-ip", "--ssl-reqd", "--interface", client),
            *("--proxy", f"{way}://{made.ports[0]}", "--proxytunnel", f"ftp://{NAME}:{vsftpd.port}/file"),
        )
        assert got.code == 0, got.said
        assert got.body == body(MUCH)

    def lines() -> list[tuple[str, str]]:
        found = [line for line in made.log() if line["stack"].endswith("tls1.3/ftp-data")]
        return [(line["client"], line["login"]) for line in found]

    wait_for("the lines", lambda: sorted(lines()) == sorted((client, "anonymous") for client in clients))
    assert len({line["id"].partition("-")[0] for line in made.log()}) > 1


def test_a_reload_does_not_part_a_data_connection_from_its_conversation(proxy: ProxyMaker, vsftpd: Vsftpd) -> None:
    made = proxy("")
    with made.tunnel(f"{NAME}:{vsftpd.port}") as control:
        said = control.makefile("rb")

        def does(command: bytes) -> bytes:
            control.sendall(command + b"\r\n")
            return said.readline()

        assert said.readline().startswith(b"220")
        does(b"USER anonymous")
        assert does(b"PASS me@test").startswith(b"230")
        made.reload(made.ini.read_text())
        wait_for("the reload", lambda: "is in force" in made.said())
        numbers = [int(number) for number in re.findall(rb"\d+", does(b"PASV").partition(b"(")[2])]
        with made.tunnel(f"{NAME}:{numbers[4] * 256 + numbers[5]}") as data:
            assert does(b"RETR file").startswith(b"150")
            with data.makefile("rb") as file:
                assert file.read() == body(MUCH)
        assert said.readline().startswith(b"226")
        said.close()
    assert made.logged(lambda line: line["stack"].endswith("ftp-data"))["login"] == "anonymous"


def test_a_transfer_may_be_broken_off_with_urgent_data(door: Door) -> None:
    with ftplib.FTP(timeout=PATIENCE) as client:
        client.connect("127.0.0.1", door.port)
        client.login("anonymous", "me@test")
        data = client.transfercmd("RETR file")
        data.recv(1000)
        data.close()
        with contextlib.suppress(ftplib.error_temp):
            client.getresp()
        assert client.abort()[:2] == "22"
        assert client.sendcmd("NOOP").startswith("200")


def test_lftp_mirrors_with_tls_both_ways(door: Door, vsftpd: Vsftpd, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (vsftpd.root / "up" / "tree").mkdir()
    (vsftpd.root / "up" / "tree").chmod(0o777)
    for number in range(5):
        (tmp_path / "tree" / f"n{number}").write_bytes(body(100_000 * number))
    script = (
        f"set ssl:ca-file {door.proxy.ca}; set ftp:ssl-force true; set ftp:ssl-protect-data true; set net:timeout 20; "
        f"set net:max-retries 1; open -u anonymous,me@test ftp://127.0.0.1:{door.port}; "
        "mirror -R --no-perms --parallel=2 tree up/tree && mirror --parallel=2 up/tree back && get file && bye"
    )
    done = run(tool("lftp"), "--norc", "-c", script, folder=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == body(MUCH)
    for number in range(5):
        for folder in (vsftpd.root / "up" / "tree", tmp_path / "back"):
            assert (folder / f"n{number}").read_bytes() == body(100_000 * number)


@pytest.mark.parametrize("way", ["door", "connect"])
def test_openssl_begins_tls_with_our_leaf(door: Door, vsftpd: Vsftpd, tmp_path: Path, way: str) -> None:
    where = ["-connect", f"127.0.0.1:{door.port}"]
    if way == "connect":
        where = ["-connect", f"{NAME}:{vsftpd.port}", "-proxy", door.proxy.ports[0]]
    done = run(
        tool("openssl"),
        *("s_client", "-starttls", "ftp", "-CAfile", door.proxy.ca, "-servername", NAME, "-verify_hostname", NAME),
        *("-verify_return_error", "-crlf", "-ign_eof", *where),
        folder=tmp_path,
        given=b"quit\n",
    )
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
    assert "221 Goodbye" in done.stdout


def test_where_tls_is_required_nobody_logs_in_in_the_clear(proxy: ProxyMaker, vsftpd: Vsftpd) -> None:
    rule = "[rule:tls]\nmatch = protocol:ftp\naction = intercept\nstarttls = require\n"
    strict = Door(proxy, vsftpd, rule)
    with ftplib.FTP(timeout=PATIENCE) as client:
        client.connect("127.0.0.1", strict.port)
        with pytest.raises(ftplib.error_perm, match="Policy requires TLS"):
            client.login("anonymous", "secret@test")
    with ftplib.FTP_TLS(context=strict.proxy.context(), timeout=PATIENCE) as secure:
        secure.connect("127.0.0.1", strict.port)
        secure.login("anonymous", "secret@test")
    assert "secret" not in strict.proxy.said() + str(strict.proxy.log())


def test_a_server_is_not_made_to_connect_to_somebody_else(door: Door) -> None:
    with ftplib.FTP(timeout=PATIENCE) as client:
        client.connect("127.0.0.1", door.port)
        client.login("anonymous", "me@test")
        for command in ("PORT 127,0,0,2,200,1", "PORT 127,0,0,1,0,22", "EPRT |1|192.0.2.1|5000|", "EPRT nonsense"):
            with pytest.raises(ftplib.error_perm, match="500 Illegal PORT"):
                client.sendcmd(command)


def test_a_port_that_nobody_comes_to_is_closed_with_the_conversation(proxy: ProxyMaker, vsftpd: Vsftpd) -> None:
    own = Door(proxy, vsftpd)
    base = own.proxy.descriptors()
    with ftplib.FTP(timeout=PATIENCE) as client:
        client.connect("127.0.0.1", own.port)
        client.login("anonymous", "me@test")
        for _ in range(5):
            client.sendcmd("PASV")
    wait_for("its ports closed", lambda: own.proxy.descriptors() <= base + 2, 15)
