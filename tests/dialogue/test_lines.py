"""Lines: whole, in order, byte for byte, however they come, and never longer than the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dialogue.lines import Lines, LineTooLong

TEXT = b"220 ready\r\n\r\nbare\n\rlast\r\nhalf"
LINES = [b"220 ready\r\n", b"\r\n", b"bare\n", b"\rlast\r\n"]


def taken(lines: Lines) -> list[bytes]:
    """Every whole line that is there."""
    found = []
    while (line := lines.next()) is not None:
        found.append(line)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(TEXT)])
def test_lines_are_the_same_in_pieces_of_every_size(size: int) -> None:
    lines = Lines(64)
    found = []
    for at in range(0, len(TEXT), size):
        lines.feed(TEXT[at : at + size])
        found += taken(lines)
    assert found == LINES
    assert len(lines) == 4
    assert lines.rest() == b"half"
    assert len(lines) == 0


def test_lines_that_were_not_asked_for_are_part_of_the_rest() -> None:
    lines = Lines(64)
    lines.feed(b"one\r\ntwo\r\n")
    assert lines.next() == b"one\r\n"
    assert len(lines) == 5
    assert lines.rest() == b"two\r\n"
    assert lines.next() is None
    lines.feed(b"three\r\n")
    assert lines.next() == b"three\r\n"


def test_bytes_that_come_between_two_lines_do_not_hide_the_second() -> None:
    lines = Lines(64)
    lines.feed(b"one\ntwo\nth")
    assert lines.next() == b"one\n"
    lines.feed(b"ree\n")
    assert taken(lines) == [b"two\n", b"three\n"]


def test_a_line_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    lines = Lines(8)
    lines.feed(b"123456\r\n")
    assert lines.next() == b"123456\r\n"
    lines.feed(b"1234567\r\n")
    with pytest.raises(LineTooLong, match="more than 8 bytes"):
        lines.next()
    assert lines.rest() == b"1234567\r\n"


def test_a_line_without_an_end_is_too_long_when_only_its_end_would_fit_no_more() -> None:
    lines = Lines(8)
    lines.feed(b"1234567")
    assert lines.next() is None
    lines.feed(b"8")
    with pytest.raises(LineTooLong):
        lines.next()
    assert lines.rest() == b"12345678"


@given(st.lists(st.binary(max_size=12).map(lambda piece: piece.replace(b"x", b"\n")), max_size=20))
def test_what_is_fed_is_what_is_given_out_and_the_rest(pieces: list[bytes]) -> None:
    lines = Lines(1000)
    found = []
    for piece in pieces:
        lines.feed(piece)
        found += taken(lines)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in found)
    rest = lines.rest()
    assert b"\n" not in rest
    assert b"".join(found) + rest == b"".join(pieces)
