"""
A list as one block of bytes in which a site is found without making an object for each entry.

Layout, native byte order, each part at a multiple of eight bytes: a head (JSON: sizes, files, report), the slots of an
open hash table, a filter, the entries. An entry is its key, a line feed, and eight bytes of what it says; a slot is the
place of an entry, found by the CRC-32 of the key.

The key is compared byte by byte, so that no collision lists an innocent site. CRC-32 says the same in every process,
which C{hash} does not; that somebody can make names with the same one is bounded by L{MAX_CHAIN}.

The filter (Bloom, one bit a key) also knows the ancestors of names and the origins of URLs. So a look-up goes from the
right, C{example.com} before C{www.example.com}, and ends at the first name under which nothing is listed: mostly after
one bit.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

from sslintercept.sites.key import is_network
from sslintercept.sites.listing import Entry, Kind, ListError, Report

MAX_ENTRIES: Final = 8_000_000
"""entries of one list; about 300 MiB"""
MAX_BYTES: Final = 1 << 30
"""bytes of all entries"""
MAX_CHAIN: Final = 2000
"""slots that are looked at for one key; a list that needs more is made to be slow, or names a site as often"""
MAX_FILES: Final = 0xFFFF
"""files, and pairs of a file and a category"""
NONE: Final = ()
MAGIC: Final = b"sites 1\n"
PLACE: Final = 8
"""the first place of an entry, for a slot with 0 is free"""
END: Final = 10
"""follows a key; no key has it"""
SAYS: Final = Struct("<Q")
"""what an entry says: line (32 bits), source (16), exception (1), kind (7)"""
KINDS: Final = tuple(Kind)
NUMBERS: Final = {kind: number for number, kind in enumerate(KINDS)}
KIND: Final = 0x7F
"""the bits of an entry with the number of its kind"""
EXCEPTION: Final = 0x80
"""the bit of an entry that takes off the list"""
SLOTS: Final = 4
"""slots for each entry, at least: most look-ups meet one entry, and none that is not theirs"""
BITS: Final = 16
"""bits of the filter for each entry, at least"""


class Source(NamedTuple):
    """A file, as far as it is about one category."""

    file: str
    category: str


Hit: TypeAlias = tuple[bytes, int]
"""An entry that was found: its key, and what it says (L{SAYS})."""


def kind_of(number: int) -> Kind:
    return KINDS[number & KIND]


def source_of(number: int) -> int:
    return number >> 8 & 0xFFFF


def line_of(number: int) -> int:
    return number >> 24


class Builder:
    """
    Takes entries one after the other, and makes an image of them.

    @ivar report: what was taken, for the image.
    @ivar closest: see L{Image}.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.report = Report()
        self.closest = False
        self._entries = bytearray(PLACE)
        self._places = array("I")
        self._sources: dict[Source, int] = {}

    def source(self, file: str, category: str) -> int:
        """
        Give the number of a source.

        @raise ListError: there are too many.
        """
        number = self._sources.setdefault(Source(file, category), len(self._sources))
        if number > MAX_FILES:
            raise self._error(f"more than {MAX_FILES} files and categories")
        return number

    def add(self, entry: Entry, line: int, source: int) -> None:
        """@raise ListError: there are too many."""
        entries = self._entries
        if len(self._places) >= MAX_ENTRIES or len(entries) > MAX_BYTES:
            raise self._error(f"more than {MAX_ENTRIES} entries, or {MAX_BYTES >> 20} MiB of them")
        self._places.append(len(entries))
        flags = NUMBERS[entry.kind] | (EXCEPTION if entry.exception else 0)
        entries += entry.key
        entries.append(END)
        entries += SAYS.pack((line & 0xFFFFFFFF) << 24 | source << 8 | flags)

    def _error(self, what: str) -> ListError:
        return ListError(what, where=f"list {self.name}", remedy="split it, or leave something out")

    def finish(self) -> list[bytes | bytearray | array[int]]:
        """
        Give the parts of the image, to be written one after the other.

        @raise ListError: its keys are made to collide.
        """
        places, entries = self._places, bytes(self._entries)
        count = len(places)
        places.append(len(entries))
        size = 1 << max(3, (count * SLOTS - 1).bit_length() if count else 3)
        slots, mask = array("I", bytes(4 * size)), size - 1
        bits = 1 << max(9, (count * BITS - 1).bit_length() if count else 9)
        held, low = bytearray(bits >> 3), bits - 1
        prefixes: set[tuple[int, int]] = set()
        top = duplicates = 0
        for number in range(count):
            place = places[number]
            end = places[number + 1] - SAYS.size
            key = entries[place : end - 1]
            same = entries[place : end + 3]  # the key, its kind and its source, but not its line
            crc = crc32(key)
            at, met = crc & mask, 0
            while other := slots[at]:
                if entries.startswith(same, other):
                    duplicates += 1
                    break
                at, met = (at + 1) & mask, met + 1
                if met > MAX_CHAIN:
                    raise self._error(f"more than {MAX_CHAIN} keys at one place of the table")
            else:
                slots[at] = place
                held[(crc & low) >> 3] |= 1 << (crc & 7)
                if is_network(key):
                    prefixes.add((key[0], key[1]))
                elif (slash := key.find(b"/")) >= 0:
                    crc = crc32(key[: slash + 1])
                    held[(crc & low) >> 3] |= 1 << (crc & 7)
                elif (dot := key.rfind(b".")) < 0:
                    top = 1
                else:
                    while dot := key.rfind(b".", 0, dot) + 1:
                        crc = crc32(key[dot:])
                        held[(crc & low) >> 3] |= 1 << (crc & 7)
                        dot -= 1
        self.report.duplicates, self.report.entries = duplicates, count - duplicates
        head = {
            "slots": size,
            "filter": len(held),
            "entries": len(entries),
            "top": top,
            "closest": self.closest,
            "prefixes": sorted(prefixes, reverse=True),
            "sources": list(self._sources),
            "report": self.report.plain(),
        }
        text = json.dumps(head).encode("ascii")
        text += b" " * (-len(text) % 8)
        return [MAGIC, len(text).to_bytes(8, "little"), text, slots, held, entries]


class Image:
    """
    What L{Builder} made, ready to be asked.

    @ivar size: bytes of all of it.
    @ivar held: the filter; C{bits} masks a CRC-32 to a bit of it.
    @ivar top: whether a name of a single label is listed.
    @ivar closest: whether the closest entry decides, be it an exception or not (RPZ); else any exception does.
    @ivar prefixes: which kinds of networks are listed: bytes of the address, length of the prefix; the longest first.
    """

    __slots__ = (
        *("_data", "_entries", "_mask", "_slots"),
        *("bits", "closest", "held", "prefixes", "report", "size", "sources", "top"),
    )

    def __init__(self, data: bytes) -> None:
        """
        @raise ValueError: it is no image.
        """
        if data[:8] != MAGIC:
            raise ValueError("no image of a list")
        end = 16 + int.from_bytes(data[8:16], "little")
        head = json.loads(data[16:end])
        view = memoryview(data)
        middle = end + head["slots"] * 4
        last = middle + head["filter"]
        self._slots, self._mask = view[end:middle].cast("I"), head["slots"] - 1
        self.held = data[middle:last]
        self._data, self._entries = data, last
        if view.nbytes != last + head["entries"]:
            raise ValueError("half an image of a list")
        self.bits = len(self.held) * 8 - 1
        self.top, self.closest = bool(head["top"]), bool(head["closest"])
        self.prefixes: tuple[tuple[int, int], ...] = tuple((size, prefix) for size, prefix in head["prefixes"])
        self.sources = tuple(Source(*pair) for pair in head["sources"])
        self.report = Report(**head["report"])
        self.size = view.nbytes

    def find(self, key: bytes, crc: int) -> Sequence[Hit]:
        """All entries with this key, the last line first."""
        slots, mask, data, first, size = self._slots, self._mask, self._data, self._entries, len(key)
        at = crc & mask
        found: list[Hit] | None = None
        while place := slots[at]:
            begin = first + place
            end = begin + size
            if data[begin:end] == key and data[end] == END:
                hit = (key, SAYS.unpack_from(data, end + 1)[0])
                found = [hit] if found is None else [hit, *found]
            at = (at + 1) & mask
        return found or NONE

    def holds(self, crc: int) -> bool:
        """Whether something may be listed under the key with this CRC-32, or below the name that it is of."""
        at = crc & self.bits
        return bool(self.held[at >> 3] >> (at & 7) & 1)
