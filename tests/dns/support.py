"""What tests of the name resolver share: messages put together by hand, and a name server that does as it is told."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.dns.message import AAAA, CNAME, NS, SOA, A
from sslintercept.facts import Address
from sslintercept.testing.loop import Loop

Wire = tuple[str, int, int, bytes]
"""a record: owner, type, ttl, data"""


def labels(name: str) -> bytes:
    """A plain name in its wire form, its case kept."""
    return b"".join(bytes((len(x),)) + x.encode() for x in name.split(".") if x) + b"\0"


def a(name: str, address: str, ttl: int = 60) -> Wire:
    return name, A, ttl, socket.inet_aton(address)


def aaaa(name: str, address: str, ttl: int = 60) -> Wire:
    return name, AAAA, ttl, socket.inet_pton(socket.AF_INET6, address)


def cname(name: str, target: str, ttl: int = 60) -> Wire:
    return name, CNAME, ttl, labels(target)


def ns(name: str, target: str, ttl: int = 60) -> Wire:
    return name, NS, ttl, labels(target)


def soa(name: str, minimum: int, ttl: int = 3600) -> Wire:
    return name, SOA, ttl, labels("ns." + name) + labels("root." + name) + struct.pack(">5I", 1, 2, 3, 4, minimum)


def message(
    number: int,
    question: bytes,
    answers: Iterable[Wire] = (),
    authority: Iterable[Wire] = (),
    *,
    flags: int = 0x8180,
    extra: bytes = b"",
    extras: int = 0,
) -> bytes:
    """A message with one question, without compression."""
    answers, authority = list(answers), list(authority)
    records = b"".join(
        labels(name) + struct.pack(">HHIH", rtype, 1, ttl, len(data)) + data
        for name, rtype, ttl, data in answers + authority
    )
    return (
        struct.pack(">6H", number, flags, 1 if question else 0, len(answers), len(authority), extras)
        + question
        + records
        + extra
    )


class Query:
    """One query that a server got."""

    def __init__(self, data: bytes, back: Callable[[bytes], object], source: Any, stream: bool) -> None:
        self.data, self.back, self.source, self.stream = data, back, source, stream
        self.id, self.flags, *_, self.extras = struct.unpack_from(">6H", data)
        at, parts = 12, []
        while size := data[at]:
            parts.append(data[at + 1 : at + 1 + size].decode("latin-1"))
            at += 1 + size
        self.spelled = ".".join(parts)
        self.name = self.spelled.lower()
        self.type, self.cls = struct.unpack_from(">HH", data, at + 1)
        self.question = data[12 : at + 5]

    def message(self, *answers: Wire, authority: Iterable[Wire] = (), rcode: int = 0, flags: int = 0x8180) -> bytes:
        return message(self.id, self.question, answers, authority, flags=flags | rcode)

    def say(self, data: bytes) -> None:
        """Send a message."""
        self.back(data)

    def reply(self, *answers: Wire, authority: Iterable[Wire] = (), rcode: int = 0, flags: int = 0x8180) -> None:
        """Answer as a server should."""
        self.say(self.message(*answers, authority=authority, rcode=rcode, flags=flags))


def address(query: Query) -> None:
    """Every name has an address."""
    query.reply(a(query.name, "192.0.2.1") if query.type == A else aaaa(query.name, "2001:db8::1"))


def silence(query: Query) -> None:
    """Nothing is said."""


class NameServer:
    """
    A name server on loopback, moved by the turns of a L{Loop}.

    @ivar script: called with every query.
    @ivar queries: every query, in order.
    @ivar accepted: connections so far.
    """

    def __init__(self, loop: Loop, script: Callable[[Query], object] = address) -> None:
        self._loop = loop
        self.script = script
        self.queries: list[Query] = []
        self.accepted = 0
        self.connections: list[tuple[socket.socket, bytearray]] = []
        self.deaf = False
        """whether connections are left as they are"""
        self.udp, self.tcp = bound()
        self.address = Address(*self.udp.getsockname())
        loop.others.append(self.turn)

    def turn(self) -> bool:
        moved = False
        for sock, got in list(self.connections) if not self.deaf else ():
            with suppress(BlockingIOError, ConnectionError):
                data = sock.recv(65536)
                moved = True
                got += data
                if not data:
                    self.drop()
                while len(got) >= 2 and len(got) >= 2 + int.from_bytes(got[:2], "big"):
                    size = int.from_bytes(got[:2], "big")
                    one = bytes(got[2 : 2 + size])
                    del got[: 2 + size]
                    self._got(Query(one, framed(sock), None, True))
        with suppress(BlockingIOError):
            while not self.deaf:
                sock, _ = self.tcp.accept()
                sock.setblocking(False)
                self.connections.append((sock, bytearray()))
                self.accepted += 1
                moved = True
        with suppress(BlockingIOError):
            while True:
                data, source = self.udp.recvfrom(4096)
                moved = True
                self._got(Query(data, partial(self._back, source), source, False))
        return moved

    def _back(self, source: Any, data: bytes) -> None:
        self.udp.sendto(data, source)

    def _got(self, query: Query) -> None:
        self.queries.append(query)
        self.script(query)

    def drop(self) -> None:
        """Close every connection."""
        for sock, _ in self.connections:
            sock.close()
        self.connections.clear()

    @property
    def asked(self) -> list[str]:
        """The names that were asked for."""
        return [query.name for query in self.queries]

    def close(self) -> None:
        if self.turn in self._loop.others:
            self._loop.others.remove(self.turn)
        self.drop()
        self.udp.close()
        self.tcp.close()


def framed(sock: socket.socket) -> Callable[[bytes], object]:
    def send(data: bytes) -> None:
        sock.sendall(len(data).to_bytes(2, "big") + data)

    return send


def bound() -> tuple[socket.socket, socket.socket]:
    """A datagram socket and a listening one on the same port."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        udp.bind(("127.0.0.1", 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            tcp.bind(udp.getsockname())
        except OSError:  # somebody has it
            udp.close()
            tcp.close()
            continue
        tcp.listen()
        return udp, tcp


def outcome(deferred: Deferred[Any]) -> Any:
    """What a Deferred came to: its value, its exception, or C{None} if it has not fired."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    if not found:
        return None
    return found[0].value if isinstance(found[0], Failure) else found[0]
