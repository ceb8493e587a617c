"""What may stand in a connection besides one HTTPS request: tunnels, other protocols, layers in layers, rules."""

from __future__ import annotations

from typing import Any

import pytest

from sslintercept.facts import Action, Address, Facts, Scope
from sslintercept.net.limits import ITSELF
from sslintercept.rule.decide import DEFAULT
from sslintercept.testing.gateway import OK, Answers, MemoryGateway, address, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from sslintercept.testing.pki import Pair
from tests.sequences.support import CLIENT_FIRST, ESTABLISHED, SERVER_FIRST, connected, get, intercepted, responses


def rule(match: str, action: str, name: str = "r") -> str:
    return f"[rule:{name}]\nmatch = {match}\naction = {action}\n"


UNKNOWN = b"\xff\xfe\xfd\xfc"
"""an opening that no signature knows, nor may still become one"""


def last_line(gateway: MemoryGateway, client: Peer) -> Any:  # Any: parsed JSON
    """The line of a connection, once its client has left too."""
    client.close()
    gateway.pump()
    return gateway.log[-1]


# tunnels


@pytest.mark.parametrize(
    "ini",
    [
        rule("host:origin.test", "tunnel"),
        rule("sni:origin.test", "tunnel"),
        SERVER_FIRST + rule("sni:origin.test", "tunnel"),
        rule("sni:other.test", "block", "first") + rule("host:.test", "tunnel"),
    ],
)
def test_a_tunnelled_client_meets_the_origin_itself_byte_by_byte(loop: Loop, ini: str) -> None:
    """T4.6"""
    gateway = MemoryGateway(loop, ini)
    own = gateway.leaf("origin.test")
    origin = gateway.origin("origin.test:443", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", tls=own)
    client = connected(gateway)
    hello = client.start_tls("origin.test", alpn=(b"h2", b"http/1.1"), hello_only=True)
    client.send_below(hello)
    gateway.pump()
    assert client.secure
    assert client.certificate == own.certificate
    assert origin.last.wire.startswith(hello)
    assert get(gateway, client).body == b"hi"
    client.send_below(b"")
    assert bytes(origin.last.got).startswith(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    assert gateway.facts[0].path[-1] == "tunnel"
    assert gateway.facts[0].upstream == ("192.0.2.7", 443)
    assert len(origin.peers) == 1
    client.close()
    gateway.pump()
    origin.last.close()
    gateway.pump()
    assert "tunnel_ended" in gateway.steps()
    assert gateway.log[-1]["result"] == "TCP_TUNNEL"


def test_a_client_that_keeps_rejecting_our_certificate_is_tunnelled(loop: Loop) -> None:
    """T4.6, wants 13"""
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[client-tls]\nlearn = on\nlearn_after = 2\nlearn_for = 1h")
    own = gateway.leaf("origin.test")
    origin = gateway.origin("origin.test:443", tls=own)
    for _ in range(2):
        client = connected(gateway)
        client.start_tls("origin.test", trust=[])
        gateway.pump()
        assert client.fault == "certificate verify failed"
        assert origin.last.wire == b""
        assert "learned_rejection" in gateway.steps()
        client.close()
    tunnelled = connected(gateway)
    tunnelled.start_tls("origin.test")
    gateway.pump()
    assert tunnelled.certificate == own.certificate
    assert "learned_bypass" in gateway.steps()
    tunnelled.close()
    other = connected(gateway)
    other.start_tls("other.test")
    gateway.pump()
    assert other.names == ["other.test"]
    loop.pass_time(3601)
    assert intercepted(gateway).certificate != own.certificate


@pytest.mark.parametrize("how", ["fin", "reset", "close after Finished", "goodbye after Finished"])
def test_a_client_that_leaves_instead_of_using_our_certificate_has_rejected_it(loop: Loop, how: str) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[client-tls]\nlearn = on\nlearn_after = 1")
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = connected(gateway)
    hello = client.start_tls("origin.test", hello_only=True)
    client.reading = "Finished" in how
    client.send_below(hello)
    gateway.pump()
    if how == "reset":
        client.reset()
    elif how == "goodbye after Finished":
        client.say_goodbye()
        client.finish()
    else:
        client.close()
    gateway.pump()
    assert "learned_rejection" in gateway.steps()
    assert gateway.learned.bypass("192.0.2.1", "origin.test", gateway.wall_clock()) is not None


def test_a_client_that_leaves_later_or_uses_the_layer_has_rejected_nothing(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[client-tls]\nlearn = on\nlearn_after = 1")
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    used = intercepted(gateway)
    get(gateway, used)
    used.close()
    gateway.pump()
    late = intercepted(gateway)
    loop.pass_time(2)
    late.close()
    gateway.pump()
    assert not gateway.learned.entries(gateway.wall_clock())


def test_a_rejection_counts_nothing_unless_it_was_our_certificate(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[proxy-tls]\n[client-tls]\nlearn = on\nlearn_after = 1")
    client = gateway.client()
    client.start_tls("proxy.test", trust=[])
    gateway.pump()
    assert client.fault
    assert "client_handshake_failed" in gateway.steps()
    assert not gateway.learned.entries(gateway.wall_clock())


def test_a_tunnel_carries_a_half_close_and_the_answer_still_comes_back(loop: Loop) -> None:
    """T4.10"""
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:7", silent)
    client = connected(gateway, "origin.test:7")
    client.send(b"\x00\x01\x02 what is this")
    client.finish()
    gateway.pump()
    assert origin.last.got == b"\x00\x01\x02 what is this"
    assert origin.last.ended
    origin.last.send(b"an answer")
    origin.last.finish()
    gateway.pump()
    assert client.got == b"an answer"
    assert client.ended


def test_a_half_close_behind_bytes_that_decide_nothing_is_carried_too(loop: Loop) -> None:
    """T4.10"""
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:7", silent)
    client = connected(gateway, "origin.test:7")
    client.send(b"\x16")
    gateway.pump()
    client.finish()
    gateway.pump()
    assert (bytes(origin.last.got), origin.last.ended) == (b"\x16", True)
    origin.last.send(b"fine")
    origin.last.finish()
    gateway.pump()
    assert (bytes(client.got), client.ended) == (b"fine", True)


@pytest.mark.parametrize("opening", [b"\x00\x01\x02\x03" * 300, b"\xff" * 70000])
def test_unknown_bytes_in_connect_are_relayed_both_ways(loop: Loop, opening: bytes) -> None:
    """T1.6"""
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    client.send(opening)
    gateway.pump()
    assert origin.last.got == opening
    origin.last.send(opening[::-1])
    gateway.pump()
    assert client.got == opening[::-1]
    client.close()


@pytest.mark.parametrize("order", [CLIENT_FIRST, SERVER_FIRST])
def test_unknown_bytes_inside_tls_are_relayed_inside_tls(loop: Loop, order: str) -> None:
    """T1.6"""
    gateway = MemoryGateway(loop, order)
    origin = gateway.origin("origin.test:9999", silent, tls=gateway.leaf("origin.test"))
    client = connected(gateway, "origin.test:9999")
    client.start_tls("origin.test")
    gateway.pump()
    client.send(b"\x00\x01\x02\x03" * 300)
    gateway.pump()
    assert origin.last.got == b"\x00\x01\x02\x03" * 300
    assert b"\x00\x01\x02\x03" * 3 not in origin.last.wire
    origin.last.send(b"and back")
    gateway.pump()
    assert client.take() == b"and back"
    origin.last.say_goodbye()
    origin.last.finish()
    gateway.pump()
    assert client.layers[0].goodbye


def test_what_comes_out_of_tls_never_goes_to_an_origin_that_speaks_before_its_handshake(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:9999", silent)
    origin.greeting = b"220 hello"
    client = connected(gateway, "origin.test:9999")
    client.start_tls("origin.test")
    gateway.pump()
    client.send(UNKNOWN + b"secret")
    gateway.pump()
    assert client.ended
    assert b"secret" not in origin.last.wire


def test_a_relay_to_an_origin_with_a_bad_certificate_ends(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    gateway.origin("origin.test:9999", silent, tls=gateway.leaf("other.test"))
    client = connected(gateway, "origin.test:9999")
    client.start_tls("origin.test")
    gateway.pump()
    client.send(UNKNOWN)
    gateway.pump()
    assert client.ended
    assert last_line(gateway, client)["error"] == "certificate"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_relay_whose_origin_leaves_in_the_handshake_ends(loop: Loop, how: str) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    client.start_tls("origin.test")
    gateway.pump()
    client.send(UNKNOWN)
    gateway.pump()
    getattr(origin.last, how)()
    gateway.pump()
    assert client.ended


def test_a_client_that_leaves_while_a_relay_shakes_hands_takes_the_origin_along(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    client.start_tls("origin.test")
    gateway.pump()
    client.send(UNKNOWN)
    gateway.pump()
    client.reset()
    gateway.pump()
    assert origin.last.vc.closing


def test_unknown_is_refused_where_the_settings_say_so(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[probe]\nunknown = close\n" + rule("host:let.test", "tunnel"))
    gateway.origin("origin.test:9999", silent)
    origin = gateway.origin("let.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    client.send(UNKNOWN)
    gateway.pump()
    assert client.clean
    assert "dropped" in gateway.steps()
    tunnelled = connected(gateway, "let.test:9999")
    tunnelled.send(UNKNOWN)
    gateway.pump()
    assert origin.last.got == UNKNOWN
    tunnelled.close()


# plain HTTP, upgrades and what is refused


def test_plain_http_in_connect_goes_to_the_destination_of_the_tunnel(loop: Loop) -> None:
    """T1.7"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443")
    client = connected(gateway)
    assert get(gateway, client, host="anything.test:443").body == b"hello"
    assert get(gateway, client).body == b"hello"
    assert origin.last.got.startswith(b"GET / HTTP/1.1\r\nHost: anything.test:443\r\n")
    assert gateway.facts[0].verdicts[-1].mismatch
    assert len(origin.peers) == 1
    assert "upstream_profile_attached" not in gateway.steps()


@pytest.mark.parametrize(("action", "status"), [("block", 403), ("tunnel", 200)])
def test_a_rule_behind_one_that_waits_for_a_server_name_holds_for_plain_http_too(
    loop: Loop, action: str, status: int
) -> None:
    ini = rule("sni:other.test", "intercept", "first") + rule("host:origin.test", action, "second")
    gateway = MemoryGateway(loop, ini)
    origin = gateway.origin("origin.test:80")
    client = connected(gateway, "origin.test:80")
    assert get(gateway, client).status == status
    assert ("blind_tunnel" in gateway.steps()) is (action == "tunnel")
    assert (origin.last.got == b"") is (action == "block")
    client.close()


@pytest.mark.parametrize(("action", "status"), [("block", 403), ("tunnel", 200)])
def test_plain_http_on_a_port_of_tls_is_for_the_rules_to_decide(loop: Loop, action: str, status: int) -> None:
    """T1.7"""
    gateway = MemoryGateway(loop, rule("mismatch:yes", action))
    origin = gateway.origin("origin.test:443")
    client = connected(gateway)
    assert get(gateway, client).status == status
    assert ("blind_tunnel" in gateway.steps()) is (action == "tunnel")
    assert (origin.last.got == b"") is (action == "block")


@pytest.mark.parametrize(("action", "status"), [("block", 403), ("intercept", 200)])
def test_a_rule_may_count_the_layers(loop: Loop, action: str, status: int) -> None:
    gateway = MemoryGateway(loop, rule("depth:1-9", action))
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    intercepted(gateway)
    client = gateway.client()
    client.start_tls("proxy.test")
    gateway.pump()
    client.send(b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 %d " % status)


def test_a_rule_that_blocks_what_is_not_recognised_closes(loop: Loop) -> None:
    ini = rule("sni:other.test", "intercept", "first") + rule("host:origin.test", "block", "second")
    gateway = MemoryGateway(loop, ini)
    origin = gateway.origin("origin.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    client.send(UNKNOWN)
    gateway.pump()
    assert client.clean
    assert origin.last.got == b""


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def test_a_protocol_without_a_session_is_refused_in_its_own_words(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    client = gateway.client()
    client.send(PREFACE)
    gateway.pump()
    assert client.got.startswith(b"\x00\x00\x00\x04\x00")
    assert client.clean
    assert "dropped" in gateway.steps()


def test_in_a_tunnel_it_is_nobodys_business(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("origin.test:1080", silent)
    client = connected(gateway, "origin.test:1080")
    client.send(PREFACE)
    gateway.pump()
    assert origin.last.got == PREFACE
    client.close()


@pytest.mark.parametrize("opening", [b"\x16\x03\x01\x02\x00\x01\x00", UNKNOWN, b"SSH-2.0-x\r\n"])
def test_a_verdict_that_a_listener_does_not_serve_closes_without_a_word(loop: Loop, opening: bytes) -> None:
    """T1.8"""
    gateway = MemoryGateway(loop, "[listen:web]\nendpoint = tcp:8080\naccept = http")
    client = gateway.client()
    client.send(opening)
    gateway.pump()
    assert client.clean
    assert client.wire == b""
    assert last_line(gateway, client)["type"] == "connection"


def test_a_silent_client_is_closed_at_the_timer_of_the_probe(loop: Loop) -> None:
    """T1.4"""
    gateway = MemoryGateway(loop, "[probe]\ntimeout = 10s")
    client = gateway.client()
    loop.pass_time(9)
    assert not client.ended
    loop.pass_time(2)
    assert client.clean
    assert last_line(gateway, client)["error"] == "timeout"


@pytest.mark.parametrize("said", [b"", b"GE"])
def test_a_client_that_leaves_before_it_said_enough_is_no_error(loop: Loop, said: bytes) -> None:
    """T1.4"""
    gateway = MemoryGateway(loop)
    client = gateway.client()
    client.send(said)
    gateway.pump()
    assert last_line(gateway, client)["error"] is None


def test_a_greeting_on_port_25_reaches_a_client_that_said_nothing(loop: Loop) -> None:
    """T1.5, T4.9"""
    gateway = MemoryGateway(loop)
    origin = gateway.origin("mail.test:25", silent)
    origin.greeting = b"220 mail.test ready\r\n"
    client = gateway.client()
    client.send(b"CONNECT mail.test:25 HTTP/1.1\r\nHost: mail.test:25\r\n\r\n")
    gateway.pump()
    assert client.take().endswith(b"\r\n\r\n220 mail.test ready\r\n")
    assert "greeting_relayed" in gateway.steps()
    client.send(b"EHLO me\r\n")
    gateway.pump()
    assert origin.last.got == b"EHLO me\r\n"
    origin.last.send(b"250 you\r\n")
    gateway.pump()
    assert client.take() == b"250 you\r\n"
    client.close()


def test_a_server_that_greets_and_leaves_is_heard(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("mail.test:25", silent)
    client = connected(gateway, "mail.test:25")
    origin.last.send(b"421 too busy\r\n")
    gateway.pump()
    origin.last.close()
    gateway.pump()
    assert client.got == b"421 too busy\r\n"
    assert client.clean


def test_a_server_that_greets_and_breaks_is_a_reset_for_the_client(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = gateway.origin("mail.test:25", silent)
    client = connected(gateway, "mail.test:25")
    origin.last.reset()
    gateway.pump()
    assert client.was_cut


@pytest.mark.parametrize("order", [CLIENT_FIRST, SERVER_FIRST])
def test_a_greeting_inside_tls_reaches_a_client_that_said_nothing(loop: Loop, order: str) -> None:
    """Wants 9"""
    gateway = MemoryGateway(loop, order + "[client-tls]\nlearn = on\nlearn_after = 1")
    origin = gateway.origin("mail.test:993", silent, tls=gateway.leaf("mail.test"), alpn=())
    origin.greeting = b"* OK ready\r\n"
    client = connected(gateway, "mail.test:993")
    client.start_tls("mail.test")
    gateway.pump()
    assert client.take() == b"* OK ready\r\n"
    client.send(b"a LOGIN me secret\r\n")
    gateway.pump()
    assert origin.last.got == b"a LOGIN me secret\r\n"
    assert b"LOGIN" not in origin.last.wire
    client.close()
    gateway.pump()
    quick = connected(gateway, "mail.test:993")
    quick.start_tls("mail.test")
    gateway.pump()
    quick.close()
    gateway.pump()
    assert not gateway.learned.entries(gateway.wall_clock())


def test_on_other_ports_a_silent_client_hears_the_server_after_a_moment(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[probe]\nsilence = 300ms\ntimeout = 10s")
    origin = gateway.origin("origin.test:9999", silent)
    origin.greeting = b"who are you?"
    client = connected(gateway, "origin.test:9999")
    assert client.got == b""
    loop.advance(0.31)
    gateway.pump()
    assert client.take() == b"who are you?"
    loop.pass_time(11)
    client.send(b"\x00me")
    gateway.pump()
    assert origin.last.got == b"\x00me"
    client.close()


def test_a_silent_client_inside_tls_hears_the_server_after_a_moment(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[probe]\nsilence = 300ms")
    origin = gateway.origin("origin.test:9999", silent, tls=gateway.leaf("origin.test"))
    origin.greeting = b"who are you?"
    client = connected(gateway, "origin.test:9999")
    client.start_tls("origin.test")
    loop.pass_time(0.2)
    assert client.got == b""
    loop.pass_time(0.4)
    assert client.got == b"who are you?"
    client.close()


@pytest.mark.parametrize("port", [2525, 9999])
@pytest.mark.parametrize("opening", [b"", b"EHLO me\r\n"])
def test_where_clients_are_sent_to_a_fixed_place_the_greeting_is_heard_too(
    loop: Loop, port: int, opening: bytes
) -> None:
    """T1.5: the way is opened for it, and what the client says meanwhile is kept."""
    gateway = MemoryGateway(loop, f"[listen:l]\nendpoint = tcp:1\ntarget = origin.test:{port}\n")
    origin = gateway.origin(f"origin.test:{port}", silent)
    origin.greeting = b"220 ready\r\n"
    client = gateway.client()
    client.send(opening)
    loop.pass_time(0.4)
    assert client.got == b"220 ready\r\n"
    client.send(b"" if opening else b"EHLO me\r\n")
    gateway.pump()
    assert origin.last.got == b"EHLO me\r\n"
    if port == 2525:
        assert gateway.facts[0].stack == "tcp/smtp"
    client.close()


def test_tls_on_a_port_of_servers_that_greet_is_tls(loop: Loop) -> None:
    """T1.7: the signature wins, and the mismatch is a fact for rules."""
    ini = "[listen:l]\nendpoint = tcp:1\ntarget = origin.test:25\n"
    gateway = MemoryGateway(loop, ini)
    gateway.origin("origin.test:25", tls=gateway.leaf("origin.test"))
    client = gateway.client()
    client.start_tls("origin.test")
    gateway.pump()
    assert client.secure
    assert gateway.facts[0].verdicts[0].mismatch
    client.close()
    gateway = MemoryGateway(loop, ini + rule("mismatch:yes", "block"))
    gateway.origin("origin.test:25", tls=gateway.leaf("origin.test"))
    client = gateway.client()
    client.start_tls("origin.test")
    gateway.pump()
    assert gateway.facts[0].decision is not None
    assert gateway.facts[0].decision.action is Action.BLOCK
    client.close()


def test_a_server_that_cannot_be_reached_ends_a_silent_client(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:l]\nendpoint = tcp:1\ntarget = origin.test:25\n")
    client = gateway.client()
    gateway.pump()
    assert client.ended
    assert gateway.facts[0].error is not None
    client.close()


def test_an_eager_server_is_not_read_beyond_a_limit(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[probe]\nsilence = 5s")
    origin = gateway.origin("origin.test:9999", silent)
    client = connected(gateway, "origin.test:9999")
    origin.last.send(b"x" * 3_000_000)
    gateway.pump()
    assert origin.last.vc.tcp.read < 1_000_000
    client.send(UNKNOWN)
    gateway.pump()
    assert client.got == b"x" * 3_000_000
    client.close()


# layers in layers


def secure_proxy(gateway: MemoryGateway) -> Peer:
    """A client that speaks TLS with the proxy itself."""
    client = gateway.client()
    client.start_tls("proxy.test", alpn=(b"http/1.1",), trust=[gateway.ca.certificate])
    gateway.pump()
    assert client.secure, client.fault
    assert "proxy.test" in client.names
    return client


def test_a_secure_proxy_serves_requests_and_tunnels_inside_its_tls(loop: Loop) -> None:
    """T4.8"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    plain = gateway.origin("origin.test:80")
    body = bytes(range(256)) * 40960
    secure = gateway.origin(
        "origin.test:443",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        tls=gateway.leaf("origin.test"),
    )
    client = secure_proxy(gateway)
    assert get(gateway, client, "http://origin.test/").body == b"hello"
    assert len(plain.peers) == 1
    connected(gateway, client=client)
    client.start_tls("origin.test", alpn=(b"http/1.1",))
    gateway.pump()
    assert client.names == ["origin.test"]
    assert get(gateway, client).body == body
    upload = body[: 2**20]
    client.send(b"POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: %d\r\n\r\n" % len(upload) + upload)
    gateway.pump()
    assert responses(client.take())[0].status == 200
    assert secure.last.got.endswith(upload)
    assert gateway.facts[0].stack == "tcp/tls1.3/http1/http-connect/tls1.3/http1"
    assert str(client.vc) == "tcp + tls1.3 + tls1.3"
    client.vc.close()
    gateway.pump()
    assert client.clean


def test_layers_of_tls_are_limited(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[client-tls]\nmax_layers = 4")
    for n in range(1, 6):
        gateway.origin(f"{n}.test:443", tls=gateway.leaf(f"{n}.test"))
    client = secure_proxy(gateway)
    for n in range(1, 4):
        connected(gateway, f"{n}.test:443", client)
        client.start_tls(f"{n}.test")
        gateway.pump()
        assert client.secure, client.fault
    connected(gateway, "4.test:443", client)
    client.start_tls("4.test")
    gateway.pump()
    assert not client.secure
    assert client.ended
    assert "was refused" in str(gateway.facts[0].error)


def test_connect_inside_an_intercepted_tunnel_begins_anew(loop: Loop) -> None:
    """The facts and the connection of the outer tunnel do not serve the inner one."""
    gateway = MemoryGateway(
        loop, SERVER_FIRST + rule("host:inner.test sni:outer.test", "block", "leak") + rule("sni:inner.test", "tunnel")
    )
    outer = gateway.origin("outer.test:443", tls=gateway.leaf("outer.test"))
    own = gateway.leaf("inner.test")
    inner = gateway.origin("inner.test:443", tls=own)
    client = intercepted(gateway, "outer.test:443", "outer.test")
    connected(gateway, "inner.test:443", client)
    assert outer.last.ended
    assert outer.last.got.startswith(b"CONNECT inner.test:443 HTTP/1.1\r\n"), "it was asked, and is no proxy"
    client.start_tls("inner.test")
    gateway.pump()
    assert client.certificate == own.certificate
    assert get(gateway, client, host="inner.test").body == b"hello"
    assert len(inner.peers) == 1
    client.close()


def test_a_request_in_the_inner_tunnel_never_travels_on_the_connection_of_the_outer_one(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("inner.test:443", tls=gateway.leaf("inner.test"))
    get(gateway, intercepted(gateway, "inner.test:443", "inner.test"), host="inner.test")
    outer = gateway.origin("outer.test:443", tls=gateway.leaf("outer.test"))
    client = intercepted(gateway, "outer.test:443", "outer.test")
    connected(gateway, "inner.test:443", client)
    client.start_tls("inner.test")
    gateway.pump()
    gateway.pool.clear()
    assert get(gateway, client, host="inner.test").body == b"hello"
    assert b"GET" not in outer.last.got


class Proxying:
    """An origin that is a proxy itself: it opens the way and then behaves like C{inside}."""

    def __init__(self, gateway: MemoryGateway, own: Pair | None, answer: bytes = OK) -> None:
        self.gateway = gateway
        self.own = own
        self.answer = Answers(answer)
        self.asked: list[bytes] = []
        self.opened: set[Peer] = set()

    def __call__(self, peer: Peer) -> None:
        if peer in self.opened:
            self.answer(peer)
            return
        head, end, _ = bytes(peer.got).partition(b"\r\n\r\n")
        if end:
            self.opened.add(peer)
            self.asked.append(head)
            peer.take()
            peer.send(b"HTTP/1.1 200 Yes\r\nX-Proxy: b\r\n\r\n")
            if self.own is not None:
                peer.serve_tls(self.own)


@pytest.mark.parametrize("order", [CLIENT_FIRST, SERVER_FIRST, ""])
def test_connect_said_to_a_proxy_inside_a_tunnel_leads_through_that_proxy(loop: Loop, order: str) -> None:
    """Every layer with a leaf of its own; towards the origin TLS in TLS as well."""
    gateway = MemoryGateway(loop, order)
    proxy = Proxying(gateway, gateway.leaf("inner.test"))
    outer = gateway.origin("outer.test:443", proxy, tls=gateway.leaf("outer.test"))
    client = intercepted(gateway, "outer.test:443", "outer.test")
    connected(gateway, "inner.test:443", client)
    client.start_tls("inner.test", alpn=(b"http/1.1",))
    gateway.pump()
    assert client.names == ["inner.test"]
    for _ in range(2):
        assert get(gateway, client, host="inner.test").body == b"hello"
    assert {head.partition(b"\r\n")[0] for head in proxy.asked} == {b"CONNECT inner.test:443 HTTP/1.1"}
    assert {peer.vc.peer.port for peer in outer.peers} == {443}
    assert str(outer.last.vc).startswith("tcp + tls1.3 + tls1.3")
    assert all(where.host == "outer.test" for where in gateway.connector.opened)
    assert [leg.server_name for leg in gateway.facts[0].layers] == ["outer.test", "inner.test"]
    # What came that way is never used for somebody who goes straight.
    client.close()
    straight = gateway.origin("inner.test:443", tls=gateway.leaf("inner.test"))
    get(gateway, intercepted(gateway, "inner.test:443", "inner.test"), host="inner.test")
    assert straight.peers


def test_a_refusal_of_the_proxy_inside_a_tunnel_is_not_circumvented(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("outer.test:443", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", tls=gateway.leaf("outer.test"))
    inner = gateway.origin("inner.test:443", tls=gateway.leaf("inner.test"))
    client = intercepted(gateway, "outer.test:443", "outer.test")
    client.send(b"CONNECT inner.test:443 HTTP/1.1\r\nHost: inner.test:443\r\n\r\n")
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 502
    assert b"with 403" in found.body
    assert not inner.peers


LOGIN = b"\r\nProxy-Authorization: Basic bWU6c2VjcmV0"
WANTED = (
    b'HTTP/1.1 407 Login\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: Basic realm="b"\r\n'
    b"Content-Length: 0\r\n\r\n"
)


def test_a_client_can_log_in_to_a_proxy_of_its_own_inside_a_tunnel(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    proxy = Proxying(gateway, gateway.leaf("inner.test"))

    def asks_who_it_is(peer: Peer) -> None:
        if peer in proxy.opened or LOGIN in peer.got:
            proxy(peer)
        elif b"\r\n\r\n" in peer.got:
            peer.take()
            peer.send(WANTED)

    gateway.origin("outer.test:443", asks_who_it_is, tls=gateway.leaf("outer.test"))
    client = intercepted(gateway, "outer.test:443", "outer.test")
    client.send(b"CONNECT inner.test:443 HTTP/1.1\r\nHost: inner.test:443\r\n\r\n")
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 407
    assert b'\r\nProxy-Authenticate: Basic realm="b"\r\n' in found.head
    assert b"Negotiate" not in found.head, "that would be the login of one connection"
    client = intercepted(gateway, "outer.test:443", "outer.test")
    client.send(b"CONNECT inner.test:443 HTTP/1.1\r\nHost: inner.test:443" + LOGIN + b"\r\n\r\n")
    gateway.pump()
    assert client.take() == ESTABLISHED
    client.start_tls("inner.test", alpn=(b"http/1.1",))
    gateway.pump()
    assert get(gateway, client, host="inner.test").body == b"hello"
    assert all(LOGIN in head for head in proxy.asked)
    client.close()
    gateway.pump()
    assert "bWU6c2VjcmV0" not in str(gateway.log)


def test_what_a_login_has_opened_is_kept_for_that_login_only() -> None:
    ways = set()
    for login in (b"", b"Basic bWU6c2VjcmV0", b"Basic b3RoZXI6c2VjcmV0"):
        inner = Scope(Address("inner.test", 443), DEFAULT)
        inner.outer, inner.login = Scope(Address("outer.test", 443), DEFAULT), login
        ways.add(inner.way)
        assert "bWU6" not in inner.way
    assert len(ways) == 3


def test_tls_right_inside_of_tls_is_relayed_inside_tls(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    own = gateway.leaf("inner.test")
    origin = gateway.origin("origin.test:443", silent, tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    client.start_tls("inner.test")
    gateway.pump()
    assert origin.last.got[:1] == b"\x16"
    first = bytes(origin.last.got)
    origin.last.take()
    origin.last.serve_tls(own)
    origin.last._up(1, first)
    gateway.pump()
    assert client.certificate == own.certificate
    client.send(b"deep")
    gateway.pump()
    assert origin.last.take() == b"deep"
    client.close()


# rules that block


def test_a_block_at_connect_is_answered_before_any_packet_leaves(loop: Loop) -> None:
    """Wants 38"""
    gateway = MemoryGateway(loop, rule("host:origin.test", "block", "no"))
    gateway.origin("origin.test:443")
    client = gateway.client()
    client.send(b"CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n")
    gateway.pump()
    (answer,) = responses(client.take())
    assert answer.status == 403
    assert b"rule no" in answer.body
    assert gateway.connector.opened == []
    assert "blocked" in gateway.steps()
    assert gateway.transactions()[0]["result"] == "TCP_DENIED"


@pytest.mark.parametrize("order", [CLIENT_FIRST, SERVER_FIRST, ""])
def test_a_block_by_server_name_is_a_page_inside_tls(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, order + rule("sni:origin.test", "block", "no"))
    origin = gateway.origin("192.0.2.7:443", tls=gateway.leaf("origin.test"))
    client = connected(gateway, "192.0.2.7:443")
    client.start_tls("origin.test", trust=[gateway.ca.certificate])
    gateway.pump()
    assert client.secure, client.fault
    answer = get(gateway, client)
    assert (answer.status, b"rule no" in answer.body) == (403, True)
    assert origin.last.wire == b""
    assert origin.last.ended
    assert get(gateway, client).status == 403


def test_a_block_of_a_plain_request_is_a_page_and_the_connection_lives_on(loop: Loop) -> None:
    gateway = MemoryGateway(loop, rule("host:bad.test", "block", "no"))
    gateway.origin("good.test:80")
    client = gateway.client()
    assert get(gateway, client, "http://bad.test/", "bad.test").status == 403
    assert get(gateway, client, "http://good.test/", "good.test").status == 200
    assert gateway.facts[0].decision is not None
    assert gateway.facts[0].decision.action is Action.INTERCEPT


# names that differ


def test_the_certificate_is_verified_for_the_server_name_and_not_for_the_host_of_connect(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("192.0.2.7:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway, "192.0.2.7:443")
    assert client.names == ["origin.test"]
    assert get(gateway, client).body == b"hello"
    wrong = intercepted(gateway, "192.0.2.7:443", "front.test")
    assert get(gateway, wrong, host="front.test").status == 502
    assert origin.last.got == b""


@pytest.mark.parametrize("order", [CLIENT_FIRST, SERVER_FIRST, ""])
def test_a_host_that_nobody_verified_is_refused_with_421(loop: Loop, order: str) -> None:
    gateway = MemoryGateway(loop, order)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    for host in ("hidden.test", "origin.test:8443"):
        answer = get(gateway, client, host=host)
        assert (answer.status, b"Misdirected" in answer.head) == (421, True)
    assert origin.last.got == b""
    assert get(gateway, client).status == 200


def test_a_host_that_the_verified_certificate_covers_is_served(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test", "*.origin.test"))
    client = intercepted(gateway)
    assert get(gateway, client, host="www.origin.test").status == 200
    assert get(gateway, client, host="a.b.origin.test").status == 421


def test_a_client_without_a_server_name_gets_a_leaf_for_the_host_of_connect(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway, name=None)
    assert client.names == ["origin.test"]
    assert get(gateway, client).status == 200


def test_a_port_for_tls_alone_serves_http_inside_of_it(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:p]\nendpoint = tcp:1\naccept = tls\n")
    gateway.origin("origin.test:80")
    secure = secure_proxy(gateway)
    assert get(gateway, secure, "http://origin.test/").status == 200
    secure.close()
    clear = gateway.client()
    clear.send(b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    assert clear.take() == b""
    assert clear.ended
    clear.close()


def test_a_listener_may_send_clients_where_their_hello_says(loop: Loop) -> None:
    ini = "[listen:in]\nendpoint = tcp:443\naccept = tls\ntarget = sni\n" + rule("host:bad.test", "block", "no")
    gateway = MemoryGateway(loop, ini)
    origin = gateway.origin("origin.test:8080", tls=gateway.leaf("origin.test"))
    for name, status in (("origin.test", 200), ("bad.test", 403)):
        client = gateway.client()
        client.start_tls(name)
        gateway.pump()
        assert client.secure, client.fault
        assert get(gateway, client, host=f"{name}:8080").status == status
    assert len(origin.peers) == 1
    nameless = gateway.client()
    nameless.start_tls(None)
    gateway.pump()
    assert nameless.ended
    assert not nameless.secure


def test_a_listener_may_have_a_fixed_target(loop: Loop) -> None:
    ini = "[listen:in]\nendpoint = tcp:25\ntarget = mail.test:25\n"
    gateway = MemoryGateway(loop, ini)
    origin = gateway.origin("mail.test:25", silent)
    origin.greeting = b"220 hi\r\n"
    client = gateway.client()
    gateway.pump()
    assert client.take() == b"220 hi\r\n"
    client.send(b"QUIT\r\n")
    gateway.pump()
    assert origin.last.got == b"QUIT\r\n"
    client.close()


DENY = "[http]\nprivate_destinations = deny\n"
"""scripted origins are in a network for documentation, which is private enough"""


def test_a_fixed_target_may_be_private_where_clients_may_name_no_such_place(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:in]\nendpoint = tcp:25\ntarget = mail.test:25\n" + DENY)
    gateway.origin("mail.test:25", silent).greeting = b"220 hi\r\n"
    client = gateway.client()
    gateway.pump()
    assert client.take() == b"220 hi\r\n"
    client.close()
    named = MemoryGateway(loop, DENY)
    named.origin("mail.test:25")
    client = named.client()
    client.send(b"CONNECT mail.test:25 HTTP/1.1\r\nHost: mail.test:25\r\n\r\n")
    named.pump()
    (answer,) = responses(client.take())
    assert (answer.status, b"private_destinations" in answer.body) == (403, True)


def test_a_fixed_target_of_datagrams_may_be_private_as_well(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:dns]\nendpoint = udp:53\ntarget = ns.test:53\n" + DENY)
    denied = gateway.gateway.datagrams.denied
    facts = Facts("x", Address("198.51.100.1", 1), "dns")
    assert denied(facts, Address("ns.test", 53), "10.0.0.1") is None
    assert denied(facts, Address("other.test", 53), "10.0.0.1") is not None


def test_a_fixed_target_that_is_this_proxy_itself_is_refused_all_the_same(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[listen:in]\nendpoint = tcp:25\ntarget = mail.test:25\n")
    gateway.origin("mail.test:25", silent)
    gateway.connector.itself = lambda host, port: ITSELF
    client = gateway.client()
    gateway.pump()
    assert client.ended
    assert "this proxy itself" in str(gateway.facts[0].error)


def test_the_proxy_itself_is_never_a_destination(loop: Loop) -> None:
    """Wants 39"""
    gateway = MemoryGateway(loop)
    gateway.origin("proxy.test:8080")
    gateway.connector.allowed = lambda host, port: ITSELF
    client = gateway.client()
    answer = get(gateway, client, "http://proxy.test:8080/", "proxy.test:8080")
    assert (answer.status, b"destination_ip_prohibited" in answer.head) == (403, True)
    assert b"the destination is this proxy itself" in answer.body
    assert b"private" not in answer.body
    client.send(b"GET / HTTP/1.1\r\nHost: proxy.test:8080\r\n\r\n")
    gateway.pump()
    assert responses(client.take())[0].status == 400
    tunnel = gateway.client()
    tunnel.send(b"CONNECT proxy.test:8080 HTTP/1.1\r\nHost: proxy.test:8080\r\n\r\n")
    gateway.pump()
    assert responses(tunnel.take())[0].status == 403
    assert not gateway.connector.origins[address("proxy.test:8080")].peers


def test_a_hello_that_breaks_off_is_closed_or_relayed_by_policy(loop: Loop) -> None:
    broken = b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x00\x00\x16\x03\x01\x00\x01\x00"
    for policy in ("tunnel", "close"):
        gateway = MemoryGateway(loop, f"[probe]\nunknown = {policy}")
        origin = gateway.origin("origin.test:443", silent)
        client = connected(gateway)
        client.send(broken)
        gateway.pump()
        assert (origin.last.got == broken) is (policy == "tunnel")
        assert client.ended is (policy == "close")
        client.close()


REQUIRE = "[rule:r]\nmatch = port:2500,25,443\naction = intercept\nstarttls = require\n"


@pytest.mark.parametrize("opening", [b"AUTH PLAIN secret\r\n", b"SSH-2.0-secret\r\n", b"\0secret"])
def test_what_nobody_recognises_is_not_relayed_in_the_clear_where_tls_is_required(loop: Loop, opening: bytes) -> None:
    gateway = MemoryGateway(loop, REQUIRE)
    origin = gateway.origin("origin.test:2500", silent)
    origin.greeting = b"\r\n220 hi\r\n"
    client = connected(gateway, "origin.test:2500")
    loop.pass_time(1)
    client.send(opening)
    gateway.pump()
    assert client.ended
    assert b"secret" not in origin.last.got
    assert "rule r requires TLS" in str(gateway.facts[0].error)


def test_what_is_recognised_as_tls_and_is_none_is_not_relayed_where_tls_is_required(loop: Loop) -> None:
    gateway = MemoryGateway(loop, REQUIRE)
    origin = gateway.origin("origin.test:443", silent)
    client = connected(gateway)
    client.send(b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x00\x00\x16\x03secret")
    gateway.pump()
    assert client.ended
    assert origin.last.got == b""


def test_inside_tls_what_nobody_recognises_is_relayed_where_tls_is_required(loop: Loop) -> None:
    gateway = MemoryGateway(loop, REQUIRE)
    origin = gateway.origin("origin.test:443", silent, tls=gateway.leaf("origin.test"), alpn=())
    client = connected(gateway)
    client.start_tls("origin.test")
    gateway.pump()
    client.send(b"\0whatever")
    gateway.pump()
    assert bytes(origin.last.got) == b"\0whatever"


def test_a_hello_that_does_not_come_in_time_is_closed(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[http]\ntls_timeout = 15s")
    gateway.origin("origin.test:443", silent)
    for how in ("time", "end"):
        client = connected(gateway)
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
        gateway.pump()
        if how == "time":
            loop.pass_time(16)
        else:
            client.finish()
            gateway.pump()
        assert client.ended
        assert last_line(gateway, client)["error"] == ("timeout" if how == "time" else "client_tls")


def test_an_impatient_client_is_not_read_beyond_a_limit(loop: Loop) -> None:
    gateway = MemoryGateway(loop, SERVER_FIRST)
    gateway.origin("origin.test:443", silent)
    client = connected(gateway)
    client.start_tls("origin.test")
    client.send_below(b"x" * 2_000_000)
    gateway.pump()
    assert client.vc.tcp.read < 1_000_000


def test_a_client_handshake_that_is_never_finished_is_closed(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[http]\ntls_timeout = 15s")
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = connected(gateway)
    client.reading = False
    client.start_tls("origin.test")
    loop.pass_time(16)
    client.reading = True
    gateway.pump()
    assert client.ended
    assert last_line(gateway, client)["error"] == "timeout"
