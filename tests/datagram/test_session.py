"""A client's flow: judged, decided, relayed or dropped, and logged once."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from sslintercept.datagram.session import HELD, HELD_BYTES
from sslintercept.errors import ConnectError, ResolveError
from sslintercept.facts import Action, Address, Facts
from sslintercept.net.connector import Denied
from sslintercept.net.flow import IDLE, UNANSWERED
from sslintercept.testing.loop import Loop
from tests.datagram.support import BLOCK, INTERCEPT, TUNNEL, Site, hello, hello_body, message, record
from tests.datagram.test_probe import QUERY, quic

QUIC = quic(0xC3, 1)


@pytest.mark.parametrize("action", [TUNNEL, INTERCEPT])
def test_datagrams_are_relayed_one_for_one_both_ways(loop: Loop, action: Action) -> None:
    site = Site(loop, action)
    client = site.client()
    for datagram in (QUIC, b"", b"two" * 100):
        client.send(datagram)
    got = site.received_from(site.origin)
    assert [data for data, _ in got] == [QUIC, b"", b"two" * 100]
    for answer in (b"one", b"", b"2" * 500):
        site.origin.sendto(answer, got[0][1])
    assert site.received(client) == [b"one", b"", b"2" * 500]
    loop.pass_time(IDLE + 1)
    [(facts, totals)] = site.ended
    assert (facts.id, facts.client, facts.listener) == ("t-1", Address(*client.getsockname()), "test")
    assert facts.protocol == "quic"
    assert facts.stack == "udp/tunnel"
    assert facts.upstream == Address(*site.origin.getsockname())
    assert facts.started == 1e9
    assert (facts.server_name, facts.client_hello) == (None, None)
    assert facts.decision is not None
    assert facts.decision.action is action
    assert totals == ("idle", totals.seconds, len(QUIC) + 300, 503, 3, 3, 0)
    assert IDLE <= totals.seconds <= IDLE + 2
    site.close()


def test_a_question_and_its_answer_are_over_sooner(loop: Loop) -> None:
    site = Site(loop)
    client = site.client()
    client.send(QUERY)
    [(_, source)] = site.received_from(site.origin)
    site.origin.sendto(b"answer", source)
    assert site.received(client) == [b"answer"]
    loop.pass_time(UNANSWERED + 1)
    [(facts, totals)] = site.ended
    assert (facts.protocol, totals.why) == ("dns", "idle")
    site.close()


def test_quic_that_a_rule_blocks_is_dropped_silently_and_logged_once(loop: Loop) -> None:
    site = Site(loop, lambda facts: BLOCK if facts.protocol == "quic" else TUNNEL)
    client = site.client()
    for _ in range(5):
        client.send(quic(0xC3, 1))
        loop.pass_time(3)
    assert site.received(client) == []
    assert site.received(site.origin) == []
    assert len(site.rules.asked) == 1
    loop.pass_time(UNANSWERED)
    [(facts, totals)] = site.ended
    assert facts.decision is not None
    assert facts.decision.action is BLOCK
    assert facts.error is None
    assert (totals.came, totals.left, totals.dropped) == (5, 0, 5)
    site.close()


def test_answers_to_an_address_that_may_be_forged_are_bounded(loop: Loop) -> None:
    site = Site(loop, TUNNEL, factor=2.0)
    client = site.client()
    client.send(b"q" * 100)
    [(_, source)] = site.received_from(site.origin)
    for _ in range(5):
        site.origin.sendto(b"a" * 90, source)
    assert site.received(client) == [b"a" * 90] * 2
    client.send(b"q" * 100)
    loop.pump()
    site.origin.sendto(b"a" * 200, source)
    assert site.received(client) == [b"a" * 200]
    site.close()
    assert site.ended[0][1].dropped == 3


def test_what_comes_while_the_name_is_looked_up_is_kept_up_to_a_bound(loop: Loop) -> None:
    site = Site(loop, TUNNEL, name="origin.example")
    client = site.client()
    for n in range(HELD + 3):
        client.send(b"%d" % n)
    loop.pump()
    assert len(site.waiting) == 1
    site.waiting[0].callback(["127.0.0.1"])
    assert site.received(site.origin) == [b"%d" % n for n in range(HELD)]
    client.send(b"more")
    assert site.received(site.origin) == [b"more"]
    site.close()
    assert site.ended[0][1].dropped == 3
    other = Site(loop, TUNNEL, name="origin.example")
    large = other.client()
    for _ in range(3):
        large.send(bytes(HELD_BYTES // 2))
    loop.pump()
    other.close()
    assert other.ended[0][1].dropped == 1


def test_a_name_without_an_address_ends_in_silence_and_an_error_in_the_log(loop: Loop) -> None:
    site = Site(loop, TUNNEL, name="origin.example")
    client = site.client()
    client.send(b"x")
    loop.pump()
    site.waiting[0].errback(ResolveError("no such name", where="dns", remedy="look at it"))
    client.send(b"y")
    loop.pump()
    assert len(site.waiting) == 1
    site.close()
    [(facts, totals)] = site.ended
    assert isinstance(facts.error, ResolveError)
    assert totals.dropped == 2


def test_a_defect_while_the_way_is_made_is_logged_with_its_traceback(loop: Loop) -> None:
    site = Site(loop, TUNNEL, name="origin.example")
    site.client().send(b"x")
    loop.pump()
    site.waiting[0].errback(RuntimeError("a defect"))
    loop.pump()
    assert [failure.type for failure in loop.failures] == [RuntimeError]
    loop.failures.clear()
    site.close()
    assert isinstance(site.ended[0][0].error, RuntimeError)


def test_a_look_up_is_given_up_when_the_flow_is_over(loop: Loop) -> None:
    site = Site(loop, TUNNEL, name="origin.example")
    cancelled: list[Deferred[object]] = []
    site.client().send(b"x")
    loop.pump()
    site.waiting[0]._canceller = cancelled.append  # what a resolver would put there
    loop.pass_time(UNANSWERED + 1)
    assert len(cancelled) == 1
    assert len(site.ended) == 1
    site.close()


def test_an_address_that_must_not_be_used_gets_no_packet(loop: Loop) -> None:
    site = Site(loop, TUNNEL)
    site.refused = Denied("it is private", "leave it")
    site.client().send(b"x")
    assert site.received(site.origin) == []
    site.close()
    assert site.ended[0][0].error is not None
    assert "it is private" in str(site.ended[0][0].error)


def test_the_next_address_is_tried_when_there_is_no_way_to_the_first(loop: Loop) -> None:
    site = Site(loop, TUNNEL, name="origin.example")
    client = site.client()
    client.send(b"x")
    loop.pump()
    site.waiting[0].callback(["255.255.255.255", "127.0.0.1"])
    assert site.received(site.origin) == [b"x"]
    other = Site(loop, TUNNEL, name="origin.example")
    other.client().send(b"x")
    loop.pump()
    other.waiting[0].callback([])
    loop.pump()
    site.close()
    other.close()
    assert isinstance(other.ended[0][0].error, ConnectError)


def test_a_port_where_nobody_listens_is_the_reason_when_nothing_came(loop: Loop) -> None:
    site = Site(loop, TUNNEL)
    client = site.client()
    client.send(b"x")
    loop.pump()
    site.origin.close()
    client.send(b"y")
    loop.pump()
    client.send(b"z")
    loop.pump()
    site.close()
    [(facts, _)] = site.ended
    assert "does not listen" in str(facts.error)


def test_a_report_that_nobody_listens_after_an_answer_explains_nothing(loop: Loop) -> None:
    site = Site(loop, TUNNEL)
    client = site.client()
    client.send(b"x")
    [(_, source)] = site.received_from(site.origin)
    site.origin.sendto(b"answer", source)
    loop.pump()
    site.origin.close()
    client.send(b"y")
    loop.pump()
    site.close()
    assert site.ended[0][0].error is None


def test_a_flow_whose_origin_is_cut_by_a_defect_is_over_too(loop: Loop) -> None:
    site = Site(loop, TUNNEL)
    site.client().send(b"x")
    loop.pump()
    [flow] = site.table
    [peer] = [one for one in loop.handler.watched() if hasattr(one, "_flow")]
    peer.abort()
    assert flow.why == "upstream"
    assert site.ended[0][1].why == "upstream"
    site.close()


# DTLS


def by_name(facts: Facts) -> Action:
    return TUNNEL if facts.server_name == "a.example" else BLOCK


def test_dtls_is_decided_by_its_server_name_and_replayed_from_its_first_datagram(loop: Loop) -> None:
    site = Site(loop, by_name)
    client = site.client()
    body = hello_body("a.example")
    first, second = record(message(body, size=60), 0), record(message(body, at=60), 1)
    client.send(first)
    assert site.received(site.origin) == []
    assert site.rules.asked == []
    client.send(second)
    assert site.received(site.origin) == [first, second]
    site.close()
    [(facts, _)] = site.ended
    assert facts.server_name == "a.example"
    assert facts.protocol == "dtls"
    assert facts.client_hello


@pytest.mark.parametrize("first", [QUIC, hello("a.example")], ids=["quic", "dtls"])
def test_datagrams_carry_no_page_so_what_is_warned_of_is_dropped(loop: Loop, first: bytes) -> None:
    site = Site(loop, Action.WARN)
    client = site.client()
    client.send(first)
    assert site.received(site.origin) == []
    assert site.received(client) == []
    site.close()


def test_dtls_with_a_blocked_name_is_dropped(loop: Loop) -> None:
    site = Site(loop, by_name)
    client = site.client()
    client.send(hello("b.example"))
    client.send(hello("a.example"))
    assert site.received(site.origin) == []
    assert site.received(client) == []
    site.close()


def test_a_later_hello_must_name_the_same_server(loop: Loop) -> None:
    site = Site(loop, by_name)
    client = site.client()
    data = record(b"application", kind=23, epoch=1)
    other = hello("b.example", serial=1)
    relayed = [hello("a.example"), hello("a.example", serial=1), data, record(b"\1", kind=20) + data, b"anything", b""]
    dropped = [other, data + other, record(b"\1", kind=20) + other, hello("a.example") + other]
    client.send(relayed[0])
    client.send(other)  # while nothing is decided in the same turn
    assert site.received(site.origin) == relayed[:1]
    for datagram in relayed[1:]:
        client.send(datagram)
    assert site.received(site.origin) == relayed[1:]
    for datagram in dropped:
        client.send(datagram)
    client.send(data)
    assert site.received(site.origin) == [data]
    site.close()
    assert site.ended[0][1].dropped == len(dropped) + 1


def test_a_hello_that_came_while_the_name_was_looked_up_is_watched_too(loop: Loop) -> None:
    site = Site(loop, by_name, name="origin.example")
    client = site.client()
    client.send(hello("a.example"))
    client.send(hello("b.example"))
    loop.pump()
    site.waiting[0].callback(["127.0.0.1"])
    assert site.received(site.origin) == [hello("a.example")]
    site.close()


def test_a_hello_that_cannot_be_read_passes_nowhere_and_a_good_one_after_it_does(loop: Loop) -> None:
    site = Site(loop, TUNNEL)
    client = site.client()
    bad = hello()[:-20] + bytes(20)
    client.send(bad)
    assert site.received(site.origin) == []
    client.send(hello())
    assert site.received(site.origin) == [hello()]
    site.close()
    [(facts, totals)] = site.ended
    assert facts.error is None
    assert totals.dropped == 1


def test_what_a_rule_wants_opened_is_relayed_where_nothing_opens_it(loop: Loop) -> None:
    site = Site(loop, INTERCEPT)
    site.client().send(hello())
    assert site.received(site.origin) == [hello()]
    site.close()
