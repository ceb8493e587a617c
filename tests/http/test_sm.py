"""Transactions: the way to the origin and back, retries, logins, upgrades."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sslintercept.http.connect import _allowed
from sslintercept.http.proxy import tls_floor
from sslintercept.testing.gateway import OK, Answers, MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.http.test_session import GET, POST, asked
from tests.sequences.support import CLIENT_FIRST, connected, get, intercepted, responses


@pytest.fixture
def gateway(loop: Loop) -> MemoryGateway:
    return MemoryGateway(loop)


# a kept connection that is dead


def dying(gateway: MemoryGateway, *, first: bool = True) -> Answers:
    """An origin that answers the first request of a connection and closes at the second."""

    class Dying(Answers):
        def __call__(self, peer: Peer) -> None:
            if peer.used and len(peer.got) > peer.used:
                self.requests.append(b"lost")
                peer.close()
            else:
                super().__call__(peer)

    made = Dying(OK)
    gateway.origin("origin.test:80", made)
    return made


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT"])
def test_a_request_without_body_goes_once_more_when_a_kept_connection_dies(
    gateway: MemoryGateway, method: bytes
) -> None:
    script = dying(gateway)
    client = gateway.client()
    asked(gateway, GET, client)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    script.answer = lambda head, body: answer
    (found,) = asked(gateway, GET.replace(b"GET", method), client, method)
    assert found.status == 200
    assert "retried" in gateway.steps()
    assert len(gateway.connector.origins.popitem()[1].peers) == 2


@pytest.mark.parametrize("raw", [GET.replace(b"GET", b"POST"), POST + b"Content-Length: 3\r\n\r\nabc"])
def test_what_may_not_be_repeated_is_not(gateway: MemoryGateway, raw: bytes) -> None:
    script = dying(gateway)
    client = gateway.client()
    asked(gateway, GET, client)
    (found,) = asked(gateway, raw, client)
    assert (found.status, b"connection_terminated" in found.head) == (502, True)
    assert script.requests[1:] == [b"lost"]


def test_it_is_repeated_only_once(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", OK)
    client = gateway.client()
    asked(gateway, GET, client)
    origin.respond = origin.last.received = lambda peer: peer.close() if peer.got else None
    origin.last.take()
    (found,) = asked(gateway, GET, client)
    assert found.status == 502
    assert len(origin.peers) == 2


def test_a_new_connection_that_dies_is_not_tried_again(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", lambda peer: peer.close() if peer.got else None)
    (found,) = asked(gateway, GET)
    assert found.status == 502
    assert len(origin.peers) == 1


def test_an_origin_that_dies_in_an_upload_is_answered_with_502(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 9000000\r\n\r\n" + b"u" * 1000)
    gateway.pump()
    origin.last.reset()
    gateway.pump()
    client.send(b"u" * 5_000_000)
    gateway.pump()
    assert responses(client.take())[0].status == 502
    assert not client.was_cut
    client.close()


def test_a_kept_connection_that_died_a_moment_ago_is_not_taken(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80")
    client = gateway.client()
    asked(gateway, GET, client)
    origin.last.vc.closing = True
    asked(gateway, GET, client)
    assert len(origin.peers) == 2
    origin.peers[0].vc.closing = False
    origin.peers[0].vc.abort()


# the pool


def test_another_host_or_port_opens_another_connection(gateway: MemoryGateway) -> None:
    """T9.1"""
    client = gateway.client()
    for where in ("a.test:80", "b.test:80", "a.test:81"):
        gateway.origin(where)
        for _ in range(2):
            assert get(gateway, client, f"http://{where}/", where).status == 200
    assert [len(one.peers) for one in gateway.connector.origins.values()] == [1, 1, 1]


def test_connections_are_shared_between_clients(gateway: MemoryGateway) -> None:
    """T9.1"""
    origin = gateway.origin("origin.test:80")
    for _ in range(3):
        asked(gateway, GET)
    assert len(origin.peers) == 1


def test_names_at_one_address_do_not_share_tls(loop: Loop) -> None:
    """T9.1"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("192.0.2.7:443", tls=gateway.leaf("a.test", "b.test"))
    for name in ("a.test", "b.test", "a.test"):
        assert get(gateway, intercepted(gateway, "192.0.2.7:443", name), host=name).status == 200
    assert sum(bool(peer.got) for peer in origin.peers) == 2


def test_a_client_that_wants_tls_1_3_shares_only_with_its_like(loop: Loop) -> None:
    """T9.1"""
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    get(gateway, intercepted(gateway))
    client = connected(gateway)
    client.start_tls("origin.test", min_version="1.3")
    gateway.pump()
    assert get(gateway, client).status == 200
    assert sum(bool(peer.got) for peer in origin.peers) == 2


@pytest.mark.parametrize("what", ["close", "bytes", "time"])
def test_an_idle_connection_that_stirs_is_never_handed_out(gateway: MemoryGateway, what: str) -> None:
    """T9.2"""
    origin = gateway.origin("origin.test:80")
    client = gateway.client()
    asked(gateway, GET, client)
    if what == "close":
        origin.last.close()
    elif what == "bytes":
        origin.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    else:
        gateway.loop.pass_time(61)
    gateway.pump()
    assert len(gateway.pool) == 0
    assert asked(gateway, GET, client)[0].body == b"hello"
    assert len(origin.peers) == 2


def test_bytes_behind_an_answer_retire_its_connection(gateway: MemoryGateway) -> None:
    """T9.2"""
    origin = gateway.origin("origin.test:80", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    client = gateway.client()
    for n in range(2):
        assert asked(gateway, GET, client)[0].body == b"hello"
        assert len(origin.peers) == n + 1


@pytest.mark.parametrize("ini", ["[http]\npool_size = 0", "[http]\npool_per_origin = 0", "[http]\npool_idle = 0s"])
def test_nothing_is_kept_where_the_settings_say_so(loop: Loop, ini: str) -> None:
    gateway = MemoryGateway(loop, ini)
    origin = gateway.origin("origin.test:80")
    client = gateway.client()
    for _ in range(2):
        asked(gateway, GET, client)
    assert len(origin.peers) == 2
    assert "pool_kept" not in gateway.steps()


def test_an_origin_that_says_close_is_not_kept(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    client = gateway.client()
    for _ in range(2):
        asked(gateway, GET, client)
    assert len(origin.peers) == 2


# logins of connections


@pytest.mark.parametrize(
    "field", [b"Authorization: NTLM TlRM", b"AUTHORIZATION:  negotiate YII", b"aUTHoRIZATION: NtLm x"]
)
def test_a_connection_that_carries_a_login_is_never_shared(gateway: MemoryGateway, field: bytes) -> None:
    """T9.1"""
    origin = gateway.origin("origin.test:80")
    first, second = gateway.client(), gateway.client()
    asked(gateway, GET[:-2] + field + b"\r\n\r\n", first)
    asked(gateway, GET, first)
    assert len(origin.peers) == 1
    asked(gateway, GET, second)
    assert len(origin.peers) == 2
    first.close()
    gateway.pump()
    assert len(gateway.pool) == 1
    assert origin.peers[0].ended


@pytest.mark.parametrize("tls", [False, True])
def test_a_challenge_binds_the_connection_to_its_client(loop: Loop, tls: bool) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    where = "origin.test:443" if tls else "origin.test:80"
    challenge = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"
    origin = gateway.origin(where, challenge, tls=gateway.leaf("origin.test") if tls else None)
    first = intercepted(gateway) if tls else gateway.client()
    raw = b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n" if tls else GET
    for _ in range(2):
        assert asked(gateway, raw, first)[0].status == 401
    used = [peer for peer in origin.peers if peer.got]
    assert len(used) == 1
    second = intercepted(gateway) if tls else gateway.client()
    asked(gateway, raw, second)
    assert len([peer for peer in origin.peers if peer.got]) == 2


def test_basic_credentials_bind_nothing(gateway: MemoryGateway) -> None:
    origin = gateway.origin(
        "origin.test:80", b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
    )
    for _ in range(2):
        asked(gateway, GET[:-2] + b"Authorization: Basic eDp5\r\n\r\n")
    assert len(origin.peers) == 1


# upgrades

UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("kind", ["plain", "client-first", "server-first"])
@pytest.mark.parametrize("eager", [False, True])
def test_an_upgraded_connection_is_probed_again_and_relayed_with_every_byte(loop: Loop, kind: str, eager: bool) -> None:
    """Wants 7"""
    tls = kind != "plain"
    gateway = MemoryGateway(loop, f"[upstream-tls]\nhandshake_order = {kind}" if tls else "")
    where = "origin.test:443" if tls else "origin.test:80"
    origin = gateway.origin(where, silent, tls=gateway.leaf("origin.test") if tls else None)
    client = intercepted(gateway) if tls else gateway.client()
    raw = (b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n" if tls else GET)[:-2] + UPGRADE
    early = b"\x81\x05early" if eager else b""
    client.send(raw + early)
    gateway.pump()
    assert b"Upgrade: websocket" in origin.last.got
    origin.last.take()
    origin.last.send(SWITCH + early)
    gateway.pump()
    got = client.take()
    assert got.startswith(b"HTTP/1.1 101 ")
    assert got.partition(b"\r\n\r\n")[2] == early
    client.send(b"\x82\x04ping")
    gateway.pump()
    loop.pass_time(12)
    assert origin.last.take() == early + b"\x82\x04ping"
    origin.last.send(b"\x82\x04pong")
    gateway.pump()
    assert client.take() == b"\x82\x04pong"
    assert "upgraded" in gateway.steps()
    assert gateway.transactions()[0]["status"] == 101
    client.close()


def test_websocket_passes_where_unknown_is_closed(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[probe]\nunknown = close")
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET[:-2] + UPGRADE)
    gateway.pump()
    origin.last.take()
    origin.last.send(SWITCH)
    client.take()
    client.send(b"\x82\x04ping")
    gateway.pump()
    assert origin.last.take() == b"\x82\x04ping"
    client.close()


@pytest.mark.parametrize("raw", [GET, GET[:-2] + b"Connection: Upgrade\r\nUpgrade: other\r\n\r\n"])
def test_a_switch_that_nobody_asked_for_is_refused(gateway: MemoryGateway, raw: bytes) -> None:
    origin = gateway.origin("origin.test:80", SWITCH)
    (found,) = asked(gateway, raw)
    assert found.status == 502
    assert origin.last.was_cut


def test_tls_after_an_upgrade_in_the_clear_is_tls_on_both_sides(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n")
    gateway.pump()
    origin.last.take()
    origin.last.send(SWITCH.replace(b"websocket", b"TLS/1.0"))
    gateway.pump()
    client.take()
    origin.last.serve_tls(gateway.leaf("origin.test"))
    client.start_tls("origin.test")
    gateway.pump()
    assert client.names == ["origin.test"]
    client.send(b"GET / HTTP/1.1\r\nHost: origin.test:80\r\n\r\n")
    gateway.pump()
    assert origin.last.got.startswith(b"GET / HTTP/1.1\r\n")
    assert origin.last.secure
    client.close()


# what an origin may get wrong


@pytest.mark.parametrize(
    "answer",
    [
        b"this is not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("cut", [10, 100_000])
def test_an_answer_that_cannot_be_read_is_a_502_and_its_connection_is_not_used_again(
    gateway: MemoryGateway, answer: bytes, cut: int
) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    origin.last.send(answer[:cut])
    gateway.pump()
    if not client.got:
        origin.last.send(answer[cut:])
        gateway.pump()
    (found,) = responses(client.take())
    assert (found.status, b"http_protocol_error" in found.head) == (502, True)
    assert origin.last.was_cut
    assert not client.ended


def test_an_answer_that_cannot_be_written_is_a_502(gateway: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from sslintercept.errors import InterceptError
    from sslintercept.http import sm

    def refuse(*args: object, **kwargs: object) -> bytes:
        raise InterceptError("cannot be written", where="head", remedy="none")

    gateway.origin("origin.test:80")
    client = gateway.client()
    with monkeypatch.context() as patched:
        patched.setattr(sm, "write_response", refuse)
        assert asked(gateway, GET, client)[0].status == 502
    with monkeypatch.context() as patched:
        patched.setattr(sm, "write_request", refuse)
        assert asked(gateway, GET, client)[0].status == 500
    assert asked(gateway, GET, client)[0].status == 200


def test_an_idle_client_in_the_slot_of_a_dead_origin_gets_a_new_one(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80")
    client = connected(gateway, "origin.test:80")
    origin.last.send(b"unasked")
    gateway.pump()
    assert get(gateway, client).body == b"hello"
    assert len(origin.peers) == 2


def test_settings_become_numbers() -> None:
    assert (tls_floor("1.2"), tls_floor("1.3")) == (0x0303, 0x0304)
    assert _allowed(None, 25)
    assert not _allowed((443,), 25)


def test_a_client_that_breaks_its_upload_during_an_early_answer_sees_it_cut(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")
    gateway.pump()
    origin.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf")
    gateway.pump()
    client.send(b"zz\r\n")
    gateway.pump()
    assert client.got.endswith(b"half")
    assert client.ended
    assert origin.last.was_cut


def test_an_upload_that_goes_on_during_an_early_answer_reaches_the_origin(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 8\r\n\r\nfour")
    gateway.pump()
    origin.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
    gateway.pump()
    client.send(b"more")
    gateway.pump()
    assert origin.last.got.endswith(b"fourmore")
    origin.last.send(b"half")
    gateway.pump()
    assert responses(client.take())[0].body == b"halfhalf"
    assert client.clean


def test_an_origin_that_cannot_be_reached_any_more_for_nobody_is_no_error(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    held: list[Callable[[], None]] = []
    gateway.connector.held = held
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    held.pop()()
    gateway.pump()
    gateway.connector.origins.clear()
    client.reset()
    gateway.pump()
    held.pop()()
    gateway.pump()
    assert len(gateway.transactions()) == 1
    assert gateway.transactions()[0]["status"] == 0


# a proxy of the client's own, behind a tunnel


FAR = b"GET http://far.test/a HTTP/1.1\r\nHost: far.test\r\nProxy-Authorization: Basic eDp5\r\n\r\n"


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_behind_a_tunnel_gets_whole_urls_and_may_ask_for_a_login(loop: Loop, tls: bool) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    answers = Answers(
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n"
        b"Proxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"
    )
    where = "origin.test:3128"
    gateway.origin(where, answers, tls=gateway.leaf("origin.test") if tls else None)
    client = intercepted(gateway, where) if tls else connected(gateway, where)
    client.send(FAR)
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 407
    assert b"Proxy-Authenticate: Basic realm=x" in found.head
    assert b"Negotiate" not in found.head
    (head,) = answers.requests
    assert head.startswith(b"GET http://far.test/a HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic eDp5" in head
    assert gateway.transactions()[-1]["url"] == "http://far.test/a"


def test_rules_hold_for_what_a_proxy_behind_a_tunnel_is_asked_for(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[rule:far]\nmatch = host:far.test\naction = block\n")
    origin = gateway.origin("proxy.test:3128")
    client = connected(gateway, "proxy.test:3128")
    client.send(FAR)
    gateway.pump()
    assert responses(client.take())[0].status == 403
    assert all(b"far.test" not in peer.got for peer in origin.peers)
    destination = gateway.facts[0].destination
    assert destination is not None
    assert str(destination) == "proxy.test:3128"
