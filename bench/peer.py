"""
What an adapter is, and the little all of them share: throw-away CAs, start, stop, CPU and memory of a process tree.

An adapter module in C{adapters/} defines C{PEERS}, a list of L{Peer}.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TMP = Path(os.environ.get("BENCH_TMP", Path(tempfile.gettempdir()) / "sslintercept-bench"))
ORIGIN = 18080
"""The origin's HTTP port; HTTPS is one above, HTTPS with a certificate nobody may accept two above."""


@dataclass(frozen=True)
class Cache:
    """
    What a proxy may keep answers in.

    @ivar memory: bytes of RAM.
    @ivar disk: without it memory is enough for all, so a proxy that can do without a disk does.
    @ivar decrypted: also what came out of TLS.
    @ivar size: bytes on disk.
    """

    memory: int
    disk: bool
    decrypted: bool
    size: int = 2 << 30


class Peer:
    """
    A proxy that can be measured.

    @cvar caps: of C{plain} (absolute-form HTTP through the proxy port), C{bump} (CONNECT and TLS interception),
        C{tunnel} (CONNECT as a blind tunnel; kind C{tunnel} starts it so), C{tls} (as bump, but the proxy port itself
        speaks TLS), C{cache} and C{bump-cache} (as plain and bump, and it caches).
    @cvar program: the command that must be installed, a name or a path.
    @cvar direct: no CONNECT: clients speak to its port as if it were the origin (plain HTTP is then on port + 1).
    @cvar ca_type: which CA it forges with, C{ec} (P-256) or C{rsa} (2048).
    @cvar skip: cases that make no sense for it.
    @cvar start_timeout: seconds until its port must accept.
    @cvar port: set where it is no process of ours but this port of the origin.
    """

    name, program = "?", "?"
    caps: frozenset[str] | set[str] = frozenset()
    direct = False
    ca_type = "ec"
    skip: frozenset[str] | set[str] = frozenset()
    start_timeout = 15.0
    port: int | None = None

    def __init__(self, name: str, **settings: object) -> None:
        self.name = name
        self.__dict__.update(settings)

    def argv(self, ctx: types.SimpleNamespace, kind: str) -> list[object]:
        """
        The foreground start command; *kind* is bump, tunnel or tls. May write files below C{ctx.dir} and set
        C{ctx.env}, C{ctx.ca} (what clients must trust) and C{ctx.proxy_ca} (the CA of its TLS listener).

        C{ctx.cache}, unless None, asks for a L{Cache}, with its files below the folder C{ctx.store}, which is there.
        C{ctx} also has: port, origin and https (ports of the origin), trust (CA of the origin), ca, cakey and capem
        (the CA to forge with), proxy_cert and proxy_key.
        """
        raise NotImplementedError

    def installed(self) -> bool:
        return shutil.which(self.program) is not None


def sh(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def make_cas() -> Path:
    """Throw-away CAs: origin (upstream), ec and rsa (forging), and the proxy's own leaf."""
    folder = TMP / "ca"
    if (folder / "proxy.pem").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("origin", "ec", "rsa"):
        key, pem = folder / f"{name}.key", folder / f"{name}.pem"
        if name == "rsa":
            sh("openssl", "genrsa", "-out", key, "2048")
        else:
            sh("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        sh(
            *("openssl", "req", "-x509", "-new", "-key", key, "-sha256", "-days", "90", "-out", pem),
            *("-subj", f"/O=bench/CN=bench {name} CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
        )
        (folder / f"{name}.both.pem").write_text(key.read_text() + pem.read_text())
    leaf(folder / "proxy", "proxy.bench.test", folder / "origin.pem", folder / "origin.key")
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def leaf(stem: Path, name: str, ca: Path, cakey: Path) -> None:
    """Write *stem*.key and *stem*.pem: a P-256 leaf for *name*."""
    key, csr, ext = (stem.with_suffix(suffix) for suffix in (".key", ".csr", ".ext"))
    ext.write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n")
    sh("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    sh("openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", csr)
    sh(
        *("openssl", "x509", "-req", "-in", csr, "-CA", ca, "-CAkey", cakey, "-CAserial", stem.with_suffix(".srl")),
        *("-CAcreateserial", "-days", "60", "-extfile", ext, "-out", stem.with_suffix(".pem")),
    )


def context(peer: Peer, port: int, https: int, cache: Cache | None) -> types.SimpleNamespace:
    folder, ca = TMP / "run" / peer.name, make_cas()
    shutil.rmtree(folder, ignore_errors=True)
    for each in (folder, folder / "store"):
        each.mkdir(parents=True)
        each.chmod(0o777)
    kind = peer.ca_type
    return types.SimpleNamespace(
        dir=folder,
        store=folder / "store",
        cache=cache,
        port=port,
        origin=ORIGIN,
        https=https,
        trust=ca / "origin.pem",
        ca=ca / f"{kind}.pem",
        cakey=ca / f"{kind}.key",
        capem=ca / f"{kind}.both.pem",
        proxy_cert=ca / "proxy.pem",
        proxy_key=ca / "proxy.key",
        proxy_ca=ca / "origin.pem",
        env=dict(os.environ),
    )


def start(
    peer: Peer, kind: str, port: int, https: int = ORIGIN + 1, cache: Cache | None = None
) -> tuple[subprocess.Popen[bytes], types.SimpleNamespace]:
    """Start *peer* and wait until its port accepts."""
    ctx = context(peer, port, https, cache)
    argv = [str(word) for word in peer.argv(ctx, kind)]
    with open(ctx.dir / "log", "wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ctx.env, cwd=ctx.dir, start_new_session=True
        )
    end = time.time() + peer.start_timeout
    while time.time() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", peer.port or port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.3)
            return process, ctx
    stop(process)
    raise RuntimeError(f"{peer.name} {kind} did not start: {(ctx.dir / 'log').read_text(errors='replace')[-600:]}")


@contextlib.contextmanager
def child(work: Callable[[], None]) -> Iterator[int]:
    """A process that does *work* until it is not needed any more."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def status(pid: int | str) -> list[str] | None:
    """The fields of C{/proc/PID/stat} after the name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def tree(pid: int) -> dict[int, list[str]]:
    """*pid* and its descendants, with their L{status}."""
    seen, children = {}, {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := status(name)):
            seen[int(name)] = fields
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = {}, [pid]
    while todo:
        each = todo.pop()
        if each in seen and each not in found:
            found[each] = seen[each]
            todo += children.get(each, [])
    return found


def cpu(pid: int) -> float:
    """Seconds used by the tree, dead and reaped children included."""
    return sum(int(ticks) for fields in tree(pid).values() for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Resident bytes of the tree."""
    return sum(int(fields[21]) for fields in tree(pid).values()) * os.sysconf("SC_PAGE_SIZE")


def stop(process: subprocess.Popen[bytes], wait: float = 8) -> None:
    """End only what we started: the tree below our own child, by pid."""
    pids = list(tree(process.pid))
    for signum, seconds in ((signal.SIGTERM, wait), (signal.SIGKILL, 3)):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signum)
        end = time.time() + seconds
        while time.time() < end:
            process.poll()
            if all((fields := status(pid)) is None or fields[0] == "Z" for pid in pids):
                process.wait()
                return
            time.sleep(0.05)
