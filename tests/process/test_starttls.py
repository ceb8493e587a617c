"""TLS in the middle of a conversation, with real servers and clients: LDAP and PostgreSQL."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import Certificates
from tests.process.running import Proxy
from tests.process.servers import NAME, Postgres, Slapd
from tests.process.tools import run, tool


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Slapd]:
    """A directory."""
    server = Slapd(tmp_path_factory.mktemp("slapd"), certificates)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Postgres]:
    """A database."""
    server = Postgres(tmp_path_factory.mktemp("postgres"), certificates)
    yield server
    server.stop()


def door(proxy: ProxyMaker, port: int, more: str = "") -> Proxy:
    """A gateway whose clients are sent to one place."""
    return proxy(f"[listen:proxy]\nendpoint = tcp:0:interface=127.0.0.1\ntarget = {NAME}:{port}\n{more}")


def search(gateway: Proxy, tmp_path: Path, *options: str, scheme: str = "ldap") -> subprocess.CompletedProcess[str]:
    """Look for the entry, as somebody with a password."""
    return run(
        tool("ldapsearch"),
        *("-x", "-LLL", "-D", "cn=root,dc=test", "-w", "secret", "-b", "dc=test", "-o", "nettimeout=20"),
        *("-H", f"{scheme}://127.0.0.1:{gateway.address[1]}"),
        *options,
        folder=tmp_path,
        environment={"LDAPTLS_CACERT": str(gateway.ca), "LDAPTLS_REQCERT": "demand", "LDAPCONF": "/dev/null"},
    )


RULE = "[rule:r]\nmatch = protocol:ldap,postgresql\naction = intercept\nstarttls = require\n"


@pytest.mark.parametrize("more", ["", RULE], ids=["allowed", "required"])
def test_ldap_begins_tls_with_our_leaf(proxy: ProxyMaker, slapd: Slapd, tmp_path: Path, more: str) -> None:
    gateway = door(proxy, slapd.port, more)
    done = search(gateway, tmp_path, "-ZZ")
    assert "dn: dc=test" in done.stdout, done.stderr
    line = gateway.logged(lambda line: line["type"] == "connection")
    assert line["stack"] == "tcp/ldap/tls1.3/ldap"
    assert line["upstream_tls"]["verified"] == "ok"
    assert "secret" not in gateway.said() + str(gateway.log())


def test_ldap_in_the_clear_passes_unless_a_rule_requires_tls(proxy: ProxyMaker, slapd: Slapd, tmp_path: Path) -> None:
    assert "dn: dc=test" in search(door(proxy, slapd.port), tmp_path).stdout
    gateway = door(proxy, slapd.port, RULE)
    refused = search(gateway, tmp_path)
    assert refused.returncode == 13, refused.stderr  # confidentialityRequired
    assert "dn:" not in refused.stdout


def test_ldaps_is_intercepted(proxy: ProxyMaker, slapd: Slapd, tmp_path: Path) -> None:
    gateway = door(proxy, slapd.secure)
    for _ in range(2):
        assert "dn: dc=test" in search(gateway, tmp_path, scheme="ldaps").stdout
    line = gateway.logged(lambda line: line["type"] == "connection")
    assert line["stack"] == "tcp/tls1.3/ldap"


def query(gateway: Proxy, tmp_path: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """Ask the database whether it speaks TLS with whom it serves."""
    where = f"host={NAME} hostaddr=127.0.0.1 port={gateway.address[1]} user=me dbname=postgres connect_timeout=20"
    return run(
        tool("psql"),
        *("-X", "-A", "-t", "-c", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"),
        f"{where} sslmode={mode} sslrootcert={gateway.ca} gssencmode=disable",
        folder=tmp_path,
    )


@pytest.mark.parametrize("more", ["", RULE], ids=["allowed", "required"])
def test_postgresql_begins_tls_with_our_leaf_and_is_fully_verified(
    proxy: ProxyMaker, postgres: Postgres, tmp_path: Path, more: str
) -> None:
    gateway = door(proxy, postgres.port, more)
    done = query(gateway, tmp_path, "verify-full")
    assert done.stdout == "t\n", done.stderr
    line = gateway.logged(lambda line: line["type"] == "connection")
    assert line["stack"] == "tcp/postgresql/tls1.3/postgresql"


def test_postgresql_in_the_clear_is_refused_where_a_rule_requires_tls(
    proxy: ProxyMaker, postgres: Postgres, tmp_path: Path
) -> None:
    assert query(door(proxy, postgres.port), tmp_path, "disable").stdout == "f\n"
    refused = query(door(proxy, postgres.port, RULE), tmp_path, "disable")
    assert refused.returncode != 0
    assert "encryption is required here" in refused.stderr


@pytest.mark.parametrize("protocol", ["ldap", "postgres"])
def test_openssl_begins_tls_inside_of_connect(
    proxy: ProxyMaker, slapd: Slapd, postgres: Postgres, tmp_path: Path, protocol: str
) -> None:
    gateway = proxy("")
    port = slapd.port if protocol == "ldap" else postgres.port
    done = run(
        tool("openssl"),
        *("s_client", "-starttls", protocol, "-connect", f"{NAME}:{port}", "-proxy", gateway.ports[0]),
        *("-CAfile", gateway.ca, "-servername", NAME, "-verify_hostname", NAME, "-verify_return_error"),
        folder=tmp_path,
    )
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
    line = gateway.logged(lambda line: line["type"] == "connection")
    name = {"postgres": "postgresql"}.get(protocol, protocol)
    assert line["stack"].startswith(f"tcp/http1/http-connect/{name}/tls1.3")
