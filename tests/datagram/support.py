"""What tests of datagrams share: hellos of DTLS in bytes, rules, clients and origins on the loopback."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from itertools import count

from twisted.internet.defer import Deferred

from sslintercept.datagram.door import Listening, UdpDoor
from sslintercept.datagram.session import FACTOR, Datagrams, FlowTotals, Opener
from sslintercept.facts import Action, Address, Decision, Facts
from sslintercept.net.connector import Denied
from sslintercept.net.flow import FlowTable
from sslintercept.testing.loop import Loop

RANDOM = bytes(range(32))
INTERCEPT, TUNNEL, BLOCK = Action.INTERCEPT, Action.TUNNEL, Action.BLOCK


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">HH", kind, len(data)) + data


def sized(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size, "big") + data


def server_name(name: str) -> bytes:
    return extension(0, sized(b"\0" + sized(name.encode())))


def hello_body(name: str | None = "a.example", *, cookie: bytes = b"", extra: bytes = b"") -> bytes:
    extensions = (server_name(name) if name is not None else b"") + extra
    return (
        b"\xfe\xfd"
        + RANDOM
        + b"\0"
        + sized(cookie, 1)
        + sized(b"\xc0\x2b\xc0\x2f")
        + b"\1\0"
        + (sized(extensions) if extensions else b"")
    )


def record(content: bytes, number: int = 0, *, kind: int = 22, epoch: int = 0) -> bytes:
    return bytes([kind]) + b"\xfe\xfd" + struct.pack(">H", epoch) + number.to_bytes(6, "big") + sized(content)


def message(body: bytes, *, serial: int = 0, kind: int = 1, at: int = 0, size: int | None = None) -> bytes:
    """A handshake message, or the fragment of it that begins at C{at} and has C{size} bytes."""
    part = body[at:] if size is None else body[at : at + size]
    return (
        bytes([kind])
        + len(body).to_bytes(3, "big")
        + struct.pack(">H", serial)
        + at.to_bytes(3, "big")
        + len(part).to_bytes(3, "big")
        + part
    )


def hello(name: str | None = "a.example", *, serial: int = 0, cookie: bytes = b"", extra: bytes = b"") -> bytes:
    return record(message(hello_body(name, cookie=cookie, extra=extra), serial=serial), serial)


class Fixed:
    """Rules that say one thing, or what a function of the facts says."""

    def __init__(self, answer: Action | Callable[[Facts], Action]) -> None:
        self.answer = answer
        self.asked: list[Facts] = []

    def decide(self, facts: Facts, final: bool = False) -> Decision:
        assert final
        self.asked.append(facts)
        answer = self.answer if isinstance(self.answer, Action) else self.answer(facts)
        return Decision(answer, "test", "the test says so")


class Site:
    """A door, its rules, and an origin behind it."""

    def __init__(
        self,
        loop: Loop,
        action: Action | Callable[[Facts], Action] = INTERCEPT,
        *,
        opener: Opener | None = None,
        name: str = "127.0.0.1",
        factor: float = FACTOR,
    ) -> None:
        self.loop = loop
        self.origin = self.plug()
        self.rules = Fixed(action)
        self.ended: list[tuple[Facts, FlowTotals]] = []
        self.waiting: list[Deferred[Sequence[str]]] = []
        self.refused: Denied | None = None
        self.table = FlowTable(loop.handler)
        self.datagrams = Datagrams(
            loop.handler,
            self.rules,
            addresses=self.addresses,
            denied=lambda facts, destination, host: self.refused,
            ended=lambda facts, totals: self.ended.append((facts, totals)),
            opener=opener,
            factor=factor,
        )
        self.target: Address | None = Address(name, self.origin.getsockname()[1])
        ids = count(1)
        self.door = UdpDoor(
            loop.handler,
            self.table,
            self.datagrams,
            listening=lambda: Listening("test", self.target),
            host="127.0.0.1",
            port=0,
            new_id=lambda: f"t-{next(ids)}",
            wall_clock=lambda: 1e9,
        )
        self.address = self.door.start()

    async def addresses(self, facts: Facts, destination: Address) -> Sequence[str]:
        if destination.host == "127.0.0.1":
            return ["127.0.0.1"]
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    def plug(self, connect_to: Address | None = None) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        if connect_to is not None:
            sock.connect(tuple(connect_to))
        self.loop.peers.append(sock)
        return sock

    def client(self) -> socket.socket:
        return self.plug(self.address)

    def received(self, sock: socket.socket) -> list[bytes]:
        """What waits on a socket."""
        self.loop.pump()
        return [data for data, _ in self.received_from(sock)]

    def received_from(self, sock: socket.socket) -> list[tuple[bytes, tuple[str, int]]]:
        self.loop.pump()
        got = []
        while True:
            try:
                got.append(sock.recvfrom(65536))
            except BlockingIOError:
                return got

    def close(self) -> None:
        self.door.stop()
