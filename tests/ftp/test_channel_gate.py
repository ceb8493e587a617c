"""What becomes of a file that a gate holds, replaces or refuses, on its data connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sslintercept.dialogue.watcher import Cut, Part
from sslintercept.ftp.channel import DataChannel, DataWatcher
from sslintercept.testing.gate import Does, Gates
from sslintercept.testing.talk import Talk

DOWN = Part("ftp", "file", "a.txt", False, "alice")
UP = Part("ftp", "file", "a.txt", True, "alice")
CONTENT = b"\x16\x03 content"
BOTH = pytest.mark.parametrize("part", [DOWN, UP], ids=["down", "up"])


class Story:
    """A data connection with a gate in its way."""

    def __init__(self, part: Part, does: Does, instead: bytes = b"", later: bool = False, piece: bool = False) -> None:
        self.up = part.upload
        self.gates = Gates(does, instead, later=later)
        self.channel = DataChannel()
        self.talk = Talk(lambda wires, terms: DataWatcher(wires, terms, self.channel), wants=self.gates)
        self.channel.carries(part, False, piece)

    def comes(self, data: bytes) -> None:
        if self.up:
            self.talk.says(client=data)
        else:
            self.talk.says(server=data)

    def ends(self, clean: bool = True) -> bool:
        """Whether the end may pass."""
        watcher = self.talk.watcher
        return watcher.client_ended(clean) if self.up else watcher.server_ended(clean)

    @property
    def out(self) -> bytes:
        return self.talk.server if self.up else self.talk.client


def stories(part: Part, does: Does, instead: bytes = b"") -> Iterator[Story]:
    """The content whole, in single bytes, and cut at every place; decided about at once, and later."""
    sizes = [[CONTENT], [bytes((byte,)) for byte in CONTENT]]
    sizes += [[CONTENT[:at], CONTENT[at:]] for at in range(1, len(CONTENT))]
    for later in (False, True):
        for pieces in sizes:
            story = Story(part, does, instead, later)
            for piece in pieces:
                story.comes(piece)
            if later and story.ends():
                assert does is Does.EARLY
            story.gates.decide()
            yield story


@BOTH
@pytest.mark.parametrize("does", [Does.PASS, Does.HOLD, Does.TAIL])
def test_a_file_that_may_pass_arrives_as_it_was_and_then_its_end(part: Part, does: Does) -> None:
    for story in stories(part, does):
        assert story.ends()
        assert story.out == CONTENT
        (gate,) = story.gates.all
        assert (gate.content, gate.whole) == (CONTENT, True)
        assert story.talk.refused is None
        assert story.talk.holds == {True: 0, False: 0}


@BOTH
def test_a_file_may_be_replaced(part: Part) -> None:
    for story in stories(part, Does.REPLACE, b"instead"):
        assert story.ends()
        assert story.out == b"instead"


@BOTH
@pytest.mark.parametrize("does", [Does.EARLY, Does.REFUSE, Does.LATE])
def test_a_refused_file_is_cut_where_it_was_to_arrive(part: Part, does: Does) -> None:
    for story in stories(part, does):
        story.ends()
        assert story.out == (CONTENT[:-4] if does is Does.LATE else b"")
        assert story.talk.cut is (Cut.SERVER if part.upload else Cut.BOTH)
        assert story.talk.error is not None
        assert story.channel.refused is story.talk.error


@BOTH
def test_a_file_that_is_never_decided_about_has_no_end(part: Part) -> None:
    story = Story(part, Does.NEVER)
    story.comes(CONTENT)
    assert story.ends() is False
    assert story.ends() is False
    assert story.talk.holds == {part.upload: 1, not part.upload: 0}
    story.talk.watcher.ended()
    assert story.gates.all[0].aborted
    assert story.out == b""


@BOTH
def test_an_empty_file_goes_through_the_gate_too(part: Part) -> None:
    story = Story(part, Does.REFUSE)
    story.ends()
    assert story.talk.cut


@BOTH
@pytest.mark.parametrize(("clean", "piece"), [(False, False), (True, True)])
def test_a_piece_of_a_file_and_one_that_lacks_the_goodbye_of_tls_are_not_whole(
    part: Part, clean: bool, piece: bool
) -> None:
    story = Story(part, Does.HOLD, piece=piece)
    story.comes(CONTENT)
    assert story.ends(clean)
    assert story.gates.all[0].whole is False
    assert story.out == CONTENT


@BOTH
def test_nothing_comes_past_the_gate_the_other_way(part: Part) -> None:
    story = Story(part, Does.NEVER)
    if part.upload:
        story.talk.says(server=b"x")
    else:
        story.talk.says(client=b"text")
    assert (story.talk.server, story.talk.client, story.talk.cut) == (b"", b"", Cut.BOTH)


def test_the_end_of_the_other_side_passes() -> None:
    story = Story(DOWN, Does.NEVER)
    story.comes(CONTENT)
    assert story.talk.watcher.client_ended()
    assert story.gates.all[0].whole is None


# what the control connection is told


def test_the_outcome_of_a_transfer_is_open_until_the_gate_has_ended() -> None:
    told: list[int] = []
    story = Story(DOWN, Does.HOLD, later=True)
    assert not story.channel.open(lambda: told.append(0))
    story.comes(CONTENT)
    assert story.channel.open(lambda: told.append(1))
    story.ends()
    assert told == []
    story.gates.decide()
    assert told == [1]
    assert not story.channel.open(lambda: told.append(2))


def test_the_outcome_is_open_until_something_is_known_of_a_data_connection_that_has_come() -> None:
    for end in (True, False):
        told: list[int] = []
        channel = DataChannel()
        channel.come = True
        channel.carries(DOWN, False)
        assert channel.open(lambda told=told: told.append(1))  # type: ignore[misc]  # a closure
        if end:
            channel.gone()
        else:
            Talk(lambda wires, terms, channel=channel: DataWatcher(wires, terms, channel)).says(server=b"x")  # type: ignore[misc]
        assert told == [1]
        assert not channel.open(lambda: None)


def test_nothing_is_open_where_there_is_no_file() -> None:
    channel = DataChannel()
    channel.come = True
    channel.carries(None, False)
    assert not channel.open(lambda: None)


def test_a_transfer_that_breaks_off_is_not_waited_for() -> None:
    told: list[int] = []
    story = Story(UP, Does.NEVER)
    story.comes(CONTENT)
    assert story.channel.open(lambda: told.append(1))
    story.talk.watcher.ended()
    assert told == [1]
