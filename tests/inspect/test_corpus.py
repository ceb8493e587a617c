"""
How much of what must not leave is found in whatever carries it, and how much of what is found is there.

C{pytest -s tests/inspect/test_corpus.py} prints the table; docs/leak.md tells how it is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed

from sslintercept.inspect.apart import Apart
from sslintercept.inspect.part import Part
from sslintercept.inspect.pieces import Piece
from sslintercept.inspect.shipped.dlp import DlpInspector, DlpOptions
from sslintercept.inspect.verdict import LEAK
from sslintercept.leak.digest import store_secret
from sslintercept.worker.alone import Alone
from sslintercept.worker.wire import Item
from tests.inspect.corpus import CARRIERS, KEY, KINDS, PAPERS, TABLE, registered, sample
from tests.inspect.support import World, a_part, entry

SAMPLES = 120
RECALL, PRECISION = 0.97, 0.95
WEAKER: Mapping[str, tuple[float, float]] = {
    "HTML": (0.85, PRECISION),  # a key whose lines are paragraphs each is none in a page that is read as it is
    "private-key": (0.93, PRECISION),
    "us-ssn": (RECALL, 0.85),  # it has no check digit
}
TOKENS = frozenset(("github-token", "aws-key-id", "stripe-key"))
"""beside the word for one they are passwords, too"""


class Waiting:
    """A worker process that is waited for (L{Apart})."""

    def __init__(self, alone: Alone) -> None:
        self._alone = alone

    def run(self, task: str, meta: Mapping[str, object], content: Sequence[bytes]) -> Deferred[list[Item]]:
        return succeed(self._alone.run(task, meta, b"".join(content)))


class Opening(World):
    """A processor that has parts taken apart in a real worker process."""

    def __init__(self, inspector: DlpInspector, alone: Alone) -> None:
        self._real = Apart(cast(Any, Waiting(alone)))  # Any: a pool, in all that is used of it
        super().__init__(entry(inspector, "leaks"))

    def _apart(self, part: Part, content: Sequence[bytes]) -> Deferred[Sequence[Piece]]:
        return self._real(part, content)


class Tally:
    """How many are there, how many of them are found, and how many are found that are not there."""

    def __init__(self) -> None:
        self.there, self.right, self.wrong = Counter[str](), Counter[str](), Counter[str]()

    def add(self, name: str, kinds: frozenset[str], found: frozenset[str]) -> None:
        self.there[name] += len(kinds)
        self.right[name] += len(kinds & found)
        self.wrong[name] += len(found - kinds)

    def recall(self, name: str) -> float:
        return self.right[name] / self.there[name]

    def precision(self, name: str) -> float:
        return self.right[name] / max(self.right[name] + self.wrong[name], 1)

    def line(self, name: str) -> str:
        shown = f"recall {self.recall(name):7.1%}, precision {self.precision(name):7.1%}"
        return f"{name:22} {self.there[name]:4} there, {shown}"


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> DlpInspector:
    folder: Path = tmp_path_factory.mktemp("registered")
    table, papers = registered()
    for name, content in ((f"{TABLE}.table", table), (f"{PAPERS}.docs", papers), ("leak.key", KEY)):
        store_secret(folder / name, content)
    options = DlpOptions(
        detectors=("payment", "person", "credential"),
        exact=(folder / f"{TABLE}.table",),
        fingerprints=(folder / f"{PAPERS}.docs",),
        key=folder / "leak.key",
        action="report",
    )
    return DlpInspector(options, None)


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    with Alone() as made:
        yield made


@pytest.fixture(scope="module")
def measured(inspector: DlpInspector, alone: Alone) -> tuple[Tally, Tally]:
    """By carrier, and by detector."""
    by_carrier, by_kind = Tally(), Tally()
    for carrier, make in CARRIERS.items():
        for seed in range(SAMPLES):
            text, kinds = sample(seed)
            found = kinds_in(Opening(inspector, alone), *make(text))
            if kinds & TOKENS:
                found -= {"password"} - kinds
            by_carrier.add(carrier, kinds, found)
            for kind in kinds | found:
                by_kind.add(kind, kinds & {kind}, found & {kind})
    return by_carrier, by_kind


def kinds_in(world: World, content: bytes, declared: Mapping[str, Any]) -> frozenset[str]:  # Any: fields of a part
    world.whole(content, a_part(**declared))
    (decision,) = world.decisions
    assert {each.verdict.kind for each in decision.found} <= {LEAK}
    return frozenset(trace.what for each in decision.found for trace in each.verdict.evidence)


@pytest.mark.parametrize("name", CARRIERS)
def test_in_each_carrier_what_is_there_is_found(measured: tuple[Tally, Tally], name: str) -> None:
    tally, _ = measured
    print(f"\n{tally.line(name)}", end="")
    recall, precision = WEAKER.get(name, (RECALL, PRECISION))
    assert tally.recall(name) >= recall
    assert tally.precision(name) >= precision


@pytest.mark.parametrize("name", KINDS)
def test_by_each_detector_what_is_there_is_found(measured: tuple[Tally, Tally], name: str) -> None:
    _, tally = measured
    print(f"\n{tally.line(name)}", end="")
    recall, precision = WEAKER.get(name, (RECALL, PRECISION))
    assert tally.recall(name) >= recall
    assert tally.precision(name) >= precision


def test_detectors_that_nothing_is_there_for_find_next_to_nothing(measured: tuple[Tally, Tally]) -> None:
    _, tally = measured
    others = {name: count for name, count in tally.wrong.items() if name not in KINDS}
    print(f"\nothers: {others}", end="")
    assert sum(others.values()) <= SAMPLES * len(CARRIERS) * 0.01
