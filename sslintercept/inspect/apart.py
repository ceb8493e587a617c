"""Takes parts apart in worker processes, and believes nothing of what these say."""

from __future__ import annotations

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
"""the kind of the last piece, which has no content and says what was wrong with the whole"""


class Apart:
    """Takes parts apart (L{sslintercept.inspect.processor.TakeApart})."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def __call__(self, part: Part, content: Sequence[bytes]) -> Deferred[Sequence[Piece]]:
        """The pieces of a part; it fails with an L{sslintercept.errors.EngineError}."""
        meta = {
            "type": part.type,
            "media_type": part.media_type,
            "content_type": part.content_type,
            "name": part.name,
            "charset": part.charset,
        }
        return self._workers.run(TASK, meta, content).addCallback(pieces)


def pieces(items: Sequence[Item]) -> Sequence[Piece]:
    """What a worker gave, as far as it is what it should be."""
    return [piece for item in items if (piece := _piece(item.meta, item.content)) is not None]


def _piece(meta: Any, content: bytes) -> Piece | None:  # Any: JSON of a process that may be somebody else's
    kind = meta.get("kind")
    notes = _texts(meta.get("limits" if kind == END else "notes"))
    if meta.get("encrypted") is True and "encrypted" not in notes:
        notes = (*notes, "encrypted")
    if kind == END:
        return Piece((), "text", "", "", None, b"", notes) if notes else None
    if kind not in KINDS:
        return None
    path = _texts(meta.get("path"))
    name = meta.get("name")
    media_type, charset = meta.get("media_type"), meta.get("charset")
    return Piece(
        path,
        kind,
        name[:MOST_NAME] if isinstance(name, str) else "",
        media_type[:MOST_NAME].lower() if isinstance(media_type, str) else "",
        charset[:MOST_NAME] if isinstance(charset, str) else None,
        content,
        notes,
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(one[:MOST_NAME] for one in value[:MOST_DEPTH] if isinstance(one, str))
