"""Mails and files at the gate of their conversation."""

from __future__ import annotations

import pytest

from sslintercept.dialogue.watcher import Part as Carried
from sslintercept.dialogue.watcher import PartGate
from sslintercept.errors import InspectedError
from sslintercept.facts import Address, Facts
from sslintercept.inspect.carried import CarriedGate, InspectParts, part_of
from sslintercept.inspect.inspector import Inspector
from sslintercept.inspect.part import Part
from sslintercept.inspect.processor import Limits
from sslintercept.inspect.verdict import MALWARE, Act, Verdict
from sslintercept.transform.message import Direction
from tests.inspect.stubs import BAD, Spare, Word
from tests.inspect.support import World, entry

MAIL = b"From: a@example.com\r\nSubject: Hello\r\n\r\nan EVIL thing\r\n"
FINE = b"From: a@example.com\r\nSubject: Hello\r\n\r\na fine thing\r\n"
FETCHED = Carried("imap", "message", "INBOX;UID 7", False, "anna")
STORED = Carried("ftp", "file", "/in/../x/report.zip", True, None)


class Way:
    """Keeps what passes."""

    def __init__(self) -> None:
        self.passed = b""
        self.replaced: bytes | None = None
        self.ends: list[InspectedError | None] = []
        self.paces: list[str] = []

    def release(self, data: bytes) -> None:
        self.passed += data

    def replace(self, data: bytes) -> None:
        assert not self.passed
        self.replaced = data

    def ended(self, error: InspectedError | None) -> None:
        self.ends.append(error)

    def pause(self) -> None:
        self.paces.append("pause")

    def resume(self) -> None:
        self.paces.append("resume")


def facts() -> Facts:
    made = Facts("c1", Address("192.0.2.1", 5000), "proxy")
    made.destination = Address("mail.test", 143)
    return made


def through(world: World, *pieces: bytes, carried: Carried = FETCHED, whole: bool = True) -> Way:
    """Bring a part to its gate."""
    gate = InspectParts(world.processor).part(carried, facts())
    assert isinstance(gate, CarriedGate)
    assert isinstance(gate, PartGate)
    way = Way()
    gate.begin(way)
    for piece in pieces:
        gate.write(piece)
    gate.finish(whole)
    return way


def of(act: Act, **more: object) -> Word:
    """An inspector with this verdict."""
    return Word(verdict=Verdict(act, MALWARE, "Bad", "it is bad", score=9, **more), changes=act is Act.REDACT)  # type: ignore[arg-type]  # each has its own type


def test_what_nobody_wants_has_no_gate() -> None:
    world = World(entry(Word(), match="carrier:ftp"))
    assert InspectParts(world.processor).part(FETCHED, facts()) is None


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_fine_passes(size: int) -> None:
    way = through(World(entry(Word())), *(FINE[at : at + size] for at in range(0, len(FINE), size)))
    assert (way.passed, way.ends) == (FINE, [None])


def test_an_empty_one_passes() -> None:
    way = through(World(entry(Word())))
    assert (way.passed, way.ends) == (b"", [None])


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_bad_does_not_pass_and_its_error_names_the_event(size: int) -> None:
    world = World(entry(Word()))
    way = through(world, *(MAIL[at : at + size] for at in range(0, len(MAIL), size)))
    assert way.passed == b""
    (error,) = way.ends
    assert error is not None
    assert (error.category, error.event) == (MALWARE, "e1")
    (event,) = world.events.told
    assert (event.carrier, event.host, event.user, event.direction) == ("imap", "mail.test", "anna", "response")


def test_a_long_one_flows_and_a_late_verdict_refuses_the_rest() -> None:
    world = World(entry(Word()), limits=Limits(hold=100))
    way = through(world, b"x" * 1000, b"EVIL")
    assert way.passed == b"x" * 904
    assert way.ends[0] is not None


def test_a_marked_mail_has_fields_and_perhaps_a_subject() -> None:
    marks = (("X-Test", "found"),)
    way = through(World(entry(of(Act.TAG, marks=marks, subject="[BAD]"))), MAIL)
    assert way.replaced is not None
    assert way.replaced.startswith(b"X-Test: found\r\n")
    assert b"Subject: [BAD] Hello\r\n" in way.replaced
    assert way.replaced.endswith(b"\r\n\r\nan EVIL thing\r\n")
    assert way.ends == [None]


def test_a_mark_of_whoever_has_no_words_for_mails_is_a_field() -> None:
    way = through(World(entry(of(Act.TAG))), MAIL)
    assert way.replaced is not None
    assert way.replaced.startswith(b"X-Sslintercept-Inspection: malware; Bad; score=9\r\n")


@pytest.mark.parametrize("carried", [STORED, FETCHED])
def test_what_cannot_be_marked_passes_as_it_is(carried: Carried) -> None:
    way = through(World(entry(of(Act.TAG))), MAIL, carried=carried, whole=carried is STORED)
    assert (way.passed, way.replaced, way.ends) == (MAIL, None, [None])


def test_something_else_takes_its_place() -> None:
    way = through(World(entry(of(Act.REPLACE, content=b"other"))), MAIL)
    assert (way.replaced, way.passed, way.ends) == (b"other", b"", [None])


def test_what_was_to_be_changed_and_cannot_be_is_refused() -> None:
    world = World(entry(of(Act.REPLACE, content=b"other")), limits=Limits(hold=10))
    way = through(world, MAIL)
    assert way.replaced is None
    assert way.ends[0] is not None
    assert [each.name for each in world.events.told] == ["Bad", "late"]


def test_content_that_cannot_take_its_place_is_let_go() -> None:
    spare = Spare()
    way = through(World(entry(of(Act.REPLACE, content=spare))), MAIL)
    assert way.ends[0] is not None
    assert spare.stopped == 1


def test_a_part_that_broke_off_ends_its_inspection() -> None:
    world = World(entry(Word(members=True)))
    gate = InspectParts(world.processor).part(STORED, facts())
    assert gate is not None
    way = Way()
    gate.begin(way)
    gate.write(b"PK\x03\x04" + bytes(600))
    gate.abort()
    assert (way.passed, way.ends) == (b"", [])
    assert world.processor.budget.used == 0


def test_a_gate_stops_whoever_brings_the_part() -> None:
    inspector = Word()
    world = World(entry(inspector))
    gate = InspectParts(world.processor).part(STORED, facts())
    assert gate is not None
    way = Way()
    gate.begin(way)
    gate.write(b"x" * 600)
    source = inspector.looks[0].source  # type: ignore[attr-defined]  # a L{WordLook}
    source.pauseProducing()
    source.resumeProducing()
    assert way.paces == ["pause", "resume"]


def test_a_file_is_named_by_its_last_name() -> None:
    part = part_of(STORED, facts())
    assert (part.name, part.direction, part.media_type, part.kind) == ("report.zip", Direction.REQUEST, "", "file")
    assert part_of(FETCHED, facts()).media_type == "message/rfc822"


class Shady(Inspector):
    """Finds fault with whoever it comes from."""

    def glance(self, part: Part) -> Verdict | None:
        return BAD if part.host == "mail.test" else None


@pytest.mark.parametrize("pieces", [(), (FINE,), (b"a", b"b")])
def test_what_is_bad_before_any_content_comes_is_refused_with_the_first_bytes(pieces: tuple[bytes, ...]) -> None:
    world = World(entry(Shady()))
    gate = InspectParts(world.processor).part(FETCHED, facts())
    assert gate is not None
    way = Way()
    gate.begin(way)
    assert way.ends == []
    for piece in pieces:
        gate.write(piece)
    gate.finish(True)
    assert way.passed == b""
    assert len(way.ends) == 1
    assert way.ends[0] is not None
