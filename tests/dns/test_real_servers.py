"""Look-ups against dnsmasq, unbound and BIND as they are installed, started here on free ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sslintercept.dns.message import NXDOMAIN, A
from sslintercept.dns.processor import DnsProcessor
from sslintercept.dns.server import NameServers, Rules, ServerGroup
from sslintercept.facts import Address
from sslintercept.testing.loop import Loop

from .support import bound, outcome

PATIENCE = 20.0
"""seconds for a server to start, or a look-up to end"""
BIG = [f"198.51.100.{i}" for i in range(1, 100)]
"""addresses that fit into no datagram of 1232 bytes; BIND takes 100 of a name at most"""


class RealLoop(Loop):
    """A loop whose clock goes with the world's."""

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        last = time.monotonic()
        while not done():
            assert last < end, "it did not happen in time"
            self.handler.soon(lambda: None)
            self.turn()
            now = time.monotonic()
            self.advance(now - last)
            last = now
            os.sched_yield()

    def found(self, asked: Deferred[Any]) -> Any:
        self.until(lambda: asked.called)
        return outcome(asked)


def dnsmasq(folder: Path, port: int) -> list[str]:
    (folder / "hosts").write_text("192.0.2.1 www.real.test\n" + "".join(f"{one} big.real.test\n" for one in BIG))
    return [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"),
        *(f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", f"--pid-file={folder / 'pid'}"),
        *(f"--addn-hosts={folder / 'hosts'}", "--local=/real.test/", "--cname=alias.real.test,www.real.test"),
    ]


def unbound(folder: Path, port: int) -> list[str]:
    records = ["www.real.test. A 192.0.2.1", "alias.real.test. CNAME www.real.test."]
    records += [f"big.real.test. A {one}" for one in BIG]
    data = "".join(f'  local-data: "{record}"\n' for record in records)
    (folder / "conf").write_text(
        f"server:\n  interface: 127.0.0.1\n  port: {port}\n  do-daemonize: no\n  chroot: ''\n  username: ''\n"
        f"  pidfile: ''\n  use-syslog: no\n  directory: '{folder}'\n  module-config: 'iterator'\n  num-threads: 1\n"
        f"  do-not-query-localhost: no\n  local-zone: real.test static\n{data}"
        "  local-zone: broken.test transparent\n  outbound-msg-retry: 1\n"
        "remote-control:\n  control-enable: no\n"
        "stub-zone:\n  name: broken.test\n  stub-addr: 127.0.0.1@1\n"
    )
    return ["unbound", "-d", "-c", str(folder / "conf")]


def named(folder: Path, port: int) -> list[str]:
    records = "www A 192.0.2.1\nalias CNAME www\n" + "".join(f"big A {one}\n" for one in BIG)
    (folder / "zone").write_text(f"$TTL 60\n@ SOA ns root 1 60 60 60 30\n@ NS ns\nns A 127.0.0.1\n{records}")
    (folder / "conf").write_text(
        f'options {{ directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        " recursion no; dnssec-validation no; pid-file none; session-keyfile none; };\n"
        "controls { };\n"
        'zone "real.test" { type primary; file "zone"; };\n'
        'zone "broken.test" { type primary; file "missing"; };\n'
    )
    return ["named", "-g", "-c", str(folder / "conf"), "-n", "1"]


MAKERS = {"dnsmasq": dnsmasq, "unbound": unbound, "named": named}


class Real:
    """A server of somebody else's."""

    def __init__(self, kind: str, folder: Path) -> None:
        udp, tcp = bound()
        self.address = Address(*udp.getsockname())
        udp.close()
        tcp.close()
        folder.mkdir()
        command = MAKERS[kind](folder, self.address.port)
        where = shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/sbin")
        assert where is not None, f"{kind} is not installed"
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen([where, *command[1:]], stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def real_loop() -> Iterator[RealLoop]:
    made = RealLoop()
    yield made
    made.close()


Start = Callable[..., DnsProcessor]


@pytest.fixture
def servers() -> Iterator[list[Real]]:
    made: list[Real] = []
    yield made
    for one in made:
        one.stop()


@pytest.fixture
def start(real_loop: RealLoop, servers: list[Real], tmp_path: Path) -> Iterator[Start]:
    """Starts servers, waits until each answers, and makes a processor for them."""
    processors: list[DnsProcessor] = []

    def answers(server: Real) -> None:
        probe = processor([server], waits=(0.1,))
        end = time.monotonic() + PATIENCE
        while getattr(real_loop.found(probe.query("www.real.test", A, real_loop.seconds() + PATIENCE)), "rcode", 1):
            assert server.process.poll() is None, "it ended: " + str(server.process.args)
            assert time.monotonic() < end, "it does not answer: " + str(server.process.args)

    def processor(which: list[Real], **options: Any) -> DnsProcessor:
        rules = Rules(number=2, soon=0.2, every=0.2, now=0.4)
        group = ServerGroup([one.address for one in which], rules=rules)
        processors.append(DnsProcessor(real_loop.handler, real_loop, NameServers(group), **options))
        processors[-1].start()
        return processors[-1]

    def make(*kinds: str, **options: Any) -> DnsProcessor:
        for kind in kinds:
            servers.append(Real(kind, tmp_path / f"{kind}{len(servers)}"))
        for server in servers:
            answers(server)
        return processor(servers, **options)

    yield make
    for one in processors:
        one.stop()


def ask(loop: RealLoop, processor: DnsProcessor, name: str) -> Any:
    return loop.found(processor.query(name, A, loop.seconds() + PATIENCE))


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
def test_addresses_aliases_large_answers_and_nothing(real_loop: RealLoop, start: Start, kind: str, tcp: bool) -> None:
    processor = start(kind, tcp=tcp)
    assert ask(real_loop, processor, "www.real.test").addresses == ("192.0.2.1",)
    found = ask(real_loop, processor, "alias.real.test")
    assert (found.canonical, found.addresses) == ("www.real.test", ("192.0.2.1",))
    assert sorted(ask(real_loop, processor, "big.real.test").addresses) == sorted(BIG)
    assert processor.counters.truncated == (0 if tcp else 1)
    found = ask(real_loop, processor, "nothing.real.test")
    assert (found.rcode, found.negative) == (NXDOMAIN, True)
    assert not processor.counters.dropped


def test_a_zone_that_is_broken_is_a_failure_and_its_server_well(real_loop: RealLoop, start: Start) -> None:
    processor = start("named")
    assert "SERVFAIL" in str(ask(real_loop, processor, "www.broken.test"))
    assert ask(real_loop, processor, "www.real.test").addresses


def test_a_recursor_that_reaches_nobody_is_a_failure(real_loop: RealLoop, start: Start) -> None:
    processor = start("unbound", waits=(10.0,))
    assert "SERVFAIL" in str(ask(real_loop, processor, "www.broken.test"))


def test_one_killed_and_one_that_hangs_are_passed_over_and_taken_back(
    real_loop: RealLoop, start: Start, servers: list[Real]
) -> None:
    processor = start("dnsmasq", "unbound", "named", waits=(0.1,) * 6)
    first, second, third = servers
    first.stop()
    second.process.send_signal(signal.SIGSTOP)
    for i in range(10):
        found = ask(real_loop, processor, f"n{i}.real.test")
        assert (found.rcode, found.server) == (NXDOMAIN, str(third.address))
    real_loop.until(lambda: [one.up for one in processor.health()] == [False, False, True])
    before = processor.counters.timeouts
    assert ask(real_loop, processor, "www.real.test").server == str(third.address)
    second.process.send_signal(signal.SIGCONT)
    real_loop.until(lambda: processor.health()[1].up)
    assert ask(real_loop, processor, "www.real.test").server == str(second.address)
    assert processor.counters.timeouts >= before
