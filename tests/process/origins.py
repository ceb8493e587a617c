"""Origins: nginx with good and bad certificates, and a small server that does what a test asks it to."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from sslintercept.testing.pki import Pair, make_ca, make_leaf
from tests.process.tools import PATIENCE, free_port, is_listening, tool, wait_for

PIECE: Final = hashlib.shake_256(b"any bytes, the same every time").digest(65_521)
"""What bodies are made of: a prime number of bytes, so that a piece lost or doubled is never a whole period."""
RESOURCES: Final = 100
"""Images on the page for browsers."""
PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A GIF of one pixel."""
WEBSOCKET: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 1.3"""
NAMES: Final = ("good.test", "expired.test", "wrong.test", "selfsigned.test", "unknown.test", "incomplete.test")
"""The hosts of nginx, each with a certificate as its name says; C{good.test} is also C{127.0.0.1} and C{::1}."""
BODY_NAME: Final = "body.test"
NGINX: Final = """
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;
    types {{ text/html html; text/plain txt; image/gif gif; }}
    root {folder}/root;
    gzip on; gzip_proxied any; gzip_types text/plain; gzip_min_length 1;
    keepalive_requests 100000;
    sendfile on;
    ssl_protocols TLSv1.2 TLSv1.3;
    server {{ listen 127.0.0.1:{plain}; listen [::1]:{plain}; server_name good.test; }}
    {servers}
}}
"""
SERVER: Final = """
    server {{
        listen 127.0.0.1:{port} ssl{default}; listen [::1]:{port} ssl{default};
        server_name {name}; ssl_certificate {name}.pem; ssl_certificate_key {name}.key;
    }}
"""


def body(length: int) -> bytes:
    """A body of so many bytes."""
    return (PIECE * (length // len(PIECE) + 1))[:length]


def digest(length: int) -> str:
    """The SHA-256 of L{body}, without making it."""
    made = hashlib.sha256()
    for start in range(0, length, len(PIECE)):
        made.update(PIECE[: length - start])
    return made.hexdigest()


class Certificates:
    """The CA that the proxy is told to trust, and the chains of the origins."""

    def __init__(self, folder: Path) -> None:
        authority = make_ca("CA of the origins")
        between = make_ca("Intermediate CA of the origins", issuer=authority)
        stranger = make_ca("CA nobody knows")
        issuer = x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(
                    AuthorityInformationAccessOID.CA_ISSUERS,
                    x509.UniformResourceIdentifier("http://ca.test/intermediate.der"),
                )
            ]
        )
        past = datetime(2021, 1, 1, tzinfo=UTC)
        self.trust = folder / "origin-ca.pem"
        self.trust.write_bytes(authority.pem)
        self.chains: dict[str, tuple[Pair, list[Pair]]] = {
            "good.test": (make_leaf(between, ["good.test", "127.0.0.1", "::1"]), [between]),
            "expired.test": (make_leaf(authority, ["expired.test"], not_after=past), []),
            "wrong.test": (make_leaf(authority, ["another.test"]), []),
            "selfsigned.test": (make_leaf(None, ["selfsigned.test"]), []),
            "unknown.test": (make_leaf(stranger, ["unknown.test"]), []),
            "incomplete.test": (make_leaf(between, ["incomplete.test"], extensions=[(issuer, False)]), []),
            BODY_NAME: (make_leaf(authority, [BODY_NAME, "127.0.0.1", "::1"], key_kind="rsa"), []),
        }
        self.files: dict[str, tuple[Path, Path]] = {}
        for name, (leaf, above) in self.chains.items():
            chain, key = folder / f"{name}.pem", folder / f"{name}.key"
            chain.write_bytes(leaf.pem + b"".join(pair.pem for pair in above))
            key.write_bytes(leaf.key_pem)
            self.files[name] = chain, key


class Nginx:
    """
    nginx with a server block for each of L{NAMES}.

    @ivar plain: its port for HTTP, on 127.0.0.1 and ::1.
    @ivar port: its port for HTTPS.
    """

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.plain, self.port = free_port("::1"), free_port("::1")
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir()
        (folder / "temp").mkdir()
        (self.root / "hello.txt").write_text("hello from nginx\n" * 4)
        (self.root / "big").write_bytes(body(10_000_000))
        with (self.root / "huge").open("wb") as huge:
            huge.truncate(1 << 30)
        for name in NAMES:
            for file in certificates.files[name]:
                (folder / file.name).write_bytes(file.read_bytes())
        servers = "".join(
            SERVER.format(name=name, port=self.port, default=" default_server" if name == NAMES[0] else "")
            for name in NAMES
        )
        user = "user root;" if os.geteuid() == 0 else ""
        config = NGINX.format(user=user, folder=folder, plain=self.plain, servers=servers)
        (folder / "nginx.conf").write_text(config)
        self.process = subprocess.Popen(
            [tool("nginx"), "-p", str(folder), "-e", "error.log", "-c", str(folder / "nginx.conf")],
            stdin=subprocess.DEVNULL,
        )
        try:
            wait_for("nginx listening", lambda: self.process.poll() is not None or is_listening(self.port, "::1"))
            assert self.process.poll() is None, (folder / "error.log").read_text()
        except BaseException:
            self.stop()
            raise

    def url(self, path: str = "/hello.txt", name: str = "good.test") -> str:
        return f"https://{name}:{self.port}{path}"

    def plain_url(self, path: str = "/hello.txt", name: str = "good.test") -> str:
        return f"http://{name}:{self.plain}{path}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Handler(BaseHTTPRequestHandler):
    """What a L{BodyOrigin} answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: BodyOrigin

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def answer(self, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if self.headers["Upgrade"] is not None:
            self.websocket()
        elif path.path == "/headers":
            self.answer(json.dumps(self.headers.items()).encode())
        elif path.path == "/held":
            self.held()
        elif path.path == "/page.html":
            self.answer(PAGE.encode(), "text/html")
        elif path.path == "/pixel.gif":
            self.answer(PIXEL, "image/gif")
        elif path.path == "/report":
            self.server.reported = path.query
            self.server.report.set()
            self.answer(b"")
        elif path.path.startswith(("/until-close/", "/until-cut/")):
            self.until_close(int(path.path.rpartition("/")[2]), cut=path.path.startswith("/until-cut/"))
        elif path.path.startswith("/bytes/"):
            self.answer(body(int(path.path.removeprefix("/bytes/"))))
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def held(self) -> None:
        """Half a body now, the rest when the test says so."""
        self.send_response(200)
        self.send_header("Content-Length", "200000")
        self.end_headers()
        content = body(200_000)
        self.wfile.write(content[:100_000])
        self.server.holding.set()
        self.server.release.wait(PATIENCE)
        self.wfile.write(content[100_000:])

    def until_close(self, length: int, cut: bool) -> None:
        """A body that the end of TLS delimits; cut: only the end of TCP."""
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body(length))
        if not cut:
            with suppress(OSError):  # the other side may be gone, or not answer in kind
                self.connection.unwrap()

    def do_POST(self) -> None:
        if self.path == "/echo":
            self.answer(b"".join(self.pieces()))
            return
        made, length = hashlib.sha256(), 0
        for piece in self.pieces():
            made.update(piece)
            length += len(piece)
        self.answer(json.dumps({"length": length, "sha256": made.hexdigest(), "fields": dict(self.headers)}).encode())

    do_PUT = do_POST

    def pieces(self) -> Iterator[bytes]:
        """The request's body."""
        if self.headers["Transfer-Encoding"] == "chunked":
            while (left := int(self.rfile.readline().split(b";")[0], 16)) > 0:
                yield self.rfile.read(left)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers["Content-Length"] or 0)
        while left > 0:
            piece = self.rfile.read(min(left, 1 << 18))
            if not piece:
                return
            left -= len(piece)
            yield piece

    def websocket(self) -> None:
        """Echo every frame below 64 KiB until one says close (RFC 6455 5.2)."""
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + WEBSOCKET).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            length = head[1] & 0x7F
            extended = self.rfile.read(2) if length == 126 else b""
            length = int.from_bytes(extended, "big") if extended else length
            mask = self.rfile.read(4)
            text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length)))
            self.wfile.write(bytes([head[0], head[1] & 0x7F]) + extended + text)
            if head[0] & 0x0F == 8:
                return


PAGE: Final = f"""<!DOCTYPE html><meta charset="utf-8"><title>resources</title>
<body><script>
const images = Array.from({{length: {RESOURCES}}}, (_, n) => new Promise(done => {{
  const image = document.body.appendChild(new Image());
  image.onload = () => done(image.naturalWidth); image.onerror = () => done(0);
  image.src = "/pixel.gif?" + n;
}}));
const echoed = new Promise(done => {{
  const socket = new WebSocket("wss://" + location.host + "/socket");
  socket.onopen = () => socket.send("round trip"); socket.onerror = () => done("error");
  socket.onmessage = message => {{ done(message.data); socket.close(); }};
}});
Promise.all([Promise.all(images), echoed]).then(([widths, text]) =>
  fetch("/report?images=" + widths.filter(width => width === 1).length + "&echo=" + encodeURIComponent(text)));
</script></body>
"""
"""Loads its images, makes a WebSocket's round trip, and reports both."""


class BodyOrigin(ThreadingHTTPServer):
    """
    An origin in this process.

    @ivar holding: set when half of C{/held} was sent.
    @ivar release: set by the test to let the other half go.
    @ivar reported: the query of the last C{/report}; C{report} is set when it came.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    handler = Handler
    """what answers"""

    def __init__(self, files: tuple[Path, Path] | None, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.context: ssl.SSLContext | None = None
        if files is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*files)
        self.holding, self.release, self.report = threading.Event(), threading.Event(), threading.Event()
        self.reported = ""
        super().__init__((host, 0), self.handler)
        self.port: int = self.server_address[1]

    def server_bind(self) -> None:
        """Bind, without asking a name server for our name."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = BODY_NAME, self.server_address[1]

    def get_request(self) -> tuple[Any, Any]:  # Any: a socket and its peer's address
        sock, peer = super().get_request()
        if self.context is not None:
            sock = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return sock, peer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error of an origin."""

    def url(self, path: str, name: str = BODY_NAME) -> str:
        return f"{'http' if self.context is None else 'https'}://{name}:{self.port}{path}"


@contextmanager
def serving(server: BodyOrigin) -> Iterator[BodyOrigin]:
    """Serve from a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent() -> Iterator[int]:
    """The port of an origin that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


@contextmanager
def closed() -> Iterator[int]:
    """A port that is taken, so that nobody else can listen on it, and refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def scripted(reply: bytes, read: int = 1) -> Iterator[int]:
    """The port of an origin that reads a little, sends one reply, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    sock, _peer = listening.accept()
                    with sock, suppress(OSError):
                        sock.recv(read)
                        sock.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        thread.join()
