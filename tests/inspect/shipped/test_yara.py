"""Rules of YARA: read, compiled, and shown to parts in real worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import succeed

from sslintercept.errors import ConfigError, EngineError
from sslintercept.inspect.inspector import Inspector
from sslintercept.inspect.part import Part
from sslintercept.inspect.shipped import yara
from sslintercept.inspect.shipped.yara import YaraInspector, YaraOptions
from sslintercept.inspect.verdict import Act, Evidence
from sslintercept.testing.loop import RealLoop
from sslintercept.worker.pool import Limits, Workers
from sslintercept.worker.process import Process
from sslintercept.worker.wire import Item
from tests.inspect.shipped.support import Shown, part, waited

RULES = """
import "pe"
rule Eicar : test harmless {
    meta:
        author = "us"
        severity = "low"
        description = "the test file of EICAR"
    strings:
        $text = "EICAR-STANDARD"
        $own = { 58 35 4F }
    condition: all of them
}
private rule Helper { strings: $a = "zzz" condition: $a }
rule Worse { meta: severity = "critical" strings: $w = "worse" condition: #w >= 2 and not Helper }
"""
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


class Engines:
    def __init__(self, workers: Workers) -> None:
        self.workers = workers


@pytest.fixture
def loop() -> Iterator[RealLoop]:
    made = RealLoop()
    yield made
    assert made.leftovers() == []
    made.close()


@pytest.fixture
def workers(loop: RealLoop) -> Iterator[Workers]:
    made = Workers(loop.handler, 1, Limits(seconds=20.0))
    yield made
    gone: Any = made.close()
    loop.wait_for(gone)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "own.yar"
    path.write_text(RULES)
    return path


def shown(loop: RealLoop, inspector: Inspector, body: bytes, of: Part | None = None) -> Shown:
    return waited(loop, Shown(inspector, of or part(), body))


class TestFinding:
    def test_a_rule_that_matches_is_told_with_its_places_and_without_content(
        self, loop: RealLoop, workers: Workers, rules: Path
    ) -> None:
        inspector = YaraInspector(YaraOptions(rules), Engines(workers))
        told = shown(loop, inspector, b"..." + EICAR, part(name="a.com")).verdict
        assert told is not None
        assert (told.act, told.kind, told.name, told.engine) == (Act.BLOCK, "malware", "Eicar", "yara")
        assert told.reason == "rule Eicar, severity low, tags test harmless: the test file of EICAR"
        assert told.evidence == (
            Evidence("Eicar", told.reason, "a.com"),
            Evidence("Eicar $text", "", "a.com", 31, 14),
            Evidence("Eicar $own", "", "a.com", 3, 3),
        )
        assert "STANDARD" not in str(told)

    def test_what_no_rule_matches_passes(self, loop: RealLoop, workers: Workers, rules: Path) -> None:
        inspector = YaraInspector(YaraOptions(rules), Engines(workers))
        assert shown(loop, inspector, b"harmless").verdict is None
        assert shown(loop, inspector, b"").verdict is None

    def test_the_worst_rule_gives_its_name(self, loop: RealLoop, workers: Workers, rules: Path) -> None:
        inspector = YaraInspector(YaraOptions(rules), Engines(workers))
        told = shown(loop, inspector, EICAR + b"worse worse").verdict
        assert told is not None
        assert told.name == "Worse"
        assert {each.what.partition(" ")[0] for each in told.evidence} == {"Eicar", "Worse"}

    def test_a_match_over_the_border_of_two_pieces_is_found(
        self, loop: RealLoop, workers: Workers, rules: Path
    ) -> None:
        inspector = YaraInspector(YaraOptions(rules), Engines(workers))
        for cut in range(0, len(EICAR), 7):
            one = Shown(inspector, part())
            one.write(EICAR[:cut])
            one.write(EICAR[cut:])
            one.finish()
            assert waited(loop, one).verdict is not None

    @pytest.mark.parametrize(("word", "act"), [("quarantine", Act.QUARANTINE), ("report", Act.REPORT)])
    def test_the_section_says_what_becomes_of_it(
        self, loop: RealLoop, workers: Workers, rules: Path, word: str, act: Act
    ) -> None:
        inspector = YaraInspector(YaraOptions(rules, action=word), Engines(workers))
        told = shown(loop, inspector, EICAR).verdict
        assert told is not None
        assert told.act is act
        assert inspector.keeps is (act is Act.QUARANTINE)

    def test_thousands_of_places_are_bounded(self, loop: RealLoop, workers: Workers, rules: Path) -> None:
        rules.write_text("".join(f'rule R{n} {{ strings: $a = "x" condition: #a > 5000 }}\n' for n in range(200)))
        told = shown(loop, YaraInspector(YaraOptions(rules), Engines(workers)), b"x" * 100_000).verdict
        assert told is not None
        assert len(told.evidence) == 64

    def test_a_rule_that_takes_too_long_is_no_verdict(self, loop: RealLoop, workers: Workers, rules: Path) -> None:
        rules.write_text(
            "rule Slow { condition: for all i in (0..1000000000) : (for all j in (0..1000000) : (uint8(i) + j >= 0)) }"
        )
        inspector = YaraInspector(YaraOptions(rules, scan_time=1.0), Engines(workers))
        assert shown(loop, inspector, bytes(1000)).fault == "hangs"

    def test_a_look_that_nobody_waits_for_ends(self, loop: RealLoop, workers: Workers, rules: Path) -> None:
        one = Shown(YaraInspector(YaraOptions(rules), Engines(workers)), part(), EICAR)
        one.look.abort()
        assert not one.over

    def test_no_process_is_no_verdict(
        self, loop: RealLoop, workers: Workers, rules: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inspector = YaraInspector(YaraOptions(rules), Engines(workers))
        monkeypatch.setattr(Process, "__init__", _no_process)
        assert shown(loop, inspector, EICAR).fault == "unreachable"


def _no_process(*_: object) -> None:
    raise OSError(11, "none left")


class TestRules:
    def test_files_of_a_folder_are_read_with_names_of_their_own(
        self, loop: RealLoop, workers: Workers, rules: Path
    ) -> None:
        (rules.parent / "below").mkdir()
        (rules.parent / "below" / "more.yara").write_text('rule Eicar { strings: $a = "again" condition: $a }')
        (rules.parent / "notes.txt").write_text("no rule")
        inspector = YaraInspector(YaraOptions(rules.parent), Engines(workers))
        told = shown(loop, inspector, b"again").verdict
        assert told is not None
        assert told.name == "Eicar"

    def test_files_may_include_others(self, loop: RealLoop, workers: Workers, rules: Path) -> None:
        (rules.parent / "main.rules").write_text('include "own.yar"')
        inspector = YaraInspector(YaraOptions(rules.parent / "main.rules"), Engines(workers))
        assert shown(loop, inspector, EICAR).verdict is not None

    def test_other_rules_are_another_version(self, loop: RealLoop, workers: Workers, rules: Path) -> None:
        before = YaraInspector(YaraOptions(rules), Engines(workers))
        again = YaraInspector(YaraOptions(rules), Engines(workers))
        rules.write_text('rule Other { strings: $a = "other" condition: $a }')
        after = YaraInspector(YaraOptions(rules), Engines(workers))
        assert before.tag == again.tag != after.tag
        for _ in range(2):
            assert shown(loop, before, EICAR).verdict is not None
            assert shown(loop, after, EICAR).verdict is None
            assert shown(loop, after, b"other").verdict is not None

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            (
                "rule A { condition: foo }",
                "own.yar:1:21: unknown identifier `foo`, this identifier has not been declared",
            ),
            ("rule A { strings: $a = /(/ condition: $a }", "own.yar:1:25: invalid regular expression, unclosed group"),
            ("nonsense", "own.yar:1:1: syntax error, expecting"),
            ('include "missing.yar"', "own.yar:1:1: include file not found"),
            ('import "nothing" rule A { condition: true }', "own.yar:1:1: unknown module `nothing`"),
        ],
    )
    def test_a_mistake_is_told_in_one_line_with_its_place(
        self, workers: Workers, rules: Path, source: str, says: str
    ) -> None:
        rules.write_text(source)
        with pytest.raises(ConfigError) as raised:
            YaraInspector(YaraOptions(rules), Engines(workers))
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_files_that_cannot_be_read_are_told(self, workers: Workers, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read .*missing\.yar"):
            YaraInspector(YaraOptions(tmp_path / "missing.yar"), Engines(workers))
        with pytest.raises(ConfigError, match="no rules in"):
            YaraInspector(YaraOptions(tmp_path), Engines(workers))
        (tmp_path / "a.yar").write_bytes(b"\xff")
        with pytest.raises(ConfigError, match="not UTF-8"):
            YaraInspector(YaraOptions(tmp_path), Engines(workers))

    def test_too_many_rules_are_told(self, workers: Workers, rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(yara, "MOST_SOURCE", 10)
        with pytest.raises(ConfigError, match="more than 10 bytes"):
            YaraInspector(YaraOptions(rules), Engines(workers))


GOOD: dict[str, object] = {
    "rule": "A",
    "file": "a.yar",
    "tags": ["t"],
    "severity": "",
    "description": "",
    "strings": [["$a", 0, 1]],
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": 1},
        {"file": None},
        {"tags": "t"},
        {"severity": []},
        {"description": {}},
        {"strings": "x"},
        {"strings": [["$a", 0]]},
        {"strings": [["$a", True, 1]]},
        {"strings": [["$a", -1, 1]]},
        {"strings": [["$a", 0, 2**60]]},
        {"strings": [[1, 0, 1]]},
    ],
)
def test_what_a_worker_that_was_taken_over_says_is_not_believed(wrong: dict[str, object]) -> None:
    assert yara.read(GOOD) is not None
    assert yara.read({**GOOD, **wrong}) is None
    assert yara.read({}) is None


def test_what_a_rule_says_of_itself_stays_on_one_line() -> None:
    match = yara.read({**GOOD, "description": "a\n\x1b[2J", "rule": "x" * 10_000})
    assert match is not None
    assert match.words.isprintable()
    assert len(match.words) < 2000


def test_rubbish_of_a_worker_is_no_verdict(
    loop: RealLoop, workers: Workers, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = YaraInspector(YaraOptions(rules), Engines(workers))
    monkeypatch.setattr(workers, "run", lambda *_: succeed([Item({"rule": 1}, b"")]))
    assert shown(loop, inspector, EICAR).fault == "rubbish"


class TestMemory:
    """What is kept of parts while they come."""

    @pytest.fixture
    def inspector(self, monkeypatch: pytest.MonkeyPatch, workers: Workers, rules: Path) -> YaraInspector:
        monkeypatch.setattr(yara, "MOST_CONTENT", 1000)
        monkeypatch.setattr(yara, "MOST_KEPT", 1500)
        return YaraInspector(YaraOptions(rules), Engines(workers))

    def test_a_part_above_what_a_worker_takes_is_not_kept(self, inspector: YaraInspector) -> None:
        one = Shown(inspector, part())
        one.write(bytes(900))
        assert inspector.room.taken == 900
        one.write(bytes(101))
        assert inspector.room.taken == 0
        assert isinstance(one.error, EngineError)
        assert one.error.fault == "too_big"

    def test_all_parts_together_are_bounded(self, loop: RealLoop, inspector: YaraInspector) -> None:
        first, second = Shown(inspector, part()), Shown(inspector, part())
        first.write(EICAR + bytes(900))
        second.write(bytes(900))
        assert isinstance(second.error, EngineError)
        assert second.error.fault == "too_big"
        first.finish()
        assert waited(loop, first).verdict is not None
        assert inspector.room.taken == 0

    def test_a_part_that_nobody_waits_for_is_not_kept(self, inspector: YaraInspector) -> None:
        one = Shown(inspector, part())
        one.write(bytes(900))
        one.look.abort()
        assert inspector.room.taken == 0
