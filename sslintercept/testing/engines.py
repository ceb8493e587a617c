"""
Scanning engines as they are installed, each a child with a folder of its own: clamd with one signature, and c-icap.

Nothing is downloaded and no service of the machine is touched; the signature is that of the test file which every
engine calls malware.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sslintercept.testing.loop import PATIENCE

GRACE = 0.5
"""seconds for one to end"""
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""the test file; in two parts, lest this one is called malware"""
FOUND = "Eicar-Test.UNOFFICIAL"
"""what clamd calls it"""
USER, GROUP = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
MODULES = Path("/usr/lib/x86_64-linux-gnu/c_icap")


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """
    A server as a child that is ready when the block begins, and gone when it ends.

    @raise AssertionError: it did not start; its output says why.
    """
    program = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program is not None, f"{command[0]} is not installed: scripts/install-system-packages"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        end = time.monotonic() + PATIENCE
        while not ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # c-icap waits for connections that are kept
        process.wait()


def answers(port: int) -> bool:
    """Whether somebody listens on a port of this host."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def clamd(folder: Path, port: int, most: str = "1M") -> Iterator[Path]:
    """
    A clamd on C{port} and on the unix socket that is given.

    @param most: its StreamMaxLength.
    """
    base, sock, config = folder / "base", folder / "clamd.sock", folder / "clamd.conf"
    base.mkdir()
    (base / "own.ndb").write_text(f"Eicar-Test:0:0:{EICAR.hex()}\n")
    config.write_text(
        f"Foreground yes\nPidFile {folder}/clamd.pid\nLocalSocket {sock}\nTCPSocket {port}\nTCPAddr 127.0.0.1\n"
        f"DatabaseDirectory {base}\nTemporaryDirectory {folder}\nUser {USER}\nMaxThreads 4\nStreamMaxLength {most}\n"
    )
    with running(["clamd", "-c", str(config)], folder / "clamd.log", lambda: answers(port)):
        yield sock


@contextmanager
def c_icap(folder: Path, port: int, clamd_socket: Path) -> Iterator[None]:
    """A c-icap on C{port}, with its echo, C{ex206}, and C{scan}, which asks a clamd."""
    config = folder / "c-icap.conf"
    config.write_text(
        f"PidFile {folder}/pid\nCommandsSocket {folder}/control\nPort 127.0.0.1:{port}\nUser {USER}\nGroup {GROUP}\n"
        f"StartServers 1\nMaxServers 1\nMinSpareThreads 2\nMaxSpareThreads 20\nThreadsPerChild 20\n"
        f"MaxKeepAliveRequests -1\nKeepAliveTimeout 60\nTimeout 30\nTmpDir {folder}\n"
        f"MaxMemObject 131072\nDebugLevel 1\nModulesDir {MODULES}\nServicesDir {MODULES}\n"
        f"TemplateDir /usr/share/c_icap/templates/\nTemplateDefaultLanguage en\n"
        f"LoadMagicFile /etc/c-icap/c-icap.magic\n"
        f"ServerLog {folder}/server.log\nAccessLog {folder}/access.log\n"
        f"Service echo srv_echo.so\nService ex206 srv_ex206.so\nService scan virus_scan.so\n"
        f"Module common clamd_mod.so\nclamd_mod.ClamdSocket {clamd_socket}\nvirus_scan.DefaultEngine clamd\n"
        f"virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE\n"
        f"virus_scan.SendPercentData 5\nvirus_scan.StartSendPercentDataAfter 2M\n"
    )
    with running(["c-icap", "-N", "-f", str(config)], folder / "c-icap.log", lambda: answers(port)):
        yield
