"""
What a transform costs: CPU of the gateway's process with a null transform, with one that is not selected, and without.

    .venv/bin/python bench/transform.py [MIB]

Three gateways run side by side, and take turns: each brings a body of MIB MiB (1024, if nothing else is said) and some
thousand small ones, in the clear, so that no cipher hides what a stage costs. The best of the rounds counts.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from pathlib import Path

from ours import Gateway, gateway
from peer import child, cpu

ROUNDS = 4
REQUESTS = 10_000
"""small ones of a round"""
BLOCK = bytes(256 * 1024)
SMALL = 1024
KINDS = {
    "without": "",
    "not selected": "[transform:null]\nuse = null\nmatch = host:another.test type:text/html\n",
    "null": "[transform:null]\nuse = null\nmatch = direction:response\n",
}


def serve(listening: socket.socket) -> None:
    """Answer C{GET /N} with N bytes, one connection after the other."""
    while True:
        sock, _ = listening.accept()
        if os.fork():
            sock.close()
            continue
        with sock:
            got = b""
            while data := sock.recv(65536):
                got += data
                while (end := got.find(b"\r\n\r\n")) >= 0:
                    size, got = int(got.split(b" ", 2)[1].rpartition(b"/")[2]), got[end + 4 :]
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x\r\nContent-Length: %d\r\n\r\n" % size
                    if size <= SMALL:
                        sock.sendall(head + BLOCK[:size])
                        continue
                    sock.sendall(head)
                    for _ in range(size // len(BLOCK)):
                        sock.sendall(BLOCK)
        os._exit(0)


def load(port: int, origin: int, size: int, count: int) -> None:
    """Fetch *count* bodies of *size* bytes on one connection."""
    request = b"GET http://127.0.0.1:%d/%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (origin, size, origin)
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as sock:
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
                    if not got.startswith(b"HTTP/1.1 200 "):
                        raise SystemExit(got[:200].decode("latin-1"))
                    left, taken = size, len(got) - end - 4
                left -= taken


def spent(gateway: Gateway, origin: int, size: int, count: int) -> float:
    """Seconds of the gateway's CPU for it."""
    before = cpu(gateway.pid)
    load(gateway.port, origin, size, count)
    return cpu(gateway.pid) - before


def main(mib: int) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    origin = listening.getsockname()[1]
    best: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(child(lambda: serve(listening)))
        running = {
            kind: stack.enter_context(gateway(Path(folder) / str(number), more))
            for number, (kind, more) in enumerate(KINDS.items())
        }
        for each in running.values():
            load(each.port, origin, SMALL, 1000)
        for _ in range(ROUNDS):
            for kind, each in running.items():
                for what, size, count in (("body", mib << 20, 1), ("request", SMALL, REQUESTS)):
                    cost = spent(each, origin, size, count)
                    best[what, kind] = min(cost, best.get((what, kind), cost))
    print(f"{'':14} {'s a GiB':>10} {'ratio':>6} {'us a request':>14} {'ratio':>6}")
    for kind in KINDS:
        body, request = best["body", kind], best["request", kind]
        print(
            f"{kind:14} {body * 1024 / mib:10.2f} {body / best['body', 'without']:6.2f} "
            f"{request / REQUESTS * 1e6:14.1f} {request / best['request', 'without']:6.2f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
