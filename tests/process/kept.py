"""An origin whose content follows from the URL, and what a proxy says of its cache."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from sslintercept.control import ask
from tests.process.origins import BodyOrigin, Handler
from tests.process.running import Answer, Proxy
from tests.process.tools import PATIENCE, run, tool, wait_for

FRESH: Final = "Cache-Control=max-age=600"
STALE: Final = "Cache-Control=max-age=0"
MODIFIED: Final = formatdate(time.time() - 86400, usegmt=True)
"""Last-Modified of everything with validators"""
PAGE: Final = """<!DOCTYPE html><meta charset="utf-8"><title>kept</title>
<body><script>
const again = location.search.includes("again");
const image = document.body.appendChild(new Image());
image.onerror = () => fetch("/report?error");
image.onload = () => {
  if (again) fetch("/report?width=" + image.naturalWidth);
  else if (sessionStorage.loaded) fetch("/report?reloaded=" + image.naturalWidth);
  else { sessionStorage.loaded = "yes"; location.reload(); }
};
image.src = "/image.gif";
</script></body>
"""
"""Shows an image, reloads itself once unless it was asked for again, and reports."""


def made(path: str, size: int, version: int = 1) -> bytes:
    """The content of a path: nothing of it is like that of another one; it repeats itself after a prime number."""
    piece = hashlib.shake_256(f"{path} {version}".encode()).digest(min(size, 65_521))
    return (piece * (size // 65_521 + 1))[:size]


class KeptHandler(Handler):
    """
    Answers /made/SIZE/NAME?FIELDS with L{made}. Parts of the query are fields of the answer; those without an upper
    case letter say how it is sent: C{tag} with validators, C{chunked}, C{gzip}: if the client wants that, C{held}: the
    second half when the test says so.
    """

    server: KeptOrigin

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        self.server.asked.append(f"{self.command} {self.path}")
        if path.path == "/kept.html":
            self.keep(PAGE.encode(), "text/html")
        elif path.path == "/image.gif":
            self.path = "/pixel.gif"
            super().do_GET()
        elif path.path.startswith("/made/"):
            self.made(int(path.path.split("/")[2]), dict(parse_qsl(path.query, keep_blank_values=True)))
        else:
            super().do_GET()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        super().do_POST()

    def keep(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("ETag", '"one"')
        self.end_headers()
        self.wfile.write(content)

    def answer(self, content: bytes, kind: str = "text/plain") -> None:
        if self.path == "/pixel.gif":
            self.keep(content, kind)
        else:
            super().answer(content, kind)

    def made(self, size: int, how: dict[str, str]) -> None:
        version, tag = self.server.version, f'"v{self.server.version}"'
        if self.server.failing:
            self.send_error(503)
            return
        known = self.headers["If-None-Match"] == tag if "If-None-Match" in self.headers else False
        part = self.part(size, tag) if "tag" in how and not {"chunked", "gzip"} & how.keys() else None
        self.send_response(304 if "tag" in how and known else 200 if part is None else 206)
        for name, value in how.items():
            if name != name.lower():
                self.send_header(name, value)
        if "tag" in how:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", MODIFIED)
        content = made(self.path, size, version)
        if "gzip" in how:
            self.send_header("Vary", "Accept-Encoding")
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                self.send_header("Content-Encoding", "gzip")
                content = gzip.compress(content, mtime=0)
        if "tag" in how and known:
            content = b""
        elif "chunked" in how:
            self.send_header("Transfer-Encoding", "chunked")
            content = b"".join(
                b"%x\r\n%b\r\n" % (len(piece), piece)
                for piece in (content[at : at + 50_000] for at in range(0, size, 50_000))
            )
            content += b"0\r\n\r\n"
        else:
            if part is not None:
                content = content[part[0] : part[1] + 1]
                self.send_header("Content-Range", f"bytes {part[0]}-{part[1]}/{size}")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.body(content, "held" in how)

    def part(self, size: int, tag: str) -> tuple[int, int] | None:
        """The first and the last byte that are asked for, if the content is still what whoever asks has of it."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None or self.headers.get("If-Range", tag) != tag:
            return None
        return int(wanted[1]), min(int(wanted[2]), size - 1)

    def body(self, content: bytes, held: bool) -> None:
        half = len(content) // 2 if held else 0
        if held:
            self.wfile.write(content[:half])
            self.server.holding.set()
            self.server.release.wait(PATIENCE)
        self.wfile.write(content[half:])


class KeptOrigin(BodyOrigin):
    """
    @ivar asked: method and path of every request.
    @ivar version: of everything; C{failing}: it answers 503.
    """

    handler = KeptHandler

    def __init__(self, *arguments: object) -> None:
        self.asked: list[str] = []
        self.version, self.failing = 1, False
        super().__init__(*arguments)  # type: ignore[arg-type]  # passed on

    def made(self, size: int, name: str, *how: str) -> str:
        """The URL of something."""
        return self.url(f"/made/{size}/{name}?{'&'.join(how or (FRESH,))}")

    def content(self, url: str) -> bytes:
        """What is under a URL just now."""
        parts = urlsplit(url)
        return made(f"{parts.path}?{parts.query}", int(parts.path.split("/")[2]), self.version)


def said(answer: Answer) -> str:
    """What Cache-Status says of the last response."""
    lines = [line for line in answer.head.splitlines() if line.lower().startswith("cache-status:")]
    return lines[-1].partition(":")[2].strip() if lines else ""


def words(proxy: Proxy, url: str, count: int) -> list[str]:
    """What the access log, which keeps queries to itself, says of the first requests for a URL."""
    shown = url.partition("?")[0]

    def found() -> list[str]:
        lines = [line for line in proxy.log() if line["type"] == "transaction" and line["method"] == "GET"]
        return [line["result"] for line in lines if line["url"].partition("?")[0] == shown]

    wait_for(f"{count} lines in the access log", lambda: len(found()) >= count, 10)
    return found()


@contextmanager
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    """A client that keeps its connection to a proxy."""
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(
        proxy=f"http://{proxy.ports[0]}", trust_env=False, limits=limits, timeout=PATIENCE
    ) as made_client:
        yield made_client


def told(proxy: Proxy, question: str = "stat", worker: int = 0) -> list[str]:
    """What a process of a proxy answers to a question about its cache."""
    found = ask(proxy.folder / "state", f"cache {question}")
    return [line for name, line in found if name == f"control-{worker}"]


def stat(proxy: Proxy, worker: int = 0) -> dict[str, int]:
    """The numbers of C{cache stat}, without those of which there are several."""
    lines = [line.split(" ") for line in told(proxy, "stat", worker)]
    return {line[0]: int(line[1]) for line in lines}


def recovered(proxy: Proxy, workers: int = 1) -> Proxy:
    """Wait until a proxy has read what is in its spans; before that everything is a miss."""
    for worker in range(workers):
        wait_for("a span in service", lambda worker=worker: stat(proxy, worker).get("spans") == 1)  # type: ignore[misc]  # a default, not a parameter
    return proxy


@contextmanager
def mounted(where: Path, *what: str) -> Iterator[Path]:
    """A file system of its own for a while; the test is skipped where this machine allows none."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount file systems")
    where.mkdir()
    done = run(tool("mount"), *what, where, folder=where.parent)
    if done.returncode:
        pytest.skip(f"this machine mounts nothing ({done.stderr.strip()})")
    try:
        yield where
    finally:
        assert run(tool("umount"), "-l", where, folder=where.parent).returncode == 0
