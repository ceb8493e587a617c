"""
OLE compound files, the documents of office programs until 2007 ([MS-CFB]).

Their formats are not read. Names of streams tell of macros and of encryption, and the text comes as runs of characters
of one and of two bytes: most of what people wrote is stored so ([MS-DOC] 2.4.1, [MS-XLS] 2.5.293, [MS-OXMSG] 2.2).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from sslintercept.unpack.budget import ENCRYPTED, MACROS, TRUNCATED, Budget
from sslintercept.unpack.piece import Piece, text

MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MACROS: Final = frozenset(("vba", "macros", "_vba_project_cur", "_vba_project"))
_ENCRYPTED: Final = frozenset(("encryptedpackage", "encryptioninfo", "\x06dataspaces"))
_LAST: Final = 0xFFFFFFF9
"""numbers of sectors from here on are none"""
_RUNS: Final = re.compile(rb"(?:[\x20-\x7e\t\r\n\xa0-\xff]\0|[\0-\xff][\x04\x05]){4,}|[\x20-\x7e\t\r\n\x80-\xff]{6,}")
"""characters of two bytes (Latin, Cyrillic), or of one"""


def names(data: bytes) -> list[str]:
    """
    The names of all streams and storages, in lower case.

    @raise ValueError: it is none of these files. C{struct.error} likewise.
    """
    if not data.startswith(MAGIC) or len(data) < 512:
        raise ValueError("no compound file")
    shift = struct.unpack_from("<H", data, 30)[0]
    if shift not in (9, 12):
        raise ValueError("sectors of a size that nobody uses")
    size = 1 << shift
    sector = struct.unpack_from("<I", data, 48)[0]
    tables = [number for number in struct.unpack_from("<109I", data, 76) if number < _LAST]
    found: list[str] = []
    seen: set[int] = set()
    while sector < _LAST and sector not in seen:
        seen.add(sector)
        at = (sector + 1) << shift
        if at >= len(data):
            raise ValueError("cut off")
        for entry in range(at, min(at + size, len(data) - 127), 128):
            length = struct.unpack_from("<H", data, entry + 64)[0]
            if 2 <= length <= 64 and data[entry + 66]:
                found.append(data[entry : entry + length - 2].decode("utf-16-le", "replace").lower())
        table = sector * 4 >> shift
        if table >= len(tables):
            break
        sector = struct.unpack_from("<I", data, ((tables[table] + 1) << shift) + (sector * 4 & size - 1))[0]
    return found


def open_ole(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """Notes, and the runs of characters."""
    notes: list[str] = []
    try:
        streams = frozenset(names(piece.content))
    except (ValueError, struct.error):
        streams = frozenset()
        notes.append(TRUNCATED)
    if streams & _MACROS:
        notes.append(MACROS)
    if streams & _ENCRYPTED:
        notes.append(ENCRYPTED)
    lines = []
    for run in _RUNS.findall(piece.content):
        budget.tick()
        wide = len(run) > 3 and (run[1] in (0, 4, 5) or run[3] in (0, 4, 5))
        lines.append(run.decode("utf-16-le" if wide else "cp1252", "replace"))
    yield text("text", "\n".join(lines).replace("\r", "\n"), *notes)
