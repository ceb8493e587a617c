"""The tail that is held back."""

from __future__ import annotations

import pytest

from sslintercept.inspect.hold import Hold


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_never_more_than_allowed_is_held_and_nothing_is_lost(size: int) -> None:
    passed: list[bytes] = []
    hold = Hold(10, passed.append)
    content = bytes(range(100))
    for at in range(0, 100, size):
        hold.write(content[at : at + size])
        assert hold.held <= 10
        assert hold.held + hold.released == min(at + size, 100)
    hold.let_go()
    assert b"".join(passed) == content


def test_what_is_held_can_be_overwritten_across_pieces() -> None:
    passed: list[bytes] = []
    hold = Hold(100, passed.append)
    for piece in (b"abc", b"def", b"ghi"):
        hold.write(piece)
    assert hold.mask(2, 5)
    hold.let_go()
    assert b"".join(passed) == b"ab*****hi"


def test_what_has_passed_or_has_not_come_cannot_be_overwritten() -> None:
    passed: list[bytes] = []
    hold = Hold(4, passed.append)
    hold.write(b"abcdefgh")
    assert not hold.mask(3, 2)
    assert not hold.mask(7, 2)
    assert hold.mask(4, 4)
    hold.let_go()
    assert b"".join(passed) == b"abcd****"


def test_what_is_taken_does_not_pass() -> None:
    passed: list[bytes] = []
    hold = Hold(4, passed.append)
    hold.write(b"abcdef")
    assert hold.take() == b"cdef"
    hold.let_go()
    assert passed == [b"ab"]
    assert hold.held == 0


def test_what_is_still_to_be_looked_at_can_be_overwritten_however_much_it_is() -> None:
    passed: list[bytes] = []
    hold = Hold(4, passed.append)
    hold.add(b"abcdefghij")
    assert passed == []
    assert hold.mask(1, 2)
    hold.trim()
    assert passed == [b"a**def"]
