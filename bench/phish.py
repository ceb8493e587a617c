"""
What telling phishing costs: CPU for a mail of 30 KB and a page of 50 KB, read and judged, and for a look-up of a host.

    .venv/bin/python bench/phish.py

Reading is what a worker does, judging what the gateway's own process does. Brands are two hundred made names. The best
of the rounds counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from email.message import EmailMessage

from sslintercept.phish.judge import judge
from sslintercept.phish.lookalike import Brands
from sslintercept.phish.observed import all_parsed
from sslintercept.phish.read import read
from sslintercept.phish.tag import marks, tagged

ROUNDS = 5
TIMES = 20
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def name(chance: random.Random) -> str:
    return "".join(chance.choices(LETTERS, k=chance.randint(4, 14)))


def html(chance: random.Random, size: int) -> str:
    """A newsletter: paragraphs with links to some forty hosts, pictures, styles."""
    hosts = [f"www.{name(chance)}.com" for _ in range(40)]
    made = "<html><head><title>News</title><style>p{margin:0}</style></head><body>"
    while len(made) < size:
        host = chance.choice(hosts)
        words = " ".join(name(chance) for _ in range(12))
        made += f'<table><tr><td><p style="color:#333">{words} <a href="https://{host}/{name(chance)}">{host}</a></p>'
        made += f'<img src="https://{host}/{name(chance)}.png"></td></tr></table>\n'
    return made + "<form action='/login'><input type=password name=p></form></body></html>"


def mail(chance: random.Random, size: int) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "News <news@shop.example>", "bob@example.org", "News"
    message.set_content(" ".join(name(chance) for _ in range(size // 40)))
    message.add_alternative(html(chance, size * 3 // 5), subtype="html")
    return message.as_bytes().replace(b"\n", b"\r\n")


def least(work: Callable[[], object], times: int = TIMES) -> float:
    """Milliseconds of CPU for one time."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - begun)
    return best * 1e3 / times


def main() -> None:
    chance = random.Random(1)
    brands = Brands(f"{name(chance)}.com" for _ in range(200))
    contents = {
        "mail": (mail(chance, 30_000), {"kind": "mail"}, ""),
        "page": (html(chance, 50_000).encode(), {"kind": "page", "url": "https://shop.example/"}, "shop.example"),
    }
    print(f"{'':8}{'bytes':>8}{'seen':>6}{'read ms':>10}{'judge ms':>10}{'first ms':>10}")
    for kind, (content, meta, host) in contents.items():
        metas = [item.meta for item in read(meta, content)]

        def judged(metas: list[dict[str, object]] = metas, host: str = host) -> object:
            return judge(all_parsed(metas), brands, lambda host: False, lambda *asked: None, host=host)

        def first(judged: Callable[[], object] = judged) -> object:
            brands._known.clear()
            return judged()

        costs = least(lambda meta=meta, content=content: list(read(meta, content))), least(judged), least(first)
        print(f"{kind:8}{len(content):8}{len(metas):6}" + "".join(f"{cost:10.2f}" for cost in costs))
    content = contents["mail"][0]
    print(f"tag a mail: {least(lambda: tagged(content, '[SUSPICIOUS]', [marks(75, ['sender-alike'])])):.3f} ms")
    hosts = [f"www.{name(chance)}.{chance.choice(('com', 'co.uk', 'de'))}" for _ in range(2000)]

    def look_up() -> None:
        brands._known.clear()
        for host in hosts:
            brands.find(host)

    cold = least(look_up, 1) * 1e3 / len(hosts)
    warm = least(lambda: [brands.find(host) for host in hosts], 1) * 1e3 / len(hosts)
    print(f"a host among 200 brands: {cold:.1f} µs the first time, {warm:.2f} µs again")
    begun = time.process_time()
    Brands(f"{name(chance)}.com" for _ in range(200))
    print(f"200 brands made ready: {(time.process_time() - begun) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
