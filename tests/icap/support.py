"""An ICAP server that follows a script, and messages for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sslintercept.icap.body import AnswerBody
from sslintercept.icap.message import ModRequest
from sslintercept.icap.modify import Modification
from sslintercept.icap.service import Limits, Service
from sslintercept.icap.wire import IEOF, LAST, Kind
from sslintercept.net.breaker import Breaker
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.engines import Engine

URI = "icap://icap.test:1344/scan"
GET = b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
NEW = b"HTTP/1.1 200 OK\r\nX-Seen: yes\r\n\r\n"
CONTINUE = b"ICAP/1.0 100 Continue\r\n\r\n"

Handler = Callable[[Peer], object]


def told(preview: int | None = 4, allow: str = "204, 206", more: str = "", tag: str = '"one"') -> bytes:
    """An answer to OPTIONS."""
    lines = [
        "ICAP/1.0 200 OK",
        "Methods: RESPMOD, REQMOD",
        f"ISTag: {tag}",
        f"Allow: {allow}",
        "Encapsulated: null-body=0",
    ]
    if preview is not None:
        lines.append(f"Preview: {preview}")
    return "\r\n".join(lines).encode() + b"\r\n" + more.encode() + b"\r\n"


def reply(
    status: int = 200, head: bytes | None = NEW, body: bytes | None = b"", more: str = "", kind: str = "res"
) -> bytes:
    """An answer; C{body} is sent as one chunk, with its end."""
    fields = f'ICAP/1.0 {status} x\r\nISTag: "one"\r\n{more}'
    if head is None:
        return (fields + "Encapsulated: null-body=0\r\n\r\n").encode()
    if body is None:
        return f"{fields}Encapsulated: {kind}-hdr=0, null-body={len(head)}\r\n\r\n".encode() + head
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return f"{fields}Encapsulated: {kind}-hdr=0, {kind}-body={len(head)}\r\n\r\n".encode() + head + chunk + LAST


def at_end(*replies: bytes) -> Handler:
    """Answers each request when it, or its preview, has been said."""
    left = list(replies)

    def handle(peer: Peer) -> None:
        if peer.got.endswith((LAST, IEOF)) or b"null-body" in peer.got:
            peer.take()
            peer.send(left.pop(0) if len(left) > 1 else left[0])

    return handle


class Server(Engine):
    """
    Answers OPTIONS, and gives everything else to a handler.

    @ivar said: everything that was asked but OPTIONS, as it came; C{asked}: how often OPTIONS were.
    """

    def __init__(self, loop: Loop, handle: Handler = lambda peer: None, options: bytes | None = None) -> None:
        super().__init__(loop, self.heard)
        self.handle = handle
        self.options = told() if options is None else options
        self.said = b""
        self.asked = 0
        self._wire: dict[Peer, int] = {}

    def heard(self, peer: Peer) -> None:
        if peer.got.startswith(b"OPTIONS"):
            if peer.got.endswith(b"\r\n\r\n"):
                self.asked += 1
                peer.take()
                self._wire[peer] = len(peer.wire)
                peer.send(self.options)
        elif peer.got:
            self.said += bytes(peer.wire[self._wire.get(peer, 0) :])
            self._wire[peer] = len(peer.wire)
            self.handle(peer)


def made(
    loop: Loop, handle: Handler = lambda peer: None, options: bytes | None = None, **limits: Any
) -> tuple[Service, Server]:
    server = Server(loop, handle, options)
    return Service(loop.handler, server.open, URI, limits=Limits(**limits), breaker=Breaker(0)), server


def shown(service: Service, loop: Loop, *pieces: bytes, end: bool = True, **more: Any) -> Modification:
    """A response with a body on its way."""
    modification = service.modify(ModRequest(Kind.RESPMOD, GET, OK, body=True, **more))
    loop.pump()
    for piece in pieces:
        modification.write(piece)
        loop.pump()
    if end:
        modification.finish()
        loop.pump()
    return modification


class Reading:
    """Reads an answer's body to its end."""

    def __init__(self, body: AnswerBody | None) -> None:
        self.got = bytearray()
        self.ended = False
        self.error: Any = None
        assert body is not None
        body.read_to(self._more, self._end, self._failed)

    def _more(self, data: Any) -> None:
        assert not self.ended
        self.got += data

    def _end(self) -> None:
        self.ended = True

    def _failed(self, error: Exception) -> None:
        self.error = error


def whole(body: AnswerBody | None) -> bytes:
    """A body that has come."""
    reading = Reading(body)
    assert reading.ended
    return bytes(reading.got)
