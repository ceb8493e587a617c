"""What the tests of processes share: system tools, waiting with an end, ports, what /proc says."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
INSTALLER: Final = "scripts/install-system-packages"
PATIENCE: Final = 30.0
"""Seconds after which a program that should have answered has failed."""
ENVIRONMENT: Final = {
    name: value
    for name, value in os.environ.items()
    if not name.lower().endswith("_proxy") and not name.startswith("SSLINTERCEPT_")
}
"""What programs are started with: nothing that sends them past the proxy under test."""


@cache
def tool(name: str) -> str:
    """The path of a system tool. One that is missing fails the test, with the package that brings it."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        package = re.search(rf'"(\S+): {re.escape(name)}"', (ROOT / INSTALLER).read_text())
        pytest.fail(f"{name} is missing; install {package[1] if package else name} (or run {INSTALLER})", pytrace=False)
    return path


def ours(name: str) -> str:
    """The path of a program that was installed with the package under test."""
    return str(Path(sys.executable).parent / name)


def run(
    *command: str | Path,
    folder: Path,
    given: bytes = b"",
    timeout: float = PATIENCE,
    environment: dict[str, str] | None = None,
    user: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """
    Run a program to its end; its output comes as text with what is not UTF-8 replaced.

    @param user: whose rights it has, if not ours; its lines are not counted, it may not write the counts down.
    """
    inherited = {name: value for name, value in ENVIRONMENT.items() if user is None or not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=timeout,
        env={**inherited, "HOME": str(folder), **(environment or {})},
        user=user,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


def wait_for(what: str, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something holds; it not coming true in time is a failure that says what was waited for."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"{seconds:g} s passed without {what}")
        time.sleep(0.01)


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on just now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


def server_port() -> int:
    """
    A port for a server that opens it a little later: below those that the kernel gives to clients (32768 and more), so
    that no connection of another test takes it meanwhile; for datagrams it is free, too.
    """
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
                datagrams.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    pytest.fail("no port is free")


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a connection to a port is taken."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def descriptors(pid: int) -> int:
    """Files that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def status(pid: int, field: str) -> int:
    """A number from /proc/PID/status: C{VmRSS} in KiB, C{Threads}."""
    found = re.search(rf"^{field}:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None, field
    return int(found[1])


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
