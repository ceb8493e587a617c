"""
What a relayed datagram costs: CPU of the gateway's process, beside the least that any relay in Python can spend.

    .venv/bin/python bench/udp.py [DATAGRAMS]

Eight clients keep eight datagrams of 512 bytes each under way through a door with a fixed target; behind it somebody
says everything back. Every datagram passes the gateway twice, there and back, and counts as two. The other relay is a
loop of C{recvfrom} and C{sendto} that does nothing else, in a process of its own.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from peer import child, cpu

CLIENTS, DEPTH, SIZE = 8, 8, 512
ROUNDS = 3
PATIENCE = 20.0


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def echo(sock: socket.socket) -> None:
    while True:
        data, source = sock.recvfrom(4096)
        sock.sendto(data, source)


def plain(front: socket.socket, target: tuple[str, int]) -> None:
    """Relay without a thought: a socket for each client, epoll, nothing else."""
    poll = select.epoll()
    poll.register(front.fileno(), select.EPOLLIN)
    ways: dict[tuple[str, int], socket.socket] = {}
    back: dict[int, tuple[socket.socket, tuple[str, int]]] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == front.fileno():
                data, source = front.recvfrom(4096)
                way = ways.get(source)
                if way is None:
                    way = ways[source] = bound()
                    way.connect(target)
                    poll.register(way.fileno(), select.EPOLLIN)
                    back[way.fileno()] = way, source
                way.send(data)
            else:
                way, source = back[fd]
                front.sendto(way.recv(4096), source)


def load(count: int, port: int) -> None:
    """Send *count* datagrams and wait for each to come back; one that is lost is said again."""
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CLIENTS)]
    for sock in clients:
        sock.connect(("127.0.0.1", port))
    data, left, answered = b"\xfe" * SIZE, count, 0
    for sock in clients:
        for _ in range(DEPTH):
            sock.send(data)
            left -= 1
    end = time.monotonic() + PATIENCE
    while answered < count:
        ready, _, _ = select.select(clients, [], [], 1.0)
        if time.monotonic() > end + count / 1000:
            raise SystemExit(f"only {answered} of {count} datagrams came back")
        if not ready:
            clients[0].send(data)  # as many were lost as fit into nobody's buffer
        for sock in ready:
            with contextlib.suppress(ConnectionRefusedError):
                sock.recv(4096)
                answered += 1
                if left > 0:
                    left -= 1
                    sock.send(data)
    for sock in clients:
        sock.close()


@contextlib.contextmanager
def gateway(target: tuple[str, int], port: int) -> Iterator[int]:
    """Our own, as a user would start it."""
    with tempfile.TemporaryDirectory() as folder:
        ini = Path(folder) / "bench.ini"
        ini.write_text(
            f"[sslintercept]\nstate_dir = state\n[ca]\ncertificate = ca.pem\nkey = ca.key\n[log]\naccess = access.log\n"
            f"[listen:udp]\nendpoint = udp:{port}:interface=127.0.0.1\ntarget = {target[0]}:{target[1]}\n"
        )
        twistd = Path(sys.executable).parent / "twistd"
        command = [twistd, "-n", "--pidfile=", "sslintercept", "--config", ini]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            assert process.stdout is not None
            while b"listens" not in (line := process.stdout.readline()):
                if not line:
                    raise SystemExit("the gateway did not start")
            yield process.pid
        finally:
            process.kill()
            process.wait()


def main(count: int) -> None:
    """Measure both, and print a table."""
    origin, front, free = bound(), bound(), bound()
    port = free.getsockname()[1]
    free.close()
    target = origin.getsockname()
    with child(lambda: echo(origin)), child(lambda: plain(front, target)) as bare, gateway(target, port) as ours:
        ways = [("sslintercept", ours, port), ("bare loop", bare, front.getsockname()[1])]
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, pid, at in ways:
                before = cpu(pid)
                load(count, at)
                spent = (cpu(pid) - before) / (2 * count) * 1e6
                best[name] = min(best.get(name, spent), spent)
    print(f"{'':14}{'µs CPU a datagram':>20}")
    for name, spent in best.items():
        print(f"{name:14}{spent:20.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
