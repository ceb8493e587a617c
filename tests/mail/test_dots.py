"""Dot-stuffing: what is taken off, and what is put on again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.mail.dots import AmbiguousEnd, Content, Stuffed
from sslintercept.mail.pop3 import Dotted

LINES = st.lists(st.sampled_from([b".", b"..", b"x", b"\r\n", b"\r", b"\n", b"\0", b"text"]), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 40), max_size=4)


def stuffed(content: bytes, cuts: list[int], checked: bool) -> bytes:
    """As it is sent, fed in pieces."""
    way, out, at = Stuffed(checked), b"", 0
    for cut in [*sorted(cuts), len(content)]:
        out += way.feed(content[at:cut])
        at = max(at, cut)
    return out + way.end()


def ended(content: bytes) -> bytes:
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"


@given(LINES, CUTS)
def test_what_is_put_on_is_taken_off_again(content: bytes, cuts: list[int]) -> None:
    sent = stuffed(content, cuts, False)
    assert Dotted().feed(sent + b"+OK") == (ended(content), len(sent))


@given(LINES, CUTS)
def test_what_is_checked_is_read_alike_or_not_sent(content: bytes, cuts: list[int]) -> None:
    try:
        sent = stuffed(content, cuts, True)
    except AmbiguousEnd:
        return
    assert Content().feed(sent + b"QUIT") == (ended(content), len(sent))
    for lone in (b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n"):
        assert lone not in sent[:-3].replace(b"\r\n", b"  "), lone


@given(LINES, CUTS)
def test_a_content_that_came_is_sent_again(content: bytes, cuts: list[int]) -> None:
    original = ended(content).replace(b"\r\n.", b"\r\n..")
    original = (b"." + original if original.startswith(b".") else original) + b".\r\n"
    try:
        came, size = Content().feed(original)
    except AmbiguousEnd:
        return
    assert size == len(original)
    assert stuffed(came, cuts, True) == original


@pytest.mark.parametrize("content", [b"x\n.\r\ny\r\n", b"x\r.\ry\r\n", b"x\n.", b"\0.\r\n"])
def test_a_dot_that_may_be_the_end_is_not_sent(content: bytes) -> None:
    with pytest.raises(AmbiguousEnd):
        stuffed(content, [], True)
