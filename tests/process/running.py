"""A proxy as a process, and what a test wants to know of it."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.process.tools import ENVIRONMENT, PATIENCE, descriptors, ours, run, tool, wait_for

INI: Final = """
[sslintercept]
state_dir = state
drain_timeout = 10s
[listen:proxy]
endpoint = tcp:0:interface=127.0.0.1
[upstream-tls]
trust = {trust}
[dns]
hosts = {hosts}
[log]
access = access.log
"""
"""The settings of every proxy here, before those of the test; ports are the kernel's choice."""
PROBLEMS: Final = ("Traceback", "Unhandled", "#critical", "#error", "Warning")
"""Words that have no place in the output of a proxy that does well."""
AUTHORITY: Final = "the CA certificate that clients must trust: "
"""in the banner, behind the ports; it is written at once"""


def settings(text: str, trust: Path, hosts: Path) -> str:
    """The ini file of a test: L{INI}, and what the test adds to its sections or overrides."""
    parser = RawConfigParser()
    parser.read_string(INI.format(trust=trust, hosts=hosts))
    parser.read_string(text)
    sections = [
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in parser[name].items())
        for name in parser.sections()
    ]
    return "\n".join(sections)


@dataclass(frozen=True)
class Answer:
    """
    What curl got.

    @ivar code: curl's exit status.
    @ivar facts: what C{%{json}} says, one for each transfer.
    @ivar head: the heads of all responses, those of the proxy included.
    @ivar said: what it wrote to standard error.
    """

    code: int
    facts: list[dict[str, Any]]  # Any: JSON
    head: str
    body: bytes
    said: str

    @property
    def status(self) -> int:
        """Of the last response."""
        found: int = self.facts[-1]["http_code"]
        return found

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def curl(folder: Path, *options: str | Path) -> Answer:
    """Run curl; the files it writes are overwritten by the next one in the same folder."""
    body, head = folder / "curl.body", folder / "curl.head"
    for file in (body, head):
        file.unlink(missing_ok=True)
    done = run(
        tool("curl"),
        *("-q", "-sS", "--max-time", "60", "-o", body, "-D", head, "-w", "%{json}\n"),
        *options,
        folder=folder,
        timeout=90,
    )
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    read = [file.read_bytes() if file.exists() else b"" for file in (head, body)]
    return Answer(done.returncode, facts, read[0].decode("latin-1"), read[1], done.stderr)


class Proxy:
    """
    One C{twistd -n sslintercept}.

    @ivar ports: the addresses its banner names, in its order.
    @ivar expected: the words of L{PROBLEMS} that a test expects in the output.
    """

    def __init__(self, folder: Path, ini: str, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.ini = folder / "proxy.ini"
        self.ini.write_text(ini)
        self.output = folder / "output.txt"
        self.expected: list[str] = []
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [ours("twistd"), "-n", "--pidfile=", "sslintercept", "--config", str(self.ini)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**ENVIRONMENT, **(environment or {})},
            )
        self.pid = self.process.pid
        self.killed = False
        try:
            wait_for("a banner", lambda: AUTHORITY in self.said() or self.process.poll() is not None)
            if self.process.poll() is not None:
                pytest.fail(f"the proxy ended with {self.process.returncode}:\n{self.said()}", pytrace=False)
            self.banner = self.said().splitlines()
            prefix = "sslintercept listens on "
            self.ports = [line.removeprefix(prefix) for line in self.banner if line.startswith(prefix)]
        except BaseException:
            self.kill()
            raise

    # what it is

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens first."""
        host, _, port = self.ports[0].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def ca(self) -> Path:
        return self.folder / "state" / "ca.pem"

    def said(self) -> str:
        """Everything on its screen."""
        return self.output.read_text(errors="replace")

    def log(self) -> list[dict[str, Any]]:  # Any: JSON
        """The lines of its access log, as far as they are written."""
        path = self.folder / "access.log"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def logged(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line of the access log that matches; lines are written a little later than they happen."""
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            found[:] = [line for line in self.log() if matches(line)]
            return bool(found)

        wait_for("such a line in the access log", arrived, 10)
        return found[0]

    def descriptors(self) -> int:
        return descriptors(self.pid)

    def is_back_at(self, base: int) -> None:
        """Wait until it has no more files open than it had."""
        wait_for(f"the proxy being back at {base} open files", lambda: self.descriptors() <= base, 15)

    # clients

    def curl(self, url: str, *options: str | Path, by: str | None = None) -> Answer:
        """Fetch a URL with curl that trusts our CA, by the proxy unless C{by} gives another way to it."""
        return curl(self.folder, "--proxy", by or f"http://{self.ports[0]}", "--cacert", self.ca, *options, url)

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(self.address, timeout=PATIENCE)

    def tunnel(self, authority: str) -> socket.socket:
        """A connection on which CONNECT was answered with 200."""
        sock = self.connect()
        try:
            sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = sock.recv(1)
                assert piece, f"the proxy closed after {head!r}"
                head += piece
            assert head.startswith(b"HTTP/1.1 200 "), head
        except BaseException:
            sock.close()
            raise
        return sock

    def secure(self, authority: str, name: str) -> ssl.SSLSocket:
        """A TLS connection through it that has verified our leaf."""
        return self.context().wrap_socket(self.tunnel(authority), server_hostname=name)

    def context(self) -> ssl.SSLContext:
        """Of a client that trusts our CA and no other."""
        return ssl.create_default_context(cafile=str(self.ca))

    # its end

    def reload(self, ini: str) -> None:
        """Give it another file, and SIGHUP."""
        self.ini.write_text(ini)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """SIGTERM, unless it was killed; it has to end well, and to have said nothing that should worry anybody."""
        if self.killed:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail("SIGTERM did not end the proxy")
        said = self.said()
        found = [word for word in PROBLEMS if word in said and word not in self.expected]
        assert not found, f"{found} in the proxy's output:\n{said}"
        assert code == 0, f"the proxy ended with {code}:\n{said}"

    def kill(self) -> None:
        """End it at once, without a judgement."""
        self.killed = True
        self.process.kill()
        self.process.wait()
