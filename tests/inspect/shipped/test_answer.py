"""Content from a service that is kept, read, stopped and broken off; and pages."""

from __future__ import annotations

from typing import Any

import pytest

from sslintercept.errors import EngineError
from sslintercept.icap.body import AnswerBody
from sslintercept.inspect.shipped.answer import BLOCK, MOST_PAGE, Content, Marks, Page, Room


def error(what: str, fault: str) -> EngineError:
    return EngineError(what, where="here", remedy="none", fault=fault)


class Service:
    """Says a body, and notes whether it was stopped."""

    def __init__(self) -> None:
        self.stopped = self.gone = False
        self.body = AnswerBody(self.stop, self.go)
        self.body.gone = self.leave

    def stop(self) -> None:
        assert not self.stopped
        self.stopped = True

    def go(self) -> None:
        assert self.stopped
        self.stopped = False

    def leave(self) -> None:
        assert not self.gone
        self.gone = True


class Reader:
    """Reads content, notes what comes, and has enough after so many bytes."""

    def __init__(self, content: Content, pause_at: int = 0) -> None:
        self.got = bytearray()
        self.events: list[str] = []
        self.content, self.pause_at = content, pause_at
        content.read_to(self.write, lambda: self.events.append("end"), lambda error: self.events.append(fault(error)))

    def write(self, data: Any) -> None:
        assert not self.events
        self.got += data
        if len(self.got) == self.pause_at:
            self.content.pauseProducing()


def fault(error: Exception) -> str:
    assert isinstance(error, EngineError)
    return error.fault


def made(length: int | None = None, most: int = 1000, **more: bool) -> tuple[Content, Service, Room, list[str]]:
    service, room = Service(), Room(1500)
    content = Content(service.body, length, room, error, most, **more)
    events: list[str] = []
    content.came = lambda: events.append("came")
    content.failed = lambda error: events.append(fault(error))
    content.start()
    return content, service, room, events


def test_what_comes_is_kept_and_given_when_all_of_it_is_there() -> None:
    content, service, room, events = made()
    view = bytearray(b"abc")
    service.body.write(memoryview(view))
    view[:] = b"xyz"
    service.body.write(b"def")
    assert (room.taken, events, service.stopped) == (6, [], False)
    service.body.finish()
    assert events == ["came"]
    reader = Reader(content)
    assert (bytes(reader.got), reader.events, room.taken) == (b"abcdef", ["end"], 0)


def test_a_reader_that_has_enough_gets_no_more_until_it_has_room() -> None:
    content, service, room, _ = made()
    for piece in (b"a", b"b", b"c"):
        service.body.write(piece)
    service.body.finish()
    reader = Reader(content, pause_at=2)
    assert (bytes(reader.got), reader.events, room.taken) == (b"ab", [], 1)
    content.resumeProducing()
    content.resumeProducing()
    assert (bytes(reader.got), reader.events, room.taken) == (b"abc", ["end"], 0)


def test_a_reader_may_leave_in_the_middle() -> None:
    content, service, room, _ = made()
    for piece in (b"a", b"b", b"c"):
        service.body.write(piece)
    service.body.finish()
    reader = Reader(content, pause_at=2)
    content.stopProducing()
    content.resumeProducing()
    assert (bytes(reader.got), reader.events, room.taken, service.gone) == (b"ab", [], 0, False)


def test_content_that_nobody_wants_is_let_go() -> None:
    content, service, room, events = made()
    service.body.write(b"abc")
    content.stopProducing()
    content.stopProducing()
    service.body.write(b"abc")
    assert (service.gone, room.taken, events) == (True, 0, [])


@pytest.mark.parametrize("pieces", [[1001], [900, 101]])
def test_too_much_is_given_up(pieces: list[int]) -> None:
    _, service, room, events = made()
    for size in pieces:
        service.body.write(bytes(size))
    service.body.write(b"what was on the way already")
    service.body.finish()
    assert (events, service.gone, room.taken) == (["too_big"], True, 0)


def test_all_together_keep_no_more_than_there_is_room_for() -> None:
    content, service, room, events = made()
    room.take(1000)
    service.body.write(bytes(501))
    assert (events, service.gone, room.taken) == (["busy"], True, 1000)
    assert not content.ended


@pytest.mark.parametrize("size", [0, 9])
def test_less_than_was_announced_is_broken_off(size: int) -> None:
    _, service, room, events = made(length=10)
    if size:
        service.body.write(bytes(size))
    service.body.finish()
    assert (events, room.taken) == (["lost"], 0)


def test_as_much_as_was_announced_or_more_is_all_of_it() -> None:
    for size in (10, 11):
        _, service, _, events = made(length=10)
        service.body.write(bytes(size))
        service.body.finish()
        assert events == ["came"]


def test_what_breaks_off_is_told_once() -> None:
    content, service, room, events = made()
    service.body.write(b"abc")
    service.body.fail(error("gone", "lost"))
    content.stopProducing()
    assert (events, room.taken) == (["lost"], 0)


def test_what_nobody_will_read_is_counted_only() -> None:
    _, service, room, events = made(length=900, keep=False)
    service.body.write(bytes(900))
    assert room.taken == 0
    service.body.finish()
    assert events == ["came"]


def test_no_body_is_content_of_no_bytes() -> None:
    events: list[str] = []
    content = Content(None, None, Room(1), error, 1)
    content.came = lambda: events.append("came")
    content.start()
    assert (events, Reader(content).events) == (["came"], ["end"])


def marked(*pieces: bytes) -> Marks:
    marks = Marks()
    for piece in pieces:
        marks.write(piece)
    return marks


BODY = bytes(range(256)) * 40
"""two blocks and a half"""


@pytest.mark.parametrize("step", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK])
def test_a_body_is_the_same_in_whatever_pieces_it_comes(step: int) -> None:
    assert marked(*(BODY[at : at + step] for at in range(0, len(BODY), step))) == marked(BODY)
    assert marked(BODY).size == len(BODY)


@pytest.mark.parametrize("other", [b"", BODY[:-1], BODY + b"x", b"x" + BODY[1:], BODY[:-1] + b"x"])
def test_another_body_is_not_the_same(other: bytes) -> None:
    assert marked(BODY) != marked(other)
    assert marked(BODY) != BODY


@pytest.mark.parametrize(
    ("beginning", "is_one"),
    [
        (BODY[:BLOCK], True),
        (BODY[: 2 * BLOCK + 9], True),
        (BODY[:-1], True),
        (BODY, False),
        (BODY + b"x", False),
        (b"x" + BODY[1:-1], False),
        (BODY[: BLOCK - 1], False),
        (b"", False),
    ],
)
def test_a_beginning_is_told_by_its_blocks(beginning: bytes, is_one: bool) -> None:
    assert marked(beginning).begins(marked(BODY)) is is_one


def paged() -> tuple[Page, Service, list[bytes | None]]:
    service = Service()
    told: list[bytes | None] = []
    page = Page(service.body, told.append)
    page.start()
    return page, service, told


def test_a_page_is_told_as_a_whole() -> None:
    _, service, told = paged()
    service.body.write(b"<html>")
    service.body.write(b"no")
    assert told == []
    service.body.finish()
    assert told == [b"<html>no"]


def test_a_page_that_is_too_long_or_breaks_off_is_none() -> None:
    _, service, told = paged()
    service.body.write(bytes(MOST_PAGE + 1))
    assert (told, service.gone) == ([None], True)
    _, service, told = paged()
    service.body.fail(error("gone", "lost"))
    assert told == [None]


def test_a_page_that_nobody_waits_for_is_told_to_nobody() -> None:
    page, service, told = paged()
    page.stop()
    page.stop()
    assert (told, service.gone) == ([], True)


def test_no_body_is_an_empty_page() -> None:
    told: list[bytes | None] = []
    Page(None, told.append).start()
    assert told == [b""]
