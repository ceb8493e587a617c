"""Several services in a row, each with what the one before has made of the message."""

from __future__ import annotations

from typing import Any

from sslintercept.icap.chain import Chain
from sslintercept.icap.message import Answered, Modified, ModRequest, Unchanged
from sslintercept.icap.wire import LAST, Kind
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.engines import Stopping, fault, outcome

from .support import CONTINUE, GET, NEW, OK, Handler, Reading, Server, at_end, made, reply, told, whole

SAME = reply(204, None)


def chained(loop: Loop, *handles: Handler, options: bytes | None = None, **more: Any) -> tuple[Chain, list[Server]]:
    """A response on its way through services that follow scripts."""
    services, servers = zip(*(made(loop, handle, options) for handle in handles), strict=True)
    chain = Chain(services, ModRequest(Kind.RESPMOD, GET, OK, body=True, **more)).start()
    loop.pump()
    return chain, list(servers)


def brought(loop: Loop, chain: Chain, *pieces: bytes) -> Any:
    for piece in pieces:
        chain.write(piece)
        loop.pump()
    chain.finish()
    loop.pump()
    return outcome(chain.outcome)


def test_what_all_leave_unchanged_is_given_back(loop: Loop) -> None:
    chain, servers = chained(loop, at_end(SAME), at_end(SAME))
    chain.write(b"abcdefgh")
    loop.pump()
    found = outcome(chain.outcome)
    assert isinstance(found, Unchanged)
    assert found.kept == b"abcdefgh"
    assert found.report.tag == b"one+one"
    assert all(b"4\r\nabcd\r\n" in server.said for server in servers)


def test_the_second_sees_what_the_first_has_made(loop: Loop) -> None:
    chain, servers = chained(loop, at_end(CONTINUE, reply(body=b"first")), at_end(CONTINUE, reply(body=b"second")))
    found = brought(loop, chain, b"abcdefgh", b"ij")
    assert isinstance(found, Modified)
    assert whole(found.body) == b"second"
    assert NEW in servers[1].said
    assert servers[1].said.endswith(b"4\r\nfirs\r\n" + LAST + b"1\r\nt\r\n" + LAST)


def test_what_the_first_has_made_and_the_second_leaves_is_the_firsts(loop: Loop) -> None:
    chain, _ = chained(loop, at_end(CONTINUE, reply(body=b"first" * 100)), at_end(SAME))
    found = brought(loop, chain, b"abcdefgh")
    assert isinstance(found, Modified)
    assert (found.head, whole(found.body)) == (NEW, b"first" * 100)


def test_the_first_that_answers_ends_the_chain(loop: Loop) -> None:
    services, servers = zip(*(made(loop, at_end(reply(body=b"no"))) for _ in range(2)), strict=True)
    chain = Chain(services, ModRequest(Kind.REQMOD, GET)).start()
    loop.pump()
    assert isinstance(outcome(chain.outcome), Answered)
    assert servers[1].said == b""


def test_a_head_without_a_body_goes_through_all(loop: Loop) -> None:
    services, servers = zip(
        *(made(loop, at_end(reply(head=GET, body=None, kind="req"))) for _ in range(2)), strict=True
    )
    chain = Chain(services, ModRequest(Kind.REQMOD, GET)).start()
    loop.pump()
    assert outcome(chain.outcome).head == GET
    assert all(GET in server.said for server in servers)


def test_a_head_that_the_first_has_changed_and_the_second_leaves(loop: Loop) -> None:
    new = GET.replace(b"origin", b"other")
    first, _ = made(loop, at_end(reply(head=new, body=None, kind="req")))
    second, _ = made(loop, at_end(SAME))
    chain = Chain([first, second], ModRequest(Kind.REQMOD, GET)).start()
    loop.pump()
    came = outcome(chain.outcome)
    assert isinstance(came, Modified)
    assert (came.head, came.body) == (new, None)


def test_who_brings_the_body_can_leave(loop: Loop) -> None:
    chain, _ = chained(loop, at_end(SAME), at_end(SAME))
    producer = Stopping()
    chain.registerProducer(producer, True)
    chain.unregisterProducer()
    assert brought(loop, chain, b"ab").kept == b"ab"
    assert producer.stops == 0


def test_one_that_does_not_want_to_see_it_is_passed_over(loop: Loop) -> None:
    chain, servers = chained(
        loop, at_end(SAME), at_end(SAME), options=told(more="Transfer-Ignore: gif\r\n"), extension="gif"
    )
    assert outcome(chain.outcome).kept == b""
    assert [server.said for server in servers] == [b"", b""]


def test_what_is_left_over_by_one_that_was_passed_over_reaches_the_next(loop: Loop) -> None:
    first, _ = made(loop, at_end(SAME))
    second, _ = made(loop, at_end(SAME), told(more="Transfer-Ignore: gif\r\n"))
    third, server = made(loop, at_end(SAME))
    second.options()
    loop.pump()
    chain = Chain([first, second, third], ModRequest(Kind.RESPMOD, GET, OK, body=True, extension="gif")).start()
    assert brought(loop, chain, b"ab").kept == b"ab"
    assert b"2\r\nab\r\n" in server.said


def test_only_the_last_may_leave_the_body_to_who_keeps_it(loop: Loop) -> None:
    chain, servers = chained(loop, at_end(SAME), at_end(CONTINUE, SAME), keeps=True)
    chain.write(b"abcdefgh")
    loop.pump()
    assert brought(loop, chain, b"ij").kept is None
    assert b"Allow: 206\r\n" in servers[0].said
    assert b"Allow: 204\r\n" in servers[1].said


def test_a_failure_of_any_is_told_and_the_original_still_here(loop: Loop) -> None:
    chain, _ = chained(loop, at_end(SAME), lambda peer: peer.finish())
    chain.write(b"abcdefgh")
    loop.pump()
    assert fault(chain.outcome) == "lost"
    assert chain.kept == b"abcdefgh"


def test_a_producer_is_stopped_by_one_after_the_other_and_never_twice(loop: Loop) -> None:
    chain, servers = chained(loop, lambda peer: None, lambda peer: None)
    producer = Stopping()
    chain.registerProducer(producer, True)
    chain.write(b"abcdefgh")
    loop.pump()
    assert producer.stopped
    servers[0].peers[0].send(SAME)
    loop.pump()
    assert producer.stopped
    servers[1].peers[0].take()
    servers[1].peers[0].send(CONTINUE)
    loop.pump()
    assert not producer.stopped
    chain.abort(ValueError("gone"))
    assert fault(chain.outcome) == "dropped"


def test_what_nobody_reads_stops_every_service_before_it(loop: Loop) -> None:
    def echo(peer: Peer) -> None:
        data = peer.take()
        if b"RESPMOD" in data:
            peer.send(reply(head=NEW, body=b"")[: -len(LAST)])
        elif data:
            peer.send(data)

    chain, servers = chained(loop, echo, echo, options=told(preview=None))
    peers = [server.peers[0] for server in servers]

    def turn() -> bool:
        for peer in peers:
            peer.reading = not peer._out
        return False

    loop.others.append(turn)
    reading, producer = Reading(outcome(chain.outcome).body), Stopping()
    chain.registerProducer(producer, True)
    outcome(chain.outcome).body.pauseProducing()
    sent = 0
    while not producer.stopped and sent < 1000:
        chain.write(b"x" * 16384)
        sent += 1
        loop.pump()
    assert producer.stopped
    assert len(reading.got) == 0
    outcome(chain.outcome).body.resumeProducing()
    loop.pump()
    assert not producer.stopped
    chain.finish()
    loop.pump()
    assert reading.ended
    assert len(reading.got) == sent * 16384


def test_cancelling_ends_all(loop: Loop) -> None:
    chain, _ = chained(loop, at_end(SAME), lambda peer: None)
    chain.write(b"abcdefgh")
    loop.pump()
    chain.outcome.cancel()
    assert fault(chain.outcome) == "dropped"
