"""Content that is made to do harm, and engines that do: named in an event, within bounds, and the gateway goes on."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.inspect.material import BOUNDARY, mail, numbers, pdf, with_words, zipped
from tests.process.carriers import Came, Servers, World, ftp_up, http_down, http_put, refused, smtp, websocket
from tests.process.conftest import ProxyMaker
from tests.process.loading import load
from tests.process.origins import closed, scripted, silent
from tests.process.tools import children, status, wait_for
from tests.unpack.make import archive, listed, member

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix, Dovecot and vsftpd are started by root only")

GIB = 1 << 30
MOST_RESIDENT = 400 * 1024
"""KiB that the gateway may have had at any time"""
MOST_WAITING = 5.0
"""seconds that somebody else may have waited for an answer, on a busy machine"""
CARD = numbers(1, valid=True, seed=13)[0]
INI = """
[inspection]
hold = 8MiB
collect = 32MiB
worker_memory = 512MiB
worker_timeout = 10s
[inspect:leaks]
use = dlp
match = direction:upload
"""
CLOSED = INI + "fail = closed\nunreadable = closed\ntoo_large = closed\n"
OPEN = INI + "fail = open\nunreadable = open\ntoo_large = open\n"


def zeros(size: int) -> bytes:
    """So many zeros, deflated: a piece of them that stands for itself, as often as it takes."""
    piece = 64 * 1024 * 1024
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = press.compress(bytes(piece)) + press.flush(zlib.Z_FULL_FLUSH)
    return once * (size // piece) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def bomb() -> bytes:
    """A zip with 10 GiB of zeros (zip64)."""
    packed, size = zeros(10 * GIB), 10 * GIB
    wide = struct.pack("<2H2Q", 1, 16, size, len(packed))
    first = member(b"a", b"", packed=0xFFFFFFFF, size=0xFFFFFFFF, data=packed, extra=wide)
    return archive(first, listed(b"a", b"", 0, packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=wide), 1)


def nested(depth: int) -> bytes:
    """So many zips in each other."""
    content, name = with_words(CARD).encode(), "a.txt"
    for at in range(depth):
        content, name = zipped({name: content}), f"{at}.zip"
    return content


def many_parts(count: int) -> bytes:
    """A mail of so many parts."""
    part = f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n"
    kind = f'multipart/mixed; boundary="{BOUNDARY}"'
    head = mail("", more=[f"Content-Type: {kind}"]).partition(b"MIME-Version: 1.0\r\n")[0]
    return head + f"MIME-Version: 1.0\r\n\r\n{part * count}--{BOUNDARY}--\r\n".encode()


HOSTILE: dict[str, tuple[Callable[[World, bytes], Came], Callable[[], bytes], set[str]]] = {
    "bomb": (http_put, bomb, {"ratio", "size"}),
    "bomb by mail": (smtp, lambda: _attached(zipped({"a": zipped({"b": bytes(100_000_000)})})), {"ratio", "size"}),
    "bomb by FTP": (ftp_up, lambda: zipped({"a": bytes(100_000_000)}), {"ratio", "size"}),
    "bomb by WebSocket": (websocket, lambda: zipped({"a": bytes(100_000_000)}), {"ratio", "size"}),
    "deep": (http_put, lambda: nested(50), {"depth"}),
    "truncated": (http_put, lambda: pdf("hello")[:300], {"truncated", "rubbish"}),
    "many parts": (smtp, lambda: many_parts(11_000), {"entries"}),
    "too large": (http_put, lambda: zipped({"a": os.urandom(1 << 20) * 33}, compressed=False), {"too_big"}),
}


def _attached(content: bytes) -> bytes:
    return mail("hello", attachments=[("a.zip", "application/zip", content)])


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    """Each content, made once."""
    return {name: make() for name, (_, make, _) in HOSTILE.items()}


@pytest.fixture(scope="module")
def world(module_proxy: ProxyMaker, ini: Callable[[str], str], servers: Servers) -> Iterator[World]:
    """A gateway that looks into everything."""
    made = World(module_proxy, ini, servers, CLOSED)
    yield made
    made.told.none()


@contextmanager
def bounded(world: World) -> Iterator[None]:
    """The gateway stays within its bounds, and serves afterwards."""
    before = world.gateway.descriptors()
    with load(world) as clients:
        yield
    assert clients.slowest < MOST_WAITING
    assert status(world.gateway.pid, "VmHWM") < MOST_RESIDENT
    assert http_put(world, b"harmless").arrived == b"harmless"
    wait_for("its files closed", lambda: world.gateway.descriptors() <= before + 6)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hard_to_look_at_does_not_pass_where_failures_are_closed(
    world: World, hostile: dict[str, bytes], name: str
) -> None:
    way, _, named = HOSTILE[name]
    with bounded(world):
        came = way(world, hostile[name])
        event = world.told.one()
        refused(way, came, event)
        assert event["kind"] == "failure"
        assert event["name"] in named


def test_the_same_passes_where_they_are_open_and_is_written_down(world: World, hostile: dict[str, bytes]) -> None:
    with bounded(world), world.under(OPEN):
        for name, (way, _, named) in HOSTILE.items():
            came = way(world, hostile[name])
            assert came.arrived == hostile[name], (name, came.said)
            wait_for("an event", lambda: bool(world.told.new()))
            time.sleep(0.3)  # for more of them
            events = world.told.several(len(world.told.new()))
            assert named & {event["name"] for event in events}, name
            assert {(event["kind"], event["act"]) for event in events} == {("failure", "report")}


def _lying() -> bytes:
    text = with_words(CARD).encode()
    first = member(b"a.txt", text, size=1, crc=0)
    return archive(first, listed(b"other.txt", text, 0, size=1, crc=0), 1)


def test_lies_hide_nothing(world: World) -> None:
    text = with_words(CARD)
    with bounded(world):
        for content in (_lying(), zipped({"a.txt": text.encode("utf-16")}), nested(10)):
            refused(http_put, http_put(world, content), event := world.told.one())
            assert (event["kind"], event["name"]) == ("leak", "card")


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "utf-8", "no-such-charset", "us-ascii"])
def test_a_charset_that_lies_hides_nothing(world: World, charset: str) -> None:
    shelf = world.servers.secure
    text = with_words(CARD)
    contents = [text.encode(), text.encode("utf-16")]
    if charset == "utf-16":
        contents += [text.encode("utf-16-be"), text.encode("utf-16-le")]
    for content in contents:
        url = shelf.place()
        file = world.gateway.folder / "upload"
        file.write_bytes(content)
        answer = world.gateway.curl(url, "-T", file, "-H", f"Content-Type: text/plain; charset={charset}")
        assert answer.status == 403, (charset, content[:20])
        assert shelf.at(url) is None
        assert world.told.one()["name"] == "card"


@contextmanager
def babbling() -> Iterator[int]:
    """The port of a server that never stops to answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk(sock: socket.socket) -> None:
            with sock, suppress(OSError):
                sock.sendall(b"ICAP/1.0 200 OK\r\n")
                while True:
                    sock.sendall(b"X-Field: " + b"x" * 60_000 + b"\r\n")

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        thread.join()


ENGINES = {
    "silent": (silent, "hangs"),
    "closed": (closed, "unreachable"),
    "HTTP": (lambda: scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 65536), "rubbish"),
    "rubbish": (lambda: scripted(os.urandom(5000), 65536), "rubbish"),
    "end": (lambda: scripted(b"ICAP/1.0 200 OK\r\nISTag: ", 65536), "lost"),
    "babbling": (babbling, "rubbish"),
}
ICAP = """
[inspection]
hold = 8MiB
[inspect:scanner]
use = icap
services = icap://127.0.0.1:{port}/x
match = direction:response
timeout = 1s
fail = {fail}
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_service_of_icap_that_misbehaves_has_no_verdict(world: World, engine: str) -> None:
    make, fault = ENGINES[engine]
    with bounded(world), make() as port:
        for fail in ("closed", "open"):
            with world.under(ICAP.format(port=port, fail=fail)):
                came = http_down(world, b"content")
                event = world.told.one()
                assert (event["kind"], event["name"]) == ("failure", fault)
                if fail == "closed":
                    refused(http_down, came, event)
                else:
                    assert came.arrived == b"content"


def test_a_worker_that_dies_is_replaced(world: World) -> None:
    document = zipped({"a.txt": with_words(CARD).encode()})
    refused(http_put, http_put(world, document), world.told.one())
    for pid in children(world.gateway.pid):
        os.kill(pid, 9)
    refused(http_put, http_put(world, document), event := world.told.one())
    assert event["kind"] == "leak"
