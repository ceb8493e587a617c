"""Messages on their way through a service that follows a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sslintercept.errors import InterceptError
from sslintercept.icap.message import Answered, Modified, ModRequest, Unchanged
from sslintercept.icap.service import Names, Service
from sslintercept.icap.wire import IEOF, LAST, Kind
from sslintercept.net.breaker import Breaker
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.engines import Stopping, fault, outcome

from .support import CONTINUE, GET, NEW, URI, Handler, Reading, Server, at_end, made, reply, shown, told, whole


def test_a_body_shorter_than_the_preview_is_said_as_a_whole(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)))
    modification = shown(service, loop, b"abcd")
    found = outcome(modification.outcome)
    assert isinstance(found, Unchanged)
    assert found.kept == b"abcd"
    assert b"Preview: 4\r\n" in server.said
    assert server.said.endswith(b"4\r\nabcd\r\n" + IEOF)
    assert service.pool.idle == 1


def test_204_in_the_preview_gives_back_what_was_written_and_the_caller_has_the_rest(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)))
    modification = shown(service, loop, b"abcdefgh", end=False)
    assert server.said.endswith(b"4\r\nabcd\r\n" + LAST)
    assert outcome(modification.outcome).kept == b"abcdefgh"
    with pytest.raises(InterceptError):
        modification.write(b"lost")
    assert service.pool.idle == 1


def test_100_lets_the_rest_go_and_the_answer_is_another_message(loop: Loop) -> None:
    service, server = made(loop, at_end(CONTINUE, reply(body=b"other")))
    modification = shown(service, loop, b"abcdefgh", b"ij")
    found = outcome(modification.outcome)
    assert isinstance(found, Modified)
    assert (found.head, whole(found.body)) == (NEW, b"other")
    assert server.said.endswith(LAST + b"4\r\nefgh\r\n2\r\nij\r\n" + LAST)
    assert modification.kept is None


def test_a_request_may_be_answered_in_the_origins_place(loop: Loop) -> None:
    more = "X-Infection-Found: Type=0; Resolution=2; Threat=Worm;\r\n"
    service, _ = made(loop, at_end(reply(body=b"no", more=more)))
    modification = service.modify(ModRequest(Kind.REQMOD, GET))
    loop.pump()
    found = outcome(modification.outcome)
    assert isinstance(found, Answered)
    assert [threat.name for threat in found.report.threats] == ["Worm"]
    assert found.report.tag == b"one"
    assert whole(found.body) == b"no"


def test_a_request_may_be_another_one(loop: Loop) -> None:
    service, _ = made(loop, at_end(reply(head=GET, body=None, kind="req")))
    modification = service.modify(ModRequest(Kind.REQMOD, GET))
    loop.pump()
    found = outcome(modification.outcome)
    assert isinstance(found, Modified)
    assert (found.head, found.body) == (GET, None)


@pytest.mark.parametrize(
    ("more", "allow"),
    [
        ({}, b"Allow: 206\r\n"),
        ({"length": 23}, b"Allow: 204, 206\r\n"),
        ({"length": 10**9}, b"Allow: 206\r\n"),
        ({"keeps": True}, b"Allow: 204\r\n"),
    ],
)
def test_what_is_allowed_goes_by_who_keeps_the_body(loop: Loop, more: dict[str, Any], allow: bytes) -> None:
    service, server = made(loop, at_end(reply(204, None)))
    shown(service, loop, b"longer than the preview", **more)
    assert allow in server.said


def test_a_body_that_is_here_as_a_whole_may_be_given_back_in_any_way(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)))
    shown(service, loop, b"ab")
    assert b"Allow: 204, 206\r\n" in server.said


def test_a_body_that_was_here_before_anything_was_asked_is_kept_to_its_end(loop: Loop) -> None:
    service, _ = made(loop, at_end(CONTINUE, reply(204, None)))
    modification = service.modify(ModRequest(Kind.RESPMOD, GET, NEW, body=True))
    modification.write(b"abcdefgh")
    modification.finish()
    loop.pump()
    assert outcome(modification.outcome).kept == b"abcdefgh"


@pytest.mark.parametrize("where", [{"length": 10}, {"keeps": True}])
def test_204_behind_the_end_is_taken_where_somebody_keeps_the_body(loop: Loop, where: dict[str, Any]) -> None:
    service, _ = made(loop, at_end(CONTINUE, reply(204, None)))
    modification = shown(service, loop, b"abcdefgh", b"ij", **where)
    assert outcome(modification.outcome).kept == (b"abcdefghij" if "length" in where else None)


def test_204_where_nobody_keeps_the_body_is_named(loop: Loop) -> None:
    service, _ = made(loop, at_end(CONTINUE, reply(204, None)))
    assert fault(shown(service, loop, b"abcdefgh").outcome) == "rubbish"


def partial(at: int, data: bytes = b"new") -> bytes:
    begun = reply(206, NEW, None).replace(b"null-body", b"res-body")
    return begun + b"%x\r\n%b\r\n0; use-original-body=%d\r\n\r\n" % (len(data), data, at)


@pytest.mark.parametrize("at", [0, 2, 4, 8, 9])
def test_206_in_the_preview_puts_a_beginning_before_the_rest_of_the_original(loop: Loop, at: int) -> None:
    service, server = made(loop, at_end(partial(at)))
    modification = shown(service, loop, b"abcdefgh", end=False)
    reading = Reading(outcome(modification.outcome).body)
    modification.write(b"ij")
    modification.finish()
    assert reading.ended
    assert reading.got == b"new" + b"abcdefghij"[at:]
    assert service.pool.idle == 1
    assert b"efgh" not in server.said


def test_206_beyond_the_original_breaks_the_body_off(loop: Loop) -> None:
    service, _ = made(loop, at_end(partial(11)))
    modification = shown(service, loop, b"abcdefgh", end=False)
    reading = Reading(outcome(modification.outcome).body)
    modification.finish()
    assert reading.error.fault == "rubbish"


@pytest.mark.parametrize(
    ("plan", "more"),
    [
        ((CONTINUE, partial(0)), {}),
        ((CONTINUE, partial(9)), {"length": 8}),
        ((partial(0),), {"keeps": True}),
    ],
)
def test_206_that_cannot_be_put_together_is_named(loop: Loop, plan: tuple[bytes, ...], more: dict[str, Any]) -> None:
    service, _ = made(loop, at_end(*plan))
    modification = shown(service, loop, b"abcdefgh", **more)
    came = outcome(modification.outcome)
    error = Reading(came.body).error if isinstance(came, Modified) else came
    assert error.fault == "rubbish"


def test_206_behind_the_end_of_a_short_body_is_put_together_here(loop: Loop) -> None:
    service, _ = made(loop, at_end(CONTINUE, partial(6)))
    modification = shown(service, loop, b"abcdefgh", length=8)
    assert whole(outcome(modification.outcome).body) == b"newgh"


def test_the_rest_of_the_original_is_stopped_by_who_reads_it(loop: Loop) -> None:
    service, _ = made(loop, at_end(partial(0)))
    modification, producer = shown(service, loop, b"abcdefgh", end=False), Stopping()
    body = outcome(modification.outcome).body
    modification.registerProducer(producer, True)
    body.pauseProducing()
    assert producer.stopped
    body.resumeProducing()
    assert not producer.stopped
    modification.abort(ValueError("gone"))
    assert Reading(body).error.fault == "dropped"


def test_an_answer_before_the_end_of_the_body_is_passed_on_and_the_rest_not_wanted(loop: Loop) -> None:
    def handle(peer: Peer) -> None:
        if peer.got.endswith(b"early\r\n"):
            peer.send(reply(body=b"enough"))

    service, _ = made(loop, handle, told(preview=None))
    modification = shown(service, loop, b"early", end=False)
    detached: list[bool] = []
    modification.detached = lambda: detached.append(True)
    loop.pump()
    assert whole(outcome(modification.outcome).body) == b"enough"
    modification.write(b"more does no harm")
    modification.finish()
    assert service.pool.idle == 0
    assert service.pool.places.taken == 0


def test_a_body_goes_out_as_it_comes_and_the_answer_comes_back_meanwhile(loop: Loop) -> None:
    def echo(peer: Peer) -> None:
        data = peer.take()
        if b"RESPMOD" in data:
            begun = reply(head=NEW, body=b"")
            peer.send(begun[: -len(LAST)])
        elif data:
            peer.send(data)

    service, _ = made(loop, echo, told(preview=None))
    modification = shown(service, loop, end=False)
    reading = Reading(outcome(modification.outcome).body)
    for _ in range(10):
        modification.write(b"x" * 1000)
        loop.pump()
    assert len(reading.got) == 10_000
    modification.finish()
    loop.pump()
    assert reading.ended
    assert service.pool.idle == 1


def test_who_does_not_read_the_answer_stops_the_server_and_it_the_sender(loop: Loop) -> None:
    def echo(peer: Peer) -> None:
        data = peer.take()
        if b"RESPMOD" in data:
            peer.send(reply(head=NEW, body=b"")[: -len(LAST)])
        elif data:
            peer.send(data)
            peer.reading = False

    service, server = made(loop, echo, told(preview=None), idle=5)
    server.buffer = 4096
    modification, producer = shown(service, loop, end=False), Stopping()
    modification.registerProducer(producer, True)
    body = outcome(modification.outcome).body
    body.pauseProducing()
    for _ in range(100):
        if not producer.stopped:
            modification.write(b"x" * 16384)
            loop.pump()
    assert producer.stopped
    reading = Reading(body)
    loop.pass_time(7)
    body.resumeProducing()
    assert reading.error.fault == "hangs"


def hang(peer: Peer) -> None:
    """Says nothing."""


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        (hang, "hangs"),
        (at_end(b"ICAP/1.0 200 O"), "hangs"),
        (at_end(b"SSH-2.0-x\r\n"), "rubbish"),
        (at_end(reply(204, None) + reply(204, None)), "rubbish"),
        (at_end(reply(head=GET, kind="req")), "rubbish"),
        (at_end(reply(206, None)), "rubbish"),
        (at_end(b"ICAP/1.0 200 OK\r\n\r\n"), "rubbish"),
        (at_end(b"ICAP/1.0 500 Server error\r\n\r\n"), "refused"),
        (at_end(b"ICAP/1.0 503 Overloaded\r\n\r\n"), "busy"),
        (lambda peer: peer.finish(), "lost"),
        (lambda peer: peer.reset(), "lost"),
    ],
)
def test_a_server_that_misbehaves_is_named_and_the_caller_can_go_on(loop: Loop, handle: Handler, expected: str) -> None:
    service, _ = made(loop, handle, first_byte=10)
    modification = shown(service, loop, b"abcdefgh", end=False)
    loop.pass_time(12)
    assert fault(modification.outcome) == expected
    assert modification.kept == b"abcdefgh"
    modification.write(b"does no harm")
    assert service.pool.places.taken == 0


@pytest.mark.parametrize(
    ("rest", "expected"),
    [(b"", "hangs"), (b"zz\r\n", "rubbish"), (None, "lost"), (b"3\r\nabc\r\n0\r\n\r\nmore", "rubbish")],
)
def test_an_answer_whose_body_breaks_off_is_told_to_who_reads_it(loop: Loop, rest: bytes | None, expected: str) -> None:
    service, server = made(loop, at_end(reply(body=b"")[: -len(LAST)]), idle=5)
    modification = shown(service, loop, b"ab")
    reading = Reading(outcome(modification.outcome).body)
    if rest is None:
        server.peers[0].finish()
    else:
        server.peers[0].send(rest)
    loop.pass_time(7)
    assert reading.error.fault == expected
    assert not reading.ended


def test_a_server_that_reads_nothing_stops_the_sender_and_hangs(loop: Loop) -> None:
    service, server = made(loop, at_end(CONTINUE), idle=5)
    server.buffer = 4096
    modification, producer = shown(service, loop, b"abcdefgh", end=False), Stopping()
    modification.registerProducer(producer, True)
    server.peers[0].reading = False
    for _ in range(100):
        if not producer.stopped:
            modification.write(b"x" * 16384)
            loop.pump()
    assert producer.stopped
    loop.pass_time(7)
    assert fault(modification.outcome) == "hangs"
    assert not producer.stopped


def test_100_twice_is_named_and_the_body_is_not_here_any_more(loop: Loop) -> None:
    service, _ = made(loop, at_end(CONTINUE + CONTINUE))
    modification = shown(service, loop, b"abcdefgh", end=False)
    assert fault(modification.outcome) == "rubbish"
    assert modification.kept is None


def test_who_brings_the_body_can_leave(loop: Loop) -> None:
    service, _ = made(loop, at_end(reply(204, None)))
    modification, producer = shown(service, loop, end=False), Stopping()
    modification.registerProducer(producer, True)
    modification.unregisterProducer()
    modification.write(b"abcdefgh")
    loop.pump()
    assert not producer.stopped
    assert isinstance(outcome(modification.outcome), Unchanged)


def test_a_slow_caller_is_nobody_elses_fault(loop: Loop) -> None:
    service, _ = made(loop, at_end(CONTINUE, reply(body=b"other")), idle=5, first_byte=5)
    modification = shown(service, loop, b"abcdefgh", end=False)
    loop.pass_time(60)
    modification.finish()
    loop.pump()
    assert isinstance(outcome(modification.outcome), Modified)


def kept_and_closed(loop: Loop, service: Service, server: Server) -> Callable[[Peer], object]:
    """Make the service keep a line that its server closes when it is used again."""
    shown(service, loop, b"ab")
    assert service.pool.idle == 1
    handle, first = server.handle, server.peers[0]

    def once(peer: Peer) -> None:
        if peer is first:
            if b"abcd" in peer.got:
                peer.finish()
        else:
            handle(peer)

    return once


def test_a_request_on_a_dead_line_is_said_again_once(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)))
    server.handle = kept_and_closed(loop, service, server)
    modification = shown(service, loop, b"abcdefgh", end=False)
    assert outcome(modification.outcome).kept == b"abcdefgh"
    assert service.retried == 1
    server.handle = lambda peer: peer.finish()
    assert fault(shown(service, loop, b"abcdefgh").outcome) == "lost"
    assert service.pool.places.taken == 0


def test_a_request_is_not_said_again_when_part_of_its_body_is_gone(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)), told(preview=None, allow="204"))
    server.handle = at_end(reply(body=b"x"))
    server.handle = kept_and_closed(loop, service, server)
    assert fault(shown(service, loop, b"abcdefgh").outcome) == "lost"
    assert service.retried == 0


def test_options_are_asked_once_and_again_when_they_are_old(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)), told(more="Options-TTL: 100\r\n"))
    first, second = shown(service, loop, b"a", end=False), shown(service, loop, b"a", end=False)
    for one in (first, second):
        one.finish()
    loop.pump()
    assert server.asked == 1
    loop.pass_time(101)
    shown(service, loop, b"a")
    assert server.asked == 2


def test_another_tag_means_that_options_are_asked_again_unless_it_changes_all_the_time(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None).replace(b"one", b"two")))
    tags = [outcome(shown(service, loop, b"a").outcome).report.tag for _ in range(20)]
    assert tags[0] == b"two"
    assert tags[-1] is None
    assert service.tag.fault == "restless"
    assert server.asked < 8


def test_more_requests_than_it_wants_connections_wait(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)), told(more="Max-Connections: 1\r\n"))
    service.options()
    loop.pump()
    server.handle = hang
    first, second = shown(service, loop, b"ab"), shown(service, loop, b"cd")
    assert service.pool.places.taken == 1
    server.handle = at_end(reply(204, None))
    server.peers[0].take()
    server.peers[0].send(reply(204, None))
    loop.pump()
    assert outcome(first.outcome).kept == b"ab"
    assert outcome(second.outcome).kept == b"cd"
    assert len(server.peers) == 1


def test_who_waits_too_long_for_a_connection_is_sent_away(loop: Loop) -> None:
    service, _ = made(loop, hang, connections=1, patience=3, waiting=1)
    first, second, third = (shown(service, loop, b"ab") for _ in range(3))
    assert fault(third.outcome) == "busy"
    loop.pass_time(4)
    assert fault(second.outcome) == "busy"
    service.close()
    assert fault(first.outcome) == "stopped"


def test_what_it_does_not_want_to_see_is_not_shown(loop: Loop) -> None:
    service, server = made(loop, hang, told(more="Transfer-Ignore: gif\r\n"))
    modification = service.modify(ModRequest(Kind.RESPMOD, GET, NEW, body=True, extension="gif"))
    loop.pump()
    assert outcome(modification.outcome).kept == b""
    assert server.said == b""


def test_a_method_it_does_not_serve_is_refused(loop: Loop) -> None:
    service, _ = made(loop, hang, told().replace(b"RESPMOD, ", b""))
    assert fault(shown(service, loop, b"a").outcome) == "refused"


@pytest.mark.parametrize("moment", ["options", "place", "preview", "asked"])
def test_cancelling_at_any_moment_frees_everything(loop: Loop, moment: str) -> None:
    service, server = made(loop, hang, connections=1)
    if moment == "options":
        server.script = hang
    if moment == "place":
        shown(service, loop, b"ab").outcome.addErrback(lambda _: None)
    pieces = [] if moment == "preview" else [b"abcdefgh"]
    modification = shown(service, loop, *pieces, end=False)
    modification.outcome.cancel()
    assert fault(modification.outcome) == "dropped"
    service.close()
    loop.pump()
    assert (service.pool.places.taken, service.pool.places.waiting, service.pool.idle) == (0, 0, 0)


def test_who_it_is_about_is_told(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)))
    shown(service, loop, b"a", client="192.0.2.1", user="bob", more=((b"X-More", b"1"),))
    assert b"X-More: 1\r\nX-Client-IP: 192.0.2.1\r\nX-Authenticated-User: TG9jYWw6Ly9ib2I=\r\n" in server.said


def test_what_it_has_not_asked_for_can_be_left_out(loop: Loop) -> None:
    server = Server(loop, at_end(reply(204, None)), told(more="X-Include: X-Client-IP\r\n"))
    service = Service(loop.handler, server.open, URI, names=Names(wanted_only=True, encoded=False))
    shown(service, loop, b"a", client="192.0.2.1", user="bob")
    assert b"X-Client-IP" in server.said
    assert b"bob" not in server.said


def test_a_user_that_would_be_another_field_is_not_told(loop: Loop) -> None:
    server = Server(loop, at_end(reply(204, None)))
    service = Service(loop.handler, server.open, URI, names=Names(encoded=False))
    assert isinstance(outcome(shown(service, loop, b"a", user="bob\r\nX: y").outcome), InterceptError)
    assert server.said == b""
    assert service.pool.places.taken == 0


def test_after_failures_it_is_left_alone(loop: Loop) -> None:
    server = Server(loop, lambda peer: peer.finish())
    service = Service(loop.handler, server.open, URI, breaker=Breaker(2))
    assert [fault(shown(service, loop, b"a").outcome) for _ in range(3)] == ["lost", "lost", "broken"]


def test_an_idle_line_is_closed_after_a_while_or_when_something_comes_on_it(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)), keep=10)
    shown(service, loop, b"a")
    server.peers[0].send(b"x")
    loop.pump()
    assert service.pool.idle == 0
    shown(service, loop, b"a")
    assert service.pool.idle == 1
    loop.pass_time(12)
    assert service.pool.idle == 0


def test_a_server_that_closes_behind_each_answer_is_connected_anew(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None, more="Connection: close\r\n")))
    for _ in range(3):
        assert isinstance(outcome(shown(service, loop, b"a").outcome), Unchanged)
    assert len(server.peers) == 3


def test_a_server_that_closes_behind_its_options_is_connected_anew(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)), told(more="Connection: close\r\n"))
    assert isinstance(outcome(shown(service, loop, b"a").outcome), Unchanged)
    assert len(server.peers) == 2
    assert service.pool.places.taken == 0


def test_nothing_is_kept_where_that_is_not_wanted(loop: Loop) -> None:
    service, _ = made(loop, at_end(reply(204, None)), keep=0)
    shown(service, loop, b"a")
    assert (service.pool.idle, service.pool.places.taken) == (0, 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "rubbish"),
        (told() + b"more", "rubbish"),
        (told().replace(b"null-body", b"opt-body") + b"fffff\r\n" + bytes(0xFFFFF) + b"\r\n" + LAST, "rubbish"),
        (b"ICAP/1.0 404 Service not found\r\n\r\n", "refused"),
        (b"ICAP/1.0 200", "hangs"),
    ],
)
def test_options_that_are_none_are_named_to_everybody_who_waits(loop: Loop, options: bytes, expected: str) -> None:
    service, server = made(loop, hang, options)
    asked = [service.modify(ModRequest(Kind.REQMOD, GET)) for _ in range(3)]
    loop.pass_time(12)
    assert [fault(one.outcome) for one in asked] == [expected] * 3
    assert server.asked == 1
    assert service.pool.places.taken == 0


def test_options_may_have_a_body_that_nobody_reads(loop: Loop) -> None:
    service, _ = made(loop, hang, told().replace(b"null-body", b"opt-body") + b"3\r\nabc\r\n" + LAST)
    service.options()
    loop.pump()
    assert service.pool.idle == 1


def test_options_on_a_dead_line_are_asked_again(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(204, None)), told(more="Options-TTL: 10\r\n"))
    shown(service, loop, b"a")
    loop.pass_time(11)
    first, heard = server.peers[0], server.script
    first.received = lambda peer: peer.finish()
    server.script = heard
    assert isinstance(outcome(shown(service, loop, b"a").outcome), Unchanged)
    assert len(server.peers) == 2


def test_a_service_that_is_stopped_ends_what_is_under_way(loop: Loop) -> None:
    service, _ = made(loop, hang)
    asked = [shown(service, loop, b"ab", end=False), service.modify(ModRequest(Kind.REQMOD, GET))]
    service.close()
    assert [fault(one.outcome) for one in asked] == ["stopped"] * 2
    loop.pump()
    assert service.pool.places.taken == 0


def test_who_stops_reading_an_answer_for_good_ends_it(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(body=b"x")[: -len(LAST)]))
    body = outcome(shown(service, loop, b"ab").outcome).body
    body.stopProducing()
    loop.pump()
    assert server.peers[0].ended
    assert service.pool.places.taken == 0


def test_an_answer_that_nobody_reads_is_kept_to_a_bound_and_then_stopped(loop: Loop) -> None:
    service, server = made(loop, at_end(reply(body=b"x" * 5_000_000)))
    server.buffer = 65536
    body = outcome(shown(service, loop, b"ab").outcome).body
    assert len(body._kept) < 1_000_000
    reading = Reading(body)
    loop.pump()
    assert reading.ended
    assert len(reading.got) == 5_000_000
