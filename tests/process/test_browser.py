"""Chromium, without a window, with our CA in its store of certificates."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.process.origins import RESOURCES, BodyOrigin
from tests.process.running import Proxy
from tests.process.tools import ENVIRONMENT, run, tool, wait_for


@pytest.fixture
def home(gateway: Proxy, tmp_path: Path) -> Path:
    """A home folder whose certificate store trusts our CA."""
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    for arguments in (("-N", "--empty-password"), ("-A", "-t", "C,,", "-n", "sslintercept", "-i", str(gateway.ca))):
        done = run(tool("certutil"), "-d", f"sql:{store}", *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    return tmp_path


@contextmanager
def chromium(gateway: Proxy, home: Path, url: str, by: str = "http") -> Iterator[subprocess.Popen[bytes]]:
    """A browser that shows a page, through the proxy."""
    with (home / "chromium.txt").open("wb") as output:
        process = subprocess.Popen(
            [
                tool("chromium"),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
                *(f"--user-data-dir={home / 'profile'}", f"--proxy-server={by}://{gateway.ports[0]}"),
                *("--remote-debugging-port=0", url),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**ENVIRONMENT, "HOME": str(home)},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize("by", ["http", "https"])
def test_a_page_with_a_hundred_images_and_a_websocket_loads(
    gateway: Proxy, home: Path, origin: BodyOrigin, by: str
) -> None:
    with chromium(gateway, home, origin.url("/page.html"), by) as process:
        wait_for("the browser's report", lambda: origin.report.is_set() or process.poll() is not None, 60)
    said = (home / "chromium.txt").read_text(errors="replace")
    assert origin.report.is_set(), said
    assert parse_qs(origin.reported) == {"images": [str(RESOURCES)], "echo": ["round trip"]}

    def statuses() -> list[int]:
        lines = [line for line in gateway.log() if line["type"] == "transaction"]
        return [line["status"] for line in lines if "pixel.gif" in line["url"]]

    # Lines are written in batches.
    wait_for("a line for each resource", lambda: len(statuses()) >= RESOURCES)
    assert set(statuses()) == {200}


def test_a_browser_that_does_not_trust_our_ca_loads_nothing(gateway: Proxy, tmp_path: Path, origin: BodyOrigin) -> None:
    known = {line["id"] for line in gateway.log()}
    with chromium(gateway, tmp_path, origin.url("/page.html")):
        line = gateway.logged(
            lambda line: (
                line["type"] == "connection"
                and line["id"] not in known
                and line["destination"] == f"body.test:{origin.port}"
                and line["error"] is not None
            )
        )
    assert line["transactions"] == 0
    assert not origin.report.is_set()
