"""Waiting pages as people and programs meet them: curl step by step, Chromium by itself, a process that stops."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from threading import Event
from urllib.parse import urljoin, urlsplit

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Certificates, Handler, body, serving
from tests.process.running import Proxy
from tests.process.test_warning import chromium
from tests.process.tools import ENVIRONMENT, ROOT, free_port, run, tool, wait_for

SIZE = 3_000_000
INI = "[inspect:late]\nuse = tests.inspect.stubs:late\nseconds = {seconds}\n[inspection]\nwaiting_page = 1s\n"
HTML = ("-H", "Accept: text/html,*/*;q=0.8")


class DownloadHandler(Handler):
    """A file to download, the last byte of which comes when the test says so."""

    def do_GET(self) -> None:
        if not urlsplit(self.path).path.startswith(("/fine/", "/evil/")):
            super().do_GET()
            return
        assert isinstance(self.server, DownloadOrigin)
        content = body(SIZE) if self.path.startswith("/fine/") else b"EVIL" + body(SIZE - 4)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", "attachment")
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.wfile.write(content[:-1])
        self.server.goes_on.wait(60)
        self.wfile.write(content[-1:])


class DownloadOrigin(BodyOrigin):
    handler = DownloadHandler

    def __init__(self, files: tuple[Path, Path] | None, host: str = "127.0.0.1") -> None:
        super().__init__(files, host)
        self.goes_on = Event()


@pytest.fixture
def downloads(certificates: Certificates) -> Iterator[DownloadOrigin]:
    with serving(DownloadOrigin(certificates.files["body.test"])) as server:
        assert isinstance(server, DownloadOrigin)
        yield server
        server.goes_on.set()


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy finds the inspector of these tests."""
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(ROOT))


def link_of(page: str) -> str:
    found = re.search(r'<a href="([^"]+)">', page)
    assert found, page
    return unescape(found[1])


def followed(made: Proxy, url: str) -> str:
    """Where the page leads that comes in place of the download."""
    page = made.curl(url, *HTML)
    assert page.status == 503
    assert "/ 2.9 MiB (" in page.text
    assert f"Refresh: 5; url={link_of(page.text)}" in page.head
    return urljoin(url, link_of(page.text))


def files(made: Proxy) -> list[str]:
    """The files without names that it has open in its folder."""
    folder = str(made.folder / "state" / "waiting")
    found = []
    for each in Path(f"/proc/{made.pid}/fd").iterdir():
        try:
            at = str(each.readlink())
        except FileNotFoundError:
            continue
        if at.startswith(folder):
            found.append(at)
    return found


def test_curl_follows_the_page_to_the_file(proxy: ProxyMaker, downloads: DownloadOrigin) -> None:
    made = proxy(INI.format(seconds="1s"))
    url = downloads.url("/fine/report.bin")
    page = followed(made, url)
    assert len(files(made)) == 1
    assert list((made.folder / "state" / "waiting").iterdir()) == []
    assert (made.folder / "state" / "waiting").stat().st_mode & 0o777 == 0o700
    assert "It is being inspected" in made.curl(page).text
    downloads.goes_on.set()
    wait_for("the verdict", lambda: made.curl(page).status == 200)
    link = urljoin(page, link_of(made.curl(page).text))
    assert link.endswith("/report.bin")
    got = made.curl(link)
    assert (got.status, got.body) == (200, body(SIZE))
    assert "content-disposition: attachment" in got.head.lower()
    assert "x-content-type-options: nosniff" in got.head.lower()
    assert made.curl(link).status == 404
    assert files(made) == []
    assert not any(part in line.get("url", "") for line in made.log() for part in (page, link))


def test_curl_follows_the_page_to_the_block(proxy: ProxyMaker, downloads: DownloadOrigin) -> None:
    made = proxy(INI.format(seconds="1s"))
    page = followed(made, downloads.url("/evil/report.bin"))
    downloads.goes_on.set()
    wait_for("the verdict", lambda: made.curl(page).status == 403)
    assert "Malware was found" in made.curl(page).text
    assert files(made) == []


def test_a_program_waits_for_the_file_itself(proxy: ProxyMaker, downloads: DownloadOrigin) -> None:
    made = proxy(INI.format(seconds="2s"))
    downloads.goes_on.set()
    got = made.curl(downloads.url("/fine/report.bin"))
    assert (got.status, got.body) == (200, body(SIZE))


def test_with_several_workers_a_client_comes_back_to_the_one_that_knows(
    proxy: ProxyMaker, downloads: DownloadOrigin
) -> None:
    listen = f"[listen:proxy]\nendpoint = tcp:{free_port()}:interface=127.0.0.1\n"
    made = proxy(f"[sslintercept]\nworkers = 3\n{listen}{INI.format(seconds='1s')}")
    page = followed(made, downloads.url("/fine/report.bin"))
    assert {made.curl(page).status for _ in range(8)} == {503}


def test_a_process_that_stops_ends_what_waits_at_once(proxy: ProxyMaker, downloads: DownloadOrigin) -> None:
    made = proxy(INI.format(seconds="1s"))
    followed(made, downloads.url("/fine/report.bin"))
    begun = time.monotonic()
    made.stop()
    assert time.monotonic() - begun < 8, "it did not wait for drain_timeout"


def test_chromium_saves_the_file_by_itself(proxy: ProxyMaker, downloads: DownloadOrigin, tmp_path: Path) -> None:
    made = proxy(INI.format(seconds="1s"))
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    for arguments in (("-N", "--empty-password"), ("-A", "-t", "C,,", "-n", "sslintercept", "-i", str(made.ca))):
        done = run(tool("certutil"), "-d", f"sql:{store}", *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    saved = tmp_path / "saved"
    with chromium(made, tmp_path, "about:blank") as browser:
        browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        browser.ask("Page.navigate", browser.session, url=downloads.url("/fine/report.bin"))
        wait_for("the page", lambda: browser.evaluate("document.title") == "It is being inspected", 60)
        assert browser.evaluate("getComputedStyle(document.body).maxWidth") == "640px"
        downloads.goes_on.set()
        wait_for("the verdict", lambda: browser.evaluate("document.title") == "Nothing was found", 60)
        wait_for("the file", (saved / "report.bin").exists, 60)
        wait_for("all of it", lambda: (saved / "report.bin").stat().st_size == SIZE, 60)
    assert (saved / "report.bin").read_bytes() == body(SIZE)
