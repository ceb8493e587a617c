"""The cache where things go wrong at once, or are made to: nothing may mix up clients, or stay behind."""

from __future__ import annotations

import pytest

from sslintercept.cache import reading
from sslintercept.cache.resource import FRAGMENT, SMALL, Resource, document_key
from sslintercept.testing.gateway import Answers, MemoryGateway, ScriptedOrigin, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import EPOCH, Peer
from tests.http.test_cache import (
    CACHE,
    FRESH,
    GET,
    LARGE,
    REPLACE,
    URI,
    ask,
    cache,
    forget_memory,
    ok,
    revalidated,
    said,
    serve,
    waiting_clients,
)
from tests.sequences.support import CLIENT_FIRST, get, intercepted, responses


@pytest.fixture
def gateway(loop: Loop) -> MemoryGateway:
    return MemoryGateway(loop, CACHE)


# requests that must stay whole


def test_the_content_of_a_get_is_not_its_next_request(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    client = gateway.client()
    content = b"GET http://origin.test/smuggled HTTP/1.1\r\nHost: origin.test\r\n\r\n"
    client.send(GET[:-2] + b"Content-Length: %d\r\n\r\n" % len(content))
    gateway.pump()
    client.send(content)
    gateway.pump()
    gateway.store.release()
    gateway.pump()
    assert len(responses(client.take())) == 1
    assert script.bodies[1:] == [content]


# what was decided once


def test_it_is_not_decided_once_for_all_beside_an_alternate_that_varies(gateway: MemoryGateway) -> None:
    def answer(head: bytes, body: bytes) -> bytes:
        return ok(FRESH, "Vary: X", body=b"one") if b"\r\nX: 1" in head else ok(FRESH, body=b"other")

    serve(gateway, answer)
    ask(gateway, "X: 1")
    ask(gateway, "X: 2")
    for _ in range(2):
        assert (ask(gateway, "X: 2").body, ask(gateway, "X: 1").body) == (b"other", b"one")


def test_a_clock_that_goes_back_makes_nothing_younger_than_it_came(gateway: MemoryGateway) -> None:
    serve(gateway, ok(FRESH, "Age: 5"))
    for _ in range(3):
        ask(gateway)
    real = cache(gateway).wall_clock
    cache(gateway).wall_clock = lambda: real() - 3600
    assert b"\r\nAge: 5" in ask(gateway).head


# validation


def large(head: bytes, body: bytes) -> bytes:
    """An origin that knows one version of something large."""
    return revalidated(head, body) if b"if-none-match" in head.lower() else ok('ETag: "v1"', FRESH, body=LARGE)


def test_who_asked_for_no_304_gets_none_when_confirmed_content_is_damaged(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, large)
    ask(gateway)
    loop.pass_time(61)
    forget_memory(gateway)
    first = next(key for key in gateway.store.documents if key != document_key(URI))
    gateway.store.documents[first] = b"short"
    found = ask(gateway)
    assert (found.status, found.body) == (200, LARGE)


def test_who_asked_for_a_range_gets_no_304_when_a_transform_needs_all(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + REPLACE)
    body = b"hello" * SMALL

    def answer(head: bytes, _: bytes) -> bytes:
        if b"if-none-match" in head.lower():
            return revalidated(head, b"")
        return ok('ETag: "v1"', FRESH, "Content-Type: text/plain", body=body)

    serve(gateway, answer)
    ask(gateway)
    loop.pass_time(61)
    found = ask(gateway, "Range: bytes=0-9")
    assert (found.status, found.body) == (200, body.replace(b"hello", b"goodbye"))


def test_bytes_behind_a_304_about_something_else_cost_the_connection(gateway: MemoryGateway, loop: Loop) -> None:
    script = serve(gateway, ok(FRESH, 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)

    opened: list[int] = []

    def odd(head: bytes, body: bytes) -> bytes:
        opened.append(len(gateway.connector.opened))
        if b"if-none-match" in head.lower():
            return b'HTTP/1.1 304 Not Modified\r\nETag: "v9"\r\n\r\n' + b"HTTP/1.1 200 OK\r\nContent-"
        return ok(FRESH, body=b"plain")

    script.answer = odd
    assert ask(gateway).body == b"plain"
    assert opened[0] < opened[1]


def test_only_if_cached_asks_nobody_when_the_content_is_lost(gateway: MemoryGateway) -> None:
    script = serve(gateway, ok(FRESH, body=LARGE))
    ask(gateway)
    forget_memory(gateway)
    first = next(key for key in gateway.store.documents if key != document_key(URI))
    gateway.store.documents[first] = b"short"
    assert ask(gateway, "Cache-Control: only-if-cached").status == 504
    assert len(script.requests) == 1


# spellings


@pytest.mark.parametrize("host", ["origin.test.", "origin.test:80", "origin.test:0080"])
def test_an_odd_spelling_of_a_host_does_not_choose_what_others_get(gateway: MemoryGateway, host: str) -> None:
    def by_host(head: bytes, body: bytes) -> bytes:
        known = b"\r\nhost: origin.test\r\n" in head.lower() + b"\r\n"
        return ok(FRESH, body=b"right") if known else ok(FRESH, status="404 Not Found", body=b"wrong")

    serve(gateway, by_host)
    client = gateway.client()
    client.send(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    gateway.pump()
    assert responses(client.take())[0].body == b"wrong"
    assert ask(gateway).body == b"right"


# sharing


def test_nobody_waits_for_an_answer_that_was_not_shared_the_last_time(gateway: MemoryGateway) -> None:
    serve(gateway, ok("Cache-Control: no-store"))
    ask(gateway)
    gateway.pool.clear()
    origin, clients = waiting_clients(gateway, 3)
    assert len(origin.peers) == len(clients)


# pins


def test_what_is_validated_stays_pinned(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "[rule:r]\nmatch = host:origin.test\naction = intercept\npin = 1h\n")
    serve(gateway, revalidated)
    ask(gateway)
    loop.pass_time(61)
    ask(gateway)
    assert set(gateway.store.pinned.values()) == {EPOCH + 3661}


def test_what_is_asked_meanwhile_is_pinned_as_well(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "[rule:r]\nmatch = host:origin.test\naction = intercept\npin = 1h\n")
    script = serve(gateway, ok("Cache-Control: max-age=60, stale-while-revalidate=600", 'ETag: "v1"'))
    ask(gateway)
    loop.pass_time(61)
    script.answer = lambda head, body: ok(FRESH, 'ETag: "v2"')
    ask(gateway)
    assert set(gateway.store.pinned.values()) == {EPOCH + 3661}


# parts


def partial(head: bytes, body: bytes) -> bytes:
    """An origin whose every part is shorter than it says."""
    if b"range:" in head.lower():
        said = "Content-Range: bytes 0-99/1000"
        return ok(FRESH, 'ETag: "v1"', said, body=b"x" * 50, status="206 Partial Content", chunked=True)
    return ok(FRESH, 'ETag: "v1"', body=b"x" * 1000)


def test_a_part_that_is_not_as_long_as_it_says_is_not_kept(gateway: MemoryGateway) -> None:
    script = serve(gateway, partial)
    ask(gateway, "Range: bytes=0-99")
    assert document_key(URI) not in gateway.store.documents
    ask(gateway, "Range: bytes=0-99")
    assert len(script.requests) == 2


def test_many_small_parts_make_no_large_document(gateway: MemoryGateway) -> None:
    def answer(head: bytes, body: bytes) -> bytes:
        first = int(head.partition(b"bytes=")[2].partition(b"-")[0])
        said = f"Content-Range: bytes {first}-{first}/100000"
        return ok(FRESH, 'ETag: "v1"', said, body=b"x", status="206 Partial Content")

    serve(gateway, answer)
    for n in range(300):
        ask(gateway, f"Range: bytes={n}-{n}")
    kept = cache(gateway).memory.get(URI)
    assert isinstance(kept, Resource)
    assert len(kept.alternates[0].pieces) <= 256


def test_a_part_of_something_stale_that_a_transform_cannot_use_is_asked_for_plainly(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + REPLACE)
    fields = (FRESH, 'ETag: "v1"', "Content-Type: text/plain")

    def answer(head: bytes, body: bytes) -> bytes:
        if b"range:" in head.lower():
            return ok(*fields, "Content-Range: bytes 0-4/10", status="206 Partial Content")
        return revalidated(head, b"") if b"if-none-match" in head.lower() else ok(*fields)

    serve(gateway, answer)
    ask(gateway)
    loop.pass_time(61)
    assert ask(gateway, "Range: bytes=0-4").status == 200


def test_a_part_that_a_transform_cannot_use_is_not_written_for_ever(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + REPLACE)

    def answer(head: bytes, body: bytes) -> bytes:
        fields = (FRESH, 'ETag: "v1"', "Content-Type: text/plain")
        if b"range:" in head.lower():
            return ok(*fields, "Content-Range: bytes 0-4/10", status="206 Partial Content")
        return ok(*fields, body=b"hello" * 2)

    serve(gateway, answer)
    assert ask(gateway, "Range: bytes=0-4").body == b"goodbye" * 2
    assert not cache(gateway).writings


# background fill


def test_what_nobody_wants_and_nobody_keeps_is_not_fetched(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "largest = 64KiB\n")
    origin, (first, second) = waiting_clients(gateway, 2)
    origin.last.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    gateway.pump()
    first.reset()
    gateway.pump()
    second.reset()
    gateway.pump()
    for _ in range(3):
        if not origin.last.ended:
            origin.last.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        gateway.pump()
    assert origin.last.ended
    assert not cache(gateway).writings
    assert not cache(gateway).buffered


def test_what_comes_in_drops_is_not_fetched_when_the_last_reader_has_left(gateway: MemoryGateway) -> None:
    origin, (first, second) = waiting_clients(gateway, 2)
    origin.last.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    gateway.pump()
    first.reset()
    gateway.pump()
    assert not origin.last.ended
    second.reset()
    gateway.pump()
    assert origin.last.ended
    assert not cache(gateway).writings


# the processor


def test_one_who_breaks_keeps_nobody_else_waiting_for_a_document(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, ok(FRESH, 'ETag: "v1"'))
    ask(gateway)
    forget_memory(gateway)
    told: list[object] = []
    gateway.store.held = []

    def breaks(_: object) -> None:
        raise RuntimeError("it broke")

    cache(gateway).find(URI, breaks)
    cache(gateway).find(URI, told.append)
    gateway.store.release()
    cache(gateway).find(URI, told.append)
    assert len(told) == 2
    assert loop.failures.pop().check(RuntimeError)
    loop.pass_time(11)


def test_a_purge_needs_no_reading(gateway: MemoryGateway) -> None:
    serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    assert cache(gateway).purge(URI)
    assert document_key(URI) not in gateway.store.documents


# a slow one among those who share


def slow_and_fast(gateway: MemoryGateway, answer: bytes) -> tuple[ScriptedOrigin, Peer, Peer]:
    """Whoever asked first does not read; another one reads along."""
    origin = gateway.origin("origin.test:80", silent)
    slow = gateway.client(buffer=32768)
    slow.reading = False
    slow.send(GET)
    gateway.pump()
    origin.last.send(answer)
    gateway.pump()
    fast = gateway.client()
    fast.send(GET)
    gateway.pump()
    return origin, slow, fast


def test_one_that_stands_still_does_not_hold_those_who_read_along(gateway: MemoryGateway) -> None:
    large = LARGE * 4
    origin, slow, fast = slow_and_fast(gateway, ok(FRESH, body=large))
    assert responses(fast.take())[0].body == large
    slow.reading = True
    gateway.pump()
    assert responses(slow.take())[0].body == large
    assert (len(origin.peers), len(gateway.pool)) == (1, 1)
    assert not cache(gateway).buffered


def test_one_that_stands_still_and_leaves_costs_the_others_nothing(gateway: MemoryGateway) -> None:
    large = LARGE * 4
    origin, slow, fast = slow_and_fast(gateway, ok(FRESH, body=large)[:-500])
    slow.reset()
    gateway.pump()
    origin.last.send(large[-500:])
    gateway.pump()
    assert responses(fast.take())[0].body == large
    assert len(origin.peers) == 1
    assert not cache(gateway).writings


def test_when_the_origin_breaks_off_all_of_them_see_it(gateway: MemoryGateway) -> None:
    origin, slow, fast = slow_and_fast(gateway, ok(FRESH, body=LARGE)[:-500])
    origin.last.close()
    gateway.pump()
    slow.reading = True
    gateway.pump()
    assert (slow.ended, fast.ended) == (True, True)
    assert len(slow.got) < len(LARGE)
    assert not cache(gateway).writings


def test_two_requests_of_the_first_one_are_answered_in_order(gateway: MemoryGateway) -> None:
    large = LARGE * 4
    origin, slow, fast = slow_and_fast(gateway, ok(FRESH, body=large))
    slow.send(GET)
    slow.reading = True
    gateway.pump()
    assert [one.body for one in responses(slow.take())] == [large, large]
    assert responses(fast.take())[0].body == large
    assert len(origin.peers) == 1


def test_those_who_wait_for_a_slow_origin_go_one_then_two_then_four(gateway: MemoryGateway, loop: Loop) -> None:
    origin = gateway.origin("origin.test:80", silent)
    clients = [gateway.client() for _ in range(20)]
    for client in clients:
        client.send(GET)
    gateway.pump()
    counts = []
    for seconds in (9.5, 1, 1, 1):
        loop.pass_time(seconds)
        counts.append(len(origin.peers))
    assert counts == [1, 2, 4, 8]
    origin.peers[5].send(ok(FRESH))
    gateway.pump()
    assert sum(bool(client.got) for client in clients) == 20 - 7
    assert len(origin.peers) == 8


def test_a_certificate_that_is_refused_is_not_covered_up(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST + CACHE + "decrypted = yes\n[http]\npool_size = 0\n")
    answer = ok("Cache-Control: max-age=60, stale-if-error=600", 'ETag: "v1"')
    origin = gateway.origin("origin.test:443", Answers(answer), tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    assert get(gateway, client).status == 200
    loop.pass_time(30)
    assert get(gateway, client).status == 200
    loop.pass_time(31)
    origin.tls = gateway.leaf("other.test")
    assert get(gateway, client).status == 502


# memory and reads for many


def test_many_who_want_the_same_from_the_disk_make_one_read(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CACHE + "memory = 0KiB\n")
    serve(gateway, ok(FRESH, body=LARGE))
    ask(gateway)
    gateway.store.held = []
    clients = [gateway.client() for _ in range(20)]
    for client in clients:
        client.send(GET)
    before = gateway.store.reads
    gateway.pump()
    while gateway.store.held:
        gateway.store.release()
        gateway.pump()
    assert all(responses(client.take())[0].body == LARGE for client in clients)
    assert gateway.store.reads - before == 1 + len(LARGE) // FRAGMENT + 1
    loop.pass_time(11)


def test_one_of_them_who_leaves_does_not_end_the_read_of_the_others(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    gateway.store.held = []
    first, second = gateway.client(), gateway.client()
    first.send(GET)
    second.send(GET)
    gateway.pump()
    first.reset()
    gateway.pump()
    gateway.store.release()
    gateway.pump()
    assert responses(second.take())[0].body == b"hello"
    loop.pass_time(11)


@pytest.mark.parametrize("most", [0, 2 * FRAGMENT])
def test_clients_that_stand_still_have_a_bounded_memory_together(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(reading, "MOST_PAUSED", most)
    gateway = MemoryGateway(loop, CACHE + "memory = 0KiB\n")
    serve(gateway, ok(FRESH, body=LARGE))
    ask(gateway)
    clients = [gateway.client(buffer=32768) for _ in range(8)]
    for client in clients:
        client.reading = False
        client.send(GET)
    gateway.pump()
    assert cache(gateway).paused <= most
    for client in clients:
        client.reading = True
    gateway.pump()
    assert all(responses(client.take())[0].body == LARGE for client in clients)
    assert cache(gateway).paused == 0


def test_a_plain_hit_from_the_disk_needs_no_decision(gateway: MemoryGateway, loop: Loop) -> None:
    serve(gateway, ok(FRESH, 'ETag: "v1"', "X: y"))
    first = ask(gateway)
    for seconds, status in ((0, "hit; ttl=60"), (7, "hit; ttl=53"), (54, "fwd=stale")):
        loop.pass_time(seconds)
        forget_memory(gateway)
        found = ask(gateway)
        assert found.body == first.body
        assert said(found).startswith(f"sslintercept; {status}")
    forget_memory(gateway)
    assert ask(gateway, "Range: bytes=1-2").body == b"el"


def test_what_was_decided_of_a_response_does_not_outlive_its_change_on_the_disk(gateway: MemoryGateway) -> None:
    serve(gateway, lambda head, body: ok(FRESH, "Vary: X", body=b"two") if b"X: 2" in head else ok(FRESH))
    ask(gateway)
    forget_memory(gateway)
    assert ask(gateway, "X: 2").body == b"hello"
    ask(gateway, "Cache-Control: no-cache", "X: 2")
    forget_memory(gateway)
    assert [ask(gateway, f"X: {n}").body for n in (2, 1, 2)] == [b"two", b"hello", b"two"]
