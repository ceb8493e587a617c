"""Look-ups against dnsmasq, unbound and BIND as they are installed, started here on free ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sslintercept.dns.message import IN, NOERROR, NXDOMAIN, SOA, A, parse, wire
from sslintercept.dns.processor import DnsProcessor
from sslintercept.dns.server import NameServers, Rules, ServerGroup
from sslintercept.facts import Address
from sslintercept.testing.loop import RealLoop
from tests.process.tools import server_port
from tests.signedzone import ORIGIN, sign
from tests.standstill import stand_still

from .support import NameServer, Query, a, labels, message, outcome

PATIENCE = 20.0
"""seconds for a server to start, or a look-up to end"""
ATTEMPTS = 5
"""to start a server"""
DNSKEY, RRSIG, NSEC = 48, 46, 47
"""types of RFC 4034"""
BIG = [f"198.51.100.{i}" for i in range(1, 100)]
"""addresses that fit into no datagram of 1232 bytes; BIND takes 100 of a name at most"""


def came_of(loop: RealLoop, asked: Deferred[Any]) -> Any:
    """What a Deferred comes to."""
    loop.wait_for(asked)
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


def signer(folder: Path, port: int) -> list[str]:
    """BIND with a signed zone beside the others."""
    command = named(folder, port)
    sign(folder)
    with open(folder / "conf", "a") as conf:
        conf.write(f'zone "{ORIGIN}" {{ type primary; file "signed"; }};\n')
    return command


MAKERS = {"dnsmasq": dnsmasq, "unbound": unbound, "named": named}


class Real:
    """A server of somebody else's."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.address = Address("127.0.0.1", server_port())
        folder.mkdir()
        command = {**MAKERS, "signer": signer}[kind](folder, self.address.port)
        where = shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/sbin")
        assert where is not None, f"{kind} is not installed"
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen([where, *command[1:]], stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def real_loop() -> Iterator[RealLoop]:
    made = RealLoop(PATIENCE)
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

    def answers(server: Real) -> bool:
        """Whether it does, before it ends."""
        probe = processor([server], waits=(0.1,))
        end = time.monotonic() + PATIENCE
        while getattr(came_of(real_loop, probe.query("www.real.test", A, real_loop.seconds() + PATIENCE)), "rcode", 1):
            if server.process.poll() is not None:
                return False
            assert time.monotonic() < end, "it does not answer: " + str(server.process.args)
        return True

    def begin(kind: str) -> None:
        """Any look-up may take a port just before the server that it is meant for does: then it begins anew."""
        for attempt in range(ATTEMPTS):
            servers.append(Real(kind, tmp_path / f"{kind}{len(servers)}-{attempt}"))
            if answers(servers[-1]):
                return
            servers.pop().stop()
        pytest.fail(f"{kind} ends: see its logs in {tmp_path}")

    def processor(which: Sequence[Real | NameServer], **options: Any) -> DnsProcessor:
        rules = Rules(number=2, soon=0.2, every=0.2, now=0.4)
        group = ServerGroup([one.address for one in which], rules=rules)
        processors.append(DnsProcessor(real_loop.handler, real_loop, NameServers(group), **options))
        processors[-1].start()
        return processors[-1]

    def make(*kinds: str, before: Sequence[NameServer] = (), **options: Any) -> DnsProcessor:
        for kind in kinds:
            begin(kind)
        return processor([*before, *servers], **options)

    yield make
    for one in processors:
        one.stop()


def ask(loop: RealLoop, processor: DnsProcessor, name: str) -> Any:
    return came_of(loop, processor.query(name, A, loop.seconds() + PATIENCE))


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
    stand_still(second.process.pid)
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


@pytest.mark.parametrize("tcp", [False, True])
def test_signed_answers_come_whole_in_a_datagram_or_over_a_connection(
    real_loop: RealLoop, start: Start, tcp: bool
) -> None:
    processor = start("signer", tcp=tcp)

    def signed(name: str, rtype: int) -> Any:
        deadline = real_loop.seconds() + PATIENCE
        found = came_of(real_loop, processor.raw(wire(name), rtype, IN, deadline, signed=True))
        parsed = parse(found.message)
        assert parsed is not None
        return found.message, parsed.rcode, [{one.type for one in part} for part in (parsed.answers, parsed.authority)]

    _, rcode, (answers, _) = signed(f"www.{ORIGIN}", A)
    assert (rcode, answers) == (NOERROR, {A, RRSIG})
    data, rcode, (_, authority) = signed(f"nothing.{ORIGIN}", A)
    assert (rcode, authority) == (NXDOMAIN, {SOA, NSEC, RRSIG})
    assert 512 < len(data) <= 1232
    assert processor.counters.truncated == 0
    data, rcode, (answers, _) = signed(ORIGIN, DNSKEY)
    assert (rcode, answers) == (NOERROR, {DNSKEY, RRSIG})
    assert len(data) > 1232
    assert processor.counters.truncated == (0 if tcp else 1)
    assert not processor.counters.dropped
    # Whoever wants no signatures gets none.
    assert ask(real_loop, processor, f"alias.{ORIGIN}").addresses == ("192.0.2.1",)


@pytest.mark.parametrize("kind", MAKERS)
def test_one_that_lies_is_not_believed_and_a_real_one_is(real_loop: RealLoop, start: Start, kind: str) -> None:
    """The liar is asked first: ids, questions and records that nobody asked for."""
    forged = a("www.real.test", "6.6.6.6")

    def lie(query: Query) -> None:
        query.say(message(query.id ^ 1, query.question, [forged]))
        query.say(message(query.id, labels("other.real.test") + query.question[-4:], [forged]))
        query.say(query.message(forged, flags=0x0100))
        query.say(query.message(forged)[:-1])

    liar = NameServer(real_loop, lie)
    try:
        processor = start(kind, before=[liar], waits=(0.1,) * 6)
        found = ask(real_loop, processor, "www.real.test")
        assert found.addresses == ("192.0.2.1",)
        assert liar.asked == ["www.real.test"]
        assert found.server != str(liar.address)
        assert processor.counters.dropped == {"id": 1, "question": 1, "header": 1, "malformed": 1}
    finally:
        liar.close()


@pytest.mark.parametrize("kind", MAKERS)
def test_one_that_is_slow_is_asked_again_and_its_late_answer_counts(
    real_loop: RealLoop, start: Start, servers: list[Real], kind: str
) -> None:
    processor = start(kind, waits=(0.2, 0.2, PATIENCE))
    stand_still(servers[0].process.pid)
    asked = processor.query("www.real.test", A, real_loop.seconds() + PATIENCE)
    real_loop.until(lambda: processor.counters.timeouts == 2)
    servers[0].process.send_signal(signal.SIGCONT)
    assert came_of(real_loop, asked).addresses == ("192.0.2.1",)
    assert processor.counters.sent == 3
    # The answers to the other attempts are nobody's any more, and harm nobody.
    real_loop.until(lambda: processor.counters.dropped.total() == 2)
    assert set(processor.counters.dropped) <= {"id", "duplicate"}
    assert ask(real_loop, processor, "alias.real.test").addresses == ("192.0.2.1",)
