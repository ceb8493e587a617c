"""What the access log says of connections and requests: whose fault it was, and what became of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sslintercept.facts import Address
from sslintercept.http.lines import AccessLines
from sslintercept.net.limits import ITSELF
from sslintercept.testing.gateway import OK, MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.sequences.support import CLIENT_FIRST, connected, get, intercepted, responses

Line = dict[str, Any]  # Any: parsed JSON

UNKNOWN = b"\xff\xfe\xfd\xfc"
"""an opening that no signature knows"""
MAIL = "[listen:mail]\nendpoint = tcp:25\ntarget = mail.test:25\n"
GET = b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n"


def ended(gateway: MemoryGateway, client: Peer) -> Line:
    """The line of a connection whose client has left."""
    client.close()
    gateway.pump()
    line = gateway.log[-1]
    assert line["type"] == "connection"
    return line


def answer(gateway: MemoryGateway, client: Peer, raw: bytes) -> int:
    """Say something, and get the status of the one answer."""
    client.send(raw)
    gateway.pump()
    (found,) = responses(client.take())
    return found.status


def connect(where: str) -> bytes:
    return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()


# verdicts


class Upgrading:
    """A mail server that turns to TLS."""

    def __init__(self, gateway: MemoryGateway) -> None:
        self.own = gateway.leaf("mail.test")

    def __call__(self, peer: Peer) -> None:
        said = peer.take()
        if said == b"STARTTLS\r\n":
            peer.send(b"220 go ahead\r\n")
            peer.serve_tls(self.own)
        elif said.startswith(b"EHLO"):
            peer.send(b"250-mail.test\r\n250 STARTTLS\r\n")


@pytest.mark.parametrize("rule", ["", "[rule:odd]\nmatch = mismatch:yes\naction = block\n"])
def test_tls_that_both_sides_have_agreed_on_is_no_mismatch_for_the_log_nor_for_a_rule(loop: Loop, rule: str) -> None:
    gateway = MemoryGateway(loop, MAIL + rule)
    gateway.origin("mail.test:25", Upgrading(gateway)).greeting = b"220 mail.test ESMTP\r\n"
    client = gateway.client()
    gateway.pump()
    for said, heard in ((b"EHLO me\r\n", b"250 STARTTLS\r\n"), (b"STARTTLS\r\n", b"220 go ahead\r\n")):
        client.take()
        client.send(said)
        gateway.pump()
        assert client.got.endswith(heard)
    client.take()
    client.start_tls("mail.test")
    gateway.pump()
    client.send(b"EHLO me\r\n")
    gateway.pump()
    assert client.take() == b"250-mail.test\r\n250 STARTTLS\r\n"
    line = ended(gateway, client)
    assert (line["mismatch"], line["action"], line["stack"]) == (False, "intercept", "tcp/smtp/tls1.3/smtp")
    assert line["probe"][1] == "tls: both sides of smtp had agreed on it"


def test_tls_that_nobody_expects_on_a_port_is_a_mismatch(loop: Loop) -> None:
    gateway = MemoryGateway(loop, MAIL)
    gateway.origin("mail.test:25", tls=gateway.leaf("mail.test"))
    client = gateway.client()
    client.start_tls("mail.test")
    gateway.pump()
    assert ended(gateway, client)["mismatch"] is True


# whose fault it was


def test_a_client_that_resets_after_its_goodbye_is_the_clients_affair(loop: Loop) -> None:
    gateway = MemoryGateway(loop, MAIL)
    gateway.origin("mail.test:25", silent).greeting = b"220 mail.test ESMTP\r\n"
    client = gateway.client()
    gateway.pump()
    client.send(b"QUIT\r\n")
    gateway.pump()
    client.reset()
    gateway.pump()
    line = gateway.log[-1]
    assert line["error"] == "client"
    assert line["error_text"] == "client 192.0.2.1:50000: the connection broke; the client reset it"


def test_a_tunnel_that_the_origin_resets_is_the_origins_affair(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    client.send(UNKNOWN)
    gateway.pump()
    origin.last.reset()
    gateway.pump()
    line = ended(gateway, client)
    assert (line["error"], line["result"]) == ("upstream_closed", "TCP_TUNNEL_ABORTED")
    assert "the origin reset the connection" in line["error_text"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_leaves_in_the_middle_of_a_response_is_the_clients_affair(loop: Loop, whole: bool) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:80", OK[:-1] if not whole else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    client.reset()
    gateway.pump()
    assert [(line["type"], line["error"]) for line in gateway.log] == [
        ("transaction", "client"),
        ("connection", "client"),
    ]


def test_an_origin_that_resets_in_the_middle_of_a_response_is_the_origins_affair(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:80", OK[:-1])
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    origin.last.reset()
    gateway.pump()
    client.close()
    gateway.pump()
    assert [line["error"] for line in gateway.log] == ["upstream_closed", "upstream_closed"]


@pytest.mark.parametrize(
    ("ini", "said", "words"),
    [
        ("[listen:p]\nendpoint = tcp:1\naccept = tls\n", GET, "[listen:p] accept"),
        ("", b"SSH-2.0-x\r\n", "ssh is not served here"),
        ("", b"PROXY TCP4 198.51.100.1 203.0.113.2 1234 443\r\n", "[listen:proxy] proxy_protocol"),
    ],
)
def test_what_a_port_of_ours_does_not_serve_is_a_matter_of_policy(
    loop: Loop, ini: str, said: bytes, words: str
) -> None:
    gateway = MemoryGateway(loop, ini)
    client = gateway.client()
    client.send(said)
    gateway.pump()
    line = ended(gateway, client)
    assert (line["error"], line["result"]) == ("policy", "TCP_DENIED")
    assert words in line["error_text"]


def test_http_2_on_a_port_of_ours_is_the_clients_affair(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    client = gateway.client()
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    gateway.pump()
    assert ended(gateway, client)["error"] == "client"


def test_a_layer_too_many_is_a_matter_of_policy(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[client-tls]\nmax_layers = 1\n")
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    gateway.origin("other.test:443", tls=gateway.leaf("other.test"))
    client = intercepted(gateway)
    client.send(connect("other.test:443"))
    gateway.pump()
    client.take()
    client.start_tls("other.test")
    gateway.pump()
    line = ended(gateway, client)
    assert line["error"] == "policy"
    assert line["error_text"].endswith("TLS layer 2 was refused; see [client-tls] max_layers")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_that_does_not_trust_our_ca_is_told_from_every_other_fault(loop: Loop, version: str) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = connected(gateway)
    client.start_tls("origin.test", trust=[], max_version=version)
    gateway.pump()
    assert client.fault == "certificate verify failed"
    line = ended(gateway, client)
    assert line["error"] == "client_tls"
    assert line["error_text"] == (
        "TLS with client 192.0.2.1:50000: it refused our certificate (alert 48, unknown_ca); "
        "the client does not trust our CA; see README, Trusting the CA"
    )


def test_any_other_fault_of_a_clients_tls_names_the_side_too(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    client.send_below(b"\x17\x03\x03\x00\x20" + bytes(32))
    gateway.pump()
    line = ended(gateway, client)
    assert line["error"] == "client_tls"
    assert line["error_text"].startswith("TLS with client 192.0.2.1:50000: a record was refused")


# requests that are refused


@pytest.mark.parametrize(
    ("raw", "status", "method", "url", "kind", "title"),
    [
        (b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n", 400, "GET", "/", "http_message", "Bad request"),
        (GET.replace(b"\r\nHost", b"\r\nBad Name"), 400, "GET", "http://origin.test/", "http_message", "Bad request"),
        (
            b"GET gopher://jo:pw@origin.test/?secret HTTP/1.1\r\nHost: origin.test\r\n\r\n",
            501,
            "GET",
            "gopher://origin.test/?",
            "unsupported",
            "Not implemented",
        ),
        (GET.replace(b"1.1", b"1.7"), 505, "GET", "http://origin.test/", "unsupported", "This version of HTTP"),
        (GET[:-2] + b"X: " + b"x" * 70_000, 431, "GET", "http://origin.test/", "http_message", "head is too large"),
        (b"\x00\x01 / HTTP/1.1\r\n\r\n", 400, "-", "-", "http_message", "Bad request"),
    ],
)
def test_a_head_that_is_refused_has_a_line_with_the_id_of_its_page(
    loop: Loop, raw: bytes, status: int, method: str, url: str, kind: str, title: str
) -> None:
    gateway = MemoryGateway(loop, "[listen:p]\nendpoint = tcp:1\ntarget = origin.test:80\n" if method == "-" else "")
    gateway.origin("origin.test:80")
    client = gateway.client()
    if method == "-":  # garbage is no HTTP for the probe, but may come behind a request
        assert answer(gateway, client, GET) == 200
    client.send(raw)
    gateway.pump()
    said = client.take()
    (page,) = responses(said)
    assert page.status == status
    assert title.encode() in page.body
    line = gateway.transactions()[-1]
    assert line["id"].encode() in page.body
    assert (line["status"], line["method"], line["url"], line["error"]) == (status, method, url, kind)
    assert (line["result"], line["bytes_in"] > 0, line["bytes_out"]) == ("NONE", True, len(said))
    client.close()
    gateway.pump()
    assert gateway.log[-1]["transactions"] == int(line["id"].rpartition("-")[2])


def test_a_head_that_is_too_slow_has_a_line_that_says_how_slow(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    client = gateway.client()
    client.send(GET[:30])
    loop.pass_time(12)
    (page,) = responses(client.take())
    (line,) = gateway.transactions()
    assert (page.status, line["status"], line["method"]) == (408, 408, "GET")
    assert b"The request is too slow" in page.body
    assert line["duration_ms"] >= 9_000
    client.close()


def test_a_head_that_is_refused_inside_tls_has_a_whole_url(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    client.send(b"GET /x HTTP/1.1\r\nBad Name: x\r\n\r\n")
    gateway.pump()
    assert gateway.transactions()[-1]["url"] == "https://origin.test/x"
    client.close()


def test_a_request_that_has_passed_here_before_is_a_loop(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    client = gateway.client()
    assert answer(gateway, client, GET[:-2] + b"Via: 1.1 sslintercept\r\n\r\n") == 508
    line = gateway.transactions()[-1]
    assert (line["status"], line["error"], line["result"]) == (508, "loop", "NONE")
    assert "[http] via" in line["error_text"]
    client.close()


# CONNECT


def denied(gateway: MemoryGateway) -> None:
    gateway.connector.allowed = lambda host, port: ITSELF


@pytest.mark.parametrize(
    ("ini", "prepare", "status", "kind", "result", "words"),
    [
        ("[http]\nconnect_ports = 8443\n", None, 403, "policy", "TCP_DENIED", "see [http] connect_ports"),
        ("[http]\nprivate_destinations = deny\n", None, 403, "forbidden", "TCP_DENIED", "private_destinations"),
        ("", denied, 403, "forbidden", "TCP_DENIED", "this proxy itself"),
        ("[rule:no]\nmatch = host:origin.test\naction = block\n", None, 403, None, "TCP_DENIED", None),
        ("", None, 502, "dns", "NONE", "origin.test has no address"),
    ],
)
def test_a_refused_connect_says_so_in_both_lines(
    loop: Loop, ini: str, prepare: Any, status: int, kind: str | None, result: str, words: str | None
) -> None:
    gateway = MemoryGateway(loop, ini)
    if status == 403:
        gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    if prepare is not None:
        prepare(gateway)
    client = gateway.client()
    assert answer(gateway, client, connect("origin.test:443")) == status
    last = ended(gateway, client)
    (line,) = gateway.transactions()
    assert (line["method"], line["url"], line["status"]) == ("CONNECT", "origin.test:443", status)
    assert (line["error"], line["result"], line["destination"]) == (kind, result, "origin.test:443")
    assert (last["status"], last["result"], last["destination"]) == (status, result, "origin.test:443")
    if words is not None:
        assert words in line["error_text"]


def squid(gateway: MemoryGateway) -> list[str]:
    """From now on the lines come in Squid's format."""
    lines: list[str] = []
    gateway.gateway.proxy.transactions = gateway.lines = AccessLines(lines.append, "squid", True, gateway.wall_clock)
    return lines


def test_squids_format_shows_a_failed_connect_with_its_code(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[http]\nconnect_ports = 443\n")
    lines = squid(gateway)
    client = gateway.client()
    answer(gateway, client, connect("origin.test:25"))
    client.close()
    gateway.pump()
    for line in lines:
        assert " TCP_DENIED/403 " in line
        assert " CONNECT origin.test:25 - HIER_NONE/- -" in line
    assert len(lines) == 2


def test_squids_format_shows_a_parent(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[parent:up]\nproxy = http\naddress = parent.test:3128\n")
    lines = squid(gateway)
    gateway.origin("parent.test:3128", lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + OK) if peer.take() else None)
    client = gateway.client()
    assert answer(gateway, client, GET) == 200
    client.close()
    gateway.pump()
    assert [re.findall(r"\S+/192\S+", line) for line in lines] == [["FIRSTUP_PARENT/192.0.2.7"]] * 2


# who was spoken to, and how


def test_a_kept_connection_keeps_what_its_tls_had_agreed_on(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    gateway.origin("plain.test:80")
    for _ in range(2):
        client = intercepted(gateway)
        assert get(gateway, client).status == 200
        client.close()
        gateway.pump()
    first, second = gateway.transactions()
    assert second["reused"] is True
    assert first["upstream_tls"] is not None
    assert second["upstream_tls"] == first["upstream_tls"]
    client = gateway.client()
    assert answer(gateway, client, GET.replace(b"origin", b"plain")) == 200
    assert gateway.transactions()[-1]["upstream_tls"] is None
    client.close()


def test_what_is_relayed_unopened_is_called_a_tunnel_whatever_the_rules_would_have_allowed(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    client.send(UNKNOWN)
    gateway.pump()
    origin.last.finish()
    line = ended(gateway, client)
    assert (line["action"], line["result"], line["stack"]) == (
        "intercept",
        "TCP_TUNNEL",
        "tcp/http1/http-connect/tunnel",
    )


def test_a_fixed_target_in_the_clear_has_a_rule_and_an_action(loop: Loop) -> None:
    gateway = MemoryGateway(loop, MAIL)
    gateway.origin("mail.test:25", silent).greeting = b"220 mail.test ESMTP\r\n"
    client = gateway.client()
    gateway.pump()
    line = ended(gateway, client)
    assert (line["rule"], line["action"], line["destination"]) == ("default", "intercept", "mail.test:25")


def test_a_refused_request_of_socks_has_its_layer_in_the_stack(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    client = gateway.client()
    client.send(b"\x05\x01\x00")
    gateway.pump()
    client.send(b"\x05\x01\x00\x03\x0borigin.test\x01\xbb")
    gateway.pump()
    line = ended(gateway, client)
    assert (line["stack"], line["error"], line["destination"]) == ("tcp/socks5", "dns", "origin.test:443")


@pytest.mark.parametrize("rule", ["", "[rule:others]\nmatch = !host:.good.test\naction = block\n"])
def test_without_a_server_name_nobody_knows_the_destination(loop: Loop, rule: str) -> None:
    gateway = MemoryGateway(loop, "[listen:in]\nendpoint = tcp:443\naccept = tls\ntarget = sni\n" + rule)
    client = gateway.client()
    client.start_tls(None)
    gateway.pump()
    line = ended(gateway, client)
    assert (line["destination"], line["error"]) == (None, "client_hello")


@pytest.mark.parametrize(("said", "status"), [(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400), (UNKNOWN, 0)])
def test_what_is_no_tls_names_no_server_and_says_so(loop: Loop, said: bytes, status: int) -> None:
    gateway = MemoryGateway(loop, "[listen:in]\nendpoint = tcp:443\ntarget = sni\n")
    client = gateway.client()
    client.send(said)
    gateway.pump()
    assert [found.status for found in responses(client.take())] == [status] * bool(status)
    client.close()
    gateway.pump()
    line = gateway.log[0]
    assert (line["error"], line["destination"]) == ("client", None)
    assert line["error_text"] == "listener in: the client names no server; target = sni takes TLS with a name"


def test_a_rule_about_hosts_waits_for_the_server_name(loop: Loop) -> None:
    ini = "[listen:in]\nendpoint = tcp:443\ntarget = sni\n[rule:others]\nmatch = !host:.good.test\naction = block\n"
    gateway = MemoryGateway(loop, ini)
    origin = gateway.origin("www.good.test:8080", tls=gateway.leaf("www.good.test"))
    client = gateway.client()
    client.start_tls("www.good.test")
    gateway.pump()
    assert get(gateway, client, host="www.good.test:8080").status == 200
    assert len(origin.peers) == 1
    assert ended(gateway, client)["destination"] == str(Address("www.good.test", 8080))
