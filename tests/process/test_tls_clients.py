"""OpenSSL and GnuTLS as clients: what we present, how sessions are resumed, what is refused."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.origins import Nginx
from tests.process.running import Proxy
from tests.process.tools import ENVIRONMENT, free_port, is_listening, run, tool, wait_for


def request(nginx: Nginx) -> bytes:
    """A request for a page of four lines."""
    return f"GET /hello.txt HTTP/1.1\r\nHost: good.test:{nginx.port}\r\nConnection: close\r\n\r\n".encode()


def s_client(gateway: Proxy, nginx: Nginx, *options: str | Path, host: str = "good.test") -> tuple[int, str]:
    """What openssl s_client says about a session through the proxy: it verifies strictly or fails."""
    done = run(
        tool("openssl"),
        *("s_client", "-proxy", gateway.ports[0], "-connect", f"{host}:{nginx.port}", "-CAfile", gateway.ca),
        *("-verify_return_error", "-x509_strict", "-ign_eof", *options),
        folder=gateway.folder,
        given=request(nginx),
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_the_presented_chain_satisfies_strict_verification(gateway: Proxy, nginx: Nginx, version: str) -> None:
    code, said = s_client(gateway, nginx, f"-tls{version}", "-verify_hostname", "good.test")
    assert code == 0, said
    assert "Verify return code: 0 (ok)" in said
    assert "Verified peername: good.test" in said
    assert f"TLSv{version.replace('_', '.')}" in said
    assert said.count("hello from nginx") == 4


def test_the_leaf_is_of_our_ca_and_serves_that_name_alone(gateway: Proxy, nginx: Nginx) -> None:
    _code, said = s_client(gateway, nginx, "-showcerts")
    assert "issuer=CN = sslintercept CA" in said
    first = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", said, re.DOTALL)
    assert first is not None
    shown = run(tool("openssl"), "x509", "-noout", "-text", folder=gateway.folder, given=first[0].encode()).stdout
    assert "CA:FALSE" in shown
    assert "TLS Web Server Authentication" in shown
    names = re.search(r"Subject Alternative Name: *\n\s*(.*)", shown)
    assert names is not None
    assert "DNS:good.test" in names[1]


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_a_session_is_resumed_by_its_ticket(gateway: Proxy, nginx: Nginx, version: str) -> None:
    session = gateway.folder / f"session{version}"
    first = s_client(gateway, nginx, f"-tls{version}", "-sess_out", session)[1]
    again, second = s_client(gateway, nginx, f"-tls{version}", "-sess_in", session)
    assert "New, TLSv" in first
    assert again == 0
    assert "Reused, TLSv" in second
    assert second.count("hello from nginx") == 4


def test_a_server_name_unlike_the_host_of_connect_is_what_the_leaf_is_for(gateway: Proxy, nginx: Nginx) -> None:
    code, said = s_client(
        gateway, nginx, "-servername", "good.test", "-verify_hostname", "good.test", host="another-name.test"
    )
    assert code == 0, said
    assert "Verified peername: good.test" in said


def test_a_client_without_a_server_name_gets_a_leaf_for_the_host_of_connect(gateway: Proxy, nginx: Nginx) -> None:
    code, said = s_client(gateway, nginx, "-noservername", "-verify_hostname", "good.test")
    assert code == 0, said


def test_renegotiation_is_refused(gateway: Proxy, nginx: Nginx) -> None:
    done = run(
        tool("openssl"),
        *("s_client", "-proxy", gateway.ports[0], "-connect", f"good.test:{nginx.port}", "-tls1_2"),
        folder=gateway.folder,
        given=b"R\n",
    )
    said = done.stdout + done.stderr
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert gateway.curl(nginx.url()).status == 200


def test_what_tls_1_2_may_not_use_is_not_spoken(gateway: Proxy, nginx: Nginx) -> None:
    for cipher in ("NULL", "RC4", "3DES", "aNULL", "EXP", "kRSA"):
        options = ("-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
        code, said = s_client(gateway, nginx, *options)
        assert code != 0, (cipher, said)
    code, _said = s_client(gateway, nginx, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert code != 0


@contextmanager
def wrapped(gateway: Proxy, authority: str) -> Iterator[int]:
    """A port from which socat makes every connection a CONNECT to the proxy, for clients that know no proxies."""
    port, (host, proxy_port) = free_port(), gateway.address
    process = subprocess.Popen(
        [
            tool("socat"),
            f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork",
            f"PROXY:{host}:{authority},proxyport={proxy_port}",
        ],
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    try:
        wait_for("socat listening", lambda: is_listening(port))
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def gnutls(gateway: Proxy, nginx: Nginx, *options: str) -> str:
    """What gnutls-cli says; it has its standard input until the proxy closes, since its end would end the request."""
    with (
        wrapped(gateway, f"good.test:{nginx.port}") as port,
        subprocess.Popen(
            [
                tool("gnutls-cli"),
                *("--x509cafile", str(gateway.ca), "--sni-hostname", "good.test", "--verify-hostname", "good.test"),
                *(*options, "--port", str(port), "127.0.0.1"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request(nginx))
        process.stdin.flush()
        said = process.stdout.read().decode(errors="replace")
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_gnutls_accepts_our_leaf(gateway: Proxy, nginx: Nginx, version: str) -> None:
    said = gnutls(gateway, nginx, "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}")
    assert "The certificate is trusted" in said
    assert f"(TLS{version}" in said
    assert said.count("hello from nginx") == 4


def test_gnutls_resumes_a_session(gateway: Proxy, nginx: Nginx) -> None:
    assert "*** This is a resumed session" in gnutls(gateway, nginx, "--resume", "--waitresumption")
