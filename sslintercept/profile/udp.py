"""
The udp profile: the base of a flow of datagrams (deck: udpProfileSM).

New born and pre-transfer are empty. Transfer keeps the borders: one C{deliver} is one datagram that came, one C{write}
one that leaves. There is no end of stream, nothing is queued (what the kernel does not take is lost and counted, as the
network might have lost it), and so there is nothing to pause. Pre-close has nothing to say.

An address that has not proven itself may be somebody else's: towards it no more bytes leave than C{factor} times what
came from it, or we would be an amplifier.

Python calls: a datagram costs L{UdpProfile.received} and C{deliver}; a write L{UdpProfile.write} and the socket's
C{send}.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sslintercept.profile.profile import Bytes, Profile

if TYPE_CHECKING:
    from sslintercept.profile.chain import ProfileChain

GONE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""what ICMP tells a connected socket of its peer"""


class Clock(Protocol):
    """Whose time is read (L{sslintercept.net.handler.NetHandler})."""

    now: float


class UdpProfile(Profile):
    """
    One remote address on one socket.

    @ivar proven: whether the peer is where it says it is; upstream it always is, we chose the address.
    @ivar factor: bytes that may leave for each byte that came, as long as the address is not proven.
    @ivar active: when a datagram last came or left, on the clock.
    @ivar read: bytes that came, in C{came} datagrams; C{sent}: bytes that left, in C{left} datagrams.
    @ivar dropped: datagrams that were to leave and did not.
    @ivar failed: called with the error when the peer's host says that nobody is there. The flow may go on.
    """

    __slots__ = ("_clock", "_send", "active", "came", "dropped", "factor", "failed", "left", "proven", "read", "sent")

    name = "udp"

    def __init__(
        self, chain: ProfileChain, send: Callable[[Bytes], object], clock: Clock, *, proven: bool, factor: float = 1.0
    ) -> None:
        """
        @param send: sends one datagram to the peer; it raises C{OSError} if that cannot be done now.
        """
        super().__init__(chain, None)
        self._send = send
        self._clock = clock
        self.proven = proven
        self.factor = factor
        self.active = clock.now
        self.read = self.came = self.sent = self.left = self.dropped = 0
        self.failed: Callable[[OSError], object] = lambda error: None

    def received(self, data: Bytes) -> None:
        """One datagram came."""
        self.active = self._clock.now
        self.read += len(data)
        self.came += 1
        self.deliver(data)

    def write(self, data: Bytes, above: Profile | None = None) -> None:
        """One datagram leaves at once, or never."""
        if above is not self.upper:
            self.refuse()
        size = len(data)
        if not self.proven and self.sent + size > self.factor * self.read:
            self.dropped += 1
            return
        try:
            self._send(data)
        except OSError as error:
            self.lost(error)
            return
        self.active = self._clock.now
        self.sent += size
        self.left += 1

    def lost(self, error: OSError) -> None:
        """A datagram did not leave, or the peer's host sent one back."""
        self.dropped += 1
        if error.errno in GONE:
            self.failed(error)

    def untouched(self) -> bool:
        return not self.came and not self.left

    def die(self) -> None:
        super().die()
        self._send = refuse_all


def refuse_all(_: Bytes) -> None:
    """@raise OSError: the flow is over."""
    raise OSError(errno.EPIPE, "the flow is over")
