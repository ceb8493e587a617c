"""The cache in a whole gateway: hits and misses, validation, sharing, what fails, and what must not be kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from sslintercept.cache.processor import CacheProcessor, Counters
from sslintercept.cache.resource import FRAGMENT, SMALL, document_key
from sslintercept.testing.gateway import Answers, MemoryGateway, ScriptedOrigin, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import EPOCH, Peer
from tests.http.test_session import asked
from tests.sequences.support import CLIENT_FIRST, Response, connected, get, intercepted, responses

CACHE = "[cache]\npath = cache\n"
URI = b"http://origin.test:80/"
LARGE = bytes(range(256)) * (FRAGMENT // 256) * 3 + b"the end"
FRESH = "Cache-Control: max-age=60"


@pytest.fixture
def gateway(loop: Loop) -> MemoryGateway:
    return MemoryGateway(loop, CACHE)


def ok(*fields: str, body: bytes = b"hello", status: str = "200 OK", chunked: bool = False) -> bytes:
    """An answer of an origin."""
    lines = [f"HTTP/1.1 {status}", *fields]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:5], body[5:]) if p) + b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def serve(gateway: MemoryGateway, answer: Callable[[bytes, bytes], bytes] | bytes) -> Answers:
    """An origin, and what it was asked."""
    script = Answers(answer)
    gateway.origin("origin.test:80", script)
    return script


def ask(gateway: MemoryGateway, *fields: str, method: bytes = b"GET", client: Peer | None = None) -> Response:
    """Ask for something and read the answer."""
    lines = [method.decode() + " http://origin.test/ HTTP/1.1", "Host: origin.test", *fields, "", ""]
    (found,) = asked(gateway, "\r\n".join(lines).encode(), client, method)
    return found


def said(response: Response) -> str:
    """What Cache-Status says."""
    lines = [line for line in response.head.split(b"\r\n") if line.lower().startswith(b"cache-status:")]
    return lines[0].partition(b":")[2].strip().decode() if lines else ""


def result(gateway: MemoryGateway) -> str:
    """The log's word for the last transaction."""
    return str(gateway.transactions()[-1]["result"])


def cache(gateway: MemoryGateway) -> CacheProcessor:
    """The gateway's."""
    assert gateway.cache is not None
    return gateway.cache


def forget_memory(gateway: MemoryGateway) -> None:
    """From now on everything has to come from the disk."""
    cache(gateway).memory.clear()


def revalidated(head: bytes, body: bytes) -> bytes:
    """An origin that knows one version."""
    if b'if-none-match: "v1"' in head.lower():
        return b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nCache-Control: max-age=60\r\nX-New: yes\r\n\r\n'
    return ok('ETag: "v1"', FRESH)


# hits


def test_what_is_fresh_is_answered_without_the_origin(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH, "Content-Type: text/plain"))
    first, second = ask(gateway), ask(gateway)
    assert (second.status, second.body, len(script.requests)) == (200, b"hello", 1)
    assert said(first) == "sslintercept; fwd=uri-miss; stored"
    assert said(second) == "sslintercept; hit; ttl=60"
    assert b"\r\nAge: 0\r\n" in second.head + b"\r\n"
    assert [line["result"] for line in gateway.transactions()] == ["TCP_MISS", "TCP_MEM_HIT"]


def test_a_hit_needs_no_connection_to_anybody(gateway: MemoryGateway) -> None:
    serve(gateway, ok(FRESH))
    ask(gateway)
    opened = len(gateway.connector.opened)
    gateway.connector.origins.clear()
    gateway.pool.clear()
    assert ask(gateway).body == b"hello"
    assert len(gateway.connector.opened) == opened


def test_it_grows_old(gateway: MemoryGateway, loop: Loop) -> None:
    script = serve(gateway, ok(FRESH))
    ask(gateway)
    loop.pass_time(59)
    assert b"Age: 59" in ask(gateway).head
    loop.pass_time(2)
    ask(gateway)
    assert len(script.requests) == 2


def test_head_is_answered_from_what_a_get_brought(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH))
    ask(gateway)
    found = ask(gateway, method=b"HEAD")
    assert (found.status, found.body, b"Content-Length: 5" in found.head, len(script.requests)) == (200, b"", True, 1)


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, FRAGMENT, FRAGMENT + 1, len(LARGE)])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("disk", [False, True])
def test_content_of_any_size_comes_back_as_it_was(gateway: MemoryGateway, size: int, chunked: bool, disk: bool) -> None:
    script = serve(gateway, ok(FRESH, body=LARGE[:size], chunked=chunked))
    assert ask(gateway).body == LARGE[:size]
    if disk:
        forget_memory(gateway)
    found = ask(gateway)
    assert found.body == LARGE[:size]
    assert len(script.requests) == 1
    assert b"Content-Length: %d" % size in found.head
    assert result(gateway) in (("TCP_HIT",) if disk and size > SMALL else ("TCP_MEM_HIT", "TCP_HIT"))
    assert not cache(gateway).buffered


def test_a_disk_that_takes_its_time_keeps_nobody_else(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    waiting, other = gateway.client(), gateway.client()
    waiting.send(b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    assert not waiting.got
    assert asked(gateway, b"GET http://origin.test/x HTTP/1.1\r\nHost: origin.test\r\n\r\n", other)[0].status == 200
    gateway.store.release()
    gateway.pump()
    assert responses(waiting.take())[0].body == b"hello"
    assert result(gateway) == "TCP_HIT"
    loop.pass_time(11)


def test_what_is_purged_is_gone_before_the_disk_has_read_anything(gateway: MemoryGateway) -> None:
    serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    assert [cache(gateway).purge(URI) for _ in range(2)] == [True, False]
    assert not gateway.store.has(document_key(URI))


def test_a_client_that_leaves_while_the_disk_is_asked_is_forgotten(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    client = gateway.client()
    client.send(b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    client.reset()
    gateway.pump()
    gateway.store.release()
    gateway.pump()
    assert result(gateway) == "NONE"
    loop.pass_time(11)


def test_requests_in_a_row_are_hits_one_after_the_other(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH))
    raw = b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n" * 50
    assert [one.body for one in asked(gateway, raw)] == [b"hello"] * 50
    assert len(script.requests) == 1


def test_a_slow_client_holds_a_bounded_part_of_a_large_hit(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "memory = 0KiB\n")
    serve(gateway, ok(FRESH, body=LARGE * 4))
    ask(gateway)
    client = gateway.client(buffer=32768)
    client.reading = False
    client.send(b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    before = gateway.store.reads
    gateway.pump()
    assert gateway.store.reads - before <= 3
    assert client.vc.pending() < FRAGMENT + 200_000
    client.reading = True
    gateway.pump()
    assert responses(client.take())[0].body == LARGE * 4


# conditions and ranges of clients


def test_a_client_that_has_it_gets_304(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"'))
    ask(gateway)
    found = ask(gateway, 'If-None-Match: "v1"')
    assert (found.status, found.body, len(script.requests)) == (304, b"", 1)


@pytest.mark.parametrize("size", [1000, len(LARGE)])
@pytest.mark.parametrize("disk", [False, True])
def test_a_range_is_cut_out_of_the_whole(gateway: MemoryGateway, size: int, disk: bool) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"', body=LARGE[:size]))
    ask(gateway)
    for first, last in ((0, 0), (10, 99), (size - 5, size - 1), (size // 2, size - 1)):
        if disk:
            forget_memory(gateway)
        found = ask(gateway, f"Range: bytes={first}-{last}")
        assert (found.status, found.body) == (206, LARGE[first : last + 1])
        assert f"Content-Range: bytes {first}-{last}/{size}".encode() in found.head
    assert ask(gateway, f"Range: bytes={size}-").status == 416
    assert len(script.requests) == 1


def parts(head: bytes, body: bytes) -> bytes:
    """An origin that serves ranges of one representation."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"range: bytes="):
            first, last = (int(n) for n in line[13:].split(b"-"))
            span = f"Content-Range: bytes {first}-{last}/{len(LARGE)}"
            return ok(FRESH, 'ETag: "v1"', span, body=LARGE[first : last + 1], status="206 Partial Content")
    return ok(FRESH, 'ETag: "v1"', body=LARGE)


def test_parts_are_kept_and_combined(gateway: MemoryGateway) -> None:
    script = serve(gateway, parts)
    size, middle = len(LARGE), len(LARGE) // 2
    ask(gateway, f"Range: bytes=0-{middle}")
    assert ask(gateway, f"Range: bytes=100-{middle - 100}").body == LARGE[100 : middle - 99]
    assert len(script.requests) == 1
    ask(gateway, f"Range: bytes={middle - 50}-{size - 1}")
    assert len(script.requests) == 2
    assert ask(gateway).body == LARGE
    assert len(script.requests) == 2


def test_a_part_that_is_not_there_is_the_origins(gateway: MemoryGateway) -> None:
    script = serve(gateway, parts)
    ask(gateway, "Range: bytes=0-99")
    assert ask(gateway, "Range: bytes=50-149").body == LARGE[50:150]
    assert ask(gateway).body == LARGE
    assert len(script.requests) == 3


def test_a_response_cut_short_serves_for_its_part(gateway: MemoryGateway) -> None:
    answer = ok(FRESH, 'ETag: "v1"', body=LARGE)

    def half(peer: Peer) -> None:
        peer.take()
        peer.send(answer[: len(answer) // 2])
        peer.close()

    origin = gateway.origin("origin.test:80", half)
    client = gateway.client()
    client.send(b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    assert ask(gateway, "Range: bytes=1000-1999").body == LARGE[1000:2000]
    assert len(origin.peers) == 1


# validation


def test_what_is_stale_is_validated_and_renewed(gateway: MemoryGateway, loop: Loop) -> None:
    script = serve(gateway, revalidated)
    ask(gateway)
    loop.pass_time(61)
    found = ask(gateway)
    assert (found.status, found.body, b"X-New: yes" in found.head) == (200, b"hello", True)
    assert said(found) == "sslintercept; fwd=stale; fwd-status=304; ttl=60; stored"
    assert result(gateway) == "TCP_REFRESH_UNMODIFIED"
    assert (ask(gateway).body, len(script.requests)) == (b"hello", 2)
    assert len(gateway.pool) == 1


def test_what_has_changed_takes_its_place(gateway: MemoryGateway, loop: Loop) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)
    script.answer = lambda head, body: ok(FRESH, 'ETag: "v2"', body=b"other")
    assert ask(gateway).body == b"other"
    assert result(gateway) == "TCP_REFRESH_MODIFIED"
    assert (ask(gateway).body, len(script.requests)) == (b"other", 2)


def test_a_client_with_its_own_copy_gets_304_behind_a_validation(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, revalidated)
    ask(gateway)
    loop.pass_time(61)
    assert ask(gateway, 'If-None-Match: "v1"').status == 304


def test_a_304_about_something_else_is_asked_again_plainly(gateway: MemoryGateway, loop: Loop) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)

    def odd(head: bytes, body: bytes) -> bytes:
        if b"if-none-match" in head.lower():
            return b'HTTP/1.1 304 Not Modified\r\nETag: "v9"\r\n\r\n'
        return ok(FRESH, body=b"plain")

    script.answer = odd
    assert ask(gateway).body == b"plain"
    assert len(script.requests) == 3


@pytest.mark.parametrize(("field", "count"), [("X: y", 2), ('If-None-Match: "v0"', 3)])
def test_a_304_without_a_validator_means_the_only_one_it_was_asked_about(
    gateway: MemoryGateway, loop: Loop, field: str, count: int
) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)
    bare = b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n"
    script.answer = lambda head, body: bare if b"if-none-match" in head.lower() else ok(FRESH)
    assert ask(gateway, field).body == b"hello"
    assert len(script.requests) == count


@pytest.mark.parametrize("validators", [('ETag: "v1"',), ()])
def test_an_origin_that_fails_is_stood_in_for(gateway: MemoryGateway, loop: Loop, validators: tuple[str, ...]) -> None:
    script = serve(gateway, ok("Cache-Control: max-age=60, stale-if-error=600", *validators))
    ask(gateway)
    loop.pass_time(61)
    script.answer = lambda head, body: ok(status="503 Service Unavailable")
    found = ask(gateway)
    assert (found.status, found.body) == (200, b"hello")
    assert said(found) == "sslintercept; fwd=stale; fwd-status=503; ttl=-1"
    gateway.connector.origins.clear()
    gateway.pool.clear()
    assert ask(gateway).body == b"hello"
    assert result(gateway) == "TCP_REFRESH_FAIL_OLD"


def test_nothing_stands_in_without_leave(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, ok(FRESH, 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)
    gateway.connector.origins.clear()
    gateway.pool.clear()
    assert ask(gateway).status == 502


def test_stale_while_revalidate_answers_and_asks_meanwhile(gateway: MemoryGateway, loop: Loop) -> None:
    script = serve(gateway, ok("Cache-Control: max-age=60, stale-while-revalidate=600", 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)
    script.answer = revalidated
    assert ask(gateway).body == b"hello"
    assert len(script.requests) == 2
    assert b'if-none-match: "v1"' in script.requests[1].lower()
    found = ask(gateway)
    assert (b"X-New: yes" in found.head, len(script.requests)) == (True, 2)
    assert not cache(gateway).refreshing


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_what_is_asked_meanwhile_may_have_changed(gateway: MemoryGateway, loop: Loop, size: int) -> None:
    script = serve(gateway, ok("Cache-Control: max-age=60, stale-while-revalidate=600", 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)
    script.answer = lambda head, body: ok(FRESH, 'ETag: "v2"', body=LARGE[:size])
    assert ask(gateway).body == b"hello"
    assert ask(gateway).body == LARGE[:size]
    assert len(script.requests) == 2


def test_an_origin_that_is_gone_meanwhile_changes_nothing(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, ok("Cache-Control: max-age=60, stale-while-revalidate=600", 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)
    gateway.connector.origins.clear()
    gateway.pool.clear()
    assert [ask(gateway).body for _ in range(2)] == [b"hello"] * 2
    assert not cache(gateway).refreshing


def test_only_if_cached_never_asks(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH))
    found = ask(gateway, "Cache-Control: only-if-cached")
    assert (found.status, script.requests) == (504, [])


# what makes it invalid


def test_an_unsafe_method_makes_it_go(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH))
    ask(gateway)
    ask(gateway, "Content-Length: 0", method=b"POST")
    ask(gateway)
    assert len(script.requests) == 3


def test_an_unsafe_method_that_fails_changes_nothing(gateway: MemoryGateway) -> None:
    script = serve(gateway, lambda head, body: ok(status="403 No") if head.startswith(b"PUT") else ok(FRESH))
    ask(gateway)
    ask(gateway, "Content-Length: 0", method=b"PUT")
    ask(gateway)
    assert len(script.requests) == 2


def test_what_is_being_written_when_it_becomes_invalid_is_not_kept(gateway: MemoryGateway) -> None:
    answer = ok(FRESH, body=LARGE)
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    gateway.pump()
    origin.last.send(answer[:100_000])
    gateway.pump()
    cache(gateway).purge(URI)
    origin.last.send(answer[100_000:])
    gateway.pump()
    assert responses(client.take())[0].body == LARGE
    assert not gateway.store.documents or document_key(URI) not in gateway.store.documents


def test_a_head_that_says_otherwise_makes_it_be_validated(gateway: MemoryGateway) -> None:
    script = serve(gateway, lambda head, body: ok(FRESH, 'ETag: "v1"') if b"GET" in head[:4] else head_of('"v2"'))
    ask(gateway)
    ask(gateway, "Cache-Control: no-cache", method=b"HEAD")
    ask(gateway)
    assert len(script.requests) == 3


def head_of(tag: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: 5\r\n\r\n".encode()


# alternates


def test_vary_keeps_alternates_apart(gateway: MemoryGateway) -> None:
    def by_language(head: bytes, body: bytes) -> bytes:
        language = b"de" if b"accept-language: de" in head.lower() else b"en"
        return ok(FRESH, "Vary: Accept-Language", body=language)

    script = serve(gateway, by_language)
    for _ in range(2):
        assert ask(gateway, "Accept-Language: de").body == b"de"
        assert ask(gateway, "Accept-Language: en").body == b"en"
    assert len(script.requests) == 2


def test_alternates_are_bounded(gateway: MemoryGateway) -> None:
    serve(gateway, lambda head, body: ok(FRESH, "Vary: X-Who", body=head[-4:]))
    for n in range(30):
        ask(gateway, f"X-Who: {n:04}")
    kept: list[int] = []
    cache(gateway).find(URI, lambda resource: kept.append(len(resource.alternates) if resource else 0))
    assert kept == [8]


# one request for many


GET = b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n"


def waiting_clients(gateway: MemoryGateway, count: int, *raw: bytes) -> tuple[ScriptedOrigin, list[Peer]]:
    """Clients that all want the same, from an origin that takes its time."""
    origin = gateway.origin("origin.test:80", silent)
    clients = [gateway.client() for _ in range(count)]
    for n, client in enumerate(clients):
        client.send(raw[n] if n < len(raw) else GET)
    gateway.pump()
    return origin, clients


@pytest.mark.parametrize("size", [5, len(LARGE)])
@pytest.mark.parametrize("full", [False, True])
def test_many_clients_make_one_request(gateway: MemoryGateway, size: int, full: bool) -> None:
    origin, clients = waiting_clients(gateway, 20)
    gateway.store.full = full and size > SMALL
    assert len(origin.peers) == 1
    answer = ok(FRESH, body=LARGE[:size])
    origin.last.send(answer[:200])
    gateway.pump()
    origin.last.send(answer[200:])
    gateway.pump()
    for client in clients:
        (found,) = responses(client.take())
        assert found.body == LARGE[:size]
    assert len(origin.peers) == 1
    assert "collapsed" in said(found)
    assert not cache(gateway).buffered


def test_content_is_read_while_it_is_written(gateway: MemoryGateway) -> None:
    origin, (first,) = waiting_clients(gateway, 1)
    answer = ok(FRESH, body=LARGE)
    origin.last.send(answer[: FRAGMENT + 5000])
    gateway.pump()
    late = gateway.client()
    late.send(GET)
    gateway.pump()
    assert len(late.got) > FRAGMENT
    origin.last.send(answer[FRAGMENT + 5000 :])
    gateway.pump()
    assert responses(late.take())[0].body == responses(first.take())[0].body == LARGE
    assert len(origin.peers) == 1


def test_whoever_reads_along_sees_that_it_ended_early(gateway: MemoryGateway) -> None:
    origin, (_, late) = waiting_clients(gateway, 2)
    origin.last.send(ok(FRESH, body=LARGE)[:100_000])
    gateway.pump()
    origin.last.close()
    gateway.pump()
    assert late.ended
    assert len(late.take()) < len(LARGE)
    assert not cache(gateway).writings
    assert not cache(gateway).buffered


def test_those_who_waited_for_what_cannot_be_shared_go_their_own_way(gateway: MemoryGateway) -> None:
    origin, clients = waiting_clients(gateway, 5)
    origin.respond = script = Answers(ok("Cache-Control: no-store"))
    origin.last.received = script
    script(origin.last)
    gateway.pump()
    assert [responses(client.take())[0].body for client in clients] == [b"hello"] * 5
    assert len(script.requests) == 5


def test_nobody_waits_for_ever(gateway: MemoryGateway, loop: Loop) -> None:
    origin, clients = waiting_clients(gateway, 2)
    loop.pass_time(11)
    assert len(origin.peers) == 2
    origin.last.send(ok(FRESH))
    gateway.pump()
    assert responses(clients[1].take())[0].body == b"hello"


@pytest.mark.parametrize("field", [b"Authorization: Basic YTpi", b"Range: bytes=0-1", b"Cache-Control: no-cache"])
def test_who_is_not_like_the_others_does_not_wait(gateway: MemoryGateway, field: bytes) -> None:
    origin, _ = waiting_clients(gateway, 2, GET, GET[:-2] + field + b"\r\n\r\n")
    assert len(origin.peers) == 2


def test_when_the_first_one_leaves_the_others_still_get_it(gateway: MemoryGateway) -> None:
    origin, (first, second) = waiting_clients(gateway, 2)
    answer = ok(FRESH, body=LARGE)
    origin.last.send(answer[:1_000_000])
    gateway.pump()
    first.reset()
    gateway.pump()
    origin.last.send(answer[1_000_000:])
    gateway.pump()
    assert responses(second.take())[0].body == LARGE
    assert ask(gateway).body == LARGE
    assert len(origin.peers) == 1


def test_when_the_first_one_leaves_before_the_answer_another_one_asks(gateway: MemoryGateway) -> None:
    origin, (first, second) = waiting_clients(gateway, 2)
    first.reset()
    gateway.pump()
    assert len(origin.peers) == 2
    origin.last.send(ok(FRESH))
    gateway.pump()
    assert responses(second.take())[0].body == b"hello"


# background fill


def test_a_response_whose_client_has_left_comes_to_its_end(gateway: MemoryGateway) -> None:
    origin, (client,) = waiting_clients(gateway, 1)
    answer = ok(FRESH, body=LARGE)
    origin.last.send(answer[:50_000])
    gateway.pump()
    client.reset()
    gateway.pump()
    assert gateway.transactions()[-1]["error"] == "client"
    origin.last.send(answer[50_000:])
    gateway.pump()
    assert ask(gateway).body == LARGE
    assert len(origin.peers) == 1
    assert len(gateway.pool) == 1


def test_one_of_which_much_is_left_does_not(gateway: MemoryGateway) -> None:
    origin, (client,) = waiting_clients(gateway, 1)
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000000\r\n\r\n"
    origin.last.send(head + bytes(50_000))
    gateway.pump()
    client.reset()
    gateway.pump()
    assert origin.last.ended
    assert not cache(gateway).writings
    assert not cache(gateway).buffered


# what must not be kept


@pytest.mark.parametrize("fields", [("Cache-Control: no-store",), ("Cache-Control: private, max-age=9",), ()])
def test_what_may_not_be_kept_is_not(gateway: MemoryGateway, fields: tuple[str, ...]) -> None:
    script = serve(gateway, ok(*fields))
    assert said(ask(gateway)) == "sslintercept; fwd=uri-miss"
    ask(gateway)
    assert (len(script.requests), gateway.store.documents) == (2, {})


def test_a_tunnel_in_the_clear_to_somebody_else_poisons_nothing(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "[http]\nconnect_ports = *\n")
    gateway.origin("evil.test:80", Answers(ok(FRESH, body=b"evil")))
    serve(gateway, ok(FRESH, body=b"good"))
    client = connected(gateway, "evil.test:80")
    assert get(gateway, client, host="origin.test").body == b"evil"
    assert ask(gateway).body == b"good"
    assert ask(gateway).body == b"good"


def test_what_was_decrypted_is_kept_only_where_that_is_wanted(loop: Loop) -> None:
    for decrypted, count in (("no", 2), ("yes", 1)):
        gateway = MemoryGateway(loop, CLIENT_FIRST + CACHE + f"decrypted = {decrypted}\n")
        script = Answers(ok(FRESH))
        gateway.origin("origin.test:443", script, tls=gateway.leaf("origin.test"))
        for _ in range(2):
            assert get(gateway, intercepted(gateway)).body == b"hello"
        assert len(script.requests) == count


def test_a_decrypted_hit_needs_no_origin(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + CACHE + "decrypted = yes\n")
    gateway.origin("origin.test:443", Answers(ok(FRESH)), tls=gateway.leaf("origin.test"))
    get(gateway, intercepted(gateway))
    gateway.pool.clear()
    opened = len(gateway.connector.opened)
    client = intercepted(gateway)
    assert get(gateway, client).body == b"hello"
    assert len(gateway.connector.origins) == 1
    assert len(gateway.connector.opened) - opened <= 1


def test_an_origin_that_has_not_proved_who_it_is_poisons_nothing(loop: Loop) -> None:
    ini = CLIENT_FIRST.replace("[upstream-tls]\n", "[upstream-tls]\nverify = report\n") + CACHE + "decrypted = yes\n"
    gateway = MemoryGateway(loop, ini)
    script = Answers(ok(FRESH))
    gateway.origin("origin.test:443", script, tls=gateway.leaf("other.test"))
    for _ in range(2):
        get(gateway, intercepted(gateway))
    assert len(script.requests) == 2


def test_a_rule_switches_it_off(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "[rule:r]\nmatch = host:origin.test\naction = intercept\ncache = off\n")
    script = serve(gateway, ok(FRESH))
    assert said(ask(gateway)) == ""
    ask(gateway)
    assert (len(script.requests), gateway.store.documents) == (2, {})


def test_a_rule_pins_what_is_kept(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "[rule:r]\nmatch = host:origin.test\naction = intercept\npin = 1h\n")
    serve(gateway, ok(FRESH, body=LARGE))
    ask(gateway)
    assert set(gateway.store.pinned.values()) == {EPOCH + 3600}


def test_without_a_path_there_is_no_cache(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    script = serve(gateway, ok(FRESH))
    assert said(ask(gateway)) == ""
    ask(gateway)
    assert (len(script.requests), gateway.cache) == (2, None)


# what fails


def test_a_disk_that_is_full_costs_no_request(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH, body=LARGE))
    gateway.store.full = True
    assert [ask(gateway).body for _ in range(2)] == [LARGE] * 2
    assert (len(script.requests), gateway.store.documents) == (2, {})
    assert cache(gateway).counters.abandoned == 2


@pytest.mark.parametrize("damage", ["gone", "rubbish"])
def test_a_document_that_cannot_be_read_is_a_miss(gateway: MemoryGateway, damage: str) -> None:
    script = serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.documents[document_key(URI)] = b"" if damage == "gone" else os.urandom(500)
    assert ask(gateway).body == b"hello"
    assert ask(gateway).body == b"hello"
    assert len(script.requests) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_content_that_was_lost_is_fetched_anew(gateway: MemoryGateway, number: int) -> None:
    script = serve(gateway, ok(FRESH, body=LARGE))
    ask(gateway)
    forget_memory(gateway)
    lost = [key for key in gateway.store.documents if key != document_key(URI)][number]
    del gateway.store.documents[lost]
    assert ask(gateway).body == LARGE
    assert len(script.requests) == 2
    assert (cache(gateway).counters.overwritten, cache(gateway).counters.damaged) == (1, 0)


def test_content_that_turns_out_to_be_damaged_is_fetched_anew(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH, body=LARGE))
    ask(gateway)
    forget_memory(gateway)
    first = next(key for key in gateway.store.documents if key != document_key(URI))
    gateway.store.documents[first] = b"short"
    assert ask(gateway).body == LARGE
    assert len(script.requests) == 2
    assert (cache(gateway).counters.overwritten, cache(gateway).counters.damaged) == (0, 1)


def damaged_further_on(gateway: MemoryGateway) -> None:
    """The third fragment of what is stored is not what it was."""
    forget_memory(gateway)
    third = [key for key in gateway.store.documents if key != document_key(URI)][2]
    gateway.store.documents[third] = b"short"


@pytest.mark.parametrize("asked_for", ["", f"Range: bytes=10-{len(LARGE) - 3}"])
def test_what_is_damaged_further_on_is_completed_by_the_origin(gateway: MemoryGateway, asked_for: str) -> None:
    script = serve(gateway, parts)
    ask(gateway)
    damaged_further_on(gateway)
    fields = [asked_for] if asked_for else []
    assert ask(gateway, *fields).body == (LARGE[10:-2] if asked_for else LARGE)
    assert len(script.requests) == 2
    assert b'if-range: "v1"' in script.requests[1].lower()
    assert len(gateway.pool) == 1
    assert ask(gateway).body == LARGE
    assert len(script.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        ok('ETag: "v2"', "Content-Range: bytes 2097152-3145734/3145735", body=LARGE[2097152:], status="206 Partial"),
        ok('ETag: "v1"', "Content-Range: bytes 2097153-3145734/3145735", body=LARGE[2097153:], status="206 Partial"),
        ok('ETag: "v2"', body=LARGE),
        ok(status="503 No"),
        b"",
    ],
)
def test_what_the_origin_says_of_something_else_is_not_put_behind_it(gateway: MemoryGateway, answer: bytes) -> None:
    script = serve(gateway, parts)
    ask(gateway)
    damaged_further_on(gateway)
    script.answer = lambda head, body: answer
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    if not answer:
        gateway.connector.origins.popitem()[1].last.close()
        gateway.pump()
    assert client.ended
    body = bytes(client.got).partition(b"\r\n\r\n")[2]
    assert body == LARGE[: 2 * FRAGMENT]


def test_without_a_strong_tag_the_client_sees_that_it_is_not_all(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: W/"v1"', body=LARGE))
    ask(gateway)
    damaged_further_on(gateway)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    assert client.ended
    assert len(client.got) < len(LARGE)
    assert len(script.requests) == 1


def test_a_slow_client_holds_the_origin_that_completes(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE)
    large = LARGE * 4

    def ranged(head: bytes, body: bytes) -> bytes:
        if b"\r\nRange:" not in head:
            return ok(FRESH, 'ETag: "v1"', body=large)
        first = int(head.split(b"Range: bytes=")[1].split(b"-")[0])
        span = f"Content-Range: bytes {first}-{len(large) - 1}/{len(large)}"
        return ok(FRESH, 'ETag: "v1"', span, body=large[first:], status="206 Partial")

    serve(gateway, ranged)
    ask(gateway)
    damaged_further_on(gateway)
    client = gateway.client(buffer=32768)
    client.send(GET)
    while len(client.got) < 2 * FRAGMENT + 100_000:
        loop.turn()
    client.reading = False
    gateway.pump()
    assert client.vc.pending() < 1_000_000
    client.reading = True
    gateway.pump()
    assert responses(client.take())[0].body == large


@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_a_disk_that_never_answers_is_waited_for_only_so_long(gateway: MemoryGateway, loop: Loop, size: int) -> None:
    script = serve(gateway, ok("Cache-Control: max-age=600", body=LARGE[:size]))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    loop.pass_time(9)
    assert not client.got
    loop.pass_time(4)
    assert responses(client.take())[0].body == LARGE[:size]
    assert len(script.requests) == 2
    gateway.store.release()
    assert cache(gateway).counters.late == 1
    loop.pass_time(11)


def test_what_is_larger_than_allowed_is_not_kept(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "largest = 64KiB\n")
    for chunked in (False, True):
        serve(gateway, ok(FRESH, body=LARGE, chunked=chunked))
        assert ask(gateway).body == LARGE
    assert document_key(URI) not in gateway.store.documents
    assert not cache(gateway).buffered


# with transforms

REPLACE = "[transform:t]\nuse = replace-text\nfind = hello\nreplace = goodbye\n"


@pytest.mark.parametrize("body", [b"hello", b"hello" * SMALL])
def test_transforms_see_hits_and_misses_and_the_cache_keeps_what_came(loop: Loop, body: bytes) -> None:
    gateway = MemoryGateway(loop, CACHE + REPLACE)
    script = serve(gateway, ok(FRESH, "Content-Type: text/plain", body=body))
    for _ in range(2):
        assert ask(gateway).body == body.replace(b"hello", b"goodbye")
        forget_memory(gateway)
    assert len(script.requests) == 1
    gateway.proxy.transforms = None
    assert ask(gateway).body == body


def test_counters_count_each_request_once(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, revalidated)
    for _ in range(3):
        ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    gateway.store.release()
    gateway.pump()
    loop.pass_time(61)
    ask(gateway)
    counters = cache(gateway).counters
    assert counters == Counters(
        memory_hits=2, disk_hits=1, validated=1, misses=1, stored=1, bytes_served=20, bytes_stored=5
    )


# what was decided once


def test_what_was_decided_for_one_plain_request_holds_for_others_until_it_is_stale(
    gateway: MemoryGateway, loop: Loop
) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"', "X: y"))
    decided = [ask(gateway) for _ in range(2)][1]
    loop.pass_time(7)
    again = ask(gateway)
    assert (again.status, again.body) == (decided.status, decided.body)
    assert b"\r\nAge: 7\r\n" in again.head + b"\r\n"
    assert said(again) == "sslintercept; hit; ttl=53"
    names = [sorted(line.partition(b":")[0] for line in one.head.split(b"\r\n")) for one in (decided, again)]
    assert names[0] == names[1]
    loop.pass_time(54)
    script.answer = revalidated
    assert said(ask(gateway)).startswith("sslintercept; fwd=stale")


@pytest.mark.parametrize(
    ("field", "status", "count"),
    [
        ('If-None-Match: "v1"', 304, 1),
        ("Range: bytes=0-1", 206, 1),
        ("Cache-Control: no-cache", 200, 2),
        ("Pragma: no-cache", 200, 2),
        ("cache-control: max-age=0", 200, 2),
        ("If-Match: *", 200, 2),
        ("Authorization: Basic YTpi", 200, 1),
    ],
)
def test_it_does_not_hold_for_who_asks_for_more(
    gateway: MemoryGateway, loop: Loop, field: str, status: int, count: int
) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"'))
    for _ in range(3):
        ask(gateway)
    loop.pass_time(1)
    assert ask(gateway, field).status == status
    assert len(script.requests) == count


def test_it_does_not_hold_behind_a_change(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH))
    for _ in range(3):
        ask(gateway)
    cache(gateway).purge(URI)
    ask(gateway)
    assert len(script.requests) == 2


def test_it_is_never_decided_for_what_varies(gateway: MemoryGateway) -> None:
    serve(gateway, lambda head, body: ok(FRESH, "Vary: X", body=b"1" if b"X: 1" in head else b"2"))
    for _ in range(3):
        assert (ask(gateway, "X: 1").body, ask(gateway, "X: 2").body) == (b"1", b"2")


def test_a_hit_costs_few_calls(gateway: MemoryGateway) -> None:
    serve(gateway, ok(FRESH, body=b"x" * 1024))
    client = gateway.client()
    for _ in range(3):
        ask(gateway, client=client)
    gateway.facts[-1].sequence = None
    calls = 0

    def count(frame: object, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        client.vc.session.dataReceived(GET)
    finally:
        sys.setprofile(None)
    gateway.pump()
    assert responses(client.take())[0].status == 200
    assert calls < 80
