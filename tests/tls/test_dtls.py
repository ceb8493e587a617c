"""Sessions of DTLS against each other, in memory, with real keys."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from sslintercept.datagram.hello import HelloReader, fatal
from sslintercept.errors import TlsError
from sslintercept.testing.pki import Pair, make_ca, make_leaf
from sslintercept.tls.dtls import (
    HEADER,
    LARGEST,
    MTU,
    DtlsEngine,
    DtlsServerContext,
    DtlsUpstreamContext,
    pack,
    well_formed,
)
from tests.datagram.support import hello, record

ROOT = make_ca()
COOKIE = b"c" * 32


def chain(length: int) -> Pair:
    issuer = ROOT
    for n in range(length):
        issuer = make_ca(f"intermediate {n}", issuer=issuer, key_kind="rsa")
    return make_leaf(issuer, ["a.example"], key_kind="rsa")


def pair(
    leaf: Pair | None = None, *, alpn: tuple[bytes, ...] = (), offer: tuple[bytes, ...] = (), oldest: str = "1.2"
) -> tuple[DtlsEngine, DtlsEngine]:
    """A client and a server."""
    leaf = leaf or make_leaf(ROOT, ["a.example"])
    server = DtlsServerContext(chain=leaf.chain[1:], oldest=oldest).engine(leaf.credential(), alpn, COOKIE)
    return DtlsUpstreamContext(oldest=oldest).engine("a.example", offer), server


def prove(client: DtlsEngine, server: DtlsEngine) -> None:
    """The cookie exchange: after it the server has taken the hello."""
    assert not client.handshake()
    [first] = client.flush()
    assert not server.listen(first)
    [asked] = server.flush()
    assert len(asked) <= len(first)
    client.feed(asked)
    assert not client.handshake()
    [second] = client.flush()
    assert server.listen(second)
    assert server.flush() == []


def shake(client: DtlsEngine, server: DtlsEngine) -> list[bytes]:
    """The whole handshake; the datagrams that the server sent."""
    prove(client, server)
    done = {client: False, server: server.handshake()}
    from_server: list[bytes] = []
    for _ in range(10):
        if all(done.values()):
            return from_server
        for sender, receiver in ((server, client), (client, server)):
            for datagram in sender.flush():
                if sender is server:
                    from_server.append(datagram)
                receiver.feed(datagram)
                done[receiver] = receiver.handshake() or done[receiver]
    raise AssertionError("the handshake does not end")


def test_a_client_proves_its_address_and_both_agree() -> None:
    leaf = make_leaf(ROOT, ["a.example"])
    client, server = pair(leaf, alpn=(b"coap",), offer=(b"x", b"coap"))
    shake(client, server)
    leg = server.leg("a.example", "ok")
    assert (leg.version, leg.alpn, leg.server_name, leg.verified) == ("DTLSv1.2", "coap", "a.example", "ok")
    assert client.leg("", "").cipher == leg.cipher
    assert client.peer_chain() == [leaf.der]
    assert client.timeout() is None
    assert server.timeout() is None


def test_each_record_of_the_application_keeps_its_borders() -> None:
    client, server = pair()
    shake(client, server)
    for data in (b"x", b"y" * 1000, b"z" * LARGEST):
        datagram = client.encrypt(memoryview(data))
        assert well_formed(datagram)
        assert server.decrypt(memoryview(datagram)) == [data]
    two = client.encrypt(b"one") + client.encrypt(b"two")
    assert server.decrypt(two) == [b"one", b"two"]


def test_what_is_late_doubled_or_forged_is_left_out() -> None:
    client, server = pair()
    shake(client, server)
    first, second = client.encrypt(b"first"), client.encrypt(b"second")
    forged = second[:-1] + bytes([second[-1] ^ 1])
    assert server.decrypt(forged) == []
    assert server.decrypt(second) == [b"second"]
    assert server.decrypt(first) == [b"first"]
    assert server.decrypt(first) == []
    for noise in (b"", b"x", b"\x17\xfe\xfd" + bytes(8) + b"\0\1x", record(b"\2\x28", kind=21), hello(), bytes(3000)):
        assert server.decrypt(noise) == []
    assert not server.closed
    assert server.decrypt(client.encrypt(b"still here")) == [b"still here"]


def test_a_long_chain_goes_in_datagrams_of_the_mtu() -> None:
    leaf = chain(4)
    client, server = pair(leaf)
    sent = shake(client, server)
    assert max(map(len, sent)) <= MTU
    assert sum(map(len, sent)) > 3 * MTU
    assert all(map(well_formed, sent))
    assert client.peer_chain() == leaf.chain


def test_a_goodbye_is_heard_behind_what_was_said() -> None:
    client, server = pair()
    shake(client, server)
    last = client.encrypt(b"last")
    client.shutdown()
    client.shutdown()
    [goodbye, *_] = client.flush()
    assert server.decrypt(last + goodbye) == [b"last"]
    assert server.closed
    assert server.fault is None
    with pytest.raises(TlsError, match="a write was refused"):
        client.encrypt(b"more")


def test_an_alert_of_the_peer_has_its_number() -> None:
    client, server = pair()
    prove(client, server)
    client.feed(fatal(40, bytes(7) + b"\1"))
    with pytest.raises(TlsError, match="alert 40") as caught:
        client.handshake()
    assert caught.value.sent_by_peer


@pytest.mark.parametrize("plain", [[], [b"last"]])
def test_an_alert_in_the_session_ends_it_behind_what_was_said(
    plain: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = pair()
    shake(client, server)
    left = list(plain)

    def receive(connection: SSL.Connection, size: int) -> bytes:
        if left:
            return left.pop(0)
        raise SSL.Error([("SSL routines", "", "ssl/tls alert internal error")])

    monkeypatch.setattr(SSL.Connection, "recv", receive)
    if plain:
        assert server.decrypt(b"x") == plain
    else:
        with pytest.raises(TlsError, match="alert 80"):
            server.decrypt(b"x")
    assert server.closed
    assert server.fault is not None
    assert server.fault.alert == 80


def test_nothing_is_agreed_on_where_no_protocol_is_common() -> None:
    client, server = pair(alpn=(b"a", b"b"), offer=(b"c",))
    shake(client, server)
    assert client.leg("", "").alpn == server.leg("", "").alpn == ""


def test_a_hello_that_means_nothing_leaves_no_trace_in_other_sessions() -> None:
    client, server = pair()
    shake(client, server)
    other = pair()[1]
    for noise in (record(b"\2" + bytes(11)), record(b"\1\0\0\5\0\0\0\0\1\0\0\4abcd"), bytes(40), hello()[:40]):
        assert not other.listen(noise)
        assert other.flush() == []
        assert server.decrypt(client.encrypt(b"data")) == [b"data"]
        assert server.decrypt(b"") == []


def test_what_openssl_refuses_for_good_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: SSL.Connection) -> None:
        raise SSL.Error([("SSL routines", "", "internal error")])

    for name in ("DTLSv1_listen", "DTLSv1_handle_timeout"):
        monkeypatch.setattr(SSL.Connection, name, broken)
    _, server = pair()
    with pytest.raises(TlsError, match="the hello was refused: internal error"):
        server.listen(hello())
    with pytest.raises(TlsError, match="the peer does not answer"):
        server.timed_out()


def test_a_hello_that_came_in_fragments_is_taken_in_one_piece() -> None:
    client, server = pair()
    client.handshake()
    client.flush()
    server.listen(hello())
    client.feed(server.flush()[0])
    client.handshake()
    [second] = client.flush()
    found = HelloReader().feed(second)
    assert found is not None
    assert found.record == second
    assert found.cookie == COOKIE
    assert server.listen(found.record)


def old_client() -> DtlsEngine:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_max_proto_version(0xFEFF)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_options(SSL.OP_NO_QUERY_MTU)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return DtlsEngine(connection, MTU)


def test_dtls_1_0_is_spoken_only_when_asked_for() -> None:
    leaf = make_leaf(ROOT, ["a.example"], key_kind="rsa")
    client, server = old_client(), pair(leaf, oldest="1.0")[1]
    shake(client, server)
    assert server.leg("", "").version == "DTLSv1"
    client, server = old_client(), pair(leaf)[1]
    prove(client, server)
    with pytest.raises(TlsError, match="unsupported protocol"):
        server.handshake()
    client.feed(server.flush()[0])
    with pytest.raises(TlsError, match="alert 70"):
        client.handshake()


def test_a_flight_that_waits_for_an_answer_has_a_timer() -> None:
    client, _ = pair()
    assert client.timeout() is None
    client.handshake()
    left = client.timeout()
    assert left is not None
    assert 0.5 < left <= 1.0
    client.flush()
    client.timed_out()  # it is not time yet
    assert client.flush() == []


def test_addresses_are_not_sent_as_names_and_keys_are_logged_if_wanted() -> None:
    lines: list[bytes] = []
    client = DtlsUpstreamContext(keylog=lines.append).engine("192.0.2.1", ())
    server = pair()[1]
    client.handshake()
    found = HelloReader().feed(client.flush()[0])
    assert found is not None
    assert found.client_hello.server_name is None
    other = DtlsUpstreamContext(keylog=lines.append).engine("192.0.2.1", ())
    shake(other, server)
    assert lines


@pytest.mark.parametrize(
    ("datagram", "good"),
    [
        (b"", False),
        (hello(), True),
        (hello() + hello(), True),
        (hello()[:-1], False),
        (hello() + b"x", False),
        (b"\x18" + hello()[1:], False),
        (b"\x16\3\3" + hello()[3:], False),
        (b"\x16\xfe\xfc" + hello()[3:], False),
        (record(b"", kind=23), True),
    ],
)
def test_whole_records_and_nothing_else_are_well_formed(datagram: bytes, good: bool) -> None:
    assert well_formed(datagram) is good
    assert well_formed(memoryview(datagram)) is good


def test_records_are_packed_up_to_the_mtu_and_never_cut() -> None:
    pieces = [record(bytes(n)) for n in (100, 100, 300, 10, 2000, 5)]
    packed = pack(b"".join(pieces), 300)
    assert packed == [pieces[0] + pieces[1], pieces[2], pieces[3], pieces[4], pieces[5]]
    assert pack(b"", 300) == []
    exact = pieces[0] + pieces[1]
    assert pack(exact, 2 * (100 + HEADER)) == [exact]
