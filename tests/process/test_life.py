"""Reload, drain, and workers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import BodyOrigin, Nginx, body
from tests.process.running import Proxy
from tests.process.tools import children, free_port, is_listening, wait_for

Ini = Callable[[str], str]
BLOCK = "[rule:later]\nmatch = host:127.0.0.1\naction = block\n"


class Load(threading.Thread):
    """A client that asks again and again over connections it keeps, as long as the proxy lets it."""

    def __init__(self, proxy: Proxy, nginx: Nginx) -> None:
        super().__init__(daemon=True)
        self._proxy, self._nginx = proxy, nginx
        self._context = proxy.context()
        self.answered = self.connections = 0
        self.failed: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            client = HTTPSConnection(*self._proxy.address, context=self._context, timeout=20)
            client.set_tunnel("good.test", self._nginx.port)
            try:
                self.connections += 1
                self._ask(client)
            except Exception as error:
                self.failed.append(repr(error))
                return
            finally:
                client.close()

    def _ask(self, client: HTTPSConnection) -> None:
        while not self.enough.is_set():
            client.request("GET", "/hello.txt")
            response = client.getresponse()
            text = response.read()
            assert (response.status, text) == (200, b"hello from nginx\n" * 4)
            self.answered += 1
            if response.headers["Connection"] == "close":
                return


@contextmanager
def load(proxy: Proxy, nginx: Nginx) -> Iterator[list[Load]]:
    """Four clients at once, none of which may fail."""
    clients = [Load(proxy, nginx) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        wait_for("load", lambda: all(client.answered > 20 or client.failed for client in clients))
        yield clients
        before = [client.answered for client in clients]
        wait_for(
            "more load",
            lambda: all(c.answered > b + 20 or c.failed for c, b in zip(clients, before, strict=True)),
        )
    finally:
        for client in clients:
            client.enough.set()
        for client in clients:
            client.join()
    assert [client.failed for client in clients] == [[]] * 4


def test_a_reload_puts_a_new_rule_in_force_and_drops_no_request(proxy: ProxyMaker, nginx: Nginx, ini: Ini) -> None:
    made = proxy("")
    direct = nginx.url(name="127.0.0.1")
    with load(made, nginx):
        assert made.curl(direct).status == 200
        for generation in range(2, 7):
            blocks = generation % 2 == 0
            made.reload(ini(BLOCK if blocks else ""))
            wait_for("the reload", lambda n=generation: f"generation {n} of the settings" in made.said())  # type: ignore[misc]  # a loop variable kept
            assert made.curl(direct).facts[0]["http_connect"] == (403 if blocks else 200)
    assert made.log()[-1]["listener"] == "proxy"


def test_a_broken_file_changes_nothing(proxy: ProxyMaker, nginx: Nginx, ini: Ini) -> None:
    made = proxy(BLOCK)
    made.expected.append("#error")
    with load(made, nginx):
        made.reload(ini("[http]\nheader_timeuot = 1s\n"))
        wait_for("the refusal", lambda: "the settings were not reloaded" in made.said())
        assert "unknown key; the nearest is header_timeout" in made.said()
        assert made.curl(nginx.url(name="127.0.0.1")).facts[0]["http_connect"] == 403
    made.reload(ini(""))
    wait_for("the reload", lambda: "generation 2 of the settings" in made.said())
    assert made.curl(nginx.url(name="127.0.0.1")).status == 200


def test_a_reload_opens_and_closes_ports_or_changes_none(proxy: ProxyMaker, nginx: Nginx, ini: Ini) -> None:
    made = proxy("")
    made.expected.append("#error")
    second, taken = free_port(), nginx.port
    listen = "[listen:more]\nendpoint = tcp:{}:interface=127.0.0.1\n"
    made.reload(ini(listen.format(second) + "[listen:taken]\n" + listen.format(taken).partition("\n")[2] + BLOCK))
    wait_for("the refusal", lambda: "Address already in use" in made.said())
    assert not is_listening(second)
    assert made.curl(nginx.url(name="127.0.0.1")).status == 200
    made.reload(ini(listen.format(second)))
    wait_for("the reload", lambda: "generation 2 of the settings" in made.said())
    assert made.curl(nginx.url(), by=f"http://127.0.0.1:{second}").status == 200
    made.reload(ini(""))
    wait_for("the reload", lambda: "generation 3 of the settings" in made.said())
    assert not is_listening(second)
    assert made.curl(nginx.url()).status == 200


def test_what_a_reload_cannot_change_is_said(proxy: ProxyMaker, ini: Ini) -> None:
    made = proxy("")
    made.reload(
        ini(
            "[sslintercept]\nmax_connections = 10\n[log]\nformat = squid\nkeylog = keys.log\n"
            "[listen:proxy]\ntarget = original\ntransparent = on\n"
        )
    )
    wait_for("the reload", lambda: "generation 2 of the settings" in made.said())
    for key in ("[sslintercept] max_connections", "[log] format", "[log] keylog", "[listen:proxy] transparent"):
        assert f"{key} was changed; that takes effect at the next start" in made.said()


def test_a_reload_opens_the_log_anew_after_a_rotation(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("")
    made.curl(nginx.url())
    made.logged(lambda line: line["type"] == "connection")
    (made.folder / "access.log").rename(made.folder / "access.log.1")
    made.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "generation 2 of the settings" in made.said())
    made.curl(nginx.url("/big"))
    assert made.logged(lambda line: line["type"] == "transaction")["url"] == nginx.url("/big")


def test_reloads_leave_nothing_behind(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("")
    made.curl(nginx.url())
    wait_for("the client gone", lambda: any(line["type"] == "connection" for line in made.log()))
    made.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "generation 2 of the settings" in made.said())
    base = made.descriptors()
    for generation in range(3, 43):
        made.process.send_signal(signal.SIGHUP)
        wait_for("a reload", lambda n=generation: f"generation {n} of the settings" in made.said())  # type: ignore[misc]  # a loop variable kept
    made.is_back_at(base)


# the end


def test_a_running_download_finishes_before_the_end_and_the_port_is_closed_at_once(
    proxy: ProxyMaker, origin: BodyOrigin
) -> None:
    made = proxy("")
    with (
        closing(HTTPSConnection(*made.address, context=made.context(), timeout=20)) as client,
        made.secure(f"body.test:{origin.port}", "body.test") as idle,
    ):
        client.set_tunnel("body.test", origin.port)
        client.request("GET", "/held")
        response = client.getresponse()
        first = response.read(100_000)
        made.process.send_signal(signal.SIGTERM)
        wait_for("the port closed", lambda: not is_listening(made.address[1]))
        assert idle.recv(1) == b""
        assert made.process.poll() is None
        origin.release.set()
        assert first + response.read() == body(200_000)
    assert made.process.wait(20) == 0


def test_what_never_ends_is_cut_when_the_time_to_drain_is_over(proxy: ProxyMaker, origin: BodyOrigin) -> None:
    made = proxy("[sslintercept]\ndrain_timeout = 300ms\n")
    with made.secure(f"body.test:{origin.port}", "body.test") as sock:
        sock.sendall(f"GET /held HTTP/1.1\r\nHost: body.test:{origin.port}\r\n\r\n".encode())
        assert origin.holding.wait(10)
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(20) == 0
        origin.release.set()


def test_a_second_sigterm_does_no_harm(proxy: ProxyMaker, origin: BodyOrigin) -> None:
    made = proxy("[sslintercept]\ndrain_timeout = 1s\n")
    with made.secure(f"body.test:{origin.port}", "body.test") as sock:
        sock.sendall(f"GET /held HTTP/1.1\r\nHost: body.test:{origin.port}\r\n\r\n".encode())
        assert origin.holding.wait(10)
        made.process.send_signal(signal.SIGTERM)
        wait_for("the port closed", lambda: not is_listening(made.address[1]))
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(20) == 0
        origin.release.set()


# workers


@pytest.fixture
def pair(proxy: ProxyMaker) -> Proxy:
    """A supervisor with two workers."""
    return proxy(f"[sslintercept]\nworkers = 2\n[listen:proxy]\nendpoint = tcp:{free_port()}:interface=127.0.0.1\n")


def served_by(made: Proxy, nginx: Nginx, *clients: str) -> set[str]:
    """The processes that have answered so far, as the ids in the log tell them apart."""
    for client in clients or [f"127.0.0.{number}" for number in range(1, 11)]:
        got = made.curl(nginx.url("/hello.txt?[1-3]"), "-H", "Connection: close", "--interface", client)
        assert got.status == 200
    return {line["id"].partition("-")[0] for line in made.log()}


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_both_workers_serve_and_end_with_their_supervisor(pair: Proxy, nginx: Nginx) -> None:
    workers = children(pair.pid)
    assert len(workers) == 2
    wait_for("both workers serving", lambda: len(served_by(pair, nginx)) == 2)
    pair.stop()
    assert all(map(gone, workers))
    assert not is_listening(pair.address[1])


def test_a_client_has_one_worker(pair: Proxy, nginx: Nginx) -> None:
    for _ in range(5):
        served_by(pair, nginx, "127.0.0.1")
    wait_for("the lines", lambda: len(pair.log()) == 30)
    assert len(served_by(pair, nginx, "127.0.0.1")) == 1


@pytest.mark.parametrize(("process", "listener"), [("spread = connections", ""), ("", "proxy_protocol = 192.0.2.1")])
def test_connections_of_a_client_are_spread_where_it_may_be_many(
    proxy: ProxyMaker, nginx: Nginx, process: str, listener: str
) -> None:
    made = proxy(
        f"[sslintercept]\nworkers = 2\n{process}\n"
        f"[listen:proxy]\nendpoint = tcp:{free_port()}:interface=127.0.0.1\n{listener}\n"
    )
    wait_for("both workers serving", lambda: len(served_by(made, nginx, "127.0.0.1")) == 2)


def test_the_log_of_two_workers_is_whole_lines(pair: Proxy, nginx: Nginx) -> None:
    got = pair.curl(nginx.url("/hello.txt?[1-200]"), "-Z", "-H", "Connection: close")
    assert {fact["http_code"] for fact in got.facts} == {200}
    wait_for("the lines", lambda: sum(line["type"] == "transaction" for line in pair.log()) == 200)


def test_a_killed_worker_is_replaced(pair: Proxy, nginx: Nginx) -> None:
    pair.expected.append("#error")
    killed, kept = children(pair.pid)
    os.kill(killed, signal.SIGKILL)
    wait_for("a new worker", lambda: len(children(pair.pid)) == 2 and killed not in children(pair.pid))
    assert kept in children(pair.pid)
    before = served_by(pair, nginx)
    wait_for("the new worker serving", lambda: len(served_by(pair, nginx) | before) >= 2)


def test_workers_reload_with_their_supervisor(pair: Proxy, nginx: Nginx) -> None:
    pair.reload(pair.ini.read_text() + BLOCK)
    url = nginx.url(name="127.0.0.1")
    clients = [f"127.0.0.{number}" for number in range(1, 11)]
    wait_for(
        "both workers blocking",
        lambda: all(
            pair.curl(url, "--interface", client).facts[0]["http_connect"] == 403 for client in clients for _ in "ab"
        ),
    )


def test_workers_end_when_their_supervisor_is_killed(pair: Proxy) -> None:
    workers = children(pair.pid)
    pair.kill()
    wait_for("the workers gone", lambda: all(map(gone, workers)))
    assert not is_listening(pair.address[1])


def test_json_lines_of_the_log_have_the_same_fields(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("")
    made.curl(nginx.url("/hello.txt?[1-3]"))
    made.curl(nginx.plain_url())
    wait_for("the lines", lambda: len(made.log()) == 6)
    fields = {line["type"]: set(line) for line in made.log()}
    assert all(set(line) == fields[line["type"]] for line in made.log())
    assert json.dumps(made.log())
