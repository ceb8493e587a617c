"""Syslog on its way: a connection that comes, goes and hangs, with real sockets in a loop whose time we make."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail

from sslintercept.errors import EngineError
from sslintercept.event import sender as module
from sslintercept.event.record import from_json
from sslintercept.event.sender import FIRST_RETRY, MOST_RETRY, STABLE, STALLED, SyslogSender
from sslintercept.event.syslog import Origin
from sslintercept.net.line import Line
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import EPOCH
from tests.engines import Engine
from tests.event.events import event
from tests.event.test_syslog import taken_apart


def unframed(data: bytes) -> list[bytes]:
    """The messages in a stream (RFC 6587 3.4.1)."""
    found = []
    while data:
        length, _, data = data.partition(b" ")
        found.append(data[: int(length)])
        assert len(found[-1]) == int(length), "a message is cut"
        data = data[int(length) :]
    return found


def ids(data: bytes) -> list[str]:
    return [from_json(taken_apart(one)[7]).id for one in unframed(data)]


class Collector(Engine):
    """A collector that can be down."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.down = False
        self.attempts = 0

    def open(self) -> Deferred[Line]:
        self.attempts += 1
        if self.down:
            return fail(EngineError("Connection refused", where="syslog x", remedy="is it up?", fault="unreachable"))
        return super().open()


def made(loop: Loop, collector: Collector, start: bool = True) -> SyslogSender:
    sender = SyslogSender("x", collector.open, lambda: Origin("h", 1, "1"), loop, lambda: EPOCH)
    if start:
        sender.start()
    return sender


def ended(loop: Loop, sender: SyslogSender, seconds: float = 5.0) -> None:
    done = sender.close(seconds)
    loop.pass_time(seconds + 3)
    assert done.called


def test_events_arrive_in_order_framed(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    sender = made(loop, collector)
    for number in range(3):
        sender.tell(event(id=str(number), name="ü\n"))
    loop.pump()
    assert ids(collector.peers[0].take()) == ["0", "1", "2"]
    assert (sender.sent, sender.dropped, said) == (3, 0, [])
    ended(loop, sender)
    assert collector.peers[0].ended


def test_a_collector_that_is_down_is_tried_less_and_less_often(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    collector.down = True
    sender = made(loop, collector)
    sender.tell(event(id="1"))
    seconds = 0.0
    for attempt in range(1, 12):
        assert collector.attempts == attempt
        seconds = min(FIRST_RETRY * 2 ** (attempt - 1), MOST_RETRY)
        loop.pass_time(seconds - 0.01)
        assert collector.attempts == attempt
        loop.pass_time(0.02)
    assert seconds == MOST_RETRY
    collector.down = False
    loop.pass_time(MOST_RETRY)
    assert ids(collector.peers[0].take()) == ["1"]
    assert said == [
        "syslog x: Connection refused; events wait, 4194304 bytes at most",
        "syslog x: connected again; 0 events were lost",
    ]
    ended(loop, sender)


def test_a_reload_tries_at_once(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    collector.down = True
    sender = made(loop, collector)
    loop.pass_time(10)
    collector.down = False
    before = collector.attempts
    sender.reopen()
    assert collector.attempts == before + 1
    sender.tell(event(id="1"))
    loop.pump()
    assert ids(collector.peers[0].take()) == ["1"]
    sender.reopen()
    assert collector.attempts == before + 1
    ended(loop, sender)


def test_a_connection_that_is_lost_is_opened_again_and_what_waited_follows(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    sender = made(loop, collector)
    loop.pass_time(STABLE)
    sender.tell(event(id="1"))
    loop.pump()
    collector.peers[0].finish()
    loop.pump()
    sender.tell(event(id="2"))
    assert len(collector.peers) == 1
    loop.pass_time(FIRST_RETRY)
    assert ids(collector.peers[1].take()) == ["2"]
    assert said[0].startswith("syslog x: it closed the connection")
    ended(loop, sender)


def test_a_collector_that_closes_every_connection_is_not_hammered(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    sender = made(loop, collector)
    for _ in range(100):
        for peer in collector.peers:
            if not peer.ended:
                peer.finish()
        loop.pass_time(1)
    assert len(collector.peers) < 9
    ended(loop, sender)


def test_a_collector_that_reads_nothing_costs_a_bounded_queue(
    loop: Loop, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 20_000)
    collector = Collector(loop)
    collector.buffer = 4096
    sender = made(loop, collector)
    collector.peers[0].reading = False
    for number in range(500):
        sender.tell(event(id=str(number)))
    dropped = sender.dropped
    assert 0 < dropped < 500
    loop.pass_time(STALLED / 2)
    assert not collector.peers[0].got
    collector.peers[0].reading = True
    loop.pump()
    assert ids(collector.peers[0].take()) == [str(number) for number in range(500 - dropped)]
    sender.tell(event(id="more"))
    loop.pump()
    assert ids(collector.peers[0].take()) == ["more"]
    ended(loop, sender)


def test_a_collector_that_takes_nothing_for_long_is_cut_and_told_what_was_lost(
    loop: Loop, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 20_000)
    collector = Collector(loop)
    collector.buffer = 4096
    sender = made(loop, collector)
    collector.peers[0].reading = False
    for number in range(500):
        sender.tell(event(id=str(number)))
    dropped = sender.dropped
    loop.pass_time(STALLED + 10)
    assert "silent for too long" in said[0]
    messages = unframed(collector.peers[1].take())
    assert taken_apart(messages[0])[5:] == [
        b"dropped",
        b'[origin software="sslintercept" swVersion="1"][sslintercept@32473 dropped="%d"]' % dropped,
        b"%d events were not sent" % dropped,
    ]
    assert from_json(taken_apart(messages[-1])[7]).id == str(499 - dropped)
    ended(loop, sender)


def test_a_silent_collector_that_owes_nothing_is_left_in_peace(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    sender = made(loop, collector)
    loop.pass_time(10 * STALLED)
    assert (len(collector.peers), said) == (1, [])
    ended(loop, sender)


def test_what_a_collector_says_is_ignored(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    sender = made(loop, collector)
    collector.peers[0].send(b"5 rubbish\xff\0")
    loop.pump()
    sender.tell(event(id="1"))
    loop.pump()
    assert ids(collector.peers[0].take()) == ["1"]
    ended(loop, sender)


def test_the_end_waits_for_what_is_not_sent_yet(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    collector.buffer = 4096
    sender = made(loop, collector)
    collector.peers[0].reading = False
    for number in range(100):
        sender.tell(event(id=str(number)))
    done = sender.close(5.0)
    loop.pass_time(3.0)
    assert not done.called
    collector.peers[0].reading = True
    loop.pump()
    assert ids(collector.peers[0].take()) == [str(number) for number in range(100)]
    loop.pass_time(0.1)
    collector.peers[0].finish()
    loop.pump()
    assert done.called
    sender.tell(event())
    assert sender.dropped == 1
    assert said == []


def test_the_end_does_not_wait_for_ever(loop: Loop, said: list[str]) -> None:
    collector = Collector(loop)
    collector.down = True
    sender = made(loop, collector)
    sender.tell(event(id="1"))
    done = sender.close(5.0)
    loop.pass_time(4.9)
    assert not done.called
    loop.pass_time(0.2)
    assert done.called
    assert said[-1] == "syslog x: 1 events were not sent in time"


def test_the_end_gives_up_a_connection_that_does_not_come(loop: Loop, said: list[str]) -> None:
    opening: Deferred[Line] = Deferred()
    sender = SyslogSender("x", lambda: opening, lambda: Origin("h", 1, "1"), loop, lambda: EPOCH)
    sender.start()
    done = sender.close(1.0)
    assert done.called
    assert opening.called
    assert said == []


def test_a_new_way_counts_from_the_next_connection_on(loop: Loop, said: list[str]) -> None:
    first, second = Collector(loop), Collector(loop)
    sender = made(loop, first)
    sender.opens = second.open
    loop.pass_time(STABLE)
    first.peers[0].finish()
    loop.pump()
    loop.pass_time(FIRST_RETRY)
    assert (first.attempts, second.attempts) == (1, 1)
    ended(loop, sender)
