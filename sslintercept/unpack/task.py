"""
Takes a part apart, in a worker process: what is in it, and what is in that, in the order of the document.

    items = await workers.run("sslintercept.unpack.task:unpack", {"media_type": "text/html"}, content)

The meta of a job: C{media_type}, C{sniffed}, C{name}, C{charset}, C{boundary} (of multipart; it is guessed else), all
optional, and C{limits}, a subset of L{sslintercept.unpack.budget.Limits}.

Each item is a piece::

    {"kind": "member", "name": "a.doc", "path": ["x.zip", "a.doc"], "depth": 2, "media_type": "application/zip",
     "charset": "", "encrypted": false, "notes": []}

C{path} has the names from the part itself, without it, to the piece. The last item tells of everything::

    {"kind": "end", "notes": ["ratio"], "members": 12, "places": [["ratio", ["x.zip", "a.doc"]]]}

Nothing that a part may be makes it raise; C{MemoryError} apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from sslintercept.unpack.archive import Zip, open_stream, open_tar, open_zip
from sslintercept.unpack.budget import DEPTH, ENCRYPTED, RUBBISH, SIZE, UNOPENED, Budget, Limits, Spent
from sslintercept.unpack.charset import decode, is_wide
from sslintercept.unpack.form import open_form, open_json
from sslintercept.unpack.known import by_name, format_of
from sslintercept.unpack.mail import open_mail, open_multipart
from sslintercept.unpack.markup import open_html, open_xml
from sslintercept.unpack.office import kind_of, open_office
from sslintercept.unpack.ole import open_ole
from sslintercept.unpack.piece import FIELD, HEADERS, MOST_NAME, TEXT, Opener, Piece, plain, text
from sslintercept.unpack.rtf import open_rtf
from sslintercept.unpack.sniff import HEAD, sniff
from sslintercept.worker.wire import Item, Job

SHARE_OF_TIME: Final = 0.8
"""of a job's seconds: what has been found by then is told, before the process is killed"""


def unpack(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """The task."""
    budget = Budget(Limits.read(meta.get("limits")), time.monotonic, job.seconds * SHARE_OF_TIME)
    name, media_type, charset, boundary, sniffed = (
        str(meta.get(key) or "") for key in ("name", "media_type", "charset", "boundary", "sniffed")
    )
    sniffed = sniffed or sniff(content[:HEAD])
    part = Piece("part", name, content, media_type, charset, boundary)
    yield from Walk(budget).all(part, sniffed)


class Walk:
    """Everything in one part."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._members = 0

    def all(self, part: Piece, sniffed: str) -> Iterator[Item]:
        """All items, and the end."""
        try:
            if opener := opener_for(part, sniffed):
                yield from self._inside(opener, part)
        except Spent:
            pass
        budget = self._budget
        places = [[note, list(path)] for note, path in budget.places]
        yield Item({"kind": "end", "notes": list(budget.hits), "members": self._members, "places": places}, b"")

    def _inside(self, opener: Opener, container: Piece) -> Iterator[Item]:
        budget, path = self._budget, self._budget.path
        pieces = opener(container, budget)
        while True:
            budget.path = path
            try:
                piece = next(pieces, None)
            except (Spent, MemoryError):
                raise
            except Exception:  # libraries raise anything for what is not of their format
                budget.hit(RUBBISH)
                return
            if piece is None:
                return
            yield from self._piece(piece, path)

    def _piece(self, piece: Piece, path: tuple[str, ...]) -> Iterator[Item]:
        budget = self._budget
        piece.name = plain(piece.name) or piece.kind
        budget.path = (*path, piece.name)
        budget.entry()
        if len(piece.content) > budget.room:
            piece.content = piece.content[: budget.room]
            piece.notes.append(SIZE)
        opener: Opener | None = None
        sniffed = ""
        if piece.kind not in (TEXT, HEADERS):
            sniffed = sniff(piece.content[:HEAD])
            piece.media_type = piece.media_type or by_name(piece.name)
            opener = opener_for(piece, sniffed)
            if opener is closed:
                piece.notes.append(UNOPENED)
                opener = None
            if opener is not None and len(path) + 1 >= budget.limits.depth:
                piece.notes.append(DEPTH)
                opener = None
        if piece.encrypted and ENCRYPTED not in piece.notes:
            piece.notes.append(ENCRYPTED)
        for note in piece.notes:
            budget.hit(note)
        self._members += 1
        yield Item(
            {
                "kind": piece.kind,
                "name": piece.name,
                "path": list(budget.path),
                "depth": len(budget.path),
                "media_type": (piece.media_type or sniffed)[:MOST_NAME],
                "charset": piece.charset[:MOST_NAME],
                "encrypted": piece.encrypted,
                "notes": piece.notes,
            },
            piece.content,
        )
        budget.spend(len(piece.content))
        if opener is not None:
            yield from self._inside(opener, piece)


def closed(piece: Piece, budget: Budget) -> Iterator[Piece]:  # noqa: ARG001 - an Opener has two arguments
    """An archive that we know and cannot open."""
    budget.hit(UNOPENED)
    yield from ()


def _zip(piece: Piece, budget: Budget) -> Iterator[Piece]:
    found = Zip(piece.content, budget)
    kind = kind_of(found)
    if not found.entries and found.notes:
        budget.hit(RUBBISH)
    yield from open_office(found, kind, budget) if kind else open_zip(found, budget)


def _stream(kind: str) -> Opener:
    return lambda piece, budget: open_stream(kind, piece, budget)


def _pdf(piece: Piece, budget: Budget) -> Iterator[Piece]:
    from sslintercept.unpack.pdf import open_pdf  # only processes that meet one load the library

    yield from open_pdf(piece, budget)


def _text(piece: Piece, budget: Budget) -> Iterator[Piece]:  # noqa: ARG001 - likewise
    """Text of a charset that engines do not read as it is."""
    if is_wide(piece.content, piece.charset):
        decoded, notes = decode(piece.content, piece.charset)
        yield text("text", decoded, *notes)


_OPENERS: Final[dict[str, Callable[[Piece, Budget], Iterator[Piece]]]] = {
    "zip": _zip,
    "gzip": _stream("gzip"),
    "bzip2": _stream("bzip2"),
    "xz": _stream("xz"),
    "zstd": _stream("zstd"),
    "tar": open_tar,
    "pdf": _pdf,
    "ole": open_ole,
    "rtf": open_rtf,
    "html": open_html,
    "xml": open_xml,
    "json": open_json,
    "form": open_form,
    "mail": open_mail,
    "multipart": open_multipart,
    "text": _text,
    "closed": closed,
}


def opener_for(piece: Piece, sniffed: str) -> Opener | None:
    """What opens a piece, if anything does."""
    kind = format_of(piece.media_type, sniffed, piece.name)
    textual = piece.kind == FIELD or piece.media_type.startswith("text/")
    if not kind and textual and is_wide(piece.content, piece.charset):
        kind = "text"
    return _OPENERS[kind] if kind else None
