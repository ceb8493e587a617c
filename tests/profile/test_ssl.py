"""The ssl profile with real TLS in memory: stages, roles, nesting, closing, and what hostile peers do to it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable

import pytest

from sslintercept.errors import TlsError
from sslintercept.facts import Side
from sslintercept.profile.profile import Stage
from sslintercept.profile.ssl import HELD, SslProfile
from sslintercept.testing.loop import Loop
from sslintercept.tls.context import ServerContext, UpstreamContext
from sslintercept.tls.engine import Engine
from sslintercept.tunnel.blind import BlindTunnel
from tests.support import (
    HalfClosing,
    Listening,
    Noting,
    Stages,
    authority,
    is_ended,
    joined,
    leaf,
    push_server,
    push_upstream,
    read_all,
    secured,
    upstream_context,
)

ALL = [Stage.PRE_TRANSFER, Stage.TRANSFER, Stage.PRE_CLOSE, Stage.DEAD]


def client_engine(name: str = "origin.test") -> Engine:
    """A TLS client without a connection, for tests that send its bytes as they like."""
    return upstream_context().engine(name, (), None, 20)


def client_hello(engine: Engine) -> bytes:
    engine.handshake()
    return engine.flush()


def records(wire: bytes) -> list[int]:
    """The types of the TLS records in a stream that holds nothing else."""
    kinds, at = [], 0
    while at < len(wire):
        assert wire[at + 1] == 3, f"no record at {at}"
        kinds.append(wire[at])
        at += 5 + int.from_bytes(wire[at + 3 : at + 5], "big")
    assert at == len(wire)
    return kinds


def noting(order: list[str], level: int, ended: Callable[[bool], object]) -> Callable[[bool], object]:
    """Write down that a layer ended, and pass it on."""

    def note(clean: bool) -> None:
        order.append(f"{level} {clean}")
        ended(clean)

    return note


def test_every_layer_goes_through_its_stages_in_order(loop: Loop) -> None:
    """T3.2"""
    server, client = joined(loop)
    seen = Stages(server), Stages(client)
    layers = push_server(server), push_upstream(client)
    layers[1].begin()
    loop.pump()
    server.close()
    client.close()
    loop.pump()
    for stages, layer, vc in zip(seen, layers, (server, client), strict=True):
        assert stages.of[layer] == ALL
        assert stages.of[vc.tcp] == [Stage.PRE_CLOSE, Stage.DEAD]


def test_one_class_serves_both_roles_and_the_side_chooses(loop: Loop) -> None:
    """T3.5"""
    server, client = joined(loop)
    layers = push_server(server, alpn=(b"http/1.1",)), push_upstream(client, alpn=(b"h2", b"http/1.1"))
    assert {type(layer) for layer in layers} == {SslProfile}
    layers[1].begin()
    loop.pump()
    assert layers[0].leg is not None
    assert layers[1].leg is not None
    assert layers[0].leg.alpn == layers[1].leg.alpn == "http/1.1"
    assert layers[1].engine.peer_chain() == [leaf().der]
    assert layers[0].engine.peer_chain() == []
    server.close()


def test_nothing_is_said_upstream_before_somebody_writes_and_the_request_follows_once(loop: Loop) -> None:
    """T3.4"""
    client, peer = loop.pair(Side.UPSTREAM)
    push_upstream(client)
    loop.pump()
    loop.pass_time(3)
    assert read_all(peer) == b""
    client.write(b"GET / HTTP/1.1\r\n")
    client.write(b"\r\n")
    loop.pump()
    wire = read_all(peer)
    assert records(wire)[0] == 22
    assert b"GET" not in wire
    server = loop.adopt(peer, Side.CLIENT)
    session = Listening()
    server.attach(session)
    push_server(server, peeked=wire)
    loop.pump()
    assert session.got == b"GET / HTTP/1.1\r\n\r\n"
    client.close()


def test_no_byte_passes_before_the_handshake_is_complete_and_released(loop: Loop) -> None:
    """T3.3"""
    server, client = joined(loop)
    heard, said = HalfClosing(), HalfClosing()
    server.attach(heard)
    client.attach(said)
    held: list[SslProfile] = []
    push_server(server, done=held.append)
    push_upstream(client, done=held.append).begin()
    client.write(b"request")
    server.write(b"greeting")
    loop.pump()
    assert len(held) == 2
    assert heard.got == said.got == b""
    assert (client.pending(), server.pending()) == (7, 8)
    held[0].release()
    loop.pump()
    assert heard.got == said.got == b""
    held[1].release()
    held[1].release()
    loop.pump()
    assert heard.got == b"request"
    assert said.got == b"greeting"
    assert client.pending() == server.pending() == 0
    client.close()
    server.close()


def test_what_came_while_the_layer_was_held_goes_up_before_the_end(loop: Loop) -> None:
    """T3.3"""
    server, client = joined(loop)
    heard = HalfClosing()
    server.attach(heard)
    held: list[SslProfile] = []
    push_server(server, done=held.append)
    push_upstream(client).begin()
    loop.pump()
    client.write(b"the whole request")
    client.finish()
    loop.pump()
    assert heard.events == ["made"]
    held[0].release()
    loop.pump()
    assert heard.got == b"the whole request"
    assert heard.events == ["made", "read lost"]
    assert not server.truncated
    server.close()


def test_a_truncation_while_the_layer_was_held_is_seen_after_the_bytes(loop: Loop) -> None:
    server, client = joined(loop)
    heard = HalfClosing()
    server.attach(heard)
    held: list[SslProfile] = []
    push_server(server, done=held.append)
    push_upstream(client).begin()
    loop.pump()
    client.write(b"half")
    client.close(faithful=False)
    loop.pump()
    held[0].release()
    assert heard.got == b"half"
    assert heard.events == ["made", "read lost"]
    assert server.truncated
    server.close()


def test_a_held_layer_takes_a_bounded_number_of_bytes(loop: Loop) -> None:
    """T3.10"""
    server, client = joined(loop)
    heard = HalfClosing()
    server.attach(heard)
    held: list[SslProfile] = []
    push_server(server, done=held.append)
    push_upstream(client).begin()
    loop.pump()
    data = b"flood" * 400_000
    client.write(data)
    loop.pump()
    assert server.tcp.read <= HELD + 3 * 256 * 1024
    assert client.pending() > 0
    held[0].release()
    loop.pump()
    assert heard.got == data
    server.close()
    client.close()


def test_what_waits_for_a_handshake_stops_its_producer(loop: Loop) -> None:
    """T3.10"""
    client, peer = loop.pair(Side.UPSTREAM)

    producer = Noting()
    push_upstream(client)
    client.registerProducer(producer, True)
    client.write(b"u" * client.high_water)
    assert producer.events == []
    client.write(b"u")
    assert producer.events == ["pause"]
    server = loop.adopt(peer, Side.CLIENT)
    session = Listening()
    server.attach(session)
    push_server(server)
    loop.pump()
    assert len(session.got) == client.high_water + 1
    assert producer.events == ["pause", "resume"]
    client.unregisterProducer()
    client.close()


def test_an_end_before_the_handshake_goes_behind_what_was_written(loop: Loop) -> None:
    client, peer = loop.pair(Side.UPSTREAM)
    push_upstream(client)
    client.write(b"all there is")
    client.finish()
    loop.pump()
    server = loop.adopt(peer, Side.CLIENT)
    session = HalfClosing()
    server.attach(session)
    push_server(server)
    loop.pump()
    assert session.got == b"all there is"
    assert session.events == ["made", "read lost"]
    assert not server.truncated
    server.write(b"and the answer")
    server.close()
    client.close()


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_ten_megabytes_go_both_ways_through_nested_layers(loop: Loop, layers: int) -> None:
    """T3.6, T3.1: whole chunks of up to 64 KiB, of sizes that never meet the borders of records."""
    server, client = secured(loop, layers)
    assert str(server) == "tcp" + " + tls1.3" * layers
    sessions = HalfClosing(), HalfClosing()
    server.attach(sessions[0])
    client.attach(sessions[1])
    data = bytes(range(251)) * (10_000_000 // 251)
    sizes = itertools.cycle([1, 65536, 7, 16384, 16385, 60_001, 2, 1023])
    at = 0
    while at < len(data):
        size = next(sizes)
        client.write(data[at : at + size])
        server.write(memoryview(data)[at : at + size])
        at += size
        if not at % 3:
            loop.turn()
    loop.pump()
    assert sessions[0].got == data
    assert sessions[1].got == data
    client.close()
    loop.pump()
    assert sessions[0].events == ["made", "read lost"]
    assert not server.truncated
    server.close()


@pytest.mark.parametrize("segment", [1, 777, 65536])
def test_nested_layers_with_their_own_certificates_survive_any_segmentation(loop: Loop, segment: int) -> None:
    """T3.6: the outer peer sees nothing but TLS records; versions, names and ALPN differ by layer."""
    server, server_wire = loop.pair(Side.CLIENT)
    client, client_wire = loop.pair(Side.UPSTREAM)
    seen = {True: bytearray(), False: bytearray()}
    waiting = {True: bytearray(), False: bytearray()}

    def relay() -> bool:
        moved = False
        for up, source, target in ((True, client_wire, server_wire), (False, server_wire, client_wire)):
            found = read_all(source)
            seen[up] += found
            waiting[up] += found
            if waiting[up]:
                n = target.send(waiting[up][:segment])
                del waiting[up][:n]
                moved = True
        return moved

    loop.others.append(relay)
    outer, inner = ServerContext(min_version="1.2"), ServerContext(min_version="1.3")
    outer._context.set_max_proto_version(0x0303)
    other = UpstreamContext(min_version="1.2")
    push_server(server, context=outer, pair=leaf("proxy.test", "rsa"), alpn=(b"http/1.1",))
    push_upstream(client, context=other, name="proxy.test", alpn=(b"http/1.1",)).begin()
    loop.pump()
    top_server = push_server(server, context=inner, pair=leaf("inner.test"), alpn=(b"imap",))
    top_client = push_upstream(client, name="inner.test", alpn=(b"pop3", b"imap"))
    top_client.begin()
    loop.pump()
    assert str(server) == str(client) == "tcp + tls1.2 + tls1.3"
    assert top_server.leg is not None
    assert top_server.leg.alpn == "imap"
    assert top_client.engine.peer_chain() == [leaf("inner.test").der]
    sessions = HalfClosing(), HalfClosing()
    server.attach(sessions[0])
    client.attach(sessions[1])
    data = bytes(range(256)) * (20 if segment == 1 else 4000)
    client.write(data)
    server.write(data)
    loop.pump()
    assert sessions[0].got == sessions[1].got == data
    client.close()
    server.close()
    loop.pump()
    assert set(records(bytes(seen[True]))) <= {20, 21, 22, 23}
    assert set(records(bytes(seen[False]))) <= {20, 21, 22, 23}
    loop.others.clear()
    server.abort()
    client.abort()


@pytest.mark.parametrize("step", [1, 100, 100_000])
def test_a_peeked_hello_goes_through_the_layer_as_if_it_came_now(loop: Loop, step: int) -> None:
    """T3.7: whatever the probe has read before it decides, nothing is lost and nothing doubled."""
    client, peer = loop.pair(Side.UPSTREAM)
    push_upstream(client)
    client.write(b"request")
    loop.pump()
    hello = read_all(peer)
    server = loop.adopt(peer, Side.CLIENT)
    session = Listening()
    server.attach(session)
    layer = push_server(server, peeked=hello[:step])
    assert layer.lower is not None
    if hello[step:]:
        layer.lower.deliver(hello[step:])
    loop.pump()
    assert session.got == b"request"
    client.close()


def test_deciding_to_tunnel_after_the_hello_replays_it_byte_exact(loop: Loop) -> None:
    """T3.7: a session that only reads leaves the chain as it was."""
    client, browser = loop.pair(Side.CLIENT)
    server, origin = loop.pair(Side.UPSTREAM)
    reader = Listening()
    client.attach(reader)
    hello = client_hello(client_engine())
    browser.send(hello)
    loop.pump()
    assert reader.got == hello
    BlindTunnel(client, server, idle_timeout=0).start(bytes(reader.got))
    loop.pump()
    assert read_all(origin) == hello


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", bytes(100), b"\x16\x03\x01\x00\x05hello"],
)
def test_garbage_in_the_handshake_is_one_error_and_an_alert(loop: Loop, garbage: bytes) -> None:
    """T3.8"""
    server, peer = loop.pair()
    session = HalfClosing()
    server.attach(session)
    stages = Stages(server)
    layer = push_server(server)
    peer.send(garbage)
    loop.pump()
    assert session.events == ["made", "lost TlsError"]
    assert stages.of[layer] == [Stage.PRE_TRANSFER, Stage.DEAD]
    assert isinstance(server.error, TlsError)
    assert read_all(peer)[:1] in (b"\x15", b"")


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_the_end_in_the_middle_of_the_handshake_is_one_error(loop: Loop, part: float) -> None:
    """T3.8"""
    server, peer = loop.pair()
    session = HalfClosing()
    server.attach(session)
    push_server(server)
    hello = client_hello(client_engine())
    peer.send(hello[: int(len(hello) * part)])
    peer.shutdown(socket.SHUT_WR)
    loop.pump()
    assert session.events == ["made", "lost TlsError"]
    assert "during the handshake" in str(server.error)
    assert server.dead


def test_silence_in_the_handshake_ends_with_the_timer_and_leaves_none(loop: Loop) -> None:
    """T3.8"""
    server, _peer = loop.pair()
    session = HalfClosing()
    server.attach(session)
    push_server(server)
    server.deadline = loop.seconds() + 10
    loop.pass_time(9)
    assert session.events == ["made"]
    loop.pass_time(5)
    assert session.events == ["made", "lost TimedOut"]
    assert server.dead


def test_an_error_of_the_inner_layer_frees_every_layer(loop: Loop) -> None:
    """T3.8"""
    server, client = secured(loop)
    session = HalfClosing()
    server.attach(session)
    layer = push_server(server)
    client.write(b"this is no hello")
    loop.pump()
    assert session.events == ["made", "lost TlsError"]
    assert layer.stage is Stage.DEAD
    client.close()
    loop.pump()
    assert {p.stage for p in server.profiles} == {Stage.DEAD}


def test_goodbyes_go_inner_first_and_before_fin(loop: Loop) -> None:
    """T3.9"""
    server, client = secured(loop, 2)
    order: list[str] = []
    ears = HalfClosing()
    client.attach(ears)
    for level, profile in enumerate(client.profiles):
        profile.ended = noting(order, level, profile.ended)
    server.close()
    loop.pump()
    assert order == ["2 True", "1 True", "0 True"]
    assert ears.events == ["made", "read lost"]
    assert not client.truncated
    client.close()


def test_a_peer_that_has_sent_fin_gets_no_goodbye(loop: Loop) -> None:
    """T3.9"""
    server, client = secured(loop)
    ears = HalfClosing()
    server.attach(ears)
    client.tcp.finish()
    loop.pump()
    assert ears.events == ["made", "read lost"]
    assert server.truncated
    sent = server.tcp.sent
    server.close()
    loop.pump()
    assert server.tcp.sent == sent
    client.close()


def test_a_fin_without_close_notify_is_a_truncation(loop: Loop) -> None:
    server, client = secured(loop, 2)
    ears = HalfClosing()
    server.attach(ears)
    client.write(b"not all")
    client.profiles[1].half_close()
    client.tcp.finish()
    loop.pump()
    assert ears.got == b"not all"
    assert ears.events == ["made", "read lost"]
    assert server.truncated
    server.close()
    client.close()


def test_a_session_without_half_close_is_closed_by_the_peer_s_goodbye(loop: Loop) -> None:
    server, client = secured(loop)
    ears = Listening()
    server.attach(ears)
    client.finish()
    loop.pump()
    client.close()
    loop.pump()
    assert ears.events == ["made", "lost ConnectionDone"]


def test_plaintext_before_a_bad_record_goes_up_first_and_the_fault_right_behind_it(loop: Loop) -> None:
    server, client = secured(loop)
    ears = HalfClosing()
    server.attach(ears)
    engine = client.profiles[1].engine  # type: ignore[attr-defined]
    good = bytes(engine.encrypt(b"good"))
    bad = bytearray(engine.encrypt(b"bad"))
    bad[-1] ^= 1
    client.tcp.write(good + bytes(bad), client.profiles[1])
    loop.pump()
    assert ears.got == b"good"
    assert ears.events == ["made", "lost TlsError"]
    client.close()


def test_a_session_that_closes_within_the_last_bytes_hears_nothing_of_the_fault_behind(loop: Loop) -> None:
    """T2.5"""
    server, client = secured(loop)
    ears = HalfClosing()
    server.attach(ears)
    ears.on_data = lambda data: server.abort()
    client.write(b"good")
    client.finish()
    loop.pump()
    assert ears.events == ["made", "lost ConnectionAborted"]
    client.close()


def test_a_bad_record_ends_the_session_at_once_and_sends_an_alert(loop: Loop) -> None:
    server, client = secured(loop)
    ears, peer = HalfClosing(), HalfClosing()
    server.attach(ears)
    client.attach(peer)
    client.tcp.write(b"\x17\x03\x03\x00\x20" + bytes(32), client.profiles[1])
    loop.pump()
    assert ears.events == ["made", "lost TlsError"]
    assert isinstance(client.error, TlsError)
    assert client.error.sent_by_peer
    assert client.error.alert == 20
    server.abort()
    client.abort()


def test_a_slow_reader_above_stops_decryption_and_the_socket(loop: Loop) -> None:
    """T3.10"""
    server, client = secured(loop, 2)
    ears = HalfClosing()
    server.attach(ears)
    ears.on_data = lambda data: server.pauseProducing()
    data = b"s" * 5_000_000
    client.write(data)
    loop.pump()
    assert len(ears.got) <= 256 * 1024 + 16384
    assert client.pending() > 4_000_000
    ears.on_data = lambda data: None
    server.resumeProducing()
    loop.pump()
    assert ears.got == data
    client.close()
    server.close()


def test_a_write_that_is_cut_into_pieces_stops_when_the_connection_is_closed_in_between(loop: Loop) -> None:
    server, client = secured(loop, buffer=4096)

    class Impatient:
        def pauseProducing(self) -> None:
            client.abort()

        def resumeProducing(self) -> None:
            raise AssertionError("it is gone")

        def stopProducing(self) -> None:
            """Expected."""

    client.registerProducer(Impatient(), True)
    client.write(b"w" * 1_000_000)
    loop.pump()
    assert client.dead
    server.close()


def test_an_impatient_producer_may_cut_while_the_handshake_is_awaited(loop: Loop) -> None:
    client, peer = loop.pair(Side.UPSTREAM)

    class Impatient:
        def pauseProducing(self) -> None:
            client.abort()

        def stopProducing(self) -> None:
            """Expected."""

    push_upstream(client)
    client.registerProducer(Impatient(), True)
    client.write(b"w" * 100_000)
    loop.pump()
    assert client.dead
    assert read_all(peer) == b""


def test_a_close_while_the_layer_is_held_drops_it(loop: Loop) -> None:
    server, client = joined(loop)
    held: list[SslProfile] = []
    push_server(server)
    push_upstream(client, done=held.append).begin()
    client.write(b"never sent")
    loop.pump()
    client.close()
    held[0].release()
    assert held[0].stage is Stage.DEAD
    assert client.pending() == 0
    server.close()
    loop.pump()
    assert server.tcp.stage is Stage.DEAD


def test_a_done_hook_that_cuts_the_connection_leaves_nothing(loop: Loop) -> None:
    """T2.5"""
    server, client = joined(loop)
    ears = HalfClosing()
    client.attach(ears)
    push_server(server)

    def refuse(profile: SslProfile) -> None:
        client.abort()
        profile.release()

    push_upstream(client, done=refuse).begin()
    loop.pump()
    assert ears.events == ["made", "lost ConnectionAborted"]
    server.abort()


def test_a_producer_that_cuts_when_it_may_go_on_hears_nothing_more(loop: Loop) -> None:
    """T2.5: the layer opens, tells the producer, and finds itself gone."""
    server, client = joined(loop)
    held: list[SslProfile] = []
    ears = HalfClosing()
    client.attach(ears)

    class Fickle:
        def pauseProducing(self) -> None:
            """Expected."""

        def resumeProducing(self) -> None:
            client.abort()

        def stopProducing(self) -> None:
            """Expected."""

    push_server(server)
    push_upstream(client, done=held.append).begin()
    client.registerProducer(Fickle(), True)
    client.write(b"x" * 100_000)
    server.write(b"greeting")
    loop.pump()
    held[0].release()
    loop.pump()
    assert ears.got == b""
    assert ears.events == ["made", "lost ConnectionAborted"]
    server.abort()


def test_writes_of_every_size_arrive_whole(loop: Loop) -> None:
    server, client = secured(loop)
    ears = HalfClosing()
    server.attach(ears)
    want = bytearray()
    for size in (0, 1, 16384, 16385, 32768, 65536, 262144, 262145, 1_000_000):
        data = bytes([size % 251]) * size
        client.write(data)
        want += data
        loop.pump()
    assert ears.got == want
    client.finish()
    client.write(b"after the goodbye")
    loop.pump()
    assert ears.got == want
    server.close()
    client.close()


def test_steps_on_the_way_are_told_to_a_recorder(loop: Loop) -> None:
    server, client = joined(loop)
    steps: list[str] = []
    push_server(server)
    layer = push_upstream(client)
    layer.progress = steps.append
    client.write(b"request")
    loop.pump()
    assert steps == ["upstream_handshake_started", "upstream_hello_sent", "request_sent"]
    client.close()


def test_an_idle_layer_gives_memory_back_and_goes_on(loop: Loop) -> None:
    server, client = secured(loop, 2)
    ears = HalfClosing()
    server.attach(ears)
    client.write(b"b" * 500_000)
    loop.pump()
    loop.pass_time(6)
    assert server.trimmed > 0
    client.write(b"more")
    loop.pump()
    assert ears.got == b"b" * 500_000 + b"more"
    client.close()
    server.close()


def test_a_layer_pushed_after_the_peer_s_end_learns_of_it(loop: Loop) -> None:
    server, peer = loop.pair()
    first = HalfClosing()
    server.attach(first)
    peer.shutdown(socket.SHUT_WR)
    loop.pump()
    assert first.events == ["made", "read lost"]
    push_server(server)
    loop.pump()
    assert first.events == ["made", "read lost", "lost TlsError"]


def test_the_peer_s_chain_is_all_that_it_sent(loop: Loop) -> None:
    context = ServerContext(min_version="1.2", chain=[authority().der])
    server, client = joined(loop)
    push_server(server, context=context)
    layer = push_upstream(client)
    layer.begin()
    loop.pump()
    assert layer.engine.peer_chain() == [leaf().der, authority().der]
    client.close()


def test_a_pipelined_tail_behind_the_handshake_is_not_lost(loop: Loop) -> None:
    """The client's Finished and its first request arrive in one read."""
    server, peer = loop.pair()
    ears = HalfClosing()
    server.attach(ears)
    push_server(server)
    engine = client_engine()
    peer.send(client_hello(engine))
    loop.pump()
    engine.feed(read_all(peer))
    assert engine.handshake()
    finished = engine.flush()
    peer.send(finished + bytes(engine.encrypt(b"request at once")))
    loop.pump()
    assert ears.got == b"request at once"
    engine.shutdown()
    peer.send(engine.flush())
    read_all(peer)
    peer.shutdown(socket.SHUT_WR)
    loop.pump()
    assert ears.events == ["made", "read lost"]
    assert not server.truncated
    server.close()


def test_a_peer_that_sends_after_its_goodbye_is_not_heard(loop: Loop) -> None:
    server, client = secured(loop)
    ears = HalfClosing()
    server.attach(ears)
    layer = client.profiles[1]
    client.profiles[1].half_close()
    client.tcp.write(b"\x17\x03\x03\x00\x20" + bytes(32), layer)
    loop.pump()
    client.tcp.finish()
    loop.pump()
    assert ears.events == ["made", "read lost"]
    assert ears.got == b""
    assert not server.truncated
    server.close()
    client.close()


def test_a_dead_layer_takes_nothing(loop: Loop) -> None:
    server, client = secured(loop)
    layer = client.profiles[1]
    client.abort()
    layer.write(b"to nobody")
    layer.half_close()
    layer.pre_close()
    layer.trim()
    loop.pump()
    assert layer.stage is Stage.DEAD
    server.close()


def test_the_peer_of_a_closed_connection_sees_the_end(loop: Loop) -> None:
    server, peer = loop.pair()
    push_server(server)
    server.close()
    loop.pump()
    assert is_ended(peer)


@pytest.mark.parametrize("answers", [True, False])
def test_session_tickets_leave_with_the_first_bytes_of_ours(loop: Loop, answers: bool) -> None:
    """A client that only sends would have them unread when it closes, and its kernel would reset the connection."""
    server, client = joined(loop)
    layers = push_server(server), push_upstream(client)
    layers[1].begin()
    loop.pump()
    before = client.tcp.read
    client.write(b"upload")
    loop.pump()
    assert client.tcp.read == before
    if answers:
        server.write(b"ok")
        loop.pump()
        assert client.tcp.read - before > 300
        server.write(b"ok")
        loop.pump()
    server.close()
    client.close()
    loop.pump()
    assert client.tcp.read - before > 300
