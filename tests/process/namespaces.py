"""
A client, a gateway and an origin on machines of their own: network namespaces, joined by cables in memory.

The threads of a test move between them (L{Namespace.entered}): programs and sockets belong to the namespace in which
they were started or made, so everything else of this folder works there unchanged.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.process.tools import run, tool

CLIENT_4: Final = "192.0.2.2"
CLIENT_6: Final = "2001:db8:1::2"
GATEWAY_4: Final = "192.0.2.1"
GATEWAY_6: Final = "2001:db8:1::1"
"""of the gateway, on the client's side"""
ORIGIN_4: Final = "198.51.100.7"
ORIGIN_6: Final = "2001:db8:2::7"
CLIENT_CABLE: Final = "clients"
"""the gateway's interface on the client's side"""
TRIAL: Final = """
table inet trial {
    chain nat {
        type nat hook prerouting priority dstnat
        fib daddr type != local tcp dport 1 redirect to :2
    }
    chain filter {
        type filter hook prerouting priority mangle
        tcp dport 1 tproxy to :2 meta mark set 1 accept
    }
}
"""
"""rules of every kind that the tests use"""
CLONE_NEWNET: Final = 0x40000000

_serial = itertools.count()


class Namespace:
    """One machine of the net."""

    def __init__(self, name: str) -> None:
        self.name = name
        _run("ip", "netns", "add", name)
        self.ip("link set dev lo up")

    def remove(self) -> None:
        """Programs in it must have ended; its cables go with it."""
        subprocess.run([tool("ip"), "netns", "del", self.name], capture_output=True)

    def ip(self, *commands: str) -> None:
        """Run commands of iproute2."""
        for command in commands:
            _run("ip", "-n", self.name, *command.split())

    def nft(self, rules: str) -> None:
        """Replace all rules of netfilter."""
        _run("ip", "netns", "exec", self.name, tool("nft"), "-f", "-", given=f"flush ruleset\n{rules}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is here for a while; a socket it makes and a program it starts stay here."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)


class Net:
    """
    Three machines in a row; C{gateway} stands between the others and forwards nothing by itself.

    The origin knows no way back to the client: whatever reaches it was sent by the gateway.
    """

    def __init__(self, client: Namespace, gateway: Namespace, origin: Namespace) -> None:
        self.client, self.gateway, self.origin = client, gateway, origin
        _cable(client, "cable", gateway, CLIENT_CABLE)
        _cable(origin, "cable", gateway, "origins")
        client.ip(
            f"addr add {CLIENT_4}/24 dev cable",
            f"addr add {CLIENT_6}/64 dev cable nodad",
            f"route add default via {GATEWAY_4}",
            f"-6 route add default via {GATEWAY_6}",
        )
        gateway.ip(
            f"addr add {GATEWAY_4}/24 dev {CLIENT_CABLE}",
            f"addr add {GATEWAY_6}/64 dev {CLIENT_CABLE} nodad",
            "addr add 198.51.100.1/24 dev origins",
            "addr add 2001:db8:2::1/64 dev origins nodad",
        )
        origin.ip(f"addr add {ORIGIN_4}/24 dev cable", f"addr add {ORIGIN_6}/64 dev cable nodad")


def _cable(one: Namespace, its: str, other: Namespace, others: str) -> None:
    _run("ip", "link", "add", its, "netns", one.name, "type", "veth", "peer", "name", others, "netns", other.name)
    one.ip(f"link set dev {its} up")
    other.ip(f"link set dev {others} up")


@contextmanager
def net() -> Iterator[Net]:
    """A net for a while; the test is skipped where this machine allows none."""
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    if shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        pytest.skip("nft is missing; install nftables")
    number = next(_serial)
    with ExitStack() as stack:
        made = []
        for role in ("client", "gateway", "origin"):
            try:
                made.append(Namespace(f"sslintercept-{os.getpid()}-{number}-{role}"))
            except Refused as error:
                pytest.skip(f"the kernel allows no network namespaces ({error})")
            stack.callback(made[-1].remove)
        try:
            # What this machine allows is tried apart, so that a mistake in what follows skips nothing.
            made[0].ip("link add dev one type veth peer name other", "link del dev one")
            made[0].nft(TRIAL)
        except Refused as error:
            pytest.skip(f"the kernel allows no cables or no rules ({error})")
        made[0].nft("")
        yield Net(*made)


class Refused(Exception):
    """A command failed."""


def _run(name: str, *arguments: str, given: str = "") -> None:
    done = run(tool(name), *arguments, folder=Path("/"), given=given.encode())
    if done.returncode != 0:
        raise Refused(f"{name} {' '.join(arguments)}: {done.stderr.strip()}")


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
