"""What inspectors leave behind and read anew: quarantine, lists, settings; and nobody notices a reload."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.inspect.material import docx, mail, numbers, with_words
from tests.process.carriers import Servers, World, fetched, ftp_up, http_put, refused, smtp
from tests.process.conftest import ProxyMaker
from tests.process.loading import load
from tests.process.origins import BODY_NAME, body
from tests.process.tools import ours, run, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix, Dovecot and vsftpd are started by root only")

CARD = numbers(1, valid=True, seed=11)[0]
LEAKS = """
[inspection]
hold = 8MiB
[inspect:leaks]
use = dlp
match = direction:upload
"""
LISTS = """
[sites:big]
path = big.txt
category = shady
[inspect:sites]
use = list
match = direction:request
categories = shady
"""
MILLION = 1_000_000


@pytest.fixture(scope="module")
def world(module_proxy: ProxyMaker, ini: Callable[[str], str], servers: Servers) -> Iterator[World]:
    """A gateway that keeps what leaks."""
    made = World(module_proxy, ini, servers, LEAKS + "action = quarantine\n")
    yield made
    made.told.none()


@pytest.mark.parametrize("way", ["http", "ftp", "smtp"])
def test_what_is_kept_in_quarantine_comes_out_as_it_was_and_is_for_nobody_else(world: World, way: str) -> None:
    if way == "smtp":
        content = mail("Here it is.", attachments=[("a.docx", "application/octet-stream", docx(with_words(CARD)))])
        refused(smtp, smtp(world, content), event := world.told.one())
    elif way == "ftp":
        content = with_words(CARD).encode()
        refused(ftp_up, ftp_up(world, content), event := world.told.one())
    else:
        content = with_words(CARD).encode() + body(300_000).hex().encode()
        refused(http_put, http_put(world, content), event := world.told.one())
    assert (event["act"], event["quarantine"]) == ("quarantine", event["id"])
    folder, to = world.gateway.folder, world.gateway.folder / f"copy-{way}"
    command = [ours("sslintercept"), "events", "quarantine", event["id"], "--to", str(to), "--config", "proxy.ini"]
    done = run(*command, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    kept = to.read_bytes()
    assert kept.endswith(content)
    assert len(kept) - len(content) < 50  # the mark of a mail
    if way != "smtp":
        assert event["sha256"] == sha256(content).hexdigest()
    place = world.state / "quarantine"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    files = [path for path in place.rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in [*files, to, world.state / "events.db"]} == {0o600}
    assert all(CARD.encode() not in path.read_bytes() for path in files if event["id"] not in path.name)


def test_the_command_lists_the_same_events_as_a_process_of_its_own(world: World) -> None:
    done = run(ours("sslintercept"), "events", "--json", "--config", "proxy.ini", folder=world.gateway.folder)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(world.told.all())


def test_inspectors_change_under_load_and_nobody_notices(world: World) -> None:
    text = with_words(CARD).encode()
    with load(world):
        with world.under(""):
            assert http_put(world, text).arrived == text
        with world.under(LEAKS + "action = report\n"):
            assert http_put(world, text).arrived == text
            assert world.told.one()["act"] == "report"
        with world.under(LEAKS.replace("leaks", "others") + "action = block\n"):
            refused(http_put, http_put(world, text), event := world.told.one())
            assert (event["act"], event["inspector"]) == ("block", "others")
    refused(http_put, http_put(world, text), event := world.told.one())
    assert event["act"] == "quarantine"


def replaced(path: Path, lines: Iterator[str]) -> None:
    """As who writes lists should do it: write beside, and rename."""
    beside = path.with_suffix(".new")
    with beside.open("w") as file:
        file.writelines(f"{line}\n" for line in lines)
    beside.rename(path)


def names(count: int) -> Iterator[str]:
    """Domains, all different, in no order."""
    for at in range(count):
        number = at * 2_654_435_761 % 2**32
        yield f"{number:08x}.{('shop', 'news', 'cloud', 'mail')[at % 4]}-{number % 977}.test"


def test_a_list_of_a_million_domains_is_read_under_load_and_nobody_notices(world: World) -> None:
    path = world.gateway.folder / "big.txt"
    replaced(path, iter(["nothing-yet.example"]))
    shelf = world.servers.plain
    with world.under(LISTS):
        said = "list big: "
        wait_for("the list", lambda: said in world.gateway.said())
        assert fetched(world, shelf.lay(b"fine")).arrived == b"fine"
        with load(world) as clients:
            replaced(path, (name for name in (*names(MILLION), "another-name.test")))
            begun, slowest, before = time.monotonic(), 0.0, clients.answers
            world.reload(world.inspection)
            while world.gateway.said().count(said) < 2:
                assert time.monotonic() < begun + 120
                asked = time.monotonic()
                assert fetched(world, shelf.lay(b"fine")).arrived == b"fine"
                slowest = max(slowest, time.monotonic() - asked)
                time.sleep(0.1)
            assert clients.answers > before
        assert slowest < 5
        listed = shelf.lay(b"fine").replace(BODY_NAME, "another-name.test")
        came = fetched(world, listed)
        event = world.told.one()
        refused(http_put, came, event)
        assert (event["kind"], event["name"], event["host"]) == ("site", "big:shady", "another-name.test")
        last = list(names(MILLION))[-1]
        came = fetched(world, f"http://www.{last}/")
        refused(http_put, came, event := world.told.one())
        assert event["host"] == f"www.{last}"
