"""Clients and origins that misbehave: each gets its answer or its end, and the proxy is as it was before."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import struct
from collections.abc import Iterator

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Nginx, closed, scripted, silent
from tests.process.running import Proxy

TIMES = """
[probe]
timeout = 500ms
[http]
header_timeout = 700ms
connect_timeout = 2s
tls_timeout = 700ms
response_timeout = 700ms
keep_alive_timeout = 20s
pool_size = 0
[tunnel]
idle_timeout = 2s
"""
BEFORE_TLS = b"CONNECT good.test:%d HTTP/1.1\r\nHost: good.test\r\n\r\n"
LINGER_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: close sends RST"""


@pytest.fixture(scope="module")
def impatient(module_proxy: ProxyMaker, nginx: Nginx) -> Proxy:
    """A proxy whose timeouts are short; it has served once, so that everything is open that stays open."""
    made = module_proxy(TIMES)
    assert made.curl(nginx.url()).status == 200
    return made


@pytest.fixture
def tried(impatient: Proxy, nginx: Nginx) -> Iterator[Proxy]:
    """A proxy that has to serve as before when the test has done its worst, with nothing left open."""
    impatient.is_back_at(BASE.setdefault(impatient.pid, impatient.descriptors()))
    yield impatient
    assert impatient.curl(nginx.url()).status == 200
    assert impatient.curl(nginx.plain_url()).status == 200
    impatient.is_back_at(BASE[impatient.pid])


BASE: dict[int, int] = {}
"""The files that a proxy has open when nobody is connected, by its process"""


def hello(name: str = "good.test") -> bytes:
    """A ClientHello record of OpenSSL."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def end_of(sock: socket.socket) -> bytes:
    """Everything until the proxy ends the connection, which it has to do within the socket's patience."""
    got = bytearray()
    try:
        while piece := sock.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    return bytes(got)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"\xff" * 100_000,
        b"\r\n" * 5000,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NOTHING AT ALL\n\n",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 100,
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x80\x2e\x01\x00\x02" + b"\x00" * 60,
        b"\x04\x01\x00",
        b"\x05\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        random.Random(7).randbytes(50_000),
    ],
    ids=lambda garbage: f"{len(garbage)}-{garbage[:5].hex()}",
)
@pytest.mark.parametrize("where", ["first", "in a tunnel"])
def test_garbage_is_ended(tried: Proxy, nginx: Nginx, garbage: bytes, where: str) -> None:
    with tried.connect() if where == "first" else tried.tunnel(f"good.test:{nginx.port}") as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
        end_of(sock)


def test_half_a_hello_and_an_end_is_ended(tried: Proxy, nginx: Nginx) -> None:
    whole = hello()
    for length in (1, 5, 6, 50, len(whole) - 1):
        for sock in (tried.connect(), tried.tunnel(f"good.test:{nginx.port}")):
            with sock:
                sock.sendall(whole[:length])
                sock.shutdown(socket.SHUT_WR)
                end_of(sock)


def test_half_a_hello_and_silence_is_ended(tried: Proxy, nginx: Nginx) -> None:
    for sock in (tried.connect(), tried.tunnel(f"good.test:{nginx.port}")):
        with sock:
            sock.sendall(hello()[:50])
            sock.settimeout(10)
            end_of(sock)


def test_a_client_that_says_nothing_is_ended(tried: Proxy) -> None:
    with tried.connect() as sock:
        sock.settimeout(10)
        assert end_of(sock) == b""


def test_a_request_that_never_becomes_whole_is_answered_with_408(tried: Proxy) -> None:
    with tried.connect() as sock:
        sock.settimeout(10)
        sock.sendall(b"GET http://good.test/ HTTP/1.1\r\nHost: go")
        assert end_of(sock).startswith(b"HTTP/1.1 408 ")


def test_a_large_hello_is_read_byte_by_byte(tried: Proxy, nginx: Nginx) -> None:
    """Sixteen KiB of an unknown extension make a hello of more than one record; each byte is a packet of its own."""
    whole = padded(hello(), 16_384)
    assert len(whole) > 16_384
    with tried.tunnel(f"good.test:{nginx.port}") as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(whole)):
            sock.send(whole[at : at + 1])
        answer = sock.recv(5)
        assert answer[:2] == b"\x16\x03", "no ServerHello"


def padded(record: bytes, length: int) -> bytes:
    """The same hello with an extension that nobody knows (RFC 8701), in as many records as it takes."""
    message = record[9:]
    at = 2 + 32
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    extensions = message[at + 2 :] + b"\xfa\xfa" + length.to_bytes(2, "big") + bytes(length)
    message = message[:at] + len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(message).to_bytes(3, "big") + message
    pieces = [message[start : start + 16_384] for start in range(0, len(message), 16_384)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_an_origin_that_hangs_in_the_handshake_is_given_up(tried: Proxy) -> None:
    with silent() as port:
        got = tried.curl(f"https://good.test:{port}/")
    assert got.status in (502, 504)
    assert "proxy-status: sslintercept; error=" in got.head.lower()


def test_an_origin_that_never_answers_is_given_up(tried: Proxy) -> None:
    with silent() as port:
        got = tried.curl(f"http://good.test:{port}/")
    assert got.status == 504
    assert "error=http_response_timeout" in got.head


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x03\x00\x10" + b"\x02" * 16,
        os.urandom(200),
    ],
    ids=["end", "http", "alert", "bad hello", "noise"],
)
def test_an_origin_that_does_not_speak_tls_is_a_502(tried: Proxy, reply: bytes) -> None:
    with scripted(reply) as port:
        got = tried.curl(f"https://good.test:{port}/")
    assert got.status == 502, got.said
    assert "proxy-status: sslintercept; error=" in got.head.lower()


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n bad: folded\r\n\r\n",
    ],
    ids=["end", "nonsense", "two lengths", "huge", "folded"],
)
def test_an_origin_that_does_not_speak_http_is_a_502(tried: Proxy, reply: bytes) -> None:
    with scripted(reply) as port:
        got = tried.curl(f"http://good.test:{port}/")
    assert got.status == 502, got.said
    assert "proxy-status: sslintercept; error=" in got.head.lower()


def test_a_closed_port_is_a_502_before_any_200(tried: Proxy) -> None:
    with closed() as port:
        secure = tried.curl(f"https://good.test:{port}/")
        plain = tried.curl(f"http://good.test:{port}/")
    for got in (secure, plain):
        assert "HTTP/1.1 502 " in got.head
        assert "error=connection_refused" in got.head
    assert secure.facts[0]["http_connect"] == 502


def test_a_name_without_an_address_is_a_502(tried: Proxy) -> None:
    for scheme in ("http", "https"):
        got = tried.curl(f"{scheme}://no-such-name.invalid/")
        assert "HTTP/1.1 502 " in got.head
        assert "proxy-status: sslintercept; error=dns_" in got.head.lower()


def test_the_proxy_is_never_its_own_origin(tried: Proxy) -> None:
    got = tried.curl(f"http://127.0.0.1:{tried.address[1]}/")
    assert got.status in (403, 502, 508)
    assert "itself" in got.text


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_header_line_of_64_kib_is_answered_with_431(tried: Proxy, nginx: Nginx, secure: bool) -> None:
    got = tried.curl(nginx.url() if secure else nginx.plain_url(), "-H", "X-Long: " + "x" * 65_536)
    assert got.status == 431, got.said


@pytest.mark.parametrize(
    "head",
    [
        b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST http://good.test/ HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET http://good.test/ HTTP/1.1\r\nHost : good.test\r\n\r\n",
        b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\nA\x00B: 1\r\n\r\n",
        b"GET http://good.test/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"CONNECT good.test HTTP/1.1\r\nHost: good.test\r\n\r\n",
        b"CONNECT good.test:99999 HTTP/1.1\r\nHost: good.test\r\n\r\n",
    ],
    ids=["both framings", "two lengths", "space", "nul", "two hosts", "no port", "port too large"],
)
def test_an_ambiguous_request_is_answered_with_400_and_ended(tried: Proxy, head: bytes) -> None:
    with tried.connect() as sock:
        sock.sendall(head)
        assert end_of(sock).startswith(b"HTTP/1.1 400 ")


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


def test_a_client_may_reset_at_any_byte_before_its_request(tried: Proxy, nginx: Nginx) -> None:
    opening = (BEFORE_TLS % nginx.port) + hello()
    for length in range(0, len(opening) + 1, 7):
        sock = tried.connect()
        sock.sendall(opening[:length])
        reset(sock)


def test_a_client_may_reset_at_any_point_of_a_response(tried: Proxy, nginx: Nginx) -> None:
    for wanted in (0, 1, 100, 20_000, 300_000, 5_000_000):
        sock = tried.secure(f"good.test:{nginx.port}", "good.test")
        sock.sendall(f"GET /big HTTP/1.1\r\nHost: good.test:{nginx.port}\r\n\r\n".encode())
        got = 0
        while got < wanted:
            got += len(sock.recv(65536))
        reset(sock)


def test_a_client_may_reset_at_any_point_of_an_upload(tried: Proxy, origin: BodyOrigin) -> None:
    for length in (0, 1, 16_384, 1_000_000):
        sock = tried.secure(f"body.test:{origin.port}", "body.test")
        head = f"POST /digest HTTP/1.1\r\nHost: body.test:{origin.port}\r\nContent-Length: 2000000\r\n\r\n"
        sock.sendall(head.encode() + bytes(length))
        reset(sock)


def test_an_origin_may_cut_a_body_and_the_client_sees_it(tried: Proxy) -> None:
    with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort", read=65536) as port:
        got = tried.curl(f"http://good.test:{port}/")
    assert (got.code, got.status, got.body) == (18, 200, b"short")


def test_an_http_request_inside_a_tunnel_is_served(tried: Proxy, nginx: Nginx) -> None:
    got = tried.curl(nginx.plain_url(), "--proxytunnel")
    assert (got.status, got.facts[0]["http_connect"]) == (200, 200)


def test_noise_after_the_handshake_ends_the_connection(tried: Proxy, nginx: Nginx) -> None:
    sock = tried.secure(f"good.test:{nginx.port}", "good.test")
    raw = socket.socket(fileno=os.dup(sock.fileno()))
    with raw, sock:
        raw.settimeout(10)
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        end_of(raw)


def test_many_idle_clients_are_ended_and_their_files_closed(tried: Proxy) -> None:
    held: list[socket.socket] = []
    try:
        held += [tried.connect() for _ in range(300)]
        for sock in held:
            sock.settimeout(10)
            assert end_of(sock) == b""
    finally:
        for sock in held:
            sock.close()


def test_a_flood_of_requests_is_answered_one_by_one(tried: Proxy, nginx: Nginx) -> None:
    one = f"GET http://good.test:{nginx.plain}/hello.txt HTTP/1.1\r\nHost: good.test:{nginx.plain}\r\n\r\n".encode()
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with tried.connect() as sock:
        sock.sendall(one * 200 + last)
        assert end_of(sock).count(b"HTTP/1.1 200 OK") == 201
