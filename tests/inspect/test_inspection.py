"""One part under its inspectors."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest

from sslintercept.errors import EngineError
from sslintercept.inspect.inspection import EARLY
from sslintercept.inspect.inspector import Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.processor import Limits
from sslintercept.inspect.verdict import FAILURE, MALWARE, Act, Evidence, Verdict
from tests.inspect.stubs import BAD, Spare, Word, WordLook
from tests.inspect.support import World, a_part, entry, piece

ZIP = b"PK\x03\x04" + bytes(600)


def test_what_holds_nothing_bad_passes() -> None:
    world = World(entry(Word()))
    decision = world.whole(b"good")
    assert decision is not None
    assert decision.passes
    assert decision.found == ()
    assert world.processor.settle(a_part(), decision) is None
    assert world.events.told == []


@pytest.mark.parametrize("size", [1, 5, 511, 512, 513, 4000])
def test_what_is_bad_is_found_however_it_is_cut(size: int) -> None:
    world = World(entry(Word()))
    inspection = world.inspect(a_part())
    content = b"x" * 1000 + b"EVIL" + b"y" * 1000
    for at in range(0, len(content), size):
        inspection.write(content[at : at + size])
    inspection.finish()
    assert [each.act for each in world.decisions] == [Act.BLOCK]
    assert world.decisions[0].size == len(content)


def test_an_early_verdict_decides_before_the_end_and_lets_the_others_go() -> None:
    other = Word(b"none")
    world = World(entry(other, "other"), entry(Word(early=True)))
    inspection = world.inspect(a_part())
    inspection.write(b"EVIL" + b"x" * 600)
    assert [each.act for each in world.decisions] == [Act.BLOCK]
    look = other.looks[0]
    assert isinstance(look, WordLook)
    assert look.aborted
    inspection.write(b"more")
    inspection.finish()
    assert len(world.decisions) == 1


def test_where_nobody_is_interested_it_is_decided_with_the_first_bytes() -> None:
    world = World(entry(Word(make=lambda part: None)))
    inspection = world.inspect(a_part())
    inspection.write(b"x" * 512)
    assert len(world.decisions) == 1
    assert inspection.over


def test_the_gravest_verdict_counts_and_of_equal_ones_the_first() -> None:
    tag = Verdict(Act.TAG, "phishing", "second", "")
    report = Verdict(Act.REPORT, "leak", "first", "")
    world = World(entry(Word(verdict=report), "a"), entry(Word(verdict=tag), "b"), entry(Word(verdict=tag), "c"))
    decision = world.whole(b"EVIL")
    assert decision is not None
    assert [each.entry.name for each in decision.found] == ["a", "b", "c"]
    assert decision.worst is not None
    assert decision.worst.entry.name == "b"
    assert decision.passes


class Silent(Look):
    """Never tells."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("closed", "passes"), [(True, False), (False, True)])
def test_a_look_that_takes_too_long_counts_as_a_failure(closed: bool, passes: bool) -> None:
    inspector = Word(make=lambda part: Silent())
    world = World(entry(inspector, closed=closed, timeout=5.0))
    assert world.whole(b"x") is None
    world.loop.clock.advance(4.9)
    assert not world.decisions
    world.loop.clock.advance(0.2)
    decision = world.decisions[0]
    assert decision.passes is passes
    assert decision.worst is not None
    assert (decision.worst.verdict.kind, decision.worst.verdict.name) == (FAILURE, "hangs")
    look = inspector.looks[0]
    assert isinstance(look, Silent)
    assert look.aborted


class Raising(Look):
    """Fails where it is told to."""

    def __init__(self, where: str, error: Exception) -> None:
        self.where, self.error = where, error

    def registerProducer(self, source: object, streaming: bool) -> None:
        self._may("begin")

    def write(self, data: bytes) -> None:
        self._may("write")

    def finish(self) -> None:
        self._may("finish")
        if self.where == "fail":
            self.fail(self.error)
        else:
            self.tell(None)

    def _may(self, where: str) -> None:
        if where == self.where:
            raise self.error


@pytest.mark.parametrize("where", ["begin", "write", "finish", "fail"])
@pytest.mark.parametrize("closed", [True, False])
def test_an_engine_that_fails_anywhere_leaves_the_part_to_the_policy(where: str, closed: bool) -> None:
    error = EngineError("no answer", where="x", remedy="y", fault="unreachable")
    world = World(entry(Word(make=lambda part: Raising(where, error)), closed=closed))
    decision = world.whole(b"x" * 2000)
    assert decision is not None
    assert decision.passes is not closed
    assert decision.worst is not None
    assert decision.worst.verdict.name == "unreachable"


def test_a_look_that_cannot_be_made_is_a_failure_too() -> None:
    def make(part: object) -> Look:
        raise EngineError("no", where="x", remedy="y", fault="busy")

    world = World(entry(Word(make=make), closed=True))
    decision = world.whole(b"x")
    assert decision is not None
    assert not decision.passes


@pytest.mark.parametrize(("closed", "passes"), [(True, False), (False, True)])
def test_what_is_larger_than_is_looked_at_is_left_to_its_own_policy(closed: bool, passes: bool) -> None:
    world = World(entry(Word(), largest=1000, largest_closed=closed))
    inspection = world.inspect(a_part())
    inspection.write(b"x" * 1001)
    inspection.finish()
    assert world.decisions[0].passes is passes
    assert world.decisions[0].found[0].verdict.name == "too_big"


def test_a_verdict_by_content_is_remembered_for_a_time() -> None:
    inspector = Word(by_content=True)
    world = World(entry(inspector), limits=Limits(remember_for=60.0))
    for _ in range(2):
        decision = world.whole(b"EVIL twin")
        assert decision is not None
        assert not decision.passes
        assert decision.sha256 == sha256(b"EVIL twin").hexdigest()
    look = inspector.looks[1]
    assert isinstance(look, WordLook)
    assert look.got == b""
    world.loop.clock.advance(61)
    world.whole(b"EVIL twin")
    look = inspector.looks[2]
    assert isinstance(look, WordLook)
    assert look.got == b"EVIL twin"


def test_a_look_by_content_begins_when_much_has_come() -> None:
    inspector = Word(by_content=True)
    world = World(entry(inspector))
    inspection = world.inspect(a_part())
    inspection.write(b"x" * EARLY)
    look = inspector.looks[0]
    assert isinstance(look, WordLook)
    assert look.got == b""
    inspection.write(b"EVIL")
    assert len(look.got) == EARLY + 4
    inspection.finish()
    assert not world.decisions[0].passes


def test_whoever_brings_the_part_is_stopped_while_any_look_has_enough() -> None:
    one, two = Word(), Word()
    world = World(entry(one, "one"), entry(two, "two"))
    said: list[str] = []
    inspection = world.inspect(a_part())
    inspection.stop, inspection.go = lambda: said.append("stop"), lambda: said.append("go")
    inspection.write(b"x" * 600)
    looks = [one.looks[0], two.looks[0]]
    sources = [look.source for look in looks if isinstance(look, WordLook) and look.source is not None]
    for source in sources:
        source.pauseProducing()
        source.pauseProducing()
    sources[0].resumeProducing()
    assert said == ["stop"]
    sources[1].resumeProducing()
    assert said == ["stop", "go"]
    sources[1].pauseProducing()
    inspection.cancel()
    assert said == ["stop", "go", "stop", "go"]


def test_a_look_that_stops_the_part_for_too_long_counts_as_a_failure() -> None:
    inspector = Word()
    world = World(entry(inspector, timeout=5.0))
    inspection = world.inspect(a_part())
    inspection.write(b"x" * 600)
    look = inspector.looks[0]
    assert isinstance(look, WordLook)
    assert look.source is not None
    look.source.pauseProducing()
    world.loop.clock.advance(4.0)
    look.source.resumeProducing()
    world.loop.clock.advance(4.0)
    assert not world.decisions
    look.source.pauseProducing()
    world.loop.clock.advance(5.1)
    assert world.decisions[0].found[0].verdict.name == "hangs"
    assert look.aborted


# pieces


def test_a_container_is_taken_apart_and_each_piece_is_a_part_of_its_own() -> None:
    inspector = Word(members=True)
    world = World(entry(inspector))
    assert world.whole(ZIP, a_part(media_type="application/zip", name="a.zip")) is None
    part, content, waiting = world.asked[0]
    assert content == ZIP
    waiting.callback([piece(b"fine", "b.txt"), piece(b"EVIL", "in.zip", "c.exe"), piece(b"never", "d")])
    decision = world.decisions[0]
    assert not decision.passes
    assert decision.worst is not None
    assert decision.worst.part.path == "a.zip > in.zip > c.exe"
    assert [each.name for each in inspector.parts] == ["a.zip", "b.txt", "c.exe"]
    error = world.processor.settle(part, decision)
    assert error is not None
    assert error.event == "e1"
    assert world.events.told[0].part == "a.zip > in.zip > c.exe"


def test_who_wants_forms_only_gets_what_is_in_these_and_nothing_of_archives() -> None:
    inspector = Word(forms=True)
    world = World(entry(inspector))
    assert world.whole(ZIP, a_part(media_type="application/zip")) is not None
    assert world.asked == []
    world.whole(b"--x\r\n", a_part(media_type="multipart/form-data"))
    world.asked[0][2].callback([piece(b"EVIL", "c.exe", kind="field")])
    assert [each.passes for each in world.decisions] == [True, False]


def test_notes_of_the_whole_are_told_of_the_whole_and_those_of_a_piece_of_this() -> None:
    world = World(entry(Word(members=True), closed=False))
    world.whole(ZIP, a_part(media_type="application/zip", name="a.zip"))
    world.asked[0][2].callback(
        [piece(b"fine", "b.zip"), piece(b"", notes=["entries"]), piece(b"", "b.zip", notes=["rubbish"])]
    )
    told = [(each.part.path, each.part.kind, each.verdict.name) for each in world.decisions[0].found]
    assert told == [("a.zip", "body", "entries"), ("a.zip > b.zip", "member", "rubbish")]


def test_what_cannot_be_taken_apart_is_left_to_the_policy() -> None:
    for closed in (True, False):
        world = World(entry(Word(members=True), closed=closed))
        world.whole(ZIP)
        world.asked[0][2].errback(EngineError("died", where="worker", remedy="", fault="lost"))
        assert world.decisions[0].passes is not closed
        assert world.decisions[0].found[0].verdict.name == "lost"


@pytest.mark.parametrize(
    ("note", "closed", "unreadable", "passes"),
    [
        ("ratio", True, False, False),
        ("pages", True, False, False),
        ("depth", False, True, True),
        ("lies", True, False, False),
        ("overlap", False, True, True),
        ("encrypted", True, False, True),
        ("encrypted", False, True, False),
        ("truncated", True, True, False),
    ],
)
def test_bombs_and_what_nobody_can_read_have_policies_of_their_own(
    note: str, closed: bool, unreadable: bool, passes: bool
) -> None:
    world = World(entry(Word(members=True), closed=closed, unreadable_closed=unreadable))
    world.whole(ZIP)
    world.asked[0][2].callback([piece(b"", "x", notes=[note])])
    assert world.decisions[0].passes is passes
    assert world.decisions[0].found[0].verdict.name == note


def test_many_pieces_do_not_keep_the_reactor() -> None:
    inspector = Word(members=True)
    world = World(entry(inspector))
    world.whole(ZIP)
    clock = world.loop.clock

    def slow(part: object) -> Look:
        clock.rightNow += 0.002
        return WordLook(b"EVIL", BAD)

    inspector._make = slow
    world.asked[0][2].callback([piece(b"x", str(number)) for number in range(10)])
    assert not world.decisions
    assert 1 < len(inspector.looks) < 6
    for _ in range(5):
        clock.advance(0)
    assert len(world.decisions) == 1
    assert len(inspector.looks) == 11


def test_a_piece_that_waits_too_long_is_a_failure() -> None:
    first = True

    def make(part: object) -> Look:
        nonlocal first
        outer, first = first, False
        return WordLook(b"EVIL", BAD) if outer else Silent()

    world = World(entry(Word(members=True, make=make), timeout=3.0))
    world.whole(ZIP)
    world.asked[0][2].callback([piece(b"x", "a"), piece(b"y", "b")])
    world.loop.clock.advance(3.1)
    assert not world.decisions[0].passes


@pytest.mark.parametrize("closed", [True, False])
def test_too_much_at_once_is_not_collected(closed: bool) -> None:
    world = World(entry(Word(members=True), largest_closed=closed), limits=Limits(collect=1000))
    inspection = world.inspect(a_part())
    inspection.write(ZIP)
    inspection.write(bytes(600))
    inspection.finish()
    assert world.decisions[0].passes is not closed
    assert [each.verdict.name for each in world.decisions[0].found] == ["too_big"]
    assert world.asked == []
    assert world.processor.budget.used == 0


def test_what_is_collected_counts_until_the_end() -> None:
    world = World(entry(Word(members=True)))
    world.whole(ZIP)
    assert world.processor.budget.used == len(ZIP)
    world.asked[0][2].callback([])
    assert world.processor.budget.used == 0


def test_nobody_waits_any_more() -> None:
    world = World(entry(Word(members=True)))
    inspection = world.inspect(a_part())
    inspection.write(ZIP)
    inspection.finish()
    inspection.cancel()
    assert world.cancelled == 1
    assert world.processor.budget.used == 0
    assert world.decisions == []
    assert world.loop.clock.getDelayedCalls() == []


# what is written down


def test_a_part_in_quarantine_is_kept_with_its_event() -> None:
    verdict = Verdict(Act.QUARANTINE, MALWARE, "Bad", "it is bad", engine="e", version="1")
    world = World(entry(Word(verdict=verdict, keeps=True)))
    decision = world.whole(b"an EVIL thing")
    assert decision is not None
    assert decision.worst is not None
    error = world.processor.settle(decision.worst.part, decision)
    assert error is not None
    assert error.category == MALWARE
    assert world.events.quarantine.kept == {"e1": b"an EVIL thing"}
    event = world.events.told[0]
    assert (event.id, event.quarantine, event.act, event.engine) == ("e1", "e1", "quarantine", "e")
    assert event.sha256 == sha256(b"an EVIL thing").hexdigest()
    assert (event.client, event.inspector, event.name, event.size) == ("192.0.2.1", "one", "Bad", 13)


def test_a_match_says_which_parts_an_inspector_gets() -> None:
    for match, wanted in (
        ("", True),
        ("carrier:http", True),
        ("carrier:mail", False),
        ("direction:upload", True),
        ("direction:download", False),
        ("type:text/*", True),
        ("name:*.exe", False),
        ("client:192.0.2.0/24", True),
        ("!client:192.0.2.0/24", False),
    ):
        world = World(entry(Word(), match=match))
        assert bool(world.processor.wanted(a_part())) is wanted, match


# several looks that stop, fail or tell at the same time


def refusing(part: object) -> Look | None:
    raise EngineError("too long", where="x", remedy="y", fault="too_big")


@pytest.mark.parametrize("where", ["look", "begin"])
def test_an_inspector_that_fails_open_at_once_takes_no_part_from_the_others(where: str) -> None:
    error = EngineError("no", where="x", remedy="y", fault="broken")
    first = Word(make=refusing if where == "look" else lambda part: Raising(where, error))
    world = World(entry(first, "first", closed=False), entry(Word(), "second"))
    decision = world.whole(b"an EVIL thing" + bytes(600))
    assert decision is not None
    assert decision.act is Act.BLOCK
    assert [each.entry.name for each in decision.found] == ["first", "second"]


@pytest.mark.parametrize("where", ["look", "begin"])
def test_what_does_not_pass_at_once_is_shown_to_nobody_else(where: str) -> None:
    other = Word()
    error = EngineError("no", where="x", remedy="y", fault="broken")
    first = Word(make=refusing if where == "look" else lambda part: Raising(where, error))
    world = World(entry(first, "first", largest_closed=True), entry(other, "other"))
    inspection = world.inspect(a_part())
    inspection.write(b"x" * 600)
    inspection.finish()
    assert [each.act for each in world.decisions] == [Act.BLOCK]
    assert all(isinstance(look, WordLook) and look.aborted for look in other.looks)


class Stopping(WordLook):
    """Stops whoever brings the part with the first bytes, and then does as it is told."""

    def __init__(self, then: str) -> None:
        super().__init__(b"EVIL", BAD)
        self.then = then

    def write(self, data: bytes) -> None:
        super().write(data)
        assert self.source is not None
        if self.got == data:
            self.source.pauseProducing()
            if self.then == "tells":
                self.tell(None)
            elif self.then == "raises":
                raise ValueError("broken")


@pytest.mark.parametrize("then", ["hangs", "tells", "raises"])
def test_a_look_that_is_over_stops_nobody_any_more(then: str) -> None:
    stopping = Word(make=lambda part: Stopping(then))
    world = World(entry(stopping, "stops", closed=False, timeout=5.0), entry(Word(), "other"))
    inspection = world.inspect(a_part())
    said: list[str] = []
    inspection.stop, inspection.go = lambda: said.append("stop"), lambda: said.append("go")
    inspection.write(b"x" * 600)
    world.loop.clock.advance(5.1)
    assert said in ([], ["stop", "go"])
    assert world.loop.clock.getDelayedCalls() == []
    look = stopping.looks[0]
    assert isinstance(look, Stopping)
    assert look.source is not None
    look.source.pauseProducing()
    assert said in ([], ["stop", "go"])
    inspection.write(b"EVIL")
    inspection.finish()
    assert [each.act for each in world.decisions] == [Act.BLOCK]
    assert world.loop.clock.getDelayedCalls() == []


def test_whoever_brings_the_part_goes_on_when_it_is_decided_and_not_before() -> None:
    inspector = Word()
    said: list[str] = []
    world = World(entry(inspector))
    inspection = world.processor.inspect(a_part(), world.processor.entries, lambda decision: said.append("decided"))
    inspection.stop, inspection.go = lambda: said.append("stop"), lambda: said.append("go")
    inspection.write(b"x" * 600)
    look = inspector.looks[0]
    assert isinstance(look, WordLook)
    assert look.source is not None
    look.source.pauseProducing()
    look.tell(BAD)
    assert said == ["stop", "decided", "go"]


def test_who_stops_and_goes_on_at_once_mixes_up_nothing_for_the_others() -> None:
    class Jerky(WordLook):
        def write(self, data: bytes) -> None:
            super().write(data)
            assert self.source is not None
            self.source.pauseProducing()
            self.source.resumeProducing()

    second = Word()
    world = World(entry(Word(make=lambda part: Jerky(b"EVIL", BAD)), "first"), entry(second, "second"))
    inspection = world.inspect(a_part())
    waiting = [b"2", b"3"]
    inspection.go = lambda: inspection.write(waiting.pop(0)) if waiting else None
    inspection.write(b"x" * 600 + b"1")
    while waiting:
        inspection.write(waiting.pop(0))
    look = second.looks[0]
    assert isinstance(look, WordLook)
    assert look.got[600:] == b"123"


# pieces of which something goes wrong


def pieces_of(world: World, *contents: bytes) -> None:
    """Take a part apart into these."""
    world.whole(ZIP)
    world.asked[0][2].callback([piece(content, f"{at}") for at, content in enumerate(contents)])


def outer_first(make: Callable[[], Look]) -> Callable[[Part], Look | None]:
    """A look that finds nothing at the part itself, and others at its pieces."""
    return lambda part: WordLook(b"EVIL", BAD) if part.parent is None else make()


@pytest.mark.parametrize("where", ["begin", "write", "finish"])
def test_a_look_at_a_piece_that_raises_leaves_it_to_the_policy_and_the_next_follows(where: str) -> None:
    make = outer_first(lambda: Raising(where, ValueError("broken")))
    world = World(entry(Word(members=True, make=make), closed=False), entry(Word(members=True), "other"))
    pieces_of(world, b"fine", b"EVIL")
    assert [each.act for each in world.decisions] == [Act.BLOCK]
    assert [each.verdict.name for each in world.decisions[0].found] == ["broken", "broken", "Bad"]
    assert world.loop.clock.getDelayedCalls() == []


@pytest.mark.parametrize("ends", ["cancelled", "found elsewhere"])
def test_nobody_waits_for_the_pieces_any_more(ends: str) -> None:
    class Waits(Silent):
        times = 0

        def abort(self) -> None:
            Waits.times += 1

    other = Word(members=True, make=outer_first(Silent)) if ends == "cancelled" else Word(members=True)
    world = World(entry(Word(members=True, make=outer_first(Waits))), entry(other, "other"))
    inspection = world.inspect(a_part())
    inspection.write(ZIP)
    inspection.finish()
    world.asked[0][2].callback([piece(b"an EVIL thing", "a")])
    inspection.cancel()
    assert world.loop.clock.getDelayedCalls() == []
    world.loop.clock.advance(1000.0)
    assert Waits.times == 1


@pytest.mark.parametrize("ends", ["cancelled", "late"])
def test_a_look_at_a_piece_that_cannot_be_let_go_costs_nothing_else(ends: str) -> None:
    class Clings(Silent):
        def abort(self) -> None:
            raise ValueError("it holds")

    world = World(entry(Word(members=True, make=outer_first(Clings)), timeout=3.0, closed=False))
    inspection = world.inspect(a_part())
    inspection.write(ZIP)
    inspection.finish()
    world.asked[0][2].callback([piece(b"a", "a")])
    if ends == "cancelled":
        inspection.cancel()
    world.loop.clock.advance(10.0)
    assert len(world.decisions) == (ends == "late")
    assert world.processor.budget.used == 0
    assert world.loop.clock.getDelayedCalls() == []


def test_a_piece_that_was_to_be_changed_is_a_failure_however_late_that_is_told() -> None:
    looks: list[Silent] = []

    def make() -> Look:
        looks.append(Silent())
        return looks[-1]

    world = World(entry(Word(members=True, make=outer_first(make))))
    pieces_of(world, b"a", b"b")
    looks[0].tell(Verdict(Act.REDACT, "leak", "card", "a number"))
    assert [each.act for each in world.decisions] == [Act.BLOCK]
    assert world.decisions[0].worst is not None
    assert world.decisions[0].worst.verdict.kind == FAILURE


def test_what_raises_while_the_pieces_come_leaves_the_part_to_the_policy() -> None:
    world = World(entry(Word(members=True)))
    world.whole(ZIP)
    world.asked[0][2].callback([None])  # type: ignore[list-item]  # what a plugin's worker might say
    assert [each.passes for each in world.decisions] == [False]


# content that takes a part's place, and that nobody reads


def replaced(content: Spare) -> Verdict:
    return Verdict(Act.REPLACE, "policy", "replaced", "it is other now", content=content)


def test_content_that_another_verdict_makes_useless_is_let_go() -> None:
    first, second, third = Spare(), Spare(), Spare()
    world = World(
        entry(Word(verdict=replaced(first)), "one"),
        entry(Word(verdict=replaced(second)), "two"),
    )
    world.whole(b"EVIL")
    assert (first.stopped, second.stopped) == (0, 1)
    world = World(entry(Word(verdict=replaced(third)), "one"), entry(Word(), "two"))
    world.whole(b"EVIL")
    assert third.stopped == 1


def test_content_that_nobody_waits_for_any_more_is_let_go() -> None:
    spare = Spare()
    world = World(entry(Word(verdict=replaced(spare))), entry(Word(make=lambda part: Silent())))
    inspection = world.inspect(a_part())
    inspection.write(b"EVIL")
    inspection.finish()
    inspection.cancel()
    assert spare.stopped == 1


def test_content_for_a_piece_is_let_go() -> None:
    spare = Spare()
    make = outer_first(lambda: WordLook(b"EVIL", replaced(spare)))
    world = World(entry(Word(members=True, make=make)))
    pieces_of(world, b"EVIL")
    assert not world.decisions[0].passes
    assert spare.stopped == 1


def test_a_verdict_of_older_signatures_is_not_remembered_under_newer_ones() -> None:
    class Signed(Word):
        now = b"1"

        @property
        def tag(self) -> bytes:
            return self.now

    inspector = Signed(make=lambda part: Silent(), by_content=True)
    world = World(entry(inspector))
    world.whole(b"EVIL")
    inspector.now = b"2"
    inspector.looks[0].tell(None)
    assert world.decisions[0].passes
    assert world.whole(b"EVIL") is None
    inspector.looks[1].tell(BAD)
    decision = world.whole(b"EVIL")
    assert decision is not None
    assert not decision.passes
    assert len(inspector.looks) == 3  # the last has not begun


def test_an_engine_that_hangs_at_one_piece_is_not_waited_for_at_all_others() -> None:
    make = outer_first(Silent)
    hanging = Word(members=True, make=make)
    world = World(entry(hanging, closed=False, timeout=5.0), entry(Word(members=True), "other"))
    pieces_of(world, *[b"fine"] * 20, b"EVIL")
    world.loop.clock.advance(5.1)
    assert [each.act for each in world.decisions] == [Act.BLOCK]
    assert len(hanging.looks) == 2


@pytest.mark.parametrize("where", ["part", "piece"])
def test_what_is_told_late_and_is_no_verdict_is_a_failure(where: str) -> None:
    looks: list[Silent] = []

    def make() -> Look:
        looks.append(Silent())
        return looks[-1]

    world = World(entry(Word(members=True, make=outer_first(make) if where == "piece" else lambda part: make())))
    pieces_of(world, b"a")
    looks[0].tell("block it")  # type: ignore[arg-type]  # what a plugin may do
    assert [each.passes for each in world.decisions] == [False]
    assert world.decisions[0].worst is not None
    assert world.decisions[0].worst.verdict.kind == FAILURE


def test_a_verdict_that_is_remembered_names_the_part_that_it_is_about_now() -> None:
    class Placed(WordLook):
        def __init__(self, part: Part) -> None:
            evidence = (Evidence("Bad", where=part.path, offset=3), Evidence("rule"))
            super().__init__(b"EVIL", Verdict(Act.BLOCK, MALWARE, "Bad", "it is bad", evidence))

    world = World(entry(Word(make=Placed, by_content=True)))
    for name in ("salaries.xls", "other.xls"):
        decision = world.whole(b"EVIL", a_part(name=name))
        assert decision is not None
        assert decision.worst is not None
        assert [each.where for each in decision.worst.verdict.evidence] == [name, ""]
        assert decision.worst.verdict.evidence[0].offset == 3


def test_a_look_that_is_not_needed_since_the_verdict_is_known_is_let_go() -> None:
    inspector = Word(by_content=True)
    world = World(entry(inspector))
    for _ in range(2):
        world.whole(b"fine")
    first, second = inspector.looks
    assert isinstance(first, WordLook)
    assert isinstance(second, WordLook)
    assert (first.aborted, first.got) == (False, b"fine")
    assert (second.aborted, second.got) == (True, b"")
    assert second.over


@pytest.mark.parametrize("closed", [True, False])
def test_a_piece_of_a_container_cannot_be_read(closed: bool) -> None:
    world = World(entry(Word(members=True), unreadable_closed=closed), entry(Word(), "other"))
    inspection = world.inspect(a_part())
    inspection.write(ZIP)
    inspection.finish(whole=False)
    assert world.decisions[0].passes is not closed
    assert [(each.entry.name, each.verdict.name) for each in world.decisions[0].found] == [("one", "truncated")]
    assert world.asked == []
