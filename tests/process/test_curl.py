"""curl through the proxy, in the ways people use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Certificates, Nginx, body, digest
from tests.process.running import Proxy

MUCH = 10_000_000
HELLO = b"hello from nginx\n" * 4


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """A file of 10 MB."""
    file = tmp_path / "upload"
    file.write_bytes(body(MUCH))
    return file


def test_https_is_verified_with_our_ca_and_shown_decrypted_in_the_log(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url())
    assert (got.status, got.body) == (200, HELLO)
    assert got.facts[0]["http_connect"] == 200
    assert got.facts[0]["ssl_verify_result"] == 0
    line = gateway.logged(lambda line: line["type"] == "transaction" and line["url"] == nginx.url())
    assert (line["method"], line["status"], line["action"], line["rule"]) == ("GET", 200, "intercept", "default")
    assert line["stack"] == "tcp/http1/http-connect/tls1.3/http1"
    assert line["upstream_tls"]["verified"] == "ok"


def test_our_leaf_is_not_accepted_without_our_ca(gateway: Proxy, nginx: Nginx, certificates: Certificates) -> None:
    got = gateway.curl(nginx.url(), "--cacert", certificates.trust)
    assert (got.code, got.body) == (60, b"")


def test_plain_http_is_forwarded(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.plain_url())
    assert (got.status, got.body) == (200, HELLO)
    assert "via: 1.1 sslintercept" in got.head.lower()


@pytest.mark.parametrize("secure", [True, False], ids=["https", "http"])
def test_head_has_the_length_and_no_body(gateway: Proxy, nginx: Nginx, secure: bool) -> None:
    got = gateway.curl(nginx.url("/big") if secure else nginx.plain_url("/big"), "-I")
    assert got.code == 0
    assert "content-length: 10000000" in got.head.lower()
    assert got.facts[0]["size_download"] == 0


def test_a_range_is_answered_with_that_part(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url("/big"), "-r", "65530-131080")
    assert (got.status, got.body) == (206, body(MUCH)[65530:131081])


def test_a_body_that_waits_for_100_continue_is_let_go(gateway: Proxy, origin: BodyOrigin, upload: Path) -> None:
    got = gateway.curl(
        origin.url("/digest"), "-H", "Expect: 100-continue", "--expect100-timeout", "20", "--data-binary", f"@{upload}"
    )
    assert "HTTP/1.1 100" in got.head
    assert got.facts[0]["time_total"] < 15
    assert json.loads(got.body)["sha256"] == digest(MUCH)


def test_a_chunked_upload_arrives_chunked_and_whole(gateway: Proxy, origin: BodyOrigin, upload: Path) -> None:
    got = gateway.curl(origin.url("/digest"), "-T", upload, "-H", "Transfer-Encoding: chunked")
    told = json.loads(got.body)
    assert (told["length"], told["sha256"]) == (MUCH, digest(MUCH))
    assert told["fields"]["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in told["fields"]


@pytest.mark.parametrize("by", ["http", "https"])
def test_ten_megabytes_go_up_and_down_unchanged(
    gateway: Proxy, origin: BodyOrigin, nginx: Nginx, upload: Path, by: str
) -> None:
    way = f"{by}://{gateway.ports[0]}"
    echoed = gateway.curl(
        origin.url("/echo"), "--proxy-cacert", gateway.ca, "--data-binary", f"@{upload}", "-H", "Expect:", by=way
    )
    assert (echoed.status, echoed.body == body(MUCH)) == (200, True)
    down = gateway.curl(nginx.url("/big"), "--proxy-cacert", gateway.ca, by=way)
    assert (down.status, down.body == body(MUCH)) == (200, True)


def test_a_client_of_http_1_0_is_answered_and_closed(gateway: Proxy, nginx: Nginx) -> None:
    for url in (nginx.url(), nginx.plain_url()):
        got = gateway.curl(url, "--http1.0")
        assert (got.status, got.body) == (200, HELLO)


def test_a_client_that_offers_http_2_is_served_with_1_1(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url(), "--http2")
    assert (got.status, got.facts[0]["http_version"]) == (200, "1.1")


@pytest.mark.parametrize(
    ("option", "version"), [(("--tlsv1.3",), "TLSv1.3"), (("--tls-max", "1.2"), "TLSv1.2")], ids=["1.3", "1.2"]
)
def test_both_versions_of_tls_are_spoken(gateway: Proxy, nginx: Nginx, option: tuple[str, ...], version: str) -> None:
    path = f"/hello.txt?{version}"
    assert gateway.curl(nginx.url(path), *option).status == 200
    line = gateway.logged(
        lambda line: (
            line["type"] == "transaction"
            and line["client_tls"] is not None
            and line["client_tls"]["version"] == version
        )
    )
    assert line["status"] == 200


def test_tls_1_1_is_refused(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url(), "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT:@SECLEVEL=0")
    assert got.code == 35
    assert "alert protocol version" in got.said


def test_a_compressed_body_passes_as_it_is(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url(), "--compressed")
    assert got.body == HELLO
    assert "content-encoding: gzip" in got.head.lower()
    assert got.facts[0]["size_download"] < len(HELLO)


def test_a_secure_proxy_intercepts_tls_in_tls(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url(), "--proxy-cacert", gateway.ca, by=f"https://{gateway.ports[0]}")
    assert (got.status, got.body) == (200, HELLO)
    assert got.facts[0]["proxy_ssl_verify_result"] == got.facts[0]["ssl_verify_result"] == 0
    line = gateway.logged(lambda line: line["stack"] == "tcp/tls1.3/http1/http-connect/tls1.3/http1")
    assert line["status"] == 200


def test_a_secure_proxy_forwards_plain_http(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.plain_url(), "--proxy-cacert", gateway.ca, by=f"https://{gateway.ports[0]}")
    assert (got.status, got.body) == (200, HELLO)


def test_a_proxy_on_ipv6_reaches_an_origin_on_ipv6(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("[listen:proxy]\nendpoint = tcp6:0:interface=\\:\\:1")
    assert made.ports[0].startswith("[::1]:")
    for name in ("[::1]", "good.test"):
        for url in (nginx.url(name=name), nginx.plain_url(name=name)):
            got = made.curl(url)
            assert (url, got.status, got.body) == (url, 200, HELLO)


def test_an_origin_without_a_name_gets_a_leaf_for_its_address(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url(name="127.0.0.1"))
    assert (got.status, got.facts[0]["ssl_verify_result"]) == (200, 0)


def test_a_thousand_requests_go_over_one_connection(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url("/hello.txt?[1-1000]"))
    assert got.code == 0
    assert [fact["http_code"] for fact in got.facts] == [200] * 1000
    assert sum(fact["num_connects"] for fact in got.facts) == 1
    line = gateway.logged(lambda line: line["type"] == "connection" and line["transactions"] == 1000)
    assert line["error"] is None


def test_fifty_clients_at_once_are_served(gateway: Proxy, origin: BodyOrigin) -> None:
    got = gateway.curl(origin.url("/bytes/[100000-100199]"), "-Z", "--parallel-max", "50", "--parallel-immediate")
    assert got.code == 0, got.said
    assert sorted(fact["size_download"] for fact in got.facts) == list(range(100000, 100200))
    assert {fact["http_code"] for fact in got.facts} == {200}


def test_what_is_for_one_hop_does_not_reach_the_origin(gateway: Proxy, plain_origin: BodyOrigin) -> None:
    got = gateway.curl(
        plain_origin.url("/headers"),
        *("--proxy-user", "me:secret", "-H", "Connection: X-Mine", "-H", "X-Mine: 1", "-H", "Keep-Alive: 5"),
    )
    names = {name.lower() for name, _value in json.loads(got.body)}
    assert "host" in names
    assert names.isdisjoint({"proxy-authorization", "proxy-connection", "x-mine", "keep-alive"})


def test_socks_is_refused_or_served_but_never_hangs(gateway: Proxy, nginx: Nginx) -> None:
    got = gateway.curl(nginx.url(), "--max-time", "20", by=f"socks5h://{gateway.ports[0]}")
    assert got.code in (0, 97)


def test_an_origin_that_closes_to_end_its_body_is_relayed_whole(gateway: Proxy, origin: BodyOrigin) -> None:
    for length in (0, 1, 16_384, 1_000_003):
        got = gateway.curl(origin.url(f"/until-close/{length}"))
        assert (got.code, got.status, got.body == body(length)) == (0, 200, True)


def test_a_body_that_ends_without_a_goodbye_is_seen_to_be_cut(gateway: Proxy, origin: BodyOrigin) -> None:
    got = gateway.curl(origin.url("/until-cut/100000"))
    assert (got.code, got.status, got.body == body(100_000)) == (18, 200, True)
