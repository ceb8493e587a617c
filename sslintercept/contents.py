"""
What of a file is text, for commands: what the inspectors of leaks (C{dlp}) would see, were it sent.

What is no plain text is taken apart in a worker process and not here, as libraries in C read what others made of the
file; it is waited for (L{sslintercept.worker.alone}), since no reactor runs in a command.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from sslintercept.errors import ConfigError, EngineError
from sslintercept.facts import Address, Facts
from sslintercept.inspect.apart import TASK, pieces
from sslintercept.inspect.part import HEAD, Part, sniff
from sslintercept.inspect.pieces import BOMBS, UNREADABLE, Piece
from sslintercept.inspect.shipped.dlp import reads, undoing
from sslintercept.inspect.shipped.undo import Undo
from sslintercept.transform.message import Direction
from sslintercept.unpack.budget import ENCRYPTED
from sslintercept.unpack.charset import is_wide
from sslintercept.unpack.known import by_name, opens
from sslintercept.worker.wire import Item

CHUNK: Final = 64 * 1024
"""bytes of a file that are read at once"""
MOST_OPENED: Final = 64 * 1024 * 1024
"""bytes of a file that is taken apart"""

Run = Callable[[str, Mapping[str, object], bytes], Sequence[Item]]
"""runs a task (L{sslintercept.worker.alone.Alone.run}); raises L{EngineError}"""


class Text(NamedTuple):
    """
    One text of a file.

    @ivar path: names from the file, without it, to the text; none for the file itself.
    @ivar chunks: its bytes, to be read before the next text is asked for.
    """

    path: tuple[str, ...]
    chunks: Iterator[bytes]


class Contents:
    """
    The texts of one file, which is read once.

    @ivar unread: what is in none of them: where, and a word or line why; complete once the last text is read.
    @param regular: it must be a regular file.
    """

    def __init__(self, path: Path, run: Run, *, regular: bool = False) -> None:
        self._path, self._run, self._regular = path, run, regular
        self._whole = bytearray()
        self.unread: dict[tuple[tuple[str, ...], str], None] = {}

    def texts(self, *, once: bool = False) -> Iterator[Text]:
        """
        The texts, in their order; of a page, JSON and the like what it is, and then what is read in it.

        @param once: only the latter.
        @raise ConfigError: the file cannot be read.
        """
        chunks = self._chunks()
        first = next(chunks, b"")
        part = _part(self._path.name, first)
        opened = part.charset is not None or opens(part.media_type, part.sniffed, part.name)
        undo = _reading(part, first)
        read = self._keeping(first, chunks, keep=opened)
        as_it_is: set[tuple[str, ...]] = set()
        if undo is not None and not (once and opened):
            as_it_is.add(())
            yield Text((), _undone(undo, read))
        for _ in read:  # to keep what nobody wanted
            pass
        found = self._found(part) if opened else []
        if once:
            found = self._once(found)
        for piece, of in found:
            if piece.kind != "text":
                as_it_is.add(piece.path)
            yield Text(piece.path, _undone(of, iter((piece.content,))))
        if once and opened and not found and undo is not None:
            as_it_is.add(())
            yield Text((), _undone(undo, iter((bytes(self._whole),))))
        if undo is None and not found and not self.unread:
            self.unread[(), "no text"] = None
        for where, why in list(self.unread):
            # What somebody read as it is may be no good XML: there is nothing in it that was not read.
            if why in UNREADABLE and (where in as_it_is or (where and where[:-1] in as_it_is)):
                del self.unread[where, why]

    def _once(self, found: list[tuple[Piece, Undo]]) -> list[tuple[Piece, Undo]]:
        """Without pages whose text comes behind them, and without what is beside an encrypted document in its file."""
        inner = {piece.path[:-1] for piece, _ in found}
        return [
            (piece, undo)
            for piece, undo in found
            if piece.path not in inner
            and (piece.path, ENCRYPTED) not in self.unread
            and not (piece.kind == "text" and piece.media_type == "text/html")
        ]

    def _found(self, part: Part) -> list[tuple[Piece, Undo]]:
        """The pieces that are text, and how they are read."""
        if len(self._whole) > MOST_OPENED:
            self.unread[(), f"more than {MOST_OPENED} bytes"] = None
            return []
        meta = {
            "sniffed": part.sniffed,
            "media_type": part.media_type,
            "name": part.name,
            "charset": part.charset or "",
        }
        try:
            items = self._run(TASK, meta, bytes(self._whole))
        except EngineError as error:
            self.unread[(), error.what] = None
            return []
        found: list[tuple[Piece, Undo]] = []
        for piece in pieces(items):
            for note in piece.notes:
                if note in BOMBS or note in UNREADABLE:
                    self.unread[piece.path, note] = None
            one = part.member(piece.kind, piece.name, piece.media_type, len(piece.content), piece.charset)
            one.sniffed = sniff(piece.content[:HEAD])
            if piece.content.strip() and (undo := _reading(one, piece.content)) is not None:
                found.append((piece, undo))
        return found

    def _keeping(self, first: bytes, chunks: Iterator[bytes], *, keep: bool) -> Iterator[bytes]:
        """All chunks; they are kept for taking apart, up to one that is too much."""
        for chunk in chain((first,), chunks):
            if keep and len(self._whole) <= MOST_OPENED:
                self._whole += chunk
            yield chunk

    def _chunks(self) -> Iterator[bytes]:
        path = self._path
        try:
            if self._regular and not stat.S_ISREG(path.stat().st_mode):
                raise ConfigError("not a regular file", where=str(path), remedy="name a file")
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise ConfigError(f"cannot be read ({error.strerror})", where=str(path), remedy="check the path") from None


def _part(name: str, first: bytes) -> Part:
    """What a file would be if it were sent, by its name and first bytes."""
    sniffed = sniff(first[:HEAD]) if first else "text/plain"
    wide = sniffed in ("", "text/plain") and is_wide(first, "")
    nobody = Facts("file", Address("", 0), "")
    return Part(
        "file",
        "file",
        Direction.REQUEST,
        nobody,
        name=name,
        media_type="text/plain" if wide else by_name(name),
        charset="utf-16" if wide else None,  # or of four bytes: whoever takes it apart looks for himself
        sniffed=sniffed,
    )


def _reading(part: Part, first: bytes) -> Undo | None:
    """How C{dlp} reads it; a file of wide characters is read as the one piece that is in it."""
    if (part.parent is None and part.charset is not None) or not reads(part):
        return None
    return undoing(part, first, traced=False)


def _undone(undo: Undo, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield undo.feed(chunk, False)
    if rest := undo.feed(b"", True):
        yield rest
