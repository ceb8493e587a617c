"""One eventfd for all that is over: bounded turns, events without news."""

from __future__ import annotations

import os
from select import EPOLLERR

import pytest

from sslintercept.aio.buffer import Pool
from sslintercept.aio.completion import BATCH, ENOUGH, Completions
from sslintercept.aio.request import Request, read
from sslintercept.testing.loop import Loop


def completions(loop: Loop) -> Completions:
    return Completions(
        loop.handler, Pool(), gather=lambda: None, ended=lambda _: None, after=lambda: None, clock=lambda: 0.0
    )


def test_callbacks_that_take_their_time_leave_the_network_its_own(loop: Loop) -> None:
    now = 0.0

    def slow(_: Request) -> None:
        nonlocal now
        now += ENOUGH / 5

    over = Completions(
        loop.handler, Pool(), gather=lambda: None, ended=lambda _: None, after=lambda: None, clock=lambda: now
    )
    for _ in range(100):
        over.post(read(3, 0, 1, slow))
    left = []
    while len(over):
        loop.turn()
        left.append(len(over))
    assert left[:2] == [93, 86]
    over.close()


def test_a_turn_calls_back_so_many_and_the_next_the_others(loop: Loop) -> None:
    over, seen = completions(loop), list[Request]()
    for _ in range(BATCH + 1):
        over.post(read(3, 0, 1, seen.append))
    loop.turn()
    assert (len(seen), len(over)) == (BATCH, 1)
    loop.turn()
    assert (len(seen), len(over)) == (BATCH + 1, 0)
    over.close()


def test_many_that_are_over_are_written_to_the_descriptor_once(loop: Loop) -> None:
    over = completions(loop)
    for _ in range(5):
        over.post(read(3, 0, 1))
    assert os.eventfd_read(over.fd) == 1
    over.close()


def test_an_event_without_news_does_nothing_and_an_error_looks_anyway(loop: Loop) -> None:
    over, seen = completions(loop), list[Request]()
    over.readable()
    over.post(read(3, 0, 1, seen.append))
    over.event(EPOLLERR)
    assert len(seen) == 1
    over.close()


def test_what_is_gathered_is_called_back_in_the_same_turn_and_asks_for_no_other(loop: Loop) -> None:
    seen: list[Request] = []
    kernel = [read(3, 0, 1, seen.append)]

    def gather() -> None:
        while kernel:
            over.post(kernel.pop())

    over = Completions(loop.handler, Pool(), gather=gather, ended=lambda _: None, after=lambda: None)
    os.eventfd_write(over.fd, 1)
    loop.turn()
    assert len(seen) == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(over.fd)
    over.close()
