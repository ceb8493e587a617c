"""Scans with a clamd that follows a script, well or badly behaved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sslintercept.clamd.client import Clamd, Limits, Scan
from sslintercept.clamd.wire import END, Clean, Found, TooBig
from sslintercept.net.breaker import Breaker
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.engines import Engine, Stopping, fault, outcome


def says(reply: bytes) -> Callable[[Peer], object]:
    """Answers when the body has ended."""

    def script(peer: Peer) -> None:
        if peer.got.endswith(END) or not peer.got.startswith(b"zINSTREAM"):
            peer.send(reply)

    return script


def made(loop: Loop, script: Callable[[Peer], object], **limits: float) -> tuple[Clamd, Engine]:
    engine = Engine(loop, script)
    return Clamd(loop.handler, engine.open, limits=Limits(**limits)), engine  # type: ignore[arg-type] # ints are floats


def begun(clamd: Clamd) -> Scan:
    """One whose first byte has come."""
    scan = clamd.scan()
    scan.write(b"x")
    return scan


def scanned(loop: Loop, clamd: Clamd, *pieces: bytes) -> Scan:
    scan = clamd.scan()
    for piece in pieces:
        scan.write(piece)
        loop.pump()
    scan.finish()
    loop.pump()
    return scan


def test_a_body_is_sent_as_it_comes_and_the_verdict_is_told(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: Worm FOUND\0"))
    assert outcome(scanned(loop, clamd, b"one", b"three").outcome) == Found("Worm")
    assert engine.peers[0].got == b"zINSTREAM\0\0\0\0\3one\0\0\0\5three\0\0\0\0"
    assert engine.peers[0].ended
    assert clamd.places.taken == 0


def test_an_empty_body_has_a_verdict(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: OK\0"))
    assert outcome(scanned(loop, clamd).outcome) == Clean()
    assert engine.peers[0].got == b"zINSTREAM\0\0\0\0\0"


def test_a_body_above_the_limit_is_named_and_not_sent_on(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: OK\0"), most=10)
    scan = clamd.scan()
    detached: list[bool] = []
    scan.detached = lambda: detached.append(True)
    scan.write(b"0123456789")
    assert outcome(scan.outcome) is None
    scan.write(b"x")
    assert outcome(scan.outcome) == TooBig()
    loop.pump()
    assert detached == [True]
    scan.write(b"more does no harm")
    loop.pump()
    assert b"more" not in engine.peers[0].got


def test_a_limit_of_clamd_below_ours_is_named_too(loop: Loop) -> None:
    def script(peer: Peer) -> None:
        if b"big" in peer.got:
            peer.send(b"INSTREAM size limit exceeded. ERROR\0")
            peer.finish()

    clamd, _ = made(loop, script)
    scan = clamd.scan()
    scan.write(b"big")
    loop.pump()
    assert outcome(scan.outcome) == TooBig()


def test_a_verdict_before_the_end_is_believed_only_if_it_is_bad(loop: Loop) -> None:
    for reply, expected in ((b"stream: Worm FOUND\0", Found), (b"stream: OK\0", Exception)):
        clamd, _ = made(loop, lambda peer, reply=reply: peer.send(reply))  # type: ignore[misc] # a default binds it
        scan = clamd.scan()
        scan.write(b"half")
        loop.pump()
        assert isinstance(outcome(scan.outcome), expected)


def test_a_clamd_that_reads_nothing_stops_the_sender_and_hangs(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: OK\0"), idle=5)
    engine.buffer = 4096
    scan, producer = begun(clamd), Stopping()
    scan.registerProducer(producer, True)
    engine.peers[0].reading = False
    for _ in range(100):
        if not producer.stopped:
            scan.write(b"x" * 16384)
            loop.pump()
    assert producer.stopped
    assert scan._sent < 400_000
    loop.pass_time(7)
    assert fault(scan.outcome) == "hangs"


def test_a_sender_that_was_stopped_goes_on_when_clamd_reads_again(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: OK\0"))
    engine.buffer = 4096
    scan, producer = begun(clamd), Stopping()
    scan.registerProducer(producer, True)
    engine.peers[0].reading = False
    while not producer.stopped:
        scan.write(b"x" * 16384)
        loop.pump()
    engine.peers[0].reading = True
    loop.pump()
    assert not producer.stopped
    scan.finish()
    loop.pump()
    assert outcome(scan.outcome) == Clean()


def test_a_slow_caller_is_nobody_elses_fault(loop: Loop) -> None:
    clamd, _ = made(loop, says(b"stream: OK\0"), idle=5)
    scan = clamd.scan()
    loop.pass_time(100)
    scan.finish()
    loop.pump()
    assert outcome(scan.outcome) == Clean()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (lambda peer: None, "hangs"),
        (says(b"HTTP/1.1 400 Bad Request\r\n"), "rubbish"),
        (says(b"x" * 100_000), "rubbish"),
        (says(b"stream: Can't allocate memory ERROR\0"), "refused"),
        (lambda peer: peer.finish(), "lost"),
        (lambda peer: peer.reset(), "lost"),
    ],
)
def test_a_clamd_that_misbehaves_is_named(loop: Loop, script: Callable[[Peer], object], expected: str) -> None:
    clamd, _ = made(loop, script, answer=10)
    scan = scanned(loop, clamd, b"x")
    loop.pass_time(12)
    assert fault(scan.outcome) == expected
    assert clamd.places.taken == 0


def test_after_failures_it_is_left_alone_and_then_tried_again(loop: Loop) -> None:
    engine = Engine(loop, lambda peer: peer.finish())
    clamd = Clamd(loop.handler, engine.open, breaker=Breaker(2, open_seconds=5))
    assert [fault(scanned(loop, clamd, b"x").outcome) for _ in range(3)] == ["lost", "lost", "broken"]
    assert len(engine.peers) == 2
    loop.pass_time(6)
    engine.script = says(b"stream: OK\0")
    assert outcome(scanned(loop, clamd, b"x").outcome) == Clean()
    assert outcome(scanned(loop, clamd, b"x").outcome) == Clean()


def test_who_finds_no_place_waits_and_what_it_brings_is_kept_and_stopped(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: OK\0"), scans=1, waiting=1)
    first, second, third = begun(clamd), begun(clamd), begun(clamd)
    assert fault(third.outcome) == "busy"
    producer = Stopping()
    second.registerProducer(producer, True)
    second.write(b"x" * 100_000)
    assert producer.stopped
    first.finish()
    loop.pump()
    assert not producer.stopped
    second.finish()
    loop.pump()
    assert outcome(second.outcome) == Clean()
    assert len(engine.peers) == 2


def test_waiting_is_bounded_in_time(loop: Loop) -> None:
    clamd, _ = made(loop, says(b"stream: OK\0"), scans=1, patience=3)
    first, second = begun(clamd), begun(clamd)
    loop.pass_time(4)
    assert fault(second.outcome) == "busy"
    first.outcome.cancel()
    assert fault(first.outcome) == "dropped"


@pytest.mark.parametrize("waits", [True, False])
def test_cancelling_frees_everything(loop: Loop, waits: bool) -> None:
    clamd, _ = made(loop, lambda peer: None, scans=1)
    if waits:
        begun(clamd).outcome.addErrback(lambda _: None)
    scan = begun(clamd)
    scan.outcome.cancel()
    assert fault(scan.outcome) == "dropped"
    assert clamd.places.taken == int(waits)
    assert clamd.places.waiting == 0
    clamd.close()
    assert clamd.places.taken == 0


def test_a_body_that_breaks_off_has_no_verdict(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: OK\0"))
    scan = clamd.scan()
    scan.write(b"half")
    scan.abort(ValueError("gone"))
    loop.pump()
    assert fault(scan.outcome) == "dropped"
    assert engine.peers[0].ended


def test_the_version_is_asked_once_and_kept_for_a_while(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"ClamAV 1.4.3/27600/today\0"))
    asked = [clamd.version() for _ in range(3)]
    loop.pump()
    assert [outcome(one).tag for one in asked] == [b"ClamAV 1.4.3/27600/today"] * 3
    assert outcome(clamd.version()).signatures == 27600
    assert len(engine.peers) == 1
    loop.pass_time(61)
    clamd.version()
    loop.pump()
    assert len(engine.peers) == 2


def test_an_engine_that_is_stopped_ends_what_is_under_way(loop: Loop) -> None:
    clamd, _ = made(loop, lambda peer: None, scans=1)
    scans = [begun(clamd), begun(clamd), clamd.scan()]
    clamd.close()
    assert [fault(scan.outcome) for scan in [*scans, begun(clamd)]] == ["stopped"] * 4


def test_a_place_is_taken_when_the_first_byte_or_the_end_is_there(loop: Loop) -> None:
    clamd, engine = made(loop, says(b"stream: OK\0"))
    scan = clamd.scan()
    loop.pass_time(60)
    assert (clamd.places.taken, engine.peers) == (0, [])
    scan.finish()
    loop.pump()
    assert outcome(scan.outcome) == Clean()
