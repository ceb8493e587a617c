"""A body's pace: a burst, then so much a second, and its source stopped meanwhile."""

from __future__ import annotations

import pytest

from sslintercept.testing.transform import Exchange, Pipe, PipeLoop, a_message, splits
from sslintercept.transform.shipped.throttle import TICK, Pace, Throttle, ThrottleOptions

BODY = bytes(range(256)) * 64
"""16 KiB"""


def paced(rate: int = 1000, burst: int = 2000, length: int | None = None) -> tuple[Pipe, PipeLoop]:
    loop = PipeLoop()
    return Pipe(Pace(rate, burst, loop.later), length=length, loop=loop), loop


def run(loop: PipeLoop, seconds: float) -> None:
    for _ in range(round(seconds / TICK)):
        loop.advance(TICK)


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    pipe, loop = paced()
    pipe.write(BODY)
    assert len(pipe.got) == 2000
    run(loop, 1)
    assert len(pipe.got) == 3000
    run(loop, 3)
    assert len(pipe.got) == 6000
    assert pipe.got == BODY[:6000]


def test_every_split_gives_the_same_bytes_in_the_same_time() -> None:
    for pieces in splits(BODY, longest=8):
        pipe, loop = paced(length=len(BODY))
        pipe.send(*pieces)
        run(loop, 14.3)
        assert not pipe.ended
        run(loop, 0.2)
        assert (pipe.got, pipe.ended, pipe.announced) == (BODY, 1, [len(BODY)])


def test_the_source_is_stopped_while_a_piece_waits() -> None:
    pipe, loop = paced()
    pipe.write(BODY[:2000])
    assert not pipe.stopped
    pipe.write(BODY[2000:2500])
    assert pipe.stopped
    run(loop, 0.4)
    assert pipe.stopped
    run(loop, 0.1)
    assert not pipe.stopped
    assert pipe.got == BODY[:2500]


def test_a_pause_earns_a_burst_and_no_more() -> None:
    pipe, loop = paced()
    pipe.write(BODY[:2000])
    run(loop, 60)
    pipe.write(BODY)
    assert len(pipe.got) == 4000


def test_a_short_pause_earns_what_it_took() -> None:
    pipe, loop = paced()
    pipe.write(BODY[:2000])
    run(loop, 0.5)
    pipe.write(BODY)
    assert len(pipe.got) == 2500


def test_a_byte_that_may_go_goes_at_once() -> None:
    pipe, _ = paced()
    pipe.write(b"a")
    assert pipe.got == b"a"


def test_a_body_ends_when_its_last_byte_has_gone_and_no_timer_is_left() -> None:
    pipe, loop = paced()
    pipe.send(BODY[:2500])
    run(loop, 0.4)
    assert len(pipe.got) == 2400
    run(loop, 0.1)
    assert (pipe.ended, len(pipe.got)) == (1, 2500)
    assert loop.getDelayedCalls() == []


@pytest.mark.parametrize("how", ["abort", "leave"])
def test_a_body_that_breaks_off_leaves_no_timer(how: str) -> None:
    pipe, loop = paced()
    pipe.write(BODY)
    getattr(pipe, how)()
    assert loop.getDelayedCalls() == []
    got = pipe.got
    run(loop, 5)
    assert pipe.got == got


def test_a_timer_runs_only_while_there_is_something_to_earn() -> None:
    pipe, loop = paced()
    pipe.write(b"x" * 1000)
    run(loop, 1.1)
    assert loop.getDelayedCalls() == []


def test_a_standing_reader_gets_no_more_than_it_takes() -> None:
    pipe, loop = paced(rate=1_000_000, burst=1_000_000)
    pipe.stalled = True
    pipe.write(bytes(Pipe.high_water + 1))
    pipe.write(BODY)
    assert pipe.stopped
    got = len(pipe.got)
    run(loop, 10)
    assert len(pipe.got) <= got + len(BODY)
    pipe.drain()
    run(loop, 0.1)
    assert len(pipe.got) == Pipe.high_water + 1 + len(BODY)


def test_a_reader_that_stands_still_longer_than_patience_is_no_fault_of_the_stage() -> None:
    pipe, loop = paced()
    pipe.high_water = 100
    pipe.stalled = True
    pipe.write(BODY)
    run(loop, 200)
    assert pipe.error is None
    assert pipe.got == BODY[:2000]
    for _ in range(5):
        pipe.drain()
        pipe.stalled = True
        run(loop, 1)
    assert BODY.startswith(pipe.got)
    assert 2000 < len(pipe.got) <= 2000 + 5 * 2000


def test_the_slowest_pace_is_not_taken_for_a_stage_that_hangs() -> None:
    options = ThrottleOptions(rate=1024, burst=1024)
    loop = PipeLoop()
    pipe = Pipe(Throttle(options).transform(a_message(status=200, loop=loop)), loop=loop)
    pipe.send(bytes(200 * 1024))
    run(loop, 198)
    assert pipe.error is None
    assert 198 * 1024 < len(pipe.got) < 200 * 1024
    run(loop, 3)
    assert pipe.ended == 1


def test_a_coded_body_is_counted_as_it_is_and_may_not_be_forbidden() -> None:
    exchange = Exchange(Throttle(ThrottleOptions()))
    pipe = exchange.respond(206, {"Content-Encoding": "gzip", "Cache-Control": "no-transform", "ETag": '"1"'})
    pipe.send(b"whatever")
    assert [type(stage) for stage in exchange.stages] == [Pace]
    assert pipe.got == b"whatever"
    assert exchange.head.get(b"ETag") == b'"1"'
