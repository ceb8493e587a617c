"""Both engines through one suite: records of every size and cut, ends of every kind, and memory that stays bounded."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL, crypto

from sslintercept.errors import TlsError
from sslintercept.testing.pki import Pair, make_ca, make_leaf
from sslintercept.tls import engine as module
from sslintercept.tls.context import ServerContext, UpstreamContext
from sslintercept.tls.engine import (
    ALERT_NUMBERS,
    ALERT_REASONS,
    FAST,
    SIZE,
    STEP,
    Credential,
    Engine,
    FastEngine,
    PublicEngine,
    allow_whole_writes,
    set_groups,
)
from tests.support import authority, leaf, server_context, upstream_context

Make = Callable[[SSL.Connection, int], Engine]


@pytest.fixture(params=["fast", "public"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Engines of one kind; contexts make the same kind."""
    chosen: Make = FastEngine if request.param == "fast" else lambda connection, level: PublicEngine(connection)
    monkeypatch.setattr("sslintercept.tls.context.make_engine", chosen)
    return chosen


def shake(server: Engine, client: Engine, step: int = 1 << 20) -> None:
    """Complete a handshake, the bytes cut into pieces of C{step}."""
    ready = [False, False]
    for _ in range(100_000):
        for i, (one, other) in enumerate(((client, server), (server, client))):
            if not ready[i]:
                ready[i] = one.handshake()
            said = one.flush()
            for at in range(0, len(said), step):
                other.feed(said[at : at + step])
                if not ready[1 - i]:
                    ready[1 - i] = other.handshake()
        if all(ready):
            client.decrypt(server.flush())
            server.decrypt(client.flush())
            return
    raise AssertionError("the handshake never ends")


def pair(
    server: ServerContext | None = None,
    client: UpstreamContext | None = None,
    certificate: Pair | None = None,
    alpn: tuple[bytes, ...] = (),
    step: int = 1 << 20,
    level: int = 0,
) -> tuple[Engine, Engine]:
    """A server's and a client's session that have agreed."""
    one = (server or server_context()).engine((certificate or leaf()).credential(), alpn, level)
    other = (client or upstream_context()).engine("origin.test", alpn, None, level)
    shake(one, other, step)
    return one, other


def wire(engine: Engine, data: bytes) -> bytes:
    """Records, copied out of the shared buffer."""
    return bytes(engine.encrypt(data))


def plain(engine: Engine, data: bytes | memoryview) -> bytes:
    """Plaintext, copied out of the shared buffer."""
    return bytes(engine.decrypt(data))


def test_the_private_names_are_as_the_module_knows_them() -> None:
    """If this fails the public calls do the work, at three to five times the cost."""
    assert FAST


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_handshake_agrees_whatever_its_bytes_are_cut_into(make: Make, step: int) -> None:
    server, client = pair(alpn=(b"http/1.1",), step=step)
    for one in (server, client):
        leg = one.leg("origin.test", "ok")
        assert (leg.version, leg.alpn, leg.server_name, leg.verified) == ("TLSv1.3", "http/1.1", "origin.test", "ok")
        assert leg.cipher
        assert leg.group
        assert not leg.resumed
    assert client.peer_chain() == [leaf().der]
    assert server.peer_chain() == []


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 16383, 16384, 16385, 32768, 65536])
def test_records_of_every_size_arrive(make: Make, size: int) -> None:
    server, client = pair()
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    for _ in range(3):
        assert plain(server, wire(client, data)) == data
        assert plain(client, memoryview(bytearray(wire(server, data)))) == data


@pytest.mark.parametrize("size", [1, 300, 5000])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_record_may_be_cut_anywhere(make: Make, size: int, version: str) -> None:
    context = ServerContext(min_version="1.2")
    if version == "1.2":
        context._context.set_max_proto_version(SSL.TLS1_2_VERSION)
    server, client = pair(server=context)
    assert client.leg("", "").version == f"TLSv{version}"
    data = b"r" * size
    for cut in {1, 2, 3, 4, 5, 6, size // 2 + 5, size, size + 10, size + 20}:
        said = wire(client, data)
        got = bytes(server.decrypt(said[:cut])) + bytes(server.decrypt(said[cut:]))
        assert got == data, cut


def test_records_arrive_byte_by_byte(make: Make) -> None:
    server, client = pair()
    said = wire(client, b"one") + wire(client, b"two") + wire(client, b"t" * 1000)
    got = b"".join(bytes(server.decrypt(said[i : i + 1])) for i in range(len(said)))
    assert got == b"onetwo" + b"t" * 1000


def test_a_whole_record_after_a_cut_one_is_not_taken_for_its_rest(make: Make) -> None:
    """The shortcut for reads of one whole record must know where records begin."""
    server, client = pair()
    first, second = wire(client, b"f" * 100), wire(client, b"s" * 100)
    assert plain(server, first[:3]) == b""
    assert plain(server, first[3:]) == b"f" * 100
    assert plain(server, second) == b"s" * 100
    third, fourth = wire(client, b"3" * 50), wire(client, b"4" * 50)
    assert plain(server, third[:30]) == b""
    assert bytes(server.decrypt(third[30:] + fourth[:10])) == b"3" * 50
    assert plain(server, fourth[10:]) == b"4" * 50


def test_ten_megabytes_go_both_ways_through_four_nested_levels(make: Make) -> None:
    """T3.6: segments of 1 byte to 64 KiB on the wire."""
    context, upstream = server_context(), upstream_context()
    servers: list[Engine] = []
    clients: list[Engine] = []

    def down(stack: list[Engine], data: bytes) -> bytes:
        for one in reversed(stack):
            data = bytes(one.encrypt(data))
        return data

    def up(stack: list[Engine], data: bytes) -> bytes:
        for one in stack:
            data = bytes(one.decrypt(data))
        return data

    for level in range(4):
        server = context.engine(leaf().credential(), (), level)
        client = upstream.engine("origin.test", (), None, level)
        ready = [False, False]
        while not all(ready):
            for i, (one, mine, other, theirs) in enumerate(
                ((client, clients, server, servers), (server, servers, client, clients))
            ):
                ready[i] = ready[i] or one.handshake()
                if flight := one.flush():
                    other.feed(up(theirs, down(mine, flight)))
        servers.append(server)
        clients.append(client)
        client.decrypt(b"")
        server.decrypt(b"")
    data = bytes(range(241)) * (5_000_000 // 241)
    cuts = itertools.cycle([65536, 1, 16384 + 22, 5, 40_000, 1, 1, 333])
    for senders, readers in ((clients, servers), (servers, clients)):
        got = bytearray()
        for at in range(0, len(data), 100_000):
            said = memoryview(down(senders, data[at : at + 100_000]))
            while said:
                cut = next(cuts)
                got += up(readers, bytes(said[:cut]))
                said = said[cut:]
        assert got == data


def test_a_goodbye_is_an_end_and_not_an_error(make: Make) -> None:
    server, client = pair()
    said = wire(client, b"last")
    client.shutdown()
    assert plain(server, said + client.flush()) == b"last"
    assert server.closed
    assert server.fault is None
    assert plain(server, b"whatever comes behind it") == b""
    assert plain(client, wire(server, b"an answer all the same")) == b"an answer all the same"


def test_a_stream_that_just_stops_is_not_closed(make: Make) -> None:
    server, client = pair()
    said = wire(client, b"truncated")
    assert plain(server, said[:-1]) == b""
    assert not server.closed


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100),
        b"\x17\x03\x03\x00\x20" + bytes(32),
        b"\x17\x03\x03\xff\xff" * 10,
    ],
)
def test_garbage_is_an_error_and_an_alert(make: Make, garbage: bytes) -> None:
    server, client = pair()
    with pytest.raises(TlsError, match="a record was refused"):
        server.decrypt(garbage)
    assert server.closed
    alert = server.flush()
    assert alert
    with pytest.raises(TlsError) as refused:
        client.decrypt(alert)
    assert refused.value.sent_by_peer


def test_plaintext_before_garbage_comes_first_and_the_fault_is_known(make: Make) -> None:
    server, client = pair()
    said = wire(client, b"good")
    assert plain(server, said + b"\x17\x03\x03\x00\x20" + bytes(32)) == b"good"
    assert server.closed
    assert server.fault is not None
    assert server.fault.alert is None


def test_garbage_instead_of_a_handshake_is_an_error(make: Make) -> None:
    server = server_context().engine(leaf().credential(), (), 0)
    server.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(TlsError, match="the handshake failed"):
        server.handshake()


def test_an_alert_that_refuses_the_handshake_has_its_number(make: Make) -> None:
    """The peer knows no version in common: protocol_version (70)."""
    old = ServerContext(min_version="1.3")
    client_connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    client_connection.set_connect_state()
    client_connection.set_options(SSL.OP_NO_TLSv1_3)
    client = make(client_connection, 1)
    server = old.engine(leaf().credential(), (), 0)
    client.handshake()
    server.feed(client.flush())
    with pytest.raises(TlsError) as ours:
        server.handshake()
    assert (ours.value.sent_by_peer, ours.value.alert) == (False, None)
    client.feed(server.flush())
    with pytest.raises(TlsError) as theirs:
        client.handshake()
    assert (theirs.value.sent_by_peer, theirs.value.alert) == (True, 70)
    assert "the peer sent alert 70" in str(theirs.value)


@pytest.mark.parametrize("number", sorted({n - ALERT_REASONS for n in ALERT_NUMBERS.values()} - {90, 100}))
def test_every_alert_of_the_peer_has_its_number(make: Make, number: int) -> None:
    """Alerts in the clear, in the middle of a handshake (RFC 8446 6)."""
    client = upstream_context().engine("origin.test", (), None, 0)
    client.handshake()
    client.flush()
    client.feed(b"\x15\x03\x03\x00\x02\x02" + bytes([number]))
    with pytest.raises(TlsError) as refused:
        client.handshake()
    assert refused.value.sent_by_peer
    assert refused.value.alert == number


def test_an_alert_after_the_handshake_has_its_number(make: Make) -> None:
    """A client of TLS 1.3 refuses our certificate only after we think that all is well."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_verify(SSL.VERIFY_PEER, lambda *args: False)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    client = make(connection, 1)
    server = server_context().engine(leaf().credential(), (), 0)
    client.handshake()
    server.feed(client.flush())
    server.handshake()
    client.feed(server.flush())
    with pytest.raises(TlsError):
        client.handshake()
    server.feed(client.flush())
    with pytest.raises(TlsError) as refused:
        server.handshake()
    assert refused.value.alert in (42, 46, 48)


def test_a_renegotiation_is_refused_and_the_session_goes_on(make: Make) -> None:
    """RFC 5746 would allow it; nobody needs it, and it costs the server."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    client = make(connection, 1)
    server = server_context().engine(leaf().credential(), (), 0)
    shake(server, client)
    assert connection.renegotiate()
    client.handshake()
    hello = client.flush()
    assert hello
    assert plain(server, hello) == b""
    assert not server.closed
    refused = server.flush()
    assert refused[0] == 21
    with pytest.raises(TlsError) as told:
        client.decrypt(refused)
    assert "renegotiation" in str(told.value)


def test_a_flight_of_certificates_beyond_32_kib_is_complete(make: Make) -> None:
    """Twisted's TLS reads 32 KiB of it and stands still (twisted #5095)."""
    names = [f"a-rather-long-name-{i:04}.example.test" for i in range(1500)]
    big = make_leaf(authority(), names)
    assert len(big.der) > 50_000
    server, client = pair(certificate=big)
    assert client.peer_chain() == [big.der]
    assert plain(server, wire(client, b"works")) == b"works"


@pytest.mark.parametrize("cut", [None, 3, 100, 16384])
def test_after_a_trim_data_still_flows(make: Make, cut: int | None) -> None:
    server, client = pair()
    said = wire(client, b"t" * 20_000)
    got = b""
    if cut is not None:
        got = bytes(server.decrypt(said[:cut]))
        said = said[cut:]
    for _ in range(3):
        server.trim()
        client.trim()
    got += bytes(server.decrypt(said))
    assert got == b"t" * 20_000
    assert plain(client, wire(server, b"back")) == b"back"
    client.shutdown()
    server.decrypt(client.flush())
    assert server.closed


def test_a_trim_keeps_what_has_not_been_said_or_read(make: Make) -> None:
    server, client = pair()
    client.shutdown()
    client.trim()
    server.feed(client.flush())
    server.trim()
    server.decrypt(b"")
    assert server.closed


@pytest.mark.skipif(not FAST, reason="public calls cannot look into a BIO")
def test_memory_bios_stay_small_and_are_empty_after_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """T3.10: a BIO never shrinks, so what is put into it at once is what it costs for good."""
    server, client = pair()
    assert isinstance(server, FastEngine)
    assert isinstance(client, FastEngine)
    lib: Any = module._lib
    fed: list[int] = []

    def write(bio: Any, data: Any, size: int) -> int:
        fed.append(size)
        return int(lib.BIO_write(bio, data, size))

    monkeypatch.setattr(module, "_BIO_write", write)
    start = module._ffi.new("char **")
    data = b"m" * (8 * STEP)
    for _ in range(5):
        assert plain(server, wire(client, data)) == data
        for one in (server, client):
            assert lib.BIO_get_mem_data(one._in, start) == 0
            assert lib.BIO_get_mem_data(one._out, start) == 0
    assert max(fed) <= STEP


def test_the_largest_write_fits_the_shared_buffers() -> None:
    server, client = pair()
    data = b"l" * (8 * STEP)
    said = wire(client, data)
    assert len(said) < SIZE
    assert plain(server, said) == data


def test_what_others_left_in_the_error_queue_is_not_taken_for_a_fault() -> None:
    """OpenSSL's queue is one for the thread; whoever fails and does not look leaves an entry."""
    server, client = pair()
    lib: Any = module._lib

    def spoil() -> None:
        lib.SSL_CTX_set1_curves_list(raw._context, b"no-such-group")

    raw: Any = SSL.Context(SSL.TLS_METHOD)
    said = wire(client, b"x" * 1000) + wire(client, b"y" * 1000)
    spoil()
    assert plain(server, said[:20]) == b""
    spoil()
    assert plain(server, said[20:1500]) == b"x" * 1000
    spoil()
    assert plain(server, said[1500:]) == b"y" * 1000
    spoil()
    assert plain(server, wire(client, b"whole")) == b"whole"
    half = server_context().engine(leaf().credential(), (), 0)
    spoil()
    assert not half.handshake()
    lib.ERR_clear_error()


def test_a_failed_group_list_leaves_nothing_behind() -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    assert not set_groups(context, b"no-such-group")
    assert not module._queued_errors()
    assert set_groups(context, b"X25519")


def test_a_session_that_failed_refuses_to_write(make: Make) -> None:
    server, _ = pair()
    with pytest.raises(TlsError):
        server.decrypt(bytes(100))
    with pytest.raises(TlsError, match="a write was refused"):
        server.encrypt(b"too late")
    server.shutdown()


def test_a_write_beyond_the_goodbye_is_refused(make: Make) -> None:
    _, client = pair()
    client.shutdown()
    with pytest.raises(TlsError, match="a write was refused"):
        client.encrypt(b"after all")


def test_levels_do_not_share_buffers() -> None:
    """What the lower layer hands up is being read while the upper one decrypts."""
    lower_server, lower_client = pair(level=0)
    upper_server, upper_client = pair(level=1)
    inner = wire(upper_client, b"inside")
    view = lower_server.decrypt(wire(lower_client, inner))
    assert plain(upper_server, view) == b"inside"
    assert view == inner


def test_without_the_private_names_the_public_calls_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAST", False)
    context = SSL.Context(SSL.TLS_METHOD)
    allow_whole_writes(context)
    assert not set_groups(context, b"X25519")
    server, client = pair(server=ServerContext(min_version="1.2"), client=UpstreamContext(min_version="1.2"))
    assert isinstance(server, PublicEngine)
    assert plain(server, wire(client, b"slowly")) == b"slowly"
    server.trim()


def test_a_certificate_and_a_key_that_do_not_match_are_refused() -> None:
    wrong = Credential(leaf().der, crypto.PKey.from_cryptography_key(make_ca("another key").key))
    with pytest.raises(SSL.Error):
        server_context().engine(wrong, (), 0)
    assert not module._queued_errors()


def test_a_credential_is_used_many_times() -> None:
    credential = leaf().credential()
    for _ in range(3):
        server = server_context().engine(credential, (), 0)
        client = upstream_context().engine("origin.test", (), None, 0)
        shake(server, client)
        assert client.peer_chain() == [leaf().der]


def test_a_resumed_session_says_so() -> None:
    context = SSL.Context(SSL.TLS_METHOD)

    def connect(session: SSL.Session | None) -> tuple[Engine, SSL.Connection]:
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        if session is not None:
            connection.set_session(session)
        client = FastEngine(connection, 1)
        server = server_context().engine(leaf().credential(), (), 0)
        shake(server, client)
        return server, connection

    _, first = connect(None)
    server, _ = connect(first.get_session())
    assert server.leg("", "").resumed
