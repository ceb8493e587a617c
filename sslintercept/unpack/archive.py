"""
Archives: zip (PKWARE APPNOTE 6.3.10) and tar (POSIX.1-2017 pax), and files in one compressed stream.

Both are walked here and not by C{zipfile} and C{tarfile}: those believe sizes, and read directories whole. Of a zip we
take what its directory lists and what it does not list, as far as streams go and not as far as headers say: whatever
some unzipper would find, an inspector sees. Where two headers differ, the piece has a note.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sslintercept.unpack.budget import (
    ENCRYPTED,
    ENTRIES,
    LIES,
    OVERLAP,
    RUBBISH,
    SIZE,
    TRUNCATED,
    UNLISTED,
    UNOPENED,
    Budget,
)
from sslintercept.unpack.expand import Expanded, expand
from sslintercept.unpack.piece import MEMBER, Piece

LOCAL, LISTED = b"PK\x03\x04", b"PK\x01\x02"
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_LISTED: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR: Final = struct.Struct("<4sIQI")
_MOST_COMMENT: Final = 65535
_METHODS: Final = {8: "deflate", 12: "bzip2", 93: "zstd", 95: "xz"}
_STORED, _LZMA = 0, 14
_ENDINGS: Final = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".bz", ".lzma")
BLOCK: Final = 512
MOST_BAD: Final = 1000
"""blocks of a tar that are no headers where one should be"""


@dataclass(slots=True)
class Entry:
    """A member of a zip, as the directory tells of it, or its own header."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    at: int
    """of its own header"""
    listed: bool = True

    @property
    def encrypted(self) -> bool:
        return bool(self.flags & 0x2041)


class Zip:
    """
    @ivar entries: in the order of the directory; then those that it does not list.
    @ivar notes: of the archive itself.
    """

    def __init__(self, data: bytes, budget: Budget) -> None:
        self._data, self._budget = data, budget
        self.notes: dict[str, None] = {}
        self._directory = len(data)
        """where the directory begins: members end there"""
        self.entries = self._listed()
        self._overlapping = self._overlaps()
        self.entries += self._unlisted()

    # what there is

    def _listed(self) -> list[Entry]:
        data = self._data
        end = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - _MOST_COMMENT))
        if end < 0 or len(data) < end + _END.size:
            self.notes[TRUNCATED] = None
            return []
        _, _, _, _, count, size, offset, _ = _END.unpack_from(data, end)
        locator = end - _LOCATOR.size
        if locator >= 0 and data.startswith(b"PK\x06\x07", locator):
            at = _LOCATOR.unpack_from(data, locator)[2]
            if not data.startswith(b"PK\x06\x06", at):
                at = data.rfind(b"PK\x06\x06", 0, locator)  # something stands in front of the archive
            if 0 <= at <= locator - _END64.size:
                count, size, offset = _END64.unpack_from(data, at)[7:]
                end = at
        begin = end - size
        if begin < 0 or not data.startswith(LISTED, begin):
            begin = offset
        if count and not data.startswith(LISTED, begin):
            self.notes[LIES] = None
            begin = data.find(LISTED)
            if begin < 0:
                return []
        shift = begin - offset
        self._directory = begin
        entries: list[Entry] = []
        while data.startswith(LISTED, begin) and len(data) >= begin + _LISTED.size:
            if len(entries) > self._budget.limits.entries:
                break
            (_, _, _, flags, method, _, _, crc, packed, full, names, extras, comments, _, _, _, at) = (
                _LISTED.unpack_from(data, begin)
            )
            begin += _LISTED.size
            raw, extra = data[begin : begin + names], data[begin + names : begin + names + extras]
            begin += names + extras + comments
            full, packed, at = _wide(extra, full, packed, at)
            entries.append(Entry(_name(raw, flags), flags, method, crc, packed, full, at + shift))
        if len(entries) <= self._budget.limits.entries and len(entries) not in (count, count & 0xFFFF):
            self.notes[LIES] = None
        return entries

    def _overlaps(self) -> set[int]:
        """Which entries share bytes with one in front of them."""
        found: set[int] = set()
        until = 0
        for number, entry in sorted(enumerate(self.entries), key=lambda each: each[1].at):
            if entry.at < until:
                found.add(number)
            until = max(until, entry.at + _LOCAL.size + entry.packed)
        return found

    def _unlisted(self) -> list[Entry]:
        """Members that have only a header of their own."""
        data, entries = self._data, []
        if len(self.entries) > self._budget.limits.entries:
            return []
        taken = sorted((entry.at, self._begin(entry) + entry.packed) for entry in self.entries)
        at = number = wrong = 0
        while (at := data.find(LOCAL, at, self._directory)) >= 0:
            while number < len(taken) and taken[number][1] <= at:
                number += 1
            if number < len(taken) and taken[number][0] <= at:
                at = taken[number][1]
                continue
            self._budget.tick()
            entry = self._own(at)
            if entry is None:
                at += len(LOCAL)
                wrong += 1
                if wrong > self._budget.limits.entries:
                    self.notes[ENTRIES] = None
                    break
                continue
            entries.append(entry)
            if len(entries) > self._budget.limits.entries:
                break
            at = max(self._begin(entry) + entry.packed, at + len(LOCAL))
        if entries and self.entries:
            self.notes[UNLISTED] = None
        return entries

    def _own(self, at: int) -> Entry | None:
        """What a member's own header says; C{None} if it is none."""
        if len(self._data) < at + _LOCAL.size:
            return None
        _, version, flags, method, _, _, crc, packed, full, names, extras = _LOCAL.unpack_from(self._data, at)
        begin = at + _LOCAL.size
        if not names or version & 0xFF > 99 or method > 99:
            return None
        extra = self._data[begin + names : begin + names + extras]
        full, packed, _ = _wide(extra, full, packed, 0)
        return Entry(_name(self._data[begin : begin + names], flags), flags, method, crc, packed, full, at, False)

    def _begin(self, entry: Entry) -> int:
        """Where its content begins; behind the end of everything if it has no header."""
        if entry.at < 0 or len(self._data) < entry.at + _LOCAL.size:
            return len(self._data)
        header = _LOCAL.unpack_from(self._data, entry.at)
        return entry.at + _LOCAL.size + int(header[9]) + int(header[10])

    # what is in it

    def read(self, number: int, most: int | None = None) -> tuple[bytes, list[str]]:
        """The content of an entry, and what is to be known of it."""
        entry = self.entries[number]
        notes = [] if entry.listed or not any(each.listed for each in self.entries) else [UNLISTED]
        if number in self._overlapping:
            notes.append(OVERLAP)
        if entry.encrypted:
            return b"", [*notes, ENCRYPTED]
        if entry.at < 0 or not self._data.startswith(LOCAL, entry.at):
            return b"", [*notes, LIES]
        if _differ(self._own(entry.at), entry):
            notes.append(LIES)
        begin = self._begin(entry)
        end = begin + entry.packed
        if entry.method == _STORED:
            return self._stored(entry, begin, end, most, notes)
        view = memoryview(self._data)
        packed = view[begin:end]
        got = self._expand(entry.method, packed, most)
        if got is None:
            return b"", [*notes, UNOPENED]
        if not got.whole and end < self._directory and (TRUNCATED in got.notes or RUBBISH in got.notes):
            # The stream goes on where its headers say that it has ended.
            longer = self._expand(entry.method, view[begin : self._directory], most)
            if longer is not None and len(longer.content) > len(got.content):
                got, packed = longer, view[begin : begin + longer.used]
                notes.append(LIES)
        if not entry.listed and entry.flags & 8:
            entry.packed = got.used
        elif got.whole and (
            (len(got.content), zlib.crc32(got.content)) != (entry.size, entry.crc) or got.used != len(packed)
        ):
            notes.append(LIES)
        return got.content, list(dict.fromkeys((*notes, *got.notes)))

    def _stored(
        self, entry: Entry, begin: int, end: int, most: int | None, notes: list[str]
    ) -> tuple[bytes, list[str]]:
        room = self._budget.room if most is None else most
        if not entry.listed and entry.flags & 8 and not entry.packed:
            end = self._directory
        content = self._data[begin : min(end, begin + room)]
        if end > len(self._data):
            notes.append(TRUNCATED)
        elif end - begin > room:
            notes.append(SIZE)
        elif (len(content), zlib.crc32(content)) != (entry.size, entry.crc):
            notes.append(LIES)
        return content, list(dict.fromkeys(notes))

    def _expand(self, method: int, packed: memoryview, most: int | None) -> Expanded | None:
        if method == _LZMA and len(packed) >= 9:
            # Two bytes of version, two that say how long the properties are; then a stream of unknown length.
            got = expand("lzma", b"".join((packed[4:9], b"\xff" * 8, packed[9:])), self._budget, most=most)
            return got._replace(used=got.used - 4)
        kind = _METHODS.get(method)
        return None if kind is None else expand(kind, packed, self._budget, most=most)


def _differ(own: Entry | None, entry: Entry) -> bool:
    """Whether a member's own header tells of another member than the directory does."""
    if own is None or own.name != entry.name or own.method != entry.method or own.encrypted:
        return True
    if own.flags & 8:  # its sizes stand behind its content, in no place that could be trusted more
        return False
    return (own.packed, own.size) != (entry.packed, entry.size)


def _wide(extra: bytes, full: int, packed: int, at: int) -> tuple[int, int, int]:
    """The numbers that did not fit their fields (4.5.3)."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            numbers = extra[4 : 4 + length]
            values = list(struct.unpack(f"<{len(numbers) // 8}Q", numbers[: len(numbers) // 8 * 8]))
            if full == 0xFFFFFFFF and values:
                full = values.pop(0)
            if packed == 0xFFFFFFFF and values:
                packed = values.pop(0)
            if at == 0xFFFFFFFF and values:
                at = values.pop(0)
            break
        extra = extra[4 + length :]
    return full, packed, at


def _name(raw: bytes, flags: int) -> str:
    return raw.decode("utf-8" if flags & 0x800 else "cp437", "replace")


def open_zip(found: Zip, budget: Budget) -> Iterator[Piece]:
    """The members of a zip."""
    for note in found.notes:
        budget.hit(note)
    for number, entry in enumerate(found.entries):
        budget.tick()
        content, notes = found.read(number)
        if entry.name.endswith("/") and not content and not notes:
            continue  # a folder
        if not entry.listed and not content and RUBBISH in notes:
            continue  # four bytes that look like a header
        yield Piece(MEMBER, entry.name, content, encrypted=entry.encrypted, notes=notes)


def open_stream(kind: str, piece: Piece, budget: Budget) -> Iterator[Piece]:
    """The file in a compressed stream."""
    name = piece.name
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    if name.lower().endswith(".tgz"):
        name = name[:-4] + ".tar"
    got = expand(kind, piece.content, budget)
    yield Piece(MEMBER, name, got.content, notes=got.notes)


def open_tar(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """The files of a tar; blocks of zeros end it for some, not for all, and so not for us."""
    data, at, bad = piece.content, 0, 0
    long_name = ""
    while at + BLOCK <= len(data):
        block = data[at : at + BLOCK]
        at += BLOCK
        if not any(block):
            continue
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
            if info.size < 0:
                raise tarfile.HeaderError("size")
        except (tarfile.HeaderError, ValueError):
            bad += 1
            budget.hit(RUBBISH)
            budget.tick()
            if bad > MOST_BAD:
                return
            continue
        end = at + info.size
        notes = []
        if end > len(data):
            end = len(data)
            notes.append(TRUNCATED)
        if info.type in (b"L", b"x", b"X"):
            head = data[at : min(end, at + 64 * 1024)]
            long_name = head.rstrip(b"\0").decode("utf-8", "replace") if info.type == b"L" else _pax_path(head)
        elif info.isreg() or info.size:
            content = data[at : min(end, at + budget.room)]
            if len(content) < end - at:
                notes.append(SIZE)
            if content or info.isreg():
                yield Piece(MEMBER, long_name or info.name, content, notes=notes)
            long_name = ""
        at += -(-info.size // BLOCK) * BLOCK
    if at < len(data) and any(data[at:]):
        budget.hit(TRUNCATED)


def _pax_path(head: bytes) -> str:
    """The name in an extended header: lines of a length, a key and a value."""
    begin = head.find(b" path=")
    if begin < 0:
        return ""
    end = head.find(b"\n", begin)
    return head[begin + 6 : end if end >= 0 else len(head)].decode("utf-8", "replace")
