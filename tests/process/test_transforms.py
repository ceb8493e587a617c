"""Real clients through each transform that ships: curl, httpx, Chromium, websockets; and a body larger than memory."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Certificates, Handler, serving
from tests.process.running import Proxy
from tests.process.test_browser import chromium, home  # noqa: F401 - a fixture
from tests.process.test_load import resident
from tests.process.tools import ENVIRONMENT, PATIENCE, wait_for

BEFORE, AFTER = "Example Ltd", "Example plc"
PAGE = f"<html><head><title>x</title></head><body>{BEFORE} makes things. " + "Many things. " * 400 + "</body></html>"
SNIPPET = "<p>This connection is inspected.</p>"
STAGES = (
    *("replace-text", "inject-html", "headers", "redirect", "throttle", "digest", "tee", "decode", "encode", "null"),
)
SHIPPED = f"""
[transform:replace-text]
use = replace-text
match = path:/replace-text/*
find = {BEFORE}
replace = {AFTER}
[transform:inject-html]
use = inject-html
match = path:/inject-html/* direction:response
html = {SNIPPET}
[transform:headers]
use = headers
match = path:/headers/* direction:response
set = X-Seen: yes
remove = X-Origin
[transform:redirect]
use = redirect
match = path:/redirect/* direction:request
to = https://elsewhere.test{{path}}{{query}}
[transform:throttle]
use = throttle
match = path:/throttle/*
rate = 64KiB
burst = 1KiB
[transform:digest]
use = digest
match = path:/digest/*
[transform:tee]
use = tee
match = path:/tee/*
folder = kept
[transform:decode]
use = decode
match = path:/decode/* direction:response
[transform:encode]
use = encode
match = path:/encode/* direction:response
[transform:null]
use = null
match = path:/null/*
[transform:shout]
use = shouting_for_tests:Shouting
match = path:/shout/*
"""
MODULE = """\
from sslintercept.facts import Side
from sslintercept.transform.processor import Transformer
from sslintercept.websocket.stage import MessageStage


class Shout(MessageStage):
    def text(self, text, sender):
        return text.upper() if sender is Side.CLIENT else text + "!"

    def binary(self, data, sender):
        return data[::-1] if sender is Side.CLIENT else data


class Shouting(Transformer):
    def transform(self, message):
        return None

    def messages(self, message):
        return Shout()
"""
BROWSER = """<!DOCTYPE html><meta charset="utf-8"><title>streams</title><body><script>
const heard = [];
const events = new EventSource("/replace-text/events");
events.onmessage = event => {
  heard.push(event.data);
  if (heard.length === 1) fetch("/go");
  if (heard.length === 2) { events.close(); talk(); }
};
function talk() {
  const socket = new WebSocket("wss://" + location.host + "/shout/socket");
  socket.onopen = () => socket.send("round trip");
  socket.onerror = () => report("error");
  socket.onmessage = message => { report(message.data); socket.close(); };
}
function report(text) {
  fetch("/report?events=" + encodeURIComponent(heard.join(",")) + "&echo=" + encodeURIComponent(text));
}
</script></body>
"""


class StageHandler(Handler):
    """Answers below a path of each stage."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if self.headers["Upgrade"] is not None:
            self.websocket()
        elif path == "/browser.html":
            self.answer(BROWSER.encode(), "text/html")
        elif path == "/go":
            self.server.release.set()
            self.answer(b"")
        elif path.endswith("/page"):
            self.page()
        elif path.endswith("/events"):
            self.events()
        elif path.endswith("/endless"):
            self.endless(int(urlsplit(self.path).query))
        else:
            super().do_GET()

    def page(self) -> None:
        """A page, of which a piece may be asked for, in gzip if that is accepted."""
        content = PAGE.encode()
        piece = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        coded = piece is None and "gzip" in (self.headers["Accept-Encoding"] or "")
        self.send_response(206 if piece else 200)
        if piece:
            first, last = int(piece[1]), int(piece[2])
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        if coded:
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("X-Origin", "yes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def events(self) -> None:
        """One event now, one when somebody has said that it came."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(f"data: {BEFORE} 1\n\n".encode())
        self.server.release.wait(PATIENCE)
        self.wfile.write(f"data: {BEFORE} 2\n\n".encode())
        if isinstance(self.connection, ssl.SSLSocket):
            with suppress(OSError):  # the other side may be gone
                self.connection.unwrap()

    def endless(self, size: int) -> None:
        """So many bytes of text."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        block = memoryview((BEFORE + " makes many things. ").encode() * 40_000)
        while size > 0:
            self.wfile.write(block[:size])
            size -= len(block)


class StageOrigin(BodyOrigin):
    handler = StageHandler


@pytest.fixture(scope="module")
def served(certificates: Certificates) -> Iterator[StageOrigin]:
    with serving(StageOrigin(certificates.files["body.test"])) as server:
        assert isinstance(server, StageOrigin)
        yield server


@pytest.fixture(scope="module")
def gateway(module_proxy: ProxyMaker, tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """One proxy with all of them."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "shouting_for_tests.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(ENVIRONMENT, "PYTHONPATH", str(folder))
        return module_proxy(SHIPPED)


def expected(stage: str) -> str:
    """What becomes of the page."""
    if stage == "replace-text":
        return PAGE.replace(BEFORE, AFTER)
    if stage == "inject-html":
        return PAGE.replace("</body>", SNIPPET + "</body>")
    return PAGE


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", [(), ("--compressed",), ("--http1.0",), ("--compressed", "--http1.0")])
def test_curl_downloads_through(gateway: Proxy, served: StageOrigin, stage: str, how: tuple[str, ...]) -> None:
    answer = gateway.curl(served.url(f"/{stage}/page?a=b"), *how)
    assert answer.code == 0, answer.said
    if stage == "redirect":
        assert (answer.status, "location: https://elsewhere.test/redirect/page?a=b" in answer.head.lower()) == (
            302,
            True,
        )
        return
    assert (answer.status, answer.text) == (200, expected(stage))
    last = answer.head.lower().strip().rpartition("\r\n\r\n")[2]
    framing = [line for line in last.split("\r\n") if line.startswith(("content-length:", "transfer-encoding:"))]
    assert len(framing) <= 1
    if stage == "headers":
        assert ("x-seen: yes" in last, "x-origin" in last) == (True, False)
    if stage == "decode":
        assert "content-encoding" not in last
    if stage == "encode" and "--compressed" in how:
        assert "content-encoding: " in last


@pytest.mark.parametrize("stage", STAGES)
def test_curl_asks_for_a_piece(gateway: Proxy, served: StageOrigin, stage: str) -> None:
    """What a stage changes is asked for as a whole; of what it leaves a piece passes."""
    answer = gateway.curl(served.url(f"/{stage}/page"), "-r", "5-104")
    assert answer.code == 0, answer.said
    if stage in ("replace-text", "inject-html"):
        assert (answer.status, answer.text) == (200, expected(stage))
    elif stage != "redirect":
        assert (answer.status, answer.text) == (206, PAGE[5:105])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ["chunked", "length", "expect"])
def test_curl_uploads_through(gateway: Proxy, served: StageOrigin, tmp_path: Path, stage: str, how: str) -> None:
    """T6.3, with a body that takes several reads."""
    text = f"{BEFORE} and more. " * 20_000
    (tmp_path / "body").write_text(text)
    how_to = {
        "chunked": ("-H", "Transfer-Encoding: chunked"),
        "length": ("-H", "Expect:"),
        "expect": ("-H", "Expect: 100-continue"),
    }[how]
    where = served.url(f"/{stage}/digest")
    answer = gateway.curl(where, "-X", "POST", "-T", tmp_path / "body", *how_to, "-H", "Content-Type: text/plain")
    assert answer.code == 0, answer.said
    if stage == "redirect":
        assert answer.status == 302
        return
    assert answer.status == 200
    sent = text.replace(BEFORE, AFTER) if stage == "replace-text" else text
    got = answer.text
    assert f'"length": {len(sent)}' in got
    assert hashlib.sha256(sent.encode()).hexdigest() in got


def test_what_readers_saw_is_in_the_log_and_in_files(gateway: Proxy, served: StageOrigin) -> None:
    for stage in ("digest", "tee"):
        assert gateway.curl(served.url(f"/{stage}/page?noted"), "--compressed").text == PAGE
    line = gateway.logged(lambda line: "digest" in line.get("url", "") and "response_sha256" in line.get("notes", {}))
    assert line["notes"]["response_sha256"] == hashlib.sha256(PAGE.encode()).hexdigest()
    line = gateway.logged(lambda line: "/tee/page" in line.get("url", "") and "notes" in line)
    file = gateway.folder / "kept" / line["notes"]["response_tee"]
    assert file.read_text() == PAGE
    assert file.stat().st_mode & 0o777 == 0o600


def test_httpx_streams_both_ways(gateway: Proxy, served: StageOrigin) -> None:
    pieces = [f"{BEFORE} number {n}. ".encode() * 50 for n in range(200)]
    context = gateway.context()
    with httpx.Client(proxy=f"http://{gateway.ports[0]}", verify=context, timeout=PATIENCE, trust_env=False) as client:
        for stage in STAGES:
            if stage in ("redirect", "throttle"):
                continue
            url = served.url(f"/{stage}/digest")
            with client.stream("POST", url, content=iter(pieces), headers={"Content-Type": "text/plain"}) as response:
                got = "".join(response.iter_text())
            sent = b"".join(pieces)
            if stage == "replace-text":
                sent = sent.replace(BEFORE.encode(), AFTER.encode())
            assert hashlib.sha256(sent).hexdigest() in got
            served.release.clear()
            with client.stream("GET", served.url(f"/{stage}/events")) as response:
                lines = response.iter_lines()
                first = next(lines)
                served.release.set()
                rest = [line for line in lines if line]
            name = AFTER if stage == "replace-text" else BEFORE
            assert (first, rest) == (f"data: {name} 1", [f"data: {name} 2"])


def test_events_and_messages_reach_a_browser_as_they_come(
    gateway: Proxy,
    served: StageOrigin,
    home: Path,  # noqa: F811 - the fixture
) -> None:
    served.release.clear()
    served.report.clear()
    with chromium(gateway, home, served.url("/browser.html")) as process:
        wait_for("the browser's report", lambda: served.report.is_set() or process.poll() is not None, 60)
    assert served.report.is_set(), (home / "chromium.txt").read_text(errors="replace")
    assert parse_qs(served.reported) == {"events": [f"{AFTER} 1,{AFTER} 2"], "echo": ["ROUND TRIP!"]}


class Echo:
    """A server of the package C{websockets} that says everything back, and how compression was agreed on."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    async def __call__(self, socket: Any) -> None:  # Any: the package has two kinds of connections
        async for message in socket:
            await socket.send(message)


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("path", ["/shout/x", "/plain/x"])
def test_the_package_websockets_talks_through(
    gateway: Proxy, certificates: Certificates, path: str, compression: str | None
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.files["body.test"])

    async def talk() -> list[Any]:  # Any: text and bytes
        async with websockets.serve(
            Echo(context), "127.0.0.1", 0, ssl=context, compression=compression, max_size=1 << 22
        ) as server:
            port = server.sockets[0].getsockname()[1]
            got: list[Any] = []  # Any: as above
            async with websockets.connect(
                f"wss://body.test:{port}{path}",
                ssl=gateway.context(),
                proxy=f"http://{gateway.ports[0]}",
                compression=compression,
                max_size=1 << 22,
            ) as client:
                assert bool(client.protocol.extensions) is (compression is not None)
                for message in ("one", b"two", "three " * 50_000, ["in ", "frag", "ments"], ""):
                    await client.send(message)
                    got.append(await client.recv())
                await (await client.ping())
                await client.close(4001, "enough")
            assert (client.close_code, client.close_reason) == (4001, "enough")
            return got

    got = asyncio.run(asyncio.wait_for(talk(), PATIENCE))
    if path.startswith("/shout"):
        assert got == ["ONE!", b"owt", "THREE " * 50_000 + "!", "IN FRAGMENTS!", "!"]
    else:
        assert got == ["one", b"two", "three " * 50_000, "in fragments", ""]


def test_a_deflate_without_context_takeover_passes_stages_too(gateway: Proxy, certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.files["body.test"])
    terms = ClientPerMessageDeflateFactory(client_no_context_takeover=True, server_no_context_takeover=True)

    async def talk() -> list[Any]:  # Any: text and bytes
        async with websockets.serve(Echo(context), "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            async with websockets.connect(
                f"wss://body.test:{port}/shout/y",
                ssl=gateway.context(),
                proxy=f"http://{gateway.ports[0]}",
                compression=None,
                extensions=[terms],
            ) as client:
                got: list[Any] = []  # Any: as above
                for n in range(20):
                    await client.send(f"message {n} of many")
                    got.append(await client.recv())
                return got

    assert asyncio.run(asyncio.wait_for(talk(), PATIENCE)) == [f"MESSAGE {n} OF MANY!" for n in range(20)]


SIZE = 10 << 30
"""bytes; the proxy may keep none of them"""
MOST_MEMORY = 64 * 1024
"""KiB"""


def test_ten_gibibytes_pass_three_stages_and_a_client_that_stands_still(
    proxy: ProxyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in ENVIRONMENT if name.startswith("COVERAGE_")]:
        monkeypatch.delitem(ENVIRONMENT, name)  # counting its lines would take longer than all the rest
    made = proxy(
        "[transform:a]\nuse = null\n[transform:b]\nuse = replace-text\nfind = no such text\nreplace = x\n"
        "[transform:c]\nuse = digest\n"
    )
    with serving(StageOrigin(None)) as origin:
        assert made.curl(origin.url("/endless?1000000")).status == 200
        before, most, left = resident(made), 0, SIZE
        buffer = bytearray(1 << 20)
        with made.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.sendall(
                f"GET {origin.url(f'/endless?{SIZE}')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(1)
            assert head.startswith(b"HTTP/1.1 200 ")
            stalls = 0
            while got := sock.recv_into(buffer):
                left -= got
                if stalls < 5 and left < SIZE - (stalls + 1) * (SIZE // 6):
                    stalls += 1
                    time.sleep(1.0)
                    most = max(most, resident(made))
        assert (stalls, left <= 0) == (5, True)
    line = made.logged(lambda line: line.get("bytes_out", 0) > SIZE)
    assert line["notes"]["response_size"] == str(SIZE)
    assert most - before < MOST_MEMORY, (before, most)
