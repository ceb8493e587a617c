"""What a gate may do with a part, and what not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from zope.interface.verify import verifyClass

from sslintercept.dialogue.passage import GateError, Passage
from sslintercept.dialogue.watcher import Part
from sslintercept.errors import InspectedError
from sslintercept.interfaces import IPartGate
from sslintercept.testing.gate import Does, Gates, ScriptedGate, found
from sslintercept.testing.talk import Kept, Talk
from tests.dialogue.test_gate import Nobody

PART = Part("smtp", "message", "", True, None)


DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("pieces", "passes"), [([b"M", b"Zx"], False), ([b"M", b"x", b"y"], True), ([b"M"], True), ([], True)]
)
def test_the_gate_of_the_docs_decides(pieces: list[bytes], passes: bool) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "mail.md").read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "IPartGate" in block]
    names: dict[str, Any] = {}  # Any: what the page defines
    exec(code, names)
    passed: list[bytes] = []
    passage = Passage(Talk(Nobody, wants=lambda part: names["NoPrograms"]()), PART, passes=passed.append)
    for piece in pieces:
        passage.write(piece)
    passage.finish(True)
    assert (passage.gated, passage.over, passage.refused is None) == (True, True, passes)
    assert b"".join(passed) == (b"".join(pieces) if passes else b"")
    assert IPartGate.implementedBy(names["NoPrograms"])
    verifyClass(IPartGate, names["NoPrograms"])


class Story:
    """A passage, and what has come out of it."""

    def __init__(self) -> None:
        self.gates = Gates(Does.NEVER)
        self.talk = Talk(Nobody, wants=self.gates)
        self.passed: list[bytes] = []
        self.replaced: list[bytes] = []
        self.ended: list[InspectedError | None] = []
        self.passage = Passage(
            self.talk, PART, passes=self.passed.append, replaces=self.replaced.append, ends=self.ended.append
        )

    @property
    def gate(self) -> ScriptedGate:
        return self.gates.all[0]


def test_a_part_that_is_only_seen_has_no_gate() -> None:
    talk = Talk(Nobody)
    passage = Passage(talk, PART)
    passage.write(b"a")
    passage.write(b"")
    passage.finish(True)
    passage.finish(False)
    passage.abort()
    (kept,) = talk.parts
    assert (kept.content, kept.whole, passage.gated, passage.waits) == (b"a", True, False, False)


def test_a_part_that_nobody_wants_needs_no_gate() -> None:
    passage = Passage(Talk(Nobody, wants=lambda part: None), PART)
    passage.write(b"a")
    passage.finish(True)
    assert not passage.gated


def test_a_part_that_breaks_off_is_not_whole_to_a_sink_and_aborted_to_a_gate() -> None:
    kept = Kept(PART)
    Passage(Talk(Nobody, wants=lambda part: kept), PART).abort()
    assert kept.whole is False
    story = Story()
    story.passage.abort()
    story.passage.abort()
    story.passage.finish(True)
    assert (story.gate.aborted, story.gate.whole, story.ended) == (True, None, [])


def test_the_source_waits_from_the_end_of_the_part_to_that_of_the_gate() -> None:
    story = Story()
    story.passage.write(b"abc")
    story.passage.finish(True)
    assert story.talk.holds == {True: 1, False: 0}
    assert story.passage.waits
    story.passage.release(b"abc")
    story.passage.ended(None)
    assert story.talk.holds == {True: 0, False: 0}
    assert (story.passed, story.ended, story.passage.waits) == ([b"abc"], [None], False)


def test_a_gate_that_has_enough_stops_the_source() -> None:
    story = Story()
    for _ in range(2):
        story.passage.pause()
        assert story.talk.holds[True] == 1
    for _ in range(2):
        story.passage.resume()
        assert story.talk.holds[True] == 0
    story.passage.pause()
    story.passage.finish(True)
    story.passage.resume()
    assert story.talk.holds[True] == 1
    story.passage.abort()
    assert story.talk.holds[True] == 0


def test_what_is_refused_needs_not_come_to_its_end() -> None:
    story = Story()
    story.passage.write(b"a")
    story.passage.ended(error := found())
    story.passage.write(b"b")
    story.passage.finish(True)
    assert (story.gate.content, story.ended, story.passage.refused) == (b"a", [error], error)


def test_nothing_that_a_gate_says_behind_its_end_counts() -> None:
    story = Story()
    story.passage.ended(found())
    story.passage.release(b"a")
    story.passage.replace(b"a")
    story.passage.ended(None)
    story.passage.pause()
    assert (story.passed, story.replaced, len(story.ended), story.talk.holds[True]) == ([], [], 1, 0)


def test_a_gate_does_not_release_more_than_has_come() -> None:
    story = Story()
    story.passage.write(b"abc")
    story.passage.release(b"")
    story.passage.release(b"ab")
    with pytest.raises(GateError, match="more than has come"):
        story.passage.release(b"cd")


def test_a_gate_does_not_replace_what_has_passed_or_has_not_come() -> None:
    story = Story()
    story.passage.write(b"abc")
    with pytest.raises(GateError, match="has not come"):
        story.passage.replace(b"x")
    story.passage.release(b"a")
    story.passage.finish(True)
    with pytest.raises(GateError, match="what has passed"):
        story.passage.replace(b"x")


def test_a_gate_replaces_once_and_releases_nothing_then() -> None:
    story = Story()
    story.passage.write(b"abc")
    story.passage.finish(True)
    story.passage.replace(b"")
    for again in (story.passage.replace, story.passage.release):
        with pytest.raises(GateError):
            again(b"abc")
    story.passage.ended(None)
    assert (story.replaced, story.ended) == ([b""], [None])


@pytest.mark.parametrize("whole", [True, False])
def test_a_gate_does_not_say_it_is_done_before_it_is(whole: bool) -> None:
    story = Story()
    story.passage.write(b"abc")
    story.passage.release(b"ab" if whole else b"abc")
    if whole:
        story.passage.finish(True)
    with pytest.raises(GateError, match="has not released"):
        story.passage.ended(None)
