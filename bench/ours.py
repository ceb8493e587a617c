"""Our own gateway, started as a user would start it, for the benchmarks that compare it with itself."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PATIENCE = 60.0
"""seconds to start: lists may be long"""


class Gateway(NamedTuple):
    """One that runs; C{folder} holds its CA, as C{ca.pem}."""

    port: int
    pid: int
    folder: Path


@contextlib.contextmanager
def gateway(folder: Path, more: str) -> Iterator[Gateway]:
    """
    Run one.

    @param more: what stands in its ini file beside a listener on a free port.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    ini = folder / "bench.ini"
    ini.write_text(
        f"[sslintercept]\nstate_dir = {folder}\n[listen:one]\nendpoint = tcp:{port}:interface=127.0.0.1\n"
        f"[log]\naccess = {folder}/access.log\n{more}"
    )
    twistd = Path(sys.executable).parent / "twistd"
    command = [str(twistd), "-n", "--pidfile=", "sslintercept", "--config", str(ini)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder) as process:
        try:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > end or process.poll() is not None:
                        raise SystemExit("the gateway did not start") from None
                    time.sleep(0.05)
            yield Gateway(port, process.pid, folder)
        finally:
            process.send_signal(signal.SIGKILL)
