"""Rules and verification as a client meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import Certificates, Nginx
from tests.process.running import Proxy
from tests.process.tools import ours, run, tool, wait_for

FAULTS = {
    "expired.test": ("expired", "expired on 2021-01-01"),
    "wrong.test": ("wrong_name", "the certificate is for another.test, not wrong.test"),
    "selfsigned.test": ("self_signed", "selfsigned.test signed itself, and is not trusted"),
    "unknown.test": ("unknown_issuer", "the issuer CA nobody knows is not trusted, nor was it shown"),
    "incomplete.test": ("missing_intermediate", "did not show the certificate of Intermediate CA of the origins"),
}
"""Each bad origin of nginx, the one word of its fault, and how a page says it"""


def test_a_tunnelled_host_shows_its_own_certificate(
    proxy: ProxyMaker, nginx: Nginx, certificates: Certificates
) -> None:
    made = proxy("[rule:open]\nmatch = host:expired.test,good.test\naction = tunnel\n")
    for name in ("good.test", "expired.test"):
        done = run(
            tool("openssl"),
            *("s_client", "-proxy", made.ports[0], "-connect", f"{name}:{nginx.port}", "-servername", name),
            folder=made.folder,
        )
        assert certificates.chains[name][0].pem.decode() in done.stdout
    assert made.curl(nginx.url(), "--cacert", certificates.trust).status == 200
    assert made.curl(nginx.url()).code == 60
    line = made.logged(lambda line: line["rule"] == "open")
    assert (line["type"], line["action"], line["stack"]) == ("connection", "tunnel", "tcp/http1/http-connect/tunnel")


def test_a_blocked_host_is_answered_with_a_page_that_names_the_rule(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("[rule:not-that-one]\nmatch = host:good.test\naction = block\n")
    plain = made.curl(nginx.plain_url())
    assert plain.status == 403
    assert "not-that-one" in plain.text
    assert "proxy-status: sslintercept; error=http_request_denied" in plain.head.lower()
    secure = made.curl(nginx.url())
    assert secure.facts[0]["http_connect"] == 403
    assert "error=http_request_denied" in secure.head
    problem = json.loads(made.curl(nginx.plain_url(), "-H", "Accept: application/json").body)
    assert problem["status"] == 403
    assert "not-that-one" in problem["detail"]


def test_a_server_name_can_be_blocked_and_the_page_comes_inside_tls(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("[rule:fronted]\nmatch = sni:good.test\naction = block\n")
    got = made.curl(nginx.url())
    assert (got.facts[0]["http_connect"], got.status) == (200, 403)
    assert got.facts[0]["ssl_verify_result"] == 0
    assert "fronted" in got.text
    assert made.curl(nginx.url(name="127.0.0.1")).status == 200


def test_a_server_name_can_be_tunnelled(proxy: ProxyMaker, nginx: Nginx, certificates: Certificates) -> None:
    made = proxy("[rule:named]\nmatch = sni:good.test\naction = tunnel\n")
    assert made.curl(nginx.url(), "--cacert", certificates.trust).status == 200
    line = made.logged(lambda line: line["rule"] == "named")
    assert line["action"] == "tunnel"


def test_the_first_rule_that_matches_decides(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy(
        "[rule:first]\nmatch = host:good.test !port:1\naction = intercept\n[rule:second]\nmatch =\naction = block\n"
    )
    assert made.curl(nginx.url()).status == 200
    assert made.curl(nginx.url(name="127.0.0.1")).facts[0]["http_connect"] == 403


def test_a_port_that_connect_may_not_name_is_refused(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("[http]\nconnect_ports = 443\n")
    got = made.curl(nginx.url())
    assert got.facts[0]["http_connect"] == 403


@pytest.fixture(scope="module", params=["adaptive", "client-first", "server-first"])
def strict(request: pytest.FixtureRequest, module_proxy: ProxyMaker) -> Proxy:
    """A proxy for each order of handshakes."""
    return module_proxy(f"[upstream-tls]\nverify = require\nhandshake_order = {request.param}\n")


@pytest.mark.parametrize("name", FAULTS)
def test_an_origin_that_is_not_genuine_is_answered_inside_tls_with_its_fault(
    strict: Proxy, nginx: Nginx, name: str
) -> None:
    for _again in range(2):  # the second time the origin may be remembered
        got = strict.curl(nginx.url(name=name))
        assert (got.code, got.facts[0]["http_connect"], got.status) == (0, 200, 502), got.said
        assert got.facts[0]["ssl_verify_result"] == 0
        assert "error=tls_certificate_error" in got.head
        assert "hello from nginx" not in got.text
        assert FAULTS[name][1] in got.text
    line = strict.logged(lambda line: line["type"] == "transaction" and name in line["url"])
    assert (line["status"], line["error"]) == (502, "certificate")
    assert FAULTS[name][1] in line["error_text"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_reported_origin_has_a_leaf_that_clients_reject(lenient: Proxy, nginx: Nginx, name: str) -> None:
    got = lenient.curl(nginx.url(name=name))
    assert (got.code, got.body) == (60, b"")
    assert lenient.curl(nginx.url(name=name), "--insecure").body == b"hello from nginx\n" * 4
    line = lenient.logged(lambda line: line["type"] == "transaction" and name in line["url"])
    assert line["upstream_tls"]["verified"] == FAULTS[name][0]


def test_a_genuine_origin_beside_reported_ones_has_a_leaf_that_clients_accept(lenient: Proxy, nginx: Nginx) -> None:
    assert lenient.curl(nginx.url()).status == 200


@pytest.fixture(scope="module")
def lenient(module_proxy: ProxyMaker) -> Proxy:
    """A proxy that only reports."""
    return module_proxy("[upstream-tls]\nverify = report\n")


def connected(made: Proxy, url: str) -> int:
    """What a CONNECT for a URL was answered with."""
    status: int = made.curl(url).facts[-1]["http_connect"]
    return status


def test_a_listed_site_is_blocked_and_a_list_that_has_changed_is_read_on_reload(
    proxy: ProxyMaker, nginx: Nginx, tmp_path: Path
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("expired.test\n", encoding="ascii")
    made = proxy(f"[sites:malware]\npath = {path}\n[rule:bad]\nmatch = category:malware\naction = block\n")
    good, bad = nginx.url(), nginx.url(name="expired.test")
    assert (connected(made, good), connected(made, bad)) == (200, 403)
    line = made.logged(lambda line: line["rule"] == "bad")
    assert "list malware (malware): domain expired.test, " in line["reason"]
    path.write_text("good.test\n", encoding="ascii")
    made.reload(made.ini.read_text())
    wait_for("the list", lambda: connected(made, good) == 403)


@pytest.mark.parametrize(
    ("content", "said"),
    [("<html>\n<body>\nnot found\n", "list malware"), (None, "[sites:malware] path: cannot read")],
)
def test_a_list_that_cannot_be_used_ends_the_start_with_one_line(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content, encoding="ascii")
    ini = tmp_path / "x.ini"
    ini.write_text(f"[sslintercept]\nstate_dir = state\n[sites:malware]\npath = {path}\n", encoding="ascii")
    done = run(ours("twistd"), "-n", "--pidfile=", "sslintercept", "--config", ini, folder=tmp_path)
    assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)
