"""Much at once and for long: memory, files and threads come back to where they were."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Nginx
from tests.process.running import Proxy
from tests.process.tools import ENVIRONMENT, status, tool, wait_for

GIBIBYTE = 1 << 30
GROWTH = 32 * 1024
"""KiB that a proxy may grow by"""


def resident(proxy: Proxy) -> int:
    """KiB of memory in use."""
    return status(proxy.pid, "VmRSS")


@contextmanager
def curl(proxy: Proxy, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A curl that runs beside the test."""
    with subprocess.Popen(
        [tool("curl"), "-q", "-sS", "-f", "--proxy", f"http://{proxy.ports[0]}", "--cacert", str(proxy.ca), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def most_while(proxy: Proxy, process: subprocess.Popen[bytes]) -> int:
    """The most memory the proxy had while a process ran."""
    most = 0
    while process.poll() is None:
        most = max(most, resident(proxy))
        time.sleep(0.02)
    return most


@pytest.fixture
def warm(proxy: ProxyMaker, nginx: Nginx, origin: BodyOrigin) -> Proxy:
    """A proxy that has served both origins."""
    made = proxy("[http]\npool_size = 0\n")
    for url in (nginx.url("/big"), origin.url("/bytes/1000000")):
        assert made.curl(url).status == 200
    return made


def test_a_download_of_one_gibibyte_leaves_memory_flat(warm: Proxy, nginx: Nginx) -> None:
    before = resident(warm)
    with curl(warm, "-o", "/dev/null", "-w", "%{size_download}", nginx.url("/huge")) as process:
        most = most_while(warm, process)
        assert process.stdout is not None
        assert (process.returncode, process.stdout.read()) == (0, str(GIBIBYTE).encode())
    assert most - before < GROWTH


def test_an_upload_of_one_gibibyte_leaves_memory_flat(warm: Proxy, nginx: Nginx, origin: BodyOrigin) -> None:
    before = resident(warm)
    with curl(warm, "-T", str(nginx.root / "huge"), "-H", "Expect:", origin.url("/digest")) as process:
        most = most_while(warm, process)
        assert process.stdout is not None
        told = json.loads(process.stdout.read())
    assert (process.returncode, told["length"]) == (0, GIBIBYTE)
    assert told["sha256"] == "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"
    assert most - before < GROWTH


def test_a_client_that_does_not_read_holds_the_origin_back(warm: Proxy, nginx: Nginx) -> None:
    before = resident(warm)
    with warm.secure(f"good.test:{nginx.port}", "good.test") as sock:
        sock.sendall(f"GET /huge HTTP/1.1\r\nHost: good.test:{nginx.port}\r\n\r\n".encode())
        sock.recv(1)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert resident(warm) - before < GROWTH
            time.sleep(0.02)


def test_two_thousand_connections_leave_nothing_behind(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("[http]\npool_size = 0\n")

    def visit(number: int) -> None:
        context = made.context()
        for _ in range(number):
            with context.wrap_socket(made.tunnel(f"good.test:{nginx.port}"), server_hostname="good.test") as sock:
                sock.sendall(f"GET /hello.txt HTTP/1.1\r\nHost: good.test:{nginx.port}\r\n\r\n".encode())
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")

    def crowd(connections: int) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(visit, [connections // 8] * 8))
        wait_for("every connection in the log", lambda: all_logged(made))

    served = 0

    def all_logged(proxy: Proxy) -> bool:
        text = (proxy.folder / "access.log").read_text()
        return text.count('"type":"connection"') == served

    served += 400
    crowd(400)
    base, memory, threads = made.descriptors(), resident(made), status(made.pid, "Threads")
    served += 2000
    crowd(2000)
    made.is_back_at(base)
    assert status(made.pid, "Threads") <= threads
    assert resident(made) - memory < GROWTH / 4
