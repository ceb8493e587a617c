"""Datagrams keep their borders, are never queued, and are not multiplied towards an address that may be forged."""

from __future__ import annotations

import errno

import pytest

from sslintercept.errors import StageError
from sslintercept.profile.chain import ProfileChain
from sslintercept.profile.profile import Bytes, Profile, Stage
from sslintercept.profile.udp import UdpProfile


class Clock:
    now = 5.0


class Wire:
    """What left, or the error that the kernel gives."""

    def __init__(self) -> None:
        self.left: list[bytes] = []
        self.error: OSError | None = None

    def send(self, data: Bytes) -> int:
        if self.error is not None:
            raise self.error
        self.left.append(bytes(data))
        return len(data)


def make(proven: bool = True, factor: float = 1.0) -> tuple[UdpProfile, Wire, ProfileChain]:
    chain, wire = ProfileChain(), Wire()
    profile = UdpProfile(chain, wire.send, Clock(), proven=proven, factor=factor)
    chain.base(profile)
    return profile, wire, chain


def test_the_base_is_open_at_once_and_says_what_it_is() -> None:
    profile, _, chain = make()
    assert profile.stage is Stage.TRANSFER
    assert str(chain) == "udp"
    assert profile.untouched()


def test_one_deliver_is_one_datagram_and_one_write_is_one_even_when_it_is_empty() -> None:
    profile, wire, chain = make()
    came: list[bytes] = []
    profile.deliver = lambda data: came.append(bytes(data))
    for datagram in (b"one", b"", b"two" * 1000):
        profile.received(memoryview(datagram))
        chain.write(datagram)
    assert came == wire.left == [b"one", b"", b"two" * 1000]
    assert (profile.came, profile.read, profile.left, profile.sent) == (3, 3003, 3, 3003)
    assert not profile.untouched()
    assert chain.pending() == 0


def test_what_the_kernel_does_not_take_is_lost_and_counted() -> None:
    profile, wire, chain = make()
    wire.error = BlockingIOError(errno.EAGAIN, "full")
    for _ in range(1000):
        chain.write(b"x" * 1000)
    assert profile.dropped == 1000
    assert chain.pending() == 0
    wire.error = None
    chain.write(b"y")
    assert wire.left == [b"y"]


def test_a_host_without_a_listener_is_told_and_does_not_end_the_flow() -> None:
    profile, wire, chain = make()
    told: list[int | None] = []
    profile.failed = lambda error: told.append(error.errno)
    wire.error = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    chain.write(b"x")
    wire.error = OSError(errno.EMSGSIZE, "too large")
    chain.write(b"x")
    assert told == [errno.ECONNREFUSED]
    assert profile.stage is Stage.TRANSFER


def test_an_address_that_is_not_proven_gets_no_more_than_it_sent_times_the_factor() -> None:
    profile, wire, chain = make(proven=False)
    chain.write(b"x")
    assert wire.left == []
    profile.received(b"a" * 10)
    chain.write(b"b" * 10)
    chain.write(b"c")
    assert wire.left == [b"b" * 10]
    profile.factor = 2.0
    chain.write(b"d" * 10)
    chain.write(b"e")
    assert wire.left == [b"b" * 10, b"d" * 10]
    assert profile.dropped == 3
    profile.proven = True
    chain.write(b"f" * 1000)
    assert wire.left[-1] == b"f" * 1000


def test_time_is_stamped_by_what_came_and_by_what_left_but_not_by_what_was_lost() -> None:
    clock = Clock()
    wire, chain = Wire(), ProfileChain()
    profile = UdpProfile(chain, wire.send, clock, proven=True)
    chain.base(profile)
    clock.now = 6.0
    profile.received(b"x")
    assert profile.active == 6.0
    clock.now = 7.0
    chain.write(b"x")
    assert profile.active == 7.0
    clock.now, wire.error = 8.0, BlockingIOError(errno.EAGAIN, "full")
    chain.write(b"x")
    assert profile.active == 7.0


def test_nobody_writes_past_a_layer_above() -> None:
    profile, wire, chain = make()
    kept = chain.write
    chain.push(Profile)
    with pytest.raises(StageError):
        kept(b"x")
    profile.write(b"y", chain.top)
    assert wire.left == [b"y"]


def test_nothing_leaves_after_the_end_and_the_socket_is_let_go() -> None:
    profile, wire, chain = make()
    kept = chain.hold()
    profile.pre_close()
    assert profile.stage is Stage.PRE_CLOSE
    profile.die()
    kept(b"x")
    profile.received(b"y")
    assert wire.left == []
    assert profile.dropped == 1
