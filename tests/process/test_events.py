"""Events on their way out of a process: file, syslog by TCP and TLS, store, quarantine, plugins; and the command."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sslintercept.event.query import Query, find
from sslintercept.event.record import from_json
from sslintercept.testing.pki import Pair, make_ca, make_leaf
from tests.event.events import event
from tests.event.test_syslog import taken_apart
from tests.process.conftest import ProxyMaker
from tests.process.tools import ENVIRONMENT, PATIENCE, ROOT, is_listening, ours, run, server_port, tool, wait_for

INI = """
[sslintercept]
state_dir = state
[listen:proxy]
endpoint = tcp:0:interface=127.0.0.1
[log]
access = access.log
"""
RSYSLOG = """
global(
    workDirectory="{folder}" maxMessageSize="8k" defaultNetstreamDriverCAFile="{folder}/trust.pem"
    defaultNetstreamDriverCertFile="{folder}/collector.pem" defaultNetstreamDriverKeyFile="{folder}/collector.pem"
)
module(load="imtcp")
module(load="mmpstrucdata")
template(name="parts" type="list" option.jsonf="on") {{
    property(outname="pri" name="pri" format="jsonf")
    property(outname="version" name="protocol-version" format="jsonf")
    property(outname="severity" name="syslogseverity-text" format="jsonf")
    property(outname="facility" name="syslogfacility-text" format="jsonf")
    property(outname="host" name="hostname" format="jsonf")
    property(outname="app" name="app-name" format="jsonf")
    property(outname="kind" name="msgid" format="jsonf")
    property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="data" name="$!rfc5424-sd" format="jsonf")
    property(outname="text" name="msg" format="jsonf")
}}
ruleset(name="all") {{
    action(type="mmpstrucdata")
    action(type="omfile" file="{folder}/received" template="parts")
}}
input(type="imtcp" address="127.0.0.1" port="{plain}" ruleset="all")
input(
    type="imtcp" address="127.0.0.1" port="{secure}" ruleset="all"
    streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon"
)
"""
PLUGIN = """
from twisted.plugin import IPlugin
from zope.interface import implementer
from sslintercept.interfaces import IEventSinkPlugin

@implementer(IPlugin, IEventSinkPlugin)
class Noting:
    def tell(self, event):
        with open("noted", "a") as file:
            file.write(f"{event.id}\\n")
        raise ValueError("and breaks")

noting = Noting()
"""


class Collector:
    """
    A collector of syslog that takes messages apart as RFC 6587 3.4.1 says.

    @ivar messages: so far, of all connections.
    """

    def __init__(self, pair: Pair | None = None, folder: Path | None = None) -> None:
        self._context: ssl.SSLContext | None = None
        if pair is not None and folder is not None:
            (folder / "collector.pem").write_bytes(pair.pem + pair.key_pem)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(folder / "collector.pem")
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.messages: list[bytes] = []
        self.connections = self.failures = 0
        self.ends = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def _read(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rb") as file:
                while length := self._number(file.read(1), file.read):
                    self.messages.append(file.read(length))
            self.ends += 1
        except OSError:
            self.failures += 1

    @staticmethod
    def _number(digit: bytes, read: Callable[[int], bytes]) -> int:
        number = b""
        while digit not in (b" ", b""):
            number += digit
            digit = read(1)
        return int(number or b"0")

    def ids(self) -> list[str]:
        return [from_json(taken_apart(message)[7]).id for message in self.messages]

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


class Gateway:
    """A process that tells what it is asked to (L{tests.process.telling})."""

    def __init__(self, folder: Path, ini: str, **environment: str) -> None:
        self.folder = folder
        (folder / "x.ini").write_text(INI + ini)
        self.output = folder / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.process.telling", str(folder / "x.ini")],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                env={**ENVIRONMENT, "PYTHONPATH": f"{ROOT}:{folder}", **environment},
            )
        assert self._answer() == "up", self.said()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def said(self) -> str:
        return self.output.read_text()

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def reload(self, ini: str, generation: int) -> None:
        (self.folder / "x.ini").write_text(INI + ini)
        self.process.send_signal(signal.SIGHUP)
        wait_for("a reload", lambda: f"generation {generation} of the settings" in self.said())

    def stop(self) -> float:
        """End it; how long that took."""
        before = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.said()
        return time.monotonic() - before

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


GatewayMaker = Callable[..., Gateway]


@pytest.fixture
def gateway(folder: Path) -> Iterator[GatewayMaker]:
    made: list[Gateway] = []

    def make(ini: str = "", **environment: str) -> Gateway:
        made.append(Gateway(folder, ini, **environment))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def events(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return run(ours("sslintercept"), "events", *options, "--config", str(folder / "x.ini"), folder=folder)


def stored(folder: Path) -> list[str]:
    """The ids in the store."""
    path = folder / "state" / "events.db"
    return [from_json(line).id for line in find(path, Query(limit=10_000))] if path.exists() else []


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that failed."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    return done.stderr


def test_an_event_goes_everywhere_at_once(gateway: GatewayMaker, folder: Path) -> None:
    authority = make_ca("CA of collectors")
    (folder / "trust.pem").write_bytes(authority.pem)
    plain, secure = Collector(), Collector(make_leaf(authority, ["127.0.0.1"]), folder)
    syslog = f"tcp:127.0.0.1:{plain.port}, tls:127.0.0.1:{secure.port}"
    made = gateway(f"[events]\nfile = events.jsonl\nsyslog = {syslog}\nsyslog_trust = trust.pem\n")
    assert made.ask("tell one malware") == "events: 1 malware block"
    made.ask("tell two leak")
    for collector in (plain, secure):
        wait_for("both messages", lambda collector=collector: len(collector.messages) == 2)  # type: ignore[misc]  # kept
        assert collector.ids() == ["one", "two"]
        assert taken_apart(collector.messages[0])[2] == socket.gethostname().encode()
        assert taken_apart(collector.messages[0])[4] == str(made.process.pid).encode()
    wait_for("the lines", lambda: (folder / "events.jsonl").read_text().count("\n") == 2)
    wait_for("them in the store", lambda: stored(folder) == ["one", "two"])
    lines = (folder / "events.jsonl").read_text()
    assert events(folder, "--json").stdout == lines
    assert stat.S_IMODE((folder / "events.jsonl").stat().st_mode) == 0o600
    assert made.stop() < 4
    assert "events:" in made.said()
    assert "rror" not in made.said()
    for collector in (plain, secure):
        wait_for("its end", lambda collector=collector: collector.ends == 1)  # type: ignore[misc]  # a loop variable kept
        assert (collector.connections, collector.failures) == (1, 0)
        collector.close()


@pytest.fixture
def rsyslog(folder: Path) -> Iterator[tuple[int, int]]:
    """A real collector: its ports for TCP and for TLS. What it gets is in C{received}."""
    plain, secure = server_port(), server_port()
    authority = make_ca("CA of collectors")
    (folder / "trust.pem").write_bytes(authority.pem)
    pair = make_leaf(authority, ["127.0.0.1"])
    (folder / "collector.pem").write_bytes(pair.pem + pair.key_pem)
    (folder / "rsyslog.conf").write_text(RSYSLOG.format(folder=folder, plain=plain, secure=secure))
    with (folder / "rsyslog.txt").open("wb") as output:
        command = [tool("rsyslogd"), "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "rsyslog.pid")]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=ENVIRONMENT)
    try:
        wait_for("rsyslog", lambda: is_listening(plain) and is_listening(secure))
        yield plain, secure
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_rsyslog_understands_every_part_of_a_message(
    gateway: GatewayMaker, folder: Path, rsyslog: tuple[int, int], kind: str
) -> None:
    port = rsyslog[kind == "tls"]
    made = gateway(f"[events]\nsyslog = {kind}:127.0.0.1:{port}\nsyslog_trust = trust.pem\n")
    made.ask("tell c1-1 malware")
    made.ask("many 1000")
    made.stop()
    received = folder / "received"
    wait_for("all of them", lambda: received.exists() and received.read_text().count("\n") == 1001)
    first, *others = map(json.loads, received.read_text().splitlines())
    assert [from_json(other["text"]).id for other in others] == [str(number) for number in range(1000)]
    sent = from_json(first["text"])
    assert sent == event(id="c1-1")
    assert {name: first[name] for name in ("pri", "version", "severity", "facility", "app", "kind")} == {
        "pri": "132",
        "version": "1",
        "severity": "warning",
        "facility": "local0",
        "app": "sslintercept",
        "kind": "malware",
    }
    assert first["host"] == socket.gethostname()
    assert first["time"] == "2026-11-30T00:53:20.250000Z"
    data = json.loads(first["data"]) if isinstance(first["data"], str) else first["data"]
    assert data["sslintercept@32473"]["name"] == "Eicar-Test-Signature"
    assert data["origin"]["software"] == "sslintercept"


def test_a_collector_with_the_certificate_of_another_is_told_nothing(gateway: GatewayMaker, folder: Path) -> None:
    authority = make_ca("CA of collectors")
    (folder / "trust.pem").write_bytes(authority.pem)
    wrong = Collector(make_leaf(authority, ["other.test"]), folder)
    made = gateway(f"[events]\nsyslog = tls:127.0.0.1:{wrong.port}\nsyslog_trust = trust.pem\n")
    made.ask("tell one malware")
    wait_for("another attempt", lambda: wrong.connections >= 2)
    assert wrong.messages == []
    assert f"syslog tls:127.0.0.1:{wrong.port}: " in made.said()
    assert made.stop() < 10
    assert "1 events were not sent in time" in made.said()
    wrong.close()


def test_what_is_told_right_before_the_end_is_written(
    gateway: GatewayMaker, folder: Path, collector: Collector
) -> None:
    made = gateway(f"[events]\nfile = events.jsonl\nsyslog = tcp:127.0.0.1:{collector.port}\n")
    assert made.ask("many 1000") == "events: 1000 malware block"
    made.stop()
    expected = [str(number) for number in range(1000)]
    assert [json.loads(line)["id"] for line in (folder / "events.jsonl").read_text().splitlines()] == expected
    assert [
        json.loads(line)["id"] for line in events(folder, "--json", "--limit", "5000").stdout.splitlines()
    ] == expected
    wait_for("its end", lambda: collector.ends == 1)
    assert collector.ids() == expected


def test_a_reload_changes_where_events_go(gateway: GatewayMaker, folder: Path, collector: Collector) -> None:
    made = gateway("[events]\nfile = first.jsonl\n")
    made.ask("tell one malware")
    wait_for("it", lambda: bool((folder / "first.jsonl").read_text()))
    (folder / "first.jsonl").rename(folder / "rotated.jsonl")
    made.reload("[events]\nfile = first.jsonl\nmost = 10\n", 2)
    wait_for("a new file", (folder / "first.jsonl").exists)
    made.ask("tell two malware")
    made.reload(f"[events]\nfile = second.jsonl\nsyslog = tcp:127.0.0.1:{collector.port}\nquarantine_size = 0B\n", 3)
    made.ask("tell three malware")
    assert made.ask("keep four content") == ""
    wait_for("both", lambda: collector.ids() == ["three", "four"])
    made.reload("[events]\nstore = off\n", 4)
    wait_for("the collector's end", lambda: collector.ends == 1)
    made.ask("tell five malware")
    made.stop()
    for name, ids in (("rotated", ["one"]), ("first", ["two"]), ("second", ["three", "four"])):
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == ids
    assert stored(folder) == ["one", "two", "three", "four"]


def test_a_mistake_in_a_reload_changes_nothing(gateway: GatewayMaker, folder: Path) -> None:
    made = gateway()
    (folder / "x.ini").write_text(INI + "[events]\nfile = nowhere/x\nsyslog_trust = nowhere.pem\n")
    made.process.send_signal(signal.SIGHUP)
    wait_for("a refusal", lambda: "the settings were not reloaded" in made.said())
    assert "[events] file: cannot make" in made.said()
    assert "[events] syslog_trust: cannot read" in made.said()
    made.ask("tell one malware")
    made.stop()
    assert stored(folder) == ["one"]


def test_a_plugin_is_told_and_cannot_hurt_others(gateway: GatewayMaker, folder: Path) -> None:
    home = folder / "sslintercept" / "plugins"
    home.mkdir(parents=True)
    (home / "noting.py").write_text(PLUGIN)
    made = gateway()
    made.ask("tell one malware")
    made.ask("tell two malware")
    made.stop()
    assert (folder / "noted").read_text() == "one\ntwo\n"
    assert made.said().count("an event was not told to Noting") == 2
    assert stored(folder) == ["one", "two"]


def test_a_copy_comes_out_of_the_quarantine_with_the_command(gateway: GatewayMaker, folder: Path) -> None:
    made = gateway()
    assert made.ask("keep c1-1 dangerous") == "c1-1"
    wait_for("it in the store", lambda: stored(folder) == ["c1-1"])
    assert "quarantine    c1-1" in events(folder, "show", "c1-1").stdout
    done = events(folder, "quarantine", "c1-1", "--to", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote out: 9 bytes, SHA-256 ")
    assert (folder / "out").read_bytes() == b"dangerous"
    assert "File exists" in complaint(events(folder, "quarantine", "c1-1", "--to", "out"))
    assert "no copy c1-2" in complaint(events(folder, "quarantine", "c1-2", "--to", "other"))
    assert stat.S_IMODE((folder / "state" / "quarantine").stat().st_mode) == 0o700
    made.stop()


def test_the_command_filters_and_complains_in_one_line(gateway: GatewayMaker, folder: Path) -> None:
    (folder / "x.ini").write_text(INI)
    assert "no events have been stored" in complaint(events(folder))
    made = gateway()
    for name, kind in (("one", "malware"), ("two", "leak"), ("three", "site")):
        made.ask(f"tell {name} {kind}")
    wait_for("all in the store", lambda: len(stored(folder)) == 3)
    assert len(events(folder, "--kind", "leak", "--kind", "site", "--act", "block").stdout.splitlines()) == 2
    assert events(folder, "--limit", "1", "--client", "192.0.2.7").stdout.count("three") == 1
    assert events(folder, "--host", ".test", "--inspector", "av", "--id", "one").stdout.count("\n") == 1
    assert events(folder, "--until", "2026-11-30", "--limit", "7").stdout == ""
    assert "--since" in complaint(events(folder, "--since", "\x1b[2Jx"))
    assert "there is no event x" in complaint(events(folder, "show", "x"))
    made.stop()
    assert len(events(folder).stdout.splitlines()) == 3


def test_who_has_read_enough_may_go(gateway: GatewayMaker, folder: Path) -> None:
    made = gateway()
    made.ask("many 3000")
    made.stop()
    command = f"{ours('sslintercept')} events --json --limit 3000 --config x.ini | head -1"
    done = run("bash", "-o", "pipefail", "-c", command, folder=folder)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_a_proxy_that_finds_nothing_has_an_empty_store(proxy: ProxyMaker) -> None:
    made = proxy("")
    state = made.folder / "state"
    wait_for("a store", (state / "events.db").exists)
    assert stat.S_IMODE((state / "events.db").stat().st_mode) == 0o600
    assert not (state / "quarantine").exists()
    made.stop()
    assert sorted(file.name for file in state.glob("events*")) == ["events.db", "events.db.lock"]
    with sqlite3.connect(state / "events.db") as database:
        assert database.execute("select count(*) from event").fetchone() == (0,)
    done = run(ours("sslintercept"), "events", "--config", str(made.ini), folder=made.folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
