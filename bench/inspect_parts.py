"""
What inspection costs: CPU of the gateway's process for bodies of 16 KiB on a kept, intercepted connection.

    .venv/bin/python bench/inspect_parts.py [REQUESTS]

Gateways with other inspectors run side by side and take turns; each brings uploads and downloads of 16 KiB of prose
over TLS on both sides, and large bodies. Shared processors change their speed within seconds: of many short rounds the
best is given, and the median of the ratios to a gateway without inspectors that had its turn right before.
The list has a million domains, of which none is asked for; C{dlp} looks for twenty detectors.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import sys
import tempfile
from pathlib import Path
from statistics import median

from ours import Gateway, gateway
from peer import child
from sites import made

from sslintercept.testing.pki import make_ca, make_leaf

ROUNDS = 24
SIZE = 16 * 1024
LARGE = 16 * 1024 * 1024
DOMAINS = 1_000_000
HOST = "origin.bench.test"
TWENTY = (
    "card, iban, de-tax-id, fr-nir, es-dni, it-codice-fiscale, nl-bsn, uk-nino, us-ssn, private-key, aws-key-id, "
    "aws-secret, github-token, gitlab-token, slack-token, stripe-key, google-key, jwt, url-password, password"
)
LIST = "[sites:million]\npath = million.txt\n[rule:million]\nmatch = category:million\naction = block\n"
INSPECT_LIST = "[inspect:list]\nuse = list\ncategories = million\n"
DLP = f"[inspect:leaks]\nuse = dlp\ndetectors = {TWENTY}\n"
KINDS = {
    "without": "",
    "not matched": f"{DLP}match = host:another.test\n",
    "list, by rule": LIST,
    "list, inspected": LIST + INSPECT_LIST,
    "dlp": DLP,
    "list and dlp": LIST + DLP,
    "both, inspected": LIST + INSPECT_LIST + DLP,
}


def spent(pid: int) -> float:
    """Seconds of CPU of all threads (schedstat of proc(5): nanoseconds, where ticks are of ten milliseconds)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def prose(size: int) -> bytes:
    """Words and some numbers, always the same."""
    chance = random.Random(7)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randrange(2, 9))) for _ in range(500)]
    text = " ".join(
        chance.choice(words) if chance.random() < 0.97 else str(chance.randrange(10000)) for _ in range(size)
    )
    return text.encode()[:size]


def answer(sock: ssl.SSLSocket, content: dict[int, bytes]) -> None:
    """Answer C{GET /N} with N bytes, and C{POST} with none, on one connection."""
    got = b""
    while data := sock.recv(262_144):
        got += data
        while (end := got.find(b"\r\n\r\n")) >= 0:
            head, rest = got[:end], got[end + 4 :]
            if head.startswith(b"POST"):
                left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) - len(rest)
                while left > 0:
                    data = sock.recv(262_144)
                    left -= len(data)
                got = b""
                sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                continue
            got = rest
            body = content[int(head.split(b" ", 2)[1].rpartition(b"/")[2])]
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )


def serve(listening: socket.socket, chain: str) -> None:
    """One process for each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    content = {SIZE: prose(SIZE), LARGE: prose(SIZE) * (LARGE // SIZE)}
    while True:
        plain, _ = listening.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if os.fork():
            plain.close()
            continue
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as sock:
            answer(sock, content)
        os._exit(0)


@contextlib.contextmanager
def connected(running: Gateway, port: int):  # type: ignore[no-untyped-def]  # a context manager of a socket
    """A connection to the origin through a gateway that intercepts it."""
    context = ssl.create_default_context(cafile=str(running.folder / "ca.pem"))
    with socket.create_connection(("127.0.0.1", running.port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.sendall(b"CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n" % (HOST.encode(), port))
        plain.recv(4096)
        with context.wrap_socket(plain, server_hostname=HOST) as sock:
            yield sock


def exchange(sock: ssl.SSLSocket, request: bytes, size: int, count: int) -> None:
    """Send a request and read its answer, so many times."""
    buffer = bytearray(1 << 18)
    for _ in range(count):
        sock.sendall(request)
        got, left = b"", -1
        while left:
            taken = sock.recv_into(buffer)
            if not taken:
                raise SystemExit("the gateway closed the connection")
            if left < 0:
                got += buffer[:taken]
                end = got.find(b"\r\n\r\n")
                if end < 0:
                    continue
                if got[9:12] not in (b"200", b"204"):
                    raise SystemExit(got[:200].decode("latin-1"))
                left, taken = size, len(got) - end - 4
            left -= taken


def main(requests: int) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    ca = make_ca("bench")
    host = b"%b:%d" % (HOST.encode(), port)
    upload = b"POST /up HTTP/1.1\r\nHost: %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (host, SIZE)
    share = max(requests // ROUNDS, 1)
    loads = {
        "upload 16 KiB": (upload + prose(SIZE), 0, share),
        "download 16 KiB": (b"GET /%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (SIZE, host), SIZE, share),
        "download 16 MiB": (b"GET /%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (LARGE, host), LARGE, 1),
    }
    costs: dict[tuple[str, str], list[float]] = {}
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        chain = folder / "origin.pem"
        pair = make_leaf(ca, [HOST])
        chain.write_bytes(pair.pem + pair.key_pem)
        (folder / "trust.pem").write_bytes(ca.pem)
        (folder / "hosts").write_text(f"127.0.0.1 {HOST}\n")
        (folder / "million.txt").write_text("\n".join(made(DOMAINS)))
        stack.enter_context(child(lambda: serve(listening, str(chain))))
        common = "[upstream-tls]\nextra_trust = ../trust.pem\n[dns]\nhosts = ../hosts\n"
        running = {
            kind: stack.enter_context(gateway(folder / str(at), common + more.replace("million.txt", "../million.txt")))
            for at, (kind, more) in enumerate(KINDS.items())
        }
        for each in running.values():
            with connected(each, port) as sock:
                exchange(sock, *loads["upload 16 KiB"][:2], 500)
                exchange(sock, *loads["download 16 KiB"][:2], 500)

        def turn(kind: str, what: str) -> float:
            """Seconds of CPU for one exchange."""
            request, size, count = loads[what]
            with connected(running[kind], port) as sock:
                before = spent(running[kind].pid)
                exchange(sock, request, size, count)
                cost = (spent(running[kind].pid) - before) / count
            costs.setdefault((what, kind), []).append(cost)
            return cost

        for _ in range(ROUNDS):
            for what in loads:
                for kind in [kind for kind in running if kind != "without"]:
                    without = turn("without", what)
                    times.setdefault((what, kind), []).append(turn(kind, what) / without)
    print(f"{'us of CPU for one':18}" + "".join(f"{what:>26}" for what in loads))
    for kind in KINDS:
        cells = [
            f"{min(costs[what, kind]) * 1e6:16.0f} {median(times.get((what, kind), [1.0])):6.2f} x" for what in loads
        ]
        print(f"{kind:18}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
