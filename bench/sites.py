"""
What lists of sites cost: memory and time of a million domains, and how much the reactor notices of loading them.

    .venv/bin/python bench/sites.py [DOMAINS]

Look-ups are of CPU time, the best of batches. "latest" is the most that a heartbeat of the reactor, due every 2 ms,
was kept waiting while the list was read, "of 100 late" how many were by more than 5 ms: in a process of its own, as it
is done, and on a thread, as it is not.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from twisted.internet import epollreactor
from twisted.internet.defer import Deferred

epollreactor.install()

from twisted.internet import reactor as _reactor  # noqa: E402 (after the choice)
from twisted.internet.threads import deferToThread  # noqa: E402

from sslintercept.sites.compile import Compilation, compiled  # noqa: E402
from sslintercept.sites.image import Image  # noqa: E402
from sslintercept.sites.listing import ListSettings  # noqa: E402
from sslintercept.sites.look import SiteList, Sites  # noqa: E402

reactor: Any = _reactor  # Any: the module is an object with every reactor interface
ROUNDS = 5
COUNT = 20_000
BATCH = 1000
BEAT = 0.002
LATE = 0.005
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
ENDS = (".com", ".com", ".net", ".org", ".info", ".ru", ".de", ".co.uk", ".example-hosting.com")


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def made(count: int) -> list[str]:
    """As many domains, always the same."""
    chance = random.Random(1)
    names: set[str] = set()
    while len(names) < count:
        label = "".join(chance.choices(LETTERS, k=chance.randrange(5, 18)))
        names.add(label + chance.choice(ENDS))
    return sorted(names)


def cost(ask: Callable[[str], object], names: list[str]) -> float:
    """µs of CPU for one, of the best batch."""
    best = float("inf")
    for _ in range(ROUNDS):
        for begin in range(0, len(names), BATCH):
            batch = names[begin : begin + BATCH]
            cpu = time.process_time()
            for name in batch:
                ask(name)
            best = min(best, (time.process_time() - cpu) / len(batch) * 1e6)
    return best


async def beaten(what: str, work: Callable[[], Any]) -> Any:  # Any: whatever *work* gives
    """Do *work* on a thread, and print how late each heartbeat was meanwhile."""
    late: list[float] = []
    due = begun = reactor.seconds()

    def beat() -> None:
        nonlocal due, heart
        late.append(max(0.0, reactor.seconds() - due))
        due = reactor.seconds() + BEAT
        heart = reactor.callLater(BEAT, beat)

    heart = reactor.callLater(0, beat)
    result = await deferToThread(work)
    heart.cancel()
    often = 100 * sum(each > LATE for each in late) / len(late)
    print(f"{what:26}{reactor.seconds() - begun:8.1f} s{max(late) * 1e3:10.1f} ms{often:11.1f}")
    return result


async def load(folder: Path, names: list[str]) -> Image:
    """Read the list in every way, and print what that costs."""
    path = folder / "domains"
    path.write_text("\n".join(names) + "\n")
    settings = ListSettings("made", path)
    print(f"{'while reading':26}{'took':>10}{'latest':>13}{'of 100 late':>11}")
    await beaten("nothing", lambda: time.sleep(3))
    before = resident()
    image: Image = await beaten("in a process of its own", Compilation(settings).run)
    for name in names:
        image.find(name.encode(), crc32(name.encode()))  # so that all of it is in memory
    print(f"{'':26}{image.size / 2**20:8.1f} MiB image, {(resident() - before) / 2**20:.1f} MiB resident")
    await beaten("on a thread", lambda: compiled(settings))
    return image


def look(image: Image, names: list[str]) -> None:
    """Print what look-ups cost."""
    chance = random.Random(2)
    one = Sites((SiteList("made", image),))
    ten = Sites(tuple(SiteList(f"list {n}", image) for n in range(10)))
    listed = chance.sample(names, COUNT)
    cases = {
        "not listed, www.NAME.org": [f"www.nowhere{n}.org" for n in range(COUNT)],
        "not listed, a.b.c.NAME.org": [f"a.b.c.nowhere{n}.org" for n in range(COUNT)],
        "not listed, NAME.co.uk": [f"nowhere{n}.co.uk" for n in range(COUNT)],
        "listed, NAME": listed,
        "listed, www.NAME": ["www." + name for name in listed],
        "not listed, address": [f"192.0.{n >> 8 & 255}.{n & 255}" for n in range(COUNT)],
    }
    print(f"\n{'µs of CPU':36}{'1 list':>8}{'10 lists':>10}")
    for what, asked in cases.items():
        print(f"{what:36}{cost(one.host, asked):8.2f}{cost(ten.host, asked):10.2f}")
    known = dict.fromkeys(name.encode() for name in names)
    for what in ("not listed, www.NAME.org", "listed, www.NAME"):
        print(f"{'  a dict, ' + what:36}{cost(partial(plain, known), cases[what]):8.2f}")
    urls = cases["not listed, www.NAME.org"]
    for what, target in (("URL, not listed", b"/a/b/c.html"), ("URL, not listed, %-encoded", b"/a/%62/c.html?d=%65")):
        first, second = (partial(url, sites, target) for sites in (one, ten))
        print(f"{what:36}{cost(first, urls):8.2f}{cost(second, urls):10.2f}")


def plain(known: dict[bytes, None], name: str) -> bool:
    """What a look-up by labels costs at least, with nothing said of the line and no spelling changed."""
    key = name.encode()
    begin = 0
    while key[begin:] not in known:
        if not (begin := key.find(b".", begin) + 1):
            return False
    return True


def url(sites: Sites, target: bytes, name: str) -> object:
    return sites.url("https", name, 443, target)


def main(count: int) -> None:
    """Measure, and print tables."""
    names = made(count)
    images: list[Image] = []

    def begin() -> None:
        loading = Deferred.fromCoroutine(load(Path(folder), names))
        loading.addCallbacks(images.append, lambda reason: print("failed:", reason, file=sys.stderr))
        loading.addCallback(lambda _: reactor.stop())

    with tempfile.TemporaryDirectory() as folder:
        reactor.callWhenRunning(begin)
        reactor.run()
    for image in images:
        look(image, names)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
