"""
Disks that fail under the cache, and processes that are killed: an object may be lost, a request never, and what is
served is right.

Failures are real ones: a limit of the kernel for file sizes, a full file system in memory, and an ext4 that is shut
down under the process (its ioctl for that gives EIO from then on; there need not be a device mapper for it).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import resource
import struct
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from sslintercept.store.layout import DOCUMENT_HEADER, MAGIC_DOCUMENT, PAGE
from tests.process.conftest import ProxyMaker
from tests.process.kept import FRESH, KeptOrigin, client, mounted, recovered, said, stat, told
from tests.process.running import Proxy
from tests.process.tools import run, tool, wait_for

MIB = 2**20
SPAN = "cache-0.span"
ROUNDS = 6
ONLY = {"Cache-Control": "only-if-cached"}
SIZES = (200, 5_000, 40_000, 65_536, 65_537, 300_000, MIB, MIB + 1, 2_500_000)
SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN; with L{ABRUPTLY} nothing is written any more"""
ABRUPTLY = 2


def cache(path: Path, more: str = "") -> str:
    """Settings of a cache without memory: everything is read from the disk."""
    return f"[cache]\npath = {path}\nsize = 64MiB\nmemory = 0KiB\n{more}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the span of L{gateway} is."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def gateway(module_proxy: ProxyMaker, folder: Path) -> Proxy:
    """A proxy whose disk is spoiled again and again."""
    return recovered(module_proxy(cache(folder)))


def settled(proxy: Proxy) -> None:
    """Wait until everything went to the disk; until then it is read from memory."""
    wait_for("everything being written", lambda: stat(proxy)["waiting"] == 0)


# kill -9


class Crowd:
    """
    Clients that ask for one new thing after the other until their proxy is gone.

    @ivar got: URLs whose content has come whole.
    """

    def __init__(self, proxy: Proxy, origin: KeptOrigin, round_: int) -> None:
        self._proxy, self._origin, self._round = proxy, origin, round_
        self.got: list[str] = []
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(4)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        drawn = random.Random(f"{self._round} {number}")
        with client(self._proxy) as asking, suppress(httpx.TransportError):
            for count in range(1000):
                url = self._origin.made(drawn.choice(SIZES), f"{self._round}-{number}-{count}")
                found = asking.get(url)
                if found.content != self._origin.content(url):
                    self.wrong.append(url)
                self.got.append(url)

    def join(self) -> None:
        """Wait for all of them."""
        for thread in self._threads:
            thread.join()


def kept_of(proxy: Proxy, origin: KeptOrigin, urls: list[str]) -> set[str]:
    """Which of these a proxy has, each of them proved to be right."""
    found = set()
    with client(proxy) as asking:
        for url in urls:
            answer = asking.get(url, headers=ONLY)
            assert answer.status_code in (200, 504)
            if answer.status_code == 200:
                assert answer.content == origin.content(url), url
                found.add(url)
    return found


def test_what_a_killed_process_has_left_is_intact(proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path) -> None:
    drawn = random.Random("kill")
    urls: list[str] = []
    begins: dict[str, int] = {}
    written, there = 0, set[str]()
    for round_ in range(ROUNDS):
        made = recovered(proxy(cache(tmp_path)))
        # What was read from the disk already is there again, unless the log may have come round to it.
        sure = {url for url in there if begins[url] > written - 48 * MIB}
        there = kept_of(made, plain, [url for url in urls if begins[url] > written - 64 * MIB])
        assert len(sure & there) >= len(sure) * 0.9
        assert sure or round_ < 2
        crowd = Crowd(made, plain, round_)
        enough = drawn.randrange(8 * MIB, 20 * MIB)
        counted = [0]

        def much(made: Proxy = made, counted: list[int] = counted, enough: int = enough) -> bool:
            counted[0] = stat(made)["span_bytes_written"]
            return counted[0] >= enough

        wait_for("so much being written", much)
        made.kill()
        crowd.join()
        assert not crowd.wrong
        begins |= dict.fromkeys(crowd.got, written)
        written += counted[0]
        urls += crowd.got
    assert written > 64 * MIB
    assert len(kept_of(recovered(proxy(cache(tmp_path))), plain, urls)) > 20


# writing


def test_what_the_disk_does_not_take_is_asked_for_again(gateway: Proxy, plain: KeptOrigin) -> None:
    before = stat(gateway)
    no_limit = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    url = plain.made(5000, "refused")
    try:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (512 * 1024, no_limit[1]))
        assert gateway.curl(url).body == plain.content(url)
        wait_for("a failure", lambda: stat(gateway)["span_write_failed"] == before["span_write_failed"] + 1)
    finally:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, no_limit)
    assert [gateway.curl(url).body for _ in range(2)] == [plain.content(url)] * 2
    assert (len(plain.asked), stat(gateway)["span_io_errors"]) == (2, before["span_io_errors"] + 1)
    assert "the disk failed: File too large; documents are lost, requests are not" in gateway.said()


def test_a_disk_that_is_full_takes_the_span_out_of_service_and_no_request(
    proxy: ProxyMaker, gateway: Proxy, folder: Path, plain: KeptOrigin, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=16m", "none") as small:
        # A span that is all holes, in less room than it needs.
        with (folder / SPAN).open("rb") as span, (small / SPAN).open("wb") as copy:
            copy.write(span.read(PAGE))
            for file in (span, copy):
                file.seek(64 * MIB - PAGE)
            copy.write(span.read(PAGE))
        made = recovered(proxy(cache(small)))
        made.expected.append("#error")
        with client(made) as asking:
            for number in range(40):
                url = plain.made(MIB, f"full-{number}")
                assert asking.get(url).content == plain.content(url)
        wait_for("the span out of service", lambda: "spans 0 of 1" in told(made))
        assert "5 failures in a row, the last of them: No space left on device" in made.said()
        assert made.curl(url).body == plain.content(url)
        made.stop()


def test_a_span_for_which_there_is_no_room_is_not_made(proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=16m", "none") as small:
        made = proxy(cache(small))
        made.expected.append("#error")
        wait_for("a word", lambda: "free space, or make it smaller" in made.said())
        url = plain.made(5000, "no-room")
        assert [made.curl(url).body for _ in range(2)] == [plain.content(url)] * 2
        made.stop()


# reading


def test_a_disk_that_is_gone_loses_what_it_had_until_it_is_back(
    proxy: ProxyMaker, plain: KeptOrigin, tmp_path: Path
) -> None:
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    run(tool("mkfs.ext4"), "-q", "-F", image, folder=tmp_path)
    urls = [plain.made(size, f"gone-{number}") for number, size in enumerate(SIZES * 2)]
    with mounted(disk, "-o", "loop", str(image)):
        made = recovered(proxy(cache(disk)))
        made.expected.append("#error")
        assert [made.curl(url).body for url in urls] == [plain.content(url) for url in urls]
        settled(made)
        # The file system, too, has to know of it.
        assert run(tool("sync"), "-f", disk, folder=tmp_path).returncode == 0
        opened = os.open(disk, os.O_RDONLY)
        fcntl.ioctl(opened, SHUTDOWN, struct.pack("I", ABRUPTLY))
        os.close(opened)
        plain.asked.clear()
        for url in urls:
            assert made.curl(url).body == plain.content(url)
        assert len(plain.asked) == len(urls)
        assert "the disk failed: Input/output error" in made.said()
        assert "spans 0 of 1" in told(made)
        made.stop()
    disk.rmdir()
    with mounted(disk, "-o", "loop", str(image)):
        made = recovered(proxy(cache(disk)))
        assert kept_of(made, plain, urls) == set(urls)
        made.stop()


def place(span: Path, content: bytes) -> int:
    """Where a content begins in a span."""
    with span.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        found = memory.find(content[:64])
        assert found > 0
        return found


def header_before(span: Path, at: int) -> int:
    """Where the document begins that content is in."""
    with span.open("rb") as file:
        file.seek(at - 4096)
        return at - 4096 + file.read(4096).rindex(MAGIC_DOCUMENT)


def flip(span: Path, at: int) -> None:
    """One bit is another one."""
    with span.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("what", ["content", "header", "fields"])
def test_a_flipped_bit_costs_the_object_and_nobody_sees_it(
    gateway: Proxy, folder: Path, plain: KeptOrigin, what: str
) -> None:
    urls = [plain.made(size, what, FRESH, "X-Flipped=fields") for size in (5_000, 60_000, 900_000)]
    urls.append(plain.made(6_000, what))
    for url in urls:
        assert gateway.curl(url).body == plain.content(url)
    settled(gateway)
    span, before = folder / SPAN, stat(gateway)["span_damaged"]
    for url in urls[:-1]:
        at = place(span, plain.content(url))
        begin = header_before(span, at)
        flip(span, {"content": at + 1000, "header": begin + 30, "fields": begin + DOCUMENT_HEADER + 8}[what])
    assert [gateway.curl(url).body for url in urls] == [plain.content(url) for url in urls]
    assert len(plain.asked) == len(urls) + 3
    assert (stat(gateway)["span_damaged"], "look at the disk" in gateway.said()) == (before + 3, True)
    found = [gateway.curl(url) for url in urls]
    assert [one.body for one in found] == [plain.content(url) for url in urls]
    assert all("; hit" in said(one) for one in found)


def test_a_bit_that_flips_behind_the_first_fragment_cuts_the_answer_that_has_begun_and_no_other(
    gateway: Proxy, folder: Path, plain: KeptOrigin
) -> None:
    url = plain.made(3 * MIB, "late")
    expected = plain.content(url)
    assert gateway.curl(url).body == expected
    settled(gateway)
    with (folder / SPAN).open("rb") as file:
        third = file.read().rindex(expected[2 * MIB : 2 * MIB + 100_000])
    flip(folder / SPAN, third + 1000)
    cut = gateway.curl(url)
    assert (cut.code, cut.body, len(plain.asked)) == (18, expected[: 2 * MIB], 1)
    assert [gateway.curl(url).body for _ in range(2)] == [expected] * 2
    assert len(plain.asked) == 2


def test_with_a_strong_tag_the_origin_completes_what_a_flipped_bit_has_spoilt(
    gateway: Proxy, folder: Path, plain: KeptOrigin
) -> None:
    url = plain.made(3 * MIB, "completed", "tag")
    expected = plain.content(url)
    assert gateway.curl(url).body == expected
    settled(gateway)
    with (folder / SPAN).open("rb") as file:
        third = file.read().rindex(expected[2 * MIB : 2 * MIB + 100_000])
    flip(folder / SPAN, third + 1000)
    answer = gateway.curl(url)
    assert (answer.code, answer.body, len(plain.asked)) == (0, expected, 2)


def test_verify_removes_what_is_damaged(gateway: Proxy, folder: Path, plain: KeptOrigin) -> None:
    urls = [plain.made(5_000, f"verified-{number}") for number in range(5)]
    for url in urls:
        gateway.curl(url)
    settled(gateway)
    assert told(gateway, "verify")[-1].endswith(" damaged 0")
    for url in urls[:2]:
        flip(folder / SPAN, place(folder / SPAN, plain.content(url)))
    lines = told(gateway, "verify")
    assert ["its content is damaged" in line for line in lines] == [True, True, False]
    assert lines[-1].endswith(" damaged 2")
    assert told(gateway, "verify")[-1].endswith(" damaged 0")
    assert kept_of(gateway, plain, urls) == set(urls[2:])


def test_a_file_that_is_cut_short_under_the_process_is_grown_again(
    gateway: Proxy, folder: Path, plain: KeptOrigin
) -> None:
    urls, before = [plain.made(size, "cut") for size in SIZES], stat(gateway)["span_damaged"]
    for url in urls:
        gateway.curl(url)
    settled(gateway)
    os.truncate(folder / SPAN, MIB)
    assert [gateway.curl(url).body for url in urls] == [plain.content(url) for url in urls]
    assert len(plain.asked) == 2 * len(urls)
    assert kept_of(gateway, plain, urls) == set(urls)
    assert stat(gateway)["span_damaged"] >= before + len(urls)
