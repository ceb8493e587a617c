"""Takes parts apart in worker processes, and believes nothing of what these say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from sslintercept.inspect.part import MOST_NAME, Part
from sslintercept.inspect.pieces import Piece

if TYPE_CHECKING:
    from sslintercept.worker.pool import Item, Workers

TASK: Final = "sslintercept.unpack.task:unpack"
MOST_DEPTH: Final = 64
"""names of a path"""
KINDS: Final = frozenset(("member", "attachment", "field", "text", "headers"))
END: Final = "end"
"""the kind of the last item, which says what was wrong"""
MOST_FAULTS: Final = 1000
_BOUNDARY: Final = re.compile(r";[ \t]*boundary[ \t]*=[ \t]*(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)


class Apart:
    """Takes parts apart (L{sslintercept.inspect.processor.TakeApart})."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def __call__(self, part: Part, content: Sequence[bytes]) -> Deferred[Sequence[Piece]]:
        """The pieces of a part; it fails with an L{sslintercept.errors.EngineError}."""
        meta = {
            "sniffed": part.sniffed,
            "media_type": part.media_type,
            "name": part.name,
            "charset": part.charset or "",
            "boundary": boundary_of(part.content_type),
        }
        return self._workers.run(TASK, meta, content).addCallback(pieces)


def boundary_of(content_type: str) -> str:
    """The boundary parameter of a Content-Type (RFC 2046 5.1.1); empty if there is none."""
    match = _BOUNDARY.search(content_type)
    return "" if match is None else match[1] or match[2]


def pieces(items: Sequence[Item]) -> Sequence[Piece]:
    """What a worker gave, as far as it is what it should be; behind the pieces what was wrong, and where."""
    found: list[Piece] = []
    for item in items:
        if item.meta.get("kind") == END:
            found += _faults(item.meta)
        elif (piece := _piece(item.meta, item.content)) is not None:
            found.append(piece)
    return found


def _faults(meta: Any) -> Sequence[Piece]:  # Any: JSON of a process that may be somebody else's
    places = meta.get("places")
    faults: dict[str, Piece] = {}
    for place in places[:MOST_FAULTS] if isinstance(places, list) else ():
        if isinstance(place, list) and len(place) == 2 and isinstance(place[0], str):
            path = _texts(place[1])
            faults.setdefault(place[0], Piece(path, "member", path[-1] if path else "", "", None, b"", (place[0],)))
    for note in _texts(meta.get("notes")):
        faults.setdefault(note, Piece((), "member", "", "", None, b"", (note,)))
    return list(faults.values())


def _piece(meta: Any, content: bytes) -> Piece | None:  # Any: likewise
    kind = meta.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return None
    name, media_type, charset = meta.get("name"), meta.get("media_type"), meta.get("charset")
    return Piece(
        _texts(meta.get("path")),
        kind,
        name[:MOST_NAME] if isinstance(name, str) else "",
        media_type[:MOST_NAME].lower() if isinstance(media_type, str) else "",
        charset[:MOST_NAME] if isinstance(charset, str) and charset else None,
        content,
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(one[:MOST_NAME] for one in value[:MOST_DEPTH] if isinstance(one, str))
