"""Clients and the sockets of one port: each client has its own, on this machine's real kernel."""

from __future__ import annotations

import ipaddress
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sslintercept.net import spread
from sslintercept.net.spread import by_client, program

WORKERS = 4
CLIENTS = [f"127.0.0.{number}" for number in range(1, 60)]


@contextmanager
def port(host: str, dual: bool = False) -> Iterator[list[socket.socket]]:
    """Several sockets that listen on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        socks: list[socket.socket] = []
        for _ in range(WORKERS):
            sock = stack.enter_context(socket.socket(family))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
            sock.bind((host, socks[0].getsockname()[1] if socks else 0))
            sock.listen(128)
            assert by_client(sock, WORKERS)
            socks.append(sock)
        yield socks


def taken(socks: list[socket.socket], client: str, times: int = 6) -> set[int]:
    """The numbers of the sockets that take a client's connections."""
    found = set()
    for _ in range(times):
        family = socket.AF_INET6 if ":" in client else socket.AF_INET
        with socket.socket(family) as sock:
            sock.bind((client, 0))
            sock.connect(("::1" if ":" in client else "127.0.0.1", socks[0].getsockname()[1]))
            ready, _, _ = select.select(socks, [], [], 5)
            (one,) = ready
            one.accept()[0].close()
            found.add(socks.index(one))
    return found


@pytest.mark.parametrize(
    ("host", "dual", "clients"),
    [("127.0.0.1", False, CLIENTS), ("::1", False, ["::1"]), ("::", True, [*CLIENTS[:9], "::1"])],
)
def test_a_client_always_has_the_same_socket(host: str, dual: bool, clients: list[str]) -> None:
    with port(host, dual) as socks:
        found = [taken(socks, client) for client in clients]
    assert all(len(one) == 1 for one in found)


def test_clients_that_are_neighbours_are_spread_evenly() -> None:
    with port("127.0.0.1") as socks:
        counts = [0] * WORKERS
        for client in CLIENTS:
            counts[taken(socks, client, 1).pop()] += 1
    assert min(counts) >= len(CLIENTS) // WORKERS // 2


def test_when_a_socket_is_missing_its_clients_are_taken_by_the_others() -> None:
    with port("127.0.0.1") as socks:
        before = {client: taken(socks, client, 1).pop() for client in CLIENTS[:20]}
        last = socks.pop()
        last.close()
        after = {client: taken(socks, client, 3) for client in before}
    kept = [client for client, number in before.items() if number < WORKERS - 1]
    assert kept
    assert all(after[client] == {before[client]} for client in kept)


def run(client: str, sockets: int) -> int:
    """What the program answers, computed here: the address is one number, folded, multiplied, cut."""
    packed = ipaddress.ip_address(client).packed
    word = 0
    for at in range(0, len(packed), 4):
        word ^= int.from_bytes(packed[at : at + 4], "big")
    return ((word * 0x9E3779B1 & 0xFFFFFFFF) >> 16) % sockets


def test_the_kernel_computes_what_the_program_says() -> None:
    with port("127.0.0.1") as socks:
        assert [taken(socks, client, 1).pop() for client in CLIENTS] == [run(client, WORKERS) for client in CLIENTS]
    with port("::1") as socks:
        assert taken(socks, "::1", 1) == {run("::1", WORKERS)}


def test_every_jump_of_the_program_stays_in_it() -> None:
    lines = program(7)
    assert lines[-1][0] == 0x16
    for at, (operation, yes, no, operand) in enumerate(lines):
        if operation in (0x05, 0x15):
            assert at + 1 + max(yes, no, operand if operation == 0x05 else 0) < len(lines)


def test_a_kernel_that_does_not_know_it_spreads_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "SO_ATTACH_REUSEPORT_CBPF", 9999)
    with socket.socket() as sock:
        assert not by_client(sock, 4)
