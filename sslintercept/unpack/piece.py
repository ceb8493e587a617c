"""A piece that was taken out of something, on its way to whoever asked."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from sslintercept.unpack.budget import Budget

MOST_NAME: Final = 512
"""characters of a name that are kept"""

MEMBER, ATTACHMENT, FIELD, TEXT, HEADERS = "member", "attachment", "field", "text", "headers"
"""kinds of pieces"""


@dataclass(slots=True)
class Piece:
    """
    One piece.

    @ivar kind: C{member} of an archive or document, C{attachment} of a mail, C{field} of a form, C{text} in UTF-8,
        C{headers} of a mail, decoded.
    @ivar media_type: as declared, in lower case; C{charset} and C{boundary} likewise.
    @ivar notes: words of L{sslintercept.unpack.budget}.
    """

    kind: str
    name: str
    content: bytes
    media_type: str = ""
    charset: str = ""
    boundary: str = ""
    encrypted: bool = False
    notes: list[str] = field(default_factory=list)


Opener = Callable[[Piece, Budget], Iterator[Piece]]
"""opens one format: gives pieces, may raise anything for what is not of its format, and L{Spent}"""


def text(name: str, content: str, *notes: str) -> Piece:
    """A text."""
    return Piece(TEXT, name, content.encode("utf-8", "replace"), "text/plain", "utf-8", notes=list(notes))


def plain(name: str) -> str:
    """A name fit to be shown: bounded, on one line, without what turns or hides characters."""
    return "".join("\ufffd" if unicodedata.category(char)[0] == "C" else char for char in name[:MOST_NAME])
