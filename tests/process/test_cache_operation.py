"""Whoever runs a cache: what commands say and do, what is left on the disk, and what a mistake costs."""

from __future__ import annotations

import os
import stat as mode_of
import threading
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.kept import KeptOrigin, client, mounted, recovered, stat, told
from tests.process.origins import BODY_NAME
from tests.process.running import Proxy
from tests.process.test_mistakes import START, Ini, as_nobody, line_of, shared_folder, start
from tests.process.tools import ours, run, server_port, wait_for

__all__ = ["shared_folder"]

SPAN = "cache-0.span"
PINNED = "another-name.test"
"""a host whose answers are pinned"""


def cache(path: Path, more: str = "") -> str:
    return f"[cache]\npath = {path}\nsize = 16MiB\n{more}"


def command(proxy: Proxy, *words: str) -> list[str]:
    """What a command about a proxy's cache prints."""
    done = run(ours("sslintercept"), "cache", *words, "-c", proxy.ini, folder=proxy.folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def fill(proxy: Proxy, origin: KeptOrigin, *names: str) -> list[str]:
    """Have a few things kept; their URLs."""
    urls = [origin.made(5_000, name) for name in names]
    assert [proxy.curl(url).body for url in urls] == [origin.content(url) for url in urls]
    return urls


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the span of L{gateway} is."""
    return tmp_path_factory.mktemp("cache") / "made"


@pytest.fixture(scope="module")
def gateway(module_proxy: ProxyMaker, folder: Path) -> Proxy:
    """A proxy with a cache, in which a rule pins what one host says."""
    rule = f"[rule:pinned]\nmatch = host:{PINNED}\naction = intercept\npin = 1h\n"
    return recovered(module_proxy(cache(folder, rule)))


def test_commands_say_what_is_kept_and_remove_it(gateway: Proxy, plain: KeptOrigin) -> None:
    urls = fill(gateway, plain, "a", "b", "x-1", "x-2")
    all_of_them = f"*:{plain.port}/*"
    lines = command(gateway, "ls", all_of_them)
    assert sorted(line.split(" ")[-1] for line in lines) == urls
    assert all(line.startswith("200 5000 age=") for line in lines)
    assert command(gateway, "purge", urls[0]) == ["1 removed"]
    assert told(gateway, f"purge {urls[0]}") == ["0 removed"]
    assert told(gateway, f"purge *:{plain.port}/*/x-*") == ["2 removed"]
    (left,) = told(gateway, f"ls {all_of_them}")
    assert left.endswith(urls[1])
    assert told(gateway, "verify")[-1].endswith(" damaged 0")
    assert told(gateway, "stat")[0] == command(gateway, "stat")[0]


def test_commands_open_the_spans_of_a_proxy_that_does_not_run(
    proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path
) -> None:
    made = recovered(proxy(cache(tmp_path)))
    urls = fill(made, plain, "a", "b", "x-1", "x-2")
    made.stop()
    assert command(made, "purge", urls[0]) == ["1 removed"]
    assert command(made, "purge", "*/x-*") == ["2 removed"]
    assert [line.split(" ")[-1] for line in command(made, "ls")] == [urls[1]]
    (verified,) = command(made, "verify")
    assert verified.startswith("documents 1 ")


def test_what_was_purged_is_asked_for_again(gateway: Proxy, plain: KeptOrigin) -> None:
    gone, kept = fill(gateway, plain, "gone", "kept")
    plain.version = 2
    assert told(gateway, f"purge {gone}") == ["1 removed"]
    assert gateway.curl(gone).body == plain.content(gone)
    assert gateway.curl(kept).body != plain.content(kept)


def test_what_a_rule_pins_is_counted(gateway: Proxy, plain: KeptOrigin) -> None:
    assert stat(gateway)["pinned"] == 0
    gateway.curl(plain.made(5_000, "pinned").replace(BODY_NAME, PINNED))
    assert stat(gateway)["pinned"] > 5000


def test_nobody_else_may_read_the_span_or_ask(gateway: Proxy, folder: Path) -> None:
    socket = gateway.folder / "state" / "control-0.sock"
    for path, expected in ((folder, 0o700), (folder / SPAN, 0o600), (socket, 0o600)):
        assert mode_of.S_IMODE(path.stat().st_mode) == expected, path


def test_a_proxy_that_was_stopped_has_everything_when_it_starts_again(
    proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path
) -> None:
    made = recovered(proxy(cache(tmp_path)))
    urls = fill(made, plain, "a", "b", "c")
    # What was written a moment ago waits for more; stopping writes it.
    made.stop()
    assert not (made.folder / "state" / "control-0.sock").exists()
    again = recovered(proxy(cache(tmp_path)))
    plain.asked.clear()
    assert fill(again, plain, "a", "b", "c") == urls
    assert plain.asked == []
    assert stat(again)["disk_hits"] == 3


def test_commands_find_the_span_of_a_process_that_was_killed(
    proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path
) -> None:
    made = recovered(proxy(cache(tmp_path)))
    fill(made, plain, "a")
    wait_for("it being written", lambda: stat(made)["waiting"] == 0)
    made.kill()
    assert len(command(made, "ls")) == 1


def test_two_proxies_do_not_share_a_span(proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path) -> None:
    first = recovered(proxy(cache(tmp_path)))
    (url,) = fill(first, plain, "mine")
    second = proxy(cache(tmp_path))
    second.expected.append("#error")
    wait_for("a word", lambda: "another process or another span has it" in second.said())
    assert [second.curl(url).body for _ in range(2)] == [plain.content(url)] * 2
    assert "spans 0 of 1" in command(second, "stat")
    assert first.curl(url).body == plain.content(url)
    assert stat(first)["memory_hits"] == 1


def test_workers_have_a_span_each_and_answer_together(proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path) -> None:
    listen = f"[listen:proxy]\nendpoint = tcp:{server_port()}:interface=127.0.0.1\n"
    made = recovered(proxy(cache(tmp_path, f"[sslintercept]\nworkers = 2\n{listen}")), workers=2)
    url = plain.made(5_000, "both")

    def both() -> bool:
        for number in range(1, 9):
            assert made.curl(url, "--interface", f"127.0.0.{number}").body == plain.content(url)
        return all(stat(made, worker)["documents"] for worker in (0, 1))

    wait_for("both workers having it", both)
    assert len(plain.asked) == 2
    assert sorted(path.name for path in tmp_path.glob("*.span")) == ["cache-0.span", "cache-1.span"]
    assert sorted(line[:7] for line in command(made, "ls")) == ["0: 200 ", "1: 200 "]
    assert sorted(command(made, "purge", url)) == ["0: 1 removed", "1: 1 removed"]
    made.stop()
    assert command(made, "ls") == []


def test_a_reload_interrupts_no_hit_and_forgets_nothing(gateway: Proxy, plain: KeptOrigin) -> None:
    made = gateway
    small, large = fill(made, plain, "small")[0], plain.made(1_500_000, "large")
    made.curl(large)
    expected, answered, enough = {small: plain.content(small), large: plain.content(large)}, [0], threading.Event()
    wrong: list[str] = []

    def load() -> None:
        while not enough.is_set():
            with client(made) as asking:
                for url in (small, large) * 10:
                    if asking.get(url).content != expected[url]:
                        wrong.append(url)
                    answered[0] += 1

    asking = threading.Thread(target=load, daemon=True)
    asking.start()
    try:
        for generation in (2, 3, 4):
            before = answered[0]
            wait_for("hits", lambda before=before: answered[0] > before + 20)  # type: ignore[misc]  # a default
            made.reload(made.ini.read_text())
            wait_for("it", lambda g=generation: f"generation {g} of the settings" in made.said())  # type: ignore[misc]
    finally:
        enough.set()
        asking.join()
    assert (wrong, len(plain.asked)) == ([], 2)


# mistakes


def test_a_disk_on_which_nothing_can_be_made_keeps_no_proxy_from_running(
    proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "none") as disk:
        made = proxy(cache(disk / "folder"))
        made.expected.append("#error")
        wait_for("a word", lambda: f"cache span {disk}/folder/cache-0.span" in made.said())
        (url,) = fill(made, plain, "here")
        assert fill(made, plain, "here") == [url]
        assert "spans 0 of 1" in told(made)
        made.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_place_that_is_no_place_is_named(tmp_path: Path, ini: Ini, workers: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    listen = f"[sslintercept]\nworkers = {workers}\n[listen:proxy]\nendpoint = tcp:{server_port()}\n"
    line = line_of(start(tmp_path, ini(listen + cache(tmp_path / "pipe"))))
    assert line == f"[cache] path: {tmp_path}/pipe is neither folder, file nor device; name another one"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, ini: Ini) -> None:
    (tmp_path / "file").write_text("")
    line = line_of(start(tmp_path, ini(cache(tmp_path / "file" / "folder"))))
    assert line == f"[cache] path: cannot use {tmp_path}/file/folder (Not a directory); name another one"


def test_a_folder_that_somebody_else_owns_is_named(shared_folder: Path, tmp_path: Path, ini: Ini) -> None:
    (shared_folder / "state").mkdir(mode=0o777)
    (shared_folder / "state").chmod(0o777)
    listen = "[sslintercept]\nstate_dir = state\n[listen:proxy]\nendpoint = tcp:0:interface=127.0.0.1\n"
    (shared_folder / "proxy.ini").write_text(listen + cache(shared_folder / "theirs"))
    line = line_of(as_nobody(shared_folder, *START))
    assert line == f"[cache] path: cannot use {shared_folder}/theirs (Permission denied); name another one"
