"""Look-ups against name servers of our own on loopback, with a clock that stands still."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.dns import handler as handler_module
from sslintercept.dns import transport as transport_module
from sslintercept.dns.answer import MOST_ALIASES, Answer
from sslintercept.dns.message import AAAA, CD, CNAME, NXDOMAIN, PTR, RD, REFUSED, SERVFAIL, A
from sslintercept.dns.processor import DnsProcessor
from sslintercept.dns.resolvconf import Search
from sslintercept.dns.server import NameServers, Rules, ServerGroup
from sslintercept.dns.stream import IDLE, Stream
from sslintercept.dns.transport import AGE, MOST_RETIRED, PORTS, USES
from sslintercept.errors import ResolveError
from sslintercept.facts import Address
from sslintercept.testing.loop import Loop

from .conftest import Asker, ServerMaker
from .support import Query, a, address, cname, labels, message, ns, outcome, silence, soa

FOREVER = 1e6
ATS = Rules(number=5, soon=21.0, every=5.0, now=60.0)
"""the rules as ATS ships them"""


def failing(rcode: int) -> Callable[[Query], None]:
    return lambda query: query.reply(rcode=rcode)


def failing_once() -> Callable[[Query], None]:
    """The first query fails."""
    rcodes = [SERVFAIL]
    return lambda query: query.reply(rcode=rcodes.pop()) if rcodes else address(query)


def look(loop: Loop, processor: DnsProcessor, name: str = "www.example.com", rtype: int = A) -> Any:
    """Ask, and let everything happen that needs no time."""
    asked = processor.query(name, rtype, FOREVER)
    loop.pump()
    return outcome(asked)


# one question


def test_a_name_has_its_addresses(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(
        lambda q: q.reply(a(q.name, "192.0.2.1", 300), a(q.name, "192.0.2.2", 20), a("other.test", "9.9.9.9"))
    )
    found = look(loop, ask(server), "WWW.Example.COM.")
    assert found == Answer(
        0, "www.example.com", ("192.0.2.1", "192.0.2.2"), (), 20, False, str(server.address), 0.0, b""
    )


def test_an_ipv6_address_is_text_too(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    assert look(loop, ask(serve()), rtype=AAAA).addresses == ("2001:db8::1",)


def test_other_records_are_data(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(lambda q: q.reply((q.name, 16, 60, b"\3abc")))
    found = look(loop, ask(server), rtype=16)
    assert (found.addresses, found.rdata) == ((), (b"\3abc",))


def test_the_time_taken_is_told(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(silence)
    asked = ask(server).query("a.test", A, FOREVER)
    loop.pump()
    loop.advance(0.25)
    address(server.queries[0])
    loop.pump()
    assert outcome(asked).took == 0.25


def test_a_server_on_ipv6_is_asked_there(loop: Loop, ask: Asker) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("::1", 0))
        there = Address("::1", sock.getsockname()[1])
        processor = DnsProcessor(loop.handler, loop, NameServers(ServerGroup([there])))
        processor.start()
        asked = processor.query("a.test", A, FOREVER)
        loop.pump()
        data, source = sock.recvfrom(4096)
        query = Query(data, lambda x: sock.sendto(x, source), source, False)
        address(query)
        loop.pump()
        processor.stop()
    assert outcome(asked).addresses == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("name", "why"),
    [("a..test", "empty"), ("a" * 64 + ".test", "too long"), ("ä.test", "not ASCII"), ("a\n.test", "blank")],
)
def test_what_is_no_name_is_refused(loop: Loop, serve: ServerMaker, ask: Asker, name: str, why: str) -> None:
    server = serve()
    error = look(loop, ask(server), name)
    assert isinstance(error, ResolveError)
    assert why in str(error)
    assert "\n" not in str(error)
    assert not server.queries


# what ATS shows


def test_equal_look_ups_share_one_packet(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.1: 100 simultaneous look-ups, one packet, 100 callbacks in the order asked, the dups before their head."""
    server, told = serve(), list[int]()
    processor = ask(server)

    def told_of(which: int, answer: Answer) -> None:
        told.append(which)

    for i in range(100):
        processor.query("a.test", A, FOREVER).addCallback(partial(told_of, i))
    loop.pump()
    assert len(server.queries) == 1
    assert told == [*range(1, 100), 0]


def test_different_questions_are_not_merged_and_the_case_of_a_name_is_no_difference(
    loop: Loop, serve: ServerMaker, ask: Asker
) -> None:
    """T8.2: A and AAAA, and two PTRs, are different; Example.com and example.com are not."""
    server = serve()
    processor = ask(server)
    processor.query("Example.com", A, FOREVER)
    processor.query("example.com", A, FOREVER)
    processor.query("example.com", AAAA, FOREVER)
    processor.query("1.2.0.192.in-addr.arpa", PTR, FOREVER)
    processor.query("2.2.0.192.in-addr.arpa", PTR, FOREVER)
    loop.pump()
    assert sorted((q.name, q.type) for q in server.queries) == [
        ("1.2.0.192.in-addr.arpa", PTR),
        ("2.2.0.192.in-addr.arpa", PTR),
        ("example.com", A),
        ("example.com", AAAA),
    ]
    assert processor.counters.coalesced == 1


def test_ids_are_unique_unpredictable_and_released(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.3: no two outstanding queries share an id, over 10 000 look-ups; nothing is taken at the end."""
    outstanding: set[int] = set()
    ids: list[int] = []

    def check(query: Query) -> None:
        assert query.id not in outstanding
        outstanding.add(query.id)
        ids.append(query.id)
        if len(outstanding) == 100:
            outstanding.clear()
        address(query)

    server = serve(check)
    processor = ask(server, limit=100)
    for start in range(0, 10_000, 100):
        for i in range(start, start + 100):
            processor.query(f"n{i}.test", A, FOREVER)
        loop.pump()
    assert len(ids) == 10_000
    assert processor.load == (0, 0, 0)
    steps = {(y - x) & 0xFFFF for x, y in pairwise(ids)}
    assert len(steps) > 8_000  # a counter has one
    assert all(sum(x >> bit & 1 for x in ids) in range(4_600, 5_400) for bit in range(16))


def test_the_2049th_question_is_held(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.4: 2048 are in flight; one that returns makes room for the next."""
    server = serve(silence)
    processor = ask(server, waits=(100.0,))
    for i in range(2049):
        processor.query(f"n{i}.test", A, FOREVER).addErrback(lambda _: None)
    loop.pump()
    assert processor.load[:2] == (2049, 2048)
    assert "n2048.test" not in server.asked
    address(server.queries[0])
    loop.pump()
    assert processor.load[:2] == (2048, 2048)
    assert server.asked[-1] == "n2048.test"


def test_what_does_not_fit_is_ignored_and_the_look_up_still_succeeds(
    loop: Loop, serve: ServerMaker, ask: Asker
) -> None:
    """T8.5: a wrong source, a wrong id, a wrong question, a duplicate: ignored and counted."""
    forged = a("a.test", "6.6.6.6")

    def lie(query: Query) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(query.message(forged), query.source)  # the kernel drops it
        query.say(message(query.id ^ 1, query.question, [forged]))
        query.say(message(query.id, labels("b.test") + query.question[-4:], [forged]))
        query.say(message(query.id, query.question[:-4] + b"\0\x1c\0\1", [forged]))
        query.say(message(query.id, query.question[:-1] + b"\3", [forged]))
        query.say(query.message(forged, flags=0x0100))
        query.say(query.message(forged, flags=0x8980))
        query.say(message(query.id, b"", [forged]))
        query.say(b"\0")
        query.say(query.message(forged)[:-1])
        address(query)
        address(query)

    processor = ask(serve(lie))
    assert look(loop, processor, "a.test").addresses == ("192.0.2.1",)
    dropped = processor.counters.dropped
    assert dropped == {"id": 2, "question": 4, "header": 2, "short": 1, "malformed": 1}


def test_a_second_answer_to_one_attempt_is_a_duplicate(loop: Loop, serve: ServerMaker, ask: Asker) -> None:

    def script(query: Query) -> None:
        query.reply(rcode=SERVFAIL)
        query.reply(a(query.name, "6.6.6.6"))

    first = serve(script)
    processor = ask(first, serve())
    assert look(loop, processor).addresses == ("192.0.2.1",)
    assert processor.counters.dropped == {"duplicate": 1}


def test_an_answer_through_another_socket_is_a_strangers(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    held: list[Query] = []

    def script(query: Query) -> None:
        held.append(query)
        if len(held) == 2:
            # Each id to the other one's port.
            for one, other in zip(held, reversed(held), strict=True):
                other.say(one.message(a(one.name, "6.6.6.6")))

    processor = ask(serve(script), random=random.Random(3))
    asked = [processor.query(name, A, 0.5) for name in ("a.test", "b.test")]
    loop.pump()
    assert held[0].source != held[1].source
    assert processor.counters.dropped == {"source": 2}
    loop.pass_time(1)
    assert all(isinstance(outcome(one), ResolveError) for one in asked)


def test_a_silent_server_ends_in_a_failure_after_all_attempts(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.6: retries, then failure after (retries + 1) x timeout: 120 s as ATS ships it."""
    server = serve(silence)
    processor = ask(server, waits=(20.0,) * 6)
    asked = processor.query("a.test", A, FOREVER)
    failed: list[Any] = []
    asked.addErrback(failed.append)
    loop.pump()
    loop.pass_time(119.5)
    assert not failed
    assert len(server.queries) == 6
    loop.pass_time(1)
    assert "did not answer" in str(failed[0].value)
    assert processor.counters.timeouts == 6
    assert len({q.id for q in server.queries}) == 6


def test_a_limit_of_milliseconds_is_that_of_one_look_up_only(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.6: the caller's own limit is respected, by its own request only."""
    server = serve(silence)
    processor = ask(server)
    patient, hasty = processor.query("a.test", A, FOREVER), processor.query("a.test", A, 0.005)
    loop.pump()
    loop.advance(0.0049)
    loop.pump()
    assert not hasty.called
    loop.advance(0.0002)
    loop.pump()
    error = outcome(hasty)
    assert isinstance(error, ResolveError)
    assert "no answer in time" in str(error)
    assert not patient.called
    address(server.queries[0])
    loop.pump()
    assert outcome(patient).addresses == ("192.0.2.1",)
    assert processor.counters.expired == 1


def test_servfail_is_asked_again_and_nxdomain_is_not(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.7"""
    first = serve(failing_once())
    assert look(loop, ask(first)).addresses == ("192.0.2.1",)
    assert len(first.queries) == 2
    second = serve(lambda q: q.reply(authority=[soa("com", 30)], rcode=NXDOMAIN))
    found = look(loop, ask(second))
    assert (found.rcode, found.negative, found.ttl, found.addresses) == (NXDOMAIN, True, 30, ())
    assert len(second.queries) == 1


@pytest.mark.parametrize("rotate", [False, True])
def test_a_server_that_dies_is_probed_soon_given_up_now_and_taken_back(
    loop: Loop, serve: ServerMaker, ask: Asker, rotate: bool
) -> None:
    """T8.8: two servers, the first dies: a probe at "soon", the switch at "now", the return when it is well again."""
    first, second = serve(silence), serve()
    processor = ask(first, second, rotate=rotate, rules=ATS)
    for i in range(5 if not rotate else 10):
        processor.query(f"n{i}.test", A, FOREVER)
    loop.pump()
    loop.pass_time(2)
    assert len([q for q in first.queries if q.type == A]) == 5
    assert processor.counters.probes == 0
    loop.pass_time(18.9)
    assert processor.counters.probes == 0
    loop.pass_time(0.2)
    assert processor.counters.probes == 1  # 21 s after the fifth unanswered query
    loop.pass_time(38.8)
    assert processor.health()[0].up
    processor.query("late.test", A, FOREVER)
    processor.query("later.test", A, FOREVER)
    loop.pass_time(0.2)
    assert not processor.health()[0].up  # 60 s after it
    assert processor.counters.given_up == 1
    # Those that were under way to it moved at once.
    assert processor.load[0] == 0
    before = len(first.queries)
    for i in range(10):
        assert look(loop, processor, f"skip{i}.test").server == str(second.address)
    assert len(first.queries) == before
    first.script = address
    loop.pass_time(5.1)
    assert processor.health()[0].up
    servers = {look(loop, processor, f"back{i}.test").server for i in range(4)}
    assert servers == ({str(first.address), str(second.address)} if rotate else {str(first.address)})


def test_of_33_servers_32_are_used_and_a_warning_says_so(loop: Loop) -> None:
    """T8.9"""
    group = ServerGroup([Address("127.0.0.1", 1000 + i) for i in range(33)])
    assert len(group.servers) == 32
    events: list[Any] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        processor = DnsProcessor(loop.handler, loop, NameServers(group))
        processor.start()
        processor.stop()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert [(e["ignored"], e["used"]) for e in events if "ignored" in e] == [(1, 32)]


def test_a_truncated_answer_is_asked_for_over_tcp(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.10"""

    def script(query: Query) -> None:
        if query.stream:
            query.reply(*(a(query.name, f"192.0.2.{i}") for i in range(200)))
        else:
            query.reply(flags=0x8380)

    server = serve(script)
    processor = ask(server)
    found = look(loop, processor)
    assert len(found.addresses) == 200
    assert [q.stream for q in server.queries] == [False, True]
    assert processor.counters.truncated == 1


def test_search_domains_are_tried_in_order(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.11: in order, not behind a trailing dot, and a cancellation in flight mutes that caller only."""
    server = serve(
        lambda q: address(q) if q.name == "www.two.test" else q.reply(authority=[soa("", 9)], rcode=NXDOMAIN)
    )
    processor = ask(server, search=Search((b"\3one\4test\0", b"\3two\4test\0")))
    found = look(loop, processor, "www")
    assert server.asked == ["www.one.test", "www.two.test"]
    assert (found.canonical, found.ttl) == ("www.two.test", 9)  # it depends on the news that www.one.test is not there
    server.queries.clear()
    assert look(loop, processor, "www.").rcode == NXDOMAIN
    assert server.asked == ["www"]
    server.queries.clear()
    assert look(loop, processor, "a.b").rcode == NXDOMAIN
    assert server.asked == ["a.b", "a.b.one.test", "a.b.two.test"]


def test_a_name_that_exists_without_such_records_somewhere_is_not_called_missing(
    loop: Loop, serve: ServerMaker, ask: Asker
) -> None:
    server = serve(lambda q: q.reply(authority=[soa("", 9)], rcode=NXDOMAIN if q.name == "a.b" else 0))
    found = look(loop, ask(server, search=Search((b"\3one\4test\0",))), "a.b")
    assert (found.rcode, found.negative) == (0, True)


def test_a_servers_failure_does_not_lead_to_the_next_search_domain(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """Otherwise a name would mean something else while its servers are down."""
    server = serve(failing(SERVFAIL))
    assert isinstance(look(loop, ask(server, search=Search((b"\3one\4test\0",))), "a.b"), ResolveError)
    assert set(server.asked) == {"a.b"}


def test_a_cancelled_look_up_is_mute_and_the_others_are_told(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """T8.11: whoever cancels, be it the head."""
    server = serve(silence)
    processor = ask(server)
    asked = [processor.query("a.test", A, FOREVER) for _ in range(3)]
    loop.pump()
    asked[0].cancel()
    assert isinstance(outcome(asked[0]), CancelledError)
    address(server.queries[0])
    loop.pump()
    assert [outcome(one).addresses for one in asked[1:]] == [("192.0.2.1",)] * 2
    assert len(server.queries) == 1


# waiting, and giving up


@pytest.mark.parametrize("sent", [False, True])
def test_the_last_cancellation_takes_the_question_with_it(
    loop: Loop, serve: ServerMaker, ask: Asker, sent: bool
) -> None:
    server = serve(silence)
    processor = ask(server, limit=1)
    first = processor.query("first.test", A, FOREVER)
    asked = [processor.query("a.test", A, FOREVER) for _ in range(2)]
    loop.pump()
    if sent:
        address(server.queries[0])
        loop.pump()
    for one in asked:
        one.cancel()
        one.addErrback(lambda _: None)
    loop.pump()
    processor.query("b.test", A, FOREVER)
    if not sent:
        address(server.queries[0])
    loop.pump()
    assert outcome(first).addresses == ("192.0.2.1",)
    assert server.asked == ["first.test", *(["a.test"] if sent else []), "b.test"]
    if sent:
        address(server.queries[1])
        loop.pump()
        assert processor.counters.dropped == {"id": 1}
    address(server.queries[-1])
    loop.pump()
    assert processor.load == (0, 0, 0)


def test_ten_thousand_duplicates_make_one_query(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve()
    processor = ask(server)
    told: list[Answer] = []
    for _ in range(10_000):
        processor.query("a.test", A, FOREVER).addCallback(told.append)
    loop.pump()
    assert (len(told), len(server.queries), processor.counters.coalesced) == (10_000, 1, 9_999)
    assert processor.load == (0, 0, 0)


def test_questions_beyond_the_queue_are_refused(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(silence)
    processor = ask(server, limit=1, most_pending=2)
    asked = []
    for i in range(3):
        asked.append(processor.query(f"n{i}.test", A, FOREVER))
        loop.pump()
    asked.append(processor.query("n1.test", A, FOREVER))  # a duplicate takes no room
    error = outcome(processor.query("n3.test", A, FOREVER))
    assert isinstance(error, ResolveError)
    assert "too many questions are under way" in str(error)
    assert processor.counters.refused == 1
    server.script = address
    address(server.queries[0])
    loop.pump()
    assert all(outcome(one).addresses for one in asked)
    assert server.asked == ["n0.test", "n1.test", "n2.test"]


def test_a_question_that_is_asked_again_goes_before_those_that_were_never_sent(
    loop: Loop, serve: ServerMaker, ask: Asker
) -> None:
    server = serve(failing_once())
    processor = ask(server, limit=1)
    for name in ("a.test", "b.test"):
        processor.query(name, A, FOREVER)
    loop.pump()
    assert server.asked == ["a.test", "a.test", "b.test"]


def test_a_late_answer_to_an_earlier_attempt_counts(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(silence)
    asked = (processor := ask(server)).query("a.test", A, FOREVER)
    loop.pump()
    loop.pass_time(1.5)
    assert len(server.queries) == 2
    address(server.queries[0])
    loop.pump()
    assert outcome(asked).took == 1.5
    address(server.queries[1])
    loop.pump()
    assert processor.counters.dropped == {"id": 1}


def test_a_late_failure_of_an_earlier_attempt_changes_nothing(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    first, second = serve(silence), serve(silence)
    asked = ask(first, second).query("a.test", A, FOREVER)
    loop.pump()
    loop.pass_time(1.5)
    first.queries[0].reply(rcode=SERVFAIL)
    loop.pump()
    assert (len(first.queries), len(second.queries)) == (1, 1)
    address(second.queries[0])
    loop.pump()
    assert outcome(asked).addresses == ("192.0.2.1",)


def test_a_waiter_may_ask_again_cancel_others_and_raise(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve()
    processor = ask(server)
    asked: list[Deferred[Answer]] = []

    def mean(answer: Answer) -> None:
        asked[2].cancel()
        asked.append(processor.query("a.test", A, FOREVER))
        raise RuntimeError("a defect")

    asked += [processor.query("a.test", A, FOREVER) for _ in range(4)]
    asked[1].addCallback(mean)
    loop.pump()
    assert outcome(asked[0]).addresses == outcome(asked[3]).addresses == outcome(asked[4]).addresses
    assert isinstance(outcome(asked[1]), RuntimeError)
    assert isinstance(outcome(asked[2]), CancelledError)
    assert len(server.queries) == 2


def test_stopping_fails_whoever_waits_and_closes_every_socket(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(silence)
    server.deaf = True
    processor = ask(server, limit=2)
    streaming = ask(server, tcp=True)
    again: list[Any] = []

    def mean(failure: Failure) -> Failure:
        asked[2].cancel()
        return failure

    asked = [one.query(name, A, FOREVER) for one in (processor, streaming) for name in ("a.test", "b.test", "c.test")]
    asked.append(processor.query("a.test", A, FOREVER))
    asked[0].addErrback(lambda _: again.append(outcome(processor.query("d.test", A, FOREVER))))
    asked[1].addErrback(mean)
    loop.pump()
    processor.stop()
    streaming.stop()
    loop.pump()
    assert all(isinstance(outcome(one), ResolveError | CancelledError) for one in asked[1:])
    assert "not running" in str(again[0])
    assert loop.handler.watched() == []
    assert loop.getDelayedCalls() == [loop.cop.next]
    processor.stop()


# aliases


def test_an_alias_is_followed_within_an_answer(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(
        lambda q: q.reply(a("C.test", "192.0.2.9", 50), cname("b.test", "c.test", 40), cname(q.name, "B.test", 30))
    )
    found = look(loop, ask(server), "a.test")
    assert (found.canonical, found.addresses, found.ttl) == ("c.test", ("192.0.2.9",), 30)
    assert len(server.queries) == 1


def test_an_alias_beyond_the_answer_is_asked_for(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(
        lambda q: q.reply(cname("a.test", "b.test", 30)) if q.name == "a.test" else q.reply(a(q.name, "192.0.2.9", 99))
    )
    processor = ask(server)
    asked = [processor.query("a.test", A, FOREVER), processor.query("b.test", A, FOREVER)]
    loop.pump()
    assert [outcome(one).addresses for one in asked] == [("192.0.2.9",)] * 2
    assert [(outcome(one)) for one in asked] == [None, None]
    assert server.asked == ["a.test", "b.test"] or server.asked == ["a.test", "b.test", "b.test"]


def test_an_alias_to_nothing_is_nothing(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(lambda q: q.reply(cname(q.name, "b.test", 30), authority=[soa("test", 7)], rcode=NXDOMAIN))
    found = look(loop, ask(server), "a.test")
    assert (found.rcode, found.negative, found.canonical, found.ttl) == (NXDOMAIN, True, "b.test", 7)


def test_the_alias_itself_can_be_asked_for(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(lambda q: q.reply(cname(q.name, "b.test")))
    assert look(loop, ask(server), "a.test", CNAME).rdata == (labels("b.test"),)


def test_aliases_that_lead_in_a_circle_are_an_error(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    within = serve(lambda q: q.reply(cname("a.test", "b.test"), cname("b.test", "a.test")))
    assert "lead nowhere" in str(look(loop, ask(within), "a.test"))
    beyond = serve(lambda q: q.reply(cname(q.name, "b.test" if q.name == "a.test" else "a.test")))
    assert "lead nowhere" in str(look(loop, ask(beyond), "a.test"))
    assert len(beyond.queries) <= MOST_ALIASES + 1
    endless = serve(lambda q: q.reply(cname(q.name, f"{int(q.name.split('.')[0]) + 1}.test")))
    assert "lead nowhere" in str(look(loop, ask(endless), "0.test"))
    assert len(endless.queries) == MOST_ALIASES + 1


# servers that lie, fail, or are slow


def test_the_case_of_letters_is_mixed_and_must_come_back(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """A server that folds it is asked over TCP, where nobody can forge; one that forges is not heard."""

    def script(query: Query) -> None:
        if query.stream:
            address(query)
        else:
            query.say(message(query.id, query.question.swapcase(), [a(query.name, "6.6.6.6")]))

    server = serve(script)
    processor = ask(server)
    asked = processor.query("averylongnamewithmanyletters.example.com", A, FOREVER)
    loop.pump()
    assert server.queries[0].spelled != server.queries[0].name
    assert not asked.called
    assert processor.counters.dropped == {"case": 1}
    loop.pass_time(1.1)
    assert outcome(asked).addresses == ("192.0.2.1",)
    assert [q.stream for q in server.queries] == [False, True]


def test_a_connection_may_fold_the_case(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(lambda q: q.say(message(q.id, q.question.lower(), [a(q.name, "192.0.2.1")])))
    assert look(loop, ask(server, tcp=True)).addresses == ("192.0.2.1",)


def test_without_mixing_the_name_is_asked_as_it_is(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve()
    look(loop, ask(server, mix_case=False), "WWW.Example.com")
    assert server.queries[0].spelled == "www.example.com"


def test_one_dead_one_slow_and_one_lying_server_do_not_keep_a_name_from_its_address(
    loop: Loop, serve: ServerMaker, ask: Asker
) -> None:
    dead, slow = serve(silence), serve(silence)
    lying = serve(lambda q: q.say(message(q.id ^ 5, q.question, [a(q.name, "6.6.6.6")])))
    asked = ask(dead, lying, slow).query("a.test", A, FOREVER)
    loop.pump()
    loop.pass_time(2.5)
    assert len(dead.queries) == len(lying.queries) == len(slow.queries) == 1
    loop.pass_time(0.5)
    address(slow.queries[0])
    loop.pump()
    assert outcome(asked).server == str(slow.address)


@pytest.mark.parametrize("rcode", [SERVFAIL, REFUSED, 11])
def test_a_failing_server_is_left_for_another_at_once(loop: Loop, serve: ServerMaker, ask: Asker, rcode: int) -> None:
    bad, good = serve(failing(rcode)), serve()
    processor = ask(bad, good)
    assert look(loop, processor).server == str(good.address)
    assert (processor.health()[0].failed, processor.counters.failures) == (1, 1)


def test_when_every_server_fails_twice_the_look_up_does(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    first, second = serve(failing(SERVFAIL)), serve(failing(REFUSED))
    error = look(loop, ask(first, second))
    assert isinstance(error, ResolveError)
    assert "REFUSED" in str(error)
    assert (len(first.queries), len(second.queries)) == (2, 2)


def test_a_server_that_points_elsewhere_is_left(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    lame = serve(lambda q: q.reply(authority=[ns("com", "a.gtld-servers.net")], flags=0x8100))
    assert look(loop, ask(lame, serve())).addresses == ("192.0.2.1",)


def test_a_port_where_nobody_listens_is_left_at_once(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    gone, good = serve(), serve()
    gone.close()
    processor = ask(gone, good)
    asked = [processor.query(f"n{i}.test", A, FOREVER) for i in range(40)]
    loop.pump()
    assert {outcome(one).server for one in asked} == {str(good.address)}
    assert "connection refused" in str(look(loop, ask(gone)))


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("host", ["255.255.255.255", "fe80::1%nosuch"])
def test_a_server_that_cannot_be_reached_is_an_error_at_once(loop: Loop, host: str, tcp: bool) -> None:
    processor = DnsProcessor(loop.handler, loop, NameServers(ServerGroup([Address(host, 53)])), tcp=tcp)
    processor.start()
    error = look(loop, processor)
    assert isinstance(error, ResolveError)
    assert f"[{host}]:53 failed" in str(error) or f"{host}:53 failed" in str(error)
    processor.stop()


@pytest.mark.parametrize("empty", [False, True])
def test_a_server_without_edns_is_asked_without_it(loop: Loop, serve: ServerMaker, ask: Asker, empty: bool) -> None:
    """RFC 6891 7: FORMERR, with the question or the header alone."""

    def script(query: Query) -> None:
        if not query.extras:
            address(query)
        elif empty:
            query.say(query.id.to_bytes(2, "big") + b"\x81\x81" + bytes(8))
        else:
            query.reply(rcode=1)

    server = serve(script)
    processor = ask(server)
    assert look(loop, processor, "a.test").addresses == ("192.0.2.1",)
    assert [q.extras for q in server.queries] == [1, 0]
    look(loop, processor, "b.test")
    assert server.queries[-1].extras == 0


def test_a_server_that_answers_formerr_to_everything_fails(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    assert "FORMERR" in str(look(loop, ask(serve(failing(1)))))


def test_when_all_servers_are_down_they_are_asked_all_the_same(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    servers = [serve(silence), serve(silence)]
    processor = ask(*servers)
    for i in range(10):
        processor.query(f"n{i}.test", A, FOREVER).addErrback(lambda _: None)
    loop.pump()
    loop.pass_time(20)
    assert not any(one.up for one in processor.health())
    servers[0].script = address
    assert look(loop, processor).addresses == ("192.0.2.1",)
    assert processor.health()[0].up


def test_a_probe_that_is_truncated_or_fails_is_judged(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """A truncated answer is a sign of life, a failure is none."""
    first, second = serve(silence), serve()
    processor = ask(first, second)
    for i in range(5):
        processor.query(f"n{i}.test", A, FOREVER)
    loop.pump()
    loop.pass_time(2)
    first.script = failing(SERVFAIL)
    loop.pass_time(12)
    assert not processor.health()[0].up
    first.script = failing(1)
    loop.pass_time(5)
    assert not processor.health()[0].up
    first.script = lambda q: q.say(message(q.id, q.question.swapcase()))
    loop.pass_time(5)
    assert not processor.health()[0].up
    first.script = lambda q: q.reply(flags=0x8380)
    loop.pass_time(5)
    assert processor.health()[0].up
    assert processor.health()[0].smoothed == 0.0


def test_a_domain_can_have_servers_of_its_own(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    everything, corp, lab = serve(), serve(), serve()
    processor = ask(
        everything, split={"corp.test": ServerGroup([corp.address]), "lab.corp.test.": ServerGroup([lab.address])}
    )
    for name in ("a.corp.test", "corp.test", "b.lab.CORP.test", "notcorp.test", "test"):
        look(loop, processor, name)
    assert corp.asked == ["a.corp.test", "corp.test"]
    assert lab.asked == ["b.lab.corp.test"]
    assert everything.asked == ["notcorp.test", "test"]


# sockets and connections


def test_source_ports_are_many_random_and_replaced(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve()
    processor = ask(server)
    for i in range(0, 1000, 50):
        for j in range(50):
            processor.query(f"n{i + j}.test", A, FOREVER)
        loop.pump()
    ports = [q.source[1] for q in server.queries]
    assert all(16_384 <= port < 49_152 for port in ports)
    assert len(set(ports[:100])) == PORTS
    assert len(set(ports)) >= PORTS + 1000 // (2 * USES) - PORTS
    assert max(ports.count(port) for port in set(ports)) <= 2 * USES
    assert len(loop.handler.watched()) <= PORTS
    old = set(ports)
    loop.pass_time(AGE)
    for i in range(30):
        look(loop, processor, f"new{i}.test")
    assert not old & {q.source[1] for q in server.queries[-30:]}


def test_a_replaced_socket_stays_for_its_late_answers_but_not_for_ever(
    loop: Loop, serve: ServerMaker, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "USES", 1)
    server = serve(silence)
    processor = ask(server)
    asked = [processor.query(f"n{i}.test", A, FOREVER) for i in range(100)]
    loop.pump()
    assert len(loop.handler.watched()) <= PORTS + MOST_RETIRED
    for query in server.queries:
        address(query)
    loop.pump()
    told = sum(one.called for one in asked)
    assert PORTS + MOST_RETIRED - 1 <= told < 100
    server.script = address
    loop.pass_time(2)
    assert all(outcome(one).addresses for one in asked)
    assert len(loop.handler.watched()) <= PORTS


def test_the_kernel_chooses_a_port_when_ours_are_taken(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    class Stubborn(random.Random):
        """Always the same port."""

        def getrandbits(self, k: int, /) -> int:
            return 7 if k == 15 else super().getrandbits(k)

    server = serve()
    processor = ask(server, random=Stubborn(1))
    for i in range(20):
        look(loop, processor, f"n{i}.test")
    assert len({q.source[1] for q in server.queries}) > 1


def test_queries_follow_each_other_on_one_connection(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """RFC 7766 6.2.1.1; answers may come in any order."""
    server = serve(silence)
    processor = ask(server, tcp=True)
    asked = [processor.query(f"n{i}.test", A, FOREVER) for i in range(50)]
    loop.pump()
    assert (len(server.queries), server.accepted) == (50, 1)
    for query in reversed(server.queries):
        address(query)
    loop.pump()
    assert all(outcome(one).addresses for one in asked)
    server.script = address
    for name in ("next.test", "last.test"):
        assert look(loop, processor, name).addresses
    assert server.accepted == 1


def test_an_idle_connection_is_closed(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve()
    processor = ask(server, tcp=True)
    look(loop, processor, "a.test")
    loop.pass_time(IDLE - 1)
    look(loop, processor, "b.test")
    loop.pass_time(IDLE - 1)
    assert len(server.connections) == 1
    loop.pass_time(2)
    assert len(server.connections) == 0
    look(loop, processor, "c.test")
    assert server.accepted == 2


def test_a_connection_with_a_question_on_it_is_not_idle(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve()
    processor = ask(server, tcp=True, waits=(100.0,))
    look(loop, processor, "a.test")
    server.script = silence
    asked = processor.query("b.test", A, FOREVER)
    loop.pump()
    loop.pass_time(IDLE + 2)
    address(server.queries[-1])
    loop.pump()
    assert outcome(asked).addresses
    assert server.accepted == 1


@pytest.mark.parametrize("cut", [1, 2, 3, 30])
def test_messages_on_a_connection_come_in_any_pieces(loop: Loop, serve: ServerMaker, ask: Asker, cut: int) -> None:
    held: list[bytes] = []
    server = serve(lambda q: held.append(q.message(a(q.name, "192.0.2.1"))))
    processor = ask(server, tcp=True)
    asked = [processor.query(name, A, FOREVER) for name in ("a.test", "b.test")]
    loop.pump()
    data = b"".join(len(one).to_bytes(2, "big") + one for one in held)
    for at in range(0, len(data), cut):
        server.connections[0][0].sendall(data[at : at + cut])
        loop.pump()
    assert all(outcome(one).addresses for one in asked)


def test_a_connection_that_breaks_moves_its_questions(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    first, second = serve(silence), serve()
    first.script = lambda query: first.drop()
    processor = ask(first, second, tcp=True)
    asked = [processor.query(f"n{i}.test", A, FOREVER) for i in range(3)]
    loop.pump()
    assert {outcome(one).server for one in asked} == {str(second.address)}


def test_a_server_that_takes_no_connection_is_left(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    gone = serve()
    gone.close()
    assert look(loop, ask(gone, serve(), tcp=True)).addresses == ("192.0.2.1",)
    error = look(loop, ask(gone, tcp=True))
    assert "connection refused" in str(error)


def test_a_silent_connection_is_given_up_with_its_questions(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(silence)
    processor = ask(server, tcp=True)
    asked = processor.query("a.test", A, FOREVER)
    loop.pump()
    loop.pass_time(0.9)
    assert server.accepted == 1
    server.script = address
    loop.pass_time(0.2)
    loop.pump()
    assert outcome(asked).addresses
    assert server.accepted == 2


class Pipeish:
    """A stream that somebody else makes, answered by hand."""

    def __init__(self) -> None:
        self.received: Callable[[bytes], None] = lambda data: None
        self.lost: Callable[[str], None] = lambda why: None
        self.got = bytearray()
        self.closed = 0

    def write(self, data: bytes) -> None:
        self.got += data

    def close(self) -> None:
        self.closed += 1

    def answer(self) -> None:
        size = int.from_bytes(self.got[:2], "big")
        replies: list[bytes] = []
        query = Query(bytes(self.got[2 : 2 + size]), replies.append, None, True)
        del self.got[: 2 + size]
        address(query)
        self.received(len(replies[0]).to_bytes(2, "big") + replies[0])


def test_streams_can_be_made_by_somebody_else(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    """As for TLS (RFC 7858): at once, later, not at all, or with a defect."""
    server = serve()
    stream = Pipeish()
    opening: list[Deferred[Stream]] = [succeed(stream), Deferred(), fail(ValueError("bad certificate"))]
    made: list[object] = []

    def open_stream(asked: object) -> Deferred[Stream]:
        made.append(asked)
        if len(made) > 3:
            raise RuntimeError("a defect")
        return opening[len(made) - 1]

    processor = ask(server, open_stream=open_stream)
    first = processor.query("a.test", A, FOREVER)
    loop.pump()
    stream.answer()
    assert outcome(first).addresses
    stream.lost("closed by its peer")
    assert stream.closed
    second = processor.query("b.test", A, FOREVER)
    loop.pump()
    assert not second.called
    again = Pipeish()
    opening[1].callback(again)
    again.answer()
    assert outcome(second).addresses
    again.lost("closed by its peer")
    error = look(loop, processor, "c.test")
    assert "a defect" in str(error)
    assert processor.counters.failures == 2
    assert not server.queries
    assert [str(one) for one in made] == [str(server.address)] * 4


def test_a_stream_that_is_not_opened_in_time_is_given_up(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    cancelled: list[object] = []
    processor = ask(serve(), open_stream=lambda server: Deferred(cancelled.append), waits=(1.0, 1.0))
    asked = processor.query("a.test", A, FOREVER)
    loop.pump()
    loop.pass_time(2.5)
    assert "did not answer" in str(outcome(asked))
    assert len(cancelled) == 2


# whole messages


def test_a_whole_message_is_passed_on(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve(lambda q: q.reply((q.name, 16, 60, b"\3abc"), flags=0x81A0))
    processor = ask(server)
    asked = processor.raw(labels("A.test"), 16, 1, FOREVER, flags=RD | CD | 0x8000, signed=True)
    loop.pump()
    found = outcome(asked)
    assert found.message == message(0, labels("a.test") + b"\0\x10\0\1", [("a.test", 16, 60, b"\3abc")], flags=0x81A0)
    assert (found.rdata, found.ttl, found.negative) == ((b"\3abc",), 60, False)
    query = server.queries[0]
    assert query.flags == RD | CD
    assert query.data.endswith(b"\0\0\x29\x04\xd0\0\0\x80\0\0\0")


def test_whole_messages_with_other_flags_are_other_questions(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    server = serve()
    processor = ask(server)
    for flags, signed in ((RD, False), (RD, False), (RD, True), (RD | CD, False)):
        processor.raw(labels("a.test"), A, 1, FOREVER, flags=flags, signed=signed)
    processor.query("a.test", A, FOREVER)
    loop.pump()
    assert len(server.queries) == 4


def test_a_whole_message_follows_no_alias_and_no_failure_hides_it(loop: Loop, serve: ServerMaker, ask: Asker) -> None:
    aliased = serve(lambda q: q.reply(cname(q.name, "b.test")))
    asked = ask(aliased).raw(labels("a.test"), A, 1, FOREVER)
    loop.pump()
    assert outcome(asked).negative
    assert len(aliased.queries) == 1
    server = serve(failing(REFUSED))
    asked = ask(server).raw(labels("a.test"), A, 1, FOREVER)
    loop.pump()
    found = outcome(asked)
    assert (found.rcode, found.message) == (REFUSED, message(0, labels("a.test") + b"\0\1\0\1", flags=0x8185))
    short = serve(lambda q: q.say(q.id.to_bytes(2, "big") + b"\x81\x81" + bytes(8)))
    asked = ask(short).raw(labels("a.test"), A, 1, FOREVER)
    loop.pump()
    assert outcome(asked).message == b"\0\0\x81\x81" + bytes(8)


# defects


def test_a_defect_while_an_answer_is_looked_at_costs_one_socket(
    loop: Loop, serve: ServerMaker, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes, asked: bytes, stream: bool) -> None:
        monkeypatch.undo()
        raise RuntimeError("a defect")

    for tcp in (False, True):
        monkeypatch.setattr(handler_module, "misfit", broken)
        assert look(loop, ask(serve(), tcp=tcp)).addresses == ("192.0.2.1",)
        assert [str(failure.value) for failure in loop.failures] == ["a defect"]
        loop.failures.clear()
