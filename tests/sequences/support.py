"""What the stories share: a client's moves, and how its answers are read."""

from __future__ import annotations

from typing import NamedTuple

from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.peer import Peer

CLIENT_FIRST = "[upstream-tls]\nhandshake_order = client-first\n"
SERVER_FIRST = "[upstream-tls]\nhandshake_order = server-first\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Response(NamedTuple):
    """A response as a client reads it."""

    status: int
    head: bytes
    body: bytes


def responses(data: bytes, *methods: bytes) -> list[Response]:
    """Read responses; what is left over is an error."""
    found, asked = [], list(methods)
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        assert end, f"no head: {data[:80]!r}"
        status = int(head[9:12])
        method = asked.pop(0) if asked and status >= 200 else b"GET"
        fields = {n.lower(): v.strip() for n, _, v in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
        if method == b"HEAD" or status < 200 or status in (204, 304):
            body, data = b"", rest
        elif fields.get(b"transfer-encoding") == b"chunked":
            body, data = unchunked(rest)
        elif b"content-length" in fields:
            size = int(fields[b"content-length"])
            assert len(rest) >= size, "the body is not whole"
            body, data = rest[:size], rest[size:]
        else:
            body, data = rest, b""
        found.append(Response(status, head, body))
    return found


def unchunked(data: bytes) -> tuple[bytes, bytes]:
    """A chunked body, and what comes behind it."""
    pieces: list[bytes] = []
    while True:
        size, end, data = data.partition(b"\r\n")
        assert end, "a chunk is missing"
        n = int(size.partition(b";")[0], 16)
        if not n:
            while data[:2] != b"\r\n":
                trailer, end, data = data.partition(b"\r\n")
                assert trailer
                assert end, "the end is missing"
            return b"".join(pieces), data[2:]
        pieces.append(data[:n])
        assert data[n : n + 2] == b"\r\n"
        data = data[n + 2 :]


def connected(gateway: MemoryGateway, where: str = "origin.test:443", client: Peer | None = None) -> Peer:
    """A client whose CONNECT has been answered."""
    client = client or gateway.client()
    client.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (where.encode(), where.encode()))
    gateway.pump()
    assert client.take() == ESTABLISHED
    return client


def intercepted(gateway: MemoryGateway, where: str = "origin.test:443", name: str | None = "origin.test") -> Peer:
    """A client in TLS with a forged leaf."""
    client = connected(gateway, where)
    client.start_tls(name, alpn=(b"http/1.1",))
    gateway.pump()
    assert client.secure, client.fault
    return client


def get(gateway: MemoryGateway, client: Peer, target: str = "/", host: str = "origin.test") -> Response:
    """Ask for something and read the answer."""
    client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target.encode(), host.encode()))
    gateway.pump()
    (found,) = responses(client.take())
    return found
