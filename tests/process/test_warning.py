"""Warnings as people and programs meet them: Chromium with a mouse, curl with a jar of cookies, several workers."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import RESOURCES, BodyOrigin, Nginx
from tests.process.running import Proxy
from tests.process.tools import ENVIRONMENT, PATIENCE, free_port, run, tool, wait_for

RULE = "[rule:careful]\nmatch = host:good.test,body.test\naction = warn\n"


def link_of(page: str) -> str:
    found = re.search(r'<form method="post" action="([^"]+)">', page)
    assert found, page
    return unescape(found[1])


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_curl_that_posts_what_the_page_says_comes_in_with_every_worker(
    proxy: ProxyMaker, nginx: Nginx, secure: bool
) -> None:
    listen = f"[listen:proxy]\nendpoint = tcp:{free_port()}:interface=127.0.0.1\n"
    made = proxy(f"[sslintercept]\nworkers = 2\nspread = connections\n{listen}{RULE}")
    url = nginx.url() if secure else nginx.plain_url()
    jar = made.folder / "jar"
    page = made.curl(url)
    assert page.status == 403
    assert "Are you sure?" in page.text
    assert "careful" in json.loads(made.curl(url, "-H", "Accept: application/json").body)["detail"]
    link = urljoin(url, link_of(page.text))
    assert made.curl(link, "-c", jar).status == 403
    assert "sslintercept" not in jar.read_text()
    landed = made.curl(link, "-c", jar, "-d", "", "-L")
    assert (landed.status, landed.text) == (200, "hello from nginx\n" * 4)
    assert (landed.facts[0]["num_redirects"], landed.facts[0]["url_effective"]) == (1, url)
    assert jar.read_text().count("#HttpOnly_") == 2
    # Connections come to either worker.
    assert {made.curl(url, "-b", jar).status for _ in range(12)} == {200}
    assert made.curl(url).status == 403
    line = made.logged(lambda line: "consented" in line and line["status"] == 200)
    assert (line["rule"], line["action"]) == ("careful", "warn")
    secret = made.folder / "state" / "consent.secret"
    assert (secret.stat().st_mode & 0o777, secret.stat().st_size) == (0o600, 32)


class Chromium:
    """A browser that is told what to do through a pair of pipes (Chrome DevTools Protocol)."""

    def __init__(self, process: subprocess.Popen[bytes], read: int, write: int) -> None:
        self.process = process
        self._read, self._write = read, write
        self._serial = 0
        self._buffer = b""
        targets = self.ask("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:  # Any: JSON
        self._serial += 1
        message = {"id": self._serial, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self._buffer:
                ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
                assert ready, f"no answer to {method}"
                piece = os.read(self._read, 1 << 16)
                assert piece, "the browser ended"
                self._buffer += piece
            text, _, self._buffer = self._buffer.partition(b"\0")
            said = json.loads(text)
            if said.get("id") == self._serial:
                assert "error" not in said, said
                found: dict[str, Any] = said["result"]
                return found

    def evaluate(self, expression: str) -> Any:  # Any: JSON
        said = self.ask("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        return said["result"].get("value")

    def click(self, selector: str) -> None:
        """With the mouse, as a person does."""
        middle = "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        x, y = self.evaluate(f"{middle}(document.querySelector('{selector}').getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", self.session, type=kind, x=x, y=y, button="left", clickCount=1)


@contextmanager
def chromium(proxy: Proxy, home: Path, url: str) -> Iterator[Chromium]:
    """A browser with an empty profile that shows a page through the proxy."""
    to_us, from_them = os.pipe()
    to_them, from_us = os.pipe()
    command = [
        tool("chromium"),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *(f"--user-data-dir={home / 'profile'}", f"--proxy-server=http://{proxy.ports[0]}"),
        *("--remote-debugging-pipe", url),
    ]
    with (home / "chromium.txt").open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_them} 4>&{from_them}', "bash", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**ENVIRONMENT, "HOME": str(home)},
            pass_fds=(to_them, from_them),
        )
    os.close(to_them)
    os.close(from_them)
    try:
        yield Chromium(process, to_us, from_us)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(to_us)
        os.close(from_us)


def test_in_chromium_a_click_leads_to_the_page_with_all_that_is_in_it(
    proxy: ProxyMaker, tmp_path: Path, origin: BodyOrigin
) -> None:
    made = proxy(RULE)
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    for arguments in (("-N", "--empty-password"), ("-A", "-t", "C,,", "-n", "sslintercept", "-i", str(made.ca))):
        done = run(tool("certutil"), "-d", f"sql:{store}", *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    origin.report.clear()
    with chromium(made, tmp_path, origin.url("/page.html")) as browser:
        wait_for("the warning", lambda: browser.evaluate("document.title") == "Are you sure?", 60)
        # Our styles apply, and nobody else's could.
        assert browser.evaluate("getComputedStyle(document.body).maxWidth") == "640px"
        assert not origin.report.is_set()
        browser.click("button")
        wait_for("the browser's report", origin.report.is_set, 60)
        assert browser.evaluate("document.cookie") == ""
    assert parse_qs(origin.reported) == {"images": [str(RESOURCES)], "echo": ["round trip"]}
    line = made.logged(lambda line: "/page.html" in line.get("url", "") and line["status"] == 200)
    assert line["consented"] is True


def test_in_chromium_a_script_cannot_click(proxy: ProxyMaker, tmp_path: Path, nginx: Nginx) -> None:
    made = proxy(RULE)
    with chromium(made, tmp_path, nginx.plain_url()) as browser:
        wait_for("the warning", lambda: browser.evaluate("document.title") == "Are you sure?", 60)
        assert browser.evaluate("document.querySelector('form').action").startswith("http://good.test")
        said = browser.ask(
            "Runtime.evaluate",
            browser.session,
            expression="fetch('/hello.txt').then(r => r.json().then(j => [r.status, 'continue' in j]), e => String(e))",
            awaitPromise=True,
            returnByValue=True,
        )["result"]["value"]
        # The page lets nothing be fetched at all.
        assert said == "TypeError: Failed to fetch"
