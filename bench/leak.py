"""
What looking for leaks costs: CPU for a megabyte of text, in bodies of 16 KiB and in chunks of 1 MiB.

    .venv/bin/python bench/leak.py

Twenty detectors by each engine, and all of them; words and phrases; rows of a table; parts of documents; and the
folding that all of them stand on. Texts are prose, a table of numbers, hex, a language outside ASCII, and beginnings of
secrets in random order. The best of the rounds counts. At the end: Hyperscan's own pass, without Python beside it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from sslintercept.leak.dictionary import Dictionaries, Dictionary
from sslintercept.leak.engine import HyperscanEngine, Mark
from sslintercept.leak.exact import ExactData
from sslintercept.leak.exact import register as register_rows
from sslintercept.leak.fingerprint import Fingerprints
from sslintercept.leak.fingerprint import register as register_documents
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Policy, Scan
from sslintercept.leak.table import TABLE, chosen
from sslintercept.leak.view import Looking

ROUNDS = 2
SIZE = 2**20
SIZES = {"16 KiB": 16 * 1024, "1 MiB": 2**20}
TWENTY = (
    *("card", "iban", "de-tax-id", "fr-nir", "es-dni", "it-codice-fiscale", "us-ssn", "ch-ahv", "br-cpf", "in-aadhaar"),
    *("private-key", "aws-key-id", "github-token", "github-pat", "gitlab-token", "slack-token", "stripe-key"),
    *("google-key", "jwt", "password"),
)
KEY = bytes(32)


def texts() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(1)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(1, 10))) for _ in range(5000)]
    yield "prose", " ".join(chance.choices(words, k=SIZE // 4)).encode()[:SIZE]
    rows = (
        b"%d;order %d;20%02d-%02d-%02d;%d\n"
        % tuple(chance.randrange(most) for most in (10**9, 10 ** chance.randint(3, 17), 99, 12, 28, 10**6))
        for _ in range(SIZE // 20)
    )
    yield "numbers", b"".join(rows)[:SIZE]
    yield "hex", chance.randbytes(SIZE // 2).hex().encode()
    cyrillic = str.maketrans("etaoinshrdlu", "еаоинтсрвлкм")
    yield "Cyrillic", " ".join(chance.choices(words, k=SIZE // 4)).translate(cyrillic).encode()[:SIZE]
    begins = (
        b"4111 1111 ",
        b"eyJaaaaaaaaaaaa.eyJ",
        b"AKIA",
        b"password=",
        b"-----BEGIN ",
        b"xoxb-1-",
        b"DE12",
        b"0",
        b"1 ",
    )
    begins += (b"X1234567", b"ghp_", b"AIza", b"A", b"a", b"_", b"secret", b".", b"-", b"sk_live_", b"github_pat_")
    yield "hostile", b"".join(chance.choices(begins, k=SIZE // 3))[:SIZE]


def looks() -> Iterator[tuple[str, list[Looking]]]:
    chance = random.Random(2)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(5, 12))) for _ in range(3000)]
    yield "folding only", []
    yield "20 detectors, hyperscan", [Patterns(chosen(TWENTY))]
    yield "20 detectors, re", [Patterns(chosen(TWENTY), engine="re")]
    yield f"{len(TABLE)} detectors, hyperscan", [Patterns(tuple(TABLE.values()))]
    yield "dictionary of 1000 terms", [Dictionaries([Dictionary("x", dict.fromkeys(words[:1000], 1), least=10**6)])]
    rows = [(" ".join(chance.choices(words, k=2)), str(chance.randrange(10**9))) for _ in range(50_000)]
    yield "table of 100 000 cells", [ExactData("x", KEY, register_rows(KEY, ("name", "number"), rows).packed)]
    documents = {str(number): [" ".join(chance.choices(words, k=2000)).encode()] for number in range(50)}
    yield "50 documents", [Fingerprints("x", KEY, register_documents(KEY, documents).packed)]


def least(work: Callable[[], None], size: int) -> float:
    """Milliseconds of CPU for a megabyte."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return best * 1e3 / (size / 1e6)


def scan(looking: list[Looking], text: bytes, size: int) -> None:
    """A body for each *size*."""
    for at in range(0, len(text), size):
        one = Scan(Policy(looking))
        one.feed(text[at : at + size])
        one.finish()


def main() -> None:
    all_texts = dict(texts())
    print("ms of CPU for a megabyte, bodies of " + " and of ".join(SIZES))
    print(f"{'':28}" + "".join(f"{name:>16}" for name in all_texts))
    for what, looking in looks():
        row = ""
        for text in all_texts.values():
            costs = [
                least(lambda text=text, size=size, looking=looking: scan(looking, text, size), len(text))
                for size in SIZES.values()
            ]
            row += f"{'  '.join(f'{cost:.1f}' for cost in costs):>16}"
        print(f"{what:28}{row}", flush=True)
    marks = [Mark(each.name, each.mark, each.before, b"" if each.whole else each.after) for each in chosen(TWENTY)]
    engine = HyperscanEngine(marks)
    row = ""
    for text in all_texts.values():
        costs = [
            least(
                lambda text=text, size=size: [engine.places(text[at : at + size]) for at in range(0, SIZE, size)], SIZE
            )
            for size in SIZES.values()
        ]
        row += f"{'  '.join(f'{cost:.1f}' for cost in costs):>16}"
    print(f"{'20 marks, the pass itself':28}{row}")


if __name__ == "__main__":
    main()
