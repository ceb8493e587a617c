"""Requests and responses on a client connection, through a whole gateway: framing, limits, timers, ends."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest

from sslintercept.http.head import MAX_TARGET
from sslintercept.http.session import PIPELINE, HttpSession
from sslintercept.net.connector import Denied
from sslintercept.testing.gateway import OK, Answers, MemoryGateway, ScriptedOrigin, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.sequences.support import CLIENT_FIRST, Response, get, intercepted, responses

GET = b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n"
POST = b"POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n"


@pytest.fixture
def gateway(loop: Loop) -> MemoryGateway:
    return MemoryGateway(loop)


def asked(gateway: MemoryGateway, raw: bytes, client: Peer | None = None, *methods: bytes) -> list[Response]:
    """Send something and read what comes."""
    client = client or gateway.client()
    client.send(raw)
    gateway.pump()
    return responses(client.take(), *methods)


# requests in a row


def test_many_requests_in_one_segment_are_answered_in_order(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", Answers(lambda head, body: answer_to(head)))
    client = gateway.client()
    many = [b"GET http://origin.test/%d HTTP/1.1\r\nHost: origin.test\r\n\r\n" % n for n in range(3000)]
    found = asked(gateway, b"".join(many), client)
    assert [one.body for one in found] == [b"/%d" % n for n in range(3000)]
    assert len(origin.peers) == 1


def answer_to(head: bytes) -> bytes:
    target = head.split(b" ")[1]
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target) + target


def test_many_requests_that_are_refused_do_not_deepen_the_stack(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[rule:r]\naction = block")
    assert [one.status for one in asked(gateway, GET * 3000)] == [403] * 3000


def test_a_client_that_sends_ahead_is_not_read_beyond_a_limit(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET * 16000)
    gateway.pump()
    assert client.vc.tcp.read < PIPELINE + 600_000
    origin.respond = origin.last.received = Answers(OK)
    origin.respond(origin.last)
    gateway.pump()
    assert len(responses(client.take())) == 16000


@pytest.mark.parametrize("size", [0, 1])
def test_a_client_that_sends_ahead_for_ever_stays_bounded(gateway: MemoryGateway, size: int) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    raw = POST + b"Content-Length: %d\r\n\r\n%b" % (size, bytes(size))
    client.send(raw * 12000)
    gateway.pump()
    for _ in range(20):
        origin.last.send(OK)
        gateway.pump()
    assert client.vc.tcp.read < PIPELINE + 600_000
    origin.respond = origin.last.received = Answers(OK)
    origin.last.used = bytes(origin.last.got).rindex(b"POST")
    origin.respond(origin.last)
    gateway.pump()
    assert client.take().count(b"hello") == 12000


@pytest.mark.parametrize("tls", [False, True])
def test_ten_thousand_requests_leave_no_growth(loop: Loop, tls: bool) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test") if tls else None)
    gateway.origin("origin.test:80")
    client = intercepted(gateway) if tls else gateway.client()
    raw = b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n" if tls else GET
    gateway.facts[0].sequence = None

    def many(n: int) -> int:
        for _ in range(n):
            client.send(raw)
            loop.pump()
            client.take()
            client.wire.clear()
            gateway.log.clear()
            for one in gateway.connector.origins.values():
                for peer in one.peers:
                    peer.take()
                    peer.wire.clear()
                if isinstance(one.respond, Answers):
                    one.respond.requests.clear()
                    one.respond.bodies.clear()
        gc.collect()
        return len(gc.get_objects())

    before = many(200)
    assert many(5000 if tls else 10000) - before < 200
    assert len(loop.handler.connections) == 2
    assert len(origin.peers) == int(tls)


def test_a_client_of_http_1_0_is_closed_after_its_answer(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80")
    client = gateway.client()
    (answer,) = asked(gateway, b"GET http://origin.test/ HTTP/1.0\r\n\r\n", client)
    assert answer.body == b"hello"
    assert b"Connection: close" in answer.head
    assert client.clean
    assert origin.last.got.startswith(b"GET / HTTP/1.1\r\nHost: origin.test\r\n")


def test_a_client_of_http_1_0_may_keep_its_connection_inside_a_tunnel(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    for _ in range(2):
        (answer,) = asked(gateway, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", client)
        assert b"Connection: keep-alive" in answer.head
    assert not client.ended


def test_a_client_that_asks_for_it_is_closed(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    (answer,) = asked(gateway, GET[:-2] + b"Connection: close\r\n\r\n", client)
    assert b"Connection: close" in answer.head
    assert client.clean


def test_a_proxy_that_is_stopping_closes_after_the_transaction(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    gateway.proxy.draining = True
    assert len(asked(gateway, GET, client)) == 1
    assert client.clean


def test_a_client_that_has_finished_sending_still_gets_its_answers(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    client.send(GET * 3)
    client.finish()
    gateway.pump()
    assert len(responses(client.take())) == 3
    assert client.ended


def test_a_goodbye_inside_tls_ends_the_transaction(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", silent, tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    client.send(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    client.say_goodbye()
    gateway.pump()
    assert origin.last.was_cut
    assert client.layers[0].goodbye


@pytest.mark.parametrize("raw", [b"\r\n\r\n" + GET, b"\r\n" + GET])
def test_empty_lines_before_a_request_are_skipped(gateway: MemoryGateway, raw: bytes) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    for _ in range(2):
        assert len(asked(gateway, GET + raw, client)) == 2


def test_any_number_of_empty_lines_is_refused_and_not_recursed_into(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    found = asked(gateway, GET + b"\r\n" * 100_000, client)
    assert [one.status for one in found] == [200, 400]
    client.finish()
    gateway.pump()


# bodies


@pytest.mark.parametrize("cut", [None, 1, 7])
@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_an_upload_arrives_whole_however_it_is_cut(gateway: MemoryGateway, kind: str, cut: int | None) -> None:
    origin = gateway.origin("origin.test:80")
    if kind == "length":
        body = b"x" * 300
        raw = POST + b"Content-Length: 300\r\n\r\n" + body
    else:
        body = b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        raw = POST + b"Transfer-Encoding: chunked\r\n\r\n" + body
    client = gateway.client()
    raw += GET
    for at in range(0, len(raw), cut or len(raw)):
        client.send(raw[at : at + (cut or len(raw))])
        gateway.loop.pump()
    assert [one.body for one in responses(client.take())] == [b"hello"] * 2
    assert isinstance(origin.respond, Answers)
    assert origin.respond.bodies[0] == body
    # The connection is read on, whichever way the body came.
    assert len(asked(gateway, GET, client)) == 1
    assert len(origin.peers) == 1


def test_an_upload_on_a_kept_connection_arrives_whole(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80")
    client = gateway.client()
    asked(gateway, GET, client)
    for raw in (b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
        assert len(asked(gateway, POST + raw, client)) == 1
    assert len(origin.peers) == 1


def test_a_large_upload_to_an_origin_that_stands_still_is_held_back(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 20000000\r\n\r\n")
    gateway.pump()
    origin.last.reading = False
    client.send(b"u" * 20_000_000)
    gateway.pump()
    assert origin.last.vc.pending() < 400_000
    origin.last.reading = True
    gateway.pump()
    assert origin.last.got.endswith(b"u" * 20_000_000)
    client.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_large_download_to_a_client_that_stands_still_is_held_back(loop: Loop, tls: bool) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    where = "origin.test:443" if tls else "origin.test:80"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"d" * 20_000_000
    origin = gateway.origin(where, answer, tls=gateway.leaf("origin.test") if tls else None)
    client = intercepted(gateway) if tls else gateway.client()
    client.reading = False
    client.send(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n" if tls else GET)
    gateway.pump()
    assert client.vc.pending() < 800_000
    assert origin.last.vc.tcp.read < 3_000_000
    client.reading = True
    gateway.pump()
    assert responses(client.take())[0].body == b"d" * 20_000_000


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: t\r\n\r\n"
CLOSED = b"HTTP/1.1 200 OK\r\n\r\nhello"


def closing(answer: bytes) -> Answers:
    """An origin that ends its answers by closing."""

    class Closing(Answers):
        def __call__(self, peer: Peer) -> None:
            before = len(self.requests)
            super().__call__(peer)
            if len(self.requests) > before:
                peer.finish()

    return Closing(answer)


def test_a_chunked_answer_is_passed_on_with_its_trailers(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", CHUNKED)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    assert client.take().endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: t\r\n\r\n")
    assert not client.ended


def test_a_chunked_answer_reaches_a_client_of_http_1_0_without_chunks(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", CHUNKED)
    client = gateway.client()
    (answer,) = asked(gateway, b"GET http://origin.test/ HTTP/1.0\r\n\r\n", client)
    assert (answer.body, client.ended, client.was_cut) == (b"hello", True, False)


def test_an_answer_that_only_the_close_ends_is_chunked_for_the_client(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", closing(CLOSED))
    client = gateway.client()
    for n in range(2):
        (answer,) = asked(gateway, GET, client)
        assert answer.body == b"hello"
        assert len(origin.peers) == n + 1
    assert not client.ended


def test_and_it_is_closed_for_a_client_of_http_1_0(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", closing(CLOSED))
    client = gateway.client()
    (answer,) = asked(gateway, b"GET http://origin.test/ HTTP/1.0\r\n\r\n", client)
    assert (answer.body, client.ended, client.was_cut) == (b"hello", True, False)


@pytest.mark.parametrize("answer", [OK, CHUNKED, CLOSED])
def test_an_answer_arrives_whole_when_it_comes_byte_by_byte(gateway: MemoryGateway, answer: bytes) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    for at in range(len(answer)):
        origin.last.send(answer[at : at + 1])
        gateway.loop.pump()
    if answer is CLOSED:
        origin.last.finish()
        gateway.pump()
    assert responses(client.take())[0].body == b"hello"


@pytest.mark.parametrize("raw", [GET, POST + b"Content-Length: 3\r\n\r\nabc"])
def test_a_request_is_read_at_every_cut(loop: Loop, raw: bytes) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:80")
    for at in range(1, len(raw)):
        client = gateway.client()
        client.send(raw[:at])
        loop.pump()
        client.send(raw[at:])
        loop.pump()
        assert len(responses(client.take())) == 1
        client.close()


@pytest.mark.parametrize("answer", [OK, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
def test_an_answer_is_read_at_every_cut(gateway: MemoryGateway, answer: bytes) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    for at in range(1, len(answer)):
        client.send(GET)
        gateway.loop.pump()
        origin.last.send(answer[:at])
        gateway.loop.pump()
        origin.last.send(answer[at:])
        gateway.loop.pump()
        assert responses(client.take())[-1].body == b"hello"
    assert len(origin.peers) == 1


def test_an_empty_answer_ends_with_its_head(gateway: MemoryGateway) -> None:
    answers = iter(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ]
    )
    origin = gateway.origin("origin.test:80", Answers(lambda head, body: next(answers)))
    client = gateway.client()
    raw = GET.replace(b"GET", b"HEAD") + GET * 3
    found = asked(gateway, raw, client, b"HEAD", b"GET", b"GET", b"GET")
    assert [(one.status, one.body) for one in found] == [(200, b""), (204, b""), (304, b""), (200, b"")]
    assert b"Content-Length: 500" in found[0].head
    assert len(origin.peers) == 1


# truncation


def half(gateway: MemoryGateway, answer: bytes, raw: bytes = GET) -> tuple[Peer, ScriptedOrigin]:
    """A client that has got half an answer."""
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(raw)
    gateway.pump()
    origin.last.send(answer)
    gateway.pump()
    return client, origin


HALVES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", HALVES)
def test_a_truncated_answer_does_not_look_whole(gateway: MemoryGateway, kind: str, how: str) -> None:
    client, origin = half(gateway, HALVES[kind])
    getattr(origin.last, how)()
    gateway.pump()
    assert client.ended
    assert client.got.endswith(b"half" if kind == "length" else b"4\r\nhalf\r\n")
    assert gateway.transactions()[0]["result"] == "TCP_MISS_ABORTED"


@pytest.mark.parametrize("kind", HALVES)
def test_an_answer_cut_short_for_a_client_that_knows_no_length_is_a_reset(gateway: MemoryGateway, kind: str) -> None:
    raw = b"GET http://origin.test/ HTTP/1.0\r\n\r\n"
    client, origin = half(gateway, HALVES[kind], raw)
    origin.last.close()
    gateway.pump()
    assert client.was_cut is (kind == "chunked")


def test_a_reset_in_an_answer_that_only_the_close_ends_is_one_for_the_client(gateway: MemoryGateway) -> None:
    client, origin = half(gateway, CLOSED)
    origin.last.reset()
    gateway.pump()
    assert not client.got.endswith(b"0\r\n\r\n")
    assert client.was_cut


@pytest.mark.parametrize("answer", [HALVES["length"], CLOSED])
def test_a_truncation_inside_tls_lacks_the_goodbye(loop: Loop, answer: bytes) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", silent, tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    client.send(b"GET / HTTP/1.0\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    origin.last.send(answer)
    origin.last.finish()  # without close_notify
    gateway.pump()
    assert client.ended
    assert not client.layers[0].goodbye


def test_a_broken_chunk_ends_the_answer(gateway: MemoryGateway) -> None:
    client, origin = half(gateway, HALVES["chunked"])
    origin.last.send(b"zz\r\n")
    gateway.pump()
    assert client.ended
    assert origin.last.was_cut
    assert not client.got.endswith(b"0\r\n\r\n")


# Expect and 1xx


def test_expect_is_forwarded_and_so_is_the_answer(gateway: MemoryGateway) -> None:
    """Wants 6"""
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    gateway.pump()
    assert b"Expect: 100-continue" in origin.last.got
    origin.last.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    gateway.pump()
    assert responses(client.take())[0].status == 100
    client.send(b"body")
    gateway.pump()
    assert origin.last.got.endswith(b"\r\n\r\nbody")
    origin.last.send(OK)
    gateway.pump()
    assert responses(client.take())[0].status == 200
    assert gateway.steps().count("continue_sent") == 1
    assert "request_body_relayed" in gateway.steps()
    assert not client.ended


def test_an_early_final_answer_to_expect_ends_the_connection(gateway: MemoryGateway) -> None:
    """Wants 6"""
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    gateway.pump()
    origin.last.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    gateway.pump()
    (answer,) = responses(client.take())
    assert answer.status == 401
    assert b"Connection: close" in answer.head
    assert client.ended
    assert origin.last.ended


@pytest.mark.parametrize("answer", [OK, CHUNKED])
def test_an_early_answer_during_an_upload_reaches_the_client_and_the_rest_is_drained(
    gateway: MemoryGateway, answer: bytes
) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 9000000\r\n\r\n" + b"u" * 1000)
    gateway.pump()
    client.reading = False
    origin.last.send(answer)
    gateway.pump()
    client.send(b"u" * 8_000_000)
    gateway.pump()
    client.reading = True
    gateway.pump()
    (found,) = responses(client.take())
    assert (found.status, found.body) == (200, b"hello")
    assert not client.was_cut
    assert client.vc.tcp.read > 8_000_000
    client.close()


def test_a_drained_client_is_closed_after_a_while(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
    client = gateway.client()
    client.send(b"POST http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\nContent-Length: 9000\r\n\r\n")
    gateway.pump()
    assert responses(client.take())[0].status == 502
    gateway.loop.pass_time(9)
    assert not client.vc.closing
    gateway.loop.pass_time(4)
    assert client.vc.dead


def test_other_1xx_are_relayed_but_not_to_http_1_0(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2 + OK)
    assert [one.status for one in asked(gateway, GET)] == [103, 103, 200]
    assert [one.status for one in asked(gateway, b"GET http://origin.test/ HTTP/1.0\r\n\r\n")] == [200]


def test_too_many_1xx_are_refused(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40 + OK)
    found = asked(gateway, GET)
    assert [one.status for one in found] == [103] * 32 + [502]


# limits and faults of the client


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET http://origin.test/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nBad Name: x\r\n\r\n", 400),
        (b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nX: " + b"x" * 70000, 431),
        (b"GET http://origin.test/" + b"x" * MAX_TARGET + b" HTTP/1.1\r\nHost: origin.test\r\n\r\n", 414),
        (b"GET http://origin.test/ HTTP/1.2\r\nHost: origin.test\r\n\r\n", 505),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
        (b"GET gopher://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n", 400),
    ],
)
def test_a_request_that_cannot_be_read_is_answered_and_the_connection_ends(
    gateway: MemoryGateway, raw: bytes, status: int
) -> None:
    client = gateway.client()
    (answer,) = asked(gateway, raw, client)
    assert answer.status == status
    assert b"Connection: close" in answer.head
    assert client.ended
    client.close()
    gateway.pump()
    assert gateway.log[-1]["error"] == ("unsupported" if status in (501, 505) else "http_message")
    assert gateway.connector.opened == []


def test_garbage_behind_a_request_is_answered_with_400(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    assert [one.status for one in asked(gateway, GET + b"\x00\x01\x02\r\n\r\n", client)] == [200, 400]
    client.close()


def test_a_client_that_is_slow_with_its_first_head_gets_408(gateway: MemoryGateway) -> None:
    client = gateway.client()
    client.send(GET[:20])
    gateway.loop.pass_time(9)
    assert client.got == b""
    gateway.loop.pass_time(2)
    assert responses(client.take())[0].status == 408
    assert client.ended


def test_a_client_that_is_slow_with_a_later_head_gets_408(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    for said in (GET + b"GE", b"T htt"):
        client.send(said)
        gateway.loop.pass_time(6)
    assert [one.status for one in responses(client.take())] == [200, 408]


def test_a_client_that_only_sends_empty_lines_is_closed_without_408(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    client.send(GET + b"\r\n")
    gateway.loop.pass_time(12)
    assert len(responses(client.take())) == 1
    assert client.clean


def test_an_idle_client_is_closed_after_the_keep_alive_timeout(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    asked(gateway, GET, client)
    gateway.loop.pass_time(119)
    assert not client.ended
    gateway.loop.pass_time(2)
    assert client.clean


def test_a_client_that_connected_inside_tls_and_asks_for_nothing_is_closed(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:80")
    client = gateway.client()
    client.send(b"GET ")
    gateway.pump()
    client.finish()
    gateway.pump()
    assert client.ended
    client.close()
    gateway.pump()
    assert gateway.log[-1]["error"] == "http_message"


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nhelloXX"])
def test_a_broken_chunk_of_a_request_is_a_400_and_nothing_complete_reaches_the_origin(
    gateway: MemoryGateway, body: bytes
) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")
    gateway.pump()
    client.send(body)
    gateway.pump()
    (answer,) = responses(client.take())
    assert (answer.status, b"http_request_error" in answer.head) == (400, True)
    assert origin.last.was_cut
    assert client.ended
    client.close()


def test_a_client_that_ends_its_body_early_cannot_make_it_look_complete(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 500\r\n\r\nhalf")
    client.finish()
    gateway.pump()
    assert responses(client.take())[0].status == 400
    assert origin.last.was_cut


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_its_upload_takes_the_origin_along(gateway: MemoryGateway, how: str) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 500\r\n\r\nhalf")
    gateway.pump()
    getattr(client, how)()
    gateway.pump()
    assert origin.last.was_cut
    assert gateway.transactions()[0]["error"] is not None


def test_a_client_that_leaves_in_its_download_takes_the_origin_along(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    origin.last.send(HALVES["length"])
    gateway.pump()
    client.reset()
    gateway.pump()
    assert origin.last.vc.closing
    assert gateway.transactions()[0]["result"] == "TCP_MISS_ABORTED"


def test_a_client_that_leaves_while_the_origin_is_being_reached_is_not_replaced_by_a_ghost(
    gateway: MemoryGateway,
) -> None:
    gateway.origin("origin.test:80")
    for steps in (1, 2):
        held: list[Callable[[], None]] = []
        gateway.connector.held = held
        client = gateway.client()
        client.send(GET)
        gateway.pump()
        for _ in range(steps - 1):
            held.pop(0)()
            gateway.pump()
        client.reset()
        gateway.pump()
        for go_on in held:
            go_on()
        gateway.pump()
    assert len(gateway.connector.opened) == 1


# timers of a transaction


def test_an_origin_that_never_answers_is_a_504(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.loop.pass_time(59)
    assert client.got == b""
    gateway.loop.pass_time(2)
    (answer,) = responses(client.take())
    assert (answer.status, b"http_response_timeout" in answer.head) == (504, True)
    assert origin.last.was_cut
    assert not client.ended


def test_a_patient_client_may_wait_longer_than_it_may_be_idle(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[http]\nkeep_alive_timeout = 10s\nresponse_timeout = 60s\n")
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    loop.pass_time(40)
    origin.last.send(OK)
    gateway.pump()
    assert responses(client.take())[0].status == 200
    loop.pass_time(11)
    assert client.ended


@pytest.mark.parametrize("tls", [False, True])
def test_an_origin_whose_body_stands_still_is_given_up(loop: Loop, tls: bool) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + "[tunnel]\nidle_timeout = 30s")
    where = "origin.test:443" if tls else "origin.test:80"
    origin = gateway.origin(where, HALVES["length"], tls=gateway.leaf("origin.test") if tls else None)
    client = intercepted(gateway) if tls else gateway.client()
    client.send(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n" if tls else GET)
    loop.pass_time(29)
    assert not client.ended
    loop.pass_time(3)
    assert client.ended
    assert origin.last.was_cut
    assert gateway.transactions()[0]["error"] == "timeout"


def test_a_client_that_takes_nothing_is_given_up_and_not_its_origin(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[tunnel]\nidle_timeout = 30s")
    gateway.origin("origin.test:80", b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"d" * 9_000_000)
    client = gateway.client()
    client.reading = False
    client.send(GET)
    loop.pass_time(33)
    assert client.was_cut
    assert "stands still" in str(gateway.transactions()[0]["error"]) or gateway.transactions()[0]["error"] == "timeout"


def test_a_client_whose_upload_stands_still_gets_408(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[tunnel]\nidle_timeout = 30s")
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 500\r\n\r\nhalf")
    loop.pass_time(33)
    assert responses(client.take())[0].status == 408
    assert origin.last.was_cut


def test_an_origin_that_takes_no_upload_is_a_504(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[tunnel]\nidle_timeout = 30s")
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(POST + b"Content-Length: 9000000\r\n\r\n")
    gateway.pump()
    origin.last.reading = False
    client.send(b"u" * 9_000_000)
    loop.pass_time(33)
    (answer,) = responses(client.take())
    assert answer.status == 504
    client.close()


# what the proxy answers itself


def test_trace_and_options_stop_at_the_proxy_that_max_forwards_names(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    trace = b"TRACE http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nMax-Forwards: 0\r\nCookie: secret\r\n\r\n"
    (shown,) = asked(gateway, trace, client)
    assert shown.body.startswith(b"TRACE http://origin.test/ HTTP/1.1\r\n")
    assert b"secret" not in shown.body
    options = (
        b"OPTIONS http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n"
    )
    (allowed,) = asked(gateway, options, client)
    assert allowed.status == 204
    assert b"Connection: close" in allowed.head
    assert client.ended
    assert gateway.connector.opened == []


def test_a_loop_is_refused(gateway: MemoryGateway) -> None:
    (answer,) = asked(gateway, GET[:-2] + b"Via: 1.1 a, 1.1 sslintercept\r\n\r\n")
    assert (answer.status, b"http_loop_detected" in answer.head) == (508, True)


def test_a_page_for_head_has_no_body(gateway: MemoryGateway) -> None:
    client = gateway.client()
    (answer,) = asked(gateway, GET.replace(b"GET", b"HEAD"), client, b"HEAD")
    assert (answer.status, answer.body) == (502, b"")


def test_a_defect_while_an_origin_is_opened_is_a_page_and_a_traceback_in_the_log(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    gateway.origin("origin.test:80")
    gateway.connector.allowed = lambda host, port: Denied(str(1 // 0), "")
    (answer,) = asked(gateway, GET)
    assert (answer.status, b"proxy_internal_error" in answer.head) == (500, True)
    assert loop.failures.pop().type is ZeroDivisionError
    loop.failures.clear()


def test_https_may_be_asked_for_in_absolute_form(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    client = gateway.client()
    assert get(gateway, client, "https://origin.test/").body == b"hello"
    assert origin.last.version == "TLSv1.3"


def test_open_descriptors_do_not_grow(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        client = gateway.client()
        asked(gateway, GET, client)
        client.close()
    gateway.pump()
    gateway.pool.clear()
    gateway.loop.pass_time(5)
    for peer in gateway.connector.origins.popitem()[1].peers:
        peer.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 20


def session_of(client: Peer) -> HttpSession:
    found = client.vc.session
    assert isinstance(found, HttpSession)
    return found


def test_what_comes_before_the_next_request_has_begun_keeps_its_place(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", Answers(lambda head, body: answer_to(head)))
    client = gateway.client()
    asked(gateway, GET, client)
    session = session_of(client)
    session.hold(GET[:20])
    session.finished(True)
    session.dataReceived(GET[20:] + GET.replace(b"test/", b"test/2"))
    session.readConnectionLost()
    gateway.pump()
    assert [one.body for one in responses(client.take())] == [b"/", b"/2"]


def test_a_client_that_sent_far_ahead_is_read_again(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[http]\nmax_header = 1MiB")
    gateway.origin("origin.test:80")
    client = gateway.client()
    asked(gateway, GET, client)
    session = session_of(client)
    session.hold(GET[:-2] + b"X: ")
    session.finished(True)
    session.dataReceived(b"x" * (PIPELINE + 1))
    assert not client.vc.tcp.reading
    gateway.pump()
    assert client.vc.tcp.reading
    assert len(asked(gateway, b"\r\n\r\n", client)) == 1


def test_a_client_that_is_closed_before_its_next_request_begins_is_left_alone(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80")
    client = gateway.client()
    asked(gateway, GET, client)
    session = session_of(client)
    session.hold(GET)
    session.finished(True)
    client.vc.close()
    gateway.pump()
    assert client.got == b""
