"""
The content of a mail between C{354} and C{CRLF . CRLF}: where it ends, and what it says (RFC 5321 4.1.1.4, 4.5.2).

A line that begins with a dot loses it; a line of one dot is the end. A line ends in CRLF and in nothing else (RFC 5321
2.3.8), but not every server thinks so: some take a bare LF, a bare CR or a CRLF with NULs about it for the end of a
line. A lone dot beside one of these is the end of the message to such a server and content to every other, and what
follows it is a smuggled mail to one and text to the other. So it is neither here: it is an error
(L{AmbiguousEnd}). Bare line ends anywhere else pass.

Nothing is kept between two pieces but where they met. Text without a dot at the beginning of a line is one search.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class AmbiguousEnd(ValueError):
    """A lone dot that ends the message for one server and not for another."""


class _At(Enum):
    TEXT = "within a line"
    CR = "behind a CR"
    LINE = "behind CRLF"
    LOOSE = "behind what some take for the end of a line"
    DOT = "behind a dot behind CRLF"
    LOOSE_DOT = "behind a dot that is not behind CRLF"
    DOT_CR = "behind CRLF, dot, CR"
    END = "at the end"
    AMBIGUOUS = "nobody knows where"


_NUL, _LF, _CR, _DOT = b"\0\n\r."

_FOLLOWS: Final[Mapping[_At, Mapping[int, _At]]] = MappingProxyType(
    {
        _At.TEXT: {_CR: _At.CR, _LF: _At.LOOSE},
        _At.CR: {_CR: _At.CR, _LF: _At.LINE, _DOT: _At.LOOSE_DOT, _NUL: _At.LOOSE},
        _At.LINE: {_CR: _At.CR, _LF: _At.LOOSE, _DOT: _At.DOT, _NUL: _At.LOOSE},
        _At.LOOSE: {_CR: _At.CR, _LF: _At.LOOSE, _DOT: _At.LOOSE_DOT, _NUL: _At.LOOSE},
        _At.DOT: {_CR: _At.DOT_CR, _LF: _At.AMBIGUOUS, _NUL: _At.LOOSE_DOT},
        _At.LOOSE_DOT: {_CR: _At.AMBIGUOUS, _LF: _At.AMBIGUOUS, _NUL: _At.LOOSE_DOT},
        _At.DOT_CR: {_LF: _At.END},
    }
)
"""Where a byte leads; any other byte leads into text, and behind C{DOT_CR} nowhere."""
_FRAMING: Final = frozenset((_At.DOT, _At.DOT_CR, _At.END))
"""What led here is not content."""

_TURN: Final = re.compile(rb"(?<![\r\n])[\r\n]++(?:[.\0]|\Z)")
"""Line ends behind which something may happen."""


class Content:
    """
    Takes the dot-stuffing off one message.

    @ivar done: the end has come.
    """

    __slots__ = ("_at", "done")

    def __init__(self) -> None:
        self._at = _At.LINE  # that of the command
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """
        Give the content in C{data}, and how many bytes of it belong to this message: all of them until C{done}.

        @raise AmbiguousEnd: nobody can say where the message ends; the last bytes must not be handed on.
        """
        pieces, begin, here, at = [], 0, 0, self._at
        while here < len(data) and at is not _At.END:
            if at is _At.TEXT:
                turn = _TURN.search(data, here)
                if turn is None:
                    here = len(data)
                    break
                here = turn.start()
            at = _FOLLOWS[at].get(data[here], _At.AMBIGUOUS if at is _At.DOT_CR else _At.TEXT)
            here += 1
            if at in _FRAMING:
                pieces.append(data[begin : here - 1])
                begin = here
            elif at is _At.AMBIGUOUS:
                raise AmbiguousEnd("a lone dot beside a bare CR or LF")
        pieces.append(data[begin:here])
        self._at = at
        self.done = at is _At.END
        return b"".join(pieces), here


class Stuffed:
    """
    Puts the dot-stuffing on again, for a content that was held, or replaced.

    @param checked: read what comes out as every receiver might read it, so that no content of others can end the
        message early.
    """

    __slots__ = ("_check", "_tail")

    def __init__(self, checked: bool) -> None:
        self._check = Content() if checked else None
        self._tail = b"\r\n"  # that of the command
        """the last two bytes of the content"""

    def feed(self, data: bytes) -> bytes:
        """
        The next bytes of the content, as they are sent.

        @raise AmbiguousEnd: nobody could say where the message ends.
        """
        before = self._tail
        whole = before + data
        self._tail = whole[-2:]
        # A dot right behind what was sent before counts, one within it was looked at.
        out = whole.replace(b"\r\n.", b"\r\n..")[len(before) :]
        self._look(out)
        return out

    def end(self) -> bytes:
        """
        What ends the message, behind the end of its last line.

        @raise AmbiguousEnd: likewise.
        """
        out = b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
        self._look(out, True)
        return out

    def _look(self, out: bytes, end: bool = False) -> None:
        if self._check is not None:
            self._check.feed(out)
            if self._check.done is not end:
                raise AmbiguousEnd("a lone dot within a message")
